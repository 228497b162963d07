/* See fold.h. Everything is computed in double and rounded once. */
#include "soup/repair_fold.h"

#include <assert.h>
#include <math.h>

void papa_pooled_add(PapaPooled *pooled, const float *mean, const float *std)
{
    double k = pooled->passes++;
    for (int64_t i = 0; i < pooled->n; i++) {
        double step = mean[i] - pooled->mean[i];
        pooled->mean[i] += step / (k + 1);
        pooled->spread[i] += step * step * k / (k + 1); /* Chan et al. 1983, equal counts */
        pooled->variance[i] += ((double)std[i] * std[i] - pooled->variance[i]) / (k + 1);
    }
}

double papa_pooled_std(const PapaPooled *pooled, int64_t i)
{
    return sqrt(pooled->variance[i] + pooled->spread[i] / pooled->passes);
}

static double scale_of(const PapaChannel *channel)
{
    if (isnan(channel->goal_std))
        return 1;
    double eps = PAPA_REPAIR_EPSILON;
    return sqrt((channel->goal_std * channel->goal_std + eps) / (channel->std * channel->std + eps));
}

/* weight as (outer, channels, inner). */
static void scale_weight(float *weight, const PapaShape *shape, int axis, const PapaChannel *channels)
{
    int64_t outer = papa_shape_count_from(shape, 0, axis), inner = papa_shape_count_from(shape, axis + 1, shape->rank);
    for (int64_t o = 0; o < outer; o++)
        for (int64_t c = 0; c < shape->dim[axis]; c++) {
            double s = scale_of(&channels[c]);
            for (int64_t i = 0; i < inner; i++, weight++)
                *weight = (float)(s * *weight);
        }
}

/* value = weight (x) + f b  shall become  to + s (value - mean), with s in the weight already:  f b' = to + s (f b - mean). */
static void move_bias(float *bias, double f, int64_t n, const PapaChannel *channels)
{
    for (int64_t c = 0; c < n; c++) {
        const PapaChannel *channel = &channels[c];
        double to = isnan(channel->goal_mean) ? channel->mean : channel->goal_mean;
        bias[c] = (float)((to + scale_of(channel) * (f * bias[c] - channel->mean)) / f);
    }
}

void papa_repair_fold(float *store, const PapaModel *model, const PapaTap *tap, const PapaChannel *channels)
{
    const PapaParam *weight = &model->params[tap->weight], *bias = &model->params[tap->bias];
    assert(weight->shape.dim[tap->weight_axis] == tap->n_channels && bias->count == tap->n_channels && tap->bias_factor != 0);
    scale_weight(store + weight->offset, &weight->shape, tap->weight_axis, channels);
    move_bias(store + bias->offset, tap->bias_factor, tap->n_channels, channels);
}
