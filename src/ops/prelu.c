/* PRelu: y = x where x > 0, else slope * x. The slope is broadcast to x.
 *
 * Computed from the kernels of its parts, as y = relu(x) - slope * relu(-x), each of which is exact. At 0 the gradient is the negative side's. */
#include "graph/op.h"
#include "graph/units.h"
#include "kernels/eltwise.h"
#include "kernels/reduce.h"

enum { X, SLOPE };

/* Slopes of 0 to begin with: a Relu. */
static PapaRole prelu_role(const PapaNode *node, int input, int64_t *fan_in)
{
    (void)node, (void)fan_in;
    return input == SLOPE ? PAPA_ROLE_BIAS : PAPA_ROLE_NONE;
}

static PapaStatus prelu_shape(PapaNode *node, PapaGraph *graph)
{
    const PapaShape *x = &node->in[X]->shape, *slope = &node->in[SLOPE]->shape;
    PapaShape y;
    PAPA_TRY(papa_check_float(node, X));
    PAPA_TRY(papa_check_float(node, SLOPE));
    if (papa_broadcast(node, x, slope, &y) != PAPA_OK || !papa_shape_equal(&y, x))
        return papa_node_fail(node, PAPA_ERR_MISMATCH, "slope of shape %s, which can't be broadcast to %s", papa_shape_text(slope), papa_shape_text(x));
    return papa_shape_same(node, graph);
}

static PapaWalk walk_of(const PapaNode *node)
{
    const PapaShape *x = &node->in[X]->shape, *slope = &node->in[SLOPE]->shape;
    int64_t x_stride[PAPA_MAX_RANK], slope_stride[PAPA_MAX_RANK];
    PapaWalk walk;
    papa_walk_strides(x_stride, x->rank, x->rank, x->dim);
    papa_walk_strides(slope_stride, x->rank, slope->rank, slope->dim);
    papa_walk_make(&walk, x->rank, x->dim, x_stride, slope_stride);
    return walk;
}

static PapaWalk dense_walk(const PapaNode *node)
{
    const PapaShape *x = &node->in[X]->shape;
    int64_t stride[PAPA_MAX_RANK];
    PapaWalk walk;
    papa_walk_strides(stride, x->rank, x->rank, x->dim);
    papa_walk_make(&walk, x->rank, x->dim, stride, stride);
    return walk;
}

static unsigned prelu_keeps(const PapaNode *node, const PapaGraph *graph)
{
    (void)node, (void)graph;
    return PAPA_KEEP_IN(X) | PAPA_KEEP_IN(SLOPE);
}

/* relu(-x), or a gradient. */
static PapaStatus prelu_prepare(PapaNode *node, const PapaGraph *graph, PapaDevice *dev)
{
    const size_t bytes = (size_t)papa_shape_count(&node->in[X]->shape) * papa_element_bytes(papa_float_element(dev));
    node->forward_workspace_bytes = bytes;
    node->backward_workspace_bytes = graph->mode == PAPA_MODE_TRAIN ? bytes : 0;
    return PAPA_OK;
}

/* to = min(0, x) with its sign turned. */
static PapaStatus negative_part(PapaReal *to, const PapaNode *node, const PapaRun *run)
{
    const int64_t n = papa_shape_count(&node->in[X]->shape);
    PAPA_TRY(PAPA_FORWARD_KERNEL(run->dev, papa_unary_fwd)(run->dev, PAPA_UNARY_NEG, to, papa_in(run, node, X), n, 0, 0));
    return PAPA_FORWARD_KERNEL(run->dev, papa_unary_fwd)(run->dev, PAPA_UNARY_RELU, to, to, n, 0, 0);
}

static PapaStatus prelu_forward(const PapaNode *node, const PapaRun *run)
{
    const PapaWalk walk = walk_of(node), dense = dense_walk(node);
    PapaReal *y = papa_out(run, node, 0), *part = papa_forward_workspace(run, node);
    PAPA_TRY(negative_part(part, node, run));
    PAPA_TRY(PAPA_FORWARD_KERNEL(run->dev, papa_binary_fwd)(run->dev, PAPA_BINARY_MUL, part, part, papa_in(run, node, SLOPE), &walk, false));
    PAPA_TRY(PAPA_FORWARD_KERNEL(run->dev, papa_unary_fwd)(run->dev, PAPA_UNARY_RELU, y, papa_in(run, node, X), papa_shape_count(&node->in[X]->shape), 0, 0));
    return PAPA_FORWARD_KERNEL(run->dev, papa_binary_fwd)(run->dev, PAPA_BINARY_SUB, y, y, part, &dense, false);
}

static PapaStatus prelu_backward(const PapaNode *node, const PapaRun *run)
{
    const PapaWalk walk = walk_of(node), dense = dense_walk(node);
    const int64_t n = papa_shape_count(&node->in[X]->shape);
    PapaReal *dy = papa_dout(run, node, 0), *dx = papa_din(run, node, X), *dslope = papa_din(run, node, SLOPE), *scratch = papa_backward_workspace(run, node);
    if (dslope) { /* the sum of dy * min(0, x) */
        PAPA_TRY(negative_part(scratch, node, run));
        PAPA_TRY(PAPA_KERNEL(run->dev, papa_unary_fwd)(run->dev, PAPA_UNARY_NEG, scratch, scratch, n, 0, 0));
        PAPA_TRY(PAPA_KERNEL(run->dev, papa_binary_bwd)(run->dev, PAPA_BINARY_MUL, 1, dslope, dy, scratch, papa_in(run, node, SLOPE), &walk,
            papa_din_accumulate(run, node, SLOPE)));
    }
    if (!dx)
        return PAPA_OK;
    /* slope * dy everywhere, and what is missing of dy where x > 0; dy is ours to change. */
    PAPA_TRY(PAPA_KERNEL(run->dev, papa_binary_fwd)(run->dev, PAPA_BINARY_MUL, scratch, dy, papa_in(run, node, SLOPE), &walk, false));
    PAPA_TRY(PAPA_KERNEL(run->dev, papa_binary_fwd)(run->dev, PAPA_BINARY_SUB, dy, dy, scratch, &dense, false));
    PAPA_TRY(PAPA_KERNEL(run->dev, papa_binary_bwd)(run->dev, PAPA_BINARY_ADD, 0, dx, scratch, NULL, NULL, &dense, papa_din_accumulate(run, node, X)));
    return PAPA_KERNEL(run->dev, papa_relu_bwd)(run->dev, dx, dy, papa_in(run, node, X), n, true);
}

extern const PapaOp papa_ops_prelu[];
const PapaOp papa_ops_prelu[] = {
    {.type = "PRelu", .since = 7, .min_in = 2, .max_in = 2, .min_out = 1, .max_out = 1, .role = prelu_role, .shape = prelu_shape,
        .units = papa_units_elementwise, .layout = papa_layout_follow, .keeps = prelu_keeps, .prepare = prelu_prepare, .forward = prelu_forward,
        .backward = prelu_backward},
    {0},
};
