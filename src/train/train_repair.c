/* REPAIR in a run: the images it measures on, and the averagings of papa-all and papa-2. */
#include "train/training.h"

#include "soup/soup.h"

PapaStatus papa_training_open_repair(PapaTraining *t)
{
    PapaTrainOptions *o = &t->options;
    if (!o->repair || o->population < 2)
        return PAPA_OK;
    o->repair_batches = papa_sampler_batches(o->repair_batches, t->parts.n_train);
    PapaDataInfo info = papa_data_info(t->data);
    PapaSamplerPlan plan = {.crew = &t->crew, .data = t->data, .indices = t->parts.train, .n = t->parts.n_train, .mean = t->mean, .std = t->std,
        .recipe = {.crop = o->crop, .random_resized_crop = o->random_resized_crop, .flip = o->flip}, .batch = t->trainer.batch, .seed = o->seed,
        .n_done = &t->n_done, .meter = &t->meter};
    PAPA_TRY(papa_sampler_open(&t->sampler, &plan));
    PapaRepairOptions options = {
        .batches = o->repair_batches,
        .batch = t->trainer.batch,
        .size = {info.channels, info.height, info.width},
        .fill = papa_sampler_fill,
        .context = &t->sampler,
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
