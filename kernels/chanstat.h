/* Per-channel statistics of a value, and moving it to a goal: the measuring half of REPAIR (Jordan et al. 2023).
 *
 * x: (rows, C), channels last. mean, std: (C) float32, population statistics over the rows (two-pass or shifted, combined in
 * double, so that a constant channel gives exactly 0). rows = 0 writes zeros.
 * shift: x[r][c] = goal_mean[c] + (x[r][c] - mean[c]) * sqrt((goal_std[c]^2 + eps) / (std[c]^2 + eps)), in place. A goal that is NaN
 * stands for the channel's own mean or std: that half of the correction is left out.
 * No allocation; asynchronous on dev's stream; the result does not depend on the thread count. */
#ifndef PAPA_CHANSTAT_H
#define PAPA_CHANSTAT_H

#include "device/device.h"

typedef PapaStatus papa_chanstat_measure_fn(PapaDevice *dev, float *mean, float *std, const PapaReal *x, int64_t rows, int64_t C);
papa_chanstat_measure_fn papa_chanstat_measure_cpu, papa_chanstat_measure_cuda;

typedef PapaStatus papa_chanstat_shift_fn(PapaDevice *dev, PapaReal *x, const float *mean, const float *std, const float *goal_mean,
    const float *goal_std, int64_t rows, int64_t C, float eps);
papa_chanstat_shift_fn papa_chanstat_shift_cpu, papa_chanstat_shift_cuda;

#endif
