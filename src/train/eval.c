/* papa_eval: one model file scored on a data set. */
#include "train/evaluate.h"
#include "train/metadata.h"
#include "train/progress.h"
#include "train/train_options.h"

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
    PapaNet *net;
    PapaSeat *seats;
    float *store;
    int64_t batch, n_classes;
    double mean[PAPA_MAX_CHANNELS], std[PAPA_MAX_CHANNELS];
    atomic_llong n_done;
    PapaMeter meter;
} Evaluation;

/* As given; else as the file says; else as the images are. */
static PapaStatus find_normalization(Evaluation *e, const PapaHooks *hooks)
{
    const PapaEvalOptions *o = e->options;
    PapaDataInfo info = papa_data_info(e->data);
    int C = (int)info.channels;
    if (o->n_norm && o->n_norm != C)
        return papa_fail(PAPA_ERR_ARGUMENT, "mean and std have %d values, images of %s have %d channels", o->n_norm, info.name, C);
    for (int c = 0; c < o->n_norm; c++) {
        if (!(o->std[c] > 0))
            return papa_fail(PAPA_ERR_ARGUMENT, "std is %g, expected more than 0", (double)o->std[c]);
        e->mean[c] = o->mean[c];
        e->std[c] = o->std[c];
    }
    if (o->n_norm)
        return PAPA_OK;
    bool found;
    PAPA_TRY(papa_metadata_normalization(&found, e->mean, e->std, e->model->onnx, info.name, C));
    if (found)
        return PAPA_OK;
    papa_remark(hooks, "%s does not say how its images are normalised: taking the statistics of %s", papa_onnx_path(e->model->onnx), info.name);
    uint32_t *all = malloc((size_t)info.n * sizeof *all);
    if (!all)
        return papa_fail_memory((size_t)info.n * sizeof *all, "image numbers");
    for (int64_t i = 0; i < info.n; i++)
        all[i] = (uint32_t)i;
    PapaStatus status = papa_data_stats(e->mean, e->std, e->data, all, info.n, e->crew.pool);
    free(all);
    return status;
}

static PapaStatus compile(Evaluation *e)
{
    PapaDataInfo info = papa_data_info(e->data);
    PapaNetOptions options = {.mode = PAPA_MODE_INFER, .batch = e->batch, .size = {info.channels, info.height, info.width}};
    PAPA_TRY(papa_net_compile(&e->net, e->model, &options, e->crew.devs[0]));
    return papa_feed_classes(&e->n_classes, e->data, e->model, e->net, e->batch);
}

static PapaStatus open_seat(void *context, int worker, int task)
{
    (void)task;
    Evaluation *e = context;
    const PapaNet *nets[] = {e->net};
    PapaSeatPlan plan = {.nets = nets, .n_nets = 1, .batch = e->batch, .n_classes = e->n_classes, .fetch_bytes = papa_feed_fetch_bytes(e->data)};
    return papa_seat_open(&e->seats[worker], &plan, e->crew.devs[worker]);
}

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

/* A batch is one worker's work: all cores are used as soon as there are as many batches. */
static PapaStatus open_all(Evaluation *e, const PapaModel *model, const PapaHooks *hooks)
{
    const PapaEvalOptions *o = e->options;
    int threads;
    int64_t n = papa_data_info(e->data).n;
    if (o->batch < 1 || o->batch > 1 << 20)
        return papa_fail(PAPA_ERR_ARGUMENT, "batch is %d, expected at least 1 and at most %d", o->batch, 1 << 20);
    if (o->n_norm < 0 || o->n_norm > PAPA_MAX_CHANNELS)
        return papa_fail(PAPA_ERR_ARGUMENT, "n_norm is %d, expected at least 0 and at most %d", o->n_norm, PAPA_MAX_CHANNELS);
    e->batch = n && n < o->batch ? n : o->batch;
    int64_t n_batches = (n + e->batch - 1) / e->batch;
    PAPA_TRY(papa_crew_threads(&threads, &o->device));
    PAPA_TRY(papa_crew_open(&e->crew, n_batches && n_batches < threads ? (int)n_batches : threads, threads, o->device.deterministic));
    PAPA_TRY(papa_model_open(&e->model, papa_onnx_path(model->onnx)));
    PAPA_TRY(papa_model_select(e->model, &(PapaModelSelection){.output = o->output, .decay_all = true}));
    PAPA_TRY(compile(e));
    PAPA_TRY(find_normalization(e, hooks));
    e->seats = calloc((size_t)e->crew.n_workers, sizeof *e->seats);
    if (!e->seats)
        return papa_fail_memory((size_t)e->crew.n_workers * sizeof *e->seats, "the workers");
    PAPA_TRY(papa_crew_each(&e->crew, open_seat, e));
    return open_store(e);
}

static void close_all(Evaluation *e)
{
    if (e->crew.main) {
        papa_device_free(e->crew.main, e->store);
        papa_net_free(e->net, e->crew.main);
    }
    for (int w = 0; e->seats && w < e->crew.n_workers; w++)
        papa_seat_close(&e->seats[w]);
    free(e->seats);
    papa_crew_close(&e->crew);
    papa_model_close(e->model);
}

static PapaStatus score(Evaluation *e, PapaEvalReport *out, const PapaHooks *hooks)
{
    PapaScorer scorer = {.crew = &e->crew, .seats = e->seats, .net = e->net, .n = papa_data_info(e->data).n, .batch = e->batch,
        .n_done = &e->n_done, .stop = hooks ? hooks->stop : NULL};
    papa_feed_init(&scorer.feed, e->data, papa_net_input_channels_last(e->net), e->mean, e->std);
    papa_meter_begin(&e->meter, hooks, PAPA_PHASE_EVALUATE, (scorer.n + e->batch - 1) / e->batch, &e->n_done, e->batch);
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
