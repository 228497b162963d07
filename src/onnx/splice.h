/* Editing serialized messages without decoding them: what is not edited is copied as it is, in pieces that point into the
 * original; the lengths of all enclosing messages follow. Knows no schema. */
#ifndef PAPA_SPLICE_H
#define PAPA_SPLICE_H

#include "base/arena.h"
#include "onnx/wire.h"

/* Bytes that are made while they are written, from elements of so many bits. */
typedef struct PapaFill {
    PapaStatus (*fill)(void *context, void *to, int64_t first, int64_t n);
    void *context;
    int64_t count;
    unsigned bits;
} PapaFill;

/* Bytes that lie somewhere else, in a mapped file or in an arena, or that are made. */
typedef struct PapaPiece {
    const unsigned char *data;
    size_t bytes;
    const PapaFill *fill; /* made by it, and data is NULL; else NULL */
} PapaPiece;

static inline PapaPiece papa_piece(const void *data, size_t bytes)
{
    return (PapaPiece){.data = data, .bytes = bytes};
}

/* A long byte string in pieces. A zeroed one is empty; free with papa_rope_free, which frees the list only. */
typedef struct PapaRope {
    PapaPiece *pieces;
    size_t n, capacity;
    uint64_t bytes;
} PapaRope;

PapaStatus papa_rope_add(PapaRope *rope, const void *data, size_t bytes);
PapaStatus papa_rope_add_piece(PapaRope *rope, PapaPiece piece);
PapaStatus papa_rope_append(PapaRope *rope, const PapaRope *tail);
/* A field of wire type LEN with this content. The header lies in the arena. */
PapaStatus papa_rope_add_field(PapaRope *rope, PapaArena *arena, uint32_t number, const PapaRope *content);
/* Whether two ropes have equal bytes. What is made equals only what the same function makes of the same context. */
bool papa_rope_equal(const PapaRope *a, const PapaRope *b);
void papa_rope_free(PapaRope *rope);

/* Replaces whole fields of one message. start == end: inserts in front of the field that begins there, or at the end. */
typedef struct PapaPatch {
    const unsigned char *message;     /* where the content of the edited message begins */
    const unsigned char *start, *end; /* the fields that go: contiguous fields of that message */
    PapaRope by;                      /* what comes instead; the patch owns the list */
    size_t order;                     /* set by papa_patches_add: equal places keep this order */
} PapaPatch;

typedef struct PapaPatches {
    PapaPatch *items;
    size_t n, capacity;
} PapaPatches;

/* Takes `by` over (it is freed on failure too, and zeroed). by may be NULL: the fields are removed. */
PapaStatus papa_patches_add(PapaPatches *patches, const unsigned char *message, const unsigned char *start, const unsigned char *end,
    PapaRope *by);
void papa_patches_free(PapaPatches *patches);

/* Appends the message at data with the patches applied. Patches inside fields that another patch replaces are ignored.
 * Sorts the patches. Headers whose length changes lie in the arena. */
PapaStatus papa_splice(PapaRope *out, PapaArena *arena, const unsigned char *data, size_t bytes, PapaPatches *patches);

#endif
