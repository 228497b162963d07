/* The rows of PRelu and of InstanceNormalization: gradients, both orders of axes, roles, and what must be refused. Their values are checked on ONNX's
 * cases (tests/oracle). */
#include "rowtest.h"

/* ---------------------------------------------------------------- PRelu */

static NodeTest make_prelu(int variant)
{
    NodeTest t = node_begin("PRelu", 16);
    PapaValue *x = activation(&t, DIMS(2, 3, 2, 2));
    for (int64_t i = 0; i < node_count(x); i++) /* out of the differences' reach of 0 */
        t.data[x->index][i] += t.data[x->index][i] > 0 ? .25f : -.25f;
    if (variant == 0)
        tensor(&t, DIMS(1, 3, 1, 1));
    else if (variant == 1)
        tensor(&t, 0, NULL);
    else
        tensor(&t, DIMS(2, 3, 2, 2));
    node_outputs(&t, 1);
    return t;
}

static NodeTest make_prelu_of(size_t rank, const int64_t *dims)
{
    NodeTest t = node_begin("PRelu", 16);
    activation(&t, DIMS(3, 1));
    tensor(&t, rank, dims);
    node_outputs(&t, 1);
    return t;
}

/* At 0 the gradient is the slope's. */
static void check_at_zero(void)
{
    NodeTest t = node_begin("PRelu", 16);
    PapaValue *x = activation(&t, DIMS(3)), *slope = tensor(&t, DIMS(1));
    memcpy(t.data[x->index], (float[]){-2, 0, 3}, 3 * sizeof(float));
    *t.data[slope->index] = .5f;
    node_outputs(&t, 1);
    CHECK_OK(node_infer(&t));
    CHECK_OK(node_prepare(&t, one_thread));
    CHECK_OK(node_execute(&t, one_thread, false, 0));
    const int y = t.node->out[0]->index;
    CHECK(t.data[y][0] == -1 && t.data[y][1] == 0 && t.data[y][2] == 3, "%g %g %g", (double)t.data[y][0], (double)t.data[y][1], (double)t.data[y][2]);
    t.grad[y] = FLOATS(3);
    for (int i = 0; i < 3; i++)
        t.grad[y][i] = 4;
    t.grad[x->index] = poisoned(3, false);
    t.grad[slope->index] = poisoned(1, false);
    CHECK_OK(node_execute(&t, one_thread, true, 0));
    const float *dx = t.grad[x->index];
    CHECK(dx[0] == 2 && dx[1] == 2 && dx[2] == 4 && *t.grad[slope->index] == -8, "%g %g %g, %g", (double)dx[0], (double)dx[1], (double)dx[2],
        (double)*t.grad[slope->index]);
    node_end(&t);
}

static void test_prelu(void)
{
    for (int variant = 0; variant < 3; variant++) {
        check_layout(make_prelu, variant, PAPA_LAYOUT_FOLLOW);
        check_both_orders(make_prelu, variant, "PRelu");
    }
    check_at_zero();
    NodeTest t = make_prelu(0);
    CHECK(t.node->op->role(t.node, 0, NULL) == PAPA_ROLE_NONE && t.node->op->role(t.node, 1, NULL) == PAPA_ROLE_BIAS);
    node_end(&t);
    check_refused(make_prelu_of(DIMS(2)), PAPA_ERR_MISMATCH, "slope of shape (2), which can't be broadcast to (3, 1)");
    check_refused(make_prelu_of(DIMS(4, 3, 1)), PAPA_ERR_MISMATCH, "slope of shape (4, 3, 1)");
}

/* ---------------------------------------------------------------- InstanceNormalization */

static NodeTest make_instance(size_t n_scale)
{
    NodeTest t = node_begin("InstanceNormalization", 13);
    activation(&t, DIMS(2, 3, 4));
    tensor(&t, DIMS((int64_t)n_scale));
    tensor(&t, DIMS(3));
    node_float(&t, "epsilon", .5f);
    node_outputs(&t, 1);
    return t;
}

static void test_instance(void)
{
    NodeTest t = make_instance(3);
    CHECK_OK(node_infer(&t));
    CHECK_OK(node_prepare(&t, one_thread));
    CHECK_OK(node_execute(&t, one_thread, false, 0));
    const float *x = t.data[0], *scale = t.data[1], *shift = t.data[2], *y = t.data[t.node->out[0]->index];
    for (int i = 0; i < 24; i++) {
        const float *row = x + i / 4 * 4;
        const double mean = ((double)row[0] + (double)row[1] + (double)row[2] + (double)row[3]) / 4;
        double variance = 0;
        for (int k = 0; k < 4; k++)
            variance += ((double)row[k] - mean) * ((double)row[k] - mean) / 4;
        CHECK_NEAR((double)y[i], ((double)x[i] - mean) / sqrt(variance + .5) * (double)scale[i / 4 % 3] + (double)shift[i / 4 % 3], 1e-6);
    }
    CHECK(t.node->op->role(t.node, 1, NULL) == PAPA_ROLE_SCALE && t.node->op->role(t.node, 2, NULL) == PAPA_ROLE_SHIFT && t.node->op->normalizes);
    CHECK(!t.node->op->backward && !t.node->op->layout);
    node_release(&t, one_thread);
    node_end(&t);
    check_refused(make_instance(2), PAPA_ERR_MISMATCH, "input 1 ('input') has shape (2), expected (3)");
}

int main(void)
{
    if (kerneltest_begin()) {
        test_prelu();
        test_instance();
    }
    return kerneltest_end();
}
