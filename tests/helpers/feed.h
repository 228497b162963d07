/* Writes numbers that stand in ONNX's order of axes into a network's input. */
#ifndef FEED_H
#define FEED_H

#include "model/net.h"

#include <string.h>

static inline void feed(const PapaNet *net, PapaWorker *worker, int input, const float *from, const PapaShape *shape)
{
    bool channels_last;
    float *to = papa_net_input_at(net, worker, input, &channels_last);
    if (!channels_last) {
        if (papa_shape_count(shape))
            memcpy(to, from, (size_t)papa_shape_count(shape) * sizeof *to);
        return;
    }
    int64_t N = shape->dim[0], C = shape->dim[1], inner = papa_shape_count_from(shape, 2, shape->rank);
    for (int64_t n = 0; n < N; n++)
        for (int64_t c = 0; c < C; c++)
            for (int64_t i = 0; i < inner; i++)
                to[(n * inner + i) * C + c] = from[(n * C + c) * inner + i];
}

#endif
