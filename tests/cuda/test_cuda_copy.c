/* kernels/copy.h: the CUDA half against the CPU half, bit for bit; what lies around a region stays as it was. */
#include "cudacases.h"
#include "kernels/copy.h"

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
        uint32_t kind = papa_rng_below(&rng, 10);
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

static void check_region(int rank, const int64_t *dim, const Side *to, const Side *from)
{
    PapaRegion region = {0};
    for (int k = 0; k < rank; k++)
        papa_region_add(&region, dim[k], to->stride[k], from->stride[k]);
    for (int accumulate = 0; accumulate < 2; accumulate++) {
        Array *x = reals(from->n, -1, 1), *y = out_reals(to->n, true);
        must(papa_copy_cpu(cpu, y->host + to->origin, x->host + from->origin, &region, accumulate));
        must(papa_copy_cuda(cuda, papa_at(cuda, y->device, to->origin), papa_at(cuda, x->device, from->origin), &region, accumulate));
        for (int64_t i = 0; cuda->element == PAPA_BFLOAT16 && i < to->n; i++)
            y->host[i] = bf16_rounded(y->host[i]);
        check_equal("copy", y);
        free_arrays();
    }
}

static void test_random_regions(void)
{
    static const int64_t dims[] = {1, 2, 3, 5, 8, 16, 17, 40};
    for (int trial = 0; trial < 300; trial++) {
        int64_t dim[PAPA_REGION_MAX_RANK], n = 1;
        int rank = (int)papa_rng_below(&rng, 7);
        for (int k = 0; k < rank; k++) {
            dim[k] = dims[papa_rng_below(&rng, n > 2000 ? 2 : n > 300 ? 4 : 8)];
            n *= dim[k];
        }
        if (rank && papa_rng_below(&rng, 50) == 0)
            dim[papa_rng_below(&rng, (uint32_t)rank)] = 0;
        Side to = random_side(rank, dim, false), from = random_side(rank, dim, true);
        check_region(rank, dim, &to, &from);
    }
}

static void test_known_regions(void)
{
    static const int64_t sizes[] = {0, 1, 7, 64, 5003};
    for (int i = 0; i < 5; i++)
        check_region(1, &sizes[i], &(Side){sizes[i], 0, {1}}, &(Side){sizes[i], 0, {1}});
    const int64_t image[] = {2, 9, 7, 37}; /* N, H, W, C: tiles that the axes don't fill */
    const Side nhwc = {2 * 9 * 7 * 37, 0, {9 * 7 * 37, 7 * 37, 37, 1}}, nchw = {2 * 9 * 7 * 37, 0, {9 * 7 * 37, 7, 1, 9 * 7}};
    check_region(4, image, &nhwc, &nchw);
    check_region(4, image, &nchw, &nhwc);
    const int64_t color[] = {2, 16, 16, 3};
    const Side rgb = {2 * 16 * 16 * 3, 0, {16 * 16 * 3, 16 * 3, 3, 1}}, planes = {2 * 16 * 16 * 3, 0, {16 * 16 * 3, 16, 1, 16 * 16}};
    check_region(4, color, &rgb, &planes);
    check_region(4, color, &planes, &rgb);
    const int64_t half[] = {2, 8, 8, 16}; /* every other row and column of (2, 16, 16, 16), into the middle of 32 channels: in packs */
    const Side wide = {2 * 8 * 8 * 32, 8, {8 * 8 * 32, 8 * 32, 32, 1}};
    const Side strided = {2 * 16 * 16 * 16, 0, {16 * 16 * 16, 2 * 16 * 16, 2 * 16, 1}};
    check_region(4, half, &wide, &strided);
    check_region(4, half, &strided, &wide);
    const Side off = {2 * 8 * 8 * 32, 3, {8 * 8 * 32, 8 * 32, 32, 1}}; /* not by 16 bytes */
    check_region(4, half, &off, &strided);
    check_region(4, half, &strided, &off);
    const int64_t heads[] = {2, 3, 50, 24}; /* N, heads, tokens, D from (N, tokens, heads, D); and its last two exchanged */
    const Side split = {2 * 3 * 50 * 24, 0, {50 * 3 * 24, 24, 3 * 24, 1}}, joined = {2 * 3 * 50 * 24, 0, {3 * 50 * 24, 50 * 24, 24, 1}},
        turned = {2 * 3 * 50 * 24, 0, {3 * 50 * 24, 50 * 24, 1, 50}};
    check_region(4, heads, &joined, &split);
    check_region(4, heads, &turned, &split);
    check_region(4, heads, &split, &turned);
    const int64_t large[] = {200, 150};
    check_region(2, large, &(Side){30000, 0, {150, 1}}, &(Side){30000, 0, {1, 200}});
}

/* ---------------------------------------------------------------- fill and convert */

static void test_fill(int64_t n, int64_t offset)
{
    Array *y = out_reals(n + 2, false);
    must(papa_fill_cpu(cpu, y->host + offset, 1.5f, n));
    must(papa_fill_cuda(cuda, papa_at(cuda, y->device, offset), 1.5f, n));
    check_equal("fill", y);
    free_arrays();
}

static void test_convert(int64_t n, PapaElement to, PapaElement from, bool accumulate, bool off)
{
    Array *x = uniform_of(n + 1, -3, 3, from), *y = output_of(n + 1, accumulate, to);
    const Array x1 = off ? from_second(x) : *x, y1 = *y;
    must(papa_convert_cpu(cpu, y1.host, PAPA_FLOAT32, x1.host, PAPA_FLOAT32, n, accumulate));
    must(papa_convert_cuda(cuda, y1.device, to, x1.device, from, n, accumulate));
    for (int64_t i = 0; to == PAPA_BFLOAT16 && i < n; i++)
        y->host[i] = bf16_rounded(y->host[i]);
    check_equal("convert", y);
    free_arrays();
}

static void test_converts(void)
{
    static const int64_t sizes[] = {0, 1, 3, 64, 4099};
    for (int i = 0; i < 5; i++)
        for (int kind = 0; kind < 16; kind++)
            test_convert(sizes[i], kind & 1 ? PAPA_BFLOAT16 : PAPA_FLOAT32, kind & 2 ? PAPA_BFLOAT16 : PAPA_FLOAT32, kind & 4, kind & 8);
}

/* ---------------------------------------------------------------- rows by index */

/* How an index is drawn: any rows, or few of them, so that they repeat. */
static void check_gather(int64_t outer, int64_t n_rows, int64_t n, int64_t inner, int64_t of_rows)
{
    int64_t *index = malloc((size_t)n * sizeof *index + 1);
    for (int64_t j = 0; j < n; j++)
        index[j] = (int64_t)papa_rng_below(&rng, (uint32_t)of_rows) * (n_rows / of_rows);
    int64_t *on_device = raw_device(index, (size_t)n * sizeof *index);
    Array *x = reals(outer * n_rows * inner, -1, 1), *y = out_reals(outer * n * inner, false);
    must(papa_gather_fwd_cpu(cpu, y->host, x->host, index, outer, n_rows, n, inner));
    must(papa_gather_fwd_cuda(cuda, y->device, x->device, on_device, outer, n_rows, n, inner));
    check_equal("gather", y);
    Array *dy = reals(outer * n * inner, -1, 1), *dx = out_reals(outer * n_rows * inner, true);
    must(papa_gather_bwd_cpu(cpu, dx->host, dy->host, index, outer, n_rows, n, inner));
    must(papa_gather_bwd_cuda(cuda, dx->device, dy->device, on_device, outer, n_rows, n, inner));
    for (int64_t i = 0; cuda->element == PAPA_BFLOAT16 && i < dx->n; i++)
        dx->host[i] = bf16_rounded(dx->host[i]);
    check_equal("gather's gradient", dx); /* the same additions in the same order, rounded at the end */
    free_arrays();
    papa_device_free(cuda, on_device);
    free(index);
}

static void test_gather(void)
{
    check_gather(3, 17, 1, 40, 17); /* one token of each sample */
    check_gather(1, 50, 300, 16, 7);
    check_gather(2, 9, 40, 5, 9);
    check_gather(4, 8, 6, 1, 1);
    check_gather(1, 1000, 700, 1, 100);
    check_gather(0, 5, 3, 4, 5);
    check_gather(2, 5, 0, 4, 5);
    check_gather(2, 5, 3, 0, 5);
}

int main(void)
{
    const int status = cudatest_begin();
    if (status)
        return status;
    FOR_ELEMENTS {
        static const int64_t sizes[] = {0, 1, 7, 16, 5021};
        test_known_regions();
        test_random_regions();
        for (int i = 0; i < 5; i++)
            test_fill(sizes[i], 0), test_fill(sizes[i], 1);
        test_gather();
    }
    test_converts();
    cuda = cuda_fp32;
    check_gather(1, 7, ((int64_t)2 << 20) + 5, 1, 7); /* an index that is gone through in parts */
    return cudatest_end();
}
