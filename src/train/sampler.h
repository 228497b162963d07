/* The images that statistics are measured on: the same ones in every pass, in batches, each augmented by itself as in training, with nothing that mixes
 * images or blanks them. */
#ifndef PAPA_SAMPLER_H
#define PAPA_SAMPLER_H

#include "train/progress.h"
#include "train/seat.h"

typedef struct PapaSamplerPlan {
    PapaCrew *crew;            /* its main device makes the batches */
    const PapaData *data;
    const uint32_t *indices;   /* images to draw from */
    int64_t n;                 /* of them; >= 1 */
    const double *mean, *std;
    PapaRecipe recipe;
    int64_t batch;
    uint64_t seed;
    atomic_llong *n_done;      /* counted up with each batch */
    PapaMeter *meter;          /* ticked with each batch, on the thread that asks for it; n_done and meter may be NULL */
    const volatile sig_atomic_t *stop; /* non-zero: PAPA_ERR_STOPPED; NULL: goes on to the end */
} PapaSamplerPlan;

typedef struct PapaSampler {
    PapaSamplerPlan plan;
    PapaSeat seat;
    PapaFeed feed;
    uint32_t *order;
} PapaSampler;

PapaStatus papa_sampler_open(PapaSampler *out, const PapaSamplerPlan *plan);
void papa_sampler_close(PapaSampler *sampler); /* a zeroed one is fine */

/* A papa_repair_fill_fn (soup/repair.h); context is the sampler. */
PapaStatus papa_sampler_fill(void *context, PapaWorker *worker, PapaReal *input, int64_t n, int batch_index, bool channels_last);

/* Batches that statistics of this many images are measured on, unless asked is above 0. */
int papa_sampler_batches(int asked, int64_t n_images);

#endif
