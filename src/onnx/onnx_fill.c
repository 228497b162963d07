/* Elements that callbacks make: all at once, or range by range into a file. While one range is made the one before is written. */
#include "base/threads.h"
#include "onnx/onnx_edit.h"

#include <stdlib.h>

/* Elements of the longest range: whole bytes, and as aligned as its beginning. */
static int64_t longest_range(const PapaFill *fill)
{
    return (int64_t)(PAPA_FILL_BYTES / (64 * fill->bits) * 512);
}

static size_t range_bytes(const PapaFill *fill, int64_t n)
{
    return ((size_t)n * fill->bits + 7) / 8;
}

#define FOR_RANGES(fill, first, n)                                                                                                 \
    for (int64_t first = 0, n; n = (fill)->count - first < longest_range(fill) ? (fill)->count - first : longest_range(fill), n > 0; \
         first += n)

PapaStatus papa_fill_make(PapaRaw *out, const PapaFill *fill)
{
    size_t bytes = range_bytes(fill, fill->count);
    unsigned char *to = aligned_alloc(64, (bytes / 64 + 1) * 64);
    *out = (PapaRaw){.data = to, .bytes = bytes, .owned = to};
    if (!to)
        return papa_fail_memory(bytes, "a tensor's elements");
    FOR_RANGES(fill, first, n) {
        PapaStatus status = fill->fill(fill->context, to + range_bytes(fill, first), first, n);
        if (status) {
            free(to);
            *out = (PapaRaw){0};
            return status;
        }
    }
    return PAPA_OK;
}

/* ---------------------------------------------------------------- to a file */

/* What has been made and waits to be written: a range, then pieces of the rope. And the range to be made meanwhile. */
typedef struct Stream {
    const PapaRope *rope;
    PapaWriter *writer;
    PapaPool *pool;          /* NULL: one after the other */
    unsigned char *chunks[2];
    int waiting;             /* which chunk waits */
    size_t bytes;            /* of it */
    size_t piece, end_piece; /* behind it */
    const PapaFill *fill;    /* to be made into the other */
    int64_t first, n;
} Stream;

enum { WRITE, MAKE };

static PapaStatus run_task(void *context, int worker, int task)
{
    Stream *s = context;
    (void)worker;
    if (task == MAKE)
        return s->fill->fill(s->fill->context, s->chunks[!s->waiting], s->first, s->n);
    PAPA_TRY(papa_writer_write(s->writer, s->chunks[s->waiting], s->bytes));
    for (size_t i = s->piece; i < s->end_piece; i++)
        PAPA_TRY(papa_writer_write(s->writer, s->rope->pieces[i].data, s->rope->pieces[i].bytes));
    return PAPA_OK;
}

/* Makes a range, which then waits. */
static PapaStatus advance(Stream *s, size_t piece, int64_t first, int64_t n)
{
    s->fill = s->rope->pieces[piece].fill;
    s->first = first;
    s->n = n;
    if (s->pool) {
        PAPA_TRY(papa_pool_for(s->pool, 2, run_task, s));
    } else {
        PAPA_TRY(run_task(s, 0, WRITE));
        PAPA_TRY(run_task(s, 0, MAKE));
    }
    s->waiting = !s->waiting;
    s->bytes = range_bytes(s->fill, n);
    s->piece = s->end_piece = piece + 1;
    return PAPA_OK;
}

static PapaStatus open_stream(Stream *s, const PapaRope *rope, PapaWriter *writer)
{
    *s = (Stream){.rope = rope, .writer = writer};
    bool makes = false;
    for (size_t i = 0; i < rope->n && !makes; i++)
        makes = rope->pieces[i].fill;
    if (!makes)
        return PAPA_OK;
    for (int i = 0; i < 2; i++) {
        s->chunks[i] = aligned_alloc(64, PAPA_FILL_BYTES);
        if (!s->chunks[i])
            return papa_fail_memory(PAPA_FILL_BYTES, "a part of a tensor");
    }
    return papa_cores() > 1 ? papa_pool_new(&s->pool, 2) : PAPA_OK;
}

static PapaStatus write_all(Stream *s)
{
    for (size_t i = 0; i < s->rope->n; i++) {
        if (s->rope->pieces[i].fill)
            FOR_RANGES(s->rope->pieces[i].fill, first, n)
                PAPA_TRY(advance(s, i, first, n));
        else
            s->end_piece = i + 1;
    }
    return run_task(s, 0, WRITE);
}

PapaStatus papa_rope_write(const PapaRope *rope, PapaWriter *writer)
{
    Stream stream;
    PapaStatus status = open_stream(&stream, rope, writer);
    if (!status)
        status = write_all(&stream);
    papa_pool_free(stream.pool);
    free(stream.chunks[0]);
    free(stream.chunks[1]);
    return status;
}
