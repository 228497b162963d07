/* papa_soup: options, and who does what. */
#include "jobs/soup_job.h"

#include "base/clock.h"
#include "base/file.h"
#include "jobs/align_job.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void papa_soup_defaults(PapaSoupOptions *out)
{
    *out = (PapaSoupOptions){.t = 0.5, .scale = 1, .decay = 0.9, .seed = 1, .learn_steps = 300, .learn_rate = 0.1f, .repair = PAPA_REPAIR_NONE,
        .recalibrate = true};
    papa_align_defaults(&out->align_options);
    papa_judge_defaults(&out->judge);
}

/* ---------------------------------------------------------------- methods */

typedef struct Method {
    const char *name;       /* papa.method */
    const char *in_words;   /* for messages */
    PapaMergeMethod merge;
    bool weights, base;     /* takes some; needs one */
    bool data;              /* needs images */
    bool has_parents;       /* a weighted mean, which REPAIR knows how to correct */
} Method;

static const Method methods[] = {
    [PAPA_SOUP_MEAN] = {"uniform", "a mean", PAPA_MERGE_MEAN, true, false, false, true},
    [PAPA_SOUP_LERP] = {"lerp", "interpolation", PAPA_MERGE_LERP, false, false, false, true},
    [PAPA_SOUP_SLERP] = {"slerp", "spherical interpolation", PAPA_MERGE_SLERP, false, false, false, true},
    [PAPA_SOUP_TASK] = {"task", "task arithmetic", PAPA_MERGE_TASK, true, true, false, false},
    [PAPA_SOUP_TIES] = {"ties", "TIES", PAPA_MERGE_TIES, true, true, false, false},
    [PAPA_SOUP_DARE] = {"dare", "DARE", PAPA_MERGE_DARE, true, true, false, false},
    [PAPA_SOUP_DARE_TIES] = {"dare-ties", "DARE with TIES", PAPA_MERGE_DARE_TIES, true, true, false, false},
    [PAPA_SOUP_STOCK] = {"stock", "Model Stock", PAPA_MERGE_STOCK, false, true, false, false},
    [PAPA_SOUP_WISE_FT] = {"wise-ft", "WiSE-FT", PAPA_MERGE_WISE, false, true, false, true},
    [PAPA_SOUP_EMA] = {"ema", "an average of checkpoints", PAPA_MERGE_EMA, false, false, false, true},
    [PAPA_SOUP_GREEDY] = {"greedy", "a greedy soup", PAPA_MERGE_MEAN, false, false, true, true},
    [PAPA_SOUP_PRUNED] = {"pruned", "a pruned soup", PAPA_MERGE_MEAN, false, false, true, true},
    [PAPA_SOUP_LEARNED] = {"learned", "a learned soup", PAPA_MERGE_MEAN, false, false, true, true},
    [PAPA_SOUP_LEARNED_TENSORS] = {"learned-tensors", "a learned soup", PAPA_MERGE_MEAN, false, false, true, true},
    [PAPA_SOUP_ENSEMBLE] = {"uniform", "an ensemble", PAPA_MERGE_MEAN, true, false, false, false},
};

const char *papa_soup_method_name(const PapaSoupOptions *options)
{
    return options->weights && methods[options->method].merge == PAPA_MERGE_MEAN ? "weights" : methods[options->method].name;
}

bool papa_soup_needs_data(PapaSoupMethod method)
{
    return methods[method].data;
}

void papa_soup_merge_options(PapaMergeOptions *out, const PapaSoupOptions *options, const double *weights)
{
    papa_merge_defaults(out);
    out->method = methods[options->method].merge;
    out->weights = weights ? weights : options->weights;
    out->any_sum = options->any_sum && !weights;
    out->t = options->t;
    out->scale = options->scale;
    out->density = options->density;
    out->decay = options->decay;
    out->seed = options->seed;
    out->threads = options->judge.device.threads;
}

/* ---------------------------------------------------------------- options */

static PapaStatus check_ensemble(const PapaSoupOptions *o, int n)
{
    double sum = 0;
    if (n < 2)
        return papa_fail(PAPA_ERR_ARGUMENT, "an ensemble takes at least 2 models, %d given", n);
    for (int k = 0; o->weights && k < n; k++) {
        if (!(o->weights[k] >= 0 && isfinite(o->weights[k])))
            return papa_fail(PAPA_ERR_ARGUMENT, "weight %d is %g; those of an ensemble are not negative", k + 1, o->weights[k]);
        sum += o->weights[k];
    }
    if (o->weights && !o->any_sum && fabs(sum - 1) > 1e-6)
        return papa_fail(PAPA_ERR_ARGUMENT, "the weights sum to %.9g, not to 1", sum);
    if (o->weights && !(sum > 0 && isfinite(sum)))
        return papa_fail(PAPA_ERR_ARGUMENT, "the weights sum to %g", sum);
    if (o->align)
        return papa_fail(PAPA_ERR_ARGUMENT, "align changes no output, and so no ensemble");
    return PAPA_OK;
}

static PapaStatus check_repair(const PapaSoupOptions *o, int n)
{
    const Method *method = &methods[o->method];
    bool between = o->method == PAPA_SOUP_LERP || o->method == PAPA_SOUP_SLERP || o->method == PAPA_SOUP_WISE_FT;
    if (!method->has_parents)
        return papa_fail(PAPA_ERR_ARGUMENT, "repair corrects weighted means of models; %s is none", method->in_words);
    for (int k = 0; o->weights && k < n; k++)
        if (o->weights[k] < 0)
            return papa_fail(PAPA_ERR_ARGUMENT, "repair needs weights that are not negative; weight %d is %g", k + 1, o->weights[k]);
    if (between && (o->t < 0 || o->t > 1))
        return papa_fail(PAPA_ERR_ARGUMENT, "repair needs weights that are not negative; t is %g", o->t);
    return PAPA_OK;
}

/* What needs images, and has none. */
static PapaStatus check_no_data(const PapaSoupOptions *o)
{
    if (methods[o->method].data)
        return papa_fail(PAPA_ERR_ARGUMENT, "%s is chosen on held-out images: data is needed", methods[o->method].in_words);
    if (o->repair != PAPA_REPAIR_NONE)
        return papa_fail(PAPA_ERR_ARGUMENT, "repair measures on training images: data is needed");
    if (o->judge.val_data || o->judge.test_data)
        return papa_fail(PAPA_ERR_ARGUMENT, "%s is given, but no data", o->judge.val_data ? "val_data" : "test_data");
    if (o->align && o->align_options.method == PAPA_ALIGN_ACTIVATIONS)
        return papa_fail(PAPA_ERR_ARGUMENT, "activations are measured on training images: data is needed");
    return PAPA_OK;
}

static PapaStatus check_options(const PapaSoupOptions *o, int n)
{
    if ((unsigned)o->method >= sizeof methods / sizeof *methods)
        return papa_fail(PAPA_ERR_ARGUMENT, "there is no method %d of merging", (int)o->method);
    if ((unsigned)o->repair > PAPA_REPAIR_NONE || (unsigned)o->ensemble > PAPA_ENSEMBLE_PROBABILITIES)
        return papa_fail(PAPA_ERR_ARGUMENT, "repair is %d, ensemble is %d", (int)o->repair, (int)o->ensemble);
    const Method *method = &methods[o->method];
    if (n < 1)
        return papa_fail(PAPA_ERR_ARGUMENT, "no models to merge");
    if (method->base != (o->base != NULL))
        return papa_fail(PAPA_ERR_ARGUMENT, method->base ? "%s needs a base" : "%s has no base", method->in_words);
    if (o->weights && !method->weights)
        return papa_fail(PAPA_ERR_ARGUMENT, "%s takes no weights", method->in_words);
    if (o->method == PAPA_SOUP_LEARNED || o->method == PAPA_SOUP_LEARNED_TENSORS) {
        if (o->learn_steps < 1)
            return papa_fail(PAPA_ERR_ARGUMENT, "learn_steps is %d, at least 1 expected", o->learn_steps);
        if (!(o->learn_rate > 0 && isfinite(o->learn_rate)))
            return papa_fail(PAPA_ERR_ARGUMENT, "learn_rate is %g, a number above 0 expected", (double)o->learn_rate);
    }
    if (o->repair != PAPA_REPAIR_NONE)
        PAPA_TRY(check_repair(o, n));
    if (o->method == PAPA_SOUP_ENSEMBLE)
        PAPA_TRY(check_ensemble(o, n));
    return o->judge.data ? PAPA_OK : check_no_data(o);
}

/* ---------------------------------------------------------------- the report */

static const PapaScore no_score = {.accuracy = NAN, .top5 = NAN, .loss = NAN};

static PapaStatus begin_report(PapaSoupReport *out, const PapaModel *const *models, int n, const PapaModel *base)
{
    *out = (PapaSoupReport){.n = n, .held_out = no_score, .test = no_score, .held_out_plain = no_score, .test_plain = no_score};
    out->ingredients = calloc((size_t)n + 1, sizeof *out->ingredients);
    if (!out->ingredients)
        return papa_fail_memory(((size_t)n + 1) * sizeof *out->ingredients, "a report");
    for (int k = 0; k <= n; k++) {
        const PapaModel *model = k < n ? models[k] : base;
        out->ingredients[k] = (PapaIngredient){.path = model ? papa_onnx_path(model->onnx) : NULL, .weight = NAN, .held_out = no_score, .test = no_score};
    }
    return PAPA_OK;
}

void papa_soup_report_free(PapaSoupReport *report)
{
    if (!report)
        return;
    free(report->ingredients);
    report->ingredients = NULL;
}

/* The share of model k in the result, n: the base's; NaN where it differs from tensor to tensor. */
static double weight_of(const PapaSoupOptions *o, const double *weights, int k, int n)
{
    double given = weights ? weights[k < n ? k : 0] : o->weights ? o->weights[k < n ? k : 0] : 1, sum = 0;
    switch (o->method) {
    case PAPA_SOUP_LERP:
        return k ? o->t : 1 - o->t;
    case PAPA_SOUP_WISE_FT:
        return k < n ? o->t : 1 - o->t;
    case PAPA_SOUP_EMA:
        return (k ? 1 - o->decay : 1) * pow(o->decay, n - 1 - k);
    case PAPA_SOUP_TASK:
        for (int j = 0; j < n; j++)
            sum += o->weights ? o->weights[j] : 1;
        return k < n ? o->scale * given : 1 - o->scale * sum;
    case PAPA_SOUP_ENSEMBLE:
        for (int j = 0; j < n; j++)
            sum += o->weights ? o->weights[j] : 1;
        return given / sum;
    case PAPA_SOUP_MEAN:
        return weights || o->weights ? given : 1.0 / n;
    default:
        return weights && k < n ? given : NAN;
    }
}

void papa_soup_set_weights(const PapaSoupJob *job, const double *weights)
{
    PapaSoupReport *report = job->report;
    report->n_used = 0;
    for (int k = 0; k < job->n + (job->options->base != NULL); k++) {
        report->ingredients[k].weight = weight_of(job->options, weights, k, job->n);
        report->n_used += k < job->n && report->ingredients[k].weight != 0; /* NaN: used in its own way */
    }
}

/* ---------------------------------------------------------------- */

static PapaStatus run(PapaSoupJob *job, PapaIngredients *ingredients)
{
    const PapaSoupOptions *o = job->options;
    PapaAlignment *alignment = NULL;
    PapaStatus status;
    if (o->out) {
        PAPA_TRY(papa_ingredients_check_output(ingredients, o->out));
        PAPA_TRY(papa_writer_try(o->out)); /* now, and not after an hour's work */
    }
    if (o->align)
        PAPA_TRY(papa_align_ingredients(&alignment, ingredients, &o->align_options, &o->judge, job->hooks));
    if (o->judge.data)
        status = papa_soup_with_data(job);
    else if (o->method == PAPA_SOUP_ENSEMBLE)
        status = papa_soup_write_ensemble(job);
    else
        status = papa_soup_write(job);
    papa_alignment_free(alignment);
    return status;
}

/* Outputs can be averaged whatever the networks are, but they are scored as one network's. */
static PapaStatus open_ingredients(PapaIngredients **out, const PapaModel *const *models, int n, const PapaSoupOptions *options)
{
    if (options->method != PAPA_SOUP_ENSEMBLE)
        return papa_ingredients_open(out, models, n, options->base);
    PAPA_TRY(papa_ingredients_open_unpaired(out, models, n));
    if (!options->judge.data)
        return PAPA_OK;
    papa_ingredients_close(*out);
    PapaStatus status = papa_ingredients_open(out, models, n, NULL);
    return status == PAPA_ERR_MISMATCH ? papa_fail_in(status, "an ensemble of different networks is written without data, and scored as a file") : status;
}

PapaStatus papa_soup(PapaSoupReport *out, const PapaModel *const *models, int n, const PapaSoupOptions *options, const PapaHooks *hooks)
{
    static const PapaHooks none;
    PapaIngredients *ingredients = NULL;
    double start = papa_now();
    *out = (PapaSoupReport){0};
    PAPA_TRY(check_options(options, n));
    PapaStatus status;
    PAPA_GOTO(open_ingredients(&ingredients, models, n, options));
    PAPA_GOTO(begin_report(out, models, n, options->base));
    PapaSoupJob job = {.ingredients = ingredients, .options = options, .hooks = hooks ? hooks : &none, .report = out, .n = n};
    if (!papa_soup_needs_data(options->method))
        papa_soup_set_weights(&job, NULL);
    PAPA_GOTO(run(&job, ingredients));
    out->seconds = papa_now() - start;
out:
    papa_ingredients_close(ingredients);
    if (status) {
        papa_soup_report_free(out);
        *out = (PapaSoupReport){0};
    }
    return status;
}
