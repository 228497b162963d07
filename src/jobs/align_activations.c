/* Correlations of two models' activations (Li et al. 2016, arXiv 1511.07543; the matching by activations of Ainsworth et al. 2022, section 3.1).
 *
 * A value's samples of a unit are its elements over batch, space and, where a flattened axis holds several positions of each unit, those. Sums are
 * taken of differences from the first batch's means, so that little cancels; products in float32 over short runs, everything else in double. */
#include "jobs/alignment.h"
#include "kernels/matmul.h"
#include "train/train_options.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define RUN 1024 /* samples that one product of matrices sums over in float32 */

/* One model's side of a value. */
typedef struct Side {
    double *shift, *sum, *square; /* by unit */
    float *run;                   /* (n, RUN) */
} Side;

/* One value of one group. */
typedef struct Pair {
    const PapaGroupValue *value;
    int output;      /* of the network */
    int64_t n;       /* units */
    int64_t count;   /* samples so far */
    Side a, b;
    double *products; /* (n, n) */
    float *product;   /* of one run */
    PapaMatmul *matmul;
    void *workspace;
} Pair;

typedef struct Measuring {
    PapaArena arena;
    const PapaAlignment *alignment;
    PapaDevice *dev;
    Pair *pairs;
    int n_pairs;
    const char **outputs;
    int n_outputs;
} Measuring;

/* ---------------------------------------------------------------- which values */

/* The output's index; outputs are listed once. */
static int output_of(Measuring *m, const char *name)
{
    for (int i = 0; i < m->n_outputs; i++)
        if (!strcmp(m->outputs[i], name))
            return i;
    m->outputs[m->n_outputs] = name;
    return m->n_outputs++;
}

/* Values that the classifier does not depend on are not computed. */
static PapaStatus choose_values(Measuring *m, const PapaModel *model)
{
    const PapaGroups *groups = m->alignment->groups;
    PapaGraph *graph = NULL;
    m->pairs = PAPA_NEW_ARRAY(&m->arena, Pair, groups->n_values);
    m->outputs = PAPA_NEW_ARRAY(&m->arena, const char *, groups->n_values);
    if (!m->pairs || !m->outputs)
        return PAPA_ERR_MEMORY;
    PAPA_TRY(papa_graph_read(&graph, model->onnx, &(PapaGraphOptions){.mode = PAPA_MODE_INFER, .outputs = &model->head.logits, .n_outputs = 1}));
    for (int i = 0; i < groups->n_values; i++) {
        const PapaGroupValue *value = &groups->values[i];
        if (papa_graph_find(graph, value->name))
            m->pairs[m->n_pairs++] = (Pair){.value = value, .output = output_of(m, value->name), .n = groups->groups[value->group].n};
    }
    papa_graph_free(graph);
    return PAPA_OK;
}

static PapaStatus open_side(Side *side, PapaArena *arena, int64_t n)
{
    *side = (Side){PAPA_NEW_ARRAY(arena, double, n), PAPA_NEW_ARRAY(arena, double, n), PAPA_NEW_ARRAY(arena, double, n),
        PAPA_NEW_ARRAY(arena, float, n * RUN)};
    return side->shift && side->sum && side->square && side->run ? PAPA_OK : PAPA_ERR_MEMORY;
}

static PapaStatus open_pair(Pair *pair, Measuring *m)
{
    const int64_t n = pair->n;
    PapaMatmulDesc desc = {.batch = 1, .M = n, .N = n, .K = RUN, .transpose_b = true, .lda = RUN, .ldb = RUN, .ldc = n, .alpha = 1};
    PAPA_TRY(open_side(&pair->a, &m->arena, n));
    PAPA_TRY(open_side(&pair->b, &m->arena, n));
    pair->products = PAPA_NEW_ARRAY(&m->arena, double, n * n);
    pair->product = PAPA_NEW_ARRAY(&m->arena, float, n * n);
    if (!pair->products || !pair->product)
        return PAPA_ERR_MEMORY;
    PAPA_TRY(papa_matmul_create_cpu(m->dev, &pair->matmul, &desc));
    pair->workspace = papa_arena_alloc(&m->arena, papa_matmul_workspace_cpu(pair->matmul));
    return pair->workspace ? PAPA_OK : PAPA_ERR_MEMORY;
}

static void close_measuring(Measuring *m)
{
    for (int i = 0; i < m->n_pairs; i++)
        if (m->pairs[i].matmul)
            papa_matmul_free_cpu(m->pairs[i].matmul);
    papa_device_close(m->dev);
    papa_arena_free(&m->arena);
}

/* ---------------------------------------------------------------- sums */

/* Sample s of a unit's stands at offset(s) behind its first element of the axis. */
typedef struct Samples {
    int64_t n, inner, length; /* of the axis */
    const PapaGroupValue *value;
} Samples;

static Samples samples_of(const Pair *pair, const PapaShape *shape)
{
    const int axis = pair->value->axis;
    const int64_t outer = papa_shape_count_from(shape, 0, axis), inner = papa_shape_count_from(shape, axis + 1, shape->rank);
    return (Samples){outer * pair->value->n_parts * inner, inner, shape->dim[axis], pair->value};
}

static int64_t element_of(const Samples *samples, int64_t unit, int64_t s)
{
    const int64_t r = s % samples->inner, part = s / samples->inner % samples->value->n_parts, outer = s / samples->inner / samples->value->n_parts;
    return (outer * samples->length + samples->value->at[unit * samples->value->n_parts + part]) * samples->inner + r;
}

static void find_shift(Side *side, const Samples *samples, const float *values, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        for (int64_t s = 0; s < samples->n; s += samples->inner) {
            const float *run = values + element_of(samples, i, s);
            for (int64_t r = 0; r < samples->inner; r++)
                sum += run[r];
        }
        side->shift[i] = samples->n ? sum / (double)samples->n : 0;
    }
}

/* Samples [first, first + RUN) of every unit, less its shift; zeros behind the last one. */
static void take_run(Side *side, const Samples *samples, const float *values, int64_t n, int64_t first)
{
    const int64_t last = first + RUN < samples->n ? first + RUN : samples->n;
    for (int64_t i = 0; i < n; i++) {
        float *to = side->run + i * RUN;
        double sum = 0, square = 0;
        for (int64_t s = first; s < last;) {
            const float *from = values + element_of(samples, i, s);
            const int64_t left = samples->inner - s % samples->inner, m = left < last - s ? left : last - s;
            for (int64_t r = 0; r < m; r++) {
                const double x = (double)from[r] - side->shift[i];
                *to++ = (float)x;
                sum += x;
                square += x * x;
            }
            s += m;
        }
        memset(to, 0, (size_t)(RUN - (last - first)) * sizeof *to);
        side->sum[i] += sum;
        side->square[i] += square;
    }
}

static PapaStatus add_batch(Pair *pair, const Measuring *m, const float *a, const float *b, const PapaShape *shape)
{
    const Samples samples = samples_of(pair, shape);
    if (samples.length != pair->value->length)
        return PAPA_OK; /* an axis that is as long as the images are large, and these have another size: where units stand is not known */
    if (!pair->count) {
        find_shift(&pair->a, &samples, a, pair->n);
        find_shift(&pair->b, &samples, b, pair->n);
    }
    for (int64_t first = 0; first < samples.n; first += RUN) {
        take_run(&pair->a, &samples, a, pair->n, first);
        take_run(&pair->b, &samples, b, pair->n, first);
        PAPA_TRY(papa_matmul_run_cpu(m->dev, pair->matmul, pair->product, pair->a.run, pair->b.run, NULL, pair->workspace));
        for (int64_t i = 0; i < pair->n * pair->n; i++)
            pair->products[i] += pair->product[i];
    }
    pair->count += samples.n;
    return PAPA_OK;
}

static PapaStatus take_outputs(void *context, const float *const *outputs, const PapaShape *shapes)
{
    Measuring *m = context;
    PAPA_TRY(papa_device_enter(m->dev));
    for (int i = 0; i < m->n_pairs; i++) {
        Pair *pair = &m->pairs[i];
        PAPA_TRY(add_batch(pair, m, outputs[pair->output], outputs[m->n_outputs + pair->output], &shapes[pair->output]));
    }
    return PAPA_OK;
}

/* ---------------------------------------------------------------- correlations */

#define DEAD 1e-12 /* variance over mean square: what rounding leaves of a channel that never changes */

/* The root of a unit's sum of squared differences from its mean; 0: it is dead. */
static double spread(const Side *side, int64_t i, int64_t count)
{
    const double mean = side->sum[i] / (double)count, square = side->square[i] - side->sum[i] * mean, level = side->shift[i] + mean;
    return square > DEAD * (double)count * level * level ? sqrt(square) : 0;
}

static PapaStatus check_finite(const Pair *pair, const Side *side, const PapaModel *model)
{
    for (int64_t i = 0; i < pair->n; i++)
        if (!isfinite(side->square[i]))
            return papa_fail(PAPA_ERR_NUMERIC, "%s: '%s' is not finite on the training images", papa_onnx_path(model->onnx), pair->value->name);
    return PAPA_OK;
}

/* Adds share times the pair's correlations to the group's. */
static void add_correlations(double *similarity, const Pair *pair, double share)
{
    for (int64_t i = 0; i < pair->n; i++) {
        const double by_a = spread(&pair->a, i, pair->count);
        for (int64_t j = 0; j < pair->n; j++) {
            const double by_b = spread(&pair->b, j, pair->count);
            const double product = pair->products[i * pair->n + j] - pair->a.sum[i] * pair->b.sum[j] / (double)pair->count;
            if (by_a > 0 && by_b > 0)
                similarity[i * pair->n + j] += share * product / (by_a * by_b);
        }
    }
}

static PapaStatus finish(double **similarity, const Measuring *m, int k)
{
    const PapaAlignment *al = m->alignment;
    for (int g = 0; g < al->groups->n_groups; g++) {
        const PapaGroup *group = &al->groups->groups[g];
        int n_values = 0;
        for (int i = 0; i < m->n_pairs; i++)
            n_values += m->pairs[i].value->group == g && m->pairs[i].count;
        if (!n_values && !group->blocks && k == 1)
            papa_remark(al->hooks, "group '%s': no layer's input or output shows its %lld units, which stay as they are", group->name, (long long)group->n);
        if (!n_values)
            continue;
        similarity[g] = calloc((size_t)(group->n * group->n), sizeof **similarity);
        if (!similarity[g])
            return papa_fail_memory((size_t)(group->n * group->n) * sizeof **similarity, "correlations");
        for (int i = 0; i < m->n_pairs; i++) {
            const Pair *pair = &m->pairs[i];
            if (pair->value->group != g || !pair->count)
                continue;
            PAPA_TRY(check_finite(pair, &pair->a, papa_ingredients_model(al->ingredients, 0)));
            PAPA_TRY(check_finite(pair, &pair->b, papa_ingredients_model(al->ingredients, k)));
            add_correlations(similarity[g], pair, 1 / (double)n_values);
        }
    }
    return PAPA_OK;
}

PapaStatus papa_alignment_correlate(double **similarity, const PapaAlignment *a, PapaJudge *judge, float *const stores[2], int k)
{
    Measuring m = {.alignment = a};
    PapaStatus status;
    PAPA_GOTO(choose_values(&m, papa_judge_model(judge)));
    PAPA_GOTO(papa_device_open_cpu(&m.dev, a->threads));
    for (int i = 0; i < m.n_pairs; i++)
        PAPA_GOTO(open_pair(&m.pairs[i], &m));
    if (m.n_outputs)
        PAPA_GOTO(papa_judge_run(judge, stores, 2, m.outputs, m.n_outputs, take_outputs, &m));
    status = finish(similarity, &m, k);
out:
    close_measuring(&m);
    return status;
}
