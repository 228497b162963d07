/* More for tests of kernels: arrays that begin off their alignment, raw device memory, and that a call repeats its own bits. */
#ifndef CUDACASES_H
#define CUDACASES_H

#include "cudatest.h"

/* An array's two sides; NULL for NULL. */
#define HOST(a) ((a) ? (a)->host : NULL)
#define DEVICE(a) ((a) ? (a)->device : NULL)

/* What is left of a behind its first element, which no wide access may begin with. Goes with a. */
static inline Array from_second(const Array *a)
{
    return (Array){a->host + 1, (char *)a->device + papa_element_bytes(a->element), a->n - 1, a->element};
}

/* Device memory with these bytes; NULL: never written. Free it with papa_device_free. */
static inline void *raw_device(const void *host, size_t bytes)
{
    void *device;
    must(papa_device_alloc(cuda, &device, bytes, "a test's memory"));
    if (host)
        must(papa_device_upload(cuda, device, host, bytes));
    return device;
}

/* Behind a change of the host's side: both have it, rounded where the device rounds. */
static inline void upload_again(Array *a)
{
    for (int64_t i = 0; a->element == PAPA_BFLOAT16 && i < a->n; i++)
        a->host[i] = bf16_rounded(a->host[i]);
    papa_device_free(cuda, a->device);
    a->device = to_device(a->host, a->n, a->element);
}

/* The device sides, of as many elements, are the same bit for bit. */
static inline void check_repeated(const char *what, const Array *a, const Array *again)
{
    float *first = from_device(a->device, a->n, a->element), *second = from_device(again->device, a->n, a->element);
    CHECK(!memcmp(first, second, (size_t)a->n * sizeof *first), "%s: the second call gives other bits", what);
    free(first), free(second);
}

#endif
