/* What the functions of kernels/eltwise.h compute, in float32, for both halves: f is a constant where they are called, so that the switches
 * fold away and a loop over one function vectorises. */
#ifndef PAPA_ELTWISE_MATH_H
#define PAPA_ELTWISE_MATH_H

#ifdef __cplusplus /* device code: behind kernels/cuda.cuh and the contract */
#define PAPA_FORMULA __device__ __forceinline__
#define PAPA_EXP expf
#define PAPA_TANH tanhf
#define PAPA_EXPM1 expm1f
#define PAPA_ERF erff
#else
#include "kernels/eltwise.h"
#include "kernels/expf.h"

#include <math.h>

#define PAPA_FORMULA static inline __attribute__((always_inline))
#define PAPA_EXP papa_expf
#define PAPA_TANH papa_tanhf
#define PAPA_EXPM1 papa_expm1f
#define PAPA_ERF papa_erff
#endif

PAPA_FORMULA float papa_clip(float x, float a, float b)
{
    x = x < a ? a : x;
    return x > b ? b : x;
}

/* tanh(log(1 + exp(x))) = n / (n + 2) with n = e (e + 2), e = exp(x); 1 in float32 beyond x = 20. */
PAPA_FORMULA float papa_mish_exp(float x)
{
    return PAPA_EXP(x > 20 ? 20 : x);
}

/* The normal distribution's share below x, and the tanh that stands in for it. */
PAPA_FORMULA float papa_gelu_share(float x)
{
    return .5f + .5f * PAPA_ERF(.707106781f * x);
}

PAPA_FORMULA float papa_gelu_tanh(float x)
{
    return PAPA_TANH(.797884561f * (x + .044715f * x * x * x));
}

PAPA_FORMULA float papa_sigmoid(float x)
{
    return 1.f / (1.f + PAPA_EXP(-x));
}

PAPA_FORMULA float papa_unary_value(PapaUnary f, float x, float a, float b)
{
    float e;
    switch (f) { /* every comparison is false for a NaN, which therefore comes out as it went in */
    case PAPA_UNARY_RELU: return x < 0 ? 0 : x;
    case PAPA_UNARY_LEAKY: return x < 0 ? a * x : x;
    case PAPA_UNARY_CLIP: return papa_clip(x, a, b);
    case PAPA_UNARY_SIGMOID: return papa_sigmoid(x);
    case PAPA_UNARY_TANH: return PAPA_TANH(x);
    case PAPA_UNARY_NEG: return -x;
    case PAPA_UNARY_SQRT: return sqrtf(x);
    case PAPA_UNARY_EXP: return PAPA_EXP(x);
    case PAPA_UNARY_LOG: return logf(x);
    case PAPA_UNARY_ABS: return fabsf(x);
    case PAPA_UNARY_RECIPROCAL: return 1.f / x;
    case PAPA_UNARY_SQUARE: return x * x;
    case PAPA_UNARY_POW: return powf(x, a);
    case PAPA_UNARY_ERF: return PAPA_ERF(x);
    case PAPA_UNARY_ELU: return x < 0 ? a * PAPA_EXPM1(b * x) : x;
    case PAPA_UNARY_SELU: return x < 0 ? a * PAPA_EXPM1(x) : b * x;
    case PAPA_UNARY_HARD_SIGMOID: return papa_clip(a * x + b, 0, 1);
    case PAPA_UNARY_HARD_SWISH: return x * papa_clip(x * (1.f / 6) + .5f, 0, 1);
    case PAPA_UNARY_SWISH: return x * papa_sigmoid(a * x);
    case PAPA_UNARY_SOFTPLUS: return (x < 0 ? 0 : x) + log1pf(PAPA_EXP(-fabsf(x)));
    case PAPA_UNARY_SOFTSIGN: return x / (1.f + fabsf(x));
    case PAPA_UNARY_MISH: e = papa_mish_exp(x); return x * (e * (e + 2.f) / (e * (e + 2.f) + 2.f));
    case PAPA_UNARY_GELU: return x * papa_gelu_share(x);
    case PAPA_UNARY_GELU_TANH: return x * (.5f + .5f * papa_gelu_tanh(x));
    }
    return NAN;
}

/* dy * f'(x), from what was saved of x or y. */
PAPA_FORMULA float papa_unary_slope(PapaUnary f, float dy, float saved, float a, float b)
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
    case PAPA_UNARY_ERF: return dy * 1.12837917f * PAPA_EXP(-x * x);
    case PAPA_UNARY_ELU: return x > 0 ? dy : dy * a * b * PAPA_EXP(b * x);
    case PAPA_UNARY_SELU: return x > 0 ? dy * b : dy * a * PAPA_EXP(x);
    case PAPA_UNARY_HARD_SIGMOID: return ((saved > 0) & (saved < 1)) ? a * dy : 0;
    case PAPA_UNARY_HARD_SWISH: return x <= -3 ? 0 : x >= 3 ? dy : dy * (x * (1.f / 3) + .5f);
    case PAPA_UNARY_SWISH: t = papa_sigmoid(a * x); return dy * t * (1.f + a * x * (1.f - t));
    case PAPA_UNARY_SOFTPLUS: return dy * papa_sigmoid(x);
    case PAPA_UNARY_SOFTSIGN: t = 1.f + fabsf(x); return dy / (t * t);
    case PAPA_UNARY_MISH:
        e = papa_mish_exp(x), t = e * (e + 2.f) + 2.f;
        return dy * ((t - 2.f) / t + x * (4.f * e * (e + 1.f) / (t * t)));
    case PAPA_UNARY_GELU: return dy * (papa_gelu_share(x) + x * .398942280f * PAPA_EXP(-.5f * x * x));
    case PAPA_UNARY_GELU_TANH:
        t = papa_gelu_tanh(x);
        return dy * (.5f + .5f * t + .5f * x * (1.f - t * t) * .797884561f * (1.f + .134145f * x * x));
    }
    return NAN;
}

PAPA_FORMULA float papa_binary_value(PapaBinary f, float a, float b)
{
    switch (f) {
    case PAPA_BINARY_ADD: return a + b;
    case PAPA_BINARY_SUB: return a - b;
    case PAPA_BINARY_MUL: return a * b;
    case PAPA_BINARY_DIV: return a / b;
    }
    return NAN;
}

/* Expands LOOP once for every function of one operand. */
#define PAPA_EACH_UNARY(LOOP)                                                                                  \
    LOOP(PAPA_UNARY_RELU) LOOP(PAPA_UNARY_LEAKY) LOOP(PAPA_UNARY_CLIP) LOOP(PAPA_UNARY_SIGMOID) LOOP(PAPA_UNARY_TANH) \
    LOOP(PAPA_UNARY_NEG) LOOP(PAPA_UNARY_SQRT) LOOP(PAPA_UNARY_EXP) LOOP(PAPA_UNARY_LOG) LOOP(PAPA_UNARY_ABS) LOOP(PAPA_UNARY_RECIPROCAL) \
    LOOP(PAPA_UNARY_SQUARE) LOOP(PAPA_UNARY_POW) LOOP(PAPA_UNARY_ERF) LOOP(PAPA_UNARY_ELU) LOOP(PAPA_UNARY_SELU) LOOP(PAPA_UNARY_HARD_SIGMOID) \
    LOOP(PAPA_UNARY_HARD_SWISH) LOOP(PAPA_UNARY_SWISH) LOOP(PAPA_UNARY_SOFTPLUS) LOOP(PAPA_UNARY_SOFTSIGN) LOOP(PAPA_UNARY_MISH) \
    LOOP(PAPA_UNARY_GELU) LOOP(PAPA_UNARY_GELU_TANH)

#endif
