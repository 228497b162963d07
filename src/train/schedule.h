/* The learning rate as a function of the step, and the pull's alpha that follows it. Knows nothing else. */
#ifndef PAPA_SCHEDULE_H
#define PAPA_SCHEDULE_H

#include "base/status.h"

typedef struct PapaRatePlan {
    PapaSchedule schedule;
    double peak, lowest;              /* peak: the rate asked for; lowest: where the cosine ends */
    double milestones[PAPA_MAX_GRID]; /* fractions of the run, PAPA_SCHEDULE_STEPS */
    int n_milestones;
    double gamma;
    int64_t n_steps, n_warmup;        /* of the whole run; warm-up's among them */
} PapaRatePlan;

/* The rate of update `step`, from 0. Step n_steps, behind the last update, is where the schedule ends.
 *   warm-up: peak * (step + 1) / (n_warmup + 1) for step < n_warmup: linear from 0, which it leaves out, to the peak at step n_warmup
 *   cosine:  lowest + (peak - lowest) * (1 + cos(pi * (step - n_warmup) / (n_steps - n_warmup))) / 2
 *   steps:   peak * gamma^(number of milestones with round(milestone * n_steps) <= step) */
double papa_rate(const PapaRatePlan *plan, int64_t step);

/* 1 - alpha_t of the pull that follows when `n_done` updates are done: (1 - alpha) * rate(n_done) / peak. The schedule has stepped
 * already: it is the next update's rate that counts. A peak of 0 gives 0. */
double papa_pull_strength(const PapaRatePlan *plan, double alpha, int64_t n_done);

#endif
