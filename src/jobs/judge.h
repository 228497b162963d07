/* A judge: images that go through networks of one architecture, to score them, to measure statistics and to learn by.
 *
 * The architecture is that of the first ingredient: a PapaModel of the judge's own on its file, with the judge's selection; networks are stores of it in the
 * memory of the judge's device. All functions are called on one thread. Where the caller's stop flag is seen they fail with PAPA_ERR_STOPPED. */
#ifndef PAPA_JUDGE_H
#define PAPA_JUDGE_H

#include "base/threads.h"
#include "jobs/ingredients.h"
#include "soup/repair.h"

typedef struct PapaJudge PapaJudge;

typedef enum PapaJudgeImages { PAPA_JUDGE_HELD_OUT, PAPA_JUDGE_TEST } PapaJudgeImages;

typedef struct PapaJudgeNeeds {
    bool held_out;       /* images to choose on: PAPA_ERR_ARGUMENT where options leave none */
    bool statistics;     /* REPAIR, or BatchNormalization's statistics */
    PapaRepairMode mode; /* of papa_judge_repair; PAPA_REPAIR_NONE: only BatchNormalization's */
    bool learning;       /* gradients; needs held_out */
} PapaJudgeNeeds;

/* options->data must be set. Errors: as papa_eval's and papa_train's for model, data and options. The ingredients and hooks (may be NULL) must outlive the
 * judge. */
PapaStatus papa_judge_open(PapaJudge **out, const PapaIngredients *ingredients, const PapaJudgeOptions *options, const PapaJudgeNeeds *needs,
    const PapaHooks *hooks);
void papa_judge_close(PapaJudge *judge);

const PapaModel *papa_judge_model(const PapaJudge *judge);
PapaDevice *papa_judge_device(const PapaJudge *judge);
PapaPool *papa_judge_pool(const PapaJudge *judge); /* its workers, while nothing else is under way */
bool papa_judge_has(const PapaJudge *judge, PapaJudgeImages images);
bool papa_judge_has_statistics(const PapaJudge *judge); /* the model has BatchNormalization's */
int papa_judge_layers(const PapaJudge *judge); /* that papa_judge_repair corrects; 0 where no mode is needed */

/* A phase of progress: all batches that go through networks until its end are counted. What runs outside of one is a phase by itself. total: in batches. */
void papa_judge_begin(PapaJudge *judge, PapaPhase phase, int64_t total);
void papa_judge_end(PapaJudge *judge);
/* Batches that one store's score takes; that one network's statistics are measured on. */
int64_t papa_judge_batches(const PapaJudge *judge, PapaJudgeImages images);
int64_t papa_judge_measured_batches(const PapaJudge *judge);

/* A store in the device's memory, not initialised, owned by the judge until it is closed. */
PapaStatus papa_judge_store(PapaJudge *judge, float **out);
/* Fills a store with ingredient k as it is now read (aligned or not). */
PapaStatus papa_judge_load(PapaJudge *judge, int k, float *store);

/* What stores score; NaN scores without such images. papa_judge_score_ensemble: of the mean of their answers; weights: NULL: equal; else not negative, and
 * only their ratios count. */
PapaStatus papa_judge_score(PapaJudge *judge, PapaScore *scores, float *const *stores, int n, PapaJudgeImages images);
PapaStatus papa_judge_score_ensemble(PapaJudge *judge, PapaScore *score, float *const *stores, const double *weights, int n, PapaEnsembleMean mean,
    PapaJudgeImages images);

/* Where statistics are needed: soup/repair.h on training images. */
PapaStatus papa_judge_recalibrate(PapaJudge *judge, float *store);
PapaStatus papa_judge_repair(PapaJudge *judge, float *child, const float *const *parents, const double *weights, int n);

/* Runs training images, batch by batch (as many as statistics are measured on), through an inference net of the judge's model with these outputs, each batch
 * with every store, and hands what they give on: outputs[k * n_outputs + i] is store k's output i, of shape shapes[i], in host memory, in ONNX's order of
 * axes. For activation matching. Where statistics are needed. */
typedef PapaStatus papa_judge_outputs_fn(void *context, const float *const *outputs, const PapaShape *shapes);
PapaStatus papa_judge_run(PapaJudge *judge, float *const *stores, int n_stores, const char *const *outputs, int n_outputs, papa_judge_outputs_fn *fn,
    void *context);

/* One batch of held-out images, as they are, drawn by step (each epoch in another order; a shorter last batch is dropped): the loss at store, and its
 * gradient: n_trained floats on the device, the judge's, until the next call. BatchNormalization uses the batch's statistics, Dropout passes through; store
 * is not changed. Where learning is needed. */
PapaStatus papa_judge_gradient(PapaJudge *judge, double *loss, const float **gradient, const float *store, int64_t step);

#endif
