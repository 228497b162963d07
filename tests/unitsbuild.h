/* Layers of small networks, for tests of units: each adds nodes to a model that is being built (onnxbuild.h), and tensors named after its output. */
#ifndef UNITSBUILD_H
#define UNITSBUILD_H

#include "groupstest.h"
#include "onnxbuild.h"
#include "scratch.h"

#define DIMS(...) (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]){__VA_ARGS__}

static inline void tensor(Build *b, const char *name, int rank, const int64_t *dims)
{
    double fan_in = 1;
    for (int i = 1; i < rank; i++)
        fan_in *= (double)dims[i];
    build_random(b, name, rank, dims, rank > 1 ? 1.2 / sqrt(fan_in) : .3);
}

static inline void ints(Build *b, const char *name, int n, const int64_t *values)
{
    Onnx__TensorProto *t = build_tensor(b, name, 1, (int64_t[]){2 * n}, (const float *)(const void *)values); /* the bytes, then the type */
    t->data_type = ONNX__TENSOR_PROTO__DATA_TYPE__INT64;
    t->dims[0] = n;
}

/* y = Conv(x): weight y.w of these dimensions, bias y.b. */
static inline BuildNode conv(Build *b, const char *x, const char *y, int rank, const int64_t *dims)
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
static inline void linear(Build *b, const char *x, const char *y, int64_t n_in, int64_t n_out)
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

static inline void norm(Build *b, const char *x, const char *y, int64_t n)
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
static inline void head(Build *b, const char *x, int64_t n)
{
    build_node(b, "GlobalAveragePool", x, "gap");
    build_node(b, "Flatten", "gap", "flat");
    linear(b, "flat", "fc", n, 3);
    build_output(b, "fc", 2);
}

static inline const char *write_model(Build *b, const char *name)
{
    const char *path = scratch("%s.onnx", name);
    build_write(b, path);
    return path;
}

static const PapaShape image = {4, {2, 2, 6, 6}}, tokens = {3, {2, 5, 6}};

static inline Build begin_image(void)
{
    Build b = build_begin();
    build_input(&b, "x", 4, (int64_t[]){-1, 2, 6, 6});
    return b;
}

static inline Build begin_tokens(void)
{
    Build b = build_begin();
    build_input(&b, "x", 3, (int64_t[]){-1, 5, 6});
    return b;
}

static inline const char *pinned_text(const PapaGroups *groups)
{
    static char text[4096];
    size_t used = 0;
    *text = 0;
    for (int i = 0; i < groups->n_pinned && used < sizeof text; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s axis %d: %lld, %s\n", groups->tensors[groups->pinned[i].tensor].name,
            groups->pinned[i].axis, (long long)groups->pinned[i].n, groups->pinned[i].why);
    return text;
}

/* expected: groups, as check_groups; pinned: a stretch of what is pinned. */
static inline void check_derived(const char *path, const char *expected, int n_opaque, const char *pinned)
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

#endif
