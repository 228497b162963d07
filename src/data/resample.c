/* Separable: one output row is first the weighted sum of source rows, at the source's width, then of its columns. */
#include "data/resample.h"

#include <math.h>
#include <string.h>

/* How output positions lie on an axis of n source pixels; source pixel i has its centre at i + 1/2. */
typedef struct Axis {
    double start, step; /* the part of the source begins at start; an output pixel is step source pixels wide */
    double support;
    int64_t n;
} Axis;

typedef struct Taps {
    int64_t first, last;
} Taps;

/* step: source pixels per output pixel, the same for both axes. */
static double common_step(int64_t H, int64_t W, int64_t h, int64_t w)
{
    return fmin((double)h / (double)H, (double)w / (double)W);
}

static Axis axis_of(int64_t n_out, int64_t n, double step)
{
    return (Axis){.start = ((double)n - step * (double)n_out) / 2, .step = step, .support = fmax(step, 1), .n = n};
}

static double centre_of(const Axis *axis, int64_t i)
{
    return axis->start + ((double)i + 0.5) * axis->step;
}

static Taps taps_of(const Axis *axis, int64_t i)
{
    double centre = centre_of(axis, i);
    int64_t first = (int64_t)ceil(centre - axis->support - 0.5), last = (int64_t)floor(centre + axis->support - 0.5);
    return (Taps){first > 0 ? first : 0, last < axis->n ? last : axis->n - 1};
}

static double triangle(const Axis *axis, int64_t i, int64_t tap)
{
    return fmax(0, 1 - fabs((double)tap + 0.5 - centre_of(axis, i)) / axis->support);
}

static double weight_sum(const Axis *axis, int64_t i, Taps taps)
{
    double sum = 0;
    for (int64_t t = taps.first; t <= taps.last; t++)
        sum += triangle(axis, i, t);
    return sum;
}

static int64_t max_taps(double step)
{
    return 2 * (int64_t)ceil(fmax(step, 1)) + 1;
}

size_t papa_resample_floats(int64_t H, int64_t W, int64_t h, int64_t w, int64_t C)
{
    return (size_t)(w * C + W * max_taps(common_step(H, W, h, w)));
}

/* row (w * C) = weighted sum of source rows. */
static void blend_rows(float *row, const unsigned char *from, int64_t row_bytes, const Axis *axis, int64_t y)
{
    Taps taps = taps_of(axis, y);
    double sum = weight_sum(axis, y, taps);
    memset(row, 0, (size_t)row_bytes * sizeof *row);
    for (int64_t t = taps.first; t <= taps.last; t++) {
        float weight = (float)(triangle(axis, y, t) / sum);
        const unsigned char *in = from + t * row_bytes;
        for (int64_t i = 0; i < row_bytes; i++)
            row[i] += weight * (float)in[i];
    }
}

void papa_resample(unsigned char *to, int64_t H, int64_t W, const unsigned char *from, int64_t h, int64_t w, int64_t C, float *work)
{
    double step = common_step(H, W, h, w);
    Axis vertical = axis_of(H, h, step), horizontal = axis_of(W, w, step);
    int64_t n_taps = max_taps(step);
    float *row = work, *weights = work + w * C;
    for (int64_t x = 0; x < W; x++) {
        Taps taps = taps_of(&horizontal, x);
        double sum = weight_sum(&horizontal, x, taps);
        for (int64_t t = taps.first; t <= taps.last; t++)
            weights[x * n_taps + t - taps.first] = (float)(triangle(&horizontal, x, t) / sum);
    }
    for (int64_t y = 0; y < H; y++) {
        blend_rows(row, from, w * C, &vertical, y);
        for (int64_t x = 0; x < W; x++) {
            Taps taps = taps_of(&horizontal, x);
            for (int64_t c = 0; c < C; c++) {
                float sum = 0.5f; /* rounds: the weights are positive and sum to 1, so it stays within 0 to 255 */
                for (int64_t t = taps.first; t <= taps.last; t++)
                    sum += weights[x * n_taps + t - taps.first] * row[t * C + c];
                *to++ = (unsigned char)sum;
            }
        }
    }
}
