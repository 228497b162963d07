/* Members on workers: who runs which step when, and where they meet.
 *
 * The unit of work is one step of one member, taken by any worker; members run ahead of one another up to the next meeting. What a
 * step does comes in as a callback, so this part knows nothing of networks and data. Results are the same, bit for bit, however
 * the members were dealt to workers, as long as a step depends on its member and number alone. */
#ifndef PAPA_POPULATION_H
#define PAPA_POPULATION_H

#include "base/threads.h"
#include "device/device.h"
#include "kernels/mix.h"

#include <stdatomic.h>

/* Worker threads, each with a device of its own; and a device for the calling thread while they rest. */
typedef struct PapaCrew {
    PapaPool *pool;
    int n_workers;
    PapaDevice **devs;  /* by worker */
    PapaDevice *main;   /* the calling thread's, with all threads that the crew has */
    PapaMixNumbers *mix; /* device memory, for the pull */
} PapaCrew;

/* min(threads, n_members) workers with threads / n_workers threads inside each. deterministic: one thread inside each, and in main. */
PapaStatus papa_crew_open(PapaCrew *out, int n_members, int threads, bool deterministic);

/* The CPU threads that these options ask for. Errors: PAPA_ERR_DEVICE for a device that is not there, PAPA_ERR_ARGUMENT for a
 * name that is none. */
PapaStatus papa_crew_threads(int *threads, const PapaDeviceOptions *options);
void papa_crew_close(PapaCrew *crew); /* a zeroed crew is fine */

/* Runs task(context, worker, worker) on every worker's own thread. */
PapaStatus papa_crew_each(PapaCrew *crew, papa_pool_task_fn *task, void *context);

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

/* w_j <- w_j + pull * (mean - w_j) for all n_members stores, in these spans, by all workers. */
PapaStatus papa_population_pull(PapaCrew *crew, float *const *stores, int n_members, const PapaSpan *spans, int n_spans, double pull);

/* papa-2: n distinct pairs (a < b) out of all n(n-1)/2, drawn by seed and epoch; with n = 2 both are the same. n >= 2. */
PapaStatus papa_population_pairs(int (*pairs)[2], int n, uint64_t seed, int epoch);

#endif
