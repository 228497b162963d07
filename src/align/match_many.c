/* MergeMany (Ainsworth et al. 2022, algorithm 3), and what all matchings of several models have in common. */
#include "align/match_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

PapaStatus papa_match_many_begin(PapaMatchMany *many, const PapaGroups *groups, const PapaMatchTensors *models, int n, const PapaMatchOptions *options)
{
    *many = (PapaMatchMany){.options = options, .models = models, .n = n};
    PAPA_TRY(papa_match_check_options(options));
    if (n < 1)
        return papa_fail(PAPA_ERR_ARGUMENT, "matching: %d models, expected at least one", n);
    PAPA_TRY(papa_match_setup(&many->setup, groups, models, n));
    PAPA_TRY(papa_match_room_open(&many->room, many->setup, options->dev));
    many->states = calloc((size_t)n, sizeof *many->states);
    many->best = calloc((size_t)n, sizeof *many->best);
    many->begun = calloc((size_t)n, sizeof *many->begun);
    many->others = calloc((size_t)groups->n_tensors + 1, sizeof *many->others);
    if (!many->states || !many->best || !many->begun || !many->others)
        return papa_fail_memory((size_t)n * sizeof *many->states, "matching");
    for (int t = 0; t < groups->n_tensors; t++)
        if (many->setup->counts[t])
            PAPA_TRY(papa_device_alloc(options->dev, (void **)&many->others[t], (size_t)groups->tensors[t].count * sizeof(float), "a sum of models"));
    PAPA_TRY(papa_match_perms_new(&many->kept, many->setup));
    for (int m = 0; m < n; m++) {
        PAPA_TRY(papa_match_begin(&many->states[m], many->setup, &many->room, options, models[m]));
        many->best[m].n_groups = many->begun[m].n_groups = groups->n_groups;
        PAPA_TRY(papa_match_perms_new(&many->best[m].perms, many->setup));
        PAPA_TRY(papa_match_perms_new(&many->begun[m].perms, many->setup));
    }
    return PAPA_OK;
}

void papa_match_many_end(PapaMatchMany *many)
{
    for (int m = 0; m < many->n; m++) {
        if (many->states)
            papa_match_end(&many->states[m]);
        if (many->best)
            papa_match_free(&many->best[m]);
        if (many->begun)
            papa_match_free(&many->begun[m]);
    }
    for (int t = 0; many->others && t < many->setup->groups->n_tensors; t++)
        papa_device_free(many->options->dev, many->others[t]);
    if (many->setup)
        papa_match_perms_free(many->kept, many->setup->n_groups);
    papa_match_room_close(&many->room);
    papa_match_setup_free(many->setup);
    free(many->states);
    free(many->best);
    free(many->begun);
    free(many->others);
    *many = (PapaMatchMany){0};
}

static const float *const *moved(const PapaMatchMany *many, int m)
{
    return (const float *const *)many->states[m].moved;
}

/* The sum over pairs. */
static double total(const PapaMatchMany *many)
{
    double sum = 0;
    for (int p = 0; p < many->n; p++)
        for (int q = p + 1; q < many->n; q++)
            sum += papa_match_total(many->setup, moved(many, p), moved(many, q));
    return sum;
}

/* The part of it that model m has. */
static double total_of(const PapaMatchMany *many, int m)
{
    double sum = 0;
    for (int q = 0; q < many->n; q++)
        if (q != m)
            sum += papa_match_total(many->setup, moved(many, m), moved(many, q));
    return sum;
}

/* The model as given, with these permutations. */
static void place(PapaMatchMany *many, int m, int64_t *const *perms)
{
    papa_match_restart(&many->states[m], many->models[m]);
    for (int g = 0; g < many->setup->n_groups; g++)
        papa_match_apply(&many->states[m], g, perms[g]);
}

/* ---------------------------------------------------------------- where a search begins */

static PapaStatus match_to(PapaMatchMany *many, int reference, bool all_searches)
{
    for (int m = 0; m < many->n; m++) {
        PapaMatchState *state = &many->states[m];
        int sweeps;
        if (m == reference)
            continue;
        state->a = many->models[reference];
        if (!all_searches) {
            PAPA_TRY(papa_match_search(state, many->models[m], 0, &sweeps));
            continue;
        }
        PapaMatch best = {.perms = many->kept};
        papa_match_perms_reset(many->kept, many->setup);
        PAPA_TRY(papa_match_search_all(&best, state, many->models[m], NULL));
        place(many, m, best.perms);
    }
    return PAPA_OK;
}

PapaStatus papa_match_many_start(PapaMatchMany *many, int k)
{
    for (int m = 0; m < many->n; m++)
        papa_match_restart(&many->states[m], many->models[m]);
    if (!k)
        many->before = many->objective = total(many);
    if (k != 1 && k <= many->n)
        PAPA_TRY(match_to(many, k ? k - 1 : 0, !k));
    for (int m = 0; m < many->n; m++)
        papa_match_perms_copy(many->begun[m].perms, many->states[m].perms, many->setup);
    return PAPA_OK;
}

void papa_match_many_start_again(PapaMatchMany *many)
{
    for (int m = 0; m < many->n; m++)
        place(many, m, many->begun[m].perms);
}

/* ---------------------------------------------------------------- ascent */

static void add_up_others(PapaMatchMany *many, int m)
{
    for (int t = 0; t < many->setup->groups->n_tensors; t++) {
        const int64_t n = many->setup->groups->tensors[t].count;
        if (!many->setup->counts[t])
            continue;
        memset(many->others[t], 0, (size_t)n * sizeof(float));
        for (int q = 0; q < many->n; q++)
            for (int64_t i = 0; i < n && q != m; i++)
                many->others[t][i] += many->states[q].moved[t][i];
    }
}

/* The sum of the others is rounded, so what is gained is seen on the models themselves. */
static PapaStatus ascend_one(PapaMatchMany *many, int m, PapaRng *rng, bool *gained)
{
    PapaMatchState *state = &many->states[m];
    bool any = false, again = true;
    const double before = total_of(many, m);
    papa_match_perms_copy(many->kept, state->perms, many->setup);
    add_up_others(many, m);
    state->a = (const float *const *)many->others;
    papa_match_forget(state);
    for (int sweep = 0; sweep < many->options->max_sweeps && again; sweep++) {
        PAPA_TRY(papa_match_sweep(state, rng, &again));
        any |= again;
    }
    if (any && total_of(many, m) <= before) {
        place(many, m, many->kept);
        any = false;
    }
    *gained |= any;
    return PAPA_OK;
}

PapaStatus papa_match_many_ascend(PapaMatchMany *many, int k, int *rounds)
{
    bool gained = many->n > 1;
    for (*rounds = 0; gained && *rounds < many->options->max_sweeps; ++*rounds) {
        PapaRng rng = papa_rng(many->options->seed, PAPA_RNG_MATCH, many->n, (uint32_t)k, (uint32_t)*rounds);
        uint32_t shift = papa_rng_below(&rng, (uint32_t)many->n);
        gained = false;
        for (int i = 0; i < many->n; i++)
            PAPA_TRY(ascend_one(many, (int)((shift + (uint32_t)i) % (uint32_t)many->n), &rng, &gained));
    }
    return PAPA_OK;
}

/* ---------------------------------------------------------------- the best */

void papa_match_many_keep(PapaMatchMany *many, int k, int rounds)
{
    const double objective = total(many);
    if (objective < many->objective || (k && objective <= many->objective + PAPA_MATCH_GAIN * fabs(many->objective))) /* equal ones differ by rounding */
        return;
    many->objective = objective;
    for (int m = 0; m < many->n; m++) {
        many->best[m].restart = k;
        many->best[m].sweeps = rounds;
        papa_match_perms_copy(many->best[m].perms, many->states[m].perms, many->setup);
    }
}

void papa_match_many_deliver(PapaMatchMany *many, PapaMatch *out)
{
    papa_match_perms_reset(many->kept, many->setup);
    papa_match_undo(many->setup, many->kept, many->best[0].perms, many->room.scratch);
    for (int m = 0; m < many->n; m++) {
        many->best[m].objective = many->objective;
        many->best[m].before = many->before;
        papa_match_then(many->setup, many->best[m].perms, many->kept, many->room.scratch);
        out[m] = many->best[m];
        many->best[m] = (PapaMatch){0};
    }
}

PapaStatus papa_match_mean(PapaMatch *out, const PapaGroups *groups, const PapaMatchTensors *models, int n, const PapaMatchOptions *options)
{
    PapaStatus status;
    PapaMatchMany many;
    PapaMatchMeter meter;
    memset(out, 0, (size_t)(n > 0 ? n : 0) * sizeof *out);
    papa_match_meter_begin(&meter, options);
    PAPA_GOTO(papa_match_many_begin(&many, groups, models, n, options));
    for (int k = 0; k < options->restarts; k++) {
        int rounds;
        PAPA_GOTO(papa_match_many_start(&many, k));
        PAPA_GOTO(papa_match_many_ascend(&many, k, &rounds));
        papa_match_many_keep(&many, k, rounds);
        papa_match_meter_tick(&meter, k + 1);
    }
    papa_match_many_deliver(&many, out);
out:
    papa_match_many_end(&many);
    return status;
}
