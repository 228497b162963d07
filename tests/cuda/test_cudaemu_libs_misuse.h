/* The second half of test_cudaemu_libs_cudnn.cpp: what cuDNN refuses with a status, and what the emulator ends the program for. */

static std::string last_reason()
{
    char why[512];
    cudnnGetLastErrorString(why, sizeof why);
    return why;
}

static void check_status(const char *what, cudnnStatus_t status, cudnnStatus_t expected, const char *reason)
{
    std::string why = last_reason();
    CHECK(status == expected && why.find(reason) != std::string::npos, "%s: status %d (%s), expected %d (%s)", what, status, why.c_str(), expected, reason);
}

using Spoil = std::function<void(Descriptor)>;

/* ---------------------------------------------------------------- refused with a status, as NVIDIA's cuDNN 9.19 does */

/* The graph of s, with `spoil` done to the descriptor `name` before it is finalised, is refused at `step`. */
static void check_spoilt(const Spec &s, const char *name, const Spoil &spoil, const char *step, const char *reason)
{
    Builder builder(s);
    builder.spoil = [&](const std::string &made, Descriptor d) {
        if (made == name)
            spoil(d);
    };
    bool built = builder.graph();
    CHECK(!built && builder.refused == step, "refused at \"%s\", expected at \"%s\"", builder.refused.c_str(), step);
    check_status(step, builder.status, CUDNN_STATUS_BAD_PARAM, reason);
}

static Spoil ints(cudnnBackendAttributeName_t name, Dims values)
{
    return [=](Descriptor d) { MUST(set(d, name, CUDNN_TYPE_INT64, values)); };
}

static void test_spoilt()
{
    Spec s, fused;
    fused.bias = true;
    auto dims = [](Dims values) { return ints(CUDNN_ATTR_TENSOR_DIMENSIONS, values); };
    check_spoilt(s, "y", dims({2, 6, 6, 5}), "operation", "size");
    check_spoilt(s, "y", dims({2, 5, 7, 5}), "operation", "filters");
    check_spoilt(s, "y", dims({1, 6, 7, 5}), "operation", "images");
    check_spoilt(s, "w", dims({6, 3, 3, 3}), "operation", "channels");
    check_spoilt(s, "w", dims({6, 4, 1, 3}), "operation", "size");
    check_spoilt(s, "x", dims({2, 0, 7, 5}), "x", "dimension 1");
    check_spoilt(s, "x", dims({2, 4, 7}), "x", "3 dimensions");
    check_spoilt(s, "x", ints(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, {3}), "x", "alignment");
    check_spoilt(s, "x", ints(CUDNN_ATTR_TENSOR_STRIDES, {140, 1, -20, 4}), "x", "stride");
    check_spoilt(s, "convolution", ints(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, {1, -1}), "convolution", "padding");
    check_spoilt(s, "convolution", ints(CUDNN_ATTR_CONVOLUTION_DILATIONS, {1, 1, 1}), "convolution", "dilation");
    check_spoilt(s, "convolution", ints(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, {0, 1}), "convolution", "stride");
    check_spoilt(fused, "b", dims({1, 5, 1, 1}), "b operation", "shape");
}

/* Each required attribute of a tensor left out in turn; and descriptors with nothing set. */
static void test_unset()
{
    const cudnnBackendAttributeName_t required[] = {CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_ATTR_TENSOR_STRIDES,
        CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT};
    for (cudnnBackendAttributeName_t left_out : required) {
        Bag bag;
        Descriptor d = bag.make(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
        cudnnDataType_t type = CUDNN_DATA_FLOAT;
        const Dims four = {64, 16, 4, 1}, one = {16};
        for (cudnnBackendAttributeName_t name : required)
            if (name != left_out && name != CUDNN_ATTR_TENSOR_DATA_TYPE)
                MUST(set(d, name, CUDNN_TYPE_INT64, name == CUDNN_ATTR_TENSOR_DIMENSIONS ? Dims{2, 4, 4, 4} : name == CUDNN_ATTR_TENSOR_STRIDES ? four : one));
        if (left_out != CUDNN_ATTR_TENSOR_DATA_TYPE)
            MUST(cudnnBackendSetAttribute(d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type));
        check_status("a tensor's attribute", cudnnBackendFinalize(d), CUDNN_STATUS_BAD_PARAM, "lacks CUDNN_ATTR_TENSOR");
    }
    for (cudnnBackendDescriptorType_t type : {CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_BACKEND_POINTWISE_DESCRIPTOR,
             CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
             CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR,
             CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR,
             CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR}) {
        Bag bag;
        check_status("an empty descriptor", cudnnBackendFinalize(bag.make(type)), CUDNN_STATUS_BAD_PARAM, "lacks CUDNN_ATTR_");
    }
}

static void test_set_and_get()
{
    Bag bag;
    Descriptor d = bag.make(CUDNN_BACKEND_TENSOR_DESCRIPTOR), op = bag.make(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
    int64_t one = 1, got[4] = {0}, n = 0;
    const cudnnBackendAttributeName_t name = CUDNN_ATTR_TENSOR_UNIQUE_ID;
    check_status("another type", cudnnBackendSetAttribute(d, name, CUDNN_TYPE_FLOAT, 1, &one), CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE, "type");
    check_status("two of one", set<int64_t>(d, name, CUDNN_TYPE_INT64, {1, 2}), CUDNN_STATUS_BAD_PARAM, "elements");
    check_status("none of one", cudnnBackendSetAttribute(d, name, CUDNN_TYPE_INT64, 0, &one), CUDNN_STATUS_BAD_PARAM, "elements");
    check_status("NULL", cudnnBackendSetAttribute(d, name, CUDNN_TYPE_INT64, 1, nullptr), CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "no elements");
    check_status("another's attribute", set<int64_t>(d, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, {1, 1}), CUDNN_STATUS_BAD_PARAM,
        "has no attribute");
    check_status("read early", cudnnBackendGetAttribute(d, name, CUDNN_TYPE_INT64, 1, &n, got), CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "before");
    check_status("an unfinalised tensor", link(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, d), CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "not finalised");
    fill_tensor(d, 1, false, {2, 3, 4, 5}, {60, 20, 5, 1}, false);
    MUST(cudnnBackendFinalize(d));
    check_status("set late", set<int64_t>(d, name, CUDNN_TYPE_INT64, {1}), CUDNN_STATUS_BAD_PARAM, "finalised");
    check_status("finalised twice", cudnnBackendFinalize(d), CUDNN_STATUS_BAD_PARAM, "already");
    MUST(cudnnBackendGetAttribute(d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, &n, got));
    CHECK(n == 4 && got[0] == 2 && got[3] == 5, "%lld dimensions, %lld .. %lld", (long long)n, (long long)got[0], (long long)got[3]);
    MUST(cudnnBackendGetAttribute(d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 2, &n, got));
    CHECK(n == 2, "%lld dimensions of 2", (long long)n);
    check_status("read as another type", cudnnBackendGetAttribute(d, name, CUDNN_TYPE_FLOAT, 1, &n, got), CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE, "type");
    check_status("read only", set<int64_t>(bag.make(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR), CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64,
        {1}), CUDNN_STATUS_BAD_PARAM, "only be read");
}

/* Operations that don't hang together. */
static void test_graphs()
{
    Spec s;
    s.bias = s.relu = true;
    auto graph_of = [&](std::vector<const char *> operations, const char *reason) {
        Builder builder(s);
        must(builder.graph(), "a graph");
        std::vector<Descriptor> ops;
        for (const char *name : operations)
            ops.push_back(builder.made.at(name));
        Descriptor g = builder.bag.make(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
        MUST(set(g, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, ops));
        check_status("a graph", cudnnBackendFinalize(g), CUDNN_STATUS_BAD_PARAM, reason);
    };
    graph_of({"operation"}, "nobody reads");
    graph_of({"operation", "b operation"}, "nobody reads");
    graph_of({"operation", "relu operation"}, "before an operation has written it");
    graph_of({"operation", "relu operation", "b operation"}, "before an operation has written it");
    graph_of({"operation", "b operation", "b operation"}, "two operations write");
}

static void test_refusals()
{
    test_unset();
    test_set_and_get();
    test_graphs();
    test_spoilt();
}

/* ---------------------------------------------------------------- faults */

static void test_planning_faults()
{
    check_fault("an unknown descriptor", "not modelled", [] {
        Descriptor d;
        cudnnBackendCreateDescriptor((cudnnBackendDescriptorType_t)18, &d);
    });
    check_fault("an unknown attribute", "attribute 1708 is not modelled", [] {
        Bag bag;
        set<int64_t>(bag.make(CUDNN_BACKEND_TENSOR_DESCRIPTOR), (cudnnBackendAttributeName_t)1708, CUDNN_TYPE_INT64, {1});
    });
    check_fault("a tensor of float16", "data type 2 is not modelled", [] {
        Spec s;
        Builder builder(s);
        builder.spoil = [](const std::string &name, Descriptor d) {
            if (name == "x")
                set<cudnnDataType_t>(d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, {CUDNN_DATA_HALF});
        };
        builder.graph();
    });
    check_fault("a destroyed descriptor", "destroyed", [] {
        Descriptor d;
        cudnnBackendCreateDescriptor(CUDNN_BACKEND_TENSOR_DESCRIPTOR, &d);
        cudnnBackendDestroyDescriptor(d);
        cudnnBackendFinalize(d);
    });
    check_fault("destroyed twice", "destroyed", [] {
        Descriptor d;
        cudnnBackendCreateDescriptor(CUDNN_BACKEND_TENSOR_DESCRIPTOR, &d);
        cudnnBackendDestroyDescriptor(d);
        cudnnBackendDestroyDescriptor(d);
    });
    check_fault("a convolution for a tensor", "was set to a CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR", [] {
        Spec s;
        Builder builder(s);
        link(builder.bag.make(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR), CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, builder.convolution());
    });
    check_fault("one id for two tensors", "unique id", [] {
        Spec s;
        Builder builder(s);
        builder.spoil = [](const std::string &name, Descriptor d) {
            if (name == "w")
                set<int64_t>(d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, {'x'});
        };
        builder.graph();
    });
    for (bool leaks : {false, true}) {
        std::string output;
        int status = run_apart([leaks] {
            Bag bag;
            bag.make(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
            if (leaks)
                bag.all.clear();
        }, &output);
        CHECK(status == 88 && (output.find("cuDNN descriptor") != std::string::npos) == leaks, "status %d, \"%s\"", status, output.c_str());
    }
}

/* One convolution, ready to run, and how it is spoilt. */
struct Scene {
    Spec s;
    Builder builder{s};
    Memory memory{s};
    Descriptor plan;
    size_t bytes;
    void *workspace;
    std::map<int64_t, void *> pointers;

    explicit Scene(int64_t least_workspace = 1, float beta = 0)
        : s(spec(beta)), plan(builder.any_plan(least_workspace)), bytes(static_cast<size_t>(Builder::workspace(plan))), workspace(device_bytes(bytes)),
          pointers(memory.pointers())
    {
    }
    static Spec spec(float beta)
    {
        Spec made;
        made.beta = beta;
        return made;
    }
    void run()
    {
        cudnnBackendExecute(handle, plan, builder.pack(pointers, workspace));
        cudaStreamSynchronize(stream);
    }
};

static void check_scene(const char *what, const char *expected, const std::function<void(Scene &)> &spoil)
{
    check_fault(what, expected, [&] {
        Scene scene;
        spoil(scene);
        scene.run();
    });
}

static void test_execution_faults()
{
    check_scene("a short workspace", "out of bounds", [](Scene &s) { s.workspace = device_bytes(s.bytes - 1); });
    check_scene("no workspace", "needs a workspace", [](Scene &s) { s.workspace = nullptr; });
    check_scene("a crooked workspace", "aligned", [](Scene &s) { s.workspace = static_cast<char *>(device_bytes(s.bytes + 16)) + 16; });
    check_scene("a missing tensor", "lacks", [](Scene &s) { s.pointers.erase('w'); });
    check_scene("a tensor at NULL", "NULL", [](Scene &s) { s.pointers['w'] = nullptr; });
    check_scene("one tensor too many", "has 4 tensors, the graph 3", [](Scene &s) { s.pointers['q'] = s.memory.z.device; });
    check_scene("a misaligned tensor", "alignment", [](Scene &s) { s.pointers['w'] = static_cast<char *>(s.memory.w.device) + 4; });
    check_scene("host memory", "is host memory", [](Scene &s) { s.pointers['w'] = aligned_alloc(256, 65536); });
    check_scene("freed memory", "use after free", [](Scene &s) { MUST(cudaFree(s.memory.w.device)); });
    check_scene("memory that is too short", "out of bounds", [](Scene &s) { s.pointers['x'] = device_bytes(64); });
    check_scene("memory that nobody wrote", "never written", [](Scene &s) { s.pointers['x'] = device_bytes(s.memory.x.bytes()); });
    check_scene("a result over an input", "lies over", [](Scene &s) { s.pointers['y'] = s.pointers['x']; });
    check_scene("a destroyed plan", "destroyed", [](Scene &s) {
        MUST(cudnnBackendDestroyDescriptor(s.plan));
        s.builder.bag.all.clear();
    });
    check_scene("a plan for a pack", "expected a plan and a variant pack", [](Scene &s) { cudnnBackendExecute(handle, s.plan, s.plan); });
    check_scene("a handle without a stream", "no stream", [](Scene &) { cudnnCreate(&handle); });
    check_scene("a destroyed handle", "destroyed", [](Scene &) { cudnnDestroy(handle); });
    check_scene("a plan destroyed before it has run", "destroyed before it ran", [](Scene &s) {
        cudnnBackendExecute(handle, s.plan, s.builder.pack(s.pointers, s.workspace));
        cudnnBackendDestroyDescriptor(s.plan);
        cudaStreamSynchronize(stream);
    });
    check_scene("another stream, which doesn't wait", "race between operations", [](Scene &s) {
        cudaStream_t other;
        cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking);
        cudaMemsetAsync(s.pointers['y'], 0, 16, other);
    });
    for (float beta : {0.f, 1.f}) { /* a result that nobody wrote before may be written, and may not be added to */
        std::string output;
        run_apart([beta] {
            Scene scene(1, beta);
            scene.pointers['y'] = device_bytes(scene.memory.y.bytes());
            scene.run();
        }, &output);
        CHECK((output.find("never written") != std::string::npos) == (beta != 0), "beta %g: \"%s\"", (double)beta, output.c_str());
    }
    Scene fine;
    fine.run();
    Descriptor raw = fine.builder.bag.make(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    check_status("a plan that isn't finalised", cudnnBackendExecute(handle, raw, fine.builder.pack(fine.pointers, nullptr)),
        CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "not finalised");
    MUST(cudaFree(fine.workspace));
}

/* Recorded and replayed: the same as run at once; and the plan must live as long. */
static void test_replay()
{
    Scene scene(1, 1);
    cudaGraph_t graph;
    cudaGraphExec_t replay;
    MUST(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    MUST(cudnnBackendExecute(handle, scene.plan, scene.builder.pack(scene.pointers, scene.workspace)));
    MUST(cudaStreamEndCapture(stream, &graph));
    MUST(cudaGraphInstantiate(&replay, graph, 0));
    CHECK(scene.memory.y.download() == scene.memory.y.values, "a recorded plan has run");
    std::vector<float> before = scene.memory.y.download();
    for (int times = 1; times < 3; times++) {
        MUST(cudaGraphLaunch(replay, stream));
        std::vector<float> once = scene.memory.y.download();
        scene.memory.y.upload();
        for (int i = 0; i < times; i++)
            scene.run();
        CHECK(scene.memory.y.download() == once && once != before, "replay %d", times);
    }
    check_fault("a plan destroyed before its replay", "destroyed before it ran", [&] {
        cudnnBackendDestroyDescriptor(scene.plan);
        cudaGraphLaunch(replay, stream);
        cudaStreamSynchronize(stream);
    });
    MUST(cudaGraphExecDestroy(replay));
    MUST(cudaGraphDestroy(graph));
    MUST(cudaFree(scene.workspace));
}

/* ---------------------------------------------------------------- planning without a device */

static std::string device_json(int version)
{
    std::string json = "{\"deviceVer\":" + std::to_string(version);
    for (const char *key : {"regsPerBlock", "multiProcessorCount", "smClockRateKHz", "memClockRateKHz", "l2CacheSize", "warpSize", "maxSharedMemoryPerBlock",
             "maxSharedMemoryPerBlockOptin", "reservedSharedMemoryPerBlock", "maxRegistersPerSM", "pciDeviceId", "maxCtasPerSM", "maxThreadsPerBlock",
             "maxThreadsPerSM", "isTccDriver", "supportCoopLaunch", "totalGlobalMem", "cudaDeviceId", "driverVer"})
        json += ",\"" + std::string(key) + "\":1";
    return json + ",\"maxGridSize\":[1,1,1],\"maxBlockSize\":[1,1,1],\"deviceName\":\"a GPU\"}";
}

static cudnnStatus_t describe(Descriptor d, const std::string &json)
{
    MUST(set(d, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, std::vector<char>(json.begin(), json.end())));
    return cudnnBackendFinalize(d);
}

static void test_described()
{
    Spec s;
    s.bf16 = true;
    Builder builder(s);
    Descriptor old = builder.bag.make(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR), modern = builder.bag.make(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
    MUST(describe(old, device_json(750)));
    MUST(describe(modern, device_json(900)));
    check_status("a description without a key", describe(builder.bag.make(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR), "{\"deviceVer\":900}"),
        CUDNN_STATUS_BAD_PARAM, "lacks");
    Descriptor g = builder.graph();
    must(g, "a graph");
    CHECK(builder.configurations(g, CUDNN_HEUR_MODE_A, old).empty(), "bfloat16 on sm_75");
    Descriptor plan = nullptr;
    for (Descriptor configuration : builder.configurations(g, CUDNN_HEUR_MODE_A, modern))
        plan = plan ? plan : builder.plan(configuration);
    CHECK(plan && Builder::workspace(plan) >= 0, "no plan for a described device");
    check_fault("a plan for a described device", "described device", [&] {
        Memory memory(s);
        cudnnBackendExecute(handle, plan, builder.pack(memory.pointers(), device_bytes(1 << 20)));
    });
    Descriptor wrong = builder.bag.make(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    MUST(link(wrong, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, builder.configurations(g, CUDNN_HEUR_MODE_A, modern)[1]));
    MUST(set<cudnnHandle_t>(wrong, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, {handle}));
    check_status("a described plan with a handle", cudnnBackendFinalize(wrong), CUDNN_STATUS_BAD_PARAM, "GPU");
}

/* A line for each graph, each once. */
static void test_dump()
{
    std::ifstream file("cudaemu_graphs.txt");
    std::vector<std::string> lines;
    for (std::string line; std::getline(file, line);)
        lines.push_back(line);
    const char *plain = "forward x=0 w=1 y=2 before=1,1 after=1,1 stride=1,1 dilation=1,1 alpha=1 beta=0 | 0 float 2,4,7,5 140,1,20,4 16; "
                        "1 float 6,4,3,3 36,1,12,4 16; 2 float 2,6,7,5 210,1,30,6 16";
    CHECK(std::count(lines.begin(), lines.end(), plain) == 1, "the plain convolution's line is not there once");
    std::sort(lines.begin(), lines.end());
    CHECK(lines.size() > 40 && std::unique(lines.begin(), lines.end()) == lines.end(), "%zu lines", lines.size());
}
