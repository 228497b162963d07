/* CPU half of batchnorm.h. All loops are bound by memory if only enough columns lie side by side, so with few channels several
 * rows are read as one: x, dense, is (rows / fold, fold * C) just as well, and per-channel numbers are repeated fold times.
 *
 * The sums of a pass are taken by blocks of rows, blocks being the unit that threads share, and by tiles of TILE columns inside.
 * The workspace holds two doubles per block and channel, then per-channel numbers, repeated. */
#include "kernels/batchnorm.h"

#include <math.h>

#define TILE 64           /* columns that are summed side by side, in registers where there are enough */
#define CHUNK 64          /* rows that one float32 accumulator takes before it is added to the double */
#define MAX_BLOCKS 64
#define BLOCK_GRAIN 16384 /* elements that a block has at least, and that are worth a thread */
#define INLINE static inline __attribute__((always_inline))

/* How (rows, C) is cut. Depends on the shape alone. */
typedef struct Cut {
    int64_t rows, C;
    int64_t fold, width;         /* rows read as one, and its columns: fold * C */
    int64_t block_rows, n_blocks; /* of the original rows; all but the last block are multiples of fold */
} Cut;

static Cut cut_of(int64_t rows, int64_t C)
{
    Cut cut = {.rows = rows, .C = C, .fold = C > 0 && C < TILE ? TILE / C : 1};
    cut.width = cut.fold * C;
    const int64_t least = C ? (BLOCK_GRAIN + C - 1) / C : 1, even = (rows + MAX_BLOCKS - 1) / MAX_BLOCKS;
    cut.block_rows = ((least > even ? least : even) + cut.fold - 1) / cut.fold * cut.fold;
    cut.n_blocks = (rows + cut.block_rows - 1) / cut.block_rows;
    return cut;
}

#define N_PARAMETERS 4

size_t papa_batchnorm_workspace_cpu(int64_t rows, int64_t C)
{
    const Cut cut = cut_of(rows, C);
    return (size_t)(cut.n_blocks * C) * 2 * sizeof(double) + (size_t)cut.width * N_PARAMETERS * sizeof(float);
}

typedef struct Pass {
    Cut cut;
    const float *x, *dy, *y, *residual; /* inputs */
    float *to, *dresidual;
    double *first, *second; /* (n_blocks, C): mean and sum of squared deviations, or sums of g and of g * (x - mean) */
    float *p[N_PARAMETERS]; /* (width) each */
    const float *mean;      /* (C) */
    bool relu, accumulate, accumulate_residual;
} Pass;

static Pass pass_of(const PapaBatchNorm *bn, void *workspace)
{
    Pass pass = {.cut = cut_of(bn->rows, bn->C), .relu = bn->relu, .first = workspace};
    pass.second = pass.first + pass.cut.n_blocks * bn->C;
    pass.p[0] = (float *)(pass.second + pass.cut.n_blocks * bn->C);
    for (int i = 1; i < N_PARAMETERS; i++)
        pass.p[i] = pass.p[i - 1] + pass.cut.width;
    return pass;
}

/* Repeats the first C numbers up to width. */
static void repeat(float *p, const Cut *cut)
{
    for (int64_t j = cut->C; j < cut->width; j++)
        p[j] = p[j - cut->C];
}

/* ---------------------------------------------------------------- sums over a block */

typedef enum Kind { MOMENTS, GRADIENTS, GRADIENTS_MASKED } Kind;

/* Adds n columns over `rows` rows, at most CHUNK: of d = x - center and d^2, or of g and g * d. */
INLINE void sum_chunk(Kind kind, double *first, double *second, const float *center, const Pass *p, int64_t offset, int64_t rows, int64_t stride,
    int64_t n)
{
    float a[TILE] = {0}, b[TILE] = {0};
    const float *x = p->x + offset;
    if (kind == MOMENTS) {
        for (int64_t r = 0; r < rows; r++)
            for (int64_t j = 0; j < n; j++) {
                const float d = x[r * stride + j] - center[j];
                a[j] += d;
                b[j] += d * d;
            }
    } else {
        const float *dy = p->dy + offset, *y = kind == GRADIENTS_MASKED ? p->y + offset : dy;
        for (int64_t r = 0; r < rows; r++)
            for (int64_t j = 0; j < n; j++) {
                const float d = x[r * stride + j] - center[j], dyj = dy[r * stride + j];
                const float g = kind == GRADIENTS_MASKED && !(y[r * stride + j] > 0) ? 0 : dyj;
                a[j] += g;
                b[j] += g * d;
            }
    }
    for (int64_t j = 0; j < n; j++)
        first[j] += (double)a[j], second[j] += (double)b[j];
}

/* Columns column .. column + n - 1 of one block; the results are added to their channels' totals. */
INLINE void sum_tile(Kind kind, const Pass *p, int64_t block, int64_t column, int64_t n)
{
    const Cut *cut = &p->cut;
    const int64_t begin = block * cut->block_rows, left = cut->rows - begin;
    const int64_t n_rows = left < cut->block_rows ? left : cut->block_rows, n_folded = n_rows / cut->fold;
    const int64_t offset = begin * cut->C + column;
    double first[TILE] = {0}, second[TILE] = {0};
    float center[TILE];
    for (int64_t j = 0; j < n; j++)
        center[j] = kind == MOMENTS ? p->x[begin * cut->C + (column + j) % cut->C] : p->mean[(column + j) % cut->C];
    for (int64_t r = 0; r < n_folded; r += CHUNK) {
        const int64_t rows = n_folded - r < CHUNK ? n_folded - r : CHUNK;
        if (n == TILE) /* a constant, for the compiler */
            sum_chunk(kind, first, second, center, p, offset + r * cut->width, rows, cut->width, TILE);
        else
            sum_chunk(kind, first, second, center, p, offset + r * cut->width, rows, cut->width, n);
    }
    if (n_rows % cut->fold) /* rows that don't fill a folded one; then C < TILE and this is the only tile */
        sum_chunk(kind, first, second, center, p, offset + n_folded * cut->width, 1, cut->width, n_rows % cut->fold * cut->C);

    double *to_first = p->first + block * cut->C, *to_second = p->second + block * cut->C;
    const int64_t channel = cut->fold > 1 ? 0 : column, n_channels = cut->fold > 1 ? cut->C : n;
    for (int64_t c = 0; c < n_channels; c++) {
        double a = 0, b = 0;
        for (int64_t j = c; j < n; j += n_channels)
            a += first[j], b += second[j];
        if (kind == MOMENTS) /* sums around the center become the mean and the sum of squares around it */
            b = fmax(0, b - a * a / (double)n_rows), a = (double)center[c] + a / (double)n_rows;
        to_first[channel + c] = a, to_second[channel + c] = b;
    }
}

INLINE void sum_blocks(Kind kind, const Pass *p, int64_t begin, int64_t end)
{
    for (int64_t block = begin; block < end; block++)
        for (int64_t column = 0; column < p->cut.width; column += TILE)
            sum_tile(kind, p, block, column, p->cut.width - column < TILE ? p->cut.width - column : TILE);
}

PAPA_SIMD static void moments_range(void *context, int64_t begin, int64_t end)
{
    sum_blocks(MOMENTS, context, begin, end);
}

PAPA_SIMD static void gradients_range(void *context, int64_t begin, int64_t end)
{
    const Pass *p = context;
    if (p->relu)
        sum_blocks(GRADIENTS_MASKED, p, begin, end);
    else
        sum_blocks(GRADIENTS, p, begin, end);
}

/* ---------------------------------------------------------------- forward */

/* y = (x - p0) * p1 + p2 [+ residual] [, max(0, that)] for n elements of a row. */
INLINE void normalize_row(bool relu, bool add, float *y, const float *x, const float *residual, const float *mean, const float *factor,
    const float *shift, int64_t n)
{
    PAPA_IVDEP
    for (int64_t j = 0; j < n; j++) {
        float t = (x[j] - mean[j]) * factor[j] + shift[j];
        if (add)
            t += residual[j];
        y[j] = relu && t < 0 ? 0 : t;
    }
}

INLINE void normalize(bool relu, bool add, const Pass *p, int64_t begin, int64_t end)
{
    const Cut *cut = &p->cut;
    const int64_t width = cut->width, total = cut->rows * cut->C;
    for (int64_t r = begin; r < end; r++) {
        const int64_t at = r * width, n = total - at < width ? total - at : width;
        normalize_row(relu, add, p->to + at, p->x + at, add ? p->residual + at : NULL, p->p[0], p->p[1], p->p[2], n);
    }
}

PAPA_SIMD static void normalize_range(void *context, int64_t begin, int64_t end)
{
    const Pass *p = context;
    if (p->relu && p->residual)
        normalize(true, true, p, begin, end);
    else if (p->relu)
        normalize(true, false, p, begin, end);
    else if (p->residual)
        normalize(false, true, p, begin, end);
    else
        normalize(false, false, p, begin, end);
}

/* Runs body over the folded rows. */
static void over_rows(PapaDevice *dev, Pass *p, papa_range_fn *body)
{
    const int64_t n = (p->cut.rows + p->cut.fold - 1) / p->cut.fold;
    papa_ranges(dev, p->cut.width ? n : 0, p->cut.width < BLOCK_GRAIN ? BLOCK_GRAIN / (p->cut.width + 1) : 1, body, p);
}

static void run_normalize(PapaDevice *dev, Pass *p, const float *mean, const float *rstd, const float *scale, const float *shift)
{
    for (int64_t c = 0; c < p->cut.C; c++)
        p->p[0][c] = mean[c], p->p[1][c] = rstd[c] * scale[c], p->p[2][c] = shift[c];
    for (int i = 0; i < 3; i++)
        repeat(p->p[i], &p->cut);
    over_rows(dev, p, normalize_range);
}

/* Joins the blocks' means and sums of squares (Chan, Golub and LeVeque 1983). */
static void join_moments(const Pass *p, int64_t c, double *mean, double *variance)
{
    const Cut *cut = &p->cut;
    double sum = 0, squares = 0;
    for (int64_t b = 0; b < cut->n_blocks; b++) {
        const int64_t left = cut->rows - b * cut->block_rows;
        sum += (double)(left < cut->block_rows ? left : cut->block_rows) * p->first[b * cut->C + c];
    }
    *mean = sum / (double)cut->rows;
    for (int64_t b = 0; b < cut->n_blocks; b++) {
        const int64_t left = cut->rows - b * cut->block_rows;
        const double d = p->first[b * cut->C + c] - *mean;
        squares += p->second[b * cut->C + c] + (double)(left < cut->block_rows ? left : cut->block_rows) * d * d;
    }
    *variance = squares / (double)cut->rows;
}

PapaStatus papa_batchnorm_fwd_batch_cpu(PapaDevice *dev, const PapaBatchNorm *bn, float *y, float *mean, float *rstd,
    float *running_mean, float *running_var, const float *x, const float *scale, const float *shift, const float *residual,
    float momentum, const float *step_momentum, void *workspace)
{
    Pass p = pass_of(bn, workspace);
    p.x = x, p.residual = residual, p.to = y;
    papa_ranges(dev, p.cut.n_blocks, 1, moments_range, &p);
    const double m = (double)(step_momentum ? *step_momentum : momentum);
    for (int64_t c = 0; c < bn->C; c++) {
        double batch_mean = 0, batch_var = 0;
        if (bn->rows) {
            join_moments(&p, c, &batch_mean, &batch_var);
            running_mean[c] = (float)(m * (double)running_mean[c] + (1 - m) * batch_mean);
            running_var[c] = (float)(m * (double)running_var[c] + (1 - m) * batch_var);
        }
        mean[c] = (float)batch_mean;
        rstd[c] = (float)(1 / sqrt(batch_var + (double)bn->eps));
    }
    run_normalize(dev, &p, mean, rstd, scale, shift);
    return PAPA_OK;
}

PapaStatus papa_batchnorm_fwd_running_cpu(PapaDevice *dev, const PapaBatchNorm *bn, float *y, float *mean, float *rstd,
    const float *x, const float *scale, const float *shift, const float *running_mean, const float *running_var, const float *residual,
    void *workspace)
{
    Pass p = pass_of(bn, workspace);
    p.x = x, p.residual = residual, p.to = y;
    float *inverse = rstd ? rstd : p.p[N_PARAMETERS - 1];
    for (int64_t c = 0; c < bn->C; c++) {
        inverse[c] = (float)(1 / sqrt((double)running_var[c] + (double)bn->eps));
        if (mean)
            mean[c] = running_mean[c];
    }
    run_normalize(dev, &p, running_mean, inverse, scale, shift);
    return PAPA_OK;
}

/* ---------------------------------------------------------------- backward */

/* dx (+)= p1 * g - p2 - (x - p0) * p3, with fixed statistics p1 * g; dresidual (+)= g. The flags are constants, a loop for each. */
INLINE void gradient_row(bool relu, bool fixed, bool to_x, bool to_residual, const Pass *p, int64_t at, int64_t n)
{
    const float *x = p->x + at, *dy = p->dy + at, *y = relu ? p->y + at : dy;
    const float *mean = p->p[0], *factor = p->p[1], *constant = p->p[2], *slope = p->p[3];
    float *dx = to_x ? p->to + at : NULL, *dresidual = to_residual ? p->dresidual + at : NULL;
    const bool add = p->accumulate, add_residual = p->accumulate_residual;
    PAPA_IVDEP
    for (int64_t j = 0; j < n; j++) {
        const float g = relu && !(y[j] > 0) ? 0 : dy[j];
        if (to_x) {
            const float d = fixed ? factor[j] * g : factor[j] * g - constant[j] - (x[j] - mean[j]) * slope[j];
            dx[j] = add ? dx[j] + d : d;
        }
        if (to_residual)
            dresidual[j] = add_residual ? dresidual[j] + g : g;
    }
}

INLINE void gradient_rows(bool relu, bool fixed, const Pass *p, int64_t begin, int64_t end)
{
    const int64_t width = p->cut.width, total = p->cut.rows * p->cut.C;
    for (int64_t r = begin; r < end; r++) {
        const int64_t at = r * width, n = total - at < width ? total - at : width;
        if (p->to && p->dresidual)
            gradient_row(relu, fixed, true, true, p, at, n);
        else if (p->to)
            gradient_row(relu, fixed, true, false, p, at, n);
        else
            gradient_row(relu, fixed, false, true, p, at, n);
    }
}

PAPA_SIMD static void gradient_range(void *context, int64_t begin, int64_t end)
{
    const Pass *p = context;
    if (p->relu)
        gradient_rows(true, false, p, begin, end);
    else
        gradient_rows(false, false, p, begin, end);
}

PAPA_SIMD static void gradient_fixed_range(void *context, int64_t begin, int64_t end)
{
    const Pass *p = context;
    if (p->relu)
        gradient_rows(true, true, p, begin, end);
    else
        gradient_rows(false, true, p, begin, end);
}

/* The sums of g and of g * (x - mean), from the blocks; the per-channel results and the numbers that the second pass needs. */
static void join_gradients(Pass *p, const PapaBatchNormGradients *to, const float *scale, const float *rstd)
{
    const Cut *cut = &p->cut;
    for (int64_t c = 0; c < cut->C; c++) {
        double g = 0, gd = 0;
        for (int64_t b = 0; b < cut->n_blocks; b++)
            g += p->first[b * cut->C + c], gd += p->second[b * cut->C + c];
        if (to->dshift)
            to->dshift[c] = (float)g + (to->accumulate & PAPA_BATCHNORM_DSHIFT ? to->dshift[c] : 0);
        if (to->dscale)
            to->dscale[c] = (float)(gd * (double)rstd[c]) + (to->accumulate & PAPA_BATCHNORM_DSCALE ? to->dscale[c] : 0);
        const double factor = (double)scale[c] * (double)rstd[c] / (double)cut->rows;
        p->p[2][c] = (float)(factor * g);
        p->p[3][c] = (float)(factor * gd * (double)rstd[c] * (double)rstd[c]);
    }
}

PapaStatus papa_batchnorm_bwd_cpu(PapaDevice *dev, const PapaBatchNorm *bn, bool fixed, const PapaBatchNormGradients *to, const float *dy,
    const float *x, const float *y, const float *scale, const float *mean, const float *rstd, void *workspace)
{
    Pass p = pass_of(bn, workspace);
    p.x = x, p.dy = dy, p.y = y, p.mean = mean, p.to = to->dx, p.dresidual = to->dresidual;
    p.accumulate = to->accumulate & PAPA_BATCHNORM_DX, p.accumulate_residual = to->accumulate & PAPA_BATCHNORM_DRESIDUAL;
    if (to->dscale || to->dshift || (to->dx && !fixed)) {
        papa_ranges(dev, p.cut.n_blocks, 1, gradients_range, &p);
        join_gradients(&p, to, scale, rstd);
    }
    if (!to->dx && !to->dresidual)
        return PAPA_OK;
    for (int64_t c = 0; c < bn->C; c++)
        p.p[0][c] = mean[c], p.p[1][c] = scale[c] * rstd[c];
    for (int i = 0; i < N_PARAMETERS; i++)
        if (i < 2 || !fixed)
            repeat(p.p[i], &p.cut);
    over_rows(dev, &p, fixed ? gradient_fixed_range : gradient_range);
    return PAPA_OK;
}
