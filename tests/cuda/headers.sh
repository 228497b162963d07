#!/bin/bash
# The emulator's declarations of cuDNN and cuBLASLt against NVIDIA's headers: every enumerator's value, every function's type, and the structs.
#
#   headers.sh CC OURS THEIRS...      OURS: tests/cudaemu/include; THEIRS: folders with cudnn.h, cublasLt.h and cuda_runtime_api.h; none: skipped
#
# What our headers declare is turned into assertions that are compiled with NVIDIA's headers, and with our own.
set -euo pipefail
cc=$1 ours=$2
shift 2
includes=()
for folder in "$@"; do
    case $folder in *NOTFOUND) echo "skipped: NVIDIA's headers are not installed"; exit 77 ;; esac
    includes+=(-isystem "$folder")
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

enumerators() { # NAME VALUE
    grep -hoE '\b[A-Z][A-Za-z0-9_]+ = [0-9A-Z_]+' "$@" | sed 's/ = / /'
}

prototypes() { # begin at the line's first column, may go on, and end in ;
    awk '/^(size_t|void|const char|cudnnStatus_t|cublasStatus_t) [^=]*\(/ || /^const char \*/ {on = 1} on {print} on && /;/ {on = 0}' "$@"
}

assertions() { # HEADERS...
    printf '#include <%s>\n' cudnn.h cublasLt.h stddef.h
    enumerators "$@" | while read -r name value; do
        echo "_Static_assert((long)$name == (long)$value, \"$name\");"
    done
    prototypes "$@"
    cat <<'END'
_Static_assert(sizeof(cublasLtMatrixLayoutOpaque_t) == 64 && sizeof(cublasLtMatmulDescOpaque_t) == 256, "descriptors");
_Static_assert(sizeof(cublasLtMatmulPreferenceOpaque_t) == 64 && sizeof(cublasLtMatmulAlgo_t) == 64, "descriptors");
_Static_assert(sizeof(cublasLtMatmulHeuristicResult_t) == 96 && offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize) == 64 &&
    offsetof(cublasLtMatmulHeuristicResult_t, state) == 72 && offsetof(cublasLtMatmulHeuristicResult_t, wavesCount) == 76, "results");
static cublasStatus_t (*const layout_init)(cublasLtMatrixLayout_t, cudaDataType, uint64_t, uint64_t, int64_t) = cublasLtMatrixLayoutInit;
static cublasStatus_t (*const desc_init)(cublasLtMatmulDesc_t, cublasComputeType_t, cudaDataType_t) = cublasLtMatmulDescInit;
static cublasStatus_t (*const preference_init)(cublasLtMatmulPreference_t) = cublasLtMatmulPreferenceInit;
void *const all[] = {(void *)&layout_init, (void *)&desc_init, (void *)&preference_init};
END
}

agrees() { # FILE INCLUDES...
    local file=$1
    shift
    "$cc" -std=c17 -fsyntax-only -w "$@" "$file"
}

headers=("$ours/cudnn.h" "$ours/cublasLt.h" "$ours/library_types.h")
assertions "${headers[@]}" >"$work/all.c"
values=$(enumerators "${headers[@]}" | wc -l) functions=$(prototypes "${headers[@]}" | grep -c ';')
if ((values < 150 || functions < 28)); then
    echo "only $values values and $functions functions were found in our headers"
    exit 1
fi
agrees "$work/all.c" -isystem "$ours"
agrees "$work/all.c" "${includes[@]}"

# A wrong value and a wrong type must be seen.
sed 's/(long)CUDNN_ATTR_TENSOR_STRIDES == (long)903/(long)CUDNN_ATTR_TENSOR_STRIDES == (long)904/' "$work/all.c" >"$work/value.c"
sed 's/cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream)/cudnnSetStream(cudnnHandle_t handle, cudaStream_t *stream)/' "$work/all.c" >"$work/type.c"
for planted in value type; do
    if cmp -s "$work/all.c" "$work/$planted.c" || agrees "$work/$planted.c" "${includes[@]}" 2>"$work/said"; then
        echo "a planted wrong $planted was not seen"
        exit 1
    fi
done
echo "$values values and $functions functions agree with NVIDIA's"
