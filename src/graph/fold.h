/* Moving constants on the host, when the graph is built: for the fold functions of operators' rows. */
#ifndef PAPA_FOLD_H
#define PAPA_FOLD_H

#include "graph/op.h"
#include "kernels/copy.h"

/* BOOL, INT8 to INT64, UINT8 to UINT64: constants of these lie in memory as int64_t. */
bool papa_type_is_integer(int type);

/* Bytes of one element as constants lie in memory: float or int64_t. */
static inline size_t papa_constant_bytes(int type)
{
    return papa_type_is_float(type) ? sizeof(float) : sizeof(int64_t);
}

/* Where element i of a broadcast result of shape y is read in x. */
int64_t papa_broadcast_at(const PapaShape *y, const PapaShape *x, int64_t i);

/* As papa_copy without accumulation, for elements of this many bytes (4 or 8). */
void papa_fold_copy(void *to, const void *from, size_t element_bytes, const PapaRegion *region);

/* A row's fold: out[0] is in[0]'s elements in their order, in its own shape. */
PapaStatus papa_fold_as_is(PapaNode *node, PapaGraph *graph);

/* Strides of a dense row-major value; stride[k] = product of dim[k+1 ..]. */
void papa_dense_strides(const PapaShape *shape, int64_t stride[PAPA_MAX_RANK]);

#endif
