/* BatchNormalization. In training it normalises by the batch and moves the running statistics, which are tensors of the
 * parameter store; otherwise, or with frozen statistics, by the running ones. What the file's own training_mode says does
 * not matter. A Relu behind it, and an addition between the two, may be joined to it. */
#include "graph/op.h"
#include "graph/units.h"
#include "kernels/batchnorm.h"

#include <string.h>

enum { X, SCALE, SHIFT, MEAN, VARIANCE, RESIDUAL };

typedef struct Norm {
    float epsilon, momentum;
} Norm;

static PapaStatus norm_init(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    Norm *norm = node->attrs;
    int64_t spatial = 1, training = 1;
    PAPA_TRY(papa_attr_float(node->proto, "epsilon", 1e-5f, &norm->epsilon));
    PAPA_TRY(papa_attr_float(node->proto, "momentum", .9f, &norm->momentum));
    if (node->opset < 9)
        PAPA_TRY(papa_attr_int(node->proto, "spatial", 1, &spatial));
    if (!spatial)
        return papa_node_fail(node, PAPA_ERR_UNSUPPORTED, "spatial is 0 (statistics per element), expected 1");
    if (node->opset >= 14)
        PAPA_TRY(papa_attr_int(node->proto, "training_mode", 0, &training));
    if (!training && node->n_out > 1)
        return papa_node_fail(node, PAPA_ERR_FORMAT, "%d outputs without training_mode, expected 1", node->n_out);
    return PAPA_OK;
}

static PapaRole norm_role(const PapaNode *node, int input, int64_t *fan_in)
{
    (void)node, (void)fan_in;
    switch (input) {
    case SCALE: return PAPA_ROLE_SCALE;
    case SHIFT: return PAPA_ROLE_SHIFT;
    case MEAN: return PAPA_ROLE_MEAN;
    case VARIANCE: return PAPA_ROLE_VARIANCE;
    default: return PAPA_ROLE_NONE;
    }
}

/* The outputs behind the first are for the training loop that the file came from: ours keeps its statistics itself. */
static PapaStatus set_statistics_outputs(PapaNode *node, const PapaGraph *graph, const PapaShape *shape)
{
    for (int i = 1; i < node->n_out; i++) {
        if (!papa_has_out(node, i))
            continue;
        if (papa_graph_uses(graph, node->out[i]))
            return papa_node_fail(node, PAPA_ERR_UNSUPPORTED, "the statistics in output '%s' are used in the graph", node->out[i]->name);
        PAPA_TRY(papa_set_output(node, i, node->in[MEAN]->type, shape));
    }
    return PAPA_OK;
}

static PapaStatus norm_shape(PapaNode *node, PapaGraph *graph)
{
    const PapaShape *x = &node->in[X]->shape;
    if (x->rank < 2)
        return papa_node_fail(node, PAPA_ERR_UNSUPPORTED, "input has shape %s, expected rank 2 or more", papa_shape_text(x));
    for (int i = X; i <= VARIANCE; i++)
        PAPA_TRY(papa_check_float(node, i));
    const PapaShape channels = {.rank = 1, .dim = {x->dim[1]}};
    for (int i = SCALE; i <= VARIANCE; i++)
        if (!papa_shape_equal(&node->in[i]->shape, &channels))
            return papa_node_fail(node, PAPA_ERR_MISMATCH, "input %d ('%s') has shape %s, expected %s", i, node->in[i]->name,
                papa_shape_text(&node->in[i]->shape), papa_shape_text(&channels));
    PAPA_TRY(set_statistics_outputs(node, graph, &channels));
    return papa_shape_same(node, graph);
}

static void norm_units(const PapaNode *node, PapaUnits *units)
{
    PapaSpace y = papa_units_in(units, node, X);
    papa_units_plain(units, &y, 1);
    for (int i = SCALE; i <= VARIANCE; i++) {
        PapaSpace vector = papa_units_in(units, node, i);
        y.axis[1] = papa_units_tie(units, &y, 1, &vector, 0);
    }
    papa_units_set(units, node, 0, &y);
}

static PapaBatchNorm norm_of(const PapaNode *node)
{
    const PapaShape *x = &node->in[X]->shape; /* channels last by now */
    return (PapaBatchNorm){.rows = papa_shape_count_from(x, 0, x->rank - 1), .C = x->dim[x->rank - 1],
        .eps = ((const Norm *)node->attrs)->epsilon, .relu = node->relu};
}

static bool by_batch(const PapaGraph *graph)
{
    return graph->mode != PAPA_MODE_INFER && !graph->frozen_stats;
}

static unsigned norm_float32(const PapaNode *node)
{
    (void)node;
    return 1u << SCALE | 1u << SHIFT | 1u << MEAN | 1u << VARIANCE;
}

static unsigned norm_keeps(const PapaNode *node, const PapaGraph *graph)
{
    (void)graph;
    return PAPA_KEEP_IN(X) | PAPA_KEEP_IN(SCALE) | (node->relu ? PAPA_KEEP_OUT(0) : 0);
}

/* Running statistics are written: to a tensor of the file that nobody else reads. PyTorch, exporting an untrained network for inference, stores
 * tensors of the same contents once. */
static PapaStatus check_statistics(const PapaNode *node, const PapaGraph *graph, int i)
{
    const PapaValue *value = node->in[i];
    int uses = papa_graph_uses(graph, value);
    for (; value->view_of; value = value->view_of, uses += papa_graph_uses(graph, value) - 1)
        ;
    if (value->kind != PAPA_VALUE_TENSOR)
        return papa_node_fail(node, PAPA_ERR_UNSUPPORTED, "input %d ('%s') is computed, expected a tensor of the file that running "
            "statistics can be written to", i, node->in[i]->name);
    if (uses > 1)
        return papa_node_fail(node, PAPA_ERR_UNSUPPORTED, "its running statistics in '%s' are read %d times, expected a tensor of its own (PyTorch: "
            "export with training=TrainingMode.TRAINING)", value->name, uses);
    return PAPA_OK;
}

/* Mean and rstd are kept for backward; where none follows, the batch's lie behind the kernel's own workspace, and the running ones aren't asked for. */
static PapaStatus norm_prepare(PapaNode *node, const PapaGraph *graph, PapaDevice *dev)
{
    const PapaBatchNorm bn = norm_of(node);
    const size_t kernel_bytes = PAPA_FORWARD_KERNEL(dev, papa_batchnorm_workspace)(bn.rows, bn.C);
    const size_t saved_bytes = (size_t)bn.C * 2 * sizeof(float);
    if (by_batch(graph)) {
        PAPA_TRY(check_statistics(node, graph, MEAN));
        PAPA_TRY(check_statistics(node, graph, VARIANCE));
    }
    const bool training = graph->mode == PAPA_MODE_TRAIN;
    node->forward_workspace_bytes = kernel_bytes + (by_batch(graph) && !training ? saved_bytes : 0);
    node->backward_workspace_bytes = training ? kernel_bytes : 0;
    node->kept_bytes = training ? saved_bytes : 0;
    return PAPA_OK;
}

static PapaStatus norm_forward(const PapaNode *node, const PapaRun *run)
{
    const PapaBatchNorm bn = norm_of(node);
    char *workspace = papa_forward_workspace(run, node);
    float *mean = run->graph->mode == PAPA_MODE_TRAIN ? papa_kept(run, node) : NULL, *rstd = mean ? mean + bn.C : NULL;
    PapaReal *y = papa_out(run, node, 0);
    const PapaReal *x = papa_in(run, node, X);
    const float *scale = papa_in(run, node, SCALE), *shift = papa_in(run, node, SHIFT);
    float *running_mean = papa_in(run, node, MEAN), *running_var = papa_in(run, node, VARIANCE);
    const PapaReal *residual = papa_has_in(node, RESIDUAL) ? papa_in(run, node, RESIDUAL) : NULL;
    if (!by_batch(run->graph))
        return PAPA_FORWARD_KERNEL(run->dev, papa_batchnorm_fwd_running)(run->dev, &bn, y, mean, rstd, x, scale, shift, running_mean, running_var, residual,
            workspace);
    if (!mean) {
        mean = (void *)(workspace + PAPA_KERNEL(run->dev, papa_batchnorm_workspace)(bn.rows, bn.C));
        rstd = mean + bn.C;
    }
    const float *step_momentum = run->graph->mode == PAPA_MODE_CALIBRATE ? &run->step->stat_momentum : NULL;
    return PAPA_KERNEL(run->dev, papa_batchnorm_fwd_batch)(run->dev, &bn, y, mean, rstd, running_mean, running_var, x, scale, shift, residual,
        ((const Norm *)node->attrs)->momentum, step_momentum, workspace);
}

static PapaStatus norm_backward(const PapaNode *node, const PapaRun *run)
{
    static const struct {
        int input;
        unsigned bit;
    } outputs[] = {{X, PAPA_BATCHNORM_DX}, {SCALE, PAPA_BATCHNORM_DSCALE}, {SHIFT, PAPA_BATCHNORM_DSHIFT}, {RESIDUAL, PAPA_BATCHNORM_DRESIDUAL}};
    const PapaBatchNorm bn = norm_of(node);
    const float *mean = papa_kept(run, node), *rstd = mean + bn.C;
    PapaBatchNormGradients to = {.dx = papa_din(run, node, X), .dscale = papa_din(run, node, SCALE), .dshift = papa_din(run, node, SHIFT),
        .dresidual = papa_has_in(node, RESIDUAL) ? papa_din(run, node, RESIDUAL) : NULL};
    for (size_t i = 0; i < sizeof outputs / sizeof *outputs; i++)
        if (papa_has_in(node, outputs[i].input) && papa_din_accumulate(run, node, outputs[i].input))
            to.accumulate |= outputs[i].bit;
    return PAPA_KERNEL(run->dev, papa_batchnorm_bwd)(run->dev, &bn, !by_batch(run->graph), &to, papa_dout(run, node, 0), papa_in(run, node, X),
        bn.relu ? papa_out(run, node, 0) : NULL, papa_in(run, node, SCALE), mean, rstd, papa_backward_workspace(run, node));
}

/* One output, and no training_mode: what is left out is 0. */
static bool norm_to_inference(Onnx__NodeProto *node)
{
    size_t n = 0;
    bool changed = node->n_output > 1;
    for (size_t i = 0; i < node->n_attribute; i++) {
        bool training = strcmp(node->attribute[i]->name, "training_mode") == 0 && node->attribute[i]->i != 0;
        changed |= training;
        if (!training)
            node->attribute[n++] = node->attribute[i];
    }
    node->n_attribute = n;
    node->n_output = 1;
    return changed;
}

#define BATCHNORM                                                                                                               \
    .type = "BatchNormalization", .min_in = 5, .max_in = 5, .min_out = 1, .attrs_bytes = sizeof(Norm), .init = norm_init,       \
    .role = norm_role, .normalizes = true, .shape = norm_shape, .units = norm_units, .layout = papa_layout_channels_last, .fuses = PAPA_FUSE_RELU | PAPA_FUSE_ADD, \
    .residual_input = RESIDUAL, .float32 = norm_float32, .keeps = norm_keeps, .to_inference = norm_to_inference,                                          \
    .prepare = norm_prepare, .forward = norm_forward, .backward = norm_backward

extern const PapaOp papa_ops_norm[];
const PapaOp papa_ops_norm[] = {
    {BATCHNORM, .since = 7, .until = 13, .max_out = 5},
    {BATCHNORM, .since = 14, .max_out = 3},
    {0},
};
