#include "train/schedule.h"

#include <math.h>

static double cosine(const PapaRatePlan *plan, int64_t step)
{
    double length = (double)(plan->n_steps - plan->n_warmup), at = (double)(step - plan->n_warmup);
    double part = length > 0 ? at / length : 1;
    return plan->lowest + (plan->peak - plan->lowest) * (1 + cos(M_PI * part)) / 2;
}

static double steps(const PapaRatePlan *plan, int64_t step)
{
    double rate = plan->peak;
    for (int i = 0; i < plan->n_milestones; i++)
        if (llround(plan->milestones[i] * (double)plan->n_steps) <= step)
            rate *= plan->gamma;
    return rate;
}

double papa_rate(const PapaRatePlan *plan, int64_t step)
{
    if (step < plan->n_warmup)
        return plan->peak * (double)(step + 1) / (double)(plan->n_warmup + 1);
    switch (plan->schedule) {
    case PAPA_SCHEDULE_COSINE:
        return cosine(plan, step);
    case PAPA_SCHEDULE_STEPS:
        return steps(plan, step);
    case PAPA_SCHEDULE_CONSTANT:
        break;
    }
    return plan->peak;
}

double papa_pull_strength(const PapaRatePlan *plan, double alpha, int64_t n_done)
{
    return plan->peak > 0 ? (1 - alpha) * papa_rate(plan, n_done) / plan->peak : 0;
}
