/* Reading ingredients: in the first model's order, and permuted. A tensor that is permuted is held in memory, in its own type, while ranges of it are
 * asked for; one for each model. */
#include "jobs/ingredient.h"

#include <stdlib.h>
#include <string.h>

static const char *label(const PapaPart *part)
{
    return part->of->all->places[part->first].path;
}

static const Onnx__TensorProto *first_tensor(const PapaPart *part)
{
    return part->of->all->places[part->first].tensor;
}

/* ---------------------------------------------------------------- order */

/* to: (columns, rows), the transpose of from: (rows, columns). */
static void transpose(void *to, const void *from, int64_t rows, int64_t columns, size_t size)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c++)
            memcpy((char *)to + (size_t)(c * rows + r) * size, (const char *)from + (size_t)(r * columns + c) * size, size);
}

/* The elements of a part from its own order into the first model's, or back. scratch: as large. */
static void turn(const PapaPart *part, bool back, void *data, size_t size, void *scratch)
{
    const Onnx__TensorProto *tensor = first_tensor(part);
    if (!part->transposed)
        return;
    memcpy(scratch, data, (size_t)(tensor->dims[0] * tensor->dims[1]) * size);
    transpose(data, scratch, tensor->dims[back ? 0 : 1], tensor->dims[back ? 1 : 0], size);
}

static void permute(const PapaPart *part, void *data, size_t size, void *scratch)
{
    const PapaIngredients *in = part->of->all;
    if (part->of->perms && in->of_groups[part->first] >= 0)
        papa_groups_permute(in->groups, in->of_groups[part->first], part->of->perms, data, size, scratch);
}

/* ---------------------------------------------------------------- raw form */

static int part_type(const PapaPart *part)
{
    return part->tensor ? part->tensor->data_type : ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
}

static int64_t part_count(const PapaPart *part)
{
    return papa_tensor_count(first_tensor(part));
}

static PapaStatus read_raw(const PapaPart *part, void *to, int64_t n)
{
    const Onnx__AttributeProto *numbers = part->numbers;
    PapaTensorReader reader;
    if (part->tensor) {
        PAPA_TRY(papa_reader_open(&reader, part->of->onnx, part->tensor));
        return papa_reader_raw(&reader, to, 0, n);
    }
    papa_floats_to_raw(to, part_type(part), numbers->n_floats ? numbers->floats : &numbers->f, n);
    return PAPA_OK;
}

/* Permuted, in the order of the first model's file or its own. Owned by the caller. */
static PapaStatus make_raw(unsigned char **out, const PapaPart *part, bool own)
{
    size_t size = papa_type_bits(part_type(part)) / 8, bytes = (size_t)part_count(part) * size;
    unsigned char *raw = malloc(bytes + 1), *scratch = malloc(bytes + 1);
    PapaStatus status = raw && scratch ? read_raw(part, raw, part_count(part)) : papa_fail_memory(2 * bytes, "permuting a tensor");
    if (!status) {
        turn(part, false, raw, size, scratch);
        permute(part, raw, size, scratch);
        if (own)
            turn(part, true, raw, size, scratch);
    }
    free(scratch);
    if (status)
        free(raw);
    else
        *out = raw;
    return status;
}

typedef struct Range {
    void *to;
    int64_t first, n;
    bool doubles; /* to doubles, or in raw form */
} Range;

static void copy_range(const PapaHeld *held, const Range *range)
{
    int type = part_type(held->part);
    size_t size = papa_type_bits(type) / 8;
    const unsigned char *from = held->raw + (size_t)range->first * size;
    if (range->doubles)
        papa_raw_to_doubles(range->to, type, from, range->n);
    else
        memcpy(range->to, from, (size_t)range->n * size);
}

static PapaStatus hold(PapaHeld *held, const PapaPart *part, bool own)
{
    if (held->part == part && held->own == own)
        return PAPA_OK;
    free(held->raw);
    held->raw = NULL;
    held->part = NULL;
    PAPA_TRY(make_raw(&held->raw, part, own));
    held->part = part;
    held->own = own;
    return PAPA_OK;
}

static PapaStatus read_held(const PapaPart *part, bool own, const Range *range)
{
    PapaHeld *held = part->of->held;
    pthread_rwlock_rdlock(&held->lock);
    bool is_held = held->part == part && held->own == own;
    if (is_held)
        copy_range(held, range);
    pthread_rwlock_unlock(&held->lock);
    if (is_held)
        return PAPA_OK;
    pthread_rwlock_wrlock(&held->lock);
    PapaStatus status = hold(held, part, own);
    if (!status)
        copy_range(held, range);
    pthread_rwlock_unlock(&held->lock);
    return status;
}

PapaStatus papa_part_read(void *part, double *to, int64_t first, int64_t n)
{
    return read_held(part, false, &(Range){.to = to, .first = first, .n = n, .doubles = true});
}

static PapaStatus fill_own(void *part, void *to, int64_t first, int64_t n)
{
    return read_held(part, true, &(Range){.to = to, .first = first, .n = n});
}

/* ---------------------------------------------------------------- floats */

static PapaStatus read_floats(const PapaPart *part, float *to, int64_t n)
{
    if (part->tensor)
        return papa_tensor_read_float(part->of->onnx, part->tensor, to, n);
    return read_raw(part, to, n);
}

static PapaStatus read_index(const PapaIngredients *in, int k, int64_t index, float *to, int64_t n)
{
    const Onnx__TensorProto *tensor = in->places[index].tensor;
    if (n != papa_tensor_count(tensor))
        return papa_fail(PAPA_ERR_MISMATCH, "%s: '%s' has %lld elements, %lld expected", papa_onnx_path(in->ones[0].onnx), in->places[index].path,
            (long long)papa_tensor_count(tensor), (long long)n);
    if (k == 0)
        return papa_tensor_read_float(in->ones[0].onnx, tensor, to, n);
    const PapaPart *part = &in->ones[k].parts[index];
    if (!part->tensor && !part->numbers)
        return papa_fail(PAPA_ERR_MISMATCH, "%s has no counterpart of %s's '%s'", papa_onnx_path(in->ones[k].onnx), papa_onnx_path(in->ones[0].onnx), label(part));
    PAPA_TRY(read_floats(part, to, n));
    if (!part->transposed && (!in->ones[k].perms || in->of_groups[index] < 0))
        return PAPA_OK;
    float *scratch = malloc(((size_t)n + 1) * sizeof *scratch);
    if (!scratch)
        return papa_fail_memory((size_t)n * sizeof *scratch, "permuting a tensor");
    turn(part, false, to, sizeof *to, scratch);
    permute(part, to, sizeof *to, scratch);
    free(scratch);
    return PAPA_OK;
}

PapaStatus papa_ingredients_read(const PapaIngredients *in, int k, const Onnx__TensorProto *tensor, float *to, int64_t n)
{
    int64_t index = papa_tensor_index(in->ones[0].onnx, tensor);
    if (index < 0)
        return papa_fail(PAPA_ERR_ARGUMENT, "tensor '%s' is none of %s", tensor->name ? tensor->name : "", papa_onnx_path(in->ones[0].onnx));
    return read_index(in, k, index, to, n);
}

PapaStatus papa_ingredients_store(const PapaIngredients *in, int k, const PapaModel *table, float *store)
{
    memset(store, 0, (size_t)table->store.n_total * sizeof *store);
    for (int i = 0; i < table->n_params; i++) {
        const PapaParam *param = &table->params[i];
        int64_t index = param->tensor ? papa_tensor_index(table->onnx, param->tensor) : -1; /* the table may stand on a mapping of its own */
        if (param->tensor && (index < 0 || index >= in->n_places))
            return papa_fail(PAPA_ERR_ARGUMENT, "tensor '%s' of %s is none of %s", param->name, papa_onnx_path(table->onnx), papa_onnx_path(in->ones[0].onnx));
        if (param->tensor)
            PAPA_TRY(read_index(in, k, index, store + param->offset, param->count));
    }
    return PAPA_OK;
}

/* ---------------------------------------------------------------- aligning */

static bool is_identity(const int64_t *perm, int64_t n)
{
    int64_t i = 0;
    while (perm && i < n && perm[i] == i)
        i++;
    return !perm || i == n;
}

/* Which tensors of the first model move: by tensor. */
static PapaStatus find_moved(bool **out, const PapaIngredients *in, const int64_t *const *perms)
{
    const PapaGroups *groups = in->groups;
    bool *moved = calloc((size_t)in->n_places + 1, sizeof *moved);
    if (!moved)
        return papa_fail_memory((size_t)in->n_places, "a list of tensors");
    for (int g = 0; g < groups->n_groups; g++)
        for (int i = 0; !is_identity(perms[g], groups->groups[g].n) && i < groups->groups[g].n_slots; i++)
            moved[papa_tensor_index(in->ones[0].onnx, groups->tensors[groups->groups[g].slots[i].tensor].tensor)] = true;
    *out = moved;
    return PAPA_OK;
}

static PapaStatus take_groups(PapaIngredients *in, const PapaGroups *groups)
{
    if (!in->of_groups && !(in->of_groups = PAPA_NEW_ARRAY(&in->arena, int, in->n_places)))
        return PAPA_ERR_MEMORY;
    for (int64_t i = 0; i < in->n_places; i++)
        in->of_groups[i] = -1;
    for (int t = 0; t < groups->n_tensors; t++) {
        int64_t index = papa_tensor_index(in->ones[0].onnx, groups->tensors[t].tensor);
        if (index < 0)
            return papa_fail(PAPA_ERR_ARGUMENT, "'%s' is of a group, but is no tensor of %s", groups->tensors[t].name, papa_onnx_path(in->ones[0].onnx));
        in->of_groups[index] = t;
    }
    in->groups = groups;
    return PAPA_OK;
}

/* Whether two parts, permuted and in one order, hold the same bytes. */
static PapaStatus same_elements(bool *out, const PapaPart *a, const PapaPart *b, bool own)
{
    unsigned char *x = NULL, *y = NULL;
    PapaStatus status;
    *out = part_type(a) == part_type(b) && part_count(a) == part_count(b);
    if (!*out)
        return PAPA_OK;
    PAPA_GOTO(make_raw(&x, a, own));
    PAPA_GOTO(make_raw(&y, b, own));
    *out = memcmp(x, y, (size_t)part_count(a) * (papa_type_bits(part_type(a)) / 8)) == 0;
out:
    free(x);
    free(y);
    return status;
}

/* Notes which part each tensor of the model's own is. */
static PapaStatus take_own(PapaOne *one, const bool *moved)
{
    const PapaIngredients *in = one->all;
    for (int64_t i = 0; i < in->n_places; i++) {
        const PapaPart *part = &one->parts[i];
        if (!part->tensor)
            continue;
        PapaPart *own = &one->own[papa_tensor_index(one->onnx, part->tensor)];
        bool same = true;
        if (own->of && (moved[i] || moved[own->first]))
            PAPA_TRY(same_elements(&same, own, part, true));
        if (!same)
            return papa_fail(PAPA_ERR_UNSUPPORTED, "%s stores one tensor, '%s', for '%s' and '%s' of %s, which would have to become different",
                papa_onnx_path(one->onnx), part->tensor->name ? part->tensor->name : "", label(own), label(part), papa_onnx_path(in->ones[0].onnx));
        if (!own->of || moved[i])
            *own = *part;
    }
    return PAPA_OK;
}

/* Where the first model stores equal tensors once and this one does not, the pairing names but one of this one's; the others are found the other way
 * round. */
static PapaStatus take_rest(PapaOne *one, const bool *moved)
{
    const PapaIngredients *in = one->all;
    PapaPairing *pairing = NULL;
    size_t n = 0;
    PapaStatus status;
    PAPA_GOTO(papa_pair_open(&pairing, one->onnx, in->ones[0].onnx));
    const PapaTensorPair *pairs = papa_pair_tensors(pairing, &n);
    for (size_t i = 0; i < n && !status; i++) {
        const PapaTensorPair *pair = &pairs[i];
        int64_t first = pair->b.tensor ? papa_tensor_index(in->ones[0].onnx, pair->b.tensor) : -1;
        PapaPart *own = pair->a.tensor ? &one->own[papa_tensor_index(one->onnx, pair->a.tensor)] : NULL;
        if (!own || own->of || first < 0 || !moved[first])
            continue;
        PapaPart part = {.of = one, .first = first, .tensor = pair->a.tensor, .transposed = pair->transposed};
        bool same = false;
        status = same_elements(&same, &part, &one->parts[first], false);
        if (!status && !same)
            status = papa_fail(PAPA_ERR_UNSUPPORTED, "%s: can't tell as which tensor of %s '%s' is to be permuted", papa_onnx_path(one->onnx),
                papa_onnx_path(in->ones[0].onnx), pair->a.name);
        *own = part;
    }
out:
    papa_pair_close(pairing);
    return status;
}

static bool has_rest(const PapaOne *one)
{
    for (int64_t i = 0; i < one->n_own; i++)
        if (!one->own[i].of)
            return true;
    return false;
}

static PapaStatus check_moved(const PapaOne *one, const bool *moved)
{
    for (int64_t i = 0; i < one->all->n_places; i++) {
        const PapaPart *part = &one->parts[i];
        if (!moved[i])
            continue;
        if (!part->tensor && !part->numbers)
            return papa_fail(PAPA_ERR_MISMATCH, "%s has no counterpart of '%s', whose units are to be permuted", papa_onnx_path(one->onnx), label(part));
        if (!papa_type_is_float(part_type(part)))
            return papa_fail(PAPA_ERR_UNSUPPORTED, "'%s' is of type %s, whose units are not permuted", label(part), papa_type_name(part_type(part)));
    }
    return PAPA_OK;
}

static void set_tensors(PapaOne *one, const bool *moved)
{
    for (int64_t i = 0; i < one->all->n_places; i++) {
        PapaPart *part = &one->parts[i];
        PapaMergeTensor plain = {.tensor = part->tensor, .transposed = part->transposed};
        bool is_read = moved[i] || part->numbers;
        one->tensors[i] = is_read ? (PapaMergeTensor){.tensor = part->tensor, .read = papa_part_read, .context = part} : plain;
    }
    for (int64_t i = 0; i < one->n_own; i++)
        if (one->own[i].of && !moved[one->own[i].first])
            one->own[i].of = NULL;
}

PapaStatus papa_ingredients_align(PapaIngredients *in, int k, const PapaGroups *groups, const int64_t *const *perms)
{
    PapaOne *one = &in->ones[k];
    bool *moved = NULL, any = false;
    PapaStatus status;
    PAPA_GOTO(take_groups(in, groups));
    PAPA_GOTO(find_moved(&moved, in, perms));
    for (int64_t i = 0; i < in->n_places; i++)
        any |= moved[i];
    if (k == 0) {
        if (any)
            status = papa_fail(PAPA_ERR_ARGUMENT, "%s: the first model is not permuted", papa_onnx_path(one->onnx));
        goto out;
    }
    PAPA_GOTO(check_moved(one, moved));
    one->held->part = NULL;
    one->perms = perms;
    one->own = PAPA_NEW_ARRAY(&in->arena, PapaPart, one->n_own);
    status = one->own ? take_own(one, moved) : PAPA_ERR_MEMORY;
    if (!status && any && has_rest(one))
        status = take_rest(one, moved);
    if (!status)
        set_tensors(one, moved);
    else
        one->perms = NULL;
out:
    free(moved);
    return status;
}

/* What a Constant has in an attribute has no place for other elements. */
static PapaStatus check_numbers(const PapaOne *one)
{
    const PapaIngredients *in = one->all;
    bool *moved = NULL;
    PAPA_TRY(find_moved(&moved, in, one->perms));
    PapaStatus status = PAPA_OK;
    for (int64_t i = 0; i < in->n_places && !status; i++)
        if (moved[i] && one->parts[i].numbers)
            status = papa_fail(PAPA_ERR_UNSUPPORTED, "%s: '%s' of %s is an attribute of a Constant here, which can't be written permuted",
                papa_onnx_path(one->onnx), label(&one->parts[i]), papa_onnx_path(in->ones[0].onnx));
    free(moved);
    return status;
}

PapaStatus papa_ingredients_edit_aligned(PapaEdit **out, const PapaIngredients *in, int k)
{
    const PapaOne *one = &in->ones[k];
    PapaEdit *edit = NULL;
    PapaStatus status;
    *out = NULL;
    if (one->perms)
        PAPA_TRY(check_numbers(one));
    PAPA_GOTO(papa_edit_new(&edit, one->onnx));
    for (int64_t i = 0; one->perms && i < one->n_own; i++)
        if (one->own[i].of)
            PAPA_GOTO(papa_edit_set_tensor_from(edit, one->own[i].tensor, fill_own, &one->own[i]));
    *out = edit;
    edit = NULL;
out:
    papa_edit_free(edit);
    return status;
}

PapaStatus papa_ingredients_replace(void *context, const Onnx__TensorProto *tensor, float *values, int64_t n)
{
    const PapaIngredientView *view = context;
    const PapaOne *one = &view->ingredients->ones[view->k];
    int64_t index = papa_tensor_index(one->onnx, tensor);
    if (!one->perms || index < 0 || !one->own[index].of)
        return PAPA_OK;
    float *scratch = malloc(((size_t)n + 1) * sizeof *scratch);
    if (!scratch)
        return papa_fail_memory((size_t)n * sizeof *scratch, "permuting a tensor");
    turn(&one->own[index], false, values, sizeof *values, scratch);
    permute(&one->own[index], values, sizeof *values, scratch);
    turn(&one->own[index], true, values, sizeof *values, scratch);
    free(scratch);
    return PAPA_OK;
}
