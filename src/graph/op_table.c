/* Finding rows, and what rows share before execution. */
#include "graph/op.h"

#include <stdio.h>
#include <string.h>

/* A file of a few bytes can ask for any number of them (ConstantOfShape, Range, Expand). */
#define MOST_FOLDED_BYTES ((size_t)1 << 31)

static const PapaOp *find(const char *domain, const char *type, int64_t opset)
{
    for (const PapaOp *const *table = papa_op_tables; *table; table++)
        for (const PapaOp *op = *table; op->type; op++)
            if (strcmp(op->type, type) == 0 && strcmp(op->domain ? op->domain : "", domain) == 0 && opset >= op->since && (!op->until || opset <= op->until))
                return op;
    return NULL;
}

const PapaOp *papa_op_find(const char *domain, const char *type, int64_t opset)
{
    if (!domain || strcmp(domain, "ai.onnx") == 0)
        domain = "";
    return strcmp(domain, PAPA_OWN_DOMAIN) == 0 ? NULL : find(domain, type, opset);
}

const PapaOp *papa_op_own(const char *type)
{
    return find(PAPA_OWN_DOMAIN, type, 1);
}

PapaStatus papa_node_fail(const PapaNode *node, PapaStatus code, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return papa_fail(code, "%s: %s", node->label, text);
}

bool papa_node_is_blind(const PapaNode *node)
{
    for (int i = 0; i < node->n_in; i++)
        if (node->in[i] && !node->in[i]->has_shape)
            return true;
    return false;
}

bool papa_all_constant(const PapaNode *node)
{
    for (int i = 0; i < node->n_in; i++)
        if (node->in[i] && node->in[i]->kind != PAPA_VALUE_CONSTANT)
            return false;
    return true;
}

PapaStatus papa_set_output(PapaNode *node, int i, int type, const PapaShape *shape)
{
    if (!papa_has_out(node, i))
        return PAPA_OK;
    if (!papa_shape_fits(shape))
        return papa_node_fail(node, PAPA_ERR_MISMATCH, "output %d would have the shape %s", i, papa_shape_text(shape));
    node->out[i]->type = type;
    node->out[i]->shape = *shape;
    node->out[i]->has_shape = true;
    return PAPA_OK;
}

void *papa_set_constant(PapaNode *node, PapaGraph *graph, int i)
{
    PapaValue *value = node->out[i];
    size_t width = papa_type_is_float(value->type) ? sizeof(float) : sizeof(int64_t);
    size_t bytes = (size_t)papa_shape_count(&value->shape) * width;
    if (bytes > MOST_FOLDED_BYTES - graph->folded_bytes) {
        papa_node_fail(node, PAPA_ERR_MEMORY, "a constant of shape %s: constants that are computed may take %zu MiB together",
            papa_shape_text(&value->shape), MOST_FOLDED_BYTES >> 20);
        return NULL;
    }
    void *data = papa_arena_alloc(&graph->arena, bytes + width); /* one more: never NULL for empty */
    if (data) {
        graph->folded_bytes += bytes;
        value->kind = PAPA_VALUE_CONSTANT;
        value->data = data;
    }
    return data;
}

PapaStatus papa_const_ints(const PapaNode *node, int i, const int64_t **out, int64_t *n)
{
    *out = NULL;
    *n = 0;
    if (!papa_has_in(node, i))
        return PAPA_OK;
    const PapaValue *value = node->in[i];
    if (value->kind != PAPA_VALUE_CONSTANT || papa_type_is_float(value->type))
        return papa_node_fail(node, PAPA_ERR_UNSUPPORTED, "input '%s' must be integers that are known when the graph is built", value->name);
    *out = value->data;
    *n = papa_shape_count(&value->shape);
    return PAPA_OK;
}

PapaStatus papa_const_float(const PapaNode *node, int i, float fallback, float *out)
{
    *out = fallback;
    if (!papa_has_in(node, i))
        return PAPA_OK;
    const PapaValue *value = node->in[i];
    if (value->kind != PAPA_VALUE_CONSTANT || !papa_type_is_float(value->type) || papa_shape_count(&value->shape) != 1)
        return papa_node_fail(node, PAPA_ERR_UNSUPPORTED, "input '%s' must be one number that is known when the graph is built", value->name);
    *out = *(const float *)value->data;
    return PAPA_OK;
}

PapaLayout papa_layout_channels_last(const PapaNode *node, const PapaGraph *graph)
{
    (void)graph;
    return node->in[0]->shape.rank >= 3 ? PAPA_LAYOUT_CHANNELS_LAST : PAPA_LAYOUT_LOGICAL;
}

PapaLayout papa_layout_follow(const PapaNode *node, const PapaGraph *graph)
{
    (void)node, (void)graph;
    return PAPA_LAYOUT_FOLLOW;
}

PapaStatus papa_shape_same(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    return papa_set_output(node, 0, node->in[0]->type, &node->in[0]->shape);
}

bool papa_view_always(const PapaNode *node, const PapaGraph *graph)
{
    (void)node, (void)graph;
    return true;
}
