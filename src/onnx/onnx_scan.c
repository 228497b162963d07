/* The scan: one walk over the wire format that checks it against the schema, notes where each tensor's elements lie, and
 * copies all the rest for protobuf-c. The descriptors that protoc-c generated drive it. */
#include "onnx/onnx_internal.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DEPTH 100 /* of nested messages; protobuf's own limit. protobuf-c recurses, so it must never see more */

typedef struct Scan {
    PapaOnnx *onnx;
    PapaBuffer *skeleton;
    const unsigned char *start;
} Scan;

static PapaStatus scan_message(Scan *scan, const ProtobufCMessageDescriptor *type, const unsigned char *at, const unsigned char *end,
    int depth);

static PapaStatus fail_at(const Scan *scan, const unsigned char *at, const ProtobufCMessageDescriptor *type, const char *what)
{
    return papa_fail(PAPA_ERR_FORMAT, "not an ONNX model or damaged: byte %zu: a field of %s %s", (size_t)(at - scan->start),
        type->short_name, what);
}

static int wire_of(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
        return PAPA_WIRE_I32;
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return PAPA_WIRE_I64;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        return PAPA_WIRE_LEN;
    default:
        return PAPA_WIRE_VARINT;
    }
}

/* Number of items in a packed field's body; false where it does not end with one. */
static bool count_packed(const unsigned char *at, const unsigned char *end, int wire, int64_t *count)
{
    if (wire != PAPA_WIRE_VARINT) {
        size_t size = wire == PAPA_WIRE_I32 ? 4 : 8;
        *count = (end - at) / (ptrdiff_t)size;
        return (size_t)(end - at) % size == 0;
    }
    int64_t n = 0;
    int length = 0;
    for (; at < end; at++) {
        if (++length > PAPA_VARINT_MAX)
            return false;
        if (!(*at & 0x80))
            n++, length = 0;
    }
    *count = n;
    return length == 0;
}

/* Checks a field's form against the schema. *count is the number of items of a repeated number, else 1. */
static PapaStatus check_field(const Scan *scan, const ProtobufCMessageDescriptor *type, const ProtobufCFieldDescriptor *as,
    const PapaField *field, int64_t *count)
{
    int wire = wire_of(as->type);
    *count = 1;
    if (field->wire != wire) {
        if (field->wire != PAPA_WIRE_LEN || as->label != PROTOBUF_C_LABEL_REPEATED)
            return fail_at(scan, field->start, type, "has another wire type than the schema's");
        if (!count_packed(field->body, field->end, wire, count))
            return fail_at(scan, field->start, type, "has a packed list that ends inside a number");
    }
    if (as->type == PROTOBUF_C_TYPE_STRING && memchr(field->body, 0, papa_field_size(field)))
        return fail_at(scan, field->start, type, "has a NUL byte in a string");
    return PAPA_OK;
}

/* Everything but a tensor's elements: into the skeleton. seen has a bit for each of type's fields. */
static PapaStatus scan_field(Scan *scan, const ProtobufCMessageDescriptor *type, const ProtobufCFieldDescriptor *as,
    const PapaField *field, uint64_t *seen, int depth)
{
    if (scan->skeleton->size > INT_MAX / 2)
        return papa_fail(PAPA_ERR_UNSUPPORTED, "more than 1 GiB besides tensors");
    if (!as || as->type != PROTOBUF_C_TYPE_MESSAGE)
        return papa_buffer_add(scan->skeleton, field->start, (size_t)(field->end - field->start));
    /* Protobuf would merge the two, field by field. No writer makes such files, and edits need one place per field. */
    uint64_t bit = (uint64_t)1 << (as - type->fields);
    if (as->label != PROTOBUF_C_LABEL_REPEATED && *seen & bit)
        return papa_fail(PAPA_ERR_FORMAT, "byte %zu: %s has its field '%s' twice", (size_t)(field->start - scan->start),
            type->short_name, as->name);
    *seen |= bit;
    size_t mark;
    PAPA_TRY(papa_buffer_open_message(scan->skeleton, field->number, &mark));
    PAPA_TRY(scan_message(scan, as->descriptor, field->body, field->end, depth + 1));
    papa_buffer_close_message(scan->skeleton, mark);
    return PAPA_OK;
}

/* ---------------------------------------------------------------- tensors */

/* A TensorProto while it is scanned. Texts point into the file and are not terminated. */
typedef struct TensorScan {
    PapaTensorRecord record;
    char label[256];   /* "tensor 'W'", for messages */
    int64_t n_items;   /* of the typed field, or strings */
    int n_chunks;      /* pieces that the typed field comes in */
    bool has_raw, overflow, negative, twice, is_external;
    const unsigned char *location, *offset, *length; /* of external_data, NULL where absent */
    size_t location_bytes, offset_bytes, length_bytes;
} TensorScan;

static PapaStatus fail_tensor(const TensorScan *t, const char *what)
{
    return papa_fail(PAPA_ERR_FORMAT, "%s: %s", t->label, what);
}

static void take_dim(TensorScan *t, uint64_t value)
{
    int64_t dim = (int64_t)value;
    if (dim < 0)
        t->negative = true;
    else if (dim == 0 || t->record.count <= INT64_MAX / dim)
        t->record.count *= dim;
    else
        t->overflow = true;
}

static void take_dims(TensorScan *t, const PapaField *field)
{
    if (field->wire == PAPA_WIRE_VARINT) {
        take_dim(t, field->value);
        return;
    }
    uint64_t value;
    for (const unsigned char *at = field->body; at < field->end && papa_wire_varint(&value, &at, field->end);)
        take_dim(t, value);
}

static void take_payload(TensorScan *t, const PapaField *field, int64_t count)
{
    PapaTensorRecord *r = &t->record;
    if (field->number == FIELD_TENSOR_RAW_DATA) {
        t->twice |= t->has_raw;
        t->has_raw = true;
        r->data = field->body;
        r->bytes = papa_field_size(field);
    } else if (count) {
        t->twice |= r->field && r->field != field->number;
        r->field = field->number;
        t->n_items += count;
        /* One packed run of fixed-width numbers is the raw form already. */
        bool in_place = t->n_chunks++ == 0 && field->wire == PAPA_WIRE_LEN &&
                        (field->number == FIELD_TENSOR_FLOAT_DATA || field->number == FIELD_TENSOR_DOUBLE_DATA);
        if (!t->has_raw)
            r->data = in_place ? field->body : NULL;
    }
}

static PapaStatus take_external(const Scan *scan, TensorScan *t, const PapaField *entry)
{
    PapaField key = {0}, value = {0}, field;
    for (const unsigned char *at = entry->body; at < entry->end; at = field.end) {
        const char *wrong = papa_wire_next(&field, at, entry->end);
        if (wrong)
            return fail_at(scan, at, &onnx__string_string_entry_proto__descriptor, wrong);
        if (field.number == FIELD_ENTRY_KEY)
            key = field;
        else if (field.number == FIELD_ENTRY_VALUE)
            value = field;
    }
    size_t n = papa_field_size(&key), m = papa_field_size(&value);
    const unsigned char *text = value.body ? value.body : entry->end;
    if (n == 8 && !memcmp(key.body, "location", n))
        t->location = text, t->location_bytes = m;
    else if (n == 6 && !memcmp(key.body, "offset", n))
        t->offset = text, t->offset_bytes = m;
    else if (n == 6 && !memcmp(key.body, "length", n))
        t->length = text, t->length_bytes = m;
    return PAPA_OK;
}

static PapaStatus take_field(Scan *scan, TensorScan *t, const PapaField *field, int64_t count)
{
    switch (field->number) {
    case FIELD_TENSOR_DIMS:
        take_dims(t, field);
        break;
    case FIELD_TENSOR_DATA_TYPE:
        t->record.type = (int)field->value;
        break;
    case FIELD_TENSOR_SEGMENT:
        t->record.is_segment = true;
        break;
    case FIELD_TENSOR_STRING_DATA:
        t->twice |= t->record.field && t->record.field != field->number;
        t->record.field = field->number;
        t->n_items++;
        break;
    case FIELD_TENSOR_NAME:
        snprintf(t->label, sizeof t->label, "tensor '%.*s'", papa_field_size(field) > 200 ? 200 : (int)papa_field_size(field), field->body);
        break;
    case FIELD_TENSOR_EXTERNAL_DATA:
        return take_external(scan, t, field);
    case FIELD_TENSOR_DATA_LOCATION:
        t->is_external = field->value == ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
        break;
    default:
        if (papa_is_payload_field(field->number))
            take_payload(t, field, count);
    }
    return PAPA_OK;
}

/* A decimal number without sign. False for anything else. */
static bool parse_number(const unsigned char *text, size_t bytes, uint64_t *out)
{
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++) {
        unsigned digit = (unsigned)text[i] - '0';
        if (digit > 9 || value > (UINT64_MAX - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    *out = value;
    return bytes > 0;
}

/* Relative, and no way up: a model must not read files outside its folder. Symbolic links are followed, since model caches
 * are made of them. */
static bool location_is_inside(const char *location)
{
    if (!*location || *location == '/')
        return false;
    for (const char *part = location; part; part = strchr(part, '/') ? strchr(part, '/') + 1 : NULL)
        if (part[0] == '.' && part[1] == '.' && (part[2] == '/' || !part[2]))
            return false;
    return true;
}

/* The mapping of an external file, made when it is first asked for. */
static PapaStatus map_location(PapaOnnx *onnx, const char *location, const PapaMapped **out)
{
    int64_t *known = papa_name_map_find(&onnx->locations, location);
    if (!known) {
        if (onnx->n_externals == onnx->externals_capacity) {
            size_t capacity = onnx->externals_capacity ? 2 * onnx->externals_capacity : 8;
            PapaMapped *externals = realloc(onnx->externals, capacity * sizeof *externals);
            if (!externals)
                return papa_fail_memory(capacity * sizeof *externals, "external files");
            onnx->externals = externals;
            const char **paths = realloc(onnx->external_paths, capacity * sizeof *paths);
            if (!paths)
                return papa_fail_memory(capacity * sizeof *paths, "external files");
            onnx->external_paths = paths;
            onnx->externals_capacity = capacity;
        }
        const char *slash = strrchr(onnx->path, '/');
        int folder = slash ? (int)(slash - onnx->path + 1) : 0;
        char *path = papa_arena_printf(&onnx->arena, "%.*s%s", folder, onnx->path, location);
        if (!path)
            return PAPA_ERR_MEMORY;
        PAPA_TRY(papa_name_map_add(&onnx->locations, location, (int64_t)onnx->n_externals, NULL));
        onnx->externals[onnx->n_externals] = (PapaMapped){0};
        onnx->external_paths[onnx->n_externals] = path;
        PapaStatus status = papa_file_map(&onnx->externals[onnx->n_externals++], path);
        if (status)
            return papa_fail_in(status == PAPA_ERR_IO ? PAPA_ERR_FORMAT : status, "external file");
        known = papa_name_map_find(&onnx->locations, location);
    }
    *out = &onnx->externals[*known];
    return PAPA_OK;
}

static PapaStatus resolve_external(PapaOnnx *onnx, TensorScan *t, size_t need)
{
    PapaTensorRecord *r = &t->record;
    uint64_t offset = 0, length = 0;
    if (t->has_raw || r->field)
        return fail_tensor(t, "is external and has elements in the model's file too");
    if (!t->location)
        return fail_tensor(t, "is external, but has no location");
    if (t->offset && !parse_number(t->offset, t->offset_bytes, &offset))
        return fail_tensor(t, "the offset of its external data is not a number");
    if (t->length && !parse_number(t->length, t->length_bytes, &length))
        return fail_tensor(t, "the length of its external data is not a number");
    char *location = papa_arena_alloc(&onnx->arena, t->location_bytes + 1);
    if (!location)
        return PAPA_ERR_MEMORY;
    memcpy(location, t->location, t->location_bytes);
    if (!location_is_inside(location))
        return papa_fail(PAPA_ERR_FORMAT, "%s: external file '%s' is outside the model's folder", t->label, location);
    const PapaMapped *file = NULL;
    PapaStatus status = map_location(onnx, location, &file);
    if (status)
        return papa_fail_in(status, "%s", t->label);
    bool known_size = papa_type_info(r->type) != NULL;
    if (known_size && t->length && length != need)
        return papa_fail(PAPA_ERR_FORMAT, "%s: its external data has %llu bytes, its type and shape need %zu", t->label, (unsigned long long)length, need);
    uint64_t left = offset <= file->size ? file->size - offset : 0;
    r->bytes = known_size ? need : t->length ? (size_t)length : (size_t)left;
    if (offset > file->size || r->bytes > left)
        return papa_fail(PAPA_ERR_FORMAT, "%s: external file '%s' has %zu bytes, too short for %zu at offset %llu",
            t->label, location, file->size, r->bytes, (unsigned long long)offset);
    r->data = r->bytes ? file->data + offset : NULL;
    r->storage = PAPA_STORAGE_EXTERNAL;
    return PAPA_OK;
}

/* How many items of the typed field count elements take. */
static uint64_t items_needed(const PapaTypeInfo *info, int64_t count)
{
    uint64_t n = (uint64_t)count;
    return info->bits >= info->item_bits ? n * (info->bits / info->item_bits) : (n + info->item_bits / info->bits - 1) / (info->item_bits / info->bits);
}

static PapaStatus resolve_inline(TensorScan *t, size_t need)
{
    PapaTensorRecord *r = &t->record;
    const PapaTypeInfo *info = papa_type_info(r->type);
    if (t->twice || (t->has_raw && r->field))
        return fail_tensor(t, "its elements are stored twice");
    if (t->has_raw)
        r->storage = PAPA_STORAGE_RAW;
    else if (r->field)
        r->storage = r->field == FIELD_TENSOR_STRING_DATA ? PAPA_STORAGE_STRINGS : PAPA_STORAGE_TYPED;
    if (r->is_segment || (!info && r->type != ONNX__TENSOR_PROTO__DATA_TYPE__STRING))
        return PAPA_OK; /* passed through, never read */
    bool matches;
    if (!info)
        matches = !t->has_raw && (!r->field || r->field == FIELD_TENSOR_STRING_DATA) && t->n_items == r->count;
    else if (t->has_raw)
        matches = r->bytes == need;
    else
        matches = (!r->field || r->field == info->field) && (uint64_t)t->n_items == items_needed(info, r->count);
    if (!matches) {
        char found[64];
        snprintf(found, sizeof found, t->has_raw ? "%zu bytes of raw data" : "%zu items in field %zu", t->has_raw ? r->bytes : (size_t)t->n_items,
            (size_t)r->field);
        return papa_fail(PAPA_ERR_FORMAT, "%s: %lld elements of type %s expected, %s found", t->label, (long long)r->count, papa_type_name(r->type), found);
    }
    r->bytes = need;
    return PAPA_OK;
}

static PapaStatus resolve(PapaOnnx *onnx, TensorScan *t)
{
    size_t need = 0;
    if (t->negative)
        return fail_tensor(t, "has a negative dimension");
    if (t->overflow || !papa_type_bytes(t->record.type, t->record.count, &need))
        return fail_tensor(t, "its dimensions multiply to more than memory can hold");
    return t->is_external ? resolve_external(onnx, t, need) : resolve_inline(t, need);
}

static PapaStatus add_record(PapaOnnx *onnx, size_t *index)
{
    if (onnx->n_records == onnx->records_capacity) {
        size_t capacity = onnx->records_capacity ? 2 * onnx->records_capacity : 64;
        PapaTensorRecord *records = capacity <= UINT32_MAX ? realloc(onnx->records, capacity * sizeof *records) : NULL;
        if (!records)
            return papa_fail_memory(capacity * sizeof *records, "tensor records");
        onnx->records = records;
        onnx->records_capacity = capacity;
    }
    *index = onnx->n_records++;
    return PAPA_OK;
}

static PapaStatus scan_tensor(Scan *scan, const unsigned char *at, const unsigned char *end, int depth)
{
    const ProtobufCMessageDescriptor *type = &onnx__tensor_proto__descriptor;
    TensorScan t = {.record = {.body = at, .end = end, .count = 1}, .label = "a tensor without a name"};
    size_t index = 0;
    PAPA_TRY(add_record(scan->onnx, &index));
    uint64_t seen = 0, marker = (uint64_t)scan->onnx->serial << 32 | index;
    PAPA_TRY(papa_buffer_add_header(scan->skeleton, FIELD_TENSOR_MARKER, PAPA_WIRE_I64, 0));
    PAPA_TRY(papa_buffer_add(scan->skeleton, &marker, sizeof marker));
    for (PapaField field; at < end; at = field.end) {
        const char *wrong = papa_wire_next(&field, at, end);
        if (wrong)
            return fail_at(scan, at, type, wrong);
        if (field.number == FIELD_TENSOR_MARKER) /* a stranger's field: the file keeps it, the skeleton must not */
            continue;
        int64_t count = 0;
        const ProtobufCFieldDescriptor *as = protobuf_c_message_descriptor_get_field(type, field.number);
        if (as) {
            PAPA_TRY(check_field(scan, type, as, &field, &count));
            PAPA_TRY(take_field(scan, &t, &field, count));
        }
        if (!papa_is_payload_field(field.number))
            PAPA_TRY(scan_field(scan, type, as, &field, &seen, depth));
    }
    PAPA_TRY(resolve(scan->onnx, &t));
    scan->onnx->records[index] = t.record;
    return PAPA_OK;
}

static PapaStatus scan_message(Scan *scan, const ProtobufCMessageDescriptor *type, const unsigned char *at, const unsigned char *end,
    int depth)
{
    if (depth > MAX_DEPTH)
        return papa_fail(PAPA_ERR_FORMAT, "byte %zu: messages nested deeper than %d", (size_t)(at - scan->start), MAX_DEPTH);
    if (type == &onnx__tensor_proto__descriptor)
        return scan_tensor(scan, at, end, depth);
    uint64_t seen = 0;
    for (PapaField field; at < end; at = field.end) {
        int64_t count;
        const char *wrong = papa_wire_next(&field, at, end);
        if (wrong)
            return fail_at(scan, at, type, wrong);
        const ProtobufCFieldDescriptor *as = protobuf_c_message_descriptor_get_field(type, field.number);
        if (as)
            PAPA_TRY(check_field(scan, type, as, &field, &count));
        PAPA_TRY(scan_field(scan, type, as, &field, &seen, depth));
    }
    return PAPA_OK;
}

PapaStatus papa_scan_message(PapaOnnx *onnx, const ProtobufCMessageDescriptor *type, const unsigned char *data, size_t bytes,
    PapaBuffer *skeleton)
{
    Scan scan = {.onnx = onnx, .skeleton = skeleton, .start = data};
    return scan_message(&scan, type, data, data + bytes, 0);
}

/* ---------------------------------------------------------------- memory for protobuf-c */

static void *arena_alloc(void *arena, size_t bytes)
{
    return bytes < SIZE_MAX ? papa_arena_alloc(arena, bytes + 1) : NULL;
}

static void arena_free(void *arena, void *pointer)
{
    (void)arena, (void)pointer; /* the arena frees all at once */
}

ProtobufCAllocator papa_arena_allocator(PapaArena *arena)
{
    return (ProtobufCAllocator){.alloc = arena_alloc, .free = arena_free, .allocator_data = arena};
}
