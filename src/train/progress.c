#include "train/progress.h"

#include <math.h>

#define INTERVAL .1 /* seconds */

void papa_meter_begin(PapaMeter *meter, const PapaHooks *hooks, PapaPhase phase, int64_t total, const atomic_llong *done, int64_t images_each)
{
    PapaProgress start = {.phase = phase, .total = total, .loss = NAN, .learning_rate = NAN};
    *meter = (PapaMeter){.hooks = hooks, .progress = start, .done = done, .images_each = images_each};
    meter->began = papa_now();
}

static void report(PapaMeter *meter, double time)
{
    meter->last = time;
    meter->progress.done = atomic_load(meter->done);
    meter->progress.n_images = meter->progress.done * meter->images_each;
    meter->progress.seconds = time - meter->began;
    meter->hooks->progress(meter->hooks->context, &meter->progress);
}

void papa_meter_tick(void *context)
{
    PapaMeter *meter = context;
    if (!meter->hooks || !meter->hooks->progress)
        return;
    double time = papa_now();
    if (time - meter->last >= INTERVAL)
        report(meter, time);
}

void papa_meter_end(PapaMeter *meter)
{
    if (meter->hooks && meter->hooks->progress && meter->progress.total)
        report(meter, papa_now());
}
