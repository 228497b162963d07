/* float16 and bfloat16 as bit patterns. Conversions to them round to nearest even, once, and keep NaN a NaN. They are
 * written as choices between values, not as branches, so that loops over them become vector code. */
#ifndef PAPA_HALF_H
#define PAPA_HALF_H

#include <math.h>
#include <stdint.h>
#include <string.h>

static inline uint32_t papa_float_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float papa_bits_float(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline float papa_bfloat16_to_float(uint16_t h)
{
    return papa_bits_float((uint32_t)h << 16);
}

static inline uint16_t papa_float_to_bfloat16(float value)
{
    uint32_t bits = papa_float_bits(value);
    uint32_t nan = bits >> 16 | 0x40; /* quiet, so that cutting the payload can't make it infinite */
    uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    return (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? nan : rounded);
}

static inline float papa_float16_to_float(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = (uint32_t)(h & 0x7fff) << 13;
    uint32_t special = rest + ((255u - 31u) << 23); /* infinite or NaN */
    uint32_t normal = rest + (112u << 23);          /* exponent bias 15 becomes 127 */
    /* Subnormal: placed behind the exponent of 2^-14, whose leading one is then taken away exactly. */
    uint32_t subnormal = papa_float_bits(papa_bits_float(rest + (113u << 23)) - 0x1p-14f);
    return papa_bits_float(sign | (rest >= 0x7c00u << 13 ? special : rest >= 0x0400u << 13 ? normal : subnormal));
}

static inline uint16_t papa_float_to_float16(float value)
{
    uint32_t all = papa_float_bits(value), sign = all >> 16 & 0x8000, bits = all & 0x7fffffff;
    uint32_t nan = 0x7e00 | (bits >> 13 & 0x3ff);
    uint32_t normal = (bits + 0xfff + (bits >> 13 & 1) - (112u << 23)) >> 13;
    /* Below 2^-14: adding 1/2 lets the adder round at 2^-24. */
    uint32_t subnormal = papa_float_bits(papa_bits_float(bits) + 0.5f) - 0x3f000000;
    uint32_t finite = bits < 0x38800000 ? subnormal : bits < 0x477ff000 ? normal : 0x7c00; /* 65520 and above round to infinity */
    return (uint16_t)(sign | (bits > 0x7f800000 ? nan : finite));
}

/* value rounded to odd: exact, or the one of its two neighbours whose last bit is set, which stands for all that lies
 * between them. What is rounded to nearest from it, to 22 bits or fewer, is rounded as from value itself; by way of the
 * nearest float, a value just beside the middle between two halves would be rounded twice. */
static inline float papa_double_to_float_odd(double value)
{
    float near = (float)value;
    uint32_t bits = papa_float_bits(near), even = ~bits & 1;
    double got = fabs((double)near), want = fabs(value);
    return papa_bits_float(bits + (got < want ? even : 0) - (got > want ? even : 0));
}

static inline uint16_t papa_double_to_float16(double value)
{
    return papa_float_to_float16(papa_double_to_float_odd(value));
}

static inline uint16_t papa_double_to_bfloat16(double value)
{
    return papa_float_to_bfloat16(papa_double_to_float_odd(value));
}

#endif
