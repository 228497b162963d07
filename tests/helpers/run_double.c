/* run_double MODEL.onnx IN.f64 OUT.f64 DIM,DIM,...
 *
 * Runs the model in inference on the reference device: raw float64 numbers in ONNX's order of axes, all inputs one behind the other (their shapes
 * follow), and all outputs likewise. Says on stdout how many seconds the forward pass took. */
#include "helpers/feed.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { MOST_INPUTS = 16, MOST_OUTPUTS = 16 };

static PapaStatus feed_double(const PapaNet *net, PapaWorker *worker, int input, const double *from, const PapaShape *shape)
{
    bool channels_last;
    double *to = (void *)papa_net_input_at(net, worker, input, &channels_last); /* host memory */
    const int64_t N = shape->dim[0], C = shape->rank > 1 ? shape->dim[1] : 1, inner = shape->rank > 2 ? papa_shape_count_from(shape, 2, shape->rank) : 1;
    if (!channels_last) {
        memcpy(to, from, (size_t)papa_shape_count(shape) * sizeof *to);
        return PAPA_OK;
    }
    for (int64_t n = 0; n < N; n++)
        for (int64_t c = 0; c < C; c++)
            for (int64_t i = 0; i < inner; i++)
                to[(n * inner + i) * C + c] = from[(n * C + c) * inner + i];
    return PAPA_OK;
}

static PapaStatus feed_all(const PapaNet *net, PapaWorker *worker, const char *path, const PapaShape *shapes, int n_inputs)
{
    FILE *file = fopen(path, "rb");
    PapaStatus status = file ? PAPA_OK : papa_fail(PAPA_ERR_IO, "%s: can't read", path);
    for (int i = 0; i < n_inputs && status == PAPA_OK; i++) {
        const size_t n = (size_t)papa_shape_count(&shapes[i]);
        double *numbers = malloc(n * sizeof *numbers + 1);
        status = numbers && fread(numbers, sizeof *numbers, n, file) == n ? feed_double(net, worker, i, numbers, &shapes[i])
                                                                          : papa_fail(PAPA_ERR_IO, "%s: too few numbers", path);
        free(numbers);
    }
    if (file)
        fclose(file);
    return status;
}

static PapaStatus write_all(const PapaNet *net, PapaWorker *worker, const char *path)
{
    FILE *file = fopen(path, "wb");
    bool whole = file;
    for (int i = 0; i < papa_net_outputs(net) && whole; i++) {
        const PapaShape shape = papa_net_output_shape(net, i);
        const size_t n = (size_t)papa_shape_count(&shape);
        whole = fwrite(papa_net_output_double(net, worker, i), sizeof(double), n, file) == n;
    }
    return file && !fclose(file) && whole ? PAPA_OK : papa_fail(PAPA_ERR_IO, "%s: can't write", path);
}

static PapaStatus run(const char *path, const char *in, const char *out, const PapaShape *shapes, int n_inputs)
{
    PapaModel *model;
    PapaDevice *dev;
    PapaNet *net;
    PapaWorker *worker;
    const char *outputs[MOST_OUTPUTS];
    PAPA_TRY(papa_model_open(&model, path));
    const Onnx__GraphProto *graph = papa_onnx_graph(model->onnx);
    for (size_t i = 0; i < graph->n_output && i < MOST_OUTPUTS; i++)
        outputs[i] = graph->output[i]->name;
    PAPA_TRY(papa_model_find_params(model, outputs, (int)graph->n_output, &(PapaModelSelection){.decay_all = true}));
    PAPA_TRY(papa_device_open_reference(&dev, 1));
    PapaNetOptions options = {.mode = PAPA_MODE_INFER, .input_shapes = shapes, .outputs = outputs, .n_outputs = (int)graph->n_output};
    PAPA_TRY(papa_net_compile(&net, model, &options, dev));
    PAPA_TRY(papa_worker_new(&worker, (const PapaNet *const[]){net}, 1, dev));
    float *params = calloc((size_t)model->store.n_total + 1, sizeof *params);
    if (!params)
        return papa_fail_memory((size_t)model->store.n_total, "parameters");
    PAPA_TRY(papa_model_read_params(model, params));
    PAPA_TRY(feed_all(net, worker, in, shapes, n_inputs));
    struct timespec began, ended;
    clock_gettime(CLOCK_MONOTONIC, &began);
    PAPA_TRY(papa_net_forward(net, worker, params, NULL));
    clock_gettime(CLOCK_MONOTONIC, &ended);
    printf("%.3f\n", (double)(ended.tv_sec - began.tv_sec) + 1e-9 * (double)(ended.tv_nsec - began.tv_nsec));
    PAPA_TRY(write_all(net, worker, out));
    free(params);
    papa_worker_free(worker);
    papa_net_free(net, dev);
    papa_device_close(dev);
    papa_model_close(model);
    return PAPA_OK;
}

int main(int argc, char **argv)
{
    PapaShape shapes[MOST_INPUTS] = {0};
    int n = 0;
    for (int i = 4; i < argc && n < MOST_INPUTS; i++, n++)
        for (char *at = argv[i]; *at && shapes[n].rank < PAPA_MAX_RANK; at += *at == ',')
            shapes[n].dim[shapes[n].rank++] = strtoll(at, &at, 10);
    if (argc < 4) {
        fprintf(stderr, "usage: run_double MODEL.onnx IN.f64 OUT.f64 DIM,DIM,...\n");
        return 2;
    }
    if (run(argv[1], argv[2], argv[3], shapes, n) != PAPA_OK) {
        fprintf(stderr, "%s\n", papa_error());
        return 1;
    }
    return 0;
}
