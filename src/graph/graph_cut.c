/* The cutting pass: what is not understood is taken out, and its edges become the graph's. */
#include "graph/op.h"

static bool is_opaque(const PapaNode *node)
{
    return node->op == &papa_op_opaque;
}

/* By value index: read by nodes that stay; by those that go. */
typedef struct Readers {
    bool *known, *opaque;
} Readers;

static PapaStatus find_readers(Readers *r, PapaGraph *graph)
{
    *r = (Readers){PAPA_NEW_ARRAY(&graph->arena, bool, graph->n_values), PAPA_NEW_ARRAY(&graph->arena, bool, graph->n_values)};
    if (!r->known || !r->opaque)
        return PAPA_ERR_MEMORY;
    for (int k = 0; k < graph->n_nodes; k++)
        for (int i = 0; i < graph->nodes[k]->n_in; i++)
            if (graph->nodes[k]->in[i])
                (is_opaque(graph->nodes[k]) ? r->opaque : r->known)[graph->nodes[k]->in[i]->index] = true;
    return PAPA_OK;
}

static PapaStatus cut_inputs(PapaGraph *graph, const Readers *r)
{
    PapaValue **inputs = PAPA_NEW_ARRAY(&graph->arena, PapaValue *, graph->n_values);
    int n = 0;
    if (!inputs)
        return PAPA_ERR_MEMORY;
    for (int i = 0; i < graph->n_inputs; i++)
        if (graph->inputs[i]->kind == PAPA_VALUE_INPUT && r->known[graph->inputs[i]->index])
            inputs[n++] = graph->inputs[i];
    for (int k = 0; k < graph->n_nodes; k++)
        for (int i = 0; i < graph->nodes[k]->n_out && is_opaque(graph->nodes[k]); i++) {
            PapaValue *value = graph->nodes[k]->out[i];
            if (!value)
                continue;
            value->kind = PAPA_VALUE_INPUT;
            value->producer = NULL;
            value->fed = true;
            if (r->known[value->index])
                inputs[n++] = value;
        }
    graph->inputs = inputs;
    graph->n_inputs = n;
    return PAPA_OK;
}

/* Behind cut_inputs: what opaque nodes make is no activation any more. */
static PapaStatus cut_outputs(PapaGraph *graph, const Readers *r)
{
    PapaValue **outputs = PAPA_NEW_ARRAY(&graph->arena, PapaValue *, graph->n_outputs + graph->n_values);
    bool *listed = PAPA_NEW_ARRAY(&graph->arena, bool, graph->n_values);
    int n = 0;
    if (!outputs || !listed)
        return PAPA_ERR_MEMORY;
    for (int i = 0; i < graph->n_outputs; i++)
        if (graph->outputs[i]->kind == PAPA_VALUE_ACTIVATION) {
            listed[graph->outputs[i]->index] = true;
            outputs[n++] = graph->outputs[i];
        }
    for (int i = 0; i < graph->n_values; i++)
        if (graph->values[i]->kind == PAPA_VALUE_ACTIVATION && r->opaque[i] && !listed[i])
            outputs[n++] = graph->values[i];
    graph->outputs = outputs;
    graph->n_outputs = n;
    return n ? PAPA_OK : papa_fail(PAPA_ERR_UNSUPPORTED, "%s: no output can be computed: what it depends on is not understood", papa_onnx_path(graph->onnx));
}

PapaStatus papa_graph_cut(PapaGraph *graph)
{
    Readers readers;
    PAPA_TRY(find_readers(&readers, graph));
    PAPA_TRY(cut_inputs(graph, &readers));
    PAPA_TRY(cut_outputs(graph, &readers));
    for (int k = 0; k < graph->n_nodes; k++)
        if (is_opaque(graph->nodes[k]))
            graph->nodes[k] = NULL;
    papa_graph_compact(graph);
    return PAPA_OK;
}
