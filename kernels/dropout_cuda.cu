/* CUDA half of dropout.h: a thread for each block of four random words. */
#include "kernels/cuda.cuh"

#include "kernels/walk.cuh"

extern "C" {
#include "base/rng.h"
#include "kernels/dropout.h"
}

#include <cassert>

namespace papa {
namespace {

template <class T> struct Dropout {
    T *y;
    const T *x;
    int64_t n;
    const uint32_t *key, *name; /* on the device */
    uint32_t node, threshold;
    float scale;
    bool packs, accumulate; /* packs: four elements at once */
};

template <int N, class T> __device__ __forceinline__ void drop(const Dropout<T> &d, int64_t i, const uint32_t *words)
{
    Floats<N> x = load_floats<N>(d.x + i);
#pragma unroll
    for (int k = 0; k < N; k++)
        x.v[k] = words[k] >= d.threshold ? x.v[k] * d.scale : 0.f;
    store_floats(d.y + i, x, d.accumulate);
}

template <class T> __global__ void __launch_bounds__(kThreads) dropout(const Dropout<T> d)
{
    const uint32_t key[2] = {d.key[0], d.key[1]}, name0 = d.name[0], name1 = d.name[1];
    PAPA_GRID_STRIDE(block, (d.n + 3) / 4) {
        const uint32_t counter[4] = {(uint32_t)block, name0, d.node, name1};
        uint32_t words[4];
        papa_philox(words, counter, key);
        if (d.packs && 4 * block + 4 <= d.n) {
            drop<4>(d, 4 * block, words);
            continue;
        }
#pragma unroll
        for (int k = 0; k < 4; k++)
            if (4 * block + k < d.n)
                drop<1>(d, 4 * block + k, words + k);
    }
}

template <class T> PapaStatus run(PapaDevice *dev, Dropout<T> d)
{
    d.packs = aligned(d.y, 4) && aligned(d.x, 4);
    if (d.n)
        PAPA_LAUNCH(dev, dropout<T>, blocks_for(dev, (d.n + 3) / 4), kThreads, 0, d);
    return PAPA_OK;
}

} // namespace
} // namespace papa

using namespace papa;

PapaStatus papa_dropout_cuda(PapaDevice *dev, PapaReal *y, const PapaReal *x, int64_t n, float ratio, const uint32_t key[2], const uint32_t name[2],
    uint32_t node, bool accumulate)
{
    assert(ratio >= 0 && ratio < 1 && n < PAPA_DROPOUT_MAX);
    PAPA_FOR_ELEMENT(dev, run(dev, Dropout<T>{(T *)y, (const T *)x, n, key, name, node, (uint32_t)std::ceil(ratio * 4294967296.f), 1 / (1 - ratio), false, accumulate}));
    return PAPA_OK;
}
