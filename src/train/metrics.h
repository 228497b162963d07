/* metrics.csv: one row per epoch and member. Holds no times, so that equal runs give equal bytes. */
#ifndef PAPA_METRICS_H
#define PAPA_METRICS_H

#include "base/file.h"

typedef struct PapaMetrics {
    PapaWriter writer;
    bool open;
} PapaMetrics;

typedef struct PapaMetricsRow {
    int epoch;           /* from 1 */
    int64_t step;        /* of each member, done */
    int member;          /* from 0 */
    double lr;           /* of the epoch's last step */
    double train_loss;   /* mean over the epoch's steps; NaN: an empty field, like the following */
    PapaScore val;
} PapaMetricsRow;

PapaStatus papa_metrics_open(PapaMetrics *out, const char *path);
PapaStatus papa_metrics_write(PapaMetrics *metrics, const PapaMetricsRow *row);
PapaStatus papa_metrics_commit(PapaMetrics *metrics);
void papa_metrics_abort(PapaMetrics *metrics); /* after commit, or on a zeroed one: nothing */

#endif
