/* cuDNN's stand-in: which attributes each type of descriptor has, of which type, how many elements, and which must be set. */
#include "cudaemu_cudnn.h"

namespace cudaemu::dnn {
namespace {

constexpr int64_t kMostDims = 8, kMostOperations = 50, kMostTensors = 256, kMostText = 1 << 20;

#define NEED(name, type, least, most) {name, #name, type, least, most, Rule::required, -1}
#define MAY(name, type, least, most) {name, #name, type, least, most, Rule::optional, -1}
#define READ(name, type) {name, #name, type, 0, INT64_MAX, Rule::read_only, -1}
#define LINK(name, most, refers) {name, #name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, most, Rule::required, refers}
#define MAY_LINK(name, refers) {name, #name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1, Rule::optional, refers}
#define READ_LINK(name, refers) {name, #name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, INT64_MAX, Rule::read_only, refers}
#define KIND(type) type, #type

constexpr int kTensor = CUDNN_BACKEND_TENSOR_DESCRIPTOR, kConvolution = CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR,
              kDevice = CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, kGraph = CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR;
constexpr int kAnyOperation = -2;

const std::vector<Kind> &kinds()
{
    static const std::vector<Kind> all = {
        {KIND(CUDNN_BACKEND_TENSOR_DESCRIPTOR),
            {NEED(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, 1), NEED(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 1, kMostDims),
                NEED(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 1, kMostDims), NEED(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, 1),
                NEED(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, 1), MAY(CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, 1),
                MAY(CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, 1)},
            finalise_tensor},
        {KIND(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR),
            {NEED(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, 1), NEED(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, 1),
                NEED(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, 1),
                NEED(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 1, kMostDims),
                NEED(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 1, kMostDims),
                NEED(CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 1, kMostDims),
                NEED(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 1, kMostDims)},
            finalise_convolution},
        {KIND(CUDNN_BACKEND_POINTWISE_DESCRIPTOR),
            {NEED(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, 1), NEED(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, 1)},
            finalise_pointwise},
        {KIND(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR),
            {LINK(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, 1, kTensor), LINK(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, 1, kTensor),
                LINK(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, 1, kTensor),
                LINK(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, 1, kConvolution),
                NEED(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_TYPE_FLOAT, 1, 1),
                NEED(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, CUDNN_TYPE_FLOAT, 1, 1)},
            finalise_forward},
        {KIND(CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR),
            {LINK(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, 1, kTensor), LINK(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, 1, kTensor),
                LINK(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, 1, kTensor),
                LINK(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, 1, kConvolution),
                NEED(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_TYPE_FLOAT, 1, 1),
                NEED(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA, CUDNN_TYPE_FLOAT, 1, 1)},
            finalise_data},
        {KIND(CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR),
            {LINK(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, 1, kTensor), LINK(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, 1, kTensor),
                LINK(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, 1, kTensor),
                LINK(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, 1, kConvolution),
                NEED(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, CUDNN_TYPE_FLOAT, 1, 1),
                NEED(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA, CUDNN_TYPE_FLOAT, 1, 1)},
            finalise_filter},
        {KIND(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR),
            {LINK(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, 1, CUDNN_BACKEND_POINTWISE_DESCRIPTOR),
                LINK(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, 1, kTensor), MAY_LINK(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, kTensor),
                LINK(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, 1, kTensor), MAY(CUDNN_ATTR_OPERATION_POINTWISE_ALPHA1, CUDNN_TYPE_FLOAT, 1, 1),
                MAY(CUDNN_ATTR_OPERATION_POINTWISE_ALPHA2, CUDNN_TYPE_FLOAT, 1, 1)},
            finalise_element_wise},
        {KIND(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR),
            {LINK(CUDNN_ATTR_OPERATIONGRAPH_OPS, kMostOperations, kAnyOperation), MAY(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, 1)},
            finalise_graph},
        {KIND(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR), {NEED(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, 1, kMostText)},
            finalise_device},
        {KIND(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR),
            {LINK(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, 1, kGraph), NEED(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, 1),
                MAY_LINK(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, kDevice),
                READ_LINK(CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR)},
            finalise_heuristics},
        {KIND(CUDNN_BACKEND_ENGINE_DESCRIPTOR),
            {READ_LINK(CUDNN_ATTR_ENGINE_OPERATION_GRAPH, kGraph), READ(CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64),
                READ(CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE), READ(CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE)},
            finalise_engine},
        {KIND(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR),
            {READ_LINK(CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_BACKEND_ENGINE_DESCRIPTOR), READ(CUDNN_ATTR_ENGINECFG_WORKSPACE_SIZE, CUDNN_TYPE_INT64)},
            finalise_configuration},
        {KIND(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR),
            {LINK(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, 1, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR),
                MAY(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, 1), MAY_LINK(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, kDevice),
                READ(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64)},
            finalise_plan},
        {KIND(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR),
            {NEED(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, 1, kMostTensors),
                NEED(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, 1, kMostTensors),
                MAY(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, 1)},
            finalise_pack},
    };
    return all;
}

} // namespace

const Kind *find_kind(int type)
{
    for (const Kind &kind : kinds())
        if (kind.type == type)
            return &kind;
    return nullptr;
}

const Rule *find_rule(const Kind &kind, int name)
{
    for (const Rule &rule : kind.rules)
        if (rule.name == name)
            return &rule;
    return nullptr;
}

bool is_declared(int name)
{
    for (const Kind &kind : kinds())
        if (find_rule(kind, name))
            return true;
    return false;
}

bool refers_to(const Rule &rule, int type)
{
    if (rule.refers != kAnyOperation)
        return rule.refers == type;
    return type == CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR || type == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR ||
        type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR ||
        type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR;
}

std::size_t element_bytes(cudnnBackendAttributeType_t type)
{
    switch (type) {
    case CUDNN_TYPE_BOOLEAN:
    case CUDNN_TYPE_CHAR:
        return 1;
    case CUDNN_TYPE_DATA_TYPE:
    case CUDNN_TYPE_FLOAT:
    case CUDNN_TYPE_CONVOLUTION_MODE:
    case CUDNN_TYPE_HEUR_MODE:
    case CUDNN_TYPE_NUMERICAL_NOTE:
    case CUDNN_TYPE_POINTWISE_MODE:
    case CUDNN_TYPE_BEHAVIOR_NOTE:
        return 4;
    default:
        return 8;
    }
}

} // namespace cudaemu::dnn
