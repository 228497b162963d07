/* A seat: what one worker needs to make batches and run them, allocated once. Nothing in it belongs to a member.
 *
 * Pointers without `host_` are device memory. One seat serves one thread at a time. */
#ifndef PAPA_SEAT_H
#define PAPA_SEAT_H

#include "data/data.h"
#include "data/recipe.h"
#include "kernels/loss.h"
#include "kernels/optimizer.h"
#include "model/net.h"

/* The numbers that change from step to step, uploaded together. */
typedef struct PapaSeatNumbers {
    PapaStepNumbers step;
    PapaOptimizerNumbers optimizer;
    int64_t n_valid;
} PapaSeatNumbers;

#define PAPA_SEAT_BLOCKS 16

typedef struct PapaSeat {
    PapaDevice *dev;    /* borrowed */
    PapaWorker *worker;
    int64_t batch, n_classes;
    PapaSamplePlan *host_samples, *samples; /* (batch) */
    PapaBatchPlan *batch_plan;
    uint32_t *host_indices;                 /* (batch) */
    uint8_t *host_images, *images;          /* (batch, image): of data sets that are not resident, else NULL */
    int32_t *host_labels, *labels;          /* (batch) */
    float *targets;                         /* (batch, n_classes) */
    double *rows;                           /* (batch): the loss kernel's scratch */
    float *loss;
    PapaScoreSums *sums;
    float *grads;                           /* (n_trained); NULL on seats that only evaluate */
    PapaClip *clip;
    double *clip_blocks;
    PapaSeatNumbers *numbers;
    float *host_logits;                     /* (batch, n_classes): ensembles */
    double *host_sum;                       /* likewise */
    void *blocks[PAPA_SEAT_BLOCKS], *host_blocks[PAPA_SEAT_BLOCKS]; /* all of the above, for freeing */
    int n_blocks, n_host_blocks;
} PapaSeat;

typedef struct PapaSeatPlan {
    const PapaNet *const *nets; /* that the seat will run */
    int n_nets;
    int64_t batch, n_classes;   /* the largest */
    int64_t n_grads;            /* 0: evaluation only */
    int64_t fetch_bytes;        /* of one image, for data sets that are not resident; else 0 */
} PapaSeatPlan;

/* Call on the thread whose device it is. */
PapaStatus papa_seat_open(PapaSeat *out, const PapaSeatPlan *plan, PapaDevice *dev);
void papa_seat_close(PapaSeat *seat); /* a zeroed seat is fine */

/* Where batches come from: a data set and how its images become floats for one net. */
typedef struct PapaFeed {
    const PapaData *data;
    PapaImageFormat format;
} PapaFeed;

/* mean, std: per channel on a 0 to 1 scale. */
void papa_feed_init(PapaFeed *out, const PapaData *data, bool channels_last, const double *mean, const double *std);

/* The classes that net tells apart. Errors: PAPA_ERR_MISMATCH: the logits are not (batch, classes), or data has more classes. */
PapaStatus papa_feed_classes(int64_t *n_classes, const PapaData *data, const PapaModel *model, const PapaNet *net, int64_t batch);

/* Bytes of one image if the seat must fetch them; 0 if they are resident. */
int64_t papa_feed_fetch_bytes(const PapaData *data);

/* Makes the batch of N images that seat->host_samples and plan describe, their `source` being image numbers of the data set (which this
 * call may renumber), into x on the device; and, if targets is set, the soft targets into seat->targets. */
PapaStatus papa_feed_batch(const PapaFeed *feed, PapaSeat *seat, float *x, const PapaBatchPlan *plan, int64_t N, bool targets);

#endif
