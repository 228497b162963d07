/* CUDA half of layernorm.h. A row belongs to a warp, or to a block where it is long, and is held in registers between the passes over it; very
 * long ones are read again. Sums down the rows are those of columns.cuh: blocks of rows, then a warp for each column that joins them. */
#include "kernels/cuda.cuh"

#include "kernels/columns.cuh"

extern "C" {
#include "kernels/layernorm.h"
}

namespace papa {
namespace {

constexpr int kWarp = 32;
template <int V> constexpr int kHeld = V == 1 ? 8 : 32; /* elements of a row that a thread holds, by packs of V */
constexpr int kChunkPacks = 64;  /* packs that one float32 sum takes, where rows are not held */

/* ---------------------------------------------------------------- teams: the threads of a row, kWarp or kThreads */

/* for (int64_t row : this team's rows); the same ones for all of its threads */
#define FOR_ROWS(TEAM, row, rows)                                                                     \
    for (int64_t row = (int64_t)blockIdx.x * (kThreads / (TEAM)) + threadIdx.x / (TEAM); row < (rows); \
         row += (int64_t)gridDim.x * (kThreads / (TEAM)))

template <int TEAM, class A> __device__ __forceinline__ A team_sum(A x)
{
    if constexpr (TEAM == kWarp) {
        return warp_all(x, Add());
    } else {
        PAPA_SHARED(A, between, 32);
        return block_all(x, Add(), (A)0, between);
    }
}

inline unsigned team_blocks(const PapaDevice *dev, int64_t rows, int team)
{
    return blocks_for(dev, rows * team);
}

/* ---------------------------------------------------------------- what a row comes to */

struct Moments {
    float mean, rstd;
};

/* shift + of is the mean; squares were taken around it as a float32. */
__device__ __forceinline__ float around(float shift, float of)
{
    return shift + of;
}
__device__ __forceinline__ Moments moments_of(float center, float shift, float of, float squares, float inverse, float eps)
{
    const float rounding = of - (center - shift), variance = squares * inverse - rounding * rounding;
    return {center, 1 / sqrtf((variance < 0 ? 0 : variance) + eps)}; /* a NaN stays one */
}

template <class T> struct Forward {
    T *y;
    float *mean, *rstd; /* may be NULL */
    const T *x;
    const float *scale, *shift; /* shift may be NULL */
    int64_t rows, D;
    float inverse, eps; /* 1 / D; 0 for D = 0 */
};

template <class T> struct Backward {
    T *dx;
    const T *dy, *x;
    const float *scale, *mean, *rstd;
    int64_t rows, D;
    float inverse;
    bool accumulate;
};

template <class T> __device__ __forceinline__ void keep(const Forward<T> &f, int64_t row, const Moments &m)
{
    if (f.mean)
        f.mean[row] = m.mean;
    if (f.rstd)
        f.rstd[row] = m.rstd;
}

template <int V, class T> __device__ __forceinline__ void put(const Forward<T> &f, int64_t row, int64_t j, const Floats<V> &x, const Moments &m)
{
    const Floats<V> scale = read<V>(f.scale + j);
    Floats<V> shift = {}, y;
    if (f.shift)
        shift = read<V>(f.shift + j);
#pragma unroll
    for (int k = 0; k < V; k++)
        y.v[k] = (x.v[k] - m.mean) * m.rstd * scale.v[k] + shift.v[k];
    write(f.y + row * f.D + j, y);
}

/* What a row's gradient needs: its numbers, and the sums of g and of g * (x - mean) with g = dy * scale. */
struct Slope {
    float mean, rstd, mean_g, slope;
};

__device__ __forceinline__ Slope slope_of(float mean, float rstd, float g, float gd, float inverse)
{
    return {mean, rstd, g * inverse, gd * inverse * rstd * rstd};
}

/* d = x - mean. dx may be dy: each element is written by the thread that read it. */
template <int V, class T> __device__ __forceinline__ void put(const Backward<T> &b, int64_t row, int64_t j, const Floats<V> &g, const Floats<V> &d,
    const Slope &s)
{
    T *to = b.dx + row * b.D + j;
    Floats<V> dx = {};
    if (b.accumulate)
        dx = read<V>(to);
#pragma unroll
    for (int k = 0; k < V; k++)
        dx.v[k] += s.rstd * (g.v[k] - s.mean_g - d.v[k] * s.slope);
    write(to, dx);
}

/* g = dy * scale and d = x - mean at one pack. */
template <int V, class T> __device__ __forceinline__ void get(Floats<V> *g, Floats<V> *d, const Backward<T> &b, int64_t row, int64_t j, float mean)
{
    const Floats<V> scale = read<V>(b.scale + j);
    *g = read<V>(b.dy + row * b.D + j);
    *d = read<V>(b.x + row * b.D + j);
#pragma unroll
    for (int k = 0; k < V; k++)
        g->v[k] *= scale.v[k], d->v[k] -= mean;
}

/* ---------------------------------------------------------------- rows that are held: D <= TEAM * kHeld<V> */

template <class T, int V, int TEAM> __global__ void __launch_bounds__(kThreads) forward_held(const Forward<T> f)
{
    constexpr int K = kHeld<V> / V;
    const int D = (int)f.D, first = (int)threadIdx.x % TEAM * V;
    FOR_ROWS (TEAM, row, f.rows) {
        const T *x = f.x + row * D;
        Floats<V> held[K];
#pragma unroll
        for (int i = 0; i < K; i++) {
            const int j = first + i * TEAM * V;
            held[i] = {};
            if (j < D)
                held[i] = read<V>(x + j);
        }
        /* y may be x. A block's barriers stand between this read and the first write; a warp has only its registers. */
        const float shift = TEAM == kWarp ? __shfl_sync(0xffffffffu, held[0].v[0], 0) : load(x[0]);
        float sum = 0, squares = 0;
#pragma unroll
        for (int i = 0; i < K; i++)
#pragma unroll
            for (int k = 0; k < V; k++)
                sum += first + i * TEAM * V < D ? held[i].v[k] - shift : 0;
        const float of = team_sum<TEAM>(sum) * f.inverse, center = around(shift, of);
#pragma unroll
        for (int i = 0; i < K; i++)
#pragma unroll
            for (int k = 0; k < V; k++) {
                const float d = held[i].v[k] - center;
                squares += first + i * TEAM * V < D ? d * d : 0;
            }
        const Moments m = moments_of(center, shift, of, team_sum<TEAM>(squares), f.inverse, f.eps);
#pragma unroll
        for (int i = 0; i < K; i++)
            if (first + i * TEAM * V < D)
                put(f, row, first + i * TEAM * V, held[i], m);
        if (first == 0)
            keep(f, row, m);
    }
}

template <class T, int V, int TEAM> __global__ void __launch_bounds__(kThreads) backward_held(const Backward<T> b)
{
    constexpr int K = kHeld<V> / V;
    const int D = (int)b.D, first = (int)threadIdx.x % TEAM * V;
    FOR_ROWS (TEAM, row, b.rows) {
        const float mean = b.mean[row], rstd = b.rstd[row];
        Floats<V> g[K], d[K];
        float sum = 0, products = 0;
#pragma unroll
        for (int i = 0; i < K; i++) {
            g[i] = {}, d[i] = {};
            if (first + i * TEAM * V < D)
                get(&g[i], &d[i], b, row, first + i * TEAM * V, mean);
#pragma unroll
            for (int k = 0; k < V; k++)
                sum += g[i].v[k], products += g[i].v[k] * d[i].v[k];
        }
        const float all = team_sum<TEAM>(sum);
        const Slope s = slope_of(mean, rstd, all, team_sum<TEAM>(products), b.inverse);
#pragma unroll
        for (int i = 0; i < K; i++)
            if (first + i * TEAM * V < D)
                put(b, row, first + i * TEAM * V, g[i], d[i], s);
    }
}

/* ---------------------------------------------------------------- longer rows: a block for each, which reads them again */

/* The sum of term(j) over this thread's packs. */
template <int V, class Term> __device__ __forceinline__ float long_sum(int64_t D, Term term)
{
    const int64_t step = kThreads * V;
    double total = 0;
    for (int64_t begin = (int64_t)threadIdx.x * V; begin < D; begin += kChunkPacks * step) {
        const int64_t end = D - begin < kChunkPacks * step ? D : begin + kChunkPacks * step;
        float sum = 0;
        for (int64_t j = begin; j < end; j += step)
            sum += term(j);
        total += (double)sum;
    }
    return (float)team_sum<kThreads>(total);
}

template <class T, int V> __global__ void __launch_bounds__(kThreads) forward_long(const Forward<T> f)
{
    FOR_ROWS (kThreads, row, f.rows) {
        const T *x = f.x + row * f.D;
        const float shift = load(x[0]);
        const float of = f.inverse * long_sum<V>(f.D, [=](int64_t j) {
            const Floats<V> t = read<V>(x + j);
            float sum = 0;
#pragma unroll
            for (int k = 0; k < V; k++)
                sum += t.v[k] - shift;
            return sum;
        });
        const float center = around(shift, of);
        const float squares = long_sum<V>(f.D, [=](int64_t j) {
            const Floats<V> t = read<V>(x + j);
            float sum = 0;
#pragma unroll
            for (int k = 0; k < V; k++)
                sum += (t.v[k] - center) * (t.v[k] - center);
            return sum;
        });
        const Moments m = moments_of(center, shift, of, squares, f.inverse, f.eps);
        for (int64_t j = (int64_t)threadIdx.x * V; j < f.D; j += kThreads * V)
            put(f, row, j, read<V>(x + j), m);
        if (threadIdx.x == 0)
            keep(f, row, m);
    }
}

template <class T, int V> __global__ void __launch_bounds__(kThreads) backward_long(const Backward<T> b)
{
    FOR_ROWS (kThreads, row, b.rows) {
        const float mean = b.mean[row], rstd = b.rstd[row];
        float sums[2];
#pragma unroll
        for (int which = 0; which < 2; which++)
            sums[which] = long_sum<V>(b.D, [=](int64_t j) {
                Floats<V> g, d;
                float sum = 0;
                get(&g, &d, b, row, j, mean);
#pragma unroll
                for (int k = 0; k < V; k++)
                    sum += which ? g.v[k] * d.v[k] : g.v[k];
                return sum;
            });
        const Slope s = slope_of(mean, rstd, sums[0], sums[1], b.inverse);
        for (int64_t j = (int64_t)threadIdx.x * V; j < b.D; j += kThreads * V) {
            Floats<V> g, d;
            get(&g, &d, b, row, j, mean);
            put(b, row, j, g, d, s);
        }
    }
}

/* ---------------------------------------------------------------- sums down the rows */

/* Each block's sums of dy and of dy * x^. */
template <class T, int V> __global__ void __launch_bounds__(kThreads) parameter_sums(Sums *to, const T *dy, const T *x, const float *mean,
    const float *rstd, Columns c)
{
    const Place at = place_in<V>(c);
    Floats<V> first = {}, second = {};
    int64_t i = at.first + at.step * c.stride, row = at.row_block * c.block_rows + at.step;
    const int64_t next = c.row_step * c.stride;
#pragma unroll 2
    for (int n = at.step; n < at.n_rows; n += c.row_step, i += next, row += c.row_step) {
        const Floats<V> t = read<V>(x + i), g = read<V>(dy + i);
        const float center = mean[row], factor = rstd[row];
#pragma unroll
        for (int k = 0; k < V; k++) {
            first.v[k] += g.v[k];
            second.v[k] += g.v[k] * ((t.v[k] - center) * factor);
        }
    }
    double sums[2 * V];
#pragma unroll
    for (int k = 0; k < V; k++)
        sums[2 * k] = (double)first.v[k], sums[2 * k + 1] = (double)second.v[k];
    sum_steps(sums, at, c);
    if (at.step || !at.n_rows)
        return;
#pragma unroll
    for (int k = 0; k < V; k++)
        to[(at.channel + k) * c.n_row_blocks + at.row_block] = {sums[2 * k], sums[2 * k + 1]};
}

/* dshift and dscale may be NULL. */
__global__ void __launch_bounds__(kJoinThreads) join_parameters(float *dshift, float *dscale, bool add_dshift, bool add_dscale, const Sums *sums,
    Columns columns)
{
    const int64_t c = join_channel();
    if (c >= columns.C)
        return;
    double first = 0, second = 0;
    for (int b = (int)threadIdx.x % 32; b < columns.n_row_blocks; b += 32) {
        const Sums block = sums[c * columns.n_row_blocks + b];
        first += block.first, second += block.second;
    }
    first = warp_all(first, Add()), second = warp_all(second, Add());
    if (threadIdx.x % 32)
        return;
    if (dshift)
        dshift[c] = (float)first + (add_dshift ? dshift[c] : 0);
    if (dscale)
        dscale[c] = (float)second + (add_dscale ? dscale[c] : 0);
}

/* ---------------------------------------------------------------- launches */

template <class T, int V> PapaStatus forward(PapaDevice *dev, const Forward<T> &f)
{
    if (!f.rows)
        return PAPA_OK;
    if (f.D <= kWarp * kHeld<V>)
        PAPA_LAUNCH(dev, (forward_held<T, V, kWarp>), team_blocks(dev, f.rows, kWarp), kThreads, 0, f);
    else if (f.D <= kThreads * kHeld<V>)
        PAPA_LAUNCH(dev, (forward_held<T, V, kThreads>), team_blocks(dev, f.rows, kThreads), kThreads, 0, f);
    else
        PAPA_LAUNCH(dev, (forward_long<T, V>), team_blocks(dev, f.rows, kThreads), kThreads, 0, f);
    return PAPA_OK;
}

template <class T, int V> PapaStatus backward_rows(PapaDevice *dev, const Backward<T> &b)
{
    if (!b.rows || !b.D)
        return PAPA_OK;
    if (b.D <= kWarp * kHeld<V>)
        PAPA_LAUNCH(dev, (backward_held<T, V, kWarp>), team_blocks(dev, b.rows, kWarp), kThreads, 0, b);
    else if (b.D <= kThreads * kHeld<V>)
        PAPA_LAUNCH(dev, (backward_held<T, V, kThreads>), team_blocks(dev, b.rows, kThreads), kThreads, 0, b);
    else
        PAPA_LAUNCH(dev, (backward_long<T, V>), team_blocks(dev, b.rows, kThreads), kThreads, 0, b);
    return PAPA_OK;
}

template <class T, int V> PapaStatus backward_columns(PapaDevice *dev, const PapaLayerNormGradients *to, const Backward<T> &b, void *workspace)
{
    const Columns c = sum_columns(b.rows, b.D, V);
    Sums *sums = (Sums *)workspace;
    if (!b.D)
        return PAPA_OK;
    if (blocks_of(c))
        PAPA_LAUNCH(dev, (parameter_sums<T, V>), blocks_of(c), kThreads, 0, sums, b.dy, b.x, b.mean, b.rstd, c);
    PAPA_LAUNCH(dev, join_parameters, join_blocks(b.D), kJoinThreads, 0, to->dshift, to->dscale, (to->accumulate & PAPA_LAYERNORM_DSHIFT) != 0,
        (to->accumulate & PAPA_LAYERNORM_DSCALE) != 0, (const Sums *)sums, c);
    return PAPA_OK;
}

template <class T> inline bool wide(int64_t D, const T *x, const T *y, const T *z, const float *scale, const float *shift)
{
    const int n = kPack<T>;
    return D % n == 0 && aligned(x, n) && aligned(y, n) && aligned(z, n) && aligned(scale, 4) && aligned(shift, 4);
}

template <class T> PapaStatus forward(PapaDevice *dev, const PapaLayerNorm *ln, PapaReal *y, float *mean, float *rstd, const PapaReal *x,
    const float *scale, const float *shift)
{
    const Forward<T> f = {(T *)y, mean, rstd, (const T *)x, scale, shift, ln->rows, ln->D, ln->D ? 1 / (float)ln->D : 0, ln->eps};
    PAPA_FOR_WIDTH(wide<T>(ln->D, f.x, f.y, nullptr, scale, shift), forward<T, V>(dev, f));
    return PAPA_OK;
}

/* The columns' sums come first: dx may be dy. */
template <class T> PapaStatus backward(PapaDevice *dev, const PapaLayerNorm *ln, const PapaLayerNormGradients *to, const PapaReal *dy,
    const PapaReal *x, const float *scale, const float *mean, const float *rstd, void *workspace)
{
    const Backward<T> b = {(T *)to->dx, (const T *)dy, (const T *)x, scale, mean, rstd, ln->rows, ln->D, ln->D ? 1 / (float)ln->D : 0,
        (to->accumulate & PAPA_LAYERNORM_DX) != 0};
    const bool by_packs = wide<T>(ln->D, b.x, b.dy, b.dx, scale, nullptr);
    if (to->dscale || to->dshift)
        PAPA_FOR_WIDTH(by_packs, backward_columns<T, V>(dev, to, b, workspace));
    if (to->dx)
        PAPA_FOR_WIDTH(by_packs, backward_rows<T, V>(dev, b));
    return PAPA_OK;
}

} // namespace
} // namespace papa

using namespace papa;

size_t papa_layernorm_workspace_cuda(int64_t rows, int64_t D)
{
    int64_t n_row_blocks = 0;
    for (int V : {1, kPack<float>, kPack<__nv_bfloat16>}) {
        const int64_t n = sum_columns(rows, D, V).n_row_blocks;
        n_row_blocks = n > n_row_blocks ? n : n_row_blocks;
    }
    return (size_t)(n_row_blocks * D) * sizeof(Sums);
}

PapaStatus papa_layernorm_fwd_cuda(PapaDevice *dev, const PapaLayerNorm *ln, PapaReal *y, float *mean, float *rstd, const PapaReal *x,
    const float *scale, const float *shift)
{
    PAPA_FOR_ELEMENT(dev, forward<T>(dev, ln, y, mean, rstd, x, scale, shift));
    return PAPA_OK;
}

PapaStatus papa_layernorm_bwd_cuda(PapaDevice *dev, const PapaLayerNorm *ln, const PapaLayerNormGradients *to, const PapaReal *dy, const PapaReal *x,
    const float *scale, const float *mean, const float *rstd, void *workspace)
{
    PAPA_FOR_ELEMENT(dev, backward<T>(dev, ln, to, dy, x, scale, mean, rstd, workspace));
    return PAPA_OK;
}
