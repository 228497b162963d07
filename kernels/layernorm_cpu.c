/* CPU half of layernorm.h. A row stays in the cache for the few passes over it, so that memory is read once. Backward takes rows in blocks, the
 * unit that threads share: a block adds its rows' shares of dscale and dshift up in numbers of its own, which are joined in the end. */
#include "kernels/layernorm.h"

#include <math.h>
#include <string.h>

#define LANES 64          /* partial sums side by side, in a few registers; sum_lanes knows how many */
#define CHUNK 64          /* terms that one float32 takes before it is added to the double */
#define MAX_BLOCKS 64
#define LEAST_ROWS 32     /* of a block: what it needs of the workspace is then less than its part of x */
#define GRAIN 16384       /* elements that a block has at least, and that are worth a thread */
#define INLINE static inline __attribute__((always_inline))

typedef struct Pass {
    int64_t rows, D, block_rows;
    float eps;
    const float *x, *dy, *scale, *shift;
    float *to;                 /* y or dx */
    float *to_mean, *to_rstd;  /* forward */
    const float *mean, *rstd;  /* backward */
    double *sums;              /* by block: dshift (D), dscale (D) */
    float *chunks;             /* by block: the same, of the last rows */
    bool accumulate, columns;
} Pass;

/* ---------------------------------------------------------------- sums over a row */

typedef enum Term { TERM_SHIFTED, TERM_SQUARE, TERM_GRADIENTS } Term;

/* One element of each lane: x - c, its square, or g and g * (x - c). */
INLINE void add_lanes(Term t, float *first, float *second, const float *x, float c, const float *dy, const float *scale, int64_t n)
{
    for (int64_t l = 0; l < n; l++) {
        const float d = x[l] - c;
        if (t == TERM_SHIFTED)
            first[l] += d;
        else if (t == TERM_SQUARE)
            first[l] += d * d;
        else {
            const float g = dy[l] * scale[l];
            first[l] += g;
            second[l] += g * d;
        }
    }
}

/* Halves are added up; a chain of LANES additions would take longer than a short row. */
INLINE double sum_lanes(float *lanes)
{
    for (int l = 0; l < 32; l++)
        lanes[l] += lanes[l + 32];
    for (int l = 0; l < 16; l++)
        lanes[l] += lanes[l + 16];
    for (int l = 0; l < 8; l++)
        lanes[l] += lanes[l + 8];
    for (int l = 0; l < 4; l++)
        lanes[l] += lanes[l + 4];
    return ((double)lanes[0] + (double)lanes[2]) + ((double)lanes[1] + (double)lanes[3]);
}

/* total[0] (and with TERM_GRADIENTS total[1]) = the sum over a row. */
INLINE void sum_row(Term t, double *total, const float *x, float c, const float *dy, const float *scale, int64_t n)
{
    total[0] = total[1] = 0;
    for (int64_t begin = 0; begin < n; begin += LANES * CHUNK) {
        const int64_t end = n - begin < LANES * CHUNK ? n : begin + LANES * CHUNK;
        float first[LANES] = {0}, second[LANES] = {0};
        int64_t j = begin;
        for (; j + LANES <= end; j += LANES)
            add_lanes(t, first, second, x + j, c, dy + j, scale + j, LANES);
        add_lanes(t, first, second, x + j, c, dy + j, scale + j, end - j);
        total[0] += sum_lanes(first);
        if (t == TERM_GRADIENTS)
            total[1] += sum_lanes(second);
    }
}

/* ---------------------------------------------------------------- forward */

INLINE void forward_row(const Pass *p, int64_t r)
{
    const int64_t D = p->D;
    const float *x = p->x + r * D;
    float *y = p->to + r * D;
    double sum[2], squares[2], mean = 0, variance = 0;
    if (D) {
        sum_row(TERM_SHIFTED, sum, x, x[0], x, x, D);
        mean = (double)x[0] + sum[0] / (double)D;
        sum_row(TERM_SQUARE, squares, x, (float)mean, x, x, D);
        const double rounding = mean - (double)(float)mean; /* the squares were taken around the rounded mean */
        variance = squares[0] / (double)D - rounding * rounding;
        variance = variance < 0 ? 0 : variance;
    }
    const float center = (float)mean, rstd = (float)(1 / sqrt(variance + (double)p->eps));
    if (p->to_mean)
        p->to_mean[r] = center;
    if (p->to_rstd)
        p->to_rstd[r] = rstd;
    const float *scale = p->scale, *shift = p->shift;
    if (shift) {
        PAPA_IVDEP
        for (int64_t j = 0; j < D; j++)
            y[j] = (x[j] - center) * rstd * scale[j] + shift[j];
    } else {
        PAPA_IVDEP
        for (int64_t j = 0; j < D; j++)
            y[j] = (x[j] - center) * rstd * scale[j];
    }
}

PAPA_SIMD static void forward_range(void *context, int64_t begin, int64_t end)
{
    for (int64_t r = begin; r < end; r++)
        forward_row(context, r);
}

PapaStatus papa_layernorm_fwd_cpu(PapaDevice *dev, const PapaLayerNorm *ln, float *y, float *mean, float *rstd, const float *x, const float *scale,
    const float *shift)
{
    Pass p = {.rows = ln->rows, .D = ln->D, .eps = ln->eps, .to = y, .to_mean = mean, .to_rstd = rstd, .x = x, .scale = scale, .shift = shift};
    papa_ranges(dev, ln->rows, GRAIN / (ln->D + 1) + 1, forward_range, &p);
    return PAPA_OK;
}

/* ---------------------------------------------------------------- backward */

/* Rows of a block. Depends on the shape alone. */
static int64_t block_rows_of(int64_t rows, int64_t D)
{
    const int64_t even = (rows + MAX_BLOCKS - 1) / MAX_BLOCKS, worth = D ? (GRAIN + D - 1) / D : 1;
    const int64_t n = even > worth ? even : worth;
    return n > LEAST_ROWS ? n : LEAST_ROWS;
}

static int64_t n_blocks_of(int64_t rows, int64_t D)
{
    const int64_t block_rows = block_rows_of(rows, D);
    return (rows + block_rows - 1) / block_rows;
}

size_t papa_layernorm_workspace_cpu(int64_t rows, int64_t D)
{
    return (size_t)(n_blocks_of(rows, D) * D) * 2 * (sizeof(double) + sizeof(float));
}

/* dx (+)= rstd * (g - mean_g - (x - mean) * slope). */
INLINE void gradient_row(const Pass *p, int64_t r)
{
    const int64_t D = p->D;
    const float *x = p->x + r * D, *dy = p->dy + r * D, *scale = p->scale;
    float *dx = p->to + r * D;
    const float center = p->mean[r], rstd = p->rstd[r];
    double sums[2];
    sum_row(TERM_GRADIENTS, sums, x, center, dy, scale, D);
    const float mean_g = (float)(sums[0] / (double)D), slope = (float)(sums[1] / (double)D * (double)rstd * (double)rstd);
    if (p->accumulate) {
        PAPA_IVDEP
        for (int64_t j = 0; j < D; j++)
            dx[j] += rstd * (dy[j] * scale[j] - mean_g - (x[j] - center) * slope);
    } else {
        PAPA_IVDEP
        for (int64_t j = 0; j < D; j++)
            dx[j] = rstd * (dy[j] * scale[j] - mean_g - (x[j] - center) * slope);
    }
}

/* Adds dy and dy * x^ of one row. */
INLINE void add_columns(const Pass *p, float *dshift, float *dscale, int64_t r)
{
    const float *x = p->x + r * p->D, *dy = p->dy + r * p->D;
    const float center = p->mean[r], rstd = p->rstd[r];
    PAPA_IVDEP
    for (int64_t j = 0; j < p->D; j++) {
        dshift[j] += dy[j];
        dscale[j] += dy[j] * ((x[j] - center) * rstd);
    }
}

INLINE void flush(double *sums, float *chunk, int64_t n)
{
    for (int64_t j = 0; j < n; j++)
        sums[j] += (double)chunk[j], chunk[j] = 0;
}

INLINE void backward_block(const Pass *p, int64_t block)
{
    const int64_t D = p->D, begin = block * p->block_rows, end = p->rows - begin < p->block_rows ? p->rows : begin + p->block_rows;
    double *sums = p->columns ? p->sums + block * 2 * D : NULL;
    float *chunk = p->columns ? p->chunks + block * 2 * D : NULL;
    if (p->columns)
        memset(sums, 0, (size_t)(2 * D) * sizeof *sums), memset(chunk, 0, (size_t)(2 * D) * sizeof *chunk);
    for (int64_t r = begin; r < end; r++) {
        if (p->columns) { /* before dx, which may be dy, is written */
            add_columns(p, chunk, chunk + D, r);
            if ((r - begin) % CHUNK == CHUNK - 1 || r == end - 1)
                flush(sums, chunk, 2 * D);
        }
        if (p->to)
            gradient_row(p, r);
    }
}

PAPA_SIMD static void backward_range(void *context, int64_t begin, int64_t end)
{
    for (int64_t block = begin; block < end; block++)
        backward_block(context, block);
}

/* to (+)= the blocks' sums. */
static void join(float *to, const double *sums, int64_t n_blocks, int64_t D, bool accumulate)
{
    for (int64_t j = 0; j < D; j++) {
        double sum = 0;
        for (int64_t b = 0; b < n_blocks; b++)
            sum += sums[b * 2 * D + j];
        to[j] = (float)sum + (accumulate ? to[j] : 0);
    }
}

PapaStatus papa_layernorm_bwd_cpu(PapaDevice *dev, const PapaLayerNorm *ln, const PapaLayerNormGradients *to, const float *dy, const float *x,
    const float *scale, const float *mean, const float *rstd, void *workspace)
{
    const int64_t rows = ln->rows, D = ln->D, n_blocks = n_blocks_of(rows, D);
    Pass p = {.rows = rows, .D = D, .block_rows = block_rows_of(rows, D), .x = x, .dy = dy, .scale = scale, .to = to->dx,
        .mean = mean, .rstd = rstd, .sums = workspace, .chunks = (float *)((double *)workspace + n_blocks * 2 * D),
        .accumulate = to->accumulate & PAPA_LAYERNORM_DX, .columns = to->dscale || to->dshift};
    if (D && (p.to || p.columns))
        papa_ranges(dev, n_blocks, 1, backward_range, &p);
    if (to->dshift)
        join(to->dshift, p.sums, n_blocks, D, to->accumulate & PAPA_LAYERNORM_DSHIFT);
    if (to->dscale)
        join(to->dscale, p.sums + D, n_blocks, D, to->accumulate & PAPA_LAYERNORM_DSCALE);
    return PAPA_OK;
}
