/* Aligning the ingredients of a merge, as papa_align does it, without files or scores. */
#ifndef PAPA_ALIGN_JOB_H
#define PAPA_ALIGN_JOB_H

#include "jobs/ingredients.h"

/* The groups of the first model and the permutations of the others. */
typedef struct PapaAlignment PapaAlignment;

/* Derives groups from the first model, matches all ingredients (the base too) by options' method, to, restarts, max_sweeps and seed, proves every
 * group and every result, and calls papa_ingredients_align for each but the first. judge: for PAPA_ALIGN_ACTIVATIONS, and its device. The
 * alignment is borrowed by the ingredients: free it when they are read no more. hooks may be NULL. Errors: as papa_align's. */
PapaStatus papa_align_ingredients(PapaAlignment **out, PapaIngredients *ingredients, const PapaAlignOptions *options, const PapaJudgeOptions *judge,
    const PapaHooks *hooks);
void papa_alignment_free(PapaAlignment *alignment);

#endif
