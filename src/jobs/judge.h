/* A judge: images that go through networks of one architecture, to score them, to measure statistics and to learn by.
 *
 * The architecture is that of the first ingredient, as a PapaModel of the judge's own with its selection; networks are stores of it in the memory of
 * the judge's device. All functions are called on one thread. */
#ifndef PAPA_JUDGE_H
#define PAPA_JUDGE_H

#include "jobs/ingredients.h"
#include "soup/repair.h"

typedef struct PapaJudge PapaJudge;

typedef enum PapaJudgeImages { PAPA_JUDGE_HELD_OUT, PAPA_JUDGE_TEST } PapaJudgeImages;

typedef struct PapaJudgeNeeds {
    bool held_out;       /* images to choose on: PAPA_ERR_ARGUMENT where options leave none */
    bool statistics;     /* REPAIR, or BatchNormalization's statistics */
    PapaRepairMode mode; /* of papa_judge_repair */
    bool learning;       /* gradients */
} PapaJudgeNeeds;

/* options->data must be set. Errors: as papa_eval's and papa_train's for model, data and options. */
PapaStatus papa_judge_open(PapaJudge **out, const PapaIngredients *ingredients, const PapaJudgeOptions *options, const PapaJudgeNeeds *needs,
    const PapaHooks *hooks);
void papa_judge_close(PapaJudge *judge);

const PapaModel *papa_judge_model(const PapaJudge *judge);
PapaDevice *papa_judge_device(const PapaJudge *judge);
bool papa_judge_has(const PapaJudge *judge, PapaJudgeImages images);
bool papa_judge_has_statistics(const PapaJudge *judge); /* the model has BatchNormalization's, that are not frozen */

/* A store in the device's memory, owned by the judge until it is closed. */
PapaStatus papa_judge_store(PapaJudge *judge, float **out);
/* Fills a store with ingredient k as it is now read (aligned or not). */
PapaStatus papa_judge_load(PapaJudge *judge, int k, float *store);

/* What stores score; NaN scores without such images. With members of weights (NULL: equal), papa_judge_score_ensemble: of the mean of their answers. */
PapaStatus papa_judge_score(PapaJudge *judge, PapaScore *scores, float *const *stores, int n, PapaJudgeImages images);
PapaStatus papa_judge_score_ensemble(PapaJudge *judge, PapaScore *score, float *const *stores, const double *weights, int n, PapaEnsembleMean mean,
    PapaJudgeImages images);

/* Where statistics are needed: soup/repair.h on training images. */
PapaStatus papa_judge_recalibrate(PapaJudge *judge, float *store);
PapaStatus papa_judge_repair(PapaJudge *judge, float *child, const float *const *parents, const double *weights, int n);

/* Runs training images, batch by batch (as many as statistics are measured on), through an inference net of the judge's model with these outputs, and
 * hands each batch's outputs on: host memory, in ONNX's order of axes. For activation matching. */
typedef PapaStatus papa_judge_outputs_fn(void *context, const float *const *outputs, const PapaShape *shapes, int n_outputs);
PapaStatus papa_judge_run(PapaJudge *judge, float *store, const char *const *outputs, int n_outputs, papa_judge_outputs_fn *fn, void *context);

/* One batch of held-out images, drawn by step: the loss at store, and its gradient (n_trained floats on the device). BatchNormalization uses the batch's
 * statistics; store's running ones are not changed. Needs learning. */
PapaStatus papa_judge_gradient(PapaJudge *judge, double *loss, float *gradient, const float *store, int64_t step);

#endif
