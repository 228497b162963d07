/* Matrix products and column sums against sums in double precision.
 *
 * Tolerance: relative to the sum of the products' magnitudes, K + 4 roundings of 2^-24 each: a bound, not an estimate. */
#include "base/rng.h"
#include "check.h"
#include "kernels/matmul.h"

#include <stdlib.h>

static PapaRng rng;

static float *filled(int64_t n, float value)
{
    float *p = malloc((size_t)(n > 0 ? n : 1) * sizeof *p);
    for (int64_t i = 0; i < n; i++)
        p[i] = value;
    return p;
}

static float *random_floats(int64_t n)
{
    float *p = filled(n, 0);
    for (int64_t i = 0; i < n; i++)
        p[i] = 2 * papa_rng_float(&rng) - 1;
    return p;
}

/* A matrix of rows x columns inside ld: what is between the rows is NaN, so that reading it shows. */
static void poison_gaps(float *p, int64_t count, int64_t stride, int64_t rows, int64_t columns, int64_t ld, int64_t total)
{
    float *copy = malloc((size_t)(total > 0 ? total : 1) * sizeof *copy);
    memcpy(copy, p, (size_t)total * sizeof *p);
    for (int64_t i = 0; i < total; i++)
        p[i] = NAN;
    for (int64_t i = 0; i < count; i++)
        for (int64_t r = 0; r < rows; r++)
            for (int64_t c = 0; c < columns; c++)
                p[i * stride + r * ld + c] = copy[i * stride + r * ld + c];
    free(copy);
}

static double *widened(const float *x, int64_t n)
{
    double *to = malloc((size_t)(n > 0 ? n : 1) * sizeof *to);
    for (int64_t i = 0; i < n; i++)
        to[i] = (double)x[i];
    return to;
}

/* c by the reference half; the caller frees it. */
static double *product_in_double(int n_threads, PapaMatmulDesc d, const double *a, const double *b, const float *bias, const float *before, int64_t size_c)
{
    PapaDevice *dev;
    PapaMatmul *matmul;
    double *c = widened(before, size_c), *wide_bias = bias ? widened(bias, d.N) : NULL;
    for (int64_t i = 0; i < size_c && d.beta == 0; i++)
        c[i] = NAN;
    d.a = d.b = d.c = PAPA_FLOAT64;
    CHECK(papa_device_open_reference(&dev, n_threads) == PAPA_OK && papa_matmul_create_ref(dev, &matmul, &d) == PAPA_OK, "%s", papa_error());
    const size_t bytes = papa_matmul_workspace_ref(matmul);
    void *workspace = malloc(bytes + 1);
    memset(workspace, 0xff, bytes);
    CHECK(papa_matmul_run_ref(dev, matmul, c, a, b, (const float *)wide_bias, workspace) == PAPA_OK, "%s", papa_error());
    free(workspace);
    papa_matmul_free_ref(matmul);
    papa_device_close(dev);
    free(wide_bias);
    return c;
}

static void test_product(PapaDevice *dev, PapaMatmulDesc d)
{
    int64_t batch = d.batch > 0 ? d.batch : 0, M = d.M, N = d.N, K = d.K;
    int64_t rows_a = d.transpose_a ? K : M, rows_b = d.transpose_b ? N : K, columns_a = d.transpose_a ? M : K;
    int64_t columns_b = d.transpose_b ? K : N;
    int64_t size_a = d.stride_a * (batch ? batch - 1 : 0) + rows_a * d.lda, size_b = d.stride_b * (batch ? batch - 1 : 0) + rows_b * d.ldb;
    int64_t size_c = d.stride_c * (batch ? batch - 1 : 0) + M * d.ldc;
    float *a = random_floats(size_a), *b = random_floats(size_b), *bias = d.bias ? random_floats(N) : NULL;
    float *before = random_floats(size_c), *c = filled(size_c, NAN), *again = filled(size_c, NAN);
    poison_gaps(a, batch, d.stride_a, rows_a, columns_a, d.lda, size_a);
    poison_gaps(b, batch, d.stride_b, rows_b, columns_b, d.ldb, size_b);
    poison_gaps(before, batch, d.stride_c, M, N, d.ldc, size_c);
    if (d.beta != 0)
        memcpy(c, before, (size_t)size_c * sizeof *c), memcpy(again, before, (size_t)size_c * sizeof *c);
    PapaMatmul *matmul;
    CHECK_OK(papa_matmul_create_cpu(dev, &matmul, &d));
    size_t bytes = papa_matmul_workspace_cpu(matmul);
    void *workspace;
    CHECK_OK(papa_device_alloc(dev, &workspace, bytes, "a test"));
    if (bytes)
        memset(workspace, 0xff, bytes);
    CHECK_OK(papa_matmul_run_cpu(dev, matmul, c, a, b, bias, workspace));
    CHECK_OK(papa_matmul_run_cpu(dev, matmul, again, a, b, bias, workspace));
    CHECK(!memcmp(c, again, (size_t)size_c * sizeof *c), "a second run differs");
    double *wide_a = widened(a, size_a), *wide_b = widened(b, size_b), *in_double = product_in_double(dev->n_threads, d, wide_a, wide_b, bias, before, size_c);
    double worst = 0, worst_double = 0;
    for (int64_t i = 0; i < batch; i++)
        for (int64_t m = 0; m < M; m++)
            for (int64_t n = 0; n < d.ldc; n++) {
                int64_t at = i * d.stride_c + m * d.ldc + n;
                if (n >= N) {
                    CHECK((isnan(c[at]) && isnan(in_double[at])) || at >= size_c, "wrote between the rows");
                    continue;
                }
                double sum = 0, size = 0;
                for (int64_t k = 0; k < K; k++) {
                    double p = (double)a[i * d.stride_a + (d.transpose_a ? k * d.lda + m : m * d.lda + k)] *
                               b[i * d.stride_b + (d.transpose_b ? n * d.ldb + k : k * d.ldb + n)];
                    sum += p, size += fabs(p);
                }
                sum = d.alpha * sum + (d.beta != 0 ? (double)d.beta * before[at] : 0) + (bias ? bias[n] : 0);
                size = fabs((double)d.alpha) * size + (d.beta != 0 ? fabs((double)d.beta * before[at]) : 0) + (bias ? fabs(bias[n]) : 0);
                if (d.relu && sum < 0)
                    sum = 0;
                double error = fabs(c[at] - sum) / (size > 0 ? size * ldexp((double)K + 4, -24) : 1);
                worst = error <= worst ? worst : error; /* NaN counts as worst */
                error = fabs(in_double[at] - sum) / (size > 0 ? size : 1);
                worst_double = error <= worst_double ? worst_double : error;
            }
    CHECK(worst <= 1, "batch %lld %lldx%lldx%lld %d%d alpha %g beta %g bias %d relu %d: %g of the bound", (long long)batch, (long long)M,
        (long long)N, (long long)K, d.transpose_a, d.transpose_b, d.alpha, d.beta, d.bias, d.relu, worst);
    CHECK(worst_double <= 1e-13, "the same in double: error %g", worst_double);
    papa_matmul_free_cpu(matmul);
    papa_device_free(dev, workspace);
    free(a), free(b), free(bias), free(before), free(c), free(again), free(wide_a), free(wide_b), free(in_double);
}

static void test_products(PapaDevice *dev)
{
    static const int64_t shapes[][4] = {{1, 128, 512, 784}, {1, 64, 120, 400}, {1, 1, 1, 1}, {1, 3, 5, 7}, {1, 17, 10, 31}, {1, 1, 64, 100},
        {1, 33, 1, 65}, {5, 13, 11, 17}, {2, 65, 65, 64}, {1, 4, 4, 0}, {3, 2, 3, 0}, {0, 3, 3, 3}, {1, 0, 3, 3}, {1, 3, 0, 3}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int variant = 0; variant < 8; variant++) {
            const int64_t *s = shapes[i];
            PapaMatmulDesc d = {.batch = s[0], .M = s[1], .N = s[2], .K = s[3], .transpose_a = variant & 1, .transpose_b = variant >> 1 & 1,
                .alpha = variant & 4 ? -.75f : 1, .beta = variant == 5 ? 1 : variant == 6 ? .5f : 0, .bias = variant % 3 == 1,
                .relu = variant % 4 == 1};
            int64_t gap = variant & 4 ? 3 : 0;
            d.lda = (d.transpose_a ? d.M : d.K) + gap, d.ldb = (d.transpose_b ? d.K : d.N) + gap, d.ldc = d.N + gap;
            d.stride_a = (d.transpose_a ? d.K : d.M) * d.lda + gap, d.stride_b = variant == 3 ? 0 : (d.transpose_b ? d.N : d.K) * d.ldb;
            d.stride_c = d.M * d.ldc + gap;
            test_product(dev, d);
        }
    PapaMatmul *matmul;
    PapaMatmulDesc bad = {.batch = 1, .M = 2, .N = 3, .K = 4, .lda = 3, .ldb = 3, .ldc = 3};
    CHECK_FAILS(papa_matmul_create_cpu(dev, &matmul, &bad), PAPA_ERR_ARGUMENT, "expected at least 4, 3, 3");
    bad.M = -1;
    CHECK_FAILS(papa_matmul_create_cpu(dev, &matmul, &bad), PAPA_ERR_ARGUMENT, "M -1");
}

/* Blocks of 64 rows are summed in float32: 64 roundings at most, and one at the end. */
static void test_colsum(PapaDevice *dev, int64_t M, int64_t N, int64_t ldx, float *kept)
{
    float *x = random_floats(M * ldx), *sums = filled(N, NAN), *more = random_floats(N), *first = filled(N, 0);
    poison_gaps(x, 1, 0, M, N, ldx, M * ldx);
    memcpy(first, more, (size_t)N * sizeof *more);
    CHECK_OK(papa_colsum_cpu(dev, sums, x, M, N, ldx, false));
    CHECK_OK(papa_colsum_cpu(dev, more, x, M, N, ldx, true));
    double worst = 0;
    for (int64_t n = 0; n < N; n++) {
        double sum = 0, size = 0;
        for (int64_t m = 0; m < M; m++)
            sum += x[m * ldx + n], size += fabs(x[m * ldx + n]);
        double bound = size > 0 ? size * ldexp(65, -24) : 1e-30;
        double error = fmax(fabs(sums[n] - sum) / bound, fabs(more[n] - (sum + first[n])) / (bound + ldexp(2, -24)));
        worst = error <= worst && !isnan(sums[n]) ? worst : error;
        kept[n] = sums[n];
        CHECK(!isnan(sums[n]) && !isnan(more[n]), "column %lld", (long long)n);
    }
    CHECK(worst <= 1, "%lldx%lld: %g of the bound", (long long)M, (long long)N, worst);
    free(x), free(sums), free(more), free(first);
}

static void test_colsums(PapaDevice *devices[2])
{
    static const int64_t shapes[][3] = {{0, 5, 5}, {1, 1, 1}, {7, 3, 4}, {129, 64, 64}, {1000, 10, 10}, {5000, 65, 70}, {3000, 200, 200}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        float kept[2][200];
        for (int k = 0; k < 2; k++) {
            rng = papa_rng(11, PAPA_RNG_TEST, -1, (uint32_t)i, 0);
            test_colsum(devices[k], shapes[i][0], shapes[i][1], shapes[i][2], kept[k]);
        }
        CHECK(!memcmp(kept[0], kept[1], (size_t)shapes[i][1] * sizeof(float)), "the sum depends on the thread count");
    }
}

int main(void)
{
    PapaDevice *devices[2];
    rng = papa_rng(7, PAPA_RNG_TEST, -1, 0, 0);
    for (int i = 0; i < 2; i++)
        if (papa_device_open_cpu(&devices[i], i + 1) != PAPA_OK) {
            printf("%s\n", papa_error());
            return 1;
        }
    for (int i = 0; i < 2; i++) {
        papa_device_enter(devices[i]);
        test_products(devices[i]);
    }
    test_colsums(devices);
    for (int i = 0; i < 2; i++)
        papa_device_close(devices[i]);
    return check_result();
}
