/* An alignment under way: what the parts of papa_align share. align_job.c derives, matches and proves, align_activations.c measures, align_write.c makes
 * files, align_report.c tells. */
#ifndef PAPA_ALIGNMENT_H
#define PAPA_ALIGNMENT_H

#include "align/match.h"
#include "jobs/align_job.h"
#include "jobs/judge.h"

struct PapaAlignment {
    PapaArena arena;
    PapaIngredients *ingredients;
    const PapaAlignOptions *options; /* checked; valid while papa_alignment_run is under way */
    const PapaHooks *hooks;          /* may be NULL */
    int threads;
    int n;                      /* models, the base too */
    PapaGroups *groups;         /* of the first model */
    const float **numbers;      /* [k * n_tensors + tensor]: model k's, of the groups' tensors; NULL: none of any unit. Gone when all are matched */
    PapaMatch *matches;         /* by model; the first one's has no perms */
    double *proofs;             /* by group */
    double *results;            /* by model: the proof of its permuted self */
    double *before, *after;     /* [k * n_groups + group]: cosines with the first model's */
    double seconds_proof, seconds_matching;
};

/* Steps of papa_align_ingredients, one by one. The first one makes *out, with groups and no permutations. */
PapaStatus papa_alignment_begin(PapaAlignment **out, PapaIngredients *ingredients, const PapaAlignOptions *options, const PapaJudgeOptions *judge,
    const PapaHooks *hooks);
PapaStatus papa_alignment_prove_groups(PapaAlignment *alignment);
/* judge: open, with statistics needed, for PAPA_ALIGN_ACTIVATIONS; else NULL. */
PapaStatus papa_alignment_match(PapaAlignment *alignment, PapaJudge *judge);
/* From here on the ingredients are read aligned. */
PapaStatus papa_alignment_apply(PapaAlignment *alignment);
PapaStatus papa_alignment_prove_results(PapaAlignment *alignment);

/* Reads model k's numbers of the groups' tensors: all of alignment->numbers, once. */
PapaStatus papa_alignment_read(PapaAlignment *alignment);
PapaMatchTensors papa_alignment_numbers(const PapaAlignment *alignment, int k);
/* Permutations that move nothing: a NULL for each group. */
const int64_t *const *papa_alignment_identity(PapaAlignment *alignment);
const int64_t *const *papa_alignment_perms(const PapaAlignment *alignment, int k);

/* Correlations of the activations of models 0 and k, which the two stores hold, on the judge's training images: for each group the mean over the values in
 * which its units stand (PapaGroups.values), as papa_match_similarities wants them. NULL where there is no such value, with a remark. Owned by the caller,
 * each of them, after a failure too. */
PapaStatus papa_alignment_correlate(double **similarity, const PapaAlignment *alignment, PapaJudge *judge, float *const stores[2], int k);

/* Writes every model into the folder under its own name, all of them or none. *paths: by model, in the arena. */
PapaStatus papa_alignment_write(const char ***paths, PapaArena *arena, const PapaAlignment *alignment, const char *folder);
/* Whether that can be done, before any work: names that clash, files that would overwrite an input. */
PapaStatus papa_alignment_check_folder(const PapaIngredients *ingredients, const char *folder);

PapaStatus papa_alignment_check_options(const PapaAlignOptions *options, const PapaJudgeOptions *judge);
PapaStatus papa_alignment_check_stop(const PapaHooks *hooks, const char *what);

#endif
