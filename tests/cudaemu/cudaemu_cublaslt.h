/* The inside of cuBLASLt's stand-in: what lies behind its opaque descriptors, which are plain memory, and may be the caller's own. */
#ifndef CUDAEMU_CUBLASLT_INTERNAL_H
#define CUDAEMU_CUBLASLT_INTERNAL_H

#include "cudaemu.h"

#include "cublasLt.h"

namespace cudaemu::blas {

/* The first word tells them apart, and from memory that is none. */
enum Mark : uint32_t { kLayoutMark = 0xb1a5001, kDescMark = 0xb1a5002, kPreferenceMark = 0xb1a5003, kAlgoMark = 0xb1a5004 };

struct Layout {
    uint32_t mark;
    uint32_t type;   /* cudaDataType */
    int32_t order;   /* cublasLtOrder_t */
    int32_t batches;
    uint64_t rows, columns;
    int64_t ld;      /* elements from one column (row) to the next */
    int64_t stride;  /* elements from one batch to the next */
};

struct Desc {
    uint32_t mark;
    int32_t compute, scale, pointer_mode, transpose_a, transpose_b, transpose_c;
    uint32_t epilogue;
    const void *bias;
    int64_t bias_stride;
    int32_t bias_type; /* -1: D's */
};

struct Preference {
    uint32_t mark;
    uint32_t search_mode;
    uint64_t workspace; /* at most, bytes */
    uint32_t schemes;   /* cublasLtReductionScheme_t that are allowed */
    uint32_t alignment[4]; /* of A, B, C, D: at least, bytes */
};

/* Chosen for one product, and for pointers aligned as the preference said. */
struct Algo {
    uint32_t mark;
    uint32_t id;
    uint64_t workspace;
    uint64_t product;      /* which */
    uint32_t alignment[4];
    uint32_t bias_alignment; /* of the pointer that was in the descriptor */
};

/* One product, its descriptors copied. */
struct Product {
    Desc desc;
    Layout a, b, c, d;
    uint64_t m() const { return d.rows; }
    uint64_t n() const { return d.columns; }
    uint64_t k() const { return desc.transpose_a ? a.rows : a.columns; }
    uint64_t key() const; /* equal products have equal keys; pointers don't count */
    uint32_t bias_type() const { return desc.bias_type == -1 ? d.type : static_cast<uint32_t>(desc.bias_type); }
    bool has_bias() const { return (desc.epilogue & CUBLASLT_EPILOGUE_BIAS) != 0; }
};

/* Faults on descriptors that are none. */
Layout read_layout(cublasLtMatrixLayout_t layout);
Desc read_desc(cublasLtMatmulDesc_t desc);
Preference read_preference(cublasLtMatmulPreference_t preference);
int device_of_handle(cublasLtHandle_t handle);

/* INVALID_VALUE: the shapes don't fit; NOT_SUPPORTED: no such combination of types, orders and epilogue. */
cublasStatus_t check(const Product &product);

inline std::size_t element(uint32_t type) { return type == CUDA_R_16BF ? 2 : 4; }

} // namespace cudaemu::blas

#endif
