/* Softmax and its logarithm along one axis, and the gradients. x, y, dx, dy: (outer, D, inner), dense; the
 * axis is the middle one.
 *
 *     y = exp(x - m) / s, or x - m - log(s), with m = max of x and s = sum of exp(x - m) over the axis
 *
 * No allocation; asynchronous on dev's stream; sums run in an order that depends on the shape alone. Sizes may be 0. */
#ifndef PAPA_SOFTMAX_H
#define PAPA_SOFTMAX_H

#include "device/device.h"

#include <stdbool.h>

/* y may be x. */
typedef PapaStatus papa_softmax_fwd_fn(PapaDevice *dev, PapaReal *y, const PapaReal *x, int64_t outer, int64_t D, int64_t inner, bool log);
papa_softmax_fwd_fn papa_softmax_fwd_cpu, papa_softmax_fwd_cuda, papa_softmax_fwd_ref;

/* dx (+)= y * (dy - sum of dy * y), or dy - exp(y) * sum of dy. dx may be dy. */
typedef PapaStatus papa_softmax_bwd_fn(PapaDevice *dev, PapaReal *dx, const PapaReal *dy, const PapaReal *y, int64_t outer, int64_t D, int64_t inner, bool log,
    bool accumulate);
papa_softmax_bwd_fn papa_softmax_bwd_cpu, papa_softmax_bwd_cuda;

#endif
