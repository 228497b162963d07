/* Times every convolution of the networks that papa is measured on, each pass, next to oneDNN's direct convolution on the same
 * NHWC maps with its weights already in its own layout. Both run in turn on maps that rotate, so that they come from memory as
 * in training. On one thread the clock is the processor's time, on which other programs weigh less.
 *
 *     bench_conv [NAME [THREADS [SECONDS]]]     NAME: only networks with this name; THREADS: 1; SECONDS for each line: .1 */
#include "device/onednn.h"
#include "kernels/conv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAPS = 3, MAX_RUNS = 2000 };

typedef struct Layer {
    const char *network;
    int64_t N, size, C, K, filter, stride, pad;
    int count; /* such layers in the network */
} Layer;

static const Layer layers[] = {
    {"lenet-28", 64, 28, 1, 6, 5, 1, 2, 1}, {"lenet-28", 64, 14, 6, 16, 5, 1, 0, 1},
    {"resnet20-28", 128, 28, 1, 16, 3, 1, 1, 1}, {"resnet20-28", 128, 28, 16, 16, 3, 1, 1, 6}, {"resnet20-28", 128, 28, 16, 32, 3, 2, 1, 1},
    {"resnet20-28", 128, 14, 32, 32, 3, 1, 1, 5}, {"resnet20-28", 128, 14, 32, 64, 3, 2, 1, 1}, {"resnet20-28", 128, 7, 64, 64, 3, 1, 1, 5},
    {"resnet20-32", 128, 32, 3, 16, 3, 1, 1, 1}, {"resnet20-32", 128, 32, 16, 16, 3, 1, 1, 6}, {"resnet20-32", 128, 32, 16, 32, 3, 2, 1, 1},
    {"resnet20-32", 128, 16, 32, 32, 3, 1, 1, 5}, {"resnet20-32", 128, 16, 32, 64, 3, 2, 1, 1}, {"resnet20-32", 128, 8, 64, 64, 3, 1, 1, 5},
    {"vgg-28", 64, 28, 1, 32, 3, 1, 1, 1}, {"vgg-28", 64, 28, 32, 32, 3, 1, 1, 1}, {"vgg-28", 64, 14, 32, 64, 3, 1, 1, 1},
    {"vgg-28", 64, 14, 64, 64, 3, 1, 1, 1}, {"vgg-28", 64, 7, 64, 128, 3, 1, 1, 1}, {"vgg-28", 64, 7, 128, 128, 3, 1, 1, 1},
    {"resnet18-32", 64, 32, 64, 64, 3, 1, 1, 4}, {"resnet18-32", 64, 16, 128, 128, 3, 1, 1, 3}, {"resnet18-32", 64, 8, 256, 256, 3, 1, 1, 3},
    {"resnet18-32", 64, 4, 512, 512, 3, 1, 1, 3}, {"resnet18-32", 64, 32, 64, 128, 1, 2, 0, 1}, {"resnet18-32", 64, 32, 64, 128, 3, 2, 1, 1},
};

static _Noreturn void die(void)
{
    fprintf(stderr, "%s\n", papa_error());
    exit(1);
}

#define NEED(expr)              \
    do {                        \
        if ((expr) != PAPA_OK)  \
            die();              \
    } while (0)

static clockid_t clock_used = CLOCK_MONOTONIC;

static double now(void)
{
    struct timespec t;
    clock_gettime(clock_used, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static float *filled(PapaDevice *dev, int64_t n)
{
    void *memory;
    NEED(papa_device_alloc(dev, &memory, (size_t)n * sizeof(float) + 64, "a benchmark"));
    float *p = memory;
    for (int64_t i = 0; i < n; i++)
        p[i] = (float)(i * 2654435761u >> 8 & 0xffff) / 65536 - .5f;
    return p;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *times, int n)
{
    qsort(times, (size_t)n, sizeof *times, by_size);
    return times[n / 2];
}

typedef struct Bench {
    PapaDevice *dev;
    PapaConvDesc desc;
    PapaConv *conv;
    PapaDnnlOp *direct[3];
    float *x[MAPS], *y[MAPS], *w, *dnnl_w;
    void *workspace;
} Bench;

static void run_ours(Bench *b, PapaConvPass pass, int i)
{
    if (pass == PAPA_CONV_FWD)
        NEED(papa_conv_fwd_cpu(b->dev, b->conv, b->y[i], b->x[i], b->w, NULL, b->workspace));
    else if (pass == PAPA_CONV_BWD_DATA)
        NEED(papa_conv_bwd_data_cpu(b->dev, b->conv, b->x[i], b->y[i], b->w, b->workspace, false));
    else
        NEED(papa_conv_bwd_weights_cpu(b->dev, b->conv, b->w, NULL, b->x[i], b->y[i], b->workspace, false));
}

static void run_direct(Bench *b, PapaConvPass pass, int i)
{
    void *const args[PAPA_DNNL_N_ARGS] = {[PAPA_DNNL_X] = b->x[i], [PAPA_DNNL_W] = b->dnnl_w, [PAPA_DNNL_Y] = b->y[i]};
    NEED(papa_dnnl_run(b->dev, b->direct[pass], args, b->workspace));
}

static void make(Bench *b, const Layer *l)
{
    int64_t out = (l->size + 2 * l->pad - l->filter) / l->stride + 1, n_w = l->K * l->C * l->filter * l->filter;
    b->desc = (PapaConvDesc){.N = l->N, .H = l->size, .W = l->size, .C = l->C, .K = l->K, .R = l->filter, .S = l->filter, .OH = out, .OW = out,
        .stride = {l->stride, l->stride}, .dilation = {1, 1}, .pad = {l->pad, l->pad, l->pad, l->pad}, .groups = 1};
    const PapaConvDesc *d = &b->desc;
    NEED(papa_conv_create_cpu(b->dev, &b->conv, d, true));
    size_t bytes = 0, weight_bytes = 0;
    for (int pass = 0; pass < 3; pass++) {
        PapaDnnlConv conv = {.pass = (PapaDnnlPass)pass, .training = true, .stride = {l->stride, l->stride}, .dilation = {1, 1},
            .pad_low = {l->pad, l->pad}, .pad_high = {l->pad, l->pad}};
        conv.args[PAPA_DNNL_X] = (PapaDnnlLayout){.n_dims = 4, .dims = {d->N, d->C, d->H, d->W},
            .strides = {d->H * d->W * d->C, 1, d->W * d->C, d->C}};
        conv.args[PAPA_DNNL_Y] = (PapaDnnlLayout){.n_dims = 4, .dims = {d->N, d->K, out, out},
            .strides = {out * out * d->K, 1, out * d->K, d->K}};
        conv.args[PAPA_DNNL_W] = (PapaDnnlLayout){.n_dims = 4, .dims = {d->K, d->C, d->R, d->S}, .any = true};
        NEED(papa_dnnl_conv(&b->direct[pass], &conv));
        size_t sizes[] = {papa_conv_workspace_cpu(b->conv, (PapaConvPass)pass), papa_dnnl_scratch_bytes(b->direct[pass])};
        size_t w = papa_dnnl_arg_bytes(b->direct[pass], PAPA_DNNL_W);
        for (int i = 0; i < 2; i++)
            bytes = bytes > sizes[i] ? bytes : sizes[i];
        weight_bytes = weight_bytes > w ? weight_bytes : w;
    }
    NEED(papa_device_alloc(b->dev, &b->workspace, bytes, "a workspace"));
    for (int i = 0; i < MAPS; i++) {
        b->x[i] = filled(b->dev, l->N * l->size * l->size * l->C);
        b->y[i] = filled(b->dev, l->N * out * out * l->K);
    }
    b->w = filled(b->dev, n_w);
    b->dnnl_w = filled(b->dev, (int64_t)(weight_bytes / sizeof(float)));
}

static void drop(Bench *b)
{
    papa_conv_free_cpu(b->conv);
    for (int i = 0; i < 3; i++)
        papa_dnnl_free(b->direct[i]);
    for (int i = 0; i < MAPS; i++) {
        papa_device_free(b->dev, b->x[i]);
        papa_device_free(b->dev, b->y[i]);
    }
    papa_device_free(b->dev, b->w);
    papa_device_free(b->dev, b->dnnl_w);
    papa_device_free(b->dev, b->workspace);
}

/* Medians of both, in seconds. */
static void time_pass(Bench *b, PapaConvPass pass, double seconds, double *ours, double *direct)
{
    static double times[2][MAX_RUNS];
    int n = 0;
    run_ours(b, pass, 0);
    run_direct(b, pass, 0);
    for (double start = now(), last = start; n < MAX_RUNS && (n < 5 || last - start < seconds); n++) {
        run_ours(b, pass, n % MAPS);
        double middle = now();
        run_direct(b, pass, n % MAPS);
        double end = now();
        times[0][n] = middle - last, times[1][n] = end - middle;
        last = end;
    }
    *ours = median(times[0], n), *direct = median(times[1], n);
}

int main(int argc, char **argv)
{
    const char *only = argc > 1 ? argv[1] : "";
    int threads = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 1;
    double seconds = argc > 3 ? strtod(argv[3], NULL) : .1;
    static const char *const passes[] = {"forward", "data", "weights"};
    Bench b = {0};
    if (threads == 1)
        clock_used = CLOCK_THREAD_CPUTIME_ID;
    NEED(papa_device_open_cpu(&b.dev, threads));
    printf("oneDNN %s, %d threads; ms for a batch, GFLOP/s as a direct convolution\n", papa_dnnl_version(), threads);
    for (size_t i = 0; i < sizeof layers / sizeof *layers;) {
        const char *network = layers[i].network;
        double sums[2] = {0};
        for (; i < sizeof layers / sizeof *layers && !strcmp(layers[i].network, network); i++) {
            const Layer *l = &layers[i];
            if (*only && strcmp(only, network))
                continue;
            make(&b, l);
            double gflop = 2e-9 * (double)(l->N * b.desc.OH * b.desc.OW * l->K * l->C * l->filter * l->filter);
            for (int pass = 0; pass < 3; pass++) {
                if (pass == PAPA_CONV_BWD_DATA && l->C < 4)
                    continue; /* nobody asks for an image's gradient */
                double ours, direct;
                time_pass(&b, (PapaConvPass)pass, seconds, &ours, &direct);
                sums[0] += l->count * ours, sums[1] += l->count * direct;
                printf("%-12s %3lldx%2lldx%2lldx%3lld -> %3lld, %lldx%lld/%lld x%d  %-8s %8.3f ms %5.0f  direct %8.3f ms %5.0f  %5.2f  "
                    "%s | %s\n",
                    network, (long long)l->N, (long long)l->size, (long long)l->size, (long long)l->C, (long long)l->K, (long long)l->filter,
                    (long long)l->filter, (long long)l->stride, l->count, passes[pass], ours * 1e3, gflop / ours, direct * 1e3, gflop / direct,
                    direct / ours, papa_conv_describe_cpu(b.conv, (PapaConvPass)pass), papa_dnnl_implementation(b.direct[pass]));
                fflush(stdout);
            }
            drop(&b);
        }
        if (sums[0] > 0)
            printf("%-12s all convolutions of a step %8.3f ms, direct %8.3f ms, %.2f\n", network, sums[0] * 1e3, sums[1] * 1e3,
                sums[1] / sums[0]);
    }
    papa_device_close(b.dev);
    return 0;
}
