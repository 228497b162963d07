/* A model's inference networks on a crew's devices, and seats to run them: what scores stores on any images of one size (evaluate.h). */
#ifndef PAPA_EXAMINER_H
#define PAPA_EXAMINER_H

#include "train/evaluate.h"

typedef struct PapaExaminer {
    PapaCrew *crew;
    const PapaModel *model;
    PapaNet *nets[PAPA_MAX_PLACES]; /* by place */
    PapaSeat *seats;                /* by worker */
    int64_t batch, n_classes;
} PapaExaminer;

/* Opens a crew that n_batches keep busy. A batch is one worker's work: all cores are used as soon as there are as many batches. */
PapaStatus papa_examiner_open_crew(PapaCrew *out, const PapaDeviceOptions *options, int64_t n_batches);

/* model has its selection; data: the sets that will be scored, images of one size; they are brought to the crew's places. What is borrowed must outlive the
 * examiner. */
PapaStatus papa_examiner_open(PapaExaminer *out, PapaCrew *crew, const PapaModel *model, const PapaData *const *data, int n_data, int64_t batch);
void papa_examiner_close(PapaExaminer *examiner); /* a zeroed one is fine */

/* mean, std: per channel. n_done and stop are the caller's to set. */
PapaScorer papa_examiner_scorer(const PapaExaminer *examiner, const PapaData *data, const uint32_t *indices, int64_t n, const double *mean,
    const double *std);

#endif
