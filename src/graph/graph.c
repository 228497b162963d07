/* The graph as a container: values, nodes, look-ups. */
#include "graph/graph.h"

#include "graph/op.h"

#include <assert.h>
#include <string.h>

/* The graph lies in its own arena. */
void papa_graph_free(PapaGraph *graph)
{
    if (!graph)
        return;
    PapaArena arena = graph->arena;
    papa_arena_free(&arena);
}

PapaValue *papa_graph_new_value(PapaGraph *graph, const char *name, PapaValueKind kind, int type, const PapaShape *shape)
{
    if (graph->n_values == graph->values_capacity) {
        int capacity = graph->values_capacity ? 2 * graph->values_capacity : 128;
        PapaValue **larger = PAPA_NEW_ARRAY(&graph->arena, PapaValue *, capacity);
        if (!larger)
            return NULL;
        if (graph->n_values)
            memcpy(larger, graph->values, (size_t)graph->n_values * sizeof *larger);
        graph->values = larger;
        graph->values_capacity = capacity;
    }
    PapaValue *value = PAPA_NEW(&graph->arena, PapaValue);
    if (!value)
        return NULL;
    *value = (PapaValue){.name = name, .kind = kind, .type = type, .index = graph->n_values, .param = -1, .has_shape = shape != NULL};
    if (shape)
        value->shape = *shape;
    return graph->values[graph->n_values++] = value;
}

PapaNode *papa_graph_new_node(PapaGraph *graph, const char *type, int n_in, int n_out, const char *label)
{
    const PapaOp *op = papa_op_find("", type, papa_onnx_opset(graph->onnx, ""));
    if (!op)
        op = papa_op_own(type);
    assert(op && "passes put in operators that we have");
    PapaNode *node = PAPA_NEW(&graph->arena, PapaNode);
    if (!node)
        return NULL;
    *node = (PapaNode){
        .op = op,
        .label = label,
        .in = PAPA_NEW_ARRAY(&graph->arena, PapaValue *, n_in),
        .out = PAPA_NEW_ARRAY(&graph->arena, PapaValue *, n_out),
        .n_in = n_in,
        .n_out = n_out,
        .opset = papa_onnx_opset(graph->onnx, ""),
        .attrs = papa_arena_alloc(&graph->arena, op->attrs_bytes),
    };
    return node->in && node->out && node->attrs ? node : NULL;
}

void papa_graph_compact(PapaGraph *graph)
{
    int n = 0;
    for (int k = 0; k < graph->n_nodes; k++)
        if (graph->nodes[k]) {
            graph->nodes[k]->index = n;
            graph->nodes[n++] = graph->nodes[k];
        }
    graph->n_nodes = n;
}

int papa_graph_uses(const PapaGraph *graph, const PapaValue *value)
{
    int uses = 0;
    for (int k = 0; k < graph->n_nodes; k++)
        for (int i = 0; graph->nodes[k] && i < graph->nodes[k]->n_in; i++)
            uses += graph->nodes[k]->in[i] == value;
    for (int i = 0; i < graph->n_outputs; i++)
        uses += graph->outputs[i] == value;
    return uses;
}

PapaValue *papa_graph_find(const PapaGraph *graph, const char *name)
{
    for (int i = 0; i < graph->n_values; i++)
        if (strcmp(graph->values[i]->name, name) == 0)
            return graph->values[i];
    return NULL;
}
