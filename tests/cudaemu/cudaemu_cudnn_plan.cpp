/* cuDNN's stand-in: devices, engines, heuristics, plans.
 *
 * The engines differ as the real ones do, so that a caller's choice among them shows: some run on tensor cores (with float32 data that is TF32), round
 * their inputs, or are not deterministic, and compute accordingly; some look usable and get no plan; workspaces are nothing, small and large. Which
 * of them a graph gets, and how much workspace they want, hangs on its text alone. */
#include "cudaemu_cudnn.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <cstring>

namespace cudaemu::dnn {

bool Engine::fits(cudnnBackendNumericalNote_t note) const
{
    return std::find(notes.begin(), notes.end(), note) != notes.end();
}

namespace {

/* ---------------------------------------------------------------- devices */

/* The number behind "key": in JSON, or -1. */
long json_number(const std::string &json, const std::string &key)
{
    std::size_t at = json.find("\"" + key + "\"");
    if (at == std::string::npos)
        return -1;
    at += key.size() + 2;
    while (at < json.size() && (std::isspace(static_cast<unsigned char>(json[at])) || json[at] == ':'))
        at++;
    return at < json.size() ? std::strtol(json.c_str() + at, nullptr, 10) : -1;
}

const char *const kDeviceKeys[] = {
    "maxGridSize", "maxBlockSize", "regsPerBlock", "multiProcessorCount", "smClockRateKHz", "memClockRateKHz", "l2CacheSize", "warpSize",
    "maxSharedMemoryPerBlock", "maxSharedMemoryPerBlockOptin", "reservedSharedMemoryPerBlock", "maxRegistersPerSM", "pciDeviceId", "maxCtasPerSM",
    "maxThreadsPerBlock", "maxThreadsPerSM", "isTccDriver", "supportCoopLaunch", "totalGlobalMem", "cudaDeviceId", "deviceVer", "driverVer", "deviceName",
};

} // namespace

cudnnStatus_t finalise_device(Descriptor &d)
{
    std::vector<char> text = d.all<char>(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION);
    std::string json(text.begin(), text.end());
    for (const char *key : kDeviceKeys)
        if (json.find("\"" + std::string(key) + "\"") == std::string::npos)
            return refuse(CUDNN_STATUS_BAD_PARAM, "a device's description lacks \"%s\"", key);
    long version = json_number(json, "deviceVer");
    if (version < 500 || version > 1210)
        return refuse(CUDNN_STATUS_BAD_PARAM, "a device's description says \"deviceVer\": %ld, expected 500 to 1210", version);
    d.meaning = Target{-1, static_cast<int>(version / 10)};
    return CUDNN_STATUS_SUCCESS;
}

/* ---------------------------------------------------------------- engines */

namespace {

enum { kStrict, kGemm, kExact, kWinograd, kNondeterministic, kTensorCore, kDownConvert, kReduced, kFusion, kRefusing };
const Engine engines[] = {
    /* kStrict */ {0, {CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP}, false},
    /* kGemm */ {1, {}, false},
    /* kExact */ {28, {}, false},
    /* kWinograd */ {30, {CUDNN_NUMERICAL_NOTE_WINOGRAD, CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_4x4}, false},
    /* kNondeterministic */ {34, {CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC}, false},
    /* kTensorCore */ {45, {CUDNN_NUMERICAL_NOTE_TENSOR_CORE}, false},
    /* kDownConvert */ {46, {CUDNN_NUMERICAL_NOTE_TENSOR_CORE, CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS}, false},
    /* kReduced */ {52, {CUDNN_NUMERICAL_NOTE_TENSOR_CORE, CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION}, false},
    /* kFusion */ {60, {CUDNN_NUMERICAL_NOTE_TENSOR_CORE}, true},
    /* kRefusing */ {14, {}, false},
};

constexpr int64_t kMostWorkspace = 1 << 20;

/* What is compiled beforehand: tensors of one type, and behind a forward convolution nothing, or [+ tensor] + bias [ReLU] with float32 between. */
bool is_precompiled(const Graph &graph)
{
    const Operation &conv = graph.operations[0];
    cudnnDataType_t type = conv.inputs()[0]->type;
    for (const Tensor *tensor : graph.memory())
        if (tensor->type != type)
            return false;
    if (graph.operations.size() == 1)
        return true;
    std::string shape;
    for (std::size_t i = 1; i < graph.operations.size(); i++) {
        const Operation &o = graph.operations[i];
        if (o.x.is_virtual && o.x.type != CUDNN_DATA_FLOAT)
            return false;
        bool is_bias = o.has_w && o.w.dims[0] == 1 && o.w.dims[1] == o.x.dims[1] && o.w.dims[2] == 1 && o.w.dims[3] == 1;
        shape += !o.has_w ? 'r' : is_bias ? 'b' : 'a';
    }
    return conv.pass == Pass::forward && (shape == "b" || shape == "br" || shape == "ab" || shape == "abr");
}

/* What is compiled when a plan is made, tensor cores computing: inputs of one type, a result that needn't be narrower, no groups. */
bool is_fusible(const Graph &graph, int capability)
{
    const Operation &conv = graph.operations[0];
    std::vector<const Tensor *> inputs = conv.inputs();
    bool grouped = conv.x.dims[1] != conv.w.dims[1];
    bool widens = inputs[0]->type == CUDNN_DATA_BFLOAT16 || conv.output().type == CUDNN_DATA_FLOAT;
    return capability >= 80 && inputs[0]->type == inputs[1]->type && widens && !grouped && (conv.pass == Pass::forward || graph.operations.size() == 1);
}

uint32_t hash(const std::string &text)
{
    uint32_t h = 2166136261u;
    for (unsigned char c : text)
        h = (h ^ c) * 16777619u;
    return h ^ h >> 15;
}

class Listing {
public:
    Listing(std::shared_ptr<const Graph> graph, Target target) : graph_(std::move(graph)), target_(target), hash_(hash(graph_->text())) {}

    std::vector<Configuration> list(cudnnBackendHeurMode_t mode)
    {
        const Operation &conv = graph_->operations[0];
        cudnnDataType_t type = conv.inputs()[0]->type;
        bool bfloat = type == CUDNN_DATA_BFLOAT16, backward = conv.pass != Pass::forward;
        if (bfloat && target_.capability < 80)
            return {};
        if (is_precompiled(*graph_) && mode == CUDNN_HEUR_MODE_FALLBACK) {
            add(kRefusing, 0);
            add(kStrict, 0);
            add(kGemm, some(conv.x.count() * 4));
        } else if (is_precompiled(*graph_)) {
            add(kRefusing, 4096);
            add(bfloat ? kReduced : kDownConvert, 768);
            if (bfloat || target_.capability >= 80)
                add(kTensorCore, hash_ % 2 ? 59920 : 0);
            if (backward)
                add(kNondeterministic, 0);
            if (is_winograd(conv) && !bfloat)
                add(kWinograd, some(conv.y.count() * 8));
            add(kExact, hash_ % 3 == 0 ? 0 : hash_ % 3 == 1 ? 2576 : some(conv.x.count() * 4), hash_ % 4 == 0);
        }
        if (is_fusible(*graph_, target_.capability) && mode != CUDNN_HEUR_MODE_FALLBACK)
            add(kFusion, hash_ % 2 ? 0 : 131);
        return std::move(results_);
    }

private:
    void add(int engine, int64_t workspace, bool refuses = false)
    {
        results_.push_back({graph_, target_, &engines[engine], workspace, refuses || engine == kRefusing});
    }
    static int64_t some(int64_t bytes) { return std::min(bytes, kMostWorkspace); }
    static bool is_winograd(const Operation &o)
    {
        return o.w.dims[2] == 3 && o.w.dims[3] == 3 && o.conv.stride == std::array<int64_t, 2>{1, 1} && o.conv.dilation == std::array<int64_t, 2>{1, 1} &&
            o.x.dims[1] == o.w.dims[1];
    }

    std::shared_ptr<const Graph> graph_;
    Target target_;
    uint32_t hash_;
    std::vector<Configuration> results_;
};

/* The handle's GPU, that of the device properties, or the current one. */
Target target_of(const Descriptor &d, const Descriptor &graph)
{
    if (d.has(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP))
        return d.linked<Target>(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP);
    if (graph.has(CUDNN_ATTR_OPERATIONGRAPH_HANDLE))
        return {device_of_handle(graph.one<cudnnHandle_t>(CUDNN_ATTR_OPERATIONGRAPH_HANDLE), "CUDNN_ATTR_OPERATIONGRAPH_HANDLE"), capability()};
    return {current_device(), capability()};
}

template <class T> std::vector<unsigned char> bytes_of(const std::vector<T> &values)
{
    auto first = reinterpret_cast<const unsigned char *>(values.data());
    return std::vector<unsigned char>(first, first + values.size() * sizeof(T));
}

} // namespace

cudnnStatus_t finalise_heuristics(Descriptor &d)
{
    auto mode = d.one<cudnnBackendHeurMode_t>(CUDNN_ATTR_ENGINEHEUR_MODE);
    if (mode < CUDNN_HEUR_MODE_INSTANT || mode > CUDNN_HEUR_MODE_A)
        return refuse(CUDNN_STATUS_BAD_PARAM, "there is no heuristics mode %d", mode);
    const Descriptor &graph = *d.values.at(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH).links.at(0);
    Listing listing(std::get<std::shared_ptr<const Graph>>(graph.meaning), target_of(d, graph));
    d.meaning = Heuristics{listing.list(mode)};
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t finalise_engine(Descriptor &)
{
    fault("engines that the caller chooses by number are not modelled");
}

cudnnStatus_t finalise_configuration(Descriptor &)
{
    fault("configurations that the caller puts together are not modelled");
}

cudnnStatus_t finalise_plan(Descriptor &d)
{
    const auto &configuration = d.linked<Configuration>(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
    const Target &target = configuration.target;
    if (d.has(CUDNN_ATTR_EXECUTION_PLAN_HANDLE)) {
        int device = device_of_handle(d.one<cudnnHandle_t>(CUDNN_ATTR_EXECUTION_PLAN_HANDLE), "CUDNN_ATTR_EXECUTION_PLAN_HANDLE");
        if (device != target.device)
            return refuse(CUDNN_STATUS_BAD_PARAM, "a plan's handle is for GPU %d, its configuration for GPU %d (-1: described)", device, target.device);
    }
    if (d.has(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP)) {
        const auto &described = d.linked<Target>(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP);
        if (described.device != target.device || described.capability != target.capability)
            return refuse(CUDNN_STATUS_BAD_PARAM, "a plan and its configuration are for different devices");
    }
    if (configuration.refuses)
        return refuse(CUDNN_STATUS_NOT_SUPPORTED, "engine %lld can't run this graph after all", (long long)configuration.engine->index);
    d.meaning = Plan{configuration, std::make_shared<std::atomic<bool>>(true)};
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t finalise_pack(Descriptor &d)
{
    std::vector<int64_t> ids = d.all<int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
    std::vector<void *> pointers = d.all<void *>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
    if (ids.size() != pointers.size())
        return refuse(CUDNN_STATUS_BAD_PARAM, "a variant pack has %zu unique ids and %zu pointers", ids.size(), pointers.size());
    VariantPack pack = {{}, d.one<void *>(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, nullptr)};
    for (std::size_t i = 0; i < ids.size(); i++)
        if (!pack.pointers.emplace(ids[i], pointers[i]).second)
            fault("a variant pack has the unique id %lld twice", (long long)ids[i]);
    d.meaning = pack;
    return CUDNN_STATUS_SUCCESS;
}

/* ---------------------------------------------------------------- reading */

std::vector<unsigned char> read_numbers(const Descriptor &d, int name)
{
    switch (name) {
    case CUDNN_ATTR_ENGINE_GLOBAL_INDEX:
        return bytes_of<int64_t>({std::get<EngineChoice>(d.meaning).configuration.engine->index});
    case CUDNN_ATTR_ENGINE_NUMERICAL_NOTE:
        return bytes_of(std::get<EngineChoice>(d.meaning).configuration.engine->notes);
    case CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE: {
        bool compiles = std::get<EngineChoice>(d.meaning).configuration.engine->runtime_compiled;
        return compiles ? bytes_of<cudnnBackendBehaviorNote_t>({CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION}) : std::vector<unsigned char>();
    }
    case CUDNN_ATTR_ENGINECFG_WORKSPACE_SIZE:
        return bytes_of<int64_t>({std::get<Configuration>(d.meaning).workspace});
    case CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE:
        return bytes_of<int64_t>({std::get<Plan>(d.meaning).configuration.workspace});
    default:
        fault("reading attribute %d is not modelled", name);
    }
}

std::vector<Meaning> read_links(const Descriptor &d, int name)
{
    std::vector<Meaning> all;
    switch (name) {
    case CUDNN_ATTR_ENGINEHEUR_RESULTS:
        for (const Configuration &configuration : std::get<Heuristics>(d.meaning).results)
            all.emplace_back(configuration);
        break;
    case CUDNN_ATTR_ENGINECFG_ENGINE:
        all.emplace_back(EngineChoice{std::get<Configuration>(d.meaning)});
        break;
    case CUDNN_ATTR_ENGINE_OPERATION_GRAPH:
        all.emplace_back(std::get<EngineChoice>(d.meaning).configuration.graph);
        break;
    default: /* what the caller has set */
        if (d.has(name))
            for (const Link &link : d.values.at(name).links)
                all.push_back(link->meaning);
    }
    return all;
}

} // namespace cudaemu::dnn
