/* Serialized models built field by field, for the tests of src/onnx: they need forms that no library writes. */
#ifndef ONNX_BYTES_H
#define ONNX_BYTES_H

#include "base/file.h"
#include "onnx/onnx_edit.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Running out of memory here is not what is tested. */
static inline void must(PapaStatus status)
{
    if (status)
        abort();
}

static inline void put_bytes(PapaBuffer *to, uint32_t number, const void *data, size_t bytes)
{
    must(papa_buffer_add_header(to, number, PAPA_WIRE_LEN, bytes));
    must(papa_buffer_add(to, data, bytes));
}

static inline void put_text(PapaBuffer *to, uint32_t number, const char *text)
{
    put_bytes(to, number, text, strlen(text));
}

static inline void put_number(PapaBuffer *to, uint32_t number, int64_t value)
{
    unsigned char varint[PAPA_VARINT_MAX];
    must(papa_buffer_add_header(to, number, PAPA_WIRE_VARINT, 0));
    must(papa_buffer_add(to, varint, papa_wire_put_varint(varint, (uint64_t)value)));
}

static inline void put_fixed(PapaBuffer *to, uint32_t number, int wire, const void *value)
{
    must(papa_buffer_add_header(to, number, wire, 0));
    must(papa_buffer_add(to, value, wire == PAPA_WIRE_I32 ? 4 : 8));
}

/* Appends the message and empties it. */
static inline void put_message(PapaBuffer *to, uint32_t number, PapaBuffer *message)
{
    put_bytes(to, number, message->data, message->size);
    papa_buffer_free(message);
}

/* The head of a TensorProto: name, type, one dimension (none where n < 0). */
static inline PapaBuffer tensor_head(const char *name, int type, int64_t n)
{
    PapaBuffer tensor = {0};
    if (n >= 0)
        put_number(&tensor, FIELD_TENSOR_DIMS, n);
    put_number(&tensor, FIELD_TENSOR_DATA_TYPE, type);
    put_text(&tensor, FIELD_TENSOR_NAME, name);
    return tensor;
}

static inline PapaBuffer float_tensor(const char *name, const float *values, int64_t n)
{
    PapaBuffer tensor = tensor_head(name, ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, n);
    put_bytes(&tensor, FIELD_TENSOR_RAW_DATA, values, (size_t)n * sizeof *values);
    return tensor;
}

static inline PapaBuffer make_node(const char *type, const char *name, const char *input, const char *output)
{
    PapaBuffer node = {0};
    put_text(&node, 1, input);
    put_text(&node, 2, output);
    put_text(&node, 3, name);
    put_text(&node, 4, type);
    return node;
}

static inline PapaBuffer value_info(const char *name)
{
    PapaBuffer info = {0}, type = {0}, tensor = {0}, shape = {0}, dim = {0};
    put_number(&dim, 1, 3);
    put_message(&shape, 1, &dim);
    put_number(&tensor, 1, 1);
    put_message(&tensor, 2, &shape);
    put_message(&type, 1, &tensor);
    put_text(&info, 1, name);
    put_message(&info, 2, &type);
    return info;
}

/* A model around a graph, which is taken over. */
static inline PapaBuffer model_of(PapaBuffer *graph, int64_t ir)
{
    PapaBuffer model = {0}, opset = {0};
    put_number(&model, 1, ir);
    put_message(&model, FIELD_MODEL_GRAPH, graph);
    put_number(&opset, 2, 17);
    put_message(&model, 8, &opset);
    return model;
}

/* A model whose only initializer is this tensor, which is taken over. */
static inline PapaBuffer model_of_tensor(PapaBuffer *tensor)
{
    PapaBuffer graph = {0};
    put_message(&graph, FIELD_GRAPH_INITIALIZER, tensor);
    return model_of(&graph, 8);
}

/* A new folder, in memory where that can be: writing a model flushes it to the disk, and some tests write thousands. */
static inline void make_test_folder(char out[64])
{
    strcpy(out, "/dev/shm/papa-test-XXXXXX");
    if (!mkdtemp(out) && !mkdtemp(strcpy(out, "/tmp/papa-test-XXXXXX")))
        abort();
}

static inline void write_bytes(const char *path, const void *data, size_t bytes)
{
    FILE *file = fopen(path, "wb");
    if (!file || (bytes && fwrite(data, 1, bytes, file) != bytes) || fclose(file))
        abort();
}

/* Writes the model to path, frees it and opens it. */
static inline PapaStatus open_bytes(PapaOnnx **out, const char *path, PapaBuffer *model)
{
    write_bytes(path, model->data, model->size);
    papa_buffer_free(model);
    return papa_onnx_open(out, path);
}

#endif
