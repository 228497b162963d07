/* Reference half of layernorm.h. */
#include "kernels/layernorm.h"

#include <math.h>

PapaStatus papa_layernorm_fwd_ref(PapaDevice *dev, const PapaLayerNorm *ln, PapaReal *y, float *mean, float *rstd, const PapaReal *x,
    const float *scale, const float *shift)
{
    (void)dev;
    for (int64_t r = 0; r < ln->rows; r++) {
        const double *from = (const double *)x + r * ln->D, *w = (const double *)scale, *b = (const double *)shift;
        double *to = (double *)y + r * ln->D, center = 0, variance = 0;
        for (int64_t j = 0; j < ln->D; j++)
            center += from[j] / (double)ln->D;
        for (int64_t j = 0; j < ln->D; j++)
            variance += (from[j] - center) * (from[j] - center) / (double)ln->D;
        const double inverse = 1 / sqrt(variance + (double)ln->eps);
        for (int64_t j = 0; j < ln->D; j++)
            to[j] = (from[j] - center) * inverse * w[j] + (b ? b[j] : 0);
        if (mean)
            ((double *)mean)[r] = center;
        if (rstd)
            ((double *)rstd)[r] = inverse;
    }
    return PAPA_OK;
}
