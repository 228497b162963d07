/* Element-wise activations: Relu, LeakyRelu, Clip, Sigmoid, Tanh, and the plain functions Neg, Sqrt, Exp, Log.
 * A Relu that follows a convolution, a product, an addition or a normalisation is joined to it by the fusing pass where it can be. */
#include "graph/op.h"
#include "kernels/eltwise.h"

#include <float.h>
#include <math.h>

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

static PapaStatus leaky_init(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    Activation *t = node->attrs;
    t->f = PAPA_UNARY_LEAKY;
    return papa_attr_float(node->proto, "alpha", .01f, &t->a);
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

/* Neg of integers is part of shape arithmetic: known when the graph is built, or refused. */
static PapaStatus neg_shape(PapaNode *node, PapaGraph *graph)
{
    if (!papa_type_is_float(node->in[0]->type) && node->in[0]->kind != PAPA_VALUE_CONSTANT)
        return float_shape(node, graph);
    return papa_shape_same(node, graph);
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
    }
    return NAN;
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
        for (int64_t i = 0; i < n; i++) /* Neg; in unsigned arithmetic, as the least integer has no opposite */
            ((int64_t *)to)[i] = (int64_t)-(uint64_t)((const int64_t *)in->data)[i];
    }
    return PAPA_OK;
}

/* ---------------------------------------------------------------- execution */

typedef enum Saved { SAVED_NOTHING, SAVED_X, SAVED_Y } Saved;

static Saved what_is_saved(PapaUnary f)
{
    switch (f) {
    case PAPA_UNARY_NEG: return SAVED_NOTHING;
    case PAPA_UNARY_LEAKY:
    case PAPA_UNARY_LOG: return SAVED_X;
    default: return SAVED_Y;
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
    return PAPA_KERNEL(run->dev, papa_unary_fwd)(run->dev, t->f, papa_out(run, node, 0), papa_in(run, node, 0), n, t->a, t->b);
}

static PapaStatus activation_backward(const PapaNode *node, const PapaRun *run)
{
    const Activation *t = node->attrs;
    const Saved what = what_is_saved(t->f);
    const float *saved = what == SAVED_X ? papa_in(run, node, 0) : what == SAVED_Y ? papa_out(run, node, 0) : NULL;
    float *dx = papa_din(run, node, 0);
    if (!dx)
        return PAPA_OK;
    return PAPA_KERNEL(run->dev, papa_unary_bwd)(run->dev, t->f, dx, papa_dout(run, node, 0), saved, papa_shape_count(&node->in[0]->shape),
        t->a, t->b, papa_din_accumulate(run, node, 0));
}

#define ACTIVATION(name, init_, shape_)                                                                               \
    .type = name, .since = 7, .min_in = 1, .max_in = 1, .min_out = 1, .max_out = 1, .attrs_bytes = sizeof(Activation), \
    .init = init_, .shape = shape_, .fold = activation_fold, .layout = papa_layout_follow, .keeps = activation_keeps, \
    .forward = activation_forward, .backward = activation_backward

extern const PapaOp papa_ops_activation[];
const PapaOp papa_ops_activation[] = {
    {ACTIVATION("Relu", relu_init, float_shape)},
    {ACTIVATION("LeakyRelu", leaky_init, float_shape)},
    {ACTIVATION("Clip", clip_init, clip_shape), .until = 10},
    {.type = "Clip", .since = 11, .min_in = 1, .max_in = 3, .min_out = 1, .max_out = 1, .attrs_bytes = sizeof(Activation),
     .init = clip_init, .shape = clip_shape, .fold = activation_fold, .layout = papa_layout_follow, .keeps = activation_keeps,
     .forward = activation_forward, .backward = activation_backward},
    {ACTIVATION("Sigmoid", sigmoid_init, float_shape)},
    {ACTIVATION("Tanh", tanh_init, float_shape)},
    {ACTIVATION("Neg", neg_init, neg_shape)},
    {ACTIVATION("Sqrt", sqrt_init, float_shape)},
    {ACTIVATION("Exp", exp_init, float_shape)},
    {ACTIVATION("Log", log_init, float_shape)},
    {0},
};
