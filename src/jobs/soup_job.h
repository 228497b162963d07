/* A soup under way: what the parts of papa_soup share. soup_job.c checks the options and calls them, soup_write.c and soup_ensemble.c make
 * files, soup_data.c does what needs images. */
#ifndef PAPA_SOUP_JOB_H
#define PAPA_SOUP_JOB_H

#include "jobs/ingredients.h"

typedef struct PapaSoupJob {
    const PapaIngredients *ingredients; /* aligned already, where that is asked for */
    const PapaSoupOptions *options;     /* checked */
    const PapaHooks *hooks;             /* never NULL; its members may be */
    PapaSoupReport *report;             /* zeroed but for n and the ingredients' paths; weights and scores are NaN */
    int n;                              /* models, without the base */
} PapaSoupJob;

/* "uniform", "ties", ...: papa.method of the result. */
const char *papa_soup_method_name(const PapaSoupOptions *options);
/* Whether the method itself can't do without images. */
bool papa_soup_needs_data(PapaSoupMethod method);

/* What options say to papa_merge_new. weights: n of them, in the place of options' (for methods that choose their own, which merge as MEAN); NULL: as
 * options say. */
void papa_soup_merge_options(PapaMergeOptions *out, const PapaSoupOptions *options, const double *weights);

/* The weight that each model has in the result (n): NaN where there is no such number. What report->ingredients says without images; sets n_used. */
void papa_soup_set_weights(const PapaSoupJob *job, const double *weights);

/* An edit of the first model's file that merges all tensors (papa_merge_new). Tensors that are set afterwards, with papa_edit_set_tensor, take their place. *merge
 * must outlive the edit's writing. */
PapaStatus papa_soup_merge(PapaEdit **edit, PapaMerge **merge, const PapaSoupJob *job, const PapaMergeOptions *options);

/* What the result's file says about itself, as report and options have it. Free it. */
PapaStatus papa_soup_metadata(PapaMetadata *out, const PapaSoupJob *job);

/* Sets that, and writes options->out, if there is one. */
PapaStatus papa_soup_finish(const PapaSoupJob *job, PapaEdit *edit);

/* The ensemble's file. Scores, and its weights, are taken from the report. Does nothing where there is no options->out. */
PapaStatus papa_soup_write_ensemble(const PapaSoupJob *job);

/* The soup without images. */
PapaStatus papa_soup_write(const PapaSoupJob *job);

/* All methods, where options->judge.data is set: chooses, merges, re-estimates or repairs, scores, fills the report and writes. soup_data.c. */
PapaStatus papa_soup_with_data(const PapaSoupJob *job);

#endif
