/* papa_diagnose: how alike models are, as they are and after matching, and what that makes of a merge. */
#include "base/rng.h"
#include "jobs/alignment.h"
#include "jobs/diagnose.h"
#include "jobs/midpoint.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* One call. */
typedef struct Job {
    PapaArena arena;   /* becomes the diagnosis' */
    PapaArena scratch;
    const PapaHooks *hooks;
    PapaIngredients *ingredients; /* those models that pair with the first one */
    int *of;           /* by ingredient: which model that is */
    PapaAlignment *alignment;
    PapaJudge *judge;  /* NULL: no data */
    PapaMidpoints midpoints;
    PapaTensorPlace *weights; /* of the first model */
    PapaDiagnosis result;
} Job;

/* ---------------------------------------------------------------- which models are the same network */

static PapaStatus check_twice(const PapaModel *const *models, int n)
{
    for (int k = 1; k < n; k++)
        for (int j = 0; j < k; j++) {
            const char *a = papa_onnx_path(models[j]->onnx), *b = papa_onnx_path(models[k]->onnx);
            struct stat s, t;
            if (!stat(a, &s) && !stat(b, &t) && s.st_dev == t.st_dev && s.st_ino == t.st_ino)
                return papa_fail(PAPA_ERR_MISMATCH, "%s and %s are one file, given twice", a, b);
        }
    return PAPA_OK;
}

/* A model that does not pair has a difference; other failures are failures. */
static PapaStatus try_pair(Job *job, const PapaModel *first, const PapaModel *model, PapaDiagnosisModel *out)
{
    const PapaModel *two[] = {first, model};
    PapaIngredients *ingredients;
    PapaStatus status = papa_ingredients_open(&ingredients, two, 2, NULL);
    if (status == PAPA_OK)
        papa_ingredients_close(ingredients);
    if (status != PAPA_ERR_MISMATCH && status != PAPA_ERR_UNSUPPORTED)
        return status;
    out->difference = papa_arena_strdup(&job->arena, papa_error());
    return out->difference ? PAPA_OK : PAPA_ERR_MEMORY;
}

static PapaStatus choose_models(Job *job, const PapaModel *const *models, int n)
{
    const PapaModel **same = PAPA_NEW_ARRAY(&job->scratch, const PapaModel *, n);
    int n_same = 0;
    job->of = PAPA_NEW_ARRAY(&job->scratch, int, n);
    job->result = (PapaDiagnosis){.n_models = n, .models = PAPA_NEW_ARRAY(&job->arena, PapaDiagnosisModel, n)};
    if (!same || !job->of || !job->result.models)
        return PAPA_ERR_MEMORY;
    for (int k = 0; k < n; k++) {
        PapaDiagnosisModel *model = &job->result.models[k];
        *model = (PapaDiagnosisModel){.cosine = NAN, .cosine_aligned = NAN, .moved = NAN, .barrier = NAN, .barrier_aligned = NAN,
            .path = papa_arena_strdup(&job->arena, papa_onnx_path(models[k]->onnx))};
        if (!model->path)
            return PAPA_ERR_MEMORY;
        if (k)
            PAPA_TRY(try_pair(job, models[0], models[k], model));
        if (!model->difference) {
            job->of[n_same] = k;
            same[n_same++] = models[k];
        }
    }
    return papa_ingredients_open(&job->ingredients, same, n_same, NULL);
}

static PapaDiagnosisModel *model_of(const Job *job, int ingredient)
{
    return &job->result.models[job->of[ingredient]];
}

/* ---------------------------------------------------------------- weights */

static int count_long_axes(const Onnx__TensorProto *tensor)
{
    int n = 0;
    for (size_t i = 0; i < tensor->n_dims; i++)
        n += tensor->dims[i] > 1;
    return n;
}

/* Where nodes are not understood their tensors have no role: matrices and filters are taken for weights. */
static PapaStatus choose_weights(Job *job)
{
    const PapaGroups *groups = job->alignment->groups;
    const PapaOnnx *onnx = papa_ingredients_model(job->ingredients, 0)->onnx;
    size_t n;
    PAPA_TRY(papa_onnx_tensors(&job->weights, &n, &job->scratch, onnx));
    PapaRole *roles = PAPA_NEW_ARRAY(&job->scratch, PapaRole, n);
    if (!roles)
        return PAPA_ERR_MEMORY;
    for (int t = 0; t < groups->n_tensors; t++)
        roles[papa_tensor_index(onnx, groups->tensors[t].tensor)] = groups->tensors[t].role;
    for (size_t i = 0; i < n; i++) {
        const Onnx__TensorProto *tensor = job->weights[i].tensor;
        const bool is_weight = roles[i] == PAPA_ROLE_WEIGHT || (roles[i] == PAPA_ROLE_NONE && count_long_axes(tensor) > 1);
        if (is_weight && papa_type_is_float(tensor->data_type) && !job->weights[i].sparse)
            job->weights[job->result.n_tensors++] = job->weights[i];
    }
    return PAPA_OK;
}

/* Sums over pairs of elements. */
typedef struct Sums {
    double n, a, b, aa, bb, ab;
} Sums;

static double cosine_of(const Sums *s)
{
    return s->aa > 0 && s->bb > 0 ? s->ab / sqrt(s->aa * s->bb) : s->aa == s->bb ? 1 : 0;
}

/* Of the mean (a + b) / 2 over the mean of the two; 1 where neither varies. */
static double variance_ratio(const Sums *s)
{
    const double var_a = s->aa - s->a * s->a / s->n, var_b = s->bb - s->b * s->b / s->n, cov = s->ab - s->a * s->b / s->n;
    return var_a + var_b > 0 ? (var_a + var_b + 2 * cov) / (2 * (var_a + var_b)) : 1;
}

static PapaStatus sum_tensor(Sums *out, const Job *job, int k, const Onnx__TensorProto *tensor)
{
    const int64_t n = papa_tensor_count(tensor);
    float *a = malloc(2 * ((size_t)n + 1) * sizeof *a), *b = a + n;
    PapaStatus status = a ? PAPA_OK : papa_fail_memory(2 * (size_t)n * sizeof *a, "comparing two models");
    if (status == PAPA_OK)
        status = papa_ingredients_read(job->ingredients, 0, tensor, a, n);
    if (status == PAPA_OK)
        status = papa_ingredients_read(job->ingredients, k, tensor, b, n);
    *out = (Sums){.n = (double)n};
    for (int64_t i = 0; i < n && status == PAPA_OK; i++) {
        const double x = a[i], y = b[i];
        out->a += x;
        out->b += y;
        out->aa += x * x;
        out->bb += y * y;
        out->ab += x * y;
    }
    free(a);
    return status;
}

/* Of ingredient k as it is now read. */
static PapaStatus compare_weights(Job *job, int k, bool aligned)
{
    PapaDiagnosisModel *model = model_of(job, k);
    Sums all = {0};
    if (!model->tensors)
        model->tensors = PAPA_NEW_ARRAY(&job->arena, PapaDiagnosisTensor, job->result.n_tensors);
    if (!model->tensors)
        return PAPA_ERR_MEMORY;
    for (int t = 0; t < job->result.n_tensors; t++) {
        const Onnx__TensorProto *tensor = job->weights[t].tensor;
        PapaDiagnosisTensor *out = &model->tensors[t];
        Sums sums;
        PAPA_TRY(sum_tensor(&sums, job, k, tensor));
        if (aligned)
            out->cosine_aligned = cosine_of(&sums);
        else
            *out = (PapaDiagnosisTensor){papa_arena_strdup(&job->arena, tensor->name && *tensor->name ? tensor->name : job->weights[t].path),
                papa_tensor_count(tensor), cosine_of(&sums), NAN, variance_ratio(&sums)};
        if (!out->name)
            return PAPA_ERR_MEMORY;
        all.aa += sums.aa;
        all.bb += sums.bb;
        all.ab += sums.ab;
    }
    *(aligned ? &model->cosine_aligned : &model->cosine) = cosine_of(&all);
    return PAPA_OK;
}

/* ---------------------------------------------------------------- what permutations say */

static double moved_fraction(const PapaAlignment *a, int k)
{
    int64_t moved = 0;
    for (int g = 0; g < a->groups->n_groups; g++)
        for (int64_t i = 0; !a->groups->groups[g].blocks && i < a->groups->groups[g].n; i++)
            moved += a->matches[k].perms[g][i] != i;
    return a->groups->n_units ? (double)moved / (double)a->groups->n_units : 0;
}

static void draw_perms(int64_t *const *perms, uint32_t *order, const PapaGroups *groups, uint64_t seed, int k, int draw)
{
    for (int g = 0; g < groups->n_groups; g++) {
        const int64_t n = groups->groups[g].n;
        PapaRng rng = papa_rng(seed, PAPA_RNG_DIAGNOSE, k, (uint32_t)draw, (uint32_t)g);
        for (int64_t i = 0; i < n; i++)
            order[i] = (uint32_t)i;
        papa_rng_shuffle(&rng, order, (uint32_t)n);
        for (int64_t i = 0; i < n; i++)
            perms[g][i] = order[i];
    }
}

/* How many standard deviations the similarity as it is lies above that of random permutations of all groups. Units of networks that were trained
 * independently have no common order, so that the one they happen to be in is as good as any: this is a draw like the others then. NaN: nothing can be permuted. */
static PapaStatus find_excess(double *out, Job *job, int k, uint64_t seed)
{
    PapaAlignment *a = job->alignment;
    const PapaGroups *groups = a->groups;
    int64_t most = 0, **perms = PAPA_NEW_ARRAY(&job->scratch, int64_t *, groups->n_groups);
    double at, sum = 0, square = 0;
    *out = NAN;
    for (int g = 0; g < groups->n_groups && perms; g++) {
        most = groups->groups[g].n > most ? groups->groups[g].n : most;
        perms[g] = PAPA_NEW_ARRAY(&job->scratch, int64_t, groups->groups[g].n);
        if (!perms[g])
            return PAPA_ERR_MEMORY;
    }
    uint32_t *order = PAPA_NEW_ARRAY(&job->scratch, uint32_t, most);
    const int64_t *const *identity = papa_alignment_identity(a);
    if (!perms || !order || !identity)
        return PAPA_ERR_MEMORY;
    PAPA_TRY(papa_match_objective(&at, groups, papa_alignment_numbers(a, 0), papa_alignment_numbers(a, k), identity));
    for (int draw = 0; draw < PAPA_DIAGNOSE_DRAWS; draw++) {
        double one;
        PAPA_TRY(papa_alignment_check_stop(job->hooks, "the models were compared"));
        draw_perms(perms, order, groups, seed, k, draw);
        PAPA_TRY(papa_match_objective(&one, groups, papa_alignment_numbers(a, 0), papa_alignment_numbers(a, k), (const int64_t *const *)perms));
        sum += one - at;
        square += (one - at) * (one - at);
    }
    const double mean = sum / PAPA_DIAGNOSE_DRAWS, variance = (square - sum * mean) / (PAPA_DIAGNOSE_DRAWS - 1);
    if (variance > 0)
        *out = -mean / sqrt(variance);
    return PAPA_OK;
}

/* ---------------------------------------------------------------- barriers */

static PapaStatus open_judge(Job *job, const PapaJudgeOptions *options)
{
    PapaJudgeNeeds needs = {.statistics = true, .mode = PAPA_REPAIR_NONE};
    if (!options->data)
        return PAPA_OK;
    PAPA_TRY(papa_judge_open(&job->judge, job->ingredients, options, &needs, job->hooks));
    if (!papa_judge_has(job->judge, PAPA_JUDGE_TEST) && !papa_judge_has(job->judge, PAPA_JUDGE_HELD_OUT))
        return papa_fail(PAPA_ERR_ARGUMENT, "%s has no test images, and none are held out, to find barriers on", options->data);
    return papa_midpoints_open(&job->midpoints, job->judge);
}

/* ends: by ingredient, the mean loss of it and the first. */
static PapaStatus find_ends(Job *job, double *ends)
{
    PapaScore score;
    double first = NAN;
    for (int k = 0; k < papa_ingredients_count(job->ingredients) && job->judge; k++) {
        PAPA_TRY(papa_midpoints_end(&job->midpoints, &score, k));
        first = k ? first : score.loss;
        ends[k] = (first + score.loss) / 2;
    }
    return PAPA_OK;
}

static PapaStatus find_barrier(double *out, Job *job, int k, double ends)
{
    PapaScore score;
    if (!job->judge)
        return PAPA_OK;
    PAPA_TRY(papa_midpoints_middle(&job->midpoints, &score, k));
    *out = score.loss - ends;
    return PAPA_OK;
}

/* ---------------------------------------------------------------- the whole */

static PapaStatus diagnose(Job *job, const PapaAlignOptions *options, const PapaJudgeOptions *judge)
{
    const int n = papa_ingredients_count(job->ingredients);
    double *ends = PAPA_NEW_ARRAY(&job->scratch, double, n), *excess = PAPA_NEW_ARRAY(&job->scratch, double, n);
    if (!ends || !excess)
        return PAPA_ERR_MEMORY;
    PAPA_TRY(papa_alignment_begin(&job->alignment, job->ingredients, options, judge, job->hooks));
    PAPA_TRY(open_judge(job, judge));
    PAPA_TRY(choose_weights(job));
    PAPA_TRY(find_ends(job, ends));
    for (int k = 0; k < n; k++) {
        PAPA_TRY(compare_weights(job, k, false));
        PAPA_TRY(find_barrier(&model_of(job, k)->barrier, job, k, ends[k]));
    }
    PAPA_TRY(papa_alignment_match(job->alignment, NULL));
    PAPA_TRY(papa_alignment_read(job->alignment));
    for (int k = 1; k < n; k++) {
        PAPA_TRY(find_excess(&excess[k], job, k, options->seed));
        model_of(job, k)->moved = moved_fraction(job->alignment, k);
    }
    PAPA_TRY(papa_alignment_apply(job->alignment));
    for (int k = 0; k < n; k++) {
        PAPA_TRY(compare_weights(job, k, true));
        PAPA_TRY(find_barrier(&model_of(job, k)->barrier_aligned, job, k, ends[k]));
        PAPA_TRY(papa_diagnose_judge(model_of(job, k), &(PapaFindings){k == 0, excess[k], ends[k], job->alignment->groups->n_groups}, &job->arena));
    }
    papa_diagnose_all(&job->result);
    return PAPA_OK;
}

PapaStatus papa_diagnose(PapaDiagnosis *out, const PapaModel *const *models, int n, const PapaAlignOptions *align, const PapaJudgeOptions *judge,
    const PapaHooks *hooks)
{
    Job job = {.hooks = hooks};
    PapaAlignOptions options = *align;
    PapaArena *owned = calloc(1, sizeof *owned);
    PapaStatus status;
    *out = (PapaDiagnosis){0};
    if (!owned)
        return papa_fail_memory(sizeof *owned, "a diagnosis");
    options.method = PAPA_ALIGN_WEIGHTS;
    options.to = PAPA_ALIGN_TO_FIRST;
    if (n < 1)
        PAPA_GOTO(papa_fail(PAPA_ERR_ARGUMENT, "no models to diagnose"));
    PAPA_GOTO(check_twice(models, n));
    PAPA_GOTO(choose_models(&job, models, n));
    status = diagnose(&job, &options, judge);
out:
    papa_judge_close(job.judge);
    papa_alignment_free(job.alignment);
    papa_ingredients_close(job.ingredients);
    papa_arena_free(&job.scratch);
    if (status == PAPA_OK) {
        *owned = job.arena;
        *out = job.result;
        out->owned = owned;
        return status;
    }
    papa_arena_free(&job.arena);
    free(owned);
    return status;
}

void papa_diagnosis_free(PapaDiagnosis *diagnosis)
{
    if (!diagnosis)
        return;
    if (diagnosis->owned)
        papa_arena_free(diagnosis->owned);
    free(diagnosis->owned);
    *diagnosis = (PapaDiagnosis){0};
}
