/* Reference half of pool.h. */
#include "kernels/pool.h"

#include <math.h>

/* Where tap r of window o lies along an axis; counts: whether an average counts it. Returns whether the map has it. */
static bool tap_at(const PapaPool2d *p, int axis, int64_t o, int64_t r, int64_t *at, bool *counts)
{
    const int64_t length = axis ? p->W : p->H;
    *at = o * p->stride[axis] - p->pad[axis] + r * p->dilation[axis];
    const bool inside = *at >= 0 && *at < length;
    *counts = inside || (p->include_pad && *at >= -p->pad[axis] && *at < length + p->pad[axis + 2]);
    return inside;
}

typedef struct Window {
    double sum, max;
    int64_t counted, argmax; /* argmax -1: no tap is in the map */
} Window;

static Window window_of(const PapaPool2d *p, const double *x, int64_t n, int64_t oh, int64_t ow, int64_t c)
{
    Window w = {.max = -INFINITY, .argmax = -1};
    for (int64_t r = 0; r < p->K[0]; r++)
        for (int64_t s = 0; s < p->K[1]; s++) {
            int64_t ih, iw;
            bool down, across;
            const bool in_rows = tap_at(p, 0, oh, r, &ih, &down), in_columns = tap_at(p, 1, ow, s, &iw, &across);
            w.counted += down && across;
            if (!in_rows || !in_columns)
                continue;
            const double v = x[((n * p->H + ih) * p->W + iw) * p->C + c];
            w.sum += v;
            if (w.argmax < 0 || v > w.max || (isnan(v) && !isnan(w.max)))
                w.max = v, w.argmax = r * p->K[1] + s;
        }
    return w;
}

PapaStatus papa_maxpool_fwd_ref(PapaDevice *dev, const PapaPool2d *p, PapaReal *y, uint16_t *argmax, const PapaReal *x)
{
    (void)dev;
    for (int64_t i = 0; i < p->N * p->OH * p->OW * p->C; i++) {
        const int64_t c = i % p->C, ow = i / p->C % p->OW, oh = i / p->C / p->OW % p->OH, n = i / p->C / p->OW / p->OH;
        const Window w = window_of(p, (const double *)x, n, oh, ow, c);
        ((double *)y)[i] = w.max;
        if (argmax)
            argmax[i] = (uint16_t)w.argmax;
    }
    return PAPA_OK;
}

PapaStatus papa_avgpool_fwd_ref(PapaDevice *dev, const PapaPool2d *p, PapaReal *y, const PapaReal *x)
{
    (void)dev;
    for (int64_t i = 0; i < p->N * p->OH * p->OW * p->C; i++) {
        const int64_t c = i % p->C, ow = i / p->C % p->OW, oh = i / p->C / p->OW % p->OH, n = i / p->C / p->OW / p->OH;
        const Window w = window_of(p, (const double *)x, n, oh, ow, c);
        ((double *)y)[i] = w.counted ? w.sum / (double)w.counted : 0;
    }
    return PAPA_OK;
}
