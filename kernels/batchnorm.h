/* Batch normalisation (Ioffe and Szegedy 2015), its inference form and its gradients, with what usually follows joined to it.
 *
 *     y = (x - mean) * rstd * scale + shift [+ residual] [, max(0, that)],  rstd = 1 / sqrt(variance + eps)
 *
 * x, y, residual and their gradients: (rows, C), channels last, rows = N * the spatial axes; everything else: (C) float32.
 * The variance is the population's. Sums are taken in blocks of rows around each block's first row, so that a large mean
 * costs no digits, and joined in double in an order that depends on the shape alone.
 * No allocation; asynchronous on dev's stream. rows = 0 is allowed: then the batch's mean is 0 and its rstd 1 / sqrt(eps),
 * the running statistics stay, and the gradients of scale and shift are sums of nothing. */
#ifndef PAPA_BATCHNORM_H
#define PAPA_BATCHNORM_H

#include "device/device.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct PapaBatchNorm {
    int64_t rows, C;
    float eps;
    bool relu;
} PapaBatchNorm;

/* Bytes of workspace for each of the calls below, aligned like papa_device_alloc's memory. */
typedef size_t papa_batchnorm_workspace_fn(int64_t rows, int64_t C);
papa_batchnorm_workspace_fn papa_batchnorm_workspace_cpu, papa_batchnorm_workspace_cuda, papa_batchnorm_workspace_ref;

/* By the batch's statistics, written to mean and rstd. running_mean and running_var become m * running + (1 - m) * batch's,
 * with m = *step_momentum (device memory), or momentum where that is NULL. residual may be NULL, and y may be residual. */
typedef PapaStatus papa_batchnorm_fwd_batch_fn(PapaDevice *dev, const PapaBatchNorm *bn, PapaReal *y, float *mean, float *rstd,
    float *running_mean, float *running_var, const PapaReal *x, const float *scale, const float *shift, const PapaReal *residual,
    float momentum, const float *step_momentum, void *workspace);
papa_batchnorm_fwd_batch_fn papa_batchnorm_fwd_batch_cpu, papa_batchnorm_fwd_batch_cuda;

/* By the running statistics, which stay. mean and rstd, for backward, may be NULL, and so may residual; y may be x. */
typedef PapaStatus papa_batchnorm_fwd_running_fn(PapaDevice *dev, const PapaBatchNorm *bn, PapaReal *y, float *mean, float *rstd,
    const PapaReal *x, const float *scale, const float *shift, const float *running_mean, const float *running_var,
    const PapaReal *residual,
    void *workspace);
papa_batchnorm_fwd_running_fn papa_batchnorm_fwd_running_cpu, papa_batchnorm_fwd_running_cuda, papa_batchnorm_fwd_running_ref;

/* Which gradients backward adds to instead of overwriting. */
enum { PAPA_BATCHNORM_DX = 1, PAPA_BATCHNORM_DSCALE = 2, PAPA_BATCHNORM_DSHIFT = 4, PAPA_BATCHNORM_DRESIDUAL = 8 };

typedef struct PapaBatchNormGradients {
    PapaReal *dx; /* NULL: not wanted; so for the others. dx or dresidual may be dy */
    float *dscale, *dshift;
    PapaReal *dresidual;
    unsigned accumulate;
} PapaBatchNormGradients;

/* With g = dy where y > 0 and else 0 (g = dy without relu), and x^ = (x - mean) * rstd:
 *     dshift = sum of g, dscale = sum of g * x^, dresidual = g,
 *     dx = scale * rstd * (g - dshift / rows - x^ * dscale / rows), or scale * rstd * g with fixed statistics.
 * y is read with relu only, and may be NULL without. */
typedef PapaStatus papa_batchnorm_bwd_fn(PapaDevice *dev, const PapaBatchNorm *bn, bool fixed, const PapaBatchNormGradients *to, const PapaReal *dy,
    const PapaReal *x, const PapaReal *y, const float *scale, const float *mean, const float *rstd, void *workspace);
papa_batchnorm_bwd_fn papa_batchnorm_bwd_cpu, papa_batchnorm_bwd_cuda;

#endif
