/* plan_check FOLDER REFUSALS [--wrong]: whether the real cuDNN plans everything that papa will ask of it, on GPUs that are only described.
 *
 * For every GPU file in FOLDER/gpus and every precision: the networks of every model in FOLDER, compiled for training and inference, and
 * convolutions of well-known networks and awkward shapes, made by the code that makes them for a real GPU. Each gets its plans, or stands on the
 * list of refusals with the reason. --wrong submits a shape that contradicts itself besides, and must make the program fail.
 *
 * A process for each GPU: cuDNN 9.19 keeps what it found out about the first GPU of a process (after a T4 it offers no TF32 engines on others). */
#include "device/cuda.h"
#include "device/cudnn.h"
#include "kernels/conv.h"
#include "model/net.h"

#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MOST_REFUSALS 64

/* ---------------------------------------------------------------- the list of refusals, and what all processes count together */

typedef struct Refusal {
    char gpu[32], precision[16], subject[96], text[256];
} Refusal;
static Refusal refusals[MOST_REFUSALS];
static int n_refusals;

static struct Shared {
    _Atomic int subjects, refused, failures;
    _Atomic int64_t graphs, graphs_refused;
    _Atomic bool met[MOST_REFUSALS];
} *shared;

static bool read_refusals(const char *path)
{
    char line[512];
    FILE *file = fopen(path, "r");
    bool ok = file != NULL;
    while (ok && fgets(line, sizeof line, file)) {
        Refusal *r = &refusals[n_refusals];
        if (*line == '#' || *line == '\n')
            continue;
        ok = n_refusals < MOST_REFUSALS && sscanf(line, "%31s %15s %95s | %255[^\n]", r->gpu, r->precision, r->subject, r->text) == 4;
        n_refusals += ok;
    }
    if (file)
        fclose(file);
    if (!ok)
        printf("%s: can't read line %d of the list\n", path, n_refusals + 1);
    return ok;
}

/* The first line that speaks of it; -1: none. */
static int refusal_of(const char *gpu, const char *precision, const char *subject)
{
    for (int i = 0; i < n_refusals; i++)
        if (strcmp(refusals[i].gpu, gpu) == 0 && strcmp(refusals[i].precision, precision) == 0 &&
            (strcmp(refusals[i].subject, "*") == 0 || strcmp(refusals[i].subject, subject) == 0))
            return i;
    return -1;
}

static void judge(const char *gpu, const char *precision, const char *subject, PapaStatus status)
{
    int expected = refusal_of(gpu, precision, subject);
    shared->subjects++;
    if (status == PAPA_OK && expected < 0)
        return;
    if (status == PAPA_ERR_UNSUPPORTED && expected >= 0 && strstr(papa_error(), refusals[expected].text)) {
        shared->refused++;
        shared->met[expected] = true;
        return;
    }
    shared->failures++;
    printf("%s, %s, %s: %s\n", gpu, precision, subject, status == PAPA_OK ? "is on the list of refusals, but has a plan" : papa_error());
}

/* ---------------------------------------------------------------- convolutions of well-known networks */

typedef struct Shape {
    char name[96];
    PapaConvDesc desc;
} Shape;
static Shape shapes[256];
static int n_shapes;

static PapaConvDesc *add(const char *name, int64_t N, int64_t size, int64_t C, int64_t K, int64_t R, int64_t stride, int64_t pad, int64_t groups)
{
    if (n_shapes == (int)(sizeof shapes / sizeof *shapes))
        exit(2);
    Shape *s = &shapes[n_shapes++];
    snprintf(s->name, sizeof s->name, "%s_%lldx%lldx%lld_%lld_%lldx%lld_s%lld_g%lld", name, (long long)N, (long long)size, (long long)C, (long long)K,
        (long long)R, (long long)R, (long long)stride, (long long)groups);
    s->desc = (PapaConvDesc){.N = N, .H = size, .W = size, .C = C, .K = K, .R = R, .S = R, .stride = {stride, stride}, .dilation = {1, 1},
        .pad = {pad, pad, pad, pad}, .groups = groups};
    return &s->desc;
}

/* The output's size follows from the rest. */
static void complete(PapaConvDesc *d)
{
    d->OH = (d->H + d->pad[0] + d->pad[2] - d->dilation[0] * (d->R - 1) - 1) / d->stride[0] + 1;
    d->OW = (d->W + d->pad[1] + d->pad[3] - d->dilation[1] * (d->S - 1) - 1) / d->stride[1] + 1;
}

static void add_resnet50(void)
{
    add("resnet50", 64, 224, 3, 64, 7, 2, 3, 1);
    int64_t size = 56, C = 64;
    for (int64_t width = 64; width <= 512; width *= 2) {
        int64_t stride = width == 64 ? 1 : 2;
        add("resnet50", 64, size, C, width, 1, 1, 0, 1);
        add("resnet50", 64, size, width, width, 3, stride, 1, 1);
        add("resnet50", 64, size, C, 4 * width, 1, stride, 0, 1);
        size /= stride;
        add("resnet50", 64, size, width, 4 * width, 1, 1, 0, 1);
        add("resnet50", 64, size, 4 * width, width, 1, 1, 0, 1);
        add("resnet50", 64, size, width, width, 3, 1, 1, 1);
        C = 4 * width;
    }
}

static void add_resnet18_cifar(void)
{
    add("resnet18", 128, 32, 3, 64, 3, 1, 1, 1);
    for (int64_t width = 64, size = 32; width <= 512; width *= 2, size /= 2) {
        add("resnet18", 128, size, width, width, 3, 1, 1, 1);
        if (width < 512) {
            add("resnet18", 128, size, width, 2 * width, 3, 2, 1, 1);
            add("resnet18", 128, size, width, 2 * width, 1, 2, 0, 1);
        }
    }
}

static void add_mobilenet_v2(void)
{
    static const struct { int64_t expand, width, stride; } blocks[] = {
        {1, 16, 1}, {6, 24, 2}, {6, 24, 1}, {6, 32, 2}, {6, 32, 1}, {6, 64, 2}, {6, 64, 1}, {6, 96, 1}, {6, 160, 2}, {6, 160, 1}, {6, 320, 1},
    };
    int64_t size = 112, C = 32;
    add("mobilenetv2", 32, 224, 3, 32, 3, 2, 1, 1);
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        int64_t inner = blocks[i].expand * C;
        add("mobilenetv2", 32, size, C, inner, 1, 1, 0, 1);
        add("mobilenetv2", 32, size, inner, inner, 3, blocks[i].stride, 1, inner);
        size /= blocks[i].stride;
        C = blocks[i].width;
        add("mobilenetv2", 32, size, inner, C, 1, 1, 0, 1);
    }
    add("mobilenetv2", 32, 7, 320, 1280, 1, 1, 0, 1);
}

static void add_convnext_tiny(void)
{
    add("convnext", 32, 224, 3, 96, 4, 4, 0, 1);
    for (int64_t width = 96, size = 56; width <= 768; width *= 2, size /= 2) {
        add("convnext", 32, size, width, width, 7, 1, 3, width);
        if (width < 768)
            add("convnext", 32, size, width, 2 * width, 2, 2, 0, 1);
    }
}

static void add_vgg16(void)
{
    static const struct { int64_t size, C, K; } layers[] = {{224, 3, 64}, {224, 64, 64}, {112, 64, 128}, {112, 128, 128}, {56, 128, 256}, {56, 256, 256},
        {28, 256, 512}, {28, 512, 512}, {14, 512, 512}};
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++)
        add("vgg16", 32, layers[i].size, layers[i].C, layers[i].K, 3, 1, 1, 1);
}

static void add_awkward(void)
{
    PapaConvDesc *d = add("same_padding", 16, 33, 16, 32, 3, 2, 0, 1);
    d->pad[2] = d->pad[3] = 1;
    d = add("same_padding_depthwise", 16, 112, 96, 96, 3, 2, 0, 96);
    d->pad[2] = d->pad[3] = 1;
    d = add("uneven_padding", 3, 9, 5, 6, 3, 1, 0, 1);
    d->pad[0] = 1, d->pad[1] = 2, d->pad[2] = 0, d->pad[3] = 3;
    d = add("dilated", 4, 28, 32, 32, 3, 1, 2, 1);
    d->dilation[0] = d->dilation[1] = 2;
    d = add("dilated_depthwise", 4, 28, 32, 32, 3, 1, 2, 32);
    d->dilation[0] = d->dilation[1] = 2;
    d = add("uneven_stride", 4, 28, 8, 16, 3, 1, 1, 1);
    d->stride[1] = 3;
    d = add("sequence", 16, 100, 12, 20, 5, 1, 2, 1);
    d->H = d->R = 1, d->pad[0] = d->pad[2] = 0;
    add("odd_channels", 7, 13, 7, 13, 3, 1, 1, 1);
    add("one_channel", 64, 28, 1, 6, 5, 1, 2, 1);
    add("one_filter", 5, 11, 9, 1, 3, 1, 1, 1);
    add("one_image", 1, 7, 512, 512, 3, 1, 1, 1);
    add("one_pixel", 16, 1, 64, 32, 1, 1, 0, 1);
    add("one_of_each", 1, 1, 1, 1, 1, 1, 0, 1);
    add("whole_map", 16, 7, 64, 100, 7, 1, 0, 1);
    add("big_filter", 4, 40, 8, 8, 31, 1, 15, 1);
    add("big_filter_depthwise", 4, 40, 16, 16, 31, 1, 15, 16);
    add("wide_stride", 8, 64, 16, 24, 1, 3, 0, 1);
    add("resnext50", 32, 56, 128, 128, 3, 1, 1, 32);
    add("resnext50", 32, 28, 256, 256, 3, 2, 1, 32);
    add("odd_groups", 4, 14, 6, 9, 3, 1, 1, 3);
    add("depthwise_multiplied", 8, 14, 16, 32, 3, 1, 1, 16);
    add("depthwise_odd", 8, 14, 15, 15, 3, 1, 1, 15);
    add("depthwise_5x5", 32, 28, 120, 120, 5, 2, 2, 120);
    add("vit_patches", 64, 224, 3, 384, 16, 16, 0, 1);
}

/* With everything that decides which graphs are made: forward with and without bias and relu, and the gradients. */
static PapaStatus plan_shape(PapaDevice *dev, const PapaConvDesc *shape)
{
    for (int form = 0; form < 4; form++) {
        PapaConvDesc desc = *shape;
        PapaConv *conv;
        desc.bias = form & 1;
        desc.relu = form & 2;
        PAPA_TRY(papa_conv_create_cuda(dev, &conv, &desc, form == 0));
        papa_conv_free_cuda(conv);
    }
    return PAPA_OK;
}

/* ---------------------------------------------------------------- models */

static PapaStatus plan_model(PapaDevice *dev, PapaModel *model, PapaMode mode, int64_t batch)
{
    PapaNetOptions options = {.mode = mode, .batch = batch, .size = model->head.size};
    PapaNet *net;
    PAPA_TRY(papa_net_compile(&net, model, &options, dev));
    papa_net_free(net, dev);
    return PAPA_OK;
}

static PapaStatus plan_file(PapaDevice *dev, const char *path)
{
    PapaModel *model;
    PAPA_TRY(papa_model_open(&model, path));
    PapaStatus status;
    PAPA_GOTO(papa_model_select(model, &(PapaModelSelection){.make_biases = true}));
    PAPA_GOTO(plan_model(dev, model, PAPA_MODE_TRAIN, 128));
    PAPA_GOTO(plan_model(dev, model, PAPA_MODE_INFER, 128));
    PAPA_GOTO(plan_model(dev, model, PAPA_MODE_INFER, 1));
out:
    papa_model_close(model);
    return status;
}

/* ---------------------------------------------------------------- a GPU */

/* One row too few: the production code is made to describe what can't be. */
static PapaStatus plan_wrong(PapaDevice *dev)
{
    PapaCudnnConv c = {.pass = PAPA_CUDNN_FWD, .N = 8, .H = 16, .W = 16, .C = 32, .K = 32, .R = 3, .S = 3, .OH = 15, .OW = 16, .groups = 1,
        .stride = {1, 1}, .dilation = {1, 1}, .before = {1, 1}, .after = {1, 1}};
    PapaCudnnPlan *plan;
    PAPA_TRY(papa_cudnn_plan(dev, &plan, &c));
    papa_cudnn_release(plan);
    return PAPA_OK;
}

static const char *base_name(const char *path)
{
    return strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
}

static PapaStatus check_gpu(const char *path, const glob_t *models, bool wrong)
{
    static const struct { PapaPrecision precision; const char *name; } precisions[] = {
        {PAPA_PRECISION_FP32, "fp32"}, {PAPA_PRECISION_TF32, "tf32"}, {PAPA_PRECISION_BF16, "bf16"}};
    char name[32];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(base_name(path), "."), base_name(path));
    PapaGpu gpu;
    PAPA_TRY(papa_gpu_read(&gpu, path));
    for (size_t p = 0; p < sizeof precisions / sizeof *precisions; p++) {
        PapaLaunchLog log = {0};
        PapaDevice *dev;
        PAPA_TRY(papa_device_open_described(&dev, &gpu, precisions[p].precision, &log));
        for (size_t i = 0; i < models->gl_pathc; i++)
            judge(name, precisions[p].name, base_name(models->gl_pathv[i]), plan_file(dev, models->gl_pathv[i]));
        for (int i = 0; i < n_shapes; i++)
            judge(name, precisions[p].name, shapes[i].name, plan_shape(dev, &shapes[i].desc));
        if (wrong && precisions[p].precision == PAPA_PRECISION_FP32)
            judge(name, precisions[p].name, "a wrong shape", plan_wrong(dev));
        papa_device_close(dev);
        free(log.launches);
    }
    papa_gpu_clear(&gpu);
    return PAPA_OK;
}

static void run_gpu(const char *path, const glob_t *models, bool wrong)
{
    struct timespec begin, end;
    int64_t planned, refused;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    if (check_gpu(path, models, wrong) != PAPA_OK) {
        printf("%s\n", papa_error());
        shared->failures++;
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    papa_cudnn_counts(&planned, &refused);
    shared->graphs += planned;
    shared->graphs_refused += refused;
    printf("%s: %lld graphs planned, %lld refused, %.1f s\n", base_name(path), (long long)planned, (long long)refused,
        (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec));
    fflush(stdout);
}

static bool wait_for_one(void)
{
    int status;
    pid_t child = wait(&status);
    if (child < 0)
        return false;
    if (!WIFEXITED(status) || WEXITSTATUS(status)) {
        printf("a process ended badly (status %d)\n", status);
        shared->failures++;
    }
    return true;
}

static void run_all(const glob_t *gpus, const glob_t *models, bool wrong)
{
    long n_cores = sysconf(_SC_NPROCESSORS_ONLN), running = 0;
    for (size_t i = 0; i < gpus->gl_pathc; i++) {
        if (running >= n_cores)
            running -= wait_for_one();
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            run_gpu(gpus->gl_pathv[i], models, wrong);
            _exit(0);
        }
        if (child < 0) {
            printf("fork: %s\n", strerror(errno));
            shared->failures++;
        }
        running += child > 0;
    }
    while (wait_for_one())
        ;
}

static void report(void)
{
    for (int i = 0; i < n_refusals; i++)
        if (!shared->met[i]) {
            printf("the list's line for %s, %s, %s was not met\n", refusals[i].gpu, refusals[i].precision, refusals[i].subject);
            shared->failures++;
        }
    printf("%lld cuDNN graphs planned, %lld refused; %d of %d networks and shapes refused as listed; %d failures\n", (long long)shared->graphs,
        (long long)shared->graphs_refused, shared->refused, shared->subjects, shared->failures);
}

int main(int argc, char **argv)
{
    bool wrong = argc == 4 && strcmp(argv[3], "--wrong") == 0;
    if (argc != 3 && !wrong) {
        fprintf(stderr, "usage: plan_check FOLDER REFUSALS [--wrong]\n");
        return 2;
    }
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char pattern[512];
    glob_t gpus = {0}, models = {0};
    snprintf(pattern, sizeof pattern, "%s/gpus/*.json", argv[1]);
    bool found = shared != MAP_FAILED && read_refusals(argv[2]) && glob(pattern, 0, NULL, &gpus) == 0;
    snprintf(pattern, sizeof pattern, "%s/*.onnx", argv[1]);
    if (!found || glob(pattern, 0, NULL, &models) != 0) {
        fprintf(stderr, "plan_check: no GPUs or models in %s\n", argv[1]);
        return 2;
    }
    add_resnet50();
    add_resnet18_cifar();
    add_mobilenet_v2();
    add_convnext_tiny();
    add_vgg16();
    add_awkward();
    for (int i = 0; i < n_shapes; i++)
        complete(&shapes[i].desc);
    run_all(&gpus, &models, wrong);
    report();
    int failures = shared->failures;
    globfree(&gpus);
    globfree(&models);
    munmap(shared, sizeof *shared);
    return failures != 0;
}
