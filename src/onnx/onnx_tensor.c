/* Tensors: their types, and which record of the scan a skeleton's tensor means. */
#include "onnx/onnx_internal.h"

#include <string.h>

#define TYPE(id) ONNX__TENSOR_PROTO__DATA_TYPE__##id

static const PapaTypeInfo types[] = {
    [TYPE(FLOAT)] = {"FLOAT", 32, 32, FIELD_TENSOR_FLOAT_DATA},
    [TYPE(UINT8)] = {"UINT8", 8, 8, FIELD_TENSOR_INT32_DATA},
    [TYPE(INT8)] = {"INT8", 8, 8, FIELD_TENSOR_INT32_DATA},
    [TYPE(UINT16)] = {"UINT16", 16, 16, FIELD_TENSOR_INT32_DATA},
    [TYPE(INT16)] = {"INT16", 16, 16, FIELD_TENSOR_INT32_DATA},
    [TYPE(INT32)] = {"INT32", 32, 32, FIELD_TENSOR_INT32_DATA},
    [TYPE(INT64)] = {"INT64", 64, 64, FIELD_TENSOR_INT64_DATA},
    [TYPE(BOOL)] = {"BOOL", 8, 8, FIELD_TENSOR_INT32_DATA},
    [TYPE(FLOAT16)] = {"FLOAT16", 16, 16, FIELD_TENSOR_INT32_DATA},
    [TYPE(DOUBLE)] = {"DOUBLE", 64, 64, FIELD_TENSOR_DOUBLE_DATA},
    [TYPE(UINT32)] = {"UINT32", 32, 32, FIELD_TENSOR_UINT64_DATA},
    [TYPE(UINT64)] = {"UINT64", 64, 64, FIELD_TENSOR_UINT64_DATA},
    [TYPE(COMPLEX64)] = {"COMPLEX64", 64, 32, FIELD_TENSOR_FLOAT_DATA},
    [TYPE(COMPLEX128)] = {"COMPLEX128", 128, 64, FIELD_TENSOR_DOUBLE_DATA},
    [TYPE(BFLOAT16)] = {"BFLOAT16", 16, 16, FIELD_TENSOR_INT32_DATA},
    [TYPE(FLOAT8E4M3FN)] = {"FLOAT8E4M3FN", 8, 8, FIELD_TENSOR_INT32_DATA},
    [TYPE(FLOAT8E4M3FNUZ)] = {"FLOAT8E4M3FNUZ", 8, 8, FIELD_TENSOR_INT32_DATA},
    [TYPE(FLOAT8E5M2)] = {"FLOAT8E5M2", 8, 8, FIELD_TENSOR_INT32_DATA},
    [TYPE(FLOAT8E5M2FNUZ)] = {"FLOAT8E5M2FNUZ", 8, 8, FIELD_TENSOR_INT32_DATA},
    [TYPE(UINT4)] = {"UINT4", 4, 8, FIELD_TENSOR_INT32_DATA},
    [TYPE(INT4)] = {"INT4", 4, 8, FIELD_TENSOR_INT32_DATA},
    [TYPE(FLOAT4E2M1)] = {"FLOAT4E2M1", 4, 8, FIELD_TENSOR_INT32_DATA},
    [TYPE(FLOAT8E8M0)] = {"FLOAT8E8M0", 8, 8, FIELD_TENSOR_INT32_DATA},
    [TYPE(UINT2)] = {"UINT2", 2, 8, FIELD_TENSOR_INT32_DATA},
    [TYPE(INT2)] = {"INT2", 2, 8, FIELD_TENSOR_INT32_DATA},
    [TYPE(FLOAT6E2M3)] = {"FLOAT6E2M3", 6, 6, FIELD_TENSOR_INT32_DATA},
    [TYPE(FLOAT6E3M2)] = {"FLOAT6E3M2", 6, 6, FIELD_TENSOR_INT32_DATA},
};

const PapaTypeInfo *papa_type_info(int type)
{
    bool known = type >= 0 && (size_t)type < sizeof types / sizeof *types && types[type].bits;
    return known ? &types[type] : NULL;
}

const char *papa_type_name(int type)
{
    static _Thread_local char unknown[24];
    const PapaTypeInfo *info = papa_type_info(type);
    if (info)
        return info->name;
    if (type == TYPE(STRING))
        return "STRING";
    snprintf(unknown, sizeof unknown, "type %d", type);
    return unknown;
}

size_t papa_type_bits(int type)
{
    const PapaTypeInfo *info = papa_type_info(type);
    return info ? info->bits : 0;
}

bool papa_type_bytes(int type, int64_t count, size_t *bytes)
{
    size_t bits = papa_type_bits(type), n = (size_t)count;
    if (bits && n > (SIZE_MAX / 2 - 7) / bits)
        return false;
    *bytes = (n * bits + 7) / 8;
    return true;
}

int64_t papa_tensor_count(const Onnx__TensorProto *tensor)
{
    int64_t count = 1;
    for (size_t i = 0; i < tensor->n_dims; i++)
        count *= tensor->dims[i];
    return count;
}

bool papa_tensor_marker(const Onnx__TensorProto *tensor, uint32_t *serial, uint32_t *index)
{
    /* The scan puts it first; copies by hand may have other unknown fields in front. */
    for (unsigned i = 0; i < tensor->base.n_unknown_fields; i++) {
        const ProtobufCMessageUnknownField *field = &tensor->base.unknown_fields[i];
        uint64_t marker;
        if (field->tag != FIELD_TENSOR_MARKER || field->len != sizeof marker)
            continue;
        memcpy(&marker, field->data, sizeof marker);
        *serial = (uint32_t)(marker >> 32);
        *index = (uint32_t)marker;
        return true;
    }
    return false;
}

const PapaTensorRecord *papa_tensor_record(const PapaOnnx *onnx, const Onnx__TensorProto *tensor)
{
    uint32_t serial, index;
    if (!papa_tensor_marker(tensor, &serial, &index) || serial != onnx->serial || index >= onnx->n_records)
        return NULL;
    return &onnx->records[index];
}

const char *papa_tensor_label(const Onnx__TensorProto *tensor)
{
    static _Thread_local char label[256];
    if (!tensor->name || !*tensor->name)
        return "a tensor without a name";
    snprintf(label, sizeof label, "tensor '%.200s'", tensor->name);
    return label;
}
