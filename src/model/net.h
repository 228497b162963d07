/* A network compiled for one batch size, mode and kind of device, and the workers that run it.
 *
 * PapaNet (graph, kernel plans, memory plan, constants on the device) is immutable and shared by all members and workers. A PapaWorker owns
 * what one thread or stream needs: device, arena. Members are bare pointers (parameters, gradients) passed to each call, so any
 * worker can take the next step of any member. No allocation happens during a step. */
#ifndef PAPA_NET_H
#define PAPA_NET_H

#include "device/device.h"
#include "graph/op.h"
#include "model/model.h"

typedef struct PapaNet PapaNet;
typedef struct PapaWorker PapaWorker;

typedef struct PapaNetOptions {
    PapaMode mode;
    int64_t batch;
    const PapaShape *input_shapes; /* one per fed input, batch included; NULL: one input, as batch, size and the model's head say */
    PapaImageSize size;         /* of the images; must agree with the file where the file says */
    const char *const *outputs; /* values to compute; NULL: the model's logits. outputs[0] is what the loss is taken on */
    int n_outputs;
    bool no_dropout;
    bool cut;                   /* as the model was selected: see papa_graph_cut for the net's inputs and outputs then. input_shapes: of the file's inputs */
    bool separate_blocks;       /* for tests: no two values share an address, and guards stand between them */
} PapaNetOptions;

/* dev is used to make kernel plans and to hold constants; the net must be freed with a device of the same kind. Plans depend on dev->n_threads (on a
 * reference device they don't). A reference device takes PAPA_MODE_INFER only: PAPA_ERR_UNSUPPORTED. */
PapaStatus papa_net_compile(PapaNet **out, const PapaModel *model, const PapaNetOptions *options, PapaDevice *dev);
void papa_net_free(PapaNet *net, PapaDevice *dev);

bool papa_net_input_channels_last(const PapaNet *net); /* order that the input buffer wants */
int papa_net_inputs(const PapaNet *net);
int papa_net_outputs(const PapaNet *net);
PapaShape papa_net_input_shape(const PapaNet *net, int i); /* in the order of axes that its buffer wants */
PapaShape papa_net_output_shape(const PapaNet *net, int i); /* as computed; logits (N, classes) */
const char *papa_net_output_name(const PapaNet *net, int i); /* the value's in the file */
size_t papa_net_arena_bytes(const PapaNet *net);
/* Bytes that a forward pass, and in a TRAIN net a backward pass, move between memory and the nodes: each node's inputs and outputs once forward;
 * gradients, and what backward keeps, once backward. */
int64_t papa_net_traffic(const PapaNet *net);

/* A worker can run any of the nets given (training and evaluation, say): its arena fits the largest. dev is borrowed. */
PapaStatus papa_worker_new(PapaWorker **out, const PapaNet *const *nets, int n_nets, PapaDevice *dev);
void papa_worker_free(PapaWorker *worker);
PapaDevice *papa_worker_device(const PapaWorker *worker);
/* For tests: the arena as bytes on the device. */
void *papa_worker_arena(const PapaWorker *worker, size_t *bytes);

/* Buffers in the worker's arena, valid for this net until the worker runs another one. */
PapaReal *papa_net_input(const PapaNet *net, PapaWorker *worker);              /* write the batch here before forward */
PapaReal *papa_net_input_at(const PapaNet *net, PapaWorker *worker, int i, bool *channels_last); /* of a net with several inputs */
float *papa_net_output(const PapaNet *net, PapaWorker *worker, int i);      /* read after forward; float32 */
double *papa_net_output_double(const PapaNet *net, PapaWorker *worker, int i); /* of a worker on a reference device, instead */
float *papa_net_output_grad(const PapaNet *net, PapaWorker *worker);        /* d loss / d outputs[0]: write before backward */

/* params: store.n_total floats on the device; running statistics are updated in it by TRAIN and CALIBRATE nets.
 * step: device memory, may be NULL for INFER nets. Asynchronous on the worker's device. */
PapaStatus papa_net_forward(const PapaNet *net, PapaWorker *worker, float *params, const PapaStepNumbers *step);
/* grads: store.n_trained floats, every tensor overwritten (zero where no gradient arrives); the gaps between them are left alone, so the
 * caller zeroes the memory once. TRAIN nets only, after forward. */
PapaStatus papa_net_backward(const PapaNet *net, PapaWorker *worker, float *params, float *grads, const PapaStepNumbers *step);

/* ---------------------------------------------------------------- taps: per-channel statistics of values, for REPAIR
 * A tap is a float tensor output in front of any joined Relu: convolutions and linear layers. In a CALIBRATE net with taps each
 * tapped value's per-channel mean and standard deviation over batch and space are measured; with goals, the value is then
 * normalised by its own batch statistics and moved to the goal, so that all later layers see corrected inputs. */
typedef struct PapaTap {
    const char *value;   /* name of the tapped value: the node's output in the file */
    int64_t n_channels;
    int64_t offset;      /* of its channels in the flat statistics buffers; multiple of PAPA_STORE_ALIGN */
    int weight, bias;    /* parameter indices; bias -1: the layer has none (see PapaModelSelection.make_biases) */
    int weight_axis;     /* of the weight tensor: its output channels */
    float bias_factor;   /* value = weight (x) + bias_factor * bias: Gemm's beta; never 0 */
    const Onnx__NodeProto *node;
} PapaTap;

/* The layers that REPAIR corrects, in order of execution: each Conv, Gemm or MatMul with a weight from the table but the last, whose
 * output does not go straight into a BatchNormalization; with frozen statistics, which nothing re-estimates, those too. hooks gets a remark for each layer that is left out for another reason
 * (a weight used twice, no bias where one can't be made); may be NULL. */
PapaStatus papa_model_taps(PapaTap **taps, int *n_taps, int64_t *n_stats, const PapaModel *model, PapaArena *arena, const PapaHooks *hooks);

/* As papa_net_compile in PAPA_MODE_CALIBRATE, with taps. */
PapaStatus papa_net_compile_tapped(PapaNet **out, const PapaModel *model, const PapaNetOptions *options, const PapaTap *taps, int n_taps, PapaDevice *dev);

/* One forward of a tapped net. stats, on the device: (2, n_stats) float32, overwritten: row 0 this batch's means, row 1 its population
 * standard deviations, of the tapped values as they come out of their layers. goal: (2, n_stats) on the device in the same order, or NULL:
 * measure only. With a goal each tapped value v becomes goal_mean + (v - mean) * sqrt((goal_std^2 + eps) / (std^2 + eps)) before the next
 * node runs; eps = PAPA_REPAIR_EPSILON. A NaN in goal leaves that channel's mean or standard deviation as it is (kernels/chanstat.h). */
PapaStatus papa_net_forward_tapped(const PapaNet *net, PapaWorker *worker, float *params, const PapaStepNumbers *step, float *stats, const float *goal);
#define PAPA_REPAIR_EPSILON 1e-5f

#endif
