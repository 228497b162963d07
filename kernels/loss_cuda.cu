/* CUDA half of loss.h. A block goes through a row, a single warp where there are few classes; a last block adds up the rows. */
#include "kernels/cuda.cuh"

extern "C" {
#include "kernels/loss.h"
}

namespace papa {
namespace {

constexpr int64_t kMostBlocks = 4096;

inline unsigned row_blocks(int64_t N)
{
    return (unsigned)(N < kMostBlocks ? N : kMostBlocks);
}

inline int row_threads(int64_t C)
{
    return C <= 128 ? 32 : C <= 2048 ? 128 : 512;
}

/* log sum_c exp(x[c]), by a block; every thread gets it. Infinite or NaN logits give NaN, except that -infinity weighs nothing. */
__device__ __forceinline__ double log_sum_exp(const float *x, int64_t C, float *greatest)
{
    PAPA_SHARED(float, between_max, 32);
    PAPA_SHARED(double, between_sum, 32);
    float most = -INFINITY;
    for (int64_t c = threadIdx.x; c < C; c += blockDim.x)
        most = Max()(most, x[c]);
    most = block_all(most, Max(), -INFINITY, between_max);
    double sum = 0;
    for (int64_t c = threadIdx.x; c < C; c += blockDim.x)
        sum += (double)expf(x[c] - most);
    sum = block_all(sum, Add(), 0., between_sum);
    *greatest = most;
    return (double)most + log(sum);
}

/* ---------------------------------------------------------------- training */

/* 1: as many registers as it needs; without, ptxas spills a few so that more blocks fit. */
__global__ void __launch_bounds__(512, 1) train_rows(double *rows, float *dlogits, const float *logits, const float *targets, const int64_t *n_valid,
    int64_t N, int64_t C)
{
    PAPA_SHARED(double, between, 32);
    const int64_t n = *n_valid;
    const float scale = (float)(1.0 / (double)n);
    for (int64_t i = blockIdx.x; i < N; i += gridDim.x) {
        const float *x = logits + i * C, *t = targets + i * C;
        float *dx = dlogits + i * C, most;
        if (i >= n) {
            for (int64_t c = threadIdx.x; c < C; c += blockDim.x)
                dx[c] = 0;
            continue;
        }
        const double lse = log_sum_exp(x, C, &most);
        const float above = (float)(lse - (double)most);
        double loss = 0;
        for (int64_t c = threadIdx.x; c < C; c += blockDim.x) { /* in place: a thread comes back to the elements it has read */
            const float logit = x[c], target = t[c];
            if (target != 0)
                loss += (double)target * (lse - (double)logit);
            dx[c] = (expf(logit - most - above) - target) * scale;
        }
        loss = block_all(loss, Add(), 0., between);
        if (threadIdx.x == 0)
            rows[i] = loss;
    }
}

__global__ void __launch_bounds__(kThreads) mean_of_rows(float *loss, const double *rows, const int64_t *n_valid)
{
    PAPA_SHARED(double, between, 32);
    const int64_t n = *n_valid;
    double sum = 0;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x)
        sum += rows[i];
    sum = block_all(sum, Add(), 0., between);
    if (threadIdx.x == 0)
        *loss = n ? (float)(sum / (double)n) : 0;
}

/* ---------------------------------------------------------------- scoring */

/* The classes of a row that come before its label, by a block; every thread gets it. C where a NaN leaves no order. */
__device__ __forceinline__ int64_t classes_before(const float *x, int64_t label, int64_t C)
{
    PAPA_SHARED(long long, between, 32);
    const float score = x[label];
    long long before = 0; /* C for each NaN, at least */
    for (int64_t c = threadIdx.x; c < C; c += blockDim.x)
        before += x[c] != x[c] ? C : x[c] > score || (x[c] == score && c < label);
    before = block_all(before, Add(), 0ll, between);
    return before < C ? before : C;
}

/* What a block sums over its rows. */
__global__ void __launch_bounds__(512) score_rows(PapaScoreSums *to, const float *logits, const int32_t *labels, const int64_t *n_valid, int64_t C)
{
    PapaScoreSums sums = {0, 0, 0, 0};
    const int64_t n = *n_valid;
    for (int64_t i = blockIdx.x; i < n; i += gridDim.x) {
        const float *x = logits + i * C;
        const int64_t label = labels[i], before = classes_before(x, label, C);
        float most;
        sums.loss += log_sum_exp(x, C, &most) - (double)x[label];
        sums.top1 += before < 1;
        sums.top5 += before < 5 && before < C;
        sums.n++;
    }
    if (threadIdx.x == 0)
        to[blockIdx.x] = sums;
}

__global__ void __launch_bounds__(kThreads) join_scores(PapaScoreSums *to, const PapaScoreSums *of, int n_blocks)
{
    PAPA_SHARED(double, between, 32);
    PAPA_SHARED(long long, between_counts, 32);
    double loss = 0;
    long long top1 = 0, top5 = 0, n = 0;
    for (int b = (int)threadIdx.x; b < n_blocks; b += kThreads)
        loss += of[b].loss, top1 += of[b].top1, top5 += of[b].top5, n += of[b].n;
    loss = block_all(loss, Add(), 0., between);
    top1 = block_all(top1, Add(), 0ll, between_counts);
    top5 = block_all(top5, Add(), 0ll, between_counts);
    n = block_all(n, Add(), 0ll, between_counts);
    if (threadIdx.x == 0)
        *to = {loss, (int64_t)top1, (int64_t)top5, (int64_t)n};
}

} // namespace
} // namespace papa

using namespace papa;

PapaStatus papa_loss_train_cuda(PapaDevice *dev, float *loss, float *dlogits, const float *logits, const float *targets, const int64_t *n_valid,
    double *rows, int64_t N, int64_t C)
{
    if (N)
        PAPA_LAUNCH(dev, train_rows, row_blocks(N), row_threads(C), 0, rows, dlogits, logits, targets, n_valid, N, C);
    PAPA_LAUNCH(dev, mean_of_rows, 1, kThreads, 0, loss, rows, n_valid);
    return PAPA_OK;
}

PapaStatus papa_loss_score_cuda(PapaDevice *dev, PapaScoreSums *sums, const float *logits, const int32_t *labels, const int64_t *n_valid,
    double *rows, int64_t N, int64_t C)
{
    (void)rows; /* the blocks' sums need more than a number for each */
    PapaScoreSums *blocks = (PapaScoreSums *)papa_cuda(dev)->scratch;
    if (N)
        PAPA_LAUNCH(dev, score_rows, row_blocks(N), row_threads(C), 0, blocks, logits, labels, n_valid, C);
    PAPA_LAUNCH(dev, join_scores, 1, kThreads, 0, sums, blocks, (int)row_blocks(N));
    return PAPA_OK;
}
