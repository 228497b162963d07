/* Collecting edits. Nothing here touches the file: onnx_write.c turns the edits into patches. */
#include "onnx/onnx_edit.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- messages made here */

unsigned char *papa_pack_message(PapaArena *arena, const ProtobufCMessage *message, size_t *bytes)
{
    *bytes = protobuf_c_message_get_packed_size(message);
    unsigned char *data = papa_arena_alloc(arena, *bytes + 1); /* never NULL, and never next to other bytes of a rope */
    if (data)
        protobuf_c_message_pack(message, data);
    return data;
}

Onnx__TensorProto *papa_tensor_new(PapaArena *arena, const char *name, int type, const int64_t *dims, int rank, uint64_t marker)
{
    Onnx__TensorProto *tensor = PAPA_NEW(arena, Onnx__TensorProto);
    ProtobufCMessageUnknownField *field = PAPA_NEW(arena, ProtobufCMessageUnknownField);
    uint8_t *data = papa_arena_alloc(arena, sizeof marker);
    int64_t *own_dims = PAPA_NEW_ARRAY(arena, int64_t, rank);
    char *own_name = papa_arena_strdup(arena, name);
    if (!tensor || !field || !data || !own_dims || !own_name)
        return NULL;
    memcpy(data, &marker, sizeof marker);
    *field = (ProtobufCMessageUnknownField){FIELD_TENSOR_MARKER, PROTOBUF_C_WIRE_TYPE_64BIT, sizeof marker, data};
    if (rank)
        memcpy(own_dims, dims, (size_t)rank * sizeof *dims);
    onnx__tensor_proto__init(tensor);
    tensor->base.n_unknown_fields = 1;
    tensor->base.unknown_fields = field;
    tensor->n_dims = (size_t)rank;
    tensor->dims = own_dims;
    tensor->has_data_type = 1;
    tensor->data_type = type;
    tensor->name = own_name;
    return tensor;
}

Onnx__ValueInfoProto *papa_tensor_value_info(PapaArena *arena, const Onnx__TensorProto *tensor)
{
    Onnx__ValueInfoProto *info = PAPA_NEW(arena, Onnx__ValueInfoProto);
    Onnx__TypeProto *type = PAPA_NEW(arena, Onnx__TypeProto);
    Onnx__TypeProto__Tensor *of = PAPA_NEW(arena, Onnx__TypeProto__Tensor);
    Onnx__TensorShapeProto *shape = PAPA_NEW(arena, Onnx__TensorShapeProto);
    Onnx__TensorShapeProto__Dimension *dims = PAPA_NEW_ARRAY(arena, Onnx__TensorShapeProto__Dimension, tensor->n_dims);
    Onnx__TensorShapeProto__Dimension **list = PAPA_NEW_ARRAY(arena, Onnx__TensorShapeProto__Dimension *, tensor->n_dims);
    if (!info || !type || !of || !shape || !dims || !list)
        return NULL;
    onnx__value_info_proto__init(info);
    onnx__type_proto__init(type);
    onnx__type_proto__tensor__init(of);
    onnx__tensor_shape_proto__init(shape);
    for (size_t i = 0; i < tensor->n_dims; i++) {
        onnx__tensor_shape_proto__dimension__init(&dims[i]);
        dims[i].value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
        dims[i].dim_value = tensor->dims[i];
        list[i] = &dims[i];
    }
    shape->n_dim = tensor->n_dims;
    shape->dim = list;
    of->has_elem_type = 1;
    of->elem_type = tensor->data_type;
    of->shape = shape;
    type->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    type->tensor_type = of;
    info->type = type;
    info->name = tensor->name;
    return info;
}

/* ---------------------------------------------------------------- a new edit */

/* The names of a new edit; the model outlives it, so they are borrowed. */
static PapaStatus note_name(void *context, char **name, PapaNameKind kind)
{
    PapaEdit *edit = context;
    PAPA_TRY(papa_name_map_add(&edit->names, *name, 0, NULL));
    if (kind != PAPA_NAME_VALUE)
        return PAPA_OK;
    PAPA_TRY(papa_name_map_add(&edit->defined, *name, 0, NULL));
    ++*papa_name_map_find(&edit->defined, *name);
    return PAPA_OK;
}

/* True if name is in the list of the main graph's inputs. */
static bool is_graph_input(const Onnx__GraphProto *graph, const char *name)
{
    for (size_t i = 0; i < graph->n_input; i++)
        if (graph->input[i]->name && !strcmp(graph->input[i]->name, name))
            return true;
    return false;
}

PapaStatus papa_edit_new(PapaEdit **out, const PapaOnnx *onnx)
{
    *out = NULL;
    PapaEdit *edit = calloc(1, sizeof *edit);
    if (!edit)
        return papa_fail_memory(sizeof *edit, "an edit");
    Onnx__GraphProto *graph = onnx->model->graph;
    PapaStatus status = PAPA_OK;
    edit->onnx = onnx;
    edit->values = PAPA_NEW_ARRAY(&edit->arena, PapaPiece, onnx->n_records);
    edit->nodes = PAPA_NEW_ARRAY(&edit->arena, PapaNodeEdit, graph->n_node);
    edit->removed = PAPA_NEW_ARRAY(&edit->arena, bool, graph->n_initializer);
    if (!edit->values || !edit->nodes || !edit->removed) {
        status = PAPA_ERR_MEMORY;
        goto out;
    }
    for (size_t i = 0; i < graph->n_initializer; i++)
        PAPA_GOTO(papa_name_map_add(&edit->initializers, graph->initializer[i]->name, (int64_t)i, NULL));
    PAPA_GOTO(papa_graph_each_name(graph, note_name, edit)); /* reads only */
    *out = edit;
    edit = NULL;
out:
    papa_edit_free(edit);
    return status;
}

void papa_edit_free(PapaEdit *edit)
{
    if (!edit)
        return;
    free(edit->added);
    free(edit->metadata);
    papa_name_map_free(&edit->removed_info);
    papa_name_map_free(&edit->initializers);
    papa_name_map_free(&edit->names);
    papa_name_map_free(&edit->defined);
    papa_arena_free(&edit->arena);
    free(edit);
}

/* ---------------------------------------------------------------- tensors */

/* Where a tensor's new elements are noted. */
static PapaStatus find_tensor(PapaEdit *edit, const Onnx__TensorProto *tensor, const PapaTensorRecord **record, PapaPiece **piece)
{
    *record = papa_tensor_record(edit->onnx, tensor);
    if (!*record)
        return papa_fail(PAPA_ERR_ARGUMENT, "%s: not a tensor of %s", papa_tensor_label(tensor), edit->onnx->path);
    *piece = &edit->values[*record - edit->onnx->records];
    return PAPA_OK;
}

PapaStatus papa_edit_set_tensor(PapaEdit *edit, const Onnx__TensorProto *tensor, const float *values, int64_t n)
{
    const PapaTensorRecord *record = NULL;
    PapaPiece *piece = NULL;
    PAPA_TRY(find_tensor(edit, tensor, &record, &piece));
    if (!papa_type_is_float(record->type) || record->is_segment)
        return papa_fail(PAPA_ERR_UNSUPPORTED, "%s: has %s elements, %s can't be written", papa_tensor_label(tensor),
            papa_type_name(record->type), record->is_segment ? "a segment" : "only floats");
    if (n != record->count)
        return papa_fail(PAPA_ERR_MISMATCH, "%s: has %lld elements, %lld given", papa_tensor_label(tensor), (long long)record->count,
            (long long)n);
    unsigned char *raw = piece->data ? (unsigned char *)piece->data : papa_arena_alloc(&edit->arena, record->bytes);
    if (!raw)
        return PAPA_ERR_MEMORY;
    papa_floats_to_raw(raw, record->type, values, n);
    *piece = papa_piece(raw, record->bytes);
    return PAPA_OK;
}

PapaStatus papa_edit_set_tensor_from(PapaEdit *edit, const Onnx__TensorProto *tensor, papa_tensor_fill_fn *fill, void *context)
{
    const PapaTensorRecord *record = NULL;
    PapaPiece *piece = NULL;
    PAPA_TRY(find_tensor(edit, tensor, &record, &piece));
    if (!papa_type_info(record->type) || record->is_segment)
        return papa_fail(PAPA_ERR_UNSUPPORTED, "%s: has %s elements, which can't be written%s", papa_tensor_label(tensor),
            papa_type_name(record->type), record->is_segment ? ": only a segment of them" : "");
    PapaFill *own = PAPA_NEW(&edit->arena, PapaFill);
    if (!own)
        return PAPA_ERR_MEMORY;
    *own = (PapaFill){.fill = fill, .context = context, .count = record->count, .bits = papa_type_info(record->type)->bits};
    *piece = (PapaPiece){.bytes = record->bytes, .fill = own};
    return PAPA_OK;
}

static PapaStatus push_added(PapaEdit *edit, const char *name, int type, const int64_t *dims, int rank, PapaPiece raw)
{
    if (edit->n_added == edit->added_capacity) {
        size_t capacity = edit->added_capacity ? 2 * edit->added_capacity : 16;
        PapaAdded *added = realloc(edit->added, capacity * sizeof *added);
        if (!added)
            return papa_fail_memory(capacity * sizeof *added, "added initializers");
        edit->added = added;
        edit->added_capacity = capacity;
    }
    uint64_t marker = (uint64_t)edit->onnx->serial << 32 | (edit->onnx->n_records + edit->n_added);
    Onnx__TensorProto *tensor = papa_tensor_new(&edit->arena, name, type, dims, rank, marker);
    if (!tensor)
        return PAPA_ERR_MEMORY;
    edit->added[edit->n_added++] = (PapaAdded){.tensor = tensor, .raw = raw};
    PAPA_TRY(papa_name_map_add(&edit->names, tensor->name, 0, NULL));
    PAPA_TRY(papa_name_map_add(&edit->defined, tensor->name, 0, NULL));
    *papa_name_map_find(&edit->defined, tensor->name) = 1;
    return PAPA_OK;
}

/* Room for the elements of a new initializer in raw form. */
static PapaStatus begin_added(PapaEdit *edit, const char *name, int type, const int64_t *dims, int rank, unsigned char **raw, size_t *bytes,
    int64_t *count)
{
    const int64_t *defined = papa_name_map_find(&edit->defined, name);
    if (!*name || (defined && *defined > 0))
        return papa_fail(PAPA_ERR_ARGUMENT, "%s: can't add an initializer '%s': %s", edit->onnx->path, name,
            *name ? "a value of this name exists" : "it needs a name");
    *count = 1;
    for (int i = 0; i < rank; i++) {
        if (dims[i] < 0 || (dims[i] && *count > INT64_MAX / 16 / dims[i]))
            return papa_fail(PAPA_ERR_ARGUMENT, "initializer '%s': dimension %d is %lld", name, i, (long long)dims[i]);
        *count *= dims[i];
    }
    if (!papa_type_bytes(type, *count, bytes))
        return papa_fail_memory(SIZE_MAX, "an initializer");
    *raw = papa_arena_alloc(&edit->arena, *bytes);
    return *raw ? PAPA_OK : PAPA_ERR_MEMORY;
}

PapaStatus papa_edit_add_initializer(PapaEdit *edit, const char *name, int type, const int64_t *dims, int rank, const float *values)
{
    unsigned char *raw = NULL;
    size_t bytes = 0;
    int64_t count = 0;
    if (!papa_type_is_float(type))
        return papa_fail(PAPA_ERR_ARGUMENT, "initializer '%s': a float type expected, %s given", name, papa_type_name(type));
    PAPA_TRY(begin_added(edit, name, type, dims, rank, &raw, &bytes, &count));
    papa_floats_to_raw(raw, type, values, count);
    return push_added(edit, name, type, dims, rank, papa_piece(raw, bytes));
}

PapaStatus papa_edit_add_initializer_int64(PapaEdit *edit, const char *name, const int64_t *dims, int rank, const int64_t *values)
{
    unsigned char *raw = NULL;
    size_t bytes = 0;
    int64_t count = 0;
    PAPA_TRY(begin_added(edit, name, ONNX__TENSOR_PROTO__DATA_TYPE__INT64, dims, rank, &raw, &bytes, &count));
    if (bytes)
        memcpy(raw, values, bytes);
    return push_added(edit, name, ONNX__TENSOR_PROTO__DATA_TYPE__INT64, dims, rank, papa_piece(raw, bytes));
}

/* name no longer defines a value (until it is added again). */
static void undefine(PapaEdit *edit, const char *name)
{
    int64_t *defined = name && *name ? papa_name_map_find(&edit->defined, name) : NULL;
    if (defined && *defined > 0)
        --*defined;
}

PapaStatus papa_edit_remove_initializer(PapaEdit *edit, const char *name)
{
    for (size_t i = 0; i < edit->n_added; i++)
        if (!edit->added[i].is_removed && !strcmp(edit->added[i].tensor->name, name)) {
            edit->added[i].is_removed = true;
            undefine(edit, name);
            return PAPA_OK;
        }
    const int64_t *index = papa_name_map_find(&edit->initializers, name);
    if (!index || edit->removed[*index])
        return papa_fail(PAPA_ERR_ARGUMENT, "%s: no initializer '%s' to remove", edit->onnx->path, name);
    edit->removed[*index] = true;
    undefine(edit, name);
    if (papa_inputs_are_needed(edit->onnx->model) && is_graph_input(edit->onnx->model->graph, name))
        undefine(edit, name);
    return PAPA_OK;
}

bool papa_edit_removes_input(const PapaEdit *edit, const char *name)
{
    const int64_t *index = papa_name_map_find(&edit->initializers, name ? name : "");
    return index && edit->removed[*index] && papa_inputs_are_needed(edit->onnx->model);
}

/* ---------------------------------------------------------------- nodes */

static PapaStatus find_node(PapaEdit *edit, const Onnx__NodeProto *node, PapaNodeEdit **out)
{
    const Onnx__GraphProto *graph = edit->onnx->model->graph;
    for (size_t k = 0; k < graph->n_node; k++) {
        size_t i = (edit->node_hint + k) % graph->n_node;
        if (graph->node[i] == node) {
            edit->node_hint = i;
            *out = &edit->nodes[i];
            return PAPA_OK;
        }
    }
    return papa_fail(PAPA_ERR_ARGUMENT, "%s: not a node of %s's main graph", papa_node_label(node), edit->onnx->path);
}

/* Notes copies of the names: the caller's node need not live on. */
static PapaStatus note_new_name(void *context, char **name, PapaNameKind kind)
{
    char *copy = papa_arena_strdup(&((PapaEdit *)context)->arena, *name);
    return copy ? note_name(context, &copy, kind) : PAPA_ERR_MEMORY;
}

static PapaStatus append_node(PapaEdit *edit, PapaNodeList *list, const Onnx__NodeProto *node)
{
    PapaPackedNode *packed = PAPA_NEW(&edit->arena, PapaPackedNode);
    if (!packed)
        return PAPA_ERR_MEMORY;
    packed->data = papa_pack_message(&edit->arena, &node->base, &packed->bytes);
    if (!packed->data)
        return PAPA_ERR_MEMORY;
    if (!list->end)
        list->end = &list->first;
    *list->end = packed;
    list->end = &packed->next;
    return papa_node_each_name((Onnx__NodeProto *)node, note_new_name, edit); /* reads only */
}

PapaStatus papa_edit_replace_node(PapaEdit *edit, const Onnx__NodeProto *node, const Onnx__NodeProto *const *by, size_t n)
{
    PapaNodeEdit *at = NULL;
    PAPA_TRY(find_node(edit, node, &at));
    if (at->is_replaced)
        return papa_fail(PAPA_ERR_ARGUMENT, "%s: replaced twice", papa_node_label(node));
    at->is_replaced = true;
    for (size_t i = 0; i < node->n_output; i++)
        undefine(edit, node->output[i]);
    for (size_t i = 0; i < n; i++)
        PAPA_TRY(append_node(edit, &at->by, by[i]));
    return PAPA_OK;
}

PapaStatus papa_edit_insert_before(PapaEdit *edit, const Onnx__NodeProto *node, const Onnx__NodeProto *const *what, size_t n)
{
    PapaNodeEdit *at = NULL;
    PAPA_TRY(find_node(edit, node, &at));
    for (size_t i = 0; i < n; i++)
        PAPA_TRY(append_node(edit, &at->before, what[i]));
    return PAPA_OK;
}

/* ---------------------------------------------------------------- the rest */

PapaStatus papa_edit_remove_value_info(PapaEdit *edit, const char *name)
{
    char *copy = papa_arena_strdup(&edit->arena, name);
    return copy ? papa_name_map_add(&edit->removed_info, copy, 0, NULL) : PAPA_ERR_MEMORY;
}

static PapaStatus set_entry(PapaEdit *edit, const char *key, PapaPiece value)
{
    for (size_t i = 0; i < edit->n_metadata; i++)
        if (!strcmp(edit->metadata[i].key, key)) {
            edit->metadata[i].value = value;
            return PAPA_OK;
        }
    if (edit->n_metadata == edit->metadata_capacity) {
        size_t capacity = edit->metadata_capacity ? 2 * edit->metadata_capacity : 16;
        void *metadata = realloc(edit->metadata, capacity * sizeof *edit->metadata);
        if (!metadata)
            return papa_fail_memory(capacity * sizeof *edit->metadata, "metadata");
        edit->metadata = metadata;
        edit->metadata_capacity = capacity;
    }
    char *own_key = papa_arena_strdup(&edit->arena, key);
    if (!own_key)
        return PAPA_ERR_MEMORY;
    edit->metadata[edit->n_metadata++] = (PapaEntry){.key = own_key, .value = value};
    return PAPA_OK;
}

PapaStatus papa_edit_set_metadata(PapaEdit *edit, const char *key, const char *value)
{
    char *copy = value ? papa_arena_strdup(&edit->arena, value) : NULL;
    if (value && !copy)
        return PAPA_ERR_MEMORY;
    return set_entry(edit, key, value ? papa_piece(copy, strlen(copy)) : (PapaPiece){0});
}

PapaStatus papa_edit_set_metadata_from(PapaEdit *edit, const char *key, size_t bytes, papa_tensor_fill_fn *fill, void *context)
{
    PapaFill *own = PAPA_NEW(&edit->arena, PapaFill);
    if (!own)
        return PAPA_ERR_MEMORY;
    *own = (PapaFill){.fill = fill, .context = context, .count = (int64_t)bytes, .bits = 8};
    return set_entry(edit, key, (PapaPiece){.bytes = bytes, .fill = own});
}

const char *papa_edit_unique_name(PapaEdit *edit, const char *base)
{
    bool added = false;
    const char *name = papa_arena_strdup(&edit->arena, base);
    for (int i = 1; name; i++) {
        if (*name && papa_name_map_add(&edit->names, name, 0, &added))
            return NULL;
        if (added)
            return name;
        name = papa_arena_printf(&edit->arena, "%s_%d", base, i);
    }
    return NULL;
}
