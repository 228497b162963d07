/* The memory plan of a compiled graph: where every value, gradient and scratch buffer lies. Internal to src/model.
 *
 * Time runs over the steps of one training step: forward of node k at k, the loss at n, backward of node k at 2n - k. Everything that lies in the
 * arena is a block with a first and a last step; blocks that live at the same time never overlap. A view has its value's block, and its
 * gradient block too: all readers of all views add into one gradient. The first to write a gradient overwrites, later ones
 * add; who is first is known here. */
#ifndef PAPA_PLAN_H
#define PAPA_PLAN_H

#include "graph/op.h"
#include "model/model.h"

typedef struct PapaZero {
    int before;          /* zero it before backward of this node */
    PapaPlacement where; /* bytes from here */
    int64_t bytes;
} PapaZero;

typedef struct PapaPlan {
    PapaPlacement *values, *grads; /* by value index */
    PapaNodePlacement *nodes;      /* by node index */
    PapaZero *zeros;               /* gradients that no reader writes; ordered by falling `before` */
    int n_zeros;
    int64_t arena_bytes, constant_bytes;
} PapaPlan;

/* separate: every block has an address of its own with PAPA_PLAN_GUARD bytes behind it, so that tests see what a reused address would hide.
 * The graph is final and its nodes prepared; value->param is set. outputs[0] gets a gradient in PAPA_MODE_TRAIN. Memory from the graph's
 * arena. Errors: PAPA_ERR_UNSUPPORTED where a gradient must pass a node that has no backward; memory. */
PapaStatus papa_plan_make(PapaPlan *out, PapaGraph *graph, const PapaModel *model, bool separate);
#define PAPA_PLAN_GUARD 256

/* The value whose memory this one uses. */
static inline PapaValue *papa_value_root(PapaValue *value)
{
    while (value->view_of)
        value = value->view_of;
    return value;
}

#endif
