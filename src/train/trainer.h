/* The trainer: a population of networks, their optimisers, and the workers that train them. Knows a model, a data set and resolved
 * options; knows nothing of files, soups' selection or scores.
 *
 * A step of one member: draw the batch's plans, make the batch, forward, loss, backward, clip, update. Gradients live inside one step
 * and belong to the worker's seat; optimiser state belongs to the member, is never averaged and never reset. */
#ifndef PAPA_TRAINER_H
#define PAPA_TRAINER_H

#include "train/evaluate.h"
#include "train/population.h"
#include "train/schedule.h"
#include "train/seat.h"

typedef struct PapaMember {
    int index;
    PapaRecipe recipe;     /* its cell of the regularisation grid */
    float *params;         /* device, (n_total) */
    float *first, *second; /* device, (n_trained): momentum or first moment; second moment; NULL where the optimiser has none */
    uint32_t *order;       /* host, (n_train): this epoch's images */
    double loss_sum;       /* of the epoch's steps so far */
    int64_t n_losses;
    double last_loss;
    PapaReplay *replays[2][PAPA_SLOTS]; /* its recorded step, on whole and on last batches, by slot; NULL: not recorded */
    bool ran[2][PAPA_SLOTS];            /* has run once unrecorded, which loads what libraries load */
} PapaMember;

/* The networks of one place. */
typedef struct PapaTrainerNets {
    PapaNet *train, *last, *infer;
} PapaTrainerNets;

typedef struct PapaTrainer {
    /* what it was opened with; borrowed */
    const PapaModel *model;
    const PapaTrainOptions *options;  /* resolved: no NaN, no 0 for "default" */
    const PapaData *data, *test;      /* test: what the seats are to score as well; may be NULL */
    const uint32_t *indices;          /* images to train on */
    int64_t n_train;
    PapaCrew *crew;

    int64_t n_classes, batch, last_batch; /* last_batch: images in an epoch's shorter last batch; 0: none, or dropped */
    int64_t steps_per_epoch, n_steps;
    PapaRatePlan rates;
    PapaTrainerNets nets[PAPA_MAX_PLACES];
    PapaFeed feed;
    PapaSeat *seats;                  /* by worker */
    PapaMember *members;
    float **stores;                   /* members' params, by member */
    PapaSpan *spans;                  /* of the store: what pulls move: everything that is not frozen */
    int n_spans;
    PapaPopulation population;
    double seconds;                   /* spent in papa_trainer_advance */
} PapaTrainer;

typedef struct PapaTrainerPlan {
    const PapaModel *model;           /* selected */
    const PapaTrainOptions *options;
    const PapaData *data, *test;      /* test: images of the same size that the seats are to score; may be NULL */
    const uint32_t *indices;
    int64_t n_train;
    const double *mean, *std;         /* per channel, 0 to 1 scale */
    PapaCrew *crew;
    const volatile sig_atomic_t *stop;
} PapaTrainerPlan;

/* Errors: PAPA_ERR_MISMATCH (model and data), PAPA_ERR_ARGUMENT (fewer images than a batch), and those of compiling and memory. */
PapaStatus papa_trainer_open(PapaTrainer *out, const PapaTrainerPlan *plan);
void papa_trainer_close(PapaTrainer *trainer); /* a zeroed trainer is fine */

/* Trains until every member has done `until` steps (or the stop flag is seen: *reached tells), with the pulls that fall on the way, one at
 * `until` included. Errors: PAPA_ERR_NUMERIC names member and step of a loss that is no finite number. */
PapaStatus papa_trainer_advance(PapaTrainer *trainer, int64_t until, int64_t *reached);

/* The members' mean training loss since the last call; and forgets it. NaN where there was no step. losses: n_members. */
void papa_trainer_losses(PapaTrainer *trainer, double *losses);

/* Images that a member has seen in its first `steps` steps. */
int64_t papa_trainer_images(const PapaTrainer *trainer, int64_t steps);

/* Arrays of n_trained floats that the optimiser keeps for each member. */
int papa_trainer_states(const PapaTrainer *trainer);

/* Bytes of one image where seats must fetch them, of either data set; 0 where all are resident. */
int64_t papa_trainer_fetch_bytes(const PapaTrainer *trainer);

/* Bytes that one member holds. */
int64_t papa_trainer_member_bytes(const PapaTrainer *trainer);

/* ---- in member.c ---- */

/* Deals the cells of the grid: the Cartesian product of the four lists (an empty list: {0}), shuffled by the seed, in turn to the members. */
PapaStatus papa_deal_recipes(PapaMember *members, int n_members, const PapaTrainOptions *options);

/* That has the member's memory: its home's, or the crew's. */
PapaDevice *papa_member_device(const PapaTrainer *trainer, int index);

PapaStatus papa_member_open(PapaMember *out, int index, const PapaTrainer *trainer);
void papa_member_close(PapaMember *member, PapaDevice *dev);

/* The population's step: context is the trainer. On a GPU it has not ended on return, and its loss is looked at two steps later. */
PapaStatus papa_member_step(void *context, int worker, int member, int64_t step);

/* Waits for a worker's steps and looks at their losses. */
PapaStatus papa_member_settle(const PapaTrainer *trainer, int worker);

#endif
