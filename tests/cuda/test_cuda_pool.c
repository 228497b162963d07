/* kernels/pool.h: the CUDA half against the CPU half. */
#include "cudacases.h"
#include "kernels/pool.h"

static int64_t outputs(int64_t length, int64_t before, int64_t behind, int64_t K, int64_t stride, int64_t dilation)
{
    return (length + before + behind - (K - 1) * dilation - 1) / stride + 1;
}

static PapaPool2d pool_of(int64_t N, int64_t H, int64_t W, int64_t C, int64_t K, int64_t stride, int64_t dilation, int64_t pad)
{
    return (PapaPool2d){.N = N, .H = H, .W = W, .C = C, .K = {K, K}, .stride = {stride, stride}, .dilation = {dilation, dilation},
        .pad = {pad, pad, pad, pad}, .OH = outputs(H, pad, pad, K, stride, dilation), .OW = outputs(W, pad, pad, K, stride, dilation)};
}

/* Few different values, so that windows have ties; some that no maximum may lose or prefer. */
static Array *values_with_ties(int64_t n)
{
    Array *x = reals(n, 0, 5);
    for (int64_t i = 0; i < n; i++)
        x->host[i] = i % 97 == 11 ? NAN : i % 13 == 3 ? -INFINITY : floorf(x->host[i]);
    upload_again(x);
    return x;
}

static void check_argmax(const uint16_t *want, const void *device, int64_t n)
{
    uint16_t *got = malloc((size_t)n * sizeof *got + 1);
    must(papa_device_download(cuda, got, device, (size_t)n * sizeof *got));
    int64_t at = 0;
    while (at < n && got[at] == want[at])
        at++;
    CHECK(at == n, "argmax %lld is %d, expected %d", (long long)at, got[at], want[at]);
    free(got);
}

static void test_max(const PapaPool2d *p)
{
    const int64_t n = p->N * p->OH * p->OW * p->C, n_in = p->N * p->H * p->W * p->C;
    const size_t bytes = (size_t)n * sizeof(uint16_t);
    Array *x = values_with_ties(n_in), *y = out_reals(n, false), *alone = out_reals(n, false), *dy = reals(n, -1, 1);
    uint16_t *argmax = malloc(bytes + 1), *device_argmax = raw_device(NULL, bytes);
    must(papa_maxpool_fwd_cpu(cpu, p, y->host, argmax, x->host));
    must(papa_maxpool_fwd_cuda(cuda, p, y->device, device_argmax, x->device));
    check_same("maximum", y, 0);
    check_argmax(argmax, device_argmax, n);
    must(papa_maxpool_fwd_cuda(cuda, p, alone->device, NULL, x->device));
    check_repeated("maximum without argmax", y, alone);
    for (int accumulate = 0; accumulate < 2; accumulate++) {
        Array *dx = out_reals(n_in, accumulate);
        must(papa_maxpool_bwd_cpu(cpu, p, dx->host, dy->host, argmax, accumulate));
        must(papa_maxpool_bwd_cuda(cuda, p, dx->device, dy->device, device_argmax, accumulate));
        check_same("maximum's dx", dx, 1e-6);
    }
    papa_device_free(cuda, device_argmax);
    free(argmax);
    free_arrays();
}

static void test_average(const PapaPool2d *p)
{
    const int64_t n = p->N * p->OH * p->OW * p->C, n_in = p->N * p->H * p->W * p->C;
    Array *x = reals(n_in, -1, 1), *y = out_reals(n, false), *again = out_reals(n, false), *dy = reals(n, -1, 1);
    must(papa_avgpool_fwd_cpu(cpu, p, y->host, x->host));
    must(papa_avgpool_fwd_cuda(cuda, p, y->device, x->device));
    must(papa_avgpool_fwd_cuda(cuda, p, again->device, x->device));
    check_same("average", y, 1e-6);
    check_repeated("average", y, again);
    for (int accumulate = 0; accumulate < 2; accumulate++) {
        Array *dx = out_reals(n_in, accumulate);
        must(papa_avgpool_bwd_cpu(cpu, p, dx->host, dy->host, accumulate));
        must(papa_avgpool_bwd_cuda(cuda, p, dx->device, dy->device, accumulate));
        check_same("average's dx", dx, 1e-6);
    }
    free_arrays();
}

static void test_both(PapaPool2d p)
{
    test_max(&p);
    for (int include_pad = 0; include_pad < 2; include_pad++) {
        p.include_pad = include_pad;
        test_average(&p);
    }
}

/* Every number differs between down and across; the padding at the end is longer than at the beginning. */
static PapaPool2d lopsided(int64_t C)
{
    PapaPool2d p = {.N = 2, .H = 9, .W = 14, .C = C, .K = {3, 2}, .stride = {2, 3}, .dilation = {1, 2}, .pad = {1, 0, 2, 3}};
    p.OH = outputs(9, 1, 2, 3, 2, 1), p.OW = outputs(14, 0, 3, 2, 3, 2);
    return p;
}

/* Values begin behind an element: no wide access fits, though there are enough of them. */
static void test_misaligned(void)
{
    const PapaPool2d p = pool_of(2, 32, 32, 64, 2, 2, 1, 0);
    const int64_t n_in = 2 * 32 * 32 * 64, n = n_in / 4;
    Array *x = reals(n_in + 1, -1, 1), *y = out_reals(n + 1, false), *dx = out_reals(n_in + 1, false);
    Array later[] = {from_second(x), from_second(y), from_second(dx)};
    must(papa_avgpool_fwd_cpu(cpu, &p, later[1].host, later[0].host));
    must(papa_avgpool_fwd_cuda(cuda, &p, later[1].device, later[0].device));
    check_same("average", &later[1], 1e-6);
    must(papa_avgpool_bwd_cpu(cpu, &p, later[2].host, later[0].host, false));
    must(papa_avgpool_bwd_cuda(cuda, &p, later[2].device, later[0].device, false));
    check_same("average's dx", &later[2], 1e-6);
    free_arrays();
}

static void test_reach(void)
{
    static const int64_t too_far[][2] = {{1, (int64_t)1 << 31}, {2, (int64_t)1 << 29}, {4, (int64_t)1 << 62}}; /* K, dilation */
    Array *x = reals(9, -1, 1);
    for (size_t i = 0; i < sizeof too_far / sizeof *too_far; i++) {
        PapaPool2d p = pool_of(1, 3, 3, 1, 1, 1, 1, 0);
        p.K[0] = too_far[i][0], p.dilation[0] = too_far[i][1];
        CHECK_FAILS(papa_avgpool_bwd_cuda(cuda, &p, x->device, x->device, false), PAPA_ERR_UNSUPPORTED, "windows that reach");
    }
    free_arrays();
}

int main(void)
{
    int status = cudatest_begin();
    if (status)
        return status;
    FOR_ELEMENTS
    {
        static const int64_t channels[] = {1, 3, 16, 37};
        for (size_t i = 0; i < sizeof channels / sizeof *channels; i++) {
            const int64_t C = channels[i];
            test_both(pool_of(2, 8, 8, C, 2, 2, 1, 0));
            test_both(pool_of(2, 9, 7, C, 3, 2, 1, 1));
            test_both(pool_of(1, 11, 11, C, 3, 1, 2, 2));
            test_both(pool_of(3, 7, 7, C, 7, 7, 1, 0)); /* all of the map */
            test_both(pool_of(1, 3, 3, C, 2, 1, 1, 3)); /* windows without any tap */
            test_both(pool_of(1, 3, 3, C, 7, 1, 1, 3)); /* windows larger than the map */
            test_both(pool_of(1, 7, 7, C, 1, 3, 1, 0)); /* elements without any window */
            test_both(lopsided(C));
        }
        test_both(pool_of(0, 8, 8, 3, 2, 2, 1, 0));
        test_both(pool_of(2, 8, 8, 0, 2, 2, 1, 0));
        test_both(pool_of(2, 64, 64, 64, 2, 2, 1, 0)); /* enough for wide accesses */
        test_both(pool_of(2, 33, 32, 136, 3, 1, 1, 1));
        test_misaligned();
    }
    cuda = cuda_fp32;
    test_reach();
    return cudatest_end();
}
