/* Per-channel statistics and the shift to a goal, against two passes in double. */
#include "base/rng.h"
#include "check.h"
#include "kernels/chanstat.h"

#include <stdlib.h>

#define EPS 1e-5f

static PapaDevice *dev;

static float *draw(int64_t rows, int64_t C, uint32_t salt)
{
    float *x = malloc((size_t)(rows * C + 1) * sizeof *x);
    PapaRng rng = papa_rng(7, PAPA_RNG_TEST, 0, salt, 0);
    for (int64_t i = 0; i < rows * C; i++)
        x[i] = (float)(papa_rng_normal(&rng) * (1 + (double)(i % C)) + 30.0 * (double)(i % C) - 5); /* far off zero, unlike widths */
    return x;
}

static void reference(double *mean, double *std, const float *x, int64_t rows, int64_t C, int64_t c)
{
    double sum = 0, squares = 0;
    for (int64_t r = 0; r < rows; r++)
        sum += x[r * C + c];
    *mean = rows ? sum / (double)rows : 0;
    for (int64_t r = 0; r < rows; r++)
        squares += (x[r * C + c] - *mean) * (x[r * C + c] - *mean);
    *std = rows ? sqrt(squares / (double)rows) : 0;
}

static void test_measure(int64_t rows, int64_t C)
{
    float *x = draw(rows, C, (uint32_t)C), *mean = malloc((size_t)C * 4), *std = malloc((size_t)C * 4);
    CHECK_OK(PAPA_KERNEL(dev, papa_chanstat_measure)(dev, mean, std, x, rows, C));
    for (int64_t c = 0; c < C; c++) {
        double m, s;
        reference(&m, &s, x, rows, C, c);
        CHECK_NEAR(mean[c], m, 1e-7 * fabs(m) + 1e-9); /* one rounding to float */
        CHECK_NEAR(std[c], s, 1e-7 * s);
    }
    free(x), free(mean), free(std);
}

static void test_constant_channels(void)
{
    enum { ROWS = 1001, C = 67 };
    float *x = malloc(sizeof(float) * ROWS * C), mean[C], std[C];
    for (int i = 0; i < ROWS * C; i++)
        x[i] = i < C ? 0.1f * (float)i - 3.3f : x[i - C];
    CHECK_OK(PAPA_KERNEL(dev, papa_chanstat_measure)(dev, mean, std, x, ROWS, C));
    for (int c = 0; c < C; c++)
        CHECK(mean[c] == x[c] && std[c] == 0, "channel %d: mean %.9g of %.9g, std %g", c, mean[c], x[c], std[c]);
    free(x);
}

/* A wide constant offset must not swallow a small deviation. */
static void test_offset(void)
{
    enum { ROWS = 4096 };
    float *x = malloc(sizeof(float) * ROWS), mean, std;
    for (int i = 0; i < ROWS; i++)
        x[i] = 4096.0f + (i % 2 ? 1.0f / 64 : -1.0f / 64);
    CHECK_OK(PAPA_KERNEL(dev, papa_chanstat_measure)(dev, &mean, &std, x, ROWS, 1));
    CHECK(mean == 4096.0f && std == 1.0f / 64, "mean %.9g, std %.9g", mean, std);
    free(x);
}

static void test_nan_is_seen(void)
{
    float x[6] = {1, 2, NAN, 3, 4, 5}, mean[2], std[2];
    CHECK_OK(PAPA_KERNEL(dev, papa_chanstat_measure)(dev, mean, std, x, 3, 2));
    CHECK(isnan(mean[0]) && isnan(std[0]), "%g, %g", mean[0], std[0]);
    CHECK_NEAR(mean[1], 10.0 / 3, 1e-6);
}

static void test_threads(int64_t rows, int64_t C)
{
    PapaDevice *three = NULL;
    CHECK_OK(papa_device_open_cpu(&three, 3));
    size_t bytes = (size_t)C * 4;
    float *x = draw(rows, C, 99), *a = malloc(2 * bytes), *b = malloc(2 * bytes);
    papa_device_enter(dev);
    CHECK_OK(PAPA_KERNEL(dev, papa_chanstat_measure)(dev, a, a + C, x, rows, C));
    papa_device_enter(three);
    CHECK_OK(PAPA_KERNEL(three, papa_chanstat_measure)(three, b, b + C, x, rows, C));
    papa_device_enter(dev);
    CHECK(!memcmp(a, b, 2 * bytes), "%lld x %lld", (long long)rows, (long long)C);
    papa_device_close(three);
    free(x), free(a), free(b);
}

static void test_shift(int64_t rows, int64_t C)
{
    size_t bytes = (size_t)C * 4;
    float *x = draw(rows, C, 5), *y = malloc((size_t)(rows * C + 1) * 4), *own = malloc(2 * bytes), *goal = malloc(2 * bytes), *got = malloc(2 * bytes);
    memcpy(y, x, (size_t)(rows * C) * 4);
    CHECK_OK(PAPA_KERNEL(dev, papa_chanstat_measure)(dev, own, own + C, x, rows, C));
    for (int64_t c = 0; c < C; c++) {
        goal[c] = c % 3 == 1 ? NAN : 2.0f - (float)c; /* the three kinds: both, the mean stays, the deviation stays */
        goal[C + c] = c % 3 == 2 ? NAN : 0.5f + (float)(c % 7);
    }
    CHECK_OK(PAPA_KERNEL(dev, papa_chanstat_shift)(dev, y, own, own + C, goal, goal + C, rows, C, EPS));
    CHECK_OK(PAPA_KERNEL(dev, papa_chanstat_measure)(dev, got, got + C, y, rows, C));
    for (int64_t c = 0; c < C; c++) {
        double m = c % 3 == 1 ? own[c] : goal[c], s0 = own[C + c], g = c % 3 == 2 ? s0 : goal[C + c];
        double s = sqrt((g * g + EPS) / (s0 * s0 + EPS));
        for (int64_t r = 0; r < rows; r++)
            CHECK_NEAR(y[r * C + c], m + (x[r * C + c] - own[c]) * s, 1e-6 * (fabs(m) + 10 * (fabs((double)x[r * C + c]) + fabs((double)own[c])) * s));
        if (rows > 1) {
            CHECK_NEAR(got[c], m, 1e-5 * (1 + fabs(m) + fabs((double)own[c]) * s));
            CHECK_NEAR(got[C + c], s * s0, 1e-4 * (1 + s * s0));
        }
    }
    free(x), free(y), free(own), free(goal), free(got);
}

/* A dead channel stays finite: eps keeps the scale bounded. */
static void test_dead_channel(void)
{
    float x[3] = {2, 2, 2}, mean = 2, std = 0, goal_mean = 5, goal_std = 1;
    CHECK_OK(PAPA_KERNEL(dev, papa_chanstat_shift)(dev, x, &mean, &std, &goal_mean, &goal_std, 3, 1, EPS));
    CHECK(x[0] == 5 && x[1] == 5 && x[2] == 5, "%g %g %g", x[0], x[1], x[2]);
}

int main(void)
{
    if (papa_device_open_cpu(&dev, 1) != PAPA_OK)
        return 1;
    static const int64_t shapes[][2] = {{0, 3}, {1, 1}, {1, 65}, {2, 64}, {31, 7}, {33, 129}, {1000, 16}, {997, 1}, {50000, 3}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        test_measure(shapes[i][0], shapes[i][1]);
        test_threads(shapes[i][0], shapes[i][1]);
        test_shift(shapes[i][0], shapes[i][1]);
    }
    test_constant_channels();
    test_offset();
    test_nan_is_seen();
    test_dead_channel();
    papa_device_close(dev);
    return check_result();
}
