/* Matrices (rows, C), channels last: packs of neighbouring channels in registers, how a grid is laid over the matrix, and two passes that more
 * than one file needs: sums down the columns, and the affine map of each column.
 *
 * A thread keeps one pack of channels and walks down rows, so whatever belongs to a channel is read once and stays in registers, and neighbouring
 * threads read neighbouring memory, also where a row is much shorter than a warp's reach. */
#ifndef PAPA_COLUMNS_CUH
#define PAPA_COLUMNS_CUH

#include "kernels/cuda.cuh"

namespace papa {

/* ---------------------------------------------------------------- packs */

/* V neighbours, as what is computed with. */
template <int V> struct Floats {
    float v[V];
};

/* By 16-byte accesses, or by one access where V elements are no more than that. p is aligned to such an access. */
template <int V, class T> __device__ __forceinline__ Floats<V> read(const T *p)
{
    constexpr int N = V < kPack<T> ? V : kPack<T>;
    Floats<V> to;
#pragma unroll
    for (int i = 0; i < V; i += N) {
        const Pack<T, N> pack = *reinterpret_cast<const Pack<T, N> *>(p + i);
#pragma unroll
        for (int k = 0; k < N; k++)
            to.v[i + k] = load(pack.v[k]);
    }
    return to;
}

template <int V, class T> __device__ __forceinline__ void write(T *p, const Floats<V> &from)
{
    static_assert(V <= kPack<T>, "one access");
    Pack<T, V> pack;
#pragma unroll
    for (int k = 0; k < V; k++)
        pack.v[k] = store<T>(from.v[k]);
    *reinterpret_cast<Pack<T, V> *>(p) = pack;
}

/* Runs `call`, an expression in which T is given and V is the number of elements that a thread takes at once: 16 bytes if wide, else 1. */
#define PAPA_FOR_WIDTH(wide, ...)                 \
    do {                                          \
        if (wide) {                               \
            constexpr int V = papa::kPack<T>;     \
            PAPA_TRY((__VA_ARGS__));              \
        } else {                                  \
            constexpr int V = 1;                  \
            PAPA_TRY((__VA_ARGS__));              \
        }                                         \
    } while (0)

/* ---------------------------------------------------------------- the grid */

/* Blocks of kThreads threads over (rows, C): a block has n_rows rows at most of one tile of channels; its thread t has pack t % tile_packs of the
 * tile, in every row_step-th of its rows from t / tile_packs on. Depends on the shape and V alone, so that sums do too. */
struct Columns {
    int64_t rows, C;
    int64_t stride;     /* elements from one row to the next; more than C where these are some channels of many */
    int64_t block_rows; /* a multiple of row_step */
    int tile_packs, n_tiles, row_step;
    int n_row_blocks;
};

constexpr int kTilePacks = 64;
constexpr int kSumBlocks = 512;      /* a few to a large GPU's multiprocessor: each leaves sums that must be joined */
constexpr int kMapBlocks = 2048;     /* as many as run at a time */
constexpr int kLeastSteps = 4;       /* rows that a thread takes at least, where there are enough */
constexpr int kMostSteps = 128;      /* and at most, so that its float32 sums stay short */

inline Columns columns_of(int64_t rows, int64_t C, int V, int n_blocks, int64_t most_row_blocks)
{
    const int64_t packs = ceil_div(C, V);
    Columns c = {};
    c.rows = rows, c.C = c.stride = C;
    if (!packs)
        return c;
    c.n_tiles = (int)ceil_div(packs, kTilePacks);
    c.tile_packs = (int)ceil_div(packs, c.n_tiles);
    c.row_step = kThreads / c.tile_packs;
    const int64_t wanted = ceil_div(n_blocks, c.n_tiles);
    const int64_t least = ceil_div(rows, (int64_t)kMostSteps * c.row_step), most = ceil_div(rows, (int64_t)kLeastSteps * c.row_step);
    int64_t n = wanted < most ? wanted : most;
    n = n > least ? n : least;
    n = n < most_row_blocks ? n : most_row_blocks;
    c.block_rows = n ? ceil_div(ceil_div(rows, n), c.row_step) * c.row_step : 0;
    c.n_row_blocks = n ? (int)ceil_div(rows, c.block_rows) : 0;
    return c;
}

/* For sums. most_row_blocks: where there is room for no more of them; blocks get longer then. */
inline Columns sum_columns(int64_t rows, int64_t C, int V, int64_t most_row_blocks = INT32_MAX)
{
    return columns_of(rows, C, V, kSumBlocks, most_row_blocks);
}

/* For element-wise passes. */
inline Columns map_columns(int64_t rows, int64_t C, int V)
{
    return columns_of(rows, C, V, kMapBlocks, INT32_MAX);
}

inline unsigned blocks_of(const Columns &c)
{
    return (unsigned)c.n_tiles * (unsigned)c.n_row_blocks;
}

/* A thread's share: rows step, step + row_step, ... of its block's first n_rows, V channels from channel on. n_rows is 0 where they lie behind the
 * last channel. */
struct Place {
    int pack, step;
    int row_block, n_rows;
    int64_t channel;
    int64_t first; /* element: of the block's first row */
};

template <int V> __device__ __forceinline__ Place place_in(const Columns &c)
{
    Place at;
    const int thread = (int)threadIdx.x, tile = (int)(blockIdx.x % (unsigned)c.n_tiles);
    at.row_block = (int)(blockIdx.x / (unsigned)c.n_tiles);
    at.pack = thread % c.tile_packs;
    at.step = thread / c.tile_packs;
    at.channel = ((int64_t)tile * c.tile_packs + at.pack) * V;
    const int64_t row = at.row_block * c.block_rows, left = c.rows - row;
    at.n_rows = at.channel >= c.C || at.step >= c.row_step ? 0 : (int)(left < c.block_rows ? left : c.block_rows);
    at.first = row * c.stride + at.channel;
    return at;
}

/* ---------------------------------------------------------------- sums down the columns */

/* Two sums of one channel over one block's rows. They lie as (C, n_row_blocks). */
struct alignas(16) Sums {
    double first, second;
};

/* Adds up x over the block's threads that have the same pack, in an order that depends on row_step alone; those of step 0 get it. */
template <int N> __device__ __forceinline__ void sum_steps(double (&x)[N], const Place &at, const Columns &c)
{
    constexpr int kHalf = kThreads / 2;
    PAPA_SHARED(double, given, N * kHalf);
    for (int n = c.row_step, rest; n > 1; n = rest) {
        rest = (n + 1) / 2;
        if (at.step >= rest && at.step < n)
#pragma unroll
            for (int k = 0; k < N; k++)
                given[k * kHalf + (at.step - rest) * c.tile_packs + at.pack] = x[k];
        __syncthreads();
        if (at.step < n - rest)
#pragma unroll
            for (int k = 0; k < N; k++)
                x[k] += given[k * kHalf + at.step * c.tile_packs + at.pack];
        __syncthreads();
    }
}

/* Each block's mean, and sum of squared deviations from it, of each of its channels. */
template <class T, int V> __global__ void __launch_bounds__(kThreads) column_moments(Sums *to, const T *x, Columns c)
{
    const Place at = place_in<V>(c);
    Floats<V> center = {}, first = {}, second = {};
    if (at.n_rows)
        center = read<V>(x + at.first);
    int64_t i = at.first + at.step * c.stride;
    const int64_t next = c.row_step * c.stride;
#pragma unroll 4
    for (int row = at.step; row < at.n_rows; row += c.row_step, i += next) {
        const Floats<V> t = read<V>(x + i);
#pragma unroll
        for (int k = 0; k < V; k++) {
            const float d = t.v[k] - center.v[k];
            first.v[k] += d;
            second.v[k] += d * d;
        }
    }
    double sums[2 * V];
#pragma unroll
    for (int k = 0; k < V; k++)
        sums[2 * k] = (double)first.v[k], sums[2 * k + 1] = (double)second.v[k];
    sum_steps(sums, at, c);
    if (at.step || !at.n_rows)
        return;
    const double n = (double)at.n_rows;
#pragma unroll
    for (int k = 0; k < V; k++) {
        const double squares = sums[2 * k + 1] - sums[2 * k] * sums[2 * k] / n;
        to[(at.channel + k) * c.n_row_blocks + at.row_block] = {(double)center.v[k] + sums[2 * k] / n, squares < 0 ? 0 : squares};
    }
}

/* Joins one channel's blocks (Chan, Golub and LeVeque 1983); by a whole warp, every lane gets mean and variance. rows > 0. */
__device__ __forceinline__ Sums join_moments(const Sums *of, const Columns &c)
{
    const double last = (double)(c.rows - (c.n_row_blocks - 1) * c.block_rows);
    double sum = 0, squares = 0;
    for (int b = (int)threadIdx.x % 32; b < c.n_row_blocks; b += 32)
        sum += (b == c.n_row_blocks - 1 ? last : (double)c.block_rows) * of[b].first;
    const double mean = warp_all(sum, Add()) / (double)c.rows;
    for (int b = (int)threadIdx.x % 32; b < c.n_row_blocks; b += 32) {
        const double d = of[b].first - mean;
        squares += of[b].second + (b == c.n_row_blocks - 1 ? last : (double)c.block_rows) * d * d;
    }
    return {mean, warp_all(squares, Add()) / (double)c.rows};
}

/* Kernels that join blocks have a warp for each channel. */
constexpr int kJoinThreads = 128;
inline unsigned join_blocks(int64_t C)
{
    return (unsigned)ceil_div(C, kJoinThreads / 32);
}
__device__ __forceinline__ int64_t join_channel()
{
    return (int64_t)blockIdx.x * (kJoinThreads / 32) + threadIdx.x / 32;
}

/* ---------------------------------------------------------------- the affine map */

/* Numbers of each channel, (C) each, aligned to 16 bytes. */
struct Affine {
    float *center, *factor, *shift;
};

/* y = (x - center) * factor + shift [+ residual] [, max(0, that)]. y may be x or residual. */
template <class T, int V, bool ADD> __global__ void __launch_bounds__(kThreads) column_affine(T *y, const T *x, const T *residual, Affine by, bool relu,
    Columns c)
{
    const Place at = place_in<V>(c);
    if (at.step >= at.n_rows)
        return;
    const Floats<V> center = read<V>(by.center + at.channel), factor = read<V>(by.factor + at.channel), shift = read<V>(by.shift + at.channel);
    int64_t i = at.first + at.step * c.stride;
    const int64_t next = c.row_step * c.stride;
    for (int row = at.step; row < at.n_rows; row += c.row_step, i += next) {
        const Floats<V> t = read<V>(x + i);
        Floats<V> more = {}, to;
        if (ADD)
            more = read<V>(residual + i);
#pragma unroll
        for (int k = 0; k < V; k++) {
            float z = (t.v[k] - center.v[k]) * factor.v[k] + shift.v[k];
            if (ADD)
                z += more.v[k];
            to.v[k] = relu && z < 0 ? 0 : z;
        }
        write(y + i, to);
    }
}

template <class T, int V> PapaStatus run_affine(PapaDevice *dev, T *y, const T *x, const T *residual, const Affine &by, bool relu, const Columns &c)
{
    if (!blocks_of(c))
        return PAPA_OK;
    if (residual)
        PAPA_LAUNCH(dev, (column_affine<T, V, true>), blocks_of(c), kThreads, 0, y, x, residual, by, relu, c);
    else
        PAPA_LAUNCH(dev, (column_affine<T, V, false>), blocks_of(c), kThreads, 0, y, x, residual, by, relu, c);
    return PAPA_OK;
}

} // namespace papa

#endif
