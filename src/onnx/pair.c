/* Pairing two models: inputs and outputs, matching of the canonical graphs, what that says of the tensors.
 *
 * The match is looked for three times: vertex by vertex in the order of the files (which are often made by one program), by colours, and by
 * colours with every use of a tensor apart, since exporters store equal tensors once. */
#include "onnx/pair_graph.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_REFINEMENTS = 3000 }; /* of a search; a network that is not made to be hard needs as many as it has sets of equal branches */

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

static PapaStatus pair_values(const Ends *e, const Onnx__ValueInfoProto *const *a, size_t n_a, const Onnx__ValueInfoProto **b, size_t n_b, const char *what)
{
    if (n_a != n_b) {
        int more = n_b > n_a;
        return papa_fail(PAPA_ERR_MISMATCH, "%s has %zu %ss, %s has %zu; the first without a counterpart is %s '%.200s'", papa_onnx_path(e->onnx[0]),
            n_a, what, papa_onnx_path(e->onnx[1]), n_b, what, more ? b[n_a]->name : a[n_b]->name);
    }
    PAPA_TRY(order_by_names(a, b, n_a));
    for (size_t i = 0; i < n_a; i++)
        if (!types_fit(a[i], b[i]))
            return papa_fail(PAPA_ERR_MISMATCH, "%s: %s '%.200s'; %s: its counterpart '%.200s' is of another type or shape", papa_onnx_path(e->onnx[0]),
                what, a[i]->name, papa_onnx_path(e->onnx[1]), b[i]->name);
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

/* ---------------------------------------------------------------- checking a match */

static int compare_ints(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

typedef struct Match {
    const PapaPairGraph *a, *b;
    int32_t *to;     /* vertices of a -> vertices of b */
    int32_t *scratch; /* two lists of inputs */
    int32_t most_inputs;
} Match;

static bool inputs_match(const Match *m, const PapaPairNode *a, const PapaPairNode *b)
{
    if (a->n_inputs != b->n_inputs)
        return false;
    int32_t n = a->n_inputs, *x = m->scratch, *y = m->scratch + m->most_inputs;
    bool commutes = n > 1 && a->inputs[0].slot == a->inputs[1].slot;
    for (int32_t k = 0; k < n; k++) {
        if (a->inputs[k].slot != b->inputs[k].slot)
            return false;
        x[k] = m->to[m->a->n_nodes + a->inputs[k].value];
        y[k] = m->b->n_nodes + b->inputs[k].value;
    }
    if (commutes) {
        qsort(x, (size_t)n, sizeof *x, compare_ints);
        qsort(y, (size_t)n, sizeof *y, compare_ints);
    }
    return !n || !memcmp(x, y, (size_t)n * sizeof *x);
}

static int32_t image(const Match *m, int32_t a, bool is_value)
{
    return a < 0 ? -1 : m->to[is_value ? m->a->n_nodes + a : a] - (is_value ? m->b->n_nodes : 0);
}

/* Whether the match, one to one already, is an isomorphism. */
static bool is_isomorphism(const Match *m)
{
    const PapaPairGraph *a = m->a, *b = m->b;
    for (int32_t i = 0; i < a->n_nodes; i++) {
        int32_t to = m->to[i];
        if (to >= b->n_nodes || a->nodes[i].label != b->nodes[to].label || !inputs_match(m, &a->nodes[i], &b->nodes[to]))
            return false;
    }
    for (int32_t i = 0; i < a->n_values; i++) {
        int32_t to = image(m, i, true);
        if (to < 0)
            return false;
        const PapaPairValue *v = &a->values[i], *w = &b->values[to];
        if (v->label != w->label || v->slot != w->slot || image(m, v->producer, false) != w->producer || image(m, v->twin, true) != w->twin)
            return false;
    }
    return true;
}

/* Vertex by vertex, where tensors have the same names. */
static bool match_in_order(const Match *m)
{
    const PapaPairGraph *a = m->a, *b = m->b;
    if (a->n_nodes != b->n_nodes || a->n_values != b->n_values)
        return false;
    for (int32_t i = 0; i < papa_pair_vertices(a); i++)
        m->to[i] = i;
    for (int32_t i = 0; i < a->n_values; i++)
        if (a->values[i].tensor >= 0 && (b->values[i].tensor < 0 || strcmp(a->values[i].name, b->values[i].name)))
            return false;
    return is_isomorphism(m);
}

/* ---------------------------------------------------------------- matching by colours */

typedef struct Entry {
    uint64_t colour;
    int32_t vertex; /* of a, or of b */
    int32_t order;  /* its place in the file */
    bool is_b;
} Entry;

typedef struct Search {
    Match match;
    uint64_t *colours[2];
    Entry *entries;      /* all vertices, sorted by colour; those of a first, in their file's order */
    size_t n;
    uint64_t n_chosen;   /* makes colours that were never there */
    int left;            /* refinements */
    bool given_up;
} Search;

static int compare_entries(const void *a, const void *b)
{
    const Entry *x = a, *y = b;
    if (x->colour != y->colour)
        return x->colour < y->colour ? -1 : 1;
    if (x->is_b != y->is_b)
        return x->is_b ? 1 : -1;
    if (x->order != y->order)
        return x->order < y->order ? -1 : 1;
    return (x->vertex > y->vertex) - (x->vertex < y->vertex);
}

static int32_t vertex_order(const PapaPairGraph *g, int32_t vertex)
{
    if (vertex < g->n_nodes)
        return g->nodes[vertex].order;
    const PapaPairValue *value = &g->values[vertex - g->n_nodes];
    return value->producer >= 0 ? g->nodes[value->producer].order : value->tensor;
}

/* The class that begins at entry i: its end, and how many of it are a's. */
static size_t class_end(const Search *s, size_t i, size_t *n_a)
{
    size_t end = i;
    for (*n_a = 0; end < s->n && s->entries[end].colour == s->entries[i].colour; end++)
        *n_a += !s->entries[end].is_b;
    return end;
}

/* Sorts the entries by colour. False where some class has more of one graph than of the other. */
static bool classify(Search *s, size_t *n_classes)
{
    const PapaPairGraph *graphs[2] = {s->match.a, s->match.b};
    s->n = 0;
    for (int k = 0; k < 2; k++)
        for (int32_t i = 0; i < papa_pair_vertices(graphs[k]); i++)
            s->entries[s->n++] = (Entry){s->colours[k][i], i, vertex_order(graphs[k], i), k};
    qsort(s->entries, s->n, sizeof *s->entries, compare_entries);
    *n_classes = 0;
    for (size_t i = 0, end, n_a; i < s->n; i = end, ++*n_classes) {
        end = class_end(s, i, &n_a);
        if (2 * n_a != end - i)
            return false;
    }
    return true;
}

/* Refines until nothing changes. False where the graphs differ. */
static bool refine(Search *s)
{
    size_t n, before;
    if (!classify(s, &n))
        return false;
    do {
        before = n;
        for (int k = 0; k < 2; k++) {
            papa_pair_colour_forward(k ? s->match.b : s->match.a, s->colours[k]);
            papa_pair_colour_backward(k ? s->match.b : s->match.a, s->colours[k]);
        }
        s->left--;
        if (!classify(s, &n))
            return false;
    } while (n != before && 2 * n < s->n);
    return true;
}

static const char *vertex_name(const PapaPairGraph *g, int32_t vertex)
{
    const char *name = vertex >= g->n_nodes ? g->values[vertex - g->n_nodes].name : g->nodes[vertex].proto ? g->nodes[vertex].proto->name : NULL;
    return name ? name : "";
}

/* Brings b's part of a class into the order of a's: equal names together, the rest as they stand in the file. Returns how many names agree. */
static PapaStatus order_class(Search *s, size_t begin, size_t n, size_t *n_equal)
{
    Entry *a = s->entries + begin, *b = a + n, *ordered = malloc(2 * n * sizeof *ordered);
    PapaNameMap names = {0};
    PapaStatus status = ordered ? PAPA_OK : papa_fail_memory(n * sizeof *ordered, "tied nodes");
    *n_equal = 0;
    for (size_t i = 0; i < n && !status; i++)
        if (*vertex_name(s->match.b, b[i].vertex))
            status = papa_name_map_add(&names, vertex_name(s->match.b, b[i].vertex), (int64_t)i, NULL);
    if (!status) {
        bool *taken = (bool *)(ordered + n);
        memset(taken, 0, n * sizeof *taken);
        for (size_t i = 0; i < n; i++) {
            int64_t *index = papa_name_map_find(&names, vertex_name(s->match.a, a[i].vertex));
            ordered[i].vertex = index && !taken[*index] ? (int32_t)*index : -1;
            if (ordered[i].vertex >= 0)
                taken[*index] = true, ++*n_equal;
        }
        for (size_t i = 0, next = 0; i < n; i++) {
            while (ordered[i].vertex < 0 && taken[next])
                next++;
            ordered[i] = b[ordered[i].vertex < 0 ? next++ : (size_t)ordered[i].vertex];
        }
        memcpy(b, ordered, n * sizeof *b);
    }
    papa_name_map_free(&names);
    free(ordered);
    return status;
}

/* A class with several members, n 0: there is none. Those with equal names in both files first, tensors before others; then nodes, the
 * smallest class, the first in the file. *n_named: classes in which all names are equal. */
static PapaStatus find_tie(Search *s, size_t *begin, size_t *n, size_t *n_named)
{
    double best = -1;
    *n = *n_named = 0;
    for (size_t i = 0, end, n_a; i < s->n; i = end) {
        size_t n_equal;
        end = class_end(s, i, &n_a);
        if (n_a < 2)
            continue;
        int32_t value = s->entries[i].vertex - s->match.a->n_nodes;
        bool is_tensor = value >= 0 && s->match.a->values[value].tensor >= 0;
        PAPA_TRY(order_class(s, i, n_a, &n_equal));
        *n_named += n_equal == n_a;
        double score = (double)n_equal / (double)n_a * (4 + 2 * is_tensor) + (value < 0) + 1 / (double)n_a - 1e-10 * s->entries[i].order;
        if (score > best)
            best = score, *begin = i, *n = n_a;
    }
    return PAPA_OK;
}

static void choose(Search *s, int32_t a, int32_t b)
{
    uint64_t colour = papa_pair_mix(3, s->n_chosen++);
    s->colours[0][a] = papa_pair_mix(s->colours[0][a], colour);
    s->colours[1][b] = papa_pair_mix(s->colours[1][b], colour);
}

static bool take_match(Search *s)
{
    for (size_t i = 0; i < s->n; i += 2)
        s->match.to[s->entries[i].vertex] = s->entries[i + 1].vertex;
    return is_isomorphism(&s->match);
}

static PapaStatus search(Search *s, bool *found);

/* Colours and entries as they are before a choice, to come back to. */
typedef struct Saved {
    uint64_t *colours[2];
    Entry *entries;
} Saved;

static void free_saved(Saved *saved)
{
    free(saved->colours[0]);
    free(saved->colours[1]);
    free(saved->entries);
}

static PapaStatus save(Saved *saved, const Search *s)
{
    const PapaPairGraph *graphs[2] = {s->match.a, s->match.b};
    *saved = (Saved){.entries = malloc(s->n * sizeof *saved->entries)};
    for (int k = 0; k < 2; k++) {
        size_t bytes = (size_t)papa_pair_vertices(graphs[k]) * sizeof **saved->colours;
        saved->colours[k] = malloc(bytes);
        if (saved->colours[k])
            memcpy(saved->colours[k], s->colours[k], bytes);
    }
    if (saved->entries && saved->colours[0] && saved->colours[1]) {
        memcpy(saved->entries, s->entries, s->n * sizeof *saved->entries);
        return PAPA_OK;
    }
    free_saved(saved);
    return papa_fail_memory(s->n * sizeof *saved->entries, "colours of nodes");
}

static void restore(Search *s, const Saved *saved)
{
    memcpy(s->colours[0], saved->colours[0], (size_t)papa_pair_vertices(s->match.a) * sizeof **saved->colours);
    memcpy(s->colours[1], saved->colours[1], (size_t)papa_pair_vertices(s->match.b) * sizeof **saved->colours);
}

/* Chooses by names in all classes where all agree. */
static PapaStatus try_names(Search *s, const Saved *saved, bool *found)
{
    const Entry *entries = saved->entries;
    for (size_t i = 0, end; i < s->n; i = end) {
        size_t n, n_equal = 0;
        for (end = i; end < s->n && entries[end].colour == entries[i].colour;)
            end++;
        n = (end - i) / 2;
        for (size_t k = i; k < i + n; k++)
            n_equal += *vertex_name(s->match.a, entries[k].vertex) &&
                       !strcmp(vertex_name(s->match.a, entries[k].vertex), vertex_name(s->match.b, entries[k + n].vertex));
        for (size_t k = i; k < i + n && n > 1 && n_equal == n; k++)
            choose(s, entries[k].vertex, entries[k + n].vertex);
    }
    return search(s, found);
}

/* Chooses members of one class for one another. */
static PapaStatus try_members(Search *s, const Entry *a, const Entry *b, size_t n, bool *found)
{
    for (size_t i = 0; i < n; i++)
        choose(s, a[i].vertex, b[i].vertex);
    return search(s, found);
}

/* All names at once where there are several classes to be told apart by them; a whole class at once, as it is ordered; and where that is no
 * isomorphism its first member with each that it may belong to. */
static PapaStatus break_ties(Search *s, size_t begin, size_t n, size_t n_named, bool *found)
{
    Saved saved;
    PapaStatus status = save(&saved, s);
    if (status)
        return status;
    const Entry *a = saved.entries + begin, *b = a + n;
    if (n_named > 1)
        status = try_names(s, &saved, found);
    if (!status && !*found) {
        restore(s, &saved);
        status = try_members(s, a, b, n, found);
    }
    for (size_t i = n == 2; i < n && !status && !*found && !s->given_up; i++) {
        restore(s, &saved);
        status = try_members(s, a, b + i, 1, found);
    }
    free_saved(&saved);
    return status;
}

static PapaStatus search(Search *s, bool *found)
{
    size_t begin = 0, n, n_named;
    *found = false;
    s->given_up |= s->left <= 0;
    if (s->given_up || !refine(s))
        return PAPA_OK;
    PAPA_TRY(find_tie(s, &begin, &n, &n_named));
    if (n)
        return break_ties(s, begin, n, n_named, found);
    *found = take_match(s);
    return PAPA_OK;
}

static PapaStatus match_by_colours(Match *match, bool *found)
{
    size_t n_a = (size_t)papa_pair_vertices(match->a), n_b = (size_t)papa_pair_vertices(match->b);
    Search s = {.match = *match, .left = MOST_REFINEMENTS};
    PapaStatus status;
    s.colours[0] = malloc(n_a * sizeof **s.colours);
    s.colours[1] = malloc(n_b * sizeof **s.colours);
    s.entries = malloc((n_a + n_b) * sizeof *s.entries);
    if (s.colours[0] && s.colours[1] && s.entries) {
        papa_pair_colour_labels(match->a, s.colours[0]);
        papa_pair_colour_labels(match->b, s.colours[1]);
        status = search(&s, found);
    } else {
        status = papa_fail_memory((n_a + n_b) * sizeof *s.entries, "colours of nodes");
    }
    if (!status && !*found && s.given_up)
        status = papa_fail(PAPA_ERR_UNSUPPORTED, "%s and %s have so many interchangeable parts that the search for a pairing was given up",
            papa_onnx_path(match->a->onnx), papa_onnx_path(match->b->onnx));
    free(s.colours[0]);
    free(s.colours[1]);
    free(s.entries);
    return status;
}

/* ---------------------------------------------------------------- tensors */

/* The number that a tensor of one element, of a float type, holds. */
static PapaStatus single_number(const PapaOnnx *onnx, const PapaPairTensor *t, double *number, bool *is_single)
{
    const Onnx__TensorProto *dense = t->stored.tensor;
    *is_single = dense ? papa_type_is_float(dense->data_type) && !dense->segment && papa_tensor_count(dense) == 1 : t->numbers && t->numbers->n_floats <= 1;
    if (*is_single && dense)
        return papa_tensor_read_double(onnx, dense, number, 1);
    if (*is_single)
        *number = t->numbers->n_floats ? (double)t->numbers->floats[0] : (double)t->numbers->f;
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
static PapaStatus check_second(const Match *m, const PapaPairTensor *t, const PapaTensorPair *pair, int32_t first, int32_t second, bool transposed)
{
    const PapaPairTensor *other = &m->b->tensors[second];
    bool equal = first == second;
    if (!equal)
        PAPA_TRY(same_elements(m->b->onnx, &m->b->tensors[first], other, &equal));
    if (equal && transposed == pair->transposed)
        return PAPA_OK;
    return papa_fail(PAPA_ERR_MISMATCH, "%s: tensor '%.200s' is read in several places; %s: there, tensors '%.200s' and '%.200s' are read, which differ",
        papa_onnx_path(m->a->onnx), t->stored.name, papa_onnx_path(m->b->onnx), pair->b.name, other->stored.name);
}

static PapaStatus pair_used(PapaPairing *p, const Match *m)
{
    int32_t *partner = malloc(((size_t)m->a->n_tensors + 1) * sizeof *partner);
    PapaStatus status = partner ? PAPA_OK : papa_fail_memory((size_t)m->a->n_tensors * sizeof *partner, "a pairing");
    for (int32_t i = 0; i < m->a->n_tensors && !status; i++)
        partner[i] = -1;
    for (int32_t i = 0; i < m->a->n_values && !status; i++) {
        const PapaPairValue *v = &m->a->values[i];
        if (v->tensor < 0)
            continue;
        const PapaPairValue *w = &m->b->values[image(m, i, true)];
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
static PapaStatus pair_unused(PapaPairing *p, const Match *m)
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

static PapaStatus fill(PapaPairing *p, const Match *m)
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

static int32_t most_inputs(const PapaPairGraph *g)
{
    int32_t most = 0;
    for (int32_t i = 0; i < g->n_nodes; i++)
        most = g->nodes[i].n_inputs > most ? g->nodes[i].n_inputs : most;
    return most;
}

static PapaStatus match_graphs(PapaPairing *p, const PapaPairGraph *a, const PapaPairGraph *b, bool *found)
{
    Match m = {.a = a, .b = b, .most_inputs = most_inputs(a)};
    PapaStatus status = PAPA_ERR_MEMORY;
    m.to = malloc(((size_t)papa_pair_vertices(a) + 1) * sizeof *m.to);
    m.scratch = malloc((2 * (size_t)m.most_inputs + 1) * sizeof *m.scratch);
    *found = false;
    if (!m.to || !m.scratch) {
        papa_fail_memory((size_t)papa_pair_vertices(a) * sizeof *m.to, "a pairing");
        goto out;
    }
    status = PAPA_OK;
    *found = match_in_order(&m);
    if (!*found)
        PAPA_GOTO(match_by_colours(&m, found));
    if (*found)
        status = fill(p, &m);
out:
    free(m.to);
    free(m.scratch);
    return status;
}

/* One attempt. explain: the last one, which fails where there is no match. */
static PapaStatus attempt(PapaPairing *p, const Ends *e, bool split, bool explain, bool *found)
{
    PapaPairLabels labels = {0};
    PapaPairGraph a = {0}, b = {0};
    PapaStatus status;
    PAPA_GOTO(papa_pair_graph_make(&a, &labels, e->onnx[0], &e->ends[0], split));
    PAPA_GOTO(papa_pair_graph_make(&b, &labels, e->onnx[1], &e->ends[1], split));
    PAPA_GOTO(match_graphs(p, &a, &b, found));
    if (!*found && explain)
        status = papa_pair_explain(&a, &b, &labels);
out:
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
