/* exp, tanh, exp(x) - 1 and erf in float32 as plain arithmetic, so that loops over them vectorise on every CPU and give the same
 * bits as one call. exp and tanh within 2 units in the last place, the others within 4; NaN stays NaN, infinities go where they
 * should. */
#ifndef PAPA_EXPF_H
#define PAPA_EXPF_H

#include <stdint.h>
#include <string.h>

static inline __attribute__((always_inline)) float papa_bits_float(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline __attribute__((always_inline)) uint32_t papa_float_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

/* exp(x) = 2^k exp(r), k = round(x / ln 2), |r| <= ln 2 / 2, exp(r) by its series. */
static inline __attribute__((always_inline)) float papa_expf(float x)
{
    const float round = 12582912.f; /* 1.5 * 2^23: adding it leaves the nearest integer in the low bits */
    x = x > 89.f ? 89.f : x;        /* beyond both bounds the result is infinite or 0 anyway; a NaN passes */
    x = x < -104.f ? -104.f : x;
    float shifted = x * 1.44269504f + round, k = shifted - round;
    float r = x - k * 0.693145752f - k * 1.42860677e-6f; /* ln 2 in two parts; the first times k is exact */
    float p = 1.f / 5040;
    p = p * r + 1.f / 720;
    p = p * r + 1.f / 120;
    p = p * r + 1.f / 24;
    p = p * r + 1.f / 6;
    p = p * r + .5f;
    p = p * r + 1.f;
    p = p * r + 1.f;
    int32_t n = (int32_t)(papa_float_bits(shifted) - papa_float_bits(round));
    int32_t half = n >> 1; /* 2^k in two factors, as k may lie outside the exponent's range */
    return p * papa_bits_float((uint32_t)(half + 127) << 23) * papa_bits_float((uint32_t)(n - half + 127) << 23);
}

/* Near 0 the continued fraction x / (1 + x^2 / (3 + x^2 / (5 + ...))), where 1 - 2 / (exp(2 |x|) + 1) would cancel. */
static inline __attribute__((always_inline)) float papa_tanhf(float x)
{
    float z = x * x, size = papa_bits_float(papa_float_bits(x) & 0x7fffffffu);
    float near = x * (945.f + z * (105.f + z)) / (945.f + z * (420.f + 15.f * z));
    float far = 1.f - 2.f / (papa_expf(2.f * size) + 1.f);
    far = papa_bits_float(papa_float_bits(far) | (papa_float_bits(x) & 0x80000000u));
    return size < .625f ? near : far;
}

/* exp(x) - 1 for x <= 0, without the cancellation: (1 + t) / (1 - t) = exp(x) where t = tanh(x / 2). */
static inline __attribute__((always_inline)) float papa_expm1f(float x)
{
    float t = papa_tanhf(.5f * x);
    return 2.f * t / (1.f - t);
}

/* Near 0 the series 2 / sqrt(pi) * (x - x^3 / 3 + x^5 / (2! 5) - ...), else Abramowitz and Stegun, 7.1.26. */
static inline __attribute__((always_inline)) float papa_erff(float x)
{
    float z = x * x, size = papa_bits_float(papa_float_bits(x) & 0x7fffffffu);
    float p = -1.f / 75600;
    p = p * z + 1.f / 9360;
    p = p * z - 1.f / 1320;
    p = p * z + 1.f / 216;
    p = p * z - 1.f / 42;
    p = p * z + 1.f / 10;
    p = p * z - 1.f / 3;
    float near = 1.12837917f * (x + x * z * p);
    float t = 1.f / (1.f + .3275911f * size), q = 1.061405429f;
    q = q * t - 1.453152027f;
    q = q * t + 1.421413741f;
    q = q * t - .284496736f;
    q = q * t + .254829592f;
    float far = 1.f - q * t * papa_expf(-z);
    far = papa_bits_float(papa_float_bits(far) | (papa_float_bits(x) & 0x80000000u));
    return size < .75f ? near : far;
}

#endif
