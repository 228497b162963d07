/* Reference half of eltwise.h. */
#include "kernels/eltwise.h"

#include <math.h>

/* As the contract's list has them. Every comparison is false for a NaN, which therefore comes out as it went in. */
static double unary_value(PapaUnary f, double x, double a, double b)
{
    switch (f) {
    case PAPA_UNARY_RELU: return x < 0 ? 0 : x;
    case PAPA_UNARY_LEAKY: return x < 0 ? a * x : x;
    case PAPA_UNARY_CLIP: x = x < a ? a : x; return x > b ? b : x;
    case PAPA_UNARY_SIGMOID: return 1 / (1 + exp(-x));
    case PAPA_UNARY_TANH: return tanh(x);
    case PAPA_UNARY_NEG: return -x;
    case PAPA_UNARY_SQRT: return sqrt(x);
    case PAPA_UNARY_EXP: return exp(x);
    case PAPA_UNARY_LOG: return log(x);
    case PAPA_UNARY_ABS: return fabs(x);
    case PAPA_UNARY_RECIPROCAL: return 1 / x;
    case PAPA_UNARY_SQUARE: return x * x;
    case PAPA_UNARY_POW: return pow(x, a);
    case PAPA_UNARY_ERF: return erf(x);
    case PAPA_UNARY_ELU: return x < 0 ? a * expm1(b * x) : x;
    case PAPA_UNARY_SELU: return x < 0 ? a * expm1(x) : b * x;
    case PAPA_UNARY_HARD_SIGMOID: x = a * x + b; x = x < 0 ? 0 : x; return x > 1 ? 1 : x;
    case PAPA_UNARY_HARD_SWISH: return x <= -3 ? 0 : x >= 3 ? x : x * (x + 3) / 6;
    case PAPA_UNARY_SWISH: return x / (1 + exp(-a * x));
    case PAPA_UNARY_SOFTPLUS: return (x < 0 ? 0 : x) + log1p(exp(-fabs(x)));
    case PAPA_UNARY_SOFTSIGN: return x / (1 + fabs(x));
    case PAPA_UNARY_MISH: return x * tanh((x < 0 ? 0 : x) + log1p(exp(-fabs(x))));
    case PAPA_UNARY_GELU: return x * .5 * (1 + erf(x * M_SQRT1_2));
    case PAPA_UNARY_GELU_TANH: return x * .5 * (1 + tanh(M_2_SQRTPI * M_SQRT1_2 * (x + .044715 * x * x * x)));
    }
    return NAN;
}

PapaStatus papa_unary_fwd_ref(PapaDevice *dev, PapaUnary f, PapaReal *y, const PapaReal *x, int64_t n, float a, float b)
{
    (void)dev;
    for (int64_t i = 0; i < n; i++)
        ((double *)y)[i] = unary_value(f, ((const double *)x)[i], (double)a, (double)b);
    return PAPA_OK;
}

static double binary_value(PapaBinary f, double a, double b)
{
    switch (f) {
    case PAPA_BINARY_ADD: return a + b;
    case PAPA_BINARY_SUB: return a - b;
    case PAPA_BINARY_MUL: return a * b;
    case PAPA_BINARY_DIV: return a / b;
    }
    return NAN;
}

PapaStatus papa_binary_fwd_ref(PapaDevice *dev, PapaBinary f, PapaReal *y, const PapaReal *a, const PapaReal *b, const PapaWalk *walk, bool relu)
{
    (void)dev;
    const int64_t n = papa_walk_count(walk);
    for (int64_t i = 0; i < n; i++) {
        int64_t at_a, at_b;
        papa_walk_at(walk, i, &at_a, &at_b);
        const double t = binary_value(f, ((const double *)a)[at_a], ((const double *)b)[at_b]);
        ((double *)y)[i] = relu ? unary_value(PAPA_UNARY_RELU, t, 0, 0) : t;
    }
    return PAPA_OK;
}
