/* Units found in small graphs, each built around one way in which operators tie, join, cut or stop them. */
#include "unitsbuild.h"

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

/* Channels that are read twice, and padded twice with other numbers: the outer and the inner stretch are not alike. */
static void check_twice(bool first)
{
    Build b = begin_image();
    conv(&b, "x", "a", DIMS(3, 2, 3, 3));
    ints(&b, "doubled", 6, (int64_t[]){0, 2, 1, 1, 2, 0});
    build_int(build_node(&b, "Gather", "a doubled", "d"), "axis", 1);
    ints(&b, "pads", 8, (int64_t[]){0, 1, 0, 0, 0, 1, 0, 0});
    build_tensor(&b, "one", 1, (int64_t[]){1}, (float[]){1})->n_dims = 0;
    build_node(&b, "Pad", "d pads", "inner");
    build_node(&b, "Pad", "inner pads one", "outer");
    conv(&b, "x", "c", DIMS(10, 2, 3, 3));
    build_node(&b, "Add", first ? "outer c" : "c outer", "sum");
    build_node(&b, "Relu", "sum", "r");
    head(&b, "r", 10);
    check_groups(write_model(&b, "twice"), &image, first ? "a.w 3, c.w 2, c.w 2" : "c.w 2, c.w 2, c.w 3");
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


/* Zeros whose number depends on the input's shape, but on nothing that it holds: channels that read them are alike. */
static void check_zeros(void)
{
    Build b = begin_image();
    conv(&b, "x", "a", DIMS(4, 2, 3, 3));
    build_node(&b, "Shape", "x", "size");
    build_node(&b, "ConstantOfShape", "size", "zeros");
    build_int(build_node(&b, "Concat", "a zeros", "cat"), "axis", 1);
    conv(&b, "cat", "c", DIMS(5, 6, 3, 3));
    head(&b, "c", 5);
    check_derived(write_model(&b, "zeros"), "a.w 4, c.w 5, c.w 2", 0, "");
}

/* A window 1 wide along the features treats each of them alike; one that slides over them does not. */
static void check_pointwise(bool pointwise)
{
    Build b = begin_tokens();
    linear(&b, "x", "a", 6, 8);
    build_node(&b, "Relu", "a", "ra");
    tensor(&b, "mix.w", 3, (int64_t[]){5, 5, pointwise ? 1 : 3});
    BuildNode mix = build_node(&b, "Conv", "ra mix.w", "mix");
    if (!pointwise)
        build_ints(mix, "pads", 2, (int64_t[]){1, 1});
    build_node(&b, "Mul", "mix ra", "gated");
    linear(&b, "gated", "c", 8, 4);
    build_node(&b, "Tanh", "c", "tc");
    linear(&b, "tc", "d", 4, 3);
    build_output(&b, "d", 3);
    check_groups(write_model(&b, "pointwise"), &tokens, pointwise ? "a.w 8, c.w 4" : "c.w 4");
}

/* Images of any size; the file does not tell one. */
static void check_open_size(void)
{
    Build b = build_begin();
    build_input(&b, "x", 4, (int64_t[]){-1, 2, -1, -1});
    conv(&b, "x", "a", DIMS(4, 2, 3, 3));
    build_ints(build_node(&b, "MaxPool", "a", "m"), "kernel_shape", 2, (int64_t[]){3, 3});
    conv(&b, "m", "c", DIMS(5, 4, 3, 3));
    head(&b, "c", 5);
    check_groups(write_model(&b, "open"), &image, "a.w 4, c.w 5");
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

int main(void)
{
    check_residual();
    check_depthwise();
    check_concat();
    check_concat_twice();
    check_flatten();
    check_shared();
    check_gated();
    check_shuffle();
    check_excitation(false);
    check_excitation(true);
    check_repeated();
    check_twice(false);
    check_twice(true);
    check_batch();
    check_twins();
    check_mirrored(true);
    check_mirrored(false);
    check_zeros();
    check_pointwise(true);
    check_pointwise(false);
    check_open_size();
    check_permutations();
    return check_result();
}
