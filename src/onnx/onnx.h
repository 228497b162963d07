/* ONNX files: reading, and writing by splicing edits into the original bytes.
 *
 * The file is mapped and its wire format scanned once. Tensors' elements are cut out and kept as views (file, offset,
 * length); protobuf-c decodes the rest, the skeleton. It must never see the weights: it copies every bytes field and
 * refuses lengths beyond INT_MAX. So raw_data and the typed fields of a TensorProto are empty in a skeleton (string_data
 * is there), and the elements are read with papa_tensor_read_*. This layer knows ONNX as a file format; it knows nothing
 * of operators' meaning, shapes or devices.
 *
 * A PapaOnnx owns the mapping, the skeleton and the views; all pointers below live as long as it does. It is read-only
 * after opening and may be shared by threads. */
#ifndef PAPA_ONNX_H
#define PAPA_ONNX_H

#include "base/arena.h"
#include "onnx.pb-c.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct PapaOnnx PapaOnnx;

/* Opens and scans path. Errors: PAPA_ERR_IO; PAPA_ERR_FORMAT (not a protobuf, not an ONNX model, truncated, no graph,
 * IR version newer than ours or below 3, an input, output or attribute without a name, a node without a type, two initializers of one name, elements that don't fit a tensor's type and shape
 * or are stored twice, an external file that is missing, too short or outside the model's folder); PAPA_ERR_UNSUPPORTED
 * (more than 1 GiB besides tensors); each names the file and the tensor. Besides that nodes are not looked at: their order, operators
 * and attributes may be anything. */
PapaStatus papa_onnx_open(PapaOnnx **out, const char *path);
void papa_onnx_close(PapaOnnx *onnx);

const char *papa_onnx_path(const PapaOnnx *onnx);
const Onnx__ModelProto *papa_onnx_model(const PapaOnnx *onnx);
static inline const Onnx__GraphProto *papa_onnx_graph(const PapaOnnx *onnx)
{
    return papa_onnx_model(onnx)->graph;
}

/* A file that a model lies in. */
typedef struct PapaOnnxFile {
    const char *path;
    const unsigned char *data; /* mapped; NULL: empty */
    size_t bytes;
} PapaOnnxFile;

/* The file itself, then those of external data in order of name. The list lies in the arena. */
PapaStatus papa_onnx_files(PapaOnnxFile **out, int *n, PapaArena *arena, const PapaOnnx *onnx);

/* The tensor type that an input or output is declared to have; NULL: none, or a sequence, map, ... */
static inline const Onnx__TypeProto__Tensor *papa_tensor_type(const Onnx__ValueInfoProto *info)
{
    bool is_tensor = info->type && info->type->value_case == ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    return is_tensor ? info->type->tensor_type : NULL;
}

/* The opset version that the model imports for a domain ("" and "ai.onnx" are the same); 0 if it imports none. */
int64_t papa_onnx_opset(const PapaOnnx *onnx, const char *domain);

/* The value of a metadata_props key, or NULL. */
const char *papa_onnx_metadata(const PapaOnnx *onnx, const char *key);

/* ---------------------------------------------------------------- tensors
 * tensor is any TensorProto of this model's skeleton: an initializer, a Constant's attribute, one inside a subgraph. */

/* Number of elements, the product of the dimensions; checked against overflow when the file is opened. */
int64_t papa_tensor_count(const Onnx__TensorProto *tensor);

/* Reads the elements in row-major order, converted: from FLOAT, FLOAT16, BFLOAT16, DOUBLE (rounded to nearest even).
 * n must be papa_tensor_count. Errors: PAPA_ERR_UNSUPPORTED (another type, a segment), PAPA_ERR_MISMATCH (n),
 * PAPA_ERR_ARGUMENT (not a tensor of this model); each names the tensor. */
PapaStatus papa_tensor_read_float(const PapaOnnx *onnx, const Onnx__TensorProto *tensor, float *to, int64_t n);
PapaStatus papa_tensor_read_double(const PapaOnnx *onnx, const Onnx__TensorProto *tensor, double *to, int64_t n);

/* From BOOL, INT8 to INT64, UINT8 to UINT32, and UINT64 where the value fits. Also PAPA_ERR_FORMAT: an element of a typed
 * field that its type can't hold. */
PapaStatus papa_tensor_read_int64(const PapaOnnx *onnx, const Onnx__TensorProto *tensor, int64_t *to, int64_t n);

/* Reads one tensor in ranges, in memory of their own size: [first, first + n) of its elements, converted as above. Belongs
 * to one thread and needs no closing; there may be any number for one tensor. Ranges may come in any order. Elements stored as
 * numbers of varying length are passed over one by one, so let ranges follow each other: then each is passed over once.
 * Errors: those of papa_tensor_read_* (PAPA_ERR_MISMATCH: the range). */
typedef struct PapaTensorReader {
    const PapaOnnx *onnx;
    const Onnx__TensorProto *tensor;
    const unsigned char *next_field, *at, *run_end; /* the next item of a typed field */
    int64_t item;                                   /* its index */
} PapaTensorReader;

PapaStatus papa_reader_open(PapaTensorReader *out, const PapaOnnx *onnx, const Onnx__TensorProto *tensor);
PapaStatus papa_reader_floats(PapaTensorReader *reader, float *to, int64_t first, int64_t n);
PapaStatus papa_reader_doubles(PapaTensorReader *reader, double *to, int64_t first, int64_t n);
PapaStatus papa_reader_int64(PapaTensorReader *reader, int64_t *to, int64_t first, int64_t n);

/* Raw form, of any type but STRING and unknown ones: little-endian, one behind the other without gaps, of less than 8 bits
 * the first in the lowest bits. first must begin a byte. */
PapaStatus papa_reader_raw(PapaTensorReader *reader, void *to, int64_t first, int64_t n);

/* Whether two tensors, of one model or two, have the same type, shape and elements: bit for bit, wherever they are stored.
 * *at (may be NULL): the index of the first element that differs, -1 where type or shape do. Tensors of unknown types and
 * segments are equal where the file has the same bytes for them; then *at is 0. */
PapaStatus papa_tensors_equal(bool *out, int64_t *at, const PapaOnnx *a, const Onnx__TensorProto *x, const PapaOnnx *b, const Onnx__TensorProto *y);

/* n elements of a float type in raw form, at any address, from and to float and double: rounded to nearest even, once. */
void papa_raw_to_floats(float *to, int type, const void *raw, int64_t n);
void papa_raw_to_doubles(double *to, int type, const void *raw, int64_t n);
void papa_floats_to_raw(void *to, int type, const float *values, int64_t n);
void papa_doubles_to_raw(void *to, int type, const double *values, int64_t n);

static inline int papa_type_is_float(int type) /* a TensorProto.DataType */
{
    return type == ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT || type == ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16 ||
           type == ONNX__TENSOR_PROTO__DATA_TYPE__BFLOAT16 || type == ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE;
}

const char *papa_type_name(int type); /* "FLOAT16"; "type 99" for one that we don't know */
size_t papa_type_bits(int type);      /* per element; 0 for STRING and unknown types */

/* One of the model's tensors, and where it stands. */
typedef struct PapaTensorPlace {
    const Onnx__TensorProto *tensor;
    const Onnx__SparseTensorProto *sparse; /* whose values or indices it is, or NULL */
    /* "graph.initializer 'w'", "graph.node[2] (Constant 'c').value", "graph.sparse_initializer 's'.indices",
     * "graph.node[3] (If 'x').then_branch.initializer 'w'", "functions[0] 'F'.node[1] (Constant).value". No two are equal. */
    const char *path;
} PapaTensorPlace;

/* All tensors of the model in the order of the file: initializers, attributes of nodes, what subgraphs, functions and training
 * information hold. The list and the paths lie in the arena. */
PapaStatus papa_onnx_tensors(PapaTensorPlace **out, size_t *n, PapaArena *arena, const PapaOnnx *onnx);

/* The tensor's index in that list; -1: not a tensor of this model. */
int64_t papa_tensor_index(const PapaOnnx *onnx, const Onnx__TensorProto *tensor);

/* Where the elements lie in raw form in a mapped file; NULL: nowhere in one piece, or there are none. Tensors at one place share
 * their elements. */
const void *papa_tensor_data(const PapaOnnx *onnx, const Onnx__TensorProto *tensor);

/* ---------------------------------------------------------------- attributes of a node
 * The default is returned where the attribute is absent; one of the wrong type is PAPA_ERR_FORMAT, naming node and attribute. */

const Onnx__AttributeProto *papa_attr_find(const Onnx__NodeProto *node, const char *name); /* NULL if absent */
PapaStatus papa_attr_int(const Onnx__NodeProto *node, const char *name, int64_t fallback, int64_t *out);
PapaStatus papa_attr_float(const Onnx__NodeProto *node, const char *name, float fallback, float *out);
PapaStatus papa_attr_string(const Onnx__NodeProto *node, const char *name, const char *fallback, const char **out); /* NUL-terminated copy owned by the model */
/* *n is 0 and *out NULL where the attribute is absent. The array is the skeleton's. */
PapaStatus papa_attr_ints(const Onnx__NodeProto *node, const char *name, const int64_t **out, size_t *n);
PapaStatus papa_attr_floats(const Onnx__NodeProto *node, const char *name, const float **out, size_t *n);
PapaStatus papa_attr_tensor(const Onnx__NodeProto *node, const char *name, const Onnx__TensorProto **out);

/* "Conv node 'conv1'", or "Conv node with output 'x'" where it has no name: for messages. Valid until the next call on this thread. */
const char *papa_node_label(const Onnx__NodeProto *node);

/* ---------------------------------------------------------------- writing */

/* A set of edits to a model. Everything not named by an edit is copied byte for byte from the original: names, metadata,
 * opset imports, doc strings, unknown fields, node and field order. */
typedef struct PapaEdit PapaEdit;

PapaStatus papa_edit_new(PapaEdit **out, const PapaOnnx *onnx); /* the model must outlive the edit */
void papa_edit_free(PapaEdit *edit);

/* Replaces the elements of a float tensor (an initializer, or a Constant's attribute) in its own type, rounding to nearest
 * even. Name, shape, type and doc string stay, and so does its place, inline or external; inline elements are written as
 * raw_data. The values are copied. A second call for one tensor replaces the first. */
PapaStatus papa_edit_set_tensor(PapaEdit *edit, const Onnx__TensorProto *tensor, const float *values, int64_t n);

/* Writes elements [first, first + n) of a tensor to `to` in raw form (papa_reader_raw), in the tensor's own type. `to` is aligned
 * to 64 bytes and has room for no more. */
typedef PapaStatus papa_tensor_fill_fn(void *context, void *to, int64_t first, int64_t n);
#define PAPA_FILL_BYTES ((size_t)1 << 20) /* most that is asked for at a time */

/* papa_edit_set_tensor with elements that are produced while the file is written, for tensors that shall not lie in memory, of
 * any type whose size is known (papa_type_bits). fill is asked for ranges that follow each other from element 0 on, tensor by
 * tensor in the order in which they are written, while another thread writes the range before; each range but a tensor's last has a
 * multiple of 512 elements. If it fails the write fails with its status and message and leaves nothing behind. Whoever writes or compares the
 * tensor again asks again and must get the same. Tensors of equal size and type with the same fill and context (not NULL) are
 * stored once where they are external. context must outlive the edit. Errors: as papa_edit_set_tensor. */
PapaStatus papa_edit_set_tensor_from(PapaEdit *edit, const Onnx__TensorProto *tensor, papa_tensor_fill_fn *fill, void *context);

/* The elements that a float tensor of the model will have when the edit is written, as papa_tensor_read_float gives them. Those that are produced while the
 * file is written are produced. Errors: as papa_tensor_read_float, and those of the producer. */
PapaStatus papa_edit_read_float(const PapaEdit *edit, const Onnx__TensorProto *tensor, float *to, int64_t n);

/* Adds an initializer of this type (a float type) at the end of the list; in an IR 3 model also a graph input. Errors:
 * PAPA_ERR_ARGUMENT (an initializer, graph input or node's output has this name and was not removed; no float type). */
PapaStatus papa_edit_add_initializer(PapaEdit *edit, const char *name, int type, const int64_t *dims, int rank, const float *values);
PapaStatus papa_edit_add_initializer_int64(PapaEdit *edit, const char *name, const int64_t *dims, int rank, const int64_t *values);
/* Removes an initializer (and the graph input of that name, where IR 3 has one). Its name may be added again. Errors:
 * PAPA_ERR_ARGUMENT (there is none). */
PapaStatus papa_edit_remove_initializer(PapaEdit *edit, const char *name);

/* Replaces a node of the main graph by n nodes (0: removes it), or puts nodes in front of it. The nodes are packed at
 * once, so they need not live on. They may be changed copies of the model's own nodes, tensors included, but must not hold
 * tensors of another model's skeleton. A node is replaced at most once; what was inserted in front of it stays. */
PapaStatus papa_edit_replace_node(PapaEdit *edit, const Onnx__NodeProto *node, const Onnx__NodeProto *const *by, size_t n);
PapaStatus papa_edit_insert_before(PapaEdit *edit, const Onnx__NodeProto *node, const Onnx__NodeProto *const *what, size_t n);

/* Removes value_info entries of this name, if there are any. */
PapaStatus papa_edit_remove_value_info(PapaEdit *edit, const char *name);

/* Sets a metadata_props entry: replaces the value of the key, or adds it at the end. NULL takes the entry away. */
PapaStatus papa_edit_set_metadata(PapaEdit *edit, const char *key, const char *value);

/* A name that no value, initializer or node of the model or of this edit has: base, or base_1, base_2, ... It counts as
 * taken from now on. Owned by the edit. NULL when memory runs out. */
const char *papa_edit_unique_name(PapaEdit *edit, const char *base);

/* Writes the edited model. Inline tensors stay inline and external ones external, in one file named after the output
 * ("soup.onnx.data"), offsets aligned to 64 bytes; a model that would pass 2 GiB - 1 gets its big initializers moved
 * there. With no edit and no external tensors the file is a copy, byte for byte. Both files are complete on the disk
 * before either appears under its name; path may be the file that the model was opened from. The same edits give the same
 * bytes. Errors: PAPA_ERR_IO, PAPA_ERR_MEMORY, PAPA_ERR_UNSUPPORTED (too long even without its initializers). */
PapaStatus papa_edit_write(const PapaEdit *edit, const char *path);

/* ---------------------------------------------------------------- ensembles */

typedef struct PapaEnsembleMember {
    const PapaOnnx *onnx;      /* all of one architecture or not; the same graph inputs by name, type and shape. May be the same for several members */
    const PapaEdit *edit;      /* edits to apply to it first; may be NULL */
    const char *output;        /* the value to average: a graph output, or a value inside (logits in front of a Softmax) */
    double weight;             /* not negative; the weights are normalised to sum 1 */
} PapaEnsembleMember;

typedef struct PapaEnsembleOptions {
    const char *output;        /* name of the result, and the only graph output. Its type and shape are those of member 0's graph output of this name */
    int softmax;               /* what the result is: 0 the mean; 1 its Softmax; 2 its LogSoftmax */
    int softmax_axis;          /* the axis of every Softmax written */
    bool probabilities;        /* averages the Softmax of each member's value instead. The result is the mean probability where softmax
                                  is 1, as the Softmax of its logarithm, else the logarithm (of the sum with a tiny number, so that it is
                                  finite) */
} PapaEnsembleOptions;

/* Writes one file that computes the weighted mean of the members' outputs: shared inputs, member graphs side by side with
 * prefixed names ("m0/", "m1/", ...), and what is equal stored once: initializers of equal type, shape and elements, and
 * nodes of equal operator, attributes and inputs (ONNX's own deterministic operators without subgraphs). What the averaged
 * values don't depend on is left out, training information too. The rest of the file (opsets, producer, functions,
 * metadata) is member 0's, with the n_metadata pairs (key, value) set, or taken away where the value is NULL; the IR version is the newest of the members'.
 * Errors: PAPA_ERR_MISMATCH (inputs, opsets or functions differ, no such output: names them), PAPA_ERR_UNSUPPORTED (an opset
 * below 7, or below 13 for BFLOAT16; the output is not of a float type), PAPA_ERR_ARGUMENT (weights), and as papa_edit_write. */
PapaStatus papa_ensemble_write(const PapaEnsembleMember *members, int n_members, const PapaEnsembleOptions *options,
    const char *const (*metadata)[2], int n_metadata, const char *path);

#endif
