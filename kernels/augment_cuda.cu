/* CUDA half of augment.h. A thread makes one pixel, all its channels: its own, and the partner's where the two are mixed, so that nothing is
 * written twice. A block's pixels are of one image. */
#include "kernels/cuda.cuh"

extern "C" {
#include "kernels/augment.h"
}

namespace papa {
namespace {

struct Pixel {
    float v[PAPA_MAX_CHANNELS];
};

/* Two source lines and the weight of the second: where output position i of n samples a box of `size` lines. */
struct Tap {
    int low, high;
    float weight;
};

__device__ __forceinline__ Tap tap_at(int i, int n, int32_t start, int32_t size)
{
    float at = ((float)i + .5f) * ((float)size / (float)n) - .5f;
    at = at > 0 ? at : 0;
    int low = (int)at;
    low = low < size - 1 ? low : size - 1;
    return {start + low, start + (low + 1 < size ? low + 1 : low), at - (float)low};
}

/* Stored bytes of the box's pixel (y, x), as numbers from 0 to 255. The box has the output's size. */
__device__ __forceinline__ Pixel copied(const uint8_t *image, const PapaSamplePlan &plan, int y, int x, const PapaImageFormat &f)
{
    const int64_t sy = (int64_t)plan.top + y, sx = (int64_t)plan.left + x;
    Pixel to = {};
    if (sy < 0 || sy >= f.source_height || sx < 0 || sx >= f.source_width)
        return to;
    const uint8_t *from = image + (sy * f.source_width + sx) * f.C;
#pragma unroll
    for (int c = 0; c < PAPA_MAX_CHANNELS; c++)
        if (c < f.C)
            to.v[c] = (float)from[c];
    return to;
}

__device__ __forceinline__ Pixel resized(const uint8_t *image, const PapaSamplePlan &plan, int y, int x, const PapaImageFormat &f)
{
    const Tap ty = tap_at(y, (int)f.H, plan.top, plan.height), tx = tap_at(x, (int)f.W, plan.left, plan.width);
    const uint8_t *upper = image + ty.low * f.source_width * f.C, *lower = image + ty.high * f.source_width * f.C;
    Pixel to = {};
#pragma unroll
    for (int c = 0; c < PAPA_MAX_CHANNELS; c++)
        if (c < f.C) {
            const float a = (float)upper[tx.low * f.C + c], b = (float)upper[tx.high * f.C + c];
            const float d = (float)lower[tx.low * f.C + c], e = (float)lower[tx.high * f.C + c];
            const float top = a + tx.weight * (b - a), bottom = d + tx.weight * (e - d);
            to.v[c] = top + ty.weight * (bottom - top);
        }
    return to;
}

/* Pixel (y, x) of a sample before mixing. */
__device__ __forceinline__ Pixel sample_pixel(const uint8_t *images, const PapaSamplePlan &plan, int y, int x, const PapaImageFormat &f)
{
    Pixel to = {};
    if (y >= plan.erase_top && y < plan.erase_top + plan.erase_height && x >= plan.erase_left && x < plan.erase_left + plan.erase_width)
        return to;
    const uint8_t *image = images + (int64_t)plan.source * f.source_height * f.source_width * f.C;
    const int from = plan.flip ? (int)f.W - 1 - x : x;
    to = plan.height == f.H && plan.width == f.W ? copied(image, plan, y, from, f) : resized(image, plan, y, from, f);
#pragma unroll
    for (int c = 0; c < PAPA_MAX_CHANNELS; c++)
        to.v[c] = to.v[c] * f.scale[c] + f.shift[c];
    return to;
}

template <class T> __global__ void __launch_bounds__(kThreads) make_pixels(T *x, const uint8_t *images, const PapaSamplePlan *samples,
    const PapaBatchPlan *batch, int64_t N, PapaImageFormat f, unsigned blocks_per_image)
{
    const int64_t i = blockIdx.x / blocks_per_image, partner = N - 1 - i;
    const int pixel = (int)(blockIdx.x % blocks_per_image) * kThreads + (int)threadIdx.x;
    const int H = (int)f.H, W = (int)f.W;
    if (pixel >= H * W)
        return;
    const int row = pixel / W, column = pixel % W;
    const PapaBatchPlan mix = *batch;
    const bool in_box = mix.mix == PAPA_MIX_CUT && row >= mix.top && row < mix.top + mix.height && column >= mix.left && column < mix.left + mix.width;
    Pixel to = sample_pixel(images, samples[in_box ? partner : i], row, column, f);
    if (mix.mix == PAPA_MIX_UP && partner != i) { /* with itself: unchanged, to the last bit */
        const Pixel other = sample_pixel(images, samples[partner], row, column, f);
#pragma unroll
        for (int c = 0; c < PAPA_MAX_CHANNELS; c++)
            to.v[c] = mix.lambda * to.v[c] + (1 - mix.lambda) * other.v[c];
    }
    const int64_t first = i * f.C * H * W, pixel_step = f.channels_last ? f.C : 1, channel_step = f.channels_last ? 1 : (int64_t)H * W;
#pragma unroll
    for (int c = 0; c < PAPA_MAX_CHANNELS; c++)
        if (c < f.C)
            x[first + pixel * pixel_step + c * channel_step] = store<T>(to.v[c]);
}

template <class T> PapaStatus images(PapaDevice *dev, PapaReal *x, const uint8_t *from, const PapaSamplePlan *samples, const PapaBatchPlan *batch,
    int64_t N, const PapaImageFormat &format)
{
    const int64_t blocks_per_image = ceil_div(format.H * format.W, kThreads);
    if (N && blocks_per_image && format.C)
        PAPA_LAUNCH(dev, make_pixels<T>, (unsigned)(N * blocks_per_image), kThreads, 0, (T *)x, from, samples, batch, N, format,
            (unsigned)blocks_per_image);
    return PAPA_OK;
}

/* A block for each row. */
__global__ void __launch_bounds__(kThreads) make_targets(float *targets, const int32_t *labels, const PapaSamplePlan *samples,
    const PapaBatchPlan *batch, int64_t N, int64_t C)
{
    const int64_t i = blockIdx.x;
    const float off = batch->smoothing / (float)C, on = 1 - batch->smoothing, own = batch->mix == PAPA_MIX_NONE ? 1 : batch->lambda;
    const int64_t label = labels[samples[i].source], partners = labels[samples[N - 1 - i].source];
    for (int64_t c = threadIdx.x; c < C; c += blockDim.x) {
        float t = off;
        if (c == label)
            t += own * on;
        if (c == partners)
            t += (1 - own) * on;
        targets[i * C + c] = t;
    }
}

} // namespace
} // namespace papa

using namespace papa;

PapaStatus papa_augment_images_cuda(PapaDevice *dev, PapaReal *x, const uint8_t *images, const PapaSamplePlan *samples, const PapaBatchPlan *batch,
    int64_t N, PapaImageFormat format)
{
    PAPA_FOR_ELEMENT(dev, papa::images<T>(dev, x, images, samples, batch, N, format));
    return PAPA_OK;
}

PapaStatus papa_augment_targets_cuda(PapaDevice *dev, float *targets, const int32_t *labels, const PapaSamplePlan *samples,
    const PapaBatchPlan *batch, int64_t N, int64_t C)
{
    if (N && C)
        PAPA_LAUNCH(dev, make_targets, (unsigned)N, C <= 64 ? 32 : kThreads, 0, targets, labels, samples, batch, N, C);
    return PAPA_OK;
}
