/* The graph: values and nodes of one network, built from an ONNX file for one batch size and one mode.
 *
 * Built in this order, each step a function of its own:
 *   papa_graph_read     nodes and values as the file has them, attributes parsed, roles of the tensors found
 *   papa_graph_infer    every shape, constants and shape arithmetic folded away, dead nodes dropped
 *   papa_graph_cut      where wanted: what is not understood taken out
 *   papa_graph_layout   rank >= 3 activations of image operators become channels-last; transposes where order matters
 *   papa_graph_fuse     Relu and Add joined to the operators in front of them
 *   papa_graph_precision what each value is made of on the device, and conversions where that changes
 * After the last step all values are dense and row-major in the order of their shape; nobody asks about layout again.
 *
 * The graph owns its values, nodes and constants (one arena). Strings and protos belong to the PapaOnnx it was read from,
 * which must outlive it. It knows operators only through their rows (graph/op.h), and nothing of devices' memory. */
#ifndef PAPA_GRAPH_H
#define PAPA_GRAPH_H

#include "base/arena.h"
#include "device/device.h"
#include "onnx/onnx.h"

#include <stdbool.h>
#include <stdint.h>

#define PAPA_MAX_RANK 8

typedef struct PapaShape {
    int rank;
    int64_t dim[PAPA_MAX_RANK];
} PapaShape;

/* No dimension is negative, and the product of those that are not 0 is at most PAPA_MAX_ELEMENTS. Every shape in a graph has passed this,
 * so that products of some of its dimensions, and sums of many values' bytes, are far from overflow. */
#define PAPA_MAX_ELEMENTS ((int64_t)1 << 40)
bool papa_shape_fits(const PapaShape *shape);

int64_t papa_shape_count(const PapaShape *shape); /* product of the dimensions; 1 for rank 0 */
int64_t papa_shape_count_from(const PapaShape *shape, int first, int end); /* product of dim[first .. end-1] */
bool papa_shape_equal(const PapaShape *a, const PapaShape *b);
const char *papa_shape_text(const PapaShape *shape); /* "(2, 3, 28, 28)"; two calls' results live at a time per thread */

typedef enum PapaMode {
    PAPA_MODE_INFER,     /* running statistics, no dropout */
    PAPA_MODE_TRAIN,     /* batch statistics, dropout; a backward pass follows */
    PAPA_MODE_CALIBRATE, /* batch statistics, running statistics re-estimated, no dropout, no backward pass */
} PapaMode;

/* What a tensor of the file is to the operator that reads it. NONE: a constant, never trained. */
typedef enum PapaRole {
    PAPA_ROLE_NONE,
    PAPA_ROLE_WEIGHT, /* of a convolution or a linear map; initialised by its fan-in */
    PAPA_ROLE_BIAS,   /* initialised to 0 */
    PAPA_ROLE_SCALE,  /* of a normalisation; initialised to 1 */
    PAPA_ROLE_SHIFT,  /* of a normalisation; initialised to 0 */
    PAPA_ROLE_MEAN,   /* running mean; a statistic, not trained; initialised to 0 */
    PAPA_ROLE_VARIANCE, /* running variance; likewise; initialised to 1 */
} PapaRole;

typedef enum PapaValueKind {
    PAPA_VALUE_INPUT,      /* a graph input that is fed */
    PAPA_VALUE_TENSOR,     /* a float tensor of the file with a role: lives in the parameter store */
    PAPA_VALUE_CONSTANT,   /* known when the graph is built */
    PAPA_VALUE_ACTIVATION, /* computed by a node */
} PapaValueKind;

typedef struct PapaNode PapaNode;
typedef struct PapaValue PapaValue;
typedef struct PapaOp PapaOp;

struct PapaValue {
    const char *name;
    PapaValueKind kind;
    int type;                        /* ONNX TensorProto.DataType as the file has it. Floats of every width compute in float32 or as element says */
    PapaElement element;             /* a float value's on the device, and its gradient's */
    PapaShape shape;
    bool has_shape;
    bool channels_last;              /* shape is (N, spatial..., C) where the file has (N, C, spatial...) */
    const Onnx__TensorProto *tensor; /* TENSOR, and CONSTANT that comes straight from the file */
    const void *data;                /* CONSTANT: float, or int64_t for every integer and boolean type */
    PapaRole role;                   /* TENSOR */
    int64_t fan_in;                  /* TENSOR with PAPA_ROLE_WEIGHT: inputs to one output */
    PapaNode *producer;              /* ACTIVATION */
    PapaValue *view_of;              /* shares this value's memory from its start; NULL: has its own */
    int index;                       /* in graph->values */
    int param;                       /* TENSOR: index in the model's parameter table, set by src/model; -1 */
    bool fed;                        /* depends on what the graph's inputs hold; set by papa_graph_infer */
    bool wants_grad;                 /* set by the memory plan before it asks op->keeps: something trained lies upstream, the loss downstream */
};

struct PapaNode {
    const PapaOp *op;
    const Onnx__NodeProto *proto; /* NULL: put in by a pass */
    const char *label;            /* for messages */
    PapaValue **in, **out;        /* entries may be NULL: optional ones that are left out */
    int n_in, n_out;
    int64_t opset;
    void *attrs;                  /* op->attrs_bytes, zeroed, filled by op->init */
    bool relu;                    /* a Relu is joined to the output (only where op->fuses says so) */
    bool tapped;                  /* out[0] is measured as it comes out: nothing may be joined to it */
    bool on_input;                /* an input depends on the graph's inputs through no weight: this is preprocessing */
    int index;                    /* position in graph->nodes, which is the order of execution; names the dropout stream */

    /* set by op->prepare for one device; immutable afterwards and shared by workers */
    void *plan;
    size_t forward_workspace_bytes, backward_workspace_bytes; /* scratch during the call */
    size_t kept_bytes;            /* private memory kept from forward to backward (training only) */
};

/* The attributes of Transpose, here because passes put Transposes in: out[0]'s axis i is in[0]'s axis perm[i]. rank 0: the
 * file leaves perm out, which reverses the axes. */
typedef struct PapaTransposeAttrs {
    int rank;
    int perm[PAPA_MAX_RANK];
} PapaTransposeAttrs;

typedef struct PapaGraph {
    const PapaOnnx *onnx;
    PapaArena arena;
    PapaMode mode;
    bool frozen_stats;            /* BatchNormalization uses its running statistics in every mode */
    bool opaque;                  /* nodes that are not understood are kept, as papa_op_opaque */
    bool dropout;                 /* false: Dropout passes through in every mode */
    PapaNode **nodes;             /* topologically ordered; a pass may leave NULLs while it works */
    int n_nodes, nodes_capacity;
    PapaValue **values;
    int n_values, values_capacity;
    PapaValue **inputs;           /* those that are fed */
    int n_inputs;
    int64_t file_batch;           /* the first dimension of inputs[0] where the file fixes it; 0: it doesn't */
    PapaValue **outputs;          /* as the file lists them, or as asked for */
    int n_outputs;
    size_t folded_bytes;          /* of constants made by folding */
} PapaGraph;

typedef struct PapaGraphOptions {
    PapaMode mode;
    bool frozen_stats, no_dropout;
    bool opaque;                /* to look at a graph: nodes that we lack, or can't run, become papa_op_opaque, and integers that are fed constants made
                                   up (CONSTANT and fed), as is what is computed from them. To run it: papa_graph_cut */
    const char *const *outputs; /* values to compute; NULL: the graph's outputs */
    int n_outputs;
} PapaGraphOptions;

/* Errors: PAPA_ERR_UNSUPPORTED lists every node that we lack in one line (name, type, domain, opset); PAPA_ERR_FORMAT for a
 * cyclic graph, a value that nobody makes, two makers of one value. */
PapaStatus papa_graph_read(PapaGraph **out, const PapaOnnx *onnx, const PapaGraphOptions *options);
void papa_graph_free(PapaGraph *graph);

/* Fixes the shapes of graph->inputs (n_inputs of them, in order) and infers the rest. */
PapaStatus papa_graph_infer(PapaGraph *graph, const PapaShape *input_shapes);

/* Takes the opaque nodes out of a graph that was read with `opaque`, so that the rest can be run: what they make becomes an input (graph->inputs grows,
 * and loses what nobody reads any more), the activations that they read become outputs. Outputs that the rest doesn't make go. Errors:
 * PAPA_ERR_UNSUPPORTED where no output is left. */
PapaStatus papa_graph_cut(PapaGraph *graph);
PapaStatus papa_graph_layout(PapaGraph *graph);
PapaStatus papa_graph_fuse(PapaGraph *graph);

/* With PAPA_BFLOAT16, inputs and activations become that. The file's tensors stay float32, as do the inputs that an operator's row says
 * (op->float32) and the graph's outputs; a Convert stands where one must become the other. With PAPA_FLOAT64 everything that nodes read and write
 * becomes that, the graph's outputs too; only the file's tensors lie there as float32, behind a Convert. */
PapaStatus papa_graph_precision(PapaGraph *graph, PapaElement element);

/* The shape that an input or output is declared to have. batch, open: what stands for its first axis and for others where it leaves them open.
 * Errors: PAPA_ERR_UNSUPPORTED where it has none. */
PapaStatus papa_graph_declared_shape(PapaShape *out, const Onnx__ValueInfoProto *info, int64_t batch, int64_t open);

/* The value of this name, or NULL. */
PapaValue *papa_graph_find(const PapaGraph *graph, const char *name);

/* ---- for passes ---- */

/* A fresh value; NULL when memory runs out. name is not copied. */
PapaValue *papa_graph_new_value(PapaGraph *graph, const char *name, PapaValueKind kind, int type, const PapaShape *shape);
/* A node put in by a pass, of ai.onnx's or our own domain, appended to no list yet; attrs zeroed, in and out arrays filled with NULL. */
PapaNode *papa_graph_new_node(PapaGraph *graph, const char *type, int n_in, int n_out, const char *label);
/* Closes the gaps that NULLs in graph->nodes leave, and numbers the nodes. */
void papa_graph_compact(PapaGraph *graph);
/* Bytes on the device. */
static inline int64_t papa_value_bytes(const PapaValue *value)
{
    return papa_shape_count(&value->shape) * (int64_t)papa_element_bytes(value->element);
}

/* Number of nodes that read the value, plus one if it is a graph output. */
int papa_graph_uses(const PapaGraph *graph, const PapaValue *value);

#endif
