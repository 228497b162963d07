/* CUDA half of eltwise.h. Each thread takes packs of 16 bytes, or single elements where the addresses or a row's length don't allow it. */
#include "kernels/cuda.cuh"

#include "kernels/walk.cuh"

extern "C" {
#include "kernels/eltwise.h"
}
#include "kernels/eltwise_math.h"

namespace papa {
namespace {

/* ---------------------------------------------------------------- one operand */

/* Elements [0, n): n_packs packs of N, then singles. */
template <class T> struct Unary {
    T *to;
    const T *x, *saved;
    int64_t n_packs, n;
    float a, b;
    bool accumulate;
};

template <PapaUnary F, int N, class T> __device__ __forceinline__ void forward_at(const Unary<T> &u, int64_t i)
{
    Floats<N> x = load_floats<N>(u.x + i);
#pragma unroll
    for (int k = 0; k < N; k++)
        x.v[k] = papa_unary_value(F, x.v[k], u.a, u.b);
    store_floats(u.to + i, x);
}

template <PapaUnary F, int N, class T> __device__ __forceinline__ void backward_at(const Unary<T> &u, int64_t i)
{
    Floats<N> dy = load_floats<N>(u.x + i), saved = dy;
    if (F != PAPA_UNARY_NEG)
        saved = load_floats<N>(u.saved + i);
#pragma unroll
    for (int k = 0; k < N; k++)
        dy.v[k] = papa_unary_slope(F, dy.v[k], saved.v[k], u.a, u.b);
    store_floats(u.to + i, dy, u.accumulate);
}

template <PapaUnary F, class T> __global__ void __launch_bounds__(kThreads) unary_fwd(const Unary<T> u)
{
    constexpr int N = kPack<T>;
    PAPA_GRID_STRIDE(i, u.n_packs)
        forward_at<F, N>(u, i * N);
    PAPA_GRID_STRIDE(i, u.n - u.n_packs * N)
        forward_at<F, 1>(u, u.n_packs * N + i);
}

/* 3 blocks at a time on a multiprocessor: asked for more, ptxas spills (the gradient of GELU). */
template <PapaUnary F, class T> __global__ void __launch_bounds__(kThreads, 3) unary_bwd(const Unary<T> u)
{
    constexpr int N = kPack<T>;
    PAPA_GRID_STRIDE(i, u.n_packs)
        backward_at<F, N>(u, i * N);
    PAPA_GRID_STRIDE(i, u.n - u.n_packs * N)
        backward_at<F, 1>(u, u.n_packs * N + i);
}

template <class T> float as_stored(float x);
template <> float as_stored<float>(float x) { return x; }
template <> float as_stored<__nv_bfloat16>(float x) { return __bfloat162float(__float2bfloat16(x)); }

template <class T> PapaStatus run_unary(PapaDevice *dev, PapaUnary f, bool backward, Unary<T> u)
{
    constexpr int N = kPack<T>;
    bool packs = aligned(u.to, N) && aligned(u.x, N) && aligned(u.saved, N);
    u.n_packs = packs ? u.n / N : 0;
    if (!u.n)
        return PAPA_OK;
    if (backward && f == PAPA_UNARY_CLIP) /* what was clipped stands in y as the bounds are when they are stored */
        u.a = as_stored<T>(u.a), u.b = as_stored<T>(u.b);
    unsigned blocks = blocks_for(dev, u.n_packs ? u.n_packs : u.n);
    switch (f) {
#define CASE(F)                                                           \
    case F:                                                               \
        if (backward)                                                     \
            PAPA_LAUNCH(dev, (unary_bwd<F, T>), blocks, kThreads, 0, u);  \
        else                                                              \
            PAPA_LAUNCH(dev, (unary_fwd<F, T>), blocks, kThreads, 0, u);  \
        break;
        PAPA_EACH_UNARY(CASE)
#undef CASE
    }
    return PAPA_OK;
}

} // namespace
} // namespace papa

using namespace papa;

PapaStatus papa_unary_fwd_cuda(PapaDevice *dev, PapaUnary f, PapaReal *y, const PapaReal *x, int64_t n, float a, float b)
{
    PAPA_FOR_ELEMENT(dev, run_unary(dev, f, false, Unary<T>{(T *)y, (const T *)x, nullptr, 0, n, a, b, false}));
    return PAPA_OK;
}

PapaStatus papa_unary_bwd_cuda(PapaDevice *dev, PapaUnary f, PapaReal *dx, const PapaReal *dy, const PapaReal *saved, int64_t n, float a, float b,
    bool accumulate)
{
    PAPA_FOR_ELEMENT(dev, run_unary(dev, f, true, Unary<T>{(T *)dx, (const T *)dy, (const T *)saved, 0, n, a, b, accumulate}));
    return PAPA_OK;
}

PapaStatus papa_relu_bwd_cuda(PapaDevice *dev, PapaReal *dx, const PapaReal *dy, const PapaReal *y, int64_t n, bool accumulate)
{
    return papa_unary_bwd_cuda(dev, PAPA_UNARY_RELU, dx, dy, y, n, 0, 0, accumulate);
}

/* ---------------------------------------------------------------- two operands */

namespace papa {
namespace {

/* axes: packs of N along y, which is dense; a and b stand in them. */
template <class T> struct Binary {
    T *y;
    const T *a, *b;
    Axes axes;
    int64_t n_packs;
    bool a_steps, b_steps; /* along a pack */
    PapaBinary f;
    bool relu;
};

template <int N, class T> __device__ __forceinline__ void binary_at(const Binary<T> &c, int64_t i, Offsets at)
{
    Floats<N> a = load_floats<N>(c.a + at.a, c.a_steps), b = load_floats<N>(c.b + at.b, c.b_steps);
    switch (c.f) { /* around the loop: one branch for a pack */
#define CASE(F)                                              \
    case F:                                                  \
        for (int k = 0; k < N; k++)                          \
            a.v[k] = papa_binary_value(F, a.v[k], b.v[k]);   \
        break;
        CASE(PAPA_BINARY_ADD) CASE(PAPA_BINARY_SUB) CASE(PAPA_BINARY_MUL) CASE(PAPA_BINARY_DIV)
#undef CASE
    }
    if (c.relu)
#pragma unroll
        for (int k = 0; k < N; k++)
            a.v[k] = papa_unary_value(PAPA_UNARY_RELU, a.v[k], 0, 0);
    store_floats(c.y + i, a);
}

template <int N, class T> __global__ void __launch_bounds__(kThreads) binary_walk(const Binary<T> c)
{
    PAPA_GRID_STRIDE(i, c.n_packs)
        binary_at<N>(c, i * N, axes_at(c.axes, i));
}

/* One axis: y[i] from a[i] or a[0], b[i] or b[0]. */
template <int N, class T> __global__ void __launch_bounds__(kThreads) binary_dense(const Binary<T> c, int64_t n)
{
    PAPA_GRID_STRIDE(i, c.n_packs)
        binary_at<N>(c, i * N, {c.a_steps ? i * N : 0, c.b_steps ? i * N : 0});
    int64_t done = c.n_packs * N;
    PAPA_GRID_STRIDE(i, n - done)
        binary_at<1>(c, done + i, {c.a_steps ? done + i : 0, c.b_steps ? done + i : 0});
}

template <class T> PapaStatus run_binary(PapaDevice *dev, Binary<T> c, const PapaWalk *walk)
{
    constexpr int N = kPack<T>;
    int last = walk->rank - 1;
    int64_t n = papa_walk_count(walk);
    if (!n)
        return PAPA_OK;
    c.a_steps = walk->a[last], c.b_steps = walk->b[last];
    bool packs = aligned(c.y, N) && (!c.a_steps || aligned(c.a, N)) && (!c.b_steps || aligned(c.b, N));
    if (!last) {
        c.n_packs = packs ? n / N : 0;
        PAPA_LAUNCH(dev, (binary_dense<N, T>), blocks_for(dev, c.n_packs ? c.n_packs : n), kThreads, 0, c, n);
        return PAPA_OK;
    }
    packs = packs && walk->dim[last] % N == 0;
    c.axes = walk_axes(walk, packs ? N : 1);
    c.n_packs = c.axes.count;
    if (packs)
        PAPA_LAUNCH(dev, (binary_walk<N, T>), blocks_for(dev, c.n_packs), kThreads, 0, c);
    else
        PAPA_LAUNCH(dev, (binary_walk<1, T>), blocks_for(dev, c.n_packs), kThreads, 0, c);
    return PAPA_OK;
}

} // namespace
} // namespace papa

PapaStatus papa_binary_fwd_cuda(PapaDevice *dev, PapaBinary f, PapaReal *y, const PapaReal *a, const PapaReal *b, const PapaWalk *walk, bool relu)
{
    PAPA_FOR_ELEMENT(dev, run_binary(dev, Binary<T>{(T *)y, (const T *)a, (const T *)b, no_axes(), 0, false, false, f, relu}, walk));
    return PAPA_OK;
}
