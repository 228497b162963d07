/* From units to groups: which are alike, and where they lie. */
#include "align/groups.h"

#include "graph/fold.h"
#include "graph/units.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- which units are alike */

/* A unit stands in a list of positions with one of its parts, or is marked. */
typedef struct Entry {
    int32_t unit; /* a root */
    int32_t id;   /* of the list; marks count apart */
    int32_t part; /* and side */
    int32_t own;  /* the list's own name for the unit */
} Entry;

/* All that is known of one root. */
typedef struct Kind {
    int32_t unit;
    int64_t first, n; /* entries */
} Kind;

typedef struct Member {
    int group;     /* -1: none */
    int64_t index; /* in the group */
} Member;

/* One search's outcome. */
typedef struct Search {
    PapaUnits *units;
    Entry *entries;
    int64_t n_entries;
    Kind *kinds;
    int64_t n_kinds;
    Member *members; /* by root; group: a number in order of kinds, then of appearance */
    int64_t *sizes;  /* by group */
    int n_groups;
} Search;

static void search_free(Search *s)
{
    papa_units_free(s->units);
    free(s->entries);
    free(s->kinds);
    free(s->members);
    free(s->sizes);
}

static int compare_numbers(int64_t a, int64_t b)
{
    return a < b ? -1 : a > b;
}

static int compare_entries(const void *a, const void *b)
{
    const Entry *x = a, *y = b;
    int by_unit = compare_numbers(x->unit, y->unit), by_id = compare_numbers(x->id, y->id);
    return by_unit ? by_unit : by_id ? by_id : compare_numbers(x->part, y->part);
}

/* Part and side as one number. */
static int32_t part_of(PapaUnits *u, PapaPosition at)
{
    return at.side ? papa_units_part(u, papa_units_part(u, at.part, INT32_MIN), at.side) : at.part;
}

static void add_entry(Search *s, int32_t unit, int64_t id, int32_t part, int32_t own)
{
    if (unit >= 0 && !s->units->units[unit].why)
        s->entries[s->n_entries++] = (Entry){unit, (int32_t)id, part, own};
}

static void add_mark(Search *s, const PapaMark *mark)
{
    PapaUnits *u = s->units;
    PapaPosition at = papa_units_resolve(u, mark->position), other = papa_units_resolve(u, mark->other);
    int32_t part = papa_units_part(u, part_of(u, at), other.unit < 0 ? mark->value : part_of(u, other));
    if (other.unit < 0 || part_of(u, at) != part_of(u, other))
        add_entry(s, at.unit, 2 * (int64_t)mark->id + 1, part, -1);
}

static PapaStatus collect_entries(Search *s)
{
    PapaUnits *u = s->units;
    int64_t most = u->n_marks + 1;
    for (int64_t i = 0; i < u->n_lists; i++)
        most += u->lists[i]->n;
    s->entries = calloc((size_t)most, sizeof *s->entries);
    if (!s->entries)
        return papa_fail_memory((size_t)most * sizeof *s->entries, "a network's units");
    for (int64_t i = 0; i < u->n_lists; i++)
        for (int64_t k = 0; k < u->lists[i]->n; k++) {
            PapaPosition at = papa_units_resolve(u, u->lists[i]->at[k]);
            add_entry(s, at.unit, 2 * (int64_t)u->lists[i]->id, part_of(u, at), u->lists[i]->at[k].unit);
        }
    for (int64_t i = 0; i < u->n_marks; i++)
        add_mark(s, &u->marks[i]);
    qsort(s->entries, (size_t)s->n_entries, sizeof *s->entries, compare_entries);
    return u->failed ? papa_fail(PAPA_ERR_MEMORY, "out of memory for a network's units") : PAPA_OK;
}

/* Siblings for the next search. */
typedef struct Family {
    PapaSiblings *pairs;
    int64_t n, capacity;
} Family;

static int compare_siblings(const void *a, const void *b)
{
    const PapaSiblings *x = a, *y = b;
    int by_unit = compare_numbers(x->unit, y->unit);
    return by_unit ? by_unit : compare_numbers(x->with, y->with);
}

static int compare_elders(const void *a, const void *b)
{
    const PapaSiblings *x = a, *y = b;
    int by_elder = compare_numbers(x->with, y->with);
    return by_elder ? by_elder : compare_numbers(x->unit, y->unit);
}

static PapaStatus add_siblings(Family *family, PapaSiblings siblings)
{
    if (family->n == family->capacity) {
        int64_t capacity = family->capacity ? 2 * family->capacity : 64;
        PapaSiblings *larger = reallocarray(family->pairs, (size_t)capacity, sizeof *larger);
        if (!larger)
            return papa_fail_memory((size_t)capacity * sizeof *larger, "a network's units");
        family->pairs = larger;
        family->capacity = capacity;
    }
    family->pairs[family->n++] = siblings;
    return PAPA_OK;
}

/* Each pair once, its side given, in order of the younger. */
static void sort_family(Family *family)
{
    PapaSiblings *pairs = family->pairs;
    int64_t n = 0;
    if (!family->n)
        return;
    qsort(pairs, (size_t)family->n, sizeof *pairs, compare_elders);
    for (int64_t i = 0; i < family->n; i++) {
        const bool of_same = n && pairs[n - 1].with == pairs[i].with;
        if (of_same && pairs[n - 1].unit == pairs[i].unit)
            continue;
        const int32_t side = of_same ? pairs[n - 1].side + 1 : 1;
        pairs[n] = pairs[i];
        pairs[n++].side = side;
    }
    family->n = n;
    qsort(pairs, (size_t)n, sizeof *pairs, compare_siblings);
}

/* The tie that made two units one: found where their ways to the root meet, as later ties are nearer to it. */
static bool find_siblings(const PapaUnits *u, int32_t a, int32_t b, PapaSiblings *out)
{
    int32_t last = -1;
    while (a != b) {
        int32_t *lower = u->units[b].tied_to < 0 || (u->units[a].tied_to >= 0 && u->units[a].tied_at < u->units[b].tied_at) ? &a : &b;
        last = *lower;
        *lower = u->units[last].tied_to;
    }
    if (last < 0 || !u->units[last].tied_whole)
        return false;
    int32_t with = u->units[last].tied_to;
    *out = last > with ? (PapaSiblings){last, with, 0} : (PapaSiblings){with, last, 0};
    return true;
}

/* A part that stands twice in one list can't be told from itself: the next search shall. Where it can't, the unit stays. Equal marks say nothing
 * more. */
static PapaStatus drop_twins(Search *s, Family *family)
{
    int64_t n = 0;
    for (int64_t i = 0; i < s->n_entries; i++) {
        const Entry *entry = &s->entries[i], *before = n ? &s->entries[n - 1] : NULL;
        PapaSiblings siblings;
        bool twin = before && compare_entries(entry, before) == 0;
        if (!twin) {
            s->entries[n++] = *entry;
            continue;
        }
        if (entry->id % 2)
            continue;
        if (find_siblings(s->units, entry->own, before->own, &siblings))
            PAPA_TRY(add_siblings(family, siblings));
        papa_units_pin(s->units, (PapaPosition){.unit = entry->unit}, "a part of it stands twice along an axis");
    }
    s->n_entries = n;
    return PAPA_OK;
}

static PapaStatus find_kinds(Search *s)
{
    s->kinds = calloc((size_t)s->n_entries + 1, sizeof *s->kinds);
    if (!s->kinds)
        return papa_fail_memory((size_t)s->n_entries * sizeof *s->kinds, "a network's units");
    for (int64_t i = 0; i < s->n_entries; i++) {
        if (s->units->units[s->entries[i].unit].why)
            continue;
        if (!i || s->entries[i].unit != s->entries[i - 1].unit)
            s->kinds[s->n_kinds++] = (Kind){s->entries[i].unit, i, 0};
        s->kinds[s->n_kinds - 1].n++;
    }
    return PAPA_OK;
}

/* 0 for units that are alike. */
static int compare_kinds(const Kind *a, const Kind *b, const Entry *entries)
{
    int by_number = compare_numbers(a->n, b->n);
    for (int64_t i = 0; i < a->n && !by_number; i++) {
        const Entry *x = &entries[a->first + i], *y = &entries[b->first + i];
        by_number = compare_numbers(x->id, y->id);
        if (!by_number)
            by_number = compare_numbers(x->part, y->part);
    }
    return by_number;
}

static int sort_kinds(const void *a, const void *b, void *entries)
{
    int by_kind = compare_kinds(a, b, entries);
    return by_kind ? by_kind : compare_numbers(((const Kind *)a)->unit, ((const Kind *)b)->unit);
}

/* Every unit gets the number of its group; the index is given later, by position. */
static PapaStatus number_groups(Search *s)
{
    s->members = calloc((size_t)s->units->n_units + 1, sizeof *s->members);
    s->sizes = calloc((size_t)s->n_kinds + 1, sizeof *s->sizes);
    if (!s->members || !s->sizes)
        return papa_fail_memory((size_t)s->units->n_units * sizeof *s->members, "a network's units");
    for (int64_t i = 0; i < s->units->n_units; i++)
        s->members[i] = (Member){-1, -1};
    qsort_r(s->kinds, (size_t)s->n_kinds, sizeof *s->kinds, sort_kinds, s->entries);
    for (int64_t i = 0, end; i < s->n_kinds; i = end) {
        for (end = i + 1; end < s->n_kinds && compare_kinds(&s->kinds[i], &s->kinds[end], s->entries) == 0; end++)
            ;
        if (end - i < 2)
            continue;
        for (int64_t k = i; k < end; k++)
            s->members[s->kinds[k].unit].group = s->n_groups;
        s->sizes[s->n_groups++] = end - i;
    }
    return PAPA_OK;
}

#define MOST_SEARCHES 4 /* each finds siblings of siblings; what is left is pinned */

static PapaStatus search(Search *s, const PapaGraph *graph, bool blocks)
{
    Family family = {0};
    PapaStatus status = PAPA_OK;
    for (int round = 0; round < MOST_SEARCHES; round++) {
        int64_t n_known = family.n;
        search_free(s);
        *s = (Search){0};
        PAPA_GOTO(papa_units_find(&s->units, graph, blocks, family.pairs, family.n));
        PAPA_GOTO(collect_entries(s));
        PAPA_GOTO(drop_twins(s, &family));
        sort_family(&family);
        if (family.n == n_known)
            break;
    }
    PAPA_GOTO(find_kinds(s));
    PAPA_GOTO(number_groups(s));
out:
    if (s->units)
        s->units->siblings = NULL; /* they were for the search only */
    free(family.pairs);
    return status;
}

/* ---------------------------------------------------------------- where they lie */

/* One part of one unit at one position of a place. */
typedef struct Stand {
    int group;
    int64_t unit;
    int32_t part;
    int64_t base;
} Stand;

static int compare_stands(const void *a, const void *b)
{
    const Stand *x = a, *y = b;
    int by_group = compare_numbers(x->group, y->group), by_unit = compare_numbers(x->unit, y->unit);
    return by_group ? by_group : by_unit ? by_unit : compare_numbers(x->part, y->part);
}

enum { NOT_YET = -1, LEFT_OUT = -2 };

typedef struct Maker {
    PapaGroups *groups;
    const Search *search;
    int *numbers;  /* by the search's group: index in groups->groups, or NOT_YET, LEFT_OUT */
    int64_t *next; /* by the search's group: the next unit's index */
} Maker;

static Member *member_at(const Search *s, PapaPosition position)
{
    PapaPosition at = papa_units_resolve(s->units, position);
    return at.unit >= 0 && s->members[at.unit].group >= 0 ? &s->members[at.unit] : NULL;
}

/* Groups, and units in them, are numbered as the network meets them. */
static void number_members(Maker *m)
{
    const PapaUnits *u = m->search->units;
    for (int64_t i = 0; i < u->n_places; i++)
        for (int64_t k = 0; k < u->places[i].positions->n; k++) {
            Member *member = member_at(m->search, u->places[i].positions->at[k]);
            if (!member || m->numbers[member->group] == LEFT_OUT)
                continue;
            if (m->numbers[member->group] == NOT_YET)
                m->numbers[member->group] = m->groups->n_groups++;
            if (member->index < 0)
                member->index = m->next[member->group]++;
        }
}

static int tensor_of(PapaGroups *groups, const PapaValue *value)
{
    for (int i = 0; i < groups->n_tensors; i++)
        if (groups->tensors[i].tensor == value->tensor)
            return i;
    groups->tensors[groups->n_tensors] = (PapaGroupTensor){value->name, value->tensor, value->shape, value->role, papa_shape_count(&value->shape)};
    return groups->n_tensors++;
}

/* The positions of a place that belong to groups, by group, unit and part. */
static int64_t stands_of(const Maker *m, const PapaPlace *place, Stand *stands)
{
    int64_t n = 0;
    for (int64_t i = 0; i < place->positions->n; i++) {
        const Member *member = member_at(m->search, place->positions->at[i]);
        if (member && m->numbers[member->group] >= 0)
            stands[n++] = (Stand){m->numbers[member->group], member->index, 
                part_of(m->search->units, papa_units_resolve(m->search->units, place->positions->at[i])), i / place->per * place->far + i % place->per * place->near};
    }
    qsort(stands, (size_t)n, sizeof *stands, compare_stands);
    return n;
}

static PapaSlots *new_slots(PapaGroups *groups, PapaGroup *group)
{
    if (!(group->n_slots & (group->n_slots - 1))) { /* full: 0, 1, 2, 4, ... */
        PapaSlots *larger = PAPA_NEW_ARRAY(&groups->arena, PapaSlots, group->n_slots ? 2 * group->n_slots : 1);
        if (!larger)
            return NULL;
        if (group->n_slots)
            memcpy(larger, group->slots, (size_t)group->n_slots * sizeof *larger);
        group->slots = larger;
    }
    return &group->slots[group->n_slots++];
}

static PapaStatus add_slots(const Maker *m, const PapaPlace *place, const Stand *stands, int64_t n)
{
    PapaGroups *groups = m->groups;
    PapaGroup *group = &groups->groups[stands->group];
    int64_t *base = PAPA_NEW_ARRAY(&groups->arena, int64_t, n);
    PapaSlots *slots = new_slots(groups, group);
    if (!base || !slots)
        return PAPA_ERR_MEMORY;
    for (int64_t i = 0; i < n; i++)
        base[i] = stands[i].base;
    *slots = (PapaSlots){.tensor = tensor_of(groups, place->value), .axis = place->axis, .n_parts = n / group->n, .base = base,
        .n = {place->n[0], place->n[1]}, .stride = {place->stride[0], place->stride[1]}};
    return PAPA_OK;
}

static PapaStatus add_place(const Maker *m, const PapaPlace *place)
{
    Stand *stands = calloc((size_t)place->positions->n + 1, sizeof *stands);
    if (!stands)
        return papa_fail_memory((size_t)place->positions->n * sizeof *stands, "a network's units");
    PapaStatus status = PAPA_OK;
    int64_t n = stands_of(m, place, stands);
    for (int64_t i = 0, end; i < n && status == PAPA_OK; i = end) {
        for (end = i + 1; end < n && stands[end].group == stands[i].group; end++)
            ;
        status = add_slots(m, place, &stands[i], end - i);
    }
    free(stands);
    return status;
}

static void name_group(const PapaGroups *groups, PapaGroup *group)
{
    int best = 0;
    while (best < group->n_slots && groups->tensors[group->slots[best].tensor].role != PAPA_ROLE_WEIGHT)
        best++;
    group->name = groups->tensors[group->slots[best < group->n_slots ? best : 0].tensor].name;
}

static PapaStatus make_groups(Maker *m, bool blocks)
{
    PapaGroups *groups = m->groups;
    const int first = groups->n_groups;
    number_members(m);
    PapaGroup *all = PAPA_NEW_ARRAY(&groups->arena, PapaGroup, groups->n_groups);
    if (!all)
        return PAPA_ERR_MEMORY;
    if (first)
        memcpy(all, groups->groups, (size_t)first * sizeof *all);
    groups->groups = all;
    for (int i = 0; i < m->search->n_groups; i++)
        if (m->numbers[i] >= 0)
            all[m->numbers[i]] = (PapaGroup){.n = m->search->sizes[i], .blocks = blocks};
    for (int64_t i = 0; i < m->search->units->n_places; i++)
        PAPA_TRY(add_place(m, &m->search->units->places[i]));
    for (int i = first; i < groups->n_groups; i++)
        name_group(groups, &groups->groups[i]);
    return PAPA_OK;
}

static PapaStatus begin_maker(Maker *m, PapaGroups *groups, const Search *search)
{
    *m = (Maker){.groups = groups, .search = search, .numbers = PAPA_NEW_ARRAY(&groups->arena, int, search->n_groups),
        .next = PAPA_NEW_ARRAY(&groups->arena, int64_t, search->n_groups)};
    if (!m->numbers || !m->next)
        return PAPA_ERR_MEMORY;
    for (int i = 0; i < search->n_groups; i++)
        m->numbers[i] = NOT_YET;
    return PAPA_OK;
}

/* ---------------------------------------------------------------- in which values they stand */

static PapaGroupValue *new_value(PapaGroups *groups)
{
    if (!(groups->n_values & (groups->n_values - 1))) { /* full, as above */
        PapaGroupValue *larger = PAPA_NEW_ARRAY(&groups->arena, PapaGroupValue, groups->n_values ? 2 * groups->n_values : 1);
        if (!larger)
            return NULL;
        if (groups->n_values)
            memcpy(larger, groups->values, (size_t)groups->n_values * sizeof *larger);
        groups->values = larger;
    }
    return &groups->values[groups->n_values++];
}

/* Stands of one group along an axis, sorted. */
static PapaStatus add_group_value(const Maker *m, const PapaSpace *space, int axis, const Stand *stands, int64_t n)
{
    PapaGroups *groups = m->groups;
    const int64_t size = groups->groups[stands->group].n, n_parts = n / size;
    int64_t *at = PAPA_NEW_ARRAY(&groups->arena, int64_t, n);
    if (!at)
        return PAPA_ERR_MEMORY;
    for (int64_t i = 0; i < n; i++) {
        if (n % size || stands[i].unit != i / n_parts || stands[i].part != stands[i % n_parts].part)
            return PAPA_OK; /* not all of them stand here: nothing to compare */
        at[i] = stands[i].base;
    }
    PapaGroupValue *value = new_value(groups);
    if (!value)
        return PAPA_ERR_MEMORY;
    *value = (PapaGroupValue){.name = space->name, .group = stands->group, .axis = axis, .length = space->shape.dim[axis],
        .n_parts = n_parts, .at = at};
    return PAPA_OK;
}

/* has: by group: those that are to be left out. */
static PapaStatus add_axis(const Maker *m, const PapaSpace *space, int axis, const bool *has)
{
    const PapaAxis *along = &space->axis[axis];
    const int64_t length = space->shape.dim[axis];
    Stand *stands = calloc((size_t)length + 1, sizeof *stands);
    if (!stands)
        return papa_fail_memory((size_t)length * sizeof *stands, "a network's units");
    PapaStatus status = PAPA_OK;
    int64_t n = 0;
    for (int64_t i = 0; i < length; i++) {
        PapaPosition position = along->positions->at[i * along->stride];
        const Member *member = member_at(m->search, position);
        if (member && m->numbers[member->group] >= 0 && !has[m->numbers[member->group]])
            stands[n++] = (Stand){m->numbers[member->group], member->index, part_of(m->search->units, papa_units_resolve(m->search->units, position)), i};
    }
    qsort(stands, (size_t)n, sizeof *stands, compare_stands);
    for (int64_t i = 0, end; i < n && status == PAPA_OK; i = end) {
        for (end = i + 1; end < n && stands[end].group == stands[i].group; end++)
            ;
        status = add_group_value(m, space, axis, &stands[i], end - i);
    }
    free(stands);
    return status;
}

static PapaStatus add_value(const Maker *m, const PapaValue *value, bool *seen, const bool *has)
{
    const PapaSpace *space = &m->search->units->spaces[value->index];
    if (value->kind != PAPA_VALUE_ACTIVATION || !value->fed || seen[value->index])
        return PAPA_OK;
    seen[value->index] = true;
    for (int k = 0; k < space->shape.rank; k++)
        if (space->axis[k].positions && !space->axis[k].bundle)
            PAPA_TRY(add_axis(m, space, k, has));
    return PAPA_OK;
}

/* A product with something that no input has a part in: a weight, however many nodes it passes through. */
static bool is_layer(const PapaNode *node)
{
    bool fed = false, given = false;
    for (int i = 0; node->op->linear && i < 2 && papa_has_in(node, i); i++)
        *(node->in[i]->fed ? &fed : &given) = true;
    return fed && given;
}

/* What linear layers read, or make. */
static PapaStatus add_values(const Maker *m, const PapaGraph *graph, bool made, const bool *has)
{
    bool *seen = calloc((size_t)graph->n_values + 1, sizeof *seen);
    PapaStatus status = seen ? PAPA_OK : papa_fail_memory((size_t)graph->n_values, "a network's units");
    for (int k = 0; k < graph->n_nodes && status == PAPA_OK; k++) {
        const PapaNode *node = graph->nodes[k];
        for (int i = 0; is_layer(node) && i < (made ? 1 : 2) && status == PAPA_OK; i++)
            status = add_value(m, made ? node->out[0] : node->in[i], seen, has);
    }
    free(seen);
    return status;
}

static PapaStatus find_values(const Maker *m, const PapaGraph *graph)
{
    PapaGroups *groups = m->groups;
    bool *has = PAPA_NEW_ARRAY(&groups->arena, bool, groups->n_groups);
    if (!has)
        return PAPA_ERR_MEMORY;
    PAPA_TRY(add_values(m, graph, false, has));
    for (int i = 0; i < groups->n_values; i++)
        has[groups->values[i].group] = true;
    return add_values(m, graph, true, has);
}

/* ---------------------------------------------------------------- blocks */

static const PapaPlace *same_place(const PapaUnits *u, const PapaPlace *place)
{
    for (int64_t i = 0; i < u->n_places; i++)
        if (u->places[i].value == place->value && u->places[i].axis == place->axis && u->places[i].positions->n == place->positions->n &&
            u->places[i].per == place->per)
            return &u->places[i];
    return NULL;
}

/* Leaves out the groups that the first search has found: all that a unit consists of is one unit there too, with others of its kind. */
static PapaStatus leave_out_known(Maker *m, const Search *inside)
{
    const Search *s = m->search;
    int32_t *seen = PAPA_NEW_ARRAY(&m->groups->arena, int32_t, s->units->n_units); /* by root: 1 + the inner root; -1: several, or none of a group */
    if (!seen)
        return PAPA_ERR_MEMORY;
    for (int64_t i = 0; i < s->units->n_places; i++) {
        const PapaPlace *place = &s->units->places[i], *inner = same_place(inside->units, place);
        for (int64_t k = 0; k < place->positions->n; k++) {
            PapaPosition at = papa_units_resolve(s->units, place->positions->at[k]);
            if (at.unit < 0)
                continue;
            PapaPosition part = inner ? papa_units_resolve(inside->units, inner->positions->at[k]) : (PapaPosition){.unit = PAPA_UNIT_FIXED};
            bool grouped = part.unit >= 0 && inside->members[part.unit].group >= 0;
            int32_t *root = &seen[at.unit], found = grouped ? 1 + part.unit : -1;
            *root = !*root || *root == found ? found : -1;
        }
    }
    for (int64_t i = 0; i < s->n_kinds; i++) {
        int group = s->members[s->kinds[i].unit].group;
        if (group >= 0 && seen[s->kinds[i].unit] > 0)
            m->numbers[group] = LEFT_OUT;
    }
    return PAPA_OK;
}

/* ---------------------------------------------------------------- what is pinned */

static PapaStatus list_pinned(PapaGroups *groups, const PapaUnits *units)
{
    groups->pinned = PAPA_NEW_ARRAY(&groups->arena, PapaPinned, units->n_places);
    if (!groups->pinned)
        return PAPA_ERR_MEMORY;
    for (int64_t i = 0; i < units->n_places; i++) {
        const PapaPlace *place = &units->places[i];
        const PapaUnit *first = NULL;
        int64_t n = 0;
        for (int64_t k = 0; k < place->positions->n; k++) {
            PapaPosition at = papa_units_resolve((PapaUnits *)units, place->positions->at[k]);
            const PapaUnit *unit = at.unit >= 0 ? &units->units[at.unit] : NULL;
            if (!unit || !unit->why || !*unit->why)
                continue;
            first = first ? first : unit;
            n++;
        }
        if (!n)
            continue;
        const char *why = first->pinned_by ? papa_arena_printf(&groups->arena, "%s: %s", first->pinned_by->label, first->why)
                                           : papa_arena_strdup(&groups->arena, first->why);
        if (!why)
            return PAPA_ERR_MEMORY;
        groups->pinned[groups->n_pinned++] = (PapaPinned){tensor_of(groups, place->value), place->axis, n, why};
    }
    return PAPA_OK;
}

/* ---------------------------------------------------------------- what is not understood */

static bool names_type(const PapaGraph *graph, int end, const char *type)
{
    for (int k = 0; k < end; k++)
        if (!graph->nodes[k]->op->units && !papa_node_is_blind(graph->nodes[k]) && strcmp(graph->nodes[k]->proto->op_type, type) == 0)
            return true;
    return false;
}

static PapaStatus list_opaque(PapaGroups *groups, const PapaGraph *graph)
{
    groups->opaque = "";
    for (int k = 0; k < graph->n_nodes; k++) {
        const PapaNode *node = graph->nodes[k];
        if (node->op->units)
            continue;
        groups->n_opaque++;
        if (papa_node_is_blind(node))
            groups->n_blind++;
        else if (!names_type(graph, k, node->proto->op_type))
            groups->opaque = papa_arena_printf(&groups->arena, "%s%s%s", groups->opaque, *groups->opaque ? ", " : "", node->proto->op_type);
        if (!groups->opaque)
            return PAPA_ERR_MEMORY;
    }
    return PAPA_OK;
}

/* ---------------------------------------------------------------- the whole */

#define OPEN_AXIS 128 /* enough for five halvings of an image */
#define OPEN_TOKENS 8 /* a sequence that every table of positions is long enough for */

/* What stands for axes that an input leaves open: images are large; what goes with token ids is short. */
static int64_t open_axis(const PapaGraph *graph, const Onnx__ValueInfoProto *input)
{
    const Onnx__TypeProto__Tensor *type = papa_tensor_type(input);
    bool tokens = false;
    for (int i = 0; i < graph->n_inputs; i++)
        tokens |= papa_type_is_integer(graph->inputs[i]->type);
    return tokens && type && type->shape && type->shape->n_dim < 4 ? OPEN_TOKENS : OPEN_AXIS;
}

static PapaStatus input_shapes(PapaGroups *groups, const PapaGraph *graph, const PapaGroupsOptions *options)
{
    const Onnx__GraphProto *proto = papa_onnx_graph(graph->onnx);
    PapaShape *shapes = groups->input_shapes = PAPA_NEW_ARRAY(&groups->arena, PapaShape, graph->n_inputs);
    groups->n_input_shapes = graph->n_inputs;
    if (!shapes)
        return PAPA_ERR_MEMORY;
    if (options && options->input_shapes && options->n_input_shapes != graph->n_inputs)
        return papa_fail(PAPA_ERR_ARGUMENT, "%d input shapes for %d inputs", options->n_input_shapes, graph->n_inputs);
    for (int i = 0; i < graph->n_inputs; i++) {
        for (size_t k = 0; k < proto->n_input; k++)
            if (strcmp(proto->input[k]->name, graph->inputs[i]->name) == 0)
                PAPA_TRY(papa_graph_declared_shape(&shapes[i], proto->input[k], 1, open_axis(graph, proto->input[k])));
        if (options && options->input_shapes)
            shapes[i] = options->input_shapes[i];
    }
    return PAPA_OK;
}

static PapaStatus derive(PapaGroups *groups, PapaGraph *graph, Search *inside, Search *blocks)
{
    Maker maker;
    groups->tensors = PAPA_NEW_ARRAY(&groups->arena, PapaGroupTensor, graph->n_values);
    if (!groups->tensors)
        return PAPA_ERR_MEMORY;
    PAPA_TRY(search(inside, graph, false));
    PAPA_TRY(begin_maker(&maker, groups, inside));
    PAPA_TRY(make_groups(&maker, false));
    PAPA_TRY(find_values(&maker, graph));
    for (int i = 0; i < groups->n_groups; i++)
        groups->n_units += groups->groups[i].n;
    PAPA_TRY(list_pinned(groups, inside->units));
    PAPA_TRY(list_opaque(groups, graph));
    if (!inside->units->has_blocks)
        return PAPA_OK;
    PAPA_TRY(search(blocks, graph, true));
    PAPA_TRY(begin_maker(&maker, groups, blocks));
    PAPA_TRY(leave_out_known(&maker, inside));
    return make_groups(&maker, true);
}

PapaStatus papa_groups_derive(PapaGroups **out, const PapaOnnx *onnx, const PapaGroupsOptions *options)
{
    PapaStatus status;
    PapaGraph *graph = NULL;
    Search inside = {0}, blocks = {0};
    PapaGroups *groups = calloc(1, sizeof *groups);
    if (!groups)
        return papa_fail_memory(sizeof *groups, "a network's groups");
    PAPA_GOTO(papa_graph_read(&graph, onnx, &(PapaGraphOptions){.mode = PAPA_MODE_INFER, .opaque = true}));
    status = input_shapes(groups, graph, options);
    if (status != PAPA_OK)
        PAPA_GOTO(papa_fail_in(status, "%s", papa_onnx_path(onnx)));
    PAPA_GOTO(papa_graph_infer(graph, groups->input_shapes));
    status = derive(groups, graph, &inside, &blocks);
    if (status != PAPA_OK)
        PAPA_GOTO(papa_fail_in(status, "%s", papa_onnx_path(onnx)));
    *out = groups;
out:
    search_free(&inside);
    search_free(&blocks);
    papa_graph_free(graph);
    if (status != PAPA_OK)
        papa_groups_free(groups);
    return status;
}

void papa_groups_free(PapaGroups *groups)
{
    if (!groups)
        return;
    papa_arena_free(&groups->arena);
    free(groups);
}
