/* Data sets as the training layer sees them: images by number, labels, statistics, who is held out, and in which order.
 *
 * An image is uint8, (height, width, channels), channels last; a batch of them is one dense block. Small sets and all
 * IDX and CIFAR files are resident: one block holds every image. JPEG folders that exceed the memory budget are decoded
 * when they are fetched. Knows nothing of models and devices. Image numbers are uint32. */
#ifndef PAPA_DATA_H
#define PAPA_DATA_H

#include "base/status.h"
#include "base/threads.h"

/* As papa_data_open. budget_bytes: decoded JPEG images up to this much are held in memory; 0: a quarter of the machine's. */
PapaStatus papa_data_open_within(
    PapaData **out, const char *name, PapaSplit split, PapaImageSize size, const PapaHooks *hooks, size_t budget_bytes);

/* n blank images of label 0, resident: where only sizes matter. */
PapaStatus papa_data_blank(PapaData **out, PapaImageSize size, int n_classes, int64_t n);

/* Whether the set has separate parts for training and testing. A folder of JPEG folders without train/ and test/ has not:
 * it opens with the same images for both splits, so it is no test set for what was trained on it. */
bool papa_data_has_splits(const PapaData *data);

/* (n), each in [0, n_classes). */
const int32_t *papa_data_labels(const PapaData *data);

/* (n, height, width, channels) where all images are resident, else NULL: fetch them. */
const uint8_t *papa_data_images(const PapaData *data);

/* Writes images indices[0 .. n-1] to `to`, (n, height, width, channels), and their labels, (n), if labels is not NULL.
 * May run on several threads at once on one data set. Errors: PAPA_ERR_IO, PAPA_ERR_FORMAT (name the file), PAPA_ERR_MEMORY. */
PapaStatus papa_data_fetch(const PapaData *data, uint8_t *to, int32_t *labels, const uint32_t *indices, int64_t n);

/* Per channel over the given images (n > 0), pixels on a 0 to 1 scale: mean[c] and std[c], the population's standard
 * deviation. Sums are exact integers, so neither order nor threads matter. A channel that never changes gets std 1: it normalises to 0.
 * pool: NULL: on this thread. */
PapaStatus papa_data_stats(double *mean, double *std, const PapaData *data, const uint32_t *indices, int64_t n, PapaPool *pool);

/* The numbers of the images to train on and to hold out, each ascending. */
typedef struct PapaHeldOut {
    uint32_t *train, *held;
    int64_t n_train, n_held;
} PapaHeldOut;

/* Holds out round(fraction * n) images, at least one if fraction > 0, drawn from the seed so that each class gives its
 * share to within one image. Free with papa_data_unsplit. Errors: PAPA_ERR_ARGUMENT (fraction not in [0, 1), or none left to train on). */
PapaStatus papa_data_split(PapaHeldOut *out, const PapaData *data, double fraction, uint64_t seed);
void papa_data_unsplit(PapaHeldOut *parts);

/* order (n) = a member's random order of indices (n) in this epoch, a function of (seed, member, epoch) alone. */
void papa_data_order(uint32_t *order, const uint32_t *indices, int64_t n, uint64_t seed, int member, int epoch);

#endif
