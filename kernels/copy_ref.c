/* Reference half of copy.h. */
#include "kernels/copy.h"

#include <string.h>

static void copy_axis(double *to, const double *from, const PapaRegion *region, int axis, bool accumulate)
{
    if (axis == region->rank) {
        *to = accumulate ? *to + *from : *from;
        return;
    }
    for (int64_t i = 0; i < region->dim[axis]; i++)
        copy_axis(to + i * region->to_stride[axis], from + i * region->from_stride[axis], region, axis + 1, accumulate);
}

PapaStatus papa_copy_ref(PapaDevice *dev, PapaReal *to, const PapaReal *from, const PapaRegion *region, bool accumulate)
{
    (void)dev;
    copy_axis((double *)to, (const double *)from, region, 0, accumulate);
    return PAPA_OK;
}

PapaStatus papa_fill_ref(PapaDevice *dev, PapaReal *to, float value, int64_t n)
{
    (void)dev;
    for (int64_t i = 0; i < n; i++)
        ((double *)to)[i] = (double)value;
    return PAPA_OK;
}

/* From the parameter store, and between what nodes compute. */
PapaStatus papa_convert_ref(PapaDevice *dev, void *to, PapaElement to_element, const void *from, PapaElement from_element, int64_t n, bool accumulate)
{
    (void)dev;
    assert(to_element == PAPA_FLOAT64 && from_element != PAPA_BFLOAT16);
    (void)to_element;
    for (int64_t i = 0; i < n; i++) {
        const double x = from_element == PAPA_FLOAT64 ? ((const double *)from)[i] : (double)((const float *)from)[i];
        ((double *)to)[i] = accumulate ? ((double *)to)[i] + x : x;
    }
    return PAPA_OK;
}

PapaStatus papa_gather_fwd_ref(PapaDevice *dev, PapaReal *y, const PapaReal *x, const int64_t *index, int64_t outer, int64_t n_rows, int64_t n,
    int64_t inner)
{
    (void)dev;
    for (int64_t o = 0; o < outer && inner; o++)
        for (int64_t j = 0; j < n; j++)
            memcpy((double *)y + (o * n + j) * inner, (const double *)x + (o * n_rows + index[j]) * inner, (size_t)inner * sizeof(double));
    return PAPA_OK;
}
