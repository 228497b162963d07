/* cuDNN's stand-in: tensors, operations and graphs: whether they make sense, and what they mean. */
#include "cudaemu_cudnn.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <set>

namespace cudaemu::dnn {

int64_t Tensor::count() const
{
    int64_t n = 1;
    for (int64_t dim : dims)
        n *= dim;
    return n;
}

std::vector<const Tensor *> Operation::inputs() const
{
    std::vector<const Tensor *> all;
    if (pass != Pass::data)
        all.push_back(&x);
    if (pass != Pass::filter && has_w)
        all.push_back(&w);
    if (pass == Pass::data || pass == Pass::filter)
        all.push_back(&y);
    return all;
}

namespace {

bool same(const Tensor &a, const Tensor &b)
{
    return a.type == b.type && a.dims == b.dims && a.strides == b.strides && a.uid == b.uid && a.alignment == b.alignment && a.is_virtual == b.is_virtual;
}

std::vector<const Tensor *> tensors(const Operation &operation)
{
    std::vector<const Tensor *> all = operation.inputs();
    all.push_back(&operation.output());
    return all;
}

/* Whether different indices are different places. */
bool is_injective(const Tensor &tensor)
{
    std::vector<std::pair<int64_t, int64_t>> order; /* stride, dimension */
    for (std::size_t i = 0; i < tensor.dims.size(); i++)
        if (tensor.dims[i] > 1)
            order.emplace_back(tensor.strides[i], tensor.dims[i]);
    std::sort(order.begin(), order.end());
    int64_t reach = 0; /* of the dimensions so far: the last place */
    for (auto [stride, dim] : order) {
        if (stride <= reach)
            return false;
        reach += stride * (dim - 1);
    }
    return true;
}

} // namespace

cudnnStatus_t finalise_tensor(Descriptor &d)
{
    Tensor tensor = {d.one<cudnnDataType_t>(CUDNN_ATTR_TENSOR_DATA_TYPE), d.all<int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS),
        d.all<int64_t>(CUDNN_ATTR_TENSOR_STRIDES), d.one<int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID), d.one<int64_t>(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT),
        d.one<bool>(CUDNN_ATTR_TENSOR_IS_VIRTUAL, false)};
    if (tensor.type != CUDNN_DATA_FLOAT && tensor.type != CUDNN_DATA_BFLOAT16)
        fault("a tensor's data type %d is not modelled", tensor.type);
    if (d.one<bool>(CUDNN_ATTR_TENSOR_IS_BY_VALUE, false))
        fault("tensors by value are not modelled");
    if (tensor.dims.size() != tensor.strides.size())
        return refuse(CUDNN_STATUS_BAD_PARAM, "a tensor has %zu dimensions and %zu strides", tensor.dims.size(), tensor.strides.size());
    for (std::size_t i = 0; i < tensor.dims.size(); i++)
        if (tensor.dims[i] < 1 || tensor.strides[i] < 1)
            return refuse(CUDNN_STATUS_BAD_PARAM, "a tensor's dimension %zu is %" PRId64 " with stride %" PRId64 ", expected 1 or more", i, tensor.dims[i],
                tensor.strides[i]);
    if (tensor.alignment < 1 || tensor.alignment % static_cast<int64_t>(tensor.element()))
        return refuse(CUDNN_STATUS_BAD_PARAM, "a tensor's alignment is %" PRId64 " bytes, expected a multiple of its elements' %zu", tensor.alignment,
            tensor.element());
    if (!is_injective(tensor))
        fault("a tensor's strides put different elements into one place, which is not modelled");
    d.meaning = tensor;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t finalise_convolution(Descriptor &d)
{
    if (d.one<cudnnDataType_t>(CUDNN_ATTR_CONVOLUTION_COMP_TYPE) != CUDNN_DATA_FLOAT)
        fault("convolutions computed in another type than float32 are not modelled");
    if (d.one<cudnnConvolutionMode_t>(CUDNN_ATTR_CONVOLUTION_CONV_MODE) != CUDNN_CROSS_CORRELATION)
        fault("convolutions that are no cross-correlation are not modelled");
    if (d.one<int64_t>(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS) != 2)
        fault("convolutions over other than 2 dimensions in space are not modelled");
    static const struct {
        int name;
        int64_t least;
        const char *text;
        std::array<int64_t, 2> Convolution::*field;
    } lists[] = {
        {CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, 0, "padding", &Convolution::before},
        {CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, 0, "padding", &Convolution::after},
        {CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, 1, "stride", &Convolution::stride},
        {CUDNN_ATTR_CONVOLUTION_DILATIONS, 1, "dilation", &Convolution::dilation},
    };
    Convolution conv{};
    for (const auto &list : lists) {
        std::vector<int64_t> values = d.all<int64_t>(list.name);
        if (values.size() != 2)
            return refuse(CUDNN_STATUS_BAD_PARAM, "a convolution has %zu values of %s, expected 2", values.size(), list.text);
        for (std::size_t i = 0; i < 2; i++) {
            if (values[i] < list.least)
                return refuse(CUDNN_STATUS_BAD_PARAM, "a convolution's %s is %" PRId64 ", expected %" PRId64 " or more", list.text, values[i], list.least);
            (conv.*list.field)[i] = values[i];
        }
    }
    d.meaning = conv;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t finalise_pointwise(Descriptor &d)
{
    Pointwise pointwise = {d.one<cudnnPointwiseMode_t>(CUDNN_ATTR_POINTWISE_MODE)};
    if (pointwise.mode != CUDNN_POINTWISE_ADD && pointwise.mode != CUDNN_POINTWISE_RELU_FWD)
        fault("the element-wise operation %d is not modelled", pointwise.mode);
    if (d.one<cudnnDataType_t>(CUDNN_ATTR_POINTWISE_MATH_PREC) != CUDNN_DATA_FLOAT)
        fault("element-wise operations computed in another type than float32 are not modelled");
    d.meaning = pointwise;
    return CUDNN_STATUS_SUCCESS;
}

/* ---------------------------------------------------------------- operations */

namespace {

cudnnStatus_t check_shapes(const Operation &o)
{
    const auto &x = o.x.dims, &w = o.w.dims, &y = o.y.dims;
    if (x.size() != 4 || w.size() != 4 || y.size() != 4)
        return refuse(CUDNN_STATUS_BAD_PARAM, "a convolution's tensors have %zu, %zu and %zu dimensions, expected 4", x.size(), w.size(), y.size());
    if (x[0] != y[0])
        return refuse(CUDNN_STATUS_BAD_PARAM, "a convolution's input has %" PRId64 " images, its output %" PRId64, x[0], y[0]);
    if (w[0] != y[1])
        return refuse(CUDNN_STATUS_BAD_PARAM, "a convolution has %" PRId64 " filters, its output %" PRId64 " channels", w[0], y[1]);
    if (x[1] % w[1])
        return refuse(CUDNN_STATUS_BAD_PARAM, "a convolution's input has %" PRId64 " channels, its filters %" PRId64, x[1], w[1]);
    if (w[0] % (x[1] / w[1]))
        return refuse(CUDNN_STATUS_BAD_PARAM, "a convolution has %" PRId64 " filters in %" PRId64 " groups", w[0], x[1] / w[1]);
    for (std::size_t i = 0; i < 2; i++) {
        int64_t span = x[2 + i] + o.conv.before[i] + o.conv.after[i] - (o.conv.dilation[i] * (w[2 + i] - 1) + 1);
        int64_t wanted = span < 0 ? 0 : span / o.conv.stride[i] + 1;
        if (y[2 + i] != wanted)
            return refuse(CUDNN_STATUS_BAD_PARAM, "a convolution's output has size %" PRId64 " in dimension %zu, expected %" PRId64, y[2 + i], 2 + i, wanted);
    }
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t finalise_operation(Descriptor &d, Pass pass, const int (&names)[6])
{
    Operation o = {pass, d.linked<Tensor>(names[0]), d.linked<Tensor>(names[1]), d.linked<Tensor>(names[2])};
    o.conv = d.linked<Convolution>(names[3]);
    o.alpha = d.number(names[4]);
    o.beta = d.number(names[5]);
    cudnnStatus_t status = check_shapes(o);
    if (status == CUDNN_STATUS_SUCCESS)
        d.meaning = o;
    return status;
}

} // namespace

cudnnStatus_t finalise_forward(Descriptor &d)
{
    return finalise_operation(d, Pass::forward, {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
        CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
        CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA});
}

cudnnStatus_t finalise_data(Descriptor &d)
{
    return finalise_operation(d, Pass::data, {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA});
}

cudnnStatus_t finalise_filter(Descriptor &d)
{
    return finalise_operation(d, Pass::filter, {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA});
}

cudnnStatus_t finalise_element_wise(Descriptor &d)
{
    Operation o = {Pass::pointwise, d.linked<Tensor>(CUDNN_ATTR_OPERATION_POINTWISE_XDESC), {}, d.linked<Tensor>(CUDNN_ATTR_OPERATION_POINTWISE_YDESC)};
    o.pointwise = d.linked<Pointwise>(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
    o.has_w = d.has(CUDNN_ATTR_OPERATION_POINTWISE_BDESC);
    for (int scale : {CUDNN_ATTR_OPERATION_POINTWISE_ALPHA1, CUDNN_ATTR_OPERATION_POINTWISE_ALPHA2})
        if (d.has(scale) && d.number(scale) != 1)
            fault("element-wise operations on scaled tensors are not modelled");
    if (o.has_w != (o.pointwise.mode == CUDNN_POINTWISE_ADD))
        return refuse(CUDNN_STATUS_BAD_PARAM, "a sum needs two tensors, a ReLU one");
    if (o.x.dims != o.y.dims)
        return refuse(CUDNN_STATUS_BAD_PARAM, "an element-wise operation's input and output differ in shape");
    if (o.has_w) {
        o.w = d.linked<Tensor>(CUDNN_ATTR_OPERATION_POINTWISE_BDESC);
        bool fits = o.w.dims.size() == o.x.dims.size();
        for (std::size_t i = 0; fits && i < o.w.dims.size(); i++)
            fits = o.w.dims[i] == 1 || o.w.dims[i] == o.x.dims[i];
        if (!fits)
            return refuse(CUDNN_STATUS_BAD_PARAM, "a sum's second tensor doesn't fit the first one's shape");
    }
    d.meaning = o;
    return CUDNN_STATUS_SUCCESS;
}

/* ---------------------------------------------------------------- graphs */

namespace {

/* Equal names must be equal tensors. What is virtual must be written before it is read, and be read. */
cudnnStatus_t check_tensors(const std::vector<Operation> &operations)
{
    std::map<int64_t, const Tensor *> known;
    std::set<int64_t> written, read;
    for (const Operation &o : operations) {
        for (const Tensor *tensor : tensors(o)) {
            const Tensor *&first = known.emplace(tensor->uid, tensor).first->second;
            if (!same(*first, *tensor))
                fault("two different tensors of a graph have the unique id %" PRId64, tensor->uid);
        }
        for (const Tensor *input : o.inputs()) {
            if (input->uid == o.output().uid)
                fault("an operation's input and output have the same unique id %" PRId64, input->uid);
            if (input->is_virtual && !written.count(input->uid))
                return refuse(CUDNN_STATUS_BAD_PARAM, "the virtual tensor %" PRId64 " is read before an operation has written it", input->uid);
            read.insert(input->uid);
        }
        if (!written.insert(o.output().uid).second)
            return refuse(CUDNN_STATUS_BAD_PARAM, "two operations write the tensor %" PRId64, o.output().uid);
    }
    for (const Operation &o : operations)
        if (o.output().is_virtual && !read.count(o.output().uid))
            return refuse(CUDNN_STATUS_BAD_PARAM, "nobody reads the virtual tensor %" PRId64, o.output().uid);
    return CUDNN_STATUS_SUCCESS;
}

/* Each operation takes up what the one before it wrote. */
cudnnStatus_t check_chain(const std::vector<Operation> &operations)
{
    if (operations[0].pass == Pass::pointwise)
        fault("graphs that don't begin with a convolution are not modelled");
    if (operations[0].output().is_virtual && operations[0].beta != 0)
        return refuse(CUDNN_STATUS_BAD_PARAM, "a convolution adds to a virtual tensor, which holds nothing");
    for (std::size_t i = 1; i < operations.size(); i++) {
        const Operation &o = operations[i], &before = operations[i - 1];
        if (o.pass != Pass::pointwise)
            fault("graphs with two convolutions are not modelled");
        bool linked = false;
        for (const Tensor *input : o.inputs())
            linked |= input->uid == before.output().uid && input->dims == o.y.dims;
        if (!linked)
            return refuse(CUDNN_STATUS_BAD_PARAM, "operation %zu of a graph doesn't take up what the one before it writes", i);
        if (!before.output().is_virtual)
            fault("graphs that keep what is between their operations are not modelled");
    }
    return CUDNN_STATUS_SUCCESS;
}

/* One line for each different graph of the process. */
void dump(const Graph &graph)
{
    const char *path = std::getenv("CUDAEMU_DUMP_GRAPHS");
    if (!path || !*path)
        return;
    static std::mutex lock;
    static std::set<std::string> written;
    std::lock_guard<std::mutex> guard(lock);
    std::string line = graph.text() + "\n";
    if (!written.insert(line).second)
        return;
    std::FILE *file = std::fopen(path, "a");
    if (!file || std::fputs(line.c_str(), file) < 0 || std::fclose(file))
        fault("CUDAEMU_DUMP_GRAPHS: %s can't be written", path);
}

std::string list(const std::vector<int64_t> &values)
{
    std::string text;
    for (int64_t value : values)
        text += (text.empty() ? "" : ",") + std::to_string(value);
    return text;
}

std::string list(const std::array<int64_t, 2> &values)
{
    return list(std::vector<int64_t>(values.begin(), values.end()));
}

std::string number(double x)
{
    char text[32];
    std::snprintf(text, sizeof text, "%.9g", x);
    return text;
}

} // namespace

cudnnStatus_t finalise_graph(Descriptor &d)
{
    auto graph = std::make_shared<Graph>();
    for (const Link &link : d.values.at(CUDNN_ATTR_OPERATIONGRAPH_OPS).links)
        graph->operations.push_back(std::get<Operation>(link->meaning));
    if (d.has(CUDNN_ATTR_OPERATIONGRAPH_HANDLE))
        device_of_handle(d.one<cudnnHandle_t>(CUDNN_ATTR_OPERATIONGRAPH_HANDLE), "CUDNN_ATTR_OPERATIONGRAPH_HANDLE");
    cudnnStatus_t status = check_tensors(graph->operations);
    if (status == CUDNN_STATUS_SUCCESS)
        status = check_chain(graph->operations);
    if (status == CUDNN_STATUS_SUCCESS) {
        dump(*graph);
        d.meaning = std::shared_ptr<const Graph>(graph);
    }
    return status;
}

std::vector<const Tensor *> Graph::memory() const
{
    std::vector<const Tensor *> all;
    std::set<int64_t> seen;
    for (const Operation &o : operations)
        for (const Tensor *tensor : tensors(o))
            if (!tensor->is_virtual && seen.insert(tensor->uid).second)
                all.push_back(tensor);
    return all;
}

/* "forward x=0 w=1 y=2 before=1,1 after=1,1 stride=1,1 dilation=1,1 alpha=1 beta=0; add x=2 b=3 y=4; ... | 0 float 8,16,9,9 1296,1,144,16 16; ...":
 * the operations, then each tensor: its number, type, dimensions, strides, alignment, and "virtual". Numbers count in order of appearance. */
std::string Graph::text() const
{
    std::map<int64_t, std::size_t> numbers;
    std::string first, second;
    auto mention = [&](const char *role, const Tensor &tensor) {
        auto [at, is_new] = numbers.emplace(tensor.uid, numbers.size());
        if (is_new)
            second += (second.empty() ? "" : "; ") + std::to_string(at->second) + (tensor.type == CUDNN_DATA_BFLOAT16 ? " bfloat16 " : " float ") +
                list(tensor.dims) + " " + list(tensor.strides) + " " + std::to_string(tensor.alignment) + (tensor.is_virtual ? " virtual" : "");
        first += std::string(" ") + role + "=" + std::to_string(at->second);
    };
    for (const Operation &o : operations) {
        static const char *const names[] = {"forward", "data", "filter"};
        first += first.empty() ? "" : "; ";
        first += o.pass != Pass::pointwise ? names[static_cast<int>(o.pass)] : o.pointwise.mode == CUDNN_POINTWISE_ADD ? "add" : "relu";
        mention("x", o.x);
        if (o.has_w)
            mention(o.pass == Pass::pointwise ? "b" : "w", o.w);
        mention("y", o.y);
        if (o.pass != Pass::pointwise)
            first += " before=" + list(o.conv.before) + " after=" + list(o.conv.after) + " stride=" + list(o.conv.stride) + " dilation=" +
                list(o.conv.dilation) + " alpha=" + number(o.alpha) + " beta=" + number(o.beta);
    }
    return first + " | " + second;
}

} // namespace cudaemu::dnn
