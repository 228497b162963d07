#include "onnx/name_map.h"

#include <stdlib.h>
#include <string.h>

/* FNV-1a, 64 bits. */
static uint64_t hash_text(const char *text)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * 0x100000001b3u;
    return hash ^ hash >> 32;
}

/* The slot that holds key or where it belongs. Some slot is always free. */
static struct PapaNameMapSlot *slot_of(struct PapaNameMapSlot *slots, size_t capacity, const char *key)
{
    size_t i = hash_text(key) & (capacity - 1);
    while (slots[i].key && strcmp(slots[i].key, key))
        i = (i + 1) & (capacity - 1);
    return &slots[i];
}

int64_t *papa_name_map_find(const PapaNameMap *map, const char *key)
{
    if (!map->capacity)
        return NULL;
    struct PapaNameMapSlot *slot = slot_of(map->slots, map->capacity, key);
    return slot->key ? &slot->value : NULL;
}

static PapaStatus grow(PapaNameMap *map)
{
    size_t capacity = map->capacity ? 2 * map->capacity : 64;
    struct PapaNameMapSlot *slots = calloc(capacity, sizeof *slots);
    if (!slots)
        return papa_fail_memory(capacity * sizeof *slots, "a table of names");
    for (size_t i = 0; i < map->capacity; i++)
        if (map->slots[i].key)
            *slot_of(slots, capacity, map->slots[i].key) = map->slots[i];
    free(map->slots);
    map->slots = slots;
    map->capacity = capacity;
    return PAPA_OK;
}

PapaStatus papa_name_map_add(PapaNameMap *map, const char *key, int64_t value, bool *added)
{
    if (map->count >= map->capacity / 2)
        PAPA_TRY(grow(map));
    struct PapaNameMapSlot *slot = slot_of(map->slots, map->capacity, key);
    bool is_new = !slot->key;
    if (is_new) {
        *slot = (struct PapaNameMapSlot){key, value};
        map->count++;
    }
    if (added)
        *added = is_new;
    return PAPA_OK;
}

void papa_name_map_free(PapaNameMap *map)
{
    free(map->slots);
    *map = (PapaNameMap){0};
}
