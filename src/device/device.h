/* A device as one worker sees it: memory, order of execution, library handles.
 *
 * A PapaDevice belongs to one worker (one thread on the CPU, one stream on a GPU) and is not shared. It is the only place
 * that knows which device it is; kernels are reached through PAPA_KERNEL, which picks the half that fits.
 *
 * What every kernel's contract leaves unsaid: the memory it is given lies on its device, results of one number too. Numbers
 * that stay the same for a whole run are passed by value, or in a description (a struct of shapes, a walk, a region, a list of
 * pointers) that lies in host memory and is read before the call returns. Arrays of one call don't overlap unless it says so. Equal
 * calls give equal bits. */
#ifndef PAPA_DEVICE_H
#define PAPA_DEVICE_H

#include "base/simd.h"
#include "base/status.h"

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum PapaDeviceKind { PAPA_CPU, PAPA_CUDA, PAPA_REFERENCE } PapaDeviceKind;

/* What the elements of a tensor are on the device. */
typedef enum PapaElement { PAPA_FLOAT32, PAPA_BFLOAT16, PAPA_FLOAT64 } PapaElement;

/* An element of an activation, or of an activation's gradient: float32, or bfloat16 on a CUDA device whose `element` says so. Only the CUDA
 * halves ever meet the latter; everybody else passes pointers on, and moves them with papa_at. `float` in a contract is float32 on both:
 * parameters and their gradients, statistics, sums, losses.
 *
 * On a reference device everything is float64, what contracts call PapaReal and arrays that they call float: the third halves (NAME_ref.c),
 * plain C, are what the contracts mean, computed in double. They exist for what a forward pass in inference needs. Only the parameter store is float32 there
 * too; papa_convert brings it into float64. */
typedef float PapaReal;

typedef struct PapaDevice {
    PapaDeviceKind kind;
    int n_threads;        /* CPU, reference: threads inside one operator */
    PapaPrecision precision; /* CUDA: of products; the CPU computes in float32 */
    bool tune;            /* CUDA: a plan is chosen by timing several */
    PapaElement element;  /* of activations: PAPA_BFLOAT16 with PAPA_PRECISION_BF16, PAPA_FLOAT64 on a reference device */
    void *library;        /* the device's handles (PapaDnnl; PapaCuda), owned; NULL: it has none */
} PapaDevice;

static inline size_t papa_element_bytes(PapaElement element)
{
    return element == PAPA_BFLOAT16 ? 2 : element == PAPA_FLOAT64 ? 8 : 4;
}

/* What arrays of `float` in contracts are made of on this device. */
static inline PapaElement papa_float_element(const PapaDevice *dev)
{
    return dev->kind == PAPA_REFERENCE ? PAPA_FLOAT64 : PAPA_FLOAT32;
}

/* The activation's element that stands n behind (in front of, n < 0) this one. */
static inline PapaReal *papa_at(const PapaDevice *dev, const PapaReal *first, int64_t n)
{
    return (PapaReal *)((uintptr_t)first + (uintptr_t)(n * (int64_t)papa_element_bytes(dev->element)));
}

/* A CPU worker's device with this many threads inside an operator (>= 1). Call on the thread that will use it. */
PapaStatus papa_device_open_cpu(PapaDevice **out, int n_threads);

/* A worker's device that computes in double, to check others by: no oneDNN, and nothing but inference. */
PapaStatus papa_device_open_reference(PapaDevice **out, int n_threads);

/* A CUDA worker's device: a stream of its own on GPU `ordinal`, with the library handles that go with it. May be used by any one thread
 * at a time. Errors: PAPA_ERR_DEVICE says which part is missing: the build, driver, device, compute capability, library version. */
PapaStatus papa_device_open_cuda(PapaDevice **out, int ordinal, PapaPrecision precision);

/* A CUDA device that is only described (src/device/gpu.h): plans are made for it by the real libraries, kernels are counted instead of
 * run, memory is only added up: addresses that nobody may follow. Errors: PAPA_ERR_DEVICE: this build has no CUDA. */
typedef struct PapaGpu PapaGpu;
typedef struct PapaLaunchLog PapaLaunchLog;
PapaStatus papa_device_open_described(PapaDevice **out, const PapaGpu *gpu, PapaPrecision precision, PapaLaunchLog *log);

/* Number of GPUs that papa_device_open_cuda can open. 0 where there are none, and papa_error() then says why. */
int papa_device_count_cuda(void);

void papa_device_close(PapaDevice *dev);

/* Binds the calling thread to the device: OpenMP's number of threads, CUDA's current GPU, which are both per thread. */
PapaStatus papa_device_enter(PapaDevice *dev);

/* Device memory, aligned to 256 bytes on a GPU and 64 on the CPU, not initialised. bytes may be 0 (then *out is NULL). Large blocks of the
 * CPU's ask for huge pages. */
PapaStatus papa_device_alloc(PapaDevice *dev, void **out, size_t bytes, const char *purpose);
void papa_device_free(PapaDevice *dev, void *memory);

/* In order with the device's kernels. upload and download return when the host side may be reused. copy may come from
 * another GPU's memory. */
PapaStatus papa_device_upload(PapaDevice *dev, void *to, const void *from_host, size_t bytes);
PapaStatus papa_device_download(PapaDevice *dev, void *to_host, const void *from, size_t bytes);
PapaStatus papa_device_copy(PapaDevice *dev, void *to, const void *from, size_t bytes);
PapaStatus papa_device_zero(PapaDevice *dev, void *to, size_t bytes);
PapaStatus papa_device_sync(PapaDevice *dev);

/* Copies between the memories of two GPUs take the direct way from now on, where the machine has one (NVLink, PCIe), in the direction to dev. */
PapaStatus papa_device_link(PapaDevice *dev, PapaDevice *from);

/* Whether dev's kernels reach this memory, which papa_device_alloc gave for a device of the same kind: another GPU's they don't. */
bool papa_device_reaches(PapaDevice *dev, const void *memory);

/* Bytes that papa_device_alloc can still give. INT64_MAX on the CPU, which does not know. */
PapaStatus papa_device_free_bytes(PapaDevice *dev, int64_t *out);

/* "cpu", "reference" or the GPU's name. Lives as long as dev. */
const char *papa_device_name(const PapaDevice *dev);

/* ---- what runs ahead of the host: nothing of it waits, allocates or copies pageable memory. All of it works on the CPU too, at once ---- */

/* A block that the host writes and kernels read, or the other way round. On the CPU both are one; on a GPU host memory is pinned. */
typedef struct PapaStage {
    void *host, *device;
    size_t bytes;
} PapaStage;
PapaStatus papa_stage_open(PapaDevice *dev, PapaStage *out, size_t bytes, const char *purpose);
void papa_stage_close(PapaDevice *dev, PapaStage *stage); /* a zeroed one is fine */
/* Starts at once, beside what dev still computes; what dev is given from now on waits for it. Nothing under way may use either side any more: the
 * host has waited for an event behind the last use. It may write its side again after an event recorded behind this has passed. */
PapaStatus papa_stage_upload(PapaDevice *dev, const PapaStage *stage);
/* In order with the kernels. The host may read its side after an event recorded behind it has passed. */
PapaStatus papa_stage_download(PapaDevice *dev, const PapaStage *stage);

/* A point in a device's order of work. On the CPU every point has passed. */
typedef struct PapaEvent PapaEvent;
PapaStatus papa_event_new(PapaDevice *dev, PapaEvent **out);
void papa_event_free(PapaEvent *event);
PapaStatus papa_event_record(PapaEvent *event, PapaDevice *dev);    /* the point behind all that dev was given so far */
PapaStatus papa_event_wait(PapaEvent *event);                       /* the host waits; at once if it was never recorded */
PapaStatus papa_event_follow(PapaDevice *dev, PapaEvent *event);    /* what dev is given from now on waits */

/* Work recorded once and replayed: everything that body gives dev, which may not allocate, wait, or copy pageable memory, for pointers
 * and shapes that stay the same. On the CPU, and with a described device, there is nothing to record: *out is NULL, and body has run.
 * On a GPU body's work has NOT run after capture, only after a replay. */
typedef struct PapaReplay PapaReplay;
typedef PapaStatus papa_capture_fn(void *context, PapaDevice *dev);
PapaStatus papa_device_capture(PapaDevice *dev, PapaReplay **out, papa_capture_fn *body, void *context);
PapaStatus papa_replay_run(PapaReplay *replay, PapaDevice *dev);
void papa_replay_free(PapaReplay *replay);

/* The half of a kernel that runs on dev: PAPA_KERNEL(dev, papa_relu_bwd)(dev, dx, dy, y, n, false). PAPA_FORWARD_KERNEL is for those that a forward
 * pass in inference reaches: they have a third half, for the reference device. */
#ifdef PAPA_HAVE_CUDA
#define PAPA_KERNEL(dev, name) (assert((dev)->kind != PAPA_REFERENCE), (dev)->kind == PAPA_CUDA ? name##_cuda : name##_cpu)
#define PAPA_FORWARD_KERNEL(dev, name) ((dev)->kind == PAPA_REFERENCE ? name##_ref : (dev)->kind == PAPA_CUDA ? name##_cuda : name##_cpu)
#else
#define PAPA_KERNEL(dev, name) (assert((dev)->kind != PAPA_REFERENCE), (void)(dev), name##_cpu)
#define PAPA_FORWARD_KERNEL(dev, name) ((dev)->kind == PAPA_REFERENCE ? name##_ref : name##_cpu)
#endif

/* ---- for the CPU and the reference halves ---- */

/* Runs body(context, begin, end) over pieces of [0, n) on dev's threads. Pieces are at least grain long. With one thread
 * it is a plain call. The cut depends on the thread count: a body that sums across its range keeps its own fixed blocks. */
typedef void papa_range_fn(void *context, int64_t begin, int64_t end);
void papa_ranges(const PapaDevice *dev, int64_t n, int64_t grain, papa_range_fn *body, void *context);

#endif
