#include "onnx/splice.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- ropes */

static PapaStatus push_piece(PapaRope *rope, PapaPiece piece)
{
    if (rope->n == rope->capacity) {
        size_t capacity = rope->capacity ? 2 * rope->capacity : 16;
        PapaPiece *pieces = realloc(rope->pieces, capacity * sizeof *pieces);
        if (!pieces)
            return papa_fail_memory(capacity * sizeof *pieces, "a list of pieces");
        rope->pieces = pieces;
        rope->capacity = capacity;
    }
    rope->pieces[rope->n++] = piece;
    rope->bytes += piece.bytes;
    return PAPA_OK;
}

PapaStatus papa_rope_add_piece(PapaRope *rope, PapaPiece piece)
{
    PapaPiece *last = rope->n ? &rope->pieces[rope->n - 1] : NULL;
    if (!piece.bytes)
        return PAPA_OK;
    if (!last || last->fill || piece.fill || last->data + last->bytes != piece.data)
        return push_piece(rope, piece);
    last->bytes += piece.bytes;
    rope->bytes += piece.bytes;
    return PAPA_OK;
}

PapaStatus papa_rope_add(PapaRope *rope, const void *data, size_t bytes)
{
    return papa_rope_add_piece(rope, papa_piece(data, bytes));
}

PapaStatus papa_rope_append(PapaRope *rope, const PapaRope *tail)
{
    for (size_t i = 0; i < tail->n; i++)
        PAPA_TRY(papa_rope_add_piece(rope, tail->pieces[i]));
    return PAPA_OK;
}

PapaStatus papa_rope_add_field(PapaRope *rope, PapaArena *arena, uint32_t number, const PapaRope *content)
{
    unsigned char *header = papa_arena_alloc(arena, 2 * PAPA_VARINT_MAX);
    if (!header)
        return PAPA_ERR_MEMORY;
    PAPA_TRY(papa_rope_add(rope, header, papa_wire_put_header(header, number, PAPA_WIRE_LEN, content->bytes)));
    return papa_rope_append(rope, content);
}

/* The next n bytes of two pieces, from these offsets on. */
static bool pieces_equal(const PapaPiece *a, size_t in_a, const PapaPiece *b, size_t in_b, size_t n)
{
    if (!a->fill || !b->fill)
        return !a->fill && !b->fill && !memcmp(a->data + in_a, b->data + in_b, n);
    return a->fill->fill == b->fill->fill && a->fill->context == b->fill->context && a->fill->bits == b->fill->bits && in_a == in_b;
}

bool papa_rope_equal(const PapaRope *a, const PapaRope *b)
{
    if (a->bytes != b->bytes)
        return false;
    size_t i = 0, j = 0, in_a = 0, in_b = 0; /* piece, and offset in it */
    for (uint64_t left = a->bytes; left;) {
        size_t n = a->pieces[i].bytes - in_a, m = b->pieces[j].bytes - in_b, both = n < m ? n : m;
        if (!pieces_equal(&a->pieces[i], in_a, &b->pieces[j], in_b, both))
            return false;
        left -= both;
        in_a = both == n ? (i++, 0) : in_a + both;
        in_b = both == m ? (j++, 0) : in_b + both;
    }
    return true;
}

void papa_rope_free(PapaRope *rope)
{
    free(rope->pieces);
    *rope = (PapaRope){0};
}

/* ---------------------------------------------------------------- patches */

PapaStatus papa_patches_add(PapaPatches *patches, const unsigned char *message, const unsigned char *start, const unsigned char *end,
    PapaRope *by)
{
    PapaRope content = by ? *by : (PapaRope){0};
    if (by)
        *by = (PapaRope){0};
    if (patches->n == patches->capacity) {
        size_t capacity = patches->capacity ? 2 * patches->capacity : 64;
        PapaPatch *items = realloc(patches->items, capacity * sizeof *items);
        if (!items) {
            papa_rope_free(&content);
            return papa_fail_memory(capacity * sizeof *items, "a list of edits");
        }
        patches->items = items;
        patches->capacity = capacity;
    }
    patches->items[patches->n] = (PapaPatch){.message = message, .start = start, .end = end, .by = content, .order = patches->n};
    patches->n++;
    return PAPA_OK;
}

void papa_patches_free(PapaPatches *patches)
{
    for (size_t i = 0; i < patches->n; i++)
        papa_rope_free(&patches->items[i].by);
    free(patches->items);
    *patches = (PapaPatches){0};
}

/* By message, then by place; at one place insertions come first, in the order in which they were added. */
static int compare_patches(const void *left, const void *right)
{
    const PapaPatch *a = left, *b = right;
    if (a->message != b->message)
        return a->message < b->message ? -1 : 1;
    if (a->start != b->start)
        return a->start < b->start ? -1 : 1;
    bool a_removes = a->end > a->start, b_removes = b->end > b->start;
    if (a_removes != b_removes)
        return a_removes - b_removes;
    return a->order < b->order ? -1 : a->order > b->order;
}

/* The first patch whose message begins at `place` or behind it. */
static size_t first_patch(const PapaPatches *patches, const unsigned char *place)
{
    size_t low = 0, high = patches->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (patches->items[middle].message < place)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* ---------------------------------------------------------------- splicing */

typedef struct Splice {
    PapaRope *out;
    PapaArena *arena;
    const PapaPatches *patches;
} Splice;

static PapaStatus splice_message(Splice *s, const unsigned char *at, const unsigned char *end);

/* A message's content begins behind its own header, so no two messages begin at one place, and a patch belongs to this
 * field if its message begins within it, an empty one at its very end included. */
static bool is_touched(const Splice *s, const PapaField *field)
{
    size_t i = first_patch(s->patches, field->body);
    return field->wire == PAPA_WIRE_LEN && i < s->patches->n && s->patches->items[i].message <= field->end;
}

static PapaStatus splice_field(Splice *s, const PapaField *field)
{
    if (!is_touched(s, field))
        return papa_rope_add(s->out, field->start, (size_t)(field->end - field->start));
    unsigned char *header = papa_arena_alloc(s->arena, 2 * PAPA_VARINT_MAX);
    if (!header)
        return PAPA_ERR_MEMORY;
    size_t place = s->out->n;
    PAPA_TRY(push_piece(s->out, papa_piece(header, 0))); /* filled in below */
    uint64_t before = s->out->bytes;
    PAPA_TRY(splice_message(s, field->body, field->end));
    uint64_t length = s->out->bytes - before;
    PapaPiece piece = papa_piece(field->start, (size_t)(field->body - field->start));
    if (length != papa_field_size(field))
        piece = papa_piece(header, papa_wire_put_header(header, field->number, PAPA_WIRE_LEN, length));
    s->out->pieces[place] = piece;
    s->out->bytes += piece.bytes;
    return PAPA_OK;
}

static PapaStatus splice_message(Splice *s, const unsigned char *at, const unsigned char *end)
{
    const unsigned char *message = at;
    const PapaPatch *patch = s->patches->items + first_patch(s->patches, message), *last = s->patches->items + s->patches->n;
    for (;;) {
        for (; patch < last && patch->message == message && patch->start == at; patch++) {
            PAPA_TRY(papa_rope_append(s->out, &patch->by));
            at = patch->end;
        }
        if (at >= end)
            break;
        PapaField field;
        const char *wrong = papa_wire_next(&field, at, end);
        if (wrong)
            return papa_fail(PAPA_ERR_FORMAT, "a field to be edited %s", wrong);
        PAPA_TRY(splice_field(s, &field));
        at = field.end;
    }
    assert(patch == last || patch->message != message); /* else a patch did not begin at a field */
    return PAPA_OK;
}

PapaStatus papa_splice(PapaRope *out, PapaArena *arena, const unsigned char *data, size_t bytes, PapaPatches *patches)
{
    if (!patches->n)
        return papa_rope_add(out, data, bytes);
    qsort(patches->items, patches->n, sizeof *patches->items, compare_patches);
    Splice splice = {.out = out, .arena = arena, .patches = patches};
    return splice_message(&splice, data, data + bytes);
}
