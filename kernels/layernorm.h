/* Layer normalisation (Ba, Kiros and Hinton 2016) and its gradients.
 *
 *     y = x^ * scale + shift,  x^ = (x - mean) * rstd,  rstd = 1 / sqrt(variance + eps)
 *
 * x, y and their gradients: (rows, D), dense; scale, shift: (D) float32; mean, rstd: (rows) float32, over each row, of the population.
 * The variance is taken around the mean, so that a large mean costs no digits. Sums down the rows run in blocks and are joined in double, in an
 * order that depends on the shape alone.
 * No allocation; asynchronous on dev's stream. Sizes may be 0: with D = 0 the mean is 0 and rstd 1 / sqrt(eps). */
#ifndef PAPA_LAYERNORM_H
#define PAPA_LAYERNORM_H

#include "device/device.h"

#include <stddef.h>

typedef struct PapaLayerNorm {
    int64_t rows, D;
    float eps;
} PapaLayerNorm;

/* Bytes of workspace for the backward call, aligned like papa_device_alloc's memory. */
typedef size_t papa_layernorm_workspace_fn(int64_t rows, int64_t D);
papa_layernorm_workspace_fn papa_layernorm_workspace_cpu, papa_layernorm_workspace_cuda;

/* shift may be NULL: 0. mean and rstd are written; either may be NULL. y may be x. */
typedef PapaStatus papa_layernorm_fwd_fn(PapaDevice *dev, const PapaLayerNorm *ln, PapaReal *y, float *mean, float *rstd, const PapaReal *x,
    const float *scale, const float *shift);
papa_layernorm_fwd_fn papa_layernorm_fwd_cpu, papa_layernorm_fwd_cuda, papa_layernorm_fwd_ref;

/* Which gradients backward adds to instead of overwriting. */
enum { PAPA_LAYERNORM_DX = 1, PAPA_LAYERNORM_DSCALE = 2, PAPA_LAYERNORM_DSHIFT = 4 };

typedef struct PapaLayerNormGradients {
    PapaReal *dx; /* NULL: not wanted; so for the others. dx may be dy */
    float *dscale, *dshift;
    unsigned accumulate;
} PapaLayerNormGradients;

/* With g = dy * scale:  dx = rstd * (g - mean of g - x^ * mean of g * x^), means over the row;
 *                       dscale = sum of dy * x^, dshift = sum of dy, over the rows. */
typedef PapaStatus papa_layernorm_bwd_fn(PapaDevice *dev, const PapaLayerNorm *ln, const PapaLayerNormGradients *to, const PapaReal *dy,
    const PapaReal *x, const float *scale, const float *mean, const float *rstd, void *workspace);
papa_layernorm_bwd_fn papa_layernorm_bwd_cpu, papa_layernorm_bwd_cuda;

#endif
