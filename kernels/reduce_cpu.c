/* CPU half of reduce.h. The axes of a walk are of four kinds: kept or summed, the last or in front of it. A unit of work is
 * one index of the kept axes in front, and a tile of columns where the last axis is kept; it goes through the summed
 * axes in blocks of rows, two-dimensional pieces of x. Units are independent, so threads change nothing. */
#include "kernels/reduce.h"

#include <string.h>

#define GRAIN 16384 /* elements that are worth a thread */
#define TILE 64     /* columns that are summed side by side */
#define LANES 16    /* partial sums of a row that is summed up */
#define CHUNK 128   /* terms that one float32 accumulator takes before it is added to the double */
#define INLINE static inline __attribute__((always_inline))

typedef enum Term { TERM_X, TERM_OTHER, TERM_TIMES, TERM_OVER, TERM_DIVISOR } Term;

/* What is summed: x is the dense tensor, o the other operand, s the operand that the sum belongs to. */
INLINE float term_of(Term t, float x, float o, float s)
{
    switch (t) {
    case TERM_X: return x;
    case TERM_OTHER: return o;
    case TERM_TIMES: return x * o;
    case TERM_OVER: return x / o;
    case TERM_DIVISOR: return -x * o / (s * s); /* d(o / s) / ds */
    }
    return 0;
}

/* Some of a walk's axes. x, o, to: strides of the dense tensor, the other operand and the result. */
typedef struct Axes {
    int n;
    int64_t count, dim[PAPA_WALK_RANK], x[PAPA_WALK_RANK], o[PAPA_WALK_RANK], to[PAPA_WALK_RANK];
} Axes;

typedef struct Sum {
    Term term;
    float *to, scale;
    const float *x, *o, *self;
    bool accumulate;
    Axes kept, summed; /* in front of the last axis; summed also without the one that counts rows */
    int64_t rows, row_x, row_o; /* the innermost summed axis in front of the last: length and strides */
    int64_t length, last_o;     /* the last axis */
    bool last_kept;
    int64_t n_tiles;
} Sum;

static void axes_add(Axes *axes, int64_t dim, int64_t x, int64_t o, int64_t to)
{
    const int k = axes->n++;
    axes->dim[k] = dim, axes->x[k] = x, axes->o[k] = o, axes->to[k] = to;
    axes->count *= dim;
}

typedef struct Offsets {
    int64_t x, o, to;
} Offsets;

INLINE Offsets axes_at(const Axes *axes, int64_t index)
{
    Offsets at = {0};
    for (int k = axes->n - 1; k >= 0; index /= axes->dim[k--]) {
        const int64_t i = index % axes->dim[k];
        at.x += i * axes->x[k], at.o += i * axes->o[k], at.to += i * axes->to[k];
    }
    return at;
}

static void sum_plan(Sum *s, const PapaWalk *walk)
{
    const int last = walk->rank - 1;
    s->kept = s->summed = (Axes){.count = 1};
    s->rows = 1;
    s->length = walk->dim[last], s->last_o = s->o ? walk->b[last] : 0;
    s->last_kept = walk->a[last] || s->length == 1;
    s->n_tiles = s->last_kept ? (s->length + TILE - 1) / TILE : 1;
    int64_t x_stride[PAPA_WALK_RANK], step = 1;
    for (int k = last; k >= 0; step *= walk->dim[k--])
        x_stride[k] = step;
    int row_axis = -1;
    for (int k = 0; k < last; k++)
        if (!walk->a[k])
            row_axis = k;
    for (int k = 0; k < last; k++) {
        const int64_t o = s->o ? walk->b[k] : 0;
        if (k == row_axis)
            s->rows = walk->dim[k], s->row_x = x_stride[k], s->row_o = o;
        else
            axes_add(walk->a[k] ? &s->kept : &s->summed, walk->dim[k], x_stride[k], o, walk->a[k]);
    }
}

/* ---------------------------------------------------------------- blocks */

/* total[j] += the sum over rows of term(x[r][j]), j < n. */
INLINE void add_columns(Term t, const Sum *s, double *total, const float *x, const float *o, const float *self, int64_t n)
{
    for (int64_t row = 0; row < s->rows; row += CHUNK) {
        const int64_t end = row + CHUNK < s->rows ? row + CHUNK : s->rows;
        float sum[TILE] = {0};
        for (int64_t r = row; r < end; r++) {
            const float *xr = x + r * s->row_x, *other = o + r * s->row_o;
            if (s->last_o)
                for (int64_t j = 0; j < n; j++)
                    sum[j] += term_of(t, xr[j], other[j], self[j]);
            else
                for (int64_t j = 0; j < n; j++)
                    sum[j] += term_of(t, xr[j], other[0], self[j]);
        }
        for (int64_t j = 0; j < n; j++)
            total[j] += (double)sum[j];
    }
}

/* The sum of term(x[j]) over j < n, n <= CHUNK * LANES. */
INLINE double sum_of_piece(Term t, const float *x, const float *o, bool o_steps, float self, int64_t n)
{
    float sum[LANES] = {0};
    double total = 0;
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES)
        if (o_steps)
            for (int l = 0; l < LANES; l++)
                sum[l] += term_of(t, x[j + l], o[j + l], self);
        else
            for (int l = 0; l < LANES; l++)
                sum[l] += term_of(t, x[j + l], o[0], self);
    for (int l = 0; j < n; j++, l++)
        sum[l] += term_of(t, x[j], o[o_steps ? j : 0], self);
    for (int l = 0; l < LANES; l++)
        total += (double)sum[l];
    return total;
}

INLINE double sum_of_rows(Term t, const Sum *s, const float *x, const float *o, float self)
{
    const int64_t step = CHUNK * LANES;
    double total = 0;
    for (int64_t r = 0; r < s->rows; r++)
        for (int64_t j = 0; j < s->length; j += step)
            total += sum_of_piece(t, x + r * s->row_x + j, o + r * s->row_o + j * s->last_o, s->last_o, self,
                s->length - j < step ? s->length - j : step);
    return total;
}

/* ---------------------------------------------------------------- units */

INLINE void sum_unit(Term t, const Sum *s, int64_t unit)
{
    const Offsets kept = axes_at(&s->kept, unit / s->n_tiles);
    const int64_t first = unit % s->n_tiles * TILE; /* column */
    const int64_t n = !s->last_kept ? 1 : s->length - first < TILE ? s->length - first : TILE;
    const float *self = s->self + kept.to + first;
    double total[TILE] = {0};
    for (int64_t i = 0; i < s->summed.count; i++) {
        const Offsets at = axes_at(&s->summed, i);
        const float *x = s->x + kept.x + at.x + first, *o = s->o + kept.o + at.o + first * s->last_o;
        if (!s->last_kept)
            total[0] += sum_of_rows(t, s, x, o, self[0]);
        else if (n == TILE) /* a constant, for the compiler */
            add_columns(t, s, total, x, o, self, TILE);
        else
            add_columns(t, s, total, x, o, self, n);
    }
    float *to = s->to + kept.to + first;
    for (int64_t j = 0; j < n; j++)
        to[j] = (float)(s->scale * total[j]) + (s->accumulate ? to[j] : 0);
}

PAPA_SIMD static void sum_range(void *context, int64_t begin, int64_t end)
{
    const Sum *s = context;
#define CASE(t)                                        \
    case t:                                            \
        for (int64_t unit = begin; unit < end; unit++) \
            sum_unit(t, s, unit);                      \
        break;
    switch (s->term) {
        CASE(TERM_X) CASE(TERM_OTHER) CASE(TERM_TIMES) CASE(TERM_OVER) CASE(TERM_DIVISOR)
    }
#undef CASE
}

/* ---------------------------------------------------------------- nothing to sum */

/* n elements of the last axis: to (+)= scale * term(x, o, self), x and self with the result's strides. */
INLINE void map_row(Term t, const Sum *s, float *to, const float *x, const float *o, const float *self, int64_t n)
{
#define LOOP(other)                                                                                             \
    PAPA_IVDEP for (int64_t i = 0; i < n; i++)                                                                  \
        to[i] = s->scale * term_of(t, x[i], other, self[i]) + (s->accumulate ? to[i] : 0);
    if (s->last_o) {
        LOOP(o[i])
    } else {
        const float c = o[0];
        LOOP(c)
    }
#undef LOOP
}

/* A range of rows, or of elements where there is one row. */
PAPA_SIMD static void map_range(void *context, int64_t begin, int64_t end)
{
    const Sum *s = context;
    const bool one_row = !s->kept.n;
#define CASE(t)                                                                                                             \
    case t:                                                                                                                 \
        for (int64_t row = one_row ? 0 : begin; row < (one_row ? 1 : end); row++) {                                         \
            const Offsets at = axes_at(&s->kept, row);                                                                      \
            const int64_t first = one_row ? begin : 0, n = one_row ? end - begin : s->length;                               \
            map_row(t, s, s->to + at.x + first, s->x + at.x + first, s->o + at.o + first * s->last_o, s->self + at.x + first, n); \
        }                                                                                                                   \
        break;
    switch (s->term) {
        CASE(TERM_X) CASE(TERM_OTHER) CASE(TERM_TIMES) CASE(TERM_OVER) CASE(TERM_DIVISOR)
    }
#undef CASE
}

/* So many pieces of this many elements are worth a thread. */
static int64_t grain_of(int64_t elements)
{
    return elements > 0 && elements < GRAIN ? GRAIN / elements : 1;
}

static PapaStatus sum_run(PapaDevice *dev, Sum *s, const PapaWalk *walk)
{
    sum_plan(s, walk);
    s->x = s->x ? s->x : s->to; /* an address for what is not used: an operand that the term leaves out, an empty tensor */
    s->o = s->o ? s->o : s->x;
    s->self = s->self ? s->self : s->to;
    if (s->last_kept && s->summed.count == 1 && s->rows == 1) {
        if (s->kept.n)
            papa_ranges(dev, s->kept.count, grain_of(s->length), map_range, s);
        else
            papa_ranges(dev, s->length, GRAIN, map_range, s);
        return PAPA_OK;
    }
    const int64_t units = s->kept.count * s->n_tiles;
    if (units)
        papa_ranges(dev, units, grain_of(papa_walk_count(walk) / units), sum_range, s);
    return PAPA_OK;
}

/* ---------------------------------------------------------------- the contract */

PapaStatus papa_sum_cpu(PapaDevice *dev, float *y, const float *x, const PapaWalk *walk, double scale, bool accumulate)
{
    Sum s = {.term = TERM_X, .to = y, .scale = (float)scale, .x = x, .accumulate = accumulate};
    return sum_run(dev, &s, walk);
}

PapaStatus papa_spread_cpu(PapaDevice *dev, float *dx, const float *dy, const PapaWalk *walk, double scale, bool accumulate)
{
    PapaWalk dense = *walk;
    int64_t step = 1;
    for (int k = walk->rank - 1; k >= 0; step *= walk->dim[k--])
        dense.a[k] = step, dense.b[k] = walk->a[k];
    Sum s = {.term = TERM_OTHER, .to = dx, .scale = (float)scale, .o = dy, .accumulate = accumulate};
    return sum_run(dev, &s, &dense);
}

static PapaWalk swapped(const PapaWalk *walk)
{
    PapaWalk other = *walk;
    for (int k = 0; k < walk->rank; k++)
        other.a[k] = walk->b[k], other.b[k] = walk->a[k];
    return other;
}

PapaStatus papa_binary_bwd_cpu(PapaDevice *dev, PapaBinary f, int operand, float *d, const float *dy, const float *a, const float *b,
    const PapaWalk *walk, bool accumulate)
{
    const PapaWalk own = operand ? swapped(walk) : *walk; /* its a is the operand */
    Sum s = {.term = TERM_X, .to = d, .scale = 1, .x = dy, .accumulate = accumulate};
    switch (f) {
    case PAPA_BINARY_ADD: break;
    case PAPA_BINARY_SUB: s.scale = operand ? -1.f : 1.f; break;
    case PAPA_BINARY_MUL: s.term = TERM_TIMES, s.o = operand ? a : b; break;
    case PAPA_BINARY_DIV:
        s.term = operand ? TERM_DIVISOR : TERM_OVER;
        s.o = operand ? a : b;
        s.self = operand ? b : a;
        break;
    }
    return sum_run(dev, &s, &own);
}
