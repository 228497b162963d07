/* The emulator's cuDNN: convolutions of all engines against plain loops in double precision, and misuse that must not pass. */
#include "test_cudaemu_libs.h"

#include <cudnn.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>

using Descriptor = cudnnBackendDescriptor_t;
static cudnnHandle_t handle;

/* ---------------------------------------------------------------- descriptors */

struct Bag {
    std::vector<Descriptor> all;
    ~Bag()
    {
        for (Descriptor d : all)
            MUST(cudnnBackendDestroyDescriptor(d));
    }
    Descriptor make(cudnnBackendDescriptorType_t type)
    {
        Descriptor d;
        MUST(cudnnBackendCreateDescriptor(type, &d));
        all.push_back(d);
        return d;
    }
};

template <class T> static cudnnStatus_t set(Descriptor d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, const std::vector<T> &values)
{
    return cudnnBackendSetAttribute(d, name, type, static_cast<int64_t>(values.size()), values.data());
}

static cudnnStatus_t link(Descriptor d, cudnnBackendAttributeName_t name, Descriptor other)
{
    return cudnnBackendSetAttribute(d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &other);
}

using Dims = std::vector<int64_t>;

static void fill_tensor(Descriptor d, int64_t uid, bool bf16, const Dims &dims, const Dims &strides, bool is_virtual)
{
    MUST(set<cudnnDataType_t>(d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, {bf16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT}));
    MUST(set(d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, dims));
    MUST(set(d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, strides));
    MUST(set<int64_t>(d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, {uid}));
    MUST(set<int64_t>(d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, {16}));
    MUST(cudnnBackendSetAttribute(d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &is_virtual));
}

/* ---------------------------------------------------------------- a convolution and what follows it */

enum Pass { FWD, DATA, FILTER };
enum Order { NHWC, NCHW, PADDED }; /* PADDED: NHWC with room behind each pixel, row and image */

struct Spec {
    Pass pass = FWD;
    int64_t N = 2, C = 4, H = 7, W = 5, K = 6, R = 3, S = 3, groups = 1;
    Dims before = {1, 1}, after = {1, 1}, stride = {1, 1}, dilation = {1, 1};
    Order order = NHWC;
    bool bf16 = false, wide = false; /* wide: a float32 result of bfloat16 factors */
    float alpha = 1, beta = 0;
    bool add = false, bias = false, relu = false;
    int64_t out(int i) const { return ((i ? W : H) + before[i] + after[i] - (dilation[i] * ((i ? S : R) - 1) + 1)) / stride[i] + 1; }
    int64_t OH() const { return out(0); }
    int64_t OW() const { return out(1); }
    Dims x() const { return {N, C, H, W}; }
    Dims w() const { return {K, C / groups, R, S}; }
    Dims y() const { return {N, K, OH(), OW()}; }
};

static Dims strides_of(const Dims &d, Order order)
{
    if (order == NCHW)
        return {d[1] * d[2] * d[3], d[2] * d[3], d[3], 1};
    int64_t room = order == PADDED, pixel = d[1] + room, row = d[3] * pixel + 2 * room;
    return {d[2] * row + 3 * room, 1, row, pixel};
}

static int64_t reach(const Dims &dims, const Dims &strides)
{
    int64_t last = 0;
    for (size_t i = 0; i < 4; i++)
        last += (dims[i] - 1) * strides[i];
    return last + 1;
}

static size_t at(const Dims &strides, int64_t a, int64_t b, int64_t c, int64_t d)
{
    return static_cast<size_t>(a * strides[0] + b * strides[1] + c * strides[2] + d * strides[3]);
}

/* The names of a pass's attributes; the same roles in each. */
static const struct {
    cudnnBackendDescriptorType_t type;
    cudnnBackendAttributeName_t x, w, y, conv, alpha, beta;
} names[] = {
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
        CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
        CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA},
};

/* Builds a spec's graph; any step of it can be spoilt by `spoil`, which is told what is about to be finalised. */
struct Builder {
    Bag bag;
    const Spec &s;
    std::function<void(const std::string &, Descriptor)> spoil = [](const std::string &, Descriptor) {};
    std::map<std::string, Descriptor> made;
    cudnnStatus_t status = CUDNN_STATUS_SUCCESS; /* of the first step that was refused; none follows it */
    std::string refused;                         /* which */

    explicit Builder(const Spec &spec) : s(spec) {}

    void finalise(const std::string &name, Descriptor d)
    {
        if (status)
            return;
        spoil(name, d);
        made[name] = d;
        status = cudnnBackendFinalize(d);
        refused = status ? name : "";
    }

    Descriptor tensor(const std::string &name, int64_t uid, bool bf16, const Dims &dims, bool is_virtual = false)
    {
        Descriptor d = bag.make(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
        fill_tensor(d, uid, bf16, dims, strides_of(dims, s.order), is_virtual);
        finalise(name, d);
        return d;
    }

    Descriptor convolution()
    {
        Descriptor d = bag.make(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
        MUST(set<int64_t>(d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, {2}));
        MUST(set<cudnnDataType_t>(d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, {CUDNN_DATA_FLOAT}));
        MUST(set<cudnnConvolutionMode_t>(d, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, {CUDNN_CROSS_CORRELATION}));
        MUST(set(d, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, s.before));
        MUST(set(d, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, s.after));
        MUST(set(d, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, s.stride));
        MUST(set(d, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, s.dilation));
        finalise("convolution", d);
        return d;
    }

    Descriptor pointwise(const std::string &name, cudnnPointwiseMode_t mode, Descriptor x, Descriptor b, Descriptor y)
    {
        Descriptor how = bag.make(CUDNN_BACKEND_POINTWISE_DESCRIPTOR), d = bag.make(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
        MUST(set<cudnnPointwiseMode_t>(how, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, {mode}));
        MUST(set<cudnnDataType_t>(how, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, {CUDNN_DATA_FLOAT}));
        finalise("pointwise", how);
        if (status)
            return nullptr;
        MUST(link(d, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how));
        MUST(link(d, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x));
        MUST(link(d, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y));
        if (b)
            MUST(link(d, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b));
        finalise(name, d);
        return d;
    }

    /* The graph, or NULL with status and refused. */
    Descriptor graph()
    {
        int64_t inner = 100;
        bool narrow = s.bf16 && !s.wide;
        Descriptor x = tensor("x", 'x', s.pass == DATA ? narrow : s.bf16, s.x()), w = tensor("w", 'w', s.pass == FILTER ? narrow : s.bf16, s.w());
        Descriptor y = tensor("y", 'y', s.pass == FWD ? narrow : s.bf16, s.y()), conv = convolution();
        int left = s.add + s.bias + s.relu;
        Descriptor result = left ? tensor("between", inner++, false, s.y(), true) : y;
        if (status)
            return nullptr;
        std::vector<Descriptor> ops = {bag.make(names[s.pass].type)};
        MUST(link(ops[0], names[s.pass].x, x));
        MUST(link(ops[0], names[s.pass].w, w));
        MUST(link(ops[0], names[s.pass].y, result));
        MUST(link(ops[0], names[s.pass].conv, conv));
        MUST(set<float>(ops[0], names[s.pass].alpha, CUDNN_TYPE_FLOAT, {s.alpha}));
        MUST(set<double>(ops[0], names[s.pass].beta, CUDNN_TYPE_DOUBLE, {static_cast<double>(s.beta)}));
        finalise("operation", ops[0]);
        auto follow = [&](cudnnPointwiseMode_t mode, const std::string &name, const Dims &dims, int64_t uid) {
            Descriptor other = dims.empty() ? nullptr : tensor(name, uid, s.bf16, dims), to = --left ? tensor("between", inner++, false, s.y(), true) : y;
            ops.push_back(status ? nullptr : pointwise(name + " operation", mode, result, other, to));
            result = to;
        };
        if (s.add && !status)
            follow(CUDNN_POINTWISE_ADD, "z", s.y(), 'z');
        if (s.bias && !status)
            follow(CUDNN_POINTWISE_ADD, "b", {1, s.K, 1, 1}, 'b');
        if (s.relu && !status)
            follow(CUDNN_POINTWISE_RELU_FWD, "relu", {}, 0);
        if (status)
            return nullptr;
        Descriptor g = bag.make(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
        MUST(set(g, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, ops));
        finalise("graph", g);
        return status ? nullptr : g;
    }

    std::vector<Descriptor> configurations(Descriptor g, cudnnBackendHeurMode_t mode, Descriptor described = nullptr)
    {
        Descriptor h = bag.make(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
        MUST(link(h, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, g));
        MUST(set<cudnnBackendHeurMode_t>(h, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, {mode}));
        if (described)
            MUST(link(h, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, described));
        MUST(cudnnBackendFinalize(h));
        int64_t n = 0;
        MUST(cudnnBackendGetAttribute(h, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &n, nullptr));
        std::vector<Descriptor> all;
        for (int64_t i = 0; i < n; i++)
            all.push_back(bag.make(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR));
        MUST(cudnnBackendGetAttribute(h, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, n, &n, all.data()));
        all.resize(static_cast<size_t>(n));
        return all;
    }

    std::vector<cudnnBackendNumericalNote_t> notes(Descriptor configuration)
    {
        Descriptor engine = bag.make(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
        int64_t n = 0;
        MUST(cudnnBackendGetAttribute(configuration, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &n, &engine));
        std::vector<cudnnBackendNumericalNote_t> all(CUDNN_NUMERICAL_NOTE_TYPE_COUNT);
        MUST(cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &n, all.data()));
        all.resize(static_cast<size_t>(n));
        return all;
    }

    /* NULL: refused. */
    Descriptor plan(Descriptor configuration)
    {
        Descriptor d = bag.make(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
        MUST(link(d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, configuration));
        cudnnStatus_t refusal = cudnnBackendFinalize(d);
        CHECK(!refusal || refusal / 1000 == 3, "status %d", refusal);
        return refusal ? nullptr : d;
    }

    Descriptor any_plan(int64_t least_workspace = 0)
    {
        Descriptor g = graph();
        must(g, "a test's graph");
        for (cudnnBackendHeurMode_t mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK})
            for (Descriptor configuration : configurations(g, mode)) {
                Descriptor p = plan(configuration);
                if (p && workspace(p) >= least_workspace)
                    return p;
            }
        must(false, "a test's plan");
        return nullptr;
    }

    static int64_t workspace(Descriptor p)
    {
        int64_t bytes = -1, n;
        MUST(cudnnBackendGetAttribute(p, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &n, &bytes));
        return bytes;
    }

    Descriptor pack(const std::map<int64_t, void *> &pointers, void *workspace_memory)
    {
        Descriptor d = bag.make(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
        std::vector<int64_t> ids;
        std::vector<void *> places;
        for (auto [id, place] : pointers) {
            ids.push_back(id);
            places.push_back(place);
        }
        MUST(set(d, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, ids));
        MUST(set(d, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, places));
        MUST(set<void *>(d, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, {workspace_memory}));
        MUST(cudnnBackendFinalize(d));
        return d;
    }
};

/* ---------------------------------------------------------------- references */

/* The memory of a spec. */
struct Memory {
    const Spec &s;
    Dims xs, ws, ys;
    Array x, w, y, z, b;

    explicit Memory(const Spec &spec)
        : s(spec), xs(strides_of(s.x(), s.order)), ws(strides_of(s.w(), s.order)), ys(strides_of(s.y(), s.order)),
          x(random_array(reach(s.x(), xs), s.bf16 && !(s.wide && s.pass == DATA))),
          w(random_array(reach(s.w(), ws), s.bf16 && !(s.wide && s.pass == FILTER))),
          y(random_array(reach(s.y(), ys), s.bf16 && !(s.wide && s.pass == FWD))), z(random_array(reach(s.y(), ys), s.bf16)),
          b(random_array(reach({1, s.K, 1, 1}, strides_of({1, s.K, 1, 1}, s.order)), s.bf16))
    {
    }
    ~Memory()
    {
        for (Array *array : {&x, &w, &y, &z, &b})
            array->free();
    }
    Array &result() { return s.pass == FWD ? y : s.pass == DATA ? x : w; }

    std::map<int64_t, void *> pointers() const
    {
        std::map<int64_t, void *> all = {{'x', x.device}, {'w', w.device}, {'y', y.device}};
        if (s.add)
            all['z'] = z.device;
        if (s.bias)
            all['b'] = b.device;
        return all;
    }

    /* The result and, for the tolerance, the sum of its products' magnitudes, both as they lie in memory. */
    void reference(std::vector<double> *want, std::vector<double> *scale)
    {
        const std::vector<float> &old = result().values;
        std::vector<double> sum(old.size(), 0), size(old.size(), 0);
        std::vector<bool> mine(old.size(), false);
        walk([&](size_t i, size_t j, size_t k, bool real) {
            size_t to = s.pass == FWD ? k : s.pass == DATA ? i : j;
            double product = s.pass == FWD ? (double)x.values[real ? i : 0] * (double)w.values[j]
                : s.pass == DATA           ? (double)w.values[j] * (double)y.values[k]
                                           : (double)x.values[real ? i : 0] * (double)y.values[k];
            if (!real && s.pass == DATA)
                return;
            mine[to] = true;
            sum[to] += real ? product : 0;
            size[to] += real ? std::fabs(product) : 0;
        });
        mark(s.pass == FWD ? s.y() : s.pass == DATA ? s.x() : s.w(), s.pass == FWD ? ys : s.pass == DATA ? xs : ws, &mine);
        for (size_t i = 0; i < old.size(); i++) {
            sum[i] = mine[i] ? (double)s.alpha * sum[i] + (double)s.beta * (double)old[i] : (double)old[i];
            size[i] += std::fabs(sum[i]);
        }
        if (s.pass == FWD)
            follow(&sum);
        *want = sum;
        *scale = size;
    }

private:
    static void mark(const Dims &dims, const Dims &strides, std::vector<bool> *mine)
    {
        for (int64_t i = 0; i < dims[0]; i++)
            for (int64_t j = 0; j < dims[1]; j++)
                for (int64_t k = 0; k < dims[2]; k++)
                    for (int64_t l = 0; l < dims[3]; l++)
                        (*mine)[at(strides, i, j, k, l)] = true;
    }

    /* body(place in x, in w, in y, whether that is in x and no padding) for each product of the convolution. */
    template <class Body> void walk(Body body) const
    {
        int64_t c_group = s.C / s.groups, k_group = s.K / s.groups;
        for (int64_t n = 0; n < s.N; n++)
            for (int64_t k = 0; k < s.K; k++)
                for (int64_t oh = 0; oh < s.OH(); oh++)
                    for (int64_t ow = 0; ow < s.OW(); ow++)
                        for (int64_t c = 0; c < c_group; c++)
                            for (int64_t r = 0; r < s.R; r++)
                                for (int64_t t = 0; t < s.S; t++) {
                                    int64_t h = oh * s.stride[0] - s.before[0] + r * s.dilation[0];
                                    int64_t v = ow * s.stride[1] - s.before[1] + t * s.dilation[1];
                                    bool real = h >= 0 && h < s.H && v >= 0 && v < s.W;
                                    body(real ? at(xs, n, k / k_group * c_group + c, h, v) : 0, at(ws, k, c, r, t), at(ys, n, k, oh, ow), real);
                                }
    }

    void follow(std::vector<double> *sum) const
    {
        Dims bs = strides_of({1, s.K, 1, 1}, s.order);
        for (int64_t n = 0; n < s.N; n++)
            for (int64_t k = 0; k < s.K; k++)
                for (int64_t h = 0; h < s.OH(); h++)
                    for (int64_t v = 0; v < s.OW(); v++) {
                        double &y_value = (*sum)[at(ys, n, k, h, v)];
                        if (s.add)
                            y_value += (double)z.values[at(ys, n, k, h, v)];
                        if (s.bias)
                            y_value += (double)b.values[at(bs, 0, k, 0, 0)];
                        if (s.relu)
                            y_value = std::max(0., y_value);
                    }
    }
};

static bool has(const std::vector<cudnnBackendNumericalNote_t> &notes, cudnnBackendNumericalNote_t note)
{
    return std::find(notes.begin(), notes.end(), note) != notes.end();
}

/* Of the products' magnitudes: what the engine's roundings allow. */
static double tolerance(const Spec &s, const std::vector<cudnnBackendNumericalNote_t> &notes)
{
    if (!s.bf16 && has(notes, CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS))
        return 0x1p-7;
    if (!s.bf16 && has(notes, CUDNN_NUMERICAL_NOTE_TENSOR_CORE))
        return 0x1p-10;
    return has(notes, CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION) ? 0x1p-10 : has(notes, CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC) ? 1e-3 : 2e-6;
}

struct Seen {
    int plans = 0, refused = 0;
    std::map<int, int> notes;
    std::vector<int64_t> workspaces;
};

/* Every plan of every mode gives the reference's numbers, and leaves what lies between the elements alone. */
static void check_spec(const char *what, const Spec &s, Seen *seen)
{
    Builder builder(s);
    Descriptor g = builder.graph();
    CHECK(g, "%s: %s refused", what, builder.refused.c_str());
    if (!g)
        return;
    int plans = 0;
    for (cudnnBackendHeurMode_t mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK})
        for (Descriptor configuration : builder.configurations(g, mode)) {
            std::vector<cudnnBackendNumericalNote_t> notes = builder.notes(configuration);
            Descriptor plan = builder.plan(configuration);
            seen->refused += !plan;
            if (!plan)
                continue;
            plans++;
            for (auto note : notes)
                seen->notes[note]++;
            Memory memory(s);
            size_t bytes = static_cast<size_t>(Builder::workspace(plan));
            seen->workspaces.push_back(static_cast<int64_t>(bytes));
            void *workspace = device_bytes(bytes);
            std::vector<double> want, scale;
            memory.reference(&want, &scale);
            MUST(cudnnBackendExecute(handle, plan, builder.pack(memory.pointers(), workspace)));
            std::vector<float> got = memory.result().download();
            double worst = 0, allowed = tolerance(s, notes), rounding = memory.result().bf16 ? 0x1p-8 : 1e-7;
            size_t where = 0;
            for (size_t i = 0; i < got.size(); i++) {
                double error = std::max(0., std::fabs((double)got[i] - want[i]) - rounding * std::fabs(want[i])) / (scale[i] + 1e-30);
                if (!(error <= worst))
                    worst = error, where = i;
            }
            CHECK(worst <= allowed, "%s, %zu notes: element %zu is %g, expected %g (%g of %g)", what, notes.size(), where, (double)got[where], want[where],
                worst, allowed);
            MUST(cudaFree(workspace));
        }
    CHECK(plans > 0, "%s has no plan", what);
    seen->plans += plans;
}

/* ---------------------------------------------------------------- results */

static void test_results()
{
    struct {
        const char *what;
        Spec s;
    } cases[12];
    int n = 0;
    auto add = [&](const char *what) -> Spec & { return cases[n].what = what, cases[n++].s; };
    add("plain");
    Spec *s = &add("1x1, one pixel");
    s->N = s->C = s->H = s->W = s->K = s->R = s->S = 1, s->before = s->after = {0, 0};
    s = &add("primes, stride, asymmetric padding");
    s->N = 3, s->C = 5, s->H = 11, s->W = 13, s->K = 7, s->S = 2, s->before = {0, 2}, s->after = {3, 1}, s->stride = {2, 3};
    s = &add("dilation");
    s->H = 9, s->W = 8, s->dilation = {2, 3}, s->before = {2, 3}, s->after = {2, 2};
    s = &add("groups");
    s->groups = 2;
    s = &add("depthwise");
    s->C = 17, s->K = 34, s->groups = 17, s->stride = {2, 1};
    s = &add("channels first");
    s->order = NCHW;
    s = &add("padded, groups");
    s->order = PADDED, s->groups = 2;
    s = &add("scaled and added");
    s->alpha = 0.5f, s->beta = -2;
    s = &add("more than one piece");
    s->N = 5, s->C = 40, s->H = 14, s->W = 14, s->K = 33;
    s = &add("padding wider than the filter");
    s->R = 2, s->S = 1, s->before = {4, 3}, s->after = {3, 5};
    Seen seen;
    for (int i = 0; i < n; i++)
        for (Pass pass : {FWD, DATA, FILTER})
            for (bool bf16 : {false, true})
                for (bool wide : {false, true}) {
                    Spec spec = cases[i].s;
                    spec.pass = pass, spec.bf16 = bf16, spec.wide = wide;
                    if (!wide || (bf16 && spec.groups == 1))
                        check_spec(cases[i].what, spec, &seen);
                }
    CHECK(seen.refused > 0 && seen.plans > 100, "%d plans, %d refused", seen.plans, seen.refused);
    for (int note : {CUDNN_NUMERICAL_NOTE_TENSOR_CORE, CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS, CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION,
             CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC, CUDNN_NUMERICAL_NOTE_WINOGRAD, CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP})
        CHECK(seen.notes[note] > 0, "no engine has the note %d", note);
    auto [least, most] = std::minmax_element(seen.workspaces.begin(), seen.workspaces.end());
    CHECK(*least == 0 && *most > 10000 && *most <= 1 << 20, "workspaces from %lld to %lld bytes", (long long)*least, (long long)*most);
}

static void test_fused()
{
    Seen seen;
    for (int followed = 1; followed < 8; followed++)
        for (bool bf16 : {false, true})
            for (Order order : {NHWC, PADDED}) {
                Spec s;
                s.add = followed & 1, s.bias = followed & 2, s.relu = followed & 4;
                s.bf16 = bf16, s.order = order;
                check_spec(("fused " + std::to_string(followed)).c_str(), s, &seen);
            }
}

/* TF32 differs from float32, and what is not deterministic from itself. */
static void test_notes_are_true()
{
    Spec s;
    s.pass = FILTER, s.C = 16, s.K = 16;
    Builder builder(s);
    Descriptor g = builder.graph();
    Memory memory(s);
    std::map<int, std::vector<float>> first;
    for (Descriptor configuration : builder.configurations(g, CUDNN_HEUR_MODE_A)) {
        Descriptor plan = builder.plan(configuration);
        if (!plan)
            continue;
        auto notes = builder.notes(configuration);
        void *workspace = device_bytes(static_cast<size_t>(Builder::workspace(plan)));
        Descriptor pack = builder.pack(memory.pointers(), workspace);
        MUST(cudnnBackendExecute(handle, plan, pack));
        std::vector<float> once = memory.result().download();
        MUST(cudnnBackendExecute(handle, plan, pack));
        bool same = memory.result().download() == once;
        CHECK(same != has(notes, CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC), "two runs %s", same ? "agree" : "differ");
        first[has(notes, CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS) ? 2 : has(notes, CUDNN_NUMERICAL_NOTE_TENSOR_CORE) ? 1 : 0] = once;
        MUST(cudaFree(workspace));
    }
    CHECK(first.size() == 3 && first[0] != first[1] && first[1] != first[2], "%zu kinds of rounding", first.size());
}

#include "test_cudaemu_libs_misuse.h"

int main()
{
    setenv("CUDAEMU_DUMP_GRAPHS", "cudaemu_graphs.txt", 1);
    unlink("cudaemu_graphs.txt");
    MUST(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    MUST(cudnnCreate(&handle));
    MUST(cudnnSetStream(handle, stream));
    test_results();
    test_fused();
    test_notes_are_true();
    test_dump(); /* before other processes write there too */
    test_refusals();
    test_planning_faults();
    test_execution_faults();
    test_replay();
    test_described();
    MUST(cudnnDestroy(handle));
    MUST(cudaStreamDestroy(stream));
    return check_result();
}
