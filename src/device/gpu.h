/* What a GPU is, as far as choosing kernels and planning for it go: asked of the driver, or read from a file, so that plans can be made
 * for a GPU that is not there. */
#ifndef PAPA_GPU_H
#define PAPA_GPU_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct PapaGpu {
    char name[128];
    int capability;             /* 10 * major + minor: 75, 80, ..., 120 */
    int multiprocessors;
    int64_t memory;             /* bytes in all */
    int64_t l2_cache;           /* bytes */
    int64_t max_grid[3], max_block[3];
    int64_t max_threads;        /* in a block */
    int64_t shared_per_block;   /* bytes without and with the opt-in */
    int64_t shared_per_block_optin;
    double peak_fp32, peak_tf32, peak_bf16; /* floating-point operations a second, dense; from the file; 0: not known */
    double bandwidth;                       /* bytes a second; from the file; 0: not known */
    char *json;                 /* from a file: the part that cuDNN reads (CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION); else NULL */
};
typedef struct PapaGpu PapaGpu;

/* A file of testdata/gpus. Errors name the file and the key. */
PapaStatus papa_gpu_read(PapaGpu *out, const char *path);
void papa_gpu_clear(PapaGpu *gpu);

/* What a described device was given to do, in order, and the memory it was asked for. Zeroed before use; free launches. */
typedef struct PapaLaunch {
    const char *what;  /* a kernel's name, "cuDNN ...", "cuBLASLt ..."; lives as long as the process or the plan */
    int64_t blocks, threads; /* of a kernel of our own: blocks in all, threads in each */
    size_t shared;     /* dynamic shared memory, bytes */
    double flops;      /* of a library's product; 0: not counted */
} PapaLaunch;

struct PapaLaunchLog {
    PapaLaunch *launches;
    int64_t n, capacity;
    int64_t bytes; /* of device memory, all that was ever asked for */
    bool failed;   /* memory ran out: the list is not whole */
};
typedef struct PapaLaunchLog PapaLaunchLog;

#endif
