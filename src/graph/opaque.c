/* Nodes that are not understood, or can't be run. They pin what touches them; what lies behind is seen only where the shapes of their outputs are known:
 * by the file's word, or for ONNX's own operators by what the specification says of their shapes. A shape that is told here must be right:
 * where anything is out of the ordinary none is. */
#include "graph/op.h"
#include "graph/window.h"

#include <math.h>
#include <string.h>

/* ---------------------------------------------------------------- the file's word */

static const Onnx__TypeProto__Tensor *declared_type(const PapaGraph *graph, const char *name)
{
    const Onnx__GraphProto *proto = papa_onnx_graph(graph->onnx);
    for (size_t i = 0; i < proto->n_value_info; i++)
        if (proto->value_info[i]->name && strcmp(proto->value_info[i]->name, name) == 0)
            return papa_tensor_type(proto->value_info[i]);
    for (size_t i = 0; i < proto->n_output; i++)
        if (strcmp(proto->output[i]->name, name) == 0)
            return papa_tensor_type(proto->output[i]);
    return NULL;
}

PapaStatus papa_graph_declared_shape(PapaShape *out, const Onnx__ValueInfoProto *info, int64_t batch, int64_t open)
{
    const Onnx__TypeProto__Tensor *type = papa_tensor_type(info);
    if (!type || !type->shape || type->shape->n_dim > PAPA_MAX_RANK)
        return papa_fail(PAPA_ERR_UNSUPPORTED, "'%s' is declared without a shape, or with a rank beyond %d", info->name, PAPA_MAX_RANK);
    out->rank = (int)type->shape->n_dim;
    for (int k = 0; k < out->rank; k++) {
        const Onnx__TensorShapeProto__Dimension *dim = type->shape->dim[k];
        out->dim[k] = dim->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE && dim->dim_value > 0 ? dim->dim_value :
            k ? open : batch;
    }
    return PAPA_OK;
}

/* Outputs whose declared shape leaves nothing open have it, where none is known. */
static PapaStatus declared_shapes(PapaNode *node, const PapaGraph *graph)
{
    for (int i = 0; i < node->n_out; i++) {
        const bool wanted = papa_has_out(node, i) && !node->out[i]->has_shape;
        const Onnx__TypeProto__Tensor *type = wanted ? declared_type(graph, node->out[i]->name) : NULL;
        PapaShape shape = {.rank = type && type->shape && type->shape->n_dim <= PAPA_MAX_RANK ? (int)type->shape->n_dim : -1};
        bool known = shape.rank >= 0;
        for (int k = 0; k < shape.rank; k++) {
            const Onnx__TensorShapeProto__Dimension *dim = type->shape->dim[k];
            known &= dim->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
            shape.dim[k] = dim->dim_value;
        }
        if (known)
            PAPA_TRY(papa_set_output(node, i, type->elem_type, &shape));
    }
    return PAPA_OK;
}

/* ---------------------------------------------------------------- the specification's
 * Each finds output 0's shape, or says that it doesn't know. Inputs are there and have shapes. */

typedef bool shape_fn(PapaShape *y, const PapaNode *node);

static const PapaShape *shape_in(const PapaNode *node, int i)
{
    return papa_has_in(node, i) ? &node->in[i]->shape : NULL;
}

static bool same_shape(PapaShape *y, const PapaNode *node)
{
    *y = *shape_in(node, 0);
    return true;
}

static bool broadcast_shape(PapaShape *y, const PapaNode *node)
{
    *y = (PapaShape){0};
    for (int i = 0; i < node->n_in; i++) {
        const PapaShape so_far = *y;
        if (!papa_has_in(node, i) || papa_broadcast(node, &so_far, shape_in(node, i), y) != PAPA_OK)
            return false;
    }
    return true;
}

/* n integers of an attribute; fallback where it is left out. */
static bool read_ints(const PapaNode *node, const char *name, size_t n, int64_t fallback, int64_t *out)
{
    const int64_t *values;
    size_t count;
    if (papa_attr_ints(node->proto, name, &values, &count) != PAPA_OK || (count && count != n))
        return false;
    for (size_t i = 0; i < n; i++) {
        out[i] = count ? values[i] : fallback;
        if (out[i] < 0 || out[i] > INT32_MAX)
            return false;
    }
    return true;
}

/* What slides over the axes behind the channels: its window, and how. */
typedef struct Slide {
    int n;
    PapaAutoPad auto_pad;
    int64_t window[PAPA_MAX_RANK], stride[PAPA_MAX_RANK], dilation[PAPA_MAX_RANK], pads[2 * PAPA_MAX_RANK];
} Slide;

static bool read_slide(Slide *slide, const PapaNode *node, const int64_t *window)
{
    const size_t n = (size_t)(shape_in(node, 0)->rank - 2);
    *slide = (Slide){.n = (int)n};
    if (shape_in(node, 0)->rank < 3 || papa_attr_auto_pad(node, &slide->auto_pad) != PAPA_OK || !read_ints(node, "strides", n, 1, slide->stride) ||
        !read_ints(node, "dilations", n, 1, slide->dilation) || !read_ints(node, "pads", 2 * n, 0, slide->pads))
        return false;
    if (window)
        memcpy(slide->window, window, n * sizeof *window);
    else if (!read_ints(node, "kernel_shape", n, 0, slide->window))
        return false;
    for (size_t i = 0; i < n; i++)
        if (slide->window[i] < 1 || slide->stride[i] < 1 || slide->dilation[i] < 1)
            return false;
    return true;
}

static bool slide_over(PapaShape *y, const PapaNode *node, const Slide *slide)
{
    int64_t ceil_mode;
    if (papa_attr_int(node->proto, "ceil_mode", 0, &ceil_mode) != PAPA_OK || ceil_mode)
        return false;
    for (int i = 0; i < slide->n; i++) {
        const int64_t in = shape_in(node, 0)->dim[i + 2], span = (slide->window[i] - 1) * slide->dilation[i] + 1;
        const int64_t room = in + slide->pads[i] + slide->pads[i + slide->n] - span;
        const bool same = slide->auto_pad == PAPA_PAD_SAME_UPPER || slide->auto_pad == PAPA_PAD_SAME_LOWER;
        if (!same && room < 0)
            return false;
        y->dim[i + 2] = same ? (in + slide->stride[i] - 1) / slide->stride[i] : room / slide->stride[i] + 1;
    }
    return true;
}

static bool conv_shape(PapaShape *y, const PapaNode *node)
{
    const PapaShape *x = shape_in(node, 0), *w = shape_in(node, 1);
    Slide slide;
    *y = *x;
    if (w->rank != x->rank || !read_slide(&slide, node, w->dim + 2))
        return false;
    y->dim[1] = w->dim[0];
    return slide_over(y, node, &slide);
}

static bool pool_shape(PapaShape *y, const PapaNode *node)
{
    Slide slide;
    *y = *shape_in(node, 0);
    return node->n_out == 1 && read_slide(&slide, node, NULL) && slide_over(y, node, &slide);
}

static bool global_pool_shape(PapaShape *y, const PapaNode *node)
{
    *y = *shape_in(node, 0);
    for (int k = 2; k < y->rank; k++)
        y->dim[k] = 1;
    return true;
}

static bool conv_transpose_shape(PapaShape *y, const PapaNode *node)
{
    const PapaShape *x = shape_in(node, 0), *w = shape_in(node, 1);
    int64_t group, more[PAPA_MAX_RANK];
    Slide slide;
    *y = *x;
    if (w->rank != x->rank || !read_slide(&slide, node, w->dim + 2) || slide.auto_pad != PAPA_PAD_GIVEN || papa_attr_find(node->proto, "output_shape") ||
        papa_attr_int(node->proto, "group", 1, &group) != PAPA_OK || !read_ints(node, "output_padding", (size_t)slide.n, 0, more))
        return false;
    y->dim[1] = w->dim[1] * group;
    for (int i = 0; i < slide.n; i++)
        y->dim[i + 2] = (x->dim[i + 2] - 1) * slide.stride[i] + more[i] + (slide.window[i] - 1) * slide.dilation[i] + 1 - slide.pads[i] - slide.pads[i + slide.n];
    return true;
}

/* By sizes (input 3), or by scales (2; 1 before opset 11), for all axes and as they are. */
static bool resize_shape(PapaShape *y, const PapaNode *node)
{
    const PapaShape *x = shape_in(node, 0);
    const int at = node->opset < 11 ? 1 : 2;
    const PapaValue *sizes = papa_has_in(node, 3) ? node->in[3] : NULL, *scales = papa_has_in(node, at) ? node->in[at] : NULL;
    const bool by_sizes = sizes && papa_shape_count(&sizes->shape) > 0;
    const PapaValue *by = by_sizes ? sizes : scales;
    if (!by || by->kind != PAPA_VALUE_CONSTANT || !by->data || papa_shape_count(&by->shape) != x->rank || papa_attr_find(node->proto, "axes") ||
        papa_attr_find(node->proto, "keep_aspect_ratio_policy") || by_sizes == papa_type_is_float(by->type))
        return false;
    *y = *x;
    for (int k = 0; k < x->rank; k++)
        y->dim[k] = by_sizes ? ((const int64_t *)by->data)[k] : (int64_t)floor((double)x->dim[k] * (double)((const float *)by->data)[k]);
    return true;
}

/* A block of the image becomes channels, or the other way. */
static bool block_shape(PapaShape *y, const PapaNode *node)
{
    const bool to_space = strcmp(node->proto->op_type, "DepthToSpace") == 0;
    int64_t size;
    *y = *shape_in(node, 0);
    if (y->rank != 4 || papa_attr_int(node->proto, "blocksize", 0, &size) != PAPA_OK || size < 1 || size > INT16_MAX)
        return false;
    y->dim[1] = to_space ? y->dim[1] / (size * size) : y->dim[1] * size * size;
    for (int k = 2; k < 4; k++)
        y->dim[k] = to_space ? y->dim[k] * size : y->dim[k] / size;
    return true;
}

/* Axes as attribute or as input 1, of which all are meant where none is given; ArgMax has one. */
static bool reduce_shape(PapaShape *y, const PapaNode *node)
{
    const PapaShape *x = shape_in(node, 0);
    const int64_t *axes;
    int64_t keep, n, nothing, axis = 0;
    size_t count;
    const bool one = strncmp(node->proto->op_type, "Arg", 3) == 0;
    if (papa_attr_ints(node->proto, "axes", &axes, &count) != PAPA_OK || papa_attr_int(node->proto, "keepdims", 1, &keep) != PAPA_OK ||
        papa_attr_int(node->proto, "noop_with_empty_axes", 0, &nothing) != PAPA_OK || papa_attr_int(node->proto, "axis", 0, &axis) != PAPA_OK || nothing)
        return false;
    n = (int64_t)count;
    if (papa_has_in(node, 1) && papa_const_ints(node, 1, &axes, &n) != PAPA_OK)
        return false;
    if (one)
        axes = &axis, n = 1;
    bool gone[PAPA_MAX_RANK];
    for (int k = 0; k < x->rank; k++)
        gone[k] = !n;
    for (int64_t i = 0; i < n; i++) {
        int k;
        if (papa_check_axis(node, axes[i], x->rank, &k) != PAPA_OK)
            return false;
        gone[k] = true;
    }
    *y = (PapaShape){0};
    for (int k = 0; k < x->rank; k++)
        if (keep || !gone[k])
            y->dim[y->rank++] = gone[k] ? 1 : x->dim[k];
    return true;
}

/* Sequence, directions, batch, hidden. */
static bool recurrent_shape(PapaShape *y, const PapaNode *node)
{
    const PapaShape *x = shape_in(node, 0), *r = shape_in(node, 2);
    int64_t layout;
    if (!r || x->rank != 3 || r->rank != 3 || papa_attr_int(node->proto, "layout", 0, &layout) != PAPA_OK || layout)
        return false;
    *y = (PapaShape){4, {x->dim[0], r->dim[0], x->dim[1], r->dim[2]}};
    return true;
}

static bool gather_shape(PapaShape *y, const PapaNode *node)
{
    const PapaShape *x = shape_in(node, 0), *indices = shape_in(node, 1);
    int64_t file_axis;
    int axis;
    if (!indices || papa_attr_int(node->proto, "axis", 0, &file_axis) != PAPA_OK || papa_check_axis(node, file_axis, x->rank, &axis) != PAPA_OK ||
        x->rank - 1 + indices->rank > PAPA_MAX_RANK)
        return false;
    *y = (PapaShape){0};
    for (int k = 0; k < x->rank; k++)
        for (int i = 0; i < (k == axis ? indices->rank : 1); i++)
            y->dim[y->rank++] = k == axis ? indices->dim[i] : x->dim[k];
    return true;
}

/* "bhid,bhjd->bhij", letters only. */
static bool einsum_shape(PapaShape *y, const PapaNode *node)
{
    const char *at;
    int64_t size[256] = {0};
    int operand = 0, axis = 0;
    if (papa_attr_string(node->proto, "equation", "", &at) != PAPA_OK || !strstr(at, "->"))
        return false;
    for (; *at != '-'; at++) {
        if (*at == ',') {
            operand++, axis = 0;
        } else if (*at != ' ') {
            if (*at == '.' || operand >= node->n_in || axis >= shape_in(node, operand)->rank)
                return false;
            size[(unsigned char)*at] = shape_in(node, operand)->dim[axis++];
        }
    }
    *y = (PapaShape){0};
    for (at += 2; *at; at++)
        if (*at != ' ') {
            if (y->rank == PAPA_MAX_RANK)
                return false;
            y->dim[y->rank++] = size[(unsigned char)*at];
        }
    return true;
}

enum { AS_FIRST = -1, AS_LAST = -2 };

static const struct Known {
    const char *types; /* each between spaces */
    shape_fn *shape;
    int type;          /* of the output; AS_FIRST, AS_LAST: as that input's */
} knowledge[] = {
    {" InstanceNormalization GroupNormalization RMSNormalization LRN LpNormalization MeanVarianceNormalization ThresholdedRelu Shrink Hardmax Sin Cos "
     "Tan Asin Acos Atan Sinh Cosh Asinh Acosh Atanh Floor Ceil Round Sign CumSum Trilu ", same_shape, AS_FIRST},
    {" Not IsNaN IsInf ", same_shape, ONNX__TENSOR_PROTO__DATA_TYPE__BOOL},
    {" Max Min Mean Pow PRelu ", broadcast_shape, AS_FIRST},
    {" Where ", broadcast_shape, AS_LAST},
    {" And Or Xor Equal Less LessOrEqual Greater GreaterOrEqual ", broadcast_shape, ONNX__TENSOR_PROTO__DATA_TYPE__BOOL},
    {" Conv ", conv_shape, AS_FIRST},
    {" MaxPool AveragePool LpPool ", pool_shape, AS_FIRST},
    {" GlobalMaxPool GlobalAveragePool GlobalLpPool ", global_pool_shape, AS_FIRST},
    {" ConvTranspose ", conv_transpose_shape, AS_FIRST},
    {" Resize Upsample ", resize_shape, AS_FIRST},
    {" DepthToSpace SpaceToDepth ", block_shape, AS_FIRST},
    {" ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMin ReduceProd ReduceSumSquare ", reduce_shape, AS_FIRST},
    {" ArgMax ArgMin ", reduce_shape, ONNX__TENSOR_PROTO__DATA_TYPE__INT64},
    {" LSTM GRU RNN ", recurrent_shape, AS_FIRST},
    {" Gather ", gather_shape, AS_FIRST},
    {" Einsum ", einsum_shape, AS_FIRST},
};

static const struct Known *find_known(const Onnx__NodeProto *proto)
{
    char type[64];
    if (!proto || (proto->domain && *proto->domain && strcmp(proto->domain, "ai.onnx") != 0) || strlen(proto->op_type) > sizeof type - 3)
        return NULL;
    type[0] = ' ';
    strcpy(type + 1, proto->op_type);
    strcat(type, " ");
    for (size_t i = 0; i < sizeof knowledge / sizeof *knowledge; i++)
        if (strstr(knowledge[i].types, type))
            return &knowledge[i];
    return NULL;
}

/* Y has been found; the last hidden and cell states. */
static PapaStatus set_states(PapaNode *node, const PapaShape *y, int type)
{
    const PapaShape state = {3, {y->dim[1], y->dim[2], y->dim[3]}};
    PAPA_TRY(papa_set_output(node, 1, type, &state));
    return papa_set_output(node, 2, type, &state);
}

static PapaStatus known_shapes(PapaNode *node)
{
    const struct Known *known = find_known(node->proto);
    PapaShape y;
    if (papa_node_is_blind(node) || !known || !papa_has_in(node, 0) || !known->shape(&y, node))
        return PAPA_OK;
    for (int k = 0; k < y.rank; k++)
        if (y.dim[k] < 1)
            return PAPA_OK;
    const int type = known->type == AS_FIRST ? node->in[0]->type : known->type == AS_LAST ? node->in[node->n_in - 1]->type : known->type;
    PAPA_TRY(papa_set_output(node, 0, type, &y));
    return known->shape == recurrent_shape ? set_states(node, &y, type) : PAPA_OK;
}

static PapaStatus opaque_shape(PapaNode *node, PapaGraph *graph)
{
    PAPA_TRY(known_shapes(node));
    return declared_shapes(node, graph);
}

const PapaOp papa_op_opaque = {.type = "(not understood)", .domain = PAPA_OWN_DOMAIN, .since = 1, .max_in = -1, .min_out = 1, .max_out = -1,
    .shape = opaque_shape};
