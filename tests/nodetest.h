/* One node by itself, without a file or an executor: its row is called as the graph and the executor would call it.
 *
 *     NodeTest t = node_begin("Slice", 9);
 *     node_ints(&t, "starts", 1, (int64_t[]){1});
 *     PapaValue *x = node_input(&t, PAPA_VALUE_ACTIVATION, FLOAT, 2, (int64_t[]){5, 4});
 *     node_outputs(&t, 1);
 *     CHECK_OK(node_infer(&t));
 *
 * node_end frees all. */
#ifndef NODETEST_H
#define NODETEST_H

#include "graph/op.h"
#include "kerneltest.h"

enum { NODE_MOST = 12, FLOAT = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, INT64 = ONNX__TENSOR_PROTO__DATA_TYPE__INT64 };

typedef struct NodeTest {
    PapaGraph *graph;
    PapaNode *node;
    Onnx__NodeProto *proto;
    float *data[2 * NODE_MOST], *grad[2 * NODE_MOST]; /* by value index; activations and tensors only */
    void *workspace;
    int64_t kept; /* where the node's kept memory starts, behind the workspace */
} NodeTest;

static inline void *node_need(void *memory)
{
    if (!memory)
        abort();
    return memory;
}

static inline NodeTest node_begin(const char *type, int64_t opset)
{
    NodeTest t = {.graph = node_need(calloc(1, sizeof(PapaGraph)))};
    t.graph->mode = PAPA_MODE_TRAIN;
    t.graph->dropout = true;
    t.proto = node_need(PAPA_NEW(&t.graph->arena, Onnx__NodeProto));
    onnx__node_proto__init(t.proto);
    t.proto->attribute = node_need(PAPA_NEW_ARRAY(&t.graph->arena, Onnx__AttributeProto *, NODE_MOST));
    t.node = node_need(PAPA_NEW(&t.graph->arena, PapaNode));
    const PapaOp *op = papa_op_find("", type, opset);
    CHECK(op != NULL, "no row for %s at opset %lld", type, (long long)opset);
    *t.node = (PapaNode){.op = node_need((void *)op), .proto = t.proto, .label = "the node", .opset = opset};
    t.node->attrs = node_need(papa_arena_alloc(&t.graph->arena, op->attrs_bytes));
    t.node->in = node_need(PAPA_NEW_ARRAY(&t.graph->arena, PapaValue *, NODE_MOST));
    t.node->out = node_need(PAPA_NEW_ARRAY(&t.graph->arena, PapaValue *, NODE_MOST));
    return t;
}

static inline void node_end(NodeTest *t)
{
    for (int i = 0; i < 2 * NODE_MOST; i++)
        free(t->data[i]), free(t->grad[i]);
    free(t->workspace);
    papa_arena_free(&t->graph->arena);
    free(t->graph);
}

static inline Onnx__AttributeProto *node_attribute(NodeTest *t, const char *name, Onnx__AttributeProto__AttributeType type)
{
    Onnx__AttributeProto *attribute = node_need(PAPA_NEW(&t->graph->arena, Onnx__AttributeProto));
    onnx__attribute_proto__init(attribute);
    attribute->name = node_need(papa_arena_strdup(&t->graph->arena, name));
    attribute->has_type = true;
    attribute->type = type;
    return t->proto->attribute[t->proto->n_attribute++] = attribute;
}

static inline void node_int(NodeTest *t, const char *name, int64_t value)
{
    node_attribute(t, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT)->i = value;
}

static inline void node_float(NodeTest *t, const char *name, float value)
{
    node_attribute(t, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT)->f = value;
}

static inline void node_string(NodeTest *t, const char *name, const char *value)
{
    Onnx__AttributeProto *attribute = node_attribute(t, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING);
    attribute->s.len = strlen(value);
    attribute->s.data = node_need(papa_arena_strdup(&t->graph->arena, value));
}

static inline void node_ints(NodeTest *t, const char *name, int n, const int64_t *values)
{
    Onnx__AttributeProto *attribute = node_attribute(t, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS);
    attribute->n_ints = (size_t)n;
    attribute->ints = node_need(PAPA_NEW_ARRAY(&t->graph->arena, int64_t, n));
    memcpy(attribute->ints, values, (size_t)n * sizeof *values);
}

/* The next input. Floats get random numbers, as data and for CONSTANTs; others' data is the caller's to set. */
static inline PapaValue *node_input(NodeTest *t, PapaValueKind kind, int type, int rank, const int64_t *dims)
{
    PapaShape shape = {.rank = rank};
    if (rank)
        memcpy(shape.dim, dims, (size_t)rank * sizeof *dims);
    PapaValue *value = node_need(papa_graph_new_value(t->graph, "input", kind, type, &shape));
    int64_t n = papa_shape_count(&shape);
    if (papa_type_is_float(type))
        value->data = t->data[value->index] = random_floats(n, -1, 1);
    return t->node->in[t->node->n_in++] = value;
}

/* The next input: n known integers of this type, as a vector. */
static inline void node_known(NodeTest *t, int type, int n, const int64_t *values)
{
    PapaValue *value = node_input(t, PAPA_VALUE_CONSTANT, type, 1, (int64_t[]){n});
    int64_t *data = node_need(PAPA_NEW_ARRAY(&t->graph->arena, int64_t, n));
    memcpy(data, values, (size_t)n * sizeof *values);
    value->data = data;
}

static inline void node_leave_out(NodeTest *t)
{
    t->node->in[t->node->n_in++] = NULL;
}

/* After all inputs. */
static inline void node_outputs(NodeTest *t, int n)
{
    for (int i = 0; i < n; i++) {
        t->node->out[i] = node_need(papa_graph_new_value(t->graph, "output", PAPA_VALUE_ACTIVATION, 0, NULL));
        t->node->out[i]->producer = t->node;
    }
    t->node->n_out = n;
}

/* init, shape, and fold where everything is known. */
static inline PapaStatus node_infer(NodeTest *t)
{
    PapaNode *node = t->node;
    bool known = true;
    for (int i = 0; i < node->n_in; i++)
        known &= !node->in[i] || node->in[i]->kind == PAPA_VALUE_CONSTANT;
    if (node->op->init)
        PAPA_TRY(node->op->init(node, t->graph));
    PAPA_TRY(node->op->shape(node, t->graph));
    return node->op->fold && (known || node->op->fold_by_shape) ? node->op->fold(node, t->graph) : PAPA_OK;
}

static inline int64_t node_count(const PapaValue *value)
{
    return papa_shape_count(&value->shape);
}

/* ---- running ---- */

/* Every address counts from the workspace's, as an offset in one arena would. */
static inline PapaPlacement node_place(const NodeTest *t, const void *memory)
{
    return (PapaPlacement){memory ? PAPA_IN_ARENA : PAPA_NOWHERE, (int64_t)((uintptr_t)memory - (uintptr_t)t->workspace)};
}

/* Forward; or backward, from t->grad of the outputs into those of the inputs that have one. accumulate: a bit per input. */
static inline PapaStatus node_execute(NodeTest *t, PapaDevice *dev, bool backward, unsigned accumulate)
{
    PapaPlacement values[2 * NODE_MOST], grads[2 * NODE_MOST];
    unsigned char din[NODE_MOST] = {0};
    PapaNodePlacement placement = {.kept = t->kept, .din = din};
    PapaStepNumbers step = {.dropout_key = {1, 2}, .dropout_name = {3, 4}};
    for (int i = 0; i < t->graph->n_values; i++) {
        values[i] = node_place(t, t->data[i]);
        grads[i] = node_place(t, t->grad[i]);
    }
    for (int i = 0; i < t->node->n_in; i++)
        if (t->node->in[i] && t->grad[t->node->in[i]->index])
            din[i] = PAPA_DIN_WANTED | (accumulate >> i & 1 ? PAPA_DIN_ACCUMULATE : 0);
    PapaRun run = {.dev = dev, .graph = t->graph, .values = values, .grads = grads, .nodes = &placement, .arena = t->workspace, .step = &step};
    return backward ? t->node->op->backward(t->node, &run) : t->node->op->forward(t->node, &run);
}

/* After node_infer: prepares the node and makes room for outputs and workspace. Call node_release in the end. */
static inline PapaStatus node_prepare(NodeTest *t, PapaDevice *dev)
{
    PapaNode *node = t->node;
    for (int i = 0; i < node->n_out; i++)
        if (node->out[i])
            t->data[node->out[i]->index] = poisoned(node_count(node->out[i]), false);
    if (node->op->prepare)
        PAPA_TRY(node->op->prepare(node, t->graph, dev));
    size_t bytes = node->forward_workspace_bytes > node->backward_workspace_bytes ? node->forward_workspace_bytes : node->backward_workspace_bytes;
    bytes = (bytes + 127) & ~(size_t)63;
    t->kept = (int64_t)bytes;
    t->workspace = node_need(aligned_alloc(64, bytes + ((node->kept_bytes + 63) & ~(size_t)63)));
    return PAPA_OK;
}

static inline void node_release(NodeTest *t, PapaDevice *dev)
{
    if (t->node->op->release)
        t->node->op->release(t->node, dev);
}

#endif
