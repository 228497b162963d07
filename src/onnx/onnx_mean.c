/* The nodes that average the members' values. */
#include "onnx/onnx_ensemble.h"

#include <string.h>

static Onnx__NodeProto *add_node(PapaEnsemble *e, const char *type, const char *const *inputs, int n_inputs, const char *output)
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
static const char *mean_name(PapaEnsemble *e, const char *suffix)
{
    char *name = papa_arena_printf(&e->arena, "%s/%s", e->options->output, suffix);
    while (name && papa_name_map_find(&e->inputs, name))
        name = papa_arena_printf(&e->arena, "%s_", name);
    return name;
}

/* A scalar initializer of the result's type. */
static const char *add_scalar(PapaEnsemble *e, int type, double value, const char *name)
{
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

static PapaStatus add_softmax(PapaEnsemble *e, const char *type, const char *input, const char *output)
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

static bool weights_are_equal(const PapaEnsemble *e)
{
    for (int k = 1; k < e->n_members; k++)
        if (e->members[k].weight != e->members[0].weight)
            return false;
    return true;
}

/* mean_name with a member's number behind the suffix. */
static const char *term_name(PapaEnsemble *e, const char *suffix, int k)
{
    char *numbered = papa_arena_printf(&e->arena, "%s%d", suffix, k);
    return numbered ? mean_name(e, numbered) : NULL;
}

/* The values to sum: the members' values or their Softmax, weighted where the weights differ. */
static PapaStatus add_term(PapaEnsemble *e, int type, int k, bool weighted, const char **term)
{
    *term = papa_member_new_name(&e->members[k], e->members[k].output);
    if (e->options->probabilities) {
        const char *softmax = term_name(e, "softmax", k);
        PAPA_TRY(softmax ? add_softmax(e, "Softmax", *term, softmax) : PAPA_ERR_MEMORY);
        *term = softmax;
    }
    if (weighted) {
        const char *weight = add_scalar(e, type, e->members[k].weight, term_name(e, "weight", k)), *product = term_name(e, "term", k);
        if (!weight || !product || !add_node(e, "Mul", (const char *[]){*term, weight}, 2, product))
            return PAPA_ERR_MEMORY;
        *term = product;
    }
    return PAPA_OK;
}

/* Sum of the members' values times one weight, or sum of weighted values. Fewer products, and for equal weights the
 * rounding is that of a plain mean. */
static PapaStatus add_mean(PapaEnsemble *e, int type, const char *output)
{
    const char **terms = PAPA_NEW_ARRAY(&e->arena, const char *, e->n_members);
    bool equal = weights_are_equal(e);
    if (!terms)
        return PAPA_ERR_MEMORY;
    for (int k = 0; k < e->n_members; k++)
        PAPA_TRY(add_term(e, type, k, !equal, &terms[k]));
    if (e->n_members == 1)
        return add_node(e, "Identity", terms, 1, output) ? PAPA_OK : PAPA_ERR_MEMORY;
    if (!equal)
        return add_node(e, "Sum", terms, e->n_members, output) ? PAPA_OK : PAPA_ERR_MEMORY;
    const char *sum = mean_name(e, "sum"), *weight = add_scalar(e, type, 1.0 / e->n_members, mean_name(e, "weight"));
    if (!sum || !weight || !add_node(e, "Sum", terms, e->n_members, sum) || !add_node(e, "Mul", (const char *[]){sum, weight}, 2, output))
        return PAPA_ERR_MEMORY;
    return PAPA_OK;
}

/* log(p + tiny): a probability that underflowed must not become -inf. tiny is far below the last bit of any that did not;
 * it is subnormal in float16 only, whose smallest normal number is too near to real probabilities. */
static PapaStatus add_log(PapaEnsemble *e, int type, const char *input, const char *output)
{
    double tiny = type == ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16 ? 0x1p-24 : 0x1p-126;
    const char *scalar = add_scalar(e, type, tiny, mean_name(e, "tiny")), *sum = mean_name(e, "positive");
    if (!scalar || !sum || !add_node(e, "Add", (const char *[]){input, scalar}, 2, sum) || !add_node(e, "Log", &sum, 1, output))
        return PAPA_ERR_MEMORY;
    return PAPA_OK;
}

/* The mean, and what makes the result of it. Mean probabilities go through Log and Softmax, which leaves them as they are: a file that
 * ended in a Softmax still does, so whoever looks for its logits finds them in front of it. */
PapaStatus papa_ensemble_add_result(PapaEnsemble *e, int type)
{
    const PapaEnsembleOptions *options = e->options;
    if (!options->probabilities && options->softmax == 0)
        return add_mean(e, type, options->output);
    const char *mean = mean_name(e, "mean"), *log = mean_name(e, "log");
    PAPA_TRY(mean && log ? add_mean(e, type, mean) : PAPA_ERR_MEMORY);
    if (!options->probabilities)
        return add_softmax(e, options->softmax == 1 ? "Softmax" : "LogSoftmax", mean, options->output);
    if (options->softmax != 1)
        return add_log(e, type, mean, options->output);
    PAPA_TRY(add_log(e, type, mean, log));
    return add_softmax(e, "Softmax", log, options->output);
}
