/* kernels/mix.h: the CUDA half against the CPU half. */
#include "cudacases.h"
#include "kernels/mix.h"

/* p arrays of n in one, each aligned to 64 bytes, the last one up against the end. */
typedef struct Members {
    Array *all;
    float *host[PAPA_MIX_MAX], *device[PAPA_MIX_MAX];
} Members;

static Members members_of(int p, int64_t n)
{
    const int64_t stride = (n + 15) / 16 * 16;
    Members m = {.all = floats(n ? (p - 1) * stride + n : 0, -1, 1)};
    for (int j = 0; j < p; j++)
        m.host[j] = m.all->host + j * stride, m.device[j] = (float *)m.all->device + j * stride;
    return m;
}

/* cut: in two calls. */
static void pull(const Members *m, int p, float by, int64_t n, int64_t cut)
{
    const PapaMixNumbers numbers = {.pull = by};
    void *device_numbers = raw_device(&numbers, sizeof numbers);
    float *rest[PAPA_MIX_MAX];
    for (int j = 0; j < p; j++)
        rest[j] = m->device[j] + cut;
    must(papa_mix_pull_cuda(cuda, m->device, p, device_numbers, cut ? cut : n));
    if (cut)
        must(papa_mix_pull_cuda(cuda, rest, p, device_numbers, n - cut));
    papa_device_free(cuda, device_numbers);
}

static void test_pull(int p, int64_t n)
{
    Members m = members_of(p, n);
    must(papa_mix_pull_cpu(cpu, m.host, p, &(PapaMixNumbers){.pull = .2f}, n));
    pull(&m, p, .2f, n, 0);
    check_same("members", m.all, 3e-7); /* what lies between two members was left alone, too */
    free_arrays();
}

/* All the way, where a mean that is off by one bit shows. */
static void test_pull_equal(int p, int64_t n)
{
    Members m = members_of(p, n);
    for (int j = 1; j < p; j++)
        memcpy(m.host[j], m.host[0], (size_t)n * sizeof(float));
    upload_again(m.all);
    for (int j = 0, stride = (int)((n + 15) / 16 * 16); j < p; j++)
        m.device[j] = (float *)m.all->device + j * stride;
    pull(&m, p, 1, n, 0);
    check_equal("equal members", m.all);
    free_arrays();
}

static void test_pull_cut(int p)
{
    const int64_t n = 2 * PAPA_MIX_BLOCK + 5;
    Members whole = members_of(p, n), halves = members_of(p, n);
    must(papa_device_copy(cuda, halves.all->device, whole.all->device, (size_t)whole.all->n * sizeof(float)));
    pull(&whole, p, .2f, n, 0);
    pull(&halves, p, .2f, n, PAPA_MIX_BLOCK);
    check_repeated("members in two calls", whole.all, halves.all);
    free_arrays();
}

/* into: -1: apart; else over one of the sources. */
static void test_mean(int p, int64_t n, bool even, int into)
{
    Members m = members_of(p, n);
    Array *to = out_floats(n, false);
    double weights[PAPA_MIX_MAX];
    for (int j = 0; j < p; j++)
        weights[j] = papa_rng_double(&rng) * 4 / p - .5 / p;
    float *host = into < 0 ? to->host : m.host[into], *device = into < 0 ? to->device : m.device[into];
    must(papa_mix_mean_cpu(cpu, host, (const float *const *)m.host, even ? NULL : weights, p, n));
    must(papa_mix_mean_cuda(cuda, device, (const float *const *)m.device, even ? NULL : weights, p, n));
    check_same("mean", to, 1e-7); /* doubles, rounded once: a neighbour at most */
    check_same("sources", m.all, 1e-7);
    free_arrays();
}

/* Values that doubles hold and floats don't: 2^25 + 1 - 2^25. */
static void test_mean_in_double(void)
{
    Members m = members_of(3, 8);
    Array *to = out_floats(8, false);
    for (int64_t i = 0; i < 8; i++)
        m.host[0][i] = 33554432.f, m.host[1][i] = 1, m.host[2][i] = -33554432.f;
    upload_again(m.all);
    for (int j = 0; j < 3; j++)
        m.device[j] = (float *)m.all->device + 16 * j;
    must(papa_mix_mean_cpu(cpu, to->host, (const float *const *)m.host, (double[]){1, 1, 1}, 3, 8));
    must(papa_mix_mean_cuda(cuda, to->device, (const float *const *)m.device, (double[]){1, 1, 1}, 3, 8));
    CHECK(to->host[5] == 1, "%g", (double)to->host[5]);
    check_equal("mean", to);
    free_arrays();
}

int main(void)
{
    static const int ps[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 20, PAPA_MIX_MAX};
    static const int64_t ns[] = {0, 1, 3, 4, 259, 3001};
    int status = cudatest_begin();
    if (status)
        return status;
    for (size_t i = 0; i < sizeof ps / sizeof *ps; i++) {
        for (size_t k = 0; k < sizeof ns / sizeof *ns; k++) {
            test_pull(ps[i], ns[k]);
            test_mean(ps[i], ns[k], k % 2, -1);
        }
        test_mean(ps[i], 259, false, ps[i] - 1);
        test_pull_equal(ps[i], 259);
    }
    test_pull(2, 70001); /* more than the emulated GPU's grid takes at a time */
    test_pull(9, 70001);
    test_mean(3, 70001, false, 1);
    test_pull_cut(3);
    test_pull_cut(11);
    test_mean_in_double();
    return cudatest_end();
}
