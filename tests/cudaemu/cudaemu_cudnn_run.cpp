/* cuDNN's stand-in: handles, and the execution of plans. */
#include "cudaemu_cudnn.h"

#include <cinttypes>
#include <cstring>
#include <mutex>

/* What a handle points to. */
struct cudnnContext {
    int device;
    cudaStream_t stream; /* NULL: none was set */
};

namespace cudaemu::dnn {
namespace {

const char *const kLeakKind = "cuDNN handle";
constexpr uintptr_t kWorkspaceAlignment = 256; /* cudaMalloc's; NVIDIA names no smaller one */

} // namespace

int device_of_handle(cudnnHandle_t handle, const char *call)
{
    if (!handle || !alive(handle, kLeakKind))
        fault("%s: %p is no cuDNN handle, or one that was destroyed", call, static_cast<void *>(handle));
    return handle->device;
}

namespace {

struct Extent {
    const unsigned char *first;
    std::size_t bytes;
};

/* The runs of neighbouring bytes that a tensor's elements lie in. */
std::vector<Extent> extents(const Tensor &tensor, const void *p)
{
    std::vector<int64_t> dims = tensor.dims, strides = tensor.strides;
    int64_t run = 1; /* elements; dimensions that only prolong it are taken out */
    for (bool grown = true; grown;) {
        grown = false;
        for (std::size_t i = 0; i < dims.size(); i++)
            if (dims[i] == 1 || strides[i] == run) {
                run *= dims[i];
                dims.erase(dims.begin() + static_cast<std::ptrdiff_t>(i));
                strides.erase(strides.begin() + static_cast<std::ptrdiff_t>(i));
                grown = true;
                break;
            }
    }
    std::vector<Extent> all;
    std::vector<int64_t> index(dims.size(), 0);
    for (;;) {
        int64_t offset = 0;
        for (std::size_t i = 0; i < dims.size(); i++)
            offset += index[i] * strides[i];
        all.push_back({static_cast<const unsigned char *>(p) + static_cast<std::size_t>(offset) * tensor.element(),
            static_cast<std::size_t>(run) * tensor.element()});
        std::size_t i = 0;
        while (i < dims.size() && ++index[i] == dims[i])
            index[i++] = 0;
        if (i == dims.size())
            return all;
    }
}

bool overlap(const Tensor &a, const void *p, const Tensor &b, const void *q)
{
    auto reach = [](const Tensor &tensor) {
        int64_t last = 0;
        for (std::size_t i = 0; i < tensor.dims.size(); i++)
            last += (tensor.dims[i] - 1) * tensor.strides[i];
        return static_cast<std::size_t>(last + 1) * tensor.element();
    };
    auto first = reinterpret_cast<uintptr_t>(p), second = reinterpret_cast<uintptr_t>(q);
    return first < second + reach(b) && second < first + reach(a);
}

void check_pointers(const Graph &graph, const VariantPack &pack)
{
    std::vector<const Tensor *> memory = graph.memory();
    for (const Tensor *tensor : memory) {
        auto found = pack.pointers.find(tensor->uid);
        if (found == pack.pointers.end())
            fault("cudnnBackendExecute: the variant pack lacks the graph's tensor %" PRId64, tensor->uid);
        if (!found->second)
            fault("cudnnBackendExecute: the tensor %" PRId64 " lies nowhere (NULL)", tensor->uid);
        if (reinterpret_cast<uintptr_t>(found->second) % static_cast<uintptr_t>(tensor->alignment))
            fault("cudnnBackendExecute: the tensor %" PRId64 " lies at %p, its descriptor promises %" PRId64 " bytes' alignment", tensor->uid, found->second,
                tensor->alignment);
    }
    if (pack.pointers.size() != memory.size())
        fault("cudnnBackendExecute: the variant pack has %zu tensors, the graph %zu", pack.pointers.size(), memory.size());
    const Tensor &output = graph.operations.back().output();
    void *to = pack.pointers.at(output.uid);
    for (const Tensor *tensor : memory)
        if (tensor->uid != output.uid && overlap(*tensor, pack.pointers.at(tensor->uid), output, to))
            fault("cudnnBackendExecute: the result %" PRId64 " lies over the tensor %" PRId64, output.uid, tensor->uid);
}

std::vector<Access> accesses(const Plan &plan, const VariantPack &pack)
{
    const Graph &graph = *plan.configuration.graph;
    const Operation &last = graph.operations.back();
    std::vector<Access> all;
    for (const Tensor *tensor : graph.memory()) {
        bool writes = tensor->uid == last.output().uid;
        for (const Extent &extent : extents(*tensor, pack.pointers.at(tensor->uid))) {
            if (!writes || (last.pass != Pass::pointwise && last.beta != 0))
                all.push_back({extent.first, extent.bytes, false});
            if (writes)
                all.push_back({extent.first, extent.bytes, true});
        }
    }
    if (plan.configuration.workspace)
        all.push_back({pack.workspace, static_cast<std::size_t>(plan.configuration.workspace), true});
    return all;
}

void check_workspace(const Plan &plan, const VariantPack &pack)
{
    int64_t bytes = plan.configuration.workspace;
    if (bytes && !pack.workspace)
        fault("cudnnBackendExecute: the plan needs a workspace of %" PRId64 " bytes, and the variant pack has none", bytes);
    if (bytes && reinterpret_cast<uintptr_t>(pack.workspace) % kWorkspaceAlignment)
        fault("cudnnBackendExecute: the workspace %p isn't aligned to %zu bytes", pack.workspace, static_cast<std::size_t>(kWorkspaceAlignment));
}

void execute(cudnnHandle_t handle, const Plan &plan, const VariantPack &pack)
{
    const Configuration &configuration = plan.configuration;
    if (configuration.target.device < 0)
        fault("cudnnBackendExecute: the plan was made for a described device, which can't run it");
    int device = device_of_handle(handle, "cudnnBackendExecute");
    if (device != configuration.target.device)
        fault("cudnnBackendExecute: the plan is for GPU %d, the handle for GPU %d", configuration.target.device, device);
    if (device != current_device())
        fault("cudnnBackendExecute: the handle is for GPU %d, current is GPU %d", device, current_device());
    if (!handle->stream)
        fault("cudnnBackendExecute: the handle has no stream (cudnnSetStream)");
    check_pointers(*configuration.graph, pack);
    check_workspace(plan, pack);
    std::string name = "cuDNN engine " + std::to_string(configuration.engine->index);
    auto work = [plan, pack]() {
        const Configuration &c = plan.configuration;
        if (!plan.alive->load())
            fault("its plan was destroyed before it ran");
        if (c.workspace)
            std::memset(pack.workspace, 0xff, static_cast<std::size_t>(c.workspace)); /* NaN, whatever it is taken for */
        compute(*c.graph, *c.engine, pack.pointers);
        if (c.workspace)
            std::memset(pack.workspace, 0xff, static_cast<std::size_t>(c.workspace));
    };
    enqueue(handle->stream, name.c_str(), accesses(plan, pack), work);
}

} // namespace
} // namespace cudaemu::dnn

using namespace cudaemu;
using namespace cudaemu::dnn;

extern "C" {

cudnnStatus_t cudnnCreate(cudnnHandle_t *out)
{
    if (!out)
        return refuse(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "cudnnCreate: nowhere to put it");
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || !devices) {
        (void)cudaGetLastError();
        return refuse(CUDNN_STATUS_NOT_INITIALIZED, "cudnnCreate: there is no GPU");
    }
    *out = new cudnnContext{current_device(), nullptr};
    born(*out, kLeakKind);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroy(cudnnHandle_t handle)
{
    died(handle, kLeakKind);
    delete handle;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream)
{
    int device = device_of_handle(handle, "cudnnSetStream");
    if (device_of(stream) != device)
        fault("cudnnSetStream: the stream is on GPU %d, the handle on GPU %d", device_of(stream), device);
    handle->stream = stream;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetStream(cudnnHandle_t handle, cudaStream_t *out)
{
    device_of_handle(handle, "cudnnGetStream");
    if (!out)
        return refuse(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "cudnnGetStream: nowhere to put it");
    *out = handle->stream;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pack)
{
    device_of_handle(handle, "cudnnBackendExecute");
    std::shared_ptr<Descriptor> first = find(plan, "cudnnBackendExecute"), second = find(pack, "cudnnBackendExecute");
    if (first->type != CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR || second->type != CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)
        fault("cudnnBackendExecute: descriptors of types %d and %d, expected a plan and a variant pack", first->type, second->type);
    if (!first->finalised || !second->finalised)
        return refuse(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "cudnnBackendExecute: the %s is not finalised", first->finalised ? "variant pack" : "plan");
    execute(handle, std::get<Plan>(first->meaning), std::get<VariantPack>(second->meaning));
    return CUDNN_STATUS_SUCCESS;
}

} // extern "C"
