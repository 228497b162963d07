/* kernels/layernorm.h against double precision; gradients against finite differences. */
#include "kernels/layernorm.h"
#include "kerneltest.h"

#define EPS 1e-5f

typedef struct Case {
    PapaLayerNorm ln;
    int64_t n;
    float *x, *dy, *scale, *shift, *y, *mean, *rstd;
} Case;

static Case new_case(int64_t rows, int64_t D, double center)
{
    const int64_t n = rows * D;
    return (Case){.ln = {rows, D, EPS}, .n = n, .x = random_floats(n, center - 2, center + 2), .dy = random_floats(n, -1, 1),
        .scale = random_floats(D, -2, 2), .shift = random_floats(D, -1, 1), .y = poisoned(n, false), .mean = poisoned(rows, false),
        .rstd = poisoned(rows, false)};
}

static void free_case(Case *c)
{
    free(c->x), free(c->dy), free(c->scale), free(c->shift), free(c->y), free(c->mean), free(c->rstd);
}

/* One row; mean and rstd may be NULL. */
static void reference_row(double *y, double *mean, double *rstd, const double *x, const double *scale, const double *shift, int64_t D)
{
    double m = 0, variance = 0;
    for (int64_t j = 0; j < D; j++)
        m += x[j] / (double)D;
    for (int64_t j = 0; j < D; j++)
        variance += (x[j] - m) * (x[j] - m) / (double)D;
    const double r = 1 / sqrt(variance + (double)EPS);
    for (int64_t j = 0; j < D; j++)
        y[j] = (x[j] - m) * r * scale[j] + (shift ? shift[j] : 0);
    if (mean)
        *mean = m, *rstd = r;
}

static void check_forward(Case *c, bool shifted, double tolerance)
{
    const int64_t rows = c->ln.rows, D = c->ln.D;
    const float *shift = shifted ? c->shift : NULL;
    double *x = widened(c->x, c->n), *scale = widened(c->scale, D), *wide_shift = widened(c->shift, D);
    double *y = DOUBLES(c->n), *mean = DOUBLES(rows), *rstd = DOUBLES(rows);
    float *again = poisoned(c->n, false), *mean3 = poisoned(rows, false), *rstd3 = poisoned(rows, false);
    for (int64_t r = 0; r < rows; r++)
        reference_row(y + r * D, mean + r, rstd + r, x + r * D, scale, shifted ? wide_shift : NULL, D);
    CHECK_OK(papa_layernorm_fwd_cpu(one_thread, &c->ln, c->y, c->mean, c->rstd, c->x, c->scale, shift));
    check_near("y", c->y, y, c->n, false, tolerance);
    check_near("mean", c->mean, mean, rows, false, 1e-7);
    check_near("rstd", c->rstd, rstd, rows, false, 5e-7);
    CHECK_OK(papa_layernorm_fwd_cpu(three_threads, &c->ln, again, mean3, rstd3, c->x, c->scale, shift));
    check_same("y", c->y, again, (size_t)c->n * sizeof *again);
    check_same("mean", c->mean, mean3, (size_t)rows * sizeof *mean3);
    check_same("rstd", c->rstd, rstd3, (size_t)rows * sizeof *rstd3);
    memcpy(again, c->x, (size_t)c->n * sizeof *again);
    CHECK_OK(papa_layernorm_fwd_cpu(one_thread, &c->ln, again, NULL, NULL, again, c->scale, shift));
    check_same("y over x", c->y, again, (size_t)c->n * sizeof *again);
    double *y_double = poisoned_double(c->n, false), *mean_double = poisoned_double(rows, false), *rstd_double = poisoned_double(rows, false);
    CHECK_OK(papa_layernorm_fwd_ref(in_double, &c->ln, (PapaReal *)y_double, (float *)mean_double, (float *)rstd_double, (const PapaReal *)x,
        (const float *)scale, shifted ? (const float *)wide_shift : NULL));
    check_near_double("y in double", y_double, y, c->n, false, IN_DOUBLE);
    check_near_double("mean in double", mean_double, mean, rows, false, IN_DOUBLE);
    check_near_double("rstd in double", rstd_double, rstd, rows, false, IN_DOUBLE);
    free(y_double), free(mean_double), free(rstd_double);
    free(x), free(scale), free(wide_shift), free(y), free(mean), free(rstd), free(again), free(mean3), free(rstd3);
}

/* ---------------------------------------------------------------- backward */

typedef struct Reference {
    double *dx, *dscale, *dshift;
} Reference;

/* <dy, y> of one row. */
static double loss(double *y, const double *x, const float *dy, const double *scale, const double *shift, int64_t D)
{
    double sum = 0;
    reference_row(y, NULL, NULL, x, scale, shift, D);
    for (int64_t j = 0; j < D; j++)
        sum += y[j] * (double)dy[j];
    return sum;
}

/* By central differences, of a row at a time: D steps of D each. */
static Reference reference_backward(const Case *c)
{
    const double h = 1e-5;
    const int64_t D = c->ln.D;
    double *x = widened(c->x, c->n), *y = DOUBLES(D), *parameters[2] = {widened(c->scale, D), widened(c->shift, D)};
    Reference to = {DOUBLES(c->n), DOUBLES(D), DOUBLES(D)};
    double *sums[2] = {to.dscale, to.dshift};
    for (int64_t j = 0; j < D; j++)
        to.dscale[j] = to.dshift[j] = 0;
    for (int64_t r = 0; r < c->ln.rows; r++)
        for (int64_t j = 0; j < D; j++) {
            double *moved[3] = {&x[r * D + j], &parameters[0][j], &parameters[1][j]}, slope[3];
            for (int k = 0; k < 3; k++) {
                const double at = *moved[k];
                *moved[k] = at + h;
                slope[k] = loss(y, x + r * D, c->dy + r * D, parameters[0], parameters[1], D);
                *moved[k] = at - h;
                slope[k] = (slope[k] - loss(y, x + r * D, c->dy + r * D, parameters[0], parameters[1], D)) / (2 * h);
                *moved[k] = at;
            }
            to.dx[r * D + j] = slope[0];
            for (int k = 0; k < 2; k++)
                sums[k][j] += slope[k + 1];
        }
    free(x), free(y), free(parameters[0]), free(parameters[1]);
    return to;
}

/* The formulas, for shapes that differences would take too long for. */
static Reference formula_backward(const Case *c)
{
    const int64_t D = c->ln.D;
    double *x = widened(c->x, c->n), *scale = widened(c->scale, D), *y = DOUBLES(D), *hat = DOUBLES(D);
    Reference to = {DOUBLES(c->n), DOUBLES(D), DOUBLES(D)};
    for (int64_t j = 0; j < D; j++)
        to.dscale[j] = to.dshift[j] = 0;
    for (int64_t r = 0; r < c->ln.rows; r++) {
        double mean, rstd, mean_g = 0, mean_gh = 0;
        reference_row(y, &mean, &rstd, x + r * D, scale, NULL, D);
        for (int64_t j = 0; j < D; j++) {
            const double dy = (double)c->dy[r * D + j];
            hat[j] = (x[r * D + j] - mean) * rstd;
            to.dscale[j] += dy * hat[j], to.dshift[j] += dy;
            mean_g += dy * scale[j] / (double)D, mean_gh += dy * scale[j] * hat[j] / (double)D;
        }
        for (int64_t j = 0; j < D; j++)
            to.dx[r * D + j] = rstd * ((double)c->dy[r * D + j] * scale[j] - mean_g - hat[j] * mean_gh);
    }
    free(x), free(scale), free(y), free(hat);
    return to;
}

static void free_reference(Reference *to)
{
    free(to->dx), free(to->dscale), free(to->dshift);
}

static PapaStatus backward(PapaDevice *dev, const Case *c, PapaLayerNormGradients to, const float *dy)
{
    void *workspace = take(papa_layernorm_workspace_cpu(c->ln.rows, c->ln.D), 1);
    const PapaStatus status = papa_layernorm_bwd_cpu(dev, &c->ln, &to, dy, c->x, c->scale, c->mean, c->rstd, workspace);
    free(workspace);
    return status;
}

static void check_backward(const Case *c, const Reference *want, unsigned accumulate, double tolerance)
{
    const int64_t D = c->ln.D;
    const int64_t lengths[3] = {c->n, D, D};
    const double *wants[3] = {want->dx, want->dscale, want->dshift};
    static const char *const names[] = {"dx", "dscale", "dshift"};
    float *one[3], *three[3], *alone[3];
    for (int k = 0; k < 3; k++) {
        one[k] = poisoned(lengths[k], accumulate >> k & 1);
        three[k] = poisoned(lengths[k], accumulate >> k & 1);
        alone[k] = poisoned(lengths[k], accumulate >> k & 1);
    }
    CHECK_OK(backward(one_thread, c, (PapaLayerNormGradients){one[0], one[1], one[2], accumulate}, c->dy));
    CHECK_OK(backward(three_threads, c, (PapaLayerNormGradients){three[0], three[1], three[2], accumulate}, c->dy));
    CHECK_OK(backward(one_thread, c, (PapaLayerNormGradients){.dx = alone[0], .accumulate = accumulate}, c->dy));
    CHECK_OK(backward(one_thread, c, (PapaLayerNormGradients){.dscale = alone[1], .accumulate = accumulate}, c->dy));
    CHECK_OK(backward(one_thread, c, (PapaLayerNormGradients){.dshift = alone[2], .accumulate = accumulate}, c->dy));
    for (int k = 0; k < 3; k++) {
        const size_t bytes = (size_t)lengths[k] * sizeof(float);
        check_near(names[k], one[k], wants[k], lengths[k], accumulate >> k & 1, tolerance);
        check_same(names[k], one[k], three[k], bytes);
        check_same("a gradient that is wanted alone", one[k], alone[k], bytes);
        free(three[k]), free(alone[k]);
    }
    if (!(accumulate & PAPA_LAYERNORM_DX)) {
        float *over = FLOATS(c->n), *dscale = poisoned(D, false), *dshift = poisoned(D, false);
        memcpy(over, c->dy, (size_t)c->n * sizeof *over);
        CHECK_OK(backward(one_thread, c, (PapaLayerNormGradients){.dx = over, .dscale = dscale, .dshift = dshift}, over));
        check_same("dx over dy", over, one[0], (size_t)c->n * sizeof *over);
        check_near("dscale, dx over dy", dscale, want->dscale, D, false, tolerance);
        check_near("dshift, dx over dy", dshift, want->dshift, D, false, tolerance);
        free(over), free(dscale), free(dshift);
    }
    for (int k = 0; k < 3; k++)
        free(one[k]);
}

static void check_shape(int64_t rows, int64_t D)
{
    Case c = new_case(rows, D, .3);
    check_forward(&c, false, 1e-6);
    check_forward(&c, true, 1e-6);
    Reference want = rows * D * D < 1000000 ? reference_backward(&c) : formula_backward(&c);
    for (unsigned accumulate = 0; accumulate < 8; accumulate++)
        check_backward(&c, &want, accumulate, 3e-6);
    free_reference(&want);
    free_case(&c);
}

static void test_shapes(void)
{
    static const int64_t shapes[][2] = {{1, 1}, {1, 2}, {3, 17}, {5, 64}, {7, 65}, {40, 13}, {197, 31}, {64, 63}, {0, 10}, {4, 0}, {0, 0}, {1000, 192},
        {3000, 7}, {33, 9000}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        check_shape(shapes[i][0], shapes[i][1]);
}

/* The formulas that the large shapes are compared with are right themselves. */
static void test_formula(void)
{
    Case c = new_case(6, 23, .3);
    Reference a = reference_backward(&c), b = formula_backward(&c);
    for (int64_t i = 0; i < c.n; i++)
        CHECK_NEAR(a.dx[i], b.dx[i], 1e-8);
    for (int64_t j = 0; j < c.ln.D; j++)
        CHECK(fabs(a.dscale[j] - b.dscale[j]) < 1e-8 && fabs(a.dshift[j] - b.dshift[j]) < 1e-8, "%lld", (long long)j);
    free_reference(&a), free_reference(&b);
    free_case(&c);
}

/* Numbers of 1000 with deviations of about 1 are 6e-5 apart, and so is their mean rounded: that, and no more, may be lost. */
static void test_large_mean(void)
{
    Case c = new_case(20, 500, 1000);
    c.x[0] = 3000; /* what sums are shifted by must not be an outlier */
    check_forward(&c, true, 1e-4);
    free_case(&c);
}

/* A constant row has variance 0, to the last bit, wherever it lies; a NaN stays in its row; a mean that lies between two floats is as good as another. */
static void test_special_rows(void)
{
    Case c = new_case(3, 1000, 0);
    for (int64_t j = 0; j < 1000; j++)
        c.x[j] = 1234.1f, c.x[2000 + j] = 30000 + (float)(j % 2) / 512;
    c.x[1000 + 700] = NAN;
    CHECK_OK(papa_layernorm_fwd_cpu(one_thread, &c.ln, c.y, c.mean, c.rstd, c.x, c.scale, c.shift));
    CHECK(c.mean[0] == 1234.1f && c.rstd[0] == (float)(1 / sqrt((double)EPS)), "mean %.9g, rstd %.9g", (double)c.mean[0], (double)c.rstd[0]);
    check_same("y of a constant row", c.y, c.shift, 1000 * sizeof *c.y);
    CHECK_NEAR((double)c.rstd[2], 1 / sqrt(1 / 1048576. + (double)EPS), 1e-4);
    CHECK(isnan(c.mean[1]) && isnan(c.rstd[1]) && isnan(c.y[1000]) && !isnan(c.y[2000]), "%g %g", (double)c.mean[1], (double)c.y[2000]);
    free_case(&c);
}

/* 200000 rows with equal shares: float32 sums of them all, or of a block's thousands, are off by 1e-5 and more. */
static void test_long_columns(void)
{
    Case c = new_case(200000, 3, 0);
    for (int64_t i = 0; i < c.n; i++)
        c.dy[i] = .1f;
    CHECK_OK(papa_layernorm_fwd_cpu(one_thread, &c.ln, c.y, c.mean, c.rstd, c.x, c.scale, c.shift));
    float *dshift = poisoned(3, false);
    CHECK_OK(backward(three_threads, &c, (PapaLayerNormGradients){.dshift = dshift}, c.dy));
    for (int j = 0; j < 3; j++)
        CHECK_NEAR((double)dshift[j], 200000 * (double).1f, .02);
    free(dshift);
    free_case(&c);
}

int main(void)
{
    if (kerneltest_begin()) {
        test_formula();
        test_shapes();
        test_large_mean();
        test_special_rows();
        test_long_columns();
    }
    return kerneltest_end();
}
