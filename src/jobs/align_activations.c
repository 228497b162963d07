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

/* One value of one group in the first model, beside the same one in the other; of units inside blocks beside that of a counterpart, in any of the other's blocks. */
typedef struct Pair {
    const PapaGroupValue *value, *other;
    int output;      /* of the network */
    int64_t block;   /* the counterpart's; 0 where there are no blocks */
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
    PapaMatchPlace *places; /* by group */
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

/* How many blocks the other model has for the units of a group to be in. */
static int64_t count_blocks(const Measuring *m, int group)
{
    const int blocks = m->places[group].blocks;
    return blocks < 0 ? 1 : m->alignment->groups->groups[blocks].n;
}

static bool are_counterparts(const Measuring *m, const PapaGroupValue *a, const PapaGroupValue *b)
{
    const PapaMatchPlace *x = &m->places[a->group], *y = &m->places[b->group];
    return x->blocks >= 0 && x->blocks == y->blocks && x->block != y->block && x->kind == y->kind && a->axis == b->axis && a->n_parts == b->n_parts &&
        !strcmp(a->name, b->name);
}

static void add_pairs(Measuring *m, const PapaGroupValue *value)
{
    const PapaGroups *groups = m->alignment->groups;
    for (int i = 0; i < groups->n_values; i++) {
        const PapaGroupValue *other = &groups->values[i];
        if (other != value && !are_counterparts(m, value, other))
            continue;
        const int64_t block = m->places[other->group].block;
        m->pairs[m->n_pairs++] = (Pair){.value = value, .other = other, .output = output_of(m, value->name), .block = block < 0 ? 0 : block,
            .n = groups->groups[value->group].n};
    }
}

/* Values that the classifier does not depend on are not computed. */
static PapaStatus choose_values(Measuring *m, const PapaModel *model)
{
    const PapaGroups *groups = m->alignment->groups;
    PapaGraph *graph = NULL;
    int64_t most = 0;
    m->places = PAPA_NEW_ARRAY(&m->arena, PapaMatchPlace, groups->n_groups);
    m->outputs = PAPA_NEW_ARRAY(&m->arena, const char *, groups->n_values);
    if (!m->places || !m->outputs)
        return PAPA_ERR_MEMORY;
    PAPA_TRY(papa_match_places(m->places, groups));
    for (int i = 0; i < groups->n_values; i++)
        most += count_blocks(m, groups->values[i].group);
    m->pairs = PAPA_NEW_ARRAY(&m->arena, Pair, most);
    if (!m->pairs)
        return PAPA_ERR_MEMORY;
    PAPA_TRY(papa_graph_read(&graph, model->onnx, &(PapaGraphOptions){.mode = PAPA_MODE_INFER, .outputs = &model->head.logits, .n_outputs = 1}));
    for (int i = 0; i < groups->n_values; i++)
        if (papa_graph_find(graph, groups->values[i].name))
            add_pairs(m, &groups->values[i]);
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

static Samples samples_of(const PapaGroupValue *value, const PapaShape *shape)
{
    const int axis = value->axis;
    const int64_t outer = papa_shape_count_from(shape, 0, axis), inner = papa_shape_count_from(shape, axis + 1, shape->rank);
    return (Samples){outer * value->n_parts * inner, inner, shape->dim[axis], value};
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
    const Samples of_a = samples_of(pair->value, shape), of_b = samples_of(pair->other, shape);
    if (of_a.length != pair->value->length)
        return PAPA_OK; /* an axis that is as long as the images are large, and these have another size: where units stand is not known */
    if (!pair->count) {
        find_shift(&pair->a, &of_a, a, pair->n);
        find_shift(&pair->b, &of_b, b, pair->n);
    }
    for (int64_t first = 0; first < of_a.n; first += RUN) {
        take_run(&pair->a, &of_a, a, pair->n, first);
        take_run(&pair->b, &of_b, b, pair->n, first);
        PAPA_TRY(papa_matmul_run_cpu(m->dev, pair->matmul, pair->product, pair->a.run, pair->b.run, NULL, pair->workspace));
        for (int64_t i = 0; i < pair->n * pair->n; i++)
            pair->products[i] += pair->product[i];
    }
    pair->count += of_a.n;
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

/* Adds share times the pair's correlations to the group's, whose rows are n_blocks * n long. */
static void add_correlations(double *similarity, const Pair *pair, int64_t n_blocks, double share)
{
    for (int64_t i = 0; i < pair->n; i++) {
        double *row = similarity + (i * n_blocks + pair->block) * pair->n;
        const double by_a = spread(&pair->a, i, pair->count);
        for (int64_t j = 0; j < pair->n; j++) {
            const double by_b = spread(&pair->b, j, pair->count);
            const double product = pair->products[i * pair->n + j] - pair->a.sum[i] * pair->b.sum[j] / (double)pair->count;
            if (by_a > 0 && by_b > 0)
                row[j] += share * product / (by_a * by_b);
        }
    }
}

static PapaStatus finish_group(double **out, const Measuring *m, int g, int k)
{
    const PapaAlignment *a = m->alignment;
    const PapaGroup *group = &a->groups->groups[g];
    const int64_t n_blocks = count_blocks(m, g);
    int n_values = 0;
    for (int i = 0; i < m->n_pairs; i++)
        n_values += m->pairs[i].value->group == g && m->pairs[i].other->group == g && m->pairs[i].count;
    if (!n_values && !group->blocks && k == 1)
        papa_remark(a->hooks, "group '%s': no layer's input or output shows its %lld units, which stay as they are", group->name, (long long)group->n);
    if (!n_values)
        return PAPA_OK;
    *out = calloc((size_t)(group->n * group->n * n_blocks), sizeof **out);
    if (!*out)
        return papa_fail_memory((size_t)(group->n * group->n * n_blocks) * sizeof **out, "correlations");
    for (int i = 0; i < m->n_pairs; i++) {
        const Pair *pair = &m->pairs[i];
        if (pair->value->group != g || !pair->count)
            continue;
        PAPA_TRY(check_finite(pair, &pair->a, papa_ingredients_model(a->ingredients, 0)));
        PAPA_TRY(check_finite(pair, &pair->b, papa_ingredients_model(a->ingredients, k)));
        add_correlations(*out, pair, n_blocks, 1 / (double)n_values);
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
    for (int g = 0; g < a->groups->n_groups; g++)
        PAPA_GOTO(finish_group(&similarity[g], &m, g, k));
out:
    close_measuring(&m);
    return status;
}
