/* From a trained store back to the file: the edits that make the inference form of the network. */
#include "base/names.h"
#include "graph/op.h"
#include "model/model.h"
#include "model/net.h"

#include <string.h>

/* A copy of node whose arrays may be cut or grown by `more` inputs. */
static Onnx__NodeProto *copy_node(PapaArena *arena, const Onnx__NodeProto *node, size_t more)
{
    Onnx__NodeProto *copy = PAPA_NEW(arena, Onnx__NodeProto);
    char **input = PAPA_NEW_ARRAY(arena, char *, node->n_input + more), **output = PAPA_NEW_ARRAY(arena, char *, node->n_output);
    Onnx__AttributeProto **attribute = PAPA_NEW_ARRAY(arena, Onnx__AttributeProto *, node->n_attribute);
    if (!copy || !input || !output || !attribute)
        return NULL;
    *copy = *node;
    if (node->n_input)
        memcpy(input, node->input, node->n_input * sizeof *input);
    if (node->n_output)
        memcpy(output, node->output, node->n_output * sizeof *output);
    if (node->n_attribute)
        memcpy(attribute, node->attribute, node->n_attribute * sizeof *attribute);
    copy->input = input;
    copy->output = output;
    copy->attribute = attribute;
    return copy;
}

static bool keeps_output(const Onnx__NodeProto *node, const char *name)
{
    for (size_t i = 0; i < node->n_output; i++)
        if (strcmp(node->output[i], name) == 0)
            return true;
    return false;
}

static PapaStatus edit_node(PapaEdit *edit, PapaArena *arena, const PapaModel *model, const Onnx__NodeProto *node)
{
    const PapaOp *op = papa_op_find(node->domain, node->op_type, papa_onnx_opset(model->onnx, node->domain ? node->domain : ""));
    if (!op || !op->to_inference)
        return PAPA_OK;
    Onnx__NodeProto *copy = copy_node(arena, node, 0);
    if (!copy)
        return PAPA_ERR_MEMORY;
    if (!op->to_inference(copy))
        return PAPA_OK;
    for (size_t i = 0; i < node->n_output; i++)
        if (*node->output[i] && !keeps_output(copy, node->output[i]))
            PAPA_TRY(papa_edit_remove_value_info(edit, node->output[i]));
    return papa_edit_replace_node(edit, node, (const Onnx__NodeProto *const[]){copy}, 1);
}

static bool is_zero(const float *values, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (values[i] != 0)
            return false;
    return true;
}

/* The type that a made bias must have: its layer's weight's. */
static int weight_type(const PapaModel *model, const Onnx__NodeProto *node)
{
    for (int i = 0; i < model->n_params; i++)
        if (model->params[i].tensor && node->n_input > 1 && strcmp(model->params[i].name, node->input[1]) == 0)
            return model->params[i].tensor->data_type;
    return ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
}

/* Writes a bias that the file lacks: a new initializer, and the layer's node with one input more. */
static PapaStatus add_bias(PapaEdit *edit, PapaArena *arena, const PapaModel *model, const PapaParam *param, const float *values)
{
    const Onnx__NodeProto *node = param->made_for;
    if (is_zero(values, param->count))
        return PAPA_OK;
    const char *name = papa_edit_unique_name(edit, param->name);
    Onnx__NodeProto *copy = copy_node(arena, node, 1);
    if (!name || !copy)
        return PAPA_ERR_MEMORY;
    PAPA_TRY(papa_edit_add_initializer(edit, name, weight_type(model, node), param->shape.dim, param->shape.rank, values));
    if (copy->n_input == 2)
        copy->n_input = 3;
    copy->input[2] = (char *)name;
    return papa_edit_replace_node(edit, node, (const Onnx__NodeProto *const[]){copy}, 1);
}

PapaStatus papa_model_edit(PapaEdit **out, const PapaModel *model, const float *store)
{
    PapaEdit *edit;
    PAPA_TRY(papa_edit_new(&edit, model->onnx));
    PapaArena arena = PAPA_ARENA_INIT;
    PapaStatus status = PAPA_OK;
    const Onnx__GraphProto *graph = papa_onnx_graph(model->onnx);
    for (int i = 0; i < model->n_params; i++) {
        const PapaParam *param = &model->params[i];
        const float *values = store + param->offset;
        if (!param->tensor)
            PAPA_GOTO(add_bias(edit, &arena, model, param, values));
        else if (param->trained || param->role == PAPA_ROLE_MEAN || param->role == PAPA_ROLE_VARIANCE)
            PAPA_GOTO(papa_edit_set_tensor(edit, param->tensor, values, param->count));
    }
    for (size_t i = 0; i < graph->n_node; i++)
        PAPA_GOTO(edit_node(edit, &arena, model, graph->node[i]));
out:
    papa_arena_free(&arena);
    if (status != PAPA_OK) {
        papa_edit_free(edit);
        return status;
    }
    *out = edit;
    return PAPA_OK;
}
