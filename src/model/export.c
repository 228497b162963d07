/* From a trained store back to the file: the edits that make the inference form of the network. */
#include "base/names.h"
#include "graph/op.h"
#include "model/model.h"
#include "model/net.h"

#include <string.h>

/* Nodes change in copies, so that several edits may meet in one node. */
typedef struct Export {
    PapaEdit *edit;
    PapaArena arena;
    const PapaModel *model;
    const Onnx__GraphProto *graph;
    Onnx__NodeProto **copies; /* by node of the graph; NULL: unchanged */
} Export;

/* The copy of node i, whose input list has room for one more. */
static Onnx__NodeProto *writable(Export *x, size_t i)
{
    if (x->copies[i])
        return x->copies[i];
    const Onnx__NodeProto *node = x->graph->node[i];
    Onnx__NodeProto *copy = PAPA_NEW(&x->arena, Onnx__NodeProto);
    char **input = PAPA_NEW_ARRAY(&x->arena, char *, node->n_input + 1), **output = PAPA_NEW_ARRAY(&x->arena, char *, node->n_output);
    Onnx__AttributeProto **attribute = PAPA_NEW_ARRAY(&x->arena, Onnx__AttributeProto *, node->n_attribute);
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
    return x->copies[i] = copy;
}

static bool keeps_output(const Onnx__NodeProto *node, const char *name)
{
    for (size_t i = 0; i < node->n_output; i++)
        if (strcmp(node->output[i], name) == 0)
            return true;
    return false;
}

static PapaStatus to_inference(Export *x, size_t i)
{
    const Onnx__NodeProto *node = x->graph->node[i];
    const PapaOp *op = papa_op_find(node->domain, node->op_type, papa_onnx_opset(x->model->onnx, node->domain ? node->domain : ""));
    if (!op || !op->to_inference)
        return PAPA_OK;
    Onnx__NodeProto *before = x->copies[i], *copy = writable(x, i);
    if (!copy)
        return PAPA_ERR_MEMORY;
    if (!op->to_inference(copy)) {
        x->copies[i] = before; /* an unchanged node keeps its bytes */
        return PAPA_OK;
    }
    for (size_t k = 0; k < node->n_output; k++)
        if (*node->output[k] && !keeps_output(copy, node->output[k]))
            PAPA_TRY(papa_edit_remove_value_info(x->edit, node->output[k]));
    return PAPA_OK;
}

/* ---------------------------------------------------------------- biases that the file lacks */

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

void papa_model_round_made(const PapaModel *model, const PapaParam *param, float *values)
{
    int type = weight_type(model, param->made_for);
    for (int64_t i = 0; i < param->count; i++) {
        double raw; /* room for any float type */
        papa_floats_to_raw(&raw, type, &values[i], 1);
        papa_raw_to_floats(&values[i], type, &raw, 1);
    }
}

/* A new initializer, and the layer's node with one input more. */
static PapaStatus add_bias(Export *x, const PapaParam *param, const float *values)
{
    if (is_zero(values, param->count))
        return PAPA_OK;
    size_t i = 0;
    while (x->graph->node[i] != param->made_for)
        i++;
    const char *name = papa_edit_unique_name(x->edit, param->name);
    Onnx__NodeProto *copy = writable(x, i);
    if (!name || !copy)
        return PAPA_ERR_MEMORY;
    PAPA_TRY(papa_edit_add_initializer(x->edit, name, weight_type(x->model, param->made_for), param->shape.dim, param->shape.rank, values));
    if (copy->n_input == 2)
        copy->n_input = 3;
    copy->input[2] = (char *)name;
    return PAPA_OK;
}

/* ---------------------------------------------------------------- normalisation in front */

static int input_type(const Export *x)
{
    for (size_t i = 0; i < x->graph->n_input; i++)
        if (strcmp(x->graph->input[i]->name, x->model->head.input) == 0)
            return x->graph->input[i]->type->tensor_type->elem_type;
    return ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
}

/* One value per channel, shaped to broadcast over the input: (C, 1, 1); for flat inputs one per feature. */
static const char *add_channel_values(Export *x, const char *base, const float *channels, PapaImageSize size)
{
    const char *name = papa_edit_unique_name(x->edit, base);
    bool flat = x->model->head.input_rank == 2;
    int64_t pixels = flat ? size.height * size.width : 1, n = size.channels * pixels;
    float *values = PAPA_NEW_ARRAY(&x->arena, float, n);
    if (!name || !values)
        return NULL;
    for (int64_t i = 0; i < n; i++)
        values[i] = channels[i / pixels];
    const int64_t image[] = {size.channels, 1, 1}, features[] = {n};
    int rank = x->model->head.input_rank == 4 ? 3 : 1;
    return papa_edit_add_initializer(x->edit, name, input_type(x), rank == 3 ? image : features, rank, values) == PAPA_OK ? name : NULL;
}

static Onnx__NodeProto *new_node(Export *x, const char *type, const char *base, const char *a, const char *b)
{
    Onnx__NodeProto *node = PAPA_NEW(&x->arena, Onnx__NodeProto);
    char **names = PAPA_NEW_ARRAY(&x->arena, char *, 3);
    const char *output = papa_edit_unique_name(x->edit, base);
    if (!node || !names || !output)
        return NULL;
    onnx__node_proto__init(node);
    names[0] = (char *)a;
    names[1] = (char *)b;
    names[2] = (char *)output;
    node->op_type = (char *)type;
    node->name = (char *)output;
    node->n_input = 2;
    node->input = names;
    node->n_output = 1;
    node->output = names + 2;
    return node;
}

/* Mul and Add in front of the input's first reader; all its readers take their result. */
static PapaStatus scale_input(Export *x, const PapaInputScale *scale)
{
    const char *input = x->model->head.input, *factors = add_channel_values(x, "papa_scale", scale->scale, scale->size);
    const char *terms = factors ? add_channel_values(x, "papa_shift", scale->shift, scale->size) : NULL;
    Onnx__NodeProto *mul = terms ? new_node(x, "Mul", "papa_scaled", input, factors) : NULL;
    Onnx__NodeProto *add = mul ? new_node(x, "Add", "papa_normalized", mul->output[0], terms) : NULL;
    if (!add)
        return PAPA_ERR_MEMORY;
    bool placed = false;
    for (size_t i = 0; i < x->graph->n_node; i++)
        for (size_t k = 0; k < x->graph->node[i]->n_input; k++) {
            if (strcmp(x->graph->node[i]->input[k], input) != 0)
                continue;
            if (!placed)
                PAPA_TRY(papa_edit_insert_before(x->edit, x->graph->node[i], (const Onnx__NodeProto *const[]){mul, add}, 2));
            placed = true;
            Onnx__NodeProto *copy = writable(x, i);
            if (!copy)
                return PAPA_ERR_MEMORY;
            copy->input[k] = add->output[0];
        }
    return PAPA_OK;
}

/* ---------------------------------------------------------------- all of it */

static PapaStatus open_copies(Export *x)
{
    x->copies = PAPA_NEW_ARRAY(&x->arena, Onnx__NodeProto *, x->graph->n_node);
    return x->copies ? PAPA_OK : PAPA_ERR_MEMORY;
}

static PapaStatus put_copies(Export *x)
{
    for (size_t i = 0; i < x->graph->n_node; i++)
        if (x->copies[i])
            PAPA_TRY(papa_edit_replace_node(x->edit, x->graph->node[i], (const Onnx__NodeProto *const *)&x->copies[i], 1));
    return PAPA_OK;
}

static PapaStatus collect(Export *x, const float *store, const PapaInputScale *scale)
{
    const PapaModel *model = x->model;
    PAPA_TRY(open_copies(x));
    for (int i = 0; i < model->n_params; i++) {
        const PapaParam *param = &model->params[i];
        const float *values = store + param->offset;
        if (!param->tensor)
            PAPA_TRY(add_bias(x, param, values));
        else if (param->trained || param->role == PAPA_ROLE_MEAN || param->role == PAPA_ROLE_VARIANCE)
            PAPA_TRY(papa_edit_set_tensor(x->edit, param->tensor, values, param->count));
    }
    for (size_t i = 0; i < x->graph->n_node; i++)
        PAPA_TRY(to_inference(x, i));
    if (scale)
        PAPA_TRY(scale_input(x, scale));
    return put_copies(x);
}

PapaStatus papa_model_edit(PapaEdit **out, const PapaModel *model, const float *store, const PapaInputScale *scale)
{
    Export x = {.model = model, .graph = papa_onnx_graph(model->onnx)};
    PAPA_TRY(papa_edit_new(&x.edit, model->onnx));
    PapaStatus status = collect(&x, store, scale);
    papa_arena_free(&x.arena);
    if (status != PAPA_OK) {
        papa_edit_free(x.edit);
        return status;
    }
    *out = x.edit;
    return PAPA_OK;
}

static PapaStatus collect_params(Export *x, const float *store, const float *before)
{
    const PapaModel *model = x->model;
    PAPA_TRY(open_copies(x));
    for (int i = 0; i < model->n_params; i++) {
        const PapaParam *param = &model->params[i];
        const float *values = store + param->offset;
        if (!param->tensor)
            PAPA_TRY(add_bias(x, param, values));
        else if (memcmp(values, before + param->offset, (size_t)param->count * sizeof *values) != 0)
            PAPA_TRY(papa_edit_set_tensor(x->edit, param->tensor, values, param->count));
    }
    return put_copies(x);
}

PapaStatus papa_model_edit_params(PapaEdit *edit, const PapaModel *model, const float *store, const float *before)
{
    Export x = {.edit = edit, .model = model, .graph = papa_onnx_graph(model->onnx)};
    PapaStatus status = collect_params(&x, store, before);
    papa_arena_free(&x.arena);
    return status;
}
