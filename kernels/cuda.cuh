/* What the CUDA halves share: launches, elements, vectors, sums of a warp and a block.
 *
 * The same files compile with nvcc, and with a C++ compiler and the emulator of tests/cudaemu. What makes that possible: launches and shared
 * memory go through the macros below; no inline PTX, no cooperative groups, no CUB; blocks don't wait for one another. Every NAME_cuda.cu
 * includes this first, then its contract inside extern "C". */
#ifndef PAPA_CUDA_CUH
#define PAPA_CUDA_CUH

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#define PAPA_CHEVRONS(kernel, grid, block, shared, stream, ...) kernel<<<(grid), (block), (shared), (stream)>>>(__VA_ARGS__)
#define PAPA_SHARED(T, name, n) __shared__ T name[n]
#define PAPA_SHARED_DYNAMIC(T, name)                                     \
    extern __shared__ __align__(16) unsigned char papa_dynamic_shared[]; \
    T *name = reinterpret_cast<T *>(papa_dynamic_shared)
#else
#include "cudaemu_kernel.h" /* the same three macros, and the language's own words */
#endif

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "device/cuda.h"

/* Launches kernel (in brackets where it is a template with several arguments) on dev's stream. For functions that return PapaStatus. */
#define PAPA_LAUNCH(dev, kernel, grid, block, shared, ...)                                                                \
    do {                                                                                                                  \
        dim3 papa_grid_(grid), papa_block_(block);                                                                        \
        if (papa_cuda_launches((dev), #kernel, (int64_t)papa_grid_.x * papa_grid_.y * papa_grid_.z,                       \
                (int64_t)papa_block_.x * papa_block_.y * papa_block_.z, (shared))) {                                      \
            PAPA_CHEVRONS(kernel, papa_grid_, papa_block_, (shared), papa_cuda(dev)->stream, __VA_ARGS__);                \
            PAPA_TRY(papa_cuda_launched((dev), #kernel));                                                                 \
        }                                                                                                                 \
    } while (0)

/* Runs `call`, an expression in which T is the type of the device's activations. */
#define PAPA_FOR_ELEMENT(dev, ...)                         \
    do {                                                   \
        if ((dev)->element == PAPA_BFLOAT16) {             \
            using T = __nv_bfloat16;                       \
            PAPA_TRY((__VA_ARGS__));                       \
        } else {                                           \
            using T = float;                               \
            PAPA_TRY((__VA_ARGS__));                       \
        }                                                  \
    } while (0)

namespace papa {

/* ---- elements: kept as T, computed in float ---- */

__device__ __forceinline__ float load(float x) { return x; }
__device__ __forceinline__ float load(__nv_bfloat16 x) { return __bfloat162float(x); }
template <class T> __device__ __forceinline__ T store(float x);
template <> __device__ __forceinline__ float store<float>(float x) { return x; }
template <> __device__ __forceinline__ __nv_bfloat16 store<__nv_bfloat16>(float x) { return __float2bfloat16(x); }

/* N neighbours, read and written at once. Pointers to one must be aligned to its size. */
template <class T, int N> struct alignas(sizeof(T) * N) Pack {
    T v[N];
};
template <class T> constexpr int kPack = 16 / sizeof(T); /* a 16-byte access */

template <class T> inline bool aligned(const T *p, int n) { return reinterpret_cast<uintptr_t>(p) % (sizeof(T) * (unsigned)n) == 0; }

/* ---- sums and maxima: the same order every time ---- */

struct Add {
    template <class A> __device__ __forceinline__ A operator()(A a, A b) const { return a + b; }
};
struct Max { /* a NaN wins */
    __device__ __forceinline__ float operator()(float a, float b) const { return a != a || a > b ? a : b; }
};

/* Over the 32 lanes of a full warp; every lane gets it. */
template <class A, class Join> __device__ __forceinline__ A warp_all(A x, Join join)
{
    for (int lane = 16; lane; lane /= 2)
        x = join(x, __shfl_xor_sync(0xffffffffu, x, lane));
    return x;
}

/* Over a block of whole warps, one-dimensional, at most 1024 threads; every thread gets it. between: shared memory, 32 elements. It may be used
 * again at once. */
template <class A, class Join> __device__ __forceinline__ A block_all(A x, Join join, A identity, A *between)
{
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, n_warps = (int)blockDim.x / 32;
    x = warp_all(x, join);
    if (lane == 0)
        between[warp] = x;
    __syncthreads();
    x = warp_all(lane < n_warps ? between[lane] : identity, join);
    __syncthreads();
    return x;
}

/* ---- launch shapes ---- */

constexpr int kThreads = 256;

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* Blocks for n independent items, of which each thread takes one at a time in a grid-stride loop: enough to fill the GPU. */
inline unsigned blocks_for(const PapaDevice *dev, int64_t n, int threads = kThreads)
{
    int64_t most = (int64_t)papa_cuda(dev)->gpu.multiprocessors * (2048 / threads) * 4, blocks = ceil_div(n, threads);
    return (unsigned)(blocks < 1 ? 1 : blocks < most ? blocks : most);
}

/* for (int64_t i : this thread's share of [0, n)) */
#define PAPA_GRID_STRIDE(i, n) \
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < (n); i += (int64_t)gridDim.x * blockDim.x)

} // namespace papa

#endif
