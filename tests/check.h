/* The unit tests' own few macros. A test program is a main() that calls functions and returns check_result(). A failed
 * check prints file, line and values, and the program goes on, so that one run shows all failures. */
#ifndef CHECK_H
#define CHECK_H

#include "papa.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static int check_failures, check_count;

#define CHECK(cond, ...)                                               \
    do {                                                               \
        check_count++;                                                 \
        if (!(cond)) {                                                 \
            check_failures++;                                          \
            printf("%s:%d: failed: %s:", __FILE__, __LINE__, #cond);   \
            printf(" " __VA_ARGS__);                                   \
            printf("\n");                                              \
        }                                                              \
    } while (0)

/* expr must be PAPA_OK; returns from the enclosing void function if not. */
#define CHECK_OK(expr)                                                                   \
    do {                                                                                 \
        PapaStatus check_status_ = (expr);                                               \
        CHECK(check_status_ == PAPA_OK, "status %d: %s", check_status_, papa_error());   \
        if (check_status_ != PAPA_OK)                                                    \
            return;                                                                      \
    } while (0)

/* expr must fail with this status, and the message must contain text. */
#define CHECK_FAILS(expr, code, text)                                                                                            \
    do {                                                                                                                         \
        PapaStatus check_status_ = (expr);                                                                                       \
        CHECK(check_status_ == (code) && strstr(papa_error(), (text)), "status %d, message \"%s\", expected %d with \"%s\"",     \
            check_status_, papa_error(), (code), (text));                                                                        \
    } while (0)

#define CHECK_NEAR(a, b, tolerance)                                                                              \
    do {                                                                                                         \
        double check_a_ = (a), check_b_ = (b);                                                                   \
        CHECK(fabs(check_a_ - check_b_) <= (tolerance), "%.9g against %.9g (tolerance %g)", check_a_, check_b_,  \
            (double)(tolerance));                                                                                \
    } while (0)

static inline int check_result(void)
{
    printf("%d checks, %d failed\n", check_count, check_failures);
    return check_failures || !check_count;
}

#endif
