/* Matching of several models, and by similarities. */
#include "matchtest.h"

static PapaDevice *dev;

typedef PapaStatus match_many_fn(PapaMatch *out, const PapaGroups *groups, const PapaMatchTensors *models, int n, const PapaMatchOptions *options);

enum { MODELS = 3 };

static double total_of(const MatchTest *t, float **const *models, int n)
{
    double total = 0, product;
    int64_t **none = match_alloc(t->groups->n_groups, sizeof *none);
    for (int p = 0; p < n; p++)
        for (int q = p + 1; q < n; q++) {
            PapaStatus status = papa_match_objective(&product, t->groups, TENSORS(models[p]), TENSORS(models[q]), (const int64_t *const *)none);
            CHECK(status == PAPA_OK, "%s", papa_error());
            total += product;
        }
    free(none);
    return total;
}

/* The models, permuted as was found. Checks what is said of them. */
static void check_many(const MatchTest *t, const char *what, match_many_fn *match, float **const *models, int n, float ***moved)
{
    PapaMatch matches[MODELS];
    PapaMatchTensors tensors[MODELS] = {NULL};
    for (int m = 0; m < n; m++) {
        moved[m] = NULL;
        tensors[m] = TENSORS(models[m]);
    }
    CHECK_OK(match(matches, t->groups, tensors, n, &t->options));
    for (int m = 0; m < n; m++) {
        for (int g = 0; g < t->groups->n_groups; g++)
            CHECK(match_is_permutation(matches[m].perms[g], t->groups->groups[g].n), "%s: model %d, group %d", what, m, g);
        moved[m] = match_weights_permuted(t->groups, models[m], matches[m].perms);
        CHECK(matches[m].objective == matches[0].objective && matches[m].before == matches[0].before, "%s: model %d: %g", what, m, matches[m].objective);
    }
    CHECK(!match_weights_differ(t->groups, models[0], moved[0]), "%s: the first model moves", what);
    CHECK_NEAR(total_of(t, moved, n), matches[0].objective, 1e-12 * fabs(matches[0].objective));
    CHECK_NEAR(total_of(t, models, n), matches[0].before, 1e-12 * fabs(matches[0].objective));
    CHECK(matches[0].objective >= matches[0].before, "%s: %g from %g", what, matches[0].objective, matches[0].before);
    for (int m = 0; m < n; m++)
        papa_match_free(&matches[m]);
}

/* Each matched to the first by itself. */
static double total_to_first(const MatchTest *t, float **const *models, int n)
{
    float **moved[MODELS];
    for (int m = 0; m < n; m++) {
        PapaMatch match = {0};
        CHECK(papa_match_weights(&match, t->groups, TENSORS(models[0]), TENSORS(models[m]), &t->options) == PAPA_OK, "%s", papa_error());
        moved[m] = match_weights_permuted(t->groups, models[m], match.perms);
        papa_match_free(&match);
    }
    double total = total_of(t, moved, n);
    for (int m = 0; m < n; m++)
        match_weights_free(moved[m], t->groups);
    return total;
}

static void free_all(const MatchTest *t, float ***models, int n)
{
    for (int m = 0; m < n; m++)
        match_weights_free(models[m], t->groups);
}

static void check_copies(const char *name, match_many_fn *match, const char *method)
{
    MatchTest t;
    float **models[MODELS], **moved[MODELS];
    CHECK_OK(match_test_open(&t, name, dev));
    models[0] = match_weights_draw(t.groups, 0);
    for (uint32_t m = 1; m < MODELS; m++) {
        int64_t **perms = match_perms_draw(t.groups, m);
        models[m] = match_weights_permuted(t.groups, models[0], perms);
        match_perms_free(perms, t.groups->n_groups);
    }
    check_many(&t, name, match, models, MODELS, moved);
    for (int m = 1; m < MODELS && moved[m]; m++) {
        const char *different = match_weights_differ(t.groups, models[0], moved[m]);
        CHECK(!different, "%s, %s: %s of model %d does not come back", name, method, different, m);
    }
    free_all(&t, models, MODELS), free_all(&t, moved, MODELS);
    match_test_close(&t);
}

static void check_unrelated(const char *name, match_many_fn *match, const char *method, bool better)
{
    MatchTest t;
    float **models[MODELS], **moved[MODELS];
    CHECK_OK(match_test_open(&t, name, dev));
    t.options.restarts = 2;
    for (uint32_t m = 0; m < MODELS; m++)
        models[m] = match_weights_draw(t.groups, m);
    for (int n = 1; n <= MODELS; n++) {
        check_many(&t, name, match, models, n, moved);
        double total = total_of(&t, moved, n), to_first = total_to_first(&t, models, n);
        CHECK(total >= to_first - 1e-12 * fabs(to_first), "%s, %s of %d: %.12g, %.12g each to the first", name, method, n, total, to_first);
        CHECK(n < MODELS || !better || total > 1.01 * to_first, "%s, %s of %d: %g is no better than each to the first: %g", name, method, n, total,
            to_first);
        free_all(&t, moved, n);
    }
    free_all(&t, models, MODELS);
    match_test_close(&t);
}

/* All at once finds more than one after the other. */
static void check_cycle_is_better(const char *name)
{
    MatchTest t;
    float **models[MODELS], **moved[MODELS];
    double totals[2];
    CHECK_OK(match_test_open(&t, name, dev));
    for (uint32_t m = 0; m < MODELS; m++)
        models[m] = match_weights_draw(t.groups, m);
    for (int k = 0; k < 2; k++) {
        check_many(&t, name, k ? papa_match_cycle : papa_match_mean, models, MODELS, moved);
        totals[k] = total_of(&t, moved, MODELS);
        free_all(&t, moved, MODELS);
    }
    CHECK(totals[1] > 1.004 * totals[0], "%s: %g by cycle, %g by mean", name, totals[1], totals[0]);
    free_all(&t, models, MODELS);
    match_test_close(&t);
}

static void check_refusals(match_many_fn *match)
{
    MatchTest t;
    PapaMatch matches[2];
    volatile sig_atomic_t stop = 1;
    const PapaHooks hooks = {.stop = &stop};
    CHECK_OK(match_test_open(&t, MODEL("lenet"), dev));
    float **a = match_weights_draw(t.groups, 0), **b = match_weights_draw(t.groups, 1);
    const PapaMatchTensors models[] = {TENSORS(a), TENSORS(b)};
    CHECK_FAILS(match(matches, t.groups, models, 0, &t.options), PAPA_ERR_ARGUMENT, "0 models");
    t.options.hooks = &hooks;
    CHECK_FAILS(match(matches, t.groups, models, 2, &t.options), PAPA_ERR_STOPPED, "stopped");
    stop = 0;
    b[0][0] = INFINITY;
    CHECK_FAILS(match(matches, t.groups, models, 2, &t.options), PAPA_ERR_NUMERIC, "model 1: tensor 'conv1.weight'");
    match_weights_free(a, t.groups), match_weights_free(b, t.groups);
    match_test_close(&t);
}

/* ---------------------------------------------------------------- similarities */

/* Of unit u of group g in a, and unit v of group h in b: the inner product of their first slots. */
static double similarity_of(const PapaGroups *groups, float *const *a, float *const *b, int g, int64_t u, int h, int64_t v)
{
    const PapaSlots *s = &groups->groups[g].slots[0], *r = &groups->groups[h].slots[0];
    double sum = 0;
    for (int64_t j = 0; j < s->n_parts; j++)
        for (int64_t x = 0; x < s->n[0]; x++)
            for (int64_t y = 0; y < s->n[1]; y++)
                sum += (double)a[s->tensor][s->base[u * s->n_parts + j] + x * s->stride[0] + y * s->stride[1]] *
                       b[r->tensor][r->base[v * r->n_parts + j] + x * r->stride[0] + y * r->stride[1]];
    return sum;
}

static int counterpart(const PapaMatchPlace *places, int n_groups, int g, int64_t block)
{
    for (int h = 0; h < n_groups; h++)
        if (places[h].blocks == places[g].blocks && places[h].kind == places[g].kind && places[h].block == block)
            return h;
    abort();
}

/* Only groups whose first slots hold no other's units move, so that similarities of first slots find them. */
static void check_similarities(const char *name, const char *held)
{
    MatchTest t;
    CHECK_OK(match_test_open(&t, name, dev));
    const int n_groups = t.groups->n_groups;
    float **a = match_weights_draw(t.groups, 0);
    int64_t **perms = match_perms_draw(t.groups, 5);
    PapaMatchPlace *places = match_alloc(n_groups, sizeof *places);
    double **similarity = match_alloc(n_groups, sizeof *similarity);
    int n_inside = 0;
    CHECK_OK(papa_match_places(places, t.groups));
    for (int g = 0; g < n_groups; g++)
        for (int64_t i = 0; i < t.groups->groups[g].n && strcmp(t.groups->groups[g].name, held) == 0; i++)
            perms[g][i] = i;
    float **b = match_weights_permuted(t.groups, a, perms);
    for (int g = 0; g < n_groups; g++) {
        const bool inside = places[g].blocks >= 0;
        const int64_t n = t.groups->groups[g].n, N = inside ? t.groups->groups[places[g].blocks].n : 1;
        n_inside += inside;
        if (t.groups->groups[g].blocks || strcmp(t.groups->groups[g].name, held) == 0)
            continue;
        similarity[g] = match_alloc(n * n * N, sizeof(double));
        for (int64_t j = 0; j < N; j++) {
            const int h = inside ? counterpart(places, n_groups, g, j) : g;
            for (int64_t u = 0; u < n; u++)
                for (int64_t v = 0; v < n; v++)
                    similarity[g][(u * N + j) * n + v] = similarity_of(t.groups, a, b, g, u, h, v);
        }
    }
    PapaMatch match;
    CHECK_OK(papa_match_similarities(&match, t.groups, (const double *const *)similarity, &t.options));
    float **back = match_weights_permuted(t.groups, b, match.perms);
    const char *different = match_weights_differ(t.groups, a, back);
    CHECK(!different, "%s: by similarities %s does not come back", name, different);
    CHECK(n_inside > 0 && match.objective > match.before, "%s: %d groups inside blocks, %g from %g", name, n_inside, match.objective, match.before);
    papa_match_free(&match);
    for (int g = 0; g < n_groups; g++)
        free(similarity[g]);
    free(similarity), free(places);
    match_perms_free(perms, n_groups);
    match_weights_free(a, t.groups), match_weights_free(b, t.groups), match_weights_free(back, t.groups);
    match_test_close(&t);
}

int main(void)
{
    if (papa_device_open_cpu(&dev, 2) != PAPA_OK) {
        printf("%s\n", papa_error());
        return 1;
    }
    static const char *const copies[] = {MODEL("lenet"), MODEL("resnet8"), MODEL("densenet-tiny"), MODEL("vit-tiny")};
    for (size_t i = 0; i < sizeof copies / sizeof *copies; i++) {
        check_copies(copies[i], papa_match_mean, "mean");
        check_copies(copies[i], papa_match_cycle, "cycle");
    }
    check_copies(write_crossed(), papa_match_cycle, "cycle");
    check_copies(write_grouped(), papa_match_cycle, "cycle");
    check_unrelated(MODEL("lenet"), papa_match_mean, "mean", true);
    check_unrelated(MODEL("lenet"), papa_match_cycle, "cycle", true);
    check_unrelated(MODEL("vit-tiny"), papa_match_mean, "mean", true);
    check_unrelated(write_grouped(), papa_match_cycle, "cycle", false);
    check_unrelated(write_crossed(), papa_match_cycle, "cycle", false);
    check_cycle_is_better(MODEL("resnet8"));
    check_cycle_is_better(MODEL("vit-tiny"));
    check_refusals(papa_match_mean);
    check_refusals(papa_match_cycle);
    check_similarities(MODEL("vit-tiny"), "patches.weight");
    papa_device_close(dev);
    return check_result();
}
