/* Soups whose weights images choose: greedy, pruned, learned. */
#ifndef PAPA_SOUP_CHOOSE_H
#define PAPA_SOUP_CHOOSE_H

#include "jobs/judge.h"
#include "jobs/soup_job.h"

typedef struct PapaSoupChoice {
    double *weights;        /* (n), of sum 1; those of tensors: their mean */
    double *tensor_weights; /* PAPA_SOUP_LEARNED_TENSORS: for PapaMergeOptions; else NULL */
} PapaSoupChoice;

/* stores: the models, by number. job->report has their held-out scores. Candidates are scored as they will be written, but for rounding: with
 * BatchNormalization's statistics re-estimated where options say so. */
PapaStatus papa_soup_choose(PapaSoupChoice *out, PapaJudge *judge, float *const *stores, const PapaSoupJob *job);
void papa_soup_choice_free(PapaSoupChoice *choice); /* a zeroed one is fine */

#endif
