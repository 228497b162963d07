/* Groups: sets of units of a network that may be permuted without changing its function, and where their numbers lie in the file's tensors.
 * Derived from the graph alone (graph/units.h), for any model; operators that papa lacks, or that say nothing of units, pin what touches them.
 *
 * A group of n units is permuted by moving whole slots: unit i's slot j of a tensor is a set of elements (one row of a matrix, say), the
 * same for all units but for its base. Groups may be permuted in any order, one after the other; each is a symmetry of the network by
 * itself. Groups of blocks (attention heads, groups of a convolution) move all that the units inside them consist of; the units inside
 * are groups too, one for each block. */
#ifndef PAPA_GROUPS_H
#define PAPA_GROUPS_H

#include "graph/graph.h"
#include "model/model.h"

/* A tensor of the file that units have a part in. */
typedef struct PapaGroupTensor {
    const char *name;                /* the file's */
    const Onnx__TensorProto *tensor;
    PapaShape shape;
    PapaRole role;
    int64_t count;
} PapaGroupTensor;

/* Where the units of a group lie in one tensor: slot j of unit i is the elements base[i * n_parts + j] + a * stride[0] + b * stride[1],
 * a < n[0], b < n[1]. Slots don't overlap. */
typedef struct PapaSlots {
    int tensor;           /* index in the table */
    int axis;             /* along which they stand */
    int64_t n_parts;
    const int64_t *base;
    int64_t n[2], stride[2];
} PapaSlots;

typedef struct PapaGroup {
    const char *name;     /* of the tensor that makes the units: the first layer's weight */
    int64_t n;            /* units, in the order in which they stand in that tensor */
    bool blocks;
    PapaSlots *slots;     /* in the order in which the network reads them */
    int n_slots;
} PapaGroup;

/* A value inside the network in which units of a group stand along an axis: part j of unit i at index at[i * n_parts + j]. */
typedef struct PapaGroupValue {
    const char *name;     /* the file's */
    int group;
    int axis;             /* in ONNX's order */
    int64_t length;       /* of the axis */
    int64_t n_parts;      /* more than 1 where a flattened axis has several positions for each unit */
    const int64_t *at;
} PapaGroupValue;

/* Positions along a tensor's axis that must stay. */
typedef struct PapaPinned {
    int tensor, axis;
    int64_t n;            /* how many of the axis' positions */
    const char *why;      /* of the first of them: a node's label and what it does, or an output's name */
} PapaPinned;

typedef struct PapaGroups {
    PapaArena arena;
    PapaGroupTensor *tensors;
    int n_tensors;
    PapaGroup *groups;    /* in the order in which the network meets them; blocks behind the rest */
    int n_groups;
    PapaGroupValue *values; /* by which units can be told on data: what linear layers read; of a group that none reads, what they make. Not of blocks */
    int n_values;
    PapaPinned *pinned;
    int n_pinned;
    PapaShape *input_shapes; /* for which they were derived, one per graph input that is fed */
    int n_input_shapes;
    int n_opaque;         /* nodes that are not understood */
    int n_blind;          /* of them: those that might be, if the shapes of what they read were known */
    const char *opaque;   /* the others' types: "LSTM, Resize" */
    int64_t n_units;      /* in all groups that are not blocks */
} PapaGroups;

typedef struct PapaGroupsOptions {
    const PapaShape *input_shapes; /* one per graph input that is fed; NULL: as the file says; where it leaves axes open, a batch of 1 and 128 along
                                      others (8 where there are token ids), which suits networks that take images or sequences of any size */
    int n_input_shapes;
} PapaGroupsOptions;

/* onnx must outlive the result. Errors: as papa_graph_read and papa_graph_infer for files that make no sense, PAPA_ERR_ARGUMENT where the number of
 * shapes is not that of the inputs; memory. options may be NULL. */
PapaStatus papa_groups_derive(PapaGroups **out, const PapaOnnx *onnx, const PapaGroupsOptions *options);
void papa_groups_free(PapaGroups *groups);

/* A permutation of a group: unit i becomes what unit perm[i] was. NULL: none. perms: one for each group, applied in their order. */

/* Permutes a tensor's elements, of any type, in place. scratch: as large as the tensor. */
void papa_groups_permute(const PapaGroups *groups, int tensor, const int64_t *const *perms, void *data, size_t element_bytes, void *scratch);

/* Permutes a store of the model: all tensors of its table, statistics too. The model has been opened on the same PapaOnnx. Errors: memory, and
 * PAPA_ERR_MISMATCH where a permutation moves a tensor that is not in the model's table. */
PapaStatus papa_groups_permute_store(const PapaGroups *groups, const int64_t *const *perms, const PapaModel *model, float *store);

/* out: first, then second. out may be neither. */
void papa_permutation_compose(int64_t *out, const int64_t *first, const int64_t *second, int64_t n);
void papa_permutation_invert(int64_t *out, const int64_t *perm, int64_t n);

#endif
