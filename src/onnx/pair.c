/* Pairing two models: inputs and outputs, a match of the canonical graphs, what that says of the tensors.
 *
 * The match is looked for twice: with tensors as they are stored, and with every use of a tensor apart, since exporters store equal tensors
 * once. */
#include "onnx/pair_graph.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct PapaPairing {
    PapaTensorPair *pairs; /* by a's tensors */
    size_t n_pairs;
    const PapaOnnx *a;
    int32_t *by_record;    /* a's tensor records -> pairs; -1 */
};

/* ---------------------------------------------------------------- inputs and outputs */

static bool dims_clash(const Onnx__TensorShapeProto__Dimension *a, const Onnx__TensorShapeProto__Dimension *b)
{
    const int number = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
    return (int)a->value_case == number && (int)b->value_case == number && a->dim_value != b->dim_value;
}

/* Whether both could be of one type and shape; dimensions without a number fit any. */
static bool types_fit(const Onnx__ValueInfoProto *a, const Onnx__ValueInfoProto *b)
{
    const Onnx__TypeProto__Tensor *s = papa_tensor_type(a), *t = papa_tensor_type(b);
    if (!s || !t)
        return !a->type || !b->type || a->type->value_case == b->type->value_case;
    if (s->elem_type != t->elem_type)
        return false;
    if (!s->shape || !t->shape)
        return true;
    if (s->shape->n_dim != t->shape->n_dim)
        return false;
    for (size_t i = 0; i < s->shape->n_dim; i++)
        if (dims_clash(s->shape->dim[i], t->shape->dim[i]))
            return false;
    return true;
}

typedef struct Ends {
    const PapaOnnx *onnx[2];
    PapaArena arena;
    PapaPairEnds ends[2];
} Ends;

/* The graph inputs that no initializer gives a value. */
static PapaStatus list_inputs(Ends *e, int k)
{
    const Onnx__GraphProto *graph = papa_onnx_graph(e->onnx[k]);
    PapaPairEnds *ends = &e->ends[k];
    PapaNameMap initializers = {0};
    PapaStatus status = PAPA_OK;
    ends->inputs = PAPA_NEW_ARRAY(&e->arena, const Onnx__ValueInfoProto *, graph->n_input);
    ends->outputs = PAPA_NEW_ARRAY(&e->arena, const Onnx__ValueInfoProto *, graph->n_output);
    if (!ends->inputs || !ends->outputs)
        return PAPA_ERR_MEMORY;
    for (size_t i = 0; i < graph->n_initializer && !status; i++)
        status = papa_name_map_add(&initializers, graph->initializer[i]->name, 0, NULL);
    for (size_t i = 0; i < graph->n_sparse_initializer && !status; i++)
        status = papa_name_map_add(&initializers, graph->sparse_initializer[i]->values->name, 0, NULL);
    for (size_t i = 0; i < graph->n_input && !status; i++)
        if (!papa_name_map_find(&initializers, graph->input[i]->name))
            ends->inputs[ends->n_inputs++] = graph->input[i];
    for (size_t i = 0; i < graph->n_output; i++)
        ends->outputs[ends->n_outputs++] = graph->output[i];
    papa_name_map_free(&initializers);
    return status;
}

/* Puts b's values in the order of a's where all have the same names. */
static PapaStatus order_by_names(const Onnx__ValueInfoProto *const *a, const Onnx__ValueInfoProto **b, size_t n)
{
    PapaNameMap names = {0};
    const Onnx__ValueInfoProto **ordered = malloc((n + 1) * sizeof *ordered);
    PapaStatus status = ordered ? PAPA_OK : papa_fail_memory(n * sizeof *ordered, "graph inputs");
    bool all = true;
    for (size_t i = 0; i < n && !status; i++)
        status = papa_name_map_add(&names, b[i]->name, (int64_t)i, NULL);
    for (size_t i = 0; i < n && !status; i++) {
        const int64_t *index = papa_name_map_find(&names, a[i]->name);
        all &= index != NULL;
        ordered[i] = index ? b[*index] : NULL;
    }
    if (!status && all && n)
        memcpy(b, ordered, n * sizeof *b);
    papa_name_map_free(&names);
    free(ordered);
    return status;
}

/* "FLOAT Nx1x28x28"; "" for what is no tensor, a "?" for a dimension that nobody knows. */
static void type_text(char *text, size_t bytes, const Onnx__ValueInfoProto *value)
{
    const Onnx__TypeProto__Tensor *tensor = papa_tensor_type(value);
    *text = 0;
    if (!tensor)
        return;
    size_t used = (size_t)snprintf(text, bytes, " %s", papa_type_name(tensor->elem_type));
    for (size_t i = 0; tensor->shape && i < tensor->shape->n_dim && used < bytes; i++) {
        const Onnx__TensorShapeProto__Dimension *dim = tensor->shape->dim[i];
        const char *x = i ? "x" : " ";
        if (dim->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE)
            used += (size_t)snprintf(text + used, bytes - used, "%s%lld", x, (long long)dim->dim_value);
        else
            used += (size_t)snprintf(text + used, bytes - used, "%s%.40s", x, dim->dim_param && *dim->dim_param ? dim->dim_param : "?");
    }
}

static PapaStatus fail_types(const Ends *e, const Onnx__ValueInfoProto *a, const Onnx__ValueInfoProto *b, const char *what)
{
    char types[2][200];
    type_text(types[0], sizeof types[0], a);
    type_text(types[1], sizeof types[1], b);
    return papa_fail(PAPA_ERR_MISMATCH, "%s: %s '%.200s'%s; %s: its counterpart '%.200s'%s is of another type or shape", papa_onnx_path(e->onnx[0]), what,
        a->name, types[0], papa_onnx_path(e->onnx[1]), b->name, types[1]);
}

static PapaStatus pair_values(const Ends *e, const Onnx__ValueInfoProto *const *a, size_t n_a, const Onnx__ValueInfoProto **b, size_t n_b,
    const char *what)
{
    if (n_a != n_b) {
        bool more = n_b > n_a;
        return papa_fail(PAPA_ERR_MISMATCH, "%s has %zu %ss, %s has %zu; the first without a counterpart is %s '%.200s'",
            papa_onnx_path(e->onnx[0]), n_a, what, papa_onnx_path(e->onnx[1]), n_b, what, more ? b[n_a]->name : a[n_b]->name);
    }
    PAPA_TRY(order_by_names(a, b, n_a));
    for (size_t i = 0; i < n_a; i++)
        if (!types_fit(a[i], b[i]))
            return fail_types(e, a[i], b[i], what);
    return PAPA_OK;
}

static PapaStatus pair_ends(Ends *e)
{
    PapaPairEnds *a = &e->ends[0], *b = &e->ends[1];
    PAPA_TRY(list_inputs(e, 0));
    PAPA_TRY(list_inputs(e, 1));
    PAPA_TRY(pair_values(e, a->inputs, a->n_inputs, b->inputs, b->n_inputs, "input"));
    return pair_values(e, a->outputs, a->n_outputs, b->outputs, b->n_outputs, "output");
}

/* ---------------------------------------------------------------- tensors */

/* The number that a tensor of one element, of a float type, holds. */
static PapaStatus single_number(const PapaOnnx *onnx, const PapaPairTensor *t, double *number, bool *is_single)
{
    const Onnx__TensorProto *dense = t->stored.tensor;
    *is_single = false;
    if (dense && papa_type_is_float(dense->data_type) && !dense->segment && papa_tensor_count(dense) == 1) {
        *is_single = true;
        return papa_tensor_read_double(onnx, dense, number, 1);
    }
    if (t->numbers && t->numbers->type == ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT)
        *is_single = true, *number = t->numbers->f;
    if (t->numbers && t->numbers->n_floats == 1)
        *is_single = true, *number = t->numbers->floats[0];
    return PAPA_OK;
}

static PapaStatus same_bytes(const PapaOnnx *onnx, const Onnx__TensorProto *s, const Onnx__TensorProto *t, bool *equal)
{
    PapaRaw a, b;
    PAPA_TRY(papa_record_raw(&a, papa_tensor_record(onnx, s)));
    PapaStatus status = papa_record_raw(&b, papa_tensor_record(onnx, t));
    if (!status) {
        *equal = a.bytes == b.bytes && (!a.bytes || !memcmp(a.data, b.data, a.bytes));
        free(b.owned);
    }
    free(a.owned);
    return status;
}

/* Of tensors with one label, which says what integers hold. */
static PapaStatus same_elements(const PapaOnnx *onnx, const PapaPairTensor *s, const PapaPairTensor *t, bool *equal)
{
    double x = 0, y = 0;
    bool single_x, single_y;
    PAPA_TRY(single_number(onnx, s, &x, &single_x));
    PAPA_TRY(single_number(onnx, t, &y, &single_y));
    if (single_x && single_y)
        *equal = x == y || (x != x && y != y);
    else if (s->stored.tensor && t->stored.tensor)
        return same_bytes(onnx, s->stored.tensor, t->stored.tensor, equal);
    else
        *equal = s->is_small && t->is_small;
    return PAPA_OK;
}

/* A tensor of a whose uses lead to two tensors of b. */
static PapaStatus check_second(const PapaPairMatch *m, const PapaPairTensor *t, const PapaTensorPair *pair, int32_t first, int32_t second,
    bool transposed)
{
    const PapaPairTensor *other = &m->b->tensors[second];
    bool equal = first == second;
    if (!equal)
        PAPA_TRY(same_elements(m->b->onnx, &m->b->tensors[first], other, &equal));
    if (equal && transposed == pair->transposed)
        return PAPA_OK;
    return papa_fail(PAPA_ERR_MISMATCH,
        "%s: tensor '%.200s' is read in several places; %s: tensors '%.200s' and '%.200s' are read there, which differ",
        papa_onnx_path(m->a->onnx), t->stored.name, papa_onnx_path(m->b->onnx), pair->b.name, other->stored.name);
}

static PapaStatus pair_used(PapaPairing *p, const PapaPairMatch *m)
{
    int32_t *partner = malloc(((size_t)m->a->n_tensors + 1) * sizeof *partner);
    PapaStatus status = partner ? PAPA_OK : papa_fail_memory((size_t)m->a->n_tensors * sizeof *partner, "a pairing");
    for (int32_t i = 0; i < m->a->n_tensors && !status; i++)
        partner[i] = -1;
    for (int32_t i = 0; i < m->a->n_values && !status; i++) {
        const PapaPairValue *v = &m->a->values[i];
        if (v->tensor < 0)
            continue;
        const PapaPairValue *w = &m->b->values[papa_pair_image(m, i)];
        PapaTensorPair *pair = &p->pairs[v->tensor];
        bool transposed = v->transposed != w->transposed;
        if (partner[v->tensor] >= 0) {
            status = check_second(m, &m->a->tensors[v->tensor], pair, partner[v->tensor], w->tensor, transposed);
            continue;
        }
        partner[v->tensor] = w->tensor;
        pair->b = m->b->tensors[w->tensor].stored;
        pair->transposed = transposed;
    }
    free(partner);
    return status;
}

/* Tensors that nothing depends on: by name, type and shape. */
static PapaStatus pair_unused(PapaPairing *p, const PapaPairMatch *m)
{
    PapaNameMap names = {0};
    PapaArena scratch = {0};
    PapaStatus status = PAPA_OK;
    for (int32_t i = 0; i < m->b->n_tensors && !status; i++)
        if (m->b->tensors[i].stored.name)
            status = papa_name_map_add(&names, m->b->tensors[i].stored.name, i, NULL);
    for (int32_t i = 0; i < m->a->n_tensors && !status; i++) {
        const char *name = p->pairs[i].a.name, *x, *y;
        const int64_t *index = name && !p->pairs[i].b.name ? papa_name_map_find(&names, name) : NULL;
        if (!index)
            continue;
        status = papa_pair_tensor_text(&scratch, m->a->onnx, &m->a->tensors[i], false, &x);
        if (!status)
            status = papa_pair_tensor_text(&scratch, m->b->onnx, &m->b->tensors[*index], false, &y);
        if (!status && !strcmp(x, y))
            p->pairs[i].b = m->b->tensors[*index].stored;
    }
    papa_name_map_free(&names);
    papa_arena_free(&scratch);
    return status;
}

static PapaStatus index_records(PapaPairing *p)
{
    p->by_record = malloc((p->a->n_records + 1) * sizeof *p->by_record);
    if (!p->by_record)
        return papa_fail_memory(p->a->n_records * sizeof *p->by_record, "a pairing");
    for (size_t i = 0; i < p->a->n_records; i++)
        p->by_record[i] = -1;
    for (size_t i = 0; i < p->n_pairs; i++)
        if (p->pairs[i].a.tensor)
            p->by_record[papa_tensor_record(p->a, p->pairs[i].a.tensor) - p->a->records] = (int32_t)i;
    return PAPA_OK;
}

static PapaStatus fill(PapaPairing *p, const PapaPairMatch *m)
{
    p->a = m->a->onnx;
    p->n_pairs = (size_t)m->a->n_tensors;
    p->pairs = calloc(p->n_pairs + 1, sizeof *p->pairs);
    if (!p->pairs)
        return papa_fail_memory(p->n_pairs * sizeof *p->pairs, "a pairing");
    for (size_t i = 0; i < p->n_pairs; i++)
        p->pairs[i].a = m->a->tensors[i].stored;
    PAPA_TRY(pair_used(p, m));
    PAPA_TRY(pair_unused(p, m));
    return index_records(p);
}

/* ---------------------------------------------------------------- */

/* One attempt. explain: the last one, which fails where there is no match. */
static PapaStatus attempt(PapaPairing *p, const Ends *e, bool split, bool explain, bool *found)
{
    PapaPairLabels labels = {0};
    PapaPairGraph a = {0}, b = {0};
    PapaPairMatch match = {0};
    PapaStatus status;
    PAPA_GOTO(papa_pair_graph_make(&a, &labels, e->onnx[0], &e->ends[0], split));
    PAPA_GOTO(papa_pair_graph_make(&b, &labels, e->onnx[1], &e->ends[1], split));
    PAPA_GOTO(papa_pair_match(&match, &a, &b, found));
    if (*found)
        status = fill(p, &match);
    else if (explain)
        status = papa_pair_explain(&a, &b, &labels);
out:
    free(match.to);
    papa_pair_graph_free(&a);
    papa_pair_graph_free(&b);
    papa_pair_labels_free(&labels);
    return status;
}

PapaStatus papa_pair_open(PapaPairing **out, const PapaOnnx *a, const PapaOnnx *b)
{
    Ends ends = {.onnx = {a, b}};
    PapaPairing *pairing = calloc(1, sizeof *pairing);
    PapaStatus status;
    bool found = false;
    *out = NULL;
    if (!pairing)
        return papa_fail_memory(sizeof *pairing, "a pairing");
    PAPA_GOTO(pair_ends(&ends));
    PAPA_GOTO(attempt(pairing, &ends, false, false, &found));
    if (!found)
        PAPA_GOTO(attempt(pairing, &ends, true, true, &found));
    *out = pairing;
    pairing = NULL;
out:
    papa_arena_free(&ends.arena);
    papa_pair_close(pairing);
    return status;
}

void papa_pair_close(PapaPairing *pairing)
{
    if (!pairing)
        return;
    free(pairing->pairs);
    free(pairing->by_record);
    free(pairing);
}

const PapaTensorPair *papa_pair_tensors(const PapaPairing *pairing, size_t *n)
{
    *n = pairing->n_pairs;
    return pairing->pairs;
}

const PapaTensorPair *papa_pair_find(const PapaPairing *pairing, const Onnx__TensorProto *tensor)
{
    const PapaTensorRecord *record = papa_tensor_record(pairing->a, tensor);
    int32_t index = record ? pairing->by_record[record - pairing->a->records] : -1;
    return index >= 0 ? &pairing->pairs[index] : NULL;
}
