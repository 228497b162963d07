/* Rows that move or rename elements: older opsets say the same as the current one; what a file must not say is refused with a line
 * that names the node. Shapes, folding of integers at the edges of their types, roles that are carried. */
#include "nodetest.h"

#define DIMS(...) (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]){__VA_ARGS__}
enum {
    BOOL = ONNX__TENSOR_PROTO__DATA_TYPE__BOOL,
    INT8 = ONNX__TENSOR_PROTO__DATA_TYPE__INT8,
    INT32 = ONNX__TENSOR_PROTO__DATA_TYPE__INT32,
    UINT8 = ONNX__TENSOR_PROTO__DATA_TYPE__UINT8,
    STRING = ONNX__TENSOR_PROTO__DATA_TYPE__STRING,
};

/* ---------------------------------------------------------------- old forms and new ones */

static void number(NodeTest *t, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        t->data[0][i] = (float)i;
}

/* Both work on (4, 5, 6) numbered elements and must give the same outputs. */
static void check_same_outputs(NodeTest *old, NodeTest *new, int n_out)
{
    NodeTest *both[2] = {old, new};
    for (int k = 0; k < 2; k++) {
        node_outputs(both[k], n_out);
        number(both[k], 120);
        CHECK_OK(node_infer(both[k]));
        CHECK_OK(node_prepare(both[k], one_thread));
        CHECK_OK(node_execute(both[k], one_thread, false, 0));
        node_release(both[k], one_thread);
    }
    for (int i = 0; i < n_out; i++) {
        const PapaValue *a = old->node->out[i], *b = new->node->out[i];
        CHECK(papa_shape_equal(&a->shape, &b->shape) && node_count(a) > 0, "%s and %s", papa_shape_text(&a->shape),
            papa_shape_text(&b->shape));
        CHECK(!memcmp(old->data[a->index], new->data[b->index], (size_t)node_count(a) * sizeof(float)), "%s, output %d",
            old->node->op->type, i);
    }
    node_end(old), node_end(new);
}

static void old_slice(void)
{
    NodeTest old = node_begin("Slice", 9), new = node_begin("Slice", 13);
    node_input(&old, PAPA_VALUE_ACTIVATION, FLOAT, DIMS(4, 5, 6));
    node_input(&new, PAPA_VALUE_ACTIVATION, FLOAT, DIMS(4, 5, 6));
    node_ints(&old, "starts", 2, (int64_t[]){1, -4});
    node_ints(&old, "ends", 2, (int64_t[]){-1, 100});
    node_ints(&old, "axes", 2, (int64_t[]){2, 0});
    node_known(&new, INT64, 2, (int64_t[]){0, 1});
    node_known(&new, INT64, 2, (int64_t[]){4, 5});
    node_known(&new, INT64, 2, (int64_t[]){0, -1});
    check_same_outputs(&old, &new, 1);
}

static void old_pad(void)
{
    NodeTest old = node_begin("Pad", 7), new = node_begin("Pad", 18);
    node_input(&old, PAPA_VALUE_ACTIVATION, FLOAT, DIMS(4, 5, 6));
    node_input(&new, PAPA_VALUE_ACTIVATION, FLOAT, DIMS(4, 5, 6));
    node_ints(&old, "pads", 6, (int64_t[]){0, 1, 2, 0, 3, 0});
    node_float(&old, "value", -1.5f);
    node_known(&new, INT64, 4, (int64_t[]){2, 1, 0, 3});
    *(float *)node_input(&new, PAPA_VALUE_CONSTANT, FLOAT, 0, NULL)->data = -1.5f;
    node_known(&new, INT64, 2, (int64_t[]){2, -2});
    check_same_outputs(&old, &new, 1);
}

static void old_split(void)
{
    NodeTest old = node_begin("Split", 11), new = node_begin("Split", 13), even = node_begin("Split", 7), counted = node_begin("Split", 18);
    NodeTest *all[] = {&old, &new, &even, &counted};
    for (int i = 0; i < 4; i++) {
        node_input(all[i], PAPA_VALUE_ACTIVATION, FLOAT, DIMS(4, 5, 6));
        node_int(all[i], "axis", i < 2 ? 1 : 2);
    }
    node_ints(&old, "split", 3, (int64_t[]){1, 3, 1});
    node_known(&new, INT64, 3, (int64_t[]){1, 3, 1});
    node_int(&counted, "num_outputs", 3);
    check_same_outputs(&old, &new, 3);
    check_same_outputs(&even, &counted, 3);
}

/* axes as an attribute (opset 12) and as an input (13); n_axes < 0: left out. */
static void check_axes(const char *type, int rank, const int64_t *dims, int n_axes, const int64_t *axes, int rank_y, const int64_t *dims_y)
{
    for (int64_t opset = 12; opset <= 13; opset++) {
        NodeTest t = node_begin(type, opset);
        node_input(&t, PAPA_VALUE_ACTIVATION, FLOAT, rank, dims);
        if (n_axes >= 0 && opset == 12)
            node_ints(&t, "axes", n_axes, axes);
        else if (n_axes >= 0)
            node_known(&t, INT64, n_axes, axes);
        node_outputs(&t, 1);
        CHECK_OK(node_infer(&t));
        PapaShape want = {.rank = rank_y};
        memcpy(want.dim, dims_y, (size_t)rank_y * sizeof *dims_y);
        CHECK(papa_shape_equal(&t.node->out[0]->shape, &want), "%s gives %s", type, papa_shape_text(&t.node->out[0]->shape));
        CHECK(t.node->op->is_view(t.node, t.graph) && t.node->op->carries_role);
        node_end(&t);
    }
}

static void axes_in_both_forms(void)
{
    check_axes("Squeeze", DIMS(2, 1, 3, 1), 1, (int64_t[]){-1}, DIMS(2, 1, 3));
    check_axes("Squeeze", DIMS(2, 1, 3, 1), 2, (int64_t[]){3, 1}, DIMS(2, 3));
    check_axes("Squeeze", DIMS(2, 1, 3, 1), -1, NULL, DIMS(2, 3));
    check_axes("Unsqueeze", DIMS(2, 3), 2, (int64_t[]){0, -1}, DIMS(1, 2, 3, 1));
    check_axes("Unsqueeze", DIMS(2, 3), 2, (int64_t[]){2, 1}, DIMS(2, 1, 1, 3));
}

/* Dropout drops in training in either form and opset, with the file's ratio; else it is a view. */
static void check_dropout(int64_t opset, bool dropout, PapaMode mode, float ratio, bool view)
{
    NodeTest t = node_begin("Dropout", opset);
    t.graph->mode = mode;
    t.graph->dropout = dropout;
    node_input(&t, PAPA_VALUE_ACTIVATION, FLOAT, DIMS(50, 20));
    if (opset < 12)
        node_float(&t, "ratio", ratio);
    else
        *(float *)node_input(&t, PAPA_VALUE_CONSTANT, FLOAT, 0, NULL)->data = ratio;
    node_outputs(&t, 1);
    CHECK_OK(node_infer(&t));
    CHECK(t.node->op->is_view(t.node, t.graph) == view, "opset %lld", (long long)opset);
    if (!view) {
        CHECK_OK(node_prepare(&t, one_thread));
        CHECK_OK(node_execute(&t, one_thread, false, 0));
        float *x = t.data[0], *y = t.data[t.node->out[0]->index];
        t.grad[0] = poisoned(1000, true);
        t.grad[t.node->out[0]->index] = random_floats(1000, 1, 2);
        CHECK_OK(node_execute(&t, one_thread, true, ~0u));
        int kept = 0, wrong = 0;
        for (int i = 0; i < 1000; i++) {
            float factor = y[i] != 0 ? 1 / (1 - ratio) : 0, dx = factor * t.grad[t.node->out[0]->index][i] + (float)(i % 7) - 3;
            kept += y[i] != 0;
            wrong += fabsf(y[i] - x[i] * factor) > 1e-6f || fabsf(t.grad[0][i] - dx) > 1e-5f;
        }
        CHECK(!wrong, "%d elements", wrong);
        CHECK_NEAR(kept / 1000., 1 - (double)ratio, .07); /* more than four standard deviations */
    }
    node_end(&t);
}

/* ---------------------------------------------------------------- folding at the edges of types */

static void check_cast(int from, int to, int n, const int64_t *values, const int64_t *want)
{
    NodeTest t = node_begin("Cast", 13);
    node_known(&t, from, n, values);
    node_int(&t, "to", to);
    node_outputs(&t, 1);
    CHECK_OK(node_infer(&t));
    const PapaValue *y = t.node->out[0];
    CHECK(y->kind == PAPA_VALUE_CONSTANT && y->type == to && node_count(y) == n);
    for (int i = 0; i < n; i++)
        CHECK(((const int64_t *)y->data)[i] == want[i], "%lld becomes %lld, expected %lld", (long long)values[i],
            (long long)((const int64_t *)y->data)[i], (long long)want[i]);
    node_end(&t);
}

static void check_cast_of_float(int to, float value, int64_t want)
{
    NodeTest t = node_begin("Cast", 13);
    *(float *)node_input(&t, PAPA_VALUE_CONSTANT, FLOAT, 0, NULL)->data = value;
    node_int(&t, "to", to);
    node_outputs(&t, 1);
    CHECK_OK(node_infer(&t));
    int64_t got = *(const int64_t *)t.node->out[0]->data;
    CHECK(got == want, "%g becomes %lld, expected %lld", (double)value, (long long)got, (long long)want);
    node_end(&t);
}

/* Its second input is there for its type only: not its numbers, nor its shape. */
static void cast_like(void)
{
    NodeTest t = node_begin("CastLike", 15);
    *(float *)node_input(&t, PAPA_VALUE_CONSTANT, FLOAT, 0, NULL)->data = -2.5f;
    node_input(&t, PAPA_VALUE_ACTIVATION, INT64, 2, (int64_t[]){3, 4});
    node_outputs(&t, 1);
    CHECK_OK(node_infer(&t));
    const PapaValue *y = t.node->out[0];
    CHECK(y->kind == PAPA_VALUE_CONSTANT && y->type == INT64 && y->shape.rank == 0 && *(const int64_t *)y->data == -2);
    node_end(&t);

    t = node_begin("CastLike", 15);
    node_input(&t, PAPA_VALUE_ACTIVATION, FLOAT, 2, (int64_t[]){3, 4});
    node_input(&t, PAPA_VALUE_CONSTANT, FLOAT, 0, NULL);
    node_outputs(&t, 1);
    CHECK_OK(node_infer(&t));
    CHECK(t.node->out[0]->kind == PAPA_VALUE_ACTIVATION && t.node->op->is_view(t.node, t.graph) && t.node->out[0]->shape.dim[1] == 4);
    node_end(&t);
}

static void casts(void)
{
    check_cast(INT64, UINT8, 4, (int64_t[]){0, 255, 256, -1}, (int64_t[]){0, 255, 0, 255});
    check_cast(INT64, INT8, 4, (int64_t[]){127, 128, -128, -129}, (int64_t[]){127, -128, -128, 127});
    check_cast(INT64, INT32, 2, (int64_t[]){INT64_MAX, INT32_MIN}, (int64_t[]){-1, INT32_MIN});
    check_cast(INT32, BOOL, 3, (int64_t[]){0, 2, -1}, (int64_t[]){0, 1, 1});
    check_cast_of_float(INT64, -2.9f, -2);
    check_cast_of_float(INT64, 2.9f, 2);
    check_cast_of_float(INT64, 1e30f, INT64_MAX);
    check_cast_of_float(INT64, -INFINITY, INT64_MIN);
    check_cast_of_float(INT64, NAN, 0);
    check_cast_of_float(BOOL, .25f, 1);
    check_cast_of_float(BOOL, 0, 0);
}

static void ranges(void)
{
    static const struct {
        int64_t start, limit, delta, n;
    } cases[] = {{0, 5, 2, 3}, {5, 0, -2, 3}, {0, -3, 2, 0}, {3, 3, 1, 0}, {INT64_MIN, INT64_MIN + 3, 2, 2},
        {INT64_MAX - 4, INT64_MAX, 3, 2}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        NodeTest t = node_begin("Range", 11);
        node_known(&t, INT64, 1, &cases[i].start);
        node_known(&t, INT64, 1, &cases[i].limit);
        node_known(&t, INT64, 1, &cases[i].delta);
        node_outputs(&t, 1);
        CHECK_OK(node_infer(&t));
        const PapaValue *y = t.node->out[0];
        CHECK(y->kind == PAPA_VALUE_CONSTANT && node_count(y) == cases[i].n, "range %zu has %lld elements", i, (long long)node_count(y));
        for (int64_t k = 0; k < node_count(y); k++)
            CHECK(((const int64_t *)y->data)[k] == cases[i].start + k * cases[i].delta);
        node_end(&t);
    }
}

/* ---------------------------------------------------------------- refusals */

/* Infers and, where that works, prepares. Ends the test. */
static PapaStatus outcome(NodeTest *t, int n_out)
{
    node_outputs(t, n_out);
    PapaStatus status = node_infer(t);
    if (status == PAPA_OK && t->node->op->prepare)
        status = t->node->op->prepare(t->node, t->graph, one_thread);
    node_release(t, one_thread);
    return status;
}

#define REFUSED(t, n_out, code, text)                                                     \
    do {                                                                                  \
        CHECK_FAILS(outcome(&(t), (n_out)), code, text);                                  \
        CHECK(!strncmp(papa_error(), "the node: ", 10), "\"%s\" does not name the node", papa_error()); \
        node_end(&(t));                                                                   \
    } while (0)

static NodeTest unary(const char *type, int64_t opset, int rank, const int64_t *dims)
{
    NodeTest t = node_begin(type, opset);
    node_input(&t, PAPA_VALUE_ACTIVATION, FLOAT, rank, dims);
    return t;
}

static NodeTest binary(const char *type, int rank_a, const int64_t *a, int rank_b, const int64_t *b)
{
    NodeTest t = unary(type, 13, rank_a, a);
    node_input(&t, PAPA_VALUE_ACTIVATION, FLOAT, rank_b, b);
    return t;
}

static void refused_products(void)
{
    NodeTest t = binary("Conv", DIMS(1, 2, 4, 4, 4), DIMS(3, 2, 2, 2, 2));
    REFUSED(t, 1, PAPA_ERR_UNSUPPORTED, "(1, 2, 4, 4, 4)");
    t = binary("Conv", DIMS(1, 3, 4, 4), DIMS(3, 2, 2, 2));
    REFUSED(t, 1, PAPA_ERR_MISMATCH, "(3, 2, 2, 2)");
    t = binary("Conv", DIMS(1, 2, 4, 4), DIMS(3, 2, 5, 5));
    REFUSED(t, 1, PAPA_ERR_MISMATCH, "spans 5");
    t = binary("Conv", DIMS(1, 2, 4, 4), DIMS(3, 2, 2, 2));
    node_string(&t, "auto_pad", "SAME");
    REFUSED(t, 1, PAPA_ERR_FORMAT, "SAME");
    t = binary("Conv", DIMS(1, 2, 4, 4), DIMS(3, 2, 2, 2));
    node_string(&t, "auto_pad", "VALID");
    node_ints(&t, "pads", 4, (int64_t[]){0, 1, 0, 0});
    REFUSED(t, 1, PAPA_ERR_FORMAT, "pads");
    t = binary("Conv", DIMS(1, 2, 4, 4), DIMS(3, 2, 2, 2));
    node_ints(&t, "strides", 1, (int64_t[]){2});
    REFUSED(t, 1, PAPA_ERR_FORMAT, "strides");
    t = binary("Conv", DIMS(1, 2, 4, 4), DIMS(3, 2, 2, 2));
    node_input(&t, PAPA_VALUE_ACTIVATION, FLOAT, DIMS(2));
    REFUSED(t, 1, PAPA_ERR_MISMATCH, "bias");
    t = binary("Gemm", DIMS(2, 3), DIMS(4, 5));
    REFUSED(t, 1, PAPA_ERR_MISMATCH, "(4, 5)");
    t = binary("Gemm", DIMS(2, 3), DIMS(3, 5));
    node_input(&t, PAPA_VALUE_ACTIVATION, FLOAT, DIMS(3, 5));
    REFUSED(t, 1, PAPA_ERR_MISMATCH, "broadcast");
    t = binary("MatMul", DIMS(2, 3), DIMS(2, 3));
    REFUSED(t, 1, PAPA_ERR_MISMATCH, "(2, 3)");
    t = binary("MatMul", DIMS(2, 2, 3), DIMS(3, 3, 3));
    REFUSED(t, 1, PAPA_ERR_MISMATCH, "broadcast");
}

static void refused_moves(void)
{
    NodeTest t = unary("Slice", 13, DIMS(4, 5));
    for (int i = 0; i < 4; i++)
        node_known(&t, INT64, 1, (int64_t[]){i == 1});
    REFUSED(t, 1, PAPA_ERR_FORMAT, "step");
    t = unary("Slice", 13, DIMS(4, 5));
    node_known(&t, INT64, 2, (int64_t[]){0, 0});
    node_known(&t, INT64, 1, (int64_t[]){2});
    REFUSED(t, 1, PAPA_ERR_FORMAT, "2 starts, 1 ends");
    t = unary("Slice", 13, DIMS(4, 5)); /* computed bounds */
    node_input(&t, PAPA_VALUE_ACTIVATION, INT64, DIMS(1));
    node_known(&t, INT64, 1, (int64_t[]){2});
    REFUSED(t, 1, PAPA_ERR_UNSUPPORTED, "known");
    t = unary("Pad", 18, DIMS(4, 5));
    node_string(&t, "mode", "wrap");
    node_known(&t, INT64, 4, (int64_t[]){0, 0, 0, 0});
    REFUSED(t, 1, PAPA_ERR_FORMAT, "wrap");
    t = unary("Pad", 18, DIMS(4, 5));
    node_string(&t, "mode", "reflect");
    node_known(&t, INT64, 4, (int64_t[]){0, -1, 0, 0});
    REFUSED(t, 1, PAPA_ERR_UNSUPPORTED, "negative");
    t = unary("Pad", 18, DIMS(4, 5));
    node_known(&t, INT64, 4, (int64_t[]){0, -3, 0, -3});
    REFUSED(t, 1, PAPA_ERR_MISMATCH, "-3");
    t = unary("Split", 13, DIMS(4, 5));
    REFUSED(t, 3, PAPA_ERR_MISMATCH, "equal");
    t = unary("Split", 13, DIMS(4, 5));
    node_known(&t, INT64, 2, (int64_t[]){2, 1});
    REFUSED(t, 2, PAPA_ERR_MISMATCH, "leave 1");
    t = unary("Split", 13, DIMS(4, 5));
    node_known(&t, INT64, 2, (int64_t[]){5, -1});
    REFUSED(t, 2, PAPA_ERR_MISMATCH, "part 0");
    t = binary("Concat", DIMS(4, 5), DIMS(3, 5));
    node_int(&t, "axis", 1);
    REFUSED(t, 1, PAPA_ERR_MISMATCH, "(3, 5)");
    t = unary("Gather", 13, DIMS(4, 5));
    node_known(&t, INT64, 1, (int64_t[]){4});
    REFUSED(t, 1, PAPA_ERR_MISMATCH, "index 4");
    t = unary("Transpose", 13, DIMS(4, 5));
    node_ints(&t, "perm", 2, (int64_t[]){1, 1});
    REFUSED(t, 1, PAPA_ERR_FORMAT, "perm");
    t = unary("Expand", 13, DIMS(4, 5));
    node_known(&t, INT64, 2, (int64_t[]){3, 5});
    REFUSED(t, 1, PAPA_ERR_MISMATCH, "(3, 5)");
}

static void check_reshape(int n, const int64_t *dims, PapaStatus code, const char *text)
{
    NodeTest t = unary("Reshape", 14, DIMS(4, 5));
    node_known(&t, INT64, n, dims);
    REFUSED(t, 1, code, text);
}

static void refused_others(void)
{
    check_reshape(2, (int64_t[]){3, 7}, PAPA_ERR_MISMATCH, "(3, 7)");
    check_reshape(2, (int64_t[]){-1, 3}, PAPA_ERR_MISMATCH, "(-1, 3)");
    check_reshape(2, (int64_t[]){-1, -1}, PAPA_ERR_FORMAT, "-1");
    check_reshape(3, (int64_t[]){4, 5, 0}, PAPA_ERR_FORMAT, "axis 2");
    check_reshape(2, (int64_t[]){INT64_MAX, 4}, PAPA_ERR_FORMAT, "large");
    NodeTest t = unary("Squeeze", 12, DIMS(4, 1));
    node_ints(&t, "axes", 1, (int64_t[]){0});
    REFUSED(t, 1, PAPA_ERR_MISMATCH, "axis 0");
    t = unary("Unsqueeze", 12, DIMS(4, 1));
    node_ints(&t, "axes", 2, (int64_t[]){1, -3});
    REFUSED(t, 1, PAPA_ERR_FORMAT, "twice");
    t = unary("Flatten", 13, DIMS(4, 1));
    node_int(&t, "axis", 3);
    REFUSED(t, 1, PAPA_ERR_FORMAT, "axis 3");
    t = unary("Cast", 13, DIMS(4));
    node_int(&t, "to", STRING);
    REFUSED(t, 1, PAPA_ERR_UNSUPPORTED, "STRING");
    t = unary("Dropout", 7, DIMS(4));
    node_float(&t, "ratio", 1);
    REFUSED(t, 1, PAPA_ERR_FORMAT, "ratio 1");
    t = unary("Dropout", 13, DIMS(4));
    node_outputs(&t, 2);
    t.graph->outputs = &t.node->out[1];
    t.graph->n_outputs = 1;
    CHECK_FAILS(node_infer(&t), PAPA_ERR_UNSUPPORTED, "mask");
    node_end(&t);
    t = node_begin("Range", 11);
    for (int i = 0; i < 3; i++)
        node_known(&t, INT64, 1, (int64_t[]){0});
    REFUSED(t, 1, PAPA_ERR_FORMAT, "range");
}

/* Shapes that a file of a few bytes can ask for: huge constants, and tensors of no elements whose other axes multiply to anything. */
static void refused_sizes(void)
{
    const int64_t huge = (int64_t)1 << 40;
    static const int64_t asked[][3] = {{1 << 30, 1 << 30, 0}, {1 << 30, 1 << 30, 1}};
    for (int i = 0; i < 2; i++) {
        NodeTest t = node_begin("ConstantOfShape", 9);
        node_known(&t, INT64, 3, asked[i]);
        REFUSED(t, 1, PAPA_ERR_MISMATCH, "would have the shape");
    }
    NodeTest t = node_begin("ConstantOfShape", 9);
    node_known(&t, INT64, 1, &huge);
    REFUSED(t, 1, PAPA_ERR_MEMORY, "constants that are computed");
    t = node_begin("Range", 11);
    node_known(&t, INT64, 1, (int64_t[]){0});
    node_known(&t, INT64, 1, (int64_t[]){2000000000});
    node_known(&t, INT64, 1, (int64_t[]){1});
    REFUSED(t, 1, PAPA_ERR_MEMORY, "(2000000000)");
    t = binary("MatMul", DIMS(huge, 0), DIMS(0, huge));
    REFUSED(t, 1, PAPA_ERR_MISMATCH, "would have the shape");
    t = binary("Conv", DIMS(1, 1, 5, 5), DIMS(0, 1, huge, 1));
    node_ints(&t, "dilations", 2, (int64_t[]){INT32_MAX, 1});
    REFUSED(t, 1, PAPA_ERR_MISMATCH, "weight of shape");
    t = binary("Conv", DIMS(1, 1, 0, 5), DIMS(1, 1, 1, 1));
    node_ints(&t, "pads", 4, (int64_t[]){1, 1, 1, 1});
    REFUSED(t, 1, PAPA_ERR_MISMATCH, "no axis of size 0");
}

/* Each is computed from the start, not from the one before: the multiple of the step alone would overflow. */
static void wide_range(void)
{
    NodeTest t = node_begin("Range", 11);
    const int64_t step = INT64_MAX / 2;
    node_known(&t, INT64, 1, (int64_t[]){-INT64_MAX});
    node_known(&t, INT64, 1, (int64_t[]){INT64_MAX});
    node_known(&t, INT64, 1, &step);
    node_outputs(&t, 1);
    CHECK_OK(node_infer(&t));
    const int64_t *y = t.node->out[0]->data;
    CHECK(node_count(t.node->out[0]) == 5 && y[3] == step - 1 && y[4] == 2 * step - 1, "%lld: %lld, %lld", (long long)node_count(t.node->out[0]),
        (long long)y[3], (long long)y[4]);
    node_end(&t);
}

int main(void)
{
    if (!kerneltest_begin())
        return kerneltest_end();
    refused_sizes();
    wide_range();
    old_slice();
    old_pad();
    old_split();
    axes_in_both_forms();
    static const int64_t opsets[] = {7, 10, 12, 13, 22};
    for (int i = 0; i < 5; i++) {
        check_dropout(opsets[i], true, PAPA_MODE_TRAIN, .3f, false);
        check_dropout(opsets[i], true, PAPA_MODE_TRAIN, 0, true);
        check_dropout(opsets[i], false, PAPA_MODE_TRAIN, .3f, true);
        check_dropout(opsets[i], true, PAPA_MODE_INFER, .3f, true);
        check_dropout(opsets[i], true, PAPA_MODE_CALIBRATE, .3f, true);
    }
    casts();
    cast_like();
    ranges();
    refused_products();
    refused_moves();
    refused_others();
    return kerneltest_end();
}
