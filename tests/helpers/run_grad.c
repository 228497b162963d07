/* run_grad < LIST
 *
 * Runs many models forward and backward in one process. A line of LIST is a model: FOLDER, then per fed input its rank and its dimensions,
 * separated by blanks. FOLDER holds model.onnx, in.f32 (the inputs one after the other) and dy.f32 (d loss / d the first output), float32 in
 * ONNX's order of axes. Written, every output one after the other: infer.f32, train.f32 and calibrate.f32 (with batch statistics, without
 * dropout); and grads.f32, of every trained tensor. Then every trained tensor is halved: edited.onnx is the file with these numbers and the
 * statistics of the training pass, edited.f32 what it gives. For each line one is printed: "ok" and the trained tensors' names in the order of
 * grads.f32, or "error" and the message.
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

/* What one net gave: every output, the gradients, the parameters with new statistics. */
typedef struct Result {
    float *outputs, *grads, *params, *dy;
    int64_t n_outputs, n_dy; /* elements of all outputs, and of the first */
} Result;

enum { INFER, CALIBRATE, TRAIN, TRAIN_APART, EDITED, N_RESULTS };

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
        PAPA_TRY(feed(net, worker, i, in, &job->shapes[i]));
    return PAPA_OK;
}

static PapaStatus poison(PapaWorker *worker)
{
    size_t bytes;
    void *arena = papa_worker_arena(worker, &bytes), *pattern = malloc(bytes + 1);
    if (!pattern)
        return papa_fail_memory(bytes, "a test");
    memset(pattern, 0xFF, bytes);
    PapaStatus status = papa_device_upload(papa_worker_device(worker), arena, pattern, bytes);
    free(pattern);
    return status;
}

/* The arrays of the device that a pass works on. */
typedef struct OnDevice {
    float *params, *grads;
    PapaStepNumbers *step;
} OnDevice;

static PapaStatus pass(const Job *job, const PapaModel *model, const PapaNet *net, PapaWorker *worker, PapaMode mode, OnDevice *on, Result *out)
{
    PapaDevice *dev = papa_worker_device(worker);
    size_t params_bytes = (size_t)model->store.n_total * sizeof(float), grads_bytes = (size_t)model->store.n_trained * sizeof(float);
    PapaStepNumbers step = {.stat_momentum = .5f};
    void *memory;
    PAPA_TRY(poison(worker));
    PAPA_TRY(papa_model_read_params(model, out->params));
    PAPA_TRY(floats_on(dev, &on->params, out->params, model->store.n_total));
    PAPA_TRY(floats_on(dev, &on->grads, NULL, model->store.n_trained)); /* the gaps between tensors are nobody's */
    PAPA_TRY(papa_device_alloc(dev, &memory, sizeof step, "a test"));
    on->step = memory;
    PAPA_TRY(papa_device_upload(dev, on->step, &step, sizeof step));
    PAPA_TRY(feed_all(job, net, worker, out->outputs));
    PAPA_TRY(papa_net_forward(net, worker, on->params, on->step));
    float *to = out->outputs;
    int n_outputs = (int)papa_onnx_graph(model->onnx)->n_output;
    for (int i = 0; i < n_outputs; i++) {
        PapaShape shape = papa_net_output_shape(net, i);
        PAPA_TRY(fetch_output(net, worker, i, to));
        to += papa_shape_count(&shape);
    }
    PAPA_TRY(papa_device_download(dev, out->params, on->params, params_bytes));
    if (mode != PAPA_MODE_TRAIN)
        return PAPA_OK;
    PAPA_TRY(transfer(job, "dy.f32", out->dy, out->n_dy, false));
    PAPA_TRY(papa_device_upload(dev, papa_net_output_grad(net, worker), out->dy, (size_t)out->n_dy * sizeof *out->dy));
    PAPA_TRY(papa_net_backward(net, worker, on->params, on->grads, on->step));
    return papa_device_download(dev, out->grads, on->grads, grads_bytes);
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
    out->params = malloc((size_t)model->store.n_total * sizeof *out->params + 1);
    out->outputs = malloc((size_t)room * sizeof *out->outputs + 1);
    out->grads = calloc((size_t)model->store.n_trained + 1, sizeof *out->grads);
    out->dy = malloc((size_t)out->n_dy * sizeof *out->dy + 1);
    bool ok = out->params && out->outputs && out->grads && out->dy;
    PapaStatus status = ok ? PAPA_OK : papa_fail_memory((size_t)room * sizeof *out->outputs, "a test");
    OnDevice on = {0};
    if (status == PAPA_OK)
        status = pass(job, model, net, worker, mode, &on, out);
    papa_device_free(dev, on.params);
    papa_device_free(dev, on.grads);
    papa_device_free(dev, on.step);
    papa_worker_free(worker);
    return status;
}

/* Finds the model's parameters, compiles it for every output of the file, and runs it. */
static PapaStatus compile_and_measure(const Job *job, PapaModel *model, PapaDevice *dev, PapaMode mode, bool separate, Result *out)
{
    const Onnx__GraphProto *graph = papa_onnx_graph(model->onnx);
    const char *names[MAX_NAMES];
    if (graph->n_output > MAX_NAMES)
        return papa_fail(PAPA_ERR_UNSUPPORTED, "%zu outputs", graph->n_output);
    for (size_t i = 0; i < graph->n_output; i++)
        names[i] = graph->output[i]->name;
    PAPA_TRY(papa_model_find_params(model, names, (int)graph->n_output, &(PapaModelSelection){.decay_all = true}));
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

static PapaStatus write_edited(const PapaModel *model, float *params, const char *path)
{
    for (int i = 0; i < model->n_params; i++)
        for (int64_t e = 0; model->params[i].trained && e < model->params[i].count; e++)
            params[model->params[i].offset + e] *= .5f;
    PapaEdit *edit;
    PAPA_TRY(papa_model_edit(&edit, model, params, NULL));
    PapaStatus status = papa_edit_write(edit, path);
    papa_edit_free(edit);
    return status;
}

static PapaStatus run_edited(const Job *job, const PapaModel *model, PapaDevice *dev, float *params, Result *out)
{
    char path[4096];
    PapaModel *edited;
    snprintf(path, sizeof path, "%s/edited.onnx", job->folder);
    PAPA_TRY(write_edited(model, params, path));
    PAPA_TRY(papa_model_open(&edited, path));
    PapaStatus status = compile_and_measure(job, edited, dev, PAPA_MODE_INFER, false, out);
    papa_model_close(edited);
    return status == PAPA_OK ? transfer(job, "edited.f32", out->outputs, out->n_outputs, true) : status;
}

static PapaStatus run(const Job *job, PapaModel *model, PapaDevice *dev, Result r[N_RESULTS])
{
    PAPA_TRY(compile_and_measure(job, model, dev, PAPA_MODE_INFER, false, &r[INFER]));
    PAPA_TRY(transfer(job, "infer.f32", r[INFER].outputs, r[INFER].n_outputs, true));
    PAPA_TRY(compile_and_measure(job, model, dev, PAPA_MODE_CALIBRATE, false, &r[CALIBRATE]));
    PAPA_TRY(transfer(job, "calibrate.f32", r[CALIBRATE].outputs, r[CALIBRATE].n_outputs, true));
    PAPA_TRY(compile_and_measure(job, model, dev, PAPA_MODE_TRAIN, false, &r[TRAIN]));
    PAPA_TRY(compile_and_measure(job, model, dev, PAPA_MODE_TRAIN, true, &r[TRAIN_APART]));
    PAPA_TRY(compare(model, &r[TRAIN], &r[TRAIN_APART]));
    PAPA_TRY(transfer(job, "train.f32", r[TRAIN].outputs, r[TRAIN].n_outputs, true));
    PAPA_TRY(transfer(job, "grads.f32", r[TRAIN].grads, pack(model, r[TRAIN].grads), true));
    return run_edited(job, model, dev, r[TRAIN].params, &r[EDITED]);
}

static void run_line(char *line, PapaDevice *dev)
{
    Job job;
    PapaModel *model = NULL;
    Result results[N_RESULTS] = {0};
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
    for (int i = 0; i < N_RESULTS; i++) {
        free(results[i].outputs);
        free(results[i].grads);
        free(results[i].dy);
        free(results[i].params);
    }
    papa_model_close(model);
}

int main(void)
{
    PapaDevice *dev;
    if (open_test_device(&dev, 1) != PAPA_OK) {
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
