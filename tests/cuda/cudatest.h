/* What the tests of the CUDA halves share: a CPU device, CUDA devices for float32 and bfloat16 activations, and arrays that exist on both
 * sides with the same contents.
 *
 * A test runs the CPU half and the CUDA half of a kernel on the same numbers and compares. With bfloat16 the inputs are rounded to it first, on
 * both sides, so that what differs is the kernel's own rounding of its results. */
#ifndef CUDATEST_H
#define CUDATEST_H

#include "base/rng.h"
#include "check.h"
#include "device/device.h"
#include "onnx/half.h"

#include <stdlib.h>

static PapaDevice *cpu;
static PapaDevice *cuda;     /* the one under test: one of the two below */
static PapaDevice *cuda_fp32, *cuda_bf16;
static PapaRng rng;

#define ARRAYS_MAX 64
typedef struct Array {
    float *host;         /* the CPU half's */
    void *device;        /* the CUDA half's */
    int64_t n;
    PapaElement element; /* on the device */
} Array;
static Array arrays[ARRAYS_MAX];
static int n_arrays;

/* Opens the devices. Returns 0, or the exit status: 77 (skipped) where there is no GPU. */
static inline int cudatest_begin(void)
{
    rng = papa_rng(1, PAPA_RNG_TEST, 0, 0, 0);
    if (!papa_device_count_cuda()) {
        printf("skipped: %s\n", papa_error());
        return 77;
    }
    bool ok = papa_device_open_cpu(&cpu, 1) == PAPA_OK && papa_device_open_cuda(&cuda_fp32, 0, PAPA_PRECISION_FP32) == PAPA_OK &&
        papa_device_open_cuda(&cuda_bf16, 0, PAPA_PRECISION_BF16) == PAPA_OK;
    CHECK(ok, "%s", papa_error());
    cuda = cuda_fp32;
    return ok ? 0 : 1;
}

static inline int cudatest_end(void)
{
    papa_device_close(cpu);
    papa_device_close(cuda_fp32);
    papa_device_close(cuda_bf16);
    return check_result();
}

/* for each of float32, bfloat16 */
#define FOR_ELEMENTS for (int element_ = 0; element_ < 2 && (cuda = element_ ? cuda_bf16 : cuda_fp32, true); element_++)

static inline float bf16_rounded(float x)
{
    return papa_bfloat16_to_float(papa_float_to_bfloat16(x));
}

static inline void must(PapaStatus status)
{
    if (status == PAPA_OK)
        return;
    printf("%s\n", papa_error());
    exit(1);
}

static inline void *to_device(const float *x, int64_t n, PapaElement element)
{
    void *device;
    size_t bytes = (size_t)n * papa_element_bytes(element);
    must(papa_device_alloc(cuda, &device, bytes, "a test's array"));
    if (element == PAPA_FLOAT32) {
        must(papa_device_upload(cuda, device, x, bytes));
        return device;
    }
    uint16_t *narrow = malloc(bytes + 1);
    for (int64_t i = 0; i < n; i++)
        narrow[i] = papa_float_to_bfloat16(x[i]);
    must(papa_device_upload(cuda, device, narrow, bytes));
    free(narrow);
    return device;
}

/* The device's contents as floats; free it. */
static inline float *from_device(const void *device, int64_t n, PapaElement element)
{
    float *x = malloc((size_t)n * sizeof *x + 1);
    size_t bytes = (size_t)n * papa_element_bytes(element);
    if (element == PAPA_FLOAT32) {
        must(papa_device_download(cuda, x, device, bytes));
        return x;
    }
    uint16_t *narrow = malloc(bytes + 1);
    must(papa_device_download(cuda, narrow, device, bytes));
    for (int64_t i = 0; i < n; i++)
        x[i] = papa_bfloat16_to_float(narrow[i]);
    free(narrow);
    return x;
}

/* Takes host over. */
static inline Array *array_of(float *host, int64_t n, PapaElement element)
{
    if (n_arrays == ARRAYS_MAX)
        exit(1);
    for (int64_t i = 0; element == PAPA_BFLOAT16 && i < n; i++)
        host[i] = bf16_rounded(host[i]);
    arrays[n_arrays] = (Array){host, to_device(host, n, element), n, element};
    return &arrays[n_arrays++];
}

/* Uniform on [low, high): an activation, or what is float32 everywhere. */
static inline Array *uniform_of(int64_t n, double low, double high, PapaElement element)
{
    float *host = malloc((size_t)n * sizeof *host + 1);
    for (int64_t i = 0; i < n; i++)
        host[i] = (float)(low + (high - low) * papa_rng_double(&rng));
    return array_of(host, n, element);
}
static inline Array *reals(int64_t n, double low, double high)
{
    return uniform_of(n, low, high, cuda->element);
}
static inline Array *floats(int64_t n, double low, double high)
{
    return uniform_of(n, low, high, PAPA_FLOAT32);
}

/* What a kernel is to write: NaN, so that a gap shows, or known numbers where it accumulates. */
static inline Array *output_of(int64_t n, bool accumulate, PapaElement element)
{
    float *host = malloc((size_t)n * sizeof *host + 1);
    for (int64_t i = 0; i < n; i++)
        host[i] = accumulate ? (float)(i % 7) - 3.f : NAN;
    return array_of(host, n, element);
}
static inline Array *out_reals(int64_t n, bool accumulate)
{
    return output_of(n, accumulate, cuda->element);
}
static inline Array *out_floats(int64_t n, bool accumulate)
{
    return output_of(n, accumulate, PAPA_FLOAT32);
}

static inline void free_arrays(void)
{
    while (n_arrays) {
        Array *a = &arrays[--n_arrays];
        free(a->host);
        papa_device_free(cuda, a->device);
    }
}

/* The two sides agree: |difference| <= tolerance * max(1, the CPU's largest) in float32. A bfloat16 result may be off by 1/128 of its own value
 * besides: its rounding, and one more where it accumulated. NaN and infinities must be the same. */
static inline void check_same(const char *what, const Array *a, double tolerance)
{
    float *got = from_device(a->device, a->n, a->element);
    double largest = 1, worst = 0;
    int64_t at = -1;
    for (int64_t i = 0; i < a->n; i++)
        if (isfinite(a->host[i]) && fabs((double)a->host[i]) > largest)
            largest = fabs((double)a->host[i]);
    for (int64_t i = 0; i < a->n; i++) {
        double want = (double)a->host[i], have = (double)got[i], error = fabs(have - want);
        if (!isfinite(want) || !isfinite(have))
            error = want == have || (isnan(want) && isnan(have)) ? 0 : INFINITY;
        else if (a->element == PAPA_BFLOAT16)
            error = fmax(0, error - fabs(want) / 128);
        if (error > worst)
            worst = error, at = i;
    }
    CHECK(worst <= tolerance * largest, "%s%s: element %lld is %g, expected %g (error %.3g of %.3g)", what,
        a->element == PAPA_BFLOAT16 ? ", bfloat16" : "", (long long)at, at < 0 ? 0 : (double)got[at], at < 0 ? 0 : (double)a->host[at],
        worst / largest, tolerance);
    free(got);
}

/* Bit for bit. */
static inline void check_equal(const char *what, const Array *a)
{
    float *got = from_device(a->device, a->n, a->element);
    int64_t at = 0;
    while (at < a->n && (memcmp(&got[at], &a->host[at], sizeof *got) == 0 || (isnan(got[at]) && isnan(a->host[at]))))
        at++;
    CHECK(at == a->n, "%s: element %lld is %.9g, expected %.9g", what, (long long)at, (double)got[at], (double)a->host[at]);
    free(got);
}

#endif
