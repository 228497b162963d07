/* Means of members' outputs. */
#include "soup/soup.h"

#include <float.h>
#include <math.h>

static double row_max(const float *row, int64_t classes)
{
    double max = -INFINITY;
    for (int64_t c = 0; c < classes; c++)
        max = row[c] > max ? row[c] : max;
    return max;
}

static void add_probabilities(double *sum, const float *logits, int64_t classes, double weight)
{
    double max = row_max(logits, classes), total = 0;
    for (int64_t c = 0; c < classes; c++)
        total += exp(logits[c] - max);
    for (int64_t c = 0; c < classes; c++)
        sum[c] += weight * exp(logits[c] - max) / total;
}

void papa_ensemble_add(double *sum, const float *logits, int64_t N, int64_t classes, double weight, PapaEnsembleMean mean)
{
    for (int64_t n = 0; n < N; n++, sum += classes, logits += classes) {
        if (mean == PAPA_ENSEMBLE_PROBABILITIES)
            add_probabilities(sum, logits, classes, weight);
        else
            for (int64_t c = 0; c < classes; c++)
                sum[c] += weight * logits[c];
    }
}

void papa_ensemble_finish(float *logits, const double *sum, int64_t N, int64_t classes, PapaEnsembleMean mean)
{
    for (int64_t i = 0; i < N * classes; i++)
        logits[i] = (float)(mean == PAPA_ENSEMBLE_LOGITS ? sum[i] : log(sum[i] < DBL_MIN ? DBL_MIN : sum[i])); /* NaN passes */
}
