/* Fibers: a stack and a place to go on from. They take turns on whichever host thread runs a kernel. */
#ifndef CUDAEMU_FIBER_H
#define CUDAEMU_FIBER_H

#include <cstddef>

namespace cudaemu {

struct Fiber {
    void *stack_pointer = nullptr; /* while it doesn't run */
    char *stack = nullptr;         /* lowest byte; NULL: the host thread's own */
    unsigned thread = 0;           /* of the block, which runs on it */
};

constexpr size_t kStackBytes = 64 * 1024;

/* Gives it a stack with a guard page below, at whose first switch `entry` starts, which must never return. */
void make_fiber(Fiber &fiber, void (*entry)());
/* Saves the running fiber in `from` and goes on with `to`. */
void switch_fiber(Fiber &from, Fiber &to);

} // namespace cudaemu

#endif
