/* kernels/reduce.h and the column sums of kernels/matmul.h: the CUDA half against the CPU half. Both add float32 in blocks and the blocks in
 * double, cut differently. */
#include "cudacases.h"
#include "kernels/matmul.h"
#include "kernels/reduce.h"

#define TOLERANCE 1e-6

typedef struct Sum {
    int rank;
    int64_t dim[5];
    bool summed[5];
} Sum;

/* Kept and summed axes in all orders; 1, primes, packs of both elements; sums of nothing; few long sums and many short ones. */
static const Sum sums[] = {
    {1, {1}, {true}},
    {1, {1}, {false}},
    {1, {40}, {false}},
    {1, {2048}, {true}},
    {1, {70001}, {true}},                                        /* splits, not in packs */
    {1, {200000}, {true}},                                       /* splits, in packs */
    {2, {7, 10}, {false, true}},
    {2, {600, 3}, {false, true}},                                /* more outputs than a block has threads */
    {2, {5, 1024}, {false, true}},
    {2, {3, 9001}, {false, true}},
    {2, {1000, 8}, {true, false}},                               /* splits, columns in packs */
    {2, {2003, 5}, {true, false}},                               /* splits, single columns */
    {2, {3, 700}, {true, false}},
    {2, {2, 2400}, {true, false}},
    {3, {4, 49, 64}, {false, true, false}},                      /* means over a map */
    {3, {3, 30, 7}, {false, true, false}},
    {3, {6, 5, 40}, {true, false, true}},
    {3, {30, 2, 9}, {true, false, true}},
    {4, {3, 4, 5, 16}, {true, false, true, false}},
    {4, {3, 4, 5, 6}, {false, true, false, true}},
    {5, {2, 3, 2, 3, 8}, {false, true, false, true, false}},
    {3, {4, 5, 6}, {false, false, false}},
    {2, {0, 6}, {true, false}},                                  /* sums of nothing */
    {2, {6, 0}, {false, true}},
    {2, {0, 6}, {false, true}},                                  /* no sums */
    {3, {4, 0, 8}, {false, true, false}},
};

static PapaWalk walk_of(const Sum *s, int64_t *n_x, int64_t *n_y)
{
    int64_t kept[5], stride[5];
    *n_x = *n_y = 1;
    for (int k = 0; k < s->rank; k++) {
        kept[k] = s->summed[k] ? 1 : s->dim[k];
        *n_x *= s->dim[k], *n_y *= kept[k];
    }
    PapaWalk walk;
    papa_walk_strides(stride, s->rank, s->rank, kept);
    papa_walk_make(&walk, s->rank, s->dim, stride, stride);
    return walk;
}

static void check_sum(const Sum *s, bool accumulate)
{
    int64_t n_x, n_y;
    const PapaWalk walk = walk_of(s, &n_x, &n_y);
    Array *x = reals(n_x, -1, 2), *y = out_reals(n_y, accumulate), *again = out_reals(n_y, accumulate); /* off centre: nothing cancels */
    must(papa_sum_cpu(cpu, y->host, x->host, &walk, .37f, accumulate));
    must(papa_sum_cuda(cuda, y->device, x->device, &walk, .37f, accumulate));
    must(papa_sum_cuda(cuda, again->device, x->device, &walk, .37f, accumulate));
    check_same("sum", y, TOLERANCE);
    check_repeated("sum", y, again);
    free_arrays();
    Array *dy = reals(n_y, -1, 1), *dx = out_reals(n_x, accumulate);
    must(papa_spread_cpu(cpu, dx->host, dy->host, &walk, -1.5f, accumulate));
    must(papa_spread_cuda(cuda, dx->device, dy->device, &walk, -1.5f, accumulate));
    check_same("spread", dx, 2e-7); /* a product and an addition, joined or not */
    free_arrays();
}

static void test_sums(void)
{
    for (size_t i = 0; i < sizeof sums / sizeof *sums; i++)
        for (int accumulate = 0; accumulate < 2; accumulate++)
            check_sum(&sums[i], accumulate);
}

/* So long that a thread of every split has several blocks of float32 terms. */
static void test_long_sum(void)
{
    const Sum s = {1, {8700007}, {true}};
    check_sum(&s, false);
}

/* x may not be read by 16 bytes. */
static void test_off_alignment(void)
{
    static const Sum some[] = {{2, {20, 64}, {true, false}}, {2, {20, 64}, {false, true}}, {1, {640}, {false}}};
    for (int i = 0; i < 3; i++) {
        int64_t n_x, n_y;
        const PapaWalk walk = walk_of(&some[i], &n_x, &n_y);
        Array *x = reals(n_x + 1, -1, 2), *y = out_reals(n_y, false);
        const Array x1 = from_second(x);
        must(papa_sum_cpu(cpu, y->host, x1.host, &walk, 1, false));
        must(papa_sum_cuda(cuda, y->device, x1.device, &walk, 1, false));
        check_same("sum off alignment", y, TOLERANCE);
        free_arrays();
    }
}

/* ---------------------------------------------------------------- gradients of broadcasting */

typedef struct Shapes {
    int rank, a_rank, b_rank;
    int64_t dim[5], a[5], b[5];
} Shapes;

static const Shapes shapes[] = {
    {4, 4, 4, {3, 5, 7, 2}, {3, 5, 7, 2}, {3, 5, 7, 2}},       /* equal, not a multiple of a pack */
    {1, 1, 1, {512}, {512}, {512}},                            /* equal, all in packs */
    {2, 2, 1, {1001, 24}, {1001, 24}, {24}},                   /* bias, in packs, splits */
    {2, 2, 1, {301, 23}, {301, 23}, {23}},                     /* bias, not in packs */
    {2, 1, 2, {37, 16}, {16}, {37, 16}},                       /* bias first */
    {3, 3, 0, {5, 11, 13}, {5, 11, 13}, {0}},                  /* scalar */
    {3, 0, 3, {2, 100, 8}, {0}, {2, 100, 8}},                  /* scalar first */
    {4, 4, 3, {2, 3, 37, 8}, {2, 3, 37, 8}, {3, 1, 1}},        /* bias of channels-first maps */
    {3, 3, 3, {4, 49, 32}, {4, 49, 32}, {4, 1, 32}},           /* a factor for each channel of each sample */
    {4, 4, 4, {3, 5, 4, 16}, {3, 1, 1, 16}, {1, 5, 4, 1}},     /* both repeated */
    {2, 2, 2, {19, 24}, {19, 1}, {1, 24}},                     /* outer product */
    {5, 5, 4, {2, 3, 2, 3, 2}, {2, 1, 2, 1, 2}, {3, 1, 3, 1}}, /* nothing joins */
    {2, 2, 1, {0, 6}, {0, 6}, {6}},                            /* empty batch */
    {0, 0, 0, {0}, {0}, {0}},                                  /* single numbers */
};

static int64_t product(const int64_t *dim, int rank)
{
    int64_t n = 1;
    for (int i = 0; i < rank; i++)
        n *= dim[i];
    return n;
}

static PapaWalk walk_for(const Shapes *s)
{
    int64_t a[5], b[5];
    PapaWalk walk;
    papa_walk_strides(a, s->rank, s->a_rank, s->a);
    papa_walk_strides(b, s->rank, s->b_rank, s->b);
    papa_walk_make(&walk, s->rank, s->dim, a, b);
    return walk;
}

/* Leaves out what the contract says is not read. */
static void check_binary_bwd(PapaBinary f, const Shapes *s, int operand, bool accumulate)
{
    const PapaWalk walk = walk_for(s);
    const int64_t n = product(s->dim, s->rank), n_a = product(s->a, s->a_rank), n_b = product(s->b, s->b_rank), n_d = operand ? n_b : n_a;
    const bool reads_a = operand == 1 && f >= PAPA_BINARY_MUL, reads_b = f == PAPA_BINARY_DIV || (f == PAPA_BINARY_MUL && operand == 0);
    Array *a = reads_a ? reals(n_a, -2, 4) : NULL, *b = reads_b ? reals(n_b, .5, 2) : NULL, *dy = reals(n, -1, 2);
    Array *d = out_reals(n_d, accumulate), *again = out_reals(n_d, accumulate);
    must(papa_binary_bwd_cpu(cpu, f, operand, d->host, dy->host, HOST(a), HOST(b), &walk, accumulate));
    must(papa_binary_bwd_cuda(cuda, f, operand, d->device, dy->device, DEVICE(a), DEVICE(b), &walk, accumulate));
    must(papa_binary_bwd_cuda(cuda, f, operand, again->device, dy->device, DEVICE(a), DEVICE(b), &walk, accumulate));
    check_same(operand ? "db" : "da", d, TOLERANCE);
    check_repeated(operand ? "db" : "da", d, again);
    if (n_d == n && !accumulate) {
        must(papa_binary_bwd_cuda(cuda, f, operand, dy->device, dy->device, DEVICE(a), DEVICE(b), &walk, false));
        check_repeated("in place", dy, d);
    }
    free_arrays();
}

static void test_binary_bwd(void)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int f = PAPA_BINARY_ADD; f <= PAPA_BINARY_DIV; f++)
            for (int way = 0; way < 4; way++)
                check_binary_bwd((PapaBinary)f, &shapes[i], way % 2, way / 2);
}

static void test_binary_bwd_off_alignment(void)
{
    const Shapes s = {2, 2, 1, {40, 32}, {40, 32}, {32}};
    const PapaWalk walk = walk_for(&s);
    Array *a = reals(1281, -1, 1), *b = reals(33, 1, 2), *dy = reals(1281, -1, 1), *d = out_reals(1281, true);
    for (int which = 0; which < 4; which++) {
        const Array a1 = which == 0 ? from_second(a) : *a, b1 = which == 1 ? from_second(b) : *b, dy1 = which == 2 ? from_second(dy) : *dy,
            d1 = which == 3 ? from_second(d) : *d;
        for (int operand = 0; operand < 2; operand++) {
            must(papa_binary_bwd_cpu(cpu, PAPA_BINARY_DIV, operand, d1.host, dy1.host, a1.host, b1.host, &walk, false));
            must(papa_binary_bwd_cuda(cuda, PAPA_BINARY_DIV, operand, d1.device, dy1.device, a1.device, b1.device, &walk, false));
            check_same("off alignment", d, TOLERANCE);
        }
    }
    free_arrays();
}

/* ---------------------------------------------------------------- column sums */

static void check_colsum(int64_t M, int64_t N, int64_t ldx)
{
    const int64_t n = M ? (M - 1) * ldx + N : 0;
    for (int accumulate = 0; accumulate < 2; accumulate++) {
        Array *x = reals(n, -1, 2), *y = out_floats(N, accumulate), *again = out_floats(N, accumulate);
        must(papa_colsum_cpu(cpu, y->host, x->host, M, N, ldx, accumulate));
        must(papa_colsum_cuda(cuda, y->device, x->device, M, N, ldx, accumulate));
        must(papa_colsum_cuda(cuda, again->device, x->device, M, N, ldx, accumulate));
        check_same("colsum", y, TOLERANCE);
        check_repeated("colsum", y, again);
        free_arrays();
    }
}

static void test_colsum(void)
{
    static const int64_t cases[][3] = {{0, 5, 5}, {3, 0, 4}, {1, 1, 1}, {1, 64, 64}, {128, 10, 10}, {77, 8, 16}, {33, 8, 11}, {5, 1000, 1000}, {3001, 16, 16},
        {2000, 3, 3}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_colsum(cases[i][0], cases[i][1], cases[i][2]);
}

int main(void)
{
    const int status = cudatest_begin();
    if (status)
        return status;
    FOR_ELEMENTS {
        test_sums();
        test_off_alignment();
        test_binary_bwd();
        test_binary_bwd_off_alignment();
        test_colsum();
    }
    cuda = cuda_fp32;
    test_long_sum();
    return cudatest_end();
}
