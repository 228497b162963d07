/* Inside of PapaIngredients: what ingredients.c pairs, ingredients_read.c reads and permutes, and ingredients_describe.c tells. */
#ifndef PAPA_INGREDIENT_H
#define PAPA_INGREDIENT_H

#include "jobs/ingredients.h"

#include <pthread.h>

/* What a model has for one of the first model's tensors. */
typedef struct PapaPart {
    const struct PapaOne *of;
    int64_t first;                         /* index of the first model's tensor */
    const Onnx__TensorProto *tensor;       /* NULL, and numbers NULL: it has none */
    const Onnx__AttributeProto *numbers;   /* of a Constant without a TensorProto: value_float, value_floats */
    bool transposed;                       /* it is stored as the transpose */
} PapaPart;

/* One tensor in raw form, as it is permuted. */
typedef struct PapaHeld {
    pthread_rwlock_t lock;
    const PapaPart *part; /* NULL: nothing is held */
    bool own;             /* in the order of its own file, not in the first one's */
    unsigned char *raw;
} PapaHeld;

/* A model. */
typedef struct PapaOne {
    const PapaModel *model;
    const PapaOnnx *onnx;
    PapaIngredients *all;
    PapaPart *parts;          /* by tensor of the first model; NULL: it is the first */
    PapaMergeTensor *tensors; /* likewise */
    PapaPart *own;            /* by tensor of its own: as which part it is permuted; of NULL: it stays. NULL until it is aligned */
    int64_t n_own;
    const int64_t *const *perms; /* NULL: it is not aligned */
    PapaHeld *held;
} PapaOne;

struct PapaIngredients {
    PapaArena arena;
    PapaTensorPlace *places;  /* of the first model */
    int64_t n_places;
    PapaOne *ones;            /* n, and the base */
    PapaMergeModel *models;   /* likewise */
    int n;
    bool has_base;
    const PapaGroups *groups; /* NULL: none is aligned */
    int *of_groups;           /* by tensor of the first model: its index in the groups' table, -1: it is not there */
};

static inline int papa_ones(const PapaIngredients *ingredients)
{
    return ingredients->n + ingredients->has_base;
}

/* A Constant's attribute that holds its numbers where it has no tensor; NULL. */
const Onnx__AttributeProto *papa_constant_numbers(const PapaStoredTensor *stored);

/* The callback of tensors that are not read as they are (papa_merge_read_fn); context: a PapaPart. */
PapaStatus papa_part_read(void *part, double *to, int64_t first, int64_t n);

#endif
