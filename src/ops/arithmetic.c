/* Add, Sub, Mul, Div and Sum with numpy's broadcasting. Besides their work on activations they do the shape arithmetic
 * that exporters put into files, on integers, when the graph is built.
 *
 * A tensor of the file that is added is a bias, one that is multiplied by is a scale; not where the other operand is the
 * image itself (then it normalises), and not a single number (a constant of the architecture). */
#include "graph/fold.h"
#include "graph/op.h"
#include "graph/units.h"
#include "kernels/eltwise.h"
#include "kernels/reduce.h"

typedef struct Arithmetic {
    PapaBinary f;
} Arithmetic;

#define BINARY_INIT(name, f_)                                       \
    static PapaStatus name##_init(PapaNode *node, PapaGraph *graph) \
    {                                                               \
        (void)graph;                                                \
        ((Arithmetic *)node->attrs)->f = f_;                        \
        return PAPA_OK;                                             \
    }
BINARY_INIT(add, PAPA_BINARY_ADD)
BINARY_INIT(sub, PAPA_BINARY_SUB)
BINARY_INIT(mul, PAPA_BINARY_MUL)
BINARY_INIT(div, PAPA_BINARY_DIV)

static PapaRole arithmetic_role(const PapaNode *node, int input, int64_t *fan_in)
{
    (void)fan_in;
    if (node->on_input || papa_shape_count(&node->in[input]->shape) <= 1)
        return PAPA_ROLE_NONE;
    switch (((const Arithmetic *)node->attrs)->f) {
    case PAPA_BINARY_ADD: return PAPA_ROLE_BIAS;
    case PAPA_BINARY_MUL: return PAPA_ROLE_SCALE;
    case PAPA_BINARY_SUB: return input == 1 ? PAPA_ROLE_SHIFT : PAPA_ROLE_NONE;
    case PAPA_BINARY_DIV: return PAPA_ROLE_NONE;
    }
    return PAPA_ROLE_NONE;
}

static PapaStatus arithmetic_shape(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    const int type = node->in[0]->type;
    PapaShape shape = node->in[0]->shape;
    for (int i = 1; i < node->n_in; i++) {
        if (node->in[i]->type != type)
            return papa_node_fail(node, PAPA_ERR_FORMAT, "input %d is %s, expected %s as input 0", i, papa_type_name(node->in[i]->type),
                papa_type_name(type));
        PAPA_TRY(papa_broadcast(node, &shape, &node->in[i]->shape, &shape));
    }
    if (!papa_type_is_float(type) && !papa_all_constant(node))
        return papa_node_fail(node, PAPA_ERR_UNSUPPORTED, "inputs are %s and not known when the graph is built, expected a float type",
            papa_type_name(type));
    return papa_set_output(node, 0, type, &shape);
}

/* ---------------------------------------------------------------- constants */

static float float_result(PapaBinary f, float a, float b)
{
    switch (f) {
    case PAPA_BINARY_ADD: return a + b;
    case PAPA_BINARY_SUB: return a - b;
    case PAPA_BINARY_MUL: return a * b;
    case PAPA_BINARY_DIV: return a / b;
    }
    return 0;
}

/* Wraps on overflow, as ONNX's integers do; division truncates towards zero. b is not 0 for a division. */
static int64_t integer_result(PapaBinary f, int64_t a, int64_t b)
{
    switch (f) {
    case PAPA_BINARY_ADD: return (int64_t)((uint64_t)a + (uint64_t)b);
    case PAPA_BINARY_SUB: return (int64_t)((uint64_t)a - (uint64_t)b);
    case PAPA_BINARY_MUL: return (int64_t)((uint64_t)a * (uint64_t)b);
    case PAPA_BINARY_DIV: return b == -1 ? (int64_t)-(uint64_t)a : a / b;
    }
    return 0;
}

/* data = f(a, b) element by element, in out[0]'s shape; data may be a's where that has the same shape. */
static PapaStatus fold_pair(const PapaNode *node, PapaBinary f, void *data, const PapaShape *a_shape, const void *a, const PapaValue *b)
{
    const PapaShape *shape = &node->out[0]->shape;
    const int64_t n = papa_shape_count(shape);
    for (int64_t i = 0; i < n; i++) {
        const int64_t at_a = papa_broadcast_at(shape, a_shape, i), at_b = papa_broadcast_at(shape, &b->shape, i);
        if (papa_type_is_float(b->type)) {
            ((float *)data)[i] = float_result(f, ((const float *)a)[at_a], ((const float *)b->data)[at_b]);
            continue;
        }
        const int64_t x = ((const int64_t *)a)[at_a], y = ((const int64_t *)b->data)[at_b];
        if (f == PAPA_BINARY_DIV && !y)
            return papa_node_fail(node, PAPA_ERR_FORMAT, "%lld divided by 0", (long long)x);
        ((int64_t *)data)[i] = integer_result(f, x, y);
    }
    return PAPA_OK;
}

static PapaStatus arithmetic_fold(PapaNode *node, PapaGraph *graph)
{
    const PapaValue *a = node->in[0];
    void *data = papa_set_constant(node, graph, 0);
    if (!data)
        return PAPA_ERR_MEMORY;
    return fold_pair(node, ((const Arithmetic *)node->attrs)->f, data, &a->shape, a->data, node->in[1]);
}

/* Sum: the zeroed result, plus each input in turn. */
static PapaStatus sum_fold(PapaNode *node, PapaGraph *graph)
{
    void *data = papa_set_constant(node, graph, 0);
    if (!data)
        return PAPA_ERR_MEMORY;
    for (int i = 0; i < node->n_in; i++)
        PAPA_TRY(fold_pair(node, PAPA_BINARY_ADD, data, &node->out[0]->shape, data, node->in[i]));
    return PAPA_OK;
}

/* ---------------------------------------------------------------- execution of two operands */

static PapaWalk walk_of(const PapaNode *node, const PapaShape *a, const PapaShape *b)
{
    const PapaShape *space = &node->out[0]->shape;
    int64_t a_stride[PAPA_MAX_RANK], b_stride[PAPA_MAX_RANK];
    PapaWalk walk;
    papa_walk_strides(a_stride, space->rank, a->rank, a->dim);
    papa_walk_strides(b_stride, space->rank, b->rank, b->dim);
    papa_walk_make(&walk, space->rank, space->dim, a_stride, b_stride);
    return walk;
}

static unsigned arithmetic_keeps(const PapaNode *node, const PapaGraph *graph)
{
    (void)graph;
    const unsigned y = node->relu ? PAPA_KEEP_OUT(0) : 0;
    switch (((const Arithmetic *)node->attrs)->f) {
    case PAPA_BINARY_ADD:
    case PAPA_BINARY_SUB: return y;
    case PAPA_BINARY_MUL: return y | (node->in[1]->wants_grad ? PAPA_KEEP_IN(0) : 0) | (node->in[0]->wants_grad ? PAPA_KEEP_IN(1) : 0);
    case PAPA_BINARY_DIV: return y | (node->in[1]->wants_grad ? PAPA_KEEP_IN(0) : 0) | PAPA_KEEP_IN(1);
    }
    return y;
}

static PapaStatus arithmetic_forward(const PapaNode *node, const PapaRun *run)
{
    const PapaWalk walk = walk_of(node, &node->in[0]->shape, &node->in[1]->shape);
    return PAPA_FORWARD_KERNEL(run->dev, papa_binary_fwd)(run->dev, ((const Arithmetic *)node->attrs)->f, papa_out(run, node, 0),
        papa_in(run, node, 0), papa_in(run, node, 1), &walk, node->relu);
}

static PapaStatus arithmetic_backward(const PapaNode *node, const PapaRun *run)
{
    const PapaBinary f = ((const Arithmetic *)node->attrs)->f;
    const PapaShape *shape = &node->out[0]->shape;
    const PapaWalk walk = walk_of(node, &node->in[0]->shape, &node->in[1]->shape);
    PapaReal *dy = papa_dout(run, node, 0);
    if (node->relu)
        PAPA_TRY(PAPA_KERNEL(run->dev, papa_relu_bwd)(run->dev, dy, dy, papa_out(run, node, 0), papa_shape_count(shape), false));
    for (int i = 0; i < 2; i++) {
        PapaReal *d = papa_din(run, node, i);
        if (d)
            PAPA_TRY(PAPA_KERNEL(run->dev, papa_binary_bwd)(run->dev, f, i, d, dy, papa_in(run, node, 0), papa_in(run, node, 1), &walk,
                papa_din_accumulate(run, node, i)));
    }
    return PAPA_OK;
}

/* ---------------------------------------------------------------- execution of Sum */

static PapaRole sum_role(const PapaNode *node, int input, int64_t *fan_in)
{
    (void)fan_in;
    return node->on_input || papa_shape_count(&node->in[input]->shape) <= 1 ? PAPA_ROLE_NONE : PAPA_ROLE_BIAS;
}

/* y = in[0], repeated to the full shape, plus the others in turn. */
static PapaStatus sum_forward(const PapaNode *node, const PapaRun *run)
{
    const PapaShape *shape = &node->out[0]->shape;
    PapaReal *y = papa_out(run, node, 0);
    const PapaWalk first = walk_of(node, &node->in[0]->shape, shape);
    PAPA_TRY(PAPA_FORWARD_KERNEL(run->dev, papa_spread)(run->dev, y, papa_in(run, node, 0), &first, 1, false));
    for (int i = 1; i < node->n_in; i++) {
        const PapaWalk walk = walk_of(node, shape, &node->in[i]->shape);
        PAPA_TRY(PAPA_FORWARD_KERNEL(run->dev, papa_binary_fwd)(run->dev, PAPA_BINARY_ADD, y, y, papa_in(run, node, i), &walk, false));
    }
    return PAPA_OK;
}

static PapaStatus sum_backward(const PapaNode *node, const PapaRun *run)
{
    const PapaShape *shape = &node->out[0]->shape;
    for (int i = 0; i < node->n_in; i++) {
        PapaReal *d = papa_din(run, node, i);
        const PapaWalk walk = walk_of(node, &node->in[i]->shape, shape);
        if (d)
            PAPA_TRY(PAPA_KERNEL(run->dev, papa_sum)(run->dev, d, papa_dout(run, node, 0), &walk, 1, papa_din_accumulate(run, node, i)));
    }
    return PAPA_OK;
}

#define ARITHMETIC(name, init_)                                                                                               \
    .type = name, .since = 7, .min_in = 2, .max_in = 2, .min_out = 1, .max_out = 1, .attrs_bytes = sizeof(Arithmetic),        \
    .init = init_, .role = arithmetic_role, .shape = arithmetic_shape, .units = papa_units_elementwise, .fold = arithmetic_fold, .layout = papa_layout_follow, \
    .keeps = arithmetic_keeps, .forward = arithmetic_forward, .backward = arithmetic_backward

extern const PapaOp papa_ops_arithmetic[];
const PapaOp papa_ops_arithmetic[] = {
    {ARITHMETIC("Add", add_init), .fuses = PAPA_FUSE_RELU},
    {ARITHMETIC("Sub", sub_init)},
    {ARITHMETIC("Mul", mul_init)},
    {ARITHMETIC("Div", div_init)},
    {.type = "Sum", .since = 7, .min_in = 1, .max_in = -1, .min_out = 1, .max_out = 1, .role = sum_role, .shape = arithmetic_shape,
     .units = papa_units_elementwise, .fold = sum_fold, .layout = papa_layout_follow, .forward = sum_forward, .backward = sum_backward},
    {0},
};
