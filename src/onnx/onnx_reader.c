/* Reading tensors' elements: in ranges, converted, from wherever they lie. */
#include "onnx/onnx_internal.h"

#include <stdlib.h>
#include <string.h>

#define TYPE(id) ONNX__TENSOR_PROTO__DATA_TYPE__##id
#define BLOCK_BYTES 8192 /* of raw form put together at a time; a whole number of elements of each type */

/* ---------------------------------------------------------------- raw form of typed fields */

/* Items of the typed field that are going to their places in the raw form. */
typedef struct Packer {
    unsigned char *to; /* of item `first`; zeros */
    int64_t first, at; /* at: next item */
    unsigned bits;     /* per item */
    int type;
} Packer;

/* Values come as 64-bit numbers, signed ones extended: they must be those of the type's width. */
static PapaStatus put_item(Packer *packer, uint64_t value)
{
    unsigned bits = packer->bits;
    int64_t low = bits < 64 ? -((int64_t)1 << (bits - 1)) : INT64_MIN;
    size_t place = (size_t)(packer->at - packer->first);
    if (bits < 64 && value >> bits && ((int64_t)value >= 0 || (int64_t)value < low))
        return papa_fail(PAPA_ERR_FORMAT, "element %lld is out of the range of %s", (long long)packer->at, papa_type_name(packer->type));
    if (bits % 8 == 0) {
        memcpy(packer->to + place * (bits / 8), &value, bits / 8);
    } else { /* a stream of bits, the lowest first */
        size_t bit = place * bits;
        unsigned shifted = (unsigned)(value & ((1u << bits) - 1)) << bit % 8;
        packer->to[bit / 8] |= (unsigned char)shifted;
        if (shifted >> 8)
            packer->to[bit / 8 + 1] |= (unsigned char)(shifted >> 8);
    }
    packer->at++;
    return PAPA_OK;
}

/* The item that the reader stands at. A field of its own for each item, or packed fields: both are runs of items. False
 * at the end, where the scan has made sure that nobody asks. */
static bool next_item(PapaTensorReader *reader, const PapaTensorRecord *record, uint64_t *value)
{
    size_t size = record->field == FIELD_TENSOR_FLOAT_DATA ? 4 : record->field == FIELD_TENSOR_DOUBLE_DATA ? 8 : 0;
    while (reader->at == reader->run_end) {
        PapaField field;
        if (reader->next_field == record->end || papa_wire_next(&field, reader->next_field, record->end))
            return false;
        reader->next_field = field.end;
        if (field.number == record->field)
            reader->at = field.body, reader->run_end = field.end;
    }
    reader->item++;
    if (!size)
        return papa_wire_varint(value, &reader->at, reader->run_end);
    *value = 0;
    memcpy(value, reader->at, size);
    reader->at += size;
    return true;
}

static void rewind_reader(PapaTensorReader *reader, const PapaTensorRecord *record)
{
    reader->next_field = record->body;
    reader->at = reader->run_end = NULL;
    reader->item = 0;
}

/* Elements [first, first + n) of a typed field in raw form. */
static PapaStatus gather(PapaTensorReader *reader, const PapaTensorRecord *record, unsigned char *to, int64_t first, int64_t n)
{
    const PapaTypeInfo *info = papa_type_info(record->type);
    int64_t begin = first * info->bits / info->item_bits, end = ((first + n) * info->bits + info->item_bits - 1) / info->item_bits;
    Packer packer = {.to = to, .first = begin, .at = begin, .bits = info->item_bits, .type = record->type};
    uint64_t value;
    memset(to, 0, ((size_t)n * info->bits + 7) / 8);
    if (reader->item > begin)
        rewind_reader(reader, record);
    while (reader->item < begin && next_item(reader, record, &value))
        ;
    while (packer.at < end && next_item(reader, record, &value))
        PAPA_TRY(put_item(&packer, value));
    return PAPA_OK;
}

/* Whether the raw form has to be put together. */
static bool is_scattered(const PapaTensorRecord *record)
{
    return record->storage == PAPA_STORAGE_TYPED && !record->data && papa_type_info(record->type);
}

PapaStatus papa_record_raw(PapaRaw *out, const PapaTensorRecord *record)
{
    *out = (PapaRaw){.data = record->data, .bytes = record->bytes};
    if (record->is_segment)
        return papa_fail(PAPA_ERR_UNSUPPORTED, "is only a segment of a tensor");
    if (!is_scattered(record))
        return PAPA_OK;
    out->owned = malloc(record->bytes + 1);
    if (!out->owned)
        return papa_fail_memory(record->bytes, "a tensor's elements");
    PapaTensorReader reader = {0};
    rewind_reader(&reader, record);
    PapaStatus status = gather(&reader, record, out->owned, 0, record->count);
    if (status) {
        free(out->owned);
        *out = (PapaRaw){0};
        return status;
    }
    out->data = out->owned;
    return PAPA_OK;
}

/* ---------------------------------------------------------------- readers */

PapaStatus papa_reader_open(PapaTensorReader *out, const PapaOnnx *onnx, const Onnx__TensorProto *tensor)
{
    const PapaTensorRecord *record = papa_tensor_record(onnx, tensor);
    *out = (PapaTensorReader){.onnx = onnx, .tensor = tensor};
    if (!record)
        return papa_fail(PAPA_ERR_ARGUMENT, "%s: not a tensor of %s", papa_tensor_label(tensor), onnx->path);
    if (record->is_segment)
        return papa_fail(PAPA_ERR_UNSUPPORTED, "%s: is only a segment of a tensor", papa_tensor_label(tensor));
    rewind_reader(out, record);
    return PAPA_OK;
}

static PapaStatus fail_type(const PapaTensorReader *reader, int type, const char *expected)
{
    return papa_fail(PAPA_ERR_UNSUPPORTED, "%s: has %s elements, %s expected", papa_tensor_label(reader->tensor), papa_type_name(type), expected);
}

/* The record of a reader that is asked for these elements. */
static PapaStatus check_range(const PapaTensorReader *reader, int64_t first, int64_t n, const PapaTensorRecord **out)
{
    *out = papa_tensor_record(reader->onnx, reader->tensor);
    if (first < 0 || n < 0 || first > (*out)->count || n > (*out)->count - first)
        return papa_fail(PAPA_ERR_MISMATCH, "%s: has %lld elements, %lld from %lld on asked for", papa_tensor_label(reader->tensor),
            (long long)(*out)->count, (long long)n, (long long)first);
    return PAPA_OK;
}

/* Where the raw form of elements from `first` on lies: in the file, or put together in block, then perhaps of fewer than *n. */
static PapaStatus find_raw(PapaTensorReader *reader, const PapaTensorRecord *record, int64_t first, int64_t *n, unsigned char block[BLOCK_BYTES],
    const unsigned char **raw)
{
    int64_t bits = papa_type_info(record->type)->bits, most = BLOCK_BYTES / bits * 8;
    if (!is_scattered(record)) {
        *raw = record->data + first * bits / 8;
        return PAPA_OK;
    }
    *raw = block;
    *n = *n < most ? *n : most;
    PapaStatus status = gather(reader, record, block, first, *n);
    return status ? papa_fail_in(status, "%s", papa_tensor_label(reader->tensor)) : PAPA_OK;
}

#define FOR_RAW_RANGES(body)                                                           \
    unsigned char block[BLOCK_BYTES];                                                  \
    for (int64_t done = 0, m; done < n; done += m) {                                   \
        const unsigned char *raw;                                                      \
        m = n - done;                                                                  \
        PAPA_TRY(find_raw(reader, record, first + done, &m, block, &raw));             \
        body;                                                                          \
    }                                                                                  \
    return PAPA_OK;

#define FLOAT_TYPES "FLOAT, FLOAT16, BFLOAT16 or DOUBLE"

PapaStatus papa_reader_floats(PapaTensorReader *reader, float *to, int64_t first, int64_t n)
{
    const PapaTensorRecord *record = NULL;
    PAPA_TRY(check_range(reader, first, n, &record));
    if (!papa_type_is_float(record->type))
        return fail_type(reader, record->type, FLOAT_TYPES);
    FOR_RAW_RANGES(papa_raw_to_floats(to + done, record->type, raw, m))
}

PapaStatus papa_reader_doubles(PapaTensorReader *reader, double *to, int64_t first, int64_t n)
{
    const PapaTensorRecord *record = NULL;
    PAPA_TRY(check_range(reader, first, n, &record));
    if (!papa_type_is_float(record->type))
        return fail_type(reader, record->type, FLOAT_TYPES);
    FOR_RAW_RANGES(papa_raw_to_doubles(to + done, record->type, raw, m))
}

PapaStatus papa_reader_raw(PapaTensorReader *reader, void *to, int64_t first, int64_t n)
{
    const PapaTensorRecord *record = NULL;
    PAPA_TRY(check_range(reader, first, n, &record));
    int64_t bits = (int64_t)papa_type_bits(record->type);
    if (!bits)
        return fail_type(reader, record->type, "those of a known size");
    if (first * bits % 8)
        return papa_fail(PAPA_ERR_ARGUMENT, "%s: element %lld of %s does not begin a byte", papa_tensor_label(reader->tensor), (long long)first,
            papa_type_name(record->type));
    FOR_RAW_RANGES(memcpy((unsigned char *)to + done * bits / 8, raw, (size_t)(m * bits + 7) / 8))
}

/* The i-th number of type T at bytes that may be unaligned. */
#define ELEMENT(T, raw, i) (((const struct { T value; } __attribute__((packed, may_alias)) *)(raw))[i].value)

#define INTS_FROM(T)                    \
    for (int64_t i = 0; i < n; i++)     \
        to[i] = ELEMENT(T, raw, i);     \
    return PAPA_OK;

/* index: of the first element, for messages. */
static PapaStatus raw_to_ints(const PapaTensorReader *reader, int64_t *to, int type, const unsigned char *raw, int64_t n, int64_t index)
{
    switch (type) {
    case TYPE(BOOL):
    case TYPE(UINT8):
        INTS_FROM(uint8_t)
    case TYPE(INT8):
        INTS_FROM(int8_t)
    case TYPE(UINT16):
        INTS_FROM(uint16_t)
    case TYPE(INT16):
        INTS_FROM(int16_t)
    case TYPE(UINT32):
        INTS_FROM(uint32_t)
    case TYPE(INT32):
        INTS_FROM(int32_t)
    case TYPE(INT64):
        INTS_FROM(int64_t)
    case TYPE(UINT64):
        for (int64_t i = 0; i < n; i++) {
            uint64_t value = ELEMENT(uint64_t, raw, i);
            if (value > INT64_MAX)
                return papa_fail(PAPA_ERR_UNSUPPORTED, "%s: element %lld is %llu, beyond int64", papa_tensor_label(reader->tensor),
                    (long long)(index + i), (unsigned long long)value);
            to[i] = (int64_t)value;
        }
        return PAPA_OK;
    default:
        return fail_type(reader, type, "an integer type or BOOL");
    }
}

PapaStatus papa_reader_int64(PapaTensorReader *reader, int64_t *to, int64_t first, int64_t n)
{
    const PapaTensorRecord *record = NULL;
    PAPA_TRY(check_range(reader, first, n, &record));
    PAPA_TRY(raw_to_ints(reader, to, record->type, NULL, 0, 0)); /* looks at the type */
    FOR_RAW_RANGES(PAPA_TRY(raw_to_ints(reader, to + done, record->type, raw, m, first + done)))
}

/* ---------------------------------------------------------------- whole tensors */

static PapaStatus open_whole(PapaTensorReader *out, const PapaOnnx *onnx, const Onnx__TensorProto *tensor, int64_t n)
{
    PAPA_TRY(papa_reader_open(out, onnx, tensor));
    int64_t count = papa_tensor_record(onnx, tensor)->count;
    if (n != count)
        return papa_fail(PAPA_ERR_MISMATCH, "%s: has %lld elements, %lld asked for", papa_tensor_label(tensor), (long long)count, (long long)n);
    return PAPA_OK;
}

PapaStatus papa_tensor_read_float(const PapaOnnx *onnx, const Onnx__TensorProto *tensor, float *to, int64_t n)
{
    PapaTensorReader reader;
    PAPA_TRY(open_whole(&reader, onnx, tensor, n));
    return papa_reader_floats(&reader, to, 0, n);
}

PapaStatus papa_tensor_read_double(const PapaOnnx *onnx, const Onnx__TensorProto *tensor, double *to, int64_t n)
{
    PapaTensorReader reader;
    PAPA_TRY(open_whole(&reader, onnx, tensor, n));
    return papa_reader_doubles(&reader, to, 0, n);
}

PapaStatus papa_tensor_read_int64(const PapaOnnx *onnx, const Onnx__TensorProto *tensor, int64_t *to, int64_t n)
{
    PapaTensorReader reader;
    PAPA_TRY(open_whole(&reader, onnx, tensor, n));
    return papa_reader_int64(&reader, to, 0, n);
}
