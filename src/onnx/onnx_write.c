/* From edits to files: edits become patches to the original bytes, tensors get their place inside or outside the model's
 * file, and the result is streamed from where it lies. */
#include "onnx/onnx_edit.h"

#include <stdlib.h>
#include <string.h>

#define BIG_TENSOR ((size_t)1024) /* bytes; smaller ones are not worth a place in the external file */
#define ALIGNMENT 64              /* of elements in the external file */

/* ---------------------------------------------------------------- tensors */

/* What becomes of one tensor. */
typedef struct Plan {
    const PapaTensorRecord *record; /* NULL: added by the edit */
    PapaPiece raw;                  /* the elements, where they lie in one piece or are made */
    bool is_new;                    /* raw is not what the record's own fields say */
    bool is_external;               /* in what we write */
} Plan;

static Plan plan_tensor(const PapaAssembly *assembly, const PapaEdit *edit, uint32_t index)
{
    bool is_added = index >= edit->onnx->n_records;
    Plan plan = {.record = is_added ? NULL : &edit->onnx->records[index]};
    bool is_edited = is_added || papa_edit_sets(edit, index);
    if (is_added)
        plan.raw = edit->added[index - edit->onnx->n_records].raw;
    else
        plan.raw = is_edited ? edit->values[index] : papa_piece(plan.record->data, plan.record->bytes);
    bool was_external = plan.record && plan.record->storage == PAPA_STORAGE_EXTERNAL;
    bool can_move = (is_added || (plan.record->is_initializer && !plan.record->is_segment)) && plan.raw.bytes >= BIG_TENSOR;
    plan.is_external = (plan.raw.data || plan.raw.fill) && plan.raw.bytes && (was_external || (assembly->move_big && can_move));
    plan.is_new = is_edited || was_external || plan.is_external;
    return plan;
}

/* Finds room for elements in the external file, once for elements that several tensors share. */
static PapaStatus place_external(PapaAssembly *assembly, PapaPiece raw, uint64_t *offset)
{
    static const unsigned char zeros[ALIGNMENT];
    const PapaFill *fill = raw.fill;
    char *key = !fill ? papa_arena_printf(&assembly->arena, "%p+%zu", (const void *)raw.data, raw.bytes)
                      : papa_arena_printf(&assembly->arena, "%llx(%p)+%lldx%u", (unsigned long long)(uintptr_t)fill->fill,
                            fill->context ? fill->context : (const void *)fill, (long long)fill->count, fill->bits);
    if (!key)
        return PAPA_ERR_MEMORY;
    const int64_t *known = papa_name_map_find(&assembly->placed, key);
    if (known) {
        *offset = (uint64_t)*known;
        return PAPA_OK;
    }
    PAPA_TRY(papa_rope_add(&assembly->data, zeros, -assembly->data.bytes % ALIGNMENT));
    *offset = assembly->data.bytes;
    PAPA_TRY(papa_name_map_add(&assembly->placed, key, (int64_t)*offset, NULL));
    return papa_rope_add_piece(&assembly->data, raw);
}

static PapaStatus add_entry(PapaBuffer *to, const char *key, const char *value)
{
    PapaBuffer entry = {0};
    PapaStatus status = papa_buffer_add_string(&entry, FIELD_ENTRY_KEY, key);
    if (!status)
        status = papa_buffer_add_string(&entry, FIELD_ENTRY_VALUE, value);
    if (!status)
        status = papa_buffer_add_header(to, FIELD_TENSOR_EXTERNAL_DATA, PAPA_WIRE_LEN, entry.size);
    if (!status)
        status = papa_buffer_add(to, entry.data, entry.size);
    papa_buffer_free(&entry);
    return status;
}

/* The fields of a TensorProto that say where its elements are in the external file. */
static PapaStatus external_fields(PapaAssembly *assembly, PapaRope *out, PapaPiece raw)
{
    uint64_t offset = 0;
    char number[32];
    unsigned char location = ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
    PAPA_TRY(place_external(assembly, raw, &offset));
    PapaBuffer buffer = {0};
    PapaStatus status = add_entry(&buffer, "location", assembly->data_name);
    snprintf(number, sizeof number, "%llu", (unsigned long long)offset);
    if (!status)
        status = add_entry(&buffer, "offset", number);
    snprintf(number, sizeof number, "%zu", raw.bytes);
    if (!status)
        status = add_entry(&buffer, "length", number);
    if (!status)
        status = papa_buffer_add_header(&buffer, FIELD_TENSOR_DATA_LOCATION, PAPA_WIRE_VARINT, 0);
    if (!status)
        status = papa_buffer_add(&buffer, &location, 1);
    unsigned char *copy = status ? NULL : papa_arena_alloc(&assembly->arena, buffer.size);
    if (copy) {
        memcpy(copy, buffer.data, buffer.size);
        status = papa_rope_add(out, copy, buffer.size);
    } else if (!status) {
        status = PAPA_ERR_MEMORY;
    }
    papa_buffer_free(&buffer);
    return status;
}

/* The fields that hold the elements in the file, as they are. */
static PapaStatus original_fields(PapaRope *out, const PapaTensorRecord *record)
{
    PapaField field;
    for (const unsigned char *at = record->body; at < record->end; at = field.end) {
        const char *wrong = papa_wire_next(&field, at, record->end);
        if (wrong)
            return papa_fail(PAPA_ERR_FORMAT, "a field of a tensor %s", wrong);
        if (papa_is_payload_field(field.number))
            PAPA_TRY(papa_rope_add(out, at, (size_t)(field.end - at)));
    }
    return PAPA_OK;
}

static PapaStatus elements_fields(PapaAssembly *assembly, PapaRope *out, const Plan *plan)
{
    if (plan->is_external)
        return external_fields(assembly, out, plan->raw);
    if (!plan->is_new)
        return original_fields(out, plan->record);
    PapaRope raw = {0};
    PapaStatus status = papa_rope_add_piece(&raw, plan->raw);
    if (!status)
        status = papa_rope_add_field(out, &assembly->arena, FIELD_TENSOR_RAW_DATA, &raw);
    papa_rope_free(&raw);
    return status;
}

/* Patches a TensorProto, in the file or in a skeleton: its elements' fields (or its marker) go, and where the first of
 * them was come the new ones. */
static PapaStatus patch_tensor(PapaAssembly *assembly, PapaPatches *patches, const Plan *plan, const unsigned char *body,
    const unsigned char *end, bool in_skeleton)
{
    if (!plan->is_new && !in_skeleton)
        return PAPA_OK;
    PapaRope fields = {0};
    PapaRope *by = &fields; /* of the first patch; NULL for the others */
    PapaStatus status = elements_fields(assembly, &fields, plan);
    PapaField field;
    for (const unsigned char *at = body; at < end && !status; at = field.end) {
        const char *wrong = papa_wire_next(&field, at, end);
        if (wrong) {
            status = papa_fail(PAPA_ERR_FORMAT, "a field of a tensor %s", wrong);
            break;
        }
        bool of_place = field.number == FIELD_TENSOR_EXTERNAL_DATA || field.number == FIELD_TENSOR_DATA_LOCATION;
        if (papa_is_payload_field(field.number) || (of_place && plan->is_new) || (in_skeleton && field.number == FIELD_TENSOR_MARKER)) {
            status = papa_patches_add(patches, body, at, field.end, by);
            by = NULL;
        }
    }
    if (!status && by)
        status = papa_patches_add(patches, body, end, end, by);
    papa_rope_free(&fields);
    return status;
}

/* ---------------------------------------------------------------- skeletons */

static const PapaEdit *find_source(const PapaAssembly *assembly, uint32_t serial)
{
    for (int i = 0; i < assembly->n_sources; i++)
        if (assembly->sources[i].serial == serial)
            return assembly->sources[i].edit;
    return NULL;
}

static PapaStatus expand_tensor(PapaAssembly *assembly, PapaPatches *patches, const unsigned char *body, const unsigned char *end)
{
    PapaField field;
    for (const unsigned char *at = body; at < end; at = field.end) {
        const char *wrong = papa_wire_next(&field, at, end);
        if (wrong)
            return papa_fail(PAPA_ERR_FORMAT, "a field of a new tensor %s", wrong);
        uint64_t marker;
        if (field.number != FIELD_TENSOR_MARKER || papa_field_size(&field) != sizeof marker)
            continue;
        memcpy(&marker, field.body, sizeof marker);
        const PapaEdit *edit = find_source(assembly, (uint32_t)(marker >> 32));
        if (!edit || (uint32_t)marker >= edit->onnx->n_records + edit->n_added)
            return papa_fail(PAPA_ERR_ARGUMENT, "a node has a tensor of another model");
        Plan plan = plan_tensor(assembly, edit, (uint32_t)marker);
        return patch_tensor(assembly, patches, &plan, body, end, true);
    }
    return PAPA_OK; /* made by hand, with its elements */
}

static PapaStatus expand_message(PapaAssembly *assembly, PapaPatches *patches, const ProtobufCMessageDescriptor *type, const unsigned char *at,
    const unsigned char *end)
{
    if (type == &onnx__tensor_proto__descriptor)
        return expand_tensor(assembly, patches, at, end);
    for (PapaField field; at < end; at = field.end) {
        const char *wrong = papa_wire_next(&field, at, end);
        if (wrong)
            return papa_fail(PAPA_ERR_FORMAT, "a field of a new %s %s", type->short_name, wrong);
        const ProtobufCFieldDescriptor *as = protobuf_c_message_descriptor_get_field(type, field.number);
        if (as && as->type == PROTOBUF_C_TYPE_MESSAGE)
            PAPA_TRY(expand_message(assembly, patches, as->descriptor, field.body, field.end));
    }
    return PAPA_OK;
}

PapaStatus papa_assembly_expand(PapaAssembly *assembly, PapaRope *out, const ProtobufCMessageDescriptor *type, const unsigned char *data,
    size_t bytes)
{
    PapaPatches patches = {0};
    PapaStatus status = expand_message(assembly, &patches, type, data, data + bytes);
    if (!status)
        status = papa_splice(out, &assembly->arena, data, bytes, &patches);
    papa_patches_free(&patches);
    return status;
}

/* ---------------------------------------------------------------- an edited model */

typedef struct Editing {
    PapaAssembly *assembly;
    const PapaEdit *edit;
    PapaPatches patches;
    const unsigned char *model, *graph; /* their content */
    bool *is_gone;                      /* per record: inside fields that are removed */
} Editing;

static PapaStatus insert_message(Editing *e, const unsigned char *in, const unsigned char *place, uint32_t number,
    const ProtobufCMessage *message)
{
    size_t bytes;
    unsigned char *data = papa_pack_message(&e->assembly->arena, message, &bytes);
    if (!data)
        return PAPA_ERR_MEMORY;
    PapaRope content = {0}, field = {0};
    PapaStatus status = papa_assembly_expand(e->assembly, &content, message->descriptor, data, bytes);
    if (!status)
        status = papa_rope_add_field(&field, &e->assembly->arena, number, &content);
    if (!status)
        status = papa_patches_add(&e->patches, in, place, place, &field);
    papa_rope_free(&content);
    papa_rope_free(&field);
    return status;
}

static PapaStatus insert_nodes(Editing *e, const unsigned char *place, const PapaNodeList *list)
{
    PapaStatus status = PAPA_OK;
    for (const PapaPackedNode *node = list->first; node && !status; node = node->next) {
        PapaRope content = {0}, field = {0};
        status = papa_assembly_expand(e->assembly, &content, &onnx__node_proto__descriptor, node->data, node->bytes);
        if (!status)
            status = papa_rope_add_field(&field, &e->assembly->arena, FIELD_GRAPH_NODE, &content);
        if (!status)
            status = papa_patches_add(&e->patches, e->graph, place, place, &field);
        papa_rope_free(&content);
        papa_rope_free(&field);
    }
    return status;
}

/* Removes a field of the main graph with the tensors in it. */
static PapaStatus remove_field(Editing *e, const PapaField *field)
{
    const PapaOnnx *onnx = e->edit->onnx;
    size_t low = 0, high = onnx->n_records; /* the records are in the order of the file */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (onnx->records[middle].body < field->start)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < onnx->n_records && onnx->records[low].body < field->end; low++)
        e->is_gone[low] = true;
    return papa_patches_add(&e->patches, e->graph, field->start, field->end, NULL);
}

static PapaStatus patch_node(Editing *e, const PapaField *field, const PapaNodeEdit *edit)
{
    PAPA_TRY(insert_nodes(e, field->start, &edit->before));
    PAPA_TRY(insert_nodes(e, field->start, &edit->by));
    return edit->is_replaced ? remove_field(e, field) : PAPA_OK;
}

/* Where new initializers and inputs go: behind the last of their kind. */
typedef struct Places {
    const unsigned char *initializer, *input;
} Places;

static PapaStatus add_initializers(Editing *e, Places places)
{
    const PapaEdit *edit = e->edit;
    for (size_t i = 0; i < edit->n_added; i++) {
        const Onnx__TensorProto *tensor = edit->added[i].tensor;
        if (edit->added[i].is_removed)
            continue;
        PAPA_TRY(insert_message(e, e->graph, places.initializer, FIELD_GRAPH_INITIALIZER, &tensor->base));
        if (papa_inputs_are_needed(edit->onnx->model)) {
            Onnx__ValueInfoProto *info = papa_tensor_value_info(&e->assembly->arena, tensor);
            if (!info)
                return PAPA_ERR_MEMORY;
            PAPA_TRY(insert_message(e, e->graph, places.input, FIELD_GRAPH_INPUT, &info->base));
        }
    }
    return PAPA_OK;
}

/* The k-th field of a number is the k-th entry of the skeleton's list. */
static PapaStatus patch_graph(Editing *e, const PapaField *graph_field)
{
    const PapaEdit *edit = e->edit;
    const Onnx__GraphProto *graph = edit->onnx->model->graph;
    size_t n_nodes = 0, n_initializers = 0, n_inputs = 0, n_infos = 0;
    Places places = {graph_field->end, graph_field->end};
    PapaField field;
    e->graph = graph_field->body;
    for (const unsigned char *at = graph_field->body; at < graph_field->end; at = field.end) {
        const char *wrong = papa_wire_next(&field, at, graph_field->end);
        if (wrong)
            return papa_fail(PAPA_ERR_FORMAT, "a field of the graph %s", wrong);
        bool removed = false;
        if (field.number == FIELD_GRAPH_NODE) {
            PAPA_TRY(patch_node(e, &field, &edit->nodes[n_nodes++]));
        } else if (field.number == FIELD_GRAPH_INITIALIZER) {
            removed = edit->removed[n_initializers++];
            places.initializer = field.end;
        } else if (field.number == FIELD_GRAPH_INPUT) {
            removed = papa_edit_removes_input(edit, graph->input[n_inputs++]->name);
            places.input = field.end;
        } else if (field.number == FIELD_GRAPH_VALUE_INFO) {
            const char *name = graph->value_info[n_infos++]->name;
            removed = name && papa_name_map_find(&edit->removed_info, name);
        }
        if (removed)
            PAPA_TRY(remove_field(e, &field));
    }
    return add_initializers(e, places);
}

/* Replaces the first entry of a key that was set and removes further ones; all where its value is NULL. is_done: per key of the edit. */
static PapaStatus patch_metadata(Editing *e, const PapaField *field, const char *key, bool *is_done)
{
    const PapaEdit *edit = e->edit;
    for (size_t i = 0; i < edit->n_metadata; i++) {
        if (!key || strcmp(edit->metadata[i]->key, key))
            continue;
        if (!is_done[i] && edit->metadata[i]->value)
            PAPA_TRY(insert_message(e, e->model, field->start, FIELD_MODEL_METADATA, &edit->metadata[i]->base));
        is_done[i] = true;
        return papa_patches_add(&e->patches, e->model, field->start, field->end, NULL);
    }
    return PAPA_OK;
}

static PapaStatus patch_model(Editing *e)
{
    const PapaEdit *edit = e->edit;
    const PapaMapped *file = &edit->onnx->file;
    const unsigned char *end = file->data + file->size, *place = end; /* of new metadata */
    bool *is_done = PAPA_NEW_ARRAY(&e->assembly->arena, bool, edit->n_metadata);
    size_t n_entries = 0;
    PapaField field;
    if (!is_done)
        return PAPA_ERR_MEMORY;
    e->model = file->data;
    for (const unsigned char *at = file->data; at < end; at = field.end) {
        const char *wrong = papa_wire_next(&field, at, end);
        if (wrong)
            return papa_fail(PAPA_ERR_FORMAT, "a field of the model %s", wrong);
        if (field.number == FIELD_MODEL_GRAPH)
            PAPA_TRY(patch_graph(e, &field));
        if (field.number == FIELD_MODEL_METADATA) {
            PAPA_TRY(patch_metadata(e, &field, edit->onnx->model->metadata_props[n_entries++]->key, is_done));
            place = field.end;
        }
    }
    for (size_t i = 0; i < edit->n_metadata; i++)
        if (!is_done[i] && edit->metadata[i]->value)
            PAPA_TRY(insert_message(e, e->model, place, FIELD_MODEL_METADATA, &edit->metadata[i]->base));
    return PAPA_OK;
}

static PapaStatus patch_tensors(Editing *e)
{
    const PapaOnnx *onnx = e->edit->onnx;
    for (size_t i = 0; i < onnx->n_records; i++) {
        Plan plan = plan_tensor(e->assembly, e->edit, (uint32_t)i);
        if (!e->is_gone[i])
            PAPA_TRY(patch_tensor(e->assembly, &e->patches, &plan, onnx->records[i].body, onnx->records[i].end, false));
    }
    return PAPA_OK;
}

static PapaStatus assemble_edit(PapaAssembly *assembly, void *context)
{
    Editing e = {.assembly = assembly, .edit = context};
    const PapaOnnx *onnx = e.edit->onnx;
    e.is_gone = PAPA_NEW_ARRAY(&assembly->arena, bool, onnx->n_records);
    PapaStatus status = e.is_gone ? patch_model(&e) : PAPA_ERR_MEMORY;
    if (!status)
        status = patch_tensors(&e);
    if (!status)
        status = papa_splice(&assembly->model, &assembly->arena, onnx->file.data, onnx->file.size, &e.patches);
    papa_patches_free(&e.patches);
    return status;
}

PapaStatus papa_edit_raw(PapaRaw *out, const PapaEdit *edit, uint32_t index)
{
    *out = (PapaRaw){0};
    bool is_added = index >= edit->onnx->n_records;
    if (!is_added && !papa_edit_sets(edit, index))
        return papa_record_raw(out, &edit->onnx->records[index]);
    PapaPiece raw = is_added ? edit->added[index - edit->onnx->n_records].raw : edit->values[index];
    if (raw.fill)
        return papa_fill_make(out, raw.fill);
    *out = (PapaRaw){.data = raw.data, .bytes = raw.bytes};
    return PAPA_OK;
}

PapaStatus papa_edit_read_float(const PapaEdit *edit, const Onnx__TensorProto *tensor, float *to, int64_t n)
{
    int64_t index = papa_tensor_index(edit->onnx, tensor);
    if (index < 0 || !papa_edit_sets(edit, (size_t)index) || !papa_type_is_float(tensor->data_type))
        return papa_tensor_read_float(edit->onnx, tensor, to, n);
    if (n != papa_tensor_count(tensor))
        return papa_fail(PAPA_ERR_MISMATCH, "%s: has %lld elements, %lld asked for", papa_tensor_label(tensor), (long long)papa_tensor_count(tensor),
            (long long)n);
    PapaRaw raw;
    PAPA_TRY(papa_edit_raw(&raw, edit, (uint32_t)index));
    papa_raw_to_floats(to, tensor->data_type, raw.data, n);
    free(raw.owned);
    return PAPA_OK;
}

/* ---------------------------------------------------------------- files */

void papa_assembly_free(PapaAssembly *assembly)
{
    papa_rope_free(&assembly->model);
    papa_rope_free(&assembly->data);
    papa_name_map_free(&assembly->placed);
    papa_arena_free(&assembly->arena);
}

static PapaStatus write_rope(PapaWriter *writer, const PapaRope *rope, const char *path)
{
    PAPA_TRY(papa_writer_open(writer, path));
    PAPA_TRY(papa_rope_write(rope, writer));
    return papa_writer_sync(writer);
}

/* Both files are complete on the disk before either appears under its name; the one that is referred to comes first. */
static PapaStatus write_files(const PapaAssembly *assembly, const char *path, const char *data_path)
{
    PapaWriter model = {0}, data = {0};
    PapaStatus status = PAPA_OK;
    if (assembly->data.bytes)
        status = write_rope(&data, &assembly->data, data_path);
    if (!status)
        status = write_rope(&model, &assembly->model, path);
    if (!status && assembly->data.bytes)
        status = papa_writer_commit(&data);
    if (!status)
        status = papa_writer_commit(&model);
    papa_writer_abort(&model);
    papa_writer_abort(&data);
    return status;
}

PapaStatus papa_assembly_write(const PapaSource *sources, int n_sources, PapaAssembleFn *assemble, void *context, const char *path,
    uint64_t limit)
{
    PapaArena names = PAPA_ARENA_INIT;
    PapaAssembly assembly = {.sources = sources, .n_sources = n_sources};
    const char *slash = strrchr(path, '/');
    const char *data_path = papa_arena_printf(&names, "%s.data", path);
    const char *data_name = papa_arena_printf(&names, "%s.data", slash ? slash + 1 : path);
    PapaStatus status = data_path && data_name ? PAPA_OK : PAPA_ERR_MEMORY;
    for (int pass = 0; pass < 2 && !status; pass++) {
        papa_assembly_free(&assembly);
        assembly = (PapaAssembly){.sources = sources, .n_sources = n_sources, .data_name = data_name, .move_big = pass > 0};
        status = assemble(&assembly, context);
        if (assembly.model.bytes <= limit)
            break;
    }
    if (!status && assembly.model.bytes > limit)
        status = papa_fail(PAPA_ERR_UNSUPPORTED, "%s: %llu bytes even without its initializers, more than the %llu that protobuf allows", path,
            (unsigned long long)assembly.model.bytes, (unsigned long long)limit);
    if (!status)
        status = write_files(&assembly, path, data_path);
    papa_assembly_free(&assembly);
    papa_arena_free(&names);
    return status;
}

PapaStatus papa_edit_write_limited(const PapaEdit *edit, const char *path, uint64_t limit)
{
    PapaSource source = {edit->onnx->serial, edit};
    return papa_assembly_write(&source, 1, assemble_edit, (void *)edit, path, limit);
}

PapaStatus papa_edit_write(const PapaEdit *edit, const char *path)
{
    return papa_edit_write_limited(edit, path, PAPA_MODEL_LIMIT);
}
