/* What a kind of device must be able to do: device.h's functions, behind its dispatch. Internal to src/device. */
#ifndef PAPA_DEVICE_OPS_H
#define PAPA_DEVICE_OPS_H

#include "device/device.h"

struct PapaEvent {
    PapaDevice *dev; /* that made it */
    void *point;     /* NULL on the CPU */
};

struct PapaReplay {
    PapaDevice *dev; /* that recorded it */
    void *work;
};

/* Sizes are not 0; stages' host and device blocks are made one by one. */
typedef struct PapaDeviceOps {
    void (*close)(PapaDevice *dev);
    PapaStatus (*enter)(PapaDevice *dev);
    bool (*reaches)(PapaDevice *dev, const void *memory); /* NULL: always */
    PapaStatus (*link)(PapaDevice *dev, PapaDevice *from); /* NULL: nothing to do */
    PapaStatus (*free_bytes)(PapaDevice *dev, int64_t *out); /* NULL: not known */
    const char *(*name)(const PapaDevice *dev);
    PapaStatus (*alloc)(PapaDevice *dev, void **out, size_t bytes, const char *purpose);
    void (*free)(PapaDevice *dev, void *memory);
    PapaStatus (*alloc_host)(PapaDevice *dev, void **out, size_t bytes, const char *purpose); /* pinned; NULL: the device's memory is the host's */
    void (*free_host)(PapaDevice *dev, void *memory);
    PapaStatus (*upload)(PapaDevice *dev, void *to, const void *from_host, size_t bytes);
    PapaStatus (*download)(PapaDevice *dev, void *to_host, const void *from, size_t bytes);
    PapaStatus (*copy)(PapaDevice *dev, void *to, const void *from, size_t bytes);
    PapaStatus (*send)(PapaDevice *dev, void *to, const void *from_host, size_t bytes);  /* pinned; papa_stage_upload */
    PapaStatus (*fetch)(PapaDevice *dev, void *to_host, const void *from, size_t bytes); /* pinned; in order, does not wait */
    PapaStatus (*zero)(PapaDevice *dev, void *to, size_t bytes);
    PapaStatus (*sync)(PapaDevice *dev);
    PapaStatus (*event_new)(PapaDevice *dev, void **out); /* NULL, with those below: every point has passed */
    void (*event_free)(PapaDevice *dev, void *point);
    PapaStatus (*event_record)(PapaDevice *dev, void *point);
    PapaStatus (*event_wait)(void *point);
    PapaStatus (*event_follow)(PapaDevice *dev, void *point);
    PapaStatus (*capture)(PapaDevice *dev, void **out, papa_capture_fn *body, void *context); /* NULL, with those below: body runs */
    PapaStatus (*replay)(PapaDevice *dev, void *work);
    void (*replay_free)(void *work);
} PapaDeviceOps;

extern const PapaDeviceOps papa_device_ops_cpu, papa_device_ops_cuda;

#endif
