/* A map from strings to pointers: names of values, tensors, nodes. Keys are not copied and must outlive the map. */
#ifndef PAPA_NAMES_H
#define PAPA_NAMES_H

#include "base/arena.h"

typedef struct PapaNames {
    PapaArena *arena; /* where the table grows; set before use */
    struct PapaNamesSlot *slots;
    size_t n, capacity;
} PapaNames;

/* The value of key, or NULL. */
void *papa_names_get(const PapaNames *names, const char *key);

/* Sets key to value (not NULL), replacing an earlier one. Fails only for memory. */
PapaStatus papa_names_put(PapaNames *names, const char *key, void *value);

#endif
