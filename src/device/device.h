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

#include "base/status.h"

#include <stdint.h>

typedef enum PapaDeviceKind { PAPA_CPU, PAPA_CUDA } PapaDeviceKind;

typedef struct PapaDevice {
    PapaDeviceKind kind;
    int n_threads;  /* CPU: threads inside one operator */
    void *library;  /* the device's handles (oneDNN engine and stream; CUDA stream, cuBLAS, cuDNN, a fixed scratch for sums), owned */
} PapaDevice;

/* A CPU worker's device with this many threads inside an operator (>= 1). Call on the thread that will use it. */
PapaStatus papa_device_open_cpu(PapaDevice **out, int n_threads);
void papa_device_close(PapaDevice *dev);

/* Sets how many threads the operators that run on the calling thread may use (OpenMP's thread count is per thread). */
void papa_device_enter(PapaDevice *dev);

/* Device memory, aligned to 64 bytes at least, not initialised. bytes may be 0 (then *out is NULL). Large blocks ask for huge pages. */
PapaStatus papa_device_alloc(PapaDevice *dev, void **out, size_t bytes, const char *purpose);
void papa_device_free(PapaDevice *dev, void *memory);

/* In order with the device's kernels. upload and download return when the host side may be reused. */
PapaStatus papa_device_upload(PapaDevice *dev, void *to, const void *from_host, size_t bytes);
PapaStatus papa_device_download(PapaDevice *dev, void *to_host, const void *from, size_t bytes);
PapaStatus papa_device_copy(PapaDevice *dev, void *to, const void *from, size_t bytes);
PapaStatus papa_device_zero(PapaDevice *dev, void *to, size_t bytes);
PapaStatus papa_device_sync(PapaDevice *dev);

/* The half of a kernel that runs on dev: PAPA_KERNEL(dev, papa_relu_fwd)(dev, y, x, n). */
#ifdef PAPA_HAVE_CUDA
#define PAPA_KERNEL(dev, name) ((dev)->kind == PAPA_CUDA ? name##_cuda : name##_cpu)
#else
#define PAPA_KERNEL(dev, name) ((void)(dev), name##_cpu)
#endif

/* ---- for the CPU halves ---- */

/* Runs body(context, begin, end) over pieces of [0, n) on dev's threads. Pieces are at least grain long. With one thread
 * it is a plain call. The cut depends on the thread count: a body that sums across its range keeps its own fixed blocks. */
typedef void papa_range_fn(void *context, int64_t begin, int64_t end);
void papa_ranges(const PapaDevice *dev, int64_t n, int64_t grain, papa_range_fn *body, void *context);

/* Compiled once for each of the usual x86-64 levels and picked at load time; plain elsewhere. For static range bodies. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(PAPA_NO_CLONES)
#define PAPA_SIMD __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define PAPA_SIMD
#endif

/* In front of a loop whose arrays are the same or disjoint: no iteration reads what another wrote. Clang finds out at run time. */
#ifdef __clang__
#define PAPA_IVDEP
#else
#define PAPA_IVDEP _Pragma("GCC ivdep")
#endif

#endif
