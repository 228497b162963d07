/* What exporters compute shapes with: Shape, Size, ConstantOfShape, Range, comparisons, logic, Where, Mod, Floor, Ceil. They are folded
 * when the graph is built and refused where their inputs are not known by then. */
#include "graph/fold.h"
#include "graph/op.h"

#include <math.h>

/* ---------------------------------------------------------------- Shape, Size */

typedef struct ShapeAttrs {
    int64_t start, end;
} ShapeAttrs;

static PapaStatus shape_init(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    ShapeAttrs *attrs = node->attrs;
    attrs->end = INT64_MAX;
    if (node->opset < 15)
        return PAPA_OK;
    PAPA_TRY(papa_attr_int(node->proto, "start", 0, &attrs->start));
    return papa_attr_int(node->proto, "end", INT64_MAX, &attrs->end);
}

static int64_t clamp_axis(int64_t axis, int rank)
{
    if (axis < 0)
        axis += rank;
    return axis < 0 ? 0 : axis > rank ? rank : axis;
}

static PapaStatus shape_shape(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    const ShapeAttrs *attrs = node->attrs;
    int rank = node->in[0]->shape.rank;
    int64_t start = clamp_axis(attrs->start, rank), end = clamp_axis(attrs->end, rank);
    const PapaShape y = {.rank = 1, .dim = {end > start ? end - start : 0}};
    return papa_set_output(node, 0, ONNX__TENSOR_PROTO__DATA_TYPE__INT64, &y);
}

static PapaStatus shape_fold(PapaNode *node, PapaGraph *graph)
{
    const PapaShape *x = &node->in[0]->shape;
    int64_t start = clamp_axis(((const ShapeAttrs *)node->attrs)->start, x->rank), *y = papa_set_constant(node, graph, 0);
    if (!y)
        return PAPA_ERR_MEMORY;
    for (int64_t i = 0; i < node->out[0]->shape.dim[0]; i++)
        y[i] = x->dim[start + i];
    return PAPA_OK;
}

static PapaStatus size_shape(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    return papa_set_output(node, 0, ONNX__TENSOR_PROTO__DATA_TYPE__INT64, &(PapaShape){0});
}

static PapaStatus size_fold(PapaNode *node, PapaGraph *graph)
{
    int64_t *y = papa_set_constant(node, graph, 0);
    if (!y)
        return PAPA_ERR_MEMORY;
    *y = papa_shape_count(&node->in[0]->shape);
    return PAPA_OK;
}

/* ---------------------------------------------------------------- ConstantOfShape, Range */

typedef struct FillAttrs {
    int type;
    float value;
    int64_t int_value;
} FillAttrs;

static PapaStatus fill_init(PapaNode *node, PapaGraph *graph)
{
    FillAttrs *attrs = node->attrs;
    const Onnx__TensorProto *value;
    attrs->type = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
    PAPA_TRY(papa_attr_tensor(node->proto, "value", &value));
    if (!value)
        return PAPA_OK;
    attrs->type = value->data_type;
    if (papa_tensor_count(value) != 1)
        return papa_node_fail(node, PAPA_ERR_FORMAT, "value has %lld elements, expected 1", (long long)papa_tensor_count(value));
    if (papa_type_is_float(attrs->type))
        return papa_tensor_read_float(graph->onnx, value, &attrs->value, 1);
    if (papa_type_is_integer(attrs->type))
        return papa_tensor_read_int64(graph->onnx, value, &attrs->int_value, 1);
    return papa_node_fail(node, PAPA_ERR_UNSUPPORTED, "value of type %s", papa_type_name(attrs->type));
}

static PapaStatus fill_shape(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    const int64_t *dims;
    int64_t n;
    PAPA_TRY(papa_const_ints(node, 0, &dims, &n));
    if (n > PAPA_MAX_RANK)
        return papa_node_fail(node, PAPA_ERR_UNSUPPORTED, "to rank %lld, expected at most %d", (long long)n, PAPA_MAX_RANK);
    PapaShape y = {.rank = (int)n};
    for (int k = 0; k < y.rank; k++) {
        if (dims[k] < 0)
            return papa_node_fail(node, PAPA_ERR_FORMAT, "axis %d of the shape is %lld", k, (long long)dims[k]);
        y.dim[k] = dims[k];
    }
    return papa_set_output(node, 0, ((const FillAttrs *)node->attrs)->type, &y);
}

static PapaStatus fill_fold(PapaNode *node, PapaGraph *graph)
{
    const FillAttrs *attrs = node->attrs;
    int64_t n = papa_shape_count(&node->out[0]->shape);
    void *y = papa_set_constant(node, graph, 0);
    if (!y)
        return PAPA_ERR_MEMORY;
    for (int64_t i = 0; i < n; i++)
        if (papa_type_is_float(attrs->type))
            ((float *)y)[i] = attrs->value;
        else
            ((int64_t *)y)[i] = attrs->int_value;
    return PAPA_OK;
}

static PapaStatus range_shape(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    PapaShape y = {.rank = 1};
    double n;
    if (papa_type_is_float(node->in[0]->type)) {
        float start, limit, delta;
        PAPA_TRY(papa_const_float(node, 0, 0, &start));
        PAPA_TRY(papa_const_float(node, 1, 0, &limit));
        PAPA_TRY(papa_const_float(node, 2, 0, &delta));
        n = ceil(((double)limit - start) / delta);
    } else {
        const int64_t *bound[3];
        for (int i = 0; i < 3; i++) {
            int64_t count;
            PAPA_TRY(papa_const_ints(node, i, &bound[i], &count));
            if (count != 1)
                return papa_node_fail(node, PAPA_ERR_FORMAT, "input %d has %lld elements, expected 1", i, (long long)count);
        }
        __int128 distance = (__int128)*bound[1] - *bound[0], delta = *bound[2];
        n = delta ? (double)((distance + delta - (delta > 0 ? 1 : -1)) / delta) : NAN;
    }
    if (!isfinite(n) || n > INT32_MAX)
        return papa_node_fail(node, PAPA_ERR_FORMAT, "a range of %g elements", n);
    y.dim[0] = n > 0 ? (int64_t)n : 0;
    return papa_set_output(node, 0, node->in[0]->type, &y);
}

static PapaStatus range_fold(PapaNode *node, PapaGraph *graph)
{
    int64_t n = node->out[0]->shape.dim[0];
    void *y = papa_set_constant(node, graph, 0);
    if (!y)
        return PAPA_ERR_MEMORY;
    for (int64_t i = 0; i < n; i++)
        if (papa_type_is_float(node->in[0]->type))
            ((float *)y)[i] = (float)(*(const float *)node->in[0]->data + (double)i * *(const float *)node->in[2]->data);
        else
            ((int64_t *)y)[i] = (int64_t)(*(const uint64_t *)node->in[0]->data + (uint64_t)i * *(const uint64_t *)node->in[2]->data); /* i * delta alone may overflow */
    return PAPA_OK;
}

/* ---------------------------------------------------------------- element by element */

static PapaStatus check_known_type(const PapaNode *node, int i)
{
    int type = node->in[i]->type;
    if (papa_type_is_float(type) || papa_type_is_integer(type))
        return PAPA_OK;
    return papa_node_fail(node, PAPA_ERR_UNSUPPORTED, "input %d is of type %s", i, papa_type_name(type));
}

static PapaStatus test_shape(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    PapaShape y;
    PAPA_TRY(check_known_type(node, 0));
    if (node->in[0]->type != node->in[1]->type)
        return papa_node_fail(node, PAPA_ERR_MISMATCH, "inputs of types %s and %s", papa_type_name(node->in[0]->type),
            papa_type_name(node->in[1]->type));
    PAPA_TRY(papa_broadcast(node, &node->in[0]->shape, &node->in[1]->shape, &y));
    return papa_set_output(node, 0, ONNX__TENSOR_PROTO__DATA_TYPE__BOOL, &y);
}

/* Bit k of truth: the result where two elements stand in relation k, by one of these two tables. */
enum { LESS = 1 << 0, EQUAL = 1 << 1, GREATER = 1 << 2, UNORDERED = 1 << 3 };
enum { NEITHER = 1 << 0, FIRST = 1 << 1, SECOND = 1 << 2, BOTH = 1 << 3 };

static unsigned order(const PapaValue *a, const PapaValue *b, int64_t i, int64_t j)
{
    if (papa_type_is_float(a->type)) {
        float x = ((const float *)a->data)[i], y = ((const float *)b->data)[j];
        return x < y ? LESS : x == y ? EQUAL : x > y ? GREATER : UNORDERED;
    }
    int64_t x = ((const int64_t *)a->data)[i], y = ((const int64_t *)b->data)[j];
    return x < y ? LESS : x == y ? EQUAL : GREATER;
}

static unsigned truth_of_both(const PapaValue *a, const PapaValue *b, int64_t i, int64_t j)
{
    return 1u << ((((const int64_t *)a->data)[i] != 0) | (((const int64_t *)b->data)[j] != 0) << 1);
}

static PapaStatus test_fold(PapaNode *node, PapaGraph *graph, unsigned (*relation)(const PapaValue *, const PapaValue *, int64_t, int64_t),
    unsigned truth)
{
    const PapaValue *a = node->in[0], *b = node->in[1];
    const PapaShape *shape = &node->out[0]->shape;
    int64_t n = papa_shape_count(shape), *y = papa_set_constant(node, graph, 0);
    if (!y)
        return PAPA_ERR_MEMORY;
    for (int64_t i = 0; i < n; i++)
        y[i] = (relation(a, b, papa_broadcast_at(shape, &a->shape, i), papa_broadcast_at(shape, &b->shape, i)) & truth) != 0;
    return PAPA_OK;
}

static PapaStatus equal_fold(PapaNode *node, PapaGraph *graph) { return test_fold(node, graph, order, EQUAL); }
static PapaStatus less_fold(PapaNode *node, PapaGraph *graph) { return test_fold(node, graph, order, LESS); }
static PapaStatus less_or_equal_fold(PapaNode *node, PapaGraph *graph) { return test_fold(node, graph, order, LESS | EQUAL); }
static PapaStatus greater_fold(PapaNode *node, PapaGraph *graph) { return test_fold(node, graph, order, GREATER); }
static PapaStatus greater_or_equal_fold(PapaNode *node, PapaGraph *graph) { return test_fold(node, graph, order, GREATER | EQUAL); }
static PapaStatus and_fold(PapaNode *node, PapaGraph *graph) { return test_fold(node, graph, truth_of_both, BOTH); }
static PapaStatus or_fold(PapaNode *node, PapaGraph *graph) { return test_fold(node, graph, truth_of_both, FIRST | SECOND | BOTH); }
static PapaStatus xor_fold(PapaNode *node, PapaGraph *graph) { return test_fold(node, graph, truth_of_both, FIRST | SECOND); }

static PapaStatus check_bool(const PapaNode *node, int i)
{
    return node->in[i]->type == ONNX__TENSOR_PROTO__DATA_TYPE__BOOL ? PAPA_OK :
        papa_node_fail(node, PAPA_ERR_FORMAT, "input %d is of type %s, expected BOOL", i, papa_type_name(node->in[i]->type));
}

static PapaStatus logic_shape(PapaNode *node, PapaGraph *graph)
{
    for (int i = 0; i < node->n_in; i++)
        PAPA_TRY(check_bool(node, i));
    return node->n_in == 1 ? papa_shape_same(node, graph) : test_shape(node, graph);
}

static PapaStatus not_fold(PapaNode *node, PapaGraph *graph)
{
    int64_t n = papa_shape_count(&node->in[0]->shape), *y = papa_set_constant(node, graph, 0);
    if (!y)
        return PAPA_ERR_MEMORY;
    for (int64_t i = 0; i < n; i++)
        y[i] = !((const int64_t *)node->in[0]->data)[i];
    return PAPA_OK;
}

static PapaStatus where_shape(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    PapaShape both, y;
    PAPA_TRY(check_bool(node, 0));
    PAPA_TRY(check_known_type(node, 1));
    if (node->in[1]->type != node->in[2]->type)
        return papa_node_fail(node, PAPA_ERR_MISMATCH, "inputs of types %s and %s", papa_type_name(node->in[1]->type),
            papa_type_name(node->in[2]->type));
    PAPA_TRY(papa_broadcast(node, &node->in[0]->shape, &node->in[1]->shape, &both));
    PAPA_TRY(papa_broadcast(node, &both, &node->in[2]->shape, &y));
    return papa_set_output(node, 0, node->in[1]->type, &y);
}

static PapaStatus where_fold(PapaNode *node, PapaGraph *graph)
{
    const PapaShape *shape = &node->out[0]->shape;
    const int64_t *condition = node->in[0]->data;
    int64_t n = papa_shape_count(shape);
    void *y = papa_set_constant(node, graph, 0);
    if (!y)
        return PAPA_ERR_MEMORY;
    for (int64_t i = 0; i < n; i++) {
        const PapaValue *x = node->in[condition[papa_broadcast_at(shape, &node->in[0]->shape, i)] ? 1 : 2];
        int64_t at = papa_broadcast_at(shape, &x->shape, i);
        if (papa_type_is_float(x->type))
            ((float *)y)[i] = ((const float *)x->data)[at];
        else
            ((int64_t *)y)[i] = ((const int64_t *)x->data)[at];
    }
    return PAPA_OK;
}

/* ---------------------------------------------------------------- Mod */

typedef struct ModAttrs {
    int64_t fmod; /* 1: the result has the sign of the first, as C's % has; 0: of the second */
} ModAttrs;

static PapaStatus mod_init(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    return papa_attr_int(node->proto, "fmod", 0, &((ModAttrs *)node->attrs)->fmod);
}

static PapaStatus mod_shape(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    const int type = node->in[0]->type;
    PapaShape y;
    if (!papa_type_is_integer(type) || node->in[1]->type != type)
        return papa_node_fail(node, PAPA_ERR_UNSUPPORTED, "inputs of types %s and %s, expected integers of one type", papa_type_name(type),
            papa_type_name(node->in[1]->type));
    PAPA_TRY(papa_broadcast(node, &node->in[0]->shape, &node->in[1]->shape, &y));
    return papa_set_output(node, 0, type, &y);
}

static PapaStatus mod_fold(PapaNode *node, PapaGraph *graph)
{
    const PapaValue *a = node->in[0], *b = node->in[1];
    const PapaShape *shape = &node->out[0]->shape;
    const int64_t n = papa_shape_count(shape);
    int64_t *y = papa_set_constant(node, graph, 0);
    if (!y)
        return PAPA_ERR_MEMORY;
    for (int64_t i = 0; i < n; i++) {
        const int64_t of = ((const int64_t *)a->data)[papa_broadcast_at(shape, &a->shape, i)];
        const int64_t by = ((const int64_t *)b->data)[papa_broadcast_at(shape, &b->shape, i)];
        if (!by)
            return papa_node_fail(node, PAPA_ERR_FORMAT, "%lld modulo 0", (long long)of);
        y[i] = by == -1 ? 0 : of % by; /* INT64_MIN % -1 overflows */
        if (!((const ModAttrs *)node->attrs)->fmod && y[i] && (y[i] < 0) != (by < 0))
            y[i] += by;
    }
    return PAPA_OK;
}

/* ---------------------------------------------------------------- Floor, Ceil */

static PapaStatus round_shape(PapaNode *node, PapaGraph *graph)
{
    PAPA_TRY(papa_check_float(node, 0));
    return papa_shape_same(node, graph);
}

static PapaStatus round_fold(PapaNode *node, PapaGraph *graph, float (*round)(float))
{
    int64_t n = papa_shape_count(&node->in[0]->shape);
    float *y = papa_set_constant(node, graph, 0);
    if (!y)
        return PAPA_ERR_MEMORY;
    for (int64_t i = 0; i < n; i++)
        y[i] = round(((const float *)node->in[0]->data)[i]);
    return PAPA_OK;
}

static PapaStatus floor_fold(PapaNode *node, PapaGraph *graph) { return round_fold(node, graph, floorf); }
static PapaStatus ceil_fold(PapaNode *node, PapaGraph *graph) { return round_fold(node, graph, ceilf); }

#define UNARY .min_in = 1, .max_in = 1, .min_out = 1, .max_out = 1
#define BINARY .min_in = 2, .max_in = 2, .min_out = 1, .max_out = 1
#define TERNARY .min_in = 3, .max_in = 3, .min_out = 1, .max_out = 1

const PapaOp papa_ops_constant[] = {
    {.type = "Shape", .since = 7, UNARY, .attrs_bytes = sizeof(ShapeAttrs), .init = shape_init, .shape = shape_shape, .fold = shape_fold,
        .fold_by_shape = true},
    {.type = "Size", .since = 7, UNARY, .shape = size_shape, .fold = size_fold, .fold_by_shape = true},
    {.type = "ConstantOfShape", .since = 9, UNARY, .attrs_bytes = sizeof(FillAttrs), .init = fill_init, .shape = fill_shape,
        .fold = fill_fold},
    {.type = "Range", .since = 11, TERNARY, .shape = range_shape, .fold = range_fold},
    {.type = "Equal", .since = 7, BINARY, .shape = test_shape, .fold = equal_fold},
    {.type = "Less", .since = 7, BINARY, .shape = test_shape, .fold = less_fold},
    {.type = "LessOrEqual", .since = 12, BINARY, .shape = test_shape, .fold = less_or_equal_fold},
    {.type = "Greater", .since = 7, BINARY, .shape = test_shape, .fold = greater_fold},
    {.type = "GreaterOrEqual", .since = 12, BINARY, .shape = test_shape, .fold = greater_or_equal_fold},
    {.type = "And", .since = 7, BINARY, .shape = logic_shape, .fold = and_fold},
    {.type = "Or", .since = 7, BINARY, .shape = logic_shape, .fold = or_fold},
    {.type = "Xor", .since = 7, BINARY, .shape = logic_shape, .fold = xor_fold},
    {.type = "Not", .since = 7, UNARY, .shape = logic_shape, .fold = not_fold},
    {.type = "Where", .since = 9, TERNARY, .shape = where_shape, .fold = where_fold},
    {.type = "Mod", .since = 10, BINARY, .attrs_bytes = sizeof(ModAttrs), .init = mod_init, .shape = mod_shape, .fold = mod_fold},
    {.type = "Floor", .since = 7, UNARY, .shape = round_shape, .fold = floor_fold},
    {.type = "Ceil", .since = 7, UNARY, .shape = round_shape, .fold = ceil_fold},
    {0},
};
