/* Gather, by indices that are known when the graph is built, and Expand: elements that are read more than once. Indices that stand in for what is fed
 * (token ids, where a graph is only looked at) may be any. */
#include "graph/fold.h"
#include "graph/op.h"
#include "graph/units.h"
#include "kernels/reduce.h"

/* ---------------------------------------------------------------- Gather */

typedef struct GatherAttrs {
    int64_t file_axis;
    int axis;            /* set by shape, and the rest */
    int64_t n;           /* indices */
    int64_t *index;      /* the graph's; 0 <= index[i] < the axis's size */
} GatherAttrs;

static PapaStatus gather_init(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    return papa_attr_int(node->proto, "axis", 0, &((GatherAttrs *)node->attrs)->file_axis);
}

/* A table of embeddings: which row is read depends on what is fed. Otherwise the readers say. */
static PapaRole gather_role(const PapaNode *node, int input, int64_t *fan_in)
{
    *fan_in = node->in[0]->has_shape ? papa_shape_count_from(&node->in[0]->shape, 1, node->in[0]->shape.rank) : 0;
    return input == 0 && node->on_input && node->in[1]->kind != PAPA_VALUE_CONSTANT ? PAPA_ROLE_WEIGHT : PAPA_ROLE_NONE;
}

static PapaStatus gather_shape(PapaNode *node, PapaGraph *graph)
{
    GatherAttrs *attrs = node->attrs;
    const PapaShape *x = &node->in[0]->shape, *indices = &node->in[1]->shape;
    const int64_t *index;
    PAPA_TRY(papa_check_axis(node, attrs->file_axis, x->rank, &attrs->axis));
    PAPA_TRY(papa_const_ints(node, 1, &index, &attrs->n));
    int64_t dim = x->dim[attrs->axis];
    attrs->index = PAPA_NEW_ARRAY(&graph->arena, int64_t, attrs->n);
    if (!attrs->index)
        return PAPA_ERR_MEMORY;
    for (int64_t i = 0; i < attrs->n; i++) {
        if (node->in[1]->fed && dim) {
            attrs->index[i] = (int64_t)((uint64_t)index[i] % (uint64_t)dim);
            continue;
        }
        if (index[i] < -dim || index[i] >= dim)
            return papa_node_fail(node, PAPA_ERR_MISMATCH, "index %lld into axis %d of the input of shape %s", (long long)index[i],
                attrs->axis, papa_shape_text(x));
        attrs->index[i] = index[i] < 0 ? index[i] + dim : index[i];
    }
    if (x->rank - 1 + indices->rank > PAPA_MAX_RANK)
        return papa_node_fail(node, PAPA_ERR_UNSUPPORTED, "to rank %d, expected at most %d", x->rank - 1 + indices->rank, PAPA_MAX_RANK);
    PapaShape y = {0};
    for (int k = 0; k < attrs->axis; k++)
        y.dim[y.rank++] = x->dim[k];
    for (int k = 0; k < indices->rank; k++)
        y.dim[y.rank++] = indices->dim[k];
    for (int k = attrs->axis + 1; k < x->rank; k++)
        y.dim[y.rank++] = x->dim[k];
    return papa_set_output(node, 0, node->in[0]->type, &y);
}

static void gather_units(const PapaNode *node, PapaUnits *units)
{
    const GatherAttrs *attrs = node->attrs;
    PapaSpace x = papa_units_in(units, node, 0);
    if (node->in[1]->fed)
        papa_units_fix(units, &x, attrs->axis, "which of them is read depends on an input");
    papa_units_pick(units, &x, attrs->axis, attrs->n, attrs->index, 0);
    x = papa_units_reshape(units, x, &node->out[0]->shape);
    papa_units_set(units, node, 0, &x);
}

static void gather_sizes(const PapaNode *node, int64_t *outer, int64_t *n_rows, int64_t *inner)
{
    const GatherAttrs *attrs = node->attrs;
    const PapaShape *x = &node->in[0]->shape;
    *outer = papa_shape_count_from(x, 0, attrs->axis);
    *n_rows = x->dim[attrs->axis];
    *inner = papa_shape_count_from(x, attrs->axis + 1, x->rank);
}

static PapaStatus gather_fold(PapaNode *node, PapaGraph *graph)
{
    const GatherAttrs *attrs = node->attrs;
    int64_t outer, n_rows, inner, bytes = (int64_t)papa_constant_bytes(node->in[0]->type);
    gather_sizes(node, &outer, &n_rows, &inner);
    char *y = papa_set_constant(node, graph, 0);
    if (!y)
        return PAPA_ERR_MEMORY;
    PapaRegion region = {0}; /* the same row of every outer index */
    papa_region_add(&region, outer, attrs->n * inner, n_rows * inner);
    papa_region_add(&region, inner, 1, 1);
    for (int64_t i = 0; i < attrs->n; i++)
        papa_fold_copy(y + i * inner * bytes, (const char *)node->in[0]->data + attrs->index[i] * inner * bytes, (size_t)bytes, &region);
    return PAPA_OK;
}

/* The plan is the indices in the device's memory. */
static PapaStatus gather_prepare(PapaNode *node, const PapaGraph *graph, PapaDevice *dev)
{
    const GatherAttrs *attrs = node->attrs;
    size_t bytes = (size_t)attrs->n * sizeof *attrs->index;
    (void)graph;
    PAPA_TRY(papa_device_alloc(dev, &node->plan, bytes, node->label));
    return papa_device_upload(dev, node->plan, attrs->index, bytes);
}

static void gather_release(PapaNode *node, PapaDevice *dev)
{
    papa_device_free(dev, node->plan);
    node->plan = NULL;
}

static PapaStatus gather_forward(const PapaNode *node, const PapaRun *run)
{
    int64_t outer, n_rows, inner;
    gather_sizes(node, &outer, &n_rows, &inner);
    return PAPA_FORWARD_KERNEL(run->dev, papa_gather_fwd)(run->dev, papa_out(run, node, 0), papa_in(run, node, 0), node->plan, outer, n_rows,
        ((const GatherAttrs *)node->attrs)->n, inner);
}

static PapaStatus gather_backward(const PapaNode *node, const PapaRun *run)
{
    int64_t outer, n_rows, inner;
    PapaReal *dx = papa_din(run, node, 0);
    if (!dx)
        return PAPA_OK;
    gather_sizes(node, &outer, &n_rows, &inner);
    if (!papa_din_accumulate(run, node, 0))
        PAPA_TRY(papa_din_zero(run, node, 0));
    return PAPA_KERNEL(run->dev, papa_gather_bwd)(run->dev, dx, papa_dout(run, node, 0), node->plan, outer, n_rows,
        ((const GatherAttrs *)node->attrs)->n, inner);
}

/* ---------------------------------------------------------------- Expand */

static PapaStatus expand_shape(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    const int64_t *dims;
    int64_t n;
    PAPA_TRY(papa_const_ints(node, 1, &dims, &n));
    if (n > PAPA_MAX_RANK)
        return papa_node_fail(node, PAPA_ERR_UNSUPPORTED, "to rank %lld, expected at most %d", (long long)n, PAPA_MAX_RANK);
    PapaShape asked = {.rank = (int)n}, y;
    for (int k = 0; k < asked.rank; k++) {
        if (dims[k] < 0)
            return papa_node_fail(node, PAPA_ERR_FORMAT, "axis %d of the shape is %lld", k, (long long)dims[k]);
        asked.dim[k] = dims[k];
    }
    PAPA_TRY(papa_broadcast(node, &node->in[0]->shape, &asked, &y));
    return papa_set_output(node, 0, node->in[0]->type, &y);
}

static void expand_units(const PapaNode *node, PapaUnits *units)
{
    PapaSpace x = papa_units_in(units, node, 0), *y = papa_units_out(units, node, 0);
    int shift = y->shape.rank - x.shape.rank;
    for (int k = 0; k < y->shape.rank; k++)
        y->axis[k] = k >= shift && x.shape.dim[k - shift] == y->shape.dim[k] ? x.axis[k - shift] : papa_units_repeated(units, y->shape.dim[k]);
}

static bool expand_is_view(const PapaNode *node, const PapaGraph *graph)
{
    (void)graph;
    return papa_shape_count(&node->in[0]->shape) == papa_shape_count(&node->out[0]->shape);
}

static PapaRegion expand_region(const PapaNode *node)
{
    const PapaShape *x = &node->in[0]->shape, *y = &node->out[0]->shape;
    int64_t to[PAPA_MAX_RANK], from[PAPA_MAX_RANK];
    papa_dense_strides(y, to);
    papa_dense_strides(x, from);
    PapaRegion region = {0};
    for (int k = 0, j = x->rank - y->rank; k < y->rank; k++, j++)
        papa_region_add(&region, y->dim[k], to[k], j >= 0 && x->dim[j] != 1 ? from[j] : 0);
    return region;
}

static PapaStatus expand_fold(PapaNode *node, PapaGraph *graph)
{
    void *y = papa_set_constant(node, graph, 0);
    if (!y)
        return PAPA_ERR_MEMORY;
    PapaRegion region = expand_region(node);
    if (papa_shape_count(&node->out[0]->shape))
        papa_fold_copy(y, node->in[0]->data, papa_constant_bytes(node->in[0]->type), &region);
    return PAPA_OK;
}

static PapaStatus expand_forward(const PapaNode *node, const PapaRun *run)
{
    PapaRegion region = expand_region(node);
    return PAPA_FORWARD_KERNEL(run->dev, papa_copy)(run->dev, papa_out(run, node, 0), papa_in(run, node, 0), &region, false);
}

static PapaStatus expand_backward(const PapaNode *node, const PapaRun *run)
{
    const PapaShape *x = &node->in[0]->shape, *y = &node->out[0]->shape;
    PapaReal *dx = papa_din(run, node, 0);
    int64_t stride[PAPA_MAX_RANK], none[PAPA_MAX_RANK] = {0};
    PapaWalk walk;
    if (!dx)
        return PAPA_OK;
    papa_walk_strides(stride, y->rank, x->rank, x->dim);
    papa_walk_make(&walk, y->rank, y->dim, stride, none);
    return PAPA_KERNEL(run->dev, papa_sum)(run->dev, dx, papa_dout(run, node, 0), &walk, 1, papa_din_accumulate(run, node, 0));
}

const PapaOp papa_ops_gather[] = {
    {.type = "Gather", .since = 7, .min_in = 2, .max_in = 2, .min_out = 1, .max_out = 1, .attrs_bytes = sizeof(GatherAttrs),
        .init = gather_init, .role = gather_role, .carries_role = true, .shape = gather_shape, .units = gather_units, .fold = gather_fold, .prepare = gather_prepare,
        .release = gather_release, .forward = gather_forward, .backward = gather_backward},
    {.type = "Expand", .since = 8, .min_in = 2, .max_in = 2, .min_out = 1, .max_out = 1, .carries_role = true, .repeats = true,
        .shape = expand_shape, .units = expand_units, .fold = expand_fold, .is_view = expand_is_view,
        .forward = expand_forward, .backward = expand_backward},
    {0},
};
