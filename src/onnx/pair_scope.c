/* The scopes of a model, and what the names in them mean. */
#include "onnx/pair_build.h"

#include <stdlib.h>

#define ATTRIBUTE(id) ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__##id

/* Room for one more in a list. */
PapaStatus papa_pair_reserve(void *list, size_t n, size_t *capacity, size_t size)
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

/* ---------------------------------------------------------------- values */

PapaStatus papa_pair_add_value(PapaPairBuilder *b, PapaPairValue value, const char *label, int32_t *index)
{
    PapaPairGraph *g = b->graph;
    PAPA_TRY(papa_pair_reserve(&g->values, (size_t)g->n_values, &b->values_capacity, sizeof *g->values));
    PAPA_TRY(papa_pair_label(b->labels, label, &value.label));
    value.next_output = value.twin = value.flipped = -1;
    *index = g->n_values;
    g->values[g->n_values++] = value;
    return PAPA_OK;
}

PapaStatus papa_pair_add_source(PapaPairBuilder *b, const char *name, const char *label, int32_t *index)
{
    return papa_pair_add_value(b, (PapaPairValue){.name = name, .producer = -1, .tensor = -1}, label, index);
}

/* ---------------------------------------------------------------- scopes */

static PapaStatus define(PapaPairBuilder *b, int32_t scope, const char *name, PapaPairDefinition definition)
{
    bool added;
    if (!name || !*name)
        return PAPA_OK;
    PAPA_TRY(papa_pair_reserve(&b->definitions, b->n_definitions, &b->definitions_capacity, sizeof *b->definitions));
    b->definitions[b->n_definitions] = definition;
    PAPA_TRY(papa_name_map_add(&b->scopes[scope].names, name, (int64_t)b->n_definitions++, &added));
    return added ? PAPA_OK : fail_format("two nodes, initializers or inputs define", name);
}

static PapaStatus add_scope(PapaPairBuilder *b, int32_t outer, int32_t *index)
{
    PAPA_TRY(papa_pair_reserve(&b->scopes, b->n_scopes, &b->scopes_capacity, sizeof *b->scopes));
    *index = (int32_t)b->n_scopes;
    b->scopes[b->n_scopes++] = (PapaPairScope){.outer = outer};
    return PAPA_OK;
}

PapaStatus papa_pair_add_unit(PapaPairBuilder *b, PapaPairUnit unit, int32_t *index)
{
    PAPA_TRY(papa_pair_reserve(&b->units, b->n_units, &b->units_capacity, sizeof *b->units));
    unit.node = unit.function = -1;
    *index = (int32_t)b->n_units;
    b->units[b->n_units++] = unit;
    return PAPA_OK;
}

static PapaStatus add_tensor(PapaPairBuilder *b, int32_t scope, PapaPairTensor tensor)
{
    PapaPairGraph *g = b->graph;
    tensor.face[0] = tensor.face[1] = -1;
    tensor.is_small = papa_pair_is_small(&tensor);
    PAPA_TRY(papa_pair_reserve(&g->tensors, (size_t)g->n_tensors, &b->tensors_capacity, sizeof *g->tensors));
    g->tensors[g->n_tensors] = tensor;
    return define(b, scope, tensor.stored.name, (PapaPairDefinition){PAPA_DEFINES_TENSOR, g->n_tensors++, 0});
}

/* An input of a subgraph or a function: a value once it is read. */
static PapaStatus add_formal(PapaPairBuilder *b, int32_t scope, const char *name, size_t position)
{
    if (!name || !*name)
        return fail_format("without a name is an input of", "a subgraph or function");
    if (!b->scopes[scope].n_inputs++)
        b->scopes[scope].first_input = b->n_definitions;
    return define(b, scope, name, (PapaPairDefinition){PAPA_DEFINES_INPUT, -1, (int32_t)position});
}

static PapaStatus enter_graph(PapaPairBuilder *b, const Onnx__GraphProto *graph, int32_t scope);

/* The tensor that a Constant holds, if its value is not an attribute of a function. */
static bool constant_tensor(const Onnx__NodeProto *node, PapaPairTensor *out)
{
    if (!papa_node_is_type(node, "Constant") || node->n_attribute != 1 || node->n_output != 1)
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
static PapaStatus enter_subgraphs(PapaPairBuilder *b, int32_t unit)
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

static PapaStatus enter_node(PapaPairBuilder *b, const Onnx__NodeProto *node, int32_t scope)
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
    PAPA_TRY(papa_pair_add_unit(b, (PapaPairUnit){.proto = node, .scope = scope}, &unit));
    for (size_t i = 0; i < node->n_input; i++)
        PAPA_TRY(papa_name_map_add(&b->read, node->input[i], 0, NULL));
    for (size_t i = 0; i < node->n_output; i++)
        PAPA_TRY(define(b, scope, node->output[i], (PapaPairDefinition){PAPA_DEFINES_OUTPUT, unit, (int32_t)i}));
    return enter_subgraphs(b, unit);
}

static PapaStatus enter_tensors(PapaPairBuilder *b, const Onnx__GraphProto *graph, int32_t scope)
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
static PapaStatus enter_graph(PapaPairBuilder *b, const Onnx__GraphProto *graph, int32_t scope)
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

static PapaStatus enter_main(PapaPairBuilder *b, const PapaPairEnds *ends)
{
    int32_t scope;
    char label[64];
    PAPA_TRY(add_scope(b, -1, &scope));
    for (size_t i = 0; i < ends->n_inputs; i++) {
        PapaPairDefinition definition = {.kind = PAPA_DEFINES_INPUT};
        snprintf(label, sizeof label, "graph input %zu", i);
        PAPA_TRY(papa_pair_add_source(b, ends->inputs[i]->name, label, &definition.index));
        PAPA_TRY(define(b, scope, ends->inputs[i]->name, definition));
    }
    PAPA_TRY(enter_graph(b, papa_onnx_graph(b->onnx), scope));
    b->scopes[scope].outputs = (Onnx__ValueInfoProto *const *)ends->outputs;
    return PAPA_OK;
}

static PapaStatus enter_functions(PapaPairBuilder *b)
{
    const Onnx__ModelProto *model = papa_onnx_model(b->onnx);
    b->functions = PAPA_NEW_ARRAY(&b->graph->arena, int32_t, model->n_functions);
    if (!b->functions)
        return PAPA_ERR_MEMORY;
    for (size_t i = 0; i < model->n_functions; i++) {
        const Onnx__FunctionProto *function = model->functions[i];
        int32_t scope;
        for (size_t k = 0; k < function->n_attribute_proto; k++)
            if (!function->attribute_proto[k]->name)
                return fail_format("an attribute without a name, of function", function->name);
        PAPA_TRY(add_scope(b, -1, &scope));
        for (size_t k = 0; k < function->n_input; k++)
            PAPA_TRY(add_formal(b, scope, function->input[k], k));
        for (size_t k = 0; k < function->n_node; k++)
            PAPA_TRY(enter_node(b, function->node[k], scope));
        for (size_t k = 0; k < function->n_output; k++)
            PAPA_TRY(papa_name_map_add(&b->read, function->output[k], 0, NULL));
        b->scopes[scope].output_names = function->output;
        b->scopes[scope].n_outputs = function->n_output;
        PAPA_TRY(papa_pair_add_unit(b, (PapaPairUnit){.body = function, .scope = scope}, &b->functions[i]));
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
static PapaStatus find_calls(PapaPairBuilder *b)
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
static bool does_nothing(const PapaPairBuilder *b, const Onnx__NodeProto *node)
{
    static const char *const of_one[] = {"Concat", "Sum", "Max", "Min", "Mean"};
    if (!node->n_input || !*node->input[0])
        return false;
    for (size_t i = 1; i < node->n_output; i++)
        if (*node->output[i] && papa_name_map_find(&b->read, node->output[i]))
            return false;
    for (size_t i = 0; i < sizeof of_one / sizeof *of_one; i++)
        if (papa_node_is_type(node, of_one[i]) && node->n_input == 1)
            return true;
    return papa_node_is_type(node, "Identity") || papa_node_is_type(node, "Dropout");
}

/* ---------------------------------------------------------------- asking */

PapaPairDefinition *papa_pair_find_definition(const PapaPairBuilder *b, int32_t scope, const char *name)
{
    for (; scope >= 0; scope = b->scopes[scope].outer) {
        const int64_t *index = papa_name_map_find(&b->scopes[scope].names, name);
        if (index)
            return &b->definitions[*index];
    }
    return NULL;
}

const char *papa_pair_output_name(const PapaPairScope *scope, size_t k)
{
    const char *name = scope->output_names ? scope->output_names[k] : scope->outputs[k]->name;
    return name ? name : "";
}

PapaStatus papa_pair_fail_undefined(const PapaPairUnit *unit, const char *name)
{
    return papa_fail(PAPA_ERR_FORMAT, "%s reads '%.200s', which nothing defines", unit->proto ? papa_node_label(unit->proto) : "an output", name);
}

PapaStatus papa_pair_enter(PapaPairBuilder *b, const PapaPairEnds *ends)
{
    PAPA_TRY(enter_main(b, ends));
    PAPA_TRY(enter_functions(b));
    PAPA_TRY(find_calls(b));
    for (size_t i = 0; i < b->n_units; i++)
        b->units[i].is_nothing = b->units[i].proto && b->units[i].function < 0 && does_nothing(b, b->units[i].proto);
    return PAPA_OK;
}
