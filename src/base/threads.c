/* The pool: one lock, one condition for the workers and one for the caller. Tasks are coarse, so the lock is not
 * contended. A run is numbered; a worker joins each run once and leaves it when next says DONE or a task has failed. */
#include "base/threads.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WAIT_NANOSECONDS 100000000 /* between calls of wait */

typedef struct Worker {
    PapaPool *pool;
    pthread_t thread;
    int index;
} Worker;

struct PapaPool {
    int n_workers, n_started;
    Worker *workers;
    pthread_mutex_t lock;
    pthread_cond_t changed;  /* for the workers: a run has begun, a task has ended, or quit */
    pthread_cond_t finished; /* for the caller: the last worker has left the run */
    uint64_t run;            /* counts the runs begun */
    bool quit;
    papa_pool_wait_fn *wait;
    void *wait_context;

    /* the run under way */
    papa_pool_next_fn *next;
    papa_pool_task_fn *task;
    papa_pool_done_fn *done;
    void *context;
    int n_inside;  /* workers that have not left the run */
    int n_running; /* tasks under way */
    int n_waiting; /* workers that next told to wait */
    PapaStatus status;
    int failed_task;
    char message[1024];
};

/* Of several failures the lowest task's is kept: with papa_pool_for it does not depend on timing which one that is. */
static void keep_failure(PapaPool *pool, PapaStatus status, int task)
{
    if (pool->status != PAPA_OK && pool->failed_task <= task)
        return;
    pool->status = status;
    pool->failed_task = task;
    strncpy(pool->message, papa_error(), sizeof pool->message - 1);
}

/* Called and returns under the lock. */
static void take_part(PapaPool *pool, int worker)
{
    while (pool->status == PAPA_OK) {
        int task = pool->next(pool->context, worker);
        if (task == PAPA_POOL_DONE)
            break;
        if (task == PAPA_POOL_WAIT) {
            pool->n_waiting++;
            assert((pool->n_running || pool->n_waiting < pool->n_inside) && "all workers wait for each other");
            pthread_cond_wait(&pool->changed, &pool->lock);
            pool->n_waiting--;
            continue;
        }
        assert(task >= 0);
        pool->n_running++;
        pthread_mutex_unlock(&pool->lock);
        PapaStatus status = pool->task(pool->context, worker, task);
        pthread_mutex_lock(&pool->lock);
        pool->n_running--;
        if (status != PAPA_OK)
            keep_failure(pool, status, task);
        if (pool->done)
            pool->done(pool->context, worker, task);
        pthread_cond_broadcast(&pool->changed);
    }
}

static void *worker_main(void *argument)
{
    Worker *self = argument;
    PapaPool *pool = self->pool;
    uint64_t seen = 0;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (pool->run == seen && !pool->quit)
            pthread_cond_wait(&pool->changed, &pool->lock);
        if (pool->quit)
            break;
        seen = pool->run;
        take_part(pool, self->index);
        if (--pool->n_inside == 0)
            pthread_cond_signal(&pool->finished);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

PapaStatus papa_pool_new(PapaPool **out, int n_workers)
{
    assert(n_workers >= 1);
    *out = NULL;
    PapaPool *pool = calloc(1, sizeof *pool);
    Worker *workers = calloc((size_t)n_workers, sizeof *workers);
    if (!pool || !workers) {
        free(pool);
        free(workers);
        return papa_fail_memory((size_t)n_workers * sizeof *workers, "a thread pool");
    }
    pool->n_workers = n_workers;
    pool->workers = workers;
    /* With these attributes they allocate nothing and cannot fail on Linux. */
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->changed, NULL);
    pthread_condattr_t monotonic; /* a clock that nobody sets: for waiting with a deadline */
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&pool->finished, &monotonic);
    pthread_condattr_destroy(&monotonic);
    for (int i = 0; i < n_workers; i++) {
        workers[i] = (Worker){.pool = pool, .index = i};
        int error = pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]);
        if (error) {
            papa_pool_free(pool);
            return papa_fail(PAPA_ERR_DEVICE, "cannot start thread %d of %d: %s", i + 1, n_workers, strerror(error));
        }
        pool->n_started++;
    }
    *out = pool;
    return PAPA_OK;
}

void papa_pool_free(PapaPool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->quit = true;
    pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 0; i < pool->n_started; i++)
        pthread_join(pool->workers[i].thread, NULL);
    pthread_cond_destroy(&pool->finished);
    pthread_cond_destroy(&pool->changed);
    pthread_mutex_destroy(&pool->lock);
    free(pool->workers);
    free(pool);
}

int papa_pool_workers(const PapaPool *pool)
{
    return pool->n_workers;
}

void papa_pool_on_wait(PapaPool *pool, papa_pool_wait_fn *wait, void *context)
{
    pool->wait = wait;
    pool->wait_context = context;
}

/* Called and returns under the lock. */
static void wait_for_end(PapaPool *pool)
{
    while (pool->n_inside) {
        if (!pool->wait) {
            pthread_cond_wait(&pool->finished, &pool->lock);
            continue;
        }
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += WAIT_NANOSECONDS;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        if (pthread_cond_timedwait(&pool->finished, &pool->lock, &until) != ETIMEDOUT)
            continue;
        pthread_mutex_unlock(&pool->lock);
        pool->wait(pool->wait_context);
        pthread_mutex_lock(&pool->lock);
    }
}

PapaStatus papa_pool_run(PapaPool *pool, papa_pool_next_fn *next, papa_pool_task_fn *task, papa_pool_done_fn *done, void *context)
{
    pthread_mutex_lock(&pool->lock);
    assert(pool->n_inside == 0 && "a pool does one run at a time");
    pool->next = next;
    pool->task = task;
    pool->done = done;
    pool->context = context;
    pool->n_inside = pool->n_workers;
    pool->status = PAPA_OK;
    pool->run++;
    pthread_cond_broadcast(&pool->changed);
    wait_for_end(pool);
    PapaStatus status = pool->status;
    pthread_mutex_unlock(&pool->lock);
    if (status != PAPA_OK)
        papa_error_restore(pool->message);
    return status;
}

typedef struct For {
    papa_pool_task_fn *task;
    void *context;
    int at, n;
} For;

static int for_next(void *context, int worker)
{
    (void)worker;
    For *loop = context;
    return loop->at < loop->n ? loop->at++ : PAPA_POOL_DONE;
}

static PapaStatus for_task(void *context, int worker, int task)
{
    For *loop = context;
    return loop->task(loop->context, worker, task);
}

PapaStatus papa_pool_for(PapaPool *pool, int n, papa_pool_task_fn *task, void *context)
{
    For loop = {.task = task, .context = context, .n = n};
    return papa_pool_run(pool, for_next, for_task, NULL, &loop);
}

/* The kernel refuses a set smaller than its own, so the set grows until it fits. */
int papa_cores(void)
{
    for (int n_bits = CPU_SETSIZE; n_bits <= 1 << 20; n_bits *= 2) {
        cpu_set_t *set = CPU_ALLOC(n_bits);
        if (!set)
            break;
        size_t bytes = CPU_ALLOC_SIZE(n_bits);
        int failed = sched_getaffinity(0, bytes, set), error = errno;
        int count = failed ? 0 : CPU_COUNT_S(bytes, set);
        CPU_FREE(set);
        if (count > 0)
            return count;
        if (error != EINVAL)
            break;
    }
    return 1;
}
