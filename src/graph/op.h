/* The operator interface: one row says all that the rest of the program asks about an ONNX operator.
 *
 * The rows of src/ops/NAME.c stand in its table papa_ops_NAME, ended by a zeroed row; the build collects the tables. To add an operator, write
 * its row. Functions that are NULL have the meaning their comment gives. Rows describe operators for every device: forward and
 * backward reach kernels through PAPA_FORWARD_KERNEL and PAPA_KERNEL, and never touch the memory of a value themselves.
 *
 * Order of calls: init (once, when the file is read), role, shape, fold, layout, permute, then prepare for a device, then any number of
 * forward and backward calls from several workers at once, then release. */
#ifndef PAPA_OP_H
#define PAPA_OP_H

#include "device/device.h"
#include "graph/graph.h"

typedef struct PapaRun PapaRun;
typedef struct PapaUnits PapaUnits;

typedef enum PapaLayout {
    PAPA_LAYOUT_LOGICAL,       /* data in ONNX's order of axes */
    PAPA_LAYOUT_CHANNELS_LAST, /* in[0], and outputs of its rank, as (N, spatial..., C); needs rank >= 3, else like LOGICAL */
    PAPA_LAYOUT_FOLLOW,        /* works in any order of axes, the same for all float inputs and outputs of in[0]'s rank: takes what comes */
} PapaLayout;

/* A layer that is linear in a weight: which inputs those are. For REPAIR and everything else that works on whole layers. */
typedef struct PapaLinear {
    int weight;      /* input */
    int weight_axis; /* of the weight: its output channels, which are the last axis of a channels-last output */
    int bias;        /* input; -1: the operator has none */
    float bias_factor; /* the output adds this times the bias */
} PapaLinear;

/* What the fusing pass may join to an operator's output. */
enum { PAPA_FUSE_RELU = 1 /* node->relu */, PAPA_FUSE_ADD = 2 /* op->residual_input: a tensor of the output's shape added before the Relu */ };

/* Bits for op->keeps, i < PAPA_KEEP_MOST: what a row with more inputs or outputs keeps is among its first. */
#define PAPA_KEEP_MOST 16
#define PAPA_KEEP_IN(i) (1u << (i))
#define PAPA_KEEP_OUT(i) (1u << (PAPA_KEEP_MOST + (i)))

struct PapaOp {
    const char *type;         /* as ONNX spells it */
    const char *domain;       /* NULL: ai.onnx; PAPA_OWN_DOMAIN: put in by our passes only */
    int since, until;         /* opset range, inclusive; until 0: current. The row must be right for all of it */
    int min_in, max_in, min_out, max_out; /* as ONNX counts them, optional ones included; max_in or max_out -1: variadic */
    size_t attrs_bytes;       /* of node->attrs */

    /* Parses and checks attributes into node->attrs. Input values have kind and, for the file's tensors, shape and integer data; no other
     * shapes yet. NULL: no attributes. */
    PapaStatus (*init)(PapaNode *node, PapaGraph *graph);

    /* Role of a float tensor of the file (never another kind of value) at this input. NULL: none. fan_in may be set for weights. */
    PapaRole (*role)(const PapaNode *node, int input, int64_t *fan_in);
    /* in[0]'s role is what the outputs' readers say: the operator only moves elements or renames (Transpose, Reshape, Split, Cast). */
    bool carries_role;
    /* With carries_role: repeats elements. Then a single number carries no role: it fills a tensor, as exporters do with a missing bias. */
    bool repeats;

    /* A normalisation: the tensors of the file that it reads besides in[0] are known as its own (--no-norm-decay). */
    bool normalizes;

    /* Whether the node is a linear layer, and how. Asked after init; the weight's rank is known. NULL: never. */
    bool (*linear)(const PapaNode *node, PapaLinear *out);

    /* Sets type and shape of every output with papa_set_output. Integer inputs that must be known are read with papa_const_ints.
     * Runs in ONNX's order of axes, before layout. Must not depend on node state that fold or permute change. */
    PapaStatus (*shape)(PapaNode *node, PapaGraph *graph);

    /* Computes the outputs' data when the graph is built, on the host; called after shape where all inputs that are not left out are
     * CONSTANT, or always with fold_by_shape (Shape, Size). Allocates with papa_set_constant. NULL: can't be folded. If it returns with
     * an output still not CONSTANT the node stays. */
    PapaStatus (*fold)(PapaNode *node, PapaGraph *graph);
    bool fold_by_shape;

    /* out[0] is in[0]'s memory with another shape; no forward or backward. NULL: never. Asked in the graph's final order of axes. */
    bool (*is_view)(const PapaNode *node, const PapaGraph *graph);

    PapaLayout (*layout)(const PapaNode *node, const PapaGraph *graph); /* NULL: LOGICAL. Asked in ONNX's order, with shapes */
    /* FOLLOW operators that became channels-last: remaps axes in attrs with papa_axis_to_channels_last(axis, rank). NULL: has no axes. */
    void (*permute)(PapaNode *node, int rank);

    unsigned fuses;           /* PAPA_FUSE_* */
    int residual_input;       /* with PAPA_FUSE_ADD: index in node->in of the added tensor; the node's in array grows to it */

    /* Says which units stand along the outputs' axes, and which of the inputs' must move together (graph/units.h). Asked in ONNX's order of axes,
     * with shapes, before fusing. NULL: nothing that touches the node may be permuted. */
    void (*units)(const PapaNode *node, PapaUnits *units);

    /* Inputs that are read as float32 where activations are bfloat16, as bits 1 << i. NULL: none. Asked after fusing. */
    unsigned (*float32)(const PapaNode *node);

    /* Which values backward reads: PAPA_KEEP_* bits. NULL: none. Asked after fusing. */
    unsigned (*keeps)(const PapaNode *node, const PapaGraph *graph);

    /* Turns a copy of the file's node into the form that an inference engine expects. The copy is shallow, but its arrays of inputs, outputs and
     * attributes are its own and may be cut short; attributes themselves must not be written. Returns whether it changed anything. NULL: never. */
    bool (*to_inference)(Onnx__NodeProto *node);

    /* Makes plan, sets workspace and kept sizes, for graph->mode. NULL: nothing needed. Shapes are final, outputs of float types. */
    PapaStatus (*prepare)(PapaNode *node, const PapaGraph *graph, PapaDevice *dev);
    void (*release)(PapaNode *node, PapaDevice *dev); /* frees plan: NULL, whole, or as far as a prepare that failed came */

    PapaStatus (*forward)(const PapaNode *node, const PapaRun *run);
    /* Writes the gradients that papa_din asks for. NULL: a gradient can't pass; refused when the graph is compiled for training. */
    PapaStatus (*backward)(const PapaNode *node, const PapaRun *run);
};

/* The row for a file's operator at an opset, or NULL. */
const PapaOp *papa_op_find(const char *domain, const char *type, int64_t opset);
/* The row of an operator that only passes put in. */
const PapaOp *papa_op_own(const char *type);
/* Stands for an operator that is not understood: outputs of the shapes that the specification gives or the file tells, or of none. */
extern const PapaOp papa_op_opaque;
/* Whether an input has no known shape: the node may be understood, but stands behind one that isn't. */
bool papa_node_is_blind(const PapaNode *node);
#define PAPA_OWN_DOMAIN "papa"
extern const PapaOp *const papa_op_tables[]; /* generated from the files of src/ops; ends with NULL */

/* ---------------------------------------------------------------- helpers for rows, before execution */

/* Fails with "LABEL: message". */
PapaStatus papa_node_fail(const PapaNode *node, PapaStatus code, const char *format, ...) __attribute__((format(printf, 3, 4), cold));

/* Sets the type and shape of an output (refused unless papa_shape_fits). Does nothing where out[i] is left out. */
PapaStatus papa_set_output(PapaNode *node, int i, int type, const PapaShape *shape);
/* Turns output i into a CONSTANT; returns its zeroed storage (float or int64_t by its type), NULL when memory runs out or the graph's constants
 * grow beyond reason (PAPA_ERR_MEMORY is recorded). */
void *papa_set_constant(PapaNode *node, PapaGraph *graph, int i);

/* in[i] as known integers: fails, naming the node, where it is not CONSTANT of an integer type. Left out: *out NULL, *n 0. */
PapaStatus papa_const_ints(const PapaNode *node, int i, const int64_t **out, int64_t *n);
/* in[i] as one known float. Left out: fallback. */
PapaStatus papa_const_float(const PapaNode *node, int i, float fallback, float *out);

static inline bool papa_has_in(const PapaNode *node, int i)
{
    return i < node->n_in && node->in[i];
}
static inline bool papa_has_out(const PapaNode *node, int i)
{
    return i < node->n_out && node->out[i];
}

/* Every input that is there is CONSTANT. */
bool papa_all_constant(const PapaNode *node);

/* Fails, naming the node, where in[i] is not of a float type. */
static inline PapaStatus papa_check_float(const PapaNode *node, int i)
{
    return papa_type_is_float(node->in[i]->type) ? PAPA_OK :
        papa_node_fail(node, PAPA_ERR_UNSUPPORTED, "input %d is of type %s, expected a float type", i, papa_type_name(node->in[i]->type));
}

/* -rank <= axis < rank, made non-negative; fails naming the node. */
PapaStatus papa_check_axis(const PapaNode *node, int64_t axis, int rank, int *out);
/* Position of ONNX's axis of a rank-r value in channels-last order: 0 -> 0, 1 -> r-1, k -> k-1. */
int papa_axis_to_channels_last(int axis, int rank);
void papa_shape_to_channels_last(PapaShape *shape);

/* Multidirectional broadcasting of two shapes (ONNX, "Broadcasting in ONNX"); fails naming the node. */
PapaStatus papa_broadcast(const PapaNode *node, const PapaShape *a, const PapaShape *b, PapaShape *out);

/* The usual answers. */
PapaLayout papa_layout_channels_last(const PapaNode *node, const PapaGraph *graph);
PapaLayout papa_layout_follow(const PapaNode *node, const PapaGraph *graph);
PapaStatus papa_shape_same(PapaNode *node, PapaGraph *graph); /* out[0] has in[0]'s type and shape */
bool papa_view_always(const PapaNode *node, const PapaGraph *graph);

/* ---------------------------------------------------------------- helpers for rows, during execution */

/* Numbers that change from step to step; in device memory, so that a captured step replays unchanged. */
typedef struct PapaStepNumbers {
    uint32_t dropout_key[2];  /* Philox key: the seed */
    uint32_t dropout_name[2]; /* counter words 1 and 3: the step; use and member (base/rng.h); word 2 is the node's index */
    float stat_momentum;      /* PAPA_MODE_CALIBRATE: running = m * running + (1 - m) * batch, with m = k / (k + 1) for batch k from 0 */
} PapaStepNumbers;

/* One worker executing one member: where everything lies. Made by src/model. */
struct PapaRun {
    PapaDevice *dev;
    const PapaGraph *graph;
    const struct PapaPlacement *values, *grads; /* by value index */
    const struct PapaNodePlacement *nodes;      /* by node index */
    char *arena;
    float *params;  /* the member's store: trained tensors, then statistics and frozen tensors */
    float *dparams; /* gradients of the trained ones */
    const char *constants;
    const PapaStepNumbers *step;
};

typedef enum PapaWhere { PAPA_NOWHERE, PAPA_IN_ARENA, PAPA_IN_PARAMS, PAPA_IN_DPARAMS, PAPA_IN_CONSTANTS } PapaWhere;
typedef struct PapaPlacement {
    PapaWhere where;
    int64_t offset; /* bytes */
} PapaPlacement;
typedef struct PapaNodePlacement {
    int64_t forward_workspace, backward_workspace, kept; /* offsets in the arena, bytes */
    const unsigned char *din; /* by input: PAPA_DIN_* bits; NULL: the node has no part in the backward pass */
} PapaNodePlacement;
enum { PAPA_DIN_WANTED = 1, PAPA_DIN_ACCUMULATE = 2 };

/* Device pointers, dense, of in[i]->element: activations (PapaReal), but where op->float32 says float32. Offsets into them: papa_at. NULL where
 * the input or output is left out (and for an empty value perhaps). */
PapaReal *papa_in(const PapaRun *run, const PapaNode *node, int i);
PapaReal *papa_out(const PapaRun *run, const PapaNode *node, int i);
/* Gradient of in[i]: NULL where nobody wants it. Overwrite it, or add to it where papa_din_accumulate says so. */
PapaReal *papa_din(const PapaRun *run, const PapaNode *node, int i);
PapaStatus papa_din_zero(const PapaRun *run, const PapaNode *node, int i); /* overwrites it with zeros; it is wanted */
bool papa_din_accumulate(const PapaRun *run, const PapaNode *node, int i);
/* Gradient of out[i]; never NULL in backward for outputs that exist. The node may overwrite it, as scratch: nobody reads it afterwards. */
PapaReal *papa_dout(const PapaRun *run, const PapaNode *node, int i);
void *papa_forward_workspace(const PapaRun *run, const PapaNode *node);
void *papa_backward_workspace(const PapaRun *run, const PapaNode *node);
void *papa_kept(const PapaRun *run, const PapaNode *node);

#endif
