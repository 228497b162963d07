/* Device memory and pinned memory: where they lie, who may touch them when.
 *
 * Each GPU has a range of addresses that is mapped but closed (mprotect) while no operation runs, so host code that follows a device pointer
 * stops at once. Allocations are never handed out again within a program, have a redzone on both sides, and start as NaN. Pinned memory is open
 * to the host except where a queued copy still refers to it: closed if the copy writes there, read-only if it reads. */
#include "cudaemu_engine.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <sys/mman.h>
#include <unistd.h>

namespace cudaemu {

constexpr size_t kSpan = (size_t)16 << 30, kRedzone = 256, kHuge = (size_t)2 << 20, kMaxDevices = 8;
constexpr unsigned char kRedzoneByte = 0xfb, kFreshByte = 0xff;

static size_t page_bytes()
{
    static const size_t bytes = (size_t)sysconf(_SC_PAGESIZE);
    return bytes;
}

static size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

static void *reserve(size_t bytes)
{
    void *p = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        fault("no %zu bytes of addresses: %s", bytes, strerror(errno));
    return p;
}

static void protect(uintptr_t p, size_t bytes, int protection)
{
    if (mprotect(reinterpret_cast<void *>(p), bytes, protection) != 0)
        fault("mprotect: %s", strerror(errno));
}

std::map<uintptr_t, size_t>::const_iterator Space::block_of(uintptr_t p) const
{
    auto next = live.upper_bound(p);
    if (next == live.begin())
        return live.end();
    --next;
    return p - next->first < next->second || (next->second == 0 && p == next->first) ? next : live.end();
}

/* ---------------------------------------------------------------- the ranges */

/* All GPUs' memory is one range, so that one comparison tells it from everything else. None of these is ever destroyed: what runs when the
 * program ends still asks for them. */
static Space *devices()
{
    static Space *all = [] {
        Space *made = new Space[kMaxDevices];
        size_t n = (size_t)config().devices;
        uintptr_t base = round_up(reinterpret_cast<uintptr_t>(reserve(n * kSpan + kHuge)), kHuge);
        for (size_t i = 0; i < n; i++) {
            made[i].base = base + i * kSpan;
            made[i].span = kSpan;
            madvise(reinterpret_cast<void *>(made[i].base), kSpan, MADV_HUGEPAGE); /* only faster */
            map_shadow(made[i]);
        }
        return made;
    }();
    return all;
}

Space &device_space(int device) { return devices()[device]; }

int device_at(uintptr_t p)
{
    if (!config().devices)
        return -1;
    size_t at = (p - devices()[0].base) / kSpan;
    return at < (size_t)config().devices ? (int)at : -1;
}

bool is_device(const void *p) { return device_at(reinterpret_cast<uintptr_t>(p)) >= 0; }

Space &pinned_space()
{
    static Space &space = []() -> Space & {
        Space &made = *new Space;
        made.base = reinterpret_cast<uintptr_t>(reserve(kSpan));
        made.span = kSpan;
        map_shadow(made);
        return made;
    }();
    return space;
}

bool is_pinned(uintptr_t p) { return pinned_space().holds(p); }

static bool open_now;
static int open_depth;

static void protect_devices(int protection)
{
    for (int i = 0; i < config().devices; i++)
        if (size_t bytes = round_up(devices()[i].top, kHuge))
            protect(devices()[i].base, bytes, protection);
    open_now = protection != PROT_NONE;
}

void open_device_memory()
{
    if (!open_depth++ && !open_now)
        protect_devices(PROT_READ | PROT_WRITE);
}

void close_device_memory()
{
    if (!--open_depth)
        protect_devices(PROT_NONE);
}

/* ---------------------------------------------------------------- peers */

static bool peers[kMaxDevices][kMaxDevices];
void set_peer(int device, int peer) { peers[device][peer] = true; }
bool has_peer(int device, int peer) { return device == peer || peers[device][peer]; }

/* ---------------------------------------------------------------- allocations */

static void mark(Space &space, uintptr_t p, size_t bytes, Status status)
{
    if (kStrict && bytes)
        memset(space.status + (p - space.base), status, bytes);
}

static uintptr_t allocate_device(Space &space, size_t bytes)
{
    /* Aligned to 256 bytes, as promised, and not to more. */
    size_t offset = round_up(space.top + kRedzone, 512) + 256;
    if (offset + bytes + kRedzone > space.span)
        fault("the emulator's addresses are used up: %zu bytes were allocated in all", space.top);
    uintptr_t p = space.base + offset;
    open_device_memory();
    space.top = offset + bytes + kRedzone;
    protect_devices(PROT_READ | PROT_WRITE); /* the range has grown */
    memset(reinterpret_cast<void *>(p), kFreshByte, bytes);
    if (!kStrict) {
        memset(reinterpret_cast<void *>(p - kRedzone), kRedzoneByte, kRedzone);
        memset(reinterpret_cast<void *>(p + bytes), kRedzoneByte, kRedzone);
    }
    close_device_memory();
    mark(space, p, bytes, kFresh);
    space.live[p] = bytes;
    space.used += bytes;
    return p;
}

/* What only the fast build needs: its kernels' accesses are not seen. */
static void check_redzone(uintptr_t p, size_t bytes)
{
    const unsigned char *low = reinterpret_cast<unsigned char *>(p) - kRedzone, *high = reinterpret_cast<unsigned char *>(p) + bytes;
    for (size_t i = 0; !kStrict && i < kRedzone; i++)
        if (low[i] != kRedzoneByte || high[i] != kRedzoneByte)
            fault("something wrote outside the %zu bytes allocated at %p", bytes, reinterpret_cast<void *>(p));
}

void check_redzones()
{
    if (kStrict || !config().devices)
        return;
    open_device_memory();
    for (int i = 0; i < config().devices; i++)
        for (auto &block : devices()[i].live)
            check_redzone(block.first, block.second);
    close_device_memory();
}

/* The pages that lie wholly inside go back to the system; the addresses are not used again. */
static void give_up(uintptr_t p, size_t bytes)
{
    uintptr_t first = round_up(p, page_bytes()), last = (p + bytes) / page_bytes() * page_bytes();
    if (last > first)
        madvise(reinterpret_cast<void *>(first), last - first, MADV_DONTNEED);
}

static void free_device(Space &space, uintptr_t p)
{
    auto block = space.live.find(p);
    if (block == space.live.end())
        fault("cudaFree(%p): no live allocation starts there: freed twice, or never allocated", reinterpret_cast<void *>(p));
    open_device_memory();
    check_redzone(p, block->second);
    give_up(p, block->second);
    close_device_memory();
    mark(space, p, block->second, kFreed);
    space.used -= block->second;
    space.live.erase(block);
}

/* ---------------------------------------------------------------- pinned memory that queued copies refer to */

struct Hold {
    uintptr_t first, last; /* [first, last) */
    bool writes;           /* the operation does */
    OpPtr op;
};
static std::vector<Hold> holds;

static int pinned_protection(uintptr_t page)
{
    int protection = PROT_READ | PROT_WRITE;
    for (const Hold &h : holds)
        if (h.first < page + page_bytes() && page < h.last)
            protection &= h.writes ? PROT_NONE : PROT_READ;
    return protection;
}

template <class Of> static void protect_pages(uintptr_t first, uintptr_t last, Of &&protection_of)
{
    for (uintptr_t page = first / page_bytes() * page_bytes(); page < last;) {
        int protection = protection_of(page);
        uintptr_t end = page + page_bytes();
        while (end < last && protection_of(end) == protection)
            end += page_bytes();
        protect(page, end - page, protection);
        page = end;
    }
}

static void protect_pinned(uintptr_t first, uintptr_t last) { protect_pages(first, last, pinned_protection); }

template <class Do> static void each_pinned(const Op &op, Do &&f)
{
    for (const Access &a : op.task->accesses)
        if (uintptr_t p = reinterpret_cast<uintptr_t>(a.p); a.bytes && is_pinned(p))
            f(p, p + a.bytes, a.writes);
}

void hold_pinned(const OpPtr &op)
{
    each_pinned(*op, [&](uintptr_t first, uintptr_t last, bool writes) {
        holds.push_back({first, last, writes, op});
        protect_pinned(first, last);
    });
}

void open_pinned(const Op &op)
{
    each_pinned(op, [](uintptr_t first, uintptr_t last, bool) { protect_pages(first, last, [](uintptr_t) { return PROT_READ | PROT_WRITE; }); });
}

void close_pinned(const Op &op)
{
    each_pinned(op, [](uintptr_t first, uintptr_t last, bool) { protect_pinned(first, last); });
}

void release_pinned()
{
    std::vector<std::pair<uintptr_t, uintptr_t>> released;
    auto over = [&](const Hold &h) {
        bool known = before(h.op->chain, h.op->sequence, host_clock);
        if (known)
            released.push_back({h.first, h.last});
        return known;
    };
    holds.erase(std::remove_if(holds.begin(), holds.end(), over), holds.end());
    for (auto &r : released)
        protect_pinned(r.first, r.second);
}

static uintptr_t allocate_pinned(Space &space, size_t bytes)
{
    size_t offset = round_up(space.top, page_bytes()) + page_bytes(), whole = round_up(bytes, page_bytes());
    if (offset + whole + page_bytes() > space.span)
        fault("the emulator's addresses for pinned memory are used up");
    uintptr_t p = space.base + offset;
    protect(p, whole, PROT_READ | PROT_WRITE);
    memset(reinterpret_cast<void *>(p), kFreshByte, bytes);
    mark(space, p, bytes, kWritten); /* whether the host has written there is not seen */
    space.top = offset + whole;
    space.live[p] = bytes;
    return p;
}

static void free_pinned(Space &space, uintptr_t p)
{
    auto block = space.live.find(p);
    if (block == space.live.end())
        fault("cudaFreeHost(%p): no live allocation starts there: freed twice, or never allocated", reinterpret_cast<void *>(p));
    uintptr_t last = p + block->second;
    holds.erase(std::remove_if(holds.begin(), holds.end(), [&](const Hold &h) { return h.first < last && p < h.last; }), holds.end());
    size_t whole = round_up(block->second, page_bytes());
    protect(p, whole, PROT_NONE);
    madvise(reinterpret_cast<void *>(p), whole, MADV_DONTNEED);
    mark(space, p, block->second, kFreed);
    space.live.erase(block);
}

/* Host code met a page that is closed to it. Pages are coarser than what is held: then the page is opened, and the access happens again. */
bool handle_fault_at(uintptr_t p)
{
    Guard guard;
    void *address = reinterpret_cast<void *>(p);
    if (int device = device_at(p); device >= 0)
        fault("host code touches %p, which is memory of GPU %d", address, device);
    if (!is_pinned(p))
        return false;
    if (pinned_space().block_of(p) == pinned_space().live.end())
        fault("host code touches %p, pinned memory that is not allocated, or is no longer", address);
    uintptr_t page = p / page_bytes() * page_bytes();
    int protection = pinned_protection(page), to = PROT_READ | PROT_WRITE;
    for (const Hold &h : holds) {
        if (p < h.first || p >= h.last)
            continue;
        const char *name = h.op->task->name.c_str();
        if (h.writes)
            fault("host code touches pinned memory %p, which a queued %s writes; the host has not waited for it", address, name);
        /* A page that may be read was written to; of one that is closed for its neighbours' sake, nothing is known yet. */
        if (protection == PROT_READ)
            fault("host code writes pinned memory %p, which a queued %s reads; the host has not waited for it", address, name);
        to = PROT_READ;
    }
    if (to == PROT_READ) {
        static uintptr_t tried; /* as read-only already: so it is a write */
        if (tried == p)
            fault("host code writes pinned memory %p, which a queued copy reads; the host has not waited for it", address);
        tried = p;
    }
    protect(page, page_bytes(), to);
    return true;
}

} // namespace cudaemu

/* ---------------------------------------------------------------- the runtime's functions */

using namespace cudaemu;

extern "C" cudaError_t cudaMalloc(void **p, size_t bytes)
{
    Guard guard;
    boot();
    refuse_during_capture("cudaMalloc");
    if (cudaError_t error = need_device("cudaMalloc"))
        return error;
    *p = nullptr;
    if (!bytes)
        return cudaSuccess;
    Space &space = device_space(current_device());
    if (bytes > config().memory - space.used)
        return failed(cudaErrorMemoryAllocation, "cudaMalloc");
    *p = reinterpret_cast<void *>(allocate_device(space, bytes));
    born(*p, "device memory");
    return cudaSuccess;
}

extern "C" cudaError_t cudaFree(void *memory)
{
    Guard guard;
    if (!memory)
        return cudaSuccess;
    refuse_during_capture("cudaFree");
    uintptr_t p = reinterpret_cast<uintptr_t>(memory);
    int device = device_at(p);
    if (device < 0)
        fault("cudaFree(%p): that is no device memory", memory);
    run_all(); /* CUDA waits too; but what a program may count on is only what it waited for itself */
    free_device(device_space(device), p);
    died(memory, "device memory");
    return cudaSuccess;
}

extern "C" cudaError_t cudaMemGetInfo(size_t *free, size_t *total)
{
    Guard guard;
    if (cudaError_t error = need_device("cudaMemGetInfo"))
        return error;
    *total = config().memory;
    *free = config().memory - device_space(current_device()).used;
    return cudaSuccess;
}

extern "C" cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned flags)
{
    Guard guard;
    boot();
    refuse_during_capture("cudaHostAlloc");
    if (flags & ~(unsigned)cudaHostAllocPortable)
        fault("cudaHostAlloc: flags %#x are not emulated", flags);
    if (cudaError_t error = need_device("cudaHostAlloc"))
        return error;
    *p = nullptr;
    if (!bytes)
        return cudaSuccess;
    *p = reinterpret_cast<void *>(allocate_pinned(pinned_space(), bytes));
    born(*p, "pinned memory");
    return cudaSuccess;
}

extern "C" cudaError_t cudaFreeHost(void *memory)
{
    Guard guard;
    if (!memory)
        return cudaSuccess;
    refuse_during_capture("cudaFreeHost");
    if (!is_pinned(reinterpret_cast<uintptr_t>(memory)))
        fault("cudaFreeHost(%p): that is no pinned memory", memory);
    run_all();
    free_pinned(pinned_space(), reinterpret_cast<uintptr_t>(memory));
    died(memory, "pinned memory");
    return cudaSuccess;
}

extern "C" cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *out, const void *memory)
{
    Guard guard;
    if (cudaError_t error = need_device("cudaPointerGetAttributes"))
        return error;
    uintptr_t p = reinterpret_cast<uintptr_t>(memory);
    void *same = const_cast<void *>(memory);
    int device = device_at(p);
    if (device >= 0 && device_space(device).block_of(p) != device_space(device).live.end())
        *out = {cudaMemoryTypeDevice, device, same, nullptr};
    else if (is_pinned(p) && pinned_space().block_of(p) != pinned_space().live.end())
        *out = {cudaMemoryTypeHost, current_device(), nullptr, same};
    else
        *out = {cudaMemoryTypeUnregistered, -2, nullptr, same};
    return cudaSuccess;
}
