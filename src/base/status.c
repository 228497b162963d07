/* The thread's last error message. No allocation: reporting out-of-memory must not need memory. */
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define MESSAGE_BYTES 1024

static _Thread_local char message[MESSAGE_BYTES];

static void one_line(char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            *s = '?';
}

PapaStatus papa_fail(PapaStatus code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    one_line(message);
    return code;
}

PapaStatus papa_fail_in(PapaStatus code, const char *format, ...)
{
    char joined[MESSAGE_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(joined, sizeof joined, format, args);
    va_end(args);
    size_t used = strlen(joined), left = sizeof joined - used;
    snprintf(joined + used, left, ": %.*s", (int)left, message); /* the precision says that cutting is meant */
    memcpy(message, joined, sizeof message);
    one_line(message);
    return code;
}

PapaStatus papa_fail_memory(size_t bytes, const char *purpose)
{
    return papa_fail(PAPA_ERR_MEMORY, "out of memory: %zu bytes for %s", bytes, purpose);
}

const char *papa_error(void)
{
    return message;
}

void papa_error_restore(const char *text)
{
    snprintf(message, sizeof message, "%s", text);
}
