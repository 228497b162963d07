/* Parts of the ensemble writer that its tests and its own files share. */
#ifndef PAPA_ONNX_ENSEMBLE_H
#define PAPA_ONNX_ENSEMBLE_H

#include "onnx/onnx_edit.h"

#include <string.h>

/* ---- the ensemble under construction (onnx_ensemble.c) */

typedef struct PapaMember {
    const char *path, *output; /* the value to average, in the member's own names */
    double weight;             /* normalised */
    const PapaEdit *edit;
    PapaEdit *own_edit;        /* an empty one where the caller has none */
    Onnx__ModelProto *model;
    const char *prefix;
    PapaNameMap needed;        /* values that the output depends on */
    PapaNameMap names;         /* old name -> new name, as a pointer */
} PapaMember;

/* An initializer or a node that a later member may share. */
typedef struct PapaKnown {
    int member;
    int64_t next; /* the next one with the same key, or -1 */
    const Onnx__TensorProto *tensor;
    const Onnx__NodeProto *node;
} PapaKnown;

typedef struct PapaEnsemble {
    PapaArena arena;
    const PapaEnsembleOptions *options;
    PapaMember *members;
    int n_members;
    PapaSource *sources;
    PapaAssembly scratch; /* for comparing */
    PapaNameMap inputs;   /* the shared graph inputs */
    PapaNameMap keys;     /* -> the first Known of a key */
    PapaKnown *known;
    int64_t n_known, known_capacity;
    Onnx__ModelProto *model; /* member 0's, which becomes the result */
    Onnx__GraphProto graph;  /* the result's; its lists have room for those of all members */
} PapaEnsemble;

/* An absent text is an empty one. */
static inline bool papa_same_text(const char *a, const char *b)
{
    return !strcmp(a ? a : "", b ? b : "");
}

/* ---- names and equal values (onnx_numbering.c) */

/* The member's new name of a value, NULL where it has none (yet). */
char *papa_member_new_name(const PapaMember *member, const char *name);

/* Adds a member's graph to the result's: what it depends on, renamed, without what an earlier member has already. */
PapaStatus papa_ensemble_take_graph(PapaEnsemble *e, int k);

/* Adds the member's functions that the result has not; one defined otherwise is an error. */
PapaStatus papa_ensemble_take_functions(PapaEnsemble *e, int k);

/* ---- the mean (onnx_mean.c) */

/* Adds the nodes from the members' values to the result, of this type. At most 2 nodes and 1 initializer a member, and
 * 5 and 2 more. */
PapaStatus papa_ensemble_add_result(PapaEnsemble *e, int type);

/* ---- the models (onnx_copy.c) */

/* The model with the edits applied, as a skeleton of its own in the arena that may be changed freely: its names, its
 * lists. The markers of its tensors carry this serial. Training information is left out. */
Onnx__ModelProto *papa_edit_copy_model(PapaArena *arena, const PapaEdit *edit, uint32_t serial);

/* ---- writing */

/* papa_ensemble_write with another limit on the file's size. */
PapaStatus papa_ensemble_write_limited(const PapaEnsembleMember *members, int n_members, const PapaEnsembleOptions *options,
    const char *const (*metadata)[2], int n_metadata, const char *path, uint64_t limit);

#endif
