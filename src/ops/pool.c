/* MaxPool, AveragePool, GlobalMaxPool and GlobalAveragePool, on maps of one and two dimensions; one dimension is a map of
 * height 1. */
#include "graph/op.h"
#include "graph/units.h"
#include "graph/window.h"
#include "kernels/pool.h"
#include "kernels/reduce.h"

typedef enum PoolKind { POOL_MAX, POOL_AVERAGE } PoolKind;

typedef struct Pool {
    PoolKind kind;
    bool global, ceil_mode, include_pad;
    PapaAutoPad auto_pad;
    int n_axes;                          /* as kernel_shape says; 0 for a global one until its shape is known */
    int64_t K[2], stride[2], dilation[2];
    int64_t begin[2], end[2];            /* padding; of auto_pad when the shape is known */
} Pool;

/* ---------------------------------------------------------------- attributes */

/* An attribute of n numbers, at least `least` each, into to[0 .. n-1]; the fallback where it is absent. */
static PapaStatus read_ints(const PapaNode *node, const char *name, int n, int64_t least, int64_t fallback, int64_t *to)
{
    const int64_t *values;
    size_t count;
    PAPA_TRY(papa_attr_ints(node->proto, name, &values, &count));
    if (count && count != (size_t)n)
        return papa_node_fail(node, PAPA_ERR_FORMAT, "%s has %zu numbers, expected %d as kernel_shape says", name, count, n);
    for (int i = 0; i < n; i++) {
        to[i] = count ? values[i] : fallback;
        if (to[i] < least || to[i] > INT32_MAX)
            return papa_node_fail(node, PAPA_ERR_FORMAT, "%s holds %lld, expected %lld to %d", name, (long long)to[i], (long long)least, INT32_MAX);
    }
    return PAPA_OK;
}

static PapaStatus read_window(const PapaNode *node, Pool *pool)
{
    const int64_t *kernel;
    size_t n_axes;
    int64_t ceil_mode, pads[4] = {0};
    PAPA_TRY(papa_attr_ints(node->proto, "kernel_shape", &kernel, &n_axes));
    if (!n_axes)
        return papa_node_fail(node, PAPA_ERR_FORMAT, "kernel_shape is missing");
    if (n_axes > 2)
        return papa_node_fail(node, PAPA_ERR_UNSUPPORTED, "kernel_shape has %zu axes, expected 1 or 2", n_axes);
    const int n = pool->n_axes = (int)n_axes;
    PAPA_TRY(read_ints(node, "kernel_shape", n, 1, 1, pool->K));
    PAPA_TRY(read_ints(node, "strides", n, 1, 1, pool->stride));
    PAPA_TRY(read_ints(node, "dilations", n, 1, 1, pool->dilation));
    PAPA_TRY(papa_attr_auto_pad(node, &pool->auto_pad));
    if (pool->auto_pad == PAPA_PAD_GIVEN)
        PAPA_TRY(read_ints(node, "pads", 2 * n, 0, 0, pads));
    for (int i = 0; i < n; i++)
        pool->begin[i] = pads[i], pool->end[i] = pads[n + i];
    PAPA_TRY(papa_attr_int(node->proto, "ceil_mode", 0, &ceil_mode));
    pool->ceil_mode = ceil_mode;
    return PAPA_OK;
}

static PapaStatus maxpool_init(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    Pool *pool = node->attrs;
    pool->kind = POOL_MAX;
    if (papa_has_out(node, 1))
        return papa_node_fail(node, PAPA_ERR_UNSUPPORTED, "the output Indices ('%s') is not supported", node->out[1]->name);
    return read_window(node, pool); /* storage_order speaks of Indices only */
}

static PapaStatus avgpool_init(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    Pool *pool = node->attrs;
    int64_t include;
    pool->kind = POOL_AVERAGE;
    PAPA_TRY(papa_attr_int(node->proto, "count_include_pad", 0, &include));
    pool->include_pad = include;
    return read_window(node, pool);
}

static PapaStatus global_max_init(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    *(Pool *)node->attrs = (Pool){.kind = POOL_MAX, .global = true};
    return PAPA_OK;
}

static PapaStatus global_average_init(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    *(Pool *)node->attrs = (Pool){.kind = POOL_AVERAGE, .global = true};
    return PAPA_OK;
}

/* ---------------------------------------------------------------- shape */

/* Length of the output along an axis; sets the padding that auto_pad leaves open. 0 where no window fits. */
static int64_t output_length(Pool *pool, int axis, int64_t length)
{
    const int64_t stride = pool->stride[axis], window = (pool->K[axis] - 1) * pool->dilation[axis] + 1;
    if (pool->auto_pad == PAPA_PAD_SAME_UPPER || pool->auto_pad == PAPA_PAD_SAME_LOWER) {
        papa_same_pads(pool->auto_pad, length, window, stride, &pool->begin[axis], &pool->end[axis]);
        return (length + stride - 1) / stride;
    }
    const int64_t room = length + pool->begin[axis] + pool->end[axis] - window;
    if (room < 0)
        return 0;
    if (!pool->ceil_mode || pool->auto_pad == PAPA_PAD_VALID) /* VALID's formula rounds to the same number either way */
        return room / stride + 1;
    const int64_t out = (room + stride - 1) / stride + 1;
    return (out - 1) * stride >= length + pool->begin[axis] ? out - 1 : out; /* a window that would start in the end's padding */
}

static PapaStatus pool_shape(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    Pool *pool = node->attrs;
    const PapaShape *x = &node->in[0]->shape;
    PapaShape y = *x;
    PAPA_TRY(papa_check_float(node, 0));
    if (x->rank != 3 && x->rank != 4)
        return papa_node_fail(node, PAPA_ERR_UNSUPPORTED, "input has shape %s, expected rank 3 or 4", papa_shape_text(x));
    if (!pool->global && x->rank != pool->n_axes + 2)
        return papa_node_fail(node, PAPA_ERR_MISMATCH, "input has shape %s, but kernel_shape %d axes", papa_shape_text(x), pool->n_axes);
    for (int i = 0; i < x->rank - 2; i++) {
        const int64_t length = x->dim[i + 2];
        if (pool->global)
            pool->K[i] = length, pool->stride[i] = pool->dilation[i] = 1;
        y.dim[i + 2] = pool->global ? 1 : output_length(pool, i, length);
        if (y.dim[i + 2] < 1 || length < 1)
            return papa_node_fail(node, PAPA_ERR_MISMATCH, "input has shape %s, too small for the window of %lld along axis %d", papa_shape_text(x),
                (long long)pool->K[i], i + 2);
    }
    return papa_set_output(node, 0, node->in[0]->type, &y);
}

static void pool_units(const PapaNode *node, PapaUnits *units)
{
    PapaSpace y = papa_units_in(units, node, 0);
    for (int k = 2; k < y.shape.rank; k++)
        papa_units_fix(units, &y, k, "its window slides along them");
    papa_units_set(units, node, 0, &y);
}

/* ---------------------------------------------------------------- execution */

/* Shapes are channels-last by now: (N, H, W, C) or (N, W, C). */
static PapaPool2d desc_of(const PapaNode *node)
{
    const Pool *pool = node->attrs;
    const PapaShape *x = &node->in[0]->shape, *y = &node->out[0]->shape;
    const int one = x->rank == 3; /* a single axis is the second */
    PapaPool2d d = {.N = x->dim[0], .H = 1, .W = x->dim[x->rank - 2], .C = x->dim[x->rank - 1], .OH = 1, .OW = y->dim[y->rank - 2],
        .K = {1, 1}, .stride = {1, 1}, .dilation = {1, 1}, .include_pad = pool->include_pad};
    if (!one)
        d.H = x->dim[1], d.OH = y->dim[1];
    for (int axis = one; axis < 2; axis++) {
        const int i = axis - one;
        d.K[axis] = pool->K[i], d.stride[axis] = pool->stride[i], d.dilation[axis] = pool->dilation[i];
        d.pad[axis] = pool->begin[i], d.pad[axis + 2] = pool->end[i];
    }
    return d;
}

static PapaStatus pool_prepare(PapaNode *node, const PapaGraph *graph, PapaDevice *dev)
{
    (void)dev;
    const PapaPool2d d = desc_of(node);
    if (((const Pool *)node->attrs)->kind != POOL_MAX || graph->mode != PAPA_MODE_TRAIN)
        return PAPA_OK;
    if (d.K[0] > PAPA_POOL_MAX_TAPS / d.K[1])
        return papa_node_fail(node, PAPA_ERR_UNSUPPORTED, "window of %lld x %lld, expected at most %d elements", (long long)d.K[0],
            (long long)d.K[1], PAPA_POOL_MAX_TAPS);
    node->kept_bytes = (size_t)papa_shape_count(&node->out[0]->shape) * sizeof(uint16_t);
    return PAPA_OK;
}

static PapaStatus pool_forward(const PapaNode *node, const PapaRun *run)
{
    const PapaPool2d d = desc_of(node);
    PapaReal *y = papa_out(run, node, 0);
    const PapaReal *x = papa_in(run, node, 0);
    if (((const Pool *)node->attrs)->kind == POOL_AVERAGE)
        return PAPA_FORWARD_KERNEL(run->dev, papa_avgpool_fwd)(run->dev, &d, y, x);
    uint16_t *argmax = run->graph->mode == PAPA_MODE_TRAIN ? papa_kept(run, node) : NULL;
    return PAPA_FORWARD_KERNEL(run->dev, papa_maxpool_fwd)(run->dev, &d, y, argmax, x);
}

static PapaStatus pool_backward(const PapaNode *node, const PapaRun *run)
{
    const PapaPool2d d = desc_of(node);
    PapaReal *dx = papa_din(run, node, 0);
    const PapaReal *dy = papa_dout(run, node, 0);
    const bool accumulate = papa_din_accumulate(run, node, 0);
    if (!dx)
        return PAPA_OK;
    if (((const Pool *)node->attrs)->kind == POOL_AVERAGE)
        return PAPA_KERNEL(run->dev, papa_avgpool_bwd)(run->dev, &d, dx, dy, accumulate);
    return PAPA_KERNEL(run->dev, papa_maxpool_bwd)(run->dev, &d, dx, dy, papa_kept(run, node), accumulate);
}

/* ---------------------------------------------------------------- a global average is a mean over the middle axes */

static PapaWalk map_walk(const PapaNode *node)
{
    const PapaShape *x = &node->in[0]->shape;
    const int64_t C = x->dim[x->rank - 1], dim[] = {x->dim[0], papa_shape_count_from(x, 1, x->rank - 1), C};
    const int64_t y_stride[] = {C, 0, 1}, none[] = {0, 0, 0};
    PapaWalk walk;
    papa_walk_make(&walk, 3, dim, y_stride, none);
    return walk;
}

static double map_weight(const PapaNode *node)
{
    const PapaShape *x = &node->in[0]->shape;
    return 1 / (double)papa_shape_count_from(x, 1, x->rank - 1);
}

static PapaStatus global_average_forward(const PapaNode *node, const PapaRun *run)
{
    const PapaWalk walk = map_walk(node);
    return PAPA_FORWARD_KERNEL(run->dev, papa_sum)(run->dev, papa_out(run, node, 0), papa_in(run, node, 0), &walk, map_weight(node), false);
}

static PapaStatus global_average_backward(const PapaNode *node, const PapaRun *run)
{
    const PapaWalk walk = map_walk(node);
    PapaReal *dx = papa_din(run, node, 0);
    if (!dx)
        return PAPA_OK;
    return PAPA_KERNEL(run->dev, papa_spread)(run->dev, dx, papa_dout(run, node, 0), &walk, map_weight(node), papa_din_accumulate(run, node, 0));
}

#define POOL(name, init_, n_out)                                                                                                  \
    .type = name, .since = 7, .min_in = 1, .max_in = 1, .min_out = 1, .max_out = n_out, .attrs_bytes = sizeof(Pool), .init = init_, \
    .shape = pool_shape, .units = pool_units, .layout = papa_layout_channels_last

extern const PapaOp papa_ops_pool[];
const PapaOp papa_ops_pool[] = {
    {POOL("MaxPool", maxpool_init, 2), .prepare = pool_prepare, .forward = pool_forward, .backward = pool_backward},
    {POOL("AveragePool", avgpool_init, 1), .forward = pool_forward, .backward = pool_backward},
    {POOL("GlobalMaxPool", global_max_init, 1), .prepare = pool_prepare, .forward = pool_forward, .backward = pool_backward},
    {POOL("GlobalAveragePool", global_average_init, 1), .forward = global_average_forward, .backward = global_average_backward},
    {0},
};
