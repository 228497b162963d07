/* Which names and values a member's graph gets in an ensemble: its own with a prefix, or those of an equal value that an
 * earlier member has (value numbering from the shared inputs on). */
#include "onnx/onnx_ensemble.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- names */

/* A prefix that no shared name begins with. */
static PapaStatus choose_prefix(PapaEnsemble *e, int k)
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

static PapaStatus set_name(PapaMember *member, const char *from, const char *to)
{
    return papa_name_map_add(&member->names, from, (int64_t)(intptr_t)to, NULL);
}

char *papa_member_new_name(const PapaMember *member, const char *name)
{
    const int64_t *known = papa_name_map_find(&member->names, name);
    return known ? (char *)(intptr_t)*known : NULL;
}

typedef struct Renaming {
    PapaEnsemble *ensemble;
    PapaMember *member;
} Renaming;

static PapaStatus rename_one(void *context, char **name, PapaNameKind kind)
{
    Renaming *r = context;
    char *known = kind == PAPA_NAME_NODE ? NULL : papa_member_new_name(r->member, *name);
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
typedef PapaStatus EqualFn(PapaEnsemble *e, const PapaKnown *known, const void *item, bool *equal);

static PapaStatus find_known(PapaEnsemble *e, const char *key, int member, EqualFn *equal, const void *item, const PapaKnown **out)
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

static PapaStatus add_known(PapaEnsemble *e, const char *key, PapaKnown known)
{
    if (e->n_known == e->known_capacity) {
        int64_t capacity = e->known_capacity ? 2 * e->known_capacity : 256;
        PapaKnown *list = realloc(e->known, (size_t)capacity * sizeof *list);
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

static PapaStatus tensor_raw(const PapaEnsemble *e, const Onnx__TensorProto *tensor, PapaRaw *out)
{
    uint32_t serial = 0, index = 0;
    papa_tensor_marker(tensor, &serial, &index); /* all tensors of a copied model have one, or are made by hand inside nodes */
    return papa_edit_raw(out, e->sources[serial - 1].edit, index);
}

static PapaStatus tensors_equal(PapaEnsemble *e, const PapaKnown *known, const void *item, bool *equal)
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
static char *tensor_key(PapaEnsemble *e, const Onnx__TensorProto *tensor, const PapaRaw *raw)
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

static PapaStatus take_initializer(PapaEnsemble *e, int k, Onnx__TensorProto *tensor)
{
    PapaMember *member = &e->members[k];
    const PapaKnown *same = NULL;
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
    return key ? add_known(e, key, (PapaKnown){.member = k, .tensor = tensor}) : PAPA_OK;
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
static char *node_key(PapaEnsemble *e, const Onnx__NodeProto *node)
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
static PapaStatus expand_for_comparing(PapaEnsemble *e, const ProtobufCMessage *message, PapaRope *out)
{
    size_t bytes;
    unsigned char *data = papa_pack_message(&e->scratch.arena, message, &bytes);
    return data ? papa_assembly_expand(&e->scratch, out, message->descriptor, data, bytes) : PAPA_ERR_MEMORY;
}

static PapaStatus messages_equal(PapaEnsemble *e, const ProtobufCMessage *a, const ProtobufCMessage *b, bool *equal)
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

static PapaStatus nodes_equal(PapaEnsemble *e, const PapaKnown *known, const void *item, bool *equal)
{
    const Onnx__NodeProto *a = known->node, *b = item;
    *equal = a->n_attribute == b->n_attribute;
    for (size_t i = 0; i < a->n_attribute && *equal; i++)
        PAPA_TRY(messages_equal(e, &a->attribute[i]->base, &b->attribute[i]->base, equal));
    return PAPA_OK;
}

static PapaStatus take_node(PapaEnsemble *e, int k, Onnx__NodeProto *node)
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
    const PapaKnown *same = NULL;
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
    return add_known(e, key, (PapaKnown){.member = k, .node = node});
}

/* ---------------------------------------------------------------- a member's graph */

/* Whether the member's value of this old name is in the result under a name of its own. */
static bool is_own(const PapaMember *member, const char *name)
{
    const char *to = name && papa_name_map_find(&member->needed, name) ? papa_member_new_name(member, name) : NULL;
    return to && !strncmp(to, member->prefix, strlen(member->prefix));
}

static PapaStatus take_descriptions(PapaEnsemble *e, PapaMember *member, const Onnx__GraphProto *graph)
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

PapaStatus papa_ensemble_take_graph(PapaEnsemble *e, int k)
{
    PapaMember *member = &e->members[k];
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

PapaStatus papa_ensemble_take_functions(PapaEnsemble *e, int k)
{
    const Onnx__ModelProto *from = e->members[k].model;
    for (size_t i = 0; i < from->n_functions; i++) {
        Onnx__FunctionProto *function = from->functions[i];
        bool equal = true, found = false;
        for (size_t j = 0; j < e->model->n_functions && !found; j++) {
            const Onnx__FunctionProto *mine = e->model->functions[j];
            found = papa_same_text(mine->name, function->name) && papa_same_text(mine->domain, function->domain) &&
                    papa_same_text(mine->overload, function->overload);
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
