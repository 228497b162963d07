/* Reference half of batchnorm.h. */
#include "kernels/batchnorm.h"

#include <math.h>

size_t papa_batchnorm_workspace_ref(int64_t rows, int64_t C)
{
    (void)rows, (void)C;
    return 0;
}

PapaStatus papa_batchnorm_fwd_running_ref(PapaDevice *dev, const PapaBatchNorm *bn, PapaReal *y, float *mean, float *rstd, const PapaReal *x,
    const float *scale, const float *shift, const float *running_mean, const float *running_var, const PapaReal *residual, void *workspace)
{
    (void)dev, (void)workspace;
    for (int64_t c = 0; c < bn->C; c++) {
        const double center = ((const double *)running_mean)[c], inverse = 1 / sqrt(((const double *)running_var)[c] + (double)bn->eps);
        for (int64_t r = 0; r < bn->rows; r++) {
            const int64_t i = r * bn->C + c;
            double t = (((const double *)x)[i] - center) * inverse * ((const double *)scale)[c] + ((const double *)shift)[c];
            t += residual ? ((const double *)residual)[i] : 0;
            ((double *)y)[i] = bn->relu && t < 0 ? 0 : t;
        }
        if (mean)
            ((double *)mean)[c] = center;
        if (rstd)
            ((double *)rstd)[c] = inverse;
    }
    return PAPA_OK;
}
