/* Products of row-major matrices, one or a batch, with what usually follows them.
 *
 *     C[i] = alpha * op(A[i]) op(B[i]) + beta * C[i] + bias, or max(0, that), for i in [0, batch)
 *
 * op(A): (M, K), op(B): (K, N), C: (M, N), bias: (N), added to every row. op is the identity or the transpose; A is stored
 * as (M, K), transposed as (K, M), with rows lda elements apart, and B likewise. The matrices of a batch are stride_a,
 * stride_b, stride_c elements apart; stride_a or stride_b of 0 uses one matrix for all. C must not overlap A or B.
 * K = 0 gives C = beta * C + bias. With beta = 0, C is not read. No allocation; asynchronous on dev's stream. */
#ifndef PAPA_MATMUL_H
#define PAPA_MATMUL_H

#include "device/device.h"

typedef struct PapaMatmulDesc {
    int64_t batch, M, N, K;               /* >= 0 */
    bool transpose_a, transpose_b;
    int64_t lda, ldb, ldc;                /* elements between rows as stored, at least a row's length */
    int64_t stride_a, stride_b, stride_c; /* elements between matrices; of no meaning with batch <= 1 */
    float alpha, beta;
    bool bias, relu;
    PapaElement a, b, c;                  /* what each is made of; the CPU has float32 only, a reference device float64. bias: float32, there float64 */
} PapaMatmulDesc;

/* What was chosen for a shape. Immutable; shared by all workers whose devices have the same kind and number of threads. */
typedef struct PapaMatmul PapaMatmul;

/* PAPA_ERR_ARGUMENT where desc contradicts itself. */
PapaStatus papa_matmul_check(const PapaMatmulDesc *desc);

/* Errors: PAPA_ERR_ARGUMENT (papa_matmul_check), PAPA_ERR_UNSUPPORTED (cuBLASLt has no implementation), PAPA_ERR_DEVICE, PAPA_ERR_MEMORY. */
typedef PapaStatus papa_matmul_create_fn(PapaDevice *dev, PapaMatmul **out, const PapaMatmulDesc *desc);
papa_matmul_create_fn papa_matmul_create_cpu, papa_matmul_create_cuda, papa_matmul_create_ref;

typedef void papa_matmul_free_fn(PapaMatmul *matmul);
papa_matmul_free_fn papa_matmul_free_cpu, papa_matmul_free_cuda, papa_matmul_free_ref;

/* Bytes; aligned like papa_device_alloc's memory. */
typedef size_t papa_matmul_workspace_fn(const PapaMatmul *matmul);
papa_matmul_workspace_fn papa_matmul_workspace_cpu, papa_matmul_workspace_cuda, papa_matmul_workspace_ref;

/* bias is NULL exactly if desc.bias is false. */
typedef PapaStatus papa_matmul_run_fn(PapaDevice *dev, const PapaMatmul *matmul, void *c, const void *a, const void *b,
    const float *bias, void *workspace);
papa_matmul_run_fn papa_matmul_run_cpu, papa_matmul_run_cuda, papa_matmul_run_ref;

/* sums[n] (+)= sum over m of x[m * ldx + n]. x: (M, N), an activation with rows ldx elements apart. The order of summing does not depend
 * on the number of threads. accumulate adds to what is there. M may be 0. */
typedef PapaStatus papa_colsum_fn(PapaDevice *dev, float *sums, const PapaReal *x, int64_t M, int64_t N, int64_t ldx, bool accumulate);
papa_colsum_fn papa_colsum_cpu, papa_colsum_cuda;

#endif
