/* Who computes: worker threads, each with a device of its own, and devices for the calling thread while they rest.
 *
 * A place is memory that its devices' kernels share: the CPU's, or one GPU's. Workers are dealt over the places in turn, members over the workers:
 * on the CPU any worker takes any member's next step, on GPUs a member stays with its home, so that its memory is near and its recorded
 * steps can be replayed. */
#ifndef PAPA_CREW_H
#define PAPA_CREW_H

#include "base/threads.h"
#include "data/data.h"
#include "device/device.h"
#include "kernels/mix.h"

#define PAPA_MAX_PLACES 16

/* What was asked for, and found to be there. */
typedef struct PapaCrewPlan {
    PapaDeviceKind kind;
    int n_gpus, gpus[PAPA_MAX_PLACES];
    PapaPrecision precision;
    bool tune;
    const PapaGpu *described; /* a GPU that is not there, and what it is given to do; NULL: real ones */
    PapaLaunchLog *log;
    int threads;        /* of the CPU, in all; >= 1 */
    int per_gpu;        /* workers on one GPU, at most; >= 1 */
    bool deterministic; /* one thread inside each worker and in main */
} PapaCrewPlan;

/* Errors: PAPA_ERR_DEVICE for a device that is not there, PAPA_ERR_ARGUMENT for a name that is none, or a precision that needs another device. */
PapaStatus papa_crew_choose(PapaCrewPlan *out, const PapaDeviceOptions *options);

/* A data set's images and labels in one place's memory. */
typedef struct PapaResident {
    const PapaData *data;
    int place;
    uint8_t *images;
    int32_t *labels;
} PapaResident;

typedef struct PapaCrew {
    PapaPool *pool;
    int n_workers;
    PapaDevice **devs;  /* by worker */
    int n_places;
    int *place;         /* by worker */
    PapaDevice **hubs;  /* by place: the calling thread's */
    PapaDevice *main;   /* hubs[0], with all threads that the crew has */

    /* of the pull */
    PapaStage *mix;     /* by place: PapaMixNumbers */
    PapaEvent **mix_read; /* by place: the last pull has read its numbers */
    PapaEvent **points; /* by worker, then by place: where each stands */
    float **visitors;   /* by place: pieces of members from elsewhere; NULL with one place */

    PapaResident *residents;
    int n_residents;
} PapaCrew;

/* CPU: min(threads, n_members) workers with threads / n_workers threads inside each; GPUs: up to per_gpu workers on each, n_members in all. */
PapaStatus papa_crew_open(PapaCrew *out, const PapaCrewPlan *plan, int n_members);
void papa_crew_close(PapaCrew *crew); /* a zeroed crew is fine */

/* Runs task(context, worker, worker) on every worker's own thread, bound to its device. */
PapaStatus papa_crew_each(PapaCrew *crew, papa_pool_task_fn *task, void *context);

/* Elements of a member that visit another GPU at a time. */
#define PAPA_PULL_PIECE ((int64_t)1 << 20)

/* Whether members have homes; and the worker that is member's. */
static inline bool papa_crew_has_homes(const PapaCrew *crew)
{
    return crew->main->kind == PAPA_CUDA;
}
static inline int papa_crew_home(const PapaCrew *crew, int member)
{
    return member % crew->n_workers;
}

/* The hubs wait for what the workers were given so far, or the workers for the hubs. The host does not. */
PapaStatus papa_crew_gather(PapaCrew *crew);
PapaStatus papa_crew_release(PapaCrew *crew);

/* Brings the images of a resident data set to every place, once; they stay until the crew is closed. A set that would take more than a quarter of
 * what a GPU has left stays with the host, and its batches are sent one by one. */
PapaStatus papa_crew_bring(PapaCrew *crew, const PapaData *data);
/* As kernels at this place see them; NULL: they are not there. */
const PapaResident *papa_crew_resident(const PapaCrew *crew, const PapaData *data, int place);

#endif
