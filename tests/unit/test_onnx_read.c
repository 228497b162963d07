/* Reading ONNX files: storage forms, attributes, external data, and everything that is wrong with a file. */
#include "check.h"
#include "unit/onnx_bytes.h"

static char folder[64], model_path[80], data_path[80];

#define TYPE(id) ONNX__TENSOR_PROTO__DATA_TYPE__##id

/* ---------------------------------------------------------------- storage forms */

static void check_floats(PapaBuffer *tensor, const double *expected, int64_t n, const char *form)
{
    PapaOnnx *onnx;
    PapaBuffer model = model_of_tensor(tensor);
    CHECK_OK(open_bytes(&onnx, model_path, &model));
    const Onnx__TensorProto *t = papa_onnx_graph(onnx)->initializer[0];
    float floats[16];
    double doubles[16];
    CHECK(papa_tensor_count(t) == n, "%s", form);
    CHECK(papa_tensor_read_float(onnx, t, floats, n) == PAPA_OK, "%s: %s", form, papa_error());
    CHECK(papa_tensor_read_double(onnx, t, doubles, n) == PAPA_OK, "%s: %s", form, papa_error());
    for (int64_t i = 0; i < n; i++)
        CHECK(doubles[i] == expected[i] && floats[i] == (float)expected[i], "%s: element %d is %g and %g, not %g", form, (int)i, doubles[i],
            floats[i], expected[i]);
    CHECK_FAILS(papa_tensor_read_float(onnx, t, floats, n + 1), PAPA_ERR_MISMATCH, "tensor 'W'");
    CHECK_FAILS(papa_tensor_read_int64(onnx, t, NULL, n), PAPA_ERR_UNSUPPORTED, "an integer type");
    CHECK(t->n_float_data + t->n_int32_data + t->n_double_data + t->raw_data.len == 0, "%s: the skeleton has elements", form);
    papa_onnx_close(onnx);
}

static void test_float_forms(void)
{
    static const float f[] = {1, -2.5f, 0x1p-140f};
    static const double d[] = {1, -2.5, 0x1p-140}, expected[] = {1, -2.5, 0x1p-140};
    PapaBuffer raw = float_tensor("W", f, 3), packed = tensor_head("W", TYPE(FLOAT), 3), single = tensor_head("W", TYPE(FLOAT), 3);
    PapaBuffer mixed = tensor_head("W", TYPE(FLOAT), 3), wide = tensor_head("W", TYPE(DOUBLE), 3), wide_single = tensor_head("W", TYPE(DOUBLE), 3);
    PapaBuffer empty_first = tensor_head("W", TYPE(FLOAT), 3);
    put_bytes(&packed, FIELD_TENSOR_FLOAT_DATA, f, sizeof f);
    put_bytes(&mixed, FIELD_TENSOR_FLOAT_DATA, f, 8);
    put_fixed(&mixed, FIELD_TENSOR_FLOAT_DATA, PAPA_WIRE_I32, &f[2]);
    put_bytes(&wide, FIELD_TENSOR_DOUBLE_DATA, d, sizeof d);
    put_bytes(&empty_first, FIELD_TENSOR_FLOAT_DATA, f, 0);
    put_bytes(&empty_first, FIELD_TENSOR_FLOAT_DATA, f, sizeof f);
    for (int i = 0; i < 3; i++) {
        put_fixed(&single, FIELD_TENSOR_FLOAT_DATA, PAPA_WIRE_I32, &f[i]);
        put_fixed(&wide_single, FIELD_TENSOR_DOUBLE_DATA, PAPA_WIRE_I64, &d[i]);
    }
    check_floats(&raw, expected, 3, "raw");
    check_floats(&packed, expected, 3, "packed");
    check_floats(&single, expected, 3, "unpacked");
    check_floats(&mixed, expected, 3, "packed, then unpacked");
    check_floats(&empty_first, expected, 3, "an empty part first");
    check_floats(&wide, expected, 3, "double packed");
    check_floats(&wide_single, expected, 3, "double unpacked");
}

static void test_half_forms(void)
{
    static const uint16_t f16[] = {0x3c00, 0x0001, 0xfbff, 0x8000}, bf16[] = {0x3f80, 0x0001, 0xff7f, 0xc020};
    static const double expected16[] = {1, 0x1p-24, -65504, -0.0}, expected_b16[] = {1, 0x1p-133, -0x1.fep127, -2.5};
    PapaBuffer raw = tensor_head("W", TYPE(FLOAT16), 4), items = tensor_head("W", TYPE(FLOAT16), 4), braw = tensor_head("W", TYPE(BFLOAT16), 4);
    PapaBuffer bitems = tensor_head("W", TYPE(BFLOAT16), 4), packed = tensor_head("W", TYPE(FLOAT16), 4), numbers = {0};
    put_bytes(&raw, FIELD_TENSOR_RAW_DATA, f16, sizeof f16);
    put_bytes(&braw, FIELD_TENSOR_RAW_DATA, bf16, sizeof bf16);
    for (int i = 0; i < 4; i++) {
        unsigned char varint[PAPA_VARINT_MAX];
        put_number(&items, FIELD_TENSOR_INT32_DATA, f16[i]);
        put_number(&bitems, FIELD_TENSOR_INT32_DATA, bf16[i]);
        must(papa_buffer_add(&numbers, varint, papa_wire_put_varint(varint, f16[i])));
    }
    put_message(&packed, FIELD_TENSOR_INT32_DATA, &numbers);
    check_floats(&raw, expected16, 4, "float16 raw");
    check_floats(&items, expected16, 4, "float16 as numbers");
    check_floats(&packed, expected16, 4, "float16 as packed numbers");
    check_floats(&braw, expected_b16, 4, "bfloat16 raw");
    check_floats(&bitems, expected_b16, 4, "bfloat16 as numbers");
}

static void check_int64(int type, uint32_t field, const int64_t *values, int64_t n)
{
    PapaOnnx *onnx;
    PapaBuffer tensor = tensor_head("W", type, n);
    for (int64_t i = 0; i < n; i++)
        put_number(&tensor, field, values[i]);
    PapaBuffer model = model_of_tensor(&tensor);
    CHECK_OK(open_bytes(&onnx, model_path, &model));
    int64_t found[8];
    CHECK(papa_tensor_read_int64(onnx, papa_onnx_graph(onnx)->initializer[0], found, n) == PAPA_OK, "%s", papa_error());
    CHECK(!memcmp(found, values, (size_t)n * sizeof *values), "%s", papa_type_name(type));
    papa_onnx_close(onnx);
}

static void test_integer_forms(void)
{
    check_int64(TYPE(BOOL), FIELD_TENSOR_INT32_DATA, (int64_t[]){1, 0}, 2);
    check_int64(TYPE(INT8), FIELD_TENSOR_INT32_DATA, (int64_t[]){-128, 127}, 2);
    check_int64(TYPE(UINT8), FIELD_TENSOR_INT32_DATA, (int64_t[]){255, 0}, 2);
    check_int64(TYPE(INT16), FIELD_TENSOR_INT32_DATA, (int64_t[]){-32768, 5}, 2);
    check_int64(TYPE(UINT16), FIELD_TENSOR_INT32_DATA, (int64_t[]){65535, 5}, 2);
    check_int64(TYPE(INT32), FIELD_TENSOR_INT32_DATA, (int64_t[]){INT32_MIN, INT32_MAX, -1}, 3);
    check_int64(TYPE(INT64), FIELD_TENSOR_INT64_DATA, (int64_t[]){INT64_MIN, INT64_MAX, -1}, 3);
    check_int64(TYPE(UINT32), FIELD_TENSOR_UINT64_DATA, (int64_t[]){UINT32_MAX, 0}, 2);
    check_int64(TYPE(UINT64), FIELD_TENSOR_UINT64_DATA, (int64_t[]){INT64_MAX, 0}, 2);

    PapaOnnx *onnx;
    int64_t value;
    PapaBuffer tensor = tensor_head("W", TYPE(UINT64), 1);
    put_number(&tensor, FIELD_TENSOR_UINT64_DATA, -1);
    PapaBuffer model = model_of_tensor(&tensor);
    CHECK_OK(open_bytes(&onnx, model_path, &model));
    CHECK_FAILS(papa_tensor_read_int64(onnx, papa_onnx_graph(onnx)->initializer[0], &value, 1), PAPA_ERR_UNSUPPORTED, "beyond int64");
    papa_onnx_close(onnx);
    tensor = tensor_head("W", TYPE(INT8), 1);
    put_number(&tensor, FIELD_TENSOR_INT32_DATA, 300);
    model = model_of_tensor(&tensor);
    CHECK_OK(open_bytes(&onnx, model_path, &model));
    CHECK_FAILS(papa_tensor_read_int64(onnx, papa_onnx_graph(onnx)->initializer[0], &value, 1), PAPA_ERR_FORMAT, "out of the range of INT8");
    papa_onnx_close(onnx);
}

/* ---------------------------------------------------------------- attributes */

static PapaBuffer attribute(const char *name, int type)
{
    PapaBuffer attr = {0};
    put_text(&attr, 1, name);
    put_number(&attr, 20, type);
    return attr;
}

static void test_attributes(void)
{
    static const float half = .5f;
    PapaBuffer node = make_node("Conv", "conv1", "x", "y"), unnamed = make_node("Relu", "", "y", "z"), graph = {0};
    PapaBuffer i = attribute("i", 2), f = attribute("f", 1), s = attribute("s", 3), is = attribute("is", 7), fs = attribute("fs", 6);
    PapaBuffer t = attribute("t", 4), zero = attribute("zero", 2), nul = attribute("nul", 3), ref = attribute("ref", 2), inner = float_tensor("T", &half, 1);
    put_number(&i, 3, -7);
    put_fixed(&f, 2, PAPA_WIRE_I32, &half);
    put_text(&s, 4, "SAME_UPPER");
    put_number(&is, 8, 3);
    put_bytes(&is, 8, "\x04\x05", 2);
    put_bytes(&fs, 7, &half, 4);
    put_message(&t, 5, &inner);
    put_bytes(&nul, 4, "a\0b", 3);
    put_text(&ref, 21, "outer");
    PapaBuffer *all[] = {&i, &f, &s, &is, &fs, &t, &zero, &nul, &ref};
    for (size_t k = 0; k < sizeof all / sizeof *all; k++)
        put_message(&node, 5, all[k]);
    put_message(&graph, FIELD_GRAPH_NODE, &node);
    put_message(&graph, FIELD_GRAPH_NODE, &unnamed);
    PapaBuffer model = model_of(&graph, 8);
    PapaOnnx *onnx;
    CHECK_OK(open_bytes(&onnx, model_path, &model));
    const Onnx__NodeProto *conv = papa_onnx_graph(onnx)->node[0];
    int64_t n = 0;
    float x = 0;
    const char *text = NULL;
    const int64_t *ints;
    const float *floats;
    const Onnx__TensorProto *tensor;
    size_t count;
    CHECK(papa_attr_int(conv, "i", 1, &n) == PAPA_OK && n == -7);
    CHECK(papa_attr_int(conv, "zero", 1, &n) == PAPA_OK && n == 0);
    CHECK(papa_attr_int(conv, "absent", 5, &n) == PAPA_OK && n == 5);
    CHECK(papa_attr_float(conv, "f", 1, &x) == PAPA_OK && x == .5f);
    CHECK(papa_attr_float(conv, "absent", 2, &x) == PAPA_OK && x == 2);
    CHECK(papa_attr_string(conv, "s", "", &text) == PAPA_OK && !strcmp(text, "SAME_UPPER"));
    CHECK(papa_attr_string(conv, "absent", "NOTSET", &text) == PAPA_OK && !strcmp(text, "NOTSET"));
    CHECK(papa_attr_ints(conv, "is", &ints, &count) == PAPA_OK && count == 3 && ints[0] == 3 && ints[1] == 4 && ints[2] == 5);
    CHECK(papa_attr_ints(conv, "absent", &ints, &count) == PAPA_OK && count == 0 && !ints);
    CHECK(papa_attr_floats(conv, "fs", &floats, &count) == PAPA_OK && count == 1 && floats[0] == .5f);
    CHECK(papa_attr_tensor(conv, "t", &tensor) == PAPA_OK && tensor && papa_tensor_read_float(onnx, tensor, &x, 1) == PAPA_OK && x == .5f);
    CHECK(papa_attr_tensor(conv, "absent", &tensor) == PAPA_OK && !tensor);
    CHECK_FAILS(papa_attr_int(conv, "f", 1, &n), PAPA_ERR_FORMAT, "Conv node 'conv1': attribute 'f' is of type FLOAT, INT expected");
    CHECK_FAILS(papa_attr_string(conv, "nul", "", &text), PAPA_ERR_FORMAT, "NUL");
    CHECK_FAILS(papa_attr_int(conv, "ref", 1, &n), PAPA_ERR_FORMAT, "'outer'");
    CHECK(!strcmp(papa_node_label(papa_onnx_graph(onnx)->node[1]), "Relu node with output 'z'"));
    CHECK(papa_onnx_opset(onnx, "") == 17 && papa_onnx_opset(onnx, "ai.onnx") == 17 && papa_onnx_opset(onnx, "other") == 0);
    CHECK(papa_onnx_metadata(onnx, "key") == NULL);
    papa_onnx_close(onnx);
}

/* ---------------------------------------------------------------- bad files */

static void check_bad(PapaBuffer *model, const char *text)
{
    PapaOnnx *onnx;
    CHECK_FAILS(open_bytes(&onnx, model_path, model), PAPA_ERR_FORMAT, text);
    CHECK(!onnx && strstr(papa_error(), model_path), "%s", papa_error());
    papa_onnx_close(onnx);
}

static void check_bad_tensor(PapaBuffer *tensor, const char *text)
{
    PapaBuffer model = model_of_tensor(tensor);
    check_bad(&model, text);
}

static void test_bad_models(void)
{
    static const float f[] = {1, 2, 3};
    PapaBuffer graph = {0}, model = {0}, a = float_tensor("W", f, 3), b = float_tensor("W", f, 3), unnamed = float_tensor("", f, 3), empty = {0};
    check_bad(&empty, "empty");
    must(papa_buffer_add(&model, "This is not a model, but text.\n", 31));
    check_bad(&model, "not an ONNX model");
    put_number(&model, 1, 8);
    check_bad(&model, "no graph");
    put_message(&model, FIELD_MODEL_GRAPH, &graph);
    check_bad(&model, "no IR version");
    model = model_of(&graph, 2);
    check_bad(&model, "IR version 2");
    model = model_of(&graph, 15);
    check_bad(&model, "IR version 15");
    model = model_of(&graph, 8);
    put_message(&model, FIELD_MODEL_GRAPH, &graph);
    check_bad(&model, "twice");
    put_message(&graph, FIELD_GRAPH_INITIALIZER, &a);
    put_message(&graph, FIELD_GRAPH_INITIALIZER, &b);
    model = model_of(&graph, 8);
    check_bad(&model, "two initializers are named 'W'");
    model = model_of_tensor(&unnamed);
    check_bad(&model, "without a name");
    put_number(&graph, FIELD_GRAPH_NODE, 5);
    model = model_of(&graph, 8);
    check_bad(&model, "another wire type");
    PapaBuffer node = {0};
    put_bytes(&node, 3, "a\0b", 3);
    put_message(&graph, FIELD_GRAPH_NODE, &node);
    model = model_of(&graph, 8);
    check_bad(&model, "NUL byte");
    model = model_of(&graph, 8);
    must(papa_buffer_add(&model, "\x0b", 1)); /* field 1, a group */
    check_bad(&model, "wire type");
}

static void test_bad_tensors(void)
{
    static const float f[] = {1, 2, 3};
    PapaBuffer t = tensor_head("W", TYPE(FLOAT), 4);
    put_bytes(&t, FIELD_TENSOR_RAW_DATA, f, sizeof f);
    check_bad_tensor(&t, "tensor 'W': 4 elements of type FLOAT expected, 12 bytes of raw data found");
    t = tensor_head("W", TYPE(FLOAT), 3);
    check_bad_tensor(&t, "0 items");
    t = tensor_head("W", TYPE(FLOAT), 2);
    put_bytes(&t, FIELD_TENSOR_FLOAT_DATA, f, sizeof f);
    check_bad_tensor(&t, "3 items");
    t = tensor_head("W", TYPE(FLOAT), 3);
    put_bytes(&t, FIELD_TENSOR_FLOAT_DATA, f, sizeof f);
    put_bytes(&t, FIELD_TENSOR_RAW_DATA, f, sizeof f);
    check_bad_tensor(&t, "twice");
    t = tensor_head("W", TYPE(FLOAT), 3);
    put_bytes(&t, FIELD_TENSOR_RAW_DATA, f, sizeof f);
    put_bytes(&t, FIELD_TENSOR_RAW_DATA, f, sizeof f);
    check_bad_tensor(&t, "twice");
    t = tensor_head("W", TYPE(FLOAT), 1);
    put_number(&t, FIELD_TENSOR_INT64_DATA, 1);
    check_bad_tensor(&t, "1 items in field 7");
    t = tensor_head("W", TYPE(FLOAT), 3);
    put_bytes(&t, FIELD_TENSOR_FLOAT_DATA, f, 11);
    check_bad_tensor(&t, "ends inside a number");
    t = tensor_head("W", TYPE(INT64), 1);
    put_bytes(&t, FIELD_TENSOR_INT64_DATA, "\xff\xff", 2);
    check_bad_tensor(&t, "ends inside a number");
    t = tensor_head("W", TYPE(FLOAT), -1);
    put_number(&t, FIELD_TENSOR_DIMS, -1);
    check_bad_tensor(&t, "negative dimension");
    t = tensor_head("W", TYPE(DOUBLE), INT64_MAX);
    check_bad_tensor(&t, "more than memory");
    t = tensor_head("W", TYPE(INT8), INT64_MAX / 2);
    put_number(&t, FIELD_TENSOR_DIMS, 3);
    check_bad_tensor(&t, "more than memory");
    t = tensor_head("W", TYPE(STRING), 2);
    put_text(&t, FIELD_TENSOR_STRING_DATA, "only one");
    check_bad_tensor(&t, "2 elements of type STRING");
}

/* Types that we don't know pass: a newer file's business. */
static void test_unknown_type(void)
{
    PapaOnnx *onnx;
    float x;
    PapaBuffer t = tensor_head("W", 99, 5);
    put_bytes(&t, FIELD_TENSOR_RAW_DATA, "abc", 3);
    PapaBuffer model = model_of_tensor(&t);
    CHECK_OK(open_bytes(&onnx, model_path, &model));
    CHECK_FAILS(papa_tensor_read_float(onnx, papa_onnx_graph(onnx)->initializer[0], &x, 5), PAPA_ERR_UNSUPPORTED, "type 99");
    CHECK(papa_type_bits(99) == 0 && papa_type_bits(-1) == 0 && papa_type_bits(TYPE(INT4)) == 4 && papa_type_bits(TYPE(STRING)) == 0);
    papa_onnx_close(onnx);
}

/* A type inside a type inside a type ..., deeper than any stack. */
static void test_deep_nesting(void)
{
    enum { LEVELS = 100000 };
    PapaOnnx *onnx;
    PapaBuffer model = {0};
    size_t marks[8], *nested = malloc(2 * LEVELS * sizeof *nested);
    static const uint32_t outer[] = {FIELD_MODEL_GRAPH, FIELD_GRAPH_VALUE_INFO, 2};
    put_number(&model, 1, 8);
    for (int i = 0; i < 3; i++)
        must(papa_buffer_open_message(&model, outer[i], &marks[i]));
    for (int i = 0; i < 2 * LEVELS; i++)
        must(papa_buffer_open_message(&model, i % 2 ? 1 : 4, &nested[i]));
    for (int i = 2 * LEVELS; i-- > 0;)
        papa_buffer_close_message(&model, nested[i]);
    for (int i = 3; i-- > 0;)
        papa_buffer_close_message(&model, marks[i]);
    free(nested);
    CHECK_FAILS(open_bytes(&onnx, model_path, &model), PAPA_ERR_FORMAT, "nested deeper");
}

/* A small model with something of everything. */
static PapaBuffer varied_model(void)
{
    static const float f[] = {1, 2, 3};
    PapaBuffer graph = {0}, node = make_node("Constant", "n", "", "c"), attr = attribute("value", 4), inner = float_tensor("inner", f, 3);
    PapaBuffer typed = tensor_head("typed", TYPE(FLOAT16), 2), info = value_info("x"), out = value_info("y"), raw = float_tensor("raw", f, 3);
    PapaBuffer branch = {0}, with_graph = make_node("If", "if", "c", "y"), then = attribute("then_branch", 5), deep = float_tensor("deep", f, 2);
    put_message(&attr, 5, &inner);
    put_message(&node, 5, &attr);
    put_bytes(&typed, FIELD_TENSOR_INT32_DATA, "\x80\x78\x01", 3);
    put_message(&branch, FIELD_GRAPH_INITIALIZER, &deep);
    put_message(&then, 6, &branch);
    put_message(&with_graph, 5, &then);
    put_message(&graph, FIELD_GRAPH_NODE, &node);
    put_message(&graph, FIELD_GRAPH_NODE, &with_graph);
    put_message(&graph, FIELD_GRAPH_INITIALIZER, &typed);
    put_message(&graph, FIELD_GRAPH_INITIALIZER, &raw);
    put_message(&graph, FIELD_GRAPH_INPUT, &info);
    put_message(&graph, 12, &out);
    put_text(&graph, 999, "unknown");
    PapaBuffer model = model_of(&graph, 8), entry = {0};
    put_text(&entry, FIELD_ENTRY_KEY, "key");
    put_text(&entry, FIELD_ENTRY_VALUE, "value");
    put_message(&model, FIELD_MODEL_METADATA, &entry);
    return model;
}

/* Opens and, where that works, reads and edits what there is: must never crash, whatever comes out. */
static bool exercise(const unsigned char *data, size_t bytes)
{
    PapaOnnx *onnx;
    PapaEdit *edit;
    float values[64];
    write_bytes(model_path, data, bytes);
    if (papa_onnx_open(&onnx, model_path)) {
        CHECK(!strncmp(papa_error(), model_path, strlen(model_path)) && strlen(papa_error()) > strlen(model_path) + 4, "%s", papa_error());
        return false;
    }
    const Onnx__GraphProto *graph = papa_onnx_graph(onnx);
    CHECK(papa_edit_new(&edit, onnx) == PAPA_OK, "%s", papa_error());
    for (size_t i = 0; i < graph->n_initializer && edit; i++) {
        int64_t n = papa_tensor_count(graph->initializer[i]);
        if (n <= 64 && papa_tensor_read_float(onnx, graph->initializer[i], values, n) == PAPA_OK)
            CHECK(papa_edit_set_tensor(edit, graph->initializer[i], values, n) == PAPA_OK, "%s", papa_error());
    }
    for (size_t i = 0; i < graph->n_node && edit; i++)
        CHECK(papa_edit_replace_node(edit, graph->node[i], (const Onnx__NodeProto *const *)&graph->node[i], 1) == PAPA_OK, "%s", papa_error());
    if (edit)
        CHECK(papa_edit_write(edit, data_path) == PAPA_OK, "%s", papa_error());
    papa_edit_free(edit);
    papa_onnx_close(onnx);
    return true;
}

static void test_every_prefix(void)
{
    PapaBuffer model = varied_model();
    CHECK(exercise(model.data, model.size), "%s", papa_error());
    int opened = 0;
    for (size_t n = 0; n < model.size; n++)
        opened += exercise(model.data, n);
    /* Only at the borders of the model's last fields, behind the graph, can a prefix be a model. */
    CHECK(opened <= 2, "%d prefixes opened", opened);
    papa_buffer_free(&model);
}

static void test_every_byte(void)
{
    static const unsigned char bits[] = {1, 2, 4, 8, 0x10, 0x40, 0x80, 0xff};
    PapaBuffer model = varied_model();
    int opened = 0;
    for (size_t i = 0; i < model.size; i++)
        for (size_t k = 0; k < sizeof bits; k++) {
            model.data[i] ^= bits[k];
            opened += exercise(model.data, model.size);
            model.data[i] ^= bits[k];
        }
    CHECK(opened > 100, "%d", opened); /* changed names and elements */
    papa_buffer_free(&model);
}

/* ---------------------------------------------------------------- external data */

static void put_entry(PapaBuffer *tensor, const char *key, const char *value)
{
    PapaBuffer entry = {0};
    put_text(&entry, FIELD_ENTRY_KEY, key);
    put_text(&entry, FIELD_ENTRY_VALUE, value);
    put_message(tensor, FIELD_TENSOR_EXTERNAL_DATA, &entry);
}

/* A FLOAT tensor of 3 elements in an external file; NULL: without that key. */
static PapaBuffer external_tensor(const char *name, const char *location, const char *offset, const char *length)
{
    PapaBuffer tensor = tensor_head(name, TYPE(FLOAT), 3);
    if (location)
        put_entry(&tensor, "location", location);
    if (offset)
        put_entry(&tensor, "offset", offset);
    if (length)
        put_entry(&tensor, "length", length);
    put_number(&tensor, FIELD_TENSOR_DATA_LOCATION, 1);
    return tensor;
}

static void test_external(void)
{
    static const float f[] = {0, 1, 2, 3, 4};
    PapaOnnx *onnx;
    float x[3];
    write_bytes(data_path, f, sizeof f);
    PapaBuffer a = external_tensor("a", "data.bin", NULL, NULL), b = external_tensor("b", "./data.bin", "8", "12"), graph = {0};
    put_message(&graph, FIELD_GRAPH_INITIALIZER, &a);
    put_message(&graph, FIELD_GRAPH_INITIALIZER, &b);
    PapaBuffer model = model_of(&graph, 8);
    CHECK_OK(open_bytes(&onnx, model_path, &model));
    CHECK_OK(papa_tensor_read_float(onnx, papa_onnx_graph(onnx)->initializer[0], x, 3));
    CHECK(x[0] == 0 && x[2] == 2);
    CHECK_OK(papa_tensor_read_float(onnx, papa_onnx_graph(onnx)->initializer[1], x, 3));
    CHECK(x[0] == 2 && x[2] == 4);
    papa_onnx_close(onnx);

    static const struct {
        const char *location, *offset, *length, *text;
    } bad[] = {
        {"missing.bin", NULL, NULL, "missing.bin"},
        {NULL, NULL, NULL, "no location"},
        {"", NULL, NULL, "outside"},
        {"/etc/passwd", NULL, NULL, "outside"},
        {"../x", NULL, NULL, "outside"},
        {"a/../../x", NULL, NULL, "outside"},
        {"a/..", NULL, NULL, "outside"},
        {"data.bin", "12", NULL, "too short"},
        {"data.bin", "18446744073709551612", "12", "too short"},
        {"data.bin", "18446744073709551616", NULL, "offset"},
        {"data.bin", "-4", NULL, "offset"},
        {"data.bin", "0x4", NULL, "offset"},
        {"data.bin", "4", "8", "8 bytes, its type and shape need 12"},
        {"data.bin", "4", "", "length"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        PapaBuffer tensor = external_tensor("weight", bad[i].location, bad[i].offset, bad[i].length);
        model = model_of_tensor(&tensor);
        CHECK_FAILS(open_bytes(&onnx, model_path, &model), PAPA_ERR_FORMAT, bad[i].text);
        CHECK(strstr(papa_error(), "tensor 'weight'"), "%s", papa_error());
    }
    PapaBuffer both = external_tensor("weight", "data.bin", NULL, NULL);
    put_bytes(&both, FIELD_TENSOR_RAW_DATA, f, 12);
    check_bad_tensor(&both, "too");
}

int main(void)
{
    make_test_folder(folder);
    snprintf(model_path, sizeof model_path, "%s/model.onnx", folder);
    snprintf(data_path, sizeof data_path, "%s/data.bin", folder);
    test_float_forms();
    test_half_forms();
    test_integer_forms();
    test_attributes();
    test_bad_models();
    test_bad_tensors();
    test_unknown_type();
    test_deep_nesting();
    test_every_prefix();
    test_every_byte();
    test_external();
    unlink(model_path);
    unlink(data_path);
    CHECK(rmdir(folder) == 0);
    return check_result();
}
