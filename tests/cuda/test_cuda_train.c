/* Whole runs on CUDA against whole runs on the CPU: population, pulls, REPAIR, export. Rounding differs between the devices, and training makes
 * differences grow; how much, the CPU's own runs tell: with one thread and with two inside each operator, and from weights that differ by one
 * rounding. A CUDA run may be five times as far away. */
#include "bars.h"
#include "check.h"
#include "scratch.h"

#include "base/rng.h"
#include "model/model.h"

#include <stdlib.h>

enum { N_FILES = 4 };
static const char *const files[N_FILES] = {"member-0", "member-1", "soup", "greedy"};

static PapaTrainOptions options_of(const char *device, PapaMethod method)
{
    PapaTrainOptions o;
    papa_train_defaults(&o);
    o.data = data_folder();
    o.population = 2;
    o.method = method;
    o.every = 4;
    o.every_epochs = 1;
    o.alpha = .9f;
    o.epochs = 2;
    o.batch = 36; /* of 396 images: 11 steps in an epoch */
    o.val_fraction = .1f;
    o.lr = .02f;
    o.flip = true;
    o.crop = 2;
    o.smoothing = (PapaGrid){.n = 1, .values = {.05f}};
    o.mixup = (PapaGrid){.n = 2, .values = {0, .4f}};
    o.repair_batches = 2;
    o.device.device = device;
    return o;
}

/* Trains, and returns the trained and measured numbers of every file, one behind the other; NULL on failure. *n: how many. */
static float *train(const char *path, PapaTrainOptions o, const char *out, int64_t *n)
{
    PapaModel *model = NULL;
    PapaTrainReport report;
    o.out = scratch("%s", out);
    char folder[512];
    snprintf(folder, sizeof folder, "%s", o.out);
    o.out = folder;
    PapaStatus status = papa_model_open(&model, path);
    if (status == PAPA_OK)
        status = papa_train(&report, model, &o, NULL);
    papa_model_close(model);
    CHECK(status == PAPA_OK, "%s: %s", out, papa_error());
    if (status != PAPA_OK)
        return NULL;
    papa_train_report_free(&report);
    float *all = NULL;
    *n = 0;
    for (int f = 0; f < N_FILES; f++) {
        char name[600];
        snprintf(name, sizeof name, "%s/%s.onnx", folder, files[f]);
        PapaModel *result;
        CHECK(papa_model_open(&result, name) == PAPA_OK && papa_model_select(result, &(PapaModelSelection){.decay_all = true}) == PAPA_OK, "%s", papa_error());
        all = realloc(all, (size_t)(*n + result->store.n_total) * sizeof *all);
        CHECK(papa_model_read_params(result, all + *n) == PAPA_OK, "%s", papa_error());
        *n += result->store.n_total;
        papa_model_close(result);
    }
    return all;
}

/* The model with every weight moved to a neighbouring float. */
static const char *nudged(const char *path)
{
    static char name[512];
    PapaModel *model;
    PapaEdit *edit;
    snprintf(name, sizeof name, "%s", scratch("nudged.onnx"));
    CHECK(papa_model_open(&model, path) == PAPA_OK && papa_model_select(model, &(PapaModelSelection){.decay_all = true}) == PAPA_OK, "%s", papa_error());
    float *store = malloc((size_t)model->store.n_total * sizeof *store);
    CHECK(papa_model_read_params(model, store) == PAPA_OK, "%s", papa_error());
    PapaRng rng = papa_rng(1, PAPA_RNG_TEST, 0, 0, 0);
    for (int64_t i = 0; i < model->store.n_trained; i++)
        store[i] = nextafterf(store[i], papa_rng_u32(&rng) & 1 ? INFINITY : -INFINITY);
    CHECK(papa_model_edit(&edit, model, store, NULL) == PAPA_OK && papa_edit_write(edit, name) == PAPA_OK, "%s", papa_error());
    papa_edit_free(edit);
    free(store);
    papa_model_close(model);
    return name;
}

/* Root mean square difference. */
static double distance(const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return sqrt(sum / (double)n);
}

static void like_the_cpu(const char *model, PapaMethod method, const char *cuda)
{
    char path[512];
    int64_t n, m;
    snprintf(path, sizeof path, PAPA_SOURCE_DIR "/testdata/%s.onnx", model);
    PapaTrainOptions o = options_of("cpu", method);
    o.device.threads = 1;
    float *one = train(path, o, "one", &n), *rounded = train(nudged(path), o, "nudged", &n);
    o.device.threads = 4; /* two for each member */
    float *four = train(path, o, "four", &n);
    float *gpu = train(path, options_of(cuda, method), "gpu", &m), *again = train(path, options_of(cuda, method), "again", &m);
    if (!one || !rounded || !four || !gpu || !again || n != m) {
        CHECK(false, "%s: a run failed, or files differ in size: %lld and %lld", model, (long long)n, (long long)m);
        return;
    }
    double spread = fmax(distance(one, four, n), distance(one, rounded, n)), apart = distance(one, gpu, n);
    printf("%s, %s: CPU's runs are %.3g apart, CUDA's is %.3g away\n", model, cuda, spread, apart);
    CHECK(apart <= 5 * spread, "%s on %s: %.3g from the CPU's weights, whose own runs are %.3g apart", model, cuda, apart, spread);
    CHECK(memcmp(gpu, again, (size_t)n * sizeof *gpu) == 0, "%s on %s: two runs differ", model, cuda);
    free(one), free(rounded), free(four), free(gpu), free(again);
}

static PapaEvalReport eval(const char *name, const char *device, PapaPrecision precision)
{
    PapaModel *model = NULL;
    PapaData *data = NULL;
    PapaEvalOptions options;
    PapaEvalReport report = {.score = {.accuracy = NAN, .loss = NAN}};
    papa_eval_defaults(&options);
    options.batch = 40; /* 110 images: the last batch is shorter */
    options.device.device = device;
    options.device.precision = precision;
    PapaStatus status = papa_data_open(&data, data_folder(), PAPA_SPLIT_TEST, (PapaImageSize){0}, NULL);
    if (status == PAPA_OK)
        status = papa_model_open(&model, scratch("%s", name));
    if (status == PAPA_OK)
        status = papa_eval(&report, model, data, &options, NULL);
    CHECK(status == PAPA_OK, "%s on %s: %s", name, device, papa_error());
    papa_model_close(model);
    papa_data_close(data);
    return report;
}

/* papa_eval on a file that a run before has left. */
static void scores(const char *name)
{
    PapaEvalReport cpu = eval(name, "cpu", PAPA_PRECISION_FP32), fp32 = eval(name, "cuda", PAPA_PRECISION_FP32), bf16 = eval(name, "cuda", PAPA_PRECISION_BF16);
    CHECK(cpu.score.n == N_TEST && fp32.score.n == N_TEST && bf16.score.n == N_TEST, "%s: images", name);
    CHECK(fp32.score.accuracy == cpu.score.accuracy, "%s: accuracy %g, on the CPU %g", name, fp32.score.accuracy, cpu.score.accuracy);
    CHECK_NEAR(fp32.score.loss, cpu.score.loss, 1e-5);
    CHECK_NEAR(bf16.score.loss, cpu.score.loss, .02 * cpu.score.loss);
    if (papa_device_count_cuda() > 1)
        CHECK_NEAR(eval(name, "cuda:0,1", PAPA_PRECISION_FP32).score.loss, fp32.score.loss, 1e-12);
}

/* bfloat16 rounds to 8 bits: the run must learn as well, not end at the same weights. */
static void bfloat16_learns(const char *name)
{
    char path[512];
    PapaModel *model;
    PapaTrainReport reports[2];
    snprintf(path, sizeof path, PAPA_SOURCE_DIR "/testdata/%s.onnx", name);
    for (int bf16 = 0; bf16 < 2; bf16++) {
        PapaTrainOptions o = options_of(bf16 ? "cuda" : "cpu", PAPA_METHOD_PAPA);
        o.device.precision = bf16 ? PAPA_PRECISION_BF16 : PAPA_PRECISION_FP32;
        o.out = NULL;
        o.epochs = 4;
        o.lr = .1f;
        o.crop = 0;
        o.flip = false;
        o.mixup.n = 0;
        CHECK_OK(papa_model_open(&model, path));
        PapaStatus status = papa_train(&reports[bf16], model, &o, NULL);
        papa_model_close(model);
        CHECK(status == PAPA_OK, "%s: %s", name, papa_error());
        if (status != PAPA_OK)
            return;
    }
    double fp32 = reports[0].test.mean.loss, bf16 = reports[1].test.mean.loss;
    printf("%s, loss on test images: %.4f in float32, %.4f in bfloat16\n", name, fp32, bf16);
    CHECK(fp32 < 1.8, "%s learns nothing in float32: loss %.4f of log 10 = 2.3", name, fp32);
    CHECK(fabs(bf16 - fp32) < .1 * fp32, "%s: loss %.4f in bfloat16, %.4f in float32", name, bf16, fp32);
    papa_train_report_free(&reports[0]), papa_train_report_free(&reports[1]);
}

int main(void)
{
    PapaDevice *dev;
    if (papa_device_open_cuda(&dev, 0, PAPA_PRECISION_FP32) != PAPA_OK) {
        printf("skipped: %s\n", papa_error());
        return 77;
    }
    papa_device_close(dev);
    like_the_cpu("lenet", PAPA_METHOD_PAPA, "cuda");
    like_the_cpu("resnet8", PAPA_METHOD_PAPA, "cuda");
    scores("gpu/soup.onnx");
    like_the_cpu("vit-tiny", PAPA_METHOD_PAPA, "cuda");
    like_the_cpu("mlp", PAPA_METHOD_2, "cuda");
    if (papa_device_count_cuda() > 1)
        like_the_cpu("lenet", PAPA_METHOD_PAPA, "cuda:0,1");
    bfloat16_learns("resnet8");
    return check_result();
}
