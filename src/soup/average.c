/* The mean of stores. */
#include "kernels/mix.h"
#include "soup/soup.h"

PapaStatus papa_soup_mean(PapaDevice *dev, float *to, const float *const *stores, const double *weights, int n, const PapaStoreLayout *layout)
{
    if (n < 1 || n > PAPA_MIX_MAX)
        return papa_fail(PAPA_ERR_ARGUMENT, "a soup of %d models, expected 1 to %d", n, PAPA_MIX_MAX);
    return PAPA_KERNEL(dev, papa_mix_mean)(dev, to, stores, weights, n, layout->n_total);
}
