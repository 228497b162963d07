/* Files that are damaged, or made to do harm: a model that differs from a good one in a byte is opened, compiled and trained a step, or
 * refused with a line that names it; nothing crashes, hangs or asks for memory without bound. */
#include "align/groups.h"
#include "check.h"
#include "model/net.h"
#include "onnxbuild.h"
#include "scratch.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define MOST_ARENA ((size_t)16 << 20)

static PapaDevice *dev;

/* A small classifier with something of everything: a window, statistics, a sum, shapes that are computed. */
static void write_model(const char *path)
{
    Build b = build_begin();
    build_input(&b, "x", 4, (int64_t[]){-1, 2, 6, 6});
    build_random(&b, "w", 4, (int64_t[]){4, 2, 3, 3}, .5);
    BuildNode conv = build_ints(build_node(&b, "Conv", "x w", "c"), "pads", 4, (int64_t[]){1, 1, 1, 1});
    build_ints(conv, "strides", 2, (int64_t[]){1, 1});
    static const char *const stats[] = {"scale", "shift", "mean", "var"};
    for (int i = 0; i < 4; i++)
        build_tensor(&b, stats[i], 1, (int64_t[]){4}, (const float[]){1, 1, 1, 1});
    build_float(build_node(&b, "BatchNormalization", "c scale shift mean var", "n"), "epsilon", 1e-3f);
    build_node(&b, "Add", "n c", "a");
    build_node(&b, "Relu", "a", "r");
    build_ints(build_ints(build_node(&b, "MaxPool", "r", "p"), "kernel_shape", 2, (int64_t[]){2, 2}), "strides", 2, (int64_t[]){2, 2});
    build_int(build_node(&b, "Concat", "p p", "t"), "axis", 1);
    build_ints(build_node(&b, "Constant", "", "zero"), "value_ints", 1, (int64_t[]){0});
    build_ints(build_node(&b, "Constant", "", "rest"), "value_ints", 1, (int64_t[]){-1});
    build_node(&b, "Shape", "t", "s");
    build_int(build_node(&b, "Gather", "s zero", "batch"), "axis", 0);
    build_int(build_node(&b, "Concat", "batch rest", "flat"), "axis", 0);
    build_node(&b, "Reshape", "t flat", "f");
    build_random(&b, "v", 2, (int64_t[]){3, 72}, .5);
    build_random(&b, "u", 1, (int64_t[]){3}, .5);
    build_int(build_node(&b, "Gemm", "f v u", "logits"), "transB", 1);
    build_int(build_node(&b, "Softmax", "logits", "y"), "axis", 1);
    build_output(&b, "y", 2);
    build_write(&b, path);
}

static void put_byte(int fd, off_t at, unsigned char byte)
{
    if (pwrite(fd, &byte, 1, at) != 1)
        scratch_die("write", "the model");
}

/* One step on zeros. */
static PapaStatus step(const PapaModel *model, const PapaNet *net)
{
    PapaWorker *worker = NULL;
    if (papa_net_arena_bytes(net) > MOST_ARENA) /* a pad of thousands is no damage */
        return PAPA_OK;
    float *params = build_need(calloc((size_t)model->store.n_total + 1, sizeof *params));
    float *grads = build_need(calloc((size_t)model->store.n_trained + 1, sizeof *grads));
    PapaStepNumbers numbers = {0};
    PapaStatus status = papa_worker_new(&worker, &net, 1, dev);
    if (status == PAPA_OK) {
        size_t bytes;
        void *arena = papa_worker_arena(worker, &bytes);
        memset(arena, 0, bytes);
        status = papa_model_read_params(model, params);
    }
    if (status == PAPA_OK)
        status = papa_net_forward(net, worker, params, &numbers);
    if (status == PAPA_OK)
        status = papa_net_backward(net, worker, params, grads, &numbers);
    papa_worker_free(worker);
    free(params), free(grads);
    return status;
}

static PapaStatus compile(const char *path, PapaMode mode)
{
    PapaModel *model;
    PapaNet *net = NULL;
    PAPA_TRY(papa_model_open(&model, path));
    PapaStatus status = papa_model_select(model, &(PapaModelSelection){0});
    if (status == PAPA_OK)
        status = papa_net_compile(&net, model, &(PapaNetOptions){.mode = mode, .batch = 2, .size = {2, 6, 6}}, dev);
    if (status == PAPA_OK && mode == PAPA_MODE_TRAIN)
        status = step(model, net);
    papa_net_free(net, dev);
    papa_model_close(model);
    return status;
}

static PapaStatus derive_groups(const char *path)
{
    PapaModel *model;
    PapaGroups *groups = NULL;
    PAPA_TRY(papa_model_open(&model, path));
    PapaStatus status = papa_groups_derive(&groups, model->onnx, NULL);
    papa_groups_free(groups);
    papa_model_close(model);
    return status;
}

static void check_every_byte(void)
{
    static const unsigned char masks[] = {0x01, 0x80, 0x5a, 0xff};
    const char *path = scratch("damaged.onnx");
    int compiled = 0, refused = 0, derived = 0;
    unsigned char byte;
    write_model(path);
    CHECK_OK(compile(path, PAPA_MODE_TRAIN));
    int fd = open(path, O_RDWR | O_CLOEXEC);
    for (off_t at = 0; fd >= 0 && pread(fd, &byte, 1, at) == 1; at++) {
        for (size_t k = 0; k < sizeof masks; k++) {
            put_byte(fd, at, byte ^ masks[k]);
            if (derive_groups(path) == PAPA_OK)
                derived++;
            else
                CHECK(strstr(papa_error(), path), "byte %lld ^ %#x: \"%s\" does not name the file", (long long)at, masks[k], papa_error());
            if (compile(path, PAPA_MODE_TRAIN) == PAPA_OK) {
                compiled++;
                continue;
            }
            refused++;
            CHECK(strstr(papa_error(), path), "byte %lld ^ %#x: \"%s\" does not name the file", (long long)at, masks[k], papa_error());
        }
        put_byte(fd, at, byte);
    }
    CHECK(fd >= 0 && close(fd) == 0, "%s", path);
    CHECK(compiled > 100 && refused > 100, "%d compiled, %d refused", compiled, refused); /* elements and names; the rest */
    CHECK(derived > compiled, "groups of %d, though %d compiled", derived, compiled); /* an unknown operator is no obstacle */
}

/* What protobuf-c leaves NULL, and what it reads as something else. */
static void check_missing_parts(void)
{
    const char *path = scratch("missing.onnx");
    for (int part = 0; part < 5; part++) {
        static const char *const text[] = {"node 0 has no operator type", "graph input 0 has no name", "graph output 0 has no name",
            "has an attribute without a name", "input 'x' is no batch of images"};
        Build b = build_begin();
        build_input(&b, "x", 2, (int64_t[]){-1, 3});
        BuildNode flatten = build_int(build_node(&b, "Flatten", "x", "y"), "axis", 1);
        build_output(&b, "y", 2);
        Onnx__TypeProto__Sequence sequence = ONNX__TYPE_PROTO__SEQUENCE__INIT;
        switch (part) {
        case 0: flatten.node->op_type = NULL; break;
        case 1: b.inputs[0]->name = NULL; break;
        case 2: b.outputs[0]->name = NULL; break;
        case 3: flatten.node->attribute[0]->name = NULL; break;
        default:
            b.inputs[0]->type->value_case = ONNX__TYPE_PROTO__VALUE_SEQUENCE_TYPE;
            b.inputs[0]->type->sequence_type = &sequence;
        }
        build_write(&b, path);
        const PapaStatus status = compile(path, PAPA_MODE_INFER);
        CHECK(status != PAPA_OK && strstr(papa_error(), text[part]) && strstr(papa_error(), path), "%d: \"%s\", expected \"%s\"", part, papa_error(),
            text[part]);
    }
}

/* Identities in a circle, where the classifier's logits are looked for. */
static void check_circle(void)
{
    const char *path = scratch("circle.onnx");
    Build b = build_begin();
    build_input(&b, "x", 2, (int64_t[]){-1, 3});
    build_node(&b, "Identity", "a", "y");
    build_node(&b, "Identity", "y", "a");
    build_output(&b, "y", 2);
    build_write(&b, path);
    CHECK_FAILS(compile(path, PAPA_MODE_INFER), PAPA_ERR_FORMAT, "cycle");
}

int main(void)
{
    CHECK(papa_device_open_cpu(&dev, 1) == PAPA_OK, "%s", papa_error());
    if (!dev)
        return check_result();
    check_missing_parts();
    check_circle();
    check_every_byte();
    papa_device_close(dev);
    return check_result();
}
