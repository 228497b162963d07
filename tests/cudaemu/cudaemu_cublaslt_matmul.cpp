/* cuBLASLt's stand-in: which products there are, algorithms for them, and the products. */
#include "cudaemu_cublaslt.h"
#include "cudaemu_libmath.h"

#include <algorithm>
#include <initializer_list>
#include <string>
#include <vector>

namespace cudaemu::blas {

uint64_t Product::key() const
{
    uint64_t h = 14695981039346656037u;
    auto mix = [&h](uint64_t x) { h = (h ^ x) * 1099511628211u, h ^= h >> 29; };
    for (int64_t x : {(int64_t)desc.compute, (int64_t)desc.scale, (int64_t)desc.pointer_mode, (int64_t)desc.transpose_a, (int64_t)desc.transpose_b,
             (int64_t)desc.epilogue, (int64_t)bias_type(), desc.bias_stride})
        mix(static_cast<uint64_t>(x));
    for (const Layout *l : {&a, &b, &c, &d})
        for (uint64_t x : {(uint64_t)l->type, (uint64_t)l->order, (uint64_t)l->batches, l->rows, l->columns, (uint64_t)l->ld, (uint64_t)l->stride})
            mix(x);
    return h;
}

namespace {

/* NVIDIA's table for regular matrices, as far as it is modelled: products of B's type, summed in float32, give C's type. */
bool types_exist(const Product &p)
{
    static const struct {
        int32_t compute;
        uint32_t factors, result;
    } rows[] = {
        {CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_32F}, {CUBLAS_COMPUTE_32F, CUDA_R_16BF, CUDA_R_32F}, {CUBLAS_COMPUTE_32F, CUDA_R_16BF, CUDA_R_16BF},
        {CUBLAS_COMPUTE_32F_PEDANTIC, CUDA_R_32F, CUDA_R_32F}, {CUBLAS_COMPUTE_32F_PEDANTIC, CUDA_R_16BF, CUDA_R_32F},
        {CUBLAS_COMPUTE_32F_PEDANTIC, CUDA_R_16BF, CUDA_R_16BF}, {CUBLAS_COMPUTE_32F_FAST_TF32, CUDA_R_32F, CUDA_R_32F},
        {CUBLAS_COMPUTE_32F_FAST_16BF, CUDA_R_32F, CUDA_R_32F},
    };
    for (const auto &row : rows)
        if (p.desc.compute == row.compute && p.a.type == row.factors && p.b.type == row.factors && p.c.type == row.result && p.d.type == row.result)
            return p.desc.scale == CUDA_R_32F && (!p.has_bias() || p.bias_type() == row.result);
    return false;
}

bool is_known_layout(const Layout &l)
{
    return (l.type == CUDA_R_32F || l.type == CUDA_R_16BF) && (l.order == CUBLASLT_ORDER_COL || l.order == CUBLASLT_ORDER_ROW);
}

bool is_sound_layout(const Layout &l)
{
    return l.rows && l.columns && l.batches >= 1 && l.stride >= 0 && l.ld >= static_cast<int64_t>(l.order == CUBLASLT_ORDER_COL ? l.rows : l.columns);
}

bool shapes_fit(const Product &p)
{
    uint64_t b_rows = p.desc.transpose_b ? p.b.columns : p.b.rows, b_columns = p.desc.transpose_b ? p.b.rows : p.b.columns;
    uint64_t a_rows = p.desc.transpose_a ? p.a.columns : p.a.rows;
    return a_rows == p.m() && b_rows == p.k() && b_columns == p.n() && p.c.rows == p.d.rows && p.c.columns == p.d.columns &&
        p.a.batches == p.d.batches && p.b.batches == p.d.batches && p.c.batches == p.d.batches;
}

} // namespace

cublasStatus_t check(const Product &p)
{
    const Desc &d = p.desc;
    for (int32_t t : {d.transpose_a, d.transpose_b, d.transpose_c})
        if (t < CUBLAS_OP_N || t > CUBLAS_OP_C)
            return CUBLAS_STATUS_INVALID_VALUE;
    if (d.pointer_mode != CUBLASLT_POINTER_MODE_HOST && d.pointer_mode != CUBLASLT_POINTER_MODE_DEVICE)
        fault("cuBLASLt: pointer mode %d is not modelled", d.pointer_mode);
    if (d.epilogue != CUBLASLT_EPILOGUE_DEFAULT && d.epilogue != CUBLASLT_EPILOGUE_RELU && d.epilogue != CUBLASLT_EPILOGUE_BIAS &&
        d.epilogue != CUBLASLT_EPILOGUE_RELU_BIAS)
        fault("cuBLASLt: epilogue %u is not modelled", d.epilogue);
    for (const Layout *l : {&p.a, &p.b, &p.c, &p.d}) {
        if (!is_known_layout(*l))
            fault("cuBLASLt: a matrix of type %u and order %d is not modelled", l->type, l->order);
        if (!is_sound_layout(*l))
            return CUBLAS_STATUS_INVALID_VALUE;
    }
    if (!shapes_fit(p))
        return CUBLAS_STATUS_INVALID_VALUE;
    bool plain = d.epilogue == CUBLASLT_EPILOGUE_DEFAULT || p.d.order == CUBLASLT_ORDER_COL; /* no bias or ReLU on rows */
    return types_exist(p) && plain && d.transpose_c == CUBLAS_OP_N && p.c.order == p.d.order ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

namespace {

/* ---------------------------------------------------------------- algorithms */

/* Up to 16 bytes, which is what a GPU loads at once. */
uint32_t alignment_of(const void *p)
{
    auto address = reinterpret_cast<uintptr_t>(p) | 16;
    return static_cast<uint32_t>(address & -address);
}

/* Best first, as far as the preference lets them: one that splits the sums and wants much memory, one that wants a little, one that wants none. */
std::vector<Algo> algorithms(const Product &product, const Preference &preference)
{
    constexpr uint64_t kMost = 1 << 20;
    uint64_t split = std::min(kMost, product.m() * product.n() * 8);
    std::vector<Algo> all;
    auto add = [&](uint32_t id, uint64_t workspace) {
        Algo algo = {kAlgoMark, id, workspace, product.key(), {}, alignment_of(product.desc.bias)};
        std::copy(std::begin(preference.alignment), std::end(preference.alignment), std::begin(algo.alignment));
        if (workspace <= preference.workspace)
            all.push_back(algo);
    };
    if (product.k() > 1 && (preference.schemes & CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE))
        add(21, split);
    add(6, 2576);
    add(0, 0);
    return all;
}

/* ---------------------------------------------------------------- products */

struct Call {
    Product product;
    const unsigned char *A, *B, *C;
    unsigned char *D;
    const float *alpha, *beta; /* device memory, or NULL: */
    float alpha_value, beta_value;
    void *workspace;
    uint64_t workspace_bytes;
};

/* The bytes that a batch's matrix spans, and where its columns (rows) lie. */
struct Lines {
    std::size_t n, bytes, step;
};

Lines lines_of(const Layout &l)
{
    bool columns = l.order == CUBLASLT_ORDER_COL;
    return {columns ? l.columns : l.rows, (columns ? l.rows : l.columns) * element(l.type), static_cast<std::size_t>(l.ld) * element(l.type)};
}

std::size_t span(const Layout &l)
{
    Lines lines = lines_of(l);
    return (lines.n - 1) * lines.step + lines.bytes;
}

std::size_t reach(const Layout &l)
{
    return static_cast<std::size_t>((l.batches - 1) * l.stride) * element(l.type) + span(l);
}

void touch(std::vector<Access> *out, const Layout &l, const unsigned char *p, bool writes)
{
    Lines lines = lines_of(l);
    for (int32_t batch = 0; batch < (l.stride ? l.batches : 1); batch++) {
        const unsigned char *first = p + static_cast<std::size_t>(batch * l.stride) * element(l.type);
        if (lines.step == lines.bytes || lines.n == 1) {
            out->push_back({first, span(l), writes});
            continue;
        }
        for (std::size_t i = 0; i < lines.n; i++)
            out->push_back({first + i * lines.step, lines.bytes, writes});
    }
}

std::vector<Access> accesses(const Call &call)
{
    const Product &p = call.product;
    std::vector<Access> all;
    touch(&all, p.a, call.A, false);
    touch(&all, p.b, call.B, false);
    if (call.beta || call.beta_value != 0)
        touch(&all, p.c, call.C, false);
    touch(&all, p.d, call.D, true);
    if (p.has_bias()) {
        int64_t last = (p.d.batches - 1) * p.desc.bias_stride;
        for (int64_t at = 0; at <= last; at += p.desc.bias_stride ? p.desc.bias_stride : 1)
            all.push_back({static_cast<const unsigned char *>(p.desc.bias) + static_cast<std::size_t>(at) * element(p.bias_type()),
                p.d.rows * element(p.bias_type()), false});
    }
    if (call.alpha)
        all.insert(all.end(), {{call.alpha, sizeof(float), false}, {call.beta, sizeof(float), false}});
    if (call.workspace_bytes)
        all.push_back({call.workspace, call.workspace_bytes, true});
    return all;
}

float load(const unsigned char *p, uint32_t type, std::size_t i)
{
    float x;
    if (type == CUDA_R_16BF)
        return load_bfloat16(p + 2 * i);
    std::memcpy(&x, p + 4 * i, sizeof x);
    return x;
}

void store(unsigned char *p, uint32_t type, std::size_t i, float x)
{
    if (type == CUDA_R_16BF)
        store_bfloat16(p + 2 * i, x);
    else
        std::memcpy(p + 4 * i, &x, sizeof x);
}

/* Element (row, column) of a batch, counted from its first. */
std::size_t place(const Layout &l, uint64_t row, uint64_t column)
{
    auto ld = static_cast<uint64_t>(l.ld);
    return l.order == CUBLASLT_ORDER_COL ? row + column * ld : row * ld + column;
}

/* A factor as it stands in the product, dense, its numbers as the compute type takes them. */
std::vector<float> factor(const Product &p, const Layout &l, const unsigned char *from, bool transpose)
{
    uint64_t rows = transpose ? l.columns : l.rows, columns = transpose ? l.rows : l.columns;
    std::vector<float> values(rows * columns);
    for (uint64_t i = 0; i < rows; i++)
        for (uint64_t j = 0; j < columns; j++)
            values[i * columns + j] = load(from, l.type, transpose ? place(l, j, i) : place(l, i, j));
    int kept = p.desc.compute == CUBLAS_COMPUTE_32F_FAST_TF32 ? kTf32Bits : p.desc.compute == CUBLAS_COMPUTE_32F_FAST_16BF ? kBfloat16Bits : 23;
    for (float &value : values)
        value = kept < 23 ? rounded(value, kept) : value;
    return values;
}

void run_batch(const Call &call, int64_t batch, float alpha, float beta)
{
    const Product &p = call.product;
    auto at = [batch](const unsigned char *first, const Layout &l) { return first + static_cast<std::size_t>(batch * l.stride) * element(l.type); };
    auto m = static_cast<std::ptrdiff_t>(p.m()), n = static_cast<std::ptrdiff_t>(p.n()), k = static_cast<std::ptrdiff_t>(p.k());
    std::vector<float> a = factor(p, p.a, at(call.A, p.a), p.desc.transpose_a), b = factor(p, p.b, at(call.B, p.b), p.desc.transpose_b);
    std::vector<float> sums(static_cast<std::size_t>(m * n));
    multiply(sums.data(), n, {a.data(), k, 1}, {b.data(), n, 1}, m, n, k);
    auto bias = static_cast<const unsigned char *>(p.desc.bias);
    auto to = call.D + static_cast<std::size_t>(batch * p.d.stride) * element(p.d.type);
    for (uint64_t i = 0; i < p.m(); i++)
        for (uint64_t j = 0; j < p.n(); j++) {
            float x = alpha * sums[i * p.n() + j];
            if (beta != 0)
                x += beta * load(at(call.C, p.c), p.c.type, place(p.c, i, j));
            if (p.has_bias())
                x += load(bias, p.bias_type(), static_cast<std::size_t>(batch * p.desc.bias_stride) + i);
            if (p.desc.epilogue & CUBLASLT_EPILOGUE_RELU)
                x = x > 0 ? x : 0; /* cuBLASLt's makes 0 of NaN */
            store(to, p.d.type, place(p.d, i, j), x);
        }
}

void run(const Call &call)
{
    float alpha = call.alpha ? *call.alpha : call.alpha_value, beta = call.beta ? *call.beta : call.beta_value;
    if (call.workspace_bytes)
        std::memset(call.workspace, 0xff, call.workspace_bytes); /* NaN, whatever it is taken for */
    for (int64_t batch = 0; batch < call.product.d.batches; batch++)
        run_batch(call, batch, alpha, beta);
    if (call.workspace_bytes)
        std::memset(call.workspace, 0xff, call.workspace_bytes);
}

/* ---------------------------------------------------------------- what calls must keep to */

bool overlap(const Layout &a, const unsigned char *p, const Layout &b, const unsigned char *q)
{
    auto first = reinterpret_cast<uintptr_t>(p), second = reinterpret_cast<uintptr_t>(q);
    return first < second + reach(b) && second < first + reach(a);
}

bool same_layout(const Layout &a, const Layout &b)
{
    return a.type == b.type && a.order == b.order && a.batches == b.batches && a.rows == b.rows && a.columns == b.columns && a.ld == b.ld &&
        a.stride == b.stride;
}

void check_pointers(const Call &call, const Algo &algo, bool reads_c)
{
    const Product &p = call.product;
    const unsigned char *const pointers[] = {call.A, call.B, call.C, call.D};
    for (int i = 0; i < 4; i++)
        if ((i != 2 || reads_c) && reinterpret_cast<uintptr_t>(pointers[i]) % std::max(algo.alignment[i], 1u))
            fault("cublasLtMatmul: %c lies at %p, the algorithm was chosen for %u bytes' alignment", "ABCD"[i],
                static_cast<const void *>(pointers[i]), algo.alignment[i]);
    if (p.has_bias() && alignment_of(p.desc.bias) < algo.bias_alignment)
        fault("cublasLtMatmul: the bias lies at %p, the algorithm was chosen with one aligned to %u bytes", p.desc.bias, algo.bias_alignment);
    if (p.d.batches > 1 && static_cast<std::size_t>(p.d.stride) * element(p.d.type) < span(p.d))
        fault("cublasLtMatmul: D's batches lie over each other, %lld elements apart", (long long)p.d.stride);
    if (overlap(p.a, call.A, p.d, call.D) || overlap(p.b, call.B, p.d, call.D))
        fault("cublasLtMatmul: D lies over A or B");
    if (reads_c && call.C == call.D ? !same_layout(p.c, p.d) : reads_c && overlap(p.c, call.C, p.d, call.D))
        fault("cublasLtMatmul: D lies over C, and isn't C");
}

void check_algo(const Algo &algo, const Product &product)
{
    if (algo.mark != kAlgoMark)
        fault("cublasLtMatmul: the algorithm is none that cublasLtMatmulAlgoGetHeuristic gave");
    if (algo.product != product.key())
        fault("cublasLtMatmul: the algorithm was chosen for another product");
}

Product product_of(cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d)
{
    return {read_desc(desc), read_layout(a), read_layout(b), read_layout(c), read_layout(d)};
}

} // namespace
} // namespace cudaemu::blas

using namespace cudaemu;
using namespace cudaemu::blas;

extern "C" {

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
    cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t preference, int n_wanted, cublasLtMatmulHeuristicResult_t results[],
    int *n)
{
    device_of_handle(handle);
    if (n_wanted < 1 || !results || !n)
        return CUBLAS_STATUS_INVALID_VALUE;
    *n = 0;
    Product product = product_of(desc, a, b, c, d);
    cublasStatus_t status = check(product);
    if (status != CUBLAS_STATUS_SUCCESS)
        return status;
    Preference wanted = read_preference(preference);
    if (wanted.search_mode)
        fault("cuBLASLt: search mode %u is not modelled", wanted.search_mode);
    for (const Algo &algo : algorithms(product, wanted)) {
        if (*n == n_wanted)
            break;
        cublasLtMatmulHeuristicResult_t &result = results[(*n)++];
        result = {};
        std::memcpy(&result.algo, &algo, sizeof algo);
        result.workspaceSize = algo.workspace;
        result.wavesCount = 1;
    }
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha, const void *A, cublasLtMatrixLayout_t a, const void *B,
    cublasLtMatrixLayout_t b, const void *beta, const void *C, cublasLtMatrixLayout_t c, void *D, cublasLtMatrixLayout_t d,
    const cublasLtMatmulAlgo_t *algo, void *workspace, size_t workspace_bytes, cudaStream_t stream)
{
    int device = device_of_handle(handle);
    if (!algo)
        fault("cublasLtMatmul: calls without an algorithm are not modelled");
    if (device != current_device() || device != device_of(stream))
        fault("cublasLtMatmul: the handle is for GPU %d, the stream on GPU %d, current is GPU %d", device, device_of(stream), current_device());
    Product product = product_of(desc, a, b, c, d);
    cublasStatus_t status = check(product);
    if (status != CUBLAS_STATUS_SUCCESS)
        return status;
    Algo chosen;
    std::memcpy(&chosen, algo, sizeof chosen);
    check_algo(chosen, product);
    if (!alpha || !beta || !A || !B || !D || (product.has_bias() && !product.desc.bias) || workspace_bytes < chosen.workspace)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (chosen.workspace && (!workspace || reinterpret_cast<uintptr_t>(workspace) % 256))
        fault("cublasLtMatmul: the workspace of %llu bytes lies at %p, expected an address aligned to 256 bytes", (unsigned long long)chosen.workspace,
            workspace);
    bool on_device = product.desc.pointer_mode == CUBLASLT_POINTER_MODE_DEVICE;
    Call call = {product, static_cast<const unsigned char *>(A), static_cast<const unsigned char *>(B), static_cast<const unsigned char *>(C),
        static_cast<unsigned char *>(D), on_device ? static_cast<const float *>(alpha) : nullptr, on_device ? static_cast<const float *>(beta) : nullptr,
        on_device ? 0 : *static_cast<const float *>(alpha), on_device ? 0 : *static_cast<const float *>(beta), workspace, chosen.workspace};
    bool reads_c = on_device || call.beta_value != 0;
    if (reads_c && !C)
        return CUBLAS_STATUS_INVALID_VALUE;
    check_pointers(call, chosen, reads_c);
    enqueue(stream, ("cuBLASLt algorithm " + std::to_string(chosen.id)).c_str(), accesses(call), [call] { run(call); });
    return CUBLAS_STATUS_SUCCESS;
}

} // extern "C"
