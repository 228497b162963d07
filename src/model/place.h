/* Addresses for blocks of memory that live for a while each. */
#ifndef PAPA_PLACE_H
#define PAPA_PLACE_H

#include <stdint.h>

typedef struct PapaBlock {
    int64_t bytes, offset;
    int first, last; /* steps at which it is in use, inclusive */
    int64_t *result; /* the offset goes there too; may be NULL */
} PapaBlock;

/* Sets the offsets so that no two blocks that live at one step overlap; returns where the last one ends. Reorders the array; scratch has
 * room for n blocks too. Offsets are sums of sizes, and so have their alignment. O(n^2). */
int64_t papa_place_blocks(PapaBlock **blocks, int n, PapaBlock **scratch);

/* One behind the other, in the order given, with so many unused bytes behind each. */
int64_t papa_place_apart(PapaBlock **blocks, int n, int64_t gap);

#endif
