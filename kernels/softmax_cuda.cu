/* CUDA half of softmax.h. Short rows of neighbours (inner = 1) are kept in a warp's registers; all others are gone through several times, by as
 * many threads of a block as a column is worth. */
#include "kernels/cuda.cuh"

#include "kernels/walk.cuh"

extern "C" {
#include "kernels/softmax.h"
}

namespace papa {
namespace {

template <class T> struct Softmax {
    T *to;
    const T *x; /* or dy */
    const T *y; /* backward */
    int64_t n;  /* columns: outer * inner */
    int64_t D, inner;
    bool log, accumulate;
};

__device__ __forceinline__ float gradient(bool log, float dy, float y, float sum)
{
    return log ? dy - expf(y) * sum : y * (dy - sum);
}

template <class T> __device__ __forceinline__ void put(const Softmax<T> &s, int64_t at, float dx)
{
    s.to[at] = store<T>(s.accumulate ? load(s.to[at]) + dx : dx);
}

/* ---------------------------------------------------------------- rows of at most 32 * ITEMS */

constexpr int64_t kRegisterRow = 1024;

/* v[k]: element lane + 32 k of a row, `beyond` behind its end. */
template <int ITEMS, class T> __device__ __forceinline__ void load_row(float *v, const T *row, int lane, int D, float beyond)
{
#pragma unroll
    for (int k = 0; k < ITEMS; k++)
        v[k] = lane + 32 * k < D ? load(row[lane + 32 * k]) : beyond;
}

template <int ITEMS, class T> __global__ void __launch_bounds__(kThreads) softmax_fwd_rows(const Softmax<T> s)
{
    const int64_t row = ((int64_t)blockIdx.x * kThreads + threadIdx.x) / 32;
    const int lane = (int)threadIdx.x % 32, D = (int)s.D;
    if (row >= s.n) /* all 32 or none */
        return;
    float v[ITEMS], max = -INFINITY, sum = 0;
    load_row<ITEMS>(v, s.x + row * D, lane, D, -INFINITY);
#pragma unroll
    for (int k = 0; k < ITEMS; k++)
        max = Max()(max, v[k]);
    max = warp_all(max, Max());
#pragma unroll
    for (int k = 0; k < ITEMS; k++) {
        const float e = expf(v[k] - max);
        v[k] = s.log ? v[k] - max : e;
        sum += e;
    }
    sum = warp_all(sum, Add());
    const float factor = s.log ? logf(sum) : 1 / sum;
#pragma unroll
    for (int k = 0; k < ITEMS; k++)
        if (lane + 32 * k < D)
            s.to[row * D + lane + 32 * k] = store<T>(s.log ? v[k] - factor : v[k] * factor);
}

template <int ITEMS, class T> __global__ void __launch_bounds__(kThreads) softmax_bwd_rows(const Softmax<T> s)
{
    const int64_t row = ((int64_t)blockIdx.x * kThreads + threadIdx.x) / 32;
    const int lane = (int)threadIdx.x % 32, D = (int)s.D;
    if (row >= s.n)
        return;
    float dy[ITEMS], y[ITEMS], sum = 0;
    load_row<ITEMS>(dy, s.x + row * D, lane, D, 0);
    load_row<ITEMS>(y, s.y + row * D, lane, D, 0);
#pragma unroll
    for (int k = 0; k < ITEMS; k++)
        sum += s.log ? dy[k] : dy[k] * y[k];
    sum = warp_all(sum, Add());
#pragma unroll
    for (int k = 0; k < ITEMS; k++)
        if (lane + 32 * k < D)
            put(s, row * D + lane + 32 * k, gradient(s.log, dy[k], y[k], sum));
}

template <int ITEMS, class T> PapaStatus run_rows(PapaDevice *dev, const Softmax<T> &s)
{
    const unsigned blocks = (unsigned)ceil_div(s.n, kThreads / 32);
    if (s.y)
        PAPA_LAUNCH(dev, (softmax_bwd_rows<ITEMS, T>), blocks, kThreads, 0, s);
    else
        PAPA_LAUNCH(dev, (softmax_fwd_rows<ITEMS, T>), blocks, kThreads, 0, s);
    return PAPA_OK;
}

/* ---------------------------------------------------------------- columns */

/* A block has `width` columns side by side and kThreads / width threads for each. */
struct Columns {
    int width, lanes;
    Divider by_inner;
};

/* Over the threads of a column; every one of them gets it. between: kThreads elements, which serve one call. */
template <class A, class Join> __device__ __forceinline__ A column_all(A x, Join join, const Columns &c, A *between)
{
    const int thread = (int)threadIdx.x;
    between[thread] = x;
    __syncthreads();
    for (int half = c.lanes / 2; half; half /= 2) {
        if (thread < half * c.width)
            between[thread] = join(between[thread], between[thread + half * c.width]);
        __syncthreads();
    }
    return between[thread & (c.width - 1)];
}

/* The column's first element; column < s.n. */
template <class T> __device__ __forceinline__ int64_t column_start(const Softmax<T> &s, const Columns &c, int64_t column)
{
    const int64_t outer = divide(column, c.by_inner);
    return outer * s.D * s.inner + (column - outer * s.inner);
}

/* Sum of term(offset) over this thread's elements, in float32 blocks that are added in double. */
template <class Term> __device__ __forceinline__ double thread_sum(int64_t first, int64_t D, int64_t step, Term term)
{
    double total = 0;
    for (int64_t block = first; block < D; block += 128 * step) {
        const int64_t end = block + 128 * step < D ? block + 128 * step : D;
        float sum = 0;
#pragma unroll 4
        for (int64_t d = block; d < end; d += step)
            sum += term(d);
        total += (double)sum;
    }
    return total;
}

template <class T> __global__ void __launch_bounds__(kThreads) softmax_fwd_columns(const Softmax<T> s, const Columns c)
{
    PAPA_SHARED(float, maxima, kThreads);
    PAPA_SHARED(double, sums, kThreads);
    const int64_t column = (int64_t)blockIdx.x * c.width + (threadIdx.x & (c.width - 1));
    const int64_t first = column < s.n ? threadIdx.x / c.width : s.D; /* behind the last column there is nothing to do but wait */
    const T *x = s.x + (column < s.n ? column_start(s, c, column) : 0);
    float max = -INFINITY;
#pragma unroll 4
    for (int64_t d = first; d < s.D; d += c.lanes)
        max = Max()(max, load(x[d * s.inner]));
    max = column_all(max, Max(), c, maxima);
    const double sum = column_all(thread_sum(first, s.D, c.lanes, [&](int64_t d) { return expf(load(x[d * s.inner]) - max); }), Add(), c, sums);
    const float factor = s.log ? logf((float)sum) : (float)(1 / sum);
    T *y = s.to + (x - s.x);
    for (int64_t d = first; d < s.D; d += c.lanes) {
        const float t = load(x[d * s.inner]) - max;
        y[d * s.inner] = store<T>(s.log ? t - factor : expf(t) * factor);
    }
}

template <class T> __global__ void __launch_bounds__(kThreads) softmax_bwd_columns(const Softmax<T> s, const Columns c)
{
    PAPA_SHARED(double, sums, kThreads);
    const int64_t column = (int64_t)blockIdx.x * c.width + (threadIdx.x & (c.width - 1));
    const int64_t first = column < s.n ? threadIdx.x / c.width : s.D;
    const int64_t start = column < s.n ? column_start(s, c, column) : 0;
    const T *dy = s.x + start, *y = s.y + start;
    const double sum = column_all(thread_sum(first, s.D, c.lanes, [&](int64_t d) {
        const float one = load(dy[d * s.inner]);
        return s.log ? one : one * load(y[d * s.inner]);
    }), Add(), c, sums);
    for (int64_t d = first; d < s.D; d += c.lanes)
        put(s, start + d * s.inner, gradient(s.log, load(dy[d * s.inner]), load(y[d * s.inner]), (float)sum));
}

template <class T> PapaStatus run_columns(PapaDevice *dev, const Softmax<T> &s)
{
    Columns c = {kThreads, 1, divider(s.inner)};
    const int64_t least_width = s.inner < 32 ? s.inner : 32; /* what is read together lies together */
    while (c.width / 2 >= least_width && c.lanes * 16 <= s.D)
        c.width /= 2, c.lanes *= 2;
    const unsigned blocks = (unsigned)ceil_div(s.n, c.width);
    if (s.y)
        PAPA_LAUNCH(dev, softmax_bwd_columns<T>, blocks, kThreads, 0, s, c);
    else
        PAPA_LAUNCH(dev, softmax_fwd_columns<T>, blocks, kThreads, 0, s, c);
    return PAPA_OK;
}

template <class T> PapaStatus run(PapaDevice *dev, const Softmax<T> &s)
{
    if (!s.n || !s.D)
        return PAPA_OK;
    if (s.inner > 1 || s.D > kRegisterRow)
        return run_columns(dev, s);
    if (s.D <= 32)
        return run_rows<1>(dev, s);
    if (s.D <= 64)
        return run_rows<2>(dev, s);
    if (s.D <= 128)
        return run_rows<4>(dev, s);
    if (s.D <= 256)
        return run_rows<8>(dev, s);
    if (s.D <= 512)
        return run_rows<16>(dev, s);
    return run_rows<32>(dev, s);
}

} // namespace
} // namespace papa

using namespace papa;

PapaStatus papa_softmax_fwd_cuda(PapaDevice *dev, PapaReal *y, const PapaReal *x, int64_t outer, int64_t D, int64_t inner, bool log)
{
    PAPA_FOR_ELEMENT(dev, run(dev, Softmax<T>{(T *)y, (const T *)x, nullptr, outer * inner, D, inner, log, false}));
    return PAPA_OK;
}

PapaStatus papa_softmax_bwd_cuda(PapaDevice *dev, PapaReal *dx, const PapaReal *dy, const PapaReal *y, int64_t outer, int64_t D, int64_t inner, bool log,
    bool accumulate)
{
    PAPA_FOR_ELEMENT(dev, run(dev, Softmax<T>{(T *)dx, (const T *)dy, (const T *)y, outer * inner, D, inner, log, accumulate}));
    return PAPA_OK;
}
