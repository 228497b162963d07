/* Soups that images have a part in: what is chosen, what is learned, what is corrected, and that the file which is written is the network that was
 * scored. */
#include "check.h"
#include "members.h"

#include "jobs/soup_learn.h"
#include "model/model.h"
#include "soup/soup.h"

#include <unistd.h>

static PapaSoupOptions soup_options(PapaSoupMethod method, const char *out)
{
    PapaSoupOptions o;
    papa_soup_defaults(&o);
    o.method = method;
    o.out = out;
    o.learn_steps = 60;
    o.judge = members_judge();
    return o;
}

/* ---------------------------------------------------------------- the files */

static bool is_score(PapaScore a, PapaScore b)
{
    return a.n == b.n && a.accuracy == b.accuracy && fabs(a.loss - b.loss) < 1e-5 * (1 + b.loss);
}

/* The file scores what the report says. */
static void scores_again(const char *what, const char *path, PapaScore want)
{
    PapaModel *model;
    PapaData *data;
    PapaEvalOptions options;
    PapaEvalReport got;
    papa_eval_defaults(&options);
    options.device.threads = 2;
    CHECK_OK(papa_data_open(&data, data_folder(), PAPA_SPLIT_TEST, (PapaImageSize){0}, NULL));
    CHECK_OK(papa_model_open(&model, path));
    CHECK_OK(papa_eval(&got, model, data, &options, NULL));
    CHECK(is_score(got.score, want), "%s: the file has %g %.9g, reported %g %.9g", what, got.score.accuracy, got.score.loss, want.accuracy, want.loss);
    papa_model_close(model);
    papa_data_close(data);
}

/* Which of the initializers of two files differ, as a list of names in front of each a blank; new ones with a +. */
static const char *differing(const char *path, const char *other)
{
    static char text[512];
    PapaOnnx *a, *b;
    *text = 0;
    if (papa_onnx_open(&a, path) || papa_onnx_open(&b, other))
        return papa_error();
    const Onnx__GraphProto *x = papa_onnx_graph(a), *y = papa_onnx_graph(b);
    for (size_t i = 0; i < x->n_initializer; i++) {
        bool equal = false, found = false;
        for (size_t k = 0; k < y->n_initializer; k++)
            if (!strcmp(x->initializer[i]->name, y->initializer[k]->name)) {
                found = true;
                papa_tensors_equal(&equal, NULL, a, x->initializer[i], b, y->initializer[k]);
            }
        if (!equal && strlen(text) + strlen(x->initializer[i]->name) + 3 < sizeof text)
            sprintf(text + strlen(text), " %s%s", found ? "" : "+", x->initializer[i]->name);
    }
    papa_onnx_close(a), papa_onnx_close(b);
    return text;
}

static PapaStatus soup(PapaSoupReport *report, PapaModel **models, int n, const PapaSoupOptions *o)
{
    *report = (PapaSoupReport){0};
    return papa_soup(report, (const PapaModel *const *)models, n, o, NULL);
}

/* ---------------------------------------------------------------- methods that choose */

static const char *metadata_of(const char *path, const char *key)
{
    static char text[200];
    PapaOnnx *onnx;
    if (papa_onnx_open(&onnx, path))
        return "";
    const char *value = papa_onnx_metadata(onnx, key);
    snprintf(text, sizeof text, "%s", value ? value : "(none)");
    papa_onnx_close(onnx);
    return text;
}

static void chooses(MemberKind kind, PapaSoupMethod method, const char *name)
{
    PapaModel *models[N_MEMBERS];
    PapaSoupReport report;
    char out[512];
    snprintf(out, sizeof out, "%s", scratch("%s-%d.onnx", name, (int)kind));
    members_open(models, kind);
    PapaSoupOptions o = soup_options(method, out);
    PapaStatus status = soup(&report, models, N_MEMBERS, &o);
    CHECK(status == PAPA_OK, "%s: %s", name, papa_error());
    if (status)
        return;
    double sum = 0, best = 0;
    for (int k = 0; k < N_MEMBERS; k++) {
        const PapaIngredient *ingredient = &report.ingredients[k];
        sum += ingredient->weight;
        best = ingredient->held_out.accuracy > best ? ingredient->held_out.accuracy : best;
        CHECK(ingredient->held_out.n == N_TRAIN / 5 && ingredient->test.n == N_TEST, "%s: model %d is not scored", name, k);
    }
    bool picks = method == PAPA_SOUP_GREEDY || method == PAPA_SOUP_PRUNED;
    if (method != PAPA_SOUP_LEARNED_TENSORS) {
        CHECK_NEAR(sum, 1, 1e-9);
        CHECK(picks ? report.ingredients[BAD].weight == 0 : report.ingredients[BAD].weight < .05, "%s: the bad one has %g", name,
            report.ingredients[BAD].weight);
        CHECK(report.n_used >= 1 && report.n_used <= (picks ? N_GOOD : N_MEMBERS), "%s: %d used", name, report.n_used);
    }
    double below = method == PAPA_SOUP_GREEDY && kind != OF_HALF ? 1e-9 : .06; /* greedy never is, but for rounding to the file's type */
    CHECK(report.held_out.accuracy >= best - below, "%s: held-out accuracy %g, best of the models %g", name, report.held_out.accuracy, best);
    CHECK(report.recalibrated == (kind == OF_NORMALIZED && (!picks || report.n_used > 1)) && !report.repaired, "%s: recalibrated %d", name,
        report.recalibrated);
    CHECK(!strcmp(metadata_of(out, "papa.method"), name), "papa.method is %s", metadata_of(out, "papa.method"));
    scores_again(name, out, report.test);
    papa_soup_report_free(&report);
    members_close(models);
}

/* Two that are equally good, or one bad one among them: what must stay, stays. */
static void greedy_takes(void)
{
    PapaModel *models[N_MEMBERS];
    PapaSoupReport report, mean;
    members_open(models, OF_PLAIN);
    PapaSoupOptions o = soup_options(PAPA_SOUP_GREEDY, NULL);
    CHECK_OK(soup(&report, models, N_GOOD, &o));
    o.method = PAPA_SOUP_MEAN;
    CHECK_OK(soup(&mean, models, N_GOOD, &o));
    CHECK(report.held_out.accuracy >= report.ingredients[0].held_out.accuracy, "greedy is worse than a model");
    for (int k = 0; k < N_GOOD; k++)
        CHECK(report.ingredients[k].weight == 0 || report.ingredients[k].weight == 1.0 / report.n_used, "weight %g of %d", report.ingredients[k].weight,
            report.n_used);
    papa_soup_report_free(&report), papa_soup_report_free(&mean);
    members_close(models);
}

/* ---------------------------------------------------------------- learning */

typedef struct Bench {
    PapaModel *models[N_MEMBERS];
    PapaIngredients *ingredients;
    PapaJudge *judge;
    float *stores[N_MEMBERS];
    PapaSoupLearning *learning;
} Bench;

static PapaStatus open_bench(Bench *b, MemberKind kind, PapaJudgeOptions options, bool by_tensor)
{
    members_open(b->models, kind);
    PAPA_TRY(papa_ingredients_open(&b->ingredients, (const PapaModel *const *)b->models, N_MEMBERS, NULL));
    PAPA_TRY(papa_judge_open(&b->judge, b->ingredients, &options, &(PapaJudgeNeeds){.learning = true, .statistics = true, .mode = PAPA_REPAIR_NONE}, NULL));
    for (int k = 0; k < N_MEMBERS; k++) {
        PAPA_TRY(papa_judge_store(b->judge, &b->stores[k]));
        PAPA_TRY(papa_judge_load(b->judge, k, b->stores[k]));
    }
    return papa_soup_learning_new(&b->learning, b->judge, b->stores, N_MEMBERS, by_tensor);
}

static void close_bench(Bench *b)
{
    papa_soup_learning_free(b->learning);
    papa_judge_close(b->judge);
    papa_ingredients_close(b->ingredients);
    members_close(b->models);
}

/* Each alpha against finite differences. */
static void learning_gradient(MemberKind kind, bool by_tensor)
{
    enum { MOST = 16 * N_MEMBERS };
    Bench b = {0};
    double alphas[MOST], gradient[MOST], moved[MOST], other[MOST], loss, up, down, largest = 0;
    PapaJudgeOptions options = members_judge();
    options.batch = N_TRAIN;
    CHECK_OK(open_bench(&b, kind, options, by_tensor));
    int n = papa_soup_learning_rows(b.learning) * N_MEMBERS;
    CHECK(by_tensor ? n == (kind == OF_NORMALIZED ? 7 : 5) * N_MEMBERS : n == N_MEMBERS, "%d alphas", n);
    PapaRng rng = papa_rng(11, PAPA_RNG_TEST, 0, 0, 0);
    for (int i = 0; i < n; i++)
        alphas[i] = .7 * papa_rng_normal(&rng);
    CHECK_OK(papa_soup_learning_gradient(b.learning, &loss, gradient, alphas, 0));
    for (int i = 0; i < n; i++) {
        double h = .004;
        memcpy(moved, alphas, sizeof moved);
        moved[i] = alphas[i] + h;
        CHECK_OK(papa_soup_learning_gradient(b.learning, &up, other, moved, 0));
        moved[i] = alphas[i] - h;
        CHECK_OK(papa_soup_learning_gradient(b.learning, &down, other, moved, 0));
        CHECK_NEAR((up - down) / (2 * h), gradient[i], .02 * fabs(gradient[i]) + 1e-4);
        largest = fabs(gradient[i]) > largest ? fabs(gradient[i]) : largest;
    }
    CHECK(largest > .02, "the largest gradient is %g: nothing is tested", largest);
    close_bench(&b);
}

/* Learning lowers the loss, and the bad model loses its weight in every tensor that says so. */
static void learning_learns(bool by_tensor)
{
    Bench b = {0};
    double zeros[16 * N_MEMBERS] = {0}, gradient[16 * N_MEMBERS], before, after = 0;
    PapaJudgeOptions options = members_judge();
    options.batch = N_TRAIN;
    CHECK_OK(open_bench(&b, OF_PLAIN, options, by_tensor));
    CHECK_OK(papa_soup_learning_gradient(b.learning, &before, gradient, zeros, 0));
    CHECK_OK(papa_soup_learning_run(b.learning, 80, .1));
    const double *mean = papa_soup_learning_mean(b.learning), *weights = papa_soup_learning_weights(b.learning);
    CHECK_NEAR(mean[0] + mean[1] + mean[2] + mean[BAD], 1, 1e-12);
    CHECK(mean[BAD] < .05, "the bad model has %g", mean[BAD]);
    double alphas[16 * N_MEMBERS];
    for (int i = 0; i < papa_soup_learning_rows(b.learning) * N_MEMBERS; i++)
        alphas[i] = log(weights[i]);
    CHECK_OK(papa_soup_learning_gradient(b.learning, &after, gradient, alphas, 0));
    CHECK(after < before - .1, "loss %g, before %g", after, before);
    close_bench(&b);
}

/* The weights of each tensor are those that stand in the file: one element of each by hand. */
static void learned_tensors_in_file(void)
{
    Bench b = {0};
    PapaModel *file;
    PapaSoupReport report;
    char out[512];
    snprintf(out, sizeof out, "%s", scratch("tensors.onnx"));
    PapaSoupOptions o = soup_options(PAPA_SOUP_LEARNED_TENSORS, out);
    CHECK_OK(open_bench(&b, OF_PLAIN, o.judge, true));
    CHECK_OK(papa_soup_learning_run(b.learning, o.learn_steps, (double)o.learn_rate));
    CHECK_OK(soup(&report, b.models, N_MEMBERS, &o));
    CHECK_OK(papa_model_open(&file, out));
    CHECK_OK(papa_model_select(file, &(PapaModelSelection){.decay_all = true}));
    float *values = malloc((size_t)file->store.n_total * sizeof *values);
    CHECK_OK(papa_model_read_params(file, values));
    const PapaModel *model = papa_judge_model(b.judge);
    int row = 0, unequal = 0;
    for (int i = 0; i < model->n_params; i++) {
        if (!model->params[i].trained)
            continue;
        const double *weights = papa_soup_learning_weights(b.learning) + row++ * N_MEMBERS;
        int64_t at = model->params[i].offset + model->params[i].count / 2;
        double want = 0;
        for (int k = 0; k < N_MEMBERS; k++)
            want += weights[k] * b.stores[k][at];
        CHECK_NEAR(values[at], want, 1e-6 * (1 + fabs(want)));
        unequal += fabs(weights[0] - papa_soup_learning_weights(b.learning)[0]) > 1e-3;
    }
    CHECK(unequal > 0, "all tensors have one weight: nothing is tested");
    CHECK(isnan(report.ingredients[0].weight) && report.n_used == N_MEMBERS, "weight %g", report.ingredients[0].weight);
    free(values);
    papa_soup_report_free(&report);
    papa_model_close(file);
    close_bench(&b);
}

/* ---------------------------------------------------------------- statistics and repair */

/* Only what was measured differs from the merge without images. */
static void recalibrates(void)
{
    PapaModel *models[N_MEMBERS];
    PapaSoupReport report;
    char plain[512], out[512], off[512];
    snprintf(plain, sizeof plain, "%s", scratch("uniform.onnx"));
    snprintf(out, sizeof out, "%s", scratch("recalibrated.onnx"));
    snprintf(off, sizeof off, "%s", scratch("not-recalibrated.onnx"));
    members_open(models, OF_NORMALIZED);
    PapaSoupOptions o = soup_options(PAPA_SOUP_MEAN, plain);
    o.judge.data = NULL;
    CHECK_OK(soup(&report, models, N_GOOD, &o));
    CHECK(isnan(report.test.accuracy) && !report.recalibrated, "scores without images");
    papa_soup_report_free(&report);
    o = soup_options(PAPA_SOUP_MEAN, out);
    CHECK_OK(soup(&report, models, N_GOOD, &o));
    CHECK(report.recalibrated && !report.repaired && report.test_plain.n == N_TEST, "recalibrated %d", report.recalibrated);
    CHECK(!strcmp(differing(out, plain), " mean var"), "other tensors differ:%s", differing(out, plain));
    CHECK(!strcmp(metadata_of(out, "papa.recalibrated"), "true"), "papa.recalibrated");
    scores_again("recalibrated", out, report.test);
    scores_again("as merged", plain, report.test_plain);
    papa_soup_report_free(&report);
    o.recalibrate = false;
    o.out = off;
    CHECK_OK(soup(&report, models, N_GOOD, &o));
    CHECK(!report.recalibrated && isnan(report.test_plain.accuracy), "recalibrated though told not to");
    CHECK(!*differing(off, plain), "other tensors differ:%s", differing(off, plain));
    papa_soup_report_free(&report);
    members_close(models);
}

/* Every method without a choice of its own has its statistics re-estimated too. */
static void recalibrates_all(void)
{
    static const PapaSoupMethod methods[] = {PAPA_SOUP_LERP, PAPA_SOUP_SLERP, PAPA_SOUP_TASK, PAPA_SOUP_TIES, PAPA_SOUP_DARE, PAPA_SOUP_STOCK,
        PAPA_SOUP_WISE_FT, PAPA_SOUP_EMA};
    PapaModel *models[N_MEMBERS];
    char plain[512], out[512];
    members_open(models, OF_NORMALIZED);
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        PapaSoupReport report;
        snprintf(plain, sizeof plain, "%s", scratch("method-%zu.onnx", i));
        snprintf(out, sizeof out, "%s", scratch("method-%zu-measured.onnx", i));
        PapaSoupOptions o = soup_options(methods[i], out);
        bool based = methods[i] == PAPA_SOUP_TASK || methods[i] == PAPA_SOUP_TIES || methods[i] == PAPA_SOUP_DARE || methods[i] == PAPA_SOUP_STOCK ||
                     methods[i] == PAPA_SOUP_WISE_FT;
        int n = methods[i] == PAPA_SOUP_WISE_FT ? 1 : 2;
        o.base = based ? models[2] : NULL;
        CHECK_OK(soup(&report, models, n, &o));
        CHECK(report.recalibrated, "method %d", (int)methods[i]);
        CHECK(!based || report.ingredients[n].test.n == N_TEST, "the base is not scored");
        scores_again(papa_error(), out, report.test);
        papa_soup_report_free(&report);
        o.judge.data = NULL;
        o.out = plain;
        CHECK_OK(soup(&report, models, n, &o));
        CHECK(!strcmp(differing(out, plain), " mean var"), "method %d: other tensors differ:%s", (int)methods[i], differing(out, plain));
        papa_soup_report_free(&report);
    }
    members_close(models);
}

/* The result is REPAIR's, run by hand; and the plain one where there is none. */
static void repairs(MemberKind kind, PapaRepairMode mode)
{
    PapaModel *models[N_MEMBERS], *file;
    PapaSoupReport report;
    char plain[512], out[512];
    const double weights[] = {.5, .3, .2};
    snprintf(plain, sizeof plain, "%s", scratch("plain-%d.onnx", (int)kind));
    snprintf(out, sizeof out, "%s", scratch("repaired-%d-%d.onnx", (int)kind, (int)mode));
    members_open(models, kind);
    PapaSoupOptions o = soup_options(PAPA_SOUP_MEAN, out);
    o.weights = weights;
    o.repair = mode;
    CHECK_OK(soup(&report, models, N_GOOD, &o));
    CHECK(report.repaired, "repaired");
    scores_again("repaired", out, report.test);
    papa_soup_report_free(&report);
    o.repair = PAPA_REPAIR_NONE;
    o.out = plain;
    CHECK_OK(soup(&report, models, N_GOOD, &o));
    papa_soup_report_free(&report);
    const char *changed = differing(out, plain); /* RESHIFT leaves weights alone; w1's layer has no bias in the file */
    const char *normalized = mode == PAPA_REPAIR_RESHIFT ? " b2" : " w2 b2", *other = mode == PAPA_REPAIR_RESHIFT ? " b2 +v1_bias" : " w1 w2 b2 +v1_bias";
    CHECK(!strcmp(changed, kind == OF_NORMALIZED ? normalized : other), "mode %d of %d changes%s", (int)mode, (int)kind, changed);

    PapaIngredients *ingredients;
    PapaJudge *judge;
    float *stores[N_GOOD], *child;
    CHECK_OK(papa_ingredients_open(&ingredients, (const PapaModel *const *)models, N_GOOD, NULL));
    CHECK_OK(papa_judge_open(&judge, ingredients, &o.judge, &(PapaJudgeNeeds){.statistics = true, .mode = mode}, NULL));
    for (int k = 0; k < N_GOOD; k++) {
        CHECK_OK(papa_judge_store(judge, &stores[k]));
        CHECK_OK(papa_judge_load(judge, k, stores[k]));
    }
    const PapaModel *model = papa_judge_model(judge);
    CHECK_OK(papa_judge_store(judge, &child));
    CHECK_OK(papa_soup_mean(papa_judge_device(judge), child, (const float *const *)stores, weights, N_GOOD, &model->store));
    CHECK_OK(papa_judge_repair(judge, child, (const float *const *)stores, weights, N_GOOD));
    CHECK_OK(papa_model_open(&file, out));
    const Onnx__GraphProto *graph = papa_onnx_graph(file->onnx);
    double tolerance = kind == OF_HALF ? 2e-3 : 2e-5;
    int n_compared = 0;
    for (int i = 0; i < model->n_params; i++)
        for (size_t t = 0; t < graph->n_initializer; t++) {
            float values[16384];
            const PapaParam *param = &model->params[i];
            if (strcmp(graph->initializer[t]->name, param->name) != 0)
                continue;
            CHECK_OK(papa_tensor_read_float(file->onnx, graph->initializer[t], values, param->count));
            for (int64_t e = 0; e < param->count; e++)
                CHECK_NEAR(values[e], child[param->offset + e], tolerance * (1 + fabs((double)values[e])));
            n_compared++;
        }
    CHECK(n_compared == (int)graph->n_initializer, "%d of %d tensors compared", n_compared, (int)graph->n_initializer);
    papa_model_close(file);
    papa_judge_close(judge);
    papa_ingredients_close(ingredients);
    members_close(models);
}

/* ---------------------------------------------------------------- one model, ensembles */

static void alone(void)
{
    PapaModel *models[N_MEMBERS];
    PapaSoupReport report;
    char out[512];
    snprintf(out, sizeof out, "%s", scratch("alone.onnx"));
    members_open(models, OF_NORMALIZED);
    PapaSoupOptions o = soup_options(PAPA_SOUP_MEAN, out);
    o.repair = PAPA_REPAIR_BOTH;
    CHECK_OK(soup(&report, models, 1, &o));
    CHECK(is_score(report.test, report.ingredients[0].test) && !report.recalibrated && !report.repaired, "a soup of one: %g, the model %g",
        report.test.accuracy, report.ingredients[0].test.accuracy);
    CHECK(!*differing(out, papa_onnx_path(models[0]->onnx)), "a soup of one changes%s", differing(out, papa_onnx_path(models[0]->onnx)));
    papa_soup_report_free(&report);
    members_close(models);
}

static void ensembles(void)
{
    PapaModel *models[N_MEMBERS];
    PapaSoupReport report;
    char out[512];
    const double weights[] = {.6, .2, .1, .1};
    members_open(models, OF_NORMALIZED);
    for (int i = 0; i < 4; i++) {
        snprintf(out, sizeof out, "%s", scratch("ensemble-%d.onnx", i));
        PapaSoupOptions o = soup_options(PAPA_SOUP_ENSEMBLE, out);
        o.weights = i / 2 ? weights : NULL;
        o.ensemble = i % 2 ? PAPA_ENSEMBLE_PROBABILITIES : PAPA_ENSEMBLE_LOGITS;
        CHECK_OK(soup(&report, models, N_MEMBERS, &o));
        CHECK(report.held_out.n == N_TRAIN / 5 && !report.recalibrated, "held out %d", (int)report.held_out.n);
        scores_again("ensemble", out, report.test);
        papa_soup_report_free(&report);
    }
    members_close(models);
}

/* ---------------------------------------------------------------- failing and stopping */

static void refused(PapaSoupOptions o, PapaStatus code, const char *text)
{
    PapaModel *models[N_MEMBERS];
    PapaSoupReport report;
    members_open(models, OF_PLAIN);
    o.out = scratch("refused.onnx");
    CHECK_FAILS(soup(&report, models, N_MEMBERS, &o), code, text);
    CHECK(access(o.out, F_OK) != 0, "a file after: %s", text);
    CHECK(!report.ingredients, "a report after: %s", text);
    members_close(models);
}

static void refusals(void)
{
    char nothing[512];
    snprintf(nothing, sizeof nothing, "%s", scratch("nothing"));
    PapaSoupOptions o = soup_options(PAPA_SOUP_GREEDY, NULL);
    o.judge.val_fraction = 0;
    refused(o, PAPA_ERR_ARGUMENT, "val_data");
    o.judge.data = NULL;
    refused(o, PAPA_ERR_ARGUMENT, "data");
    o = soup_options(PAPA_SOUP_MEAN, NULL);
    o.judge.data = NULL;
    o.repair = PAPA_REPAIR_BOTH;
    refused(o, PAPA_ERR_ARGUMENT, "data");
    o = soup_options(PAPA_SOUP_MEAN, NULL);
    o.judge.data = nothing;
    refused(o, PAPA_ERR_IO, "nothing");
    o = soup_options(PAPA_SOUP_LEARNED, NULL);
    o.learn_steps = 0;
    refused(o, PAPA_ERR_ARGUMENT, "learn_steps is 0");
}

/* A stop after so many reports of progress. */
typedef struct Stopper {
    volatile sig_atomic_t stop;
    int left;
} Stopper;

static void count_down(void *context, const PapaProgress *progress)
{
    (void)progress;
    Stopper *s = context;
    if (--s->left <= 0)
        s->stop = 1;
}

static void stops(PapaSoupMethod method, PapaRepairMode mode)
{
    PapaModel *models[N_MEMBERS];
    members_open(models, OF_NORMALIZED);
    int n_stopped = 0;
    for (int after = 0; after < 40; after++) {
        PapaSoupReport report;
        Stopper stopper = {.left = after, .stop = after == 0};
        PapaHooks hooks = {.context = &stopper, .progress = count_down, .stop = &stopper.stop};
        PapaSoupOptions o = soup_options(method, scratch("stopped.onnx"));
        o.repair = mode;
        PapaStatus status = papa_soup(&report, (const PapaModel *const *)models, N_GOOD, &o, &hooks);
        bool there = access(o.out, F_OK) == 0;
        CHECK(status == PAPA_OK || status == PAPA_ERR_STOPPED, "status %d: %s", status, papa_error());
        CHECK(there == (status == PAPA_OK), "method %d, stopped after %d reports: status %d, a file: %d", (int)method, after, status, there);
        n_stopped += status == PAPA_ERR_STOPPED;
        if (there)
            unlink(o.out);
        if (status == PAPA_OK) {
            papa_soup_report_free(&report);
            break;
        }
    }
    CHECK(n_stopped > 1, "stopped %d times", n_stopped);
    members_close(models);
}

int main(void)
{
    static const struct {
        PapaSoupMethod method;
        const char *name;
    } choosing[] = {{PAPA_SOUP_GREEDY, "greedy"}, {PAPA_SOUP_PRUNED, "pruned"}, {PAPA_SOUP_LEARNED, "learned"}, {PAPA_SOUP_LEARNED_TENSORS, "learned-tensors"}};
    for (size_t i = 0; i < sizeof choosing / sizeof *choosing; i++)
        for (MemberKind kind = OF_PLAIN; kind <= OF_HALF; kind++)
            chooses(kind, choosing[i].method, choosing[i].name);
    greedy_takes();
    learning_gradient(OF_PLAIN, false);
    learning_gradient(OF_PLAIN, true);
    learning_gradient(OF_NORMALIZED, false);
    learning_gradient(OF_NORMALIZED, true);
    learning_learns(false);
    learning_learns(true);
    learned_tensors_in_file();
    recalibrates();
    recalibrates_all();
    for (PapaRepairMode mode = PAPA_REPAIR_BOTH; mode < PAPA_REPAIR_NONE; mode++)
        for (MemberKind kind = OF_PLAIN; kind <= OF_HALF; kind++)
            repairs(kind, mode);
    alone();
    ensembles();
    refusals();
    stops(PAPA_SOUP_MEAN, PAPA_REPAIR_BOTH);
    stops(PAPA_SOUP_GREEDY, PAPA_REPAIR_NONE);
    stops(PAPA_SOUP_LEARNED, PAPA_REPAIR_NONE);
    return check_result();
}
