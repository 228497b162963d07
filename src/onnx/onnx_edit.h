/* Inside of PapaEdit, shared by the files that collect edits, write them and build ensembles of edited models. */
#ifndef PAPA_ONNX_EDIT_H
#define PAPA_ONNX_EDIT_H

#include "onnx/onnx_internal.h"
#include "onnx/splice.h"

/* ---- names (onnx_names.c) */

typedef enum PapaNameKind {
    PAPA_NAME_VALUE, /* defines a value: a node's output, an initializer, a graph input */
    PAPA_NAME_USE,   /* names a value */
    PAPA_NAME_NODE,
} PapaNameKind;

typedef PapaStatus PapaNameFn(void *context, char **name, PapaNameKind kind);

/* Calls fn for every non-empty name, subgraphs of attributes included; fn may replace it. */
PapaStatus papa_graph_each_name(Onnx__GraphProto *graph, PapaNameFn *fn, void *context);
PapaStatus papa_node_each_name(Onnx__NodeProto *node, PapaNameFn *fn, void *context);

/* ---- edits (onnx_edit.c) */

/* A serialized NodeProto whose tensors are markers. */
typedef struct PapaPackedNode {
    struct PapaPackedNode *next;
    unsigned char *data;
    size_t bytes;
} PapaPackedNode;

typedef struct PapaNodeList {
    PapaPackedNode *first, **end; /* end: where the next one goes; NULL in an empty list */
} PapaNodeList;

typedef struct PapaNodeEdit {
    bool is_replaced;
    PapaNodeList before, by;
} PapaNodeEdit;

typedef struct PapaAdded {
    Onnx__TensorProto *tensor; /* its marker's index counts on from the records */
    PapaPiece raw;
    bool is_removed;
} PapaAdded;

/* A metadata_props entry that is set, or taken away: its value has then neither data nor fill. */
typedef struct PapaEntry {
    const char *key;
    PapaPiece value;
} PapaEntry;

struct PapaEdit {
    const PapaOnnx *onnx;
    PapaArena arena;
    PapaPiece *values;        /* per record: new elements in raw form; neither data nor fill: as they were */
    PapaNodeEdit *nodes;      /* per node of the main graph */
    bool *removed;            /* per initializer of the main graph */
    PapaNameMap removed_info; /* names of value_info entries */
    PapaAdded *added;
    size_t n_added, added_capacity;
    PapaEntry *metadata;
    size_t n_metadata, metadata_capacity;
    size_t node_hint;         /* where the next node is looked for first: edits come in order */
    PapaNameMap initializers; /* name -> index in the main graph */
    PapaNameMap names;        /* every name that was ever seen */
    PapaNameMap defined;      /* value -> how many define it */
};

/* Whether this model's initializers must be graph inputs too. */
static inline bool papa_inputs_are_needed(const Onnx__ModelProto *model)
{
    return model->ir_version < 4;
}

/* Whether the graph input of this name goes, with its initializer. */
bool papa_edit_removes_input(const PapaEdit *edit, const char *name);

/* A ValueInfoProto with an initializer's name, type and shape, in the arena. */
Onnx__ValueInfoProto *papa_tensor_value_info(PapaArena *arena, const Onnx__TensorProto *tensor);

/* Makes a TensorProto in the arena that has this marker. */
Onnx__TensorProto *papa_tensor_new(PapaArena *arena, const char *name, int type, const int64_t *dims, int rank, uint64_t marker);

/* Whether the edit has new elements for this record. */
static inline bool papa_edit_sets(const PapaEdit *edit, size_t record)
{
    return edit->values[record].data || edit->values[record].fill;
}

/* Serializes a message into the arena; NULL when memory runs out. */
unsigned char *papa_pack_message(PapaArena *arena, const ProtobufCMessage *message, size_t *bytes);

/* ---- elements that callbacks make (onnx_fill.c) */

/* All of them at once, owned by out. */
PapaStatus papa_fill_make(PapaRaw *out, const PapaFill *fill);

/* Writes a rope to the end, making what is to be made in ranges of PAPA_FILL_BYTES. */
PapaStatus papa_rope_write(const PapaRope *rope, PapaWriter *writer);

/* ---- writing (onnx_write.c) */

#define PAPA_MODEL_LIMIT ((uint64_t)INT32_MAX) /* bytes; protobuf's limit for one message */

/* Whose tensors a marker's serial means. */
typedef struct PapaSource {
    uint32_t serial;
    const PapaEdit *edit;
} PapaSource;

/* A model on its way to the disk. */
typedef struct PapaAssembly {
    PapaArena arena;
    const PapaSource *sources;
    int n_sources;
    bool move_big;       /* big initializers go to the external file */
    const char *data_name; /* the external file, as tensors refer to it */
    PapaRope model, data;
    PapaNameMap placed;  /* external elements already in data: "address+bytes", or what makes them -> offset */
} PapaAssembly;

/* Appends a serialized message whose tensors are markers, with their elements put back. */
PapaStatus papa_assembly_expand(PapaAssembly *assembly, PapaRope *out, const ProtobufCMessageDescriptor *type, const unsigned char *data,
    size_t bytes);

/* The elements of a tensor with the edits applied, in raw form; those that a callback makes are made. Free raw.owned. */
PapaStatus papa_edit_raw(PapaRaw *out, const PapaEdit *edit, uint32_t index);

/* Fills assembly->model. Called again with move_big where the model is longer than limit. */
typedef PapaStatus PapaAssembleFn(PapaAssembly *assembly, void *context);

/* Assembles and writes, the external file first (if there is one). limit: PAPA_MODEL_LIMIT, or less in tests. */
PapaStatus papa_assembly_write(const PapaSource *sources, int n_sources, PapaAssembleFn *assemble, void *context, const char *path,
    uint64_t limit);

void papa_assembly_free(PapaAssembly *assembly);

/* papa_edit_write with another limit. */
PapaStatus papa_edit_write_limited(const PapaEdit *edit, const char *path, uint64_t limit);

#endif
