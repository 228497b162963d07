/* Augmentation: the kernel against hand-computed batches and against a slow reference; the draws against their
 * distributions; and that a draw depends on nothing but its name. */
#include "check.h"
#include "data/recipe.h"

#include <stdlib.h>

static PapaDevice device = {.kind = PAPA_CPU, .n_threads = 1};

#define CHECK_FLOATS(got, ...)                                                                                        \
    do {                                                                                                              \
        const float check_want_[] = {__VA_ARGS__};                                                                    \
        for (size_t check_i_ = 0; check_i_ < sizeof check_want_ / sizeof *check_want_; check_i_++)                    \
            CHECK(fabsf((got)[check_i_] - check_want_[check_i_]) <= 1e-6f * (1 + fabsf(check_want_[check_i_])),       \
                "value %zu is %g, not %g", check_i_, (got)[check_i_], check_want_[check_i_]);                         \
    } while (0)

/* pixel p becomes p + 100, so that black (100) and erased (0) can be told apart. */
static PapaImageFormat plus_100(int64_t C, int64_t source_height, int64_t source_width, int64_t H, int64_t W, bool channels_last)
{
    PapaImageFormat f = {
        .source_height = source_height, .source_width = source_width, .C = C, .H = H, .W = W, .channels_last = channels_last};
    for (int c = 0; c < PAPA_MAX_CHANNELS; c++) {
        f.scale[c] = 1;
        f.shift[c] = 100;
    }
    return f;
}

static void images(float *x, const uint8_t *source, const PapaSamplePlan *plans, const PapaBatchPlan *batch, int64_t N, PapaImageFormat f)
{
    CHECK_OK(papa_augment_images_cpu(&device, x, source, plans, batch, N, f));
}

static void targets(float *t, const int32_t *labels, const PapaSamplePlan *plans, const PapaBatchPlan *batch, int64_t N, int64_t C)
{
    CHECK_OK(papa_augment_targets_cpu(&device, t, labels, plans, batch, N, C));
}

/* ---------------------------------------------------------------- by hand */

static const uint8_t nine[] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
static const PapaBatchPlan unmixed = {.lambda = 1};

static void plain_and_flipped(void)
{
    float x[9];
    PapaSamplePlan plan = {.height = 3, .width = 3};
    images(x, nine, &plan, &unmixed, 1, plus_100(1, 3, 3, 3, 3, true));
    CHECK_FLOATS(x, 101, 102, 103, 104, 105, 106, 107, 108, 109);
    plan.flip = 1;
    images(x, nine, &plan, &unmixed, 1, plus_100(1, 3, 3, 3, 3, true));
    CHECK_FLOATS(x, 103, 102, 101, 106, 105, 104, 109, 108, 107);
}

static void shifted(void)
{
    float x[9];
    PapaSamplePlan plan = {.height = 3, .width = 3, .top = -1, .left = 1};
    images(x, nine, &plan, &unmixed, 1, plus_100(1, 3, 3, 3, 3, true));
    CHECK_FLOATS(x, 100, 100, 100, 102, 103, 100, 105, 106, 100);
    plan.flip = 1; /* first cropped, then flipped */
    images(x, nine, &plan, &unmixed, 1, plus_100(1, 3, 3, 3, 3, true));
    CHECK_FLOATS(x, 100, 100, 100, 100, 103, 102, 100, 106, 105);
    plan = (PapaSamplePlan){.height = 3, .width = 3, .top = 2, .left = -2};
    images(x, nine, &plan, &unmixed, 1, plus_100(1, 3, 3, 3, 3, true));
    CHECK_FLOATS(x, 100, 100, 107, 100, 100, 100, 100, 100, 100);
    plan = (PapaSamplePlan){.height = 3, .width = 3, .left = 3}; /* beside the image */
    images(x, nine, &plan, &unmixed, 1, plus_100(1, 3, 3, 3, 3, true));
    CHECK_FLOATS(x, 100, 100, 100, 100, 100, 100, 100, 100, 100);
    plan.left = -7;
    images(x, nine, &plan, &unmixed, 1, plus_100(1, 3, 3, 3, 3, true));
    CHECK_FLOATS(x, 100, 100, 100, 100, 100, 100, 100, 100, 100);
    plan = (PapaSamplePlan){.height = 2, .width = 2, .top = 1, .left = 1}; /* a smaller output */
    images(x, nine, &plan, &unmixed, 1, plus_100(1, 3, 3, 2, 2, true));
    CHECK_FLOATS(x, 105, 106, 108, 109);
}

/* Two pixels to four: centres at -1/4 (clamped), 1/4, 3/4, 5/4 (clamped); rows alike. */
static void resized(void)
{
    float x[16];
    const uint8_t source[] = {0, 40, 99, 80, 120, 99, 99, 99, 99};
    PapaSamplePlan plan = {.height = 2, .width = 2};
    images(x, source, &plan, &unmixed, 1, plus_100(1, 3, 3, 4, 4, true));
    CHECK_FLOATS(x, 100, 110, 130, 140, 120, 130, 150, 160, 160, 170, 190, 200, 180, 190, 210, 220);
    plan.flip = 1;
    images(x, source, &plan, &unmixed, 1, plus_100(1, 3, 3, 4, 4, true));
    CHECK_FLOATS(x, 140, 130, 110, 100, 160, 150, 130, 120);
    plan = (PapaSamplePlan){.height = 1, .width = 3}; /* one line is repeated, three columns at -1/8, 5/8, 11/8, 17/8 */
    images(x, nine, &plan, &unmixed, 1, plus_100(1, 3, 3, 4, 4, true));
    CHECK_FLOATS(x, 101, 101.625f, 102.375f, 103, 101, 101.625f, 102.375f, 103);
    plan = (PapaSamplePlan){.height = 3, .width = 1, .left = 2};
    images(x, nine, &plan, &unmixed, 1, plus_100(1, 3, 3, 4, 4, true));
    CHECK_FLOATS(x, 103, 103, 103, 103, 104.875f);
}

/* Black is normalised, erased pixels are zero afterwards; each channel has its own numbers; both orders of axes. */
static void normalised_and_erased(void)
{
    float x[12];
    const uint8_t source[] = {0, 51, 102, 153, 204, 255, 255, 0, 51, 51, 102, 0};
    const double mean[] = {.5, .2, .1}, std[] = {.5, .1, .2};
    PapaImageFormat f;
    PapaSamplePlan plan = {.height = 2, .width = 2, .left = -1, .erase_top = 1, .erase_height = 1, .erase_width = 1};
    papa_image_format(&f, (PapaImageSize){3, 2, 2}, true, mean, std);
    CHECK(f.C == 3 && f.H == 2 && f.W == 2 && f.source_height == 2 && f.source_width == 2 && f.channels_last);
    images(x, source, &plan, &unmixed, 1, f);
    CHECK_FLOATS(x, -1, -2, -.5f, -1, 0, 1.5f, 0, 0, 0, 1, -2, .5f);
    papa_image_format(&f, (PapaImageSize){3, 2, 2}, false, mean, std);
    images(x, source, &plan, &unmixed, 1, f);
    CHECK_FLOATS(x, -1, -1, 0, 1, -2, 0, 0, -2, -.5f, 1.5f, 0, .5f);
    plan = (PapaSamplePlan){
        .height = 2, .width = 2, .flip = 1, .erase_left = 1, .erase_height = 2, .erase_width = 1}; /* erased after the flip */
    images(x, source, &plan, &unmixed, 1, f);
    CHECK_FLOATS(x, .2f, 0, -.6f, 0, 6, 0, 2, 0, 4.5f, 0, -.5f, 0);
}

/* Three samples: the outer two mix with each other, the middle one with itself. Labels follow. */
static void mixed(void)
{
    float x[9], t[9];
    const uint8_t source[] = {10, 20, 30, 0, 0, 0, 110, 120, 130};
    const int32_t labels[] = {2, 1, 0};
    PapaImageFormat f = plus_100(1, 1, 3, 1, 3, true);
    PapaSamplePlan plans[3];
    for (uint32_t i = 0; i < 3; i++)
        papa_plain_sample(&plans[i], &f, 2 - i); /* sources in reverse: 110.., 0.., 10.. */
    plans[2].flip = 1;
    PapaBatchPlan up = {.mix = PAPA_MIX_UP, .lambda = .75f, .smoothing = .3f};
    images(x, source, plans, &up, 3, f);
    CHECK_FLOATS(x, 190, 195, 200, 100, 100, 100, 150, 145, 140);
    targets(t, labels, plans, &up, 3, 3);
    CHECK_FLOATS(t, .1f + .525f, .1f, .1f + .175f, .1f, .8f, .1f, .1f + .175f, .1f, .1f + .525f);

    PapaBatchPlan cut = {.mix = PAPA_MIX_CUT, .lambda = 2.f / 3, .left = 2, .height = 1, .width = 1};
    images(x, source, plans, &cut, 3, f);
    CHECK_FLOATS(x, 210, 220, 110, 100, 100, 100, 130, 120, 230);
    targets(t, labels, plans, &cut, 3, 3);
    CHECK_FLOATS(t, 2.f / 3, 0, 1.f / 3, 0, 1, 0, 1.f / 3, 0, 2.f / 3);

    PapaBatchPlan none = {.mix = PAPA_MIX_NONE, .lambda = .5f};
    targets(t, labels, plans, &none, 3, 3);
    CHECK_FLOATS(t, 1, 0, 0, 0, 1, 0, 0, 0, 1);
    images(x, source, plans, &none, 0, f); /* an empty batch */
    targets(t, labels, plans, &none, 0, 3);
}

/* ---------------------------------------------------------------- against a reference that takes no short cuts */

static double source_pixel(const uint8_t *image, const PapaImageFormat *f, int64_t y, int64_t x, int64_t c)
{
    bool inside = y >= 0 && y < f->source_height && x >= 0 && x < f->source_width;
    return inside ? image[(y * f->source_width + x) * f->C + c] : 0;
}

static double reference_unmixed(const uint8_t *all, const PapaSamplePlan *p, const PapaImageFormat *f, int64_t y, int64_t x, int64_t c)
{
    const uint8_t *image = all + p->source * f->source_height * f->source_width * f->C;
    double value;
    if (y >= p->erase_top && y < p->erase_top + p->erase_height && x >= p->erase_left && x < p->erase_left + p->erase_width)
        return 0;
    x = p->flip ? f->W - 1 - x : x;
    if (p->height == f->H && p->width == f->W)
        value = source_pixel(image, f, p->top + y, p->left + x, c);
    else {
        double sy = fmin(fmax(((double)y + .5) * p->height / (double)f->H - .5, 0), p->height - 1),
               sx = fmin(fmax(((double)x + .5) * p->width / (double)f->W - .5, 0), p->width - 1);
        double wy = sy - floor(sy), wx = sx - floor(sx);
        int64_t y0 = p->top + (int64_t)floor(sy), x0 = p->left + (int64_t)floor(sx), y1 = p->top + (int64_t)ceil(sy),
                x1 = p->left + (int64_t)ceil(sx);
        value = (1 - wy) * ((1 - wx) * source_pixel(image, f, y0, x0, c) + wx * source_pixel(image, f, y0, x1, c)) +
                wy * ((1 - wx) * source_pixel(image, f, y1, x0, c) + wx * source_pixel(image, f, y1, x1, c));
    }
    return value * (double)f->scale[c] + (double)f->shift[c];
}

static void one_reference_batch(const PapaRecipe *recipe, PapaImageFormat f, int64_t N, uint64_t seed)
{
    int64_t size = f.C * f.H * f.W, source_size = f.C * f.source_height * f.source_width;
    float *x = malloc((size_t)(N * size) * sizeof *x);
    uint8_t *source = malloc((size_t)(N * source_size)); /* exact, so that a sanitizer sees a read beyond */
    PapaSamplePlan *plans = malloc((size_t)N * sizeof *plans);
    PapaBatchPlan batch;
    for (int64_t i = 0; i < N * source_size; i++)
        source[i] = (uint8_t)((i * 7919 + i * i * 31) >> 3);
    for (int64_t i = 0; i < N; i++)
        papa_recipe_sample(&plans[i], recipe, &f, (uint32_t)(i * 5 % N), seed, 0, 0, i);
    papa_recipe_batch(&batch, recipe, &f, seed, 0, 3);
    images(x, source, plans, &batch, N, f);
    double worst = 0;
    for (int64_t i = 0; i < N; i++)
        for (int64_t y = 0; y < f.H; y++)
            for (int64_t u = 0; u < f.W; u++)
                for (int64_t c = 0; c < f.C; c++) {
                    double own = reference_unmixed(source, &plans[i], &f, y, u, c),
                           other = reference_unmixed(source, &plans[N - 1 - i], &f, y, u, c);
                    bool cut = y >= batch.top && y < batch.top + batch.height && u >= batch.left && u < batch.left + batch.width;
                    double want = batch.mix == PAPA_MIX_CUT && cut ? other : own;
                    if (batch.mix == PAPA_MIX_UP)
                        want = (double)batch.lambda * own + (1 - (double)batch.lambda) * other;
                    int64_t at = f.channels_last ? (y * f.W + u) * f.C + c : (c * f.H + y) * f.W + u;
                    worst = fmax(worst, fabs((double)x[i * size + at] - want));
                }
    CHECK(worst < 2e-5, "%lldx%lldx%lld, batch %lld, mix %d: off by %g", (long long)f.C, (long long)f.H, (long long)f.W,
        (long long)N, batch.mix, worst);
    free(x);
    free(source);
    free(plans);
}

static void against_reference(void)
{
    static const PapaRecipe recipes[] = {
        {0},
        {.flip = true},
        {.crop = 2, .flip = true, .erasing = 1},
        {.random_resized_crop = true, .flip = true, .erasing = .5f},
        {.crop = 4, .flip = true, .mixup = 1, .erasing = .5f},
        {.random_resized_crop = true, .cutmix = 1, .erasing = .5f},
        {.mixup = .5f, .cutmix = .5f},
    };
    static const int64_t shapes[][4] = {
        {1, 1, 1, 1}, {1, 7, 5, 1}, {3, 5, 7, 1}, {3, 16, 16, 8}, {2, 6, 33, 5}, {4, 9, 8, 2}, {1, 28, 28, 6}};
    const double mean[] = {.5, .4, .3, .2}, std[] = {.2, .25, .3, .35};
    for (size_t r = 0; r < sizeof recipes / sizeof *recipes; r++)
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
            for (int last = 0; last < 2; last++) {
                PapaImageFormat f;
                papa_image_format(&f, (PapaImageSize){shapes[s][0], shapes[s][1], shapes[s][2]}, last, mean, std);
                one_reference_batch(&recipes[r], f, shapes[s][3], 10 * r + s);
                if (f.H > 4 && f.W > 4) { /* a batch smaller than the stored images */
                    f.H -= 2;
                    f.W -= 3;
                    one_reference_batch(&recipes[r], f, shapes[s][3], 10 * r + s);
                }
            }
}

/* ---------------------------------------------------------------- the draws */

#define N_DRAWS 20000

static PapaImageFormat square(int64_t side)
{
    return plus_100(1, side, side, side, side, true);
}

static PapaSamplePlan draw(const PapaRecipe *recipe, const PapaImageFormat *f, int64_t position)
{
    PapaSamplePlan plan;
    papa_recipe_sample(&plan, recipe, f, 0, 1, 0, 0, position);
    return plan;
}

/* Each of the 81 offsets of a pad-4 crop equally often: 247 expected, standard deviation 16; each side half of the time. */
static void draws_of_crop_and_flip(void)
{
    int counts[9][9] = {0}, flips = 0;
    PapaImageFormat f = square(32);
    PapaRecipe recipe = {.crop = 4, .flip = true};
    for (int i = 0; i < N_DRAWS; i++) {
        PapaSamplePlan plan = draw(&recipe, &f, i);
        CHECK(plan.top >= -4 && plan.top <= 4 && plan.left >= -4 && plan.left <= 4 && plan.height == 32 && plan.width == 32 &&
            !plan.erase_height);
        counts[plan.top + 4][plan.left + 4]++;
        flips += plan.flip;
    }
    for (int y = 0; y < 9; y++)
        for (int x = 0; x < 9; x++)
            CHECK(abs(counts[y][x] - 247) < 75, "offset %d %d came %d times", y - 4, x - 4, counts[y][x]);
    CHECK(abs(flips - N_DRAWS / 2) < 4 * 71, "%d flips", flips);
}

/* Area uniform on .08 to 1 and log-uniform aspect, except that what does not fit is drawn again: then large areas are rarer. In
 * numbers: P(area < .4) from the uniform area alone is .348; boxes with area a <= 3/4 always fit (sides <= sqrt(a * 4/3) <= 1). */
static void draws_of_resized_crop(void)
{
    PapaImageFormat f = square(200);
    PapaRecipe recipe = {.random_resized_crop = true};
    int small = 0, middle = 0, wide = 0;
    double left = 0, slack = 0;
    for (int i = 0; i < N_DRAWS; i++) {
        PapaSamplePlan p = draw(&recipe, &f, i);
        double area = p.height * p.width / 40000., aspect = (double)p.width / p.height;
        CHECK(p.top >= 0 && p.left >= 0 && p.top + p.height <= 200 && p.left + p.width <= 200, "box outside of the image");
        CHECK(area > .078 && area <= 1 && aspect > .73 && aspect < 1.36, "area %g, aspect %g", area, aspect);
        small += area < .2;
        middle += area >= .2 && area < .6;
        wide += aspect > 1;
        left += p.left;
        slack += 200 - p.width;
    }
    CHECK_NEAR((double)small / middle, .12 / .4, .02); /* uniform where all fits */
    CHECK_NEAR((double)wide / N_DRAWS, .5, .02);
    CHECK_NEAR(left / slack, .5, .02);
    f = plus_100(1, 4, 100, 4, 100, true); /* nothing fits: the centred box of the widest aspect */
    int fallbacks = 0;
    for (int i = 0; i < 1000; i++) {
        PapaSamplePlan p = draw(&recipe, &f, i);
        fallbacks += p.height == 4 && p.width == 5 && p.left == 47 && p.top == 0;
        CHECK(p.width <= 5 && p.height <= 4);
    }
    CHECK(fallbacks > 500, "%d", fallbacks);
}

/* Probability; area's mean (.02 + 1/3) / 2, standard deviation .0905; log aspect's mean and spread. */
static void draws_of_erasing(void)
{
    PapaImageFormat f = square(100);
    PapaRecipe recipe = {.erasing = .35f};
    int n = 0;
    double area = 0, log_aspect = 0, log_squares = 0, low = 1, high = 0;
    for (int i = 0; i < N_DRAWS; i++) {
        PapaSamplePlan p = draw(&recipe, &f, i);
        CHECK(p.erase_top >= 0 && p.erase_left >= 0 && p.erase_top + p.erase_height <= 100 && p.erase_left + p.erase_width <= 100);
        if (!p.erase_height)
            continue;
        double a = p.erase_height * p.erase_width / 10000., l = log((double)p.erase_width / p.erase_height);
        n++;
        area += a;
        low = fmin(low, a);
        high = fmax(high, a);
        log_aspect += l;
        log_squares += l * l;
    }
    double spread = log(3.3 / .3), centre = log(3.3 * .3) / 2;
    CHECK_NEAR((double)n / N_DRAWS, .35, 4 * sqrt(.35 * .65 / N_DRAWS));
    CHECK_NEAR(area / n, (.02 + 1. / 3) / 2, .006);
    CHECK(low > .017 && low < .022 && high < .345 && high > .32, "areas from %g to %g", low, high);
    /* Area 1/3 with aspect 3.3 is 105 wide and drawn again, so that the spread is a little less than uniform. */
    CHECK_NEAR(log_aspect / n, centre, .03);
    CHECK_NEAR(log_squares / n - log_aspect / n * log_aspect / n, spread * spread / 12, .02);
    recipe.erasing = 1;
    for (int i = 0; i < 1000; i++)
        CHECK(draw(&recipe, &f, i).erase_height > 0);
}

/* Beta(a, a) has mean 1/2 and variance 1 / (4 (2a + 1)). */
static void draws_of_mixup(void)
{
    static const float alphas[] = {.1f, .5f, 1, 4};
    PapaImageFormat f = square(32);
    for (size_t k = 0; k < 4; k++) {
        PapaRecipe recipe = {.mixup = alphas[k], .smoothing = .1f};
        double sum = 0, squares = 0;
        for (int i = 0; i < N_DRAWS; i++) {
            PapaBatchPlan b;
            papa_recipe_batch(&b, &recipe, &f, 1, 0, i);
            CHECK(b.mix == PAPA_MIX_UP && b.lambda >= 0 && b.lambda <= 1 && b.smoothing == .1f);
            sum += (double)b.lambda;
            squares += (double)b.lambda * (double)b.lambda;
        }
        double mean = sum / N_DRAWS, variance = 1 / (4 * (2 * (double)alphas[k] + 1));
        CHECK_NEAR(mean, .5, 4 * sqrt(variance / N_DRAWS));
        CHECK_NEAR((squares / N_DRAWS - mean * mean) / variance, 1, .04);
    }
}

/* lambda is the area kept; before the border cuts the box, half of them have sides of at least sqrt(1/2) of the image's. */
static void draws_of_cutmix(void)
{
    PapaImageFormat f = plus_100(1, 100, 50, 100, 50, true);
    PapaRecipe recipe = {.cutmix = 1}, both = {.cutmix = 1, .mixup = 1}, none = {.smoothing = .2f};
    PapaBatchPlan b;
    int cuts = 0, empty = 0;
    double kept = 0;
    for (int i = 0; i < N_DRAWS; i++) {
        papa_recipe_batch(&b, &recipe, &f, 1, 0, i);
        CHECK(b.mix == PAPA_MIX_CUT && b.top >= 0 && b.left >= 0 && b.height >= 0 && b.width >= 0 && b.top + b.height <= 100 &&
            b.left + b.width <= 50);
        CHECK_NEAR((double)b.lambda, 1 - b.height * b.width / 5000., 1e-6);
        kept += (double)b.lambda;
        empty += !b.height;
        papa_recipe_batch(&b, &both, &f, 1, 0, i);
        cuts += b.mix == PAPA_MIX_CUT;
    }
    /* A side s in [0, 1] around a uniform centre keeps s - s^2/4 of the axis; E over s^2 uniform of its square:
     * E[s^2 - s^3/2 + s^4/16] = 1/2 - 1/5 + 1/48; rounding down to even pixels takes a little more. */
    CHECK_NEAR(kept / N_DRAWS, 1 - (.5 - .2 + 1. / 48), .012);
    CHECK(empty < N_DRAWS / 100);
    CHECK(abs(cuts - N_DRAWS / 2) < 4 * 71, "%d of the batches cut", cuts);
    papa_recipe_batch(&b, &none, &f, 1, 0, 0);
    CHECK(b.mix == PAPA_MIX_NONE && b.lambda == 1 && b.smoothing == .2f);
}

/* Same name, same draw; every part of the name matters; switching on erasing leaves crop and flip as they were. */
static void draws_by_name(void)
{
    PapaImageFormat f = square(64);
    PapaRecipe recipe = {.crop = 30, .flip = true}, erasing = {.crop = 30, .flip = true, .erasing = 1}, mix = {.mixup = 1};
    PapaSamplePlan a, b, others[4];
    papa_recipe_sample(&a, &recipe, &f, 9, 5, 1, 2, 3);
    papa_recipe_sample(&b, &recipe, &f, 9, 5, 1, 2, 3);
    CHECK(!memcmp(&a, &b, sizeof a) && a.source == 9);
    papa_recipe_sample(&others[0], &recipe, &f, 9, 6, 1, 2, 3);
    papa_recipe_sample(&others[1], &recipe, &f, 9, 5, 2, 2, 3);
    papa_recipe_sample(&others[2], &recipe, &f, 9, 5, 1, 3, 3);
    papa_recipe_sample(&others[3], &recipe, &f, 9, 5, 1, 2, 4);
    for (int i = 0; i < 4; i++)
        CHECK(memcmp(&a, &others[i], sizeof a) != 0, "draw %d", i);
    papa_recipe_sample(&b, &erasing, &f, 9, 5, 1, 2, 3);
    CHECK(a.top == b.top && a.left == b.left && a.flip == b.flip && b.erase_height > 0);
    PapaBatchPlan p, q;
    papa_recipe_batch(&p, &mix, &f, 5, 1, 3);
    papa_recipe_batch(&q, &mix, &f, 5, 1, 3);
    CHECK(!memcmp(&p, &q, sizeof p));
    papa_recipe_batch(&q, &mix, &f, 5, 1, 4);
    CHECK(p.lambda != q.lambda);
    papa_recipe_batch(&q, &mix, &f, 5, 2, 3);
    CHECK(p.lambda != q.lambda);
}

static void refused(void)
{
    PapaImageFormat f = square(32), large = plus_100(1, 28, 28, 32, 32, true);
    const struct {
        PapaRecipe recipe;
        const char *text;
    } table[] = {
        {{.crop = -1}, "padding is -1"},
        {{.crop = 4, .random_resized_crop = true}, "exclude"},
        {{.erasing = 1.5f}, "erasing is 1.5"},
        {{.erasing = NAN}, "erasing is"},
        {{.smoothing = 1}, "smoothing is 1"},
        {{.smoothing = -.1f}, "smoothing is -0.1"},
        {{.mixup = -1}, "mixup's alpha is -1"},
        {{.mixup = NAN}, "mixup"},
        {{.cutmix = INFINITY}, "CutMix's alpha is inf"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        CHECK_FAILS(papa_recipe_check(&table[i].recipe, &f), PAPA_ERR_ARGUMENT, table[i].text);
    CHECK_FAILS(papa_recipe_check(&(PapaRecipe){.crop = 1}, &large), PAPA_ERR_ARGUMENT, "smaller than the crop");
    CHECK_OK(papa_recipe_check(&(PapaRecipe){.crop = 2, .flip = true, .erasing = 1, .mixup = 2, .cutmix = .5f, .smoothing = .1f}, &large));
}

int main(void)
{
    plain_and_flipped();
    shifted();
    resized();
    normalised_and_erased();
    mixed();
    against_reference();
    draws_of_crop_and_flip();
    draws_of_resized_crop();
    draws_of_erasing();
    draws_of_mixup();
    draws_of_cutmix();
    draws_by_name();
    refused();
    return check_result();
}
