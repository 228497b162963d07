/* Members on workers: who runs which step when, and where they meet.
 *
 * The unit of work is one step of one member, taken by any worker; members run ahead of one another up to the next meeting. What a
 * step does comes in as a callback, so this part knows nothing of networks and data. Results are the same, bit for bit, however
 * the members were dealt to workers, as long as a step depends on its member and number alone. */
#ifndef PAPA_POPULATION_H
#define PAPA_POPULATION_H

#include "train/crew.h"

#include <stdatomic.h>

typedef struct PapaPopulation {
    PapaCrew *crew;
    int n_members;
    const volatile sig_atomic_t *stop;  /* may be NULL */
    /* One step (from 0, over the whole run) of one member. */
    PapaStatus (*step)(void *context, int worker, int member, int64_t step);
    void *context;

    /* set by papa_population_start */
    int64_t *started, *finished;        /* steps, by member */
    int *worker;                        /* that took the member's last step: its caches know it */
    atomic_llong n_finished;            /* over all members; may be read from any thread at any time */
} PapaPopulation;

/* Sets the counters to `at` steps done. The population itself, its crew and its callback are the caller's. */
PapaStatus papa_population_start(PapaPopulation *population, int64_t at);
void papa_population_end(PapaPopulation *population);

/* Runs every member until it has done `until` steps. If the stop flag is set meanwhile, the members that are behind catch up with the one
 * that is furthest, and all end there. *reached: steps done by every member. */
PapaStatus papa_population_advance(PapaPopulation *population, int64_t until, int64_t *reached);

/* A piece of the store. */
typedef struct PapaSpan {
    int64_t offset, n; /* elements; offset a multiple of 16 */
} PapaSpan;

/* w_j <- w_j + pull * (mean - w_j) for all n_members stores, in these spans, by all workers, or by the places' hubs: behind all that the workers
 * were given before, and in front of all that they are given after. The stores lie where their members have their homes. */
PapaStatus papa_population_pull(PapaCrew *crew, float *const *stores, int n_members, const PapaSpan *spans, int n_spans, double pull);

/* papa-2: n distinct pairs (a < b) out of all n(n-1)/2, drawn by seed and epoch; with n = 2 both are the same. n >= 2. */
PapaStatus papa_population_pairs(int (*pairs)[2], int n, uint64_t seed, int epoch);

#endif
