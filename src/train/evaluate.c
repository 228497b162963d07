#include "train/evaluate.h"

#include "soup/soup.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Scoring {
    const PapaScorer *scorer;
    float *const *stores;
    int n_stores;
    int64_t n_batches;
    PapaEnsembleMean mean;
    const double *weights; /* of the ensemble; NULL: equal */
    double sum_weights;
    PapaScoreSums *sums; /* (n_stores or 1, n_batches) */
} Scoring;

/* Readies batch b: plans and labels. The rows behind the valid ones repeat the last image. */
static void plan_batch(const PapaScorer *s, PapaSlot *slot, int64_t b)
{
    int64_t first = b * s->batch, n_valid = s->n - first < s->batch ? s->n - first : s->batch;
    const int32_t *labels = papa_data_labels(s->feed.data);
    for (int64_t i = 0; i < s->batch; i++) {
        int64_t at = first + (i < n_valid ? i : n_valid - 1);
        uint32_t source = s->indices ? s->indices[at] : (uint32_t)at;
        papa_plain_sample(&slot->host.samples[i], &s->feed.format, source);
        slot->host.labels[i] = labels[source];
    }
    papa_plain_batch(slot->host.plan);
    *slot->host.numbers = (PapaSeatNumbers){.n_valid = n_valid};
}

/* store where the seat's kernels reach it. */
static PapaStatus reach(PapaSeat *seat, float **store, int64_t n)
{
    if (papa_device_reaches(seat->dev, *store))
        return PAPA_OK;
    if (seat->visiting != *store)
        PAPA_TRY(papa_device_copy(seat->dev, seat->visitor, *store, (size_t)n * sizeof(float)));
    seat->visiting = *store;
    *store = seat->visitor;
    return PAPA_OK;
}

/* The logits of batch b, asynchronously. */
static PapaStatus run_batch(const PapaScorer *s, PapaSeat *seat, PapaSlot **slot, float *store, int64_t b)
{
    const PapaNet *net = s->nets[seat->place];
    if (s->stop && *s->stop)
        return papa_fail(PAPA_ERR_STOPPED, "stopped while images of %s were being scored", papa_data_info(s->feed.data).name);
    PAPA_TRY(papa_seat_take(seat, slot));
    plan_batch(s, *slot, b);
    PAPA_TRY(papa_feed_send(&s->feed, seat, *slot, s->batch));
    PAPA_TRY(papa_feed_make(&s->feed, seat, *slot, papa_net_input(net, seat->worker), s->batch, false));
    PAPA_TRY(reach(seat, &store, s->n_store));
    PAPA_TRY(papa_net_forward(net, seat->worker, store, NULL));
    return papa_event_record((*slot)->done, seat->dev);
}

/* Counts what lies in logits (device memory), of the batch that is in the slot. */
static PapaStatus count(PapaScoreSums *sums, const PapaScorer *s, PapaSeat *seat, const PapaSlot *slot, const float *logits)
{
    PapaDevice *dev = seat->dev;
    PAPA_TRY(PAPA_KERNEL(dev, papa_loss_score)(dev, seat->sums, logits, slot->device.labels, &slot->device.numbers->n_valid, seat->rows, s->batch,
        seat->n_classes));
    PAPA_TRY(papa_device_download(dev, sums, seat->sums, sizeof *sums));
    if (s->n_done)
        atomic_fetch_add(s->n_done, 1);
    return PAPA_OK;
}

static PapaStatus score_batch(void *context, int worker, int task)
{
    const Scoring *scoring = context;
    const PapaScorer *s = scoring->scorer;
    PapaSeat *seat = &s->seats[worker];
    PapaSlot *slot;
    PAPA_TRY(papa_device_enter(seat->dev));
    PAPA_TRY(run_batch(s, seat, &slot, scoring->stores[task / scoring->n_batches], task % scoring->n_batches));
    return count(&scoring->sums[task], s, seat, slot, papa_net_output(s->nets[seat->place], seat->worker, 0));
}

static PapaStatus score_ensemble_batch(void *context, int worker, int task)
{
    const Scoring *scoring = context;
    const PapaScorer *s = scoring->scorer;
    PapaSeat *seat = &s->seats[worker];
    PapaSlot *slot = NULL;
    int64_t n_logits = s->batch * seat->n_classes;
    memset(seat->host_sum, 0, (size_t)n_logits * sizeof *seat->host_sum);
    PAPA_TRY(papa_device_enter(seat->dev));
    for (int k = 0; k < scoring->n_stores; k++) { /* the batch again each time: its memory is the net's to reuse */
        PAPA_TRY(run_batch(s, seat, &slot, scoring->stores[k], task));
        PAPA_TRY(papa_device_download(seat->dev, seat->host_logits, papa_net_output(s->nets[seat->place], seat->worker, 0),
            (size_t)n_logits * sizeof *seat->host_logits));
        papa_ensemble_add(seat->host_sum, seat->host_logits, s->batch, seat->n_classes,
            (scoring->weights ? scoring->weights[k] : 1) / scoring->sum_weights, scoring->mean);
    }
    papa_ensemble_finish(seat->host_logits, seat->host_sum, s->batch, seat->n_classes, scoring->mean);
    PAPA_TRY(papa_device_upload(seat->dev, seat->targets, seat->host_logits, (size_t)n_logits * sizeof *seat->targets));
    return count(&scoring->sums[task], s, seat, slot, seat->targets);
}

static PapaScore finish(const PapaScoreSums *sums, int64_t n_batches, int64_t n_classes)
{
    PapaScoreSums total = {0};
    for (int64_t b = 0; b < n_batches; b++) {
        total.loss += sums[b].loss;
        total.top1 += sums[b].top1;
        total.top5 += sums[b].top5;
        total.n += sums[b].n;
    }
    double n = (double)total.n; /* 0 makes everything NaN */
    return (PapaScore){.accuracy = (double)total.top1 / n, .top5 = n_classes < 10 ? NAN : (double)total.top5 / n, .loss = total.loss / n,
        .n = total.n};
}

static PapaStatus score(PapaScore *scores, const PapaScorer *scorer, Scoring *scoring, int n_scores, papa_pool_task_fn *task)
{
    scoring->scorer = scorer;
    scoring->n_batches = (scorer->n + scorer->batch - 1) / scorer->batch;
    int64_t n_tasks = n_scores * scoring->n_batches;
    if (n_tasks > INT32_MAX)
        return papa_fail(PAPA_ERR_ARGUMENT, "%lld batches to score at once are too many", (long long)n_tasks);
    scoring->sums = calloc((size_t)n_tasks + 1, sizeof *scoring->sums);
    if (!scoring->sums)
        return papa_fail_memory((size_t)n_tasks * sizeof *scoring->sums, "scores");
    for (int w = 0; w < scorer->crew->n_workers; w++)
        scorer->seats[w].visiting = NULL; /* stores have changed since */
    PapaStatus status = papa_device_sync(scorer->crew->main); /* which may have made them */
    if (status == PAPA_OK)
        status = papa_pool_for(scorer->crew->pool, (int)n_tasks, task, scoring);
    for (int i = 0; i < n_scores && status == PAPA_OK; i++)
        scores[i] = finish(scoring->sums + i * scoring->n_batches, scoring->n_batches, scorer->seats[0].n_classes);
    free(scoring->sums);
    return status;
}

PapaStatus papa_score_stores(PapaScore *scores, const PapaScorer *scorer, float *const *stores, int n_stores)
{
    Scoring scoring = {.stores = stores, .n_stores = n_stores};
    return score(scores, scorer, &scoring, n_stores, score_batch);
}

PapaStatus papa_score_ensemble(PapaScore *out, const PapaScorer *scorer, float *const *stores, const double *weights, int n_stores,
    PapaEnsembleMean mean)
{
    Scoring scoring = {.stores = stores, .n_stores = n_stores, .mean = mean, .weights = weights};
    for (int k = 0; k < n_stores; k++)
        scoring.sum_weights += weights ? weights[k] : 1;
    return score(out, scorer, &scoring, 1, score_ensemble_batch);
}
