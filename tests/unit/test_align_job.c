/* Aligning by hand: what the report says of three units, what is refused, and that failures leave nothing behind. */
#include "align/proof.h"
#include "check.h"
#include "jobs/alignment.h"
#include "jobs/diagnose.h"
#include "onnxbuild.h"
#include "scratch.h"

#include <signal.h>
#include <sys/resource.h>

enum { UNITS = 3, N_IN = 2, N_OUT = 2 };

/* Unit u: two weights in, a bias, two weights out. Their squares sum to 2, 3 and 14; products of neighbours are 0, 5 and 3. */
static const float units[UNITS][N_IN + 1 + N_OUT] = {{1, 0, 0, 1, 0}, {0, 1, 1, 0, 1}, {1, 1, 2, 2, 2}};

/* Unit i of the file is units[(i + turn) % 3]. doc: bytes that make the file longer. */
static void write_turned(const char *path, int turn, int doc)
{
    Build b = build_begin();
    float w1[N_IN * UNITS], b1[UNITS], w2[UNITS * N_OUT];
    for (int i = 0; i < UNITS; i++) {
        const float *unit = units[(i + turn) % UNITS];
        for (int k = 0; k < N_IN; k++)
            w1[k * UNITS + i] = unit[k];
        b1[i] = unit[N_IN];
        for (int k = 0; k < N_OUT; k++)
            w2[i * N_OUT + k] = unit[N_IN + 1 + k];
    }
    build_input(&b, "x", 2, (int64_t[]){-1, N_IN});
    build_tensor(&b, "w1", 2, (int64_t[]){N_IN, UNITS}, w1);
    build_tensor(&b, "b1", 1, (int64_t[]){UNITS}, b1);
    build_tensor(&b, "w2", 2, (int64_t[]){UNITS, N_OUT}, w2);
    build_node(&b, "Gemm", "x w1 b1", "h");
    build_node(&b, "Relu", "h", "a");
    build_node(&b, "MatMul", "a w2", "y");
    build_output(&b, "y", 2);
    char *text = build_alloc(&b, (size_t)doc + 1);
    memset(text, 'd', (size_t)doc);
    b.graph.doc_string = text;
    build_write(&b, path);
}

static PapaModel *models[3];

static PapaStatus open_models(int n)
{
    for (int k = 0; k < n; k++)
        PAPA_TRY(papa_model_open(&models[k], scratch("%d.onnx", k)));
    return PAPA_OK;
}

static void close_models(void)
{
    for (int k = 0; k < 3; k++) {
        papa_model_close(models[k]);
        models[k] = NULL;
    }
}

static const PapaModel *const *all(void)
{
    return (const PapaModel *const *)models;
}

/* folder: within the scratch folder; NULL: nothing is written. */
static PapaAlignOptions default_options(const char *folder)
{
    static char out[512];
    PapaAlignOptions options;
    papa_align_defaults(&options);
    snprintf(out, sizeof out, "%s", folder ? scratch("%s", folder) : "");
    options.out = folder ? out : NULL;
    options.judge.device.threads = 1;
    return options;
}

static bool exists(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0;
}

static bool is_near(double x, double y)
{
    return fabs(x - y) < 1e-6;
}

/* ---------------------------------------------------------------- the report */

static void check_written(const char *path)
{
    PapaModel *model;
    float w1[N_IN * UNITS];
    CHECK_OK(papa_model_open(&model, path));
    const Onnx__GraphProto *graph = papa_onnx_graph(model->onnx);
    CHECK_OK(papa_tensor_read_float(model->onnx, graph->initializer[0], w1, N_IN * UNITS));
    for (int i = 0; i < UNITS; i++)
        for (int k = 0; k < N_IN; k++)
            CHECK(w1[k * UNITS + i] == units[i][k], "%s: unit %d, input %d: %g", path, i, k, (double)w1[k * UNITS + i]);
    papa_model_close(model);
}

static void test_report(PapaAlignTo to)
{
    PapaAlignReport r;
    PapaAlignOptions options = default_options("deep/er/out");
    options.to = to;
    for (int k = 0; k < 3; k++)
        write_turned(scratch("%d.onnx", k), k, 0);
    CHECK_OK(open_models(3));
    CHECK_OK(papa_align(&r, all(), 3, &options, NULL));
    CHECK(r.n_models == 3 && r.n_groups == 1, "%d models, %d groups", r.n_models, r.n_groups);
    CHECK(!strcmp(r.groups[0].name, "w1") && r.groups[0].n == 3 && r.groups[0].n_tensors == 3 && !r.groups[0].blocks, "%s: %d tensors", r.groups[0].name,
        r.groups[0].n_tensors);
    CHECK(r.groups[0].proof >= 0 && r.groups[0].proof < 1e-12, "%g", r.groups[0].proof);
    CHECK(r.models[0].moves == NULL && is_near(r.models[0].distance_before, 0));
    for (int k = 1; k < 3; k++) {
        const PapaAlignModel *m = &r.models[k];
        CHECK(m->moves[0].moved == 1, "%g moved", m->moves[0].moved);
        CHECK(is_near(m->moves[0].similarity_before, 8. / 19) && is_near(m->moves[0].similarity_after, 1), "%g, %g", m->moves[0].similarity_before,
            m->moves[0].similarity_after);
        CHECK(is_near(m->distance_before, sqrt(2 * 19 - 2 * 8)) && m->distance_after == 0, "%g, %g", m->distance_before, m->distance_after);
        CHECK(to != PAPA_ALIGN_TO_FIRST || is_near(m->objective, 19), "%g", m->objective);
        CHECK(m->proof < 1e-12 && isnan(m->score.accuracy) && isnan(m->midpoint_after.loss));
        CHECK(m->out && strstr(m->out, scratch("deep/er/out")) == m->out, "%s", m->out);
        check_written(m->out);
    }
    bool stays_in = false, stays_out = false;
    for (int i = 0; i < r.n_pinned; i++) {
        stays_out |= !strcmp(r.pinned[i].tensor, "w2") && r.pinned[i].axis == 1 && r.pinned[i].n == N_OUT && strstr(r.pinned[i].why, "'y'");
        stays_in |= !strcmp(r.pinned[i].tensor, "w1") && r.pinned[i].axis == 0;
    }
    CHECK(stays_in && stays_out, "%d pinned", r.n_pinned);
    papa_align_report_free(&r);
    papa_align_report_free(&r);
    close_models();
    scratch_remove(scratch("deep"));
}

/* One model is looked at only. */
static void test_one(void)
{
    PapaAlignReport r;
    PapaAlignOptions options = default_options(NULL);
    write_turned(scratch("0.onnx"), 0, 0);
    CHECK_OK(open_models(1));
    CHECK_OK(papa_align(&r, all(), 1, &options, NULL));
    CHECK(r.n_models == 1 && r.n_groups == 1 && r.groups[0].proof < 1e-12 && !r.models[0].out);
    papa_align_report_free(&r);
    options = default_options("out");
    CHECK_FAILS(papa_align(&r, all(), 1, &options, NULL), PAPA_ERR_ARGUMENT, "nothing to align it with");
    close_models();
}

/* ---------------------------------------------------------------- wrong groups */

static PapaAlignment *begin(PapaIngredients **ingredients, const PapaAlignOptions *options)
{
    PapaAlignment *alignment = NULL;
    for (int k = 0; k < 2; k++)
        write_turned(scratch("%d.onnx", k), k, 0);
    PapaStatus status = open_models(2);
    if (!status)
        status = papa_ingredients_open(ingredients, all(), 2, NULL);
    if (!status)
        status = papa_alignment_begin(&alignment, *ingredients, options, &options->judge, NULL);
    CHECK(!status, "%s", papa_error());
    return alignment;
}

/* A tensor that a group's derivation forgot. */
static void forget_slots(PapaAlignment *alignment)
{
    alignment->groups->groups[0].n_slots--;
}

static void test_wrong_group(void)
{
    PapaIngredients *ingredients = NULL;
    PapaAlignOptions options = default_options(NULL);
    PapaAlignment *alignment = begin(&ingredients, &options);
    CHECK_OK(papa_alignment_prove_groups(alignment));
    forget_slots(alignment);
    CHECK_FAILS(papa_alignment_prove_groups(alignment), PAPA_ERR_NUMERIC, "0.onnx");
    CHECK(strstr(papa_error(), "w1"), "%s", papa_error());
    papa_alignment_free(alignment);
    papa_ingredients_close(ingredients);
    close_models();
}

/* The result is proved for itself, on its own file. */
static void test_wrong_result(void)
{
    PapaIngredients *ingredients = NULL;
    PapaAlignOptions options = default_options(NULL);
    PapaAlignment *alignment = begin(&ingredients, &options);
    CHECK_OK(papa_alignment_match(alignment, NULL));
    forget_slots(alignment);
    CHECK_OK(papa_alignment_apply(alignment));
    CHECK_FAILS(papa_alignment_prove_results(alignment), PAPA_ERR_NUMERIC, "1.onnx: permuting group 'w1' changes the outputs by");
    papa_ingredients_close(ingredients);
    papa_alignment_free(alignment);
    close_models();
}

/* ---------------------------------------------------------------- nothing half-written */

/* A limit on files' lengths that the first two keep and the third does not. */
static void test_third_file(void)
{
    PapaAlignReport r;
    PapaAlignOptions options = default_options("out");
    struct rlimit old;
    char before[] = "as it was", after[sizeof before] = "";
    for (int k = 0; k < 3; k++)
        write_turned(scratch("%d.onnx", k), k, k == 2 ? 40000 : 0);
    scratch_write(scratch("out/1.onnx"), before, sizeof before);
    CHECK_OK(open_models(3));
    getrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){20000, old.rlim_max});
    PapaStatus status = papa_align(&r, all(), 3, &options, NULL);
    setrlimit(RLIMIT_FSIZE, &old);
    CHECK(status == PAPA_ERR_IO && strstr(papa_error(), "2.onnx"), "%d: %s", status, papa_error());
    CHECK(!exists(scratch("out/0.onnx")), "the first file is there");
    CHECK(scratch_read(scratch("out/1.onnx"), after, sizeof after) == sizeof after && !memcmp(before, after, sizeof before), "a file was written over");
    remove(scratch("out/1.onnx"));
    CHECK(rmdir(scratch("out")) == 0, "something else is in the folder");
    CHECK_OK(papa_align(&r, all(), 3, &options, NULL));
    CHECK(exists(scratch("out/0.onnx")) && exists(scratch("out/1.onnx")) && exists(scratch("out/2.onnx")));
    papa_align_report_free(&r);
    for (int k = 0; k < 3; k++)
        remove(scratch("out/%d.onnx", k));
    CHECK(rmdir(scratch("out")) == 0, "something else is in the folder");
    close_models();
}

/* Sets the flag in a phase. */
typedef struct Stopper {
    PapaPhase phase;
    volatile sig_atomic_t stop;
} Stopper;

static void stop_in_phase(void *context, const PapaProgress *progress)
{
    Stopper *stopper = context;
    stopper->stop |= progress->phase == stopper->phase;
}

static void test_stop(PapaPhase phase)
{
    PapaAlignReport r;
    PapaAlignOptions options = default_options("out");
    Stopper stopper = {.phase = phase};
    PapaHooks hooks = {.context = &stopper, .progress = stop_in_phase, .stop = &stopper.stop};
    for (int k = 0; k < 2; k++)
        write_turned(scratch("%d.onnx", k), k, 0);
    CHECK_OK(open_models(2));
    PapaStatus status = papa_align(&r, all(), 2, &options, &hooks);
    CHECK(stopper.stop && status == PAPA_ERR_STOPPED, "phase %d: status %d, %s", (int)phase, status, papa_error());
    CHECK(!exists(scratch("out")), "something was written");
    close_models();
}

/* A number that is none, in the second file: named. */
static void test_not_finite(void)
{
    PapaAlignReport r;
    PapaAlignOptions options;
    papa_align_defaults(&options);
    write_turned(scratch("0.onnx"), 0, 0);
    Build b = build_begin();
    build_input(&b, "x", 2, (int64_t[]){-1, N_IN});
    build_tensor(&b, "w1", 2, (int64_t[]){N_IN, UNITS}, (float[]){1, 2, 3, 4, INFINITY, 6});
    build_tensor(&b, "b1", 1, (int64_t[]){UNITS}, (float[]){0, 0, 0});
    build_tensor(&b, "w2", 2, (int64_t[]){UNITS, N_OUT}, (float[]){1, 2, 3, 4, 5, 6});
    build_node(&b, "Gemm", "x w1 b1", "h");
    build_node(&b, "Relu", "h", "a");
    build_node(&b, "MatMul", "a w2", "y");
    build_output(&b, "y", 2);
    build_write(&b, scratch("1.onnx"));
    CHECK_OK(open_models(2));
    CHECK_FAILS(papa_align(&r, all(), 2, &options, NULL), PAPA_ERR_NUMERIC, "1.onnx: tensor 'w1' holds inf (element 4)");
    close_models();
}

static void test_options(void)
{
    PapaAlignReport r;
    PapaAlignOptions options = default_options(NULL);
    for (int k = 0; k < 2; k++)
        write_turned(scratch("%d.onnx", k), k, 0);
    CHECK_OK(open_models(2));
    options.restarts = 0;
    CHECK_FAILS(papa_align(&r, all(), 2, &options, NULL), PAPA_ERR_ARGUMENT, "restarts is 0");
    options = default_options(NULL);
    options.max_sweeps = -1;
    CHECK_FAILS(papa_align(&r, all(), 2, &options, NULL), PAPA_ERR_ARGUMENT, "max_sweeps is -1");
    options = default_options(NULL);
    options.method = PAPA_ALIGN_ACTIVATIONS;
    CHECK_FAILS(papa_align(&r, all(), 2, &options, NULL), PAPA_ERR_ARGUMENT, "needs images");
    options.to = PAPA_ALIGN_TO_CYCLE;
    CHECK_FAILS(papa_align(&r, all(), 2, &options, NULL), PAPA_ERR_ARGUMENT, "first model's only");
    options.to = (PapaAlignTo)7;
    CHECK_FAILS(papa_align(&r, all(), 2, &options, NULL), PAPA_ERR_ARGUMENT, "to is 7");
    close_models();
}

/* ---------------------------------------------------------------- where units stand in values */

/* Channels in what the next convolution reads, and behind Flatten, 4 positions each, channels last; nothing of the layer whose output is the network's. */
static void test_values(void)
{
    PapaModel *model;
    PapaGroups *groups;
    Build b = build_begin();
    build_input(&b, "x", 4, (int64_t[]){1, 1, 4, 4});
    build_random(&b, "c1", 4, (int64_t[]){3, 1, 1, 1}, 1);
    build_random(&b, "c2", 4, (int64_t[]){5, 3, 3, 3}, 1);
    build_random(&b, "w", 2, (int64_t[]){20, 6}, 1);
    build_node(&b, "Conv", "x c1", "v1");
    build_node(&b, "Relu", "v1", "a1");
    build_node(&b, "Conv", "a1 c2", "v2");
    build_node(&b, "Relu", "v2", "a2");
    build_ints(build_node(&b, "Transpose", "a2", "t2"), "perm", 4, (int64_t[]){0, 2, 3, 1});
    build_node(&b, "Flatten", "t2", "f");
    build_node(&b, "Gemm", "f w", "y");
    build_output(&b, "y", 2);
    build_write(&b, scratch("values.onnx"));
    CHECK_OK(papa_model_open(&model, scratch("values.onnx")));
    CHECK_OK(papa_groups_derive(&groups, model->onnx, NULL));
    CHECK(groups->n_values == 2, "%d values", groups->n_values);
    for (int i = 0; i < groups->n_values && groups->n_values == 2; i++) {
        const PapaGroupValue *v = &groups->values[i];
        const int64_t n = groups->groups[v->group].n;
        CHECK(!strcmp(v->name, i ? "f" : "a1") && v->axis == 1 && v->length == (i ? 20 : 3) && v->n_parts == (i ? 4 : 1) && n == (i ? 5 : 3), "%s", v->name);
        for (int64_t k = 0; k < n * v->n_parts; k++)
            CHECK(v->at[k] == k % v->n_parts * n + k / v->n_parts, "%s: %lld at %lld", v->name, (long long)k, (long long)v->at[k]);
    }
    papa_groups_free(groups);
    papa_model_close(model);
}

/* ---------------------------------------------------------------- advice */

static void check_advice(PapaDiagnosisModel model, PapaFindings findings, PapaAdvice advice, bool same_init, bool aligned)
{
    PapaArena arena = PAPA_ARENA_INIT;
    CHECK_OK(papa_diagnose_judge(&model, &findings, &arena));
    CHECK(model.advice == advice && model.same_init == same_init && model.aligned == aligned, "advice %d (expected %d), same_init %d, aligned %d: %s",
        (int)model.advice, (int)advice, model.same_init, model.aligned, model.why);
    papa_arena_free(&arena);
}

static void test_advice(void)
{
    /* cosine, after aligning, moved, barrier, after aligning */
#define MODEL(c, ca, m, b, ba) ((PapaDiagnosisModel){.cosine = (c), .cosine_aligned = (ca), .moved = (m), .barrier = (b), .barrier_aligned = (ba)})
    PapaFindings near = {.excess = 100, .n_groups = 3}, far = {.excess = 2, .n_groups = 3}, none = {.excess = NAN}, seen = {.excess = 2, .ends = .4, .n_groups = 3};
    check_advice(MODEL(.95, .95, 0, NAN, NAN), near, PAPA_ADVICE_SOUP, true, true);
    check_advice(MODEL(.01, 1, .98, NAN, NAN), far, PAPA_ADVICE_ALIGN, false, false);
    check_advice(MODEL(.01, .4, .98, NAN, NAN), far, PAPA_ADVICE_ALIGN, false, false);
    check_advice(MODEL(.01, .12, .98, NAN, NAN), far, PAPA_ADVICE_ENSEMBLE, false, false);
    check_advice(MODEL(.5, .5, .01, NAN, NAN), near, PAPA_ADVICE_REPAIR, true, true);
    check_advice(MODEL(.1, .1, .01, NAN, NAN), near, PAPA_ADVICE_ENSEMBLE, true, true);
    check_advice(MODEL(.9, .9, 0, NAN, NAN), none, PAPA_ADVICE_SOUP, true, true);
    check_advice(MODEL(.1, .1, 0, NAN, NAN), none, PAPA_ADVICE_ENSEMBLE, false, true);
    check_advice(MODEL(.1, .2, .9, .03, .01), seen, PAPA_ADVICE_SOUP, false, false);
    check_advice(MODEL(.1, .2, .9, 1.5, .04), seen, PAPA_ADVICE_ALIGN, false, false);
    check_advice(MODEL(.1, .2, .9, 1.5, .25), seen, PAPA_ADVICE_ALIGN, false, false);
    check_advice(MODEL(.1, .2, .9, 1.5, .7), seen, PAPA_ADVICE_ENSEMBLE, false, false);
    check_advice(MODEL(.4, .4, 0, .2, .19), seen, PAPA_ADVICE_REPAIR, false, true);
    check_advice(MODEL(.4, .4, 0, -.003, -.003), seen, PAPA_ADVICE_SOUP, false, true);
    check_advice(MODEL(.9, .9, 0, 1.5, 1.4), seen, PAPA_ADVICE_ENSEMBLE, false, true);
#undef MODEL
}

int main(void)
{
    test_report(PAPA_ALIGN_TO_FIRST);
    test_report(PAPA_ALIGN_TO_MEAN);
    test_report(PAPA_ALIGN_TO_CYCLE);
    test_one();
    test_wrong_group();
    test_wrong_result();
    test_third_file();
    test_stop(PAPA_PHASE_PROVE);
    test_stop(PAPA_PHASE_ALIGN);
    test_options();
    test_not_finite();
    test_values();
    test_advice();
    return check_result();
}
