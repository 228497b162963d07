/* Averaging members: flat memory in, flat memory out.
 *
 * pull: w_j[i] <- alpha * w_j[i] + (1 - alpha) * mean_k w_k[i] for all p members j at once, i in [0, n); the mean is taken before any of them
 *       moves. Computed from differences, mean = w_0 + (1/p) sum (w_k - w_0) in float32: members that are equal stay as they are, bit for bit.
 *       members: p pointers in host memory; numbers in device memory.
 * mean: to[i] = sum_k weights[k] * from_k[i], accumulated in float64, rounded once: sources that are equal give their value, bit for bit, where
 *       the weights sum to 1. weights: p in host memory, used as they are; NULL: 1/p each. `to` may be one of the sources.
 *
 * p <= PAPA_MIX_MAX. Pointers are aligned to 64 bytes. No allocation; asynchronous on dev's stream; results do not depend on the
 * thread count, nor on how [0, n) is cut at multiples of PAPA_MIX_BLOCK into calls. */
#ifndef PAPA_MIX_H
#define PAPA_MIX_H

#include "device/device.h"

#define PAPA_MIX_MAX 256  /* pointers that fit a kernel's parameters */
#define PAPA_MIX_BLOCK 1024

typedef struct PapaMixNumbers {
    float pull; /* 1 - alpha: alpha is so near to 1 that float32 would lose it */
} PapaMixNumbers;

typedef PapaStatus papa_mix_pull_fn(PapaDevice *dev, float *const *members, int p, const PapaMixNumbers *numbers, int64_t n);
papa_mix_pull_fn papa_mix_pull_cpu, papa_mix_pull_cuda;

typedef PapaStatus papa_mix_mean_fn(PapaDevice *dev, float *to, const float *const *from, const double *weights, int p, int64_t n);
papa_mix_mean_fn papa_mix_mean_cpu, papa_mix_mean_cuda;

#endif
