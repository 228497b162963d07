/* Convolution on CUDA: cuDNN's plans, and around them what its layout asks for. Our filters stand as ONNX has them, (K, C / groups, R, S) in
 * float32; cuDNN computes channels-last tensors with filters (K, R, S, C / groups) of the maps' element. So each call makes that form in its
 * workspace, or turns the gradient that it finds there back. Where both are the same (a 1x1 or depthwise filter in float32) cuDNN takes ours.
 *
 * The workspace: the filter, the bias in bfloat16, cuDNN's own; each part that a pass doesn't have is empty. */
#include "kernels/cuda.cuh"
#include "kernels/epilogue.cuh"

extern "C" {
#include "device/cudnn.h"
#include "kernels/conv.h"
#include "kernels/matmul.h" /* papa_colsum */
}

#include <cassert>
#include <cstdlib>

struct PapaConv {
    PapaConvDesc desc;
    bool empty;    /* no output element: nothing to multiply */
    bool same_order; /* of the filter's elements, in ours and in cuDNN's */
    bool fused;    /* fwd adds the bias and applies the relu */
    PapaCudnnPlan *fwd, *data[2], *weights; /* data: what overwrites, and what adds */
    size_t filter_bytes, bias_bytes;
};

namespace papa {
namespace {

/* ---------------------------------------------------------------- the filter's two forms */

/* A block turns a tile of one k: up to this many channels by taps (a tap is one of R * S). */
constexpr int kTileChannels = 64, kTileTaps = 64;

struct Tile {
    int channels, taps;       /* in this tile */
    int64_t ours, theirs;     /* where it begins: (k, c, t) in (K, C, T), (k, t, c) in (K, T, C) */
};

__device__ __forceinline__ Tile tile_of(int C, int T)
{
    int in_taps = (T + kTileTaps - 1) / kTileTaps, in_channels = (C + kTileChannels - 1) / kTileChannels;
    int block = (int)blockIdx.x, t = block % in_taps * kTileTaps, rest = block / in_taps, c = rest % in_channels * kTileChannels;
    int64_t k = rest / in_channels;
    Tile tile;
    tile.channels = C - c < kTileChannels ? C - c : kTileChannels;
    tile.taps = T - t < kTileTaps ? T - t : kTileTaps;
    tile.ours = (k * C + c) * T + t;
    tile.theirs = (k * T + t) * C + c;
    return tile;
}

/* out (K, T, C) = w (K, C, T). Rows of the tile are an odd number of words apart in shared memory, so that a column meets every bank. */
template <class E> __global__ void __launch_bounds__(kThreads) filter_in(E *__restrict__ out, const float *__restrict__ w, int C, int T)
{
    PAPA_SHARED(float, words, kTileChannels * (kTileTaps + 1));
    Tile tile = tile_of(C, T);
    int n = tile.channels * tile.taps, row = tile.taps | 1;
    for (int i = (int)threadIdx.x; i < n; i += kThreads) {
        int c = i / tile.taps, t = i - c * tile.taps;
        words[c * row + t] = w[tile.ours + (int64_t)c * T + t];
    }
    __syncthreads();
    for (int i = (int)threadIdx.x; i < n; i += kThreads) {
        int t = i / tile.channels, c = i - t * tile.channels;
        out[tile.theirs + (int64_t)t * C + c] = store<E>(words[c * row + t]);
    }
}

/* dw (K, C, T) (+)= from (K, T, C). */
template <class E> __global__ void __launch_bounds__(kThreads) filter_out(float *__restrict__ dw, const E *__restrict__ from, int C, int T, bool accumulate)
{
    PAPA_SHARED(float, words, kTileChannels * (kTileTaps + 1));
    Tile tile = tile_of(C, T);
    int n = tile.channels * tile.taps, row = tile.taps | 1;
    for (int i = (int)threadIdx.x; i < n; i += kThreads) {
        int t = i / tile.channels, c = i - t * tile.channels;
        words[c * row + t] = load(from[tile.theirs + (int64_t)t * C + c]);
    }
    __syncthreads();
    for (int i = (int)threadIdx.x; i < n; i += kThreads) {
        int c = i / tile.taps, t = i - c * tile.taps;
        float *at = dw + tile.ours + (int64_t)c * T + t;
        *at = accumulate ? *at + words[c * row + t] : words[c * row + t];
    }
}

/* dw[i] (+)= from[i]: the same, where the order is. */
template <class E> __global__ void __launch_bounds__(kThreads) filter_add(float *__restrict__ dw, const E *__restrict__ from, int64_t n, bool accumulate)
{
    PAPA_GRID_STRIDE(i, n)
    dw[i] = accumulate ? dw[i] + load(from[i]) : load(from[i]);
}

int64_t filter_count(const PapaConvDesc *d)
{
    return d->K * (d->C / d->groups) * d->R * d->S;
}

unsigned filter_tiles(const PapaConvDesc *d)
{
    return (unsigned)(d->K * ceil_div(d->C / d->groups, kTileChannels) * ceil_div(d->R * d->S, kTileTaps));
}

template <class E> PapaStatus bring_in(PapaDevice *dev, const PapaConv *conv, E *out, const float *w)
{
    const PapaConvDesc *d = &conv->desc;
    if (conv->same_order)
        return convert(dev, out, w, filter_count(d));
    PAPA_LAUNCH(dev, filter_in<E>, filter_tiles(d), kThreads, 0, out, w, (int)(d->C / d->groups), (int)(d->R * d->S));
    return PAPA_OK;
}

template <class E> PapaStatus bring_out(PapaDevice *dev, const PapaConv *conv, float *dw, const E *from, bool accumulate)
{
    const PapaConvDesc *d = &conv->desc;
    if (conv->same_order)
        PAPA_LAUNCH(dev, filter_add<E>, blocks_for(dev, filter_count(d)), kThreads, 0, dw, from, filter_count(d), accumulate);
    else
        PAPA_LAUNCH(dev, filter_out<E>, filter_tiles(d), kThreads, 0, dw, from, (int)(d->C / d->groups), (int)(d->R * d->S), accumulate);
    return PAPA_OK;
}

/* ---------------------------------------------------------------- plans */

/* Parts of a workspace begin at multiples of this. */
size_t part(size_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

PapaCudnnConv graph_of(const PapaDevice *dev, const PapaConvDesc *d, PapaConvPass pass)
{
    PapaCudnnConv c;
    memset(&c, 0, sizeof c);
    c.pass = pass == PAPA_CONV_FWD ? PAPA_CUDNN_FWD : pass == PAPA_CONV_BWD_DATA ? PAPA_CUDNN_BWD_DATA : PAPA_CUDNN_BWD_WEIGHTS;
    c.N = d->N, c.H = d->H, c.W = d->W, c.C = d->C, c.K = d->K, c.R = d->R, c.S = d->S, c.OH = d->OH, c.OW = d->OW, c.groups = d->groups;
    for (int i = 0; i < 2; i++) {
        c.stride[i] = d->stride[i];
        c.dilation[i] = d->dilation[i];
        c.before[i] = d->pad[i];
        c.after[i] = d->pad[i + 2];
    }
    c.maps = c.filter = dev->element;
    return c;
}

/* With the bias and the relu in cuDNN's graph where it has an engine for that (a relu needs a bias for it), else without. */
PapaStatus plan_fwd(PapaDevice *dev, PapaConv *conv)
{
    PapaCudnnConv c = graph_of(dev, &conv->desc, PAPA_CONV_FWD);
    if (conv->desc.bias) {
        c.bias = 1;
        c.relu = conv->desc.relu;
        PapaStatus status = papa_cudnn_plan(dev, &conv->fwd, &c);
        conv->fused = status == PAPA_OK;
        if (status != PAPA_ERR_UNSUPPORTED)
            return status;
        c.bias = c.relu = 0;
    }
    return papa_cudnn_plan(dev, &conv->fwd, &c);
}

PapaStatus plan_all(PapaDevice *dev, PapaConv *conv, bool training)
{
    const PapaConvDesc *d = &conv->desc;
    PAPA_TRY(plan_fwd(dev, conv));
    conv->filter_bytes = part((size_t)filter_count(d) * papa_element_bytes(dev->element));
    conv->bias_bytes = conv->fused && dev->element != PAPA_FLOAT32 ? part((size_t)d->K * papa_element_bytes(dev->element)) : 0;
    if (!training)
        return PAPA_OK;
    PapaCudnnConv c = graph_of(dev, d, PAPA_CONV_BWD_DATA);
    for (int adds = 0; adds < 2; adds++) {
        c.accumulate = adds;
        PAPA_TRY(papa_cudnn_plan(dev, &conv->data[adds], &c));
    }
    c = graph_of(dev, d, PAPA_CONV_BWD_WEIGHTS);
    return papa_cudnn_plan(dev, &conv->weights, &c);
}

/* Whether cuDNN reads our filter, or writes our gradient, where it stands. */
bool filter_is_theirs(const PapaDevice *dev, const PapaConv *conv)
{
    return conv->same_order && dev->element == PAPA_FLOAT32;
}

/* *out: the filter as cuDNN wants it. */
PapaStatus their_filter(PapaDevice *dev, const PapaConv *conv, void **out, const float *w, void *workspace)
{
    *out = const_cast<float *>(w);
    if (filter_is_theirs(dev, conv))
        return PAPA_OK;
    *out = workspace;
    PAPA_FOR_ELEMENT(dev, bring_in(dev, conv, static_cast<T *>(workspace), w));
    return PAPA_OK;
}

} // namespace
} // namespace papa

using namespace papa;

PapaStatus papa_conv_create_cuda(PapaDevice *dev, PapaConv **out, const PapaConvDesc *desc, bool training)
{
    *out = nullptr;
    PAPA_TRY(papa_conv_check(desc));
    PapaConv *conv = static_cast<PapaConv *>(calloc(1, sizeof *conv));
    if (!conv)
        return papa_fail_memory(sizeof *conv, "a convolution's plan");
    conv->desc = *desc;
    conv->empty = !desc->N || !desc->OH || !desc->OW;
    conv->same_order = desc->R * desc->S == 1 || desc->C == desc->groups;
    PapaStatus status = conv->empty ? PAPA_OK : plan_all(dev, conv, training);
    if (status != PAPA_OK) {
        papa_conv_free_cuda(conv);
        return status;
    }
    *out = conv;
    return PAPA_OK;
}

void papa_conv_free_cuda(PapaConv *conv)
{
    if (!conv)
        return;
    papa_cudnn_release(conv->fwd);
    papa_cudnn_release(conv->data[0]);
    papa_cudnn_release(conv->data[1]);
    papa_cudnn_release(conv->weights);
    free(conv);
}

size_t papa_conv_workspace_cuda(const PapaConv *conv, PapaConvPass pass)
{
    size_t theirs = 0;
    if (conv->empty)
        return 0;
    if (pass == PAPA_CONV_FWD)
        return conv->filter_bytes + conv->bias_bytes + papa_cudnn_workspace(conv->fwd);
    if (pass == PAPA_CONV_BWD_WEIGHTS)
        return conv->filter_bytes + papa_cudnn_workspace(conv->weights);
    for (int adds = 0; adds < 2; adds++)
        theirs = papa_cudnn_workspace(conv->data[adds]) > theirs ? papa_cudnn_workspace(conv->data[adds]) : theirs;
    return conv->filter_bytes + theirs;
}

const char *papa_conv_describe_cuda(const PapaConv *conv, PapaConvPass pass)
{
    const PapaCudnnPlan *plan = pass == PAPA_CONV_FWD ? conv->fwd : pass == PAPA_CONV_BWD_DATA ? conv->data[0] : conv->weights;
    return plan ? papa_cudnn_text(plan) : "nothing";
}

PapaStatus papa_conv_fwd_cuda(PapaDevice *dev, const PapaConv *conv, PapaReal *y, const PapaReal *x, const float *w, const float *b, void *workspace)
{
    const PapaConvDesc *d = &conv->desc;
    assert(!b == !d->bias);
    if (conv->empty)
        return PAPA_OK;
    void *filter, *bias = nullptr;
    char *behind_filter = static_cast<char *>(workspace) + conv->filter_bytes, *theirs = behind_filter + conv->bias_bytes;
    PAPA_TRY(their_filter(dev, conv, &filter, w, workspace));
    if (conv->fused) {
        bias = const_cast<float *>(b);
        if (dev->element == PAPA_BFLOAT16) {
            bias = behind_filter;
            PAPA_TRY(convert(dev, static_cast<__nv_bfloat16 *>(bias), b, d->K));
        }
    }
    PAPA_TRY(papa_cudnn_run(dev, conv->fwd, const_cast<PapaReal *>(x), filter, y, bias, theirs));
    if (!conv->fused && (d->bias || d->relu))
        PAPA_FOR_ELEMENT(dev, finish(dev, reinterpret_cast<T *>(y), b, d->N * d->OH * d->OW, d->K, d->K, 1.f, d->relu));
    return PAPA_OK;
}

PapaStatus papa_conv_bwd_data_cuda(PapaDevice *dev, const PapaConv *conv, PapaReal *dx, const PapaReal *dy, const float *w, void *workspace,
    bool accumulate)
{
    const PapaConvDesc *d = &conv->desc;
    if (conv->empty)
        return accumulate ? PAPA_OK : papa_device_zero(dev, dx, (size_t)(d->N * d->H * d->W * d->C) * papa_element_bytes(dev->element));
    void *filter;
    PAPA_TRY(their_filter(dev, conv, &filter, w, workspace));
    return papa_cudnn_run(dev, conv->data[accumulate], dx, filter, const_cast<PapaReal *>(dy), nullptr,
        static_cast<char *>(workspace) + conv->filter_bytes);
}

PapaStatus papa_conv_bwd_weights_cuda(PapaDevice *dev, const PapaConv *conv, float *dw, float *db, const PapaReal *x, const PapaReal *dy,
    void *workspace, bool accumulate)
{
    const PapaConvDesc *d = &conv->desc;
    if (db)
        PAPA_TRY(papa_colsum_cuda(dev, db, dy, d->N * d->OH * d->OW, d->K, d->K, accumulate));
    if (conv->empty)
        return accumulate ? PAPA_OK : papa_device_zero(dev, dw, (size_t)filter_count(d) * sizeof *dw);
    bool in_place = filter_is_theirs(dev, conv) && !accumulate;
    PAPA_TRY(papa_cudnn_run(dev, conv->weights, const_cast<PapaReal *>(x), in_place ? dw : workspace, const_cast<PapaReal *>(dy), nullptr,
        static_cast<char *>(workspace) + conv->filter_bytes));
    if (!in_place)
        PAPA_FOR_ELEMENT(dev, bring_out(dev, conv, dw, static_cast<const T *>(workspace), accumulate));
    return PAPA_OK;
}
