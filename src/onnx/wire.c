#include "onnx/wire.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define TAG_BYTES 5        /* field numbers have 29 bits */
#define LENGTH_BYTES ((size_t)5)

bool papa_wire_varint(uint64_t *out, const unsigned char **at, const unsigned char *end)
{
    uint64_t value = 0;
    const unsigned char *p = *at;
    for (int shift = 0; shift < 70 && p < end; shift += 7) {
        unsigned char byte = *p++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            *out = value;
            *at = p;
            return true;
        }
    }
    return false;
}

static const char *read_value(PapaField *out, const unsigned char *at, const unsigned char *end)
{
    uint64_t length;
    switch (out->wire) {
    case PAPA_WIRE_VARINT:
        out->body = at;
        if (!papa_wire_varint(&out->value, &at, end))
            return "has a varint that does not end";
        out->end = at;
        return NULL;
    case PAPA_WIRE_I64:
    case PAPA_WIRE_I32:
        length = out->wire == PAPA_WIRE_I64 ? 8 : 4;
        break;
    case PAPA_WIRE_LEN:
        if (!papa_wire_varint(&length, &at, end))
            return "has a length that does not end";
        break;
    default:
        return "has a wire type that ONNX does not use";
    }
    if (length > (size_t)(end - at))
        return "runs past the end of its message";
    out->body = at;
    out->end = at + length;
    return NULL;
}

const char *papa_wire_next(PapaField *out, const unsigned char *at, const unsigned char *end)
{
    uint64_t tag;
    *out = (PapaField){.start = at};
    if (!papa_wire_varint(&tag, &at, end))
        return "has a tag that does not end";
    if (tag > UINT32_MAX || tag < 8 || at - out->start > TAG_BYTES)
        return "has an impossible field number";
    out->number = (uint32_t)(tag >> 3);
    out->wire = (int)(tag & 7);
    return read_value(out, at, end);
}

size_t papa_wire_put_varint(unsigned char *to, uint64_t value)
{
    size_t n = 0;
    for (; value >= 0x80; value >>= 7)
        to[n++] = (unsigned char)(value | 0x80);
    to[n++] = (unsigned char)value;
    return n;
}

size_t papa_wire_put_header(unsigned char *to, uint32_t number, int wire, uint64_t length)
{
    size_t n = papa_wire_put_varint(to, (uint64_t)number << 3 | (unsigned)wire);
    return wire == PAPA_WIRE_LEN ? n + papa_wire_put_varint(to + n, length) : n;
}

static PapaStatus reserve(PapaBuffer *buffer, size_t bytes)
{
    if (bytes <= buffer->capacity - buffer->size)
        return PAPA_OK;
    size_t need = buffer->size + bytes, capacity = buffer->capacity ? buffer->capacity : 4096;
    while (capacity < need && capacity <= SIZE_MAX / 2)
        capacity *= 2;
    unsigned char *data = need < bytes || capacity < need ? NULL : realloc(buffer->data, capacity);
    if (!data)
        return papa_fail_memory(need, "a protobuf message");
    buffer->data = data;
    buffer->capacity = capacity;
    return PAPA_OK;
}

PapaStatus papa_buffer_add(PapaBuffer *buffer, const void *data, size_t bytes)
{
    if (!bytes)
        return PAPA_OK;
    PAPA_TRY(reserve(buffer, bytes));
    memcpy(buffer->data + buffer->size, data, bytes);
    buffer->size += bytes;
    return PAPA_OK;
}

PapaStatus papa_buffer_add_header(PapaBuffer *buffer, uint32_t number, int wire, uint64_t length)
{
    unsigned char header[2 * PAPA_VARINT_MAX];
    return papa_buffer_add(buffer, header, papa_wire_put_header(header, number, wire, length));
}

PapaStatus papa_buffer_add_string(PapaBuffer *buffer, uint32_t number, const char *text)
{
    size_t bytes = strlen(text);
    PAPA_TRY(papa_buffer_add_header(buffer, number, PAPA_WIRE_LEN, bytes));
    return papa_buffer_add(buffer, text, bytes);
}

PapaStatus papa_buffer_open_message(PapaBuffer *buffer, uint32_t number, size_t *mark)
{
    unsigned char header[PAPA_VARINT_MAX + LENGTH_BYTES] = {0};
    size_t n = papa_wire_put_varint(header, (uint64_t)number << 3 | PAPA_WIRE_LEN);
    PAPA_TRY(papa_buffer_add(buffer, header, n + LENGTH_BYTES));
    *mark = buffer->size;
    return PAPA_OK;
}

void papa_buffer_close_message(PapaBuffer *buffer, size_t mark)
{
    uint64_t length = buffer->size - mark;
    assert(length < (uint64_t)1 << 35);
    for (size_t i = 0; i < LENGTH_BYTES; i++, length >>= 7)
        buffer->data[mark - LENGTH_BYTES + i] = (unsigned char)((length & 0x7f) | (i + 1 < LENGTH_BYTES ? 0x80 : 0));
}

void papa_buffer_free(PapaBuffer *buffer)
{
    free(buffer->data);
    *buffer = (PapaBuffer){0};
}
