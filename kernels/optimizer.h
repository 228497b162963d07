/* One optimiser step over a member's flat parameters: one fused pass, formulas as PyTorch's.
 *
 * w: (n) parameters, dw: (n) their gradient, both float32; elements [0, n_decayed) have weight decay, the others none.
 * g = dw * clip->scale where clip is not NULL, else dw. State is float32, (n), zero before the first step.
 *
 * SGD:   g += decay * w;  m = momentum * m + g;  w -= lr * (nesterov ? g + momentum * m : m)
 *        With momentum 0, m is not touched and may be NULL.
 * Adam:  g += decay * w (decoupled: w -= lr * decay * w instead: AdamW)
 *        m = beta1 * m + (1 - beta1) * g;  v = beta2 * v + (1 - beta2) * g^2
 *        w -= lr / correction1 * m / (sqrt(v) / sqrt(correction2) + eps),   correction_i = 1 - beta_i^t for step t from 1
 * Clip:  scale = min(1, max_norm / (norm + 1e-6)), norm = |dw|_2 summed in double in fixed blocks. A gradient that is not
 *        finite gives a scale that is not, or 0 times infinity in the step: the weights show it.
 *
 * Numbers that change from step to step lie in device memory, the others are passed by value. w, dw and state are aligned to 64 bytes.
 * No allocation; asynchronous on dev's stream; results do not depend on the thread count. */
#ifndef PAPA_OPTIMIZER_H
#define PAPA_OPTIMIZER_H

#include "device/device.h"

typedef struct PapaOptimizerNumbers {
    float lr;
    float correction1, root_correction2; /* Adam: 1 - beta1^t, sqrt(1 - beta2^t) */
} PapaOptimizerNumbers;

typedef struct PapaClip {
    float norm, scale;
} PapaClip;

typedef struct PapaSgd {
    float momentum, weight_decay;
    bool nesterov;
} PapaSgd;

typedef struct PapaAdam {
    float beta1, beta2, eps, weight_decay;
    bool decoupled;
} PapaAdam;

typedef PapaStatus papa_optimizer_sgd_fn(PapaDevice *dev, float *w, float *m, const float *dw, const PapaClip *clip,
    const PapaOptimizerNumbers *numbers, PapaSgd sgd, int64_t n_decayed, int64_t n);
papa_optimizer_sgd_fn papa_optimizer_sgd_cpu, papa_optimizer_sgd_cuda;

typedef PapaStatus papa_optimizer_adam_fn(PapaDevice *dev, float *w, float *m, float *v, const float *dw, const PapaClip *clip,
    const PapaOptimizerNumbers *numbers, PapaAdam adam, int64_t n_decayed, int64_t n);
papa_optimizer_adam_fn papa_optimizer_adam_cpu, papa_optimizer_adam_cuda;

/* blocks: papa_clip_blocks(n) float64, scratch on the device. */
typedef PapaStatus papa_optimizer_clip_fn(PapaDevice *dev, PapaClip *clip, double *blocks, const float *dw, float max_norm, int64_t n);
papa_optimizer_clip_fn papa_optimizer_clip_cpu, papa_optimizer_clip_cuda;

#define PAPA_CLIP_BLOCK 8192 /* elements summed into one of blocks */
static inline int64_t papa_clip_blocks(int64_t n)
{
    return (n + PAPA_CLIP_BLOCK - 1) / PAPA_CLIP_BLOCK;
}

#endif
