#include "train/metrics.h"

#include "base/text.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char header[] = "epoch,step,member,lr,train_loss,val_accuracy,val_loss\n";

PapaStatus papa_metrics_open(PapaMetrics *out, const char *path)
{
    PAPA_TRY(papa_writer_open(&out->writer, path));
    out->open = true;
    return papa_writer_write(&out->writer, header, sizeof header - 1);
}

static int field(char *to, size_t bytes, double value)
{
    char number[PAPA_NUMBER_BYTES];
    return snprintf(to, bytes, ",%s", isnan(value) ? "" : papa_number_text(number, value));
}

PapaStatus papa_metrics_write(PapaMetrics *metrics, const PapaMetricsRow *row)
{
    char line[256];
    const double values[] = {row->lr, row->train_loss, row->val.accuracy, row->val.loss};
    int used = snprintf(line, sizeof line, "%d,%lld,%d", row->epoch, (long long)row->step, row->member);
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        used += field(line + used, sizeof line - (size_t)used, values[i]);
    line[used++] = '\n';
    return papa_writer_write(&metrics->writer, line, (size_t)used);
}

PapaStatus papa_metrics_commit(PapaMetrics *metrics)
{
    metrics->open = false;
    return papa_writer_commit(&metrics->writer);
}

void papa_metrics_abort(PapaMetrics *metrics)
{
    if (metrics->open)
        papa_writer_abort(&metrics->writer);
    metrics->open = false;
}
