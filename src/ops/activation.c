/* Element-wise functions of one tensor: the activations, and the plain functions that exporters build others from. Pow is one of
 * them, as its exponent must be known. A Relu that follows a convolution, a product, an addition or a normalisation is
 * joined to it by the fusing pass where it can be. */
#include "graph/op.h"
#include "graph/units.h"
#include "kernels/eltwise.h"

#include <float.h>
#include <math.h>
#include <string.h>

typedef struct Activation {
    PapaUnary f;
    float a, b;
} Activation;

/* ---------------------------------------------------------------- attributes */

static PapaStatus plain_init(PapaNode *node, PapaUnary f)
{
    ((Activation *)node->attrs)->f = f;
    return PAPA_OK;
}

#define PLAIN_INIT(name, f)                                           \
    static PapaStatus name##_init(PapaNode *node, PapaGraph *graph)   \
    {                                                                 \
        (void)graph;                                                  \
        return plain_init(node, f);                                   \
    }
PLAIN_INIT(relu, PAPA_UNARY_RELU)
PLAIN_INIT(sigmoid, PAPA_UNARY_SIGMOID)
PLAIN_INIT(tanh, PAPA_UNARY_TANH)
PLAIN_INIT(neg, PAPA_UNARY_NEG)
PLAIN_INIT(sqrt, PAPA_UNARY_SQRT)
PLAIN_INIT(exp, PAPA_UNARY_EXP)
PLAIN_INIT(log, PAPA_UNARY_LOG)
PLAIN_INIT(abs, PAPA_UNARY_ABS)
PLAIN_INIT(reciprocal, PAPA_UNARY_RECIPROCAL)
PLAIN_INIT(erf, PAPA_UNARY_ERF)
PLAIN_INIT(hard_swish, PAPA_UNARY_HARD_SWISH)
PLAIN_INIT(softplus, PAPA_UNARY_SOFTPLUS)
PLAIN_INIT(softsign, PAPA_UNARY_SOFTSIGN)
PLAIN_INIT(mish, PAPA_UNARY_MISH)

static PapaStatus leaky_init(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    Activation *t = node->attrs;
    t->f = PAPA_UNARY_LEAKY;
    return papa_attr_float(node->proto, "alpha", .01f, &t->a);
}

static PapaStatus elu_init(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    Activation *t = node->attrs;
    *t = (Activation){PAPA_UNARY_ELU, .b = 1};
    return papa_attr_float(node->proto, "alpha", 1, &t->a);
}

static PapaStatus celu_init(PapaNode *node, PapaGraph *graph)
{
    Activation *t = node->attrs;
    PAPA_TRY(elu_init(node, graph));
    if (t->a == 0)
        return papa_node_fail(node, PAPA_ERR_FORMAT, "alpha is 0, by which it divides");
    t->b = 1 / t->a;
    return PAPA_OK;
}

static PapaStatus selu_init(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    Activation *t = node->attrs;
    t->f = PAPA_UNARY_SELU;
    PAPA_TRY(papa_attr_float(node->proto, "alpha", 1.67326319217681884765625f, &t->a));
    PAPA_TRY(papa_attr_float(node->proto, "gamma", 1.05070102214813232421875f, &t->b));
    t->a *= t->b;
    return PAPA_OK;
}

static PapaStatus hard_sigmoid_init(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    Activation *t = node->attrs;
    t->f = PAPA_UNARY_HARD_SIGMOID;
    PAPA_TRY(papa_attr_float(node->proto, "alpha", .2f, &t->a));
    return papa_attr_float(node->proto, "beta", .5f, &t->b);
}

static PapaStatus swish_init(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    Activation *t = node->attrs;
    t->f = PAPA_UNARY_SWISH;
    return papa_attr_float(node->proto, "alpha", 1, &t->a);
}

static PapaStatus gelu_init(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    const char *approximate;
    PAPA_TRY(papa_attr_string(node->proto, "approximate", "none", &approximate));
    if (strcmp(approximate, "none") != 0 && strcmp(approximate, "tanh") != 0)
        return papa_node_fail(node, PAPA_ERR_FORMAT, "approximate is '%s', expected none or tanh", approximate);
    return plain_init(node, *approximate == 't' ? PAPA_UNARY_GELU_TANH : PAPA_UNARY_GELU);
}

/* Before opset 11 the bounds are attributes; since then inputs, read by clip_shape when constants are known. */
static PapaStatus clip_init(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    Activation *t = node->attrs;
    *t = (Activation){PAPA_UNARY_CLIP, -FLT_MAX, FLT_MAX};
    if (node->opset >= 11)
        return PAPA_OK;
    PAPA_TRY(papa_attr_float(node->proto, "min", -FLT_MAX, &t->a));
    return papa_attr_float(node->proto, "max", FLT_MAX, &t->b);
}

/* ---------------------------------------------------------------- shape and constants */

/* The functions of float tensors only: an integer one must be refused, not computed in float32. */
static PapaStatus float_shape(PapaNode *node, PapaGraph *graph)
{
    PAPA_TRY(papa_check_float(node, 0));
    return papa_shape_same(node, graph);
}

static PapaStatus clip_shape(PapaNode *node, PapaGraph *graph)
{
    Activation *t = node->attrs;
    PAPA_TRY(float_shape(node, graph));
    PAPA_TRY(papa_const_float(node, 1, t->a, &t->a));
    return papa_const_float(node, 2, t->b, &t->b);
}

/* Functions of integers too are part of shape arithmetic: known when the graph is built, or refused. */
static PapaStatus number_shape(PapaNode *node, PapaGraph *graph)
{
    if (!papa_type_is_float(node->in[0]->type) && node->in[0]->kind != PAPA_VALUE_CONSTANT)
        return float_shape(node, graph);
    return papa_shape_same(node, graph);
}

/* The exponent is one number; a tensor of them would be a function of two. */
static PapaStatus pow_shape(PapaNode *node, PapaGraph *graph)
{
    Activation *t = node->attrs;
    const PapaValue *x = node->in[0], *exponent = node->in[1];
    if (exponent->kind != PAPA_VALUE_CONSTANT || papa_shape_count(&exponent->shape) != 1 || exponent->shape.rank > x->shape.rank)
        return papa_node_fail(node, PAPA_ERR_UNSUPPORTED, "its exponent '%s' must be one number that is known when the graph is built", exponent->name);
    t->a = papa_type_is_float(exponent->type) ? *(const float *)exponent->data : (float)*(const int64_t *)exponent->data;
    t->f = t->a == 2 ? PAPA_UNARY_SQUARE : PAPA_UNARY_POW;
    return number_shape(node, graph);
}

static double function_at(const Activation *t, double x)
{
    switch (t->f) {
    case PAPA_UNARY_RELU: return x < 0 ? 0 : x;
    case PAPA_UNARY_LEAKY: return x < 0 ? t->a * x : x;
    case PAPA_UNARY_CLIP: x = x < t->a ? t->a : x; return x > t->b ? t->b : x;
    case PAPA_UNARY_SIGMOID: return 1 / (1 + exp(-x));
    case PAPA_UNARY_TANH: return tanh(x);
    case PAPA_UNARY_NEG: return -x;
    case PAPA_UNARY_SQRT: return sqrt(x);
    case PAPA_UNARY_EXP: return exp(x);
    case PAPA_UNARY_LOG: return log(x);
    case PAPA_UNARY_ABS: return fabs(x);
    case PAPA_UNARY_RECIPROCAL: return 1 / x;
    case PAPA_UNARY_SQUARE: return x * x;
    case PAPA_UNARY_POW: return pow(x, t->a);
    case PAPA_UNARY_ERF: return erf(x);
    case PAPA_UNARY_ELU: return x < 0 ? t->a * expm1(t->b * x) : x;
    case PAPA_UNARY_SELU: return x < 0 ? t->a * expm1(x) : t->b * x;
    case PAPA_UNARY_HARD_SIGMOID: x = t->a * x + t->b; return x < 0 ? 0 : x > 1 ? 1 : x;
    case PAPA_UNARY_HARD_SWISH: return x <= -3 ? 0 : x >= 3 ? x : x * (x + 3) / 6;
    case PAPA_UNARY_SWISH: return x / (1 + exp(-t->a * x));
    case PAPA_UNARY_SOFTPLUS: return (x < 0 ? 0 : x) + log1p(exp(-fabs(x)));
    case PAPA_UNARY_SOFTSIGN: return x / (1 + fabs(x));
    case PAPA_UNARY_MISH: return x * tanh((x < 0 ? 0 : x) + log1p(exp(-fabs(x))));
    case PAPA_UNARY_GELU: return x * .5 * (1 + erf(x * M_SQRT1_2));
    case PAPA_UNARY_GELU_TANH: return x * .5 * (1 + tanh(M_2_SQRTPI * M_SQRT1_2 * (x + .044715 * x * x * x)));
    }
    return NAN;
}

/* In unsigned arithmetic, where the least integer has an opposite and overflow wraps, as ONNX's integers do. */
static int64_t integer_at(const Activation *t, int64_t x)
{
    switch (t->f) {
    case PAPA_UNARY_NEG: return (int64_t)-(uint64_t)x;
    case PAPA_UNARY_ABS: return x < 0 ? (int64_t)-(uint64_t)x : x;
    case PAPA_UNARY_SQUARE: return (int64_t)((uint64_t)x * (uint64_t)x);
    default: return (int64_t)pow((double)x, t->a);
    }
}

static PapaStatus activation_fold(PapaNode *node, PapaGraph *graph)
{
    const Activation *t = node->attrs;
    const PapaValue *in = node->in[0];
    const int64_t n = papa_shape_count(&in->shape);
    void *to = papa_set_constant(node, graph, 0);
    if (!to)
        return PAPA_ERR_MEMORY;
    if (papa_type_is_float(in->type)) {
        for (int64_t i = 0; i < n; i++)
            ((float *)to)[i] = (float)function_at(t, ((const float *)in->data)[i]);
    } else {
        for (int64_t i = 0; i < n; i++)
            ((int64_t *)to)[i] = integer_at(t, ((const int64_t *)in->data)[i]);
    }
    return PAPA_OK;
}

/* ---------------------------------------------------------------- execution */

typedef enum Saved { SAVED_NOTHING, SAVED_X, SAVED_Y } Saved;

static Saved what_is_saved(PapaUnary f)
{
    switch (f) {
    case PAPA_UNARY_NEG: return SAVED_NOTHING;
    case PAPA_UNARY_RELU:
    case PAPA_UNARY_CLIP:
    case PAPA_UNARY_SIGMOID:
    case PAPA_UNARY_TANH:
    case PAPA_UNARY_SQRT:
    case PAPA_UNARY_EXP:
    case PAPA_UNARY_RECIPROCAL:
    case PAPA_UNARY_HARD_SIGMOID: return SAVED_Y;
    default: return SAVED_X;
    }
}

static unsigned activation_keeps(const PapaNode *node, const PapaGraph *graph)
{
    (void)graph;
    static const unsigned bits[] = {[SAVED_NOTHING] = 0, [SAVED_X] = PAPA_KEEP_IN(0), [SAVED_Y] = PAPA_KEEP_OUT(0)};
    return bits[what_is_saved(((const Activation *)node->attrs)->f)];
}

static PapaStatus activation_forward(const PapaNode *node, const PapaRun *run)
{
    const Activation *t = node->attrs;
    const int64_t n = papa_shape_count(&node->in[0]->shape);
    return PAPA_FORWARD_KERNEL(run->dev, papa_unary_fwd)(run->dev, t->f, papa_out(run, node, 0), papa_in(run, node, 0), n, t->a, t->b);
}

static PapaStatus activation_backward(const PapaNode *node, const PapaRun *run)
{
    const Activation *t = node->attrs;
    const Saved what = what_is_saved(t->f);
    const float *saved = what == SAVED_X ? papa_in(run, node, 0) : what == SAVED_Y ? papa_out(run, node, 0) : NULL;
    PapaReal *dx = papa_din(run, node, 0);
    if (!dx)
        return PAPA_OK;
    return PAPA_KERNEL(run->dev, papa_unary_bwd)(run->dev, t->f, dx, papa_dout(run, node, 0), saved, papa_shape_count(&node->in[0]->shape),
        t->a, t->b, papa_din_accumulate(run, node, 0));
}

#define ACTIVATION(name, since_, n_in, init_, shape_)                                                                 \
    .type = name, .since = since_, .min_in = 1, .max_in = n_in, .min_out = 1, .max_out = 1, .attrs_bytes = sizeof(Activation), \
    .init = init_, .shape = shape_, .units = papa_units_same, .fold = activation_fold, .layout = papa_layout_follow, .keeps = activation_keeps, \
    .forward = activation_forward, .backward = activation_backward

extern const PapaOp papa_ops_activation[];
const PapaOp papa_ops_activation[] = {
    {ACTIVATION("Relu", 7, 1, relu_init, float_shape)},
    {ACTIVATION("LeakyRelu", 7, 1, leaky_init, float_shape)},
    {ACTIVATION("Clip", 7, 1, clip_init, clip_shape), .until = 10},
    {ACTIVATION("Clip", 11, 3, clip_init, clip_shape)},
    {ACTIVATION("Sigmoid", 7, 1, sigmoid_init, float_shape)},
    {ACTIVATION("Tanh", 7, 1, tanh_init, float_shape)},
    {ACTIVATION("Elu", 7, 1, elu_init, float_shape)},
    {ACTIVATION("Selu", 7, 1, selu_init, float_shape)},
    {ACTIVATION("Celu", 12, 1, celu_init, float_shape)},
    {ACTIVATION("HardSigmoid", 7, 1, hard_sigmoid_init, float_shape)},
    {ACTIVATION("HardSwish", 14, 1, hard_swish_init, float_shape)},
    {ACTIVATION("Swish", 24, 1, swish_init, float_shape)},
    {ACTIVATION("Softplus", 7, 1, softplus_init, float_shape)},
    {ACTIVATION("Softsign", 7, 1, softsign_init, float_shape)},
    {ACTIVATION("Mish", 18, 1, mish_init, float_shape)},
    {ACTIVATION("Gelu", 20, 1, gelu_init, float_shape)},
    {ACTIVATION("Neg", 7, 1, neg_init, number_shape)},
    {ACTIVATION("Abs", 7, 1, abs_init, number_shape)},
    {ACTIVATION("Reciprocal", 7, 1, reciprocal_init, float_shape)},
    {ACTIVATION("Sqrt", 7, 1, sqrt_init, float_shape)},
    {ACTIVATION("Exp", 7, 1, exp_init, float_shape)},
    {ACTIVATION("Log", 7, 1, log_init, float_shape)},
    {ACTIVATION("Erf", 9, 1, erf_init, float_shape)},
    {.type = "Pow", .since = 7, .min_in = 2, .max_in = 2, .min_out = 1, .max_out = 1, .attrs_bytes = sizeof(Activation),
     .shape = pow_shape, .units = papa_units_same, .fold = activation_fold, .layout = papa_layout_follow, .keeps = activation_keeps,
     .forward = activation_forward, .backward = activation_backward},
    {0},
};
