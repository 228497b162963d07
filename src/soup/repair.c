/* REPAIR and the re-estimation of BatchNormalization: compiles the measuring net, runs parents and child through it, folds. */
#include "soup/repair.h"
#include "soup/repair_fold.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

struct PapaRepair {
    const PapaModel *model;
    PapaRepairOptions options;
    PapaDevice *dev;
    PapaArena arena;      /* taps and everything on the host but the store */
    PapaTap *taps;
    bool *frozen;         /* by tap: its tensors must not change */
    int n_taps, n_frozen;
    int64_t n_stats;      /* channels of all taps, with the gaps between them */
    bool has_statistics;

    PapaNet *net;
    PapaWorker *worker;
    int passes, batches_per_pass;

    PapaPooled pooled;    /* of the network measured last */
    PapaChannel *channels; /* n_stats: goals and what the child gives */
    float *host_stats;    /* (2, n_stats) */
    float *host_store;    /* n_total */
    float *stats, *goal;  /* device, (2, n_stats) */
    float *scratch;       /* device, n_total: a parent, whose statistics measuring overwrites */
    PapaStepNumbers *step; /* device */
};

/* ---------------------------------------------------------------- making one */

static PapaStatus find_layers(PapaRepair *repair, const PapaHooks *hooks)
{
    const PapaModel *model = repair->model;
    PAPA_TRY(papa_model_taps(&repair->taps, &repair->n_taps, &repair->n_stats, model, &repair->arena, hooks));
    repair->frozen = PAPA_NEW_ARRAY(&repair->arena, bool, repair->n_taps);
    if (!repair->frozen)
        return PAPA_ERR_MEMORY;
    for (int i = 0; i < repair->n_taps; i++) {
        const PapaTap *tap = &repair->taps[i];
        if (tap->bias < 0)
            return papa_fail(PAPA_ERR_ARGUMENT, "REPAIR: %s has no bias: the model was not selected with make_biases", papa_node_label(tap->node));
        const PapaParam *bias = &model->params[tap->bias];
        repair->frozen[i] = !model->params[tap->weight].trained || (bias->tensor && !bias->trained);
        repair->n_frozen += repair->frozen[i];
    }
    if (repair->n_frozen && hooks && hooks->remark) {
        const char *line = papa_arena_printf(&repair->arena, "REPAIR leaves %d of %d layers as they are: their tensors are frozen", repair->n_frozen, repair->n_taps);
        if (!line)
            return PAPA_ERR_MEMORY;
        hooks->remark(hooks->context, line);
    }
    repair->has_statistics = model->has_statistics && !model->frozen_statistics;
    return PAPA_OK;
}

static PapaStatus compile(PapaRepair *repair, int batches_per_pass)
{
    const PapaRepairOptions *o = &repair->options;
    PapaNetOptions options = {.mode = PAPA_MODE_CALIBRATE, .batch = o->batch * batches_per_pass, .size = o->size};
    repair->batches_per_pass = batches_per_pass;
    repair->passes = o->batches / batches_per_pass;
    return papa_net_compile_tapped(&repair->net, repair->model, &options, repair->taps, repair->n_taps, repair->dev);
}

/* The largest divisor of n that is at most limit, at least 1. */
static int divisor_below(int n, double limit)
{
    int d = n;
    while (d > 1 && (n % d || d > limit))
        d--;
    return d;
}

/* As many batches in one pass as the budget allows. Passes are equally large, so that their statistics weigh the same. */
static PapaStatus compile_within_budget(PapaRepair *repair)
{
    size_t budget = repair->options.arena_budget ? repair->options.arena_budget : (size_t)PAPA_REPAIR_ARENA;
    for (int per_pass = repair->options.batches;;) {
        PAPA_TRY(compile(repair, per_pass));
        size_t bytes = papa_net_arena_bytes(repair->net);
        if (bytes <= budget || per_pass == 1)
            return PAPA_OK;
        papa_net_free(repair->net, repair->dev);
        repair->net = NULL;
        double fitting = (double)per_pass * (double)budget / (double)bytes;
        per_pass = divisor_below(repair->options.batches, fitting < per_pass - 1 ? fitting : per_pass - 1);
    }
}

static PapaStatus allocate(PapaRepair *repair)
{
    PapaArena *arena = &repair->arena;
    PapaDevice *dev = repair->dev;
    int64_t n = repair->n_stats, n_total = repair->model->store.n_total;
    repair->pooled.n = n;
    double *doubles = PAPA_NEW_ARRAY(arena, double, 3 * n);
    repair->channels = PAPA_NEW_ARRAY(arena, PapaChannel, n);
    repair->host_stats = PAPA_NEW_ARRAY(arena, float, 2 * n);
    repair->host_store = PAPA_NEW_ARRAY(arena, float, n_total);
    if (!doubles || !repair->channels || !repair->host_stats || !repair->host_store)
        return PAPA_ERR_MEMORY;
    repair->pooled.mean = doubles, repair->pooled.variance = doubles + n, repair->pooled.spread = doubles + 2 * n;
    size_t stats_bytes = 2 * (size_t)n * sizeof(float);
    PAPA_TRY(papa_device_alloc(dev, (void **)&repair->stats, stats_bytes, "REPAIR's statistics"));
    PAPA_TRY(papa_device_zero(dev, repair->stats, stats_bytes)); /* the gaps between layers: nobody else writes there */
    PAPA_TRY(papa_device_alloc(dev, (void **)&repair->goal, stats_bytes, "REPAIR's goals"));
    PAPA_TRY(papa_device_alloc(dev, (void **)&repair->scratch, (size_t)n_total * sizeof(float), "REPAIR's copy of a parent"));
    return papa_device_alloc(dev, (void **)&repair->step, sizeof *repair->step, "a step's numbers");
}

PapaStatus papa_repair_new(PapaRepair **out, const PapaModel *model, const PapaRepairOptions *options, PapaDevice *dev, const PapaHooks *hooks)
{
    *out = NULL;
    if (options->batches < 1 || options->batch < 1)
        return papa_fail(PAPA_ERR_ARGUMENT, "REPAIR: %d batches of %lld images, expected at least one of each", options->batches, (long long)options->batch);
    PapaRepair *repair = calloc(1, sizeof *repair);
    if (!repair)
        return papa_fail_memory(sizeof *repair, "REPAIR");
    *repair = (PapaRepair){.model = model, .options = *options, .dev = dev};
    PapaStatus status;
    PAPA_GOTO(find_layers(repair, hooks));
    PAPA_GOTO(compile_within_budget(repair));
    PAPA_GOTO(papa_worker_new(&repair->worker, (const PapaNet *const *)&repair->net, 1, dev));
    PAPA_GOTO(allocate(repair));
    *out = repair;
    return PAPA_OK;
out:
    papa_repair_free(repair);
    return status;
}

void papa_repair_free(PapaRepair *repair)
{
    if (!repair)
        return;
    papa_device_free(repair->dev, repair->step);
    papa_device_free(repair->dev, repair->scratch);
    papa_device_free(repair->dev, repair->goal);
    papa_device_free(repair->dev, repair->stats);
    papa_worker_free(repair->worker);
    papa_net_free(repair->net, repair->dev);
    papa_arena_free(&repair->arena);
    free(repair);
}

int papa_repair_layers(const PapaRepair *repair)
{
    return repair->n_taps - repair->n_frozen;
}

bool papa_repair_has_statistics(const PapaRepair *repair)
{
    return repair->has_statistics;
}

/* ---------------------------------------------------------------- measuring */

static PapaStatus fill_input(PapaRepair *repair, int pass)
{
    const PapaRepairOptions *o = &repair->options;
    PapaReal *input = papa_net_input(repair->net, repair->worker);
    bool channels_last = papa_net_input_channels_last(repair->net);
    int64_t batch_elements = o->batch * o->size.channels * o->size.height * o->size.width;
    for (int i = 0; i < repair->batches_per_pass; i++) /* images are the outermost axis in either order */
        PAPA_TRY(o->fill(o->context, repair->worker, papa_at(repair->dev, input, i * batch_elements), o->batch, pass * repair->batches_per_pass + i, channels_last));
    return PAPA_OK;
}

static void reset_pooled(PapaPooled *pooled)
{
    pooled->passes = 0;
    for (int64_t i = 0; i < pooled->n; i++)
        pooled->mean[i] = pooled->variance[i] = pooled->spread[i] = 0;
}

/* All batches through the net with store's parameters. repair->pooled: what the taps saw. Store's running statistics are re-estimated.
 * goal: device memory, or NULL to leave the taps' values alone. */
static PapaStatus measure(PapaRepair *repair, float *store, const float *goal)
{
    PapaDevice *dev = repair->dev;
    reset_pooled(&repair->pooled);
    for (int pass = 0; pass < repair->passes; pass++) {
        PapaStepNumbers step = {.stat_momentum = (float)pass / (float)(pass + 1)};
        PAPA_TRY(papa_device_upload(dev, repair->step, &step, sizeof step));
        PAPA_TRY(fill_input(repair, pass));
        PAPA_TRY(papa_net_forward_tapped(repair->net, repair->worker, store, repair->step, repair->stats, goal));
        PAPA_TRY(papa_device_download(dev, repair->host_stats, repair->stats, 2 * (size_t)repair->n_stats * sizeof(float)));
        papa_pooled_add(&repair->pooled, repair->host_stats, repair->host_stats + repair->n_stats);
    }
    return PAPA_OK;
}

static PapaStatus check_finite(const PapaRepair *repair, const char *who, int number)
{
    for (int t = 0; t < repair->n_taps; t++) {
        const PapaTap *tap = &repair->taps[t];
        for (int64_t c = 0; c < tap->n_channels; c++) {
            double mean = repair->pooled.mean[tap->offset + c], std = papa_pooled_std(&repair->pooled, tap->offset + c);
            if (!isfinite(mean) || !isfinite(std))
                return papa_fail(PAPA_ERR_NUMERIC, "REPAIR: %s %d: channel %lld of '%s' has a %s that is not a finite number",
                    who, number, (long long)c, tap->value, isfinite(mean) ? "standard deviation" : "mean");
        }
    }
    return PAPA_OK;
}

/* ---------------------------------------------------------------- repairing */

static PapaStatus measure_goals(PapaRepair *repair, const float *const *parents, const double *weights, int n_parents)
{
    size_t store_bytes = (size_t)repair->model->store.n_total * sizeof(float);
    for (int64_t i = 0; i < repair->n_stats; i++)
        repair->channels[i] = (PapaChannel){0};
    for (int k = 0; k < n_parents; k++) {
        PAPA_TRY(papa_device_copy(repair->dev, repair->scratch, parents[k], store_bytes));
        PAPA_TRY(measure(repair, repair->scratch, NULL));
        PAPA_TRY(check_finite(repair, "model", k));
        double weight = weights ? weights[k] : 1.0 / n_parents;
        for (int64_t i = 0; i < repair->n_stats; i++) {
            repair->channels[i].goal_mean += weight * repair->pooled.mean[i];
            repair->channels[i].goal_std += weight * papa_pooled_std(&repair->pooled, i);
        }
    }
    return PAPA_OK;
}

/* Blanks what the mode or a frozen tensor takes out, rounds the rest to what the device sees, and uploads it. */
static PapaStatus upload_goals(PapaRepair *repair)
{
    for (int t = 0; t < repair->n_taps; t++) {
        PapaChannel *channels = repair->channels + repair->taps[t].offset;
        for (int64_t c = 0; c < repair->taps[t].n_channels; c++) {
            if (repair->frozen[t] || repair->options.mode == PAPA_REPAIR_RESCALE)
                channels[c].goal_mean = NAN;
            if (repair->frozen[t] || repair->options.mode == PAPA_REPAIR_RESHIFT)
                channels[c].goal_std = NAN;
        }
    }
    int64_t n = repair->n_stats;
    for (int64_t i = 0; i < n; i++) {
        repair->channels[i].goal_mean = repair->host_stats[i] = (float)repair->channels[i].goal_mean;
        repair->channels[i].goal_std = repair->host_stats[n + i] = (float)repair->channels[i].goal_std;
    }
    return papa_device_upload(repair->dev, repair->goal, repair->host_stats, 2 * (size_t)n * sizeof(float));
}

static PapaStatus fold_layers(PapaRepair *repair, float *child)
{
    size_t store_bytes = (size_t)repair->model->store.n_total * sizeof(float);
    PAPA_TRY(papa_device_download(repair->dev, repair->host_store, child, store_bytes));
    for (int64_t i = 0; i < repair->n_stats; i++) {
        repair->channels[i].mean = repair->pooled.mean[i];
        repair->channels[i].std = papa_pooled_std(&repair->pooled, i);
    }
    for (int t = 0; t < repair->n_taps; t++)
        if (!repair->frozen[t])
            papa_repair_fold(repair->host_store, repair->model, &repair->taps[t], repair->channels + repair->taps[t].offset);
    return papa_device_upload(repair->dev, child, repair->host_store, store_bytes);
}

PapaStatus papa_repair_run(PapaRepair *repair, float *child, const float *const *parents, const double *weights, int n_parents)
{
    if (!papa_repair_layers(repair))
        return papa_repair_recalibrate(repair, child);
    PAPA_TRY(measure_goals(repair, parents, weights, n_parents));
    PAPA_TRY(upload_goals(repair));
    PAPA_TRY(measure(repair, child, repair->goal));
    PAPA_TRY(check_finite(repair, "average of", n_parents));
    return fold_layers(repair, child);
}

PapaStatus papa_repair_recalibrate(PapaRepair *repair, float *store)
{
    return repair->has_statistics ? measure(repair, store, NULL) : PAPA_OK;
}
