/* Merging models that were trained elsewhere: one file made of many, tensor by tensor, while it is written.
 *
 * Nothing is known of the graph: every float tensor of the first model, in subgraphs, functions and sparse initializers too, is
 * merged with the tensors that the others have for it; all other tensors must be equal. Elements are read from the mapped files in
 * blocks, merged in double and rounded once, to the tensor's own type. No tensor is ever held in memory.
 *
 * Notation: n inputs w_1 .. w_n, in the order given; a base w_0; d_k = w_k - w_0; a_k = weights[k], t, scale, density and decay as in
 * PapaMergeOptions. "Per tensor" means that a tensor is taken as one vector. */
#ifndef PAPA_MERGE_H
#define PAPA_MERGE_H

#include "onnx/onnx.h"

typedef enum PapaMergeMethod {
    /* w = sum_k a_k w_k. Where all weights are 1/n the result is the exact mean, correctly rounded to FLOAT, FLOAT16 and BFLOAT16, within
     * one unit in the last place of DOUBLE (model soups: Wortsman et al. 2022, arXiv 2203.05482). */
    PAPA_MERGE_MEAN,

    /* n = 2: w = (1 - t) w_1 + t w_2. */
    PAPA_MERGE_LERP,

    /* n = 2, per tensor: w = sin((1 - t) o) / sin(o) w_1 + sin(t o) / sin(o) w_2, o = the angle between w_1 and w_2 (Shoemake 1985). As LERP where
     * |cos o| > 0.9995 or a norm is 0. */
    PAPA_MERGE_SLERP,

    /* w = w_0 + scale sum_k a_k d_k (task arithmetic: Ilharco et al. 2022, arXiv 2212.04089). */
    PAPA_MERGE_TASK,

    /* Yadav et al. 2023 (arXiv 2306.01708), per tensor. Trim: of each d_k those elements stay whose size is at least that of the m-th largest,
     * m = density times the number of elements, rounded, at least 1; equal sizes stay together. Elect: s = sign(sum_k a_k d_k) of what
     * stayed. Merge: w = w_0 + scale (sum a_k d_k) / (sum |a_k|) over the k whose a_k d_k has the sign s and is not 0; w_0 where s = 0. */
    PAPA_MERGE_TIES,

    /* Yu et al. 2023 (arXiv 2311.03099): each element of each d_k stays with probability density, multiplied by 1 / density; then as TASK.
     * What stays is a function of seed, k, the tensor's path in the first input, and the element's index. */
    PAPA_MERGE_DARE,

    /* DARE's differences, merged with TIES' election. */
    PAPA_MERGE_DARE_TIES,

    /* Model Stock (Jang et al. 2024, arXiv 2403.19522), n >= 2, per tensor: c = the mean of cos(d_i, d_j) over all pairs, taken as 0 where it is
     * negative or a d is 0; t = n c / (1 + (n - 1) c); w = t (1/n) sum_k w_k + (1 - t) w_0. */
    PAPA_MERGE_STOCK,

    /* n = 1: w = (1 - t) w_0 + t w_1 (WiSE-FT: Wortsman et al. 2021, arXiv 2109.01903). */
    PAPA_MERGE_WISE,

    /* Checkpoints in order: e_1 = w_1, e_k = decay e_{k-1} + (1 - decay) w_k; w = e_n. */
    PAPA_MERGE_EMA,
} PapaMergeMethod;

typedef struct PapaMergeOptions {
    PapaMergeMethod method;       /* PAPA_MERGE_MEAN */
    const double *weights;        /* NULL: MEAN: 1/n each; TASK, TIES, DARE, DARE_TIES: 1 each. n of them; the other methods have none */
    const double *tensor_weights; /* NULL. MEAN: weights for each tensor: [i * n + k], i as in papa_onnx_tensors of the first input */
    bool any_sum;                 /* false: MEAN's weights must sum to 1, up to 1e-6; true: to anything */
    double t;                     /* 0.5; LERP, SLERP, WISE; any finite number */
    double scale;                 /* 1 */
    double density;               /* 0: TIES: 0.2, DARE and DARE_TIES: 0.1; else above 0 and at most 1 */
    double decay;                 /* 0.9; from 0 to below 1 */
    uint64_t seed;                /* 1; DARE, DARE_TIES */
    const volatile sig_atomic_t *stop; /* NULL; non-zero: writing the edit ends with PAPA_ERR_STOPPED, and leaves nothing behind */
    int threads;                  /* 0: the cores at hand, PAPA_MERGE_THREADS at most. The result does not depend on it */
} PapaMergeOptions;

#define PAPA_MERGE_THREADS 8 /* more than memory can feed */

void papa_merge_defaults(PapaMergeOptions *out);

/* Writes elements [first, first + n) to `to`, in the order that the first input's tensor has. Called by several threads at once. */
typedef PapaStatus papa_merge_read_fn(void *context, double *to, int64_t first, int64_t n);

/* What a model has for one of the first input's tensors. */
typedef struct PapaMergeTensor {
    const Onnx__TensorProto *tensor; /* of that model. NULL: it has none, and the tensor stays as the first input has it; or read has all there is to say */
    bool transposed;                 /* it is stored as the transpose of the first input's; both are matrices */
    papa_merge_read_fn *read;        /* for float elements that stand in another order or are to be changed; else NULL: tensor's own. The
                                        shapes may then differ, but not the number of elements. transposed is not looked at */
    void *context;
} PapaMergeTensor;

typedef struct PapaMergeModel {
    const PapaOnnx *onnx;
    const PapaMergeTensor *tensors; /* by tensor of the first input, as papa_onnx_tensors lists them. NULL: those of equal paths, which both
                                       models must have without exception */
} PapaMergeModel;

/* Makes edit, of inputs[0].onnx, produce the merge when it is written. Where the result is the first input itself (a soup of one) nothing is
 * edited. inputs[0].tensors must be NULL. base: NULL for methods without one. The models must outlive the merge and the merge the edit's writing;
 * inputs, base and options are copied, but for contexts and the lists of tensors.
 *
 * Errors, all found before edit is changed: PAPA_ERR_ARGUMENT (options; the wrong number of inputs, base missing or not wanted);
 * PAPA_ERR_MISMATCH: a tensor that only one model has, types or shapes that differ, tensors of integers, strings or booleans that differ
 * (names tensor, files and first element); PAPA_ERR_UNSUPPORTED: quantised weights that differ (integers and floats of 8 bits or fewer). After
 * PAPA_ERR_MEMORY edit must not be written. */
typedef struct PapaMerge PapaMerge;
PapaStatus papa_merge_new(PapaMerge **out, PapaEdit *edit, const PapaMergeModel *inputs, int n, const PapaMergeModel *base,
    const PapaMergeOptions *options);
void papa_merge_free(PapaMerge *merge);

#endif
