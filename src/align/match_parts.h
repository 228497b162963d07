/* What the files that match units (match.h) share: the groups prepared for it, slots gathered to dense rows, one model's state in a search.
 *
 * FAMILIES. A group of blocks and the groups of the units inside them. A permutation of blocks carries their units along, so the two don't commute:
 * permutations of one set are applied in the groups' order, units first, then the blocks that hold them, and papa_match_move keeps a set
 * in that form. Units inside two blocks correspond where they lie alike in their blocks. */
#ifndef PAPA_MATCH_PARTS_H
#define PAPA_MATCH_PARTS_H

#include "align/match.h"
#include "base/rng.h"

/* A group as matching sees it: only slots whose tensors count. */
typedef struct PapaMatchGroup {
    int64_t n;
    const PapaSlots **slots;
    int n_slots;
    int64_t width;         /* numbers of one unit */
    bool crossed;          /* a number may belong to two of its units: it stands along two axes of a tensor */
    bool held;             /* blocks whose insides do not correspond: they stay */
    int family;            /* of the blocks, or the units inside them; -1: none */
    int64_t block;         /* units inside blocks: which one; -1: not inside any */
    int kind;              /* units inside blocks: which of the groups inside its block */
    const int64_t *number; /* units inside blocks: by unit, its number among those of its block's kind; equal ones correspond */
    const int64_t *unit;   /* the inverse */
} PapaMatchGroup;

typedef struct PapaMatchFamily {
    int blocks;            /* the group */
    int64_t n;             /* of blocks */
    int n_kinds;
    int *inside;           /* [kind * n + block]: a group */
} PapaMatchFamily;

typedef struct PapaMatchSetup {
    PapaArena arena;
    const PapaGroups *groups;
    bool *counts;          /* by tensor: all models have it, and it is no running statistic */
    PapaMatchGroup *group;
    PapaMatchFamily *families;
    int n_groups, n_families;
    int64_t most_units, most_chunk, most_elements; /* of a group; of a group's gathered rows; of a tensor */
} PapaMatchSetup;

/* Errors: PAPA_ERR_NUMERIC (a number that counts is not finite: names model and tensor), memory. */
PapaStatus papa_match_setup(PapaMatchSetup **out, const PapaGroups *groups, const PapaMatchTensors *models, int n);
void papa_match_setup_free(PapaMatchSetup *setup);

/* Fills setup->families and the groups' places in them. */
PapaStatus papa_match_find_families(PapaMatchSetup *setup);

/* ---------------------------------------------------------------- sets of permutations, one for each group */

PapaStatus papa_match_perms_new(int64_t ***out, const PapaMatchSetup *setup); /* identities; one allocation each */
void papa_match_perms_free(int64_t **perms, int n_groups);
void papa_match_perms_copy(int64_t **to, int64_t *const *from, const PapaMatchSetup *setup);
void papa_match_perms_reset(int64_t **perms, const PapaMatchSetup *setup);

/* perms becomes: perms, then this permutation of one group. scratch: 2 * most_units. */
void papa_match_move(const PapaMatchSetup *setup, int64_t **perms, int group, const int64_t *perm, int64_t *scratch);
/* perms becomes: perms, then all of `then`. */
void papa_match_then(const PapaMatchSetup *setup, int64_t **perms, int64_t *const *then, int64_t *scratch);
/* out, identities at first, becomes what undoes perms. scratch: 3 * most_units. */
void papa_match_undo(const PapaMatchSetup *setup, int64_t **out, int64_t *const *perms, int64_t *scratch);

/* ---------------------------------------------------------------- slots as dense rows
 * The columns of a unit are the elements of its slots, slot after slot, part after part. */

/* to[i * ld + k] = element first + k of unit i, k < n, of one tensor's slots, in `from`; 0 where open is given and is not 1. */
void papa_match_gather(float *to, int64_t ld, const PapaSlots *slots, int64_t n_units, const float *from, const uint8_t *open, int64_t first, int64_t n,
    const PapaDevice *dev);
/* The reverse, with unit perm[i]'s row going to unit i (NULL: its own). */
void papa_match_scatter(float *to, const PapaSlots *slots, int64_t n_units, const float *from, int64_t ld, const int64_t *perm, int64_t first, int64_t n,
    const PapaDevice *dev);
int64_t papa_match_columns(const PapaSlots *slots);
/* Adds delta to all elements of the slots. */
void papa_match_cover(uint8_t *open, const PapaSlots *slots, int64_t n_units, int delta);
/* Whether unit 0 of the slots has an element that is `level`. */
bool papa_match_any_open(const uint8_t *open, const PapaSlots *slots, int level);

#define PAPA_MATCH_CHUNK 4096 /* columns that are gathered at a time: enough to make a matrix product efficient */

/* A walk over a group's columns in chunks that fit the room. */
typedef struct PapaMatchChunk {
    int slot;       /* where it begins */
    int64_t column;
    int64_t n;      /* columns; 0 before the first */
} PapaMatchChunk;
bool papa_match_next_chunk(PapaMatchChunk *chunk, const PapaMatchGroup *group);
void papa_match_fill(float *to, const PapaMatchChunk *chunk, const PapaMatchGroup *group, const float *const *tensors, uint8_t *const *open,
    const PapaDevice *dev);

/* In double. The order of summing is fixed; float32 products are exact in double, so that it gives the same on every machine. */
double papa_match_dot(const float *a, const float *b, int64_t n);

/* ---------------------------------------------------------------- scratch of a call, and what is computed in it */

typedef struct PapaMatchRoom {
    const PapaMatchSetup *setup;
    PapaDevice *dev, one; /* one: the same with one thread */
    float *x, *y;         /* gathered rows, most_chunk */
    float *cost;          /* most_units squared */
    float *tensor[2];     /* most_elements */
    int64_t *column;      /* most_units: an assignment */
    int64_t *scratch;     /* 3 * most_units */
} PapaMatchRoom;

PapaStatus papa_match_room_open(PapaMatchRoom *room, const PapaMatchSetup *setup, PapaDevice *dev);
void papa_match_room_close(PapaMatchRoom *room); /* a zeroed one is fine */

/* c (M, N) = or += a (M, K) times b (K, N), or b (N, K) transposed; dense rows. What comes out doesn't depend on the number of threads. */
PapaStatus papa_match_product(PapaMatchRoom *room, float *c, const float *a, const float *b, int64_t M, int64_t N, int64_t K, bool transpose_b, bool add);

/* room->cost[i][j] = inner product of a's unit i and b's unit j, over what counts. */
PapaStatus papa_match_cost(PapaMatchRoom *room, int group, const float *const *a, const float *const *b, uint8_t *const *open);

/* The sum over the tensors that count of <a, b>. */
double papa_match_total(const PapaMatchSetup *setup, const float *const *a, const float *const *b);

/* ---------------------------------------------------------------- one model on its way */

typedef struct PapaMatchState {
    const PapaMatchSetup *setup;
    PapaMatchRoom *room;
    const PapaMatchOptions *options;
    const float *const *a; /* what it is matched to: may change between sweeps */
    float **moved;         /* by tensor: the model as its permutations move it; NULL for what doesn't count */
    int64_t **perms;
    uint8_t **open;        /* by tensor: how many groups that are not settled yet an element belongs to; NULL until a search needs it */
    bool *settled;         /* by group */
    bool masked;           /* only elements of settled surroundings are looked at */
    int64_t *changed, *matched, now; /* by tensor, when it last changed; by group, when it was last matched; the time */
} PapaMatchState;

PapaStatus papa_match_begin(PapaMatchState *state, const PapaMatchSetup *setup, PapaMatchRoom *room, const PapaMatchOptions *options, PapaMatchTensors b);
void papa_match_end(PapaMatchState *state); /* a zeroed one is fine */
/* Back to the identity. */
void papa_match_restart(PapaMatchState *state, PapaMatchTensors b);
/* Moves units, in tensors and permutations. */
void papa_match_apply(PapaMatchState *state, int group, const int64_t *perm);
/* What is matched to has changed: nothing is known to be best any more. */
void papa_match_forget(PapaMatchState *state);

/* One group, all else as it is. *gained: the permutation that was found is worth more, and taken. */
PapaStatus papa_match_units(PapaMatchState *state, int group, bool *gained);
/* Blocks with what is inside them. */
PapaStatus papa_match_blocks(PapaMatchState *state, int family, bool *gained);
/* Settles groups one after the other, next to what is settled: of one family's insides, or (-1) all. backward: the network's last first. */
PapaStatus papa_match_outward(PapaMatchState *state, int family, bool backward);
/* One sweep over all groups in random order (rng NULL: their own). */
PapaStatus papa_match_sweep(PapaMatchState *state, PapaRng *rng, bool *gained);

/* Whether something has changed since the group was matched. */
bool papa_match_is_stale(const PapaMatchState *state, int group);

bool papa_match_stopped(const PapaMatchOptions *options);
PapaStatus papa_match_check_options(const PapaMatchOptions *options);

/* Progress of a call, in searches. */
typedef struct PapaMatchMeter {
    const PapaMatchOptions *options;
    double began, last;
} PapaMatchMeter;
void papa_match_meter_begin(PapaMatchMeter *meter, const PapaMatchOptions *options);
void papa_match_meter_tick(PapaMatchMeter *meter, int done);

#define PAPA_MATCH_GAIN 1e-12 /* of the size of what is summed: less is rounding */

/* Search number k, from the identity. */
PapaStatus papa_match_search(PapaMatchState *state, PapaMatchTensors b, int k, int *sweeps);
/* All of them; the best one's permutations go to out's, which are there. meter may be NULL. */
PapaStatus papa_match_search_all(PapaMatch *out, PapaMatchState *state, PapaMatchTensors b, PapaMatchMeter *meter);

/* ---------------------------------------------------------------- several models
 * What is maximised is the sum over pairs of models of <model, model>, each as it is moved. */

typedef struct PapaMatchMany {
    PapaMatchSetup *setup;
    PapaMatchRoom room;
    const PapaMatchOptions *options;
    const PapaMatchTensors *models;
    int n;
    PapaMatchState *states; /* by model */
    float **others;         /* by tensor: the sum of the other models */
    int64_t **kept;
    PapaMatch *begun;       /* by model: permutations where the search began */
    PapaMatch *best;        /* by model */
    double objective, before;
} PapaMatchMany;

PapaStatus papa_match_many_begin(PapaMatchMany *many, const PapaGroups *groups, const PapaMatchTensors *models, int n, const PapaMatchOptions *options);
void papa_match_many_end(PapaMatchMany *many); /* a zeroed one is fine */
/* Where search k begins: 0: each matched to the first; 1: as they are given; 2 ..: each matched to another one, while there are any. */
PapaStatus papa_match_many_start(PapaMatchMany *many, int k);
/* Back to where it began. */
void papa_match_many_start_again(PapaMatchMany *many);
/* Each model in turn to the sum of the others, until none gains. */
PapaStatus papa_match_many_ascend(PapaMatchMany *many, int k, int *rounds);
/* Remembers where the models are, if that is the best yet. */
void papa_match_many_keep(PapaMatchMany *many, int k, int rounds);
/* The best, moved along so that the first model is as it was. out: as many as there are models. */
void papa_match_many_deliver(PapaMatchMany *many, PapaMatch *out);

#endif
