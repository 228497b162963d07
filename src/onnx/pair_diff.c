/* Where two graphs differ that can't be paired, in one line.
 *
 * Colours that know only what a node depends on agree up to the difference and disagree behind it: the first node whose colour the
 * other graph has not, or not as often, is the place. Its counterpart is such a node of the other graph that reads what the first one reads. */
#include "onnx/pair_graph.h"

#include <stdlib.h>
#include <string.h>

typedef struct Side {
    const PapaPairGraph *graph;
    uint64_t *forward;  /* colours from what vertices depend on */
    uint64_t *backward; /* from what depends on them */
    uint64_t *sorted;   /* forward colours of the nodes, sorted */
    uint64_t *values;   /* of the values */
} Side;

typedef struct Diff {
    PapaArena arena;
    const PapaPairLabels *labels;
    Side a, b;
} Diff;

static const char *path_of(const Side *side)
{
    return papa_onnx_path(side->graph->onnx);
}

static const char *node_text(Diff *d, const PapaPairNode *node)
{
    const char *text = node->proto ? papa_arena_strdup(&d->arena, papa_node_label(node->proto)) : node->type;
    return text ? text : "a node";
}

/* What a value is: "tensor 'w' (FLOAT 3x4)", "graph input 0 'x'", "the output of Conv node 'c'". */
static const char *value_text(Diff *d, const Side *side, int32_t index)
{
    const PapaPairValue *value = &side->graph->values[index];
    const char *label = d->labels->texts[value->label], *text;
    if (value->producer >= 0)
        text = papa_arena_printf(&d->arena, "the output of %s", node_text(d, &side->graph->nodes[value->producer]));
    else if (value->tensor >= 0)
        text = papa_arena_printf(&d->arena, "tensor '%.200s' (%.200s)", value->name ? value->name : "", label);
    else
        text = papa_arena_printf(&d->arena, "%s '%.200s'", label, value->name ? value->name : "");
    return text ? text : label;
}

/* ---------------------------------------------------------------- colours */

static int compare_colours(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* How many of n sorted colours are this one. */
static size_t count_colour(const uint64_t *sorted, size_t n, uint64_t colour)
{
    size_t low = 0, high = n, count = 0;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (sorted[middle] < colour)
            low = middle + 1;
        else
            high = middle;
    }
    while (low + count < n && sorted[low + count] == colour)
        count++;
    return count;
}

static PapaStatus open_side(Diff *d, Side *side, const PapaPairGraph *graph)
{
    size_t n = (size_t)papa_pair_vertices(graph), bytes = n * sizeof(uint64_t);
    *side = (Side){.graph = graph};
    uint64_t **arrays[] = {&side->forward, &side->backward, &side->sorted};
    for (size_t k = 0; k < sizeof arrays / sizeof *arrays; k++) {
        *arrays[k] = PAPA_NEW_ARRAY(&d->arena, uint64_t, n);
        if (!*arrays[k])
            return PAPA_ERR_MEMORY;
    }
    papa_pair_colour_labels(graph, side->forward);
    papa_pair_colour_labels(graph, side->backward);
    papa_pair_colour_forward(graph, side->forward);
    papa_pair_colour_backward(graph, side->backward);
    memcpy(side->sorted, side->forward, bytes);
    side->values = side->sorted + graph->n_nodes;
    qsort(side->sorted, (size_t)graph->n_nodes, sizeof *side->sorted, compare_colours);
    qsort(side->values, (size_t)graph->n_values, sizeof *side->values, compare_colours);
    return PAPA_OK;
}

static size_t count_node(const Side *in, uint64_t colour)
{
    return count_colour(in->sorted, (size_t)in->graph->n_nodes, colour);
}

static uint64_t value_colour(const Side *side, int32_t value)
{
    return side->forward[side->graph->n_nodes + value];
}

/* Whether the other graph has everything computed that the node reads. */
static bool is_reached(const Side *side, const Side *other, int32_t index)
{
    const PapaPairNode *node = &side->graph->nodes[index];
    for (int32_t k = 0; k < node->n_inputs; k++) {
        int32_t value = node->inputs[k].value;
        if (side->graph->values[value].tensor < 0 && !count_colour(other->values, (size_t)other->graph->n_values, value_colour(side, value)))
            return false;
    }
    return true;
}

/* Whether the other graph has fewer nodes like this one. */
static bool is_surplus(const Side *side, const Side *other, int32_t index)
{
    return count_node(other, side->forward[index]) < count_node(side, side->forward[index]);
}

static int32_t first_surplus(const Side *side, const Side *other)
{
    for (int32_t i = 0; i < side->graph->n_nodes; i++)
        if (is_surplus(side, other, i))
            return i;
    return -1;
}

static double likeness(const Side *x, int32_t i, const Side *y, int32_t j)
{
    const PapaPairNode *a = &x->graph->nodes[i], *b = &y->graph->nodes[j];
    double score = 0;
    for (int32_t k = 0; k < a->n_inputs; k++)
        for (int32_t l = 0; l < b->n_inputs; l++)
            if (a->inputs[k].slot == b->inputs[l].slot && value_colour(x, a->inputs[k].value) == value_colour(y, b->inputs[l].value))
                score += x->graph->values[a->inputs[k].value].tensor < 0 ? 8 : 1;
    score += 4 * (x->backward[i] == y->backward[j]) + 4 * !strcmp(a->type, b->type) + 2 * (a->label == b->label);
    if (a->proto && b->proto && a->proto->name && b->proto->name && *a->proto->name)
        score += !strcmp(a->proto->name, b->proto->name);
    return score;
}

/* The node of y that is most like x's node i, among those that x has not as often (or among all); -1: there is none that reads what x has. */
static int32_t closest(const Side *x, int32_t i, const Side *y, bool all)
{
    double best = -1;
    int32_t found = -1;
    for (int32_t j = 0; j < y->graph->n_nodes; j++) {
        if (!all && (!is_surplus(y, x, j) || !is_reached(y, x, j)))
            continue;
        double score = likeness(x, i, y, j);
        if (score > best)
            best = score, found = j;
    }
    return found;
}

/* Of x's nodes that are all like i, the one that is most like y's j. */
static int32_t closest_twin(const Side *x, int32_t i, const Side *y, int32_t j)
{
    double best = -1;
    int32_t found = i;
    for (int32_t k = i; k < x->graph->n_nodes; k++)
        if (x->forward[k] == x->forward[i] && likeness(x, k, y, j) > best)
            best = likeness(x, k, y, j), found = k;
    return found;
}

/* ---------------------------------------------------------------- messages */

static PapaStatus fail_attr(const Side *x, const char *a, const Side *y, const char *b, const char *name, const char *in_a, const char *in_b)
{
    return papa_fail(PAPA_ERR_MISMATCH, "%s: %s has %s %.200s; %s: its counterpart %s has %.200s", path_of(x), a, name, in_a ? in_a : "left out",
        path_of(y), b, in_b ? in_b : "left it out");
}

/* Attributes are sorted by name. PAPA_OK: they agree. */
static PapaStatus explain_attrs(Diff *d, const Side *x, const PapaPairNode *a, const Side *y, const PapaPairNode *b)
{
    const char *in_a = node_text(d, a), *in_b = node_text(d, b);
    for (int32_t i = 0, k = 0; i < a->n_attrs || k < b->n_attrs;) {
        const PapaPairAttr *s = i < a->n_attrs ? &a->attrs[i] : NULL, *t = k < b->n_attrs ? &b->attrs[k] : NULL;
        int order = !s ? 1 : !t ? -1 : strcmp(s->name, t->name);
        if (order)
            return fail_attr(x, in_a, y, in_b, order < 0 ? s->name : t->name, order < 0 ? s->text : NULL, order < 0 ? NULL : t->text);
        if (strcmp(s->text, t->text))
            return fail_attr(x, in_a, y, in_b, s->name, s->text, t->text);
        i++, k++;
    }
    return PAPA_OK;
}

/* The first input that differs. PAPA_OK: none does. */
static PapaStatus explain_inputs(Diff *d, const Side *x, const PapaPairNode *a, const Side *y, const PapaPairNode *b)
{
    for (int32_t k = 0; k < a->n_inputs; k++) {
        int32_t v = a->inputs[k].value, w = b->inputs[k].value;
        if (value_colour(x, v) == value_colour(y, w) || a->inputs[k].slot != b->inputs[k].slot)
            continue;
        bool commutes = a->n_inputs == 2 && a->inputs[0].slot == a->inputs[1].slot;
        if (commutes && value_colour(x, a->inputs[!k].value) != value_colour(y, b->inputs[!k].value) &&
            (value_colour(x, v) == value_colour(y, b->inputs[!k].value) || x->graph->values[v].tensor < 0))
            continue; /* crossed: the other input tells */
        if (commutes && x->graph->values[v].tensor >= 0 && y->graph->values[w].tensor < 0)
            w = b->inputs[!k].value;
        return papa_fail(PAPA_ERR_MISMATCH, "%s: %s read%s %s; %s: its counterpart %s read%s %s", path_of(x), node_text(d, a), a->proto ? "s" : "",
            value_text(d, x, v), path_of(y), node_text(d, b), b->proto ? "s" : "", value_text(d, y, w)); /* without a node: outputs */
    }
    return PAPA_OK;
}

static PapaStatus explain_pair(Diff *d, const Side *x, int32_t i, const Side *y, int32_t j)
{
    const PapaPairNode *a = &x->graph->nodes[i], *b = &y->graph->nodes[j];
    const char *in_a = node_text(d, a), *in_b = node_text(d, b);
    const char *domain_a = a->proto && a->proto->domain ? a->proto->domain : "", *domain_b = b->proto && b->proto->domain ? b->proto->domain : "";
    if (strcmp(a->type, b->type) || strcmp(domain_a, domain_b))
        return papa_fail(PAPA_ERR_MISMATCH, "%s: %s; %s: where its counterpart would be stands %s", path_of(x), in_a, path_of(y), in_b);
    PAPA_TRY(explain_attrs(d, x, a, y, b));
    if (a->n_inputs != b->n_inputs)
        return papa_fail(PAPA_ERR_MISMATCH, "%s: %s has %d inputs; %s: its counterpart %s has %d", path_of(x), in_a, (int)a->n_inputs,
            path_of(y), in_b, (int)b->n_inputs);
    PAPA_TRY(explain_inputs(d, x, a, y, b));
    return papa_fail(PAPA_ERR_MISMATCH, "%s: %s; %s: its closest match, %s, has not the same inputs", path_of(x), in_a, path_of(y), in_b);
}

/* The other graph has no such node, or not as many. */
static PapaStatus explain_alone(Diff *d, const Side *x, int32_t i, const Side *y)
{
    const char *text = node_text(d, &x->graph->nodes[i]);
    size_t n = count_node(y, x->forward[i]);
    int32_t j = closest(x, i, y, true);
    const char *other = j < 0 ? "nothing" : node_text(d, &y->graph->nodes[j]);
    if (n)
        return papa_fail(PAPA_ERR_MISMATCH, "%s: there are %zu nodes like %s; %s: there are %zu, one of them %s", path_of(x),
            count_node(x, x->forward[i]), text, path_of(y), n, other);
    return papa_fail(PAPA_ERR_MISMATCH, "%s: %s has no counterpart; %s: the closest match is %s", path_of(x), text, path_of(y), other);
}

static PapaStatus explain_surplus(Diff *d, const Side *x, const Side *y, int32_t i)
{
    int32_t j = closest(x, i, y, false);
    return j >= 0 ? explain_pair(d, x, closest_twin(x, i, y, j), y, j) : explain_alone(d, x, i, y);
}

/* All nodes have their likes, but what they yield goes elsewhere: the first whose readers differ. */
static PapaStatus explain_readers(Diff *d)
{
    const PapaPairGraph *a = d->a.graph, *b = d->b.graph;
    for (int32_t i = 0; i < a->n_nodes; i++)
        for (int32_t j = 0; j < b->n_nodes; j++) {
            int32_t v = a->nodes[i].first_output, w = b->nodes[j].first_output;
            if (d->a.forward[i] != d->b.forward[j] || v < 0 || w < 0)
                continue;
            if (count_node(&d->a, d->a.forward[i]) == 1 && a->values[v].n_uses == b->values[w].n_uses)
                continue;
            if (d->a.backward[i] != d->b.backward[j])
                return papa_fail(PAPA_ERR_MISMATCH,
                    "%s: the output of %s is read %d times; %s: that of its closest match, %s, %d times, or by other nodes", path_of(&d->a),
                    node_text(d, &a->nodes[i]), (int)a->values[v].n_uses, path_of(&d->b), node_text(d, &b->nodes[j]), (int)b->values[w].n_uses);
        }
    return papa_fail(PAPA_ERR_MISMATCH, "%s and %s have the same nodes, but not connected in the same way", path_of(&d->a), path_of(&d->b));
}

static PapaStatus explain(Diff *d)
{
    int32_t i = first_surplus(&d->a, &d->b), j = first_surplus(&d->b, &d->a);
    if (i >= 0)
        return explain_surplus(d, &d->a, &d->b, i);
    if (j >= 0)
        return explain_surplus(d, &d->b, &d->a, j);
    return explain_readers(d);
}

PapaStatus papa_pair_explain(const PapaPairGraph *a, const PapaPairGraph *b, const PapaPairLabels *labels)
{
    Diff d = {.labels = labels};
    PapaStatus status = open_side(&d, &d.a, a);
    if (!status)
        status = open_side(&d, &d.b, b);
    if (!status)
        status = explain(&d);
    papa_arena_free(&d.arena);
    return status;
}
