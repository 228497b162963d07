/* A map from strings to integers. Keys are borrowed: they must outlive the map. A zeroed map is empty. */
#ifndef PAPA_NAME_MAP_H
#define PAPA_NAME_MAP_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct PapaNameMap {
    struct PapaNameMapSlot {
        const char *key; /* NULL: free */
        int64_t value;
    } *slots;
    size_t count, capacity; /* capacity is 0 or a power of two */
} PapaNameMap;

/* The value of key, which may be changed in place, or NULL. Valid until the next add. */
int64_t *papa_name_map_find(const PapaNameMap *map, const char *key);

/* Adds key with this value, unless it is there already; *added (may be NULL) says which. */
PapaStatus papa_name_map_add(PapaNameMap *map, const char *key, int64_t value, bool *added);

void papa_name_map_free(PapaNameMap *map);

#endif
