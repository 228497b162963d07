/* kernels/batchnorm.h against double precision. The reference gradient is itself checked against finite differences. */
#include "kernels/batchnorm.h"
#include "kerneltest.h"

#define EPS 1e-5f

/* What a case consists of; everything that a kernel reads or writes, for one shape. */
typedef struct Case {
    PapaBatchNorm bn;
    int64_t n;
    bool fixed;
    float *x, *residual, *scale, *shift, *running_mean, *running_var, *dy;
    float *y, *mean, *rstd;
} Case;

static Case new_case(int64_t rows, int64_t C, bool relu, bool add, bool fixed, double center)
{
    const int64_t n = rows * C;
    return (Case){.bn = {rows, C, EPS, relu}, .n = n, .fixed = fixed, .x = random_floats(n, center - 2, center + 2),
        .residual = add ? random_floats(n, -1, 1) : NULL, .scale = random_floats(C, -2, 2), .shift = random_floats(C, -1, 1),
        .running_mean = random_floats(C, -.5, .5), .running_var = random_floats(C, .5, 2), .dy = random_floats(n, -1, 1),
        .y = poisoned(n, false), .mean = poisoned(C, false), .rstd = poisoned(C, false)};
}

static void free_case(Case *c)
{
    float *all[] = {c->x, c->residual, c->scale, c->shift, c->running_mean, c->running_var, c->dy, c->y, c->mean, c->rstd};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

static void *workspace_for(const Case *c)
{
    return take(papa_batchnorm_workspace_cpu(c->bn.rows, c->bn.C), 1);
}

/* ---------------------------------------------------------------- the reference */

typedef struct Statistics {
    double mean, variance;
} Statistics;

static Statistics column_statistics(const double *x, int64_t rows, int64_t C, int64_t c)
{
    Statistics s = {0};
    for (int64_t r = 0; r < rows; r++)
        s.mean += x[r * C + c] / (double)rows;
    for (int64_t r = 0; r < rows; r++)
        s.variance += (x[r * C + c] - s.mean) * (x[r * C + c] - s.mean) / (double)rows;
    return s;
}

static Statistics used_statistics(const Case *k, const double *x, int64_t c)
{
    return k->fixed ? (Statistics){(double)k->running_mean[c], (double)k->running_var[c]} : column_statistics(x, k->bn.rows, k->bn.C, c);
}

static double root(double variance)
{
    return 1 / sqrt(variance + (double)EPS);
}

/* y in front of the Relu. */
static void reference_forward(const Case *k, double *y, const double *x, const double *scale, const double *shift)
{
    for (int64_t c = 0; c < k->bn.C; c++) {
        const Statistics s = used_statistics(k, x, c);
        for (int64_t i = c; i < k->n; i += k->bn.C)
            y[i] = (x[i] - s.mean) * root(s.variance) * scale[c] + shift[c] + (k->residual ? (double)k->residual[i] : 0);
    }
}

/* The gradient by the textbook's formula, g being dy behind the Relu's mask. */
static void reference_backward(const Case *k, double *dx, double *dscale, double *dshift, const double *x, const double *g)
{
    const int64_t rows = k->bn.rows, C = k->bn.C;
    for (int64_t c = 0; c < C; c++) {
        const Statistics s = used_statistics(k, x, c);
        const double rstd = root(s.variance), factor = (double)k->scale[c] * rstd;
        dscale[c] = dshift[c] = 0;
        for (int64_t i = c; i < k->n; i += C)
            dshift[c] += g[i], dscale[c] += g[i] * (x[i] - s.mean) * rstd;
        for (int64_t i = c; i < k->n; i += C)
            dx[i] = k->fixed ? factor * g[i] :
                factor * (g[i] - dshift[c] / (double)rows - (x[i] - s.mean) * rstd * dscale[c] / (double)rows);
    }
}

static double loss(const Case *k, const double *x, const double *scale, const double *shift, const double *g)
{
    double *y = DOUBLES(k->n), sum = 0;
    reference_forward(k, y, x, scale, shift);
    for (int64_t i = 0; i < k->n; i++)
        sum += y[i] * g[i];
    free(y);
    return sum;
}

/* Central differences of the loss in each element of `variable`, which is one of the loss's arguments. */
static void check_slopes(const char *what, const Case *k, double *variable, const double *slope, int64_t n, const double *x, const double *scale,
    const double *shift, const double *g)
{
    const double h = 1e-5;
    for (int64_t i = 0; i < n; i++) {
        const double at = variable[i];
        variable[i] = at + h;
        const double above = loss(k, x, scale, shift, g);
        variable[i] = at - h;
        const double below = loss(k, x, scale, shift, g);
        variable[i] = at;
        CHECK(fabs((above - below) / (2 * h) - slope[i]) < 1e-6, "reference %s[%lld] is %g, differences give %g", what, (long long)i, slope[i],
            (above - below) / (2 * h));
    }
}

/* ---------------------------------------------------------------- forward */

static void run_forward(PapaDevice *dev, const Case *k, float *y, float *mean, float *rstd, float *running_mean, float *running_var)
{
    void *workspace = workspace_for(k);
    if (k->fixed)
        CHECK_OK(papa_batchnorm_fwd_running_cpu(dev, &k->bn, y, mean, rstd, k->x, k->scale, k->shift, running_mean, running_var, k->residual,
            workspace));
    else
        CHECK_OK(papa_batchnorm_fwd_batch_cpu(dev, &k->bn, y, mean, rstd, running_mean, running_var, k->x, k->scale, k->shift, k->residual, .9f,
            NULL, workspace));
    free(workspace);
}

static void check_in_double(const Case *k, const double *x, const double *scale, const double *shift, const double *want, const double *want_rstd)
{
    const int64_t C = k->bn.C;
    double *y = poisoned_double(k->n, false), *mean = poisoned_double(C, false), *rstd = poisoned_double(C, false);
    double *running_mean = widened(k->running_mean, C), *running_var = widened(k->running_var, C);
    double *residual = k->residual ? widened(k->residual, k->n) : NULL;
    CHECK_OK(papa_batchnorm_fwd_running_ref(in_double, &k->bn, (PapaReal *)y, (float *)mean, (float *)rstd, (const PapaReal *)x, (const float *)scale,
        (const float *)shift, (const float *)running_mean, (const float *)running_var, (const PapaReal *)residual, NULL));
    check_near_double("y in double", y, want, k->n, false, IN_DOUBLE);
    check_near_double("mean in double", mean, running_mean, C, false, 0);
    check_near_double("rstd in double", rstd, want_rstd, C, false, IN_DOUBLE);
    free(y), free(mean), free(rstd), free(running_mean), free(running_var), free(residual);
}

static void check_forward(const Case *k, double tolerance)
{
    const int64_t C = k->bn.C;
    double *x = widened(k->x, k->n), *scale = widened(k->scale, C), *shift = widened(k->shift, C), *want = DOUBLES(k->n);
    double *want_mean = DOUBLES(C), *want_rstd = DOUBLES(C), *want_running = DOUBLES(C), *want_var = DOUBLES(C);
    float *run_mean = FLOATS(C), *run_var = FLOATS(C), *y3 = poisoned(k->n, false), *mean3 = FLOATS(C), *rstd3 = FLOATS(C);
    memcpy(run_mean, k->running_mean, (size_t)C * sizeof *run_mean);
    memcpy(run_var, k->running_var, (size_t)C * sizeof *run_var);
    run_forward(one_thread, k, k->y, k->mean, k->rstd, run_mean, run_var);

    reference_forward(k, want, x, scale, shift);
    for (int64_t i = 0; i < k->n; i++)
        want[i] = k->bn.relu && want[i] < 0 ? 0 : want[i];
    for (int64_t c = 0; c < C; c++) {
        const Statistics s = used_statistics(k, x, c);
        const double m = k->fixed || !k->bn.rows ? 1 : (double).9f;
        want_mean[c] = s.mean, want_rstd[c] = root(s.variance);
        want_running[c] = m * (double)k->running_mean[c] + (1 - m) * s.mean;
        want_var[c] = m * (double)k->running_var[c] + (1 - m) * s.variance;
    }
    check_near("y", k->y, want, k->n, false, tolerance);
    check_near("mean", k->mean, want_mean, C, false, 1e-6);
    check_near("rstd", k->rstd, want_rstd, C, false, 2e-6);
    check_near("running mean", run_mean, want_running, C, false, 1e-6);
    check_near("running variance", run_var, want_var, C, false, 2e-6);
    if (k->fixed)
        check_in_double(k, x, scale, shift, want, want_rstd);

    memcpy(run_mean, k->running_mean, (size_t)C * sizeof *run_mean);
    memcpy(run_var, k->running_var, (size_t)C * sizeof *run_var);
    run_forward(three_threads, k, y3, mean3, rstd3, run_mean, run_var);
    check_same("y", k->y, y3, (size_t)k->n * sizeof *y3);
    check_same("mean", k->mean, mean3, (size_t)C * sizeof *mean3);
    check_same("rstd", k->rstd, rstd3, (size_t)C * sizeof *rstd3);
    free(x), free(scale), free(shift), free(want), free(want_mean), free(want_rstd), free(want_running), free(want_var);
    free(run_mean), free(run_var), free(y3), free(mean3), free(rstd3);
}

/* ---------------------------------------------------------------- backward */

/* Which outputs are asked for and which are added to: bits as in PAPA_BATCHNORM_*. */
static void check_kernel_backward(const Case *k, unsigned wanted, unsigned accumulate, const double *dx, const double *dscale, const double *dshift,
    const double *g)
{
    const int64_t C = k->bn.C;
    float *out[2][4];
    PapaDevice *devices[2] = {one_thread, three_threads};
    for (int d = 0; d < 2; d++) {
        for (int i = 0; i < 4; i++)
            out[d][i] = !(wanted >> i & 1) ? NULL : poisoned(i == 1 || i == 2 ? C : k->n, accumulate >> i & 1);
        const PapaBatchNormGradients to = {out[d][0], out[d][1], out[d][2], out[d][3], accumulate};
        void *workspace = workspace_for(k);
        CHECK_OK(papa_batchnorm_bwd_cpu(devices[d], &k->bn, k->fixed, &to, k->dy, k->x, k->bn.relu ? k->y : NULL, k->scale, k->mean, k->rstd,
            workspace));
        free(workspace);
    }
    static const char *const names[] = {"dx", "dscale", "dshift", "dresidual"};
    const double *want[] = {dx, dscale, dshift, g};
    for (int i = 0; i < 4; i++) {
        const bool sums = i == 1 || i == 2; /* of random signs: rounding grows with the root of their number, the sum may be near 0 */
        const int64_t n = sums ? C : k->n;
        if (out[0][i]) {
            check_near(names[i], out[0][i], want[i], n, accumulate >> i & 1, sums ? 5e-6 * fmax(1, sqrt((double)k->bn.rows) / 32) : 5e-6);
            check_same(names[i], out[0][i], out[1][i], (size_t)n * sizeof(float));
        }
        free(out[0][i]), free(out[1][i]);
    }
}

static void check_backward(const Case *k)
{
    const int64_t C = k->bn.C;
    double *x = widened(k->x, k->n), *scale = widened(k->scale, C), *shift = widened(k->shift, C), *g = widened(k->dy, k->n);
    double *dx = DOUBLES(k->n), *dscale = DOUBLES(C), *dshift = DOUBLES(C);
    for (int64_t i = 0; i < k->n; i++)
        g[i] = k->bn.relu && !(k->y[i] > 0) ? 0 : g[i];
    reference_backward(k, dx, dscale, dshift, x, g);
    if (k->n < 200) {
        check_slopes("dx", k, x, dx, k->n, x, scale, shift, g);
        check_slopes("dscale", k, scale, dscale, C, x, scale, shift, g);
        check_slopes("dshift", k, shift, dshift, C, x, scale, shift, g);
    }
    const unsigned all = k->residual ? 15 : 7;
    check_kernel_backward(k, all, 0, dx, dscale, dshift, g);
    check_kernel_backward(k, all, all, dx, dscale, dshift, g);
    check_kernel_backward(k, PAPA_BATCHNORM_DX, 0, dx, dscale, dshift, g);
    check_kernel_backward(k, PAPA_BATCHNORM_DSCALE | PAPA_BATCHNORM_DSHIFT, PAPA_BATCHNORM_DSCALE, dx, dscale, dshift, g);
    check_kernel_backward(k, PAPA_BATCHNORM_DRESIDUAL, 0, dx, dscale, dshift, g);
    free(x), free(scale), free(shift), free(g), free(dx), free(dscale), free(dshift);
}

static void test_shapes(void)
{
    static const int64_t shapes[][2] = {{1, 1}, {2, 5}, {7, 3}, {13, 16}, {0, 16}, {1001, 16}, {997, 10}, {300, 64}, {513, 96}, {131, 130},
        {20011, 7}, {70001, 1}, {5, 1031}, {4099, 32}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int options = 0; options < 8; options++) {
            Case k = new_case(shapes[i][0], shapes[i][1], options & 1, options & 2, options & 4, .3);
            if (k.bn.rows != 1) /* else y is the shift and the gradient 0 times 300: nothing to learn in float32 */
                check_forward(&k, 3e-6), check_backward(&k);
            free_case(&k);
        }
}

/* The largest difference that an offset of 3000 may make is that of rounding x itself and the mean. */
static void test_large_mean(void)
{
    Case k = new_case(30000, 16, false, false, false, 3000);
    check_forward(&k, 1e-3);
    free_case(&k);
}

static void test_constant_channel(void)
{
    Case k = new_case(5000, 24, false, false, false, 0);
    for (int64_t i = 3; i < k.n; i += 24)
        k.x[i] = .1f;
    run_forward(three_threads, &k, k.y, k.mean, k.rstd, k.running_mean, k.running_var);
    CHECK(k.mean[3] == .1f && k.rstd[3] == (float)(1 / sqrt((double)EPS)), "mean %.9g, rstd %.9g", (double)k.mean[3], (double)k.rstd[3]);
    CHECK(k.y[3] == k.shift[3], "%.9g, expected the shift %.9g", (double)k.y[3], (double)k.shift[3]);
    free_case(&k);
}

/* One row: the batch is its own mean. No rows: nothing but the empty batch's statistics is written. */
static void test_few_rows(void)
{
    Case k = new_case(1, 70, false, false, false, 0);
    run_forward(one_thread, &k, k.y, k.mean, k.rstd, k.running_mean, k.running_var);
    check_same("y of one row", k.y, k.shift, 70 * sizeof(float));
    check_same("mean of one row", k.mean, k.x, 70 * sizeof(float));
    free_case(&k);
    k = new_case(0, 3, false, false, false, 0);
    const float before = k.running_mean[1];
    run_forward(one_thread, &k, k.y, k.mean, k.rstd, k.running_mean, k.running_var);
    CHECK(k.running_mean[1] == before && k.mean[1] == 0, "running mean %g became %g", (double)before, (double)k.running_mean[1]);
    free_case(&k);
}

/* Momenta 0, 1/2, 2/3 from device memory make the running statistics the mean over the batches. */
static void test_calibration(void)
{
    Case k = new_case(50, 3, false, false, false, 0);
    double mean = 0;
    k.running_mean[1] = 7; /* of no account: the first momentum is 0 */
    for (int batch = 0; batch < 3; batch++) {
        const float m = (float)batch / (float)(batch + 1);
        float *x = random_floats(k.n, -2, 2);
        void *workspace = workspace_for(&k);
        CHECK_OK(papa_batchnorm_fwd_batch_cpu(one_thread, &k.bn, k.y, k.mean, k.rstd, k.running_mean, k.running_var, x, k.scale, k.shift, NULL, .9f,
            &m, workspace));
        mean += (double)k.mean[1] / 3;
        free(workspace), free(x);
    }
    CHECK_NEAR((double)k.running_mean[1], mean, 1e-7);
    free_case(&k);
}

static void test_nan_comes_through(void)
{
    Case k = new_case(40, 3, true, false, true, 0);
    k.x[4] = NAN;
    run_forward(one_thread, &k, k.y, k.mean, k.rstd, k.running_mean, k.running_var);
    CHECK(isnan(k.y[4]) && !isnan(k.y[1]), "%g, %g", (double)k.y[4], (double)k.y[1]);
    free_case(&k);
}

int main(void)
{
    if (kerneltest_begin()) {
        test_shapes();
        test_large_mean();
        test_constant_channel();
        test_few_rows();
        test_calibration();
        test_nan_comes_through();
    }
    return kerneltest_end();
}
