/* Reference half of matmul.h. Rows of C are shared out; a row is made in pieces of its own, so that threads change nothing. */
#include "kernels/matmul.h"

#include <stdlib.h>

#define TILE 32     /* columns of C that are summed side by side */
#define GRAIN 65536 /* products that are worth a thread */

struct PapaMatmul {
    PapaMatmulDesc desc;
};

typedef struct Pass {
    const PapaMatmulDesc *desc;
    double *c;
    const double *a, *b, *bias;
} Pass;

PapaStatus papa_matmul_create_ref(PapaDevice *dev, PapaMatmul **out, const PapaMatmulDesc *desc)
{
    (void)dev;
    *out = NULL;
    PAPA_TRY(papa_matmul_check(desc));
    assert(desc->a == PAPA_FLOAT64 && desc->b == PAPA_FLOAT64 && desc->c == PAPA_FLOAT64);
    PapaMatmul *matmul = malloc(sizeof *matmul);
    if (!matmul)
        return papa_fail_memory(sizeof *matmul, "a product's plan");
    matmul->desc = *desc;
    *out = matmul;
    return PAPA_OK;
}

void papa_matmul_free_ref(PapaMatmul *matmul)
{
    free(matmul);
}

size_t papa_matmul_workspace_ref(const PapaMatmul *matmul)
{
    (void)matmul;
    return 0;
}

/* sum[0 .. n-1] = row of op(A) times columns of op(B). B as stored has those columns side by side. */
static inline __attribute__((always_inline)) void columns(double *sum, const double *a, int64_t a_step, const double *b, int64_t ldb, int64_t K, int64_t n)
{
    for (int64_t j = 0; j < n; j++)
        sum[j] = 0;
    for (int64_t k = 0; k < K; k++)
        for (int64_t j = 0; j < n; j++)
            sum[j] += a[k * a_step] * b[k * ldb + j];
}

/* One element, where B's column is stored as a row. */
static inline __attribute__((always_inline)) double dot(const double *a, int64_t a_step, const double *b, int64_t K)
{
    double sum = 0;
    if (a_step == 1) {
#pragma omp simd reduction(+ : sum)
        for (int64_t k = 0; k < K; k++)
            sum += a[k] * b[k];
    } else {
        for (int64_t k = 0; k < K; k++)
            sum += a[k * a_step] * b[k];
    }
    return sum;
}

static inline __attribute__((always_inline)) void row(const Pass *p, int64_t i)
{
    const PapaMatmulDesc *d = p->desc;
    const int64_t batch = i / d->M, m = i % d->M, a_step = d->transpose_a ? d->lda : 1;
    const double *a = p->a + batch * d->stride_a + (d->transpose_a ? m : m * d->lda), *b = p->b + batch * d->stride_b;
    double *c = p->c + batch * d->stride_c + m * d->ldc;
    for (int64_t first = 0; first < d->N; first += TILE) {
        const int64_t n = d->N - first < TILE ? d->N - first : TILE;
        double sum[TILE];
        if (d->transpose_b)
            for (int64_t j = 0; j < n; j++)
                sum[j] = dot(a, a_step, b + (first + j) * d->ldb, d->K);
        else if (n == TILE) /* a constant, for the compiler */
            columns(sum, a, a_step, b + first, d->ldb, d->K, TILE);
        else
            columns(sum, a, a_step, b + first, d->ldb, d->K, n);
        for (int64_t j = 0; j < n; j++) {
            double y = (double)d->alpha * sum[j] + (p->bias ? p->bias[first + j] : 0);
            y += d->beta != 0 ? (double)d->beta * c[first + j] : 0;
            c[first + j] = d->relu && y < 0 ? 0 : y;
        }
    }
}

PAPA_SIMD static void rows(void *context, int64_t begin, int64_t end)
{
    for (int64_t i = begin; i < end; i++)
        row(context, i);
}

PapaStatus papa_matmul_run_ref(PapaDevice *dev, const PapaMatmul *matmul, void *c, const void *a, const void *b, const float *bias, void *workspace)
{
    (void)workspace;
    const PapaMatmulDesc *d = &matmul->desc;
    assert(!bias == !d->bias);
    Pass p = {.desc = d, .c = c, .a = a, .b = b, .bias = (const double *)bias};
    papa_ranges(dev, d->batch * d->M, 1 + (int64_t)(GRAIN / ((double)d->N * (double)d->K + 1)), rows, &p);
    return PAPA_OK;
}
