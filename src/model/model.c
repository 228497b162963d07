/* Opening a model, finding its classifier and its parameters. */
#include "model/model.h"

#include "base/names.h"
#include "graph/op.h"
#include "model/net.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

PapaStatus papa_model_open(PapaModel **out, const char *path)
{
    PapaModel *model = calloc(1, sizeof *model);
    if (!model)
        return papa_fail_memory(sizeof *model, "a model");
    PapaStatus status = papa_onnx_open(&model->onnx, path);
    if (status != PAPA_OK) {
        free(model);
        return status;
    }
    *out = model;
    return PAPA_OK;
}

PapaStatus papa_model_share(PapaModel **out, const PapaModel *model)
{
    PapaModel *other = calloc(1, sizeof *other);
    if (!other)
        return papa_fail_memory(sizeof *other, "a model");
    *other = (PapaModel){.onnx = model->onnx, .shares_onnx = true};
    *out = other;
    return PAPA_OK;
}

void papa_model_close(PapaModel *model)
{
    if (!model)
        return;
    papa_arena_free(&model->arena);
    if (!model->shares_onnx)
        papa_onnx_close(model->onnx);
    free(model);
}

/* ---------------------------------------------------------------- the classifier */

static const Onnx__TensorShapeProto *float_tensor_shape(const Onnx__ValueInfoProto *info)
{
    const Onnx__TypeProto__Tensor *tensor = papa_tensor_type(info);
    return tensor && papa_type_is_float(tensor->elem_type) ? tensor->shape : NULL;
}

static int64_t known_dim(const Onnx__TensorShapeProto *shape, size_t i)
{
    const Onnx__TensorShapeProto__Dimension *dim = i < shape->n_dim ? shape->dim[i] : NULL;
    return dim && dim->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE && dim->dim_value > 0 ? dim->dim_value : 0;
}

static bool is_initializer(const Onnx__GraphProto *graph, const char *name)
{
    for (size_t i = 0; i < graph->n_initializer; i++)
        if (strcmp(graph->initializer[i]->name, name) == 0)
            return true;
    return false;
}

static PapaStatus find_input(PapaHead *head, const PapaModel *model)
{
    const Onnx__GraphProto *graph = papa_onnx_graph(model->onnx);
    const char *path = papa_onnx_path(model->onnx);
    for (size_t i = 0; i < graph->n_input; i++) {
        const Onnx__ValueInfoProto *input = graph->input[i];
        if (is_initializer(graph, input->name))
            continue;
        const Onnx__TensorShapeProto *shape = float_tensor_shape(input);
        if (head->input)
            return papa_fail(PAPA_ERR_UNSUPPORTED, "%s: has the inputs '%s' and '%s'; an image classifier has one", path, head->input, input->name);
        const Onnx__TypeProto__Tensor *tensor = papa_tensor_type(input);
        if (!shape || shape->n_dim < 2 || shape->n_dim > 4)
            return papa_fail(PAPA_ERR_MISMATCH, "%s: input '%s' is no batch of images: expected floats of rank 2 to 4, found %s of rank %zu", path,
                input->name, tensor ? papa_type_name(tensor->elem_type) : "no tensor", tensor && tensor->shape ? tensor->shape->n_dim : 0);
        if (shape->n_dim == 4 && known_dim(shape, 1) > 3 && (known_dim(shape, 3) == 1 || known_dim(shape, 3) == 3))
            return papa_fail(PAPA_ERR_UNSUPPORTED, "%s: input '%s' takes %lldx%lldx%lld, channels last: expected channels x height x width", path,
                input->name, (long long)known_dim(shape, 1), (long long)known_dim(shape, 2), (long long)known_dim(shape, 3));
        head->input = input->name;
        head->input_rank = (int)shape->n_dim;
        if (shape->n_dim == 4)
            head->size = (PapaImageSize){known_dim(shape, 1), known_dim(shape, 2), known_dim(shape, 3)};
        else if (shape->n_dim == 3)
            head->size = (PapaImageSize){1, known_dim(shape, 1), known_dim(shape, 2)};
        else
            head->features = known_dim(shape, 1);
    }
    return head->input ? PAPA_OK : papa_fail(PAPA_ERR_MISMATCH, "%s: has no input", path);
}

static bool may_classify(const Onnx__GraphProto *graph, size_t output)
{
    const Onnx__TensorShapeProto *shape = float_tensor_shape(graph->output[output]);
    return graph->n_output == 1 || (shape && shape->n_dim == 2);
}

static const Onnx__ValueInfoProto *choose_output(const Onnx__GraphProto *graph, const char *name)
{
    for (size_t i = 0; i < graph->n_output; i++)
        if (name ? strcmp(graph->output[i]->name, name) == 0 : may_classify(graph, i))
            return graph->output[i];
    return NULL;
}

static const Onnx__NodeProto *maker_of(const Onnx__GraphProto *graph, const char *value)
{
    for (size_t i = 0; i < graph->n_node; i++)
        for (size_t k = 0; k < graph->node[i]->n_output; k++)
            if (strcmp(graph->node[i]->output[k], value) == 0)
                return graph->node[i];
    return NULL;
}

/* The loss is taken in front of a final Softmax or LogSoftmax. */
static PapaStatus find_logits(PapaHead *head, const Onnx__GraphProto *graph)
{
    head->logits = head->output;
    const Onnx__NodeProto *maker = maker_of(graph, head->output);
    for (size_t i = 0; i < graph->n_node && maker && strcmp(maker->op_type, "Identity") == 0 && maker->n_input == 1; i++) /* the graph may be cyclic */
        maker = maker_of(graph, maker->input[0]);
    if (!maker || maker->n_input != 1)
        return PAPA_OK;
    if (strcmp(maker->op_type, "Sigmoid") == 0 || strcmp(maker->op_type, "HardSigmoid") == 0)
        head->squashed = maker->op_type;
    head->softmax = strcmp(maker->op_type, "Softmax") == 0 ? 1 : strcmp(maker->op_type, "LogSoftmax") == 0 ? 2 : 0;
    if (!head->softmax)
        return PAPA_OK;
    int64_t axis;
    PAPA_TRY(papa_attr_int(maker, "axis", -1, &axis)); /* 1 before opset 13: the same for rank 2 */
    head->softmax_axis = (int)axis;
    head->logits = maker->input[0];
    return axis == 1 || axis == -1 ? PAPA_OK
                                   : papa_fail(PAPA_ERR_UNSUPPORTED, "%s: a final softmax over axis %lld is no classifier's", papa_node_label(maker), (long long)axis);
}

PapaStatus papa_model_find_logits(PapaHead *head, const PapaModel *model)
{
    return find_logits(head, papa_onnx_graph(model->onnx));
}

/* Arithmetic on the input as it comes is a normalisation. */
static const char *input_arithmetic(const Onnx__GraphProto *graph, const char *input)
{
    static const char *const types[] = {"Add", "Sub", "Mul", "Div"};
    for (size_t i = 0; i < graph->n_node; i++)
        for (size_t k = 0; k < graph->node[i]->n_input; k++)
            for (size_t t = 0; t < sizeof types / sizeof *types; t++)
                if (strcmp(graph->node[i]->input[k], input) == 0 && strcmp(graph->node[i]->op_type, types[t]) == 0)
                    return types[t];
    return NULL;
}

PapaStatus papa_model_head(PapaHead *out, const PapaModel *model, const char *output_name)
{
    const Onnx__GraphProto *graph = papa_onnx_graph(model->onnx);
    PapaHead head = {0};
    PAPA_TRY(find_input(&head, model));
    const Onnx__ValueInfoProto *output = choose_output(graph, output_name);
    if (!output && output_name)
        return papa_fail(PAPA_ERR_MISMATCH, "%s: has no output '%s'", papa_onnx_path(model->onnx), output_name);
    if (!output)
        return papa_fail(PAPA_ERR_MISMATCH, "%s: none of its %zu outputs is a float tensor of rank 2; name the classifier's", papa_onnx_path(model->onnx),
            graph->n_output);
    head.output = output->name;
    head.normalizes = input_arithmetic(graph, head.input);
    for (size_t i = 0; i < graph->n_output; i++)
        head.n_outputs += may_classify(graph, i);
    const Onnx__TensorShapeProto *shape = float_tensor_shape(output);
    if (shape && shape->n_dim > 1)
        head.n_classes = (int)known_dim(shape, 1);
    PapaStatus status = find_logits(&head, graph);
    if (status != PAPA_OK)
        return papa_fail_in(status, "%s", papa_onnx_path(model->onnx));
    *out = head;
    return PAPA_OK;
}

PapaStatus papa_model_info(PapaModelInfo *out, const PapaModel *model, const char *output_name)
{
    PapaHead head;
    PAPA_TRY(papa_model_head(&head, model, output_name));
    *out = (PapaModelInfo){
        .path = papa_onnx_path(model->onnx),
        .ir_version = papa_onnx_model(model->onnx)->ir_version,
        .opset = papa_onnx_opset(model->onnx, ""),
        .input = head.input,
        .output = head.output,
        .size = head.size,
        .n_classes = head.n_classes,
    };
    return PAPA_OK;
}

/* ---------------------------------------------------------------- selection */

/* Whether name matches one of the comma-separated shell patterns. found: set where one does. */
static PapaStatus matches(const char *patterns, const char *name, bool *out)
{
    *out = false;
    char pattern[1024];
    for (const char *p = patterns; p && *p && !*out; p += *p == ',') {
        size_t length = strcspn(p, ",");
        if (length >= sizeof pattern)
            return papa_fail(PAPA_ERR_ARGUMENT, "a pattern of tensor names is longer than %zu bytes", sizeof pattern - 1);
        memcpy(pattern, p, length);
        pattern[length] = 0;
        *out = fnmatch(pattern, name, 0) == 0;
        p += length;
    }
    return PAPA_OK;
}

static bool is_learned(PapaRole role)
{
    return role == PAPA_ROLE_WEIGHT || role == PAPA_ROLE_BIAS || role == PAPA_ROLE_SCALE || role == PAPA_ROLE_SHIFT;
}

static PapaStatus is_trained(bool *out, const PapaParam *param, const PapaModelSelection *selection)
{
    bool train = true, freeze = false;
    if (selection->train)
        PAPA_TRY(matches(selection->train, param->name, &train));
    PAPA_TRY(matches(selection->freeze, param->name, &freeze));
    *out = is_learned(param->role) && param->tensor && train && !freeze && !(selection->freeze_bn && param->is_batchnorm);
    return PAPA_OK;
}

static bool decays(const PapaParam *param, const PapaModelSelection *selection)
{
    return selection->decay_all || !(param->is_normalization || param->role == PAPA_ROLE_BIAS || param->role == PAPA_ROLE_SHIFT);
}

/* What normalises with a tensor. */
typedef enum Mark { OF_NONE, OF_NORMALIZATION, OF_BATCHNORM } Mark;

/* What normalisations read next to their data, also where it is moved or cast on the way. */
static void mark_normalizations(const PapaGraph *graph, Mark *marks)
{
    for (int k = 0; k < graph->n_nodes; k++) {
        const PapaNode *node = graph->nodes[k];
        Mark mark = OF_NORMALIZATION;
        int64_t fan_in;
        if (!node->op->normalizes)
            continue;
        for (int i = 1; i < node->n_in; i++)
            if (node->in[i] && node->op->role(node, i, &fan_in) == PAPA_ROLE_VARIANCE)
                mark = OF_BATCHNORM;
        for (int i = 1; i < node->n_in; i++) {
            const PapaValue *value = node->in[i];
            while (value && value->producer && value->producer->op->carries_role)
                value = value->producer->in[0];
            if (value && marks[value->index] < mark)
                marks[value->index] = mark;
        }
    }
}

static PapaStatus add_params(PapaModel *model, const PapaGraph *graph)
{
    Mark *marks = PAPA_NEW_ARRAY(&model->arena, Mark, graph->n_values);
    if (!marks)
        return PAPA_ERR_MEMORY;
    mark_normalizations(graph, marks);
    for (int i = 0; i < graph->n_values; i++) {
        const PapaValue *value = graph->values[i];
        if (value->kind != PAPA_VALUE_TENSOR || value->role == PAPA_ROLE_NONE)
            continue;
        model->params[model->n_params++] = (PapaParam){
            .name = value->name, .tensor = value->tensor, .shape = value->shape, .role = value->role, .fan_in = value->fan_in,
            .count = papa_shape_count(&value->shape),
            .is_normalization = marks[i] != OF_NONE, .is_batchnorm = marks[i] == OF_BATCHNORM,
        };
        model->has_statistics |= value->role == PAPA_ROLE_VARIANCE;
    }
    return PAPA_OK;
}

/* Biases that REPAIR may need. Their names are made unique when they are written. */
static PapaStatus add_made_biases(PapaModel *model)
{
    PapaArena scratch = PAPA_ARENA_INIT;
    PapaTap *taps;
    int n_taps;
    int64_t n_stats;
    PapaStatus status = papa_model_taps(&taps, &n_taps, &n_stats, model, &scratch, NULL);
    for (int i = 0; status == PAPA_OK && i < n_taps; i++) {
        if (taps[i].bias >= 0)
            continue;
        const char *name = papa_arena_printf(&model->arena, "%s_bias", taps[i].value);
        if (!name)
            status = PAPA_ERR_MEMORY;
        model->params[model->n_params++] = (PapaParam){
            .name = name, .made_for = taps[i].node, .shape = {1, {taps[i].n_channels}}, .role = PAPA_ROLE_BIAS, .count = taps[i].n_channels,
        };
    }
    papa_arena_free(&scratch);
    return status;
}

static int64_t aligned(int64_t count)
{
    return (count + PAPA_STORE_ALIGN - 1) / PAPA_STORE_ALIGN * PAPA_STORE_ALIGN;
}

static void lay_out(PapaModel *model, const PapaModelSelection *selection)
{
    int64_t *ends[] = {&model->store.n_decayed, &model->store.n_trained, &model->store.n_total}, offset = 0;
    for (int group = 0; group < 3; group++) {
        for (int i = 0; i < model->n_params; i++) {
            PapaParam *param = &model->params[i];
            int of = !param->trained ? 2 : decays(param, selection) ? 0 : 1;
            if (of != group)
                continue;
            param->offset = offset;
            offset += aligned(param->count);
        }
        *ends[group] = offset;
    }
}

static PapaStatus select_trained(PapaModel *model, const PapaModelSelection *selection)
{
    bool train_used = !selection->train, freeze_used = !selection->freeze;
    for (int i = 0; i < model->n_params; i++) {
        PapaParam *param = &model->params[i];
        bool hit = false;
        PAPA_TRY(is_trained(&param->trained, param, selection));
        PAPA_TRY(matches(selection->train, param->name, &hit));
        train_used |= hit;
        PAPA_TRY(matches(selection->freeze, param->name, &hit));
        freeze_used |= hit;
    }
    if (!train_used || !freeze_used)
        return papa_fail(PAPA_ERR_ARGUMENT, "%s: no trainable tensor's name matches '%s'", papa_onnx_path(model->onnx),
            train_used ? selection->freeze : selection->train);
    return PAPA_OK;
}

PapaStatus papa_model_find_params(PapaModel *model, const char *const *outputs, int n_outputs, const PapaModelSelection *selection)
{
    PapaGraph *graph = NULL;
    PAPA_TRY(papa_graph_read(&graph, model->onnx, &(PapaGraphOptions){.mode = selection->cut ? PAPA_MODE_INFER : PAPA_MODE_TRAIN, .outputs = outputs,
        .n_outputs = n_outputs, .opaque = selection->cut}));
    PapaStatus status = PAPA_OK;
    model->n_params = 0;
    model->has_statistics = false;
    model->frozen_statistics = selection->freeze_bn;
    model->params = PAPA_NEW_ARRAY(&model->arena, PapaParam, graph->n_values + graph->n_nodes);
    if (!model->params)
        PAPA_GOTO(PAPA_ERR_MEMORY);
    PAPA_GOTO(add_params(model, graph));
    PAPA_GOTO(select_trained(model, selection));
    if (selection->make_biases)
        PAPA_GOTO(add_made_biases(model));
    lay_out(model, selection);
out:
    papa_graph_free(graph);
    return status;
}

PapaStatus papa_model_select(PapaModel *model, const PapaModelSelection *selection)
{
    papa_arena_free(&model->arena);
    *model = (PapaModel){.onnx = model->onnx, .shares_onnx = model->shares_onnx};
    PAPA_TRY(papa_model_head(&model->head, model, selection->output));
    PAPA_TRY(papa_model_find_params(model, &model->head.logits, 1, selection));
    if (model->store.n_trained)
        return PAPA_OK;
    for (int i = 0; i < model->n_params; i++)
        if (is_learned(model->params[i].role) && model->params[i].tensor)
            return papa_fail(PAPA_ERR_ARGUMENT, "%s: no tensor is left to train", papa_onnx_path(model->onnx));
    return papa_fail(PAPA_ERR_MISMATCH, "%s: has no tensor that can be trained", papa_onnx_path(model->onnx));
}

/* ---------------------------------------------------------------- listing */

static const char *role_name(const PapaParam *param)
{
    static const char *const names[] = {"constant", "weight", "bias", "scale", "shift", "running mean", "running variance"};
    return names[param->role];
}

/* What training does with a tensor, and if nothing, which option says so. */
static PapaStatus fate(const char **out, const PapaParam *param, const PapaTrainOptions *options)
{
    bool hit;
    *out = param->trained ? "trained" : is_learned(param->role) ? "frozen: not in train" : options->freeze_bn ? "statistic: kept" : "statistic";
    if (param->trained || !is_learned(param->role))
        return PAPA_OK;
    PAPA_TRY(matches(options->freeze, param->name, &hit));
    if (hit)
        *out = "frozen: in freeze";
    else if (options->freeze_bn && param->is_batchnorm)
        *out = "frozen: freeze_bn";
    return PAPA_OK;
}

PapaStatus papa_model_list_tensors(const PapaModel *model, const PapaTrainOptions *options, const PapaHooks *hooks)
{
    PapaModel *own;
    PAPA_TRY(papa_model_open(&own, papa_onnx_path(model->onnx)));
    PapaModelSelection selection = {.output = options->output, .train = options->train, .freeze = options->freeze,
        .freeze_bn = options->freeze_bn, .decay_all = options->decay_all};
    PapaStatus status = papa_model_select(own, &selection);
    for (int i = 0; status == PAPA_OK && i < own->n_params && hooks && hooks->remark; i++) {
        const PapaParam *param = &own->params[i];
        const char *what;
        char line[1200];
        PAPA_GOTO(fate(&what, param, options));
        snprintf(line, sizeof line, "%-40s %-24s %-16s %s", param->name, papa_shape_text(&param->shape), role_name(param), what);
        hooks->remark(hooks->context, line);
    }
out:
    papa_model_close(own);
    return status;
}

const char *papa_version(void)
{
    return PAPA_VERSION;
}
