/* Transpose, of the file or put in by the layout pass. */
#include "graph/fold.h"
#include "graph/op.h"
#include "graph/units.h"

static PapaStatus transpose_init(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    PapaTransposeAttrs *attrs = node->attrs;
    const int64_t *perm;
    size_t n;
    PAPA_TRY(papa_attr_ints(node->proto, "perm", &perm, &n));
    if (n > PAPA_MAX_RANK)
        return papa_node_fail(node, PAPA_ERR_UNSUPPORTED, "of rank %zu, expected at most %d", n, PAPA_MAX_RANK);
    attrs->rank = (int)n;
    unsigned seen = 0;
    for (size_t i = 0; i < n; i++) {
        if (perm[i] < 0 || perm[i] >= (int64_t)n || seen & 1u << perm[i])
            return papa_node_fail(node, PAPA_ERR_FORMAT, "perm is not a permutation of its %zu axes", n);
        seen |= 1u << perm[i];
        attrs->perm[i] = (int)perm[i];
    }
    return PAPA_OK;
}

static int source_axis(const PapaNode *node, int k)
{
    const PapaTransposeAttrs *attrs = node->attrs;
    return attrs->rank ? attrs->perm[k] : node->in[0]->shape.rank - 1 - k;
}

static PapaStatus transpose_shape(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    const PapaTransposeAttrs *attrs = node->attrs;
    const PapaShape *x = &node->in[0]->shape;
    if (attrs->rank && attrs->rank != x->rank)
        return papa_node_fail(node, PAPA_ERR_MISMATCH, "perm has %d axes, but the input has shape %s", attrs->rank, papa_shape_text(x));
    PapaShape y = {.rank = x->rank};
    for (int k = 0; k < y.rank; k++)
        y.dim[k] = x->dim[source_axis(node, k)];
    return papa_set_output(node, 0, node->in[0]->type, &y);
}

static void transpose_units(const PapaNode *node, PapaUnits *units)
{
    PapaSpace x = papa_units_in(units, node, 0), *y = papa_units_out(units, node, 0);
    for (int k = 0; k < y->shape.rank; k++)
        y->axis[k] = x.axis[source_axis(node, k)];
}

/* Axes of size 1 may go anywhere: the others keep their order. */
static bool transpose_is_view(const PapaNode *node, const PapaGraph *graph)
{
    (void)graph;
    int last = -1;
    for (int k = 0; k < node->in[0]->shape.rank; k++) {
        int axis = source_axis(node, k);
        if (node->in[0]->shape.dim[axis] == 1)
            continue;
        if (axis < last)
            return false;
        last = axis;
    }
    return true;
}

static PapaRegion transpose_region(const PapaNode *node)
{
    const PapaShape *y = &node->out[0]->shape;
    int64_t to[PAPA_MAX_RANK], from[PAPA_MAX_RANK];
    papa_dense_strides(y, to);
    papa_dense_strides(&node->in[0]->shape, from);
    PapaRegion region = {0};
    for (int k = 0; k < y->rank; k++)
        papa_region_add(&region, y->dim[k], to[k], from[source_axis(node, k)]);
    return region;
}

static PapaStatus transpose_fold(PapaNode *node, PapaGraph *graph)
{
    void *to = papa_set_constant(node, graph, 0);
    if (!to)
        return PAPA_ERR_MEMORY;
    PapaRegion region = transpose_region(node);
    papa_fold_copy(to, node->in[0]->data, papa_constant_bytes(node->in[0]->type), &region);
    return PAPA_OK;
}

static PapaStatus transpose_forward(const PapaNode *node, const PapaRun *run)
{
    PapaRegion region = transpose_region(node);
    return PAPA_FORWARD_KERNEL(run->dev, papa_copy)(run->dev, papa_out(run, node, 0), papa_in(run, node, 0), &region, false);
}

static PapaStatus transpose_backward(const PapaNode *node, const PapaRun *run)
{
    PapaReal *dx = papa_din(run, node, 0);
    PapaRegion region = papa_region_reversed(transpose_region(node));
    if (!dx)
        return PAPA_OK;
    return PAPA_KERNEL(run->dev, papa_copy)(run->dev, dx, papa_dout(run, node, 0), &region, papa_din_accumulate(run, node, 0));
}

const PapaOp papa_ops_transpose[] = {
    {.type = "Transpose", .since = 7, .min_in = 1, .max_in = 1, .min_out = 1, .max_out = 1, .attrs_bytes = sizeof(PapaTransposeAttrs),
        .init = transpose_init, .carries_role = true, .shape = transpose_shape, .units = transpose_units, .fold = transpose_fold, .is_view = transpose_is_view,
        .forward = transpose_forward, .backward = transpose_backward},
    {0},
};
