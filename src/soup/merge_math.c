/* Weighted sums and differences. */
#include "soup/merge_math.h"

#include "base/rng.h"
#include "base/simd.h"

#include <math.h>
#include <stddef.h>

#define BLOCK PAPA_MERGE_BLOCK

PAPA_SIMD static void scale_row(double *restrict to, const double *restrict x, double weight, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        to[i] = weight * x[i];
}

PAPA_SIMD static void add_scaled(double *restrict to, const double *restrict x, double weight, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        to[i] += weight * x[i];
}

/* 1 where x and y differ. */
PAPA_SIMD static void note_difference(double *restrict differs, const double *restrict x, const double *restrict y, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        differs[i] = x[i] == y[i] ? differs[i] : 1;
}

PAPA_SIMD static void restore_equal(double *restrict to, const double *restrict x, const double *restrict differs, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        to[i] = differs[i] != 0 ? to[i] : x[i];
}

void papa_merge_weighted(double *to, const double *const *rows, const double *weights, int n, int64_t count, bool is_mean)
{
    double differs[BLOCK] = {0};
    const double *first = NULL;
    for (int k = 0; k < n; k++) {
        if (weights[k] == 0)
            continue;
        if (!first) {
            first = rows[k];
            scale_row(to, first, weights[k], count);
            continue;
        }
        add_scaled(to, rows[k], weights[k], count);
        note_difference(differs, first, rows[k], count);
    }
    if (!first)
        scale_row(to, rows[0], 0, count);
    else if (is_mean)
        restore_equal(to, first, differs, count);
}

PAPA_SIMD void papa_merge_subtract(double *row, const double *base, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        row[i] -= base[i];
}

PAPA_SIMD void papa_merge_trim(double *row, double threshold, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        row[i] = fabs(row[i]) < threshold ? 0 : row[i]; /* so put, NaN stays */
}

void papa_merge_drop(double *row, double density, uint64_t seed, int model, uint32_t tensor, int64_t first, int64_t count)
{
    uint64_t limit = (uint64_t)(density * 0x1p32);
    PapaRng rng = papa_rng(seed, PAPA_RNG_MERGE, model, tensor, (uint32_t)((uint64_t)first / 4 >> 32));
    double scale = 1 / density;
    for (int64_t i = 0; i < count; i += 4) {
        uint32_t numbers[4];
        rng.counter[0] = (uint32_t)((first + i) / 4);
        papa_philox(numbers, rng.counter, rng.key);
        for (int64_t k = i; k < i + 4 && k < count; k++)
            row[k] = numbers[k - i] < limit ? row[k] * scale : 0;
    }
}

/* base[i] + scale * change[i]; where nothing changes, base[i] itself: -0 + 0 would lose the sign. */
PAPA_SIMD static void add_change(double *restrict to, const double *restrict base, const double *restrict change, double scale, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        to[i] = change[i] == 0 ? base[i] : base[i] + scale * change[i];
}

void papa_merge_add(double *to, const double *base, const double *const *deltas, const double *weights, double scale, int n, int64_t count)
{
    double change[BLOCK];
    papa_merge_weighted(change, deltas, weights, n, count, false);
    add_change(to, base, change, scale, count);
}

/* Adds what has the elected sign, and its weight. */
PAPA_SIMD static void add_agreeing(double *restrict sum, double *restrict weights, const double *restrict elected, const double *restrict delta,
    double weight, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        double term = weight * delta[i];
        double agrees = (term > 0 && elected[i] > 0) || (term < 0 && elected[i] < 0) ? 1 : 0;
        sum[i] += agrees != 0 ? term : 0;
        weights[i] += agrees * fabs(weight);
    }
}

PAPA_SIMD static void divide_agreeing(double *restrict sum, const double *restrict weights, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        sum[i] = weights[i] != 0 ? sum[i] / weights[i] : sum[i];
}

void papa_merge_elect(double *to, const double *base, const double *const *deltas, const double *weights, double scale, int n, int64_t count)
{
    double elected[BLOCK], sum[BLOCK] = {0}, of_weights[BLOCK] = {0};
    papa_merge_weighted(elected, deltas, weights, n, count, false);
    for (int k = 0; k < n; k++)
        add_agreeing(sum, of_weights, elected, deltas[k], weights[k], count);
    divide_agreeing(sum, of_weights, count);
    for (int64_t i = 0; i < count; i++)
        if (isnan(elected[i]))
            sum[i] = elected[i];
    add_change(to, base, sum, scale, count);
}

/* Eight sums side by side, which vector code can have without changing their order. */
PAPA_SIMD double papa_merge_dot(const double *a, const double *b, int64_t count)
{
    double sums[8] = {0};
    int64_t i = 0;
    for (; i + 8 <= count; i += 8)
        for (int j = 0; j < 8; j++)
            sums[j] += a[i + j] * b[i + j];
    for (; i < count; i++)
        sums[i % 8] += a[i] * b[i];
    return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}
