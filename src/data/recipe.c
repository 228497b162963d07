/* The draws, as torchvision and timm define them. Each is taken only where its effect is on, geometry first, so that
 * switching on erasing leaves a sample's crop as it was. */
#include "data/recipe.h"

#include "base/rng.h"

#include <math.h>

#define ATTEMPTS 10

static bool in_unit(float p)
{
    return p >= 0 && p <= 1; /* false for NaN */
}

PapaStatus papa_recipe_check(const PapaRecipe *recipe, const PapaImageFormat *format)
{
    if (recipe->crop < 0 || recipe->crop > 1 << 20)
        return papa_fail(PAPA_ERR_ARGUMENT, "the crop's padding is %d pixels", recipe->crop);
    if (recipe->crop && recipe->random_resized_crop)
        return papa_fail(PAPA_ERR_ARGUMENT, "the padded crop and the random resized crop exclude each other");
    if (format->source_height + 2 * recipe->crop < format->H || format->source_width + 2 * recipe->crop < format->W)
        return papa_fail(PAPA_ERR_ARGUMENT, "images of %lldx%lld with %d pixels of padding are smaller than the crop, %lldx%lld",
            (long long)format->source_height, (long long)format->source_width, recipe->crop, (long long)format->H,
            (long long)format->W);
    if (!in_unit(recipe->erasing))
        return papa_fail(PAPA_ERR_ARGUMENT, "the probability of random erasing is %g, expected 0 to 1", recipe->erasing);
    if (!(recipe->smoothing >= 0 && recipe->smoothing < 1))
        return papa_fail(PAPA_ERR_ARGUMENT, "label smoothing is %g, expected at least 0 and less than 1", recipe->smoothing);
    if (!(recipe->mixup >= 0 && recipe->mixup < INFINITY))
        return papa_fail(PAPA_ERR_ARGUMENT, "mixup's alpha is %g, expected at least 0", recipe->mixup);
    if (!(recipe->cutmix >= 0 && recipe->cutmix < INFINITY))
        return papa_fail(PAPA_ERR_ARGUMENT, "CutMix's alpha is %g, expected at least 0", recipe->cutmix);
    return PAPA_OK;
}

void papa_image_format(PapaImageFormat *out, PapaImageSize stored, bool channels_last, const double *mean, const double *std)
{
    *out = (PapaImageFormat){
        .source_height = stored.height,
        .source_width = stored.width,
        .C = stored.channels,
        .H = stored.height,
        .W = stored.width,
        .channels_last = channels_last,
    };
    for (int64_t c = 0; c < stored.channels; c++) {
        out->scale[c] = (float)(1 / (255 * std[c]));
        out->shift[c] = (float)(-mean[c] / std[c]);
    }
}

static double uniform(PapaRng *rng, double low, double high)
{
    return low + (high - low) * papa_rng_double(rng);
}

/* Uniform on low ... high, both included. */
static int32_t uniform_int(PapaRng *rng, int64_t low, int64_t high)
{
    return (int32_t)(low + papa_rng_below(rng, (uint32_t)(high - low + 1)));
}

static void padded_crop(PapaSamplePlan *out, int64_t padding, const PapaImageFormat *f, PapaRng *rng)
{
    out->top = uniform_int(rng, -padding, f->source_height + padding - f->H);
    out->left = uniform_int(rng, -padding, f->source_width + padding - f->W);
}

/* A rectangle of this area and aspect (width : height), to the nearest pixel. */
static void rectangle(int64_t *height, int64_t *width, double area, double aspect)
{
    *height = llround(sqrt(area / aspect));
    *width = llround(sqrt(area * aspect));
}

static void resized_crop(PapaSamplePlan *out, const PapaImageFormat *f, PapaRng *rng)
{
    const double narrow = 3.0 / 4, wide = 4.0 / 3;
    int64_t H = f->source_height, W = f->source_width, h, w;
    for (int i = 0; i < ATTEMPTS; i++) {
        double area = (double)(H * W) * uniform(rng, 0.08, 1);
        rectangle(&h, &w, area, exp(uniform(rng, log(narrow), log(wide))));
        if (h > 0 && w > 0 && h <= H && w <= W) {
            out->top = uniform_int(rng, 0, H - h);
            out->left = uniform_int(rng, 0, W - w);
            goto out;
        }
    }
    /* The largest centred box whose aspect is allowed. */
    double aspect = (double)W / (double)H;
    w = aspect > wide ? llround((double)H * wide) : W;
    h = aspect < narrow ? llround((double)W / narrow) : H;
    out->top = (int32_t)((H - h) / 2);
    out->left = (int32_t)((W - w) / 2);
out:
    out->height = (int32_t)h;
    out->width = (int32_t)w;
}

/* A rectangle as large as the image or larger is drawn again; after the last attempt nothing is erased. */
static void erase(PapaSamplePlan *out, const PapaImageFormat *f, PapaRng *rng)
{
    for (int i = 0; i < ATTEMPTS; i++) {
        int64_t h, w;
        double area = (double)(f->H * f->W) * uniform(rng, 0.02, 1.0 / 3);
        rectangle(&h, &w, area, exp(uniform(rng, log(0.3), log(3.3))));
        if (h < f->H && w < f->W) {
            out->erase_height = (int32_t)h;
            out->erase_width = (int32_t)w;
            out->erase_top = uniform_int(rng, 0, f->H - h);
            out->erase_left = uniform_int(rng, 0, f->W - w);
            return;
        }
    }
}

void papa_plain_sample(PapaSamplePlan *out, const PapaImageFormat *f, uint32_t source)
{
    *out = (PapaSamplePlan){
        .source = source,
        .top = (int32_t)((f->source_height - f->H) / 2),
        .left = (int32_t)((f->source_width - f->W) / 2),
        .height = (int32_t)f->H,
        .width = (int32_t)f->W,
    };
}

void papa_plain_batch(PapaBatchPlan *out)
{
    *out = (PapaBatchPlan){.mix = PAPA_MIX_NONE, .lambda = 1};
}

void papa_recipe_sample(PapaSamplePlan *out, const PapaRecipe *recipe, const PapaImageFormat *f, uint32_t source, uint64_t seed,
    int member, int epoch, int64_t position)
{
    PapaRng rng = papa_rng(seed, PAPA_RNG_AUGMENT, member, (uint32_t)epoch, (uint32_t)position);
    papa_plain_sample(out, f, source);
    if (recipe->random_resized_crop)
        resized_crop(out, f, &rng);
    else if (recipe->crop || f->source_height != f->H || f->source_width != f->W)
        padded_crop(out, recipe->crop, f, &rng);
    if (recipe->flip)
        out->flip = (int32_t)papa_rng_below(&rng, 2);
    if (recipe->erasing > 0 && papa_rng_double(&rng) < recipe->erasing)
        erase(out, f, &rng);
}

/* A box whose sides are sqrt(1 - lambda) of the image's, around a uniform centre, cut at the image's border. */
static void cut_box(PapaBatchPlan *out, const PapaImageFormat *f, PapaRng *rng)
{
    double side = sqrt(1 - (double)out->lambda);
    int64_t h = (int64_t)((double)f->H * side), w = (int64_t)((double)f->W * side);
    int64_t y = papa_rng_below(rng, (uint32_t)f->H), x = papa_rng_below(rng, (uint32_t)f->W);
    int64_t top = y - h / 2 > 0 ? y - h / 2 : 0, bottom = y + h / 2 < f->H ? y + h / 2 : f->H;
    int64_t left = x - w / 2 > 0 ? x - w / 2 : 0, right = x + w / 2 < f->W ? x + w / 2 : f->W;
    out->top = (int32_t)top;
    out->left = (int32_t)left;
    out->height = (int32_t)(bottom - top);
    out->width = (int32_t)(right - left);
    out->lambda = (float)(1 - (double)((bottom - top) * (right - left)) / (double)(f->H * f->W));
}

void papa_recipe_batch(PapaBatchPlan *out, const PapaRecipe *recipe, const PapaImageFormat *f, uint64_t seed, int member, int64_t step)
{
    PapaRng rng = papa_rng(seed, PAPA_RNG_BATCH, member, (uint32_t)step, (uint32_t)(step >> 32));
    papa_plain_batch(out);
    out->smoothing = recipe->smoothing;
    if (!(recipe->mixup > 0) && !(recipe->cutmix > 0))
        return;
    bool cut = recipe->cutmix > 0 && (!(recipe->mixup > 0) || papa_rng_below(&rng, 2));
    float alpha = cut ? recipe->cutmix : recipe->mixup;
    out->mix = cut ? PAPA_MIX_CUT : PAPA_MIX_UP;
    out->lambda = (float)papa_rng_beta(&rng, (double)alpha, (double)alpha);
    if (cut)
        cut_box(out, f, &rng);
}
