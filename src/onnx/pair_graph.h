/* Inside of the pairing: a model in canonical form, as one graph of nodes and values, and the passes over it.
 *
 * Subgraphs and functions have no place of their own: their nodes are nodes like others; what a subgraph yields is an input of the node that has
 * it, what a function yields is read by a node that stands for the function, whose output every call reads. */
#ifndef PAPA_PAIR_GRAPH_H
#define PAPA_PAIR_GRAPH_H

#include "onnx/onnx_internal.h"
#include "onnx/pair.h"

typedef struct PapaPairAttr {
    const char *name, *text;
} PapaPairAttr;

typedef struct PapaPairInput {
    int32_t value;
    int32_t slot; /* the same for all inputs of a commutative operator; from PAPA_PAIR_SLOTS / 2 on what subgraphs yield; the last: a function */
} PapaPairInput;

enum { PAPA_PAIR_SLOTS = 1 << 24 };

typedef struct PapaPairNode {
    const Onnx__NodeProto *proto; /* NULL: the outputs of the graph or of a function */
    int32_t order;                /* its place in the file */
    const char *type;             /* the operator in canonical form */
    PapaPairAttr *attrs;          /* by name, without defaults */
    PapaPairInput *inputs;
    int32_t n_attrs, n_inputs;
    int32_t label;                /* operator and attributes; equal texts have equal numbers, in both graphs */
    int32_t first_output;         /* a value, -1: none */
} PapaPairNode;

typedef struct PapaPairUse {
    int32_t node, slot;
} PapaPairUse;

/* Inputs and outputs of graphs, what nodes yield, and tensors as nodes read them. */
typedef struct PapaPairValue {
    const char *name;
    int32_t label;                 /* what it is: type, shape, contents; for tensors as read */
    int32_t producer, slot;        /* node and output, -1: none */
    int32_t next_output;           /* of the producer */
    int32_t tensor;                /* -1: none */
    bool transposed;               /* read as the tensor's transpose */
    int32_t twin;                  /* the same tensor read the other way round, -1: none is */
    int32_t flipped;               /* the transpose of a computed matrix, which a node of its own makes; -1: nobody reads it */
    int32_t first_use, n_uses;     /* in graph.uses */
} PapaPairValue;

typedef struct PapaPairTensor {
    PapaStoredTensor stored;
    const Onnx__AttributeProto *numbers; /* value_float, value_ints, ... of a Constant */
    int32_t face[2];                     /* values: as stored, transposed; -1 */
    bool is_small;                       /* repeated and shared by exporters as they please: each use is a value of its own */
} PapaPairTensor;

/* Texts with numbers, shared by both graphs. */
typedef struct PapaPairLabels {
    PapaArena arena;
    PapaNameMap numbers;
    const char **texts;
    size_t n, capacity;
} PapaPairLabels;

PapaStatus papa_pair_label(PapaPairLabels *labels, const char *text, int32_t *number);
void papa_pair_labels_free(PapaPairLabels *labels);

typedef struct PapaPairGraph {
    const PapaOnnx *onnx;
    PapaArena arena;
    PapaPairTensor *tensors; /* all, in the order of the file */
    int32_t n_tensors;
    PapaPairNode *nodes;     /* those that the outputs depend on, producers first */
    int32_t n_nodes;
    PapaPairValue *values;
    int32_t n_values;
    PapaPairUse *uses;
} PapaPairGraph;

/* Graph inputs and outputs that have one another for counterparts: by name, else by position. */
typedef struct PapaPairEnds {
    const Onnx__ValueInfoProto **inputs, **outputs; /* in a's order */
    size_t n_inputs, n_outputs;
} PapaPairEnds;

/* Fills a zeroed graph from its model. split: every use of a tensor is a value of its own. Free with papa_pair_graph_free, on failure
 * too. */
PapaStatus papa_pair_graph_make(PapaPairGraph *graph, PapaPairLabels *labels, const PapaOnnx *onnx, const PapaPairEnds *ends, bool split);
void papa_pair_graph_free(PapaPairGraph *graph);

/* ---- labels (pair_label.c) */

enum { PAPA_PAIR_ATTRS_MORE = 2 }; /* room for attributes that are set afterwards */

/* A node's attributes without defaults, sorted by name. */
PapaStatus papa_pair_attrs(PapaArena *arena, const PapaOnnx *onnx, const Onnx__NodeProto *node, const char *type, PapaPairAttr **out, int32_t *n);
void papa_pair_set_attr(PapaPairAttr *attrs, int32_t *n, const char *name, const char *text);

/* What a tensor is, as read: "FLOAT 8x3x3x3", "INT64 2 {1, -1}". */
PapaStatus papa_pair_tensor_text(PapaArena *arena, const PapaOnnx *onnx, const PapaPairTensor *tensor, bool transposed, const char **out);
bool papa_pair_is_small(const PapaPairTensor *tensor);
/* The numbers of an integer tensor of at most `most`; *n is -1 where it is none. */
PapaStatus papa_pair_ints(const PapaOnnx *onnx, const PapaPairTensor *tensor, int64_t *to, int most, int *n);

/* ---- colours (pair_colour.c) */

/* Vertices of a graph are its nodes, then its values. */
static inline int32_t papa_pair_vertices(const PapaPairGraph *graph)
{
    return graph->n_nodes + graph->n_values;
}

void papa_pair_colour_labels(const PapaPairGraph *graph, uint64_t *colours);
void papa_pair_colour_forward(const PapaPairGraph *graph, uint64_t *colours);
void papa_pair_colour_backward(const PapaPairGraph *graph, uint64_t *colours);
uint64_t papa_pair_mix(uint64_t a, uint64_t b);

/* ---- matching (pair_match.c) */

/* Which vertex of b is which of a. */
typedef struct PapaPairMatch {
    const PapaPairGraph *a, *b;
    int32_t *to; /* vertices of a -> vertices of b; free it */
} PapaPairMatch;

/* *found: there is one, an isomorphism. Errors: PAPA_ERR_UNSUPPORTED (given up), PAPA_ERR_MEMORY. to is to be freed in any case. */
PapaStatus papa_pair_match(PapaPairMatch *out, const PapaPairGraph *a, const PapaPairGraph *b, bool *found);

/* The value of b that is a's; -1 for -1. */
int32_t papa_pair_image(const PapaPairMatch *match, int32_t value);

/* ---- differences (pair_diff.c) */

/* Says where the graphs differ first: PAPA_ERR_MISMATCH, or PAPA_ERR_MEMORY. */
PapaStatus papa_pair_explain(const PapaPairGraph *a, const PapaPairGraph *b, const PapaPairLabels *labels);


#endif
