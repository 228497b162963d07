/* The inside of cuDNN's stand-in.
 *
 * What the caller holds is a name, a number that is no address, so that a destroyed descriptor is known for ever. Behind it stands a Descriptor:
 * the attributes as they were set, checked against the tables of cudaemu_cudnn_rules.cpp, and, once finalised, what they mean (one of the structs
 * below). Descriptors share what they refer to, as the real ones do: a tensor may be destroyed when its operation stands.
 *
 * What cuDNN refuses is refused with its status and a reason (cudnnGetLastErrorString). What it leaves undefined, and what is not modelled here,
 * is a fault. */
#ifndef CUDAEMU_CUDNN_INTERNAL_H
#define CUDAEMU_CUDNN_INTERNAL_H

#include "cudaemu.h"
#include "cudnn.h"

#include <array>
#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

namespace cudaemu::dnn {

/* ---------------------------------------------------------------- what finalised descriptors mean */

struct Tensor {
    cudnnDataType_t type;
    std::vector<int64_t> dims, strides; /* elements */
    int64_t uid, alignment;
    bool is_virtual;
    std::size_t element() const { return type == CUDNN_DATA_BFLOAT16 ? 2 : 4; }
    int64_t count() const;
};

/* Two dimensions in space, cross-correlation, computed in float32. */
struct Convolution {
    std::array<int64_t, 2> before, after, stride, dilation;
};

struct Pointwise {
    cudnnPointwiseMode_t mode; /* ADD or RELU_FWD */
};

enum class Pass { forward, data, filter, pointwise };

/* A convolution: x (N, C, H, W), w (K, C / groups, R, S), y (N, K, OH, OW), of which the pass says which one is written. A pointwise operation:
 * y = x + b, or y = relu(x). */
struct Operation {
    Pass pass;
    Tensor x, w, y;         /* pointwise: w is b */
    bool has_w = true;
    Convolution conv{};
    Pointwise pointwise{};
    double alpha = 1, beta = 0; /* of what is written */
    const Tensor &output() const { return pass == Pass::data ? x : pass == Pass::filter ? w : y; }
    std::vector<const Tensor *> inputs() const;
};

/* One convolution, and what follows it, in order. */
struct Graph {
    std::vector<Operation> operations;
    std::vector<const Tensor *> memory() const; /* its tensors that are not virtual, each once */
    std::string text() const;                   /* canonical: what CUDAEMU_DUMP_GRAPHS writes */
};

/* Where a plan is made for: an emulated GPU, or one that is only described. */
struct Target {
    int device = -1;     /* -1: described */
    int capability = 0;
};

struct Engine {
    int64_t index;
    std::vector<cudnnBackendNumericalNote_t> notes;
    bool runtime_compiled;
    bool fits(cudnnBackendNumericalNote_t note) const;
};

struct Configuration {
    std::shared_ptr<const Graph> graph;
    Target target;
    const Engine *engine;
    int64_t workspace;   /* bytes */
    bool refuses;        /* looks fine to the heuristics and gets no plan, as some do */
};

struct Heuristics {
    std::vector<Configuration> results;
};

struct EngineChoice {
    Configuration configuration;
};

struct Plan {
    Configuration configuration;
    std::shared_ptr<std::atomic<bool>> alive; /* false when destroyed: its kernels may be unloaded then */
};

struct VariantPack {
    std::map<int64_t, void *> pointers; /* by unique id */
    void *workspace;
};

using Meaning = std::variant<std::monostate, Tensor, Convolution, Pointwise, Operation, std::shared_ptr<const Graph>, Target, Heuristics, EngineChoice,
    Configuration, Plan, VariantPack>;

/* ---------------------------------------------------------------- descriptors */

struct Descriptor;
using Link = std::shared_ptr<const Descriptor>;

struct Value {
    cudnnBackendAttributeType_t type;
    int64_t n;
    std::vector<unsigned char> bytes;
    std::vector<Link> links; /* of CUDNN_TYPE_BACKEND_DESCRIPTOR */
};

struct Descriptor {
    cudnnBackendDescriptorType_t type;
    bool finalised = false;
    std::map<int, Value> values; /* by attribute */
    Meaning meaning;

    bool has(int name) const { return values.count(name) != 0; }
    /* Of attributes that the tables require. */
    template <class T> std::vector<T> all(int name) const
    {
        const Value &value = values.at(name);
        auto first = reinterpret_cast<const T *>(value.bytes.data());
        return std::vector<T>(first, first + value.n);
    }
    template <class T> T one(int name) const { return all<T>(name).at(0); }
    template <class T> T one(int name, T otherwise) const { return has(name) ? one<T>(name) : otherwise; }
    double number(int name) const { return values.at(name).type == CUDNN_TYPE_DOUBLE ? one<double>(name) : static_cast<double>(one<float>(name)); }
    template <class T> const T &linked(int name) const { return std::get<T>(values.at(name).links.at(0)->meaning); }
};

/* One line of a descriptor type's table. */
struct Rule {
    int name;
    const char *text;                   /* the name spelled out */
    cudnnBackendAttributeType_t type;
    int64_t least, most;                /* elements */
    enum Need { required, optional, read_only } need;
    int refers;                         /* of links: to which type of descriptor; else -1 */
};

struct Kind {
    cudnnBackendDescriptorType_t type;
    const char *text;
    std::vector<Rule> rules;
    cudnnStatus_t (*finalise)(Descriptor &descriptor); /* gives it its meaning */
};

const Kind *find_kind(int type); /* NULL: not modelled */
const Rule *find_rule(const Kind &kind, int name);
bool is_declared(int name);                  /* whether any type of descriptor has this attribute */
bool refers_to(const Rule &rule, int type);  /* whether a link may be to this type of descriptor */
std::size_t element_bytes(cudnnBackendAttributeType_t type);

/* Records why, for cudnnGetLastErrorString, and returns the status. */
[[gnu::format(printf, 2, 3)]] cudnnStatus_t refuse(cudnnStatus_t status, const char *format, ...);

/* The descriptor that the caller means. Faults where it was never made or has been destroyed. */
std::shared_ptr<Descriptor> find(cudnnBackendDescriptor_t name, const char *call);

/* What a read-only attribute says: numbers as bytes, or what the descriptors mean that it refers to. */
std::vector<unsigned char> read_numbers(const Descriptor &descriptor, int name);
std::vector<Meaning> read_links(const Descriptor &descriptor, int name);

/* ---------------------------------------------------------------- finalising, one for each type of descriptor */

cudnnStatus_t finalise_tensor(Descriptor &d), finalise_convolution(Descriptor &d), finalise_pointwise(Descriptor &d), finalise_forward(Descriptor &d),
    finalise_data(Descriptor &d), finalise_filter(Descriptor &d), finalise_element_wise(Descriptor &d), finalise_graph(Descriptor &d);
cudnnStatus_t finalise_device(Descriptor &d), finalise_heuristics(Descriptor &d), finalise_engine(Descriptor &d), finalise_configuration(Descriptor &d),
    finalise_plan(Descriptor &d), finalise_pack(Descriptor &d);

/* ---------------------------------------------------------------- handles, running */

/* The GPU of a handle. Faults on one that is none. */
int device_of_handle(cudnnHandle_t handle, const char *call);

/* Where the tensors in memory lie, by unique id. */
using Places = std::map<int64_t, void *>;

/* Computes the graph with the engine's arithmetic: TENSOR_CORE and float32 is TF32, NONDETERMINISTIC may differ in the last bits each time. */
void compute(const Graph &graph, const Engine &engine, const Places &places);

} // namespace cudaemu::dnn

#endif
