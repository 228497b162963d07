/* A merge under way: its tensors, its workers. Shared by merge.c, which sets it up, and merge_run.c, which makes the elements. */
#ifndef PAPA_MERGE_RUN_H
#define PAPA_MERGE_RUN_H

#include "base/threads.h"
#include "soup/merge.h"
#include "soup/merge_math.h"

/* One float tensor of the result. Its sources are the inputs, in order, and then the base. */
typedef struct PapaMergeJob {
    PapaMerge *merge;
    int type;                   /* of all sources */
    int64_t count;              /* elements */
    uint32_t name;              /* a hash of the path in the first input */
    PapaMergeTensor *sources;   /* [n_sources] */
    double *weights;            /* [n_sources]: sums of tensors: what each is multiplied by; of differences: [n] the weights a */
    double *thresholds;         /* TIES: [n] */
    const unsigned char **floats; /* [n_floats]: an exact mean of tensors, not of DOUBLE, that lie in one piece each: where; else n_floats is 0 */
    int n_floats;
    bool is_prepared;           /* what takes passes of its own is known: SLERP's and STOCK's weights, thresholds */
} PapaMergeJob;

typedef struct PapaMergeWorker {
    const PapaMergeJob *job;    /* that the readers are open for */
    PapaTensorReader *readers;  /* [n_sources] */
    double (*rows)[PAPA_MERGE_BLOCK]; /* [n_sources + 1]: a block of each source, and the result */
    const double **used;        /* [n_sources]: the rows that count */
    double *used_weights;
    const void **raw;           /* [n_sources]: of a block, where it lies */
    int64_t *histogram;         /* TIES: [PAPA_MERGE_BINS], zeros between passes */
} PapaMergeWorker;

#define PAPA_MERGE_BINS 65536

struct PapaMerge {
    PapaArena arena;
    PapaMergeOptions options;   /* defaults filled in; weights are the arena's */
    PapaMergeModel *models;     /* [n_sources] */
    int n, n_sources;           /* n_sources: n, or n + 1 with a base */
    PapaPool *pool;             /* NULL with one worker */
    PapaMergeWorker *workers;
    int n_workers;
};

/* Whether the method adds differences to the base, not tensors. */
static inline bool papa_merge_is_of_differences(PapaMergeMethod method)
{
    return method == PAPA_MERGE_TASK || method == PAPA_MERGE_TIES || method == PAPA_MERGE_DARE || method == PAPA_MERGE_DARE_TIES;
}

/* Up to rounding, and what people write for a third. */
#define PAPA_MERGE_SUM_TOLERANCE 1e-6

/* Makes elements of a job; the callback that the edit gets (papa_tensor_fill_fn). */
PapaStatus papa_merge_fill(void *job, void *to, int64_t first, int64_t n);

#endif
