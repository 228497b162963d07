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

static bool has_needed_output(const PapaMember *member, const Onnx__NodeProto *node)
{
    for (size_t i = 0; i < node->n_output; i++)
        if (*node->output[i] && papa_name_map_find(&member->needed, node->output[i]))
            return true;
    return false;
}

/* Drops the nodes that the output does not depend on. */
static PapaStatus prune(PapaMember *member)
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

static PapaStatus open_member(PapaEnsemble *e, int k, const PapaEnsembleMember *from)
{
    PapaMember *member = &e->members[k];
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

static PapaStatus check_opsets(const PapaMember *a, const PapaMember *b)
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

static PapaStatus check_inputs(const PapaMember *a, const PapaMember *b)
{
    const Onnx__GraphProto *g = a->model->graph, *h = b->model->graph;
    if (g->n_input != h->n_input)
        return papa_fail(PAPA_ERR_MISMATCH, "%s has %zu inputs, %s has %zu", a->path, g->n_input, b->path, h->n_input);
    for (size_t i = 0; i < h->n_input; i++) {
        const Onnx__ValueInfoProto *mine = find_value(g->input, g->n_input, h->input[i]->name);
        if (!mine)
            return papa_fail(PAPA_ERR_MISMATCH, "%s has an input '%s', %s has none of that name", b->path, h->input[i]->name, a->path);
        if (!types_fit(mine->type, h->input[i]->type))
            return papa_fail(PAPA_ERR_MISMATCH, "input '%s' has not the same type and shape in %s and %s", mine->name, a->path, b->path);
    }
    return PAPA_OK;
}

static PapaStatus normalise_weights(PapaEnsemble *e)
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

/* The result's type is that of member 0's graph output of its name. */
static PapaStatus take_output(PapaEnsemble *e, int *type)
{
    const Onnx__GraphProto *graph = e->members[0].model->graph;
    const Onnx__ValueInfoProto *info = find_value(graph->output, graph->n_output, e->options->output);
    if (!info || papa_name_map_find(&e->inputs, e->options->output))
        return papa_fail(PAPA_ERR_MISMATCH, "%s: no graph output '%s'", e->members[0].path, e->options->output);
    const Onnx__TypeProto__Tensor *tensor = papa_tensor_type(info);
    *type = tensor ? tensor->elem_type : 0;
    if (!papa_type_is_float(*type))
        return papa_fail(PAPA_ERR_UNSUPPORTED, "%s: output '%s' is of %s, which has no mean", e->members[0].path, info->name,
            tensor ? papa_type_name(*type) : "no tensor type");
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
static PapaStatus make_lists(PapaEnsemble *e)
{
    size_t nodes = 2 * (size_t)e->n_members + 5, initializers = (size_t)e->n_members + 2, sparse = 0, infos = 0, annotations = 0, functions = 0;
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
static PapaStatus finish_inputs(PapaEnsemble *e)
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

static PapaStatus set_metadata(PapaEnsemble *e, const char *const (*metadata)[2], int n)
{
    Onnx__ModelProto *model = e->model;
    Onnx__StringStringEntryProto **list = PAPA_NEW_ARRAY(&e->arena, Onnx__StringStringEntryProto *, model->n_metadata_props + (size_t)n);
    size_t count = 0;
    if (!list)
        return PAPA_ERR_MEMORY;
    for (size_t i = 0; i < model->n_metadata_props; i++) {
        bool is_set = false;
        for (int j = 0; j < n; j++)
            is_set |= papa_same_text(model->metadata_props[i]->key, metadata[j][0]);
        if (!is_set)
            list[count++] = model->metadata_props[i];
    }
    for (int j = 0; j < n; j++) {
        if (!metadata[j][1])
            continue;
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

static PapaStatus check_members(PapaEnsemble *e)
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

static PapaStatus build(PapaEnsemble *e)
{
    int type = 0;
    PAPA_TRY(check_members(e));
    e->model = e->members[0].model;
    PAPA_TRY(make_lists(e));
    PAPA_TRY(take_output(e, &type));
    for (int k = 0; k < e->n_members; k++) {
        PAPA_TRY(papa_ensemble_take_graph(e, k));
        if (k)
            PAPA_TRY(papa_ensemble_take_functions(e, k));
        if (e->model->ir_version < e->members[k].model->ir_version) /* a newer IR reads all that an older one has */
            e->model->ir_version = e->members[k].model->ir_version;
    }
    PAPA_TRY(papa_ensemble_add_result(e, type));
    return finish_inputs(e);
}

static PapaStatus assemble(PapaAssembly *assembly, void *context)
{
    PapaEnsemble *e = context;
    size_t bytes;
    unsigned char *data = papa_pack_message(&assembly->arena, &e->model->base, &bytes);
    return data ? papa_assembly_expand(assembly, &assembly->model, &onnx__model_proto__descriptor, data, bytes) : PAPA_ERR_MEMORY;
}

static void free_ensemble(PapaEnsemble *e)
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
    PapaEnsemble e = {.options = options, .n_members = n_members};
    PapaStatus status = PAPA_ERR_MEMORY;
    e.members = PAPA_NEW_ARRAY(&e.arena, PapaMember, n_members);
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
