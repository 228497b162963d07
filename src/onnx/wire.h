/* Protobuf's wire format: fields read in place, bytes built up. Knows no schema.
 *
 * A message is a run of fields; a field is a tag (number << 3 | wire type), then a value. All functions check lengths
 * and never read past `end`. */
#ifndef PAPA_WIRE_H
#define PAPA_WIRE_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "ONNX and protobuf are little-endian, and so are we");

enum { PAPA_WIRE_VARINT = 0, PAPA_WIRE_I64 = 1, PAPA_WIRE_LEN = 2, PAPA_WIRE_I32 = 5 };

#define PAPA_VARINT_MAX 10 /* bytes of the longest varint */

typedef struct PapaField {
    uint32_t number;
    int wire;
    uint64_t value;             /* PAPA_WIRE_VARINT: the number */
    const unsigned char *start; /* the tag */
    const unsigned char *body;  /* the value; of PAPA_WIRE_LEN, what follows the length */
    const unsigned char *end;   /* behind the field */
} PapaField;

static inline size_t papa_field_size(const PapaField *field)
{
    return (size_t)(field->end - field->body);
}

/* Reads the field at `at`, with at < end. Returns NULL, or what is wrong ("runs past the end of its message"). */
const char *papa_wire_next(PapaField *out, const unsigned char *at, const unsigned char *end);

/* Reads the varint at *at and moves *at behind it. False where it does not end before `end` or within 10 bytes. */
bool papa_wire_varint(uint64_t *out, const unsigned char **at, const unsigned char *end);

/* Writes value as a varint and returns its length, at most PAPA_VARINT_MAX. */
size_t papa_wire_put_varint(unsigned char *to, uint64_t value);

/* Writes a tag and, for PAPA_WIRE_LEN, the length; returns the number of bytes, at most 2 * PAPA_VARINT_MAX. */
size_t papa_wire_put_header(unsigned char *to, uint32_t number, int wire, uint64_t length);

/* Bytes that grow. A zeroed one is empty; free with papa_buffer_free. */
typedef struct PapaBuffer {
    unsigned char *data;
    size_t size, capacity;
} PapaBuffer;

PapaStatus papa_buffer_add(PapaBuffer *buffer, const void *data, size_t bytes);
PapaStatus papa_buffer_add_header(PapaBuffer *buffer, uint32_t number, int wire, uint64_t length);
PapaStatus papa_buffer_add_string(PapaBuffer *buffer, uint32_t number, const char *text);

/* A message whose length is known only at its end: open writes the tag and room for the length, close fills it in (as a
 * varint padded to 5 bytes; messages are shorter than 2^35). */
PapaStatus papa_buffer_open_message(PapaBuffer *buffer, uint32_t number, size_t *mark);
void papa_buffer_close_message(PapaBuffer *buffer, size_t mark);

void papa_buffer_free(PapaBuffer *buffer);

#endif
