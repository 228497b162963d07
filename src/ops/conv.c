/* Conv: images (rank 4), and sequences (rank 3), which run as images of height 1.
 *
 * Activations are channels-last, the weight stands in ONNX's order (K, C / group, R, S), wherever it comes from. */
#include "graph/op.h"
#include "graph/units.h"
#include "graph/window.h"
#include "kernels/conv.h"
#include "kernels/eltwise.h"
#include "kernels/matmul.h" /* papa_colsum */

typedef struct ConvAttrs {
    PapaAutoPad auto_pad;
    int64_t group;
    const int64_t *kernel_shape, *strides, *dilations, *pads; /* as the file has them; NULL: left out */
    size_t n_kernel_shape, n_strides, n_dilations, n_pads;
    PapaConvDesc desc; /* set by shape; bias and relu by prepare */
} ConvAttrs;

static PapaStatus conv_init(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    ConvAttrs *attrs = node->attrs;
    PAPA_TRY(papa_attr_auto_pad(node, &attrs->auto_pad));
    PAPA_TRY(papa_attr_int(node->proto, "group", 1, &attrs->group));
    PAPA_TRY(papa_attr_ints(node->proto, "kernel_shape", &attrs->kernel_shape, &attrs->n_kernel_shape));
    PAPA_TRY(papa_attr_ints(node->proto, "strides", &attrs->strides, &attrs->n_strides));
    PAPA_TRY(papa_attr_ints(node->proto, "dilations", &attrs->dilations, &attrs->n_dilations));
    PAPA_TRY(papa_attr_ints(node->proto, "pads", &attrs->pads, &attrs->n_pads));
    for (size_t i = 0; attrs->auto_pad != PAPA_PAD_GIVEN && i < attrs->n_pads; i++)
        if (attrs->pads[i])
            return papa_node_fail(node, PAPA_ERR_FORMAT, "has both auto_pad and pads");
    return PAPA_OK;
}

static PapaRole conv_role(const PapaNode *node, int input, int64_t *fan_in)
{
    const PapaValue *value = node->in[input];
    if (input == 1 && value->has_shape)
        *fan_in = papa_shape_count_from(&value->shape, 1, value->shape.rank);
    return input == 1 ? PAPA_ROLE_WEIGHT : input == 2 ? PAPA_ROLE_BIAS : PAPA_ROLE_NONE;
}

static bool conv_linear(const PapaNode *node, PapaLinear *out)
{
    (void)node;
    *out = (PapaLinear){.weight = 1, .weight_axis = 0, .bias = 2, .bias_factor = 1};
    return true;
}

/* An attribute of n_spatial sizes, each >= 1; 1 where it is left out. */
static PapaStatus check_sizes(PapaNode *node, const char *name, const int64_t *sizes, size_t n, size_t n_spatial)
{
    if (sizes && n != n_spatial)
        return papa_node_fail(node, PAPA_ERR_FORMAT, "%s has %zu values, expected %zu", name, n, n_spatial);
    for (size_t i = 0; i < n; i++)
        if (sizes[i] < 1 || sizes[i] > INT32_MAX)
            return papa_node_fail(node, PAPA_ERR_FORMAT, "%s has the value %lld, expected at least 1", name, (long long)sizes[i]);
    return PAPA_OK;
}

static PapaStatus check_inputs(PapaNode *node)
{
    const ConvAttrs *attrs = node->attrs;
    const PapaShape *x = &node->in[0]->shape, *w = &node->in[1]->shape;
    for (int i = 0; i < node->n_in; i++)
        if (node->in[i])
            PAPA_TRY(papa_check_float(node, i));
    if (x->rank != 3 && x->rank != 4)
        return papa_node_fail(node, PAPA_ERR_UNSUPPORTED, "input of shape %s; convolutions run on rank 3 and 4", papa_shape_text(x));
    if (w->rank != x->rank)
        return papa_node_fail(node, PAPA_ERR_MISMATCH, "input of shape %s, but weight of shape %s", papa_shape_text(x), papa_shape_text(w));
    if (attrs->group < 1 || w->dim[0] % attrs->group || w->dim[1] != x->dim[1] / attrs->group || x->dim[1] % attrs->group)
        return papa_node_fail(node, PAPA_ERR_MISMATCH, "input of shape %s does not fit weight of shape %s with group %lld",
            papa_shape_text(x), papa_shape_text(w), (long long)attrs->group);
    if (papa_has_in(node, 2) && (node->in[2]->shape.rank != 1 || node->in[2]->shape.dim[0] != w->dim[0]))
        return papa_node_fail(node, PAPA_ERR_MISMATCH, "bias of shape %s, expected (%lld)", papa_shape_text(&node->in[2]->shape),
            (long long)w->dim[0]);

    size_t n_spatial = (size_t)x->rank - 2;
    PAPA_TRY(check_sizes(node, "kernel_shape", attrs->kernel_shape, attrs->n_kernel_shape, n_spatial));
    PAPA_TRY(check_sizes(node, "strides", attrs->strides, attrs->n_strides, n_spatial));
    PAPA_TRY(check_sizes(node, "dilations", attrs->dilations, attrs->n_dilations, n_spatial));
    if (attrs->pads && attrs->n_pads != 2 * n_spatial)
        return papa_node_fail(node, PAPA_ERR_FORMAT, "pads has %zu values, expected %zu", attrs->n_pads, 2 * n_spatial);
    for (size_t i = 0; i < n_spatial; i++) {
        int64_t size = w->dim[i + 2];
        if (size > INT32_MAX || (attrs->kernel_shape && attrs->kernel_shape[i] != size))
            return papa_node_fail(node, PAPA_ERR_MISMATCH, "weight of shape %s does not fit kernel_shape", papa_shape_text(w));
    }
    for (int k = 0; k < x->rank; k++)
        if (!w->dim[k] || (k > 0 && !x->dim[k])) /* a batch may be empty */
            return papa_node_fail(node, PAPA_ERR_MISMATCH, "input of shape %s and weight of shape %s, expected no axis of size 0", papa_shape_text(x),
                papa_shape_text(w));
    return PAPA_OK;
}

/* One spatial axis: its output size, and the padding in front and behind. */
static PapaStatus conv_axis(const PapaNode *node, size_t axis, int64_t in, int64_t window, int64_t stride, int64_t pads[2], int64_t *out)
{
    const ConvAttrs *attrs = node->attrs;
    pads[0] = pads[1] = 0;
    if (attrs->auto_pad == PAPA_PAD_SAME_UPPER || attrs->auto_pad == PAPA_PAD_SAME_LOWER) {
        papa_same_pads(attrs->auto_pad, in, window, stride, &pads[0], &pads[1]);
    } else if (attrs->pads) {
        pads[0] = attrs->pads[axis];
        pads[1] = attrs->pads[axis + attrs->n_pads / 2];
    }
    if (pads[0] < 0 || pads[1] < 0 || pads[0] > INT32_MAX || pads[1] > INT32_MAX)
        return papa_node_fail(node, PAPA_ERR_UNSUPPORTED, "pads of %lld and %lld, expected 0 or more", (long long)pads[0],
            (long long)pads[1]);
    int64_t room = in + pads[0] + pads[1] - window;
    if (room < 0)
        return papa_node_fail(node, PAPA_ERR_MISMATCH, "the kernel spans %lld, but the padded input of shape %s only %lld",
            (long long)window, papa_shape_text(&node->in[0]->shape), (long long)(room + window));
    *out = room / stride + 1;
    return PAPA_OK;
}

static PapaStatus conv_shape(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    PAPA_TRY(check_inputs(node));
    ConvAttrs *attrs = node->attrs;
    const PapaShape *x = &node->in[0]->shape, *w = &node->in[1]->shape;
    size_t n_spatial = (size_t)x->rank - 2;
    int64_t in[2] = {1, 1}, kernel[2] = {1, 1}, stride[2] = {1, 1}, dilation[2] = {1, 1}, pads[2][2] = {{0}}, out[2] = {1, 1};
    PapaShape y = {.rank = x->rank, .dim = {x->dim[0], w->dim[0]}};
    for (size_t i = 0; i < n_spatial; i++) {
        size_t k = i + 2 - n_spatial; /* a sequence is an image of height 1 */
        in[k] = x->dim[i + 2];
        kernel[k] = w->dim[i + 2];
        stride[k] = attrs->strides ? attrs->strides[i] : 1;
        dilation[k] = attrs->dilations ? attrs->dilations[i] : 1;
        PAPA_TRY(conv_axis(node, i, in[k], dilation[k] * (kernel[k] - 1) + 1, stride[k], pads[k], &out[k]));
        y.dim[i + 2] = out[k];
    }
    attrs->desc = (PapaConvDesc){
        .N = x->dim[0], .H = in[0], .W = in[1], .C = x->dim[1],
        .K = w->dim[0], .R = kernel[0], .S = kernel[1], .OH = out[0], .OW = out[1],
        .stride = {stride[0], stride[1]}, .dilation = {dilation[0], dilation[1]},
        .pad = {pads[0][0], pads[1][0], pads[0][1], pads[1][1]}, .groups = attrs->group,
    };
    return papa_set_output(node, 0, node->in[0]->type, &y);
}

static unsigned conv_float32(const PapaNode *node)
{
    (void)node;
    return 1u << 1 | 1u << 2;
}

static unsigned conv_keeps(const PapaNode *node, const PapaGraph *graph)
{
    (void)graph;
    return PAPA_KEEP_IN(0) | PAPA_KEEP_IN(1) | (node->relu ? PAPA_KEEP_OUT(0) : 0);
}

static PapaStatus conv_prepare(PapaNode *node, const PapaGraph *graph, PapaDevice *dev)
{
    PapaConvDesc desc = ((const ConvAttrs *)node->attrs)->desc;
    bool training = graph->mode == PAPA_MODE_TRAIN;
    desc.bias = papa_has_in(node, 2);
    desc.relu = node->relu;
    PapaConv *conv;
    PapaStatus status = PAPA_FORWARD_KERNEL(dev, papa_conv_create)(dev, &conv, &desc, training);
    if (status != PAPA_OK)
        return papa_fail_in(status, "%s", node->label);
    node->plan = conv;
    node->forward_workspace_bytes = PAPA_FORWARD_KERNEL(dev, papa_conv_workspace)(conv, PAPA_CONV_FWD);
    if (training) {
        size_t data = PAPA_FORWARD_KERNEL(dev, papa_conv_workspace)(conv, PAPA_CONV_BWD_DATA);
        size_t weights = PAPA_FORWARD_KERNEL(dev, papa_conv_workspace)(conv, PAPA_CONV_BWD_WEIGHTS);
        node->backward_workspace_bytes = data > weights ? data : weights;
    }
    return PAPA_OK;
}

static void conv_release(PapaNode *node, PapaDevice *dev)
{
    PAPA_FORWARD_KERNEL(dev, papa_conv_free)(node->plan);
    node->plan = NULL;
}

static PapaStatus conv_forward(const PapaNode *node, const PapaRun *run)
{
    return PAPA_FORWARD_KERNEL(run->dev, papa_conv_fwd)(run->dev, node->plan, papa_out(run, node, 0), papa_in(run, node, 0), papa_in(run, node, 1),
        papa_in(run, node, 2), papa_forward_workspace(run, node));
}

static PapaStatus conv_backward(const PapaNode *node, const PapaRun *run)
{
    PapaDevice *dev = run->dev;
    const PapaConvDesc *desc = &((const ConvAttrs *)node->attrs)->desc;
    void *workspace = papa_backward_workspace(run, node);
    PapaReal *dy = papa_dout(run, node, 0), *dx = papa_din(run, node, 0);
    float *dw = papa_din(run, node, 1), *db = papa_din(run, node, 2);
    int64_t n_rows = desc->N * desc->OH * desc->OW;
    if (node->relu)
        PAPA_TRY(PAPA_KERNEL(dev, papa_relu_bwd)(dev, dy, dy, papa_out(run, node, 0), n_rows * desc->K, false));
    if (dx)
        PAPA_TRY(PAPA_KERNEL(dev, papa_conv_bwd_data)(dev, node->plan, dx, dy, papa_in(run, node, 1), workspace,
            papa_din_accumulate(run, node, 0)));
    /* One pass gives both gradients where it may treat them alike: a weight of several nodes can have a bias of its own in each. */
    bool joined = dw && db && papa_din_accumulate(run, node, 1) == papa_din_accumulate(run, node, 2);
    if (dw)
        PAPA_TRY(PAPA_KERNEL(dev, papa_conv_bwd_weights)(dev, node->plan, dw, joined ? db : NULL, papa_in(run, node, 0), dy, workspace,
            papa_din_accumulate(run, node, 1)));
    if (db && !joined)
        PAPA_TRY(PAPA_KERNEL(dev, papa_colsum)(dev, db, dy, n_rows, desc->K, desc->K, papa_din_accumulate(run, node, 2)));
    return PAPA_OK;
}

/* Whether all that read the weight are convolutions with so many groups. */
static bool is_grouped_everywhere(const PapaUnits *units, const PapaNode *node)
{
    const PapaValue *weight = node->in[1];
    int uses = 0;
    for (int k = 0; k < units->graph->n_nodes; k++) {
        const PapaNode *reader = units->graph->nodes[k];
        uses += reader->op == node->op && reader->in[1] == weight && ((const ConvAttrs *)reader->attrs)->group == ((const ConvAttrs *)node->attrs)->group;
    }
    return weight->kind == PAPA_VALUE_TENSOR && uses == papa_graph_uses(units->graph, weight);
}

/* Row block q of the weight has columns of its own: those that read the channels of group q. Positions for all of them. */
static PapaPositions *columns_of(PapaUnits *units, const PapaValue *weight, int64_t groups)
{
    const PapaShape *shape = &weight->shape;
    const int64_t K = shape->dim[0] / groups, C = shape->dim[1], window = papa_shape_count_from(shape, 2, shape->rank);
    for (int64_t i = 0; i < units->n_places; i++)
        if (units->places[i].value == weight && units->places[i].axis == 1 && units->places[i].positions->n == groups * C)
            return (PapaPositions *)units->places[i].positions;
    PapaPositions *columns = papa_units_list(units, groups * C);
    for (int64_t i = 0; columns && i < groups * C; i++)
        columns->at[i].unit = papa_units_fresh(units);
    if (columns)
        papa_units_add_place(units, &(PapaPlace){.value = weight, .axis = 1, .positions = columns, .per = C, .far = K * C * window, .near = window,
            .n = {K, window}, .stride = {C * window, 1}});
    return columns;
}

/* Channels, and rows of the weight, stay in their group. */
static void hold_groups(PapaUnits *units, const PapaNode *node, PapaSpace *x, const PapaSpace *w, int64_t groups)
{
    const int64_t K = w->shape.dim[0] / groups, C = w->shape.dim[1];
    PapaPositions *rows = w->axis[0].positions;
    int condition = papa_units_condition(units);
    for (int64_t i = 0; rows && i < groups * K; i++)
        papa_units_mark(units, rows->at[i], condition, i / K);
    if (!is_grouped_everywhere(units, node)) {
        papa_units_fix(units, x, 1, "its weight is grouped, and computed or of other use too");
        return;
    }
    PapaSpace columns = {.name = x->name, .shape = {1, {groups * C}}, .axis = {{columns_of(units, node->in[1], groups), 1, 0}}};
    PapaPositions *list = columns.axis[0].positions;
    condition = papa_units_condition(units);
    for (int64_t i = 0; list && i < groups * C; i++)
        papa_units_mark(units, list->at[i], condition, i / C);
    papa_units_tie(units, x, 1, &columns, 0);
}

/* Each group is a unit, whose parts are its channels. axis: of x, n channels to a group. */
static void tie_groups(PapaUnits *units, PapaSpace *x, int axis, int64_t groups, int64_t n, int32_t first)
{
    PapaSpace parts = {.name = x->name, .shape = {1, {groups * n}}, .axis = {{papa_units_list(units, groups * n), 1, 0}}};
    PapaPositions *list = parts.axis[0].positions;
    for (int64_t i = 0; list && !units->failed && i < groups * n; i++)
        list->at[i] = (PapaPosition){first + (int32_t)(i / n), n == 1 ? 0 : papa_units_part(units, 0, (int32_t)(i % n)), 0};
    papa_units_tie(units, x, axis, &parts, 0);
}

/* Along an axis on which the window is 1 wide every index is treated alike, and by itself. */
static bool is_pointwise(const PapaNode *node, int axis)
{
    const ConvAttrs *attrs = node->attrs;
    return node->in[1]->shape.dim[axis] == 1 && (!attrs->strides || attrs->strides[axis - 2] == 1) &&
        node->out[0]->shape.dim[axis] == node->in[0]->shape.dim[axis];
}

static void conv_units(const PapaNode *node, PapaUnits *units)
{
    const int64_t groups = ((const ConvAttrs *)node->attrs)->group;
    PapaSpace x = papa_units_in(units, node, 0), w = papa_units_in(units, node, 1), bias = papa_units_in(units, node, 2);
    PapaSpace *y = papa_units_out(units, node, 0);
    const int64_t K = w.shape.dim[0] / groups, C = w.shape.dim[1];
    papa_units_plain(units, &x, 1);
    papa_units_plain(units, &w, 0);
    for (int k = 2; k < x.shape.rank; k++) {
        if (!is_pointwise(node, k))
            papa_units_fix(units, &x, k, "its window slides along them");
        papa_units_fix(units, &w, k, "");
    }
    for (int k = 2; k < x.shape.rank; k++) /* where a bundle was fixed all of its axes are */
        y->axis[k] = x.axis[k];
    y->axis[0] = x.axis[0];
    y->axis[1] = w.axis[0];
    if (groups == 1) {
        papa_units_tie(units, &x, 1, &w, 1);
    } else {
        papa_units_fix(units, &w, 1, "");
        if (K == 1 && C == 1) {
            y->axis[1] = papa_units_tie(units, &x, 1, &w, 0);
        } else if (units->blocks) {
            int32_t first = papa_units_fresh(units);
            for (int64_t q = 1; q < groups; q++)
                papa_units_fresh(units);
            tie_groups(units, &x, 1, groups, C, first);
            tie_groups(units, &w, 0, groups, K, first);
        } else {
            units->has_blocks = true;
            hold_groups(units, node, &x, &w, groups);
        }
    }
    if (bias.shape.rank)
        y->axis[1] = papa_units_tie(units, y, 1, &bias, 0);
}

const PapaOp papa_ops_conv[] = {
    {.type = "Conv", .since = 7, .min_in = 2, .max_in = 3, .min_out = 1, .max_out = 1, .attrs_bytes = sizeof(ConvAttrs),
        .init = conv_init, .role = conv_role, .linear = conv_linear, .shape = conv_shape, .units = conv_units, .layout = papa_layout_channels_last,
        .fuses = PAPA_FUSE_RELU,
        .float32 = conv_float32, .keeps = conv_keeps, .prepare = conv_prepare, .release = conv_release, .forward = conv_forward, .backward = conv_backward},
    {0},
};
