/* kernels/reduce.h: sums along any axes and their gradient. The gradients of broadcasting are in test_eltwise.c. */
#include "kernels/reduce.h"
#include "kerneltest.h"

typedef struct Axes {
    int rank;
    int64_t dim[5];
    int64_t summed[5]; /* 1: this axis is */
} Axes;

static void walk_for(const Axes *axes, PapaWalk *walk, int64_t *n_x, int64_t *n_y)
{
    int64_t kept[5], stride[5], none[5] = {0};
    *n_x = *n_y = 1;
    for (int k = 0; k < axes->rank; k++) {
        kept[k] = axes->summed[k] ? 1 : axes->dim[k];
        *n_x *= axes->dim[k], *n_y *= kept[k];
    }
    papa_walk_strides(stride, axes->rank, axes->rank, kept);
    papa_walk_make(walk, axes->rank, axes->dim, stride, none);
}

/* Where element i of x falls in y: its index without the summed axes. */
static int64_t place(const Axes *axes, int64_t i)
{
    int64_t at = 0, step = 1;
    for (int k = axes->rank - 1; k >= 0; i /= axes->dim[k--])
        if (!axes->summed[k])
            at += i % axes->dim[k] * step, step *= axes->dim[k];
    return at;
}

static void check_sum(const Axes *axes, float scale)
{
    PapaWalk walk;
    int64_t n_x, n_y;
    walk_for(axes, &walk, &n_x, &n_y);
    float *x = random_floats(n_x, -1, 1), *dy = random_floats(n_y, -1, 1);
    double *want = DOUBLES(n_y), *dx_want = DOUBLES(n_x);
    memset(want, 0, (size_t)n_y * sizeof *want);
    for (int64_t i = 0; i < n_x; i++) {
        want[place(axes, i)] += (double)scale * (double)x[i];
        dx_want[i] = (double)scale * (double)dy[place(axes, i)]; /* the sum is linear: its derivative needs no differences */
    }
    for (int accumulate = 0; accumulate < 2; accumulate++) {
        float *y = poisoned(n_y, accumulate), *y3 = poisoned(n_y, accumulate), *dx = poisoned(n_x, accumulate), *dx3 = poisoned(n_x, accumulate);
        CHECK_OK(papa_sum_cpu(one_thread, y, x, &walk, scale, accumulate));
        CHECK_OK(papa_sum_cpu(three_threads, y3, x, &walk, scale, accumulate));
        check_near("y", y, want, n_y, accumulate, 1e-6);
        check_same("y", y, y3, (size_t)n_y * sizeof *y);
        CHECK_OK(papa_spread_cpu(one_thread, dx, dy, &walk, scale, accumulate));
        CHECK_OK(papa_spread_cpu(three_threads, dx3, dy, &walk, scale, accumulate));
        check_near("dx", dx, dx_want, n_x, accumulate, 3e-7);
        check_same("dx", dx, dx3, (size_t)n_x * sizeof *dx);
        double *wide_x = widened(x, n_x), *wide_dy = widened(dy, n_y), *y_double = poisoned_double(n_y, accumulate), *dx_double = poisoned_double(n_x, accumulate);
        CHECK_OK(papa_sum_ref(in_double, (PapaReal *)y_double, (const PapaReal *)wide_x, &walk, (double)scale, accumulate));
        check_near_double("y in double", y_double, want, n_y, accumulate, IN_DOUBLE);
        CHECK_OK(papa_spread_ref(in_double, (PapaReal *)dx_double, (const PapaReal *)wide_dy, &walk, (double)scale, accumulate));
        check_near_double("dx in double", dx_double, dx_want, n_x, accumulate, IN_DOUBLE);
        free(y), free(y3), free(dx), free(dx3), free(wide_x), free(wide_dy), free(y_double), free(dx_double);
    }
    free(x), free(dy), free(want), free(dx_want);
}

static void test_axes(void)
{
    static const Axes all[] = {
        {3, {5, 49, 64}, {0, 1, 0}},               /* the mean over a channels-last map */
        {3, {3, 1000, 131}, {0, 1, 0}},
        {3, {4, 17, 10}, {0, 1, 0}},
        {4, {2, 3, 7, 7}, {0, 0, 1, 1}},           /* over a channels-first map */
        {2, {70, 1000}, {0, 1}},
        {2, {1000, 70}, {1, 0}},
        {1, {100003}, {1}},
        {0, {0}, {0}},
        {4, {3, 4, 5, 6}, {1, 0, 1, 0}},
        {4, {3, 4, 5, 6}, {0, 1, 0, 1}},
        {5, {3, 2, 5, 2, 7}, {1, 0, 1, 0, 1}},
        {5, {2, 3, 2, 5, 2}, {0, 1, 0, 1, 0}},
        {3, {2, 3, 4}, {0, 0, 0}},                 /* no axis at all: a copy */
        {3, {2, 1, 4}, {0, 1, 0}},                 /* only one of length 1 */
        {2, {0, 5}, {1, 0}},                       /* sums of nothing */
        {2, {5, 0}, {0, 1}},
        {2, {0, 5}, {0, 1}},                       /* nothing to sum up to */
        {3, {64, 196, 96}, {0, 1, 0}},             /* large enough for threads */
        {2, {2000, 300}, {0, 1}},
        {3, {100, 30, 50}, {0, 0, 0}},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        check_sum(&all[i], 1);
        check_sum(&all[i], .0625f);
    }
}

/* A million equal terms: float32 alone would be off by 1e-2. */
static void test_long_sums_keep_their_digits(void)
{
    const int64_t n = 1 << 20;
    float *x = FLOATS(n);
    for (int64_t i = 0; i < n; i++)
        x[i] = .1f;
    for (int columns = 1; columns <= 2; columns++) {
        const Axes axes = {2, {n / columns, columns}, {1, 0}};
        PapaWalk walk;
        int64_t n_x, n_y;
        float y[2];
        walk_for(&axes, &walk, &n_x, &n_y);
        CHECK_OK(papa_sum_cpu(three_threads, y, x, &walk, 1, false));
        CHECK_NEAR((double)y[0] / ((double).1f * (double)(n / columns)), 1, 1e-6);
    }
    free(x);
}


int main(void)
{
    if (kerneltest_begin()) {
        test_axes();
        test_long_sums_keep_their_digits();
    }
    return kerneltest_end();
}
