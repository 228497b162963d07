/* What each access is checked against, in the strict build.
 *
 * Kernels are compiled with -fsanitize=thread but linked without its library: every load and store calls a function of this file. Each byte of
 * device and shared memory has a status, and each word a cell that says who wrote it last and who has read it since: operation, block, thread,
 * and how many barriers that thread had passed. Words that are accessed in parts (bfloat16, bytes) have a cell for each byte instead. */
#include "cudaemu_engine.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <sys/mman.h>

namespace cudaemu {

/* An operation, the barriers passed in it, and a thread. op: 0 nobody; else
 *     bit 63 it is a set of readers, 62 atomic, 61..51 chain, 50..16 sequence (or the set's slot and generation), 15..0 barriers. */
struct Stamp {
    uint64_t op;
    uint32_t block;  /* kManyBlocks: several */
    uint32_t thread; /* 9..0 thread, 10 several lanes of its warp, 11 several warps, 31..12 operations its warp had met at */
};

struct Cell {
    Stamp write, read;
};

constexpr uint64_t kSet = (uint64_t)1 << 63, kAtomic = (uint64_t)1 << 62, kOp = (kAtomic - 1) & ~(uint64_t)0xffff;
constexpr uint64_t kSplit = ~(uint64_t)0; /* in a word's cell: its bytes' cells count */
constexpr uint32_t kManyBlocks = 0xffffffffu, kManyLanes = 1u << 10, kManyWarps = 1u << 11;

static uint64_t op_bits(int chain, uint64_t sequence) { return (uint64_t)chain << 51 | (sequence & 0x7ffffffff) << 16; }
static int chain_of(uint64_t op) { return (int)((op & ~kAtomic) >> 51 & 0x7ff); }
static uint64_t sequence_of(uint64_t op) { return op >> 16 & 0x7ffffffff; }

/* The accessor: the current operation and its current thread. */
static Stamp me;
static const Op *current;
static uintptr_t stack_low, arguments_low, devices_low, shared_low;
static size_t stack_bytes, arguments_bytes, devices_bytes, shared_bytes;

static void *map(size_t bytes)
{
    void *p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        fault("no %zu bytes of addresses for shadow memory: %s", bytes, strerror(errno));
    return p;
}

void map_shadow(Space &space)
{
    if (!kStrict)
        return;
    space.status = static_cast<uint8_t *>(map(space.span));
    space.words = static_cast<Cell *>(map(space.span / 4 * sizeof(Cell)));
    space.bytes = static_cast<Cell *>(map(space.span * sizeof(Cell)));
    madvise(space.words, space.span / 4 * sizeof(Cell), MADV_HUGEPAGE); /* only faster */
}

void allow_stack(const void *low, size_t bytes)
{
    stack_low = reinterpret_cast<uintptr_t>(low);
    stack_bytes = bytes;
}

void allow_arguments(const void *p, size_t bytes)
{
    arguments_low = reinterpret_cast<uintptr_t>(p);
    arguments_bytes = bytes;
}

void set_accessor(uint32_t block, unsigned thread, unsigned epoch, unsigned warp_epoch)
{
    me.op = (me.op & ~(uint64_t)0xffff) | (epoch & 0xffff);
    me.block = block;
    me.thread = thread | warp_epoch << 12;
}

/* ---------------------------------------------------------------- sets of readers */

/* Operations that have read the same word and are not ordered among each other. The same few sets stand in many cells, so they are kept once,
 * and given up when the host has waited for all their members: a cell that names a slot's earlier generation names nobody. */
struct Readers {
    std::vector<uint64_t> ops; /* ascending but for the last, which is the newest */
    uint32_t generation;
};
static std::vector<Readers> sets;
static std::vector<uint32_t> unused_sets;
static std::map<std::vector<uint64_t>, uint64_t> known_sets;

static bool over(uint64_t op, const Clock &clock) { return before(chain_of(op), sequence_of(op), clock); }

static const Readers *set_of(uint64_t op)
{
    const Readers &set = sets[op >> 16 & 0xffffff];
    return set.generation == (op >> 40 & 0x3fffff) ? &set : nullptr;
}

static void forget_old_sets()
{
    for (auto it = known_sets.begin(); it != known_sets.end();) {
        bool old = true;
        for (uint64_t op : it->first)
            old = old && over(op, host_clock);
        if (!old) {
            ++it;
            continue;
        }
        uint32_t slot = (uint32_t)(it->second >> 16 & 0xffffff);
        sets[slot].generation = (sets[slot].generation + 1) & 0x3fffff;
        sets[slot].ops.clear();
        unused_sets.push_back(slot);
        it = known_sets.erase(it);
    }
}

static uint64_t set_for(std::vector<uint64_t> ops)
{
    auto found = known_sets.find(ops);
    if (found != known_sets.end())
        return found->second;
    if (known_sets.size() >= 4096 && known_sets.size() % 4096 == 0)
        forget_old_sets();
    if (unused_sets.empty()) {
        unused_sets.push_back((uint32_t)sets.size());
        sets.push_back({{}, 0});
        if (sets.size() > 0xffffff)
            fault("more than %d sets of unordered readers", 0xffffff);
    }
    uint32_t slot = unused_sets.back();
    unused_sets.pop_back();
    sets[slot].ops = ops;
    uint64_t bits = kSet | (uint64_t)sets[slot].generation << 40 | (uint64_t)slot << 16;
    known_sets[std::move(ops)] = bits;
    return bits;
}

/* The readers of a word after this operation has joined them. Neighbours mostly have the same readers: the last answer is kept. */
static uint64_t joined_before, joined_after;

static uint64_t join_readers(uint64_t readers)
{
    uint64_t own = me.op & kOp;
    readers &= kSet | kOp;
    if (!readers)
        return own;
    if (readers == joined_before)
        return joined_after;
    std::vector<uint64_t> ops;
    if (!(readers & kSet))
        ops.push_back(readers);
    else if (const Readers *set = set_of(readers))
        ops = set->ops;
    std::vector<uint64_t> kept;
    for (uint64_t op : ops)
        if (op != own && !over(op, current->clock))
            kept.push_back(op);
    std::sort(kept.begin(), kept.end());
    kept.push_back(own);
    joined_before = readers;
    return joined_after = kept.size() == 1 ? own : set_for(std::move(kept));
}

static bool newest_reader_is_me(uint64_t readers)
{
    if (!(readers & kSet))
        return ((readers ^ me.op) & kOp) == 0;
    const Readers *set = set_of(readers);
    return set && set->ops.back() == (me.op & kOp);
}

/* ---------------------------------------------------------------- races */

[[noreturn]] static void race(const Stamp &other, bool other_writes, Mode mode, uintptr_t p, bool same_op)
{
    const char *verb = mode == Mode::Read ? "reads" : "writes", *did = other_writes ? "written" : "read";
    void *address = reinterpret_cast<void *>(p);
    if (!same_op)
        fault("race between operations: it %s %p, which was %s by an operation that no stream, event or host wait orders before it", verb, address, did);
    if (other.block != me.block)
        fault("race between blocks: it %s %p, which another block of the same launch has %s", verb, address, did);
    fault("race: missing barrier: it %s %p, which thread %u%s of the same block has %s since the last barrier", verb, address, other.thread & 1023,
        other.thread & (kManyLanes | kManyWarps) ? " (and others)" : "", did);
}

/* Whether an earlier access by the same operation is over for this thread. */
static bool ordered_in_op(const Stamp &a)
{
    if (a.block != me.block)
        return false;
    if ((a.op ^ me.op) & 0xffff)
        return true;
    if (a.thread & kManyWarps || ((a.thread ^ me.thread) & 0x3e0))
        return false;
    if ((a.thread ^ me.thread) >> 12)
        return true;
    return !(a.thread & kManyLanes) && !((a.thread ^ me.thread) & 1023);
}

/* Readers a and this thread, of the same operation, as one stamp. What is ordered before this thread needs no mention. */
static void join_reader(Stamp &a)
{
    if (a.block != me.block)
        a.block = kManyBlocks;
    else if (ordered_in_op(a))
        a = {a.op, me.block, me.thread};
    else if ((a.thread ^ me.thread) & 0x3e0)
        a.thread |= kManyWarps;
    else
        a.thread |= kManyLanes;
    a.op = (a.op & ~(uint64_t)0xffff) | (me.op & 0xffff);
}

/* Shared memory belongs to a block: what another one left in its cells means nothing. */
static bool stale(const Stamp &a) { return ((a.op ^ me.op) & kOp) || a.block != me.block; }

template <bool shared> static void enter(Cell &cell, Mode mode, uintptr_t p)
{
    Stamp &w = cell.write, &r = cell.read;
    if (shared && w.op && stale(w))
        w = {};
    if (shared && r.op && stale(r))
        r = {};
    if (w.op) {
        bool same = ((w.op ^ me.op) & kOp) == 0;
        if (same ? !ordered_in_op(w) && !(mode == Mode::Atomic && w.op & kAtomic) : !over(w.op, current->clock))
            race(w, true, mode, p, same);
    }
    if (mode == Mode::Read) {
        if (r.op && newest_reader_is_me(r.op))
            join_reader(r);
        else
            r = {(shared ? me.op & kOp : join_readers(r.op)) | (me.op & 0xffff), me.block, me.thread};
        return;
    }
    if (r.op) {
        if (newest_reader_is_me(r.op) && !ordered_in_op(r))
            race(r, false, mode, p, true);
        if (!(r.op & kSet)) {
            if (((r.op ^ me.op) & kOp) && !over(r.op, current->clock))
                race(r, false, mode, p, false);
        } else if (const Readers *set = set_of(r.op)) {
            for (uint64_t op : set->ops)
                if (op != (me.op & kOp) && !over(op, current->clock))
                    race(r, false, mode, p, false);
        }
    }
    w = me;
    w.op = (me.op & ~kAtomic) | (mode == Mode::Atomic ? kAtomic : 0);
    r = {};
}

/* ---------------------------------------------------------------- status and cells of a range */

[[noreturn]] static void bad_status(Status status, Mode mode, uintptr_t p, size_t bytes, bool shared)
{
    const char *what = mode == Mode::Read ? "reads" : "writes", *kind = shared ? "shared memory" : "device memory";
    void *address = reinterpret_cast<void *>(p);
    if (status == kFreed)
        fault("use after free: it %s %p (%zu bytes at once)", what, address, bytes);
    if (status == kFresh)
        fault("uninitialised: it reads %p in %s, which was never written", address, kind);
    fault("out of bounds: it %s %p (%zu bytes at once), %s that is not allocated", what, address, bytes, kind);
}

template <bool shared> static void check_bytes(Space &space, uintptr_t p, size_t bytes, Mode mode)
{
    size_t offset = p - space.base;
    uint8_t *status = space.status + offset;
    Status least = mode == Mode::Write ? kFresh : kWritten;
    for (size_t i = 0; i < bytes; i++)
        if (status[i] < least || status[i] == kFreed)
            bad_status(static_cast<Status>(status[i]), mode, p + i, bytes, shared);
    if (mode != Mode::Read)
        memset(status, kWritten, bytes);
    for (size_t end = offset + bytes; offset < end;) {
        Cell &word = space.words[offset / 4];
        size_t part = std::min(end, (offset / 4 + 1) * 4) - offset;
        Cell *cells = space.bytes + offset;
        if (part == 4 && word.write.op != kSplit) {
            enter<shared>(word, mode, space.base + offset);
        } else {
            if (word.write.op != kSplit) {
                for (size_t i = 0; i < 4; i++)
                    space.bytes[offset / 4 * 4 + i] = word;
                word.write.op = kSplit;
            }
            for (size_t i = 0; i < part; i++)
                enter<shared>(cells[i], mode, space.base + offset + i);
            if (part == 4 && mode != Mode::Read)
                word = cells[0];
        }
        offset += part;
    }
}

/* ---------------------------------------------------------------- a kernel's accesses */

void check_access(const void *pointer, size_t bytes, Mode mode)
{
    uintptr_t p = reinterpret_cast<uintptr_t>(pointer);
    if (!in_kernel()) {
        if (is_device(pointer))
            fault("host code touches %p, which is memory of GPU %d", pointer, device_at(p));
        return;
    }
    if (p - stack_low < stack_bytes)
        return;
    if (p - devices_low < devices_bytes) {
        if (!(bytes & (bytes - 1)) && p & (bytes - 1))
            fault("misaligned: %zu bytes at %p", bytes, pointer);
        int device = device_at(p);
        if (device != current->task->device && !has_peer(current->task->device, device))
            fault("%p is memory of GPU %d, to which GPU %d has no access as a peer", pointer, device, current->task->device);
        check_bytes<false>(device_space(device), p, bytes, mode);
        return;
    }
    if (p - shared_low < shared_bytes) {
        if (!(bytes & (bytes - 1)) && p & (bytes - 1))
            fault("misaligned: %zu bytes at %p in shared memory", bytes, pointer);
        check_bytes<true>(shared_space(), p, bytes, mode);
        return;
    }
    if (p - arguments_low < arguments_bytes && mode == Mode::Read)
        return;
    fault("a kernel touches host memory: it %s %p", mode == Mode::Read ? "reads" : "writes", pointer);
}

void start_checking(const Op &op)
{
    current = &op;
    me = {op_bits(op.chain, op.sequence), 0, 0};
    joined_before = 0;
    devices_low = device_space(0).base;
    devices_bytes = device_space(0).span * (size_t)config().devices;
    shared_low = shared_space().base;
    shared_bytes = shared_space().span;
}

/* ---------------------------------------------------------------- an operation's ranges */

void check_range(const Access &access, int device, bool peers)
{
    uintptr_t p = reinterpret_cast<uintptr_t>(access.p);
    if (!access.bytes)
        return;
    int at = device_at(p);
    if (at < 0 && !is_pinned(p))
        fault("%p is neither device memory nor pinned memory", access.p);
    if (at >= 0 && !peers && !has_peer(device, at))
        fault("%p is memory of GPU %d, to which GPU %d has no access as a peer", access.p, at, device);
    Space &space = at < 0 ? pinned_space() : device_space(at);
    auto block = space.block_of(p);
    Mode mode = access.writes ? Mode::Write : Mode::Read;
    if (block == space.live.end())
        fault("use after free, or out of bounds: %zu bytes at %p are not in a live allocation", access.bytes, access.p);
    if (p + access.bytes > block->first + block->second)
        fault("out of bounds: %zu bytes at %p, of an allocation that has %zu left", access.bytes, access.p, block->first + block->second - p);
    if (kStrict)
        check_bytes<false>(space, p, access.bytes, mode);
}

} // namespace cudaemu

/* ---------------------------------------------------------------- the compiler's hooks */

using cudaemu::check_access;
using cudaemu::Mode;

#define HOOKS(n)                                                                           \
    extern "C" void __tsan_read##n(void *p) { check_access(p, n, Mode::Read); }            \
    extern "C" void __tsan_write##n(void *p) { check_access(p, n, Mode::Write); }          \
    extern "C" void __tsan_volatile_read##n(void *p) { check_access(p, n, Mode::Read); }   \
    extern "C" void __tsan_volatile_write##n(void *p) { check_access(p, n, Mode::Write); }
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)

extern "C" void __tsan_init(void) {}
extern "C" void __tsan_func_entry(void *) {}
extern "C" void __tsan_func_exit(void) {}
extern "C" void __tsan_vptr_update(void **, void *) {}
extern "C" void __tsan_vptr_read(void **) {}

/* An odd number of bytes, or of less alignment than bytes: in parts that are aligned by themselves. */
static void check_parts(void *pointer, unsigned long bytes, Mode mode)
{
    char *p = static_cast<char *>(pointer);
    while (bytes) {
        unsigned long part = 1;
        while (part < 16 && 2 * part <= bytes && reinterpret_cast<uintptr_t>(p) % (2 * part) == 0)
            part *= 2;
        check_access(p, part, mode);
        p += part;
        bytes -= part;
    }
}
extern "C" void __tsan_read_range(void *p, unsigned long bytes) { check_parts(p, bytes, Mode::Read); }
extern "C" void __tsan_write_range(void *p, unsigned long bytes) { check_parts(p, bytes, Mode::Write); }

/* Undefined behaviour that -fsanitize=alignment,bounds,... finds in kernels. The compiler passes where it stands first. */
struct SourceLocation {
    const char *file;
    uint32_t line, column;
};
struct TypeDescriptor {
    uint16_t kind, info;
    char name[1];
};
struct TypeMismatch {
    SourceLocation location;
    const TypeDescriptor *type;
    unsigned char log_alignment, check;
};
extern "C" void __ubsan_handle_type_mismatch_v1(TypeMismatch *data, uintptr_t p)
{
    uintptr_t alignment = (uintptr_t)1 << data->log_alignment;
    cudaemu::fault("%s: %p as %s, which needs %zu bytes' alignment (%s:%u)", p & (alignment - 1) ? "misaligned" : "a null pointer",
        reinterpret_cast<void *>(p), data->type->name, (size_t)alignment, data->location.file, data->location.line);
}
#define UNDEFINED(name, what, ...)                                                                   \
    extern "C" void __ubsan_handle_##name(SourceLocation *at __VA_OPT__(, ) __VA_ARGS__)            \
    {                                                                                                \
        cudaemu::fault("undefined: %s (%s:%u)", what, at->file, at->line);                           \
    }
UNDEFINED(out_of_bounds, "an index outside its array", void *)
UNDEFINED(shift_out_of_bounds, "a shift by too many bits", void *, void *)
UNDEFINED(add_overflow, "a signed sum overflows", void *, void *)
UNDEFINED(sub_overflow, "a signed difference overflows", void *, void *)
UNDEFINED(mul_overflow, "a signed product overflows", void *, void *)
UNDEFINED(negate_overflow, "a signed negation overflows", void *)
UNDEFINED(divrem_overflow, "a division by zero, or one that overflows", void *, void *)

/* ---------------------------------------------------------------- atomics */

#include "cudaemu_kernel.h"

namespace cudaemu {

template <class T> static T apply(T *p, Atomic kind, T value, T compare)
{
    if (!in_kernel())
        fault("an atomic outside a kernel");
    if (kStrict)
        check_access(p, sizeof *p, Mode::Atomic);
    T old = *p;
    switch (kind) {
    case Atomic::Add: __builtin_add_overflow(old, value, p); break;
    case Atomic::Min: *p = value < old ? value : old; break;
    case Atomic::Max: *p = old < value ? value : old; break;
    case Atomic::And: *p = old & value; break;
    case Atomic::Or: *p = old | value; break;
    case Atomic::Xor: *p = old ^ value; break;
    case Atomic::Exchange: *p = value; break;
    case Atomic::CompareSwap: *p = old == compare ? value : old; break;
    }
    return old;
}

int32_t atomic(int32_t *p, Atomic kind, int32_t value, int32_t compare) { return apply(p, kind, value, compare); }
uint32_t atomic(uint32_t *p, Atomic kind, uint32_t value, uint32_t compare) { return apply(p, kind, value, compare); }
uint64_t atomic(uint64_t *p, Atomic kind, uint64_t value, uint64_t compare) { return apply(p, kind, value, compare); }

} // namespace cudaemu
