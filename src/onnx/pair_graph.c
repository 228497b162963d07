/* A model's graph in canonical form.
 *
 * First every scope (the graph, subgraphs, functions' bodies) is entered: which name means which input, tensor or node's output. A node is
 * then a unit with dependencies, by name; a walk from the outputs along them visits what is alive, dependencies first, and each
 * unit puts its canonical nodes into the graph, or stands for another value where it does nothing (Identity). */
#include "onnx/pair_graph.h"

#include <stdlib.h>
#include <string.h>

#define ATTRIBUTE(id) ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__##id
#define CALL "call of a function"

typedef enum DefinitionKind { DEFINES_INPUT, DEFINES_TENSOR, DEFINES_OUTPUT } DefinitionKind;

/* What a name means. */
typedef struct Definition {
    DefinitionKind kind;
    int32_t index;    /* of the value (-1: not read yet), tensor or unit */
    int32_t position; /* among the unit's outputs, or the inputs of an inner graph */
} Definition;

typedef struct Scope {
    int32_t outer;              /* -1: none */
    PapaNameMap names;          /* -> definitions */
    size_t first_input, n_inputs; /* definitions of an inner graph's inputs */
    char *const *output_names;  /* what the scope yields: of a function */
    Onnx__ValueInfoProto *const *outputs; /* or of a graph */
    size_t n_outputs;
} Scope;

/* What a name stands for in the canonical graph. */
typedef struct Reference {
    int32_t value;   /* -1: a tensor */
    int32_t tensor;
    bool transposed; /* the matrix is read so */
} Reference;

typedef enum UnitState { UNIT_NEW, UNIT_ON_THE_WAY, UNIT_DONE } UnitState;

typedef struct Unit {
    const Onnx__NodeProto *proto; /* NULL: the outputs of a scope */
    const Onnx__FunctionProto *body; /* of a function's outputs */
    int32_t scope;                /* where it stands; of outputs: whose they are */
    int32_t first_child, n_children; /* scopes of its subgraphs */
    int32_t function;             /* the unit of the function that it calls, -1: none */
    UnitState state;
    size_t next;                  /* dependency to look at */
    bool is_nothing;              /* its first input is its output */
    int32_t node;                 /* in the graph, -1: an alias */
    Reference alias;
} Unit;

typedef struct Builder {
    PapaPairGraph *graph;
    PapaPairLabels *labels;
    const PapaOnnx *onnx;
    bool split;
    Scope *scopes;
    size_t n_scopes, scopes_capacity;
    Unit *units;
    size_t n_units, units_capacity;
    Definition *definitions;
    size_t n_definitions, definitions_capacity;
    int32_t *functions;         /* units of the model's functions */
    PapaNameMap read;           /* names that some node or graph reads */
    size_t tensors_capacity, nodes_capacity, values_capacity;
} Builder;

/* Room for one more in a list. */
static PapaStatus reserve(void *list, size_t n, size_t *capacity, size_t size)
{
    if (n < *capacity)
        return PAPA_OK;
    size_t larger = *capacity ? 2 * *capacity : 64;
    void *old, *grown;
    memcpy(&old, list, sizeof old);
    grown = larger < INT32_MAX ? realloc(old, larger * size) : NULL;
    if (!grown)
        return papa_fail_memory(larger * size, "a graph to pair");
    memcpy(list, &grown, sizeof grown);
    *capacity = larger;
    return PAPA_OK;
}

static PapaStatus fail_format(const char *what, const char *name)
{
    return papa_fail(PAPA_ERR_FORMAT, "%s '%.200s'", what, name ? name : "");
}

static bool is_onnx(const Onnx__NodeProto *node)
{
    return !node->domain || !*node->domain || !strcmp(node->domain, "ai.onnx");
}

static bool is_type(const Onnx__NodeProto *node, const char *type)
{
    return is_onnx(node) && !strcmp(node->op_type, type);
}

/* ---------------------------------------------------------------- values */

static PapaStatus add_value(Builder *b, PapaPairValue value, const char *label, int32_t *index)
{
    PapaPairGraph *g = b->graph;
    PAPA_TRY(reserve(&g->values, (size_t)g->n_values, &b->values_capacity, sizeof *g->values));
    PAPA_TRY(papa_pair_label(b->labels, label, &value.label));
    value.next_output = value.twin = value.flipped = -1;
    *index = g->n_values;
    g->values[g->n_values++] = value;
    return PAPA_OK;
}

static PapaStatus add_source(Builder *b, const char *name, const char *label, int32_t *index)
{
    return add_value(b, (PapaPairValue){.name = name, .producer = -1, .tensor = -1}, label, index);
}

/* A tensor as one input reads it. */
static PapaStatus read_tensor(Builder *b, int32_t tensor, bool transposed, int32_t *value)
{
    PapaPairTensor *t = &b->graph->tensors[tensor];
    bool is_shared = !b->split && !t->is_small;
    const char *text;
    if (is_shared && t->face[transposed] >= 0) {
        *value = t->face[transposed];
        return PAPA_OK;
    }
    PAPA_TRY(papa_pair_tensor_text(&b->graph->arena, b->onnx, t, transposed, &text));
    PAPA_TRY(add_value(b, (PapaPairValue){.name = t->stored.name, .producer = -1, .tensor = tensor, .transposed = transposed}, text, value));
    if (!is_shared)
        return PAPA_OK;
    t->face[transposed] = *value;
    if (t->face[!transposed] >= 0) {
        b->graph->values[*value].twin = t->face[!transposed];
        b->graph->values[t->face[!transposed]].twin = *value;
    }
    return PAPA_OK;
}

/* ---------------------------------------------------------------- scopes */

static PapaStatus define(Builder *b, int32_t scope, const char *name, Definition definition)
{
    bool added;
    if (!name || !*name)
        return PAPA_OK;
    PAPA_TRY(reserve(&b->definitions, b->n_definitions, &b->definitions_capacity, sizeof *b->definitions));
    b->definitions[b->n_definitions] = definition;
    PAPA_TRY(papa_name_map_add(&b->scopes[scope].names, name, (int64_t)b->n_definitions++, &added));
    return added ? PAPA_OK : fail_format("two nodes, initializers or inputs define", name);
}

static PapaStatus add_scope(Builder *b, int32_t outer, int32_t *index)
{
    PAPA_TRY(reserve(&b->scopes, b->n_scopes, &b->scopes_capacity, sizeof *b->scopes));
    *index = (int32_t)b->n_scopes;
    b->scopes[b->n_scopes++] = (Scope){.outer = outer};
    return PAPA_OK;
}

static PapaStatus add_unit(Builder *b, Unit unit, int32_t *index)
{
    PAPA_TRY(reserve(&b->units, b->n_units, &b->units_capacity, sizeof *b->units));
    unit.node = unit.function = -1;
    *index = (int32_t)b->n_units;
    b->units[b->n_units++] = unit;
    return PAPA_OK;
}

static PapaStatus add_tensor(Builder *b, int32_t scope, PapaPairTensor tensor)
{
    PapaPairGraph *g = b->graph;
    tensor.face[0] = tensor.face[1] = -1;
    tensor.is_small = papa_pair_is_small(&tensor);
    PAPA_TRY(reserve(&g->tensors, (size_t)g->n_tensors, &b->tensors_capacity, sizeof *g->tensors));
    g->tensors[g->n_tensors] = tensor;
    return define(b, scope, tensor.stored.name, (Definition){DEFINES_TENSOR, g->n_tensors++, 0});
}

/* An input of a subgraph or a function: a value once it is read. */
static PapaStatus add_formal(Builder *b, int32_t scope, const char *name, size_t position)
{
    if (!name || !*name)
        return fail_format("without a name is an input of", "a subgraph or function");
    if (!b->scopes[scope].n_inputs++)
        b->scopes[scope].first_input = b->n_definitions;
    return define(b, scope, name, (Definition){DEFINES_INPUT, -1, (int32_t)position});
}

static PapaStatus enter_graph(Builder *b, const Onnx__GraphProto *graph, int32_t scope);

/* The tensor that a Constant holds, if its value is not an attribute of a function. */
static bool constant_tensor(const Onnx__NodeProto *node, PapaPairTensor *out)
{
    if (!is_type(node, "Constant") || node->n_attribute != 1 || node->n_output != 1)
        return false;
    const Onnx__AttributeProto *attr = node->attribute[0];
    *out = (PapaPairTensor){.stored = {.name = node->output[0], .constant = node}};
    if (attr->ref_attr_name && *attr->ref_attr_name)
        return false;
    switch ((int)attr->type) {
    case ATTRIBUTE(TENSOR):
        out->stored.tensor = attr->t;
        return attr->t;
    case ATTRIBUTE(SPARSE_TENSOR):
        out->stored.sparse = attr->sparse_tensor;
        return attr->sparse_tensor;
    case ATTRIBUTE(FLOAT):
    case ATTRIBUTE(FLOATS):
    case ATTRIBUTE(INT):
    case ATTRIBUTE(INTS):
    case ATTRIBUTE(STRING):
    case ATTRIBUTE(STRINGS):
        out->numbers = attr;
        return true;
    default:
        return false;
    }
}

/* The subgraphs of a node, each a scope of its own. They stand one after the other; what is inside them comes behind. */
static PapaStatus enter_subgraphs(Builder *b, int32_t unit)
{
    const Onnx__NodeProto *node = b->units[unit].proto;
    int32_t scope, first = (int32_t)b->n_scopes;
    for (size_t i = 0; i < node->n_attribute; i++)
        for (size_t k = 0; k < node->attribute[i]->n_graphs + (node->attribute[i]->g != NULL); k++)
            PAPA_TRY(add_scope(b, b->units[unit].scope, &scope));
    b->units[unit].first_child = first;
    b->units[unit].n_children = (int32_t)b->n_scopes - first;
    scope = first;
    for (size_t i = 0; i < node->n_attribute; i++) {
        const Onnx__AttributeProto *attr = node->attribute[i];
        if (attr->g)
            PAPA_TRY(enter_graph(b, attr->g, scope++));
        for (size_t k = 0; k < attr->n_graphs; k++)
            PAPA_TRY(enter_graph(b, attr->graphs[k], scope++));
    }
    return PAPA_OK;
}

static PapaStatus enter_node(Builder *b, const Onnx__NodeProto *node, int32_t scope)
{
    PapaPairTensor tensor;
    int32_t unit;
    if (!node->op_type || !*node->op_type)
        return fail_format("a node without operator type, named", node->name);
    for (size_t i = 0; i < node->n_attribute; i++)
        if (!node->attribute[i]->name)
            return fail_format("an attribute without a name, of", papa_node_label(node));
    if (constant_tensor(node, &tensor))
        return add_tensor(b, scope, tensor);
    PAPA_TRY(add_unit(b, (Unit){.proto = node, .scope = scope}, &unit));
    for (size_t i = 0; i < node->n_input; i++)
        PAPA_TRY(papa_name_map_add(&b->read, node->input[i], 0, NULL));
    for (size_t i = 0; i < node->n_output; i++)
        PAPA_TRY(define(b, scope, node->output[i], (Definition){DEFINES_OUTPUT, unit, (int32_t)i}));
    return enter_subgraphs(b, unit);
}

static PapaStatus enter_tensors(Builder *b, const Onnx__GraphProto *graph, int32_t scope)
{
    for (size_t i = 0; i < graph->n_initializer; i++) {
        const Onnx__TensorProto *tensor = graph->initializer[i];
        PAPA_TRY(add_tensor(b, scope, (PapaPairTensor){.stored = {.name = tensor->name, .tensor = tensor}}));
    }
    for (size_t i = 0; i < graph->n_sparse_initializer; i++) {
        const Onnx__SparseTensorProto *sparse = graph->sparse_initializer[i];
        const char *name = sparse->values ? sparse->values->name : NULL;
        PAPA_TRY(add_tensor(b, scope, (PapaPairTensor){.stored = {.name = name, .sparse = sparse}}));
    }
    return PAPA_OK;
}

/* The main graph's inputs are defined already. Where an initializer has an input's name, the input is only its declaration. */
static PapaStatus enter_graph(Builder *b, const Onnx__GraphProto *graph, int32_t scope)
{
    PAPA_TRY(enter_tensors(b, graph, scope));
    for (size_t i = 0; i < graph->n_input && scope > 0; i++)
        if (!papa_name_map_find(&b->scopes[scope].names, graph->input[i]->name ? graph->input[i]->name : ""))
            PAPA_TRY(add_formal(b, scope, graph->input[i]->name, i));
    for (size_t i = 0; i < graph->n_node; i++)
        PAPA_TRY(enter_node(b, graph->node[i], scope));
    b->scopes[scope].outputs = graph->output;
    b->scopes[scope].n_outputs = graph->n_output;
    for (size_t i = 0; i < graph->n_output; i++)
        if (graph->output[i]->name)
            PAPA_TRY(papa_name_map_add(&b->read, graph->output[i]->name, 0, NULL));
    return PAPA_OK;
}

static PapaStatus enter_main(Builder *b, const PapaPairEnds *ends)
{
    int32_t scope;
    char label[64];
    PAPA_TRY(add_scope(b, -1, &scope));
    for (size_t i = 0; i < ends->n_inputs; i++) {
        Definition definition = {.kind = DEFINES_INPUT};
        snprintf(label, sizeof label, "graph input %zu", i);
        PAPA_TRY(add_source(b, ends->inputs[i]->name, label, &definition.index));
        PAPA_TRY(define(b, scope, ends->inputs[i]->name, definition));
    }
    PAPA_TRY(enter_graph(b, papa_onnx_graph(b->onnx), scope));
    b->scopes[scope].outputs = (Onnx__ValueInfoProto *const *)ends->outputs;
    return PAPA_OK;
}

static PapaStatus enter_functions(Builder *b)
{
    const Onnx__ModelProto *model = papa_onnx_model(b->onnx);
    b->functions = PAPA_NEW_ARRAY(&b->graph->arena, int32_t, model->n_functions);
    if (!b->functions)
        return PAPA_ERR_MEMORY;
    for (size_t i = 0; i < model->n_functions; i++) {
        const Onnx__FunctionProto *function = model->functions[i];
        int32_t scope;
        PAPA_TRY(add_scope(b, -1, &scope));
        for (size_t k = 0; k < function->n_input; k++)
            PAPA_TRY(add_formal(b, scope, function->input[k], k));
        for (size_t k = 0; k < function->n_node; k++)
            PAPA_TRY(enter_node(b, function->node[k], scope));
        for (size_t k = 0; k < function->n_output; k++)
            PAPA_TRY(papa_name_map_add(&b->read, function->output[k], 0, NULL));
        b->scopes[scope].output_names = function->output;
        b->scopes[scope].n_outputs = function->n_output;
        PAPA_TRY(add_unit(b, (Unit){.body = function, .scope = scope}, &b->functions[i]));
    }
    return PAPA_OK;
}

static bool same_text(const char *a, const char *b)
{
    return !strcmp(a ? a : "", b ? b : "");
}

static bool same_domain(const char *a, const char *b)
{
    return same_text(a && !strcmp(a, "ai.onnx") ? "" : a, b && !strcmp(b, "ai.onnx") ? "" : b);
}

/* Which units call functions. */
static PapaStatus find_calls(Builder *b)
{
    const Onnx__ModelProto *model = papa_onnx_model(b->onnx);
    PapaNameMap names = {0}; /* of functions: a first sieve */
    PapaStatus status = PAPA_OK;
    for (size_t i = 0; i < model->n_functions && !status; i++)
        status = papa_name_map_add(&names, model->functions[i]->name ? model->functions[i]->name : "", 0, NULL);
    for (size_t k = 0; k < b->n_units && !status && model->n_functions; k++) {
        const Onnx__NodeProto *node = b->units[k].proto;
        if (!node || !papa_name_map_find(&names, node->op_type))
            continue;
        for (size_t i = 0; i < model->n_functions; i++)
            if (same_text(model->functions[i]->name, node->op_type) && same_domain(model->functions[i]->domain, node->domain) &&
                same_text(model->functions[i]->overload, node->overload))
                b->units[k].function = b->functions[i];
    }
    papa_name_map_free(&names);
    return status;
}

/* Whether the node does nothing: Identity, Dropout without its mask, Concat or Sum of one. */
static bool does_nothing(const Builder *b, const Onnx__NodeProto *node)
{
    static const char *const of_one[] = {"Concat", "Sum", "Max", "Min", "Mean"};
    if (!node->n_input || !*node->input[0])
        return false;
    for (size_t i = 1; i < node->n_output; i++)
        if (*node->output[i] && papa_name_map_find(&b->read, node->output[i]))
            return false;
    for (size_t i = 0; i < sizeof of_one / sizeof *of_one; i++)
        if (is_type(node, of_one[i]) && node->n_input == 1)
            return true;
    return is_type(node, "Identity") || is_type(node, "Dropout");
}

/* ---------------------------------------------------------------- dependencies */

static Definition *find_definition(const Builder *b, int32_t scope, const char *name)
{
    for (; scope >= 0; scope = b->scopes[scope].outer) {
        const int64_t *index = papa_name_map_find(&b->scopes[scope].names, name);
        if (index)
            return &b->definitions[*index];
    }
    return NULL;
}

static const char *output_name(const Scope *scope, size_t k)
{
    const char *name = scope->output_names ? scope->output_names[k] : scope->outputs[k]->name;
    return name ? name : "";
}

/* The k-th name that a unit depends on: its inputs, then what its subgraphs yield; or a scope's outputs. False behind the last. */
static bool dependency(const Builder *b, const Unit *unit, size_t k, int32_t *scope, const char **name)
{
    size_t n_inputs = !unit->proto ? 0 : unit->is_nothing ? 1 : unit->proto->n_input;
    int32_t first = unit->proto ? unit->first_child : unit->scope, n = unit->proto ? unit->n_children : 1;
    *scope = unit->scope;
    if (k < n_inputs) {
        *name = unit->proto->input[k];
        return true;
    }
    k -= n_inputs;
    for (*scope = first; *scope < first + n; ++*scope) {
        if (k < b->scopes[*scope].n_outputs) {
            *name = output_name(&b->scopes[*scope], k);
            return true;
        }
        k -= b->scopes[*scope].n_outputs;
    }
    return false;
}

static PapaStatus fail_undefined(const Unit *unit, const char *name)
{
    return papa_fail(PAPA_ERR_FORMAT, "%s reads '%.200s', which nothing defines", unit->proto ? papa_node_label(unit->proto) : "an output", name);
}

/* What a name stands for. The unit that defines it is done. */
static PapaStatus resolve(Builder *b, const Unit *reader, int32_t scope, const char *name, Reference *out);

static PapaStatus input_reference(Builder *b, const Unit *unit, size_t k, Reference *out)
{
    return resolve(b, unit, unit->scope, unit->proto->input[k], out);
}

static bool has_input(const Onnx__NodeProto *node, size_t k)
{
    return k < node->n_input && *node->input[k];
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

static PapaStatus open_draft(Builder *b, Draft *draft, const Unit *unit, const char *type, size_t most_inputs)
{
    *draft = (Draft){.proto = unit->proto, .order = (int32_t)(unit - b->units), .type = type};
    draft->attrs = PAPA_NEW_ARRAY(&b->graph->arena, PapaPairAttr, PAPA_PAIR_ATTRS_MORE);
    draft->inputs = PAPA_NEW_ARRAY(&b->graph->arena, PapaPairInput, most_inputs);
    return draft->attrs && draft->inputs ? PAPA_OK : PAPA_ERR_MEMORY;
}

static bool commutes(const char *type)
{
    static const char *const types[] = {"Add", "Mul", "Sum", "Max", "Min", "Mean", "And", "Or", "Xor", "Equal", "BitwiseAnd", "BitwiseOr", "BitwiseXor"};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!strcmp(types[i], type))
            return true;
    return false;
}

/* One text for operator, domain, attributes and number of inputs. A call has no name: what it calls is an input. */
static PapaStatus label_draft(Builder *b, const Draft *draft, int32_t *label)
{
    PapaArena scratch = {0};
    const char *domain = draft->proto && !is_onnx(draft->proto) ? draft->proto->domain : "";
    const char *overload = draft->proto && draft->proto->overload ? draft->proto->overload : "";
    bool is_call = !strcmp(draft->type, CALL);
    char *text = papa_arena_printf(&scratch, "%s '%s' '%s' of %d", draft->type, is_call ? "" : domain, is_call ? "" : overload, (int)draft->n_inputs);
    for (int32_t i = 0; i < draft->n_attrs && text; i++)
        text = papa_arena_printf(&scratch, "%s, %s %s", text, draft->attrs[i].name, draft->attrs[i].text);
    PapaStatus status = text ? papa_pair_label(b->labels, text, label) : PAPA_ERR_MEMORY;
    papa_arena_free(&scratch);
    return status;
}

static PapaStatus close_draft(Builder *b, const Draft *draft, int32_t *index)
{
    PapaPairGraph *g = b->graph;
    PapaPairNode node = {.proto = draft->proto, .order = draft->order, .type = draft->type, .attrs = draft->attrs, .n_attrs = draft->n_attrs, .inputs = draft->inputs,
        .n_inputs = draft->n_inputs, .first_output = -1};
    PAPA_TRY(label_draft(b, draft, &node.label));
    PAPA_TRY(reserve(&g->nodes, (size_t)g->n_nodes, &b->nodes_capacity, sizeof *g->nodes));
    for (int32_t i = 0; i < node.n_inputs; i++)
        if (draft->proto && is_onnx(draft->proto) && commutes(draft->type))
            node.inputs[i].slot = 0;
    *index = g->n_nodes;
    g->nodes[g->n_nodes++] = node;
    return PAPA_OK;
}

/* The value of a node's output, made when it is first asked for. */
static PapaStatus node_output(Builder *b, int32_t node, int32_t slot, const char *name, int32_t *value)
{
    PapaPairGraph *g = b->graph;
    for (*value = g->nodes[node].first_output; *value >= 0; *value = g->values[*value].next_output)
        if (g->values[*value].slot == slot)
            return PAPA_OK;
    PAPA_TRY(add_value(b, (PapaPairValue){.name = name, .producer = node, .slot = slot, .tensor = -1}, "a node's output", value));
    g->values[*value].next_output = g->nodes[node].first_output;
    g->nodes[node].first_output = *value;
    return PAPA_OK;
}

/* The transpose of a computed matrix, by a node between it and its readers. */
static PapaStatus read_flipped(Builder *b, const Draft *reader, int32_t from, int32_t *value)
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

static PapaStatus add_input(Builder *b, Draft *draft, Reference from, size_t slot)
{
    PapaPairInput *to = &draft->inputs[draft->n_inputs++];
    to->slot = slot < PAPA_PAIR_SLOTS ? (int32_t)slot : PAPA_PAIR_SLOTS - 1;
    to->value = from.value;
    if (from.value < 0)
        return read_tensor(b, from.tensor, from.transposed, &to->value);
    return from.transposed ? read_flipped(b, draft, from.value, &to->value) : PAPA_OK;
}

static PapaStatus resolve(Builder *b, const Unit *reader, int32_t scope, const char *name, Reference *out)
{
    Definition *definition = find_definition(b, scope, name);
    *out = (Reference){.value = -1, .tensor = -1};
    if (!definition)
        return fail_undefined(reader, name);
    if (definition->kind == DEFINES_INPUT) {
        if (definition->index < 0)
            PAPA_TRY(add_source(b, name, "an input of an inner graph", &definition->index));
        out->value = definition->index;
        return PAPA_OK;
    }
    if (definition->kind == DEFINES_TENSOR) {
        out->tensor = definition->index;
        return PAPA_OK;
    }
    const Unit *unit = &b->units[definition->index];
    if (unit->node >= 0)
        return node_output(b, unit->node, definition->position, name, &out->value);
    *out = unit->alias;
    return PAPA_OK;
}

/* ---------------------------------------------------------------- units */

/* The tensor's dims where the reference is a stored dense one, else NULL. */
static const Onnx__TensorProto *dense_tensor(const Builder *b, Reference reference)
{
    return reference.value < 0 ? b->graph->tensors[reference.tensor].stored.tensor : NULL;
}

/* A Transpose of a matrix, which is one where it is stored or where perm says so. */
static PapaStatus try_transpose(Builder *b, Unit *unit, bool *is_alias)
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
static PapaStatus emit_gemm(Builder *b, Unit *unit)
{
    const Onnx__NodeProto *node = unit->proto;
    Reference in[3];
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
    in[0] = (Reference){.tensor = -1};
    PAPA_TRY(node_output(b, unit->node, 0, NULL, &in[0].value));
    PAPA_TRY(open_draft(b, &draft, unit, "Add", 2));
    PAPA_TRY(add_input(b, &draft, in[0], 0));
    PAPA_TRY(add_input(b, &draft, in[2], 1));
    return close_draft(b, &draft, &unit->node);
}

/* The integers that input k is, where they are stored; *n is -1 else. */
static PapaStatus stored_ints(Builder *b, const Unit *unit, size_t k, int64_t to[4], int *n)
{
    Reference input;
    *n = -1;
    if (!has_input(unit->proto, k))
        return PAPA_OK;
    PAPA_TRY(input_reference(b, unit, k, &input));
    return input.value < 0 ? papa_pair_ints(b->onnx, &b->graph->tensors[input.tensor], to, 4, n) : PAPA_OK;
}

/* A ReduceMean that is a GlobalAveragePool of maps. */
static PapaStatus is_global_mean(Builder *b, const Unit *unit, bool *is)
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
static PapaStatus other_form(Builder *b, const Unit *unit, const char **type)
{
    bool is_mean = false;
    int64_t shape[4];
    int n = 0;
    *type = NULL;
    if (is_type(unit->proto, "ReduceMean"))
        PAPA_TRY(is_global_mean(b, unit, &is_mean));
    if (is_type(unit->proto, "Reshape"))
        PAPA_TRY(stored_ints(b, unit, 1, shape, &n));
    if (is_mean)
        *type = "GlobalAveragePool";
    else if (n == 2)
        *type = "Flatten";
    return PAPA_OK;
}

/* kernel_shape as the weight has it, said or not. */
static PapaStatus set_kernel_shape(Builder *b, const Unit *unit, Draft *draft)
{
    Reference weight;
    if (!is_onnx(unit->proto) || !strstr(draft->type, "Conv") || !has_input(unit->proto, 1))
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
static PapaStatus add_formals(Builder *b, Draft *draft, int32_t scope, size_t slot)
{
    for (size_t k = 0; k < b->scopes[scope].n_inputs; k++) {
        const Definition *definition = &b->definitions[b->scopes[scope].first_input + k];
        if (definition->index >= 0)
            PAPA_TRY(add_input(b, draft, (Reference){definition->index, -1, false}, slot + (size_t)definition->position));
    }
    return PAPA_OK;
}

/* What the subgraphs yield, and their inputs. */
static PapaStatus add_subgraphs(Builder *b, const Unit *unit, Draft *draft)
{
    const size_t width = PAPA_PAIR_SLOTS >> 8;
    size_t slot = PAPA_PAIR_SLOTS / 2;
    for (int32_t scope = unit->first_child; scope < unit->first_child + unit->n_children; scope++, slot += 2 * width) {
        for (size_t k = 0; k < b->scopes[scope].n_outputs; k++) {
            Reference from;
            PAPA_TRY(resolve(b, unit, scope, output_name(&b->scopes[scope], k), &from));
            PAPA_TRY(add_input(b, draft, from, slot + k));
        }
        PAPA_TRY(add_formals(b, draft, scope, slot + width));
    }
    return PAPA_OK;
}

static PapaStatus emit_plain(Builder *b, Unit *unit)
{
    const Onnx__NodeProto *node = unit->proto;
    Reference from;
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
        from = (Reference){.tensor = -1};
        PAPA_TRY(node_output(b, b->units[unit->function].node, 0, NULL, &from.value));
        PAPA_TRY(add_input(b, &draft, from, PAPA_PAIR_SLOTS - 1));
    }
    return close_draft(b, &draft, &unit->node);
}

/* What a scope yields, as the inputs of a node of its own. */
static PapaStatus emit_outputs(Builder *b, Unit *unit)
{
    const Scope *scope = &b->scopes[unit->scope];
    Onnx__NodeProto parameters = ONNX__NODE_PROTO__INIT; /* a function's attributes, as if they were its node's */
    Draft draft;
    PAPA_TRY(open_draft(b, &draft, unit, unit->body ? "outputs of a function" : "outputs", scope->n_outputs + scope->n_inputs));
    if (unit->body) {
        parameters.attribute = unit->body->attribute_proto;
        parameters.n_attribute = unit->body->n_attribute_proto;
        PAPA_TRY(papa_pair_attrs(&b->graph->arena, b->onnx, &parameters, CALL, &draft.attrs, &draft.n_attrs));
    }
    for (size_t k = 0; k < scope->n_outputs; k++) {
        Reference from;
        PAPA_TRY(resolve(b, unit, unit->scope, output_name(scope, k), &from));
        PAPA_TRY(add_input(b, &draft, from, k));
    }
    PAPA_TRY(add_formals(b, &draft, unit->scope, PAPA_PAIR_SLOTS / 2));
    return close_draft(b, &draft, &unit->node);
}

static PapaStatus emit(Builder *b, Unit *unit)
{
    bool is_alias = unit->is_nothing;
    if (!unit->proto)
        return emit_outputs(b, unit);
    if (is_alias)
        return input_reference(b, unit, 0, &unit->alias);
    if (unit->function < 0 && is_type(unit->proto, "Transpose") && has_input(unit->proto, 0))
        PAPA_TRY(try_transpose(b, unit, &is_alias));
    if (is_alias)
        return PAPA_OK;
    if (unit->function < 0 && is_type(unit->proto, "Gemm") && has_input(unit->proto, 0) && has_input(unit->proto, 1))
        return emit_gemm(b, unit);
    return emit_plain(b, unit);
}

/* The next unit that this one waits for; -1: none. */
static PapaStatus next_unit(const Builder *b, Unit *unit, int32_t *next)
{
    int32_t scope;
    const char *name;
    for (*next = -1; dependency(b, unit, unit->next, &scope, &name); unit->next++) {
        const Definition *definition = *name ? find_definition(b, scope, name) : NULL;
        if (*name && !definition)
            return fail_undefined(unit, name);
        if (definition && definition->kind == DEFINES_OUTPUT && b->units[definition->index].state != UNIT_DONE) {
            *next = definition->index;
            return PAPA_OK;
        }
    }
    if (unit->function >= 0 && b->units[unit->function].state != UNIT_DONE)
        *next = unit->function;
    return PAPA_OK;
}

/* Emits what root depends on, in the order of dependencies, and root. */
static PapaStatus visit(Builder *b, int32_t root)
{
    int32_t *stack = malloc((b->n_units + 1) * sizeof *stack), next;
    size_t n = 1;
    PapaStatus status = PAPA_OK;
    if (!stack)
        return papa_fail_memory(b->n_units * sizeof *stack, "a graph to pair");
    stack[0] = root;
    while (n && !status) {
        Unit *unit = &b->units[stack[n - 1]];
        unit->state = UNIT_ON_THE_WAY;
        status = next_unit(b, unit, &next);
        if (!status && next >= 0 && b->units[next].state == UNIT_ON_THE_WAY) {
            status = papa_fail(PAPA_ERR_FORMAT, "%s depends on itself", unit->proto ? papa_node_label(unit->proto) : "a function");
        } else if (!status && next >= 0) {
            stack[n++] = next;
        } else if (!status) {
            status = emit(b, unit);
            unit->state = UNIT_DONE;
            n--;
        }
    }
    free(stack);
    return status;
}

/* ---------------------------------------------------------------- */

static PapaStatus list_uses(PapaPairGraph *g)
{
    size_t n = 0;
    for (int32_t i = 0; i < g->n_nodes; i++) {
        n += (size_t)g->nodes[i].n_inputs;
        for (int32_t k = 0; k < g->nodes[i].n_inputs; k++)
            g->values[g->nodes[i].inputs[k].value].n_uses++;
    }
    g->uses = n < INT32_MAX ? malloc((n + 1) * sizeof *g->uses) : NULL;
    if (!g->uses)
        return papa_fail_memory(n * sizeof *g->uses, "a graph to pair");
    int32_t at = 0;
    for (int32_t i = 0; i < g->n_values; i++) {
        g->values[i].first_use = at;
        at += g->values[i].n_uses;
        g->values[i].n_uses = 0;
    }
    for (int32_t i = 0; i < g->n_nodes; i++)
        for (int32_t k = 0; k < g->nodes[i].n_inputs; k++) {
            PapaPairInput input = g->nodes[i].inputs[k];
            PapaPairValue *value = &g->values[input.value];
            g->uses[value->first_use + value->n_uses++] = (PapaPairUse){i, input.slot};
        }
    return PAPA_OK;
}

static PapaStatus build(Builder *b, const PapaPairEnds *ends)
{
    int32_t root;
    PAPA_TRY(enter_main(b, ends));
    PAPA_TRY(enter_functions(b));
    PAPA_TRY(find_calls(b));
    for (size_t i = 0; i < b->n_units; i++)
        b->units[i].is_nothing = b->units[i].proto && b->units[i].function < 0 && does_nothing(b, b->units[i].proto);
    PAPA_TRY(add_unit(b, (Unit){.scope = 0}, &root));
    PAPA_TRY(visit(b, root));
    return list_uses(b->graph);
}

PapaStatus papa_pair_graph_make(PapaPairGraph *graph, PapaPairLabels *labels, const PapaOnnx *onnx, const PapaPairEnds *ends, bool split)
{
    *graph = (PapaPairGraph){.onnx = onnx};
    Builder b = {.graph = graph, .labels = labels, .onnx = onnx, .split = split};
    PapaStatus status = build(&b, ends);
    for (size_t i = 0; i < b.n_scopes; i++)
        papa_name_map_free(&b.scopes[i].names);
    papa_name_map_free(&b.read);
    free(b.scopes);
    free(b.units);
    free(b.definitions);
    return status ? papa_fail_in(status, "%s", papa_onnx_path(onnx)) : PAPA_OK;
}

void papa_pair_graph_free(PapaPairGraph *graph)
{
    free(graph->tensors);
    free(graph->nodes);
    free(graph->values);
    free(graph->uses);
    papa_arena_free(&graph->arena);
}
