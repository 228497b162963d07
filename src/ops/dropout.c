/* Dropout. It drops in training, whether the file is in training form or in inference form, with the file's ratio; everywhere
 * else it is a view. The mask follows from the step's numbers and the node's index, so backward makes it again. */
#include "graph/fold.h"
#include "graph/op.h"
#include "graph/units.h"
#include "kernels/dropout.h"

typedef struct DropoutAttrs {
    float ratio; /* until opset 11; set by shape after that */
} DropoutAttrs;

static PapaStatus dropout_init(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    return node->opset < 12 ? papa_attr_float(node->proto, "ratio", .5f, &((DropoutAttrs *)node->attrs)->ratio) : PAPA_OK;
}

static bool is_active(const PapaNode *node, const PapaGraph *graph)
{
    return graph->mode == PAPA_MODE_TRAIN && graph->dropout && ((const DropoutAttrs *)node->attrs)->ratio != 0;
}

static PapaStatus dropout_shape(PapaNode *node, PapaGraph *graph)
{
    DropoutAttrs *attrs = node->attrs;
    const PapaShape *x = &node->in[0]->shape;
    PAPA_TRY(papa_check_float(node, 0));
    if (graph->mode == PAPA_MODE_TRAIN && graph->dropout) { /* else of no meaning */
        if (node->opset >= 12)
            PAPA_TRY(papa_const_float(node, 1, .5f, &attrs->ratio));
        if (!(attrs->ratio >= 0 && attrs->ratio < 1))
            return papa_node_fail(node, PAPA_ERR_FORMAT, "ratio %g, expected 0 <= ratio < 1", (double)attrs->ratio);
        if (papa_shape_count(x) >= PAPA_DROPOUT_MAX)
            return papa_node_fail(node, PAPA_ERR_UNSUPPORTED, "input of shape %s, expected less than %lld elements", papa_shape_text(x),
                (long long)PAPA_DROPOUT_MAX);
    }
    /* The mask is not made: the output for it is left without a shape. */
    if (papa_has_out(node, 1) && papa_graph_uses(graph, node->out[1]))
        return papa_node_fail(node, PAPA_ERR_UNSUPPORTED, "its mask '%s' is read", node->out[1]->name);
    return papa_set_output(node, 0, node->in[0]->type, x);
}

static PapaStatus dropout_fold(PapaNode *node, PapaGraph *graph)
{
    return is_active(node, graph) ? PAPA_OK : papa_fold_as_is(node, graph);
}

static bool dropout_is_view(const PapaNode *node, const PapaGraph *graph)
{
    return !is_active(node, graph);
}

static PapaStatus drop(const PapaNode *node, const PapaRun *run, float *y, const float *x, bool accumulate)
{
    const PapaStepNumbers *step = run->step;
    return PAPA_KERNEL(run->dev, papa_dropout)(run->dev, y, x, papa_shape_count(&node->in[0]->shape),
        ((const DropoutAttrs *)node->attrs)->ratio, step->dropout_key, step->dropout_name, (uint32_t)node->index, accumulate);
}

static PapaStatus dropout_forward(const PapaNode *node, const PapaRun *run)
{
    return drop(node, run, papa_out(run, node, 0), papa_in(run, node, 0), false);
}

static PapaStatus dropout_backward(const PapaNode *node, const PapaRun *run)
{
    PapaReal *dx = papa_din(run, node, 0);
    return dx ? drop(node, run, dx, papa_dout(run, node, 0), papa_din_accumulate(run, node, 0)) : PAPA_OK;
}

/* Without its training_mode input it passes through. The mask, which nobody reads, goes too. */
static bool dropout_to_inference(Onnx__NodeProto *node)
{
    bool changed = node->n_input > 2 || node->n_output > 1;
    node->n_input = node->n_input > 2 ? 2 : node->n_input;
    node->n_output = 1;
    return changed;
}

const PapaOp papa_ops_dropout[] = {
    {.type = "Dropout", .since = 7, .until = 11, .min_in = 1, .max_in = 1, .min_out = 1, .max_out = 2, .attrs_bytes = sizeof(DropoutAttrs),
        .init = dropout_init, .shape = dropout_shape, .units = papa_units_same, .fold = dropout_fold, .is_view = dropout_is_view, .layout = papa_layout_follow,
        .to_inference = dropout_to_inference, .forward = dropout_forward, .backward = dropout_backward},
    {.type = "Dropout", .since = 12, .min_in = 1, .max_in = 3, .min_out = 1, .max_out = 2, .attrs_bytes = sizeof(DropoutAttrs),
        .init = dropout_init, .shape = dropout_shape, .units = papa_units_same, .fold = dropout_fold, .is_view = dropout_is_view, .layout = papa_layout_follow,
        .to_inference = dropout_to_inference, .forward = dropout_forward, .backward = dropout_backward},
    {0},
};
