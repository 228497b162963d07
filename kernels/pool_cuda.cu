/* CUDA half of pool.h. As on the CPU both directions gather: a thread has one pack of channels of one output, or backward of one input, so that
 * every element is written once and nothing is added up between threads. */
#include "kernels/cuda.cuh"

#include "kernels/columns.cuh"

extern "C" {
#include "kernels/pool.h"
}

namespace papa {
namespace {

/* PapaPool2d in 32 bits, the channels in packs. */
struct Pool {
    int H, W, packs, OH, OW;
    int K[2], stride[2], dilation[2], pad[4];
    bool include_pad;
};

struct Range {
    int begin, end;
};

/* The taps of window o along an axis that lie in [low, high) of the map's coordinates. */
__device__ __forceinline__ Range taps_of(const Pool &p, int axis, int o, int low, int high)
{
    const int start = o * p.stride[axis] - p.pad[axis], d = p.dilation[axis];
    const int first = start < low ? (low - start + d - 1) / d : 0, end = start < high ? (high - 1 - start) / d + 1 : 0;
    return {first, end < p.K[axis] ? end : p.K[axis]};
}

/* The windows along an axis of which position i may be a tap: all of them that span it. */
__device__ __forceinline__ Range windows_of(const Pool &p, int axis, int i, int n_windows)
{
    const int at = i + p.pad[axis], s = p.stride[axis], first = at - (p.K[axis] - 1) * p.dilation[axis], end = at / s + 1;
    return {first > 0 ? (first + s - 1) / s : 0, end < n_windows ? end : n_windows};
}

/* Which tap of window o position i is, or -1. */
__device__ __forceinline__ int tap_of(const Pool &p, int axis, int i, int o)
{
    const int distance = i + p.pad[axis] - o * p.stride[axis], d = p.dilation[axis];
    return d == 1 ? distance : distance % d ? -1 : distance / d;
}

__device__ __forceinline__ int taps_counted(const Pool &p, int axis, int o)
{
    const int length = axis ? p.W : p.H;
    const Range r = p.include_pad ? taps_of(p, axis, o, -p.pad[axis], length + p.pad[axis + 2]) : taps_of(p, axis, o, 0, length);
    return r.end > r.begin ? r.end - r.begin : 0;
}

__device__ __forceinline__ float inverse_of(int rows, int columns)
{
    const int64_t n = (int64_t)rows * columns;
    return n ? 1.f / (float)n : 0;
}

/* Where item i of (images, height, width, packs) is. */
template <class I> struct Item {
    I image;
    int row, column, pack;
};

template <class I> __device__ __forceinline__ Item<I> item_at(I i, int height, int width, int packs)
{
    Item<I> at;
    at.pack = (int)(i % (I)packs), i /= (I)packs;
    at.column = (int)(i % (I)width), i /= (I)width;
    at.row = (int)(i % (I)height);
    at.image = i / (I)height;
    return at;
}

/* for (I i: this thread's share of [0, n)); n < 2^31 where I has 32 bits, so that i does not wrap */
#define ITEMS(I, i, n) for (I i = (I)blockIdx.x * blockDim.x + threadIdx.x; i < (n); i += (I)gridDim.x * blockDim.x)

/* ---------------------------------------------------------------- forward */

template <class T, int V, class I> __global__ void __launch_bounds__(kThreads) max_forward(T *y, uint16_t *argmax, const T *x, Pool p, I n)
{
    ITEMS (I, i, n) {
        const Item<I> at = item_at(i, p.OH, p.OW, p.packs);
        const Range rows = taps_of(p, 0, at.row, 0, p.H), columns = taps_of(p, 1, at.column, 0, p.W);
        const int top = at.row * p.stride[0] - p.pad[0], left = at.column * p.stride[1] - p.pad[1];
        const int64_t C = (int64_t)p.packs * V, image = (int64_t)at.image * p.H;
        Floats<V> best;
        int tap[V]; /* -1: none, as uint16_t PAPA_POOL_MAX_TAPS */
#pragma unroll
        for (int k = 0; k < V; k++)
            best.v[k] = -INFINITY, tap[k] = -1;
        for (int r = rows.begin; r < rows.end; r++) {
            const T *from = x + ((image + top + r * p.dilation[0]) * p.W + left + columns.begin * p.dilation[1]) * C + at.pack * V;
            for (int s = columns.begin; s < columns.end; s++, from += p.dilation[1] * C) {
                const Floats<V> v = read<V>(from);
                const int here = argmax ? r * p.K[1] + s : 0; /* where nobody asks, there may be more than can be numbered */
#pragma unroll
                for (int k = 0; k < V; k++) {
                    const bool take = (v.v[k] > best.v[k]) | ((v.v[k] != v.v[k]) & (best.v[k] == best.v[k])) | (tap[k] == -1);
                    best.v[k] = take ? v.v[k] : best.v[k];
                    tap[k] = take ? here : tap[k];
                }
            }
        }
        write(y + (int64_t)i * V, best);
        if (!argmax)
            continue;
        Pack<uint16_t, V> to;
#pragma unroll
        for (int k = 0; k < V; k++)
            to.v[k] = (uint16_t)tap[k];
        *reinterpret_cast<Pack<uint16_t, V> *>(argmax + (int64_t)i * V) = to;
    }
}

template <class T, int V, class I> __global__ void __launch_bounds__(kThreads) average_forward(T *y, const T *x, Pool p, I n)
{
    ITEMS (I, i, n) {
        const Item<I> at = item_at(i, p.OH, p.OW, p.packs);
        const Range rows = taps_of(p, 0, at.row, 0, p.H), columns = taps_of(p, 1, at.column, 0, p.W);
        const int top = at.row * p.stride[0] - p.pad[0], left = at.column * p.stride[1] - p.pad[1];
        const int64_t C = (int64_t)p.packs * V, image = (int64_t)at.image * p.H;
        Floats<V> sum = {};
        for (int r = rows.begin; r < rows.end; r++) {
            const T *from = x + ((image + top + r * p.dilation[0]) * p.W + left + columns.begin * p.dilation[1]) * C + at.pack * V;
            for (int s = columns.begin; s < columns.end; s++, from += p.dilation[1] * C) {
                const Floats<V> v = read<V>(from);
#pragma unroll
                for (int k = 0; k < V; k++)
                    sum.v[k] += v.v[k];
            }
        }
        const float inverse = inverse_of(taps_counted(p, 0, at.row), taps_counted(p, 1, at.column));
#pragma unroll
        for (int k = 0; k < V; k++)
            sum.v[k] *= inverse;
        write(y + (int64_t)i * V, sum);
    }
}

/* ---------------------------------------------------------------- backward */

template <int V, class T> __device__ __forceinline__ void write_gradient(T *dx, Floats<V> sum, bool accumulate)
{
    if (accumulate) {
        const Floats<V> old = read<V>(dx);
#pragma unroll
        for (int k = 0; k < V; k++)
            sum.v[k] += old.v[k];
    }
    write(dx, sum);
}

template <class T, int V, class I> __global__ void __launch_bounds__(kThreads) max_backward(T *dx, const T *dy, const uint16_t *argmax, Pool p,
    bool accumulate, I n)
{
    ITEMS (I, i, n) {
        const Item<I> at = item_at(i, p.H, p.W, p.packs);
        const Range rows = windows_of(p, 0, at.row, p.OH), columns = windows_of(p, 1, at.column, p.OW);
        Floats<V> sum = {};
        for (int oh = rows.begin; oh < rows.end; oh++) {
            const int r = tap_of(p, 0, at.row, oh);
            for (int ow = columns.begin; r >= 0 && ow < columns.end; ow++) {
                const int s = tap_of(p, 1, at.column, ow);
                if (s < 0)
                    continue;
                const int64_t from = ((((int64_t)at.image * p.OH + oh) * p.OW + ow) * p.packs + at.pack) * V;
                const Pack<uint16_t, V> taken = *reinterpret_cast<const Pack<uint16_t, V> *>(argmax + from);
                const Floats<V> g = read<V>(dy + from);
                const int tap = r * p.K[1] + s;
#pragma unroll
                for (int k = 0; k < V; k++)
                    sum.v[k] += (int)taken.v[k] == tap ? g.v[k] : 0;
            }
        }
        write_gradient(dx + (int64_t)i * V, sum, accumulate);
    }
}

/* 1: as many registers as it needs; without, ptxas spills a few so that more blocks fit. */
template <class T, int V, class I> __global__ void __launch_bounds__(kThreads, 1) average_backward(T *dx, const T *dy, Pool p, bool accumulate, I n)
{
    ITEMS (I, i, n) {
        const Item<I> at = item_at(i, p.H, p.W, p.packs);
        const Range rows = windows_of(p, 0, at.row, p.OH), columns = windows_of(p, 1, at.column, p.OW);
        Floats<V> sum = {};
        for (int oh = rows.begin; oh < rows.end; oh++) {
            if (tap_of(p, 0, at.row, oh) < 0)
                continue;
            const int counted = taps_counted(p, 0, oh);
            for (int ow = columns.begin; ow < columns.end; ow++) {
                if (tap_of(p, 1, at.column, ow) < 0)
                    continue;
                const Floats<V> g = read<V>(dy + ((((int64_t)at.image * p.OH + oh) * p.OW + ow) * p.packs + at.pack) * V);
                const float inverse = inverse_of(counted, taps_counted(p, 1, ow));
#pragma unroll
                for (int k = 0; k < V; k++)
                    sum.v[k] += g.v[k] * inverse;
            }
        }
        write_gradient(dx + (int64_t)i * V, sum, accumulate);
    }
}

/* ---------------------------------------------------------------- launches */

constexpr int64_t kLimit = 1 << 30; /* sums of two numbers below it have 32 bits */

/* A window's reach may not go beyond 32 bits: far more than any map that fits into a GPU, but padding and dilation are a model's to choose. */
PapaStatus check(const PapaPool2d *p)
{
    const int64_t length[2] = {p->H, p->W}, n_windows[2] = {p->OH, p->OW};
    bool fits = p->C < kLimit;
    for (int axis = 0; axis < 2; axis++)
        fits = fits && length[axis] < kLimit && n_windows[axis] < kLimit && p->K[axis] < kLimit && p->stride[axis] < kLimit &&
            p->dilation[axis] < kLimit && p->pad[axis] < kLimit / 2 && p->pad[axis + 2] < kLimit / 2 && p->K[axis] * p->dilation[axis] < kLimit &&
            n_windows[axis] * p->stride[axis] < kLimit;
    return fits ? PAPA_OK : papa_fail(PAPA_ERR_UNSUPPORTED, "pooling on a GPU: expected a map and windows that reach less than %lld elements down and across, "
        "found a map of %lldx%lld, windows of %lldx%lld", (long long)kLimit, (long long)p->H, (long long)p->W, (long long)p->K[0], (long long)p->K[1]);
}

inline Pool pool_of(const PapaPool2d *p, int V)
{
    Pool to;
    to.H = (int)p->H, to.W = (int)p->W, to.packs = (int)(p->C / V), to.OH = (int)p->OH, to.OW = (int)p->OW;
    for (int axis = 0; axis < 2; axis++) {
        to.K[axis] = (int)p->K[axis], to.stride[axis] = (int)p->stride[axis], to.dilation[axis] = (int)p->dilation[axis];
        to.pad[axis] = (int)p->pad[axis], to.pad[axis + 2] = (int)p->pad[axis + 2];
    }
    to.include_pad = p->include_pad;
    return to;
}

/* Packs are worth it where there are enough of them to fill the GPU: before that, more threads are. */
constexpr int64_t kEnoughPacks = 1 << 14;

template <class T> inline bool wide(const PapaPool2d *p, int64_t n, const T *x, const T *y, const uint16_t *argmax)
{
    constexpr int V = kPack<T>;
    return p->C % V == 0 && n / V >= kEnoughPacks && aligned(x, V) && aligned(y, V) && aligned(argmax, V);
}

/* Launches kernel, a template whose last argument is the type of n, over n items; the kernel's last parameter is n. */
#define LAUNCH_ITEMS(dev, n, kernel, ...)                                                                         \
    do {                                                                                                          \
        if ((n) < INT32_MAX)                                                                                      \
            PAPA_LAUNCH(dev, (kernel<T, V, uint32_t>), blocks_for(dev, (n)), kThreads, 0, __VA_ARGS__, (uint32_t)(n)); \
        else                                                                                                      \
            PAPA_LAUNCH(dev, (kernel<T, V, int64_t>), blocks_for(dev, (n)), kThreads, 0, __VA_ARGS__, (n));       \
    } while (0)

template <class T, int V> PapaStatus forward(PapaDevice *dev, const PapaPool2d *pool, bool max, T *y, uint16_t *argmax, const T *x, int64_t n)
{
    const Pool p = pool_of(pool, V);
    if (max)
        LAUNCH_ITEMS(dev, n / V, max_forward, y, argmax, x, p);
    else
        LAUNCH_ITEMS(dev, n / V, average_forward, y, x, p);
    return PAPA_OK;
}

template <class T, int V>
PapaStatus backward(PapaDevice *dev, const PapaPool2d *pool, T *dx, const T *dy, const uint16_t *argmax, bool accumulate, int64_t n)
{
    const Pool p = pool_of(pool, V);
    if (argmax)
        LAUNCH_ITEMS(dev, n / V, max_backward, dx, dy, argmax, p, accumulate);
    else
        LAUNCH_ITEMS(dev, n / V, average_backward, dx, dy, p, accumulate);
    return PAPA_OK;
}

template <class T> PapaStatus forward(PapaDevice *dev, const PapaPool2d *pool, bool max, PapaReal *y, uint16_t *argmax, const PapaReal *x)
{
    T *to = (T *)y;
    const T *from = (const T *)x;
    const int64_t n = pool->N * pool->OH * pool->OW * pool->C;
    PAPA_TRY(check(pool));
    if (n)
        PAPA_FOR_WIDTH(wide(pool, n, from, to, argmax), forward<T, V>(dev, pool, max, to, argmax, from, n));
    return PAPA_OK;
}

template <class T>
PapaStatus backward(PapaDevice *dev, const PapaPool2d *pool, PapaReal *dx, const PapaReal *dy, const uint16_t *argmax, bool accumulate)
{
    T *to = (T *)dx;
    const T *from = (const T *)dy;
    const int64_t n = pool->N * pool->H * pool->W * pool->C;
    PAPA_TRY(check(pool));
    if (n)
        PAPA_FOR_WIDTH(wide(pool, n, from, to, argmax), backward<T, V>(dev, pool, to, from, argmax, accumulate, n));
    return PAPA_OK;
}

} // namespace
} // namespace papa

using namespace papa;

PapaStatus papa_maxpool_fwd_cuda(PapaDevice *dev, const PapaPool2d *pool, PapaReal *y, uint16_t *argmax, const PapaReal *x)
{
    PAPA_FOR_ELEMENT(dev, forward<T>(dev, pool, true, y, argmax, x));
    return PAPA_OK;
}

PapaStatus papa_maxpool_bwd_cuda(PapaDevice *dev, const PapaPool2d *pool, PapaReal *dx, const PapaReal *dy, const uint16_t *argmax, bool accumulate)
{
    PAPA_FOR_ELEMENT(dev, backward<T>(dev, pool, dx, dy, argmax, accumulate));
    return PAPA_OK;
}

PapaStatus papa_avgpool_fwd_cuda(PapaDevice *dev, const PapaPool2d *pool, PapaReal *y, const PapaReal *x)
{
    PAPA_FOR_ELEMENT(dev, forward<T>(dev, pool, false, y, NULL, x));
    return PAPA_OK;
}

PapaStatus papa_avgpool_bwd_cuda(PapaDevice *dev, const PapaPool2d *pool, PapaReal *dx, const PapaReal *dy, bool accumulate)
{
    PAPA_FOR_ELEMENT(dev, backward<T>(dev, pool, dx, dy, NULL, accumulate));
    return PAPA_OK;
}
