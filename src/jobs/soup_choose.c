#include "jobs/soup_choose.h"

#include "jobs/soup_learn.h"
#include "soup/soup.h"

#include <stdlib.h>
#include <string.h>

static PapaStatus prepare(void *context, float *store)
{
    return papa_judge_recalibrate(context, store);
}

static PapaStatus held_out_accuracy(void *context, const float *store, double *out)
{
    PapaScore score;
    float *one[] = {(float *)store}; /* an inference network does not write to it */
    PAPA_TRY(papa_judge_score(context, &score, one, 1, PAPA_JUDGE_HELD_OUT));
    *out = score.accuracy;
    return PAPA_OK;
}

/* Greedy and pruned: some of the models, all of one weight. */
static PapaStatus choose_some(PapaSoupChoice *out, PapaJudge *judge, float *const *stores, const PapaSoupJob *job)
{
    int n = job->n, n_taken = 0;
    bool prunes = job->options->method == PAPA_SOUP_PRUNED, prepares = job->options->recalibrate && papa_judge_has_statistics(judge);
    PapaGreedyCalls calls = {.context = judge, .prepare = prepares ? prepare : NULL, .score = held_out_accuracy};
    int64_t n_batches = papa_judge_batches(judge, PAPA_JUDGE_HELD_OUT) + (prepares ? papa_judge_measured_batches(judge) : 0);
    float *soup;
    PapaStatus status;
    double *scores = malloc((size_t)n * sizeof *scores);
    bool *taken = malloc((size_t)n * sizeof *taken);
    if (!scores || !taken) {
        status = papa_fail_memory((size_t)n * (sizeof *scores + sizeof *taken), "a choice of models");
        goto out;
    }
    for (int k = 0; k < n; k++)
        scores[k] = job->report->ingredients[k].held_out.accuracy;
    PAPA_GOTO(papa_judge_store(judge, &soup));
    papa_judge_begin(judge, PAPA_PHASE_SOUP, (prunes ? n + 1 : n - 1) * n_batches); /* pruning may take more than one pass */
    status = (prunes ? papa_soup_pruned : papa_soup_greedy)(papa_judge_device(judge), soup, taken, NULL, (const float *const *)stores, scores, n,
        &papa_judge_model(judge)->store, &calls);
    if (status != PAPA_OK)
        goto out;
    papa_judge_end(judge);
    for (int k = 0; k < n; k++)
        n_taken += taken[k];
    for (int k = 0; k < n; k++)
        out->weights[k] = taken[k] ? 1.0 / n_taken : 0;
out:
    free(scores);
    free(taken);
    return status;
}

static PapaStatus learn(PapaSoupChoice *out, PapaJudge *judge, float *const *stores, const PapaSoupJob *job)
{
    const PapaSoupOptions *o = job->options;
    bool by_tensor = o->method == PAPA_SOUP_LEARNED_TENSORS;
    PapaSoupLearning *learning;
    PAPA_TRY(papa_soup_learning_new(&learning, judge, stores, job->n, by_tensor));
    PapaStatus status;
    PAPA_GOTO(papa_soup_learning_run(learning, o->learn_steps, o->learn_rate));
    memcpy(out->weights, papa_soup_learning_mean(learning), (size_t)job->n * sizeof *out->weights);
    if (by_tensor)
        status = papa_soup_learning_tensor_weights(&out->tensor_weights, learning);
out:
    papa_soup_learning_free(learning);
    return status;
}

PapaStatus papa_soup_choose(PapaSoupChoice *out, PapaJudge *judge, float *const *stores, const PapaSoupJob *job)
{
    *out = (PapaSoupChoice){.weights = calloc((size_t)job->n, sizeof *out->weights)};
    if (!out->weights)
        return papa_fail_memory((size_t)job->n * sizeof *out->weights, "a soup's weights");
    bool learns = job->options->method == PAPA_SOUP_LEARNED || job->options->method == PAPA_SOUP_LEARNED_TENSORS;
    PapaStatus status = (learns ? learn : choose_some)(out, judge, stores, job);
    if (status != PAPA_OK)
        papa_soup_choice_free(out);
    return status;
}

void papa_soup_choice_free(PapaSoupChoice *choice)
{
    free(choice->weights);
    free(choice->tensor_weights);
    *choice = (PapaSoupChoice){0};
}
