/* What is left of the runtime: errors, devices, copies, attributes of kernels. */
#include "cudaemu_engine.h"

#include <cstdio>
#include <cstring>

namespace cudaemu {

/* ---------------------------------------------------------------- errors */

/* A host thread's. CUDA keeps an error until cudaGetLastError is called, and hands it to whoever calls: if that is the check behind a later
 * launch, the launch is blamed. So a launch with an older error still there is a fault, and so is one whose own check was left out. */
static thread_local struct {
    cudaError_t last = cudaSuccess;
    const char *call = nullptr;   /* that reported it */
    const char *launch = nullptr; /* not checked yet, or NULL */
    int device = 0;
} mine;

int current_device() { return mine.device; }

cudaError_t failed(cudaError_t error, const char *call)
{
    boot();
    mine.last = error;
    mine.call = call;
    return error;
}

void check_errors_asked_for(const char *before)
{
    if (mine.launch)
        fault("%s: unchecked: no cudaGetLastError after the launch of %s", before, mine.launch);
    if (mine.last != cudaSuccess)
        fault("%s: unchecked: %s reported '%s', and cudaGetLastError was not called", before, mine.call, cudaGetErrorString(mine.last));
}

void note_launch(const char *name)
{
    check_errors_asked_for(name);
    mine.launch = name;
}

cudaError_t need_device(const char *call)
{
    return config().devices ? cudaSuccess : failed(cudaErrorNoDevice, call);
}

} // namespace cudaemu

using namespace cudaemu;

extern "C" cudaError_t cudaGetLastError(void)
{
    cudaError_t error = mine.last;
    mine.last = cudaSuccess;
    mine.launch = nullptr;
    return error;
}

extern "C" cudaError_t cudaPeekAtLastError(void)
{
    mine.launch = nullptr;
    return mine.last;
}

static const struct {
    cudaError_t error;
    const char *name, *text;
} errors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver", "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorPeerAccessUnsupported, "cudaErrorPeerAccessUnsupported", "peer access is not supported between these two devices"},
    {cudaErrorPeerAccessAlreadyEnabled, "cudaErrorPeerAccessAlreadyEnabled", "peer access is already enabled"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
};

extern "C" const char *cudaGetErrorName(cudaError_t error)
{
    for (auto &e : errors)
        if (e.error == error)
            return e.name;
    return "unrecognized error code";
}

extern "C" const char *cudaGetErrorString(cudaError_t error)
{
    for (auto &e : errors)
        if (e.error == error)
            return e.text;
    return "unrecognized error code";
}

/* ---------------------------------------------------------------- devices */

int cudaemu::capability() { return config().capability; }

extern "C" cudaError_t cudaDriverGetVersion(int *version)
{
    *version = config().devices ? CUDART_VERSION : 0;
    return cudaSuccess;
}

extern "C" cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

extern "C" cudaError_t cudaGetDeviceCount(int *count)
{
    boot();
    *count = config().devices;
    return need_device("cudaGetDeviceCount");
}

static cudaError_t check_ordinal(int device, const char *call)
{
    if (cudaError_t error = need_device(call))
        return error;
    return device >= 0 && device < config().devices ? cudaSuccess : failed(cudaErrorInvalidDevice, call);
}

extern "C" cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *out, int device)
{
    if (cudaError_t error = check_ordinal(device, "cudaGetDeviceProperties"))
        return error;
    *out = {};
    snprintf(out->name, sizeof out->name, "emulated GPU %d", device);
    out->totalGlobalMem = config().memory;
    out->sharedMemPerBlock = 48 * 1024;
    out->sharedMemPerBlockOptin = shared_limit_optin();
    out->sharedMemPerMultiprocessor = shared_limit_optin() + 1024;
    out->reservedSharedMemPerBlock = config().capability < 80 ? 0 : 1024;
    out->regsPerBlock = out->regsPerMultiprocessor = 65536;
    out->warpSize = 32;
    out->maxThreadsPerBlock = 1024;
    out->maxThreadsPerMultiProcessor = config().capability == 75 ? 1024 : config().capability == 86 || config().capability == 89 ? 1536 : 2048;
    out->maxBlocksPerMultiProcessor = 16;
    out->maxThreadsDim[0] = out->maxThreadsDim[1] = 1024;
    out->maxThreadsDim[2] = 64;
    out->maxGridSize[0] = 0x7fffffff;
    out->maxGridSize[1] = out->maxGridSize[2] = 65535;
    out->major = config().capability / 10;
    out->minor = config().capability % 10;
    out->multiProcessorCount = 2; /* few: grid-stride loops go round in tests too */
    out->memoryBusWidth = 5120;
    out->l2CacheSize = 4 << 20;
    return cudaSuccess;
}

extern "C" cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device)
{
    struct cudaDeviceProp p;
    if (cudaError_t error = cudaGetDeviceProperties(&p, device))
        return error;
    switch (attribute) {
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = (int)p.sharedMemPerBlock; return cudaSuccess;
    case cudaDevAttrMultiProcessorCount: *value = p.multiProcessorCount; return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor: *value = p.major; return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor: *value = p.minor; return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = (int)p.sharedMemPerBlockOptin; return cudaSuccess;
    }
    fault("cudaDeviceGetAttribute: attribute %d is not emulated", (int)attribute);
}

extern "C" cudaError_t cudaSetDevice(int device)
{
    if (cudaError_t error = check_ordinal(device, "cudaSetDevice"))
        return error;
    mine.device = device;
    return cudaSuccess;
}

extern "C" cudaError_t cudaGetDevice(int *device)
{
    *device = mine.device;
    return need_device("cudaGetDevice");
}

extern "C" cudaError_t cudaDeviceCanAccessPeer(int *can, int device, int peer)
{
    if (cudaError_t error = check_ordinal(device, "cudaDeviceCanAccessPeer"))
        return error;
    if (cudaError_t error = check_ordinal(peer, "cudaDeviceCanAccessPeer"))
        return error;
    *can = device != peer && config().peers;
    return cudaSuccess;
}

extern "C" cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned flags)
{
    Guard guard;
    if (cudaError_t error = check_ordinal(peer, "cudaDeviceEnablePeerAccess"))
        return error;
    if (flags || peer == mine.device)
        return failed(flags ? cudaErrorInvalidValue : cudaErrorInvalidDevice, "cudaDeviceEnablePeerAccess");
    if (!config().peers)
        return failed(cudaErrorPeerAccessUnsupported, "cudaDeviceEnablePeerAccess");
    if (has_peer(mine.device, peer))
        return failed(cudaErrorPeerAccessAlreadyEnabled, "cudaDeviceEnablePeerAccess");
    set_peer(mine.device, peer);
    return cudaSuccess;
}

/* ---------------------------------------------------------------- copies */

/* Which way the bytes go, as the pointers say. */
static void check_kind(enum cudaMemcpyKind kind, bool to_device, bool from_device)
{
    static const struct {
        bool to, from;
    } means[] = {{false, false}, {true, false}, {false, true}, {true, true}};
    if (kind == cudaMemcpyDefault)
        return;
    if ((unsigned)kind > cudaMemcpyDefault || means[kind].to != to_device || means[kind].from != from_device)
        fault("cudaMemcpyAsync: the kind of copy (%d) contradicts the pointers", (int)kind);
}

static void copy(CUstream_st &s, const char *name, void *to, const void *from, size_t bytes)
{
    bool to_device = is_device(to), from_device = is_device(from);
    bool to_pinned = is_pinned(reinterpret_cast<uintptr_t>(to)), from_pinned = is_pinned(reinterpret_cast<uintptr_t>(from));
    bool to_pageable = !to_device && !to_pinned, from_pageable = !from_device && !from_pinned;
    if (!to_device && !from_device)
        fault("%s between two places in host memory", name);
    if ((to_pageable || from_pageable) && s.capture)
        fault("%s: illegal during capture: %p is pageable host memory", name, to_pageable ? to : from);
    if (to_pageable || from_pageable)
        refuse_during_capture(name);
    auto task = std::make_shared<Task>();
    task->name = name;
    task->kind = OpKind::Copy;
    task->device = s.device;
    if (!to_pageable)
        task->accesses.push_back({to, bytes, true});
    if (!from_pageable)
        task->accesses.push_back({from, bytes, false});
    if (from_pageable) { /* CUDA returns when it has taken the bytes over */
        std::shared_ptr<unsigned char[]> staged(new unsigned char[bytes]);
        memcpy(staged.get(), from, bytes);
        task->work = [=] { memcpy(to, staged.get(), bytes); };
    } else {
        task->work = [=] { memmove(to, from, bytes); };
    }
    put(&s, task);
    if (to_pageable) /* and here when they have arrived */
        wait_for(s.tail);
}

extern "C" cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream)
{
    Guard guard;
    CUstream_st &s = stream_of(stream, "cudaMemcpyAsync");
    if (!bytes)
        return cudaSuccess;
    check_kind(kind, is_device(to), is_device(from));
    copy(s, "cudaMemcpyAsync", to, from, bytes);
    return cudaSuccess;
}

extern "C" cudaError_t cudaMemcpyPeerAsync(void *to, int to_device, const void *from, int from_device, size_t bytes, cudaStream_t stream)
{
    Guard guard;
    CUstream_st &s = stream_of(stream, "cudaMemcpyPeerAsync");
    if (!bytes)
        return cudaSuccess;
    if (device_at(reinterpret_cast<uintptr_t>(to)) != to_device || device_at(reinterpret_cast<uintptr_t>(from)) != from_device)
        fault("cudaMemcpyPeerAsync: %p is not memory of GPU %d, or %p not of GPU %d", to, to_device, from, from_device);
    copy(s, "cudaMemcpyPeerAsync", to, from, bytes);
    return cudaSuccess;
}

extern "C" cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream)
{
    Guard guard;
    CUstream_st &s = stream_of(stream, "cudaMemsetAsync");
    if (!bytes)
        return cudaSuccess;
    if (!is_device(p))
        fault("cudaMemsetAsync: %p is host memory, expected device memory", p);
    auto task = std::make_shared<Task>();
    *task = {"cudaMemsetAsync", OpKind::Library, s.device, {{p, bytes, true}}, [=] { memset(p, value, bytes); }};
    put(stream, task);
    return cudaSuccess;
}

/* ---------------------------------------------------------------- kernels */

extern "C" cudaError_t cudaFuncSetAttribute(const void *kernel, enum cudaFuncAttribute attribute, int value)
{
    Guard guard;
    if (cudaError_t error = need_device("cudaFuncSetAttribute"))
        return error;
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize)
        fault("cudaFuncSetAttribute: attribute %d is not emulated", (int)attribute);
    if (value < 0 || (size_t)value > shared_limit_optin())
        return failed(cudaErrorInvalidValue, "cudaFuncSetAttribute");
    set_dynamic_shared_limit(kernel, (size_t)value);
    return cudaSuccess;
}
