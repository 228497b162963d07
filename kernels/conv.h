/* Convolution in two dimensions, its gradients, and the plan that says how they are computed.
 *
 * x: (N, H, W, C), y: (N, OH, OW, K), both dense NHWC; w: (K, C / groups, R, S) dense float32, ONNX's own order; b: (K) float32.
 *
 *     y[n][p][q][k] = b[k] + sum over c, r, s of
 *         x[n][p * stride[0] - pad[0] + r * dilation[0]][q * stride[1] - pad[1] + s * dilation[1]][g * C / groups + c] * w[k][c][r][s]
 *
 * where g = k / (K / groups) and x is 0 outside its map. The sizes must agree:
 *     OH = (H + pad[0] + pad[2] - dilation[0] * (R - 1) - 1) / stride[0] + 1, rounded down, and OW likewise.
 * The form of the weights that a library wants is made in the workspace by each call. Nothing is allocated; asynchronous
 * on dev's stream. N, OH and OW may be 0: then y is empty, and dx, dw and db are sums of nothing. */
#ifndef PAPA_CONV_H
#define PAPA_CONV_H

#include "device/device.h"

typedef struct PapaConvDesc {
    int64_t N, H, W, C;   /* x */
    int64_t K, R, S;      /* w */
    int64_t OH, OW;       /* y */
    int64_t stride[2];    /* down, across; >= 1 */
    int64_t dilation[2];  /* >= 1 */
    int64_t pad[4];       /* top, left, bottom, right; >= 0 */
    int64_t groups;       /* divides C and K */
    bool bias;            /* fwd gets b */
    bool relu;            /* fwd gives max(0, y); the backward passes take dy already masked by it */
} PapaConvDesc;

typedef enum PapaConvPass { PAPA_CONV_FWD, PAPA_CONV_BWD_DATA, PAPA_CONV_BWD_WEIGHTS } PapaConvPass;

/* What was chosen for this shape on this kind of device. Immutable, so that all workers whose devices have the same kind
 * and number of threads share one plan. */
typedef struct PapaConv PapaConv;

/* PAPA_ERR_ARGUMENT where desc contradicts itself. */
PapaStatus papa_conv_check(const PapaConvDesc *desc);

/* training: false makes the forward pass only. Errors: PAPA_ERR_ARGUMENT (papa_conv_check), PAPA_ERR_UNSUPPORTED (cuDNN has no implementation for
 * this shape, GPU and precision: the message says why), PAPA_ERR_DEVICE, PAPA_ERR_MEMORY. */
typedef PapaStatus papa_conv_create_fn(PapaDevice *dev, PapaConv **out, const PapaConvDesc *desc, bool training);
papa_conv_create_fn papa_conv_create_cpu, papa_conv_create_cuda, papa_conv_create_ref;

typedef void papa_conv_free_fn(PapaConv *conv);
papa_conv_free_fn papa_conv_free_cpu, papa_conv_free_cuda, papa_conv_free_ref;

/* Bytes of workspace that a pass needs; aligned like papa_device_alloc's memory. Its contents before and after mean nothing. */
typedef size_t papa_conv_workspace_fn(const PapaConv *conv, PapaConvPass pass);
papa_conv_workspace_fn papa_conv_workspace_cpu, papa_conv_workspace_cuda, papa_conv_workspace_ref;

/* One line for reports and benchmarks: what computes this pass, as "winograd avx512" or oneDNN's name for it. Lives as long as conv. */
typedef const char *papa_conv_describe_fn(const PapaConv *conv, PapaConvPass pass);
papa_conv_describe_fn papa_conv_describe_cpu, papa_conv_describe_cuda;

/* y = conv(x, w) + b, or max(0, that). b is NULL exactly if desc.bias is false. */
typedef PapaStatus papa_conv_fwd_fn(PapaDevice *dev, const PapaConv *conv, PapaReal *y, const PapaReal *x, const float *w, const float *b,
    void *workspace);
papa_conv_fwd_fn papa_conv_fwd_cpu, papa_conv_fwd_cuda, papa_conv_fwd_ref;

/* dx (+)= gradient; accumulate adds to what is there. */
typedef PapaStatus papa_conv_bwd_data_fn(PapaDevice *dev, const PapaConv *conv, PapaReal *dx, const PapaReal *dy, const float *w,
    void *workspace, bool accumulate);
papa_conv_bwd_data_fn papa_conv_bwd_data_cpu, papa_conv_bwd_data_cuda;

/* dw (+)= gradient; db (+)= sum of dy over N, OH, OW. db may be NULL. */
typedef PapaStatus papa_conv_bwd_weights_fn(PapaDevice *dev, const PapaConv *conv, float *dw, float *db, const PapaReal *x, const PapaReal *dy,
    void *workspace, bool accumulate);
papa_conv_bwd_weights_fn papa_conv_bwd_weights_cpu, papa_conv_bwd_weights_cuda;

#endif
