/* A member's numbers: read from the file, or drawn. */
#include "base/rng.h"
#include "model/model.h"

#include <math.h>
#include <string.h>

PapaStatus papa_model_read_params(const PapaModel *model, float *store)
{
    memset(store, 0, (size_t)model->store.n_total * sizeof *store);
    for (int i = 0; i < model->n_params; i++) {
        const PapaParam *param = &model->params[i];
        if (!param->tensor)
            continue;
        PapaStatus status = papa_tensor_read_float(model->onnx, param->tensor, store + param->offset, param->count);
        if (status != PAPA_OK)
            return papa_fail_in(status, "%s", papa_onnx_path(model->onnx));
    }
    return PAPA_OK;
}

static void fill(float *to, int64_t n, float value)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = value;
}

PapaStatus papa_model_init_params(const PapaModel *model, float *store, uint64_t seed, int member)
{
    for (int i = 0; i < model->n_params; i++) {
        const PapaParam *param = &model->params[i];
        float *to = store + param->offset;
        bool is_statistic = param->role == PAPA_ROLE_MEAN || param->role == PAPA_ROLE_VARIANCE;
        if (!param->tensor || !(is_statistic ? !model->frozen_statistics : param->trained))
            continue;
        if (param->role == PAPA_ROLE_WEIGHT) {
            PapaRng rng = papa_rng(seed, PAPA_RNG_INIT, member, (uint32_t)i, 0);
            double std = sqrt(2.0 / (double)(param->fan_in > 0 ? param->fan_in : 1));
            for (int64_t e = 0; e < param->count; e++)
                to[e] = (float)(std * papa_rng_normal(&rng));
        } else
            fill(to, param->count, param->role == PAPA_ROLE_SCALE || param->role == PAPA_ROLE_VARIANCE ? 1 : 0);
    }
    return PAPA_OK;
}
