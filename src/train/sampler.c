#include "train/sampler.h"

#include <stdlib.h>

#define MANY_IMAGES 100000

int papa_sampler_batches(int asked, int64_t n_images)
{
    return asked ? asked : n_images >= MANY_IMAGES ? 25 : 5;
}

PapaStatus papa_sampler_open(PapaSampler *out, const PapaSamplerPlan *plan)
{
    size_t bytes = (size_t)plan->n * sizeof *out->order;
    *out = (PapaSampler){.plan = *plan};
    PapaSeatPlan seat = {.batch = plan->batch, .n_classes = 1, .fetch_bytes = papa_feed_fetch_bytes(plan->crew, plan->data)};
    PAPA_TRY(papa_seat_open(&out->seat, &seat, plan->crew->main));
    papa_feed_init(&out->feed, plan->crew, plan->data, false, plan->mean, plan->std);
    PAPA_TRY(papa_recipe_check(&plan->recipe, &out->feed.format));
    out->order = malloc(bytes);
    if (!out->order)
        return papa_fail_memory(bytes, "the order of the images that are measured on");
    papa_data_order(out->order, plan->indices, plan->n, plan->seed, -1, 0);
    return PAPA_OK;
}

void papa_sampler_close(PapaSampler *sampler)
{
    papa_seat_close(&sampler->seat);
    free(sampler->order);
    *sampler = (PapaSampler){0};
}

PapaStatus papa_sampler_fill(void *context, PapaWorker *worker, PapaReal *input, int64_t n, int batch_index, bool channels_last)
{
    (void)worker;
    PapaSampler *s = context;
    const PapaSamplerPlan *plan = &s->plan;
    PapaSlot *slot;
    if (plan->stop && *plan->stop)
        return papa_fail(PAPA_ERR_STOPPED, "stopped while statistics of %s were being measured", papa_data_info(plan->data).name);
    PAPA_TRY(papa_seat_take(&s->seat, &slot));
    papa_plain_batch(slot->host.plan);
    s->feed.format.channels_last = channels_last;
    for (int64_t i = 0; i < n; i++) {
        int64_t at = batch_index * n + i;
        papa_recipe_sample(&slot->host.samples[i], &plan->recipe, &s->feed.format, s->order[at % plan->n], plan->seed, -1, 0, at);
    }
    PAPA_TRY(papa_feed_send(&s->feed, &s->seat, slot, n));
    PAPA_TRY(papa_feed_make(&s->feed, &s->seat, slot, input, n, false));
    PAPA_TRY(papa_event_record(slot->done, s->seat.dev));
    if (plan->n_done)
        atomic_fetch_add(plan->n_done, 1);
    if (plan->meter)
        papa_meter_tick(plan->meter);
    return PAPA_OK;
}
