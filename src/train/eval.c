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
    PapaNet *nets[PAPA_MAX_PLACES]; /* by place */
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
    for (int place = 0; place < e->crew.n_places; place++)
        PAPA_TRY(papa_net_compile(&e->nets[place], e->model, &options, e->crew.devs[place]));
    return papa_feed_classes(&e->n_classes, e->data, e->model, e->nets[0], e->batch);
}

static PapaStatus open_seat(void *context, int worker, int task)
{
    (void)task;
    Evaluation *e = context;
    int place = e->crew.place[worker];
    const PapaNet *nets[] = {e->nets[place]};
    PapaSeatPlan plan = {.nets = nets, .n_nets = 1, .batch = e->batch, .n_classes = e->n_classes, .place = place,
        .n_visitor = e->crew.n_places > 1 ? e->model->store.n_total : 0, .fetch_bytes = papa_feed_fetch_bytes(&e->crew, e->data)};
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
    PapaCrewPlan plan;
    int64_t n = papa_data_info(e->data).n;
    if (o->batch < 1 || o->batch > 1 << 20)
        return papa_fail(PAPA_ERR_ARGUMENT, "batch is %d, expected at least 1 and at most %d", o->batch, 1 << 20);
    if (o->n_norm < 0 || o->n_norm > PAPA_MAX_CHANNELS)
        return papa_fail(PAPA_ERR_ARGUMENT, "n_norm is %d, expected at least 0 and at most %d", o->n_norm, PAPA_MAX_CHANNELS);
    e->batch = n && n < o->batch ? n : o->batch;
    int64_t n_batches = (n + e->batch - 1) / e->batch;
    PAPA_TRY(papa_crew_choose(&plan, &o->device));
    plan.per_gpu = 2; /* one prepares while the other computes */
    int most = plan.kind == PAPA_CUDA ? plan.n_gpus * plan.per_gpu : plan.threads;
    PAPA_TRY(papa_crew_open(&e->crew, &plan, n_batches && n_batches < most ? (int)n_batches : most));
    PAPA_TRY(papa_model_open(&e->model, papa_onnx_path(model->onnx)));
    PAPA_TRY(papa_model_select(e->model, &(PapaModelSelection){.output = o->output, .decay_all = true}));
    PAPA_TRY(compile(e));
    PAPA_TRY(find_normalization(e, hooks));
    PAPA_TRY(papa_crew_bring(&e->crew, e->data));
    e->seats = calloc((size_t)e->crew.n_workers, sizeof *e->seats);
    if (!e->seats)
        return papa_fail_memory((size_t)e->crew.n_workers * sizeof *e->seats, "the workers");
    PAPA_TRY(papa_crew_each(&e->crew, open_seat, e));
    return open_store(e);
}

static void close_all(Evaluation *e)
{
    for (int w = 0; e->seats && w < e->crew.n_workers; w++)
        papa_seat_close(&e->seats[w]);
    if (e->crew.main)
        papa_device_free(e->crew.main, e->store);
    for (int place = 0; place < e->crew.n_places; place++)
        papa_net_free(e->nets[place], e->crew.devs ? e->crew.devs[place] : NULL);
    free(e->seats);
    papa_crew_close(&e->crew);
    papa_model_close(e->model);
}

static PapaStatus score(Evaluation *e, PapaEvalReport *out, const PapaHooks *hooks)
{
    PapaScorer scorer = {.crew = &e->crew, .seats = e->seats, .n = papa_data_info(e->data).n, .batch = e->batch,
        .n_store = e->model->store.n_total, .n_done = &e->n_done, .stop = hooks ? hooks->stop : NULL};
    for (int place = 0; place < e->crew.n_places; place++)
        scorer.nets[place] = e->nets[place];
    papa_feed_init(&scorer.feed, &e->crew, e->data, papa_net_input_channels_last(e->nets[0]), e->mean, e->std);
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
