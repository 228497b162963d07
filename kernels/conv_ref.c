/* Reference half of conv.h: the sum as the contract has it, for PIXELS outputs of a row and LANES of their channels at a time. Weights are brought
 * into the order (group, block of LANES channels, r, s, c, lane) first, filled up with zeros. What lies outside of the map is read from zeros, so that every
 * output is summed in one order. */
#include "kernels/conv.h"

#include <stdlib.h>
#include <string.h>

#define PIXELS 4
#define LANES 16

struct PapaConv {
    PapaConvDesc desc;
    int64_t n_blocks; /* of a group's output channels */
};

PapaStatus papa_conv_create_ref(PapaDevice *dev, PapaConv **out, const PapaConvDesc *desc, bool training)
{
    (void)dev;
    *out = NULL;
    assert(!training);
    (void)training;
    PAPA_TRY(papa_conv_check(desc));
    PapaConv *conv = malloc(sizeof *conv);
    if (!conv)
        return papa_fail_memory(sizeof *conv, "a convolution's plan");
    *conv = (PapaConv){.desc = *desc, .n_blocks = (desc->K / desc->groups + LANES - 1) / LANES};
    *out = conv;
    return PAPA_OK;
}

void papa_conv_free_ref(PapaConv *conv)
{
    free(conv);
}

static int64_t block_count(const PapaConv *conv)
{
    const PapaConvDesc *d = &conv->desc;
    return d->C / d->groups * d->R * d->S * LANES;
}

size_t papa_conv_workspace_ref(const PapaConv *conv, PapaConvPass pass)
{
    const PapaConvDesc *d = &conv->desc;
    assert(pass == PAPA_CONV_FWD);
    (void)pass;
    return (size_t)(d->groups * conv->n_blocks * block_count(conv) + d->C / d->groups) * sizeof(double);
}

typedef struct Pass {
    const PapaConv *conv;
    double *y;
    const double *x, *w, *b; /* w: in our order */
    const double *zeros;     /* C / groups of them */
} Pass;

static void order_weights(const PapaConv *conv, double *to, const double *w)
{
    const PapaConvDesc *d = &conv->desc;
    const int64_t K = d->K / d->groups, C = d->C / d->groups, window = d->R * d->S;
    memset(to, 0, papa_conv_workspace_ref(conv, PAPA_CONV_FWD));
    for (int64_t k = 0; k < d->K; k++) {
        double *block = to + (k / K * conv->n_blocks + k % K / LANES) * block_count(conv) + k % K % LANES;
        for (int64_t c = 0; c < C; c++)
            for (int64_t tap = 0; tap < window; tap++)
                block[(tap * C + c) * LANES] = w[(k * C + c) * window + tap];
    }
}

/* sum[i][lane] over the window, of PIXELS outputs from (oh, ow) on. x: the image, at the group's first channel. */
static inline __attribute__((always_inline)) void sum_window(double sum[PIXELS][LANES], const Pass *p, const double *x, const double *w, int64_t oh, int64_t ow)
{
    const PapaConvDesc *d = &p->conv->desc;
    const int64_t C = d->C / d->groups;
    for (int64_t r = 0; r < d->R; r++)
        for (int64_t s = 0; s < d->S; s++, w += C * LANES) {
            const double *from[PIXELS];
            const int64_t ih = oh * d->stride[0] - d->pad[0] + r * d->dilation[0];
            for (int64_t i = 0; i < PIXELS; i++) {
                const int64_t iw = (ow + i) * d->stride[1] - d->pad[1] + s * d->dilation[1];
                const bool inside = ih >= 0 && ih < d->H && iw >= 0 && iw < d->W;
                from[i] = inside ? x + (ih * d->W + iw) * d->C : p->zeros;
            }
            for (int64_t c = 0; c < C; c++) {
#pragma GCC unroll 4
                for (int i = 0; i < PIXELS; i++) {
                    const double v = from[i][c];
#pragma omp simd
                    for (int lane = 0; lane < LANES; lane++)
                        sum[i][lane] += v * w[c * LANES + lane];
                }
            }
        }
}

static inline __attribute__((always_inline)) void block_of_row(const Pass *p, int64_t n, int64_t oh, int64_t group, int64_t block)
{
    const PapaConvDesc *d = &p->conv->desc;
    const int64_t K = d->K / d->groups, first = group * K + block * LANES, lanes = K - block * LANES < LANES ? K - block * LANES : LANES;
    const double *x = p->x + n * d->H * d->W * d->C + group * (d->C / d->groups);
    const double *w = p->w + (group * p->conv->n_blocks + block) * block_count(p->conv);
    for (int64_t ow = 0; ow < d->OW; ow += PIXELS) {
        double sum[PIXELS][LANES] = {{0}};
        sum_window(sum, p, x, w, oh, ow);
        for (int64_t i = 0; i < PIXELS && ow + i < d->OW; i++)
            for (int64_t lane = 0; lane < lanes; lane++) {
                const double y = sum[i][lane] + (p->b ? p->b[first + lane] : 0);
                p->y[((n * d->OH + oh) * d->OW + ow + i) * d->K + first + lane] = d->relu && y < 0 ? 0 : y;
            }
    }
}

/* Work is counted by block of channels, then by row of outputs, so that a block's weights stay in the cache. */
PAPA_SIMD static void blocks_of_rows(void *context, int64_t begin, int64_t end)
{
    const Pass *p = context;
    const int64_t n_rows = p->conv->desc.N * p->conv->desc.OH;
    for (int64_t at = begin; at < end; at++) {
        const int64_t row = at % n_rows, block = at / n_rows;
        block_of_row(p, row / p->conv->desc.OH, row % p->conv->desc.OH, block / p->conv->n_blocks, block % p->conv->n_blocks);
    }
}

PapaStatus papa_conv_fwd_ref(PapaDevice *dev, const PapaConv *conv, PapaReal *y, const PapaReal *x, const float *w, const float *b, void *workspace)
{
    const PapaConvDesc *d = &conv->desc;
    assert(!b == !d->bias);
    if (!d->N || !d->OH || !d->OW)
        return PAPA_OK;
    double *ordered = workspace;
    order_weights(conv, ordered, (const double *)w);
    Pass p = {.conv = conv, .y = (double *)y, .x = (const double *)x, .w = ordered, .b = (const double *)b,
        .zeros = ordered + d->groups * conv->n_blocks * block_count(conv)};
    papa_ranges(dev, d->groups * conv->n_blocks * d->N * d->OH, 1, blocks_of_rows, &p);
    return PAPA_OK;
}
