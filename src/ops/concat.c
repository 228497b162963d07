/* Concat and Split: one axis in parts, each a slab of the whole. */
#include "graph/fold.h"
#include "graph/op.h"
#include "graph/units.h"

typedef struct PartsAttrs {
    int64_t file_axis;
    const int64_t *split; /* Split until opset 12 */
    size_t n_split;
    int64_t num_outputs;  /* Split from opset 18; 0: left out */
    int axis;             /* set by shape */
    int64_t *sizes;       /* Split: of every part along axis, also of outputs that are left out; set by shape */
} PartsAttrs;

static void parts_permute(PapaNode *node, int rank)
{
    PartsAttrs *attrs = node->attrs;
    attrs->axis = papa_axis_to_channels_last(attrs->axis, rank);
}

/* From a dense part of this size along the axis to its slab of a dense whole. *width: how far behind it the next slab starts. */
static PapaRegion slab(const PapaNode *node, const PapaShape *whole, int64_t size, int64_t *width)
{
    int axis = ((const PartsAttrs *)node->attrs)->axis;
    PapaRegion region = {0};
    *width = size * papa_shape_count_from(whole, axis + 1, whole->rank);
    papa_region_add(&region, papa_shape_count_from(whole, 0, axis), papa_shape_count_from(whole, axis, whole->rank), *width);
    papa_region_add(&region, *width, 1, 1);
    return region;
}

/* ---------------------------------------------------------------- Concat */

static PapaStatus concat_init(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    if (!papa_attr_find(node->proto, "axis"))
        return papa_node_fail(node, PAPA_ERR_FORMAT, "has no attribute axis");
    for (int i = 0; i < node->n_in; i++)
        if (!node->in[i])
            return papa_node_fail(node, PAPA_ERR_FORMAT, "leaves out input %d", i);
    return papa_attr_int(node->proto, "axis", 0, &((PartsAttrs *)node->attrs)->file_axis);
}

/* A tensor (1, k, D) that is put beside a sequence (N, T, D), once for each of the batch, is k learned tokens, such as a vision transformer's class
 * token; whatever else the file holds is padding. */
static PapaRole concat_role(const PapaNode *node, int input, int64_t *fan_in)
{
    (void)fan_in;
    const int64_t axis = ((const PartsAttrs *)node->attrs)->file_axis;
    if ((axis != 1 && axis != -2) || node->on_input || node->n_in == 1)
        return PAPA_ROLE_NONE;
    for (const PapaValue *value = node->in[input]; value;) {
        const PapaShape *shape = &value->shape;
        if (value->has_shape && shape->rank == 3 && shape->dim[0] == 1 && shape->dim[2] > 1)
            return PAPA_ROLE_BIAS;
        value = value->producer && value->producer->op->carries_role ? value->producer->in[0] : NULL;
    }
    return PAPA_ROLE_NONE;
}

static PapaStatus concat_shape(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    PartsAttrs *attrs = node->attrs;
    PapaShape y = node->in[0]->shape;
    PAPA_TRY(papa_check_axis(node, attrs->file_axis, y.rank, &attrs->axis));
    for (int i = 1; i < node->n_in; i++) {
        const PapaShape *x = &node->in[i]->shape;
        bool fits = x->rank == y.rank;
        for (int k = 0; fits && k < y.rank; k++)
            fits = k == attrs->axis || x->dim[k] == y.dim[k];
        if (!fits || node->in[i]->type != node->in[0]->type)
            return papa_node_fail(node, PAPA_ERR_MISMATCH, "input %d is %s of shape %s, input 0 is %s of shape %s (axis %d)", i,
                papa_type_name(node->in[i]->type), papa_shape_text(x), papa_type_name(node->in[0]->type),
                papa_shape_text(&node->in[0]->shape), attrs->axis);
        if (__builtin_add_overflow(y.dim[attrs->axis], x->dim[attrs->axis], &y.dim[attrs->axis]))
            return papa_node_fail(node, PAPA_ERR_FORMAT, "the output is too large");
    }
    return papa_set_output(node, 0, node->in[0]->type, &y);
}

static void concat_units(const PapaNode *node, PapaUnits *units)
{
    PapaSpace *parts = PAPA_NEW_ARRAY(&units->arena, PapaSpace, node->n_in);
    if (!parts) {
        units->failed = true;
        return;
    }
    for (int i = 0; i < node->n_in; i++)
        parts[i] = papa_units_in(units, node, i);
    PapaSpace y = papa_units_concat(units, parts, node->n_in, ((const PartsAttrs *)node->attrs)->axis);
    papa_units_set(units, node, 0, &y);
}

static PapaRegion concat_slab(const PapaNode *node, int i, int64_t *width)
{
    int axis = ((const PartsAttrs *)node->attrs)->axis;
    return slab(node, &node->out[0]->shape, node->in[i]->shape.dim[axis], width);
}

static PapaStatus concat_fold(PapaNode *node, PapaGraph *graph)
{
    size_t bytes = papa_constant_bytes(node->in[0]->type);
    char *y = papa_set_constant(node, graph, 0);
    if (!y)
        return PAPA_ERR_MEMORY;
    int64_t width;
    for (int i = 0; i < node->n_in; i++, y += width * (int64_t)bytes) {
        PapaRegion region = concat_slab(node, i, &width);
        if (papa_shape_count(&node->in[i]->shape))
            papa_fold_copy(y, node->in[i]->data, bytes, &region);
    }
    return PAPA_OK;
}

static PapaStatus concat_forward(const PapaNode *node, const PapaRun *run)
{
    PapaReal *y = papa_out(run, node, 0);
    int64_t width;
    for (int i = 0; i < node->n_in; i++, y = papa_at(run->dev, y, width)) {
        PapaRegion region = concat_slab(node, i, &width);
        if (papa_shape_count(&node->in[i]->shape))
            PAPA_TRY(PAPA_FORWARD_KERNEL(run->dev, papa_copy)(run->dev, y, papa_in(run, node, i), &region, false));
    }
    return PAPA_OK;
}

static PapaStatus concat_backward(const PapaNode *node, const PapaRun *run)
{
    const PapaReal *dy = papa_dout(run, node, 0);
    int64_t width;
    for (int i = 0; i < node->n_in; i++, dy = papa_at(run->dev, dy, width)) {
        PapaReal *dx = papa_din(run, node, i);
        PapaRegion region = papa_region_reversed(concat_slab(node, i, &width));
        if (dx && papa_shape_count(&node->in[i]->shape))
            PAPA_TRY(PAPA_KERNEL(run->dev, papa_copy)(run->dev, dx, dy, &region, papa_din_accumulate(run, node, i)));
    }
    return PAPA_OK;
}

/* ---------------------------------------------------------------- Split */

static PapaStatus split_init(PapaNode *node, PapaGraph *graph)
{
    PartsAttrs *attrs = node->attrs;
    attrs->sizes = PAPA_NEW_ARRAY(&graph->arena, int64_t, node->n_out);
    if (!attrs->sizes)
        return PAPA_ERR_MEMORY;
    PAPA_TRY(papa_attr_int(node->proto, "axis", 0, &attrs->file_axis));
    if (node->opset < 13)
        PAPA_TRY(papa_attr_ints(node->proto, "split", &attrs->split, &attrs->n_split));
    if (node->opset >= 18)
        PAPA_TRY(papa_attr_int(node->proto, "num_outputs", 0, &attrs->num_outputs));
    if (papa_attr_find(node->proto, "num_outputs") && attrs->num_outputs != node->n_out)
        return papa_node_fail(node, PAPA_ERR_FORMAT, "num_outputs is %lld, but there are %d outputs", (long long)attrs->num_outputs,
            node->n_out);
    return PAPA_OK;
}

/* Without sizes from the file: equal parts, of which the last ones may be smaller where num_outputs asks for that many. */
static int64_t equal_part(int64_t dim, int n, int i)
{
    int64_t size = dim / n + (dim % n != 0), rest = dim - i * size;
    return rest < 0 ? 0 : rest < size ? rest : size;
}

static PapaStatus split_shape(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    PartsAttrs *attrs = node->attrs;
    PapaShape y = node->in[0]->shape;
    const int64_t *sizes = attrs->split;
    int64_t n_sizes = (int64_t)attrs->n_split;
    PAPA_TRY(papa_check_axis(node, attrs->file_axis, y.rank, &attrs->axis));
    if (node->opset >= 13)
        PAPA_TRY(papa_const_ints(node, 1, &sizes, &n_sizes));
    int64_t dim = y.dim[attrs->axis], rest = dim;
    if (sizes && n_sizes != node->n_out)
        return papa_node_fail(node, PAPA_ERR_FORMAT, "%lld sizes for %d outputs", (long long)n_sizes, node->n_out);
    if (!sizes && !attrs->num_outputs && dim % node->n_out)
        return papa_node_fail(node, PAPA_ERR_MISMATCH, "%lld does not split into %d equal parts", (long long)dim, node->n_out);
    for (int i = 0; i < node->n_out; i++) {
        int64_t size = sizes ? sizes[i] : equal_part(dim, node->n_out, i);
        if (size < 0 || size > rest)
            return papa_node_fail(node, PAPA_ERR_MISMATCH, "part %d of %lld, where %lld of axis %d's %lld are left", i, (long long)size,
                (long long)rest, attrs->axis, (long long)dim);
        rest -= size;
        attrs->sizes[i] = y.dim[attrs->axis] = size;
        PAPA_TRY(papa_set_output(node, i, node->in[0]->type, &y));
    }
    return !rest ? PAPA_OK :
        papa_node_fail(node, PAPA_ERR_MISMATCH, "parts that leave %lld of axis %d's %lld", (long long)rest, attrs->axis, (long long)dim);
}

static void split_units(const PapaNode *node, PapaUnits *units)
{
    const PartsAttrs *attrs = node->attrs;
    const PapaSpace x = papa_units_in(units, node, 0);
    int64_t start = 0;
    for (int i = 0; i < node->n_out; start += attrs->sizes[i++]) {
        PapaSpace y = x;
        papa_units_slice(units, &y, attrs->axis, attrs->sizes[i], start, 1);
        papa_units_set(units, node, i, &y);
    }
}

static PapaRegion split_slab(const PapaNode *node, int i, int64_t *width)
{
    return slab(node, &node->in[0]->shape, ((const PartsAttrs *)node->attrs)->sizes[i], width);
}

static PapaStatus split_fold(PapaNode *node, PapaGraph *graph)
{
    size_t bytes = papa_constant_bytes(node->in[0]->type);
    const char *x = node->in[0]->data;
    int64_t width;
    for (int i = 0; i < node->n_out; i++, x += width * (int64_t)bytes) {
        PapaRegion region = papa_region_reversed(split_slab(node, i, &width));
        if (!papa_has_out(node, i))
            continue;
        void *y = papa_set_constant(node, graph, i);
        if (!y)
            return PAPA_ERR_MEMORY;
        if (papa_shape_count(&node->out[i]->shape))
            papa_fold_copy(y, x, bytes, &region);
    }
    return PAPA_OK;
}

static PapaStatus split_forward(const PapaNode *node, const PapaRun *run)
{
    const PapaReal *x = papa_in(run, node, 0);
    int64_t width;
    for (int i = 0; i < node->n_out; i++, x = papa_at(run->dev, x, width)) {
        PapaRegion region = papa_region_reversed(split_slab(node, i, &width));
        if (papa_has_out(node, i) && papa_shape_count(&node->out[i]->shape))
            PAPA_TRY(PAPA_FORWARD_KERNEL(run->dev, papa_copy)(run->dev, papa_out(run, node, i), x, &region, false));
    }
    return PAPA_OK;
}

static PapaStatus split_backward(const PapaNode *node, const PapaRun *run)
{
    PapaReal *dx = papa_din(run, node, 0);
    bool accumulate = papa_din_accumulate(run, node, 0), all = true;
    int64_t width;
    if (!dx)
        return PAPA_OK;
    for (int i = 0; i < node->n_out; i++)
        all &= papa_has_out(node, i);
    if (!all && !accumulate) /* no gradient comes from a part that is left out */
        PAPA_TRY(papa_din_zero(run, node, 0));
    for (int i = 0; i < node->n_out; i++, dx = papa_at(run->dev, dx, width)) {
        PapaRegion region = split_slab(node, i, &width);
        if (papa_has_out(node, i) && papa_shape_count(&node->out[i]->shape))
            PAPA_TRY(PAPA_KERNEL(run->dev, papa_copy)(run->dev, dx, papa_dout(run, node, i), &region, accumulate));
    }
    return PAPA_OK;
}

const PapaOp papa_ops_concat[] = {
    {.type = "Concat", .since = 7, .min_in = 1, .max_in = -1, .min_out = 1, .max_out = 1, .attrs_bytes = sizeof(PartsAttrs),
        .init = concat_init, .role = concat_role, .shape = concat_shape, .units = concat_units, .fold = concat_fold, .layout = papa_layout_follow,
        .permute = parts_permute,
        .forward = concat_forward, .backward = concat_backward},
    {.type = "Split", .since = 7, .until = 12, .min_in = 1, .max_in = 1, .min_out = 1, .max_out = -1, .attrs_bytes = sizeof(PartsAttrs),
        .init = split_init, .carries_role = true, .shape = split_shape, .units = split_units, .fold = split_fold, .layout = papa_layout_follow,
        .permute = parts_permute, .forward = split_forward, .backward = split_backward},
    {.type = "Split", .since = 13, .min_in = 1, .max_in = 2, .min_out = 1, .max_out = -1, .attrs_bytes = sizeof(PartsAttrs),
        .init = split_init, .carries_role = true, .shape = split_shape, .units = split_units, .fold = split_fold, .layout = papa_layout_follow,
        .permute = parts_permute, .forward = split_forward, .backward = split_backward},
    {0},
};
