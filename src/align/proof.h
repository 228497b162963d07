/* Proof that permuting units changes nothing: the network itself is run in double precision, on random inputs, before and after.
 *
 * Nodes that papa does not understand are cut out: what they make is fed at random, what they read is compared like an output. What touches
 * them is pinned, so this proves as much. */
#ifndef PAPA_PROOF_H
#define PAPA_PROOF_H

#include "align/groups.h"

#define PAPA_PROOF_TOLERANCE 1e-9 /* of the largest output; sums in another order come to some 1e-15 */

typedef struct PapaProofOptions {
    uint64_t seed;
    int threads;                   /* at least 1 */
    const PapaShape *input_shapes; /* as PapaGroupsOptions */
    int n_input_shapes;
    const PapaHooks *hooks;        /* may be NULL. Progress: PAPA_PHASE_PROVE, in groups; the stop flag: PAPA_ERR_STOPPED */
} PapaProofOptions;

/* A model's network, ready to be run in double, and what it gives for inputs drawn from N(0, 1). onnx must outlive it, and so must hooks and their stop
 * flag. Tensors are read as float32, whatever they are in the file. Errors: those of papa_groups_derive, of reading and compiling;
 * PAPA_ERR_NUMERIC where the outputs are not finite; PAPA_ERR_UNSUPPORTED where no output is left behind what is cut out. */
typedef struct PapaProof PapaProof;
PapaStatus papa_proof_open(PapaProof **out, const PapaOnnx *onnx, const PapaProofOptions *options);
void papa_proof_close(PapaProof *proof);

/* The largest difference of an output, relative to the largest element of that output, with other numbers in the tensors than the file's: replace
 * changes one tensor's, given as the file has them, or leaves them. Called for every float tensor that an operator's row gives a role (PapaRole): units
 * have no part in others. NaN counts as infinite. */
typedef PapaStatus papa_proof_replace_fn(void *context, const Onnx__TensorProto *tensor, float *values, int64_t n);
PapaStatus papa_proof_difference(double *out, PapaProof *proof, papa_proof_replace_fn *replace, void *context);

/* Permutes every group at random (none is the identity), each by itself, those of the same name and size (the same units in each of some blocks) together,
 * and then all at once. groups: derived from the same PapaOnnx.
 *
 * A tensor whose elements are all equal is the same however it is permuted (biases of 0, BatchNormalization's statistics in a fresh network): it
 * is drawn anew, about what it was, for both sides of the comparison. errors: by group, the difference as above. Sums in another order are rounded
 * otherwise, and so a group whose error is next to nothing is suspected of having no say in the outputs: its numbers are then
 * changed at random, and where that shows nowhere its error is NaN: nothing is known of it. (Units that are dead for these inputs, say.)
 *
 * Errors: PAPA_ERR_NUMERIC: a group's error is above PAPA_PROOF_TOLERANCE, or that of all at once: names file, group and error (errors are written
 * even so); or there are groups, and the outputs depend on none of them. */
PapaStatus papa_proof_groups(double *errors, PapaProof *proof, const PapaGroups *groups);

#endif
