/* The element loops run over pieces cut at multiples of BLOCK, so that the compiler's vector body and remainder meet the same elements
 * whatever the thread count: the two may contract a multiplication and an addition differently. */
#include "kernels/optimizer.h"

#include <assert.h>
#include <math.h>

#define BLOCK ((int64_t)4096)
#define GRAIN 16 /* blocks */
#define LANES 16

static int64_t block_count(int64_t n)
{
    return (n + BLOCK - 1) / BLOCK;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* ---------------------------------------------------------------- SGD */

typedef struct Sgd {
    float *w, *m;
    const float *dw;
    float lr, scale;
    PapaSgd set;
    int64_t n_decayed, n;
} Sgd;

static inline void sgd_plain(const Sgd *k, float decay, int64_t begin, int64_t end)
{
    float *restrict w = k->w;
    const float *restrict dw = k->dw;
    float lr = k->lr, scale = k->scale;
    for (int64_t i = begin; i < end; i++)
        w[i] -= lr * (dw[i] * scale + decay * w[i]);
}

static inline void sgd_momentum(const Sgd *k, float decay, bool nesterov, int64_t begin, int64_t end)
{
    float *restrict w = k->w, *restrict m = k->m;
    const float *restrict dw = k->dw;
    float lr = k->lr, scale = k->scale, momentum = k->set.momentum;
    for (int64_t i = begin; i < end; i++) {
        float g = dw[i] * scale + decay * w[i];
        float moved = momentum * m[i] + g;
        m[i] = moved;
        w[i] -= lr * (nesterov ? g + momentum * moved : moved);
    }
}

static inline void sgd_span(const Sgd *k, float decay, int64_t begin, int64_t end)
{
    if (k->set.momentum == 0)
        sgd_plain(k, decay, begin, end);
    else if (k->set.nesterov)
        sgd_momentum(k, decay, true, begin, end);
    else
        sgd_momentum(k, decay, false, begin, end);
}

PAPA_SIMD static void sgd_blocks(void *context, int64_t first, int64_t last)
{
    const Sgd *k = context;
    int64_t begin = first * BLOCK, end = least(last * BLOCK, k->n);
    int64_t middle = begin > k->n_decayed ? begin : least(k->n_decayed, end);
    sgd_span(k, k->set.weight_decay, begin, middle);
    sgd_span(k, 0, middle, end);
}

PapaStatus papa_optimizer_sgd_cpu(PapaDevice *dev, float *w, float *m, const float *dw, const PapaClip *clip,
    const PapaOptimizerNumbers *numbers, PapaSgd sgd, int64_t n_decayed, int64_t n)
{
    assert(n_decayed <= n && (m || sgd.momentum == 0));
    Sgd k = {.w = w, .m = m, .dw = dw, .lr = numbers->lr, .scale = clip ? clip->scale : 1, .set = sgd, .n_decayed = n_decayed, .n = n};
    papa_ranges(dev, block_count(n), GRAIN, sgd_blocks, &k);
    return PAPA_OK;
}

/* ---------------------------------------------------------------- Adam */

typedef struct Adam {
    float *w, *m, *v;
    const float *dw;
    float lr, scale, step, over_root2;
    PapaAdam set;
    int64_t n_decayed, n;
} Adam;

static inline void adam_span(const Adam *k, float decay, int64_t begin, int64_t end)
{
    float *restrict w = k->w, *restrict m = k->m, *restrict v = k->v;
    const float *restrict dw = k->dw;
    float scale = k->scale, step = k->step, over_root2 = k->over_root2;
    float keep1 = k->set.beta1, keep2 = k->set.beta2, add1 = 1 - keep1, add2 = 1 - keep2, eps = k->set.eps;
    float coupled = k->set.decoupled ? 0 : decay, shrink = k->set.decoupled ? k->lr * decay : 0;
    for (int64_t i = begin; i < end; i++) {
        float g = dw[i] * scale + coupled * w[i];
        float mean = keep1 * m[i] + add1 * g, square = keep2 * v[i] + add2 * g * g;
        m[i] = mean;
        v[i] = square;
        w[i] = w[i] - shrink * w[i] - step * mean / (sqrtf(square) * over_root2 + eps);
    }
}

PAPA_SIMD static void adam_blocks(void *context, int64_t first, int64_t last)
{
    const Adam *k = context;
    int64_t begin = first * BLOCK, end = least(last * BLOCK, k->n);
    int64_t middle = begin > k->n_decayed ? begin : least(k->n_decayed, end);
    adam_span(k, k->set.weight_decay, begin, middle);
    adam_span(k, 0, middle, end);
}

PapaStatus papa_optimizer_adam_cpu(PapaDevice *dev, float *w, float *m, float *v, const float *dw, const PapaClip *clip,
    const PapaOptimizerNumbers *numbers, PapaAdam adam, int64_t n_decayed, int64_t n)
{
    assert(n_decayed <= n);
    Adam k = {
        .w = w, .m = m, .v = v, .dw = dw,
        .lr = numbers->lr, .scale = clip ? clip->scale : 1,
        .step = numbers->lr / numbers->correction1, .over_root2 = 1 / numbers->root_correction2,
        .set = adam, .n_decayed = n_decayed, .n = n,
    };
    papa_ranges(dev, block_count(n), GRAIN, adam_blocks, &k);
    return PAPA_OK;
}

/* ---------------------------------------------------------------- clipping */

typedef struct Norm {
    double *blocks;
    const float *dw;
    int64_t n;
} Norm;

/* A fixed number of partial sums, whatever the vector length. */
static inline double square_sum(const float *x, int64_t n)
{
    double lanes[LANES] = {0}, sum = 0;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int64_t l = 0; l < LANES; l++)
            lanes[l] += (double)x[i + l] * x[i + l];
    for (int64_t l = 0; l < LANES; l++)
        sum += lanes[l];
    for (; i < n; i++)
        sum += (double)x[i] * x[i];
    return sum;
}

PAPA_SIMD static void norm_blocks(void *context, int64_t first, int64_t last)
{
    const Norm *k = context;
    for (int64_t b = first; b < last; b++)
        k->blocks[b] = square_sum(k->dw + b * PAPA_CLIP_BLOCK, least(PAPA_CLIP_BLOCK, k->n - b * PAPA_CLIP_BLOCK));
}

PapaStatus papa_optimizer_clip_cpu(PapaDevice *dev, PapaClip *clip, double *blocks, const float *dw, float max_norm, int64_t n)
{
    Norm k = {.blocks = blocks, .dw = dw, .n = n};
    int64_t n_blocks = papa_clip_blocks(n);
    papa_ranges(dev, n_blocks, GRAIN, norm_blocks, &k);
    double sum = 0;
    for (int64_t b = 0; b < n_blocks; b++)
        sum += blocks[b];
    double norm = sqrt(sum), scale = max_norm / (norm + 1e-6);
    *clip = (PapaClip){.norm = (float)norm, .scale = (float)(scale < 1 || isnan(scale) ? scale : 1)};
    return PAPA_OK;
}
