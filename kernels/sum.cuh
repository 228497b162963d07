/* Sums of a term along some axes of a dense tensor: what papa_sum, papa_binary_bwd and papa_colsum are made of.
 *
 *     to[u] (=|+=) scale * sum over t of term(x[u, t], o[u, t], self[u])
 *
 * u runs through the kept axes (an "output", to is dense in it), t through the summed ones. `lanes` threads of a block share an output; where that
 * leaves the GPU idle, the terms are split between blocks too, whose parts a second kernel joins. Terms are added in float32, kChunk at a time;
 * the rest is double. Who adds what depends on the shape alone, not on the GPU.
 *
 * With the last axis kept (COLUMNS), a thread has N neighbouring outputs and lanes go through rows; else N neighbouring terms of one output. */
#ifndef PAPA_SUM_CUH
#define PAPA_SUM_CUH

#include "kernels/walk.cuh"

namespace papa {

constexpr int kChunk = 32;       /* terms that one float32 takes */
constexpr int64_t kFill = 1024;  /* blocks that fill any GPU */
constexpr int kLeastTerms = 8;   /* (packs of) terms that are worth a thread */

enum Term { TERM_X, TERM_TIMES, TERM_QUOTIENT };

template <class To, class T> struct Sum {
    To *to;
    const T *x, *o, *self;
    double *parts; /* [output][split], where there is more than one split */
    Axes kept, summed; /* strides a: of x, b: of o. x's dense axis counts packs of N */
    int64_t n_outputs; /* COLUMNS: packs of them */
    int64_t n_terms, split_terms; /* of an output; of one split of it */
    int n_splits;
    int lanes, log_lanes; /* a power of two, at most kThreads */
    bool o_steps;  /* o advances along x's dense axis */
    bool divisor;  /* TERM_QUOTIENT: d(o / self) / d self, else 1 / o */
    bool accumulate;
    float scale;
};

template <int TERM> __device__ __forceinline__ float term_of(float x, float o, float self, bool divisor)
{
    if (TERM == TERM_X)
        return x;
    if (TERM == TERM_TIMES)
        return x * o;
    return divisor ? -x * o / (self * self) : x / o;
}

template <class To> __device__ __forceinline__ void finish_sum(To *to, double total, float scale, bool accumulate)
{
    float sum = (float)((double)scale * total);
    *to = store<To>(accumulate ? load(*to) + sum : sum);
}

/* total[w] += the terms first, first + lanes, ... below end of one output, or of N. */
template <int TERM, bool COLUMNS, int N, class To, class T>
__device__ __forceinline__ void add_terms(double *total, const Sum<To, T> &s, int64_t output, int64_t first, int64_t end)
{
    const Offsets kept = axes_at(s.kept, output);
    Floats<N> self = {};
    if (TERM == TERM_QUOTIENT && s.divisor)
        self = load_floats<N>(s.self + (COLUMNS ? output * N : output), COLUMNS);
    for (int64_t chunk = first; chunk < end; chunk += (int64_t)kChunk * s.lanes) {
        float sum[N] = {};
        const int64_t left = (end - chunk + s.lanes - 1) >> s.log_lanes;
        const int n = left < kChunk ? (int)left : kChunk;
#pragma unroll 4
        for (int k = 0; k < n; k++) {
            Offsets at = axes_at(s.summed, chunk + (int64_t)k * s.lanes);
            Floats<N> x = load_floats<N>(s.x + kept.a + at.a), o = x;
            if (TERM != TERM_X)
                o = load_floats<N>(s.o + kept.b + at.b, s.o_steps);
#pragma unroll
            for (int i = 0; i < N; i++)
                sum[i] += term_of<TERM>(x.v[i], o.v[i], self.v[i], s.divisor);
        }
#pragma unroll
        for (int i = 0; i < N; i++)
            total[COLUMNS ? i : 0] += (double)sum[i];
    }
}

/* Grid: (groups of kThreads / lanes outputs, splits). */
template <int TERM, bool COLUMNS, int N, class To, class T> __global__ void __launch_bounds__(kThreads, 3) sum_terms(const Sum<To, T> s)
{
    constexpr int W = COLUMNS ? N : 1;
    PAPA_SHARED(double, between, W * kThreads);
    const int thread = (int)threadIdx.x, outputs = kThreads >> s.log_lanes;
    const int lane = COLUMNS ? thread / outputs : thread & (s.lanes - 1);
    const int64_t output = (int64_t)blockIdx.x * outputs + (COLUMNS ? thread & (outputs - 1) : thread >> s.log_lanes);
    const int64_t begin = blockIdx.y * s.split_terms, end = begin + s.split_terms < s.n_terms ? begin + s.split_terms : s.n_terms;
    double total[W] = {};
    if (output < s.n_outputs)
        add_terms<TERM, COLUMNS, N>(total, s, output, begin + lane, end);
    for (int half = s.lanes / 2, apart = COLUMNS ? outputs : 1; half; half /= 2) {
#pragma unroll
        for (int w = 0; w < W; w++)
            between[w * kThreads + thread] = total[w];
        __syncthreads();
        if (lane < half)
#pragma unroll
            for (int w = 0; w < W; w++)
                total[w] += between[w * kThreads + thread + half * apart];
        __syncthreads();
    }
    if (lane || output >= s.n_outputs)
        return;
#pragma unroll
    for (int w = 0; w < W; w++)
        if (s.n_splits > 1)
            s.parts[(output * W + w) * s.n_splits + blockIdx.y] = total[w];
        else
            finish_sum(s.to + output * W + w, total[w], s.scale, s.accumulate);
}

/* A warp for each output. */
template <class To> __global__ void __launch_bounds__(kThreads) join_parts(To *to, const double *parts, int64_t n_outputs, int n_splits, float scale, bool accumulate)
{
    const int64_t output = ((int64_t)blockIdx.x * kThreads + threadIdx.x) / 32;
    const int lane = (int)threadIdx.x % 32;
    double total = 0;
    if (output >= n_outputs) /* all 32 or none */
        return;
    for (int split = lane; split < n_splits; split += 32)
        total += parts[output * n_splits + split];
    total = warp_all(total, Add());
    if (lane == 0)
        finish_sum(to + output, total, scale, accumulate);
}

/* ---- how a sum is dealt out ---- */

inline int64_t power_of_two_up_to(int64_t n)
{
    int64_t p = 1;
    while (2 * p <= n)
        p *= 2;
    return p;
}

inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

/* Sets lanes and splits; n_outputs and n_terms are known. width: outputs that a thread has. */
template <class To, class T> void deal_out(PapaDevice *dev, Sum<To, T> *s, bool columns, int width)
{
    const int64_t worth = power_of_two_up_to(s->n_terms / kLeastTerms);
    if (columns) /* 16 packs side by side are read at once, if there are as many */
        s->lanes = (int)least(worth, kThreads / least(16, 2 * power_of_two_up_to(s->n_outputs)));
    else /* a warp reads an output's terms side by side */
        s->lanes = (int)least(most(worth, least(32, power_of_two_up_to(s->n_terms))), kThreads);
    for (s->log_lanes = 0; 1 << s->log_lanes < s->lanes;)
        s->log_lanes++;
    const int64_t groups = ceil_div(s->n_outputs, kThreads / s->lanes), room = (int64_t)(PAPA_CUDA_SCRATCH / sizeof(double)) / (s->n_outputs * width);
    int64_t splits = least(least(kFill / groups, room), s->n_terms / (s->lanes * kLeastTerms));
    s->split_terms = ceil_div(s->n_terms, most(splits, 1));
    s->n_splits = (int)most(1, s->split_terms ? ceil_div(s->n_terms, s->split_terms) : 1);
    s->parts = (double *)papa_cuda(dev)->scratch;
}

/* n_outputs and n_terms, lanes and splits are filled in. */
template <int TERM, bool COLUMNS, int N, class To, class T> PapaStatus sum_run(PapaDevice *dev, Sum<To, T> s)
{
    constexpr int W = COLUMNS ? N : 1;
    s.n_outputs = s.kept.count, s.n_terms = s.summed.count;
    if (!s.n_outputs)
        return PAPA_OK;
    deal_out(dev, &s, COLUMNS, W);
    const dim3 grid((unsigned)ceil_div(s.n_outputs, kThreads / s.lanes), (unsigned)s.n_splits);
    PAPA_LAUNCH(dev, (sum_terms<TERM, COLUMNS, N, To, T>), grid, kThreads, 0, s);
    if (s.n_splits > 1)
        PAPA_LAUNCH(dev, join_parts<To>, (unsigned)ceil_div(s.n_outputs * W * 32, kThreads), kThreads, 0, s.to, (const double *)s.parts, s.n_outputs * W,
            s.n_splits, s.scale, s.accumulate);
    return PAPA_OK;
}

} // namespace papa

#endif
