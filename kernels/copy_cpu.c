/* Every region is walked as rows along its innermost axis, axes sorted so that writes go forward through memory. A row is a
 * memcpy where both sides are dense; where they are dense along different axes, the two axes are walked in square tiles. */
#include "kernels/copy.h"

#include <stdlib.h>
#include <string.h>

#define GRAIN ((int64_t)16 << 10) /* elements that are worth a thread */
#define TILE 16

typedef struct Walk {
    float *to;
    const float *from;
    PapaRegion region; /* rank >= 2: rows inside of all else */
    bool accumulate;
    float value; /* papa_fill */
} Walk;

static int64_t count(const PapaRegion *region, int first, int end)
{
    int64_t n = 1;
    for (int k = first; k < end; k++)
        n *= region->dim[k];
    return n;
}

/* Offsets of the outer index n over the first n_axes axes, and that index. */
typedef struct Place {
    int64_t index[PAPA_REGION_MAX_RANK], to, from;
} Place;

static Place place_at(const PapaRegion *region, int n_axes, int64_t n)
{
    Place place = {{0}, 0, 0};
    for (int k = n_axes - 1; k >= 0; k--) {
        place.index[k] = n % region->dim[k];
        n /= region->dim[k];
        place.to += place.index[k] * region->to_stride[k];
        place.from += place.index[k] * region->from_stride[k];
    }
    return place;
}

/* Moves on by steps along the last of n_axes axes, which must not pass its end by more than reaching it. */
static void place_advance(Place *place, const PapaRegion *region, int n_axes, int64_t steps)
{
    for (int k = n_axes - 1; k >= 0; k--, steps = 1) {
        place->index[k] += steps;
        place->to += steps * region->to_stride[k];
        place->from += steps * region->from_stride[k];
        if (place->index[k] < region->dim[k])
            return;
        place->to -= place->index[k] * region->to_stride[k];
        place->from -= place->index[k] * region->from_stride[k];
        place->index[k] = 0;
    }
}

/* Axes in the order of decreasing to_stride, joined again where they can be. */
static PapaRegion sorted(const PapaRegion *region)
{
    int order[PAPA_REGION_MAX_RANK];
    for (int k = 0; k < region->rank; k++) {
        int j = k;
        for (; j > 0 && llabs(region->to_stride[order[j - 1]]) < llabs(region->to_stride[k]); j--)
            order[j] = order[j - 1];
        order[j] = k;
    }
    PapaRegion result = {0};
    for (int k = 0; k < region->rank; k++)
        papa_region_add(&result, region->dim[order[k]], region->to_stride[order[k]], region->from_stride[order[k]]);
    return result;
}

PAPA_SIMD
static void add_dense(float *restrict to, const float *restrict from, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] += from[i];
}

static void move_row(float *to, const float *from, int64_t n, int64_t to_stride, int64_t from_stride, bool accumulate)
{
    if (to_stride == 1 && from_stride == 1 && accumulate)
        add_dense(to, from, n);
    else if (to_stride == 1 && from_stride == 1)
        memcpy(to, from, (size_t)n * sizeof *to);
    else if (accumulate)
        for (int64_t i = 0; i < n; i++)
            to[i * to_stride] += from[i * from_stride];
    else
        for (int64_t i = 0; i < n; i++)
            to[i * to_stride] = from[i * from_stride];
}

static void copy_rows(void *context, int64_t begin, int64_t end)
{
    const Walk *walk = context;
    const PapaRegion *region = &walk->region;
    int last = region->rank - 1;
    int64_t n = region->dim[last], to_step = region->to_stride[last - 1], from_step = region->from_stride[last - 1];
    Place place = place_at(region, last, begin);
    while (begin < end) {
        int64_t rows = region->dim[last - 1] - place.index[last - 1];
        if (rows > end - begin)
            rows = end - begin;
        for (int64_t i = 0; i < rows; i++)
            move_row(walk->to + place.to + i * to_step, walk->from + place.from + i * from_step, n, region->to_stride[last],
                region->from_stride[last], walk->accumulate);
        place_advance(&place, region, last, rows);
        begin += rows;
    }
}

/* to[q * to_step + p] from from[p * from_step + q], p < n_p, q < n_q: read along q, written along p. */
static inline void move_tile(float *restrict to, const float *restrict from, int64_t to_step, int64_t from_step, int64_t n_p, int64_t n_q,
    bool accumulate)
{
    float tile[TILE][TILE];
    for (int64_t p = 0; p < n_p; p++)
        for (int64_t q = 0; q < n_q; q++)
            tile[q][p] = from[p * from_step + q];
    for (int64_t q = 0; q < n_q; q++)
        for (int64_t p = 0; p < n_p; p++)
            to[q * to_step + p] = accumulate ? to[q * to_step + p] + tile[q][p] : tile[q][p];
}

/* The innermost axis is p (dense in to), the one before it q (dense in from). A piece of work is one strip of TILE q. */
PAPA_SIMD
static void copy_strips(void *context, int64_t begin, int64_t end)
{
    const Walk *walk = context;
    const PapaRegion *region = &walk->region;
    int last = region->rank - 1;
    int64_t n_p = region->dim[last], n_q = region->dim[last - 1], n_strips = (n_q + TILE - 1) / TILE;
    int64_t to_step = region->to_stride[last - 1], from_step = region->from_stride[last];
    for (int64_t strip = begin; strip < end; strip++) {
        Place place = place_at(region, last - 1, strip / n_strips);
        int64_t q = strip % n_strips * TILE;
        float *to = walk->to + place.to + q * to_step;
        const float *from = walk->from + place.from + q;
        for (int64_t p = 0; p < n_p; p += TILE) {
            if (n_q - q >= TILE && n_p - p >= TILE) /* constant sizes unroll */
                move_tile(to + p, from + p * from_step, to_step, from_step, TILE, TILE, walk->accumulate);
            else
                move_tile(to + p, from + p * from_step, to_step, from_step, n_p - p < TILE ? n_p - p : TILE,
                    n_q - q < TILE ? n_q - q : TILE, walk->accumulate);
        }
    }
}

static void copy_dense(void *context, int64_t begin, int64_t end)
{
    const Walk *walk = context;
    move_row(walk->to + begin, walk->from + begin, end - begin, 1, 1, walk->accumulate);
}

static void swap_axes(PapaRegion *region, int a, int b)
{
    PapaRegion old = *region;
    region->dim[a] = old.dim[b], region->to_stride[a] = old.to_stride[b], region->from_stride[a] = old.from_stride[b];
    region->dim[b] = old.dim[a], region->to_stride[b] = old.to_stride[a], region->from_stride[b] = old.from_stride[a];
}

/* Brings the axis that is dense in from next to the innermost one, if that is dense in to only; true if there are such axes and
 * both are long enough for tiles. Else the longer one becomes the innermost: (N, H, W, 3) is walked as three images. */
static bool is_transposition(PapaRegion *region)
{
    int last = region->rank - 1;
    if (last < 1 || region->to_stride[last] != 1 || region->from_stride[last] == 1)
        return false;
    int q = last - 1;
    while (q >= 0 && region->from_stride[q] != 1)
        q--;
    if (q < 0)
        return false;
    for (; q < last - 1; q++)
        swap_axes(region, q, q + 1);
    if (region->dim[q] < TILE / 2 || region->dim[last] < TILE / 2) {
        if (region->dim[q] > region->dim[last])
            swap_axes(region, q, last);
        return false;
    }
    return true;
}

PapaStatus papa_copy_cpu(PapaDevice *dev, float *to, const float *from, const PapaRegion *region, bool accumulate)
{
    Walk walk = {.to = to, .from = from, .region = sorted(region), .accumulate = accumulate};
    PapaRegion *r = &walk.region;
    if (!count(r, 0, r->rank))
        return PAPA_OK;
    if (r->rank == 1 && r->to_stride[0] == 1 && r->from_stride[0] == 1) {
        papa_ranges(dev, r->dim[0], GRAIN, copy_dense, &walk);
    } else if (is_transposition(r)) {
        int64_t n_q = r->dim[r->rank - 2], n_p = r->dim[r->rank - 1];
        papa_ranges(dev, count(r, 0, r->rank - 2) * ((n_q + TILE - 1) / TILE), 1 + GRAIN / (TILE * n_p), copy_strips, &walk);
    } else {
        while (r->rank < 2) { /* outer axes of one step, so that there are rows */
            r->dim[r->rank] = 1;
            if (r->rank++)
                swap_axes(r, 0, 1);
        }
        papa_ranges(dev, count(r, 0, r->rank - 1), 1 + GRAIN / r->dim[r->rank - 1], copy_rows, &walk);
    }
    return PAPA_OK;
}

/* ---------------------------------------------------------------- fill */

static void fill_range(void *context, int64_t begin, int64_t end)
{
    const Walk *walk = context;
    for (int64_t i = begin; i < end; i++)
        walk->to[i] = walk->value;
}

PapaStatus papa_fill_cpu(PapaDevice *dev, float *to, float value, int64_t n)
{
    Walk walk = {.to = to, .value = value};
    papa_ranges(dev, n, GRAIN, fill_range, &walk);
    return PAPA_OK;
}

/* ---------------------------------------------------------------- rows by index */

typedef struct Rows {
    float *to;
    const float *from;
    const int64_t *index;
    int64_t n_rows, n, inner;
} Rows;

static void gather_range(void *context, int64_t begin, int64_t end)
{
    const Rows *rows = context;
    for (int64_t j = begin; j < end; j++) {
        int64_t row = j / rows->n * rows->n_rows + rows->index[j % rows->n];
        memcpy(rows->to + j * rows->inner, rows->from + row * rows->inner, (size_t)rows->inner * sizeof *rows->to);
    }
}

PapaStatus papa_gather_fwd_cpu(PapaDevice *dev, float *y, const float *x, const int64_t *index, int64_t outer, int64_t n_rows, int64_t n,
    int64_t inner)
{
    Rows rows = {.to = y, .from = x, .index = index, .n_rows = n_rows, .n = n, .inner = inner};
    if (inner)
        papa_ranges(dev, outer * n, 1 + GRAIN / inner, gather_range, &rows);
    return PAPA_OK;
}

/* Two indices may name one row, so a thread keeps to its own part of outer. */
static void scatter_range(void *context, int64_t begin, int64_t end)
{
    const Rows *rows = context;
    for (int64_t o = begin; o < end; o++)
        for (int64_t j = 0; j < rows->n; j++)
            add_dense(rows->to + (o * rows->n_rows + rows->index[j]) * rows->inner, rows->from + (o * rows->n + j) * rows->inner,
                rows->inner);
}

PapaStatus papa_gather_bwd_cpu(PapaDevice *dev, float *dx, const float *dy, const int64_t *index, int64_t outer, int64_t n_rows, int64_t n,
    int64_t inner)
{
    Rows rows = {.to = dx, .from = dy, .index = index, .n_rows = n_rows, .n = n, .inner = inner};
    if (inner)
        papa_ranges(dev, outer, 1 + GRAIN / (1 + n * inner), scatter_range, &rows);
    return PAPA_OK;
}

/* Here both are float32. */
PapaStatus papa_convert_cpu(PapaDevice *dev, void *to, PapaElement to_element, const void *from, PapaElement from_element, int64_t n, bool accumulate)
{
    assert(to_element == PAPA_FLOAT32 && from_element == PAPA_FLOAT32);
    (void)to_element, (void)from_element;
    PapaRegion region = {0};
    papa_region_add(&region, n, 1, 1);
    return papa_copy_cpu(dev, to, from, &region, accumulate);
}
