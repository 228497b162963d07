/* kernels/augment.h: the CUDA half against the CPU half. */
#include "cudacases.h"
#include "kernels/augment.h"

#define N_IMAGES 5
#define MOST_SAMPLES 8

static int32_t below(int64_t n)
{
    return (int32_t)(papa_rng_double(&rng) * (double)n);
}

/* Odd samples are cropped, some beyond the image; even ones resized. Every second pair flips; some are erased. */
static PapaSamplePlan some_plan(int i, const PapaImageFormat *f)
{
    PapaSamplePlan p = {.source = (uint32_t)below(N_IMAGES), .flip = i / 2 % 2};
    if (i % 2) {
        p.height = (int32_t)f->H, p.width = (int32_t)f->W;
        p.top = below(f->source_height) - (int32_t)f->H / 2, p.left = below(f->source_width) - (int32_t)f->W / 2;
    } else {
        p.height = 1 + below(f->source_height), p.width = 1 + below(f->source_width);
        p.top = below(f->source_height - p.height + 1), p.left = below(f->source_width - p.width + 1);
    }
    if (i % 3 == 0) {
        p.erase_height = below(f->H + 1), p.erase_width = below(f->W + 1);
        p.erase_top = below(f->H - p.erase_height + 1), p.erase_left = below(f->W - p.erase_width + 1);
    }
    return p;
}

static PapaBatchPlan some_mix(PapaMix mix, const PapaImageFormat *f)
{
    PapaBatchPlan p = {.mix = mix, .lambda = .3f, .smoothing = .1f};
    if (mix == PAPA_MIX_CUT) {
        p.height = below(f->H + 1), p.width = below(f->W + 1);
        p.top = below(f->H - p.height + 1), p.left = below(f->W - p.width + 1);
    }
    return p;
}

static PapaImageFormat format_of(int64_t source_height, int64_t source_width, int64_t C, int64_t H, int64_t W, bool channels_last)
{
    PapaImageFormat f = {.source_height = source_height, .source_width = source_width, .C = C, .H = H, .W = W, .channels_last = channels_last};
    for (int c = 0; c < PAPA_MAX_CHANNELS; c++)
        f.scale[c] = 1.f / (60.f + (float)c), f.shift[c] = -1.5f - .1f * (float)c;
    return f;
}

static void test_images(int64_t N, PapaImageFormat f, PapaMix mix)
{
    PapaSamplePlan plans[MOST_SAMPLES];
    const PapaBatchPlan batch = some_mix(mix, &f);
    const size_t bytes = (size_t)(N_IMAGES * f.source_height * f.source_width * f.C);
    uint8_t *images = malloc(bytes + 1);
    for (int64_t i = 0; i < N; i++)
        plans[i] = some_plan((int)i, &f);
    for (size_t i = 0; i < bytes; i++)
        images[i] = (uint8_t)below(256);
    void *device_images = raw_device(images, bytes), *device_plans = raw_device(plans, (size_t)N * sizeof *plans);
    void *device_batch = raw_device(&batch, sizeof batch);
    Array *x = out_reals(N * f.C * f.H * f.W, false), *again = out_reals(x->n, false);
    must(papa_augment_images_cpu(cpu, x->host, images, plans, &batch, N, f));
    must(papa_augment_images_cuda(cuda, x->device, device_images, device_plans, device_batch, N, f));
    must(papa_augment_images_cuda(cuda, again->device, device_images, device_plans, device_batch, N, f));
    /* A position in the image is rounded to 1/2^18 of a pixel, and two neighbours differ by up to 255 / 60. */
    check_same("x", x, 2e-5);
    check_repeated("x", x, again);
    papa_device_free(cuda, device_images);
    papa_device_free(cuda, device_plans);
    papa_device_free(cuda, device_batch);
    free(images);
    free_arrays();
}

/* A sample that is its own partner is mixed with itself: unchanged, to the last bit. */
static void test_own_partner(void)
{
    const PapaImageFormat f = format_of(13, 17, 3, 11, 12, true);
    const PapaSamplePlan plan = some_plan(2, &f);
    const PapaBatchPlan batches[] = {some_mix(PAPA_MIX_NONE, &f), some_mix(PAPA_MIX_UP, &f)};
    uint8_t images[N_IMAGES * 13 * 17 * 3];
    for (size_t i = 0; i < sizeof images; i++)
        images[i] = (uint8_t)below(256);
    Array *x[] = {out_reals(11 * 12 * 3, false), out_reals(11 * 12 * 3, false)};
    void *device_images = raw_device(images, sizeof images), *device_plan = raw_device(&plan, sizeof plan);
    void *device_batches = raw_device(batches, sizeof batches);
    for (int i = 0; i < 2; i++)
        must(papa_augment_images_cuda(cuda, x[i]->device, device_images, device_plan, (const PapaBatchPlan *)device_batches + i, 1, f));
    check_repeated("mixed with itself", x[0], x[1]);
    papa_device_free(cuda, device_images);
    papa_device_free(cuda, device_plan);
    papa_device_free(cuda, device_batches);
    free_arrays();
}

static void test_targets(int64_t N, int64_t C, PapaMix mix)
{
    PapaSamplePlan plans[MOST_SAMPLES];
    const PapaImageFormat f = format_of(8, 8, 1, 8, 8, true);
    const PapaBatchPlan batch = some_mix(mix, &f);
    int32_t labels[N_IMAGES];
    for (int i = 0; i < N_IMAGES; i++)
        labels[i] = below(C);
    for (int64_t i = 0; i < N; i++)
        plans[i] = some_plan((int)i, &f);
    void *device_labels = raw_device(labels, sizeof labels), *device_plans = raw_device(plans, (size_t)N * sizeof *plans);
    void *device_batch = raw_device(&batch, sizeof batch);
    Array *targets = out_floats(N * C, false);
    must(papa_augment_targets_cpu(cpu, targets->host, labels, plans, &batch, N, C));
    must(papa_augment_targets_cuda(cuda, targets->device, device_labels, device_plans, device_batch, N, C));
    check_same("targets", targets, 1e-7);
    papa_device_free(cuda, device_labels);
    papa_device_free(cuda, device_plans);
    papa_device_free(cuda, device_batch);
    free_arrays();
}

int main(void)
{
    int status = cudatest_begin();
    if (status)
        return status;
    FOR_ELEMENTS
    {
        for (int mix = PAPA_MIX_NONE; mix <= PAPA_MIX_CUT; mix++)
            for (int C = 1; C <= PAPA_MAX_CHANNELS; C++)
                for (int last = 0; last < 2; last++) {
                    test_images(7, format_of(13, 17, C, 11, 12, last), (PapaMix)mix); /* the middle one is its own partner */
                    test_images(8, format_of(20, 9, C, 19, 23, last), (PapaMix)mix);  /* more than a block of pixels */
                }
        test_own_partner();
        test_images(0, format_of(4, 4, 3, 4, 4, true), PAPA_MIX_NONE);
        test_images(1, format_of(1, 1, 3, 1, 1, true), PAPA_MIX_UP);
    }
    cuda = cuda_fp32;
    for (int mix = PAPA_MIX_NONE; mix <= PAPA_MIX_CUT; mix++) {
        test_targets(7, 10, (PapaMix)mix);
        test_targets(8, 1000, (PapaMix)mix);
        test_targets(1, 1, (PapaMix)mix);
        test_targets(0, 10, (PapaMix)mix);
    }
    return cudatest_end();
}
