/* The inside of a CUDA device, for src/device and the CUDA halves of kernels. */
#ifndef PAPA_CUDA_H
#define PAPA_CUDA_H

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <cudnn.h>

#ifdef __cplusplus
#include <cstddef>
#include <cstdint>
extern "C" { /* what the CUDA halves of kernels call is C, in these as well */
#endif

#include "device/device.h"
#include "device/gpu.h"

/* The scratch that belongs to the device: partial sums of a call's blocks lie here from one of its kernels to the next. Its contents mean
 * nothing between calls. */
#define PAPA_CUDA_SCRATCH ((size_t)8 << 20)

typedef struct PapaCuda {
    int ordinal;             /* of the GPU; -1: described */
    cudaStream_t stream;     /* never the NULL stream */
    cudaStream_t uploads;    /* of stages, beside it */
    cudaEvent_t sent;        /* the last upload */
    cublasLtHandle_t blas;
    cudnnHandle_t dnn;       /* NULL: described */
    cudnnBackendDescriptor_t described; /* cuDNN's properties of a described device, else NULL */
    void *scratch;           /* PAPA_CUDA_SCRATCH bytes */
    PapaGpu gpu;
    PapaLaunchLog *log;      /* of a described device; else NULL */
} PapaCuda;

static inline PapaCuda *papa_cuda(const PapaDevice *dev)
{
    return (PapaCuda *)dev->library;
}

/* PAPA_OK, or PAPA_ERR_DEVICE (PAPA_ERR_MEMORY) with "what: what CUDA says". */
PapaStatus papa_cuda_check(cudaError_t error, const char *what);
PapaStatus papa_cudnn_check(cudnnStatus_t status, const char *what);
PapaStatus papa_cublas_check(cublasStatus_t status, const char *what);
#define PAPA_TRY_CUDA(call) PAPA_TRY(papa_cuda_check((call), #call))

/* In front of a launch: whether it is to be made. On a described device it is only written down (NULL log: nothing is). */
bool papa_cuda_launches(PapaDevice *dev, const char *kernel, int64_t blocks, int64_t threads, size_t shared);
/* Behind it: what the launch itself reported. */
PapaStatus papa_cuda_launched(PapaDevice *dev, const char *kernel);
/* The same for a library's call. */
bool papa_cuda_calls(PapaDevice *dev, const char *what, double flops);

#ifdef __cplusplus
}
#endif
#endif
