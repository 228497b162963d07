/* CUDA half of copy.h. A region's axes are sorted so that neighbouring threads write neighbours; where they would read far apart, square tiles go
 * through shared memory. */
#include "kernels/cuda.cuh"

#include "kernels/walk.cuh"

extern "C" {
#include "kernels/copy.h"
}

#include <cstdlib>

namespace papa {
namespace {

template <int N, class T> __device__ __forceinline__ void move(T *to, const T *from, bool accumulate)
{
    if (accumulate)
        store_floats(to, load_floats<N>(from), true);
    else
        store_pack<N>(to, load_pack<N>(from));
}

/* ---------------------------------------------------------------- regions */

/* axes: a for to, b for from; the last one counts packs of N. */
template <int N, class T> __global__ void __launch_bounds__(kThreads) copy_region(T *to, const T *from, const Axes axes, bool accumulate)
{
    PAPA_GRID_STRIDE(i, axes.count) {
        const Offsets at = axes_at(axes, i);
        move<N>(to + at.a, from + at.b, accumulate);
    }
}

constexpr int kTile = 32;
constexpr int kTileRows = kThreads / kTile; /* of threads */

/* to[q * to_step + p] from from[p * from_step + q], p < n_p, q < n_q, for all indices of the other axes. A block has one tile. */
template <class T> struct Transposition {
    T *to;
    const T *from;
    Axes others; /* a for to, b for from */
    int64_t n_p, n_q, to_step, from_step, tiles_p, tiles_q;
    Divider by_tiles_p, by_tiles_q;
    bool accumulate;
};

template <class T> __global__ void __launch_bounds__(kThreads) copy_tiles(const Transposition<T> t)
{
    PAPA_SHARED(T, tile, kTile * (kTile + 1));
    const int column = (int)threadIdx.x % kTile, row = (int)threadIdx.x / kTile;
    const int64_t strip = divide(blockIdx.x, t.by_tiles_p), other = divide(strip, t.by_tiles_q);
    const int64_t p0 = (blockIdx.x - strip * t.tiles_p) * kTile, q0 = (strip - other * t.tiles_q) * kTile;
    const Offsets at = axes_at(t.others, other);
    const T *from = t.from + at.b + q0;
    T *to = t.to + at.a + p0;
#pragma unroll
    for (int p = row; p < kTile; p += kTileRows)
        if (p0 + p < t.n_p && q0 + column < t.n_q)
            tile[p * (kTile + 1) + column] = from[(p0 + p) * t.from_step + column];
    __syncthreads();
#pragma unroll
    for (int q = row; q < kTile; q += kTileRows)
        if (q0 + q < t.n_q && p0 + column < t.n_p)
            move<1>(to + (q0 + q) * t.to_step + column, &tile[column * (kTile + 1) + q], t.accumulate);
}

/* Axes in the order of decreasing to_stride, joined again where they can be. */
PapaRegion sorted(const PapaRegion *region)
{
    int order[PAPA_REGION_MAX_RANK];
    for (int k = 0; k < region->rank; k++) {
        int j = k;
        for (; j > 0 && llabs(region->to_stride[order[j - 1]]) < llabs(region->to_stride[k]); j--)
            order[j] = order[j - 1];
        order[j] = k;
    }
    PapaRegion result = {};
    for (int k = 0; k < region->rank; k++)
        papa_region_add(&result, region->dim[order[k]], region->to_stride[order[k]], region->from_stride[order[k]]);
    return result;
}

/* The axis that is dense in from, where that is not the last one, which is dense in to, and both are long enough for tiles; else -1. */
int axis_to_transpose(const PapaRegion &r)
{
    const int last = r.rank - 1;
    int q = last - 1;
    if (last < 1 || r.to_stride[last] != 1 || r.from_stride[last] == 1 || r.dim[last] < kTile / 2)
        return -1;
    while (q >= 0 && !(r.from_stride[q] == 1 && r.dim[q] >= kTile / 2))
        q--;
    return q;
}

template <class T> PapaStatus transpose(PapaDevice *dev, T *to, const T *from, const PapaRegion &r, int q, bool accumulate)
{
    const int p = r.rank - 1;
    Transposition<T> t = {};
    t.to = to, t.from = from, t.accumulate = accumulate, t.others = no_axes();
    for (int k = 0; k < p; k++)
        if (k != q)
            axes_add(&t.others, r.dim[k], r.to_stride[k], r.from_stride[k]);
    t.n_p = r.dim[p], t.n_q = r.dim[q], t.to_step = r.to_stride[q], t.from_step = r.from_stride[p];
    t.tiles_p = ceil_div(t.n_p, kTile), t.tiles_q = ceil_div(t.n_q, kTile);
    t.by_tiles_p = divider(t.tiles_p), t.by_tiles_q = divider(t.tiles_q);
    PAPA_LAUNCH(dev, copy_tiles<T>, (unsigned)(t.others.count * t.tiles_q * t.tiles_p), kThreads, 0, t);
    return PAPA_OK;
}

/* Whether a region's rows can be moved by packs of n. */
template <class T> bool in_packs(const T *to, const T *from, const PapaRegion &r, int n)
{
    const int last = r.rank - 1;
    if (last < 0 || r.to_stride[last] != 1 || r.from_stride[last] != 1 || r.dim[last] % n || !aligned(to, n) || !aligned(from, n))
        return false;
    for (int k = 0; k < last; k++)
        if (r.to_stride[k] % n || r.from_stride[k] % n)
            return false;
    return true;
}

template <class T> PapaStatus copy(PapaDevice *dev, T *to, const T *from, const PapaRegion *region, bool accumulate)
{
    constexpr int N = kPack<T>;
    const PapaRegion r = sorted(region);
    const bool packs = in_packs(to, from, r, N);
    const int q = axis_to_transpose(r);
    Axes axes = no_axes();
    for (int k = 0; k < r.rank; k++) {
        const int64_t step = packs && k == r.rank - 1 ? N : 1;
        axes_add(&axes, r.dim[k] / step, r.to_stride[k] * step, r.from_stride[k] * step);
    }
    if (!axes.count)
        return PAPA_OK;
    if (q >= 0)
        return transpose(dev, to, from, r, q, accumulate);
    if (packs)
        PAPA_LAUNCH(dev, (copy_region<N, T>), blocks_for(dev, axes.count), kThreads, 0, to, from, axes, accumulate);
    else
        PAPA_LAUNCH(dev, (copy_region<1, T>), blocks_for(dev, axes.count), kThreads, 0, to, from, axes, accumulate);
    return PAPA_OK;
}

/* ---------------------------------------------------------------- dense: fill and convert */

template <class T> __global__ void __launch_bounds__(kThreads) fill(T *to, float value, int64_t n_packs, int64_t n)
{
    constexpr int N = kPack<T>;
    Floats<N> values;
#pragma unroll
    for (int k = 0; k < N; k++)
        values.v[k] = value;
    PAPA_GRID_STRIDE(i, n_packs)
        store_floats(to + i * N, values);
    const int64_t done = n_packs * N;
    PAPA_GRID_STRIDE(i, n - done)
        to[done + i] = store<T>(value);
}

template <class T> PapaStatus run_fill(PapaDevice *dev, T *to, float value, int64_t n)
{
    const int64_t n_packs = aligned(to, kPack<T>) ? n / kPack<T> : 0;
    if (n)
        PAPA_LAUNCH(dev, fill<T>, blocks_for(dev, n_packs ? n_packs : n), kThreads, 0, to, value, n_packs, n);
    return PAPA_OK;
}

/* By packs of four: 16 bytes of the wider kind. */
template <class To, class From> __global__ void __launch_bounds__(kThreads) convert(To *to, const From *from, int64_t n_packs, int64_t n, bool accumulate)
{
    PAPA_GRID_STRIDE(i, n_packs)
        store_floats(to + 4 * i, load_floats<4>(from + 4 * i), accumulate);
    const int64_t done = n_packs * 4;
    PAPA_GRID_STRIDE(i, n - done)
        store_floats(to + done + i, load_floats<1>(from + done + i), accumulate);
}

template <class To, class From> PapaStatus run_convert(PapaDevice *dev, To *to, const From *from, int64_t n, bool accumulate)
{
    const int64_t n_packs = aligned(to, 4) && aligned(from, 4) ? n / 4 : 0;
    if (n)
        PAPA_LAUNCH(dev, (convert<To, From>), blocks_for(dev, n_packs ? n_packs : n), kThreads, 0, to, from, n_packs, n, accumulate);
    return PAPA_OK;
}

template <class To> PapaStatus convert_to(PapaDevice *dev, To *to, const void *from, PapaElement from_element, int64_t n, bool accumulate)
{
    if (from_element == PAPA_BFLOAT16)
        return run_convert(dev, to, (const __nv_bfloat16 *)from, n, accumulate);
    return run_convert(dev, to, (const float *)from, n, accumulate);
}

/* ---------------------------------------------------------------- rows by index */

/* rows: the side with the index's rows; picked: the side with n of them for every outer index. inner counts packs. */
template <class T> struct Rows {
    T *to;
    const T *from;
    const int64_t *index;
    int64_t count; /* of packs to go through */
    int64_t n_rows, n, inner;
    int64_t first, n_now; /* bwd: the part of the index that this call goes through */
    Divider by_inner, by_n;
};

/* The pack number `at` of those picked: outer index o, number j in the index, and the pack in the row. */
struct Picked {
    int64_t o, j, i;
};

__device__ __forceinline__ Picked picked_at(int64_t at, int64_t inner, int64_t n, const Divider &by_inner, const Divider &by_n)
{
    const int64_t row = divide(at, by_inner), o = divide(row, by_n);
    return {o, row - o * n, at - row * inner};
}

template <int N, class T> __global__ void __launch_bounds__(kThreads) gather(const Rows<T> r)
{
    PAPA_GRID_STRIDE(at, r.count) {
        const Picked p = picked_at(at, r.inner, r.n, r.by_inner, r.by_n);
        move<N>(r.to + at * N, r.from + ((p.o * r.n_rows + r.index[p.j]) * r.inner + p.i) * N, false);
    }
}

/* Chains of equal entries of index: chain[j] is the next one behind j, 0 at the end; as ~ of that where j is not its chain's first. Every thread
 * looks in both directions: n^2 comparisons at the worst, of neighbours by neighbours. */
__global__ void __launch_bounds__(kThreads) chain_equal(int32_t *chain, const int64_t *index, int64_t n)
{
    PAPA_GRID_STRIDE(j, n) {
        const int64_t wanted = index[j];
        int64_t before = j - 1, next = j + 1;
        while (before >= 0 && index[before] != wanted)
            before--;
        while (next < n && index[next] != wanted)
            next++;
        const int32_t link = next < n ? (int32_t)next : 0;
        chain[j] = before < 0 ? link : ~link;
    }
}

/* The first of a chain adds all of it to its row, in the index's order; no other thread writes there. chain: NULL where the index has one entry. */
template <int N, class T> __global__ void __launch_bounds__(kThreads) gather_add(const Rows<T> r, const int32_t *chain)
{
    PAPA_GRID_STRIDE(at, r.count) {
        const Picked p = picked_at(at, r.inner, r.n_now, r.by_inner, r.by_n);
        int32_t link = chain ? chain[p.j] : 0;
        if (link < 0)
            continue;
        T *to = r.to + ((p.o * r.n_rows + r.index[p.j]) * r.inner + p.i) * N;
        const T *from = r.from + ((p.o * r.n + r.first) * r.inner + p.i) * N;
        Floats<N> sum = load_floats<N>(to);
        for (int64_t j = p.j;; j = link, link = ~chain[j]) {
            const Floats<N> x = load_floats<N>(from + j * r.inner * N);
#pragma unroll
            for (int k = 0; k < N; k++)
                sum.v[k] += x.v[k];
            if (!link)
                break;
        }
        store_floats(to, sum);
    }
}

template <int N, class T> PapaStatus run_gather(PapaDevice *dev, Rows<T> r)
{
    PAPA_LAUNCH(dev, (gather<N, T>), blocks_for(dev, r.count), kThreads, 0, r);
    return PAPA_OK;
}

/* The index in parts whose chains fit the scratch. */
template <int N, class T> PapaStatus run_gather_bwd(PapaDevice *dev, Rows<T> r, int64_t outer, const int64_t *index)
{
    const int64_t room = (int64_t)(PAPA_CUDA_SCRATCH / sizeof(int32_t));
    int32_t *chain = (int32_t *)papa_cuda(dev)->scratch;
    for (r.first = 0; r.first < r.n; r.first += room) {
        r.n_now = r.n - r.first < room ? r.n - r.first : room;
        r.index = index + r.first;
        r.count = outer * r.n_now * r.inner;
        r.by_n = divider(r.n_now);
        if (r.n_now > 1)
            PAPA_LAUNCH(dev, chain_equal, blocks_for(dev, r.n_now), kThreads, 0, chain, r.index, r.n_now);
        PAPA_LAUNCH(dev, (gather_add<N, T>), blocks_for(dev, r.count), kThreads, 0, r, (const int32_t *)(r.n_now > 1 ? chain : nullptr));
    }
    return PAPA_OK;
}

/* Calls run_gather or run_gather_bwd with packs or single elements. */
template <class T> PapaStatus run_rows(PapaDevice *dev, bool backward, T *to, const T *from, const int64_t *index, int64_t outer, int64_t n_rows, int64_t n,
    int64_t inner)
{
    constexpr int N = kPack<T>;
    if (!outer || !n || !inner)
        return PAPA_OK;
    const bool packs = inner % N == 0 && aligned(to, N) && aligned(from, N);
    Rows<T> r = {};
    r.to = to, r.from = from, r.index = index, r.n_rows = n_rows, r.n = n, r.inner = packs ? inner / N : inner;
    r.count = outer * n * r.inner;
    r.by_inner = divider(r.inner), r.by_n = divider(n);
    if (backward)
        return packs ? run_gather_bwd<N>(dev, r, outer, index) : run_gather_bwd<1>(dev, r, outer, index);
    return packs ? run_gather<N>(dev, r) : run_gather<1>(dev, r);
}

} // namespace
} // namespace papa

using namespace papa;

PapaStatus papa_copy_cuda(PapaDevice *dev, PapaReal *to, const PapaReal *from, const PapaRegion *region, bool accumulate)
{
    PAPA_FOR_ELEMENT(dev, papa::copy(dev, (T *)to, (const T *)from, region, accumulate));
    return PAPA_OK;
}

PapaStatus papa_fill_cuda(PapaDevice *dev, PapaReal *to, float value, int64_t n)
{
    PAPA_FOR_ELEMENT(dev, run_fill(dev, (T *)to, value, n));
    return PAPA_OK;
}

PapaStatus papa_convert_cuda(PapaDevice *dev, void *to, PapaElement to_element, const void *from, PapaElement from_element, int64_t n, bool accumulate)
{
    if (to_element == PAPA_BFLOAT16)
        return convert_to(dev, (__nv_bfloat16 *)to, from, from_element, n, accumulate);
    return convert_to(dev, (float *)to, from, from_element, n, accumulate);
}

PapaStatus papa_gather_fwd_cuda(PapaDevice *dev, PapaReal *y, const PapaReal *x, const int64_t *index, int64_t outer, int64_t n_rows, int64_t n, int64_t inner)
{
    PAPA_FOR_ELEMENT(dev, run_rows(dev, false, (T *)y, (const T *)x, index, outer, n_rows, n, inner));
    return PAPA_OK;
}

PapaStatus papa_gather_bwd_cuda(PapaDevice *dev, PapaReal *dx, const PapaReal *dy, const int64_t *index, int64_t outer, int64_t n_rows, int64_t n, int64_t inner)
{
    PAPA_FOR_ELEMENT(dev, run_rows(dev, true, (T *)dx, (const T *)dy, index, outer, n_rows, n, inner));
    return PAPA_OK;
}
