/* Units, parts, lists of positions; and the walk over the nodes. What rows do with whole axes is in units_space.c. */
#include "graph/units.h"

#include <stdlib.h>
#include <string.h>

/* Room for one more item; NULL when memory runs out. */
static void *grow(PapaUnits *u, void *items, int64_t n, int64_t *capacity, size_t size)
{
    if (n < *capacity)
        return items;
    int64_t larger = *capacity ? 2 * *capacity : 256;
    void *moved = n < INT32_MAX / 2 ? reallocarray(items, (size_t)larger, size) : NULL;
    if (!moved) {
        u->failed = true;
        return NULL;
    }
    *capacity = larger;
    return moved;
}

#define GROW(u, items, n, capacity) (((u)->failed ? NULL : grow((u), (items), (n), &(capacity), sizeof *(items))))

/* ---------------------------------------------------------------- parts */

static uint32_t part_hash(int32_t parent, int32_t element)
{
    uint64_t h = ((uint64_t)(uint32_t)parent << 32 | (uint32_t)element) * 0x9E3779B97F4A7C15u;
    return (uint32_t)(h >> 32);
}

static bool grow_buckets(PapaUnits *u)
{
    int64_t n = u->n_buckets ? 2 * u->n_buckets : 1024;
    int32_t *buckets = calloc((size_t)n, sizeof *buckets); /* part 0 ends a chain: it is in none */
    if (!buckets) {
        u->failed = true;
        return false;
    }
    for (int32_t i = 1; i < u->n_parts; i++) {
        int32_t *first = &buckets[part_hash(u->parts[i].parent, u->parts[i].element) & (uint32_t)(n - 1)];
        u->parts[i].next = *first;
        *first = i;
    }
    free(u->part_buckets);
    u->part_buckets = buckets;
    u->n_buckets = n;
    return true;
}

int32_t papa_units_part(PapaUnits *u, int32_t part, int32_t element)
{
    if (u->n_parts >= u->n_buckets && !grow_buckets(u))
        return 0;
    int32_t *first = &u->part_buckets[part_hash(part, element) & (uint32_t)(u->n_buckets - 1)];
    for (int32_t i = *first; i; i = u->parts[i].next)
        if (u->parts[i].parent == part && u->parts[i].element == element)
            return i;
    void *parts = GROW(u, u->parts, u->n_parts, u->parts_capacity);
    if (!parts)
        return 0;
    u->parts = parts;
    u->parts[u->n_parts] = (struct PapaPart){part, element, *first};
    return *first = (int32_t)u->n_parts++;
}

/* Part q of part p. */
static int32_t join_parts(PapaUnits *u, int32_t p, int32_t q)
{
    return !q ? p : !p ? q : papa_units_part(u, join_parts(u, p, u->parts[q].parent), u->parts[q].element);
}

int32_t papa_units_blank(PapaUnits *u)
{
    int32_t own = papa_units_part(u, papa_units_part(u, 0, INT32_MIN), INT32_MIN); /* no number's, nor a part of one */
    return papa_units_part(u, own, u->n_ids++);
}

/* The stretch that holds this number, in every constant. */
static int32_t blank_of_number(PapaUnits *u, float value)
{
    int32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return papa_units_part(u, 0, bits);
}

/* ---------------------------------------------------------------- units */

int32_t papa_units_fresh(PapaUnits *u)
{
    void *units = GROW(u, u->units, u->n_units, u->units_capacity);
    if (!units)
        return PAPA_UNIT_FIXED;
    u->units = units;
    int32_t unit = (int32_t)u->n_units++;
    u->units[unit] = (PapaUnit){.parent = unit, .tied_to = -1, .size = 1};
    int64_t low = 0, high = u->n_siblings;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (u->siblings[middle].unit < unit)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < u->n_siblings && u->siblings[low].unit == unit; low++)
        papa_units_tie_positions(u, (PapaPosition){unit, 0, 0}, (PapaPosition){u->siblings[low].with, 0, u->siblings[low].side},
            papa_units_condition(u));
    return unit;
}

PapaPosition papa_units_resolve(PapaUnits *u, PapaPosition position)
{
    if (position.unit < 0)
        return position;
    PapaUnit *units = u->units;
    int32_t at = position.unit, part = position.part, side = position.side;
    while (units[at].parent != at) {
        PapaUnit *unit = &units[at];
        const PapaUnit *parent = &units[unit->parent];
        if (parent->parent != unit->parent) { /* the next search is shorter */
            unit->part = join_parts(u, parent->part, unit->part);
            unit->side += parent->side;
            unit->parent = parent->parent;
        }
        part = join_parts(u, unit->part, part);
        side += unit->side;
        at = unit->parent;
    }
    return (PapaPosition){at, part, side};
}

static void pin_root(PapaUnit *root, const PapaNode *node, const char *why)
{
    if (!root->why || (!*root->why && *why)) {
        root->pinned_by = node;
        root->why = why;
    }
}

void papa_units_pin(PapaUnits *u, PapaPosition position, const char *why)
{
    position = papa_units_resolve(u, position);
    if (position.unit >= 0)
        pin_root(&u->units[position.unit], u->node, why);
}

static void mark(PapaUnits *u, PapaPosition position, int id, int32_t value, PapaPosition other)
{
    void *marks = position.unit >= 0 ? GROW(u, u->marks, u->n_marks, u->marks_capacity) : NULL;
    if (!marks)
        return;
    u->marks = marks;
    u->marks[u->n_marks++] = (PapaMark){position, id, value, other};
}

static void unite(PapaUnits *u, PapaPosition whole, PapaPosition part)
{
    PapaUnit *root = &u->units[whole.unit], *unit = &u->units[part.unit];
    unit->parent = unit->tied_to = whole.unit;
    unit->part = whole.part;
    unit->tied_whole = !whole.part;
    unit->tied_at = u->n_ties++;
    unit->side = whole.side - part.side;
    root->size += unit->size;
    if (unit->why)
        pin_root(root, unit->pinned_by, unit->why);
}

void papa_units_tie_positions(PapaUnits *u, PapaPosition a, PapaPosition b, int id)
{
    a = papa_units_resolve(u, a);
    b = papa_units_resolve(u, b);
    if (a.unit < 0 || b.unit < 0 || u->failed)
        return;
    if (a.unit == b.unit) {
        if (a.part != b.part || a.side != b.side)
            mark(u, a, id, 0, b);
        return;
    }
    /* The same part of two things: then the two things move together. */
    while (a.part && b.part && u->parts[a.part].element == u->parts[b.part].element) {
        a.part = u->parts[a.part].parent;
        b.part = u->parts[b.part].parent;
    }
    if (a.part && b.part) {
        papa_units_pin(u, a, "it ties parts of two units that don't fit together");
        papa_units_pin(u, b, "it ties parts of two units that don't fit together");
    } else if (b.part || (!a.part && u->units[a.unit].size < u->units[b.unit].size)) {
        unite(u, b, a);
    } else {
        unite(u, a, b);
    }
}

/* ---------------------------------------------------------------- lists, marks, places */

#define MOST_POSITIONS ((int64_t)1 << 28) /* a file of a few bytes can ask for any number of them */

PapaPositions *papa_units_list(PapaUnits *u, int64_t n)
{
    if (n > MOST_POSITIONS - u->n_positions) {
        u->failed = true;
        return NULL;
    }
    u->n_positions += n;
    void *lists = GROW(u, u->lists, u->n_lists, u->lists_capacity);
    if (!lists)
        return NULL;
    u->lists = lists;
    PapaPositions *list = PAPA_NEW(&u->arena, PapaPositions);
    PapaPosition *at = PAPA_NEW_ARRAY(&u->arena, PapaPosition, n);
    if (!list || !at) {
        u->failed = true;
        return NULL;
    }
    *list = (PapaPositions){.id = u->n_ids++, .n = n, .at = at};
    return u->lists[u->n_lists++] = list;
}

int papa_units_condition(PapaUnits *u)
{
    return u->n_ids++;
}

void papa_units_mark(PapaUnits *u, PapaPosition position, int id, int64_t value)
{
    mark(u, position, id, (int32_t)value, (PapaPosition){.unit = PAPA_UNIT_FIXED});
}

void papa_units_add_place(PapaUnits *u, const PapaPlace *place)
{
    void *places = GROW(u, u->places, u->n_places, u->places_capacity);
    if (!places)
        return;
    u->places = places;
    u->places[u->n_places++] = *place;
}

/* ---------------------------------------------------------------- the file's tensors */

/* Every axis of a tensor begins as units of its own. */
static void begin_tensor(PapaUnits *u, const PapaValue *value)
{
    const PapaShape *shape = &value->shape;
    PapaSpace *space = &u->spaces[value->index];
    for (int k = 0; k < shape->rank; k++) {
        int64_t inner = papa_shape_count_from(shape, k + 1, shape->rank);
        PapaPositions *list = shape->dim[k] > 1 ? papa_units_list(u, shape->dim[k]) : NULL;
        if (!list)
            continue;
        for (int64_t i = 0; i < list->n; i++)
            list->at[i].unit = papa_units_fresh(u);
        space->axis[k] = (PapaAxis){.positions = list, .stride = 1};
        papa_units_add_place(u, &(PapaPlace){.value = value, .axis = k, .positions = list, .per = list->n, .near = inner,
            .n = {papa_shape_count_from(shape, 0, k), inner}, .stride = {list->n * inner, 1}});
    }
}

/* Whether all that stands along an axis is the same, element by element. */
static bool is_repeated(const float *data, const PapaShape *shape, int axis)
{
    int64_t inner = papa_shape_count_from(shape, axis + 1, shape->rank), n = shape->dim[axis], outer = papa_shape_count_from(shape, 0, axis);
    for (int64_t o = 0; o < outer; o++, data += n * inner)
        for (int64_t i = inner; i < n * inner; i++)
            if (data[i] != data[i - inner])
                return false;
    return true;
}

static void begin_constant(PapaUnits *u, const PapaValue *value)
{
    const float *data = value->data;
    const PapaShape *shape = &value->shape;
    int64_t count = papa_shape_count(shape);
    PapaSpace *space = &u->spaces[value->index];
    if (!papa_type_is_float(value->type) || count < 2 || !data || value->fed) /* numbers made up say nothing */
        return;
    bool one_number = true;
    for (int64_t i = 1; i < count && one_number; i++)
        one_number = data[i] == data[0];
    for (int k = 0; k < shape->rank; k++) {
        if (shape->dim[k] < 2 || !(one_number || is_repeated(data, shape, k)))
            continue;
        space->axis[k] = papa_units_repeated(u, shape->dim[k]);
        for (int64_t i = 0; one_number && space->axis[k].positions && i < shape->dim[k]; i++)
            space->axis[k].positions->at[i].part = blank_of_number(u, data[0]);
    }
}

/* ---------------------------------------------------------------- values, for rows */

PapaSpace papa_units_in(PapaUnits *u, const PapaNode *node, int i)
{
    if (!papa_has_in(node, i))
        return (PapaSpace){.name = ""};
    const PapaValue *value = node->in[i];
    if (!u->known[value->index]) {
        u->known[value->index] = true;
        if (value->kind == PAPA_VALUE_TENSOR)
            begin_tensor(u, value);
        else if (value->kind == PAPA_VALUE_CONSTANT)
            begin_constant(u, value);
    }
    return u->spaces[value->index];
}

PapaSpace *papa_units_out(PapaUnits *u, const PapaNode *node, int i)
{
    return papa_has_out(node, i) ? &u->spaces[node->out[i]->index] : NULL;
}

void papa_units_set(PapaUnits *u, const PapaNode *node, int i, const PapaSpace *x)
{
    PapaSpace *y = papa_units_out(u, node, i);
    if (y)
        memcpy(y->axis, x->axis, sizeof y->axis);
}

/* ---------------------------------------------------------------- the walk */

static void pin_all(PapaUnits *u, const PapaNode *node)
{
    const char *why = papa_node_is_blind(node) ? "what stands in front of it is of unknown shape" : "it does not say what becomes of units";
    for (int i = 0; i < node->n_in; i++) {
        PapaSpace space = papa_units_in(u, node, i);
        for (int k = 0; k < space.shape.rank; k++)
            papa_units_fix(u, &space, k, why);
    }
}

static void walk_nodes(PapaUnits *u)
{
    for (int k = 0; k < u->graph->n_nodes && !u->failed; k++) {
        const PapaNode *node = u->node = u->graph->nodes[k];
        if (node->op->units)
            node->op->units(node, u);
        else
            pin_all(u, node);
    }
    u->node = NULL;
}

static PapaStatus pin_outputs(PapaUnits *u)
{
    for (int i = 0; i < u->graph->n_outputs; i++) {
        const PapaValue *value = u->graph->outputs[i];
        const char *why = papa_arena_printf(&u->arena, "it is the output '%s'", value->name);
        if (!why)
            return PAPA_ERR_MEMORY;
        PapaNode reader = {.in = (PapaValue *[]){u->graph->outputs[i]}, .n_in = 1};
        PapaSpace space = papa_units_in(u, &reader, 0);
        for (int k = 0; k < space.shape.rank; k++)
            papa_units_fix(u, &space, k, why);
    }
    return PAPA_OK;
}

static PapaStatus find(PapaUnits *u)
{
    const PapaGraph *graph = u->graph;
    u->spaces = PAPA_NEW_ARRAY(&u->arena, PapaSpace, graph->n_values);
    u->known = PAPA_NEW_ARRAY(&u->arena, bool, graph->n_values);
    if (!u->spaces || !u->known)
        return PAPA_ERR_MEMORY;
    for (int i = 0; i < graph->n_values; i++)
        u->spaces[i] = (PapaSpace){.name = graph->values[i]->name, .constant = graph->values[i]->kind == PAPA_VALUE_CONSTANT,
            .shape = graph->values[i]->has_shape ? graph->values[i]->shape : (PapaShape){0}};
    u->n_parts = 1; /* the whole */
    void *parts = GROW(u, u->parts, u->n_parts, u->parts_capacity);
    if (!parts || !grow_buckets(u))
        return papa_fail_memory(sizeof *u->parts, "a network's units");
    u->parts = parts;
    u->parts[0] = (struct PapaPart){0};
    walk_nodes(u);
    PAPA_TRY(pin_outputs(u));
    return u->failed ? papa_fail(PAPA_ERR_MEMORY, "out of memory for a network's units") : PAPA_OK;
}

PapaStatus papa_units_find(PapaUnits **out, const PapaGraph *graph, bool blocks, const PapaSiblings *siblings, int64_t n_siblings)
{
    PapaUnits *u = calloc(1, sizeof *u);
    if (!u)
        return papa_fail_memory(sizeof *u, "a network's units");
    u->graph = graph;
    u->blocks = blocks;
    u->siblings = siblings;
    u->n_siblings = n_siblings;
    PapaStatus status = find(u);
    if (status != PAPA_OK) {
        papa_units_free(u);
        return status;
    }
    *out = u;
    return PAPA_OK;
}

void papa_units_free(PapaUnits *u)
{
    if (!u)
        return;
    free(u->units);
    free(u->parts);
    free(u->part_buckets);
    free(u->lists);
    free(u->marks);
    free(u->places);
    papa_arena_free(&u->arena);
    free(u);
}
