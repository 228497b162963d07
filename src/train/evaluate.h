/* Scoring stores on a data set: accuracy, top-5, cross-entropy. The unit of work is one batch of one store, so all workers help with
 * one store too; sums are added in the order of the batches, whoever computed them. The last, shorter batch always counts. */
#ifndef PAPA_EVALUATE_H
#define PAPA_EVALUATE_H

#include "train/population.h"
#include "train/seat.h"

typedef struct PapaScorer {
    PapaCrew *crew;
    PapaSeat *seats;         /* by worker */
    const PapaNet *nets[PAPA_MAX_PLACES]; /* inference, by place */
    PapaFeed feed;
    const uint32_t *indices; /* (n) image numbers; NULL: 0 .. n-1 */
    int64_t n, batch;        /* batch: the net's */
    int64_t n_store;         /* floats of a store */
    atomic_llong *n_done;    /* batches of stores, counted up as they are done; NULL: nobody wants to know */
    const volatile sig_atomic_t *stop; /* non-zero: PAPA_ERR_STOPPED, half a score is none; NULL: goes on to the end */
} PapaScorer;

/* Nothing else is under way while these run. */

/* scores[i] of stores[i]. top5 is NaN with fewer than 10 classes, all is NaN with n = 0. */
PapaStatus papa_score_stores(PapaScore *scores, const PapaScorer *scorer, float *const *stores, int n_stores);

/* The score of the mean of the stores' answers. weights: NULL: equal; else not negative, and not all 0: only their ratios count. */
PapaStatus papa_score_ensemble(PapaScore *score, const PapaScorer *scorer, float *const *stores, const double *weights, int n_stores,
    PapaEnsembleMean mean);

#endif
