/* CUDA half of mix.h. Members come as pointers in the kernel's parameters (2 KB; 4 KB is what every GPU takes). A thread has four neighbouring
 * elements of all members; a small population's stay in registers between the mean and the move, a large one's are read a second time, from the cache.
 *
 * Products and sums are written as fmaf and fma, so that an element's value does not depend on where the compiler contracts. */
#include "kernels/cuda.cuh"

extern "C" {
#include "kernels/mix.h"
}

namespace papa {
namespace {

constexpr int kQuad = 4;
constexpr int kMostInRegisters = 8; /* members */

struct Members {
    float *at[PAPA_MIX_MAX];
};

struct Sources {
    const float *at[PAPA_MIX_MAX];
};

struct Weights {
    double of[PAPA_MIX_MAX];
};

/* Elements i .. i + 3, or those of them in front of n; the others are 0. */
__device__ __forceinline__ Pack<float, kQuad> read_quad(const float *x, int64_t i, int64_t n)
{
    if (i + kQuad <= n)
        return *reinterpret_cast<const Pack<float, kQuad> *>(x + i);
    Pack<float, kQuad> to;
#pragma unroll
    for (int k = 0; k < kQuad; k++)
        to.v[k] = i + k < n ? x[i + k] : 0;
    return to;
}

__device__ __forceinline__ void write_quad(float *x, const Pack<float, kQuad> &from, int64_t i, int64_t n)
{
    if (i + kQuad <= n) {
        *reinterpret_cast<Pack<float, kQuad> *>(x + i) = from;
        return;
    }
#pragma unroll
    for (int k = 0; k < kQuad; k++)
        if (i + k < n)
            x[i + k] = from.v[k];
}

/* for (i: the first element of each of this thread's quads) */
#define QUADS(i, n) for (int64_t i = ((int64_t)blockIdx.x * kThreads + threadIdx.x) * kQuad; i < (n); i += (int64_t)gridDim.x * kThreads * kQuad)

__device__ __forceinline__ float moved(float w, float mean, float step)
{
    return fmaf(step, mean - w, w);
}

/* ---------------------------------------------------------------- pull */

template <int P> __global__ void __launch_bounds__(kThreads) pull_few(Members members, const PapaMixNumbers *numbers, int64_t n)
{
    const float step = numbers->pull, over_p = 1 / (float)P;
    QUADS (i, n) {
        Pack<float, kQuad> w[P], sum = {};
#pragma unroll
        for (int j = 0; j < P; j++)
            w[j] = read_quad(members.at[j], i, n);
#pragma unroll
        for (int j = 1; j < P; j++)
#pragma unroll
            for (int k = 0; k < kQuad; k++)
                sum.v[k] += w[j].v[k] - w[0].v[k];
#pragma unroll
        for (int k = 0; k < kQuad; k++)
            sum.v[k] = fmaf(over_p, sum.v[k], w[0].v[k]);
#pragma unroll
        for (int j = 0; j < P; j++) {
#pragma unroll
            for (int k = 0; k < kQuad; k++)
                w[j].v[k] = moved(w[j].v[k], sum.v[k], step);
            write_quad(members.at[j], w[j], i, n);
        }
    }
}

__global__ void __launch_bounds__(kThreads) pull_many(Members members, int p, const PapaMixNumbers *numbers, int64_t n)
{
    const float step = numbers->pull, over_p = 1 / (float)p;
    QUADS (i, n) {
        const Pack<float, kQuad> base = read_quad(members.at[0], i, n);
        Pack<float, kQuad> mean = {};
#pragma unroll 4
        for (int j = 1; j < p; j++) {
            const Pack<float, kQuad> w = read_quad(members.at[j], i, n);
#pragma unroll
            for (int k = 0; k < kQuad; k++)
                mean.v[k] += w.v[k] - base.v[k];
        }
#pragma unroll
        for (int k = 0; k < kQuad; k++)
            mean.v[k] = fmaf(over_p, mean.v[k], base.v[k]);
#pragma unroll 4
        for (int j = 0; j < p; j++) {
            Pack<float, kQuad> w = read_quad(members.at[j], i, n);
#pragma unroll
            for (int k = 0; k < kQuad; k++)
                w.v[k] = moved(w.v[k], mean.v[k], step);
            write_quad(members.at[j], w, i, n);
        }
    }
}

/* So few blocks that what they hold between the two reads fits into half the second-level cache; but one for each multiprocessor. */
inline unsigned blocks_for_many(const PapaDevice *dev, int p, int64_t quads)
{
    const PapaGpu *gpu = &papa_cuda(dev)->gpu;
    const int64_t bytes = (int64_t)p * kThreads * kQuad * (int64_t)sizeof(float), cached = gpu->l2_cache / 2 / bytes;
    const int64_t most = cached > gpu->multiprocessors ? cached : gpu->multiprocessors, blocks = blocks_for(dev, quads);
    return (unsigned)(blocks < most ? blocks : most);
}

PapaStatus pull(PapaDevice *dev, const Members &members, int p, const PapaMixNumbers *numbers, int64_t n)
{
    const int64_t quads = ceil_div(n, kQuad);
#define PULL_FEW(P)                                                                                      \
    case P:                                                                                              \
        PAPA_LAUNCH(dev, pull_few<P>, blocks_for(dev, quads), kThreads, 0, members, numbers, n);         \
        return PAPA_OK
    switch (p) {
        PULL_FEW(1);
        PULL_FEW(2);
        PULL_FEW(3);
        PULL_FEW(4);
        PULL_FEW(5);
        PULL_FEW(6);
        PULL_FEW(7);
        PULL_FEW(kMostInRegisters);
    }
#undef PULL_FEW
    PAPA_LAUNCH(dev, pull_many, blocks_for_many(dev, p, quads), kThreads, 0, members, p, numbers, n);
    return PAPA_OK;
}

/* ---------------------------------------------------------------- mean */

/* Pointers and weights together are too much for one kernel's parameters: the weights go ahead, into the device's scratch. */
__global__ void __launch_bounds__(PAPA_MIX_MAX) keep_weights(double *to, Weights weights)
{
    to[threadIdx.x] = weights.of[threadIdx.x];
}

__global__ void __launch_bounds__(kThreads) weighted_mean(float *to, Sources from, const double *weights, int p, int64_t n)
{
    QUADS (i, n) {
        double sum[kQuad] = {0, 0, 0, 0};
#pragma unroll 4
        for (int j = 0; j < p; j++) {
            const Pack<float, kQuad> x = read_quad(from.at[j], i, n);
            const double weight = weights[j];
#pragma unroll
            for (int k = 0; k < kQuad; k++)
                sum[k] = fma(weight, (double)x.v[k], sum[k]);
        }
        Pack<float, kQuad> mean;
#pragma unroll
        for (int k = 0; k < kQuad; k++)
            mean.v[k] = (float)sum[k];
        write_quad(to, mean, i, n);
    }
}

} // namespace
} // namespace papa

using namespace papa;

PapaStatus papa_mix_pull_cuda(PapaDevice *dev, float *const *members, int p, const PapaMixNumbers *numbers, int64_t n)
{
    if (!n)
        return PAPA_OK;
    Members all = {};
    for (int j = 0; j < p; j++)
        all.at[j] = members[j];
    return pull(dev, all, p, numbers, n);
}

PapaStatus papa_mix_mean_cuda(PapaDevice *dev, float *to, const float *const *from, const double *weights, int p, int64_t n)
{
    if (!n)
        return PAPA_OK;
    Sources all = {};
    Weights w = {};
    for (int j = 0; j < p; j++)
        all.at[j] = from[j], w.of[j] = weights ? weights[j] : 1.0 / p;
    double *kept = (double *)papa_cuda(dev)->scratch;
    PAPA_LAUNCH(dev, keep_weights, 1, PAPA_MIX_MAX, 0, kept, w);
    PAPA_LAUNCH(dev, weighted_mean, blocks_for(dev, ceil_div(n, kQuad)), kThreads, 0, to, all, kept, p, n);
    return PAPA_OK;
}
