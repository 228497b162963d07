/* Sums along axes, their gradients, and the gradients of broadcasting, which are sums too. Activations, dense, any strides
 * that a walk can say (kernels/broadcast.h).
 *
 * Sums run in blocks of about a hundred float32 terms which are added in double, in an order that depends on the shape
 * alone, so that the result does not depend on the thread count. No allocation; asynchronous on dev's stream. */
#ifndef PAPA_REDUCE_H
#define PAPA_REDUCE_H

#include "kernels/eltwise.h"

/* y (+)= scale * the sum of x along the axes where walk->a is 0. x is dense in the walk, y stands in it with strides
 * walk->a; walk->b has no meaning. A sum of nothing is 0. */
typedef PapaStatus papa_sum_fn(PapaDevice *dev, PapaReal *y, const PapaReal *x, const PapaWalk *walk, double scale, bool accumulate);
papa_sum_fn papa_sum_cpu, papa_sum_cuda, papa_sum_ref;

/* The gradient of papa_sum: dx (+)= scale * dy, dy repeated along the axes where walk->a is 0. dx is dense in the walk. */
typedef PapaStatus papa_spread_fn(PapaDevice *dev, PapaReal *dx, const PapaReal *dy, const PapaWalk *walk, double scale, bool accumulate);
papa_spread_fn papa_spread_cpu, papa_spread_cuda, papa_spread_ref;

/* The gradient of y = f(a, b) in one operand: d (+)= the sum of dy * df/da (operand 0) or dy * df/db (operand 1) along the
 * axes where that operand is repeated. dy is dense in the walk; d, a and b stand in it with the operands' strides. a and b
 * may be NULL for ADD and SUB, a for operand 0 of MUL and DIV, b for operand 1 of MUL. d may be dy where nothing is repeated. */
typedef PapaStatus papa_binary_bwd_fn(PapaDevice *dev, PapaBinary f, int operand, PapaReal *d, const PapaReal *dy, const PapaReal *a, const PapaReal *b,
    const PapaWalk *walk, bool accumulate);
papa_binary_bwd_fn papa_binary_bwd_cpu, papa_binary_bwd_cuda;

#endif
