/* Groups, proofs and matching, in the order in which nothing is taken on trust: the groups are proved before they are used, the result before it is. */
#include "align/proof.h"
#include "jobs/alignment.h"
#include "train/progress.h"
#include "train/train_options.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void papa_align_defaults(PapaAlignOptions *out)
{
    *out = (PapaAlignOptions){.method = PAPA_ALIGN_WEIGHTS, .to = PAPA_ALIGN_TO_FIRST, .restarts = 3, .max_sweeps = 100, .seed = 1};
    papa_judge_defaults(&out->judge);
}

/* ---------------------------------------------------------------- options */

PapaStatus papa_alignment_check_options(const PapaAlignOptions *o, const PapaJudgeOptions *judge)
{
    if ((unsigned)o->method > PAPA_ALIGN_ACTIVATIONS)
        return papa_fail(PAPA_ERR_ARGUMENT, "method is %d, which is no method of alignment", (int)o->method);
    if ((unsigned)o->to > PAPA_ALIGN_TO_CYCLE)
        return papa_fail(PAPA_ERR_ARGUMENT, "to is %d, expected first, mean or cycle", (int)o->to);
    if (o->restarts < 1)
        return papa_fail(PAPA_ERR_ARGUMENT, "restarts is %d, expected at least 1", o->restarts);
    if (o->max_sweeps < 1)
        return papa_fail(PAPA_ERR_ARGUMENT, "max_sweeps is %d, expected at least 1", o->max_sweeps);
    if (o->method == PAPA_ALIGN_ACTIVATIONS && o->to != PAPA_ALIGN_TO_FIRST)
        return papa_fail(PAPA_ERR_ARGUMENT, "activations are matched with the first model's only: to must be first");
    if (o->method == PAPA_ALIGN_ACTIVATIONS && !judge->data)
        return papa_fail(PAPA_ERR_ARGUMENT, "matching activations needs images: data is not set");
    return PAPA_OK;
}

PapaStatus papa_alignment_check_stop(const PapaHooks *hooks, const char *what)
{
    return hooks && hooks->stop && *hooks->stop ? papa_fail(PAPA_ERR_STOPPED, "stopped before %s", what) : PAPA_OK;
}

/* ---------------------------------------------------------------- groups */

static PapaStatus make_lists(PapaAlignment *a)
{
    const int64_t n_groups = a->groups->n_groups, n = a->n;
    a->matches = PAPA_NEW_ARRAY(&a->arena, PapaMatch, n);
    a->proofs = PAPA_NEW_ARRAY(&a->arena, double, n_groups);
    a->results = PAPA_NEW_ARRAY(&a->arena, double, n);
    a->before = PAPA_NEW_ARRAY(&a->arena, double, n * n_groups);
    a->after = PAPA_NEW_ARRAY(&a->arena, double, n * n_groups);
    return a->matches && a->proofs && a->results && a->before && a->after ? PAPA_OK : PAPA_ERR_MEMORY;
}

static void tell_opaque(const PapaAlignment *a)
{
    const char *path = papa_onnx_path(papa_ingredients_model(a->ingredients, 0)->onnx);
    const int blind = a->groups->n_blind, n = a->groups->n_opaque - blind;
    if (n)
        papa_remark(a->hooks, "%s: %d node%s not understood (%s): what touches %s must stay", path, n, n > 1 ? "s are" : " is", a->groups->opaque,
            n > 1 ? "them" : "it");
    if (blind)
        papa_remark(a->hooks, "%s: what touches %d node%s behind must stay too, as shapes there are not known; onnx.shape_inference may write them into the file",
            path, blind, blind > 1 ? "s" : "");
}

PapaStatus papa_alignment_begin(PapaAlignment **out, PapaIngredients *ingredients, const PapaAlignOptions *options, const PapaJudgeOptions *judge,
    const PapaHooks *hooks)
{
    *out = NULL;
    PAPA_TRY(papa_alignment_check_options(options, judge));
    PapaAlignment *a = calloc(1, sizeof *a);
    if (!a)
        return papa_fail_memory(sizeof *a, "an alignment");
    *a = (PapaAlignment){.ingredients = ingredients, .options = options, .hooks = hooks, .threads = judge->device.threads ? judge->device.threads : papa_cores(),
        .n = papa_ingredients_count(ingredients) + papa_ingredients_has_base(ingredients)};
    PapaStatus status = papa_groups_derive(&a->groups, papa_ingredients_model(ingredients, 0)->onnx, NULL);
    if (status == PAPA_OK)
        status = make_lists(a);
    if (status == PAPA_OK)
        tell_opaque(a);
    if (status != PAPA_OK) {
        papa_alignment_free(a);
        return status;
    }
    *out = a;
    return PAPA_OK;
}

void papa_alignment_free(PapaAlignment *a)
{
    if (!a)
        return;
    for (int k = 0; a->matches && k < a->n; k++)
        papa_match_free(&a->matches[k]);
    for (int64_t i = 0; a->numbers && i < (int64_t)a->n * a->groups->n_tensors; i++)
        free((void *)a->numbers[i]);
    papa_groups_free(a->groups);
    papa_arena_free(&a->arena);
    free(a);
}

/* ---------------------------------------------------------------- proofs */

static PapaStatus open_proof(PapaProof **out, const PapaAlignment *a, int k)
{
    PapaProofOptions options = {.seed = a->options->seed, .threads = a->threads, .hooks = a->hooks};
    return papa_proof_open(out, papa_ingredients_model(a->ingredients, k)->onnx, &options);
}

PapaStatus papa_alignment_prove_groups(PapaAlignment *a)
{
    const double began = papa_now();
    PapaProof *proof;
    if (!a->groups->n_groups)
        return PAPA_OK;
    PAPA_TRY(open_proof(&proof, a, 0));
    PapaStatus status = papa_proof_groups(a->proofs, proof, a->groups);
    papa_proof_close(proof);
    a->seconds_proof += papa_now() - began;
    return status;
}

static bool is_moved(const PapaAlignment *a, const int64_t *const *perms, int g)
{
    for (int64_t i = 0; perms[g] && i < a->groups->groups[g].n; i++)
        if (perms[g][i] != i)
            return true;
    return false;
}

static PapaStatus find_difference(double *out, const PapaAlignment *a, PapaProof *proof, int k)
{
    PapaIngredientView view = {a->ingredients, k};
    return papa_proof_difference(out, proof, papa_ingredients_replace, &view);
}

/* Which group it is that changes model k's outputs, each permuted by itself. The run has failed already: what the ingredients are read as no longer matters. */
static PapaStatus blame(const PapaAlignment *a, PapaProof *proof, int k)
{
    const char *path = papa_onnx_path(papa_ingredients_model(a->ingredients, k)->onnx);
    const int64_t *const *perms = papa_alignment_perms(a, k);
    const int64_t **one = calloc((size_t)a->groups->n_groups, sizeof *one);
    PapaStatus status = one ? PAPA_OK : papa_fail_memory((size_t)a->groups->n_groups * sizeof *one, "permutations");
    for (int g = 0; g < a->groups->n_groups && status == PAPA_OK; g++) {
        double difference = 0;
        if (!is_moved(a, perms, g))
            continue;
        one[g] = perms[g];
        PAPA_GOTO(papa_ingredients_align(a->ingredients, k, a->groups, one));
        PAPA_GOTO(find_difference(&difference, a, proof, k));
        if (!(difference <= PAPA_PROOF_TOLERANCE))
            PAPA_GOTO(papa_fail(PAPA_ERR_NUMERIC, "%s: permuting group '%s' changes the outputs by %.3g of the largest, more than %g", path,
                a->groups->groups[g].name, difference, PAPA_PROOF_TOLERANCE));
        one[g] = NULL;
    }
    if (status == PAPA_OK)
        status = papa_fail(PAPA_ERR_NUMERIC, "%s: permuting its %d groups together changes the outputs by %.3g of the largest, more than %g", path,
            a->groups->n_groups, a->results[k], PAPA_PROOF_TOLERANCE);
out:
    if (one)
        papa_ingredients_align(a->ingredients, k, a->groups, perms); /* which outlive `one` */
    free(one);
    return status;
}

static PapaStatus prove_result(PapaAlignment *a, int k)
{
    const int64_t *const *perms = papa_alignment_perms(a, k);
    PapaProof *proof = NULL;
    int n_moved = 0;
    for (int g = 0; g < a->groups->n_groups; g++)
        n_moved += is_moved(a, perms, g);
    if (!n_moved)
        return PAPA_OK; /* it is what it was */
    PAPA_TRY(open_proof(&proof, a, k));
    PapaStatus status = find_difference(&a->results[k], a, proof, k);
    if (status == PAPA_OK && !(a->results[k] <= PAPA_PROOF_TOLERANCE))
        status = blame(a, proof, k);
    papa_proof_close(proof);
    return status;
}

PapaStatus papa_alignment_prove_results(PapaAlignment *a)
{
    const double began = papa_now();
    for (int k = 1; k < a->n; k++) {
        PAPA_TRY(papa_alignment_check_stop(a->hooks, "every result was proved"));
        PAPA_TRY(prove_result(a, k));
    }
    a->seconds_proof += papa_now() - began;
    return PAPA_OK;
}

/* ---------------------------------------------------------------- matching */

PapaMatchTensors papa_alignment_numbers(const PapaAlignment *a, int k)
{
    return a->numbers + (int64_t)k * a->groups->n_tensors;
}

const int64_t *const *papa_alignment_perms(const PapaAlignment *a, int k)
{
    return (const int64_t *const *)a->matches[k].perms;
}

const int64_t *const *papa_alignment_identity(PapaAlignment *a)
{
    return PAPA_NEW_ARRAY(&a->arena, const int64_t *, a->groups->n_groups);
}

static PapaStatus check_finite(const PapaAlignment *a, int k, const PapaGroupTensor *tensor, const float *values)
{
    for (int64_t i = 0; i < tensor->count; i++)
        if (!isfinite(values[i]))
            return papa_fail(PAPA_ERR_NUMERIC, "%s: tensor '%s' holds %g (element %lld), which can't be matched",
                papa_onnx_path(papa_ingredients_model(a->ingredients, k)->onnx), tensor->name, (double)values[i], (long long)i);
    return PAPA_OK;
}

PapaStatus papa_alignment_read(PapaAlignment *a)
{
    const PapaGroups *groups = a->groups;
    a->numbers = PAPA_NEW_ARRAY(&a->arena, const float *, (int64_t)a->n * groups->n_tensors);
    bool *used = PAPA_NEW_ARRAY(&a->arena, bool, groups->n_tensors);
    if (!a->numbers || !used)
        return PAPA_ERR_MEMORY;
    for (int g = 0; g < groups->n_groups; g++)
        for (int i = 0; i < groups->groups[g].n_slots; i++)
            used[groups->groups[g].slots[i].tensor] = true;
    for (int k = 0; k < a->n; k++)
        for (int t = 0; t < groups->n_tensors; t++) {
            const int64_t n = groups->tensors[t].count;
            if (!used[t])
                continue;
            float *values = malloc(((size_t)n + 1) * sizeof *values);
            if (!values)
                return papa_fail_memory((size_t)n * sizeof *values, "a model's numbers");
            a->numbers[(int64_t)k * groups->n_tensors + t] = values;
            PAPA_TRY(papa_ingredients_read(a->ingredients, k, groups->tensors[t].tensor, values, n));
            PAPA_TRY(check_finite(a, k, &groups->tensors[t], values));
        }
    return PAPA_OK;
}

static PapaStatus match_activations(PapaAlignment *a, PapaJudge *judge, const PapaMatchOptions *options)
{
    float *stores[2];
    double **similarity = PAPA_NEW_ARRAY(&a->arena, double *, a->groups->n_groups);
    if (!similarity)
        return PAPA_ERR_MEMORY;
    for (int i = 0; i < 2; i++)
        PAPA_TRY(papa_judge_store(judge, &stores[i]));
    PAPA_TRY(papa_judge_load(judge, 0, stores[0]));
    PapaStatus status = PAPA_OK;
    for (int k = 1; k < a->n && status == PAPA_OK; k++) {
        status = papa_judge_load(judge, k, stores[1]);
        if (status == PAPA_OK)
            status = papa_alignment_correlate(similarity, a, judge, stores, k);
        if (status == PAPA_OK)
            status = papa_match_similarities(&a->matches[k], a->groups, (const double *const *)similarity, options);
        for (int g = 0; g < a->groups->n_groups; g++) {
            free(similarity[g]);
            similarity[g] = NULL;
        }
    }
    return status;
}

static PapaStatus match_numbers(PapaAlignment *a, const PapaMatchOptions *options)
{
    if (a->options->to == PAPA_ALIGN_TO_FIRST) {
        for (int k = 1; k < a->n; k++)
            PAPA_TRY(papa_match_weights(&a->matches[k], a->groups, papa_alignment_numbers(a, 0), papa_alignment_numbers(a, k), options));
        return PAPA_OK;
    }
    PapaMatchTensors *models = PAPA_NEW_ARRAY(&a->arena, PapaMatchTensors, a->n);
    if (!models)
        return PAPA_ERR_MEMORY;
    for (int k = 0; k < a->n; k++)
        models[k] = papa_alignment_numbers(a, k);
    return a->options->to == PAPA_ALIGN_TO_MEAN ? papa_match_mean(a->matches, a->groups, models, a->n, options)
                                                : papa_match_cycle(a->matches, a->groups, models, a->n, options);
}

static PapaStatus compare(PapaAlignment *a)
{
    const int64_t *const *identity = papa_alignment_identity(a);
    if (!identity)
        return PAPA_ERR_MEMORY;
    for (int k = 1; k < a->n; k++) {
        const int64_t at = (int64_t)k * a->groups->n_groups;
        PAPA_TRY(papa_match_cosines(a->before + at, a->groups, papa_alignment_numbers(a, 0), papa_alignment_numbers(a, k), identity));
        PAPA_TRY(papa_match_cosines(a->after + at, a->groups, papa_alignment_numbers(a, 0), papa_alignment_numbers(a, k), papa_alignment_perms(a, k)));
    }
    return PAPA_OK;
}

static void forget_numbers(PapaAlignment *a)
{
    for (int64_t i = 0; i < (int64_t)a->n * a->groups->n_tensors; i++) {
        free((void *)a->numbers[i]);
        a->numbers[i] = NULL;
    }
}

PapaStatus papa_alignment_match(PapaAlignment *a, PapaJudge *judge)
{
    const double began = papa_now();
    PapaDevice *dev = NULL;
    PapaStatus status = PAPA_OK;
    if (a->n < 2)
        return PAPA_OK;
    PAPA_GOTO(papa_alignment_read(a));
    PAPA_GOTO(papa_device_open_cpu(&dev, a->threads));
    PAPA_GOTO(papa_device_enter(dev));
    PapaMatchOptions options = {.restarts = a->options->restarts, .max_sweeps = a->options->max_sweeps, .seed = a->options->seed, .dev = dev,
        .hooks = a->hooks};
    PAPA_GOTO(a->options->method == PAPA_ALIGN_ACTIVATIONS ? match_activations(a, judge, &options) : match_numbers(a, &options));
    PAPA_GOTO(compare(a));
    forget_numbers(a);
    a->seconds_matching = papa_now() - began;
out:
    papa_device_close(dev);
    return status;
}

/* ---------------------------------------------------------------- the whole */

PapaStatus papa_alignment_apply(PapaAlignment *a)
{
    for (int k = 1; k < a->n; k++)
        PAPA_TRY(papa_ingredients_align(a->ingredients, k, a->groups, papa_alignment_perms(a, k)));
    return PAPA_OK;
}

PapaStatus papa_align_ingredients(PapaAlignment **out, PapaIngredients *ingredients, const PapaAlignOptions *options, const PapaJudgeOptions *judge_options,
    const PapaHooks *hooks)
{
    PapaAlignment *a = NULL;
    PapaJudge *judge = NULL;
    PapaStatus status;
    *out = NULL;
    PAPA_GOTO(papa_alignment_begin(&a, ingredients, options, judge_options, hooks));
    PAPA_GOTO(papa_alignment_prove_groups(a));
    if (options->method == PAPA_ALIGN_ACTIVATIONS)
        PAPA_GOTO(papa_judge_open(&judge, ingredients, judge_options, &(PapaJudgeNeeds){.statistics = true, .mode = PAPA_REPAIR_NONE}, hooks));
    PAPA_GOTO(papa_alignment_match(a, judge));
    PAPA_GOTO(papa_alignment_apply(a));
    PAPA_GOTO(papa_alignment_prove_results(a));
    a->options = NULL;
    *out = a;
    a = NULL;
out:
    papa_judge_close(judge);
    papa_alignment_free(a);
    return status;
}
