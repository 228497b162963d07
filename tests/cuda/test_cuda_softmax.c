/* kernels/softmax.h: the CUDA half against the CPU half. */
#include "cudacases.h"
#include "kernels/softmax.h"

/* exp within 2 units in the last place on both sides, sums in different orders; the logarithm's largest values are near 10. */
#define TOLERANCE 1e-6

static void check_softmax(bool log_form, int64_t outer, int64_t D, int64_t inner)
{
    const int64_t n = outer * D * inner;
    Array *x = reals(n, -3, 3), *y = out_reals(n, false), *again = out_reals(n, false);
    must(papa_softmax_fwd_cpu(cpu, y->host, x->host, outer, D, inner, log_form));
    must(papa_softmax_fwd_cuda(cuda, y->device, x->device, outer, D, inner, log_form));
    must(papa_softmax_fwd_cuda(cuda, again->device, x->device, outer, D, inner, log_form));
    check_same("y", y, TOLERANCE);
    check_repeated("y", y, again);
    must(papa_softmax_fwd_cuda(cuda, x->device, x->device, outer, D, inner, log_form));
    check_repeated("y in place", x, y);
    free_arrays();
    for (int accumulate = 0; accumulate < 2; accumulate++) {
        Array *saved = log_form ? reals(n, -9, 0) : reals(n, 0, 1), *dy = reals(n, -1, 1), *dx = out_reals(n, accumulate);
        for (int64_t i = 0; i < n; i++) /* sums of about 1, as y's are */
            saved->host[i] = log_form ? saved->host[i] : saved->host[i] * 2 / (float)D;
        upload_again(saved);
        must(papa_softmax_bwd_cpu(cpu, dx->host, dy->host, saved->host, outer, D, inner, log_form, accumulate));
        must(papa_softmax_bwd_cuda(cuda, dx->device, dy->device, saved->device, outer, D, inner, log_form, accumulate));
        check_same("dx", dx, TOLERANCE);
        if (!accumulate) {
            must(papa_softmax_bwd_cuda(cuda, dy->device, dy->device, saved->device, outer, D, inner, log_form, false));
            check_repeated("dx in place", dy, dx);
        }
        free_arrays();
    }
}

/* Each width of a row that is kept in registers, at its ends; rows and columns that are shared by threads of a block. */
static void test_shapes(void)
{
    static const int64_t shapes[][3] = {{1, 1, 1}, {19, 10, 1}, {3, 32, 1}, {2, 33, 1}, {9, 64, 1}, {3, 100, 1}, {2, 129, 1}, {1, 256, 1}, {3, 257, 1},
        {2, 512, 1}, {2, 513, 1}, {2, 1024, 1}, {3, 1025, 1}, {1, 5000, 1}, {0, 10, 1}, {4, 0, 3}, {3, 4, 0}, {2, 3, 5}, {3, 7, 64}, {2, 40, 131},
        {1, 300, 2}, {2, 1000, 3}, {100, 6, 5}, {1, 1, 700}, {1, 1100, 33}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int log_form = 0; log_form < 2; log_form++)
            check_softmax(log_form, shapes[i][0], shapes[i][1], shapes[i][2]);
}

/* Large scores must not overflow, -infinity is probability 0, a NaN spoils its own row only: as rows in registers, as columns, and as long rows
 * that are filled up with -infinity. */
static void test_special_values(void)
{
    static const float special[4][3] = {{1000, 999, -INFINITY}, {1, NAN, 2}, {-90, -91, -1e30f}, {-INFINITY, -INFINITY, -INFINITY}};
    static const int64_t shapes[][3] = {{4, 3, 1}, {1, 3, 4}, {4, 1500, 1}};
    for (int k = 0; k < 3; k++) {
        const int64_t D = shapes[k][1], inner = shapes[k][2], n = 4 * D;
        Array *x = reals(n, 0, 1), *y = out_reals(n, false);
        for (int64_t i = 0; i < n; i++) {
            const int64_t row = inner == 1 ? i / D : i % 4, d = inner == 1 ? i % D : i / 4;
            x->host[i] = d < 3 ? special[row][d] : -INFINITY;
        }
        upload_again(x);
        for (int log_form = 0; log_form < 2; log_form++) {
            must(papa_softmax_fwd_cpu(cpu, y->host, x->host, shapes[k][0], D, inner, log_form));
            must(papa_softmax_fwd_cuda(cuda, y->device, x->device, shapes[k][0], D, inner, log_form));
            CHECK(isfinite(y->host[0]) && isnan(y->host[inner == 1 ? D : 1]), "%g %g", (double)y->host[0], (double)y->host[1]);
            check_same("special values", y, TOLERANCE);
        }
        free_arrays();
    }
}

int main(void)
{
    const int status = cudatest_begin();
    if (status)
        return status;
    FOR_ELEMENTS {
        test_shapes();
        test_special_values();
    }
    return cudatest_end();
}
