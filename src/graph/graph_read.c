/* From an ONNX graph to nodes and values: what is needed for the outputs asked for, in an order that can be executed, attributes parsed,
 * each float tensor's role found. */
#include "base/names.h"
#include "graph/fold.h"
#include "graph/op.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define NEWEST_OPSET 28 /* of ONNX's own operators, which the rows are checked against */

typedef struct Reader {
    PapaGraph *graph;
    const PapaOnnx *onnx;
    const Onnx__GraphProto *proto;
    PapaNames values;    /* name -> PapaValue */
    PapaNames producers; /* name -> Onnx__NodeProto that makes it */
} Reader;

static bool is_constant_node(const Onnx__NodeProto *node)
{
    return strcmp(node->op_type, "Constant") == 0 && (!node->domain || !*node->domain || strcmp(node->domain, "ai.onnx") == 0);
}

/* ---------------------------------------------------------------- values that the file holds */

static PapaStatus tensor_shape(const Onnx__TensorProto *tensor, const char *name, PapaShape *shape)
{
    if (tensor->n_dims > PAPA_MAX_RANK)
        return papa_fail(PAPA_ERR_UNSUPPORTED, "tensor '%s': rank %zu is more than %d", name, tensor->n_dims, PAPA_MAX_RANK);
    shape->rank = (int)tensor->n_dims;
    for (int i = 0; i < shape->rank; i++)
        shape->dim[i] = tensor->dims[i];
    if (!papa_shape_fits(shape)) /* one with no elements can have any other dimensions */
        return papa_fail(PAPA_ERR_UNSUPPORTED, "tensor '%s': shape %s is too large", name, papa_shape_text(shape));
    return PAPA_OK;
}

/* Integers are read at once, since shapes depend on them; floats when their role is known. */
static PapaStatus add_tensor(Reader *r, const char *name, const Onnx__TensorProto *tensor)
{
    PapaShape shape;
    PAPA_TRY(tensor_shape(tensor, name, &shape));
    bool is_float = papa_type_is_float(tensor->data_type);
    PapaValue *value = papa_graph_new_value(r->graph, name, is_float ? PAPA_VALUE_TENSOR : PAPA_VALUE_CONSTANT, tensor->data_type, &shape);
    if (!value)
        return PAPA_ERR_MEMORY;
    value->tensor = tensor;
    if (!is_float && r->graph->opaque && !papa_type_is_integer(tensor->data_type)) {
        value->kind = PAPA_VALUE_INPUT; /* of a type that nothing here reads */
    } else if (!is_float) {
        int64_t n = papa_shape_count(&shape);
        int64_t *data = PAPA_NEW_ARRAY(&r->graph->arena, int64_t, n + 1);
        if (!data)
            return PAPA_ERR_MEMORY;
        PAPA_TRY(papa_tensor_read_int64(r->onnx, tensor, data, n));
        value->data = data;
    }
    return papa_names_put(&r->values, name, value);
}

/* The attribute forms of a Constant that are no TensorProto. */
static PapaStatus add_constant_numbers(Reader *r, const Onnx__NodeProto *node, const char *name)
{
    const Onnx__AttributeProto *attr = node->n_attribute == 1 ? node->attribute[0] : NULL;
    PapaShape shape = {0};
    size_t n = 1;
    int type = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
    const float *floats = NULL;
    const int64_t *ints = NULL;
    if (attr && strcmp(attr->name, "value_float") == 0)
        floats = &attr->f;
    else if (attr && strcmp(attr->name, "value_int") == 0)
        ints = &attr->i;
    else if (attr && strcmp(attr->name, "value_floats") == 0)
        floats = attr->floats, n = attr->n_floats, shape = (PapaShape){1, {(int64_t)n}};
    else if (attr && strcmp(attr->name, "value_ints") == 0)
        ints = attr->ints, n = attr->n_ints, shape = (PapaShape){1, {(int64_t)n}};
    else
        return papa_fail(PAPA_ERR_UNSUPPORTED, "%s: its value is neither numbers nor a dense tensor", papa_node_label(node));
    if (!floats)
        type = ONNX__TENSOR_PROTO__DATA_TYPE__INT64;
    PapaValue *value = papa_graph_new_value(r->graph, name, PAPA_VALUE_CONSTANT, type, &shape);
    size_t bytes = n * (floats ? sizeof *floats : sizeof *ints);
    void *data = value ? papa_arena_alloc(&r->graph->arena, bytes + 1) : NULL;
    if (!data)
        return PAPA_ERR_MEMORY;
    if (n)
        memcpy(data, floats ? (const void *)floats : (const void *)ints, bytes);
    value->data = data;
    return papa_names_put(&r->values, name, value);
}

static PapaStatus add_constant(Reader *r, const Onnx__NodeProto *node)
{
    const Onnx__TensorProto *tensor;
    const char *name = node->output[0];
    if (node->n_output != 1)
        return papa_fail(PAPA_ERR_FORMAT, "%s: has %zu outputs, expected 1", papa_node_label(node), node->n_output);
    PAPA_TRY(papa_attr_tensor(node, "value", &tensor));
    return tensor ? add_tensor(r, name, tensor) : add_constant_numbers(r, node, name);
}

/* ---------------------------------------------------------------- which nodes are needed, in which order */

/* Depth-first from the outputs, without recursion: a node is emitted when all it reads is there. */
typedef struct Visit {
    const Onnx__NodeProto *node;
    size_t next_input;
    enum { VISIT_NEW, VISIT_OPEN, VISIT_DONE } state;
} Visit;

typedef struct Order {
    Visit *visits; /* one per node of the file */
    Visit **stack;
    size_t depth;
    const Onnx__NodeProto **nodes;
    size_t n;
} Order;

static Visit *visit_of(const Order *order, const Reader *r, const char *name)
{
    const Onnx__NodeProto *const *slot = papa_names_get(&r->producers, name);
    return slot ? &order->visits[(Onnx__NodeProto *const *)slot - r->proto->node] : NULL;
}

/* What the subgraphs of a node read of the graph around them. */
static PapaStatus add_captured(Reader *r, const Onnx__GraphProto *graph, Onnx__NodeProto *node);

static PapaStatus add_captured_name(Reader *r, char *name, Onnx__NodeProto *node)
{
    if (!name || (!papa_names_get(&r->producers, name) && !papa_names_get(&r->values, name)))
        return PAPA_OK;
    char **inputs = PAPA_NEW_ARRAY(&r->graph->arena, char *, node->n_input + 1);
    if (!inputs)
        return PAPA_ERR_MEMORY;
    if (node->n_input)
        memcpy(inputs, node->input, node->n_input * sizeof *inputs);
    inputs[node->n_input++] = name;
    node->input = inputs;
    return PAPA_OK;
}

static PapaStatus add_captured_by(Reader *r, const Onnx__NodeProto *of, Onnx__NodeProto *node)
{
    for (size_t i = 0; i < of->n_attribute; i++) {
        if (of->attribute[i]->g)
            PAPA_TRY(add_captured(r, of->attribute[i]->g, node));
        for (size_t k = 0; k < of->attribute[i]->n_graphs; k++)
            PAPA_TRY(add_captured(r, of->attribute[i]->graphs[k], node));
    }
    return PAPA_OK;
}

static PapaStatus add_captured(Reader *r, const Onnx__GraphProto *graph, Onnx__NodeProto *node)
{
    for (size_t i = 0; i < graph->n_output; i++)
        PAPA_TRY(add_captured_name(r, graph->output[i]->name, node));
    for (size_t i = 0; i < graph->n_node; i++) {
        for (size_t k = 0; k < graph->node[i]->n_input; k++)
            PAPA_TRY(add_captured_name(r, graph->node[i]->input[k], node));
        PAPA_TRY(add_captured_by(r, graph->node[i], node));
    }
    return PAPA_OK;
}

/* The node, or a copy of it whose inputs are also what its subgraphs read. */
static PapaStatus with_captured(Reader *r, const Onnx__NodeProto *node, const Onnx__NodeProto **out)
{
    Onnx__NodeProto *copy = PAPA_NEW(&r->graph->arena, Onnx__NodeProto);
    if (!copy)
        return PAPA_ERR_MEMORY;
    *copy = *node;
    PAPA_TRY(add_captured_by(r, node, copy));
    *out = copy->n_input == node->n_input ? node : copy;
    return PAPA_OK;
}

static PapaStatus find_producers(Reader *r)
{
    for (size_t i = 0; i < r->proto->n_node; i++) {
        Onnx__NodeProto *node = r->proto->node[i];
        for (size_t k = 0; k < node->n_output; k++) {
            if (!*node->output[k])
                continue;
            if (papa_names_get(&r->producers, node->output[k]) || papa_names_get(&r->values, node->output[k]))
                return papa_fail(PAPA_ERR_FORMAT, "%s: value '%s' has two makers", papa_node_label(node), node->output[k]);
            PAPA_TRY(papa_names_put(&r->producers, node->output[k], &r->proto->node[i]));
        }
    }
    return PAPA_OK;
}

static PapaStatus push(Order *order, Visit *visit, const char *name)
{
    if (visit->state == VISIT_OPEN)
        return papa_fail(PAPA_ERR_FORMAT, "%s: the graph has a cycle through value '%s'", papa_node_label(visit->node), name);
    if (visit->state == VISIT_NEW) {
        visit->state = VISIT_OPEN;
        order->stack[order->depth++] = visit;
    }
    return PAPA_OK;
}

static PapaStatus order_from(Reader *r, Order *order, const char *output)
{
    Visit *first = visit_of(order, r, output);
    if (!first)
        return papa_names_get(&r->values, output) ? PAPA_OK : papa_fail(PAPA_ERR_FORMAT, "no node makes the value '%s'", output);
    PAPA_TRY(push(order, first, output));
    while (order->depth) {
        Visit *visit = order->stack[order->depth - 1];
        if (visit->next_input == visit->node->n_input) {
            visit->state = VISIT_DONE;
            order->nodes[order->n++] = visit->node;
            order->depth--;
            continue;
        }
        const char *input = visit->node->input[visit->next_input++];
        Visit *maker = *input ? visit_of(order, r, input) : NULL;
        if (maker && maker->state != VISIT_DONE)
            PAPA_TRY(push(order, maker, input));
        else if (*input && !maker && !papa_names_get(&r->values, input))
            return papa_fail(PAPA_ERR_FORMAT, "%s: nothing makes its input '%s'", papa_node_label(visit->node), input);
    }
    return PAPA_OK;
}

static PapaStatus order_nodes(Reader *r, Order *order, const char *const *outputs, int n_outputs)
{
    PapaArena *arena = &r->graph->arena;
    size_t n = r->proto->n_node;
    *order = (Order){
        .visits = PAPA_NEW_ARRAY(arena, Visit, n),
        .stack = PAPA_NEW_ARRAY(arena, Visit *, n),
        .nodes = PAPA_NEW_ARRAY(arena, const Onnx__NodeProto *, n),
    };
    if (!order->visits || !order->stack || !order->nodes)
        return PAPA_ERR_MEMORY;
    for (size_t i = 0; i < n; i++) {
        order->visits[i].node = r->proto->node[i];
        if (r->graph->opaque)
            PAPA_TRY(with_captured(r, r->proto->node[i], &order->visits[i].node));
    }
    for (int i = 0; i < n_outputs; i++)
        PAPA_TRY(order_from(r, order, outputs[i]));
    return PAPA_OK;
}

/* ---------------------------------------------------------------- nodes */

static bool is_missing(const Reader *r, const Onnx__NodeProto *node)
{
    return !is_constant_node(node) && !papa_op_find(node->domain, node->op_type, papa_onnx_opset(r->onnx, node->domain ? node->domain : ""));
}

static void append(char *text, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void append(char *text, size_t size, const char *format, ...)
{
    const size_t used = strlen(text);
    va_list args;
    va_start(args, format);
    vsnprintf(text + used, size - used, format, args);
    va_end(args);
}

/* "3 Pow, 1 Erf": how many of the nodes are of each type. */
static void count_types(char *text, size_t size, const Onnx__NodeProto *const *nodes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t first = 0, count = 0;
        while (strcmp(nodes[first]->op_type, nodes[i]->op_type) != 0)
            first++;
        if (first < i)
            continue;
        for (size_t k = i; k < n; k++)
            count += strcmp(nodes[k]->op_type, nodes[i]->op_type) == 0;
        append(text, size, "%s%zu %s", i ? ", " : "", count, nodes[i]->op_type);
    }
}

/* All unsupported nodes in one message, before any work: the types with their numbers, then as many nodes as there is room for. */
static PapaStatus check_supported(const Reader *r, const Order *order)
{
    char types[300] = "", list[700] = "";
    size_t n = 0;
    const Onnx__NodeProto **missing = PAPA_NEW_ARRAY(&r->graph->arena, const Onnx__NodeProto *, order->n + 1);
    if (!missing)
        return PAPA_ERR_MEMORY;
    for (size_t i = 0; i < order->n; i++)
        if (is_missing(r, order->nodes[i]))
            missing[n++] = order->nodes[i];
    if (!n)
        return PAPA_OK;
    for (size_t i = 0; i < n; i++) {
        const char *domain = missing[i]->domain ? missing[i]->domain : "";
        append(list, sizeof list, "%s%s (%s%sopset %lld)", i ? ", " : "", papa_node_label(missing[i]), domain, *domain ? " " : "",
            (long long)papa_onnx_opset(r->onnx, domain));
    }
    count_types(types, sizeof types, missing, n);
    return papa_fail(PAPA_ERR_UNSUPPORTED, "%zu unsupported node%s (%s): %s%s", n, n == 1 ? "" : "s", types, list,
        strlen(list) == sizeof list - 1 ? "..." : "");
}

static PapaStatus check_arity(const PapaNode *node)
{
    const PapaOp *op = node->op;
    if (node->n_in < op->min_in || (op->max_in >= 0 && node->n_in > op->max_in))
        return papa_node_fail(node, PAPA_ERR_FORMAT, "has %d inputs, expected %d to %d", node->n_in, op->min_in, op->max_in);
    if (node->n_out < op->min_out || (op->max_out >= 0 && node->n_out > op->max_out))
        return papa_node_fail(node, PAPA_ERR_FORMAT, "has %d outputs, expected %d to %d", node->n_out, op->min_out, op->max_out);
    for (int i = 0; i < op->min_in; i++)
        if (!node->in[i])
            return papa_node_fail(node, PAPA_ERR_FORMAT, "its input %d is left out", i);
    return PAPA_OK;
}

static PapaStatus append_node(PapaGraph *graph, PapaNode *node)
{
    if (graph->n_nodes == graph->nodes_capacity) {
        int capacity = graph->nodes_capacity ? 2 * graph->nodes_capacity : 64;
        PapaNode **larger = PAPA_NEW_ARRAY(&graph->arena, PapaNode *, capacity);
        if (!larger)
            return PAPA_ERR_MEMORY;
        if (graph->n_nodes)
            memcpy(larger, graph->nodes, (size_t)graph->n_nodes * sizeof *larger);
        graph->nodes = larger;
        graph->nodes_capacity = capacity;
    }
    node->index = graph->n_nodes;
    graph->nodes[graph->n_nodes++] = node;
    return PAPA_OK;
}

static PapaStatus add_node(Reader *r, const Onnx__NodeProto *proto)
{
    PapaGraph *graph = r->graph;
    int64_t opset = papa_onnx_opset(r->onnx, proto->domain ? proto->domain : "");
    PapaNode *node = PAPA_NEW(&graph->arena, PapaNode);
    if (!node)
        return PAPA_ERR_MEMORY;
    *node = (PapaNode){
        .op = papa_op_find(proto->domain, proto->op_type, opset),
        .proto = proto,
        .label = papa_arena_strdup(&graph->arena, papa_node_label(proto)),
        .in = PAPA_NEW_ARRAY(&graph->arena, PapaValue *, proto->n_input),
        .out = PAPA_NEW_ARRAY(&graph->arena, PapaValue *, proto->n_output),
        .n_in = (int)proto->n_input,
        .n_out = (int)proto->n_output,
        .opset = opset,
    };
    if (!node->op)
        node->op = &papa_op_opaque; /* check_supported would have refused it */
    node->attrs = papa_arena_alloc(&graph->arena, node->op->attrs_bytes);
    if (!node->label || !node->in || !node->out || !node->attrs)
        return PAPA_ERR_MEMORY;
    for (int i = 0; i < node->n_in; i++)
        node->in[i] = *proto->input[i] ? papa_names_get(&r->values, proto->input[i]) : NULL;
    PAPA_TRY(check_arity(node));
    for (int i = 0; i < node->n_out; i++) {
        if (!*proto->output[i])
            continue;
        PapaValue *value = papa_graph_new_value(graph, proto->output[i], PAPA_VALUE_ACTIVATION, ONNX__TENSOR_PROTO__DATA_TYPE__UNDEFINED, NULL);
        if (!value)
            return PAPA_ERR_MEMORY;
        value->producer = node;
        node->out[i] = value;
        PAPA_TRY(papa_names_put(&r->values, value->name, value));
    }
    PAPA_TRY(append_node(graph, node));
    PapaStatus status = node->op->init ? node->op->init(node, graph) : PAPA_OK;
    if (status != PAPA_ERR_UNSUPPORTED || !graph->opaque)
        return status;
    node->op = &papa_op_opaque;
    return PAPA_OK;
}

/* ---------------------------------------------------------------- roles */

/* What the passes over roles know of each value, by index. */
typedef struct RoleState {
    bool from_tensor; /* a float tensor of the file, or one that was only moved or renamed */
    bool single;      /* likewise, of one element */
    bool raw;         /* depends on the graph's inputs through no weight */
} RoleState;

static PapaRole role_at(const PapaNode *node, int i, int64_t *fan_in)
{
    *fan_in = 0;
    return node->op->role ? node->op->role(node, i, fan_in) : PAPA_ROLE_NONE;
}

/* The shape of a moved tensor, which role functions look at. */
static PapaStatus shape_moved(PapaNode *node, PapaGraph *graph)
{
    for (int i = 0; i < node->n_in; i++)
        if (node->in[i] && (!node->in[i]->has_shape || (i > 0 && node->in[i]->kind != PAPA_VALUE_CONSTANT)))
            return PAPA_OK;
    PapaStatus status = node->op->shape(node, graph);
    return status == PAPA_ERR_UNSUPPORTED && graph->opaque ? PAPA_OK : status; /* papa_graph_infer sees to it */
}

static PapaStatus mark_sources(PapaGraph *graph, RoleState *states)
{
    for (int k = 0; k < graph->n_nodes; k++) {
        PapaNode *node = graph->nodes[k];
        bool raw = false, learned = false;
        for (int i = 0; i < node->n_in; i++)
            if (node->in[i])
                raw |= states[node->in[i]->index].raw;
        node->on_input = raw;
        for (int i = 0; i < node->n_in; i++) {
            int64_t fan_in;
            PapaRole role = node->in[i] && states[node->in[i]->index].from_tensor ? role_at(node, i, &fan_in) : PAPA_ROLE_NONE;
            learned |= role == PAPA_ROLE_WEIGHT || (role != PAPA_ROLE_NONE && node->op->normalizes);
        }
        bool moved = node->op->carries_role && node->in[0] && states[node->in[0]->index].from_tensor;
        if (moved)
            PAPA_TRY(shape_moved(node, graph));
        const bool of_shape = node->op->fold_by_shape && !node->op->carries_role; /* Shape: no element is read */
        for (int i = 0; i < node->n_out; i++)
            if (node->out[i])
                states[node->out[i]->index] = (RoleState){
                    .from_tensor = moved, .single = moved && states[node->in[0]->index].single, .raw = raw && !learned && !of_shape};
    }
    return PAPA_OK;
}

static void take_role(PapaValue *value, PapaRole role, int64_t fan_in)
{
    if (role == PAPA_ROLE_NONE || value->role == PAPA_ROLE_WEIGHT)
        return;
    if (value->role == PAPA_ROLE_NONE || role == PAPA_ROLE_WEIGHT) {
        value->role = role;
        value->fan_in = fan_in;
    }
}

/* A float tensor without a role is a constant; its numbers are read now. */
static PapaStatus read_constant(PapaGraph *graph, PapaValue *value)
{
    int64_t n = papa_shape_count(&value->shape);
    float *data = PAPA_NEW_ARRAY(&graph->arena, float, n + 1);
    if (!data)
        return PAPA_ERR_MEMORY;
    PAPA_TRY(papa_tensor_read_float(graph->onnx, value->tensor, data, n));
    value->kind = PAPA_VALUE_CONSTANT;
    value->data = data;
    return PAPA_OK;
}

static PapaStatus find_roles(PapaGraph *graph)
{
    RoleState *states = PAPA_NEW_ARRAY(&graph->arena, RoleState, graph->n_values);
    bool *read = PAPA_NEW_ARRAY(&graph->arena, bool, graph->n_values);
    if (!states || !read)
        return PAPA_ERR_MEMORY;
    for (int i = 0; i < graph->n_values; i++) {
        const PapaValue *value = graph->values[i];
        const bool tensor = value->kind == PAPA_VALUE_TENSOR;
        states[i] = (RoleState){tensor, tensor && papa_shape_count(&value->shape) == 1, value->kind == PAPA_VALUE_INPUT};
    }
    PAPA_TRY(mark_sources(graph, states));
    for (int k = graph->n_nodes - 1; k >= 0; k--) {
        PapaNode *node = graph->nodes[k];
        for (int i = 0; i < node->n_in; i++) {
            if (!node->in[i])
                continue;
            read[node->in[i]->index] = true;
            if (!states[node->in[i]->index].from_tensor)
                continue;
            int64_t fan_in;
            PapaRole role = role_at(node, i, &fan_in);
            take_role(node->in[i], role, fan_in);
            const bool carried = i == 0 && node->op->carries_role && !(node->op->repeats && states[node->in[0]->index].single);
            for (int j = 0; j < node->n_out && carried; j++)
                if (node->out[j])
                    take_role(node->in[0], node->out[j]->role, node->out[j]->fan_in);
        }
    }
    for (int i = 0; i < graph->n_outputs; i++)
        read[graph->outputs[i]->index] = true;
    for (int i = 0; i < graph->n_values; i++) {
        PapaValue *value = graph->values[i];
        if (value->kind == PAPA_VALUE_TENSOR && value->role == PAPA_ROLE_NONE && read[i])
            PAPA_TRY(read_constant(graph, value));
    }
    return PAPA_OK;
}

/* ---------------------------------------------------------------- the whole */

static int64_t first_dim(const Onnx__ValueInfoProto *input)
{
    const Onnx__TypeProto__Tensor *tensor = papa_tensor_type(input);
    const Onnx__TensorShapeProto *shape = tensor ? tensor->shape : NULL;
    const Onnx__TensorShapeProto__Dimension *dim = shape && shape->n_dim ? shape->dim[0] : NULL;
    return dim && dim->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE && dim->dim_value > 0 ? dim->dim_value : 0;
}

static PapaStatus add_inputs(Reader *r)
{
    PapaGraph *graph = r->graph;
    for (size_t i = 0; i < r->proto->n_initializer; i++)
        PAPA_TRY(papa_names_put(&r->values, r->proto->initializer[i]->name, r->proto->initializer[i])); /* a mark; replaced when needed */
    graph->inputs = PAPA_NEW_ARRAY(&graph->arena, PapaValue *, r->proto->n_input);
    if (!graph->inputs)
        return PAPA_ERR_MEMORY;
    for (size_t i = 0; i < r->proto->n_input; i++) {
        const Onnx__ValueInfoProto *input = r->proto->input[i];
        if (papa_names_get(&r->values, input->name))
            continue; /* an initializer: before IR 4 they are listed here too */
        const Onnx__TypeProto__Tensor *tensor = papa_tensor_type(input);
        PapaValue *value = papa_graph_new_value(graph, input->name, PAPA_VALUE_INPUT, tensor ? tensor->elem_type : 0, NULL);
        if (!value)
            return PAPA_ERR_MEMORY;
        if (!graph->n_inputs)
            graph->file_batch = first_dim(input);
        graph->inputs[graph->n_inputs++] = value;
        PAPA_TRY(papa_names_put(&r->values, value->name, value));
    }
    return PAPA_OK;
}

/* Reads the initializers and Constants that the ordered nodes and the outputs use. */
static PapaStatus add_used_tensors(Reader *r, const Order *order, const char *const *outputs, int n_outputs)
{
    PapaNames used = {.arena = &r->graph->arena};
    for (size_t i = 0; i < order->n; i++)
        for (size_t k = 0; k < order->nodes[i]->n_input; k++)
            PAPA_TRY(papa_names_put(&used, order->nodes[i]->input[k], r));
    for (int i = 0; i < n_outputs; i++)
        PAPA_TRY(papa_names_put(&used, outputs[i], r));
    for (size_t i = 0; i < r->proto->n_initializer; i++)
        if (papa_names_get(&used, r->proto->initializer[i]->name))
            PAPA_TRY(add_tensor(r, r->proto->initializer[i]->name, r->proto->initializer[i]));
    for (size_t i = 0; i < order->n; i++)
        if (is_constant_node(order->nodes[i]))
            PAPA_TRY(add_constant(r, order->nodes[i]));
    return PAPA_OK;
}

static PapaStatus read_graph(Reader *r, const PapaGraphOptions *options)
{
    PapaGraph *graph = r->graph;
    int n_outputs = options->outputs ? options->n_outputs : (int)r->proto->n_output;
    const char **outputs = PAPA_NEW_ARRAY(&graph->arena, const char *, n_outputs);
    graph->outputs = PAPA_NEW_ARRAY(&graph->arena, PapaValue *, n_outputs);
    if (!outputs || !graph->outputs)
        return PAPA_ERR_MEMORY;
    for (int i = 0; i < n_outputs; i++)
        outputs[i] = options->outputs ? options->outputs[i] : r->proto->output[i]->name;

    int64_t opset = papa_onnx_opset(r->onnx, "");
    if (opset > NEWEST_OPSET) /* operators may have changed their meaning */
        return papa_fail(PAPA_ERR_UNSUPPORTED, "opset %lld is newer than %d, the newest that papa knows", (long long)opset, NEWEST_OPSET);
    Order order;
    PAPA_TRY(add_inputs(r));
    PAPA_TRY(find_producers(r));
    PAPA_TRY(order_nodes(r, &order, outputs, n_outputs));
    if (!graph->opaque)
        PAPA_TRY(check_supported(r, &order));
    PAPA_TRY(add_used_tensors(r, &order, outputs, n_outputs));
    for (size_t i = 0; i < order.n; i++)
        if (!is_constant_node(order.nodes[i]))
            PAPA_TRY(add_node(r, order.nodes[i]));
    for (int i = 0; i < n_outputs; i++)
        graph->outputs[graph->n_outputs++] = papa_names_get(&r->values, outputs[i]);
    return find_roles(graph);
}

PapaStatus papa_graph_read(PapaGraph **out, const PapaOnnx *onnx, const PapaGraphOptions *options)
{
    PapaArena arena = PAPA_ARENA_INIT;
    PapaGraph *graph = PAPA_NEW(&arena, PapaGraph);
    if (!graph)
        return PAPA_ERR_MEMORY;
    *graph = (PapaGraph){.onnx = onnx, .arena = arena, .mode = options->mode, .frozen_stats = options->frozen_stats, .opaque = options->opaque, .dropout = !options->no_dropout};
    Reader reader = {.graph = graph, .onnx = onnx, .proto = papa_onnx_graph(onnx)};
    reader.values.arena = reader.producers.arena = &graph->arena;
    PapaStatus status = read_graph(&reader, options);
    if (status != PAPA_OK) {
        papa_graph_free(graph);
        return papa_fail_in(status, "%s", papa_onnx_path(onnx));
    }
    *out = graph;
    return PAPA_OK;
}
