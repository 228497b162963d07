/* CUDA's dialect of C++ for a host compiler: kernels/cuda.cuh includes this where nvcc doesn't compile it. Threads of a block are fibers that
 * take turns, so threadIdx and its kin are plain variables. What is missing here is what papa's kernels may not use: plain __shared__,
 * <<<>>>, __constant__, atomics on floating-point numbers, textures, printf. */
#ifndef CUDAEMU_KERNEL_H
#define CUDAEMU_KERNEL_H

#include "cuda_bf16.h"
#include "cuda_runtime_api.h"

#include <math.h> /* before the macros below: glibc declares functions called __expf */

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __shared__ static_assert(false, "shared memory goes through PAPA_SHARED or PAPA_SHARED_DYNAMIC");

#define PAPA_CHEVRONS(kernel, grid, block, shared, stream, ...) \
    ::cudaemu::launch(#kernel, (kernel), (grid), (block), (shared), (stream)__VA_OPT__(, ) __VA_ARGS__)
#define PAPA_SHARED(T, name, n)                    \
    static const char name##_identity_ = 0;        \
    [[maybe_unused]] T(&name)[n] = *static_cast<T(*)[n]>(::cudaemu::shared_array(&name##_identity_, #name, sizeof(T[n]), alignof(T)))
#define PAPA_SHARED_DYNAMIC(T, name) [[maybe_unused]] T *name = static_cast<T *>(::cudaemu::dynamic_shared())

namespace cudaemu {

/* To a kernel these are constants, which also keeps reads of them out of the strict build's checks (so none is a dim3: GCC does not take what
 * has a constructor for a constant). cudaemu_block.cpp writes them. */
extern const uint3 thread_index asm("cudaemu_thread_index"), block_index asm("cudaemu_block_index");
extern const uint3 block_shape asm("cudaemu_block_shape"), grid_shape asm("cudaemu_grid_shape");

/* Faults unless every thread of the block comes to the same place (`site`). */
void barrier(int site, const char *file, int line);
/* All lanes in mask meet at the same kind of operation; returns the value of the lane that `kind` and `operand` select. */
enum class Shuffle { Index, Up, Down, Xor };
uint64_t warp_shuffle(unsigned mask, uint64_t value, Shuffle kind, int operand, int width);
unsigned warp_vote(unsigned mask, bool predicate);
void warp_sync(unsigned mask);
unsigned active_lanes(); /* those that have not returned */

void *shared_array(const void *identity, const char *name, size_t bytes, size_t alignment);
void *dynamic_shared();

enum class Atomic { Add, Min, Max, And, Or, Xor, Exchange, CompareSwap };
int32_t atomic(int32_t *p, Atomic kind, int32_t value, int32_t compare = 0);
uint32_t atomic(uint32_t *p, Atomic kind, uint32_t value, uint32_t compare = 0);
uint64_t atomic(uint64_t *p, Atomic kind, uint64_t value, uint64_t compare = 0);

/* Copies the arguments, and runs one thread with a call of `call` on the copy. */
void launch(const char *name, const void *kernel, dim3 grid, dim3 block, size_t shared, cudaStream_t stream, void (*call)(const void *arguments),
    const void *arguments, size_t bytes);

template <class... P> struct Arguments {
    void (*kernel)(P...);
    std::tuple<P...> values;
    static void call(const void *self)
    {
        const Arguments *a = static_cast<const Arguments *>(self);
        std::apply(a->kernel, a->values);
    }
};

/* Braces, so that an argument that would lose bits on its way into a parameter doesn't compile. */
template <class P, class A> P parameter(A &&argument) { return P{std::forward<A>(argument)}; }

template <class... P, class... A>
void launch(const char *name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, cudaStream_t stream, A &&...arguments)
{
    static_assert(sizeof...(P) == sizeof...(A), "the kernel takes another number of arguments");
    static_assert((std::is_trivially_copyable_v<P> && ... && true), "a kernel's parameters are copied byte by byte");
    static_assert(sizeof(std::tuple<P...>) <= 4096, "a kernel's parameters take at most 4096 bytes");
    Arguments<P...> packed{kernel, std::tuple<P...>(parameter<P>(std::forward<A>(arguments))...)};
    launch(name, reinterpret_cast<const void *>(kernel), grid, block, shared, stream, &Arguments<P...>::call, &packed, sizeof packed);
}

template <class T> T shuffle(unsigned mask, T value, Shuffle kind, int operand, int width)
{
    static_assert(sizeof(T) <= 8 && std::is_arithmetic_v<T>, "shuffles take numbers of at most 8 bytes");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    bits = warp_shuffle(mask, bits, kind, operand, width);
    memcpy(&value, &bits, sizeof value);
    return value;
}

inline float fast_exp(float x) { return expf(x); }
inline float fast_log(float x) { return logf(x); }
inline float fast_pow(float x, float y) { return powf(x, y); }
inline float fast_sin(float x) { return sinf(x); }
inline float fast_cos(float x) { return cosf(x); }

template <class To, class From> To bits_as(From from)
{
    static_assert(sizeof(To) == sizeof(From), "");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}

} // namespace cudaemu

#define threadIdx ::cudaemu::thread_index
#define blockIdx ::cudaemu::block_index
#define blockDim ::cudaemu::block_shape
#define gridDim ::cudaemu::grid_shape
static constexpr int warpSize = 32;

/* A barrier is known by where it stands in the text, so that two of them on one line or in one macro are told apart. */
#define __syncthreads() ::cudaemu::barrier(__COUNTER__, __FILE__, __LINE__)
static inline void __syncwarp(unsigned mask = 0xffffffffu) { ::cudaemu::warp_sync(mask); }

template <class T> T __shfl_sync(unsigned mask, T x, int lane, int width = 32) { return ::cudaemu::shuffle(mask, x, ::cudaemu::Shuffle::Index, lane, width); }
template <class T> T __shfl_up_sync(unsigned mask, T x, unsigned by, int width = 32) { return ::cudaemu::shuffle(mask, x, ::cudaemu::Shuffle::Up, (int)by, width); }
template <class T> T __shfl_down_sync(unsigned mask, T x, unsigned by, int width = 32) { return ::cudaemu::shuffle(mask, x, ::cudaemu::Shuffle::Down, (int)by, width); }
template <class T> T __shfl_xor_sync(unsigned mask, T x, int lanes, int width = 32) { return ::cudaemu::shuffle(mask, x, ::cudaemu::Shuffle::Xor, lanes, width); }
static inline unsigned __ballot_sync(unsigned mask, int predicate) { return ::cudaemu::warp_vote(mask, predicate != 0); }
static inline int __any_sync(unsigned mask, int predicate) { return ::cudaemu::warp_vote(mask, predicate != 0) != 0; }
static inline int __all_sync(unsigned mask, int predicate) { return ::cudaemu::warp_vote(mask, predicate == 0) == 0; }

static inline int atomicAdd(int *p, int v) { return ::cudaemu::atomic(p, ::cudaemu::Atomic::Add, v); }
static inline unsigned atomicAdd(unsigned *p, unsigned v) { return ::cudaemu::atomic(p, ::cudaemu::Atomic::Add, v); }
static inline unsigned long long atomicAdd(unsigned long long *p, unsigned long long v) { return ::cudaemu::atomic(reinterpret_cast<uint64_t *>(p), ::cudaemu::Atomic::Add, v); }
float atomicAdd(float *, float) = delete; /* the order of the additions would show in the sum */
double atomicAdd(double *, double) = delete;
static inline int atomicMin(int *p, int v) { return ::cudaemu::atomic(p, ::cudaemu::Atomic::Min, v); }
static inline unsigned atomicMin(unsigned *p, unsigned v) { return ::cudaemu::atomic(p, ::cudaemu::Atomic::Min, v); }
static inline int atomicMax(int *p, int v) { return ::cudaemu::atomic(p, ::cudaemu::Atomic::Max, v); }
static inline unsigned atomicMax(unsigned *p, unsigned v) { return ::cudaemu::atomic(p, ::cudaemu::Atomic::Max, v); }
static inline int atomicAnd(int *p, int v) { return ::cudaemu::atomic(p, ::cudaemu::Atomic::And, v); }
static inline unsigned atomicAnd(unsigned *p, unsigned v) { return ::cudaemu::atomic(p, ::cudaemu::Atomic::And, v); }
static inline int atomicOr(int *p, int v) { return ::cudaemu::atomic(p, ::cudaemu::Atomic::Or, v); }
static inline unsigned atomicOr(unsigned *p, unsigned v) { return ::cudaemu::atomic(p, ::cudaemu::Atomic::Or, v); }
static inline unsigned atomicXor(unsigned *p, unsigned v) { return ::cudaemu::atomic(p, ::cudaemu::Atomic::Xor, v); }
static inline int atomicExch(int *p, int v) { return ::cudaemu::atomic(p, ::cudaemu::Atomic::Exchange, v); }
static inline unsigned atomicExch(unsigned *p, unsigned v) { return ::cudaemu::atomic(p, ::cudaemu::Atomic::Exchange, v); }
static inline int atomicCAS(int *p, int compare, int v) { return ::cudaemu::atomic(p, ::cudaemu::Atomic::CompareSwap, v, compare); }
static inline unsigned atomicCAS(unsigned *p, unsigned compare, unsigned v) { return ::cudaemu::atomic(p, ::cudaemu::Atomic::CompareSwap, v, compare); }

template <class T> static __forceinline__ T __ldg(const T *p) { return *p; }

static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((uint64_t)a * b >> 32); }
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) { return (unsigned long long)((unsigned __int128)a * b >> 64); }

static inline float rsqrtf(float x) { return 1.f / sqrtf(x); }
static inline double rsqrt(double x) { return 1. / sqrt(x); }
static inline float __fdividef(float a, float b) { return a / b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline float __frcp_rn(float x) { return 1.f / x; }
static inline float __fsqrt_rn(float x) { return sqrtf(x); }
static inline float __frsqrt_rn(float x) { return 1.f / sqrtf(x); }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline float __saturatef(float x) { return x > 0.f ? (x < 1.f ? x : 1.f) : 0.f; }
static inline int __float2int_rn(float x) { return (int)rintf(x); }
static inline int __float2int_rd(float x) { return (int)floorf(x); }
static inline float __int2float_rn(int x) { return (float)x; }
static inline float __uint2float_rn(unsigned x) { return (float)x; }
static inline unsigned __float_as_uint(float x) { return ::cudaemu::bits_as<unsigned>(x); }
static inline int __float_as_int(float x) { return ::cudaemu::bits_as<int>(x); }
static inline float __uint_as_float(unsigned x) { return ::cudaemu::bits_as<float>(x); }
static inline float __int_as_float(int x) { return ::cudaemu::bits_as<float>(x); }
#define __expf(x) ::cudaemu::fast_exp(x)
#define __logf(x) ::cudaemu::fast_log(x)
#define __powf(x, y) ::cudaemu::fast_pow((x), (y))
#define __sinf(x) ::cudaemu::fast_sin(x)
#define __cosf(x) ::cudaemu::fast_cos(x)

/* CUDA's own overloads: both arguments of one type, or an int beside an unsigned. fminf and fmaxf for the rule about NaN. */
#define CUDAEMU_MIN_MAX(T)                                                \
    static inline constexpr T min(T a, T b) { return b < a ? b : a; }     \
    static inline constexpr T max(T a, T b) { return a < b ? b : a; }
CUDAEMU_MIN_MAX(int)
CUDAEMU_MIN_MAX(unsigned)
CUDAEMU_MIN_MAX(long)
CUDAEMU_MIN_MAX(unsigned long)
CUDAEMU_MIN_MAX(long long)
CUDAEMU_MIN_MAX(unsigned long long)
#undef CUDAEMU_MIN_MAX
static inline constexpr unsigned min(int a, unsigned b) { return min((unsigned)a, b); }
static inline constexpr unsigned min(unsigned a, int b) { return min(a, (unsigned)b); }
static inline constexpr unsigned max(int a, unsigned b) { return max((unsigned)a, b); }
static inline constexpr unsigned max(unsigned a, int b) { return max(a, (unsigned)b); }
static inline float min(float a, float b) { return fminf(a, b); }
static inline float max(float a, float b) { return fmaxf(a, b); }
static inline double min(double a, double b) { return fmin(a, b); }
static inline double max(double a, double b) { return fmax(a, b); }

static inline int2 make_int2(int x, int y) { return {x, y}; }
static inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
static inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float3 make_float3(float x, float y, float z) { return {x, y, z}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline double2 make_double2(double x, double y) { return {x, y}; }
static inline uchar4 make_uchar4(unsigned char x, unsigned char y, unsigned char z, unsigned char w) { return {x, y, z, w}; }

#endif
