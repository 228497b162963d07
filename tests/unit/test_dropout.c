/* kernels/dropout.h against its definition, element by element, and the share of what is kept. */
#include "kernels/dropout.h"
#include "kerneltest.h"

static const uint32_t key[2] = {0x12345678, 0x9ABCDEF0}, name[2] = {77, 0x05000003};

static double factor(int64_t e, uint32_t node, double ratio)
{
    uint32_t words[4], counter[4] = {(uint32_t)(e / 4), name[0], node, name[1]};
    papa_philox(words, counter, key);
    return words[e % 4] >= ratio * 0x1p32 ? 1 / (1 - ratio) : 0;
}

static void check_dropout(int64_t n, float ratio, uint32_t node)
{
    float *x = random_floats(n, -1, 1);
    double *want = DOUBLES(n);
    for (int64_t e = 0; e < n; e++)
        want[e] = factor(e, node, (double)ratio) * (double)x[e];
    for (int accumulate = 0; accumulate < 2; accumulate++) {
        float *y = poisoned(n, accumulate), *y1 = poisoned(n, accumulate);
        CHECK_OK(papa_dropout_cpu(three_threads, y, x, n, ratio, key, name, node, accumulate));
        CHECK_OK(papa_dropout_cpu(one_thread, y1, x, n, ratio, key, name, node, accumulate));
        check_near("dropout", y, want, n, accumulate, 5e-7);
        check_same("dropout", y, y1, (size_t)n * sizeof *y);
        free(y), free(y1);
    }
    CHECK_OK(papa_dropout_cpu(one_thread, x, x, n, ratio, key, name, node, false));
    check_near("dropout in place", x, want, n, false, 5e-7);
    free(x), free(want);
}

/* What is dropped is 0 even where it was no number. */
static void drops_infinities(void)
{
    float x[64], y[64];
    for (int e = 0; e < 64; e++)
        x[e] = e % 2 ? INFINITY : NAN;
    CHECK_OK(papa_dropout_cpu(one_thread, y, x, 64, .5f, key, name, 3, false));
    for (int e = 0; e < 64; e++)
        CHECK(factor(e, 3, .5) > 0 ? !isfinite(y[e]) : y[e] == 0, "element %d is %g", e, (double)y[e]);
}

static void keeps_its_share(void)
{
    enum { N = 200000 };
    float *x = FLOATS(N), *y = FLOATS(N);
    for (int e = 0; e < N; e++)
        x[e] = 1;
    CHECK_OK(papa_dropout_cpu(three_threads, y, x, N, .2f, key, name, 9, false));
    int kept = 0;
    for (int e = 0; e < N; e++)
        kept += y[e] != 0;
    CHECK_NEAR(kept, .8 * N, 5 * sqrt(N * .8 * .2)); /* five standard deviations */
    free(x), free(y);
}

int main(void)
{
    if (kerneltest_begin()) {
        const int64_t sizes[] = {0, 1, 2, 3, 4, 5, 63, 64, 255, 256, 257, 1021, 30011};
        const float ratios[] = {0, .1f, .5f, .99f};
        for (int i = 0; i < 13; i++)
            for (int k = 0; k < 4; k++)
                check_dropout(sizes[i], ratios[k], (uint32_t)(11 * i + k));
        drops_infinities();
        keeps_its_share();
    }
    return kerneltest_end();
}
