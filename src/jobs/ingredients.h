/* The models of one merge: paired with the first one, and read as if they were all written like it.
 *
 * What a merged file says about itself, besides papa.normalization.* and the like, which it has from the first model (train/metadata.h):
 *   papa.kind          soup, aligned or ensemble
 *   papa.method        uniform, weights, lerp, slerp, task, ties, dare, dare-ties, stock, wise-ft, ema, greedy, pruned, learned, learned-tensors;
 *                      of ensembles uniform or weights, and papa.ensemble: logits or probabilities
 *   papa.ingredients   a JSON array in the order given: {"file", "xxh3" (of the file's bytes, XXH3-128 as 32 hex digits; external data in order
 *                      of name behind it), "weight", "role": "base" for the base, "val.accuracy", "val.loss"}; file: the name without its folder
 *   papa.options       what else the method was told, as name=value, comma-separated (weights=A:B:C where they are no weights in the result)
 *   papa.aligned       first, mean or cycle: the ingredients were aligned first
 *   papa.repaired      both, rescale, reshift; papa.recalibrated  true; papa.score.*  as in train/metadata.h
 * Other papa.* entries of the first model that no longer hold are taken away. */
#ifndef PAPA_INGREDIENTS_H
#define PAPA_INGREDIENTS_H

#include "align/groups.h"
#include "model/model.h"
#include "onnx/pair.h"
#include "soup/merge.h"
#include "train/metadata.h"

typedef struct PapaIngredients PapaIngredients;

/* Pairs all with models[0]. base: NULL, or the last one of those below, index n. Borrows the models, which must outlive it. Errors: PAPA_ERR_MISMATCH: files
 * that don't pair, one given twice (by inode; a base may not be an ingredient either). */
PapaStatus papa_ingredients_open(PapaIngredients **out, const PapaModel *const *models, int n, const PapaModel *base);
/* Models that may be of different networks: for what asks neither for tensors nor for edits. */
PapaStatus papa_ingredients_open_unpaired(PapaIngredients **out, const PapaModel *const *models, int n);
void papa_ingredients_close(PapaIngredients *ingredients);

int papa_ingredients_count(const PapaIngredients *ingredients); /* n, without the base */
bool papa_ingredients_has_base(const PapaIngredients *ingredients);
const PapaModel *papa_ingredients_model(const PapaIngredients *ingredients, int k); /* k = n: the base */

/* PAPA_ERR_MISMATCH where path is one of the inputs or their external data (by inode). */
PapaStatus papa_ingredients_check_output(const PapaIngredients *ingredients, const char *path);

/* Model k's numbers for a float tensor of the first model: in the elements' order of the first model's, aligned if papa_ingredients_align was called for k.
 * Errors: PAPA_ERR_MISMATCH: it has none, or of another shape. May be called by several threads at once. */
PapaStatus papa_ingredients_read(const PapaIngredients *ingredients, int k, const Onnx__TensorProto *tensor, float *to, int64_t n);

/* Model k as a store of `table`, which is a PapaModel on the first model's file with a selection (papa_model_select). */
PapaStatus papa_ingredients_store(const PapaIngredients *ingredients, int k, const PapaModel *table, float *store);

/* From now on model k counts as permuted (perms: by group of groups, which was derived from the first model's file; NULL entries: as they are). Both are
 * borrowed. Reading permutes one tensor at a time. Errors: PAPA_ERR_UNSUPPORTED: model k stores one tensor for several of the first model's that
 * would have to become different; names them. */
PapaStatus papa_ingredients_align(PapaIngredients *ingredients, int k, const PapaGroups *groups, const int64_t *const *perms);

/* For papa_merge_new. Valid while the ingredients are open. */
const PapaMergeModel *papa_ingredients_merge_models(const PapaIngredients *ingredients); /* n, and the base behind them */

/* An edit of model k's own file that writes it permuted, as papa_ingredients_align said, bit for bit: in its own names, types and order of
 * storage. The edit reads through the ingredients, which must outlive it. */
PapaStatus papa_ingredients_edit_aligned(PapaEdit **out, const PapaIngredients *ingredients, int k);

/* For papa_proof_difference on model k's own file: its tensors as that edit would write them. context: a PapaIngredientView. */
typedef struct PapaIngredientView {
    const PapaIngredients *ingredients;
    int k;
} PapaIngredientView;
PapaStatus papa_ingredients_replace(void *view, const Onnx__TensorProto *tensor, float *values, int64_t n);

/* Sets papa.kind, papa.method and papa.ingredients, and takes stale papa.* entries away: in a list to be freed by the caller, or in an edit. weights,
 * val: n (+ 1 with a base), may be NULL; a NaN weight is left out, as is a val that is NaN. Hashes the files. */
PapaStatus papa_ingredients_metadata(PapaMetadata *out, const PapaIngredients *ingredients, const char *kind, const char *method, const double *weights,
    const PapaScore *val);
PapaStatus papa_ingredients_describe(const PapaIngredients *ingredients, PapaEdit *edit, const char *kind, const char *method, const double *weights,
    const PapaScore *val);

#endif
