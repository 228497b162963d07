/* Small networks trained on the bars, for the tests of merging: a few that started from the same weights, and one that knows nothing. */
#ifndef MEMBERS_H
#define MEMBERS_H

#include "bars.h"
#include "onnxbuild.h"

#include "onnx/onnx.h"

enum { N_GOOD = 3, BAD = N_GOOD, N_MEMBERS = N_GOOD + 1 };

typedef enum MemberKind { OF_PLAIN, OF_NORMALIZED, OF_HALF } MemberKind; /* without and with BatchNormalization; plain in FLOAT16 */

/* Of this type, from the builder's FLOAT. */
static inline void members_retype(Build *b, int type)
{
    for (size_t i = 0; i < b->graph.n_initializer; i++) {
        Onnx__TensorProto *tensor = b->tensors[i];
        int64_t n = (int64_t)(tensor->raw_data.len / sizeof(float));
        float *values = build_alloc(b, tensor->raw_data.len);
        memcpy(values, tensor->raw_data.data, tensor->raw_data.len);
        papa_floats_to_raw(tensor->raw_data.data, type, values, n);
        tensor->data_type = type;
        tensor->raw_data.len = (size_t)n * papa_type_bits(type) / 8;
    }
    b->inputs[0]->type->tensor_type->elem_type = type;
    b->outputs[0]->type->tensor_type->elem_type = type;
}

/* Conv without a bias, BatchNormalization or nothing, Relu, Gemm, Relu, Gemm. */
static inline void members_model(const char *path, MemberKind kind)
{
    enum { C = 6, HIDDEN = 20, PIXELS = 7 * 7 };
    const float ones[C] = {1, 1, 1, 1, 1, 1}, zeros[HIDDEN] = {0};
    Build b = build_begin();
    build_input(&b, "image", 4, (int64_t[]){-1, 1, SIDE, SIDE});
    build_random(&b, "w1", 4, (int64_t[]){C, 1, 5, 5}, .3);
    BuildNode conv = build_node(&b, "Conv", "image w1", "v1");
    build_ints(conv, "strides", 2, (int64_t[]){4, 4});
    build_ints(conv, "pads", 4, (int64_t[]){1, 1, 1, 1});
    if (kind == OF_NORMALIZED) {
        build_tensor(&b, "scale", 1, (int64_t[]){C}, ones);
        build_tensor(&b, "shift", 1, (int64_t[]){C}, zeros);
        build_tensor(&b, "mean", 1, (int64_t[]){C}, zeros);
        build_tensor(&b, "var", 1, (int64_t[]){C}, ones);
        build_node(&b, "BatchNormalization", "v1 scale shift mean var", "n1");
    }
    build_node(&b, "Relu", kind == OF_NORMALIZED ? "n1" : "v1", "a1");
    build_node(&b, "Flatten", "a1", "f1");
    build_random(&b, "w2", 2, (int64_t[]){C * PIXELS, HIDDEN}, .08);
    build_tensor(&b, "b2", 1, (int64_t[]){HIDDEN}, zeros);
    build_node(&b, "Gemm", "f1 w2 b2", "v2");
    build_node(&b, "Relu", "v2", "a2");
    build_random(&b, "w3", 2, (int64_t[]){HIDDEN, CLASSES}, .3);
    build_tensor(&b, "b3", 1, (int64_t[]){CLASSES}, zeros);
    build_node(&b, "Gemm", "a2 w3 b3", "logits");
    build_output(&b, "logits", 2);
    if (kind == OF_HALF)
        members_retype(&b, ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16);
    build_write(&b, path);
}

static inline void members_train(const char *model_path, PapaTrainOptions o)
{
    PapaModel *model;
    PapaTrainReport report;
    if (papa_model_open(&model, model_path) || papa_train(&report, model, &o, NULL)) {
        fprintf(stderr, "the test cannot train its members: %s\n", papa_error());
        exit(2);
    }
    papa_train_report_free(&report);
    papa_model_close(model);
}

/* The open models: N_GOOD that learnt, then BAD, which did not. Close each. */
static inline void members_open(PapaModel *models[N_MEMBERS], MemberKind kind)
{
    static const char *const names[] = {"plain", "normalized", "half"};
    static bool made[3];
    char start[512], out[512], bad[512];
    snprintf(start, sizeof start, "%s", scratch("members/%s.onnx", names[kind]));
    snprintf(out, sizeof out, "%s", scratch("members/%s", names[kind]));
    snprintf(bad, sizeof bad, "%s", scratch("members/%s-bad", names[kind]));
    if (!made[kind]) {
        PapaTrainOptions o;
        members_model(start, kind);
        papa_train_defaults(&o);
        o.data = data_folder();
        o.out = out;
        o.population = 1;
        o.method = PAPA_METHOD_NONE;
        o.epochs = 3;
        o.batch = 20;
        o.val_fraction = .1f;
        o.lr = .05f;
        o.device.device = "cpu";
        o.device.threads = 2;
        o.device.deterministic = true;
        members_train(start, o); /* what they have in common */
        snprintf(start, sizeof start, "%s", scratch("members/%s/member-0.onnx", names[kind]));
        o.population = N_GOOD;
        o.epochs = 2;
        members_train(start, o);
        o.out = bad;
        o.population = 1;
        o.init = PAPA_INIT_RANDOM;
        o.seed = 7;
        o.epochs = 1;
        o.lr = 1e-6f;
        members_train(start, o);
        made[kind] = true;
    }
    for (int k = 0; k < N_MEMBERS; k++) {
        const char *path = k == BAD ? scratch("members/%s-bad/member-0.onnx", names[kind]) : scratch("members/%s/member-%d.onnx", names[kind], k);
        if (papa_model_open(&models[k], path)) {
            fprintf(stderr, "%s\n", papa_error());
            exit(2);
        }
    }
}

static inline void members_close(PapaModel *models[N_MEMBERS])
{
    for (int k = 0; k < N_MEMBERS; k++)
        papa_model_close(models[k]);
}

/* For judging them: the held-out images are those of the training runs. */
static inline PapaJudgeOptions members_judge(void)
{
    PapaJudgeOptions o;
    papa_judge_defaults(&o);
    o.data = data_folder();
    o.val_fraction = .2f;
    o.batch = 40;
    o.device.device = "cpu";
    o.device.threads = 2;
    o.device.deterministic = true;
    return o;
}

#endif
