/* Matching of units: what was scrambled comes back, what is found is never worse than what there was, small cases are solved exactly. */
#include "align/match_parts.h"
#include "matchtest.h"

static PapaDevice *dev;

/* ---------------------------------------------------------------- scrambled models come back */

enum { SCRAMBLES = 20 };

static void check_comes_back(const char *name)
{
    MatchTest t;
    int first = 0;
    CHECK_OK(match_test_open(&t, name, dev));
    float **a = match_weights_draw(t.groups, 0);
    double *cosines = match_alloc(t.groups->n_groups, sizeof *cosines);
    for (uint32_t k = 0; k < SCRAMBLES; k++) {
        int64_t **perms = match_perms_draw(t.groups, k);
        float **b = match_weights_permuted(t.groups, a, perms);
        PapaMatch match;
        CHECK(match_weights_differ(t.groups, a, b), "%s: scramble %u moves nothing", name, k);
        CHECK_OK(papa_match_weights(&match, t.groups, TENSORS(a), TENSORS(b), &t.options));
        float **back = match_weights_permuted(t.groups, b, match.perms);
        const char *different = match_weights_differ(t.groups, a, back);
        CHECK(!different, "%s: scramble %u: %s does not come back (%g of %g)", name, k, different, match.objective, match.before);
        CHECK_OK(papa_match_cosines(cosines, t.groups, TENSORS(a), TENSORS(b), (const int64_t *const *)match.perms));
        for (int g = 0; g < t.groups->n_groups; g++)
            CHECK_NEAR(cosines[g], 1, 1e-12);
        first += match.restart == 0;
        match_weights_free(back, t.groups);
        match_weights_free(b, t.groups);
        match_perms_free(perms, t.groups->n_groups);
        papa_match_free(&match);
    }
    free(cosines);
    CHECK(first == SCRAMBLES, "%s: the first search finds %d of %d", name, first, SCRAMBLES);
    match_weights_free(a, t.groups);
    match_test_close(&t);
}

/* ---------------------------------------------------------------- small networks */

static double objective_of(const MatchTest *t, float *const *a, float *const *b, int64_t *const *perms)
{
    double objective = NAN;
    PapaStatus status = papa_match_objective(&objective, t->groups, TENSORS(a), TENSORS(b), (const int64_t *const *)perms);
    CHECK(status == PAPA_OK, "%s", papa_error());
    return objective;
}

/* The next permutation in lexicographic order; false behind the last. */
static bool next_permutation(int64_t *perm, int64_t n)
{
    int64_t i = n - 2, j = n - 1;
    while (i >= 0 && perm[i] > perm[i + 1])
        i--;
    if (i < 0)
        return false;
    while (perm[j] < perm[i])
        j--;
    int64_t held = perm[i];
    perm[i] = perm[j], perm[j] = held;
    for (int64_t l = i + 1, r = n - 1; l < r; l++, r--)
        held = perm[l], perm[l] = perm[r], perm[r] = held;
    return true;
}

/* No permutation of one group alone is better than what was found: all are tried. */
static void check_best(const char *path)
{
    MatchTest t;
    CHECK_OK(match_test_open(&t, path, dev));
    for (uint32_t k = 0; k < 10; k++) {
        float **a = match_weights_draw(t.groups, 2 * k), **b = match_weights_draw(t.groups, 2 * k + 1);
        PapaMatch match;
        CHECK_OK(papa_match_weights(&match, t.groups, TENSORS(a), TENSORS(b), &t.options));
        for (int g = 0; g < t.groups->n_groups; g++) {
            int64_t n = t.groups->groups[g].n, *found = match.perms[g], *perm = match.perms[g] = match_alloc(n, sizeof *perm);
            double best = -INFINITY;
            for (int64_t i = 0; i < n; i++)
                perm[i] = i;
            do
                best = fmax(best, objective_of(&t, a, b, match.perms));
            while (next_permutation(perm, n));
            CHECK(match.objective >= best - 1e-6 * fabs(best) && match.objective <= best + 1e-12 * fabs(best),
                "%s: weights %u, group %d: %.12g found, %.12g is best", path, k, g, match.objective, best);
            match.perms[g] = found;
            free(perm);
        }
        papa_match_free(&match);
        match_weights_free(a, t.groups), match_weights_free(b, t.groups);
    }
    match_test_close(&t);
}

/* ---------------------------------------------------------------- models that have nothing to do with each other */

static void check_unrelated(const char *name)
{
    MatchTest t;
    CHECK_OK(match_test_open(&t, name, dev));
    float **a = match_weights_draw(t.groups, 0), **b = match_weights_draw(t.groups, 1);
    double *cosines = match_alloc(2 * t.groups->n_groups, sizeof *cosines), last = -INFINITY;
    int64_t **none = match_alloc(t.groups->n_groups, sizeof *none);
    PapaMatch match;
    for (int sweeps = 1; sweeps <= 5; sweeps++) {
        t.options.max_sweeps = sweeps;
        CHECK_OK(papa_match_weights(&match, t.groups, TENSORS(a), TENSORS(b), &t.options));
        CHECK(match.objective >= last && match.objective > match.before, "%s: %g after %d sweeps, %g one earlier, %g before", name, match.objective, sweeps,
            last, match.before);
        last = match.objective;
        papa_match_free(&match);
    }
    t.options.max_sweeps = 100;
    for (int restarts = 1; restarts <= 4; restarts++) {
        t.options.restarts = restarts;
        CHECK_OK(papa_match_weights(&match, t.groups, TENSORS(a), TENSORS(b), &t.options));
        CHECK(match.objective >= last && match.restart < restarts && match.sweeps >= 1, "%s: %g with %d searches, %g with one less", name, match.objective,
            restarts, last);
        last = match.objective;
        for (int g = 0; g < t.groups->n_groups; g++)
            CHECK(match_is_permutation(match.perms[g], t.groups->groups[g].n), "%s: group %d", name, g);
        CHECK_NEAR(objective_of(&t, a, b, match.perms), match.objective, 1e-12 * match.objective);
        CHECK_NEAR(objective_of(&t, a, b, none), match.before, 1e-12 * match.objective);
        CHECK_OK(papa_match_cosines(cosines, t.groups, TENSORS(a), TENSORS(b), (const int64_t *const *)match.perms));
        CHECK_OK(papa_match_cosines(cosines + t.groups->n_groups, t.groups, TENSORS(a), TENSORS(b), (const int64_t *const *)none));
        double rise = 0; /* one group's may fall for the others' sake */
        for (int g = 0; g < t.groups->n_groups; g++) {
            CHECK(cosines[g] > -.5 && cosines[g] < 1, "%s: group %d: cosine %g", name, g, cosines[g]);
            rise += cosines[g] - cosines[t.groups->n_groups + g];
        }
        CHECK(rise > .1 * t.groups->n_groups, "%s: cosines rise by %g in all", name, rise);
        papa_match_free(&match);
    }
    free(cosines), free(none);
    match_weights_free(a, t.groups), match_weights_free(b, t.groups);
    match_test_close(&t);
}

/* A scrambled model with noise: what is found is worth at least what undoing the scramble is. */
static void check_noisy(const char *name)
{
    MatchTest t;
    CHECK_OK(match_test_open(&t, name, dev));
    float **a = match_weights_draw(t.groups, 0), **noise = match_weights_draw(t.groups, 1);
    int64_t **perms = match_perms_draw(t.groups, 3), **none = match_alloc(t.groups->n_groups, sizeof *none);
    for (int i = 0; i < t.groups->n_tensors; i++)
        for (int64_t k = 0; k < t.groups->tensors[i].count; k++)
            noise[i][k] = a[i][k] + .3f * noise[i][k];
    double undone = objective_of(&t, a, noise, none);
    float **b = match_weights_permuted(t.groups, noise, perms);
    PapaMatch match;
    CHECK_OK(papa_match_weights(&match, t.groups, TENSORS(a), TENSORS(b), &t.options));
    CHECK(match.objective >= undone * (1 - 1e-12), "%s: %g found, undoing the scramble is %g", name, match.objective, undone);
    papa_match_free(&match);
    match_perms_free(perms, t.groups->n_groups), free(none);
    match_weights_free(a, t.groups), match_weights_free(b, t.groups), match_weights_free(noise, t.groups);
    match_test_close(&t);
}

/* However many threads there are. */
static void check_threads(const char *name)
{
    MatchTest t;
    PapaMatch matches[3];
    CHECK_OK(match_test_open(&t, name, dev));
    float **a = match_weights_draw(t.groups, 0), **b = match_weights_draw(t.groups, 1);
    for (int i = 0; i < 3; i++) {
        PapaDevice *other;
        CHECK_OK(papa_device_open_cpu(&other, i + 1));
        t.options.dev = other;
        t.options.max_sweeps = 3;
        CHECK_OK(papa_match_weights(&matches[i], t.groups, TENSORS(a), TENSORS(b), &t.options));
        papa_device_close(other);
        CHECK(matches[i].objective == matches[0].objective && matches[i].sweeps == matches[0].sweeps, "%s: %d threads: %.17g, one: %.17g", name, i + 1,
            matches[i].objective, matches[0].objective);
        for (int g = 0; g < t.groups->n_groups; g++)
            CHECK(!memcmp(matches[i].perms[g], matches[0].perms[g], (size_t)t.groups->groups[g].n * sizeof(int64_t)), "%s: %d threads, group %d", name,
                i + 1, g);
    }
    CHECK_OK(papa_device_enter(dev));
    for (int i = 0; i < 3; i++)
        papa_match_free(&matches[i]);
    match_weights_free(a, t.groups), match_weights_free(b, t.groups);
    match_test_close(&t);
}

/* Units so much alike that float32 can't tell them apart (spread 0: nobody can): what the costs say is not taken, and the search ends. */
static void check_alike(const char *name, float spread)
{
    MatchTest t;
    PapaMatch match;
    CHECK_OK(match_test_open(&t, name, dev));
    float **a = match_weights_draw(t.groups, 0);
    for (int i = 0; i < t.groups->n_tensors; i++)
        for (int64_t k = 0; k < t.groups->tensors[i].count; k++)
            a[i][k] = 100 + spread * a[i][k];
    t.options.restarts = 3;
    CHECK_OK(papa_match_weights(&match, t.groups, TENSORS(a), TENSORS(a), &t.options));
    for (int g = 0; g < t.groups->n_groups; g++)
        for (int64_t i = 0; i < t.groups->groups[g].n; i++)
            CHECK(match.perms[g][i] == i, "%s: group %d: unit %lld moves for nothing", name, g, (long long)i);
    CHECK(match.restart == 0 && match.sweeps == 2, "%s: search %d, %d sweeps", name, match.restart, match.sweeps);
    papa_match_free(&match);
    match_weights_free(a, t.groups);
    match_test_close(&t);
}

/* A product that oneDNN shares out among threads so that they sum in another order. */
static void check_product_threads(void)
{
    enum { UNITS = 128, COLUMNS = 4096 };
    float *a = match_alloc(UNITS * COLUMNS, sizeof *a), *b = match_alloc(UNITS * COLUMNS, sizeof *b);
    static float products[4][UNITS * UNITS];
    groups_draw(a, UNITS * COLUMNS, 1, 0, 1);
    groups_draw(b, UNITS * COLUMNS, 2, 0, 1);
    for (int i = 0; i < 4; i++) {
        PapaMatchRoom room = {0};
        CHECK_OK(papa_device_open_cpu(&room.dev, i + 1));
        room.one = *room.dev;
        room.one.n_threads = 1;
        CHECK_OK(papa_match_product(&room, products[i], a, b, UNITS, UNITS, COLUMNS, true, false));
        CHECK(!memcmp(products[i], products[0], sizeof products[0]), "%d threads sum in another order", i + 1);
        papa_device_close(room.dev);
    }
    CHECK_OK(papa_device_enter(dev));
    free(a), free(b);
}

/* Nothing but units along both axes of one tensor: what the costs promise may not come true, and is then left alone. */
static void check_crossed_alone(void)
{
    MatchTest t;
    CHECK_OK(match_test_open(&t, write_crossed(), dev));
    const float **only = match_alloc(t.groups->n_tensors, sizeof *only);
    for (uint32_t k = 0; k < 20; k++) {
        float **a = match_weights_draw(t.groups, 2 * k), **b = match_weights_draw(t.groups, 2 * k + 1);
        double last = -INFINITY;
        for (int i = 0; i < t.groups->n_tensors; i++)
            only[i] = strcmp(t.groups->tensors[i].name, "c.w") == 0 ? b[i] : NULL;
        for (t.options.max_sweeps = 2; t.options.max_sweeps <= 5; t.options.max_sweeps++) {
            PapaMatch match;
            CHECK_OK(papa_match_weights(&match, t.groups, TENSORS(a), only, &t.options));
            CHECK(match.objective >= last && match.objective >= match.before, "weights %u: %g after %d sweeps, %g one earlier", k, match.objective,
                t.options.max_sweeps, last);
            last = match.objective;
            papa_match_free(&match);
        }
        match_weights_free(a, t.groups), match_weights_free(b, t.groups);
    }
    free(only);
    match_test_close(&t);
}

/* One set of permutations behind another, and what undoes one, do to tensors what they say; blocks with units inside them are the hard part. */
static void check_sets(const char *name)
{
    MatchTest t;
    PapaMatchSetup *setup;
    int64_t **undo;
    CHECK_OK(match_test_open(&t, name, dev));
    CHECK_OK(papa_match_setup(&setup, t.groups, NULL, 0));
    CHECK(setup->n_families > 0 && setup->families[0].n_kinds > 0, "%s: no units inside blocks", name);
    CHECK_OK(papa_match_perms_new(&undo, setup));
    int64_t **first = match_perms_draw(t.groups, 1), **second = match_perms_draw(t.groups, 2);
    int64_t *scratch = match_alloc(3 * setup->most_units, sizeof *scratch);
    float **a = match_weights_draw(t.groups, 0), **once = match_weights_permuted(t.groups, a, first);
    float **twice = match_weights_permuted(t.groups, once, second);
    papa_match_undo(setup, undo, first, scratch);
    float **undone = match_weights_permuted(t.groups, once, undo);
    CHECK(!match_weights_differ(t.groups, a, undone), "%s: %s is not undone", name, match_weights_differ(t.groups, a, undone));
    papa_match_then(setup, first, second, scratch);
    float **composed = match_weights_permuted(t.groups, a, first);
    CHECK(!match_weights_differ(t.groups, twice, composed), "%s: %s: one set behind another", name, match_weights_differ(t.groups, twice, composed));
    float **all[] = {a, once, twice, undone, composed};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        match_weights_free(all[i], t.groups);
    papa_match_perms_free(undo, t.groups->n_groups);
    match_perms_free(first, t.groups->n_groups), match_perms_free(second, t.groups->n_groups);
    free(scratch);
    papa_match_setup_free(setup);
    match_test_close(&t);
}

/* ---------------------------------------------------------------- what can't be done */

static int n_progress;

static void count_progress(void *context, const PapaProgress *progress)
{
    n_progress++;
    *(PapaProgress *)context = *progress;
}

static void check_refusals(void)
{
    MatchTest t;
    PapaMatch match;
    PapaProgress last = {0};
    volatile sig_atomic_t stop = 1;
    CHECK_OK(match_test_open(&t, MODEL("lenet"), dev));
    float **a = match_weights_draw(t.groups, 0), **b = match_weights_draw(t.groups, 1);
    t.options.restarts = 0;
    CHECK_FAILS(papa_match_weights(&match, t.groups, TENSORS(a), TENSORS(b), &t.options), PAPA_ERR_ARGUMENT, "0 searches");
    t.options.restarts = 3;
    b[1][2] = NAN;
    CHECK_FAILS(papa_match_weights(&match, t.groups, TENSORS(a), TENSORS(b), &t.options), PAPA_ERR_NUMERIC, t.groups->tensors[1].name);
    CHECK_FAILS(papa_match_weights(&match, t.groups, TENSORS(a), TENSORS(b), &t.options), PAPA_ERR_NUMERIC, "element 2 is nan");
    b[1][2] = 0;
    a[0][0] = b[0][0] = 3e38f;
    CHECK_FAILS(papa_match_weights(&match, t.groups, TENSORS(a), TENSORS(b), &t.options), PAPA_ERR_NUMERIC, "group 'conv1.weight'");
    a[0][0] = b[0][0] = 1;
    PapaHooks hooks = {.context = &last, .progress = count_progress, .stop = &stop};
    t.options.hooks = &hooks;
    CHECK_FAILS(papa_match_weights(&match, t.groups, TENSORS(a), TENSORS(b), &t.options), PAPA_ERR_STOPPED, "stopped");
    stop = 0;
    CHECK_OK(papa_match_weights(&match, t.groups, TENSORS(a), TENSORS(b), &t.options));
    CHECK(n_progress >= 1 && last.phase == PAPA_PHASE_ALIGN && last.done == 3 && last.total == 3, "%d calls, the last at %lld of %lld", n_progress,
        (long long)last.done, (long long)last.total);
    papa_match_free(&match);
    match_weights_free(a, t.groups), match_weights_free(b, t.groups);
    match_test_close(&t);
}

/* Tensors that one of the models lacks are not looked at; models without any that count stay as they are. */
static void check_missing(void)
{
    MatchTest t;
    PapaMatch match;
    CHECK_OK(match_test_open(&t, MODEL("lenet"), dev));
    float **a = match_weights_draw(t.groups, 0);
    int64_t **perms = match_perms_draw(t.groups, 0);
    float **b = match_weights_permuted(t.groups, a, perms);
    const float **some = match_alloc(t.groups->n_tensors, sizeof *some), **none = match_alloc(t.groups->n_tensors, sizeof *none);
    for (int i = 0; i < t.groups->n_tensors; i++)
        some[i] = t.groups->tensors[i].role == PAPA_ROLE_BIAS ? NULL : b[i];
    CHECK_OK(papa_match_weights(&match, t.groups, TENSORS(a), some, &t.options));
    float **back = match_weights_permuted(t.groups, b, match.perms);
    CHECK(!match_weights_differ(t.groups, a, back), "without biases %s does not come back", match_weights_differ(t.groups, a, back));
    papa_match_free(&match);
    match_weights_free(back, t.groups);
    CHECK_OK(papa_match_weights(&match, t.groups, TENSORS(a), none, &t.options));
    for (int g = 0; g < t.groups->n_groups; g++)
        for (int64_t i = 0; i < t.groups->groups[g].n; i++)
            CHECK(match.perms[g][i] == i, "group %d: unit %lld moves for nothing", g, (long long)i);
    CHECK(match.objective == 0 && match.before == 0, "%g, %g before", match.objective, match.before);
    papa_match_free(&match);
    free(some), free(none);
    match_perms_free(perms, t.groups->n_groups);
    match_weights_free(a, t.groups), match_weights_free(b, t.groups);
    match_test_close(&t);
}

int main(void)
{
    if (papa_device_open_cpu(&dev, 2) != PAPA_OK) {
        printf("%s\n", papa_error());
        return 1;
    }
    static const char *const models[] = {MODEL("lenet"), MODEL("mlp"), MODEL("vgg"), MODEL("resnet8"), MODEL("resnet20"), MODEL("resnet8-projection"),
        MODEL("mobilenet-tiny"), MODEL("densenet-tiny"), MODEL("vit-tiny")};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        check_comes_back(models[i]);
    check_comes_back(write_crossed());
    check_comes_back(write_grouped());
    check_best(write_two_layers());
    static const char *const unrelated[] = {MODEL("lenet"), MODEL("resnet8"), MODEL("mobilenet-tiny"), MODEL("vit-tiny")};
    for (size_t i = 0; i < sizeof unrelated / sizeof *unrelated; i++) {
        check_unrelated(unrelated[i]);
        check_noisy(unrelated[i]);
    }
    check_unrelated(write_crossed());
    check_unrelated(write_grouped());
    check_noisy(write_grouped());
    check_threads(MODEL("mlp"));
    check_threads(MODEL("vit-tiny"));
    for (int i = 0; i < 2; i++) {
        check_alike(MODEL("vgg"), (float)i * 1e-3f);
        check_alike(write_grouped(), (float)i * 1e-3f);
    }
    check_product_threads();
    check_crossed_alone();
    check_sets(MODEL("vit-tiny"));
    check_sets(write_grouped());
    check_refusals();
    check_missing();
    papa_device_close(dev);
    return check_result();
}
