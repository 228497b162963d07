/* What the files of src/onnx share: the records of tensors that the scan leaves, and how a skeleton names them. */
#ifndef PAPA_ONNX_INTERNAL_H
#define PAPA_ONNX_INTERNAL_H

#include "base/arena.h"
#include "base/file.h"
#include "onnx/name_map.h"
#include "onnx/onnx.h"
#include "onnx/wire.h"

/* Field numbers of the schema that are handled on the wire, where protobuf-c has only descriptors. */
enum {
    FIELD_MODEL_GRAPH = 7,
    FIELD_MODEL_METADATA = 14,
    FIELD_GRAPH_NODE = 1,
    FIELD_GRAPH_INITIALIZER = 5,
    FIELD_GRAPH_INPUT = 11,
    FIELD_GRAPH_VALUE_INFO = 13,
    FIELD_TENSOR_DIMS = 1,
    FIELD_TENSOR_DATA_TYPE = 2,
    FIELD_TENSOR_SEGMENT = 3,
    FIELD_TENSOR_FLOAT_DATA = 4,
    FIELD_TENSOR_INT32_DATA = 5,
    FIELD_TENSOR_STRING_DATA = 6,
    FIELD_TENSOR_INT64_DATA = 7,
    FIELD_TENSOR_NAME = 8,
    FIELD_TENSOR_RAW_DATA = 9,
    FIELD_TENSOR_DOUBLE_DATA = 10,
    FIELD_TENSOR_UINT64_DATA = 11,
    FIELD_TENSOR_EXTERNAL_DATA = 13,
    FIELD_TENSOR_DATA_LOCATION = 14,
    FIELD_ENTRY_KEY = 1, /* of StringStringEntryProto */
    FIELD_ENTRY_VALUE = 2,
    FIELD_TENSOR_MARKER = 536870911, /* in skeletons only: which record holds the elements */
};

typedef enum PapaStorage {
    PAPA_STORAGE_NONE,     /* no element is stored */
    PAPA_STORAGE_RAW,
    PAPA_STORAGE_TYPED,    /* in the field record.field, packed or not */
    PAPA_STORAGE_STRINGS,  /* the skeleton has them */
    PAPA_STORAGE_EXTERNAL,
} PapaStorage;

/* A TensorProto of the file. */
typedef struct PapaTensorRecord {
    const unsigned char *body, *end; /* the message in the file */
    const unsigned char *data;       /* the elements in raw form, where they lie so in one piece; else NULL */
    size_t bytes;                    /* of the raw form; 0 for strings and types of unknown size */
    int64_t count;                   /* elements */
    uint32_t field;                  /* PAPA_STORAGE_TYPED: of TensorProto */
    int type;                        /* as in the file, perhaps one that we don't know */
    PapaStorage storage;
    bool is_segment;                 /* holds a part of the elements; never read */
    bool is_initializer;             /* of the main graph */
} PapaTensorRecord;

struct PapaOnnx {
    PapaArena arena; /* the skeleton and the strings below */
    char *path;
    PapaMapped file;
    const Onnx__ModelProto *model;
    uint32_t serial; /* tells the markers of this model from another's */

    PapaTensorRecord *records; /* in the order of the file */
    size_t n_records, records_capacity;

    PapaMapped *externals; /* each location mapped once */
    const char **external_paths;
    size_t n_externals, externals_capacity;
    PapaNameMap locations; /* location -> index into externals */
};

/* ---- scanning (onnx_scan.c) */

/* Scans a serialized message of this type: checks it, appends the records of its tensors to onnx and the message without
 * their elements to skeleton. */
PapaStatus papa_scan_message(PapaOnnx *onnx, const ProtobufCMessageDescriptor *type, const unsigned char *data, size_t bytes,
    PapaBuffer *skeleton);

/* An allocator for protobuf-c on an arena. What it hands out is followed by a zero byte, so that bytes fields can be
 * used as C strings. */
ProtobufCAllocator papa_arena_allocator(PapaArena *arena);

/* ---- tensors (onnx_tensor.c) */

typedef struct PapaTypeInfo {
    const char *name;
    uint8_t bits;       /* per element */
    uint8_t item_bits;  /* of the raw form that one item of the typed field stands for */
    uint8_t field;      /* typed field of TensorProto */
} PapaTypeInfo;

const PapaTypeInfo *papa_type_info(int type); /* NULL for one that we don't know, UNDEFINED included */

/* Bytes of count elements in raw form. False where that overflows. */
bool papa_type_bytes(int type, int64_t count, size_t *bytes);

/* True for fields of TensorProto that hold elements, strings excepted. */
static inline bool papa_is_payload_field(uint32_t number)
{
    return number == FIELD_TENSOR_FLOAT_DATA || number == FIELD_TENSOR_INT32_DATA || number == FIELD_TENSOR_INT64_DATA ||
           number == FIELD_TENSOR_RAW_DATA || number == FIELD_TENSOR_DOUBLE_DATA || number == FIELD_TENSOR_UINT64_DATA;
}

/* The marker's value; false where tensor has none (it was made by hand). */
bool papa_tensor_marker(const Onnx__TensorProto *tensor, uint32_t *serial, uint32_t *index);

/* NULL where tensor is not of this model. */
const PapaTensorRecord *papa_tensor_record(const PapaOnnx *onnx, const Onnx__TensorProto *tensor);

/* "tensor 'W'", or "a tensor without a name". Valid until the next call on this thread. */
const char *papa_tensor_label(const Onnx__TensorProto *tensor);

/* The elements in raw form. owned: what to free, NULL where data points into a file. */
typedef struct PapaRaw {
    const unsigned char *data;
    size_t bytes;
    unsigned char *owned;
} PapaRaw;

PapaStatus papa_record_raw(PapaRaw *out, const PapaTensorRecord *record); /* onnx_reader.c */

#endif
