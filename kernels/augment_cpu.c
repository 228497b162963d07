/* CPU half of augment.h. The unit of work is a pair of partners, i and N-1-i: both are made where they belong, then mixed
 * in place while they are in the cache. */
#include "kernels/augment.h"

#include <string.h>

typedef struct Job {
    float *x;
    const uint8_t *images;
    const PapaSamplePlan *samples;
    const PapaBatchPlan *batch;
    int64_t N;
    const PapaImageFormat *format;
} Job;

#define INLINE static inline __attribute__((always_inline))

/* Where one pixel step and one channel step lead in the output. */
typedef struct Strides {
    int64_t row, pixel, channel;
} Strides;

INLINE Strides strides_of(const PapaImageFormat *f)
{
    return f->channels_last ? (Strides){f->W * f->C, f->C, 1} : (Strides){f->W, 1, f->H * f->W};
}

/* n pixels of one channel; constant steps make the common cases vectorise. */
INLINE void normalise(float *out, int64_t out_step, const uint8_t *in, int64_t in_step, int64_t n, float scale, float shift)
{
    for (int64_t i = 0; i < n; i++)
        out[i * out_step] = (float)in[i * in_step] * scale + shift;
}

INLINE void normalise_pixels(float *out, Strides s, const uint8_t *in, bool flip, int64_t n, const PapaImageFormat *f)
{
    int64_t in_step = flip ? -f->C : f->C;
    if (f->C == 1 && !flip)
        normalise(out, 1, in, 1, n, f->scale[0], f->shift[0]);
    else if (f->C == 1)
        normalise(out, 1, in, -1, n, f->scale[0], f->shift[0]);
    else
        for (int64_t c = 0; c < f->C; c++) {
            float *to = out + c * s.channel;
            if (s.pixel == 3)
                normalise(to, 3, in + c, flip ? -3 : 3, n, f->scale[c], f->shift[c]);
            else if (f->C == 3)
                normalise(to, 1, in + c, flip ? -3 : 3, n, f->scale[c], f->shift[c]);
            else
                normalise(to, s.pixel, in + c, in_step, n, f->scale[c], f->shift[c]);
        }
}

INLINE void fill(float *out, Strides s, int64_t begin, int64_t end, const float *values, int64_t C)
{
    for (int64_t c = 0; c < C; c++)
        for (int64_t i = begin; i < end; i++)
            out[i * s.pixel + c * s.channel] = values[c];
}

INLINE int64_t clamp(int64_t value, int64_t low, int64_t high)
{
    return value < low ? low : value > high ? high : value;
}

/* The box has the output's size: columns [begin, end) of the row lie in the image, the others are black. */
INLINE void copy_box(float *out, const uint8_t *image, const PapaSamplePlan *plan, const PapaImageFormat *f)
{
    Strides s = strides_of(f);
    int64_t left_black = clamp(-(int64_t)plan->left, 0, f->W);
    int64_t right_black = clamp(plan->left + f->W - f->source_width, 0, f->W - left_black);
    int64_t begin = plan->flip ? right_black : left_black, end = f->W - (plan->flip ? left_black : right_black);
    int64_t first = plan->flip ? plan->left + f->W - 1 - begin : plan->left + begin; /* source column of output column begin */
    for (int64_t y = 0; y < f->H; y++) {
        int64_t sy = plan->top + y;
        float *row = out + y * s.row;
        if (sy < 0 || sy >= f->source_height || begin >= end) {
            fill(row, s, 0, f->W, f->shift, f->C);
            continue;
        }
        fill(row, s, 0, begin, f->shift, f->C);
        normalise_pixels(row + begin * s.pixel, s, image + (sy * f->source_width + first) * f->C, plan->flip, end - begin, f);
        fill(row, s, end, f->W, f->shift, f->C);
    }
}

/* Two source lines and the weight of the second: where output position i of n samples a box of `size` lines. */
typedef struct Tap {
    int64_t low, high;
    float weight;
} Tap;

INLINE Tap tap_at(int64_t i, int64_t n, int32_t start, int32_t size)
{
    float at = ((float)i + 0.5f) * ((float)size / (float)n) - 0.5f;
    at = at > 0 ? at : 0;
    int64_t low = (int64_t)at;
    low = low < size - 1 ? low : size - 1;
    int64_t high = low + 1 < size ? low + 1 : low;
    return (Tap){start + low, start + high, at - (float)low};
}

INLINE void resize_box(float *out, const uint8_t *image, const PapaSamplePlan *plan, const PapaImageFormat *f)
{
    Strides s = strides_of(f);
    for (int64_t y = 0; y < f->H; y++) {
        Tap ty = tap_at(y, f->H, plan->top, plan->height);
        const uint8_t *upper = image + ty.low * f->source_width * f->C, *lower = image + ty.high * f->source_width * f->C;
        for (int64_t x = 0; x < f->W; x++) {
            Tap tx = tap_at(plan->flip ? f->W - 1 - x : x, f->W, plan->left, plan->width);
            for (int64_t c = 0; c < f->C; c++) {
                float a = (float)upper[tx.low * f->C + c], b = (float)upper[tx.high * f->C + c];
                float d = (float)lower[tx.low * f->C + c], e = (float)lower[tx.high * f->C + c];
                float top = a + tx.weight * (b - a), bottom = d + tx.weight * (e - d);
                out[y * s.row + x * s.pixel + c * s.channel] = (top + ty.weight * (bottom - top)) * f->scale[c] + f->shift[c];
            }
        }
    }
}

INLINE void make_sample(const Job *job, int64_t i)
{
    const PapaImageFormat *f = job->format;
    const PapaSamplePlan *plan = &job->samples[i];
    static const float zeros[PAPA_MAX_CHANNELS];
    Strides s = strides_of(f);
    float *out = job->x + i * f->C * f->H * f->W;
    const uint8_t *image = job->images + (int64_t)plan->source * f->source_height * f->source_width * f->C;
    if (plan->height == f->H && plan->width == f->W)
        copy_box(out, image, plan, f);
    else
        resize_box(out, image, plan, f);
    for (int64_t y = plan->erase_top; y < plan->erase_top + plan->erase_height; y++)
        fill(out + y * s.row, s, plan->erase_left, plan->erase_left + plan->erase_width, zeros, f->C);
}

INLINE void mix_up(float *restrict a, float *restrict b, int64_t n, float lambda)
{
    for (int64_t i = 0; i < n; i++) {
        float x = a[i], y = b[i];
        a[i] = lambda * x + (1 - lambda) * y;
        b[i] = lambda * y + (1 - lambda) * x;
    }
}

INLINE void swap_box(float *restrict a, float *restrict b, const PapaBatchPlan *box, const PapaImageFormat *f)
{
    Strides s = strides_of(f);
    for (int64_t c = 0; c < f->C; c++)
        for (int64_t y = box->top; y < box->top + box->height; y++)
            for (int64_t x = box->left; x < box->left + box->width; x++) {
                int64_t at = y * s.row + x * s.pixel + c * s.channel;
                float t = a[at];
                a[at] = b[at];
                b[at] = t;
            }
}

PAPA_SIMD static void make_pairs(void *context, int64_t begin, int64_t end)
{
    const Job *job = context;
    int64_t size = job->format->C * job->format->H * job->format->W;
    for (int64_t i = begin; i < end; i++) {
        int64_t partner = job->N - 1 - i;
        make_sample(job, i);
        if (partner == i)
            continue; /* mixed with itself: unchanged */
        make_sample(job, partner);
        if (job->batch->mix == PAPA_MIX_UP)
            mix_up(job->x + i * size, job->x + partner * size, size, job->batch->lambda);
        else if (job->batch->mix == PAPA_MIX_CUT)
            swap_box(job->x + i * size, job->x + partner * size, job->batch, job->format);
    }
}

PapaStatus papa_augment_images_cpu(PapaDevice *dev, float *x, const uint8_t *images, const PapaSamplePlan *samples,
    const PapaBatchPlan *batch, int64_t N, PapaImageFormat format)
{
    Job job = {x, images, samples, batch, N, &format};
    papa_ranges(dev, (N + 1) / 2, 4, make_pairs, &job);
    return PAPA_OK;
}

PapaStatus papa_augment_targets_cpu(PapaDevice *dev, float *targets, const int32_t *labels, const PapaSamplePlan *samples,
    const PapaBatchPlan *batch, int64_t N, int64_t C)
{
    (void)dev; /* a few values per sample: not worth a second thread */
    float off = batch->smoothing / (float)C, on = 1 - batch->smoothing;
    float own = batch->mix == PAPA_MIX_NONE ? 1 : batch->lambda;
    for (int64_t i = 0; i < N; i++) {
        float *row = targets + i * C;
        for (int64_t c = 0; c < C; c++)
            row[c] = off;
        row[labels[samples[i].source]] += own * on;
        row[labels[samples[N - 1 - i].source]] += (1 - own) * on;
    }
    return PAPA_OK;
}
