#include "train/trainer.h"

#include "train/budget.h"
#include "train/progress.h"

#include <math.h>
#include <stdlib.h>

/* ---------------------------------------------------------------- opening */

static PapaStatus count_steps(PapaTrainer *t)
{
    const PapaTrainOptions *o = t->options;
    t->batch = o->batch;
    t->steps_per_epoch = t->n_train / t->batch;
    t->last_batch = o->keep_last ? t->n_train % t->batch : 0;
    if (t->last_batch && !t->steps_per_epoch) { /* one batch is all there is */
        t->batch = t->last_batch;
        t->last_batch = 0;
        t->steps_per_epoch = 1;
    }
    t->steps_per_epoch += t->last_batch > 0;
    if (!t->steps_per_epoch)
        return papa_fail(PAPA_ERR_ARGUMENT, "a batch of %d is more than the %lld images to train on", o->batch, (long long)t->n_train);
    t->n_steps = t->steps_per_epoch * o->epochs;
    t->rates = (PapaRatePlan){.schedule = o->schedule, .peak = o->lr, .lowest = o->lr_min, .n_milestones = o->n_milestones,
        .gamma = o->gamma, .n_steps = t->n_steps};
    for (int i = 0; i < o->n_milestones; i++)
        t->rates.milestones[i] = o->milestones[i];
    double warmup = o->warmup_epochs * (double)t->steps_per_epoch;
    t->rates.n_warmup = warmup < (double)t->n_steps ? llround(warmup) : t->n_steps;
    return PAPA_OK;
}

static PapaStatus compile(PapaTrainer *t, PapaNet **out, int place, PapaMode mode, int64_t batch)
{
    const PapaTrainOptions *o = t->options;
    PapaDataInfo info = papa_data_info(t->data);
    PapaNetOptions options = {.mode = mode, .batch = batch, .size = {info.channels, info.height, info.width}, .no_dropout = !o->dropout};
    return papa_net_compile(out, t->model, &options, t->crew->devs[place]); /* the first workers stand at one place each */
}

static PapaStatus compile_nets(PapaTrainer *t, int place)
{
    PapaTrainerNets *nets = &t->nets[place];
    PAPA_TRY(compile(t, &nets->train, place, PAPA_MODE_TRAIN, t->batch));
    PAPA_TRY(papa_feed_classes(&t->n_classes, t->data, t->model, nets->train, t->batch));
    PAPA_TRY(compile(t, &nets->infer, place, PAPA_MODE_INFER, t->batch));
    return t->last_batch ? compile(t, &nets->last, place, PAPA_MODE_TRAIN, t->last_batch) : PAPA_OK;
}

static PapaStatus open_seat(void *context, int worker, int task)
{
    (void)task;
    PapaTrainer *t = context;
    const PapaTrainerNets *place = &t->nets[t->crew->place[worker]];
    const PapaNet *nets[3] = {place->train, place->infer, place->last};
    PapaSeatPlan plan = {.nets = nets, .n_nets = place->last ? 3 : 2, .batch = t->batch, .n_classes = t->n_classes,
        .n_grads = t->model->store.n_trained, .n_visitor = t->crew->n_places > 1 ? t->model->store.n_total : 0, .fetch_bytes = papa_trainer_fetch_bytes(t),
        .place = t->crew->place[worker]};
    return papa_seat_open(&t->seats[worker], &plan, t->crew->devs[worker]);
}

/* Trained tensors stand first and together; of the others only statistics move. */
static PapaStatus find_spans(PapaTrainer *t)
{
    const PapaModel *model = t->model;
    t->spans = calloc((size_t)model->n_params + 1, sizeof *t->spans);
    if (!t->spans)
        return papa_fail_memory((size_t)model->n_params * sizeof *t->spans, "the pull's pieces");
    t->spans[t->n_spans++] = (PapaSpan){.offset = 0, .n = model->store.n_trained};
    for (int i = 0; i < model->n_params && !t->options->freeze_bn; i++) {
        const PapaParam *param = &model->params[i];
        PapaSpan *before = &t->spans[t->n_spans - 1];
        if (param->trained || (param->role != PAPA_ROLE_MEAN && param->role != PAPA_ROLE_VARIANCE))
            continue;
        int64_t gap = param->offset - (before->offset + before->n);
        if (gap >= 0 && gap < PAPA_STORE_ALIGN) /* zeros stay zeros */
            before->n += gap + param->count;
        else
            t->spans[t->n_spans++] = (PapaSpan){.offset = param->offset, .n = param->count};
    }
    return PAPA_OK;
}

static PapaStatus open_members(PapaTrainer *t)
{
    int n = t->options->population;
    t->members = calloc((size_t)n, sizeof *t->members);
    t->stores = calloc((size_t)n, sizeof *t->stores);
    if (!t->members || !t->stores)
        return papa_fail_memory((size_t)n * sizeof *t->members, "the population");
    PAPA_TRY(papa_deal_recipes(t->members, n, t->options));
    for (int j = 0; j < n; j++) {
        PAPA_TRY(papa_recipe_check(&t->members[j].recipe, &t->feed.format));
        PAPA_TRY(papa_member_open(&t->members[j], j, t));
        t->stores[j] = t->members[j].params;
    }
    return PAPA_OK;
}

static PapaStatus open_all(PapaTrainer *t, const PapaTrainerPlan *plan)
{
    PAPA_TRY(count_steps(t));
    for (int place = 0; place < t->crew->n_places; place++)
        PAPA_TRY(compile_nets(t, place));
    PAPA_TRY(papa_crew_bring(t->crew, t->data));
    if (t->test)
        PAPA_TRY(papa_crew_bring(t->crew, t->test));
    papa_feed_init(&t->feed, t->crew, t->data, papa_net_input_channels_last(t->nets[0].train), plan->mean, plan->std);
    PAPA_TRY(papa_budget_check(t));
    t->seats = calloc((size_t)t->crew->n_workers, sizeof *t->seats);
    if (!t->seats)
        return papa_fail_memory((size_t)t->crew->n_workers * sizeof *t->seats, "the workers");
    PAPA_TRY(papa_crew_each(t->crew, open_seat, t));
    PAPA_TRY(find_spans(t));
    PAPA_TRY(open_members(t));
    t->population = (PapaPopulation){.crew = t->crew, .n_members = t->options->population, .stop = plan->stop, .step = papa_member_step,
        .context = t};
    return papa_population_start(&t->population, 0);
}

PapaStatus papa_trainer_open(PapaTrainer *out, const PapaTrainerPlan *plan)
{
    *out = (PapaTrainer){.model = plan->model, .options = plan->options, .data = plan->data, .test = plan->test, .crew = plan->crew,
        .indices = plan->indices, .n_train = plan->n_train};
    PapaStatus status = open_all(out, plan);
    if (status != PAPA_OK)
        papa_trainer_close(out);
    return status;
}

void papa_trainer_close(PapaTrainer *t)
{
    if (!t->crew)
        return;
    papa_population_end(&t->population);
    for (int w = 0; t->seats && w < t->crew->n_workers; w++)
        papa_seat_close(&t->seats[w]);
    for (int j = 0; t->members && j < t->options->population; j++)
        papa_member_close(&t->members[j], papa_member_device(t, j));
    for (int place = 0; place < t->crew->n_places; place++) {
        papa_net_free(t->nets[place].train, t->crew->devs[place]);
        papa_net_free(t->nets[place].last, t->crew->devs[place]);
        papa_net_free(t->nets[place].infer, t->crew->devs[place]);
    }
    free(t->members);
    free(t->stores);
    free(t->seats);
    free(t->spans);
    *t = (PapaTrainer){0};
}

/* ---------------------------------------------------------------- training */

static PapaStatus advance(PapaTrainer *t, int64_t until, int64_t *reached)
{
    const PapaTrainOptions *o = t->options;
    bool pulls = o->method == PAPA_METHOD_PAPA && o->population > 1;
    *reached = t->population.finished[0];
    for (int64_t at = *reached; at < until;) {
        int64_t meeting = pulls && at - at % o->every + o->every < until ? at - at % o->every + o->every : until;
        PAPA_TRY(papa_population_advance(&t->population, meeting, &at));
        *reached = at;
        if (pulls && at % o->every == 0 && at == meeting)
            PAPA_TRY(papa_population_pull(t->crew, t->stores, o->population, t->spans, t->n_spans, papa_pull_strength(&t->rates, o->alpha, at)));
        if (at < meeting)
            break;
    }
    return PAPA_OK;
}

PapaStatus papa_trainer_advance(PapaTrainer *t, int64_t until, int64_t *reached)
{
    double began = papa_now();
    PapaStatus status = advance(t, until, reached);
    for (int w = 0; w < t->crew->n_workers && status == PAPA_OK; w++)
        status = papa_member_settle(t, w);
    t->seconds += papa_now() - began;
    return status;
}

void papa_trainer_losses(PapaTrainer *t, double *losses)
{
    for (int j = 0; j < t->options->population; j++) {
        PapaMember *member = &t->members[j];
        losses[j] = member->n_losses ? member->loss_sum / (double)member->n_losses : NAN;
        member->loss_sum = 0;
        member->n_losses = 0;
    }
}

int64_t papa_trainer_images(const PapaTrainer *t, int64_t steps)
{
    int64_t n_short = t->last_batch ? steps / t->steps_per_epoch : 0;
    return (steps - n_short) * t->batch + n_short * t->last_batch;
}

int papa_trainer_states(const PapaTrainer *t)
{
    return t->options->optimizer != PAPA_OPTIMIZER_SGD ? 2 : t->options->momentum != 0;
}

int64_t papa_trainer_fetch_bytes(const PapaTrainer *t)
{
    int64_t bytes = papa_feed_fetch_bytes(t->crew, t->data);
    return bytes || !t->test ? bytes : papa_feed_fetch_bytes(t->crew, t->test);
}

int64_t papa_trainer_member_bytes(const PapaTrainer *t)
{
    return (t->model->store.n_total + papa_trainer_states(t) * t->model->store.n_trained) * (int64_t)sizeof(float) + t->n_train * (int64_t)sizeof(uint32_t);
}
