#include "jobs/soup_learn.h"

#include "base/simd.h"
#include "kernels/mix.h"
#include "soup/soup.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct PapaSoupLearning {
    PapaArena arena;
    PapaJudge *judge;
    const PapaModel *model;
    PapaDevice *dev;
    int n, rows;
    bool by_tensor;
    const PapaParam **params;  /* the trained ones: row i is params[i]'s, by tensor */
    int n_params;
    float *const *stores;
    const float **near;        /* by model: its store where the host reads it */
    float **copies;            /* by model: memory for that; NULL: the store itself is host memory */
    float *gradient;           /* likewise, of the gradient */
    float *theta;              /* on the device */
    double *dots;              /* (n_params, n) */
    double *weights, *mean;    /* (rows, n); (n) */
};

/* ---------------------------------------------------------------- opening */

static PapaStatus find_params(PapaSoupLearning *l)
{
    l->params = PAPA_NEW_ARRAY(&l->arena, const PapaParam *, l->model->n_params);
    if (!l->params)
        return PAPA_ERR_MEMORY;
    for (int i = 0; i < l->model->n_params; i++)
        if (l->model->params[i].trained)
            l->params[l->n_params++] = &l->model->params[i];
    l->rows = l->by_tensor ? l->n_params : 1;
    return PAPA_OK;
}

/* The models as the host's inner products read them. */
static PapaStatus open_near(PapaSoupLearning *l)
{
    size_t bytes = (size_t)l->model->store.n_trained * sizeof(float);
    l->near = PAPA_NEW_ARRAY(&l->arena, const float *, l->n);
    l->copies = PAPA_NEW_ARRAY(&l->arena, float *, l->n);
    if (!l->near || !l->copies)
        return PAPA_ERR_MEMORY;
    for (int k = 0; k < l->n; k++) {
        l->near[k] = l->stores[k];
        if (l->dev->kind == PAPA_CPU)
            continue;
        l->near[k] = l->copies[k] = malloc(bytes);
        if (!l->copies[k])
            return papa_fail_memory(bytes, "a model to learn from");
        PAPA_TRY(papa_device_download(l->dev, l->copies[k], l->stores[k], bytes));
    }
    if (l->dev->kind == PAPA_CPU)
        return PAPA_OK;
    l->gradient = malloc(bytes);
    return l->gradient ? PAPA_OK : papa_fail_memory(bytes, "a gradient");
}

static PapaStatus open_all(PapaSoupLearning *l)
{
    PAPA_TRY(find_params(l));
    PAPA_TRY(open_near(l));
    l->dots = PAPA_NEW_ARRAY(&l->arena, double, l->n_params * l->n);
    l->weights = PAPA_NEW_ARRAY(&l->arena, double, l->rows * l->n);
    l->mean = PAPA_NEW_ARRAY(&l->arena, double, l->n);
    if (!l->dots || !l->weights || !l->mean)
        return PAPA_ERR_MEMORY;
    PAPA_TRY(papa_judge_store(l->judge, &l->theta));
    return papa_device_zero(l->dev, l->theta, (size_t)l->model->store.n_total * sizeof *l->theta); /* the gaps between tensors */
}

PapaStatus papa_soup_learning_new(PapaSoupLearning **out, PapaJudge *judge, float *const *stores, int n, bool by_tensor)
{
    PapaSoupLearning *l = calloc(1, sizeof *l);
    if (!l)
        return papa_fail_memory(sizeof *l, "a learned soup");
    *l = (PapaSoupLearning){.judge = judge, .model = papa_judge_model(judge), .dev = papa_judge_device(judge), .n = n, .by_tensor = by_tensor,
        .stores = stores};
    PapaStatus status = open_all(l);
    if (status == PAPA_OK)
        *out = l;
    else
        papa_soup_learning_free(l);
    return status;
}

void papa_soup_learning_free(PapaSoupLearning *l)
{
    if (!l)
        return;
    for (int k = 0; l->copies && k < l->n; k++)
        free(l->copies[k]);
    free(l->gradient);
    papa_arena_free(&l->arena);
    free(l);
}

int papa_soup_learning_rows(const PapaSoupLearning *l)
{
    return l->rows;
}

/* ---------------------------------------------------------------- from alphas to a network */

static void softmax(double *to, const double *alphas, int n)
{
    double max = -INFINITY, sum = 0;
    for (int k = 0; k < n; k++)
        max = alphas[k] > max ? alphas[k] : max;
    for (int k = 0; k < n; k++)
        sum += to[k] = exp(alphas[k] - max);
    for (int k = 0; k < n; k++)
        to[k] /= sum;
}

static void set_weights(PapaSoupLearning *l, const double *alphas)
{
    double total = 0;
    for (int r = 0; r < l->rows; r++)
        softmax(l->weights + r * l->n, alphas + r * l->n, l->n);
    for (int k = 0; k < l->n; k++)
        l->mean[k] = 0;
    for (int r = 0; r < l->rows; r++) {
        double count = l->by_tensor ? (double)l->params[r]->count : 1;
        total += count;
        for (int k = 0; k < l->n; k++)
            l->mean[k] += count * l->weights[r * l->n + k];
    }
    for (int k = 0; k < l->n; k++)
        l->mean[k] /= total;
}

/* Elements [first, first + n) of theta. */
static PapaStatus mix_range(PapaSoupLearning *l, const float **from, const double *weights, int64_t first, int64_t n)
{
    for (int k = 0; k < l->n; k++)
        from[k] = l->stores[k] + first;
    return n ? PAPA_KERNEL(l->dev, papa_mix_mean)(l->dev, l->theta + first, from, weights, l->n, n) : PAPA_OK;
}

static PapaStatus mix(PapaSoupLearning *l)
{
    const PapaStoreLayout *store = &l->model->store;
    if (!l->by_tensor)
        return papa_soup_mean(l->dev, l->theta, (const float *const *)l->stores, l->weights, l->n, store);
    const float *from[PAPA_MIX_MAX];
    if (l->n > PAPA_MIX_MAX)
        return papa_fail(PAPA_ERR_ARGUMENT, "a soup of %d models, expected 1 to %d", l->n, PAPA_MIX_MAX);
    for (int i = 0; i < l->n_params; i++)
        PAPA_TRY(mix_range(l, from, l->weights + i * l->n, l->params[i]->offset, l->params[i]->count));
    return mix_range(l, from, l->mean, store->n_trained, store->n_total - store->n_trained);
}

/* ---------------------------------------------------------------- gradients */

PAPA_SIMD static double dot(const float *a, const float *b, int64_t n)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++)
        sum += (double)a[i] * b[i];
    return sum;
}

/* All inner products with one model. */
static PapaStatus dots_of(void *context, int worker, int k)
{
    (void)worker;
    PapaSoupLearning *l = context;
    for (int i = 0; i < l->n_params; i++)
        l->dots[i * l->n + k] = dot(l->gradient + l->params[i]->offset, l->near[k] + l->params[i]->offset, l->params[i]->count);
    return PAPA_OK;
}

static PapaStatus take_dots(PapaSoupLearning *l, const float *gradient)
{
    float *own = l->gradient;
    if (own)
        PAPA_TRY(papa_device_download(l->dev, own, gradient, (size_t)l->model->store.n_trained * sizeof *own));
    else
        l->gradient = (float *)gradient; /* for this call; nobody writes */
    PapaStatus status = papa_pool_for(papa_judge_pool(l->judge), l->n, dots_of, l);
    l->gradient = own;
    return status;
}

PapaStatus papa_soup_learning_gradient(PapaSoupLearning *l, double *loss, double *gradient, const double *alphas, int64_t step)
{
    const float *of_theta;
    set_weights(l, alphas);
    PAPA_TRY(mix(l));
    PAPA_TRY(papa_judge_gradient(l->judge, loss, &of_theta, l->theta, step));
    PAPA_TRY(take_dots(l, of_theta));
    memset(gradient, 0, (size_t)(l->rows * l->n) * sizeof *gradient);
    for (int i = 0; i < l->n_params; i++) {
        int row = (l->by_tensor ? i : 0) * l->n;
        double mean = 0;
        for (int k = 0; k < l->n; k++)
            mean += l->weights[row + k] * l->dots[i * l->n + k];
        for (int k = 0; k < l->n; k++)
            gradient[row + k] += l->weights[row + k] * (l->dots[i * l->n + k] - mean);
    }
    return PAPA_OK;
}

/* ---------------------------------------------------------------- learning */

static void adam(double *alphas, double *first, double *second, const double *gradient, int count, int64_t step, double rate)
{
    const double beta1 = .9, beta2 = .999, eps = 1e-8;
    for (int i = 0; i < count; i++) {
        first[i] = beta1 * first[i] + (1 - beta1) * gradient[i];
        second[i] = beta2 * second[i] + (1 - beta2) * gradient[i] * gradient[i];
        double mean = first[i] / (1 - pow(beta1, (double)(step + 1))), square = second[i] / (1 - pow(beta2, (double)(step + 1)));
        alphas[i] -= rate * mean / (sqrt(square) + eps);
    }
}

PapaStatus papa_soup_learning_run(PapaSoupLearning *l, int64_t n_steps, double rate)
{
    int count = l->rows * l->n;
    double *numbers = PAPA_NEW_ARRAY(&l->arena, double, 4 * count), *alphas = numbers, *gradient = numbers + count;
    if (!numbers)
        return PAPA_ERR_MEMORY;
    papa_judge_begin(l->judge, PAPA_PHASE_LEARN, n_steps);
    for (int64_t step = 0; step < n_steps; step++) {
        double loss;
        PAPA_TRY(papa_soup_learning_gradient(l, &loss, gradient, alphas, step));
        if (!isfinite(loss))
            return papa_fail(PAPA_ERR_NUMERIC, "learning weights: the loss is %s at step %lld of %lld; try a lower rate, or leave out the model that gives it",
                isnan(loss) ? "not a number" : "infinite", (long long)step + 1, (long long)n_steps);
        adam(alphas, gradient + count, gradient + 2 * count, gradient, count, step, rate * .5 * (1 + cos(M_PI * (double)step / (double)n_steps)));
    }
    papa_judge_end(l->judge);
    set_weights(l, alphas);
    return PAPA_OK;
}

const double *papa_soup_learning_weights(const PapaSoupLearning *l)
{
    return l->weights;
}

const double *papa_soup_learning_mean(const PapaSoupLearning *l)
{
    return l->mean;
}

PapaStatus papa_soup_learning_tensor_weights(double **out, const PapaSoupLearning *l)
{
    PapaArena scratch = PAPA_ARENA_INIT;
    PapaTensorPlace *places;
    size_t n_tensors, row_bytes = (size_t)l->n * sizeof **out;
    PapaStatus status = papa_onnx_tensors(&places, &n_tensors, &scratch, l->model->onnx);
    papa_arena_free(&scratch);
    PAPA_TRY(status);
    double *weights = malloc(n_tensors * row_bytes + 1);
    if (!weights)
        return papa_fail_memory(n_tensors * row_bytes, "a soup's weights");
    for (size_t i = 0; i < n_tensors; i++)
        memcpy(weights + i * (size_t)l->n, l->mean, row_bytes);
    for (int i = 0; i < l->n_params && l->by_tensor; i++)
        memcpy(weights + papa_tensor_index(l->model->onnx, l->params[i]->tensor) * l->n, l->weights + i * l->n, row_bytes);
    *out = weights;
    return PAPA_OK;
}
