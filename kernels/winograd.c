/* Blocking and threads of Winograd convolution; winograd.h says what is computed, the units do it.
 *
 * Forward and data gradient: all filters are transformed first, then each thread takes blocks of tiles, small enough for the
 * second-level cache, through input transform, 36 products and output transform. Weight gradients are sums over all tiles
 * in an order that must not depend on the threads: a fixed number of shards of the tiles, added up at the end, where a shard
 * has enough tiles to pay for its own sums; else one chunk of tiles after the other, each thread summing a slice of the
 * filters, which makes the threads read each other's caches. */
#include "kernels/winograd.h"

#include <string.h>

#define FREQUENCIES PAPA_WINOGRAD_FREQUENCIES
#define GROUP PAPA_WINOGRAD_GROUP

enum { LINE = 16 }; /* floats in a cache line: strides between frequencies are off a power of two by one, or their lines collide */

/* ---------------------------------------------------------------- units */

extern const PapaWinogradUnit papa_winograd_generic;

#if defined(__x86_64__)

extern const PapaWinogradUnit papa_winograd_avx512, papa_winograd_avx2;

static const PapaWinogradUnit *const all_units[] = {&papa_winograd_avx512, &papa_winograd_avx2, &papa_winograd_generic, NULL};

const PapaWinogradUnit *const *papa_winograd_units(void)
{
    bool fma = __builtin_cpu_supports("fma"), avx2 = fma && __builtin_cpu_supports("avx2");
    return avx2 && __builtin_cpu_supports("avx512f") ? all_units : avx2 ? all_units + 1 : all_units + 2;
}

const PapaWinogradUnit *papa_winograd_unit(void) /* 16 registers of 4 floats are too few for the generic loops */
{
    const PapaWinogradUnit *best = papa_winograd_units()[0];
    return best == &papa_winograd_generic ? NULL : best;
}

#else

static const PapaWinogradUnit *const all_units[] = {&papa_winograd_generic, NULL};

const PapaWinogradUnit *const *papa_winograd_units(void)
{
    return all_units;
}

const PapaWinogradUnit *papa_winograd_unit(void)
{
    return all_units[0];
}

#endif

/* ---------------------------------------------------------------- plans */

static int64_t at_most(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static int64_t stride_for(int64_t rows, int64_t columns)
{
    return rows * columns + LINE;
}

/* Tiles that fit the cache next to each other, transformed, or where the filters don't fit anyway, enough to be worth reading
 * them. Measured with 2 MB of cache; flat around these. */
static int64_t tiles_at_a_time(const PapaWinograd *plan)
{
    int64_t channels = (plan->in.C + plan->out.C) / 2;
    if (plan->pass == PAPA_CONV_BWD_WEIGHTS)
        return channels <= 16 ? 96 : channels <= 128 ? 64 : channels <= 256 ? 128 : 256;
    return channels <= 16 ? 96 : channels <= 32 ? 64 : channels <= 128 ? 48 : 96;
}

/* The filters' 36 transforms stay in the workspace; a block's tiles in a thread's own part. */
static void plan_conv(PapaWinograd *plan)
{
    int choice = 0;
    while (plan->out.C % plan->unit->shapes[choice].width)
        choice++;
    plan->width = plan->unit->shapes[choice].width;
    plan->rows = plan->unit->shapes[choice].rows;
    int64_t n_blocks = ceil_div(plan->n_tiles, at_most(tiles_at_a_time(plan), ceil_div(plan->n_tiles, plan->n_slots)));
    plan->block = ceil_div(ceil_div(plan->n_tiles, n_blocks), plan->rows) * plan->rows;
    plan->filter_frequency = stride_for(plan->in.C, plan->out.C);
    plan->shared = (size_t)(FREQUENCIES * plan->filter_frequency);
    plan->slot = (size_t)(FREQUENCIES * (stride_for(plan->block, plan->in.C) + stride_for(plan->block, plan->out.C)));
}

/* in: x with C channels (columns of dw), out: dy with K (its rows). */
static void plan_weights(PapaWinograd *plan)
{
    const int64_t few = 32 * 32, many = 128 * 128, max_shards = 8;
    int64_t C = plan->in.C, K = plan->out.C;
    plan->block = at_most(tiles_at_a_time(plan), plan->n_tiles);
    size_t tiles = (size_t)(FREQUENCIES * (stride_for(plan->block, C) + stride_for(plan->block, K)));
    int64_t n_shards = C * K > many ? 0 : at_most(max_shards, plan->n_tiles / (C * K <= few ? plan->block : 256));
    if (n_shards > 1) {
        plan->n_shards = n_shards;
        plan->slice = K;
        plan->filter_frequency = stride_for(K, C);
        plan->shared = (size_t)(plan->n_shards * FREQUENCIES * plan->filter_frequency);
        plan->slot = tiles;
        return;
    }
    plan->slice = K % 32 ? GROUP : 32;
    if (plan->block == plan->n_tiles) { /* one chunk: a slice's sums live only until they are transformed back */
        plan->filter_frequency = stride_for(plan->slice, C);
        plan->slot = (size_t)(FREQUENCIES * plan->filter_frequency);
        plan->shared = tiles;
    } else {
        plan->filter_frequency = stride_for(K, C);
        plan->shared = tiles + (size_t)(FREQUENCIES * plan->filter_frequency);
    }
}

bool papa_winograd_plan(PapaWinograd *out, const PapaConvDesc *d, PapaConvPass pass, int n_threads, const PapaWinogradUnit *unit)
{
    bool fits = d->R == 3 && d->S == 3 && d->groups == 1 && d->C % GROUP == 0 && d->K % GROUP == 0 && d->N && d->OH && d->OW;
    for (int i = 0; i < 2; i++)
        fits = fits && d->stride[i] == 1 && d->dilation[i] == 1;
    for (int i = 0; i < 4; i++)
        fits = fits && d->pad[i] <= 2;
    if (!fits)
        return false;
    PapaWinogradMap x = {.N = d->N, .H = d->H, .W = d->W, .C = d->C}, y = {.N = d->N, .H = d->OH, .W = d->OW, .C = d->K};
    PapaWinograd plan = {.unit = unit, .pass = pass, .n_slots = n_threads};
    if (pass == PAPA_CONV_BWD_DATA) { /* dx is dy, padded by what the forward pass left of 2, under the turned filters */
        plan.in = y, plan.out = x;
        plan.in.top = 2 - d->pad[0], plan.in.left = 2 - d->pad[1];
    } else {
        plan.in = x, plan.out = y;
        plan.in.top = d->pad[0], plan.in.left = d->pad[1];
    }
    plan.in.tiles_down = plan.out.tiles_down = ceil_div(plan.out.H, 4);
    plan.in.tiles_across = plan.out.tiles_across = ceil_div(plan.out.W, 4);
    plan.n_tiles = plan.out.N * plan.out.tiles_down * plan.out.tiles_across;
    if (pass == PAPA_CONV_BWD_WEIGHTS)
        plan_weights(&plan);
    else
        plan_conv(&plan);
    plan.zeros = (size_t)(plan.in.C > plan.out.C ? plan.in.C : plan.out.C);
    *out = plan;
    return true;
}

/* Tiles that stick out over the map's edge waste products, and the filters' transform must be earned back. */
bool papa_winograd_pays(const PapaWinograd *plan)
{
    double direct = 9. * (double)(plan->out.N * plan->out.H * plan->out.W), ours = 36. * (double)plan->n_tiles;
    return direct >= 1.5 * ours && plan->n_tiles >= 8;
}

size_t papa_winograd_workspace(const PapaWinograd *plan)
{
    return (plan->shared + (size_t)plan->n_slots * plan->slot + plan->zeros) * sizeof(float);
}

/* ---------------------------------------------------------------- running */

typedef struct WinogradRun {
    const PapaWinograd *plan;
    const float *x, *w, *b, *dy;
    float *y, *dw;
    bool relu, accumulate;
    float *shared, *slots, *zeros;
    int64_t first, count; /* BWD_WEIGHTS by slices: the chunk's tiles */
} WinogradRun;

static WinogradRun run_with(const PapaWinograd *plan, void *workspace)
{
    WinogradRun run = {.plan = plan, .shared = workspace};
    run.slots = run.shared + plan->shared;
    run.zeros = run.slots + (size_t)plan->n_slots * plan->slot;
    memset(run.zeros, 0, plan->zeros * sizeof *run.zeros);
    return run;
}

/* Room for `block` tiles of C channels at data; the next free float into *end. */
static PapaWinogradTiles tiles_at(float *data, const PapaWinograd *plan, int64_t C, float **end)
{
    int64_t frequency = stride_for(plan->block, C);
    *end = data + FREQUENCIES * frequency;
    return (PapaWinogradTiles){.data = data, .frequency = frequency, .group = plan->block * GROUP};
}

static PapaWinogradTiles from_tile(PapaWinogradTiles tiles, int64_t t)
{
    tiles.data += t * GROUP;
    return tiles;
}

static void filter_range(void *context, int64_t begin, int64_t end)
{
    const WinogradRun *run = context;
    const PapaWinograd *plan = run->plan;
    bool turned = plan->pass == PAPA_CONV_BWD_DATA;
    int64_t in_step = turned ? plan->out.C * 9 : 9, out_step = turned ? 9 : plan->in.C * 9; /* w is (K, C, 3, 3) */
    plan->unit->transform_filter(run->shared, plan->filter_frequency, plan->width, run->w, in_step, out_step, turned, begin, end,
        plan->in.C, plan->out.C);
}

static void conv_slots(void *context, int64_t begin, int64_t end)
{
    const WinogradRun *run = context;
    const PapaWinograd *plan = run->plan;
    const PapaWinogradUnit *unit = plan->unit;
    int64_t n_blocks = ceil_div(plan->n_tiles, plan->block);
    for (int64_t slot = begin; slot < end; slot++) {
        float *next = run->slots + (size_t)slot * plan->slot;
        PapaWinogradTiles v = tiles_at(next, plan, plan->in.C, &next), m = tiles_at(next, plan, plan->out.C, &next);
        for (int64_t block = n_blocks * slot / plan->n_slots; block < n_blocks * (slot + 1) / plan->n_slots; block++) {
            int64_t first = block * plan->block, count = at_most(plan->block, plan->n_tiles - first);
            int64_t padded = ceil_div(count, plan->rows) * plan->rows;
            unit->transform_input(&plan->in, run->x, first, padded, v, run->zeros);
            for (int64_t f = 0; f < FREQUENCIES; f++)
                unit->multiply(m.data + f * m.frequency, m.group, v.data + f * v.frequency, v.group,
                    run->shared + f * plan->filter_frequency, plan->width, padded, plan->in.C, plan->out.C);
            unit->transform_output(&plan->out, run->y, first, count, m, run->b, run->relu, run->accumulate);
        }
    }
}

void papa_winograd_conv(PapaDevice *dev, const PapaWinograd *plan, float *y, const float *x, const float *w, const float *b, bool relu,
    bool accumulate, void *workspace)
{
    WinogradRun run = run_with(plan, workspace);
    run.y = y, run.x = x, run.w = w, run.b = b, run.relu = relu, run.accumulate = accumulate;
    papa_ranges(dev, plan->in.C, 4, filter_range, &run);
    papa_ranges(dev, plan->n_slots, 1, conv_slots, &run);
}

/* ---- weight gradients with few channels: shards */

static void sum_shard(const WinogradRun *run, float *sums, float *scratch, int64_t first, int64_t last)
{
    const PapaWinograd *plan = run->plan;
    PapaWinogradTiles v = tiles_at(scratch, plan, plan->in.C, &scratch), z = tiles_at(scratch, plan, plan->out.C, &scratch);
    for (int64_t t = first; t < last; t += plan->block) {
        int64_t count = at_most(plan->block, last - t);
        plan->unit->transform_input(&plan->in, run->x, t, count, v, run->zeros);
        plan->unit->transform_gradient(&plan->out, run->dy, t, count, z, run->zeros);
        for (int64_t f = 0; f < FREQUENCIES; f++)
            plan->unit->correlate(sums + f * plan->filter_frequency, z.data + f * z.frequency, z.group, v.data + f * v.frequency, v.group,
                plan->out.C, plan->in.C, count, t > first);
    }
}

static void shard_slots(void *context, int64_t begin, int64_t end)
{
    const WinogradRun *run = context;
    const PapaWinograd *plan = run->plan;
    for (int64_t slot = begin; slot < end; slot++)
        for (int64_t s = plan->n_shards * slot / plan->n_slots; s < plan->n_shards * (slot + 1) / plan->n_slots; s++)
            sum_shard(run, run->shared + s * FREQUENCIES * plan->filter_frequency, run->slots + (size_t)slot * plan->slot,
                plan->n_tiles * s / plan->n_shards, plan->n_tiles * (s + 1) / plan->n_shards);
}

static void finish_shards(void *context, int64_t begin, int64_t end)
{
    const WinogradRun *run = context;
    const PapaWinograd *plan = run->plan;
    int64_t C = plan->in.C;
    plan->unit->transform_filter_gradient(run->dw + begin * C * 9, run->shared + begin * C, plan->filter_frequency,
        FREQUENCIES * plan->filter_frequency, plan->n_shards, end - begin, C, run->accumulate);
}

/* ---- with many: chunks and slices */

static void chunk_range(void *context, int64_t begin, int64_t end)
{
    const WinogradRun *run = context;
    const PapaWinograd *plan = run->plan;
    float *next = run->shared;
    PapaWinogradTiles v = tiles_at(next, plan, plan->in.C, &next), z = tiles_at(next, plan, plan->out.C, &next);
    plan->unit->transform_input(&plan->in, run->x, run->first + begin, end - begin, from_tile(v, begin), run->zeros);
    plan->unit->transform_gradient(&plan->out, run->dy, run->first + begin, end - begin, from_tile(z, begin), run->zeros);
}

static void slice_slots(void *context, int64_t begin, int64_t end)
{
    const WinogradRun *run = context;
    const PapaWinograd *plan = run->plan;
    int64_t C = plan->in.C, n_slices = plan->out.C / plan->slice;
    float *all_sums = run->shared;
    PapaWinogradTiles v = tiles_at(all_sums, plan, C, &all_sums), z = tiles_at(all_sums, plan, plan->out.C, &all_sums);
    for (int64_t slot = begin; slot < end; slot++)
        for (int64_t s = n_slices * slot / plan->n_slots; s < n_slices * (slot + 1) / plan->n_slots; s++) {
            int64_t row = s * plan->slice;
            float *sums = plan->slot ? run->slots + (size_t)slot * plan->slot : all_sums + row * C;
            for (int64_t f = 0; f < FREQUENCIES; f++)
                plan->unit->correlate(sums + f * plan->filter_frequency, z.data + f * z.frequency + row / GROUP * z.group, z.group,
                    v.data + f * v.frequency, v.group, plan->slice, C, run->count, run->first > 0);
            if (run->first + run->count == plan->n_tiles)
                plan->unit->transform_filter_gradient(run->dw + row * C * 9, sums, plan->filter_frequency, 0, 1, plan->slice, C,
                    run->accumulate);
        }
}

void papa_winograd_bwd_weights(PapaDevice *dev, const PapaWinograd *plan, float *dw, const float *x, const float *dy, bool accumulate,
    void *workspace)
{
    WinogradRun run = run_with(plan, workspace);
    run.dw = dw, run.x = x, run.dy = dy, run.accumulate = accumulate;
    if (plan->n_shards) {
        papa_ranges(dev, plan->n_slots, 1, shard_slots, &run);
        papa_ranges(dev, plan->out.C, 4, finish_shards, &run);
        return;
    }
    for (run.first = 0; run.first < plan->n_tiles; run.first += run.count) {
        run.count = at_most(plan->block, plan->n_tiles - run.first);
        papa_ranges(dev, run.count, 8, chunk_range, &run);
        papa_ranges(dev, plan->n_slots, 1, slice_slots, &run);
    }
}
