/* kernels/softmax.h against double precision; gradients against finite differences. */
#include "kernels/softmax.h"
#include "kerneltest.h"

static void reference(bool log_form, double *y, const double *x, int64_t outer, int64_t D, int64_t inner)
{
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < inner; i++) {
            const double *from = x + o * D * inner + i;
            double *to = y + o * D * inner + i, max = -INFINITY, sum = 0;
            for (int64_t d = 0; d < D; d++)
                max = fmax(max, from[d * inner]);
            for (int64_t d = 0; d < D; d++)
                sum += exp(from[d * inner] - max);
            for (int64_t d = 0; d < D; d++)
                to[d * inner] = log_form ? from[d * inner] - max - log(sum) : exp(from[d * inner] - max) / sum;
        }
}

/* dx by central differences, perturbing one element of the axis at a time. */
static void reference_backward(bool log_form, double *dx, const double *x, const float *dy, int64_t outer, int64_t D, int64_t inner)
{
    const double h = 1e-5;
    const int64_t n = outer * D * inner;
    double *above = DOUBLES(n), *below = DOUBLES(n), *moved = DOUBLES(n);
    for (int64_t d = 0; d < D; d++) { /* rows don't depend on each other, so all are moved at once */
        for (int side = 0; side < 2; side++) {
            for (int64_t i = 0; i < n; i++)
                moved[i] = x[i] + (i / inner % D == d ? (side ? -h : h) : 0);
            reference(log_form, side ? below : above, moved, outer, D, inner);
        }
        for (int64_t o = 0; o < outer; o++)
            for (int64_t i = 0; i < inner; i++) {
                double sum = 0;
                for (int64_t k = 0; k < D; k++) {
                    const int64_t at = (o * D + k) * inner + i;
                    sum += (above[at] - below[at]) / (2 * h) * (double)dy[at];
                }
                dx[(o * D + d) * inner + i] = sum;
            }
    }
    free(above), free(below), free(moved);
}

static void check_softmax(bool log_form, int64_t outer, int64_t D, int64_t inner)
{
    const int64_t n = outer * D * inner;
    const size_t bytes = (size_t)n * sizeof(float);
    float *x = random_floats(n, -3, 3), *dy = random_floats(n, -1, 1), *y = poisoned(n, false), *y3 = poisoned(n, false);
    double *wide = DOUBLES(n), *want = DOUBLES(n);
    for (int64_t i = 0; i < n; i++)
        wide[i] = (double)x[i];
    reference(log_form, want, wide, outer, D, inner);
    CHECK_OK(papa_softmax_fwd_cpu(one_thread, y, x, outer, D, inner, log_form));
    CHECK_OK(papa_softmax_fwd_cpu(three_threads, y3, x, outer, D, inner, log_form));
    check_near("y", y, want, n, false, 5e-7);
    check_same("y", y, y3, bytes);
    CHECK_OK(papa_softmax_fwd_cpu(one_thread, x, x, outer, D, inner, log_form));
    check_same("y in place", x, y, bytes);
    double *y_double = poisoned_double(n, false);
    CHECK_OK(papa_softmax_fwd_ref(in_double, (PapaReal *)y_double, (const PapaReal *)wide, outer, D, inner, log_form));
    check_near_double("y in double", y_double, want, n, false, IN_DOUBLE);
    free(y_double);
    if (n < 100000)
        reference_backward(log_form, want, wide, dy, outer, D, inner);
    for (int accumulate = 0; accumulate < 2; accumulate++) {
        float *dx = poisoned(n, accumulate), *dx3 = poisoned(n, accumulate);
        CHECK_OK(papa_softmax_bwd_cpu(one_thread, dx, dy, y, outer, D, inner, log_form, accumulate));
        CHECK_OK(papa_softmax_bwd_cpu(three_threads, dx3, dy, y, outer, D, inner, log_form, accumulate));
        if (n < 100000)
            check_near("dx", dx, want, n, accumulate, 2e-6);
        check_same("dx", dx, dx3, bytes);
        free(dx), free(dx3);
    }
    free(x), free(dy), free(y), free(y3), free(wide), free(want);
}

static void test_shapes(void)
{
    static const int64_t shapes[][3] = {{1, 1, 1}, {128, 10, 1}, {3, 17, 1}, {2, 1000, 1}, {0, 10, 1}, {4, 0, 3}, {2, 3, 5}, {3, 7, 64}, {2, 5, 131},
        {1, 300, 2}, {999, 197, 1}, {40, 50, 140}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int log_form = 0; log_form < 2; log_form++)
            check_softmax(log_form, shapes[i][0], shapes[i][1], shapes[i][2]);
}

/* Large scores must not overflow, -infinity is probability 0, a NaN spoils its own row only. */
static void test_special_values(void)
{
    const float inf = INFINITY, x[9] = {1000, 999, -inf, 1, NAN, 2, -90, -91, -1e30f};
    for (int64_t inner = 1; inner <= 3; inner += 2) { /* the same three triples, as rows and as columns */
        float at[9], y[9];
        for (int i = 0; i < 9; i++)
            at[inner == 1 ? i : i % 3 * 3 + i / 3] = x[i];
        CHECK_OK(papa_softmax_fwd_cpu(one_thread, y, at, inner == 1 ? 3 : 1, 3, inner, false));
        const int64_t row = inner == 1 ? 3 : 1;
        CHECK_NEAR((double)y[0], 1 / (1 + exp(-1)), 1e-7);
        CHECK(y[2 * inner] == 0, "%g", (double)y[2 * inner]);
        CHECK(isnan(y[row]) && isnan(y[row + inner]), "%g %g", (double)y[row], (double)y[row + inner]);
        CHECK_NEAR((double)y[2 * row], 1 / (1 + exp(-1)), 1e-7);
    }
}

int main(void)
{
    if (kerneltest_begin()) {
        test_shapes();
        test_special_values();
    }
    return kerneltest_end();
}
