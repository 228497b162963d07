/* CUDA half of optimizer.h: one pass over memory, four elements to a thread. */
#include "kernels/cuda.cuh"

extern "C" {
#include "kernels/optimizer.h"
}

namespace papa {
namespace {

constexpr int kQuad = 4;
using Quad = Pack<float, kQuad>;

/* Calls step(w, m, v, dw, decays) for each of this thread's elements, by reference but for dw, four at once as long as there are four. State
 * that is NULL is not touched. */
template <class Step> __device__ __forceinline__ void for_elements(float *w, float *m, float *v, const float *dw, int64_t n_decayed, int64_t n, Step step)
{
    const int64_t n_quads = n / kQuad;
    PAPA_GRID_STRIDE (q, n_quads) {
        const int64_t i = q * kQuad;
        Quad a = *reinterpret_cast<const Quad *>(w + i), b = {}, c = {};
        const Quad g = *reinterpret_cast<const Quad *>(dw + i);
        if (m)
            b = *reinterpret_cast<const Quad *>(m + i);
        if (v)
            c = *reinterpret_cast<const Quad *>(v + i);
#pragma unroll
        for (int k = 0; k < kQuad; k++)
            step(a.v[k], b.v[k], c.v[k], g.v[k], i + k < n_decayed);
        *reinterpret_cast<Quad *>(w + i) = a;
        if (m)
            *reinterpret_cast<Quad *>(m + i) = b;
        if (v)
            *reinterpret_cast<Quad *>(v + i) = c;
    }
    const int64_t i = n_quads * kQuad + threadIdx.x; /* the last few, by the first block */
    if (blockIdx.x || i >= n)
        return;
    float a = w[i], b = m ? m[i] : 0, c = v ? v[i] : 0;
    step(a, b, c, dw[i], i < n_decayed);
    w[i] = a;
    if (m)
        m[i] = b;
    if (v)
        v[i] = c;
}

/* ---------------------------------------------------------------- SGD */

enum Momentum { NONE, HEAVY_BALL, NESTEROV };

template <Momentum KIND> __global__ void __launch_bounds__(kThreads) sgd_step(float *w, float *m, const float *dw, const PapaClip *clip,
    const PapaOptimizerNumbers *numbers, PapaSgd set, int64_t n_decayed, int64_t n)
{
    const float lr = numbers->lr, scale = clip ? clip->scale : 1;
    for_elements(w, KIND == NONE ? NULL : m, NULL, dw, n_decayed, n, [=](float &at, float &moving, float &, float gradient, bool decays) {
        const float g = gradient * scale + (decays ? set.weight_decay : 0) * at;
        if (KIND != NONE)
            moving = set.momentum * moving + g;
        at -= lr * (KIND == NONE ? g : KIND == NESTEROV ? g + set.momentum * moving : moving);
    });
}

PapaStatus sgd(PapaDevice *dev, float *w, float *m, const float *dw, const PapaClip *clip, const PapaOptimizerNumbers *numbers, PapaSgd set,
    int64_t n_decayed, int64_t n)
{
    const unsigned blocks = blocks_for(dev, n / kQuad);
    if (set.momentum == 0)
        PAPA_LAUNCH(dev, sgd_step<NONE>, blocks, kThreads, 0, w, m, dw, clip, numbers, set, n_decayed, n);
    else if (set.nesterov)
        PAPA_LAUNCH(dev, sgd_step<NESTEROV>, blocks, kThreads, 0, w, m, dw, clip, numbers, set, n_decayed, n);
    else
        PAPA_LAUNCH(dev, sgd_step<HEAVY_BALL>, blocks, kThreads, 0, w, m, dw, clip, numbers, set, n_decayed, n);
    return PAPA_OK;
}

/* ---------------------------------------------------------------- Adam */

__global__ void __launch_bounds__(kThreads) adam_step(float *w, float *m, float *v, const float *dw, const PapaClip *clip,
    const PapaOptimizerNumbers *numbers, PapaAdam set, int64_t n_decayed, int64_t n)
{
    const float lr = numbers->lr, scale = clip ? clip->scale : 1, step = lr / numbers->correction1, over_root2 = 1 / numbers->root_correction2;
    const float coupled = set.decoupled ? 0 : set.weight_decay, shrink = set.decoupled ? lr * set.weight_decay : 0;
    const float add1 = 1 - set.beta1, add2 = 1 - set.beta2;
    for_elements(w, m, v, dw, n_decayed, n, [=](float &at, float &mean, float &square, float gradient, bool decays) {
        const float g = gradient * scale + (decays ? coupled : 0) * at;
        mean = set.beta1 * mean + add1 * g;
        square = set.beta2 * square + add2 * g * g;
        at = at - (decays ? shrink : 0) * at - step * mean / (sqrtf(square) * over_root2 + set.eps);
    });
}

/* ---------------------------------------------------------------- clipping */

/* A block for each block of the contract's: the sum of its squares. */
__global__ void __launch_bounds__(kThreads) square_sums(double *blocks, const float *dw, int64_t n)
{
    PAPA_SHARED(double, between, 32);
    const int64_t first = (int64_t)blockIdx.x * PAPA_CLIP_BLOCK, end = first + PAPA_CLIP_BLOCK < n ? first + PAPA_CLIP_BLOCK : n;
    double sum = 0;
    int64_t i = first + (int64_t)threadIdx.x * kQuad;
#pragma unroll 4
    for (; i + kQuad <= end; i += kThreads * kQuad) {
        const Quad x = *reinterpret_cast<const Quad *>(dw + i);
#pragma unroll
        for (int k = 0; k < kQuad; k++)
            sum += (double)x.v[k] * (double)x.v[k];
    }
    for (; i < end; i++) /* what is left of the last block: less than four, one thread's */
        sum += (double)dw[i] * (double)dw[i];
    sum = block_all(sum, Add(), 0., between);
    if (threadIdx.x == 0)
        blocks[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(kThreads) finish_clip(PapaClip *clip, const double *blocks, float max_norm, int64_t n_blocks)
{
    PAPA_SHARED(double, between, 32);
    double sum = 0;
    for (int64_t b = threadIdx.x; b < n_blocks; b += kThreads)
        sum += blocks[b];
    sum = block_all(sum, Add(), 0., between);
    if (threadIdx.x)
        return;
    const double norm = sqrt(sum), scale = (double)max_norm / (norm + 1e-6);
    *clip = {(float)norm, (float)(scale < 1 || scale != scale ? scale : 1)};
}

} // namespace
} // namespace papa

using namespace papa;

PapaStatus papa_optimizer_sgd_cuda(PapaDevice *dev, float *w, float *m, const float *dw, const PapaClip *clip, const PapaOptimizerNumbers *numbers,
    PapaSgd set, int64_t n_decayed, int64_t n)
{
    return n ? sgd(dev, w, m, dw, clip, numbers, set, n_decayed, n) : PAPA_OK;
}

PapaStatus papa_optimizer_adam_cuda(PapaDevice *dev, float *w, float *m, float *v, const float *dw, const PapaClip *clip,
    const PapaOptimizerNumbers *numbers, PapaAdam set, int64_t n_decayed, int64_t n)
{
    if (n)
        PAPA_LAUNCH(dev, adam_step, blocks_for(dev, n / kQuad), kThreads, 0, w, m, v, dw, clip, numbers, set, n_decayed, n);
    return PAPA_OK;
}

PapaStatus papa_optimizer_clip_cuda(PapaDevice *dev, PapaClip *clip, double *blocks, const float *dw, float max_norm, int64_t n)
{
    const int64_t n_blocks = papa_clip_blocks(n);
    if (n_blocks)
        PAPA_LAUNCH(dev, square_sums, (unsigned)n_blocks, kThreads, 0, blocks, dw, n);
    PAPA_LAUNCH(dev, finish_clip, 1, kThreads, 0, clip, blocks, max_norm, n_blocks);
    return PAPA_OK;
}
