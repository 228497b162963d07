/* papa_align: from files to files, and what it tells. */
#include "jobs/alignment.h"
#include "jobs/midpoint.h"
#include "train/train_options.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One call. */
typedef struct Job {
    PapaArena arena; /* becomes the report's */
    PapaArena scratch;
    const PapaAlignOptions *options;
    const PapaHooks *hooks;
    PapaIngredients *ingredients;
    PapaAlignment *alignment;
    PapaJudge *judge;      /* NULL: no data */
    PapaMidpoints midpoints;
    PapaTensorPlace *places; /* of the first model */
    bool *counted;         /* by place: a parameter */
    int64_t n_places;
    PapaAlignReport report;
} Job;

static const PapaScore unknown = {.accuracy = NAN, .top5 = NAN, .loss = NAN};

/* ---------------------------------------------------------------- distances */

static PapaStatus choose_parameters(Job *job)
{
    const PapaGroups *groups = job->alignment->groups;
    const PapaOnnx *onnx = papa_ingredients_model(job->ingredients, 0)->onnx;
    size_t n;
    PAPA_TRY(papa_onnx_tensors(&job->places, &n, &job->scratch, onnx));
    job->n_places = (int64_t)n;
    job->counted = PAPA_NEW_ARRAY(&job->scratch, bool, n);
    if (!job->counted)
        return PAPA_ERR_MEMORY;
    for (int64_t i = 0; i < job->n_places; i++)
        job->counted[i] = papa_type_is_float(job->places[i].tensor->data_type);
    for (int t = 0; t < groups->n_tensors; t++)
        if (groups->tensors[t].role == PAPA_ROLE_MEAN || groups->tensors[t].role == PAPA_ROLE_VARIANCE)
            job->counted[papa_tensor_index(onnx, groups->tensors[t].tensor)] = false;
    return PAPA_OK;
}

static PapaStatus add_squares(double *sum, const Job *job, int k, const Onnx__TensorProto *tensor)
{
    const int64_t n = papa_tensor_count(tensor);
    float *a = malloc(2 * ((size_t)n + 1) * sizeof *a), *b = a + n;
    PapaStatus status = a ? PAPA_OK : papa_fail_memory(2 * (size_t)n * sizeof *a, "comparing two models");
    if (status == PAPA_OK)
        status = papa_ingredients_read(job->ingredients, 0, tensor, a, n);
    if (status == PAPA_OK)
        status = papa_ingredients_read(job->ingredients, k, tensor, b, n);
    for (int64_t i = 0; i < n && status == PAPA_OK; i++)
        *sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    free(a);
    return status;
}

/* Of model k as it is now read. Tensors that it has no counterpart of are equal in both. */
static PapaStatus find_distance(double *out, const Job *job, int k)
{
    const PapaMergeTensor *theirs = papa_ingredients_merge_models(job->ingredients)[k].tensors;
    double sum = 0;
    for (int64_t i = 0; i < job->n_places; i++)
        if (job->counted[i] && (theirs[i].tensor || theirs[i].read))
            PAPA_TRY(add_squares(&sum, job, k, job->places[i].tensor));
    *out = sqrt(sum);
    return PAPA_OK;
}

/* ---------------------------------------------------------------- scores */

static PapaStatus open_judge(Job *job)
{
    PapaJudgeNeeds needs = {.statistics = true, .mode = PAPA_REPAIR_NONE};
    if (!job->options->judge.data)
        return PAPA_OK;
    PAPA_TRY(papa_judge_open(&job->judge, job->ingredients, &job->options->judge, &needs, job->hooks));
    if (!papa_judge_has(job->judge, PAPA_JUDGE_TEST) && !papa_judge_has(job->judge, PAPA_JUDGE_HELD_OUT))
        papa_remark(job->hooks, "%s has no test images, and none are held out: nothing is scored", job->options->judge.data);
    return papa_midpoints_open(&job->midpoints, job->judge);
}

/* What is known of the models as they are now read. */
static PapaStatus look(Job *job, bool aligned)
{
    for (int k = 0; k < job->report.n_models; k++) {
        PapaAlignModel *model = &job->report.models[k];
        if (k)
            PAPA_TRY(find_distance(aligned ? &model->distance_after : &model->distance_before, job, k));
        if (!job->judge)
            continue;
        if (k)
            PAPA_TRY(papa_midpoints_middle(&job->midpoints, aligned ? &model->midpoint_after : &model->midpoint_before, k));
        if (!aligned)
            PAPA_TRY(papa_midpoints_end(&job->midpoints, &model->score, k));
    }
    return PAPA_OK;
}

/* ---------------------------------------------------------------- the report */

static PapaStatus begin_report(Job *job)
{
    PapaAlignReport *r = &job->report;
    r->n_models = papa_ingredients_count(job->ingredients);
    r->models = PAPA_NEW_ARRAY(&job->arena, PapaAlignModel, r->n_models);
    if (!r->models)
        return PAPA_ERR_MEMORY;
    for (int k = 0; k < r->n_models; k++) {
        PapaAlignModel *model = &r->models[k];
        *model = (PapaAlignModel){.score = unknown, .midpoint_before = unknown, .midpoint_after = unknown,
            .path = papa_arena_strdup(&job->arena, papa_onnx_path(papa_ingredients_model(job->ingredients, k)->onnx))};
        if (!model->path)
            return PAPA_ERR_MEMORY;
    }
    return PAPA_OK;
}

static int count_tensors(const PapaGroup *group, bool *seen, int n_tensors)
{
    int n = 0;
    memset(seen, 0, (size_t)n_tensors * sizeof *seen);
    for (int i = 0; i < group->n_slots; i++) {
        n += !seen[group->slots[i].tensor];
        seen[group->slots[i].tensor] = true;
    }
    return n;
}

static PapaStatus report_groups(Job *job)
{
    const PapaAlignment *a = job->alignment;
    const PapaGroups *groups = a->groups;
    PapaAlignReport *r = &job->report;
    r->n_groups = groups->n_groups;
    r->n_pinned = groups->n_pinned;
    r->groups = PAPA_NEW_ARRAY(&job->arena, PapaAlignGroup, groups->n_groups);
    r->pinned = PAPA_NEW_ARRAY(&job->arena, PapaAlignPinned, groups->n_pinned);
    bool *seen = PAPA_NEW_ARRAY(&job->scratch, bool, groups->n_tensors);
    if (!r->groups || !r->pinned || !seen)
        return PAPA_ERR_MEMORY;
    for (int g = 0; g < groups->n_groups; g++) {
        const PapaGroup *group = &groups->groups[g];
        r->groups[g] = (PapaAlignGroup){.name = papa_arena_strdup(&job->arena, group->name), .n = group->n, .blocks = group->blocks,
            .n_tensors = count_tensors(group, seen, groups->n_tensors), .proof = a->proofs[g]};
        if (!r->groups[g].name)
            return PAPA_ERR_MEMORY;
        if (isnan(a->proofs[g]))
            papa_remark(job->hooks, "group '%s': the outputs don't depend on its %lld units, which proves nothing", group->name, (long long)group->n);
    }
    for (int i = 0; i < groups->n_pinned; i++) {
        const PapaPinned *pinned = &groups->pinned[i];
        r->pinned[i] = (PapaAlignPinned){papa_arena_strdup(&job->arena, groups->tensors[pinned->tensor].name), papa_arena_strdup(&job->arena, pinned->why),
            pinned->axis, pinned->n};
        if (!r->pinned[i].tensor || !r->pinned[i].why)
            return PAPA_ERR_MEMORY;
    }
    return PAPA_OK;
}

static double moved_fraction(const int64_t *perm, int64_t n)
{
    int64_t moved = 0;
    for (int64_t i = 0; perm && i < n; i++)
        moved += perm[i] != i;
    return n ? (double)moved / (double)n : 0;
}

static PapaStatus report_moves(Job *job)
{
    const PapaAlignment *a = job->alignment;
    for (int k = 1; k < job->report.n_models; k++) {
        PapaAlignModel *model = &job->report.models[k];
        model->moves = PAPA_NEW_ARRAY(&job->arena, PapaAlignMove, a->groups->n_groups);
        if (!model->moves)
            return PAPA_ERR_MEMORY;
        for (int g = 0; g < a->groups->n_groups; g++) {
            const int64_t at = (int64_t)k * a->groups->n_groups + g;
            model->moves[g] = (PapaAlignMove){moved_fraction(a->matches[k].perms[g], a->groups->groups[g].n), a->before[at], a->after[at]};
        }
        model->objective = a->matches[k].objective;
        model->sweeps = a->matches[k].sweeps;
        model->restart = a->matches[k].restart;
        model->proof = a->results[k];
    }
    job->report.seconds_proof = a->seconds_proof;
    job->report.seconds_matching = a->seconds_matching;
    return PAPA_OK;
}

static PapaStatus write_files(Job *job)
{
    const char **paths;
    if (!job->options->out)
        return PAPA_OK;
    PAPA_TRY(papa_alignment_write(&paths, &job->arena, job->alignment, job->options->out));
    for (int k = 0; k < job->report.n_models; k++)
        job->report.models[k].out = paths[k];
    return PAPA_OK;
}

/* ---------------------------------------------------------------- the whole */

static PapaStatus align(Job *job)
{
    PapaAlignment *a;
    PAPA_TRY(begin_report(job));
    PAPA_TRY(papa_alignment_begin(&job->alignment, job->ingredients, job->options, &job->options->judge, job->hooks));
    a = job->alignment;
    PAPA_TRY(open_judge(job)); /* options that are at fault come before the work */
    PAPA_TRY(papa_alignment_prove_groups(a));
    PAPA_TRY(report_groups(job));
    PAPA_TRY(choose_parameters(job));
    PAPA_TRY(look(job, false));
    if (job->report.n_models == 1)
        return report_moves(job);
    PAPA_TRY(papa_alignment_match(a, job->judge));
    PAPA_TRY(papa_alignment_apply(a));
    PAPA_TRY(papa_alignment_prove_results(a));
    PAPA_TRY(report_moves(job));
    PAPA_TRY(look(job, true));
    return write_files(job);
}

PapaStatus papa_align(PapaAlignReport *out, const PapaModel *const *models, int n, const PapaAlignOptions *options, const PapaHooks *hooks)
{
    Job job = {.options = options, .hooks = hooks};
    PapaArena *owned = calloc(1, sizeof *owned);
    PapaStatus status;
    *out = (PapaAlignReport){0};
    if (!owned)
        return papa_fail_memory(sizeof *owned, "a report");
    PAPA_GOTO(papa_alignment_check_options(options, &options->judge));
    if (n < 2 && options->out)
        PAPA_GOTO(papa_fail(PAPA_ERR_ARGUMENT, "%d model%s: nothing to align %s with", n, n == 1 ? "" : "s", n == 1 ? "it" : "them"));
    PAPA_GOTO(papa_ingredients_open(&job.ingredients, models, n, NULL));
    if (options->out)
        PAPA_GOTO(papa_alignment_check_folder(job.ingredients, options->out));
    status = align(&job);
out:
    papa_judge_close(job.judge);
    papa_alignment_free(job.alignment);
    papa_ingredients_close(job.ingredients);
    papa_arena_free(&job.scratch);
    if (status == PAPA_OK) {
        *owned = job.arena;
        *out = job.report;
        out->owned = owned;
        return status;
    }
    papa_arena_free(&job.arena);
    free(owned);
    return status;
}

void papa_align_report_free(PapaAlignReport *report)
{
    if (!report)
        return;
    if (report->owned)
        papa_arena_free(report->owned);
    free(report->owned);
    *report = (PapaAlignReport){0};
}
