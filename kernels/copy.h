/* Moving an activation's elements between strided regions: what Transpose, Slice, Pad, Concat, Split, Gather and Expand are made of.
 *
 * A region is a box of indices with one stride per axis for each side, in elements; strides may be negative, and a from_stride
 * of 0 reads an element again. Pointers are to the element of index (0, ..., 0). Elements written by one call are distinct, so
 * axes and pieces may be walked in any order. Dimensions may be 0. Nothing is allocated; asynchronous on dev's stream. */
#ifndef PAPA_COPY_H
#define PAPA_COPY_H

#include "device/device.h"

#include <assert.h>

#define PAPA_REGION_MAX_RANK 8

typedef struct PapaRegion {
    int rank; /* 0: one element */
    int64_t dim[PAPA_REGION_MAX_RANK], to_stride[PAPA_REGION_MAX_RANK], from_stride[PAPA_REGION_MAX_RANK];
} PapaRegion;

/* Appends an axis inside of those there are; joins it to the last one where that makes the same walk. */
static inline void papa_region_add(PapaRegion *region, int64_t dim, int64_t to_stride, int64_t from_stride)
{
    if (dim == 1)
        return;
    int last = region->rank - 1;
    if (last >= 0 && region->to_stride[last] == dim * to_stride && region->from_stride[last] == dim * from_stride) {
        region->dim[last] *= dim;
    } else {
        last = region->rank++;
        assert(last < PAPA_REGION_MAX_RANK);
        region->dim[last] = dim;
    }
    region->to_stride[last] = to_stride;
    region->from_stride[last] = from_stride;
}

/* The same walk with the sides exchanged: the way of the gradient. (Where from_stride is 0 the gradient is a sum, which is
 * not here but in kernels/reduce.h.) */
static inline PapaRegion papa_region_reversed(PapaRegion region)
{
    for (int k = 0; k < region.rank; k++) {
        int64_t to_stride = region.to_stride[k];
        region.to_stride[k] = region.from_stride[k];
        region.from_stride[k] = to_stride;
    }
    return region;
}

/* to[i · to_stride] (=|+=) from[i · from_stride] for all i in the box. The sides must not overlap. */
typedef PapaStatus papa_copy_fn(PapaDevice *dev, PapaReal *to, const PapaReal *from, const PapaRegion *region, bool accumulate);
papa_copy_fn papa_copy_cpu, papa_copy_cuda, papa_copy_ref;

/* to[0 .. n-1] = value. */
typedef PapaStatus papa_fill_fn(PapaDevice *dev, PapaReal *to, float value, int64_t n);
papa_fill_fn papa_fill_cpu, papa_fill_cuda, papa_fill_ref;

/* to[i] (=|+=) from[i], i < n, each side made of what is said of it: between parameters, which are float32, and activations. */
typedef PapaStatus papa_convert_fn(PapaDevice *dev, void *to, PapaElement to_element, const void *from, PapaElement from_element, int64_t n, bool accumulate);
papa_convert_fn papa_convert_cpu, papa_convert_cuda, papa_convert_ref;

/* fwd: y[o][j][i] = x[o][index[j]][i];  bwd: dx[o][index[j]][i] += dy[o][j][i], j in ascending order.
 * x, dx: (outer, n_rows, inner); y, dy: (outer, n, inner); index: (n), 0 <= index[j] < n_rows, on the device. */
typedef PapaStatus papa_gather_fwd_fn(PapaDevice *dev, PapaReal *y, const PapaReal *x, const int64_t *index, int64_t outer, int64_t n_rows,
    int64_t n, int64_t inner);
papa_gather_fwd_fn papa_gather_fwd_cpu, papa_gather_fwd_cuda, papa_gather_fwd_ref;
typedef PapaStatus papa_gather_bwd_fn(PapaDevice *dev, PapaReal *dx, const PapaReal *dy, const int64_t *index, int64_t outer, int64_t n_rows,
    int64_t n, int64_t inner);
papa_gather_bwd_fn papa_gather_bwd_cpu, papa_gather_bwd_cuda;

#endif
