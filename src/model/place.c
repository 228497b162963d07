#include "model/place.h"

#include <stddef.h>
#include <stdlib.h>

static int by_size(const void *a, const void *b)
{
    const PapaBlock *x = *(const PapaBlock *const *)a, *y = *(const PapaBlock *const *)b;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? 1 : -1;
    return (x->first > y->first) - (x->first < y->first);
}

static void set_offset(PapaBlock *block, int64_t offset)
{
    block->offset = offset;
    if (block->result)
        *block->result = offset;
}

/* The lowest address where block meets none of the n placed ones, which stand in the order of their offsets. */
static int64_t lowest(const PapaBlock *block, PapaBlock *const *placed, int n)
{
    int64_t offset = 0;
    for (int i = 0; i < n; i++) {
        const PapaBlock *other = placed[i];
        if (other->last < block->first || block->last < other->first)
            continue;
        if (other->offset >= offset + block->bytes)
            break;
        if (other->offset + other->bytes > offset)
            offset = other->offset + other->bytes;
    }
    return offset;
}

/* Largest first: what is left over then fits into the gaps. */
int64_t papa_place_blocks(PapaBlock **blocks, int n, PapaBlock **scratch)
{
    int64_t end = 0;
    qsort(blocks, (size_t)n, sizeof *blocks, by_size);
    for (int i = 0; i < n; i++) {
        PapaBlock *block = blocks[i];
        set_offset(block, lowest(block, scratch, i));
        int at = i;
        for (; at > 0 && scratch[at - 1]->offset > block->offset; at--)
            scratch[at] = scratch[at - 1];
        scratch[at] = block;
        if (block->offset + block->bytes > end)
            end = block->offset + block->bytes;
    }
    return end;
}

int64_t papa_place_apart(PapaBlock **blocks, int n, int64_t gap)
{
    int64_t end = 0;
    for (int i = 0; i < n; i++) {
        set_offset(blocks[i], end);
        end += blocks[i]->bytes + gap;
    }
    return end;
}
