/* CUDA half of reduce.h: sums by kernels/sum.cuh, and what remains where nothing is summed. */
#include "kernels/cuda.cuh"

#include "kernels/sum.cuh"

extern "C" {
#include "kernels/reduce.h"
}

namespace papa {
namespace {

/* ---------------------------------------------------------------- nothing to sum */

enum Map { MAP_X, MAP_OTHER, MAP_TIMES, MAP_OVER, MAP_DIVISOR };

/* to[i] (=|+=) scale * term(x[i], o[at i], self[i]): to, x and self are dense, o stands in the axes, which count packs of N. */
template <class T> struct Mapped {
    T *to;
    const T *x, *o, *self;
    Axes axes;
    int64_t n_packs;
    bool o_steps, accumulate; /* o_steps: along a pack */
    Map term;
    float scale;
};

template <int N, class T> __device__ __forceinline__ void map_at(const Mapped<T> &m, int64_t i, int64_t o_at)
{
    Floats<N> x = {}, o = {};
    if (m.term != MAP_OTHER)
        x = load_floats<N>(m.x + i);
    if (m.term != MAP_X)
        o = load_floats<N>(m.o + o_at, m.o_steps);
    switch (m.term) { /* around the loops: one branch for a pack */
#define CASE(which, value)              \
    case which:                         \
        for (int k = 0; k < N; k++)     \
            x.v[k] = m.scale * (value); \
        break;
        CASE(MAP_X, x.v[k])
        CASE(MAP_OTHER, o.v[k])
        CASE(MAP_TIMES, x.v[k] * o.v[k])
        CASE(MAP_OVER, x.v[k] / o.v[k])
    case MAP_DIVISOR:
        Floats<N> self = load_floats<N>(m.self + i);
        for (int k = 0; k < N; k++)
            x.v[k] = m.scale * (-x.v[k] * o.v[k] / (self.v[k] * self.v[k]));
        break;
#undef CASE
    }
    store_floats(m.to + i, x, m.accumulate);
}

template <int N, class T> __global__ void __launch_bounds__(kThreads) map_walk(const Mapped<T> m)
{
    PAPA_GRID_STRIDE(i, m.n_packs)
        map_at<N>(m, i * N, axes_at(m.axes, i).b);
}

/* One axis: o[i] or o[0]. */
template <int N, class T> __global__ void __launch_bounds__(kThreads) map_dense(const Mapped<T> m, int64_t n)
{
    PAPA_GRID_STRIDE(i, m.n_packs)
        map_at<N>(m, i * N, m.o_steps ? i * N : 0);
    int64_t done = m.n_packs * N;
    PAPA_GRID_STRIDE(i, n - done)
        map_at<1>(m, done + i, m.o_steps ? done + i : 0);
}

/* o has strides walk->b. */
template <class T> PapaStatus run_map(PapaDevice *dev, Mapped<T> m, const PapaWalk *walk)
{
    constexpr int N = kPack<T>;
    const int last = walk->rank - 1;
    const int64_t n = papa_walk_count(walk);
    if (!n)
        return PAPA_OK;
    m.o_steps = m.o && walk->b[last];
    bool packs = aligned(m.to, N) && aligned(m.x, N) && aligned(m.self, N) && (!m.o_steps || aligned(m.o, N));
    if (!last) {
        m.n_packs = packs ? n / N : 0;
        PAPA_LAUNCH(dev, (map_dense<N, T>), blocks_for(dev, m.n_packs ? m.n_packs : n), kThreads, 0, m, n);
        return PAPA_OK;
    }
    packs = packs && walk->dim[last] % N == 0;
    m.axes = walk_axes(walk, packs ? N : 1);
    m.n_packs = m.axes.count;
    if (packs)
        PAPA_LAUNCH(dev, (map_walk<N, T>), blocks_for(dev, m.n_packs), kThreads, 0, m);
    else
        PAPA_LAUNCH(dev, (map_walk<1, T>), blocks_for(dev, m.n_packs), kThreads, 0, m);
    return PAPA_OK;
}

/* ---------------------------------------------------------------- sums */

bool sums_nothing(const PapaWalk *walk)
{
    int64_t terms = 1;
    for (int k = 0; k < walk->rank; k++)
        terms *= walk->a[k] ? 1 : walk->dim[k];
    return terms == 1;
}

/* Deals the walk's axes to the kept and the summed ones; to has strides walk->a, o walk->b. */
template <class T> void split_axes(Sum<T, T> *s, const PapaWalk *walk, int64_t step)
{
    const int last = walk->rank - 1;
    int64_t x_stride[PAPA_WALK_RANK], stride = 1;
    for (int k = last; k >= 0; stride *= walk->dim[k--])
        x_stride[k] = stride;
    s->kept = s->summed = no_axes();
    for (int k = 0; k <= last; k++) {
        const int64_t packs = k == last ? step : 1;
        axes_add(walk->a[k] ? &s->kept : &s->summed, walk->dim[k] / packs, x_stride[k] * packs, walk->b[k] * packs);
    }
}

template <int TERM, class T> PapaStatus run_sum(PapaDevice *dev, Sum<T, T> s, const PapaWalk *walk)
{
    constexpr int N = kPack<T>;
    const int last = walk->rank - 1;
    s.o_steps = s.o && walk->b[last];
    const bool columns = walk->a[last];
    const bool packs = walk->dim[last] % N == 0 && aligned(s.x, N) && (!s.o_steps || aligned(s.o, N)) && (!columns || aligned(s.self, N));
    split_axes(&s, walk, packs ? N : 1);
    if (columns)
        return packs ? sum_run<TERM, true, N>(dev, s) : sum_run<TERM, true, 1>(dev, s);
    return packs ? sum_run<TERM, false, N>(dev, s) : sum_run<TERM, false, 1>(dev, s);
}

/* The same space with the operands exchanged. */
PapaWalk swapped(const PapaWalk *walk)
{
    PapaWalk other = *walk;
    for (int k = 0; k < walk->rank; k++)
        other.a[k] = walk->b[k], other.b[k] = walk->a[k];
    return other;
}

/* The walk of one operand alone: b joins where a does. */
PapaWalk of_one(const PapaWalk *walk)
{
    PapaWalk one;
    papa_walk_make(&one, walk->rank, walk->dim, walk->a, walk->a);
    return one;
}

template <class T> PapaStatus sum_of_x(PapaDevice *dev, T *y, const T *x, const PapaWalk *walk, float scale, bool accumulate)
{
    const PapaWalk one = of_one(walk);
    if (sums_nothing(&one))
        return run_map(dev, Mapped<T>{y, x, nullptr, nullptr, no_axes(), 0, false, accumulate, MAP_X, scale}, &one);
    Sum<T, T> s = {};
    s.to = y, s.x = x, s.scale = scale, s.accumulate = accumulate;
    return run_sum<TERM_X>(dev, s, &one);
}

template <class T> PapaStatus spread(PapaDevice *dev, T *dx, const T *dy, const PapaWalk *walk, float scale, bool accumulate)
{
    const PapaWalk one = of_one(walk);
    return run_map(dev, Mapped<T>{dx, nullptr, dy, nullptr, no_axes(), 0, false, accumulate, MAP_OTHER, scale}, &one);
}

/* self: the operand whose gradient is d; walk->a is its. */
template <class T> PapaStatus product_bwd(PapaDevice *dev, Map term, T *d, const T *dy, const T *o, const T *self, const PapaWalk *walk, bool accumulate)
{
    if (sums_nothing(walk))
        return run_map(dev, Mapped<T>{d, dy, o, self, no_axes(), 0, false, accumulate, term, 1}, walk);
    Sum<T, T> s = {};
    s.to = d, s.x = dy, s.o = o, s.self = self, s.scale = 1, s.accumulate = accumulate, s.divisor = term == MAP_DIVISOR;
    return term == MAP_TIMES ? run_sum<TERM_TIMES>(dev, s, walk) : run_sum<TERM_QUOTIENT>(dev, s, walk);
}

template <class T> PapaStatus binary_bwd(PapaDevice *dev, PapaBinary f, int operand, T *d, const T *dy, const T *a, const T *b, const PapaWalk *walk, bool accumulate)
{
    const PapaWalk own = operand ? swapped(walk) : *walk;
    const T *self = operand ? b : a, *other = operand ? a : b;
    switch (f) {
    case PAPA_BINARY_ADD: return sum_of_x(dev, d, dy, &own, 1, accumulate);
    case PAPA_BINARY_SUB: return sum_of_x(dev, d, dy, &own, operand ? -1.f : 1.f, accumulate);
    case PAPA_BINARY_MUL: return product_bwd<T>(dev, MAP_TIMES, d, dy, other, nullptr, &own, accumulate);
    case PAPA_BINARY_DIV:
        if (operand)
            return product_bwd<T>(dev, MAP_DIVISOR, d, dy, other, self, &own, accumulate);
        return product_bwd<T>(dev, MAP_OVER, d, dy, other, nullptr, &own, accumulate);
    }
    return PAPA_OK;
}

} // namespace
} // namespace papa

using namespace papa;

PapaStatus papa_sum_cuda(PapaDevice *dev, PapaReal *y, const PapaReal *x, const PapaWalk *walk, double scale, bool accumulate)
{
    PAPA_FOR_ELEMENT(dev, sum_of_x(dev, (T *)y, (const T *)x, walk, (float)scale, accumulate));
    return PAPA_OK;
}

PapaStatus papa_spread_cuda(PapaDevice *dev, PapaReal *dx, const PapaReal *dy, const PapaWalk *walk, double scale, bool accumulate)
{
    PAPA_FOR_ELEMENT(dev, spread(dev, (T *)dx, (const T *)dy, walk, (float)scale, accumulate));
    return PAPA_OK;
}

PapaStatus papa_binary_bwd_cuda(PapaDevice *dev, PapaBinary f, int operand, PapaReal *d, const PapaReal *dy, const PapaReal *a, const PapaReal *b,
    const PapaWalk *walk, bool accumulate)
{
    PAPA_FOR_ELEMENT(dev, binary_bwd(dev, f, operand, (T *)d, (const T *)dy, (const T *)a, (const T *)b, walk, accumulate));
    return PAPA_OK;
}
