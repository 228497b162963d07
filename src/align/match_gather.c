/* Slots as dense rows, and sums over them. */
#include "align/match_parts.h"

#include <string.h>

enum { TILE = 16 }; /* units that are read together: along an axis of neighbours their elements share cache lines */
enum { WORTH_A_THREAD = 1 << 17 }; /* elements */

/* Units for one thread at least, of so many columns. */
static int64_t grain(int64_t columns)
{
    const int64_t units = WORTH_A_THREAD / (columns + 1);
    return units > TILE ? units : TILE;
}

/* Neighbours along the inner of a slot's two loops. */
typedef struct Run {
    int64_t part, a, b, n;
} Run;

int64_t papa_match_columns(const PapaSlots *slots)
{
    return slots->n_parts * slots->n[0] * slots->n[1];
}

static Run run_at(const PapaSlots *s, int64_t column)
{
    const int64_t per_part = s->n[0] * s->n[1];
    return (Run){column / per_part, column % per_part / s->n[1], column % s->n[1], 0};
}

static void next_run(Run *run, const PapaSlots *s)
{
    run->b = 0;
    if (++run->a == s->n[0]) {
        run->a = 0;
        run->part++;
    }
}

static int64_t element_at(const PapaSlots *s, int64_t unit, const Run *run)
{
    return s->base[unit * s->n_parts + run->part] + run->a * s->stride[0] + run->b * s->stride[1];
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

typedef struct Gather {
    float *to;
    const float *from;
    const uint8_t *open;
    int64_t ld, first, n;
    const PapaSlots *slots;
    const int64_t *perm;
} Gather;

static void gather_units(void *context, int64_t begin, int64_t end)
{
    const Gather *g = context;
    const int64_t stride = g->slots->stride[1];
    Run run = run_at(g->slots, g->first);
    for (int64_t k = 0; k < g->n; k += run.n, next_run(&run, g->slots)) {
        run.n = least(g->slots->n[1] - run.b, g->n - k);
        for (int64_t i = begin; i < end; i++) {
            const int64_t at = element_at(g->slots, i, &run);
            float *to = g->to + i * g->ld + k;
            for (int64_t c = 0; c < run.n; c++)
                to[c] = !g->open || g->open[at + c * stride] == 1 ? g->from[at + c * stride] : 0;
        }
    }
}

static void gather_tiles(void *context, int64_t begin, int64_t end)
{
    for (int64_t i = begin; i < end; i += TILE)
        gather_units(context, i, least(i + TILE, end));
}

void papa_match_gather(float *to, int64_t ld, const PapaSlots *slots, int64_t n_units, const float *from, const uint8_t *open, int64_t first, int64_t n,
    const PapaDevice *dev)
{
    Gather gather = {.to = to, .from = from, .open = open, .ld = ld, .first = first, .n = n, .slots = slots};
    papa_ranges(dev, n_units, grain(n), gather_tiles, &gather);
}

static void scatter_units(void *context, int64_t begin, int64_t end)
{
    const Gather *g = context;
    const int64_t stride = g->slots->stride[1];
    Run run = run_at(g->slots, g->first);
    for (int64_t k = 0; k < g->n; k += run.n, next_run(&run, g->slots)) {
        run.n = least(g->slots->n[1] - run.b, g->n - k);
        for (int64_t i = begin; i < end; i++) {
            float *to = g->to + element_at(g->slots, i, &run);
            const float *from = g->from + (g->perm ? g->perm[i] : i) * g->ld + k;
            for (int64_t c = 0; c < run.n; c++)
                to[c * stride] = from[c];
        }
    }
}

static void scatter_tiles(void *context, int64_t begin, int64_t end)
{
    for (int64_t i = begin; i < end; i += TILE)
        scatter_units(context, i, least(i + TILE, end));
}

void papa_match_scatter(float *to, const PapaSlots *slots, int64_t n_units, const float *from, int64_t ld, const int64_t *perm, int64_t first, int64_t n,
    const PapaDevice *dev)
{
    Gather scatter = {.to = to, .from = from, .ld = ld, .first = first, .n = n, .slots = slots, .perm = perm};
    papa_ranges(dev, n_units, grain(n), scatter_tiles, &scatter);
}

/* ---------------------------------------------------------------- which elements are settled */

void papa_match_cover(uint8_t *open, const PapaSlots *slots, int64_t n_units, int delta)
{
    for (int64_t i = 0; i < n_units * slots->n_parts; i++)
        for (int64_t a = 0; a < slots->n[0]; a++)
            for (int64_t b = 0; b < slots->n[1]; b++)
                open[slots->base[i] + a * slots->stride[0] + b * slots->stride[1]] += (uint8_t)delta;
}

bool papa_match_any_open(const uint8_t *open, const PapaSlots *slots, int level)
{
    for (int64_t part = 0; part < slots->n_parts; part++)
        for (int64_t a = 0; a < slots->n[0]; a++)
            for (int64_t b = 0; b < slots->n[1]; b++)
                if (open[slots->base[part] + a * slots->stride[0] + b * slots->stride[1]] == level)
                    return true;
    return false;
}

/* ---------------------------------------------------------------- chunks */

bool papa_match_next_chunk(PapaMatchChunk *chunk, const PapaMatchGroup *group)
{
    int64_t left = chunk->n; /* to step over, then to take */
    while (left > 0) {
        int64_t n = papa_match_columns(group->slots[chunk->slot]) - chunk->column;
        if (left < n) {
            chunk->column += left;
            break;
        }
        left -= n;
        chunk->slot++;
        chunk->column = 0;
    }
    chunk->n = 0;
    for (int k = chunk->slot; k < group->n_slots && chunk->n < PAPA_MATCH_CHUNK; k++)
        chunk->n += papa_match_columns(group->slots[k]) - (k == chunk->slot ? chunk->column : 0);
    chunk->n = least(chunk->n, PAPA_MATCH_CHUNK);
    return chunk->n > 0;
}

void papa_match_fill(float *to, const PapaMatchChunk *chunk, const PapaMatchGroup *group, const float *const *tensors, uint8_t *const *open,
    const PapaDevice *dev)
{
    int64_t column = chunk->column;
    for (int64_t k = 0, slot = chunk->slot; k < chunk->n; slot++) {
        const PapaSlots *s = group->slots[slot];
        const int64_t n = least(papa_match_columns(s) - column, chunk->n - k);
        papa_match_gather(to + k, chunk->n, s, group->n, tensors[s->tensor], open ? open[s->tensor] : NULL, column, n, dev);
        k += n;
        column = 0;
    }
}

/* ---------------------------------------------------------------- sums */

enum { LANES = 16, BLOCK = 4096 };

PAPA_SIMD static double dot_block(const float *a, const float *b, int64_t n)
{
    double lane[LANES] = {0}, sum = 0;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int k = 0; k < LANES; k++)
            lane[k] += (double)a[i + k] * (double)b[i + k];
    for (int k = 0; i < n; i++, k++)
        lane[k] += (double)a[i] * (double)b[i];
    for (int k = 0; k < LANES; k++)
        sum += lane[k];
    return sum;
}

double papa_match_dot(const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i += BLOCK)
        sum += dot_block(a + i, b + i, least(BLOCK, n - i));
    return sum;
}

double papa_match_total(const PapaMatchSetup *setup, const float *const *a, const float *const *b)
{
    double sum = 0;
    for (int t = 0; t < setup->groups->n_tensors; t++)
        if (setup->counts[t])
            sum += papa_match_dot(a[t], b[t], setup->groups->tensors[t].count);
    return sum;
}
