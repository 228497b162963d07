#include "train/examiner.h"

#include <stdlib.h>

PapaStatus papa_examiner_open_crew(PapaCrew *out, const PapaDeviceOptions *options, int64_t n_batches)
{
    PapaCrewPlan plan;
    PAPA_TRY(papa_crew_choose(&plan, options));
    plan.per_gpu = 2; /* one prepares while the other computes */
    int most = plan.kind == PAPA_CUDA ? plan.n_gpus * plan.per_gpu : plan.threads;
    return papa_crew_open(out, &plan, n_batches && n_batches < most ? (int)n_batches : most);
}

static PapaStatus compile(PapaExaminer *e, const PapaData *const *data, int n_data)
{
    PapaDataInfo info = papa_data_info(data[0]);
    PapaNetOptions options = {.mode = PAPA_MODE_INFER, .batch = e->batch, .size = {info.channels, info.height, info.width}};
    for (int place = 0; place < e->crew->n_places; place++)
        PAPA_TRY(papa_net_compile(&e->nets[place], e->model, &options, e->crew->devs[place]));
    for (int i = 0; i < n_data; i++)
        PAPA_TRY(papa_feed_classes(&e->n_classes, data[i], e->model, e->nets[0], e->batch));
    return PAPA_OK;
}

typedef struct Opening {
    PapaExaminer *examiner;
    int64_t fetch_bytes;
} Opening;

static PapaStatus open_seat(void *context, int worker, int task)
{
    (void)task;
    const Opening *opening = context;
    PapaExaminer *e = opening->examiner;
    int place = e->crew->place[worker];
    const PapaNet *nets[] = {e->nets[place]};
    PapaSeatPlan plan = {.nets = nets, .n_nets = 1, .batch = e->batch, .n_classes = e->n_classes, .place = place,
        .n_visitor = e->crew->n_places > 1 ? e->model->store.n_total : 0, .fetch_bytes = opening->fetch_bytes};
    return papa_seat_open(&e->seats[worker], &plan, e->crew->devs[worker]);
}

PapaStatus papa_examiner_open(PapaExaminer *out, PapaCrew *crew, const PapaModel *model, const PapaData *const *data, int n_data, int64_t batch)
{
    Opening opening = {.examiner = out};
    *out = (PapaExaminer){.crew = crew, .model = model, .batch = batch};
    PapaStatus status;
    PAPA_GOTO(compile(out, data, n_data));
    for (int i = 0; i < n_data; i++) {
        PAPA_GOTO(papa_crew_bring(crew, data[i]));
        int64_t bytes = papa_feed_fetch_bytes(crew, data[i]); /* 0, or that of all of them: they are of one size */
        opening.fetch_bytes = bytes ? bytes : opening.fetch_bytes;
    }
    out->seats = calloc((size_t)crew->n_workers, sizeof *out->seats);
    status = out->seats ? papa_crew_each(crew, open_seat, &opening) : papa_fail_memory((size_t)crew->n_workers * sizeof *out->seats, "the workers");
out:
    if (status != PAPA_OK)
        papa_examiner_close(out);
    return status;
}

void papa_examiner_close(PapaExaminer *e)
{
    for (int w = 0; e->seats && w < e->crew->n_workers; w++)
        papa_seat_close(&e->seats[w]);
    for (int place = 0; e->crew && place < e->crew->n_places; place++)
        papa_net_free(e->nets[place], e->crew->devs ? e->crew->devs[place] : NULL);
    free(e->seats);
    *e = (PapaExaminer){0};
}

PapaScorer papa_examiner_scorer(const PapaExaminer *e, const PapaData *data, const uint32_t *indices, int64_t n, const double *mean, const double *std)
{
    PapaScorer scorer = {.crew = e->crew, .seats = e->seats, .indices = indices, .n = n, .batch = e->batch, .n_store = e->model->store.n_total};
    for (int place = 0; place < e->crew->n_places; place++)
        scorer.nets[place] = e->nets[place];
    papa_feed_init(&scorer.feed, e->crew, data, papa_net_input_channels_last(e->nets[0]), mean, std);
    return scorer;
}
