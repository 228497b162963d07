/* What the tests of rows that compute with numbers share: gradients through the whole row against differences, and channels-last
 * against ONNX's order of axes. */
#ifndef ROWTEST_H
#define ROWTEST_H

#include "nodetest.h"

/* Fourth-order differences of float32 results with a step of 1/16: rounding is 1e-6 / (1/16), the formula's own error less. */
#define TOLERANCE 1e-4
#define STEP .0625f
#define DIMS(...) (sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]){__VA_ARGS__}

typedef NodeTest make_fn(int variant);

static inline PapaValue *activation(NodeTest *t, size_t rank, const int64_t *dims)
{
    return node_input(t, PAPA_VALUE_ACTIVATION, FLOAT, (int)rank, dims);
}

static inline PapaValue *tensor(NodeTest *t, size_t rank, const int64_t *dims)
{
    return node_input(t, PAPA_VALUE_TENSOR, FLOAT, (int)rank, dims);
}

/* Inputs that a gradient belongs to: floats, but a normalisation's running statistics. */
static inline bool has_gradient(const NodeTest *t, int input)
{
    const PapaValue *x = t->node->in[input];
    const bool statistic = !strcmp(t->node->op->type, "BatchNormalization") && (input == 3 || input == 4);
    return x && papa_type_is_float(x->type) && x->kind != PAPA_VALUE_CONSTANT && !statistic;
}

/* <dy, y> after a forward pass with one element of an input moved. */
static inline double loss_at(NodeTest *t, float *x, float value)
{
    const PapaValue *y = t->node->out[0];
    const float old = *x;
    double sum = 0;
    *x = value;
    CHECK(node_execute(t, one_thread, false, 0) == PAPA_OK, "%s", papa_error());
    for (int64_t i = 0; i < node_count(y); i++)
        sum += (double)t->data[y->index][i] * (double)t->grad[y->index][i];
    *x = old;
    return sum;
}

static inline double slope_at(NodeTest *t, float *x)
{
    const float at = *x;
    return (8 * (loss_at(t, x, at + STEP) - loss_at(t, x, at - STEP)) - (loss_at(t, x, at + 2 * STEP) - loss_at(t, x, at - 2 * STEP))) /
           (12 * (double)STEP);
}

/* The node must be prepared. The outputs' gradients are drawn anew for each pass, as backward may overwrite them. */
static inline void check_gradients(NodeTest *t, const char *what)
{
    const PapaValue *y = t->node->out[0];
    for (int accumulate = 0; accumulate < 2; accumulate++) {
        float *dy = random_floats(node_count(y), -1, 1), *kept = FLOATS(node_count(y));
        memcpy(kept, dy, (size_t)node_count(y) * sizeof *dy);
        free(t->grad[y->index]);
        t->grad[y->index] = dy;
        for (int i = 0; i < t->node->n_in; i++)
            if (has_gradient(t, i))
                t->grad[t->node->in[i]->index] = poisoned(node_count(t->node->in[i]), accumulate);
        CHECK_OK(node_execute(t, one_thread, false, 0));
        CHECK_OK(node_execute(t, one_thread, true, accumulate ? ~0u : 0));
        memcpy(dy, kept, (size_t)node_count(y) * sizeof *dy);
        for (int i = 0; i < t->node->n_in; i++) {
            if (!has_gradient(t, i))
                continue;
            const int index = t->node->in[i]->index;
            const int64_t n = node_count(t->node->in[i]);
            double *want = DOUBLES(n);
            for (int64_t e = 0; e < n; e++)
                want[e] = slope_at(t, &t->data[index][e]);
            check_near(what, t->grad[index], want, n, accumulate, TOLERANCE);
            free(want), free(t->grad[index]);
            t->grad[index] = NULL;
        }
        free(kept);
    }
}

/* ---------------------------------------------------------------- orders of axes */

static inline void to_channels_last(float *to, const float *from, const PapaShape *onnx_order)
{
    const int64_t rest = papa_shape_count_from(onnx_order, 2, onnx_order->rank), C = onnx_order->dim[1];
    for (int64_t n = 0; n < onnx_order->dim[0]; n++)
        for (int64_t c = 0; c < C; c++)
            for (int64_t i = 0; i < rest; i++)
                to[(n * rest + i) * C + c] = from[(n * C + c) * rest + i];
}

/* The node with in[0]'s rank in channels-last order, and the same data as the other. */
static inline NodeTest moved_like(make_fn *make, int variant, const NodeTest *other)
{
    NodeTest t = make(variant);
    const int rank = t.node->in[0]->shape.rank;
    CHECK(node_infer(&t) == PAPA_OK, "%s", papa_error());
    for (int i = 0; i < t.node->n_in; i++) {
        PapaValue *x = t.node->in[i];
        if (!x || !papa_type_is_float(x->type))
            continue;
        memcpy(t.data[x->index], other->data[x->index], (size_t)node_count(x) * sizeof(float));
        if (x->shape.rank == rank) {
            to_channels_last(t.data[x->index], other->data[x->index], &x->shape);
            papa_shape_to_channels_last(&x->shape);
        }
    }
    if (t.node->out[0]->shape.rank == rank)
        papa_shape_to_channels_last(&t.node->out[0]->shape);
    if (t.node->op->permute)
        t.node->op->permute(t.node, rank);
    return t;
}

/* Both orders give the same numbers to within rounding, as sums run in the order of the axes; both have right gradients. */
static inline void check_both_orders(make_fn *make, int variant, const char *what)
{
    NodeTest t = make(variant);
    CHECK_OK(node_infer(&t));
    NodeTest moved = moved_like(make, variant, &t);
    const PapaShape y = t.node->out[0]->shape;
    CHECK_OK(node_prepare(&t, one_thread));
    CHECK_OK(node_prepare(&moved, one_thread));
    CHECK_OK(node_execute(&t, one_thread, false, 0));
    CHECK_OK(node_execute(&moved, one_thread, false, 0));
    const float *got = t.data[t.node->out[0]->index];
    float *same_order = FLOATS(papa_shape_count(&y));
    memcpy(same_order, got, (size_t)papa_shape_count(&y) * sizeof(float));
    if (y.rank == t.node->in[0]->shape.rank)
        to_channels_last(same_order, got, &y);
    double *want = DOUBLES(papa_shape_count(&y));
    for (int64_t i = 0; i < papa_shape_count(&y); i++)
        want[i] = (double)same_order[i];
    check_near(what, moved.data[moved.node->out[0]->index], want, papa_shape_count(&y), false, 1e-6);
    check_gradients(&t, what);
    check_gradients(&moved, what);
    free(same_order), free(want);
    node_end(&t), node_end(&moved);
}

/* For operators that demand one order: in[0] is already in it. */
static inline void check_moved_only(make_fn *make, int variant, const char *what)
{
    NodeTest t = make(variant);
    NodeTest moved = moved_like(make, variant, &t);
    CHECK(t.node->op->layout(moved.node, moved.graph) == PAPA_LAYOUT_CHANNELS_LAST, "%s wants another order", what);
    CHECK_OK(node_prepare(&moved, one_thread));
    check_gradients(&moved, what);
    node_end(&t), node_end(&moved);
}

static inline void check_logical(make_fn *make, int variant, const char *what)
{
    NodeTest t = make(variant);
    CHECK_OK(node_infer(&t));
    CHECK_OK(node_prepare(&t, one_thread));
    check_gradients(&t, what);
    node_end(&t);
}

static inline void check_layout(make_fn *make, int variant, PapaLayout want)
{
    NodeTest t = make(variant);
    CHECK_OK(node_infer(&t));
    const PapaLayout got = t.node->op->layout(t.node, t.graph);
    CHECK(got == want, "%s variant %d: layout %d, expected %d", t.node->op->type, variant, got, want);
    node_end(&t);
}

static inline void check_refused(NodeTest t, PapaStatus code, const char *text)
{
    CHECK_FAILS(node_infer(&t), code, text);
    node_end(&t);
}

#endif
