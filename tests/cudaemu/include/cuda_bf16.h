/* bfloat16 as papa uses it: kept, and converted to and from float. NVIDIA's type also has arithmetic of its own, which rounds after each
 * operation; here it does not compile, nor does the implicit conversion that would hide it. */
#ifndef CUDA_BF16_H
#define CUDA_BF16_H

#include "vector_types.h"

#include <stdint.h>
#include <string.h>

#ifdef __cplusplus

struct __attribute__((aligned(2))) __nv_bfloat16 {
    __nv_bfloat16() = default;
    explicit __nv_bfloat16(float f)
    {
        uint32_t u;
        memcpy(&u, &f, sizeof u);
        if ((u & 0x7fffffffu) > 0x7f800000u)
            bits_ = 0x7fff; /* every NaN becomes this one, as on the GPU */
        else
            bits_ = (uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16); /* to nearest, ties to even */
    }
    explicit operator float() const
    {
        uint32_t u = (uint32_t)bits_ << 16;
        float f;
        memcpy(&f, &u, sizeof f);
        return f;
    }

private:
    uint16_t bits_;
};
typedef __nv_bfloat16 nv_bfloat16;

struct __attribute__((aligned(4))) __nv_bfloat162 {
    __nv_bfloat16 x, y;
};
typedef __nv_bfloat162 nv_bfloat162;

static inline __nv_bfloat16 __float2bfloat16(float f) { return __nv_bfloat16(f); }
static inline __nv_bfloat16 __float2bfloat16_rn(float f) { return __nv_bfloat16(f); }
static inline float __bfloat162float(__nv_bfloat16 b) { return static_cast<float>(b); }
static inline __nv_bfloat162 __floats2bfloat162_rn(float a, float b) { return {__nv_bfloat16(a), __nv_bfloat16(b)}; }
static inline __nv_bfloat162 __float22bfloat162_rn(float2 f) { return {__nv_bfloat16(f.x), __nv_bfloat16(f.y)}; }
static inline float2 __bfloat1622float2(__nv_bfloat162 b) { return {static_cast<float>(b.x), static_cast<float>(b.y)}; }
static inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short u)
{
    __nv_bfloat16 b;
    memcpy(static_cast<void *>(&b), &u, sizeof b);
    return b;
}
static inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 b)
{
    unsigned short u;
    memcpy(&u, &b, sizeof u);
    return u;
}

#endif
#endif
