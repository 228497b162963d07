/* Weight matching of two models, and what is asked of a matching. */
#include "align/match.h"
#include "align/match_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void papa_match_free(PapaMatch *match)
{
    papa_match_perms_free(match->perms, match->n_groups);
    *match = (PapaMatch){0};
}

/* ---------------------------------------------------------------- weight matching */

/* The first search goes outward from what is known at the network's front, the second from its end, the others sweep at random from the identity. */
PapaStatus papa_match_search(PapaMatchState *state, PapaMatchTensors b, int k, int *sweeps)
{
    bool gained = true;
    papa_match_restart(state, b);
    *sweeps = 0;
    if (k < 2) {
        PAPA_TRY(papa_match_outward(state, -1, k == 1));
        ++*sweeps;
    }
    while (gained && *sweeps < state->options->max_sweeps) {
        PapaRng rng = papa_rng(state->options->seed, PAPA_RNG_MATCH, -1, (uint32_t)k, (uint32_t)*sweeps);
        PAPA_TRY(papa_match_sweep(state, &rng, &gained));
        ++*sweeps;
    }
    return PAPA_OK;
}

PapaStatus papa_match_search_all(PapaMatch *out, PapaMatchState *state, PapaMatchTensors b, PapaMatchMeter *meter)
{
    out->before = out->objective = papa_match_total(state->setup, state->a, b);
    for (int k = 0; k < state->options->restarts; k++) {
        int sweeps;
        PAPA_TRY(papa_match_search(state, b, k, &sweeps));
        const double objective = papa_match_total(state->setup, state->a, (const float *const *)state->moved);
        if (objective > out->objective || (!k && objective == out->objective)) {
            out->objective = objective;
            out->sweeps = sweeps;
            out->restart = k;
            papa_match_perms_copy(out->perms, state->perms, state->setup);
        }
        if (meter)
            papa_match_meter_tick(meter, k + 1);
    }
    return PAPA_OK;
}

PapaStatus papa_match_weights(PapaMatch *out, const PapaGroups *groups, PapaMatchTensors a, PapaMatchTensors b, const PapaMatchOptions *options)
{
    PapaStatus status;
    PapaMatchSetup *setup = NULL;
    PapaMatchRoom room = {0};
    PapaMatchState state = {0};
    PapaMatchMeter meter;
    *out = (PapaMatch){.n_groups = groups->n_groups};
    PAPA_TRY(papa_match_check_options(options));
    PAPA_GOTO(papa_match_setup(&setup, groups, (const PapaMatchTensors[]){a, b}, 2));
    PAPA_GOTO(papa_match_perms_new(&out->perms, setup));
    PAPA_GOTO(papa_match_room_open(&room, setup, options->dev));
    PAPA_GOTO(papa_match_begin(&state, setup, &room, options, b));
    state.a = a;
    papa_match_meter_begin(&meter, options);
    status = papa_match_search_all(out, &state, b, &meter);
out:
    papa_match_end(&state);
    papa_match_room_close(&room);
    papa_match_setup_free(setup);
    if (status != PAPA_OK)
        papa_match_free(out);
    return status;
}

/* ---------------------------------------------------------------- what a matching comes to */

static bool is_counted(const PapaGroups *groups, int tensor, PapaMatchTensors a, PapaMatchTensors b)
{
    const PapaRole role = groups->tensors[tensor].role;
    return role != PAPA_ROLE_MEAN && role != PAPA_ROLE_VARIANCE && a[tensor] && b[tensor];
}

PapaStatus papa_match_objective(double *out, const PapaGroups *groups, PapaMatchTensors a, PapaMatchTensors b, const int64_t *const *perms)
{
    int64_t most = 0;
    for (int t = 0; t < groups->n_tensors; t++)
        most = groups->tensors[t].count > most ? groups->tensors[t].count : most;
    float *moved = malloc(2 * (size_t)(most + 1) * sizeof *moved);
    if (!moved)
        return papa_fail_memory(2 * (size_t)most * sizeof *moved, "a tensor that is permuted");
    *out = 0;
    for (int t = 0; t < groups->n_tensors; t++) {
        const int64_t n = groups->tensors[t].count;
        if (!is_counted(groups, t, a, b))
            continue;
        memcpy(moved, b[t], (size_t)n * sizeof *moved);
        papa_groups_permute(groups, t, perms, moved, sizeof *moved, moved + most + 1);
        *out += papa_match_dot(a[t], moved, n);
    }
    free(moved);
    return PAPA_OK;
}

/* <a, b>, <a, a> and <b, b> of the elements of these slots. */
static void add_products(double sums[3], const PapaSlots *s, int64_t n_units, const float *a, const float *b)
{
    for (int64_t i = 0; i < n_units * s->n_parts; i++)
        for (int64_t j = 0; j < s->n[0]; j++)
            for (int64_t k = 0; k < s->n[1]; k++) {
                const int64_t at = s->base[i] + j * s->stride[0] + k * s->stride[1];
                const double x = a[at], y = b[at];
                sums[0] += x * y;
                sums[1] += x * x;
                sums[2] += y * y;
            }
}

PapaStatus papa_match_cosines(double *out, const PapaGroups *groups, PapaMatchTensors a, PapaMatchTensors b, const int64_t *const *perms)
{
    int64_t most = 0;
    for (int t = 0; t < groups->n_tensors; t++)
        most = groups->tensors[t].count > most ? groups->tensors[t].count : most;
    float *moved = malloc(2 * (size_t)(most + 1) * sizeof *moved);
    double(*sums)[3] = calloc((size_t)groups->n_groups + 1, sizeof *sums);
    PapaStatus status = moved && sums ? PAPA_OK : papa_fail_memory(2 * (size_t)most * sizeof *moved, "a tensor that is permuted");
    for (int t = 0; t < groups->n_tensors && status == PAPA_OK; t++) {
        if (!is_counted(groups, t, a, b))
            continue;
        memcpy(moved, b[t], (size_t)groups->tensors[t].count * sizeof *moved);
        papa_groups_permute(groups, t, perms, moved, sizeof *moved, moved + most + 1);
        for (int g = 0; g < groups->n_groups; g++)
            for (int k = 0; k < groups->groups[g].n_slots; k++)
                if (groups->groups[g].slots[k].tensor == t)
                    add_products(sums[g], &groups->groups[g].slots[k], groups->groups[g].n, a[t], moved);
    }
    for (int g = 0; g < groups->n_groups && status == PAPA_OK; g++) {
        const double norm = sqrt(sums[g][1]) * sqrt(sums[g][2]);
        out[g] = norm > 0 ? sums[g][0] / norm : 0;
    }
    free(moved);
    free(sums);
    return status;
}
