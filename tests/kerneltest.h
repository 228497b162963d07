/* What the tests of kernels share: devices with one and three threads, one that computes in double, arrays of exactly the size asked for (so that the
 * sanitizers see a step beyond), random contents, comparison with a double-precision reference. */
#ifndef KERNELTEST_H
#define KERNELTEST_H

#include "base/rng.h"
#include "check.h"
#include "device/device.h"

#include <stdlib.h>

static PapaDevice *one_thread, *three_threads, *in_double;
static PapaRng rng;

/* Returns false where a device can't be opened. */
static inline bool kerneltest_begin(void)
{
    rng = papa_rng(1, PAPA_RNG_TEST, 0, 0, 0);
    bool ok = papa_device_open_cpu(&one_thread, 1) == PAPA_OK && papa_device_open_cpu(&three_threads, 3) == PAPA_OK &&
        papa_device_open_reference(&in_double, 3) == PAPA_OK;
    CHECK(ok, "%s", papa_error());
    return ok;
}

static inline int kerneltest_end(void)
{
    papa_device_close(one_thread);
    papa_device_close(three_threads);
    papa_device_close(in_double);
    return check_result();
}

static inline void *take(size_t count, size_t size)
{
    void *p = malloc(count ? count * size : 1);
    if (!p)
        abort();
    return p;
}
#define FLOATS(n) ((float *)take((size_t)(n), sizeof(float)))
#define DOUBLES(n) ((double *)take((size_t)(n), sizeof(double)))

/* Uniform on [low, high). */
static inline float *random_floats(int64_t n, double low, double high)
{
    float *x = FLOATS(n);
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(low + (high - low) * papa_rng_double(&rng));
    return x;
}

/* What an output holds before a kernel writes it: NaN, or known numbers where it accumulates. */
static inline float *poisoned(int64_t n, bool accumulate)
{
    float *x = FLOATS(n);
    for (int64_t i = 0; i < n; i++)
        x[i] = accumulate ? (float)(i % 7) - 3.f : NAN;
    return x;
}

static inline double *widened(const float *x, int64_t n)
{
    double *to = DOUBLES(n);
    for (int64_t i = 0; i < n; i++)
        to[i] = (double)x[i];
    return to;
}

/* poisoned, for a reference half. */
static inline double *poisoned_double(int64_t n, bool accumulate)
{
    float *x = poisoned(n, accumulate);
    double *wide = widened(x, n);
    free(x);
    return wide;
}

/* got[i] = want[i], plus what poisoned put there; the error is measured against the largest |want|, at least 1. */
static inline void check_near_double(const char *what, const double *got, const double *want, int64_t n, bool accumulated, double tolerance)
{
    double size = 1, worst = 0;
    int64_t at = 0;
    for (int64_t i = 0; i < n; i++)
        size = isinf(want[i]) ? size : fmax(size, fabs(want[i]));
    for (int64_t i = 0; i < n; i++) {
        if (isinf(want[i]) && got[i] == want[i])
            continue;
        double error = fabs(got[i] - want[i] - (accumulated ? (double)(i % 7) - 3 : 0)) / size;
        if (isnan(error)) /* also worse than all that come after it */
            error = INFINITY;
        if (error > worst)
            worst = error, at = i;
    }
    CHECK(worst <= tolerance, "%s: element %lld of %lld is %.9g, expected %.9g (relative error %g)", what, (long long)at, (long long)n,
        n ? got[at] : 0., n ? want[at] : 0., worst);
}

static inline void check_near(const char *what, const float *got, const double *want, int64_t n, bool accumulated, double tolerance)
{
    double *wide = widened(got, n);
    check_near_double(what, wide, want, n, accumulated, tolerance);
    free(wide);
}

/* Tolerance of the reference halves, which are right but for a few roundings in double. */
#define IN_DOUBLE 1e-13

/* The same bits. */
static inline void check_same(const char *what, const void *a, const void *b, size_t bytes)
{
    CHECK(!bytes || !memcmp(a, b, bytes), "%s: one and three threads differ", what);
}

#endif
