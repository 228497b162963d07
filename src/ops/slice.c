/* Slice: every axis is walked from a start in steps. With channels-last values a step over height and width moves whole rows
 * of channels. */
#include "graph/fold.h"
#include "graph/op.h"
#include "graph/units.h"

typedef struct SliceAttrs {
    const int64_t *starts, *ends, *axes; /* until opset 9 */
    size_t n_starts, n_ends, n_axes;
    int64_t start[PAPA_MAX_RANK], step[PAPA_MAX_RANK]; /* by axis, set by shape */
} SliceAttrs;

static PapaStatus slice_init(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    SliceAttrs *attrs = node->attrs;
    PAPA_TRY(papa_attr_ints(node->proto, "starts", &attrs->starts, &attrs->n_starts));
    PAPA_TRY(papa_attr_ints(node->proto, "ends", &attrs->ends, &attrs->n_ends));
    return papa_attr_ints(node->proto, "axes", &attrs->axes, &attrs->n_axes);
}

/* What the node asks for, from its attributes or inputs: n of each; axes and steps NULL where they are left out. */
typedef struct SliceRequest {
    const int64_t *starts, *ends, *axes, *steps;
    int64_t n;
} SliceRequest;

static PapaStatus get_request(const PapaNode *node, SliceRequest *out)
{
    const SliceAttrs *attrs = node->attrs;
    *out = (SliceRequest){attrs->starts, attrs->ends, attrs->axes, NULL, (int64_t)attrs->n_starts};
    int64_t n_ends = (int64_t)attrs->n_ends, n_axes = (int64_t)attrs->n_axes, n_steps = 0;
    bool has_axes = attrs->axes != NULL, has_steps = false;
    if (node->opset >= 10) {
        PAPA_TRY(papa_const_ints(node, 1, &out->starts, &out->n));
        PAPA_TRY(papa_const_ints(node, 2, &out->ends, &n_ends));
        PAPA_TRY(papa_const_ints(node, 3, &out->axes, &n_axes));
        PAPA_TRY(papa_const_ints(node, 4, &out->steps, &n_steps));
        has_axes = papa_has_in(node, 3);
        has_steps = papa_has_in(node, 4);
    }
    if (n_ends != out->n || (has_axes && n_axes != out->n) || (has_steps && n_steps != out->n))
        return papa_node_fail(node, PAPA_ERR_FORMAT, "%lld starts, %lld ends, %lld axes, %lld steps", (long long)out->n, (long long)n_ends,
            (long long)n_axes, (long long)n_steps);
    return PAPA_OK;
}

static int64_t clamp(int64_t value, int64_t low, int64_t high)
{
    return value < low ? low : value > high ? high : value;
}

/* start and step become those of the elements taken; returns how many. */
static int64_t slice_axis(int64_t dim, int64_t *start, int64_t end, int64_t *step)
{
    int64_t n;
    if (end < 0)
        end += dim;
    if (*start < 0)
        *start += dim;
    if (*step > 0) {
        *start = clamp(*start, 0, dim);
        end = clamp(end, 0, dim);
        n = end > *start ? (end - *start - 1) / *step + 1 : 0;
    } else {
        *step = clamp(*step, -INT64_MAX, -1);
        *start = clamp(*start, -1, dim - 1); /* -1: an empty axis, of which nothing is taken */
        end = clamp(end, -1, dim - 1);
        n = *start > end ? (*start - end - 1) / -*step + 1 : 0;
    }
    if (n < 2)
        *step = 1; /* of no meaning, and perhaps too large to multiply by */
    if (!n)
        *start = 0;
    return n;
}

static PapaStatus slice_shape(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    SliceAttrs *attrs = node->attrs;
    PapaShape y = node->in[0]->shape;
    SliceRequest request;
    bool seen[PAPA_MAX_RANK] = {false};
    PAPA_TRY(get_request(node, &request));
    for (int k = 0; k < PAPA_MAX_RANK; k++) {
        attrs->start[k] = 0;
        attrs->step[k] = 1;
    }
    for (int64_t i = 0; i < request.n; i++) {
        int k;
        PAPA_TRY(papa_check_axis(node, request.axes ? request.axes[i] : i, y.rank, &k));
        if (seen[k])
            return papa_node_fail(node, PAPA_ERR_FORMAT, "names axis %d twice", k);
        seen[k] = true;
        attrs->start[k] = request.starts[i];
        attrs->step[k] = request.steps ? request.steps[i] : 1;
        if (!attrs->step[k])
            return papa_node_fail(node, PAPA_ERR_FORMAT, "the step of axis %d is 0", k);
        y.dim[k] = slice_axis(y.dim[k], &attrs->start[k], request.ends[i], &attrs->step[k]);
    }
    return papa_set_output(node, 0, node->in[0]->type, &y);
}

static void slice_units(const PapaNode *node, PapaUnits *units)
{
    const SliceAttrs *attrs = node->attrs;
    PapaSpace y = papa_units_in(units, node, 0);
    for (int k = 0; k < y.shape.rank; k++)
        papa_units_slice(units, &y, k, node->out[0]->shape.dim[k], attrs->start[k], attrs->step[k]);
    papa_units_set(units, node, 0, &y);
}

static void slice_permute(PapaNode *node, int rank)
{
    SliceAttrs *attrs = node->attrs, old = *attrs;
    for (int k = 0; k < rank; k++) {
        int axis = papa_axis_to_channels_last(k, rank);
        attrs->start[axis] = old.start[k];
        attrs->step[axis] = old.step[k];
    }
}

/* *offset: where in[0]'s first element taken lies. */
static PapaRegion slice_region(const PapaNode *node, int64_t *offset)
{
    const SliceAttrs *attrs = node->attrs;
    const PapaShape *y = &node->out[0]->shape;
    int64_t to[PAPA_MAX_RANK], from[PAPA_MAX_RANK];
    papa_dense_strides(y, to);
    papa_dense_strides(&node->in[0]->shape, from);
    PapaRegion region = {0};
    *offset = 0;
    for (int k = 0; k < y->rank; k++) {
        papa_region_add(&region, y->dim[k], to[k], from[k] * attrs->step[k]);
        *offset += attrs->start[k] * from[k];
    }
    return region;
}

static PapaStatus slice_fold(PapaNode *node, PapaGraph *graph)
{
    char *to = papa_set_constant(node, graph, 0);
    if (!to)
        return PAPA_ERR_MEMORY;
    int64_t offset;
    PapaRegion region = slice_region(node, &offset);
    size_t bytes = papa_constant_bytes(node->in[0]->type);
    if (papa_shape_count(&node->out[0]->shape))
        papa_fold_copy(to, (const char *)node->in[0]->data + offset * (int64_t)bytes, bytes, &region);
    return PAPA_OK;
}

static PapaStatus slice_forward(const PapaNode *node, const PapaRun *run)
{
    int64_t offset;
    PapaRegion region = slice_region(node, &offset);
    if (!papa_shape_count(&node->out[0]->shape))
        return PAPA_OK;
    return PAPA_FORWARD_KERNEL(run->dev, papa_copy)(run->dev, papa_out(run, node, 0), papa_at(run->dev, papa_in(run, node, 0), offset), &region, false);
}

static PapaStatus slice_backward(const PapaNode *node, const PapaRun *run)
{
    PapaReal *dx = papa_din(run, node, 0);
    bool accumulate = papa_din_accumulate(run, node, 0);
    int64_t offset, n_x = papa_shape_count(&node->in[0]->shape), n_y = papa_shape_count(&node->out[0]->shape);
    PapaRegion region = papa_region_reversed(slice_region(node, &offset));
    if (!dx)
        return PAPA_OK;
    if (!accumulate && n_y != n_x)
        PAPA_TRY(papa_din_zero(run, node, 0));
    if (!n_y)
        return PAPA_OK;
    return PAPA_KERNEL(run->dev, papa_copy)(run->dev, papa_at(run->dev, dx, offset), papa_dout(run, node, 0), &region, accumulate);
}

const PapaOp papa_ops_slice[] = {
    {.type = "Slice", .since = 7, .until = 9, .min_in = 1, .max_in = 1, .min_out = 1, .max_out = 1, .attrs_bytes = sizeof(SliceAttrs),
        .init = slice_init, .carries_role = true, .shape = slice_shape, .units = slice_units, .fold = slice_fold, .layout = papa_layout_follow,
        .permute = slice_permute, .forward = slice_forward, .backward = slice_backward},
    {.type = "Slice", .since = 10, .min_in = 3, .max_in = 5, .min_out = 1, .max_out = 1, .attrs_bytes = sizeof(SliceAttrs),
        .carries_role = true, .shape = slice_shape, .units = slice_units, .fold = slice_fold, .layout = papa_layout_follow, .permute = slice_permute,
        .forward = slice_forward, .backward = slice_backward},
    {0},
};
