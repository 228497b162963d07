/* kernels/chanstat.h: the CUDA half against the CPU half. */
#include "cudacases.h"
#include "kernels/chanstat.h"

static void measure(const Array *x, Array *mean, Array *std, int64_t rows, int64_t C)
{
    must(papa_chanstat_measure_cpu(cpu, mean->host, std->host, x->host, rows, C));
    must(papa_chanstat_measure_cuda(cuda, mean->device, std->device, x->device, rows, C));
}

static void test_measure(int64_t rows, int64_t C, double center)
{
    Array *x = reals(rows * C, center - 2, center + 2), *mean[2], *std[2];
    for (int i = 0; i < 2; i++) {
        mean[i] = out_floats(C, false), std[i] = out_floats(C, false);
        measure(x, mean[i], std[i], rows, C);
    }
    check_same("mean", mean[0], 1e-6);
    check_same("std", std[0], 2e-6);
    check_repeated("mean", mean[0], mean[1]);
    check_repeated("std", std[0], std[1]);
    free_arrays();
}

static void test_shift(int64_t rows, int64_t C)
{
    Array *x = reals(rows * C, -2, 2), *mean = floats(C, -1, 1), *std = floats(C, 0, 2), *goal_mean = floats(C, -1, 1), *goal_std = floats(C, 0, 2);
    Array *goals[] = {goal_mean, goal_std};
    for (int i = 0; i < 2; i++) { /* a third of the goals are left out */
        for (int64_t c = i; c < C; c += 3)
            goals[i]->host[c] = NAN;
        upload_again(goals[i]);
    }
    must(papa_chanstat_shift_cpu(cpu, x->host, mean->host, std->host, goal_mean->host, goal_std->host, rows, C, 1e-3f));
    must(papa_chanstat_shift_cuda(cuda, x->device, mean->device, std->device, goal_mean->device, goal_std->device, rows, C, 1e-3f));
    check_same("x", x, 1e-6);
    free_arrays();
}

static void test_constant_channel(void)
{
    const int64_t rows = 1777, C = 5;
    Array *x = reals(rows * C, -1, 1), *mean = out_floats(C, false), *std = out_floats(C, false);
    for (int64_t i = 2; i < rows * C; i += C)
        x->host[i] = bf16_rounded(.1f);
    upload_again(x);
    measure(x, mean, std, rows, C);
    float *got_mean = from_device(mean->device, C, PAPA_FLOAT32), *got_std = from_device(std->device, C, PAPA_FLOAT32);
    CHECK(got_mean[2] == bf16_rounded(.1f) && got_std[2] == 0, "mean %.9g, std %.9g", (double)got_mean[2], (double)got_std[2]);
    free(got_mean), free(got_std);
    free_arrays();
}

static void test_misaligned(void)
{
    Array *all = reals(34 * 16, -1, 1), *mean = out_floats(16, false), *std = out_floats(16, false);
    Array x = from_second(all);
    measure(&x, mean, std, 33, 16);
    check_same("mean", mean, 1e-6);
    check_same("std", std, 2e-6);
    must(papa_chanstat_shift_cpu(cpu, x.host, mean->host, std->host, std->host, mean->host, 33, 16, 1e-3f));
    must(papa_chanstat_shift_cuda(cuda, x.device, mean->device, std->device, std->device, mean->device, 33, 16, 1e-3f));
    check_same("x", &x, 4e-6); /* by statistics that differ already */
    free_arrays();
}

int main(void)
{
    /* The last two: more channels than are done at a time, wide and not. */
    static const int64_t shapes[][2] = {{0, 7}, {3, 0}, {1, 1}, {1, 24}, {2, 5}, {1001, 16}, {300, 64}, {131, 130}, {40, 520}, {12001, 3}, {4099, 8},
        {3, 65600}, {2, 65549}};
    int status = cudatest_begin();
    if (status)
        return status;
    FOR_ELEMENTS
    {
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            test_measure(shapes[i][0], shapes[i][1], .3);
            test_shift(shapes[i][0], shapes[i][1]);
        }
        test_constant_channel();
        test_misaligned();
    }
    cuda = cuda_fp32;
    test_measure(20000, 3, 3000);
    return cudatest_end();
}
