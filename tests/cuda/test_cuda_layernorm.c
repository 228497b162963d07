/* kernels/layernorm.h: the CUDA half against the CPU half. */
#include "cudacases.h"
#include "kernels/layernorm.h"

typedef struct Case {
    PapaLayerNorm ln;
    int64_t n;
    Array *x, *y, *dy, *scale, *shift, *mean, *rstd;
    void *workspace, *host_workspace; /* exactly as long as asked for */
} Case;

static Case new_case(int64_t rows, int64_t D, double center)
{
    const int64_t n = rows * D;
    Case k = {.ln = {rows, D, 1e-5f}, .n = n, .x = reals(n, center - 2, center + 2), .y = out_reals(n, false), .dy = reals(n, -1, 1),
        .scale = floats(D, -2, 2), .shift = floats(D, -1, 1), .mean = out_floats(rows, false), .rstd = out_floats(rows, false)};
    k.workspace = raw_device(NULL, papa_layernorm_workspace_cuda(rows, D));
    k.host_workspace = malloc(papa_layernorm_workspace_cpu(rows, D) + 1);
    return k;
}

static void free_case(Case *k)
{
    papa_device_free(cuda, k->workspace);
    free(k->host_workspace);
    free_arrays();
}

/* ---------------------------------------------------------------- forward */

static void forward_cuda(const Case *k, const Array *y, const Array *shift, const Array *mean, const Array *rstd)
{
    must(papa_layernorm_fwd_cuda(cuda, &k->ln, y->device, DEVICE(mean), DEVICE(rstd), k->x->device, k->scale->device, DEVICE(shift)));
}

static void forward(const Case *k, const Array *shift, const Array *mean, const Array *rstd)
{
    must(papa_layernorm_fwd_cpu(cpu, &k->ln, k->y->host, HOST(mean), HOST(rstd), k->x->host, k->scale->host, HOST(shift)));
    forward_cuda(k, k->y, shift, mean, rstd);
}

static void check_forward(const Case *k, double tolerance)
{
    check_same("y", k->y, tolerance);
    check_same("mean", k->mean, 1e-6);
    check_same("rstd", k->rstd, 2e-6);
}

static void test_forward(int64_t rows, int64_t D)
{
    Case k = new_case(rows, D, .3);
    forward(&k, k.shift, k.mean, k.rstd);
    check_forward(&k, 2e-6);
    Array *again = out_reals(k.n, false);
    forward_cuda(&k, again, k.shift, k.mean, k.rstd);
    check_repeated("y", k.y, again);
    free_case(&k);
}

/* y over x; no shift; nobody asks for the statistics. Once for each way that a row is dealt with. */
static void test_forward_aliases(int64_t D)
{
    Case k = new_case(5, D, .3);
    k.y = k.x;
    forward(&k, NULL, NULL, k.rstd);
    check_same("y over x, without a shift", k.y, 2e-6);
    check_same("rstd alone", k.rstd, 2e-6);
    check_equal("an output that nobody wants", k.mean);
    free_case(&k);
}

/* x begins behind an element: no wide access fits. So do scale and shift. */
static void test_misaligned(void)
{
    Case k = new_case(34, 16, .3);
    Array *dx = out_reals(k.n, false), *dscale = out_floats(16, false), *dshift = out_floats(16, false), *wide = floats(17, -2, 2);
    Array x = from_second(k.x), y = from_second(k.y), dy = from_second(k.dy), to = from_second(dx), scale = from_second(wide);
    k.ln.rows = 33;
    k.x = &x, k.y = &y, k.scale = &scale;
    forward(&k, k.shift, k.mean, k.rstd);
    y.n = to.n = 33 * 16;
    k.mean->n = k.rstd->n = 33;
    check_forward(&k, 2e-6);
    const PapaLayerNormGradients host = {to.host, dscale->host, dshift->host, 0}, device = {to.device, dscale->device, dshift->device, 0};
    must(papa_layernorm_bwd_cpu(cpu, &k.ln, &host, dy.host, x.host, scale.host, k.mean->host, k.rstd->host, k.host_workspace));
    must(papa_layernorm_bwd_cuda(cuda, &k.ln, &device, dy.device, x.device, scale.device, k.mean->device, k.rstd->device, k.workspace));
    check_same("dx", &to, 2e-6);
    check_same("dscale", dscale, 2e-6);
    check_same("dshift", dshift, 2e-6);
    free_case(&k);
}

/* What an offset of 3000 may cost is what it costs the CPU: x has 2.4e-4 between its neighbours, its mean is rounded to 1.2e-4. */
static void test_large_mean(int64_t D)
{
    Case k = new_case(9, D, 3000);
    k.x->host[0] = 9000; /* what sums are shifted by must not be an outlier */
    upload_again(k.x);
    forward(&k, k.shift, k.mean, k.rstd);
    check_same("y", k.y, 2e-4);
    check_same("mean", k.mean, 5e-7); /* differences from x[0], 6000 away, are summed */
    check_same("rstd", k.rstd, 2e-6);
    free_case(&k);
}

/* A constant row's variance is 0, to the last bit; a NaN stays in its row; a mean that lies between two floats is as good as another. */
static void test_special_rows(int64_t D)
{
    Case k = new_case(4, D, 0);
    for (int64_t j = 0; j < D; j++)
        k.x->host[j] = 1234.1f, k.x->host[2 * D + j] = 30000 + (float)(j % 2) / 512;
    k.x->host[2 * D - 3] = NAN;
    upload_again(k.x);
    forward(&k, k.shift, k.mean, k.rstd);
    check_forward(&k, 2e-6);
    float *mean = from_device(k.mean->device, 4, PAPA_FLOAT32), *rstd = from_device(k.rstd->device, 4, PAPA_FLOAT32);
    CHECK(mean[0] == k.x->host[0] && fabs((double)rstd[0] * sqrt(1e-5) - 1) < 2e-7, "mean %.9g, rstd %.9g", (double)mean[0], (double)rstd[0]);
    CHECK(isnan(mean[1]) && isnan(rstd[1]) && !isnan(mean[3]), "%g %g", (double)mean[1], (double)mean[3]);
    free(mean), free(rstd);
    free_case(&k);
}

/* ---------------------------------------------------------------- backward */

static void backward_cuda(const Case *k, const Array *dy, Array *const to[3], unsigned accumulate)
{
    const PapaLayerNormGradients device = {DEVICE(to[0]), DEVICE(to[1]), DEVICE(to[2]), accumulate};
    must(papa_layernorm_bwd_cuda(cuda, &k->ln, &device, dy->device, k->x->device, k->scale->device, k->mean->device, k->rstd->device, k->workspace));
}

static void backward(const Case *k, const Array *dy, Array *const to[3], unsigned accumulate)
{
    const PapaLayerNormGradients host = {HOST(to[0]), HOST(to[1]), HOST(to[2]), accumulate};
    backward_cuda(k, dy, to, accumulate); /* first: dx may be dy, and dy->host is what both read */
    must(papa_layernorm_bwd_cpu(cpu, &k->ln, &host, dy->host, k->x->host, k->scale->host, k->mean->host, k->rstd->host, k->host_workspace));
}

/* wanted, accumulate: bits as in PAPA_LAYERNORM_*. */
static void test_backward(int64_t rows, int64_t D, unsigned wanted, unsigned accumulate, bool dx_is_dy)
{
    static const char *const names[] = {"dx", "dscale", "dshift"};
    Case k = new_case(rows, D, .3);
    k.mean = floats(rows, 0, .6), k.rstd = floats(rows, .5, 1.5);
    Array *to[3] = {0};
    for (int i = 0; i < 3; i++)
        if (wanted >> i & 1)
            to[i] = i ? out_floats(D, accumulate >> i & 1) : out_reals(k.n, accumulate & 1);
    if (dx_is_dy)
        to[0] = k.dy;
    backward(&k, k.dy, to, accumulate);
    for (int i = 0; i < 3; i++)
        if (to[i]) /* sums of random signs: rounding grows with the root of their number, and the sum may be near 0 */
            check_same(names[i], to[i], i ? 2e-6 * fmax(1, sqrt((double)rows) / 16) : 2e-6);
    free_case(&k);
}

static void test_backward_repeats(int64_t rows, int64_t D)
{
    Case k = new_case(rows, D, .3);
    k.mean = floats(rows, 0, .6), k.rstd = floats(rows, .5, 1.5);
    Array *to[2][3];
    for (int i = 0; i < 2; i++) {
        to[i][0] = out_reals(k.n, false), to[i][1] = out_floats(D, false), to[i][2] = out_floats(D, false);
        backward_cuda(&k, k.dy, to[i], 0);
    }
    for (int i = 0; i < 3; i++)
        check_repeated("gradients", to[0][i], to[1][i]);
    free_case(&k);
}

/* ---------------------------------------------------------------- shapes */

/* Rows that are none, one, and not a multiple of what a block has; D below a pack, of odd length, a warp's and a block's most and beyond it, and so
 * long that rows are read again, with packs and without. */
static const int64_t shapes[][2] = {{0, 16}, {5, 0}, {0, 0}, {1, 1}, {1, 24}, {3, 2}, {7, 3}, {197, 64}, {65, 192}, {9, 255}, {5, 256}, {6, 257}, {5, 384},
    {3, 1024}, {2, 1031}, {3, 1032}, {2, 2049}, {2, 8192}, {1, 8200}, {2, 66000}, {4001, 8}, {3001, 3}};

static void test_shapes(void)
{
    const unsigned all = 7;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const int64_t rows = shapes[i][0], D = shapes[i][1];
        test_forward(rows, D);
        test_backward(rows, D, all, 0, false);
        test_backward(rows, D, all, all, false);
        test_backward(rows, D, all, 0, true);
    }
    for (unsigned wanted = 1; wanted < all; wanted++)
        test_backward(57, 24, wanted, wanted & 5, false);
}

int main(void)
{
    int status = cudatest_begin();
    if (status)
        return status;
    static const int64_t each_way[] = {24, 63, 1032, 1033, 8200, 2051};
    FOR_ELEMENTS
    {
        test_shapes();
        test_misaligned();
        test_backward_repeats(3001, 24);
        for (size_t i = 0; i < sizeof each_way / sizeof *each_way; i++) {
            test_forward_aliases(each_way[i]);
            test_special_rows(each_way[i]);
            test_backward_repeats(3, each_way[i]);
        }
    }
    cuda = cuda_fp32;
    for (size_t i = 0; i < sizeof each_way / sizeof *each_way; i++)
        test_large_mean(each_way[i]);
    return cudatest_end();
}
