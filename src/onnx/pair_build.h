/* How a graph comes into canonical form: what the files that build it share.
 *
 * First every scope (the graph, subgraphs, functions' bodies) is entered: which name means which input, tensor or node's output. A node is
 * then a unit with dependencies, by name; a walk from the outputs along them visits what is alive, dependencies first, and each
 * unit puts its canonical nodes into the graph, or stands for another value where it does nothing (Identity). */
#ifndef PAPA_PAIR_BUILD_H
#define PAPA_PAIR_BUILD_H

#include "onnx/pair_graph.h"

#include <string.h>

typedef enum PapaPairDefinitionKind { PAPA_DEFINES_INPUT, PAPA_DEFINES_TENSOR, PAPA_DEFINES_OUTPUT } PapaPairDefinitionKind;

/* What a name means. */
typedef struct PapaPairDefinition {
    PapaPairDefinitionKind kind;
    int32_t index;    /* of the value (-1: not read yet), tensor or unit */
    int32_t position; /* among the unit's outputs, or the inputs of an inner graph */
} PapaPairDefinition;

typedef struct PapaPairScope {
    int32_t outer;              /* -1: none */
    PapaNameMap names;          /* -> definitions */
    size_t first_input, n_inputs; /* definitions of an inner graph's inputs */
    char *const *output_names;  /* what the scope yields: of a function */
    Onnx__ValueInfoProto *const *outputs; /* or of a graph */
    size_t n_outputs;
} PapaPairScope;

/* What a name stands for in the canonical graph. */
typedef struct PapaPairReference {
    int32_t value;   /* -1: a tensor */
    int32_t tensor;
    bool transposed; /* the matrix is read so */
} PapaPairReference;

typedef enum PapaPairUnitState { PAPA_UNIT_NEW, PAPA_UNIT_ON_THE_WAY, PAPA_UNIT_DONE } PapaPairUnitState;

typedef struct PapaPairUnit {
    const Onnx__NodeProto *proto; /* NULL: the outputs of a scope */
    const Onnx__FunctionProto *body; /* of a function's outputs */
    int32_t scope;                /* where it stands; of outputs: whose they are */
    int32_t first_child, n_children; /* scopes of its subgraphs */
    int32_t function;             /* the unit of the function that it calls, -1: none */
    PapaPairUnitState state;
    size_t next;                  /* dependency to look at */
    bool is_nothing;              /* its first input is its output */
    int32_t node;                 /* in the graph, -1: an alias */
    PapaPairReference alias;
} PapaPairUnit;

typedef struct PapaPairBuilder {
    PapaPairGraph *graph;
    PapaPairLabels *labels;
    const PapaOnnx *onnx;
    bool split;
    PapaPairScope *scopes;
    size_t n_scopes, scopes_capacity;
    PapaPairUnit *units;
    size_t n_units, units_capacity;
    PapaPairDefinition *definitions;
    size_t n_definitions, definitions_capacity;
    int32_t *functions;         /* units of the model's functions */
    PapaNameMap read;           /* names that some node or graph reads */
    size_t tensors_capacity, nodes_capacity, values_capacity;
} PapaPairBuilder;

/* ---- scopes and values (pair_scope.c) */

/* Enters the main graph and all functions, with all that is inside them. */
PapaStatus papa_pair_enter(PapaPairBuilder *b, const PapaPairEnds *ends);

PapaStatus papa_pair_add_unit(PapaPairBuilder *b, PapaPairUnit unit, int32_t *index);
PapaStatus papa_pair_add_value(PapaPairBuilder *b, PapaPairValue value, const char *label, int32_t *index);
PapaStatus papa_pair_add_source(PapaPairBuilder *b, const char *name, const char *label, int32_t *index); /* a value that no node makes */

/* NULL: nothing defines the name in this scope or around it. */
PapaPairDefinition *papa_pair_find_definition(const PapaPairBuilder *b, int32_t scope, const char *name);
PapaStatus papa_pair_fail_undefined(const PapaPairUnit *unit, const char *name);
const char *papa_pair_output_name(const PapaPairScope *scope, size_t k);

/* Room for one more in a list, which is given by its address. */
PapaStatus papa_pair_reserve(void *list, size_t n, size_t *capacity, size_t size);

/* ---- canonical nodes (pair_form.c) */

/* Puts what a unit is into the graph. All that it depends on is there. */
PapaStatus papa_pair_emit(PapaPairBuilder *b, PapaPairUnit *unit);

static inline bool papa_node_is_onnx(const Onnx__NodeProto *node)
{
    return !node->domain || !*node->domain || !strcmp(node->domain, "ai.onnx");
}

static inline bool papa_node_is_type(const Onnx__NodeProto *node, const char *type)
{
    return papa_node_is_onnx(node) && !strcmp(node->op_type, type);
}

#endif
