/* A bump allocator for small objects that live and die together: a graph, a parsed file, a report.
 * Owns all it hands out; papa_arena_free releases everything at once. Not thread-safe. */
#ifndef PAPA_ARENA_H
#define PAPA_ARENA_H

#include "base/status.h"

#include <stdarg.h>

typedef struct PapaArenaBlock PapaArenaBlock;
typedef struct PapaArena {
    PapaArenaBlock *blocks;
} PapaArena;

#define PAPA_ARENA_INIT ((PapaArena){0})

/* Zeroed memory, aligned to 64 bytes where bytes >= 64 and to 16 otherwise. NULL when memory runs out (the message is
 * recorded). bytes may be 0. */
void *papa_arena_alloc(PapaArena *arena, size_t bytes);

/* count * size with overflow check. */
void *papa_arena_calloc(PapaArena *arena, size_t count, size_t size);

char *papa_arena_strdup(PapaArena *arena, const char *text);
char *papa_arena_printf(PapaArena *arena, const char *format, ...) __attribute__((format(printf, 2, 3)));

void papa_arena_free(PapaArena *arena);

#define PAPA_NEW(arena, type) ((type *)papa_arena_alloc((arena), sizeof(type)))
#define PAPA_NEW_ARRAY(arena, type, count) ((type *)papa_arena_calloc((arena), (size_t)(count), sizeof(type)))

#endif
