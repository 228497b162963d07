#include "train/population.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

typedef struct Each {
    papa_pool_task_fn *task;
    void *context;
    bool *given; /* by worker */
} Each;

static int each_next(void *context, int worker)
{
    Each *each = context;
    if (each->given[worker])
        return PAPA_POOL_DONE;
    each->given[worker] = true;
    return worker;
}

static PapaStatus each_task(void *context, int worker, int task)
{
    Each *each = context;
    return each->task(each->context, worker, task);
}

PapaStatus papa_crew_each(PapaCrew *crew, papa_pool_task_fn *task, void *context)
{
    Each each = {.task = task, .context = context, .given = calloc((size_t)crew->n_workers, sizeof(bool))};
    if (!each.given)
        return papa_fail_memory((size_t)crew->n_workers, "a list of workers");
    PapaStatus status = papa_pool_run(crew->pool, each_next, each_task, NULL, &each);
    free(each.given);
    return status;
}

typedef struct Opening {
    PapaCrew *crew;
    int n_threads;
} Opening;

static PapaStatus open_device(void *context, int worker, int task)
{
    (void)task;
    const Opening *opening = context;
    return papa_device_open_cpu(&opening->crew->devs[worker], opening->n_threads);
}

PapaStatus papa_crew_threads(int *threads, const PapaDeviceOptions *options)
{
    const char *device = options->device ? options->device : "auto";
    if (strncmp(device, "cuda", 4) == 0 && (!device[4] || device[4] == ':'))
        return papa_fail(PAPA_ERR_DEVICE, "device '%s': this build of papa has no CUDA", device);
    if (strcmp(device, "auto") != 0 && strcmp(device, "cpu") != 0)
        return papa_fail(PAPA_ERR_ARGUMENT, "device '%s' is none: expected auto, cpu, cuda or cuda:N", device);
    if (options->threads < 0)
        return papa_fail(PAPA_ERR_ARGUMENT, "threads is %d, expected at least 0", options->threads);
    *threads = options->threads ? options->threads : papa_cores();
    return PAPA_OK;
}

PapaStatus papa_crew_open(PapaCrew *out, int n_members, int threads, bool deterministic)
{
    assert(n_members >= 1 && threads >= 1);
    *out = (PapaCrew){.n_workers = threads < n_members ? threads : n_members};
    Opening opening = {.crew = out, .n_threads = deterministic ? 1 : threads / out->n_workers};
    PapaStatus status;
    out->devs = calloc((size_t)out->n_workers, sizeof(PapaDevice *));
    if (!out->devs) {
        status = papa_fail_memory((size_t)out->n_workers * sizeof(PapaDevice *), "a list of workers");
        goto out;
    }
    PAPA_GOTO(papa_pool_new(&out->pool, out->n_workers));
    PAPA_GOTO(papa_crew_each(out, open_device, &opening));
    PAPA_GOTO(papa_device_open_cpu(&out->main, deterministic ? 1 : threads));
    void *mix;
    PAPA_GOTO(papa_device_alloc(out->main, &mix, sizeof *out->mix, "the pull"));
    out->mix = mix;
out:
    if (status != PAPA_OK)
        papa_crew_close(out);
    return status;
}

void papa_crew_close(PapaCrew *crew)
{
    if (crew->main)
        papa_device_free(crew->main, crew->mix);
    papa_device_close(crew->main);
    for (int i = 0; crew->devs && i < crew->n_workers; i++)
        papa_device_close(crew->devs[i]);
    free(crew->devs);
    papa_pool_free(crew->pool);
    *crew = (PapaCrew){0};
}
