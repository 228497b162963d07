/* Arithmetic on shapes. */
#include "graph/op.h"

#include <stdio.h>

bool papa_shape_fits(const PapaShape *shape)
{
    int64_t count = 1;
    for (int i = 0; i < shape->rank; i++) {
        if (shape->dim[i] < 0 || shape->dim[i] > PAPA_MAX_ELEMENTS / count)
            return false;
        count *= shape->dim[i] ? shape->dim[i] : 1;
    }
    return true;
}

int64_t papa_shape_count_from(const PapaShape *shape, int first, int end)
{
    int64_t count = 1;
    for (int i = first; i < end; i++)
        count *= shape->dim[i];
    return count;
}

int64_t papa_shape_count(const PapaShape *shape)
{
    return papa_shape_count_from(shape, 0, shape->rank);
}

bool papa_shape_equal(const PapaShape *a, const PapaShape *b)
{
    if (a->rank != b->rank)
        return false;
    for (int i = 0; i < a->rank; i++)
        if (a->dim[i] != b->dim[i])
            return false;
    return true;
}

const char *papa_shape_text(const PapaShape *shape)
{
    static _Thread_local char texts[2][PAPA_MAX_RANK * 22 + 4];
    static _Thread_local int turn;
    char *text = texts[turn ^= 1];
    int used = sprintf(text, "(");
    for (int i = 0; i < shape->rank; i++)
        used += sprintf(text + used, i ? ", %lld" : "%lld", (long long)shape->dim[i]);
    sprintf(text + used, ")");
    return text;
}

int papa_axis_to_channels_last(int axis, int rank)
{
    return axis == 0 ? 0 : axis == 1 ? rank - 1 : axis - 1;
}

void papa_shape_to_channels_last(PapaShape *shape)
{
    PapaShape from = *shape;
    for (int i = 0; i < shape->rank; i++)
        shape->dim[papa_axis_to_channels_last(i, shape->rank)] = from.dim[i];
}

PapaStatus papa_check_axis(const PapaNode *node, int64_t axis, int rank, int *out)
{
    if (axis < -rank || axis >= rank)
        return papa_node_fail(node, PAPA_ERR_FORMAT, "axis %lld is outside of rank %d", (long long)axis, rank);
    *out = (int)(axis < 0 ? axis + rank : axis);
    return PAPA_OK;
}

PapaStatus papa_broadcast(const PapaNode *node, const PapaShape *a, const PapaShape *b, PapaShape *out)
{
    PapaShape result = {.rank = a->rank > b->rank ? a->rank : b->rank};
    for (int i = 0; i < result.rank; i++) {
        int ia = i - (result.rank - a->rank), ib = i - (result.rank - b->rank);
        int64_t da = ia < 0 ? 1 : a->dim[ia], db = ib < 0 ? 1 : b->dim[ib];
        if (da != db && da != 1 && db != 1)
            return papa_node_fail(node, PAPA_ERR_MISMATCH, "shapes %s and %s can't be broadcast together", papa_shape_text(a), papa_shape_text(b));
        result.dim[i] = da == 1 ? db : da;
    }
    *out = result;
    return PAPA_OK;
}
