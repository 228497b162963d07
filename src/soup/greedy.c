/* Soups that are chosen: greedy and pruned. A candidate is always averaged anew from the members themselves, so rounding does not pile up and a re-estimated
 * statistic never leaks into the next candidate. */
#include "soup/soup.h"

#include <math.h>
#include <stdlib.h>

static bool better(double a, double b)
{
    return a > b || (isnan(b) && !isnan(a));
}

void papa_soup_order(int *order, const double *scores, int n)
{
    for (int i = 0; i < n; i++) { /* insertion keeps ties in the order of their indices */
        int at = i;
        for (; at > 0 && better(scores[i], scores[order[at - 1]]); at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
}

static PapaStatus score_candidate(double *score, PapaDevice *dev, float *candidate, const float *const *members, int n,
    const PapaStoreLayout *layout, const PapaGreedyCalls *calls)
{
    PAPA_TRY(papa_soup_mean(dev, candidate, members, NULL, n, layout));
    if (calls->prepare && n > 1)
        PAPA_TRY(calls->prepare(calls->context, candidate));
    return calls->score(calls->context, candidate, score);
}

PapaStatus papa_soup_greedy(PapaDevice *dev, float *to, bool *taken, double *best, const float *const *stores, const double *scores, int n,
    const PapaStoreLayout *layout, const PapaGreedyCalls *calls)
{
    PapaStatus status = PAPA_OK;
    size_t bytes = (size_t)layout->n_total * sizeof(float);
    int *order = malloc((size_t)n * sizeof *order), n_members = 1;
    const float **members = malloc((size_t)n * sizeof *members);
    float *candidate = NULL;
    if (!order || !members) {
        status = papa_fail_memory((size_t)n * (sizeof *order + sizeof *members), "a greedy soup");
        goto out;
    }
    PAPA_GOTO(papa_device_alloc(dev, (void **)&candidate, bytes, "a greedy soup's candidate"));

    papa_soup_order(order, scores, n);
    members[0] = stores[order[0]];
    double score = scores[order[0]];
    for (int i = 0; i < n; i++)
        taken[i] = i == order[0];
    PAPA_GOTO(papa_device_copy(dev, to, members[0], bytes));
    for (int i = 1; i < n; i++) {
        double candidate_score;
        members[n_members] = stores[order[i]];
        PAPA_GOTO(score_candidate(&candidate_score, dev, candidate, members, n_members + 1, layout, calls));
        if (!better(candidate_score, score))
            continue;
        n_members++;
        score = candidate_score;
        taken[order[i]] = true;
        PAPA_GOTO(papa_device_copy(dev, to, candidate, bytes));
    }
    if (best)
        *best = score;
out:
    papa_device_free(dev, candidate);
    free(members);
    free(order);
    return status;
}

/* ---------------------------------------------------------------- pruned */

typedef struct Pruning {
    PapaDevice *dev;
    const float *const *stores;
    int n, n_taken;
    bool *taken;
    const PapaStoreLayout *layout;
    const PapaGreedyCalls *calls;
    const float **members; /* room for a candidate's */
    float *candidate;
    double score;
} Pruning;

/* The mean of those that are taken, but for one (-1: of all). */
static PapaStatus score_without(Pruning *p, double *score, int without)
{
    int n_members = 0;
    for (int k = 0; k < p->n; k++)
        if (p->taken[k] && k != without)
            p->members[n_members++] = p->stores[k];
    return score_candidate(score, p->dev, p->candidate, p->members, n_members, p->layout, p->calls);
}

/* *left: how many this pass leaves out. */
static PapaStatus prune_once(Pruning *p, float *to, const int *order, int *left)
{
    *left = 0;
    for (int i = p->n - 1; i >= 0; i--) {
        double score;
        if (!p->taken[order[i]] || p->n_taken == 1)
            continue;
        PAPA_TRY(score_without(p, &score, order[i]));
        if (!better(score, p->score))
            continue;
        p->taken[order[i]] = false;
        p->n_taken--;
        p->score = score;
        ++*left;
        PAPA_TRY(papa_device_copy(p->dev, to, p->candidate, (size_t)p->layout->n_total * sizeof(float)));
    }
    return PAPA_OK;
}

PapaStatus papa_soup_pruned(PapaDevice *dev, float *to, bool *taken, double *best, const float *const *stores, const double *scores, int n,
    const PapaStoreLayout *layout, const PapaGreedyCalls *calls)
{
    PapaStatus status = PAPA_OK;
    size_t bytes = (size_t)layout->n_total * sizeof(float);
    int *order = malloc((size_t)n * sizeof *order);
    Pruning p = {.dev = dev, .stores = stores, .n = n, .n_taken = n, .taken = taken, .layout = layout, .calls = calls};
    p.members = malloc((size_t)n * sizeof *p.members);
    if (!order || !p.members) {
        status = papa_fail_memory((size_t)n * (sizeof *order + sizeof *p.members), "a pruned soup");
        goto out;
    }
    PAPA_GOTO(papa_device_alloc(dev, (void **)&p.candidate, bytes, "a pruned soup's candidate"));
    papa_soup_order(order, scores, n);
    for (int k = 0; k < n; k++)
        taken[k] = true;
    PAPA_GOTO(score_without(&p, &p.score, -1));
    PAPA_GOTO(papa_device_copy(dev, to, p.candidate, bytes));
    for (int left = 1; left;)
        PAPA_GOTO(prune_once(&p, to, order, &left));
    if (best)
        *best = p.score;
out:
    papa_device_free(dev, p.candidate);
    free(p.members);
    free(order);
    return status;
}
