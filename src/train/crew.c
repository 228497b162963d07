#include "train/crew.h"

#include <assert.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define PER_GPU 8 /* streams of small networks that fill a large GPU between them */

/* ---------------------------------------------------------------- choosing */

/* "cuda" or "cuda:I,J,...". */
static PapaStatus read_gpus(PapaCrewPlan *plan, const char *device)
{
    const char *at = device + 4;
    if (!*at) {
        plan->n_gpus = 1;
        return PAPA_OK;
    }
    do {
        char *end;
        long gpu = at[1] >= '0' && at[1] <= '9' ? strtol(at + 1, &end, 10) : -1;
        if (gpu < 0 || gpu > INT_MAX || (*end && *end != ','))
            return papa_fail(PAPA_ERR_ARGUMENT, "device '%s': expected cuda:N or cuda:N,M,...", device);
        for (int i = 0; i < plan->n_gpus; i++)
            if (plan->gpus[i] == gpu)
                return papa_fail(PAPA_ERR_ARGUMENT, "device '%s': GPU %ld is named twice", device, gpu);
        if (plan->n_gpus == PAPA_MAX_PLACES)
            return papa_fail(PAPA_ERR_ARGUMENT, "device '%s': at most %d GPUs", device, PAPA_MAX_PLACES);
        plan->gpus[plan->n_gpus++] = (int)gpu;
        at = end;
    } while (*at);
    return PAPA_OK;
}

static PapaStatus choose_cuda(PapaCrewPlan *plan, const char *device)
{
    PAPA_TRY(read_gpus(plan, device));
    int n = papa_device_count_cuda();
    if (!n)
        return papa_fail_in(PAPA_ERR_DEVICE, "device '%s'", device);
    for (int i = 0; i < plan->n_gpus; i++)
        if (plan->gpus[i] >= n)
            return papa_fail(PAPA_ERR_DEVICE, "device '%s': there are %d GPUs, counted from 0", device, n);
    plan->kind = PAPA_CUDA;
    return PAPA_OK;
}

PapaStatus papa_crew_choose(PapaCrewPlan *out, const PapaDeviceOptions *options)
{
    const char *device = options->device ? options->device : "auto";
    *out = (PapaCrewPlan){.precision = options->precision, .tune = options->tune, .per_gpu = PER_GPU, .deterministic = options->deterministic};
    if (options->threads < 0)
        return papa_fail(PAPA_ERR_ARGUMENT, "threads is %d, expected at least 0", options->threads);
    out->threads = options->threads ? options->threads : papa_cores();
    bool automatic = strcmp(device, "auto") == 0;
    if (strncmp(device, "cuda", 4) == 0 && (!device[4] || device[4] == ':'))
        return choose_cuda(out, device);
    if (!automatic && strcmp(device, "cpu") != 0)
        return papa_fail(PAPA_ERR_ARGUMENT, "device '%s' is none: expected auto, cpu, cuda or cuda:N", device);
    if (automatic && papa_device_count_cuda())
        return choose_cuda(out, "cuda");
    if (options->precision != PAPA_PRECISION_FP32)
        return papa_fail(PAPA_ERR_ARGUMENT, "the cpu computes in fp32 only: tf32 and bf16 need --device cuda");
    return PAPA_OK;
}

/* ---------------------------------------------------------------- everybody's turn */

typedef struct Each {
    PapaCrew *crew;
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
    if (each->crew->devs[worker])
        PAPA_TRY(papa_device_enter(each->crew->devs[worker]));
    return each->task(each->context, worker, task);
}

PapaStatus papa_crew_each(PapaCrew *crew, papa_pool_task_fn *task, void *context)
{
    Each each = {.crew = crew, .task = task, .context = context, .given = calloc((size_t)crew->n_workers, sizeof(bool))};
    if (!each.given)
        return papa_fail_memory((size_t)crew->n_workers, "a list of workers");
    PapaStatus status = papa_pool_run(crew->pool, each_next, each_task, NULL, &each);
    free(each.given);
    return status;
}

/* ---------------------------------------------------------------- opening and closing */

typedef struct Opening {
    PapaCrew *crew;
    const PapaCrewPlan *plan;
    int n_threads;
} Opening;

static PapaStatus open_gpu(PapaDevice **out, const PapaCrewPlan *plan, int place)
{
    if (plan->described)
        return papa_device_open_described(out, plan->described, plan->precision, plan->log);
    PAPA_TRY(papa_device_open_cuda(out, plan->gpus[place], plan->precision));
    (*out)->tune = plan->tune;
    return PAPA_OK;
}

static PapaStatus open_device(void *context, int worker, int task)
{
    (void)task;
    const Opening *opening = context;
    PapaCrew *crew = opening->crew;
    const PapaCrewPlan *plan = opening->plan;
    if (plan->kind == PAPA_CPU)
        return papa_device_open_cpu(&crew->devs[worker], opening->n_threads);
    return open_gpu(&crew->devs[worker], plan, crew->place[worker]);
}

static PapaStatus allocate(PapaCrew *crew)
{
    size_t w = (size_t)crew->n_workers, p = (size_t)crew->n_places;
    crew->devs = calloc(w, sizeof *crew->devs);
    crew->place = calloc(w, sizeof *crew->place);
    crew->hubs = calloc(p, sizeof *crew->hubs);
    crew->mix = calloc(p, sizeof *crew->mix);
    crew->mix_read = calloc(p, sizeof *crew->mix_read);
    crew->points = calloc(w + p, sizeof *crew->points);
    crew->visitors = calloc(p, sizeof *crew->visitors);
    if (!crew->devs || !crew->place || !crew->hubs || !crew->mix || !crew->mix_read || !crew->points || !crew->visitors)
        return papa_fail_memory((w + p) * sizeof *crew->devs, "a list of workers");
    for (int i = 0; i < crew->n_workers; i++)
        crew->place[i] = i % crew->n_places;
    return PAPA_OK;
}

static PapaStatus open_hub(PapaCrew *crew, const PapaCrewPlan *plan, int place, int n_members)
{
    if (plan->kind == PAPA_CUDA)
        PAPA_TRY(open_gpu(&crew->hubs[place], plan, place));
    else
        PAPA_TRY(papa_device_open_cpu(&crew->hubs[place], plan->deterministic ? 1 : plan->threads));
    PapaDevice *hub = crew->hubs[place];
    PAPA_TRY(papa_stage_open(hub, &crew->mix[place], sizeof(PapaMixNumbers), "the pull"));
    PAPA_TRY(papa_event_new(hub, &crew->mix_read[place]));
    PAPA_TRY(papa_event_new(hub, &crew->points[crew->n_workers + place]));
    if (crew->n_places == 1)
        return PAPA_OK;
    void *visitors;
    PAPA_TRY(papa_device_alloc(hub, &visitors, (size_t)n_members * PAPA_PULL_PIECE * sizeof(float), "pieces of other GPUs' members"));
    crew->visitors[place] = visitors;
    return PAPA_OK;
}

static PapaStatus open_all(PapaCrew *crew, const PapaCrewPlan *plan, int n_members)
{
    PAPA_TRY(allocate(crew));
    PAPA_TRY(papa_pool_new(&crew->pool, crew->n_workers));
    Opening opening = {.crew = crew, .plan = plan, .n_threads = plan->deterministic ? 1 : plan->threads / crew->n_workers};
    PAPA_TRY(papa_crew_each(crew, open_device, &opening));
    for (int w = 0; w < crew->n_workers; w++)
        PAPA_TRY(papa_event_new(crew->devs[w], &crew->points[w]));
    for (int p = 0; p < crew->n_places; p++)
        PAPA_TRY(open_hub(crew, plan, p, n_members));
    for (int p = 0; p < crew->n_places; p++)
        for (int q = 0; q < crew->n_places; q++)
            PAPA_TRY(papa_device_link(crew->hubs[p], crew->hubs[q]));
    crew->main = crew->hubs[0];
    return papa_device_enter(crew->main);
}

PapaStatus papa_crew_open(PapaCrew *out, const PapaCrewPlan *plan, int n_members)
{
    assert(n_members >= 1 && plan->threads >= 1);
    int places = plan->kind == PAPA_CUDA ? plan->n_gpus : 1;
    int most = plan->kind == PAPA_CUDA ? places * plan->per_gpu : plan->threads;
    *out = (PapaCrew){.n_workers = most < n_members ? most : n_members};
    out->n_places = places < out->n_workers ? places : out->n_workers;
    PapaStatus status = open_all(out, plan, n_members);
    if (status != PAPA_OK)
        papa_crew_close(out);
    return status;
}

static void close_hub(PapaCrew *crew, int place)
{
    PapaDevice *hub = crew->hubs[place];
    if (!hub)
        return;
    papa_event_free(crew->points[crew->n_workers + place]);
    papa_event_free(crew->mix_read[place]);
    papa_stage_close(hub, &crew->mix[place]);
    papa_device_free(hub, crew->visitors[place]);
    for (int i = 0; i < crew->n_residents; i++)
        if (crew->residents[i].place == place) {
            papa_device_free(hub, crew->residents[i].images);
            papa_device_free(hub, crew->residents[i].labels);
        }
    papa_device_close(hub);
}

void papa_crew_close(PapaCrew *crew)
{
    for (int w = 0; crew->points && w < crew->n_workers; w++)
        papa_event_free(crew->points[w]);
    for (int p = 0; crew->points && crew->hubs && crew->mix && crew->mix_read && crew->visitors && p < crew->n_places; p++)
        close_hub(crew, p);
    for (int w = 0; crew->devs && w < crew->n_workers; w++)
        papa_device_close(crew->devs[w]);
    papa_pool_free(crew->pool);
    free(crew->devs);
    free(crew->place);
    free(crew->hubs);
    free(crew->mix);
    free(crew->mix_read);
    free(crew->points);
    free(crew->visitors);
    free(crew->residents);
    *crew = (PapaCrew){0};
}

/* ---------------------------------------------------------------- order between workers and hubs */

PapaStatus papa_crew_gather(PapaCrew *crew)
{
    for (int w = 0; w < crew->n_workers; w++) {
        PAPA_TRY(papa_device_enter(crew->devs[w]));
        PAPA_TRY(papa_event_record(crew->points[w], crew->devs[w]));
    }
    for (int p = 0; p < crew->n_places; p++)
        for (int w = 0; w < crew->n_workers; w++)
            PAPA_TRY(papa_event_follow(crew->hubs[p], crew->points[w]));
    return papa_device_enter(crew->main);
}

PapaStatus papa_crew_release(PapaCrew *crew)
{
    PapaEvent **points = crew->points + crew->n_workers;
    for (int p = 0; p < crew->n_places; p++) {
        PAPA_TRY(papa_device_enter(crew->hubs[p]));
        PAPA_TRY(papa_event_record(points[p], crew->hubs[p]));
    }
    for (int w = 0; w < crew->n_workers; w++)
        for (int p = 0; p < crew->n_places; p++)
            PAPA_TRY(papa_event_follow(crew->devs[w], points[p]));
    return papa_device_enter(crew->main);
}

/* ---------------------------------------------------------------- images */

static PapaStatus bring_to(PapaCrew *crew, PapaResident *to)
{
    PapaDevice *hub = crew->hubs[to->place];
    PapaDataInfo info = papa_data_info(to->data);
    int64_t free_bytes, bytes = info.n * info.channels * info.height * info.width;
    void *images, *labels;
    PAPA_TRY(papa_device_free_bytes(hub, &free_bytes));
    if (bytes > free_bytes / 4)
        return PAPA_OK;
    PAPA_TRY(papa_device_alloc(hub, &images, (size_t)bytes, "the images"));
    to->images = images;
    PAPA_TRY(papa_device_alloc(hub, &labels, (size_t)info.n * sizeof *to->labels, "the labels"));
    to->labels = labels;
    PAPA_TRY(papa_device_upload(hub, to->images, papa_data_images(to->data), (size_t)bytes));
    return papa_device_upload(hub, to->labels, papa_data_labels(to->data), (size_t)info.n * sizeof *to->labels);
}

static const PapaResident *find(const PapaCrew *crew, const PapaData *data, int place)
{
    for (int i = 0; i < crew->n_residents; i++)
        if (crew->residents[i].data == data && crew->residents[i].place == place)
            return &crew->residents[i];
    return NULL;
}

PapaStatus papa_crew_bring(PapaCrew *crew, const PapaData *data)
{
    if (crew->main->kind == PAPA_CPU || !papa_data_images(data) || find(crew, data, 0))
        return PAPA_OK;
    int n = crew->n_residents + crew->n_places;
    PapaResident *grown = realloc(crew->residents, (size_t)n * sizeof *grown);
    if (!grown)
        return papa_fail_memory((size_t)n * sizeof *grown, "a list of images");
    crew->residents = grown;
    for (int p = 0; p < crew->n_places; p++) {
        PapaResident *resident = &crew->residents[crew->n_residents++];
        *resident = (PapaResident){.data = data, .place = p};
        PAPA_TRY(bring_to(crew, resident));
    }
    return papa_device_enter(crew->main);
}

const PapaResident *papa_crew_resident(const PapaCrew *crew, const PapaData *data, int place)
{
    const PapaResident *resident = find(crew, data, place);
    return resident && resident->images ? resident : NULL;
}
