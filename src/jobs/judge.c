#include "jobs/judge.h"

#include "train/examiner.h"
#include "train/images.h"
#include "train/progress.h"
#include "train/sampler.h"
#include "train/train_options.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One batch of held-out images through a network that is trained. */
typedef struct Learning {
    PapaNet *net;
    PapaSeat seat;
    PapaFeed feed;
    uint32_t *order;   /* of the held-out images in this epoch */
    int epoch;         /* that order is of; -1: none yet */
    int64_t batch;
    float *store;      /* what a training network reads: it writes its running statistics there */
} Learning;

struct PapaJudge {
    const PapaIngredients *ingredients;
    PapaJudgeOptions options;
    PapaJudgeNeeds needs;
    const PapaHooks *hooks;
    PapaModel *model;
    PapaData *data, *val, *test; /* val: NULL: the held-out part of data; test: NULL: none */
    PapaHeldOut parts;           /* of data */
    double mean[PAPA_MAX_CHANNELS], std[PAPA_MAX_CHANNELS];
    PapaCrew crew;
    PapaExaminer examiner;
    PapaScorer held_out, on_test;
    PapaSampler sampler;
    PapaRepair *repair;
    Learning learning;
    float **stores;
    int n_stores;
    float *host;                 /* n_total: a store on its way */
    atomic_llong n_done;         /* batches of the phase */
    PapaMeter meter;
    bool in_phase;
};

void papa_judge_defaults(PapaJudgeOptions *out)
{
    *out = (PapaJudgeOptions){.val_fraction = .02f, .test_split = PAPA_SPLIT_TEST, .batch = 128, .seed = 1};
}

/* ---------------------------------------------------------------- opening */

static PapaStatus check_int(const char *name, int value, int least, int most)
{
    if (value < least || value > most)
        return papa_fail(PAPA_ERR_ARGUMENT, "%s is %d, expected at least %d and at most %d", name, value, least, most);
    return PAPA_OK;
}

static PapaStatus check_options(const PapaJudgeOptions *o)
{
    if (!o->data)
        return papa_fail(PAPA_ERR_ARGUMENT, "no images are given: data is not set");
    PAPA_TRY(check_int("batch", o->batch, 1, 1 << 20));
    PAPA_TRY(check_int("n_norm", o->n_norm, 0, PAPA_MAX_CHANNELS));
    PAPA_TRY(check_int("crop", o->crop, 0, 1 << 14));
    PAPA_TRY(check_int("repair_batches", o->repair_batches, 0, 1 << 20));
    if (!o->val_data && !(o->val_fraction >= 0 && o->val_fraction < 1))
        return papa_fail(PAPA_ERR_ARGUMENT, "val_fraction is %g, expected at least 0 and below 1", (double)o->val_fraction);
    return PAPA_OK;
}

/* The images to choose on: a part of the training images, or a set of their own. */
static PapaStatus open_held_out(PapaJudge *j)
{
    const PapaJudgeOptions *o = &j->options;
    PAPA_TRY(papa_data_split(&j->parts, j->data, o->val_data ? 0 : (double)o->val_fraction, o->seed));
    if (o->val_data) {
        PAPA_TRY(papa_data_open(&j->val, o->val_data, PAPA_SPLIT_TRAIN, j->model->head.size, j->hooks));
        PAPA_TRY(papa_images_check_same(j->data, j->val, "images to choose on"));
    }
    if (j->needs.held_out && !j->parts.n_held && !(j->val && papa_data_info(j->val).n))
        return papa_fail(PAPA_ERR_ARGUMENT, "no images of %s are held out to choose on: val_fraction is %g and no val_data is given", o->data,
            (double)o->val_fraction);
    return PAPA_OK;
}

static PapaStatus open_data(PapaJudge *j)
{
    const PapaJudgeOptions *o = &j->options;
    PapaImageSize size = j->model->head.size;
    PapaStatus status = papa_data_open(&j->data, o->data, PAPA_SPLIT_TRAIN, size, j->hooks);
    if (status == PAPA_ERR_MISMATCH) /* the size is the model's */
        return papa_fail_in(status, "%s", papa_onnx_path(j->model->onnx));
    PAPA_TRY(status);
    PAPA_TRY(open_held_out(j));
    return papa_images_open_test(&j->test, j->data, o->test_data, o->test_split, size, j->hooks);
}

static int64_t count_batches(int64_t n, int64_t batch)
{
    return (n + batch - 1) / batch;
}

static PapaScorer open_scorer(PapaJudge *j, const PapaData *data, const uint32_t *indices, int64_t n)
{
    PapaScorer scorer = papa_examiner_scorer(&j->examiner, data, indices, n, j->mean, j->std);
    scorer.n_done = &j->n_done;
    scorer.stop = j->hooks ? j->hooks->stop : NULL;
    return scorer;
}

static PapaStatus open_scoring(PapaJudge *j)
{
    const PapaJudgeOptions *o = &j->options;
    int64_t n_val = j->val ? papa_data_info(j->val).n : j->parts.n_held, n_test = j->test ? papa_data_info(j->test).n : 0;
    const PapaData *sets[3] = {j->data};
    int n_sets = 1;
    if (j->val)
        sets[n_sets++] = j->val;
    if (j->test)
        sets[n_sets++] = j->test;
    PAPA_TRY(papa_examiner_open_crew(&j->crew, &o->device, count_batches(n_test > n_val ? n_test : n_val, o->batch)));
    papa_pool_on_wait(j->crew.pool, papa_meter_tick, &j->meter);
    PAPA_TRY(papa_examiner_open(&j->examiner, &j->crew, j->model, sets, n_sets, o->batch));
    PapaNormalizationPlan plan = {.n_given = o->n_norm, .mean = o->mean, .std = o->std, .onnx = j->model->onnx, .data = j->data,
        .indices = j->parts.train, .n = j->parts.n_train, .pool = j->crew.pool};
    PAPA_TRY(papa_images_normalization(j->mean, j->std, &plan, j->hooks));
    j->held_out = open_scorer(j, j->val ? j->val : j->data, j->val ? NULL : j->parts.held, n_val);
    if (j->test)
        j->on_test = open_scorer(j, j->test, NULL, n_test);
    return PAPA_OK;
}

static PapaStatus open_statistics(PapaJudge *j)
{
    PapaJudgeOptions *o = &j->options;
    PapaDataInfo info = papa_data_info(j->data);
    o->repair_batches = papa_sampler_batches(o->repair_batches, j->parts.n_train);
    PapaSamplerPlan plan = {.crew = &j->crew, .data = j->data, .indices = j->parts.train, .n = j->parts.n_train, .mean = j->mean, .std = j->std,
        .recipe = {.crop = o->crop, .flip = o->flip}, .batch = o->batch, .seed = o->seed, .n_done = &j->n_done, .meter = &j->meter,
        .stop = j->hooks ? j->hooks->stop : NULL};
    PAPA_TRY(papa_sampler_open(&j->sampler, &plan));
    bool repairs = j->needs.mode != PAPA_REPAIR_NONE;
    if (!repairs && !j->model->has_statistics)
        return PAPA_OK;
    PapaRepairOptions options = {.mode = repairs ? j->needs.mode : PAPA_REPAIR_BOTH, .batches = o->repair_batches, .batch = o->batch,
        .size = {info.channels, info.height, info.width}, .fill = papa_sampler_fill, .context = &j->sampler};
    return papa_repair_new(&j->repair, j->model, &options, j->crew.main, repairs ? j->hooks : NULL); /* layers matter to a repair only */
}

static PapaStatus open_learning(PapaJudge *j)
{
    Learning *l = &j->learning;
    PapaDataInfo info = papa_data_info(j->held_out.feed.data);
    PapaDevice *dev = j->crew.main;
    l->batch = j->held_out.n < j->options.batch ? j->held_out.n : j->options.batch;
    l->epoch = -1;
    PapaNetOptions options = {.mode = PAPA_MODE_TRAIN, .batch = l->batch, .size = {info.channels, info.height, info.width}, .no_dropout = true};
    PAPA_TRY(papa_net_compile(&l->net, j->model, &options, dev));
    const PapaNet *nets[] = {l->net};
    PapaSeatPlan plan = {.nets = nets, .n_nets = 1, .batch = l->batch, .n_classes = j->examiner.n_classes, .n_grads = j->model->store.n_trained,
        .fetch_bytes = papa_feed_fetch_bytes(&j->crew, j->held_out.feed.data)};
    PAPA_TRY(papa_seat_open(&l->seat, &plan, dev));
    papa_feed_init(&l->feed, &j->crew, j->held_out.feed.data, papa_net_input_channels_last(l->net), j->mean, j->std);
    l->order = malloc(2 * (size_t)j->held_out.n * sizeof *l->order);
    if (!l->order)
        return papa_fail_memory(2 * (size_t)j->held_out.n * sizeof *l->order, "the order of the held-out images");
    return papa_judge_store(j, &l->store);
}

/* ---------------------------------------------------------------- what stores don't hold */

static bool is_param(const PapaModel *model, const Onnx__TensorProto *tensor)
{
    for (int i = 0; i < model->n_params; i++)
        if (model->params[i].tensor == tensor)
            return true;
    return false;
}

/* Whether model k has other numbers for a tensor of the first one. One that it lacks is the first one's. */
static PapaStatus differs(bool *out, const PapaJudge *j, int k, const Onnx__TensorProto *tensor)
{
    int64_t n = papa_tensor_count(tensor);
    float *mine = malloc((size_t)n * sizeof *mine + 1), *theirs = malloc((size_t)n * sizeof *theirs + 1);
    PapaStatus status = mine && theirs ? PAPA_OK : papa_fail_memory(2 * (size_t)n * sizeof *mine, "a constant");
    *out = false;
    if (status == PAPA_OK)
        status = papa_ingredients_read(j->ingredients, 0, tensor, mine, n);
    if (status == PAPA_OK && papa_ingredients_read(j->ingredients, k, tensor, theirs, n) == PAPA_OK)
        *out = memcmp(mine, theirs, (size_t)n * sizeof *mine) != 0;
    free(mine);
    free(theirs);
    return status;
}

/* Constants of the network (an attention's scale, say) are merged, but not judged. */
static PapaStatus remark_constants(const PapaJudge *j)
{
    PapaArena arena = PAPA_ARENA_INIT;
    PapaTensorPlace *places;
    size_t n_places;
    int n_models = papa_ingredients_count(j->ingredients) + papa_ingredients_has_base(j->ingredients), n_differ = 0;
    const char *first = NULL;
    PapaStatus status = papa_onnx_tensors(&places, &n_places, &arena, j->model->onnx);
    for (size_t i = 0; status == PAPA_OK && i < n_places; i++) {
        bool found = false;
        if (!papa_type_is_float(places[i].tensor->data_type) || is_param(j->model, places[i].tensor))
            continue;
        for (int k = 1; k < n_models && !found && status == PAPA_OK; k++)
            status = differs(&found, j, k, places[i].tensor);
        n_differ += found;
        first = found && !first ? places[i].path : first;
    }
    if (status == PAPA_OK && n_differ)
        papa_remark(j->hooks, "%d constant%s that the models don't agree on (%s): all networks are scored with what %s has", n_differ,
            n_differ > 1 ? "s" : "", first, papa_onnx_path(j->model->onnx));
    papa_arena_free(&arena);
    return status;
}

static PapaStatus open_all(PapaJudge *j)
{
    PAPA_TRY(check_options(&j->options));
    PAPA_TRY(papa_model_share(&j->model, papa_ingredients_model(j->ingredients, 0)));
    PapaModelSelection selection = {.output = j->options.output, .decay_all = true, .make_biases = j->needs.statistics};
    PAPA_TRY(papa_model_select(j->model, &selection));
    PAPA_TRY(remark_constants(j));
    PAPA_TRY(open_data(j));
    PAPA_TRY(open_scoring(j));
    size_t bytes = (size_t)j->model->store.n_total * sizeof *j->host;
    j->host = malloc(bytes);
    if (!j->host)
        return papa_fail_memory(bytes, "a network");
    if (j->needs.statistics)
        PAPA_TRY(open_statistics(j));
    return j->needs.learning ? open_learning(j) : PAPA_OK;
}

PapaStatus papa_judge_open(PapaJudge **out, const PapaIngredients *ingredients, const PapaJudgeOptions *options, const PapaJudgeNeeds *needs,
    const PapaHooks *hooks)
{
    *out = NULL;
    PapaJudge *j = calloc(1, sizeof *j);
    if (!j)
        return papa_fail_memory(sizeof *j, "a judge");
    *j = (PapaJudge){.ingredients = ingredients, .options = *options, .needs = *needs, .hooks = hooks};
    j->needs.held_out |= needs->learning;
    PapaStatus status = open_all(j);
    if (status == PAPA_OK)
        *out = j;
    else
        papa_judge_close(j);
    return status;
}

void papa_judge_close(PapaJudge *j)
{
    if (!j)
        return;
    papa_repair_free(j->repair);
    papa_sampler_close(&j->sampler);
    papa_seat_close(&j->learning.seat);
    papa_net_free(j->learning.net, j->crew.main);
    free(j->learning.order);
    for (int i = 0; i < j->n_stores; i++)
        papa_device_free(j->crew.main, j->stores[i]);
    free(j->stores);
    free(j->host);
    papa_examiner_close(&j->examiner);
    papa_data_unsplit(&j->parts);
    papa_data_close(j->test);
    papa_data_close(j->val);
    papa_data_close(j->data);
    papa_crew_close(&j->crew);
    papa_model_close(j->model);
    free(j);
}

/* ---------------------------------------------------------------- asking */

const PapaModel *papa_judge_model(const PapaJudge *j)
{
    return j->model;
}

PapaDevice *papa_judge_device(const PapaJudge *j)
{
    return j->crew.main;
}

PapaPool *papa_judge_pool(const PapaJudge *j)
{
    return j->crew.pool;
}

static const PapaScorer *scorer_of(const PapaJudge *j, PapaJudgeImages images)
{
    return images == PAPA_JUDGE_TEST ? &j->on_test : &j->held_out;
}

bool papa_judge_has(const PapaJudge *j, PapaJudgeImages images)
{
    return scorer_of(j, images)->n > 0;
}

bool papa_judge_has_statistics(const PapaJudge *j)
{
    return j->model->has_statistics;
}

int papa_judge_layers(const PapaJudge *j)
{
    return j->repair && j->needs.mode != PAPA_REPAIR_NONE ? papa_repair_layers(j->repair) : 0;
}

int64_t papa_judge_batches(const PapaJudge *j, PapaJudgeImages images)
{
    return count_batches(scorer_of(j, images)->n, j->options.batch);
}

int64_t papa_judge_measured_batches(const PapaJudge *j)
{
    return j->options.repair_batches;
}

/* ---------------------------------------------------------------- progress */

static void begin(PapaJudge *j, PapaPhase phase, int64_t total)
{
    atomic_store(&j->n_done, 0);
    papa_meter_begin(&j->meter, j->hooks, phase, total, &j->n_done, j->options.batch);
}

void papa_judge_begin(PapaJudge *j, PapaPhase phase, int64_t total)
{
    begin(j, phase, total);
    j->in_phase = true;
}

void papa_judge_end(PapaJudge *j)
{
    papa_meter_end(&j->meter);
    j->in_phase = false;
}

/* Around what may be a phase by itself. */
static void begin_own(PapaJudge *j, PapaPhase phase, int64_t total)
{
    if (!j->in_phase)
        begin(j, phase, total);
}

static PapaStatus end_own(PapaJudge *j, PapaStatus status)
{
    if (!j->in_phase && status == PAPA_OK)
        papa_meter_end(&j->meter);
    return status;
}

/* ---------------------------------------------------------------- stores and scores */

PapaStatus papa_judge_store(PapaJudge *j, float **out)
{
    void *store;
    float **stores = realloc(j->stores, ((size_t)j->n_stores + 1) * sizeof *stores);
    if (!stores)
        return papa_fail_memory(((size_t)j->n_stores + 1) * sizeof *stores, "the list of networks");
    j->stores = stores;
    PAPA_TRY(papa_device_alloc(j->crew.main, &store, (size_t)j->model->store.n_total * sizeof(float), "a network's parameters"));
    *out = j->stores[j->n_stores++] = store;
    return PAPA_OK;
}

PapaStatus papa_judge_load(PapaJudge *j, int k, float *store)
{
    PAPA_TRY(papa_ingredients_store(j->ingredients, k, j->model, j->host));
    return papa_device_upload(j->crew.main, store, j->host, (size_t)j->model->store.n_total * sizeof *j->host);
}

static const PapaScore unknown = {.accuracy = NAN, .top5 = NAN, .loss = NAN};

PapaStatus papa_judge_score(PapaJudge *j, PapaScore *scores, float *const *stores, int n, PapaJudgeImages images)
{
    const PapaScorer *scorer = scorer_of(j, images);
    for (int i = 0; i < n; i++)
        scores[i] = unknown;
    if (!scorer->n)
        return PAPA_OK;
    begin_own(j, PAPA_PHASE_EVALUATE, n * papa_judge_batches(j, images));
    return end_own(j, papa_score_stores(scores, scorer, stores, n));
}

PapaStatus papa_judge_score_ensemble(PapaJudge *j, PapaScore *score, float *const *stores, const double *weights, int n, PapaEnsembleMean mean,
    PapaJudgeImages images)
{
    const PapaScorer *scorer = scorer_of(j, images);
    *score = unknown;
    if (!scorer->n)
        return PAPA_OK;
    begin_own(j, PAPA_PHASE_EVALUATE, papa_judge_batches(j, images));
    return end_own(j, papa_score_ensemble(score, scorer, stores, weights, n, mean));
}

/* ---------------------------------------------------------------- statistics */

PapaStatus papa_judge_recalibrate(PapaJudge *j, float *store)
{
    if (!j->model->has_statistics)
        return PAPA_OK;
    begin_own(j, PAPA_PHASE_REPAIR, j->options.repair_batches);
    return end_own(j, papa_repair_recalibrate(j->repair, store));
}

PapaStatus papa_judge_repair(PapaJudge *j, float *child, const float *const *parents, const double *weights, int n)
{
    begin_own(j, PAPA_PHASE_REPAIR, (papa_judge_layers(j) ? n + 1 : 1) * (int64_t)j->options.repair_batches);
    return end_own(j, papa_repair_run(j->repair, child, parents, weights, n));
}

/* ---------------------------------------------------------------- values inside the network */

typedef struct Values {
    PapaArena arena;
    PapaNet *net;
    PapaWorker *worker;
    PapaShape *shapes;
    float **host; /* by store, by output */
    int n_stores, n;
} Values;

static PapaStatus open_values(Values *v, const PapaJudge *j, const char *const *outputs)
{
    PapaDevice *dev = j->crew.main;
    PapaDataInfo info = papa_data_info(j->data);
    PapaNetOptions options = {.mode = PAPA_MODE_INFER, .batch = j->options.batch, .size = {info.channels, info.height, info.width}, .outputs = outputs,
        .n_outputs = v->n};
    PAPA_TRY(papa_net_compile(&v->net, j->model, &options, dev));
    PAPA_TRY(papa_worker_new(&v->worker, (const PapaNet *const *)&v->net, 1, dev));
    v->shapes = PAPA_NEW_ARRAY(&v->arena, PapaShape, v->n);
    v->host = PAPA_NEW_ARRAY(&v->arena, float *, (int64_t)v->n_stores * v->n);
    if (!v->shapes || !v->host)
        return PAPA_ERR_MEMORY;
    for (int i = 0; i < v->n; i++) {
        v->shapes[i] = papa_net_output_shape(v->net, i);
        for (int k = 0; k < v->n_stores; k++) {
            float *host = v->host[k * v->n + i] = PAPA_NEW_ARRAY(&v->arena, float, papa_shape_count(&v->shapes[i]));
            if (!host)
                return PAPA_ERR_MEMORY;
        }
    }
    return PAPA_OK;
}

/* The network may write over its input: the batch is made anew for each store. */
static PapaStatus run_values(Values *v, PapaJudge *j, float *const *stores, int batch)
{
    PapaDevice *dev = j->crew.main;
    for (int k = 0; k < v->n_stores; k++) {
        PAPA_TRY(papa_sampler_fill(&j->sampler, v->worker, papa_net_input(v->net, v->worker), j->options.batch, batch, papa_net_input_channels_last(v->net)));
        PAPA_TRY(papa_net_forward(v->net, v->worker, stores[k], NULL));
        for (int i = 0; i < v->n; i++)
            PAPA_TRY(papa_device_download(dev, v->host[k * v->n + i], papa_net_output(v->net, v->worker, i),
                (size_t)papa_shape_count(&v->shapes[i]) * sizeof(float)));
    }
    return PAPA_OK;
}

PapaStatus papa_judge_run(PapaJudge *j, float *const *stores, int n_stores, const char *const *outputs, int n_outputs, papa_judge_outputs_fn *fn, void *context)
{
    Values v = {.n_stores = n_stores, .n = n_outputs};
    begin_own(j, PAPA_PHASE_EVALUATE, n_stores * (int64_t)j->options.repair_batches);
    PapaStatus status = open_values(&v, j, outputs);
    for (int batch = 0; batch < j->options.repair_batches && status == PAPA_OK; batch++) {
        status = run_values(&v, j, stores, batch);
        if (status == PAPA_OK)
            status = fn(context, (const float *const *)v.host, v.shapes);
    }
    papa_worker_free(v.worker);
    papa_net_free(v.net, j->crew.main);
    papa_arena_free(&v.arena);
    return end_own(j, status);
}

/* ---------------------------------------------------------------- gradients */

/* Each epoch's order is a function of its number alone. */
static void plan_batch(PapaJudge *j, PapaSlot *slot, int64_t step)
{
    Learning *l = &j->learning;
    const PapaScorer *held = &j->held_out;
    const int32_t *labels = papa_data_labels(l->feed.data);
    int64_t per_epoch = held->n / l->batch, first = step % per_epoch * l->batch;
    int epoch = (int)(step / per_epoch);
    if (epoch != l->epoch) {
        uint32_t *all = l->order + held->n;
        for (int64_t i = 0; i < held->n; i++)
            all[i] = held->indices ? held->indices[i] : (uint32_t)i;
        papa_data_order(l->order, all, held->n, j->options.seed, -1, epoch);
        l->epoch = epoch;
    }
    for (int64_t i = 0; i < l->batch; i++) {
        uint32_t source = l->order[first + i];
        papa_plain_sample(&slot->host.samples[i], &l->feed.format, source);
        slot->host.labels[i] = labels[source];
    }
    papa_plain_batch(slot->host.plan);
    *slot->host.numbers = (PapaSeatNumbers){.n_valid = l->batch};
}

PapaStatus papa_judge_gradient(PapaJudge *j, double *loss, const float **gradient, const float *store, int64_t step)
{
    Learning *l = &j->learning;
    PapaSeat *seat = &l->seat;
    PapaDevice *dev = seat->dev;
    PapaSlot *slot;
    if (j->hooks && j->hooks->stop && *j->hooks->stop)
        return papa_fail(PAPA_ERR_STOPPED, "stopped while weights were being learned");
    PAPA_TRY(papa_device_copy(dev, l->store, store, (size_t)j->model->store.n_total * sizeof *store));
    PAPA_TRY(papa_seat_take(seat, &slot));
    plan_batch(j, slot, step);
    PAPA_TRY(papa_feed_send(&l->feed, seat, slot, l->batch));
    PAPA_TRY(papa_feed_make(&l->feed, seat, slot, papa_net_input(l->net, seat->worker), l->batch, true));
    const PapaSeatNumbers *numbers = slot->device.numbers;
    PAPA_TRY(papa_net_forward(l->net, seat->worker, l->store, &numbers->step));
    PAPA_TRY(PAPA_KERNEL(dev, papa_loss_train)(dev, slot->loss.device, papa_net_output_grad(l->net, seat->worker),
        papa_net_output(l->net, seat->worker, 0), seat->targets, &numbers->n_valid, seat->rows, l->batch, j->examiner.n_classes));
    PAPA_TRY(papa_net_backward(l->net, seat->worker, l->store, seat->grads, &numbers->step));
    PAPA_TRY(papa_stage_download(dev, &slot->loss));
    PAPA_TRY(papa_event_record(slot->done, dev));
    PAPA_TRY(papa_event_wait(slot->done));
    *loss = *(const float *)slot->loss.host;
    *gradient = seat->grads;
    atomic_fetch_add(&j->n_done, 1);
    papa_meter_tick(&j->meter);
    return PAPA_OK;
}
