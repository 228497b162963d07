#include "base/rng.h"

#include <math.h>

PapaRng papa_rng(uint64_t seed, PapaRngUse use, int member, uint32_t a, uint32_t b)
{
    return (PapaRng){
        .key = {(uint32_t)seed, (uint32_t)(seed >> 32)},
        .counter = {0, a, b, (uint32_t)use << 24 | ((uint32_t)(member + 1) & 0xFFFFFFu)},
    };
}

uint32_t papa_rng_u32(PapaRng *rng)
{
    if (!rng->left) {
        papa_philox(rng->block, rng->counter, rng->key);
        rng->counter[0]++;
        rng->left = 4;
    }
    return rng->block[4 - rng->left--];
}

/* Lemire's multiply-and-reject (ACM TOMACS 29, 2019). */
uint32_t papa_rng_below(PapaRng *rng, uint32_t n)
{
    uint64_t m = (uint64_t)papa_rng_u32(rng) * n;
    if ((uint32_t)m < n) {
        uint32_t threshold = -n % n;
        while ((uint32_t)m < threshold)
            m = (uint64_t)papa_rng_u32(rng) * n;
    }
    return (uint32_t)(m >> 32);
}

float papa_rng_float(PapaRng *rng)
{
    return (float)(papa_rng_u32(rng) >> 8) * 0x1p-24f;
}

double papa_rng_double(PapaRng *rng)
{
    uint64_t high = papa_rng_u32(rng), low = papa_rng_u32(rng);
    return (double)((high << 32 | low) >> 11) * 0x1p-53;
}

double papa_rng_normal(PapaRng *rng)
{
    double radius = sqrt(-2 * log(1 - papa_rng_double(rng)));
    return radius * cos(2 * M_PI * papa_rng_double(rng));
}

double papa_rng_gamma(PapaRng *rng, double shape)
{
    if (shape < 1) /* Gamma(a) = Gamma(a + 1) U^(1/a) */
        return papa_rng_gamma(rng, shape + 1) * pow(1 - papa_rng_double(rng), 1 / shape);
    double d = shape - 1.0 / 3, c = 1 / sqrt(9 * d);
    for (;;) {
        double x = papa_rng_normal(rng), v = 1 + c * x;
        if (v <= 0)
            continue;
        v = v * v * v;
        double u = 1 - papa_rng_double(rng);
        if (log(u) < 0.5 * x * x + d * (1 - v + log(v)))
            return d * v;
    }
}

double papa_rng_beta(PapaRng *rng, double a, double b)
{
    double x = papa_rng_gamma(rng, a), y = papa_rng_gamma(rng, b);
    /* Both underflow for tiny a and b; the distribution is then a coin between the ends. */
    return x + y > 0 ? x / (x + y) : papa_rng_double(rng) < a / (a + b);
}

void papa_rng_shuffle(PapaRng *rng, uint32_t *items, uint32_t n)
{
    for (uint32_t i = n; i > 1; i--) {
        uint32_t j = papa_rng_below(rng, i), t = items[i - 1];
        items[i - 1] = items[j];
        items[j] = t;
    }
}
