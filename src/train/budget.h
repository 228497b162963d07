/* What a run will ask of each GPU's memory, known before it begins. */
#ifndef PAPA_BUDGET_H
#define PAPA_BUDGET_H

#include "train/trainer.h"

/* Bytes at one place. */
typedef struct PapaBudget {
    int n_members, n_workers;
    int64_t member;  /* one member: parameters and optimiser state */
    int64_t worker;  /* one worker: activations, workspace, gradients, batches */
    int64_t arena;   /* the part of worker that grows with the batch */
    int64_t shared;  /* soups, REPAIR, and copies of other places' members: at the first place only */
} PapaBudget;

/* The nets are compiled. */
PapaBudget papa_budget(const PapaTrainer *trainer, int place);

static inline int64_t papa_budget_total(const PapaBudget *b)
{
    return b->n_members * b->member + b->n_workers * b->worker + b->shared;
}

/* PAPA_ERR_MEMORY where a place has less than that free: says how much is needed, how much there is, and which batch or population would fit.
 * The CPU always has enough. */
PapaStatus papa_budget_check(const PapaTrainer *trainer);

#endif
