/* Which layers REPAIR corrects. */
#include "graph/op.h"
#include "model/net.h"

#include <stdio.h>
#include <string.h>

typedef struct Finder {
    const PapaModel *model;
    const PapaGraph *graph;
    const PapaHooks *hooks;
} Finder;

static void remark(const Finder *f, const PapaNode *node, const char *why)
{
    char line[512];
    snprintf(line, sizeof line, "REPAIR leaves out %s: %s", node->label, why);
    if (f->hooks && f->hooks->remark)
        f->hooks->remark(f->hooks->context, line);
}

static int param_of(const Finder *f, const PapaValue *value)
{
    for (int i = 0; value && value->kind == PAPA_VALUE_TENSOR && i < f->model->n_params; i++)
        if (f->model->params[i].tensor == value->tensor)
            return i;
    return -1;
}

static int made_bias_of(const Finder *f, const Onnx__NodeProto *node)
{
    for (int i = 0; i < f->model->n_params; i++)
        if (f->model->params[i].made_for == node)
            return i;
    return -1;
}

static bool goes_into_normalization(const Finder *f, const PapaValue *value)
{
    int64_t fan_in;
    for (int k = 0; k < f->graph->n_nodes; k++) {
        const PapaNode *node = f->graph->nodes[k];
        for (int i = 0; i < node->n_in && node->in[0] == value && node->op->role; i++)
            if (node->in[i] && node->op->role(node, i, &fan_in) == PAPA_ROLE_VARIANCE)
                return true;
    }
    return false;
}

static PapaNode *sole_reader(const Finder *f, const PapaValue *value)
{
    if (papa_graph_uses(f->graph, value) != 1)
        return NULL;
    for (int k = 0; k < f->graph->n_nodes; k++)
        for (int i = 0; i < f->graph->nodes[k]->n_in; i++)
            if (f->graph->nodes[k]->in[i] == value)
                return f->graph->nodes[k];
    return NULL;
}

/* A MatMul's bias stands in an Add behind it. */
static bool find_added_bias(const Finder *f, const PapaNode *node, PapaTap *tap)
{
    PapaNode *add = sole_reader(f, node->out[0]);
    if (!add || strcmp(add->op->type, "Add") != 0)
        return false;
    const PapaValue *bias = add->in[add->in[0] == node->out[0]];
    tap->bias = param_of(f, bias);
    if (tap->bias < 0 || papa_graph_uses(f->graph, bias) > 1 || papa_shape_count(&bias->shape) != tap->n_channels || bias->shape.rank < 1 ||
        bias->shape.dim[bias->shape.rank - 1] != tap->n_channels)
        return false;
    tap->value = add->out[0]->name;
    tap->node = add->proto;
    return true;
}

/* Fills tap and returns true if the node is a layer to correct. */
static bool find_tap(const Finder *f, const PapaNode *node, PapaTap *tap)
{
    PapaLinear linear;
    if (!node->op->linear || !node->op->linear(node, &linear))
        return false;
    const PapaValue *weight = node->in[linear.weight];
    *tap = (PapaTap){.value = node->out[0]->name, .node = node->proto, .weight = param_of(f, weight), .weight_axis = linear.weight_axis, .bias = -1, .bias_factor = 1};
    if (!f->model->frozen_statistics && goes_into_normalization(f, node->out[0]))
        return false; /* its statistics are re-estimated: that is the correction */
    if (tap->weight < 0)
        return remark(f, node, "its weight is computed, not stored"), false;
    if (papa_graph_uses(f->graph, weight) > 1)
        return remark(f, node, "its weight is used more than once"), false;
    tap->n_channels = weight->shape.dim[linear.weight_axis];
    if (linear.bias < 0) {
        if (!find_added_bias(f, node, tap))
            return remark(f, node, "no bias of its own follows it"), false;
        return true;
    }
    const PapaValue *bias = papa_has_in(node, linear.bias) ? node->in[linear.bias] : NULL;
    if (!bias) {
        tap->bias = made_bias_of(f, node->proto);
        return true;
    }
    tap->bias = param_of(f, bias);
    tap->bias_factor = linear.bias_factor;
    if (tap->bias < 0 || papa_shape_count(&bias->shape) != tap->n_channels || papa_graph_uses(f->graph, bias) > 1 || linear.bias_factor == 0)
        return remark(f, node, "its bias is not one number per channel of its own"), false;
    return true;
}

PapaStatus papa_model_taps(PapaTap **taps, int *n_taps, int64_t *n_stats, const PapaModel *model, PapaArena *arena, const PapaHooks *hooks)
{
    PapaGraph *graph;
    PAPA_TRY(papa_graph_read(&graph, model->onnx,
        &(PapaGraphOptions){.mode = PAPA_MODE_CALIBRATE, .outputs = (const char *const[]){model->head.logits}, .n_outputs = 1}));
    Finder finder = {model, graph, hooks};
    *n_taps = 0;
    *n_stats = 0;
    *taps = PAPA_NEW_ARRAY(arena, PapaTap, graph->n_nodes);
    int last = -1; /* the last linear layer makes the logits */
    for (int k = 0; k < graph->n_nodes; k++) {
        PapaLinear linear;
        if (graph->nodes[k]->op->linear && graph->nodes[k]->op->linear(graph->nodes[k], &linear))
            last = k;
    }
    for (int k = 0; *taps && k < last; k++) {
        PapaTap tap;
        if (!find_tap(&finder, graph->nodes[k], &tap))
            continue;
        tap.offset = *n_stats;
        *n_stats += (tap.n_channels + PAPA_STORE_ALIGN - 1) / PAPA_STORE_ALIGN * PAPA_STORE_ALIGN;
        (*taps)[(*n_taps)++] = tap;
    }
    papa_graph_free(graph);
    return *taps ? PAPA_OK : PAPA_ERR_MEMORY;
}
