/* The CUDA device: a stream of its own on one GPU, with another for what is sent ahead; or none at all where the GPU is only described. */
#include "device/cuda.h"
#include "device/device_ops.h"

#include <stdlib.h>
#include <string.h>

#define LEAST_CAPABILITY 75
#define LEAST_CUDNN 90000

/* ---------------------------------------------------------------- errors */

PapaStatus papa_cuda_check(cudaError_t error, const char *what)
{
    if (error == cudaSuccess)
        return PAPA_OK;
    (void)cudaGetLastError(); /* else the next launch would be blamed for it */
    return papa_fail(error == cudaErrorMemoryAllocation ? PAPA_ERR_MEMORY : PAPA_ERR_DEVICE, "%s: %s", what, cudaGetErrorString(error));
}

PapaStatus papa_cudnn_check(cudnnStatus_t status, const char *what)
{
    if (status == CUDNN_STATUS_SUCCESS)
        return PAPA_OK;
    char reason[512] = "";
    cudnnGetLastErrorString(reason, sizeof reason);
    return papa_fail(status == CUDNN_STATUS_ALLOC_FAILED ? PAPA_ERR_MEMORY : PAPA_ERR_DEVICE, "%s: %s%s%s", what, cudnnGetErrorString(status),
        *reason ? ": " : "", reason);
}

PapaStatus papa_cublas_check(cublasStatus_t status, const char *what)
{
    if (status == CUBLAS_STATUS_SUCCESS)
        return PAPA_OK;
    return papa_fail(status == CUBLAS_STATUS_ALLOC_FAILED ? PAPA_ERR_MEMORY : PAPA_ERR_DEVICE, "%s: %s", what, cublasLtGetStatusString(status));
}

/* ---------------------------------------------------------------- which GPUs there are */

static PapaStatus no_gpu(cudaError_t error)
{
    int driver = 0;
    if (error == cudaErrorNoDevice)
        return papa_fail(PAPA_ERR_DEVICE, "CUDA: the driver sees no GPU");
    if (error == cudaErrorInsufficientDriver && cudaDriverGetVersion(&driver) == cudaSuccess && driver)
        return papa_fail(PAPA_ERR_DEVICE, "CUDA: the driver is for CUDA %d.%d, this build needs %d.%d", driver / 1000, driver % 1000 / 10,
            CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
    if (error == cudaErrorInsufficientDriver)
        return papa_fail(PAPA_ERR_DEVICE, "CUDA: NVIDIA's driver is not installed or not loaded");
    return papa_cuda_check(error, "CUDA");
}

int papa_device_count_cuda(void)
{
    int n = 0;
    cudaError_t error = cudaGetDeviceCount(&n);
    if (error == cudaSuccess && n > 0)
        return n;
    (void)cudaGetLastError(); /* it is ours, not the next call's */
    (void)no_gpu(error == cudaSuccess ? cudaErrorNoDevice : error);
    return 0;
}

static PapaStatus read_properties(PapaGpu *out, int ordinal)
{
    struct cudaDeviceProp p;
    PAPA_TRY_CUDA(cudaGetDeviceProperties(&p, ordinal));
    *out = (PapaGpu){
        .capability = 10 * p.major + p.minor, .multiprocessors = p.multiProcessorCount, .memory = (int64_t)p.totalGlobalMem, .l2_cache = p.l2CacheSize,
        .max_grid = {p.maxGridSize[0], p.maxGridSize[1], p.maxGridSize[2]},
        .max_block = {p.maxThreadsDim[0], p.maxThreadsDim[1], p.maxThreadsDim[2]}, .max_threads = p.maxThreadsPerBlock,
        .shared_per_block = (int64_t)p.sharedMemPerBlock, .shared_per_block_optin = (int64_t)p.sharedMemPerBlockOptin,
    };
    memcpy(out->name, p.name, sizeof out->name - 1);
    if (out->capability < LEAST_CAPABILITY)
        return papa_fail(PAPA_ERR_DEVICE, "cuda:%d (%s) has compute capability %d.%d, expected at least %d.%d", ordinal, out->name, p.major, p.minor,
            LEAST_CAPABILITY / 10, LEAST_CAPABILITY % 10);
    return PAPA_OK;
}

/* ---------------------------------------------------------------- opening and closing */

static void close_cuda(PapaDevice *dev)
{
    PapaCuda *cuda = dev->library;
    if (!cuda)
        return;
    if (cuda->ordinal >= 0)
        (void)cudaSetDevice(cuda->ordinal);
    if (cuda->uploads)
        (void)cudaStreamSynchronize(cuda->uploads);
    if (cuda->stream)
        (void)cudaStreamSynchronize(cuda->stream);
    if (cuda->dnn)
        (void)cudnnDestroy(cuda->dnn);
    if (cuda->blas)
        (void)cublasLtDestroy(cuda->blas);
    if (cuda->described)
        (void)cudnnBackendDestroyDescriptor(cuda->described);
    if (cuda->scratch && cuda->ordinal >= 0)
        (void)cudaFree(cuda->scratch);
    if (cuda->sent)
        (void)cudaEventDestroy(cuda->sent);
    if (cuda->uploads)
        (void)cudaStreamDestroy(cuda->uploads);
    if (cuda->stream)
        (void)cudaStreamDestroy(cuda->stream);
    papa_gpu_clear(&cuda->gpu);
    free(cuda);
}

/* Takes a finished or failed device: returns it, or closes it. */
static PapaStatus hand_out(PapaDevice **out, PapaDevice *dev, PapaStatus status)
{
    if (status != PAPA_OK) {
        close_cuda(dev);
        free(dev);
        return status;
    }
    *out = dev;
    return PAPA_OK;
}

static PapaStatus new_device(PapaDevice **out, int ordinal, PapaPrecision precision)
{
    PapaDevice *dev = calloc(1, sizeof *dev);
    PapaCuda *cuda = calloc(1, sizeof *cuda);
    if (!dev || !cuda) {
        free(dev);
        free(cuda);
        return papa_fail_memory(sizeof *cuda, "a device");
    }
    cuda->ordinal = ordinal;
    *dev = (PapaDevice){.kind = PAPA_CUDA, .n_threads = 1, .precision = precision, .library = cuda,
        .element = precision == PAPA_PRECISION_BF16 ? PAPA_BFLOAT16 : PAPA_FLOAT32};
    *out = dev;
    return PAPA_OK;
}

static PapaStatus check_libraries(void)
{
    size_t found = cudnnGetVersion();
    if (found < LEAST_CUDNN)
        return papa_fail(PAPA_ERR_DEVICE, "cuDNN %zu.%zu is installed, expected 9 or newer", found / 1000, found % 1000 / 100);
    return PAPA_OK;
}

static PapaStatus open_handles(PapaDevice *dev)
{
    PapaCuda *cuda = papa_cuda(dev);
    PAPA_TRY(check_libraries());
    PAPA_TRY(read_properties(&cuda->gpu, cuda->ordinal));
    PAPA_TRY_CUDA(cudaSetDevice(cuda->ordinal));
    PAPA_TRY_CUDA(cudaStreamCreateWithFlags(&cuda->stream, cudaStreamNonBlocking));
    PAPA_TRY_CUDA(cudaStreamCreateWithFlags(&cuda->uploads, cudaStreamNonBlocking));
    PAPA_TRY_CUDA(cudaEventCreateWithFlags(&cuda->sent, cudaEventDisableTiming));
    PAPA_TRY(papa_cublas_check(cublasLtCreate(&cuda->blas), "cuBLASLt"));
    PAPA_TRY(papa_cudnn_check(cudnnCreate(&cuda->dnn), "cuDNN"));
    PAPA_TRY(papa_cudnn_check(cudnnSetStream(cuda->dnn, cuda->stream), "cuDNN"));
    return papa_device_alloc(dev, &cuda->scratch, PAPA_CUDA_SCRATCH, "a worker's partial sums");
}

PapaStatus papa_device_open_cuda(PapaDevice **out, int ordinal, PapaPrecision precision)
{
    *out = NULL;
    int n = papa_device_count_cuda();
    if (!n)
        return PAPA_ERR_DEVICE;
    if (ordinal < 0 || ordinal >= n)
        return papa_fail(PAPA_ERR_DEVICE, "cuda:%d: there are %d GPUs, counted from 0", ordinal, n);
    PapaDevice *dev = NULL;
    PAPA_TRY(new_device(&dev, ordinal, precision));
    return hand_out(out, dev, open_handles(dev));
}

static PapaStatus describe(PapaDevice *dev, const PapaGpu *gpu)
{
    PapaCuda *cuda = papa_cuda(dev);
    PAPA_TRY(check_libraries());
    cuda->gpu = *gpu;
    cuda->gpu.json = strdup(gpu->json);
    if (!cuda->gpu.json)
        return papa_fail_memory(strlen(gpu->json), "a GPU's description");
    PAPA_TRY(papa_cudnn_check(cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &cuda->described), "cuDNN"));
    PAPA_TRY(papa_cudnn_check(cudnnBackendSetAttribute(cuda->described, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
        (int64_t)strlen(gpu->json), gpu->json), gpu->name));
    PAPA_TRY(papa_cudnn_check(cudnnBackendFinalize(cuda->described), gpu->name));
    return papa_device_alloc(dev, &cuda->scratch, PAPA_CUDA_SCRATCH, "a worker's partial sums");
}

PapaStatus papa_device_open_described(PapaDevice **out, const PapaGpu *gpu, PapaPrecision precision, PapaLaunchLog *log)
{
    *out = NULL;
    PapaDevice *dev = NULL;
    PAPA_TRY(new_device(&dev, -1, precision));
    papa_cuda(dev)->log = log;
    return hand_out(out, dev, describe(dev, gpu));
}

static bool is_described(const PapaDevice *dev)
{
    return papa_cuda(dev)->ordinal < 0;
}

static PapaStatus enter(PapaDevice *dev)
{
    if (!is_described(dev))
        PAPA_TRY_CUDA(cudaSetDevice(papa_cuda(dev)->ordinal));
    return PAPA_OK;
}

static const char *name(const PapaDevice *dev)
{
    return papa_cuda(dev)->gpu.name;
}

static bool reaches(PapaDevice *dev, const void *memory)
{
    struct cudaPointerAttributes attributes;
    return is_described(dev) || (cudaPointerGetAttributes(&attributes, memory) == cudaSuccess && attributes.device == papa_cuda(dev)->ordinal);
}

static PapaStatus link_cuda(PapaDevice *dev, PapaDevice *from)
{
    int can = 0, other = papa_cuda(from)->ordinal;
    if (is_described(dev) || other == papa_cuda(dev)->ordinal)
        return PAPA_OK;
    PAPA_TRY(enter(dev));
    PAPA_TRY_CUDA(cudaDeviceCanAccessPeer(&can, papa_cuda(dev)->ordinal, other));
    if (!can) /* CUDA then goes through the host */
        return PAPA_OK;
    cudaError_t error = cudaDeviceEnablePeerAccess(other, 0);
    if (error != cudaErrorPeerAccessAlreadyEnabled)
        return papa_cuda_check(error, "cudaDeviceEnablePeerAccess");
    (void)cudaGetLastError();
    return PAPA_OK;
}

static PapaStatus free_bytes(PapaDevice *dev, int64_t *out)
{
    size_t n_free = 0, n_all = 0;
    if (is_described(dev)) {
        *out = papa_cuda(dev)->gpu.memory - papa_cuda(dev)->log->bytes;
        return PAPA_OK;
    }
    PAPA_TRY(enter(dev));
    PAPA_TRY_CUDA(cudaMemGetInfo(&n_free, &n_all));
    *out = (int64_t)n_free;
    return PAPA_OK;
}

/* ---------------------------------------------------------------- memory */

/* A described device's addresses are only told apart: nobody may follow them. */
static PapaStatus alloc_described(PapaLaunchLog *log, void **out, size_t bytes)
{
    size_t rounded = (bytes + 255) / 256 * 256;
    *out = (void *)(uintptr_t)(((uint64_t)1 << 40) + (uint64_t)log->bytes);
    log->bytes += (int64_t)rounded;
    return PAPA_OK;
}

static PapaStatus alloc(PapaDevice *dev, void **out, size_t bytes, const char *purpose)
{
    if (is_described(dev))
        return alloc_described(papa_cuda(dev)->log, out, bytes);
    PAPA_TRY(enter(dev));
    cudaError_t error = cudaMalloc(out, bytes);
    if (error != cudaErrorMemoryAllocation)
        return papa_cuda_check(error, purpose);
    (void)cudaGetLastError();
    *out = NULL;
    size_t n_free = 0, n_all = 0;
    (void)cudaMemGetInfo(&n_free, &n_all);
    return papa_fail(PAPA_ERR_MEMORY, "cuda:%d: no %zu bytes for %s; %zu of %zu are free", papa_cuda(dev)->ordinal, bytes, purpose, n_free, n_all);
}

static void free_cuda(PapaDevice *dev, void *memory)
{
    if (is_described(dev))
        return;
    (void)enter(dev);
    (void)cudaFree(memory);
}

static PapaStatus alloc_host(PapaDevice *dev, void **out, size_t bytes, const char *purpose)
{
    if (is_described(dev)) {
        *out = calloc(1, bytes);
        return *out ? PAPA_OK : papa_fail_memory(bytes, purpose);
    }
    PAPA_TRY(enter(dev));
    return papa_cuda_check(cudaHostAlloc(out, bytes, cudaHostAllocPortable), purpose);
}

static void free_host(PapaDevice *dev, void *memory)
{
    if (is_described(dev))
        free(memory);
    else
        (void)cudaFreeHost(memory);
}

/* ---------------------------------------------------------------- copies */

static PapaStatus copy(PapaDevice *dev, void *to, const void *from, size_t bytes)
{
    if (is_described(dev))
        return PAPA_OK;
    PAPA_TRY_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, papa_cuda(dev)->stream));
    return PAPA_OK;
}

static PapaStatus sync_cuda(PapaDevice *dev)
{
    if (is_described(dev))
        return PAPA_OK;
    PAPA_TRY_CUDA(cudaStreamSynchronize(papa_cuda(dev)->stream));
    return PAPA_OK;
}

/* From pageable memory CUDA returns when it has taken the bytes over; from pinned memory it need not have. */
static PapaStatus upload(PapaDevice *dev, void *to, const void *from_host, size_t bytes)
{
    PAPA_TRY(copy(dev, to, from_host, bytes));
    return sync_cuda(dev);
}

static PapaStatus download(PapaDevice *dev, void *to_host, const void *from, size_t bytes)
{
    if (is_described(dev)) {
        memset(to_host, 0, bytes);
        return PAPA_OK;
    }
    PAPA_TRY(copy(dev, to_host, from, bytes));
    return sync_cuda(dev);
}

static PapaStatus send(PapaDevice *dev, void *to, const void *from_host, size_t bytes)
{
    const PapaCuda *cuda = papa_cuda(dev);
    if (is_described(dev))
        return PAPA_OK;
    PAPA_TRY_CUDA(cudaMemcpyAsync(to, from_host, bytes, cudaMemcpyDefault, cuda->uploads));
    PAPA_TRY_CUDA(cudaEventRecord(cuda->sent, cuda->uploads));
    PAPA_TRY_CUDA(cudaStreamWaitEvent(cuda->stream, cuda->sent, 0));
    return PAPA_OK;
}

static PapaStatus zero(PapaDevice *dev, void *to, size_t bytes)
{
    if (papa_cuda_calls(dev, "cudaMemsetAsync", 0))
        PAPA_TRY_CUDA(cudaMemsetAsync(to, 0, bytes, papa_cuda(dev)->stream));
    return PAPA_OK;
}

/* ---------------------------------------------------------------- events */

static PapaStatus event_new(PapaDevice *dev, void **out)
{
    if (is_described(dev))
        return PAPA_OK;
    PAPA_TRY(enter(dev));
    cudaEvent_t event;
    PAPA_TRY_CUDA(cudaEventCreateWithFlags(&event, cudaEventDisableTiming | cudaEventBlockingSync));
    *out = event;
    return PAPA_OK;
}

static void event_free(PapaDevice *dev, void *point)
{
    (void)enter(dev);
    (void)cudaEventDestroy(point);
}

static PapaStatus event_record(PapaDevice *dev, void *point)
{
    PAPA_TRY_CUDA(cudaEventRecord(point, papa_cuda(dev)->stream));
    return PAPA_OK;
}

static PapaStatus event_wait(void *point)
{
    PAPA_TRY_CUDA(cudaEventSynchronize(point));
    return PAPA_OK;
}

static PapaStatus event_follow(PapaDevice *dev, void *point)
{
    PAPA_TRY_CUDA(cudaStreamWaitEvent(papa_cuda(dev)->stream, point, 0));
    return PAPA_OK;
}

/* ---------------------------------------------------------------- recorded work */

static PapaStatus capture(PapaDevice *dev, void **out, papa_capture_fn *body, void *context)
{
    if (is_described(dev))
        return body(context, dev);
    cudaStream_t stream = papa_cuda(dev)->stream;
    PAPA_TRY(enter(dev));
    /* Other threads may allocate meanwhile; this one may not. */
    PAPA_TRY_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    PapaStatus status = body(context, dev);
    cudaGraph_t graph = NULL;
    cudaError_t error = cudaStreamEndCapture(stream, &graph);
    if (status == PAPA_OK)
        status = papa_cuda_check(error, "recording a step");
    else
        (void)cudaGetLastError(); /* the body's own message says more */
    cudaGraphExec_t work = NULL;
    if (status == PAPA_OK)
        status = papa_cuda_check(cudaGraphInstantiate(&work, graph, 0), "recording a step");
    if (graph)
        (void)cudaGraphDestroy(graph);
    *out = work;
    return status;
}

static PapaStatus replay(PapaDevice *dev, void *work)
{
    PAPA_TRY_CUDA(cudaGraphLaunch(work, papa_cuda(dev)->stream));
    return PAPA_OK;
}

static void replay_free(void *work)
{
    (void)cudaGraphExecDestroy(work);
}

const PapaDeviceOps papa_device_ops_cuda = {
    .close = close_cuda, .enter = enter, .name = name, .reaches = reaches, .link = link_cuda, .free_bytes = free_bytes, .alloc = alloc, .free = free_cuda, .alloc_host = alloc_host, .free_host = free_host,
    .upload = upload, .download = download, .copy = copy, .send = send, .fetch = copy, .zero = zero, .sync = sync_cuda,
    .event_new = event_new, .event_free = event_free, .event_record = event_record, .event_wait = event_wait, .event_follow = event_follow,
    .capture = capture, .replay = replay, .replay_free = replay_free,
};

/* ---------------------------------------------------------------- launches */

static void write_down(PapaLaunchLog *log, PapaLaunch launch)
{
    if (log->failed)
        return;
    if (log->n == log->capacity) {
        int64_t capacity = log->capacity ? 2 * log->capacity : 256;
        PapaLaunch *grown = realloc(log->launches, (size_t)capacity * sizeof *grown);
        if (!grown) {
            log->failed = true;
            return;
        }
        log->launches = grown;
        log->capacity = capacity;
    }
    log->launches[log->n++] = launch;
}

bool papa_cuda_launches(PapaDevice *dev, const char *kernel, int64_t blocks, int64_t threads, size_t shared)
{
    if (!is_described(dev))
        return true;
    write_down(papa_cuda(dev)->log, (PapaLaunch){.what = kernel, .blocks = blocks, .threads = threads, .shared = shared});
    return false;
}

bool papa_cuda_calls(PapaDevice *dev, const char *what, double flops)
{
    if (!is_described(dev))
        return true;
    write_down(papa_cuda(dev)->log, (PapaLaunch){.what = what, .flops = flops});
    return false;
}

PapaStatus papa_cuda_launched(PapaDevice *dev, const char *kernel)
{
    (void)dev;
    return papa_cuda_check(cudaGetLastError(), kernel);
}
