/* CUDA half of batchnorm.h. Each pass is three launches: sums of blocks of rows, one warp per channel that joins them and prepares the channel's
 * numbers, and the element-wise map. The workspace holds those numbers, then the blocks' sums. */
#include "kernels/cuda.cuh"

#include "kernels/columns.cuh"

extern "C" {
#include "kernels/batchnorm.h"
}

namespace papa {
namespace {

constexpr int kNumbers = 4;

/* Length of an array of channels' numbers, so that the next one is aligned. */
inline int64_t padded(int64_t C)
{
    return ceil_div(C, 8) * 8;
}

struct Workspace {
    float *numbers[kNumbers];
    Sums *sums;
};

inline Workspace workspace_of(void *memory, int64_t C)
{
    Workspace w;
    float *at = (float *)memory;
    for (float *&numbers : w.numbers)
        numbers = at, at += padded(C);
    w.sums = (Sums *)at;
    return w;
}

/* ---------------------------------------------------------------- forward */

struct Statistics {
    float *mean, *rstd;
    float *running_mean, *running_var;
    const float *scale, *shift;
    float eps, momentum;
    const float *step_momentum;
};

__device__ __forceinline__ void prepare(const Affine &to, int64_t c, float mean, float rstd, const Statistics &s)
{
    to.center[c] = mean;
    to.factor[c] = rstd * s.scale[c];
    to.shift[c] = s.shift[c];
}

/* 1: as many registers as it needs; without, ptxas spills a few so that more blocks fit. */
__global__ void __launch_bounds__(kJoinThreads, 1) finish_batch(Affine to, Statistics s, const Sums *sums, Columns columns)
{
    const int64_t c = join_channel();
    if (c >= columns.C)
        return;
    Sums batch = {0, 0};
    if (columns.rows)
        batch = join_moments(sums + c * columns.n_row_blocks, columns);
    if (threadIdx.x % 32)
        return;
    if (columns.rows) {
        const double m = (double)(s.step_momentum ? *s.step_momentum : s.momentum);
        s.running_mean[c] = (float)(m * (double)s.running_mean[c] + (1 - m) * batch.first);
        s.running_var[c] = (float)(m * (double)s.running_var[c] + (1 - m) * batch.second);
    }
    const float mean = (float)batch.first, rstd = (float)(1 / sqrt(batch.second + (double)s.eps));
    s.mean[c] = mean;
    s.rstd[c] = rstd;
    prepare(to, c, mean, rstd, s);
}

__global__ void __launch_bounds__(kThreads) finish_running(Affine to, Statistics s, int64_t C)
{
    PAPA_GRID_STRIDE (c, C) {
        const float mean = s.running_mean[c], rstd = (float)(1 / sqrt((double)s.running_var[c] + (double)s.eps));
        if (s.mean)
            s.mean[c] = mean;
        if (s.rstd)
            s.rstd[c] = rstd;
        prepare(to, c, mean, rstd, s);
    }
}

template <class T, int V>
PapaStatus forward(PapaDevice *dev, const PapaBatchNorm *bn, bool batch, T *y, const Statistics &s, const T *x, const T *residual, void *workspace)
{
    const Columns c = sum_columns(bn->rows, bn->C, V);
    const Workspace w = workspace_of(workspace, bn->C);
    const Affine by = {w.numbers[0], w.numbers[1], w.numbers[2]};
    if (!bn->C)
        return PAPA_OK;
    if (batch) {
        if (blocks_of(c))
            PAPA_LAUNCH(dev, (column_moments<T, V>), blocks_of(c), kThreads, 0, w.sums, x, c);
        PAPA_LAUNCH(dev, finish_batch, join_blocks(bn->C), kJoinThreads, 0, by, s, w.sums, c);
    } else {
        PAPA_LAUNCH(dev, finish_running, blocks_for(dev, bn->C), kThreads, 0, by, s, bn->C);
    }
    return run_affine<T, V>(dev, y, x, residual, by, bn->relu, map_columns(bn->rows, bn->C, V));
}

template <class T>
PapaStatus forward(PapaDevice *dev, const PapaBatchNorm *bn, bool batch, PapaReal *y, const Statistics &s, const PapaReal *x, const PapaReal *residual,
    void *workspace)
{
    T *to = (T *)y;
    const T *from = (const T *)x, *more = (const T *)residual;
    const int n = kPack<T>;
    const bool wide = bn->C % n == 0 && aligned(to, n) && aligned(from, n) && aligned(more, n);
    PAPA_FOR_WIDTH(wide, forward<T, V>(dev, bn, batch, to, s, from, more, workspace));
    return PAPA_OK;
}

/* ---------------------------------------------------------------- backward */

template <class T> struct Gradients {
    T *dx, *dresidual; /* NULL: not wanted */
    const T *dy, *x, *y;
    bool add_dx, add_dresidual;
};

/* dy behind the Relu's mask, at element i. */
template <bool RELU, int V, class T> __device__ __forceinline__ Floats<V> masked(const T *dy, const T *y, int64_t i)
{
    Floats<V> g = read<V>(dy + i);
    if (RELU) {
        const Floats<V> t = read<V>(y + i);
#pragma unroll
        for (int k = 0; k < V; k++)
            g.v[k] = t.v[k] > 0 ? g.v[k] : 0;
    }
    return g;
}

/* Each block's sums of g and of g * (x - mean). */
template <class T, int V, bool RELU> __global__ void __launch_bounds__(kThreads) gradient_sums(Sums *to, const T *dy, const T *x, const T *y,
    const float *mean, Columns c)
{
    const Place at = place_in<V>(c);
    Floats<V> center = {}, first = {}, second = {};
    if (at.n_rows)
#pragma unroll
        for (int k = 0; k < V; k++)
            center.v[k] = mean[at.channel + k];
    int64_t i = at.first + at.step * c.stride;
    const int64_t next = c.row_step * c.stride;
#pragma unroll 2
    for (int row = at.step; row < at.n_rows; row += c.row_step, i += next) {
        const Floats<V> t = read<V>(x + i), g = masked<RELU, V>(dy, y, i);
#pragma unroll
        for (int k = 0; k < V; k++) {
            first.v[k] += g.v[k];
            second.v[k] += g.v[k] * (t.v[k] - center.v[k]);
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

struct Parameters {
    float *dscale, *dshift; /* NULL: not wanted */
    const float *scale, *mean, *rstd;
    bool add_dscale, add_dshift;
};

/* dx = factor * g - constant - (x - center) * slope */
struct Slopes {
    float *center, *factor, *constant, *slope;
};

/* n_row_blocks = 0: nothing was summed. */
__global__ void __launch_bounds__(kJoinThreads) finish_gradients(Slopes to, Parameters p, const Sums *sums, Columns columns)
{
    const int64_t c = join_channel();
    if (c >= columns.C)
        return;
    double g = 0, gd = 0;
    for (int b = (int)threadIdx.x % 32; b < columns.n_row_blocks; b += 32) {
        const Sums block = sums[c * columns.n_row_blocks + b];
        g += block.first, gd += block.second;
    }
    g = warp_all(g, Add()), gd = warp_all(gd, Add());
    if (threadIdx.x % 32)
        return;
    const double rstd = (double)p.rstd[c], factor = (double)p.scale[c] * rstd;
    if (p.dshift)
        p.dshift[c] = (float)g + (p.add_dshift ? p.dshift[c] : 0);
    if (p.dscale)
        p.dscale[c] = (float)(gd * rstd) + (p.add_dscale ? p.dscale[c] : 0);
    to.center[c] = p.mean[c];
    to.factor[c] = (float)factor;
    if (!columns.rows)
        return;
    to.constant[c] = (float)(factor * g / (double)columns.rows);
    to.slope[c] = (float)(factor * gd * rstd * rstd / (double)columns.rows);
}

/* FIXED: dx = factor * g. dx or dresidual may be dy. */
template <class T, int V, bool RELU, bool FIXED> __global__ void __launch_bounds__(kThreads) gradient_map(Gradients<T> a, Slopes by, Columns c)
{
    const Place at = place_in<V>(c);
    if (at.step >= at.n_rows)
        return;
    Floats<V> center = {}, factor = {}, constant = {}, slope = {};
    if (a.dx) {
        factor = read<V>(by.factor + at.channel);
        if (!FIXED)
            center = read<V>(by.center + at.channel), constant = read<V>(by.constant + at.channel), slope = read<V>(by.slope + at.channel);
    }
    int64_t i = at.first + at.step * c.stride;
    const int64_t next = c.row_step * c.stride;
    for (int row = at.step; row < at.n_rows; row += c.row_step, i += next) {
        const Floats<V> g = masked<RELU, V>(a.dy, a.y, i);
        if (a.dx) {
            Floats<V> t = {}, d;
            if (!FIXED)
                t = read<V>(a.x + i);
#pragma unroll
            for (int k = 0; k < V; k++)
                d.v[k] = FIXED ? factor.v[k] * g.v[k] : factor.v[k] * g.v[k] - constant.v[k] - (t.v[k] - center.v[k]) * slope.v[k];
            if (a.add_dx) {
                const Floats<V> old = read<V>(a.dx + i);
#pragma unroll
                for (int k = 0; k < V; k++)
                    d.v[k] += old.v[k];
            }
            write(a.dx + i, d);
        }
        if (a.dresidual) {
            Floats<V> d = g;
            if (a.add_dresidual) {
                const Floats<V> old = read<V>(a.dresidual + i);
#pragma unroll
                for (int k = 0; k < V; k++)
                    d.v[k] += old.v[k];
            }
            write(a.dresidual + i, d);
        }
    }
}

template <class T, int V, bool RELU>
PapaStatus backward(PapaDevice *dev, const PapaBatchNorm *bn, bool fixed, const Gradients<T> &a, const Parameters &p, void *workspace)
{
    const Columns c = sum_columns(bn->rows, bn->C, V), map = map_columns(bn->rows, bn->C, V);
    const Workspace w = workspace_of(workspace, bn->C);
    const Slopes by = {w.numbers[0], w.numbers[1], w.numbers[2], w.numbers[3]};
    const bool sums = p.dscale || p.dshift || (a.dx && !fixed);
    if (!bn->C)
        return PAPA_OK;
    if (sums && blocks_of(c))
        PAPA_LAUNCH(dev, (gradient_sums<T, V, RELU>), blocks_of(c), kThreads, 0, w.sums, a.dy, a.x, a.y, p.mean, c);
    if (sums || a.dx) {
        Columns summed = c;
        summed.n_row_blocks = sums ? c.n_row_blocks : 0;
        PAPA_LAUNCH(dev, finish_gradients, join_blocks(bn->C), kJoinThreads, 0, by, p, w.sums, summed);
    }
    if ((!a.dx && !a.dresidual) || !blocks_of(map))
        return PAPA_OK;
    if (fixed)
        PAPA_LAUNCH(dev, (gradient_map<T, V, RELU, true>), blocks_of(map), kThreads, 0, a, by, map);
    else
        PAPA_LAUNCH(dev, (gradient_map<T, V, RELU, false>), blocks_of(map), kThreads, 0, a, by, map);
    return PAPA_OK;
}

template <class T>
PapaStatus backward(PapaDevice *dev, const PapaBatchNorm *bn, bool fixed, const PapaBatchNormGradients *to, const PapaReal *dy, const PapaReal *x,
    const PapaReal *y, const Parameters &p, void *workspace)
{
    const Gradients<T> a = {(T *)to->dx, (T *)to->dresidual, (const T *)dy, (const T *)x, (const T *)y,
        (to->accumulate & PAPA_BATCHNORM_DX) != 0, (to->accumulate & PAPA_BATCHNORM_DRESIDUAL) != 0};
    const int n = kPack<T>;
    const bool wide = bn->C % n == 0 && aligned(a.dx, n) && aligned(a.dresidual, n) && aligned(a.dy, n) && aligned(a.x, n) && aligned(a.y, n);
    if (bn->relu)
        PAPA_FOR_WIDTH(wide, backward<T, V, true>(dev, bn, fixed, a, p, workspace));
    else
        PAPA_FOR_WIDTH(wide, backward<T, V, false>(dev, bn, fixed, a, p, workspace));
    return PAPA_OK;
}

} // namespace
} // namespace papa

using namespace papa;

size_t papa_batchnorm_workspace_cuda(int64_t rows, int64_t C)
{
    int64_t n_row_blocks = 0;
    for (int V : {1, kPack<float>, kPack<__nv_bfloat16>}) {
        const int64_t n = sum_columns(rows, C, V).n_row_blocks;
        n_row_blocks = n > n_row_blocks ? n : n_row_blocks;
    }
    return (size_t)(kNumbers * padded(C)) * sizeof(float) + (size_t)(n_row_blocks * C) * sizeof(Sums);
}

PapaStatus papa_batchnorm_fwd_batch_cuda(PapaDevice *dev, const PapaBatchNorm *bn, PapaReal *y, float *mean, float *rstd, float *running_mean,
    float *running_var, const PapaReal *x, const float *scale, const float *shift, const PapaReal *residual, float momentum,
    const float *step_momentum, void *workspace)
{
    const Statistics s = {mean, rstd, running_mean, running_var, scale, shift, bn->eps, momentum, step_momentum};
    PAPA_FOR_ELEMENT(dev, forward<T>(dev, bn, true, y, s, x, residual, workspace));
    return PAPA_OK;
}

PapaStatus papa_batchnorm_fwd_running_cuda(PapaDevice *dev, const PapaBatchNorm *bn, PapaReal *y, float *mean, float *rstd, const PapaReal *x,
    const float *scale, const float *shift, const float *running_mean, const float *running_var, const PapaReal *residual, void *workspace)
{
    /* Only read: finish_running leaves them. */
    const Statistics s = {mean, rstd, (float *)running_mean, (float *)running_var, scale, shift, bn->eps, 0, NULL};
    PAPA_FOR_ELEMENT(dev, forward<T>(dev, bn, false, y, s, x, residual, workspace));
    return PAPA_OK;
}

PapaStatus papa_batchnorm_bwd_cuda(PapaDevice *dev, const PapaBatchNorm *bn, bool fixed, const PapaBatchNormGradients *to, const PapaReal *dy,
    const PapaReal *x, const PapaReal *y, const float *scale, const float *mean, const float *rstd, void *workspace)
{
    const Parameters p = {to->dscale, to->dshift, scale, mean, rstd, (to->accumulate & PAPA_BATCHNORM_DSCALE) != 0,
        (to->accumulate & PAPA_BATCHNORM_DSHIFT) != 0};
    PAPA_FOR_ELEMENT(dev, backward<T>(dev, bn, fixed, to, dy, x, y, p, workspace));
    return PAPA_OK;
}
