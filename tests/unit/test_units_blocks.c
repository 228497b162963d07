/* Units inside blocks, and the blocks: groups of convolutions, attention heads, and axes that are split. */
#include "unitsbuild.h"

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

/* 12 units as 3 blocks of 4, "e" of shape (N, 5, 3, 4); back behind what is done with them, and to 3 outputs. */
static Build begin_split(void)
{
    Build b = begin_tokens();
    linear(&b, "x", "a", 6, 12);
    ints(&b, "split", 4, (int64_t[]){0, 5, 3, 4});
    ints(&b, "join", 3, (int64_t[]){0, 5, 12});
    build_node(&b, "Reshape", "a split", "e");
    return b;
}

static void check_split(Build *b, const char *name, const char *expected)
{
    build_node(b, "Reshape", "y join", "joined");
    linear(b, "joined", "fc", 12, 3);
    build_output(b, "fc", 3);
    check_groups(write_model(b, name), &tokens, expected);
}

/* Splitting and joining alone binds nothing. */
static void check_nothing_between(void)
{
    Build b = begin_split();
    build_ints(build_node(&b, "Transpose", "e", "t"), "perm", 4, (int64_t[]){0, 1, 3, 2});
    build_node(&b, "Relu", "t", "y");
    check_split(&b, "nothing", "a.w 12");
}

static void check_normalized_blocks(void)
{
    Build b = begin_split();
    tensor(&b, "scale", DIMS(4));
    tensor(&b, "shift", DIMS(4));
    build_node(&b, "LayerNormalization", "e scale shift", "y");
    check_split(&b, "normalized", "[a.w 3]");
}

static void check_mean_of_blocks(void)
{
    Build b = begin_split();
    build_node(&b, "Tanh", "e", "t");
    build_int(build_ints(build_node(&b, "ReduceMean", "t", "mean"), "axes", 1, (int64_t[]){3}), "keepdims", 0);
    linear(&b, "mean", "c", 3, 12);
    build_node(&b, "Reshape", "c split", "y");
    check_split(&b, "mean", "a.w 4, a.w 4, a.w 4, c.w 12, [a.w 3]");
}

/* A factor for each block, for each place in a block, or for each unit. */
static void check_factors(int kind)
{
    static const int64_t dims[][2] = {{3, 1}, {1, 4}, {3, 4}};
    static const char *const expected[] = {"a.w 4, a.w 4, a.w 4, [a.w 3]", "a.w 3, a.w 3, a.w 3, a.w 3, [a.w 4]", "[a.w 3]"};
    Build b = begin_split();
    tensor(&b, "factor", 2, dims[kind]);
    build_node(&b, "Mul", kind == 1 ? "factor e" : "e factor", "m");
    build_node(&b, "Tanh", "m", "y");
    check_split(&b, "factors", expected[kind]);
}

/* Part of a bundle becomes one axis with a fixed one. */
static void check_part_of_bundle(void)
{
    Build b = begin_image();
    conv(&b, "x", "a", DIMS(12, 2, 3, 3));
    build_node(&b, "Relu", "a", "r");
    ints(&b, "split", 5, (int64_t[]){0, 3, 4, 6, 6});
    ints(&b, "other", 4, (int64_t[]){0, 3, 24, 6});
    build_node(&b, "Reshape", "r split", "s");
    build_node(&b, "Reshape", "s other", "o");
    build_node(&b, "Flatten", "o", "f");
    linear(&b, "f", "fc", 432, 3);
    build_output(&b, "fc", 2);
    check_groups(write_model(&b, "part"), &image, "a.w 4");
}

/* Two axes that both move become one. */
static void check_two_joined(void)
{
    Build b = begin_image();
    build_node(&b, "Flatten", "x", "f");
    linear(&b, "f", "a", 72, 4);
    linear(&b, "f", "c", 72, 3);
    ints(&b, "column", 3, (int64_t[]){0, 4, 1});
    ints(&b, "row", 3, (int64_t[]){0, 1, 3});
    build_node(&b, "Reshape", "a column", "ac");
    build_node(&b, "Reshape", "c row", "cr");
    build_node(&b, "Mul", "ac cr", "outer");
    build_node(&b, "Flatten", "outer", "o");
    linear(&b, "o", "fc", 12, 3);
    build_output(&b, "fc", 2);
    check_groups(write_model(&b, "joined"), &image, "a.w 4");
}

/* Channels along which a window slides. */
static void check_window(const char *type)
{
    Build b = begin_image();
    conv(&b, "x", "a", DIMS(6, 2, 3, 3));
    build_ints(build_node(&b, "Transpose", "a", "t"), "perm", 4, (int64_t[]){0, 2, 1, 3});
    if (strcmp(type, "Conv") == 0)
        conv(&b, "t", "y", DIMS(6, 6, 3, 3));
    else
        build_ints(build_ints(build_node(&b, type, "t", "y"), "kernel_shape", 2, (int64_t[]){3, 3}), "pads", 4, (int64_t[]){1, 1, 1, 1});
    build_node(&b, "Flatten", "y", "f");
    linear(&b, "f", "fc", 216, 3);
    build_output(&b, "fc", 2);
    GroupsTest t;
    CHECK_OK(groups_begin(&t, write_model(&b, "window"), &image, 1));
    groups_try(&t, type);
    for (int g = 0; g < t.groups->n_groups; g++)
        CHECK(strcmp(t.groups->groups[g].name, "a.w") != 0, "%s slides along what moves", type);
    groups_end(&t);
}

/* A grouped weight that a plain convolution reads too. */
static void check_grouped_and_plain(void)
{
    Build b = begin_image();
    conv(&b, "x", "a", DIMS(6, 2, 3, 3));
    conv(&b, "x", "c", DIMS(3, 2, 3, 3));
    tensor(&b, "g", DIMS(6, 3, 1, 1));
    build_int(build_node(&b, "Conv", "a g", "ga"), "group", 2);
    build_node(&b, "Conv", "c g", "gc");
    build_node(&b, "Mul", "ga gc", "m");
    head(&b, "m", 6);
    check_groups(write_model(&b, "grouped_and_plain"), &image, "g 3, g 3, [a.w 2]");
}

/* As exporters write GroupNormalization: channels keep to their group, and groups are blocks. A PRelu has a slope for each. */
static void check_group_norm(void)
{
    Build b = begin_image();
    conv(&b, "x", "a", DIMS(6, 2, 3, 3));
    ints(&b, "split", 3, (int64_t[]){0, 2, -1});
    ints(&b, "join", 4, (int64_t[]){0, 6, 6, 6});
    build_node(&b, "Reshape", "a split", "s");
    build_tensor(&b, "one", 1, (int64_t[]){2}, (float[]){1, 1});
    build_tensor(&b, "zero", 1, (int64_t[]){2}, (float[]){0, 0});
    build_node(&b, "InstanceNormalization", "s one zero", "normal");
    build_node(&b, "Reshape", "normal join", "n");
    tensor(&b, "scale", 3, (int64_t[]){6, 1, 1});
    tensor(&b, "shift", 3, (int64_t[]){6, 1, 1});
    tensor(&b, "slope", 3, (int64_t[]){6, 1, 1});
    build_node(&b, "Mul", "n scale", "scaled");
    build_node(&b, "Add", "scaled shift", "shifted");
    build_node(&b, "PRelu", "shifted slope", "r");
    conv(&b, "r", "c", DIMS(4, 6, 1, 1));
    tensor(&b, "c.scale", 1, (int64_t[]){4});
    tensor(&b, "c.shift", 1, (int64_t[]){4});
    build_node(&b, "Tanh", "c", "tc"); /* or nobody would notice the bias */
    build_node(&b, "InstanceNormalization", "tc c.scale c.shift", "cn");
    build_node(&b, "Abs", "cn", "ca");
    head(&b, "ca", 4);
    check_groups(write_model(&b, "group_norm"), &image, "a.w 3, a.w 3, c.w 4, [a.w 2]");
}

int main(void)
{
    check_group_norm();
    check_multiplier();
    check_grouped();
    check_grouped_twice(false);
    check_grouped_twice(true);
    check_grouped_and_plain();
    check_layers();
    check_attention(false);
    check_attention(true);
    check_nothing_between();
    check_normalized_blocks();
    check_mean_of_blocks();
    for (int kind = 0; kind < 3; kind++)
        check_factors(kind);
    check_part_of_bundle();
    check_two_joined();
    check_window("Conv");
    check_window("MaxPool");
    return check_result();
}
