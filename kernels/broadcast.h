/* Which element of each operand belongs to which element of the largest one: numpy's broadcasting, and its gradient.
 *
 * A walk goes through an index space in row-major order; x is dense in it, and a and b stand in it with strides, 0 along
 * the axes on which they are repeated (or, read the other way, summed). papa_walk_make drops axes of length 1 and joins
 * neighbours that all operands step through alike, so that a walk over equal shapes is one axis, and over rows with a
 * bias two. The last axis must then have stride 0 or 1 in a and b. */
#ifndef PAPA_BROADCAST_H
#define PAPA_BROADCAST_H

#include <stdbool.h>
#include <stdint.h>

#define PAPA_WALK_RANK 8

typedef struct PapaWalk {
    int rank;                      /* 1 .. PAPA_WALK_RANK */
    int64_t dim[PAPA_WALK_RANK];
    int64_t a[PAPA_WALK_RANK], b[PAPA_WALK_RANK]; /* strides in elements */
} PapaWalk;

/* Strides of a dense operand of this shape in a space of rank axes, aligned at the last axis as numpy does. */
static inline void papa_walk_strides(int64_t *stride, int rank, int shape_rank, const int64_t *shape)
{
    int64_t step = 1;
    for (int k = 0; k < rank; k++) {
        int64_t length = k < shape_rank ? shape[shape_rank - 1 - k] : 1;
        stride[rank - 1 - k] = length == 1 ? 0 : step;
        step *= length;
    }
}

/* The walk through a space of these dimensions with these strides. The operands' strides along an axis longer than 1 are 0
 * or those of a dense tensor. */
static inline void papa_walk_make(PapaWalk *out, int rank, const int64_t *dim, const int64_t *a, const int64_t *b)
{
    int n = 0;
    for (int k = 0; k < rank; k++) {
        if (dim[k] == 1)
            continue;
        bool joins = n && out->a[n - 1] == a[k] * dim[k] && out->b[n - 1] == b[k] * dim[k];
        if (joins)
            out->dim[n - 1] *= dim[k], n--;
        else
            out->dim[n] = dim[k];
        out->a[n] = a[k], out->b[n] = b[k];
        n++;
    }
    if (!n)
        out->dim[0] = 1, out->a[0] = out->b[0] = 0, n = 1;
    out->rank = n;
}

static inline int64_t papa_walk_count(const PapaWalk *walk)
{
    int64_t n = 1;
    for (int i = 0; i < walk->rank; i++)
        n *= walk->dim[i];
    return n;
}

/* Where a and b have the walk's element i. */
static inline void papa_walk_at(const PapaWalk *walk, int64_t i, int64_t *a, int64_t *b)
{
    *a = *b = 0;
    for (int k = walk->rank - 1; k >= 0; i /= walk->dim[k--]) {
        *a += i % walk->dim[k] * walk->a[k];
        *b += i % walk->dim[k] * walk->b[k];
    }
}

#endif
