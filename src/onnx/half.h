/* float16 and bfloat16 as bit patterns. Conversions to them round to nearest even and keep NaN a NaN. */
#ifndef PAPA_HALF_H
#define PAPA_HALF_H

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
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(bits >> 16 | 0x40); /* quiet, so that cutting the payload can't make it infinite */
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static inline float papa_float16_to_float(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = (uint32_t)(h & 0x7fff) << 13;
    if (rest >= 0x7c00u << 13) /* infinite or NaN */
        return papa_bits_float(sign | (rest + ((255u - 31u) << 23)));
    if (rest >= 0x0400u << 13) /* normal: exponent bias 15 becomes 127 */
        return papa_bits_float(sign | (rest + (112u << 23)));
    /* Subnormal: placed behind the exponent of 2^-14, whose leading one is then taken away exactly. */
    return papa_bits_float(sign | papa_float_bits(papa_bits_float(rest + (113u << 23)) - 0x1p-14f));
}

static inline uint16_t papa_float_to_float16(float value)
{
    uint32_t bits = papa_float_bits(value), sign = bits >> 16 & 0x8000;
    bits &= 0x7fffffff;
    if (bits > 0x7f800000)
        return (uint16_t)(sign | 0x7e00 | (bits >> 13 & 0x3ff));
    if (bits >= 0x477ff000) /* 65520 and above round to infinity */
        return (uint16_t)(sign | 0x7c00);
    if (bits < 0x38800000) /* below 2^-14: adding 1/2 lets the adder round at 2^-24 */
        return (uint16_t)(sign | (papa_float_bits(papa_bits_float(bits) + 0.5f) - 0x3f000000));
    return (uint16_t)(sign | ((bits + 0xfff + (bits >> 13 & 1) - (112u << 23)) >> 13));
}

#endif
