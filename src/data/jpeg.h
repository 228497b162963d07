/* One JPEG file to one image of the wanted size. The only file that knows libjpeg is jpeg.c. */
#ifndef PAPA_JPEG_H
#define PAPA_JPEG_H

#include "base/status.h"

/* Memory that decoding needs, kept from image to image. Zeroed to begin with; one thread's at a time. */
typedef struct PapaJpegScratch {
    unsigned char *pixels;
    float *rows;
    size_t pixels_bytes, rows_bytes;
} PapaJpegScratch;

void papa_jpeg_scratch_free(PapaJpegScratch *scratch);

/* The file's own size: 1 channel if it is gray, else 3. */
PapaStatus papa_jpeg_size(PapaImageSize *out, const char *path);

/* to: (size.height, size.width, size.channels), 1 or 3 channels (gray or RGB, converted from what the file has). The
 * largest centred part of the file's image with that aspect, resampled with a triangle filter as wide as the reduction.
 * Errors: PAPA_ERR_IO, PAPA_ERR_FORMAT (also for what libjpeg only warns of: a file that ends early, corrupt data). */
PapaStatus papa_jpeg_decode(unsigned char *to, const char *path, PapaImageSize size, PapaJpegScratch *scratch);

#endif
