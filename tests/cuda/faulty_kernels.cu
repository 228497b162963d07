/* Compiled once for each of the emulator's builds. */
#include "cudaemu_kernel.h"

#include "faulty_kernels.h"

#include <cstdio>
#include <cstdlib>

static void checked()
{
    cudaError_t error = cudaGetLastError();
    if (error != cudaSuccess) {
        fprintf(stderr, "launch: %s\n", cudaGetErrorString(error));
        exit(1);
    }
}

#define LAUNCH(kernel, grid, block, shared, stream, ...)                        \
    do {                                                                        \
        PAPA_CHEVRONS(kernel, grid, block, shared, stream, __VA_ARGS__);        \
        checked();                                                              \
    } while (0)

static unsigned blocks_of(int n) { return (unsigned)(n + 127) / 128; }

__device__ __forceinline__ int index() { return (int)(blockIdx.x * blockDim.x + threadIdx.x); }

/* ---------------------------------------------------------------- sound ones */

__global__ void fill_kernel(float *y, int n, float value)
{
    if (index() < n)
        y[index()] = value;
}
void fill(float *y, int n, float value, cudaStream_t stream) { LAUNCH(fill_kernel, blocks_of(n), 128, 0, stream, y, n, value); }

__global__ void copy_kernel(float *y, const float *__restrict__ x, int n)
{
    if (index() < n)
        y[index()] = __ldg(x + index());
}
void copy(float *y, const float *x, int n, cudaStream_t stream) { LAUNCH(copy_kernel, blocks_of(n), 128, 0, stream, y, x, n); }

__global__ void add_kernel(float *y, const float *x, int n)
{
    if (index() < n)
        y[index()] += x[index()];
}
void add(float *y, const float *x, int n, cudaStream_t stream) { LAUNCH(add_kernel, blocks_of(n), 128, 0, stream, y, x, n); }

template <class T> __global__ void touch_kernel(T *y, int n)
{
    if (index() < n)
        y[index()] = T((float)index());
}
void touch_bytes(unsigned char *y, int n, cudaStream_t stream) { LAUNCH(touch_kernel<unsigned char>, blocks_of(n), 128, 0, stream, y, n); }
void touch_halves(void *y, int n, cudaStream_t stream)
{
    LAUNCH((touch_kernel<__nv_bfloat16>), blocks_of(n), 128, 0, stream, static_cast<__nv_bfloat16 *>(y), n);
}

__device__ __forceinline__ float warp_sum(float x)
{
    for (int lane = 16; lane; lane /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, lane);
    return x;
}

__global__ void __launch_bounds__(256) block_sums_kernel(float *y, const float *x, int n)
{
    PAPA_SHARED(float, part, 8);
    float sum = 0;
    for (int i = index(); i < n; i += (int)(gridDim.x * blockDim.x))
        sum += x[i];
    for (int round = 0; round < 3; round++) { /* the same memory again at once */
        float all = warp_sum(sum);
        if (threadIdx.x % 32 == 0)
            part[threadIdx.x / 32] = all;
        __syncthreads();
        all = warp_sum(threadIdx.x % 32 < 8 ? part[threadIdx.x % 32] : 0.f);
        __syncthreads();
        if (threadIdx.x == 0)
            y[blockIdx.x] = all;
    }
}
void block_sums(float *y, const float *x, int n, int blocks, cudaStream_t stream) { LAUNCH(block_sums_kernel, (unsigned)blocks, 256, 0, stream, y, x, n); }

__global__ void reverse_kernel(float *y, const float *x, int columns)
{
    PAPA_SHARED_DYNAMIC(float, row);
    row[threadIdx.x] = x[(int)blockIdx.x * columns + (int)threadIdx.x];
    __syncthreads();
    y[(int)blockIdx.x * columns + (int)threadIdx.x] = row[columns - 1 - (int)threadIdx.x];
}
void reverse_rows(float *y, const float *x, int rows, int columns, cudaStream_t stream)
{
    LAUNCH(reverse_kernel, (unsigned)rows, (unsigned)columns, (size_t)columns * sizeof *x, stream, y, x, columns);
}

__global__ void count_kernel(int *y, const float *x, int n)
{
    unsigned votes = __ballot_sync(0xffffffffu, index() < n && x[index()] > 0);
    if (threadIdx.x % 32 == 0)
        atomicAdd(y, __popc(votes));
}
void count_positive(int *y, const float *x, int n, cudaStream_t stream) { LAUNCH(count_kernel, blocks_of(n), 128, 0, stream, y, x, n); }

__global__ void odd_warps_kernel(int *y)
{
    PAPA_SHARED(int, between, 48);
    int lane = (int)threadIdx.x % 32, low = lane < 16;
    unsigned half = low ? 0xffffu : 0xffff0000u;
    between[threadIdx.x] = __shfl_xor_sync(half, lane, 1, 16);
    __syncwarp();
    int neighbour = between[(int)threadIdx.x ^ 2];
    y[threadIdx.x] = neighbour + (__any_sync(half, lane == 20) ? 100 : 0);
}
void odd_warps(int *y, cudaStream_t stream) { LAUNCH(odd_warps_kernel, 1, 48, 0, stream, y); }

/* ---------------------------------------------------------------- launches */

__global__ void empty_kernel() {}
void launch_empty(dim3 grid, dim3 block, size_t shared, cudaStream_t stream)
{
    PAPA_CHEVRONS(empty_kernel, grid, block, shared, stream);
    checked();
}
cudaError_t allow_shared(int bytes) { return cudaFuncSetAttribute(empty_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes); }

__global__ void static_shared_kernel()
{
    PAPA_SHARED(float, large, 10 * 1024);
    large[threadIdx.x] = 0;
}
void launch_static_shared(size_t shared, cudaStream_t stream)
{
    PAPA_CHEVRONS(static_shared_kernel, 1, 32, shared, stream);
    checked();
}

void launch_unchecked(float *y, int n, cudaStream_t stream) { PAPA_CHEVRONS(fill_kernel, blocks_of(n), 128, 0, stream, y, n, 1.f); }

/* ---------------------------------------------------------------- memory */

__global__ void copy_pair_kernel(Pair pair, int n)
{
    if (index() < n)
        pair.to[index()] = pair.from[index()];
}
void copy_pair(Pair pair, int n, cudaStream_t stream) { LAUNCH(copy_pair_kernel, blocks_of(n), 128, 0, stream, pair, n); }

__global__ void one_more_kernel(float *y, const float *x, int n, bool read)
{
    if (index() < n)
        y[index()] = x[index()];
    if (index() == n && read)
        y[0] = x[n];
    if (index() == n && !read)
        y[n] = 1;
}
void copy_one_more(float *y, const float *x, int n, bool read, cudaStream_t stream)
{
    LAUNCH(one_more_kernel, blocks_of(n + 1), 128, 0, stream, y, x, n, read);
}

__global__ void shared_one_more_kernel(float *y, bool dynamic, int n)
{
    PAPA_SHARED(float, fixed, 32);
    PAPA_SHARED_DYNAMIC(float, given);
    float *p = dynamic ? given : fixed;
    for (int i = 0; i <= n; i++)
        p[i] = 1;
    y[0] = p[0];
}
void shared_one_more(float *y, bool dynamic, cudaStream_t stream) { LAUNCH(shared_one_more_kernel, 1, 1, 32 * sizeof *y, stream, y, dynamic, 32); }

__global__ void local_one_more_kernel(float *y, int i)
{
    float few[4] = {1, 2, 3, 4};
    few[i] = 5;
    y[0] = few[i / 2];
}
void local_one_more(float *y, int i, cudaStream_t stream) { LAUNCH(local_one_more_kernel, 1, 1, 0, stream, y, i); }

__global__ void fresh_shared_kernel(float *y)
{
    PAPA_SHARED(float, part, 64);
    if (threadIdx.x < 31)
        part[threadIdx.x] = 1;
    __syncthreads();
    y[threadIdx.x] = part[threadIdx.x];
}
void read_fresh_shared(float *y, cudaStream_t stream) { LAUNCH(fresh_shared_kernel, 1, 32, 0, stream, y); }

__global__ void wild_kernel(float *y) { *(volatile float *)(uintptr_t)((uintptr_t)y & 0xfff) = 1; }
void wild(float *y, cudaStream_t stream) { LAUNCH(wild_kernel, 1, 1, 0, stream, y); }

__attribute__((noinline)) static float deeper(volatile float *y, int depth)
{
    volatile char frame[1024];
    frame[depth % 1024] = 1;
    return depth ? deeper(y, depth - 1) + (float)frame[depth % 1024] : *y;
}
__global__ void deep_kernel(float *y, int depth) { y[0] = deeper(y, depth); }
void deep(float *y, int depth, cudaStream_t stream) { LAUNCH(deep_kernel, 1, 1, 0, stream, y, depth); }

__global__ void overflowing_kernel(int *y, int by) { y[1] = 0x7fffffff + by; }
void overflowing(int *y, int by, cudaStream_t stream) { LAUNCH(overflowing_kernel, 1, 1, 0, stream, y, by); }

float read_on_host(const float *p) { return *p; }

/* ---------------------------------------------------------------- barriers */

__global__ void no_barrier_kernel(float *y, int which)
{
    PAPA_SHARED(float, part, 256);
    int i = (int)threadIdx.x, n = (int)blockDim.x, other = (i + 64) % n;
    part[i] = 0; /* so that it is not caught for that */
    __syncthreads();
    switch (which) {
    case 0: /* between a write and another thread's read */
        part[i] = (float)i;
        y[i] = part[other];
        break;
    case 1: /* between a read and another thread's write */
        part[i] = (float)i;
        __syncthreads();
        y[i] = part[other];
        part[i] = 0;
        break;
    case 2: /* in device memory */
        y[i] = (float)i;
        __syncthreads();
        y[i] += y[other];
        break;
    case 3: /* within a warp, which only __syncwarp orders */
        part[i] = (float)i;
        y[i] = part[i ^ 1];
        break;
    case 4: /* one thread's result for all */
        if (i == n - 1)
            part[0] = 1;
        y[i] = part[0];
        break;
    case 5: /* all read what one overwrites */
        if (i == 0)
            part[0] = 1;
        __syncthreads();
        y[i] = part[0];
        if (i == n / 2)
            part[0] = 2;
        break;
    case 6: /* a warp's shuffle orders that warp only */
        part[i] = (float)i;
        y[i] = part[other] + __shfl_xor_sync(0xffffffffu, (float)i, 1);
        break;
    }
}
void no_barrier(float *y, int which, cudaStream_t stream) { LAUNCH(no_barrier_kernel, 1, 256, 0, stream, y, which); }

__global__ void bad_barrier_kernel(float *y, int which)
{
    int i = (int)threadIdx.x;
    switch (which) {
    case 0: /* two barriers where there should be one */
        if (i < 32)
            __syncthreads();
        else
            __syncthreads();
        break;
    case 1: /* some have returned */
        if (i >= 40)
            return;
        __syncthreads();
        break;
    case 2: /* one thread skips it and waits at the next */
        if (i != 17)
            __syncthreads();
        y[i] = 1;
        __syncthreads();
        break;
    case 3: /* half a warp waits for its other half, which waits at a barrier */
        if (i < 16)
            y[i] = __shfl_xor_sync(0xffffffffu, 1.f, 1);
        __syncthreads();
        break;
    }
    y[i] = 1;
}
void bad_barrier(float *y, int which, cudaStream_t stream) { LAUNCH(bad_barrier_kernel, 1, 64, 0, stream, y, which); }

/* ---------------------------------------------------------------- blocks */

__global__ void racing_blocks_kernel(float *y, int which)
{
    int b = (int)blockIdx.x;
    int *count = reinterpret_cast<int *>(y);
    switch (which) {
    case 0: /* all write the same word, the same value */
        y[0] = 1;
        break;
    case 1: /* one reads what another writes */
        y[b] = y[b + 1] + 1;
        break;
    case 2: /* one adds atomically, another just writes */
        if (b)
            atomicAdd(count, 1);
        else
            *count = 0;
        break;
    case 3: /* all read what the last overwrites */
        if (b == 3)
            y[40] = 2;
        y[b] = y[40];
        break;
    case 4: { /* two halves of one word are no race, the third is */
        unsigned char *bytes = reinterpret_cast<unsigned char *>(y);
        bytes[b % 3] = 1;
        break;
    }
    }
}
void racing_blocks(float *y, int which, cudaStream_t stream) { LAUNCH(racing_blocks_kernel, 4, 1, 0, stream, y, which); }

/* ---------------------------------------------------------------- alignment and warps */

__global__ void misaligned_kernel(float *y, int which)
{
    PAPA_SHARED(float, part, 64);
    part[threadIdx.x] = part[threadIdx.x + 32] = 0;
    __syncthreads();
    if (threadIdx.x)
        return;
    if (which == 0)
        *reinterpret_cast<float4 *>(y + 1) = make_float4(1, 2, 3, 4);
    if (which == 1)
        y[0] = reinterpret_cast<const float2 *>(y + 3)->x;
    if (which == 2) /* an array of floats is aligned as floats are */
        *reinterpret_cast<float4 *>(part) = make_float4(1, 2, 3, 4);
    if (which == 3)
        y[0] = *reinterpret_cast<const float *>(reinterpret_cast<const char *>(y) + 2);
}
void misaligned(float *y, int which, cudaStream_t stream) { LAUNCH(misaligned_kernel, 1, 32, 0, stream, y, which); }

__global__ void bad_warp_kernel(float *y, int which)
{
    int lane = (int)threadIdx.x;
    float x = (float)lane;
    switch (which) {
    case 0: /* a lane that is not in its own mask */
        x = __shfl_sync(0x7fffffffu, x, 0);
        break;
    case 1: /* a source outside the mask */
        if (lane < 16)
            x = __shfl_sync(0xffffu, x, lane + 16);
        break;
    case 2: /* different masks */
        x = lane < 8 ? __shfl_sync(0x000001ffu, x, 0) : __shfl_sync(0xffffff80u, x, 31);
        break;
    case 3: /* a source that has returned */
        if (lane >= 24)
            return;
        x = __shfl_down_sync(0xffffffffu, x, 8);
        break;
    case 4: /* some shuffle while others vote */
        x = lane < 8 ? __shfl_xor_sync(0xffffffffu, x, 1) : (float)__ballot_sync(0xffffffffu, lane & 1);
        break;
    }
    y[lane] = x;
}
void bad_warp(float *y, int which, cudaStream_t stream) { LAUNCH(bad_warp_kernel, 1, 32, 0, stream, y, which); }
