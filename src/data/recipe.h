/* A member's recipe of augmentation, and the drawing of its plans. A plan is a function of (seed, member, epoch, position)
 * or (seed, member, step) alone: the order in which members and threads draw does not matter. */
#ifndef PAPA_RECIPE_H
#define PAPA_RECIPE_H

#include "kernels/augment.h"

#include <stdbool.h>

typedef struct PapaRecipe {
    int crop;                  /* padding of the random padded crop, in pixels; 0: none */
    bool random_resized_crop;  /* area .08 to 1, aspect 3/4 to 4/3; not together with crop */
    bool flip;                 /* left-right, with probability 1/2 */
    float erasing;             /* probability of a random rectangle: area .02 to 1/3, aspect .3 to 3.3 */
    float mixup, cutmix;       /* alpha of lambda ~ Beta(alpha, alpha); 0: off; both on: each batch takes one, by coin */
    float smoothing;           /* of the labels */
} PapaRecipe;

/* Errors: PAPA_ERR_ARGUMENT (a probability or alpha that makes no sense, crop with random_resized_crop, a crop larger than
 * the padded image). */
PapaStatus papa_recipe_check(const PapaRecipe *recipe, const PapaImageFormat *format);

/* Fills in format: scale and shift from mean and std per channel on a 0 to 1 scale; a batch of the stored images' size. */
void papa_image_format(PapaImageFormat *out, PapaImageSize stored, bool channels_last, const double *mean, const double *std);

/* The plan of the sample at this position of the epoch. Where the stored images are larger than the batch's, the crop's place
 * is random with crop 0 too. */
void papa_recipe_sample(PapaSamplePlan *out, const PapaRecipe *recipe, const PapaImageFormat *format, uint32_t source,
    uint64_t seed, int member, int epoch, int64_t position);

/* The batch plan of this step, counted over the whole run. */
void papa_recipe_batch(
    PapaBatchPlan *out, const PapaRecipe *recipe, const PapaImageFormat *format, uint64_t seed, int member, int64_t step);

/* No augmentation: the centre of the image as large as the batch's; nothing mixed, nothing smoothed. */
void papa_plain_sample(PapaSamplePlan *out, const PapaImageFormat *format, uint32_t source);
void papa_plain_batch(PapaBatchPlan *out);

#endif
