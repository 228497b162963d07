/* Streams and events. Work put into a stream only runs when a host thread waits for something, or asks, and then in any order that streams,
 * events and graphs allow (CUDAEMU_SEED): what works here only by chance would work on a GPU only by chance. */
#include "cudaemu_engine.h"

#include <algorithm>
#include <deque>
#include <set>

namespace cudaemu {

/* ---------------------------------------------------------------- the queue */

static std::deque<OpPtr> ready; /* queued, and everything before them is over */
static size_t n_unfinished;

static thread_local const Op *runs_now;
const Op *running() { return runs_now; }

OpPtr submit(std::shared_ptr<const Task> task, int chain, const std::vector<OpPtr> &after)
{
    OpPtr op = std::make_shared<Op>();
    op->task = std::move(task);
    op->chain = chain;
    op->sequence = next_in_chain(chain);
    op->clock = host_clock;
    for (const OpPtr &earlier : after) {
        join(op->clock, earlier->clock);
        join(op->clock, earlier->chain, earlier->sequence);
        if (!earlier->done) {
            earlier->followers.push_back(op);
            op->waiting++;
        }
    }
    n_unfinished++;
    hold_pinned(op);
    if (!op->waiting)
        ready.push_back(op);
    return op;
}

static void check_operands(const Op &op)
{
    const Task &task = *op.task;
    /* What is both read and written must have been written before: so reads come first. */
    for (bool writes : {false, true})
        for (const Access &access : task.accesses)
            if (access.writes == writes)
                check_range(access, task.device, task.kind == OpKind::Copy);
}

static void run(const OpPtr &op)
{
    runs_now = op.get();
    if (kStrict)
        start_checking(*op);
    check_operands(*op);
    open_pinned(*op);
    if (op->task->work)
        op->task->work();
    close_pinned(*op);
    runs_now = nullptr;
    op->done = true;
    static uint64_t n_run;
    op->turn = ++n_run;
    n_unfinished--;
    for (OpPtr &follower : op->followers)
        if (!--follower->waiting)
            ready.push_back(std::move(follower));
    op->followers.clear();
}

static void run_one()
{
    if (ready.empty())
        fault("the emulator's own mistake: %zu operations wait for nothing", n_unfinished);
    if (config().turn != Turn::Reverse) /* else the newest */
        std::swap(ready[config().turn == Turn::Random ? random_below(ready.size()) : 0], ready.front());
    OpPtr op = config().turn == Turn::Reverse ? ready.back() : ready.front();
    if (config().turn == Turn::Reverse)
        ready.pop_back();
    else
        ready.pop_front();
    run(op);
}

void run_until(const std::vector<OpPtr> &wanted)
{
    open_device_memory();
    for (const OpPtr &op : wanted)
        while (!op->done)
            run_one();
    close_device_memory();
}

void run_all()
{
    if (!n_unfinished)
        return;
    open_device_memory();
    while (n_unfinished)
        run_one();
    close_device_memory();
}

void wait_for(const std::vector<OpPtr> &wanted)
{
    run_until(wanted);
    for (const OpPtr &op : wanted) {
        join(host_clock, op->clock);
        join(host_clock, op->chain, op->sequence);
    }
    release_pinned();
}

/* A query sees progress that it didn't cause: some of the queue runs. */
static bool over_by_now(const std::vector<OpPtr> &wanted)
{
    open_device_memory();
    for (uint64_t n = 1 + random_below(4); n && !ready.empty(); n--)
        run_one();
    close_device_memory();
    for (const OpPtr &op : wanted)
        if (!op->done)
            return false;
    wait_for(wanted);
    return true;
}

/* ---------------------------------------------------------------- streams */

constexpr const char *kStream = "stream", *kEvent = "event";
static std::set<cudaStream_t> streams;

CUstream_st &stream_of(cudaStream_t stream, const char *call)
{
    if (!stream)
        fault("%s on the NULL stream, which waits for all others and they for it: give it a stream of your own", call);
    if (!alive(stream, kStream))
        fault("%s on %p, which is no stream, or no longer", call, static_cast<void *>(stream));
    return *stream;
}

CUevent_st &event_of(cudaEvent_t event, const char *call)
{
    if (!alive(event, kEvent))
        fault("%s on %p, which is no event, or no longer", call, static_cast<void *>(event));
    return *event;
}

void put(cudaStream_t stream, std::shared_ptr<const Task> task)
{
    if (stream->capture) {
        capture_task(stream, std::move(task));
        return;
    }
    stream->tail = {submit(std::move(task), stream->chain, stream->tail)};
}

cudaError_t enqueue(cudaStream_t stream, const char *name, std::vector<Access> accesses, std::function<void()> work)
{
    Guard guard;
    CUstream_st &s = stream_of(stream, name);
    for (const Access &a : accesses)
        if (a.bytes && !is_device(a.p))
            fault("%s: %p is host memory, expected device memory", name, a.p);
    auto task = std::make_shared<Task>();
    *task = {name, OpKind::Library, s.device, std::move(accesses), std::move(work)};
    put(stream, task);
    return cudaSuccess;
}

int device_of(cudaStream_t stream)
{
    Guard guard;
    return stream_of(stream, "a library's call").device;
}

} // namespace cudaemu

/* ---------------------------------------------------------------- the runtime's functions */

using namespace cudaemu;

extern "C" cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags)
{
    Guard guard;
    boot();
    if (cudaError_t error = need_device("cudaStreamCreateWithFlags"))
        return error;
    if (flags != cudaStreamNonBlocking)
        fault("cudaStreamCreateWithFlags: flags %#x, expected cudaStreamNonBlocking: other streams wait for the NULL stream", flags);
    *out = new CUstream_st;
    (*out)->device = current_device();
    (*out)->chain = new_chain();
    streams.insert(*out);
    born(*out, kStream);
    return cudaSuccess;
}

extern "C" cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    Guard guard;
    CUstream_st &s = stream_of(stream, "cudaStreamDestroy");
    if (s.capture)
        fault("cudaStreamDestroy: the stream is being captured");
    run_until(s.tail);
    free_chain(s.chain);
    streams.erase(stream);
    died(stream, kStream);
    delete stream;
    return cudaSuccess;
}

extern "C" cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    Guard guard;
    CUstream_st &s = stream_of(stream, "cudaStreamSynchronize");
    if (s.capture)
        fault("cudaStreamSynchronize: illegal during capture: the stream is being captured");
    refuse_during_capture("cudaStreamSynchronize");
    wait_for(s.tail);
    return cudaSuccess;
}

extern "C" cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    Guard guard;
    CUstream_st &s = stream_of(stream, "cudaStreamQuery");
    if (s.capture)
        fault("cudaStreamQuery: illegal during capture: the stream is being captured");
    refuse_during_capture("cudaStreamQuery");
    return over_by_now(s.tail) ? cudaSuccess : cudaErrorNotReady;
}

extern "C" cudaError_t cudaDeviceSynchronize(void)
{
    Guard guard;
    if (cudaError_t error = need_device("cudaDeviceSynchronize"))
        return error;
    refuse_during_capture("cudaDeviceSynchronize");
    /* Only the current GPU's streams; the chains of graphs replayed there end in them. */
    std::vector<OpPtr> all;
    for (cudaStream_t s : streams)
        if (s->device == current_device())
            all.insert(all.end(), s->tail.begin(), s->tail.end());
    wait_for(all);
    return cudaSuccess;
}

extern "C" cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
    Guard guard;
    CUstream_st &s = stream_of(stream, "cudaStreamWaitEvent");
    CUevent_st &e = event_of(event, "cudaStreamWaitEvent");
    if (flags)
        fault("cudaStreamWaitEvent: flags %#x, expected 0", flags);
    if (!e.recorded) /* legal in CUDA, and waits for nothing: so it is a mistake */
        fault("cudaStreamWaitEvent: the event was never recorded");
    if (e.capture_number) {
        capture_wait(stream, e);
        return cudaSuccess;
    }
    if (s.capture)
        fault("cudaStreamWaitEvent: illegal during capture: the event was recorded outside of it");
    s.tail.insert(s.tail.end(), e.at.begin(), e.at.end());
    return cudaSuccess;
}

/* ---------------------------------------------------------------- events */

extern "C" cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags)
{
    Guard guard;
    boot();
    if (cudaError_t error = need_device("cudaEventCreateWithFlags"))
        return error;
    if (flags & ~(unsigned)(cudaEventBlockingSync | cudaEventDisableTiming))
        fault("cudaEventCreateWithFlags: flags %#x are not emulated", flags);
    *out = new CUevent_st;
    (*out)->device = current_device();
    (*out)->timed = !(flags & cudaEventDisableTiming);
    born(*out, kEvent);
    return cudaSuccess;
}

extern "C" cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    Guard guard;
    event_of(event, "cudaEventDestroy");
    died(event, kEvent);
    delete event;
    return cudaSuccess;
}

extern "C" cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    Guard guard;
    CUevent_st &e = event_of(event, "cudaEventRecord");
    CUstream_st &s = stream_of(stream, "cudaEventRecord");
    if (e.device != s.device)
        fault("cudaEventRecord: the event is GPU %d's, the stream GPU %d's", e.device, s.device);
    e.recorded = true;
    e.capture_number = s.capture ? s.capture->number : 0;
    e.captured_at = s.captured_tail;
    e.at = s.capture ? std::vector<OpPtr>() : s.tail;
    return cudaSuccess;
}

static void refuse_captured(const CUevent_st &e, const char *call)
{
    if (e.capture_number)
        fault("%s: illegal: the event was recorded during capture, and happens in the graph only", call);
    refuse_during_capture(call);
}

extern "C" cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    Guard guard;
    CUevent_st &e = event_of(event, "cudaEventSynchronize");
    refuse_captured(e, "cudaEventSynchronize");
    wait_for(e.at);
    return cudaSuccess;
}

extern "C" cudaError_t cudaEventQuery(cudaEvent_t event)
{
    Guard guard;
    CUevent_st &e = event_of(event, "cudaEventQuery");
    refuse_captured(e, "cudaEventQuery");
    return over_by_now(e.at) ? cudaSuccess : cudaErrorNotReady;
}

/* There is no clock: an operation takes a microsecond, and all run one after the other. */
extern "C" cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t begin, cudaEvent_t end)
{
    Guard guard;
    uint64_t turns[2] = {0, 0};
    cudaEvent_t events[2] = {begin, end};
    for (int i = 0; i < 2; i++) {
        CUevent_st &e = event_of(events[i], "cudaEventElapsedTime");
        refuse_captured(e, "cudaEventElapsedTime");
        if (!e.recorded || !e.timed)
            fault("cudaEventElapsedTime: the event %s", e.recorded ? "has no timing" : "was never recorded");
        if (!over_by_now(e.at))
            return cudaErrorNotReady;
        for (const OpPtr &op : e.at)
            turns[i] = op->turn > turns[i] ? op->turn : turns[i];
    }
    *ms = 1e-3f * (float)((double)turns[1] - (double)turns[0]);
    return cudaSuccess;
}
