/* A pool of worker threads for coarse tasks: one training step of one member, one image to decode.
 * Loops inside one operator use papa_ranges (device/device.h) instead. */
#ifndef PAPA_THREADS_H
#define PAPA_THREADS_H

#include "base/status.h"

typedef struct PapaPool PapaPool;

/* n_workers threads, at least 1. */
PapaStatus papa_pool_new(PapaPool **out, int n_workers);
void papa_pool_free(PapaPool *pool);
int papa_pool_workers(const PapaPool *pool);

/* Asks for the next piece of work for this worker. Called under the pool's lock. Returns the task number (>= 0) to run
 * now, PAPA_POOL_WAIT if some task must finish first, PAPA_POOL_DONE if nothing is left to start. */
typedef int papa_pool_next_fn(void *context, int worker);
/* Runs one task, without the lock. A status other than PAPA_OK stops the run: tasks under way end, no new one starts. */
typedef PapaStatus papa_pool_task_fn(void *context, int worker, int task);
/* Tells that the task has ended. Called under the lock; then waiting workers ask again. May be NULL. */
typedef void papa_pool_done_fn(void *context, int worker, int task);

#define PAPA_POOL_WAIT (-1)
#define PAPA_POOL_DONE (-2)

/* While a run is under way the calling thread, which has nothing else to do, calls this about ten times a second, without the
 * lock: for progress. NULL (at first): never. */
typedef void papa_pool_wait_fn(void *context);
void papa_pool_on_wait(PapaPool *pool, papa_pool_wait_fn *wait, void *context);

/* Runs until next says DONE to every worker. Returns the first failure, with its message as this thread's. */
PapaStatus papa_pool_run(PapaPool *pool, papa_pool_next_fn *next, papa_pool_task_fn *task, papa_pool_done_fn *done, void *context);

/* Runs task(context, worker, 0 .. n-1), each once, in any order. */
PapaStatus papa_pool_for(PapaPool *pool, int n, papa_pool_task_fn *task, void *context);

/* Number of cores that this process may use. */
int papa_cores(void);

#endif
