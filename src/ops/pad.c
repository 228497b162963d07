/* Pad: constant, reflect, edge and wrap, and constant with negative pads, which cut off.
 *
 * Every axis of the output is cut into runs: stretches that read a stretch of the input, forwards or backwards, or nothing. A box
 * of runs is one copy; an element of the input appears in it at most once, so that the gradient is the copies' reverse, added. */
#include "graph/fold.h"
#include "graph/op.h"
#include "graph/units.h"

#include <string.h>

typedef enum PadMode { PAD_CONSTANT, PAD_REFLECT, PAD_EDGE, PAD_WRAP } PadMode;

typedef struct PadAttrs {
    PadMode mode;
    const int64_t *pads; /* until opset 10 */
    size_t n_pads;
    float value;       /* until opset 10; set by shape after that */
    int64_t int_value; /* the same for integer data */
    int64_t before[PAPA_MAX_RANK], after[PAPA_MAX_RANK]; /* by axis, set by shape */
} PadAttrs;

static PapaStatus pad_init(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    static const char *const names[] = {[PAD_CONSTANT] = "constant", [PAD_REFLECT] = "reflect", [PAD_EDGE] = "edge", [PAD_WRAP] = "wrap"};
    PadAttrs *attrs = node->attrs;
    const char *mode;
    PAPA_TRY(papa_attr_string(node->proto, "mode", "constant", &mode));
    size_t n_modes = node->opset >= 19 ? PAD_WRAP + 1 : PAD_WRAP, i = 0;
    while (i < n_modes && strcmp(mode, names[i]))
        i++;
    if (i == n_modes)
        return papa_node_fail(node, PAPA_ERR_FORMAT, "mode is \"%s\", which opset %lld does not have", mode, (long long)node->opset);
    attrs->mode = (PadMode)i;
    if (node->opset >= 11)
        return PAPA_OK;
    PAPA_TRY(papa_attr_ints(node->proto, "pads", &attrs->pads, &attrs->n_pads));
    return papa_attr_float(node->proto, "value", 0, &attrs->value);
}

/* constant_value, of the data's type, and NULL where it is left out. */
static PapaStatus get_value(PapaNode *node)
{
    PadAttrs *attrs = node->attrs;
    const int64_t *value;
    int64_t n;
    if (papa_type_is_float(node->in[0]->type))
        return papa_const_float(node, 2, 0, &attrs->value);
    PAPA_TRY(papa_const_ints(node, 2, &value, &n));
    if (n > 1)
        return papa_node_fail(node, PAPA_ERR_FORMAT, "constant_value has %lld elements", (long long)n);
    attrs->int_value = n ? value[0] : 0;
    return PAPA_OK;
}

/* Fills before and after. */
static PapaStatus get_pads(PapaNode *node)
{
    PadAttrs *attrs = node->attrs;
    int rank = node->in[0]->shape.rank;
    const int64_t *pads = attrs->pads, *axes = NULL;
    int64_t n_pads = (int64_t)attrs->n_pads, n_axes = rank;
    bool seen[PAPA_MAX_RANK] = {false};
    if (node->opset >= 11) {
        PAPA_TRY(papa_const_ints(node, 1, &pads, &n_pads));
        PAPA_TRY(get_value(node));
    }
    if (papa_has_in(node, 3))
        PAPA_TRY(papa_const_ints(node, 3, &axes, &n_axes));
    if (n_pads != 2 * n_axes)
        return papa_node_fail(node, PAPA_ERR_FORMAT, "%lld pads for %lld axes", (long long)n_pads, (long long)n_axes);
    memset(attrs->before, 0, sizeof attrs->before);
    memset(attrs->after, 0, sizeof attrs->after);
    for (int64_t i = 0; i < n_axes; i++) {
        int k;
        PAPA_TRY(papa_check_axis(node, axes ? axes[i] : i, rank, &k));
        if (seen[k])
            return papa_node_fail(node, PAPA_ERR_FORMAT, "names axis %d twice", k);
        seen[k] = true;
        attrs->before[k] = pads[i];
        attrs->after[k] = pads[n_axes + i];
    }
    return PAPA_OK;
}

static PapaStatus pad_shape(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    const PadAttrs *attrs = node->attrs;
    PapaShape y = node->in[0]->shape;
    PAPA_TRY(get_pads(node));
    for (int k = 0; k < y.rank; k++) {
        int64_t before = attrs->before[k], after = attrs->after[k];
        if (attrs->mode != PAD_CONSTANT && (before < 0 || after < 0))
            return papa_node_fail(node, PAPA_ERR_UNSUPPORTED, "negative pads in a mode other than constant");
        if (attrs->mode != PAD_CONSTANT && (before || after) && !y.dim[k])
            return papa_node_fail(node, PAPA_ERR_MISMATCH, "nothing to pad axis %d of the input of shape %s with", k,
                papa_shape_text(&node->in[0]->shape));
        if (__builtin_add_overflow(y.dim[k], before, &y.dim[k]) || __builtin_add_overflow(y.dim[k], after, &y.dim[k]) || y.dim[k] < 0)
            return papa_node_fail(node, PAPA_ERR_MISMATCH, "pads of %lld and %lld on axis %d of the input of shape %s", (long long)before,
                (long long)after, k, papa_shape_text(&node->in[0]->shape));
    }
    return papa_set_output(node, 0, node->in[0]->type, &y);
}

static void pad_permute(PapaNode *node, int rank)
{
    PadAttrs *attrs = node->attrs, old = *attrs;
    for (int k = 0; k < rank; k++) {
        int axis = papa_axis_to_channels_last(k, rank);
        attrs->before[axis] = old.before[k];
        attrs->after[axis] = old.after[k];
    }
}

/* ---------------------------------------------------------------- runs */

typedef struct PadRun {
    int64_t to, from, n, step; /* out[to + i] reads in[from + i * step], i < n; step is 1 or -1 */
} PadRun;

/* Which of the input's n elements stands at position i of the endless padded axis; -1: none. */
static int64_t source(PadMode mode, int64_t i, int64_t n)
{
    int64_t period = 2 * (n - 1);
    if (i >= 0 && i < n)
        return i;
    switch (mode) {
    case PAD_EDGE: return i < 0 ? 0 : n - 1;
    case PAD_WRAP: return (i % n + n) % n;
    case PAD_REFLECT:
        if (!period)
            return 0;
        i = (i % period + period) % period;
        return i < n ? i : period - i;
    default: return -1;
    }
}

/* The next run of axis k at or after run->to + run->n; false: there is none. */
static bool next_run(const PapaNode *node, int k, PadRun *run)
{
    const PadAttrs *attrs = node->attrs;
    int64_t n_in = node->in[0]->shape.dim[k], n_out = node->out[0]->shape.dim[k], shift = attrs->before[k];
    int64_t to = run->to + run->n, end;
    while (to < n_out && source(attrs->mode, to - shift, n_in) < 0)
        to++;
    if (to >= n_out)
        return false;
    *run = (PadRun){to, source(attrs->mode, to - shift, n_in), 1, 1};
    if (to >= shift && to < shift + n_in) { /* the input itself */
        end = shift + n_in < n_out ? shift + n_in : n_out;
        run->n = end - to;
        return true;
    }
    end = to < shift ? shift : n_out;
    if (end > n_out)
        end = n_out;
    if (to + 1 < end) {
        int64_t step = source(attrs->mode, to + 1 - shift, n_in) - run->from;
        run->step = step == -1 ? -1 : 1;
    }
    while (to + run->n < end && source(attrs->mode, to + run->n - shift, n_in) == run->from + run->n * run->step)
        run->n++;
    return true;
}

/* Calls move for every box of runs: region walks it, to and from are its first elements' offsets in the output and the input. */
typedef PapaStatus pad_move_fn(void *context, int64_t to, int64_t from, const PapaRegion *region);

typedef struct PadWalk {
    const PapaNode *node;
    int64_t to_stride[PAPA_MAX_RANK], from_stride[PAPA_MAX_RANK];
    pad_move_fn *move;
    void *context;
} PadWalk;

static PapaStatus walk_axis(const PadWalk *walk, int k, int64_t to, int64_t from, PapaRegion region)
{
    if (k == walk->node->out[0]->shape.rank)
        return walk->move(walk->context, to, from, &region);
    PadRun run = {0};
    while (next_run(walk->node, k, &run)) {
        PapaRegion inner = region;
        papa_region_add(&inner, run.n, walk->to_stride[k], walk->from_stride[k] * run.step);
        PAPA_TRY(walk_axis(walk, k + 1, to + run.to * walk->to_stride[k], from + run.from * walk->from_stride[k], inner));
    }
    return PAPA_OK;
}

static PapaStatus for_each_box(const PapaNode *node, pad_move_fn *move, void *context)
{
    PadWalk walk = {.node = node, .move = move, .context = context};
    papa_dense_strides(&node->out[0]->shape, walk.to_stride);
    papa_dense_strides(&node->in[0]->shape, walk.from_stride);
    return walk_axis(&walk, 0, 0, 0, (PapaRegion){0});
}

static void pad_units(const PapaNode *node, PapaUnits *units)
{
    const PadAttrs *attrs = node->attrs;
    const int32_t blank = papa_units_blank(units);
    PapaSpace y = papa_units_in(units, node, 0);
    for (int k = 0; k < y.shape.rank; k++) {
        const int64_t n = node->out[0]->shape.dim[k], n_in = y.shape.dim[k];
        if (!attrs->before[k] && !attrs->after[k])
            continue;
        int64_t *index = PAPA_NEW_ARRAY(&units->arena, int64_t, n);
        units->failed |= !index;
        for (int64_t i = 0; index && i < n; i++)
            index[i] = source(attrs->mode, i - attrs->before[k], n_in);
        if (index)
            papa_units_pick(units, &y, k, n, index, blank);
    }
    papa_units_set(units, node, 0, &y);
}

/* ---------------------------------------------------------------- what is done with them */

typedef struct PadMove {
    PapaDevice *dev;
    void *y; /* constants, or activations */
    const void *x;
    size_t element_bytes; /* of constants */
    PapaReal *dx;
    const PapaReal *dy;
    bool accumulate;
} PadMove;

static PapaStatus move_constants(void *context, int64_t to, int64_t from, const PapaRegion *region)
{
    const PadMove *m = context;
    int64_t bytes = (int64_t)m->element_bytes;
    papa_fold_copy((char *)m->y + to * bytes, (const char *)m->x + from * bytes, m->element_bytes, region);
    return PAPA_OK;
}

static PapaStatus pad_fold(PapaNode *node, PapaGraph *graph)
{
    const PadAttrs *attrs = node->attrs;
    bool floats = papa_type_is_float(node->in[0]->type);
    int64_t n = papa_shape_count(&node->out[0]->shape);
    void *y = papa_set_constant(node, graph, 0);
    if (!y)
        return PAPA_ERR_MEMORY;
    for (int64_t i = 0; i < n; i++)
        if (floats)
            ((float *)y)[i] = attrs->value;
        else
            ((int64_t *)y)[i] = attrs->int_value;
    PadMove context = {.y = y, .x = node->in[0]->data, .element_bytes = papa_constant_bytes(node->in[0]->type)};
    return for_each_box(node, move_constants, &context);
}

static PapaStatus move_forward(void *context, int64_t to, int64_t from, const PapaRegion *region)
{
    const PadMove *m = context;
    return PAPA_FORWARD_KERNEL(m->dev, papa_copy)(m->dev, papa_at(m->dev, m->y, to), papa_at(m->dev, m->x, from), region, false);
}

static PapaStatus pad_forward(const PapaNode *node, const PapaRun *run)
{
    const PadAttrs *attrs = node->attrs;
    PadMove context = {.dev = run->dev, .y = papa_out(run, node, 0), .x = papa_in(run, node, 0)};
    if (attrs->mode == PAD_CONSTANT)
        PAPA_TRY(PAPA_FORWARD_KERNEL(run->dev, papa_fill)(run->dev, context.y, attrs->value, papa_shape_count(&node->out[0]->shape)));
    return for_each_box(node, move_forward, &context);
}

static PapaStatus move_backward(void *context, int64_t to, int64_t from, const PapaRegion *region)
{
    const PadMove *m = context;
    PapaRegion reversed = papa_region_reversed(*region);
    return PAPA_KERNEL(m->dev, papa_copy)(m->dev, papa_at(m->dev, m->dx, from), papa_at(m->dev, m->dy, to), &reversed, m->accumulate);
}

/* All of the input stands in the output exactly once. */
static bool is_bijective(const PapaNode *node)
{
    const PadAttrs *attrs = node->attrs;
    for (int k = 0; k < node->in[0]->shape.rank; k++)
        if (attrs->before[k] < 0 || attrs->after[k] < 0)
            return false;
    return attrs->mode == PAD_CONSTANT;
}

static PapaStatus pad_backward(const PapaNode *node, const PapaRun *run)
{
    PadMove context = {.dev = run->dev, .dx = papa_din(run, node, 0), .dy = papa_dout(run, node, 0),
        .accumulate = papa_din_accumulate(run, node, 0)};
    if (!context.dx)
        return PAPA_OK;
    if (!context.accumulate && !is_bijective(node)) {
        PAPA_TRY(papa_din_zero(run, node, 0));
        context.accumulate = true;
    }
    return for_each_box(node, move_backward, &context);
}

const PapaOp papa_ops_pad[] = {
    {.type = "Pad", .since = 7, .until = 10, .min_in = 1, .max_in = 1, .min_out = 1, .max_out = 1, .attrs_bytes = sizeof(PadAttrs),
        .init = pad_init, .shape = pad_shape, .units = pad_units, .fold = pad_fold, .layout = papa_layout_follow, .permute = pad_permute,
        .forward = pad_forward, .backward = pad_backward},
    {.type = "Pad", .since = 11, .until = 17, .min_in = 2, .max_in = 3, .min_out = 1, .max_out = 1, .attrs_bytes = sizeof(PadAttrs),
        .init = pad_init, .shape = pad_shape, .units = pad_units, .fold = pad_fold, .layout = papa_layout_follow, .permute = pad_permute,
        .forward = pad_forward, .backward = pad_backward},
    {.type = "Pad", .since = 18, .min_in = 2, .max_in = 4, .min_out = 1, .max_out = 1, .attrs_bytes = sizeof(PadAttrs),
        .init = pad_init, .shape = pad_shape, .units = pad_units, .fold = pad_fold, .layout = papa_layout_follow, .permute = pad_permute,
        .forward = pad_forward, .backward = pad_backward},
    {0},
};
