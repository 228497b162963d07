/* Convert, of our own: between float32 and the device's activations. Put in by papa_graph_precision, which has set both values' elements. */
#include "graph/op.h"
#include "kernels/copy.h"

static PapaStatus convert_forward(const PapaNode *node, const PapaRun *run)
{
    const PapaValue *x = node->in[0], *y = node->out[0];
    return PAPA_FORWARD_KERNEL(run->dev, papa_convert)(run->dev, papa_out(run, node, 0), y->element, papa_in(run, node, 0), x->element,
        papa_shape_count(&y->shape), false);
}

static PapaStatus convert_backward(const PapaNode *node, const PapaRun *run)
{
    const PapaValue *x = node->in[0], *y = node->out[0];
    PapaReal *dx = papa_din(run, node, 0);
    if (!dx)
        return PAPA_OK;
    return PAPA_KERNEL(run->dev, papa_convert)(run->dev, dx, x->element, papa_dout(run, node, 0), y->element, papa_shape_count(&y->shape),
        papa_din_accumulate(run, node, 0));
}

const PapaOp papa_ops_convert[] = {
    {.type = "Convert", .domain = PAPA_OWN_DOMAIN, .since = 1, .min_in = 1, .max_in = 1, .min_out = 1, .max_out = 1, .shape = papa_shape_same,
        .layout = papa_layout_follow, .forward = convert_forward, .backward = convert_backward},
    {0},
};
