/* Learning rates and alphas at steps where they can be worked out by hand. */
#include "check.h"

#include "train/schedule.h"

#define CLOSE 1e-12

static void cosine(void)
{
    PapaRatePlan plan = {.schedule = PAPA_SCHEDULE_COSINE, .peak = .1, .lowest = .02, .n_steps = 12};
    CHECK_NEAR(papa_rate(&plan, 0), .1, CLOSE);
    CHECK_NEAR(papa_rate(&plan, 4), .02 + .08 * .75, CLOSE); /* cos 60 degrees */
    CHECK_NEAR(papa_rate(&plan, 6), .06, CLOSE);
    CHECK_NEAR(papa_rate(&plan, 8), .04, CLOSE);
    CHECK_NEAR(papa_rate(&plan, 12), .02, CLOSE);
}

static void warm_up(void)
{
    PapaRatePlan plan = {.schedule = PAPA_SCHEDULE_COSINE, .peak = 1, .lowest = 0, .n_steps = 16, .n_warmup = 4};
    CHECK_NEAR(papa_rate(&plan, 0), .2, CLOSE);
    CHECK_NEAR(papa_rate(&plan, 3), .8, CLOSE);
    CHECK_NEAR(papa_rate(&plan, 4), 1, CLOSE);
    CHECK_NEAR(papa_rate(&plan, 8), .75, CLOSE);
    CHECK_NEAR(papa_rate(&plan, 16), 0, CLOSE);
    plan.schedule = PAPA_SCHEDULE_CONSTANT;
    CHECK_NEAR(papa_rate(&plan, 1), .4, CLOSE);
    CHECK_NEAR(papa_rate(&plan, 15), 1, CLOSE);
    plan.n_warmup = 16;
    plan.schedule = PAPA_SCHEDULE_COSINE;
    CHECK(isfinite(papa_rate(&plan, 16)), "a run that is all warm-up");
}

static void milestones(void)
{
    PapaRatePlan plan = {.schedule = PAPA_SCHEDULE_STEPS, .peak = 8, .milestones = {.5, .75}, .n_milestones = 2, .gamma = .5, .n_steps = 100};
    CHECK_NEAR(papa_rate(&plan, 49), 8, CLOSE);
    CHECK_NEAR(papa_rate(&plan, 50), 4, CLOSE);
    CHECK_NEAR(papa_rate(&plan, 74), 4, CLOSE);
    CHECK_NEAR(papa_rate(&plan, 75), 2, CLOSE);
    CHECK_NEAR(papa_rate(&plan, 99), 2, CLOSE);
}

/* 1 - alpha_t = (lr_t / lr_0)(1 - alpha), lr_0 the peak also while warming up. */
static void strength(void)
{
    PapaRatePlan plan = {.schedule = PAPA_SCHEDULE_COSINE, .peak = .1, .lowest = 0, .n_steps = 24, .n_warmup = 4};
    CHECK_NEAR(papa_pull_strength(&plan, .99, 4), .01, CLOSE);
    CHECK_NEAR(papa_pull_strength(&plan, .99, 14), .005, CLOSE);
    CHECK_NEAR(papa_pull_strength(&plan, .99, 24), 0, CLOSE);
    CHECK_NEAR(papa_pull_strength(&plan, .9, 1), .1 * .4, CLOSE);
    plan.peak = 0;
    CHECK(papa_pull_strength(&plan, .9, 1) == 0, "a rate of 0");
}

int main(void)
{
    cosine();
    warm_up();
    milestones();
    strength();
    return check_result();
}
