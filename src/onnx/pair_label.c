/* What a node or a tensor is, as a text: equal texts, equal things. The texts are for messages too. */
#include "base/text.h"
#include "onnx/pair_graph.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_NUMBERS = 1024 }; /* of an integer tensor that count as structure: shapes, axes, indices; larger ones are data */

#define TYPE(id) ONNX__TENSOR_PROTO__DATA_TYPE__##id
#define ATTRIBUTE(id) ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__##id

/* ---------------------------------------------------------------- numbers for texts */

PapaStatus papa_pair_label(PapaPairLabels *labels, const char *text, int32_t *number)
{
    const int64_t *known = papa_name_map_find(&labels->numbers, text);
    if (known) {
        *number = (int32_t)*known;
        return PAPA_OK;
    }
    if (labels->n == labels->capacity) {
        size_t capacity = labels->capacity ? 2 * labels->capacity : 256;
        const char **texts = realloc(labels->texts, capacity * sizeof *texts);
        if (!texts)
            return papa_fail_memory(capacity * sizeof *texts, "labels of nodes");
        labels->texts = texts;
        labels->capacity = capacity;
    }
    const char *copy = papa_arena_strdup(&labels->arena, text);
    if (!copy)
        return PAPA_ERR_MEMORY;
    *number = (int32_t)labels->n;
    labels->texts[labels->n++] = copy;
    return papa_name_map_add(&labels->numbers, copy, *number, NULL);
}

void papa_pair_labels_free(PapaPairLabels *labels)
{
    papa_name_map_free(&labels->numbers);
    papa_arena_free(&labels->arena);
    free(labels->texts);
}

/* ---------------------------------------------------------------- text that grows */

typedef struct Text {
    PapaBuffer buffer;
    PapaStatus status;
} Text;

__attribute__((format(printf, 2, 3))) static void put(Text *text, const char *format, ...)
{
    char piece[512];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(piece, sizeof piece, format, args);
    va_end(args);
    if (!text->status && length > 0)
        text->status = papa_buffer_add(&text->buffer, piece, (size_t)length < sizeof piece ? (size_t)length : sizeof piece - 1);
}

/* Bytes of any kind and length: themselves where they are short and printable, else their number and a hash. */
static void put_bytes(Text *text, const unsigned char *data, size_t bytes)
{
    bool is_plain = bytes < 256;
    uint64_t hash[2] = {0xcbf29ce484222325u, 0x9e3779b97f4a7c15u};
    for (size_t i = 0; i < bytes; i++) {
        is_plain &= data[i] >= ' ' && data[i] != '\'';
        hash[0] = (hash[0] ^ data[i]) * 0x100000001b3u;
        hash[1] = papa_pair_mix(hash[1], data[i]);
    }
    if (is_plain)
        put(text, "'%.*s'", (int)bytes, bytes ? (const char *)data : "");
    else
        put(text, "%zu bytes %016llx%016llx", bytes, (unsigned long long)hash[0], (unsigned long long)hash[1]);
}

static void put_ints(Text *text, const int64_t *values, size_t n, const char *open, const char *between, const char *close)
{
    put(text, "%s", open);
    for (size_t i = 0; i < n; i++)
        put(text, "%s%lld", i ? between : "", (long long)values[i]);
    put(text, "%s", close);
}

/* The text in the arena; frees the buffer. */
static PapaStatus finish(Text *text, PapaArena *arena, const char **out)
{
    PapaStatus status = text->status;
    char *copy = status ? NULL : papa_arena_alloc(arena, text->buffer.size + 1);
    if (copy && text->buffer.size)
        memcpy(copy, text->buffer.data, text->buffer.size);
    papa_buffer_free(&text->buffer);
    *out = copy;
    return copy ? PAPA_OK : status ? status : PAPA_ERR_MEMORY;
}

/* ---------------------------------------------------------------- tensors */

static bool holds_numbers(int type)
{
    switch (type) {
    case TYPE(BOOL):
    case TYPE(INT8):
    case TYPE(UINT8):
    case TYPE(INT16):
    case TYPE(UINT16):
    case TYPE(INT32):
    case TYPE(UINT32):
    case TYPE(INT64):
        return true;
    default:
        return false;
    }
}

PapaStatus papa_pair_ints(const PapaOnnx *onnx, const PapaPairTensor *tensor, int64_t *to, int most, int *n)
{
    const Onnx__TensorProto *dense = tensor->stored.tensor;
    const Onnx__AttributeProto *numbers = tensor->numbers;
    *n = -1;
    if (numbers && numbers->type == ATTRIBUTE(INT)) {
        to[0] = numbers->i;
        *n = 1;
    } else if (numbers && numbers->type == ATTRIBUTE(INTS) && numbers->n_ints <= (size_t)most) {
        *n = (int)numbers->n_ints;
        if (*n)
            memcpy(to, numbers->ints, numbers->n_ints * sizeof *to);
    } else if (dense && holds_numbers(dense->data_type) && !dense->segment && papa_tensor_count(dense) <= most) {
        *n = (int)papa_tensor_count(dense);
        return papa_tensor_read_int64(onnx, dense, to, *n);
    }
    return PAPA_OK;
}

/* Integers, strings and booleans of sizes that are structure, and single numbers. */
bool papa_pair_is_small(const PapaPairTensor *tensor)
{
    const Onnx__TensorProto *dense = tensor->stored.tensor;
    if (!dense)
        return !tensor->stored.sparse && !(tensor->numbers && tensor->numbers->n_floats > 1);
    return papa_tensor_count(dense) == 1 ||
           ((holds_numbers(dense->data_type) || dense->data_type == TYPE(STRING)) && papa_tensor_count(dense) <= MOST_NUMBERS);
}

static void put_dims(Text *text, const int64_t *dims, size_t n, bool transposed)
{
    if (n == 0)
        put(text, " scalar");
    for (size_t i = 0; i < n; i++)
        put(text, "%s%lld", i ? "x" : " ", (long long)dims[transposed ? n - 1 - i : i]);
}

/* A Constant's value_float, value_ints, ...: as the tensor that it stands for. */
static void put_plain(Text *text, const Onnx__AttributeProto *numbers)
{
    bool is_list = numbers->type == ATTRIBUTE(FLOATS) || numbers->type == ATTRIBUTE(INTS) || numbers->type == ATTRIBUTE(STRINGS);
    bool is_float = numbers->type == ATTRIBUTE(FLOAT) || numbers->type == ATTRIBUTE(FLOATS);
    bool is_int = numbers->type == ATTRIBUTE(INT) || numbers->type == ATTRIBUTE(INTS);
    put(text, "%s", is_float ? "FLOAT" : is_int ? "INT64" : "STRING");
    int64_t n = (int64_t)(numbers->n_floats + numbers->n_ints + numbers->n_strings);
    put_dims(text, &n, is_list, false);
}

static void put_strings(Text *text, const ProtobufCBinaryData *strings, size_t n)
{
    put(text, " {");
    for (size_t i = 0; i < n; i++) {
        put(text, "%s", i ? ", " : "");
        put_bytes(text, strings[i].data, strings[i].len);
    }
    put(text, "}");
}

PapaStatus papa_pair_tensor_text(PapaArena *arena, const PapaOnnx *onnx, const PapaPairTensor *tensor, bool transposed, const char **out)
{
    Text text = {0};
    int64_t numbers[MOST_NUMBERS];
    int n;
    const Onnx__SparseTensorProto *sparse = tensor->stored.sparse;
    const Onnx__TensorProto *dense = tensor->stored.tensor;
    if (dense) {
        put(&text, "%s", papa_type_name(dense->data_type));
        put_dims(&text, dense->dims, dense->n_dims, transposed);
    } else if (sparse) {
        put(&text, "sparse %s", papa_type_name(sparse->values ? sparse->values->data_type : 0));
        put_dims(&text, sparse->dims, sparse->n_dims, transposed);
    } else {
        put_plain(&text, tensor->numbers);
    }
    PapaStatus status = papa_pair_ints(onnx, tensor, numbers, MOST_NUMBERS, &n);
    if (status) {
        papa_buffer_free(&text.buffer);
        return status;
    }
    if (n >= 0)
        put_ints(&text, numbers, (size_t)n, " {", ", ", "}");
    if (dense && dense->data_type == TYPE(STRING) && dense->n_string_data <= MOST_NUMBERS)
        put_strings(&text, dense->string_data, dense->n_string_data);
    if (tensor->numbers && tensor->numbers->type == ATTRIBUTE(STRING))
        put_strings(&text, &tensor->numbers->s, 1);
    if (tensor->numbers && tensor->numbers->type == ATTRIBUTE(STRINGS))
        put_strings(&text, tensor->numbers->strings, tensor->numbers->n_strings);
    return finish(&text, arena, out);
}

/* ---------------------------------------------------------------- attributes */

/* Attributes of ONNX's own operators that may be left out at these values; NULL: at any, it does not matter here. Operators and names are
 * shell patterns; zeros and ones stand for any number of them. */
static const struct {
    const char *type, *name, *text;
} defaults[] = {
    {"*Conv*", "group", "1"}, {"*Conv*", "output_padding", "zeros"}, {"*", "auto_pad", "'NOTSET'"}, {"*", "pads", "zeros"},
    {"*", "strides", "ones"}, {"*", "dilations", "ones"}, {"*Pool", "ceil_mode", "0"}, {"MaxPool", "storage_order", "0"},
    {"AveragePool", "count_include_pad", "0"}, {"*LpPool", "p", "2"}, {"*Normalization", "epsilon", "1e-05"},
    {"BatchNormalization", "momentum", NULL}, {"BatchNormalization", "training_mode", NULL}, {"BatchNormalization", "spatial", "1"},
    {"*Normalization", "stash_type", "1"}, {"LayerNormalization", "axis", "-1"}, {"RMSNormalization", "axis", "-1"},
    {"LpNormalization", "axis", "-1"}, {"LpNormalization", "p", "2"}, {"MeanVarianceNormalization", "axes", "[0, 2, 3]"},
    {"Flatten", "axis", "1"}, {"Gather", "axis", "0"}, {"GatherElements", "axis", "0"}, {"Scatter*", "axis", "0"},
    {"Scatter*", "reduction", "'none'"}, {"GatherND", "batch_dims", "0"}, {"Split", "axis", "0"}, {"LeakyRelu", "alpha", "0.01"},
    {"Elu", "alpha", "1"}, {"Celu", "alpha", "1"}, {"ThresholdedRelu", "alpha", "1"}, {"Selu", "alpha", "1.6732632"},
    {"Selu", "gamma", "1.050701"}, {"HardSigmoid", "alpha", "0.2"}, {"HardSigmoid", "beta", "0.5"}, {"Swish", "alpha", "1"},
    {"Gelu", "approximate", "'none'"}, {"Reduce*", "keepdims", "1"}, {"Reduce*", "noop_with_empty_axes", "0"}, {"Arg*", "axis", "0"},
    {"Arg*", "keepdims", "1"}, {"Arg*", "select_last_index", "0"}, {"Reshape", "allowzero", "0"}, {"Shape", "start", "0"},
    {"Cast*", "saturate", "1"}, {"Pad", "mode", "'constant'"}, {"Gemm", "alpha", "1"}, {"Gemm", "beta", "1"}, {"Gemm", "transA", "0"},
    {"Gemm", "transB", NULL}, {"LRN", "alpha", "0.0001"}, {"LRN", "beta", "0.75"}, {"LRN", "bias", "1"}, {"TopK", "axis", "-1"},
    {"TopK", "largest", "1"}, {"TopK", "sorted", "1"}, {"CumSum", "exclusive", "0"}, {"CumSum", "reverse", "0"},
    {"DepthToSpace", "mode", "'DCR'"}, {"Mod", "fmod", "0"}, {"Trilu", "upper", "1"}, {"OneHot", "axis", "-1"},
    {"Einsum", "reduction", "'none'"}, {"Dropout", "*", NULL}, {"GRU", "direction", "'forward'"}, {"LSTM", "direction", "'forward'"},
    {"RNN", "direction", "'forward'"}, {"GRU", "layout", "0"}, {"LSTM", "layout", "0"}, {"RNN", "layout", "0"},
    {"GRU", "linear_before_reset", "0"}, {"LSTM", "input_forget", "0"}, {"Resize", "antialias", "0"},
    {"Resize", "coordinate_transformation_mode", "'half_pixel'"}, {"Resize", "cubic_coeff_a", "-0.75"},
    {"Resize", "exclude_outside", "0"}, {"Resize", "extrapolation_value", "0"}, {"Resize", "keep_aspect_ratio_policy", "'stretch'"},
    {"Resize", "mode", "'nearest'"}, {"Resize", "nearest_mode", "'round_prefer_floor'"},
};

static bool all_are(const Onnx__AttributeProto *attr, int64_t value)
{
    for (size_t i = 0; i < attr->n_ints; i++)
        if (attr->ints[i] != value)
            return false;
    return true;
}

static bool is_default(const Onnx__AttributeProto *attr, const char *type, const char *text)
{
    for (size_t i = 0; i < sizeof defaults / sizeof *defaults; i++) {
        const char *value = defaults[i].text;
        if (fnmatch(defaults[i].type, type, 0) || fnmatch(defaults[i].name, attr->name, 0))
            continue;
        if (!value || !strcmp(value, text) || (!strcmp(value, "ones") && all_are(attr, 1)) || (!strcmp(value, "zeros") && all_are(attr, 0)))
            return true;
    }
    return false;
}

/* The message's serialized form. Tensors are there by their markers, which differ from file to file: not for them. */
static void put_packed(Text *text, PapaArena *arena, const ProtobufCMessage *message)
{
    size_t bytes = protobuf_c_message_get_packed_size(message);
    unsigned char *data = papa_arena_alloc(arena, bytes);
    if (!data) {
        text->status = PAPA_ERR_MEMORY;
        return;
    }
    protobuf_c_message_pack(message, data);
    put_bytes(text, data, bytes);
}

static PapaStatus put_tensor(Text *text, PapaArena *arena, const PapaOnnx *onnx, const Onnx__TensorProto *tensor)
{
    const char *what;
    PAPA_TRY(papa_pair_tensor_text(arena, onnx, &(PapaPairTensor){.stored.tensor = tensor}, false, &what));
    put_bytes(text, (const unsigned char *)what, strlen(what));
    return PAPA_OK;
}

static PapaStatus put_value(Text *text, PapaArena *arena, const PapaOnnx *onnx, const Onnx__AttributeProto *attr)
{
    const char *spatial[] = {"kernel_shape", "strides", "dilations"};
    char number[PAPA_NUMBER_BYTES];
    bool is_spatial = false;
    for (size_t i = 0; i < sizeof spatial / sizeof *spatial; i++)
        is_spatial |= !strcmp(attr->name, spatial[i]);
    if (attr->ref_attr_name && *attr->ref_attr_name)
        put(text, "the function's %.200s", attr->ref_attr_name);
    else if (attr->type == ATTRIBUTE(INT))
        put(text, "%lld", (long long)attr->i);
    else if (attr->type == ATTRIBUTE(FLOAT))
        put(text, "%s", papa_number_text(number, (double)attr->f));
    else if (attr->type == ATTRIBUTE(STRING))
        put_bytes(text, attr->s.data, attr->s.len);
    else if (attr->type == ATTRIBUTE(INTS) && is_spatial)
        put_ints(text, attr->ints, attr->n_ints, "", "x", "");
    else if (attr->type == ATTRIBUTE(INTS))
        put_ints(text, attr->ints, attr->n_ints, "[", ", ", "]");
    else if (attr->type == ATTRIBUTE(STRINGS))
        put_strings(text, attr->strings, attr->n_strings);
    else if (attr->type == ATTRIBUTE(TYPE_PROTO) && attr->tp)
        put_packed(text, arena, &attr->tp->base);
    for (size_t i = 0; i < attr->n_floats; i++)
        put(text, "%s%s%s", i ? ", " : "[", papa_number_text(number, (double)attr->floats[i]), i + 1 == attr->n_floats ? "]" : "");
    for (size_t i = 0; i < attr->n_type_protos; i++)
        put_packed(text, arena, &attr->type_protos[i]->base);
    if (attr->type == ATTRIBUTE(TENSOR) && attr->t)
        PAPA_TRY(put_tensor(text, arena, onnx, attr->t));
    for (size_t i = 0; i < attr->n_tensors; i++)
        PAPA_TRY(put_tensor(text, arena, onnx, attr->tensors[i]));
    for (size_t i = 0; i < attr->n_graphs + (attr->g != NULL); i++) {
        const Onnx__GraphProto *graph = attr->g ? attr->g : attr->graphs[i];
        put(text, "a graph of %zu inputs and %zu outputs", graph->n_input, graph->n_output);
    }
    return PAPA_OK;
}

static int compare_attrs(const void *a, const void *b)
{
    return strcmp(((const PapaPairAttr *)a)->name, ((const PapaPairAttr *)b)->name);
}

void papa_pair_set_attr(PapaPairAttr *attrs, int32_t *n, const char *name, const char *text)
{
    int32_t i = 0;
    while (i < *n && strcmp(attrs[i].name, name))
        i++;
    attrs[i] = (PapaPairAttr){name, text};
    *n += i == *n;
    qsort(attrs, (size_t)*n, sizeof *attrs, compare_attrs);
}

PapaStatus papa_pair_attrs(PapaArena *arena, const PapaOnnx *onnx, const Onnx__NodeProto *node, const char *type, PapaPairAttr **out, int32_t *n)
{
    PapaPairAttr *attrs = PAPA_NEW_ARRAY(arena, PapaPairAttr, node->n_attribute + PAPA_PAIR_ATTRS_MORE);
    bool is_onnx = !node->domain || !*node->domain || !strcmp(node->domain, "ai.onnx");
    int32_t count = 0;
    if (!attrs)
        return PAPA_ERR_MEMORY;
    for (size_t i = 0; i < node->n_attribute; i++) {
        const Onnx__AttributeProto *attr = node->attribute[i];
        Text text = {0};
        PapaPairAttr *to = &attrs[count];
        PapaStatus status = put_value(&text, arena, onnx, attr);
        if (status) {
            papa_buffer_free(&text.buffer);
            return status;
        }
        PAPA_TRY(finish(&text, arena, &to->text));
        to->name = attr->name;
        count += !(is_onnx && is_default(attr, type, to->text));
    }
    qsort(attrs, (size_t)count, sizeof *attrs, compare_attrs);
    if (is_onnx && !fnmatch("*Softmax", type, 0) && !papa_attr_find(node, "axis")) /* the default has changed: always said */
        papa_pair_set_attr(attrs, &count, "axis", papa_onnx_opset(onnx, "") < 13 ? "1" : "-1");
    *out = attrs;
    *n = count;
    return PAPA_OK;
}
