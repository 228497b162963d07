/* kernels/batchnorm.h: the CUDA half against the CPU half. */
#include "cudacases.h"
#include "kernels/batchnorm.h"

typedef struct Case {
    PapaBatchNorm bn;
    int64_t n;
    Array *x, *residual, *y, *scale, *shift, *mean, *rstd, *running_mean, *running_var;
    void *workspace, *host_workspace; /* exactly as long as asked for */
} Case;

static Case new_case(int64_t rows, int64_t C, bool relu, bool add, double center)
{
    const int64_t n = rows * C;
    Case k = {.bn = {rows, C, 1e-5f, relu}, .n = n, .x = reals(n, center - 2, center + 2), .residual = add ? reals(n, -1, 1) : NULL,
        .y = out_reals(n, false), .scale = floats(C, -2, 2), .shift = floats(C, -1, 1), .mean = out_floats(C, false), .rstd = out_floats(C, false),
        .running_mean = floats(C, -.5, .5), .running_var = floats(C, .5, 2)};
    k.workspace = raw_device(NULL, papa_batchnorm_workspace_cuda(rows, C));
    k.host_workspace = malloc(papa_batchnorm_workspace_cpu(rows, C) + 1);
    return k;
}

static void free_case(Case *k)
{
    papa_device_free(cuda, k->workspace);
    free(k->host_workspace);
    free_arrays();
}

/* ---------------------------------------------------------------- forward */

static void forward_batch(Case *k, const Array *step_momentum)
{
    must(papa_batchnorm_fwd_batch_cpu(cpu, &k->bn, k->y->host, k->mean->host, k->rstd->host, k->running_mean->host, k->running_var->host, k->x->host,
        k->scale->host, k->shift->host, HOST(k->residual), .9f, HOST(step_momentum), k->host_workspace));
    must(papa_batchnorm_fwd_batch_cuda(cuda, &k->bn, k->y->device, k->mean->device, k->rstd->device, k->running_mean->device, k->running_var->device,
        k->x->device, k->scale->device, k->shift->device, DEVICE(k->residual), .9f, DEVICE(step_momentum), k->workspace));
}

static void forward_running(Case *k, bool statistics)
{
    Array *mean = statistics ? k->mean : NULL, *rstd = statistics ? k->rstd : NULL;
    must(papa_batchnorm_fwd_running_cpu(cpu, &k->bn, k->y->host, HOST(mean), HOST(rstd), k->x->host, k->scale->host, k->shift->host,
        k->running_mean->host, k->running_var->host, HOST(k->residual), k->host_workspace));
    must(papa_batchnorm_fwd_running_cuda(cuda, &k->bn, k->y->device, DEVICE(mean), DEVICE(rstd), k->x->device, k->scale->device, k->shift->device,
        k->running_mean->device, k->running_var->device, DEVICE(k->residual), k->workspace));
}

static void check_forward(const Case *k, double tolerance)
{
    check_same("y", k->y, tolerance);
    check_same("mean", k->mean, 1e-6);
    check_same("rstd", k->rstd, 2e-6);
    check_same("running mean", k->running_mean, 1e-6);
    check_same("running variance", k->running_var, 1e-6);
}

static void test_forward(int64_t rows, int64_t C, bool relu, bool add)
{
    Case k = new_case(rows, C, relu, add, .3);
    forward_batch(&k, NULL);
    check_forward(&k, 2e-6);
    Case again = k;
    again.y = out_reals(k.n, false);
    must(papa_batchnorm_fwd_batch_cuda(cuda, &k.bn, again.y->device, k.mean->device, k.rstd->device, k.running_mean->device, k.running_var->device,
        k.x->device, k.scale->device, k.shift->device, DEVICE(k.residual), .9f, NULL, k.workspace));
    check_repeated("y", k.y, again.y);
    free_case(&k);

    k = new_case(rows, C, relu, add, .3);
    forward_running(&k, true);
    check_forward(&k, 2e-6);
    free_case(&k);
}

/* y over residual; y over x by running statistics; nobody asks for the statistics. */
static void test_forward_aliases(void)
{
    Case k = new_case(57, 24, true, true, .3);
    k.y = k.residual;
    Array *half = floats(1, .5, .5);
    forward_batch(&k, half); /* the momentum from memory, too */
    check_forward(&k, 2e-6);
    free_case(&k);
    k = new_case(57, 24, true, true, .3);
    k.y = k.x;
    forward_running(&k, false);
    check_same("y over x", k.y, 2e-6);
    check_equal("an output that nobody wants", k.mean);
    free_case(&k);
}

/* x, y and residual begin behind an element: no wide access fits. */
static void test_forward_misaligned(void)
{
    Case k = new_case(34, 16, true, true, .3);
    Array x = from_second(k.x), y = from_second(k.y), residual = from_second(k.residual);
    k.bn.rows = 33;
    k.x = &x, k.y = &y, k.residual = &residual;
    forward_batch(&k, NULL);
    y.n = 33 * 16;
    check_forward(&k, 2e-6);
    free_case(&k);
}

/* What an offset of 3000 may cost is what it costs the CPU: x has 2.4e-4 between its neighbours, its mean is rounded to 1.2e-4. */
static void test_large_mean(void)
{
    cuda = cuda_fp32;
    Case k = new_case(30000, 4, false, false, 3000);
    forward_batch(&k, NULL);
    check_forward(&k, 1e-4);
    free_case(&k);
}

/* Its variance is 0, to the last bit; a NaN stays in its channel. */
static void test_special_channels(void)
{
    FOR_ELEMENTS
    {
        Case k = new_case(5000, 8, true, false, 0);
        for (int64_t i = 3; i < k.n; i += 8)
            k.x->host[i] = bf16_rounded(.1f);
        k.x->host[8 * 4321 + 5] = NAN;
        upload_again(k.x);
        forward_batch(&k, NULL);
        check_forward(&k, 2e-6);
        float *mean = from_device(k.mean->device, 8, PAPA_FLOAT32), *rstd = from_device(k.rstd->device, 8, PAPA_FLOAT32);
        CHECK(mean[3] == bf16_rounded(.1f) && rstd[3] == k.rstd->host[3], "mean %.9g, rstd %.9g, expected %.9g", (double)mean[3], (double)rstd[3],
            (double)k.rstd->host[3]);
        CHECK(isnan(mean[5]) && isnan(rstd[5]) && !isnan(mean[4]), "%g %g", (double)mean[5], (double)rstd[5]);
        free(mean), free(rstd);
        free_case(&k);
    }
}

/* ---------------------------------------------------------------- backward */

typedef enum Alias { APART, DX_IS_DY, DRESIDUAL_IS_DY } Alias;

static void backward(const Case *k, bool fixed, const Array *dy, Array *const to[4], unsigned accumulate, const Array *mean, const Array *rstd)
{
    const Array *y = k->bn.relu ? k->y : NULL;
    const PapaBatchNormGradients host = {HOST(to[0]), HOST(to[1]), HOST(to[2]), HOST(to[3]), accumulate};
    const PapaBatchNormGradients device = {DEVICE(to[0]), DEVICE(to[1]), DEVICE(to[2]), DEVICE(to[3]), accumulate};
    must(papa_batchnorm_bwd_cpu(cpu, &k->bn, fixed, &host, dy->host, k->x->host, HOST(y), k->scale->host, mean->host, rstd->host, k->host_workspace));
    must(papa_batchnorm_bwd_cuda(cuda, &k->bn, fixed, &device, dy->device, k->x->device, DEVICE(y), k->scale->device, mean->device, rstd->device,
        k->workspace));
}

/* wanted, accumulate: bits as in PAPA_BATCHNORM_*. */
static void test_backward(int64_t rows, int64_t C, bool relu, bool fixed, unsigned wanted, unsigned accumulate, Alias alias)
{
    static const char *const names[] = {"dx", "dscale", "dshift", "dresidual"};
    Case k = new_case(rows, C, relu, false, .3);
    for (int64_t i = 0; i < k.n; i++)
        k.y->host[i] = i % 3 ? (float)(i % 3) : 0;
    upload_again(k.y);
    Array *dy = reals(k.n, -1, 1), *mean = floats(C, 0, .6), *rstd = floats(C, .5, 1.5), *to[4] = {0};
    for (int i = 0; i < 4; i++)
        if (wanted >> i & 1)
            to[i] = i == 1 || i == 2 ? out_floats(C, accumulate >> i & 1) : out_reals(k.n, accumulate >> i & 1);
    if (alias == DX_IS_DY)
        to[0] = dy;
    if (alias == DRESIDUAL_IS_DY)
        to[3] = dy;
    backward(&k, fixed, dy, to, accumulate, mean, rstd);
    for (int i = 0; i < 4; i++)
        if (to[i]) /* sums of random signs: rounding grows with the root of their number, and the sum may be near 0 */
            check_same(names[i], to[i], i == 1 || i == 2 ? 2e-6 * fmax(1, sqrt((double)rows) / 16) : 2e-6);
    free_case(&k);
}

static void test_backward_misaligned(void)
{
    Case k = new_case(34, 16, true, false, .3);
    Array *dy = reals(k.n, -1, 1), *mean = floats(16, 0, .6), *rstd = floats(16, .5, 1.5), *y = reals(k.n, -1, 1), *dx = out_reals(k.n, false);
    Array *dscale = out_floats(16, false), *dshift = out_floats(16, false), *dresidual = out_reals(k.n, true);
    Array later[] = {from_second(k.x), from_second(y), from_second(dy), from_second(dx), from_second(dresidual)};
    k.bn.rows = 33;
    k.x = &later[0], k.y = &later[1];
    later[3].n = later[4].n = 33 * 16;
    backward(&k, false, &later[2], (Array *[]){&later[3], dscale, dshift, &later[4]}, PAPA_BATCHNORM_DRESIDUAL, mean, rstd);
    check_same("dx", &later[3], 2e-6);
    check_same("dresidual", &later[4], 2e-6);
    check_same("dscale", dscale, 2e-6);
    check_same("dshift", dshift, 2e-6);
    free_case(&k);
}

static void test_backward_repeats(void)
{
    Case k = new_case(3001, 24, true, false, .3);
    Array *dy = reals(k.n, -1, 1), *y = reals(k.n, -1, 1), *mean = floats(24, 0, .6), *rstd = floats(24, .5, 1.5);
    Array *to[2][4];
    k.y = y;
    for (int i = 0; i < 2; i++) {
        to[i][0] = out_reals(k.n, false), to[i][1] = out_floats(24, false), to[i][2] = out_floats(24, false), to[i][3] = out_reals(k.n, false);
        backward(&k, false, dy, to[i], 0, mean, rstd);
    }
    for (int i = 0; i < 4; i++)
        check_repeated("gradients", to[0][i], to[1][i]);
    free_case(&k);
}

/* ---------------------------------------------------------------- shapes */

/* Among them: no row, one, fewer than a block's step; one tile and several, the last one not full; more blocks of rows than lanes in a warp. */
static const int64_t shapes[][2] = {{0, 16}, {5, 0}, {1, 1}, {1, 24}, {2, 5}, {7, 3}, {13, 16}, {1001, 16}, {300, 64}, {131, 130}, {5, 1031}, {40, 520},
    {12001, 3}, {4099, 8}};

static void test_shapes(void)
{
    const unsigned all = 15;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const int64_t rows = shapes[i][0], C = shapes[i][1];
        for (int options = 0; options < 4; options++) {
            test_forward(rows, C, options & 1, options & 2);
            test_backward(rows, C, options & 1, options & 2, all, 0, APART);
        }
        test_backward(rows, C, true, false, all, all, APART);
    }
    for (int fixed = 0; fixed < 2; fixed++) {
        test_backward(57, 24, true, fixed, all, 0, DX_IS_DY);
        test_backward(57, 24, true, fixed, all, 0, DRESIDUAL_IS_DY);
        test_backward(57, 24, false, fixed, PAPA_BATCHNORM_DX, 0, APART);
        test_backward(57, 24, true, fixed, PAPA_BATCHNORM_DSCALE | PAPA_BATCHNORM_DSHIFT, PAPA_BATCHNORM_DSCALE, APART);
        test_backward(57, 24, true, fixed, PAPA_BATCHNORM_DRESIDUAL, PAPA_BATCHNORM_DRESIDUAL, APART);
    }
}

int main(void)
{
    int status = cudatest_begin();
    if (status)
        return status;
    FOR_ELEMENTS
    {
        test_shapes();
        test_forward_aliases();
        test_forward_misaligned();
        test_backward_misaligned();
        test_backward_repeats();
    }
    test_large_mean();
    test_special_channels();
    return cudatest_end();
}
