/* REPAIR's arithmetic on the host: statistics over several passes, and folding a correction into a layer. */
#ifndef PAPA_REPAIR_FOLD_H
#define PAPA_REPAIR_FOLD_H

#include "soup/repair.h"

/* Running combination of equally large passes. The arrays have n entries and are the caller's, zeroed at the start. */
typedef struct PapaPooled {
    int64_t n;
    int passes;
    double *mean, *variance, *spread; /* mean of means; mean of variances; sum of squared distances of the passes' means */
} PapaPooled;

/* Adds a pass: its means and population standard deviations. */
void papa_pooled_add(PapaPooled *pooled, const float *mean, const float *std);
/* Population standard deviation of channel i over all passes. */
double papa_pooled_std(const PapaPooled *pooled, int64_t i);

/* One channel: what the child's layer gives, what it should give. A NaN in a goal: stays as it is. */
typedef struct PapaChannel {
    double mean, std, goal_mean, goal_std;
} PapaChannel;

/* Scales the weight and moves the bias of one layer so that its channels meet their goals. store: host memory; channels: tap->n_channels. */
void papa_repair_fold(float *store, const PapaModel *model, const PapaTap *tap, const PapaChannel *channels);

#endif
