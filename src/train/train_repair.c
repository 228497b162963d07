/* REPAIR in a run: the images it measures on, and the averagings of papa-all and papa-2. */
#include "train/training.h"

#include "soup/soup.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define MANY_IMAGES 100000

/* Training-time augmentation of the image itself, without what mixes images or blanks them. */
static PapaStatus fill(void *context, PapaWorker *worker, PapaReal *input, int64_t n, int batch_index, bool channels_last)
{
    (void)worker;
    PapaTraining *t = context;
    PapaSeat *seat = &t->repair_seat;
    const PapaTrainOptions *o = &t->options;
    PapaRecipe recipe = {.crop = o->crop, .random_resized_crop = o->random_resized_crop, .flip = o->flip};
    PapaSlot *slot;
    PAPA_TRY(papa_seat_take(seat, &slot));
    papa_plain_batch(slot->host.plan);
    t->repair_feed.format.channels_last = channels_last;
    for (int64_t i = 0; i < n; i++) {
        int64_t at = batch_index * n + i;
        uint32_t source = t->repair_order[at % t->parts.n_train];
        papa_recipe_sample(&slot->host.samples[i], &recipe, &t->repair_feed.format, source, o->seed, -1, 0, at);
    }
    PAPA_TRY(papa_feed_send(&t->repair_feed, seat, slot, n));
    PAPA_TRY(papa_feed_make(&t->repair_feed, seat, slot, input, n, false));
    PAPA_TRY(papa_event_record(slot->done, seat->dev));
    atomic_fetch_add(&t->n_done, 1);
    papa_meter_tick(&t->meter); /* it runs on the thread that called the library */
    return PAPA_OK;
}

PapaStatus papa_training_open_repair(PapaTraining *t)
{
    PapaTrainOptions *o = &t->options;
    if (!o->repair || o->population < 2)
        return PAPA_OK;
    if (!o->repair_batches)
        o->repair_batches = t->parts.n_train >= MANY_IMAGES ? 25 : 5;
    PapaDataInfo info = papa_data_info(t->data);
    int64_t batch = t->trainer.batch;
    PapaSeatPlan plan = {.batch = batch, .n_classes = 1, .fetch_bytes = papa_feed_fetch_bytes(&t->crew, t->data)};
    PAPA_TRY(papa_seat_open(&t->repair_seat, &plan, t->crew.main));
    papa_feed_init(&t->repair_feed, &t->crew, t->data, false, t->mean, t->std);
    size_t bytes = (size_t)t->parts.n_train * sizeof *t->repair_order;
    t->repair_order = malloc(bytes);
    if (!t->repair_order)
        return papa_fail_memory(bytes, "the order of REPAIR's images");
    papa_data_order(t->repair_order, t->parts.train, t->parts.n_train, o->seed, -1, 0);
    PapaRepairOptions options = {
        .batches = o->repair_batches,
        .batch = batch,
        .size = {info.channels, info.height, info.width},
        .fill = fill,
        .context = t,
    };
    return papa_repair_new(&t->repair, t->model, &options, t->crew.main, t->hooks);
}

/* ---------------------------------------------------------------- papa-all and papa-2 */

static PapaStatus child(PapaTraining *t, float *to, const float *const *parents, int n)
{
    PAPA_TRY(papa_soup_mean(t->crew.main, to, parents, NULL, n, &t->model->store));
    return t->repair ? papa_repair_run(t->repair, to, parents, NULL, n) : PAPA_OK;
}

static PapaStatus average_all(PapaTraining *t)
{
    PapaTrainer *trainer = &t->trainer;
    PapaDevice *dev = t->crew.main;
    int p = t->options.population;
    PAPA_TRY(child(t, t->spare[0], (const float *const *)t->near, p));
    for (int j = 0; j < p; j++)
        PAPA_TRY(papa_device_copy(dev, trainer->stores[j], t->spare[0], (size_t)t->model->store.n_total * sizeof(float)));
    return papa_device_sync(dev);
}

/* The children are made beside their parents, whose places they take when all are there. */
static PapaStatus average_pairs(PapaTraining *t, int epoch)
{
    PapaTrainer *trainer = &t->trainer;
    PapaDevice *dev = t->crew.main;
    int p = t->options.population, pairs[PAPA_MIX_MAX][2];
    PAPA_TRY(papa_population_pairs(pairs, p, t->options.seed, epoch));
    for (int j = 0; j < p; j++) {
        const float *parents[2] = {t->near[pairs[j][0]], t->near[pairs[j][1]]};
        PAPA_TRY(child(t, t->spare[j], parents, 2));
    }
    for (int j = 0; j < p; j++)
        PAPA_TRY(papa_device_copy(dev, trainer->stores[j], t->spare[j], (size_t)t->model->store.n_total * sizeof(float)));
    return papa_device_sync(dev);
}

PapaStatus papa_training_average(PapaTraining *t, int epoch)
{
    if (t->options.population < 2)
        return PAPA_OK;
    PAPA_TRY(papa_training_bring_near(t));
    return t->options.method == PAPA_METHOD_ALL ? average_all(t) : average_pairs(t, epoch);
}
