/* Compiling a network and running it. */
#include "model/net.h"

#include "model/plan.h"
#include "onnx/half.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/chanstat.h"

struct PapaNet {
    const PapaModel *model;
    PapaGraph *graph;
    PapaPlan plan;
    void *constants;      /* on the device */
    int n_prepared;       /* nodes whose plan must be released */
    const PapaTap **taps; /* by node index: what is measured there, or NULL */
    int64_t n_stats;
};

struct PapaWorker {
    PapaDevice *dev;
    char *arena;
    size_t arena_bytes;
};

/* ---------------------------------------------------------------- compiling */

/* Ties each tensor value to its entry in the model's table, and gives layers the biases that the table adds to the file. */
static PapaStatus bind_params(PapaNet *net)
{
    PapaGraph *graph = net->graph;
    const PapaModel *model = net->model;
    for (int p = 0; p < model->n_params; p++) {
        const PapaParam *param = &model->params[p];
        for (int v = 0; v < graph->n_values && param->tensor; v++)
            if (graph->values[v]->tensor == param->tensor && graph->values[v]->kind == PAPA_VALUE_TENSOR)
                graph->values[v]->param = p;
        for (int k = 0; k < graph->n_nodes && param->made_for; k++) {
            PapaNode *node = graph->nodes[k];
            PapaLinear linear;
            if (node->proto != param->made_for || !node->op->linear(node, &linear))
                continue;
            PapaValue **in = PAPA_NEW_ARRAY(&graph->arena, PapaValue *, linear.bias + 1);
            PapaValue *bias = papa_graph_new_value(graph, param->name, PAPA_VALUE_TENSOR, ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, &param->shape);
            if (!in || !bias)
                return PAPA_ERR_MEMORY;
            bias->role = PAPA_ROLE_BIAS;
            bias->param = p;
            memcpy(in, node->in, (size_t)(node->n_in < linear.bias ? node->n_in : linear.bias) * sizeof *in);
            in[linear.bias] = bias;
            node->in = in;
            node->n_in = linear.bias + 1;
        }
    }
    for (int v = 0; v < graph->n_values; v++)
        if (graph->values[v]->kind == PAPA_VALUE_TENSOR && graph->values[v]->role != PAPA_ROLE_NONE && graph->values[v]->param < 0)
            return papa_fail(PAPA_ERR_UNSUPPORTED, "%s: tensor '%s' is not in the model's table of parameters", papa_onnx_path(model->onnx),
                graph->values[v]->name);
    return PAPA_OK;
}

static PapaStatus input_shape(PapaShape *out, const PapaModel *model, const PapaNetOptions *options)
{
    const PapaHead *head = &model->head;
    PapaImageSize s = options->size;
    const char *path = papa_onnx_path(model->onnx);
    int64_t features = s.channels * s.height * s.width;
    if ((head->size.channels && head->size.channels != s.channels) || (head->size.height && head->size.height != s.height) ||
        (head->size.width && head->size.width != s.width))
        return papa_fail(PAPA_ERR_MISMATCH, "%s: input '%s' takes %lldx%lldx%lld images (0: any), the data set has %lldx%lldx%lld", path, head->input,
            (long long)head->size.channels, (long long)head->size.height, (long long)head->size.width, (long long)s.channels,
            (long long)s.height, (long long)s.width);
    if (head->features && head->features != features)
        return papa_fail(PAPA_ERR_MISMATCH, "%s: input '%s' takes %lld numbers, the data set's images of %lldx%lldx%lld have %lld", path, head->input,
            (long long)head->features, (long long)s.channels, (long long)s.height, (long long)s.width, (long long)features);
    if (head->input_rank == 3 && s.channels != 1)
        return papa_fail(PAPA_ERR_MISMATCH, "%s: input '%s' takes gray images, the data set's have %lld channels", path, head->input, (long long)s.channels);
    if (head->input_rank == 4)
        *out = (PapaShape){4, {options->batch, s.channels, s.height, s.width}};
    else if (head->input_rank == 3)
        *out = (PapaShape){3, {options->batch, s.height, s.width}};
    else
        *out = (PapaShape){2, {options->batch, features}};
    return PAPA_OK;
}

static PapaStatus set_taps(PapaNet *net, const PapaTap *taps, int n_taps)
{
    PapaGraph *graph = net->graph;
    for (int t = 0; t < n_taps; t++) {
        PapaValue *value = papa_graph_find(graph, taps[t].value);
        if (!value || !value->producer)
            return papa_fail(PAPA_ERR_MISMATCH, "%s: value '%s' can't be measured", papa_onnx_path(net->model->onnx), taps[t].value);
        value->producer->tapped = true;
        int64_t end = taps[t].offset + taps[t].n_channels;
        net->n_stats = end > net->n_stats ? end : net->n_stats;
    }
    net->n_stats = (net->n_stats + PAPA_STORE_ALIGN - 1) / PAPA_STORE_ALIGN * PAPA_STORE_ALIGN;
    return PAPA_OK;
}

/* Node indices are final only after the passes. */
static PapaStatus index_taps(PapaNet *net, const PapaTap *taps, int n_taps)
{
    net->taps = PAPA_NEW_ARRAY(&net->graph->arena, const PapaTap *, net->graph->n_nodes);
    PapaTap *own = PAPA_NEW_ARRAY(&net->graph->arena, PapaTap, n_taps);
    if (!net->taps || !own)
        return PAPA_ERR_MEMORY;
    for (int t = 0; t < n_taps; t++) {
        own[t] = taps[t];
        net->taps[papa_graph_find(net->graph, taps[t].value)->producer->index] = &own[t];
    }
    return PAPA_OK;
}

static void mark_views(PapaGraph *graph)
{
    for (int k = 0; k < graph->n_nodes; k++) {
        PapaNode *node = graph->nodes[k];
        if (node->out[0] && node->op->is_view && node->op->is_view(node, graph))
            node->out[0]->view_of = node->in[0];
    }
}

static bool is_view(const PapaNode *node)
{
    return node->out[0] && node->out[0]->view_of;
}

static PapaStatus prepare_nodes(PapaNet *net, PapaDevice *dev)
{
    while (net->n_prepared < net->graph->n_nodes) {
        PapaNode *node = net->graph->nodes[net->n_prepared++]; /* one that fails may leave a part of its plan */
        if (!is_view(node) && node->op->prepare)
            PAPA_TRY(node->op->prepare(node, net->graph, dev));
    }
    return PAPA_OK;
}

static PapaStatus upload_constant(PapaDevice *dev, void *to, const PapaValue *value)
{
    size_t bytes = (size_t)papa_value_bytes(value);
    if (value->element == PAPA_FLOAT32)
        return papa_device_upload(dev, to, value->data, bytes);
    void *other = malloc(bytes + 1);
    if (!other)
        return papa_fail_memory(bytes, value->name);
    for (int64_t i = 0; i < papa_shape_count(&value->shape); i++) {
        const float number = ((const float *)value->data)[i];
        if (value->element == PAPA_FLOAT64)
            ((double *)other)[i] = (double)number;
        else
            ((uint16_t *)other)[i] = papa_float_to_bfloat16(number);
    }
    PapaStatus status = papa_device_upload(dev, to, other, bytes);
    free(other);
    return status;
}

static PapaStatus upload_constants(PapaNet *net, PapaDevice *dev)
{
    PAPA_TRY(papa_device_alloc(dev, &net->constants, (size_t)net->plan.constant_bytes, "constants"));
    for (int v = 0; v < net->graph->n_values; v++) {
        const PapaValue *value = net->graph->values[v];
        if (!value->view_of && net->plan.values[v].where == PAPA_IN_CONSTANTS)
            PAPA_TRY(upload_constant(dev, (char *)net->constants + net->plan.values[v].offset, value));
    }
    return PAPA_OK;
}

/* Outputs are read from the arena or from the constants, and they are numbers of the graph's own making. */
static PapaStatus check_outputs(const PapaNet *net)
{
    for (int i = 0; i < net->graph->n_outputs; i++) {
        PapaValue *root = papa_value_root(net->graph->outputs[i]);
        if (i == 0 && net->graph->mode == PAPA_MODE_TRAIN && root->kind == PAPA_VALUE_CONSTANT)
            return papa_fail(PAPA_ERR_UNSUPPORTED, "%s: output '%s' is a constant, which can't be trained", papa_onnx_path(net->model->onnx),
                net->graph->outputs[i]->name);
        if (root->kind == PAPA_VALUE_TENSOR || !papa_type_is_float(root->type))
            return papa_fail(PAPA_ERR_UNSUPPORTED, "%s: output '%s' is %s", papa_onnx_path(net->model->onnx), net->graph->outputs[i]->name,
                root->kind == PAPA_VALUE_TENSOR ? "a tensor of the file" : "not of a float type");
    }
    return PAPA_OK;
}

static PapaStatus read_graph(PapaNet *net, const PapaNetOptions *options)
{
    return papa_graph_read(&net->graph, net->model->onnx, &(PapaGraphOptions){
        .mode = options->mode,
        .frozen_stats = net->model->frozen_statistics,
        .no_dropout = options->no_dropout,
        .opaque = options->cut,
        .outputs = options->outputs ? options->outputs : (const char *const[]){net->model->head.logits},
        .n_outputs = options->outputs ? options->n_outputs : 1,
    });
}

/* To the graph as it will be executed. */
static PapaStatus finish_graph(PapaNet *net, const PapaShape *input_shapes, bool cut, const PapaTap *taps, int n_taps, PapaElement element)
{
    PAPA_TRY(papa_graph_infer(net->graph, input_shapes));
    if (cut)
        PAPA_TRY(papa_graph_cut(net->graph));
    PAPA_TRY(set_taps(net, taps, n_taps));
    PAPA_TRY(papa_graph_layout(net->graph));
    PAPA_TRY(papa_graph_fuse(net->graph));
    PAPA_TRY(papa_graph_precision(net->graph, element));
    mark_views(net->graph);
    return check_outputs(net);
}

static PapaStatus compile(PapaNet *net, const PapaNetOptions *options, const PapaTap *taps, int n_taps, PapaDevice *dev)
{
    const char *path = papa_onnx_path(net->model->onnx);
    PapaShape image_shape;
    if (dev->kind == PAPA_REFERENCE && options->mode != PAPA_MODE_INFER)
        return papa_fail(PAPA_ERR_UNSUPPORTED, "%s: the reference device runs networks in inference only", path);
    if (!options->input_shapes)
        PAPA_TRY(input_shape(&image_shape, net->model, options));
    PAPA_TRY(read_graph(net, options));
    PAPA_TRY(bind_params(net));
    if (!options->input_shapes && net->graph->n_inputs != 1)
        return papa_fail(PAPA_ERR_UNSUPPORTED, "%s: has %d inputs, expected one", path, net->graph->n_inputs);
    PAPA_TRY(finish_graph(net, options->input_shapes ? options->input_shapes : &image_shape, options->cut, taps, n_taps, dev->element));
    PapaStatus status = prepare_nodes(net, dev);
    if (status == PAPA_OK)
        status = papa_plan_make(&net->plan, net->graph, net->model, options->separate_blocks);
    if (status != PAPA_OK)
        return papa_fail_in(status, "%s", path);
    PAPA_TRY(index_taps(net, taps, n_taps));
    return upload_constants(net, dev);
}

PapaStatus papa_net_compile_tapped(PapaNet **out, const PapaModel *model, const PapaNetOptions *options, const PapaTap *taps, int n_taps, PapaDevice *dev)
{
    PapaNet *net = calloc(1, sizeof *net);
    if (!net)
        return papa_fail_memory(sizeof *net, "a network");
    net->model = model;
    PapaStatus status = papa_device_enter(dev);
    if (status == PAPA_OK)
        status = compile(net, options, taps, n_taps, dev);
    if (status != PAPA_OK) {
        papa_net_free(net, dev);
        return status;
    }
    *out = net;
    return PAPA_OK;
}

PapaStatus papa_net_compile(PapaNet **out, const PapaModel *model, const PapaNetOptions *options, PapaDevice *dev)
{
    return papa_net_compile_tapped(out, model, options, NULL, 0, dev);
}

void papa_net_free(PapaNet *net, PapaDevice *dev)
{
    if (!net)
        return;
    for (int k = 0; k < net->n_prepared; k++)
        if (net->graph->nodes[k]->op->release)
            net->graph->nodes[k]->op->release(net->graph->nodes[k], dev);
    papa_device_free(dev, net->constants);
    papa_graph_free(net->graph);
    free(net);
}

/* ---------------------------------------------------------------- asking */

bool papa_net_input_channels_last(const PapaNet *net)
{
    return net->graph->inputs[0]->channels_last;
}

int papa_net_inputs(const PapaNet *net)
{
    return net->graph->n_inputs;
}

int papa_net_outputs(const PapaNet *net)
{
    return net->graph->n_outputs;
}

PapaShape papa_net_input_shape(const PapaNet *net, int i)
{
    return net->graph->inputs[i]->shape;
}

const char *papa_net_output_name(const PapaNet *net, int i)
{
    return net->graph->outputs[i]->name;
}

PapaShape papa_net_output_shape(const PapaNet *net, int i)
{
    return net->graph->outputs[i]->shape;
}

size_t papa_net_arena_bytes(const PapaNet *net)
{
    return (size_t)net->plan.arena_bytes;
}

static int64_t bytes_of(PapaValue *const *values, int n)
{
    int64_t bytes = 0;
    for (int i = 0; i < n; i++)
        if (values[i])
            bytes += papa_value_bytes(values[i]);
    return bytes;
}

/* The gradients that a node reads and writes, and the values that it kept. */
static int64_t backward_bytes(const PapaNet *net, const PapaNode *node)
{
    const unsigned char *din = net->plan.nodes[node->index].din;
    unsigned keeps = node->op->keeps ? node->op->keeps(node, net->graph) : 0;
    int64_t bytes = bytes_of(node->out, node->n_out) + (int64_t)node->kept_bytes;
    for (int i = 0; i < node->n_in; i++)
        if (node->in[i])
            bytes += papa_value_bytes(node->in[i]) * ((din[i] & PAPA_DIN_WANTED ? 1 : 0) + (i < PAPA_KEEP_MOST && keeps & PAPA_KEEP_IN(i) ? 1 : 0));
    for (int i = 0; i < node->n_out && i < PAPA_KEEP_MOST; i++)
        if (node->out[i] && keeps & PAPA_KEEP_OUT(i))
            bytes += papa_value_bytes(node->out[i]);
    return bytes;
}

int64_t papa_net_traffic(const PapaNet *net)
{
    int64_t bytes = 0;
    for (int k = 0; k < net->graph->n_nodes; k++) {
        const PapaNode *node = net->graph->nodes[k];
        if (is_view(node))
            continue;
        bytes += bytes_of(node->in, node->n_in) + bytes_of(node->out, node->n_out) + (int64_t)node->kept_bytes;
        if (net->plan.nodes[k].din)
            bytes += backward_bytes(net, node);
    }
    return bytes;
}

/* ---------------------------------------------------------------- workers */

PapaStatus papa_worker_new(PapaWorker **out, const PapaNet *const *nets, int n_nets, PapaDevice *dev)
{
    PapaWorker *worker = calloc(1, sizeof *worker);
    if (!worker)
        return papa_fail_memory(sizeof *worker, "a worker");
    worker->dev = dev;
    size_t bytes = 0;
    for (int i = 0; i < n_nets; i++)
        if (papa_net_arena_bytes(nets[i]) > bytes)
            bytes = papa_net_arena_bytes(nets[i]);
    void *arena = NULL;
    PapaStatus status = papa_device_alloc(dev, &arena, bytes, "activations and workspace of a worker");
    if (status != PAPA_OK) {
        free(worker);
        return status;
    }
    worker->arena = arena;
    worker->arena_bytes = bytes;
    *out = worker;
    return PAPA_OK;
}

void papa_worker_free(PapaWorker *worker)
{
    if (!worker)
        return;
    papa_device_free(worker->dev, worker->arena);
    free(worker);
}

PapaDevice *papa_worker_device(const PapaWorker *worker)
{
    return worker->dev;
}

void *papa_worker_arena(const PapaWorker *worker, size_t *bytes)
{
    *bytes = worker->arena_bytes;
    return worker->arena;
}

static float *arena_value(const PapaPlacement *placements, const PapaValue *value, PapaWorker *worker)
{
    return (float *)(worker->arena + placements[value->index].offset);
}

PapaReal *papa_net_input(const PapaNet *net, PapaWorker *worker)
{
    return arena_value(net->plan.values, net->graph->inputs[0], worker);
}

PapaReal *papa_net_input_at(const PapaNet *net, PapaWorker *worker, int i, bool *channels_last)
{
    *channels_last = net->graph->inputs[i]->channels_last;
    return arena_value(net->plan.values, net->graph->inputs[i], worker);
}

float *papa_net_output(const PapaNet *net, PapaWorker *worker, int i)
{
    const PapaValue *output = net->graph->outputs[i];
    PapaPlacement at = net->plan.values[output->index];
    return at.where == PAPA_IN_CONSTANTS ? (float *)((char *)net->constants + at.offset) : arena_value(net->plan.values, output, worker);
}

double *papa_net_output_double(const PapaNet *net, PapaWorker *worker, int i)
{
    assert(worker->dev->kind == PAPA_REFERENCE);
    return (void *)papa_net_output(net, worker, i);
}

float *papa_net_output_grad(const PapaNet *net, PapaWorker *worker)
{
    return arena_value(net->plan.grads, net->graph->outputs[0], worker);
}

/* ---------------------------------------------------------------- running */

static PapaRun make_run(const PapaNet *net, PapaWorker *worker, float *params, float *grads, const PapaStepNumbers *step)
{
    return (PapaRun){
        .dev = worker->dev, .graph = net->graph, .values = net->plan.values, .grads = net->plan.grads, .nodes = net->plan.nodes,
        .arena = worker->arena, .params = params, .dparams = grads, .constants = net->constants, .step = step,
    };
}

/* Measures what came out of a tapped node and, with a goal, moves it there. */
static PapaStatus pass_tap(const PapaNet *net, const PapaNode *node, const PapaRun *run, float *stats, const float *goal)
{
    const PapaTap *tap = net->taps[node->index];
    const PapaShape *shape = &node->out[0]->shape;
    int64_t channels = tap->n_channels, rows = papa_shape_count_from(shape, 0, shape->rank - 1);
    PapaReal *value = papa_out(run, node, 0);
    float *mean = stats + tap->offset, *std = mean + net->n_stats;
    PAPA_TRY(PAPA_KERNEL(run->dev, papa_chanstat_measure)(run->dev, mean, std, value, rows, channels));
    if (!goal)
        return PAPA_OK;
    return PAPA_KERNEL(run->dev, papa_chanstat_shift)(run->dev, value, mean, std, goal + tap->offset, goal + net->n_stats + tap->offset, rows, channels,
        PAPA_REPAIR_EPSILON);
}

PapaStatus papa_net_forward_tapped(const PapaNet *net, PapaWorker *worker, float *params, const PapaStepNumbers *step, float *stats, const float *goal)
{
    PAPA_TRY(papa_device_enter(worker->dev));
    PapaRun run = make_run(net, worker, params, NULL, step);
    for (int k = 0; k < net->graph->n_nodes; k++) {
        const PapaNode *node = net->graph->nodes[k];
        if (is_view(node))
            continue;
        PAPA_TRY(node->op->forward(node, &run));
        if (net->taps[k])
            PAPA_TRY(pass_tap(net, node, &run, stats, goal));
    }
    return PAPA_OK;
}

PapaStatus papa_net_forward(const PapaNet *net, PapaWorker *worker, float *params, const PapaStepNumbers *step)
{
    return papa_net_forward_tapped(net, worker, params, step, NULL, NULL);
}

PapaStatus papa_net_backward(const PapaNet *net, PapaWorker *worker, float *params, float *grads, const PapaStepNumbers *step)
{
    PAPA_TRY(papa_device_enter(worker->dev));
    PapaRun run = make_run(net, worker, params, grads, step);
    const PapaZero *zero = net->plan.zeros, *end = zero + net->plan.n_zeros;
    for (int k = net->graph->n_nodes; k >= 0; k--) {
        for (; zero < end && zero->before == k; zero++)
            PAPA_TRY(papa_device_zero(run.dev, (zero->where.where == PAPA_IN_ARENA ? run.arena : (char *)grads) + zero->where.offset, (size_t)zero->bytes));
        const PapaNode *node = k < net->graph->n_nodes ? net->graph->nodes[k] : NULL;
        if (node && net->plan.nodes[k].din)
            PAPA_TRY(node->op->backward(node, &run));
    }
    return PAPA_OK;
}
