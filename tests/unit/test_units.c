/* Units found in small graphs, each built around one way in which operators tie, join, cut or stop them. */
#include "graph/units.h"
#include "groupstest.h"
#include "onnxbuild.h"
#include "scratch.h"

#include <stdarg.h>

#define DIMS(...) (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]){__VA_ARGS__}

static void tensor(Build *b, const char *name, int rank, const int64_t *dims)
{
    double fan_in = 1;
    for (int i = 1; i < rank; i++)
        fan_in *= (double)dims[i];
    build_random(b, name, rank, dims, rank > 1 ? 1.2 / sqrt(fan_in) : .3);
}

static void ints(Build *b, const char *name, int n, const int64_t *values)
{
    Onnx__TensorProto *t = build_tensor(b, name, 1, (int64_t[]){2 * n}, (const float *)(const void *)values); /* the bytes, then the type */
    t->data_type = ONNX__TENSOR_PROTO__DATA_TYPE__INT64;
    t->dims[0] = n;
}

/* y = Conv(x): weight y.w of these dimensions, bias y.b. */
static BuildNode conv(Build *b, const char *x, const char *y, int rank, const int64_t *dims)
{
    char name[64], in[200];
    snprintf(name, sizeof name, "%s.w", y);
    tensor(b, name, rank, dims);
    snprintf(name, sizeof name, "%s.b", y);
    tensor(b, name, 1, dims);
    snprintf(in, sizeof in, "%s %s.w %s.b", x, y, y);
    BuildNode node = build_node(b, "Conv", in, y);
    return build_ints(node, "pads", 4, (int64_t[]){(dims[2] - 1) / 2, (dims[3] - 1) / 2, (dims[2] - 1) / 2, (dims[3] - 1) / 2});
}

/* y = x times y.w (in, out) plus y.b. */
static void linear(Build *b, const char *x, const char *y, int64_t n_in, int64_t n_out)
{
    char name[64], in[200], product[64];
    snprintf(name, sizeof name, "%s.w", y);
    build_random(b, name, 2, (int64_t[]){n_in, n_out}, 1.2 / sqrt((double)n_in));
    snprintf(name, sizeof name, "%s.b", y);
    tensor(b, name, 1, &n_out);
    snprintf(in, sizeof in, "%s %s.w", x, y);
    snprintf(product, sizeof product, "%s.product", y);
    build_node(b, "MatMul", in, product);
    snprintf(in, sizeof in, "%s.b %s.product", y, y);
    build_node(b, "Add", in, y);
}

static void norm(Build *b, const char *x, const char *y, int64_t n)
{
    static const char *const vectors[] = {"scale", "shift", "mean", "variance"};
    char name[64], in[400];
    float ones[64];
    for (int i = 0; i < 64; i++)
        ones[i] = 1;
    int used = snprintf(in, sizeof in, "%s", x);
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "%s.%s", y, vectors[i]);
        build_tensor(b, name, 1, &n, ones); /* drawn anew by check_groups */
        used += snprintf(in + used, sizeof in - (size_t)used, " %s", name);
    }
    build_node(b, "BatchNormalization", in, y);
}

/* Mean image, and a linear layer from n channels. */
static void head(Build *b, const char *x, int64_t n)
{
    build_node(b, "GlobalAveragePool", x, "gap");
    build_node(b, "Flatten", "gap", "flat");
    linear(b, "flat", "fc", n, 3);
    build_output(b, "fc", 2);
}

static const char *write_model(Build *b, const char *name)
{
    const char *path = scratch("%s.onnx", name);
    build_write(b, path);
    return path;
}

static const PapaShape image = {4, {2, 2, 6, 6}}, tokens = {3, {2, 5, 6}};

static Build begin_image(void)
{
    Build b = build_begin();
    build_input(&b, "x", 4, (int64_t[]){-1, 2, 6, 6});
    return b;
}

static Build begin_tokens(void)
{
    Build b = build_begin();
    build_input(&b, "x", 3, (int64_t[]){-1, 5, 6});
    return b;
}

static void check_residual(void)
{
    Build b = begin_image();
    conv(&b, "x", "a", DIMS(5, 2, 3, 3));
    build_node(&b, "Relu", "a", "ra");
    conv(&b, "ra", "c", DIMS(7, 5, 3, 3));
    conv(&b, "ra", "shortcut", DIMS(7, 5, 1, 1));
    norm(&b, "c", "n", 7);
    build_node(&b, "Add", "n shortcut", "sum");
    build_node(&b, "Relu", "sum", "r");
    conv(&b, "r", "d", DIMS(7, 7, 3, 3));
    build_node(&b, "Sum", "d r sum", "sum2");
    head(&b, "sum2", 7);
    check_groups(write_model(&b, "residual"), &image, "a.w 5, c.w 7");
}

static void check_depthwise(void)
{
    Build b = begin_image();
    conv(&b, "x", "a", DIMS(6, 2, 1, 1));
    build_node(&b, "Relu", "a", "ra");
    build_int(conv(&b, "ra", "dw", DIMS(6, 1, 3, 3)), "group", 6);
    norm(&b, "dw", "n", 6);
    build_node(&b, "HardSwish", "n", "rn");
    conv(&b, "rn", "c", DIMS(4, 6, 1, 1));
    conv(&b, "c", "d", DIMS(8, 4, 1, 1));
    build_int(conv(&b, "d", "dw2", DIMS(8, 1, 3, 3)), "group", 8);
    build_node(&b, "Relu", "dw2", "rd");
    conv(&b, "rd", "e", DIMS(4, 8, 1, 1));
    build_node(&b, "Add", "e c", "sum");
    head(&b, "sum", 4);
    check_groups(write_model(&b, "depthwise"), &image, "a.w 6, c.w 4, d.w 8");
}

/* Each channel has three filters of its own: those are units inside, the channels are blocks. */
static void check_multiplier(void)
{
    Build b = begin_image();
    conv(&b, "x", "a", DIMS(4, 2, 3, 3));
    build_node(&b, "Tanh", "a", "ra");
    build_int(conv(&b, "ra", "dw", DIMS(12, 1, 3, 3)), "group", 4);
    build_node(&b, "Relu", "dw", "r");
    conv(&b, "r", "c", DIMS(5, 12, 1, 1));
    head(&b, "c", 5);
    check_groups(write_model(&b, "multiplier"), &image, "dw.w 3, dw.w 3, dw.w 3, dw.w 3, c.w 5, [a.w 4]");
}

static void check_grouped(void)
{
    Build b = begin_image();
    conv(&b, "x", "a", DIMS(6, 2, 3, 3));
    build_node(&b, "Relu", "a", "ra");
    build_int(conv(&b, "ra", "g", DIMS(12, 2, 3, 3)), "group", 3);
    norm(&b, "g", "n", 12);
    build_node(&b, "Relu", "n", "r");
    conv(&b, "r", "c", DIMS(5, 12, 1, 1));
    head(&b, "c", 5);
    check_groups(write_model(&b, "grouped"), &image, "a.w 2, a.w 2, a.w 2, g.w 4, g.w 4, g.w 4, c.w 5, [a.w 3]");
}

/* One grouped weight, read by two convolutions: of channels that may move and, perhaps, of the image, which may not. */
static void check_grouped_twice(bool of_image)
{
    Build b = begin_image();
    conv(&b, "x", "a", DIMS(6, 2, 3, 3));
    conv(&b, "x", "c", DIMS(6, 2, 3, 3));
    build_node(&b, "Relu", "a", "ra");
    build_int(build_node(&b, "Concat", "x x x", "images"), "axis", 1);
    tensor(&b, "g", DIMS(6, 3, 1, 1));
    build_int(build_node(&b, "Conv", "ra g", "ga"), "group", 2);
    build_int(build_node(&b, "Conv", of_image ? "images g" : "c g", "gc"), "group", 2);
    build_node(&b, "Mul", "ga gc", "m");
    head(&b, "m", 6);
    check_groups(write_model(&b, "grouped_twice"), &image, of_image ? "g 3, g 3" : "a.w 3, a.w 3, g 3, g 3, [a.w 2]");
}

static void check_concat(void)
{
    Build b = begin_image();
    conv(&b, "x", "a", DIMS(4, 2, 3, 3));
    build_node(&b, "Relu", "a", "ra");
    conv(&b, "ra", "c", DIMS(3, 4, 3, 3));
    build_int(build_node(&b, "Concat", "c x a", "cat"), "axis", 1);
    norm(&b, "cat", "n", 9);
    build_node(&b, "Relu", "n", "rn");
    conv(&b, "rn", "d", DIMS(5, 9, 1, 1));
    build_int(build_node(&b, "Concat", "d cat", "cat2"), "axis", 1);
    head(&b, "cat2", 14);
    check_groups(write_model(&b, "concat"), &image, "a.w 4, c.w 3, d.w 5");
}

/* One unit's two halves of a doubled channel axis. */
static void check_concat_twice(void)
{
    Build b = begin_image();
    conv(&b, "x", "a", DIMS(4, 2, 3, 3));
    build_node(&b, "Neg", "a", "neg");
    build_int(build_node(&b, "Concat", "a neg", "crelu"), "axis", 1);
    build_node(&b, "Relu", "crelu", "r");
    conv(&b, "r", "c", DIMS(8, 8, 3, 3));
    build_node(&b, "Add", "c crelu", "sum");
    head(&b, "sum", 8);
    check_groups(write_model(&b, "concat_twice"), &image, "a.w 4");
}

static void check_flatten(void)
{
    Build b = begin_image();
    conv(&b, "x", "a", DIMS(4, 2, 3, 3));
    build_node(&b, "Relu", "a", "ra");
    build_node(&b, "Flatten", "ra", "f");
    linear(&b, "f", "h", 144, 7);
    build_node(&b, "Relu", "h", "rh");
    linear(&b, "rh", "back", 7, 4 * 6 * 6); /* and back to images: parts again */
    ints(&b, "shape", 4, (int64_t[]){0, 4, 6, 6});
    build_node(&b, "Reshape", "back shape", "y");
    build_node(&b, "Relu", "y", "ry");
    conv(&b, "ry", "c", DIMS(3, 4, 3, 3));
    head(&b, "c", 3);
    check_groups(write_model(&b, "flatten"), &image, "a.w 4, h.w 7, back.w 4, c.w 3");
}

static void check_shared(void)
{
    Build b = build_begin();
    build_input(&b, "x", 2, (int64_t[]){-1, 6});
    linear(&b, "x", "a", 6, 8);
    build_node(&b, "Tanh", "a", "h0");
    build_random(&b, "w", 2, (int64_t[]){8, 8}, .4);
    for (int i = 0; i < 3; i++) {
        char in[16], product[16], out[16];
        snprintf(in, sizeof in, "h%d w", i), snprintf(product, sizeof product, "p%d", i), snprintf(out, sizeof out, "h%d", i + 1);
        build_node(&b, "MatMul", in, product);
        build_node(&b, "Tanh", product, out);
    }
    linear(&b, "h3", "fc", 8, 3);
    build_output(&b, "fc", 2);
    check_groups(write_model(&b, "shared"), &(PapaShape){2, {2, 6}}, "a.w 8");
}

/* The halves of a layer's units are multiplied: each unit has a value and a gate, on one axis of one tensor. */
static void check_gated(void)
{
    Build b = begin_tokens();
    linear(&b, "x", "a", 6, 16);
    build_int(build_node(&b, "Split", "a", "value gate"), "axis", 2);
    build_node(&b, "Sigmoid", "gate", "s");
    build_node(&b, "Mul", "value s", "m");
    linear(&b, "m", "c", 8, 4);
    linear(&b, "c", "fc", 4, 3);
    build_output(&b, "fc", 3);
    check_groups(write_model(&b, "gated"), &tokens, "a.w 8, c.w 4");
}

/* ShuffleNet's unit: half of the channels pass, and all are shuffled. */
static void check_shuffle(void)
{
    Build b = begin_image();
    conv(&b, "x", "a", DIMS(8, 2, 3, 3));
    build_node(&b, "Relu", "a", "ra");
    build_int(build_node(&b, "Split", "ra", "left right"), "axis", 1);
    conv(&b, "right", "c", DIMS(4, 4, 3, 3));
    build_int(build_node(&b, "Concat", "left c", "cat"), "axis", 1);
    ints(&b, "split", 5, (int64_t[]){0, 2, 4, 6, 6});
    ints(&b, "join", 4, (int64_t[]){0, 8, 6, 6});
    build_node(&b, "Reshape", "cat split", "s");
    build_ints(build_node(&b, "Transpose", "s", "t"), "perm", 5, (int64_t[]){0, 2, 1, 3, 4});
    build_node(&b, "Reshape", "t join", "shuffled");
    conv(&b, "shuffled", "d", DIMS(5, 8, 3, 3));
    head(&b, "d", 5);
    check_groups(write_model(&b, "shuffle"), &image, "a.w 4, a.w 4, c.w 4, d.w 5");
}

/* Squeeze and excitation, with constants that are the same for all channels, and one that isn't. */
static void check_excitation(bool uneven)
{
    Build b = begin_image();
    conv(&b, "x", "a", DIMS(6, 2, 3, 3));
    build_node(&b, "Relu", "a", "ra");
    build_node(&b, "GlobalAveragePool", "ra", "mean");
    conv(&b, "mean", "s1", DIMS(3, 6, 1, 1));
    build_node(&b, "Relu", "s1", "rs");
    conv(&b, "rs", "s2", DIMS(6, 3, 1, 1));
    build_node(&b, "HardSigmoid", "s2", "gate");
    build_node(&b, "Mul", "gate ra", "excited");
    build_tensor(&b, "even", 3, (int64_t[]){6, 1, 1}, (float[]){2, 2, 2, 2, 2, uneven ? 3 : 2});
    build_node(&b, "Div", "excited even", "divided"); /* a divisor is no parameter */
    head(&b, "divided", 6);
    check_groups(write_model(&b, "excitation"), &image, uneven ? "s1.w 3" : "a.w 6, s1.w 3");
}

/* heads heads of d: q, k and v from one matrix (packed) or three. */
static void check_attention(bool packed)
{
    Build b = begin_tokens();
    linear(&b, "x", "e", 6, 12);
    ints(&b, "split", 4, (int64_t[]){0, 5, 3, 4});
    ints(&b, "join", 3, (int64_t[]){0, 5, 12});
    if (packed) {
        linear(&b, "e", "qkv", 12, 36);
        ints(&b, "split3", 5, (int64_t[]){0, 5, 3, 3, 4});
        build_node(&b, "Reshape", "qkv split3", "s");
        build_ints(build_node(&b, "Transpose", "s", "t"), "perm", 5, (int64_t[]){2, 0, 3, 1, 4});
        for (int i = 0; i < 3; i++) {
            Onnx__TensorProto *index = build_tensor(&b, (const char *[]){"zero", "one", "two"}[i], 1, (int64_t[]){2}, (float[]){0, 0});
            index->data_type = ONNX__TENSOR_PROTO__DATA_TYPE__INT64, index->n_dims = 0, index->raw_data.data[0] = (uint8_t)i;
            build_int(build_node(&b, "Gather", (const char *[]){"t zero", "t one", "t two"}[i], (const char *[]){"qh", "kt0", "vh"}[i]), "axis", 0);
        }
        build_ints(build_node(&b, "Transpose", "kt0", "kh"), "perm", 4, (int64_t[]){0, 1, 3, 2});
    } else {
        for (int i = 0; i < 3; i++) {
            const char *name = (const char *[]){"q", "k", "v"}[i];
            char in[32], split[32], out[32];
            if (i == 1) { /* softmax does not see a bias of k */
                build_random(&b, "k.w", 2, (int64_t[]){12, 12}, .35);
                build_node(&b, "MatMul", "e k.w", name);
            } else {
                linear(&b, "e", name, 12, 12);
            }
            snprintf(in, sizeof in, "%s split", name), snprintf(split, sizeof split, "%ss", name), snprintf(out, sizeof out, "%sh", name);
            build_node(&b, "Reshape", in, split);
            build_ints(build_node(&b, "Transpose", split, out), "perm", 4, (int64_t[]){0, 2, i == 1 ? 3 : 1, i == 1 ? 1 : 3});
        }
    }
    build_node(&b, "MatMul", "qh kh", "scores");
    build_tensor(&b, "scale", 1, (int64_t[]){1}, (float[]){.5f});
    build_node(&b, "Mul", "scores scale", "scaled");
    build_int(build_node(&b, "Softmax", "scaled", "attention"), "axis", -1);
    build_node(&b, "MatMul", "attention vh", "mixed");
    build_ints(build_node(&b, "Transpose", "mixed", "mt"), "perm", 4, (int64_t[]){0, 2, 1, 3});
    build_node(&b, "Reshape", "mt join", "joined");
    linear(&b, "joined", "o", 12, 12);
    build_node(&b, "Add", "o e", "sum");
    build_ints(build_node(&b, "ReduceMean", "sum", "mean"), "axes", 1, (int64_t[]){1});
    linear(&b, "mean", "fc", 12, 3);
    build_output(&b, "fc", 3);
    check_groups(write_model(&b, packed ? "packed" : "attention"), &tokens,
        packed ? "e.w 12, qkv.w 4, qkv.w 4, qkv.w 4, qkv.w 4, qkv.w 4, qkv.w 4, [qkv.w 3]" : "e.w 12, q.w 4, q.w 4, q.w 4, v.w 4, v.w 4, v.w 4, [q.w 3]");
}

static const char *pinned_text(const PapaGroups *groups)
{
    static char text[4096];
    size_t used = 0;
    *text = 0;
    for (int i = 0; i < groups->n_pinned && used < sizeof text; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s axis %d: %lld, %s\n", groups->tensors[groups->pinned[i].tensor].name,
            groups->pinned[i].axis, (long long)groups->pinned[i].n, groups->pinned[i].why);
    return text;
}

static void check_derived(const char *path, const char *expected, int n_opaque, const char *pinned)
{
    PapaModel *model = NULL;
    PapaGroups *groups;
    CHECK_OK(papa_model_open(&model, path));
    CHECK_OK(papa_groups_derive(&groups, model->onnx, NULL));
    CHECK(strcmp(groups_text(groups), expected) == 0 && groups->n_opaque == n_opaque, "%s: \"%s\" with %d unknown nodes, expected \"%s\" with %d", path,
        groups_text(groups), groups->n_opaque, expected, n_opaque);
    CHECK(strstr(pinned_text(groups), pinned), "%s: pinned are\n%sexpected \"%s\"", path, pinned_text(groups), pinned);
    papa_groups_free(groups);
    papa_model_close(model);
}

/* Two stretches of repeated content behind each other: columns that read the same may change places, but not from one stretch to the other. */
static void check_repeated(void)
{
    Build b = begin_image();
    conv(&b, "x", "a", DIMS(4, 2, 3, 3));
    build_ints(build_node(&b, "ReduceMean", "a", "mean"), "axes", 1, (int64_t[]){1});
    ints(&b, "shape", 4, (int64_t[]){1, 3, 1, 1});
    build_node(&b, "Expand", "mean shape", "left");
    build_node(&b, "Tanh", "left", "right");
    build_int(build_node(&b, "Concat", "left right", "cat"), "axis", 1);
    conv(&b, "cat", "c", DIMS(5, 6, 3, 3));
    head(&b, "c", 5);
    GroupsTest t;
    CHECK_OK(groups_begin(&t, write_model(&b, "repeated"), &image, 1));
    CHECK(strcmp(groups_text(t.groups), "a.w 4, c.w 5, c.w 3, c.w 3") == 0, "%s", groups_text(t.groups));
    groups_try(&t, "repeated");
    groups_end(&t);
}

/* Padded channels in two layers, each normalised by itself: what was one number in both is so no longer. */
static void check_layers(void)
{
    Build b = begin_image();
    conv(&b, "x", "a", DIMS(6, 2, 3, 3));
    ints(&b, "pads", 8, (int64_t[]){0, 1, 0, 0, 0, 1, 0, 0});
    build_node(&b, "Pad", "a pads", "padded");
    ints(&b, "split", 5, (int64_t[]){0, 2, 4, 6, 6});
    build_node(&b, "Reshape", "padded split", "layers");
    build_int(build_node(&b, "Softmax", "layers", "s"), "axis", 2);
    build_node(&b, "Mul", "s layers", "m");
    ints(&b, "join", 4, (int64_t[]){0, 8, 6, 6});
    build_node(&b, "Reshape", "m join", "joined");
    conv(&b, "joined", "c", DIMS(5, 8, 3, 3));
    conv(&b, "s0", "d", DIMS(5, 8, 1, 1));
    build_node(&b, "Reshape", "s join", "s0");
    build_node(&b, "Add", "c d", "sum");
    head(&b, "sum", 5);
    check_groups(write_model(&b, "layers"), &image, "a.w 3, a.w 3, c.w 5");
}

/* Channels that become the batch, and are summed over. */
static void check_batch(void)
{
    Build b = build_begin();
    build_input(&b, "x", 4, (int64_t[]){2, 2, 6, 6});
    conv(&b, "x", "a", DIMS(4, 2, 3, 3));
    build_ints(build_node(&b, "Transpose", "a", "t"), "perm", 4, (int64_t[]){1, 0, 2, 3});
    conv(&b, "t", "c", DIMS(3, 2, 3, 3));
    build_node(&b, "Relu", "c", "r");
    build_node(&b, "MaxPool", "r", "m");
    build_ints((BuildNode){&b, b.nodes[b.graph.n_node - 1]}, "kernel_shape", 2, (int64_t[]){3, 3});
    conv(&b, "m", "d", DIMS(5, 3, 1, 1));
    build_output(&b, "d", 4); /* all four images */
    check_groups(write_model(&b, "batch"), &image, "c.w 3");
}

/* Channels 0 and 3, 1 and 2 move together as mirror images. Where another sum treats the pairs differently they are not alike. */
static void check_mirrored(bool alike)
{
    Build b = begin_image();
    conv(&b, "x", "a", DIMS(4, 2, 3, 3));
    ints(&b, "mirror", 4, (int64_t[]){3, 2, 1, 0});
    ints(&b, "half", 4, alike ? (int64_t[]){3, 2, 1, 0} : (int64_t[]){3, 1, 2, 0});
    build_int(build_node(&b, "Gather", "a mirror", "m"), "axis", 1);
    build_node(&b, "Add", "a m", "sum");
    build_int(build_node(&b, "Gather", "a half", "h"), "axis", 1);
    build_node(&b, "Sigmoid", "h", "gate");
    build_node(&b, "Mul", "a gate", "gated");
    build_int(build_node(&b, "Concat", "sum gated", "cat"), "axis", 1);
    conv(&b, "cat", "c", DIMS(5, 8, 1, 1));
    head(&b, "c", 5);
    check_groups(write_model(&b, "mirrored"), &image, alike ? "a.w 2, c.w 5" : "c.w 5");
}

/* Both halves of a layer are added to the same parts of other units: nothing tells them apart. */
static void check_twins(void)
{
    Build b = begin_image();
    conv(&b, "x", "a", DIMS(4, 2, 3, 3));
    build_node(&b, "Flatten", "a", "f");
    build_node(&b, "Flatten", "x", "flat_x");
    linear(&b, "flat_x", "b", 72, 288);
    build_int(build_node(&b, "Split", "b", "b0 b1"), "axis", 1);
    build_node(&b, "Add", "f b0", "s0");
    build_node(&b, "Mul", "s0 b1", "s1");
    linear(&b, "s1", "c", 144, 4);
    linear(&b, "c", "fc", 4, 3);
    build_output(&b, "fc", 2);
    check_derived(write_model(&b, "twins"), "c.w 4", 0, "a.w axis 0: 4, a part of it stands twice along an axis");
}


/* ---------------------------------------------------------------- what is not understood */

/* A node of another domain, with the shape of its output told or not. */
static void check_unknown(bool told)
{
    Build b = begin_image();
    conv(&b, "x", "a", DIMS(4, 2, 3, 3));
    conv(&b, "a", "c", DIMS(5, 4, 3, 3));
    build_node(&b, "Mystery", "c", "m").node->domain = build_text(&b, "somewhere.else");
    conv(&b, "m", "d", DIMS(6, 5, 3, 3));
    conv(&b, "d", "e", DIMS(7, 6, 3, 3));
    head(&b, "e", 7);
    Onnx__ValueInfoProto *info = build_value(&b, "m", 4, (int64_t[]){1, 5, 6, 6});
    if (told)
        b.graph.value_info = &info, b.graph.n_value_info = 1;
    /* Without a shape nothing behind it is known; the weights there are not even met. */
    check_derived(write_model(&b, "unknown"), told ? "a.w 4, d.w 6, e.w 7" : "a.w 4", told ? 1 : 7,
        "c.w axis 0: 5, Mystery node 'Mystery_2': it does not say what becomes of units\n");
}

/* The branches of an If read what the graph around them makes. */
static void check_captured(void)
{
    Build b = begin_image(), inner = build_begin();
    conv(&b, "x", "a", DIMS(4, 2, 3, 3));
    conv(&b, "a", "c", DIMS(5, 4, 3, 3));
    build_node(&inner, "Relu", "a", "inside");
    build_output(&inner, "inside", 4);
    inner.graph.name = (char *)"branch", inner.graph.node = inner.nodes, inner.graph.output = inner.outputs;
    Onnx__TensorProto *yes = build_tensor(&b, "yes", 1, (int64_t[]){1}, (float[]){1});
    yes->data_type = ONNX__TENSOR_PROTO__DATA_TYPE__BOOL, yes->n_dims = 0, yes->raw_data.len = 1;
    BuildNode node = build_node(&b, "If", "yes", "i");
    build_attribute(node, "then_branch", ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPH)->g = &inner.graph;
    build_attribute(node, "else_branch", ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPH)->g = &inner.graph;
    build_output(&b, "i", 4);
    head(&b, "c", 5);
    const char *path = write_model(&b, "captured");
    papa_arena_free(&inner.arena);
    check_derived(path, "c.w 5", 1, "a.w axis 0: 4, If node 'If_2': it does not say");
}

/* ---------------------------------------------------------------- permutations */

static void check_permutations(void)
{
    int64_t perm[5] = {3, 0, 4, 1, 2}, back[5], both[5];
    papa_permutation_invert(back, perm, 5);
    papa_permutation_compose(both, perm, back, 5);
    for (int64_t i = 0; i < 5; i++)
        CHECK(perm[back[i]] == i && both[i] == i, "%lld: %lld, %lld", (long long)i, (long long)back[i], (long long)both[i]);

    /* Two bytes each; there and back. */
    Build b = begin_image();
    conv(&b, "x", "a", DIMS(5, 2, 3, 3));
    head(&b, "a", 5);
    PapaModel *model;
    PapaGroups *groups;
    CHECK_OK(papa_model_open(&model, write_model(&b, "permuted")));
    CHECK_OK(papa_groups_derive(&groups, model->onnx, NULL));
    uint16_t data[90], old[90], scratch_space[90];
    for (uint16_t i = 0; i < 90; i++)
        data[i] = old[i] = i;
    papa_groups_permute(groups, 0, (const int64_t *const[]){perm}, data, sizeof *data, scratch_space);
    for (int64_t i = 0; i < 90; i++)
        CHECK(data[i] == perm[i / 18] * 18 + i % 18, "element %lld is %d", (long long)i, data[i]);
    papa_groups_permute(groups, 0, (const int64_t *const[]){back}, data, sizeof *data, scratch_space);
    CHECK(memcmp(data, old, sizeof data) == 0, "a permutation and its inverse");
    CHECK_FAILS(papa_groups_permute_store(groups, (const int64_t *const[]){perm}, model, NULL), PAPA_ERR_MISMATCH, "'a.w'"); /* no table yet */
    PapaGroups *none;
    CHECK_FAILS(papa_groups_derive(&none, model->onnx, &(PapaGroupsOptions){&image, 2}), PAPA_ERR_ARGUMENT, "2 input shapes for 1 inputs");
    papa_groups_free(groups);
    papa_model_close(model);
}

/* ---------------------------------------------------------------- random networks built from these pieces */

typedef struct Random {
    Build b;
    PapaRng rng;
    char now[32];     /* the newest value */
    int64_t channels; /* its */
    int n;
} Random;

static bool chance(Random *r, double p)
{
    return papa_rng_double(&r->rng) < p;
}

static const char *fresh(Random *r)
{
    snprintf(r->now, sizeof r->now, "v%d", r->n++);
    return r->now;
}

static void apply(Random *r, const char *type)
{
    char in[32];
    strcpy(in, r->now);
    build_node(&r->b, type, in, fresh(r));
}

static void convolve(Random *r, int64_t channels, int64_t window, int64_t group)
{
    char in[32];
    strcpy(in, r->now);
    build_int(conv(&r->b, in, fresh(r), DIMS(channels, r->channels / group, window, window)), "group", group);
    r->channels = channels;
    if (chance(r, .4)) {
        strcpy(in, r->now);
        norm(&r->b, in, fresh(r), channels);
    }
    if (chance(r, .6))
        apply(r, chance(r, .5) ? "Relu" : "HardSwish");
}

static void join(Random *r, const char *type, const char *other)
{
    char in[80];
    snprintf(in, sizeof in, chance(r, .5) ? "%s %s" : "%2$s %1$s", r->now, other);
    BuildNode node = build_node(&r->b, type, in, fresh(r));
    if (strcmp(type, "Concat") == 0)
        build_int(node, "axis", 1);
}

static void add_piece(Random *r)
{
    char before[32], in[64], out[128];
    const int64_t n = r->channels;
    strcpy(before, r->now);
    switch (papa_rng_below(&r->rng, 9)) {
    case 0:
        convolve(r, 2 + papa_rng_below(&r->rng, 7), chance(r, .5) ? 1 : 3, 1);
        break;
    case 1: /* residual, of one or two layers */
        if (chance(r, .5))
            convolve(r, 2 + papa_rng_below(&r->rng, 5), 1, 1);
        convolve(r, n, 3, 1);
        join(r, chance(r, .8) ? "Add" : "Sum", before);
        break;
    case 2: /* residual with a projection */
        convolve(r, 4 + papa_rng_below(&r->rng, 4), 3, 1);
        conv(&r->b, before, fresh(r), DIMS(r->channels, n, 1, 1));
        snprintf(before, sizeof before, "v%d", r->n - 2);
        join(r, "Add", before);
        break;
    case 3: /* dense */
        convolve(r, 2 + papa_rng_below(&r->rng, 3), 3, 1);
        join(r, "Concat", before);
        r->channels += n;
        break;
    case 4:
        convolve(r, n, 3, n);
        break;
    case 5:
        convolve(r, 2 * n, 3, n % 2 || chance(r, .4) ? n : 2);
        break;
    case 6: /* squeeze and excitation */
        apply(r, "GlobalAveragePool");
        convolve(r, n, 1, 1);
        apply(r, "Sigmoid");
        join(r, "Mul", before);
        break;
    case 7: /* a gate */
        if (n % 2)
            break;
        snprintf(out, sizeof out, "v%d v%d", r->n, r->n + 1);
        build_int(build_node(&r->b, "Split", before, out), "axis", 1);
        snprintf(before, sizeof before, "v%d", r->n);
        r->n += 2;
        snprintf(r->now, sizeof r->now, "v%d", r->n - 1);
        apply(r, "Sigmoid");
        join(r, "Mul", before);
        r->channels = n / 2;
        break;
    case 8: /* a shortcut with padded channels */
        snprintf(in, sizeof in, "pads%d", r->n);
        ints(&r->b, in, 8, (int64_t[]){0, 1, 0, 0, 0, 2, 0, 0});
        snprintf(out, sizeof out, "%s %s", before, in);
        convolve(r, n + 3, 3, 1);
        strcpy(before, r->now);
        build_node(&r->b, "Pad", out, fresh(r));
        join(r, "Add", before);
    }
}

/* Returns the number of groups. */
static int check_random(uint32_t seed)
{
    Random r = {.b = begin_image(), .rng = papa_rng(1, PAPA_RNG_TEST, 3, seed, 0), .now = "x", .channels = 2};
    convolve(&r, 4 + papa_rng_below(&r.rng, 4), 3, 1);
    for (uint32_t i = 1 + papa_rng_below(&r.rng, 5); i; i--)
        add_piece(&r);
    if (chance(&r, .5)) {
        head(&r.b, r.now, r.channels);
    } else {
        build_node(&r.b, "Flatten", r.now, "flat");
        linear(&r.b, "flat", "fc", r.channels * 36, 3);
        build_output(&r.b, "fc", 2);
    }
    GroupsTest t;
    char what[32];
    snprintf(what, sizeof what, "random network %u", seed);
    PapaStatus status = groups_begin(&t, write_model(&r.b, "random"), &image, 1);
    CHECK(status == PAPA_OK, "%s: %s", what, papa_error());
    if (status == PAPA_OK)
        groups_try(&t, what);
    int n_groups = status == PAPA_OK ? t.groups->n_groups : 0;
    groups_end(&t);
    return n_groups;
}

int main(void)
{
    check_residual();
    check_depthwise();
    check_multiplier();
    check_grouped();
    check_grouped_twice(false);
    check_grouped_twice(true);
    check_concat();
    check_concat_twice();
    check_flatten();
    check_shared();
    check_gated();
    check_shuffle();
    check_excitation(false);
    check_excitation(true);
    check_attention(false);
    check_attention(true);
    check_repeated();
    check_layers();
    check_batch();
    check_twins();
    check_mirrored(true);
    check_mirrored(false);
    check_unknown(true);
    check_unknown(false);
    check_captured();
    check_permutations();
    int n_groups = 0;
    for (uint32_t seed = 0; seed < 200; seed++)
        n_groups += check_random(seed);
    CHECK(n_groups > 600, "200 random networks have %d groups", n_groups);
    return check_result();
}
