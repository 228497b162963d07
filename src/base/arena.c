#include "base/arena.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_BYTES ((size_t)64 << 10)
#define HEADER_BYTES ((size_t)64) /* keeps the payload on a cache line */

struct PapaArenaBlock {
    PapaArenaBlock *next;
    size_t used, size; /* of the payload behind the header */
};

_Static_assert(sizeof(struct PapaArenaBlock) <= HEADER_BYTES, "the header must fit its slot");

static PapaArenaBlock *new_block(PapaArena *arena, size_t bytes)
{
    size_t size = bytes > BLOCK_BYTES ? bytes : BLOCK_BYTES;
    PapaArenaBlock *block = size < SIZE_MAX - 2 * HEADER_BYTES ? aligned_alloc(64, HEADER_BYTES + ((size + 63) & ~(size_t)63)) : NULL;
    if (!block) {
        papa_fail_memory(bytes, "a graph or file description");
        return NULL;
    }
    *block = (PapaArenaBlock){.next = arena->blocks, .size = size};
    arena->blocks = block;
    return block;
}

void *papa_arena_alloc(PapaArena *arena, size_t bytes)
{
    size_t align = bytes >= 64 ? 64 : 16;
    PapaArenaBlock *block = arena->blocks;
    size_t start = block ? (block->used + align - 1) & ~(align - 1) : 0;
    if (!block || start > block->size || block->size - start < bytes) {
        block = new_block(arena, bytes);
        if (!block)
            return NULL;
        start = 0;
    }
    block->used = start + bytes;
    return memset((char *)block + HEADER_BYTES + start, 0, bytes);
}

void *papa_arena_calloc(PapaArena *arena, size_t count, size_t size)
{
    if (size && count > SIZE_MAX / 2 / size) {
        papa_fail_memory(SIZE_MAX, "an array");
        return NULL;
    }
    return papa_arena_alloc(arena, count * size);
}

char *papa_arena_strdup(PapaArena *arena, const char *text)
{
    size_t bytes = strlen(text) + 1;
    char *copy = papa_arena_alloc(arena, bytes);
    return copy ? memcpy(copy, text, bytes) : NULL;
}

char *papa_arena_printf(PapaArena *arena, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = length < 0 ? NULL : papa_arena_alloc(arena, (size_t)length + 1);
    if (text)
        vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    return text;
}

void papa_arena_free(PapaArena *arena)
{
    while (arena->blocks) {
        PapaArenaBlock *next = arena->blocks->next;
        free(arena->blocks);
        arena->blocks = next;
    }
}
