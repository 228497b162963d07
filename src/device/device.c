/* One interface to every kind of device: picks the kind's table, and does what is the same for all. */
#include "device/device_ops.h"

#include <stdlib.h>

static const PapaDeviceOps *ops(const PapaDevice *dev)
{
#ifdef PAPA_HAVE_CUDA
    if (dev->kind == PAPA_CUDA)
        return &papa_device_ops_cuda;
#endif
    (void)dev;
    return &papa_device_ops_cpu;
}

#ifndef PAPA_HAVE_CUDA
static PapaStatus no_cuda(void)
{
    return papa_fail(PAPA_ERR_DEVICE, "this build of papa has no CUDA: build it where the CUDA toolkit, cuBLAS and cuDNN 9 are installed");
}

PapaStatus papa_device_open_cuda(PapaDevice **out, int ordinal, PapaPrecision precision)
{
    (void)ordinal, (void)precision;
    *out = NULL;
    return no_cuda();
}

PapaStatus papa_device_open_described(PapaDevice **out, const PapaGpu *gpu, PapaPrecision precision, PapaLaunchLog *log)
{
    (void)gpu, (void)precision, (void)log;
    *out = NULL;
    return no_cuda();
}

int papa_device_count_cuda(void)
{
    (void)no_cuda();
    return 0;
}
#endif

void papa_device_close(PapaDevice *dev)
{
    if (!dev)
        return;
    ops(dev)->close(dev);
    free(dev);
}

PapaStatus papa_device_enter(PapaDevice *dev)
{
    return ops(dev)->enter(dev);
}

PapaStatus papa_device_link(PapaDevice *dev, PapaDevice *from)
{
    return ops(dev)->link ? ops(dev)->link(dev, from) : PAPA_OK;
}

bool papa_device_reaches(PapaDevice *dev, const void *memory)
{
    return !ops(dev)->reaches || ops(dev)->reaches(dev, memory);
}

PapaStatus papa_device_free_bytes(PapaDevice *dev, int64_t *out)
{
    *out = INT64_MAX;
    return ops(dev)->free_bytes ? ops(dev)->free_bytes(dev, out) : PAPA_OK;
}

const char *papa_device_name(const PapaDevice *dev)
{
    return ops(dev)->name(dev);
}

/* ---------------------------------------------------------------- memory */

PapaStatus papa_device_alloc(PapaDevice *dev, void **out, size_t bytes, const char *purpose)
{
    *out = NULL;
    return bytes ? ops(dev)->alloc(dev, out, bytes, purpose) : PAPA_OK;
}

void papa_device_free(PapaDevice *dev, void *memory)
{
    if (memory)
        ops(dev)->free(dev, memory);
}

PapaStatus papa_device_copy(PapaDevice *dev, void *to, const void *from, size_t bytes)
{
    return bytes ? ops(dev)->copy(dev, to, from, bytes) : PAPA_OK;
}

PapaStatus papa_device_upload(PapaDevice *dev, void *to, const void *from_host, size_t bytes)
{
    return bytes ? ops(dev)->upload(dev, to, from_host, bytes) : PAPA_OK;
}

PapaStatus papa_device_download(PapaDevice *dev, void *to_host, const void *from, size_t bytes)
{
    return bytes ? ops(dev)->download(dev, to_host, from, bytes) : PAPA_OK;
}

PapaStatus papa_device_zero(PapaDevice *dev, void *to, size_t bytes)
{
    return bytes ? ops(dev)->zero(dev, to, bytes) : PAPA_OK;
}

PapaStatus papa_device_sync(PapaDevice *dev)
{
    return ops(dev)->sync(dev);
}

/* ---------------------------------------------------------------- stages */

PapaStatus papa_stage_open(PapaDevice *dev, PapaStage *out, size_t bytes, const char *purpose)
{
    *out = (PapaStage){.bytes = bytes};
    PAPA_TRY(papa_device_alloc(dev, &out->device, bytes, purpose));
    if (!ops(dev)->alloc_host || !bytes) {
        out->host = out->device;
        return PAPA_OK;
    }
    PapaStatus status = ops(dev)->alloc_host(dev, &out->host, bytes, purpose);
    if (status != PAPA_OK)
        papa_stage_close(dev, out);
    return status;
}

void papa_stage_close(PapaDevice *dev, PapaStage *stage)
{
    if (stage->host && stage->host != stage->device)
        ops(dev)->free_host(dev, stage->host);
    papa_device_free(dev, stage->device);
    *stage = (PapaStage){0};
}

PapaStatus papa_stage_upload(PapaDevice *dev, const PapaStage *stage)
{
    return stage->host == stage->device ? PAPA_OK : ops(dev)->send(dev, stage->device, stage->host, stage->bytes);
}

PapaStatus papa_stage_download(PapaDevice *dev, const PapaStage *stage)
{
    return stage->host == stage->device ? PAPA_OK : ops(dev)->fetch(dev, stage->host, stage->device, stage->bytes);
}

/* ---------------------------------------------------------------- events */

PapaStatus papa_event_new(PapaDevice *dev, PapaEvent **out)
{
    *out = NULL;
    PapaEvent *event = calloc(1, sizeof *event);
    if (!event)
        return papa_fail_memory(sizeof *event, "an event");
    event->dev = dev;
    PapaStatus status = ops(dev)->event_new ? ops(dev)->event_new(dev, &event->point) : PAPA_OK;
    if (status != PAPA_OK) {
        free(event);
        return status;
    }
    *out = event;
    return PAPA_OK;
}

void papa_event_free(PapaEvent *event)
{
    if (event && event->point)
        ops(event->dev)->event_free(event->dev, event->point);
    free(event);
}

PapaStatus papa_event_record(PapaEvent *event, PapaDevice *dev)
{
    return event->point ? ops(dev)->event_record(dev, event->point) : PAPA_OK;
}

PapaStatus papa_event_wait(PapaEvent *event)
{
    return event->point ? ops(event->dev)->event_wait(event->point) : PAPA_OK;
}

PapaStatus papa_event_follow(PapaDevice *dev, PapaEvent *event)
{
    return event->point ? ops(dev)->event_follow(dev, event->point) : PAPA_OK;
}

/* ---------------------------------------------------------------- replays */

PapaStatus papa_device_capture(PapaDevice *dev, PapaReplay **out, papa_capture_fn *body, void *context)
{
    *out = NULL;
    if (!ops(dev)->capture)
        return body(context, dev);
    PapaReplay *replay = calloc(1, sizeof *replay);
    if (!replay)
        return papa_fail_memory(sizeof *replay, "a recorded step");
    replay->dev = dev;
    PapaStatus status = ops(dev)->capture(dev, &replay->work, body, context);
    if (status != PAPA_OK || !replay->work) {
        free(replay);
        return status;
    }
    *out = replay;
    return PAPA_OK;
}

PapaStatus papa_replay_run(PapaReplay *replay, PapaDevice *dev)
{
    return ops(dev)->replay(dev, replay->work);
}

void papa_replay_free(PapaReplay *replay)
{
    if (replay)
        ops(replay->dev)->replay_free(replay->work);
    free(replay);
}
