/* Soups: many members of one architecture condensed into one store, and their outputs into one ensemble.
 *
 * Stores are bare device memory, store.n_total floats, owned by the caller (model/model.h). This layer knows models, nets and
 * devices; it knows nothing of training and of data sets: batches and scores come through callbacks. REPAIR is in soup/repair.h. */
#ifndef PAPA_SOUP_H
#define PAPA_SOUP_H

#include "device/device.h"
#include "model/model.h"

/* to = sum_k weights[k] * stores[k], over all n_total floats: trained tensors, statistics, frozen tensors. weights NULL: 1/n each; they are
 * used as given and need not sum to 1. Accumulated in double and rounded once: where all stores agree and the weights sum to 1, to is
 * bit for bit what they hold. to may be one of the stores. n >= 1. Asynchronous on dev. */
PapaStatus papa_soup_mean(PapaDevice *dev, float *to, const float *const *stores, const double *weights, int n, const PapaStoreLayout *layout);

/* ---------------------------------------------------------------- greedy soup (Wortsman et al. 2022, recipe 1), pruned soup */

typedef struct PapaGreedyCalls {
    void *context;
    /* Makes a candidate ready to be scored, in place: re-estimates BatchNormalization's statistics (papa_repair_recalibrate). NULL: nothing.
     * Not called for single members: they are scored as they are. */
    PapaStatus (*prepare)(void *context, float *store);
    /* Score of a store on held-out images, higher is better. NaN is worse than everything. */
    PapaStatus (*score)(void *context, const float *store, double *out);
} PapaGreedyCalls;

/* Starts from the best member, offers the others in order of their scores (ties: lower index first), one pass; a member stays if the mean of
 * the soup's members and it scores strictly higher. to: the soup, as prepared; overwritten. scores: the members' own, by the same measure.
 * taken: n flags, set. best: the soup's score, may be NULL. to must not be one of the stores. */
PapaStatus papa_soup_greedy(PapaDevice *dev, float *to, bool *taken, double *best, const float *const *stores, const double *scores, int n,
    const PapaStoreLayout *layout, const PapaGreedyCalls *calls);

/* The other way round: starts from the mean of all, and leaves out in order of their scores, worst first (ties: higher index first), each member without which
 * the mean scores strictly higher; passes follow each other until one leaves none out. The last member stays. to: the soup, as prepared; a single
 * member as it is. The rest as papa_soup_greedy. */
PapaStatus papa_soup_pruned(PapaDevice *dev, float *to, bool *taken, double *best, const float *const *stores, const double *scores, int n,
    const PapaStoreLayout *layout, const PapaGreedyCalls *calls);

/* The members' indices, best score first, ties by index, NaN last. */
void papa_soup_order(int *order, const double *scores, int n);

/* ---------------------------------------------------------------- ensembles: mean of the members' outputs for one batch
 * Host memory, (N, classes). sum starts as zeros; add every member; then finish. */

/* sum += weight * logits, or weight * softmax(logits) for the mean of probabilities. */
void papa_ensemble_add(double *sum, const float *logits, int64_t N, int64_t classes, double weight, PapaEnsembleMean mean);

/* Logits whose softmax is the ensemble's answer, so that one scorer serves members and ensembles: the mean logits, or the logarithm
 * of the mean probabilities (those that are not normal doubles count as the smallest one). The weights given to add must have had sum 1. */
void papa_ensemble_finish(float *logits, const double *sum, int64_t N, int64_t classes, PapaEnsembleMean mean);

#endif
