/* From stored images to a batch: geometry, normalisation, erasing, mixing, in one pass per image; and the soft targets.
 *
 * Every random number is in the plans, which the host draws (src/data/recipe.h) and uploads, so all devices make the
 * same batch, and a captured CUDA graph replays on new plans in the same memory. Order of effects: box (crop or resize),
 * flip, normalise, erase, then mixup or CutMix with the sample N-1-i of the batch, made by its own plan. */
#ifndef PAPA_AUGMENT_H
#define PAPA_AUGMENT_H

#include "device/device.h"

#define PAPA_MAX_CHANNELS 4

/* What one sample becomes before mixing. Output pixel (y, x) takes the box's pixel (y, x), or (y, width - 1 - x) flipped. */
typedef struct PapaSamplePlan {
    uint32_t source;                                      /* which of images, and of labels */
    int32_t top, left, height, width;                     /* the box, in source pixels: as large as the output: copied, and black (0
                                                             before normalisation) where it leaves the image; else inside
                                                             the image and resized, bilinear, corners not aligned, edges
                                                             repeated at the box's border */
    int32_t flip;                                         /* 0 or 1 */
    int32_t erase_top, erase_left, erase_height, erase_width; /* output pixels set to 0 after normalisation; size 0: none */
} PapaSamplePlan;

typedef enum PapaMix { PAPA_MIX_NONE, PAPA_MIX_UP, PAPA_MIX_CUT } PapaMix;

/* What the samples of one batch have in common. */
typedef struct PapaBatchPlan {
    int32_t mix;                           /* PapaMix */
    float lambda;                          /* of the sample itself; 1 - lambda of its partner. CutMix: the area kept */
    int32_t top, left, height, width;      /* CutMix: these output pixels come from the partner */
    float smoothing;                       /* of the labels: s / C off, 1 - s + s / C on */
} PapaBatchPlan;

/* The shapes and the normalisation, the same for a whole run: (pixel / 255 - mean) / std = pixel * scale + shift. */
typedef struct PapaImageFormat {
    int64_t source_height, source_width;   /* of images: uint8, (n, source_height, source_width, C) */
    int64_t C, H, W;                       /* of the batch; C <= PAPA_MAX_CHANNELS */
    int32_t channels_last;                 /* the batch is (N, H, W, C); else (N, C, H, W) */
    float scale[PAPA_MAX_CHANNELS], shift[PAPA_MAX_CHANNELS];
} PapaImageFormat;

/* x: the batch, N images as format says. images, samples (N) and batch (1) lie on the device.
 * No allocation; asynchronous on dev's stream. */
typedef PapaStatus papa_augment_images_fn(PapaDevice *dev, PapaReal *x, const uint8_t *images, const PapaSamplePlan *samples,
    const PapaBatchPlan *batch, int64_t N, PapaImageFormat format);
papa_augment_images_fn papa_augment_images_cpu, papa_augment_images_cuda;

/* targets (N, C) float32: row i = lambda * smooth(label of i) + (1 - lambda) * smooth(label of N-1-i); every row sums to 1.
 * labels: int32, read at samples[i].source, each in [0, C). */
typedef PapaStatus papa_augment_targets_fn(PapaDevice *dev, float *targets, const int32_t *labels, const PapaSamplePlan *samples,
    const PapaBatchPlan *batch, int64_t N, int64_t C);
papa_augment_targets_fn papa_augment_targets_cpu, papa_augment_targets_cuda;

#endif
