/* Which images a run is fed: whether two sets go together, and how pixels become numbers. */
#ifndef PAPA_IMAGES_H
#define PAPA_IMAGES_H

#include "data/data.h"
#include "onnx/onnx.h"

/* Whether images of `other` can stand in for those of `data`, the training images: size and classes. what: of other, "test images", for messages.
 * Errors: PAPA_ERR_MISMATCH. */
PapaStatus papa_images_check_same(const PapaData *data, const PapaData *other, const char *what);

/* Test images of the size that the model takes, for what was trained on data: those of the set called name; NULL: data's own. *out NULL: there are none,
 * with a remark: a set without test images of its own is no test for what was trained on it. */
PapaStatus papa_images_open_test(PapaData **out, const PapaData *data, const char *name, PapaSplit split, PapaImageSize size, const PapaHooks *hooks);

/* Where a network's normalisation is looked for, in this order. */
typedef struct PapaNormalizationPlan {
    int n_given;              /* channels that the caller gives; 0: none */
    const float *mean, *std;
    const PapaOnnx *onnx;     /* its metadata */
    const PapaData *data;     /* measured, with a remark: on these n images; indices NULL: on all */
    const uint32_t *indices;
    int64_t n;
    PapaPool *pool;
} PapaNormalizationPlan;

/* mean, std: per channel on a 0 to 1 scale. Errors: PAPA_ERR_ARGUMENT (what is given doesn't fit), PAPA_ERR_MISMATCH (what the file says doesn't). */
PapaStatus papa_images_normalization(double *mean, double *std, const PapaNormalizationPlan *plan, const PapaHooks *hooks);

/* The first part of it: what the caller gives. */
PapaStatus papa_images_given_normalization(double *mean, double *std, const PapaNormalizationPlan *plan);

#endif
