/* What the programs here share: the device they run on, which the environment names (PAPA_TEST_DEVICE: cpu, the default, reference, cuda or cuda-bf16), numbers
 * on their way to it and back, and a network's inputs. */
#ifndef FEED_H
#define FEED_H

#include "model/net.h"
#include "onnx/half.h"

#include <stdlib.h>
#include <string.h>

static inline PapaStatus open_test_device(PapaDevice **out, int threads)
{
    const char *name = getenv("PAPA_TEST_DEVICE");
    if (!name || strcmp(name, "cpu") == 0)
        return papa_device_open_cpu(out, threads);
    if (strcmp(name, "reference") == 0)
        return papa_device_open_reference(out, threads);
    bool bf16 = strcmp(name, "cuda-bf16") == 0;
    if (!bf16 && strcmp(name, "cuda") != 0)
        return papa_fail(PAPA_ERR_ARGUMENT, "PAPA_TEST_DEVICE is %s, expected cpu, reference, cuda or cuda-bf16", name);
    return papa_device_open_cuda(out, 0, bf16 ? PAPA_PRECISION_BF16 : PAPA_PRECISION_FP32);
}

/* n floats on the device, copied from `from`, or zeros where that is NULL. */
static inline PapaStatus floats_on(PapaDevice *dev, float **out, const float *from, int64_t n)
{
    void *memory;
    PAPA_TRY(papa_device_alloc(dev, &memory, (size_t)(n ? n : 1) * sizeof(float), "a test"));
    *out = memory;
    PAPA_TRY(papa_device_zero(dev, memory, (size_t)(n ? n : 1) * sizeof(float)));
    return from ? papa_device_upload(dev, memory, from, (size_t)n * sizeof(float)) : PAPA_OK;
}

/* Numbers that stand in the network's order of axes, as activations. */
static inline PapaStatus upload_reals(PapaDevice *dev, PapaReal *to, const float *from, int64_t n)
{
    if (dev->element == PAPA_FLOAT32)
        return papa_device_upload(dev, to, from, (size_t)n * sizeof *from);
    const size_t bytes = (size_t)n * papa_element_bytes(dev->element);
    void *other = malloc(bytes + 1);
    if (!other)
        return papa_fail_memory(bytes, "a test");
    for (int64_t i = 0; i < n; i++)
        if (dev->element == PAPA_FLOAT64)
            ((double *)other)[i] = (double)from[i];
        else
            ((uint16_t *)other)[i] = papa_float_to_bfloat16(from[i]);
    PapaStatus status = papa_device_upload(dev, to, other, bytes);
    free(other);
    return status;
}

/* Writes numbers that stand in ONNX's order of axes into a network's input. */
static inline PapaStatus feed(const PapaNet *net, PapaWorker *worker, int input, const float *from, const PapaShape *shape)
{
    bool channels_last;
    PapaReal *to = papa_net_input_at(net, worker, input, &channels_last);
    PapaDevice *dev = papa_worker_device(worker);
    int64_t n_all = papa_shape_count(shape);
    if (!channels_last)
        return upload_reals(dev, to, from, n_all);
    int64_t N = shape->dim[0], C = shape->dim[1], inner = papa_shape_count_from(shape, 2, shape->rank);
    float *turned = malloc((size_t)n_all * sizeof *turned + 1);
    if (!turned)
        return papa_fail_memory((size_t)n_all, "a test");
    for (int64_t n = 0; n < N; n++)
        for (int64_t c = 0; c < C; c++)
            for (int64_t i = 0; i < inner; i++)
                turned[(n * inner + i) * C + c] = from[(n * C + c) * inner + i];
    PapaStatus status = upload_reals(dev, to, turned, n_all);
    free(turned);
    return status;
}

/* Output i of a network that has run, rounded to float32. */
static inline PapaStatus fetch_output(const PapaNet *net, PapaWorker *worker, int i, float *to)
{
    PapaShape shape = papa_net_output_shape(net, i);
    const int64_t n = papa_shape_count(&shape);
    if (papa_worker_device(worker)->kind == PAPA_REFERENCE) {
        for (int64_t k = 0; k < n; k++)
            to[k] = (float)papa_net_output_double(net, worker, i)[k];
        return PAPA_OK;
    }
    return papa_device_download(papa_worker_device(worker), to, papa_net_output(net, worker, i), (size_t)n * sizeof *to);
}

#endif
