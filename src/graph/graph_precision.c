/* The precision pass: says what each float value is made of on the device, and puts conversions where that changes. */
#include "graph/op.h"

#include <string.h>

typedef struct Pass {
    PapaGraph *graph;
    PapaElement element;   /* of activations: not PAPA_FLOAT32 */
    PapaNode **nodes;      /* the new order */
    int n_nodes;
    PapaValue **converted; /* by value index: its other form, made once for all readers; NULL: not made yet */
    int n_values;          /* before the pass */
} Pass;

static bool is_float(const PapaValue *value)
{
    return papa_type_is_float(value->type);
}

static PapaStatus insert_convert(Pass *pass, PapaValue *from, PapaValue *to)
{
    PapaNode *node = papa_graph_new_node(pass->graph, "Convert", 1, 1, papa_arena_printf(&pass->graph->arena, "conversion of '%s'", from->name));
    if (!node || !node->label)
        return PAPA_ERR_MEMORY;
    node->in[0] = from;
    node->out[0] = to;
    to->producer = node;
    pass->nodes[pass->n_nodes++] = node;
    return PAPA_OK;
}

/* value in its other form. A constant is only uploaded in that form; everything else is computed. */
static PapaStatus other_form(Pass *pass, PapaValue **out, PapaValue *value)
{
    PapaValue **known = &pass->converted[value->index];
    if (*known) {
        *out = *known;
        return PAPA_OK;
    }
    bool constant = value->kind == PAPA_VALUE_CONSTANT;
    PapaValue *other = papa_graph_new_value(pass->graph, value->name, constant ? PAPA_VALUE_CONSTANT : PAPA_VALUE_ACTIVATION, value->type, &value->shape);
    if (!other)
        return PAPA_ERR_MEMORY;
    other->element = value->element == PAPA_FLOAT32 ? pass->element : PAPA_FLOAT32;
    other->channels_last = value->channels_last;
    other->fed = value->fed;
    other->data = value->data;
    if (!constant)
        PAPA_TRY(insert_convert(pass, value, other));
    *out = *known = other;
    return PAPA_OK;
}

static PapaStatus convert_inputs(Pass *pass, PapaNode *node)
{
    unsigned float32 = node->op->float32 && pass->element == PAPA_BFLOAT16 ? node->op->float32(node) : 0;
    PapaValue **in = PAPA_NEW_ARRAY(&pass->graph->arena, PapaValue *, node->n_in);
    if (!in)
        return PAPA_ERR_MEMORY;
    for (int i = 0; i < node->n_in; i++) {
        PapaElement wanted = i < 32 && float32 >> i & 1 ? PAPA_FLOAT32 : pass->element;
        in[i] = node->in[i];
        if (in[i] && is_float(in[i]) && in[i]->element != wanted)
            PAPA_TRY(other_form(pass, &in[i], in[i]));
    }
    node->in = in;
    return PAPA_OK;
}

static PapaStatus convert_outputs(Pass *pass)
{
    PapaGraph *graph = pass->graph;
    PapaElement wanted = pass->element == PAPA_FLOAT64 ? PAPA_FLOAT64 : PAPA_FLOAT32;
    for (int i = 0; i < graph->n_outputs; i++)
        if (is_float(graph->outputs[i]) && graph->outputs[i]->kind != PAPA_VALUE_TENSOR && graph->outputs[i]->element != wanted)
            PAPA_TRY(other_form(pass, &graph->outputs[i], graph->outputs[i]));
    return PAPA_OK;
}

PapaStatus papa_graph_precision(PapaGraph *graph, PapaElement element)
{
    if (element == PAPA_FLOAT32)
        return PAPA_OK;
    for (int i = 0; i < graph->n_values; i++) {
        PapaValue *value = graph->values[i];
        if (value->kind == PAPA_VALUE_INPUT || value->kind == PAPA_VALUE_ACTIVATION)
            value->element = element;
    }
    int most = graph->n_nodes + graph->n_values; /* a value is converted once */
    Pass pass = {.graph = graph, .element = element, .n_values = graph->n_values, .nodes = PAPA_NEW_ARRAY(&graph->arena, PapaNode *, most),
        .converted = PAPA_NEW_ARRAY(&graph->arena, PapaValue *, graph->n_values)};
    if (!pass.nodes || !pass.converted)
        return PAPA_ERR_MEMORY;
    for (int k = 0; k < graph->n_nodes; k++) {
        PAPA_TRY(convert_inputs(&pass, graph->nodes[k]));
        pass.nodes[pass.n_nodes++] = graph->nodes[k];
    }
    PAPA_TRY(convert_outputs(&pass));
    graph->nodes = pass.nodes;
    graph->n_nodes = pass.n_nodes;
    graph->nodes_capacity = most;
    papa_graph_compact(graph);
    return PAPA_OK;
}
