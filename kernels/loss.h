/* The loss of a classifier, and how its answers are counted. Both look at a batch of N rows of which the first *n_valid count;
 * the rest is padding: a shorter last batch. n_valid lies in device memory.
 *
 * Train: soft-target cross-entropy, the mean over the valid rows, and its gradient in the same pass.
 *     loss[0]    = (1/n) sum over rows i of  -sum_c target[i][c] * log softmax(logits[i])[c],    n = *n_valid
 *     dlogits    = (softmax(logits) - target) / n, and 0 in the rows behind
 * logits, targets, dlogits: (N, C) float32; dlogits may be logits. Each row of targets sums to 1. A target of 0 contributes nothing even where the logit is
 * -infinity. rows: (N) float64, scratch. n_valid = 0 gives loss 0.
 *
 * Score: sums over the valid rows of one batch, overwritten. labels: (N) int32 in [0, C). A row is right where fewer than 1 (5)
 * classes come before its label; of equal scores the first class comes first, as in ONNX's ArgMax. A row with a NaN is wrong
 * and makes the loss NaN.
 *
 * No allocation; asynchronous on dev's stream; results do not depend on the thread count. */
#ifndef PAPA_LOSS_H
#define PAPA_LOSS_H

#include "device/device.h"

typedef PapaStatus papa_loss_train_fn(PapaDevice *dev, float *loss, float *dlogits, const float *logits, const float *targets,
    const int64_t *n_valid, double *rows, int64_t N, int64_t C);
papa_loss_train_fn papa_loss_train_cpu, papa_loss_train_cuda;

typedef struct PapaScoreSums {
    double loss;
    int64_t top1, top5, n;
} PapaScoreSums;

typedef PapaStatus papa_loss_score_fn(PapaDevice *dev, PapaScoreSums *sums, const float *logits, const int32_t *labels,
    const int64_t *n_valid, double *rows, int64_t N, int64_t C);
papa_loss_score_fn papa_loss_score_cpu, papa_loss_score_cuda;

#endif
