/* Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
 *
 * A number is a pure function of (key, counter), so the order in which members, samples and threads draw does not
 * matter and both devices draw the same. Nothing is hidden: a stream is a value that its owner copies and advances. */
#ifndef PAPA_RNG_H
#define PAPA_RNG_H

#include <stdint.h>

typedef struct PapaRng {
    uint32_t key[2];
    uint32_t counter[4]; /* [0] counts blocks of four within the stream; [1..3] name the stream */
    uint32_t block[4];
    int left; /* unread words of block */
} PapaRng;

/* What a stream is for. Part of its name, so that two uses never share numbers. */
typedef enum PapaRngUse {
    PAPA_RNG_INIT = 1, /* a member's initial weights; a = tensor index */
    PAPA_RNG_ORDER,    /* a member's data order; a = epoch */
    PAPA_RNG_AUGMENT,  /* one sample's augmentation; a = epoch, b = position in the epoch */
    PAPA_RNG_BATCH,    /* one batch's mixup and CutMix; a = step */
    PAPA_RNG_DROPOUT,  /* one node's mask; a = step, b = node */
    PAPA_RNG_GRID,     /* dealing the cells of the regularisation grid; the population's */
    PAPA_RNG_PAIRS,    /* papa-2's pairs; a = epoch; the population's */
    PAPA_RNG_SPLIT,    /* which samples are held out; the population's */
    PAPA_RNG_SAMPLE,   /* the batches that REPAIR measures on; a = batch */
    PAPA_RNG_TEST,     /* the test suites' own */
    PAPA_RNG_MERGE,    /* which differences DARE keeps of model `member`; a = tensor, b = what the number of a block of four has above 32 bits */
    PAPA_RNG_PROVE,    /* a proof's inputs, tensors and permutations, which a tells apart; b = index */
    PAPA_RNG_DIAGNOSE, /* permutations that a similarity is compared with, of model `member`; a = draw, b = group */
    PAPA_RNG_MATCH,    /* the order in which units are matched; a = search, b = sweep */
} PapaRngUse;

/* member counts from 0; streams of the whole population use -1. */
PapaRng papa_rng(uint64_t seed, PapaRngUse use, int member, uint32_t a, uint32_t b);

#define PAPA_PHILOX_ROUNDS 10
#define PAPA_PHILOX_W0 0x9E3779B9u /* added to the key between rounds */
#define PAPA_PHILOX_W1 0xBB67AE85u

#ifdef __CUDACC__
#define PAPA_BOTH_DEVICES __host__ __device__
#else
#define PAPA_BOTH_DEVICES
#endif

/* One round on the four words of a counter. */
PAPA_BOTH_DEVICES static inline void papa_philox_round(uint32_t *c0, uint32_t *c1, uint32_t *c2, uint32_t *c3, uint32_t k0, uint32_t k1)
{
    uint64_t p0 = (uint64_t)0xD2511F53u * *c0, p1 = (uint64_t)0xCD9E8D57u * *c2;
    *c0 = (uint32_t)(p1 >> 32) ^ *c1 ^ k0;
    *c1 = (uint32_t)p1;
    *c2 = (uint32_t)(p0 >> 32) ^ *c3 ^ k1;
    *c3 = (uint32_t)p0;
}

/* One block of Philox4x32-10: out = philox(counter, key). */
PAPA_BOTH_DEVICES static inline void papa_philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3], k0 = key[0], k1 = key[1];
    for (int round = 0; round < PAPA_PHILOX_ROUNDS; round++, k0 += PAPA_PHILOX_W0, k1 += PAPA_PHILOX_W1)
        papa_philox_round(&c0, &c1, &c2, &c3, k0, k1);
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

uint32_t papa_rng_u32(PapaRng *rng);
uint32_t papa_rng_below(PapaRng *rng, uint32_t n);       /* uniform on [0, n), unbiased; n > 0 */
float papa_rng_float(PapaRng *rng);                      /* uniform on [0, 1), 24 bits */
double papa_rng_double(PapaRng *rng);                    /* uniform on [0, 1), 53 bits */
double papa_rng_normal(PapaRng *rng);                    /* standard normal */
double papa_rng_gamma(PapaRng *rng, double shape);       /* Gamma(shape, 1), shape > 0; Marsaglia and Tsang 2000 */
double papa_rng_beta(PapaRng *rng, double a, double b);  /* Beta(a, b), a, b > 0 */
void papa_rng_shuffle(PapaRng *rng, uint32_t *items, uint32_t n); /* Fisher-Yates */

#endif
