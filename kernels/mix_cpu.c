/* Each block of elements is read once, summed in the first-level cache and written once: the passes cost what the memory costs. */
#include "kernels/mix.h"

#include <assert.h>

#define BLOCK ((int64_t)PAPA_MIX_BLOCK)
#define GRAIN 16 /* blocks */

static int64_t block_count(int64_t n)
{
    return (n + BLOCK - 1) / BLOCK;
}

static int64_t block_length(int64_t n, int64_t block)
{
    int64_t left = n - block * BLOCK;
    return left < BLOCK ? left : BLOCK;
}

typedef struct Pull {
    float *const *members;
    int p;
    float step; /* 1 - alpha */
    int64_t n;
} Pull;

PAPA_SIMD static void pull_blocks(void *context, int64_t first, int64_t last)
{
    const Pull *k = context;
    float mean[BLOCK], over_p = 1 / (float)k->p, step = k->step;
    for (int64_t block = first; block < last; block++) {
        int64_t at = block * BLOCK, n = block_length(k->n, block);
        const float *base = k->members[0] + at;
        for (int64_t i = 0; i < n; i++)
            mean[i] = 0;
        for (int j = 1; j < k->p; j++) {
            const float *w = k->members[j] + at;
            for (int64_t i = 0; i < n; i++)
                mean[i] += w[i] - base[i];
        }
        for (int64_t i = 0; i < n; i++)
            mean[i] = base[i] + over_p * mean[i];
        for (int j = 0; j < k->p; j++) {
            float *w = k->members[j] + at;
            for (int64_t i = 0; i < n; i++)
                w[i] += step * (mean[i] - w[i]);
        }
    }
}

PapaStatus papa_mix_pull_cpu(PapaDevice *dev, float *const *members, int p, const PapaMixNumbers *numbers, int64_t n)
{
    assert(p >= 1 && p <= PAPA_MIX_MAX);
    Pull k = {.members = members, .p = p, .step = numbers->pull, .n = n};
    papa_ranges(dev, block_count(n), GRAIN, pull_blocks, &k);
    return PAPA_OK;
}

typedef struct Mean {
    float *to;
    const float *const *from;
    const double *weights;
    int p;
    int64_t n;
} Mean;

PAPA_SIMD static void mean_blocks(void *context, int64_t first, int64_t last)
{
    const Mean *k = context;
    double sum[BLOCK];
    for (int64_t block = first; block < last; block++) {
        int64_t at = block * BLOCK, n = block_length(k->n, block);
        for (int64_t i = 0; i < n; i++)
            sum[i] = 0;
        for (int j = 0; j < k->p; j++) {
            const float *x = k->from[j] + at;
            double weight = k->weights ? k->weights[j] : 1.0 / k->p;
            for (int64_t i = 0; i < n; i++)
                sum[i] += weight * x[i];
        }
        for (int64_t i = 0; i < n; i++)
            k->to[at + i] = (float)sum[i];
    }
}

PapaStatus papa_mix_mean_cpu(PapaDevice *dev, float *to, const float *const *from, const double *weights, int p, int64_t n)
{
    assert(p >= 1 && p <= PAPA_MIX_MAX);
    Mean k = {.to = to, .from = from, .weights = weights, .p = p, .n = n};
    papa_ranges(dev, block_count(n), GRAIN, mean_blocks, &k);
    return PAPA_OK;
}
