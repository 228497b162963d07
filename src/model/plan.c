#include "model/plan.h"

#include "model/place.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK_ALIGN 256 /* bytes; what cuBLASLt demands of its workspace */

typedef struct Planner {
    PapaGraph *graph;
    const PapaModel *model;
    PapaPlan *plan;
    bool training;
    int n;             /* nodes */
    bool *wants, *reaches; /* by root's index: something trained lies upstream; the loss lies downstream */
    bool *written;     /* by root's index: somebody has written its gradient already */
    PapaBlock *values, *grads; /* by root's index; first > last: not in use so far */
    PapaBlock *work[2], *kept; /* by node */
} Planner;

static int backward_step(const Planner *p, int node)
{
    return 2 * p->n - node;
}

static void live(PapaBlock *block, int step)
{
    if (step < block->first)
        block->first = step;
    if (step > block->last)
        block->last = step;
}

static bool executes(const PapaNode *node)
{
    return !(node->out[0] && node->out[0]->view_of);
}

/* ---------------------------------------------------------------- which gradients exist */

static bool is_trained(const Planner *p, const PapaValue *root)
{
    return root->kind == PAPA_VALUE_TENSOR && root->param >= 0 && p->model->params[root->param].trained;
}

static bool reads_wanted(const Planner *p, const PapaNode *node)
{
    for (int i = 0; i < node->n_in; i++)
        if (node->in[i] && p->wants[papa_value_root(node->in[i])->index])
            return true;
    return false;
}

static bool writes_reaching(const Planner *p, const PapaNode *node)
{
    for (int i = 0; i < node->n_out; i++)
        if (node->out[i] && p->reaches[papa_value_root(node->out[i])->index])
            return true;
    return false;
}

static bool has_grad(const Planner *p, PapaValue *value)
{
    PapaValue *root = papa_value_root(value);
    return p->training && p->wants[root->index] && p->reaches[root->index];
}

static PapaStatus find_gradients(Planner *p)
{
    PapaGraph *graph = p->graph;
    for (int i = 0; i < graph->n_values; i++)
        p->wants[i] = is_trained(p, graph->values[i]);
    for (int k = 0; k < p->n; k++)
        if (executes(graph->nodes[k]) && reads_wanted(p, graph->nodes[k]))
            for (int i = 0; i < graph->nodes[k]->n_out; i++)
                if (graph->nodes[k]->out[i])
                    p->wants[papa_value_root(graph->nodes[k]->out[i])->index] = true;
    p->reaches[papa_value_root(graph->outputs[0])->index] = true;
    for (int k = p->n - 1; k >= 0; k--)
        if (executes(graph->nodes[k]) && writes_reaching(p, graph->nodes[k]))
            for (int i = 0; i < graph->nodes[k]->n_in; i++)
                if (graph->nodes[k]->in[i])
                    p->reaches[papa_value_root(graph->nodes[k]->in[i])->index] = true;
    for (int i = 0; i < graph->n_values; i++)
        graph->values[i]->wants_grad = has_grad(p, graph->values[i]);
    for (int k = 0; k < p->n; k++) {
        PapaNode *node = graph->nodes[k];
        if (executes(node) && reads_wanted(p, node) && writes_reaching(p, node) && !node->op->backward)
            return papa_node_fail(node, PAPA_ERR_UNSUPPORTED, "a gradient must pass through it, and papa has none for %s", node->op->type);
    }
    return PAPA_OK;
}

/* ---------------------------------------------------------------- lifetimes */

static void use_forward(Planner *p, PapaValue *value, int step)
{
    if (value)
        live(&p->values[papa_value_root(value)->index], step);
}

static void live_forward(Planner *p)
{
    PapaGraph *graph = p->graph;
    for (int i = 0; i < graph->n_inputs; i++)
        use_forward(p, graph->inputs[i], 0);
    for (int k = 0; k < p->n; k++) {
        PapaNode *node = graph->nodes[k];
        if (!executes(node))
            continue;
        for (int i = 0; i < node->n_in; i++)
            use_forward(p, node->in[i], k);
        for (int i = 0; i < node->n_out; i++)
            use_forward(p, node->out[i], k);
        live(&p->work[0][k], k);
        live(&p->kept[k], k);
    }
    for (int i = 0; i < graph->n_outputs; i++)
        use_forward(p, graph->outputs[i], p->n);
}

/* One node's part in the backward pass: what it writes, what it reads, what it keeps. */
static PapaStatus live_backward(Planner *p, int k)
{
    PapaNode *node = p->graph->nodes[k];
    int step = backward_step(p, k);
    unsigned char *din = PAPA_NEW_ARRAY(&p->graph->arena, unsigned char, node->n_in);
    if (!din)
        return PAPA_ERR_MEMORY;
    p->plan->nodes[k].din = din;
    for (int i = 0; i < node->n_in; i++) {
        if (!node->in[i] || !has_grad(p, node->in[i]))
            continue;
        int root = papa_value_root(node->in[i])->index;
        din[i] = PAPA_DIN_WANTED | (p->written[root] ? PAPA_DIN_ACCUMULATE : 0);
        p->written[root] = true;
        live(&p->grads[root], step);
    }
    for (int i = 0; i < node->n_out; i++)
        if (node->out[i])
            live(&p->grads[papa_value_root(node->out[i])->index], step);
    unsigned keeps = node->op->keeps ? node->op->keeps(node, p->graph) : 0;
    for (int i = 0; i < node->n_in && i < PAPA_KEEP_MOST; i++)
        if (keeps & PAPA_KEEP_IN(i))
            use_forward(p, node->in[i], step);
    for (int i = 0; i < node->n_out && i < PAPA_KEEP_MOST; i++)
        if (keeps & PAPA_KEEP_OUT(i))
            use_forward(p, node->out[i], step);
    live(&p->work[1][k], step);
    live(&p->kept[k], step);
    return PAPA_OK;
}

static void add_zero(PapaPlan *plan, int before, PapaPlacement where, int64_t bytes)
{
    if (bytes)
        plan->zeros[plan->n_zeros++] = (PapaZero){before, where, bytes};
}

static PapaStatus place_backward(Planner *p)
{
    PapaGraph *graph = p->graph;
    PapaValue *loss = papa_value_root(graph->outputs[0]);
    p->written[loss->index] = true;
    live(&p->grads[loss->index], p->n);
    for (int k = p->n - 1; k >= 0; k--) {
        PapaNode *node = graph->nodes[k];
        if (!executes(node) || !reads_wanted(p, node) || !writes_reaching(p, node))
            continue;
        for (int i = 0; i < node->n_out; i++) { /* an output that the loss doesn't see */
            PapaValue *root = node->out[i] ? papa_value_root(node->out[i]) : NULL;
            if (root && !p->written[root->index]) {
                p->written[root->index] = true;
                add_zero(p->plan, k, (PapaPlacement){PAPA_IN_ARENA, root->index}, papa_value_bytes(root));
                live(&p->grads[root->index], backward_step(p, k));
            }
        }
        PAPA_TRY(live_backward(p, k));
    }
    return PAPA_OK;
}

/* ---------------------------------------------------------------- addresses */

static int64_t rounded(int64_t bytes)
{
    return (bytes + BLOCK_ALIGN - 1) / BLOCK_ALIGN * BLOCK_ALIGN;
}

static void collect(PapaBlock **list, int *n, PapaBlock *block, int64_t bytes, int64_t *result)
{
    block->bytes = rounded(bytes);
    block->result = result;
    if (block->first <= block->last && bytes > 0)
        list[(*n)++] = block;
}

static PapaStatus assign(Planner *p, bool separate)
{
    PapaGraph *graph = p->graph;
    PapaPlan *plan = p->plan;
    int most = 2 * graph->n_values + 3 * p->n, n = 0;
    PapaBlock **list = PAPA_NEW_ARRAY(&graph->arena, PapaBlock *, most), **scratch = PAPA_NEW_ARRAY(&graph->arena, PapaBlock *, most);
    if (!list || !scratch)
        return PAPA_ERR_MEMORY;
    for (int i = 0; i < graph->n_values; i++) {
        PapaValue *value = graph->values[i];
        int64_t bytes = value->has_shape ? papa_value_bytes(value) : 0;
        if (value->view_of)
            continue;
        if (plan->values[i].where == PAPA_IN_ARENA)
            collect(list, &n, &p->values[i], bytes, &plan->values[i].offset);
        if (plan->grads[i].where == PAPA_IN_ARENA)
            collect(list, &n, &p->grads[i], bytes, &plan->grads[i].offset);
    }
    for (int k = 0; k < p->n; k++) {
        collect(list, &n, &p->work[0][k], (int64_t)graph->nodes[k]->forward_workspace_bytes, &plan->nodes[k].forward_workspace);
        collect(list, &n, &p->work[1][k], (int64_t)graph->nodes[k]->backward_workspace_bytes, &plan->nodes[k].backward_workspace);
        collect(list, &n, &p->kept[k], (int64_t)graph->nodes[k]->kept_bytes, &plan->nodes[k].kept);
    }
    plan->arena_bytes = separate ? papa_place_apart(list, n, PAPA_PLAN_GUARD) : papa_place_blocks(list, n, scratch);
    return PAPA_OK;
}

/* Which memory each root's value and gradient lie in. */
static void choose_memory(Planner *p)
{
    PapaPlan *plan = p->plan;
    for (int i = 0; i < p->graph->n_values; i++) {
        PapaValue *value = p->graph->values[i];
        if (value->view_of)
            continue;
        switch (value->kind) {
        case PAPA_VALUE_TENSOR:
            if (value->param >= 0)
                plan->values[i] = (PapaPlacement){PAPA_IN_PARAMS, p->model->params[value->param].offset * (int64_t)sizeof(float)};
            if (has_grad(p, value) && is_trained(p, value))
                plan->grads[i] = (PapaPlacement){PAPA_IN_DPARAMS, plan->values[i].offset};
            break;
        case PAPA_VALUE_CONSTANT:
            if (papa_type_is_float(value->type) && value->data) {
                plan->values[i] = (PapaPlacement){PAPA_IN_CONSTANTS, plan->constant_bytes};
                plan->constant_bytes += rounded(papa_value_bytes(value));
            }
            break;
        case PAPA_VALUE_INPUT:
        case PAPA_VALUE_ACTIVATION:
            plan->values[i].where = PAPA_IN_ARENA;
            if (p->grads[i].first <= p->grads[i].last)
                plan->grads[i].where = PAPA_IN_ARENA;
            break;
        }
    }
}

/* Trained tensors that the loss does not depend on have gradient 0. */
static void zero_unreached(Planner *p)
{
    for (int i = 0; i < p->model->n_params; i++) {
        const PapaParam *param = &p->model->params[i];
        bool reached = false;
        for (int v = 0; v < p->graph->n_values; v++)
            reached |= p->graph->values[v]->param == i && p->written[v];
        if (param->trained && !reached)
            add_zero(p->plan, p->n, (PapaPlacement){PAPA_IN_DPARAMS, param->offset * (int64_t)sizeof(float)}, param->count * (int64_t)sizeof(float));
    }
}

static int by_falling_node(const void *a, const void *b)
{
    return ((const PapaZero *)b)->before - ((const PapaZero *)a)->before;
}

static void share_views(Planner *p)
{
    for (int i = 0; i < p->graph->n_values; i++) {
        PapaValue *root = papa_value_root(p->graph->values[i]);
        p->plan->values[i] = p->plan->values[root->index];
        p->plan->grads[i] = p->plan->grads[root->index];
    }
    for (int i = 0; i < p->plan->n_zeros; i++) /* so far the arena's ones hold the value's index */
        if (p->plan->zeros[i].where.where == PAPA_IN_ARENA)
            p->plan->zeros[i].where = p->plan->grads[p->plan->zeros[i].where.offset];
    qsort(p->plan->zeros, (size_t)p->plan->n_zeros, sizeof *p->plan->zeros, by_falling_node);
}

static PapaBlock *new_blocks(PapaArena *arena, int n)
{
    PapaBlock *blocks = PAPA_NEW_ARRAY(arena, PapaBlock, n);
    for (int i = 0; blocks && i < n; i++)
        blocks[i] = (PapaBlock){.first = INT32_MAX, .last = -1};
    return blocks;
}

PapaStatus papa_plan_make(PapaPlan *out, PapaGraph *graph, const PapaModel *model, bool separate)
{
    PapaArena *arena = &graph->arena;
    int n = graph->n_nodes, v = graph->n_values;
    Planner p = {
        .graph = graph, .model = model, .plan = out, .training = graph->mode == PAPA_MODE_TRAIN, .n = n,
        .wants = PAPA_NEW_ARRAY(arena, bool, v), .reaches = PAPA_NEW_ARRAY(arena, bool, v), .written = PAPA_NEW_ARRAY(arena, bool, v),
        .values = new_blocks(arena, v), .grads = new_blocks(arena, v),
        .work = {new_blocks(arena, n), new_blocks(arena, n)}, .kept = new_blocks(arena, n),
    };
    *out = (PapaPlan){
        .values = PAPA_NEW_ARRAY(arena, PapaPlacement, v), .grads = PAPA_NEW_ARRAY(arena, PapaPlacement, v),
        .nodes = PAPA_NEW_ARRAY(arena, PapaNodePlacement, n), .zeros = PAPA_NEW_ARRAY(arena, PapaZero, v + model->n_params),
    };
    if (!p.wants || !p.reaches || !p.written || !p.values || !p.grads || !p.work[0] || !p.work[1] || !p.kept || !out->values || !out->grads ||
        !out->nodes || !out->zeros)
        return PAPA_ERR_MEMORY;
    live_forward(&p);
    if (p.training) {
        PAPA_TRY(find_gradients(&p));
        PAPA_TRY(place_backward(&p));
        zero_unreached(&p);
    }
    choose_memory(&p);
    PAPA_TRY(assign(&p, separate));
    share_views(&p);
    return PAPA_OK;
}
