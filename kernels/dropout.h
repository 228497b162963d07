/* Dropout: elements are dropped with probability ratio, the others scaled by 1 / (1 - ratio).
 *
 *     y[e] (=|+=) keep(e) ? x[e] / (1 - ratio) : 0
 *     keep(e): word e % 4 of Philox4x32-10 with the counter {e / 4, name[0], node, name[1]} and this key >= ratio * 2^32
 *
 * The mask is a function of its arguments alone: the backward pass is the same call on the gradient, and nothing is kept.
 * key and name lie on the device, for they change from step to step (PapaStepNumbers); node tells the network's dropouts apart.
 * x, y: (n), n < PAPA_DROPOUT_MAX, in the order of memory; y may be x. 0 <= ratio < 1. Nothing is allocated; asynchronous on dev's stream. */
#ifndef PAPA_DROPOUT_H
#define PAPA_DROPOUT_H

#include "device/device.h"

#define PAPA_DROPOUT_MAX ((int64_t)1 << 34) /* elements that 32 bits of blocks count */

typedef PapaStatus papa_dropout_fn(PapaDevice *dev, PapaReal *y, const PapaReal *x, int64_t n, float ratio, const uint32_t key[2],
    const uint32_t name[2], uint32_t node, bool accumulate);
papa_dropout_fn papa_dropout_cpu, papa_dropout_cuda;

#endif
