/* Remarks made while a run is being opened are told once it is known to start, so that an error stands alone. */
#ifndef PAPA_DEFERRED_H
#define PAPA_DEFERRED_H

#include "base/arena.h"

typedef struct PapaDeferredLine PapaDeferredLine;

typedef struct PapaDeferred {
    PapaHooks hooks;     /* to hand on in place of the caller's */
    const PapaHooks *to; /* the caller's; may be NULL */
    PapaArena arena;
    PapaDeferredLine *first, **last;
    bool released;
} PapaDeferred;

/* deferred must not move afterwards: its hooks point to it. */
void papa_deferred_begin(PapaDeferred *deferred, const PapaHooks *to);
void papa_deferred_release(PapaDeferred *deferred); /* tells what was held back; from now on remarks go straight through */
void papa_deferred_free(PapaDeferred *deferred);    /* what is held back still is dropped */

#endif
