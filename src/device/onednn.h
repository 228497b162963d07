/* oneDNN behind one door: the C API of 2.x and of 3.x differ in how descriptions and primitives are made, and only onednn.c
 * knows it. What the kernels get: primitives that are immutable, keep no memory of their own, and may be run by several
 * threads at once, each with its own stream and scratch memory. Everything is float32. */
#ifndef PAPA_ONEDNN_H
#define PAPA_ONEDNN_H

#include "device/device.h"

/* What a CPU device's `library` points to: one worker's stream on the engine that the process shares. */
typedef struct PapaDnnl PapaDnnl;

PapaStatus papa_dnnl_open(PapaDnnl **out);
void papa_dnnl_close(PapaDnnl *dnnl);

/* "2.6.3", as linked. */
const char *papa_dnnl_version(void);

/* The arguments that a primitive may have. */
typedef enum PapaDnnlArg {
    PAPA_DNNL_X,    /* source; for the gradient of the data, the source's gradient */
    PAPA_DNNL_W,    /* weights; for the gradient of the weights, their gradient */
    PAPA_DNNL_B,    /* bias */
    PAPA_DNNL_Y,    /* destination; for both gradients, its gradient */
    PAPA_DNNL_N_ARGS,
} PapaDnnlArg;

#define PAPA_DNNL_MAX_DIMS 5

/* Where the elements lie. strides in elements; any: the library chooses (a reorder then stands between). */
typedef struct PapaDnnlLayout {
    int n_dims; /* 0: the argument is absent */
    int64_t dims[PAPA_DNNL_MAX_DIMS], strides[PAPA_DNNL_MAX_DIMS];
    bool any;
} PapaDnnlLayout;

typedef struct PapaDnnlOp PapaDnnlOp;

typedef enum PapaDnnlPass { PAPA_DNNL_FWD, PAPA_DNNL_BWD_DATA, PAPA_DNNL_BWD_WEIGHTS } PapaDnnlPass;

typedef struct PapaDnnlConv {
    PapaDnnlPass pass;
    bool training;                                /* forward only: a backward pass will follow */
    PapaDnnlLayout args[PAPA_DNNL_N_ARGS];        /* x (N, C, H, W), w ([G,] K, C, R, S), b (K), y (N, K, OH, OW) in logical order */
    int64_t stride[2], dilation[2], pad_low[2], pad_high[2];
    bool relu;
} PapaDnnlConv;

/* Fails with PAPA_ERR_DEVICE where the library has no implementation, or PAPA_ERR_MEMORY. The thread count that a primitive
 * is made for is the calling thread's (papa_device_enter). */
PapaStatus papa_dnnl_conv(PapaDnnlOp **out, const PapaDnnlConv *conv);

/* Between a layout of ours and the one that op chose for arg: into the op's, or (back) out of it. *out = NULL if they are
 * the same. */
PapaStatus papa_dnnl_reorder(PapaDnnlOp **out, const PapaDnnlOp *op, PapaDnnlArg arg, const PapaDnnlLayout *ours, bool back);

void papa_dnnl_free(PapaDnnlOp *op);

/* The library's name for the implementation, as "jit:avx512_core". Lives as long as op. */
const char *papa_dnnl_implementation(const PapaDnnlOp *op);
size_t papa_dnnl_arg_bytes(const PapaDnnlOp *op, PapaDnnlArg arg);
size_t papa_dnnl_scratch_bytes(const PapaDnnlOp *op);

/* args[i] NULL: absent. scratch: papa_dnnl_scratch_bytes, aligned to 64 bytes. A reorder takes X and gives Y. */
PapaStatus papa_dnnl_run(PapaDevice *dev, const PapaDnnlOp *op, void *const args[PAPA_DNNL_N_ARGS], void *scratch);

/* C (M, N) = alpha * op(A) op(B) + beta * C, row-major; M, N, K > 0. On the calling thread's number of threads, on one inside a
 * parallel region. */
PapaStatus papa_dnnl_sgemm(bool transpose_a, bool transpose_b, int64_t M, int64_t N, int64_t K, float alpha, const float *a, int64_t lda,
    const float *b, int64_t ldb, float beta, float *c, int64_t ldc);

#endif
