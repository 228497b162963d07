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
    int restarts;           /* searches, at least 1. The first one begins with what is known: groups next to what is pinned or settled, outward;
                               others sweep in random order from the identity */
    int max_sweeps;         /* at least 1 */
    uint64_t seed;
    PapaDevice *dev;        /* a CPU device: its threads make the cost matrices */
    const PapaHooks *hooks; /* may be NULL. Progress: PAPA_PHASE_ALIGN, in searches. The stop flag ends it with PAPA_ERR_STOPPED */
} PapaMatchOptions;

/* The best of the searches. */
typedef struct PapaMatch {
    int64_t **perms;        /* by group; owned, never NULL */
    double objective;       /* what was maximised, in double */
    double before;          /* the same for the identity; the objective is never less */
    int sweeps, restart;    /* of the search that won, and which one that was */
    int n_groups;
} PapaMatch;
void papa_match_free(PapaMatch *match); /* a zeroed one is fine */

/* Weight matching (Ainsworth et al. 2022, algorithm 1): coordinate ascent on sum over tensors of <a, b permuted>, one linear assignment for each
 * group with all others as they are, until no group gains more than 1e-12 of the objective's scale. Running means and variances are not in it. Blocks
 * are matched by what their units gain when they are matched in turn. Costs come from the float32 matrix product; whether a permutation is taken is
 * decided on its gain in double, so that the objective never falls. */
PapaStatus papa_match_weights(PapaMatch *out, const PapaGroups *groups, PapaMatchTensors a, PapaMatchTensors b, const PapaMatchOptions *options);

/* MergeMany (algorithm 3): in turn, each model to the mean of the others, until the mean moves by less than 1e-12 of its L2 norm. Then all
 * are moved along so that the first model's permutations are the identity. out: n of them. */
PapaStatus papa_match_mean(PapaMatch *out, const PapaGroups *groups, const PapaMatchTensors *models, int n, const PapaMatchOptions *options);

/* Cycle-consistent matching (C2M3, Crisostomi et al. 2024, arXiv 2405.17897): permutations of every model into one universe that maximise the sum
 * over all pairs of models together, by Frank-Wolfe over doubly stochastic matrices with an exact line search, then rounded by one assignment
 * each. Then as above. */
PapaStatus papa_match_cycle(PapaMatch *out, const PapaGroups *groups, const PapaMatchTensors *models, int n, const PapaMatchOptions *options);

/* One assignment for each group from similarities that somebody measured: similarity[g]: (n, n) row-major, the first model's units by the
 * other's; NULL: nothing is known of the group, whose units stay (blocks: as their units say). */
PapaStatus papa_match_similarities(PapaMatch *out, const PapaGroups *groups, const double *const *similarity, const PapaMatchOptions *options);

/* The sum over tensors of <a, b permuted>, and the cosine of all numbers that a group's units have a part in, with b as it is given (n_groups). Both
 * leave running means and variances aside. */
PapaStatus papa_match_objective(double *out, const PapaGroups *groups, PapaMatchTensors a, PapaMatchTensors b, const int64_t *const *perms);
PapaStatus papa_match_cosines(double *out, const PapaGroups *groups, PapaMatchTensors a, PapaMatchTensors b, const int64_t *const *perms);

#endif
