/* Rows whose outputs are linear in every single input: Conv, Gemm, MatMul and those that move elements.
 *
 * Gradients need no small steps then: dx[i] = <dy, f(x + e_i) - f(x)> for whole unit vectors, checked for every element of every
 * input, overwritten and accumulated. What current opsets compute is checked on ONNX's own cases (tests/oracle); here are the forms of
 * older opsets, broadcasting, channels-last against ONNX's order, fused Relu, and what must be refused. */
#include "nodetest.h"

#define TOLERANCE 2e-5 /* differences of float32 sums of up to a hundred products of numbers below 2 */
#define DIMS(...) (sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]){__VA_ARGS__}

typedef NodeTest make_fn(int variant);

static PapaValue *activation(NodeTest *t, size_t rank, const int64_t *dims)
{
    return node_input(t, PAPA_VALUE_ACTIVATION, FLOAT, (int)rank, dims);
}

static bool is_float(const PapaValue *value)
{
    return value && papa_type_is_float(value->type) && value->kind != PAPA_VALUE_CONSTANT;
}

/* ---------------------------------------------------------------- gradients */

static double dot_of_change(const NodeTest *t, float *const *before)
{
    double sum = 0;
    for (int k = 0; k < t->node->n_out; k++) {
        const PapaValue *y = t->node->out[k];
        for (int64_t i = 0; y && i < node_count(y); i++)
            sum += ((double)t->data[y->index][i] - (double)before[k][i]) * (double)t->grad[y->index][i];
    }
    return sum;
}

static void check_input_gradient(NodeTest *t, const char *what, int input, float *const *before, bool accumulate, const float *got)
{
    float *x = t->data[t->node->in[input]->index];
    int64_t n = node_count(t->node->in[input]);
    double *want = DOUBLES(n);
    for (int64_t i = 0; i < n; i++) {
        float old = x[i];
        x[i] += 1;
        CHECK_OK(node_execute(t, one_thread, false, 0));
        want[i] = dot_of_change(t, before) / ((double)x[i] - (double)old);
        x[i] = old;
    }
    check_near(what, got, want, n, accumulate, TOLERANCE);
    free(want);
}

/* The node must be prepared. */
static void check_gradients(NodeTest *t, const char *what)
{
    float *before[NODE_MOST] = {0};
    CHECK_OK(node_execute(t, one_thread, false, 0));
    for (int k = 0; k < t->node->n_out; k++) {
        const PapaValue *y = t->node->out[k];
        if (!y)
            continue;
        before[k] = FLOATS(node_count(y));
        memcpy(before[k], t->data[y->index], (size_t)node_count(y) * sizeof(float));
        t->grad[y->index] = random_floats(node_count(y), -1, 1);
    }
    for (int accumulate = 0; accumulate < 2; accumulate++) {
        for (int i = 0; i < t->node->n_in; i++)
            if (is_float(t->node->in[i]))
                t->grad[t->node->in[i]->index] = poisoned(node_count(t->node->in[i]), accumulate);
        CHECK_OK(node_execute(t, one_thread, true, accumulate ? ~0u : 0));
        for (int i = 0; i < t->node->n_in; i++)
            if (is_float(t->node->in[i])) {
                float **grad = &t->grad[t->node->in[i]->index];
                check_input_gradient(t, what, i, before, accumulate, *grad);
                free(*grad);
                *grad = NULL;
            }
    }
    for (int k = 0; k < t->node->n_out; k++)
        free(before[k]);
}

/* ---------------------------------------------------------------- channels-last */

static void to_channels_last(float *to, const float *from, const PapaShape *logical)
{
    int64_t rest = papa_shape_count_from(logical, 2, logical->rank), C = logical->dim[1];
    for (int64_t n = 0; n < logical->dim[0]; n++)
        for (int64_t c = 0; c < C; c++)
            for (int64_t i = 0; i < rest; i++)
                to[(n * rest + i) * C + c] = from[(n * C + c) * rest + i];
}

/* As the layout pass does, with the data of the same node in ONNX's order. */
static void move_axes(NodeTest *t, const NodeTest *logical)
{
    int rank = t->node->in[0]->shape.rank;
    for (int i = 0; i < t->node->n_in; i++) {
        PapaValue *x = t->node->in[i];
        if (!is_float(x) || x->shape.rank != rank)
            continue;
        to_channels_last(t->data[x->index], logical->data[x->index], &x->shape);
        papa_shape_to_channels_last(&x->shape);
    }
    for (int k = 0; k < t->node->n_out; k++)
        if (t->node->out[k])
            papa_shape_to_channels_last(&t->node->out[k]->shape);
    if (t->node->op->permute)
        t->node->op->permute(t->node, rank);
}

static void check_channels_last(make_fn *make, int variant, const char *what)
{
    NodeTest logical = make(variant), moved = make(variant);
    CHECK_OK(node_infer(&logical));
    CHECK_OK(node_infer(&moved));
    CHECK_OK(node_prepare(&logical, one_thread));
    move_axes(&moved, &logical);
    CHECK_OK(node_prepare(&moved, one_thread));
    CHECK_OK(node_execute(&logical, one_thread, false, 0));
    CHECK_OK(node_execute(&moved, one_thread, false, 0));
    for (int k = 0; k < logical.node->n_out; k++) {
        const PapaValue *y = logical.node->out[k];
        if (!y)
            continue;
        float *want = FLOATS(node_count(y));
        to_channels_last(want, logical.data[y->index], &y->shape);
        CHECK(!node_count(y) || !memcmp(want, moved.data[y->index], (size_t)node_count(y) * sizeof *want),
            "%s in channels-last order, output %d", what, k);
        free(want);
    }
    check_gradients(&moved, what);
    node_release(&logical, one_thread), node_release(&moved, one_thread);
    node_end(&logical), node_end(&moved);
}

static void check_row(make_fn *make, int variant, const char *what)
{
    NodeTest t = make(variant);
    CHECK_OK(node_infer(&t));
    bool follows = t.node->op->layout == papa_layout_follow && t.node->in[0]->shape.rank >= 3;
    CHECK_OK(node_prepare(&t, one_thread));
    check_gradients(&t, what);
    node_release(&t, one_thread);
    node_end(&t);
    if (follows)
        check_channels_last(make, variant, what);
}

/* ---------------------------------------------------------------- operators that move elements */

static NodeTest make_slice(int variant)
{
    NodeTest t = node_begin("Slice", variant < 2 ? 9 : 13);
    activation(&t, DIMS(2, 3, 5, 7));
    if (variant == 0) { /* no axes: the first ones */
        node_ints(&t, "starts", 3, (int64_t[]){0, 1, -3});
        node_ints(&t, "ends", 3, (int64_t[]){9, 2, -1});
    } else if (variant == 1) {
        node_ints(&t, "axes", 2, (int64_t[]){3, 1});
        node_ints(&t, "starts", 2, (int64_t[]){2, 0});
        node_ints(&t, "ends", 2, (int64_t[]){INT64_MAX, -1});
    } else if (variant == 2) { /* every other row and column: the shortcut of a ResNet */
        node_known(&t, INT64, 2, (int64_t[]){0, 0});
        node_known(&t, INT64, 2, (int64_t[]){INT64_MAX, INT64_MAX});
        node_known(&t, INT64, 2, (int64_t[]){2, 3});
        node_known(&t, INT64, 2, (int64_t[]){2, 2});
    } else if (variant == 3) { /* backwards */
        node_known(&t, INT64, 2, (int64_t[]){-1, 4});
        node_known(&t, INT64, 2, (int64_t[]){INT64_MIN, 0});
        node_known(&t, INT64, 2, (int64_t[]){-1, 2});
        node_known(&t, INT64, 2, (int64_t[]){-3, -1});
    } else { /* nothing */
        node_known(&t, INT64, 1, (int64_t[]){4});
        node_known(&t, INT64, 1, (int64_t[]){2});
    }
    node_outputs(&t, 1);
    return t;
}

static NodeTest make_pad(int variant)
{
    static const char *const modes[] = {"constant", "reflect", "edge", "wrap"};
    NodeTest t = node_begin("Pad", variant == 0 ? 10 : 19);
    activation(&t, DIMS(2, 3, 4, 3));
    if (variant == 0) {
        node_ints(&t, "pads", 8, (int64_t[]){0, 1, 0, 2, 0, 0, 3, 1});
        node_float(&t, "value", 2.5f);
    } else if (variant < 5) { /* farther than the input is long */
        node_string(&t, "mode", modes[variant - 1]);
        node_known(&t, INT64, 8, (int64_t[]){1, 0, 5, 2, 0, 2, 0, 4});
    } else {
        node_known(&t, INT64, 4, (int64_t[]){-1, 2, 1, -1});
        node_leave_out(&t);
        node_known(&t, INT64, 2, (int64_t[]){-1, 1});
    }
    node_outputs(&t, 1);
    return t;
}

static NodeTest make_concat(int variant)
{
    NodeTest t = node_begin("Concat", 13);
    node_int(&t, "axis", variant == 0 ? 1 : -1);
    activation(&t, DIMS(2, 3, 4, 5));
    for (int i = 0; i < 3; i++)
        activation(&t, 4, variant == 0 ? (int64_t[]){2, i, 4, 5} : (int64_t[]){2, 3, 4, 2 * i});
    node_outputs(&t, 1);
    return t;
}

static NodeTest make_split(int variant)
{
    NodeTest t = node_begin("Split", variant == 0 ? 12 : variant == 1 ? 13 : 18);
    activation(&t, DIMS(2, 7, 3, 2));
    node_int(&t, "axis", variant == 2 ? -3 : 1);
    if (variant == 0)
        node_ints(&t, "split", 3, (int64_t[]){2, 4, 1});
    else if (variant == 1)
        node_known(&t, INT64, 3, (int64_t[]){5, 0, 2});
    else
        node_int(&t, "num_outputs", 3);
    node_outputs(&t, 3);
    if (variant == 1)
        t.node->out[0] = NULL; /* left out: no gradient comes from it */
    return t;
}

static NodeTest make_transpose(int variant)
{
    NodeTest t = node_begin("Transpose", 13);
    activation(&t, DIMS(2, 3, 1, 5));
    if (variant)
        node_ints(&t, "perm", 4, variant == 1 ? (int64_t[]){0, 3, 1, 2} : (int64_t[]){3, 0, 2, 1});
    node_outputs(&t, 1);
    return t;
}

static NodeTest make_gather(int variant)
{
    NodeTest t = node_begin("Gather", 13);
    activation(&t, DIMS(3, 4, 2));
    node_int(&t, "axis", variant);
    node_known(&t, INT64, 5, (int64_t[]){1, 0, -1, 1, -2});
    node_outputs(&t, 1);
    return t;
}

static NodeTest make_expand(int variant)
{
    NodeTest t = node_begin("Expand", 13);
    if (variant == 0)
        activation(&t, DIMS(3, 1, 2));
    else if (variant == 1)
        activation(&t, DIMS(1, 4));
    else
        activation(&t, 0, NULL);
    node_known(&t, INT64, 4, (int64_t[]){2, 3, 4, variant == 0 ? 1 : 4});
    node_outputs(&t, 1);
    return t;
}

/* ---------------------------------------------------------------- Conv */

static NodeTest make_conv(int variant)
{
    NodeTest t = node_begin("Conv", 11);
    if (variant == 3) { /* a sequence */
        activation(&t, DIMS(2, 4, 9));
        activation(&t, DIMS(6, 2, 3));
        node_int(&t, "group", 2);
        node_ints(&t, "pads", 2, (int64_t[]){2, 1});
        node_ints(&t, "strides", 1, (int64_t[]){2});
        node_ints(&t, "dilations", 1, (int64_t[]){2});
    } else {
        activation(&t, DIMS(2, 3, 6, 5));
        activation(&t, DIMS(4, 3, 3, 2));
        node_ints(&t, "strides", 2, (int64_t[]){2, 1});
        if (variant == 0)
            node_ints(&t, "pads", 4, (int64_t[]){1, 0, 2, 1});
        else
            node_string(&t, "auto_pad", variant == 1 ? "SAME_LOWER" : "VALID");
    }
    if (variant != 2)
        activation(&t, 1, &t.node->in[1]->shape.dim[0]);
    node_outputs(&t, 1);
    return t;
}

static NodeTest make_small_conv(int variant)
{
    (void)variant;
    NodeTest t = node_begin("Conv", 11);
    activation(&t, DIMS(2, 1, 1, 6)); /* one channel and one row: the same memory in every order */
    activation(&t, DIMS(5, 1, 1, 3));
    activation(&t, DIMS(5));
    node_outputs(&t, 1);
    return t;
}

static void check_conv(int variant, int64_t OH, int64_t OW)
{
    NodeTest t = make_conv(variant);
    CHECK_OK(node_infer(&t));
    int64_t fan_in = 0;
    const PapaShape y = t.node->out[0]->shape, w = t.node->in[1]->shape;
    CHECK(y.dim[2] == OH && (y.rank == 3 || y.dim[3] == OW), "variant %d gives %s", variant, papa_shape_text(&y));
    CHECK(t.node->op->role(t.node, 1, &fan_in) == PAPA_ROLE_WEIGHT && fan_in == papa_shape_count_from(&w, 1, w.rank));
    CHECK(t.node->op->role(t.node, 2, &fan_in) == PAPA_ROLE_BIAS);
    papa_shape_to_channels_last(&t.node->in[0]->shape);
    papa_shape_to_channels_last(&t.node->out[0]->shape);
    CHECK_OK(node_prepare(&t, one_thread));
    check_gradients(&t, "Conv");
    node_release(&t, one_thread);
    node_end(&t);
}

/* ---------------------------------------------------------------- Gemm and MatMul */

enum { C_NONE, C_SCALAR, C_ROW, C_ROW2, C_COLUMN, C_FULL, C_KINDS };

/* variant: transA, transB, C's kind, beta's. */
static NodeTest make_gemm(int variant)
{
    static const float betas[] = {1, .5f, 0};
    int trans_a = variant & 1, trans_b = variant >> 1 & 1, c = variant / 4 % C_KINDS;
    NodeTest t = node_begin("Gemm", 13);
    activation(&t, 2, trans_a ? (int64_t[]){5, 3} : (int64_t[]){3, 5});
    activation(&t, 2, trans_b ? (int64_t[]){4, 5} : (int64_t[]){5, 4});
    if (c == C_SCALAR)
        activation(&t, 0, NULL);
    else if (c == C_ROW)
        activation(&t, DIMS(4));
    else if (c)
        activation(&t, 2, (int64_t[]){c == C_ROW2 ? 1 : 3, c == C_COLUMN ? 1 : 4});
    node_int(&t, "transA", trans_a);
    node_int(&t, "transB", trans_b);
    node_float(&t, "alpha", 1.5f);
    node_float(&t, "beta", betas[variant / 4 / C_KINDS]);
    node_outputs(&t, 1);
    return t;
}

static void check_gemm_forward(int variant)
{
    NodeTest t = make_gemm(variant);
    CHECK_OK(node_infer(&t));
    CHECK_OK(node_prepare(&t, one_thread));
    CHECK_OK(node_execute(&t, one_thread, false, 0));
    const float *a = t.data[0], *b = t.data[1];
    double want[12], beta = variant / 4 / C_KINDS == 0 ? 1 : variant / 4 / C_KINDS == 1 ? .5 : 0;
    const PapaValue *c = t.node->n_in > 2 ? t.node->in[2] : NULL;
    for (int m = 0; m < 3; m++)
        for (int n = 0; n < 4; n++) {
            double sum = 0;
            for (int k = 0; k < 5; k++)
                sum += (double)(variant & 1 ? a[k * 3 + m] : a[m * 5 + k]) * (double)(variant & 2 ? b[n * 5 + k] : b[k * 4 + n]);
            int64_t rows = c && c->shape.rank == 2 ? c->shape.dim[0] : 1;
            int64_t columns = c && c->shape.rank ? c->shape.dim[c->shape.rank - 1] : 1;
            want[m * 4 + n] = 1.5 * sum + (c ? beta * (double)t.data[2][(rows == 1 ? 0 : m) * columns + (columns == 1 ? 0 : n)] : 0);
        }
    check_near("Gemm", t.data[t.node->out[0]->index], want, 12, false, TOLERANCE);
    node_release(&t, one_thread);
    node_end(&t);
}

typedef struct MatMulCase {
    int rank_a, rank_b, rank_y;
    int64_t a[4], b[4], y[4];
} MatMulCase;

static const MatMulCase matmul_cases[] = {
    {2, 2, 2, {3, 4}, {4, 5}, {3, 5}},
    {3, 2, 3, {2, 3, 4}, {4, 5}, {2, 3, 5}},
    {2, 3, 3, {3, 4}, {2, 4, 5}, {2, 3, 5}},
    {1, 1, 0, {4}, {4}, {0}},
    {3, 1, 2, {2, 3, 4}, {4}, {2, 3}},
    {1, 3, 2, {4}, {2, 4, 5}, {2, 5}},
    {4, 4, 4, {2, 1, 3, 4}, {1, 5, 4, 2}, {2, 5, 3, 2}},
    {4, 4, 4, {1, 5, 3, 4}, {2, 1, 4, 2}, {2, 5, 3, 2}},
    {4, 4, 4, {2, 3, 2, 4}, {2, 3, 4, 3}, {2, 3, 2, 3}},
    {4, 3, 4, {2, 3, 1, 4}, {3, 4, 5}, {2, 3, 1, 5}},
    {4, 3, 4, {2, 3, 2, 4}, {1, 4, 5}, {2, 3, 2, 5}},
    {2, 2, 2, {3, 0}, {0, 5}, {3, 5}},
    {3, 3, 3, {0, 3, 4}, {1, 4, 5}, {0, 3, 5}},
    {4, 4, 4, {2, 0, 3, 4}, {1, 1, 4, 5}, {2, 0, 3, 5}},
};
enum { N_MATMUL = sizeof matmul_cases / sizeof *matmul_cases };

static NodeTest make_matmul(int variant)
{
    const MatMulCase *c = &matmul_cases[variant];
    NodeTest t = node_begin("MatMul", 13);
    activation(&t, (size_t)c->rank_a, c->a);
    activation(&t, (size_t)c->rank_b, c->b);
    node_outputs(&t, 1);
    return t;
}

/* Offset of the matrix of result i (an index into the stack y) in an operand. */
static int64_t matrix_at(const int64_t *stack, int rank, int64_t matrix, const int64_t *y, int y_rank, int64_t i)
{
    int64_t at = 0, step = matrix;
    for (int k = rank - 1, j = y_rank - 1; j >= 0; k--, j--) {
        int64_t index = i % y[j];
        i /= y[j];
        if (k < 0)
            continue;
        at += stack[k] == 1 ? 0 : index * step;
        step *= stack[k];
    }
    return at;
}

static void check_matmul_forward(int variant)
{
    const MatMulCase *c = &matmul_cases[variant];
    NodeTest t = make_matmul(variant);
    CHECK_OK(node_infer(&t));
    const PapaShape *y = &t.node->out[0]->shape;
    CHECK(papa_shape_equal(y, &(PapaShape){c->rank_y, {c->y[0], c->y[1], c->y[2], c->y[3]}}), "case %d gives %s", variant,
        papa_shape_text(y));
    CHECK_OK(node_prepare(&t, one_thread));
    CHECK_OK(node_execute(&t, one_thread, false, 0));
    int stack_a = c->rank_a > 2 ? c->rank_a - 2 : 0, stack_b = c->rank_b > 2 ? c->rank_b - 2 : 0,
        stack = stack_a > stack_b ? stack_a : stack_b;
    int64_t M = c->rank_a > 1 ? c->a[c->rank_a - 2] : 1, K = c->a[c->rank_a - 1], N = c->rank_b > 1 ? c->b[c->rank_b - 1] : 1;
    double *want = DOUBLES(node_count(t.node->out[0]));
    for (int64_t e = 0; e < node_count(t.node->out[0]); e++) {
        int64_t i = e / (M * N), m = e / N % M, n = e % N;
        const float *a = t.data[0] + matrix_at(c->a, stack_a, M * K, c->y, stack, i);
        const float *b = t.data[1] + matrix_at(c->b, stack_b, K * N, c->y, stack, i);
        want[e] = 0;
        for (int64_t k = 0; k < K; k++)
            want[e] += (double)a[m * K + k] * (double)b[k * N + n];
    }
    check_near("MatMul", t.data[t.node->out[0]->index], want, node_count(t.node->out[0]), false, TOLERANCE);
    free(want);
    node_release(&t, one_thread);
    node_end(&t);
}

/* With a Relu joined: forward max(0, y), backward the plain one on the masked gradient. */
static void check_fused_relu(make_fn *make, int variant, const char *what)
{
    NodeTest plain = make(variant), fused = make(variant);
    CHECK_OK(node_infer(&plain));
    CHECK_OK(node_infer(&fused));
    fused.node->relu = true;
    CHECK(fused.node->op->keeps(fused.node, fused.graph) & PAPA_KEEP_OUT(0));
    CHECK_OK(node_prepare(&plain, one_thread));
    CHECK_OK(node_prepare(&fused, one_thread));
    for (int i = 0; i < plain.node->n_in; i++)
        memcpy(fused.data[i], plain.data[i], (size_t)node_count(plain.node->in[i]) * sizeof(float));
    CHECK_OK(node_execute(&plain, one_thread, false, 0));
    CHECK_OK(node_execute(&fused, one_thread, false, 0));
    int out = plain.node->out[0]->index, n_masked = 0;
    int64_t n = node_count(plain.node->out[0]);
    double *want = DOUBLES(n);
    plain.grad[out] = random_floats(n, -1, 1);
    fused.grad[out] = FLOATS(n);
    for (int64_t i = 0; i < n; i++) {
        want[i] = fmax(0, (double)plain.data[out][i]);
        fused.grad[out][i] = plain.grad[out][i];
        plain.grad[out][i] *= plain.data[out][i] > 0;
        n_masked += !(plain.data[out][i] > 0);
    }
    CHECK(n_masked > 0 && n_masked < n);
    check_near(what, fused.data[out], want, n, false, 1e-6);
    free(want);
    for (int i = 0; i < plain.node->n_in; i++) {
        plain.grad[i] = poisoned(node_count(plain.node->in[i]), false);
        fused.grad[i] = poisoned(node_count(plain.node->in[i]), false);
    }
    CHECK_OK(node_execute(&plain, one_thread, true, 0));
    CHECK_OK(node_execute(&fused, one_thread, true, 0));
    for (int i = 0; i < plain.node->n_in; i++) {
        int64_t n_in = node_count(plain.node->in[i]);
        want = DOUBLES(n_in);
        for (int64_t k = 0; k < n_in; k++)
            want[k] = (double)plain.grad[i][k];
        check_near(what, fused.grad[i], want, n_in, false, 1e-6);
        free(want);
    }
    node_release(&plain, one_thread), node_release(&fused, one_thread);
    node_end(&plain), node_end(&fused);
}

/* A weight that several convolutions share is accumulated, while each one's bias is not; either may be frozen. */
static void check_conv_apart(void)
{
    NodeTest t = make_small_conv(0);
    CHECK_OK(node_infer(&t));
    CHECK_OK(node_prepare(&t, one_thread));
    int64_t n_w = node_count(t.node->in[1]), n_y = node_count(t.node->out[0]);
    double *dw = DOUBLES(n_w), db[5];
    t.grad[3] = random_floats(n_y, -1, 1);
    for (unsigned wanted = 1; wanted < 4; wanted++)
        for (unsigned accumulate = 0; accumulate < 4; accumulate++) {
            t.grad[1] = wanted & 1 ? poisoned(n_w, accumulate & 1) : NULL;
            t.grad[2] = wanted & 2 ? poisoned(5, accumulate >> 1) : NULL;
            CHECK_OK(node_execute(&t, one_thread, true, accumulate << 1));
            for (int64_t k = 0; k < 5; k++) {
                db[k] = 0;
                for (int64_t i = 0; i < n_y / 5; i++)
                    db[k] += (double)t.grad[3][i * 5 + k];
            }
            for (int64_t e = 0; e < n_w; e++) { /* (5, 1, 1, 3) over two rows of 6 */
                dw[e] = 0;
                for (int64_t i = 0; i < 8; i++)
                    dw[e] += (double)t.grad[3][i * 5 + e / 3] * (double)t.data[0][i / 4 * 6 + i % 4 + e % 3];
            }
            if (t.grad[1])
                check_near("Conv's dw apart", t.grad[1], dw, n_w, accumulate & 1, TOLERANCE);
            if (t.grad[2])
                check_near("Conv's db apart", t.grad[2], db, 5, accumulate >> 1, TOLERANCE);
            free(t.grad[1]), free(t.grad[2]);
            t.grad[1] = t.grad[2] = NULL;
        }
    free(dw);
    node_release(&t, one_thread);
    node_end(&t);
}

static void check_roles(void)
{
    NodeTest gemm = make_gemm(2), matmul = make_matmul(2);
    int64_t fan_in = 0;
    CHECK_OK(node_infer(&gemm));
    CHECK(gemm.node->op->role(gemm.node, 1, &fan_in) == PAPA_ROLE_WEIGHT && fan_in == 5);
    CHECK(gemm.node->op->role(gemm.node, 0, &fan_in) == PAPA_ROLE_WEIGHT && fan_in == 5);
    CHECK(gemm.node->op->role(gemm.node, 2, &fan_in) == PAPA_ROLE_BIAS);
    CHECK(matmul.node->op->role(matmul.node, 1, &fan_in) == PAPA_ROLE_WEIGHT && fan_in == 4);
    CHECK(matmul.node->op->role(matmul.node, 0, &fan_in) == PAPA_ROLE_WEIGHT && fan_in == 4);
    node_end(&gemm), node_end(&matmul);
}

int main(void)
{
    if (!kerneltest_begin())
        return kerneltest_end();
    static const struct {
        const char *what;
        make_fn *make;
        int n;
    } rows[] = {
        {"Slice", make_slice, 5}, {"Pad", make_pad, 6}, {"Concat", make_concat, 2}, {"Split", make_split, 3},
        {"Transpose", make_transpose, 3}, {"Gather", make_gather, 3}, {"Expand", make_expand, 3}, {"Gemm", make_gemm, 4 * C_KINDS * 3},
        {"MatMul", make_matmul, N_MATMUL}, {"Conv", make_small_conv, 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int variant = 0; variant < rows[i].n; variant++)
            check_row(rows[i].make, variant, rows[i].what);
    check_conv(0, 4, 5);
    check_conv(1, 3, 5);
    check_conv(2, 2, 4);
    check_conv(3, 4, 0);
    for (int variant = 0; variant < 4 * C_KINDS * 3; variant++)
        check_gemm_forward(variant);
    for (int variant = 0; variant < N_MATMUL; variant++)
        check_matmul_forward(variant);
    check_fused_relu(make_gemm, 4 * C_ROW, "Gemm with Relu");
    check_fused_relu(make_gemm, 4 * C_FULL + 3, "Gemm with Relu");
    check_fused_relu(make_matmul, 6, "MatMul with Relu");
    check_fused_relu(make_small_conv, 0, "Conv with Relu");
    check_conv_apart();
    check_roles();
    return kerneltest_end();
}
