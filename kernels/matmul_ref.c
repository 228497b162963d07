/* Reference half of matmul.h: ROWS rows of C and LANES of its columns at a time. op(B) is brought into the order (block of LANES columns, k, lane)
 * first, filled up with zeros, so that it is gone through as it lies, transposed or not. */
#include "kernels/matmul.h"

#include <stdlib.h>
#include <string.h>

#define ROWS 4
#define LANES 16
#define GRAIN 65536 /* products that are worth a thread */

struct PapaMatmul {
    PapaMatmulDesc desc;
    int64_t n_blocks; /* of columns */
};

PapaStatus papa_matmul_create_ref(PapaDevice *dev, PapaMatmul **out, const PapaMatmulDesc *desc)
{
    (void)dev;
    *out = NULL;
    PAPA_TRY(papa_matmul_check(desc));
    assert(desc->a == PAPA_FLOAT64 && desc->b == PAPA_FLOAT64 && desc->c == PAPA_FLOAT64);
    PapaMatmul *matmul = malloc(sizeof *matmul);
    if (!matmul)
        return papa_fail_memory(sizeof *matmul, "a product's plan");
    *matmul = (PapaMatmul){*desc, (desc->N + LANES - 1) / LANES};
    *out = matmul;
    return PAPA_OK;
}

void papa_matmul_free_ref(PapaMatmul *matmul)
{
    free(matmul);
}

size_t papa_matmul_workspace_ref(const PapaMatmul *matmul)
{
    return (size_t)(matmul->n_blocks * matmul->desc.K * LANES) * sizeof(double);
}

/* One matrix of the batch. */
typedef struct Pass {
    const PapaMatmul *matmul;
    double *c;
    const double *a, *b, *bias; /* b: in our order */
} Pass;

static void order_columns(const PapaMatmul *matmul, double *to, const double *b)
{
    const PapaMatmulDesc *d = &matmul->desc;
    if (d->N % LANES && d->K)
        memset(to + (matmul->n_blocks - 1) * d->K * LANES, 0, (size_t)(d->K * LANES) * sizeof *to);
    for (int64_t n = 0; n < d->N; n++)
        for (int64_t k = 0; k < d->K; k++)
            to[(n / LANES * d->K + k) * LANES + n % LANES] = d->transpose_b ? b[n * d->ldb + k] : b[k * d->ldb + n];
}

static inline __attribute__((always_inline)) void write_row(const Pass *p, const double *sum, int64_t m, int64_t first)
{
    const PapaMatmulDesc *d = &p->matmul->desc;
    double *c = p->c + m * d->ldc + first;
    for (int64_t j = 0; j < LANES && first + j < d->N; j++) {
        double y = (double)d->alpha * sum[j] + (p->bias ? p->bias[first + j] : 0);
        y += d->beta != 0 ? (double)d->beta * c[j] : 0;
        c[j] = d->relu && y < 0 ? 0 : y;
    }
}

static inline __attribute__((always_inline)) void block_of_rows(const Pass *p, int64_t m, int64_t block)
{
    const PapaMatmulDesc *d = &p->matmul->desc;
    const int64_t step = d->transpose_a ? d->lda : 1;
    const double *a[ROWS], *b = p->b + block * d->K * LANES;
    double sum[ROWS][LANES] = {{0}};
    for (int64_t r = 0; r < ROWS; r++) { /* behind the last row, that one again: its sum is not written */
        const int64_t row = m + r < d->M ? m + r : d->M - 1;
        a[r] = p->a + (d->transpose_a ? row : row * d->lda);
    }
    for (int64_t k = 0; k < d->K; k++) {
#pragma GCC unroll 4
        for (int r = 0; r < ROWS; r++) {
            const double v = a[r][k * step];
#pragma omp simd
            for (int lane = 0; lane < LANES; lane++)
                sum[r][lane] += v * b[k * LANES + lane];
        }
    }
    for (int64_t r = 0; r < ROWS && m + r < d->M; r++)
        write_row(p, sum[r], m + r, block * LANES);
}

/* Work is counted by block of columns, then by ROWS rows, so that a block stays in the cache. */
PAPA_SIMD static void blocks(void *context, int64_t begin, int64_t end)
{
    const Pass *p = context;
    const int64_t n = (p->matmul->desc.M + ROWS - 1) / ROWS;
    for (int64_t at = begin; at < end; at++)
        block_of_rows(p, at % n * ROWS, at / n);
}

PapaStatus papa_matmul_run_ref(PapaDevice *dev, const PapaMatmul *matmul, void *c, const void *a, const void *b, const float *bias, void *workspace)
{
    const PapaMatmulDesc *d = &matmul->desc;
    assert(!bias == !d->bias);
    for (int64_t i = 0; i < d->batch; i++) {
        Pass p = {.matmul = matmul, .c = (double *)c + i * d->stride_c, .a = (const double *)a + i * d->stride_a, .b = workspace, .bias = (const double *)bias};
        if (!i || d->stride_b)
            order_columns(matmul, workspace, (const double *)b + i * d->stride_b);
        papa_ranges(dev, matmul->n_blocks * ((d->M + ROWS - 1) / ROWS), 1 + GRAIN / (ROWS * LANES * (d->K + 1)), blocks, &p);
    }
    return PAPA_OK;
}
