/* Means, greedy soups and ensembles of hand-computable members. */
#include "base/rng.h"
#include "check.h"
#include "soup/soup.h"

#include <stdlib.h>

static PapaDevice *dev;

/* ---------------------------------------------------------------- mean */

enum { N = 4096 }; /* a multiple of every alignment */

static float *aligned_store(void)
{
    void *store;
    return papa_device_alloc(dev, &store, N * sizeof(float), "a test's store") == PAPA_OK ? store : NULL;
}

static void test_mean(void)
{
    enum { MEMBERS = 5 };
    float *to = aligned_store(), *stores[MEMBERS];
    double weights[MEMBERS] = {.4, .3, .2, .15, -.05};
    PapaStoreLayout layout = {.n_decayed = 16, .n_trained = 64, .n_total = N};
    PapaRng rng = papa_rng(1, PAPA_RNG_TEST, 0, 0, 0);
    for (int k = 0; k < MEMBERS; k++) {
        stores[k] = aligned_store();
        for (int i = 0; i < N; i++)
            stores[k][i] = (float)papa_rng_normal(&rng);
    }
    CHECK_OK(papa_soup_mean(dev, to, (const float *const *)stores, NULL, MEMBERS, &layout));
    for (int i = 0; i < N; i++) {
        double sum = 0;
        for (int k = 0; k < MEMBERS; k++)
            sum += stores[k][i];
        CHECK_NEAR(to[i], sum / MEMBERS, 6e-8 * fabs(sum / MEMBERS));
    }
    CHECK_OK(papa_soup_mean(dev, to, (const float *const *)stores, weights, MEMBERS, &layout));
    for (int i = 0; i < N; i++) {
        double sum = 0;
        for (int k = 0; k < MEMBERS; k++)
            sum += weights[k] * stores[k][i];
        CHECK_NEAR(to[i], sum, 6e-8 * fabs(sum) + 1e-15);
    }
    float before = stores[2][N - 1];
    CHECK_OK(papa_soup_mean(dev, stores[2], (const float *const *)stores, (double[]){0, 0, 2, 0, 0}, MEMBERS, &layout));
    CHECK(stores[2][N - 1] == 2 * before, "in place: %g of %g", stores[2][N - 1], before);
    CHECK_FAILS(papa_soup_mean(dev, to, (const float *const *)stores, NULL, 0, &layout), PAPA_ERR_ARGUMENT, "a soup of 0 models");
    for (int k = 0; k < MEMBERS; k++)
        papa_device_free(dev, stores[k]);
    papa_device_free(dev, to);
}

/* Any number of equal members gives the member, bit for bit. */
static void test_mean_of_equals(void)
{
    float *to = aligned_store(), *store = aligned_store();
    const float *stores[11];
    PapaStoreLayout layout = {.n_total = N};
    PapaRng rng = papa_rng(2, PAPA_RNG_TEST, 0, 0, 0);
    for (int i = 0; i < N; i++)
        store[i] = (float)(papa_rng_normal(&rng) * exp(10 * papa_rng_normal(&rng)));
    double weights[11];
    for (int n = 1; n <= 11; n++) {
        stores[n - 1] = store;
        for (int k = 0; k < n; k++)
            weights[k] = (k + 1) / (n * (n + 1) / 2.0);
        CHECK_OK(papa_soup_mean(dev, to, stores, NULL, n, &layout));
        CHECK(!memcmp(to, store, sizeof(float) * N), "equal weights, %d members", n);
        CHECK_OK(papa_soup_mean(dev, to, stores, weights, n, &layout));
        CHECK(!memcmp(to, store, sizeof(float) * N), "weights, %d members", n);
    }
    papa_device_free(dev, store), papa_device_free(dev, to);
}

/* ---------------------------------------------------------------- greedy */

static void test_order(void)
{
    int order[6];
    papa_soup_order(order, (double[]){.5, NAN, .9, .5, .9, -INFINITY}, 6);
    CHECK(!memcmp(order, (int[]){2, 4, 0, 3, 5, 1}, sizeof order), "%d %d %d %d %d %d", order[0], order[1], order[2], order[3], order[4], order[5]);
}

/* Members are points on a line and the score is the nearness to a target; prepare adds what a re-estimation would: a mark. */
typedef struct Line {
    float target;
    float seen[8]; /* the candidates scored, in order */
    int n_seen, n_prepared;
} Line;

static double nearness(const Line *line, float x)
{
    return -fabs((double)x - line->target);
}

static PapaStatus line_prepare(void *context, float *store)
{
    ((Line *)context)->n_prepared++;
    store[1] = 1;
    return PAPA_OK;
}

static PapaStatus line_score(void *context, const float *store, double *out)
{
    Line *line = context;
    line->seen[line->n_seen++] = store[0];
    *out = nearness(line, store[0]);
    return PAPA_OK;
}

static PapaStatus failing_score(void *context, const float *store, double *out)
{
    (void)context, (void)store, (void)out;
    return papa_fail(PAPA_ERR_NUMERIC, "no score");
}

enum { POINTS = 4, POINT = 16 };

static void points(float stores[POINTS][POINT], const float **pointers, const float *at)
{
    memset(stores, 0, sizeof(float[POINTS][POINT]));
    for (int i = 0; i < POINTS; i++) {
        stores[i][0] = at[i];
        pointers[i] = stores[i];
    }
}

static void test_greedy(void)
{
    _Alignas(64) float stores[POINTS][POINT], to[POINT];
    const float *pointers[POINTS];
    PapaStoreLayout layout = {.n_total = POINT};
    points(stores, pointers, (float[]){5, 1, -2, 2});
    Line line = {.target = 0};
    double scores[POINTS], best;
    bool taken[POINTS];
    for (int i = 0; i < POINTS; i++)
        scores[i] = nearness(&line, stores[i][0]);
    PapaGreedyCalls calls = {.context = &line, .prepare = line_prepare, .score = line_score};

    /* Order 1, -2, 2, 5 (-2 and 2 tie). {1}: 1 -> {1, -2}: .5, taken -> {1, -2, 2}: 1/3, taken -> {1, -2, 2, 5}: 1.5, refused. */
    CHECK_OK(papa_soup_greedy(dev, to, taken, &best, pointers, scores, POINTS, &layout, &calls));
    CHECK(!taken[0] && taken[1] && taken[2] && taken[3], "%d %d %d %d", taken[0], taken[1], taken[2], taken[3]);
    CHECK_NEAR(to[0], 1.0 / 3, 1e-7);
    CHECK_NEAR(best, -1.0 / 3, 1e-7);
    CHECK(line.n_seen == 3 && line.seen[0] == -.5f && line.seen[2] == 1.5f, "%d scored: %g, %g", line.n_seen, line.seen[0], line.seen[2]);
    CHECK(line.n_prepared == 3 && to[1] == 1, "%d prepared", line.n_prepared);
    CHECK(stores[1][1] == 0, "a member was touched");
}

/* Equal is not better; a member that scored NaN comes last and a NaN candidate is refused. */
static void test_greedy_strict(void)
{
    _Alignas(64) float stores[POINTS][POINT], to[POINT];
    const float *pointers[POINTS];
    PapaStoreLayout layout = {.n_total = POINT};
    points(stores, pointers, (float[]){NAN, 3, 3, 3});
    Line line = {.target = 0};
    double scores[POINTS] = {NAN, -3, -3, -3};
    bool taken[POINTS];
    PapaGreedyCalls calls = {.context = &line, .score = line_score};
    CHECK_OK(papa_soup_greedy(dev, to, taken, NULL, pointers, scores, POINTS, &layout, &calls));
    CHECK(!taken[0] && taken[1] && !taken[2] && !taken[3], "%d %d %d %d", taken[0], taken[1], taken[2], taken[3]);
    CHECK(to[0] == 3 && line.n_seen == 3 && isnan(line.seen[2]), "%g, %d scored", to[0], line.n_seen);
    calls.score = failing_score;
    CHECK_FAILS(papa_soup_greedy(dev, to, taken, NULL, pointers, scores, POINTS, &layout, &calls), PAPA_ERR_NUMERIC, "no score");
}

static void test_pruned(void)
{
    _Alignas(64) float stores[POINTS][POINT], to[POINT];
    const float *pointers[POINTS];
    PapaStoreLayout layout = {.n_total = POINT};
    points(stores, pointers, (float[]){5, 1, -2, 2});
    Line line = {.target = 0};
    double scores[POINTS], best;
    bool taken[POINTS];
    for (int i = 0; i < POINTS; i++)
        scores[i] = nearness(&line, stores[i][0]);
    PapaGreedyCalls calls = {.context = &line, .prepare = line_prepare, .score = line_score};

    /* All: 1.5. Without 5: 1/3, out; without 2: -1/2, stays; without -2: 3/2, stays; without 1: 0, out. Again: 2 alone, -2 alone: both stay. */
    CHECK_OK(papa_soup_pruned(dev, to, taken, &best, pointers, scores, POINTS, &layout, &calls));
    CHECK(!taken[0] && !taken[1] && taken[2] && taken[3], "%d %d %d %d", taken[0], taken[1], taken[2], taken[3]);
    CHECK(to[0] == 0 && best == 0 && to[1] == 1, "%g, score %g", to[0], best);
    CHECK(line.n_seen == 7 && line.seen[0] == 1.5f && line.seen[2] == -.5f && line.seen[3] == 1.5f, "%d scored: %g, %g, %g", line.n_seen, line.seen[0],
        line.seen[2], line.seen[3]);
    CHECK(line.n_prepared == 5, "%d prepared", line.n_prepared);
}

/* Equal is not better; a NaN goes; the last one stays, and is as it was. */
static void test_pruned_strict(void)
{
    _Alignas(64) float stores[POINTS][POINT], to[POINT];
    const float *pointers[POINTS];
    PapaStoreLayout layout = {.n_total = POINT};
    points(stores, pointers, (float[]){NAN, 3, 3, 3});
    Line line = {.target = 0};
    bool taken[POINTS];
    PapaGreedyCalls calls = {.context = &line, .prepare = line_prepare, .score = line_score};
    CHECK_OK(papa_soup_pruned(dev, to, taken, NULL, pointers, (double[]){NAN, -3, -3, -3}, POINTS, &layout, &calls));
    CHECK(!taken[0] && taken[1] && taken[2] && taken[3] && to[0] == 3, "%d %d %d %d, %g", taken[0], taken[1], taken[2], taken[3], to[0]);
    points(stores, pointers, (float[]){0, 10, 10, 10});
    line = (Line){.target = 0};
    CHECK_OK(papa_soup_pruned(dev, to, taken, NULL, pointers, (double[]){0, -10}, 2, &layout, &calls));
    CHECK(taken[0] && !taken[1] && to[0] == 0 && to[1] == 0, "%d %d, %g %g", taken[0], taken[1], to[0], to[1]);
    calls.score = failing_score;
    CHECK_FAILS(papa_soup_pruned(dev, to, taken, NULL, pointers, (double[]){0, -10}, 2, &layout, &calls), PAPA_ERR_NUMERIC, "no score");
}

/* ---------------------------------------------------------------- ensembles */

static void test_ensemble(void)
{
    enum { ROWS = 2, CLASSES = 3 };
    const float a[ROWS * CLASSES] = {0, 1, 2, 500, 0, -500}, b[ROWS * CLASSES] = {3, 1, -1, 0, 2, 1};
    double sum[ROWS * CLASSES] = {0};
    float out[ROWS * CLASSES];
    papa_ensemble_add(sum, a, ROWS, CLASSES, .25, PAPA_ENSEMBLE_LOGITS);
    papa_ensemble_add(sum, b, ROWS, CLASSES, .75, PAPA_ENSEMBLE_LOGITS);
    papa_ensemble_finish(out, sum, ROWS, CLASSES, PAPA_ENSEMBLE_LOGITS);
    for (int i = 0; i < ROWS * CLASSES; i++)
        CHECK_NEAR(out[i], .25 * a[i] + .75 * b[i], 1e-5);

    memset(sum, 0, sizeof sum);
    papa_ensemble_add(sum, a, ROWS, CLASSES, .5, PAPA_ENSEMBLE_PROBABILITIES);
    papa_ensemble_add(sum, b, ROWS, CLASSES, .5, PAPA_ENSEMBLE_PROBABILITIES);
    papa_ensemble_finish(out, sum, ROWS, CLASSES, PAPA_ENSEMBLE_PROBABILITIES);
    for (int r = 0; r < ROWS; r++) {
        double za = 0, zb = 0, total = 0;
        for (int c = 0; c < CLASSES; c++)
            za += exp(a[r * CLASSES + c]), zb += exp(b[r * CLASSES + c]);
        for (int c = 0; c < CLASSES; c++) {
            double p = (exp(a[r * CLASSES + c]) / za + exp(b[r * CLASSES + c]) / zb) / 2;
            CHECK_NEAR(exp(out[r * CLASSES + c]), p, 1e-6);
            total += exp(out[r * CLASSES + c]);
        }
        CHECK_NEAR(total, 1, 1e-6);
    }
}

/* No probability is so small that its logarithm, and with it the loss, is infinite. */
static void test_ensemble_underflow(void)
{
    const float a[2] = {2000, -2000};
    double sum[2] = {0};
    float out[2];
    papa_ensemble_add(sum, a, 1, 2, 1, PAPA_ENSEMBLE_PROBABILITIES);
    papa_ensemble_finish(out, sum, 1, 2, PAPA_ENSEMBLE_PROBABILITIES);
    CHECK(out[0] == 0 && isfinite(out[1]) && out[1] < -700, "%g, %g", out[0], out[1]);
}

int main(void)
{
    if (papa_device_open_cpu(&dev, 1) != PAPA_OK)
        return 1;
    test_mean();
    test_mean_of_equals();
    test_order();
    test_greedy();
    test_greedy_strict();
    test_pruned();
    test_pruned_strict();
    test_ensemble();
    test_ensemble_underflow();
    papa_device_close(dev);
    return check_result();
}
