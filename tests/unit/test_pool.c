/* kernels/pool.h against a direct reading of the definition, in double; gradients against finite differences of it. */
#include "kernels/pool.h"
#include "kerneltest.h"

typedef enum Kind { MAX, AVERAGE } Kind;

static double reference_at(Kind kind, const PapaPool2d *p, const double *x, int64_t n, int64_t oh, int64_t ow, int64_t c)
{
    double best = -INFINITY, sum = 0;
    int64_t count = 0;
    for (int64_t r = 0; r < p->K[0]; r++)
        for (int64_t s = 0; s < p->K[1]; s++) {
            const int64_t h = oh * p->stride[0] - p->pad[0] + r * p->dilation[0], w = ow * p->stride[1] - p->pad[1] + s * p->dilation[1];
            const bool inside = h >= 0 && h < p->H && w >= 0 && w < p->W;
            const bool padded = h >= -p->pad[0] && h < p->H + p->pad[2] && w >= -p->pad[1] && w < p->W + p->pad[3];
            count += p->include_pad ? padded : inside;
            if (inside) {
                best = fmax(best, x[((n * p->H + h) * p->W + w) * p->C + c]);
                sum += x[((n * p->H + h) * p->W + w) * p->C + c];
            }
        }
    return kind == MAX ? best : count ? sum / (double)count : 0;
}

static void reference(Kind kind, const PapaPool2d *p, double *y, const double *x)
{
    for (int64_t n = 0, i = 0; n < p->N; n++)
        for (int64_t oh = 0; oh < p->OH; oh++)
            for (int64_t ow = 0; ow < p->OW; ow++)
                for (int64_t c = 0; c < p->C; c++, i++)
                    y[i] = reference_at(kind, p, x, n, oh, ow, c);
}

/* dx by differences: both kinds are piecewise linear, so a step smaller than every gap between elements is exact. */
static void reference_backward(Kind kind, const PapaPool2d *p, double *dx, double *x, const float *dy, int64_t n_x, int64_t n_y)
{
    const double h = 1e-6;
    double *above = DOUBLES(n_y), *below = DOUBLES(n_y);
    for (int64_t i = 0; i < n_x; i++) {
        const double at = x[i];
        x[i] = at + h;
        reference(kind, p, above, x);
        x[i] = at - h;
        reference(kind, p, below, x);
        x[i] = at, dx[i] = 0;
        for (int64_t j = 0; j < n_y; j++)
            dx[i] += above[j] == below[j] ? 0 : (above[j] - below[j]) / (2 * h) * (double)dy[j];
    }
    free(above), free(below);
}

/* Distinct values in random order, so that no two are within the differences' step. */
static float *distinct_floats(int64_t n)
{
    uint32_t *order = take((size_t)n, sizeof *order);
    float *x = FLOATS(n);
    for (int64_t i = 0; i < n; i++)
        order[i] = (uint32_t)i;
    if (n)
        papa_rng_shuffle(&rng, order, (uint32_t)n);
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)order[i] / (float)n - .5f;
    free(order);
    return x;
}

static PapaStatus forward(PapaDevice *dev, Kind kind, const PapaPool2d *p, float *y, uint16_t *argmax, const float *x)
{
    return kind == MAX ? papa_maxpool_fwd_cpu(dev, p, y, argmax, x) : papa_avgpool_fwd_cpu(dev, p, y, x);
}

static PapaStatus backward(PapaDevice *dev, Kind kind, const PapaPool2d *p, float *dx, const float *dy, const uint16_t *argmax, bool accumulate)
{
    return kind == MAX ? papa_maxpool_bwd_cpu(dev, p, dx, dy, argmax, accumulate) : papa_avgpool_bwd_cpu(dev, p, dx, dy, accumulate);
}

static void check_pool(Kind kind, const PapaPool2d *p)
{
    const int64_t n_x = p->N * p->H * p->W * p->C, n_y = p->N * p->OH * p->OW * p->C;
    float *x = distinct_floats(n_x), *dy = random_floats(n_y, -1, 1), *y = poisoned(n_y, false), *y3 = poisoned(n_y, false);
    uint16_t *argmax = take((size_t)n_y, sizeof *argmax), *argmax3 = take((size_t)n_y, sizeof *argmax);
    double *wide = DOUBLES(n_x), *want = DOUBLES(n_y), *dx_want = DOUBLES(n_x);
    for (int64_t i = 0; i < n_x; i++)
        wide[i] = (double)x[i];
    reference(kind, p, want, wide);
    CHECK_OK(forward(one_thread, kind, p, y, argmax, x));
    CHECK_OK(forward(three_threads, kind, p, y3, argmax3, x));
    check_near("y", y, want, n_y, false, kind == MAX ? 0 : 3e-7);
    check_same("y", y, y3, (size_t)n_y * sizeof *y);
    if (kind == MAX) {
        check_same("argmax", argmax, argmax3, (size_t)n_y * sizeof *argmax);
        CHECK_OK(forward(three_threads, kind, p, y3, NULL, x));
        check_same("y without argmax", y, y3, (size_t)n_y * sizeof *y);
    }
    double *y_double = poisoned_double(n_y, false);
    memset(argmax3, 0x55, (size_t)n_y * sizeof *argmax3);
    CHECK_OK(kind == MAX ? papa_maxpool_fwd_ref(in_double, p, (PapaReal *)y_double, argmax3, (const PapaReal *)wide)
                         : papa_avgpool_fwd_ref(in_double, p, (PapaReal *)y_double, (const PapaReal *)wide));
    check_near_double("y in double", y_double, want, n_y, false, kind == MAX ? 0 : IN_DOUBLE);
    if (kind == MAX)
        check_same("argmax in double", argmax, argmax3, (size_t)n_y * sizeof *argmax);
    if (n_x < 1500) {
        reference_backward(kind, p, dx_want, wide, dy, n_x, n_y);
        for (int accumulate = 0; accumulate < 2; accumulate++) {
            float *dx = poisoned(n_x, accumulate), *dx3 = poisoned(n_x, accumulate);
            CHECK_OK(backward(one_thread, kind, p, dx, dy, argmax, accumulate));
            CHECK_OK(backward(three_threads, kind, p, dx3, dy, argmax, accumulate));
            check_near("dx", dx, dx_want, n_x, accumulate, 1e-6);
            check_same("dx", dx, dx3, (size_t)n_x * sizeof *dx);
            free(dx), free(dx3);
        }
    }
    free(x), free(dy), free(y), free(y3), free(argmax), free(argmax3), free(wide), free(want), free(dx_want), free(y_double);
}

static void test_shapes(void)
{
    static const PapaPool2d pools[] = {
        {1, 4, 4, 3, 2, 2, {2, 2}, {2, 2}, {1, 1}, {0, 0, 0, 0}, false},
        {2, 7, 5, 5, 4, 3, {3, 3}, {2, 2}, {1, 1}, {1, 1, 1, 1}, false},   /* overlapping windows */
        {2, 7, 5, 5, 4, 3, {3, 3}, {2, 2}, {1, 1}, {1, 1, 1, 1}, true},
        {1, 6, 5, 2, 7, 4, {3, 2}, {1, 1}, {1, 1}, {2, 0, 1, 0}, true},    /* asymmetric */
        {1, 6, 6, 2, 3, 3, {3, 3}, {2, 2}, {1, 1}, {0, 0, 0, 0}, true},    /* rounded up: the last windows leave the map */
        {1, 6, 6, 2, 3, 3, {3, 3}, {2, 2}, {1, 1}, {0, 0, 0, 0}, false},
        {1, 6, 6, 2, 4, 4, {3, 3}, {2, 2}, {1, 1}, {1, 1, 1, 1}, true},    /* likewise, beyond the padding */
        {2, 9, 8, 3, 5, 4, {3, 2}, {1, 2}, {2, 1}, {0, 0, 0, 0}, false},   /* dilated */
        {1, 9, 8, 3, 7, 6, {3, 3}, {1, 1}, {2, 3}, {1, 2, 1, 2}, true},
        {1, 1, 1, 1, 1, 2, {1, 2}, {1, 1}, {1, 3}, {0, 2, 0, 3}, false},   /* dilated over the map: windows without a tap */
        {3, 1, 11, 4, 1, 5, {1, 3}, {1, 2}, {1, 1}, {0, 0, 0, 0}, false},  /* one dimension */
        {2, 5, 4, 7, 1, 1, {5, 4}, {1, 1}, {1, 1}, {0, 0, 0, 0}, false},   /* global */
        {1, 5, 5, 2, 2, 2, {2, 2}, {3, 3}, {1, 1}, {0, 0, 0, 0}, false},   /* gaps between windows */
        {0, 4, 4, 3, 2, 2, {2, 2}, {2, 2}, {1, 1}, {0, 0, 0, 0}, false},
        {1, 3, 3, 131, 2, 2, {2, 2}, {1, 1}, {1, 1}, {0, 0, 0, 0}, false}, /* tiles and a remainder */
        {9, 28, 28, 64, 14, 14, {2, 2}, {2, 2}, {1, 1}, {0, 0, 0, 0}, false}, /* large enough for threads */
        {1, 3, 150, 2, 1, 40, {3, 100}, {1, 1}, {1, 1}, {0, 0, 0, 0}, false}, /* more taps than 8 bits count; n_x < 1500 */
    };
    for (size_t i = 0; i < sizeof pools / sizeof *pools; i++) {
        check_pool(MAX, &pools[i]);
        check_pool(AVERAGE, &pools[i]);
    }
}

/* The backward pass with threads, whose differences would take too long: sums over everything are kept. */
static void test_threads(void)
{
    const PapaPool2d p = {9, 28, 28, 64, 14, 14, {3, 3}, {2, 2}, {1, 1}, {1, 1, 0, 0}, false};
    const int64_t n_x = p.N * p.H * p.W * p.C, n_y = p.N * p.OH * p.OW * p.C;
    float *x = distinct_floats(n_x), *dy = random_floats(n_y, 0, 1), *y = FLOATS(n_y);
    uint16_t *argmax = take((size_t)n_y, sizeof *argmax);
    double want = 0;
    for (int64_t i = 0; i < n_y; i++)
        want += (double)dy[i];
    for (Kind kind = MAX; kind <= AVERAGE; kind++) {
        float *dx = poisoned(n_x, false), *dx3 = poisoned(n_x, false);
        double got = 0;
        CHECK_OK(forward(three_threads, kind, &p, y, argmax, x));
        CHECK_OK(backward(one_thread, kind, &p, dx, dy, argmax, false));
        CHECK_OK(backward(three_threads, kind, &p, dx3, dy, argmax, false));
        check_same("dx", dx, dx3, (size_t)n_x * sizeof *dx);
        for (int64_t i = 0; i < n_x; i++)
            got += (double)dx[i];
        CHECK(fabs(got / want - 1) < 1e-6, "dx sums to %g, dy to %g", got, want);
        free(dx), free(dx3);
    }
    free(x), free(dy), free(y), free(argmax);
}

/* Of equal elements the first is the maximum; a NaN is one whatever stands beside it; minus infinity is a value. */
static void test_ties_and_special_values(void)
{
    const PapaPool2d p = {1, 2, 2, 3, 1, 1, {2, 2}, {2, 2}, {1, 1}, {0, 0, 0, 0}, false};
    const float inf = INFINITY, x[12] = {1, 5, -inf, 2, NAN, -inf, 2, 7, -inf, 0, NAN, -inf}, dy[3] = {1, 2, 3};
    float y[3], dx[12];
    uint16_t argmax[3];
    CHECK_OK(papa_maxpool_fwd_cpu(one_thread, &p, y, argmax, x));
    CHECK(y[0] == 2 && isnan(y[1]) && y[2] == -inf, "%g %g %g", (double)y[0], (double)y[1], (double)y[2]);
    CHECK(argmax[0] == 1 && argmax[1] == 1 && argmax[2] == 0, "%d %d %d", argmax[0], argmax[1], argmax[2]);
    double *wide = widened(x, 12), *y_double = poisoned_double(3, false);
    uint16_t argmax_double[3];
    CHECK_OK(papa_maxpool_fwd_ref(in_double, &p, (PapaReal *)y_double, argmax_double, (const PapaReal *)wide));
    CHECK(y_double[0] == 2 && isnan(y_double[1]) && y_double[2] == -INFINITY && !memcmp(argmax, argmax_double, sizeof argmax), "in double: %g %g %g",
        y_double[0], y_double[1], y_double[2]);
    free(wide), free(y_double);
    CHECK_OK(papa_maxpool_bwd_cpu(one_thread, &p, dx, dy, argmax, false));
    for (int i = 0; i < 12; i++)
        CHECK(dx[i] == (i == 3 ? 1 : i == 4 ? 2 : i == 2 ? 3 : 0), "dx[%d] is %g", i, (double)dx[i]);
}

/* More taps than argmax can number, and larger still, as a file may ask for: without argmax there is no limit. */
static void test_many_taps(void)
{
    PapaPool2d p = {1, 260, 260, 1, 1, 1, {260, 260}, {1, 1}, {1, 1}, {0, 0, 0, 0}, false};
    float *x = FLOATS(260 * 260), y;
    for (int i = 0; i < 260 * 260; i++)
        x[i] = i == PAPA_POOL_MAX_TAPS ? 2 : 1;
    CHECK_OK(papa_maxpool_fwd_cpu(one_thread, &p, &y, NULL, x));
    CHECK(y == 2, "%g", (double)y);
    p.K[0] = p.K[1] = INT32_MAX; /* the rest of the window is padding */
    p.pad[2] = p.pad[3] = INT32_MAX - 260;
    CHECK_OK(papa_maxpool_fwd_cpu(one_thread, &p, &y, NULL, x));
    CHECK(y == 2, "%g", (double)y);
    CHECK_OK(papa_avgpool_fwd_cpu(one_thread, &p, &y, x));
    CHECK_NEAR(y, 1 + 1. / (260 * 260), 1e-6);
    free(x);
}

int main(void)
{
    if (kerneltest_begin()) {
        test_many_taps();
        test_shapes();
        test_threads();
        test_ties_and_special_values();
    }
    return kerneltest_end();
}
