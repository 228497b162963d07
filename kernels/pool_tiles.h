/* Maximum pooling whose windows tile the map: as wide as their stride, no padding, no dilation. The usual case of small networks, on
 * the CPU: every input belongs to one window at most, so rows are taken as a whole, whatever the number of channels. For pool_cpu.c. */
#ifndef PAPA_POOL_TILES_H
#define PAPA_POOL_TILES_H

#include "kernels/pool.h"

bool papa_pool_tiles_fit(const PapaPool2d *pool);
void papa_pool_tiles_fwd(PapaDevice *dev, const PapaPool2d *pool, float *y, uint16_t *argmax, const float *x);
void papa_pool_tiles_bwd(PapaDevice *dev, const PapaPool2d *pool, float *dx, const float *dy, const uint16_t *argmax, bool accumulate);

#endif
