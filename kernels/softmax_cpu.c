/* CPU half of softmax.h. Along the last axis (inner = 1) a row lies together and is summed by lanes; otherwise TILE columns
 * are gone through side by side. */
#include "kernels/expf.h"
#include "kernels/softmax.h"

#include <math.h>

#define TILE 64
#define LANES 16
#define GRAIN 8192 /* elements that are worth a thread */
#define INLINE static inline __attribute__((always_inline))

typedef struct Softmax {
    float *to;
    const float *x; /* or dy */
    const float *y; /* backward */
    int64_t D, inner, n_tiles;
    bool log, accumulate;
} Softmax;

/* ---------------------------------------------------------------- rows */

typedef enum Term { TERM_EXP, TERM_PRODUCT, TERM_FIRST, TERM_MAX } Term;

/* lanes[l] joined with exp(a[l] - b[0]), a[l] * b[l] or a[l]. A NaN is no maximum; it comes in with the exponentials. */
INLINE void add_lanes(Term t, float *lanes, const float *a, const float *b)
{
    for (int l = 0; l < LANES; l++)
        switch (t) {
        case TERM_EXP: lanes[l] += papa_expf(a[l] - b[0]); break;
        case TERM_PRODUCT: lanes[l] += a[l] * b[l]; break;
        case TERM_FIRST: lanes[l] += a[l]; break;
        case TERM_MAX: lanes[l] = a[l] > lanes[l] ? a[l] : lanes[l]; break;
        }
}

/* Goes through a row by lanes; what is left at its end is filled up with elements that change nothing. */
INLINE void row_lanes(Term t, float *lanes, const float *a, const float *b, int64_t n)
{
    int64_t j = 0;
    for (int l = 0; l < LANES; l++)
        lanes[l] = t == TERM_MAX ? -INFINITY : 0;
    for (; j + LANES <= n; j += LANES)
        add_lanes(t, lanes, a + j, t == TERM_PRODUCT ? b + j : b);
    if (j == n)
        return;
    float rest_a[LANES], rest_b[LANES] = {0};
    for (int l = 0; l < LANES; l++)
        rest_a[l] = j + l < n ? a[j + l] : t == TERM_EXP || t == TERM_MAX ? -INFINITY : 0;
    for (int l = 0; l < LANES && t == TERM_PRODUCT; l++)
        rest_b[l] = j + l < n ? b[j + l] : 0;
    add_lanes(t, lanes, rest_a, t == TERM_PRODUCT ? rest_b : b);
}

INLINE float row_max(const float *x, int64_t n)
{
    float lanes[LANES], max = -INFINITY;
    row_lanes(TERM_MAX, lanes, x, x, n);
    for (int l = 0; l < LANES; l++)
        max = lanes[l] > max ? lanes[l] : max;
    return max;
}

INLINE double row_sum(Term t, const float *a, const float *b, int64_t n)
{
    float lanes[LANES];
    double sum = 0;
    row_lanes(t, lanes, a, b, n);
    for (int l = 0; l < LANES; l++)
        sum += (double)lanes[l];
    return sum;
}

INLINE void forward_row(const Softmax *s, float *y, const float *x)
{
    const float max = row_max(x, s->D);
    if (s->log) {
        const float log_sum = (float)log(row_sum(TERM_EXP, x, &max, s->D));
        for (int64_t j = 0; j < s->D; j++)
            y[j] = x[j] - max - log_sum;
        return;
    }
    for (int64_t j = 0; j < s->D; j++)
        y[j] = papa_expf(x[j] - max);
    const float factor = (float)(1 / row_sum(TERM_FIRST, y, y, s->D));
    for (int64_t j = 0; j < s->D; j++)
        y[j] *= factor;
}

INLINE float gradient(bool log, float dy, float y, float sum)
{
    return log ? dy - papa_expf(y) * sum : y * (dy - sum);
}

INLINE void backward_row(const Softmax *s, float *dx, const float *dy, const float *y)
{
    const float sum = (float)(s->log ? row_sum(TERM_FIRST, dy, y, s->D) : row_sum(TERM_PRODUCT, dy, y, s->D));
    for (int64_t j = 0; j < s->D; j++)
        dx[j] = gradient(s->log, dy[j], y[j], sum) + (s->accumulate ? dx[j] : 0);
}

/* ---------------------------------------------------------------- tiles of n columns */

INLINE void forward_tile(const Softmax *s, float *y, const float *x, int64_t n)
{
    float max[TILE], factor[TILE];
    double sum[TILE] = {0};
    for (int64_t j = 0; j < n; j++)
        max[j] = -INFINITY;
    for (int64_t d = 0; d < s->D; d++)
        for (int64_t j = 0; j < n; j++)
            max[j] = x[d * s->inner + j] > max[j] ? x[d * s->inner + j] : max[j];
    for (int64_t d = 0; d < s->D; d++)
        for (int64_t j = 0; j < n; j++)
            sum[j] += (double)papa_expf(x[d * s->inner + j] - max[j]);
    for (int64_t j = 0; j < n; j++)
        factor[j] = (float)(s->log ? log(sum[j]) : 1 / sum[j]);
    for (int64_t d = 0; d < s->D; d++)
        for (int64_t j = 0; j < n; j++) {
            const float t = x[d * s->inner + j] - max[j];
            y[d * s->inner + j] = s->log ? t - factor[j] : papa_expf(t) * factor[j];
        }
}

INLINE void backward_tile(const Softmax *s, float *dx, const float *dy, const float *y, int64_t n)
{
    double sum[TILE] = {0};
    for (int64_t d = 0; d < s->D; d++)
        for (int64_t j = 0; j < n; j++)
            sum[j] += (double)(s->log ? dy[d * s->inner + j] : dy[d * s->inner + j] * y[d * s->inner + j]);
    for (int64_t d = 0; d < s->D; d++)
        for (int64_t j = 0; j < n; j++) {
            const int64_t at = d * s->inner + j;
            dx[at] = gradient(s->log, dy[at], y[at], (float)sum[j]) + (s->accumulate ? dx[at] : 0);
        }
}

/* ---------------------------------------------------------------- units: a row, or a tile of columns of one outer index */

INLINE int64_t unit_offset(const Softmax *s, int64_t unit, int64_t *n)
{
    const int64_t column = unit % s->n_tiles * TILE;
    *n = s->inner - column < TILE ? s->inner - column : TILE;
    return unit / s->n_tiles * s->D * s->inner + column;
}

PAPA_SIMD static void forward_range(void *context, int64_t begin, int64_t end)
{
    const Softmax *s = context;
    for (int64_t unit = begin; unit < end; unit++) {
        int64_t n;
        const int64_t at = unit_offset(s, unit, &n);
        if (s->inner == 1)
            forward_row(s, s->to + at, s->x + at);
        else
            forward_tile(s, s->to + at, s->x + at, n);
    }
}

PAPA_SIMD static void backward_range(void *context, int64_t begin, int64_t end)
{
    const Softmax *s = context;
    for (int64_t unit = begin; unit < end; unit++) {
        int64_t n;
        const int64_t at = unit_offset(s, unit, &n);
        if (s->inner == 1)
            backward_row(s, s->to + at, s->x + at, s->y + at);
        else
            backward_tile(s, s->to + at, s->x + at, s->y + at, n);
    }
}

static PapaStatus run(PapaDevice *dev, Softmax *s, int64_t outer, papa_range_fn *body)
{
    s->n_tiles = (s->inner + TILE - 1) / TILE;
    const int64_t width = s->inner < TILE ? s->inner : TILE, work = s->D * width; /* of one unit */
    if (work)
        papa_ranges(dev, outer * s->n_tiles, (GRAIN + work - 1) / work, body, s);
    return PAPA_OK;
}

PapaStatus papa_softmax_fwd_cpu(PapaDevice *dev, float *y, const float *x, int64_t outer, int64_t D, int64_t inner, bool log)
{
    Softmax s = {.to = y, .x = x, .D = D, .inner = inner, .log = log};
    return run(dev, &s, outer, forward_range);
}

PapaStatus papa_softmax_bwd_cpu(PapaDevice *dev, float *dx, const float *dy, const float *y, int64_t outer, int64_t D, int64_t inner, bool log,
    bool accumulate)
{
    Softmax s = {.to = dx, .x = dy, .y = y, .D = D, .inner = inner, .log = log, .accumulate = accumulate};
    return run(dev, &s, outer, backward_range);
}
