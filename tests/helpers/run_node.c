/* run_node [--train] DIR
 *
 * Runs DIR/model.onnx on DIR/input_0.pb, input_1.pb, ... (serialised TensorProtos, one per graph input that is no initializer) and writes each
 * graph output to DIR/got_0.pb, ... as float32, as ONNX's published test sets lay their files out. --train: the training forward pass,
 * without dropout. */
#include "base/file.h"
#include "helpers/feed.h"

#include <stdio.h>
#include <stdlib.h>

#define MAX_INPUTS 16

static PapaStatus read_tensor(const char *folder, int i, PapaShape *shape, float **numbers)
{
    char path[4096];
    PapaMapped file;
    snprintf(path, sizeof path, "%s/input_%d.pb", folder, i);
    PAPA_TRY(papa_file_map(&file, path));
    Onnx__TensorProto *tensor = onnx__tensor_proto__unpack(NULL, file.size, file.data);
    papa_file_unmap(&file);
    if (!tensor || tensor->data_type != ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT || tensor->n_dims > PAPA_MAX_RANK)
        return papa_fail(PAPA_ERR_FORMAT, "%s: expected a float32 tensor", path);
    *shape = (PapaShape){.rank = (int)tensor->n_dims};
    for (int k = 0; k < shape->rank; k++)
        shape->dim[k] = tensor->dims[k];
    size_t bytes = (size_t)papa_shape_count(shape) * sizeof(float);
    if (tensor->raw_data.len != bytes)
        return papa_fail(PAPA_ERR_FORMAT, "%s: %zu bytes of data, expected %zu", path, tensor->raw_data.len, bytes);
    *numbers = malloc(bytes + 1);
    if (!*numbers)
        return papa_fail_memory(bytes, path);
    memcpy(*numbers, tensor->raw_data.data, bytes);
    onnx__tensor_proto__free_unpacked(tensor, NULL);
    return PAPA_OK;
}

static PapaStatus write_tensor(const char *folder, int i, const PapaShape *shape, const float *numbers)
{
    char path[4096];
    int64_t dims[PAPA_MAX_RANK];
    for (int k = 0; k < shape->rank; k++)
        dims[k] = shape->dim[k];
    Onnx__TensorProto tensor = ONNX__TENSOR_PROTO__INIT;
    tensor.n_dims = (size_t)shape->rank;
    tensor.dims = dims;
    tensor.has_data_type = true;
    tensor.data_type = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
    tensor.has_raw_data = true;
    tensor.raw_data = (ProtobufCBinaryData){(size_t)papa_shape_count(shape) * sizeof(float), (uint8_t *)numbers};
    size_t bytes = onnx__tensor_proto__get_packed_size(&tensor);
    uint8_t *packed = malloc(bytes + 1);
    if (!packed)
        return papa_fail_memory(bytes, "an output");
    onnx__tensor_proto__pack(&tensor, packed);
    snprintf(path, sizeof path, "%s/got_%d.pb", folder, i);
    FILE *file = fopen(path, "wb");
    bool whole = file && fwrite(packed, 1, bytes, file) == bytes;
    if (!file || fclose(file) || !whole)
        return papa_fail(PAPA_ERR_IO, "%s: can't write", path);
    free(packed);
    return PAPA_OK;
}

static int count_inputs(const Onnx__GraphProto *graph)
{
    int n = 0;
    for (size_t i = 0; i < graph->n_input; i++) {
        bool fed = true;
        for (size_t k = 0; k < graph->n_initializer; k++)
            fed &= strcmp(graph->initializer[k]->name, graph->input[i]->name) != 0;
        n += fed;
    }
    return n;
}

static PapaStatus run(const char *folder, PapaMode mode)
{
    char path[4096];
    PapaModel *model;
    PapaDevice *dev;
    PapaNet *net;
    PapaWorker *worker;
    PapaShape shapes[MAX_INPUTS];
    float *numbers[MAX_INPUTS];
    snprintf(path, sizeof path, "%s/model.onnx", folder);
    PAPA_TRY(papa_model_open(&model, path));
    const Onnx__GraphProto *graph = papa_onnx_graph(model->onnx);
    int n_inputs = count_inputs(graph), n_outputs = (int)graph->n_output;
    const char **outputs = calloc((size_t)n_outputs, sizeof *outputs);
    if (!outputs || n_inputs > MAX_INPUTS)
        return papa_fail(PAPA_ERR_UNSUPPORTED, "%s: %d inputs", path, n_inputs);
    for (int i = 0; i < n_outputs; i++)
        outputs[i] = graph->output[i]->name;
    for (int i = 0; i < n_inputs; i++)
        PAPA_TRY(read_tensor(folder, i, &shapes[i], &numbers[i]));
    PAPA_TRY(papa_model_find_params(model, outputs, n_outputs, &(PapaModelSelection){.decay_all = true}));
    PAPA_TRY(open_test_device(&dev, 1));
    PapaNetOptions options = {.mode = mode, .no_dropout = true, .input_shapes = shapes, .outputs = outputs, .n_outputs = n_outputs};
    PAPA_TRY(papa_net_compile(&net, model, &options, dev));
    PAPA_TRY(papa_worker_new(&worker, (const PapaNet *const[]){net}, 1, dev));
    float *host = calloc((size_t)model->store.n_total + 1, sizeof *host), *params;
    if (!host)
        return papa_fail_memory((size_t)model->store.n_total, "parameters");
    PAPA_TRY(papa_model_read_params(model, host));
    PAPA_TRY(floats_on(dev, &params, host, model->store.n_total));
    for (int i = 0; i < n_inputs; i++)
        PAPA_TRY(feed(net, worker, i, numbers[i], &shapes[i]));
    PAPA_TRY(papa_net_forward(net, worker, params, NULL));
    for (int i = 0; i < n_outputs; i++) {
        PapaShape shape = papa_net_output_shape(net, i);
        float *result = malloc((size_t)papa_shape_count(&shape) * sizeof *result + 1);
        if (!result)
            return papa_fail_memory((size_t)papa_shape_count(&shape), "an output");
        PAPA_TRY(fetch_output(net, worker, i, result));
        PAPA_TRY(write_tensor(folder, i, &shape, result));
        free(result);
    }
    for (int i = 0; i < n_inputs; i++)
        free(numbers[i]);
    free(host);
    papa_device_free(dev, params);
    free(outputs);
    papa_worker_free(worker);
    papa_net_free(net, dev);
    papa_device_close(dev);
    papa_model_close(model);
    return PAPA_OK;
}

int main(int argc, char **argv)
{
    bool train = argc > 2 && strcmp(argv[1], "--train") == 0;
    if (argc != 2 + train) {
        fprintf(stderr, "usage: run_node [--train] DIR\n");
        return 2;
    }
    if (run(argv[1 + train], train ? PAPA_MODE_TRAIN : PAPA_MODE_INFER) != PAPA_OK) {
        fprintf(stderr, "%s\n", papa_error());
        return 1;
    }
    return 0;
}
