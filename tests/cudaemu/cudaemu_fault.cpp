/* Faults, settings, random numbers, signals, and what must be destroyed before the program ends. */
#include "cudaemu_engine.h"

#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <unistd.h>

namespace cudaemu {

static std::recursive_mutex the_lock;
Guard::Guard() { the_lock.lock(); }
Guard::~Guard() { the_lock.unlock(); }

/* ---------------------------------------------------------------- faults */

/* Not exit(): the program is in a state that CUDA leaves undefined, perhaps on a fiber's stack, and its own clean-up would only hide this line. */
void fault(const char *format, ...)
{
    char text[1024], line[1400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    const Op *op = running();
    std::string where = place();
    int n = snprintf(line, sizeof line, "cudaemu: %s%s%s%s%s\n", op ? op->task->name.c_str() : "", op ? ": " : "", text, where.empty() ? "" : ", ",
        where.c_str());
    fflush(stdout);
    if (write(2, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1) < 0)
        _exit(kFaultStatus);
    _exit(kFaultStatus);
}

/* ---------------------------------------------------------------- settings */

static uint64_t setting(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    if (!text || !*text)
        return otherwise;
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno || *end)
        fault("%s is '%s', expected a number", name, text);
    return value;
}

const Config &config()
{
    static const Config c = [] {
        Config made;
        made.devices = (int)setting("CUDAEMU_DEVICES", 1);
        made.memory = setting("CUDAEMU_MEMORY", (uint64_t)4 << 30);
        made.capability = (int)setting("CUDAEMU_CAPABILITY", 90);
        made.peers = setting("CUDAEMU_PEERS", 1) != 0;
        made.seed = setting("CUDAEMU_SEED", 0);
        made.turn = static_cast<Turn>(made.seed % 3);
        if (made.devices < 0 || made.devices > 8)
            fault("CUDAEMU_DEVICES is %d, expected 0 to 8", made.devices);
        return made;
    }();
    return c;
}

/* xorshift64*, under the lock */
uint64_t random_below(uint64_t n)
{
    static uint64_t state = config().seed * 0x9e3779b97f4a7c15u + 0x2545f4914f6cdd1du;
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (state * 0x2545f4914f6cdd1du >> 16) % n;
}

/* ---------------------------------------------------------------- signals */

static void on_signal(int number, siginfo_t *info, void *)
{
    uintptr_t p = reinterpret_cast<uintptr_t>(info->si_addr);
    if (number == SIGSEGV && !in_kernel() && handle_fault_at(p))
        return;
    if (in_kernel())
        fault("%s at address %p", number == SIGSEGV ? "a wild or misaligned pointer, or a stack overflow," : strsignal(number), info->si_addr);
    signal(number, SIG_DFL); /* not ours: it happens again, without us */
}

static void watch_signals()
{
    static char stack[64 * 1024]; /* a fiber's own may be what overflowed */
    stack_t alternate = {};
    alternate.ss_sp = stack;
    alternate.ss_size = sizeof stack;
    struct sigaction action = {};
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    if (sigaltstack(&alternate, nullptr) != 0)
        fault("sigaltstack: %s", strerror(errno));
    for (int number : {SIGSEGV, SIGBUS, SIGFPE})
        if (sigaction(number, &action, nullptr) != 0)
            fault("sigaction: %s", strerror(errno));
}

/* ---------------------------------------------------------------- objects */

using Object = std::pair<std::string, const void *>;
static std::set<Object> &objects()
{
    static std::set<Object> *all = new std::set<Object>; /* never destroyed: the report at exit reads it */
    return *all;
}

void born(const void *object, const char *kind)
{
    Guard guard;
    boot();
    objects().insert({kind, object});
}

void died(const void *object, const char *kind)
{
    Guard guard;
    if (!objects().erase({kind, object}))
        fault("%s %p was destroyed twice, or never made", kind, object);
}

bool alive(const void *object, const char *kind)
{
    Guard guard;
    return objects().count({kind, object}) != 0;
}

/* A program that failed has said so already, and need not have cleaned up. */
static void report_leaks(int status, void *)
{
    if (status != 0)
        return;
    Guard guard;
    check_errors_asked_for("the end of the program");
    check_redzones();
    if (objects().empty())
        return;
    std::string list;
    size_t shown = 0;
    for (const Object &o : objects()) {
        if (shown++ == 8) {
            list += ", ...";
            break;
        }
        char text[128];
        snprintf(text, sizeof text, "%s%s %p", list.empty() ? "" : ", ", o.first.c_str(), o.second);
        list += text;
    }
    fault("leaked: %zu objects live when the program ends: %s", objects().size(), list.c_str());
}

void boot()
{
    static bool done;
    if (done)
        return;
    done = true;
    watch_signals();
    if (on_exit(report_leaks, nullptr) != 0)
        fault("on_exit failed");
}

} // namespace cudaemu
