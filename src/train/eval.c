/* papa_eval: one model file scored on a data set. */
#include "train/examiner.h"
#include "train/images.h"
#include "train/progress.h"

#include <math.h>
#include <stdlib.h>

void papa_eval_defaults(PapaEvalOptions *out)
{
    *out = (PapaEvalOptions){.batch = 250};
}

typedef struct Evaluation {
    const PapaEvalOptions *options;
    const PapaData *data;
    PapaModel *model;
    PapaCrew crew;
    PapaExaminer examiner;
    float *store;
    double mean[PAPA_MAX_CHANNELS], std[PAPA_MAX_CHANNELS];
    atomic_llong n_done;
    PapaMeter meter;
} Evaluation;

static PapaStatus open_store(Evaluation *e)
{
    size_t bytes = (size_t)e->model->store.n_total * sizeof(float);
    void *store;
    float *host = malloc(bytes + 1);
    if (!host)
        return papa_fail_memory(bytes, "the model's parameters");
    PapaStatus status;
    PAPA_GOTO(papa_device_alloc(e->crew.main, &store, bytes, "the model's parameters"));
    e->store = store;
    PAPA_GOTO(papa_model_read_params(e->model, host));
    PAPA_GOTO(papa_device_upload(e->crew.main, e->store, host, bytes));
out:
    free(host);
    return status;
}

static PapaStatus open_all(Evaluation *e, const PapaModel *model, const PapaHooks *hooks)
{
    const PapaEvalOptions *o = e->options;
    int64_t n = papa_data_info(e->data).n;
    if (o->batch < 1 || o->batch > 1 << 20)
        return papa_fail(PAPA_ERR_ARGUMENT, "batch is %d, expected at least 1 and at most %d", o->batch, 1 << 20);
    if (o->n_norm < 0 || o->n_norm > PAPA_MAX_CHANNELS)
        return papa_fail(PAPA_ERR_ARGUMENT, "n_norm is %d, expected at least 0 and at most %d", o->n_norm, PAPA_MAX_CHANNELS);
    int64_t batch = n && n < o->batch ? n : o->batch;
    PAPA_TRY(papa_examiner_open_crew(&e->crew, &o->device, (n + batch - 1) / batch));
    PAPA_TRY(papa_model_open(&e->model, papa_onnx_path(model->onnx)));
    PAPA_TRY(papa_model_select(e->model, &(PapaModelSelection){.output = o->output, .decay_all = true}));
    PAPA_TRY(papa_examiner_open(&e->examiner, &e->crew, e->model, &e->data, 1, batch));
    PapaNormalizationPlan plan = {.n_given = o->n_norm, .mean = o->mean, .std = o->std, .onnx = e->model->onnx, .data = e->data, .pool = e->crew.pool};
    PAPA_TRY(papa_images_normalization(e->mean, e->std, &plan, hooks));
    return open_store(e);
}

static void close_all(Evaluation *e)
{
    if (e->crew.main)
        papa_device_free(e->crew.main, e->store);
    papa_examiner_close(&e->examiner);
    papa_crew_close(&e->crew);
    papa_model_close(e->model);
}

static PapaStatus score(Evaluation *e, PapaEvalReport *out, const PapaHooks *hooks)
{
    PapaScorer scorer = papa_examiner_scorer(&e->examiner, e->data, NULL, papa_data_info(e->data).n, e->mean, e->std);
    scorer.n_done = &e->n_done;
    scorer.stop = hooks ? hooks->stop : NULL;
    papa_meter_begin(&e->meter, hooks, PAPA_PHASE_EVALUATE, (scorer.n + scorer.batch - 1) / scorer.batch, &e->n_done, scorer.batch);
    papa_pool_on_wait(e->crew.pool, papa_meter_tick, &e->meter);
    double began = papa_now();
    PAPA_TRY(papa_score_stores(&out->score, &scorer, &e->store, 1));
    out->seconds = papa_now() - began;
    out->images_per_second = (double)scorer.n / out->seconds;
    papa_meter_end(&e->meter);
    return PAPA_OK;
}

PapaStatus papa_eval(PapaEvalReport *out, const PapaModel *model, const PapaData *data, const PapaEvalOptions *options, const PapaHooks *hooks)
{
    *out = (PapaEvalReport){0};
    Evaluation e = {.options = options, .data = data};
    PapaStatus status = open_all(&e, model, hooks);
    if (status == PAPA_OK)
        status = score(&e, out, hooks);
    close_all(&e);
    return status;
}
