/* Channel statistics on the CPU: one pass over x, shifted by the first row and summed in double.
 *
 * With d = x - x[0], exact in double: mean = x[0] + sum(d) / rows, variance = (sum(d^2) - sum(d)^2 / rows) / rows. A constant channel has
 * d = 0 throughout, so its mean is exact and its deviation 0. Rows are cut into a fixed number of blocks, summed each on
 * its own and then in order: threads only decide who sums a block. */
#include "kernels/chanstat.h"

#include <math.h>
#include <string.h>

#define CHUNK 64       /* channels at a time: bounds the sums, which live on the stack */
#define ROW_BLOCKS 32

typedef struct Sums {
    double d[ROW_BLOCKS][CHUNK], d2[ROW_BLOCKS][CHUNK];
} Sums;

typedef struct Measure {
    const float *x; /* at the chunk's first channel */
    int64_t rows, C, n_channels;
    Sums *sums;
} Measure;

PAPA_SIMD static void measure_blocks(void *context, int64_t begin, int64_t end)
{
    const Measure *m = context;
    for (int64_t block = begin; block < end; block++) {
        double *restrict sum = m->sums->d[block], *restrict sum2 = m->sums->d2[block];
        int64_t first = m->rows * block / ROW_BLOCKS, last = m->rows * (block + 1) / ROW_BLOCKS;
        memset(sum, 0, sizeof(double) * CHUNK);
        memset(sum2, 0, sizeof(double) * CHUNK);
        for (int64_t r = first; r < last; r++) {
            const float *row = m->x + r * m->C;
            for (int64_t c = 0; c < m->n_channels; c++) {
                double d = (double)row[c] - (double)m->x[c];
                sum[c] += d;
                sum2[c] += d * d;
            }
        }
    }
}

static void finish(float *mean, float *std, const Measure *m)
{
    for (int64_t c = 0; c < m->n_channels; c++) {
        double d = 0, d2 = 0;
        for (int block = 0; block < ROW_BLOCKS; block++) {
            d += m->sums->d[block][c];
            d2 += m->sums->d2[block][c];
        }
        d /= (double)m->rows;
        double variance = d2 / (double)m->rows - d * d;
        mean[c] = (float)((double)m->x[c] + d);
        std[c] = variance < 0 ? 0 : (float)sqrt(variance); /* below 0 by rounding only; NaN stays NaN */
    }
}

PapaStatus papa_chanstat_measure_cpu(PapaDevice *dev, float *mean, float *std, const float *x, int64_t rows, int64_t C)
{
    if (!rows) {
        memset(mean, 0, (size_t)C * sizeof *mean);
        memset(std, 0, (size_t)C * sizeof *std);
        return PAPA_OK;
    }
    Sums sums;
    for (int64_t c = 0; c < C; c += CHUNK) {
        Measure m = {.x = x + c, .rows = rows, .C = C, .n_channels = C - c < CHUNK ? C - c : CHUNK, .sums = &sums};
        papa_ranges(dev, ROW_BLOCKS, 1, measure_blocks, &m);
        finish(mean + c, std + c, &m);
    }
    return PAPA_OK;
}

typedef struct Shift {
    float *x; /* at the chunk's first channel */
    int64_t C, n_channels;
    float scale[CHUNK], from[CHUNK], to[CHUNK];
} Shift;

PAPA_SIMD static void shift_rows(void *context, int64_t begin, int64_t end)
{
    const Shift *s = context;
    for (int64_t r = begin; r < end; r++) {
        float *row = s->x + r * s->C;
        for (int64_t c = 0; c < s->n_channels; c++)
            row[c] = s->to[c] + (row[c] - s->from[c]) * s->scale[c];
    }
}

PapaStatus papa_chanstat_shift_cpu(PapaDevice *dev, float *x, const float *mean, const float *std, const float *goal_mean,
    const float *goal_std, int64_t rows, int64_t C, float eps)
{
    for (int64_t c0 = 0; c0 < C; c0 += CHUNK) {
        Shift s = {.x = x + c0, .C = C, .n_channels = C - c0 < CHUNK ? C - c0 : CHUNK};
        for (int64_t i = 0; i < s.n_channels; i++) {
            int64_t c = c0 + i;
            double own = (double)std[c] * std[c] + eps, goal = (double)goal_std[c] * goal_std[c] + eps;
            s.scale[i] = isnan(goal_std[c]) ? 1 : (float)sqrt(goal / own);
            s.from[i] = mean[c];
            s.to[i] = isnan(goal_mean[c]) ? mean[c] : goal_mean[c];
        }
        papa_ranges(dev, rows, 1 + 16384 / s.n_channels, shift_rows, &s);
    }
    return PAPA_OK;
}
