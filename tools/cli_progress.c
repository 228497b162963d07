/* Remarks, progress, signals, and the end of the output. */
#include "tools/cli.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { LOG_SECONDS = 10, DEFAULT_WIDTH = 80 };
#define TWICE_SECONDS .3

static struct {
    const char *program;
    bool terminal;   /* stderr is one */
    bool bar_shown;
    double next_log; /* seconds of the phase at which the next plain line is due */
    PapaPhase phase;
} screen;

static volatile sig_atomic_t stop_flag;

/* ---------------------------------------------------------------- signals */

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* The first signal asks to stop, a later one ends the process. Some programs that pass signals on (timeout is one) send each twice, to
 * the process and to its group: what comes at once is taken for one. Calls only what a signal handler may call. */
static void on_signal(int number)
{
    static const char line[] = "\nfinishing this step; once more stops at once\n";
    static double first;
    int saved = errno;
    if (!stop_flag) {
        stop_flag = 1;
        first = now();
        if (screen.terminal && write(STDERR_FILENO, line, sizeof line - 1) < 0) {
            /* nowhere to say it */
        }
    } else if (now() - first > TWICE_SECONDS) {
        signal(number, SIG_DFL);
        raise(number); /* arrives when this function returns */
    }
    errno = saved;
}

static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, SIGINT);
    sigaddset(&action.sa_mask, SIGTERM);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

/* ---------------------------------------------------------------- progress */

static void duration(char *to, size_t size, double seconds)
{
    long s = seconds < 360000 ? lround(seconds) : 359999;
    if (s >= 3600)
        snprintf(to, size, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(to, size, "%ld:%02ld", s / 60, s % 60);
}

static const char *phase_name(PapaPhase phase)
{
    switch (phase) {
    case PAPA_PHASE_TRAIN:
        return "train";
    case PAPA_PHASE_EVALUATE:
        return "evaluate";
    case PAPA_PHASE_REPAIR:
        return "repair";
    case PAPA_PHASE_SOUP:
        return "soup";
    case PAPA_PHASE_LOAD:
        return "load";
    case PAPA_PHASE_PROVE:
        return "prove";
    case PAPA_PHASE_ALIGN:
        return "align";
    case PAPA_PHASE_LEARN:
        return "learn";
    }
    return "";
}

static void append(char *line, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void append(char *line, size_t size, const char *format, ...)
{
    size_t used = strlen(line);
    va_list args;
    va_start(args, format);
    vsnprintf(line + used, size - used, format, args);
    va_end(args);
}

void cli_progress_line(char *line, size_t size, const PapaProgress *p, int width, bool bar)
{
    enum { LONGEST_BAR = 30, SHORTEST_BAR = 4 };
    char tail[256] = "", time[32];
    double part = p->total > 0 ? fmin(1, (double)p->done / (double)p->total) : 0;
    append(tail, sizeof tail, "%3d %%", (int)(100 * part));
    if (p->phase == PAPA_PHASE_TRAIN && isfinite(p->loss))
        append(tail, sizeof tail, "  loss %.4f", p->loss);
    if (p->seconds > 0 && p->n_images > 0)
        append(tail, sizeof tail, "  %.0f images/s", (double)p->n_images / p->seconds);
    if (p->seconds > 0 && part > 0 && part < 1) {
        duration(time, sizeof time, p->seconds * (1 - part) / part);
        append(tail, sizeof tail, "  %s left", time);
    }
    snprintf(line, size, "%s ", phase_name(p->phase));
    if (p->phase == PAPA_PHASE_TRAIN && p->n_epochs > 0)
        append(line, size, "%d/%d ", p->epoch, p->n_epochs);
    int room = width - 1 - (int)strlen(line) - (int)strlen(tail) - 3;
    if (bar && room >= SHORTEST_BAR) {
        int length = room < LONGEST_BAR ? room : LONGEST_BAR, full = (int)(part * length);
        append(line, size, "[%.*s%.*s] ", full, "##############################", length - full, "..............................");
    }
    append(line, size, "%s", tail);
    if (width > 0 && strlen(line) >= (size_t)width)
        line[width - 1] = 0;
}

static int terminal_width(void)
{
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) || !size.ws_col)
        return DEFAULT_WIDTH;
    return size.ws_col;
}

static void show_progress(void *context, const PapaProgress *progress)
{
    (void)context;
    char line[512];
    if (screen.terminal) {
        int width = terminal_width();
        cli_progress_line(line, sizeof line, progress, width < (int)sizeof line ? width : (int)sizeof line, true);
        fprintf(stderr, "\r%s\033[K", line);
        fflush(stderr);
        screen.bar_shown = true;
        return;
    }
    if (progress->phase != screen.phase || progress->seconds + LOG_SECONDS < screen.next_log) { /* another phase, or the same one anew */
        screen.phase = progress->phase;
        screen.next_log = LOG_SECONDS;
    }
    if (progress->seconds < screen.next_log)
        return;
    screen.next_log = progress->seconds + LOG_SECONDS;
    cli_progress_line(line, sizeof line, progress, sizeof line, false);
    fprintf(stderr, "%s\n", line);
}

void cli_clear(void)
{
    if (screen.bar_shown)
        fputs("\r\033[K", stderr);
    screen.bar_shown = false;
}

static void show_remark(void *context, const char *line)
{
    (void)context;
    cli_clear();
    fprintf(stderr, "%s\n", line);
}

PapaHooks cli_start(const char *program_name)
{
    screen.program = program_name;
    screen.terminal = isatty(STDERR_FILENO);
    screen.next_log = LOG_SECONDS;
    catch_signals();
    return (PapaHooks){.remark = show_remark, .progress = show_progress, .stop = &stop_flag};
}

/* ---------------------------------------------------------------- the end */

void cli_error(const char *format, ...)
{
    cli_clear();
    fprintf(stderr, "%s: ", screen.program);
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

int cli_finish(int code)
{
    cli_clear();
    if (fflush(stdout) || ferror(stdout)) {
        fprintf(stderr, "cannot write to the standard output: %s\n", strerror(errno));
        return CLI_FAILED;
    }
    return code;
}
