/* All tensors of a model, wherever they stand, with names for messages; and whether two are equal. */
#include "onnx/onnx_internal.h"

#include <string.h>

#define BLOCK_BYTES ((size_t)8192)

/* ---------------------------------------------------------------- the list */

typedef struct Walk {
    PapaArena *arena;
    const PapaOnnx *onnx;
    PapaTensorPlace *places; /* by record */
    const Onnx__SparseTensorProto *sparse; /* that is walked through, or NULL */
    PapaNameMap paths;
} Walk;

static PapaStatus walk_message(Walk *walk, const ProtobufCMessage *message, const char *path);

/* A path that no tensor has yet. Only files that give one name to two things need more than the path itself. */
static PapaStatus add_place(Walk *walk, const Onnx__TensorProto *tensor, const char *path)
{
    const PapaTensorRecord *record = papa_tensor_record(walk->onnx, tensor);
    const char *unique = path;
    bool added = false;
    for (int i = 2; unique; i++) {
        PAPA_TRY(papa_name_map_add(&walk->paths, unique, 0, &added));
        if (added)
            break;
        unique = papa_arena_printf(walk->arena, "%s (%d)", path, i);
    }
    walk->places[record - walk->onnx->records] = (PapaTensorPlace){tensor, walk->sparse, unique};
    return unique ? PAPA_OK : PAPA_ERR_MEMORY;
}

static const char *text(const char *name)
{
    return name ? name : "";
}

/* Appends to path what a message is called in the field of its parent. k: its index in a list, -1: it stands alone. */
static char *name_part(PapaArena *arena, const char *path, const ProtobufCFieldDescriptor *field, int64_t k, const ProtobufCMessage *message)
{
    const char *dot = *path ? "." : "", *name = field->name;
    if (field->descriptor == &onnx__attribute_proto__descriptor)
        return papa_arena_printf(arena, "%s%s%s", path, dot, text(((const Onnx__AttributeProto *)message)->name));
    if (field->descriptor == &onnx__node_proto__descriptor) {
        const Onnx__NodeProto *node = (const Onnx__NodeProto *)message;
        const char *quote = *text(node->name) ? "'" : "";
        return papa_arena_printf(arena, "%s%s%s[%lld] (%s%s%s%s%s)", path, dot, name, (long long)k, text(node->op_type), *quote ? " " : "", quote,
            text(node->name), quote);
    }
    if (field->descriptor == &onnx__function_proto__descriptor)
        return papa_arena_printf(arena, "%s%s%s[%lld] '%s'", path, dot, name, (long long)k, text(((const Onnx__FunctionProto *)message)->name));
    const Onnx__TensorProto *tensor = NULL; /* whose name is this part's */
    if (field->descriptor == &onnx__tensor_proto__descriptor)
        tensor = (const Onnx__TensorProto *)message;
    if (field->descriptor == &onnx__sparse_tensor_proto__descriptor)
        tensor = ((const Onnx__SparseTensorProto *)message)->values;
    if (tensor && k >= 0 && *text(tensor->name))
        return papa_arena_printf(arena, "%s%s%s '%s'", path, dot, name, tensor->name);
    if (k >= 0)
        return papa_arena_printf(arena, "%s%s%s[%lld]", path, dot, name, (long long)k);
    return papa_arena_printf(arena, "%s%s%s", path, dot, name);
}

/* An attribute is called by its own name, so that the field which holds its only tensor or graph adds nothing. */
static bool is_silent(const ProtobufCMessage *parent, int64_t k)
{
    return parent->descriptor == &onnx__attribute_proto__descriptor && k < 0;
}

static PapaStatus walk_child(Walk *walk, const ProtobufCMessage *parent, const ProtobufCFieldDescriptor *field, int64_t k,
    const ProtobufCMessage *message, const char *path)
{
    const char *part = is_silent(parent, k) ? path : name_part(walk->arena, path, field, k, message);
    if (!part)
        return PAPA_ERR_MEMORY;
    if (message->descriptor == &onnx__tensor_proto__descriptor)
        return add_place(walk, (const Onnx__TensorProto *)message, part);
    return walk_message(walk, message, part);
}

static PapaStatus walk_message(Walk *walk, const ProtobufCMessage *message, const char *path)
{
    const ProtobufCMessageDescriptor *type = message->descriptor;
    bool is_sparse = type == &onnx__sparse_tensor_proto__descriptor;
    walk->sparse = is_sparse ? (const Onnx__SparseTensorProto *)message : NULL;
    for (unsigned i = 0; i < type->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &type->fields[i];
        const char *member = (const char *)message + field->offset;
        if (field->type != PROTOBUF_C_TYPE_MESSAGE || field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) /* a oneof of ONNX holds no tensor */
            continue;
        if (field->label != PROTOBUF_C_LABEL_REPEATED) {
            const ProtobufCMessage *child = *(ProtobufCMessage *const *)member;
            if (child)
                PAPA_TRY(walk_child(walk, message, field, -1, child, path));
            continue;
        }
        size_t n = *(const size_t *)((const char *)message + field->quantifier_offset);
        for (size_t k = 0; k < n; k++)
            PAPA_TRY(walk_child(walk, message, field, (int64_t)k, (*(ProtobufCMessage **const *)member)[k], path));
    }
    if (is_sparse)
        walk->sparse = NULL;
    return PAPA_OK;
}

PapaStatus papa_onnx_tensors(PapaTensorPlace **out, size_t *n, PapaArena *arena, const PapaOnnx *onnx)
{
    Walk walk = {.arena = arena, .onnx = onnx, .places = PAPA_NEW_ARRAY(arena, PapaTensorPlace, onnx->n_records)};
    PapaStatus status = walk.places ? walk_message(&walk, &onnx->model->base, "") : PAPA_ERR_MEMORY;
    papa_name_map_free(&walk.paths);
    if (!status)
        *out = walk.places, *n = onnx->n_records;
    return status;
}

int64_t papa_tensor_index(const PapaOnnx *onnx, const Onnx__TensorProto *tensor)
{
    const PapaTensorRecord *record = papa_tensor_record(onnx, tensor);
    return record ? record - onnx->records : -1;
}

const void *papa_tensor_data(const PapaOnnx *onnx, const Onnx__TensorProto *tensor)
{
    const PapaTensorRecord *record = papa_tensor_record(onnx, tensor);
    return record && papa_type_info(record->type) && !record->is_segment && record->bytes ? record->data : NULL;
}

/* ---------------------------------------------------------------- equality */

static bool same_shape(const Onnx__TensorProto *x, const Onnx__TensorProto *y)
{
    return x->n_dims == y->n_dims && (!x->n_dims || !memcmp(x->dims, y->dims, x->n_dims * sizeof *x->dims));
}

/* Index of the first string that differs, or -1. */
static int64_t compare_strings(const Onnx__TensorProto *x, const Onnx__TensorProto *y)
{
    for (size_t i = 0; i < x->n_string_data && i < y->n_string_data; i++)
        if (x->string_data[i].len != y->string_data[i].len ||
            (x->string_data[i].len && memcmp(x->string_data[i].data, y->string_data[i].data, x->string_data[i].len)))
            return (int64_t)i;
    return x->n_string_data == y->n_string_data ? -1 : 0;
}

/* As far as bytes that nobody understands can be compared. */
static bool same_bytes(const PapaTensorRecord *x, const PapaTensorRecord *y)
{
    if (x->storage == PAPA_STORAGE_EXTERNAL && y->storage == PAPA_STORAGE_EXTERNAL)
        return x->bytes == y->bytes && (!x->bytes || !memcmp(x->data, y->data, x->bytes));
    return x->storage == y->storage && x->end - x->body == y->end - y->body && !memcmp(x->body, y->body, (size_t)(x->end - x->body));
}

/* Index of the first of n elements that differs; n or more where only bits behind the last one do, or none. */
static int64_t first_difference(const unsigned char *x, const unsigned char *y, size_t bits, int64_t n)
{
    size_t bytes = ((size_t)n * bits + 7) / 8;
    if (!memcmp(x, y, bytes))
        return n;
    for (size_t i = 0; i < bytes; i++)
        if (x[i] != y[i])
            return (int64_t)((i * 8 + (size_t)__builtin_ctz(x[i] ^ y[i])) / bits);
    return n;
}

PapaStatus papa_tensors_equal(bool *out, int64_t *at, const PapaOnnx *a, const Onnx__TensorProto *x, const PapaOnnx *b, const Onnx__TensorProto *y)
{
    int64_t unused;
    at = at ? at : &unused;
    *out = false;
    *at = -1;
    const PapaTensorRecord *record_x = papa_tensor_record(a, x), *record_y = papa_tensor_record(b, y);
    if (!record_x || !record_y)
        return papa_fail(PAPA_ERR_ARGUMENT, "%s: not a tensor of %s", papa_tensor_label(record_x ? y : x), record_x ? b->path : a->path);
    if (record_x->type != record_y->type || !same_shape(x, y))
        return PAPA_OK;
    size_t bits = papa_type_bits(record_x->type);
    if (!bits || record_x->is_segment || record_y->is_segment) {
        bool is_text = record_x->type == ONNX__TENSOR_PROTO__DATA_TYPE__STRING && !record_x->is_segment && !record_y->is_segment;
        *at = is_text ? compare_strings(x, y) : 0;
        *out = is_text ? *at < 0 : same_bytes(record_x, record_y);
        return PAPA_OK;
    }
    unsigned char left[BLOCK_BYTES], right[BLOCK_BYTES];
    PapaTensorReader from_x, from_y;
    PAPA_TRY(papa_reader_open(&from_x, a, x));
    PAPA_TRY(papa_reader_open(&from_y, b, y));
    int64_t count = record_x->count, most = (int64_t)(BLOCK_BYTES / bits * 8);
    for (int64_t first = 0, n; first < count; first += n) {
        n = count - first < most ? count - first : most;
        PAPA_TRY(papa_reader_raw(&from_x, left, first, n));
        PAPA_TRY(papa_reader_raw(&from_y, right, first, n));
        *at = first + first_difference(left, right, bits, n);
        if (*at < first + n)
            return PAPA_OK;
    }
    *out = true;
    return PAPA_OK;
}
