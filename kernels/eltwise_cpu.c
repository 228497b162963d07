/* CPU half of eltwise.h. One loop per function, chosen outside it, so that each vectorises. */
#include "kernels/eltwise.h"
#include "kernels/expf.h"

#include <assert.h>
#include <math.h>

#define GRAIN 16384 /* elements that are worth a thread */
#define INLINE static inline __attribute__((always_inline))

/* ---------------------------------------------------------------- one operand */

INLINE float clip(float x, float a, float b)
{
    x = x < a ? a : x;
    return x > b ? b : x;
}

/* tanh(log(1 + exp(x))) = n / (n + 2) with n = e (e + 2), e = exp(x); 1 in float32 beyond x = 20. */
INLINE float mish_exp(float x)
{
    return papa_expf(x > 20 ? 20 : x);
}

/* The normal distribution's share below x, and the tanh that stands in for it. */
INLINE float gelu_share(float x)
{
    return .5f + .5f * papa_erff(.707106781f * x);
}

INLINE float gelu_tanh(float x)
{
    return papa_tanhf(.797884561f * (x + .044715f * x * x * x));
}

INLINE float sigmoid(float x)
{
    return 1.f / (1.f + papa_expf(-x));
}

INLINE float unary(PapaUnary f, float x, float a, float b)
{
    float e;
    switch (f) { /* every comparison is false for a NaN, which therefore comes out as it went in */
    case PAPA_UNARY_RELU: return x < 0 ? 0 : x;
    case PAPA_UNARY_LEAKY: return x < 0 ? a * x : x;
    case PAPA_UNARY_CLIP: return clip(x, a, b);
    case PAPA_UNARY_SIGMOID: return sigmoid(x);
    case PAPA_UNARY_TANH: return papa_tanhf(x);
    case PAPA_UNARY_NEG: return -x;
    case PAPA_UNARY_SQRT: return sqrtf(x);
    case PAPA_UNARY_EXP: return papa_expf(x);
    case PAPA_UNARY_LOG: return logf(x);
    case PAPA_UNARY_ABS: return fabsf(x);
    case PAPA_UNARY_RECIPROCAL: return 1.f / x;
    case PAPA_UNARY_SQUARE: return x * x;
    case PAPA_UNARY_POW: return powf(x, a);
    case PAPA_UNARY_ERF: return papa_erff(x);
    case PAPA_UNARY_ELU: return x < 0 ? a * papa_expm1f(b * x) : x;
    case PAPA_UNARY_SELU: return x < 0 ? a * papa_expm1f(x) : b * x;
    case PAPA_UNARY_HARD_SIGMOID: return clip(a * x + b, 0, 1);
    case PAPA_UNARY_HARD_SWISH: return x * clip(x * (1.f / 6) + .5f, 0, 1);
    case PAPA_UNARY_SWISH: return x * sigmoid(a * x);
    case PAPA_UNARY_SOFTPLUS: return (x < 0 ? 0 : x) + log1pf(papa_expf(-fabsf(x)));
    case PAPA_UNARY_SOFTSIGN: return x / (1.f + fabsf(x));
    case PAPA_UNARY_MISH: e = mish_exp(x); return x * (e * (e + 2.f) / (e * (e + 2.f) + 2.f));
    case PAPA_UNARY_GELU: return x * gelu_share(x);
    case PAPA_UNARY_GELU_TANH: return x * (.5f + .5f * gelu_tanh(x));
    }
    return NAN;
}

/* dy * f'(x), from what was saved of x or y. */
INLINE float unary_gradient(PapaUnary f, float dy, float saved, float a, float b)
{
    const float x = saved; /* for the functions that save it */
    float e, t;
    switch (f) {
    case PAPA_UNARY_RELU: return saved > 0 ? dy : 0;
    case PAPA_UNARY_LEAKY: return saved > 0 ? dy : a * dy;
    case PAPA_UNARY_CLIP: return ((saved > a) & (saved < b)) ? dy : 0;
    case PAPA_UNARY_SIGMOID: return dy * saved * (1.f - saved);
    case PAPA_UNARY_TANH: return dy * (1.f - saved * saved);
    case PAPA_UNARY_NEG: return -dy;
    case PAPA_UNARY_SQRT: return dy * .5f / saved;
    case PAPA_UNARY_EXP: return dy * saved;
    case PAPA_UNARY_LOG: return dy / saved;
    case PAPA_UNARY_ABS: return x < 0 ? -dy : x > 0 ? dy : 0;
    case PAPA_UNARY_RECIPROCAL: return -dy * saved * saved;
    case PAPA_UNARY_SQUARE: return 2.f * dy * x;
    case PAPA_UNARY_POW: return a == 0 ? 0 : dy * a * powf(x, a - 1.f);
    case PAPA_UNARY_ERF: return dy * 1.12837917f * papa_expf(-x * x);
    case PAPA_UNARY_ELU: return x > 0 ? dy : dy * a * b * papa_expf(b * x);
    case PAPA_UNARY_SELU: return x > 0 ? dy * b : dy * a * papa_expf(x);
    case PAPA_UNARY_HARD_SIGMOID: return ((saved > 0) & (saved < 1)) ? a * dy : 0;
    case PAPA_UNARY_HARD_SWISH: return x <= -3 ? 0 : x >= 3 ? dy : dy * (x * (1.f / 3) + .5f);
    case PAPA_UNARY_SWISH: t = sigmoid(a * x); return dy * t * (1.f + a * x * (1.f - t));
    case PAPA_UNARY_SOFTPLUS: return dy * sigmoid(x);
    case PAPA_UNARY_SOFTSIGN: t = 1.f + fabsf(x); return dy / (t * t);
    case PAPA_UNARY_MISH:
        e = mish_exp(x), t = e * (e + 2.f) + 2.f;
        return dy * ((t - 2.f) / t + x * (4.f * e * (e + 1.f) / (t * t)));
    case PAPA_UNARY_GELU: return dy * (gelu_share(x) + x * .398942280f * papa_expf(-.5f * x * x));
    case PAPA_UNARY_GELU_TANH:
        t = gelu_tanh(x);
        return dy * (.5f + .5f * t + .5f * x * (1.f - t * t) * .797884561f * (1.f + .134145f * x * x));
    }
    return NAN;
}

typedef struct Unary {
    PapaUnary f;
    float *to;
    const float *x, *saved;
    float a, b;
    bool accumulate;
} Unary;

/* Expands a loop once for every function of one operand. */
#define FOR_EACH_UNARY(LOOP)                                                                                  \
    LOOP(PAPA_UNARY_RELU) LOOP(PAPA_UNARY_LEAKY) LOOP(PAPA_UNARY_CLIP) LOOP(PAPA_UNARY_SIGMOID) LOOP(PAPA_UNARY_TANH) \
    LOOP(PAPA_UNARY_NEG) LOOP(PAPA_UNARY_SQRT) LOOP(PAPA_UNARY_EXP) LOOP(PAPA_UNARY_LOG) LOOP(PAPA_UNARY_ABS) LOOP(PAPA_UNARY_RECIPROCAL) \
    LOOP(PAPA_UNARY_SQUARE) LOOP(PAPA_UNARY_POW) LOOP(PAPA_UNARY_ERF) LOOP(PAPA_UNARY_ELU) LOOP(PAPA_UNARY_SELU) LOOP(PAPA_UNARY_HARD_SIGMOID) \
    LOOP(PAPA_UNARY_HARD_SWISH) LOOP(PAPA_UNARY_SWISH) LOOP(PAPA_UNARY_SOFTPLUS) LOOP(PAPA_UNARY_SOFTSIGN) LOOP(PAPA_UNARY_MISH) \
    LOOP(PAPA_UNARY_GELU) LOOP(PAPA_UNARY_GELU_TANH)

PAPA_SIMD static void unary_fwd_range(void *context, int64_t begin, int64_t end)
{
    const Unary *u = context;
    float *y = u->to, a = u->a, b = u->b;
    const float *x = u->x;
    switch (u->f) {
#define LOOP(f)                                \
    case f:                                             \
        PAPA_IVDEP for (int64_t i = begin; i < end; i++)  \
            y[i] = unary(f, x[i], a, b);                \
        break;
        FOR_EACH_UNARY(LOOP)
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
                dx[i] += unary_gradient(f, dy[i], saved[i], a, b);      \
        else                                                            \
            PAPA_IVDEP for (int64_t i = begin; i < end; i++)              \
                dx[i] = unary_gradient(f, dy[i], saved[i], a, b);       \
        break;
        FOR_EACH_UNARY(LOOP)
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

INLINE float binary(PapaBinary f, float a, float b)
{
    switch (f) {
    case PAPA_BINARY_ADD: return a + b;
    case PAPA_BINARY_SUB: return a - b;
    case PAPA_BINARY_MUL: return a * b;
    case PAPA_BINARY_DIV: return a / b;
    }
    return NAN;
}

/* n elements along the last axis, where an operand's stride is 0 or 1: a loop for each of the four cases. */
INLINE void binary_row(PapaBinary f, bool relu, float *y, const float *a, bool a_steps, const float *b, bool b_steps, int64_t n)
{
#define LOOP(x, z)                                         \
    PAPA_IVDEP for (int64_t i = 0; i < n; i++) {             \
        float t = binary(f, x, z);                         \
        y[i] = relu ? unary(PAPA_UNARY_RELU, t, 0, 0) : t; \
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
