#!/usr/bin/env bash
# Compares our declarations of CUDA's runtime with NVIDIA's: every function, enumerator, constant, structure and field of
# include/cuda_runtime_api.h and include/vector_types.h, and the rounding of include/cuda_bf16.h.
#
#     runtime_headers.sh THEIRS      a folder with cuda_runtime_api.h; one that isn't there: skipped
#
# It writes a program that includes NVIDIA's headers and says of each of our declarations that it is theirs: functions by declaring them again,
# which is an error unless the types agree, the rest by static_assert.
set -euo pipefail
cd "$(dirname "$0")/include"

theirs=${1:?usage: runtime_headers.sh THEIRS}
if ! [ -e "$theirs/cuda_runtime_api.h" ]; then
  echo "skipped: NVIDIA's headers are not installed"
  exit 77
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The declarators of a structure's fields: "int x, y[3];" gives x y.
fields() { # HEADER STRUCT
  awk -v start="^(typedef )?struct $2 [{]" '$0 ~ start { on = 1 } on { print } /}/ { on = 0 }' "$1" | sed 's|/\*.*\*/||; s/^.*{//; s/}.*$//' | tr ';' '\n' |
    sed -n 's/^ *\(enum \)\{0,1\}\(unsigned \)\{0,1\}\(struct \)\{0,1\}[A-Za-z_]* //p' | grep -v '(' | tr ',' '\n' | sed 's/\[.*//; s/[* ]//g' | sed '/^$/d'
}

generate() {
  echo '#include <cuda_runtime_api.h>'
  echo '#include <cuda_bf16.h>'
  echo '#include <cstdint>'
  echo '#include <cstdio>'
  echo '#include <cstring>'
  echo '#include <type_traits>'
  echo 'extern "C" {'
  grep -E '^(cudaError_t|const char \*) ?cuda[A-Za-z]+\(.*\);$' cuda_runtime_api.h
  echo '}'
  sed -n 's/^    \(cuda[A-Za-z0-9]*\) = \([0-9]*\),\{0,1\}$/static_assert((int)\1 == \2, "\1");/p' cuda_runtime_api.h
  sed -n 's/^#define \(cuda[A-Za-z]*\) \(0x[0-9a-f]*\)$/static_assert(\1 == \2, "\1");/p' cuda_runtime_api.h
  echo 'namespace ours {'
  echo "#include \"$PWD/vector_types.h\""
  for s in cudaDeviceProp cudaPointerAttributes; do
    sed -n "/^struct $s {/,/^};/p" cuda_runtime_api.h
  done
  echo "#include \"$PWD/cuda_bf16.h\""
  echo '}'
  for s in cudaDeviceProp cudaPointerAttributes; do
    for f in $(fields cuda_runtime_api.h $s); do
      echo "static_assert(std::is_same_v<decltype(ours::$s::$f), decltype(::$s::$f)>, \"$s::$f\");"
    done
  done
  for s in $(sed -n 's/^typedef struct \([a-z0-9]*\) .*/\1/p' vector_types.h); do
    echo "static_assert(sizeof(ours::$s) == sizeof(::$s) && alignof(ours::$s) == alignof(::$s), \"$s\");"
    for f in $(fields vector_types.h "$s"); do
      echo "static_assert(std::is_same_v<decltype(ours::$s::$f), decltype(::$s::$f)> && offsetof(ours::$s, $f) == offsetof(::$s, $f), \"$s::$f\");"
    done
  done
  for s in __nv_bfloat16 __nv_bfloat162; do
    echo "static_assert(sizeof(ours::$s) == sizeof(::$s) && alignof(ours::$s) == alignof(::$s), \"$s\");"
  done
  cat <<'PROGRAM'
int main()
{
    static const uint32_t low[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff};
    for (uint32_t high = 0; high < 0x10000; high++)
        for (uint32_t l : low) {
            uint32_t bits = high << 16 | l;
            float f;
            memcpy(&f, &bits, sizeof f);
            unsigned short a = ours::__bfloat16_as_ushort(ours::__float2bfloat16(f)), b = ::__bfloat16_as_ushort(::__float2bfloat16(f));
            float back = ours::__bfloat162float(ours::__ushort_as_bfloat16(a)), theirs = ::__bfloat162float(::__ushort_as_bfloat16(b));
            if (a != b || memcmp(&back, &theirs, sizeof back)) {
                printf("bfloat16 of %08x: %04x, NVIDIA's %04x\n", bits, a, b);
                return 1;
            }
        }
}
PROGRAM
}

generate >"$work/compare.cpp"
n=$(grep -c 'static_assert\|^cudaError_t\|^const char' "$work/compare.cpp")
"${CXX:-g++}" -std=c++17 -Wno-invalid-offsetof -isystem "$theirs" "$work/compare.cpp" -o "$work/compare"
"$work/compare"
# The test of the test: a wrong declaration of each kind must not compile.
for wrong in 's/^cudaError_t cudaFree(void \*devPtr);/cudaError_t cudaFree(const void *devPtr);/' 's/(int)cudaErrorNotReady == 600/(int)cudaErrorNotReady == 601/' \
  's/^    int l2CacheSize;/    long l2CacheSize;/' 's/ours::float4) == alignof/ours::float3) == alignof/'; do
  sed "$wrong" "$work/compare.cpp" >"$work/wrong.cpp"
  if cmp -s "$work/compare.cpp" "$work/wrong.cpp" || "${CXX:-g++}" -std=c++17 -w -fsyntax-only -isystem "$theirs" "$work/wrong.cpp" 2>"$work/says"; then
    echo "a wrong declaration is not noticed: $wrong"
    exit 1
  fi
done
echo "$n declarations agree with $theirs"
