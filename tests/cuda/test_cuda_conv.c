/* Convolutions on CUDA against the CPU's: all passes, with and without bias, ReLU and accumulation, over awkward shapes.
 *
 * Tolerances, relative to the largest result: in float32 the CPU's Winograd is the coarser one, 5e-5 (see test_conv.c). In bfloat16 both sides
 * start from the same rounded numbers and weights; a weight's gradient is rounded to bfloat16 by cuDNN, and a sum that a bias is added to
 * afterwards once more: 1/256 of the largest. TF32 rounds each factor to 11 digits: 1/1024, a product's factors together at most 1/512. */
#include "cudatest.h"
#include "kernels/conv.h"

static PapaDevice *cuda_tf32;

static double tolerance(void)
{
    return cuda->precision == PAPA_PRECISION_BF16 ? 1. / 256 : cuda->precision == PAPA_PRECISION_TF32 ? 1. / 512 : 5e-5;
}

/* Parameters: float32 on both sides, but numbers that a bfloat16 can hold where the products are bfloat16's. */
static Array *parameters(int64_t n)
{
    float *host = malloc((size_t)n * sizeof *host + 1);
    for (int64_t i = 0; i < n; i++) {
        host[i] = 2 * papa_rng_float(&rng) - 1;
        if (cuda->element == PAPA_BFLOAT16)
            host[i] = bf16_rounded(host[i]);
    }
    return array_of(host, n, PAPA_FLOAT32);
}

typedef struct Case {
    PapaConvDesc desc;
    PapaConv *on_cpu, *on_cuda;
    int64_t n_x, n_y, n_w;
    void *cpu_workspace[3], *cuda_workspace[3];
} Case;

static void open_case(Case *c, const PapaConvDesc *d)
{
    *c = (Case){.desc = *d, .n_x = d->N * d->H * d->W * d->C, .n_y = d->N * d->OH * d->OW * d->K, .n_w = d->K * d->R * d->S * (d->C / d->groups)};
    must(papa_conv_create_cpu(cpu, &c->on_cpu, d, true));
    must(papa_conv_create_cuda(cuda, &c->on_cuda, d, true));
    for (int pass = 0; pass < 3; pass++) {
        size_t bytes = papa_conv_workspace_cpu(c->on_cpu, (PapaConvPass)pass);
        must(papa_device_alloc(cpu, &c->cpu_workspace[pass], bytes, "a test"));
        must(papa_device_alloc(cuda, &c->cuda_workspace[pass], papa_conv_workspace_cuda(c->on_cuda, (PapaConvPass)pass), "a test"));
    }
}

static void close_case(Case *c)
{
    must(papa_device_sync(cuda));
    for (int pass = 0; pass < 3; pass++) {
        papa_device_free(cpu, c->cpu_workspace[pass]);
        papa_device_free(cuda, c->cuda_workspace[pass]);
    }
    papa_conv_free_cpu(c->on_cpu);
    papa_conv_free_cuda(c->on_cuda);
    free_arrays();
}

static const char *name_of(const char *pass, const Case *c, bool accumulate)
{
    static char text[200];
    const PapaConvDesc *d = &c->desc;
    snprintf(text, sizeof text, "%s%s of %lldx%lldx%lldx%lld by %lld %lldx%lld, groups %lld, stride %lld, bias %d, relu %d", pass,
        accumulate ? ", added," : "", (long long)d->N, (long long)d->H, (long long)d->W, (long long)d->C, (long long)d->K, (long long)d->R,
        (long long)d->S, (long long)d->groups, (long long)d->stride[0], d->bias, d->relu);
    return text;
}

/* The device's contents must be the same after the call is made again. */
static void check_repeats(const char *what, const Array *a, const float *first)
{
    float *again = from_device(a->device, a->n, a->element);
    CHECK(memcmp(first, again, (size_t)a->n * sizeof *again) == 0, "%s: two equal calls differ", what);
    free(again);
}

static void test_fwd(Case *c)
{
    const PapaConvDesc *d = &c->desc;
    Array *x = reals(c->n_x, -1, 1), *w = parameters(c->n_w), *b = parameters(d->K), *y = out_reals(c->n_y, false);
    const char *what = name_of("forward", c, false);
    must(papa_conv_fwd_cpu(cpu, c->on_cpu, y->host, x->host, w->host, d->bias ? b->host : NULL, c->cpu_workspace[0]));
    float *first = NULL;
    for (int i = 0; i < 2; i++) {
        must(papa_conv_fwd_cuda(cuda, c->on_cuda, y->device, x->device, w->device, d->bias ? b->device : NULL, c->cuda_workspace[0]));
        if (i == 0)
            first = from_device(y->device, y->n, y->element);
    }
    check_same(what, y, tolerance());
    check_repeats(what, y, first);
    free(first);
}

static void test_bwd_data(Case *c, bool accumulate)
{
    Array *dy = reals(c->n_y, -1, 1), *w = parameters(c->n_w), *dx = out_reals(c->n_x, accumulate);
    must(papa_conv_bwd_data_cpu(cpu, c->on_cpu, dx->host, dy->host, w->host, c->cpu_workspace[1], accumulate));
    float *first = NULL;
    for (int i = 0; i < (accumulate ? 1 : 2); i++) {
        must(papa_conv_bwd_data_cuda(cuda, c->on_cuda, dx->device, dy->device, w->device, c->cuda_workspace[1], accumulate));
        if (i == 0)
            first = from_device(dx->device, dx->n, dx->element);
    }
    const char *what = name_of("data gradient", c, accumulate);
    check_same(what, dx, tolerance());
    check_repeats(what, dx, first);
    free(first);
}

static void test_bwd_weights(Case *c, bool accumulate)
{
    const PapaConvDesc *d = &c->desc;
    Array *x = reals(c->n_x, -1, 1), *dy = reals(c->n_y, -1, 1), *dw = out_floats(c->n_w, accumulate), *db = out_floats(d->K, accumulate);
    must(papa_conv_bwd_weights_cpu(cpu, c->on_cpu, dw->host, d->bias ? db->host : NULL, x->host, dy->host, c->cpu_workspace[2], accumulate));
    float *first = NULL;
    for (int i = 0; i < (accumulate ? 1 : 2); i++) {
        must(papa_conv_bwd_weights_cuda(cuda, c->on_cuda, dw->device, d->bias ? db->device : NULL, x->device, dy->device, c->cuda_workspace[2],
            accumulate));
        if (i == 0)
            first = from_device(dw->device, dw->n, dw->element);
    }
    const char *what = name_of("weights' gradient", c, accumulate);
    check_same(what, dw, tolerance());
    check_repeats(what, dw, first);
    free(first);
    if (d->bias)
        check_same(name_of("bias's gradient", c, accumulate), db, 1e-5);
}

static void test_passes(const PapaConvDesc *d)
{
    Case c;
    open_case(&c, d);
    test_fwd(&c);
    for (int accumulate = 0; accumulate < 2; accumulate++) {
        test_bwd_data(&c, accumulate);
        test_bwd_weights(&c, accumulate);
    }
    close_case(&c);
}

static PapaConvDesc with_output(PapaConvDesc d)
{
    d.stride[0] = d.stride[0] ? d.stride[0] : 1;
    d.stride[1] = d.stride[1] ? d.stride[1] : d.stride[0];
    d.dilation[0] = d.dilation[0] ? d.dilation[0] : 1;
    d.dilation[1] = d.dilation[1] ? d.dilation[1] : d.dilation[0];
    d.groups = d.groups ? d.groups : 1;
    d.OH = (d.H + d.pad[0] + d.pad[2] - d.dilation[0] * (d.R - 1) - 1) / d.stride[0] + 1;
    d.OW = (d.W + d.pad[1] + d.pad[3] - d.dilation[1] * (d.S - 1) - 1) / d.stride[1] + 1;
    return d;
}

static void test_shapes(void)
{
    static const PapaConvDesc shapes[] = {
        {.N = 2, .H = 8, .W = 8, .C = 16, .K = 16, .R = 3, .S = 3, .pad = {1, 1, 1, 1}, .bias = true, .relu = true},
        {.N = 2, .H = 9, .W = 7, .C = 3, .K = 8, .R = 3, .S = 3, .pad = {1, 1, 1, 1}},
        {.N = 1, .H = 7, .W = 7, .C = 5, .K = 7, .R = 3, .S = 3, .pad = {1, 1, 1, 1}, .stride = {2}, .bias = true},
        {.N = 3, .H = 6, .W = 6, .C = 8, .K = 24, .R = 1, .S = 1, .bias = true},
        {.N = 3, .H = 6, .W = 6, .C = 6, .K = 10, .R = 1, .S = 1, .stride = {2}, .relu = true},
        {.N = 2, .H = 8, .W = 8, .C = 8, .K = 8, .R = 3, .S = 3, .pad = {0, 0, 1, 1}, .stride = {2}},
        {.N = 2, .H = 5, .W = 6, .C = 2, .K = 3, .R = 3, .S = 2, .pad = {1, 2, 0, 3}, .bias = true, .relu = true},
        {.N = 2, .H = 9, .W = 9, .C = 4, .K = 4, .R = 3, .S = 3, .pad = {2, 2, 2, 2}, .dilation = {2}},
        {.N = 2, .H = 6, .W = 6, .C = 8, .K = 12, .R = 3, .S = 3, .pad = {1, 1, 1, 1}, .groups = 4, .bias = true},
        {.N = 2, .H = 6, .W = 6, .C = 8, .K = 8, .R = 3, .S = 3, .pad = {1, 1, 1, 1}, .groups = 8},
        {.N = 2, .H = 6, .W = 6, .C = 7, .K = 14, .R = 3, .S = 3, .pad = {1, 1, 1, 1}, .groups = 7, .relu = true},
        {.N = 2, .H = 1, .W = 20, .C = 4, .K = 6, .R = 1, .S = 5, .pad = {0, 2, 0, 2}},
        {.N = 4, .H = 1, .W = 1, .C = 9, .K = 5, .R = 1, .S = 1, .bias = true},
        {.N = 1, .H = 1, .W = 1, .C = 1, .K = 1, .R = 1, .S = 1},
        {.N = 1, .H = 9, .W = 9, .C = 2, .K = 3, .R = 9, .S = 9}, /* more taps than a tile of the filter has */
        {.N = 1, .H = 3, .W = 3, .C = 131, .K = 2, .R = 3, .S = 3, .pad = {1, 1, 1, 1}}, /* more channels */
        {.N = 1, .H = 10, .W = 10, .C = 67, .K = 2, .R = 9, .S = 8, .bias = true}, /* both */
        {.N = 0, .H = 4, .W = 4, .C = 3, .K = 4, .R = 3, .S = 3, .bias = true},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        PapaConvDesc d = with_output(shapes[i]);
        FOR_ELEMENTS
            test_passes(&d);
        cuda = cuda_tf32;
        test_passes(&d);
    }
}

/* A convolution for inference has the forward pass only. */
static void test_inference(void)
{
    PapaConvDesc d = with_output((PapaConvDesc){.N = 2, .H = 6, .W = 5, .C = 4, .K = 8, .R = 3, .S = 3, .pad = {1, 1, 1, 1}, .bias = true, .relu = true});
    PapaConv *conv;
    must(papa_conv_create_cuda(cuda, &conv, &d, false));
    const char *text = papa_conv_describe_cuda(conv, PAPA_CONV_FWD);
    CHECK(strncmp(text, "cuDNN engine ", 13) == 0, "\"%s\"", text);
    text = papa_conv_describe_cuda(conv, PAPA_CONV_BWD_DATA);
    CHECK(strcmp(text, "nothing") == 0, "\"%s\"", text);
    papa_conv_free_cuda(conv);
    papa_conv_free_cuda(NULL);
}

/* Whichever plan wins, the numbers are right; equal convolutions share plans, and tuned ones have their own. */
static void test_tuned(void)
{
    PapaConvDesc d = with_output((PapaConvDesc){.N = 2, .H = 6, .W = 6, .C = 8, .K = 8, .R = 3, .S = 3, .pad = {1, 1, 1, 1}, .bias = true, .relu = true});
    cuda->tune = true;
    test_passes(&d);
    cuda->tune = false;
}

static void test_sharing(void)
{
    PapaConvDesc d = with_output((PapaConvDesc){.N = 2, .H = 6, .W = 6, .C = 8, .K = 8, .R = 3, .S = 3});
    PapaConv *a, *b, *other;
    must(papa_conv_create_cuda(cuda, &a, &d, true));
    must(papa_conv_create_cuda(cuda, &b, &d, true));
    cuda->tune = true;
    must(papa_conv_create_cuda(cuda, &other, &d, true));
    cuda->tune = false;
    for (int pass = 0; pass < 3; pass++) {
        CHECK(papa_conv_describe_cuda(a, (PapaConvPass)pass) == papa_conv_describe_cuda(b, (PapaConvPass)pass));
        CHECK(papa_conv_describe_cuda(a, (PapaConvPass)pass) != papa_conv_describe_cuda(other, (PapaConvPass)pass));
    }
    papa_conv_free_cuda(a);
    papa_conv_free_cuda(other);
    papa_conv_free_cuda(b);
}

static Case recorded;
static Array *recorded_x, *recorded_w, *recorded_b, *recorded_y, *recorded_dw;

static PapaStatus record(void *context, PapaDevice *dev)
{
    (void)context;
    PAPA_TRY(papa_conv_fwd_cuda(dev, recorded.on_cuda, recorded_y->device, recorded_x->device, recorded_w->device, recorded_b->device,
        recorded.cuda_workspace[0]));
    return papa_conv_bwd_weights_cuda(dev, recorded.on_cuda, recorded_dw->device, NULL, recorded_x->device, recorded_y->device,
        recorded.cuda_workspace[2], false);
}

/* Recorded as part of a step, and replayed. */
static void test_captured(void)
{
    PapaConvDesc d = with_output((PapaConvDesc){.N = 2, .H = 6, .W = 5, .C = 4, .K = 8, .R = 3, .S = 3, .pad = {1, 1, 1, 1}, .bias = true, .relu = true});
    PapaReplay *replay;
    open_case(&recorded, &d);
    recorded_x = reals(recorded.n_x, -1, 1), recorded_w = parameters(recorded.n_w), recorded_b = parameters(d.K);
    recorded_y = out_reals(recorded.n_y, false), recorded_dw = out_floats(recorded.n_w, false);
    must(papa_conv_fwd_cpu(cpu, recorded.on_cpu, recorded_y->host, recorded_x->host, recorded_w->host, recorded_b->host, recorded.cpu_workspace[0]));
    must(papa_device_capture(cuda, &replay, record, NULL));
    for (int i = 0; i < 2; i++)
        must(papa_replay_run(replay, cuda));
    check_same("a recorded convolution", recorded_y, tolerance());
    must(papa_device_sync(cuda));
    papa_replay_free(replay);
    close_case(&recorded);
}

static void test_errors(void)
{
    PapaConvDesc d = with_output((PapaConvDesc){.N = 2, .H = 6, .W = 5, .C = 4, .K = 8, .R = 3, .S = 3});
    PapaConv *conv;
    d.OH++;
    CHECK_FAILS(papa_conv_create_cuda(cuda, &conv, &d, true), PAPA_ERR_ARGUMENT, "output is 5x3, expected 4x3");
    CHECK(!conv);
}

int main(void)
{
    int status = cudatest_begin();
    if (status)
        return status;
    must(papa_device_open_cuda(&cuda_tf32, 0, PAPA_PRECISION_TF32));
    test_shapes();
    FOR_ELEMENTS {
        test_inference();
        test_tuned();
        test_sharing();
        test_captured();
    }
    test_errors();
    papa_device_close(cuda_tf32);
    return cudatest_end();
}
