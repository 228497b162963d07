/* cuBLASLt's stand-in: handles and descriptors. */
#include "cudaemu_cublaslt.h"

#include <cstring>
#include <map>
#include <new>

struct cublasLtContext {
    int device;
};

namespace cudaemu::blas {
namespace {

const char *const kHandle = "cuBLASLt handle", *const kLayout = "cuBLASLt matrix layout", *const kDesc = "cuBLASLt product descriptor",
                 *const kPreference = "cuBLASLt preference";

static_assert(sizeof(Layout) <= sizeof(cublasLtMatrixLayoutOpaque_t) && sizeof(Desc) <= sizeof(cublasLtMatmulDescOpaque_t) &&
    sizeof(Preference) <= sizeof(cublasLtMatmulPreferenceOpaque_t) && sizeof(Algo) <= sizeof(cublasLtMatmulAlgo_t));

template <class T> T *open(void *p, uint32_t mark, const char *kind)
{
    if (!p || static_cast<T *>(p)->mark != mark)
        fault("%p is no %s, or one that was destroyed", p, kind);
    return static_cast<T *>(p);
}

/* Creates in memory of the caller's, or of our own, which is reported when it is not destroyed. */
template <class T, class Opaque> cublasStatus_t init(Opaque *memory, std::size_t bytes, const T &value)
{
    if (!memory || bytes < sizeof *memory)
        return CUBLAS_STATUS_INVALID_VALUE;
    new (memory) T(value);
    return CUBLAS_STATUS_SUCCESS;
}

template <class T, class Opaque> cublasStatus_t create(Opaque **out, const T &value, const char *kind)
{
    if (!out)
        return CUBLAS_STATUS_INVALID_VALUE;
    *out = new Opaque();
    born(*out, kind);
    return init(*out, sizeof **out, value);
}

template <class Opaque> cublasStatus_t destroy(Opaque *gone, const char *kind)
{
    died(gone, kind);
    std::memset(static_cast<void *>(gone), 0, sizeof *gone);
    delete gone;
    return CUBLAS_STATUS_SUCCESS;
}

Layout new_layout(cudaDataType type, uint64_t rows, uint64_t columns, int64_t ld)
{
    return {kLayoutMark, static_cast<uint32_t>(type), CUBLASLT_ORDER_COL, 1, rows, columns, ld, 0};
}

Desc new_desc(cublasComputeType_t compute, cudaDataType_t scale)
{
    return {kDescMark, compute, scale, CUBLASLT_POINTER_MODE_HOST, CUBLAS_OP_N, CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT, nullptr, 0, -1};
}

Preference new_preference()
{
    return {kPreferenceMark, 0, 0, CUBLASLT_REDUCTION_SCHEME_MASK, {256, 256, 256, 256}};
}

/* An attribute's place and size in the descriptor. */
struct Field {
    std::size_t offset, bytes;
};
#define FIELD(Type, member) {offsetof(Type, member), sizeof(Type::member)}

/* Faults on attributes that are not modelled; refuses values of another size. */
cublasStatus_t set(void *descriptor, const std::map<int, Field> &fields, int name, const void *value, std::size_t bytes, const char *kind)
{
    auto found = fields.find(name);
    if (found == fields.end())
        fault("%s: attribute %d is not modelled", kind, name);
    if (!value || bytes != found->second.bytes)
        return CUBLAS_STATUS_INVALID_VALUE;
    std::memcpy(static_cast<unsigned char *>(descriptor) + found->second.offset, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

const std::map<int, Field> layout_fields = {
    {CUBLASLT_MATRIX_LAYOUT_TYPE, FIELD(Layout, type)}, {CUBLASLT_MATRIX_LAYOUT_ORDER, FIELD(Layout, order)},
    {CUBLASLT_MATRIX_LAYOUT_ROWS, FIELD(Layout, rows)}, {CUBLASLT_MATRIX_LAYOUT_COLS, FIELD(Layout, columns)},
    {CUBLASLT_MATRIX_LAYOUT_LD, FIELD(Layout, ld)}, {CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, FIELD(Layout, batches)},
    {CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, FIELD(Layout, stride)},
};

const std::map<int, Field> desc_fields = {
    {CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, FIELD(Desc, compute)}, {CUBLASLT_MATMUL_DESC_SCALE_TYPE, FIELD(Desc, scale)},
    {CUBLASLT_MATMUL_DESC_POINTER_MODE, FIELD(Desc, pointer_mode)}, {CUBLASLT_MATMUL_DESC_TRANSA, FIELD(Desc, transpose_a)},
    {CUBLASLT_MATMUL_DESC_TRANSB, FIELD(Desc, transpose_b)}, {CUBLASLT_MATMUL_DESC_TRANSC, FIELD(Desc, transpose_c)},
    {CUBLASLT_MATMUL_DESC_EPILOGUE, FIELD(Desc, epilogue)}, {CUBLASLT_MATMUL_DESC_BIAS_POINTER, FIELD(Desc, bias)},
    {CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, FIELD(Desc, bias_stride)}, {CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, FIELD(Desc, bias_type)},
};

const std::map<int, Field> preference_fields = {
    {CUBLASLT_MATMUL_PREF_SEARCH_MODE, FIELD(Preference, search_mode)}, {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, FIELD(Preference, workspace)},
    {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, FIELD(Preference, schemes)},
    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, FIELD(Preference, alignment[0])},
    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, FIELD(Preference, alignment[1])},
    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, FIELD(Preference, alignment[2])},
    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, FIELD(Preference, alignment[3])},
};

} // namespace

Layout read_layout(cublasLtMatrixLayout_t layout)
{
    return *open<Layout>(layout, kLayoutMark, kLayout);
}

Desc read_desc(cublasLtMatmulDesc_t desc)
{
    return *open<Desc>(desc, kDescMark, kDesc);
}

Preference read_preference(cublasLtMatmulPreference_t preference)
{
    return *open<Preference>(preference, kPreferenceMark, kPreference);
}

int device_of_handle(cublasLtHandle_t handle)
{
    if (!handle || !alive(handle, kHandle))
        fault("%p is no %s, or one that was destroyed", static_cast<void *>(handle), kHandle);
    return handle->device;
}

} // namespace cudaemu::blas

using namespace cudaemu;
using namespace cudaemu::blas;

extern "C" {

size_t cublasLtGetVersion(void)
{
    return CUBLAS_VERSION;
}

const char *cublasLtGetStatusName(cublasStatus_t status)
{
    switch (status) {
#define NAME(status) \
    case status:     \
        return #status
        NAME(CUBLAS_STATUS_SUCCESS);
        NAME(CUBLAS_STATUS_NOT_INITIALIZED);
        NAME(CUBLAS_STATUS_ALLOC_FAILED);
        NAME(CUBLAS_STATUS_INVALID_VALUE);
        NAME(CUBLAS_STATUS_ARCH_MISMATCH);
        NAME(CUBLAS_STATUS_MAPPING_ERROR);
        NAME(CUBLAS_STATUS_EXECUTION_FAILED);
        NAME(CUBLAS_STATUS_INTERNAL_ERROR);
        NAME(CUBLAS_STATUS_NOT_SUPPORTED);
    default:
        return "CUBLAS_STATUS_UNKNOWN";
    }
}

const char *cublasLtGetStatusString(cublasStatus_t status)
{
    return cublasLtGetStatusName(status);
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *out)
{
    if (!out)
        return CUBLAS_STATUS_INVALID_VALUE;
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || !devices) {
        (void)cudaGetLastError();
        return CUBLAS_STATUS_NOT_INITIALIZED;
    }
    *out = new cublasLtContext{current_device()};
    born(*out, kHandle);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    died(handle, kHandle);
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutInit_internal(cublasLtMatrixLayout_t memory, size_t bytes, cudaDataType type, uint64_t rows, uint64_t columns, int64_t ld)
{
    return init(memory, bytes, new_layout(type, rows, columns, ld));
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType type, uint64_t rows, uint64_t columns, int64_t ld)
{
    return create(out, new_layout(type, rows, columns, ld), kLayout);
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout)
{
    return destroy(layout, kLayout);
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout, cublasLtMatrixLayoutAttribute_t name, const void *value, size_t bytes)
{
    return set(open<Layout>(layout, kLayoutMark, kLayout), layout_fields, name, value, bytes, kLayout);
}

cublasStatus_t cublasLtMatmulDescInit_internal(cublasLtMatmulDesc_t memory, size_t bytes, cublasComputeType_t compute, cudaDataType_t scale)
{
    return init(memory, bytes, new_desc(compute, scale));
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t compute, cudaDataType_t scale)
{
    return create(out, new_desc(compute, scale), kDesc);
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc)
{
    return destroy(desc, kDesc);
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t name, const void *value, size_t bytes)
{
    return set(open<Desc>(desc, kDescMark, kDesc), desc_fields, name, value, bytes, kDesc);
}

cublasStatus_t cublasLtMatmulPreferenceInit_internal(cublasLtMatmulPreference_t memory, size_t bytes)
{
    return init(memory, bytes, new_preference());
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out)
{
    return create(out, new_preference(), kPreference);
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference)
{
    return destroy(preference, kPreference);
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t name, const void *value,
    size_t bytes)
{
    return set(open<Preference>(preference, kPreferenceMark, kPreference), preference_fields, name, value, bytes, kPreference);
}

} // extern "C"
