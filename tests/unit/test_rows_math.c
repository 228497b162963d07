/* Rows that compute with numbers: arithmetic, normalisation, pooling, softmax, reductions.
 *
 * Kernels have tests of their own, and current opsets are checked on ONNX's cases (tests/oracle). Here: gradients through the whole
 * row, channels-last against ONNX's order, older opsets' attributes, roles, and what must be refused. */
#include "rowtest.h"

/* ---------------------------------------------------------------- arithmetic */

static NodeTest make_arithmetic(int variant)
{
    static const char *const types[] = {"Add", "Sub", "Mul", "Div", "Sum"};
    NodeTest t = node_begin(types[variant % 5], 13);
    const int shapes = variant / 5;
    activation(&t, 4, shapes == 3 ? (int64_t[]){1, 3, 1, 2} : (int64_t[]){2, 3, 2, 2});
    PapaValue *b = shapes == 0 ? activation(&t, DIMS(2, 3, 2, 2)) : shapes == 1 ? activation(&t, DIMS(1, 3, 1, 1)) :
        shapes == 2 ? activation(&t, 0, NULL) : activation(&t, DIMS(2, 3, 2, 1));
    for (int64_t i = 0; i < node_count(b); i++) /* divisors away from 0 */
        t.data[b->index][i] += 2.5f;
    if (variant % 5 == 4)
        activation(&t, DIMS(1, 1, 2, 1));
    node_outputs(&t, 1);
    for (int i = 0; i < t.node->n_in; i++)
        t.node->in[i]->wants_grad = true;
    return t;
}

static void check_fused_add(void)
{
    NodeTest t = make_arithmetic(0);
    CHECK_OK(node_infer(&t));
    t.node->relu = true;
    for (int i = 0; i < 24; i += 2) /* sums of -2 or +3 and more: none within the differences' reach of 0 */
        t.data[0][i] = -1.5f - 3;
    CHECK(t.node->op->fuses & PAPA_FUSE_RELU && t.node->op->keeps(t.node, t.graph) == PAPA_KEEP_OUT(0));
    CHECK_OK(node_prepare(&t, one_thread));
    CHECK_OK(node_execute(&t, one_thread, false, 0));
    const float *y = t.data[t.node->out[0]->index];
    CHECK(y[0] == 0 && y[1] == t.data[0][1] + t.data[1][1], "%g, %g", (double)y[0], (double)y[1]);
    check_gradients(&t, "Add with Relu");
    node_end(&t);
}

static PapaRole role_of(const char *type, int input, bool on_input, int64_t n)
{
    int64_t fan_in = 0;
    NodeTest t = node_begin(type, 13);
    for (int i = 0; i < 2; i++) {
        if (i == input)
            tensor(&t, DIMS(n));
        else
            activation(&t, DIMS(2, 4));
    }
    node_outputs(&t, 1);
    CHECK(node_infer(&t) == PAPA_OK, "%s", papa_error());
    t.node->on_input = on_input;
    const PapaRole role = t.node->op->role(t.node, input, &fan_in);
    node_end(&t);
    return role;
}

static NodeTest make_division(int64_t divisor)
{
    NodeTest t = node_begin("Div", 13);
    node_known(&t, INT64, 3, (int64_t[]){-7, 7, INT64_MIN});
    node_known(&t, INT64, 1, &divisor);
    node_outputs(&t, 1);
    return t;
}

static NodeTest make_mixed_types(void)
{
    NodeTest t = node_begin("Add", 13);
    activation(&t, DIMS(3));
    node_known(&t, INT64, 1, (int64_t[]){2});
    node_outputs(&t, 1);
    return t;
}

static void test_arithmetic(void)
{
    for (int variant = 0; variant < 20; variant++)
        check_both_orders(make_arithmetic, variant, "arithmetic");
    check_fused_add();
    CHECK(role_of("Add", 1, false, 4) == PAPA_ROLE_BIAS && role_of("Add", 0, false, 4) == PAPA_ROLE_BIAS);
    CHECK(role_of("Sum", 1, false, 4) == PAPA_ROLE_BIAS && role_of("Mul", 0, false, 4) == PAPA_ROLE_SCALE);
    CHECK(role_of("Sub", 1, false, 4) == PAPA_ROLE_SHIFT && role_of("Sub", 0, false, 4) == PAPA_ROLE_NONE);
    CHECK(role_of("Div", 1, false, 4) == PAPA_ROLE_NONE);
    CHECK(role_of("Add", 1, true, 4) == PAPA_ROLE_NONE && role_of("Mul", 1, true, 4) == PAPA_ROLE_NONE, "preprocessing is trained");
    CHECK(role_of("Add", 1, false, 1) == PAPA_ROLE_NONE && role_of("Sum", 1, false, 1) == PAPA_ROLE_NONE, "a single number is trained");
    NodeTest t = make_division(2);
    CHECK_OK(node_infer(&t));
    const int64_t *halves = t.node->out[0]->data;
    CHECK(halves[0] == -3 && halves[1] == 3, "%lld, %lld", (long long)halves[0], (long long)halves[1]);
    node_end(&t);
    t = make_division(-1);
    CHECK_OK(node_infer(&t));
    CHECK(((const int64_t *)t.node->out[0]->data)[2] == INT64_MIN);
    node_end(&t);
    check_refused(make_division(0), PAPA_ERR_FORMAT, "the node: -7 divided by 0");
    check_refused(make_mixed_types(), PAPA_ERR_FORMAT, "input 1 is INT64, expected FLOAT");
}

/* ---------------------------------------------------------------- BatchNormalization */

/* variant: bits 1 rank 4 instead of 2, 2 residual and no Relu, 4 frozen. The opset changes nothing that is computed. */
static NodeTest make_norm_at(int64_t opset, int variant, int n_out)
{
    NodeTest t = node_begin("BatchNormalization", opset);
    if (variant & 1)
        activation(&t, DIMS(3, 2, 2, 3));
    else
        activation(&t, DIMS(7, 2));
    for (int i = 0; i < 4; i++)
        tensor(&t, DIMS(2));
    for (int c = 0; c < 2; c++)
        t.data[4][c] = 1.5f; /* a variance */
    if (variant & 2)
        activation(&t, (size_t)t.node->in[0]->shape.rank, t.node->in[0]->shape.dim);
    t.graph->frozen_stats = variant & 4;
    node_outputs(&t, n_out);
    return t;
}

static NodeTest make_norm(int variant)
{
    return make_norm_at(15, variant, 1);
}

/* With a Relu joined: where it masks is drawn from values that are not near 0. */
static void check_norm_relu(void)
{
    NodeTest t = make_norm(2);
    CHECK_OK(node_infer(&t));
    t.node->relu = true;
    for (int i = 0; i < 14; i++)
        t.data[5][i] = i % 3 ? 9 : -9;
    CHECK_OK(node_prepare(&t, one_thread));
    check_gradients(&t, "BatchNormalization + residual + Relu");
    node_end(&t);
}

/* The running mean of channel 0 after one forward pass over a batch whose mean is 1, from 5. */
static double running_mean_after(PapaMode mode, bool frozen)
{
    NodeTest t = make_norm(0);
    node_float(&t, "momentum", .75f);
    t.graph->mode = mode, t.graph->frozen_stats = frozen;
    for (int i = 0; i < 14; i++)
        t.data[0][i] = i % 4 == 0 ? 1.5f : i == 2 || i == 6 || i == 10 ? .5f : i == 12 ? 1 : 0;
    t.data[0][0] = 1; /* column 0: 1, .5, 1.5, .5, 1.5, .5, 1 + ... made to sum to 7 below */
    double sum = 0;
    for (int r = 0; r < 6; r++)
        sum += (double)t.data[0][2 * r];
    t.data[0][12] = (float)(7 - sum);
    t.data[3][0] = 5;
    CHECK(node_infer(&t) == PAPA_OK && node_prepare(&t, one_thread) == PAPA_OK && node_execute(&t, one_thread, false, 0) == PAPA_OK,
        "%s", papa_error());
    const double mean = (double)t.data[3][0];
    node_end(&t);
    return mean;
}

static NodeTest make_norm_with(const char *attribute, int64_t value, int64_t opset, int n_out)
{
    NodeTest t = make_norm_at(opset, 0, n_out);
    if (attribute)
        node_int(&t, attribute, value);
    return t;
}

static NodeTest make_norm_of_other_width(void)
{
    NodeTest t = make_norm(0);
    t.node->in[3]->shape.dim[0] = 3;
    return t;
}

static NodeTest make_norm_with_used_mean(void)
{
    NodeTest t = make_norm_at(9, 0, 5);
    t.graph->outputs = node_need(PAPA_NEW_ARRAY(&t.graph->arena, PapaValue *, 1));
    t.graph->outputs[0] = t.node->out[1];
    t.graph->n_outputs = 1;
    return t;
}

static void test_norm(void)
{
    for (int variant = 0; variant < 8; variant++) {
        if (variant & 1)
            check_moved_only(make_norm, variant, "BatchNormalization");
        else
            check_logical(make_norm, variant, "BatchNormalization");
    }
    check_norm_relu();
    CHECK_NEAR(running_mean_after(PAPA_MODE_TRAIN, false), .75 * 5 + .25 * 1, 1e-6);
    CHECK_NEAR(running_mean_after(PAPA_MODE_TRAIN, true), 5, 0);
    CHECK_NEAR(running_mean_after(PAPA_MODE_INFER, false), 5, 0);
    CHECK_NEAR(running_mean_after(PAPA_MODE_CALIBRATE, false), 1, 1e-6); /* the step's momentum is 0 */
    NodeTest t = make_norm_at(9, 0, 5);
    CHECK_OK(node_infer(&t));
    CHECK(t.node->op->role(t.node, 1, NULL) == PAPA_ROLE_SCALE && t.node->op->role(t.node, 2, NULL) == PAPA_ROLE_SHIFT &&
          t.node->op->role(t.node, 3, NULL) == PAPA_ROLE_MEAN && t.node->op->role(t.node, 4, NULL) == PAPA_ROLE_VARIANCE);
    node_end(&t);
    t = make_norm_with("training_mode", 1, 14, 3);
    CHECK_OK(node_infer(&t));
    node_end(&t);
    t = make_norm(0); /* a running mean that is computed can't be written to */
    t.node->in[3]->kind = PAPA_VALUE_ACTIVATION;
    CHECK_OK(node_infer(&t));
    CHECK_FAILS(node_prepare(&t, one_thread), PAPA_ERR_UNSUPPORTED, "input 3");
    node_end(&t);
    check_refused(make_norm_with("spatial", 0, 7, 1), PAPA_ERR_UNSUPPORTED, "spatial");
    check_refused(make_norm_with(NULL, 0, 15, 3), PAPA_ERR_FORMAT, "3 outputs without training_mode");
    check_refused(make_norm_of_other_width(), PAPA_ERR_MISMATCH, "input 3 ('input') has shape (3), expected (2)");
    check_refused(make_norm_with_used_mean(), PAPA_ERR_UNSUPPORTED, "the statistics in output 'output' are used");
}

/* ---------------------------------------------------------------- LayerNormalization */

/* variant: bits 1 without a shift, 2 with scale and shift of a rank more; the rest: axis. */
static NodeTest make_layernorm(int variant)
{
    static const int64_t axes[] = {-1, 1, -2, 0, 2};
    const int64_t axis = axes[variant / 4], dims[] = {1, 2, 3, 5}, first = (axis < 0 ? axis + 3 : axis) + (variant & 2 ? 0 : 1);
    NodeTest t = node_begin("LayerNormalization", 17);
    activation(&t, DIMS(2, 3, 5));
    for (int i = 0; i < 2 - (variant & 1); i++)
        tensor(&t, (size_t)(4 - first), dims + first);
    if (variant & 2) /* a 1 in front of the normalised axes */
        for (int i = 1; i < t.node->n_in; i++)
            t.node->in[i]->shape.dim[0] = 1;
    node_int(&t, "axis", axis);
    node_float(&t, "epsilon", .3f);
    node_outputs(&t, 1);
    return t;
}

static NodeTest make_layernorm_with(const char *attribute, int64_t value, PapaMode mode, int n_out, bool used)
{
    NodeTest t = node_begin("LayerNormalization", 17);
    activation(&t, DIMS(2, 3, 4));
    tensor(&t, DIMS(4));
    tensor(&t, DIMS(4));
    if (attribute)
        node_int(&t, attribute, value);
    node_float(&t, "epsilon", .3f); /* rows of four may have little variance, and much curvature */
    node_outputs(&t, n_out);
    t.graph->mode = mode;
    t.graph->outputs = node_need(PAPA_NEW_ARRAY(&t.graph->arena, PapaValue *, 1));
    t.graph->outputs[0] = t.node->out[used ? n_out - 1 : 0];
    t.graph->n_outputs = 1;
    return t;
}

/* Mean and InvStdDev, where they may be asked for. */
static void check_layernorm_statistics(void)
{
    NodeTest t = make_layernorm_with("axis", 2, PAPA_MODE_INFER, 3, true);
    CHECK_OK(node_infer(&t));
    const PapaShape want = {.rank = 3, .dim = {2, 3, 1}};
    CHECK(papa_shape_equal(&t.node->out[1]->shape, &want) && papa_shape_equal(&t.node->out[2]->shape, &want));
    CHECK_OK(node_prepare(&t, one_thread));
    CHECK_OK(node_execute(&t, one_thread, false, 0));
    const float *x = t.data[0], *mean = t.data[t.node->out[1]->index], *rstd = t.data[t.node->out[2]->index];
    for (int r = 0; r < 6; r++, x += 4) {
        const double m = ((double)x[0] + (double)x[1] + (double)x[2] + (double)x[3]) / 4;
        double variance = 0;
        for (int j = 0; j < 4; j++)
            variance += ((double)x[j] - m) * ((double)x[j] - m) / 4;
        CHECK_NEAR((double)mean[r], m, 1e-6);
        CHECK_NEAR((double)rstd[r] * sqrt(variance + .3), 1, 1e-6);
    }
    node_end(&t);
    t = make_layernorm_with(NULL, 0, PAPA_MODE_TRAIN, 3, false); /* there, but nobody reads them */
    CHECK_OK(node_infer(&t));
    CHECK_OK(node_prepare(&t, one_thread));
    check_gradients(&t, "LayerNormalization with unread statistics");
    node_end(&t);
    check_refused(make_layernorm_with(NULL, 0, PAPA_MODE_TRAIN, 2, true), PAPA_ERR_UNSUPPORTED, "the statistics in output 'output' are used");
}

static NodeTest make_layernorm_of_other_width(int64_t rank, const int64_t *dims)
{
    NodeTest t = node_begin("LayerNormalization", 17);
    activation(&t, DIMS(2, 3, 4));
    tensor(&t, DIMS(4));
    tensor(&t, (size_t)rank, dims);
    node_outputs(&t, 1);
    return t;
}

static void test_layernorm(void)
{
    for (int variant = 0; variant < 20; variant++)
        if (!(variant & 2) || variant / 4 != 3) /* nothing stands in front of axis 0 */
            check_logical(make_layernorm, variant, "LayerNormalization");
    check_layernorm_statistics();
    NodeTest t = make_layernorm(0);
    CHECK_OK(node_infer(&t));
    CHECK(t.node->op->role(t.node, 0, NULL) == PAPA_ROLE_NONE && t.node->op->role(t.node, 1, NULL) == PAPA_ROLE_SCALE &&
          t.node->op->role(t.node, 2, NULL) == PAPA_ROLE_SHIFT && t.node->op->normalizes && !t.node->op->layout);
    CHECK(t.node->op->float32(t.node) == 6, "%u", t.node->op->float32(t.node));
    node_end(&t);
    check_refused(make_layernorm_with("stash_type", 16, PAPA_MODE_TRAIN, 1, false), PAPA_ERR_UNSUPPORTED, "stash_type is 16, expected 1");
    check_refused(make_layernorm_with("axis", 3, PAPA_MODE_TRAIN, 1, false), PAPA_ERR_FORMAT, "axis 3");
    check_refused(make_layernorm_of_other_width(DIMS(3)), PAPA_ERR_MISMATCH, "input 2 ('input') has shape (3), expected (4)");
    check_refused(make_layernorm_of_other_width(DIMS(3, 4)), PAPA_ERR_MISMATCH, "has shape (3, 4), expected (4)");
    check_refused(make_layernorm_of_other_width(0, NULL), PAPA_ERR_MISMATCH, "has shape (), expected (4)");
}

/* ---------------------------------------------------------------- pooling */

static NodeTest make_pool(int variant)
{
    static const char *const types[] = {"MaxPool", "AveragePool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "AveragePool"};
    NodeTest t = node_begin(types[variant], 19);
    const bool sequence = variant >= 5;
    PapaValue *x = sequence ? activation(&t, DIMS(2, 3, 7)) : activation(&t, DIMS(2, 3, 5, 4));
    for (int64_t i = 0; i < node_count(x); i++) /* distinct by more than the differences' reach */
        t.data[x->index][i] = (float)(i * 37 % 127) * .3f;
    if (sequence) {
        node_ints(&t, "kernel_shape", 1, (int64_t[]){3});
        node_ints(&t, "strides", 1, (int64_t[]){2});
        node_ints(&t, "pads", 2, (int64_t[]){1, 0});
    } else if (variant < 3) {
        node_ints(&t, "kernel_shape", 2, (int64_t[]){3, 2});
        node_ints(&t, "strides", 2, (int64_t[]){2, 1});
        node_ints(&t, "pads", 4, (int64_t[]){1, 0, 2, 1});
        node_int(&t, "count_include_pad", variant == 2);
    }
    node_outputs(&t, 1);
    return t;
}

/* Output's length and padding in front for an input of this length. */
static void check_pool_length(const char *auto_pad, int64_t ceil_mode, int64_t length, int64_t kernel, int64_t stride, int64_t dilation, int64_t pad,
    int64_t want)
{
    NodeTest t = node_begin("MaxPool", 12);
    activation(&t, DIMS(1, 1, length));
    node_ints(&t, "kernel_shape", 1, &kernel);
    node_ints(&t, "strides", 1, &stride);
    node_ints(&t, "dilations", 1, &dilation);
    if (auto_pad)
        node_string(&t, "auto_pad", auto_pad);
    else
        node_ints(&t, "pads", 2, (int64_t[]){pad, pad});
    node_int(&t, "ceil_mode", ceil_mode);
    node_outputs(&t, 1);
    CHECK_OK(node_infer(&t));
    CHECK(t.node->out[0]->shape.dim[2] == want, "%lld positions, expected %lld", (long long)t.node->out[0]->shape.dim[2], (long long)want);
    node_end(&t);
}

/* Where the padding of an odd SAME goes shows in which maxima are found: input 9 1 1 1, window 2, stride 1. */
static void check_same_side(const char *auto_pad, float first, float second)
{
    const float x[4] = {9, 1, 1, 1};
    NodeTest t = node_begin("AveragePool", 11);
    memcpy(t.data[activation(&t, DIMS(1, 1, 4))->index], x, sizeof x);
    node_ints(&t, "kernel_shape", 1, (int64_t[]){2});
    node_string(&t, "auto_pad", auto_pad);
    node_outputs(&t, 1);
    CHECK_OK(node_infer(&t));
    papa_shape_to_channels_last(&t.node->in[0]->shape);
    papa_shape_to_channels_last(&t.node->out[0]->shape);
    CHECK_OK(node_prepare(&t, one_thread));
    CHECK_OK(node_execute(&t, one_thread, false, 0));
    const float *y = t.data[t.node->out[0]->index];
    CHECK(y[0] == first && y[1] == second, "%s: %g, %g", auto_pad, (double)y[0], (double)y[1]);
    node_end(&t);
}

static NodeTest make_pool_of(size_t rank, const int64_t *dims, int n_axes, int n_out)
{
    NodeTest t = node_begin("MaxPool", 12);
    activation(&t, rank, dims);
    node_ints(&t, "kernel_shape", n_axes, (int64_t[]){3, 3, 3});
    node_outputs(&t, n_out);
    return t;
}

static NodeTest make_pool_with_auto_pad(const char *auto_pad)
{
    NodeTest t = make_pool_of(DIMS(1, 1, 5, 5), 2, 1);
    node_string(&t, "auto_pad", auto_pad);
    return t;
}

static void test_pool(void)
{
    for (int variant = 0; variant < 7; variant++)
        check_moved_only(make_pool, variant, "pooling");
    check_pool_length(NULL, 0, 10, 3, 2, 1, 0, 4);
    check_pool_length(NULL, 1, 10, 3, 2, 1, 0, 5);
    check_pool_length(NULL, 1, 2, 1, 2, 1, 0, 1);        /* a second window would start at 2, behind the map */
    check_pool_length(NULL, 1, 5, 2, 3, 1, 1, 2);        /* a third would start at 5 of 5, in the padding */
    check_pool_length(NULL, 0, 10, 3, 1, 3, 1, 6);
    check_pool_length("VALID", 1, 10, 3, 2, 1, 0, 4);
    check_pool_length("SAME_UPPER", 0, 10, 3, 3, 1, 0, 4);
    check_pool_length("SAME_LOWER", 1, 9, 2, 3, 1, 0, 3);
    check_same_side("SAME_UPPER", 5, 1);
    check_same_side("SAME_LOWER", 9, 5);
    check_refused(make_pool_of(DIMS(1, 1, 5, 5), 2, 2), PAPA_ERR_UNSUPPORTED, "Indices");
    check_refused(make_pool_of(DIMS(1, 1, 5, 5, 5), 3, 1), PAPA_ERR_UNSUPPORTED, "kernel_shape has 3 axes");
    check_refused(make_pool_of(DIMS(1, 1, 5, 5), 1, 1), PAPA_ERR_MISMATCH, "kernel_shape 1 axes");
    check_refused(make_pool_of(DIMS(1, 1, 5, 2), 2, 1), PAPA_ERR_MISMATCH, "too small for the window of 3 along axis 3");
    check_refused(make_pool_with_auto_pad("SAME"), PAPA_ERR_FORMAT, "auto_pad is \"SAME\"");
}

/* ---------------------------------------------------------------- softmax */

static NodeTest make_softmax(int variant)
{
    static const int64_t axes[] = {-1, 1, 2, 1, 2, 3, 0}, opsets[] = {13, 13, 13, 11, 7, 11, 12};
    NodeTest t = node_begin(variant % 2 ? "LogSoftmax" : "Softmax", opsets[variant / 2]);
    activation(&t, DIMS(2, 3, 2, 3));
    node_int(&t, "axis", axes[variant / 2]);
    node_outputs(&t, 1);
    return t;
}

static NodeTest make_softmax_of_default_axis(int64_t opset)
{
    NodeTest t = node_begin("Softmax", opset);
    activation(&t, DIMS(2, 3, 4));
    node_outputs(&t, 1);
    return t;
}

/* The sum of the first row's probabilities up to where it must be 1. */
static void check_softmax_extent(NodeTest t, int64_t n)
{
    double sum = 0;
    CHECK_OK(node_infer(&t));
    CHECK_OK(node_prepare(&t, one_thread));
    CHECK_OK(node_execute(&t, one_thread, false, 0));
    for (int64_t i = 0; i < n; i++)
        sum += (double)t.data[t.node->out[0]->index][i];
    CHECK_NEAR(sum, 1, 1e-6);
    node_end(&t);
}

static void test_softmax(void)
{
    static const bool follows[] = {true, true, true, false, false, true, false};
    for (int variant = 0; variant < 14; variant++) {
        check_layout(make_softmax, variant, follows[variant / 2] ? PAPA_LAYOUT_FOLLOW : PAPA_LAYOUT_LOGICAL);
        if (follows[variant / 2])
            check_both_orders(make_softmax, variant, "softmax");
        else
            check_logical(make_softmax, variant, "softmax");
    }
    check_softmax_extent(make_softmax_of_default_axis(12), 12);
    check_softmax_extent(make_softmax_of_default_axis(13), 4);
    check_softmax_extent(make_softmax(12), 36);
    NodeTest t = make_softmax_of_default_axis(13);
    node_int(&t, "axis", 3);
    check_refused(t, PAPA_ERR_FORMAT, "axis 3");
}

/* ---------------------------------------------------------------- reductions */

static NodeTest make_reduce(int variant)
{
    const bool mean = variant % 2, as_input = variant / 2 % 2, keep = variant / 4 % 2;
    const int which = variant / 8;
    static const int64_t axes[][2] = {{2, -1}, {1, 1}, {3, 2}, {0, 2}};
    static const int n_axes[] = {2, 1, 1, 2};
    NodeTest t = node_begin(mean ? "ReduceMean" : "ReduceSum", as_input ? 18 : mean ? 17 : 12);
    activation(&t, DIMS(2, 3, 2, 3));
    if (as_input)
        node_known(&t, INT64, n_axes[which], axes[which]);
    else
        node_ints(&t, "axes", n_axes[which], axes[which]);
    node_int(&t, "keepdims", keep);
    node_outputs(&t, 1);
    return t;
}

/* Without axes: everything, or nothing. */
static void check_no_axes(const char *type, int64_t opset, bool noop, int rank)
{
    NodeTest t = node_begin(type, opset);
    activation(&t, DIMS(2, 3));
    node_int(&t, "noop_with_empty_axes", noop);
    node_int(&t, "keepdims", 0);
    node_outputs(&t, 1);
    CHECK_OK(node_infer(&t));
    CHECK(t.node->out[0]->shape.rank == rank, "%s at opset %lld gives %s", type, (long long)opset, papa_shape_text(&t.node->out[0]->shape));
    node_end(&t);
}

static void check_folded(const char *type, int64_t want0, int64_t want1)
{
    NodeTest t = node_begin(type, 13);
    PapaValue *x = node_input(&t, PAPA_VALUE_CONSTANT, INT64, 2, (int64_t[]){2, 3});
    static const int64_t data[6] = {4, -2, 5, -3, -7, 3};
    x->data = data;
    if (strcmp(type, "ReduceSum") == 0)
        node_known(&t, INT64, 1, (int64_t[]){1});
    else
        node_ints(&t, "axes", 1, (int64_t[]){1});
    node_outputs(&t, 1);
    CHECK_OK(node_infer(&t));
    const int64_t *got = t.node->out[0]->data;
    CHECK(got[0] == want0 && got[1] == want1, "%s: %lld, %lld", type, (long long)got[0], (long long)got[1]);
    node_end(&t);
}

/* Of ones, a mean is 1 and a sum over two axes of 2 and 3 is 6. */
static void check_reduced_ones(int variant, float want)
{
    NodeTest t = make_reduce(variant);
    for (int i = 0; i < 36; i++)
        t.data[0][i] = 1;
    CHECK_OK(node_infer(&t));
    CHECK_OK(node_prepare(&t, one_thread));
    CHECK_OK(node_execute(&t, one_thread, false, 0));
    CHECK_NEAR((double)t.data[t.node->out[0]->index][0], (double)want, 1e-6);
    node_end(&t);
}

static NodeTest make_reduce_of(const char *type, int64_t axis)
{
    NodeTest t = node_begin(type, 17);
    activation(&t, DIMS(2, 3));
    node_ints(&t, "axes", 2, (int64_t[]){axis, 1});
    node_outputs(&t, 1);
    return t;
}

static void test_reduce(void)
{
    static const bool follows[] = {true, true, false, false}; /* without keepdims */
    for (int variant = 0; variant < 32; variant++) {
        const bool any_order = variant / 4 % 2 || follows[variant / 8];
        check_layout(make_reduce, variant, any_order ? PAPA_LAYOUT_FOLLOW : PAPA_LAYOUT_LOGICAL);
        if (any_order)
            check_both_orders(make_reduce, variant, "reduction");
        else
            check_logical(make_reduce, variant, "reduction");
    }
    check_reduced_ones(0, 6);
    check_reduced_ones(1, 1);
    check_no_axes("ReduceMean", 17, false, 0);
    check_no_axes("ReduceMean", 18, false, 0);
    check_no_axes("ReduceMean", 18, true, 2);
    check_no_axes("ReduceSum", 13, true, 2);
    check_folded("ReduceSum", 7, -7);
    check_folded("ReduceMean", 2, -2);
    check_folded("ReduceMax", 5, 3);
    check_folded("ReduceMin", -2, -7);
    check_folded("ReduceProd", -40, 63);
    check_refused(make_reduce_of("ReduceMax", 0), PAPA_ERR_UNSUPPORTED, "ReduceMax is supported on constants only");
    check_refused(make_reduce_of("ReduceMean", 1), PAPA_ERR_FORMAT, "axis 1 is listed twice");
    check_refused(make_reduce_of("ReduceMean", 2), PAPA_ERR_FORMAT, "axis 2");
}

int main(void)
{
    if (kerneltest_begin()) {
        test_arithmetic();
        test_norm();
        test_layernorm();
        test_pool();
        test_softmax();
        test_reduce();
    }
    return kerneltest_end();
}
