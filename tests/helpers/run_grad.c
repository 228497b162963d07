/* run_grad < LIST
 *
 * Runs many models forward and backward in one process. A line of LIST is a model: FOLDER, then per fed input its rank and its dimensions,
 * separated by blanks. FOLDER holds model.onnx, in.f32 (the inputs one after the other) and dy.f32 (d loss / d the first output), float32 in
 * ONNX's order of axes. Written: infer.f32 (every output, one after the other), train.f32 (the same with batch statistics, without dropout)
 * and grads.f32 (of every trained tensor). For each line one is printed: "ok" and the trained tensors' names in the order of grads.f32, or
 * "error" and the message.
 *
 * The training pass is made twice, with the planned memory and with a block of its own for every value, poisoned with NaN before; a difference of
 * one bit is an error. */
#include "helpers/feed.h"

#include <stdio.h>
#include <stdlib.h>

#define MAX_INPUTS 8
#define MAX_NAMES 64

typedef struct Job {
    char *folder;
    int n_inputs;
    PapaShape shapes[MAX_INPUTS];
    int64_t n_in;
} Job;

/* What one net gave: every output, and the gradients. */
typedef struct Result {
    float *outputs, *grads;
    int64_t n_outputs, n_dy; /* elements of all outputs, and of the first */
} Result;

static bool parse(Job *job, char *line)
{
    char *rest, *word = strtok_r(line, " \n", &rest);
    *job = (Job){.folder = word};
    for (word = strtok_r(NULL, " \n", &rest); word && job->n_inputs < MAX_INPUTS; word = strtok_r(NULL, " \n", &rest)) {
        PapaShape *shape = &job->shapes[job->n_inputs++];
        long rank = strtol(word, NULL, 10);
        for (; rank > 0 && shape->rank < PAPA_MAX_RANK && (word = strtok_r(NULL, " \n", &rest)); rank--)
            shape->dim[shape->rank++] = strtoll(word, NULL, 10);
        job->n_in += papa_shape_count(shape);
    }
    return job->folder && job->n_inputs && !word;
}

static PapaStatus transfer(const Job *job, const char *name, float *numbers, int64_t n, bool write)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", job->folder, name);
    FILE *file = fopen(path, write ? "wb" : "rb");
    size_t done = !file ? 0 : write ? fwrite(numbers, sizeof *numbers, (size_t)n, file) : fread(numbers, sizeof *numbers, (size_t)n, file);
    if (!file || fclose(file) || done != (size_t)n)
        return papa_fail(PAPA_ERR_IO, "%s: can't %s %lld numbers", path, write ? "write" : "read", (long long)n);
    return PAPA_OK;
}

static PapaStatus feed_all(const Job *job, const PapaNet *net, PapaWorker *worker, float *in)
{
    PAPA_TRY(transfer(job, "in.f32", in, job->n_in, false));
    for (int i = 0; i < job->n_inputs; in += papa_shape_count(&job->shapes[i++]))
        feed(net, worker, i, in, &job->shapes[i]);
    return PAPA_OK;
}

static PapaStatus pass(const Job *job, const PapaModel *model, const PapaNet *net, PapaWorker *worker, PapaMode mode, float *params, Result *out)
{
    size_t arena_bytes;
    void *arena = papa_worker_arena(worker, &arena_bytes);
    if (arena_bytes)
        memset(arena, 0xFF, arena_bytes);
    PAPA_TRY(papa_model_read_params(model, params));
    PAPA_TRY(feed_all(job, net, worker, out->outputs));
    PAPA_TRY(papa_net_forward(net, worker, params, NULL));
    float *to = out->outputs;
    int n_outputs = (int)papa_onnx_graph(model->onnx)->n_output;
    for (int i = 0; i < n_outputs; i++) {
        PapaShape shape = papa_net_output_shape(net, i);
        int64_t n = papa_shape_count(&shape);
        memcpy(to, papa_net_output(net, worker, i), (size_t)n * sizeof *to);
        to += n;
    }
    if (mode != PAPA_MODE_TRAIN)
        return PAPA_OK;
    PAPA_TRY(transfer(job, "dy.f32", papa_net_output_grad(net, worker), out->n_dy, false));
    return papa_net_backward(net, worker, params, out->grads, NULL);
}

static PapaStatus measure(const Job *job, const PapaModel *model, const PapaNet *net, PapaDevice *dev, PapaMode mode, Result *out)
{
    PapaWorker *worker;
    PAPA_TRY(papa_worker_new(&worker, &net, 1, dev));
    for (size_t i = 0; i < papa_onnx_graph(model->onnx)->n_output; i++) {
        PapaShape shape = papa_net_output_shape(net, (int)i);
        out->n_outputs += papa_shape_count(&shape);
        out->n_dy = i ? out->n_dy : papa_shape_count(&shape);
    }
    int64_t room = out->n_outputs > job->n_in ? out->n_outputs : job->n_in; /* the inputs pass through it too */
    float *params = malloc((size_t)model->store.n_total * sizeof *params + 1);
    out->outputs = malloc((size_t)room * sizeof *out->outputs + 1);
    out->grads = calloc((size_t)model->store.n_trained + 1, sizeof *out->grads); /* the gaps between tensors are nobody's */
    PapaStatus status = params && out->outputs && out->grads ? PAPA_OK : papa_fail_memory((size_t)room * sizeof *params, "a test");
    if (status == PAPA_OK)
        status = pass(job, model, net, worker, mode, params, out);
    free(params);
    papa_worker_free(worker);
    return status;
}

static PapaStatus compile_and_measure(const Job *job, const PapaModel *model, PapaDevice *dev, PapaMode mode, bool separate, Result *out)
{
    const Onnx__GraphProto *graph = papa_onnx_graph(model->onnx);
    const char *names[MAX_NAMES];
    for (size_t i = 0; i < graph->n_output; i++)
        names[i] = graph->output[i]->name;
    PapaNetOptions options = {.mode = mode, .no_dropout = true, .input_shapes = job->shapes, .outputs = names, .n_outputs = (int)graph->n_output,
        .separate_blocks = separate};
    PapaNet *net;
    PAPA_TRY(papa_net_compile(&net, model, &options, dev));
    PapaStatus status = measure(job, model, net, dev, mode, out);
    papa_net_free(net, dev);
    return status;
}

static PapaStatus compare(const PapaModel *model, const Result *a, const Result *b)
{
    if (a->n_outputs != b->n_outputs || memcmp(a->outputs, b->outputs, (size_t)a->n_outputs * sizeof *a->outputs) != 0)
        return papa_fail(PAPA_ERR_MISMATCH, "outputs depend on the memory plan");
    for (int i = 0; i < model->n_params; i++) {
        const PapaParam *param = &model->params[i];
        if (param->trained && memcmp(a->grads + param->offset, b->grads + param->offset, (size_t)param->count * sizeof *a->grads) != 0)
            return papa_fail(PAPA_ERR_MISMATCH, "the gradient of '%s' depends on the memory plan", param->name);
    }
    return PAPA_OK;
}

/* Packs the gradients one behind the other, in place: the table lists trained tensors in the order of their offsets. */
static int64_t pack(const PapaModel *model, float *grads)
{
    int64_t n = 0;
    for (int i = 0; i < model->n_params; i++) {
        const PapaParam *param = &model->params[i];
        if (!param->trained)
            continue;
        memmove(grads + n, grads + param->offset, (size_t)param->count * sizeof *grads);
        n += param->count;
    }
    return n;
}

static PapaStatus run(const Job *job, PapaModel *model, PapaDevice *dev, Result results[3])
{
    const Onnx__GraphProto *graph = papa_onnx_graph(model->onnx);
    const char *names[MAX_NAMES];
    if (graph->n_output > MAX_NAMES)
        return papa_fail(PAPA_ERR_UNSUPPORTED, "%zu outputs", graph->n_output);
    for (size_t i = 0; i < graph->n_output; i++)
        names[i] = graph->output[i]->name;
    PAPA_TRY(papa_model_find_params(model, names, (int)graph->n_output, &(PapaModelSelection){.decay_all = true}));
    PAPA_TRY(compile_and_measure(job, model, dev, PAPA_MODE_INFER, false, &results[0]));
    PAPA_TRY(transfer(job, "infer.f32", results[0].outputs, results[0].n_outputs, true));
    PAPA_TRY(compile_and_measure(job, model, dev, PAPA_MODE_TRAIN, false, &results[1]));
    PAPA_TRY(compile_and_measure(job, model, dev, PAPA_MODE_TRAIN, true, &results[2]));
    PAPA_TRY(compare(model, &results[1], &results[2]));
    PAPA_TRY(transfer(job, "train.f32", results[1].outputs, results[1].n_outputs, true));
    return transfer(job, "grads.f32", results[1].grads, pack(model, results[1].grads), true);
}

static void run_line(char *line, PapaDevice *dev)
{
    Job job;
    PapaModel *model = NULL;
    Result results[3] = {0};
    char path[4096];
    PapaStatus status = parse(&job, line) ? PAPA_OK : papa_fail(PAPA_ERR_ARGUMENT, "expected FOLDER RANK DIM...");
    if (status == PAPA_OK) {
        snprintf(path, sizeof path, "%s/model.onnx", job.folder);
        status = papa_model_open(&model, path);
    }
    if (status == PAPA_OK)
        status = run(&job, model, dev, results);
    printf("%s", status == PAPA_OK ? "ok" : "error ");
    for (int i = 0; status == PAPA_OK && i < model->n_params; i++)
        if (model->params[i].trained)
            printf(" %s", model->params[i].name);
    printf("%s\n", status == PAPA_OK ? "" : papa_error());
    fflush(stdout);
    for (int i = 0; i < 3; i++) {
        free(results[i].outputs);
        free(results[i].grads);
    }
    papa_model_close(model);
}

int main(void)
{
    PapaDevice *dev;
    if (papa_device_open_cpu(&dev, 1) != PAPA_OK) {
        fprintf(stderr, "%s\n", papa_error());
        return 1;
    }
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, stdin) > 0)
        run_line(line, dev);
    free(line);
    papa_device_close(dev);
    return 0;
}
