/* REPAIR: the arithmetic of a fold by hand, and on a small network with every form of layer that is corrected. */
#include "base/rng.h"
#include "check.h"
#include "onnxbuild.h"
#include "scratch.h"
#include "soup/repair_fold.h"
#include "soup/soup.h"

static PapaDevice *dev;

/* ---------------------------------------------------------------- arithmetic */

static void test_pooled(void)
{
    enum { PASSES = 3, ROWS = 4 };
    const double x[PASSES][ROWS] = {{1, 2, 3, 4}, {10, 10, 10, 10}, {-7, 0, 7, 100}};
    double mean = 0, squares = 0, arrays[3] = {0};
    PapaPooled pooled = {.n = 1, .mean = &arrays[0], .variance = &arrays[1], .spread = &arrays[2]};
    for (int p = 0; p < PASSES; p++) {
        double m = 0, s = 0;
        for (int r = 0; r < ROWS; r++)
            m += x[p][r] / ROWS, mean += x[p][r] / (PASSES * ROWS);
        for (int r = 0; r < ROWS; r++)
            s += (x[p][r] - m) * (x[p][r] - m) / ROWS;
        papa_pooled_add(&pooled, &(float){(float)m}, &(float){(float)sqrt(s)});
    }
    for (int p = 0; p < PASSES; p++)
        for (int r = 0; r < ROWS; r++)
            squares += (x[p][r] - mean) * (x[p][r] - mean) / (PASSES * ROWS);
    CHECK_NEAR(pooled.mean[0], mean, 1e-6);
    CHECK_NEAR(papa_pooled_std(&pooled, 0), sqrt(squares), 1e-5);
}

/* value[c] = sum_i w[..c..] x[i] + f b[c] before, and goal_mean + s (value[c] - mean) after. */
static void check_fold(int rank, const int64_t *dims, int axis, float factor)
{
    enum { CHANNELS = 3, INNER = 4 };
    _Alignas(64) float store[64] = {0};
    PapaParam params[2] = {
        {.name = "w", .shape = {.rank = rank}, .count = CHANNELS * INNER, .offset = 0},
        {.name = "b", .shape = {1, {CHANNELS}}, .count = CHANNELS, .offset = 16},
    };
    memcpy(params[0].shape.dim, dims, (size_t)rank * sizeof *dims);
    PapaModel model = {.params = params, .n_params = 2, .store = {.n_total = 32}};
    PapaTap tap = {.value = "v", .n_channels = CHANNELS, .weight = 0, .bias = 1, .weight_axis = axis, .bias_factor = factor};
    PapaChannel channels[CHANNELS] = {{1, 2, -3, .5}, {.1, 0, NAN, 1}, {4, 3, 2, NAN}};
    double x[INNER] = {1, -2, .5, 3}, before[CHANNELS], after[CHANNELS];
    for (int i = 0; i < CHANNELS * INNER; i++)
        store[i] = .25f * (float)i - 1;
    for (int c = 0; c < CHANNELS; c++)
        store[16 + c] = 2.0f - (float)c;
    store[40] = 77; /* not the layer's */
    for (int when = 0; when < 2; when++) {
        double *value = when ? after : before;
        for (int c = 0; c < CHANNELS; c++) {
            value[c] = factor * store[16 + c];
            for (int i = 0; i < INNER; i++)
                value[c] += x[i] * store[axis == 0 ? c * INNER + i : i * CHANNELS + c];
        }
        if (!when)
            papa_repair_fold(store, &model, &tap, channels);
    }
    double eps = PAPA_REPAIR_EPSILON, s[CHANNELS] = {sqrt((.25 + eps) / (4 + eps)), sqrt((1 + eps) / eps), 1}, to[CHANNELS] = {-3, .1, 2};
    for (int c = 0; c < CHANNELS; c++)
        CHECK_NEAR(after[c], to[c] + s[c] * (before[c] - channels[c].mean), 1e-5 * (1 + s[c]));
    CHECK(store[40] == 77 && store[15] == 0 && store[31] == 0, "a fold touched its neighbours");
}

/* ---------------------------------------------------------------- a network */

enum { BATCH = 60, BATCHES = 4, PIXELS = 36, MEMBERS = 3 };

/* Convolution without bias, grouped convolution with bias, Gemm with beta, transposed Gemm without bias, MatMul and Add; the last Gemm is the classifier. */
static const char *write_network(void)
{
    const char *path = scratch("layers.onnx");
    Build b = build_begin();
    build_input(&b, "image", 4, (int64_t[]){-1, 1, 6, 6});
    build_random(&b, "w1", 4, (int64_t[]){4, 1, 3, 3}, .4);
    build_ints(build_node(&b, "Conv", "image w1", "v1"), "pads", 4, (int64_t[]){1, 1, 1, 1});
    build_node(&b, "Relu", "v1", "a1");
    build_random(&b, "w2", 4, (int64_t[]){6, 2, 3, 3}, .3);
    build_random(&b, "b2", 1, (int64_t[]){6}, .3);
    build_int(build_node(&b, "Conv", "a1 w2 b2", "v2"), "group", 2);
    build_node(&b, "Relu", "v2", "a2");
    build_node(&b, "Flatten", "a2", "f2");
    build_random(&b, "w3", 2, (int64_t[]){96, 10}, .2);
    build_random(&b, "b3", 1, (int64_t[]){10}, .5);
    build_float(build_node(&b, "Gemm", "f2 w3 b3", "v3"), "beta", .5f);
    build_node(&b, "Relu", "v3", "a3");
    build_random(&b, "w4", 2, (int64_t[]){9, 10}, .4);
    build_int(build_node(&b, "Gemm", "a3 w4", "v4"), "transB", 1);
    build_node(&b, "Relu", "v4", "a4");
    build_random(&b, "w5", 2, (int64_t[]){9, 8}, .4);
    build_random(&b, "b5", 1, (int64_t[]){8}, .3);
    build_node(&b, "MatMul", "a4 w5", "m5");
    build_node(&b, "Add", "b5 m5", "v5");
    build_node(&b, "Relu", "v5", "a5");
    build_random(&b, "w6", 2, (int64_t[]){8, 3}, .5);
    build_node(&b, "Gemm", "a5 w6", "logits");
    build_output(&b, "logits", 2);
    build_write(&b, path);
    return path;
}

typedef struct Fills {
    int calls, per_index[BATCHES];
    int64_t n;
} Fills;

static PapaStatus fill(void *context, PapaWorker *worker, float *input, int64_t n, int batch_index, bool channels_last)
{
    (void)worker, (void)channels_last; /* one channel: the same in either order */
    Fills *fills = context;
    fills->calls++;
    fills->per_index[batch_index]++;
    fills->n = n;
    PapaRng rng = papa_rng(3, PAPA_RNG_TEST, 0, (uint32_t)batch_index, 0);
    for (int64_t i = 0; i < n * PIXELS; i++)
        input[i] = (float)papa_rng_normal(&rng) + (i % 6 < 3 ? .5f : -.25f);
    return PAPA_OK;
}

/* The model, and members with weights of their own: each the file's plus noise, so that the mean has lost variance. */
typedef struct Soup {
    PapaModel *model;
    float *members[MEMBERS], *child;
    Fills fills;
    PapaRepairOptions options;
} Soup;

static void soup_close(Soup *soup)
{
    for (int k = 0; k < MEMBERS; k++)
        papa_device_free(dev, soup->members[k]);
    papa_device_free(dev, soup->child);
    papa_model_close(soup->model);
}

static PapaStatus soup_open_selected(Soup *soup, const char *path, const PapaModelSelection *selection)
{
    *soup = (Soup){.model = NULL};
    PAPA_TRY(papa_model_open(&soup->model, path));
    PAPA_TRY(papa_model_select(soup->model, selection));
    size_t bytes = (size_t)soup->model->store.n_total * sizeof(float);
    for (int k = 0; k < MEMBERS; k++) {
        PAPA_TRY(papa_device_alloc(dev, (void **)&soup->members[k], bytes, "a member"));
        PAPA_TRY(papa_model_read_params(soup->model, soup->members[k]));
        PapaRng rng = papa_rng(4, PAPA_RNG_TEST, k, 0, 0);
        for (int p = 0; p < soup->model->n_params; p++) {
            const PapaParam *param = &soup->model->params[p];
            for (int64_t i = 0; i < param->count && param->trained; i++)
                soup->members[k][param->offset + i] += (float)(.3 * papa_rng_normal(&rng));
        }
    }
    PAPA_TRY(papa_device_alloc(dev, (void **)&soup->child, bytes, "a child"));
    soup->options = (PapaRepairOptions){.batches = BATCHES, .batch = BATCH, .size = {1, 6, 6}, .fill = fill, .context = &soup->fills};
    return papa_soup_mean(dev, soup->child, (const float *const *)soup->members, NULL, MEMBERS, &soup->model->store);
}

static PapaStatus soup_open(Soup *soup, const char *path, const char *freeze)
{
    return soup_open_selected(soup, path, &(PapaModelSelection){.freeze = freeze, .decay_all = true, .make_biases = true});
}

/* Means and standard deviations of the taps over all batches, (2, n_stats), malloc'ed; taps in arena. */
static PapaStatus measure(float **stats, PapaTap **taps, int *n_taps, int64_t *n_stats, const PapaModel *model, PapaArena *arena, float *store)
{
    PapaNet *net;
    PapaWorker *worker;
    PAPA_TRY(papa_model_taps(taps, n_taps, n_stats, model, arena, NULL));
    PapaNetOptions options = {.mode = PAPA_MODE_CALIBRATE, .batch = BATCH * BATCHES, .size = {1, 6, 6}};
    PAPA_TRY(papa_net_compile_tapped(&net, model, &options, *taps, *n_taps, dev));
    PAPA_TRY(papa_worker_new(&worker, (const PapaNet *const *)&net, 1, dev));
    *stats = build_need(calloc(2 * (size_t)*n_stats, sizeof **stats));
    Fills fills = {0};
    for (int i = 0; i < BATCHES; i++)
        PAPA_TRY(fill(&fills, worker, papa_net_input(net, worker) + i * BATCH * PIXELS, BATCH, i, false));
    PAPA_TRY(papa_net_forward_tapped(net, worker, store, &(PapaStepNumbers){.stat_momentum = 0}, *stats, NULL));
    papa_worker_free(worker);
    papa_net_free(net, dev);
    return PAPA_OK;
}

static PapaStatus repair(Soup *soup, float *child, const float *const *parents, const double *weights, int n)
{
    PapaRepair *r;
    PAPA_TRY(papa_repair_new(&r, soup->model, &soup->options, dev, NULL));
    PapaStatus status = papa_repair_run(r, child, parents, weights, n);
    papa_repair_free(r);
    return status;
}

static int find_param(const PapaModel *model, const char *name)
{
    for (int i = 0; i < model->n_params; i++)
        if (!strcmp(model->params[i].name, name))
            return i;
    return -1;
}

/* After the fold, measured afresh on the same images, every channel stands at its goal: sum a_k mean_k, sum a_k std_k. */
static void test_goals_are_met(const double *weights)
{
    Soup soup;
    PapaArena arena = PAPA_ARENA_INIT;
    PapaTap *taps;
    int n_taps;
    int64_t n;
    float *of[MEMBERS], *before, *after, *copies[MEMBERS];
    CHECK_OK(soup_open(&soup, write_network(), NULL));
    size_t bytes = (size_t)soup.model->store.n_total * sizeof(float);
    for (int k = 0; k < MEMBERS; k++) {
        CHECK_OK(measure(&of[k], &taps, &n_taps, &n, soup.model, &arena, soup.members[k]));
        copies[k] = build_need(malloc(bytes));
        memcpy(copies[k], soup.members[k], bytes);
    }
    CHECK(n_taps == 5, "%d taps", n_taps);
    CHECK_OK(papa_soup_mean(dev, soup.child, (const float *const *)soup.members, weights, MEMBERS, &soup.model->store));
    CHECK_OK(measure(&before, &taps, &n_taps, &n, soup.model, &arena, soup.child));
    CHECK_OK(repair(&soup, soup.child, (const float *const *)soup.members, weights, MEMBERS));
    CHECK_OK(measure(&after, &taps, &n_taps, &n, soup.model, &arena, soup.child));
    int n_off = 0;
    for (int t = 0; t < n_taps; t++)
        for (int64_t i = taps[t].offset; i < taps[t].offset + taps[t].n_channels; i++) {
            double mean = 0, std = 0;
            for (int k = 0; k < MEMBERS; k++) {
                double weight = weights ? weights[k] : 1.0 / MEMBERS;
                mean += weight * of[k][i];
                std += weight * of[k][n + i];
            }
            CHECK_NEAR(after[i], mean, 1e-4 * (fabs(mean) + std));
            CHECK_NEAR(after[n + i], std, 1e-3 * std);
            n_off += fabs(before[n + i] - std) > .05 * std;
        }
    CHECK(n_off > 10, "the plain mean is off in %d channels only: this test shows nothing", n_off);
    CHECK(soup.fills.calls == BATCHES * (MEMBERS + 1) && soup.fills.n == BATCH, "%d fills of %lld", soup.fills.calls, (long long)soup.fills.n);
    for (int i = 0; i < BATCHES; i++)
        CHECK(soup.fills.per_index[i] == MEMBERS + 1, "batch %d: %d fills", i, soup.fills.per_index[i]);
    for (int k = 0; k < MEMBERS; k++) {
        CHECK(!memcmp(copies[k], soup.members[k], bytes), "REPAIR changed parent %d", k);
        free(copies[k]), free(of[k]);
    }
    free(before), free(after);
    papa_arena_free(&arena);
    soup_close(&soup);
}

static void test_identity(void)
{
    Soup soup;
    CHECK_OK(soup_open(&soup, write_network(), NULL));
    int64_t n = soup.model->store.n_total;
    memcpy(soup.child, soup.members[0], (size_t)n * sizeof(float));
    CHECK_OK(repair(&soup, soup.child, (const float *[]){soup.members[0], soup.members[0], soup.members[0]}, NULL, 3));
    for (int64_t i = 0; i < n; i++)
        CHECK_NEAR(soup.child[i], soup.members[0][i], 2e-6 * (1 + fabs((double)soup.members[0][i])));
    soup_close(&soup);
}

/* One half of the correction only, seen at the first layer, whose input no correction changes. */
static void test_modes(PapaRepairMode mode)
{
    Soup soup;
    PapaArena arena = PAPA_ARENA_INIT;
    PapaTap *taps;
    int n_taps;
    int64_t n;
    float *of[MEMBERS], *before, *after;
    CHECK_OK(soup_open(&soup, write_network(), NULL));
    soup.options.mode = mode;
    for (int k = 0; k < MEMBERS; k++)
        CHECK_OK(measure(&of[k], &taps, &n_taps, &n, soup.model, &arena, soup.members[k]));
    CHECK_OK(measure(&before, &taps, &n_taps, &n, soup.model, &arena, soup.child));
    CHECK_OK(repair(&soup, soup.child, (const float *const *)soup.members, NULL, MEMBERS));
    CHECK_OK(measure(&after, &taps, &n_taps, &n, soup.model, &arena, soup.child));
    for (int t = 0; t < n_taps; t++)
        for (int64_t i = taps[t].offset; i < taps[t].offset + taps[t].n_channels; i++) {
            double mean = (of[0][i] + of[1][i] + of[2][i]) / 3, std = (of[0][n + i] + of[1][n + i] + of[2][n + i]) / 3;
            if (mode == PAPA_REPAIR_RESHIFT)
                CHECK_NEAR(after[i], mean, 1e-4 * (fabs(mean) + std));
            else
                CHECK_NEAR(after[n + i], std, 1e-3 * std);
            if (t == 0 && mode == PAPA_REPAIR_RESHIFT)
                CHECK_NEAR(after[n + i], before[n + i], 1e-5);
            if (t == 0 && mode == PAPA_REPAIR_RESCALE)
                CHECK_NEAR(after[i], before[i], 1e-5);
        }
    for (int k = 0; k < MEMBERS; k++)
        free(of[k]);
    free(before), free(after);
    papa_arena_free(&arena);
    soup_close(&soup);
}

/* Frozen tensors stay, and the layers behind them meet their goals all the same. */
static void test_frozen(void)
{
    Soup soup;
    PapaArena arena = PAPA_ARENA_INIT;
    PapaTap *taps;
    int n_taps;
    int64_t n;
    float *of[MEMBERS], *after;
    CHECK_OK(soup_open(&soup, write_network(), "w2,b3"));
    const PapaParam *params = soup.model->params;
    static const char *const fixed[] = {"w2", "b2", "w3", "b3", "w6"};
    float *before = build_need(malloc((size_t)soup.model->store.n_total * sizeof(float)));
    memcpy(before, soup.child, (size_t)soup.model->store.n_total * sizeof(float));
    for (int k = 0; k < MEMBERS; k++)
        CHECK_OK(measure(&of[k], &taps, &n_taps, &n, soup.model, &arena, soup.members[k]));
    CHECK_OK(repair(&soup, soup.child, (const float *const *)soup.members, NULL, MEMBERS));
    CHECK_OK(measure(&after, &taps, &n_taps, &n, soup.model, &arena, soup.child));
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) {
        const PapaParam *p = &params[find_param(soup.model, fixed[i])];
        CHECK(!memcmp(before + p->offset, soup.child + p->offset, (size_t)p->count * sizeof(float)), "%s changed", fixed[i]);
    }
    for (int t = 0; t < n_taps; t++)
        for (int64_t i = taps[t].offset; i < taps[t].offset + taps[t].n_channels && t != 1 && t != 2; i++) {
            double mean = (of[0][i] + of[1][i] + of[2][i]) / 3, std = (of[0][n + i] + of[1][n + i] + of[2][n + i]) / 3;
            CHECK_NEAR(after[i], mean, 1e-4 * (fabs(mean) + std));
            CHECK_NEAR(after[n + i], std, 1e-3 * std);
        }
    for (int k = 0; k < MEMBERS; k++)
        free(of[k]);
    free(before), free(after);
    papa_arena_free(&arena);
    soup_close(&soup);
}

/* Where all batches don't fit the budget they go through one by one; the goals are still met, about. */
static void test_several_passes(void)
{
    Soup soup;
    PapaArena arena = PAPA_ARENA_INIT;
    PapaTap *taps;
    int n_taps;
    int64_t n;
    float *of[MEMBERS], *after;
    CHECK_OK(soup_open(&soup, write_network(), NULL));
    for (int k = 0; k < MEMBERS; k++)
        CHECK_OK(measure(&of[k], &taps, &n_taps, &n, soup.model, &arena, soup.members[k]));
    soup.options.arena_budget = 1;
    CHECK_OK(repair(&soup, soup.child, (const float *const *)soup.members, NULL, MEMBERS));
    CHECK(soup.fills.calls == BATCHES * (MEMBERS + 1), "%d fills", soup.fills.calls);
    CHECK_OK(measure(&after, &taps, &n_taps, &n, soup.model, &arena, soup.child));
    for (int t = 0; t < n_taps; t++)
        for (int64_t i = taps[t].offset; i < taps[t].offset + taps[t].n_channels; i++) {
            double mean = (of[0][i] + of[1][i] + of[2][i]) / 3, std = (of[0][n + i] + of[1][n + i] + of[2][n + i]) / 3;
            CHECK_NEAR(after[i], mean, .1 * std);
            CHECK_NEAR(after[n + i], std, .1 * std);
        }
    for (int k = 0; k < MEMBERS; k++)
        free(of[k]);
    free(after);
    papa_arena_free(&arena);
    soup_close(&soup);
}

static void test_not_finite(void)
{
    Soup soup;
    CHECK_OK(soup_open(&soup, write_network(), NULL));
    soup.members[1][soup.model->params[find_param(soup.model, "w3")].offset] = NAN;
    CHECK_FAILS(repair(&soup, soup.child, (const float *const *)soup.members, NULL, MEMBERS), PAPA_ERR_NUMERIC, "model 1: channel 0 of 'v3'");
    soup_close(&soup);
}

/* ---------------------------------------------------------------- BatchNormalization */

static const char *write_normalized(void)
{
    const char *path = scratch("normalized.onnx");
    Build b = build_begin();
    build_input(&b, "image", 4, (int64_t[]){-1, 1, 6, 6});
    build_tensor(&b, "scale0", 1, (int64_t[]){1}, (float[]){1.5f});
    build_tensor(&b, "shift0", 1, (int64_t[]){1}, (float[]){.25f});
    build_tensor(&b, "mean0", 1, (int64_t[]){1}, (float[]){9});
    build_tensor(&b, "var0", 1, (int64_t[]){1}, (float[]){9});
    build_node(&b, "BatchNormalization", "image scale0 shift0 mean0 var0", "n0");
    build_random(&b, "w1", 4, (int64_t[]){3, 1, 3, 3}, .4);
    build_node(&b, "Conv", "n0 w1", "v1");
    build_tensor(&b, "scale1", 1, (int64_t[]){3}, (float[]){1, .5f, 2});
    build_tensor(&b, "shift1", 1, (int64_t[]){3}, (float[]){0, 1, -.5f});
    build_tensor(&b, "mean1", 1, (int64_t[]){3}, (float[]){9, 9, 9});
    build_tensor(&b, "var1", 1, (int64_t[]){3}, (float[]){9, 9, 9});
    build_node(&b, "BatchNormalization", "v1 scale1 shift1 mean1 var1", "n1");
    build_node(&b, "Relu", "n1", "a1");
    build_node(&b, "Flatten", "a1", "f1");
    build_random(&b, "w2", 2, (int64_t[]){48, 5}, .3);
    build_node(&b, "Gemm", "f1 w2", "v2");
    build_node(&b, "Relu", "v2", "a2");
    build_random(&b, "w3", 2, (int64_t[]){5, 3}, .3);
    build_node(&b, "Gemm", "a2 w3", "logits");
    build_output(&b, "logits", 2);
    build_write(&b, path);
    return path;
}

static float *values_of(const Soup *soup, float *store, const char *name)
{
    return store + soup->model->params[find_param(soup->model, name)].offset;
}

/* Population mean and variance of the images of batches first .. last-1. */
static void image_statistics(double *mean, double *variance, int first, int last)
{
    enum { IMAGES = BATCH * PIXELS };
    static float images[IMAGES];
    double sum = 0, squares = 0, n = (double)IMAGES * (last - first);
    Fills unused = {0};
    for (int i = first; i < last; i++) {
        fill(&unused, NULL, images, BATCH, i, true);
        for (int k = 0; k < IMAGES; k++)
            sum += images[k], squares += (double)images[k] * images[k];
    }
    *mean = sum / n;
    *variance = squares / n - *mean * *mean;
}

/* In one pass the statistics are those of all images; in several, the means of the passes' own. Nothing else changes. */
static void test_recalibrate(size_t budget)
{
    Soup soup;
    PapaRepair *r;
    double mean = 0, variance = 0;
    CHECK_OK(soup_open(&soup, write_normalized(), NULL));
    soup.options.arena_budget = budget;
    size_t bytes = (size_t)soup.model->store.n_total * sizeof(float);
    float *before = build_need(malloc(bytes));
    memcpy(before, soup.child, bytes);
    CHECK_OK(papa_repair_new(&r, soup.model, &soup.options, dev, NULL));
    CHECK(papa_repair_has_statistics(r) && papa_repair_layers(r) == 1, "%d layers", papa_repair_layers(r));
    CHECK_OK(papa_repair_recalibrate(r, soup.child));
    papa_repair_free(r);
    CHECK(soup.fills.calls == BATCHES, "%d fills", soup.fills.calls);
    if (budget) {
        for (int i = 0; i < BATCHES; i++) {
            double m, v;
            image_statistics(&m, &v, i, i + 1);
            mean += m / BATCHES, variance += v / BATCHES;
        }
    } else
        image_statistics(&mean, &variance, 0, BATCHES);
    CHECK_NEAR(*values_of(&soup, soup.child, "mean0"), mean, 1e-5);
    CHECK_NEAR(*values_of(&soup, soup.child, "var0"), variance, 1e-5);

    /* Behind BatchNormalization with batch statistics the convolution's output can be measured with a tap. */
    PapaTap tap = {.value = "v1", .n_channels = 3};
    PapaNetOptions options = {.mode = PAPA_MODE_CALIBRATE, .batch = BATCH * (budget ? 1 : BATCHES), .size = {1, 6, 6}};
    double mean1[3] = {0}, variance1[3] = {0};
    PapaNet *net;
    PapaWorker *worker;
    CHECK_OK(papa_net_compile_tapped(&net, soup.model, &options, &tap, 1, dev));
    CHECK_OK(papa_worker_new(&worker, (const PapaNet *const *)&net, 1, dev));
    int passes = budget ? BATCHES : 1;
    for (int p = 0; p < passes; p++) {
        float stats[2 * PAPA_STORE_ALIGN];
        Fills unused = {0};
        for (int i = 0; i < BATCHES / passes; i++)
            fill(&unused, worker, papa_net_input(net, worker) + i * BATCH * PIXELS, BATCH, p + i, true);
        CHECK_OK(papa_net_forward_tapped(net, worker, before, &(PapaStepNumbers){.stat_momentum = 1}, stats, NULL));
        for (int c = 0; c < 3; c++) {
            mean1[c] += (double)stats[c] / passes;
            variance1[c] += (double)stats[PAPA_STORE_ALIGN + c] * stats[PAPA_STORE_ALIGN + c] / passes;
        }
    }
    for (int c = 0; c < 3; c++) {
        CHECK_NEAR(values_of(&soup, soup.child, "mean1")[c], mean1[c], 1e-4);
        CHECK_NEAR(values_of(&soup, soup.child, "var1")[c], variance1[c], 1e-4);
    }
    CHECK(!memcmp(before, soup.child, (size_t)soup.model->store.n_trained * sizeof(float)), "a trained tensor changed");
    papa_worker_free(worker);
    papa_net_free(net, dev);
    free(before);
    soup_close(&soup);
}

/* A network with both kinds of layer: one call corrects the hidden Gemm and re-estimates, and leaves the normalised convolution alone. */
static void test_repair_with_normalization(void)
{
    Soup soup;
    PapaRepair *r;
    CHECK_OK(soup_open(&soup, write_normalized(), NULL));
    float *alone = soup.members[2]; /* not a parent here */
    size_t bytes = (size_t)soup.model->store.n_total * sizeof(float);
    memcpy(alone, soup.child, bytes);
    CHECK_OK(papa_repair_new(&r, soup.model, &soup.options, dev, NULL));
    CHECK_OK(papa_repair_run(r, soup.child, (const float *const *)soup.members, NULL, 2));
    CHECK_OK(papa_repair_recalibrate(r, alone));
    papa_repair_free(r);
    static const char *const same[] = {"scale0", "w1", "scale1", "shift1", "mean0", "var0", "mean1", "var1", "w3"};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        CHECK(!memcmp(values_of(&soup, soup.child, same[i]), values_of(&soup, alone, same[i]),
            (size_t)soup.model->params[find_param(soup.model, same[i])].count * sizeof(float)), "%s differs", same[i]);
    CHECK(*values_of(&soup, soup.members[0], "mean0") == 9, "a parent's statistics changed");
    CHECK(memcmp(values_of(&soup, soup.child, "w2"), values_of(&soup, alone, "w2"), 48 * 5 * sizeof(float)), "w2 was not corrected");
    soup_close(&soup);
}

/* What stands in front of a BatchNormalization is then a layer like the others: its goals are met, too. */
static void test_frozen_statistics(void)
{
    Soup soup;
    PapaRepair *r;
    PapaArena arena = PAPA_ARENA_INIT;
    PapaTap *taps;
    int n_taps;
    int64_t n;
    float *of[MEMBERS], *after;
    CHECK_OK(soup_open_selected(&soup, write_normalized(), &(PapaModelSelection){.freeze_bn = true, .decay_all = true, .make_biases = true}));
    for (int k = 0; k < MEMBERS; k++)
        CHECK_OK(measure(&of[k], &taps, &n_taps, &n, soup.model, &arena, soup.members[k]));
    CHECK_OK(papa_repair_new(&r, soup.model, &soup.options, dev, NULL));
    CHECK(!papa_repair_has_statistics(r), "statistics are frozen");
    CHECK_OK(papa_repair_recalibrate(r, soup.child));
    CHECK_OK(papa_repair_run(r, soup.child, (const float *const *)soup.members, NULL, MEMBERS));
    papa_repair_free(r);
    CHECK(*values_of(&soup, soup.child, "mean0") == 9 && *values_of(&soup, soup.child, "var1") == 9, "frozen statistics changed");
    CHECK_OK(measure(&after, &taps, &n_taps, &n, soup.model, &arena, soup.child));
    CHECK(n_taps == 2 && !strcmp(taps[0].value, "v1"), "%d layers, the first is %s", n_taps, taps[0].value);
    for (int t = 0; t < n_taps; t++)
        for (int64_t i = taps[t].offset; i < taps[t].offset + taps[t].n_channels; i++) {
            double mean = (of[0][i] + of[1][i] + of[2][i]) / 3, std = (of[0][n + i] + of[1][n + i] + of[2][n + i]) / 3;
            CHECK_NEAR(after[i], mean, 1e-4 * (fabs(mean) + std));
            CHECK_NEAR(after[n + i], std, 1e-3 * std);
        }
    for (int k = 0; k < MEMBERS; k++)
        free(of[k]);
    free(after);
    papa_arena_free(&arena);
    soup_close(&soup);
}

int main(void)
{
    if (papa_device_open_cpu(&dev, 1) != PAPA_OK)
        return 1;
    test_pooled();
    check_fold(4, (int64_t[]){3, 1, 2, 2}, 0, 1);
    check_fold(2, (int64_t[]){3, 4}, 0, 1);
    check_fold(2, (int64_t[]){4, 3}, 1, -.5f);
    check_fold(4, (int64_t[]){2, 2, 3, 1}, 2, 2);
    test_goals_are_met(NULL);
    test_goals_are_met((double[]){.6, .3, .1});
    test_identity();
    test_modes(PAPA_REPAIR_RESCALE);
    test_modes(PAPA_REPAIR_RESHIFT);
    test_frozen();
    test_several_passes();
    test_not_finite();
    test_recalibrate(0);
    test_recalibrate(1);
    test_repair_with_normalization();
    test_frozen_statistics();
    papa_device_close(dev);
    return check_result();
}
