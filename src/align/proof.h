/* Proof that permuting units changes nothing: the network itself is run in double precision, on random inputs, before and after.
 *
 * Nodes that papa does not understand are cut out: what they make is fed at random, what they read is compared like an output. What touches
 * them is pinned, so this proves as much. */
#ifndef PAPA_PROOF_H
#define PAPA_PROOF_H

#include "align/groups.h"

#define PAPA_PROOF_TOLERANCE 1e-9 /* of the largest output */

typedef struct PapaProofOptions {
    uint64_t seed;
    int threads;                   /* at least 1 */
    const PapaShape *input_shapes; /* as PapaGroupsOptions */
    int n_input_shapes;
    const PapaHooks *hooks;        /* may be NULL. Progress: PAPA_PHASE_PROVE, in groups; the stop flag: PAPA_ERR_STOPPED */
} PapaProofOptions;

/* A model's network, ready to be run in double, and what it gives for the random inputs. onnx must outlive it. Errors: those of reading and
 * compiling; PAPA_ERR_NUMERIC where the outputs are not finite or all the same whatever the weights (then nothing could be proved). */
typedef struct PapaProof PapaProof;
PapaStatus papa_proof_open(PapaProof **out, const PapaOnnx *onnx, const PapaProofOptions *options);
void papa_proof_close(PapaProof *proof);

/* The largest difference of an output, relative to the largest output, with other numbers in the tensors: replace changes one tensor's, given as
 * the file has them, or leaves them. Called for every float tensor that the outputs depend on. NaN counts as infinite. */
typedef PapaStatus papa_proof_replace_fn(void *context, const Onnx__TensorProto *tensor, float *values, int64_t n);
PapaStatus papa_proof_difference(double *out, PapaProof *proof, papa_proof_replace_fn *replace, void *context);

/* Permutes every group at random (none is the identity), each by itself and then all at once. groups: derived from the same file. errors: by group.
 * Errors: PAPA_ERR_NUMERIC: one is above PAPA_PROOF_TOLERANCE: names file, group and error. */
PapaStatus papa_proof_groups(double *errors, PapaProof *proof, const PapaGroups *groups);

#endif
