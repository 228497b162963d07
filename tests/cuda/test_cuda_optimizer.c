/* kernels/optimizer.h: the CUDA half against the CPU half. */
#include "cudacases.h"
#include "kernels/optimizer.h"

/* Lengths that leave 0 to 3 elements behind the last four, and where decay ends inside and between fours; the last is more than the emulated
 * GPU's grid takes at a time. */
static const int64_t lengths[][2] = {{0, 0}, {1, 1}, {3, 0}, {4, 4}, {5, 2}, {1023, 1000}, {1030, 1029}, {3000, 1501}, {70001, 68001}};
#define N_LENGTHS (sizeof lengths / sizeof *lengths)

static const PapaOptimizerNumbers numbers = {.lr = .1f, .correction1 = .271f, .root_correction2 = .0547f};

typedef struct Step {
    Array *w, *m, *v, *dw, *clip;
    void *numbers;
} Step;

static Step new_step(int64_t n, bool clipped)
{
    return (Step){.w = floats(n, -1, 1), .m = floats(n, -1, 1), .v = floats(n, 0, 1), .dw = floats(n, -1, 1), .clip = clipped ? floats(2, .3, .3) : NULL,
        .numbers = raw_device(&numbers, sizeof numbers)};
}

static void free_step(Step *s)
{
    papa_device_free(cuda, s->numbers);
    free_arrays();
}

static void test_sgd(int64_t n, int64_t n_decayed, bool clipped, PapaSgd set)
{
    Step s = new_step(n, clipped);
    Array *m = set.momentum == 0 ? NULL : s.m;
    for (int i = 0; i < 2; i++) {
        must(papa_optimizer_sgd_cpu(cpu, s.w->host, HOST(m), s.dw->host, (const PapaClip *)HOST(s.clip), &numbers, set, n_decayed, n));
        must(papa_optimizer_sgd_cuda(cuda, s.w->device, DEVICE(m), s.dw->device, DEVICE(s.clip), s.numbers, set, n_decayed, n));
    }
    check_same("w", s.w, 3e-7);
    check_same("m", s.m, 3e-7);
    free_step(&s);
}

static void test_adam(int64_t n, int64_t n_decayed, bool clipped, bool decoupled)
{
    const PapaAdam set = {.beta1 = .9f, .beta2 = .997f, .eps = 1e-4f, .weight_decay = .05f, .decoupled = decoupled};
    Step s = new_step(n, clipped);
    for (int i = 0; i < 2; i++) {
        must(papa_optimizer_adam_cpu(cpu, s.w->host, s.m->host, s.v->host, s.dw->host, (const PapaClip *)HOST(s.clip), &numbers, set, n_decayed, n));
        must(papa_optimizer_adam_cuda(cuda, s.w->device, s.m->device, s.v->device, s.dw->device, DEVICE(s.clip), s.numbers, set, n_decayed, n));
    }
    check_same("w", s.w, 1e-6);
    check_same("m", s.m, 3e-7);
    check_same("v", s.v, 3e-7);
    free_step(&s);
}

/* Sums in double, rounded once: the same norm. */
static void test_clip(int64_t n, float max_norm, float spoiled)
{
    Array *dw = floats(n, -1, 1), *clip = out_floats(2, false), *again = out_floats(2, false);
    const size_t bytes = (size_t)papa_clip_blocks(n) * sizeof(double);
    double *blocks = malloc(bytes + 1);
    void *device_blocks = raw_device(NULL, bytes);
    if (n && spoiled != 0) {
        dw->host[n / 2] = spoiled;
        upload_again(dw);
    }
    must(papa_optimizer_clip_cpu(cpu, (PapaClip *)clip->host, blocks, dw->host, max_norm, n));
    must(papa_optimizer_clip_cuda(cuda, clip->device, device_blocks, dw->device, max_norm, n));
    must(papa_optimizer_clip_cuda(cuda, again->device, device_blocks, dw->device, max_norm, n));
    check_equal("norm and scale", clip);
    check_repeated("norm and scale", clip, again);
    papa_device_free(cuda, device_blocks);
    free(blocks);
    free_arrays();
}

int main(void)
{
    int status = cudatest_begin();
    if (status)
        return status;
    for (size_t i = 0; i < N_LENGTHS; i++)
        for (int clipped = 0; clipped < 2; clipped++) {
            const int64_t n = lengths[i][0], n_decayed = lengths[i][1];
            test_sgd(n, n_decayed, clipped, (PapaSgd){.weight_decay = .05f});
            test_sgd(n, n_decayed, clipped, (PapaSgd){.momentum = .9f, .weight_decay = .05f});
            test_sgd(n, n_decayed, clipped, (PapaSgd){.momentum = .9f, .weight_decay = .05f, .nesterov = true});
            test_adam(n, n_decayed, clipped, false);
            test_adam(n, n_decayed, clipped, true);
        }
    static const int64_t clipped[] = {0, 1, 3, 4, 8191, PAPA_CLIP_BLOCK, 8193, 50001};
    for (size_t i = 0; i < sizeof clipped / sizeof *clipped; i++) {
        test_clip(clipped[i], .5f, 0);
        test_clip(clipped[i], 1e6f, 0);
        test_clip(clipped[i], .5f, NAN);
        test_clip(clipped[i], .5f, INFINITY);
        test_clip(clipped[i], 1, 1e30f);
    }
    return cudatest_end();
}
