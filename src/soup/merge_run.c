/* Going through tensors in blocks: the passes that measure, and the one that makes the result. Blocks are dealt to the workers in
 * slices, and what is summed is summed slice by slice and then in the slices' order, so that threads change nothing. */
#include "soup/merge_run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK PAPA_MERGE_BLOCK
#define SLICE (16 * BLOCK)
#define NEARLY_PARALLEL 0.9995 /* |cos| above which SLERP's sines lose their digits */

/* ---------------------------------------------------------------- slices */

typedef PapaStatus SliceFn(PapaMergeWorker *worker, PapaMergeJob *job, int64_t first, int64_t n, void *context);

typedef struct Pass {
    PapaMergeJob *job;
    SliceFn *slice;
    void *context;
    int64_t first, n;
} Pass;

static PapaStatus open_readers(PapaMergeWorker *worker, const PapaMergeJob *job)
{
    if (worker->job == job)
        return PAPA_OK;
    worker->job = NULL;
    for (int s = 0; s < job->merge->n_sources; s++)
        if (!job->sources[s].read)
            PAPA_TRY(papa_reader_open(&worker->readers[s], job->merge->models[s].onnx, job->sources[s].tensor));
    worker->job = job;
    return PAPA_OK;
}

static PapaStatus run_slice(void *context, int worker_index, int slice)
{
    const Pass *pass = context;
    PapaMergeWorker *worker = &pass->job->merge->workers[worker_index];
    int64_t begin = (int64_t)slice * SLICE, n = pass->n - begin < SLICE ? pass->n - begin : SLICE;
    PAPA_TRY(open_readers(worker, pass->job));
    return pass->slice(worker, pass->job, pass->first + begin, n, pass->context);
}

static int slices_of(int64_t n)
{
    return (int)((n + SLICE - 1) / SLICE);
}

/* On this thread, as the first worker. */
static PapaStatus run_alone(PapaMergeJob *job, int64_t first, int64_t n, SliceFn *slice, void *context)
{
    Pass pass = {.job = job, .slice = slice, .context = context, .first = first, .n = n};
    for (int i = 0; i < slices_of(n); i++)
        PAPA_TRY(run_slice(&pass, 0, i));
    return PAPA_OK;
}

/* Calls slice for all of [first, first + n). first is a multiple of 8; so all slices begin at multiples of SLICE if it is 0. */
static PapaStatus run_pass(PapaMergeJob *job, int64_t first, int64_t n, SliceFn *slice, void *context)
{
    Pass pass = {.job = job, .slice = slice, .context = context, .first = first, .n = n};
    if (!job->merge->pool || slices_of(n) < 2)
        return run_alone(job, first, n, slice, context);
    return papa_pool_for(job->merge->pool, slices_of(n), run_slice, &pass);
}

/* Elements [first, first + n) of the transpose of a stored matrix. Rows of the result are columns of what is stored: one cache line of
 * each of its rows serves several rows of the result. */
static PapaStatus read_transposed(PapaMergeWorker *worker, const PapaMergeJob *job, int s, int64_t first, int64_t n)
{
    const Onnx__TensorProto *tensor = job->sources[s].tensor;
    const unsigned char *data = papa_tensor_data(job->merge->models[s].onnx, tensor);
    int64_t rows = tensor->dims[1], columns = tensor->dims[0], size = (int64_t)papa_type_bits(job->type) / 8; /* of the result */
    unsigned char raw[BLOCK * sizeof(double)];
    for (int64_t i = 0, row = first / columns, column = first % columns; i < n; i++) {
        int64_t at = column * rows + row;
        if (data)
            memcpy(raw + i * size, data + at * size, (size_t)size);
        else
            PAPA_TRY(papa_reader_raw(&worker->readers[s], raw + i * size, at, 1));
        if (++column == columns)
            column = 0, row++;
    }
    papa_raw_to_doubles(worker->rows[s], job->type, raw, n);
    return PAPA_OK;
}

static PapaStatus read_row(PapaMergeWorker *worker, const PapaMergeJob *job, int s, int64_t first, int64_t n)
{
    const PapaMergeTensor *source = &job->sources[s];
    if (source->read)
        return source->read(source->context, worker->rows[s], first, n);
    if (source->transposed)
        return read_transposed(worker, job, s, first, n);
    return papa_reader_doubles(&worker->readers[s], worker->rows[s], first, n);
}

/* Rows [0, n) become differences from the base, whose row is n. */
static PapaStatus read_differences(PapaMergeWorker *worker, const PapaMergeJob *job, int64_t first, int64_t count)
{
    int n = job->merge->n;
    PAPA_TRY(read_row(worker, job, n, first, count));
    for (int k = 0; k < n; k++) {
        PAPA_TRY(read_row(worker, job, k, first, count));
        papa_merge_subtract(worker->rows[k], worker->rows[n], count);
    }
    return PAPA_OK;
}

#define FOR_BLOCKS(at, count) \
    for (int64_t at = first, count; count = first + n - at < BLOCK ? first + n - at : BLOCK, at < first + n; at += count)

/* ---------------------------------------------------------------- sums over a tensor */

/* n_sums numbers, each the sum of what its slices have. */
typedef struct Sums {
    int n_sums;
    double *slices; /* [slice][n_sums] */
    double *sums;
} Sums;

static PapaStatus sum_pass(PapaMergeJob *job, SliceFn *slice, double *sums, int n_sums)
{
    int64_t n_slices = (job->count + SLICE - 1) / SLICE;
    Sums all = {.n_sums = n_sums, .slices = calloc((size_t)(n_slices * n_sums), sizeof *all.slices), .sums = sums};
    if (!all.slices)
        return papa_fail_memory((size_t)(n_slices * n_sums) * sizeof *all.slices, "sums over a tensor");
    PapaStatus status = run_pass(job, 0, job->count, slice, &all);
    for (int j = 0; j < n_sums; j++)
        sums[j] = 0;
    for (int64_t i = 0; i < n_slices * n_sums; i++)
        sums[i % n_sums] += all.slices[i];
    free(all.slices);
    return status;
}

static PapaStatus slice_angle(PapaMergeWorker *worker, PapaMergeJob *job, int64_t first, int64_t n, void *context)
{
    const Sums *all = context;
    double *sums = all->slices + first / SLICE * all->n_sums;
    FOR_BLOCKS(at, count) {
        PAPA_TRY(read_row(worker, job, 0, at, count));
        PAPA_TRY(read_row(worker, job, 1, at, count));
        const double *a = worker->rows[0], *b = worker->rows[1];
        sums[0] += papa_merge_dot(a, a, count);
        sums[1] += papa_merge_dot(b, b, count);
        sums[2] += papa_merge_dot(a, b, count);
    }
    return PAPA_OK;
}

static PapaStatus prepare_slerp(PapaMergeJob *job)
{
    double sums[3], t = job->merge->options.t;
    PAPA_TRY(sum_pass(job, slice_angle, sums, 3));
    double norms = sqrt(sums[0]) * sqrt(sums[1]), cosine = sums[2] / norms; /* NaN where a norm is 0 */
    job->weights[0] = 1 - t;
    job->weights[1] = t;
    if (fabs(cosine) <= NEARLY_PARALLEL) {
        double angle = acos(cosine);
        job->weights[0] = sin((1 - t) * angle) / sin(angle);
        job->weights[1] = sin(t * angle) / sin(angle);
    }
    return PAPA_OK;
}

static PapaStatus slice_norms(PapaMergeWorker *worker, PapaMergeJob *job, int64_t first, int64_t n, void *context)
{
    const Sums *all = context;
    double *sums = all->slices + first / SLICE * all->n_sums;
    FOR_BLOCKS(at, count) {
        PAPA_TRY(read_differences(worker, job, at, count));
        for (int k = 0; k < all->n_sums; k++)
            sums[k] += papa_merge_dot(worker->rows[k], worker->rows[k], count);
    }
    return PAPA_OK;
}

/* The squared norm of the sum of differences, each multiplied by its weight. */
static PapaStatus slice_resultant(PapaMergeWorker *worker, PapaMergeJob *job, int64_t first, int64_t n, void *context)
{
    const Sums *all = context;
    double *sum = all->slices + first / SLICE * all->n_sums, *row = worker->rows[job->merge->n_sources];
    FOR_BLOCKS(at, count) {
        PAPA_TRY(read_differences(worker, job, at, count));
        for (int k = 0; k < job->merge->n; k++)
            worker->used[k] = worker->rows[k];
        papa_merge_weighted(row, worker->used, job->weights, job->merge->n, count, false);
        *sum += papa_merge_dot(row, row, count);
    }
    return PAPA_OK;
}

/* The cosines of all pairs at once: of unit vectors u_k, |sum u_k|^2 = sum_k |u_k|^2 + sum_{i != j} cos(i, j). */
static PapaStatus prepare_stock(PapaMergeJob *job)
{
    int n = job->merge->n, n_moved = 0;
    double resultant = 0, *norms = job->weights; /* used up before they become weights */
    PAPA_TRY(sum_pass(job, slice_norms, norms, n));
    for (int k = 0; k < n; k++) {
        n_moved += norms[k] != 0;
        job->weights[k] = norms[k] != 0 ? 1 / sqrt(norms[k]) : 0;
    }
    PAPA_TRY(sum_pass(job, slice_resultant, &resultant, 1));
    double cosine = (resultant - n_moved) / ((double)n * (n - 1));
    cosine = cosine < 0 ? 0 : cosine;
    double t = n * cosine / (1 + (n - 1) * cosine);
    for (int k = 0; k < n; k++)
        job->weights[k] = t / n;
    job->weights[n] = 1 - t;
    return PAPA_OK;
}

/* ---------------------------------------------------------------- TIES' threshold */

/* Sizes of doubles are ordered as their bits are. The search fixes 16 of them in each pass, the highest first. */
typedef struct Search {
    int input;
    uint64_t prefix; /* the bits found so far */
    int shift;       /* of the 16 that are looked for */
} Search;

static PapaStatus slice_histogram(PapaMergeWorker *worker, PapaMergeJob *job, int64_t first, int64_t n, void *context)
{
    const Search *search = context;
    double *row = worker->rows[search->input], *base = worker->rows[job->merge->n];
    FOR_BLOCKS(at, count) {
        PAPA_TRY(read_row(worker, job, search->input, at, count));
        PAPA_TRY(read_row(worker, job, job->merge->n, at, count));
        papa_merge_subtract(row, base, count);
        for (int64_t i = 0; i < count; i++) {
            uint64_t bits;
            memcpy(&bits, &row[i], sizeof bits);
            bits &= INT64_MAX; /* the size */
            if (bits >> search->shift >> 16 == search->prefix)
                worker->histogram[bits >> search->shift & (PAPA_MERGE_BINS - 1)]++;
        }
    }
    return PAPA_OK;
}

/* Number of elements in a bin, which is emptied. */
static int64_t take_bin(const PapaMerge *merge, int64_t bin)
{
    int64_t total = 0;
    for (int w = 0; w < merge->n_workers; w++) {
        total += merge->workers[w].histogram[bin];
        merge->workers[w].histogram[bin] = 0;
    }
    return total;
}

/* The bin of the *keep-th largest element. *keep becomes its rank inside the bin; *is_last: it is the smallest there. */
static uint64_t find_bin(const PapaMerge *merge, int64_t *keep, bool *is_last)
{
    int64_t found = -1;
    for (int64_t bin = PAPA_MERGE_BINS - 1; bin >= 0; bin--) {
        int64_t total = take_bin(merge, bin);
        if (found < 0 && total >= *keep) {
            found = bin;
            *is_last = total == *keep;
        } else if (found < 0) {
            *keep -= total;
        }
    }
    return (uint64_t)found;
}

/* The size of the keep-th largest difference of an input, or a number between it and the next smaller one. */
static PapaStatus find_threshold(PapaMergeJob *job, int input, int64_t keep, double *out)
{
    Search search = {.input = input, .shift = 64};
    for (bool is_last = false; !is_last && search.shift > 0;) { /* where all of a bin stay, lower bits don't matter */
        search.shift -= 16;
        PAPA_TRY(run_pass(job, 0, job->count, slice_histogram, &search));
        search.prefix = search.prefix << 16 | find_bin(job->merge, &keep, &is_last);
    }
    uint64_t bits = search.prefix << search.shift;
    memcpy(out, &bits, sizeof *out);
    return PAPA_OK;
}

static PapaStatus prepare_ties(PapaMergeJob *job)
{
    int64_t keep = (int64_t)floor(job->merge->options.density * (double)job->count + 0.5);
    keep = keep < 1 ? 1 : keep < job->count ? keep : job->count;
    for (int k = 0; k < job->merge->n; k++)
        PAPA_TRY(find_threshold(job, k, keep, &job->thresholds[k]));
    return PAPA_OK;
}

/* ---------------------------------------------------------------- the result */

typedef struct Weighting {
    int n;        /* of sources whose weight is not 0 */
    bool is_mean; /* they sum to 1 ... */
    bool is_even; /* ... and are equal: an exact mean */
} Weighting;

static Weighting weighting(const PapaMergeJob *job)
{
    Weighting w = {.is_even = true};
    double sum = 0, one = 0;
    for (int s = 0; s < job->merge->n_sources; s++) {
        if (job->weights[s] == 0)
            continue;
        w.is_even &= !w.n || job->weights[s] == one;
        one = job->weights[s];
        sum += one;
        w.n++;
    }
    w.is_mean = fabs(sum - 1) <= PAPA_MERGE_SUM_TOLERANCE;
    w.is_even &= w.n && w.is_mean;
    return w;
}

/* A sum of tensors. */
static PapaStatus sum_block(PapaMergeWorker *worker, const PapaMergeJob *job, double *to, int64_t first, int64_t count)
{
    Weighting all = weighting(job);
    int n = 0;
    for (int s = 0; s < job->merge->n_sources; s++) {
        if (job->weights[s] == 0)
            continue;
        PAPA_TRY(read_row(worker, job, s, first, count));
        worker->used[n] = worker->rows[s];
        worker->used_weights[n++] = job->weights[s];
    }
    if (all.is_even)
        papa_merge_exact_mean(to, worker->used, n, count, job->type != ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE);
    else if (n)
        papa_merge_weighted(to, worker->used, worker->used_weights, n, count, all.is_mean);
    else
        memset(to, 0, (size_t)count * sizeof *to);
    return PAPA_OK;
}

/* The base and a sum of differences. */
static PapaStatus change_block(PapaMergeWorker *worker, const PapaMergeJob *job, double *to, int64_t first, int64_t count)
{
    const PapaMergeOptions *options = &job->merge->options;
    int n = job->merge->n;
    bool drops = options->method == PAPA_MERGE_DARE || options->method == PAPA_MERGE_DARE_TIES;
    PAPA_TRY(read_differences(worker, job, first, count));
    for (int k = 0; k < n; k++) {
        worker->used[k] = worker->rows[k];
        if (drops)
            papa_merge_drop(worker->rows[k], options->density, options->seed, k, job->name, first, count);
        if (options->method == PAPA_MERGE_TIES)
            papa_merge_trim(worker->rows[k], job->thresholds[k], count);
    }
    if (options->method == PAPA_MERGE_TIES || options->method == PAPA_MERGE_DARE_TIES)
        papa_merge_elect(to, worker->rows[n], worker->used, job->weights, options->scale, n, count);
    else
        papa_merge_add(to, worker->rows[n], worker->used, job->weights, options->scale, n, count);
    return PAPA_OK;
}

/* Finds out whether the result can be made from where the sources lie. */
static void find_floats(PapaMergeJob *job)
{
    Weighting all = weighting(job);
    int n = 0;
    if (job->type == ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE || papa_merge_is_of_differences(job->merge->options.method) || !all.is_even || all.n < 2)
        return;
    for (int s = 0; s < job->merge->n_sources; s++) {
        const PapaMergeTensor *source = &job->sources[s];
        if (job->weights[s] == 0)
            continue;
        job->floats[n] = source->read || source->transposed ? NULL : papa_tensor_data(job->merge->models[s].onnx, source->tensor);
        if (!job->floats[n++])
            return;
    }
    job->n_floats = n;
}

/* The exact mean of a block, where it can be had the fast way: without rows of doubles. */
static bool float_mean(PapaMergeWorker *worker, const PapaMergeJob *job, void *to, int64_t first, int64_t count)
{
    int64_t bytes = (int64_t)papa_type_bits(job->type) / 8;
    double *row = worker->rows[job->merge->n_sources];
    if (!job->n_floats)
        return false;
    for (int k = 0; k < job->n_floats; k++)
        worker->raw[k] = job->floats[k] + first * bytes;
    if (job->type == ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT)
        return papa_merge_float_mean(to, worker->raw, job->n_floats, count);
    for (int k = 0; k < job->n_floats; k++) {
        float *floats = (float *)worker->rows[k];
        papa_raw_to_floats(floats, job->type, worker->raw[k], count);
        worker->raw[k] = floats;
    }
    if (!papa_merge_narrow_mean(row, worker->raw, job->n_floats, count))
        return false;
    papa_doubles_to_raw(to, job->type, row, count);
    return true;
}

typedef struct Target {
    unsigned char *to; /* of element `first` */
    int64_t first;
} Target;

static PapaStatus slice_result(PapaMergeWorker *worker, PapaMergeJob *job, int64_t first, int64_t n, void *context)
{
    const Target *target = context;
    double *row = worker->rows[job->merge->n_sources];
    int64_t bytes = (int64_t)papa_type_bits(job->type) / 8;
    bool changes = papa_merge_is_of_differences(job->merge->options.method);
    FOR_BLOCKS(at, count) {
        unsigned char *to = target->to + (at - target->first) * bytes;
        if (float_mean(worker, job, to, at, count))
            continue;
        PAPA_TRY((changes ? change_block : sum_block)(worker, job, row, at, count));
        papa_doubles_to_raw(to, job->type, row, count);
    }
    return PAPA_OK;
}

static PapaStatus prepare(PapaMergeJob *job)
{
    switch (job->merge->options.method) {
    case PAPA_MERGE_SLERP:
        return prepare_slerp(job);
    case PAPA_MERGE_STOCK:
        return prepare_stock(job);
    case PAPA_MERGE_TIES:
        return prepare_ties(job);
    default:
        return PAPA_OK;
    }
}

PapaStatus papa_merge_fill(void *context, void *to, int64_t first, int64_t n)
{
    PapaMergeJob *job = context;
    const volatile sig_atomic_t *stop = job->merge->options.stop;
    if (stop && *stop)
        return papa_fail(PAPA_ERR_STOPPED, "stopped before all was merged");
    if (!job->is_prepared) {
        PAPA_TRY(prepare(job));
        find_floats(job);
        job->is_prepared = true;
    }
    /* The fast mean takes no longer than writing it, which another thread does: with two cores, a third thread would be one more to wait for. */
    bool alone = job->n_floats && job->merge->n_workers <= 2;
    return (alone ? run_alone : run_pass)(job, first, n, slice_result, &(Target){.to = to, .first = first});
}
