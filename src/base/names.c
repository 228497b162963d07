#include "base/names.h"

#include <stdint.h>
#include <string.h>

struct PapaNamesSlot {
    const char *key;
    void *value;
};

/* FNV-1a. */
static uint64_t hash(const char *key)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (; *key; key++)
        h = (h ^ (unsigned char)*key) * 0x100000001b3u;
    return h ^ h >> 32;
}

static struct PapaNamesSlot *find(const PapaNames *names, const char *key)
{
    for (size_t i = hash(key) & (names->capacity - 1);; i = (i + 1) & (names->capacity - 1))
        if (!names->slots[i].key || strcmp(names->slots[i].key, key) == 0)
            return &names->slots[i];
}

void *papa_names_get(const PapaNames *names, const char *key)
{
    return names->capacity ? find(names, key)->value : NULL;
}

static PapaStatus grow(PapaNames *names)
{
    PapaNames larger = {.arena = names->arena, .capacity = names->capacity ? 2 * names->capacity : 64, .n = names->n};
    larger.slots = PAPA_NEW_ARRAY(names->arena, struct PapaNamesSlot, larger.capacity);
    if (!larger.slots)
        return PAPA_ERR_MEMORY;
    for (size_t i = 0; i < names->capacity; i++)
        if (names->slots[i].key)
            *find(&larger, names->slots[i].key) = names->slots[i];
    *names = larger;
    return PAPA_OK;
}

PapaStatus papa_names_put(PapaNames *names, const char *key, void *value)
{
    if (2 * (names->n + 1) > names->capacity)
        PAPA_TRY(grow(names));
    struct PapaNamesSlot *slot = find(names, key);
    if (!slot->key)
        names->n++;
    *slot = (struct PapaNamesSlot){key, value};
    return PAPA_OK;
}
