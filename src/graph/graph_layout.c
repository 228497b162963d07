/* The layout pass: image operators work channels-last, (N, spatial..., C), on every device.
 *
 * Each operator says once, in ONNX's order of axes, what it wants. Then the nodes are gone through in order: a value that stands in
 * the wrong order for a reader gets a second form behind a Transpose, made once; operators that work in any order follow their inputs. Where
 * moving the axis only moves dimensions of size 1 the second form is a view. Parameters and constants of lower rank (a bias of shape
 * (C, 1, 1) in an Add) are brought to the output's rank first, as broadcasting would. */
#include "graph/fold.h"
#include "graph/op.h"

#include <string.h>

typedef struct Layouter {
    PapaGraph *graph;
    PapaNode **nodes; /* the new order of execution */
    int n, capacity;
    PapaValue **other; /* by value index: the same value in the other order, once somebody needed it */
    int n_known;       /* values that existed before the pass */
} Layouter;

static PapaStatus append(Layouter *l, PapaNode *node)
{
    if (l->n == l->capacity) {
        int capacity = 2 * l->capacity + 64;
        PapaNode **larger = PAPA_NEW_ARRAY(&l->graph->arena, PapaNode *, capacity);
        if (!larger)
            return PAPA_ERR_MEMORY;
        if (l->n)
            memcpy(larger, l->nodes, (size_t)l->n * sizeof *larger);
        l->nodes = larger;
        l->capacity = capacity;
    }
    l->nodes[l->n++] = node;
    return PAPA_OK;
}

/* perm[i]: which axis of the value as it stands becomes axis i. */
static void permutation(int perm[PAPA_MAX_RANK], int rank, bool to_channels_last)
{
    for (int axis = 0; axis < rank; axis++) {
        int moved = papa_axis_to_channels_last(axis, rank);
        if (to_channels_last)
            perm[moved] = axis;
        else
            perm[axis] = moved;
    }
}

/* The axes longer than 1 stay in order, so the bytes do too. */
static bool is_trivial(const PapaShape *shape, const int *perm)
{
    int last = -1;
    for (int i = 0; i < shape->rank; i++)
        if (shape->dim[perm[i]] != 1) {
            if (perm[i] < last)
                return false;
            last = perm[i];
        }
    return true;
}

/* A node of one input and one output whose output has this shape. */
static PapaStatus add_unary(Layouter *l, const char *type, PapaValue *in, const PapaShape *shape, const char *reader, PapaValue **out, PapaNode **node)
{
    PapaArena *arena = &l->graph->arena;
    const char *label = papa_arena_printf(arena, "%s of '%s' for %s", type, in->name, reader);
    const char *name = papa_arena_printf(arena, "%s (%s)", in->name, type);
    if (!label || !name)
        return PAPA_ERR_MEMORY;
    *node = papa_graph_new_node(l->graph, type, 1, 1, label);
    *out = papa_graph_new_value(l->graph, name, PAPA_VALUE_ACTIVATION, in->type, shape);
    if (!*node || !*out)
        return PAPA_ERR_MEMORY;
    (*node)->in[0] = in;
    (*node)->out[0] = *out;
    (*out)->producer = *node;
    return append(l, *node);
}

/* The same memory under another shape. */
static PapaStatus add_view(Layouter *l, PapaValue *in, const PapaShape *shape, const char *reader, PapaValue **out)
{
    PapaNode *node;
    if (in->kind == PAPA_VALUE_CONSTANT) {
        PapaValue *value = papa_graph_new_value(l->graph, in->name, PAPA_VALUE_CONSTANT, in->type, shape);
        if (!value)
            return PAPA_ERR_MEMORY;
        value->data = in->data;
        *out = value;
        return PAPA_OK;
    }
    return add_unary(l, "Identity", in, shape, reader, out, &node);
}

static PapaStatus permute_constant(Layouter *l, PapaValue *in, const PapaShape *shape, const int *perm, PapaValue **out)
{
    int64_t from[PAPA_MAX_RANK], to[PAPA_MAX_RANK];
    float *data = PAPA_NEW_ARRAY(&l->graph->arena, float, papa_shape_count(shape) + 1);
    *out = papa_graph_new_value(l->graph, in->name, PAPA_VALUE_CONSTANT, in->type, shape);
    if (!data || !*out)
        return PAPA_ERR_MEMORY;
    papa_dense_strides(&in->shape, from);
    papa_dense_strides(shape, to);
    PapaRegion region = {0};
    for (int i = 0; i < shape->rank; i++)
        papa_region_add(&region, shape->dim[i], to[i], from[perm[i]]);
    papa_fold_copy(data, in->data, sizeof *data, &region);
    (*out)->data = data;
    return PAPA_OK;
}

/* value with its axes moved to or from channels-last. */
static PapaStatus move_axes(Layouter *l, PapaValue *value, bool to_channels_last, const char *reader, PapaValue **out)
{
    int perm[PAPA_MAX_RANK];
    permutation(perm, value->shape.rank, to_channels_last);
    PapaShape shape = {.rank = value->shape.rank};
    for (int i = 0; i < shape.rank; i++)
        shape.dim[i] = value->shape.dim[perm[i]];
    if (is_trivial(&value->shape, perm))
        PAPA_TRY(add_view(l, value, &shape, reader, out));
    else if (value->kind == PAPA_VALUE_CONSTANT)
        PAPA_TRY(permute_constant(l, value, &shape, perm, out));
    else {
        PapaNode *node;
        PAPA_TRY(add_unary(l, "Transpose", value, &shape, reader, out, &node));
        PapaTransposeAttrs *attrs = node->attrs;
        attrs->rank = shape.rank;
        memcpy(attrs->perm, perm, (size_t)shape.rank * sizeof *perm);
    }
    (*out)->channels_last = to_channels_last;
    return PAPA_OK;
}

/* *slot in the order asked for. */
static PapaStatus bring(Layouter *l, PapaValue **slot, bool channels_last, const char *reader)
{
    PapaValue *value = *slot;
    if (value->channels_last == channels_last)
        return PAPA_OK;
    if (value->index < l->n_known && l->other[value->index]) {
        *slot = l->other[value->index];
        return PAPA_OK;
    }
    PAPA_TRY(move_axes(l, value, channels_last, reader, slot));
    if (value->index < l->n_known)
        l->other[value->index] = *slot;
    return PAPA_OK;
}

/* *slot in channels-last order beside values of this rank, which its own may be below. Broadcasting then puts axes in front of ONNX's order,
 * so that what becomes the last axis depends on the reader: such a form is not shared. */
static PapaStatus bring_to_rank(Layouter *l, PapaValue **slot, int rank, const char *reader)
{
    if ((*slot)->shape.rank == rank)
        return bring(l, slot, true, reader);
    PAPA_TRY(bring(l, slot, false, reader));
    PapaShape shape = {.rank = rank};
    int lead = rank - (*slot)->shape.rank;
    for (int i = 0; i < rank; i++)
        shape.dim[i] = i < lead ? 1 : (*slot)->shape.dim[i - lead];
    PapaValue *wide;
    PAPA_TRY(add_view(l, *slot, &shape, reader, &wide));
    return move_axes(l, wide, true, reader, slot);
}

static bool is_followed(const PapaValue *value, int rank)
{
    return value && papa_type_is_float(value->type) && value->shape.rank <= rank && papa_shape_count(&value->shape) != 1;
}

static PapaStatus place_node(Layouter *l, PapaNode *node, PapaLayout layout)
{
    int rank = node->in[0] ? node->in[0]->shape.rank : 0;
    for (int i = 0; i < node->n_in; i++) /* of broadcast inputs, the widest */
        if (layout == PAPA_LAYOUT_FOLLOW && node->in[i] && papa_type_is_float(node->in[i]->type) && node->in[i]->shape.rank > rank)
            rank = node->in[i]->shape.rank;
    bool channels_last = layout == PAPA_LAYOUT_CHANNELS_LAST;
    for (int i = 0; i < node->n_in && layout == PAPA_LAYOUT_FOLLOW; i++)
        channels_last |= node->in[i] && node->in[i]->channels_last && node->in[i]->shape.rank == rank;

    for (int i = 0; i < node->n_in; i++) {
        if (!node->in[i])
            continue;
        if (layout == PAPA_LAYOUT_FOLLOW && channels_last) {
            if (is_followed(node->in[i], rank))
                PAPA_TRY(bring_to_rank(l, &node->in[i], rank, node->label));
        } else if (i == 0 && channels_last)
            PAPA_TRY(bring(l, &node->in[0], true, node->label));
        else
            PAPA_TRY(bring(l, &node->in[i], false, node->label));
    }
    if (channels_last)
        for (int i = 0; i < node->n_out; i++)
            if (node->out[i] && node->out[i]->has_shape && node->out[i]->shape.rank == rank) {
                papa_shape_to_channels_last(&node->out[i]->shape);
                node->out[i]->channels_last = true;
            }
    if (channels_last && layout == PAPA_LAYOUT_FOLLOW && node->op->permute)
        node->op->permute(node, rank);
    return append(l, node);
}

/* The loader writes the batch in either order, so an input takes the order that its image operators want. */
static void place_inputs(const PapaGraph *graph, const PapaLayout *layouts)
{
    for (int i = 0; i < graph->n_inputs; i++) {
        PapaValue *input = graph->inputs[i];
        bool wanted = false;
        for (int k = 0; k < graph->n_nodes; k++)
            wanted |= layouts[k] == PAPA_LAYOUT_CHANNELS_LAST && graph->nodes[k]->in[0] == input;
        if (wanted && input->shape.rank >= 3) {
            papa_shape_to_channels_last(&input->shape);
            input->channels_last = true;
        }
    }
}

PapaStatus papa_graph_layout(PapaGraph *graph)
{
    Layouter l = {.graph = graph, .n_known = graph->n_values};
    l.other = PAPA_NEW_ARRAY(&graph->arena, PapaValue *, graph->n_values);
    PapaLayout *layouts = PAPA_NEW_ARRAY(&graph->arena, PapaLayout, graph->n_nodes);
    if (!l.other || !layouts)
        return PAPA_ERR_MEMORY;
    for (int k = 0; k < graph->n_nodes; k++)
        if (graph->nodes[k]->op->layout)
            layouts[k] = graph->nodes[k]->op->layout(graph->nodes[k], graph);
    place_inputs(graph, layouts);
    for (int k = 0; k < graph->n_nodes; k++)
        PAPA_TRY(place_node(&l, graph->nodes[k], layouts[k]));
    for (int i = 0; i < graph->n_outputs; i++) /* what leaves the graph has ONNX's order */
        PAPA_TRY(bring(&l, &graph->outputs[i], false, "the graph's output"));
    graph->nodes = l.nodes;
    graph->n_nodes = l.n;
    graph->nodes_capacity = l.capacity;
    for (int k = 0; k < graph->n_nodes; k++)
        graph->nodes[k]->index = k;
    return PAPA_OK;
}
