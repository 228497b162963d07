/* Groups on trial: a file's groups are derived, then permuted at random, and the network must not notice.
 *
 *     check_groups(path, &shape, "conv1.w 8, fc1.w 16");     the groups' names and sizes, "[]" around those of blocks
 *
 * Tensors of one number, zeros and ones in most files, are drawn anew: they permute to themselves. Once in float32 by the executor, once by the proof in
 * double. */
#ifndef GROUPSTEST_H
#define GROUPSTEST_H

#include "align/proof.h"
#include "base/rng.h"
#include "check.h"
#include "helpers/feed.h"

typedef struct GroupsTest {
    PapaModel *model;
    PapaGroups *groups;
    PapaDevice *dev;
    PapaNet *net;
    PapaWorker *worker;
    const PapaShape *shapes; /* of the inputs */
    int n_inputs;
    int64_t n_out;
    float *params, *permuted, *expected, *got;
    int64_t **perms; /* by group */
} GroupsTest;

static inline void *groups_alloc(int64_t n, size_t size)
{
    void *memory = calloc((size_t)n + 1, size);
    if (!memory)
        abort();
    return memory;
}

static inline void groups_draw(float *to, int64_t n, uint32_t stream, double centre, double std)
{
    PapaRng rng = papa_rng(1, PAPA_RNG_TEST, 1, stream, 0);
    for (int64_t i = 0; i < n; i++)
        to[i] = (float)(centre + std * papa_rng_normal(&rng));
}

/* Runs the network on a store; all its outputs, one behind the other. */
static inline PapaStatus groups_run(GroupsTest *t, const float *params, float *to)
{
    float *on_device;
    PAPA_TRY(floats_on(t->dev, &on_device, params, t->model->store.n_total));
    for (int i = 0; i < t->n_inputs; i++) {
        int64_t n = papa_shape_count(&t->shapes[i]);
        float *input = groups_alloc(n, sizeof *input);
        groups_draw(input, n, (uint32_t)i, 0, 1);
        PAPA_TRY(feed(t->net, t->worker, i, input, &t->shapes[i]));
        free(input);
    }
    PAPA_TRY(papa_net_forward(t->net, t->worker, on_device, NULL));
    for (size_t i = 0; i < papa_onnx_graph(t->model->onnx)->n_output; i++) {
        PapaShape shape = papa_net_output_shape(t->net, (int)i);
        PAPA_TRY(fetch_output(t->net, t->worker, (int)i, to));
        to += papa_shape_count(&shape);
    }
    papa_device_free(t->dev, on_device);
    return PAPA_OK;
}

static inline bool groups_all_equal(const float *values, int64_t n)
{
    for (int64_t i = 1; i < n; i++)
        if (values[i] != values[0])
            return false;
    return true;
}

static inline PapaStatus groups_begin(GroupsTest *t, const char *path, const PapaShape *shapes, int n_inputs)
{
    *t = (GroupsTest){.shapes = shapes, .n_inputs = n_inputs};
    PAPA_TRY(papa_model_open(&t->model, path));
    PAPA_TRY(papa_groups_derive(&t->groups, t->model->onnx, NULL));
    const Onnx__GraphProto *graph = papa_onnx_graph(t->model->onnx);
    const char *outputs[16];
    int n_outputs = (int)graph->n_output;
    for (int i = 0; i < n_outputs; i++)
        outputs[i] = graph->output[i]->name;
    PAPA_TRY(papa_model_find_params(t->model, outputs, n_outputs, &(PapaModelSelection){.decay_all = true}));
    PAPA_TRY(papa_device_open_cpu(&t->dev, 1));
    PAPA_TRY(papa_net_compile(&t->net, t->model, &(PapaNetOptions){.mode = PAPA_MODE_INFER, .input_shapes = shapes, .outputs = outputs,
        .n_outputs = n_outputs}, t->dev));
    PAPA_TRY(papa_worker_new(&t->worker, (const PapaNet *const[]){t->net}, 1, t->dev));
    for (int i = 0; i < n_outputs; i++) {
        PapaShape out = papa_net_output_shape(t->net, i);
        t->n_out += papa_shape_count(&out);
    }
    t->params = groups_alloc(t->model->store.n_total, sizeof(float));
    t->permuted = groups_alloc(t->model->store.n_total, sizeof(float));
    t->expected = groups_alloc(t->n_out, sizeof(float));
    t->got = groups_alloc(t->n_out, sizeof(float));
    t->perms = groups_alloc(t->groups->n_groups, sizeof *t->perms);
    PAPA_TRY(papa_model_read_params(t->model, t->params));
    for (int i = 0; i < t->model->n_params; i++) {
        const PapaParam *param = &t->model->params[i];
        float *to = t->params + param->offset;
        if (!groups_all_equal(to, param->count))
            continue;
        groups_draw(to, param->count, (uint32_t)i + 100, param->role == PAPA_ROLE_SCALE || param->role == PAPA_ROLE_VARIANCE ? 1 : 0, .25);
        for (int64_t k = 0; k < param->count && param->role == PAPA_ROLE_VARIANCE; k++)
            to[k] = fabsf(to[k]) + .1f;
    }
    return groups_run(t, t->params, t->expected);
}

static inline void groups_end(GroupsTest *t)
{
    for (int g = 0; t->groups && t->perms && g < t->groups->n_groups; g++)
        free(t->perms[g]);
    papa_worker_free(t->worker);
    if (t->dev)
        papa_net_free(t->net, t->dev);
    papa_device_close(t->dev);
    papa_groups_free(t->groups);
    papa_model_close(t->model);
    free(t->params), free(t->permuted), free(t->expected), free(t->got), free(t->perms);
}

/* A random permutation that is not the identity. */
static inline int64_t *groups_permutation(int64_t n, uint32_t stream)
{
    int64_t *perm = groups_alloc(n, sizeof *perm);
    PapaRng rng = papa_rng(1, PAPA_RNG_TEST, 2, stream, 0);
    for (int64_t i = 0; i < n; i++)
        perm[i] = i;
    for (bool moved = false; !moved;)
        for (int64_t i = n - 1; i > 0; i--) {
            int64_t k = papa_rng_below(&rng, (uint32_t)i + 1), held = perm[i];
            perm[i] = perm[k];
            perm[k] = held;
            moved |= k != i;
        }
    return perm;
}

/* The largest difference of the outputs with these permutations, relative to the largest output. */
static inline double groups_error(GroupsTest *t, int64_t *const *perms)
{
    double most = 0, error = 0;
    memcpy(t->permuted, t->params, (size_t)t->model->store.n_total * sizeof(float));
    PapaStatus status = papa_groups_permute_store(t->groups, (const int64_t *const *)perms, t->model, t->permuted);
    if (status == PAPA_OK)
        status = groups_run(t, t->permuted, t->got);
    CHECK(status == PAPA_OK, "%s", papa_error());
    for (int64_t i = 0; i < t->n_out; i++) {
        double difference = fabs((double)t->got[i] - t->expected[i]);
        most = fmax(most, fabs((double)t->expected[i]));
        error = difference > error || difference != difference ? difference : error;
    }
    return most > 0 ? error / most : error;
}

#define GROUPS_TOLERANCE 1e-5 /* float32, sums in another order */

/* Each group by itself, then all at once, changes nothing. */
static inline void groups_try(GroupsTest *t, const char *what)
{
    int64_t **one = groups_alloc(t->groups->n_groups, sizeof *one);
    for (int g = 0; g < t->groups->n_groups; g++) {
        const PapaGroup *group = &t->groups->groups[g];
        one[g] = t->perms[g] = groups_permutation(group->n, (uint32_t)g);
        double error = groups_error(t, one);
        CHECK(error <= GROUPS_TOLERANCE, "%s: group %s of %lld%s: outputs differ by %g", what, group->name, (long long)group->n,
            group->blocks ? " blocks" : "", error);
        one[g] = NULL;
    }
    double error = groups_error(t, t->perms);
    CHECK(error <= GROUPS_TOLERANCE, "%s: all groups: outputs differ by %g", what, error);
    free(one);
}

/* The proof in double finds the same. Returns the largest error. unseen: how many groups have no say in the outputs; NULL: none may. */
static inline double groups_prove(const GroupsTest *t, const char *what, int *unseen)
{
    PapaProof *proof = NULL;
    const int n = t->groups->n_groups;
    double *errors = groups_alloc(n, sizeof *errors), worst = 0;
    PapaStatus status = papa_proof_open(&proof, t->model->onnx, &(PapaProofOptions){.seed = 1, .threads = 2, .input_shapes = t->shapes,
        .n_input_shapes = t->n_inputs});
    if (status == PAPA_OK)
        status = papa_proof_groups(errors, proof, t->groups);
    int n_unseen = 0;
    for (int g = 0; g < n; g++) {
        n_unseen += isnan(errors[g]);
        CHECK(errors[g] <= PAPA_PROOF_TOLERANCE || isnan(errors[g]), "%s: group %s: error %g", what, t->groups->groups[g].name, errors[g]);
        worst = fmax(worst, errors[g]); /* which leaves out a NaN */
    }
    CHECK(status == PAPA_OK || (status == PAPA_ERR_NUMERIC && n && n_unseen == n), "%s: %s", what, papa_error());
    CHECK(unseen || !n_unseen, "%s: %d of %d groups have no say in the outputs", what, n_unseen, n);
    if (unseen)
        *unseen = n_unseen;
    papa_proof_close(proof);
    free(errors);
    return worst;
}

/* Each of a group's tensors matters: with one of them left where it is, the network notices. */
static inline void groups_try_incomplete(GroupsTest *t, const char *what)
{
    int64_t **one = groups_alloc(t->groups->n_groups, sizeof *one);
    for (int g = 0; g < t->groups->n_groups; g++) {
        PapaGroup *group = &t->groups->groups[g];
        one[g] = t->perms[g];
        for (int k = 0; k < group->n_slots; k++) {
            PapaSlots slots = group->slots[k];
            group->slots[k] = group->slots[--group->n_slots];
            double error = groups_error(t, one);
            CHECK(error > 3 * GROUPS_TOLERANCE, "%s: group %s of %lld: nobody notices that %s stays along axis %d (%g)", what, group->name,
                (long long)group->n, t->groups->tensors[slots.tensor].name, slots.axis, error);
            group->slots[group->n_slots++] = group->slots[k];
            group->slots[k] = slots;
        }
        one[g] = NULL;
    }
    free(one);
}

/* "conv1.w 8, [attn.w 4]" */
static inline const char *groups_text(const PapaGroups *groups)
{
    static char text[8192];
    size_t used = 0;
    *text = 0;
    for (int g = 0; g < groups->n_groups && used < sizeof text; g++) {
        const PapaGroup *group = &groups->groups[g];
        used += (size_t)snprintf(text + used, sizeof text - used, group->blocks ? "%s[%s %lld]" : "%s%s %lld", g ? ", " : "", group->name, (long long)group->n);
    }
    return text;
}

static inline void check_groups(const char *path, const PapaShape *shape, const char *expected)
{
    GroupsTest t;
    PapaStatus status = groups_begin(&t, path, shape, 1);
    CHECK(status == PAPA_OK, "%s: %s", path, papa_error());
    if (status == PAPA_OK) {
        CHECK(!expected || strcmp(groups_text(t.groups), expected) == 0, "%s: groups \"%s\", expected \"%s\"", path, groups_text(t.groups), expected);
        groups_try(&t, path);
        printf("%s: proved to %.1e\n", path, groups_prove(&t, path, NULL));
        groups_try_incomplete(&t, path);
    }
    groups_end(&t);
}

#endif
