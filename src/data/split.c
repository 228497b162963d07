/* Choosing among the images of a set: who is held out, in which order a member sees the rest, and their statistics. */
#include "base/rng.h"
#include "data/dataset.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- who is held out */

/* by_class (n): all images, class after class, each class in random order. starts: zeroed scratch of n_classes + 1. */
static void shuffle_by_class(uint32_t *by_class, uint32_t *shuffled, int64_t *starts, const PapaData *data, PapaRng *rng)
{
    int64_t n = data->info.n;
    for (int64_t i = 0; i < n; i++) {
        shuffled[i] = (uint32_t)i;
        starts[data->labels[i] + 1]++;
    }
    for (int c = 0; c < data->info.n_classes; c++)
        starts[c + 1] += starts[c];
    papa_rng_shuffle(rng, shuffled, (uint32_t)n);
    for (int64_t i = 0; i < n; i++)
        by_class[starts[data->labels[shuffled[i]]]++] = shuffled[i];
}

/* Every n/m-th image of that sequence, from a random start: each class gives its share, rounded up or down. */
static void take_evenly(uint8_t *is_held, const uint32_t *by_class, int64_t n, int64_t m, double start)
{
    for (int64_t j = 0; j < m; j++) {
        int64_t at = (int64_t)(((double)j + start) * (double)n / (double)m);
        is_held[by_class[at < n ? at : n - 1]] = 1;
    }
}

PapaStatus papa_data_split(PapaHeldOut *out, const PapaData *data, double fraction, uint64_t seed)
{
    *out = (PapaHeldOut){0};
    int64_t n = data->info.n, m = fraction > 0 ? (int64_t)fmax(1, round(fraction * (double)n)) : 0;
    if (!(fraction >= 0 && fraction < 1))
        return papa_fail(PAPA_ERR_ARGUMENT, "the held-out fraction is %g, expected at least 0 and less than 1", fraction);
    if (m >= n)
        return papa_fail(PAPA_ERR_ARGUMENT, "holding out %g of the %lld images of %s leaves none to train on", fraction,
            (long long)n, data->info.name);
    size_t bytes = (size_t)n * sizeof(uint32_t);
    uint32_t *parts = malloc(bytes), *by_class = malloc(bytes), *shuffled = malloc(bytes);
    uint8_t *is_held = calloc((size_t)n, 1);
    int64_t *starts = calloc((size_t)data->info.n_classes + 1, sizeof *starts);
    PapaStatus status = PAPA_OK;
    if (!parts || !by_class || !shuffled || !is_held || !starts) {
        free(parts);
        status = papa_fail_memory(3 * bytes, "the held-out split");
        goto out;
    }
    PapaRng rng = papa_rng(seed, PAPA_RNG_SPLIT, -1, 0, 0);
    shuffle_by_class(by_class, shuffled, starts, data, &rng);
    take_evenly(is_held, by_class, n, m, papa_rng_double(&rng));
    *out = (PapaHeldOut){.train = parts, .held = parts + (n - m), .n_train = n - m, .n_held = m};
    for (int64_t i = 0, at[2] = {0, n - m}; i < n; i++)
        parts[at[is_held[i]]++] = (uint32_t)i;
out:
    free(by_class);
    free(shuffled);
    free(is_held);
    free(starts);
    return status;
}

void papa_data_unsplit(PapaHeldOut *parts)
{
    free(parts->train); /* one block: held lies behind it */
    *parts = (PapaHeldOut){0};
}

void papa_data_order(uint32_t *order, const uint32_t *indices, int64_t n, uint64_t seed, int member, int epoch)
{
    PapaRng rng = papa_rng(seed, PAPA_RNG_ORDER, member, (uint32_t)epoch, 0);
    if (n)
        memcpy(order, indices, (size_t)n * sizeof *order);
    papa_rng_shuffle(&rng, order, (uint32_t)n);
}

/* ---------------------------------------------------------------- statistics */

#define MAX_CHANNELS 4
#define PIECE 256 /* images per task: the buffer of a set that is decoded on demand */

typedef struct Sums {
    uint64_t x[MAX_CHANNELS], xx[MAX_CHANNELS];
} Sums;

typedef struct StatsJob {
    const PapaData *data;
    const uint32_t *indices;
    int64_t n;
    Sums *by_worker;
} StatsJob;

/* Rows of at most 2^16 pixels keep the squares' sum (255^2 each) within 32 bits, which vectorises. */
static void add_pixels(Sums *sums, const uint8_t *x, int64_t n_pixels, int64_t C)
{
    for (int64_t begin = 0; begin < n_pixels; begin += 1 << 16) {
        int64_t end = begin + (1 << 16) < n_pixels ? begin + (1 << 16) : n_pixels;
        for (int64_t c = 0; c < C; c++) {
            uint32_t sum = 0, squares = 0;
            for (int64_t p = begin; p < end; p++) {
                uint32_t v = x[p * C + c];
                sum += v;
                squares += v * v;
            }
            sums->x[c] += sum;
            sums->xx[c] += squares;
        }
    }
}

static PapaStatus add_piece(void *context, int worker, int task)
{
    const StatsJob *job = context;
    int64_t begin = (int64_t)task * PIECE, n = job->n - begin < PIECE ? job->n - begin : PIECE;
    int64_t bytes = papa_data_image_bytes(job->data), C = job->data->info.channels;
    uint8_t *buffer = NULL;
    if (!job->data->images) {
        buffer = malloc((size_t)bytes);
        if (!buffer)
            return papa_fail_memory((size_t)bytes, "an image");
    }
    PapaStatus status = PAPA_OK;
    for (int64_t i = begin; i < begin + n; i++) {
        if (buffer)
            PAPA_GOTO(papa_data_fetch(job->data, buffer, NULL, &job->indices[i], 1));
        add_pixels(&job->by_worker[worker], buffer ? buffer : job->data->images + job->indices[i] * bytes, bytes / C, C);
    }
out:
    free(buffer);
    return status;
}

PapaStatus papa_data_stats(double *mean, double *std, const PapaData *data, const uint32_t *indices, int64_t n, PapaPool *pool)
{
    int64_t C = data->info.channels, n_pieces = (n + PIECE - 1) / PIECE;
    int n_workers = pool ? papa_pool_workers(pool) : 1;
    Sums *sums = calloc((size_t)n_workers, sizeof *sums);
    if (!sums)
        return papa_fail_memory((size_t)n_workers * sizeof *sums, "image statistics");
    StatsJob job = {data, indices, n, sums};
    PapaStatus status = PAPA_OK;
    if (pool)
        PAPA_GOTO(papa_pool_for(pool, (int)n_pieces, add_piece, &job));
    for (int64_t i = 0; !pool && i < n_pieces; i++)
        PAPA_GOTO(add_piece(&job, 0, (int)i));
    for (int64_t c = 0; c < C; c++) {
        unsigned __int128 count = (unsigned __int128)n * (unsigned __int128)(data->info.height * data->info.width), x = 0, xx = 0;
        for (int w = 0; w < n_workers; w++) {
            x += sums[w].x[c];
            xx += sums[w].xx[c];
        }
        double variance = (double)(count * xx - x * x) / ((double)count * (double)count); /* exact until here */
        mean[c] = (double)x / (double)count / 255;
        std[c] = variance > 0 ? sqrt(variance) / 255 : 1;
    }
out:
    free(sums);
    return status;
}
