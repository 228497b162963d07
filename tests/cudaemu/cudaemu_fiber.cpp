/* The switch saves what the calling convention lets a function expect unchanged across a call, and nothing else: 5 ns, where ucontext's system
 * call for the signal mask takes 200. */
#include "cudaemu_fiber.h"

#include "cudaemu.h"

#include <cstdint>
#include <cstring>
#include <sys/mman.h>
#include <unistd.h>

extern "C" void cudaemu_switch(void **save, void *load);

#if defined(__x86_64__)
asm(R"(
    .text
    .globl cudaemu_switch
    .type cudaemu_switch, @function
cudaemu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    retq
    .size cudaemu_switch, .-cudaemu_switch
)");
/* From the top: a return address for the entry, which has none, so that its stack is aligned as after a call; the entry; six registers. */
static constexpr size_t kWords = 8, kEntry = 6;
#elif defined(__aarch64__)
asm(R"(
    .text
    .globl cudaemu_switch
    .type cudaemu_switch, %function
cudaemu_switch:
    sub sp, sp, #160
    stp x19, x20, [sp]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x2, sp
    str x2, [x0]
    mov sp, x1
    ldp x19, x20, [sp]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
    .size cudaemu_switch, .-cudaemu_switch
)");
static constexpr size_t kWords = 20, kEntry = 11; /* x30, the link register */
#else
#error "cudaemu: write the switch between fibers for this processor"
#endif

namespace cudaemu {

void make_fiber(Fiber &fiber, void (*entry)())
{
    size_t guard = (size_t)sysconf(_SC_PAGESIZE);
    void *p = mmap(nullptr, guard + kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED || mprotect(p, guard, PROT_NONE) != 0)
        fault("no memory for the stack of a thread");
    fiber.stack = static_cast<char *>(p) + guard;
    /* Stacks that all start at the same place in a page would fight over a few lines of the cache. */
    static size_t colour;
    colour = (colour + 1) % 61;
    void **sp = reinterpret_cast<void **>(fiber.stack + kStackBytes - 64 * colour) - kWords;
    memset(sp, 0, kWords * sizeof *sp);
    sp[kEntry] = reinterpret_cast<void *>(entry);
    fiber.stack_pointer = sp;
}

void switch_fiber(Fiber &from, Fiber &to)
{
    cudaemu_switch(&from.stack_pointer, to.stack_pointer);
}

} // namespace cudaemu
