/* The end of a run: one network, or one file, out of the population; and the scores of all of them. */
#include "train/training.h"

#include "soup/soup.h"

#include <math.h>
#include <stdlib.h>

/* ---------------------------------------------------------------- scores */

static const PapaScore unknown = {.accuracy = NAN, .top5 = NAN, .loss = NAN};

static void begin_phase(PapaTraining *t, PapaPhase phase, int64_t n_batches)
{
    atomic_store(&t->n_done, 0);
    papa_meter_begin(&t->meter, t->hooks, phase, n_batches, &t->n_done, t->trainer.batch);
}

static int64_t count_batches(const PapaScorer *scorer)
{
    return (scorer->n + scorer->batch - 1) / scorer->batch;
}

static PapaStatus open_scores(PapaScores *scores, int n_members)
{
    *scores = (PapaScores){.mean = unknown, .soup_plain = unknown, .soup = unknown, .greedy = unknown, .ensemble = unknown};
    scores->members = calloc((size_t)n_members, sizeof *scores->members);
    if (!scores->members)
        return papa_fail_memory((size_t)n_members * sizeof *scores->members, "the report");
    for (int j = 0; j < n_members; j++)
        scores->members[j] = unknown;
    return PAPA_OK;
}

/* A step checks the loss that it starts from; whether the last one ended well, only the scores tell. */
static PapaStatus check_members(const PapaScore *scores, int n, const char *images)
{
    for (int j = 0; j < n; j++)
        if (scores[j].n && !isfinite(scores[j].loss))
            return papa_fail(PAPA_ERR_NUMERIC,
                "member %d: the loss on the %s images is %s: it diverged at the end; try a lower learning rate or clipping", j, images,
                isnan(scores[j].loss) ? "not a number" : "infinite");
    return PAPA_OK;
}

static PapaScore mean_score(const PapaScore *scores, int n)
{
    PapaScore mean = {.n = scores[0].n};
    for (int i = 0; i < n; i++) {
        mean.accuracy += scores[i].accuracy / n;
        mean.top5 += scores[i].top5 / n;
        mean.loss += scores[i].loss / n;
    }
    return mean;
}

static PapaStatus score_members(PapaTraining *t, PapaScores *scores, const PapaScorer *scorer, const char *images)
{
    int p = t->options.population;
    begin_phase(t, PAPA_PHASE_EVALUATE, p * count_batches(scorer));
    PAPA_TRY(papa_score_stores(scores->members, scorer, t->trainer.stores, p));
    papa_meter_end(&t->meter);
    scores->mean = mean_score(scores->members, p);
    return check_members(scores->members, p, images);
}

static PapaStatus score_soups(PapaTraining *t, PapaScores *scores, const PapaScorer *scorer)
{
    int p = t->options.population, n = t->has_greedy ? 3 : 2;
    float *soups[] = {t->plain, t->soup, t->greedy};
    PapaScore found[3] = {unknown, unknown, unknown};
    begin_phase(t, PAPA_PHASE_EVALUATE, (n + 1) * count_batches(scorer));
    PAPA_TRY(papa_score_stores(found, scorer, soups, n));
    PAPA_TRY(papa_score_ensemble(&scores->ensemble, scorer, t->trainer.stores, NULL, p, t->options.ensemble));
    papa_meter_end(&t->meter);
    scores->soup_plain = found[0];
    scores->soup = found[1];
    scores->greedy = found[2];
    return PAPA_OK;
}

/* ---------------------------------------------------------------- the greedy soup */

static PapaStatus prepare(void *context, float *store)
{
    PapaTraining *t = context;
    return papa_repair_recalibrate(t->repair, store);
}

static PapaStatus held_out_accuracy(void *context, const float *store, double *out)
{
    PapaTraining *t = context;
    PapaScore score;
    float *one[] = {(float *)store}; /* an inference network does not write to it */
    PAPA_TRY(papa_score_stores(&score, &t->val, one, 1));
    *out = score.accuracy;
    return PAPA_OK;
}

static PapaStatus greedy_soup(PapaTraining *t, PapaTrainReport *report)
{
    int p = t->options.population;
    t->has_greedy = t->parts.n_held > 0;
    if (!t->has_greedy) {
        papa_remark(t->hooks, "no images are held out, so there is nothing to choose a greedy soup on: greedy.onnx is not written");
        return PAPA_OK;
    }
    double scores[PAPA_MIX_MAX];
    for (int j = 0; j < p; j++)
        scores[j] = report->held_out.members[j].accuracy;
    bool prepares = t->repair && papa_repair_has_statistics(t->repair);
    PapaGreedyCalls calls = {.context = t, .prepare = prepares ? prepare : NULL, .score = held_out_accuracy};
    begin_phase(t, PAPA_PHASE_SOUP, (p - 1) * (count_batches(&t->val) + (prepares ? t->options.repair_batches : 0)));
    PAPA_TRY(papa_soup_greedy(t->crew.main, t->greedy, t->taken, NULL, (const float *const *)t->near, scores, p,
        &t->model->store, &calls));
    papa_meter_end(&t->meter);
    for (int j = 0; j < p; j++)
        report->n_greedy += t->taken[j];
    return PAPA_OK;
}

/* ---------------------------------------------------------------- soups */

static PapaStatus make_soups(PapaTraining *t, PapaTrainReport *report)
{
    const float *const *members = (const float *const *)t->near;
    PapaDevice *dev = t->crew.main;
    int p = t->options.population;
    PAPA_TRY(papa_soup_mean(dev, t->plain, members, NULL, p, &t->model->store));
    PAPA_TRY(papa_device_copy(dev, t->soup, t->plain, (size_t)t->model->store.n_total * sizeof(float)));
    if (t->repair) {
        begin_phase(t, PAPA_PHASE_REPAIR, (papa_repair_layers(t->repair) ? p + 1 : 1) * t->options.repair_batches);
        PAPA_TRY(papa_repair_run(t->repair, t->soup, members, NULL, p));
        papa_meter_end(&t->meter);
    }
    PAPA_TRY(papa_device_sync(dev));
    return greedy_soup(t, report);
}

PapaStatus papa_training_condense(PapaTraining *t, PapaTrainReport *report)
{
    report->n_members = t->options.population;
    PAPA_TRY(papa_training_bring_near(t));
    PAPA_TRY(open_scores(&report->held_out, report->n_members));
    PAPA_TRY(open_scores(&report->test, report->n_members));
    PAPA_TRY(score_members(t, &report->held_out, &t->val, "held-out"));
    PAPA_TRY(make_soups(t, report));
    PAPA_TRY(score_soups(t, &report->held_out, &t->val));
    if (!t->test)
        return PAPA_OK;
    PAPA_TRY(score_members(t, &report->test, &t->on_test, "test"));
    return score_soups(t, &report->test, &t->on_test);
}
