/* Ensembles: several models in one file, and the weighted mean of one value of each.
 *
 * Each member becomes a skeleton of its own (papa_edit_copy_model). Going through its initializers and nodes in order,
 * each value gets its new name: that of an equal value of an earlier member, or its own with the member's prefix. Values
 * are equal where they come from the graph inputs by equal nodes and equal constants (value numbering). */
#include "onnx/onnx_ensemble.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define OLDEST_OPSET 7 /* the first where Mul broadcasts as it does today */

typedef struct Member {
    const char *path, *output; /* the value to average, in the member's own names */
    double weight;             /* normalised */
    const PapaEdit *edit;
    PapaEdit *own_edit;        /* an empty one where the caller has none */
    Onnx__ModelProto *model;
    const char *prefix;
    PapaNameMap needed;        /* values that the output depends on */
    PapaNameMap names;         /* old name -> new name, as a pointer */
} Member;

/* An initializer or a node that a later member may share. */
typedef struct Known {
    int member;
    int64_t next; /* the next one with the same key, or -1 */
    const Onnx__TensorProto *tensor;
    const Onnx__NodeProto *node;
} Known;

typedef struct Ensemble {
    PapaArena arena;
    const PapaEnsembleOptions *options;
    Member *members;
    int n_members;
    PapaSource *sources;
    PapaAssembly scratch; /* for comparing */
    PapaNameMap inputs;   /* the shared graph inputs */
    PapaNameMap keys;     /* -> the first Known of a key */
    Known *known;
    int64_t n_known, known_capacity;
    Onnx__ModelProto *model; /* member 0's, which becomes the result */
    Onnx__GraphProto graph;  /* the result's; its lists have room for those of all members */
} Ensemble;

/* ---------------------------------------------------------------- members */

static bool has_initializer(const Onnx__GraphProto *graph, const char *name)
{
    for (size_t i = 0; i < graph->n_initializer; i++)
        if (!strcmp(graph->initializer[i]->name, name))
            return true;
    for (size_t i = 0; i < graph->n_sparse_initializer; i++)
        if (!strcmp(graph->sparse_initializer[i]->values->name, name))
            return true;
    return false;
}

/* Graph inputs that are initializers too are the initializers' business. */
static void drop_initializer_inputs(Onnx__GraphProto *graph)
{
    size_t n = 0;
    for (size_t i = 0; i < graph->n_input; i++)
        if (graph->input[i]->name && !has_initializer(graph, graph->input[i]->name))
            graph->input[n++] = graph->input[i];
    graph->n_input = n;
}

static PapaStatus need(void *context, char **name, PapaNameKind kind)
{
    return kind == PAPA_NAME_USE ? papa_name_map_add(context, *name, 0, NULL) : PAPA_OK;
}

static bool has_needed_output(const Member *member, const Onnx__NodeProto *node)
{
    for (size_t i = 0; i < node->n_output; i++)
        if (*node->output[i] && papa_name_map_find(&member->needed, node->output[i]))
            return true;
    return false;
}

/* Drops the nodes that the output does not depend on. */
static PapaStatus prune(Member *member)
{
    Onnx__GraphProto *graph = member->model->graph;
    PAPA_TRY(papa_name_map_add(&member->needed, member->output, 0, NULL));
    for (size_t before = 0; before != member->needed.count;) { /* one round for sorted nodes, and one that finds nothing */
        before = member->needed.count;
        for (size_t i = graph->n_node; i-- > 0;)
            if (has_needed_output(member, graph->node[i]))
                PAPA_TRY(papa_node_each_name(graph->node[i], need, &member->needed));
    }
    size_t n = 0;
    bool found = false;
    for (size_t i = 0; i < graph->n_node; i++) {
        for (size_t j = 0; j < graph->node[i]->n_output; j++)
            found |= !strcmp(graph->node[i]->output[j], member->output);
        if (has_needed_output(member, graph->node[i]))
            graph->node[n++] = graph->node[i];
    }
    graph->n_node = n;
    if (!found)
        return papa_fail(PAPA_ERR_MISMATCH, "%s: no node has the output '%s'", member->path, member->output);
    return PAPA_OK;
}

static PapaStatus open_member(Ensemble *e, int k, const PapaEnsembleMember *from)
{
    Member *member = &e->members[k];
    member->path = papa_onnx_path(from->onnx);
    member->output = from->output;
    member->weight = from->weight;
    member->edit = from->edit;
    if (!from->edit) {
        PAPA_TRY(papa_edit_new(&member->own_edit, from->onnx));
        member->edit = member->own_edit;
    }
    e->sources[k] = (PapaSource){(uint32_t)k + 1, member->edit};
    member->model = papa_edit_copy_model(&e->arena, member->edit, (uint32_t)k + 1);
    if (!member->model)
        return PAPA_ERR_MEMORY;
    drop_initializer_inputs(member->model->graph);
    return prune(member);
}

/* ---------------------------------------------------------------- do they fit together? */

static PapaStatus check_opsets(const Member *a, const Member *b)
{
    for (size_t i = 0; i < b->model->n_opset_import; i++) {
        const char *domain = b->model->opset_import[i]->domain;
        int64_t mine = papa_onnx_opset(a->edit->onnx, domain), other = papa_onnx_opset(b->edit->onnx, domain);
        if (mine != other)
            return papa_fail(PAPA_ERR_MISMATCH, "%s has opset %lld of domain '%s', %s has %lld", a->path, (long long)mine,
                domain ? domain : "", b->path, (long long)other);
    }
    return PAPA_OK;
}

static bool dims_fit(const Onnx__TensorShapeProto__Dimension *a, const Onnx__TensorShapeProto__Dimension *b)
{
    bool is_number = a->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
    if (is_number != (b->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE))
        return false;
    return !is_number || a->dim_value == b->dim_value; /* symbols may be spelled differently */
}

static bool types_fit(const Onnx__TypeProto *a, const Onnx__TypeProto *b)
{
    if (!a || !b || a->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE || b->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE)
        return a && b && a->value_case == b->value_case;
    const Onnx__TensorShapeProto *s = a->tensor_type->shape, *t = b->tensor_type->shape;
    if (a->tensor_type->elem_type != b->tensor_type->elem_type || !s != !t || (s && s->n_dim != t->n_dim))
        return false;
    for (size_t i = 0; s && i < s->n_dim; i++)
        if (!dims_fit(s->dim[i], t->dim[i]))
            return false;
    return true;
}

static const Onnx__ValueInfoProto *find_value(Onnx__ValueInfoProto *const *values, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (values[i]->name && !strcmp(values[i]->name, name))
            return values[i];
    return NULL;
}

static PapaStatus check_inputs(const Member *a, const Member *b)
{
    const Onnx__GraphProto *g = a->model->graph, *h = b->model->graph;
    if (g->n_input != h->n_input)
        return papa_fail(PAPA_ERR_MISMATCH, "%s has %zu inputs, %s has %zu", a->path, g->n_input, b->path, h->n_input);
    for (size_t i = 0; i < h->n_input; i++) {
        const Onnx__ValueInfoProto *mine = find_value(g->input, g->n_input, h->input[i]->name);
        if (!mine)
            return papa_fail(PAPA_ERR_MISMATCH, "%s has an input '%s', %s has none", b->path, h->input[i]->name, a->path);
        if (!types_fit(mine->type, h->input[i]->type))
            return papa_fail(PAPA_ERR_MISMATCH, "input '%s' has not the same type and shape in %s and %s", mine->name, a->path, b->path);
    }
    return PAPA_OK;
}

static PapaStatus normalise_weights(Ensemble *e)
{
    double sum = 0;
    for (int k = 0; k < e->n_members; k++) {
        if (!isfinite(e->members[k].weight) || e->members[k].weight < 0)
            return papa_fail(PAPA_ERR_ARGUMENT, "%s: its weight in the ensemble is %g", e->members[k].path, e->members[k].weight);
        sum += e->members[k].weight;
    }
    if (!(sum > 0) || !isfinite(sum))
        return papa_fail(PAPA_ERR_ARGUMENT, "the weights of the ensemble's members sum to %g", sum);
    for (int k = 0; k < e->n_members; k++)
        e->members[k].weight /= sum;
    return PAPA_OK;
}

/* ---------------------------------------------------------------- names */

/* A prefix that no shared name begins with. */
static PapaStatus choose_prefix(Ensemble *e, int k)
{
    const Onnx__GraphProto *graph = e->members[0].model->graph;
    const char *prefix = papa_arena_printf(&e->arena, "m%d/", k);
    for (bool clash = true; clash && prefix;) {
        clash = !strncmp(e->options->output, prefix, strlen(prefix));
        for (size_t i = 0; i < graph->n_input; i++)
            clash |= !strncmp(graph->input[i]->name, prefix, strlen(prefix));
        if (clash)
            prefix = papa_arena_printf(&e->arena, "_%s", prefix);
    }
    e->members[k].prefix = prefix;
    return prefix ? PAPA_OK : PAPA_ERR_MEMORY;
}

static PapaStatus set_name(Member *member, const char *from, const char *to)
{
    return papa_name_map_add(&member->names, from, (int64_t)(intptr_t)to, NULL);
}

static char *new_name(const Member *member, const char *name)
{
    const int64_t *known = papa_name_map_find(&member->names, name);
    return known ? (char *)(intptr_t)*known : NULL;
}

typedef struct Renaming {
    Ensemble *ensemble;
    Member *member;
} Renaming;

static PapaStatus rename_one(void *context, char **name, PapaNameKind kind)
{
    Renaming *r = context;
    char *known = kind == PAPA_NAME_NODE ? NULL : new_name(r->member, *name);
    char *to = known ? known : papa_arena_printf(&r->ensemble->arena, "%s%s", r->member->prefix, *name);
    if (!to)
        return PAPA_ERR_MEMORY;
    if (kind != PAPA_NAME_NODE && !known)
        PAPA_TRY(set_name(r->member, *name, to));
    *name = to;
    return PAPA_OK;
}

/* ---------------------------------------------------------------- value numbering */

/* Looks through the earlier members' things with this key. *out is NULL where none is equal. */
typedef PapaStatus EqualFn(Ensemble *e, const Known *known, const void *item, bool *equal);

static PapaStatus find_known(Ensemble *e, const char *key, int member, EqualFn *equal, const void *item, const Known **out)
{
    const int64_t *first = papa_name_map_find(&e->keys, key);
    *out = NULL;
    for (int64_t i = first ? *first : -1; i >= 0; i = e->known[i].next) {
        bool found = false;
        if (e->known[i].member == member) /* a member keeps its own graph as it is */
            continue;
        PAPA_TRY(equal(e, &e->known[i], item, &found));
        if (found) {
            *out = &e->known[i];
            return PAPA_OK;
        }
    }
    return PAPA_OK;
}

static PapaStatus add_known(Ensemble *e, const char *key, Known known)
{
    if (e->n_known == e->known_capacity) {
        int64_t capacity = e->known_capacity ? 2 * e->known_capacity : 256;
        Known *list = realloc(e->known, (size_t)capacity * sizeof *list);
        if (!list)
            return papa_fail_memory((size_t)capacity * sizeof *list, "an ensemble's values");
        e->known = list;
        e->known_capacity = capacity;
    }
    const int64_t *first = papa_name_map_find(&e->keys, key);
    known.next = first ? *first : -1;
    e->known[e->n_known] = known;
    PAPA_TRY(papa_name_map_add(&e->keys, key, 0, NULL));
    *papa_name_map_find(&e->keys, key) = e->n_known++;
    return PAPA_OK;
}

static PapaStatus tensor_raw(const Ensemble *e, const Onnx__TensorProto *tensor, PapaRaw *out)
{
    uint32_t serial = 0, index = 0;
    papa_tensor_marker(tensor, &serial, &index); /* all tensors of a copied model have one, or are made by hand inside nodes */
    return papa_edit_raw(out, e->sources[serial - 1].edit, index);
}

static PapaStatus tensors_equal(Ensemble *e, const Known *known, const void *item, bool *equal)
{
    PapaRaw a, b;
    PAPA_TRY(tensor_raw(e, known->tensor, &a));
    PapaStatus status = tensor_raw(e, item, &b);
    if (!status) {
        *equal = a.bytes == b.bytes && (!a.bytes || !memcmp(a.data, b.data, a.bytes));
        free(b.owned);
    }
    free(a.owned);
    return status;
}

/* Type, shape and a hash of the elements' ends: whole tensors are compared only where these agree. NULL: memory. */
static char *tensor_key(Ensemble *e, const Onnx__TensorProto *tensor, const PapaRaw *raw)
{
    uint64_t hash = 0xcbf29ce484222325u;
    size_t n = raw->bytes < 4096 ? raw->bytes : 4096;
    for (size_t i = 0; i < n; i++)
        hash = ((hash ^ raw->data[i]) * 0x100000001b3u ^ raw->data[raw->bytes - 1 - i]) * 0x100000001b3u;
    char *key = papa_arena_printf(&e->arena, "T %d %016llx", tensor->data_type, (unsigned long long)hash);
    for (size_t i = 0; i < tensor->n_dims && key; i++)
        key = papa_arena_printf(&e->arena, "%s %lld", key, (long long)tensor->dims[i]);
    return key;
}

static PapaStatus take_initializer(Ensemble *e, int k, Onnx__TensorProto *tensor)
{
    Member *member = &e->members[k];
    const Known *same = NULL;
    char *key = NULL, *old = tensor->name;
    if (papa_type_info(tensor->data_type) && !tensor->segment) { /* others can't be compared */
        PapaRaw raw;
        PAPA_TRY(tensor_raw(e, tensor, &raw));
        key = tensor_key(e, tensor, &raw);
        free(raw.owned);
        if (!key)
            return PAPA_ERR_MEMORY;
        PAPA_TRY(find_known(e, key, k, tensors_equal, tensor, &same));
        if (same)
            return set_name(member, old, same->tensor->name);
    }
    PAPA_TRY(rename_one(&(Renaming){e, member}, &tensor->name, PAPA_NAME_VALUE));
    e->graph.initializer[e->graph.n_initializer++] = tensor;
    return key ? add_known(e, key, (Known){.member = k, .tensor = tensor}) : PAPA_OK;
}

/* Whether two such nodes with equal inputs have equal outputs, and are worth a look: draws of random numbers differ, what
 * other domains' operators do is not known, and a subgraph may refer to anything. */
static bool can_be_shared(const Onnx__NodeProto *node)
{
    const char *type = node->op_type ? node->op_type : "";
    if (node->domain && *node->domain && strcmp(node->domain, "ai.onnx"))
        return false;
    if (!strncmp(type, "Random", 6) || !strcmp(type, "Multinomial") || !strcmp(type, "Bernoulli") || !strcmp(type, "Dropout"))
        return false;
    for (size_t i = 0; i < node->n_attribute; i++)
        if (node->attribute[i]->g || node->attribute[i]->n_graphs)
            return false;
    return node->n_device_configurations == 0;
}

/* What must agree besides attributes. The node's inputs have their new names. Lengths make the texts unambiguous. */
static char *node_key(Ensemble *e, const Onnx__NodeProto *node)
{
    char *key = papa_arena_printf(&e->arena, "N %s %s %zu", node->op_type ? node->op_type : "", node->overload ? node->overload : "",
        node->n_output);
    for (size_t i = 0; i < node->n_input && key; i++)
        key = papa_arena_printf(&e->arena, "%s %zu:%s", key, strlen(node->input[i]), node->input[i]);
    for (size_t i = 0; i < node->n_output && key; i++)
        key = papa_arena_printf(&e->arena, "%s %d", key, *node->output[i] != 0);
    return key;
}

/* The message with its tensors' elements, for comparing. Elements of one place in memory have one place in scratch's
 * external file, so equal ropes mean equal messages. */
static PapaStatus expand_for_comparing(Ensemble *e, const ProtobufCMessage *message, PapaRope *out)
{
    size_t bytes;
    unsigned char *data = papa_pack_message(&e->scratch.arena, message, &bytes);
    return data ? papa_assembly_expand(&e->scratch, out, message->descriptor, data, bytes) : PAPA_ERR_MEMORY;
}

static PapaStatus messages_equal(Ensemble *e, const ProtobufCMessage *a, const ProtobufCMessage *b, bool *equal)
{
    PapaRope left = {0}, right = {0};
    PapaStatus status = expand_for_comparing(e, a, &left);
    if (!status)
        status = expand_for_comparing(e, b, &right);
    *equal = !status && papa_rope_equal(&left, &right);
    papa_rope_free(&left);
    papa_rope_free(&right);
    return status;
}

static PapaStatus nodes_equal(Ensemble *e, const Known *known, const void *item, bool *equal)
{
    const Onnx__NodeProto *a = known->node, *b = item;
    *equal = a->n_attribute == b->n_attribute;
    for (size_t i = 0; i < a->n_attribute && *equal; i++)
        PAPA_TRY(messages_equal(e, &a->attribute[i]->base, &b->attribute[i]->base, equal));
    return PAPA_OK;
}

static PapaStatus take_node(Ensemble *e, int k, Onnx__NodeProto *node)
{
    Renaming renaming = {e, &e->members[k]};
    if (!can_be_shared(node)) {
        PAPA_TRY(papa_node_each_name(node, rename_one, &renaming));
        e->graph.node[e->graph.n_node++] = node;
        return PAPA_OK;
    }
    for (size_t i = 0; i < node->n_input; i++)
        if (*node->input[i])
            PAPA_TRY(rename_one(&renaming, &node->input[i], PAPA_NAME_USE));
    const Known *same = NULL;
    char *key = node_key(e, node);
    if (!key)
        return PAPA_ERR_MEMORY;
    PAPA_TRY(find_known(e, key, k, nodes_equal, node, &same));
    if (same) {
        for (size_t i = 0; i < node->n_output; i++)
            PAPA_TRY(set_name(&e->members[k], node->output[i], same->node->output[i]));
        return PAPA_OK;
    }
    for (size_t i = 0; i < node->n_output; i++)
        if (*node->output[i])
            PAPA_TRY(rename_one(&renaming, &node->output[i], PAPA_NAME_VALUE));
    if (node->name && *node->name)
        PAPA_TRY(rename_one(&renaming, &node->name, PAPA_NAME_NODE));
    e->graph.node[e->graph.n_node++] = node;
    return add_known(e, key, (Known){.member = k, .node = node});
}

/* ---------------------------------------------------------------- the result */

/* Whether the member's value of this old name is in the result under a name of its own. */
static bool is_own(const Member *member, const char *name)
{
    const char *to = name && papa_name_map_find(&member->needed, name) ? new_name(member, name) : NULL;
    return to && !strncmp(to, member->prefix, strlen(member->prefix));
}

static PapaStatus take_descriptions(Ensemble *e, Member *member, const Onnx__GraphProto *graph)
{
    Renaming renaming = {e, member};
    for (size_t i = 0; i < graph->n_value_info; i++)
        if (is_own(member, graph->value_info[i]->name)) {
            PAPA_TRY(rename_one(&renaming, &graph->value_info[i]->name, PAPA_NAME_USE));
            e->graph.value_info[e->graph.n_value_info++] = graph->value_info[i];
        }
    for (size_t i = 0; i < graph->n_quantization_annotation; i++) {
        Onnx__TensorAnnotation *annotation = graph->quantization_annotation[i];
        if (!is_own(member, annotation->tensor_name))
            continue;
        PAPA_TRY(rename_one(&renaming, &annotation->tensor_name, PAPA_NAME_USE));
        for (size_t j = 0; j < annotation->n_quant_parameter_tensor_names; j++)
            PAPA_TRY(rename_one(&renaming, &annotation->quant_parameter_tensor_names[j]->value, PAPA_NAME_USE));
        e->graph.quantization_annotation[e->graph.n_quantization_annotation++] = annotation;
    }
    return PAPA_OK;
}

static PapaStatus take_member(Ensemble *e, int k)
{
    Member *member = &e->members[k];
    const Onnx__GraphProto *graph = member->model->graph;
    PAPA_TRY(choose_prefix(e, k));
    for (size_t i = 0; i < graph->n_input; i++)
        PAPA_TRY(set_name(member, graph->input[i]->name, graph->input[i]->name));
    for (size_t i = 0; i < graph->n_initializer; i++)
        if (papa_name_map_find(&member->needed, graph->initializer[i]->name))
            PAPA_TRY(take_initializer(e, k, graph->initializer[i]));
    for (size_t i = 0; i < graph->n_sparse_initializer; i++) {
        Onnx__SparseTensorProto *sparse = graph->sparse_initializer[i];
        if (!papa_name_map_find(&member->needed, sparse->values->name))
            continue;
        PAPA_TRY(rename_one(&(Renaming){e, member}, &sparse->values->name, PAPA_NAME_VALUE));
        e->graph.sparse_initializer[e->graph.n_sparse_initializer++] = sparse;
    }
    for (size_t i = 0; i < graph->n_node; i++)
        PAPA_TRY(take_node(e, k, graph->node[i]));
    return take_descriptions(e, member, graph);
}

static bool same_text(const char *a, const char *b)
{
    return !strcmp(a ? a : "", b ? b : "");
}

static PapaStatus take_functions(Ensemble *e, int k)
{
    const Onnx__ModelProto *from = e->members[k].model;
    for (size_t i = 0; i < from->n_functions; i++) {
        Onnx__FunctionProto *function = from->functions[i];
        bool equal = true, found = false;
        for (size_t j = 0; j < e->model->n_functions && !found; j++) {
            const Onnx__FunctionProto *mine = e->model->functions[j];
            found = same_text(mine->name, function->name) && same_text(mine->domain, function->domain) &&
                    same_text(mine->overload, function->overload);
            if (found)
                PAPA_TRY(messages_equal(e, &mine->base, &function->base, &equal));
        }
        if (!equal)
            return papa_fail(PAPA_ERR_MISMATCH, "%s defines the function '%s' otherwise than another member of the ensemble",
                e->members[k].path, function->name ? function->name : "");
        if (!found)
            e->model->functions[e->model->n_functions++] = function;
    }
    return PAPA_OK;
}

/* ---------------------------------------------------------------- the mean */

static Onnx__NodeProto *add_node(Ensemble *e, const char *type, const char *const *inputs, int n_inputs, const char *output)
{
    Onnx__NodeProto *node = PAPA_NEW(&e->arena, Onnx__NodeProto);
    char **lists = PAPA_NEW_ARRAY(&e->arena, char *, n_inputs + 1);
    char *name = papa_arena_printf(&e->arena, "%s/node", output);
    if (!node || !lists || !name)
        return NULL;
    onnx__node_proto__init(node);
    memcpy(lists, inputs, (size_t)n_inputs * sizeof *inputs);
    lists[n_inputs] = (char *)output;
    node->name = name;
    node->op_type = (char *)type;
    node->n_input = (size_t)n_inputs;
    node->input = lists;
    node->n_output = 1;
    node->output = lists + n_inputs;
    e->graph.node[e->graph.n_node++] = node;
    return node;
}

/* A name for a value of the mean: the result's with a suffix, which no member's prefix begins. */
static const char *mean_name(Ensemble *e, const char *suffix)
{
    char *name = papa_arena_printf(&e->arena, "%s/%s", e->options->output, suffix);
    while (name && papa_name_map_find(&e->inputs, name))
        name = papa_arena_printf(&e->arena, "%s_", name);
    return name;
}

/* A scalar initializer of the result's type. */
static const char *add_scalar(Ensemble *e, int type, double value, const char *suffix)
{
    const char *name = mean_name(e, suffix);
    Onnx__TensorProto *tensor = PAPA_NEW(&e->arena, Onnx__TensorProto);
    unsigned char *raw = papa_arena_alloc(&e->arena, sizeof value);
    if (!name || !tensor || !raw)
        return NULL;
    onnx__tensor_proto__init(tensor);
    if (type == ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE)
        memcpy(raw, &value, sizeof value);
    else
        papa_floats_to_raw(raw, type, &(float){(float)value}, 1);
    tensor->name = (char *)name;
    tensor->has_data_type = tensor->has_raw_data = 1;
    tensor->data_type = type;
    tensor->raw_data = (ProtobufCBinaryData){papa_type_bits(type) / 8, raw};
    e->graph.initializer[e->graph.n_initializer++] = tensor;
    return name;
}

static PapaStatus add_softmax(Ensemble *e, const char *type, const char *input, const char *output)
{
    Onnx__NodeProto *node = add_node(e, type, &input, 1, output);
    Onnx__AttributeProto *axis = PAPA_NEW(&e->arena, Onnx__AttributeProto), **list = PAPA_NEW_ARRAY(&e->arena, Onnx__AttributeProto *, 1);
    if (!node || !axis || !list)
        return PAPA_ERR_MEMORY;
    onnx__attribute_proto__init(axis);
    axis->name = (char *)"axis";
    axis->has_type = axis->has_i = 1;
    axis->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT;
    axis->i = e->options->softmax_axis;
    list[0] = axis;
    node->n_attribute = 1;
    node->attribute = list;
    return PAPA_OK;
}

/* What of member k is averaged; NULL when memory runs out. */
static const char *add_term(Ensemble *e, int k)
{
    const char *value = new_name(&e->members[k], e->members[k].output);
    if (!e->options->probabilities)
        return value;
    const char *suffix = papa_arena_printf(&e->arena, "probabilities%d", k), *output = suffix ? mean_name(e, suffix) : NULL;
    return output && add_softmax(e, "Softmax", value, output) == PAPA_OK ? output : NULL;
}

static bool weights_are_equal(const Ensemble *e)
{
    for (int k = 1; k < e->n_members; k++)
        if (e->members[k].weight != e->members[0].weight)
            return false;
    return true;
}

/* Sum of the members' values times one weight, or sum of weighted values. Fewer products, and for equal weights the
 * rounding is that of a plain mean. */
static PapaStatus add_mean(Ensemble *e, int type, const char *output)
{
    const char **terms = PAPA_NEW_ARRAY(&e->arena, const char *, e->n_members);
    bool equal = weights_are_equal(e);
    if (!terms)
        return PAPA_ERR_MEMORY;
    for (int k = 0; k < e->n_members; k++) {
        terms[k] = add_term(e, k);
        if (!terms[k])
            return PAPA_ERR_MEMORY;
        if (equal)
            continue;
        const char *suffix = papa_arena_printf(&e->arena, "weight%d", k), *term = papa_arena_printf(&e->arena, "term%d", k);
        const char *weight = suffix ? add_scalar(e, type, e->members[k].weight, suffix) : NULL, *product = term ? mean_name(e, term) : NULL;
        if (!weight || !product || !add_node(e, "Mul", (const char *[]){terms[k], weight}, 2, product))
            return PAPA_ERR_MEMORY;
        terms[k] = product;
    }
    if (e->n_members == 1)
        return add_node(e, "Identity", terms, 1, output) ? PAPA_OK : PAPA_ERR_MEMORY;
    if (!equal)
        return add_node(e, "Sum", terms, e->n_members, output) ? PAPA_OK : PAPA_ERR_MEMORY;
    const char *sum = mean_name(e, "sum"), *weight = add_scalar(e, type, 1.0 / e->n_members, "weight");
    if (!sum || !weight || !add_node(e, "Sum", terms, e->n_members, sum) || !add_node(e, "Mul", (const char *[]){sum, weight}, 2, output))
        return PAPA_ERR_MEMORY;
    return PAPA_OK;
}

/* The result's type is that of member 0's graph output of its name. */
static PapaStatus take_output(Ensemble *e, int *type)
{
    const Onnx__GraphProto *graph = e->members[0].model->graph;
    const Onnx__ValueInfoProto *info = find_value(graph->output, graph->n_output, e->options->output);
    if (!info || papa_name_map_find(&e->inputs, e->options->output))
        return papa_fail(PAPA_ERR_MISMATCH, "%s: no graph output '%s'", e->members[0].path, e->options->output);
    bool is_tensor = info->type && info->type->value_case == ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    *type = is_tensor ? info->type->tensor_type->elem_type : 0;
    if (!papa_type_is_float(*type))
        return papa_fail(PAPA_ERR_UNSUPPORTED, "%s: output '%s' is of %s, which has no mean", e->members[0].path, info->name,
            is_tensor ? papa_type_name(*type) : "no tensor type");
    int64_t opset = papa_onnx_opset(e->members[0].edit->onnx, ""), oldest = *type == ONNX__TENSOR_PROTO__DATA_TYPE__BFLOAT16 ? 13 : OLDEST_OPSET;
    if (opset < oldest)
        return papa_fail(PAPA_ERR_UNSUPPORTED, "%s: opset %lld, an ensemble of %s needs %lld", e->members[0].path, (long long)opset,
            papa_type_name(*type), (long long)oldest);
    e->graph.output[0] = (Onnx__ValueInfoProto *)info;
    e->graph.n_output = 1;
    return PAPA_OK;
}

/* ---------------------------------------------------------------- putting it together */

/* Lists with room for all members' entries and the mean's. */
static PapaStatus make_lists(Ensemble *e)
{
    size_t nodes = 2 * (size_t)e->n_members + 3, initializers = (size_t)e->n_members + 1, sparse = 0, infos = 0, annotations = 0, functions = 0;
    for (int k = 0; k < e->n_members; k++) {
        const Onnx__ModelProto *model = e->members[k].model;
        nodes += model->graph->n_node;
        initializers += model->graph->n_initializer;
        sparse += model->graph->n_sparse_initializer;
        infos += model->graph->n_value_info;
        annotations += model->graph->n_quantization_annotation;
        functions += model->n_functions;
    }
    Onnx__GraphProto *g = &e->graph;
    *g = *e->model->graph;
    g->n_node = g->n_initializer = g->n_sparse_initializer = g->n_value_info = g->n_quantization_annotation = g->n_output = 0;
    g->node = PAPA_NEW_ARRAY(&e->arena, Onnx__NodeProto *, nodes);
    g->initializer = PAPA_NEW_ARRAY(&e->arena, Onnx__TensorProto *, initializers);
    g->sparse_initializer = PAPA_NEW_ARRAY(&e->arena, Onnx__SparseTensorProto *, sparse);
    g->value_info = PAPA_NEW_ARRAY(&e->arena, Onnx__ValueInfoProto *, infos);
    g->quantization_annotation = PAPA_NEW_ARRAY(&e->arena, Onnx__TensorAnnotation *, annotations);
    g->output = PAPA_NEW_ARRAY(&e->arena, Onnx__ValueInfoProto *, 1);
    Onnx__FunctionProto **list = PAPA_NEW_ARRAY(&e->arena, Onnx__FunctionProto *, functions);
    if (!g->node || !g->initializer || !g->sparse_initializer || !g->value_info || !g->quantization_annotation || !g->output || !list)
        return PAPA_ERR_MEMORY;
    if (e->model->n_functions)
        memcpy(list, e->model->functions, e->model->n_functions * sizeof *list);
    e->model->functions = list;
    return PAPA_OK;
}

/* Inputs: the shared ones and, before IR 4, all initializers. */
static PapaStatus finish_inputs(Ensemble *e)
{
    Onnx__GraphProto *g = &e->graph;
    if (!papa_inputs_are_needed(e->model))
        return PAPA_OK;
    Onnx__ValueInfoProto **inputs = PAPA_NEW_ARRAY(&e->arena, Onnx__ValueInfoProto *, g->n_input + g->n_initializer);
    if (!inputs)
        return PAPA_ERR_MEMORY;
    if (g->n_input)
        memcpy(inputs, g->input, g->n_input * sizeof *inputs);
    for (size_t i = 0; i < g->n_initializer; i++) {
        inputs[g->n_input] = papa_tensor_value_info(&e->arena, g->initializer[i]);
        if (!inputs[g->n_input++])
            return PAPA_ERR_MEMORY;
    }
    g->input = inputs;
    return PAPA_OK;
}

static PapaStatus set_metadata(Ensemble *e, const char *const (*metadata)[2], int n)
{
    Onnx__ModelProto *model = e->model;
    Onnx__StringStringEntryProto **list = PAPA_NEW_ARRAY(&e->arena, Onnx__StringStringEntryProto *, model->n_metadata_props + (size_t)n);
    size_t count = 0;
    if (!list)
        return PAPA_ERR_MEMORY;
    for (size_t i = 0; i < model->n_metadata_props; i++) {
        bool is_set = false;
        for (int j = 0; j < n; j++)
            is_set |= same_text(model->metadata_props[i]->key, metadata[j][0]);
        if (!is_set)
            list[count++] = model->metadata_props[i];
    }
    for (int j = 0; j < n; j++) {
        Onnx__StringStringEntryProto *entry = PAPA_NEW(&e->arena, Onnx__StringStringEntryProto);
        if (!entry)
            return PAPA_ERR_MEMORY;
        onnx__string_string_entry_proto__init(entry);
        entry->key = (char *)metadata[j][0];
        entry->value = (char *)metadata[j][1];
        list[count++] = entry;
    }
    model->metadata_props = list;
    model->n_metadata_props = count;
    return PAPA_OK;
}

static PapaStatus check_members(Ensemble *e)
{
    const Onnx__GraphProto *first = e->members[0].model->graph;
    PAPA_TRY(normalise_weights(e));
    for (int k = 1; k < e->n_members; k++) {
        PAPA_TRY(check_opsets(&e->members[0], &e->members[k]));
        PAPA_TRY(check_opsets(&e->members[k], &e->members[0]));
        PAPA_TRY(check_inputs(&e->members[0], &e->members[k]));
    }
    for (size_t i = 0; i < first->n_input; i++)
        PAPA_TRY(papa_name_map_add(&e->inputs, first->input[i]->name, 0, NULL));
    return PAPA_OK;
}

static PapaStatus build(Ensemble *e)
{
    int type = 0;
    const char *mean = e->options->output;
    PAPA_TRY(check_members(e));
    e->model = e->members[0].model;
    PAPA_TRY(make_lists(e));
    PAPA_TRY(take_output(e, &type));
    for (int k = 0; k < e->n_members; k++) {
        PAPA_TRY(take_member(e, k));
        if (k)
            PAPA_TRY(take_functions(e, k));
        if (e->model->ir_version < e->members[k].model->ir_version) /* a newer IR reads all that an older one has */
            e->model->ir_version = e->members[k].model->ir_version;
    }
    bool log = e->options->probabilities && e->options->softmax != 1, softmax = !e->options->probabilities && e->options->softmax;
    if (log || softmax)
        mean = mean_name(e, "mean");
    PAPA_TRY(mean ? add_mean(e, type, mean) : PAPA_ERR_MEMORY);
    if (log && !add_node(e, "Log", &mean, 1, e->options->output))
        return PAPA_ERR_MEMORY;
    if (softmax)
        PAPA_TRY(add_softmax(e, e->options->softmax == 1 ? "Softmax" : "LogSoftmax", mean, e->options->output));
    return finish_inputs(e);
}

static PapaStatus assemble(PapaAssembly *assembly, void *context)
{
    Ensemble *e = context;
    size_t bytes;
    unsigned char *data = papa_pack_message(&assembly->arena, &e->model->base, &bytes);
    return data ? papa_assembly_expand(assembly, &assembly->model, &onnx__model_proto__descriptor, data, bytes) : PAPA_ERR_MEMORY;
}

static void free_ensemble(Ensemble *e)
{
    for (int k = 0; k < e->n_members && e->members; k++) {
        papa_name_map_free(&e->members[k].needed);
        papa_name_map_free(&e->members[k].names);
        papa_edit_free(e->members[k].own_edit);
    }
    free(e->known);
    papa_name_map_free(&e->inputs);
    papa_name_map_free(&e->keys);
    papa_assembly_free(&e->scratch);
    papa_arena_free(&e->arena);
}

PapaStatus papa_ensemble_write_limited(const PapaEnsembleMember *members, int n_members, const PapaEnsembleOptions *options,
    const char *const (*metadata)[2], int n_metadata, const char *path, uint64_t limit)
{
    if (n_members < 1 || options->softmax < 0 || options->softmax > 2)
        return papa_fail(PAPA_ERR_ARGUMENT, "an ensemble of %d members with softmax %d", n_members, options->softmax);
    Ensemble e = {.options = options, .n_members = n_members};
    PapaStatus status = PAPA_ERR_MEMORY;
    e.members = PAPA_NEW_ARRAY(&e.arena, Member, n_members);
    e.sources = PAPA_NEW_ARRAY(&e.arena, PapaSource, n_members);
    if (!e.members || !e.sources)
        goto out;
    e.scratch = (PapaAssembly){.sources = e.sources, .n_sources = n_members, .data_name = "scratch"};
    for (int k = 0; k < n_members; k++)
        PAPA_GOTO(open_member(&e, k, &members[k]));
    PAPA_GOTO(build(&e));
    PAPA_GOTO(set_metadata(&e, metadata, n_metadata));
    e.model->graph = &e.graph;
    status = papa_assembly_write(e.sources, n_members, assemble, &e, path, limit);
out:
    free_ensemble(&e);
    return status;
}

PapaStatus papa_ensemble_write(const PapaEnsembleMember *members, int n_members, const PapaEnsembleOptions *options,
    const char *const (*metadata)[2], int n_metadata, const char *path)
{
    return papa_ensemble_write_limited(members, n_members, options, metadata, n_metadata, path, PAPA_MODEL_LIMIT);
}
