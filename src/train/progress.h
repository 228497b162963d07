/* Progress reports: a phase's counter, read on the calling thread, handed to the caller's hook at most ten times a second. */
#ifndef PAPA_PROGRESS_H
#define PAPA_PROGRESS_H

#include "base/clock.h"
#include "base/status.h"

#include <stdatomic.h>

typedef struct PapaMeter {
    const PapaHooks *hooks;     /* may be NULL */
    PapaProgress progress;      /* the user of the meter sets epoch, loss, learning_rate */
    const atomic_llong *done;   /* steps so far */
    int64_t images_each;        /* images in a step */
    double began, last;
} PapaMeter;

void papa_meter_begin(PapaMeter *meter, const PapaHooks *hooks, PapaPhase phase, int64_t total, const atomic_llong *done, int64_t images_each);
/* Reports if a tenth of a second has passed. context is the meter: fits papa_pool_on_wait. */
void papa_meter_tick(void *context);
/* Reports in any case, unless there was nothing to do. */
void papa_meter_end(PapaMeter *meter);

#endif
