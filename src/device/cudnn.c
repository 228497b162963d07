/* Convolutions as graphs of cuDNN's backend API.
 *
 * A graph's descriptors are made from tables of attributes, collected in a Bag, and destroyed when the plan stands; the plan and its engine's
 * configuration stay. What cuDNN refuses has a status in the 3000s or 4000s; everything else that fails is a fault of ours. */
#include "device/cudnn.h"
#include "device/cuda.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORKSPACE_LIMIT ((int64_t)256 << 20) /* bytes; an engine that wants more is taken only where all do */
#define ALIGNMENT ((int64_t)16)              /* of the tensors, bytes */
enum { MAX_CONFIGS = 64, MAX_TUNED = 5, TIMED_RUNS = 5 };

struct PapaCudnnPlan {
    PapaCudnnPlan *next; /* in the cache */
    int n_users;
    /* the key */
    PapaCudnnConv conv;
    PapaPrecision precision;
    bool tune;
    cudnnHandle_t handle; /* whose device it is planned on: plans for one handle end before it does; NULL: described by */
    char *gpu;            /* its JSON */
    /* the plan */
    cudnnBackendDescriptor_t config, plan;
    pthread_mutex_t running; /* cuDNN doesn't promise that one plan may be executed by two threads at once */
    int64_t workspace;
    double flops;
    char text[256];
};

/* ---------------------------------------------------------------- descriptors */

typedef cudnnBackendDescriptor_t Descriptor;

typedef struct Bag {
    Descriptor items[24 + 2 * MAX_CONFIGS];
    int n;
} Bag;

/* Whoever keeps it destroys it. */
static void take_out(Bag *bag, Descriptor kept)
{
    int i = 0;
    while (bag->items[i] != kept)
        i++;
    bag->items[i] = bag->items[--bag->n];
}

static void empty(Bag *bag)
{
    while (bag->n)
        (void)cudnnBackendDestroyDescriptor(bag->items[--bag->n]);
}

/* Internal errors too: a kernel that one engine can't compile leaves the others. */
static bool is_refusal(cudnnStatus_t status)
{
    return status >= CUDNN_STATUS_NOT_SUPPORTED && status < CUDNN_STATUS_EXECUTION_FAILED &&
        status != CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED && status != CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED;
}

/* A refusal is PAPA_ERR_UNSUPPORTED. */
static PapaStatus check(cudnnStatus_t status, const char *what)
{
    PapaStatus ours = papa_cudnn_check(status, what);
    return is_refusal(status) ? PAPA_ERR_UNSUPPORTED : ours;
}

static PapaStatus create(Bag *bag, Descriptor *out, cudnnBackendDescriptorType_t type, const char *what)
{
    assert(bag->n < (int)(sizeof bag->items / sizeof *bag->items));
    PAPA_TRY(check(cudnnBackendCreateDescriptor(type, out), what));
    bag->items[bag->n++] = *out;
    return PAPA_OK;
}

typedef struct Attribute {
    int name; /* cudnnBackendAttributeName_t */
    cudnnBackendAttributeType_t type;
    int64_t n;
    const void *values;
} Attribute;

/* Creates, sets, finalises. */
static PapaStatus build(Bag *bag, Descriptor *out, cudnnBackendDescriptorType_t type, const char *what, const Attribute *attributes, size_t n)
{
    PAPA_TRY(create(bag, out, type, what));
    for (size_t i = 0; i < n; i++)
        PAPA_TRY(check(cudnnBackendSetAttribute(*out, (cudnnBackendAttributeName_t)attributes[i].name, attributes[i].type, attributes[i].n,
            attributes[i].values), what));
    return check(cudnnBackendFinalize(*out), what);
}
#define BUILD(bag, out, type, what, ...)                                        \
    build((bag), (out), (type), (what), (const Attribute[]){__VA_ARGS__},       \
        sizeof((const Attribute[]){__VA_ARGS__}) / sizeof(Attribute))
#define ONE(name, type, value) {(name), (type), 1, (value)}
#define LINK(name, descriptor) {(name), CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, (descriptor)}

static cudnnDataType_t data_type(int64_t element)
{
    return element == PAPA_BFLOAT16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
}

/* (n, c, h, w), the channels innermost in memory. uid 0: between two operations of the graph, in no memory. */
static PapaStatus tensor(Bag *bag, Descriptor *out, int64_t uid, cudnnDataType_t type, int64_t n, int64_t c, int64_t h, int64_t w)
{
    static int64_t inner; /* names of tensors in no memory must differ from the others, no more */
    const int64_t dims[4] = {n, c, h, w}, strides[4] = {c * h * w, 1, c * w, c}, alignment = ALIGNMENT;
    bool is_virtual = !uid;
    if (is_virtual)
        uid = -1 - __atomic_fetch_add(&inner, 1, __ATOMIC_RELAXED);
    return BUILD(bag, out, CUDNN_BACKEND_TENSOR_DESCRIPTOR, "cuDNN, a tensor",
        ONE(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, &type),
        {CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims}, {CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides},
        ONE(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, &uid), ONE(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, &alignment),
        ONE(CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, &is_virtual));
}

/* ---------------------------------------------------------------- the graph */

enum { X = 'x', W = 'w', Y = 'y', B = 'b' }; /* the tensors' names */

static PapaStatus convolution(Bag *bag, Descriptor *out, const PapaCudnnConv *c)
{
    const int64_t n_dims = 2;
    const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    return BUILD(bag, out, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, "cuDNN, a convolution",
        ONE(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, &n_dims),
        ONE(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, &compute),
        ONE(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, &mode),
        {CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, c->before},
        {CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, c->after},
        {CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, c->dilation},
        {CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, c->stride});
}

/* The three passes' operations differ in their attributes' names only. */
static const struct {
    cudnnBackendDescriptorType_t type;
    int x, w, y, conv, alpha, beta;
    const char *what;
} passes[] = {
    [PAPA_CUDNN_FWD] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
        CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
        CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, "forward"},
    [PAPA_CUDNN_BWD_DATA] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA, "data gradient"},
    [PAPA_CUDNN_BWD_WEIGHTS] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA, "weights' gradient"},
};

/* b is NULL for an operation on one tensor. */
static PapaStatus pointwise(Bag *bag, Descriptor *out, cudnnPointwiseMode_t mode, const Descriptor *x, const Descriptor *b, const Descriptor *y)
{
    const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    Descriptor how;
    PAPA_TRY(BUILD(bag, &how, CUDNN_BACKEND_POINTWISE_DESCRIPTOR, "cuDNN, an element-wise operation",
        ONE(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, &mode), ONE(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, &compute)));
    const Attribute attributes[] = {
        LINK(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, &how), LINK(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x),
        LINK(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y), LINK(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b),
    };
    return build(bag, out, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, "cuDNN, an element-wise operation", attributes, b ? 4 : 3);
}

/* The convolution, and behind it what turns its result into y. */
static PapaStatus operations(Bag *bag, Descriptor ops[3], int64_t *n_ops, const PapaCudnnConv *c)
{
    const cudnnDataType_t maps = data_type(c->maps);
    const float alpha = 1, beta = c->accumulate ? 1 : 0;
    Descriptor x, w, y, conv, result, biased, b;
    PAPA_TRY(convolution(bag, &conv, c));
    PAPA_TRY(tensor(bag, &x, X, maps, c->N, c->C, c->H, c->W));
    PAPA_TRY(tensor(bag, &w, W, data_type(c->filter), c->K, c->C / c->groups, c->R, c->S));
    PAPA_TRY(tensor(bag, &y, Y, maps, c->N, c->K, c->OH, c->OW));
    result = y;
    if (c->bias || c->relu)
        PAPA_TRY(tensor(bag, &result, 0, CUDNN_DATA_FLOAT, c->N, c->K, c->OH, c->OW));
    PAPA_TRY(BUILD(bag, &ops[0], passes[c->pass].type, "cuDNN, a convolution",
        LINK(passes[c->pass].x, &x), LINK(passes[c->pass].w, &w), LINK(passes[c->pass].y, &result), LINK(passes[c->pass].conv, &conv),
        ONE(passes[c->pass].alpha, CUDNN_TYPE_FLOAT, &alpha), ONE(passes[c->pass].beta, CUDNN_TYPE_FLOAT, &beta)));
    *n_ops = 1;
    if (c->bias) {
        biased = y;
        if (c->relu)
            PAPA_TRY(tensor(bag, &biased, 0, CUDNN_DATA_FLOAT, c->N, c->K, c->OH, c->OW));
        PAPA_TRY(tensor(bag, &b, B, maps, 1, c->K, 1, 1));
        PAPA_TRY(pointwise(bag, &ops[(*n_ops)++], CUDNN_POINTWISE_ADD, &result, &b, &biased));
        result = biased;
    }
    if (c->relu)
        PAPA_TRY(pointwise(bag, &ops[(*n_ops)++], CUDNN_POINTWISE_RELU_FWD, &result, NULL, &y));
    return PAPA_OK;
}

/* On a real GPU the handle tells cuDNN which one; newer versions ask the current device, and call these attributes deprecated. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
enum { GRAPH_HANDLE = CUDNN_ATTR_OPERATIONGRAPH_HANDLE, PLAN_HANDLE = CUDNN_ATTR_EXECUTION_PLAN_HANDLE };
#pragma GCC diagnostic pop

static PapaStatus graph(Bag *bag, Descriptor *out, const PapaCuda *cuda, const PapaCudnnConv *c)
{
    Descriptor ops[3];
    int64_t n_ops;
    PAPA_TRY(operations(bag, ops, &n_ops, c));
    const Attribute attributes[] = {
        {CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, n_ops, ops}, ONE(GRAPH_HANDLE, CUDNN_TYPE_HANDLE, &cuda->dnn),
    };
    return build(bag, out, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, "cuDNN, a graph", attributes, cuda->dnn ? 2 : 1);
}

/* ---------------------------------------------------------------- engines */

/* Equal calls must give equal bits, and float32 products must be ones unless TF32 is asked for. */
static bool is_allowed(const PapaDevice *dev, const PapaCudnnConv *c, cudnnBackendNumericalNote_t note)
{
    if (note == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC)
        return false;
    if (c->maps == PAPA_BFLOAT16)
        return note != CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION;
    if (note == CUDNN_NUMERICAL_NOTE_TENSOR_CORE)
        return dev->precision == PAPA_PRECISION_TF32;
    return note != CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS && note != CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION;
}

/* *index: the engine's number. *allowed: its numbers are as precise as the device's precision says. */
static PapaStatus inspect(const PapaDevice *dev, const PapaCudnnConv *c, Descriptor config, int64_t *index, bool *allowed)
{
    Bag bag = {.n = 0};
    Descriptor engine;
    cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    int64_t n = 0;
    PapaStatus status;
    PAPA_GOTO(create(&bag, &engine, CUDNN_BACKEND_ENGINE_DESCRIPTOR, "cuDNN, an engine"));
    PAPA_GOTO(check(cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &n, &engine), "cuDNN, an engine"));
    PAPA_GOTO(check(cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &n, index), "cuDNN, an engine"));
    PAPA_GOTO(check(cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &n,
        notes), "cuDNN, an engine"));
    *allowed = true;
    for (int64_t i = 0; i < n; i++)
        *allowed &= is_allowed(dev, c, notes[i]);
out:
    empty(&bag);
    return status;
}

/* What cuDNN would take, best first. *n is 0 where it has nothing; status then says why. */
static PapaStatus ask(Bag *bag, const PapaCuda *cuda, Descriptor op_graph, cudnnBackendHeurMode_t mode, Descriptor *configs, int64_t *n)
{
    Descriptor heuristics;
    const Attribute attributes[] = {
        LINK(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, &op_graph), ONE(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, &mode),
        LINK(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, &cuda->described),
    };
    *n = 0;
    PAPA_TRY(build(bag, &heuristics, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, "cuDNN's heuristics", attributes, cuda->described ? 3 : 2));
    for (int i = 0; i < MAX_CONFIGS; i++)
        PAPA_TRY(create(bag, &configs[i], CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, "cuDNN, an engine's configuration"));
    return check(cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, MAX_CONFIGS, n, configs),
        "cuDNN's heuristics");
}

/* ---------------------------------------------------------------- choosing */

typedef struct Candidate {
    Descriptor config, plan; /* the config is in the bag as long as it isn't chosen */
    int64_t engine, workspace;
} Candidate;

typedef struct Search {
    Bag bag;
    Candidate found[MAX_TUNED]; /* best first */
    int n, wanted;
    Candidate spare;            /* of those that want too much memory the one that wants least */
    int n_imprecise;            /* engines that would have to round, or to sum in any order */
    char reason[512];           /* why the last refusal was one */
} Search;

static void drop(Candidate *candidate)
{
    if (candidate->plan)
        (void)cudnnBackendDestroyDescriptor(candidate->plan);
    *candidate = (Candidate){0};
}

/* Refusals of single configurations are nothing special. */
static PapaStatus refused(Search *search, PapaStatus status)
{
    if (status != PAPA_ERR_UNSUPPORTED)
        return status;
    snprintf(search->reason, sizeof search->reason, "%s", papa_error());
    return PAPA_OK;
}

static PapaStatus finalise(Candidate *out, const PapaCuda *cuda)
{
    Bag bag = {.n = 0};
    int64_t n;
    PapaStatus status;
    const Attribute attributes[] = {
        LINK(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, &out->config),
        cuda->described ? (Attribute)LINK(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, &cuda->described) : (Attribute)ONE(PLAN_HANDLE, CUDNN_TYPE_HANDLE,
            &cuda->dnn),
    };
    Descriptor plan = NULL;
    PAPA_GOTO(build(&bag, &plan, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, "cuDNN, a plan", attributes, 2));
    PAPA_GOTO(check(cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &n, &out->workspace), "cuDNN, a plan"));
    take_out(&bag, plan);
    out->plan = plan;
out:
    empty(&bag);
    return status;
}

static PapaStatus consider(Search *search, const PapaDevice *dev, const PapaCudnnConv *c, Descriptor config)
{
    Candidate candidate = {.config = config};
    bool allowed;
    PAPA_TRY(inspect(dev, c, config, &candidate.engine, &allowed));
    search->n_imprecise += !allowed;
    if (!allowed)
        return PAPA_OK;
    PapaStatus status = finalise(&candidate, papa_cuda(dev));
    if (status != PAPA_OK)
        return refused(search, status);
    if (candidate.workspace <= WORKSPACE_LIMIT) {
        search->found[search->n++] = candidate;
    } else if (!search->spare.plan || candidate.workspace < search->spare.workspace) {
        drop(&search->spare);
        search->spare = candidate;
    } else {
        drop(&candidate);
    }
    return PAPA_OK;
}

static PapaStatus look(Search *search, const PapaDevice *dev, const PapaCudnnConv *c)
{
    static const cudnnBackendHeurMode_t modes[] = {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK};
    Descriptor op_graph, configs[MAX_CONFIGS];
    PapaStatus status = graph(&search->bag, &op_graph, papa_cuda(dev), c);
    if (status != PAPA_OK)
        return refused(search, status);
    for (int m = 0; m < 2 && !search->n; m++) {
        int64_t n;
        PAPA_TRY(refused(search, ask(&search->bag, papa_cuda(dev), op_graph, modes[m], configs, &n)));
        for (int64_t i = 0; i < n && search->n < search->wanted; i++)
            PAPA_TRY(consider(search, dev, c, configs[i]));
    }
    return PAPA_OK;
}

/* ---------------------------------------------------------------- running */

static PapaStatus execute(PapaDevice *dev, Descriptor plan, void *x, void *w, void *y, void *b, void *workspace)
{
    Bag bag = {.n = 0};
    Descriptor pack;
    const int64_t uids[] = {X, W, Y, B};
    void *const pointers[] = {x, w, y, b};
    int64_t n = b ? 4 : 3;
    PapaStatus status = BUILD(&bag, &pack, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, "cuDNN, a call", {CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS,
        CUDNN_TYPE_INT64, n, uids}, {CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, n, pointers},
        ONE(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, &workspace));
    if (status == PAPA_OK)
        status = papa_cudnn_check(cudnnBackendExecute(papa_cuda(dev)->dnn, plan, pack), "cuDNN");
    empty(&bag);
    return status;
}

PapaStatus papa_cudnn_run(PapaDevice *dev, PapaCudnnPlan *plan, void *x, void *w, void *y, void *b, void *workspace)
{
    assert(!b == !plan->conv.bias);
    if (!papa_cuda_calls(dev, plan->text, plan->flops))
        return PAPA_OK;
    pthread_mutex_lock(&plan->running);
    PapaStatus status = execute(dev, plan->plan, x, w, y, b, workspace);
    pthread_mutex_unlock(&plan->running);
    return status == PAPA_OK ? PAPA_OK : papa_fail_in(status, "%s", plan->text);
}

/* ---------------------------------------------------------------- timing */

/* Memory for a trial. */
typedef struct Trial {
    void *x, *w, *y, *b, *workspace;
    cudaEvent_t begin, end;
} Trial;

static PapaStatus zeroed(PapaDevice *dev, void **out, int64_t bytes)
{
    PAPA_TRY(papa_device_alloc(dev, out, (size_t)bytes, "timing cuDNN's plans"));
    return *out ? papa_device_zero(dev, *out, (size_t)bytes) : PAPA_OK;
}

static PapaStatus trial_open(Trial *trial, PapaDevice *dev, const PapaCudnnConv *c, int64_t workspace)
{
    int64_t map = (int64_t)papa_element_bytes((PapaElement)c->maps), filter = (int64_t)papa_element_bytes((PapaElement)c->filter);
    PAPA_TRY(zeroed(dev, &trial->x, c->N * c->H * c->W * c->C * map));
    PAPA_TRY(zeroed(dev, &trial->w, c->K * c->R * c->S * (c->C / c->groups) * filter));
    PAPA_TRY(zeroed(dev, &trial->y, c->N * c->OH * c->OW * c->K * map));
    PAPA_TRY(zeroed(dev, &trial->b, c->bias ? c->K * map : 0));
    PAPA_TRY(zeroed(dev, &trial->workspace, workspace));
    PAPA_TRY_CUDA(cudaEventCreateWithFlags(&trial->begin, cudaEventDefault));
    PAPA_TRY_CUDA(cudaEventCreateWithFlags(&trial->end, cudaEventDefault));
    return PAPA_OK;
}

static void trial_close(Trial *trial, PapaDevice *dev)
{
    (void)papa_device_sync(dev);
    void *const blocks[] = {trial->x, trial->w, trial->y, trial->b, trial->workspace};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        papa_device_free(dev, blocks[i]);
    if (trial->begin)
        (void)cudaEventDestroy(trial->begin);
    if (trial->end)
        (void)cudaEventDestroy(trial->end);
}

/* Milliseconds of some runs together, behind one that loads the kernels. */
static PapaStatus time_plan(PapaDevice *dev, const Trial *trial, Descriptor plan, float *ms)
{
    cudaStream_t stream = papa_cuda(dev)->stream;
    for (int i = 0; i <= TIMED_RUNS; i++) {
        PAPA_TRY(execute(dev, plan, trial->x, trial->w, trial->y, trial->b, trial->workspace));
        if (i == 0)
            PAPA_TRY_CUDA(cudaEventRecord(trial->begin, stream));
    }
    PAPA_TRY_CUDA(cudaEventRecord(trial->end, stream));
    PAPA_TRY_CUDA(cudaEventSynchronize(trial->end));
    PAPA_TRY_CUDA(cudaEventElapsedTime(ms, trial->begin, trial->end));
    return PAPA_OK;
}

/* Moves the fastest one to the front. */
static PapaStatus race(Search *search, PapaDevice *dev, const PapaCudnnConv *c)
{
    Trial trial = {0};
    int64_t workspace = 0;
    float least = 0, ms;
    int fastest = 0;
    PapaStatus status;
    for (int i = 0; i < search->n; i++)
        workspace = search->found[i].workspace > workspace ? search->found[i].workspace : workspace;
    PAPA_GOTO(trial_open(&trial, dev, c, workspace));
    for (int i = 0; i < search->n; i++) {
        PAPA_GOTO(time_plan(dev, &trial, search->found[i].plan, &ms));
        if (i == 0 || ms < least)
            fastest = i, least = ms;
    }
    Candidate first = search->found[0];
    search->found[0] = search->found[fastest];
    search->found[fastest] = first;
out:
    trial_close(&trial, dev);
    return status;
}

/* ---------------------------------------------------------------- plans */

static pthread_mutex_t cache_lock = PTHREAD_MUTEX_INITIALIZER;
static PapaCudnnPlan *cache;
static int64_t n_planned, n_refused;

static const char *precision_name(PapaPrecision precision)
{
    return precision == PAPA_PRECISION_BF16 ? "bf16" : precision == PAPA_PRECISION_TF32 ? "tf32" : "fp32";
}

/* What is as usual (dilation 1, one group, padding alike on all sides) is not told, or told once. */
static void describe(char *text, size_t bytes, const PapaCudnnConv *c)
{
    char pad[64], dilation[48] = "", groups[32] = "";
    bool even = c->before[0] == c->before[1] && c->before[0] == c->after[0] && c->before[0] == c->after[1];
    snprintf(pad, sizeof pad, even ? "%lld" : "%lld,%lld,%lld,%lld", (long long)c->before[0], (long long)c->before[1], (long long)c->after[0],
        (long long)c->after[1]);
    if (c->dilation[0] != 1 || c->dilation[1] != 1)
        snprintf(dilation, sizeof dilation, ", dilation %lldx%lld", (long long)c->dilation[0], (long long)c->dilation[1]);
    if (c->groups != 1)
        snprintf(groups, sizeof groups, ", groups %lld", (long long)c->groups);
    snprintf(text, bytes, "%s%s%s%s of %lldx%lldx%lldx%lld, %lld filters of %lldx%lldx%lld, stride %lldx%lld, padding %s%s%s, %s", passes[c->pass].what,
        c->bias ? ", bias" : "", c->relu ? ", relu" : "", c->accumulate ? ", added," : "", (long long)c->N, (long long)c->H, (long long)c->W, (long long)c->C,
        (long long)c->K, (long long)c->R, (long long)c->S, (long long)(c->C / c->groups), (long long)c->stride[0], (long long)c->stride[1], pad, dilation,
        groups, c->maps == PAPA_BFLOAT16 ? "bf16" : "float32");
}

static PapaStatus fail_refused(const Search *search, const PapaDevice *dev, const PapaCudnnConv *c)
{
    char text[256], imprecise[96] = "";
    size_t version = cudnnGetVersion();
    describe(text, sizeof text, c);
    if (search->n_imprecise)
        snprintf(imprecise, sizeof imprecise, "%d engines are not precise or not deterministic enough%s", search->n_imprecise,
            *search->reason ? "; " : "");
    return papa_fail(PAPA_ERR_UNSUPPORTED, "cuDNN %zu.%zu.%zu has no plan on %s (sm_%d) in %s for the %s: %s%s", version / 10000, version / 100 % 100,
        version % 100, papa_cuda(dev)->gpu.name, papa_cuda(dev)->gpu.capability, precision_name(dev->precision), text, imprecise,
        *search->reason ? search->reason : *imprecise ? "" : "it names no engine");
}

static bool answers(const PapaCudnnPlan *plan, const PapaDevice *dev, const PapaCudnnConv *c)
{
    const PapaCuda *cuda = papa_cuda(dev);
    bool same_gpu = cuda->dnn ? plan->handle == cuda->dnn : !plan->handle && strcmp(plan->gpu, cuda->gpu.json) == 0;
    return same_gpu && plan->precision == dev->precision && plan->tune == dev->tune && memcmp(&plan->conv, c, sizeof *c) == 0;
}

static void destroy(PapaCudnnPlan *plan)
{
    if (plan->plan)
        (void)cudnnBackendDestroyDescriptor(plan->plan);
    if (plan->config)
        (void)cudnnBackendDestroyDescriptor(plan->config);
    pthread_mutex_destroy(&plan->running);
    free(plan->gpu);
    free(plan);
}

/* Takes the chosen candidate over. */
static PapaStatus new_plan(PapaCudnnPlan **out, Search *search, const PapaDevice *dev, const PapaCudnnConv *c)
{
    const PapaCuda *cuda = papa_cuda(dev);
    PapaCudnnPlan *plan = calloc(1, sizeof *plan);
    if (!plan)
        return papa_fail_memory(sizeof *plan, "a plan of cuDNN's");
    pthread_mutex_init(&plan->running, NULL);
    plan->conv = *c;
    plan->precision = dev->precision;
    plan->tune = dev->tune;
    plan->handle = cuda->dnn;
    plan->gpu = cuda->dnn ? NULL : strdup(cuda->gpu.json);
    if (!cuda->dnn && !plan->gpu) {
        destroy(plan);
        return papa_fail_memory(strlen(cuda->gpu.json), "a plan of cuDNN's");
    }
    Candidate *chosen = &search->found[0];
    take_out(&search->bag, chosen->config);
    plan->config = chosen->config;
    plan->plan = chosen->plan;
    plan->workspace = chosen->workspace;
    plan->flops = 2. * (double)(c->N * c->OH * c->OW) * (double)(c->K * c->R * c->S) * (double)(c->C / c->groups);
    char text[200];
    describe(text, sizeof text, c);
    snprintf(plan->text, sizeof plan->text, "cuDNN engine %lld: %s", (long long)chosen->engine, text);
    *chosen = (Candidate){0};
    *out = plan;
    return PAPA_OK;
}

static PapaStatus make_plan(PapaCudnnPlan **out, PapaDevice *dev, const PapaCudnnConv *c)
{
    bool tune = dev->tune && papa_cuda(dev)->dnn;
    Search search = {.wanted = tune ? MAX_TUNED : 1};
    PapaStatus status;
    PAPA_GOTO(look(&search, dev, c));
    if (!search.n && search.spare.plan) {
        search.found[search.n++] = search.spare;
        search.spare = (Candidate){0};
    }
    if (!search.n)
        PAPA_GOTO(fail_refused(&search, dev, c));
    if (search.n > 1)
        PAPA_GOTO(race(&search, dev, c));
    PAPA_GOTO(new_plan(out, &search, dev, c));
out:
    for (int i = 0; i < search.n; i++)
        drop(&search.found[i]);
    drop(&search.spare);
    empty(&search.bag);
    return status;
}

PapaStatus papa_cudnn_plan(PapaDevice *dev, PapaCudnnPlan **out, const PapaCudnnConv *conv)
{
    *out = NULL;
    PAPA_TRY(papa_device_enter(dev));
    pthread_mutex_lock(&cache_lock);
    PapaStatus status = PAPA_OK;
    PapaCudnnPlan *plan = cache;
    while (plan && !answers(plan, dev, conv))
        plan = plan->next;
    if (!plan) {
        status = make_plan(&plan, dev, conv);
        n_planned += status == PAPA_OK;
        n_refused += status == PAPA_ERR_UNSUPPORTED;
        if (status == PAPA_OK) {
            plan->next = cache;
            cache = plan;
        }
    }
    if (status == PAPA_OK) {
        plan->n_users++;
        *out = plan;
    }
    pthread_mutex_unlock(&cache_lock);
    return status;
}

void papa_cudnn_release(PapaCudnnPlan *plan)
{
    if (!plan)
        return;
    pthread_mutex_lock(&cache_lock);
    bool last = --plan->n_users == 0;
    if (last) {
        PapaCudnnPlan **at = &cache;
        while (*at != plan)
            at = &(*at)->next;
        *at = plan->next;
    }
    pthread_mutex_unlock(&cache_lock);
    if (last)
        destroy(plan);
}

size_t papa_cudnn_workspace(const PapaCudnnPlan *plan)
{
    return (size_t)plan->workspace;
}

const char *papa_cudnn_text(const PapaCudnnPlan *plan)
{
    return plan->text;
}

void papa_cudnn_counts(int64_t *planned, int64_t *refusals)
{
    pthread_mutex_lock(&cache_lock);
    *planned = n_planned;
    *refusals = n_refused;
    pthread_mutex_unlock(&cache_lock);
}
