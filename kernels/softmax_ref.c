/* Reference half of softmax.h. */
#include "kernels/softmax.h"

#include <math.h>

/* D elements, `step` apart. A NaN is no maximum; it comes in with the exponentials. */
static void softmax(double *y, const double *x, int64_t D, int64_t step, bool log_of_it)
{
    double max = -INFINITY, sum = 0;
    for (int64_t d = 0; d < D; d++)
        max = x[d * step] > max ? x[d * step] : max;
    for (int64_t d = 0; d < D; d++)
        sum += exp(x[d * step] - max);
    for (int64_t d = 0; d < D; d++) {
        const double t = x[d * step] - max;
        y[d * step] = log_of_it ? t - log(sum) : exp(t) / sum;
    }
}

PapaStatus papa_softmax_fwd_ref(PapaDevice *dev, PapaReal *y, const PapaReal *x, int64_t outer, int64_t D, int64_t inner, bool log_of_it)
{
    (void)dev;
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < inner; i++)
            softmax((double *)y + o * D * inner + i, (const double *)x + o * D * inner + i, D, inner, log_of_it);
    return PAPA_OK;
}
