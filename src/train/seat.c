#include "train/seat.h"

#include <assert.h>
#include <stdlib.h>

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

static PapaStatus take_all(PapaSeat *seat, const PapaSeatPlan *plan)
{
    int64_t N = plan->batch, logits = N * plan->n_classes;
    TAKE(samples, N);
    TAKE(batch_plan, 1);
    TAKE(images, N * plan->fetch_bytes);
    TAKE(labels, N);
    TAKE(targets, logits);
    TAKE(rows, N);
    TAKE(loss, 1);
    TAKE(sums, 1);
    TAKE(grads, plan->n_grads);
    TAKE(clip, 1);
    TAKE(clip_blocks, papa_clip_blocks(plan->n_grads));
    TAKE(numbers, 1);
    PAPA_TRY(papa_device_zero(seat->dev, seat->grads, (size_t)plan->n_grads * sizeof *seat->grads)); /* the gaps: nobody else writes there */
    TAKE_HOST(host_samples, N);
    TAKE_HOST(host_indices, N);
    TAKE_HOST(host_images, N * plan->fetch_bytes);
    TAKE_HOST(host_labels, N);
    TAKE_HOST(host_logits, logits);
    TAKE_HOST(host_sum, logits);
    return papa_worker_new(&seat->worker, plan->nets, plan->n_nets, seat->dev);
}

PapaStatus papa_seat_open(PapaSeat *out, const PapaSeatPlan *plan, PapaDevice *dev)
{
    *out = (PapaSeat){.dev = dev, .batch = plan->batch, .n_classes = plan->n_classes};
    PapaStatus status = take_all(out, plan);
    if (status != PAPA_OK)
        papa_seat_close(out);
    return status;
}

void papa_seat_close(PapaSeat *seat)
{
    papa_worker_free(seat->worker);
    for (int i = 0; i < seat->n_blocks; i++)
        papa_device_free(seat->dev, seat->blocks[i]);
    for (int i = 0; i < seat->n_host_blocks; i++)
        free(seat->host_blocks[i]);
    *seat = (PapaSeat){0};
}

/* ---------------------------------------------------------------- batches */

void papa_feed_init(PapaFeed *out, const PapaData *data, bool channels_last, const double *mean, const double *std)
{
    PapaDataInfo info = papa_data_info(data);
    PapaImageSize size = {info.channels, info.height, info.width};
    *out = (PapaFeed){.data = data};
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

int64_t papa_feed_fetch_bytes(const PapaData *data)
{
    PapaDataInfo info = papa_data_info(data);
    return papa_data_images(data) ? 0 : info.channels * info.height * info.width;
}

/* Brings in the images of a set that is not resident; they are then numbered by their place in the batch. */
static PapaStatus fetch(const PapaFeed *feed, PapaSeat *seat, int64_t N)
{
    for (int64_t i = 0; i < N; i++) {
        seat->host_indices[i] = seat->host_samples[i].source;
        seat->host_samples[i].source = (uint32_t)i;
    }
    PAPA_TRY(papa_data_fetch(feed->data, seat->host_images, seat->host_labels, seat->host_indices, N));
    PAPA_TRY(papa_device_upload(seat->dev, seat->images, seat->host_images, (size_t)(N * papa_feed_fetch_bytes(feed->data))));
    return papa_device_upload(seat->dev, seat->labels, seat->host_labels, (size_t)N * sizeof *seat->labels);
}

PapaStatus papa_feed_batch(const PapaFeed *feed, PapaSeat *seat, float *x, const PapaBatchPlan *plan, int64_t N, bool targets)
{
    PapaDevice *dev = seat->dev;
    const uint8_t *images = papa_data_images(feed->data);
    const int32_t *labels = papa_data_labels(feed->data);
    if (!images) {
        PAPA_TRY(fetch(feed, seat, N));
        images = seat->images;
        labels = seat->labels;
    }
    PAPA_TRY(papa_device_upload(dev, seat->samples, seat->host_samples, (size_t)N * sizeof *seat->samples));
    PAPA_TRY(papa_device_upload(dev, seat->batch_plan, plan, sizeof *plan));
    PAPA_TRY(PAPA_KERNEL(dev, papa_augment_images)(dev, x, images, seat->samples, seat->batch_plan, N, feed->format));
    if (!targets)
        return PAPA_OK;
    return PAPA_KERNEL(dev, papa_augment_targets)(dev, seat->targets, labels, seat->samples, seat->batch_plan, N, seat->n_classes);
}
