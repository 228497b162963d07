/* Coordinate ascent over the groups: outward from what is settled, in sweeps. */
#include "align/match_parts.h"
#include "base/clock.h"

#include <stdlib.h>
#include <string.h>

bool papa_match_stopped(const PapaMatchOptions *options)
{
    return options->hooks && options->hooks->stop && *options->hooks->stop;
}

PapaStatus papa_match_check_options(const PapaMatchOptions *options)
{
    if (options->restarts < 1 || options->max_sweeps < 1)
        return papa_fail(PAPA_ERR_ARGUMENT, "matching: %d searches of %d sweeps, expected at least one of each", options->restarts, options->max_sweeps);
    if (options->dev->kind != PAPA_CPU)
        return papa_fail(PAPA_ERR_ARGUMENT, "matching: a CPU device expected");
    return PAPA_OK;
}

/* ---------------------------------------------------------------- outward from what is settled */

/* How much of its surroundings is settled. */
typedef enum Standing { NOTHING, NUMBERS, WEIGHTS } Standing;

static Standing standing_at(const PapaMatchState *state, int group, int level)
{
    const PapaMatchGroup *of = &state->setup->group[group];
    Standing most = NOTHING;
    for (int k = 0; k < of->n_slots && most < WEIGHTS; k++) {
        const PapaSlots *s = of->slots[k];
        const Standing standing = state->setup->groups->tensors[s->tensor].role == PAPA_ROLE_WEIGHT ? WEIGHTS : NUMBERS;
        if (standing > most && papa_match_any_open(state->open[s->tensor], s, level))
            most = standing;
    }
    return most;
}

/* Units are alike, so the first one stands for all; a block also by what the units inside it would see were it settled. */
static Standing standing_of(const PapaMatchState *state, int group)
{
    const PapaMatchGroup *of = &state->setup->group[group];
    Standing most = standing_at(state, group, 1);
    if (of->family < 0 || of->block >= 0)
        return most;
    const PapaMatchFamily *family = &state->setup->families[of->family];
    for (int kind = 0; kind < family->n_kinds && most < WEIGHTS; kind++) {
        const Standing inside = standing_at(state, family->inside[kind * family->n], 2);
        most = inside > most ? inside : most;
    }
    return most;
}

/* Of those that are not settled: -1: none is left. */
static int choose(const PapaMatchState *state, int family, bool backward)
{
    const int n = state->setup->n_groups;
    Standing most = NOTHING;
    int best = -1;
    for (int i = 0; i < n && most < WEIGHTS; i++) {
        const int g = backward ? n - 1 - i : i;
        const PapaMatchGroup *of = &state->setup->group[g];
        if (state->settled[g] || (family < 0 ? of->block >= 0 : of->block < 0 || of->family != family))
            continue;
        const Standing standing = standing_of(state, g);
        if (best < 0 || standing > most) {
            best = g;
            most = standing;
        }
    }
    return best;
}

static void settle(PapaMatchState *state, int group, bool settled)
{
    const PapaMatchGroup *of = &state->setup->group[group];
    for (int k = 0; k < of->n_slots; k++)
        papa_match_cover(state->open[of->slots[k]->tensor], of->slots[k], of->n, settled ? -1 : 1);
    state->settled[group] = settled;
}

static PapaStatus open_all(PapaMatchState *state)
{
    const PapaMatchSetup *setup = state->setup;
    if (!state->open)
        state->open = calloc((size_t)setup->groups->n_tensors + 1, sizeof *state->open);
    if (!state->open)
        return papa_fail_memory((size_t)setup->groups->n_tensors * sizeof *state->open, "matching");
    for (int t = 0; t < setup->groups->n_tensors; t++) {
        const size_t n = (size_t)setup->groups->tensors[t].count;
        if (!setup->counts[t])
            continue;
        if (!state->open[t])
            state->open[t] = malloc(n + 1);
        if (!state->open[t])
            return papa_fail_memory(n, "matching");
        memset(state->open[t], 0, n);
    }
    for (int g = 0; g < setup->n_groups; g++) {
        settle(state, g, false);
        if (setup->group[g].held)
            settle(state, g, true);
    }
    return PAPA_OK;
}

static PapaStatus settle_all(PapaMatchState *state, int family, bool backward)
{
    for (int g; (g = choose(state, family, backward)) >= 0;) {
        const PapaMatchGroup *of = &state->setup->group[g];
        bool gained;
        if (of->family >= 0 && of->block < 0)
            PAPA_TRY(papa_match_blocks(state, of->family, &gained));
        else
            PAPA_TRY(papa_match_units(state, g, &gained));
        settle(state, g, true);
    }
    return PAPA_OK;
}

PapaStatus papa_match_outward(PapaMatchState *state, int family, bool backward)
{
    if (family >= 0)
        return settle_all(state, family, backward);
    PAPA_TRY(open_all(state));
    state->masked = true;
    PapaStatus status = settle_all(state, -1, backward);
    state->masked = false;
    return status;
}

/* ---------------------------------------------------------------- sweeps */

bool papa_match_is_stale(const PapaMatchState *state, int group)
{
    const PapaMatchGroup *of = &state->setup->group[group];
    for (int k = 0; k < of->n_slots; k++)
        if (state->changed[of->slots[k]->tensor] > state->matched[group])
            return true;
    return false;
}

PapaStatus papa_match_sweep(PapaMatchState *state, PapaRng *rng, bool *gained)
{
    const int n = state->setup->n_groups;
    uint32_t *order = calloc((size_t)n + 1, sizeof *order);
    PapaStatus status = PAPA_OK;
    *gained = false;
    if (!order)
        return papa_fail_memory((size_t)n * sizeof *order, "a sweep's order");
    for (int g = 0; g < n; g++)
        order[g] = (uint32_t)g;
    if (rng)
        papa_rng_shuffle(rng, order, (uint32_t)n);
    for (int k = 0; k < n; k++) {
        const int g = (int)order[k];
        const PapaMatchGroup *of = &state->setup->group[g];
        bool better = false;
        if (!papa_match_is_stale(state, g))
            continue;
        if (of->family >= 0 && of->block < 0)
            PAPA_GOTO(papa_match_blocks(state, of->family, &better));
        else
            PAPA_GOTO(papa_match_units(state, g, &better));
        *gained |= better;
    }
out:
    free(order);
    return status;
}

/* ---------------------------------------------------------------- progress */

void papa_match_meter_begin(PapaMatchMeter *meter, const PapaMatchOptions *options)
{
    *meter = (PapaMatchMeter){.options = options, .began = papa_now()};
}

void papa_match_meter_tick(PapaMatchMeter *meter, int done)
{
    const PapaHooks *hooks = meter->options->hooks;
    const double time = papa_now();
    const int total = meter->options->restarts;
    if (!hooks || !hooks->progress || (done < total && time - meter->last < .1))
        return;
    meter->last = time;
    const PapaProgress progress = {.phase = PAPA_PHASE_ALIGN, .done = done, .total = total, .seconds = time - meter->began, .loss = __builtin_nan(""),
        .learning_rate = __builtin_nan("")};
    hooks->progress(hooks->context, &progress);
}
