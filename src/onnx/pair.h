/* Pairing two files of one network: which tensor of the one is which tensor of the other.
 *
 * Names need not agree, nor the order of nodes, nor how constants are stored (initializer or Constant node, shared or repeated). These forms
 * count as the same: Identity, Dropout, Concat and Sum of one input as nothing at all; Gemm with alpha = beta = 1 and no transA as MatMul and
 * Add; transB, or a Transpose of a stored matrix, as the matrix stored the other way round; ReduceMean over the last two axes as
 * GlobalAveragePool; Reshape to two dimensions as Flatten; an attribute at its default as none; inputs of Add, Mul and other commutative
 * operators in any order. Apart from these, operators are only names. Subgraphs and the bodies of functions are part of the graph. What no output
 * of the model depends on is left aside.
 *
 * The graphs are matched as graphs: colour refinement from labels (operator, attributes, shapes and types of tensors, contents of small
 * integer tensors), then individualisation of what is left tied, then a check of the result edge by edge. Interchangeable branches
 * are paired by equal names, then in the order of the files. */
#ifndef PAPA_PAIR_H
#define PAPA_PAIR_H

#include "onnx/onnx.h"

/* A tensor as its file stores it. */
typedef struct PapaStoredTensor {
    const char *name;                      /* the initializer's; a Constant's output; NULL: there is none */
    const Onnx__TensorProto *tensor;       /* NULL: sparse, or numbers of a Constant without a TensorProto (value_float, value_ints ...) */
    const Onnx__SparseTensorProto *sparse; /* a sparse one */
    const Onnx__NodeProto *constant;       /* the Constant node; NULL: an initializer */
} PapaStoredTensor;

typedef struct PapaTensorPair {
    PapaStoredTensor a, b;
    bool transposed; /* b is stored as the transpose of a; both are of rank 2 */
} PapaTensorPair;

typedef struct PapaPairing PapaPairing;

/* Pairs b with a. Both must outlive the pairing. Errors: PAPA_ERR_MISMATCH: not the same network; names the first node or tensor that differs
 * in each file, and how; PAPA_ERR_FORMAT: a cycle, a value that nothing defines or two nodes do (names file and node); PAPA_ERR_UNSUPPORTED: so
 * symmetric that the search was given up; PAPA_ERR_MEMORY. */
PapaStatus papa_pair_open(PapaPairing **out, const PapaOnnx *a, const PapaOnnx *b);
void papa_pair_close(PapaPairing *pairing);

/* One entry for each tensor of a, *n in all, in the order of the file: a graph's initializers, its sparse ones, its nodes' (subgraphs
 * included); then the functions'. Several may have one b, where b stores equal tensors once. Where a does, b's tensors
 * are bit for bit the same and the first stands for all. b.name is NULL where a's tensor has no counterpart and needs none: no output
 * depends on it (or only a Dropout, a shape of Flatten as above), and b has no tensor of its name, type and shape. */
const PapaTensorPair *papa_pair_tensors(const PapaPairing *pairing, size_t *n);

/* The entry of a TensorProto of a; NULL: it is not an initializer's or a Constant's. */
const PapaTensorPair *papa_pair_find(const PapaPairing *pairing, const Onnx__TensorProto *tensor);

#endif
