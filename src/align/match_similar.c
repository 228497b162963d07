/* Matching by similarities that somebody measured. */
#include "align/assignment.h"
#include "align/match_parts.h"

#include <stdlib.h>
#include <string.h>

typedef struct Similar {
    PapaMatch *out;
    const PapaMatchSetup *setup;
    const double *const *similarity;
    double *square, *worth; /* (n, n): of the units inside two blocks; of blocks */
    int64_t *column, *blocks;
} Similar;

static double sum_of(const double *square, const int64_t *column, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += square[i * n + (column ? column[i] : i)];
    return sum;
}

static PapaStatus assign(const Similar *s, int group, int64_t *column, const double *square)
{
    PapaStatus status = papa_assign(column, NULL, NULL, square, s->setup->group[group].n);
    return status == PAPA_OK ? status : papa_fail_in(status, "group '%s'", s->setup->groups->groups[group].name);
}

static PapaStatus match_plain(Similar *s, int g)
{
    if (!s->similarity[g])
        return PAPA_OK;
    PAPA_TRY(assign(s, g, s->out->perms[g], s->similarity[g]));
    s->out->objective += sum_of(s->similarity[g], s->out->perms[g], s->setup->group[g].n);
    s->out->before += sum_of(s->similarity[g], NULL, s->setup->group[g].n);
    return PAPA_OK;
}

/* The units of one kind, inside the first model's block i and the other's block j: s->column, s->square. False: nothing is known. */
static PapaStatus match_inside(Similar *s, const PapaMatchFamily *family, int kind, int64_t i, int64_t j, bool *known)
{
    const int g = family->inside[kind * family->n + i];
    const int64_t n = s->setup->group[g].n;
    *known = s->similarity[g] != NULL;
    if (!*known)
        return PAPA_OK;
    for (int64_t u = 0; u < n; u++)
        memcpy(s->square + u * n, s->similarity[g] + (u * family->n + j) * n, (size_t)n * sizeof *s->square);
    return assign(s, g, s->column, s->square);
}

static PapaStatus weigh_pair(Similar *s, const PapaMatchFamily *family, int64_t i, int64_t j, bool *any)
{
    double *worth = &s->worth[i * family->n + j];
    const double *rigid = s->similarity[family->blocks];
    *worth = rigid ? rigid[i * family->n + j] : 0;
    *any |= rigid != NULL;
    for (int kind = 0; kind < family->n_kinds; kind++) {
        bool known;
        PAPA_TRY(match_inside(s, family, kind, i, j, &known));
        if (known)
            *worth += sum_of(s->square, s->column, s->setup->group[family->inside[kind * family->n + i]].n);
        *any |= known;
    }
    return PAPA_OK;
}

/* Unit u of block i becomes unit column[u] of block j: it lies where its counterpart in j does, until j comes to i. */
static PapaStatus place_inside(Similar *s, const PapaMatchFamily *family, int kind, int64_t i, int64_t j)
{
    const int to = family->inside[kind * family->n + j];
    const PapaMatchGroup *at = &s->setup->group[family->inside[kind * family->n + i]], *from = &s->setup->group[to];
    bool known;
    PAPA_TRY(match_inside(s, family, kind, i, i, &known));
    if (known)
        s->out->before += sum_of(s->square, NULL, at->n);
    PAPA_TRY(match_inside(s, family, kind, i, j, &known));
    for (int64_t u = 0; u < at->n && known; u++)
        s->out->perms[to][from->unit[at->number[u]]] = s->column[u];
    return PAPA_OK;
}

static PapaStatus match_family(Similar *s, const PapaMatchFamily *family)
{
    bool any = false;
    for (int64_t i = 0; i < family->n; i++)
        for (int64_t j = 0; j < family->n; j++)
            PAPA_TRY(weigh_pair(s, family, i, j, &any));
    if (!any)
        return PAPA_OK;
    PAPA_TRY(assign(s, family->blocks, s->blocks, s->worth));
    memcpy(s->out->perms[family->blocks], s->blocks, (size_t)family->n * sizeof *s->blocks);
    s->out->objective += sum_of(s->worth, s->blocks, family->n);
    if (s->similarity[family->blocks])
        s->out->before += sum_of(s->similarity[family->blocks], NULL, family->n);
    for (int64_t i = 0; i < family->n; i++)
        for (int kind = 0; kind < family->n_kinds; kind++)
            PAPA_TRY(place_inside(s, family, kind, i, s->blocks[i]));
    return PAPA_OK;
}

static PapaStatus match_all(Similar *s)
{
    for (int g = 0; g < s->setup->n_groups; g++)
        if (s->setup->group[g].block < 0 && !(s->setup->group[g].family >= 0 && s->setup->families[s->setup->group[g].family].n_kinds))
            PAPA_TRY(match_plain(s, g));
    for (int f = 0; f < s->setup->n_families; f++)
        if (s->setup->families[f].n_kinds)
            PAPA_TRY(match_family(s, &s->setup->families[f]));
    return PAPA_OK;
}

PapaStatus papa_match_similarities(PapaMatch *out, const PapaGroups *groups, const double *const *similarity, const PapaMatchOptions *options)
{
    PapaStatus status;
    PapaMatchSetup *setup = NULL;
    Similar s = {.out = out, .similarity = similarity};
    *out = (PapaMatch){.n_groups = groups->n_groups};
    if (papa_match_stopped(options))
        return papa_fail(PAPA_ERR_STOPPED, "stopped before units were matched");
    PAPA_GOTO(papa_match_setup(&setup, groups, NULL, 0));
    s.setup = setup;
    PAPA_GOTO(papa_match_perms_new(&out->perms, setup));
    const size_t n = (size_t)setup->most_units + 1;
    s.square = calloc(n * n, sizeof *s.square);
    s.worth = calloc(n * n, sizeof *s.worth);
    s.column = calloc(n, sizeof *s.column);
    s.blocks = calloc(n, sizeof *s.blocks);
    if (!s.square || !s.worth || !s.column || !s.blocks)
        PAPA_GOTO(papa_fail_memory(n * n * sizeof *s.square, "a matching's similarities"));
    out->sweeps = 1;
    status = match_all(&s);
out:
    free(s.square), free(s.worth), free(s.column), free(s.blocks);
    papa_match_setup_free(setup);
    if (status != PAPA_OK)
        papa_match_free(out);
    return status;
}

PapaStatus papa_match_places(PapaMatchPlace *out, const PapaGroups *groups)
{
    PapaMatchSetup *setup;
    PAPA_TRY(papa_match_setup(&setup, groups, NULL, 0));
    for (int g = 0; g < setup->n_groups; g++) {
        const PapaMatchGroup *of = &setup->group[g];
        out[g] = of->block >= 0 ? (PapaMatchPlace){setup->families[of->family].blocks, of->block, of->kind} : (PapaMatchPlace){-1, -1, -1};
    }
    papa_match_setup_free(setup);
    return PAPA_OK;
}
