/* Nodes in canonical form: what ONNX lets one write in several ways comes out in one. */
#include "onnx/pair_build.h"

#define CALL "call of a function"

/* What a name stands for. The unit that defines it is done. */
static PapaStatus resolve(PapaPairBuilder *b, const PapaPairUnit *reader, int32_t scope, const char *name, PapaPairReference *out);

static PapaStatus input_reference(PapaPairBuilder *b, const PapaPairUnit *unit, size_t k, PapaPairReference *out)
{
    return resolve(b, unit, unit->scope, unit->proto->input[k], out);
}

static bool has_input(const Onnx__NodeProto *node, size_t k)
{
    return k < node->n_input && *node->input[k];
}

/* A tensor as one input reads it. */
static PapaStatus read_tensor(PapaPairBuilder *b, int32_t tensor, bool transposed, int32_t *value)
{
    PapaPairTensor *t = &b->graph->tensors[tensor];
    bool is_shared = !b->split && !t->is_small;
    const char *text;
    if (is_shared && t->face[transposed] >= 0) {
        *value = t->face[transposed];
        return PAPA_OK;
    }
    PAPA_TRY(papa_pair_tensor_text(&b->graph->arena, b->onnx, t, transposed, &text));
    PapaPairValue read = {.name = t->stored.name, .producer = -1, .tensor = tensor, .transposed = transposed};
    PAPA_TRY(papa_pair_add_value(b, read, text, value));
    if (!is_shared)
        return PAPA_OK;
    t->face[transposed] = *value;
    if (t->face[!transposed] >= 0) {
        b->graph->values[*value].twin = t->face[!transposed];
        b->graph->values[t->face[!transposed]].twin = *value;
    }
    return PAPA_OK;
}

/* ---------------------------------------------------------------- canonical nodes */

/* A node on its way into the graph. */
typedef struct Draft {
    const Onnx__NodeProto *proto; /* NULL: the outputs of a scope */
    int32_t order;
    const char *type;
    PapaPairAttr *attrs;
    int32_t n_attrs;
    PapaPairInput *inputs;
    int32_t n_inputs;
} Draft;

static PapaStatus open_draft(PapaPairBuilder *b, Draft *draft, const PapaPairUnit *unit, const char *type, size_t most_inputs)
{
    *draft = (Draft){.proto = unit->proto, .order = (int32_t)(unit - b->units), .type = type};
    draft->attrs = PAPA_NEW_ARRAY(&b->graph->arena, PapaPairAttr, PAPA_PAIR_ATTRS_MORE);
    draft->inputs = PAPA_NEW_ARRAY(&b->graph->arena, PapaPairInput, most_inputs);
    return draft->attrs && draft->inputs ? PAPA_OK : PAPA_ERR_MEMORY;
}

static bool commutes(const char *type)
{
    static const char *const types[] = {"Add", "Mul", "Sum", "Max", "Min", "Mean", "And", "Or", "Xor", "Equal", "BitwiseAnd", "BitwiseOr",
        "BitwiseXor"};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!strcmp(types[i], type))
            return true;
    return false;
}

/* One text for operator, domain, attributes and number of inputs. A call has no name: what it calls is an input. */
static PapaStatus label_draft(PapaPairBuilder *b, const Draft *draft, int32_t *label)
{
    PapaArena scratch = {0};
    const char *domain = draft->proto && !papa_node_is_onnx(draft->proto) ? draft->proto->domain : "";
    const char *overload = draft->proto && draft->proto->overload ? draft->proto->overload : "";
    if (!strcmp(draft->type, CALL))
        domain = overload = "";
    char *text = papa_arena_printf(&scratch, "%s '%s' '%s' of %d", draft->type, domain, overload, (int)draft->n_inputs);
    for (int32_t i = 0; i < draft->n_attrs && text; i++)
        text = papa_arena_printf(&scratch, "%s, %s %s", text, draft->attrs[i].name, draft->attrs[i].text);
    PapaStatus status = text ? papa_pair_label(b->labels, text, label) : PAPA_ERR_MEMORY;
    papa_arena_free(&scratch);
    return status;
}

static PapaStatus close_draft(PapaPairBuilder *b, const Draft *draft, int32_t *index)
{
    PapaPairGraph *g = b->graph;
    PapaPairNode node = {.proto = draft->proto, .order = draft->order, .type = draft->type, .attrs = draft->attrs, .n_attrs = draft->n_attrs,
        .inputs = draft->inputs, .n_inputs = draft->n_inputs, .first_output = -1};
    PAPA_TRY(label_draft(b, draft, &node.label));
    PAPA_TRY(papa_pair_reserve(&g->nodes, (size_t)g->n_nodes, &b->nodes_capacity, sizeof *g->nodes));
    for (int32_t i = 0; i < node.n_inputs; i++)
        if (draft->proto && papa_node_is_onnx(draft->proto) && commutes(draft->type))
            node.inputs[i].slot = 0;
    *index = g->n_nodes;
    g->nodes[g->n_nodes++] = node;
    return PAPA_OK;
}

/* The value of a node's output, made when it is first asked for. */
static PapaStatus node_output(PapaPairBuilder *b, int32_t node, int32_t slot, const char *name, int32_t *value)
{
    PapaPairGraph *g = b->graph;
    for (*value = g->nodes[node].first_output; *value >= 0; *value = g->values[*value].next_output)
        if (g->values[*value].slot == slot)
            return PAPA_OK;
    PapaPairValue output = {.name = name, .producer = node, .slot = slot, .tensor = -1};
    PAPA_TRY(papa_pair_add_value(b, output, "a node's output", value));
    g->values[*value].next_output = g->nodes[node].first_output;
    g->nodes[node].first_output = *value;
    return PAPA_OK;
}

/* The transpose of a computed matrix, by a node between it and its readers. */
static PapaStatus read_flipped(PapaPairBuilder *b, const Draft *reader, int32_t from, int32_t *value)
{
    Draft draft = {.proto = reader->proto, .order = reader->order, .type = "Transpose", .n_inputs = 1};
    int32_t node;
    *value = b->graph->values[from].flipped;
    if (*value >= 0)
        return PAPA_OK;
    draft.attrs = PAPA_NEW_ARRAY(&b->graph->arena, PapaPairAttr, 1);
    draft.inputs = PAPA_NEW(&b->graph->arena, PapaPairInput);
    if (!draft.attrs || !draft.inputs)
        return PAPA_ERR_MEMORY;
    papa_pair_set_attr(draft.attrs, &draft.n_attrs, "perm", "[1, 0]");
    draft.inputs[0].value = from;
    PAPA_TRY(close_draft(b, &draft, &node));
    PAPA_TRY(node_output(b, node, 0, NULL, value));
    b->graph->values[from].flipped = *value;
    return PAPA_OK;
}

static PapaStatus add_input(PapaPairBuilder *b, Draft *draft, PapaPairReference from, size_t slot)
{
    PapaPairInput *to = &draft->inputs[draft->n_inputs++];
    to->slot = slot < PAPA_PAIR_SLOTS ? (int32_t)slot : PAPA_PAIR_SLOTS - 1;
    to->value = from.value;
    if (from.value < 0)
        return read_tensor(b, from.tensor, from.transposed, &to->value);
    return from.transposed ? read_flipped(b, draft, from.value, &to->value) : PAPA_OK;
}

static PapaStatus resolve(PapaPairBuilder *b, const PapaPairUnit *reader, int32_t scope, const char *name, PapaPairReference *out)
{
    PapaPairDefinition *definition = papa_pair_find_definition(b, scope, name);
    *out = (PapaPairReference){.value = -1, .tensor = -1};
    if (!definition)
        return papa_pair_fail_undefined(reader, name);
    if (definition->kind == PAPA_DEFINES_INPUT) {
        char label[64];
        snprintf(label, sizeof label, "inner graph's input %d", (int)definition->position);
        if (definition->index < 0)
            PAPA_TRY(papa_pair_add_source(b, name, label, &definition->index));
        out->value = definition->index;
        return PAPA_OK;
    }
    if (definition->kind == PAPA_DEFINES_TENSOR) {
        out->tensor = definition->index;
        return PAPA_OK;
    }
    const PapaPairUnit *unit = &b->units[definition->index];
    if (unit->node >= 0)
        return node_output(b, unit->node, definition->position, name, &out->value);
    *out = unit->alias;
    return PAPA_OK;
}

/* ---------------------------------------------------------------- units */

/* The tensor's dims where the reference is a stored dense one, else NULL. */
static const Onnx__TensorProto *dense_tensor(const PapaPairBuilder *b, PapaPairReference reference)
{
    return reference.value < 0 ? b->graph->tensors[reference.tensor].stored.tensor : NULL;
}

/* A Transpose of a matrix, which is one where it is stored or where perm says so. */
static PapaStatus try_transpose(PapaPairBuilder *b, PapaPairUnit *unit, bool *is_alias)
{
    const int64_t *perm;
    size_t n;
    PAPA_TRY(papa_attr_ints(unit->proto, "perm", &perm, &n));
    PAPA_TRY(input_reference(b, unit, 0, &unit->alias));
    const Onnx__TensorProto *dense = dense_tensor(b, unit->alias);
    bool is_vector = dense && dense->n_dims < 2 && n == 0, is_matrix = n ? n == 2 : dense && dense->n_dims == 2;
    bool reverses = is_matrix && (!n || (perm[0] == 1 && perm[1] == 0));
    *is_alias = is_vector || reverses;
    unit->alias.transposed ^= reverses;
    return PAPA_OK;
}

/* MatMul and Add, or a Gemm without transB where it does more. */
static PapaStatus emit_gemm(PapaPairBuilder *b, PapaPairUnit *unit)
{
    const Onnx__NodeProto *node = unit->proto;
    PapaPairReference in[3];
    Draft draft;
    float alpha, beta;
    int64_t trans_a, trans_b;
    bool has_c = has_input(node, 2);
    PAPA_TRY(papa_attr_float(node, "alpha", 1, &alpha));
    PAPA_TRY(papa_attr_float(node, "beta", 1, &beta));
    PAPA_TRY(papa_attr_int(node, "transA", 0, &trans_a));
    PAPA_TRY(papa_attr_int(node, "transB", 0, &trans_b));
    for (size_t k = 0; k < 2 + (size_t)has_c; k++)
        PAPA_TRY(input_reference(b, unit, k, &in[k]));
    in[1].transposed ^= trans_b != 0;
    bool is_plain = alpha == 1 && (beta == 1 || !has_c) && !trans_a;
    PAPA_TRY(open_draft(b, &draft, unit, is_plain ? "MatMul" : "Gemm", 3));
    if (!is_plain)
        PAPA_TRY(papa_pair_attrs(&b->graph->arena, b->onnx, node, "Gemm", &draft.attrs, &draft.n_attrs));
    for (size_t k = 0; k < 2 + (size_t)(has_c && !is_plain); k++)
        PAPA_TRY(add_input(b, &draft, in[k], k));
    PAPA_TRY(close_draft(b, &draft, &unit->node));
    if (!is_plain || !has_c)
        return PAPA_OK;
    in[0] = (PapaPairReference){.tensor = -1};
    PAPA_TRY(node_output(b, unit->node, 0, NULL, &in[0].value));
    PAPA_TRY(open_draft(b, &draft, unit, "Add", 2));
    PAPA_TRY(add_input(b, &draft, in[0], 0));
    PAPA_TRY(add_input(b, &draft, in[2], 1));
    return close_draft(b, &draft, &unit->node);
}

/* The integers that input k is, where they are stored; *n is -1 else. */
static PapaStatus stored_ints(PapaPairBuilder *b, const PapaPairUnit *unit, size_t k, int64_t to[4], int *n)
{
    PapaPairReference input;
    *n = -1;
    if (!has_input(unit->proto, k))
        return PAPA_OK;
    PAPA_TRY(input_reference(b, unit, k, &input));
    return input.value < 0 ? papa_pair_ints(b->onnx, &b->graph->tensors[input.tensor], to, 4, n) : PAPA_OK;
}

/* A ReduceMean that is a GlobalAveragePool of maps. */
static PapaStatus is_global_mean(PapaPairBuilder *b, const PapaPairUnit *unit, bool *is)
{
    int64_t axes[4] = {0}, keep;
    const int64_t *listed;
    size_t n_listed;
    int n;
    PAPA_TRY(papa_attr_int(unit->proto, "keepdims", 1, &keep));
    PAPA_TRY(papa_attr_ints(unit->proto, "axes", &listed, &n_listed));
    PAPA_TRY(stored_ints(b, unit, 1, axes, &n));
    if (n_listed == 2)
        memcpy(axes, listed, 2 * sizeof *axes);
    int64_t low = axes[0] < axes[1] ? axes[0] : axes[1], high = axes[0] + axes[1] - low;
    *is = (n == 2 || n_listed == 2) && keep && ((low == -2 && high == -1) || (low == 2 && high == 3));
    return PAPA_OK;
}

/* The operator of one input that the node is another form of; NULL: none. */
static PapaStatus other_form(PapaPairBuilder *b, const PapaPairUnit *unit, const char **type)
{
    bool is_mean = false;
    int64_t shape[4];
    int n = 0;
    *type = NULL;
    if (papa_node_is_type(unit->proto, "ReduceMean"))
        PAPA_TRY(is_global_mean(b, unit, &is_mean));
    if (papa_node_is_type(unit->proto, "Reshape"))
        PAPA_TRY(stored_ints(b, unit, 1, shape, &n));
    if (is_mean)
        *type = "GlobalAveragePool";
    else if (n == 2)
        *type = "Flatten";
    return PAPA_OK;
}

/* kernel_shape as the weight has it, said or not. */
static PapaStatus set_kernel_shape(PapaPairBuilder *b, const PapaPairUnit *unit, Draft *draft)
{
    PapaPairReference weight;
    if (!papa_node_is_onnx(unit->proto) || !strstr(draft->type, "Conv") || !has_input(unit->proto, 1))
        return PAPA_OK;
    PAPA_TRY(input_reference(b, unit, 1, &weight));
    const Onnx__TensorProto *dense = dense_tensor(b, weight);
    const char *text = "";
    for (size_t i = 2; dense && i < dense->n_dims && text; i++)
        text = papa_arena_printf(&b->graph->arena, "%s%s%lld", text, i > 2 ? "x" : "", (long long)dense->dims[i]);
    if (text && *text)
        papa_pair_set_attr(draft->attrs, &draft->n_attrs, "kernel_shape", text);
    return text ? PAPA_OK : PAPA_ERR_MEMORY;
}

/* The inputs of an inner graph that are read inside it: whose they are. */
static PapaStatus add_formals(PapaPairBuilder *b, Draft *draft, int32_t scope, size_t slot)
{
    for (size_t k = 0; k < b->scopes[scope].n_inputs; k++) {
        const PapaPairDefinition *definition = &b->definitions[b->scopes[scope].first_input + k];
        if (definition->index >= 0)
            PAPA_TRY(add_input(b, draft, (PapaPairReference){definition->index, -1, false}, slot + (size_t)definition->position));
    }
    return PAPA_OK;
}

/* What the subgraphs yield, and their inputs. */
static PapaStatus add_subgraphs(PapaPairBuilder *b, const PapaPairUnit *unit, Draft *draft)
{
    const size_t width = PAPA_PAIR_SLOTS >> 8;
    size_t slot = PAPA_PAIR_SLOTS / 2;
    for (int32_t scope = unit->first_child; scope < unit->first_child + unit->n_children; scope++, slot += 2 * width) {
        for (size_t k = 0; k < b->scopes[scope].n_outputs; k++) {
            PapaPairReference from;
            PAPA_TRY(resolve(b, unit, scope, papa_pair_output_name(&b->scopes[scope], k), &from));
            PAPA_TRY(add_input(b, draft, from, slot + k));
        }
        PAPA_TRY(add_formals(b, draft, scope, slot + width));
    }
    return PAPA_OK;
}

static PapaStatus emit_plain(PapaPairBuilder *b, PapaPairUnit *unit)
{
    const Onnx__NodeProto *node = unit->proto;
    PapaPairReference from;
    Draft draft;
    const char *form = NULL;
    size_t most = node->n_input + 1;
    for (int32_t c = 0; c < unit->n_children; c++)
        most += b->scopes[unit->first_child + c].n_outputs + b->scopes[unit->first_child + c].n_inputs;
    if (unit->function < 0)
        PAPA_TRY(other_form(b, unit, &form));
    PAPA_TRY(open_draft(b, &draft, unit, form ? form : unit->function >= 0 ? CALL : node->op_type, most));
    if (!form)
        PAPA_TRY(papa_pair_attrs(&b->graph->arena, b->onnx, node, draft.type, &draft.attrs, &draft.n_attrs));
    PAPA_TRY(set_kernel_shape(b, unit, &draft));
    for (size_t k = 0; k < (form ? 1 : node->n_input); k++) {
        if (!has_input(node, k))
            continue;
        PAPA_TRY(input_reference(b, unit, k, &from));
        PAPA_TRY(add_input(b, &draft, from, k));
    }
    PAPA_TRY(add_subgraphs(b, unit, &draft));
    if (unit->function >= 0) {
        from = (PapaPairReference){.tensor = -1};
        PAPA_TRY(node_output(b, b->units[unit->function].node, 0, NULL, &from.value));
        PAPA_TRY(add_input(b, &draft, from, PAPA_PAIR_SLOTS - 1));
    }
    return close_draft(b, &draft, &unit->node);
}

/* What a scope yields, as the inputs of a node of its own. */
static PapaStatus emit_outputs(PapaPairBuilder *b, PapaPairUnit *unit)
{
    const PapaPairScope *scope = &b->scopes[unit->scope];
    Onnx__NodeProto parameters = ONNX__NODE_PROTO__INIT; /* a function's attributes, as if they were its node's */
    Draft draft;
    PAPA_TRY(open_draft(b, &draft, unit, unit->body ? "a function's outputs" : "the graph's outputs", scope->n_outputs + scope->n_inputs));
    if (unit->body) {
        parameters.attribute = unit->body->attribute_proto;
        parameters.n_attribute = unit->body->n_attribute_proto;
        PAPA_TRY(papa_pair_attrs(&b->graph->arena, b->onnx, &parameters, CALL, &draft.attrs, &draft.n_attrs));
    }
    for (size_t k = 0; k < scope->n_outputs; k++) {
        PapaPairReference from;
        PAPA_TRY(resolve(b, unit, unit->scope, papa_pair_output_name(scope, k), &from));
        PAPA_TRY(add_input(b, &draft, from, k));
    }
    PAPA_TRY(add_formals(b, &draft, unit->scope, PAPA_PAIR_SLOTS / 2));
    return close_draft(b, &draft, &unit->node);
}

PapaStatus papa_pair_emit(PapaPairBuilder *b, PapaPairUnit *unit)
{
    bool is_alias = unit->is_nothing;
    if (!unit->proto)
        return emit_outputs(b, unit);
    if (is_alias)
        return input_reference(b, unit, 0, &unit->alias);
    if (unit->function < 0 && papa_node_is_type(unit->proto, "Transpose") && has_input(unit->proto, 0))
        PAPA_TRY(try_transpose(b, unit, &is_alias));
    if (is_alias)
        return PAPA_OK;
    if (unit->function < 0 && papa_node_is_type(unit->proto, "Gemm") && has_input(unit->proto, 0) && has_input(unit->proto, 1))
        return emit_gemm(b, unit);
    return emit_plain(b, unit);
}

