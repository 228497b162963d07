/* Matrix products on CUDA against the CPU's: transposes, gaps between rows, batches, alpha and beta, bias and ReLU, the mixtures of elements that
 * bfloat16 networks have, and pointers that are aligned to nothing but their element.
 *
 * Tolerances, relative to the largest result: float32 sums in another order, 1e-5. A bfloat16 result to which a bias is added afterwards is rounded
 * twice: 1/256. TF32 rounds the factors to 11 digits, a product's together by at most 1/512. */
#include "cudatest.h"
#include "kernels/matmul.h"

static PapaDevice *cuda_tf32;

static double tolerance(PapaElement result)
{
    return result == PAPA_BFLOAT16 ? 1. / 256 : cuda->precision == PAPA_PRECISION_TF32 ? 1. / 512 : 1e-5;
}

typedef struct Operand {
    Array *array;
    int64_t offset; /* elements between the array's beginning and the first matrix */
} Operand;

static float *host_of(Operand o)
{
    return o.array->host + o.offset;
}

static void *device_of(Operand o)
{
    return (char *)o.array->device + (size_t)o.offset * papa_element_bytes(o.array->element);
}

/* count matrices of rows x columns, NaN between the rows and the matrices. known: false is all NaN, what is to be written and not read. On the
 * bfloat16 device all numbers are ones that it can hold. */
static Operand operand(PapaElement element, int64_t count, int64_t stride, int64_t rows, int64_t columns, int64_t ld, int64_t offset, bool known)
{
    int64_t n = count && rows ? (count - 1) * stride + rows * ld + offset : offset;
    float *host = malloc((size_t)n * sizeof *host + 1);
    for (int64_t i = 0; i < n; i++)
        host[i] = NAN;
    for (int64_t i = 0; known && i < count; i++)
        for (int64_t r = 0; r < rows; r++)
            for (int64_t c = 0; c < columns; c++) {
                float x = 2 * papa_rng_float(&rng) - 1;
                host[offset + i * stride + r * ld + c] = cuda->element == PAPA_BFLOAT16 ? bf16_rounded(x) : x;
            }
    return (Operand){array_of(host, n, element), offset};
}

static void test_product(const PapaMatmulDesc *d, int64_t offset)
{
    int64_t count = d->batch > 1 ? d->batch : 1;
    Operand a = operand(d->a, count, d->stride_a, d->transpose_a ? d->K : d->M, d->transpose_a ? d->M : d->K, d->lda, offset, true);
    Operand b = operand(d->b, count, d->stride_b, d->transpose_b ? d->N : d->K, d->transpose_b ? d->K : d->N, d->ldb, offset, true);
    Operand c = operand(d->c, count, d->stride_c, d->M, d->N, d->ldc, offset, d->beta != 0);
    Operand bias = operand(PAPA_FLOAT32, 1, 0, 1, d->N, d->N, offset, true);
    PapaMatmulDesc on_cpu = *d;
    PapaMatmul *cpus, *ours;
    void *workspace;
    on_cpu.a = on_cpu.b = on_cpu.c = PAPA_FLOAT32;
    must(papa_matmul_create_cpu(cpu, &cpus, &on_cpu));
    must(papa_matmul_create_cuda(cuda, &ours, d));
    must(papa_device_alloc(cuda, &workspace, papa_matmul_workspace_cuda(ours), "a test"));
    must(papa_matmul_run_cpu(cpu, cpus, host_of(c), host_of(a), host_of(b), d->bias ? host_of(bias) : NULL, NULL));
    float *first = NULL;
    for (int i = 0; i < (d->beta == 0 ? 2 : 1); i++) {
        must(papa_matmul_run_cuda(cuda, ours, device_of(c), device_of(a), device_of(b), d->bias ? device_of(bias) : NULL, workspace));
        if (i == 0)
            first = from_device(c.array->device, c.array->n, d->c);
    }
    char what[200];
    snprintf(what, sizeof what, "%lld of %lldx%lldx%lld, %s%s, elements %d%d%d, alpha %g, beta %g, bias %d, relu %d, offset %lld", (long long)d->batch,
        (long long)d->M, (long long)d->N, (long long)d->K, d->transpose_a ? "T" : "N", d->transpose_b ? "T" : "N", d->a, d->b, d->c, (double)d->alpha,
        (double)d->beta, d->bias, d->relu, (long long)offset);
    check_same(what, c.array, tolerance(d->c));
    float *again = from_device(c.array->device, c.array->n, d->c);
    CHECK(memcmp(first, again, (size_t)c.array->n * sizeof *first) == 0, "%s: two equal calls differ", what);
    free(first);
    free(again);
    papa_device_free(cuda, workspace);
    papa_matmul_free_cpu(cpus);
    papa_matmul_free_cuda(ours);
    free_arrays();
}

/* What the operands of a network's products are: an activation with a parameter, the gradients of both, parameters alone. */
static const PapaElement mixtures[][3] = {
    {PAPA_BFLOAT16, PAPA_BFLOAT16, PAPA_BFLOAT16}, {PAPA_BFLOAT16, PAPA_FLOAT32, PAPA_BFLOAT16}, {PAPA_FLOAT32, PAPA_BFLOAT16, PAPA_BFLOAT16},
    {PAPA_BFLOAT16, PAPA_BFLOAT16, PAPA_FLOAT32}, {PAPA_FLOAT32, PAPA_FLOAT32, PAPA_FLOAT32},
};
enum { N_MIXTURES = sizeof mixtures / sizeof *mixtures };

static void test_products(void)
{
    static const int64_t shapes[][4] = {{1, 16, 24, 32}, {1, 1, 1, 1}, {1, 3, 5, 7}, {1, 17, 10, 31}, {1, 1, 64, 50}, {1, 33, 1, 65}, {5, 6, 8, 16},
        {3, 5, 3, 9}, {1, 4, 4, 0}, {3, 2, 3, 0}, {0, 3, 3, 3}, {1, 0, 3, 3}, {1, 3, 0, 3}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int variant = 0; variant < 16; variant++) {
            const int64_t *s = shapes[i];
            PapaMatmulDesc d = {.batch = s[0], .M = s[1], .N = s[2], .K = s[3], .transpose_a = variant & 1, .transpose_b = variant >> 1 & 1,
                .alpha = variant & 4 ? -.75f : 1, .beta = variant % 8 == 5 ? 1 : variant % 8 == 6 ? .5f : 0, .bias = variant % 3 == 1,
                .relu = variant % 5 < 2};
            int64_t gap = variant & 4 ? 3 : variant & 8 ? 8 : 0;
            d.lda = (d.transpose_a ? d.M : d.K) + gap, d.ldb = (d.transpose_b ? d.K : d.N) + gap, d.ldc = d.N + gap;
            d.stride_a = variant == 2 ? 0 : (d.transpose_a ? d.K : d.M) * d.lda + gap;
            d.stride_b = variant == 3 ? 0 : (d.transpose_b ? d.N : d.K) * d.ldb;
            d.stride_c = d.M * d.ldc + (variant & 1 ? gap : 0);
            int n_mixtures = cuda->element == PAPA_BFLOAT16 ? N_MIXTURES : 1;
            for (int m = 0; m < n_mixtures; m++) {
                const PapaElement *e = mixtures[n_mixtures == 1 ? N_MIXTURES - 1 : m];
                d.a = e[0], d.b = e[1], d.c = e[2];
                test_product(&d, variant % 4 == 3 ? 1 : 0);
            }
        }
}

/* More elements than threads: the kernels around the product walk on. In C alone (no product), and in operands that are rounded first. */
static void test_long(void)
{
    const PapaElement e = cuda->element;
    PapaMatmulDesc d = {.batch = 1, .M = 1283, .N = 111, .lda = 1, .ldb = 111, .ldc = 113, .alpha = 1, .beta = .5f, .bias = true, .relu = true, .a = e,
        .b = e, .c = e};
    test_product(&d, 0);
    d.N = d.ldb = d.ldc = 888;
    test_product(&d, 0);
    d = (PapaMatmulDesc){.batch = 1, .M = 2, .N = 977, .K = 151, .lda = 151, .ldb = 979, .ldc = 977, .alpha = 1, .a = e, .c = e};
    test_product(&d, 0);
    d.ldb = 977;
    test_product(&d, 0);
}

static void test_errors(void)
{
    PapaMatmul *matmul;
    PapaMatmulDesc bad = {.batch = 1, .M = 2, .N = 3, .K = 4, .lda = 3, .ldb = 3, .ldc = 3};
    CHECK_FAILS(papa_matmul_create_cuda(cuda, &matmul, &bad), PAPA_ERR_ARGUMENT, "expected at least 4, 3, 3");
    CHECK(!matmul);
    papa_matmul_free_cuda(NULL);
}

typedef struct Recorded {
    PapaMatmul *matmul;
    Operand a, b, c, bias;
    void *workspace;
} Recorded;

static PapaStatus record(void *context, PapaDevice *dev)
{
    Recorded *r = context;
    return papa_matmul_run_cuda(dev, r->matmul, device_of(r->c), device_of(r->a), device_of(r->b), device_of(r->bias), r->workspace);
}

/* Recorded as part of a step, and replayed. */
static void test_captured(void)
{
    PapaElement e = cuda->element;
    PapaMatmulDesc d = {.batch = 1, .M = 8, .N = 16, .K = 24, .lda = 24, .ldb = 16, .ldc = 16, .alpha = 1, .bias = true, .relu = true, .a = e, .c = e};
    PapaMatmulDesc on_cpu = d;
    PapaMatmul *cpus;
    PapaReplay *replay;
    Recorded r = {.a = operand(e, 1, 0, 8, 24, 24, 0, true), .b = operand(PAPA_FLOAT32, 1, 0, 24, 16, 16, 0, true),
        .c = operand(e, 1, 0, 8, 16, 16, 0, false), .bias = operand(PAPA_FLOAT32, 1, 0, 1, 16, 16, 0, true)};
    on_cpu.a = on_cpu.c = PAPA_FLOAT32;
    must(papa_matmul_create_cpu(cpu, &cpus, &on_cpu));
    must(papa_matmul_run_cpu(cpu, cpus, host_of(r.c), host_of(r.a), host_of(r.b), host_of(r.bias), NULL));
    must(papa_matmul_create_cuda(cuda, &r.matmul, &d));
    must(papa_device_alloc(cuda, &r.workspace, papa_matmul_workspace_cuda(r.matmul), "a test"));
    must(papa_device_capture(cuda, &replay, record, &r));
    for (int i = 0; i < 2; i++)
        must(papa_replay_run(replay, cuda));
    check_same("a recorded product", r.c.array, tolerance(e));
    must(papa_device_sync(cuda));
    papa_replay_free(replay);
    papa_device_free(cuda, r.workspace);
    papa_matmul_free_cuda(r.matmul);
    papa_matmul_free_cpu(cpus);
    free_arrays();
}

int main(void)
{
    int status = cudatest_begin();
    if (status)
        return status;
    must(papa_device_open_cuda(&cuda_tf32, 0, PAPA_PRECISION_TF32));
    FOR_ELEMENTS {
        test_products();
        test_long();
        test_captured();
    }
    cuda = cuda_tf32;
    test_products();
    test_errors();
    papa_device_close(cuda_tf32);
    return cudatest_end();
}
