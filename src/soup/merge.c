/* Setting up a merge: which tensors go together, whether they may, and what the edit is told. */
#include "onnx/name_map.h"
#include "soup/merge_run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_INPUTS 65536 /* papa_merge_exact_mean's */

void papa_merge_defaults(PapaMergeOptions *out)
{
    *out = (PapaMergeOptions){.t = 0.5, .scale = 1, .decay = 0.9, .seed = 1};
}

/* ---------------------------------------------------------------- options */

typedef struct Needs {
    const char *name;
    int least, most; /* inputs; most 0: any number */
    bool base, weights;
} Needs;

static const Needs needs[] = {
    [PAPA_MERGE_MEAN] = {"a mean", 1, 0, false, true},
    [PAPA_MERGE_LERP] = {"interpolation", 2, 2, false, false},
    [PAPA_MERGE_SLERP] = {"spherical interpolation", 2, 2, false, false},
    [PAPA_MERGE_TASK] = {"task arithmetic", 1, 0, true, true},
    [PAPA_MERGE_TIES] = {"TIES", 1, 0, true, true},
    [PAPA_MERGE_DARE] = {"DARE", 1, 0, true, true},
    [PAPA_MERGE_DARE_TIES] = {"DARE with TIES", 1, 0, true, true},
    [PAPA_MERGE_STOCK] = {"Model Stock", 2, 0, true, false},
    [PAPA_MERGE_WISE] = {"WiSE-FT", 1, 1, true, false},
    [PAPA_MERGE_EMA] = {"an average of checkpoints", 1, 0, false, false},
};

static PapaStatus check_weights(const double *weights, int n, const PapaMergeOptions *options)
{
    double sum = 0;
    for (int k = 0; k < n; k++) {
        if (!isfinite(weights[k]))
            return papa_fail(PAPA_ERR_ARGUMENT, "weight %d is %g", k + 1, weights[k]);
        sum += weights[k];
    }
    if (options->method == PAPA_MERGE_MEAN && !options->any_sum && !(fabs(sum - 1) <= PAPA_MERGE_SUM_TOLERANCE))
        return papa_fail(PAPA_ERR_ARGUMENT, "the weights sum to %.9g, not to 1", sum);
    return PAPA_OK;
}

static PapaStatus check_options(const PapaMergeOptions *options, int n, bool has_base)
{
    if ((unsigned)options->method >= sizeof needs / sizeof *needs)
        return papa_fail(PAPA_ERR_ARGUMENT, "there is no method %d of merging", (int)options->method);
    const Needs *need = &needs[options->method];
    int most = need->most ? need->most : MOST_INPUTS, bound = n < need->least ? need->least : most;
    if (n < need->least || n > most)
        return papa_fail(PAPA_ERR_ARGUMENT, "%s takes %s%d models, %d given", need->name,
            need->least == most ? "" : bound == most ? "at most " : "at least ", bound, n);
    if (need->base != has_base)
        return papa_fail(PAPA_ERR_ARGUMENT, need->base ? "%s needs a base" : "%s has no base", need->name);
    if ((options->weights && !need->weights) || (options->tensor_weights && options->method != PAPA_MERGE_MEAN))
        return papa_fail(PAPA_ERR_ARGUMENT, "%s has no weights%s", need->name, options->weights && !need->weights ? "" : " for each tensor");
    if (!isfinite(options->t) || !isfinite(options->scale))
        return papa_fail(PAPA_ERR_ARGUMENT, "t is %g, scale is %g", options->t, options->scale);
    if (!(options->density >= 0 && options->density <= 1))
        return papa_fail(PAPA_ERR_ARGUMENT, "density is %g, more than 0 and at most 1 expected", options->density);
    if (!(options->decay >= 0 && options->decay < 1))
        return papa_fail(PAPA_ERR_ARGUMENT, "decay is %g, from 0 to below 1 expected", options->decay);
    if (options->threads < 0)
        return papa_fail(PAPA_ERR_ARGUMENT, "%d threads", options->threads);
    return options->weights ? check_weights(options->weights, n, options) : PAPA_OK;
}

/* ---------------------------------------------------------------- pairing */

/* The tensors of one model, and for each of the first model's its own. */
typedef struct Side {
    const char *path; /* of the file */
    PapaTensorPlace *places;
    size_t n_places;
    PapaMergeTensor *tensors; /* [places of the first] */
} Side;

static PapaStatus index_paths(PapaNameMap *map, const Side *side)
{
    for (size_t i = 0; i < side->n_places; i++)
        PAPA_TRY(papa_name_map_add(map, side->places[i].path, (int64_t)i, NULL));
    return PAPA_OK;
}

/* Fails where a side has a tensor whose path the map, of the other side, has not. */
static PapaStatus check_paths(const PapaNameMap *map, const Side *other, const Side *side)
{
    for (size_t i = 0; i < side->n_places; i++)
        if (!papa_name_map_find(map, side->places[i].path))
            return papa_fail(PAPA_ERR_MISMATCH, "%s has no tensor '%s', which %s has", other->path, side->places[i].path, side->path);
    return PAPA_OK;
}

static PapaStatus pair_by_path(PapaArena *arena, const Side *first, Side *side)
{
    PapaNameMap mine = {0}, theirs = {0};
    PapaStatus status = PAPA_OK;
    side->tensors = PAPA_NEW_ARRAY(arena, PapaMergeTensor, first->n_places);
    if (!side->tensors)
        return PAPA_ERR_MEMORY;
    PAPA_GOTO(index_paths(&mine, first));
    PAPA_GOTO(index_paths(&theirs, side));
    PAPA_GOTO(check_paths(&theirs, side, first));
    PAPA_GOTO(check_paths(&mine, first, side));
    for (size_t i = 0; i < first->n_places; i++)
        side->tensors[i].tensor = side->places[*papa_name_map_find(&theirs, first->places[i].path)].tensor;
out:
    papa_name_map_free(&mine);
    papa_name_map_free(&theirs);
    return status;
}

static PapaStatus open_side(PapaArena *arena, const Side *first, const PapaMergeModel *model, Side *out)
{
    out->path = papa_onnx_path(model->onnx);
    PAPA_TRY(papa_onnx_tensors(&out->places, &out->n_places, arena, model->onnx));
    if (!model->tensors)
        return pair_by_path(arena, first, out);
    size_t bytes = first->n_places * sizeof *out->tensors;
    out->tensors = PAPA_NEW_ARRAY(arena, PapaMergeTensor, first->n_places);
    if (!out->tensors)
        return PAPA_ERR_MEMORY;
    if (bytes)
        memcpy(out->tensors, model->tensors, bytes);
    for (size_t i = 0; i < first->n_places; i++)
        if (out->tensors[i].tensor && papa_tensor_index(model->onnx, out->tensors[i].tensor) < 0)
            return papa_fail(PAPA_ERR_ARGUMENT, "%s: what is paired with '%s' is no tensor of it", out->path, first->places[i].path);
    return PAPA_OK;
}

/* ---------------------------------------------------------------- may they be merged? */

/* "FLOAT [3,4]" */
static const char *describe(char text[128], const Onnx__TensorProto *tensor)
{
    size_t at = (size_t)snprintf(text, 128, "%s [", papa_type_name(tensor->data_type));
    for (size_t i = 0; i < tensor->n_dims && at < 100; i++)
        at += (size_t)snprintf(text + at, 128 - at, "%s%lld", i ? "," : "", (long long)tensor->dims[i]);
    snprintf(text + at, 128 - at, "]");
    return text;
}

static bool same_dims(const int64_t *a, size_t n_a, const int64_t *b, size_t n_b)
{
    return n_a == n_b && (!n_a || !memcmp(a, b, n_a * sizeof *a));
}

static PapaStatus fail_shapes(const PapaTensorPlace *place, const Side *first, const Onnx__TensorProto *x, const Side *side, const Onnx__TensorProto *y)
{
    char a[128], b[128];
    return papa_fail(PAPA_ERR_MISMATCH, "'%s' is %s in %s and %s in %s", place->path, describe(a, x), first->path, describe(b, y), side->path);
}

/* An element of an integer tensor as text; nothing where it can't be read as one. */
static const char *show_element(char text[32], const PapaOnnx *onnx, const Onnx__TensorProto *tensor, int64_t at)
{
    PapaTensorReader reader;
    int64_t value;
    *text = 0;
    if (!papa_reader_open(&reader, onnx, tensor) && !papa_reader_int64(&reader, &value, at, 1))
        snprintf(text, 32, " (%lld)", (long long)value);
    return text;
}

/* Tensors that have no mean must be equal. */
static PapaStatus check_equal(const PapaMerge *merge, const PapaTensorPlace *place, const Side *sides, int s)
{
    const PapaOnnx *a = merge->models[0].onnx, *b = merge->models[s].onnx;
    size_t i = (size_t)papa_tensor_index(a, place->tensor);
    const Onnx__TensorProto *x = place->tensor, *y = sides[s].tensors[i].tensor;
    char one[32], other[32];
    bool equal = false;
    int64_t at = -1;
    PAPA_TRY(papa_tensors_equal(&equal, &at, a, x, b, y));
    if (equal)
        return PAPA_OK;
    if (at < 0)
        return fail_shapes(place, &sides[0], x, &sides[s], y);
    size_t bits = papa_type_bits(x->data_type);
    bool is_quantised = bits && bits <= 8 && x->data_type != ONNX__TENSOR_PROTO__DATA_TYPE__BOOL;
    return papa_fail(is_quantised ? PAPA_ERR_UNSUPPORTED : PAPA_ERR_MISMATCH, "'%s': %s%s has no mean, and element %lld differs: %s%s, %s%s", place->path,
        is_quantised ? "a quantised weight of " : "", papa_type_name(x->data_type), (long long)at, sides[0].path, show_element(one, a, x, at),
        sides[s].path, show_element(other, b, y, at));
}

static PapaStatus check_source(const PapaMerge *merge, const PapaTensorPlace *place, const Side *sides, int s)
{
    size_t i = (size_t)papa_tensor_index(merge->models[0].onnx, place->tensor);
    const PapaMergeTensor *source = &sides[s].tensors[i];
    const Onnx__TensorProto *x = place->tensor, *y = source->tensor;
    if (place->sparse && y) {
        const Onnx__SparseTensorProto *a = place->sparse, *b = sides[s].places[papa_tensor_index(merge->models[s].onnx, y)].sparse;
        if (!b || !same_dims(a->dims, a->n_dims, b->dims, b->n_dims))
            return papa_fail(PAPA_ERR_MISMATCH, "'%s' is sparse and has not the same shape in %s and %s", place->path, sides[0].path, sides[s].path);
    }
    if (!papa_type_is_float(x->data_type) && y)
        return check_equal(merge, place, sides, s);
    if (!papa_type_is_float(x->data_type))
        return papa_fail(PAPA_ERR_ARGUMENT, "%s: what is paired with '%s' is no tensor of it", sides[s].path, place->path);
    if (!y)
        return PAPA_OK;
    bool same_shape = same_dims(x->dims, x->n_dims, y->dims, y->n_dims);
    if (source->read)
        same_shape = papa_tensor_count(x) == papa_tensor_count(y);
    else if (source->transposed)
        same_shape = x->n_dims == 2 && y->n_dims == 2 && x->dims[0] == y->dims[1] && x->dims[1] == y->dims[0];
    if (x->data_type != y->data_type || !same_shape)
        return fail_shapes(place, &sides[0], x, &sides[s], y);
    PapaTensorReader reader; /* finds segments */
    PapaStatus status = papa_reader_open(&reader, merge->models[s].onnx, y);
    return status ? papa_fail_in(status, "%s", sides[s].path) : PAPA_OK;
}

/* ---------------------------------------------------------------- jobs */

/* FNV-1a, 32 bits. */
static uint32_t hash_text(const char *text)
{
    uint32_t hash = 0x811c9dc5u;
    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * 0x01000193u;
    return hash;
}

/* What the method multiplies each source by; SLERP's and Model Stock's come when the tensor is measured. */
static void set_weights(const PapaMerge *merge, double *weights, size_t tensor)
{
    const PapaMergeOptions *o = &merge->options;
    int n = merge->n;
    double rest = 1; /* EMA: the weight of all that came before */
    for (int k = n - 1; k >= 0; k--) {
        if (o->tensor_weights)
            weights[k] = o->tensor_weights[tensor * (size_t)n + (size_t)k];
        else if (o->weights)
            weights[k] = o->weights[k];
        else if (o->method == PAPA_MERGE_LERP)
            weights[k] = k ? o->t : 1 - o->t;
        else if (o->method == PAPA_MERGE_EMA)
            weights[k] = k ? (1 - o->decay) * rest : rest;
        else
            weights[k] = o->method == PAPA_MERGE_MEAN ? 1.0 / n : 1;
        rest *= o->decay;
    }
    if (o->method == PAPA_MERGE_WISE) {
        weights[0] = o->t;
        weights[1] = 1 - o->t;
    }
}

/* Whether the result is the first input itself, down to its bytes. */
static bool is_first(const PapaMerge *merge, const PapaMergeJob *job)
{
    PapaMergeMethod method = merge->options.method;
    if (papa_merge_is_of_differences(method) || method == PAPA_MERGE_SLERP || method == PAPA_MERGE_STOCK || job->weights[0] != 1)
        return false;
    for (int s = 1; s < merge->n_sources; s++)
        if (job->weights[s] != 0)
            return false;
    return true;
}

/* Tensors that share their elements in all models (places in external files) share them in the result too. */
static bool shares_elements(const PapaMerge *merge, const PapaMergeJob *a, const PapaMergeJob *b)
{
    if (a->type != b->type || a->count != b->count || memcmp(a->weights, b->weights, (size_t)merge->n_sources * sizeof *a->weights))
        return false;
    for (int s = 0; s < merge->n_sources; s++) {
        bool is_plain = !a->sources[s].read && !b->sources[s].read && a->sources[s].transposed == b->sources[s].transposed;
        const void *data = is_plain ? papa_tensor_data(merge->models[s].onnx, a->sources[s].tensor) : NULL;
        if (!data || data != papa_tensor_data(merge->models[s].onnx, b->sources[s].tensor))
            return false;
    }
    return true;
}

static PapaMergeJob *new_job(PapaMerge *merge, const Side *sides, size_t tensor)
{
    PapaMergeJob *job = PAPA_NEW(&merge->arena, PapaMergeJob);
    const PapaTensorPlace *place = &sides[0].places[tensor];
    if (!job)
        return NULL;
    *job = (PapaMergeJob){
        .merge = merge,
        .type = place->tensor->data_type,
        .count = papa_tensor_count(place->tensor),
        .name = hash_text(place->path),
        .sources = PAPA_NEW_ARRAY(&merge->arena, PapaMergeTensor, merge->n_sources),
        .weights = PAPA_NEW_ARRAY(&merge->arena, double, merge->n_sources),
        .thresholds = PAPA_NEW_ARRAY(&merge->arena, double, merge->n),
    };
    if (!job->sources || !job->weights || !job->thresholds)
        return NULL;
    for (int s = 0; s < merge->n_sources; s++)
        job->sources[s] = sides[s].tensors[tensor];
    set_weights(merge, job->weights, tensor);
    return job;
}

/* jobs: the job whose elements are at a place of the first file: address -> job, as pointers. */
static PapaStatus add_job(PapaMerge *merge, PapaEdit *edit, const Side *sides, size_t tensor, PapaNameMap *jobs)
{
    PapaMergeJob *job = new_job(merge, sides, tensor);
    if (!job)
        return PAPA_ERR_MEMORY;
    if (is_first(merge, job))
        return PAPA_OK;
    const Onnx__TensorProto *target = sides[0].places[tensor].tensor;
    char *place = papa_arena_printf(&merge->arena, "%p+%lld", papa_tensor_data(merge->models[0].onnx, target), (long long)job->count);
    bool added = false;
    PAPA_TRY(place ? papa_name_map_add(jobs, place, (int64_t)(intptr_t)job, &added) : PAPA_ERR_MEMORY);
    PapaMergeJob *earlier = (PapaMergeJob *)(intptr_t)*papa_name_map_find(jobs, place);
    return papa_edit_set_tensor_from(edit, target, papa_merge_fill, !added && shares_elements(merge, earlier, job) ? earlier : job);
}

/* Whether all models have something for this tensor of the first. */
static bool is_paired(const PapaMerge *merge, const Side *sides, size_t tensor)
{
    for (int s = 1; s < merge->n_sources; s++)
        if (!sides[s].tensors[tensor].tensor && !sides[s].tensors[tensor].read)
            return false;
    return true;
}

static PapaStatus check_tensor(const PapaMerge *merge, const Side *sides, size_t tensor)
{
    const PapaTensorPlace *place = &sides[0].places[tensor];
    const double *weights = merge->options.tensor_weights;
    for (int s = 1; s < merge->n_sources; s++)
        PAPA_TRY(check_source(merge, place, sides, s));
    if (!weights || !papa_type_is_float(place->tensor->data_type))
        return PAPA_OK;
    PapaStatus status = check_weights(weights + tensor * (size_t)merge->n, merge->n, &merge->options);
    return status ? papa_fail_in(status, "'%s'", place->path) : PAPA_OK;
}

/* Everything is looked at before the edit is told of anything. */
static PapaStatus take_tensors(PapaMerge *merge, PapaEdit *edit)
{
    Side *sides = PAPA_NEW_ARRAY(&merge->arena, Side, merge->n_sources);
    PapaNameMap jobs = {0};
    PapaStatus status = sides ? PAPA_OK : PAPA_ERR_MEMORY;
    for (int s = 0; s < merge->n_sources && !status; s++)
        status = open_side(&merge->arena, s ? &sides[0] : &sides[s], &merge->models[s], &sides[s]);
    for (size_t i = 0; !status && i < sides[0].n_places; i++)
        if (is_paired(merge, sides, i))
            status = check_tensor(merge, sides, i);
    for (size_t i = 0; !status && i < sides[0].n_places; i++) {
        const Onnx__TensorProto *tensor = sides[0].places[i].tensor;
        if (is_paired(merge, sides, i) && papa_type_is_float(tensor->data_type) && papa_tensor_count(tensor) > 0)
            status = add_job(merge, edit, sides, i, &jobs);
    }
    papa_name_map_free(&jobs);
    return status;
}

/* ---------------------------------------------------------------- a merge */

static PapaStatus make_workers(PapaMerge *merge)
{
    int cores = papa_cores(), n_sources = merge->n_sources;
    merge->n_workers = merge->options.threads ? merge->options.threads : cores < PAPA_MERGE_THREADS ? cores : PAPA_MERGE_THREADS;
    merge->workers = PAPA_NEW_ARRAY(&merge->arena, PapaMergeWorker, merge->n_workers);
    if (!merge->workers)
        return PAPA_ERR_MEMORY;
    for (int i = 0; i < merge->n_workers; i++) {
        PapaMergeWorker *w = &merge->workers[i];
        *w = (PapaMergeWorker){
            .readers = PAPA_NEW_ARRAY(&merge->arena, PapaTensorReader, n_sources),
            .rows = papa_arena_calloc(&merge->arena, (size_t)n_sources + 1, sizeof *w->rows),
            .used = PAPA_NEW_ARRAY(&merge->arena, const double *, n_sources),
            .used_weights = PAPA_NEW_ARRAY(&merge->arena, double, n_sources),
        };
        if (!w->readers || !w->rows || !w->used || !w->used_weights)
            return PAPA_ERR_MEMORY;
        if (merge->options.method != PAPA_MERGE_TIES)
            continue;
        w->histogram = PAPA_NEW_ARRAY(&merge->arena, int64_t, PAPA_MERGE_BINS);
        if (!w->histogram)
            return PAPA_ERR_MEMORY;
    }
    return merge->n_workers > 1 ? papa_pool_new(&merge->pool, merge->n_workers) : PAPA_OK;
}

static PapaStatus copy_options(PapaMerge *merge, const PapaMergeOptions *options)
{
    merge->options = *options;
    if (!options->density)
        merge->options.density = options->method == PAPA_MERGE_TIES ? 0.2 : 0.1;
    if (options->weights) {
        double *weights = PAPA_NEW_ARRAY(&merge->arena, double, merge->n);
        if (!weights)
            return PAPA_ERR_MEMORY;
        memcpy(weights, options->weights, (size_t)merge->n * sizeof *weights);
        merge->options.weights = weights;
    }
    return PAPA_OK;
}

PapaStatus papa_merge_new(PapaMerge **out, PapaEdit *edit, const PapaMergeModel *inputs, int n, const PapaMergeModel *base,
    const PapaMergeOptions *options)
{
    *out = NULL;
    PAPA_TRY(check_options(options, n, base != NULL));
    PapaStatus status;
    PapaMerge *merge = calloc(1, sizeof *merge);
    if (!merge)
        return papa_fail_memory(sizeof *merge, "a merge");
    merge->n = n;
    merge->n_sources = n + (base != NULL);
    merge->models = PAPA_NEW_ARRAY(&merge->arena, PapaMergeModel, merge->n_sources);
    if (!merge->models) {
        status = PAPA_ERR_MEMORY;
        goto out;
    }
    memcpy(merge->models, inputs, (size_t)n * sizeof *inputs);
    if (base)
        merge->models[n] = *base;
    PAPA_GOTO(copy_options(merge, options));
    PAPA_GOTO(make_workers(merge));
    PAPA_GOTO(take_tensors(merge, edit));
    *out = merge;
    merge = NULL;
out:
    papa_merge_free(merge);
    return status;
}

void papa_merge_free(PapaMerge *merge)
{
    if (!merge)
        return;
    papa_pool_free(merge->pool);
    papa_arena_free(&merge->arena);
    free(merge);
}
