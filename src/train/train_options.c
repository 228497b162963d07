#include "train/train_options.h"

#include "kernels/augment.h"
#include "kernels/mix.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

void papa_train_defaults(PapaTrainOptions *out)
{
    *out = (PapaTrainOptions){
        .test_split = PAPA_SPLIT_TEST,
        .val_fraction = .02f,
        .population = 3,
        .method = PAPA_METHOD_PAPA,
        .alpha = NAN,
        .every = 10,
        .every_epochs = 5,
        .init = PAPA_INIT_FILE,
        .epochs = 10,
        .batch = 128,
        .optimizer = PAPA_OPTIMIZER_SGD,
        .momentum = .9f,
        .beta1 = .9f,
        .beta2 = .999f,
        .adam_eps = 1e-8f,
        .lr = NAN,
        .lr_min = NAN,
        .schedule = PAPA_SCHEDULE_COSINE,
        .milestones = {.5f, .75f},
        .n_milestones = 2,
        .gamma = .1f,
        .weight_decay = 1e-4f,
        .decay_all = true,
        .dropout = true,
        .repair = true,
        .ensemble = PAPA_ENSEMBLE_LOGITS,
        .seed = 1,
        .out = "papa-out",
    };
}

void papa_remark(const PapaHooks *hooks, const char *format, ...)
{
    if (!hooks || !hooks->remark)
        return;
    char line[512];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    hooks->remark(hooks->context, line);
}

const char *papa_method_name(PapaMethod method)
{
    static const char *const names[] = {[PAPA_METHOD_PAPA] = "papa", [PAPA_METHOD_ALL] = "papa-all", [PAPA_METHOD_2] = "papa-2",
        [PAPA_METHOD_NONE] = "none"};
    return names[method];
}

const char *papa_init_name(PapaInit init)
{
    static const char *const names[] = {[PAPA_INIT_FILE] = "file", [PAPA_INIT_RANDOM] = "random", [PAPA_INIT_SAME] = "same"};
    return names[init];
}

const char *papa_optimizer_name(PapaOptimizer optimizer)
{
    static const char *const names[] = {[PAPA_OPTIMIZER_SGD] = "sgd", [PAPA_OPTIMIZER_ADAM] = "adam", [PAPA_OPTIMIZER_ADAMW] = "adamw"};
    return names[optimizer];
}

const char *papa_schedule_name(PapaSchedule schedule)
{
    static const char *const names[] = {[PAPA_SCHEDULE_COSINE] = "cosine", [PAPA_SCHEDULE_STEPS] = "steps",
        [PAPA_SCHEDULE_CONSTANT] = "constant"};
    return names[schedule];
}

/* ---------------------------------------------------------------- ranges */

#define OPEN_LOW 1  /* low itself is refused */
#define OPEN_HIGH 2 /* high itself is refused */

typedef struct Range {
    const char *option;
    double value, low, high;
    int open;
} Range;

static PapaStatus check_range(Range r)
{
    bool above = r.open & OPEN_LOW ? r.value > r.low : r.value >= r.low; /* false for NaN */
    bool below = r.open & OPEN_HIGH ? r.value < r.high : r.value <= r.high;
    if (above && below && isfinite(r.value))
        return PAPA_OK;
    const char *least = r.open & OPEN_LOW ? "more than" : "at least";
    if (r.high == INFINITY)
        return papa_fail(PAPA_ERR_ARGUMENT, "%s is %g, expected %s %g", r.option, r.value, least, r.low);
    return papa_fail(PAPA_ERR_ARGUMENT, "%s is %g, expected %s %g and %s %g", r.option, r.value, least, r.low,
        r.open & OPEN_HIGH ? "less than" : "at most", r.high);
}

static PapaStatus check_grid(const char *option, const PapaGrid *grid, double high, int open)
{
    PAPA_TRY(check_range((Range){option, grid->n, 0, PAPA_MAX_GRID, 0}));
    for (int i = 0; i < grid->n; i++)
        PAPA_TRY(check_range((Range){option, grid->values[i], 0, high, open}));
    return PAPA_OK;
}

static PapaStatus check_numbers(const PapaTrainOptions *o)
{
    const Range ranges[] = {
        {"test_split", o->test_split, 0, PAPA_SPLIT_TEST, 0},
        {"method", o->method, 0, PAPA_METHOD_NONE, 0},
        {"init", o->init, 0, PAPA_INIT_SAME, 0},
        {"optimizer", o->optimizer, 0, PAPA_OPTIMIZER_ADAMW, 0},
        {"schedule", o->schedule, 0, PAPA_SCHEDULE_CONSTANT, 0},
        {"ensemble", o->ensemble, 0, PAPA_ENSEMBLE_PROBABILITIES, 0},
        {"val_fraction", o->val_fraction, 0, 1, OPEN_HIGH},
        {"n_norm", o->n_norm, 0, PAPA_MAX_CHANNELS, 0},
        {"population", o->population, 1, PAPA_MIX_MAX, 0},
        {"alpha", o->alpha, 0, 1, 0},
        {"every", o->every, 1, INFINITY, 0},
        {"every_epochs", o->every_epochs, 1, INFINITY, 0},
        {"epochs", o->epochs, 1, 1 << 20, 0},
        {"batch", o->batch, 1, 1 << 20, 0},
        {"momentum", o->momentum, 0, 1, OPEN_HIGH},
        {"beta1", o->beta1, 0, 1, OPEN_HIGH},
        {"beta2", o->beta2, 0, 1, OPEN_HIGH},
        {"adam_eps", o->adam_eps, 0, INFINITY, OPEN_LOW},
        {"lr", o->lr, 0, INFINITY, OPEN_LOW},
        {"lr_min", o->lr_min, 0, o->lr, 0},
        {"n_milestones", o->n_milestones, 0, PAPA_MAX_GRID, 0},
        {"gamma", o->gamma, 0, 1, OPEN_LOW},
        {"warmup_epochs", o->warmup_epochs, 0, o->epochs, 0},
        {"weight_decay", o->weight_decay, 0, INFINITY, 0},
        {"clip", o->clip, 0, INFINITY, 0},
        {"crop", o->crop, 0, 1 << 12, 0},
        {"repair_batches", o->repair_batches, 0, 1 << 16, 0},
        {"threads", o->device.threads, 0, 1 << 12, 0},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        PAPA_TRY(check_range(ranges[i]));
    for (int c = 0; c < o->n_norm; c++)
        PAPA_TRY(check_range((Range){"std", o->std[c], 0, INFINITY, OPEN_LOW}));
    for (int c = 0; c < o->n_norm; c++)
        PAPA_TRY(check_range((Range){"mean", o->mean[c], -1e6, 1e6, 0}));
    for (int i = 0; i < o->n_milestones; i++)
        PAPA_TRY(check_range((Range){"milestones", o->milestones[i], i ? o->milestones[i - 1] : 0, 1, 0}));
    PAPA_TRY(check_grid("mixup", &o->mixup, INFINITY, 0));
    PAPA_TRY(check_grid("cutmix", &o->cutmix, INFINITY, 0));
    PAPA_TRY(check_grid("smoothing", &o->smoothing, 1, OPEN_HIGH));
    return check_grid("erasing", &o->erasing, 1, 0);
}

static PapaStatus check_choices(const PapaTrainOptions *o)
{
    if (o->crop && o->random_resized_crop)
        return papa_fail(PAPA_ERR_ARGUMENT, "crop and random_resized_crop exclude each other");
    if (o->nesterov && (o->optimizer != PAPA_OPTIMIZER_SGD || o->momentum == 0))
        return papa_fail(PAPA_ERR_ARGUMENT, "nesterov needs the sgd optimizer with a momentum above 0");
    if (o->method == PAPA_METHOD_2 && o->population < 2)
        return papa_fail(PAPA_ERR_ARGUMENT, "method papa-2 makes pairs: population is %d, expected at least 2", o->population);
    return PAPA_OK;
}

/* ---------------------------------------------------------------- defaults that depend on others */

static float default_rate(const PapaTrainOptions *o)
{
    bool from_file = o->init == PAPA_INIT_FILE;
    if (o->optimizer == PAPA_OPTIMIZER_SGD)
        return from_file ? .01f : .1f;
    return from_file ? 1e-4f : 1e-3f;
}

PapaStatus papa_train_options_resolve(PapaTrainOptions *o)
{
    if (isnan(o->alpha))
        o->alpha = o->init == PAPA_INIT_FILE ? .9995f : .99f;
    if (isnan(o->lr))
        o->lr = default_rate(o);
    if (isnan(o->lr_min))
        o->lr_min = o->lr / 1000;
    PAPA_TRY(check_numbers(o));
    return check_choices(o);
}

void papa_train_options_remark(const PapaTrainOptions *o, const PapaTrainOptions *asked, const PapaHooks *hooks)
{
    if (isnan(asked->alpha) && o->method == PAPA_METHOD_PAPA && o->population > 1)
        papa_remark(hooks, "alpha %g (initial weights: %s)", (double)o->alpha, papa_init_name(o->init));
    if (isnan(asked->lr))
        papa_remark(hooks, "learning rate %g (%s, initial weights: %s)", (double)o->lr, papa_optimizer_name(o->optimizer),
            papa_init_name(o->init));
}
