/* One model on its way: what it is moved to, and the matching of one group. */
#include "align/assignment.h"
#include "align/match_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void papa_match_restart(PapaMatchState *state, PapaMatchTensors b)
{
    const PapaMatchSetup *setup = state->setup;
    for (int t = 0; t < setup->groups->n_tensors; t++)
        if (setup->counts[t])
            memcpy(state->moved[t], b[t], (size_t)setup->groups->tensors[t].count * sizeof(float));
    papa_match_perms_reset(state->perms, setup);
    papa_match_forget(state);
}

PapaStatus papa_match_begin(PapaMatchState *state, const PapaMatchSetup *setup, PapaMatchRoom *room, const PapaMatchOptions *options, PapaMatchTensors b)
{
    const int n_tensors = setup->groups->n_tensors;
    *state = (PapaMatchState){.setup = setup, .room = room, .options = options};
    state->moved = calloc((size_t)n_tensors + 1, sizeof *state->moved);
    state->settled = calloc((size_t)setup->n_groups + 1, sizeof *state->settled);
    state->changed = calloc((size_t)n_tensors + 1, sizeof *state->changed);
    state->matched = calloc((size_t)setup->n_groups + 1, sizeof *state->matched);
    if (!state->moved || !state->settled || !state->changed || !state->matched)
        return papa_fail_memory((size_t)n_tensors * sizeof *state->moved, "matching");
    for (int t = 0; t < n_tensors; t++) {
        const size_t bytes = (size_t)setup->groups->tensors[t].count * sizeof(float);
        if (setup->counts[t])
            PAPA_TRY(papa_device_alloc(room->dev, (void **)&state->moved[t], bytes, "a copy of a model"));
    }
    PAPA_TRY(papa_match_perms_new(&state->perms, setup));
    papa_match_restart(state, b);
    return PAPA_OK;
}

void papa_match_end(PapaMatchState *state)
{
    if (!state->setup)
        return;
    for (int t = 0; t < state->setup->groups->n_tensors; t++) {
        if (state->moved)
            papa_device_free(state->room->dev, state->moved[t]);
        if (state->open)
            free(state->open[t]);
    }
    papa_match_perms_free(state->perms, state->setup->n_groups);
    free(state->moved);
    free(state->open);
    free(state->settled);
    free(state->changed);
    free(state->matched);
    *state = (PapaMatchState){0};
}

void papa_match_forget(PapaMatchState *state)
{
    state->now++;
    for (int t = 0; t < state->setup->groups->n_tensors; t++)
        state->changed[t] = state->now;
}

void papa_match_apply(PapaMatchState *state, int group, const int64_t *perm)
{
    const PapaMatchGroup *of = &state->setup->group[group];
    PapaMatchRoom *room = state->room;
    const int64_t most = PAPA_MATCH_CHUNK;
    state->now++;
    for (int k = 0; k < of->n_slots; k++) {
        const PapaSlots *s = of->slots[k];
        const int64_t columns = papa_match_columns(s);
        for (int64_t first = 0; first < columns; first += most) {
            const int64_t n = columns - first < most ? columns - first : most;
            papa_match_gather(room->y, n, s, of->n, state->moved[s->tensor], NULL, first, n, room->dev);
            papa_match_scatter(state->moved[s->tensor], s, of->n, room->y, n, perm, first, n, room->dev);
        }
        state->changed[s->tensor] = state->now;
    }
    papa_match_move(state->setup, state->perms, group, perm, room->scratch);
}

/* ---------------------------------------------------------------- what a permutation is worth */

/* A gain, and the size of what is summed in it. */
typedef struct Worth {
    double gain, size_a, size_b;
} Worth;

static bool is_worth(const Worth *worth)
{
    return worth->gain > PAPA_MATCH_GAIN * sqrt(worth->size_a) * sqrt(worth->size_b);
}

/* What the group's units are worth in their new places, as everything else stands. */
static void add_worth(Worth *worth, const PapaMatchState *state, const PapaMatchGroup *of, const int64_t *perm, int64_t n)
{
    const PapaMatchRoom *room = state->room;
    for (int64_t i = 0; i < of->n; i++) {
        const float *x = room->x + i * n, *y = room->y + i * n;
        worth->size_a += papa_match_dot(x, x, n);
        worth->size_b += papa_match_dot(y, y, n);
        if (perm[i] != i)
            worth->gain += papa_match_dot(x, room->y + perm[i] * n, n) - papa_match_dot(x, y, n);
    }
}

static Worth worth_of(const PapaMatchState *state, const PapaMatchGroup *of, const int64_t *perm)
{
    Worth worth = {0};
    uint8_t *const *open = state->masked ? state->open : NULL;
    for (PapaMatchChunk chunk = {0}; papa_match_next_chunk(&chunk, of);) {
        if (chunk.n < of->width) { /* else both are still there */
            papa_match_fill(state->room->x, &chunk, of, state->a, open, state->room->dev);
            papa_match_fill(state->room->y, &chunk, of, (const float *const *)state->moved, open, state->room->dev);
        }
        add_worth(&worth, state, of, perm, chunk.n);
    }
    return worth;
}

/* The group's tensors as a whole, each once: for numbers that belong to two units. */
static double total_of(const PapaMatchState *state, const PapaMatchGroup *of, Worth *sizes)
{
    double sum = 0;
    *sizes = (Worth){0};
    for (int k = 0; k < of->n_slots; k++) {
        const int t = of->slots[k]->tensor;
        const int64_t n = state->setup->groups->tensors[t].count;
        bool seen = false;
        for (int l = 0; l < k; l++)
            seen |= of->slots[l]->tensor == t;
        if (seen)
            continue;
        sum += papa_match_dot(state->a[t], state->moved[t], n);
        sizes->size_a += papa_match_dot(state->a[t], state->a[t], n);
        sizes->size_b += papa_match_dot(state->moved[t], state->moved[t], n);
    }
    return sum;
}

/* The costs of such a group are right only while its units stay along the other axis: what it comes to is seen when it is done. */
static void try_crossed(PapaMatchState *state, int group, const int64_t *perm, bool *gained)
{
    const PapaMatchGroup *of = &state->setup->group[group];
    int64_t *inverse = state->room->scratch + 2 * state->setup->most_units;
    Worth worth;
    const double before = total_of(state, of, &worth);
    papa_permutation_invert(inverse, perm, of->n);
    papa_match_apply(state, group, perm);
    worth.gain = total_of(state, of, &worth) - before;
    *gained = is_worth(&worth);
    if (!*gained)
        papa_match_apply(state, group, inverse);
}

static PapaStatus assign(PapaMatchState *state, int group)
{
    const PapaMatchGroup *of = &state->setup->group[group];
    PapaStatus status = papa_assign_float(state->room->column, NULL, NULL, state->room->cost, of->n);
    return status == PAPA_OK ? PAPA_OK : papa_fail_in(status, "group '%s'", state->setup->groups->groups[group].name);
}

static bool is_identity(const int64_t *perm, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (perm[i] != i)
            return false;
    return true;
}

PapaStatus papa_match_units(PapaMatchState *state, int group, bool *gained)
{
    const PapaMatchGroup *of = &state->setup->group[group];
    const int64_t *perm = state->room->column;
    *gained = false;
    if (papa_match_stopped(state->options))
        return papa_fail(PAPA_ERR_STOPPED, "stopped while units were being matched");
    state->matched[group] = state->masked ? 0 : state->now;
    if (of->n < 2 || !of->width || of->held)
        return PAPA_OK;
    PAPA_TRY(papa_match_cost(state->room, group, state->a, (const float *const *)state->moved, state->masked ? state->open : NULL));
    PAPA_TRY(assign(state, group));
    if (is_identity(perm, of->n))
        return PAPA_OK;
    if (of->crossed && !state->masked) {
        try_crossed(state, group, perm, gained);
        return PAPA_OK;
    }
    const Worth worth = worth_of(state, of, perm);
    *gained = is_worth(&worth);
    if (*gained) {
        papa_match_apply(state, group, perm);
        state->matched[group] = state->masked ? 0 : state->now; /* its own move leaves it the best */
    }
    return PAPA_OK;
}
