/* Runs a kernel: its blocks one after the other, the threads of a block as fibers that take turns.
 *
 * A thread needs a fiber of its own only while it waits. So a worker fiber runs thread after thread; when one of them waits, at a barrier or for
 * its warp, the fiber is parked with it and another worker goes on with the threads that have not started. Kernels that never wait are
 * a plain loop on one fiber. */
#include "cudaemu_engine.h"
#include "cudaemu_fiber.h"
#include "cudaemu_kernel.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>

namespace cudaemu {

/* The kernel's threadIdx, blockIdx, blockDim and gridDim: variables here, constants there (cudaemu_kernel.h), which is why they have other names. */
extern uint3 thread_index_ asm("cudaemu_thread_index"), block_index_ asm("cudaemu_block_index");
extern uint3 block_shape_ asm("cudaemu_block_shape"), grid_shape_ asm("cudaemu_grid_shape");
uint3 thread_index_, block_index_;
uint3 block_shape_, grid_shape_;

constexpr unsigned kMaxThreads = 1024, kLanes = 32;
constexpr size_t kSharedPlain = 48 * 1024;

struct Site {
    int number;
    const char *file;
    int line;
};

enum class Meeting { Shuffle, Vote, Sync };

/* Lanes of a warp that meet: those in mask, at one kind of operation. Disjoint masks may meet at the same time. */
struct Group {
    unsigned mask, arrived;
    Meeting kind;
    uint64_t value[kLanes];
    unsigned source[kLanes];
    Fiber *waiting[kLanes];
    unsigned n_waiting;
};

struct Warp {
    unsigned present;           /* lanes that the block has */
    unsigned returned;
    unsigned epoch;             /* operations at which all its lanes met */
    std::vector<Group> groups;
    uint64_t result[kLanes];    /* of a lane's last operation */
};

/* What a launch keeps until it runs: its arguments as they were, and how to run one thread with them. */
struct Body {
    void (*call)(const void *arguments);
    std::shared_ptr<void> arguments;
    size_t bytes;
};

struct SharedArray {
    const void *identity;
    size_t offset;
};

/* The one kernel that runs. */
static struct Kernel {
    bool active;
    const Body *body;
    size_t dynamic_bytes;
    size_t shared_limit;

    /* the block at hand */
    uint32_t block;
    unsigned n_threads, n_started, n_returned, n_at_barrier;
    unsigned epoch;                     /* barriers passed */
    Site site;                          /* the barrier at which n_at_barrier threads wait */
    std::vector<unsigned> order;        /* in which its threads start */
    std::vector<Fiber *> runnable, at_barrier;
    std::vector<Warp> warps;
    std::vector<SharedArray> shared;
    size_t shared_top, static_bytes;

    Fiber *fiber;                       /* runs now */
} k;

static Fiber host;                      /* what called run_kernel */
static std::vector<std::unique_ptr<Fiber>> fibers;
static std::vector<Fiber *> idle;       /* workers without a thread */

/* The host thread that runs the kernel; others may run host code of the same .cu file meanwhile. */
static thread_local bool runs_kernel;
bool in_kernel() { return runs_kernel; }

std::string place()
{
    if (!runs_kernel)
        return "";
    char text[160];
    snprintf(text, sizeof text, "thread (%u,%u,%u) of block (%u,%u,%u)", thread_index_.x, thread_index_.y, thread_index_.z, block_index_.x,
        block_index_.y, block_index_.z);
    return text;
}

/* ---------------------------------------------------------------- taking turns */

static void become(unsigned thread)
{
    if (block_shape_.x == k.n_threads) /* mostly; divisions would show in the fast build */
        thread_index_ = {thread, 0, 0};
    else
        thread_index_ = {thread % block_shape_.x, thread / block_shape_.x % block_shape_.y, thread / block_shape_.x / block_shape_.y};
    if (kStrict)
        set_accessor(k.block, thread, k.epoch, k.warps[thread / kLanes].epoch);
}

[[noreturn]] static void stuck()
{
    unsigned waiting = k.n_started - k.n_returned - k.n_at_barrier;
    if (k.n_at_barrier)
        fault("deadlock: %u threads wait at the barrier at %s:%d, %u for lanes of their warp that never come, %u have returned", k.n_at_barrier,
            k.site.file, k.site.line, waiting, k.n_returned);
    fault("deadlock: %u threads wait for lanes of their warp that never come, %u have returned", waiting, k.n_returned);
}

static Fiber *next_runnable()
{
    if (k.runnable.empty())
        return nullptr;
    size_t last = k.runnable.size() - 1;
    if (config().turn == Turn::Random)
        std::swap(k.runnable[random_below(last + 1)], k.runnable[last]);
    Fiber *fiber = k.runnable[last];
    k.runnable.pop_back();
    return fiber;
}

static void work();

static Fiber *idle_worker()
{
    if (idle.empty()) {
        fibers.push_back(std::make_unique<Fiber>());
        make_fiber(*fibers.back(), work);
        idle.push_back(fibers.back().get());
    }
    Fiber *fiber = idle.back();
    idle.pop_back();
    return fiber;
}

static void go_on_with(Fiber *to)
{
    Fiber *from = k.fiber;
    k.fiber = to;
    if (to->stack)
        allow_stack(to->stack, kStackBytes);
    switch_fiber(*from, *to);
}

/* The running thread waits until somebody makes its fiber runnable. */
static void park()
{
    Fiber *self = k.fiber;
    Fiber *to = next_runnable();
    if (!to && k.n_started < k.n_threads)
        to = idle_worker();
    if (!to)
        stuck();
    go_on_with(to);
    become(self->thread);
}

static void complete_groups(Warp &warp);

static void returned(unsigned thread)
{
    Warp &warp = k.warps[thread / kLanes];
    k.n_returned++;
    warp.returned |= 1u << thread % kLanes;
    if (!warp.groups.empty())
        complete_groups(warp);
    if (k.n_at_barrier)
        fault("the thread returned, but %u others wait for it at the barrier at %s:%d", k.n_at_barrier, k.site.file, k.site.line);
}

/* A worker fiber's life, over all blocks and kernels. */
static void work()
{
    for (;;) {
        while (k.n_started < k.n_threads && k.runnable.empty()) {
            k.fiber->thread = k.order[k.n_started++];
            become(k.fiber->thread);
            k.body->call(k.body->arguments.get());
            returned(k.fiber->thread);
        }
        Fiber *to = next_runnable();
        if (!to && k.n_returned < k.n_threads)
            stuck();
        idle.push_back(k.fiber);
        go_on_with(to ? to : &host);
    }
}

/* ---------------------------------------------------------------- barriers */

void barrier(int site, const char *file, int line)
{
    if (!runs_kernel)
        fault("__syncthreads outside a kernel (%s:%d)", file, line);
    if (k.n_at_barrier == 0)
        k.site = {site, file, line};
    else if (k.site.number != site || k.site.line != line)
        fault("divergent barrier: this thread waits at %s:%d, others of its block at %s:%d", file, line, k.site.file, k.site.line);
    if (k.n_returned)
        fault("barrier at %s:%d after %u threads of the block have returned", file, line, k.n_returned);
    k.n_at_barrier++;
    if (k.n_at_barrier < k.n_threads) {
        k.at_barrier.push_back(k.fiber);
        park();
        return;
    }
    k.n_at_barrier = 0;
    k.epoch++;
    k.runnable.insert(k.runnable.end(), k.at_barrier.rbegin(), k.at_barrier.rend());
    k.at_barrier.clear();
    if (config().turn == Turn::Forward) {
        become(k.fiber->thread);
        return;
    }
    /* The last to come need not be the first to go on. */
    k.runnable.push_back(k.fiber);
    if (config().turn == Turn::Reverse)
        std::swap(k.runnable.front(), k.runnable.back());
    Fiber *self = k.fiber, *to = next_runnable();
    if (to != self)
        go_on_with(to);
    become(self->thread);
}

/* ---------------------------------------------------------------- warps */

static void hand_out(Warp &warp, Group &group)
{
    unsigned votes = 0;
    for (unsigned lane = 0; lane < kLanes; lane++)
        if (group.arrived >> lane & 1 && group.value[lane])
            votes |= 1u << lane;
    for (unsigned lane = 0; lane < kLanes; lane++) {
        if (!(group.arrived >> lane & 1) || group.kind == Meeting::Sync)
            continue;
        if (group.kind == Meeting::Vote) {
            warp.result[lane] = votes;
            continue;
        }
        unsigned source = group.source[lane];
        if (!(group.mask >> source & 1))
            fault("shuffle: lane %u reads lane %u, which is not in the mask %08x", lane, source, group.mask);
        if (!(group.arrived >> source & 1))
            fault("shuffle: lane %u reads lane %u, which %s", lane, source, warp.present >> source & 1 ? "has returned" : "the block does not have");
        warp.result[lane] = group.value[source];
    }
    for (unsigned i = group.n_waiting; i-- > 0;)
        k.runnable.push_back(group.waiting[i]);
}

/* Lanes that have returned, or were never there, are not waited for. */
static bool complete(const Warp &warp, const Group &group)
{
    return group.arrived == (group.mask & warp.present & ~warp.returned);
}

static void complete_groups(Warp &warp)
{
    for (size_t i = 0; i < warp.groups.size(); i++)
        if (complete(warp, warp.groups[i])) {
            /* Only a meeting of the whole warp orders all its accesses. */
            if (warp.groups[i].arrived == (warp.present & ~warp.returned))
                warp.epoch++;
            hand_out(warp, warp.groups[i]);
            warp.groups.erase(warp.groups.begin() + (long)i--);
        }
}

static uint64_t meet(unsigned mask, Meeting kind, uint64_t value, unsigned source)
{
    if (!runs_kernel)
        fault("a warp's operation outside a kernel");
    unsigned thread = k.fiber->thread, lane = thread % kLanes;
    Warp &warp = k.warps[thread / kLanes];
    if (!(mask >> lane & 1))
        fault("lane %u is not in its own mask %08x", lane, mask);
    Group *group = nullptr;
    for (Group &g : warp.groups) {
        if (g.mask == mask && g.kind == kind)
            group = &g;
        else if (g.mask >> lane & 1 && g.arrived & mask) /* they wait for this lane, and it would wait for them */
            fault("lanes of a warp disagree: mask %08x here, %08x (or another operation) in lanes that wait", mask, g.mask);
    }
    if (!group) {
        warp.groups.emplace_back();
        group = &warp.groups.back();
        group->mask = mask;
        group->kind = kind;
        group->arrived = group->n_waiting = 0;
    }
    group->value[lane] = value;
    group->source[lane] = source;
    group->arrived |= 1u << lane;
    if (complete(warp, *group)) {
        complete_groups(warp);
        become(thread);
    } else {
        group->waiting[group->n_waiting++] = k.fiber;
        park();
    }
    return warp.result[lane];
}

uint64_t warp_shuffle(unsigned mask, uint64_t value, Shuffle kind, int operand, int width)
{
    if (width < 1 || width > (int)kLanes || (width & (width - 1)))
        fault("shuffle: width %d, expected a power of two up to 32", width);
    int lane = k.fiber ? (int)(k.fiber->thread % kLanes) : 0, first = lane & ~(width - 1), source = lane;
    switch (kind) {
    case Shuffle::Index: source = first + (operand & (width - 1)); break;
    case Shuffle::Up: source = lane - operand; break;
    case Shuffle::Down: source = lane + operand; break;
    case Shuffle::Xor: source = lane ^ operand; break;
    }
    if (source < first || source >= first + width) /* out of its part of the warp: it keeps its own */
        source = lane;
    return meet(mask, Meeting::Shuffle, value, (unsigned)source);
}

unsigned warp_vote(unsigned mask, bool predicate) { return (unsigned)meet(mask, Meeting::Vote, predicate, 0); }

void warp_sync(unsigned mask) { meet(mask, Meeting::Sync, 0, 0); }

/* ---------------------------------------------------------------- shared memory */

/* Statically sized arrays from kArrays up with a redzone between them; what a launch asked for at kDynamic. Neither is aligned to more than
 * the language promises. */
constexpr size_t kRedzone = 64, kArrays = 256, kDynamic = 256 * 1024, kSharedSpan = 1024 * 1024;

Space &shared_space()
{
    static Space &space = [&]() -> Space & {
        Space &made = *new Space;
        void *p = aligned_alloc(4096, kSharedSpan);
        if (!p)
            fault("no memory for shared memory");
        made.base = reinterpret_cast<uintptr_t>(p);
        made.span = kSharedSpan;
        map_shadow(made);
        return made;
    }();
    return space;
}

static std::map<const void *, size_t> &dynamic_limits()
{
    static std::map<const void *, size_t> limits;
    return limits;
}
void set_dynamic_shared_limit(const void *kernel, size_t bytes) { dynamic_limits()[kernel] = bytes; }

size_t shared_limit_optin()
{
    int c = config().capability;
    size_t kilobytes = c < 80 ? 64 : c == 80 || c == 87 ? 163 : c < 90 ? 99 : c < 120 ? 227 : 99;
    return kilobytes * 1024;
}

static void *fresh_shared(size_t offset, size_t bytes)
{
    Space &space = shared_space();
    void *p = reinterpret_cast<void *>(space.base + offset);
    memset(p, 0xff, bytes); /* NaN */
    if (kStrict)
        memset(space.status + offset, kFresh, bytes);
    return p;
}

void *shared_array(const void *identity, const char *name, size_t bytes, size_t alignment)
{
    if (!runs_kernel)
        fault("shared memory (%s) outside a kernel", name);
    for (const SharedArray &a : k.shared)
        if (a.identity == identity)
            return reinterpret_cast<void *>(shared_space().base + a.offset);
    size_t offset = (k.shared_top + kRedzone + 2 * alignment - 1) / (2 * alignment) * (2 * alignment) + alignment;
    k.static_bytes += bytes;
    if (k.static_bytes > kSharedPlain || k.static_bytes + k.dynamic_bytes > k.shared_limit)
        fault("%zu bytes of shared memory arrays (%s is the last) and %zu given at the launch, the limit is %zu", k.static_bytes, name,
            k.dynamic_bytes, std::min(kSharedPlain, k.shared_limit));
    if (kStrict)
        memset(shared_space().status + k.shared_top, kNowhere, offset - k.shared_top);
    k.shared.push_back({identity, offset});
    k.shared_top = offset + bytes;
    if (kStrict)
        memset(shared_space().status + k.shared_top, kNowhere, kRedzone);
    return fresh_shared(offset, bytes);
}

void *dynamic_shared()
{
    if (!runs_kernel)
        fault("shared memory outside a kernel");
    return reinterpret_cast<void *>(shared_space().base + kDynamic + 16);
}

/* ---------------------------------------------------------------- kernels */

static void run_block(uint32_t block)
{
    k.block = block;
    block_index_ = {block % grid_shape_.x, block / grid_shape_.x % grid_shape_.y, block / grid_shape_.x / grid_shape_.y};
    if (config().turn == Turn::Random)
        for (unsigned i = k.n_threads; i-- > 1;)
            std::swap(k.order[i], k.order[random_below(i + 1)]);
    k.n_started = k.n_returned = k.n_at_barrier = k.epoch = 0;
    for (size_t i = 0; i < k.warps.size(); i++) {
        unsigned lanes = std::min(kLanes, k.n_threads - (unsigned)i * kLanes);
        k.warps[i].present = lanes == kLanes ? ~0u : (1u << lanes) - 1;
        k.warps[i].returned = k.warps[i].epoch = 0;
    }
    k.shared.clear();
    k.shared_top = kArrays;
    k.static_bytes = 0;
    if (k.dynamic_bytes)
        fresh_shared(kDynamic + 16, k.dynamic_bytes);
    k.fiber = &host;
    go_on_with(idle_worker());
}

static void run_kernel(const Body &body, dim3 grid, dim3 block, size_t dynamic_bytes, size_t shared_limit)
{
    grid_shape_ = {grid.x, grid.y, grid.z};
    block_shape_ = {block.x, block.y, block.z};
    k.body = &body;
    k.dynamic_bytes = dynamic_bytes;
    k.shared_limit = shared_limit;
    k.n_threads = block.x * block.y * block.z;
    k.order.resize(k.n_threads);
    for (unsigned i = 0; i < k.n_threads; i++)
        k.order[i] = config().turn == Turn::Reverse ? k.n_threads - 1 - i : i;
    k.warps.resize((k.n_threads + kLanes - 1) / kLanes);
    allow_arguments(body.arguments.get(), body.bytes);
    if (kStrict && dynamic_bytes)
        memset(shared_space().status + kDynamic + 16 + dynamic_bytes, kNowhere, 4096);
    runs_kernel = true;
    /* Random: from a random place, with a step that has no factor in common with their number, which visits each block once. */
    uint64_t n = (uint64_t)grid.x * grid.y * grid.z, at = 0, step = 1;
    if (config().turn == Turn::Reverse)
        at = n - 1, step = n - 1;
    if (config().turn == Turn::Random) {
        at = random_below(n);
        for (step = 1 + random_below(n); std::gcd(step, n) != 1;)
            step++;
    }
    for (uint64_t i = 0; i < n; i++, at = (at + step) % n)
        run_block((uint32_t)at);
    runs_kernel = false;
}

/* What the hardware refuses, or what reads as a mistake in any launch. */
static size_t check_launch(const char *name, const void *kernel, dim3 grid, dim3 block, size_t shared)
{
    if (!grid.x || !grid.y || !grid.z || !block.x || !block.y || !block.z)
        fault("launch of %s: a grid of (%u,%u,%u) blocks of (%u,%u,%u) threads: none may be 0", name, grid.x, grid.y, grid.z, block.x, block.y, block.z);
    if (grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
        fault("launch of %s: a grid of (%u,%u,%u), the limits are (2147483647,65535,65535)", name, grid.x, grid.y, grid.z);
    if (block.x > 1024 || block.y > 1024 || block.z > 64 || (uint64_t)block.x * block.y * block.z > kMaxThreads)
        fault("launch of %s: blocks of (%u,%u,%u) threads, the limits are (1024,1024,64) and 1024 in all", name, block.x, block.y, block.z);
    auto opted = dynamic_limits().find(kernel);
    size_t limit = opted == dynamic_limits().end() ? kSharedPlain : std::max(kSharedPlain, opted->second);
    if (shared > limit)
        fault("launch of %s: %zu bytes of dynamic shared memory, %zu are allowed%s", name, shared, limit,
            shared <= shared_limit_optin() ? " without cudaFuncSetAttribute" : "");
    return limit;
}

void launch(const char *name, const void *kernel, dim3 grid, dim3 block, size_t shared, cudaStream_t stream, void (*call)(const void *arguments),
    const void *arguments, size_t bytes)
{
    Guard guard;
    CUstream_st &s = stream_of(stream, name);
    if (s.device != current_device())
        fault("launch of %s: the stream is GPU %d's, the current one is GPU %d", name, s.device, current_device());
    note_launch(name);
    size_t limit = check_launch(name, kernel, grid, block, shared);
    Body body = {call, std::shared_ptr<void>(aligned_alloc(64, (bytes + 63) / 64 * 64), free), bytes};
    memcpy(body.arguments.get(), arguments, bytes);
    auto task = std::make_shared<Task>();
    task->name = name;
    task->kind = OpKind::Kernel;
    task->device = s.device;
    task->work = [=] { run_kernel(body, grid, block, shared, limit); };
    put(stream, task);
}

} // namespace cudaemu
