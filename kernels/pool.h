/* Pooling in two dimensions, maximum and average, and the gradients. x: (N, H, W, C), y: (N, OH, OW, C), dense NHWC.
 *
 * The window of y[n][p][q] holds x[n][p * stride[0] - pad[0] + r * dilation[0]][q * stride[1] - pad[1] + s * dilation[1]] for
 * r < K[0], s < K[1]; its taps are numbered r * K[1] + s. Padding never wins a maximum. An average is divided by the number of
 * taps inside the map, or, with include_pad, inside the map and the padding around it. A window without any tap to
 * count gives -infinity and 0. No allocation; asynchronous on dev's stream; the sums' order does not depend on threads. */
#ifndef PAPA_POOL_H
#define PAPA_POOL_H

#include "device/device.h"

#include <stdbool.h>

typedef struct PapaPool2d {
    int64_t N, H, W, C;
    int64_t OH, OW;
    int64_t K[2], stride[2], dilation[2]; /* down, across; >= 1 */
    int64_t pad[4];                       /* top, left, bottom, right; >= 0 */
    bool include_pad;
} PapaPool2d;

/* A maximum's argmax stands in 16 bits: K[0] * K[1] may not exceed this where argmax is asked for. */
#define PAPA_POOL_MAX_TAPS 65535

/* argmax: (N, OH, OW, C), the first tap that holds the maximum (a NaN is one), PAPA_POOL_MAX_TAPS for none; NULL: not wanted. */
typedef PapaStatus papa_maxpool_fwd_fn(PapaDevice *dev, const PapaPool2d *pool, PapaReal *y, uint16_t *argmax, const PapaReal *x);
papa_maxpool_fwd_fn papa_maxpool_fwd_cpu, papa_maxpool_fwd_cuda, papa_maxpool_fwd_ref;

/* dx (+)= the sum of dy over the windows whose maximum x was. */
typedef PapaStatus papa_maxpool_bwd_fn(PapaDevice *dev, const PapaPool2d *pool, PapaReal *dx, const PapaReal *dy, const uint16_t *argmax, bool accumulate);
papa_maxpool_bwd_fn papa_maxpool_bwd_cpu, papa_maxpool_bwd_cuda;

typedef PapaStatus papa_avgpool_fwd_fn(PapaDevice *dev, const PapaPool2d *pool, PapaReal *y, const PapaReal *x);
papa_avgpool_fwd_fn papa_avgpool_fwd_cpu, papa_avgpool_fwd_cuda, papa_avgpool_fwd_ref;

/* dx (+)= the sum over the windows that hold x of dy / the window's divisor. */
typedef PapaStatus papa_avgpool_bwd_fn(PapaDevice *dev, const PapaPool2d *pool, PapaReal *dx, const PapaReal *dy, bool accumulate);
papa_avgpool_bwd_fn papa_avgpool_bwd_cpu, papa_avgpool_bwd_cuda;

#endif
