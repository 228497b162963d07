#!/usr/bin/env bash
# What must not compile with the emulator's headers, each with the sound line that it is a slip of.
set -euo pipefail
cd "$(dirname "$0")"

compiles() {
  printf '%s\n' '#include "cudaemu_kernel.h"' 'extern cudaStream_t s; extern float *x; extern long n;' \
    'template <class T> __global__ void scale(T *, int, float) {}' "$1" |
    "${CXX:-g++}" -std=c++17 -fsyntax-only -x c++ -Wall -Wextra -Werror -Iinclude - 2>"$errors"
}
errors=$(mktemp)
trap 'rm -f "$errors"' EXIT

failed=0
pair() { # NAME SOUND WRONG
  if ! compiles "$2"; then
    echo "$1: the sound version does not compile:"
    head -5 "$errors"
    failed=1
  fi
  if compiles "$3"; then
    echo "$1: it compiles: $3"
    failed=1
  fi
}

pair 'plain __shared__' '__global__ void k() { PAPA_SHARED(float, y, 32); y[0] = 0; }' '__global__ void k() { __shared__ float y[32]; y[0] = 0; }'
pair 'chevrons' 'void f() { PAPA_CHEVRONS(scale<float>, 1, 32, 0, s, x, 1, 2.f); }' 'void f() { scale<float><<<1, 32, 0, s>>>(x, 1, 2.f); }'
pair 'an argument that loses bits' 'void f() { PAPA_CHEVRONS(scale<float>, 1, 32, 0, s, x, (int)n, 2.f); }' 'void f() { PAPA_CHEVRONS(scale<float>, 1, 32, 0, s, x, n, 2.f); }'
pair 'too few arguments' 'void f() { PAPA_CHEVRONS(scale<float>, 1, 32, 0, s, x, 1, 2.f); }' 'void f() { PAPA_CHEVRONS(scale<float>, 1, 32, 0, s, x, 1); }'
pair 'more than 4096 bytes of arguments' 'struct A { char c[4000]; }; __global__ void k(A) {} void f(A a) { PAPA_CHEVRONS(k, 1, 32, 0, s, a); }' \
  'struct A { char c[4100]; }; __global__ void k(A) {} void f(A a) { PAPA_CHEVRONS(k, 1, 32, 0, s, a); }'
pair 'atomics on floats' '__global__ void k(int *p) { atomicAdd(p, 1); }' '__global__ void k(float *p) { atomicAdd(p, 1.f); }'
pair 'arithmetic in bfloat16' 'float f(__nv_bfloat16 a) { return __bfloat162float(a) * 2.f; }' 'float f(__nv_bfloat16 a) { return a * 2.f; }'
pair 'functions without a stream' 'void f() { (void)cudaMemcpyAsync(x, x, 4, cudaMemcpyDefault, s); }' 'void f() { (void)cudaMemcpy(x, x, 4, cudaMemcpyDefault); }'
pair 'unknown functions' 'void f() { (void)cudaMalloc(&x, 4); }' 'void f() { (void)cudaMallocManaged(&x, 4); }'
pair 'shuffles without a mask' '__global__ void k(float *y) { *y = __shfl_sync(~0u, *y, 0); }' '__global__ void k(float *y) { *y = __shfl(*y, 0); }'
exit $failed
