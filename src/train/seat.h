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
#include "train/crew.h"

/* The numbers that change from step to step, uploaded together. */
typedef struct PapaSeatNumbers {
    PapaStepNumbers step;
    PapaOptimizerNumbers optimizer;
    int64_t n_valid;
} PapaSeatNumbers;

/* What the host writes for one batch, as it lies on either side. */
typedef struct PapaBatchBlock {
    PapaSeatNumbers *numbers;
    PapaBatchPlan *plan;
    PapaSamplePlan *samples; /* (batch) */
    int32_t *labels;         /* (batch), in the batch's order */
    uint8_t *images;         /* (batch, image): of data sets that are not resident, else NULL */
} PapaBatchBlock;

/* A batch on its way: its block goes up in one piece, its loss comes down when the work is done. A GPU's seat has two, so that the host
 * prepares one batch while the device works on the other. */
typedef struct PapaSlot {
    int index;
    PapaStage stage, loss;   /* loss: one float */
    PapaBatchBlock host, device;
    PapaEvent *done;         /* all work that reads or writes the stages */
    int member;              /* whose loss has not been looked at yet; -1: nobody's */
    int64_t step;
} PapaSlot;

#define PAPA_SLOTS 2
#define PAPA_SEAT_BLOCKS 16

typedef struct PapaSeat {
    PapaDevice *dev;    /* borrowed */
    int place;          /* in the crew */
    PapaWorker *worker;
    int64_t batch, n_classes;
    PapaSlot slots[PAPA_SLOTS];
    int n_slots, next_slot;
    float *targets;                         /* (batch, n_classes) */
    double *rows;                           /* (batch): the loss kernel's scratch */
    PapaScoreSums *sums;
    float *grads;                           /* (n_trained); NULL on seats that only evaluate */
    PapaClip *clip;
    double *clip_blocks;
    float *visitor;                         /* (n_total): a store from another place; NULL with one place */
    const float *visiting;                  /* which one that is; NULL: none */
    float *host_logits;                     /* (batch, n_classes): ensembles */
    double *host_sum;                       /* likewise */
    uint32_t *host_indices;                 /* (batch) */
    void *blocks[PAPA_SEAT_BLOCKS], *host_blocks[PAPA_SEAT_BLOCKS]; /* all of the above but the slots, for freeing */
    int n_blocks, n_host_blocks;
} PapaSeat;

typedef struct PapaSeatPlan {
    const PapaNet *const *nets; /* that the seat will run */
    int n_nets;
    int64_t batch, n_classes;   /* the largest */
    int64_t n_grads;            /* 0: evaluation only */
    int64_t n_visitor;          /* 0: all stores are near */
    int64_t fetch_bytes;        /* of one image, for data sets that are not resident; else 0 */
    int place;
} PapaSeatPlan;

/* Call on the thread whose device it is. */
PapaStatus papa_seat_open(PapaSeat *out, const PapaSeatPlan *plan, PapaDevice *dev);
void papa_seat_close(PapaSeat *seat); /* a zeroed seat is fine */

/* Bytes of a slot's block. */
int64_t papa_seat_slot_bytes(int64_t batch, int64_t fetch_bytes);

/* The slot for the next batch, when the work that reads its last contents is done. Its loss, if somebody's, must have been looked at: it is
 * overwritten. */
PapaStatus papa_seat_take(PapaSeat *seat, PapaSlot **out);

/* Where batches come from: a data set and how its images become floats for one net. */
typedef struct PapaFeed {
    const PapaCrew *crew;
    const PapaData *data;
    PapaImageFormat format;
} PapaFeed;

/* mean, std: per channel on a 0 to 1 scale. Call papa_crew_bring first. */
void papa_feed_init(PapaFeed *out, const PapaCrew *crew, const PapaData *data, bool channels_last, const double *mean, const double *std);

/* The classes that net tells apart. Errors: PAPA_ERR_MISMATCH: the logits are not (batch, classes), or data has more classes. */
PapaStatus papa_feed_classes(int64_t *n_classes, const PapaData *data, const PapaModel *model, const PapaNet *net, int64_t batch);

/* Bytes of one image if seats must fetch them; 0 if they are resident everywhere. */
int64_t papa_feed_fetch_bytes(const PapaCrew *crew, const PapaData *data);

/* On the host: sends the slot, whose numbers, plan and N samples are filled, their `source` being image numbers of the data set. Images that
 * are not resident are brought in first, and the samples renumbered. */
PapaStatus papa_feed_send(const PapaFeed *feed, PapaSeat *seat, PapaSlot *slot, int64_t N);

/* On the device, so that it can be recorded: makes the batch of N images that was sent into x; and, if targets is set, the soft targets into
 * seat->targets. */
PapaStatus papa_feed_make(const PapaFeed *feed, PapaSeat *seat, const PapaSlot *slot, PapaReal *x, int64_t N, bool targets);

#endif
