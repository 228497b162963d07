/* Matrix products by oneDNN's sgemm, column sums by our own loop. sgemm was measured level with oneDNN's matmul primitives
 * (2.6, AVX-512, from 128x10x64 to 4160x192x192) and needs no plan per shape, so the plan is just the shape. */
#include "kernels/matmul.h"
#include "device/onednn.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct PapaMatmul {
    PapaMatmulDesc desc;
};

PapaStatus papa_matmul_check(const PapaMatmulDesc *d)
{
    int64_t row_a = d->transpose_a ? d->M : d->K, row_b = d->transpose_b ? d->K : d->N;
    if (d->batch < 0 || d->M < 0 || d->N < 0 || d->K < 0)
        return papa_fail(PAPA_ERR_ARGUMENT, "matrix product: batch %lld, M %lld, N %lld, K %lld, expected none below 0",
            (long long)d->batch, (long long)d->M, (long long)d->N, (long long)d->K);
    if (d->lda < row_a || d->ldb < row_b || d->ldc < d->N)
        return papa_fail(PAPA_ERR_ARGUMENT, "matrix product: rows are %lld, %lld, %lld elements apart, expected at least %lld, %lld, %lld",
            (long long)d->lda, (long long)d->ldb, (long long)d->ldc, (long long)row_a, (long long)row_b, (long long)d->N);
    return PAPA_OK;
}

PapaStatus papa_matmul_create_cpu(PapaDevice *dev, PapaMatmul **out, const PapaMatmulDesc *d)
{
    (void)dev;
    *out = NULL;
    PAPA_TRY(papa_matmul_check(d));
    PapaMatmul *matmul = malloc(sizeof *matmul);
    if (!matmul)
        return papa_fail_memory(sizeof *matmul, "a matrix product's plan");
    matmul->desc = *d;
    *out = matmul;
    return PAPA_OK;
}

void papa_matmul_free_cpu(PapaMatmul *matmul)
{
    free(matmul);
}

size_t papa_matmul_workspace_cpu(const PapaMatmul *matmul)
{
    (void)matmul;
    return 0;
}

typedef struct MatmulRun {
    const PapaMatmulDesc *desc;
    float *c;
    const float *a, *b, *bias;
    _Atomic int status; /* the first failure of any thread */
} MatmulRun;

static PAPA_SIMD void scale_rows(float *c, int64_t M, int64_t N, int64_t ldc, float beta)
{
    for (int64_t m = 0; m < M; m++)
        for (int64_t n = 0; n < N; n++)
            c[m * ldc + n] = beta != 0.f ? beta * c[m * ldc + n] : 0.f;
}

static PAPA_SIMD void finish_rows(float *c, int64_t M, int64_t N, int64_t ldc, const float *bias, bool relu)
{
    for (int64_t m = 0; m < M; m++) {
        float *row = c + m * ldc;
        if (bias)
            for (int64_t n = 0; n < N; n++)
                row[n] += bias[n];
        if (relu) /* a NaN stays one */
            for (int64_t n = 0; n < N; n++)
                row[n] = row[n] < 0.f ? 0.f : row[n];
    }
}

static void run_range(void *context, int64_t begin, int64_t end)
{
    MatmulRun *run = context;
    const PapaMatmulDesc *d = run->desc;
    for (int64_t i = begin; i < end; i++) {
        float *c = run->c + i * d->stride_c;
        if (!d->K) {
            scale_rows(c, d->M, d->N, d->ldc, d->beta);
        } else {
            PapaStatus status = papa_dnnl_sgemm(d->transpose_a, d->transpose_b, d->M, d->N, d->K, d->alpha, run->a + i * d->stride_a,
                d->lda, run->b + i * d->stride_b, d->ldb, d->beta, c, d->ldc);
            if (status != PAPA_OK)
                run->status = status;
        }
        if (run->bias || d->relu)
            finish_rows(c, d->M, d->N, d->ldc, run->bias, d->relu);
    }
}

PapaStatus papa_matmul_run_cpu(PapaDevice *dev, const PapaMatmul *matmul, void *c, const void *a, const void *b, const float *bias,
    void *workspace)
{
    const PapaMatmulDesc *d = &matmul->desc;
    (void)workspace;
    assert(!bias == !d->bias);
    if (!d->batch || !d->M || !d->N)
        return PAPA_OK;
    MatmulRun run = {.desc = d, .c = c, .a = a, .b = b, .bias = bias, .status = PAPA_OK};
    if (d->batch >= dev->n_threads) /* a thread takes whole products */
        papa_ranges(dev, d->batch, 1, run_range, &run);
    else /* all threads share each */
        run_range(&run, 0, d->batch);
    return run.status == PAPA_OK ? PAPA_OK : papa_fail((PapaStatus)run.status, "oneDNN %s: sgemm of %lldx%lldx%lld failed",
        papa_dnnl_version(), (long long)d->M, (long long)d->N, (long long)d->K);
}

/* ---------------------------------------------------------------- column sums
 * A strip of columns at a time; its rows are cut into a fixed number of shards. Blocks of rows are summed in float32 and
 * the blocks in double, so the error doesn't grow with M. */

enum { STRIP = 64, SHARDS = 8, BLOCK_ROWS = 64 };

typedef struct ColsumRun {
    const float *x; /* the strip's first column */
    int64_t M, ldx;
    int64_t n; /* columns in the strip */
    double sums[SHARDS][STRIP];
} ColsumRun;

static PAPA_SIMD void sum_block(double *sums, const float *x, int64_t rows, int64_t ldx, int64_t n)
{
    float block[STRIP] = {0};
    int64_t m = 0;
    for (; m + 4 <= rows; m += 4, x += 4 * ldx)
        for (int64_t j = 0; j < n; j++)
            block[j] += (x[j] + x[ldx + j]) + (x[2 * ldx + j] + x[3 * ldx + j]);
    for (; m < rows; m++, x += ldx)
        for (int64_t j = 0; j < n; j++)
            block[j] += x[j];
    for (int64_t j = 0; j < n; j++)
        sums[j] += (double)block[j];
}

static void sum_shards(void *context, int64_t begin, int64_t end)
{
    ColsumRun *run = context;
    for (int64_t s = begin; s < end; s++) {
        int64_t first = run->M * s / SHARDS, last = run->M * (s + 1) / SHARDS;
        double *sums = run->sums[s];
        memset(sums, 0, sizeof run->sums[s]);
        for (int64_t m = first; m < last; m += BLOCK_ROWS)
            sum_block(sums, run->x + m * run->ldx, last - m < BLOCK_ROWS ? last - m : BLOCK_ROWS, run->ldx, run->n);
    }
}

PapaStatus papa_colsum_cpu(PapaDevice *dev, float *sums, const float *x, int64_t M, int64_t N, int64_t ldx, bool accumulate)
{
    const int64_t worth_a_thread = 32768; /* elements */
    for (int64_t first = 0; first < N; first += STRIP) {
        ColsumRun run = {.x = x + first, .M = M, .ldx = ldx, .n = N - first < STRIP ? N - first : STRIP};
        if (M * run.n < 2 * worth_a_thread)
            sum_shards(&run, 0, SHARDS);
        else
            papa_ranges(dev, SHARDS, 1, sum_shards, &run);
        for (int64_t j = 0; j < run.n; j++) {
            double sum = 0;
            for (int s = 0; s < SHARDS; s++)
                sum += run.sums[s][j];
            sums[first + j] = accumulate ? sums[first + j] + (float)sum : (float)sum;
        }
    }
    return PAPA_OK;
}
