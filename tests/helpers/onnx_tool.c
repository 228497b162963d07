/* Drives src/onnx for tests/oracle/test_onnx_roundtrip.py: commands on standard input, one a line, words separated by tabs.
 * Each is answered by its output, if it has any, and a line "ok" or "error CODE MESSAGE".
 *
 *   open PATH                 opens a model and begins an edit of it
 *   tensors                   every tensor in the order of field numbers: name, type, dimensions, elements
 *   touch                     sets every float tensor to its own elements
 *   repack                    replaces every node by itself
 *   set NAME START            elements of an initializer: START, START + 1, ...
 *   add NAME TYPE D,D,..      a float initializer with elements 0, .5, 1, ...
 *   addint NAME D,D,..        an INT64 one with elements 0, 1, 2, ...
 *   remove NAME               an initializer
 *   relu NODE                 puts a Relu in front of a node, on its first input
 *   identity NODE             replaces a node by an Identity from its first input to its first output
 *   rminfo NAME               removes value_info
 *   meta KEY VALUE            sets metadata
 *   unique BASE               prints a unique name
 *   write PATH [LIMIT]        writes the edited model
 *   member OUTPUT WEIGHT      the edited model becomes a member of the next ensemble
 *   ensemble PATH OUTPUT SOFTMAX AXIS PROBABILITIES LIMIT   writes an ensemble of the members so far and forgets them */
#include "onnx/onnx_edit.h"
#include "onnx/onnx_ensemble.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MAX_WORDS 8
#define MAX_MEMBERS 16

static PapaOnnx *onnx;
static PapaEdit *edit;
static PapaEnsembleMember members[MAX_MEMBERS];
static int n_members;

static void close_model(void)
{
    papa_edit_free(edit);
    papa_onnx_close(onnx);
    edit = NULL;
    onnx = NULL;
}

static PapaStatus open_model(const char *path)
{
    close_model();
    PAPA_TRY(papa_onnx_open(&onnx, path));
    return papa_edit_new(&edit, onnx);
}

/* ---------------------------------------------------------------- every tensor of a skeleton */

typedef PapaStatus TensorFn(const Onnx__TensorProto *tensor);

static PapaStatus each_tensor(const ProtobufCMessage *message, TensorFn *fn)
{
    if (message->descriptor == &onnx__tensor_proto__descriptor)
        return fn((const Onnx__TensorProto *)message);
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        const char *member = (const char *)message + field->offset;
        if (field->type != PROTOBUF_C_TYPE_MESSAGE)
            continue;
        if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF && *(const uint32_t *)((const char *)message + field->quantifier_offset) != field->id)
            continue;
        if (field->label == PROTOBUF_C_LABEL_REPEATED) {
            size_t n = *(const size_t *)((const char *)message + field->quantifier_offset);
            for (size_t k = 0; k < n; k++)
                PAPA_TRY(each_tensor((*(ProtobufCMessage ***)member)[k], fn));
        } else if (*(ProtobufCMessage **)member) {
            PAPA_TRY(each_tensor(*(ProtobufCMessage **)member, fn));
        }
    }
    return PAPA_OK;
}

static PapaStatus print_floats(const Onnx__TensorProto *tensor, int64_t n)
{
    double *values = malloc((size_t)(n + 1) * sizeof *values);
    PapaStatus status = values ? papa_tensor_read_double(onnx, tensor, values, n) : papa_fail_memory(0, "elements");
    for (int64_t i = 0; i < n && !status; i++)
        printf(" %a", values[i]);
    free(values);
    return status;
}

static PapaStatus print_ints(const Onnx__TensorProto *tensor, int64_t n)
{
    int64_t *values = malloc((size_t)(n + 1) * sizeof *values);
    PapaStatus status = values ? papa_tensor_read_int64(onnx, tensor, values, n) : papa_fail_memory(0, "elements");
    for (int64_t i = 0; i < n && !status; i++)
        printf(" %" PRId64, values[i]);
    free(values);
    return status;
}

/* Types without a reader of their own: the raw form. */
static PapaStatus print_raw(const Onnx__TensorProto *tensor)
{
    PapaRaw raw;
    PAPA_TRY(papa_record_raw(&raw, papa_tensor_record(onnx, tensor)));
    for (size_t i = 0; i < raw.bytes; i++)
        printf(" %02x", raw.data[i]);
    free(raw.owned);
    return PAPA_OK;
}

static PapaStatus print_tensor(const Onnx__TensorProto *tensor)
{
    int64_t n = papa_tensor_count(tensor);
    int type = tensor->data_type;
    printf("%s\t%s\t", tensor->name ? tensor->name : "", papa_type_name(type));
    for (size_t i = 0; i < tensor->n_dims; i++)
        printf(" %" PRId64, tensor->dims[i]);
    printf("\t");
    PapaStatus status;
    if (papa_type_is_float(type))
        status = print_floats(tensor, n);
    else if ((type >= 2 && type <= 7) || type == ONNX__TENSOR_PROTO__DATA_TYPE__BOOL || type == ONNX__TENSOR_PROTO__DATA_TYPE__UINT32 ||
             type == ONNX__TENSOR_PROTO__DATA_TYPE__UINT64)
        status = print_ints(tensor, n);
    else
        status = print_raw(tensor);
    printf("\n");
    return status;
}

static PapaStatus touch_tensor(const Onnx__TensorProto *tensor)
{
    int64_t n = papa_tensor_count(tensor);
    if (!papa_type_is_float(tensor->data_type))
        return PAPA_OK;
    float *values = malloc((size_t)(n + 1) * sizeof *values);
    PapaStatus status = values ? papa_tensor_read_float(onnx, tensor, values, n) : papa_fail_memory(0, "elements");
    if (!status)
        status = papa_edit_set_tensor(edit, tensor, values, n);
    free(values);
    return status;
}

/* ---------------------------------------------------------------- edits */

static PapaStatus repack_nodes(void)
{
    const Onnx__GraphProto *graph = papa_onnx_graph(onnx);
    for (size_t i = 0; i < graph->n_node; i++) {
        const Onnx__NodeProto *node = graph->node[i];
        PAPA_TRY(papa_edit_replace_node(edit, node, &node, 1));
    }
    return PAPA_OK;
}

static PapaStatus find_node(const char *name, const Onnx__NodeProto **out)
{
    const Onnx__GraphProto *graph = papa_onnx_graph(onnx);
    for (size_t i = 0; i < graph->n_node; i++)
        if (graph->node[i]->name && !strcmp(graph->node[i]->name, name)) {
            *out = graph->node[i];
            return PAPA_OK;
        }
    return papa_fail(PAPA_ERR_ARGUMENT, "no node '%s'", name);
}

static PapaStatus insert_relu(const char *name)
{
    const Onnx__NodeProto *node = NULL;
    PAPA_TRY(find_node(name, &node));
    char *between = (char *)papa_edit_unique_name(edit, "between"), *inputs[64];
    Onnx__NodeProto relu = ONNX__NODE_PROTO__INIT, changed = *node;
    const Onnx__NodeProto *new_nodes[] = {&relu}, *by[] = {&changed};
    if (!between || node->n_input > 64)
        return PAPA_ERR_MEMORY;
    relu.op_type = (char *)"Relu";
    relu.n_input = relu.n_output = 1;
    relu.input = &node->input[0];
    relu.output = &between;
    memcpy(inputs, node->input, node->n_input * sizeof *inputs);
    inputs[0] = between;
    changed.input = inputs;
    PAPA_TRY(papa_edit_insert_before(edit, node, new_nodes, 1));
    return papa_edit_replace_node(edit, node, by, 1);
}

static PapaStatus make_identity(const char *name)
{
    const Onnx__NodeProto *node = NULL;
    PAPA_TRY(find_node(name, &node));
    Onnx__NodeProto identity = ONNX__NODE_PROTO__INIT;
    const Onnx__NodeProto *by[] = {&identity};
    identity.op_type = (char *)"Identity";
    identity.n_input = identity.n_output = 1;
    identity.input = node->input;
    identity.output = node->output;
    return papa_edit_replace_node(edit, node, by, 1);
}

static int parse_dims(const char *text, int64_t dims[8], int64_t *count)
{
    int rank = 0;
    *count = 1;
    for (char *end; *text && rank < 8; text = *end == ',' ? end + 1 : end) {
        dims[rank] = strtoll(text, &end, 10);
        *count *= dims[rank++];
    }
    return rank;
}

static PapaStatus add_tensor(const char *name, int type, const char *dims_text)
{
    int64_t dims[8], n;
    int rank = parse_dims(dims_text, dims, &n);
    float *values = malloc((size_t)(n + 1) * sizeof *values);
    int64_t *ints = malloc((size_t)(n + 1) * sizeof *ints);
    for (int64_t i = 0; i < n && values && ints; i++)
        values[i] = (float)i / 2, ints[i] = i;
    PapaStatus status = type ? papa_edit_add_initializer(edit, name, type, dims, rank, values)
                             : papa_edit_add_initializer_int64(edit, name, dims, rank, ints);
    free(values);
    free(ints);
    return status;
}

static PapaStatus set_tensor(const char *name, float start)
{
    const Onnx__GraphProto *graph = papa_onnx_graph(onnx);
    for (size_t i = 0; i < graph->n_initializer; i++) {
        if (strcmp(graph->initializer[i]->name, name))
            continue;
        int64_t n = papa_tensor_count(graph->initializer[i]);
        float *values = malloc((size_t)(n + 1) * sizeof *values);
        for (int64_t k = 0; k < n && values; k++)
            values[k] = start + (float)k;
        PapaStatus status = papa_edit_set_tensor(edit, graph->initializer[i], values, n);
        free(values);
        return status;
    }
    return papa_fail(PAPA_ERR_ARGUMENT, "no initializer '%s'", name);
}

static PapaStatus take_member(const char *output, double weight)
{
    if (n_members == MAX_MEMBERS)
        return papa_fail(PAPA_ERR_ARGUMENT, "too many members");
    members[n_members++] = (PapaEnsembleMember){.onnx = onnx, .edit = edit, .output = strdup(output), .weight = weight};
    onnx = NULL;
    edit = NULL;
    return PAPA_OK;
}

static PapaStatus write_ensemble(char **words)
{
    static const char *const metadata[][2] = {{"papa.kind", "ensemble"}, {"papa.members", "some"}};
    PapaEnsembleOptions options = {.output = words[2], .softmax = atoi(words[3]), .softmax_axis = atoi(words[4]),
        .probabilities = atoi(words[5]) != 0};
    PapaStatus status = papa_ensemble_write_limited(members, n_members, &options, metadata, 2, words[1], strtoull(words[6], NULL, 10));
    for (int i = 0; i < n_members; i++) {
        papa_edit_free((PapaEdit *)members[i].edit);
        papa_onnx_close((PapaOnnx *)members[i].onnx);
        free((char *)members[i].output);
    }
    n_members = 0;
    return status;
}

static PapaStatus run(char **words, int n)
{
#define IS(name, count) (!strcmp(words[0], name) && n == (count) + 1)
    if (IS("open", 1))
        return open_model(words[1]);
    if (IS("ensemble", 6))
        return write_ensemble(words);
    if (!edit)
        return papa_fail(PAPA_ERR_ARGUMENT, "no model is open");
    if (IS("tensors", 0))
        return each_tensor(&papa_onnx_model(onnx)->base, print_tensor);
    if (IS("touch", 0))
        return each_tensor(&papa_onnx_model(onnx)->base, touch_tensor);
    if (IS("repack", 0))
        return repack_nodes();
    if (IS("set", 2))
        return set_tensor(words[1], strtof(words[2], NULL));
    if (IS("add", 3))
        return add_tensor(words[1], atoi(words[2]), words[3]);
    if (IS("addint", 2))
        return add_tensor(words[1], 0, words[2]);
    if (IS("remove", 1))
        return papa_edit_remove_initializer(edit, words[1]);
    if (IS("relu", 1))
        return insert_relu(words[1]);
    if (IS("identity", 1))
        return make_identity(words[1]);
    if (IS("rminfo", 1))
        return papa_edit_remove_value_info(edit, words[1]);
    if (IS("meta", 2))
        return papa_edit_set_metadata(edit, words[1], words[2]);
    if (IS("unique", 1))
        return printf("%s\n", papa_edit_unique_name(edit, words[1])) > 0 ? PAPA_OK : PAPA_ERR_IO;
    if (IS("write", 1))
        return papa_edit_write(edit, words[1]);
    if (IS("write", 2))
        return papa_edit_write_limited(edit, words[1], strtoull(words[2], NULL, 10));
    if (IS("member", 2))
        return take_member(words[1], strtod(words[2], NULL));
    return papa_fail(PAPA_ERR_ARGUMENT, "no such command");
}

int main(void)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t length;
    while ((length = getline(&line, &capacity, stdin)) > 0) {
        char *words[MAX_WORDS] = {0}, *rest = line;
        int n = 0;
        line[strcspn(line, "\n")] = 0;
        while (n < MAX_WORDS && rest)
            words[n++] = strsep(&rest, "\t");
        PapaStatus status = run(words, n);
        if (status)
            printf("error %d %s\n", (int)status, papa_error());
        else
            printf("ok\n");
        fflush(stdout);
    }
    free(line);
    close_model();
    return 0;
}
