/* Pairing the models of a merge. */
#include "jobs/ingredients.h"

#include "jobs/ingredient.h"
#include "onnx/name_map.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---------------------------------------------------------------- files */

/* Files are one by device and inode, whatever they are called. */
static bool is_one_file(const char *a, const char *b)
{
    struct stat s, t;
    return !stat(a, &s) && !stat(b, &t) && s.st_dev == t.st_dev && s.st_ino == t.st_ino;
}

static PapaStatus check_twice(const PapaIngredients *in)
{
    for (int k = 1; k < papa_ones(in); k++)
        for (int j = 0; j < k; j++) {
            const char *a = papa_onnx_path(in->ones[j].onnx), *b = papa_onnx_path(in->ones[k].onnx);
            const char *role = in->has_base && k == in->n ? ", given as the base and to be merged" : ", given twice";
            if (is_one_file(a, b))
                return papa_fail(PAPA_ERR_MISMATCH, strcmp(a, b) ? "%s and %s are one file%s" : "%s%.0s is one file%s", a, b, role);
        }
    return PAPA_OK;
}

PapaStatus papa_ingredients_check_output(const PapaIngredients *in, const char *path)
{
    PapaArena scratch = PAPA_ARENA_INIT;
    PapaStatus status = PAPA_OK;
    const char *outputs[2] = {path, papa_arena_printf(&scratch, "%s.data", path)};
    if (!outputs[1])
        return PAPA_ERR_MEMORY;
    for (int k = 0; k < papa_ones(in) && !status; k++) {
        PapaOnnxFile *files;
        int n = 0;
        status = papa_onnx_files(&files, &n, &scratch, in->ones[k].onnx);
        for (int i = 0; i < 2 * n && !status; i++)
            if (is_one_file(outputs[i % 2], files[i / 2].path))
                status = papa_fail(PAPA_ERR_MISMATCH, "%s: can't be written: it is an input%s", outputs[i % 2], i > 1 ? "'s external data" : "");
    }
    papa_arena_free(&scratch);
    return status;
}

/* ---------------------------------------------------------------- numbers of Constants */

const Onnx__AttributeProto *papa_constant_numbers(const PapaStoredTensor *stored)
{
    static const char *const names[] = {"value_float", "value_floats", "value_int", "value_ints", "value_string", "value_strings"};
    for (size_t i = 0; stored->constant && !stored->tensor && !stored->sparse && i < sizeof names / sizeof *names; i++)
        if (papa_attr_find(stored->constant, names[i]))
            return papa_attr_find(stored->constant, names[i]);
    return NULL;
}

/* A stored tensor of integers, or of floats, as numbers. */
typedef struct Numbers {
    int64_t n;
    double *floats;
    int64_t *integers;
} Numbers;

static PapaStatus read_numbers(Numbers *out, PapaArena *arena, const PapaOnnx *onnx, const PapaStoredTensor *stored)
{
    const Onnx__AttributeProto *a = papa_constant_numbers(stored);
    const Onnx__TensorProto *tensor = stored->tensor;
    *out = (Numbers){0};
    if (!tensor && (!a || a->n_strings || a->s.len))
        return PAPA_OK;
    bool is_list = a && (a->n_floats || a->n_ints || !strcmp(a->name, "value_floats") || !strcmp(a->name, "value_ints"));
    bool is_float = tensor ? papa_type_is_float(tensor->data_type) : !strncmp(a->name, "value_float", 11);
    out->n = tensor ? papa_tensor_count(tensor) : is_list ? (int64_t)(a->n_floats + a->n_ints) : 1;
    out->floats = is_float ? PAPA_NEW_ARRAY(arena, double, out->n) : NULL;
    out->integers = is_float ? NULL : PAPA_NEW_ARRAY(arena, int64_t, out->n);
    if (!out->floats && !out->integers)
        return PAPA_ERR_MEMORY;
    if (tensor)
        return is_float ? papa_tensor_read_double(onnx, tensor, out->floats, out->n) : papa_tensor_read_int64(onnx, tensor, out->integers, out->n);
    for (int64_t i = 0; i < out->n && is_float; i++)
        out->floats[i] = is_list ? a->floats[i] : a->f;
    for (int64_t i = 0; i < out->n && !is_float; i++)
        out->integers[i] = is_list ? a->ints[i] : a->i;
    return PAPA_OK;
}

/* Numbers of a Constant that are no TensorProto in one of the files, and are not merged: they must be equal. Strings have been compared when the
 * files were paired. */
static PapaStatus check_numbers(const PapaOnnx *a, const PapaOnnx *b, const PapaTensorPair *pair)
{
    PapaArena scratch = PAPA_ARENA_INIT;
    Numbers x, y;
    PapaStatus status;
    PAPA_GOTO(read_numbers(&x, &scratch, a, &pair->a));
    PAPA_GOTO(read_numbers(&y, &scratch, b, &pair->b));
    bool equal = x.n == y.n && !x.floats == !y.floats;
    for (int64_t i = 0; equal && i < x.n; i++)
        equal = x.floats ? x.floats[i] == y.floats[i] : x.integers[i] == y.integers[i];
    if (!equal)
        status = papa_fail(PAPA_ERR_UNSUPPORTED, "%s: Constant '%.200s' has its numbers in an attribute, which is not merged, and %s has others", papa_onnx_path(a),
            pair->a.name, papa_onnx_path(b));
out:
    papa_arena_free(&scratch);
    return status;
}

/* ---------------------------------------------------------------- pairing */

/* Tensors of nodes' attributes (but Constant's), and of training information, are none of the pairing's. Of floats the one of the same path will do, of others
 * one that is the same. */
static PapaStatus pair_attribute(PapaPart *part, const PapaIngredients *in, const PapaOne *one, const PapaTensorPlace *theirs, const PapaNameMap *paths)
{
    const PapaTensorPlace *place = &in->places[part->first];
    const PapaOnnx *first = in->ones[0].onnx;
    const int64_t *at = papa_name_map_find(paths, place->path);
    const Onnx__TensorProto *same = at ? theirs[*at].tensor : NULL;
    if (same && papa_type_is_float(same->data_type) && same->data_type == place->tensor->data_type && papa_tensor_count(same) == papa_tensor_count(place->tensor)) {
        part->tensor = same;
        return PAPA_OK;
    }
    bool equal = false;
    for (int64_t i = 0; i < one->n_own && !equal; i++)
        PAPA_TRY(papa_tensors_equal(&equal, NULL, first, place->tensor, one->onnx, theirs[i].tensor));
    if (equal || !strncmp(place->path, "training_info", 13))
        return PAPA_OK;
    return papa_fail(PAPA_ERR_MISMATCH, "%s: '%s' is an attribute of a node, and %s has another one, elsewhere or none", papa_onnx_path(first), place->path,
        papa_onnx_path(one->onnx));
}

static PapaStatus pair_part(PapaPart *part, const PapaIngredients *in, const PapaOne *one, const PapaTensorPair *pair)
{
    part->tensor = pair->b.tensor;
    part->transposed = pair->transposed;
    if (part->tensor || !pair->b.name)
        return PAPA_OK;
    const Onnx__AttributeProto *numbers = papa_constant_numbers(&pair->b);
    if (numbers && !strncmp(numbers->name, "value_float", 11))
        part->numbers = numbers;
    return part->numbers ? PAPA_OK : check_numbers(in->ones[0].onnx, one->onnx, pair);
}

/* Its values and its indices are tensors. */
static PapaStatus pair_sparse(PapaOne *one, const PapaIngredients *in, const PapaTensorPair *pair)
{
    const Onnx__SparseTensorProto *a = pair->a.sparse, *b = pair->b.sparse;
    const Onnx__TensorProto *from[] = {a->values, a->indices}, *to[] = {b ? b->values : NULL, b ? b->indices : NULL};
    if (!pair->b.name)
        return PAPA_OK;
    if (!b || pair->transposed)
        return papa_fail(PAPA_ERR_MISMATCH, "%s: tensor '%.200s' is sparse, and in %s it is %s", papa_onnx_path(in->ones[0].onnx), pair->a.name,
            papa_onnx_path(one->onnx), b ? "transposed" : "not");
    for (int i = 0; i < 2; i++)
        if (from[i])
            one->parts[papa_tensor_index(in->ones[0].onnx, from[i])].tensor = to[i];
    return PAPA_OK;
}

static PapaStatus take_pairs(PapaOne *one, const PapaIngredients *in, const PapaPairing *pairing, const PapaTensorPlace *theirs, const PapaNameMap *paths)
{
    size_t n = 0;
    const PapaTensorPair *pairs = papa_pair_tensors(pairing, &n);
    for (size_t i = 0; i < n; i++) {
        if (pairs[i].a.sparse)
            PAPA_TRY(pair_sparse(one, in, &pairs[i]));
        else if (!pairs[i].a.tensor && pairs[i].b.name)
            PAPA_TRY(check_numbers(in->ones[0].onnx, one->onnx, &pairs[i]));
    }
    for (int64_t i = 0; i < in->n_places; i++) {
        const PapaTensorPlace *place = &in->places[i];
        const PapaTensorPair *pair = papa_pair_find(pairing, place->tensor);
        if (pair)
            PAPA_TRY(pair_part(&one->parts[i], in, one, pair));
        else if (!place->sparse)
            PAPA_TRY(pair_attribute(&one->parts[i], in, one, theirs, paths));
    }
    return PAPA_OK;
}

static PapaStatus pair_with_first(PapaIngredients *in, PapaOne *one)
{
    PapaArena scratch = PAPA_ARENA_INIT;
    PapaNameMap paths = {0};
    PapaPairing *pairing = NULL;
    PapaTensorPlace *theirs = NULL;
    size_t n_theirs = 0;
    PapaStatus status;
    one->parts = PAPA_NEW_ARRAY(&in->arena, PapaPart, in->n_places);
    one->tensors = PAPA_NEW_ARRAY(&in->arena, PapaMergeTensor, in->n_places);
    if (!one->parts || !one->tensors)
        return PAPA_ERR_MEMORY;
    for (int64_t i = 0; i < in->n_places; i++)
        one->parts[i] = (PapaPart){.of = one, .first = i};
    PAPA_GOTO(papa_pair_open(&pairing, in->ones[0].onnx, one->onnx));
    PAPA_GOTO(papa_onnx_tensors(&theirs, &n_theirs, &scratch, one->onnx));
    one->n_own = (int64_t)n_theirs;
    for (int64_t i = 0; i < one->n_own; i++)
        PAPA_GOTO(papa_name_map_add(&paths, theirs[i].path, i, NULL));
    PAPA_GOTO(take_pairs(one, in, pairing, theirs, &paths));
    for (int64_t i = 0; i < in->n_places; i++) {
        PapaPart *part = &one->parts[i];
        one->tensors[i] = (PapaMergeTensor){.tensor = part->tensor, .transposed = part->transposed};
        if (part->numbers)
            one->tensors[i] = (PapaMergeTensor){.read = papa_part_read, .context = part};
    }
out:
    papa_pair_close(pairing);
    papa_name_map_free(&paths);
    papa_arena_free(&scratch);
    return status;
}

/* ---------------------------------------------------------------- opening */

static PapaStatus take_models(PapaIngredients *in, const PapaModel *const *models, const PapaModel *base)
{
    int n = papa_ones(in);
    in->ones = PAPA_NEW_ARRAY(&in->arena, PapaOne, n);
    in->models = PAPA_NEW_ARRAY(&in->arena, PapaMergeModel, n);
    if (!in->ones || !in->models)
        return PAPA_ERR_MEMORY;
    for (int k = 0; k < n; k++) {
        const PapaModel *model = k < in->n ? models[k] : base;
        in->ones[k] = (PapaOne){.model = model, .onnx = model->onnx, .all = in};
        in->models[k].onnx = model->onnx;
    }
    for (int k = 1; k < n; k++) {
        in->ones[k].held = PAPA_NEW(&in->arena, PapaHeld);
        if (!in->ones[k].held)
            return PAPA_ERR_MEMORY;
        if (pthread_rwlock_init(&in->ones[k].held->lock, NULL)) {
            in->ones[k].held = NULL;
            return papa_fail_memory(sizeof(pthread_rwlock_t), "a lock");
        }
    }
    return PAPA_OK;
}

static PapaStatus pair_all(PapaIngredients *in)
{
    size_t n_places = 0;
    PAPA_TRY(papa_onnx_tensors(&in->places, &n_places, &in->arena, in->ones[0].onnx));
    in->n_places = (int64_t)n_places;
    for (int k = 1; k < papa_ones(in); k++) {
        PAPA_TRY(pair_with_first(in, &in->ones[k]));
        in->models[k].tensors = in->ones[k].tensors;
    }
    return PAPA_OK;
}

static PapaStatus open_models(PapaIngredients **out, const PapaModel *const *models, int n, const PapaModel *base, bool paired)
{
    *out = NULL;
    if (n < 1)
        return papa_fail(PAPA_ERR_ARGUMENT, "no models to merge");
    PapaIngredients *in = calloc(1, sizeof *in);
    if (!in)
        return papa_fail_memory(sizeof *in, "models to merge");
    PapaStatus status;
    in->n = n;
    in->has_base = base != NULL;
    PAPA_GOTO(take_models(in, models, base));
    PAPA_GOTO(check_twice(in));
    if (paired)
        PAPA_GOTO(pair_all(in));
    *out = in;
    in = NULL;
out:
    papa_ingredients_close(in);
    return status;
}

PapaStatus papa_ingredients_open(PapaIngredients **out, const PapaModel *const *models, int n, const PapaModel *base)
{
    return open_models(out, models, n, base, true);
}

PapaStatus papa_ingredients_open_unpaired(PapaIngredients **out, const PapaModel *const *models, int n)
{
    return open_models(out, models, n, NULL, false);
}

void papa_ingredients_close(PapaIngredients *in)
{
    if (!in)
        return;
    for (int k = 1; in->ones && k < papa_ones(in); k++)
        if (in->ones[k].held) {
            pthread_rwlock_destroy(&in->ones[k].held->lock);
            free(in->ones[k].held->raw);
        }
    papa_arena_free(&in->arena);
    free(in);
}

int papa_ingredients_count(const PapaIngredients *in)
{
    return in->n;
}

bool papa_ingredients_has_base(const PapaIngredients *in)
{
    return in->has_base;
}

const PapaModel *papa_ingredients_model(const PapaIngredients *in, int k)
{
    return in->ones[k].model;
}

const PapaMergeModel *papa_ingredients_merge_models(const PapaIngredients *in)
{
    return in->models;
}
