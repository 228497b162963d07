/* CPU half of pool.h. Both directions gather: forward goes through the taps of each output, backward through the windows
 * that hold each input, so that every element is written once, by one thread. The channels lie side by side and are
 * taken TILE at a time. */
#include "kernels/pool.h"
#include "kernels/pool_tiles.h"

#include <math.h>

#define TILE 64
#define GRAIN 16384 /* elements that are worth a thread */
#define NO_TAP (-1) /* as uint16_t PAPA_POOL_MAX_TAPS */
#define INLINE static inline __attribute__((always_inline))

typedef struct Pass {
    const PapaPool2d *pool;
    float *to;
    const float *from;
    uint16_t *argmax;
    bool accumulate;
} Pass;

typedef struct Range {
    int64_t begin, end;
} Range;

/* The taps of window o along an axis that lie in [low, high) of the map's coordinates. */
INLINE Range taps_of(const PapaPool2d *p, int axis, int64_t o, int64_t low, int64_t high)
{
    const int64_t start = o * p->stride[axis] - p->pad[axis], d = p->dilation[axis];
    const int64_t first = start < low ? (low - start + d - 1) / d : 0, end = start < high ? (high - 1 - start) / d + 1 : 0;
    return (Range){first, end < p->K[axis] ? end : p->K[axis]};
}

/* The windows along an axis of which position i may be a tap: all of them that span it. */
INLINE Range windows_of(const PapaPool2d *p, int axis, int64_t i, int64_t n_windows)
{
    const int64_t at = i + p->pad[axis], s = p->stride[axis], first = at - (p->K[axis] - 1) * p->dilation[axis];
    const int64_t end = at / s + 1;
    return (Range){first > 0 ? (first + s - 1) / s : 0, end < n_windows ? end : n_windows};
}

/* Which tap of window o position i is, or -1. */
INLINE int64_t tap_of(const PapaPool2d *p, int axis, int64_t i, int64_t o)
{
    const int64_t distance = i + p->pad[axis] - o * p->stride[axis], d = p->dilation[axis];
    return d == 1 ? distance : distance % d ? -1 : distance / d;
}

INLINE int64_t taps_counted(const PapaPool2d *p, int axis, int64_t o)
{
    const int64_t length = axis ? p->W : p->H;
    const Range r = p->include_pad ? taps_of(p, axis, o, -p->pad[axis], length + p->pad[axis + 2]) : taps_of(p, axis, o, 0, length);
    return r.end > r.begin ? r.end - r.begin : 0;
}

INLINE float inverse_count(const PapaPool2d *p, int64_t oh, int64_t ow)
{
    const int64_t n = taps_counted(p, 0, oh) * taps_counted(p, 1, ow);
    return n ? 1.f / (float)n : 0;
}

/* ---------------------------------------------------------------- forward */

/* n channels of one output, n <= TILE. x: the image's first element of these channels. */
INLINE void max_window(const PapaPool2d *p, float *y, uint16_t *argmax, const float *x, int64_t oh, int64_t ow, int64_t n)
{
    const Range rows = taps_of(p, 0, oh, 0, p->H), columns = taps_of(p, 1, ow, 0, p->W);
    const int64_t top = oh * p->stride[0] - p->pad[0], left = ow * p->stride[1] - p->pad[1];
    float best[TILE];
    int32_t at[TILE];
    for (int64_t j = 0; j < n; j++)
        best[j] = -INFINITY, at[j] = NO_TAP;
    for (int64_t r = rows.begin; r < rows.end; r++)
        for (int64_t s = columns.begin; s < columns.end; s++) {
            const float *v = x + ((top + r * p->dilation[0]) * p->W + left + s * p->dilation[1]) * p->C;
            const int32_t tap = argmax ? (int32_t)(r * p->K[1] + s) : 0; /* where nobody asks, there may be more than can be numbered */
            for (int64_t j = 0; j < n; j++) {
                const bool take = (v[j] > best[j]) | ((v[j] != v[j]) & (best[j] == best[j])) | (at[j] == NO_TAP);
                best[j] = take ? v[j] : best[j];
                at[j] = take ? tap : at[j];
            }
        }
    for (int64_t j = 0; j < n; j++)
        y[j] = best[j];
    if (argmax)
        for (int64_t j = 0; j < n; j++)
            argmax[j] = (uint16_t)at[j];
}

INLINE void average_window(const PapaPool2d *p, float *y, const float *x, int64_t oh, int64_t ow, int64_t n)
{
    const Range rows = taps_of(p, 0, oh, 0, p->H), columns = taps_of(p, 1, ow, 0, p->W);
    const int64_t top = oh * p->stride[0] - p->pad[0], left = ow * p->stride[1] - p->pad[1];
    const float inverse = inverse_count(p, oh, ow);
    float sum[TILE] = {0};
    for (int64_t r = rows.begin; r < rows.end; r++)
        for (int64_t s = columns.begin; s < columns.end; s++) {
            const float *v = x + ((top + r * p->dilation[0]) * p->W + left + s * p->dilation[1]) * p->C;
            for (int64_t j = 0; j < n; j++)
                sum[j] += v[j];
        }
    for (int64_t j = 0; j < n; j++)
        y[j] = sum[j] * inverse;
}

INLINE void forward_window(bool max, const Pass *t, int64_t image, int64_t oh, int64_t ow, int64_t c, int64_t n)
{
    const PapaPool2d *p = t->pool;
    const float *x = t->from + image * p->H * p->W * p->C + c;
    const int64_t at = ((image * p->OH + oh) * p->OW + ow) * p->C + c;
    if (max)
        max_window(p, t->to + at, t->argmax ? t->argmax + at : NULL, x, oh, ow, n);
    else
        average_window(p, t->to + at, x, oh, ow, n);
}

/* Rows of outputs. */
INLINE void forward_rows(bool max, const Pass *t, int64_t begin, int64_t end)
{
    const PapaPool2d *p = t->pool;
    for (int64_t row = begin; row < end; row++)
        for (int64_t ow = 0; ow < p->OW; ow++) {
            int64_t c = 0;
            for (; c + TILE <= p->C; c += TILE) /* with a constant, for the compiler */
                forward_window(max, t, row / p->OH, row % p->OH, ow, c, TILE);
            if (c < p->C)
                forward_window(max, t, row / p->OH, row % p->OH, ow, c, p->C - c);
        }
}

PAPA_SIMD static void max_forward_range(void *context, int64_t begin, int64_t end)
{
    forward_rows(true, context, begin, end);
}

PAPA_SIMD static void average_forward_range(void *context, int64_t begin, int64_t end)
{
    forward_rows(false, context, begin, end);
}

static void run_forward(PapaDevice *dev, Pass *t, papa_range_fn *body)
{
    const PapaPool2d *p = t->pool;
    const double work = (double)p->OW * (double)p->C * (double)p->K[0] * (double)p->K[1]; /* of one row, at most; may be beyond int64_t */
    papa_ranges(dev, work > 0 ? p->N * p->OH : 0, (int64_t)(GRAIN / (work + 1)) + 1, body, t);
}

PapaStatus papa_maxpool_fwd_cpu(PapaDevice *dev, const PapaPool2d *pool, float *y, uint16_t *argmax, const float *x)
{
    Pass t = {.pool = pool, .to = y, .from = x, .argmax = argmax};
    if (papa_pool_tiles_fit(pool))
        papa_pool_tiles_fwd(dev, pool, y, argmax, x);
    else
        run_forward(dev, &t, max_forward_range);
    return PAPA_OK;
}

PapaStatus papa_avgpool_fwd_cpu(PapaDevice *dev, const PapaPool2d *pool, float *y, const float *x)
{
    Pass t = {.pool = pool, .to = y, .from = x};
    run_forward(dev, &t, average_forward_range);
    return PAPA_OK;
}

/* ---------------------------------------------------------------- backward */

/* n channels of one input, n <= TILE, from the windows that hold it. */
INLINE void gather(bool max, const Pass *t, int64_t image, int64_t ih, int64_t iw, Range rows, int64_t c, int64_t n)
{
    const PapaPool2d *p = t->pool;
    const Range columns = windows_of(p, 1, iw, p->OW);
    float sum[TILE] = {0};
    for (int64_t oh = rows.begin; oh < rows.end; oh++) {
        const int64_t r = tap_of(p, 0, ih, oh);
        for (int64_t ow = columns.begin; r >= 0 && ow < columns.end; ow++) {
            const int64_t s = tap_of(p, 1, iw, ow), at = ((image * p->OH + oh) * p->OW + ow) * p->C + c;
            if (s < 0)
                continue;
            const float *dy = t->from + at;
            if (max) {
                const uint16_t *argmax = t->argmax + at, tap = (uint16_t)(r * p->K[1] + s);
                for (int64_t j = 0; j < n; j++)
                    sum[j] += argmax[j] == tap ? dy[j] : 0;
            } else {
                const float inverse = inverse_count(p, oh, ow);
                for (int64_t j = 0; j < n; j++)
                    sum[j] += dy[j] * inverse;
            }
        }
    }
    float *dx = t->to + ((image * p->H + ih) * p->W + iw) * p->C + c;
    for (int64_t j = 0; j < n; j++)
        dx[j] = t->accumulate ? dx[j] + sum[j] : sum[j];
}

/* Rows of inputs. */
INLINE void backward_rows(bool max, const Pass *t, int64_t begin, int64_t end)
{
    const PapaPool2d *p = t->pool;
    for (int64_t row = begin; row < end; row++) {
        const int64_t image = row / p->H, ih = row % p->H;
        const Range rows = windows_of(p, 0, ih, p->OH);
        for (int64_t iw = 0; iw < p->W; iw++) {
            int64_t c = 0;
            for (; c + TILE <= p->C; c += TILE)
                gather(max, t, image, ih, iw, rows, c, TILE);
            if (c < p->C)
                gather(max, t, image, ih, iw, rows, c, p->C - c);
        }
    }
}

PAPA_SIMD static void max_backward_range(void *context, int64_t begin, int64_t end)
{
    backward_rows(true, context, begin, end);
}

PAPA_SIMD static void average_backward_range(void *context, int64_t begin, int64_t end)
{
    backward_rows(false, context, begin, end);
}

static void run_backward(PapaDevice *dev, Pass *t, papa_range_fn *body)
{
    const PapaPool2d *p = t->pool;
    const int64_t work = p->W * p->C; /* of one row */
    papa_ranges(dev, work ? p->N * p->H : 0, GRAIN / (work + 1) + 1, body, t);
}

PapaStatus papa_maxpool_bwd_cpu(PapaDevice *dev, const PapaPool2d *pool, float *dx, const float *dy, const uint16_t *argmax, bool accumulate)
{
    Pass t = {.pool = pool, .to = dx, .from = dy, .argmax = (uint16_t *)argmax, .accumulate = accumulate}; /* only read here */
    if (papa_pool_tiles_fit(pool))
        papa_pool_tiles_bwd(dev, pool, dx, dy, argmax, accumulate);
    else
        run_backward(dev, &t, max_backward_range);
    return PAPA_OK;
}

PapaStatus papa_avgpool_bwd_cpu(PapaDevice *dev, const PapaPool2d *pool, float *dx, const float *dy, bool accumulate)
{
    Pass t = {.pool = pool, .to = dx, .from = dy, .accumulate = accumulate};
    run_backward(dev, &t, average_backward_range);
    return PAPA_OK;
}
