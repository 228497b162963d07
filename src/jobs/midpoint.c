#include "jobs/midpoint.h"

#include "soup/soup.h"

PapaStatus papa_midpoints_open(PapaMidpoints *out, PapaJudge *judge)
{
    *out = (PapaMidpoints){.judge = judge, .images = papa_judge_has(judge, PAPA_JUDGE_TEST) ? PAPA_JUDGE_TEST : PAPA_JUDGE_HELD_OUT};
    for (int i = 0; i < 3; i++)
        PAPA_TRY(papa_judge_store(judge, &out->stores[i]));
    return papa_judge_load(judge, 0, out->stores[0]);
}

PapaStatus papa_midpoints_end(PapaMidpoints *m, PapaScore *score, int k)
{
    if (k)
        PAPA_TRY(papa_judge_load(m->judge, k, m->stores[1]));
    return papa_judge_score(m->judge, score, &m->stores[k ? 1 : 0], 1, m->images);
}

PapaStatus papa_midpoints_middle(PapaMidpoints *m, PapaScore *score, int k)
{
    const float *ends[] = {m->stores[0], m->stores[1]};
    PAPA_TRY(papa_judge_load(m->judge, k, m->stores[1]));
    PAPA_TRY(papa_soup_mean(papa_judge_device(m->judge), m->stores[2], ends, NULL, 2, &papa_judge_model(m->judge)->store));
    PAPA_TRY(papa_judge_recalibrate(m->judge, m->stores[2]));
    return papa_judge_score(m->judge, score, &m->stores[2], 1, m->images);
}
