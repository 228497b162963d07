/* Whole runs on a small data set of our own: files, scores that papa_eval finds again, methods, stopping, refusals. */
#include "bars.h"
#include "check.h"
#include "scratch.h"

#include "base/rng.h"
#include "model/model.h"
#include "train/metadata.h"
#include "train/trainer.h"

#include <unistd.h>

/* ---------------------------------------------------------------- runs */

static PapaTrainOptions small_options(const char *out)
{
    PapaTrainOptions o;
    papa_train_defaults(&o);
    o.data = data_folder();
    o.out = out;
    o.epochs = 3;
    o.batch = 20;
    o.val_fraction = .1f;
    o.lr = .02f;
    o.device.threads = 2;
    o.device.deterministic = true;
    return o;
}

static PapaStatus train(PapaTrainReport *report, const char *model_name, const PapaTrainOptions *options, const PapaHooks *hooks)
{
    char path[512];
    snprintf(path, sizeof path, PAPA_SOURCE_DIR "/testdata/%s.onnx", model_name);
    PapaModel *model;
    *report = (PapaTrainReport){0};
    PapaStatus status = papa_model_open(&model, path);
    if (status != PAPA_OK)
        return status;
    status = papa_train(report, model, options, hooks);
    papa_model_close(model);
    return status;
}

/* The file, fed as its metadata says, scores what the report says. */
static void scores_again(const char *out, const char *name, PapaScore want)
{
    char path[512];
    PapaModel *model;
    PapaData *data;
    PapaEvalOptions options;
    PapaEvalReport got;
    snprintf(path, sizeof path, "%s/%s.onnx", out, name);
    CHECK_OK(papa_data_open(&data, data_folder(), PAPA_SPLIT_TEST, (PapaImageSize){0}, NULL));
    CHECK_OK(papa_model_open(&model, path));
    papa_eval_defaults(&options);
    options.batch = 33;
    options.device.threads = 2;
    PapaStatus status = papa_eval(&got, model, data, &options, NULL);
    CHECK(status == PAPA_OK, "%s: %s", name, papa_error());
    CHECK(got.score.n == N_TEST && want.n == N_TEST, "%s: %d images, %d in the report", name, (int)got.score.n, (int)want.n);
    CHECK(fabs(got.score.accuracy - want.accuracy) < 1e-9, "%s: accuracy %g, reported %g", name, got.score.accuracy, want.accuracy);
    CHECK(fabs(got.score.loss - want.loss) < 2e-5 * (1 + want.loss), "%s: loss %.9g, reported %.9g", name, got.score.loss, want.loss);
    papa_model_close(model);
    papa_data_close(data);
}

static void check_files(const char *out, const PapaTrainReport *report)
{
    for (int j = 0; j < report->n_members; j++) {
        char name[32];
        snprintf(name, sizeof name, "member-%d", j);
        scores_again(out, name, report->test.members[j]);
    }
    scores_again(out, "soup", report->test.soup);
    scores_again(out, "greedy", report->test.greedy);
    scores_again(out, "ensemble", report->test.ensemble);
}

static void learns(const char *model, PapaTrainOptions o)
{
    PapaTrainReport report;
    PapaStatus status = train(&report, model, &o, NULL);
    CHECK(status == PAPA_OK, "%s: %s", model, papa_error());
    if (status != PAPA_OK)
        return;
    CHECK(report.n_members == o.population && report.n_steps == 3 * 19, "%s: %d steps", model, (int)report.n_steps);
    CHECK(report.test.mean.accuracy > .3, "%s learns nothing: %g", model, report.test.mean.accuracy);
    CHECK(report.test.ensemble.accuracy >= report.test.mean.accuracy - .05, "%s: ensemble %g, members %g", model, report.test.ensemble.accuracy,
        report.test.mean.accuracy);
    CHECK(report.test.soup.loss < 2.4, "%s: soup's loss %g", model, report.test.soup.loss);
    CHECK(report.n_greedy >= 1 && report.n_greedy <= o.population, "greedy soup of %d", report.n_greedy);
    CHECK(!report.stopped, "stopped");
    check_files(o.out, &report);
    papa_train_report_free(&report);
}

static void methods(void)
{
    PapaTrainOptions o = small_options(scratch("papa"));
    learns("mlp", o);
    o.out = scratch("all");
    o.method = PAPA_METHOD_ALL;
    o.every_epochs = 1;
    o.lr = .05f;
    learns("resnet8", o);
    o.out = scratch("pairs");
    o.method = PAPA_METHOD_2;
    o.population = 4;
    o.lr = .02f;
    o.keep_last = true; /* 396 images: 19 full batches and one of 16 */
    PapaTrainReport report;
    CHECK_OK(train(&report, "mlp", &o, NULL));
    CHECK(report.n_steps == 3 * 20, "%d steps", (int)report.n_steps);
    CHECK_NEAR(report.images_per_second * report.seconds, 3 * 396 * 4, 1e-6);
    papa_train_report_free(&report);
}

/* Exported files that normalise themselves; the mean of probabilities; both kinds of network input. */
static void variants(void)
{
    PapaTrainOptions o = small_options(scratch("folded"));
    o.fold_normalization = true;
    o.ensemble = PAPA_ENSEMBLE_PROBABILITIES;
    o.optimizer = PAPA_OPTIMIZER_ADAMW;
    o.lr = 1e-3f;
    o.clip = 1;
    o.mixup = (PapaGrid){{0, .5f}, 2};
    o.crop = 1;
    learns("mlp", o);
    o.out = scratch("lenet");
    o.optimizer = PAPA_OPTIMIZER_ADAM;
    learns("lenet", o);
}

static void same_bytes(const char *a, const char *b, const char *name)
{
    static char x[1 << 22], y[1 << 22];
    size_t n = scratch_read(scratch("%s/%s", a, name), x, sizeof x), m = scratch_read(scratch("%s/%s", b, name), y, sizeof y);
    CHECK(n == m && n > 0 && n < sizeof x && !memcmp(x, y, n), "%s differs between %s and %s", name, a, b);
}

/* The same run with other numbers of threads writes the same bytes. */
static void deterministic(PapaMethod method, int epochs)
{
    static const char *const names[] = {"member-0.onnx", "member-1.onnx", "member-2.onnx", "soup.onnx", "greedy.onnx", "ensemble.onnx",
        "metrics.csv"};
    static const char *const folders[] = {"one", "two", "three"};
    for (int t = 0; t < 3; t++) {
        PapaTrainOptions o = small_options(scratch("%s", folders[t]));
        PapaTrainReport report;
        o.device.threads = t + 1;
        o.method = method;
        o.epochs = epochs;
        o.init = PAPA_INIT_RANDOM;
        o.erasing = (PapaGrid){{0, .5f}, 2};
        o.cutmix = (PapaGrid){{1}, 1};
        o.flip = true;
        o.every = 7;
        o.every_epochs = 1;
        CHECK_OK(train(&report, "resnet8", &o, NULL));
        papa_train_report_free(&report);
        for (size_t i = 0; t > 0 && i < sizeof names / sizeof *names; i++)
            same_bytes(folders[0], folders[t], names[i]);
    }
}

/* ---------------------------------------------------------------- when members meet */

/* How far the members' test losses lie apart. */
static double spread(PapaTrainOptions o)
{
    PapaTrainReport report;
    double low = INFINITY, high = -INFINITY;
    o.out = NULL;
    o.init = PAPA_INIT_RANDOM;
    o.repair = false;
    PapaStatus status = train(&report, "mlp", &o, NULL);
    CHECK(status == PAPA_OK, "%s", papa_error());
    for (int j = 0; j < report.n_members; j++) {
        low = fmin(low, report.test.members[j].loss);
        high = fmax(high, report.test.members[j].loss);
    }
    papa_train_report_free(&report);
    return high - low;
}

/* A pull with alpha 0 at the peak rate makes all members equal. It comes after step 57, the last, or not at all. */
static void pulls(void)
{
    PapaTrainOptions o = small_options(NULL);
    o.alpha = 0;
    o.every = 57;
    o.schedule = PAPA_SCHEDULE_CONSTANT;
    double met = spread(o);
    CHECK(met < 1e-5, "after the pull they are %g apart", met);
    o.every = 19;
    met = spread(o);
    CHECK(met < 1e-5, "after the third pull they are %g apart", met);
    o.every = 58;
    double apart = spread(o);
    CHECK(apart > 1e-3, "without a pull they are %g apart", apart);
    o.every = 57;
    o.schedule = PAPA_SCHEDULE_STEPS; /* the rate has fallen to a ten-thousandth: so has the pull */
    o.milestones[0] = 1, o.n_milestones = 1;
    o.gamma = 1e-4f;
    apart = spread(o);
    CHECK(apart > 1e-3, "the pull takes the rate after the step: they are %g apart", apart);
}

/* After epoch 0 all become the mean; in epoch 1 the rate is nearly 0, and nothing is averaged at its end. */
static void averagings(void)
{
    PapaTrainOptions o = small_options(NULL);
    o.epochs = 2;
    o.schedule = PAPA_SCHEDULE_STEPS;
    o.milestones[0] = .5f, o.n_milestones = 1;
    o.gamma = 1e-7f;
    for (int population = 2; population <= 3; population++) {
        o.population = population;
        o.method = PAPA_METHOD_ALL;
        double met = spread(o);
        CHECK(met < 1e-3, "papa-all of %d: %g apart", population, met);
        o.method = PAPA_METHOD_2;
        met = spread(o);
        CHECK(population == 2 ? met < 1e-3 : met > 1e-2, "papa-2 of %d: %g apart", population, met);
    }
    o.epochs = 1;
    o.method = PAPA_METHOD_ALL;
    double apart = spread(o);
    CHECK(apart > 1e-2, "papa-all averages after the last epoch: %g apart", apart);
}

/* ---------------------------------------------------------------- ending early */

static volatile sig_atomic_t stop;

static void stop_soon(void *context, const PapaProgress *progress)
{
    (void)context;
    if (progress->phase == PAPA_PHASE_TRAIN && progress->done > 10)
        stop = 1;
}

static int phases; /* seen so far, a bit each */

static void stop_late(void *context, const PapaProgress *progress)
{
    (void)context;
    phases |= 1 << progress->phase;
    stop = progress->phase == PAPA_PHASE_EVALUATE ? 1 : stop;
}

/* Behind training there is nothing left to cut short: all is written. */
static void stopping_late(void)
{
    PapaHooks hooks = {.progress = stop_late, .stop = &stop};
    PapaTrainOptions o = small_options(scratch("late"));
    PapaTrainReport report;
    stop = 0;
    CHECK_OK(train(&report, "resnet8", &o, &hooks));
    CHECK(stop && !report.stopped && report.n_steps == 3 * 19, "stopped after %d steps", (int)report.n_steps);
    CHECK(phases == (1 << PAPA_PHASE_TRAIN | 1 << PAPA_PHASE_EVALUATE | 1 << PAPA_PHASE_REPAIR | 1 << PAPA_PHASE_SOUP), "phases %x", (unsigned)phases);
    check_files(o.out, &report);
    papa_train_report_free(&report);
}

static void stopping(void)
{
    PapaHooks hooks = {.progress = stop_soon, .stop = &stop};
    PapaTrainOptions o = small_options(scratch("stopped"));
    PapaTrainReport report;
    stop = 0;
    o.epochs = 400;
    CHECK_OK(train(&report, "resnet8", &o, &hooks));
    CHECK(report.stopped && report.n_steps > 0 && report.n_steps < 400 * 19, "stopped after %d steps", (int)report.n_steps);
    check_files(o.out, &report);
    papa_train_report_free(&report);
    o.out = scratch("never");
    CHECK_FAILS(train(&report, "mlp", &o, &hooks), PAPA_ERR_STOPPED, "before the first step");
    CHECK(access(scratch("never"), F_OK) != 0, "a run that did nothing leaves its folder");
}

static void diverging(void)
{
    PapaTrainOptions o = small_options(scratch("diverged"));
    PapaTrainReport report;
    o.lr = 1e20f;
    CHECK_FAILS(train(&report, "mlp", &o, NULL), PAPA_ERR_NUMERIC, "member ");
    CHECK(strstr(papa_error(), "at step ") && !strstr(papa_error(), "-nan"), "%s", papa_error());
    o.lr = 3e38f, o.epochs = 1, o.batch = 396; /* one step: its loss is the first weights' */
    CHECK_FAILS(train(&report, "mlp", &o, NULL), PAPA_ERR_NUMERIC, "the loss on the held-out images is ");
    CHECK(access(o.out, F_OK) != 0, "a run that diverged leaves its folder");
}

/* ---------------------------------------------------------------- refusals */

#define REFUSED(change, code, text)                                                   \
    do {                                                                              \
        PapaTrainOptions o = small_options(NULL);                                     \
        PapaTrainReport report;                                                       \
        change;                                                                       \
        CHECK_FAILS(train(&report, model, &o, NULL), code, text);                     \
    } while (0)

static void refusals(void)
{
    const char *model = "mlp";
    REFUSED(o.alpha = 1.5f, PAPA_ERR_ARGUMENT, "alpha is 1.5");
    REFUSED(o.method = (PapaMethod)17, PAPA_ERR_ARGUMENT, "method is 17");
    REFUSED(o.population = 0, PAPA_ERR_ARGUMENT, "population is 0");
    REFUSED(o.lr = -1, PAPA_ERR_ARGUMENT, "lr is -1");
    REFUSED(o.lr_min = 1, PAPA_ERR_ARGUMENT, "lr_min is 1");
    REFUSED(o.momentum = 1, PAPA_ERR_ARGUMENT, "momentum is 1");
    REFUSED(o.every = 0, PAPA_ERR_ARGUMENT, "every is 0");
    REFUSED(o.epochs = 0, PAPA_ERR_ARGUMENT, "epochs is 0");
    REFUSED(o.weight_decay = NAN, PAPA_ERR_ARGUMENT, "weight_decay is nan");
    REFUSED(o.val_fraction = 1, PAPA_ERR_ARGUMENT, "val_fraction is 1");
    REFUSED(o.erasing = ((PapaGrid){{2}, 1}), PAPA_ERR_ARGUMENT, "erasing is 2");
    REFUSED(o.batch = 1000, PAPA_ERR_ARGUMENT, "batch of 1000");
    REFUSED((o.method = PAPA_METHOD_2, o.population = 1), PAPA_ERR_ARGUMENT, "papa-2");
    REFUSED((o.n_norm = 3, o.std[0] = o.std[1] = o.std[2] = 1), PAPA_ERR_ARGUMENT, "3 values");
    REFUSED(o.device.device = "abacus", PAPA_ERR_ARGUMENT, "abacus");
    REFUSED(o.device.device = "cuda:7", PAPA_ERR_DEVICE, "cuda:7");
    REFUSED(o.data = scratch("nothing"), PAPA_ERR_IO, "nothing");
    REFUSED(o.output = "nonsense", PAPA_ERR_MISMATCH, "nonsense");
    REFUSED(o.freeze = "nonsense*", PAPA_ERR_ARGUMENT, "nonsense*");
    model = "resnet20-cifar";
    REFUSED((void)0, PAPA_ERR_MISMATCH, "3x32x32");
    REFUSED(o.data = NULL, PAPA_ERR_ARGUMENT, "fashion-mnist");
}

/* ---------------------------------------------------------------- small parts */

/* Twelve cells and twelve members: each cell once. */
static void grid(void)
{
    enum { CELLS = 12 };
    PapaTrainOptions o;
    papa_train_defaults(&o);
    o.mixup = (PapaGrid){{0, .5f, 1}, 3};
    o.smoothing = (PapaGrid){{0, .1f}, 2};
    o.cutmix = (PapaGrid){{0, 1}, 2};
    PapaMember members[CELLS + 1] = {0}, other[CELLS + 1] = {0};
    CHECK_OK(papa_deal_recipes(members, CELLS + 1, &o));
    for (int a = 0; a < CELLS; a++) {
        const PapaRecipe *x = &members[a].recipe;
        CHECK(x->erasing == 0 && (x->cutmix == 0 || x->cutmix == 1), "cell %d", a);
        for (int b = 0; b < a; b++) {
            const PapaRecipe *y = &members[b].recipe;
            CHECK(x->mixup != y->mixup || x->smoothing != y->smoothing || x->cutmix != y->cutmix, "members %d and %d have one cell", a, b);
        }
    }
    CHECK(!memcmp(&members[CELLS].recipe, &members[0].recipe, sizeof(PapaRecipe)), "dealt in turn");
    o.seed = 2;
    CHECK_OK(papa_deal_recipes(other, CELLS + 1, &o));
    int same = 0;
    for (int a = 0; a < CELLS; a++)
        same += !memcmp(&members[a].recipe, &other[a].recipe, sizeof(PapaRecipe));
    CHECK(same < CELLS, "another seed deals the same");
}

static void metadata(void)
{
    PapaMetadata m = {0};
    const char *const names[] = {"a", "b\"\\", "c\nd"};
    const double numbers[] = {.5, -1e-20, 3};
    double back[3];
    CHECK_OK(papa_metadata_set(&m, "k", "%d", 1));
    CHECK_OK(papa_metadata_set(&m, "k", "%d", 2));
    CHECK(m.n == 1 && strcmp(m.pairs[0][1], "2") == 0, "replaced");
    CHECK_OK(papa_metadata_set_classes(&m, names, 3));
    CHECK(strcmp(m.pairs[1][1], "[\"a\",\"b\\\"\\\\\",\"c\\u000ad\"]") == 0, "%s", m.pairs[1][1]);
    CHECK_OK(papa_metadata_set_numbers(&m, "n", numbers, 3));
    CHECK(papa_metadata_numbers(m.pairs[2][1], back, 3) && back[0] == .5 && back[1] == -1e-20 && back[2] == 3, "%s", m.pairs[2][1]);
    const double floats[] = {.1f, 1 / 3., 16777216};
    CHECK_OK(papa_metadata_set_numbers(&m, "f", floats, 3));
    CHECK(!strcmp(m.pairs[3][1], "0.1,0.33333333,16777216"), "%s", m.pairs[3][1]);
    CHECK(!papa_metadata_numbers("1,2", back, 3) && !papa_metadata_numbers("1,2,3,4", back, 3) && !papa_metadata_numbers("1,x,3", back,
        3), "lists of other lengths");
    papa_metadata_free(&m);
}

int main(void)
{
    grid();
    metadata();
    refusals();
    methods();
    variants();
    deterministic(PAPA_METHOD_PAPA, 1);
    deterministic(PAPA_METHOD_2, 2);
    pulls();
    averagings();
    stopping_late();
    stopping();
    diverging();
    return check_result();
}
