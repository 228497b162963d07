/* The fusing pass: an Add of two equal shapes and a Relu join the operator whose output they alone read, where its row allows it. Each saves a
 * pass over memory forward and another backward. */
#include "graph/op.h"

#include <string.h>

/* The node whose output 0 is value, if node is its only reader. */
static PapaNode *sole_producer(const PapaGraph *graph, const PapaValue *value)
{
    PapaNode *producer = value ? value->producer : NULL;
    return producer && producer->out[0] == value && papa_graph_uses(graph, value) == 1 ? producer : NULL;
}

static bool can_take_add(const PapaNode *node)
{
    return node && node->op->fuses & PAPA_FUSE_ADD && !node->relu && !node->tapped && !papa_has_in(node, node->op->residual_input);
}

static PapaStatus set_residual(PapaGraph *graph, PapaNode *node, PapaValue *residual)
{
    int at = node->op->residual_input;
    if (node->n_in <= at) {
        PapaValue **larger = PAPA_NEW_ARRAY(&graph->arena, PapaValue *, at + 1);
        if (!larger)
            return PAPA_ERR_MEMORY;
        memcpy(larger, node->in, (size_t)node->n_in * sizeof *larger);
        node->in = larger;
        node->n_in = at + 1;
    }
    node->in[at] = residual;
    return PAPA_OK;
}

/* Lets by make node's output: by moves to node's place in the order. */
static void take_over(PapaGraph *graph, int k, PapaNode *by)
{
    PapaNode *node = graph->nodes[k];
    by->out[0] = node->out[0];
    by->out[0]->producer = by;
    graph->nodes[by->index] = NULL;
    graph->nodes[k] = by;
    by->index = k;
}

static PapaStatus fuse_adds(PapaGraph *graph)
{
    for (int k = 0; k < graph->n_nodes; k++) {
        PapaNode *node = graph->nodes[k];
        if (!node || strcmp(node->op->type, "Add") != 0 || node->tapped || !papa_shape_equal(&node->in[0]->shape, &node->in[1]->shape))
            continue;
        for (int side = 1; side >= 0; side--) {
            PapaNode *producer = sole_producer(graph, node->in[side]);
            if (!can_take_add(producer) || node->in[!side] == node->in[side])
                continue;
            PAPA_TRY(set_residual(graph, producer, node->in[!side]));
            take_over(graph, k, producer);
            break;
        }
    }
    papa_graph_compact(graph);
    return PAPA_OK;
}

static void fuse_relus(PapaGraph *graph)
{
    for (int k = 0; k < graph->n_nodes; k++) {
        PapaNode *node = graph->nodes[k];
        if (!node || strcmp(node->op->type, "Relu") != 0)
            continue;
        PapaNode *producer = sole_producer(graph, node->in[0]);
        if (!producer || !(producer->op->fuses & PAPA_FUSE_RELU) || producer->relu || producer->tapped)
            continue;
        producer->relu = true;
        take_over(graph, k, producer);
    }
    papa_graph_compact(graph);
}

PapaStatus papa_graph_fuse(PapaGraph *graph)
{
    PAPA_TRY(fuse_adds(graph));
    fuse_relus(graph);
    return PAPA_OK;
}
