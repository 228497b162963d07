/* Groups of the models of testdata/, and that permuting them changes nothing. */
#include "groupstest.h"

static void check_file(const char *name, const PapaShape *shape, const char *expected)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/testdata/%s.onnx", PAPA_SOURCE_DIR, name);
    check_groups(path, shape, expected);
}

#define RESNET20                                                                                                                     \
    "conv1.weight 16, stage1.0.conv1.weight 16, stage1.1.conv1.weight 16, stage1.2.conv1.weight 16, stage2.0.conv1.weight 32, "      \
    "stage2.0.conv2.weight 16, stage2.1.conv1.weight 32, stage2.2.conv1.weight 32, stage3.0.conv1.weight 64, stage3.0.conv2.weight 32, " \
    "stage3.1.conv1.weight 64, stage3.2.conv1.weight 64"

#define ATTENTION(layer) layer ".attention.qkv.weight 16"
#define VIT_LAYER(layer) ATTENTION(layer) ", " ATTENTION(layer) ", " ATTENTION(layer) ", " ATTENTION(layer) ", " layer ".fc1.weight 128, "

int main(void)
{
    const PapaShape gray = {4, {2, 1, 28, 28}}, colour = {4, {2, 3, 32, 32}};
    check_file("lenet", &gray, "conv1.weight 6, conv2.weight 16, fc1.weight 120, fc2.weight 84");
    check_file("mlp", &gray, "fc1.weight 256, fc2.weight 256");
    check_file("vgg", &gray, "features.0.weight 16, features.2.weight 16, features.5.weight 32, features.7.weight 32, features.10.weight 64, "
        "features.12.weight 64, fc1.weight 128");
    /* The residual sums of a stage are one group with those of the next one's middle channels; the outer channels, padded in the shortcut, another. */
    check_file("resnet8", &gray, "conv1.weight 16, stage1.0.conv1.weight 16, stage2.0.conv1.weight 32, stage2.0.conv2.weight 16, "
        "stage3.0.conv1.weight 64, stage3.0.conv2.weight 32");
    check_file("resnet20", &gray, RESNET20);
    check_file("resnet20-cifar", &colour, RESNET20);
    check_file("resnet8-projection", &gray, "conv1.weight 16, stage1.0.conv1.weight 16, stage2.0.conv1.weight 32, stage2.0.conv2.weight 32, "
        "stage3.0.conv1.weight 64, stage3.0.conv2.weight 64");
    check_file("mobilenet-tiny", &gray, "stem.0.weight 16, blocks.0.layers.0.weight 64, blocks.1.layers.0.weight 64, blocks.2.layers.0.weight 64, "
        "blocks.2.layers.6.weight 24, blocks.3.layers.0.weight 96, blocks.4.layers.0.weight 96, blocks.4.layers.6.weight 32, blocks.5.layers.0.weight 128");
    check_file("densenet-tiny", &gray, "features.0.weight 16, features.1.conv.weight 8, features.2.conv.weight 8, features.3.conv.weight 8, "
        "features.6.weight 20, features.8.conv.weight 8, features.9.conv.weight 8, features.10.conv.weight 8, features.13.weight 22, "
        "features.15.conv.weight 8, features.16.conv.weight 8, features.17.conv.weight 8");
    /* Two heads: in each, queries with keys, and values; the heads themselves. */
    check_file("vit-tiny", &gray, "patches.weight 32, " VIT_LAYER("layers.0") VIT_LAYER("layers.1")
        "[layers.0.attention.qkv.weight 2], [layers.1.attention.qkv.weight 2]");
    return check_result();
}
