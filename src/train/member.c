#include "train/trainer.h"

#include "base/rng.h"

#include <math.h>
#include <stdlib.h>

/* ---------------------------------------------------------------- its cell of the grid */

static int grid_length(const PapaGrid *grid)
{
    return grid->n > 0 ? grid->n : 1;
}

static float grid_value(const PapaGrid *grid, int i)
{
    return grid->n > 0 ? grid->values[i] : 0;
}

PapaStatus papa_deal_recipes(PapaMember *members, int n_members, const PapaTrainOptions *options)
{
    const PapaGrid *grids[] = {&options->mixup, &options->smoothing, &options->cutmix, &options->erasing};
    enum { MIXUP, SMOOTHING, CUTMIX, ERASING, N_GRIDS };
    uint32_t n_cells = 1;
    for (int g = 0; g < N_GRIDS; g++)
        n_cells *= (uint32_t)grid_length(grids[g]);
    uint32_t *cells = malloc(n_cells * sizeof *cells);
    if (!cells)
        return papa_fail_memory(n_cells * sizeof *cells, "the regularisation grid");
    for (uint32_t i = 0; i < n_cells; i++)
        cells[i] = i;
    PapaRng rng = papa_rng(options->seed, PAPA_RNG_GRID, -1, 0, 0);
    papa_rng_shuffle(&rng, cells, n_cells);
    for (int j = 0; j < n_members; j++) {
        float value[N_GRIDS];
        uint32_t cell = cells[(uint32_t)j % n_cells];
        for (int g = 0; g < N_GRIDS; g++) {
            uint32_t n = (uint32_t)grid_length(grids[g]);
            value[g] = grid_value(grids[g], (int)(cell % n));
            cell /= n;
        }
        members[j].recipe = (PapaRecipe){.crop = options->crop, .random_resized_crop = options->random_resized_crop, .flip = options->flip,
            .erasing = value[ERASING], .mixup = value[MIXUP], .cutmix = value[CUTMIX], .smoothing = value[SMOOTHING]};
    }
    free(cells);
    return PAPA_OK;
}

/* ---------------------------------------------------------------- memory and first values */

static PapaStatus new_floats(PapaDevice *dev, float **out, int64_t n, const char *purpose)
{
    void *memory;
    PAPA_TRY(papa_device_alloc(dev, &memory, (size_t)n * sizeof **out, purpose));
    *out = memory;
    return papa_device_zero(dev, memory, (size_t)n * sizeof **out);
}

static PapaStatus init_params(PapaMember *member, const PapaTrainer *trainer, PapaDevice *dev)
{
    const PapaModel *model = trainer->model;
    const PapaTrainOptions *o = trainer->options;
    size_t bytes = (size_t)model->store.n_total * sizeof(float);
    float *host = malloc(bytes);
    if (!host)
        return papa_fail_memory(bytes, "a member's first values");
    PapaStatus status;
    PAPA_GOTO(papa_model_read_params(model, host));
    if (o->init != PAPA_INIT_FILE)
        PAPA_GOTO(papa_model_init_params(model, host, o->seed, o->init == PAPA_INIT_SAME ? 0 : member->index));
    PAPA_GOTO(papa_device_upload(dev, member->params, host, bytes));
out:
    free(host);
    return status;
}

PapaDevice *papa_member_device(const PapaTrainer *trainer, int index)
{
    const PapaCrew *crew = trainer->crew;
    return papa_crew_has_homes(crew) ? crew->devs[papa_crew_home(crew, index)] : crew->main;
}

PapaStatus papa_member_open(PapaMember *out, int index, const PapaTrainer *trainer)
{
    const PapaTrainOptions *o = trainer->options;
    PapaStoreLayout store = trainer->model->store;
    PapaDevice *dev = papa_member_device(trainer, index);
    out->index = index;
    out->last_loss = NAN;
    out->order = malloc((size_t)trainer->n_train * sizeof *out->order);
    if (!out->order)
        return papa_fail_memory((size_t)trainer->n_train * sizeof *out->order, "a member's data order");
    PAPA_TRY(new_floats(dev, &out->params, store.n_total, "a member's parameters"));
    if (o->optimizer != PAPA_OPTIMIZER_SGD || o->momentum != 0)
        PAPA_TRY(new_floats(dev, &out->first, store.n_trained, "a member's momentum"));
    if (o->optimizer != PAPA_OPTIMIZER_SGD)
        PAPA_TRY(new_floats(dev, &out->second, store.n_trained, "a member's second moments"));
    return init_params(out, trainer, dev);
}

void papa_member_close(PapaMember *member, PapaDevice *dev)
{
    for (int last = 0; last < 2; last++)
        for (int slot = 0; slot < PAPA_SLOTS; slot++)
            papa_replay_free(member->replays[last][slot]);
    papa_device_free(dev, member->params);
    papa_device_free(dev, member->first);
    papa_device_free(dev, member->second);
    free(member->order);
    *member = (PapaMember){0};
}

/* ---------------------------------------------------------------- one step */

/* The host's part: what the batch is, and the step's numbers. */
static void plan_batch(const PapaTrainer *t, PapaSlot *slot, PapaMember *member, int64_t N, int64_t step)
{
    const PapaTrainOptions *o = t->options;
    const int32_t *labels = papa_data_labels(t->data);
    int64_t in_epoch = step % t->steps_per_epoch, first = in_epoch * t->batch;
    int epoch = (int)(step / t->steps_per_epoch);
    if (in_epoch == 0)
        papa_data_order(member->order, t->indices, t->n_train, o->seed, member->index, epoch);
    for (int64_t i = 0; i < N; i++) {
        uint32_t source = member->order[first + i];
        papa_recipe_sample(&slot->host.samples[i], &member->recipe, &t->feed.format, source, o->seed, member->index, epoch, first + i);
        slot->host.labels[i] = labels[source];
    }
    papa_recipe_batch(slot->host.plan, &member->recipe, &t->feed.format, o->seed, member->index, step);
}

static void set_numbers(const PapaTrainer *t, PapaSlot *slot, const PapaMember *member, int64_t N, int64_t step)
{
    const PapaTrainOptions *o = t->options;
    PapaRng dropout = papa_rng(o->seed, PAPA_RNG_DROPOUT, member->index, (uint32_t)step, 0);
    *slot->host.numbers = (PapaSeatNumbers){
        .step = {.dropout_key = {dropout.key[0], dropout.key[1]}, .dropout_name = {dropout.counter[1], dropout.counter[3]}},
        .optimizer = {
            .lr = (float)papa_rate(&t->rates, step),
            .correction1 = (float)(1 - pow(o->beta1, (double)(step + 1))),
            .root_correction2 = (float)sqrt(1 - pow(o->beta2, (double)(step + 1))),
        },
        .n_valid = N,
    };
}

static PapaStatus update(const PapaTrainer *t, PapaSeat *seat, const PapaMember *member, const PapaOptimizerNumbers *numbers)
{
    const PapaTrainOptions *o = t->options;
    PapaStoreLayout store = t->model->store;
    PapaDevice *dev = seat->dev;
    if (o->clip > 0)
        PAPA_TRY(PAPA_KERNEL(dev, papa_optimizer_clip)(dev, seat->clip, seat->clip_blocks, seat->grads, o->clip, store.n_trained));
    const PapaClip *clip = o->clip > 0 ? seat->clip : NULL;
    if (o->optimizer == PAPA_OPTIMIZER_SGD) {
        PapaSgd sgd = {.momentum = o->momentum, .weight_decay = o->weight_decay, .nesterov = o->nesterov};
        return PAPA_KERNEL(dev, papa_optimizer_sgd)(dev, member->params, member->first, seat->grads, clip, numbers, sgd, store.n_decayed,
            store.n_trained);
    }
    PapaAdam adam = {.beta1 = o->beta1, .beta2 = o->beta2, .eps = o->adam_eps, .weight_decay = o->weight_decay,
        .decoupled = o->optimizer == PAPA_OPTIMIZER_ADAMW};
    return PAPA_KERNEL(dev, papa_optimizer_adam)(dev, member->params, member->first, member->second, seat->grads, clip, numbers, adam,
        store.n_decayed, store.n_trained);
}

/* What the device does in a step: the same every time, but for what the slot holds. */
typedef struct DeviceStep {
    const PapaTrainer *trainer;
    PapaSeat *seat;
    const PapaSlot *slot;
    const PapaMember *member;
    const PapaNet *net;
    int64_t N;
} DeviceStep;

static PapaStatus device_step(void *context, PapaDevice *dev)
{
    const DeviceStep *d = context;
    const PapaTrainer *t = d->trainer;
    PapaSeat *seat = d->seat;
    const PapaSeatNumbers *numbers = d->slot->device.numbers;
    PAPA_TRY(papa_feed_make(&t->feed, seat, d->slot, papa_net_input(d->net, seat->worker), d->N, true));
    PAPA_TRY(papa_net_forward(d->net, seat->worker, d->member->params, &numbers->step));
    float *dlogits = papa_net_output_grad(d->net, seat->worker);
    const float *logits = papa_net_output(d->net, seat->worker, 0);
    PAPA_TRY(PAPA_KERNEL(dev, papa_loss_train)(dev, d->slot->loss.device, dlogits, logits, seat->targets, &numbers->n_valid, seat->rows, d->N,
        t->n_classes));
    PAPA_TRY(papa_net_backward(d->net, seat->worker, d->member->params, seat->grads, &numbers->step));
    PAPA_TRY(update(t, seat, d->member, &numbers->optimizer));
    return papa_stage_download(dev, &d->slot->loss);
}

/* The first time as it comes, the second time recorded, from then on replayed. On the CPU recording is running. */
static PapaStatus run_device_step(DeviceStep *step, PapaMember *member, bool last)
{
    PapaDevice *dev = step->seat->dev;
    PapaReplay **replay = &member->replays[last][step->slot->index];
    bool *ran = &member->ran[last][step->slot->index];
    if (!*ran) {
        *ran = true;
        return device_step(step, dev);
    }
    if (!*replay)
        PAPA_TRY(papa_device_capture(dev, replay, device_step, step));
    return *replay ? papa_replay_run(*replay, dev) : PAPA_OK;
}

/* The loss of a step that has ended. */
static PapaStatus look_at_loss(const PapaTrainer *t, PapaSlot *slot)
{
    if (slot->member < 0)
        return PAPA_OK;
    PapaMember *member = &t->members[slot->member];
    float loss = *(const float *)slot->loss.host;
    slot->member = -1;
    if (!isfinite(loss))
        return papa_fail(PAPA_ERR_NUMERIC,
            "member %d: the loss is %s at step %lld of %lld (learning rate %g): it diverged; try a lower learning rate or clipping",
            member->index, isnan(loss) ? "not a number" : "infinite", (long long)slot->step + 1, (long long)t->n_steps, papa_rate(&t->rates, slot->step));
    member->loss_sum += loss;
    member->n_losses++;
    member->last_loss = loss;
    return PAPA_OK;
}

PapaStatus papa_member_step(void *context, int worker, int index, int64_t step)
{
    const PapaTrainer *t = context;
    PapaSeat *seat = &t->seats[worker];
    PapaMember *member = &t->members[index];
    const PapaTrainerNets *nets = &t->nets[seat->place];
    bool last = t->last_batch && step % t->steps_per_epoch == t->steps_per_epoch - 1;
    int64_t N = last ? t->last_batch : t->batch;
    PapaSlot *slot;
    PAPA_TRY(papa_device_enter(seat->dev));
    PAPA_TRY(papa_seat_take(seat, &slot));
    PAPA_TRY(look_at_loss(t, slot));
    plan_batch(t, slot, member, N, step);
    set_numbers(t, slot, member, N, step);
    PAPA_TRY(papa_feed_send(&t->feed, seat, slot, N));
    DeviceStep device = {.trainer = t, .seat = seat, .slot = slot, .member = member, .net = last ? nets->last : nets->train, .N = N};
    PAPA_TRY(run_device_step(&device, member, last));
    PAPA_TRY(papa_event_record(slot->done, seat->dev));
    slot->member = index;
    slot->step = step;
    return seat->dev->kind == PAPA_CPU ? look_at_loss(t, slot) : PAPA_OK;
}

PapaStatus papa_member_settle(const PapaTrainer *t, int worker)
{
    PapaSeat *seat = &t->seats[worker];
    for (int i = 0; i < seat->n_slots; i++) { /* the older one first */
        PapaSlot *slot;
        PAPA_TRY(papa_seat_take(seat, &slot));
        PAPA_TRY(look_at_loss(t, slot));
    }
    return PAPA_OK;
}
