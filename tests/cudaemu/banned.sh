#!/usr/bin/env bash
# The CUDA halves may contain nothing that the emulator cannot run, or that makes two equal runs differ: kernels/cuda.cuh says what there is
# instead. Comments don't count. Atomics on floating-point numbers don't compile with the emulator, which sees types.
#
#     banned.sh          scans kernels/*.cu, after trying each rule on a line that breaks it
set -euo pipefail
cd "$(dirname "$0")/../.."

# RULE | a line that breaks it | why
rules='
\b(__)?asm(__)?\b | asm volatile("nop;"); | inline PTX cannot be emulated
cooperative_groups|\bcg:: | namespace cg = cooperative_groups; | cooperative groups are not emulated
\bcub\b|\bthrust\b | cub::BlockReduce<float, 128> r; | CUB and Thrust are not emulated
wmma|\bmma(_sync)?\b | wmma::fragment<a> f; | matrix intrinsics are not emulated
__shared__ | __shared__ float x[32]; | shared memory goes through PAPA_SHARED and PAPA_SHARED_DYNAMIC
__constant__|__managed__ | __constant__ float table[4]; | constants are arguments
<<< | kernel<<<1, 32>>>(x); | launches go through PAPA_LAUNCH
PAPA_CHEVRONS|cudaLaunch | PAPA_CHEVRONS(k, 1, 32, 0, s, x); | launches go through PAPA_LAUNCH
\bf?printf\b | printf("%d", x); | kernels report nothing
atomicAdd *\( *(\( *)?(float|double)|atomicAdd *\([^,]*, *[0-9.]+f *\) | atomicAdd((float *)p, x); | the order of the additions would show in the sum
\bvolatile\b|__threadfence|__nanosleep|__ldcg|__ldcv | volatile int *flag; | blocks do not wait for one another
\btex[123]D|\bsurf[123]D|cudaTextureObject | tex2D(t, x, y); | textures are not emulated
\bcudaMalloc|\bcudaFree|\bcuda[A-Za-z]*Synchronize\b | cudaDeviceSynchronize(); | nothing allocates or waits inside a step
'

# The file without comments, so that they may say what the code may not.
code() {
  "${CXX:-g++}" -w -fpreprocessed -dD -E -P -x c++ "$1" | grep -v '^#'
}

declare -A text
for file in kernels/*.cu; do
  [ ! -e "$file" ] || text[$file]=$(code "$file")
done

failed=0
while IFS= read -r line; do
  [ -n "$line" ] || continue
  rule=${line%% | *} rest=${line#* | }
  example=${rest%% | *} why=${rest#* | }
  if ! grep -qE -- "$rule" <<<"$example"; then
    echo "the rule '$rule' does not find: $example"
    failed=1
  fi
  for file in "${!text[@]}"; do
    if found=$(grep -E -- "$rule" <<<"${text[$file]}"); then
      echo "$file: $why: $(head -1 <<<"$found" | sed 's/^ *//')"
      failed=1
    fi
  done
done <<<"$rules"
exit $failed
