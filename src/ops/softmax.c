/* Softmax and LogSoftmax. Up to opset 12 the axes from `axis` on are normalised together (the input is taken as a matrix);
 * from 13 on, `axis` alone is. */
#include "graph/op.h"
#include "graph/units.h"
#include "kernels/softmax.h"

typedef struct SoftmaxAttrs {
    bool log;
    int64_t given; /* axis as the file has it */
    int axis;      /* the same made non-negative, in the order of axes of the shape */
    bool together; /* the axes behind it are normalised with it */
} SoftmaxAttrs;

static PapaStatus init(PapaNode *node, bool log)
{
    SoftmaxAttrs *attrs = node->attrs;
    attrs->log = log;
    return papa_attr_int(node->proto, "axis", node->opset < 13 ? 1 : -1, &attrs->given);
}

static PapaStatus softmax_init(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    return init(node, false);
}

static PapaStatus log_softmax_init(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    return init(node, true);
}

static PapaStatus softmax_shape(PapaNode *node, PapaGraph *graph)
{
    SoftmaxAttrs *attrs = node->attrs;
    const int rank = node->in[0]->shape.rank;
    PAPA_TRY(papa_check_float(node, 0));
    if (node->opset < 13 && attrs->given == rank)
        attrs->axis = rank; /* allowed there: a matrix with one column */
    else
        PAPA_TRY(papa_check_axis(node, attrs->given, rank, &attrs->axis));
    attrs->together = node->opset < 13 && attrs->axis != rank - 1;
    return papa_shape_same(node, graph);
}

/* The order along the axes that are normalised together means nothing. */
static void softmax_units(const PapaNode *node, PapaUnits *units)
{
    const SoftmaxAttrs *attrs = node->attrs;
    PapaSpace y = papa_units_in(units, node, 0);
    unsigned along = attrs->together ? ~0u << attrs->axis : 1u << attrs->axis;
    papa_units_stack(units, &y, ~along);
    papa_units_set(units, node, 0, &y);
}

/* Several axes together lie as one in memory only in ONNX's order. */
static PapaLayout softmax_layout(const PapaNode *node, const PapaGraph *graph)
{
    (void)graph;
    return ((const SoftmaxAttrs *)node->attrs)->together ? PAPA_LAYOUT_LOGICAL : PAPA_LAYOUT_FOLLOW;
}

static void softmax_permute(PapaNode *node, int rank)
{
    SoftmaxAttrs *attrs = node->attrs;
    attrs->axis = papa_axis_to_channels_last(attrs->axis, rank);
}

static unsigned softmax_keeps(const PapaNode *node, const PapaGraph *graph)
{
    (void)node, (void)graph;
    return PAPA_KEEP_OUT(0);
}

typedef struct Extent {
    int64_t outer, D, inner;
} Extent;

static Extent extent_of(const PapaNode *node)
{
    const SoftmaxAttrs *attrs = node->attrs;
    const PapaShape *x = &node->in[0]->shape;
    const int end = attrs->together ? x->rank : attrs->axis + 1;
    return (Extent){papa_shape_count_from(x, 0, attrs->axis), papa_shape_count_from(x, attrs->axis, end), papa_shape_count_from(x, end, x->rank)};
}

static PapaStatus softmax_forward(const PapaNode *node, const PapaRun *run)
{
    const Extent e = extent_of(node);
    return PAPA_FORWARD_KERNEL(run->dev, papa_softmax_fwd)(run->dev, papa_out(run, node, 0), papa_in(run, node, 0), e.outer, e.D, e.inner,
        ((const SoftmaxAttrs *)node->attrs)->log);
}

static PapaStatus softmax_backward(const PapaNode *node, const PapaRun *run)
{
    const Extent e = extent_of(node);
    PapaReal *dx = papa_din(run, node, 0);
    if (!dx)
        return PAPA_OK;
    return PAPA_KERNEL(run->dev, papa_softmax_bwd)(run->dev, dx, papa_dout(run, node, 0), papa_out(run, node, 0), e.outer, e.D, e.inner,
        ((const SoftmaxAttrs *)node->attrs)->log, papa_din_accumulate(run, node, 0));
}

#define SOFTMAX(name, init_)                                                                                                    \
    .type = name, .since = 7, .min_in = 1, .max_in = 1, .min_out = 1, .max_out = 1, .attrs_bytes = sizeof(SoftmaxAttrs),        \
    .init = init_, .shape = softmax_shape, .units = softmax_units, .layout = softmax_layout, .permute = softmax_permute, .keeps = softmax_keeps,        \
    .forward = softmax_forward, .backward = softmax_backward

extern const PapaOp papa_ops_softmax[];
const PapaOp papa_ops_softmax[] = {
    {SOFTMAX("Softmax", softmax_init)},
    {SOFTMAX("LogSoftmax", log_softmax_init)},
    {0},
};
