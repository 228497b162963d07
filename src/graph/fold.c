#include "graph/fold.h"

#include <string.h>

bool papa_type_is_integer(int type)
{
    switch (type) {
    case ONNX__TENSOR_PROTO__DATA_TYPE__BOOL:
    case ONNX__TENSOR_PROTO__DATA_TYPE__INT8:
    case ONNX__TENSOR_PROTO__DATA_TYPE__INT16:
    case ONNX__TENSOR_PROTO__DATA_TYPE__INT32:
    case ONNX__TENSOR_PROTO__DATA_TYPE__INT64:
    case ONNX__TENSOR_PROTO__DATA_TYPE__UINT8:
    case ONNX__TENSOR_PROTO__DATA_TYPE__UINT16:
    case ONNX__TENSOR_PROTO__DATA_TYPE__UINT32:
    case ONNX__TENSOR_PROTO__DATA_TYPE__UINT64:
        return true;
    default:
        return false;
    }
}

int64_t papa_broadcast_at(const PapaShape *y, const PapaShape *x, int64_t i)
{
    int64_t at = 0, stride = 1;
    for (int k = y->rank - 1, j = x->rank - 1; j >= 0; k--, j--) {
        at += x->dim[j] == 1 ? 0 : i % y->dim[k] * stride;
        stride *= x->dim[j];
        i /= y->dim[k];
    }
    return at;
}

static void copy_axis(char *to, const char *from, int64_t bytes, const PapaRegion *region, int axis)
{
    if (axis == region->rank) {
        memcpy(to, from, (size_t)bytes);
        return;
    }
    for (int64_t i = 0; i < region->dim[axis]; i++)
        copy_axis(to + i * region->to_stride[axis] * bytes, from + i * region->from_stride[axis] * bytes, bytes, region, axis + 1);
}

void papa_fold_copy(void *to, const void *from, size_t element_bytes, const PapaRegion *region)
{
    copy_axis(to, from, (int64_t)element_bytes, region, 0);
}

PapaStatus papa_fold_as_is(PapaNode *node, PapaGraph *graph)
{
    void *to = papa_set_constant(node, graph, 0);
    if (!to)
        return PAPA_ERR_MEMORY;
    size_t bytes = (size_t)papa_shape_count(&node->in[0]->shape) * papa_constant_bytes(node->in[0]->type);
    if (bytes)
        memcpy(to, node->in[0]->data, bytes);
    return PAPA_OK;
}

void papa_dense_strides(const PapaShape *shape, int64_t stride[PAPA_MAX_RANK])
{
    int64_t next = 1;
    for (int k = shape->rank - 1; k >= 0; k--) {
        stride[k] = next;
        next *= shape->dim[k];
    }
}
