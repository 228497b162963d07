/* The thread pool: every task once, waiting, errors, reuse. */
#include "base/threads.h"
#include "check.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#define N_TASKS 1000

typedef struct Count {
    atomic_int runs[N_TASKS];
    atomic_int by_worker[8];
} Count;

static PapaStatus count_task(void *context, int worker, int task)
{
    Count *count = context;
    count->runs[task]++;
    count->by_worker[worker]++;
    return PAPA_OK;
}

static void each_task_once(void)
{
    for (int n_workers = 1; n_workers <= 8; n_workers++) {
        PapaPool *pool;
        CHECK_OK(papa_pool_new(&pool, n_workers));
        CHECK(papa_pool_workers(pool) == n_workers);
        for (int round = 0; round < 20; round++) {
            Count count = {0};
            CHECK_OK(papa_pool_for(pool, N_TASKS, count_task, &count));
            int total = 0;
            for (int i = 0; i < N_TASKS; i++)
                CHECK(count.runs[i] == 1, "task %d ran %d times", i, count.runs[i]);
            for (int i = 0; i < 8; i++)
                total += i < n_workers ? count.by_worker[i] : count.by_worker[i] ? 100000 : 0;
            CHECK(total == N_TASKS);
        }
        CHECK(papa_pool_for(pool, 0, count_task, NULL) == PAPA_OK);
        papa_pool_free(pool);
    }
    papa_pool_free(NULL);
}

/* What the trainer does: members take steps, a member is at one worker at a time, and all meet after every K steps. */
typedef struct Meet {
    int n_members, n_steps, every;
    int step[8];        /* steps ended */
    bool running[8];
    atomic_int inside[8];
    int meetings;
    bool wrong;
} Meet;

static int meet_next(void *context, int worker)
{
    (void)worker;
    Meet *meet = context;
    bool left = false;
    for (int m = 0; m < meet->n_members; m++) {
        left |= meet->step[m] < meet->n_steps;
        if (!meet->running[m] && meet->step[m] < meet->n_steps && meet->step[m] < (meet->meetings + 1) * meet->every) {
            meet->running[m] = true;
            return m;
        }
    }
    return left ? PAPA_POOL_WAIT : PAPA_POOL_DONE;
}

static PapaStatus meet_task(void *context, int worker, int task)
{
    (void)worker;
    Meet *meet = context;
    if (meet->inside[task]++)
        meet->wrong = true;
    if (task % 2)
        sched_yield();
    meet->inside[task]--;
    return PAPA_OK;
}

static void meet_done(void *context, int worker, int task)
{
    (void)worker;
    Meet *meet = context;
    meet->running[task] = false;
    meet->step[task]++;
    int together = 0;
    for (int m = 0; m < meet->n_members; m++) {
        meet->wrong |= meet->step[m] > (meet->meetings + 1) * meet->every;
        together += meet->step[m] == (meet->meetings + 1) * meet->every;
    }
    meet->meetings += together == meet->n_members;
}

static void waiting(void)
{
    for (int n_workers = 1; n_workers <= 7; n_workers += 2)
        for (int n_members = 1; n_members <= 5; n_members += 2) {
            PapaPool *pool;
            CHECK_OK(papa_pool_new(&pool, n_workers));
            Meet meet = {.n_members = n_members, .n_steps = 600, .every = 2};
            CHECK_OK(papa_pool_run(pool, meet_next, meet_task, meet_done, &meet));
            CHECK(!meet.wrong && meet.meetings == 300, "%d workers, %d members: %d meetings", n_workers, n_members, meet.meetings);
            for (int m = 0; m < n_members; m++)
                CHECK(meet.step[m] == 600);
            papa_pool_free(pool);
        }
}

/* Tasks 17 and above fail; the lowest is slow, and still the one that is reported. */
static PapaStatus fail_task(void *context, int worker, int task)
{
    (void)worker;
    atomic_int *n_started = context;
    (*n_started)++;
    if (task < 17)
        return PAPA_OK;
    if (task == 17)
        usleep(20000);
    return papa_fail(PAPA_ERR_FORMAT, "image %d is corrupt", task);
}

static void errors(void)
{
    PapaPool *pool;
    CHECK_OK(papa_pool_new(&pool, 4));
    for (int round = 0; round < 5; round++) {
        atomic_int n_started = 0;
        papa_error_restore("nothing yet");
        CHECK_FAILS(papa_pool_for(pool, N_TASKS, fail_task, &n_started), PAPA_ERR_FORMAT, "image 17 is corrupt");
        CHECK(n_started >= 18 && n_started <= 21, "%d tasks started", n_started);
        Count count = {0};
        CHECK_OK(papa_pool_for(pool, 10, count_task, &count)); /* the pool works on */
        CHECK(count.runs[9] == 1);
    }
    papa_pool_free(pool);
}

/* A failure also ends the workers that wait for a task that never comes. */
static int stuck_next(void *context, int worker)
{
    int *given = context;
    return worker || *given ? PAPA_POOL_WAIT : (*given)++;
}

static PapaStatus stuck_task(void *context, int worker, int task)
{
    (void)context, (void)worker, (void)task;
    usleep(5000);
    return papa_fail(PAPA_ERR_NUMERIC, "the loss is not finite");
}

static void failure_ends_waiting(void)
{
    PapaPool *pool;
    int given = 0;
    CHECK_OK(papa_pool_new(&pool, 3));
    CHECK_FAILS(papa_pool_run(pool, stuck_next, stuck_task, NULL, &given), PAPA_ERR_NUMERIC, "the loss is not finite");
    papa_pool_free(pool);
}

static void cores(void)
{
    cpu_set_t all, one;
    CHECK(sched_getaffinity(0, sizeof all, &all) == 0);
    CHECK(papa_cores() == CPU_COUNT(&all), "%d", papa_cores());
    CPU_ZERO(&one);
    for (int i = 0; i < CPU_SETSIZE && !CPU_COUNT(&one); i++)
        if (CPU_ISSET(i, &all))
            CPU_SET(i, &one);
    CHECK(sched_setaffinity(0, sizeof one, &one) == 0);
    CHECK(papa_cores() == 1, "%d", papa_cores());
    CHECK(sched_setaffinity(0, sizeof all, &all) == 0);
}

int main(void)
{
    each_task_once();
    waiting();
    errors();
    failure_ends_waiting();
    cores();
    return check_result();
}
