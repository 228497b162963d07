/* Where things lie while a node executes. */
#include "graph/op.h"

static void *at(const PapaRun *run, PapaPlacement placement)
{
    switch (placement.where) {
    case PAPA_IN_ARENA: return run->arena + placement.offset;
    case PAPA_IN_PARAMS: return (char *)run->params + placement.offset;
    case PAPA_IN_DPARAMS: return (char *)run->dparams + placement.offset;
    case PAPA_IN_CONSTANTS: return (char *)run->constants + placement.offset;
    case PAPA_NOWHERE: break;
    }
    return NULL;
}

PapaReal *papa_in(const PapaRun *run, const PapaNode *node, int i)
{
    return papa_has_in(node, i) ? at(run, run->values[node->in[i]->index]) : NULL;
}

PapaReal *papa_out(const PapaRun *run, const PapaNode *node, int i)
{
    return papa_has_out(node, i) ? at(run, run->values[node->out[i]->index]) : NULL;
}

PapaReal *papa_din(const PapaRun *run, const PapaNode *node, int i)
{
    return papa_has_in(node, i) && run->nodes[node->index].din[i] & PAPA_DIN_WANTED ? at(run, run->grads[node->in[i]->index]) : NULL;
}

PapaStatus papa_din_zero(const PapaRun *run, const PapaNode *node, int i)
{
    return papa_device_zero(run->dev, papa_din(run, node, i), (size_t)papa_value_bytes(node->in[i]));
}

bool papa_din_accumulate(const PapaRun *run, const PapaNode *node, int i)
{
    return papa_has_in(node, i) && run->nodes[node->index].din[i] & PAPA_DIN_ACCUMULATE;
}

PapaReal *papa_dout(const PapaRun *run, const PapaNode *node, int i)
{
    return papa_has_out(node, i) ? at(run, run->grads[node->out[i]->index]) : NULL;
}

void *papa_forward_workspace(const PapaRun *run, const PapaNode *node)
{
    return run->arena + run->nodes[node->index].forward_workspace;
}

void *papa_backward_workspace(const PapaRun *run, const PapaNode *node)
{
    return run->arena + run->nodes[node->index].backward_workspace;
}

void *papa_kept(const PapaRun *run, const PapaNode *node)
{
    return run->arena + run->nodes[node->index].kept;
}
