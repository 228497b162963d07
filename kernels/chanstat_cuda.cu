/* CUDA half of chanstat.h. The blocks' sums, and the channels' numbers, lie in the device's scratch: as many channels at a time as fit. */
#include "kernels/cuda.cuh"

#include "kernels/columns.cuh"

extern "C" {
#include "kernels/chanstat.h"
}

namespace papa {
namespace {

/* Channels at a time; a multiple of every V. */
constexpr int64_t kChannels = 1 << 16;

__global__ void __launch_bounds__(kJoinThreads) finish_measure(float *mean, float *std, const Sums *sums, Columns columns)
{
    const int64_t c = join_channel();
    if (c >= columns.C)
        return;
    Sums all = {0, 0};
    if (columns.rows)
        all = join_moments(sums + c * columns.n_row_blocks, columns);
    if (threadIdx.x % 32)
        return;
    mean[c] = (float)all.first;
    std[c] = (float)sqrt(all.second);
}

template <class T, int V> PapaStatus measure(PapaDevice *dev, float *mean, float *std, const T *x, int64_t rows, int64_t C)
{
    Sums *sums = (Sums *)papa_cuda(dev)->scratch;
    for (int64_t c0 = 0; c0 < C; c0 += kChannels) {
        const int64_t n = C - c0 < kChannels ? C - c0 : kChannels;
        Columns c = sum_columns(rows, n, V, (int64_t)(PAPA_CUDA_SCRATCH / sizeof(Sums)) / n);
        c.stride = C;
        if (blocks_of(c))
            PAPA_LAUNCH(dev, (column_moments<T, V>), blocks_of(c), kThreads, 0, sums, x + c0, c);
        PAPA_LAUNCH(dev, finish_measure, join_blocks(n), kJoinThreads, 0, mean + c0, std + c0, sums, c);
    }
    return PAPA_OK;
}

struct Goal {
    const float *mean, *std, *goal_mean, *goal_std;
    float eps;
};

__global__ void __launch_bounds__(kThreads) prepare_shift(Affine to, Goal goal, int64_t first, int64_t n)
{
    PAPA_GRID_STRIDE (i, n) {
        const int64_t c = first + i;
        const float mean = goal.mean[c], goal_mean = goal.goal_mean[c], goal_std = goal.goal_std[c];
        const double own = (double)goal.std[c] * (double)goal.std[c] + (double)goal.eps;
        const double wanted = (double)goal_std * (double)goal_std + (double)goal.eps;
        to.center[i] = mean;
        to.factor[i] = goal_std != goal_std ? 1 : (float)sqrt(wanted / own);
        to.shift[i] = goal_mean != goal_mean ? mean : goal_mean;
    }
}

template <class T, int V> PapaStatus shift(PapaDevice *dev, T *x, const Goal &goal, int64_t rows, int64_t C)
{
    float *scratch = (float *)papa_cuda(dev)->scratch;
    const Affine by = {scratch, scratch + kChannels, scratch + 2 * kChannels};
    for (int64_t c0 = 0; c0 < C && rows; c0 += kChannels) {
        const int64_t n = C - c0 < kChannels ? C - c0 : kChannels;
        Columns c = map_columns(rows, n, V);
        c.stride = C;
        PAPA_LAUNCH(dev, prepare_shift, blocks_for(dev, n), kThreads, 0, by, goal, c0, n);
        PAPA_TRY((run_affine<T, V>(dev, x + c0, x + c0, NULL, by, false, c)));
    }
    return PAPA_OK;
}

template <class T> PapaStatus measure(PapaDevice *dev, float *mean, float *std, const PapaReal *x, int64_t rows, int64_t C)
{
    const T *from = (const T *)x;
    PAPA_FOR_WIDTH(C % kPack<T> == 0 && aligned(from, kPack<T>), measure<T, V>(dev, mean, std, from, rows, C));
    return PAPA_OK;
}

template <class T> PapaStatus shift(PapaDevice *dev, PapaReal *x, const Goal &goal, int64_t rows, int64_t C)
{
    T *at = (T *)x;
    PAPA_FOR_WIDTH(C % kPack<T> == 0 && aligned(at, kPack<T>), shift<T, V>(dev, at, goal, rows, C));
    return PAPA_OK;
}

} // namespace
} // namespace papa

using namespace papa;

PapaStatus papa_chanstat_measure_cuda(PapaDevice *dev, float *mean, float *std, const PapaReal *x, int64_t rows, int64_t C)
{
    PAPA_FOR_ELEMENT(dev, measure<T>(dev, mean, std, x, rows, C));
    return PAPA_OK;
}

PapaStatus papa_chanstat_shift_cuda(PapaDevice *dev, PapaReal *x, const float *mean, const float *std, const float *goal_mean,
    const float *goal_std, int64_t rows, int64_t C, float eps)
{
    const Goal goal = {mean, std, goal_mean, goal_std, eps};
    PAPA_FOR_ELEMENT(dev, shift<T>(dev, x, goal, rows, C));
    return PAPA_OK;
}
