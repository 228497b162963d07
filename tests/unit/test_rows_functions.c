/* The rows of functions of one tensor: values, gradients, both orders of axes, attributes of every opset, folding, and what must be
 * refused. */
#include "rowtest.h"

/* opset: the one that has the operator and its attributes as they are given here. at: where the function is known. */
typedef struct Function {
    const char *type;
    int64_t opset;
    bool kinks; /* at 0 or at the bounds */
    struct { const char *name; float value; } attrs[2];
    const char *approximate;
    float at, value;
} Function;

static const Function functions[] = {
    {"Sigmoid", 13, .at = 0, .value = .5f},
    {"Tanh", 13, .at = .5f, .value = .4621171573f},
    {"Neg", 13, .at = 2, .value = -2},
    {"Exp", 13, .at = 1, .value = 2.718281828f},
    {"Erf", 13, .at = .5f, .value = .5204998778f},
    {"Softplus", 7, .at = -1, .value = .3132616875f},
    {"Mish", 18, .at = -1, .value = -.3034014612f},
    {"Gelu", 20, .at = -1, .value = -.1586552539f},
    {"Gelu", 20, .approximate = "none", .at = -1, .value = -.1586552539f},
    {"Gelu", 20, .approximate = "tanh", .at = -1, .value = -.1588080094f},
    {"Swish", 24, .at = -1, .value = -.2689414214f},
    {"Swish", 24, .attrs = {{"alpha", 2}}, .at = -1, .value = -.1192029220f},
    {"LeakyRelu", 13, true, .at = -2, .value = -.02f},
    {"Relu", 13, true, .at = -2, .value = 0},
    {"Clip", 7, true, {{"min", 0}, {"max", 3}}, .at = 9, .value = 3},
    {"Abs", 7, true, .at = -2, .value = 2},
    {"Softsign", 7, true, .at = -3, .value = -.75f},
    {"Elu", 7, true, .at = -1, .value = -.6321205588f},
    {"Elu", 22, true, {{"alpha", 2}}, .at = -1, .value = -1.264241118f},
    {"Selu", 7, true, .at = -1, .value = -1.111330735f},
    {"Selu", 7, true, {{"alpha", 2}, {"gamma", 3}}, .at = 2, .value = 6},
    {"Celu", 12, true, .at = -1, .value = -.6321205588f},
    {"Celu", 12, true, {{"alpha", .5f}}, .at = -1, .value = -.4323323584f},
    {"HardSigmoid", 7, true, .at = 1, .value = .7f},
    {"HardSigmoid", 22, true, {{"alpha", .125f}, {"beta", .625f}}, .at = -1, .value = .5f},
    {"HardSwish", 14, true, .at = -1, .value = -1.f / 3},
};
enum { N_FUNCTIONS = sizeof functions / sizeof *functions };

static NodeTest begin_function(const Function *f)
{
    NodeTest t = node_begin(f->type, f->opset);
    for (int i = 0; i < 2 && f->attrs[i].name; i++)
        node_float(&t, f->attrs[i].name, f->attrs[i].value);
    if (f->approximate)
        node_string(&t, "approximate", f->approximate);
    return t;
}

static NodeTest make_activation(int variant)
{
    NodeTest t = begin_function(&functions[variant]);
    PapaValue *x = activation(&t, DIMS(2, 3, 2, 2));
    for (int64_t i = 0; i < node_count(x) && functions[variant].kinks; i++)
        t.data[x->index][i] += t.data[x->index][i] > 0 ? .25f : -.25f;
    node_outputs(&t, 1);
    return t;
}

/* Computed, and folded away. */
static void check_value(const Function *f)
{
    for (int folded = 0; folded < 2; folded++) {
        NodeTest t = begin_function(f);
        PapaValue *x = node_input(&t, folded ? PAPA_VALUE_CONSTANT : PAPA_VALUE_ACTIVATION, FLOAT, 0, NULL);
        t.data[x->index][0] = f->at;
        node_outputs(&t, 1);
        CHECK_OK(node_infer(&t));
        if (!folded) {
            CHECK_OK(node_prepare(&t, one_thread));
            CHECK_OK(node_execute(&t, one_thread, false, 0));
        }
        const PapaValue *y = t.node->out[0];
        CHECK((y->kind == PAPA_VALUE_CONSTANT) == folded);
        const float *got = folded ? y->data : t.data[y->index];
        CHECK(fabsf(*got - f->value) <= 2e-7f * (1 + fabsf(f->value)), "%s(%g) is %.9g, expected %.9g", f->type, (double)f->at, (double)*got,
            (double)f->value);
        node_end(&t);
    }
}

/* Pow of a positive tensor; its exponent is a float or an integer. */
static NodeTest make_power(int variant)
{
    static const float exponents[] = {2, 3, -1, .5f};
    NodeTest t = node_begin("Pow", 13);
    PapaValue *x = activation(&t, DIMS(2, 3, 2, 2));
    for (int64_t i = 0; i < node_count(x); i++)
        t.data[x->index][i] += 2;
    if (variant == 4)
        node_known(&t, INT64, 1, (int64_t[]){2});
    else
        t.data[node_input(&t, PAPA_VALUE_CONSTANT, FLOAT, 0, NULL)->index][0] = exponents[variant];
    node_outputs(&t, 1);
    return t;
}

static NodeTest make_power_of_integers(PapaValueKind base, int64_t exponent)
{
    NodeTest t = node_begin("Pow", 13);
    if (base == PAPA_VALUE_CONSTANT)
        node_known(&t, INT64, 2, (int64_t[]){-3, 5});
    else
        node_input(&t, base, INT64, 1, (int64_t[]){2});
    node_known(&t, INT64, 1, &exponent);
    node_outputs(&t, 1);
    return t;
}

static NodeTest make_power_by(PapaValueKind kind, int64_t n)
{
    NodeTest t = node_begin("Pow", 13);
    activation(&t, DIMS(3));
    node_input(&t, kind, FLOAT, 1, &n);
    node_outputs(&t, 1);
    return t;
}

static void test_powers(void)
{
    for (int variant = 0; variant < 5; variant++)
        check_both_orders(make_power, variant, "Pow");
    check_refused(make_power_by(PAPA_VALUE_ACTIVATION, 1), PAPA_ERR_UNSUPPORTED, "exponent");
    check_refused(make_power_by(PAPA_VALUE_CONSTANT, 3), PAPA_ERR_UNSUPPORTED, "exponent");
    check_refused(make_power_of_integers(PAPA_VALUE_ACTIVATION, 2), PAPA_ERR_UNSUPPORTED, "INT64");
    for (int64_t exponent = 0; exponent < 4; exponent++) {
        NodeTest t = make_power_of_integers(PAPA_VALUE_CONSTANT, exponent);
        CHECK_OK(node_infer(&t));
        const int64_t *folded = t.node->out[0]->data, want[4][2] = {{1, 1}, {-3, 5}, {9, 25}, {-27, 125}};
        CHECK(t.node->out[0]->kind == PAPA_VALUE_CONSTANT && !memcmp(folded, want[exponent], sizeof *want), "to the power of %lld: %lld, %lld",
            (long long)exponent, (long long)folded[0], (long long)folded[1]);
        node_end(&t);
    }
}

/* What Clip makes of -3, 0.5 and 9. min, max: NULL leaves the bound out. */
static void check_clip(int64_t opset, const float *min, const float *max, const float want[3])
{
    const float x[3] = {-3, .5f, 9}, *bounds[2] = {min, max};
    NodeTest t = node_begin("Clip", opset);
    PapaValue *in = activation(&t, DIMS(3));
    memcpy(t.data[in->index], x, sizeof x);
    for (int i = 0; i < 2; i++) {
        if (opset < 11 && bounds[i])
            node_float(&t, i ? "max" : "min", *bounds[i]);
        else if (opset >= 11 && bounds[i])
            t.data[node_input(&t, PAPA_VALUE_CONSTANT, FLOAT, 0, NULL)->index][0] = *bounds[i];
        else if (opset >= 11)
            node_leave_out(&t);
    }
    node_outputs(&t, 1);
    CHECK_OK(node_infer(&t));
    CHECK_OK(node_prepare(&t, one_thread));
    CHECK_OK(node_execute(&t, one_thread, false, 0));
    CHECK(!memcmp(t.data[t.node->out[0]->index], want, sizeof x), "opset %lld: %g %g %g", (long long)opset,
        (double)t.data[t.node->out[0]->index][0], (double)t.data[t.node->out[0]->index][1], (double)t.data[t.node->out[0]->index][2]);
    node_end(&t);
}

static NodeTest make_with_integers(const char *type, bool known)
{
    NodeTest t = node_begin(type, 14);
    if (known)
        node_known(&t, INT64, 2, (int64_t[]){3, INT64_MIN});
    else
        node_input(&t, PAPA_VALUE_ACTIVATION, INT64, 1, (int64_t[]){2});
    node_outputs(&t, 1);
    return t;
}

static NodeTest make_function(const Function *f)
{
    NodeTest t = begin_function(f);
    activation(&t, DIMS(3));
    node_outputs(&t, 1);
    return t;
}

static NodeTest make_clip_by_activation(void)
{
    NodeTest t = node_begin("Clip", 13);
    activation(&t, DIMS(3));
    activation(&t, 0, NULL);
    node_outputs(&t, 1);
    return t;
}

static void test_activations(void)
{
    for (int variant = 0; variant < N_FUNCTIONS; variant++) {
        check_both_orders(make_activation, variant, functions[variant].type);
        check_value(&functions[variant]);
    }
    const float low = 0, high = 6, crossed = -1;
    for (int64_t opset = 7; opset <= 28; opset++) {
        check_clip(opset, &low, &high, (float[]){0, .5f, 6});
        check_clip(opset, &low, NULL, (float[]){0, .5f, 9});
        check_clip(opset, NULL, &high, (float[]){-3, .5f, 6});
        check_clip(opset, NULL, NULL, (float[]){-3, .5f, 9});
        check_clip(opset, &low, &crossed, (float[]){-1, -1, -1});
    }
    check_refused(make_with_integers("Relu", false), PAPA_ERR_UNSUPPORTED, "INT64");
    check_refused(make_with_integers("Neg", false), PAPA_ERR_UNSUPPORTED, "INT64");
    check_refused(make_with_integers("Abs", false), PAPA_ERR_UNSUPPORTED, "INT64");
    check_refused(make_function(&(Function){"Celu", 12, .attrs = {{"alpha", 0}}}), PAPA_ERR_FORMAT, "alpha");
    check_refused(make_function(&(Function){"Gelu", 20, .approximate = "sigmoid"}), PAPA_ERR_FORMAT, "approximate");
    check_refused(make_clip_by_activation(), PAPA_ERR_UNSUPPORTED, "the node");
    for (int abs = 0; abs < 2; abs++) {
        NodeTest t = make_with_integers(abs ? "Abs" : "Neg", true);
        CHECK_OK(node_infer(&t));
        const int64_t *folded = t.node->out[0]->data;
        CHECK(t.node->out[0]->kind == PAPA_VALUE_CONSTANT && folded[0] == (abs ? 3 : -3) && folded[1] == INT64_MIN);
        node_end(&t);
    }
}

int main(void)
{
    if (kerneltest_begin()) {
        test_activations();
        test_powers();
    }
    return kerneltest_end();
}
