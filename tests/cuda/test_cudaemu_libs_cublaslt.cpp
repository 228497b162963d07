/* The emulator's cuBLASLt: products of all algorithms against plain loops in double precision, and misuse that must not pass. */
#include "test_cudaemu_libs.h"

#include <cublasLt.h>

#include <algorithm>
#include <cmath>

static cublasLtHandle_t handle;
constexpr size_t kWorkspace = 32768;

struct Spec {
    uint64_t m = 5, n = 7, k = 3;
    bool ta = false, tb = false;
    cublasComputeType_t compute = CUBLAS_COMPUTE_32F;
    bool narrow = false, narrow_result = false; /* bfloat16 factors; bfloat16 C and D */
    int32_t batches = 1;
    bool share_b = false;                       /* all batches take the same B */
    int64_t room = 0;                           /* elements behind each column, and behind each batch */
    int32_t order_a = CUBLASLT_ORDER_COL, order_d = CUBLASLT_ORDER_COL;
    uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    float alpha = 1, beta = 0;
    bool in_place = false, scalars_on_device = false;
    bool has_bias() const { return epilogue & CUBLASLT_EPILOGUE_BIAS; }
};

/* A matrix in memory. */
struct Matrix {
    uint64_t rows, columns;
    int32_t order;
    int64_t ld, stride;
    Array array;
    cublasLtMatrixLayoutOpaque_t layout;

    Matrix(const Spec &s, uint64_t n_rows, uint64_t n_columns, int32_t which, bool bf16, bool shared)
        : rows(n_rows), columns(n_columns), order(which), ld(static_cast<int64_t>(which == CUBLASLT_ORDER_COL ? n_rows : n_columns) + s.room),
          stride(shared ? 0 : ld * static_cast<int64_t>(which == CUBLASLT_ORDER_COL ? n_columns : n_rows) + s.room)
    {
        array = random_array(stride * s.batches + (shared ? ld * static_cast<int64_t>(std::max(rows, columns)) : 0), bf16);
        MUST(cublasLtMatrixLayoutInit(&layout, bf16 ? CUDA_R_16BF : CUDA_R_32F, rows, columns, ld));
        set(CUBLASLT_MATRIX_LAYOUT_ORDER, order);
        set(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, s.batches);
        set(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, stride);
    }
    ~Matrix() { array.free(); }
    template <class T> void set(cublasLtMatrixLayoutAttribute_t name, T value)
    {
        MUST(cublasLtMatrixLayoutSetAttribute(&layout, name, &value, sizeof value));
    }
    size_t at(int64_t batch, uint64_t row, uint64_t column) const
    {
        uint64_t l = static_cast<uint64_t>(ld);
        return static_cast<size_t>(batch * stride) + static_cast<size_t>(order == CUBLASLT_ORDER_COL ? row + column * l : row * l + column);
    }
};

/* A product with its memory and descriptors, ready to be asked about and run. */
struct Product {
    Spec s;
    Matrix a, b, c, d;
    Array bias, scalars;
    void *workspace = nullptr;
    cublasLtMatmulDescOpaque_t desc;
    cublasLtMatmulPreferenceOpaque_t preference;

    explicit Product(const Spec &spec)
        : s(spec), a(s, s.ta ? s.k : s.m, s.ta ? s.m : s.k, s.order_a, s.narrow, false), b(s, s.tb ? s.n : s.k, s.tb ? s.k : s.n, CUBLASLT_ORDER_COL,
          s.narrow, s.share_b), c(s, s.m, s.n, s.order_d, s.narrow_result, false), d(s, s.m, s.n, s.order_d, s.narrow_result, false)
    {
        bias = random_array(static_cast<int64_t>(s.m), s.narrow_result);
        scalars.values = {s.alpha, s.beta};
        scalars.upload();
        workspace = device_bytes(kWorkspace);
        MUST(cublasLtMatmulDescInit(&desc, s.compute, CUDA_R_32F));
        set<int32_t>(CUBLASLT_MATMUL_DESC_TRANSA, s.ta ? CUBLAS_OP_T : CUBLAS_OP_N);
        set<int32_t>(CUBLASLT_MATMUL_DESC_TRANSB, s.tb ? CUBLAS_OP_T : CUBLAS_OP_N);
        set<uint32_t>(CUBLASLT_MATMUL_DESC_EPILOGUE, s.epilogue);
        set<const void *>(CUBLASLT_MATMUL_DESC_BIAS_POINTER, s.has_bias() ? bias.device : nullptr);
        set<int32_t>(CUBLASLT_MATMUL_DESC_POINTER_MODE, s.scalars_on_device ? CUBLASLT_POINTER_MODE_DEVICE : CUBLASLT_POINTER_MODE_HOST);
        MUST(cublasLtMatmulPreferenceInit(&preference));
        prefer<uint64_t>(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspace);
    }
    ~Product()
    {
        bias.free();
        scalars.free();
        MUST(cudaFree(workspace));
    }
    template <class T> void set(cublasLtMatmulDescAttributes_t name, T value) { MUST(cublasLtMatmulDescSetAttribute(&desc, name, &value, sizeof value)); }
    template <class T> void prefer(cublasLtMatmulPreferenceAttributes_t name, T value)
    {
        MUST(cublasLtMatmulPreferenceSetAttribute(&preference, name, &value, sizeof value));
    }

    cublasStatus_t ask(std::vector<cublasLtMatmulHeuristicResult_t> *results)
    {
        results->resize(8);
        int n = 0;
        cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(handle, &desc, &a.layout, &b.layout, &c.layout, &d.layout, &preference, 8, results->data(), &n);
        results->resize(static_cast<size_t>(n));
        return status;
    }

    cublasStatus_t run(const cublasLtMatmulHeuristicResult_t &with)
    {
        const float *numbers = s.scalars_on_device ? static_cast<const float *>(scalars.device) : scalars.values.data();
        Array &old = s.in_place ? d.array : c.array;
        return cublasLtMatmul(handle, &desc, numbers, a.array.device, &a.layout, b.array.device, &b.layout, numbers + 1, old.device, &c.layout,
            d.array.device, &d.layout, &with.algo, workspace, with.workspaceSize, stream);
    }

    /* What D must be afterwards, and the magnitudes that went into it. */
    void reference(std::vector<double> *want, std::vector<double> *scale) const
    {
        const std::vector<float> &before = d.array.values, &old = s.in_place ? before : c.array.values;
        want->assign(before.begin(), before.end());
        scale->assign(before.size(), 1);
        for (int32_t batch = 0; batch < s.batches; batch++)
            for (uint64_t i = 0; i < s.m; i++)
                for (uint64_t j = 0; j < s.n; j++) {
                    double sum = 0, size = 0;
                    for (uint64_t l = 0; l < s.k; l++) {
                        double product = (double)a.array.values[s.ta ? a.at(batch, l, i) : a.at(batch, i, l)] *
                            (double)b.array.values[s.tb ? b.at(batch, j, l) : b.at(batch, l, j)];
                        sum += product;
                        size += std::fabs(product);
                    }
                    sum = (double)s.alpha * sum + (double)s.beta * (double)old[c.at(batch, i, j)];
                    if (s.has_bias())
                        sum += (double)bias.values[i];
                    size += std::fabs(sum) + 1e-6;
                    (*want)[d.at(batch, i, j)] = s.epilogue & CUBLASLT_EPILOGUE_RELU ? std::max(0., sum) : sum;
                    (*scale)[d.at(batch, i, j)] = size;
                }
    }
};

static int n_algorithms[4]; /* that had a workspace of 0, up to 4 KB, more; and the products */

static void check_product(const char *what, const Spec &s)
{
    std::vector<cublasLtMatmulHeuristicResult_t> results;
    {
        Product product(s);
        cublasStatus_t status = product.ask(&results);
        CHECK(status == CUBLAS_STATUS_SUCCESS && !results.empty(), "%s: %s, %zu algorithms", what, cublasLtGetStatusString(status), results.size());
    }
    for (const auto &result : results) {
        Product product(s); /* new numbers; the algorithm is for the shapes */
        std::vector<double> want, scale;
        product.reference(&want, &scale);
        cublasStatus_t status = product.run(result);
        CHECK(status == CUBLAS_STATUS_SUCCESS, "%s: %s", what, cublasLtGetStatusString(status));
        std::vector<float> got = product.d.array.download();
        double allowed = s.compute == CUBLAS_COMPUTE_32F_FAST_TF32 ? 0x1p-10 : s.compute == CUBLAS_COMPUTE_32F_FAST_16BF ? 0x1p-7 : 1e-6;
        double rounding = s.narrow_result ? 0x1p-8 : 1e-7, worst = 0;
        size_t where = 0;
        for (size_t i = 0; i < got.size(); i++) {
            double error = std::max(0., std::fabs((double)got[i] - want[i]) - rounding * std::fabs(want[i])) / scale[i];
            if (!(error <= worst))
                worst = error, where = i;
        }
        CHECK(worst <= allowed, "%s: element %zu is %g, expected %g (%g of %g)", what, where, (double)got[where], want[where], worst, allowed);
        n_algorithms[result.workspaceSize == 0 ? 0 : result.workspaceSize <= 4096 ? 1 : 2]++;
    }
    n_algorithms[3]++;
}

static void test_results()
{
    const uint64_t shapes[][3] = {{1, 1, 1}, {5, 7, 3}, {64, 33, 300}, {17, 1, 31}, {1, 40, 2}};
    for (auto [m, n, k] : shapes)
        for (int transposed = 0; transposed < 4; transposed++)
            for (int types = 0; types < 5; types++)
                for (int64_t room : {0, 3}) {
                    Spec s;
                    s.m = m, s.n = n, s.k = k, s.room = room;
                    s.ta = transposed & 1, s.tb = transposed & 2;
                    s.narrow = types == 1 || types == 2, s.narrow_result = types == 2;
                    s.compute = types == 3 ? CUBLAS_COMPUTE_32F_FAST_TF32 : types == 4 ? CUBLAS_COMPUTE_32F_FAST_16BF : CUBLAS_COMPUTE_32F;
                    check_product("product", s);
                }
    for (bool narrow : {false, true})
        for (uint32_t epilogue : {CUBLASLT_EPILOGUE_DEFAULT, CUBLASLT_EPILOGUE_RELU, CUBLASLT_EPILOGUE_BIAS, CUBLASLT_EPILOGUE_RELU_BIAS})
            for (int variant = 0; variant < 8; variant++) {
                Spec s;
                s.m = 19, s.n = 6, s.k = 8, s.narrow = s.narrow_result = narrow, s.epilogue = epilogue;
                s.batches = variant & 1 ? 3 : 1, s.share_b = variant & 1, s.in_place = variant & 2, s.scalars_on_device = variant & 4;
                s.alpha = 0.5f, s.beta = variant & 2 ? -1.5f : 0, s.room = variant & 1;
                check_product("epilogue", s);
            }
    for (int orders = 1; orders < 4; orders++) {
        Spec s;
        s.order_a = orders & 1, s.order_d = orders >> 1, s.beta = 2, s.batches = 2;
        check_product("rows", s);
    }
    CHECK(n_algorithms[0] && n_algorithms[1] && n_algorithms[2], "algorithms with %d, %d, %d workspaces", n_algorithms[0], n_algorithms[1], n_algorithms[2]);
}

/* TF32 rounds factors, float32 doesn't; ReLU makes 0 of NaN, as cuBLASLt's does. */
static void test_numbers()
{
    Spec s;
    s.m = s.n = s.k = 1;
    for (bool tf32 : {false, true}) {
        s.compute = tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
        s.epilogue = CUBLASLT_EPILOGUE_DEFAULT;
        Product product(s);
        product.a.array.values = {1 + 0x1p-12f};
        product.b.array.values = {1};
        product.a.array.upload();
        product.b.array.upload();
        std::vector<cublasLtMatmulHeuristicResult_t> results;
        MUST(product.ask(&results));
        MUST(product.run(results[0]));
        float got = product.d.array.download()[0];
        CHECK(got == (tf32 ? 1 : 1 + 0x1p-12f), "%.9g", (double)got);
    }
    s.epilogue = CUBLASLT_EPILOGUE_RELU;
    Product product(s);
    product.a.array.values = {NAN};
    product.a.array.upload();
    std::vector<cublasLtMatmulHeuristicResult_t> results;
    MUST(product.ask(&results));
    MUST(product.run(results[0]));
    CHECK(product.d.array.download()[0] == 0, "ReLU of NaN");
}

/* ---------------------------------------------------------------- refusals */

static void check_asked(const char *what, cublasStatus_t expected, const Spec &s, const std::function<void(Product &)> &spoil)
{
    Product product(s);
    spoil(product);
    std::vector<cublasLtMatmulHeuristicResult_t> results;
    cublasStatus_t status = product.ask(&results);
    CHECK(status == expected && results.empty(), "%s: %s, expected %s", what, cublasLtGetStatusString(status), cublasLtGetStatusString(expected));
}

static void test_refusals()
{
    Spec s, narrow, rows;
    narrow.narrow = true;
    rows.order_d = CUBLASLT_ORDER_ROW;
    const cublasStatus_t invalid = CUBLAS_STATUS_INVALID_VALUE, unsupported = CUBLAS_STATUS_NOT_SUPPORTED;
    check_asked("K differs", invalid, s, [](Product &p) { p.b.set<uint64_t>(CUBLASLT_MATRIX_LAYOUT_ROWS, 2); });
    check_asked("M differs", invalid, s, [](Product &p) { p.d.set<uint64_t>(CUBLASLT_MATRIX_LAYOUT_ROWS, 4); });
    check_asked("C isn't D's shape", invalid, s, [](Product &p) { p.c.set<uint64_t>(CUBLASLT_MATRIX_LAYOUT_COLS, 6); });
    check_asked("rows that overlap", invalid, s, [](Product &p) { p.a.set<int64_t>(CUBLASLT_MATRIX_LAYOUT_LD, 4); });
    check_asked("batches differ", invalid, s, [](Product &p) { p.b.set<int32_t>(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, 2); });
    check_asked("nothing", invalid, s, [](Product &p) { p.a.set<uint64_t>(CUBLASLT_MATRIX_LAYOUT_COLS, 0), p.b.set<uint64_t>(CUBLASLT_MATRIX_LAYOUT_ROWS, 0); });
    check_asked("float32 by bfloat16", unsupported, s, [](Product &p) { p.b.set<uint32_t>(CUBLASLT_MATRIX_LAYOUT_TYPE, CUDA_R_16BF); });
    check_asked("float32 into bfloat16", unsupported, s, [](Product &p) {
        p.c.set<uint32_t>(CUBLASLT_MATRIX_LAYOUT_TYPE, CUDA_R_16BF), p.d.set<uint32_t>(CUBLASLT_MATRIX_LAYOUT_TYPE, CUDA_R_16BF);
    });
    check_asked("TF32 of bfloat16", unsupported, narrow, [](Product &p) { p.set<int32_t>(CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, CUBLAS_COMPUTE_32F_FAST_TF32); });
    check_asked("a bfloat16 bias of float32", unsupported, s, [](Product &p) {
        p.set<uint32_t>(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS), p.set<int32_t>(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, CUDA_R_16BF);
    });
    check_asked("ReLU on rows", unsupported, rows, [](Product &p) { p.set<uint32_t>(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_RELU); });
    Product product(s);
    int32_t wrong = 0;
    CHECK(cublasLtMatmulDescSetAttribute(&product.desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &wrong, sizeof wrong) == invalid, "4 bytes for a pointer");
    std::vector<cublasLtMatmulHeuristicResult_t> results, none;
    MUST(product.ask(&results));
    results[0].workspaceSize--;
    CHECK(product.run(results[0]) == invalid, "a workspace that is said to be too short");
    product.prefer<uint64_t>(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, 0);
    MUST(product.ask(&none));
    CHECK(none.size() == 1 && none[0].workspaceSize == 0, "%zu algorithms without a workspace", none.size());
}

/* ---------------------------------------------------------------- faults */

static void check_scene(const char *what, const char *expected, const Spec &s, const std::function<void(Product &)> &before,
    const std::function<void(Product &, cublasLtMatmulHeuristicResult_t &)> &behind)
{
    check_fault(what, expected, [&] {
        Product product(s);
        std::vector<cublasLtMatmulHeuristicResult_t> results;
        before(product);
        MUST(product.ask(&results));
        behind(product, results[0]);
        product.run(results[0]);
        cudaStreamSynchronize(stream);
    });
}

static void test_faults()
{
    using Result = cublasLtMatmulHeuristicResult_t;
    Spec s, batched, biased;
    batched.batches = 2;
    biased.epilogue = CUBLASLT_EPILOGUE_BIAS;
    auto nothing = [](Product &) {};
    auto asked = [&](const char *what, const char *expected, const std::function<void(Product &)> &spoil) {
        check_scene(what, expected, s, spoil, [](Product &, Result &) {});
    };
    auto run = [&](const char *what, const char *expected, const std::function<void(Product &)> &spoil) {
        check_scene(what, expected, s, nothing, [&](Product &p, Result &) { spoil(p); });
    };
    asked("an unknown epilogue", "epilogue 32", [](Product &p) { p.set<uint32_t>(CUBLASLT_MATMUL_DESC_EPILOGUE, 32); });
    asked("an unknown attribute", "attribute 22 is not modelled",
        [](Product &p) { cublasLtMatmulDescSetAttribute(&p.desc, (cublasLtMatmulDescAttributes_t)22, &p.s, 4); });
    asked("a layout of float16", "type 2", [](Product &p) { p.a.set<uint32_t>(CUBLASLT_MATRIX_LAYOUT_TYPE, CUDA_R_16F); });
    asked("memory that is no descriptor", "is no", [](Product &p) { p.desc = {}; });
    run("another product's algorithm", "another product", [](Product &p) { p.set<int32_t>(CUBLASLT_MATMUL_DESC_POINTER_MODE, 1); });
    run("a crooked matrix", "alignment", [](Product &p) { p.a.array.device = static_cast<char *>(p.a.array.device) + 4; });
    run("D over A", "D lies over A or B", [](Product &p) { p.d.array.device = p.a.array.device; });
    run("freed memory", "use after free", [](Product &p) { MUST(cudaFree(p.b.array.device)); });
    run("host memory", "is host memory", [](Product &p) { p.b.array.device = aligned_alloc(256, 65536); });
    run("memory that is too short", "out of bounds", [](Product &p) { p.a.array.device = device_bytes(p.a.array.bytes() - 4); });
    run("memory that nobody wrote", "never written", [](Product &p) { p.a.array.device = device_bytes(p.a.array.bytes()); });
    run("a crooked workspace", "aligned to 256", [](Product &p) { p.workspace = static_cast<char *>(p.workspace) + 64; });
    run("a short workspace", "out of bounds", [](Product &p) { p.workspace = device_bytes(16); });
    run("a destroyed handle", "destroyed", [](Product &) { cublasLtDestroy(handle); });
    run("the NULL stream", "NULL", [](Product &) { stream = nullptr; });
    run("another stream, which doesn't wait", "race between operations", [](Product &p) {
        cudaStream_t other;
        cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking);
        cudaMemsetAsync(p.d.array.device, 0, 16, other);
    });
    check_scene("an algorithm of nobody's", "none that", s, nothing, [](Product &, Result &r) { r.algo = {}; });
    check_scene("batches of D over each other", "over each other", batched,
        [](Product &p) { p.d.set<int64_t>(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, 34); }, [](Product &, Result &) {});
    check_scene("C over D", "D lies over C", batched, [](Product &p) { p.scalars.values[1] = 1; },
        [](Product &p, Result &) { p.c.array.device = static_cast<char *>(p.d.array.device) + 256; });
    check_scene("a bias less aligned than the one asked about", "the bias lies", biased, nothing,
        [](Product &p, Result &) { p.set<const void *>(CUBLASLT_MATMUL_DESC_BIAS_POINTER, static_cast<char *>(p.bias.device) + 4); });
    for (float beta : {0.f, 1.f}) { /* a C that nobody wrote may not be added, and matters to nobody else */
        Spec adds;
        adds.beta = beta;
        std::string said;
        run_apart([&] {
            Product product(adds);
            std::vector<Result> results;
            MUST(product.ask(&results));
            product.c.array.device = device_bytes(product.c.array.bytes());
            product.run(results[0]);
            cudaStreamSynchronize(stream);
        }, &said);
        CHECK((said.find("never written") != std::string::npos) == (beta != 0), "beta %g: \"%s\"", (double)beta, said.c_str());
    }
    std::string output;
    cublasLtMatrixLayout_t layout;
    run_apart([&] { MUST(cublasLtMatrixLayoutCreate(&layout, CUDA_R_32F, 1, 1, 1)); }, &output);
    CHECK(output.find("cuBLASLt matrix layout") != std::string::npos, "a leaked layout: \"%s\"", output.c_str());
    check_fault("a layout destroyed twice", "destroyed twice", [] {
        cublasLtMatrixLayout_t twice;
        cublasLtMatrixLayoutCreate(&twice, CUDA_R_32F, 1, 1, 1);
        cublasLtMatrixLayoutDestroy(twice);
        cublasLtMatrixLayoutDestroy(twice);
    });
}

int main()
{
    MUST(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    MUST(cublasLtCreate(&handle));
    test_results();
    test_numbers();
    test_refusals();
    test_faults();
    MUST(cublasLtDestroy(handle));
    MUST(cudaStreamDestroy(stream));
    return check_result();
}
