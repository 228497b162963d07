/* Matching two canonical graphs: in the order of the files, else by colours with ties broken, and the check of what comes out. */
#include "onnx/pair_graph.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_REFINEMENTS = 1000 }; /* of a search, and one for each vertex; networks that are not made to be hard need three or four */

/* ---------------------------------------------------------------- checking a match */

/* A match and what checking it takes. */
typedef struct Check {
    PapaPairMatch *match;
    int32_t *scratch; /* two lists of inputs */
    int32_t most_inputs;
} Check;

static int compare_ints(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

int32_t papa_pair_image(const PapaPairMatch *m, int32_t value)
{
    return value < 0 ? -1 : m->to[m->a->n_nodes + value] - m->b->n_nodes;
}

static bool inputs_match(const Check *c, const PapaPairNode *a, const PapaPairNode *b)
{
    const PapaPairMatch *m = c->match;
    if (a->n_inputs != b->n_inputs)
        return false;
    int32_t n = a->n_inputs, *x = c->scratch, *y = c->scratch + c->most_inputs;
    for (int32_t k = 0; k < n; k++) {
        if (a->inputs[k].slot != b->inputs[k].slot)
            return false;
        x[k] = papa_pair_image(m, a->inputs[k].value);
        y[k] = b->inputs[k].value;
    }
    for (int32_t k = 0, end; k < n; k = end) { /* runs of one slot are in any order */
        for (end = k + 1; end < n && a->inputs[end].slot == a->inputs[k].slot;)
            end++;
        qsort(x + k, (size_t)(end - k), sizeof *x, compare_ints);
        qsort(y + k, (size_t)(end - k), sizeof *y, compare_ints);
    }
    return !n || !memcmp(x, y, (size_t)n * sizeof *x);
}

/* Whether the match, one to one already, is an isomorphism. */
static bool is_isomorphism(const Check *c)
{
    const PapaPairMatch *m = c->match;
    const PapaPairGraph *a = m->a, *b = m->b;
    for (int32_t i = 0; i < a->n_nodes; i++) {
        int32_t to = m->to[i];
        if (to >= b->n_nodes || a->nodes[i].label != b->nodes[to].label || !inputs_match(c, &a->nodes[i], &b->nodes[to]))
            return false;
    }
    for (int32_t i = 0; i < a->n_values; i++) {
        int32_t to = papa_pair_image(m, i);
        if (to < 0)
            return false;
        const PapaPairValue *v = &a->values[i], *w = &b->values[to];
        int32_t producer = v->producer < 0 ? -1 : m->to[v->producer];
        if (v->label != w->label || v->slot != w->slot || producer != w->producer || papa_pair_image(m, v->twin) != w->twin)
            return false;
    }
    return true;
}

/* Vertex by vertex, where tensors have the same names. */
static bool match_in_order(const Check *c)
{
    const PapaPairMatch *m = c->match;
    const PapaPairGraph *a = m->a, *b = m->b;
    if (a->n_nodes != b->n_nodes || a->n_values != b->n_values)
        return false;
    for (int32_t i = 0; i < papa_pair_vertices(a); i++)
        m->to[i] = i;
    for (int32_t i = 0; i < a->n_values; i++)
        if (a->values[i].tensor >= 0 && (b->values[i].tensor < 0 || strcmp(a->values[i].name, b->values[i].name)))
            return false;
    return is_isomorphism(c);
}

/* ---------------------------------------------------------------- matching by colours */

typedef struct Entry {
    uint64_t colour;
    int32_t vertex; /* of a, or of b */
    int32_t order;  /* its place in the file */
    bool is_b;
} Entry;

/* What ties in several classes at once are broken by, the first that applies. Not again once that made no isomorphism. */
typedef enum Guess { GUESS_TENSOR_NAMES, GUESS_NAMES, GUESS_ORDER, N_GUESSES } Guess;

typedef struct Search {
    const Check *check;
    const PapaPairMatch *match;
    uint64_t *colours[2];
    Entry *entries;      /* all vertices, sorted by colour; those of a first, in their file's order */
    size_t n;
    uint64_t n_chosen;   /* makes colours that were never there */
    int left;            /* refinements */
    bool misled[N_GUESSES];
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
    const PapaPairGraph *graphs[2] = {s->match->a, s->match->b};
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
            papa_pair_colour_forward(k ? s->match->b : s->match->a, s->colours[k]);
            papa_pair_colour_backward(k ? s->match->b : s->match->a, s->colours[k]);
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
        if (*vertex_name(s->match->b, b[i].vertex))
            status = papa_name_map_add(&names, vertex_name(s->match->b, b[i].vertex), (int64_t)i, NULL);
    if (!status) {
        bool *taken = (bool *)(ordered + n);
        memset(taken, 0, n * sizeof *taken);
        for (size_t i = 0; i < n; i++) {
            int64_t *index = papa_name_map_find(&names, vertex_name(s->match->a, a[i].vertex));
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

static bool is_tensor(const Search *s, const Entry *of_a)
{
    int32_t value = of_a->vertex - s->match->a->n_nodes;
    return value >= 0 && s->match->a->values[value].tensor >= 0;
}

/* The classes with several members. */
typedef struct Ties {
    size_t begin, n;         /* the one to break first, and how many of a's are in it; 0: there is none */
    size_t n_classes;
    size_t n_named, n_named_tensors; /* classes in which all names agree */
} Ties;

/* First those with equal names, tensors before others; then nodes, the smallest class, the first in the file. */
static PapaStatus find_ties(Search *s, Ties *ties)
{
    double best = -1;
    *ties = (Ties){0};
    for (size_t i = 0, end, n; i < s->n; i = end) {
        size_t n_equal;
        end = class_end(s, i, &n);
        if (n < 2)
            continue;
        const Entry *first = &s->entries[i];
        PAPA_TRY(order_class(s, i, n, &n_equal));
        ties->n_classes++;
        ties->n_named += n_equal == n;
        ties->n_named_tensors += n_equal == n && is_tensor(s, first);
        bool is_node = first->vertex < s->match->a->n_nodes;
        double score = (double)n_equal / (double)n * (4 + 2 * is_tensor(s, first)) + is_node + 1 / (double)n - 1e-10 * first->order;
        if (score > best)
            best = score, ties->begin = i, ties->n = n;
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
        s->match->to[s->entries[i].vertex] = s->entries[i + 1].vertex;
    return is_isomorphism(s->check);
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
    const PapaPairGraph *graphs[2] = {s->match->a, s->match->b};
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
    memcpy(s->colours[0], saved->colours[0], (size_t)papa_pair_vertices(s->match->a) * sizeof **saved->colours);
    memcpy(s->colours[1], saved->colours[1], (size_t)papa_pair_vertices(s->match->b) * sizeof **saved->colours);
}

static bool all_names_agree(const Search *s, const Entry *a, const Entry *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!*vertex_name(s->match->a, a[i].vertex) || strcmp(vertex_name(s->match->a, a[i].vertex), vertex_name(s->match->b, b[i].vertex)))
            return false;
    return true;
}

/* Chooses in all classes at once for which the guess speaks. */
static PapaStatus try_guess(Search *s, const Saved *saved, Guess guess, bool *found)
{
    const Entry *entries = saved->entries;
    for (size_t i = 0, end; i < s->n; i = end) {
        for (end = i; end < s->n && entries[end].colour == entries[i].colour;)
            end++;
        size_t n = (end - i) / 2;
        if (n < 2 || (guess == GUESS_TENSOR_NAMES && !is_tensor(s, &entries[i])) ||
            (guess != GUESS_ORDER && !all_names_agree(s, entries + i, entries + i + n, n)))
            continue;
        for (size_t k = i; k < i + n; k++)
            choose(s, entries[k].vertex, entries[k + n].vertex);
    }
    PAPA_TRY(search(s, found));
    s->misled[guess] |= !*found;
    return PAPA_OK;
}

/* Chooses members of one class for one another. */
static PapaStatus try_members(Search *s, const Entry *a, const Entry *b, size_t n, bool *found)
{
    for (size_t i = 0; i < n; i++)
        choose(s, a[i].vertex, b[i].vertex);
    return search(s, found);
}

/* Many classes at once where a guess applies; a whole class at once, as it is ordered; and where that is no isomorphism its first
 * member with each that it may belong to. */
static PapaStatus break_ties(Search *s, const Ties *ties, bool *found)
{
    Guess guess = ties->n_named_tensors ? GUESS_TENSOR_NAMES : ties->n_named ? GUESS_NAMES : GUESS_ORDER;
    Saved saved;
    PapaStatus status = save(&saved, s);
    if (status)
        return status;
    const Entry *a = saved.entries + ties->begin, *b = a + ties->n;
    if (ties->n_classes > 1 && !s->misled[guess]) {
        status = try_guess(s, &saved, guess, found);
        restore(s, &saved);
    }
    if (!status && !*found)
        status = try_members(s, a, b, ties->n, found);
    for (size_t i = ties->n == 2; i < ties->n && !status && !*found && !s->given_up; i++) {
        restore(s, &saved);
        status = try_members(s, a, b + i, 1, found);
    }
    free_saved(&saved);
    return status;
}

static PapaStatus search(Search *s, bool *found)
{
    Ties ties;
    *found = false;
    s->given_up |= s->left <= 0;
    if (s->given_up || !refine(s))
        return PAPA_OK;
    PAPA_TRY(find_ties(s, &ties));
    if (ties.n)
        return break_ties(s, &ties, found);
    *found = take_match(s);
    return PAPA_OK;
}

static PapaStatus match_by_colours(const Check *check, bool *found)
{
    const PapaPairMatch *match = check->match;
    size_t n_a = (size_t)papa_pair_vertices(match->a), n_b = (size_t)papa_pair_vertices(match->b);
    Search s = {.check = check, .match = match, .left = MOST_REFINEMENTS + (int)n_a};
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

static int32_t most_inputs(const PapaPairGraph *g)
{
    int32_t most = 0;
    for (int32_t i = 0; i < g->n_nodes; i++)
        most = g->nodes[i].n_inputs > most ? g->nodes[i].n_inputs : most;
    return most;
}

PapaStatus papa_pair_match(PapaPairMatch *out, const PapaPairGraph *a, const PapaPairGraph *b, bool *found)
{
    size_t n = (size_t)papa_pair_vertices(a), n_inputs = (size_t)most_inputs(a);
    *out = (PapaPairMatch){.a = a, .b = b, .to = malloc((n + 1) * sizeof *out->to)};
    Check check = {.match = out, .scratch = malloc((2 * n_inputs + 1) * sizeof *check.scratch), .most_inputs = (int32_t)n_inputs};
    PapaStatus status = out->to && check.scratch ? PAPA_OK : papa_fail_memory(n * sizeof *out->to, "a pairing");
    *found = !status && match_in_order(&check);
    if (!status && !*found)
        status = match_by_colours(&check, found);
    free(check.scratch);
    return status;
}
