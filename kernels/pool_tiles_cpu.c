#include "kernels/pool_tiles.h"

#include <math.h>
#include <string.h>

#define LANES 16      /* outputs taken together */
#define MAX_ROW 4096  /* outputs in a row whose places in the input stand in a table */
#define MAX_TAPS 64
#define GRAIN 16384   /* elements that are worth a thread */
#define INLINE static inline __attribute__((always_inline))

typedef struct Tiles {
    const PapaPool2d *pool;
    float *to;
    const float *from;
    uint16_t *argmax;
    bool accumulate;
} Tiles;

bool papa_pool_tiles_fit(const PapaPool2d *p)
{
    bool tiles = p->OH > 0 && p->OW > 0 && p->K[0] * p->K[1] <= MAX_TAPS;
    for (int axis = 0; axis < 2; axis++)
        tiles &= p->K[axis] == p->stride[axis] && p->dilation[axis] == 1 && !p->pad[axis] && !p->pad[axis + 2];
    return tiles && p->OH * p->K[0] <= p->H && p->OW * p->K[1] <= p->W && (p->C % LANES == 0 || p->OW * p->C <= MAX_ROW);
}

/* place[j]: of output j = (ow, c)'s first tap in its input row; the last is repeated to fill LANES. */
INLINE void fill_places(const PapaPool2d *p, int32_t *place)
{
    const int64_t length = p->OW * p->C;
    for (int64_t j = 0; j < length + LANES - 1; j++) {
        const int64_t k = j < length ? j : length - 1;
        place[j] = (int32_t)(k / p->C * p->K[1] * p->C + k % p->C);
    }
}

/* LANES outputs. x: the first tap of the first, or with places the start of the input row. */
INLINE void max_lanes(const PapaPool2d *p, float *best, int32_t *at, const float *x, const int32_t *place)
{
    for (int64_t j = 0; j < LANES; j++)
        best[j] = x[place ? place[j] : j], at[j] = 0;
    for (int64_t r = 0; r < p->K[0]; r++)
        for (int64_t s = 0; s < p->K[1]; s++) {
            const float *v = x + (r * p->W + s) * p->C;
            const int32_t tap = (int32_t)(r * p->K[1] + s);
            for (int64_t j = 0; j < LANES; j++) {
                const float value = v[place ? place[j] : j];
                const bool take = (value > best[j]) | ((value != value) & (best[j] == best[j]));
                best[j] = take ? value : best[j];
                at[j] = take ? tap : at[j];
            }
        }
}

INLINE void store_lanes(float *y, uint16_t *argmax, const float *best, const int32_t *at, int64_t n)
{
    for (int64_t j = 0; j < n; j++)
        y[j] = best[j];
    for (int64_t j = 0; argmax && j < n; j++)
        argmax[j] = (uint16_t)at[j];
}

/* One row of outputs. */
INLINE void max_row(const PapaPool2d *p, float *y, uint16_t *argmax, const float *x, const int32_t *place)
{
    float best[LANES];
    int32_t at[LANES];
    const int64_t length = p->OW * p->C;
    for (int64_t j = 0, c = 0; j < length; j += LANES) {
        max_lanes(p, best, at, x, place ? place + j : NULL);
        if (length - j >= LANES) /* with a constant, for the compiler */
            store_lanes(y + j, argmax ? argmax + j : NULL, best, at, LANES);
        else
            store_lanes(y + j, argmax ? argmax + j : NULL, best, at, length - j);
        c += LANES;
        x += place ? 0 : LANES;
        if (!place && c == p->C)
            c = 0, x += (p->K[1] - 1) * p->C;
    }
}

PAPA_SIMD static void forward_range(void *context, int64_t begin, int64_t end)
{
    const Tiles *t = context;
    const PapaPool2d *p = t->pool;
    const int64_t length = p->OW * p->C;
    int32_t place[MAX_ROW + LANES];
    if (p->C % LANES)
        fill_places(p, place);
    for (int64_t row = begin; row < end; row++) {
        const float *x = t->from + (row / p->OH * p->H + row % p->OH * p->K[0]) * p->W * p->C;
        uint16_t *argmax = t->argmax ? t->argmax + row * length : NULL;
        if (p->C % LANES)
            max_row(p, t->to + row * length, argmax, x, place);
        else
            max_row(p, t->to + row * length, argmax, x, NULL);
    }
}

/* Rows of windows; the last of an image takes the input rows below it that no window holds. */
static void backward_range(void *context, int64_t begin, int64_t end)
{
    const Tiles *t = context;
    const PapaPool2d *p = t->pool;
    const int64_t pitch = p->W * p->C;
    int64_t step[MAX_TAPS];
    for (int64_t tap = 0; tap < p->K[0] * p->K[1]; tap++)
        step[tap] = tap / p->K[1] * pitch + tap % p->K[1] * p->C;
    for (int64_t row = begin; row < end; row++) {
        const int64_t oh = row % p->OH, rows = oh + 1 < p->OH ? p->K[0] : p->H - oh * p->K[0];
        float *dx = t->to + (row / p->OH * p->H + oh * p->K[0]) * pitch;
        if (!t->accumulate)
            memset(dx, 0, (size_t)(rows * pitch) * sizeof *dx);
        const float *dy = t->from + row * p->OW * p->C;
        const uint16_t *argmax = t->argmax + row * p->OW * p->C;
        for (int64_t ow = 0; ow < p->OW; ow++, dx += p->K[1] * p->C, dy += p->C, argmax += p->C)
            for (int64_t c = 0; c < p->C; c++)
                dx[step[argmax[c]] + c] += dy[c];
    }
}

static void run(PapaDevice *dev, Tiles *t, papa_range_fn *body)
{
    const PapaPool2d *p = t->pool;
    const int64_t work = p->K[0] * p->W * p->C; /* of one row of windows */
    papa_ranges(dev, work ? p->N * p->OH : 0, GRAIN / (work + 1) + 1, body, t);
}

void papa_pool_tiles_fwd(PapaDevice *dev, const PapaPool2d *pool, float *y, uint16_t *argmax, const float *x)
{
    run(dev, &(Tiles){.pool = pool, .to = y, .from = x, .argmax = argmax}, forward_range);
}

void papa_pool_tiles_bwd(PapaDevice *dev, const PapaPool2d *pool, float *dx, const float *dy, const uint16_t *argmax, bool accumulate)
{
    run(dev, &(Tiles){.pool = pool, .to = dx, .from = dy, .argmax = (uint16_t *)argmax, .accumulate = accumulate}, backward_range); /* argmax is only read */
}
