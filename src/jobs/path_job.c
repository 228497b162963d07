/* papa_path: what lies on the straight line between two networks. */
#include "base/file.h"
#include "jobs/align_job.h"
#include "jobs/judge.h"
#include "jobs/path_svg.h"
#include "soup/soup.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_POINTS 10001

void papa_path_defaults(PapaPathOptions *out)
{
    *out = (PapaPathOptions){.points = 11, .recalibrate = true};
    papa_align_defaults(&out->align_options);
    papa_judge_defaults(&out->judge);
}

typedef struct Path {
    const PapaPathOptions *options;
    const PapaHooks *hooks;
    PapaIngredients *ingredients;
    PapaAlignment *alignment;
    PapaJudge *judge;
    PapaJudgeImages images;
    float *ends[2], *inner; /* stores */
} Path;

static PapaStatus check_options(const PapaPathOptions *o)
{
    if (!o->judge.data)
        return papa_fail(PAPA_ERR_ARGUMENT, "a path is scored on images: name a data set (data)");
    if (o->points < 2 || o->points > MOST_POINTS)
        return papa_fail(PAPA_ERR_ARGUMENT, "points is %d, expected at least 2, the ends, and at most %d", o->points, MOST_POINTS);
    return PAPA_OK;
}

static PapaStatus open_path(Path *p, const PapaModel *a, const PapaModel *b)
{
    const PapaModel *models[] = {a, b};
    PapaJudgeNeeds needs = {.statistics = p->options->recalibrate, .mode = PAPA_REPAIR_NONE};
    PAPA_TRY(check_options(p->options));
    PAPA_TRY(papa_ingredients_open(&p->ingredients, models, 2, NULL));
    if (p->options->svg) {
        PAPA_TRY(papa_ingredients_check_output(p->ingredients, p->options->svg));
        PAPA_TRY(papa_writer_try(p->options->svg));
    }
    PAPA_TRY(papa_judge_open(&p->judge, p->ingredients, &p->options->judge, &needs, p->hooks));
    p->images = papa_judge_has(p->judge, PAPA_JUDGE_TEST) ? PAPA_JUDGE_TEST : PAPA_JUDGE_HELD_OUT;
    if (!papa_judge_has(p->judge, p->images))
        return papa_fail(PAPA_ERR_ARGUMENT, "%s has no test images, and none are held out, to score a path on: name some (test_data)", p->options->judge.data);
    for (int end = 0; end < 2; end++) {
        PAPA_TRY(papa_judge_store(p->judge, &p->ends[end]));
        PAPA_TRY(papa_judge_load(p->judge, end, p->ends[end]));
    }
    return papa_judge_store(p->judge, &p->inner);
}

/* The network at t. */
static PapaStatus score_at(Path *p, PapaScore *score, double t)
{
    const double weights[] = {1 - t, t};
    float *store = t == 0 ? p->ends[0] : t == 1 ? p->ends[1] : p->inner;
    if (store == p->inner) {
        PAPA_TRY(papa_soup_mean(papa_judge_device(p->judge), store, (const float *const *)p->ends, weights, 2, &papa_judge_model(p->judge)->store));
        if (p->options->recalibrate)
            PAPA_TRY(papa_judge_recalibrate(p->judge, store));
    }
    return papa_judge_score(p->judge, score, &store, 1, p->images);
}

/* All points with the ends as they are now, and the barrier. */
static PapaStatus walk(Path *p, PapaPathReport *report, bool aligned)
{
    PapaScore middle = {.loss = NAN};
    int n = report->n_points;
    bool recalibrates = p->options->recalibrate && papa_judge_has_statistics(p->judge), has_middle = n % 2 == 1;
    int n_scores = n + !has_middle - aligned, n_inner = n - 2 + !has_middle;
    papa_judge_begin(p->judge, PAPA_PHASE_EVALUATE,
        n_scores * papa_judge_batches(p->judge, p->images) + (recalibrates ? n_inner * papa_judge_measured_batches(p->judge) : 0));
    for (int i = 0; i < n; i++) {
        PapaPathPoint *point = &report->points[i];
        PapaScore *score = aligned ? &point->aligned : &point->plain;
        if (aligned && i == 0)
            *score = point->plain; /* the first model stays */
        else
            PAPA_TRY(score_at(p, score, point->t));
        if (2 * i == n - 1)
            middle = *score;
    }
    if (!has_middle)
        PAPA_TRY(score_at(p, &middle, .5));
    papa_judge_end(p->judge);
    const PapaPathPoint *first = &report->points[0], *last = &report->points[n - 1];
    double barrier = middle.loss - ((aligned ? first->aligned : first->plain).loss + (aligned ? last->aligned : last->plain).loss) / 2;
    *(aligned ? &report->barrier_aligned : &report->barrier) = barrier;
    return PAPA_OK;
}

static PapaStatus open_points(PapaPathReport *report, int n)
{
    const PapaScore unknown = {.accuracy = NAN, .top5 = NAN, .loss = NAN};
    *report = (PapaPathReport){.n_points = n, .points = malloc((size_t)n * sizeof *report->points), .barrier = NAN, .barrier_aligned = NAN};
    if (!report->points)
        return papa_fail_memory((size_t)n * sizeof *report->points, "the points of a path");
    for (int i = 0; i < n; i++)
        report->points[i] = (PapaPathPoint){.t = (double)i / (n - 1), .plain = unknown, .aligned = unknown};
    return PAPA_OK;
}

static PapaStatus walk_aligned(Path *p, PapaPathReport *report)
{
    PAPA_TRY(papa_align_ingredients(&p->alignment, p->ingredients, &p->options->align_options, &p->options->judge, p->hooks));
    PAPA_TRY(papa_judge_load(p->judge, 1, p->ends[1]));
    return walk(p, report, true);
}

static const char *file_name(const PapaModel *model)
{
    const char *path = papa_onnx_path(model->onnx), *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static PapaStatus draw(const Path *p, const PapaPathReport *report)
{
    char images[600];
    const PapaJudgeOptions *o = &p->options->judge;
    bool test = p->images == PAPA_JUDGE_TEST;
    const char *name = test && o->test_data ? o->test_data : !test && o->val_data ? o->val_data : o->data;
    snprintf(images, sizeof images, "%lld %s images of %s", (long long)report->points[0].plain.n, test ? "test" : "held-out", name);
    PapaPathPicture picture = {.report = report, .first = file_name(papa_ingredients_model(p->ingredients, 0)),
        .second = file_name(papa_ingredients_model(p->ingredients, 1)), .images = images, .aligned = p->options->align,
        .recalibrated = p->options->recalibrate && papa_judge_has_statistics(p->judge)};
    return papa_path_svg_write(&picture, p->options->svg);
}

PapaStatus papa_path(PapaPathReport *out, const PapaModel *a, const PapaModel *b, const PapaPathOptions *options, const PapaHooks *hooks)
{
    Path p = {.options = options, .hooks = hooks};
    *out = (PapaPathReport){0};
    PapaStatus status;
    PAPA_GOTO(open_path(&p, a, b));
    PAPA_GOTO(open_points(out, options->points));
    PAPA_GOTO(walk(&p, out, false));
    if (options->align)
        PAPA_GOTO(walk_aligned(&p, out));
    if (options->svg)
        status = draw(&p, out);
out:
    papa_judge_close(p.judge);
    papa_ingredients_close(p.ingredients);
    papa_alignment_free(p.alignment);
    if (status != PAPA_OK)
        papa_path_report_free(out);
    return status;
}

void papa_path_report_free(PapaPathReport *report)
{
    if (!report)
        return;
    free(report->points);
    *report = (PapaPathReport){0};
}
