/* Blocks of random words are made in chunks, one array for each word of a block, so that the rounds run on whole vectors. */
#include "kernels/dropout.h"

#include "base/rng.h"

#include <assert.h>
#include <math.h>

#define CHUNK 64 /* blocks of four words */
#define GRAIN ((int64_t)1 << 10)

typedef struct Dropout {
    float *y;
    const float *x;
    int64_t n;
    uint32_t key[2], name[2], node, threshold;
    float scale;
    bool accumulate;
} Dropout;

/* words[j][i]: word j of block first + i, as papa_philox makes it; here one round of all blocks after the other. */
static inline void random_words(uint32_t words[4][CHUNK], const Dropout *d, uint32_t first)
{
    uint32_t k0 = d->key[0], k1 = d->key[1];
    for (uint32_t i = 0; i < CHUNK; i++) {
        words[0][i] = first + i;
        words[1][i] = d->name[0];
        words[2][i] = d->node;
        words[3][i] = d->name[1];
    }
    for (int round = 0; round < PAPA_PHILOX_ROUNDS; round++) {
        for (int i = 0; i < CHUNK; i++)
            papa_philox_round(&words[0][i], &words[1][i], &words[2][i], &words[3][i], k0, k1);
        k0 += PAPA_PHILOX_W0;
        k1 += PAPA_PHILOX_W1;
    }
}

/* y may be x, but no element of it is read after it was written. */
static inline void scale_kept(float *y, const float *x, const uint32_t *keep, int64_t n, float scale, bool accumulate)
{
#pragma omp simd
    for (int64_t e = 0; e < n; e++) {
        float kept = keep[e] ? x[e] * scale : 0;
        y[e] = accumulate ? y[e] + kept : kept;
    }
}

/* begin, end: blocks. */
PAPA_SIMD
static void dropout_range(void *context, int64_t begin, int64_t end)
{
    const Dropout *d = context;
    uint32_t words[4][CHUNK], keep[4 * CHUNK];
    for (int64_t block = begin; block < end; block += CHUNK) {
        int64_t first = 4 * block, n = (end - block < CHUNK ? end - block : CHUNK) * 4;
        if (n > d->n - first)
            n = d->n - first;
        random_words(words, d, (uint32_t)block);
        for (int i = 0; i < CHUNK; i++)
            for (int j = 0; j < 4; j++)
                keep[4 * i + j] = words[j][i] >= d->threshold;
        if (d->accumulate)
            scale_kept(d->y + first, d->x + first, keep, n, d->scale, true);
        else
            scale_kept(d->y + first, d->x + first, keep, n, d->scale, false);
    }
}

PapaStatus papa_dropout_cpu(PapaDevice *dev, float *y, const float *x, int64_t n, float ratio, const uint32_t key[2],
    const uint32_t name[2], uint32_t node, bool accumulate)
{
    assert(ratio >= 0 && ratio < 1 && n < PAPA_DROPOUT_MAX);
    Dropout context = {
        .y = y, .x = x, .n = n, .key = {key[0], key[1]}, .name = {name[0], name[1]}, .node = node,
        .threshold = (uint32_t)ceilf(ratio * 0x1p32f), .scale = 1 / (1 - ratio), .accumulate = accumulate,
    };
    papa_ranges(dev, (n + 3) / 4, GRAIN, dropout_range, &context);
    return PAPA_OK;
}
