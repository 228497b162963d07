/* Resizing of stored images, once, when they are decoded; the resize of augmentation is a kernel. */
#ifndef PAPA_RESAMPLE_H
#define PAPA_RESAMPLE_H

#include <stddef.h>
#include <stdint.h>

/* Floats that papa_resample needs to work in. */
size_t papa_resample_floats(int64_t H, int64_t W, int64_t h, int64_t w, int64_t C);

/* to (H, W, C) = the largest centred part of from (h, w, C) with the aspect W : H. Triangle filter, as wide as the
 * reduction is large and at least as wide as bilinear interpolation; pixels outside of the image have no weight. */
void papa_resample(unsigned char *to, int64_t H, int64_t W, const unsigned char *from, int64_t h, int64_t w, int64_t C, float *work);

#endif
