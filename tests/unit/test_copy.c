/* kernels/copy.h: random walks against a walk element by element; everything around the region must stay as it was. */
#include "kernels/copy.h"
#include "kerneltest.h"

/* One side of a region: a dense tensor whose axes, each every step-th element of a longer one, stand in some order. */
typedef struct Side {
    int64_t n, origin; /* elements in all, and which one index (0, ..., 0) is */
    int64_t stride[PAPA_REGION_MAX_RANK];
} Side;

static Side random_side(int rank, const int64_t *dim, bool may_repeat)
{
    int order[PAPA_REGION_MAX_RANK];
    for (int k = 0; k < rank; k++)
        order[k] = k;
    for (int k = rank - 1; k > 0; k--) {
        int j = papa_rng_below(&rng, 2) ? k : (int)papa_rng_below(&rng, (uint32_t)k + 1), t = order[k];
        order[k] = order[j], order[j] = t;
    }
    Side side = {.n = 1};
    for (int k = rank - 1; k >= 0; k--) {
        int axis = order[k];
        uint32_t kind = papa_rng_below(&rng, 8);
        if (may_repeat && kind == 0)
            continue; /* stride 0 */
        int64_t step = kind == 1 ? 2 : kind == 2 ? 3 : 1, length = dim[axis] * step + (kind == 3);
        bool backwards = kind == 4 && dim[axis];
        side.stride[axis] = (backwards ? -step : step) * side.n;
        side.origin += backwards ? (dim[axis] - 1) * step * side.n : 0;
        side.n *= length;
    }
    return side;
}

static void naive(float *to, const float *from, int rank, const int64_t *dim, const int64_t *to_stride, const int64_t *from_stride,
    bool accumulate)
{
    if (!rank) {
        *to = accumulate ? *to + *from : *from;
        return;
    }
    for (int64_t i = 0; i < *dim; i++)
        naive(to + i * *to_stride, from + i * *from_stride, rank - 1, dim + 1, to_stride + 1, from_stride + 1, accumulate);
}

static void check_region(int rank, const int64_t *dim, const Side *to_side, const Side *from_side)
{
    PapaRegion region = {0};
    for (int k = 0; k < rank; k++)
        papa_region_add(&region, dim[k], to_side->stride[k], from_side->stride[k]);
    float *from = random_floats(from_side->n, -1, 1);
    for (int accumulate = 0; accumulate < 2; accumulate++) {
        float *want = random_floats(to_side->n, -1, 1), *got = FLOATS(to_side->n), *got3 = FLOATS(to_side->n);
        memcpy(got, want, (size_t)to_side->n * sizeof *got);
        memcpy(got3, want, (size_t)to_side->n * sizeof *got);
        double *got_double = widened(want, to_side->n), *wide = widened(from, from_side->n);
        naive(want + to_side->origin, from + from_side->origin, rank, dim, to_side->stride, from_side->stride, accumulate);
        CHECK_OK(papa_copy_cpu(one_thread, got + to_side->origin, from + from_side->origin, &region, accumulate));
        CHECK_OK(papa_copy_cpu(three_threads, got3 + to_side->origin, from + from_side->origin, &region, accumulate));
        CHECK(!to_side->n || !memcmp(got, want, (size_t)to_side->n * sizeof *got), "rank %d, %lld elements, accumulate %d", rank,
            (long long)to_side->n, accumulate);
        check_same("copy", got, got3, (size_t)to_side->n * sizeof *got);
        CHECK_OK(papa_copy_ref(in_double, (PapaReal *)(got_double + to_side->origin), (const PapaReal *)(wide + from_side->origin), &region, accumulate));
        bool same = true;
        for (int64_t i = 0; i < to_side->n; i++)
            same &= (float)got_double[i] == want[i];
        CHECK(same, "in double: rank %d, %lld elements, accumulate %d", rank, (long long)to_side->n, accumulate);
        free(want), free(got), free(got3), free(got_double), free(wide);
    }
    free(from);
}

static void random_regions(void)
{
    static const int64_t dims[] = {1, 2, 3, 5, 7, 16, 17, 33};
    for (int trial = 0; trial < 4000; trial++) {
        int64_t dim[PAPA_REGION_MAX_RANK], n = 1;
        int rank = (int)papa_rng_below(&rng, 7);
        for (int k = 0; k < rank; k++) {
            dim[k] = dims[papa_rng_below(&rng, n > 4000 ? 2 : n > 500 ? 4 : 8)];
            n *= dim[k];
        }
        if (rank && papa_rng_below(&rng, 50) == 0)
            dim[papa_rng_below(&rng, (uint32_t)rank)] = 0;
        Side to = random_side(rank, dim, false), from = random_side(rank, dim, true);
        check_region(rank, dim, &to, &from);
    }
}

/* Large enough for several threads, and the shapes of the layout pass and of a shortcut. */
static void large_regions(void)
{
    const int64_t dense[] = {70000};
    check_region(1, dense, &(Side){70000, 0, {1}}, &(Side){70000, 0, {1}});
    const int64_t image[] = {3, 61, 67, 37}; /* N, H, W, C */
    const Side nhwc = {3 * 61 * 67 * 37, 0, {61 * 67 * 37, 67 * 37, 37, 1}}, nchw = {3 * 61 * 67 * 37, 0, {61 * 67 * 37, 67, 1, 61 * 67}};
    check_region(4, image, &nhwc, &nchw);
    check_region(4, image, &nchw, &nhwc);
    const int64_t color[] = {5, 64, 64, 3};
    const Side rgb = {5 * 64 * 64 * 3, 0, {64 * 64 * 3, 64 * 3, 3, 1}}, planes = {5 * 64 * 64 * 3, 0, {64 * 64 * 3, 64, 1, 64 * 64}};
    check_region(4, color, &rgb, &planes);
    check_region(4, color, &planes, &rgb);
    const int64_t half[] = {8, 16, 16, 16}; /* every other row and column of (8, 32, 32, 16), into the middle of 32 channels */
    const Side wide = {8 * 16 * 16 * 32, 8, {16 * 16 * 32, 16 * 32, 32, 1}};
    const Side strided = {8 * 32 * 32 * 16, 0, {32 * 32 * 16, 2 * 32 * 16, 2 * 16, 1}};
    check_region(4, half, &wide, &strided);
    check_region(4, half, &strided, &wide);
}

static void joins_axes(void)
{
    PapaRegion region = {0};
    papa_region_add(&region, 4, 30, 60);
    papa_region_add(&region, 1, 999, -7);
    papa_region_add(&region, 5, 6, 12);
    papa_region_add(&region, 6, 1, 1);
    CHECK(region.rank == 2 && region.dim[0] == 20 && region.dim[1] == 6, "rank %d", region.rank);
    CHECK(region.to_stride[0] == 6 && region.from_stride[0] == 12 && region.to_stride[1] == 1);
    region = papa_region_reversed(region);
    CHECK(region.to_stride[0] == 12 && region.from_stride[0] == 6 && region.from_stride[1] == 1);
}

static void fills(void)
{
    const int64_t sizes[] = {0, 1, 7, 16, 50021};
    for (int i = 0; i < 5; i++) {
        float *x = poisoned(sizes[i] + 1, false);
        CHECK_OK(papa_fill_cpu(three_threads, x, -2.5f, sizes[i]));
        bool filled = true;
        for (int64_t k = 0; k < sizes[i]; k++)
            filled &= x[k] == -2.5f;
        CHECK(filled && isnan(x[sizes[i]]), "n = %lld", (long long)sizes[i]);
        double *wide = poisoned_double(sizes[i] + 1, false);
        CHECK_OK(papa_convert_ref(in_double, wide, PAPA_FLOAT64, x, PAPA_FLOAT32, sizes[i], false));
        filled = true;
        for (int64_t k = 0; k < sizes[i]; k++)
            filled &= wide[k] == -2.5;
        CHECK_OK(papa_fill_ref(in_double, (PapaReal *)wide, 1.5f, sizes[i]));
        for (int64_t k = 0; k < sizes[i]; k++)
            filled &= wide[k] == 1.5;
        CHECK(filled && isnan(wide[sizes[i]]), "in double: n = %lld", (long long)sizes[i]);
        free(x), free(wide);
    }
}

static void check_gather(int64_t outer, int64_t n_rows, int64_t n, int64_t inner)
{
    int64_t *index = take((size_t)n, sizeof *index), n_x = outer * n_rows * inner, n_y = outer * n * inner;
    for (int64_t j = 0; j < n; j++)
        index[j] = papa_rng_below(&rng, (uint32_t)n_rows);
    float *x = random_floats(n_x, -1, 1), *y = poisoned(n_y, false), *dy = random_floats(n_y, -1, 1), *dx = poisoned(n_x, true);
    float *dx1 = poisoned(n_x, true);
    double *want = DOUBLES(n_x);
    CHECK_OK(papa_gather_fwd_cpu(three_threads, y, x, index, outer, n_rows, n, inner));
    CHECK_OK(papa_gather_bwd_cpu(three_threads, dx, dy, index, outer, n_rows, n, inner));
    CHECK_OK(papa_gather_bwd_cpu(one_thread, dx1, dy, index, outer, n_rows, n, inner));
    for (int64_t i = 0; i < n_x; i++)
        want[i] = 0;
    double *wide = widened(x, n_x), *y_double = poisoned_double(n_y, false);
    CHECK_OK(papa_gather_fwd_ref(in_double, (PapaReal *)y_double, (const PapaReal *)wide, index, outer, n_rows, n, inner));
    bool right = true;
    for (int64_t e = 0; e < n_y; e++) {
        int64_t o = e / inner / n, j = e / inner % n, at = (o * n_rows + index[j]) * inner + e % inner;
        right &= y[e] == x[at] && y_double[e] == wide[at];
        want[at] += (double)dy[e];
    }
    CHECK(right, "gather of %lld of %lld rows", (long long)n, (long long)n_rows);
    check_near("gather's dx", dx, want, n_x, true, 2e-6);
    check_same("gather's dx", dx, dx1, (size_t)n_x * sizeof *dx);
    free(index), free(x), free(y), free(dy), free(dx), free(dx1), free(want), free(wide), free(y_double);
}

int main(void)
{
    if (kerneltest_begin()) {
        joins_axes();
        random_regions();
        large_regions();
        fills();
        check_gather(1, 1, 1, 1);
        check_gather(3, 7, 20, 5);
        check_gather(2, 5, 3, 1);
        check_gather(40, 11, 64, 33);
        check_gather(0, 3, 2, 4);
        check_gather(2, 3, 0, 4);
        check_gather(2, 3, 4, 0);
    }
    return kerneltest_end();
}
