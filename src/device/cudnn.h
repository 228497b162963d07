/* cuDNN behind one door: its graph API, for the convolutions that kernels/conv_cuda.cu asks for. Only cudnn.c knows descriptors.
 *
 * A plan is one graph on one kind of GPU at one precision, with the engine that computes it. Equal ones are made once and counted. What is
 * planned for a described device (src/device/gpu.h) is planned as for a real one, but can't run. */
#ifndef PAPA_CUDNN_H
#define PAPA_CUDNN_H

#include "device/device.h"

typedef enum PapaCudnnPass { PAPA_CUDNN_FWD, PAPA_CUDNN_BWD_DATA, PAPA_CUDNN_BWD_WEIGHTS } PapaCudnnPass;

/* x: (N, H, W, C), y: (N, OH, OW, K), w: (K, R, S, C / groups), all dense in this order, b: (K) of the maps' element. The pass says which of x, w
 * and y (or their gradients) is the result. All fields are int64_t, so that equal ones are equal bytes. */
typedef struct PapaCudnnConv {
    int64_t pass;             /* PapaCudnnPass */
    int64_t N, H, W, C, K, R, S, OH, OW, groups;
    int64_t stride[2], dilation[2], before[2], after[2]; /* the last two: padding */
    int64_t maps, filter;     /* PapaElement of x and y; of w */
    int64_t bias, relu;       /* fwd: y = max(0, conv(x, w) + b) */
    int64_t accumulate;       /* bwd: adds to the result */
} PapaCudnnConv;

typedef struct PapaCudnnPlan PapaCudnnPlan;

/* PAPA_ERR_UNSUPPORTED: cuDNN has no engine for it on this GPU at this precision; the message says which shape and gives cuDNN's reason. Other
 * errors are faults. With the device's `tune`, the first few plans are timed and the fastest one is taken. */
PapaStatus papa_cudnn_plan(PapaDevice *dev, PapaCudnnPlan **out, const PapaCudnnConv *conv);
void papa_cudnn_release(PapaCudnnPlan *plan); /* NULL is fine */

size_t papa_cudnn_workspace(const PapaCudnnPlan *plan); /* bytes */
const char *papa_cudnn_text(const PapaCudnnPlan *plan); /* "cuDNN forward 64x32x32x16 ...: engine 38, ..."; lives as long as the plan */

/* Pointers aligned to 16 bytes. b: NULL without bias. May be called by several threads at once, each with its own device. */
PapaStatus papa_cudnn_run(PapaDevice *dev, PapaCudnnPlan *plan, void *x, void *w, void *y, void *b, void *workspace);

/* How many graphs have been planned and refused since the process began, without those that were found planned already. */
void papa_cudnn_counts(int64_t *n_planned, int64_t *n_refused);

#endif
