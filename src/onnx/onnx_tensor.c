/* Tensors' elements: types, raw form, conversion. */
#include "onnx/half.h"
#include "onnx/onnx_internal.h"

#include <stdlib.h>
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

/* ---------------------------------------------------------------- raw form */

/* Puts items of the typed field, one after the other, where they belong in the raw form. */
typedef struct Packer {
    unsigned char *to;
    size_t n, at; /* items in all; next item */
    unsigned bits; /* per item */
    int type;
} Packer;

/* Values come as 64-bit numbers, signed ones extended: they must be those of the type's width. */
static PapaStatus put_item(Packer *packer, uint64_t value)
{
    unsigned bits = packer->bits;
    int64_t low = bits < 64 ? -((int64_t)1 << (bits - 1)) : INT64_MIN;
    if (bits < 64 && value >> bits && (int64_t)value < low)
        return papa_fail(PAPA_ERR_FORMAT, "element %zu is out of the range of %s", packer->at, papa_type_name(packer->type));
    if (bits < 64 && (int64_t)value >= 0 && value >> bits)
        return papa_fail(PAPA_ERR_FORMAT, "element %zu is out of the range of %s", packer->at, papa_type_name(packer->type));
    if (bits % 8 == 0) {
        memcpy(packer->to + packer->at * (bits / 8), &value, bits / 8);
    } else { /* a stream of bits, the lowest first */
        size_t bit = packer->at * bits;
        unsigned shifted = (unsigned)(value & ((1u << bits) - 1)) << bit % 8;
        packer->to[bit / 8] |= (unsigned char)shifted;
        if (shifted >> 8)
            packer->to[bit / 8 + 1] |= (unsigned char)(shifted >> 8);
    }
    packer->at++;
    return PAPA_OK;
}

static PapaStatus put_field(Packer *packer, const PapaField *field)
{
    bool fixed = field->number == FIELD_TENSOR_FLOAT_DATA || field->number == FIELD_TENSOR_DOUBLE_DATA;
    if (fixed) {
        memcpy(packer->to + packer->at * (packer->bits / 8), field->body, papa_field_size(field));
        packer->at += papa_field_size(field) / (packer->bits / 8);
        return PAPA_OK;
    }
    if (field->wire == PAPA_WIRE_VARINT)
        return put_item(packer, field->value);
    uint64_t value = 0;
    for (const unsigned char *at = field->body; at < field->end && papa_wire_varint(&value, &at, field->end);)
        PAPA_TRY(put_item(packer, value));
    return PAPA_OK;
}

static PapaStatus gather_typed(PapaRaw *out, const PapaTensorRecord *record)
{
    const PapaTypeInfo *info = papa_type_info(record->type);
    out->owned = calloc(record->bytes + 1, 1);
    if (!out->owned)
        return papa_fail_memory(record->bytes, "a tensor's elements");
    Packer packer = {.to = out->owned, .bits = info->item_bits, .type = record->type};
    PapaStatus status = PAPA_OK;
    PapaField field;
    for (const unsigned char *at = record->body; at < record->end && !status; at = field.end) {
        if (papa_wire_next(&field, at, record->end)) /* can't be: the scan has been here */
            break;
        if (field.number == record->field)
            status = put_field(&packer, &field);
    }
    if (status) {
        free(out->owned);
        *out = (PapaRaw){0};
        return status;
    }
    out->data = out->owned;
    return PAPA_OK;
}

PapaStatus papa_record_raw(PapaRaw *out, const PapaTensorRecord *record)
{
    *out = (PapaRaw){.data = record->data, .bytes = record->bytes};
    if (record->is_segment)
        return papa_fail(PAPA_ERR_UNSUPPORTED, "is only a segment of a tensor");
    if (record->storage == PAPA_STORAGE_TYPED && !record->data && papa_type_info(record->type))
        return gather_typed(out, record);
    return PAPA_OK;
}

/* ---------------------------------------------------------------- conversion */

static PapaStatus open_elements(PapaRaw *out, int *type, const PapaOnnx *onnx, const Onnx__TensorProto *tensor, int64_t n)
{
    const PapaTensorRecord *record = papa_tensor_record(onnx, tensor);
    if (!record)
        return papa_fail(PAPA_ERR_ARGUMENT, "%s: not a tensor of %s", papa_tensor_label(tensor), onnx->path);
    if (n != record->count)
        return papa_fail(PAPA_ERR_MISMATCH, "%s: has %lld elements, %lld asked for", papa_tensor_label(tensor), (long long)record->count,
            (long long)n);
    *type = record->type;
    PapaStatus status = papa_record_raw(out, record);
    return status ? papa_fail_in(status, "%s", papa_tensor_label(tensor)) : PAPA_OK;
}

static PapaStatus fail_type(const Onnx__TensorProto *tensor, int type, const char *expected)
{
    return papa_fail(PAPA_ERR_UNSUPPORTED, "%s: has %s elements, %s expected", papa_tensor_label(tensor), papa_type_name(type), expected);
}

/* The i-th number of type T at bytes that may be unaligned. */
#define ELEMENT(T, data, i) (*(const struct { T value; } __attribute__((packed, may_alias)) *)((data) + (size_t)(i) * sizeof(T))).value

#define READ_FLOATS(T)                                                                    \
    switch (type) {                                                                       \
    case TYPE(FLOAT):                                                                     \
        for (int64_t i = 0; i < n; i++)                                                   \
            to[i] = (T)ELEMENT(float, raw.data, i);                                       \
        break;                                                                            \
    case TYPE(DOUBLE):                                                                    \
        for (int64_t i = 0; i < n; i++)                                                   \
            to[i] = (T)ELEMENT(double, raw.data, i);                                      \
        break;                                                                            \
    case TYPE(FLOAT16):                                                                   \
        for (int64_t i = 0; i < n; i++)                                                   \
            to[i] = (T)papa_float16_to_float(ELEMENT(uint16_t, raw.data, i));             \
        break;                                                                            \
    case TYPE(BFLOAT16):                                                                  \
        for (int64_t i = 0; i < n; i++)                                                   \
            to[i] = (T)papa_bfloat16_to_float(ELEMENT(uint16_t, raw.data, i));            \
        break;                                                                            \
    default:                                                                              \
        status = fail_type(tensor, type, "FLOAT, FLOAT16, BFLOAT16 or DOUBLE");           \
    }

PapaStatus papa_tensor_read_float(const PapaOnnx *onnx, const Onnx__TensorProto *tensor, float *to, int64_t n)
{
    PapaRaw raw;
    int type = 0; /* set by open_elements; gcc 14 does not see it */
    PAPA_TRY(open_elements(&raw, &type, onnx, tensor, n));
    PapaStatus status = PAPA_OK;
    READ_FLOATS(float)
    free(raw.owned);
    return status;
}

PapaStatus papa_tensor_read_double(const PapaOnnx *onnx, const Onnx__TensorProto *tensor, double *to, int64_t n)
{
    PapaRaw raw;
    int type = 0; /* set by open_elements; gcc 14 does not see it */
    PAPA_TRY(open_elements(&raw, &type, onnx, tensor, n));
    PapaStatus status = PAPA_OK;
    READ_FLOATS(double)
    free(raw.owned);
    return status;
}

static PapaStatus read_uint64(int64_t *to, const unsigned char *data, int64_t n, const Onnx__TensorProto *tensor)
{
    for (int64_t i = 0; i < n; i++) {
        uint64_t value = ELEMENT(uint64_t, data, i);
        if (value > INT64_MAX)
            return papa_fail(PAPA_ERR_UNSUPPORTED, "%s: element %lld is %llu, beyond int64", papa_tensor_label(tensor), (long long)i,
                (unsigned long long)value);
        to[i] = (int64_t)value;
    }
    return PAPA_OK;
}

#define READ_INTS(T)                      \
    for (int64_t i = 0; i < n; i++)       \
        to[i] = ELEMENT(T, raw.data, i);  \
    break;

PapaStatus papa_tensor_read_int64(const PapaOnnx *onnx, const Onnx__TensorProto *tensor, int64_t *to, int64_t n)
{
    PapaRaw raw;
    int type = 0; /* set by open_elements; gcc 14 does not see it */
    PAPA_TRY(open_elements(&raw, &type, onnx, tensor, n));
    PapaStatus status = PAPA_OK;
    switch (type) {
    case TYPE(BOOL):
    case TYPE(UINT8):
        READ_INTS(uint8_t)
    case TYPE(INT8):
        READ_INTS(int8_t)
    case TYPE(UINT16):
        READ_INTS(uint16_t)
    case TYPE(INT16):
        READ_INTS(int16_t)
    case TYPE(UINT32):
        READ_INTS(uint32_t)
    case TYPE(INT32):
        READ_INTS(int32_t)
    case TYPE(INT64):
        READ_INTS(int64_t)
    case TYPE(UINT64):
        status = read_uint64(to, raw.data, n, tensor);
        break;
    default:
        status = fail_type(tensor, type, "an integer type or BOOL");
    }
    free(raw.owned);
    return status;
}

void papa_floats_to_raw(unsigned char *to, int type, const float *values, int64_t n)
{
    switch (type) {
    case TYPE(FLOAT):
        if (n)
            memcpy(to, values, (size_t)n * sizeof *values);
        break;
    case TYPE(DOUBLE):
        for (int64_t i = 0; i < n; i++) {
            double value = values[i];
            memcpy(to + (size_t)i * sizeof value, &value, sizeof value);
        }
        break;
    default:
        for (int64_t i = 0; i < n; i++) {
            uint16_t value = type == TYPE(FLOAT16) ? papa_float_to_float16(values[i]) : papa_float_to_bfloat16(values[i]);
            memcpy(to + (size_t)i * sizeof value, &value, sizeof value);
        }
    }
}
