/* The table of parameters and the store: where tensors lie, what is drawn for them. */
#include "check.h"
#include "model/model.h"
#include "onnxbuild.h"
#include "scratch.h"

#include <stdlib.h>

/* Convolution, normalisation, linear layer; every tensor of the file holds numbers that no initialisation gives. */
static PapaStatus open_model(PapaModel **out)
{
    Build b = build_begin();
    const char *path = scratch("params.onnx");
    build_input(&b, "x", 4, (int64_t[]){-1, 3, 6, 6});
    build_random(&b, "conv.w", 4, (int64_t[]){40, 3, 3, 3}, 7);
    build_random(&b, "conv.b", 1, (int64_t[]){40}, 7);
    static const char *const slots[] = {"bn.scale", "bn.shift", "bn.mean", "bn.var"};
    for (int i = 0; i < 4; i++)
        build_random(&b, slots[i], 1, (int64_t[]){40}, 7);
    build_random(&b, "fc.w", 2, (int64_t[]){40, 30}, 7);
    build_node(&b, "Conv", "x conv.w conv.b", "c");
    build_node(&b, "BatchNormalization", "c bn.scale bn.shift bn.mean bn.var", "n");
    build_node(&b, "GlobalAveragePool", "n", "g");
    build_node(&b, "Flatten", "g", "f");
    build_node(&b, "MatMul", "f fc.w", "y");
    build_output(&b, "y", 2);
    build_write(&b, path);
    return papa_model_open(out, path);
}

static const PapaParam *find(const PapaModel *model, const char *name)
{
    for (int i = 0; i < model->n_params; i++)
        if (strcmp(model->params[i].name, name) == 0)
            return &model->params[i];
    return NULL;
}

static void check_layout(void)
{
    PapaModel *model;
    CHECK_OK(open_model(&model));
    for (int turn = 0; turn < 2; turn++) { /* the second selection replaces the first */
        CHECK_OK(papa_model_select(model, &(PapaModelSelection){.freeze = turn ? "conv.*" : NULL}));
        const PapaStoreLayout *store = &model->store;
        CHECK(model->n_params == 7 && model->has_statistics, "%d", model->n_params);
        CHECK(store->n_decayed % PAPA_STORE_ALIGN == 0 && store->n_decayed < store->n_trained && store->n_trained < store->n_total, "%lld %lld %lld",
            (long long)store->n_decayed, (long long)store->n_trained, (long long)store->n_total);
        for (int i = 0; i < model->n_params; i++) {
            const PapaParam *a = &model->params[i];
            bool decays = a->role == PAPA_ROLE_WEIGHT;
            int64_t first = !a->trained ? store->n_trained : decays ? 0 : store->n_decayed;
            int64_t end = !a->trained ? store->n_total : decays ? store->n_decayed : store->n_trained;
            CHECK(a->offset % PAPA_STORE_ALIGN == 0 && a->offset >= first && a->offset + a->count <= end, "%s at %lld", a->name, (long long)a->offset);
            for (int j = 0; j < i; j++) {
                const PapaParam *b = &model->params[j];
                CHECK(a->offset + a->count <= b->offset || b->offset + b->count <= a->offset, "%s and %s overlap", a->name, b->name);
            }
        }
        CHECK(find(model, "conv.w")->trained == !turn && find(model, "bn.scale")->trained && !find(model, "bn.mean")->trained, "turn %d", turn);
    }
    papa_model_close(model);
}

static double spread(const float *values, int64_t n)
{
    double squares = 0;
    for (int64_t i = 0; i < n; i++)
        squares += (double)values[i] * values[i];
    return sqrt(squares / (double)n);
}

static bool all_are(const float *values, int64_t n, float value)
{
    for (int64_t i = 0; i < n; i++)
        if (values[i] != value)
            return false;
    return true;
}

static void check_init(bool freeze_bn)
{
    PapaModel *model;
    CHECK_OK(open_model(&model));
    CHECK_OK(papa_model_select(model, &(PapaModelSelection){.decay_all = true, .freeze = "fc.w", .freeze_bn = freeze_bn}));
    size_t bytes = (size_t)model->store.n_total * sizeof(float);
    float *file = malloc(bytes), *drawn = malloc(bytes), *other = malloc(bytes);
    CHECK_OK(papa_model_read_params(model, file));
    memcpy(drawn, file, bytes);
    memcpy(other, file, bytes);
    CHECK_OK(papa_model_init_params(model, drawn, 1, 0));
    CHECK_OK(papa_model_init_params(model, other, 1, 1));

    static const struct {
        const char *name;
        float value;
    } fixed[] = {{"bn.scale", 1}, {"bn.shift", 0}, {"bn.mean", 0}, {"bn.var", 1}};
    for (int i = 0; i < 4; i++) {
        const PapaParam *p = find(model, fixed[i].name);
        bool kept = memcmp(drawn + p->offset, file + p->offset, (size_t)p->count * sizeof *file) == 0;
        CHECK(kept == freeze_bn && (freeze_bn || all_are(drawn + p->offset, p->count, fixed[i].value)), "%s, freeze_bn %d", p->name, freeze_bn);
    }
    const PapaParam *fc = find(model, "fc.w"), *w = find(model, "conv.w"), *b = find(model, "conv.b");
    CHECK(memcmp(drawn + fc->offset, file + fc->offset, (size_t)fc->count * sizeof *file) == 0, "a frozen tensor was drawn");
    CHECK(all_are(drawn + b->offset, b->count, 0), "conv.b");
    CHECK_NEAR(spread(drawn + w->offset, w->count), sqrt(2.0 / 27), .05 * sqrt(2.0 / 27)); /* 1080 numbers: a standard error of 2.2 % */
    CHECK(memcmp(drawn + w->offset, other + w->offset, (size_t)w->count * sizeof *file) != 0, "two members drew the same");
    free(file);
    free(drawn);
    free(other);
    papa_model_close(model);
}

/* LayerNormalization's tensors are spared the decay, also where they are moved on the way; a scale that belongs to none is not; and BatchNormalization
 * they are not. */
static void check_layer_normalization(void)
{
    static const struct {
        const char *name;
        bool normalizes, decays;
    } expected[] = {{"ln.scale", true, false}, {"ln.shift", true, false}, {"gain", false, true}, {"fc.w", false, true}};
    PapaModel *model;
    Build b = build_begin();
    const char *path = scratch("layernorm.onnx");
    build_input(&b, "x", 2, (int64_t[]){-1, 20});
    build_random(&b, "fc.w", 2, (int64_t[]){20, 30}, 7);
    build_random(&b, "ln.scale", 1, (int64_t[]){30}, 7);
    build_random(&b, "ln.shift", 1, (int64_t[]){30}, 7);
    build_random(&b, "gain", 1, (int64_t[]){30}, 7);
    build_node(&b, "MatMul", "x fc.w", "m");
    build_node(&b, "Identity", "ln.scale", "s");
    build_node(&b, "LayerNormalization", "m s ln.shift", "n");
    build_node(&b, "Mul", "n gain", "y");
    build_output(&b, "y", 2);
    build_write(&b, path);
    CHECK_OK(papa_model_open(&model, path));
    CHECK_OK(papa_model_select(model, &(PapaModelSelection){.freeze_bn = true}));
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        const PapaParam *p = find(model, expected[i].name);
        CHECK(p && p->trained && !p->is_batchnorm && p->is_normalization == expected[i].normalizes, "%s", expected[i].name);
        CHECK(p && (p->offset < model->store.n_decayed) == expected[i].decays, "%s at %lld", expected[i].name, p ? (long long)p->offset : -1);
    }
    CHECK(!model->has_statistics);
    papa_model_close(model);
}

int main(void)
{
    check_layer_normalization();
    check_layout();
    check_init(false);
    check_init(true);
    return check_result();
}
