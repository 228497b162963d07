/* The judge: its scores are papa_eval's, its statistics and repairs those of soup/repair.h, its gradients those of finite differences. */
#include "check.h"
#include "members.h"

#include "jobs/judge.h"
#include "soup/soup.h"

typedef struct Bench {
    PapaModel *models[N_MEMBERS];
    PapaIngredients *ingredients;
    PapaJudge *judge;
    float *stores[N_MEMBERS];
} Bench;

static PapaStatus open_bench(Bench *b, MemberKind kind, const PapaJudgeOptions *options, PapaJudgeNeeds needs, const PapaHooks *hooks)
{
    members_open(b->models, kind);
    PAPA_TRY(papa_ingredients_open(&b->ingredients, (const PapaModel *const *)b->models, N_MEMBERS, NULL));
    PAPA_TRY(papa_judge_open(&b->judge, b->ingredients, options, &needs, hooks));
    for (int k = 0; k < N_MEMBERS; k++) {
        PAPA_TRY(papa_judge_store(b->judge, &b->stores[k]));
        PAPA_TRY(papa_judge_load(b->judge, k, b->stores[k]));
    }
    return PAPA_OK;
}

static void close_bench(Bench *b)
{
    papa_judge_close(b->judge);
    papa_ingredients_close(b->ingredients);
    members_close(b->models);
}

static bool same_score(PapaScore a, PapaScore b)
{
    return a.n == b.n && a.accuracy == b.accuracy && fabs(a.loss - b.loss) < 1e-6 * (1 + b.loss);
}

/* ---------------------------------------------------------------- scores */

static void scores(MemberKind kind)
{
    Bench b = {0};
    PapaJudgeOptions options = members_judge();
    CHECK_OK(open_bench(&b, kind, &options, (PapaJudgeNeeds){.held_out = true}, NULL));
    PapaScore test[N_MEMBERS], held[N_MEMBERS];
    CHECK_OK(papa_judge_score(b.judge, test, b.stores, N_MEMBERS, PAPA_JUDGE_TEST));
    CHECK_OK(papa_judge_score(b.judge, held, b.stores, N_MEMBERS, PAPA_JUDGE_HELD_OUT));
    PapaData *data;
    PapaEvalOptions eval;
    papa_eval_defaults(&eval);
    eval.device = options.device;
    CHECK_OK(papa_data_open(&data, data_folder(), PAPA_SPLIT_TEST, (PapaImageSize){0}, NULL));
    for (int k = 0; k < N_MEMBERS; k++) {
        PapaEvalReport report;
        CHECK_OK(papa_eval(&report, b.models[k], data, &eval, NULL)); /* normalised as each file says; the judge: as the first one says */
        CHECK(k == BAD || same_score(test[k], report.score), "model %d: %g %g, eval %g %g", k, test[k].accuracy, test[k].loss, report.score.accuracy,
            report.score.loss);
        CHECK(held[k].n == N_TRAIN / 5, "%d held-out images", (int)held[k].n);
        CHECK(k == BAD ? held[k].accuracy < .4 : held[k].accuracy > .6, "model %d: held-out accuracy %g", k, held[k].accuracy);
    }
    papa_data_close(data);
    close_bench(&b);
}

static void ensembles(void)
{
    Bench b = {0};
    PapaJudgeOptions options = members_judge();
    CHECK_OK(open_bench(&b, OF_PLAIN, &options, (PapaJudgeNeeds){0}, NULL));
    float *four[] = {b.stores[0], b.stores[0], b.stores[0], b.stores[BAD]}, *two[] = {b.stores[0], b.stores[BAD]};
    for (int mean = PAPA_ENSEMBLE_LOGITS; mean <= PAPA_ENSEMBLE_PROBABILITIES; mean++) {
        PapaScore weighted, repeated, one, first, equal;
        CHECK_OK(papa_judge_score_ensemble(b.judge, &weighted, two, (double[]){.75, .25}, 2, mean, PAPA_JUDGE_TEST));
        CHECK_OK(papa_judge_score_ensemble(b.judge, &repeated, four, NULL, 4, mean, PAPA_JUDGE_TEST));
        CHECK(same_score(weighted, repeated), "weights .75 and .25: %.9g, three and one: %.9g", weighted.loss, repeated.loss);
        CHECK_OK(papa_judge_score_ensemble(b.judge, &one, two, (double[]){3, 0}, 2, mean, PAPA_JUDGE_TEST));
        CHECK_OK(papa_judge_score(b.judge, &first, two, 1, PAPA_JUDGE_TEST));
        CHECK(same_score(one, first), "all weight on one: %.9g, alone %.9g", one.loss, first.loss);
        CHECK_OK(papa_judge_score_ensemble(b.judge, &equal, two, NULL, 2, mean, PAPA_JUDGE_TEST));
        CHECK(fabs(equal.loss - weighted.loss) > 1e-3, "weights make no difference");
    }
    close_bench(&b);
}

/* ---------------------------------------------------------------- statistics */

static void statistics(void)
{
    Bench b = {0};
    PapaJudgeOptions options = members_judge();
    CHECK_OK(open_bench(&b, OF_NORMALIZED, &options, (PapaJudgeNeeds){.statistics = true, .mode = PAPA_REPAIR_NONE}, NULL));
    const PapaModel *model = papa_judge_model(b.judge);
    PapaScore before, after;
    CHECK(papa_judge_has_statistics(b.judge), "BatchNormalization is there");
    CHECK_OK(papa_judge_score(b.judge, &before, b.stores, 1, PAPA_JUDGE_TEST));
    CHECK_OK(papa_judge_recalibrate(b.judge, b.stores[0]));
    CHECK_OK(papa_judge_score(b.judge, &after, b.stores, 1, PAPA_JUDGE_TEST));
    CHECK(fabs(after.accuracy - before.accuracy) <= .04 && after.loss < 1.1 * before.loss + .02, "one model re-estimated: %g %g, before %g %g",
        after.accuracy, after.loss, before.accuracy, before.loss);
    float *wild = b.stores[1];
    for (int i = 0; i < model->n_params; i++)
        for (int64_t c = 0; c < model->params[i].count; c++)
            if (model->params[i].role == PAPA_ROLE_VARIANCE)
                wild[model->params[i].offset + c] *= 1e4f;
    CHECK_OK(papa_judge_score(b.judge, &before, &wild, 1, PAPA_JUDGE_TEST));
    CHECK_OK(papa_judge_recalibrate(b.judge, wild));
    CHECK_OK(papa_judge_score(b.judge, &after, &wild, 1, PAPA_JUDGE_TEST));
    CHECK(before.accuracy < .5 && after.accuracy > .6, "wild statistics: %g, re-estimated %g", before.accuracy, after.accuracy);
    close_bench(&b);
}

/* Towards one parent only: the child's hidden units then give what the parent's give, on average. */
static void repairs(void)
{
    Bench b = {0};
    PapaJudgeOptions options = members_judge();
    CHECK_OK(open_bench(&b, OF_PLAIN, &options, (PapaJudgeNeeds){.statistics = true, .mode = PAPA_REPAIR_BOTH}, NULL));
    const PapaModel *model = papa_judge_model(b.judge);
    CHECK(papa_judge_layers(b.judge) == 2, "%d layers", papa_judge_layers(b.judge));
    size_t bytes = (size_t)model->store.n_total * sizeof(float);
    float *child, *other;
    CHECK_OK(papa_judge_store(b.judge, &child));
    CHECK_OK(papa_judge_store(b.judge, &other));
    const float *const parents[] = {b.stores[0], b.stores[1]};
    CHECK_OK(papa_soup_mean(papa_judge_device(b.judge), child, parents, NULL, 2, &model->store));
    memcpy(other, child, bytes);
    CHECK_OK(papa_judge_repair(b.judge, child, parents, NULL, 2));
    CHECK(memcmp(other, child, bytes), "repair changed nothing");
    CHECK_OK(papa_judge_repair(b.judge, other, parents, (double[]){.5, .5}, 2));
    CHECK(!memcmp(other, child, bytes), "weights .5 are equal weights");
    memcpy(child, b.stores[0], bytes);
    CHECK_OK(papa_judge_repair(b.judge, child, parents, NULL, 1));
    for (int64_t i = 0; i < model->store.n_total; i++)
        CHECK_NEAR(child[i], b.stores[0][i], 1e-4);
    close_bench(&b);
}

typedef struct Seen {
    int n;
    double sum, low;
} Seen;

static PapaStatus look(void *context, const float *const *outputs, const PapaShape *shapes)
{
    Seen *seen = context;
    CHECK(shapes[0].rank == 4 && shapes[0].dim[1] == 6 && shapes[0].dim[2] == 7 && shapes[1].rank == 2 && shapes[1].dim[1] == CLASSES);
    for (int i = 0; i < 2; i++) { /* stores 0 and 2 are one */
        const size_t bytes = (size_t)papa_shape_count(&shapes[i]) * sizeof(float);
        CHECK(!memcmp(outputs[i], outputs[4 + i], bytes) && memcmp(outputs[i], outputs[2 + i], bytes), "output %d of three stores", i);
    }
    seen->n += (int)shapes[0].dim[0];
    for (int64_t i = 0; i < papa_shape_count(&shapes[0]); i++) {
        seen->sum += outputs[0][i];
        seen->low = outputs[0][i] < seen->low ? outputs[0][i] : seen->low;
    }
    return PAPA_OK;
}

static void values(void)
{
    Bench b = {0};
    PapaJudgeOptions options = members_judge();
    options.repair_batches = 3;
    Seen seen = {0};
    CHECK_OK(open_bench(&b, OF_PLAIN, &options, (PapaJudgeNeeds){.statistics = true, .mode = PAPA_REPAIR_NONE}, NULL));
    float *stores[] = {b.stores[0], b.stores[1], b.stores[0]};
    CHECK_OK(papa_judge_run(b.judge, stores, 3, (const char *const[]){"a1", "logits"}, 2, look, &seen));
    CHECK(seen.n == 3 * 40 && seen.sum > 0 && seen.low == 0, "%d images, sum %g, least %g", seen.n, seen.sum, seen.low);
    close_bench(&b);
}

/* ---------------------------------------------------------------- gradients */

static void gradients(MemberKind kind)
{
    Bench b = {0};
    PapaJudgeOptions options = members_judge();
    options.batch = N_TRAIN; /* all held-out images are one batch */
    CHECK_OK(open_bench(&b, kind, &options, (PapaJudgeNeeds){.learning = true}, NULL));
    const PapaModel *model = papa_judge_model(b.judge);
    size_t bytes = (size_t)model->store.n_total * sizeof(float);
    const float *gradient;
    double loss, up, down;
    float *store = b.stores[0], *moved, *copy = malloc(bytes), *direction = calloc(1, bytes);
    memcpy(copy, store, bytes);
    CHECK_OK(papa_judge_store(b.judge, &moved));
    CHECK_OK(papa_judge_gradient(b.judge, &loss, &gradient, store, 0));
    CHECK(!memcmp(copy, store, bytes), "the store has changed");
    PapaScore score;
    CHECK_OK(papa_judge_score(b.judge, &score, &store, 1, PAPA_JUDGE_HELD_OUT));
    if (kind == OF_PLAIN)
        CHECK_NEAR(loss, score.loss, 1e-5);
    PapaRng rng = papa_rng(3, PAPA_RNG_TEST, 0, 0, 0);
    double slope = 0, h = 2e-3;
    for (int i = 0; i < model->n_params; i++)
        for (int64_t e = 0; e < model->params[i].count && model->params[i].trained; e++) {
            int64_t at = model->params[i].offset + e;
            direction[at] = (float)(.1 * papa_rng_normal(&rng) - .5 * gradient[at]); /* a part along the gradient: a slope that is not small */
            slope += (double)direction[at] * gradient[at];
        }
    for (int sign = 1; sign >= -1; sign -= 2) {
        for (int64_t i = 0; i < model->store.n_total; i++)
            moved[i] = store[i] + (float)(sign * h) * direction[i];
        CHECK_OK(papa_judge_gradient(b.judge, sign > 0 ? &up : &down, &gradient, moved, 0));
    }
    CHECK_NEAR((up - down) / (2 * h), slope, .01 * fabs(slope) + 1e-3);
    CHECK(fabs(slope) > .02, "the slope is %g: nothing is tested", slope);
    free(copy), free(direction);
    close_bench(&b);
}

/* Batches are a function of the step alone, and go through all held-out images. */
static void batches(void)
{
    Bench b = {0};
    PapaJudgeOptions options = members_judge();
    options.batch = 44; /* of 88: two batches in an epoch */
    CHECK_OK(open_bench(&b, OF_PLAIN, &options, (PapaJudgeNeeds){.learning = true}, NULL));
    double losses[4], again;
    const float *gradient;
    PapaScore score;
    for (int step = 0; step < 4; step++)
        CHECK_OK(papa_judge_gradient(b.judge, &losses[step], &gradient, b.stores[0], step));
    CHECK_OK(papa_judge_gradient(b.judge, &again, &gradient, b.stores[0], 1));
    CHECK_OK(papa_judge_score(b.judge, &score, b.stores, 1, PAPA_JUDGE_HELD_OUT));
    CHECK(again == losses[1], "step 1 again: %g, %g before", again, losses[1]);
    CHECK_NEAR((losses[0] + losses[1]) / 2, score.loss, 1e-5);
    CHECK_NEAR((losses[2] + losses[3]) / 2, score.loss, 1e-5);
    CHECK(losses[0] != losses[2], "the second epoch has the first one's order");
    close_bench(&b);
}

/* ---------------------------------------------------------------- refusals */

#define REFUSED(needs, change, code, text)                                                                              \
    do {                                                                                                                \
        Bench b = {0};                                                                                                  \
        PapaJudgeOptions o = members_judge();                                                                           \
        change;                                                                                                         \
        CHECK_FAILS(open_bench(&b, OF_PLAIN, &o, (PapaJudgeNeeds)needs, NULL), code, text);                             \
        close_bench(&b);                                                                                                \
    } while (0)

static void refusals(void)
{
    REFUSED({0}, o.data = NULL, PAPA_ERR_ARGUMENT, "data is not set");
    REFUSED({0}, o.batch = 0, PAPA_ERR_ARGUMENT, "batch is 0");
    REFUSED({0}, o.val_fraction = 1, PAPA_ERR_ARGUMENT, "val_fraction is 1");
    REFUSED({0}, (o.n_norm = 3, o.std[0] = o.std[1] = o.std[2] = 1), PAPA_ERR_ARGUMENT, "3 values");
    REFUSED({0}, o.repair_batches = -1, PAPA_ERR_ARGUMENT, "repair_batches is -1");
    REFUSED({.held_out = true}, o.val_fraction = 0, PAPA_ERR_ARGUMENT, "no val_data");
    REFUSED({.learning = true}, o.val_fraction = 0, PAPA_ERR_ARGUMENT, "no val_data");
    REFUSED({0}, o.data = scratch("nothing"), PAPA_ERR_IO, "nothing");
    REFUSED({0}, o.val_data = scratch("nothing"), PAPA_ERR_IO, "nothing");
    REFUSED({0}, o.output = "nonsense", PAPA_ERR_MISMATCH, "nonsense");
    REFUSED({0}, o.device.device = "abacus", PAPA_ERR_ARGUMENT, "abacus");
}

/* A set of its own to choose on; no test images. */
static void sets(void)
{
    Bench b = {0};
    PapaJudgeOptions options = members_judge();
    options.val_data = data_folder();
    options.val_fraction = 0;
    CHECK_OK(open_bench(&b, OF_PLAIN, &options, (PapaJudgeNeeds){.held_out = true}, NULL));
    PapaScore score;
    CHECK_OK(papa_judge_score(b.judge, &score, b.stores, 1, PAPA_JUDGE_HELD_OUT));
    CHECK(score.n == N_TRAIN, "%d images of val_data", (int)score.n);
    close_bench(&b);
}

static void count_remarks(void *context, const char *line)
{
    if (strstr(line, "don't agree on"))
        ++*(int *)context;
}

/* A bound that is no parameter: stores don't hold it, and the judge says so where it matters. */
static void constants(void)
{
    char paths[3][512];
    PapaModel *models[3];
    for (int k = 0; k < 3; k++) {
        Build b = build_begin();
        snprintf(paths[k], sizeof paths[k], "%s", scratch("bound-%d.onnx", k));
        build_input(&b, "image", 4, (int64_t[]){-1, 1, SIDE, SIDE});
        build_node(&b, "Flatten", "image", "f");
        build_tensor(&b, "least", 0, NULL, (float[]){k == 2 ? -3 : -2});
        build_node(&b, "Clip", "f least", "c");
        build_random(&b, "w", 2, (int64_t[]){SIDE * SIDE, CLASSES}, .1);
        build_node(&b, "Gemm", "c w", "logits");
        build_output(&b, "logits", 2);
        build_write(&b, paths[k]);
        CHECK_OK(papa_model_open(&models[k], paths[k]));
    }
    PapaJudgeOptions options = members_judge();
    for (int k = 1; k < 3; k++) {
        int n_remarks = 0;
        PapaHooks hooks = {.context = &n_remarks, .remark = count_remarks};
        PapaIngredients *ingredients;
        PapaJudge *judge;
        CHECK_OK(papa_ingredients_open(&ingredients, (const PapaModel *const[]){models[0], models[k]}, 2, NULL));
        CHECK_OK(papa_judge_open(&judge, ingredients, &options, &(PapaJudgeNeeds){0}, &hooks));
        CHECK(n_remarks == (k == 2), "%d remarks about model %d", n_remarks, k);
        papa_judge_close(judge);
        papa_ingredients_close(ingredients);
    }
    for (int k = 0; k < 3; k++)
        papa_model_close(models[k]);
}

static void stopping(void)
{
    Bench b = {0};
    volatile sig_atomic_t stop = 0;
    PapaHooks hooks = {.stop = &stop};
    PapaJudgeOptions options = members_judge();
    CHECK_OK(open_bench(&b, OF_NORMALIZED, &options, (PapaJudgeNeeds){.statistics = true, .mode = PAPA_REPAIR_BOTH, .learning = true}, &hooks));
    PapaScore score;
    double loss;
    const float *gradient;
    stop = 1;
    CHECK_FAILS(papa_judge_score(b.judge, &score, b.stores, 1, PAPA_JUDGE_TEST), PAPA_ERR_STOPPED, "stopped");
    CHECK_FAILS(papa_judge_score_ensemble(b.judge, &score, b.stores, NULL, 2, PAPA_ENSEMBLE_LOGITS, PAPA_JUDGE_TEST), PAPA_ERR_STOPPED, "stopped");
    CHECK_FAILS(papa_judge_recalibrate(b.judge, b.stores[0]), PAPA_ERR_STOPPED, "stopped");
    CHECK_FAILS(papa_judge_gradient(b.judge, &loss, &gradient, b.stores[0], 0), PAPA_ERR_STOPPED, "stopped");
    close_bench(&b);
}

int main(void)
{
    scores(OF_PLAIN);
    scores(OF_NORMALIZED);
    scores(OF_HALF);
    ensembles();
    statistics();
    repairs();
    values();
    gradients(OF_PLAIN);
    gradients(OF_NORMALIZED);
    batches();
    refusals();
    sets();
    constants();
    stopping();
    return check_result();
}
