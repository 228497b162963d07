/* Small ONNX models made in a test: nodes and tensors are listed, then the file is written.
 *
 *     Build b = build_begin();
 *     build_input(&b, "x", 4, (int64_t[]){-1, 1, 6, 6});
 *     build_random(&b, "w", 4, (int64_t[]){4, 1, 3, 3}, .5);
 *     build_ints(build_node(&b, "Conv", "x w", "y"), "pads", 4, (int64_t[]){1, 1, 1, 1});
 *     build_output(&b, "y", 4);
 *     build_write(&b, path);
 *
 * Every call that can't be served ends the test program. build_write frees everything. */
#ifndef ONNXBUILD_H
#define ONNXBUILD_H

#include "base/arena.h"
#include "base/rng.h"
#include "onnx.pb-c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUILD_MOST = 64 };

typedef struct Build {
    PapaArena arena;
    Onnx__ModelProto model;
    Onnx__OperatorSetIdProto opset, *opsets[1];
    Onnx__GraphProto graph;
    Onnx__NodeProto *nodes[BUILD_MOST];
    Onnx__TensorProto *tensors[BUILD_MOST];
    Onnx__ValueInfoProto *inputs[BUILD_MOST], *outputs[BUILD_MOST];
    uint32_t n_random;
} Build;

typedef struct BuildNode {
    Build *build;
    Onnx__NodeProto *node;
} BuildNode;

static inline void *build_need(void *memory)
{
    if (!memory) {
        fprintf(stderr, "the test is out of memory or of room in its model\n");
        exit(2);
    }
    return memory;
}

static inline void *build_alloc(Build *b, size_t bytes)
{
    return build_need(papa_arena_alloc(&b->arena, bytes));
}

static inline char *build_text(Build *b, const char *text)
{
    return build_need(papa_arena_strdup(&b->arena, text));
}

static inline Build build_begin(void)
{
    Build b = {.arena = PAPA_ARENA_INIT, .model = ONNX__MODEL_PROTO__INIT, .opset = ONNX__OPERATOR_SET_ID_PROTO__INIT, .graph = ONNX__GRAPH_PROTO__INIT};
    b.model.has_ir_version = b.opset.has_version = true;
    b.model.ir_version = 8;
    b.opset.version = 17;
    return b;
}

static inline Onnx__ValueInfoProto *build_value(Build *b, const char *name, int rank, const int64_t *dims)
{
    Onnx__ValueInfoProto *info = build_alloc(b, sizeof *info);
    Onnx__TypeProto *type = build_alloc(b, sizeof *type);
    Onnx__TypeProto__Tensor *tensor = build_alloc(b, sizeof *tensor);
    Onnx__TensorShapeProto *shape = build_alloc(b, sizeof *shape);
    onnx__value_info_proto__init(info), onnx__type_proto__init(type), onnx__type_proto__tensor__init(tensor), onnx__tensor_shape_proto__init(shape);
    shape->n_dim = (size_t)rank;
    shape->dim = build_alloc(b, (size_t)rank * sizeof *shape->dim);
    for (int i = 0; i < rank; i++) {
        Onnx__TensorShapeProto__Dimension *dim = shape->dim[i] = build_alloc(b, sizeof *dim);
        onnx__tensor_shape_proto__dimension__init(dim);
        dim->value_case = dims && dims[i] >= 0 ? ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE : ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
        if (dims && dims[i] >= 0)
            dim->dim_value = dims[i];
        else
            dim->dim_param = build_text(b, "N");
    }
    tensor->has_elem_type = true;
    tensor->elem_type = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
    tensor->shape = shape;
    type->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    type->tensor_type = tensor;
    info->name = build_text(b, name);
    info->type = type;
    return info;
}

/* dims: -1 is a symbolic one. */
static inline void build_input(Build *b, const char *name, int rank, const int64_t *dims)
{
    b->inputs[b->graph.n_input++] = build_value(b, name, rank, dims);
}

static inline void build_output(Build *b, const char *name, int rank)
{
    b->outputs[b->graph.n_output++] = build_value(b, name, rank, NULL);
}

static inline Onnx__TensorProto *build_tensor(Build *b, const char *name, int rank, const int64_t *dims, const float *values)
{
    if (b->graph.n_initializer == BUILD_MOST)
        build_need(NULL);
    Onnx__TensorProto *tensor = b->tensors[b->graph.n_initializer++] = build_alloc(b, sizeof *tensor);
    onnx__tensor_proto__init(tensor);
    int64_t count = 1;
    tensor->dims = build_alloc(b, (size_t)rank * sizeof *tensor->dims);
    for (int i = 0; i < rank; i++)
        count *= tensor->dims[i] = dims[i];
    tensor->n_dims = (size_t)rank;
    tensor->name = build_text(b, name);
    tensor->has_data_type = tensor->has_raw_data = true;
    tensor->data_type = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
    tensor->raw_data.len = (size_t)count * sizeof *values;
    tensor->raw_data.data = build_alloc(b, tensor->raw_data.len);
    memcpy(tensor->raw_data.data, values, tensor->raw_data.len);
    return tensor;
}

/* Integers or truth values of this type, INT64 or BOOL. rank: 0 or 1. */
static inline void build_known(Build *b, const char *name, int type, int rank, int64_t n, const int64_t *values)
{
    Onnx__TensorProto *tensor = build_tensor(b, name, 0, NULL, (const float[]){0});
    const size_t width = type == ONNX__TENSOR_PROTO__DATA_TYPE__BOOL ? 1 : sizeof *values;
    tensor->data_type = type;
    tensor->n_dims = (size_t)rank;
    tensor->dims = build_alloc(b, sizeof *tensor->dims);
    tensor->dims[0] = n;
    tensor->raw_data.len = (size_t)n * width;
    tensor->raw_data.data = build_alloc(b, tensor->raw_data.len + 1);
    for (int64_t i = 0; i < n; i++)
        memcpy(tensor->raw_data.data + (size_t)i * width, &values[i], width); /* the low byte of a truth value */
}

/* Normal with this standard deviation; other numbers for each tensor. */
static inline void build_random(Build *b, const char *name, int rank, const int64_t *dims, double std)
{
    int64_t count = 1;
    for (int i = 0; i < rank; i++)
        count *= dims[i];
    float *values = build_alloc(b, (size_t)count * sizeof *values);
    PapaRng normal = papa_rng(1, PAPA_RNG_TEST, 0, b->n_random++, 0);
    for (int64_t i = 0; i < count; i++)
        values[i] = (float)(std * papa_rng_normal(&normal));
    build_tensor(b, name, rank, dims, values);
}

static inline char **build_names(Build *b, const char *list, size_t *n)
{
    char **names = build_alloc(b, BUILD_MOST * sizeof *names), *rest, *copy = build_text(b, list);
    *n = 0;
    for (char *name = strtok_r(copy, " ", &rest); name; name = strtok_r(NULL, " ", &rest)) {
        if (*n == BUILD_MOST)
            build_need(NULL);
        names[(*n)++] = strcmp(name, "-") == 0 ? build_text(b, "") : name; /* "-": left out */
    }
    return names;
}

/* in, out: names separated by blanks. */
static inline BuildNode build_node(Build *b, const char *type, const char *in, const char *out)
{
    if (b->graph.n_node == BUILD_MOST)
        build_need(NULL);
    Onnx__NodeProto *node = b->nodes[b->graph.n_node++] = build_alloc(b, sizeof *node);
    onnx__node_proto__init(node);
    node->op_type = build_text(b, type);
    node->name = build_need(papa_arena_printf(&b->arena, "%s_%zu", type, b->graph.n_node - 1));
    node->input = build_names(b, in, &node->n_input);
    node->output = build_names(b, out, &node->n_output);
    node->attribute = build_alloc(b, 8 * sizeof *node->attribute);
    return (BuildNode){b, node};
}

static inline Onnx__AttributeProto *build_attribute(BuildNode at, const char *name, int type)
{
    Onnx__AttributeProto *attribute = at.node->attribute[at.node->n_attribute++] = build_alloc(at.build, sizeof *attribute);
    onnx__attribute_proto__init(attribute);
    attribute->name = build_text(at.build, name);
    attribute->has_type = true;
    attribute->type = (Onnx__AttributeProto__AttributeType)type;
    return attribute;
}

static inline BuildNode build_int(BuildNode at, const char *name, int64_t value)
{
    Onnx__AttributeProto *attribute = build_attribute(at, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT);
    attribute->has_i = true;
    attribute->i = value;
    return at;
}

static inline BuildNode build_float(BuildNode at, const char *name, float value)
{
    Onnx__AttributeProto *attribute = build_attribute(at, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT);
    attribute->has_f = true;
    attribute->f = value;
    return at;
}

static inline BuildNode build_ints(BuildNode at, const char *name, int n, const int64_t *values)
{
    Onnx__AttributeProto *attribute = build_attribute(at, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS);
    attribute->n_ints = (size_t)n;
    attribute->ints = build_alloc(at.build, (size_t)n * sizeof *values);
    memcpy(attribute->ints, values, (size_t)n * sizeof *values);
    return at;
}

static inline BuildNode build_string(BuildNode at, const char *name, const char *text)
{
    Onnx__AttributeProto *attribute = build_attribute(at, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING);
    attribute->has_s = true;
    attribute->s.len = strlen(text);
    attribute->s.data = (uint8_t *)build_text(at.build, text);
    return at;
}

static inline void build_write(Build *b, const char *path)
{
    b->opset.domain = (char *)"";
    b->opsets[0] = &b->opset;
    b->model.opset_import = b->opsets;
    b->model.n_opset_import = 1;
    b->graph.name = (char *)"test";
    b->graph.node = b->nodes, b->graph.initializer = b->tensors, b->graph.input = b->inputs, b->graph.output = b->outputs;
    b->model.graph = &b->graph;
    size_t bytes = onnx__model_proto__get_packed_size(&b->model);
    uint8_t *packed = build_alloc(b, bytes);
    onnx__model_proto__pack(&b->model, packed);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(packed, 1, bytes, file) != bytes || fclose(file)) {
        fprintf(stderr, "the test can't write %s\n", path);
        exit(2);
    }
    papa_arena_free(&b->arena);
}

#endif
