/* What rows do with the axes of whole values: tie, broadcast, join, split, cut, reshape. */
#include "graph/units.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- bundles */

unsigned papa_units_bundle(const PapaSpace *space, int axis)
{
    unsigned mask = 0;
    int bundle = space->axis[axis].bundle;
    for (int k = 0; bundle && k < space->shape.rank; k++)
        if (space->axis[k].bundle == bundle && space->shape.dim[k] > 1)
            mask |= 1u << k;
    return mask & (mask - 1) ? mask : 0;
}

static bool has(unsigned mask, int axis)
{
    return mask >> axis & 1;
}

static int64_t count_of(const PapaSpace *space, unsigned axes)
{
    int64_t count = 1;
    for (int k = 0; k < space->shape.rank; k++)
        if (has(axes, k))
            count *= space->shape.dim[k];
    return count;
}

/* Combination i of the indices of some axes, in row-major order. */
typedef struct Point {
    int64_t at;    /* in the positions of the axes `of`: the sum of index times stride */
    int64_t index; /* of the axes `of`, in row-major order among themselves */
    int64_t rest;  /* likewise of the others */
} Point;

static Point point(const PapaSpace *space, unsigned axes, unsigned of, int64_t i)
{
    Point p = {0};
    int64_t n = 1, n_rest = 1;
    for (int k = space->shape.rank - 1; k >= 0; k--) {
        if (!has(axes, k))
            continue;
        int64_t dim = space->shape.dim[k], index = i % dim;
        i /= dim;
        if (has(of, k)) {
            p.at += index * space->axis[k].stride;
            p.index += index * n;
            n *= dim;
        } else {
            p.rest += index * n_rest;
            n_rest *= dim;
        }
    }
    return p;
}

static bool has_blanks(const PapaPositions *list)
{
    for (int64_t i = 0; i < list->n; i++)
        if (list->at[i].unit == PAPA_UNIT_BLANK)
            return true;
    return false;
}

/* Gives row-major positions to these axes, as a bundle where there are several. */
static void set_positions(PapaUnits *u, PapaSpace *space, unsigned axes, PapaPositions *list)
{
    const int bundle = axes & (axes - 1) ? ++u->n_ids : 0;
    int64_t stride = 1;
    for (int k = space->shape.rank - 1; k >= 0; k--)
        if (has(axes, k)) {
            space->axis[k] = (PapaAxis){.positions = list, .stride = stride, .bundle = bundle};
            stride *= space->shape.dim[k];
        }
}

static PapaPositions *positions_of(const PapaSpace *space, unsigned axes)
{
    for (int k = 0; k < space->shape.rank; k++)
        if (has(axes, k))
            return space->axis[k].positions;
    return NULL;
}

/* Whether at, which is resolved, is part `element` of a whole: which. What is fixed is part of what is fixed. */
static bool is_part(const PapaUnits *u, PapaPosition at, int64_t element, PapaPosition *whole)
{
    if (at.unit == PAPA_UNIT_FIXED) {
        *whole = (PapaPosition){.unit = PAPA_UNIT_FIXED};
        return true;
    }
    *whole = (PapaPosition){at.unit, u->parts[at.part].parent, at.side};
    return at.part && u->parts[at.part].element == element;
}

/* The positions of one axis, where those of the bundle turn out to be parts of them: index a of it and the rest r hold part r of position a.
 * Else NULL. */
static PapaPositions *moves_alone(PapaUnits *u, const PapaSpace *space, unsigned axes, int axis)
{
    const PapaPositions *from = positions_of(space, axes);
    int64_t n = count_of(space, axes), dim = space->shape.dim[axis];
    PapaPosition *wholes = calloc((size_t)dim, sizeof *wholes), whole;
    PapaPositions *list = NULL;
    bool fits = wholes != NULL;
    u->failed |= !wholes;
    for (int64_t i = 0; i < n && fits; i++) { /* rest 0 comes first for each index of the axis */
        Point p = point(space, axes, 1u << axis, i), all = point(space, axes, axes, i);
        fits = is_part(u, papa_units_resolve(u, from->at[all.at]), p.rest, &whole);
        if (p.rest == 0)
            wholes[p.index] = whole;
        const PapaPosition *first = &wholes[p.index];
        fits &= first->unit == whole.unit && first->part == whole.part && first->side == whole.side;
    }
    if (fits && (list = papa_units_list(u, dim)))
        memcpy(list->at, wholes, (size_t)dim * sizeof *wholes);
    free(wholes);
    return list;
}

static void set_alone(PapaSpace *space, unsigned axes, int axis, PapaPositions *list)
{
    for (int k = 0; k < space->shape.rank; k++)
        if (has(axes, k))
            space->axis[k] = (PapaAxis){0};
    if (list)
        space->axis[axis] = (PapaAxis){.positions = list, .stride = 1};
}

/* How many positions of a bundle, from the first on, are the parts of one whole: such wholes (a group's channels) are parts of what the axis becomes. 1:
 * none. */
static int64_t length_of_wholes(PapaUnits *u, const PapaSpace *space, unsigned axes, int axis)
{
    const PapaPositions *from = positions_of(space, axes);
    const unsigned others = axes & ~(1u << axis);
    const int64_t n = count_of(space, others);
    PapaPosition first = {0}, whole;
    int64_t length = 0;
    for (; length < n; length++) {
        if (!is_part(u, papa_units_resolve(u, from->at[point(space, others, others, length).at]), length, &whole) || whole.unit < 0)
            break;
        if (!length)
            first = whole;
        if (whole.unit != first.unit || whole.part != first.part || whole.side != first.side)
            break;
    }
    return length && n % length == 0 ? length : 1;
}

/* Part i of a part, in wholes of this length: i / length, and in that i % length. */
static int32_t part_in_wholes(PapaUnits *u, int32_t part, int64_t i, int64_t length)
{
    return length == 1 ? papa_units_part(u, part, (int32_t)i)
                       : papa_units_part(u, papa_units_part(u, part, (int32_t)(i / length)), (int32_t)(i % length));
}

void papa_units_plain(PapaUnits *u, PapaSpace *space, int axis)
{
    unsigned axes = papa_units_bundle(space, axis);
    if (!has(axes, axis)) { /* it is alone, or of length 1 */
        space->axis[axis] = axes ? (PapaAxis){0} : (PapaAxis){.positions = space->axis[axis].positions, .stride = 1};
        return;
    }
    PapaPositions *list = moves_alone(u, space, axes, axis);
    if (!list && (list = papa_units_list(u, space->shape.dim[axis]))) {
        const PapaPositions *from = positions_of(space, axes);
        const int id = papa_units_condition(u);
        const int64_t length = length_of_wholes(u, space, axes, axis);
        for (int64_t i = 0; i < list->n; i++)
            list->at[i].unit = papa_units_fresh(u);
        for (int64_t i = 0; i < count_of(space, axes); i++) {
            Point p = point(space, axes, 1u << axis, i), all = point(space, axes, axes, i);
            PapaPosition whole = list->at[p.index], at = from->at[all.at];
            if (at.unit < 0)
                papa_units_pin(u, whole, "a part of it is fixed");
            else
                papa_units_tie_positions(u, (PapaPosition){whole.unit, part_in_wholes(u, 0, p.rest, length), 0}, at, id);
        }
    }
    set_alone(space, axes, axis, list);
}

/* As papa_units_stack for one bundle; of: the stack's axes in it. */
static void hold(PapaUnits *u, PapaSpace *space, unsigned axes, unsigned of)
{
    const PapaPositions *list = positions_of(space, axes);
    u->has_blocks = true;
    if (u->blocks) {
        papa_units_plain(u, space, __builtin_ctz(of));
        return;
    }
    const int id = papa_units_condition(u);
    PapaPositions *apart = has_blanks(list) ? papa_units_list(u, count_of(space, axes)) : NULL;
    for (int64_t i = 0; i < count_of(space, axes); i++) {
        const PapaPosition at = list->at[point(space, axes, axes, i).at];
        const int64_t layer = point(space, axes, of, i).index;
        papa_units_mark(u, at, id, layer);
        if (apart)
            apart->at[i] = at;
        if (apart && at.unit == PAPA_UNIT_BLANK) /* what is equal in each layer need not be so from layer to layer */
            apart->at[i].part = papa_units_part(u, at.part, (int32_t)layer);
    }
    if (apart)
        set_positions(u, space, axes, apart);
}

void papa_units_stack(PapaUnits *u, PapaSpace *space, unsigned axes)
{
    unsigned done = 0;
    for (int k = 0; k < space->shape.rank; k++) {
        unsigned bundle = papa_units_bundle(space, k);
        if (has(bundle, k) && !has(done, k) && bundle & axes && bundle & ~axes)
            hold(u, space, bundle, bundle & axes);
        done |= bundle;
    }
}

void papa_units_fix(PapaUnits *u, PapaSpace *space, int axis, const char *why)
{
    unsigned axes = papa_units_bundle(space, axis) | 1u << axis;
    const PapaPositions *list = space->axis[axis].positions;
    for (int64_t i = 0; list && i < list->n; i++)
        papa_units_pin(u, list->at[i], why);
    set_alone(space, axes, axis, NULL);
}

/* ---------------------------------------------------------------- ties */

static void pin_list(PapaUnits *u, const PapaPositions *list, const char *fixed)
{
    const char *why = papa_arena_printf(&u->arena, "nothing moves along the axis of '%s' that it meets", fixed);
    for (int64_t i = 0; i < list->n; i++)
        papa_units_pin(u, list->at[i], why ? why : "");
}

/* What stands at a position where two meet. */
static PapaPosition meet_positions(PapaUnits *u, PapaPosition a, int list_a, PapaPosition b, int list_b, int id)
{
    if (a.unit == PAPA_UNIT_FIXED || b.unit == PAPA_UNIT_FIXED) {
        papa_units_pin(u, a, "it meets what is fixed");
        papa_units_pin(u, b, "it meets what is fixed");
        return (PapaPosition){.unit = PAPA_UNIT_FIXED};
    }
    if (a.unit == PAPA_UNIT_BLANK && b.unit == PAPA_UNIT_BLANK) /* one content where both are one */
        return a.part == b.part ? a : (PapaPosition){PAPA_UNIT_BLANK, papa_units_part(u, a.part, ~b.part), 0};
    if (a.unit == PAPA_UNIT_BLANK) {
        papa_units_mark(u, b, list_a, a.part);
        return b;
    }
    if (b.unit == PAPA_UNIT_BLANK)
        papa_units_mark(u, a, list_b, b.part);
    else
        papa_units_tie_positions(u, a, b, id);
    return a;
}

/* a, b: of one length; names for messages. */
static PapaPositions *meet_lists(PapaUnits *u, PapaPositions *a, const char *name_a, PapaPositions *b, const char *name_b)
{
    if (a == b || (b && b->uniform))
        return a;
    if (a && a->uniform)
        return b;
    if (!a || !b) {
        pin_list(u, a ? a : b, a ? name_b : name_a);
        return NULL;
    }
    const int id = papa_units_condition(u);
    PapaPositions *result = !has_blanks(a) ? a : !has_blanks(b) ? b : papa_units_list(u, a->n);
    for (int64_t i = 0; i < a->n; i++) {
        PapaPosition at = meet_positions(u, a->at[i], a->id, b->at[i], b->id, id);
        if (result && result != a && result != b)
            result->at[i] = at;
    }
    return result;
}

PapaAxis papa_units_tie(PapaUnits *u, PapaSpace *a, int axis_a, PapaSpace *b, int axis_b)
{
    papa_units_plain(u, a, axis_a);
    papa_units_plain(u, b, axis_b);
    PapaPositions *list = meet_lists(u, a->axis[axis_a].positions, a->name, b->axis[axis_b].positions, b->name);
    return (PapaAxis){.positions = list, .stride = 1};
}

/* ---------------------------------------------------------------- broadcasting */

static void align(PapaSpace *space, int rank)
{
    int shift = rank - space->shape.rank;
    for (int k = rank - 1; k >= 0; k--) {
        space->shape.dim[k] = k < shift ? 1 : space->shape.dim[k - shift];
        space->axis[k] = k < shift ? (PapaAxis){0} : space->axis[k - shift];
    }
    space->shape.rank = rank;
}

/* Says nothing about what it meets along this axis. */
static bool is_silent(const PapaSpace *space, int axis)
{
    const PapaAxis *a = &space->axis[axis];
    return space->shape.dim[axis] == 1 || (a->positions && a->positions->uniform);
}

/* Both have bundles along these axes. a's becomes what stands along the result's. */
static void tie_bundles(PapaUnits *u, PapaSpace *a, const PapaSpace *b, unsigned axes)
{
    const PapaPositions *at_a = positions_of(a, axes), *at_b = positions_of(b, axes);
    PapaPositions *result = has_blanks(at_a) ? papa_units_list(u, count_of(a, axes)) : NULL;
    const int id = papa_units_condition(u);
    for (int64_t i = 0; i < count_of(a, axes); i++) {
        Point p = point(a, axes, axes, i), q = point(b, axes, axes, i);
        PapaPosition at = meet_positions(u, at_a->at[p.at], at_a->id, at_b->at[q.at], at_b->id, id);
        if (result)
            result->at[i] = at;
    }
    if (result)
        set_positions(u, a, axes, result);
}

static bool is_same_bundle(const PapaSpace *a, const PapaSpace *b, unsigned axes)
{
    for (int k = 0; k < a->shape.rank; k++)
        if (has(axes, k) && (a->axis[k].positions != b->axis[k].positions || a->axis[k].stride != b->axis[k].stride))
            return false;
    return true;
}

/* Brings a's bundles and what b has along their axes together. Where b has something else along some of them, these axes are a stack. */
static void meet_bundles(PapaUnits *u, PapaSpace *a, PapaSpace *b)
{
    unsigned done = 0;
    for (int k = 0; k < a->shape.rank; k++) {
        unsigned axes = papa_units_bundle(a, k), loud = 0;
        if (!has(axes, k) || has(done, k))
            continue;
        done |= axes;
        for (int j = k; j < a->shape.rank; j++)
            if (has(axes, j) && !is_silent(b, j))
                loud |= 1u << j;
        if (papa_units_bundle(b, k) == axes) {
            if (!is_same_bundle(a, b, axes))
                tie_bundles(u, a, b, axes);
            for (int j = 0; j < a->shape.rank; j++)
                if (has(axes, j))
                    b->axis[j] = a->axis[j];
            continue;
        }
        u->has_blocks |= loud != 0;
        if (loud && loud != axes)
            hold(u, a, axes, loud);
        else if (loud && u->blocks)
            papa_units_plain(u, a, k);
        else if (loud)
            papa_units_fix(u, a, k, "it meets axes that don't move as it does");
        for (int j = 0; !u->blocks && j < a->shape.rank; j++)
            if (has(loud, j))
                papa_units_fix(u, b, j, "it meets axes that don't move as it does");
    }
}

PapaSpace papa_units_meet(PapaUnits *u, PapaSpace a, PapaSpace b)
{
    int rank = a.shape.rank > b.shape.rank ? a.shape.rank : b.shape.rank;
    align(&a, rank);
    align(&b, rank);
    meet_bundles(u, &a, &b);
    meet_bundles(u, &b, &a);
    PapaSpace y = {.name = a.name, .shape = {.rank = rank}};
    for (int k = 0; k < rank; k++) {
        int64_t n_a = a.shape.dim[k], n_b = b.shape.dim[k];
        y.shape.dim[k] = n_a == 1 ? n_b : n_a;
        if (n_a == 1 || n_b == 1) {
            y.axis[k] = n_a != 1 ? a.axis[k] : n_b != 1 ? b.axis[k] : (PapaAxis){0};
        } else if (papa_units_bundle(&a, k) || papa_units_bundle(&b, k)) { /* the other one agrees by now */
            y.axis[k] = papa_units_bundle(&a, k) ? a.axis[k] : b.axis[k];
        } else {
            y.axis[k].positions = meet_lists(u, a.axis[k].positions, a.name, b.axis[k].positions, b.name);
            y.axis[k].stride = 1;
        }
    }
    return y;
}

/* ---------------------------------------------------------------- cutting and joining */

PapaAxis papa_units_repeated(PapaUnits *u, int64_t n)
{
    PapaPositions *list = papa_units_list(u, n);
    if (!list)
        return (PapaAxis){0};
    const int32_t blank = papa_units_blank(u);
    for (int64_t i = 0; i < n; i++)
        list->at[i] = (PapaPosition){PAPA_UNIT_BLANK, blank, 0};
    list->uniform = true;
    return (PapaAxis){.positions = list, .stride = 1};
}

/* The axis' positions (its bundle's) with another length n along it: a fresh list in row-major order. Position i of it is to be what *from says. */
typedef struct Cut {
    PapaSpace old;
    unsigned axes;
    PapaPositions *list;
} Cut;

static bool begin_cut(PapaUnits *u, Cut *cut, PapaSpace *space, int axis, int64_t n)
{
    unsigned axes = papa_units_bundle(space, axis) | 1u << axis;
    *cut = (Cut){.old = *space, .axes = axes};
    space->shape.dim[axis] = n;
    if (!space->axis[axis].positions)
        return false;
    cut->list = papa_units_list(u, count_of(space, axes));
    if (!cut->list) {
        set_alone(space, axes, axis, NULL);
        return false;
    }
    set_positions(u, space, axes, cut->list);
    return true;
}

static void do_pick(PapaUnits *u, PapaSpace *space, int axis, int64_t n, const int64_t *index, const int32_t *turns, int64_t start, int64_t step,
    int32_t blank)
{
    Cut cut;
    if (!begin_cut(u, &cut, space, axis, n))
        return;
    const PapaPositions *from = cut.old.axis[axis].positions;
    unsigned others = cut.axes & ~(1u << axis);
    for (int64_t i = 0; i < cut.list->n; i++) {
        Point p = point(space, cut.axes, 1u << axis, i);
        int64_t source = index ? index[p.index] : start + p.index * step;
        PapaPosition *to = &cut.list->at[i];
        if (source < 0) {
            *to = (PapaPosition){PAPA_UNIT_BLANK, blank, 0};
            continue;
        }
        *to = from->at[source * cut.old.axis[axis].stride + point(&cut.old, others, others, p.rest).at];
        if (turns && turns[p.index] && to->unit >= 0)
            to->part = papa_units_part(u, to->part, -turns[p.index]);
    }
    cut.list->uniform = from->uniform;
}

/* turns[i]: how often index[i] was there before. */
static int32_t *count_turns(PapaUnits *u, int64_t n, const int64_t *index, int64_t dim)
{
    int32_t *turns = calloc((size_t)(n + dim + 1), sizeof *turns), *seen = turns ? turns + n : NULL;
    u->failed |= !turns;
    for (int64_t i = 0; turns && i < n; i++)
        if (index[i] >= 0)
            turns[i] = seen[index[i]]++;
    return turns;
}

void papa_units_pick(PapaUnits *u, PapaSpace *space, int axis, int64_t n, const int64_t *index, int32_t blank)
{
    int32_t *turns = count_turns(u, n, index, space->shape.dim[axis]);
    bool all_there = true;
    for (int64_t i = 0; i < n; i++)
        all_there &= index[i] >= 0;
    if (space->axis[axis].positions && space->axis[axis].positions->uniform && !all_there) /* two kinds of blank */
        space->axis[axis].positions = NULL;
    if (turns)
        do_pick(u, space, axis, n, index, turns, 0, 0, blank);
    free(turns);
}

void papa_units_slice(PapaUnits *u, PapaSpace *space, int axis, int64_t n, int64_t start, int64_t step)
{
    if (n == space->shape.dim[axis] && start == 0 && step == 1)
        return;
    do_pick(u, space, axis, n, NULL, NULL, start, step, 0);
}

typedef struct Seen {
    PapaPosition position;
    int64_t at;
    int32_t operand;
} Seen;

static int compare_seen(const void *a, const void *b)
{
    const Seen *x = a, *y = b;
    if (x->position.unit != y->position.unit)
        return x->position.unit < y->position.unit ? -1 : 1;
    if (x->position.part != y->position.part)
        return x->position.part < y->position.part ? -1 : 1;
    if (x->position.side != y->position.side)
        return x->position.side < y->position.side ? -1 : 1;
    return x->operand - y->operand;
}

/* Of what stands in several operands, all but the first are told apart by their operand. */
static void tell_apart(PapaUnits *u, PapaPositions *list, const PapaSpace *spaces, int n, int axis)
{
    Seen *seen = calloc((size_t)list->n + 1, sizeof *seen);
    u->failed |= !seen;
    int64_t at = 0;
    for (int i = 0; seen && i < n; i++)
        for (int64_t k = 0; k < spaces[i].shape.dim[axis]; k++, at++)
            seen[at] = (Seen){papa_units_resolve(u, list->at[at]), at, i};
    if (seen)
        qsort(seen, (size_t)at, sizeof *seen, compare_seen);
    for (int64_t i = 1; seen && i < at; i++) {
        PapaPosition *to = &list->at[seen[i].at];
        const PapaPosition at_i = seen[i].position, before = seen[i - 1].position;
        if (to->unit >= 0 && at_i.unit == before.unit && at_i.part == before.part && at_i.side == before.side)
            to->part = papa_units_part(u, to->part, -1 - seen[i].operand);
    }
    free(seen);
}

static PapaPositions *join_lists(PapaUnits *u, const PapaSpace *spaces, int n, int axis)
{
    int64_t total = 0, at = 0;
    bool any = false;
    for (int i = 0; i < n; i++) {
        total += spaces[i].shape.dim[axis];
        any |= spaces[i].axis[axis].positions != NULL;
    }
    PapaPositions *list = any ? papa_units_list(u, total) : NULL;
    if (!list)
        return NULL;
    for (int i = 0; i < n; i++)
        for (int64_t k = 0; k < spaces[i].shape.dim[axis]; k++) {
            const PapaPositions *from = spaces[i].axis[axis].positions;
            list->at[at] = from ? from->at[k] : (PapaPosition){.unit = PAPA_UNIT_FIXED};
            if (list->at[at].unit == PAPA_UNIT_BLANK && !spaces[i].constant) /* the same stretch may hold other content in each operand */
                list->at[at].part = papa_units_part(u, list->at[at].part, -1 - i);
            at++;
        }
    tell_apart(u, list, spaces, n, axis);
    return list;
}

PapaSpace papa_units_concat(PapaUnits *u, PapaSpace *spaces, int n, int axis)
{
    PapaSpace y = {0};
    for (int i = 0; i < n; i++)
        papa_units_plain(u, &spaces[i], axis);
    PapaAxis joined = {.positions = join_lists(u, spaces, n, axis), .stride = 1};
    int64_t total = 0;
    for (int i = 0; i < n; i++) {
        total += spaces[i].shape.dim[axis];
        spaces[i].shape.dim[axis] = 1; /* the other axes are tied */
        spaces[i].axis[axis] = (PapaAxis){0};
        y = i ? papa_units_meet(u, y, spaces[i]) : spaces[i];
    }
    y.shape.dim[axis] = total;
    y.axis[axis] = joined;
    return y;
}

/* ---------------------------------------------------------------- reshaping */

/* Gives row-major positions to the axes of y that are longer than 1: to one of them alone if the others only name its parts, else as a bundle. */
static void spread(PapaUnits *u, PapaSpace *y, unsigned axes, PapaPositions *list)
{
    set_positions(u, y, axes, list);
    for (int k = 0; axes & (axes - 1) && k < y->shape.rank; k++) {
        PapaPositions *alone = has(axes, k) ? moves_alone(u, y, axes, k) : NULL;
        if (alone) {
            set_alone(y, axes, k, alone);
            return;
        }
    }
}

/* The axes `from` of x, in their order, become the axes `to` of y; all are longer than 1, and hold as many elements. */
static void reshape_axes(PapaUnits *u, PapaSpace *x, unsigned from, PapaSpace *y, unsigned to)
{
    unsigned moving = 0; /* axes of the positions that stay */
    for (int k = 0; k < x->shape.rank; k++) {
        if (!has(from, k))
            continue;
        const PapaPositions *list = x->axis[k].positions;
        if (!list || list->uniform || has(moving, k))
            continue;
        if (moving)
            papa_units_fix(u, x, k, "it becomes one axis with another that moves");
        else
            moving = papa_units_bundle(x, k) | 1u << k;
    }
    if (!moving)
        return;
    int64_t n = count_of(x, from);
    const int64_t n_parts = n / count_of(x, moving), behind = count_of(y, to & (to - 1)); /* to's first axis */
    const int64_t length = behind < n_parts && n_parts % behind == 0 ? behind : 1; /* it may hold parts, themselves of parts */
    const PapaPositions *old = positions_of(x, moving);
    PapaPositions *list = papa_units_list(u, n);
    for (int64_t i = 0; list && i < n; i++) {
        Point p = point(x, from, moving, i);
        list->at[i] = old->at[p.at];
        if (from != moving && list->at[i].unit != PAPA_UNIT_FIXED)
            list->at[i].part = part_in_wholes(u, list->at[i].part, p.rest, length);
    }
    if (list)
        spread(u, y, to, list);
}

static unsigned long_axes(const PapaShape *shape, int first, int end)
{
    unsigned axes = 0;
    for (int k = first; k < end; k++)
        if (shape->dim[k] != 1)
            axes |= 1u << k;
    return axes;
}

static bool one_axis(unsigned axes)
{
    return axes && !(axes & (axes - 1));
}

/* The shortest run of axes from *i on and from *o on that hold as many elements. */
static void next_run(const PapaShape *x, int *i, unsigned *from, const PapaShape *y, int *o, unsigned *to)
{
    const int i0 = *i, o0 = *o;
    int64_t n_in = *i < x->rank ? x->dim[(*i)++] : 1, n_out = *o < y->rank ? y->dim[(*o)++] : 1;
    while (n_in != n_out)
        if (n_in < n_out)
            n_in *= x->dim[(*i)++];
        else
            n_out *= y->dim[(*o)++];
    *from = long_axes(x, i0, *i);
    *to = long_axes(y, o0, *o);
}

PapaSpace papa_units_reshape(PapaUnits *u, PapaSpace x, const PapaShape *shape)
{
    PapaSpace y = {.name = x.name, .shape = *shape};
    unsigned from, to;
    if (!papa_shape_count(shape)) {
        for (int k = 0; k < x.shape.rank; k++)
            papa_units_fix(u, &x, k, "it has no elements");
        return y;
    }
    for (int i = 0, o = 0; i < x.shape.rank || o < shape->rank;) { /* bundles stay together, or are taken apart first */
        next_run(&x.shape, &i, &from, shape, &o, &to);
        for (int k = 0; !(one_axis(from) && one_axis(to)) && k < x.shape.rank; k++)
            if (has(from, k) && papa_units_bundle(&x, k) & ~from)
                papa_units_plain(u, &x, k);
    }
    for (int i = 0, o = 0; i < x.shape.rank || o < shape->rank;) {
        next_run(&x.shape, &i, &from, shape, &o, &to);
        if (one_axis(from) && one_axis(to))
            y.axis[__builtin_ctz(to)] = x.axis[__builtin_ctz(from)];
        else if (from)
            reshape_axes(u, &x, from, &y, to);
    }
    return y;
}

/* ---------------------------------------------------------------- rows' usual answers */

void papa_units_same(const PapaNode *node, PapaUnits *u)
{
    PapaSpace x = papa_units_in(u, node, 0);
    papa_units_set(u, node, 0, &x);
}

void papa_units_reshaped(const PapaNode *node, PapaUnits *u)
{
    PapaSpace y = papa_units_reshape(u, papa_units_in(u, node, 0), &node->out[0]->shape);
    papa_units_set(u, node, 0, &y);
}

void papa_units_elementwise(const PapaNode *node, PapaUnits *u)
{
    PapaSpace y = papa_units_in(u, node, 0);
    for (int i = 1; i < node->n_in; i++)
        if (papa_has_in(node, i))
            y = papa_units_meet(u, y, papa_units_in(u, node, i));
    papa_units_set(u, node, 0, &y);
}
