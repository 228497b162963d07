/* ReduceMean and ReduceSum; and, on constants only, ReduceMax, ReduceMin and ReduceProd, which exporters use on shapes. */
#include "graph/op.h"
#include "graph/units.h"
#include "kernels/reduce.h"

#include <math.h>
#include <string.h>

enum { BOOL = ONNX__TENSOR_PROTO__DATA_TYPE__BOOL };
typedef enum ReduceKind { REDUCE_MEAN, REDUCE_SUM, REDUCE_MAX, REDUCE_MIN, REDUCE_PROD } ReduceKind;

typedef struct Reduce {
    ReduceKind kind;
    int axes_input_since;    /* opset from which the axes are in[1]; an attribute before */
    bool keepdims, noop_with_empty_axes;
    bool axis[PAPA_MAX_RANK]; /* which are reduced, in the order of axes of the shape */
} Reduce;

/* ---------------------------------------------------------------- attributes */

static PapaStatus init(PapaNode *node, ReduceKind kind, int axes_input_since)
{
    Reduce *reduce = node->attrs;
    int64_t keepdims, noop = 0;
    PAPA_TRY(papa_attr_int(node->proto, "keepdims", 1, &keepdims));
    if (node->opset >= axes_input_since)
        PAPA_TRY(papa_attr_int(node->proto, "noop_with_empty_axes", 0, &noop));
    else if (papa_has_in(node, 1))
        return papa_node_fail(node, PAPA_ERR_FORMAT, "axes are an input, which opset %lld does not have", (long long)node->opset);
    *reduce = (Reduce){.kind = kind, .axes_input_since = axes_input_since, .keepdims = keepdims, .noop_with_empty_axes = noop};
    return PAPA_OK;
}

#define REDUCE_INIT(name, kind, axes_input_since)                   \
    static PapaStatus name##_init(PapaNode *node, PapaGraph *graph) \
    {                                                               \
        (void)graph;                                                \
        return init(node, kind, axes_input_since);                  \
    }
REDUCE_INIT(mean, REDUCE_MEAN, 18)
REDUCE_INIT(sum, REDUCE_SUM, 13)
REDUCE_INIT(max, REDUCE_MAX, 18)
REDUCE_INIT(min, REDUCE_MIN, 18)
REDUCE_INIT(prod, REDUCE_PROD, 18)

/* ---------------------------------------------------------------- shape */

static PapaStatus find_axes(PapaNode *node)
{
    Reduce *reduce = node->attrs;
    const int rank = node->in[0]->shape.rank;
    const int64_t *axes;
    int64_t n;
    if (node->opset >= reduce->axes_input_since) {
        PAPA_TRY(papa_const_ints(node, 1, &axes, &n));
    } else {
        size_t count;
        PAPA_TRY(papa_attr_ints(node->proto, "axes", &axes, &count));
        n = (int64_t)count;
    }
    for (int k = 0; k < rank; k++)
        reduce->axis[k] = !n && !reduce->noop_with_empty_axes;
    for (int64_t i = 0; i < n; i++) {
        int axis;
        PAPA_TRY(papa_check_axis(node, axes[i], rank, &axis));
        if (reduce->axis[axis])
            return papa_node_fail(node, PAPA_ERR_FORMAT, "axis %d is listed twice", axis);
        reduce->axis[axis] = true;
    }
    return PAPA_OK;
}

static PapaStatus reduce_shape(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    const Reduce *reduce = node->attrs;
    const PapaValue *in = node->in[0];
    PapaShape y = {.rank = 0};
    PAPA_TRY(find_axes(node));
    if (in->kind != PAPA_VALUE_CONSTANT && !papa_type_is_float(in->type))
        return papa_node_fail(node, PAPA_ERR_UNSUPPORTED, "input is %s and not known when the graph is built, expected a float type",
            papa_type_name(in->type));
    if (in->kind != PAPA_VALUE_CONSTANT && reduce->kind != REDUCE_MEAN && reduce->kind != REDUCE_SUM)
        return papa_node_fail(node, PAPA_ERR_UNSUPPORTED, "input is not known when the graph is built: %s is supported on constants only",
            node->op->type);
    for (int k = 0; k < in->shape.rank; k++)
        if (!reduce->axis[k] || reduce->keepdims)
            y.dim[y.rank++] = reduce->axis[k] ? 1 : in->shape.dim[k];
    return papa_set_output(node, 0, in->type, &y);
}

/* The order along the axes that are summed means nothing, but each sum is apart from the others. */
static void reduce_units(const PapaNode *node, PapaUnits *units)
{
    const Reduce *reduce = node->attrs;
    PapaSpace x = papa_units_in(units, node, 0), *y = papa_units_out(units, node, 0);
    unsigned summed = 0;
    for (int k = 0; k < x.shape.rank; k++)
        summed |= (unsigned)reduce->axis[k] << k;
    papa_units_stack(units, &x, ~summed);
    for (int k = 0, j = 0; k < x.shape.rank; k++)
        if (!reduce->axis[k])
            y->axis[j++] = papa_units_bundle(&x, k) & summed ? (PapaAxis){0} : x.axis[k];
        else
            j += reduce->keepdims;
}

/* With rank 3 or more, channels-last moves axis 1 behind the others. The output's axes keep their order if it is moved as
 * well (keepdims), or if the channels or all axes behind them are gone. */
static PapaLayout reduce_layout(const PapaNode *node, const PapaGraph *graph)
{
    (void)graph;
    const Reduce *reduce = node->attrs;
    const int rank = node->in[0]->shape.rank;
    bool spatial_left = false;
    for (int k = 2; k < rank; k++)
        spatial_left |= !reduce->axis[k];
    const bool any_order = reduce->keepdims || rank < 3 || reduce->axis[1] || !spatial_left;
    return any_order ? PAPA_LAYOUT_FOLLOW : PAPA_LAYOUT_LOGICAL;
}

static void reduce_permute(PapaNode *node, int rank)
{
    Reduce *reduce = node->attrs;
    bool axis[PAPA_MAX_RANK];
    for (int k = 0; k < rank; k++)
        axis[papa_axis_to_channels_last(k, rank)] = reduce->axis[k];
    memcpy(reduce->axis, axis, (size_t)rank * sizeof *axis);
}

/* The input's space, with the output's strides in it. */
static PapaWalk walk_of(const PapaNode *node)
{
    const Reduce *reduce = node->attrs;
    const PapaShape *x = &node->in[0]->shape;
    int64_t kept[PAPA_MAX_RANK], stride[PAPA_MAX_RANK], none[PAPA_MAX_RANK] = {0};
    PapaWalk walk;
    for (int k = 0; k < x->rank; k++)
        kept[k] = reduce->axis[k] ? 1 : x->dim[k];
    papa_walk_strides(stride, x->rank, x->rank, kept);
    papa_walk_make(&walk, x->rank, x->dim, stride, none);
    return walk;
}

/* 1, or for a mean 1 / the number of elements behind one result. */
static double scale_of(const PapaNode *node)
{
    const Reduce *reduce = node->attrs;
    const PapaShape *x = &node->in[0]->shape;
    int64_t n = 1;
    for (int k = 0; k < x->rank; k++)
        n *= reduce->axis[k] ? x->dim[k] : 1;
    return reduce->kind == REDUCE_MEAN ? 1 / (double)n : 1;
}

/* ---------------------------------------------------------------- constants */

static float fold_float(ReduceKind kind, float a, float x)
{
    switch (kind) {
    case REDUCE_MEAN:
    case REDUCE_SUM: return a + x;
    case REDUCE_MAX: return a > x || a != a ? a : x;
    case REDUCE_MIN: return a < x || a != a ? a : x;
    case REDUCE_PROD: return a * x;
    }
    return a;
}

static int64_t fold_integer(ReduceKind kind, int64_t a, int64_t x)
{
    switch (kind) {
    case REDUCE_MEAN:
    case REDUCE_SUM: return (int64_t)((uint64_t)a + (uint64_t)x); /* wraps, as ONNX's integers do */
    case REDUCE_MAX: return a > x ? a : x;
    case REDUCE_MIN: return a < x ? a : x;
    case REDUCE_PROD: return (int64_t)((uint64_t)a * (uint64_t)x);
    }
    return a;
}

/* One pass over the input: the first element that falls on a result starts it, the others are joined to it. */
static void fold_elements(const PapaNode *node, const PapaWalk *walk, void *to)
{
    const ReduceKind kind = ((const Reduce *)node->attrs)->kind;
    const bool is_float = papa_type_is_float(node->in[0]->type);
    const void *data = node->in[0]->data;
    const int64_t count = papa_walk_count(walk);
    for (int64_t i = 0; i < count; i++) {
        int64_t at = 0, rest = i;
        bool first = true;
        for (int k = walk->rank - 1; k >= 0; rest /= walk->dim[k--]) {
            const int64_t index = rest % walk->dim[k];
            at += index * walk->a[k];
            first &= walk->a[k] || !index;
        }
        if (is_float) {
            const float x = ((const float *)data)[i], a = ((float *)to)[at];
            ((float *)to)[at] = first ? x : fold_float(kind, a, x);
        } else {
            const int64_t x = ((const int64_t *)data)[i], a = ((int64_t *)to)[at];
            ((int64_t *)to)[at] = first ? x : fold_integer(kind, a, x);
        }
    }
}

static PapaStatus reduce_fold(PapaNode *node, PapaGraph *graph)
{
    const ReduceKind kind = ((const Reduce *)node->attrs)->kind;
    const bool is_float = papa_type_is_float(node->in[0]->type);
    const int64_t n_in = papa_shape_count(&node->in[0]->shape), n_out = papa_shape_count(&node->out[0]->shape);
    const PapaWalk walk = walk_of(node);
    if (!n_in && n_out && !is_float && (kind == REDUCE_MEAN || (kind != REDUCE_SUM && kind != REDUCE_PROD && node->in[0]->type != BOOL)))
        return papa_node_fail(node, PAPA_ERR_UNSUPPORTED, "reduces no elements of type %s", papa_type_name(node->in[0]->type));
    void *to = papa_set_constant(node, graph, 0);
    if (!to)
        return PAPA_ERR_MEMORY;
    static const float neutral[] = {[REDUCE_MAX] = -INFINITY, [REDUCE_MIN] = INFINITY, [REDUCE_PROD] = 1}; /* of nothing */
    for (int64_t i = 0; i < n_out; i++) {
        if (is_float)
            ((float *)to)[i] = neutral[kind];
        else
            ((int64_t *)to)[i] = neutral[kind] > 0;
    }
    fold_elements(node, &walk, to);
    for (int64_t i = 0; kind == REDUCE_MEAN && i < n_out; i++) {
        if (is_float)
            ((float *)to)[i] /= (float)(n_in / n_out);
        else
            ((int64_t *)to)[i] /= n_in / n_out;
    }
    return PAPA_OK;
}

/* ---------------------------------------------------------------- execution of ReduceMean and ReduceSum */

static PapaStatus reduce_forward(const PapaNode *node, const PapaRun *run)
{
    const PapaWalk walk = walk_of(node);
    return PAPA_FORWARD_KERNEL(run->dev, papa_sum)(run->dev, papa_out(run, node, 0), papa_in(run, node, 0), &walk, scale_of(node), false);
}

static PapaStatus reduce_backward(const PapaNode *node, const PapaRun *run)
{
    const PapaWalk walk = walk_of(node);
    PapaReal *dx = papa_din(run, node, 0);
    if (!dx)
        return PAPA_OK;
    return PAPA_KERNEL(run->dev, papa_spread)(run->dev, dx, papa_dout(run, node, 0), &walk, scale_of(node), papa_din_accumulate(run, node, 0));
}

#define REDUCE(name, init_)                                                                                                 \
    .type = name, .since = 7, .min_in = 1, .max_in = 2, .min_out = 1, .max_out = 1, .attrs_bytes = sizeof(Reduce),          \
    .init = init_, .shape = reduce_shape, .units = reduce_units, .fold = reduce_fold, .layout = reduce_layout, .permute = reduce_permute

extern const PapaOp papa_ops_reduce[];
const PapaOp papa_ops_reduce[] = {
    {REDUCE("ReduceMean", mean_init), .forward = reduce_forward, .backward = reduce_backward},
    {REDUCE("ReduceSum", sum_init), .forward = reduce_forward, .backward = reduce_backward},
    {REDUCE("ReduceMax", max_init)},
    {REDUCE("ReduceMin", min_init)},
    {REDUCE("ReduceProd", prod_init)},
    {0},
};
