/* Proofs of groups: the network is compiled once for the reference device; each trial is a store with other numbers, and one run. */
#include "align/proof.h"

#include "base/clock.h"
#include "base/rng.h"
#include "base/threads.h"
#include "model/net.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define VISIBLE 1e-18 /* an error below this is no rounding of an output */

/* What the streams of PAPA_RNG_PROVE are for. */
enum { DRAW_INPUT, DRAW_TENSOR, DRAW_PERMUTATION, DRAW_CHANGE };

/* What one thread needs to run the network. */
typedef struct Runner {
    PapaDevice *dev;
    PapaWorker *worker;
    float *store;       /* the numbers to be tried */
    double *outputs;    /* what they give, one output behind the other */
} Runner;

struct PapaProof {
    PapaArena arena;
    PapaModel model;    /* only its table; the file is the caller's */
    PapaNet *net;
    Runner main;        /* with all threads inside an operator */
    uint64_t seed;
    int threads;
    const PapaHooks *hooks;
    float *numbers;     /* the file's, a store */
    double **inputs;    /* by input of the net */
    double *expected;   /* what numbers give */
    int64_t n_outputs;  /* elements of all outputs */
};

/* ---------------------------------------------------------------- running */

static PapaRng stream(const PapaProof *proof, int use, int64_t index)
{
    return papa_rng(proof->seed, PAPA_RNG_PROVE, -1, (uint32_t)use, (uint32_t)index);
}

static PapaStatus runner_open(Runner *r, const PapaProof *proof, int threads)
{
    if (!r->dev)
        PAPA_TRY(papa_device_open_reference(&r->dev, threads));
    PAPA_TRY(papa_worker_new(&r->worker, (const PapaNet *const[]){proof->net}, 1, r->dev));
    const size_t bytes = (size_t)(proof->model.store.n_total + 1) * sizeof *r->store, output_bytes = (size_t)(proof->n_outputs + 1) * sizeof *r->outputs;
    r->store = malloc(bytes);
    r->outputs = malloc(output_bytes);
    return r->store && r->outputs ? PAPA_OK : papa_fail_memory(bytes + output_bytes, "a proof");
}

static void runner_close(Runner *r)
{
    papa_worker_free(r->worker);
    papa_device_close(r->dev);
    free(r->store);
    free(r->outputs);
}

/* The outputs that the runner's store gives. */
static PapaStatus run(const PapaProof *proof, Runner *r)
{
    for (int i = 0; i < papa_net_inputs(proof->net); i++) {
        const PapaShape shape = papa_net_input_shape(proof->net, i);
        bool channels_last;
        PapaReal *to = papa_net_input_at(proof->net, r->worker, i, &channels_last);
        PAPA_TRY(papa_device_upload(r->dev, to, proof->inputs[i], (size_t)papa_shape_count(&shape) * sizeof(double)));
    }
    PAPA_TRY(papa_net_forward(proof->net, r->worker, r->store, NULL));
    double *to = r->outputs;
    for (int i = 0; i < papa_net_outputs(proof->net); i++) {
        const PapaShape shape = papa_net_output_shape(proof->net, i);
        const int64_t n = papa_shape_count(&shape);
        PAPA_TRY(papa_device_download(r->dev, to, papa_net_output_double(proof->net, r->worker, i), (size_t)n * sizeof *to));
        to += n;
    }
    return PAPA_OK;
}

/* The largest difference of an output, relative to its largest element. */
static double difference(const PapaProof *proof, const double *expected, const double *got)
{
    double worst = 0;
    for (int i = 0; i < papa_net_outputs(proof->net); i++) {
        const PapaShape shape = papa_net_output_shape(proof->net, i);
        const int64_t n = papa_shape_count(&shape);
        double most = 0, error = 0;
        for (int64_t k = 0; k < n; k++) {
            const double d = fabs(got[k] - expected[k]);
            most = fmax(most, fabs(expected[k]));
            error = isnan(d) ? INFINITY : fmax(error, d);
        }
        error = error > 0 ? error / most : 0;
        worst = fmax(worst, error);
        expected += n, got += n;
    }
    return worst;
}

static PapaStatus check_finite(const PapaProof *proof, const double *outputs, const char *numbers)
{
    for (int i = 0; i < papa_net_outputs(proof->net); i++) {
        const PapaShape shape = papa_net_output_shape(proof->net, i);
        for (int64_t k = 0, n = papa_shape_count(&shape); k < n; k++, outputs++)
            if (!isfinite(*outputs))
                return papa_fail(PAPA_ERR_NUMERIC, "%s: '%s' comes out as %g for random inputs%s: nothing can be proved", papa_onnx_path(proof->model.onnx),
                    papa_net_output_name(proof->net, i), *outputs, numbers);
    }
    return PAPA_OK;
}

/* ---------------------------------------------------------------- opening */

static PapaStatus compile(PapaProof *proof, const PapaShape *input_shapes)
{
    const Onnx__GraphProto *graph = papa_onnx_graph(proof->model.onnx);
    const int n_outputs = (int)graph->n_output;
    const char **outputs = PAPA_NEW_ARRAY(&proof->arena, const char *, n_outputs);
    if (!outputs)
        return PAPA_ERR_MEMORY;
    for (int i = 0; i < n_outputs; i++)
        outputs[i] = graph->output[i]->name;
    PAPA_TRY(papa_model_find_params(&proof->model, outputs, n_outputs, &(PapaModelSelection){.cut = true, .decay_all = true}));
    PAPA_TRY(papa_net_compile(&proof->net, &proof->model, &(PapaNetOptions){.mode = PAPA_MODE_INFER, .input_shapes = input_shapes, .outputs = outputs,
        .n_outputs = n_outputs, .cut = true}, proof->main.dev));
    for (int i = 0; i < papa_net_outputs(proof->net); i++) {
        const PapaShape shape = papa_net_output_shape(proof->net, i);
        proof->n_outputs += papa_shape_count(&shape);
    }
    return PAPA_OK;
}

static PapaStatus draw_inputs(PapaProof *proof)
{
    const int n_inputs = papa_net_inputs(proof->net);
    proof->inputs = PAPA_NEW_ARRAY(&proof->arena, double *, n_inputs);
    if (!proof->inputs)
        return PAPA_ERR_MEMORY;
    for (int i = 0; i < n_inputs; i++) {
        const PapaShape shape = papa_net_input_shape(proof->net, i);
        const int64_t n = papa_shape_count(&shape);
        PapaRng rng = stream(proof, DRAW_INPUT, i);
        proof->inputs[i] = PAPA_NEW_ARRAY(&proof->arena, double, n + 1);
        if (!proof->inputs[i])
            return PAPA_ERR_MEMORY;
        for (int64_t k = 0; k < n; k++)
            proof->inputs[i][k] = papa_rng_normal(&rng);
    }
    return PAPA_OK;
}

static PapaStatus open_proof(PapaProof *proof, const PapaShape *input_shapes)
{
    PAPA_TRY(papa_device_open_reference(&proof->main.dev, proof->threads));
    PAPA_TRY(compile(proof, input_shapes));
    PAPA_TRY(draw_inputs(proof));
    PAPA_TRY(runner_open(&proof->main, proof, proof->threads));
    proof->numbers = PAPA_NEW_ARRAY(&proof->arena, float, proof->model.store.n_total + 1);
    proof->expected = PAPA_NEW_ARRAY(&proof->arena, double, proof->n_outputs + 1);
    if (!proof->numbers || !proof->expected)
        return PAPA_ERR_MEMORY;
    PAPA_TRY(papa_model_read_params(&proof->model, proof->numbers));
    memcpy(proof->main.store, proof->numbers, (size_t)proof->model.store.n_total * sizeof(float));
    PAPA_TRY(run(proof, &proof->main));
    memcpy(proof->expected, proof->main.outputs, (size_t)proof->n_outputs * sizeof(double));
    return check_finite(proof, proof->expected, "");
}

PapaStatus papa_proof_open(PapaProof **out, const PapaOnnx *onnx, const PapaProofOptions *options)
{
    *out = NULL;
    if (options->threads < 1)
        return papa_fail(PAPA_ERR_ARGUMENT, "a proof with %d threads, expected at least 1", options->threads);
    PapaGroups *groups = NULL;
    PapaProof *proof = calloc(1, sizeof *proof);
    if (!proof)
        return papa_fail_memory(sizeof *proof, "a proof");
    *proof = (PapaProof){.model = {.onnx = (PapaOnnx *)onnx}, .seed = options->seed, .threads = options->threads, .hooks = options->hooks};
    /* Of the groups only the shapes are wanted, which are for the derivation to choose. */
    PapaStatus status = papa_groups_derive(&groups, onnx, &(PapaGroupsOptions){options->input_shapes, options->n_input_shapes});
    if (status == PAPA_OK)
        status = open_proof(proof, groups->input_shapes);
    papa_groups_free(groups);
    if (status != PAPA_OK) {
        papa_proof_close(proof);
        return status;
    }
    *out = proof;
    return PAPA_OK;
}

void papa_proof_close(PapaProof *proof)
{
    if (!proof)
        return;
    papa_net_free(proof->net, proof->main.dev);
    runner_close(&proof->main);
    papa_arena_free(&proof->model.arena);
    papa_arena_free(&proof->arena);
    free(proof);
}

/* ---------------------------------------------------------------- other numbers in the tensors */

PapaStatus papa_proof_difference(double *out, PapaProof *proof, papa_proof_replace_fn *replace, void *context)
{
    memcpy(proof->main.store, proof->numbers, (size_t)proof->model.store.n_total * sizeof(float));
    for (int i = 0; i < proof->model.n_params; i++) {
        const PapaParam *param = &proof->model.params[i];
        PAPA_TRY(replace(context, param->tensor, proof->main.store + param->offset, param->count));
    }
    PAPA_TRY(run(proof, &proof->main));
    *out = difference(proof, proof->expected, proof->main.outputs);
    return PAPA_OK;
}

/* ---------------------------------------------------------------- groups */

typedef struct Trial {
    const PapaProof *proof;
    const PapaGroups *groups;
    float *numbers;     /* the file's, but none that are all equal */
    double *expected;   /* what they give */
    int64_t **perms;    /* by group */
    double *errors;     /* by group, and of all at once */
    int *batches;       /* the first group of each task, and behind the last one n_groups */
    int n_batches;
    Runner *runners;    /* by worker of the pool */
    atomic_int done;
    double began;
} Trial;

static bool all_equal(const float *values, int64_t n)
{
    for (int64_t i = 1; i < n; i++)
        if (values[i] != values[0])
            return false;
    return n > 1;
}

/* About what they are, of the same sign; in place of zeros, numbers about them, positive ones for variances. */
static void draw_about(float *values, int64_t n, PapaRole role, PapaRng *rng)
{
    for (int64_t i = 0; i < n; i++) {
        const double v = (double)values[i];
        if (v != 0)
            values[i] = (float)(v * (.75 + .5 * papa_rng_double(rng)));
        else
            values[i] = (float)(role == PAPA_ROLE_VARIANCE ? .1 + papa_rng_double(rng) : .25 * papa_rng_normal(rng));
    }
}

static PapaStatus draw_numbers(Trial *t)
{
    const PapaProof *proof = t->proof;
    Runner *r = &t->runners[0];
    memcpy(t->numbers, proof->numbers, (size_t)proof->model.store.n_total * sizeof *t->numbers);
    for (int i = 0; i < proof->model.n_params; i++) {
        const PapaParam *param = &proof->model.params[i];
        float *values = t->numbers + param->offset;
        PapaRng rng = stream(proof, DRAW_TENSOR, i);
        if (all_equal(values, param->count))
            draw_about(values, param->count, param->role, &rng);
    }
    memcpy(r->store, t->numbers, (size_t)proof->model.store.n_total * sizeof *t->numbers);
    PAPA_TRY(run(proof, r));
    memcpy(t->expected, r->outputs, (size_t)proof->n_outputs * sizeof *t->expected);
    return check_finite(proof, t->expected, ", with tensors of one number drawn anew");
}

/* A random permutation that is not the identity: n is at least 2. */
static void draw_permutation(int64_t *perm, int64_t n, PapaRng rng)
{
    bool moved = false;
    for (int64_t i = 0; i < n; i++)
        perm[i] = i;
    while (!moved) {
        for (int64_t i = n - 1; i > 0; i--) {
            const int64_t k = papa_rng_below(&rng, (uint32_t)i + 1), held = perm[i];
            perm[i] = perm[k];
            perm[k] = held;
        }
        for (int64_t i = 0; i < n; i++)
            moved |= perm[i] != i;
    }
}

static PapaStatus draw_permutations(Trial *t)
{
    for (int g = 0; g < t->groups->n_groups; g++) {
        const int64_t n = t->groups->groups[g].n;
        t->perms[g] = malloc((size_t)n * sizeof **t->perms);
        if (!t->perms[g])
            return papa_fail_memory((size_t)n * sizeof **t->perms, "a permutation");
        draw_permutation(t->perms[g], n, stream(t->proof, DRAW_PERMUTATION, g));
    }
    return PAPA_OK;
}

static PapaStatus permuted_error(double *out, const Trial *t, Runner *r, const int64_t *const *perms)
{
    const PapaProof *proof = t->proof;
    memcpy(r->store, t->numbers, (size_t)proof->model.store.n_total * sizeof *r->store);
    PAPA_TRY(papa_groups_permute_store(t->groups, perms, &proof->model, r->store));
    PAPA_TRY(run(proof, r));
    *out = difference(proof, t->expected, r->outputs);
    return PAPA_OK;
}

static const PapaParam *param_of(const Trial *t, const PapaSlots *slots)
{
    const PapaModel *model = &t->proof->model;
    for (int i = 0; i < model->n_params; i++)
        if (model->params[i].tensor == t->groups->tensors[slots->tensor].tensor)
            return &model->params[i];
    return NULL; /* papa_groups_permute_store would have refused it */
}

/* Other numbers where the group's units lie in this tensor. */
static void change_slots(const Trial *t, float *store, const PapaGroup *group, const PapaSlots *slots, PapaRng *rng)
{
    const PapaParam *param = param_of(t, slots);
    for (int64_t i = 0; i < group->n * slots->n_parts; i++)
        for (int64_t a = 0; a < slots->n[0]; a++)
            for (int64_t b = 0; b < slots->n[1]; b++)
                draw_about(store + param->offset + slots->base[i] + a * slots->stride[0] + b * slots->stride[1], 1, param->role, rng);
}

/* Whether other numbers in one of the group's tensors show in the outputs. */
static PapaStatus is_seen(bool *out, const Trial *t, Runner *r, int g)
{
    const PapaGroup *group = &t->groups->groups[g];
    *out = false;
    for (int k = 0; k < group->n_slots && !*out; k++) {
        memcpy(r->store, t->numbers, (size_t)t->proof->model.store.n_total * sizeof *r->store);
        PapaRng rng = stream(t->proof, DRAW_CHANGE, k);
        change_slots(t, r->store, group, &group->slots[k], &rng);
        PAPA_TRY(run(t->proof, r));
        *out = difference(t->proof, t->expected, r->outputs) > PAPA_PROOF_TOLERANCE;
    }
    return PAPA_OK;
}

/* Whether two neighbours are the same units in two blocks: a vision transformer has hundreds, and each run of it takes seconds. */
static bool is_alike(const PapaGroup *a, const PapaGroup *b)
{
    return a->n == b->n && !a->blocks && !b->blocks && strcmp(a->name, b->name) == 0;
}

static void make_batches(Trial *t)
{
    const PapaGroup *groups = t->groups->groups;
    for (int g = 0; g < t->groups->n_groups; g++)
        if (!g || !is_alike(&groups[g - 1], &groups[g]))
            t->batches[t->n_batches++] = g;
    t->batches[t->n_batches] = t->groups->n_groups;
}

static PapaStatus try_batch(const Trial *t, Runner *r, int first, int end)
{
    double error;
    const int64_t **some = calloc((size_t)t->groups->n_groups, sizeof *some);
    if (!some)
        return papa_fail_memory((size_t)t->groups->n_groups * sizeof *some, "a proof");
    for (int g = first; g < end; g++)
        some[g] = t->perms[g];
    PapaStatus status = permuted_error(&error, t, r, some);
    free(some);
    PAPA_TRY(status);
    for (int g = first; g < end; g++) {
        bool seen = error > VISIBLE;
        if (!seen)
            PAPA_TRY(is_seen(&seen, t, r, g));
        t->errors[g] = seen ? error : NAN;
    }
    return PAPA_OK;
}

static PapaStatus try_task(void *context, int worker, int task)
{
    Trial *t = context;
    const PapaHooks *hooks = t->proof->hooks;
    if (hooks && hooks->stop && *hooks->stop)
        return papa_fail(PAPA_ERR_STOPPED, "%s: stopped while its groups were proved", papa_onnx_path(t->proof->model.onnx));
    if (task == t->n_batches)
        return permuted_error(&t->errors[t->groups->n_groups], t, &t->runners[worker], (const int64_t *const *)t->perms);
    PAPA_TRY(try_batch(t, &t->runners[worker], t->batches[task], t->batches[task + 1]));
    t->done += t->batches[task + 1] - t->batches[task];
    return PAPA_OK;
}

/* Called on the caller's thread about ten times a second. */
static void report(void *context)
{
    Trial *t = context;
    const PapaHooks *hooks = t->proof->hooks;
    if (!hooks || !hooks->progress)
        return;
    hooks->progress(hooks->context, &(PapaProgress){.phase = PAPA_PHASE_PROVE, .done = t->done, .total = t->groups->n_groups,
        .seconds = papa_now() - t->began});
}

static PapaStatus try_all(Trial *t, int n_runners)
{
    PapaPool *pool;
    PAPA_TRY(papa_pool_new(&pool, n_runners));
    papa_pool_on_wait(pool, report, t);
    PapaStatus status = papa_pool_for(pool, t->n_batches + 1, try_task, t);
    papa_pool_free(pool);
    if (status == PAPA_OK)
        report(t);
    return status;
}

static PapaStatus judge(const Trial *t)
{
    const char *path = papa_onnx_path(t->proof->model.onnx);
    const int n = t->groups->n_groups;
    int unseen = 0;
    for (int g = 0; g < n; g++) {
        const PapaGroup *group = &t->groups->groups[g];
        unseen += isnan(t->errors[g]);
        if (t->errors[g] > PAPA_PROOF_TOLERANCE)
            return papa_fail(PAPA_ERR_NUMERIC, "%s: group '%s' of %lld %s: permuted at random, it changes outputs by %.3g of the largest", path, group->name,
                (long long)group->n, group->blocks ? "blocks" : "units", t->errors[g]);
    }
    if (t->errors[n] > PAPA_PROOF_TOLERANCE)
        return papa_fail(PAPA_ERR_NUMERIC, "%s: all %d groups at once, permuted at random, change outputs by %.3g of the largest", path, n, t->errors[n]);
    if (n && unseen == n)
        return papa_fail(PAPA_ERR_NUMERIC, "%s: for random inputs the outputs depend on none of its %d groups: nothing can be proved", path, n);
    return PAPA_OK;
}

static PapaStatus prove(Trial *t, int n_runners)
{
    const PapaProof *proof = t->proof;
    t->numbers = malloc((size_t)(proof->model.store.n_total + 1) * sizeof *t->numbers);
    t->expected = malloc((size_t)(proof->n_outputs + 1) * sizeof *t->expected);
    t->perms = calloc((size_t)t->groups->n_groups + 1, sizeof *t->perms);
    t->errors = calloc((size_t)t->groups->n_groups + 1, sizeof *t->errors);
    t->batches = calloc((size_t)t->groups->n_groups + 1, sizeof *t->batches);
    t->runners = calloc((size_t)n_runners, sizeof *t->runners);
    if (!t->numbers || !t->expected || !t->perms || !t->errors || !t->batches || !t->runners)
        return papa_fail_memory((size_t)proof->model.store.n_total * sizeof *t->numbers, "a proof");
    make_batches(t);
    for (int i = 0; i < n_runners; i++)
        PAPA_TRY(runner_open(&t->runners[i], proof, 1));
    PAPA_TRY(draw_numbers(t));
    PAPA_TRY(draw_permutations(t));
    return try_all(t, n_runners);
}

PapaStatus papa_proof_groups(double *errors, PapaProof *proof, const PapaGroups *groups)
{
    const int n_tasks = groups->n_groups + 1, n_runners = proof->threads < n_tasks ? proof->threads : n_tasks;
    Trial t = {.proof = proof, .groups = groups, .began = papa_now()};
    PapaStatus status = prove(&t, n_runners);
    if (status == PAPA_OK) {
        memcpy(errors, t.errors, (size_t)groups->n_groups * sizeof *errors);
        status = judge(&t);
    }
    for (int g = 0; t.perms && g < groups->n_groups; g++)
        free(t.perms[g]);
    for (int i = 0; t.runners && i < n_runners; i++)
        runner_close(&t.runners[i]);
    free(t.numbers), free(t.expected), free(t.perms), free(t.errors), free(t.batches), free(t.runners);
    return status;
}
