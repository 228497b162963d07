/* Soups with images: the methods that choose by them, statistics, scores.
 *
 * All models are in the device's memory where the method chooses, REPAIR looks at them, or an ensemble is scored; else one at a time.
 * What is chosen are weights: the merge itself is the same streaming one that needs no images, rounded once, to each tensor's own type. The network that is
 * scored is read from what will be written; tensors that statistics or REPAIR change are then set in its place. */
#include "jobs/judge.h"
#include "jobs/soup_choose.h"
#include "jobs/soup_job.h"
#include "train/train_options.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Merging {
    const PapaSoupJob *job;
    const PapaSoupOptions *options;
    PapaJudge *judge;
    float **stores;        /* by model, the base behind them: where the method or REPAIR wants all at once; else one for all */
    int n_stores;
    bool holds_all;
    PapaSoupChoice choice;
    PapaEdit *edit;
    PapaMerge *merge;
    float *result;         /* device */
    float *before, *after; /* host: as merged, and as it is to be written */
} Merging;

static bool chooses(PapaSoupMethod method)
{
    return method == PAPA_SOUP_GREEDY || method == PAPA_SOUP_PRUNED || method == PAPA_SOUP_LEARNED || method == PAPA_SOUP_LEARNED_TENSORS;
}

/* ---------------------------------------------------------------- opening */

static PapaStatus open_judge(Merging *m)
{
    const PapaSoupOptions *o = m->options;
    PapaJudgeNeeds needs = {
        .held_out = chooses(o->method),
        .statistics = o->method != PAPA_SOUP_ENSEMBLE && (o->repair != PAPA_REPAIR_NONE || o->recalibrate),
        .mode = o->repair,
        .learning = o->method == PAPA_SOUP_LEARNED || o->method == PAPA_SOUP_LEARNED_TENSORS,
    };
    return papa_judge_open(&m->judge, m->job->ingredients, &o->judge, &needs, m->job->hooks);
}

static PapaStatus open_stores(Merging *m)
{
    int n_models = m->job->n + papa_ingredients_has_base(m->job->ingredients);
    m->holds_all = chooses(m->options->method) || m->options->repair != PAPA_REPAIR_NONE || m->options->method == PAPA_SOUP_ENSEMBLE;
    m->n_stores = m->holds_all ? n_models : 1;
    m->stores = calloc((size_t)m->n_stores, sizeof *m->stores);
    if (!m->stores)
        return papa_fail_memory((size_t)m->n_stores * sizeof *m->stores, "the list of models");
    for (int i = 0; i < m->n_stores; i++)
        PAPA_TRY(papa_judge_store(m->judge, &m->stores[i]));
    for (int k = 0; k < n_models && m->holds_all; k++)
        PAPA_TRY(papa_judge_load(m->judge, k, m->stores[k]));
    return PAPA_OK;
}

static void close_all(Merging *m)
{
    papa_edit_free(m->edit);
    papa_merge_free(m->merge);
    papa_soup_choice_free(&m->choice);
    papa_judge_close(m->judge);
    free(m->stores);
    free(m->before);
    free(m->after);
}

/* ---------------------------------------------------------------- scores of what goes in */

static PapaStatus score_ingredients_on(Merging *m, PapaJudgeImages images)
{
    int n_models = m->job->n + papa_ingredients_has_base(m->job->ingredients);
    if (!papa_judge_has(m->judge, images))
        return PAPA_OK;
    papa_judge_begin(m->judge, PAPA_PHASE_EVALUATE, n_models * papa_judge_batches(m->judge, images));
    for (int k = 0; k < n_models; k++) {
        PapaIngredient *ingredient = &m->job->report->ingredients[k];
        if (!m->holds_all)
            PAPA_TRY(papa_judge_load(m->judge, k, m->stores[0]));
        PAPA_TRY(papa_judge_score(m->judge, images == PAPA_JUDGE_TEST ? &ingredient->test : &ingredient->held_out, &m->stores[m->holds_all ? k : 0], 1,
            images));
    }
    papa_judge_end(m->judge);
    return PAPA_OK;
}

static PapaStatus score_ingredients(Merging *m)
{
    PAPA_TRY(score_ingredients_on(m, PAPA_JUDGE_HELD_OUT));
    return score_ingredients_on(m, PAPA_JUDGE_TEST);
}

static PapaStatus score_result(Merging *m, PapaScore *held_out, PapaScore *test)
{
    PAPA_TRY(papa_judge_score(m->judge, held_out, &m->result, 1, PAPA_JUDGE_HELD_OUT));
    return papa_judge_score(m->judge, test, &m->result, 1, PAPA_JUDGE_TEST);
}

/* ---------------------------------------------------------------- merging */

/* The network as the edit would write it now, into `to` and onto the device. Biases that the file lacks are taken from `to` itself. */
static PapaStatus read_result(Merging *m, float *to)
{
    const PapaModel *model = papa_judge_model(m->judge);
    for (int i = 0; i < model->n_params; i++)
        if (model->params[i].tensor)
            PAPA_TRY(papa_edit_read_float(m->edit, model->params[i].tensor, to + model->params[i].offset, model->params[i].count));
        else
            papa_model_round_made(model, &model->params[i], to + model->params[i].offset);
    return papa_device_upload(papa_judge_device(m->judge), m->result, to, (size_t)model->store.n_total * sizeof *to);
}

static PapaStatus merge(Merging *m)
{
    PapaMergeOptions options;
    size_t n = (size_t)papa_judge_model(m->judge)->store.n_total;
    papa_soup_merge_options(&options, m->options, m->choice.weights);
    options.tensor_weights = m->choice.tensor_weights;
    papa_soup_set_weights(m->job, m->choice.weights);
    if (m->choice.tensor_weights) /* which has no one number for a model */
        for (int k = 0; k < m->job->n; k++)
            m->job->report->ingredients[k].weight = NAN;
    PAPA_TRY(papa_soup_merge(&m->edit, &m->merge, m->job, &options));
    m->before = calloc(n, sizeof *m->before);
    m->after = calloc(n, sizeof *m->after);
    if (!m->before || !m->after)
        return papa_fail_memory(2 * n * sizeof *m->before, "the result");
    PAPA_TRY(papa_judge_store(m->judge, &m->result));
    return read_result(m, m->before);
}

/* ---------------------------------------------------------------- statistics */

/* Whether the result is one of the models as it stands. Nothing is corrected in it then. */
static bool is_one_model(const Merging *m)
{
    const PapaSoupReport *report = m->job->report;
    int n_models = m->job->n + papa_ingredients_has_base(m->job->ingredients), n_used = 0;
    bool is_whole = true;
    for (int k = 0; k < n_models; k++) {
        if (report->ingredients[k].weight == 0)
            continue;
        n_used++;
        is_whole &= report->ingredients[k].weight == 1;
    }
    return n_used == 1 && is_whole;
}

/* What REPAIR's goals take from a model. */
static double parent_weight(const Merging *m, int k)
{
    const PapaSoupOptions *o = m->options;
    if (m->choice.weights)
        return m->choice.weights[k];
    return o->method == PAPA_SOUP_SLERP ? (k ? o->t : 1 - o->t) : m->job->report->ingredients[k].weight;
}

/* Towards the models that are in the result, as much as they are. */
static PapaStatus repair(Merging *m)
{
    int n_models = m->job->n + papa_ingredients_has_base(m->job->ingredients), n = 0;
    PapaStatus status = PAPA_OK;
    const float **parents = malloc((size_t)n_models * sizeof *parents);
    double *weights = malloc((size_t)n_models * sizeof *weights);
    if (!parents || !weights)
        status = papa_fail_memory((size_t)n_models * (sizeof *parents + sizeof *weights), "REPAIR's list of models");
    for (int k = 0; k < n_models && status == PAPA_OK; k++)
        if (parent_weight(m, k) != 0) {
            parents[n] = m->stores[k];
            weights[n++] = parent_weight(m, k);
        }
    if (status == PAPA_OK)
        status = papa_judge_repair(m->judge, m->result, parents, weights, n);
    free(parents);
    free(weights);
    return status;
}

/* Corrects the result on the device. *changed: whether there was something to correct. */
static PapaStatus correct(Merging *m, bool *changed)
{
    const PapaSoupOptions *o = m->options;
    PapaSoupReport *report = m->job->report;
    bool repairs = o->repair != PAPA_REPAIR_NONE && (papa_judge_layers(m->judge) || papa_judge_has_statistics(m->judge));
    *changed = false;
    if (o->repair != PAPA_REPAIR_NONE && (is_one_model(m) || !repairs))
        papa_remark(m->job->hooks, "nothing is repaired: %s",
            repairs ? "the result is one of the models as it is" : "the network has no layer that could be corrected, and no statistics");
    if (is_one_model(m) || (!repairs && !(o->recalibrate && papa_judge_has_statistics(m->judge))))
        return PAPA_OK;
    PAPA_TRY(score_result(m, &report->held_out_plain, &report->test_plain));
    PAPA_TRY(repairs ? repair(m) : papa_judge_recalibrate(m->judge, m->result));
    report->repaired = repairs;
    report->recalibrated = papa_judge_has_statistics(m->judge); /* REPAIR does it too */
    *changed = true;
    return PAPA_OK;
}

static PapaStatus apply(Merging *m)
{
    const PapaModel *model = papa_judge_model(m->judge);
    PAPA_TRY(papa_device_download(papa_judge_device(m->judge), m->after, m->result, (size_t)model->store.n_total * sizeof *m->after));
    PAPA_TRY(papa_model_edit_params(m->edit, model, m->after, m->before));
    return read_result(m, m->after);
}

/* ---------------------------------------------------------------- all of it */

static PapaStatus make_ensemble(Merging *m)
{
    const PapaSoupOptions *o = m->options;
    PapaSoupReport *report = m->job->report;
    papa_soup_set_weights(m->job, o->weights);
    PAPA_TRY(papa_judge_score_ensemble(m->judge, &report->held_out, m->stores, o->weights, m->job->n, o->ensemble, PAPA_JUDGE_HELD_OUT));
    PAPA_TRY(papa_judge_score_ensemble(m->judge, &report->test, m->stores, o->weights, m->job->n, o->ensemble, PAPA_JUDGE_TEST));
    return papa_soup_write_ensemble(m->job);
}

static PapaStatus make_soup(Merging *m)
{
    PapaSoupReport *report = m->job->report;
    bool changed;
    if (chooses(m->options->method))
        PAPA_TRY(papa_soup_choose(&m->choice, m->judge, m->stores, m->job));
    PAPA_TRY(merge(m));
    PAPA_TRY(correct(m, &changed));
    if (changed)
        PAPA_TRY(apply(m));
    PAPA_TRY(score_result(m, &report->held_out, &report->test));
    return papa_soup_finish(m->job, m->edit);
}

PapaStatus papa_soup_with_data(const PapaSoupJob *job)
{
    Merging m = {.job = job, .options = job->options};
    PapaStatus status;
    PAPA_GOTO(open_judge(&m));
    PAPA_GOTO(open_stores(&m));
    PAPA_GOTO(score_ingredients(&m));
    status = job->options->method == PAPA_SOUP_ENSEMBLE ? make_ensemble(&m) : make_soup(&m);
out:
    close_all(&m);
    return status;
}
