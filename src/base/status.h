/* Errors: how a fallible function reports one.
 *
 * Every fallible function returns PapaStatus. The function that finds the fault records one line with papa_fail (what
 * file, node or tensor; what was expected; what was found); its callers pass the status on untouched with PAPA_TRY.
 * The line is kept per thread; papa_error() in papa.h reads it. Faults in user data fail with a status, our own bugs
 * with assert. */
#ifndef PAPA_STATUS_H
#define PAPA_STATUS_H

#include "papa.h"

/* Records the message for this thread and returns code. The format's result is cut at 1023 bytes; newlines and other
 * control characters (they can come from names in a file) are replaced by '?', so that it stays one line. */
PapaStatus papa_fail(PapaStatus code, const char *format, ...) __attribute__((format(printf, 2, 3), cold));

/* Puts "context: " in front of this thread's message and returns code: for callers that know the file's name. */
PapaStatus papa_fail_in(PapaStatus code, const char *format, ...) __attribute__((format(printf, 2, 3), cold));

/* Out of memory while asking for this many bytes for this purpose. */
PapaStatus papa_fail_memory(size_t bytes, const char *purpose) __attribute__((cold));

/* Sets this thread's message to one that another thread recorded. */
void papa_error_restore(const char *text);

/* Returns from the enclosing function if expr fails. */
#define PAPA_TRY(expr)                                     \
    do {                                                   \
        PapaStatus papa_try_status_ = (expr);              \
        if (papa_try_status_ != PAPA_OK)                   \
            return papa_try_status_;                       \
    } while (0)

/* Jumps to out with the function's `status` variable set if expr fails. */
#define PAPA_GOTO(expr)               \
    do {                              \
        status = (expr);              \
        if (status != PAPA_OK)        \
            goto out;                 \
    } while (0)

#endif
