/* kernels/eltwise.h, and the gradients of broadcasting in kernels/reduce.h. */
#include "kernels/expf.h"
#include "kernels/reduce.h"
#include "kerneltest.h"

/* float32 arithmetic of a few operations; exp and tanh within 2 units in the last place. */
#define TOLERANCE 5e-7

/* ---------------------------------------------------------------- one operand */

static double unary_reference(PapaUnary f, double x, double a, double b)
{
    switch (f) {
    case PAPA_UNARY_RELU: return fmax(0, x);
    case PAPA_UNARY_LEAKY: return x < 0 ? a * x : x;
    case PAPA_UNARY_CLIP: return fmin(b, fmax(a, x));
    case PAPA_UNARY_SIGMOID: return 1 / (1 + exp(-x));
    case PAPA_UNARY_TANH: return tanh(x);
    case PAPA_UNARY_NEG: return -x;
    case PAPA_UNARY_SQRT: return sqrt(x);
    case PAPA_UNARY_EXP: return exp(x);
    case PAPA_UNARY_LOG: return log(x);
    case PAPA_UNARY_ABS: return fabs(x);
    case PAPA_UNARY_RECIPROCAL: return 1 / x;
    case PAPA_UNARY_SQUARE: return pow(x, 2);
    case PAPA_UNARY_POW: return pow(x, a);
    case PAPA_UNARY_ERF: return erf(x);
    case PAPA_UNARY_ELU: return x < 0 ? a * (exp(b * x) - 1) : x;
    case PAPA_UNARY_SELU: return x < 0 ? a * (exp(x) - 1) : b * x;
    case PAPA_UNARY_HARD_SIGMOID: return fmin(1, fmax(0, a * x + b));
    case PAPA_UNARY_HARD_SWISH: return x * fmin(1, fmax(0, (x + 3) / 6));
    case PAPA_UNARY_SWISH: return x / (1 + exp(-a * x));
    case PAPA_UNARY_SOFTPLUS: return log(1 + exp(x));
    case PAPA_UNARY_SOFTSIGN: return x / (1 + fabs(x));
    case PAPA_UNARY_MISH: return x * tanh(log(1 + exp(x)));
    case PAPA_UNARY_GELU: return x * erfc(-x / sqrt(2)) / 2;
    case PAPA_UNARY_GELU_TANH: return x * (1 + tanh(sqrt(2 / acos(-1)) * (x + .044715 * pow(x, 3)))) / 2;
    }
    return NAN;
}

static bool saves_y(PapaUnary f)
{
    static const PapaUnary those[] = {PAPA_UNARY_RELU, PAPA_UNARY_CLIP, PAPA_UNARY_SIGMOID, PAPA_UNARY_TANH, PAPA_UNARY_SQRT, PAPA_UNARY_EXP,
        PAPA_UNARY_RECIPROCAL, PAPA_UNARY_HARD_SIGMOID};
    for (size_t i = 0; i < sizeof those / sizeof *those; i++)
        if (those[i] == f)
            return true;
    return false;
}

static void check_unary(PapaUnary f, int64_t n, float a, float b)
{
    const bool positive = f == PAPA_UNARY_SQRT || f == PAPA_UNARY_LOG || f == PAPA_UNARY_POW || f == PAPA_UNARY_RECIPROCAL;
    float *x = random_floats(n, positive ? .1 : -4, 4), *dy = random_floats(n, -1, 1);
    float *y = poisoned(n, false), *y3 = poisoned(n, false);
    double *want = DOUBLES(n), *slope = DOUBLES(n);
    for (int64_t i = 0; i < n; i++) {
        const double h = 1e-6;
        const float kinks[] = {0, a, b, -3, 3, -b / a, (1 - b) / a};
        for (int k = 0; k < 7; k++) /* a difference across a kink is no derivative */
            x[i] = fabsf(x[i] - kinks[k]) < 1e-4f ? kinks[k] + .125f : x[i];
        want[i] = unary_reference(f, (double)x[i], (double)a, (double)b);
        slope[i] = (unary_reference(f, (double)x[i] + h, (double)a, (double)b) - unary_reference(f, (double)x[i] - h, (double)a, (double)b)) /
                   (2 * h) * (double)dy[i];
    }
    CHECK_OK(papa_unary_fwd_cpu(one_thread, f, y, x, n, a, b));
    CHECK_OK(papa_unary_fwd_cpu(three_threads, f, y3, x, n, a, b));
    check_near("y", y, want, n, false, TOLERANCE);
    check_same("y", y, y3, (size_t)n * sizeof *y);

    double *wide = widened(x, n), *y_double = poisoned_double(n, false);
    CHECK_OK(papa_unary_fwd_ref(in_double, f, (PapaReal *)y_double, (const PapaReal *)wide, n, a, b));
    check_near_double("y in double", y_double, want, n, false, IN_DOUBLE);
    free(wide), free(y_double);

    const float *saved = f == PAPA_UNARY_NEG ? NULL : saves_y(f) ? y : x;
    for (int accumulate = 0; accumulate < 2; accumulate++) {
        float *dx = poisoned(n, accumulate);
        CHECK_OK(papa_unary_bwd_cpu(three_threads, f, dx, dy, saved, n, a, b, accumulate));
        check_near("dx", dx, slope, n, accumulate, 2e-6);
        free(dx);
    }
    CHECK_OK(papa_unary_bwd_cpu(one_thread, f, dy, dy, saved, n, a, b, false));
    check_near("dx in place", dy, slope, n, false, 2e-6);
    CHECK_OK(papa_unary_fwd_cpu(three_threads, f, x, x, n, a, b));
    check_same("y in place", x, y, (size_t)n * sizeof *y);
    free(x), free(dy), free(y), free(y3), free(want), free(slope);
}

static void test_unary(void)
{
    static const int64_t sizes[] = {0, 1, 17, 100003};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int f = PAPA_UNARY_RELU; f <= PAPA_UNARY_GELU_TANH; f++)
            check_unary((PapaUnary)f, sizes[i], f == PAPA_UNARY_CLIP ? -1.5f : .3f, 2.25f);
    check_unary(PAPA_UNARY_LEAKY, 1009, -.5f, 0);
    check_unary(PAPA_UNARY_CLIP, 1009, 0, 6);
    check_unary(PAPA_UNARY_HARD_SIGMOID, 1009, .2f, .5f);
    check_unary(PAPA_UNARY_POW, 1009, 3, 0);
    check_unary(PAPA_UNARY_POW, 1009, -.5f, 0);
    check_unary(PAPA_UNARY_POW, 1009, 0, 0);
}

/* What the functions come to at both ends, where a formula may overflow, and next to 0, where it may cancel. */
static void check_ends(PapaUnary f, float a, float b, double lowest, double slope_at_0)
{
    const float far = 1000, x[4] = {-far, far, -1e-5f, 1e-5f}, dy[4] = {1, 1, 1, 1};
    float y[4], dx[4];
    CHECK_OK(papa_unary_fwd_cpu(one_thread, f, y, x, 4, a, b));
    CHECK_OK(papa_unary_bwd_cpu(one_thread, f, dx, dy, saves_y(f) ? y : x, 4, a, b, false));
    CHECK(fabs((double)y[0] - lowest) < 1e-6 && dx[0] == 0, "function %d at -1000: %g, slope %g", f, (double)y[0], (double)dx[0]);
    CHECK(fabs((double)y[1] - (double)far) < 1e-6 && dx[1] == 1, "function %d at 1000: %g, slope %g", f, (double)y[1], (double)dx[1]);
    CHECK(fabs((double)(y[3] - y[2]) / 2e-5 - slope_at_0) < 2e-5, "function %d at 0: slope %g, expected %g", f, (double)(y[3] - y[2]) / 2e-5,
        slope_at_0);
}

static void test_ends(void)
{
    check_ends(PAPA_UNARY_ELU, 1, 1, -1, 1);
    check_ends(PAPA_UNARY_SELU, 1.5f, 1, -1.5, 1.25);
    check_ends(PAPA_UNARY_HARD_SWISH, 0, 0, 0, .5);
    check_ends(PAPA_UNARY_SWISH, 1, 0, 0, .5);
    check_ends(PAPA_UNARY_MISH, 0, 0, 0, .6);
    check_ends(PAPA_UNARY_GELU, 0, 0, 0, .5);
    check_ends(PAPA_UNARY_GELU_TANH, 0, 0, 0, .5);
    const float x[2] = {-1000, 1000};
    float y[2];
    CHECK_OK(papa_unary_fwd_cpu(one_thread, PAPA_UNARY_SOFTPLUS, y, x, 2, 0, 0));
    CHECK(y[0] == 0 && y[1] == 1000, "softplus at -1000 and 1000: %g, %g", (double)y[0], (double)y[1]);
    CHECK_OK(papa_unary_fwd_cpu(one_thread, PAPA_UNARY_ERF, y, x, 2, 0, 0));
    CHECK(y[0] == -1 && y[1] == 1, "erf at -1000 and 1000: %g, %g", (double)y[0], (double)y[1]);
}

static void test_special_values(void)
{
    const float x[20] = {NAN, INFINITY, -INFINITY, -0.f, 0};
    float y[20];
    for (int f = PAPA_UNARY_RELU; f <= PAPA_UNARY_GELU_TANH; f++) { /* 20: the vector loop meets it, not the remainder only */
        CHECK_OK(papa_unary_fwd_cpu(one_thread, (PapaUnary)f, y, x, 20, -1, 1));
        CHECK(isnan(y[0]), "function %d makes %g of a NaN", f, (double)y[0]);
    }
    CHECK_OK(papa_unary_fwd_cpu(one_thread, PAPA_UNARY_RELU, y, x, 20, 0, 0));
    CHECK(isinf(y[1]) && y[2] == 0 && y[4] == 0, "relu of infinities: %g, %g", (double)y[1], (double)y[2]);
    CHECK_OK(papa_unary_fwd_cpu(one_thread, PAPA_UNARY_SIGMOID, y, x, 20, 0, 0));
    CHECK(y[1] == 1 && y[2] == 0 && y[4] == .5f, "sigmoid of infinities: %g, %g", (double)y[1], (double)y[2]);
    CHECK_OK(papa_unary_fwd_cpu(one_thread, PAPA_UNARY_TANH, y, x, 20, 0, 0));
    CHECK(y[1] == 1 && y[2] == -1 && y[4] == 0, "tanh of infinities: %g, %g", (double)y[1], (double)y[2]);
    CHECK_OK(papa_unary_fwd_cpu(one_thread, PAPA_UNARY_EXP, y, x, 20, 0, 0));
    CHECK(isinf(y[1]) && y[2] == 0 && y[4] == 1, "exp of infinities: %g, %g", (double)y[1], (double)y[2]);
    CHECK_OK(papa_unary_fwd_cpu(one_thread, PAPA_UNARY_CLIP, y, x, 20, 2, 1));
    CHECK(y[1] == 1 && y[2] == 1, "crossed bounds give %g and %g, expected the upper one", (double)y[1], (double)y[2]);
    const float dy[2] = {1, 1}, at_bound[2] = {0, -0.f};
    float dx[2];
    CHECK_OK(papa_relu_bwd_cpu(one_thread, dx, dy, at_bound, 2, false));
    CHECK(dx[0] == 0 && dx[1] == 0, "relu's gradient at 0 is %g", (double)dx[0]);
    CHECK_OK(papa_unary_bwd_cpu(one_thread, PAPA_UNARY_LEAKY, dx, dy, at_bound, 2, .25f, 0, false));
    CHECK(dx[0] == .25f && dx[1] == .25f, "a leaky relu's gradient at 0 is %g", (double)dx[0]);
    CHECK_OK(papa_unary_bwd_cpu(one_thread, PAPA_UNARY_ELU, dx, dy, at_bound, 2, .25f, 2, false));
    CHECK(dx[0] == .5f && dx[1] == .5f, "elu's gradient at 0 is %g", (double)dx[0]);
    CHECK_OK(papa_unary_bwd_cpu(one_thread, PAPA_UNARY_SELU, dx, dy, at_bound, 2, .25f, 2, false));
    CHECK(dx[0] == .25f && dx[1] == .25f, "selu's gradient at 0 is %g", (double)dx[0]);
}

/* Relative error over the whole range, in units in the last place. */
static void test_exp_accuracy(void)
{
    double worst_exp = 0, worst_tanh = 0, worst_expm1 = 0, worst_erf = 0;
    for (double x = -87; x < 88.7; x += .00137) {
        const double want = exp((double)(float)x);
        worst_exp = fmax(worst_exp, fabs((double)papa_expf((float)x) / want - 1));
    }
    for (double x = 1e-8; x < 20; x *= 1.00037) {
        const double want = tanh((double)(float)x);
        worst_tanh = fmax(worst_tanh, fabs((double)papa_tanhf((float)x) / want - 1));
        CHECK(papa_tanhf((float)-x) == -papa_tanhf((float)x), "tanh is not odd at %g", x);
    }
    for (double x = 1e-8; x < 20; x *= 1.00037) {
        const float z = (float)x;
        worst_expm1 = fmax(worst_expm1, fabs((double)papa_expm1f(-z) / expm1((double)-z) - 1));
        worst_erf = fmax(worst_erf, fabs((double)papa_erff(z) / erf((double)z) - 1));
        CHECK(papa_erff(-z) == -papa_erff(z), "erf is not odd at %g", x);
    }
    CHECK(worst_expm1 < 4.8e-7, "exp(x) - 1 is off by %g", worst_expm1);
    CHECK(worst_erf < 4.8e-7, "erf is off by %g", worst_erf);
    CHECK(worst_exp < 2.4e-7, "exp is off by %g", worst_exp);
    CHECK(worst_tanh < 2.4e-7, "tanh is off by %g", worst_tanh);
    CHECK(papa_expf(-104) == 0 && papa_expf(-1000) == 0 && isinf(papa_expf(89)) && isinf(papa_expf(1000)), "exp beyond its range");
    CHECK_NEAR((double)papa_expf(-100), 3.783505853677006e-44, 1.5e-45); /* denormal: one step of its grid */
}

/* ---------------------------------------------------------------- two operands */

typedef struct Shapes {
    int rank, a_rank, b_rank;
    int64_t dim[5], a[5], b[5];
} Shapes;

static int64_t product(const int64_t *dim, int rank)
{
    int64_t n = 1;
    for (int i = 0; i < rank; i++)
        n *= dim[i];
    return n;
}

/* Where element i of the whole space lies in an operand, by numpy's rule, from the shapes alone. */
static int64_t place(int64_t i, const Shapes *s, int rank, const int64_t *dim)
{
    int64_t at = 0, step = 1;
    for (int k = 0; k < s->rank; k++) {
        const int64_t index = i % s->dim[s->rank - 1 - k];
        i /= s->dim[s->rank - 1 - k];
        if (k < rank) {
            at += dim[rank - 1 - k] == 1 ? 0 : index * step;
            step *= dim[rank - 1 - k];
        }
    }
    return at;
}

static double binary_reference(PapaBinary f, double a, double b)
{
    switch (f) {
    case PAPA_BINARY_ADD: return a + b;
    case PAPA_BINARY_SUB: return a - b;
    case PAPA_BINARY_MUL: return a * b;
    case PAPA_BINARY_DIV: return a / b;
    }
    return NAN;
}

static PapaWalk walk_for(const Shapes *s)
{
    int64_t a[5], b[5];
    PapaWalk walk;
    papa_walk_strides(a, s->rank, s->a_rank, s->a);
    papa_walk_strides(b, s->rank, s->b_rank, s->b);
    papa_walk_make(&walk, s->rank, s->dim, a, b);
    return walk;
}

static void check_binary_bwd(PapaBinary f, const Shapes *s, int operand, const float *a, const float *b, const float *dy)
{
    const PapaWalk walk = walk_for(s);
    const int64_t n = product(s->dim, s->rank), n_d = operand ? product(s->b, s->b_rank) : product(s->a, s->a_rank);
    double *want = DOUBLES(n_d);
    memset(want, 0, (size_t)n_d * sizeof *want);
    for (int64_t i = 0; i < n; i++) { /* central differences: exact for ADD, SUB, MUL, to 1e-8 for DIV */
        const int64_t ia = place(i, s, s->a_rank, s->a), ib = place(i, s, s->b_rank, s->b);
        const double h = 1e-5, ha = operand ? 0 : h, hb = operand ? h : 0, x = (double)a[ia], z = (double)b[ib];
        want[operand ? ib : ia] += (binary_reference(f, x + ha, z + hb) - binary_reference(f, x - ha, z - hb)) / (2 * h) * (double)dy[i];
    }
    for (int accumulate = 0; accumulate < 2; accumulate++) {
        float *d = poisoned(n_d, accumulate), *d3 = poisoned(n_d, accumulate);
        CHECK_OK(papa_binary_bwd_cpu(one_thread, f, operand, d, dy, a, b, &walk, accumulate));
        CHECK_OK(papa_binary_bwd_cpu(three_threads, f, operand, d3, dy, a, b, &walk, accumulate));
        check_near(operand ? "db" : "da", d, want, n_d, accumulate, 2e-6);
        check_same(operand ? "db" : "da", d, d3, (size_t)n_d * sizeof *d);
        free(d), free(d3);
    }
    free(want);
}

static void check_binary(PapaBinary f, const Shapes *s, bool relu)
{
    const PapaWalk walk = walk_for(s);
    const int64_t n = product(s->dim, s->rank), n_a = product(s->a, s->a_rank), n_b = product(s->b, s->b_rank);
    float *a = random_floats(n_a, -2, 4), *b = random_floats(n_b, .5, 2), *dy = random_floats(n, -1, 2); /* off centre: long sums don't cancel */
    float *y = poisoned(n, false), *y3 = poisoned(n, false);
    double *want = DOUBLES(n);
    for (int64_t i = 0; i < n; i++) {
        want[i] = binary_reference(f, (double)a[place(i, s, s->a_rank, s->a)], (double)b[place(i, s, s->b_rank, s->b)]);
        want[i] = relu && want[i] < 0 ? 0 : want[i];
    }
    CHECK_OK(papa_binary_fwd_cpu(one_thread, f, y, a, b, &walk, relu));
    CHECK_OK(papa_binary_fwd_cpu(three_threads, f, y3, a, b, &walk, relu));
    check_near("y", y, want, n, false, TOLERANCE);
    check_same("y", y, y3, (size_t)n * sizeof *y);
    double *wide_a = widened(a, n_a), *wide_b = widened(b, n_b), *y_double = poisoned_double(n, false);
    CHECK_OK(papa_binary_fwd_ref(in_double, f, (PapaReal *)y_double, (const PapaReal *)wide_a, (const PapaReal *)wide_b, &walk, relu));
    check_near_double("y in double", y_double, want, n, false, IN_DOUBLE);
    free(wide_a), free(wide_b), free(y_double);
    if (!relu) {
        check_binary_bwd(f, s, 0, a, b, dy);
        check_binary_bwd(f, s, 1, a, b, dy);
    }
    free(a), free(b), free(dy), free(y), free(y3), free(want);
}

static void test_binary(void)
{
    static const Shapes shapes[] = {
        {4, 4, 4, {3, 5, 7, 2}, {3, 5, 7, 2}, {3, 5, 7, 2}},      /* equal */
        {2, 2, 1, {1001, 70}, {1001, 70}, {70}},                  /* bias, more than one tile and chunk */
        {2, 1, 2, {37, 16}, {16}, {37, 16}},                      /* bias first */
        {3, 3, 0, {5, 11, 13}, {5, 11, 13}, {0}},                 /* scalar of rank 0 */
        {3, 2, 3, {2, 9001, 3}, {1, 1}, {2, 9001, 3}},            /* scalar of rank 2 first; a long sum */
        {4, 4, 3, {2, 3, 37, 29}, {2, 3, 37, 29}, {3, 1, 1}},     /* bias of channels-first maps */
        {4, 4, 4, {3, 1, 4, 5}, {3, 1, 1, 5}, {1, 1, 4, 1}},      /* both repeated, alternating */
        {2, 2, 2, {19, 23}, {19, 1}, {1, 23}},                    /* outer product */
        {5, 5, 4, {2, 3, 2, 3, 2}, {2, 1, 2, 1, 2}, {3, 1, 3, 1}}, /* nothing joins */
        {3, 3, 2, {300, 2, 100}, {300, 2, 100}, {2, 1}},          /* summed before and behind a kept axis */
        {2, 2, 1, {0, 6}, {0, 6}, {6}},                           /* empty batch */
        {0, 0, 0, {0}, {0}, {0}},                                 /* single numbers */
        {2, 2, 2, {400, 300}, {400, 300}, {400, 300}},            /* large enough for threads */
        {3, 3, 3, {60, 40, 50}, {60, 40, 50}, {60, 1, 50}},       /* likewise, repeated in the middle */
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int f = PAPA_BINARY_ADD; f <= PAPA_BINARY_DIV; f++) {
            check_binary((PapaBinary)f, &shapes[i], false);
            check_binary((PapaBinary)f, &shapes[i], true);
        }
}

static void test_walk_joins_axes(void)
{
    const Shapes rows = {4, 4, 1, {2, 3, 4, 5}, {2, 3, 4, 5}, {5}}, same = {3, 3, 3, {2, 1, 5}, {2, 1, 5}, {2, 1, 5}};
    PapaWalk walk = walk_for(&rows);
    CHECK(walk.rank == 2 && walk.dim[0] == 24 && walk.dim[1] == 5 && walk.a[0] == 5 && walk.b[0] == 0, "rank %d", walk.rank);
    walk = walk_for(&same);
    CHECK(walk.rank == 1 && walk.dim[0] == 10 && walk.a[0] == 1 && walk.b[0] == 1, "rank %d", walk.rank);
}

static void test_in_place_and_nan(void)
{
    const Shapes s = {1, 1, 1, {33}, {33}, {33}};
    const PapaWalk walk = walk_for(&s);
    float a[33], b[33];
    for (int i = 0; i < 33; i++)
        a[i] = (float)i, b[i] = i == 5 ? NAN : 2.f;
    CHECK_OK(papa_binary_fwd_cpu(one_thread, PAPA_BINARY_ADD, a, a, b, &walk, true));
    CHECK(isnan(a[5]) && a[0] == 2 && a[32] == 34, "%g %g %g", (double)a[5], (double)a[0], (double)a[32]);
    CHECK_OK(papa_binary_bwd_cpu(one_thread, PAPA_BINARY_SUB, 1, b, b, NULL, NULL, &walk, false));
    CHECK(isnan(b[5]) && b[0] == -2 && b[32] == -2, "%g %g", (double)b[0], (double)b[32]);
}

int main(void)
{
    if (kerneltest_begin()) {
        test_unary();
        test_ends();
        test_special_values();
        test_exp_accuracy();
        test_binary();
        test_walk_joins_axes();
        test_in_place_and_nan();
    }
    return kerneltest_end();
}
