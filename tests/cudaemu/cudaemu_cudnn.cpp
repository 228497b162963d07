/* cuDNN's stand-in: descriptors, as the caller creates, fills, finalises, reads and destroys them. */
#include "cudaemu_cudnn.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <mutex>

namespace cudaemu::dnn {
namespace {

const char *const kLeakKind = "cuDNN descriptor";

std::mutex lock;
std::map<uintptr_t, std::shared_ptr<Descriptor>> living; /* by name */
uintptr_t n_names;

/* No address: nobody may follow it. Never given twice. */
uintptr_t new_name()
{
    return (uintptr_t)0xcd << 48 | ++n_names << 4;
}

thread_local std::string reason;

} // namespace

cudnnStatus_t refuse(cudnnStatus_t status, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    reason = text;
    return status;
}

std::shared_ptr<Descriptor> find(cudnnBackendDescriptor_t name, const char *call)
{
    std::lock_guard<std::mutex> guard(lock);
    auto found = living.find(reinterpret_cast<uintptr_t>(name));
    if (found == living.end())
        fault("%s: %p is no descriptor, or one that was destroyed", call, name);
    return found->second;
}

namespace {

const Kind &kind_of(const Descriptor &descriptor)
{
    return *find_kind(descriptor.type);
}

/* The rule for an attribute that the caller names, or NULL with *status. */
const Rule *rule_for(const Descriptor &descriptor, int name, cudnnStatus_t *status)
{
    const Kind &kind = kind_of(descriptor);
    const Rule *rule = find_rule(kind, name);
    if (!rule && !is_declared(name))
        fault("%s: attribute %d is not modelled", kind.text, name);
    if (!rule)
        *status = refuse(CUDNN_STATUS_BAD_PARAM, "%s has no attribute %d", kind.text, name);
    return rule;
}

bool right_type(const Rule &rule, cudnnBackendAttributeType_t type)
{
    return type == rule.type || (rule.type == CUDNN_TYPE_FLOAT && type == CUDNN_TYPE_DOUBLE); /* scalars may be either */
}

cudnnStatus_t link(Value *out, const Rule &rule, const void *values)
{
    auto names = static_cast<const cudnnBackendDescriptor_t *>(values);
    for (int64_t i = 0; i < out->n; i++) {
        std::shared_ptr<Descriptor> other = find(names[i], "cudnnBackendSetAttribute");
        if (!refers_to(rule, other->type)) /* the real one follows it all the same */
            fault("%s was set to a %s", rule.text, kind_of(*other).text);
        if (!other->finalised)
            return refuse(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "%s: the %s is not finalised", rule.text, kind_of(*other).text);
        out->links.push_back(other);
    }
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t set(Descriptor &descriptor, const Rule &rule, cudnnBackendAttributeType_t type, int64_t n, const void *values)
{
    if (descriptor.finalised)
        return refuse(CUDNN_STATUS_BAD_PARAM, "%s is set on a finalised descriptor", rule.text);
    if (rule.need == Rule::read_only)
        return refuse(CUDNN_STATUS_BAD_PARAM, "%s can only be read", rule.text);
    if (!right_type(rule, type))
        return refuse(CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE, "%s is of type %d, not %d", rule.text, rule.type, type);
    if (n < rule.least || n > rule.most)
        return refuse(CUDNN_STATUS_BAD_PARAM, "%s has %lld elements, expected %lld to %lld", rule.text, (long long)n, (long long)rule.least,
            (long long)rule.most);
    if (!values)
        return refuse(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "%s: no elements", rule.text);
    Value value = {type, n, {}, {}};
    if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR) {
        cudnnStatus_t status = link(&value, rule, values);
        if (status)
            return status;
    }
    auto first = static_cast<const unsigned char *>(values);
    value.bytes.assign(first, first + static_cast<std::size_t>(n) * element_bytes(type));
    descriptor.values[rule.name] = value;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t finalise(Descriptor &descriptor)
{
    const Kind &kind = kind_of(descriptor);
    if (descriptor.finalised)
        return refuse(CUDNN_STATUS_BAD_PARAM, "%s is finalised already", kind.text);
    for (const Rule &rule : kind.rules)
        if (rule.need == Rule::required && !descriptor.has(rule.name))
            return refuse(CUDNN_STATUS_BAD_PARAM, "%s lacks %s", kind.text, rule.text);
    cudnnStatus_t status = kind.finalise(descriptor);
    descriptor.finalised = status == CUDNN_STATUS_SUCCESS;
    return status;
}

/* The caller has made the descriptors that are to be filled. */
cudnnStatus_t hand_out(const Rule &rule, const std::vector<Meaning> &meanings, int64_t n_wanted, int64_t *n, void *values)
{
    *n = std::min(n_wanted, static_cast<int64_t>(meanings.size()));
    auto names = static_cast<const cudnnBackendDescriptor_t *>(values);
    for (int64_t i = 0; i < *n; i++) {
        std::shared_ptr<Descriptor> target = find(names[i], "cudnnBackendGetAttribute");
        if (!refers_to(rule, target->type))
            fault("%s was read into a %s", rule.text, kind_of(*target).text);
        target->meaning = meanings[static_cast<std::size_t>(i)];
        target->finalised = true;
    }
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t get(const Descriptor &descriptor, const Rule &rule, cudnnBackendAttributeType_t type, int64_t n_wanted, int64_t *n, void *values)
{
    if (!descriptor.finalised)
        return refuse(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "%s is read before the descriptor is finalised", rule.text);
    if (!right_type(rule, type) || (rule.need != Rule::read_only && descriptor.has(rule.name) && descriptor.values.at(rule.name).type != type))
        return refuse(CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE, "%s is of type %d, not %d", rule.text, rule.type, type);
    if (n_wanted < 0 || (n_wanted > 0 && !values) || (n_wanted == 0 && !n))
        return refuse(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "%s: nowhere to put it", rule.text);
    int64_t ignored;
    n = n ? n : &ignored;
    if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR) {
        std::vector<Meaning> meanings = read_links(descriptor, rule.name);
        /* Before they are asked for, cuDNN counts configurations that it drops when they are. */
        if (n_wanted == 0)
            return *n = static_cast<int64_t>(meanings.size()) + (rule.name == CUDNN_ATTR_ENGINEHEUR_RESULTS ? 2 : 0), CUDNN_STATUS_SUCCESS;
        return hand_out(rule, meanings, n_wanted, n, values);
    }
    std::vector<unsigned char> bytes = rule.need == Rule::read_only ? read_numbers(descriptor, rule.name)
        : descriptor.has(rule.name)                                 ? descriptor.values.at(rule.name).bytes
                                                                    : std::vector<unsigned char>();
    std::size_t size = element_bytes(type);
    *n = static_cast<int64_t>(bytes.size() / size);
    if (n_wanted > 0) {
        *n = std::min(*n, n_wanted);
        std::copy_n(bytes.data(), static_cast<std::size_t>(*n) * size, static_cast<unsigned char *>(values));
    }
    return CUDNN_STATUS_SUCCESS;
}

} // namespace
} // namespace cudaemu::dnn

using namespace cudaemu;
using namespace cudaemu::dnn;

extern "C" {

void cudnnGetLastErrorString(char *message, size_t max_size)
{
    if (message && max_size)
        std::snprintf(message, max_size, "%s", reason.c_str());
    reason.clear();
}

const char *cudnnGetErrorString(cudnnStatus_t status)
{
    static const std::map<int, const char *> texts = {
#define TEXT(status) {status, #status}
        TEXT(CUDNN_STATUS_SUCCESS), TEXT(CUDNN_STATUS_NOT_INITIALIZED), TEXT(CUDNN_STATUS_BAD_PARAM), TEXT(CUDNN_STATUS_BAD_PARAM_NULL_POINTER),
        TEXT(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED), TEXT(CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE), TEXT(CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE),
        TEXT(CUDNN_STATUS_NOT_SUPPORTED), TEXT(CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN), TEXT(CUDNN_STATUS_NOT_SUPPORTED_SHAPE),
        TEXT(CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE), TEXT(CUDNN_STATUS_NOT_SUPPORTED_LAYOUT), TEXT(CUDNN_STATUS_NOT_SUPPORTED_ARCH_MISMATCH),
        TEXT(CUDNN_STATUS_INTERNAL_ERROR), TEXT(CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED), TEXT(CUDNN_STATUS_EXECUTION_FAILED),
    };
    auto found = texts.find(status);
    return found == texts.end() ? "CUDNN_UNKNOWN_STATUS" : found->second;
}

size_t cudnnGetVersion(void)
{
    return CUDNN_VERSION;
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *out)
{
    if (!out)
        return refuse(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "cudnnBackendCreateDescriptor: nowhere to put it");
    if (!find_kind(type))
        fault("cudnnBackendCreateDescriptor: descriptors of type %d are not modelled", type);
    auto made = std::make_shared<Descriptor>();
    made->type = type;
    std::lock_guard<std::mutex> guard(lock);
    uintptr_t name = new_name();
    living[name] = made;
    *out = reinterpret_cast<cudnnBackendDescriptor_t>(name);
    born(*out, kLeakKind);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t name)
{
    std::shared_ptr<Descriptor> gone = find(name, "cudnnBackendDestroyDescriptor");
    if (auto plan = std::get_if<Plan>(&gone->meaning))
        plan->alive->store(false);
    died(name, kLeakKind);
    std::lock_guard<std::mutex> guard(lock);
    living.erase(reinterpret_cast<uintptr_t>(name));
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t name, cudnnBackendAttributeName_t attribute, cudnnBackendAttributeType_t type, int64_t n,
    const void *values)
{
    std::shared_ptr<Descriptor> descriptor = find(name, "cudnnBackendSetAttribute");
    cudnnStatus_t status;
    const Rule *rule = rule_for(*descriptor, attribute, &status);
    return rule ? set(*descriptor, *rule, type, n, values) : status;
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t const name, cudnnBackendAttributeName_t attribute, cudnnBackendAttributeType_t type,
    int64_t n_wanted, int64_t *n, void *values)
{
    std::shared_ptr<Descriptor> descriptor = find(name, "cudnnBackendGetAttribute");
    cudnnStatus_t status;
    const Rule *rule = rule_for(*descriptor, attribute, &status);
    return rule ? get(*descriptor, *rule, type, n_wanted, n, values) : status;
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t name)
{
    return finalise(*find(name, "cudnnBackendFinalize"));
}

} // extern "C"
