#include "kernels/loss.h"

#include <assert.h>
#include <math.h>

#define ROW_GRAIN 16

/* log sum_c exp(x[c]). Infinite or NaN logits give NaN, except that -infinity weighs nothing. */
static double log_sum_exp(const float *x, int64_t C, float *greatest)
{
    float most = -INFINITY;
    for (int64_t c = 0; c < C; c++)
        most = x[c] > most ? x[c] : most;
    double sum = 0;
    for (int64_t c = 0; c < C; c++)
        sum += expf(x[c] - most);
    *greatest = most;
    return (double)most + log(sum);
}

typedef struct Train {
    float *dlogits;
    const float *logits, *targets;
    double *rows;
    int64_t C, n;
} Train;

static void train_rows(void *context, int64_t begin, int64_t end)
{
    const Train *k = context;
    for (int64_t i = begin; i < end; i++) {
        const float *x = k->logits + i * k->C, *t = k->targets + i * k->C;
        float *dx = k->dlogits + i * k->C, most;
        if (i >= k->n) {
            for (int64_t c = 0; c < k->C; c++)
                dx[c] = 0;
            k->rows[i] = 0;
            continue;
        }
        double lse = log_sum_exp(x, k->C, &most), loss = 0;
        for (int64_t c = 0; c < k->C; c++)
            if (t[c] != 0)
                loss += t[c] * (lse - x[c]);
        k->rows[i] = loss;
        float above = (float)(lse - most), scale = (float)(1.0 / (double)k->n);
        for (int64_t c = 0; c < k->C; c++)
            dx[c] = (expf(x[c] - most - above) - t[c]) * scale;
    }
}

PapaStatus papa_loss_train_cpu(PapaDevice *dev, float *loss, float *dlogits, const float *logits, const float *targets,
    const int64_t *n_valid, double *rows, int64_t N, int64_t C)
{
    assert(*n_valid >= 0 && *n_valid <= N);
    Train k = {.dlogits = dlogits, .logits = logits, .targets = targets, .rows = rows, .C = C, .n = *n_valid};
    papa_ranges(dev, N, ROW_GRAIN, train_rows, &k);
    double sum = 0;
    for (int64_t i = 0; i < k.n; i++)
        sum += rows[i];
    *loss = k.n ? (float)(sum / (double)k.n) : 0;
    return PAPA_OK;
}

typedef struct Score {
    const float *logits;
    const int32_t *labels;
    double *rows;
    int64_t C;
} Score;

static void score_rows(void *context, int64_t begin, int64_t end)
{
    const Score *k = context;
    for (int64_t i = begin; i < end; i++) {
        float most;
        const float *x = k->logits + i * k->C;
        k->rows[i] = log_sum_exp(x, k->C, &most) - x[k->labels[i]];
    }
}

/* Classes that come before the label; C where a NaN leaves no order. */
static int64_t classes_before(const float *x, int32_t label, int64_t C)
{
    int64_t before = 0;
    for (int64_t c = 0; c < C; c++) {
        if (isnan(x[c]))
            return C;
        before += x[c] > x[label] || (x[c] == x[label] && c < label);
    }
    return before;
}

PapaStatus papa_loss_score_cpu(PapaDevice *dev, PapaScoreSums *sums, const float *logits, const int32_t *labels,
    const int64_t *n_valid, double *rows, int64_t N, int64_t C)
{
    assert(*n_valid >= 0 && *n_valid <= N);
    (void)N;
    Score k = {.logits = logits, .labels = labels, .rows = rows, .C = C};
    papa_ranges(dev, *n_valid, ROW_GRAIN, score_rows, &k);
    *sums = (PapaScoreSums){.n = *n_valid};
    for (int64_t i = 0; i < *n_valid; i++) {
        int64_t before = classes_before(logits + i * C, labels[i], C);
        sums->loss += rows[i];
        sums->top1 += before < 1;
        sums->top5 += before < 5 && before < C;
    }
    return PAPA_OK;
}
