/* InstanceNormalization: each channel of each image by its own mean and variance, then the channel's scale and shift. Exporters write
 * GroupNormalization as one with a Reshape on either side, of scale 1 and shift 0. In inference only.
 *
 * The rows of the layer normalisation's kernel are channels, in ONNX's order. Its own scale is 1 throughout: the channel's is the same all along
 * the row, and comes behind it. */
#include "graph/op.h"
#include "graph/units.h"
#include "kernels/eltwise.h"
#include "kernels/layernorm.h"

#include <stdlib.h>

enum { X, SCALE, SHIFT };

typedef struct InstanceNorm {
    float epsilon;
} InstanceNorm;

static PapaStatus instance_init(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    return papa_attr_float(node->proto, "epsilon", 1e-5f, &((InstanceNorm *)node->attrs)->epsilon);
}

static PapaRole instance_role(const PapaNode *node, int input, int64_t *fan_in)
{
    (void)node, (void)fan_in;
    return input == SCALE ? PAPA_ROLE_SCALE : input == SHIFT ? PAPA_ROLE_SHIFT : PAPA_ROLE_NONE;
}

static PapaStatus instance_shape(PapaNode *node, PapaGraph *graph)
{
    const PapaShape *x = &node->in[X]->shape;
    if (x->rank < 3)
        return papa_node_fail(node, PAPA_ERR_MISMATCH, "input has shape %s, expected rank 3 or more", papa_shape_text(x));
    const PapaShape channels = {1, {x->dim[1]}};
    for (int i = X; i <= SHIFT; i++) {
        PAPA_TRY(papa_check_float(node, i));
        if (i != X && !papa_shape_equal(&node->in[i]->shape, &channels))
            return papa_node_fail(node, PAPA_ERR_MISMATCH, "input %d ('%s') has shape %s, expected %s", i, node->in[i]->name,
                papa_shape_text(&node->in[i]->shape), papa_shape_text(&channels));
    }
    return papa_shape_same(node, graph);
}

/* The channels' axis and 1s behind it. */
static PapaShape column(const PapaNode *node)
{
    PapaShape shape = {.rank = node->in[X]->shape.rank - 1, .dim = {node->in[X]->shape.dim[1]}};
    for (int k = 1; k < shape.rank; k++)
        shape.dim[k] = 1;
    return shape;
}

/* The order along the normalised axes means nothing, if it changes within a channel only. */
static void instance_units(const PapaNode *node, PapaUnits *units)
{
    const PapaShape shape = column(node);
    PapaSpace y = papa_units_in(units, node, X);
    papa_units_stack(units, &y, 1u << 0 | 1u << 1);
    for (int i = SCALE; i <= SHIFT; i++)
        y = papa_units_meet(units, y, papa_units_reshape(units, papa_units_in(units, node, i), &shape));
    papa_units_set(units, node, 0, &y);
}

static PapaLayerNorm norm_of(const PapaNode *node)
{
    const PapaShape *x = &node->in[X]->shape;
    return (PapaLayerNorm){.rows = x->dim[0] * x->dim[1], .D = papa_shape_count_from(x, 2, x->rank), .eps = ((const InstanceNorm *)node->attrs)->epsilon};
}

/* The plan is a row of ones in the device's memory: doubles on the reference device, else float32, as the kernel takes its scale. */
static PapaStatus instance_prepare(PapaNode *node, const PapaGraph *graph, PapaDevice *dev)
{
    (void)graph;
    const bool wide = papa_float_element(dev) == PAPA_FLOAT64;
    const int64_t n = norm_of(node).D;
    const size_t bytes = (size_t)n * (wide ? sizeof(double) : sizeof(float));
    void *ones = malloc(bytes + 1);
    if (!ones)
        return papa_fail_memory(bytes, node->label);
    for (int64_t i = 0; i < n; i++)
        if (wide)
            ((double *)ones)[i] = 1;
        else
            ((float *)ones)[i] = 1;
    PapaStatus status = papa_device_alloc(dev, &node->plan, bytes, node->label);
    if (status == PAPA_OK)
        status = papa_device_upload(dev, node->plan, ones, bytes);
    free(ones);
    return status;
}

static void instance_release(PapaNode *node, PapaDevice *dev)
{
    papa_device_free(dev, node->plan);
    node->plan = NULL;
}

static PapaStatus instance_forward(const PapaNode *node, const PapaRun *run)
{
    const PapaLayerNorm ln = norm_of(node);
    const PapaShape *x = &node->in[X]->shape, by = column(node);
    int64_t y_stride[PAPA_MAX_RANK], by_stride[PAPA_MAX_RANK];
    PapaWalk walk;
    papa_walk_strides(y_stride, x->rank, x->rank, x->dim);
    papa_walk_strides(by_stride, x->rank, by.rank, by.dim);
    papa_walk_make(&walk, x->rank, x->dim, y_stride, by_stride);
    PapaReal *y = papa_out(run, node, 0);
    PAPA_TRY(PAPA_FORWARD_KERNEL(run->dev, papa_layernorm_fwd)(run->dev, &ln, y, NULL, NULL, papa_in(run, node, X), node->plan, NULL));
    PAPA_TRY(PAPA_FORWARD_KERNEL(run->dev, papa_binary_fwd)(run->dev, PAPA_BINARY_MUL, y, y, papa_in(run, node, SCALE), &walk, false));
    return PAPA_FORWARD_KERNEL(run->dev, papa_binary_fwd)(run->dev, PAPA_BINARY_ADD, y, y, papa_in(run, node, SHIFT), &walk, false);
}

extern const PapaOp papa_ops_instancenorm[];
const PapaOp papa_ops_instancenorm[] = {
    {.type = "InstanceNormalization", .since = 7, .min_in = 3, .max_in = 3, .min_out = 1, .max_out = 1, .attrs_bytes = sizeof(InstanceNorm),
        .init = instance_init, .role = instance_role, .normalizes = true, .shape = instance_shape, .units = instance_units, .prepare = instance_prepare,
        .release = instance_release, .forward = instance_forward},
    {0},
};
