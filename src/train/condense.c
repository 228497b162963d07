/* The end of a run: one network, or one file, out of the population; and the scores of all of them. */
#include "train/training.h"

#include "soup/soup.h"

#include <math.h>
#include <stdlib.h>

static const PapaScore unknown = {.accuracy = NAN, .top5 = NAN, .loss = NAN};

static void begin_scoring(PapaTraining *t, const PapaScorer *scorer, int n_stores)
{
    int64_t n_batches = (scorer->n + scorer->batch - 1) / scorer->batch;
    atomic_store(&t->n_scored, 0);
    papa_meter_begin(&t->meter, t->hooks, PAPA_PHASE_EVALUATE, n_batches * n_stores, &t->n_scored, scorer->batch);
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
        scores[j] = t->last_val[j].accuracy;
    PapaGreedyCalls calls = {.context = t, .prepare = t->repair && papa_repair_has_statistics(t->repair) ? prepare : NULL,
        .score = held_out_accuracy};
    PAPA_TRY(papa_soup_greedy(t->crew.main, t->greedy, t->taken, NULL, (const float *const *)t->trainer.stores, scores, p,
        &t->model->store, &calls));
    for (int j = 0; j < p; j++)
        report->n_greedy += t->taken[j];
    return PAPA_OK;
}

/* ---------------------------------------------------------------- all of it */

static PapaStatus make_soups(PapaTraining *t, PapaTrainReport *report)
{
    const float *const *members = (const float *const *)t->trainer.stores;
    PapaDevice *dev = t->crew.main;
    int p = t->options.population;
    PAPA_TRY(papa_soup_mean(dev, t->plain, members, NULL, p, &t->model->store));
    PAPA_TRY(papa_device_copy(dev, t->soup, t->plain, (size_t)t->model->store.n_total * sizeof(float)));
    if (t->repair)
        PAPA_TRY(papa_repair_run(t->repair, t->soup, members, NULL, p));
    PAPA_TRY(papa_device_sync(dev));
    return greedy_soup(t, report);
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

static PapaStatus score_on_held_out(PapaTraining *t)
{
    float *soups[] = {t->soup, t->greedy};
    PapaScore scores[2] = {unknown, unknown};
    PAPA_TRY(papa_score_stores(scores, &t->val, soups, t->has_greedy ? 2 : 1));
    t->soup_val = scores[0];
    t->greedy_val = scores[1];
    return papa_score_ensemble(&t->ensemble_val, &t->val, t->trainer.stores, t->options.population, t->options.ensemble);
}

static PapaStatus score_on_test(PapaTraining *t, PapaTrainReport *report)
{
    int p = t->options.population;
    if (!t->test)
        return PAPA_OK;
    float *soups[] = {t->plain, t->soup, t->greedy};
    PapaScore scores[3] = {unknown, unknown, unknown};
    int n_soups = t->has_greedy ? 3 : 2;
    begin_scoring(t, &t->on_test, p + n_soups + 1);
    PAPA_TRY(papa_score_stores(report->members, &t->on_test, t->trainer.stores, p));
    PAPA_TRY(papa_score_stores(scores, &t->on_test, soups, n_soups));
    PAPA_TRY(papa_score_ensemble(&report->ensemble, &t->on_test, t->trainer.stores, p, t->options.ensemble));
    papa_meter_end(&t->meter);
    report->mean = mean_score(report->members, p);
    report->soup_plain = scores[0];
    report->soup = scores[1];
    report->greedy = scores[2];
    return PAPA_OK;
}

PapaStatus papa_training_condense(PapaTraining *t, PapaTrainReport *report)
{
    int p = t->options.population;
    report->members = calloc((size_t)p, sizeof *report->members);
    report->members_val = calloc((size_t)p, sizeof *report->members_val);
    if (!report->members || !report->members_val)
        return papa_fail_memory((size_t)p * sizeof *report->members, "the report");
    report->n_members = p;
    report->mean = report->soup_plain = report->soup = report->greedy = report->ensemble = unknown;
    for (int j = 0; j < p; j++)
        report->members[j] = unknown;
    begin_scoring(t, &t->val, p);
    PAPA_TRY(papa_score_stores(t->last_val, &t->val, t->trainer.stores, p));
    for (int j = 0; j < p; j++)
        report->members_val[j] = t->last_val[j];
    PAPA_TRY(make_soups(t, report));
    PAPA_TRY(score_on_held_out(t));
    return score_on_test(t, report);
}
