/* Every fault that the emulator promises to catch is planted, and must be caught with the right line on every seed; and sound programs must
 * raise none. Each runs in a process of its own, as a fault ends it. Built twice: with the strict emulator, and with the fast one, which cannot
 * see a kernel's accesses and is asked for the rest only.
 *
 *     test_cudaemu_faults strict|fast [NAME]    NAME: only that one, its messages shown */
#include "cudaemu.h"
#include "cudnn.h"
#include "faulty_kernels.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <poll.h>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

/* ---------------------------------------------------------------- what the programs below are made of */

static void must(cudaError_t error)
{
    if (error == cudaSuccess)
        return;
    fprintf(stderr, "unexpected: %s\n", cudaGetErrorString(error));
    exit(1);
}

static void expect(bool condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "unexpected: %s\n", what);
    exit(1);
}

constexpr int N = 300; /* more than two blocks, and not a multiple of anything */

static cudaStream_t new_stream()
{
    cudaStream_t s;
    must(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    return s;
}
static cudaEvent_t new_event()
{
    cudaEvent_t e;
    must(cudaEventCreateWithFlags(&e, cudaEventDisableTiming));
    return e;
}
static float *fresh(int n = N)
{
    float *p;
    must(cudaMalloc(&p, (size_t)n * sizeof *p));
    return p;
}
static float *pinned(int n = N)
{
    void *p;
    must(cudaHostAlloc(&p, (size_t)n * sizeof(float), cudaHostAllocPortable));
    return static_cast<float *>(p);
}
static float *filled(cudaStream_t s, int n = N, float value = 1)
{
    float *p = fresh(n);
    fill(p, n, value, s);
    must(cudaStreamSynchronize(s));
    return p;
}
static void follow(cudaStream_t later, cudaStream_t earlier, cudaEvent_t e)
{
    must(cudaEventRecord(e, earlier));
    must(cudaStreamWaitEvent(later, e, 0));
}
static void upload(float *to, const float *from, int n, cudaStream_t s)
{
    must(cudaMemcpyAsync(to, from, (size_t)n * sizeof *to, cudaMemcpyDefault, s));
}
static void sync_all() { must(cudaDeviceSynchronize()); }
static void begin(cudaStream_t s, cudaStreamCaptureMode mode = cudaStreamCaptureModeThreadLocal) { must(cudaStreamBeginCapture(s, mode)); }
static cudaGraphExec_t end(cudaStream_t s)
{
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    must(cudaStreamEndCapture(s, &graph));
    must(cudaGraphInstantiate(&exec, graph, 0));
    must(cudaGraphDestroy(graph));
    return exec;
}

/* What most of them start with: two streams on GPU 0, two arrays of ones. */
struct Bench {
    cudaStream_t s = new_stream(), t = new_stream();
    cudaEvent_t e = new_event();
    float *x = filled(s), *y = filled(s);
    void close()
    {
        sync_all();
        must(cudaFree(x));
        must(cudaFree(y));
        must(cudaEventDestroy(e));
        must(cudaStreamDestroy(s));
        must(cudaStreamDestroy(t));
    }
};

/* ---------------------------------------------------------------- the faults */

enum { STRICT = 1, FAST = 2, BOTH = 3 };

struct Case {
    const char *name;
    int builds;
    const char *expected; /* part of the line */
    std::function<void()> program;
};

static std::vector<Case> memory_faults()
{
    return {
        {"host reads device memory", BOTH, "host code touches", [] { Bench b; printf("%g\n", (double)*(volatile float *)b.x); }},
        {"host writes device memory", BOTH, "host code touches", [] { Bench b; *(volatile float *)b.x = 1; }},
        {"host reads device memory while a copy is queued", BOTH, "host code touches", [] {
            Bench b;
            upload(b.y, b.x, N, b.s);
            printf("%g\n", (double)((volatile float *)b.y)[N - 1]);
        }},
        {"host code of a .cu file reads device memory", BOTH, "host code touches", [] { Bench b; read_on_host(b.x); }},
        {"kernel reads pageable memory", STRICT, "copy_kernel: a kernel touches host memory: it reads", [] {
            Bench b;
            std::vector<float> h(N);
            copy(b.y, h.data(), N, b.s);
            sync_all();
        }},
        {"kernel writes pinned memory", STRICT, "a kernel touches host memory: it writes", [] { Bench b; float *h = pinned(); copy(h, b.x, N, b.s); sync_all(); }},
        {"kernel reads host memory through a struct", STRICT, "a kernel touches host memory: it reads", [] {
            Bench b;
            std::vector<float> h(N);
            copy_pair({h.data(), b.y}, N, b.s);
            sync_all();
        }},
        {"kernel follows a wild pointer", BOTH, "wild_kernel: ", [] { Bench b; wild(b.x, b.s); sync_all(); }},
        {"kernel overflows its stack", BOTH, "stack overflow", [] { Bench b; deep(b.x, 1000, b.s); sync_all(); }},
        {"kernel reads one past the end", STRICT, "out of bounds: it reads", [] { Bench b; copy_one_more(b.y, b.x, N, true, b.s); sync_all(); }},
        {"kernel writes one past the end", STRICT, "out of bounds: it writes", [] { Bench b; copy_one_more(b.y, b.x, N, false, b.s); sync_all(); }},
        {"kernel writes one past the end, seen at cudaFree", FAST, "wrote outside", [] {
            Bench b;
            copy_one_more(b.y, b.x, N, false, b.s);
            sync_all();
            must(cudaFree(b.y));
        }},
        {"kernel writes one past the end, seen when the program ends", FAST, "wrote outside", [] { Bench b; copy_one_more(b.y, b.x, N, false, b.s); sync_all(); }},
        {"one past the end of a shared array", STRICT, "out of bounds: it writes", [] { Bench b; shared_one_more(b.y, false, b.s); sync_all(); }},
        {"one past the end of dynamic shared memory", STRICT, "out of bounds: it writes", [] { Bench b; shared_one_more(b.y, true, b.s); sync_all(); }},
        {"one past the end of a local array", STRICT, "an index outside its array", [] { Bench b; local_one_more(b.y, 4, b.s); sync_all(); }},
        {"copy of one element too many", BOTH, "cudaMemcpyAsync: out of bounds", [] { Bench b; upload(b.y, b.x, N + 1, b.s); sync_all(); }},
        {"memset of one byte too many", BOTH, "cudaMemsetAsync: out of bounds", [] {
            Bench b;
            must(cudaMemsetAsync(b.x, 0, N * sizeof(float) + 1, b.s));
            sync_all();
        }},
        {"library writes one byte too many", BOTH, "product: out of bounds", [] {
            Bench b;
            must(cudaemu::enqueue(b.s, "product", {{b.x, N * sizeof(float) + 1, true}}, [] {}));
            sync_all();
        }},
        {"kernel uses freed memory", STRICT, "use after free", [] { Bench b; must(cudaFree(b.x)); copy(b.y, b.x, N, b.s); sync_all(); }},
        {"copy from freed memory", BOTH, "use after free", [] { Bench b; must(cudaFree(b.x)); upload(b.y, b.x, N, b.s); sync_all(); }},
        {"graph replays on freed memory", STRICT, "use after free", [] {
            Bench b;
            begin(b.s);
            copy(b.y, b.x, N, b.s);
            cudaGraphExec_t g = end(b.s);
            must(cudaGraphLaunch(g, b.s));
            sync_all();
            must(cudaFree(b.x));
            must(cudaGraphLaunch(g, b.s));
            sync_all();
        }},
        {"device memory freed twice", BOTH, "freed twice", [] { Bench b; must(cudaFree(b.x)); must(cudaFree(b.x)); }},
        {"inside of an allocation freed", BOTH, "no live allocation starts there", [] { Bench b; must(cudaFree(b.x + 64)); }},
        {"host memory given to cudaFree", BOTH, "that is no device memory", [] { Bench b; must(cudaFree(pinned())); }},
        {"pinned memory freed twice", BOTH, "freed twice", [] { float *h = pinned(); must(cudaFreeHost(h)); must(cudaFreeHost(h)); }},
        {"host uses freed pinned memory", BOTH, "pinned memory that is not allocated", [] { float *h = pinned(); must(cudaFreeHost(h)); *(volatile float *)h = 1; }},
        {"kernel reads memory never written", STRICT, "never written", [] { Bench b; float *u = fresh(); copy(b.y, u, N, b.s); sync_all(); }},
        {"kernel reads one element never written", STRICT, "never written", [] {
            Bench b;
            float *u = fresh();
            must(cudaMemsetAsync(u, 0, (N - 1) * sizeof *u, b.s));
            copy(b.y, u, N, b.s);
            sync_all();
        }},
        {"copy of memory never written", STRICT, "never written", [] { Bench b; float *u = fresh(); upload(b.y, u, N, b.s); sync_all(); }},
        {"library reads memory never written", STRICT, "product: uninitialised", [] {
            Bench b;
            must(cudaemu::enqueue(b.s, "product", {{fresh(), 4, false}}, [] {}));
            sync_all();
        }},
        {"kernel reads shared memory never written", STRICT, "never written", [] { Bench b; read_fresh_shared(b.y, b.s); sync_all(); }},
        {"misaligned 16-byte write", STRICT, "misaligned", [] { Bench b; misaligned(b.x, 0, b.s); sync_all(); }},
        {"misaligned 8-byte read", STRICT, "misaligned", [] { Bench b; misaligned(b.x, 1, b.s); sync_all(); }},
        {"misaligned 16-byte write to shared memory", STRICT, "misaligned", [] { Bench b; misaligned(b.x, 2, b.s); sync_all(); }},
        {"misaligned float", STRICT, "misaligned", [] { Bench b; misaligned(b.x, 3, b.s); sync_all(); }},
        {"signed sum overflows", STRICT, "a signed sum overflows", [] { Bench b; overflowing(reinterpret_cast<int *>(b.x), 1, b.s); sync_all(); }},
        {"memset of host memory", BOTH, "expected device memory", [] { Bench b; must(cudaMemsetAsync(pinned(), 0, 4, b.s)); }},
        {"library call on host memory", BOTH, "expected device memory", [] { Bench b; must(cudaemu::enqueue(b.s, "product", {{pinned(), 4, true}}, [] {})); }},
        {"copy the wrong way round", BOTH, "contradicts the pointers", [] {
            Bench b;
            must(cudaMemcpyAsync(b.x, pinned(), 4, cudaMemcpyDeviceToHost, b.s));
        }},
    };
}

static std::vector<Case> block_faults()
{
    std::vector<Case> all;
    static const char *const missing[] = {"between write and read", "between read and write", "in device memory", "within a warp", "in front of a broadcast",
        "behind a broadcast", "that a shuffle doesn't replace"};
    for (int i = 0; i < 7; i++)
        all.push_back({missing[i], STRICT, "race: missing barrier", [i] { Bench b; no_barrier(b.y, i, b.s); sync_all(); }});
    static const char *const bad[] = {"two barriers for one", "barrier after some returned", "barrier that one thread skips", "half a warp at a barrier"};
    static const char *const says[] = {"divergent barrier", "barrier", "divergent barrier", "deadlock"};
    for (int i = 0; i < 4; i++)
        all.push_back({bad[i], BOTH, says[i], [i] { Bench b; bad_barrier(b.y, i, b.s); sync_all(); }});
    static const char *const blocks[] = {"blocks write one word", "block reads what another writes", "block writes what others add to atomically",
        "all blocks read what one overwrites", "blocks write one byte"};
    for (int i = 0; i < 5; i++)
        all.push_back({blocks[i], STRICT, "race between blocks", [i] { Bench b; racing_blocks(b.y, i, b.s); sync_all(); }});
    static const char *const warps[] = {"lane not in its own mask", "shuffle from outside the mask", "lanes disagree about the mask", "shuffle from a lane that returned",
        "lanes disagree about the operation"};
    static const char *const warp_says[] = {"not in its own mask", "not in the mask", "disagree", "has returned", "disagree"};
    for (int i = 0; i < 5; i++)
        all.push_back({warps[i], BOTH, warp_says[i], [i] { Bench b; bad_warp(b.y, i, b.s); sync_all(); }});
    return all;
}

static std::vector<Case> launch_faults()
{
    auto launch = [](dim3 grid, dim3 block, size_t shared) { return [=] { launch_empty(grid, block, shared, new_stream()); }; };
    return {
        {"1025 threads", BOTH, "the limits are (1024,1024,64)", launch(1, 1025, 0)},
        {"1056 threads in two dimensions", BOTH, "1024 in all", launch(1, dim3(33, 32), 0)},
        {"block of 65 in z", BOTH, "the limits are (1024,1024,64)", launch(1, dim3(1, 1, 65), 0)},
        {"grid of 65536 in y", BOTH, "the limits are (2147483647,65535,65535)", launch(dim3(1, 65536), 1, 0)},
        {"grid of 65536 in z", BOTH, "the limits are (2147483647,65535,65535)", launch(dim3(1, 1, 65536), 1, 0)},
        {"grid of 2^31 in x", BOTH, "the limits are (2147483647,65535,65535)", launch(0x80000000u, 1, 0)},
        {"grid of 0", BOTH, "none may be 0", launch(0u, 32, 0)},
        {"block of 0", BOTH, "none may be 0", launch(1, dim3(32, 0), 0)},
        {"48 KB and a byte of shared memory", BOTH, "without cudaFuncSetAttribute", launch(1, 32, 48 * 1024 + 1)},
        {"more shared memory than was opted in to", BOTH, "98304 are allowed", [] { must(allow_shared(96 * 1024)); launch_empty(1, 32, 96 * 1024 + 1, new_stream()); }},
        {"static and dynamic shared memory together", BOTH, "the limit is 49152", [] { launch_static_shared(9 * 1024, new_stream()); sync_all(); }},
        {"launch on the NULL stream", BOTH, "NULL stream", [] { launch_empty(1, 32, 0, nullptr); }},
        {"launch on a destroyed stream", BOTH, "no stream, or no longer", [] { cudaStream_t s = new_stream(); must(cudaStreamDestroy(s)); launch_empty(1, 32, 0, s); }},
        {"launch not checked before the next", BOTH, "unchecked: no cudaGetLastError", [] { Bench b; launch_unchecked(b.x, N, b.s); fill(b.x, N, 1, b.s); }},
        {"launch not checked at the end", BOTH, "unchecked: no cudaGetLastError", [] { Bench b; launch_unchecked(b.x, N, b.s); b.close(); }},
        {"error left to the next launch", BOTH, "cudaMalloc reported 'out of memory'", [] {
            Bench b;
            void *p;
            expect(cudaMalloc(&p, (size_t)1 << 50) == cudaErrorMemoryAllocation, "out of memory");
            fill(b.x, N, 1, b.s);
        }},
        {"error left to the end", BOTH, "cudaSetDevice reported 'invalid device ordinal'", [] { expect(cudaSetDevice(99) == cudaErrorInvalidDevice, "no GPU 99"); }},
    };
}

static std::vector<Case> stream_faults()
{
    return {
        {"two streams write", STRICT, "race between operations", [] { Bench b; fill(b.x, N, 1, b.s); fill(b.x, N, 2, b.t); sync_all(); }},
        {"read on another stream without an event", STRICT, "race between operations", [] { Bench b; fill(b.x, N, 2, b.s); copy(b.y, b.x, N, b.t); sync_all(); }},
        {"write on another stream without an event", STRICT, "race between operations", [] { Bench b; copy(b.y, b.x, N, b.s); fill(b.x, N, 2, b.t); sync_all(); }},
        {"event recorded too early", STRICT, "race between operations", [] {
            Bench b;
            must(cudaEventRecord(b.e, b.s));
            fill(b.x, N, 2, b.s);
            must(cudaStreamWaitEvent(b.t, b.e, 0));
            copy(b.y, b.x, N, b.t);
            sync_all();
        }},
        {"event waited for too late", STRICT, "race between operations", [] {
            Bench b;
            fill(b.x, N, 2, b.s);
            must(cudaEventRecord(b.e, b.s));
            copy(b.y, b.x, N, b.t);
            must(cudaStreamWaitEvent(b.t, b.e, 0));
            sync_all();
        }},
        {"writer waits for one of two readers", STRICT, "race between operations", [] {
            Bench b;
            cudaStream_t u = new_stream();
            float *z = filled(b.s);
            copy(b.y, b.x, N, b.s);
            copy(z, b.x, N, b.t);
            follow(u, b.s, b.e);
            fill(b.x, N, 2, u);
            sync_all();
        }},
        {"host waits for the wrong stream", STRICT, "race between operations", [] {
            Bench b;
            fill(b.x, N, 2, b.s);
            must(cudaStreamSynchronize(b.t));
            copy(b.y, b.x, N, b.t);
            sync_all();
        }},
        {"a lucky order is no order", STRICT, "race between operations", [] { /* the reader's stream is drained long after the writer's, but the host did not wait */
            Bench b;
            fill(b.x, N, 2, b.s);
            for (int i = 0; i < 100; i++)
                (void)cudaStreamQuery(b.t);
            copy(b.y, b.x, N, b.t);
            sync_all();
        }},
        {"one byte shared by two streams", STRICT, "race between operations", [] {
            Bench b;
            unsigned char *p = reinterpret_cast<unsigned char *>(b.x);
            touch_bytes(p, 130, b.s);
            touch_bytes(p + 129, 10, b.t);
            sync_all();
        }},
        {"library and kernel on two streams", STRICT, "race between operations", [] {
            Bench b;
            fill(b.x, N, 2, b.s);
            must(cudaemu::enqueue(b.t, "product", {{b.x, 4, false}, {b.y, 4, true}}, [] {}));
            sync_all();
        }},
        {"missing edge in a graph", STRICT, "race between operations", [] {
            Bench b;
            cudaEvent_t f = new_event();
            begin(b.s);
            follow(b.t, b.s, b.e);
            fill(b.x, N, 2, b.s); /* after the fork: t does not wait for it */
            copy(b.y, b.x, N, b.t);
            follow(b.s, b.t, f);
            cudaGraphExec_t g = end(b.s);
            must(cudaGraphLaunch(g, b.s));
            sync_all();
        }},
        {"missing edge in a graph's later replay", STRICT, "race between operations", [] {
            Bench b;
            cudaEvent_t f = new_event();
            begin(b.s);
            follow(b.t, b.s, b.e);
            copy(b.y, b.x, N, b.t);
            follow(b.s, b.t, f);
            cudaGraphExec_t g = end(b.s);
            for (int i = 0; i < 3; i++) {
                must(cudaGraphLaunch(g, b.s));
                must(cudaStreamSynchronize(b.s));
            }
            must(cudaGraphLaunch(g, b.s));
            fill(b.x, N, 2, b.t); /* t's part of the capture does not order t itself */
            sync_all();
        }},
        {"replay and another stream", STRICT, "race between operations", [] {
            Bench b;
            begin(b.s);
            fill(b.x, N, 2, b.s);
            cudaGraphExec_t g = end(b.s);
            must(cudaGraphLaunch(g, b.s));
            copy(b.y, b.x, N, b.t);
            sync_all();
        }},
        {"host writes what a queued copy reads", BOTH, "host code writes pinned memory", [] {
            Bench b;
            float *h = pinned();
            upload(b.x, h, N, b.s);
            *(volatile float *)h = 1;
        }},
        {"host writes the last element that a queued copy reads", BOTH, "host code writes pinned memory", [] {
            Bench b;
            float *h = pinned(5000);
            upload(b.x, h + 4000, N, b.s);
            ((volatile float *)h)[4000 + N - 1] = 1;
        }},
        {"host reads what a queued copy writes", BOTH, "a queued cudaMemcpyAsync writes", [] {
            Bench b;
            float *h = pinned();
            upload(h, b.x, N, b.s);
            printf("%g\n", (double)*(volatile float *)h);
        }},
        {"host waited for the other stream's event", BOTH, "host code writes pinned memory", [] {
            Bench b;
            float *h = pinned();
            upload(b.x, h, N, b.s);
            must(cudaEventRecord(b.e, b.t));
            must(cudaEventSynchronize(b.e));
            *(volatile float *)h = 1;
        }},
        {"host writes what a replayed copy reads", BOTH, "host code writes pinned memory", [] {
            Bench b;
            float *h = pinned();
            begin(b.s);
            upload(b.x, h, N, b.s);
            cudaGraphExec_t g = end(b.s);
            *(volatile float *)h = 1;
            must(cudaGraphLaunch(g, b.s));
            must(cudaStreamSynchronize(b.s));
            *(volatile float *)h = 2;
            must(cudaGraphLaunch(g, b.s));
            *(volatile float *)h = 3;
        }},
        {"two streams copy to one pinned buffer", STRICT, "race between operations", [] {
            Bench b;
            float *h = pinned();
            upload(h, b.x, N, b.s);
            upload(h, b.y, N, b.t);
            sync_all();
        }},
        {"event never recorded", BOTH, "never recorded", [] { Bench b; must(cudaStreamWaitEvent(b.t, b.e, 0)); }},
        {"stream that waits for the NULL stream", BOTH, "expected cudaStreamNonBlocking", [] { cudaStream_t s; must(cudaStreamCreateWithFlags(&s, 0)); }},
        {"copy on the NULL stream", BOTH, "NULL stream", [] { Bench b; upload(b.x, b.y, N, nullptr); }},
        {"event recorded on the NULL stream", BOTH, "NULL stream", [] { Bench b; must(cudaEventRecord(b.e, nullptr)); }},
        {"stream destroyed twice", BOTH, "no stream, or no longer", [] { cudaStream_t s = new_stream(); must(cudaStreamDestroy(s)); must(cudaStreamDestroy(s)); }},
        {"event destroyed twice", BOTH, "no event, or no longer", [] { cudaEvent_t e = new_event(); must(cudaEventDestroy(e)); must(cudaEventDestroy(e)); }},
    };
}

static std::vector<Case> capture_faults()
{
    auto during = [](std::function<void(Bench &)> call, cudaStreamCaptureMode mode = cudaStreamCaptureModeThreadLocal) {
        return [=] {
            Bench b;
            must(cudaEventRecord(b.e, b.t));
            begin(b.s, mode);
            call(b);
        };
    };
    return {
        {"cudaStreamSynchronize of the captured stream", BOTH, "illegal during capture", during([](Bench &b) { must(cudaStreamSynchronize(b.s)); })},
        {"cudaStreamSynchronize of another stream", BOTH, "illegal during capture", during([](Bench &b) { must(cudaStreamSynchronize(b.t)); })},
        {"cudaStreamQuery in capture", BOTH, "illegal during capture", during([](Bench &b) { must(cudaStreamQuery(b.s)); })},
        {"cudaDeviceSynchronize in capture", BOTH, "illegal during capture", during([](Bench &) { sync_all(); })},
        {"cudaEventSynchronize in capture", BOTH, "illegal during capture", during([](Bench &b) { must(cudaEventSynchronize(b.e)); })},
        {"cudaEventQuery in capture", BOTH, "illegal during capture", during([](Bench &b) { must(cudaEventQuery(b.e)); })},
        {"cudaMalloc in capture", BOTH, "cudaMalloc: illegal during capture", during([](Bench &) { fresh(); })},
        {"cudaFree in capture", BOTH, "cudaFree: illegal during capture", during([](Bench &b) { must(cudaFree(b.x)); })},
        {"cudaHostAlloc in capture", BOTH, "cudaHostAlloc: illegal during capture", during([](Bench &) { pinned(); })},
        {"cudaMalloc on another thread in global mode", BOTH, "another thread is capturing", during([](Bench &) { std::thread([] { fresh(); }).join(); },
            cudaStreamCaptureModeGlobal)},
        {"pageable upload in capture", BOTH, "is pageable host memory", during([](Bench &b) { std::vector<float> h(N); upload(b.x, h.data(), N, b.s); })},
        {"pageable download in capture", BOTH, "is pageable host memory", during([](Bench &b) { std::vector<float> h(N); upload(h.data(), b.x, N, b.s); })},
        {"launch on the NULL stream in capture", BOTH, "NULL stream", during([](Bench &) { launch_empty(1, 32, 0, nullptr); })},
        {"waiting for an event from outside", BOTH, "recorded outside of it", during([](Bench &b) { must(cudaStreamWaitEvent(b.s, b.e, 0)); })},
        {"work that is never joined", BOTH, "unjoined work", during([](Bench &b) {
            follow(b.t, b.s, b.e);
            fill(b.x, N, 2, b.t);
            end(b.s);
        })},
        {"capture begun twice", BOTH, "being captured already", during([](Bench &b) { begin(b.s); })},
        {"capture ended on another stream", BOTH, "began on another stream", during([](Bench &b) { follow(b.t, b.s, b.e); end(b.t); })},
        {"capture ended on another thread", BOTH, "began on another host thread", during([](Bench &b) { std::thread([&b] { end(b.s); }).join(); })},
        {"capture ended that never began", BOTH, "not being captured", [] { Bench b; end(b.s); }},
        {"captured event waited for by the host", BOTH, "recorded during capture", [] {
            Bench b;
            begin(b.s);
            fill(b.x, N, 2, b.s);
            must(cudaEventRecord(b.e, b.s));
            end(b.s);
            must(cudaEventSynchronize(b.e));
        }},
        {"captured event waited for by a stream, afterwards", BOTH, "a capture that has ended", [] {
            Bench b;
            begin(b.s);
            fill(b.x, N, 2, b.s);
            must(cudaEventRecord(b.e, b.s));
            end(b.s);
            must(cudaStreamWaitEvent(b.t, b.e, 0));
        }},
        {"captured stream destroyed", BOTH, "is being captured", during([](Bench &b) { must(cudaStreamDestroy(b.s)); })},
        {"replay of a destroyed graph", BOTH, "no executable graph, or no longer", [] {
            Bench b;
            begin(b.s);
            fill(b.x, N, 2, b.s);
            cudaGraphExec_t g = end(b.s);
            must(cudaGraphExecDestroy(g));
            must(cudaGraphLaunch(g, b.s));
        }},
    };
}

static std::vector<Case> leaks()
{
    return {
        {"device memory", BOTH, "device memory", [] { fresh(); }},
        {"pinned memory", BOTH, "pinned memory", [] { pinned(); }},
        {"stream", BOTH, "stream", [] { new_stream(); }},
        {"event", BOTH, "event", [] { new_event(); }},
        {"graph", BOTH, "leaked: 1 objects live when the program ends: graph", [] {
            cudaStream_t s = new_stream();
            cudaGraph_t g;
            begin(s);
            must(cudaStreamEndCapture(s, &g));
            must(cudaStreamDestroy(s));
        }},
        {"executable graph", BOTH, "leaked: 1 objects live when the program ends: executable graph", [] {
            cudaStream_t s = new_stream();
            begin(s);
            end(s);
            must(cudaStreamDestroy(s));
        }},
        {"library's handle", BOTH, "leaked: ", [] { cudnnHandle_t h; expect(cudnnCreate(&h) == CUDNN_STATUS_SUCCESS, "cudnnCreate"); }},
    };
}

static std::vector<Case> device_faults()
{
    auto on_second = [](auto make) {
        must(cudaSetDevice(1));
        auto made = make();
        must(cudaSetDevice(0));
        return made;
    };
    return {
        {"kernel reads the other GPU's memory", STRICT, "no access as a peer", [=] {
            Bench b;
            float *far = on_second([] { return filled(new_stream()); });
            copy(b.y, far, N, b.s);
            sync_all();
        }},
        {"peer access in the wrong direction", STRICT, "no access as a peer", [=] {
            Bench b;
            float *far = on_second([] { must(cudaDeviceEnablePeerAccess(0, 0)); return filled(new_stream()); });
            copy(b.y, far, N, b.s);
            sync_all();
        }},
        {"library reads the other GPU's memory", BOTH, "no access as a peer", [=] {
            Bench b;
            float *far = on_second([] { return filled(new_stream()); });
            must(cudaemu::enqueue(b.s, "product", {{far, 4, false}}, [] {}));
            sync_all();
        }},
        {"launch on the other GPU's stream", BOTH, "the stream is GPU 1's, the current one is GPU 0", [=] { launch_empty(1, 32, 0, on_second(new_stream)); }},
        {"event of the other GPU", BOTH, "the event is GPU 1's, the stream GPU 0's", [=] { Bench b; must(cudaEventRecord(on_second(new_event), b.s)); }},
        {"peer copy with the GPUs exchanged", BOTH, "is not memory of GPU", [=] {
            Bench b;
            must(cudaMemcpyPeerAsync(on_second([] { return fresh(); }), 0, b.x, 1, 4, b.s));
        }},
        {"race between GPUs", STRICT, "race between operations", [=] {
            Bench b;
            float *far = on_second([] { return fresh(); });
            fill(b.x, N, 2, b.s);
            cudaStream_t other = on_second(new_stream);
            must(cudaMemcpyPeerAsync(far, 1, b.x, 0, N * sizeof(float), other));
            sync_all();
            must(cudaStreamSynchronize(other));
        }},
        {"unknown flags of cudaHostAlloc", BOTH, "are not emulated", [] { void *p; must(cudaHostAlloc(&p, 4, 2)); }},
    };
}

/* ---------------------------------------------------------------- sound programs */

static void sound_kernels()
{
    Bench b;
    std::vector<float> h(N), g(N);
    for (int i = 0; i < N; i++)
        h[(size_t)i] = (float)(i % 7 - 3);
    upload(b.x, h.data(), N, b.s);
    h.assign(N, 0); /* taken over already */
    copy(b.y, b.x, N, b.s);
    add(b.y, b.x, N, b.s);
    upload(g.data(), b.y, N, b.s);
    for (int i = 0; i < N; i++)
        expect(g[(size_t)i] == 2 * (float)(i % 7 - 3), "y = 2 x");
    block_sums(b.y, b.x, N, 3, b.s);
    upload(g.data(), b.y, 3, b.s);
    float sum = 0;
    for (int i = 0; i < N; i++)
        sum += (float)(i % 7 - 3);
    expect(g[0] + g[1] + g[2] == sum, "sums");
    reverse_rows(b.y, b.x, 3, 100, b.s);
    upload(g.data(), b.y, N, b.s);
    for (int i = 0; i < N; i++)
        expect(g[(size_t)i] == (float)((i / 100 * 100 + 99 - i % 100) % 7 - 3), "rows reversed");
    int *n = reinterpret_cast<int *>(b.y), count;
    must(cudaMemsetAsync(n, 0, sizeof *n, b.s));
    count_positive(n, b.x, N, b.s);
    must(cudaMemcpyAsync(&count, n, sizeof count, cudaMemcpyDeviceToHost, b.s));
    expect(count == N / 7 * 3 + (N % 7 > 4 ? N % 7 - 4 : 0), "votes and atomics");
    int odd[48];
    odd_warps(n, b.s);
    must(cudaMemcpyAsync(odd, n, sizeof odd, cudaMemcpyDefault, b.s));
    for (int i = 0; i < 48; i++)
        expect(odd[i] == ((i % 32 ^ 2) ^ 1) + (i >= 16 && i < 32 ? 100 : 0), "half warps");
    touch_bytes(reinterpret_cast<unsigned char *>(b.x) + 1, N, b.s);
    touch_halves(b.x, N, b.s);
    must(allow_shared(200 * 1024));
    launch_empty(dim3(3, 2, 2), dim3(8, 4, 2), 200 * 1024, b.s);
    launch_empty(1, 1024, 48 * 1024, b.s);
    b.close();
}

/* Three streams in a ring, each array written by one and read by the next; and two readers of one array, both waited for. */
static void sound_streams()
{
    Bench b;
    cudaStream_t s[3] = {b.s, b.t, new_stream()};
    cudaEvent_t e[3] = {b.e, new_event(), new_event()};
    float *z = filled(s[0]), *h = pinned();
    for (int i = 0; i < 5; i++) {
        fill(b.x, N, (float)i, s[0]);
        must(cudaEventRecord(e[0], s[0]));
        must(cudaStreamWaitEvent(s[1], e[0], 0));
        must(cudaStreamWaitEvent(s[2], e[0], 0));
        copy(b.y, b.x, N, s[1]);
        copy(z, b.x, N, s[2]);
        follow(s[0], s[1], e[1]);
        follow(s[0], s[2], e[2]);
        add(b.y, z, N, s[0]);
        follow(s[1], s[0], e[0]);
        follow(s[2], s[0], e[0]);
    }
    upload(h, b.y, N, s[0]);
    must(cudaEventRecord(e[0], s[0]));
    while (cudaEventQuery(e[0]) == cudaErrorNotReady)
        continue;
    expect(h[N - 1] == 8, "the ring's sum");
    h[0] = 3; /* the copy is over, and known to be */
    must(cudaFree(z));
    must(cudaFreeHost(h));
    for (int i = 1; i < 3; i++)
        must(cudaEventDestroy(e[i]));
    must(cudaStreamDestroy(s[2]));
    b.close();
}

/* Training in small: a captured step with two branches, uploads through two pinned slots that share a page, results read one step late. */
static void sound_training()
{
    Bench b;
    constexpr int n_steps = 20;
    cudaEvent_t joined = new_event(), uploaded[2] = {new_event(), new_event()};
    float *slots = pinned(2 * N), *loss = pinned(n_steps), *total = filled(b.s, N, 0), *z = fresh();
    begin(b.s);
    follow(b.t, b.s, b.e);
    copy(z, b.x, N, b.t);
    add(total, b.x, N, b.s);
    follow(b.s, b.t, joined);
    add(total, z, N, b.s);
    cudaGraphExec_t step = end(b.s);
    float expected = 0;
    for (int i = 0; i < n_steps; i++) {
        int slot = i % 2;
        if (i >= 2)
            must(cudaEventSynchronize(uploaded[slot]));
        for (int k = 0; k < N; k++)
            slots[slot * N + k] = (float)i;
        upload(b.x, slots + slot * N, N, b.s);
        must(cudaEventRecord(uploaded[slot], b.s));
        must(cudaGraphLaunch(step, b.s));
        upload(loss + i, total + N - 1, 1, b.s);
        expected += 2 * (float)i;
    }
    must(cudaStreamSynchronize(b.s));
    expect(loss[n_steps - 1] == expected, "the last step's sum");
    must(cudaGraphExecDestroy(step));
    for (cudaEvent_t e : {joined, uploaded[0], uploaded[1]})
        must(cudaEventDestroy(e));
    must(cudaFreeHost(slots));
    must(cudaFreeHost(loss));
    must(cudaFree(total));
    must(cudaFree(z));
    b.close();
}

/* Each GPU driven by a host thread of its own; then their mean, over peer access one way and by copies the other. */
static void sound_gpus()
{
    float *x[2];
    cudaStream_t s[2];
    auto drive = [&](int device) {
        must(cudaSetDevice(device));
        s[device] = new_stream();
        x[device] = fresh();
        fill(x[device], N, (float)(device + 1), s[device]);
        begin(s[device]);
        add(x[device], x[device], N, s[device]);
        cudaGraphExec_t g = end(s[device]);
        for (int i = 0; i < 3; i++) {
            must(cudaGraphLaunch(g, s[device]));
            must(cudaStreamSynchronize(s[device]));
        }
        must(cudaGraphExecDestroy(g));
    };
    std::thread other([&] { drive(1); });
    drive(0);
    other.join();
    int can;
    must(cudaDeviceCanAccessPeer(&can, 0, 1));
    expect(can, "peers");
    must(cudaDeviceEnablePeerAccess(1, 0));
    add(x[0], x[1], N, s[0]);
    cudaEvent_t e = new_event();
    follow(s[1], s[0], e);
    must(cudaMemcpyPeerAsync(x[1], 1, x[0], 0, N * sizeof(float), s[1]));
    std::vector<float> h(N);
    upload(h.data(), x[1], N, s[1]);
    expect(h[N - 1] == 24, "the sum over two GPUs");
    must(cudaEventDestroy(e));
    for (int i = 0; i < 2; i++) {
        must(cudaFree(x[i]));
        must(cudaStreamDestroy(s[i]));
    }
}

static void sound_errors()
{
    void *p;
    size_t n_free, n_all;
    int n;
    must(cudaGetDeviceCount(&n));
    expect(n == 2, "two GPUs");
    must(cudaMemGetInfo(&n_free, &n_all));
    expect(cudaMalloc(&p, n_all + 1) == cudaErrorMemoryAllocation && !p, "out of memory");
    expect(cudaGetLastError() == cudaErrorMemoryAllocation, "the last error");
    expect(cudaGetLastError() == cudaSuccess, "asked for once");
    must(cudaMalloc(&p, n_all / 2));
    must(cudaMemGetInfo(&n_free, &n_all));
    expect(n_free == n_all - n_all / 2, "free memory");
    struct cudaPointerAttributes a;
    must(cudaPointerGetAttributes(&a, static_cast<char *>(p) + 5));
    expect(a.type == cudaMemoryTypeDevice && a.device == 0, "a device pointer");
    must(cudaPointerGetAttributes(&a, &a));
    expect(a.type == cudaMemoryTypeUnregistered, "a host pointer");
    must(cudaFree(p));
}

static long resident_pages()
{
    long all = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    expect(f && fscanf(f, "%ld %ld", &all, &resident) == 2, "/proc/self/statm");
    fclose(f);
    return resident;
}

/* Thousands of steps, of which only an early one's event is ever waited for: what is known of the past must not pile up. */
static void sound_for_long()
{
    Bench b;
    cudaStream_t u = new_stream();
    cudaEvent_t f = new_event(), late[2] = {new_event(), new_event()};
    float *z = filled(b.s, 8);
    long before = 0;
    for (int i = 0; i < 6000; i++) {
        if (i >= 2)
            must(cudaEventSynchronize(late[i % 2]));
        fill(b.x, 8, 1, b.s);
        must(cudaEventRecord(b.e, b.s));
        must(cudaStreamWaitEvent(b.t, b.e, 0));
        must(cudaStreamWaitEvent(u, b.e, 0));
        copy(b.y, b.x, 8, b.t);
        copy(z, b.x, 8, u);
        follow(b.s, b.t, b.e);
        follow(b.s, u, f);
        must(cudaEventRecord(late[i % 2], b.s));
        if (i == 1000)
            before = resident_pages();
    }
    expect(resident_pages() - before < 1024, "5000 more steps take less than 4 MB");
    for (cudaEvent_t e : {f, late[0], late[1]})
        must(cudaEventDestroy(e));
    must(cudaFree(z));
    sync_all();
    must(cudaStreamDestroy(u));
    b.close();
}

/* ---------------------------------------------------------------- running them */

struct Result {
    int status; /* as of waitpid */
    std::string says;
};

static Result run(const Case &c, int seed)
{
    int ends[2];
    fflush(stdout);
    if (pipe(ends) != 0)
        exit(2);
    pid_t child = fork();
    if (child < 0)
        exit(2);
    if (child == 0) {
        dup2(ends[1], 2);
        close(ends[0]);
        close(ends[1]);
        if (!freopen("/dev/null", "w", stdout))
            exit(2);
        setenv("CUDAEMU_SEED", std::to_string(seed).c_str(), 1);
        setenv("CUDAEMU_DEVICES", "2", 1);
        setenv("CUDAEMU_MEMORY", "1048576", 1);
        alarm(60);
        c.program();
        exit(0);
    }
    close(ends[1]);
    Result r;
    char buffer[4096];
    for (ssize_t n; (n = read(ends[0], buffer, sizeof buffer)) > 0 || (n < 0 && errno == EINTR);)
        r.says.append(buffer, (size_t)(n > 0 ? n : 0));
    close(ends[0]);
    while (waitpid(child, &r.status, 0) < 0 && errno == EINTR)
        continue;
    return r;
}

int main(int argc, char **argv)
{
    int build = argc > 1 && !strcmp(argv[1], "strict") ? STRICT : argc > 1 && !strcmp(argv[1], "fast") ? FAST : 0;
    const char *only = argc > 2 ? argv[2] : nullptr;
    if (!build || argc > 3) {
        fprintf(stderr, "usage: %s strict|fast [NAME]\n", argv[0]);
        return 2;
    }
    std::vector<Case> cases;
    for (auto &part : {memory_faults(), block_faults(), launch_faults(), stream_faults(), capture_faults(), leaks(), device_faults()})
        cases.insert(cases.end(), part.begin(), part.end());
    std::vector<Case> sound = {{"sound kernels", BOTH, nullptr, sound_kernels}, {"sound streams", BOTH, nullptr, sound_streams},
        {"sound training", BOTH, nullptr, sound_training}, {"sound GPUs", BOTH, nullptr, sound_gpus}, {"sound errors", BOTH, nullptr, sound_errors},
        {"sound for long", BOTH, nullptr, sound_for_long}};
    cases.insert(cases.end(), sound.begin(), sound.end());

    int planted = 0, missed = 0, raised = 0, n_sound = 0;
    for (const Case &c : cases) {
        if (!(c.builds & build) || (only && strcmp(only, c.name)))
            continue;
        (c.expected ? planted : n_sound)++;
        for (int seed = c.expected ? 1 : 0; seed <= 8; seed++) {
            Result r = run(c, seed);
            bool right = c.expected ? WIFEXITED(r.status) && WEXITSTATUS(r.status) == cudaemu::kFaultStatus && r.says.find(c.expected) != std::string::npos
                                    : WIFEXITED(r.status) && WEXITSTATUS(r.status) == 0 && r.says.empty();
            if (only)
                printf("%s, seed %d: status %#x, %s", c.name, seed, (unsigned)r.status, r.says.empty() ? "nothing\n" : r.says.c_str());
            if (right)
                continue;
            printf("%s: %s, seed %d: status %#x, says '%s'; expected '%s'\n", c.expected ? "MISSED" : "FALSE ALARM", c.name, seed, (unsigned)r.status,
                r.says.c_str(), c.expected ? c.expected : "");
            (c.expected ? missed : raised)++;
            break;
        }
    }
    printf("%s emulator: %d faults planted, %d caught on all of 8 seeds; %d sound programs, %d raised an alarm\n", argv[1], planted, planted - missed,
        n_sound, raised);
    return missed || raised || !(planted + n_sound);
}
