/* Convolutions and their gradients against loops in double precision, over the shapes of real networks in small and over
 * awkward ones. Workspaces and results are NaN before a call, so what is read unwritten or left unwritten shows.
 *
 * Tolerances, relative to the largest magnitude of the reference: sums of n products of numbers of one size lose about
 * sqrt(n) * 2^-24 when rounded one by one, which for the longest sums here (weights: N * OH * OW) is below 2e-5; Winograd's
 * transforms for 4x4 outputs amplify rounding by about 10 in the worst element, hence 5e-5. */
#include "base/rng.h"
#include "check.h"
#include "kernels/conv.h"
#include "kernels/winograd.h"

#include <stdlib.h>

#define DIRECT_TOLERANCE 2e-5
#define WINOGRAD_TOLERANCE 5e-5

static PapaRng rng;

typedef struct Tensors {
    int64_t n_x, n_y, n_w, n_b;
    float *x, *w, *b, *dy;
    double *y, *dx, *dw, *db; /* the reference */
} Tensors;

static float *random_floats(int64_t n)
{
    float *p = malloc((size_t)(n > 0 ? n : 1) * sizeof *p);
    for (int64_t i = 0; i < n; i++)
        p[i] = 2 * papa_rng_float(&rng) - 1;
    return p;
}

static void reference(const PapaConvDesc *d, Tensors *t)
{
    int64_t CG = d->C / d->groups, KG = d->K / d->groups;
    for (int64_t n = 0; n < d->N; n++)
        for (int64_t p = 0; p < d->OH; p++)
            for (int64_t q = 0; q < d->OW; q++)
                for (int64_t k = 0; k < d->K; k++) {
                    int64_t out = ((n * d->OH + p) * d->OW + q) * d->K + k;
                    double sum = d->bias ? t->b[k] : 0, grad = t->dy[out];
                    for (int64_t r = 0; r < d->R; r++)
                        for (int64_t s = 0; s < d->S; s++) {
                            int64_t h = p * d->stride[0] - d->pad[0] + r * d->dilation[0];
                            int64_t w = q * d->stride[1] - d->pad[1] + s * d->dilation[1];
                            if (h < 0 || h >= d->H || w < 0 || w >= d->W)
                                continue;
                            int64_t in = ((n * d->H + h) * d->W + w) * d->C + k / KG * CG, at = (k * CG * d->R + r) * d->S + s;
                            for (int64_t c = 0; c < CG; c++) {
                                sum += (double)t->x[in + c] * t->w[at + c * d->R * d->S];
                                t->dx[in + c] += grad * t->w[at + c * d->R * d->S];
                                t->dw[at + c * d->R * d->S] += grad * t->x[in + c];
                            }
                        }
                    t->y[out] = d->relu && sum < 0 ? 0 : sum;
                    t->db[k] += grad;
                }
}

static Tensors make_tensors(const PapaConvDesc *d)
{
    Tensors t = {.n_x = d->N * d->H * d->W * d->C, .n_y = d->N * d->OH * d->OW * d->K,
        .n_w = d->K * (d->C / d->groups) * d->R * d->S, .n_b = d->K};
    t.x = random_floats(t.n_x), t.w = random_floats(t.n_w), t.b = random_floats(t.n_b), t.dy = random_floats(t.n_y);
    t.y = calloc((size_t)t.n_y + 1, sizeof(double)), t.dx = calloc((size_t)t.n_x + 1, sizeof(double));
    t.dw = calloc((size_t)t.n_w + 1, sizeof(double)), t.db = calloc((size_t)t.n_b + 1, sizeof(double));
    reference(d, &t);
    return t;
}

static void free_tensors(Tensors *t)
{
    free(t->x), free(t->w), free(t->b), free(t->dy), free(t->y), free(t->dx), free(t->dw), free(t->db);
}

/* base: what the gradient was added to; NULL: nothing. */
static void compare(const PapaConvDesc *d, const char *what, const char *how, const float *got, const double *want,
    const float *base, int64_t n)
{
    double largest = 0, error = 0;
    for (int64_t i = 0; i < n; i++) {
        double expected = want[i] + (base ? base[i] : 0), e = fabs(got[i] - expected);
        largest = fmax(largest, fabs(expected));
        error = e <= error ? error : e; /* a NaN stays */
    }
    double tolerance = largest * (strstr(how, "winograd") ? WINOGRAD_TOLERANCE : DIRECT_TOLERANCE);
    CHECK(error <= tolerance, "%s by %s: N %lld, %lldx%lldx%lld -> %lldx%lldx%lld, %lldx%lld, groups %lld, bias %d, relu %d: "
        "error %g, largest %g",
        what, how, (long long)d->N, (long long)d->H, (long long)d->W, (long long)d->C, (long long)d->OH, (long long)d->OW, (long long)d->K,
        (long long)d->R, (long long)d->S, (long long)d->groups, d->bias, d->relu, error, largest);
}

static void *poisoned(size_t bytes)
{
    size_t rounded = bytes ? (bytes + 63) & ~(size_t)63 : 64; /* no more, so that sanitizers see what goes beyond */
    void *p = aligned_alloc(64, rounded);
    memset(p, 0xff, rounded);
    return p;
}

static void *workspace_for(const PapaConv *conv, PapaConvPass pass)
{
    return poisoned(papa_conv_workspace_cpu(conv, pass));
}

/* Results of the first device, to compare the second's with. */
typedef struct Kept {
    float *y, *dx, *dw;
} Kept;

static void test_fwd(PapaDevice *dev, const PapaConv *conv, const PapaConvDesc *d, const Tensors *t, float *y)
{
    const char *how = papa_conv_describe_cpu(conv, PAPA_CONV_FWD);
    void *workspace = workspace_for(conv, PAPA_CONV_FWD);
    float *again = poisoned((size_t)t->n_y * sizeof *y);
    CHECK_OK(papa_conv_fwd_cpu(dev, conv, y, t->x, t->w, d->bias ? t->b : NULL, workspace));
    compare(d, "y", how, y, t->y, NULL, t->n_y);
    CHECK_OK(papa_conv_fwd_cpu(dev, conv, again, t->x, t->w, d->bias ? t->b : NULL, workspace));
    CHECK(!memcmp(y, again, (size_t)t->n_y * sizeof *y), "y by %s differs the second time", how);
    free(workspace), free(again);
}

static void test_bwd_data(PapaDevice *dev, const PapaConv *conv, const PapaConvDesc *d, const Tensors *t, float *dx)
{
    const char *how = papa_conv_describe_cpu(conv, PAPA_CONV_BWD_DATA);
    void *workspace = workspace_for(conv, PAPA_CONV_BWD_DATA);
    CHECK_OK(papa_conv_bwd_data_cpu(dev, conv, dx, t->dy, t->w, workspace, false));
    compare(d, "dx", how, dx, t->dx, NULL, t->n_x);
    float *sum = poisoned((size_t)t->n_x * sizeof *sum);
    memcpy(sum, t->x, (size_t)t->n_x * sizeof *sum);
    CHECK_OK(papa_conv_bwd_data_cpu(dev, conv, sum, t->dy, t->w, workspace, true));
    compare(d, "dx accumulated", how, sum, t->dx, t->x, t->n_x);
    free(workspace), free(sum);
}

static void test_bwd_weights(PapaDevice *dev, const PapaConv *conv, const PapaConvDesc *d, const Tensors *t, float *dw)
{
    const char *how = papa_conv_describe_cpu(conv, PAPA_CONV_BWD_WEIGHTS);
    void *workspace = workspace_for(conv, PAPA_CONV_BWD_WEIGHTS);
    float *db = poisoned((size_t)t->n_b * sizeof *db), *sum = poisoned((size_t)t->n_w * sizeof *sum);
    CHECK_OK(papa_conv_bwd_weights_cpu(dev, conv, dw, d->bias ? db : NULL, t->x, t->dy, workspace, false));
    compare(d, "dw", how, dw, t->dw, NULL, t->n_w);
    if (d->bias)
        compare(d, "db", how, db, t->db, NULL, t->n_b);
    memcpy(sum, t->w, (size_t)t->n_w * sizeof *sum);
    memcpy(db, t->b, (size_t)t->n_b * sizeof *db);
    CHECK_OK(papa_conv_bwd_weights_cpu(dev, conv, sum, db, t->x, t->dy, workspace, true));
    compare(d, "dw accumulated", how, sum, t->dw, t->w, t->n_w);
    compare(d, "db accumulated", how, db, t->db, t->b, t->n_b);
    free(workspace), free(db), free(sum);
}

/* All passes on one device; the results into kept. */
static void test_passes(PapaDevice *dev, const PapaConvDesc *d, const Tensors *t, Kept *kept, bool winograd[3])
{
    PapaConv *conv;
    papa_device_enter(dev);
    kept->y = poisoned((size_t)t->n_y * sizeof(float));
    kept->dx = poisoned((size_t)t->n_x * sizeof(float));
    kept->dw = poisoned((size_t)t->n_w * sizeof(float));
    CHECK_OK(papa_conv_create_cpu(dev, &conv, d, true));
    for (int pass = 0; pass < 3; pass++)
        winograd[pass] = strstr(papa_conv_describe_cpu(conv, (PapaConvPass)pass), "winograd") != NULL;
    test_fwd(dev, conv, d, t, kept->y);
    test_bwd_data(dev, conv, d, t, kept->dx);
    test_bwd_weights(dev, conv, d, t, kept->dw);
    papa_conv_free_cpu(conv);
    CHECK_OK(papa_conv_create_cpu(dev, &conv, d, false));
    test_fwd(dev, conv, d, t, kept->y);
    papa_conv_free_cpu(conv);
}

static int n_winograd[3];

/* One pass of one unit: what it gives alone and added to what was there. Returns the former. */
static float *winograd_pass(PapaDevice *dev, const PapaWinograd *plan, const PapaConvDesc *d, const Tensors *t)
{
    static const char *const names[] = {"y", "dx", "dw"};
    const double *wanted[] = {t->y, t->dx, t->dw};
    const float *before[] = {t->dy, t->x, t->w};
    const int64_t counts[] = {t->n_y, t->n_x, t->n_w};
    int64_t n = counts[plan->pass];
    float *result = poisoned((size_t)n * sizeof *result), *sum = poisoned((size_t)n * sizeof *sum);
    void *workspace = poisoned(papa_winograd_workspace(plan));
    memcpy(sum, before[plan->pass], (size_t)n * sizeof *sum);
    if (plan->pass == PAPA_CONV_FWD) {
        papa_winograd_conv(dev, plan, result, t->x, t->w, d->bias ? t->b : NULL, d->relu, false, workspace);
    } else if (plan->pass == PAPA_CONV_BWD_DATA) {
        papa_winograd_conv(dev, plan, result, t->dy, t->w, NULL, false, false, workspace);
        papa_winograd_conv(dev, plan, sum, t->dy, t->w, NULL, false, true, workspace);
    } else {
        papa_winograd_bwd_weights(dev, plan, result, t->x, t->dy, false, workspace);
        papa_winograd_bwd_weights(dev, plan, sum, t->x, t->dy, true, workspace);
    }
    compare(d, names[plan->pass], plan->unit->name, result, wanted[plan->pass], NULL, n);
    if (plan->pass != PAPA_CONV_FWD)
        compare(d, "accumulated gradient", plan->unit->name, sum, wanted[plan->pass], before[plan->pass], n);
    free(sum), free(workspace);
    return result;
}

/* Every unit that this processor can run, also where it wouldn't be chosen, on 1 and 3 threads. */
static void test_units(PapaDevice *devices[2], const PapaConvDesc *d, const Tensors *t)
{
    const int64_t counts[] = {t->n_y, t->n_x, t->n_w};
    for (const PapaWinogradUnit *const *unit = papa_winograd_units(); *unit; unit++)
        for (int pass = 0; pass < 3; pass++) {
            float *results[2];
            for (int i = 0; i < 2; i++) {
                PapaWinograd plan;
                if (!papa_winograd_plan(&plan, d, (PapaConvPass)pass, devices[i]->n_threads, *unit))
                    return;
                results[i] = winograd_pass(devices[i], &plan, d, t);
            }
            CHECK(!memcmp(results[0], results[1], (size_t)counts[pass] * sizeof(float)), "%s: pass %d depends on the number of threads",
                (*unit)->name, pass);
            free(results[0]), free(results[1]);
        }
}

static double *widened(const float *x, int64_t n)
{
    double *to = malloc((size_t)(n > 0 ? n : 1) * sizeof *to);
    for (int64_t i = 0; i < n; i++)
        to[i] = (double)x[i];
    return to;
}

/* The reference half. */
static void test_in_double(int n_threads, const PapaConvDesc *d, const Tensors *t)
{
    PapaDevice *dev;
    PapaConv *conv;
    CHECK_OK(papa_device_open_reference(&dev, n_threads));
    CHECK_OK(papa_conv_create_ref(dev, &conv, d, false));
    double *x = widened(t->x, t->n_x), *w = widened(t->w, t->n_w), *b = widened(t->b, t->n_b), *y = poisoned((size_t)t->n_y * sizeof *y);
    void *workspace = poisoned(papa_conv_workspace_ref(conv, PAPA_CONV_FWD));
    CHECK_OK(papa_conv_fwd_ref(dev, conv, (PapaReal *)y, (const PapaReal *)x, (const float *)w, d->bias ? (const float *)b : NULL, workspace));
    double size = 0, error = 0;
    for (int64_t i = 0; i < t->n_y; i++) {
        const double e = fabs(y[i] - t->y[i]);
        size = fmax(size, fabs(t->y[i]));
        error = e <= error ? error : e; /* NaN counts as worst */
    }
    CHECK(error <= 1e-13 * size, "%lldx%lldx%lldx%lld, %lld of %lldx%lld in double: error %g of %g", (long long)d->N, (long long)d->H, (long long)d->W,
        (long long)d->C, (long long)d->K, (long long)d->R, (long long)d->S, error, size);
    free(x), free(w), free(b), free(y), free(workspace);
    papa_conv_free_ref(conv);
    papa_device_close(dev);
}

static void test_shape(PapaDevice *devices[2], const PapaConvDesc *d)
{
    Tensors t = make_tensors(d);
    Kept kept[2];
    bool winograd[3];
    for (int i = 0; i < 2; i++)
        test_passes(devices[i], d, &t, &kept[i], winograd);
    if (winograd[PAPA_CONV_FWD])
        CHECK(!memcmp(kept[0].y, kept[1].y, (size_t)t.n_y * sizeof(float)), "y depends on the number of threads");
    if (winograd[PAPA_CONV_BWD_DATA])
        CHECK(!memcmp(kept[0].dx, kept[1].dx, (size_t)t.n_x * sizeof(float)), "dx depends on the number of threads");
    if (winograd[PAPA_CONV_BWD_WEIGHTS])
        CHECK(!memcmp(kept[0].dw, kept[1].dw, (size_t)t.n_w * sizeof(float)), "dw depends on the number of threads");
    test_units(devices, d, &t);
    test_in_double(1, d, &t);
    test_in_double(3, d, &t);
    for (int i = 0; i < 3; i++)
        n_winograd[i] += winograd[i];
    for (int i = 0; i < 2; i++)
        free(kept[i].y), free(kept[i].dx), free(kept[i].dw);
    free_tensors(&t);
}

static int64_t out_size(int64_t size, int64_t pads, int64_t filter, int64_t dilation, int64_t stride)
{
    int64_t room = size + pads - dilation * (filter - 1) - 1;
    return room < 0 ? 0 : room / stride + 1;
}

static PapaConvDesc with_output(PapaConvDesc d)
{
    for (int i = 0; i < 2; i++) {
        d.stride[i] += !d.stride[i];
        d.dilation[i] += !d.dilation[i];
    }
    d.groups += !d.groups;
    d.OH = out_size(d.H, d.pad[0] + d.pad[2], d.R, d.dilation[0], d.stride[0]);
    d.OW = out_size(d.W, d.pad[1] + d.pad[3], d.S, d.dilation[1], d.stride[1]);
    return d;
}

#define PAD(n) {n, n, n, n}

static void test_shapes(PapaDevice *devices[2])
{
    static const PapaConvDesc shapes[] = {
        /* LeNet, VGG, residual networks, in small batches */
        {.N = 3, .H = 28, .W = 28, .C = 1, .K = 6, .R = 5, .S = 5, .pad = PAD(2), .bias = true},
        {.N = 3, .H = 14, .W = 14, .C = 6, .K = 16, .R = 5, .S = 5, .bias = true, .relu = true},
        {.N = 2, .H = 28, .W = 28, .C = 1, .K = 16, .R = 3, .S = 3, .pad = PAD(1)},
        {.N = 2, .H = 32, .W = 32, .C = 3, .K = 16, .R = 3, .S = 3, .pad = PAD(1)},
        {.N = 2, .H = 32, .W = 32, .C = 16, .K = 16, .R = 3, .S = 3, .pad = PAD(1)},
        {.N = 2, .H = 28, .W = 28, .C = 16, .K = 16, .R = 3, .S = 3, .pad = PAD(1), .bias = true, .relu = true},
        {.N = 2, .H = 32, .W = 32, .C = 16, .K = 32, .R = 3, .S = 3, .stride = {2, 2}, .pad = PAD(1)},
        {.N = 2, .H = 16, .W = 16, .C = 32, .K = 32, .R = 3, .S = 3, .pad = PAD(1), .relu = true},
        {.N = 4, .H = 14, .W = 14, .C = 32, .K = 64, .R = 3, .S = 3, .pad = PAD(1), .bias = true},
        {.N = 8, .H = 7, .W = 7, .C = 64, .K = 64, .R = 3, .S = 3, .pad = PAD(1), .bias = true, .relu = true},
        {.N = 5, .H = 8, .W = 8, .C = 64, .K = 32, .R = 3, .S = 3, .pad = PAD(1)},
        {.N = 16, .H = 4, .W = 4, .C = 128, .K = 128, .R = 3, .S = 3, .pad = PAD(1)},
        {.N = 2, .H = 16, .W = 16, .C = 64, .K = 128, .R = 1, .S = 1, .stride = {2, 2}},
        {.N = 2, .H = 9, .W = 9, .C = 16, .K = 48, .R = 1, .S = 1, .bias = true, .relu = true},
        /* Winograd's edges: sizes around 4, padding of 0 to 2 on any side, odd multiples of 16 */
        {.N = 40, .H = 5, .W = 6, .C = 48, .K = 80, .R = 3, .S = 3, .bias = true, .relu = true},
        {.N = 40, .H = 4, .W = 5, .C = 32, .K = 48, .R = 3, .S = 3, .pad = {0, 1, 2, 1}},
        {.N = 40, .H = 3, .W = 9, .C = 80, .K = 32, .R = 3, .S = 3, .pad = {2, 0, 1, 2}, .bias = true},
        {.N = 41, .H = 6, .W = 7, .C = 96, .K = 112, .R = 3, .S = 3, .pad = PAD(2), .relu = true},
        {.N = 70, .H = 1, .W = 1, .C = 32, .K = 32, .R = 3, .S = 3, .pad = PAD(1)},
        {.N = 9, .H = 11, .W = 13, .C = 160, .K = 176, .R = 3, .S = 3, .pad = PAD(1), .bias = true},
        {.N = 7, .H = 10, .W = 6, .C = 256, .K = 272, .R = 3, .S = 3, .pad = {1, 1, 0, 0}},
        {.N = 5, .H = 9, .W = 9, .C = 512, .K = 16, .R = 3, .S = 3, .pad = PAD(1)},
        {.N = 33, .H = 8, .W = 8, .C = 48, .K = 48, .R = 3, .S = 3, .pad = PAD(1)}, /* weights: chunks, the last one short */
        {.N = 12, .H = 28, .W = 28, .C = 16, .K = 32, .R = 3, .S = 3, .pad = PAD(1)}, /* weights: shards of more than one block */
        /* dilation, groups, depth-wise, asymmetry */
        {.N = 2, .H = 12, .W = 11, .C = 16, .K = 32, .R = 3, .S = 3, .dilation = {2, 3}, .pad = {2, 3, 2, 3}},
        {.N = 2, .H = 9, .W = 10, .C = 32, .K = 48, .R = 3, .S = 3, .pad = PAD(1), .groups = 2, .bias = true, .relu = true},
        {.N = 2, .H = 9, .W = 10, .C = 12, .K = 6, .R = 3, .S = 3, .pad = PAD(1), .groups = 3, .bias = true},
        {.N = 2, .H = 9, .W = 10, .C = 32, .K = 32, .R = 3, .S = 3, .pad = PAD(1), .groups = 32, .bias = true},
        {.N = 2, .H = 9, .W = 10, .C = 7, .K = 7, .R = 3, .S = 3, .stride = {2, 2}, .pad = PAD(1), .groups = 7},
        {.N = 2, .H = 9, .W = 10, .C = 4, .K = 8, .R = 5, .S = 3, .pad = PAD(1), .groups = 4, .relu = true},
        {.N = 2, .H = 11, .W = 9, .C = 5, .K = 7, .R = 3, .S = 2, .stride = {1, 2}, .pad = {0, 1, 2, 0}, .bias = true},
        {.N = 2, .H = 17, .W = 13, .C = 20, .K = 24, .R = 4, .S = 7, .stride = {3, 2}, .pad = {3, 1, 0, 2}, .bias = true, .relu = true},
        /* ones and nothing */
        {.N = 1, .H = 1, .W = 1, .C = 1, .K = 1, .R = 1, .S = 1, .bias = true},
        {.N = 3, .H = 5, .W = 7, .C = 1, .K = 1, .R = 3, .S = 3, .pad = PAD(1), .relu = true},
        {.N = 1, .H = 1, .W = 40, .C = 3, .K = 2, .R = 1, .S = 5, .bias = true},
        {.N = 3, .H = 7, .W = 7, .C = 2, .K = 3, .R = 7, .S = 7, .bias = true},
        {.N = 0, .H = 8, .W = 8, .C = 16, .K = 16, .R = 3, .S = 3, .pad = PAD(1), .bias = true},
        {.N = 2, .H = 2, .W = 9, .C = 16, .K = 16, .R = 3, .S = 3, .bias = true},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        PapaConvDesc d = with_output(shapes[i]);
        test_shape(devices, &d);
    }
}

static int64_t between(int64_t low, int64_t high)
{
    return low + papa_rng_below(&rng, (uint32_t)(high - low + 1));
}

static void test_random_shapes(PapaDevice *devices[2])
{
    for (int i = 0; i < 40; i++) {
        bool three = i % 2;
        int64_t groups = i % 5 == 4 ? between(2, 4) : 1, unit = three ? 16 : 1;
        PapaConvDesc d = {.N = between(1, 4), .H = between(6, 20), .W = between(6, 20), .C = groups * unit * between(1, 5),
            .K = groups * unit * between(1, 5), .R = three ? 3 : between(1, 6), .S = three ? 3 : between(1, 6),
            .pad = {between(0, 2), between(0, 2), between(0, 2), between(0, 2)}, .groups = groups, .bias = i % 3 == 0, .relu = i % 4 < 2};
        if (!three)
            d.stride[0] = between(1, 3), d.stride[1] = between(1, 3), d.dilation[0] = between(1, 2);
        d = with_output(d);
        test_shape(devices, &d);
    }
}

static void test_errors(PapaDevice *dev)
{
    PapaConv *conv;
    PapaConvDesc d = with_output((PapaConvDesc){.N = 1, .H = 8, .W = 8, .C = 4, .K = 4, .R = 3, .S = 3});
    d.OW = 7;
    CHECK_FAILS(papa_conv_create_cpu(dev, &conv, &d, true), PAPA_ERR_ARGUMENT, "output is 6x7, expected 6x6");
    d.OW = 6, d.groups = 3;
    CHECK_FAILS(papa_conv_create_cpu(dev, &conv, &d, true), PAPA_ERR_ARGUMENT, "groups 3");
    papa_conv_free_cpu(NULL);
}

int main(void)
{
    PapaDevice *devices[2];
    rng = papa_rng(3, PAPA_RNG_TEST, -1, 0, 0);
    for (int i = 0; i < 2; i++)
        if (papa_device_open_cpu(&devices[i], 1 + 2 * i) != PAPA_OK) {
            printf("%s\n", papa_error());
            return 1;
        }
    test_shapes(devices);
    test_random_shapes(devices);
    test_errors(devices[0]);
    printf("by Winograd: %d forward, %d data, %d weights\n", n_winograd[0], n_winograd[1], n_winograd[2]);
    for (int i = 0; i < 2; i++)
        papa_device_close(devices[i]);
    return check_result();
}
