/* The emulator's parts, as they see one another.
 *
 *   cudaemu_fault     faults, the environment's settings, random numbers, signals, what must be destroyed before the program ends
 *   cudaemu_fiber     threads of a block as fibers: stacks and the switch between them
 *   cudaemu_block     runs a kernel: blocks, threads, barriers, warps, shared memory
 *   cudaemu_memory    device and pinned memory, their protection from host code
 *   cudaemu_access    what each access is checked against (strict build), behind the thread sanitizer's hooks
 *   cudaemu_order     which operation is ordered before which
 *   cudaemu_stream    streams, events, when queued operations run
 *   cudaemu_graph     capture and replay
 *   cudaemu_runtime   the runtime's functions that are left: devices, errors, memory, copies
 *
 * One lock (Guard) protects everything; whichever host thread waits for work runs it, with the lock held. The strict build defines
 * CUDAEMU_STRICT; without it there is no shadow memory, and kernels make no calls but those for barriers, warps and shared memory. */
#ifndef CUDAEMU_ENGINE_H
#define CUDAEMU_ENGINE_H

#include "cudaemu.h"

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <pthread.h>
#include <string>
#include <vector>

namespace cudaemu {

#ifdef CUDAEMU_STRICT
constexpr bool kStrict = true;
#else
constexpr bool kStrict = false;
#endif

struct Guard {
    Guard();
    ~Guard();
    Guard(const Guard &) = delete;
};

/* ---- cudaemu_fault ---- */

enum class Turn { Forward, Reverse, Random };

struct Config {
    int devices;       /* CUDAEMU_DEVICES, default 1 */
    size_t memory;     /* CUDAEMU_MEMORY: bytes of each GPU */
    int capability;    /* CUDAEMU_CAPABILITY, default 90 */
    bool peers;        /* CUDAEMU_PEERS, default 1: GPUs can reach one another's memory, if they ask for it */
    uint64_t seed;     /* CUDAEMU_SEED, default 0: everything forward */
    Turn turn;         /* of threads and blocks: seed % 3 */
};
const Config &config();
uint64_t random_below(uint64_t n);

/* Signals and the report at exit: called by everything that makes the first thing. */
void boot();

/* ---- cudaemu_order ---- */

/* Operations of one stream (or one branch of a graph) form a chain; a clock says how far along each chain everything is known to be over. */
using Clock = std::vector<uint64_t>;

int new_chain();
void free_chain(int chain);
uint64_t next_in_chain(int chain);
void join(Clock &clock, const Clock &other);
void join(Clock &clock, int chain, uint64_t sequence);
inline bool before(int chain, uint64_t sequence, const Clock &clock) { return (size_t)chain < clock.size() && clock[(size_t)chain] >= sequence; }
/* What the host has waited for. All host threads share one: the emulator cannot see how they wait for each other. */
extern Clock host_clock;

/* ---- cudaemu_stream ---- */

struct Op;
using OpPtr = std::shared_ptr<Op>;

enum class OpKind { Kernel, Library, Copy, Marker };

/* What an operation does, as captured or queued. */
struct Task {
    std::string name;
    OpKind kind = OpKind::Marker;
    int device = 0;
    std::vector<Access> accesses;  /* not a kernel's */
    std::function<void()> work;    /* may be empty */
};

struct Op {
    std::shared_ptr<const Task> task;
    int chain = 0;
    uint64_t sequence = 0;
    Clock clock;                   /* what is over before it starts */
    size_t waiting = 0;            /* operations it waits for */
    std::vector<OpPtr> followers;  /* those that wait for it */
    bool done = false;
    uint64_t turn = 0; /* how many operations had run when it had */
};

/* Makes task the next operation of `chain`, after all of `after`. */
OpPtr submit(std::shared_ptr<const Task> task, int chain, const std::vector<OpPtr> &after);
/* Runs queued operations, in an order that the rules allow, until `wanted` (all: everything) are over. */
void run_until(const std::vector<OpPtr> &wanted);
void run_all();
/* The same; then the host knows of them. */
void wait_for(const std::vector<OpPtr> &wanted);

/* The operation that this host thread is running, or NULL. */
const Op *running();

/* Puts a task into a stream: queued, or captured. */
void put(cudaStream_t stream, std::shared_ptr<const Task> task);

/* ---- cudaemu_graph ---- */

struct Graph;

struct Capture {
    Graph *graph;
    cudaStreamCaptureMode mode;
    pthread_t thread;                  /* that began it */
    uint64_t number;                   /* from 1, never again */
    std::vector<cudaStream_t> streams; /* a branch each; it began on [0] */
};

/* Appends to what is being captured on stream. */
void capture_task(cudaStream_t stream, std::shared_ptr<const Task> task);
/* Makes stream wait for an event of a capture: it becomes a branch of it. */
void capture_wait(cudaStream_t stream, const CUevent_st &event);
/* Faults where `call` is forbidden because this thread, or another in global mode, is capturing. */
void refuse_during_capture(const char *call);

} // namespace cudaemu

/* The runtime's opaque types. */
struct CUstream_st {
    int device = 0, chain = 0;
    std::vector<cudaemu::OpPtr> tail;    /* what the next operation waits for */
    cudaemu::Capture *capture = nullptr;
    std::vector<size_t> captured_tail;   /* nodes; while capturing */
};

struct CUevent_st {
    int device = 0;
    bool recorded = false, timed = true;
    std::vector<cudaemu::OpPtr> at;
    uint64_t capture_number = 0;         /* of the capture that it was recorded in; 0: in none */
    std::vector<size_t> captured_at;     /* nodes */
};

namespace cudaemu {

CUstream_st &stream_of(cudaStream_t stream, const char *call);
CUevent_st &event_of(cudaEvent_t event, const char *call);

/* ---- cudaemu_runtime ---- */

/* Keeps the error for cudaGetLastError, and returns it. */
cudaError_t failed(cudaError_t error, const char *call);
/* cudaErrorNoDevice where there is none. */
cudaError_t need_device(const char *call);
/* Faults where an error, or a launch, of this host thread was not followed by cudaGetLastError. before: what comes now. */
void check_errors_asked_for(const char *before);
void note_launch(const char *name);

/* ---- cudaemu_memory ---- */

struct Cell;

/* A range of addresses with its allocations and, in the strict build, its shadow. */
struct Space {
    uintptr_t base = 0;
    size_t span = 0, top = 0;          /* bytes reserved; bytes ever handed out */
    std::map<uintptr_t, size_t> live;  /* allocations: address, bytes */
    size_t used = 0;                   /* bytes live */
    uint8_t *status = nullptr;         /* Status of each byte */
    Cell *words = nullptr, *bytes = nullptr;

    bool holds(uintptr_t p) const { return p - base < span; }
    /* The live allocation around p, or end(). */
    std::map<uintptr_t, size_t>::const_iterator block_of(uintptr_t p) const;
};

enum Status : uint8_t { kNowhere = 0, kFresh = 1, kWritten = 2, kFreed = 3 };

Space &device_space(int device);
Space &pinned_space();
Space &shared_space();
/* The GPU whose memory p lies in, or -1. */
int device_at(uintptr_t p);
bool is_pinned(uintptr_t p);
void set_peer(int device, int peer);
bool has_peer(int device, int peer);

/* Device memory is closed to everybody except while an operation runs. */
void open_device_memory();
void close_device_memory();

/* Pinned memory that a queued copy refers to is closed to the host until the host has waited for it. */
void hold_pinned(const OpPtr &op);
void open_pinned(const Op &op); /* for the operation itself, which is about to run */
void close_pinned(const Op &op);
void release_pinned();          /* whatever the host has waited for by now */
/* Whether the host may go on after a fault at p; faults where it did what it may not. */
bool handle_fault_at(uintptr_t p);
void check_redzones();

/* ---- cudaemu_block ---- */

/* The place of an access: "thread (3,0,0) of block (1,0,0)", or "". */
std::string place();
bool in_kernel();
/* Which shared memory a function has opted in to: cudaFuncSetAttribute. */
void set_dynamic_shared_limit(const void *kernel, size_t bytes);
size_t shared_limit_optin();

/* ---- cudaemu_access ---- */

enum class Mode { Read, Write, Atomic };
/* One access of the running kernel's current thread, or of host code compiled like a kernel. */
void check_access(const void *p, size_t bytes, Mode mode);
/* All of an operation's range, before it runs. peers: copies may cross GPUs. */
void check_range(const Access &access, int device, bool peers);
/* The thread that runs next, for the accesses that follow. */
void set_accessor(uint32_t block, unsigned thread, unsigned epoch, unsigned warp_epoch);
void start_checking(const Op &op);
/* Where kernels may go besides device and shared memory. */
void allow_stack(const void *low, size_t bytes);
void allow_arguments(const void *p, size_t bytes);
void map_shadow(Space &space);

} // namespace cudaemu

#endif
