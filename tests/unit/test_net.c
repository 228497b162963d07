/* The executor as a whole, on the models of testdata/: the memory plan hides nothing, fusing and batch size change nothing they should not. */
#include "base/rng.h"
#include "check.h"
#include "model/net.h"
#include "onnxbuild.h"
#include "scratch.h"

#include <stdlib.h>

#define BATCH 6
#define CLASSES 10

typedef struct Result {
    float *logits, *grads, *params;
} Result;

typedef struct Setup {
    PapaModel *model;
    PapaDevice *dev;
    PapaNet *net;
    PapaWorker *worker;
} Setup;

static PapaImageSize size_of(const PapaModel *model)
{
    PapaImageSize size = model->head.size;
    return size.channels ? size : (PapaImageSize){1, 28, 28};
}

static PapaStatus set_up_file(Setup *s, const char *path, PapaMode mode, bool separate)
{
    *s = (Setup){0};
    PAPA_TRY(papa_model_open(&s->model, path));
    PAPA_TRY(papa_model_select(s->model, &(PapaModelSelection){.decay_all = true}));
    PAPA_TRY(papa_device_open_cpu(&s->dev, 1));
    PapaNetOptions options = {.mode = mode, .batch = BATCH, .size = size_of(s->model), .separate_blocks = separate};
    PAPA_TRY(papa_net_compile(&s->net, s->model, &options, s->dev));
    return papa_worker_new(&s->worker, (const PapaNet *const[]){s->net}, 1, s->dev);
}

static PapaStatus set_up(Setup *s, const char *name, PapaMode mode, bool separate)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/testdata/%s.onnx", PAPA_SOURCE_DIR, name);
    return set_up_file(s, path, mode, separate);
}

static void tear_down(Setup *s)
{
    papa_worker_free(s->worker);
    papa_net_free(s->net, s->dev);
    papa_device_close(s->dev);
    papa_model_close(s->model);
}

static void fill_normal(float *to, int64_t n, uint32_t stream)
{
    PapaRng rng = papa_rng(1, PAPA_RNG_TEST, 0, stream, 0);
    for (int64_t i = 0; i < n; i++)
        to[i] = (float)papa_rng_normal(&rng);
}

/* One forward and backward pass on fixed numbers, every byte of the arena poisoned first. */
static PapaStatus pass(Setup *s, Result *out, unsigned char poison)
{
    size_t bytes;
    void *arena = papa_worker_arena(s->worker, &bytes);
    memset(arena, poison, bytes);
    PapaImageSize size = size_of(s->model);
    out->params = calloc((size_t)s->model->store.n_total, sizeof(float));
    out->grads = malloc((size_t)s->model->store.n_trained * sizeof(float));
    out->logits = malloc(BATCH * CLASSES * sizeof(float));
    if (!out->params || !out->grads || !out->logits)
        return PAPA_ERR_MEMORY;
    memset(out->grads, 0, (size_t)s->model->store.n_trained * sizeof(float)); /* the gaps between tensors are nobody's */
    for (int i = 0; i < s->model->n_params; i++)
        if (s->model->params[i].trained)
            memset(out->grads + s->model->params[i].offset, poison, (size_t)s->model->params[i].count * sizeof(float));
    PAPA_TRY(papa_model_read_params(s->model, out->params));
    fill_normal(papa_net_input(s->net, s->worker), BATCH * size.channels * size.height * size.width, 0);
    PapaStepNumbers step = {.stat_momentum = .5f};
    PAPA_TRY(papa_net_forward(s->net, s->worker, out->params, &step));
    memcpy(out->logits, papa_net_output(s->net, s->worker, 0), BATCH * CLASSES * sizeof(float));
    fill_normal(papa_net_output_grad(s->net, s->worker), BATCH * CLASSES, 1);
    return papa_net_backward(s->net, s->worker, out->params, out->grads, &step);
}

static void free_result(Result *r)
{
    free(r->logits);
    free(r->grads);
    free(r->params);
}

static bool same(const float *a, const float *b, int64_t n)
{
    return memcmp(a, b, (size_t)n * sizeof *a) == 0;
}

static bool all_finite(const float *a, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(a[i]))
            return false;
    return true;
}

/* What a pass gives depends neither on what the memory held before nor on which values share an address. */
static void check_plan(const char *name)
{
    Setup shared, separate;
    Result first, second, third;
    CHECK_OK(set_up(&shared, name, PAPA_MODE_TRAIN, false));
    CHECK_OK(set_up(&separate, name, PAPA_MODE_TRAIN, true));
    CHECK_OK(pass(&shared, &first, 0xFF)); /* NaN */
    CHECK_OK(pass(&shared, &second, 0x3F)); /* about 0.75 */
    CHECK_OK(pass(&separate, &third, 0xFF));
    int64_t n_trained = shared.model->store.n_trained, n_total = shared.model->store.n_total;
    CHECK(all_finite(first.logits, BATCH * CLASSES) && all_finite(first.grads, n_trained), "%s", name);
    CHECK(same(first.logits, second.logits, BATCH * CLASSES), "%s: logits depend on old memory", name);
    CHECK(same(first.grads, second.grads, n_trained), "%s: gradients depend on old memory", name);
    CHECK(same(first.params, second.params, n_total), "%s: statistics depend on old memory", name);
    CHECK(same(first.logits, third.logits, BATCH * CLASSES), "%s: logits depend on the memory plan", name);
    CHECK(same(first.grads, third.grads, n_trained), "%s: gradients depend on the memory plan", name);
    CHECK(papa_net_arena_bytes(shared.net) < papa_net_arena_bytes(separate.net), "%s", name);
    free_result(&first);
    free_result(&second);
    free_result(&third);
    tear_down(&shared);
    tear_down(&separate);
}

/* d loss along the gradient, by central differences: one number per model that every operator's backward pass has a part in. */
static void check_slope(const char *name)
{
    Setup s;
    Result r;
    CHECK_OK(set_up(&s, name, PAPA_MODE_TRAIN, false));
    CHECK_OK(pass(&s, &r, 0xFF));
    int64_t n = s.model->store.n_trained;
    double norm = 0, loss[2];
    for (int64_t i = 0; i < n; i++)
        norm += (double)r.grads[i] * r.grads[i];
    norm = sqrt(norm);
    float weights[BATCH * CLASSES];
    fill_normal(weights, BATCH * CLASSES, 1);
    float *moved = malloc((size_t)s.model->store.n_total * sizeof *moved);
    double step = 2e-3;
    for (int side = 0; side < 2; side++) {
        memcpy(moved, r.params, (size_t)s.model->store.n_total * sizeof *moved);
        for (int64_t i = 0; i < n; i++)
            moved[i] += (float)((side ? step : -step) * r.grads[i] / norm);
        PapaImageSize size = size_of(s.model);
        fill_normal(papa_net_input(s.net, s.worker), BATCH * size.channels * size.height * size.width, 0);
        CHECK_OK(papa_net_forward(s.net, s.worker, moved, &(PapaStepNumbers){0}));
        loss[side] = 0;
        for (int i = 0; i < BATCH * CLASSES; i++)
            loss[side] += (double)papa_net_output(s.net, s.worker, 0)[i] * weights[i];
    }
    double slope = (loss[1] - loss[0]) / (2 * step);
    CHECK(fabs(slope - norm) < 0.02 * norm, "%s: slope %g along the gradient, expected its norm %g", name, slope, norm);
    free(moved);
    free_result(&r);
    tear_down(&s);
}

/* logits = Concat(h + b0, h + b1, ..., h + b0) V: the gradient of b_k is the logits' own, summed over the batch, times rows of V. More inputs
 * than an int has bits, as a dense network's last block has, and one that is read twice, whose second gradient is added to the first. */
static void check_many_inputs(void)
{
    enum { PARTS = 40, WIDTH = 3 };
    Setup s;
    Build b = build_begin();
    char names[PARTS * 5] = "", name[16], bias[16];
    build_input(&b, "x", 4, (int64_t[]){-1, 1, 1, WIDTH});
    build_node(&b, "Flatten", "x", "flat");
    build_random(&b, "w", 2, (int64_t[]){WIDTH, WIDTH}, 1);
    build_node(&b, "MatMul", "flat w", "h");
    for (int k = 0; k < PARTS - 1; k++) {
        snprintf(name, sizeof name, "a%d ", k);
        snprintf(bias, sizeof bias, "h b%d", k);
        build_random(&b, bias + strlen("h "), 1, (int64_t[]){WIDTH}, 1);
        strcat(names, name);
        build_node(&b, "Add", bias, name);
    }
    build_random(&b, "v", 2, (int64_t[]){PARTS * WIDTH, CLASSES}, 1);
    build_int(build_node(&b, "Concat", strcat(names, "a0"), "c"), "axis", 1);
    build_node(&b, "MatMul", "c v", "logits");
    build_output(&b, "logits", 2);
    const char *path = scratch("many-inputs.onnx");
    build_write(&b, path);
    CHECK_OK(set_up_file(&s, path, PAPA_MODE_TRAIN, false));
    Result r;
    CHECK_OK(pass(&s, &r, 0xFF));
    float seed[BATCH * CLASSES];
    fill_normal(seed, BATCH * CLASSES, 1);
    const PapaParam *v = &s.model->params[0];
    for (int i = 0; i < s.model->n_params; i++)
        v = strcmp(s.model->params[i].name, "v") == 0 ? &s.model->params[i] : v;
    int n_biases = 0;
    for (int i = 0; i < s.model->n_params; i++) {
        const PapaParam *p = &s.model->params[i];
        int k;
        if (sscanf(p->name, "b%d", &k) != 1)
            continue;
        n_biases++;
        for (int j = 0; j < WIDTH; j++) {
            double sum = 0;
            for (int part = k; part < PARTS; part += part == 0 ? PARTS - 1 : PARTS)
                for (int n = 0; n < BATCH * CLASSES; n++)
                    sum += (double)seed[n] * r.params[v->offset + (part * WIDTH + j) * CLASSES + n % CLASSES];
            CHECK(p->trained && fabs(r.grads[p->offset + j] - sum) < 1e-4, "%s[%d]: %g, expected %g", p->name, j, (double)r.grads[p->offset + j], sum);
        }
    }
    CHECK(n_biases == PARTS - 1, "%d biases", n_biases);
    free_result(&r);
    tear_down(&s);
}

/* What only compiling finds out: the line names the file and the node. */
static void check_refused(void)
{
    Setup s;
    Build b = build_begin();
    build_input(&b, "x", 4, (int64_t[]){-1, 1, 300, 300});
    build_random(&b, "w", 4, (int64_t[]){1, 1, 1, 1}, 1);
    build_node(&b, "Conv", "x w", "c");
    build_node(&b, "GlobalMaxPool", "c", "m");
    build_random(&b, "v", 2, (int64_t[]){1, CLASSES}, 1);
    build_node(&b, "Flatten", "m", "f");
    build_node(&b, "MatMul", "f v", "logits");
    build_output(&b, "logits", 2);
    const char *path = scratch("refused.onnx");
    build_write(&b, path);
    CHECK_FAILS(set_up_file(&s, path, PAPA_MODE_TRAIN, false), PAPA_ERR_UNSUPPORTED,
        "refused.onnx: GlobalMaxPool node 'GlobalMaxPool_1': window of 300 x 300");
    tear_down(&s);
    CHECK_OK(set_up_file(&s, path, PAPA_MODE_INFER, false));
    tear_down(&s);
}

/* The reference device: inference only; there too nothing depends on what memory held before, or on which values share an address. */
static void check_reference(const char *name)
{
    char path[1024];
    double logits[2][BATCH * CLASSES];
    snprintf(path, sizeof path, "%s/testdata/%s.onnx", PAPA_SOURCE_DIR, name);
    for (int i = 0; i < 4; i++) {
        static const PapaMode modes[] = {PAPA_MODE_INFER, PAPA_MODE_INFER, PAPA_MODE_TRAIN, PAPA_MODE_CALIBRATE};
        Setup s = {0};
        CHECK_OK(papa_model_open(&s.model, path));
        CHECK_OK(papa_model_select(s.model, &(PapaModelSelection){.decay_all = true}));
        CHECK_OK(papa_device_open_reference(&s.dev, 1 + i));
        PapaNetOptions options = {.mode = modes[i], .batch = BATCH, .size = size_of(s.model), .separate_blocks = i};
        PapaStatus status = papa_net_compile(&s.net, s.model, &options, s.dev);
        CHECK(status == (i < 2 ? PAPA_OK : PAPA_ERR_UNSUPPORTED) && (i < 2 || strstr(papa_error(), "in inference only")), "%s", papa_error());
        if (i < 2) {
            size_t bytes;
            CHECK_OK(papa_worker_new(&s.worker, (const PapaNet *const[]){s.net}, 1, s.dev));
            void *arena = papa_worker_arena(s.worker, &bytes);
            memset(arena, i ? 0xff : 0, bytes);
            float *params = calloc((size_t)s.model->store.n_total + 1, sizeof *params);
            if (!params)
                abort();
            CHECK_OK(papa_model_read_params(s.model, params));
            PapaRng rng = papa_rng(1, PAPA_RNG_TEST, 0, 0, 0);
            double *x = (double *)papa_net_input(s.net, s.worker);
            for (int64_t k = 0; k < BATCH * options.size.channels * options.size.height * options.size.width; k++)
                x[k] = papa_rng_normal(&rng);
            CHECK_OK(papa_net_forward(s.net, s.worker, params, NULL));
            memcpy(logits[i], papa_net_output_double(s.net, s.worker, 0), sizeof logits[i]);
            free(params);
        }
        tear_down(&s);
    }
    CHECK(!memcmp(logits[0], logits[1], sizeof logits[0]) && isfinite(logits[0][0]), "%s: depends on memory's contents, on addresses or on threads", name);
}

int main(void)
{
    check_many_inputs();
    check_refused();
    static const char *const names[] = {"mlp", "lenet", "vgg", "resnet8", "resnet20", "resnet20-cifar", "vit-tiny"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        check_plan(names[i]);
        check_slope(names[i]);
        check_reference(names[i]);
    }
    return check_result();
}
