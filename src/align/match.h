/* Matching units: which unit of one model is which of another, for each group (groups.h), as permutations.
 *
 * Numbers of a model are given tensor by tensor, in the order of the groups' table, each in the elements' order of the file that the groups were
 * derived from. Permutations are for papa_groups_permute: applied to the other model they bring unit perm[i] to where the first
 * one has its unit i. This part knows no files and no networks. */
#ifndef PAPA_MATCH_H
#define PAPA_MATCH_H

#include "align/groups.h"
#include "device/device.h"

/* By tensor of the groups' table; NULL for one that is not looked at. */
typedef const float *const *PapaMatchTensors;

typedef struct PapaMatchOptions {
    int restarts;           /* searches, at least 1. The first goes outward from what the network's front pins, the second from its end: each
                               group is matched by those of its numbers whose other units are settled, then sweeps follow. The others
                               sweep from the identity. All sweeps are in random order */
    int max_sweeps;         /* of a search, at least 1 */
    uint64_t seed;
    PapaDevice *dev;        /* a CPU device: its threads make the cost matrices. What comes out doesn't depend on their number */
    const PapaHooks *hooks; /* may be NULL. Progress: PAPA_PHASE_ALIGN, in searches. The stop flag ends it with PAPA_ERR_STOPPED */
} PapaMatchOptions;

/* The best of the searches, the earliest where several are equal. */
typedef struct PapaMatch {
    int64_t **perms;        /* by group; owned, never NULL. Blocks come behind the units inside them, as in papa_groups_permute */
    double objective;       /* what was maximised, in double */
    double before;          /* the same for the identity; the objective is never less */
    int sweeps, restart;    /* of the search that won, and which one that was */
    int n_groups;
} PapaMatch;
void papa_match_free(PapaMatch *match); /* a zeroed one is fine */

/* All of them: PAPA_ERR_ARGUMENT (options), PAPA_ERR_NUMERIC (a number is not finite: names the tensor; costs overflow: names the group),
 * PAPA_ERR_STOPPED, memory. A call that fails leaves nothing to free.
 *
 * Weight matching (Ainsworth et al. 2022, algorithm 1): coordinate ascent on sum over tensors of <a, b permuted>, one linear assignment for each
 * group with all others as they are, until no group gains more than 1e-12 of the product of the norms of its own numbers. Running means and
 * variances are not in it. A block is worth what it comes to when the units inside are matched in turn. Costs come from the float32 matrix product;
 * whether a permutation is taken is decided on its gain in double, so that the objective never falls. */
PapaStatus papa_match_weights(PapaMatch *out, const PapaGroups *groups, PapaMatchTensors a, PapaMatchTensors b, const PapaMatchOptions *options);

/* Several models: what is maximised is the sum over pairs of models of <one, the other>, each as its permutations move it; objective, before,
 * sweeps (rounds over the models) and restart are the same in all of out, which has room for n. The first model's permutations are the
 * identity. Never worse than each matched to the first by papa_match_weights with these options: that is where the first search begins. The
 * second begins where the models are, the others with each matched to another one of them.
 *
 * MergeMany (algorithm 3): in turn, each model to the sum of the others, until none moves. */
PapaStatus papa_match_mean(PapaMatch *out, const PapaGroups *groups, const PapaMatchTensors *models, int n, const PapaMatchOptions *options);

/* Cycle-consistent matching (C2M3, Crisostomi et al. 2024, arXiv 2405.17897): permutations of every model into one universe, all at once, by
 * Frank-Wolfe over doubly stochastic matrices with an exact line search, until a step gains less than 1e-5 of the product of the norms, 50
 * steps at most; then rounded by one assignment each, and MergeMany goes on from there. Blocks that hold units are rigid until then. Takes twice the
 * square of each group's size in floats, for each model. */
PapaStatus papa_match_cycle(PapaMatch *out, const PapaGroups *groups, const PapaMatchTensors *models, int n, const PapaMatchOptions *options);

/* One assignment for each group from similarities that somebody measured. similarity[g]: (n, n) row-major, the first model's units by the other's; NULL:
 * nothing is known of the group, whose units stay. Of units inside one of N blocks: (n, N n): by those of the counterpart in each of the
 * other model's blocks in turn. Such blocks are worth what their units come to, and what similarity has for themselves. */
PapaStatus papa_match_similarities(PapaMatch *out, const PapaGroups *groups, const double *const *similarity, const PapaMatchOptions *options);

/* Where groups of units inside blocks stand. */
typedef struct PapaMatchPlace {
    int blocks;             /* the group of blocks; -1: not inside any */
    int64_t block;          /* which of them */
    int kind;               /* groups inside the several blocks that have the same kind are counterparts */
} PapaMatchPlace;
PapaStatus papa_match_places(PapaMatchPlace *out, const PapaGroups *groups); /* n_groups */

/* The sum over tensors of <a, b permuted>, and, by group, the cosine of all numbers that its units have a part in (0 where there are none), with b
 * permuted. perms: one for each group, any of them NULL. Both leave running means and variances aside. */
PapaStatus papa_match_objective(double *out, const PapaGroups *groups, PapaMatchTensors a, PapaMatchTensors b, const int64_t *const *perms);
PapaStatus papa_match_cosines(double *out, const PapaGroups *groups, PapaMatchTensors a, PapaMatchTensors b, const int64_t *const *perms);

#endif
