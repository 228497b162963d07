/* What exported files say about themselves, in metadata_props. No dates, paths or thread counts: equal runs give equal bytes.
 * Numbers that are not whole have the digits that tell them from any other float32 (base/text.h). Lists are comma-separated.
 *
 *   papa.kind                 member, soup, greedy, ensemble
 *   papa.method               papa, papa-all, papa-2, none
 *   papa.population           members trained together
 *   papa.members              the members that the file is made of, from 0
 *   papa.weights              their weights, in the same order; sum 1
 *   papa.repaired             true, false: channel statistics corrected or re-estimated on training images (soup and greedy only)
 *   papa.ensemble             logits, probabilities: what is averaged (ensembles only)
 *   papa.seed, papa.steps     seed; optimiser steps of each member
 *   papa.init                 file, random, same
 *   papa.alpha, papa.every    method papa
 *   papa.every_epochs         methods papa-all, papa-2
 *   papa.optimizer, papa.schedule, papa.lr, papa.lr_min, papa.weight_decay, papa.batch, papa.epochs
 *   papa.regularization       members only: mixup=A,cutmix=A,smoothing=S,erasing=P
 *   papa.score.val.accuracy, papa.score.val.loss, papa.score.val.n     on the held-out images, where there are any
 *   papa.score.test.accuracy, papa.score.test.loss, papa.score.test.n  on the test images, where there are any
 *   papa.normalization.mean, papa.normalization.std   per channel: the file expects (pixel / 255 - mean) / std
 *   papa.normalization.folded true where the file does that itself and takes pixel / 255; mean is then 0, std 1
 *   papa.classes              names, a JSON array of strings in the order of the outputs
 *   papa.input.size           CxHxW
 * and ONNX's own, for inputs of 1 or 3 channels:
 *   Image.BitmapPixelFormat   Gray8, Rgb8
 *   Image.ColorSpaceGamma     SRGB
 *   Image.NominalPixelRange   Normalized_0_1, where normalisation is folded in; no value of it fits otherwise */
#ifndef PAPA_METADATA_H
#define PAPA_METADATA_H

#include "base/arena.h"
#include "onnx/onnx.h"

#include <stdbool.h>

typedef const char *PapaMetadataPair[2]; /* key, value; NULL: the entry goes */

typedef struct PapaMetadata {
    PapaArena arena;
    PapaMetadataPair *pairs;
    int n, capacity;
} PapaMetadata;

/* What the file says about itself by these keys, as of the run that made it: all of it goes unless it is set anew. To be called first. */
PapaStatus papa_metadata_forget(PapaMetadata *metadata, const PapaOnnx *onnx);

/* Adds or replaces a key. key is not copied; the value is, up to 511 bytes where it is formatted. */
PapaStatus papa_metadata_set(PapaMetadata *metadata, const char *key, const char *format, ...) __attribute__((format(printf, 3, 4)));
PapaStatus papa_metadata_set_text(PapaMetadata *metadata, const char *key, const char *value); /* of any length; NULL: the entry goes */
PapaStatus papa_metadata_set_number(PapaMetadata *metadata, const char *key, double value);
PapaStatus papa_metadata_set_numbers(PapaMetadata *metadata, const char *key, const double *values, int n);
PapaStatus papa_metadata_set_scores(PapaMetadata *metadata, const PapaScore *val, const PapaScore *test); /* papa.score.*; NaN ones are left out */
PapaStatus papa_metadata_set_classes(PapaMetadata *metadata, const char *const *names, int n);
void papa_metadata_free(PapaMetadata *metadata);

/* Reads a comma-separated list of exactly n numbers; false if it is something else. */
bool papa_metadata_numbers(const char *text, double *values, int n);

/* How the file's images are normalised; *found: whether it says. images: the data set's name, for the message.
 * Errors: PAPA_ERR_MISMATCH (other than n_channels finite numbers, a std that is not above 0). */
PapaStatus papa_metadata_normalization(bool *found, double *mean, double *std, const PapaOnnx *onnx, const char *images, int n_channels);

#endif
