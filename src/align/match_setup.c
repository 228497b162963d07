/* The groups prepared for matching, and sets of permutations. */
#include "align/match_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static PapaStatus check_finite(const PapaGroupTensor *tensor, const float *values, int model)
{
    for (int64_t i = 0; i < tensor->count; i++)
        if (!isfinite(values[i]))
            return papa_fail(PAPA_ERR_NUMERIC, "matching: model %d: tensor '%s': element %lld is %g, a finite number expected", model, tensor->name,
                (long long)i, values[i]);
    return PAPA_OK;
}

static PapaStatus choose_tensors(PapaMatchSetup *setup, const PapaMatchTensors *models, int n)
{
    const PapaGroups *groups = setup->groups;
    for (int t = 0; t < groups->n_tensors; t++) {
        const PapaGroupTensor *tensor = &groups->tensors[t];
        setup->counts[t] = tensor->role != PAPA_ROLE_MEAN && tensor->role != PAPA_ROLE_VARIANCE;
        for (int m = 0; m < n; m++)
            setup->counts[t] &= models[m][t] != NULL;
        for (int m = 0; m < n && setup->counts[t]; m++)
            PAPA_TRY(check_finite(tensor, models[m][t], m));
        if (setup->counts[t] && tensor->count > setup->most_elements)
            setup->most_elements = tensor->count;
    }
    return PAPA_OK;
}

static bool is_crossed(const PapaMatchGroup *group)
{
    for (int k = 0; k < group->n_slots; k++)
        for (int l = 0; l < k; l++)
            if (group->slots[k]->tensor == group->slots[l]->tensor && group->slots[k]->axis != group->slots[l]->axis)
                return true;
    return false;
}

static PapaStatus prepare_group(PapaMatchSetup *setup, int g)
{
    const PapaGroup *of = &setup->groups->groups[g];
    PapaMatchGroup *group = &setup->group[g];
    *group = (PapaMatchGroup){.n = of->n, .family = -1, .block = -1, .slots = PAPA_NEW_ARRAY(&setup->arena, const PapaSlots *, of->n_slots)};
    if (!group->slots)
        return PAPA_ERR_MEMORY;
    for (int k = 0; k < of->n_slots; k++)
        if (setup->counts[of->slots[k].tensor]) {
            group->slots[group->n_slots++] = &of->slots[k];
            group->width += papa_match_columns(&of->slots[k]);
        }
    group->crossed = is_crossed(group);
    const int64_t chunk = of->n * (group->width < PAPA_MATCH_CHUNK ? group->width : PAPA_MATCH_CHUNK);
    setup->most_units = of->n > setup->most_units ? of->n : setup->most_units;
    setup->most_chunk = chunk > setup->most_chunk ? chunk : setup->most_chunk;
    return PAPA_OK;
}

PapaStatus papa_match_setup(PapaMatchSetup **out, const PapaGroups *groups, const PapaMatchTensors *models, int n)
{
    PapaStatus status;
    PapaMatchSetup *setup = calloc(1, sizeof *setup);
    *out = NULL;
    if (!setup)
        return papa_fail_memory(sizeof *setup, "matching");
    setup->groups = groups;
    setup->n_groups = groups->n_groups;
    setup->counts = PAPA_NEW_ARRAY(&setup->arena, bool, groups->n_tensors);
    setup->group = PAPA_NEW_ARRAY(&setup->arena, PapaMatchGroup, groups->n_groups);
    if (!setup->counts || !setup->group)
        PAPA_GOTO(PAPA_ERR_MEMORY);
    PAPA_GOTO(choose_tensors(setup, models, n));
    for (int g = 0; g < setup->n_groups; g++)
        PAPA_GOTO(prepare_group(setup, g));
    PAPA_GOTO(papa_match_find_families(setup));
    *out = setup;
    return PAPA_OK;
out:
    papa_match_setup_free(setup);
    return status;
}

void papa_match_setup_free(PapaMatchSetup *setup)
{
    if (!setup)
        return;
    papa_arena_free(&setup->arena);
    free(setup);
}

/* ---------------------------------------------------------------- sets of permutations */

void papa_match_perms_reset(int64_t **perms, const PapaMatchSetup *setup)
{
    for (int g = 0; g < setup->n_groups; g++)
        for (int64_t i = 0; i < setup->group[g].n; i++)
            perms[g][i] = i;
}

PapaStatus papa_match_perms_new(int64_t ***out, const PapaMatchSetup *setup)
{
    int64_t **perms = *out = calloc((size_t)setup->n_groups + 1, sizeof *perms);
    if (!perms)
        return papa_fail_memory((size_t)setup->n_groups * sizeof *perms, "permutations");
    for (int g = 0; g < setup->n_groups; g++) {
        perms[g] = calloc((size_t)setup->group[g].n + 1, sizeof **perms);
        if (!perms[g]) {
            papa_match_perms_free(perms, setup->n_groups);
            *out = NULL;
            return papa_fail_memory((size_t)setup->group[g].n * sizeof **perms, "a permutation");
        }
    }
    papa_match_perms_reset(perms, setup);
    return PAPA_OK;
}

void papa_match_perms_free(int64_t **perms, int n_groups)
{
    for (int g = 0; perms && g < n_groups; g++)
        free(perms[g]);
    free(perms);
}

void papa_match_perms_copy(int64_t **to, int64_t *const *from, const PapaMatchSetup *setup)
{
    for (int g = 0; g < setup->n_groups; g++)
        memcpy(to[g], from[g], (size_t)setup->group[g].n * sizeof **to);
}

/* Units inside block i, moved behind what moves the blocks, are those of the block that came to i, moved in front of it. */
void papa_match_move(const PapaMatchSetup *setup, int64_t **perms, int group, const int64_t *perm, int64_t *scratch)
{
    const PapaMatchGroup *at = &setup->group[group];
    int64_t *composed = scratch, *inside = scratch + setup->most_units;
    if (at->block >= 0) {
        const PapaMatchFamily *family = &setup->families[at->family];
        const int from = family->inside[at->kind * family->n + perms[family->blocks][at->block]];
        const PapaMatchGroup *of = &setup->group[from];
        for (int64_t k = 0; k < at->n; k++)
            inside[of->unit[k]] = of->unit[at->number[perm[at->unit[k]]]];
        perm = inside;
        group = from;
    }
    papa_permutation_compose(composed, perms[group], perm, at->n);
    memcpy(perms[group], composed, (size_t)at->n * sizeof *composed);
}

void papa_match_then(const PapaMatchSetup *setup, int64_t **perms, int64_t *const *then, int64_t *scratch)
{
    for (int g = 0; g < setup->n_groups; g++)
        papa_match_move(setup, perms, g, then[g], scratch);
}

void papa_match_undo(const PapaMatchSetup *setup, int64_t **out, int64_t *const *perms, int64_t *scratch)
{
    int64_t *inverse = scratch + 2 * setup->most_units;
    for (int g = setup->n_groups - 1; g >= 0; g--) {
        papa_permutation_invert(inverse, perms[g], setup->group[g].n);
        papa_match_move(setup, out, g, inverse, scratch);
    }
}
