/* Capture and replay. A graph keeps tasks and which of them follow which; a replay queues them all again, ordered by those edges alone. */
#include "cudaemu_engine.h"

#include <algorithm>
#include <pthread.h>

namespace cudaemu {

struct Node {
    std::shared_ptr<const Task> task;
    size_t branch;              /* the stream that it was captured on, counted from the origin */
    std::vector<size_t> after;  /* nodes */
};

struct Graph {
    std::vector<Node> nodes;
    size_t n_branches = 1;
};

constexpr const char *kGraph = "graph", *kExec = "executable graph";

static std::vector<Capture *> captures; /* under way */
static uint64_t n_captures;

static const char *refusal(const Capture &c)
{
    if (c.mode == cudaStreamCaptureModeGlobal)
        return pthread_equal(c.thread, pthread_self()) ? "this thread is capturing" : "another thread is capturing in global mode";
    return c.mode == cudaStreamCaptureModeThreadLocal && pthread_equal(c.thread, pthread_self()) ? "this thread is capturing" : nullptr;
}

void refuse_during_capture(const char *call)
{
    for (const Capture *c : captures)
        if (const char *why = refusal(*c))
            fault("%s: illegal during capture: %s", call, why);
}

static Capture *capture_numbered(uint64_t number)
{
    for (Capture *c : captures)
        if (c->number == number)
            return c;
    return nullptr;
}

static size_t branch_of(const Capture &c, cudaStream_t stream)
{
    return (size_t)(std::find(c.streams.begin(), c.streams.end(), stream) - c.streams.begin());
}

void capture_task(cudaStream_t stream, std::shared_ptr<const Task> task)
{
    Capture &c = *stream->capture;
    c.graph->nodes.push_back({std::move(task), branch_of(c, stream), stream->captured_tail});
    stream->captured_tail = {c.graph->nodes.size() - 1};
}

void capture_wait(cudaStream_t stream, const CUevent_st &event)
{
    Capture *c = capture_numbered(event.capture_number);
    if (!c)
        fault("cudaStreamWaitEvent: the event was recorded during a capture that has ended");
    if (stream->capture && stream->capture != c)
        fault("cudaStreamWaitEvent: illegal during capture: it would join two captures");
    if (!stream->capture) {
        stream->capture = c;
        stream->captured_tail.clear();
        if (branch_of(*c, stream) == c->streams.size())
            c->streams.push_back(stream);
    }
    for (size_t node : event.captured_at)
        if (std::find(stream->captured_tail.begin(), stream->captured_tail.end(), node) == stream->captured_tail.end())
            stream->captured_tail.push_back(node);
}

/* Everything captured must lie before where the origin stands now. */
static void check_joined(const Graph &graph, const std::vector<size_t> &tail)
{
    std::vector<bool> reached(graph.nodes.size());
    for (size_t node : tail)
        reached[node] = true;
    for (size_t i = graph.nodes.size(); i-- > 0;) {
        if (!reached[i])
            fault("cudaStreamEndCapture: unjoined work: nothing makes the capture's first stream wait for %s", graph.nodes[i].task->name.c_str());
        for (size_t before : graph.nodes[i].after)
            reached[before] = true;
    }
}

} // namespace cudaemu

struct CUgraph_st {
    std::shared_ptr<cudaemu::Graph> graph;
};

/* A chain for each branch but the first, whose place the stream of the launch takes. */
struct CUgraphExec_st {
    std::shared_ptr<const cudaemu::Graph> graph;
    std::vector<int> chains;
    cudaemu::OpPtr last; /* replays of one graph don't overlap */
};

using namespace cudaemu;

extern "C" cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode)
{
    Guard guard;
    CUstream_st &s = stream_of(stream, "cudaStreamBeginCapture");
    if (s.capture)
        fault("cudaStreamBeginCapture: the stream is being captured already");
    Capture *c = new Capture{new Graph, mode, pthread_self(), ++n_captures, {stream}};
    captures.push_back(c);
    s.capture = c;
    s.captured_tail.clear();
    return cudaSuccess;
}

extern "C" cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out)
{
    Guard guard;
    CUstream_st &s = stream_of(stream, "cudaStreamEndCapture");
    Capture *c = s.capture;
    if (!c)
        fault("cudaStreamEndCapture: the stream is not being captured");
    if (c->streams[0] != stream)
        fault("cudaStreamEndCapture: the capture began on another stream");
    if (c->mode != cudaStreamCaptureModeRelaxed && !pthread_equal(c->thread, pthread_self()))
        fault("cudaStreamEndCapture: the capture began on another host thread");
    check_joined(*c->graph, s.captured_tail);
    for (cudaStream_t member : c->streams) {
        member->capture = nullptr;
        member->captured_tail.clear();
    }
    c->graph->n_branches = c->streams.size();
    *out = new CUgraph_st{std::shared_ptr<Graph>(c->graph)};
    born(*out, kGraph);
    captures.erase(std::find(captures.begin(), captures.end(), c));
    delete c;
    return cudaSuccess;
}

extern "C" cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status)
{
    Guard guard;
    *status = stream_of(stream, "cudaStreamIsCapturing").capture ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return cudaSuccess;
}

extern "C" cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long flags)
{
    Guard guard;
    if (flags)
        fault("cudaGraphInstantiate: flags %#llx are not emulated", flags);
    if (!alive(graph, kGraph))
        fault("cudaGraphInstantiate of %p, which is no graph, or no longer", static_cast<void *>(graph));
    *out = new CUgraphExec_st;
    (*out)->graph = graph->graph;
    for (size_t i = 1; i < graph->graph->n_branches; i++)
        (*out)->chains.push_back(new_chain());
    born(*out, kExec);
    return cudaSuccess;
}

extern "C" cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    Guard guard;
    died(graph, kGraph);
    delete graph;
    return cudaSuccess;
}

extern "C" cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    Guard guard;
    died(exec, kExec);
    if (exec->last)
        run_until({exec->last});
    for (int chain : exec->chains)
        free_chain(chain);
    delete exec;
    return cudaSuccess;
}

extern "C" cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    Guard guard;
    CUstream_st &s = stream_of(stream, "cudaGraphLaunch");
    if (!alive(exec, kExec))
        fault("cudaGraphLaunch of %p, which is no executable graph, or no longer", static_cast<void *>(exec));
    if (s.capture)
        fault("cudaGraphLaunch: illegal during capture: graphs in graphs are not emulated");
    std::vector<OpPtr> first = s.tail, ops, ends;
    if (exec->last)
        first.push_back(exec->last);
    std::vector<bool> followed(exec->graph->nodes.size());
    for (const Node &node : exec->graph->nodes) {
        std::vector<OpPtr> after = node.after.empty() ? first : std::vector<OpPtr>();
        for (size_t i : node.after) {
            after.push_back(ops[i]);
            followed[i] = true;
        }
        ops.push_back(submit(node.task, node.branch ? exec->chains[node.branch - 1] : s.chain, after));
    }
    for (size_t i = 0; i < ops.size(); i++)
        if (!followed[i])
            ends.push_back(ops[i]);
    if (ops.empty())
        ends = first;
    static const auto end_of_graph = std::make_shared<const Task>(Task{"the end of a graph", OpKind::Marker, 0, {}, nullptr});
    exec->last = submit(end_of_graph, s.chain, ends);
    s.tail = {exec->last};
    return cudaSuccess;
}
