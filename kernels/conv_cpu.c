/* Convolution on the CPU. A plan holds one entry per pass: our own Winograd where it is the faster one, else a oneDNN
 * primitive with the reorders between our layouts and those it wants. The choice is a rule on the shape and the
 * processor, not a race, so that equal runs give equal bits. */
#include "kernels/conv.h"
#include "device/onednn.h"
#include "kernels/copy.h"
#include "kernels/matmul.h"
#include "kernels/winograd.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { N_PASSES = PAPA_CONV_BWD_WEIGHTS + 1 };

/* One pass by oneDNN. The workspace holds, in this order: an argument in the library's layout where there is a reorder, the
 * result in our layout where it is to be added to something, the scratch memory that primitive and reorders share. */
typedef struct Direct {
    PapaDnnlOp *op;
    PapaDnnlOp *reorder[PAPA_DNNL_N_ARGS]; /* NULL: the library takes ours */
    size_t offset[PAPA_DNNL_N_ARGS];       /* bytes */
    size_t sum_offset, scratch_offset, bytes;
} Direct;

struct PapaConv {
    PapaConvDesc desc;
    int n_threads;    /* of the devices that may run it */
    bool empty;       /* no output element: nothing to multiply */
    PapaWinograd winograd[N_PASSES]; /* unit NULL: not this pass */
    Direct direct[N_PASSES];
};

/* ---------------------------------------------------------------- making the plan */

static int64_t output_size(int64_t size, int64_t before, int64_t after, int64_t filter, int64_t dilation, int64_t stride)
{
    int64_t room = size + before + after - dilation * (filter - 1) - 1;
    return room < 0 ? 0 : room / stride + 1;
}

PapaStatus papa_conv_check(const PapaConvDesc *d)
{
    bool sane = d->N >= 0 && d->H >= 1 && d->W >= 1 && d->C >= 1 && d->K >= 1 && d->R >= 1 && d->S >= 1 && d->groups >= 1 &&
                d->C % d->groups == 0 && d->K % d->groups == 0;
    for (int i = 0; i < 2; i++)
        sane = sane && d->stride[i] >= 1 && d->dilation[i] >= 1 && d->pad[i] >= 0 && d->pad[i + 2] >= 0;
    if (!sane)
        return papa_fail(PAPA_ERR_ARGUMENT, "convolution: N %lld, H %lld, W %lld, C %lld, K %lld, filter %lldx%lld, groups %lld, or "
            "stride, dilation or padding make no sense", (long long)d->N, (long long)d->H, (long long)d->W, (long long)d->C, (long long)d->K,
            (long long)d->R, (long long)d->S, (long long)d->groups);
    int64_t OH = output_size(d->H, d->pad[0], d->pad[2], d->R, d->dilation[0], d->stride[0]);
    int64_t OW = output_size(d->W, d->pad[1], d->pad[3], d->S, d->dilation[1], d->stride[1]);
    if (OH != d->OH || OW != d->OW)
        return papa_fail(PAPA_ERR_ARGUMENT, "convolution: output is %lldx%lld, expected %lldx%lld", (long long)d->OH, (long long)d->OW,
            (long long)OH, (long long)OW);
    return PAPA_OK;
}

/* (n, c, h, w) in the library's logical order, NHWC in memory. */
static PapaDnnlLayout nhwc(int64_t N, int64_t H, int64_t W, int64_t C, bool any)
{
    return (PapaDnnlLayout){.n_dims = 4, .dims = {N, C, H, W}, .strides = {H * W * C, 1, W * C, C}, .any = any};
}

static PapaDnnlLayout filter(const PapaConvDesc *d, bool any)
{
    int64_t G = d->groups, K = d->K / G, C = d->C / G, R = d->R, S = d->S;
    if (G > 1)
        return (PapaDnnlLayout){.n_dims = 5, .dims = {G, K, C, R, S}, .strides = {K * C * R * S, C * R * S, R * S, S, 1}, .any = any};
    return (PapaDnnlLayout){.n_dims = 4, .dims = {K, C, R, S}, .strides = {C * R * S, R * S, S, 1}, .any = any};
}

static PapaDnnlConv describe_pass(const PapaConvDesc *d, PapaConvPass pass, bool training, bool any_maps)
{
    static const PapaDnnlPass passes[N_PASSES] = {
        [PAPA_CONV_FWD] = PAPA_DNNL_FWD, [PAPA_CONV_BWD_DATA] = PAPA_DNNL_BWD_DATA, [PAPA_CONV_BWD_WEIGHTS] = PAPA_DNNL_BWD_WEIGHTS};
    PapaDnnlConv conv = {
        .pass = passes[pass], .training = training,
        .stride = {d->stride[0], d->stride[1]}, .dilation = {d->dilation[0], d->dilation[1]},
        .pad_low = {d->pad[0], d->pad[1]}, .pad_high = {d->pad[2], d->pad[3]},
    };
    conv.args[PAPA_DNNL_X] = nhwc(d->N, d->H, d->W, d->C, any_maps);
    conv.args[PAPA_DNNL_W] = filter(d, true);
    conv.args[PAPA_DNNL_Y] = nhwc(d->N, d->OH, d->OW, d->K, any_maps);
    if (pass == PAPA_CONV_FWD) {
        conv.relu = d->relu;
        if (d->bias)
            conv.args[PAPA_DNNL_B] = (PapaDnnlLayout){.n_dims = 1, .dims = {d->K}, .strides = {1}};
    }
    return conv;
}

static bool is_fast(const PapaDnnlOp *op)
{
    const char *name = papa_dnnl_implementation(op);
    return strstr(name, "jit") || strstr(name, "brg") || strstr(name, "brdgmm") || strstr(name, "acl");
}

/* With the maps as they are if there is a generated kernel for that, else in the library's layout if there is one for
 * that, else (by a matrix product or the reference) as they are. */
static PapaStatus choose_primitive(PapaDnnlOp **out, const PapaConvDesc *d, PapaConvPass pass, bool training)
{
    PapaDnnlConv plain = describe_pass(d, pass, training, false), free_layout = describe_pass(d, pass, training, true);
    PapaStatus status = papa_dnnl_conv(out, &plain);
    if (status == PAPA_OK && is_fast(*out))
        return PAPA_OK;
    PapaDnnlOp *other;
    PapaStatus other_status = papa_dnnl_conv(&other, &free_layout);
    if (other_status == PAPA_OK && (status != PAPA_OK || is_fast(other))) {
        papa_dnnl_free(*out);
        *out = other;
        return PAPA_OK;
    }
    if (other_status == PAPA_OK)
        papa_dnnl_free(other);
    return status;
}

static PapaDnnlArg result_of(PapaConvPass pass)
{
    return pass == PAPA_CONV_FWD ? PAPA_DNNL_Y : pass == PAPA_CONV_BWD_DATA ? PAPA_DNNL_X : PAPA_DNNL_W;
}

static size_t cache_lines(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

static size_t result_count(const PapaConvDesc *d, PapaConvPass pass)
{
    return (size_t)(pass == PAPA_CONV_FWD ? d->N * d->OH * d->OW * d->K : pass == PAPA_CONV_BWD_DATA ? d->N * d->H * d->W * d->C
        : d->K * (d->C / d->groups) * d->R * d->S);
}

static PapaStatus direct_make(Direct *direct, const PapaConvDesc *d, PapaConvPass pass, bool training)
{
    PAPA_TRY(choose_primitive(&direct->op, d, pass, training));
    PapaDnnlConv plain = describe_pass(d, pass, training, false);
    size_t scratch = papa_dnnl_scratch_bytes(direct->op);
    for (int i = 0; i < PAPA_DNNL_N_ARGS; i++) {
        if (!plain.args[i].n_dims)
            continue;
        PapaDnnlLayout ours = plain.args[i];
        if (i == PAPA_DNNL_W)
            ours.any = false;
        PAPA_TRY(papa_dnnl_reorder(&direct->reorder[i], direct->op, (PapaDnnlArg)i, &ours, (PapaDnnlArg)i == result_of(pass)));
        if (!direct->reorder[i])
            continue;
        direct->offset[i] = direct->bytes;
        direct->bytes += cache_lines(papa_dnnl_arg_bytes(direct->op, (PapaDnnlArg)i));
        size_t wanted = papa_dnnl_scratch_bytes(direct->reorder[i]);
        scratch = scratch > wanted ? scratch : wanted;
    }
    direct->sum_offset = direct->bytes;
    if (pass != PAPA_CONV_FWD)
        direct->bytes += cache_lines(result_count(d, pass) * sizeof(float));
    direct->scratch_offset = direct->bytes;
    direct->bytes += cache_lines(scratch);
    return PAPA_OK;
}

static bool winograd_make(PapaWinograd *winograd, const PapaConvDesc *d, PapaConvPass pass, int n_threads)
{
    const PapaWinogradUnit *unit = papa_winograd_unit();
    PapaWinograd plan;
    if (!unit || !papa_winograd_plan(&plan, d, pass, n_threads, unit) || !papa_winograd_pays(&plan))
        return false;
    *winograd = plan;
    return true;
}

PapaStatus papa_conv_create_cpu(PapaDevice *dev, PapaConv **out, const PapaConvDesc *desc, bool training)
{
    *out = NULL;
    PAPA_TRY(papa_conv_check(desc));
    PAPA_TRY(papa_device_enter(dev));
    PapaConv *conv = calloc(1, sizeof *conv);
    if (!conv)
        return papa_fail_memory(sizeof *conv, "a convolution's plan");
    conv->desc = *desc;
    conv->n_threads = dev->n_threads;
    conv->empty = !desc->N || !desc->OH || !desc->OW;
    for (int pass = 0; pass < (training ? N_PASSES : 1) && !conv->empty; pass++) {
        if (winograd_make(&conv->winograd[pass], desc, (PapaConvPass)pass, dev->n_threads))
            continue;
        PapaStatus status = direct_make(&conv->direct[pass], desc, (PapaConvPass)pass, training);
        if (status != PAPA_OK) {
            papa_conv_free_cpu(conv);
            return status;
        }
    }
    *out = conv;
    return PAPA_OK;
}

void papa_conv_free_cpu(PapaConv *conv)
{
    if (!conv)
        return;
    for (int pass = 0; pass < N_PASSES; pass++) {
        papa_dnnl_free(conv->direct[pass].op);
        for (int i = 0; i < PAPA_DNNL_N_ARGS; i++)
            papa_dnnl_free(conv->direct[pass].reorder[i]);
    }
    free(conv);
}

size_t papa_conv_workspace_cpu(const PapaConv *conv, PapaConvPass pass)
{
    return conv->winograd[pass].unit ? papa_winograd_workspace(&conv->winograd[pass]) : conv->direct[pass].bytes;
}

const char *papa_conv_describe_cpu(const PapaConv *conv, PapaConvPass pass)
{
    if (conv->winograd[pass].unit)
        return conv->winograd[pass].unit->name;
    return conv->direct[pass].op ? papa_dnnl_implementation(conv->direct[pass].op) : "nothing";
}

/* ---------------------------------------------------------------- running it */

static PapaStatus direct_run(PapaDevice *dev, const PapaConv *conv, PapaConvPass pass, void *const ours[PAPA_DNNL_N_ARGS],
    void *workspace, bool accumulate)
{
    const Direct *direct = &conv->direct[pass];
    PapaDnnlArg result = result_of(pass);
    char *memory = workspace;
    void *scratch = memory + direct->scratch_offset;
    void *plain_result = accumulate ? memory + direct->sum_offset : ours[result];
    void *args[PAPA_DNNL_N_ARGS];
    assert(conv->n_threads == dev->n_threads && direct->op);
    for (int i = 0; i < PAPA_DNNL_N_ARGS; i++) {
        args[i] = direct->reorder[i] ? memory + direct->offset[i] : (PapaDnnlArg)i == result ? plain_result : ours[i];
        if (direct->reorder[i] && (PapaDnnlArg)i != result) {
            void *const move[PAPA_DNNL_N_ARGS] = {[PAPA_DNNL_X] = ours[i], [PAPA_DNNL_Y] = args[i]};
            PAPA_TRY(papa_dnnl_run(dev, direct->reorder[i], move, scratch));
        }
    }
    PAPA_TRY(papa_dnnl_run(dev, direct->op, args, scratch));
    if (direct->reorder[result]) {
        void *const move[PAPA_DNNL_N_ARGS] = {[PAPA_DNNL_X] = args[result], [PAPA_DNNL_Y] = plain_result};
        PAPA_TRY(papa_dnnl_run(dev, direct->reorder[result], move, scratch));
    }
    if (!accumulate)
        return PAPA_OK;
    const PapaRegion all = {.rank = 1, .dim = {(int64_t)result_count(&conv->desc, pass)}, .to_stride = {1}, .from_stride = {1}};
    return papa_copy_cpu(dev, ours[result], plain_result, &all, true);
}

PapaStatus papa_conv_fwd_cpu(PapaDevice *dev, const PapaConv *conv, float *y, const float *x, const float *w, const float *b,
    void *workspace)
{
    assert(!b == !conv->desc.bias);
    if (conv->empty)
        return PAPA_OK;
    const PapaWinograd *winograd = &conv->winograd[PAPA_CONV_FWD];
    if (winograd->unit) {
        papa_winograd_conv(dev, winograd, y, x, w, b, conv->desc.relu, false, workspace);
        return PAPA_OK;
    }
    void *const args[PAPA_DNNL_N_ARGS] = {[PAPA_DNNL_X] = (void *)x, [PAPA_DNNL_W] = (void *)w, [PAPA_DNNL_B] = (void *)b,
        [PAPA_DNNL_Y] = y};
    return direct_run(dev, conv, PAPA_CONV_FWD, args, workspace, false);
}

PapaStatus papa_conv_bwd_data_cpu(PapaDevice *dev, const PapaConv *conv, float *dx, const float *dy, const float *w, void *workspace,
    bool accumulate)
{
    if (conv->empty)
        return accumulate ? PAPA_OK : papa_device_zero(dev, dx, result_count(&conv->desc, PAPA_CONV_BWD_DATA) * sizeof(float));
    const PapaWinograd *winograd = &conv->winograd[PAPA_CONV_BWD_DATA];
    if (winograd->unit) {
        papa_winograd_conv(dev, winograd, dx, dy, w, NULL, false, accumulate, workspace);
        return PAPA_OK;
    }
    void *const args[PAPA_DNNL_N_ARGS] = {[PAPA_DNNL_X] = dx, [PAPA_DNNL_W] = (void *)w, [PAPA_DNNL_Y] = (void *)dy};
    return direct_run(dev, conv, PAPA_CONV_BWD_DATA, args, workspace, accumulate);
}

PapaStatus papa_conv_bwd_weights_cpu(PapaDevice *dev, const PapaConv *conv, float *dw, float *db, const float *x, const float *dy,
    void *workspace, bool accumulate)
{
    const PapaConvDesc *d = &conv->desc;
    if (db)
        PAPA_TRY(papa_colsum_cpu(dev, db, dy, d->N * d->OH * d->OW, d->K, d->K, accumulate));
    if (conv->empty)
        return accumulate ? PAPA_OK : papa_device_zero(dev, dw, result_count(d, PAPA_CONV_BWD_WEIGHTS) * sizeof(float));
    const PapaWinograd *winograd = &conv->winograd[PAPA_CONV_BWD_WEIGHTS];
    if (winograd->unit) {
        papa_winograd_bwd_weights(dev, winograd, dw, x, dy, accumulate, workspace);
        return PAPA_OK;
    }
    void *const args[PAPA_DNNL_N_ARGS] = {[PAPA_DNNL_X] = (void *)x, [PAPA_DNNL_W] = dw, [PAPA_DNNL_Y] = (void *)dy};
    return direct_run(dev, conv, PAPA_CONV_BWD_WEIGHTS, args, workspace, accumulate);
}
