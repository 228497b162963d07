/* Operators that give elements another shape or type and leave them where they are: Reshape, Flatten, Squeeze, Unsqueeze,
 * Identity, Cast, CastLike. At run time they are views: all float types compute in float32. */
#include "graph/fold.h"
#include "graph/op.h"
#include "graph/units.h"

#include <math.h>

/* Of floats. Integers have nothing behind them at run time. */
static bool is_view(const PapaNode *node, const PapaGraph *graph)
{
    (void)graph;
    return papa_type_is_float(node->in[0]->type) && papa_type_is_float(node->out[0]->type);
}

/* ---------------------------------------------------------------- Reshape */

typedef struct ReshapeAttrs {
    int64_t allowzero;
} ReshapeAttrs;

static PapaStatus reshape_init(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    return papa_attr_int(node->proto, "allowzero", 0, &((ReshapeAttrs *)node->attrs)->allowzero);
}

/* A file made for a fixed batch names it as the first axis of its Reshapes. Where that is the batch's axis, as it was in front of the
 * Reshape, it means the batch at hand. */
static bool is_batch(const PapaNode *node, const PapaGraph *graph, int64_t dim)
{
    const PapaValue *x = node->in[0];
    return x->fed && x->kind != PAPA_VALUE_CONSTANT && graph->file_batch == dim && x->shape.rank && x->shape.dim[0] == graph->inputs[0]->shape.dim[0];
}

static PapaStatus reshape_shape(PapaNode *node, PapaGraph *graph)
{
    const PapaShape *x = &node->in[0]->shape;
    bool allowzero = ((const ReshapeAttrs *)node->attrs)->allowzero;
    const int64_t *dims;
    int64_t n, count = papa_shape_count(x), known = 1;
    PAPA_TRY(papa_const_ints(node, 1, &dims, &n));
    if (n > PAPA_MAX_RANK)
        return papa_node_fail(node, PAPA_ERR_UNSUPPORTED, "to rank %lld, expected at most %d", (long long)n, PAPA_MAX_RANK);
    PapaShape y = {.rank = (int)n};
    int open = -1; /* the axis that is -1 */
    bool zero = false;
    for (int k = 0; k < y.rank; k++) {
        if (dims[k] < -1 || (dims[k] == -1 && open >= 0) || (dims[k] == 0 && !allowzero && k >= x->rank))
            return papa_node_fail(node, PAPA_ERR_FORMAT, "axis %d of the new shape is %lld", k, (long long)dims[k]);
        bool copied = (dims[k] == 0 && !allowzero) || (k == 0 && is_batch(node, graph, dims[k]));
        y.dim[k] = copied ? x->dim[k] : dims[k];
        zero |= y.dim[k] == 0;
        if (dims[k] == -1)
            open = k;
        else if (__builtin_mul_overflow(known, y.dim[k], &known))
            return papa_node_fail(node, PAPA_ERR_FORMAT, "the new shape is too large");
    }
    if (open >= 0 && zero)
        return papa_node_fail(node, PAPA_ERR_FORMAT, "the new shape has a 0, which leaves its -1 undetermined");
    if (open >= 0)
        y.dim[open] = count / known;
    if (open >= 0 ? count % known != 0 : count != known) {
        if (open >= 0)
            y.dim[open] = -1;
        return papa_node_fail(node, PAPA_ERR_MISMATCH, "input of shape %s does not reshape to %s", papa_shape_text(x), papa_shape_text(&y));
    }
    return papa_set_output(node, 0, node->in[0]->type, &y);
}

/* ---------------------------------------------------------------- Flatten */

typedef struct FlattenAttrs {
    int64_t axis;
} FlattenAttrs;

static PapaStatus flatten_init(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    return papa_attr_int(node->proto, "axis", 1, &((FlattenAttrs *)node->attrs)->axis);
}

static PapaStatus flatten_shape(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    const PapaShape *x = &node->in[0]->shape;
    int64_t axis = ((const FlattenAttrs *)node->attrs)->axis;
    int split = x->rank; /* all in front of it, an axis of size 1 behind */
    if (axis != x->rank)
        PAPA_TRY(papa_check_axis(node, axis, x->rank, &split));
    const PapaShape y = {.rank = 2, .dim = {papa_shape_count_from(x, 0, split), papa_shape_count_from(x, split, x->rank)}};
    return papa_set_output(node, 0, node->in[0]->type, &y);
}

/* ---------------------------------------------------------------- Squeeze, Unsqueeze */

typedef struct AxesAttrs {
    const int64_t *axes; /* until opset 12; NULL: left out */
    size_t n;
} AxesAttrs;

static PapaStatus axes_init(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    AxesAttrs *attrs = node->attrs;
    return papa_attr_ints(node->proto, "axes", &attrs->axes, &attrs->n);
}

/* Sets on[k] for every axis that is named; none may be named twice. */
static PapaStatus named_axes(PapaNode *node, const int64_t *axes, int64_t n, int rank, bool on[PAPA_MAX_RANK])
{
    for (int64_t i = 0; i < n; i++) {
        int axis;
        PAPA_TRY(papa_check_axis(node, axes[i], rank, &axis));
        if (on[axis])
            return papa_node_fail(node, PAPA_ERR_FORMAT, "names axis %d twice", axis);
        on[axis] = true;
    }
    return PAPA_OK;
}

static PapaStatus get_axes(const PapaNode *node, const int64_t **axes, int64_t *n)
{
    const AxesAttrs *attrs = node->attrs;
    *axes = attrs->axes;
    *n = (int64_t)attrs->n;
    return node->opset >= 13 ? papa_const_ints(node, 1, axes, n) : PAPA_OK;
}

static PapaStatus squeeze_shape(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    const PapaShape *x = &node->in[0]->shape;
    const int64_t *axes;
    int64_t n;
    bool drop[PAPA_MAX_RANK] = {false};
    PAPA_TRY(get_axes(node, &axes, &n));
    PAPA_TRY(named_axes(node, axes, n, x->rank, drop));
    bool named = node->opset >= 13 ? papa_has_in(node, 1) : axes != NULL; /* an empty list drops nothing */
    PapaShape y = {0};
    for (int k = 0; k < x->rank; k++) {
        if (drop[k] && x->dim[k] != 1)
            return papa_node_fail(node, PAPA_ERR_MISMATCH, "axis %d of the input of shape %s is not 1", k, papa_shape_text(x));
        if (named ? !drop[k] : x->dim[k] != 1)
            y.dim[y.rank++] = x->dim[k];
    }
    return papa_set_output(node, 0, node->in[0]->type, &y);
}

static PapaStatus unsqueeze_shape(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    const PapaShape *x = &node->in[0]->shape;
    const int64_t *axes;
    int64_t n;
    bool insert[PAPA_MAX_RANK] = {false};
    PAPA_TRY(get_axes(node, &axes, &n));
    if (x->rank + n > PAPA_MAX_RANK)
        return papa_node_fail(node, PAPA_ERR_UNSUPPORTED, "to rank %lld, expected at most %d", (long long)(x->rank + n), PAPA_MAX_RANK);
    PapaShape y = {.rank = x->rank + (int)n};
    PAPA_TRY(named_axes(node, axes, n, y.rank, insert));
    for (int k = 0, next = 0; k < y.rank; k++)
        y.dim[k] = insert[k] ? 1 : x->dim[next++];
    return papa_set_output(node, 0, node->in[0]->type, &y);
}

/* ---------------------------------------------------------------- Cast */

typedef struct CastAttrs {
    int64_t to;
} CastAttrs;

static PapaStatus cast_init(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    CastAttrs *attrs = node->attrs;
    PAPA_TRY(papa_attr_int(node->proto, "to", 0, &attrs->to));
    if (attrs->to < 0 || attrs->to > INT32_MAX || (!papa_type_is_float((int)attrs->to) && !papa_type_is_integer((int)attrs->to)))
        return papa_node_fail(node, PAPA_ERR_UNSUPPORTED, "to type %s",
            attrs->to < 0 || attrs->to > INT32_MAX ? "out of range" : papa_type_name((int)attrs->to));
    return PAPA_OK;
}

static PapaStatus cast_shape(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    return papa_set_output(node, 0, (int)((const CastAttrs *)node->attrs)->to, &node->in[0]->shape);
}

/* Integers wrap around to the type's bits, as in numpy. */
static int64_t integer_as(int type, int64_t value)
{
    switch (type) {
    case ONNX__TENSOR_PROTO__DATA_TYPE__BOOL: return value != 0;
    case ONNX__TENSOR_PROTO__DATA_TYPE__INT8: return (int8_t)value;
    case ONNX__TENSOR_PROTO__DATA_TYPE__INT16: return (int16_t)value;
    case ONNX__TENSOR_PROTO__DATA_TYPE__INT32: return (int32_t)value;
    case ONNX__TENSOR_PROTO__DATA_TYPE__UINT8: return (uint8_t)value;
    case ONNX__TENSOR_PROTO__DATA_TYPE__UINT16: return (uint16_t)value;
    case ONNX__TENSOR_PROTO__DATA_TYPE__UINT32: return (uint32_t)value;
    default: return value; /* 64 bits; a UINT64 beyond INT64_MAX can't be told from a negative number here */
    }
}

/* Towards zero. ONNX leaves what is out of range undefined: the nearest end of int64, NaN to 0, then as integers. */
static int64_t integer_from_float(int type, float value)
{
    if (type == ONNX__TENSOR_PROTO__DATA_TYPE__BOOL)
        return value != 0;
    if (isnan(value))
        return 0;
    return integer_as(type, value >= 0x1p63f ? INT64_MAX : value < -0x1p63f ? INT64_MIN : (int64_t)value);
}

static PapaStatus cast_fold(PapaNode *node, PapaGraph *graph)
{
    const PapaValue *x = node->in[0];
    int to = node->out[0]->type;
    int64_t n = papa_shape_count(&x->shape);
    bool float_in = papa_type_is_float(x->type), float_out = papa_type_is_float(to);
    if (float_in && float_out)
        return papa_fold_as_is(node, graph);
    void *y = papa_set_constant(node, graph, 0);
    if (!y)
        return PAPA_ERR_MEMORY;
    for (int64_t i = 0; i < n; i++) {
        if (float_out)
            ((float *)y)[i] = (float)((const int64_t *)x->data)[i];
        else if (float_in)
            ((int64_t *)y)[i] = integer_from_float(to, ((const float *)x->data)[i]);
        else
            ((int64_t *)y)[i] = integer_as(to, ((const int64_t *)x->data)[i]);
    }
    return PAPA_OK;
}

static PapaStatus cast_like_shape(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    return papa_set_output(node, 0, node->in[1]->type, &node->in[0]->shape);
}

/* The second input need not be known: its type is. */
static PapaStatus cast_like_fold(PapaNode *node, PapaGraph *graph)
{
    return node->in[0]->kind == PAPA_VALUE_CONSTANT ? cast_fold(node, graph) : PAPA_OK;
}

const PapaOp papa_ops_reshape[] = {
    {.type = "Reshape", .since = 7, .min_in = 2, .max_in = 2, .min_out = 1, .max_out = 1, .attrs_bytes = sizeof(ReshapeAttrs),
        .init = reshape_init, .carries_role = true, .shape = reshape_shape, .units = papa_units_reshaped, .fold = papa_fold_as_is, .is_view = is_view},
    {.type = "Flatten", .since = 7, .min_in = 1, .max_in = 1, .min_out = 1, .max_out = 1, .attrs_bytes = sizeof(FlattenAttrs),
        .init = flatten_init, .carries_role = true, .shape = flatten_shape, .units = papa_units_reshaped, .fold = papa_fold_as_is, .is_view = is_view},
    {.type = "Squeeze", .since = 7, .until = 12, .min_in = 1, .max_in = 1, .min_out = 1, .max_out = 1, .attrs_bytes = sizeof(AxesAttrs),
        .init = axes_init, .carries_role = true, .shape = squeeze_shape, .units = papa_units_reshaped, .fold = papa_fold_as_is, .is_view = is_view},
    {.type = "Squeeze", .since = 13, .min_in = 1, .max_in = 2, .min_out = 1, .max_out = 1, .attrs_bytes = sizeof(AxesAttrs),
        .carries_role = true, .shape = squeeze_shape, .units = papa_units_reshaped, .fold = papa_fold_as_is, .is_view = is_view},
    {.type = "Unsqueeze", .since = 7, .until = 12, .min_in = 1, .max_in = 1, .min_out = 1, .max_out = 1, .attrs_bytes = sizeof(AxesAttrs),
        .init = axes_init, .carries_role = true, .shape = unsqueeze_shape, .units = papa_units_reshaped, .fold = papa_fold_as_is, .is_view = is_view},
    {.type = "Unsqueeze", .since = 13, .min_in = 2, .max_in = 2, .min_out = 1, .max_out = 1, .attrs_bytes = sizeof(AxesAttrs),
        .carries_role = true, .shape = unsqueeze_shape, .units = papa_units_reshaped, .fold = papa_fold_as_is, .is_view = is_view},
    {.type = "Identity", .since = 7, .min_in = 1, .max_in = 1, .min_out = 1, .max_out = 1, .carries_role = true,
        .shape = papa_shape_same, .units = papa_units_same, .fold = papa_fold_as_is, .is_view = is_view, .layout = papa_layout_follow},
    {.type = "Cast", .since = 7, .min_in = 1, .max_in = 1, .min_out = 1, .max_out = 1, .attrs_bytes = sizeof(CastAttrs),
        .init = cast_init, .carries_role = true, .shape = cast_shape, .units = papa_units_same, .fold = cast_fold, .is_view = is_view,
        .layout = papa_layout_follow},
    {.type = "CastLike", .since = 15, .min_in = 2, .max_in = 2, .min_out = 1, .max_out = 1,
        .carries_role = true, .shape = cast_like_shape, .units = papa_units_same, .fold = cast_like_fold, .fold_by_shape = true, .is_view = is_view,
        .layout = papa_layout_follow},
    {0},
};
