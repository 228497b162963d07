/* cli_inputs FOLDER: writes the tiny models and data sets that the tool tests work on, good ones and ones with a fault each.
 * A model takes 1x6x6 images and tells 3 classes apart; data/ has such images, one bright row for each class. */
#include "onnxbuild.h"

#include <jpeglib.h>
#include <sys/stat.h>

static const char *folder;

static const char *in_folder(const char *name)
{
    static char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static FILE *create(const char *name)
{
    FILE *file = fopen(in_folder(name), "wb");
    if (!file) {
        perror(in_folder(name));
        exit(2);
    }
    return file;
}

static void finish(FILE *file)
{
    if (fclose(file)) {
        perror("writing the inputs");
        exit(2);
    }
}

/* ---------------------------------------------------------------- models */

static void features(Build *b, int64_t channels, int64_t size)
{
    build_input(b, "image", 4, (int64_t[]){-1, channels, size, size});
    build_random(b, "w1", 4, (int64_t[]){4, channels, 3, 3}, .4);
    build_ints(build_node(b, "Conv", "image w1", "v1"), "pads", 4, (int64_t[]){1, 1, 1, 1});
    build_tensor(b, "scale", 1, (int64_t[]){4}, (float[]){1, 1, 1, 1});
    build_tensor(b, "shift", 1, (int64_t[]){4}, (float[]){0, 0, 0, 0});
    build_tensor(b, "mean", 1, (int64_t[]){4}, (float[]){0, 0, 0, 0});
    build_tensor(b, "var", 1, (int64_t[]){4}, (float[]){1, 1, 1, 1});
    build_node(b, "BatchNormalization", "v1 scale shift mean var", "n1");
    build_node(b, "Relu", "n1", "a1");
    build_node(b, "Flatten", "a1", "f1");
}

static void classifier(Build *b, int64_t inputs, int64_t classes)
{
    build_random(b, "w2", 2, (int64_t[]){inputs, classes}, .1);
    build_random(b, "b2", 1, (int64_t[]){classes}, .1);
    build_node(b, "Gemm", "f1 w2 b2", "logits");
    build_output(b, "logits", 2);
}

static void write_good(const char *name, int64_t channels, int64_t size, int64_t classes)
{
    Build b = build_begin();
    features(&b, channels, size);
    classifier(&b, 4 * size * size, classes);
    build_write(&b, in_folder(name));
}

/* Hidden layers without BatchNormalization, so that REPAIR has something to fold; a final Softmax; no bias in the convolution. */
static void write_plain(void)
{
    Build b = build_begin();
    build_input(&b, "image", 4, (int64_t[]){-1, 1, 6, 6});
    build_random(&b, "w0", 4, (int64_t[]){4, 1, 3, 3}, .4);
    build_node(&b, "Conv", "image w0", "v0");
    build_node(&b, "Relu", "v0", "a0");
    build_node(&b, "Flatten", "a0", "f1");
    build_random(&b, "w2", 2, (int64_t[]){64, 3}, .1);
    build_node(&b, "Gemm", "f1 w2", "logits");
    build_node(&b, "Softmax", "logits", "probabilities");
    build_output(&b, "probabilities", 2);
    build_write(&b, in_folder("plain.onnx"));
}

static void write_version(const char *name, int64_t ir, int64_t opset)
{
    Build b = build_begin();
    features(&b, 1, 6);
    classifier(&b, 144, 3);
    b.model.ir_version = ir;
    b.opset.version = opset;
    build_write(&b, in_folder(name));
}

static void write_with_node(const char *name, const char *type, const char *in, const char *out, const char *domain)
{
    Build b = build_begin();
    features(&b, 1, 6);
    BuildNode node = build_node(&b, type, in, out);
    if (domain)
        node.node->domain = build_text(&b, domain);
    classifier(&b, 144, 3);
    build_write(&b, in_folder(name));
}

static void write_cycle(void)
{
    Build b = build_begin();
    features(&b, 1, 6);
    build_node(&b, "Add", "f1 y", "x");
    build_node(&b, "Relu", "x", "y");
    build_random(&b, "w3", 2, (int64_t[]){144, 3}, .1);
    build_node(&b, "Gemm", "y w3", "logits");
    build_output(&b, "logits", 2);
    build_write(&b, in_folder("cycle.onnx"));
}

static void write_external(const char *name, const char *location)
{
    Build b = build_begin();
    features(&b, 1, 6);
    classifier(&b, 144, 3);
    Onnx__TensorProto *weight = b.tensors[b.graph.n_initializer - 2];
    Onnx__StringStringEntryProto *entry = build_alloc(&b, sizeof *entry);
    onnx__string_string_entry_proto__init(entry);
    entry->key = build_text(&b, "location");
    entry->value = build_text(&b, location);
    weight->has_raw_data = false;
    weight->external_data = build_alloc(&b, sizeof *weight->external_data);
    weight->external_data[0] = entry;
    weight->n_external_data = 1;
    weight->has_data_location = true;
    weight->data_location = ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
    build_write(&b, in_folder(name));
}

static void write_two_inputs(void)
{
    Build b = build_begin();
    features(&b, 1, 6);
    build_input(&b, "extra", 2, (int64_t[]){-1, 144});
    build_node(&b, "Add", "f1 extra", "sum");
    build_random(&b, "w3", 2, (int64_t[]){144, 3}, .1);
    build_node(&b, "Gemm", "sum w3", "logits");
    build_output(&b, "logits", 2);
    build_write(&b, in_folder("two-inputs.onnx"));
}

static void write_no_weights(void)
{
    Build b = build_begin();
    build_input(&b, "image", 4, (int64_t[]){-1, 1, 6, 6});
    build_node(&b, "Flatten", "image", "logits");
    build_output(&b, "logits", 2);
    build_write(&b, in_folder("no-weights.onnx"));
}

static void write_no_classifier(void)
{
    Build b = build_begin();
    build_input(&b, "image", 4, (int64_t[]){-1, 1, 6, 6});
    build_random(&b, "w1", 4, (int64_t[]){4, 1, 3, 3}, .4);
    build_node(&b, "Conv", "image w1", "map");
    build_output(&b, "map", 4);
    build_write(&b, in_folder("no-classifier.onnx"));
}

/* A weight of 8 bits beside the others. */
static void write_quantised(const char *name, int value)
{
    Build b = build_begin();
    features(&b, 1, 6);
    classifier(&b, 144, 3);
    Onnx__TensorProto *weight = build_alloc(&b, sizeof *weight);
    onnx__tensor_proto__init(weight);
    weight->name = build_text(&b, "q");
    weight->has_data_type = true;
    weight->data_type = ONNX__TENSOR_PROTO__DATA_TYPE__INT8;
    weight->n_dims = 1;
    weight->dims = build_alloc(&b, sizeof *weight->dims);
    weight->dims[0] = 2000; /* more than counts as part of the graph */
    weight->has_raw_data = true;
    weight->raw_data = (ProtobufCBinaryData){2000, build_alloc(&b, 2000)};
    weight->raw_data.data[7] = (uint8_t)value;
    b.tensors[b.graph.n_initializer++] = weight;
    build_node(&b, "Frobnicate", "q", "quantised");
    build_output(&b, "quantised", 1);
    build_write(&b, in_folder(name));
}

static void write_models(void)
{
    write_quantised("quantised-1.onnx", 1);
    write_quantised("quantised-2.onnx", 2);
    write_good("good.onnx", 1, 6, 3);
    write_good("twelve.onnx", 1, 6, 12);
    write_good("rgb.onnx", 3, 6, 3);
    write_good("large.onnx", 1, 8, 3);
    write_good("two-classes.onnx", 1, 6, 2);
    write_plain();
    write_version("ir-2.onnx", 2, 17);
    write_version("ir-999.onnx", 999, 17);
    write_version("opset-6.onnx", 8, 6);
    write_version("opset-999.onnx", 8, 999);
    write_with_node("unknown.onnx", "Frobnicate", "a1", "unused", NULL);
    write_with_node("two-makers.onnx", "Relu", "n1", "a1", NULL);
    write_cycle();
    write_external("external.onnx", "missing.bin");
    write_external("outside.onnx", "../weights.bin");
    write_two_inputs();
    write_no_weights();
    write_no_classifier();

    Build b = build_begin(); /* Gemm's weight has one row too few */
    features(&b, 1, 6);
    classifier(&b, 143, 3);
    build_write(&b, in_folder("clash.onnx"));

    b = build_begin(); /* an operator that we lack, on the way to the output */
    features(&b, 1, 6);
    BuildNode node = build_node(&b, "Frobnicate", "f1", "f2");
    node.node->domain = build_text(&b, "com.example");
    build_random(&b, "w3", 2, (int64_t[]){144, 3}, .1);
    build_node(&b, "Gemm", "f2 w3", "logits");
    build_output(&b, "logits", 2);
    build_write(&b, in_folder("foreign.onnx"));

    b = build_begin(); /* nobody makes f2 */
    features(&b, 1, 6);
    build_random(&b, "w3", 2, (int64_t[]){144, 3}, .1);
    build_node(&b, "Gemm", "f2 w3", "logits");
    build_output(&b, "logits", 2);
    build_write(&b, in_folder("nobody.onnx"));
}

/* ---------------------------------------------------------------- data */

static void put32(FILE *file, uint32_t x)
{
    for (int shift = 24; shift >= 0; shift -= 8)
        putc((int)(x >> shift & 255), file);
}

static void write_idx(const char *images, const char *labels, uint32_t n, uint32_t seed)
{
    FILE *file = create(images);
    PapaRng rng = papa_rng(seed, PAPA_RNG_TEST, 0, 0, 0);
    put32(file, 0x803), put32(file, n), put32(file, 6), put32(file, 6);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t p = 0; p < 36; p++)
            putc((int)(papa_rng_below(&rng, 150) + (p / 12 == i % 3 ? 100 : 0)), file);
    finish(file);
    file = create(labels);
    put32(file, 0x801), put32(file, n);
    for (uint32_t i = 0; i < n; i++)
        putc((int)(i % 3), file);
    finish(file);
}

static void write_jpeg(const char *name, int gray)
{
    FILE *file = create(name);
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    JSAMPLE row[6];
    JSAMPROW rows[] = {row};
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    jpeg_stdio_dest(&jpeg, file);
    jpeg.image_width = jpeg.image_height = 6;
    jpeg.input_components = 1;
    jpeg.in_color_space = JCS_GRAYSCALE;
    jpeg_set_defaults(&jpeg);
    jpeg_start_compress(&jpeg, TRUE);
    memset(row, gray, sizeof row);
    for (int y = 0; y < 6; y++)
        jpeg_write_scanlines(&jpeg, rows, 1);
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    finish(file);
}

static void write_data(void)
{
    mkdir(in_folder("data"), 0777);
    write_idx("data/train-images-idx3-ubyte", "data/train-labels-idx1-ubyte", 96, 1);
    write_idx("data/t10k-images-idx3-ubyte", "data/t10k-labels-idx1-ubyte", 30, 2);
    mkdir(in_folder("photos"), 0777);
    static const char *const classes[] = {"photos/ant", "photos/bee", "photos/cow"};
    for (int c = 0; c < 3; c++) {
        mkdir(in_folder(classes[c]), 0777);
        for (int i = 0; i < 8; i++) {
            char name[64];
            snprintf(name, sizeof name, "%s/%d.jpg", classes[c], i);
            write_jpeg(name, 80 * c + i);
        }
    }
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: cli_inputs FOLDER\n");
        return 2;
    }
    folder = argv[1];
    write_models();
    write_data();
    return 0;
}
