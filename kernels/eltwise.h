/* Element-wise functions of one and of two activations, dense; the second kind with broadcasting.
 * No allocation; asynchronous on dev's stream; sizes may be 0. */
#ifndef PAPA_ELTWISE_H
#define PAPA_ELTWISE_H

#include "device/device.h"
#include "kernels/broadcast.h"

#include <stdbool.h>
#include <stddef.h>

/* y = f(x); what backward needs saved stands behind. NaN gives NaN, in every one. The gradient at x = 0 of RELU, LEAKY, ELU
 * and SELU is that of the negative side, as in PyTorch. */
typedef enum PapaUnary {
    PAPA_UNARY_RELU,    /* max(0, x); y */
    PAPA_UNARY_LEAKY,   /* x < 0 ? a * x : x; x */
    PAPA_UNARY_CLIP,    /* min(b, max(a, x)); y. The gradient passes strictly between the bounds, as y's type has them: 0 on both */
    PAPA_UNARY_SIGMOID, /* 1 / (1 + exp(-x)); y */
    PAPA_UNARY_TANH,    /* y */
    PAPA_UNARY_NEG,     /* -x; nothing */
    PAPA_UNARY_SQRT,    /* y */
    PAPA_UNARY_EXP,     /* y */
    PAPA_UNARY_LOG,     /* x */
    PAPA_UNARY_ABS,     /* x. The gradient at 0 is 0 */
    PAPA_UNARY_RECIPROCAL, /* 1 / x; y */
    PAPA_UNARY_SQUARE,  /* x * x; x */
    PAPA_UNARY_POW,     /* x^a; x */
    PAPA_UNARY_ERF,     /* x */
    PAPA_UNARY_ELU,     /* x < 0 ? a * (exp(b * x) - 1) : x, b > 0; x */
    PAPA_UNARY_SELU,    /* x < 0 ? a * (exp(x) - 1) : b * x; x */
    PAPA_UNARY_HARD_SIGMOID, /* min(1, max(0, a * x + b)); y. The gradient passes strictly between the bounds */
    PAPA_UNARY_HARD_SWISH,   /* x * min(1, max(0, x / 6 + 1/2)); x */
    PAPA_UNARY_SWISH,   /* x / (1 + exp(-a * x)); x */
    PAPA_UNARY_SOFTPLUS, /* log(1 + exp(x)); x */
    PAPA_UNARY_SOFTSIGN, /* x / (1 + |x|); x */
    PAPA_UNARY_MISH,    /* x * tanh(log(1 + exp(x))); x */
    PAPA_UNARY_GELU,    /* x * (1 + erf(x / sqrt(2))) / 2; x */
    PAPA_UNARY_GELU_TANH, /* x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))) / 2; x */
} PapaUnary;

/* y[i] = f(x[i]), i < n. y may be x. a and b are f's parameters. */
typedef PapaStatus papa_unary_fwd_fn(PapaDevice *dev, PapaUnary f, PapaReal *y, const PapaReal *x, int64_t n, float a, float b);
papa_unary_fwd_fn papa_unary_fwd_cpu, papa_unary_fwd_cuda, papa_unary_fwd_ref;

/* dx[i] (+)= dy[i] * f'(x[i]). saved: x or y as the list says, NULL where it says nothing. dx may be dy. */
typedef PapaStatus papa_unary_bwd_fn(PapaDevice *dev, PapaUnary f, PapaReal *dx, const PapaReal *dy, const PapaReal *saved, int64_t n, float a, float b,
    bool accumulate);
papa_unary_bwd_fn papa_unary_bwd_cpu, papa_unary_bwd_cuda;

/* dx[i] (+)= y[i] > 0 ? dy[i] : 0, for a Relu joined to another operator. dx may be dy. */
typedef PapaStatus papa_relu_bwd_fn(PapaDevice *dev, PapaReal *dx, const PapaReal *dy, const PapaReal *y, int64_t n, bool accumulate);
papa_relu_bwd_fn papa_relu_bwd_cpu, papa_relu_bwd_cuda;

typedef enum PapaBinary {
    PAPA_BINARY_ADD,
    PAPA_BINARY_SUB,
    PAPA_BINARY_MUL,
    PAPA_BINARY_DIV,
} PapaBinary;

/* y = f(a, b), or max(0, that) with relu; y is dense in the walk's index space, and may be a or b where that is too.
 * Gradients: kernels/reduce.h, papa_binary_bwd. */
typedef PapaStatus papa_binary_fwd_fn(PapaDevice *dev, PapaBinary f, PapaReal *y, const PapaReal *a, const PapaReal *b, const PapaWalk *walk, bool relu);
papa_binary_fwd_fn papa_binary_fwd_cpu, papa_binary_fwd_cuda, papa_binary_fwd_ref;

#endif
