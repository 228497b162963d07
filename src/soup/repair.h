/* REPAIR (Jordan et al. 2023) and the re-estimation of BatchNormalization's statistics.
 *
 * An average of networks has too little variance in its hidden units. For each layer that a tap names (model/net.h), per channel of its
 * output before the activation, over batch and space: the goal is mean* = sum_k a_k mean_k, std* = sum_k a_k std_k of the parents;
 * the child is measured (mean^, std^) with all earlier layers already corrected; the correction is folded into the layer:
 *     s = sqrt((std*^2 + eps) / (std^^2 + eps)),   W <- s W,   b <- mean* + s (b - mean^).
 * The network keeps its operators. BatchNormalization's running statistics are re-estimated from zero in the same pass, unless the model was
 * selected with freeze_bn.
 *
 * The model must have been selected with make_biases: every tapped layer then has a bias in the store, absent from the file where the layer
 * has none. Layers whose weight or bias is frozen are left as they are. */
#ifndef PAPA_REPAIR_H
#define PAPA_REPAIR_H

#include "model/net.h"

/* Writes batch batch_index (0 .. batches-1) of n images to input: device memory of the worker, in the net's order of axes. The same index
 * must give the same images whenever it is asked for. */
typedef PapaStatus papa_repair_fill_fn(void *context, PapaWorker *worker, PapaReal *input, int64_t n, int batch_index, bool channels_last);

#define PAPA_REPAIR_ARENA ((int64_t)1 << 30)

typedef struct PapaRepairOptions {
    PapaRepairMode mode;       /* not NONE */
    int batches;               /* >= 1; 5 on small sets, 25 on ImageNet */
    int64_t batch;             /* images in each, >= 1 */
    PapaImageSize size;        /* of the images */
    size_t arena_budget;       /* bytes; 0: PAPA_REPAIR_ARENA. All batches go through the net as one where that fits: the statistics are then exact.
                                  Otherwise as few passes as fit, each corrected by its own statistics, which are accumulated cumulatively */
    papa_repair_fill_fn *fill;
    void *context;
} PapaRepairOptions;

/* A compiled measuring net with its worker and statistics; used by one thread. dev is borrowed and must outlive it, as must the model and
 * all that options points to. hooks (may be NULL): remarks on layers that are left out. */
typedef struct PapaRepair PapaRepair;
PapaStatus papa_repair_new(PapaRepair **out, const PapaModel *model, const PapaRepairOptions *options, PapaDevice *dev, const PapaHooks *hooks);
void papa_repair_free(PapaRepair *repair);

/* Number of layers that are corrected; whether the network has running statistics to re-estimate. With neither, run changes nothing. */
int papa_repair_layers(const PapaRepair *repair);
bool papa_repair_has_statistics(const PapaRepair *repair);

/* Repairs child, in place, towards its parents. weights: a_k, NULL: 1/n each. The parents are not changed. child may not be a parent's own memory.
 * Errors: PAPA_ERR_NUMERIC names the layer whose statistics are not finite; the child is then undefined. */
PapaStatus papa_repair_run(PapaRepair *repair, float *child, const float *const *parents, const double *weights, int n_parents);

/* Only BatchNormalization's running statistics, from zero. Does nothing where there are none or they are frozen. */
PapaStatus papa_repair_recalibrate(PapaRepair *repair, float *store);

#endif
