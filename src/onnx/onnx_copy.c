/* An edited model as a skeleton: for whoever changes more than PapaEdit can say. */
#include "onnx/onnx_ensemble.h"

#include <string.h>

/* Changes the serial in all markers below a message. */
static void set_serials(ProtobufCMessage *message, uint32_t serial)
{
    if (message->descriptor == &onnx__tensor_proto__descriptor) {
        for (unsigned i = 0; i < message->n_unknown_fields; i++) {
            ProtobufCMessageUnknownField *field = &message->unknown_fields[i];
            if (field->tag == FIELD_TENSOR_MARKER && field->len == sizeof(uint64_t))
                memcpy(field->data + 4, &serial, sizeof serial); /* the upper half */
        }
        return;
    }
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        char *member = (char *)message + field->offset;
        const char *quantifier = (const char *)message + field->quantifier_offset;
        if (field->type != PROTOBUF_C_TYPE_MESSAGE || field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) /* a oneof of ONNX holds no tensor */
            continue;
        if (field->label == PROTOBUF_C_LABEL_REPEATED) {
            for (size_t k = 0; k < *(const size_t *)quantifier; k++)
                set_serials((*(ProtobufCMessage ***)member)[k], serial);
        } else if (*(ProtobufCMessage **)member) {
            set_serials(*(ProtobufCMessage **)member, serial);
        }
    }
}

static PapaStatus unpack_nodes(PapaArena *arena, const PapaNodeList *list, Onnx__GraphProto *graph)
{
    ProtobufCAllocator allocator = papa_arena_allocator(arena);
    for (const PapaPackedNode *packed = list->first; packed; packed = packed->next) {
        Onnx__NodeProto *node = onnx__node_proto__unpack(&allocator, packed->bytes, packed->data);
        if (!node)
            return papa_fail_memory(packed->bytes, "decoding a node");
        graph->node[graph->n_node++] = node;
    }
    return PAPA_OK;
}

static size_t list_length(const PapaNodeList *list)
{
    size_t n = 0;
    for (const PapaPackedNode *node = list->first; node; node = node->next)
        n++;
    return n;
}

static PapaStatus apply_nodes(PapaArena *arena, const PapaEdit *edit, const Onnx__GraphProto *from, Onnx__GraphProto *to)
{
    size_t n = from->n_node;
    for (size_t i = 0; i < from->n_node; i++)
        n += list_length(&edit->nodes[i].before) + list_length(&edit->nodes[i].by);
    to->n_node = 0;
    to->node = PAPA_NEW_ARRAY(arena, Onnx__NodeProto *, n);
    if (!to->node)
        return PAPA_ERR_MEMORY;
    for (size_t i = 0; i < from->n_node; i++) {
        PAPA_TRY(unpack_nodes(arena, &edit->nodes[i].before, to));
        PAPA_TRY(unpack_nodes(arena, &edit->nodes[i].by, to));
        if (!edit->nodes[i].is_replaced)
            to->node[to->n_node++] = from->node[i];
    }
    return PAPA_OK;
}

static PapaStatus apply_initializers(PapaArena *arena, const PapaEdit *edit, const Onnx__GraphProto *from, Onnx__GraphProto *to)
{
    to->n_initializer = 0;
    to->initializer = PAPA_NEW_ARRAY(arena, Onnx__TensorProto *, from->n_initializer + edit->n_added);
    if (!to->initializer)
        return PAPA_ERR_MEMORY;
    for (size_t i = 0; i < from->n_initializer; i++)
        if (!edit->removed[i])
            to->initializer[to->n_initializer++] = from->initializer[i];
    for (size_t i = 0; i < edit->n_added; i++)
        if (!edit->added[i].is_removed)
            to->initializer[to->n_initializer++] = edit->added[i].tensor;
    return PAPA_OK;
}

static PapaStatus apply_values(PapaArena *arena, const PapaEdit *edit, const Onnx__GraphProto *from, Onnx__GraphProto *to)
{
    to->n_input = to->n_value_info = 0;
    to->input = PAPA_NEW_ARRAY(arena, Onnx__ValueInfoProto *, from->n_input + edit->n_added);
    to->value_info = PAPA_NEW_ARRAY(arena, Onnx__ValueInfoProto *, from->n_value_info);
    if (!to->input || !to->value_info)
        return PAPA_ERR_MEMORY;
    for (size_t i = 0; i < from->n_input; i++)
        if (!papa_edit_removes_input(edit, from->input[i]->name))
            to->input[to->n_input++] = from->input[i];
    for (size_t i = 0; i < edit->n_added && papa_inputs_are_needed(edit->onnx->model); i++) {
        if (edit->added[i].is_removed)
            continue;
        to->input[to->n_input] = papa_tensor_value_info(arena, edit->added[i].tensor);
        if (!to->input[to->n_input++])
            return PAPA_ERR_MEMORY;
    }
    for (size_t i = 0; i < from->n_value_info; i++) {
        const char *name = from->value_info[i]->name;
        if (!name || !papa_name_map_find(&edit->removed_info, name))
            to->value_info[to->n_value_info++] = from->value_info[i];
    }
    return PAPA_OK;
}

Onnx__ModelProto *papa_edit_copy_model(PapaArena *arena, const PapaEdit *edit, uint32_t serial)
{
    Onnx__ModelProto model = *edit->onnx->model; /* shares all lists; those of the graph that edits touch are made anew */
    Onnx__GraphProto graph = *model.graph;
    if (apply_nodes(arena, edit, model.graph, &graph) || apply_initializers(arena, edit, model.graph, &graph) ||
        apply_values(arena, edit, model.graph, &graph))
        return NULL;
    model.graph = &graph;
    model.n_training_info = 0;
    size_t bytes;
    unsigned char *packed = papa_pack_message(arena, &model.base, &bytes);
    ProtobufCAllocator allocator = papa_arena_allocator(arena);
    Onnx__ModelProto *copy = packed ? onnx__model_proto__unpack(&allocator, bytes, packed) : NULL;
    if (copy)
        set_serials(&copy->base, serial);
    return copy;
}
