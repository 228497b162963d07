/* kernels/eltwise.h: the CUDA half against the CPU half. Both take their formulas from kernels/eltwise_math.h, which tests/unit/test_eltwise.c
 * checks; here it is about every element being reached, and about exp, tanh and erf being CUDA's own. */
#include "cudacases.h"
#include "kernels/eltwise.h"

/* exp, tanh and erf of both sides are within 2 to 4 units in the last place, and gradients multiply a few of them. */
#define TOLERANCE 2e-6

static void bounds_of(PapaUnary f, bool saved, double *low, double *high)
{
    *low = -4, *high = 4;
    if (f == PAPA_UNARY_SQRT || f == PAPA_UNARY_LOG || f == PAPA_UNARY_POW || f == PAPA_UNARY_RECIPROCAL)
        *low = .25; /* their slopes have no bound at 0 */
    if (saved && (f == PAPA_UNARY_SIGMOID || f == PAPA_UNARY_TANH)) /* what they can come to */
        *low = f == PAPA_UNARY_TANH ? -1 : 0, *high = 1;
}

static void forward(PapaUnary f, int64_t n, float a, float b)
{
    double low, high;
    bounds_of(f, false, &low, &high);
    Array *x = reals(n, low, high), *y = out_reals(n, false), *again = out_reals(n, false);
    must(papa_unary_fwd_cpu(cpu, f, y->host, x->host, n, a, b));
    must(papa_unary_fwd_cuda(cuda, f, y->device, x->device, n, a, b));
    must(papa_unary_fwd_cuda(cuda, f, again->device, x->device, n, a, b));
    check_same("y", y, TOLERANCE);
    check_repeated("y", y, again);
    must(papa_unary_fwd_cuda(cuda, f, x->device, x->device, n, a, b)); /* in place */
    check_repeated("y in place", x, y);
    free_arrays();
}

static void backward(PapaUnary f, int64_t n, float a, float b, bool accumulate)
{
    double low, high;
    bounds_of(f, true, &low, &high);
    Array *saved = f == PAPA_UNARY_NEG ? NULL : reals(n, low, high), *dy = reals(n, -1, 1), *dx = out_reals(n, accumulate);
    must(papa_unary_bwd_cpu(cpu, f, dx->host, dy->host, HOST(saved), n, a, b, accumulate));
    must(papa_unary_bwd_cuda(cuda, f, dx->device, dy->device, DEVICE(saved), n, a, b, accumulate));
    check_same("dx", dx, TOLERANCE);
    if (!accumulate) {
        must(papa_unary_bwd_cuda(cuda, f, dy->device, dy->device, DEVICE(saved), n, a, b, false));
        check_repeated("dx in place", dy, dx);
    }
    free_arrays();
}

static void test_functions(void)
{
    for (int f = PAPA_UNARY_RELU; f <= PAPA_UNARY_GELU_TANH; f++) {
        const float a = f == PAPA_UNARY_CLIP ? -1.5f : .3f, b = 2.25f;
        forward((PapaUnary)f, 1037, a, b);
        backward((PapaUnary)f, 1037, a, b, false);
        backward((PapaUnary)f, 1037, a, b, true);
    }
    forward(PAPA_UNARY_POW, 300, 3, 0);
    backward(PAPA_UNARY_POW, 300, 0, 0, false);
}

static void test_sizes(void)
{
    static const int64_t sizes[] = {0, 1, 3, 8, 31, 256, 2049};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        forward(PAPA_UNARY_RELU, sizes[i], 0, 0);
        backward(PAPA_UNARY_SQUARE, sizes[i], 0, 0, true);
    }
}

/* Single elements, more than the threads of one grid on a GPU of 132 multiprocessors: they come round again. */
static void test_beyond_one_grid(void)
{
    const int64_t n = 132 * 2048 * 4 + 40007;
    Array *x = reals(n + 1, -1, 1), *y = out_reals(n, false);
    const Array from = from_second(x);
    must(papa_unary_fwd_cpu(cpu, PAPA_UNARY_NEG, y->host, from.host, n, 0, 0));
    must(papa_unary_fwd_cuda(cuda, PAPA_UNARY_NEG, y->device, from.device, n, 0, 0));
    check_equal("y", y);
    free_arrays();
}

/* Neither may be read or written by 16 bytes. */
static void test_off_alignment(void)
{
    const int64_t n = 777;
    Array *x = reals(n + 1, -4, 4), *dy = reals(n + 1, -1, 1), *dx = out_reals(n + 1, true);
    for (int which = 0; which < 3; which++) { /* each of them alone */
        const Array x1 = which == 0 ? from_second(x) : *x, dy1 = which == 1 ? from_second(dy) : *dy, dx1 = which == 2 ? from_second(dx) : *dx;
        must(papa_relu_bwd_cpu(cpu, dx1.host, dy1.host, x1.host, n, false));
        must(papa_relu_bwd_cuda(cuda, dx1.device, dy1.device, x1.device, n, false));
        check_equal("relu", dx);
    }
    free_arrays();
}

/* A NaN goes through all of them, and the ends are where formulas overflow. */
static void test_special_values(void)
{
    static const float special[9] = {NAN, INFINITY, -INFINITY, -0.f, 0, 1000, -1000, 1e-5f, -1e-5f};
    for (int f = PAPA_UNARY_RELU; f <= PAPA_UNARY_GELU_TANH; f++) {
        float *host = malloc(sizeof special);
        memcpy(host, special, sizeof special);
        Array *x = array_of(host, 9, cuda->element), *y = out_reals(9, false);
        must(papa_unary_fwd_cpu(cpu, (PapaUnary)f, y->host, x->host, 9, -1, 1));
        must(papa_unary_fwd_cuda(cuda, (PapaUnary)f, y->device, x->device, 9, -1, 1));
        CHECK(isnan(y->host[0]));
        check_same("special values", y, TOLERANCE);
        free_arrays();
    }
}

/* ---------------------------------------------------------------- two operands */

typedef struct Shapes {
    int rank, a_rank, b_rank;
    int64_t dim[5], a[5], b[5];
} Shapes;

static int64_t product(const int64_t *dim, int rank)
{
    int64_t n = 1;
    for (int i = 0; i < rank; i++)
        n *= dim[i];
    return n;
}

static const Shapes shapes[] = {
    {4, 4, 4, {3, 5, 7, 2}, {3, 5, 7, 2}, {3, 5, 7, 2}},       /* equal, not a multiple of a pack */
    {1, 1, 1, {512}, {512}, {512}},                            /* equal, all in packs */
    {2, 2, 1, {37, 64}, {37, 64}, {64}},                       /* bias, in packs */
    {2, 2, 1, {37, 23}, {37, 23}, {23}},                       /* bias, not in packs */
    {2, 1, 2, {37, 16}, {16}, {37, 16}},                       /* bias first */
    {3, 3, 0, {5, 11, 13}, {5, 11, 13}, {0}},                  /* scalar */
    {3, 0, 3, {2, 100, 8}, {0}, {2, 100, 8}},                  /* scalar first */
    {4, 4, 3, {2, 3, 37, 8}, {2, 3, 37, 8}, {3, 1, 1}},        /* bias of channels-first maps */
    {4, 4, 4, {3, 5, 4, 16}, {3, 1, 1, 16}, {1, 5, 4, 1}},     /* both repeated */
    {2, 2, 2, {19, 24}, {19, 1}, {1, 24}},                     /* outer product */
    {5, 5, 4, {2, 3, 2, 3, 2}, {2, 1, 2, 1, 2}, {3, 1, 3, 1}}, /* nothing joins */
    {2, 2, 1, {0, 6}, {0, 6}, {6}},                            /* empty batch */
    {0, 0, 0, {0}, {0}, {0}},                                  /* single numbers */
};

static PapaWalk walk_for(const Shapes *s)
{
    int64_t a[5], b[5];
    PapaWalk walk;
    papa_walk_strides(a, s->rank, s->a_rank, s->a);
    papa_walk_strides(b, s->rank, s->b_rank, s->b);
    papa_walk_make(&walk, s->rank, s->dim, a, b);
    return walk;
}

static void check_binary(PapaBinary f, const Shapes *s, bool relu)
{
    const PapaWalk walk = walk_for(s);
    const int64_t n = product(s->dim, s->rank), n_a = product(s->a, s->a_rank), n_b = product(s->b, s->b_rank);
    Array *a = reals(n_a, -2, 4), *b = reals(n_b, .5, 2), *y = out_reals(n, false);
    must(papa_binary_fwd_cpu(cpu, f, y->host, a->host, b->host, &walk, relu));
    must(papa_binary_fwd_cuda(cuda, f, y->device, a->device, b->device, &walk, relu));
    check_same("binary", y, 0); /* one correctly rounded operation */
    if (n_a == n) {
        must(papa_binary_fwd_cuda(cuda, f, a->device, a->device, b->device, &walk, relu));
        check_repeated("binary into a", a, y);
    }
    free_arrays();
}

static void test_binary(void)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int f = PAPA_BINARY_ADD; f <= PAPA_BINARY_DIV; f++)
            check_binary((PapaBinary)f, &shapes[i], f % 2 == (int)(i % 2));
}

static void test_binary_off_alignment(void)
{
    const int64_t rows = 6, length = 32, n = rows * length;
    const Shapes s = {2, 2, 1, {rows, length}, {rows, length}, {length}}, same = {1, 1, 1, {n}, {n}, {n}};
    const PapaWalk walk = walk_for(&s), dense = walk_for(&same);
    Array *a = reals(n + 1, -1, 1), *b = reals(n + 1, -1, 1), *y = out_reals(n + 1, true);
    for (int which = 0; which < 3; which++) {
        const Array a1 = which == 0 ? from_second(a) : *a, b1 = which == 1 ? from_second(b) : *b, y1 = which == 2 ? from_second(y) : *y;
        for (int k = 0; k < 2; k++) {
            must(papa_binary_fwd_cpu(cpu, PAPA_BINARY_SUB, y1.host, a1.host, b1.host, k ? &dense : &walk, true));
            must(papa_binary_fwd_cuda(cuda, PAPA_BINARY_SUB, y1.device, a1.device, b1.device, k ? &dense : &walk, true));
            check_same("off alignment", y, 0);
        }
    }
    free_arrays();
}

int main(void)
{
    const int status = cudatest_begin();
    if (status)
        return status;
    FOR_ELEMENTS {
        test_functions();
        test_sizes();
        test_off_alignment();
        test_special_values();
        test_binary();
        test_binary_off_alignment();
    }
    cuda = cuda_fp32;
    test_beyond_one_grid();
    return cudatest_end();
}
