/* Blocks and the units inside them, found from where they lie.
 *
 * In its block, an element has a place: the same number in every block. A unit is known by the set of its elements' places, of which only a
 * hash is kept (64 bits, blind to order): units of two blocks with equal hashes correspond, and so do groups with equal sets of units. */
#include "align/match_parts.h"

#include <stdlib.h>
#include <string.h>

/* By element of a tensor that a family's blocks have a part in. */
typedef struct Places {
    int32_t *block; /* -1: none */
    uint32_t *place;
} Places;

typedef struct Finder {
    PapaMatchSetup *setup;
    int blocks;     /* the group */
    Places *places; /* by tensor */
    uint64_t *hash; /* of a group's units */
} Finder;

/* splitmix64's finaliser (Steele et al. 2014). */
static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

static int64_t element_of(const PapaSlots *s, int64_t slot, int64_t a, int64_t b)
{
    return s->base[slot] + a * s->stride[0] + b * s->stride[1];
}

static PapaStatus mark_places(Finder *f, PapaArena *arena)
{
    const PapaGroup *group = &f->setup->groups->groups[f->blocks];
    uint32_t next = 0;
    for (int k = 0; k < group->n_slots; k++) {
        const PapaSlots *s = &group->slots[k];
        const int64_t count = f->setup->groups->tensors[s->tensor].count;
        Places *places = &f->places[s->tensor];
        if (!places->block) {
            places->block = PAPA_NEW_ARRAY(arena, int32_t, count);
            places->place = PAPA_NEW_ARRAY(arena, uint32_t, count);
            if (!places->block || !places->place)
                return PAPA_ERR_MEMORY;
            memset(places->block, -1, (size_t)count * sizeof *places->block);
        }
        for (int64_t i = 0; i < group->n * s->n_parts; i++) {
            uint32_t place = next + (uint32_t)(i % s->n_parts * s->n[0] * s->n[1]);
            for (int64_t a = 0; a < s->n[0]; a++)
                for (int64_t b = 0; b < s->n[1]; b++) {
                    places->block[element_of(s, i, a, b)] = (int32_t)(i / s->n_parts);
                    places->place[element_of(s, i, a, b)] = place++;
                }
        }
        next += (uint32_t)papa_match_columns(s);
    }
    return PAPA_OK;
}

/* The block that all of the group's units lie in, and f->hash; -1: none. */
static int64_t block_around(Finder *f, int g)
{
    const PapaGroup *group = &f->setup->groups->groups[g];
    int64_t block = -1;
    for (int64_t u = 0; u < group->n; u++)
        f->hash[u] = 0;
    for (int k = 0; k < group->n_slots; k++) {
        const PapaSlots *s = &group->slots[k];
        const Places *places = &f->places[s->tensor];
        if (!places->block)
            return -1;
        for (int64_t i = 0; i < group->n * s->n_parts; i++)
            for (int64_t a = 0; a < s->n[0]; a++)
                for (int64_t b = 0; b < s->n[1]; b++) {
                    const int64_t at = element_of(s, i, a, b);
                    block = block < 0 ? places->block[at] : block;
                    if (block < 0 || places->block[at] != block)
                        return -1;
                    f->hash[i / s->n_parts] += mix(1 + (uint64_t)places->place[at]);
                }
    }
    return block;
}

/* A group found inside a block. */
typedef struct Inside {
    int group;
    int64_t block;
    uint64_t hash; /* of all units */
} Inside;

static int compare_inside(const void *a, const void *b)
{
    const Inside *x = a, *y = b;
    if (x->block != y->block)
        return x->block < y->block ? -1 : 1;
    return x->hash < y->hash ? -1 : x->hash > y->hash;
}

static int compare_hashes(const void *a, const void *b, void *hashes)
{
    const uint64_t x = ((uint64_t *)hashes)[*(const int64_t *)a], y = ((uint64_t *)hashes)[*(const int64_t *)b];
    return x < y ? -1 : x > y;
}

/* Units are numbered in the order of their hashes. */
static PapaStatus number_units(Finder *f, int g)
{
    PapaMatchGroup *group = &f->setup->group[g];
    int64_t *unit = PAPA_NEW_ARRAY(&f->setup->arena, int64_t, group->n), *number = PAPA_NEW_ARRAY(&f->setup->arena, int64_t, group->n);
    if (!unit || !number)
        return PAPA_ERR_MEMORY;
    for (int64_t u = 0; u < group->n; u++)
        unit[u] = u;
    qsort_r(unit, (size_t)group->n, sizeof *unit, compare_hashes, f->hash);
    papa_permutation_invert(number, unit, group->n);
    group->unit = unit;
    group->number = number;
    return PAPA_OK;
}

/* Every block holds the same kinds, and nothing that another family's blocks hold. found: sorted. */
static bool correspond(const PapaMatchSetup *setup, const Inside *found, int n_found, int64_t n_blocks)
{
    if (n_found % n_blocks)
        return false;
    const int64_t n_kinds = n_found / n_blocks;
    for (int64_t i = 0; i < n_found; i++) {
        const Inside *first = &found[i % n_kinds];
        const PapaMatchGroup *group = &setup->group[found[i].group];
        if (group->block >= 0 || group->n != setup->group[first->group].n || found[i].block != i / n_kinds || found[i].hash != first->hash)
            return false;
    }
    return true;
}

static PapaStatus find_inside(Finder *f, Inside *found, int *n_found)
{
    PapaMatchSetup *setup = f->setup;
    *n_found = 0;
    for (int g = 0; g < setup->n_groups; g++) {
        if (setup->groups->groups[g].blocks)
            continue;
        const int64_t block = block_around(f, g);
        if (block < 0)
            continue;
        uint64_t all = 0;
        for (int64_t u = 0; u < setup->group[g].n; u++)
            all += mix(f->hash[u]);
        found[(*n_found)++] = (Inside){g, block, all};
        PAPA_TRY(number_units(f, g));
    }
    qsort(found, (size_t)*n_found, sizeof *found, compare_inside);
    return PAPA_OK;
}

static PapaStatus add_family(Finder *f, const Inside *found, int n_found)
{
    PapaMatchSetup *setup = f->setup;
    const int64_t n = setup->group[f->blocks].n;
    if (!correspond(setup, found, n_found, n)) {
        setup->group[f->blocks].held = true;
        return PAPA_OK;
    }
    const int index = setup->n_families, n_kinds = (int)(n_found / n);
    PapaMatchFamily *family = &setup->families[index];
    *family = (PapaMatchFamily){.blocks = f->blocks, .n = n, .n_kinds = n_kinds, .inside = PAPA_NEW_ARRAY(&setup->arena, int, n_found)};
    if (!family->inside)
        return PAPA_ERR_MEMORY;
    for (int i = 0; i < n_found; i++) {
        PapaMatchGroup *group = &setup->group[found[i].group];
        group->family = index;
        group->block = found[i].block;
        group->kind = i % n_kinds;
        family->inside[group->kind * n + group->block] = found[i].group;
    }
    setup->group[f->blocks].family = index;
    setup->n_families++;
    return PAPA_OK;
}

static PapaStatus find_family(PapaMatchSetup *setup, int blocks)
{
    PapaStatus status;
    PapaArena arena = PAPA_ARENA_INIT;
    int n_found;
    Finder f = {.setup = setup, .blocks = blocks, .places = PAPA_NEW_ARRAY(&arena, Places, setup->groups->n_tensors),
        .hash = PAPA_NEW_ARRAY(&arena, uint64_t, setup->most_units)};
    Inside *found = PAPA_NEW_ARRAY(&arena, Inside, setup->n_groups);
    if (!f.places || !f.hash || !found)
        PAPA_GOTO(PAPA_ERR_MEMORY);
    PAPA_GOTO(mark_places(&f, &arena));
    PAPA_GOTO(find_inside(&f, found, &n_found));
    status = add_family(&f, found, n_found);
out:
    papa_arena_free(&arena);
    return status;
}

PapaStatus papa_match_find_families(PapaMatchSetup *setup)
{
    int n = 0;
    for (int g = 0; g < setup->n_groups; g++)
        n += setup->groups->groups[g].blocks;
    setup->families = PAPA_NEW_ARRAY(&setup->arena, PapaMatchFamily, n);
    if (!setup->families)
        return PAPA_ERR_MEMORY;
    for (int g = 0; g < setup->n_groups; g++)
        if (setup->groups->groups[g].blocks)
            PAPA_TRY(find_family(setup, g));
    return PAPA_OK;
}
