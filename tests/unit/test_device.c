/* The CPU device: memory, copies, and the cutting of ranges. */
#include "check.h"
#include "device/device.h"

#include <omp.h>
#include <stdlib.h>

/* Under AddressSanitizer too, a request that can't be met is to fail like any other. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

static void test_memory(PapaDevice *dev)
{
    static const size_t sizes[] = {1, 63, 64, 4097, ((size_t)2 << 20) - 1, (size_t)2 << 20, ((size_t)5 << 20) + 13};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t bytes = sizes[i];
        void *memory, *back = malloc(bytes), *from = malloc(bytes), *second;
        CHECK_OK(papa_device_alloc(dev, &memory, bytes, "a test"));
        CHECK_OK(papa_device_alloc(dev, &second, bytes, "a test"));
        CHECK((uintptr_t)memory % 64 == 0, "%p", memory);
        memset(from, (int)(i + 1), bytes);
        memset(back, 0x55, bytes);
        CHECK_OK(papa_device_upload(dev, memory, from, bytes));
        CHECK_OK(papa_device_copy(dev, second, memory, bytes));
        CHECK_OK(papa_device_download(dev, back, second, bytes));
        CHECK(!memcmp(back, from, bytes), "%zu bytes", bytes);
        CHECK_OK(papa_device_zero(dev, second, bytes));
        CHECK_OK(papa_device_sync(dev));
        memset(from, 0, bytes);
        CHECK(!memcmp(second, from, bytes), "%zu bytes", bytes);
        papa_device_free(dev, memory);
        papa_device_free(dev, second);
        free(back);
        free(from);
    }
    void *none = dev;
    CHECK_OK(papa_device_alloc(dev, &none, 0, "nothing"));
    CHECK(!none, "%p", none);
    papa_device_free(dev, none);
    CHECK_FAILS(papa_device_alloc(dev, &none, SIZE_MAX / 4, "the moon"), PAPA_ERR_MEMORY, "the moon");
    CHECK_OK(papa_device_zero(dev, NULL, 0));
    CHECK_OK(papa_device_copy(dev, NULL, NULL, 0));
}

typedef struct Pieces {
    int64_t n, shortest, longest;
    int count;
    int64_t visits[1000];
} Pieces;

static void visit(void *context, int64_t begin, int64_t end)
{
    Pieces *pieces = context;
#pragma omp critical
    {
        pieces->count++;
        pieces->shortest = end - begin < pieces->shortest ? end - begin : pieces->shortest;
        pieces->longest = end - begin > pieces->longest ? end - begin : pieces->longest;
        for (int64_t i = begin; i < end; i++)
            pieces->visits[i]++;
    }
}

static void test_ranges(PapaDevice *dev)
{
    static const int64_t ns[] = {0, 1, 2, 3, 7, 100, 999, 1000}, grains[] = {0, 1, 3, 64, 500, 5000};
    for (size_t i = 0; i < sizeof ns / sizeof *ns; i++)
        for (size_t j = 0; j < sizeof grains / sizeof *grains; j++) {
            int64_t n = ns[i], grain = grains[j];
            Pieces pieces = {.n = n, .shortest = INT64_MAX};
            papa_ranges(dev, n, grain, visit, &pieces);
            int64_t wrong = 0;
            for (int64_t k = 0; k < 1000; k++)
                wrong += pieces.visits[k] != (k < n);
            CHECK(!wrong, "n %lld, grain %lld: %lld elements", (long long)n, (long long)grain, (long long)wrong);
            CHECK(pieces.count <= dev->n_threads, "%d pieces", pieces.count);
            CHECK(n == 0 ? !pieces.count : pieces.longest - pieces.shortest <= 1, "%lld to %lld", (long long)pieces.shortest,
                (long long)pieces.longest);
            CHECK(pieces.count <= 1 || pieces.shortest >= grain, "shortest %lld, grain %lld", (long long)pieces.shortest, (long long)grain);
            CHECK(n < dev->n_threads || grain > 1 || pieces.count == dev->n_threads, "%d pieces of %lld", pieces.count, (long long)n);
        }
}

int main(void)
{
    PapaDevice *dev;
    CHECK(papa_device_open_cpu(&dev, 0) == PAPA_ERR_ARGUMENT && !dev, "a device with no threads");
    CHECK(papa_device_open_reference(&dev, 0) == PAPA_ERR_ARGUMENT && !dev && strstr(papa_error(), "reference device"), "a reference device with no threads");
    papa_device_close(NULL);
    for (int i = 0; i < 6; i++) {
        const int threads = 1 + i / 2;
        const bool reference = i % 2;
        if ((reference ? papa_device_open_reference(&dev, threads) : papa_device_open_cpu(&dev, threads)) != PAPA_OK) {
            CHECK(false, "%s", papa_error());
            continue;
        }
        omp_set_num_threads(7);
        papa_device_enter(dev);
        CHECK(omp_get_max_threads() == threads, "%d against %d", omp_get_max_threads(), threads);
        CHECK(strcmp(papa_device_name(dev), reference ? "reference" : "cpu") == 0, "%s", papa_device_name(dev));
        CHECK(papa_element_bytes(dev->element) == (reference ? 8 : 4), "elements of %zu bytes", papa_element_bytes(dev->element));
        test_memory(dev);
        test_ranges(dev);
        papa_device_close(dev);
    }
    return check_result();
}
