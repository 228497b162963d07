/* CPU half of eltwise.h. One loop per function, chosen outside it, so that each vectorises. */
#include "kernels/eltwise.h"
#include "kernels/eltwise_math.h"

#include <assert.h>

#define GRAIN 16384 /* elements that are worth a thread */
#define INLINE static inline __attribute__((always_inline))

/* ---------------------------------------------------------------- one operand */

typedef struct Unary {
    PapaUnary f;
    float *to;
    const float *x, *saved;
    float a, b;
    bool accumulate;
} Unary;

PAPA_SIMD static void unary_fwd_range(void *context, int64_t begin, int64_t end)
{
    const Unary *u = context;
    float *y = u->to, a = u->a, b = u->b;
    const float *x = u->x;
    switch (u->f) {
#define LOOP(f)                                \
    case f:                                             \
        PAPA_IVDEP for (int64_t i = begin; i < end; i++)  \
            y[i] = papa_unary_value(f, x[i], a, b);                \
        break;
        PAPA_EACH_UNARY(LOOP)
#undef LOOP
    }
}

PapaStatus papa_unary_fwd_cpu(PapaDevice *dev, PapaUnary f, float *y, const float *x, int64_t n, float a, float b)
{
    Unary u = {.f = f, .to = y, .x = x, .a = a, .b = b};
    papa_ranges(dev, n, GRAIN, unary_fwd_range, &u);
    return PAPA_OK;
}

PAPA_SIMD static void unary_bwd_range(void *context, int64_t begin, int64_t end)
{
    const Unary *u = context;
    float *dx = u->to, a = u->a, b = u->b;
    const float *dy = u->x, *saved = u->saved;
    switch (u->f) {
#define LOOP(f)                                                         \
    case f:                                                             \
        if (u->accumulate)                                              \
            PAPA_IVDEP for (int64_t i = begin; i < end; i++)              \
                dx[i] += papa_unary_slope(f, dy[i], saved[i], a, b);      \
        else                                                            \
            PAPA_IVDEP for (int64_t i = begin; i < end; i++)              \
                dx[i] = papa_unary_slope(f, dy[i], saved[i], a, b);       \
        break;
        PAPA_EACH_UNARY(LOOP)
#undef LOOP
    }
}

PapaStatus papa_unary_bwd_cpu(PapaDevice *dev, PapaUnary f, float *dx, const float *dy, const float *saved, int64_t n, float a, float b,
    bool accumulate)
{
    if (f == PAPA_UNARY_NEG)
        saved = dy; /* something to load; its value is not used */
    Unary u = {.f = f, .to = dx, .x = dy, .saved = saved, .a = a, .b = b, .accumulate = accumulate};
    papa_ranges(dev, n, GRAIN, unary_bwd_range, &u);
    return PAPA_OK;
}

PapaStatus papa_relu_bwd_cpu(PapaDevice *dev, float *dx, const float *dy, const float *y, int64_t n, bool accumulate)
{
    return papa_unary_bwd_cpu(dev, PAPA_UNARY_RELU, dx, dy, y, n, 0, 0, accumulate);
}

/* ---------------------------------------------------------------- two operands */

/* n elements along the last axis, where an operand's stride is 0 or 1: a loop for each of the four cases. */
INLINE void binary_row(PapaBinary f, bool relu, float *y, const float *a, bool a_steps, const float *b, bool b_steps, int64_t n)
{
#define LOOP(x, z)                                         \
    PAPA_IVDEP for (int64_t i = 0; i < n; i++) {             \
        float t = papa_binary_value(f, x, z);                         \
        y[i] = relu ? papa_unary_value(PAPA_UNARY_RELU, t, 0, 0) : t; \
    }
    if (a_steps && b_steps) {
        LOOP(a[i], b[i])
    } else if (a_steps) {
        const float c = b[0];
        LOOP(a[i], c)
    } else if (b_steps) {
        const float c = a[0];
        LOOP(c, b[i])
    } else {
        const float c = a[0], d = b[0];
        LOOP(c, d)
    }
#undef LOOP
}

typedef struct Binary {
    PapaBinary f;
    bool relu;
    float *y;
    const float *a, *b;
    const PapaWalk *walk;
} Binary;

/* Rows begin .. end-1, a row being the last axis; the other axes count like an odometer. */
INLINE void binary_rows(PapaBinary f, bool relu, const Binary *c, int64_t begin, int64_t end)
{
    const PapaWalk *w = c->walk;
    const int last = w->rank - 1;
    const int64_t length = w->dim[last];
    int64_t at[PAPA_WALK_RANK], a = 0, b = 0, rest = begin;
    for (int k = last - 1; k >= 0; k--) {
        at[k] = rest % w->dim[k];
        rest /= w->dim[k];
        a += at[k] * w->a[k], b += at[k] * w->b[k];
    }
    for (int64_t row = begin; row < end; row++) {
        binary_row(f, relu, c->y + row * length, c->a + a, w->a[last], c->b + b, w->b[last], length);
        for (int k = last - 1; k >= 0; k--) {
            a += w->a[k], b += w->b[k];
            if (++at[k] < w->dim[k])
                break;
            at[k] = 0;
            a -= w->a[k] * w->dim[k], b -= w->b[k] * w->dim[k];
        }
    }
}

/* A range of rows, or of elements where the walk has one axis. */
INLINE void binary_range(PapaBinary f, bool relu, const Binary *c, int64_t begin, int64_t end)
{
    if (c->walk->rank > 1) {
        binary_rows(f, relu, c, begin, end);
        return;
    }
    bool a_steps = c->walk->a[0], b_steps = c->walk->b[0];
    binary_row(f, relu, c->y + begin, c->a + (a_steps ? begin : 0), a_steps, c->b + (b_steps ? begin : 0), b_steps, end - begin);
}

PAPA_SIMD static void binary_fwd_range(void *context, int64_t begin, int64_t end)
{
    const Binary *c = context;
#define CASE(f)                                   \
    case f:                                       \
        if (c->relu)                              \
            binary_range(f, true, c, begin, end); \
        else                                      \
            binary_range(f, false, c, begin, end);\
        break;
    switch (c->f) {
        CASE(PAPA_BINARY_ADD) CASE(PAPA_BINARY_SUB) CASE(PAPA_BINARY_MUL) CASE(PAPA_BINARY_DIV)
    }
#undef CASE
}

PapaStatus papa_binary_fwd_cpu(PapaDevice *dev, PapaBinary f, float *y, const float *a, const float *b, const PapaWalk *walk, bool relu)
{
    const int64_t n = papa_walk_count(walk), length = walk->dim[walk->rank - 1];
    Binary c = {.f = f, .relu = relu, .y = y, .a = a, .b = b, .walk = walk};
    if (!n)
        return PAPA_OK;
    if (walk->rank == 1)
        papa_ranges(dev, n, GRAIN, binary_fwd_range, &c);
    else
        papa_ranges(dev, n / length, (GRAIN + length - 1) / length, binary_fwd_range, &c);
    return PAPA_OK;
}
