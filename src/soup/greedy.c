/* The greedy soup. A candidate is always averaged anew from the members themselves, so rounding does not pile up and a re-estimated
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
    if (calls->prepare)
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
