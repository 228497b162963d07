/* The CPU device, and the reference device. Memory is the host's, everything happens at once, so copies are memcpy and there is nothing to wait for. */
#include "device/device_ops.h"
#include "device/onednn.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define CACHE_LINE ((size_t)64)
#define HUGE_PAGE ((size_t)2 << 20)

static PapaStatus enter(PapaDevice *dev)
{
    omp_set_num_threads(dev->n_threads);
    return PAPA_OK;
}

static PapaStatus open_host(PapaDevice **out, const PapaDevice *as)
{
    *out = NULL;
    if (as->n_threads < 1)
        return papa_fail(PAPA_ERR_ARGUMENT, "%s device: %d threads, expected at least 1", papa_device_name(as), as->n_threads);
    PapaDevice *dev = malloc(sizeof *dev);
    if (!dev)
        return papa_fail_memory(sizeof *dev, "a device");
    *dev = *as;
    PapaDnnl *dnnl = NULL;
    PapaStatus status = dev->kind == PAPA_CPU ? papa_dnnl_open(&dnnl) : PAPA_OK;
    if (status != PAPA_OK) {
        free(dev);
        return status;
    }
    dev->library = dnnl;
    *out = dev;
    return enter(dev);
}

PapaStatus papa_device_open_cpu(PapaDevice **out, int n_threads)
{
    return open_host(out, &(PapaDevice){.kind = PAPA_CPU, .n_threads = n_threads});
}

PapaStatus papa_device_open_reference(PapaDevice **out, int n_threads)
{
    return open_host(out, &(PapaDevice){.kind = PAPA_REFERENCE, .n_threads = n_threads, .element = PAPA_FLOAT64});
}

static void close_cpu(PapaDevice *dev)
{
    if (dev->library)
        papa_dnnl_close(dev->library);
}

static PapaStatus alloc(PapaDevice *dev, void **out, size_t bytes, const char *purpose)
{
    (void)dev;
    bool huge = bytes >= HUGE_PAGE;
    if (posix_memalign(out, huge ? HUGE_PAGE : CACHE_LINE, bytes)) {
        *out = NULL;
        return papa_fail_memory(bytes, purpose);
    }
    if (huge) /* a hint: memory works as well without */
        (void)madvise(*out, bytes & ~(HUGE_PAGE - 1), MADV_HUGEPAGE);
    return PAPA_OK;
}

static void free_cpu(PapaDevice *dev, void *memory)
{
    (void)dev;
    free(memory);
}

static PapaStatus copy(PapaDevice *dev, void *to, const void *from, size_t bytes)
{
    (void)dev;
    memcpy(to, from, bytes);
    return PAPA_OK;
}

static PapaStatus zero(PapaDevice *dev, void *to, size_t bytes)
{
    (void)dev;
    memset(to, 0, bytes);
    return PAPA_OK;
}

static PapaStatus sync_cpu(PapaDevice *dev)
{
    (void)dev;
    return PAPA_OK;
}

static const char *name(const PapaDevice *dev)
{
    return dev->kind == PAPA_CPU ? "cpu" : "reference";
}

const PapaDeviceOps papa_device_ops_cpu = {
    .name = name, .close = close_cpu, .enter = enter, .alloc = alloc, .free = free_cpu, .upload = copy, .download = copy, .copy = copy, .zero = zero, .sync = sync_cpu,
};

void papa_ranges(const PapaDevice *dev, int64_t n, int64_t grain, papa_range_fn *body, void *context)
{
    if (n <= 0)
        return;
    int64_t pieces = grain > 1 ? n / grain : n;
    if (pieces > dev->n_threads)
        pieces = dev->n_threads;
    if (pieces <= 1) {
        body(context, 0, n);
        return;
    }
    int64_t length = n / pieces, longer = n % pieces; /* the first `longer` pieces have one more */
#pragma omp parallel for schedule(static, 1) num_threads((int)pieces)
    for (int64_t p = 0; p < pieces; p++) {
        int64_t begin = p * length + (p < longer ? p : longer);
        body(context, begin, begin + length + (p < longer));
    }
}
