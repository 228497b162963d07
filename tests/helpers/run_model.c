/* run_model MODEL.onnx IN.f32 OUT.f32 DIM... [--train] [--output NAME]
 *
 * Runs the model on raw float32 numbers in ONNX's order of axes and writes its output the same way. DIM...: the input's shape. --train: with
 * batch statistics, without dropout. The only input is fed; the first output is written unless NAME says otherwise. */
#include "helpers/feed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static PapaStatus read_floats(const char *path, float *to, int64_t n)
{
    FILE *file = fopen(path, "rb");
    bool whole = file && fread(to, sizeof *to, (size_t)n, file) == (size_t)n;
    if (file)
        fclose(file);
    return whole ? PAPA_OK : papa_fail(PAPA_ERR_IO, "%s: can't read %lld numbers", path, (long long)n);
}

static PapaStatus write_floats(const char *path, const float *from, int64_t n)
{
    FILE *file = fopen(path, "wb");
    bool whole = file && fwrite(from, sizeof *from, (size_t)n, file) == (size_t)n;
    if (!file || fclose(file) || !whole)
        return papa_fail(PAPA_ERR_IO, "%s: can't write %lld numbers", path, (long long)n);
    return PAPA_OK;
}

static PapaStatus run(const char *path, const char *in, const char *out_path, const PapaShape *shape, PapaMode mode, const char *output)
{
    PapaModel *model;
    PapaDevice *dev;
    PapaNet *net;
    PapaWorker *worker;
    PAPA_TRY(papa_model_open(&model, path));
    if (!output)
        output = papa_onnx_graph(model->onnx)->output[0]->name;
    PAPA_TRY(papa_model_find_params(model, &output, 1, &(PapaModelSelection){.decay_all = true}));
    PAPA_TRY(open_test_device(&dev, 1));
    PapaNetOptions options = {.mode = mode, .no_dropout = true, .input_shapes = shape, .outputs = &output, .n_outputs = 1};
    PAPA_TRY(papa_net_compile(&net, model, &options, dev));
    PAPA_TRY(papa_worker_new(&worker, (const PapaNet *const[]){net}, 1, dev));

    PapaShape result = papa_net_output_shape(net, 0);
    int64_t n = papa_shape_count(shape), n_out = papa_shape_count(&result);
    float *host = calloc((size_t)model->store.n_total + 1, sizeof *host), *params;
    float *numbers = malloc((size_t)(n > n_out ? n : n_out) * sizeof *numbers + 1);
    if (!host || !numbers)
        return papa_fail_memory((size_t)n, "a test");
    PAPA_TRY(papa_model_read_params(model, host));
    PAPA_TRY(floats_on(dev, &params, host, model->store.n_total));
    PAPA_TRY(read_floats(in, numbers, n));
    PAPA_TRY(feed(net, worker, 0, numbers, shape));
    PAPA_TRY(papa_net_forward(net, worker, params, NULL));
    PAPA_TRY(fetch_output(net, worker, 0, numbers));
    PAPA_TRY(write_floats(out_path, numbers, n_out));
    free(numbers);
    free(host);
    papa_device_free(dev, params);
    papa_worker_free(worker);
    papa_net_free(net, dev);
    papa_device_close(dev);
    papa_model_close(model);
    return PAPA_OK;
}

int main(int argc, char **argv)
{
    PapaShape shape = {0};
    PapaMode mode = PAPA_MODE_INFER;
    const char *output = NULL;
    for (int i = 4; i < argc; i++)
        if (strcmp(argv[i], "--train") == 0)
            mode = PAPA_MODE_TRAIN;
        else if (strcmp(argv[i], "--output") == 0 && i + 1 < argc)
            output = argv[++i];
        else if (shape.rank < PAPA_MAX_RANK)
            shape.dim[shape.rank++] = strtoll(argv[i], NULL, 10);
    if (argc < 4) {
        fprintf(stderr, "usage: run_model MODEL.onnx IN.f32 OUT.f32 DIM... [--train] [--output NAME]\n");
        return 2;
    }
    if (run(argv[1], argv[2], argv[3], &shape, mode, output) != PAPA_OK) {
        fprintf(stderr, "%s\n", papa_error());
        return 1;
    }
    return 0;
}
