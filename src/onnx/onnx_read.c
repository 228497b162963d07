/* Opening a model: map, scan, decode the skeleton, check what every model must have. */
#include "onnx/onnx_internal.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define OLDEST_IR 3
#define NEWEST_IR ONNX__VERSION__IR_VERSION

static PapaStatus decode(PapaOnnx *onnx)
{
    if (!onnx->file.size)
        return papa_fail(PAPA_ERR_FORMAT, "not an ONNX model: the file is empty");
    PapaBuffer skeleton = {0};
    PapaStatus status = papa_scan_message(onnx, &onnx__model_proto__descriptor, onnx->file.data, onnx->file.size, &skeleton);
    if (!status) {
        ProtobufCAllocator allocator = papa_arena_allocator(&onnx->arena);
        onnx->model = onnx__model_proto__unpack(&allocator, skeleton.size, skeleton.data);
        if (!onnx->model) /* the scan has checked the form, so only memory is left as a reason */
            status = papa_fail_memory(skeleton.size, "decoding the model");
    }
    papa_buffer_free(&skeleton);
    return status;
}

static PapaStatus add_initializer_name(PapaNameMap *names, const Onnx__TensorProto *tensor)
{
    bool added = false;
    if (!tensor || !tensor->name || !*tensor->name)
        return papa_fail(PAPA_ERR_FORMAT, "an initializer without a name");
    PAPA_TRY(papa_name_map_add(names, tensor->name, 0, &added));
    if (!added)
        return papa_fail(PAPA_ERR_FORMAT, "two initializers are named '%.200s'", tensor->name);
    return PAPA_OK;
}

static PapaStatus check_initializers(PapaOnnx *onnx)
{
    const Onnx__GraphProto *graph = onnx->model->graph;
    PapaNameMap names = {0};
    PapaStatus status = PAPA_OK;
    for (size_t i = 0; i < graph->n_initializer && !status; i++) {
        status = add_initializer_name(&names, graph->initializer[i]);
        onnx->records[papa_tensor_record(onnx, graph->initializer[i]) - onnx->records].is_initializer = true;
    }
    for (size_t i = 0; i < graph->n_sparse_initializer && !status; i++)
        status = add_initializer_name(&names, graph->sparse_initializer[i]->values);
    papa_name_map_free(&names);
    return status;
}

static PapaStatus check_values(Onnx__ValueInfoProto *const *values, size_t n, const char *what)
{
    for (size_t i = 0; i < n; i++)
        if (!values[i]->name || !*values[i]->name)
            return papa_fail(PAPA_ERR_FORMAT, "%s %zu has no name", what, i);
    return PAPA_OK;
}

static PapaStatus check_node(const Onnx__NodeProto *node, size_t index)
{
    if (!node->op_type || !*node->op_type)
        return papa_fail(PAPA_ERR_FORMAT, "node %zu has no operator type", index);
    for (size_t i = 0; i < node->n_attribute; i++)
        if (!node->attribute[i]->name || !*node->attribute[i]->name)
            return papa_fail(PAPA_ERR_FORMAT, "%s has an attribute without a name", papa_node_label(node));
    return PAPA_OK;
}

/* The names that every reader relies on. */
static PapaStatus check_names(const Onnx__GraphProto *graph)
{
    PAPA_TRY(check_values(graph->input, graph->n_input, "graph input"));
    PAPA_TRY(check_values(graph->output, graph->n_output, "graph output"));
    for (size_t i = 0; i < graph->n_node; i++)
        PAPA_TRY(check_node(graph->node[i], i));
    return PAPA_OK;
}

static PapaStatus check_model(PapaOnnx *onnx)
{
    const Onnx__ModelProto *model = onnx->model;
    if (!model->has_ir_version)
        return papa_fail(PAPA_ERR_FORMAT, "not an ONNX model: no IR version");
    if (model->ir_version < OLDEST_IR || model->ir_version > NEWEST_IR)
        return papa_fail(PAPA_ERR_FORMAT, "IR version %lld, %d to %d expected", (long long)model->ir_version, OLDEST_IR, NEWEST_IR);
    if (!model->graph)
        return papa_fail(PAPA_ERR_FORMAT, "not an ONNX model: no graph");
    PAPA_TRY(check_names(model->graph));
    return check_initializers(onnx);
}

PapaStatus papa_onnx_open(PapaOnnx **out, const char *path)
{
    static atomic_uint serials;
    *out = NULL;
    PapaOnnx *onnx = calloc(1, sizeof *onnx);
    if (!onnx)
        return papa_fail_memory(sizeof *onnx, "a model");
    PapaStatus status;
    onnx->serial = atomic_fetch_add(&serials, 1) + 1;
    onnx->path = papa_arena_strdup(&onnx->arena, path);
    if (!onnx->path) {
        status = PAPA_ERR_MEMORY;
        goto out;
    }
    PAPA_GOTO(papa_file_map(&onnx->file, path));
    status = decode(onnx);
    if (!status)
        status = check_model(onnx);
    if (status) {
        papa_fail_in(status, "%s", path);
        goto out;
    }
    *out = onnx;
    onnx = NULL;
out:
    papa_onnx_close(onnx);
    return status;
}

void papa_onnx_close(PapaOnnx *onnx)
{
    if (!onnx)
        return;
    for (size_t i = 0; i < onnx->n_externals; i++)
        papa_file_unmap(&onnx->externals[i]);
    free(onnx->externals);
    free(onnx->external_paths);
    free(onnx->records);
    papa_name_map_free(&onnx->locations);
    papa_file_unmap(&onnx->file);
    papa_arena_free(&onnx->arena);
    free(onnx);
}

const char *papa_onnx_path(const PapaOnnx *onnx)
{
    return onnx->path;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const PapaOnnxFile *)a)->path, ((const PapaOnnxFile *)b)->path);
}

PapaStatus papa_onnx_files(PapaOnnxFile **out, int *n, PapaArena *arena, const PapaOnnx *onnx)
{
    PapaOnnxFile *files = PAPA_NEW_ARRAY(arena, PapaOnnxFile, onnx->n_externals + 1);
    if (!files)
        return PAPA_ERR_MEMORY;
    files[0] = (PapaOnnxFile){onnx->path, onnx->file.data, onnx->file.size};
    for (size_t i = 0; i < onnx->n_externals; i++)
        files[i + 1] = (PapaOnnxFile){onnx->external_paths[i], onnx->externals[i].data, onnx->externals[i].size};
    qsort(files + 1, onnx->n_externals, sizeof *files, by_path);
    *out = files;
    *n = (int)onnx->n_externals + 1;
    return PAPA_OK;
}

const Onnx__ModelProto *papa_onnx_model(const PapaOnnx *onnx)
{
    return onnx->model;
}

/* The default domain has two spellings. */
static const char *domain_name(const char *domain)
{
    return !domain || !strcmp(domain, "ai.onnx") ? "" : domain;
}

int64_t papa_onnx_opset(const PapaOnnx *onnx, const char *domain)
{
    for (size_t i = 0; i < onnx->model->n_opset_import; i++) {
        const Onnx__OperatorSetIdProto *import = onnx->model->opset_import[i];
        if (!strcmp(domain_name(import->domain), domain_name(domain)))
            return import->version;
    }
    return 0;
}

const char *papa_onnx_metadata(const PapaOnnx *onnx, const char *key)
{
    for (size_t i = 0; i < onnx->model->n_metadata_props; i++) {
        const Onnx__StringStringEntryProto *entry = onnx->model->metadata_props[i];
        if (entry->key && !strcmp(entry->key, key))
            return entry->value ? entry->value : "";
    }
    return NULL;
}
