/* LayerNormalization: over the axes from `axis` on, in ONNX's order. Mean and InvStdDev can be read in inference; in training no gradient
 * passes through them. */
#include "graph/op.h"
#include "graph/units.h"
#include "kernels/copy.h"
#include "kernels/layernorm.h"

enum { X, SCALE, SHIFT };
enum { Y, MEAN, RSTD };

typedef struct LayerNorm {
    float epsilon;
    int64_t given; /* axis as the file has it */
    int axis;      /* set by shape */
} LayerNorm;

static PapaStatus layernorm_init(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    LayerNorm *attrs = node->attrs;
    int64_t stash_type;
    PAPA_TRY(papa_attr_float(node->proto, "epsilon", 1e-5f, &attrs->epsilon));
    PAPA_TRY(papa_attr_int(node->proto, "axis", -1, &attrs->given));
    PAPA_TRY(papa_attr_int(node->proto, "stash_type", ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, &stash_type));
    if (stash_type != ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT)
        return papa_node_fail(node, PAPA_ERR_UNSUPPORTED, "stash_type is %lld, expected 1 (statistics in float32)", (long long)stash_type);
    return PAPA_OK;
}

static PapaRole layernorm_role(const PapaNode *node, int input, int64_t *fan_in)
{
    (void)node, (void)fan_in;
    return input == SCALE ? PAPA_ROLE_SCALE : input == SHIFT ? PAPA_ROLE_SHIFT : PAPA_ROLE_NONE;
}

static PapaStatus set_statistics_outputs(PapaNode *node, const PapaGraph *graph, int axis)
{
    PapaShape shape = node->in[X]->shape;
    for (int k = axis; k < shape.rank; k++)
        shape.dim[k] = 1;
    for (int i = MEAN; i <= RSTD; i++) {
        if (!papa_has_out(node, i))
            continue;
        if (graph->mode == PAPA_MODE_TRAIN && papa_graph_uses(graph, node->out[i]))
            return papa_node_fail(node, PAPA_ERR_UNSUPPORTED, "the statistics in output '%s' are used in the graph, through which no gradient passes",
                node->out[i]->name);
        PAPA_TRY(papa_set_output(node, i, ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, &shape));
    }
    return PAPA_OK;
}

/* Scale and shift have the normalised axes' shape; 1s in front change nothing. */
static bool fits(const PapaShape *shape, const PapaShape *x, int axis)
{
    const int n = x->rank - axis, in_front = shape->rank - n;
    bool same = in_front >= 0;
    for (int k = 0; same && k < shape->rank; k++)
        same = shape->dim[k] == (k < in_front ? 1 : x->dim[axis + k - in_front]);
    return same;
}

static PapaStatus layernorm_shape(PapaNode *node, PapaGraph *graph)
{
    LayerNorm *attrs = node->attrs;
    const PapaShape *x = &node->in[X]->shape;
    PAPA_TRY(papa_check_axis(node, attrs->given, x->rank, &attrs->axis));
    PapaShape normalized = {.rank = x->rank - attrs->axis};
    for (int k = 0; k < normalized.rank; k++)
        normalized.dim[k] = x->dim[attrs->axis + k];
    for (int i = X; i <= SHIFT; i++) {
        if (!papa_has_in(node, i))
            continue;
        PAPA_TRY(papa_check_float(node, i));
        if (i != X && !fits(&node->in[i]->shape, x, attrs->axis))
            return papa_node_fail(node, PAPA_ERR_MISMATCH, "input %d ('%s') has shape %s, expected %s", i, node->in[i]->name,
                papa_shape_text(&node->in[i]->shape), papa_shape_text(&normalized));
    }
    PAPA_TRY(set_statistics_outputs(node, graph, attrs->axis));
    return papa_shape_same(node, graph);
}

/* The order along the normalised axes means nothing; scale and shift stand along them too. */
static void layernorm_units(const PapaNode *node, PapaUnits *units)
{
    const unsigned rows = (1u << ((const LayerNorm *)node->attrs)->axis) - 1;
    PapaSpace y = papa_units_in(units, node, X);
    papa_units_stack(units, &y, rows);
    for (int i = SCALE; i <= SHIFT; i++)
        if (papa_has_in(node, i))
            y = papa_units_meet(units, y, papa_units_in(units, node, i));
    papa_units_set(units, node, Y, &y);
    for (int k = 0; k < y.shape.rank; k++)
        if (!(rows >> k & 1) || papa_units_bundle(&y, k) & ~rows)
            y.axis[k] = (PapaAxis){0};
    papa_units_set(units, node, MEAN, &y);
    papa_units_set(units, node, RSTD, &y);
}

static unsigned layernorm_float32(const PapaNode *node)
{
    (void)node;
    return 1u << SCALE | 1u << SHIFT;
}

static unsigned layernorm_keeps(const PapaNode *node, const PapaGraph *graph)
{
    (void)node, (void)graph;
    return PAPA_KEEP_IN(X) | PAPA_KEEP_IN(SCALE);
}

static PapaLayerNorm layernorm_of(const PapaNode *node)
{
    const LayerNorm *attrs = node->attrs;
    const PapaShape *x = &node->in[X]->shape;
    return (PapaLayerNorm){.rows = papa_shape_count_from(x, 0, attrs->axis), .D = papa_shape_count_from(x, attrs->axis, x->rank),
        .eps = attrs->epsilon};
}

static bool has_statistics(const PapaNode *node)
{
    return papa_has_out(node, MEAN) || papa_has_out(node, RSTD);
}

/* Mean and rstd are kept for backward; where none follows they lie in the workspace if somebody asks for them, who may want another element. */
static PapaStatus layernorm_prepare(PapaNode *node, const PapaGraph *graph, PapaDevice *dev)
{
    const PapaLayerNorm ln = layernorm_of(node);
    const size_t statistics_bytes = (size_t)ln.rows * 2 * papa_element_bytes(papa_float_element(dev));
    const bool training = graph->mode == PAPA_MODE_TRAIN;
    node->forward_workspace_bytes = !training && has_statistics(node) ? statistics_bytes : 0;
    node->backward_workspace_bytes = training ? PAPA_KERNEL(dev, papa_layernorm_workspace)(ln.rows, ln.D) : 0;
    node->kept_bytes = training ? statistics_bytes : 0;
    return PAPA_OK;
}

static PapaStatus layernorm_forward(const PapaNode *node, const PapaRun *run)
{
    const PapaLayerNorm ln = layernorm_of(node);
    const bool training = run->graph->mode == PAPA_MODE_TRAIN;
    const PapaElement element = papa_float_element(run->dev);
    char *mean = training ? papa_kept(run, node) : has_statistics(node) ? papa_forward_workspace(run, node) : NULL;
    void *statistics[] = {[MEAN] = mean, [RSTD] = mean ? mean + ln.rows * (int64_t)papa_element_bytes(element) : NULL};
    PAPA_TRY(PAPA_FORWARD_KERNEL(run->dev, papa_layernorm_fwd)(run->dev, &ln, papa_out(run, node, Y), statistics[MEAN], statistics[RSTD],
        papa_in(run, node, X), papa_in(run, node, SCALE), papa_has_in(node, SHIFT) ? papa_in(run, node, SHIFT) : NULL));
    for (int i = MEAN; i <= RSTD && !training; i++) /* in training nobody reads them */
        if (papa_has_out(node, i))
            PAPA_TRY(PAPA_FORWARD_KERNEL(run->dev, papa_convert)(run->dev, papa_out(run, node, i), node->out[i]->element, statistics[i], element,
                ln.rows, false));
    return PAPA_OK;
}

static PapaStatus layernorm_backward(const PapaNode *node, const PapaRun *run)
{
    const PapaLayerNorm ln = layernorm_of(node);
    const float *mean = papa_kept(run, node), *rstd = mean + ln.rows;
    const bool shifted = papa_has_in(node, SHIFT);
    const PapaLayerNormGradients to = {.dx = papa_din(run, node, X), .dscale = papa_din(run, node, SCALE),
        .dshift = shifted ? papa_din(run, node, SHIFT) : NULL,
        .accumulate = (papa_din_accumulate(run, node, X) ? PAPA_LAYERNORM_DX : 0) | (papa_din_accumulate(run, node, SCALE) ? PAPA_LAYERNORM_DSCALE : 0) |
            (shifted && papa_din_accumulate(run, node, SHIFT) ? PAPA_LAYERNORM_DSHIFT : 0)};
    return PAPA_KERNEL(run->dev, papa_layernorm_bwd)(run->dev, &ln, &to, papa_dout(run, node, Y), papa_in(run, node, X), papa_in(run, node, SCALE), mean,
        rstd, papa_backward_workspace(run, node));
}

extern const PapaOp papa_ops_layernorm[];
const PapaOp papa_ops_layernorm[] = {
    {.type = "LayerNormalization", .since = 17, .min_in = 2, .max_in = 3, .min_out = 1, .max_out = 3, .attrs_bytes = sizeof(LayerNorm),
        .init = layernorm_init, .role = layernorm_role, .normalizes = true, .shape = layernorm_shape, .units = layernorm_units, .float32 = layernorm_float32,
        .keeps = layernorm_keeps, .prepare = layernorm_prepare, .forward = layernorm_forward, .backward = layernorm_backward},
    {0},
};
