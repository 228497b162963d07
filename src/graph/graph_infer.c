/* Shapes, constants, shape arithmetic: from the inputs' shapes to a graph in which every shape is known and whatever can be computed
 * now has been. */
#include "graph/fold.h"
#include "graph/op.h"

#include <string.h>

static PapaStatus make_opaque(PapaNode *node, PapaGraph *graph)
{
    node->op = &papa_op_opaque;
    return node->op->shape(node, graph);
}

static PapaStatus infer_node(PapaNode *node, PapaGraph *graph)
{
    bool fed = false;
    for (int i = 0; i < node->n_in; i++) {
        if (node->in[i] && !node->in[i]->has_shape && graph->opaque)
            return make_opaque(node, graph);
        if (node->in[i] && !node->in[i]->has_shape)
            return papa_node_fail(node, PAPA_ERR_UNSUPPORTED, "the shape of its input '%s' is not known", node->in[i]->name);
        fed |= node->in[i] && node->in[i]->fed;
    }
    fed &= !node->op->fold_by_shape || node->op->carries_role; /* Shape: no element is read */
    for (int i = 0; i < node->n_out; i++)
        if (node->out[i])
            node->out[i]->fed = fed;
    PapaStatus status = node->op->shape(node, graph);
    if (status == PAPA_ERR_UNSUPPORTED && graph->opaque)
        return make_opaque(node, graph);
    PAPA_TRY(status);
    if (node->op->fold && (node->op->fold_by_shape || papa_all_constant(node)))
        PAPA_TRY(node->op->fold(node, graph));
    return PAPA_OK;
}

static void mark_read(const PapaNode *node, bool *read)
{
    for (int i = 0; i < node->n_in; i++)
        if (node->in[i])
            read[node->in[i]->index] = true;
}

/* Leaves out the optional outputs that nobody reads: BatchNormalization's running statistics, Dropout's mask. */
static void drop_outputs(PapaNode *node, const bool *read)
{
    for (int i = node->op->min_out; i < node->n_out; i++)
        if (node->out[i] && !read[node->out[i]->index])
            node->out[i] = NULL;
}

/* Drops nodes that are folded or that nobody reads. */
static PapaStatus drop_dead(PapaGraph *graph)
{
    bool *read = PAPA_NEW_ARRAY(&graph->arena, bool, graph->n_values);
    if (!read)
        return PAPA_ERR_MEMORY;
    for (int i = 0; i < graph->n_outputs; i++)
        read[graph->outputs[i]->index] = true;
    for (int k = graph->n_nodes - 1; k >= 0; k--) {
        bool live = false;
        for (int i = 0; i < graph->nodes[k]->n_out; i++) {
            const PapaValue *value = graph->nodes[k]->out[i];
            live |= value && value->kind == PAPA_VALUE_ACTIVATION && read[value->index];
        }
        if (live) {
            mark_read(graph->nodes[k], read);
            drop_outputs(graph->nodes[k], read);
        } else {
            graph->nodes[k] = NULL;
        }
    }
    papa_graph_compact(graph);
    return PAPA_OK;
}

/* What exists only to be folded was not. */
static PapaStatus refuse_unfolded(const PapaNode *node)
{
    for (int i = 0; i < node->n_in; i++)
        if (node->in[i] && node->in[i]->kind != PAPA_VALUE_CONSTANT)
            return papa_node_fail(node, PAPA_ERR_UNSUPPORTED, "needs a value known when the graph is built, but '%s' is computed", node->in[i]->name);
    return papa_node_fail(node, PAPA_ERR_UNSUPPORTED, "can't be computed when the graph is built");
}

/* Whether the node can be executed. */
static bool can_run(const PapaNode *node, const PapaGraph *graph)
{
    bool can = node->op->forward || (node->op->is_view && node->op->is_view(node, graph));
    for (int i = 0; i < node->n_in && can; i++)
        can = !node->in[i] || node->in[i]->kind == PAPA_VALUE_CONSTANT || papa_type_is_float(node->in[i]->type);
    for (int i = 0; i < node->n_out && can; i++)
        can = !node->out[i] || !node->out[i]->has_shape || papa_type_is_float(node->out[i]->type);
    return can;
}

/* Activations are floats: integers must be known by now. */
static PapaStatus check_types(const PapaGraph *graph)
{
    for (int k = 0; k < graph->n_nodes; k++) {
        PapaNode *node = graph->nodes[k];
        if (graph->opaque) {
            if (!can_run(node, graph))
                node->op = &papa_op_opaque;
            continue;
        }
        for (int i = 0; i < node->n_out; i++)
            if (node->out[i] && node->out[i]->kind == PAPA_VALUE_ACTIVATION && node->out[i]->has_shape && !papa_type_is_float(node->out[i]->type))
                return papa_node_fail(node, PAPA_ERR_UNSUPPORTED, "output '%s' has type %s, which only shape arithmetic on known numbers may have",
                    node->out[i]->name, papa_type_name(node->out[i]->type));
        if (!node->op->forward && !(node->op->is_view && node->op->is_view(node, graph)))
            return refuse_unfolded(node);
    }
    return PAPA_OK;
}

/* Shapes that clash may come from a batch that the file fixes, in ways that Reshape's row does not know. */
static PapaStatus fail_in_file(PapaStatus status, const PapaGraph *graph)
{
    const char *path = papa_onnx_path(graph->onnx);
    const PapaShape *shape = graph->n_inputs ? &graph->inputs[0]->shape : NULL;
    if (status == PAPA_ERR_MISMATCH && graph->file_batch && shape->rank && shape->dim[0] != graph->file_batch)
        return papa_fail_in(status, "%s (which fixes its batch at %lld, here %lld)", path, (long long)graph->file_batch, (long long)shape->dim[0]);
    return papa_fail_in(status, "%s", path);
}

/* Integers that are fed, as token ids and masks are: activations are floats, so to look at a graph they are numbers made up, zeros and ones. They and
 * what is computed from them stay `fed`: nothing may be concluded from what they are. */
static PapaStatus stand_in(PapaValue *input, PapaGraph *graph)
{
    const int64_t n = papa_shape_count(&input->shape);
    int64_t *data = PAPA_NEW_ARRAY(&graph->arena, int64_t, n + 1);
    if (!data)
        return PAPA_ERR_MEMORY;
    for (int64_t i = 0; i < n; i++)
        data[i] = i & 1;
    input->kind = PAPA_VALUE_CONSTANT;
    input->data = data;
    return PAPA_OK;
}

PapaStatus papa_graph_infer(PapaGraph *graph, const PapaShape *input_shapes)
{
    PapaStatus status = PAPA_OK;
    for (int i = 0; i < graph->n_inputs; i++) {
        if (!papa_shape_fits(&input_shapes[i]))
            PAPA_GOTO(papa_fail(PAPA_ERR_UNSUPPORTED, "input '%s': shape %s is too large", graph->inputs[i]->name, papa_shape_text(&input_shapes[i])));
        graph->inputs[i]->shape = input_shapes[i];
        graph->inputs[i]->has_shape = graph->inputs[i]->fed = true;
        if (graph->opaque && papa_type_is_integer(graph->inputs[i]->type))
            PAPA_GOTO(stand_in(graph->inputs[i], graph));
    }
    for (int k = 0; k < graph->n_nodes; k++)
        PAPA_GOTO(infer_node(graph->nodes[k], graph));
    PAPA_GOTO(drop_dead(graph));
    PAPA_GOTO(check_types(graph));
out:
    return status == PAPA_OK ? PAPA_OK : fail_in_file(status, graph);
}
