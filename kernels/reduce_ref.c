/* Reference half of reduce.h. */
#include "kernels/reduce.h"

/* y's elements are scattered over the walk: one pass to set them, one to add. */
PapaStatus papa_sum_ref(PapaDevice *dev, PapaReal *y, const PapaReal *x, const PapaWalk *walk, double scale, bool accumulate)
{
    (void)dev;
    PapaWalk kept = *walk;
    for (int k = 0; k < kept.rank; k++)
        kept.dim[k] = kept.a[k] ? kept.dim[k] : 1;
    int64_t at, none;
    for (int64_t i = 0; i < papa_walk_count(&kept) && !accumulate; i++) {
        papa_walk_at(&kept, i, &at, &none);
        ((double *)y)[at] = 0;
    }
    for (int64_t i = 0, n = papa_walk_count(walk); i < n; i++) {
        papa_walk_at(walk, i, &at, &none);
        ((double *)y)[at] += scale * ((const double *)x)[i];
    }
    return PAPA_OK;
}

PapaStatus papa_spread_ref(PapaDevice *dev, PapaReal *dx, const PapaReal *dy, const PapaWalk *walk, double scale, bool accumulate)
{
    (void)dev;
    for (int64_t i = 0, n = papa_walk_count(walk); i < n; i++) {
        int64_t at, none;
        papa_walk_at(walk, i, &at, &none);
        const double d = scale * ((const double *)dy)[at];
        ((double *)dx)[i] = accumulate ? ((double *)dx)[i] + d : d;
    }
    return PAPA_OK;
}
