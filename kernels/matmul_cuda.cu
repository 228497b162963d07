/* Matrix products on CUDA, by cuBLASLt. It knows columns only: our row-major C = A B is its C^T = B^T A^T, with the same bytes.
 *
 * bfloat16 products take two bfloat16 operands: a float32 one (a parameter) is rounded into the workspace first. Sums are float32 always. The
 * algorithm is chosen when the product is made, once for pointers aligned to 16 bytes, with bias and ReLU in the product, and once for others,
 * with those behind it; which one runs depends on the pointers alone. A described device has no cuBLASLt to ask: its calls are only written down.
 *
 * The workspace: A and B in bfloat16, the bias in bfloat16, cuBLASLt's own; each part that a product doesn't have is empty. */
#include "kernels/cuda.cuh"
#include "kernels/epilogue.cuh"

extern "C" {
#include "kernels/matmul.h"
}

#include <cassert>
#include <cstdio>
#include <cstdlib>

namespace papa {
namespace {

constexpr size_t kWorkspace = (size_t)32 << 20; /* bytes that cuBLASLt may use; a described device's products count as using them */
constexpr uint32_t kAligned = 16;               /* bytes */

/* The least alignment, in bytes, of pointers that an algorithm is chosen for. */
enum Variant { ALIGNED, ANY, N_VARIANTS };

/* An operand as cuBLASLt sees it. */
struct Operand {
    cudaDataType type;
    int64_t ld, stride; /* elements */
};

} // namespace
} // namespace papa

struct PapaMatmul {
    PapaMatmulDesc desc;
    bool empty, no_product;         /* no element of C; K = 0 */
    bool narrow_a, narrow_b;        /* float32 operands that are to be bfloat16 */
    papa::Operand a, b, c;
    cublasComputeType_t compute;
    cublasLtMatmulAlgo_t algos[papa::N_VARIANTS];
    size_t library_bytes, a_bytes, b_bytes, bias_bytes; /* of workspace */
    double flops;
    char text[160];
};

namespace papa {
namespace {

size_t part(size_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

cudaDataType type_of(PapaElement element)
{
    return element == PAPA_BFLOAT16 ? CUDA_R_16BF : CUDA_R_32F;
}

/* The matrices of an operand that are stored: one, where all products use the same. */
int64_t n_stored(const PapaMatmulDesc *d, int64_t stride)
{
    return d->batch > 1 && stride ? d->batch : 1;
}

/* ---------------------------------------------------------------- descriptions for cuBLASLt */

/* Everything that one call or question needs; lives on the stack. */
struct Call {
    cublasLtMatmulDescOpaque_t product;
    cublasLtMatrixLayoutOpaque_t a, b, c;
};

PapaStatus blas(cublasStatus_t status)
{
    return papa_cublas_check(status, "cuBLASLt");
}

template <class V> PapaStatus set(cublasLtMatmulDescOpaque_t *product, cublasLtMatmulDescAttributes_t name, V value)
{
    return blas(cublasLtMatmulDescSetAttribute(product, name, &value, sizeof value));
}

/* rows, columns: as the library sees them. */
PapaStatus describe_matrix(cublasLtMatrixLayoutOpaque_t *out, const Operand *operand, int64_t rows, int64_t columns, int64_t batch)
{
    int32_t count = (int32_t)batch;
    PAPA_TRY(blas(cublasLtMatrixLayoutInit(out, operand->type, (uint64_t)rows, (uint64_t)columns, operand->ld)));
    if (batch <= 1)
        return PAPA_OK;
    PAPA_TRY(blas(cublasLtMatrixLayoutSetAttribute(out, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count)));
    return blas(cublasLtMatrixLayoutSetAttribute(out, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &operand->stride, sizeof operand->stride));
}

/* bias: of C's element; NULL: none, and no ReLU, in the product. */
PapaStatus describe_call(Call *call, const PapaMatmul *m, bool epilogue, const void *bias)
{
    const PapaMatmulDesc *d = &m->desc;
    PAPA_TRY(blas(cublasLtMatmulDescInit(&call->product, m->compute, CUDA_R_32F)));
    PAPA_TRY(set<int32_t>(&call->product, CUBLASLT_MATMUL_DESC_TRANSA, d->transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N));
    PAPA_TRY(set<int32_t>(&call->product, CUBLASLT_MATMUL_DESC_TRANSB, d->transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N));
    if (epilogue && (d->bias || d->relu)) {
        uint32_t kind = d->bias ? d->relu ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_RELU;
        PAPA_TRY(set<uint32_t>(&call->product, CUBLASLT_MATMUL_DESC_EPILOGUE, kind));
    }
    if (epilogue && d->bias) {
        PAPA_TRY(set<int32_t>(&call->product, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, m->c.type));
        PAPA_TRY(set<const void *>(&call->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias));
    }
    PAPA_TRY(describe_matrix(&call->a, &m->b, d->transpose_b ? d->K : d->N, d->transpose_b ? d->N : d->K, d->batch));
    PAPA_TRY(describe_matrix(&call->b, &m->a, d->transpose_a ? d->M : d->K, d->transpose_a ? d->K : d->M, d->batch));
    return describe_matrix(&call->c, &m->c, d->N, d->M, d->batch);
}

/* ---------------------------------------------------------------- the choice of algorithms */

template <class V> PapaStatus prefer(cublasLtMatmulPreferenceOpaque_t *preference, cublasLtMatmulPreferenceAttributes_t name, V value)
{
    return blas(cublasLtMatmulPreferenceSetAttribute(preference, name, &value, sizeof value));
}

PapaStatus describe_wishes(cublasLtMatmulPreferenceOpaque_t *out, const PapaMatmul *m, Variant variant)
{
    static const cublasLtMatmulPreferenceAttributes_t matrices[] = {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    const Operand *const operands[] = {&m->b, &m->a, &m->c, &m->c};
    PAPA_TRY(blas(cublasLtMatmulPreferenceInit(out)));
    PAPA_TRY(prefer<uint64_t>(out, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspace));
    /* Partial sums stay float32, also where C is bfloat16. */
    PAPA_TRY(prefer<uint32_t>(out, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    for (int i = 0; i < 4; i++) {
        uint32_t element = operands[i]->type == CUDA_R_32F ? 4 : 2;
        bool each = operands[i]->stride * element % kAligned == 0; /* all matrices of a batch are aligned like the first */
        PAPA_TRY(prefer<uint32_t>(out, matrices[i], variant == ALIGNED && each ? kAligned : element));
    }
    return PAPA_OK;
}

PapaStatus choose(PapaDevice *dev, PapaMatmul *m, Variant variant)
{
    Call call;
    cublasLtMatmulPreferenceOpaque_t wishes;
    cublasLtMatmulHeuristicResult_t found;
    int n = 0;
    /* The question is about pointers in general, but a bias must be one. */
    PAPA_TRY(describe_call(&call, m, variant == ALIGNED, papa_cuda(dev)->scratch));
    PAPA_TRY(describe_wishes(&wishes, m, variant));
    cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(papa_cuda(dev)->blas, &call.product, &call.a, &call.b, &call.c, &call.c, &wishes, 1, &found, &n);
    if (status == CUBLAS_STATUS_NOT_SUPPORTED || (status == CUBLAS_STATUS_SUCCESS && (n < 1 || found.state != CUBLAS_STATUS_SUCCESS)))
        return papa_fail(PAPA_ERR_UNSUPPORTED, "cuBLASLt %zu has no algorithm on %s (sm_%d) for %s", cublasLtGetVersion(), papa_cuda(dev)->gpu.name,
            papa_cuda(dev)->gpu.capability, m->text);
    PAPA_TRY(blas(status));
    m->algos[variant] = found.algo;
    m->library_bytes = found.workspaceSize > m->library_bytes ? found.workspaceSize : m->library_bytes;
    return PAPA_OK;
}

PapaStatus choose_all(PapaDevice *dev, PapaMatmul *m)
{
    if (papa_cuda(dev)->gpu.capability < 80 && m->a.type == CUDA_R_16BF)
        return papa_fail(PAPA_ERR_UNSUPPORTED, "cuBLASLt multiplies bfloat16 from compute capability 8.0 on; %s has %d.%d", papa_cuda(dev)->gpu.name,
            papa_cuda(dev)->gpu.capability / 10, papa_cuda(dev)->gpu.capability % 10);
    if (!papa_cuda(dev)->blas) {
        m->library_bytes = kWorkspace;
        return PAPA_OK;
    }
    PAPA_TRY(papa_device_enter(dev));
    PAPA_TRY(choose(dev, m, ALIGNED));
    return choose(dev, m, ANY);
}

/* ---------------------------------------------------------------- the plan */

/* An operand's columns, in memory, and rows. */
int64_t columns_a(const PapaMatmulDesc *d) { return d->transpose_a ? d->M : d->K; }
int64_t rows_a(const PapaMatmulDesc *d) { return d->transpose_a ? d->K : d->M; }
int64_t columns_b(const PapaMatmulDesc *d) { return d->transpose_b ? d->K : d->N; }
int64_t rows_b(const PapaMatmulDesc *d) { return d->transpose_b ? d->N : d->K; }

/* As it stands, or, where it is rounded first, dense in the workspace. */
Operand operand(const PapaMatmulDesc *d, PapaElement element, int64_t ld, int64_t stride, bool narrow, int64_t rows, int64_t columns)
{
    int64_t matrices = n_stored(d, stride);
    if (narrow)
        return Operand{CUDA_R_16BF, columns, matrices > 1 ? rows * columns : 0};
    return Operand{type_of(element), ld, d->batch > 1 ? stride : 0};
}

void describe_operands(PapaMatmul *m, PapaDevice *dev)
{
    const PapaMatmulDesc *d = &m->desc;
    bool bfloat = d->a == PAPA_BFLOAT16 || d->b == PAPA_BFLOAT16;
    m->narrow_a = bfloat && d->a == PAPA_FLOAT32;
    m->narrow_b = bfloat && d->b == PAPA_FLOAT32;
    m->a = operand(d, d->a, d->lda, d->stride_a, m->narrow_a, rows_a(d), columns_a(d));
    m->b = operand(d, d->b, d->ldb, d->stride_b, m->narrow_b, rows_b(d), columns_b(d));
    m->c = Operand{type_of(d->c), d->ldc, d->batch > 1 ? d->stride_c : 0};
    bool tf32 = !bfloat && dev->precision == PAPA_PRECISION_TF32 && papa_cuda(dev)->gpu.capability >= 80;
    m->compute = tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    if (m->narrow_a)
        m->a_bytes = part((size_t)(n_stored(d, d->stride_a) * rows_a(d) * columns_a(d)) * sizeof(__nv_bfloat16));
    if (m->narrow_b)
        m->b_bytes = part((size_t)(n_stored(d, d->stride_b) * rows_b(d) * columns_b(d)) * sizeof(__nv_bfloat16));
    if (d->bias && d->c == PAPA_BFLOAT16)
        m->bias_bytes = part((size_t)d->N * sizeof(__nv_bfloat16));
}

} // namespace
} // namespace papa

using namespace papa;

PapaStatus papa_matmul_create_cuda(PapaDevice *dev, PapaMatmul **out, const PapaMatmulDesc *desc)
{
    *out = nullptr;
    PAPA_TRY(papa_matmul_check(desc));
    if (desc->batch > INT32_MAX)
        return papa_fail(PAPA_ERR_UNSUPPORTED, "matrix product: a batch of %lld, cuBLASLt takes %d", (long long)desc->batch, INT32_MAX);
    PapaMatmul *m = static_cast<PapaMatmul *>(calloc(1, sizeof *m));
    if (!m)
        return papa_fail_memory(sizeof *m, "a matrix product's plan");
    m->desc = *desc;
    m->empty = !desc->batch || !desc->M || !desc->N;
    m->no_product = !desc->K;
    m->flops = 2. * (double)desc->batch * (double)desc->M * (double)desc->N * (double)desc->K;
    snprintf(m->text, sizeof m->text, "cuBLASLt %lldx%lldx%lld, batch %lld, %s%s in %s%s%s", (long long)desc->M, (long long)desc->N, (long long)desc->K,
        (long long)desc->batch, desc->transpose_a ? "T" : "N", desc->transpose_b ? "T" : "N",
        desc->a == PAPA_BFLOAT16 || desc->b == PAPA_BFLOAT16 ? "bf16" : dev->precision == PAPA_PRECISION_TF32 ? "tf32" : "fp32",
        desc->bias ? ", bias" : "", desc->relu ? ", relu" : "");
    PapaStatus status = PAPA_OK;
    if (!m->empty && !m->no_product) {
        describe_operands(m, dev);
        status = choose_all(dev, m);
    }
    if (status != PAPA_OK) {
        free(m);
        return status;
    }
    *out = m;
    return PAPA_OK;
}

void papa_matmul_free_cuda(PapaMatmul *matmul)
{
    free(matmul);
}

size_t papa_matmul_workspace_cuda(const PapaMatmul *matmul)
{
    return matmul->a_bytes + matmul->b_bytes + matmul->bias_bytes + matmul->library_bytes;
}

namespace papa {
namespace {

/* *x: the operand, rounded into `to` if it has to be. */
PapaStatus bring_in(PapaDevice *dev, const void **x, bool narrow, void *to, const PapaMatmulDesc *d, int64_t rows, int64_t columns, int64_t ld,
    int64_t stride)
{
    if (!narrow)
        return PAPA_OK;
    const float *from = static_cast<const float *>(*x);
    __nv_bfloat16 *narrowed = static_cast<__nv_bfloat16 *>(to);
    int64_t matrices = n_stored(d, stride), n = matrices * rows * columns;
    *x = to;
    if (ld == columns && (matrices == 1 || stride == rows * columns))
        return convert(dev, narrowed, from, n);
    PAPA_LAUNCH(dev, (convert_rows<__nv_bfloat16, float>), blocks_for(dev, n), kThreads, 0, narrowed, from, n, rows, columns, ld, stride);
    return PAPA_OK;
}

/* C = beta * C + bias, or max(0, that). */
PapaStatus finish_c(PapaDevice *dev, const PapaMatmul *m, void *c, const float *bias, float beta)
{
    const PapaMatmulDesc *d = &m->desc;
    bool one = d->batch > 1 && d->stride_c == d->M * d->ldc; /* all their rows are one matrix's */
    for (int64_t i = 0; i < (one ? 1 : d->batch); i++) {
        int64_t rows = one ? d->batch * d->M : d->M, at = d->batch > 1 ? i * d->stride_c : 0;
        if (d->c == PAPA_BFLOAT16)
            PAPA_TRY(finish(dev, static_cast<__nv_bfloat16 *>(c) + at, bias, rows, d->N, d->ldc, beta, d->relu));
        else
            PAPA_TRY(finish(dev, static_cast<float *>(c) + at, bias, rows, d->N, d->ldc, beta, d->relu));
    }
    return PAPA_OK;
}

bool is_aligned(const void *pointer)
{
    return reinterpret_cast<uintptr_t>(pointer) % kAligned == 0;
}

PapaStatus multiply(PapaDevice *dev, const PapaMatmul *m, void *c, const void *a, const void *b, const void *bias, Variant variant, void *workspace)
{
    if (!papa_cuda_calls(dev, m->text, m->flops))
        return PAPA_OK;
    PapaCuda *cuda = papa_cuda(dev);
    Call call;
    PAPA_TRY(describe_call(&call, m, variant == ALIGNED, bias));
    cublasStatus_t status = cublasLtMatmul(cuda->blas, &call.product, &m->desc.alpha, b, &call.a, a, &call.b, &m->desc.beta, c, &call.c, c, &call.c,
        &m->algos[variant], workspace, m->library_bytes, cuda->stream);
    return papa_cublas_check(status, m->text);
}

} // namespace
} // namespace papa

PapaStatus papa_matmul_run_cuda(PapaDevice *dev, const PapaMatmul *matmul, void *c, const void *a, const void *b, const float *bias, void *workspace)
{
    const PapaMatmulDesc *d = &matmul->desc;
    assert(!bias == !d->bias);
    if (matmul->empty)
        return PAPA_OK;
    if (matmul->no_product)
        return finish_c(dev, matmul, c, bias, d->beta);
    char *for_a = static_cast<char *>(workspace), *for_b = for_a + matmul->a_bytes, *for_bias = for_b + matmul->b_bytes;
    char *theirs = for_bias + matmul->bias_bytes;
    PAPA_TRY(bring_in(dev, &a, matmul->narrow_a, for_a, d, rows_a(d), columns_a(d), d->lda, d->stride_a));
    PAPA_TRY(bring_in(dev, &b, matmul->narrow_b, for_b, d, rows_b(d), columns_b(d), d->ldb, d->stride_b));
    bool aligned_all = is_aligned(a) && is_aligned(b) && is_aligned(c) && is_aligned(bias);
    if (!aligned_all) {
        PAPA_TRY(multiply(dev, matmul, c, a, b, nullptr, ANY, theirs));
        return d->bias || d->relu ? finish_c(dev, matmul, c, bias, 1) : PAPA_OK;
    }
    const void *their_bias = bias;
    if (matmul->bias_bytes) {
        their_bias = for_bias;
        PAPA_TRY(convert(dev, reinterpret_cast<__nv_bfloat16 *>(for_bias), bias, d->N));
    }
    return multiply(dev, matmul, c, a, b, their_bias, ALIGNED, theirs);
}
