/* Units: what may change places inside a network without changing its function. A channel, a hidden neuron, an attention head.
 *
 * Each axis of each value is fixed, or a list of positions, one per index, that say which part of which unit stands there. To permute units by s
 * is to move what stands at (u, part) to where (s(u), part) stands, on every axis of every value at once. An operator's row (op->units) says
 * what stands along its outputs' axes, and ties positions of its inputs that must move together, so that the operator commutes with
 * such moves. At the end two units may be exchanged if they stand in the same lists of positions with the same parts: then every
 * node, and so the network, goes along. Nothing is assumed of a tensor's meaning: residual sums, Concat's offsets, Flatten in front of Gemm,
 * depthwise convolutions, padded shortcuts and shared weights all follow.
 *
 * Parts are paths: where an axis of units and a fixed one become one axis, the unit's part at index s is its old part, then s. A tie between
 * a whole unit and a part of another makes the first that part of the second. Where two parts of one unit are tied, units are alike only if
 * the same two parts of them are. Positions that can't be told apart are pinned, never guessed.
 *
 * BUNDLES. Where one axis is reshaped into several (heads, dimension of a head), the positions belong to all of these axes together. An operator
 * for which some axes of a bundle are a stack (matrix products) either holds them, so that units stay within their layer of the stack,
 * or, where blocks are asked for, makes each layer one unit. Likewise the groups of a convolution. So a first search finds
 * the units inside the blocks, a second one the blocks; both kinds of permutation are sound on their own, hence in any order.
 *
 * Functions here fail in one way only, for memory; that is remembered, and papa_units_find reports it. Axes are in ONNX's order. */
#ifndef PAPA_UNITS_H
#define PAPA_UNITS_H

#include "graph/op.h"

enum {
    PAPA_UNIT_FIXED = -1, /* something that never moves */
    PAPA_UNIT_BLANK = -2, /* part of a stretch of equal content (padding, a repeated axis): moving within it changes nothing. part: which stretch */
};

typedef struct PapaPosition {
    int32_t unit; /* or PAPA_UNIT_* */
    int32_t part; /* 0: the whole; see papa_units_part */
    int32_t side; /* tells apart what moves together and stands on one axis, as the two halves of a gated layer do; 0 but for siblings */
} PapaPosition;

typedef struct PapaPositions {
    int id;       /* of this list, among lists and marks */
    bool uniform; /* all are of one blank stretch */
    int64_t n;
    PapaPosition *at;
} PapaPositions;

typedef struct PapaAxis {
    PapaPositions *positions; /* NULL: fixed */
    int64_t stride;           /* of this axis' index in positions; 1 where the axis has them alone */
    int bundle;               /* 0: it has. Else axes of one value with this number share positions */
} PapaAxis;

/* A value as units see it. */
typedef struct PapaSpace {
    const char *name;
    bool constant; /* a known number means the same in all of these */
    PapaShape shape;
    PapaAxis axis[PAPA_MAX_RANK];
} PapaSpace;

/* Where positions of a tensor of the file lie in its elements: position i at base(i) + a * stride[0] + b * stride[1], a < n[0], b < n[1]. */
typedef struct PapaPlace {
    const PapaValue *value;
    int axis;
    const PapaPositions *positions;
    int64_t per, far, near; /* base(i) = i / per * far + i % per * near */
    int64_t n[2], stride[2];
} PapaPlace;

/* Units are alike only if they are marked alike. */
typedef struct PapaMark {
    PapaPosition position;
    int id;             /* of the condition */
    int32_t value;      /* of the position in it */
    PapaPosition other; /* what else stands there; FIXED: nothing */
} PapaMark;

/* Two units that a first search found to move together though they stand on one axis: in the next one they are two sides of one unit. */
typedef struct PapaSiblings {
    int32_t unit, with; /* the later and the earlier one, as numbered */
    int32_t side;       /* of the later one; another for each of the earlier one's siblings */
} PapaSiblings;

typedef struct PapaUnit {
    int32_t parent, part, side; /* it is that part of its parent; its own parent: a root */
    int32_t tied_to;       /* the root that it became part of when it was one; -1: it is one */
    bool tied_whole;       /* and as that unit's equal */
    int32_t tied_at;       /* when: ties are numbered */
    int32_t size;          /* of a root: units that it stands for */
    const PapaNode *pinned_by; /* of a root; NULL with a why: not a node's doing */
    const char *why;       /* of a root: it must not move, for this reason; "": for one not worth telling. NULL: it may */
} PapaUnit;

struct PapaUnits {
    const PapaGraph *graph;
    PapaArena arena;
    bool blocks;           /* this search finds blocks */
    bool has_blocks;       /* there are some to find */
    const PapaSiblings *siblings;
    int64_t n_siblings;
    bool failed;           /* memory ran out */
    const PapaNode *node;  /* whose row is at work */
    PapaSpace *spaces;     /* by value index */
    bool *known;           /* whether a constant's space has been made; by value index */
    PapaUnit *units;
    int64_t n_units, units_capacity;
    struct PapaPart {
        int32_t parent, element, next;
    } *parts;              /* 0: the whole */
    int64_t n_parts, parts_capacity;
    int32_t *part_buckets; /* first part of each; a power of two */
    int64_t n_buckets;
    PapaPositions **lists;
    int64_t n_lists, lists_capacity;
    PapaMark *marks;
    int64_t n_marks, marks_capacity;
    PapaPlace *places;     /* in the order in which nodes first read the tensors */
    int64_t n_places, places_capacity;
    int64_t n_positions;   /* in all lists */
    int n_ids;
    int32_t n_ties;
};

/* The graph comes from papa_graph_infer, in ONNX's order of axes, and must outlive the result. blocks: the second search. siblings: sorted by unit,
 * borrowed. Errors: memory. */
PapaStatus papa_units_find(PapaUnits **out, const PapaGraph *graph, bool blocks, const PapaSiblings *siblings, int64_t n_siblings);
void papa_units_free(PapaUnits *units);

/* The root that a position is part of, and which part. FIXED and BLANK stay. */
PapaPosition papa_units_resolve(PapaUnits *units, PapaPosition position);

/* ---------------------------------------------------------------- for rows
 * A row accounts for each axis of each input along which something may move: it passes to an output, is tied to another's, is summed over in a
 * way that knows no order, or is fixed. An axis that is forgotten makes wrong groups. */

/* An input as the nodes in front made it, to change at will; where an input is left out, a space of rank 0. */
PapaSpace papa_units_in(PapaUnits *units, const PapaNode *node, int i);
/* An output, all of whose axes are fixed until the row says more. NULL where it is left out. */
PapaSpace *papa_units_out(PapaUnits *units, const PapaNode *node, int i);
/* Sets output i's axes to x's, which has its shape. */
void papa_units_set(PapaUnits *units, const PapaNode *node, int i, const PapaSpace *x);

/* Two axes of one length whose indices are paired by the operator: what stands at each pair moves together. Returns the positions of an axis that
 * has both operands' content. Takes both axes out of bundles. */
PapaAxis papa_units_tie(PapaUnits *units, PapaSpace *a, int axis_a, PapaSpace *b, int axis_b);
/* Broadcasts b to a, or both to each other, and ties all axes; returns what stands along the result's. */
PapaSpace papa_units_meet(PapaUnits *units, PapaSpace a, PapaSpace b);
/* What stands along this axis (its whole bundle) must not move; the axis is fixed from now on. */
void papa_units_fix(PapaUnits *units, PapaSpace *space, int axis, const char *why);
/* The axis has its positions alone from now on: of its bundle it is the one that moves. */
void papa_units_plain(PapaUnits *units, PapaSpace *space, int axis);
/* The axes of the mask are a stack to the operator, which treats each layer alike but apart. For every bundle that they share with other axes. */
void papa_units_stack(PapaUnits *units, PapaSpace *space, unsigned axes);
/* Bit k for each axis k longer than 1 that shares its positions with this one, itself too; 0 where the axis is plain or fixed. */
unsigned papa_units_bundle(const PapaSpace *space, int axis);

/* Makes the axis n long, its index i being what was at index[i]; -1: of the blank stretch. */
void papa_units_pick(PapaUnits *units, PapaSpace *space, int axis, int64_t n, const int64_t *index, int32_t blank);
/* The same with index[i] = start + i * step. */
void papa_units_slice(PapaUnits *units, PapaSpace *space, int axis, int64_t n, int64_t start, int64_t step);
PapaSpace papa_units_reshape(PapaUnits *units, PapaSpace space, const PapaShape *shape);
/* An axis that holds the same thing n times, whatever that is. */
PapaAxis papa_units_repeated(PapaUnits *units, int64_t n);
/* Several spaces end to end; they are used up. */
PapaSpace papa_units_concat(PapaUnits *units, PapaSpace *spaces, int n, int axis);

/* The parts of units. */
int32_t papa_units_part(PapaUnits *units, int32_t part, int32_t element); /* part `element` of this part */
int32_t papa_units_blank(PapaUnits *units);                               /* a blank stretch of its own */
int32_t papa_units_fresh(PapaUnits *units);                               /* a unit that stands nowhere yet */
PapaPositions *papa_units_list(PapaUnits *units, int64_t n);              /* zeroed; NULL when memory runs out */
void papa_units_tie_positions(PapaUnits *units, PapaPosition a, PapaPosition b, int id); /* id: of a condition that all pairs of an operator share */
void papa_units_pin(PapaUnits *units, PapaPosition position, const char *why);
int papa_units_condition(PapaUnits *units); /* an id, for marks and ties */
void papa_units_mark(PapaUnits *units, PapaPosition position, int id, int64_t value);
void papa_units_add_place(PapaUnits *units, const PapaPlace *place);

/* Rows' usual answers: output 0 is input 0; output 0 is input 0 in another shape; all inputs are broadcast together, element by element. */
void papa_units_same(const PapaNode *node, PapaUnits *units);
void papa_units_reshaped(const PapaNode *node, PapaUnits *units);
void papa_units_elementwise(const PapaNode *node, PapaUnits *units);

#endif
