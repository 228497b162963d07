/* Index arithmetic of the CUDA halves that go through several axes: which offsets belong to the i-th element, without a division. */
#ifndef PAPA_WALK_CUH
#define PAPA_WALK_CUH

#include "kernels/cuda.cuh"

extern "C" {
#include "kernels/broadcast.h"
}

namespace papa {

/* Division by d >= 1, as a product with ceil(2^(63 + s) / d), s = ceil(log2 d): exact for dividends below 2^63 (Granlund and Montgomery, 1994). */
struct Divider {
    uint64_t factor; /* 0: d is 1 */
    int shift;
};

inline Divider divider(int64_t d)
{
    int s = 0;
    while (s < 63 && (int64_t)1 << s < d)
        s++;
    if (!s)
        return {0, 0};
    return {(uint64_t)(((unsigned __int128)1 << (63 + s)) / (uint64_t)d + 1), s - 1};
}

__device__ __forceinline__ int64_t divide(int64_t n, const Divider &by)
{
    uint64_t high = (uint64_t)(((unsigned __int128)(uint64_t)n * by.factor) >> 64);
    return by.factor ? (int64_t)(high >> by.shift) : n;
}

/* Axes that an index runs through in row-major order, with a stride for each of two operands. Axes of length 1 are left out. */
constexpr int kAxes = 8;
struct Axes {
    int n;
    int64_t count; /* of indices */
    int64_t dim[kAxes], a[kAxes], b[kAxes];
    Divider by[kAxes];
};

inline Axes no_axes() { return Axes{0, 1, {}, {}, {}, {}}; }

inline void axes_add(Axes *axes, int64_t dim, int64_t a, int64_t b)
{
    axes->count *= dim;
    if (dim < 2) /* nothing to step along; an empty space is never walked */
        return;
    int k = axes->n++;
    axes->dim[k] = dim, axes->a[k] = a, axes->b[k] = b, axes->by[k] = divider(dim);
}

/* A walk's axes, the last one in packs of `step`. */
inline Axes walk_axes(const PapaWalk *walk, int64_t step)
{
    Axes axes = no_axes();
    for (int k = 0; k < walk->rank; k++) {
        const int64_t pack = k == walk->rank - 1 ? step : 1;
        axes_add(&axes, walk->dim[k] / pack, walk->a[k] * pack, walk->b[k] * pack);
    }
    return axes;
}

struct Offsets {
    int64_t a, b;
};

__device__ __forceinline__ Offsets axes_at(const Axes &axes, int64_t index)
{
    Offsets at = {0, 0};
    for (int k = axes.n - 1; k > 0; k--) {
        int64_t rest = divide(index, axes.by[k]), i = index - rest * axes.dim[k];
        at.a += i * axes.a[k], at.b += i * axes.b[k];
        index = rest;
    }
    at.a += index * axes.a[0], at.b += index * axes.b[0]; /* strides of 0 where there are no axes */
    return at;
}

/* ---- neighbours ---- */

template <int N, class T> __device__ __forceinline__ Pack<T, N> load_pack(const T *from) { return *reinterpret_cast<const Pack<T, N> *>(from); }
template <int N, class T> __device__ __forceinline__ void store_pack(T *to, const Pack<T, N> &x) { *reinterpret_cast<Pack<T, N> *>(to) = x; }

/* N neighbours as floats; one that is repeated where they don't step. */
template <int N> struct Floats {
    float v[N];
};
template <int N, class T> __device__ __forceinline__ Floats<N> load_floats(const T *from, bool steps = true)
{
    Floats<N> x;
    if (steps) {
        Pack<T, N> pack = load_pack<N>(from);
#pragma unroll
        for (int i = 0; i < N; i++)
            x.v[i] = load(pack.v[i]);
    } else {
        float one = load(*from);
#pragma unroll
        for (int i = 0; i < N; i++)
            x.v[i] = one;
    }
    return x;
}

/* to (=|+=) x. */
template <int N, class T> __device__ __forceinline__ void store_floats(T *to, Floats<N> x, bool accumulate = false)
{
    Pack<T, N> out;
    if (accumulate) {
        Pack<T, N> old = load_pack<N>(to);
#pragma unroll
        for (int i = 0; i < N; i++)
            out.v[i] = store<T>(load(old.v[i]) + x.v[i]);
    } else {
#pragma unroll
        for (int i = 0; i < N; i++)
            out.v[i] = store<T>(x.v[i]);
    }
    store_pack<N>(to, out);
}

} // namespace papa

#endif
