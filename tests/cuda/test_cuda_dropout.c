/* kernels/dropout.h: the CUDA half against the CPU half, whose mask it must draw bit for bit. */
#include "cudacases.h"
#include "kernels/dropout.h"

static const uint32_t key[2] = {0x12345678, 0x9abcdef0}, name[2] = {7, 0x05000003};
static uint32_t *device_key, *device_name;

static void check_dropout(int64_t n, float ratio, uint32_t node, bool accumulate, bool off)
{
    Array *x = reals(n + 1, 1, 2), *y = out_reals(n + 1, accumulate);
    const Array from = off ? from_second(x) : *x;
    must(papa_dropout_cpu(cpu, y->host, from.host, n, ratio, key, name, node, accumulate));
    must(papa_dropout_cuda(cuda, y->device, from.device, n, ratio, device_key, device_name, node, accumulate));
    for (int64_t i = 0; y->element == PAPA_BFLOAT16 && i < n; i++)
        y->host[i] = bf16_rounded(y->host[i]);
    if (accumulate) /* the product may be joined to the addition */
        check_same("dropout", y, 2e-7);
    else
        check_equal("dropout", y);
    if (!accumulate && !off) {
        must(papa_dropout_cuda(cuda, x->device, x->device, n, ratio, device_key, device_name, node, false));
        Array of_x = *x, of_y = *y;
        of_x.n = of_y.n = n;
        check_repeated("dropout in place", &of_x, &of_y);
    }
    free_arrays();
}

static void test_sizes(void)
{
    static const int64_t sizes[] = {0, 1, 2, 3, 4, 5, 63, 1024, 70001};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int way = 0; way < 4; way++)
            check_dropout(sizes[i], .3f, (uint32_t)i, way & 1, way & 2);
}

static void test_ratios(void)
{
    static const float ratios[] = {0, 1e-9f, .1f, .5f, .999f, .99999994f};
    for (size_t i = 0; i < sizeof ratios / sizeof *ratios; i++)
        check_dropout(5000, ratios[i], 0x80000001u, false, false);
}

int main(void)
{
    const int status = cudatest_begin();
    if (status)
        return status;
    device_key = raw_device(key, sizeof key);
    device_name = raw_device(name, sizeof name);
    FOR_ELEMENTS {
        test_sizes();
        test_ratios();
    }
    papa_device_free(cuda, device_key);
    papa_device_free(cuda, device_name);
    return cudatest_end();
}
