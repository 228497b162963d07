#include "train/seat.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static PapaStatus take(PapaSeat *seat, void **out, int64_t count, size_t size)
{
    assert(seat->n_blocks < PAPA_SEAT_BLOCKS);
    PAPA_TRY(papa_device_alloc(seat->dev, out, (size_t)count * size, "a worker's buffers"));
    seat->blocks[seat->n_blocks++] = *out;
    return PAPA_OK;
}

static PapaStatus take_host(PapaSeat *seat, void **out, int64_t count, size_t size)
{
    assert(seat->n_host_blocks < PAPA_SEAT_BLOCKS);
    *out = calloc((size_t)count, size);
    if (!*out && count)
        return papa_fail_memory((size_t)count * size, "a worker's buffers");
    seat->host_blocks[seat->n_host_blocks++] = *out;
    return PAPA_OK;
}

#define TAKE(field, count)                                           \
    do {                                                             \
        void *taken;                                                 \
        PAPA_TRY(take(seat, &taken, (count), sizeof *seat->field));  \
        seat->field = taken;                                         \
    } while (0)
#define TAKE_HOST(field, count)                                          \
    do {                                                                 \
        void *taken;                                                     \
        PAPA_TRY(take_host(seat, &taken, (count), sizeof *seat->field)); \
        seat->field = taken;                                             \
    } while (0)

/* ---------------------------------------------------------------- slots */

/* The parts of a block one behind the other, from base; returns where the last one ends. */
static size_t lay_out(PapaBatchBlock *out, char *base, int64_t N, int64_t fetch_bytes)
{
    size_t at = 0;
#define PART(field, count)                                                  \
    do {                                                                    \
        out->field = (void *)((uintptr_t)base + at);                        \
        at += ((size_t)(count) * sizeof *out->field + 255) / 256 * 256;     \
    } while (0)
    PART(numbers, 1);
    PART(plan, 1);
    PART(samples, N);
    PART(labels, N);
    PART(images, N * fetch_bytes);
#undef PART
    if (!fetch_bytes)
        out->images = NULL;
    return at;
}

int64_t papa_seat_slot_bytes(int64_t batch, int64_t fetch_bytes)
{
    PapaBatchBlock sizes;
    return (int64_t)lay_out(&sizes, NULL, batch, fetch_bytes);
}

static PapaStatus open_slot(PapaSeat *seat, const PapaSeatPlan *plan)
{
    PapaSlot *slot = &seat->slots[seat->n_slots];
    size_t bytes = (size_t)papa_seat_slot_bytes(plan->batch, plan->fetch_bytes);
    *slot = (PapaSlot){.index = seat->n_slots++, .member = -1};
    PAPA_TRY(papa_stage_open(seat->dev, &slot->stage, bytes, "a worker's batches"));
    PAPA_TRY(papa_stage_open(seat->dev, &slot->loss, sizeof(float), "a worker's loss"));
    memset(slot->stage.host, 0, bytes);
    lay_out(&slot->host, slot->stage.host, plan->batch, plan->fetch_bytes);
    lay_out(&slot->device, slot->stage.device, plan->batch, plan->fetch_bytes);
    return papa_event_new(seat->dev, &slot->done);
}

static void close_slot(PapaSeat *seat, PapaSlot *slot)
{
    if (slot->done)
        (void)papa_event_wait(slot->done);
    papa_event_free(slot->done);
    papa_stage_close(seat->dev, &slot->stage);
    papa_stage_close(seat->dev, &slot->loss);
}

PapaStatus papa_seat_take(PapaSeat *seat, PapaSlot **out)
{
    PapaSlot *slot = &seat->slots[seat->next_slot];
    seat->next_slot = (seat->next_slot + 1) % seat->n_slots;
    *out = slot;
    return papa_event_wait(slot->done);
}

/* ---------------------------------------------------------------- opening and closing */

static PapaStatus take_all(PapaSeat *seat, const PapaSeatPlan *plan)
{
    int64_t N = plan->batch, logits = N * plan->n_classes;
    bool ahead = plan->n_grads && seat->dev->kind == PAPA_CUDA;
    for (int i = 0; i < (ahead ? PAPA_SLOTS : 1); i++)
        PAPA_TRY(open_slot(seat, plan));
    TAKE(targets, logits);
    TAKE(rows, N);
    TAKE(sums, 1);
    TAKE(grads, plan->n_grads);
    TAKE(clip, 1);
    TAKE(clip_blocks, papa_clip_blocks(plan->n_grads));
    TAKE(visitor, plan->n_visitor);
    PAPA_TRY(papa_device_zero(seat->dev, seat->grads, (size_t)plan->n_grads * sizeof *seat->grads)); /* the gaps: nobody else writes there */
    TAKE_HOST(host_logits, logits);
    TAKE_HOST(host_sum, logits);
    TAKE_HOST(host_indices, N);
    return papa_worker_new(&seat->worker, plan->nets, plan->n_nets, seat->dev);
}

PapaStatus papa_seat_open(PapaSeat *out, const PapaSeatPlan *plan, PapaDevice *dev)
{
    *out = (PapaSeat){.dev = dev, .place = plan->place, .batch = plan->batch, .n_classes = plan->n_classes};
    PapaStatus status = take_all(out, plan);
    if (status != PAPA_OK)
        papa_seat_close(out);
    return status;
}

void papa_seat_close(PapaSeat *seat)
{
    for (int i = 0; i < seat->n_slots; i++)
        close_slot(seat, &seat->slots[i]);
    papa_worker_free(seat->worker);
    for (int i = 0; i < seat->n_blocks; i++)
        papa_device_free(seat->dev, seat->blocks[i]);
    for (int i = 0; i < seat->n_host_blocks; i++)
        free(seat->host_blocks[i]);
    *seat = (PapaSeat){0};
}

/* ---------------------------------------------------------------- batches */

void papa_feed_init(PapaFeed *out, const PapaCrew *crew, const PapaData *data, bool channels_last, const double *mean, const double *std)
{
    PapaDataInfo info = papa_data_info(data);
    PapaImageSize size = {info.channels, info.height, info.width};
    *out = (PapaFeed){.crew = crew, .data = data};
    papa_image_format(&out->format, size, channels_last, mean, std);
}

PapaStatus papa_feed_classes(int64_t *n_classes, const PapaData *data, const PapaModel *model, const PapaNet *net, int64_t batch)
{
    PapaShape shape = papa_net_output_shape(net, 0);
    PapaDataInfo info = papa_data_info(data);
    const char *path = papa_onnx_path(model->onnx);
    if (shape.rank != 2 || shape.dim[0] != batch || shape.dim[1] < 1)
        return papa_fail(PAPA_ERR_MISMATCH, "%s: '%s' has the shape %s for a batch of %lld; a classifier gives (batch, classes)", path,
            model->head.logits, papa_shape_text(&shape), (long long)batch);
    if (shape.dim[1] < info.n_classes)
        return papa_fail(PAPA_ERR_MISMATCH, "%s: has %lld classes, but %s has %d", path, (long long)shape.dim[1], info.name, info.n_classes);
    *n_classes = shape.dim[1];
    return PAPA_OK;
}

/* All images as kernels at this place see them; NULL: each batch brings its own. */
static const uint8_t *resident_images(const PapaFeed *feed, int place, const int32_t **labels)
{
    if (feed->crew->main->kind == PAPA_CPU) {
        *labels = papa_data_labels(feed->data);
        return papa_data_images(feed->data);
    }
    const PapaResident *resident = papa_crew_resident(feed->crew, feed->data, place);
    *labels = resident ? resident->labels : NULL;
    return resident ? resident->images : NULL;
}

int64_t papa_feed_fetch_bytes(const PapaCrew *crew, const PapaData *data)
{
    PapaDataInfo info = papa_data_info(data);
    PapaFeed feed = {.crew = crew, .data = data};
    const int32_t *labels;
    bool everywhere = true;
    for (int place = 0; place < crew->n_places; place++)
        everywhere &= resident_images(&feed, place, &labels) != NULL;
    return everywhere ? 0 : info.channels * info.height * info.width;
}

/* Brings in the images of a set that is not resident; they are then numbered by their place in the batch. */
static PapaStatus fetch(const PapaFeed *feed, PapaSeat *seat, PapaSlot *slot, int64_t N)
{
    for (int64_t i = 0; i < N; i++) {
        seat->host_indices[i] = slot->host.samples[i].source;
        slot->host.samples[i].source = (uint32_t)i;
    }
    assert(slot->host.images && "seats of this crew are opened with the set's fetch_bytes");
    return papa_data_fetch(feed->data, slot->host.images, slot->host.labels, seat->host_indices, N);
}

PapaStatus papa_feed_send(const PapaFeed *feed, PapaSeat *seat, PapaSlot *slot, int64_t N)
{
    const int32_t *labels;
    if (!resident_images(feed, seat->place, &labels))
        PAPA_TRY(fetch(feed, seat, slot, N));
    return papa_stage_upload(seat->dev, &slot->stage);
}

PapaStatus papa_feed_make(const PapaFeed *feed, PapaSeat *seat, const PapaSlot *slot, PapaReal *x, int64_t N, bool targets)
{
    PapaDevice *dev = seat->dev;
    const int32_t *labels;
    const uint8_t *images = resident_images(feed, seat->place, &labels);
    if (!images) {
        images = slot->device.images;
        labels = slot->device.labels;
    }
    PAPA_TRY(PAPA_KERNEL(dev, papa_augment_images)(dev, x, images, slot->device.samples, slot->device.plan, N, feed->format));
    if (!targets)
        return PAPA_OK;
    return PAPA_KERNEL(dev, papa_augment_targets)(dev, seat->targets, labels, slot->device.samples, slot->device.plan, N, seat->n_classes);
}
