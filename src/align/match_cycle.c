/* Cycle-consistent matching (Crisostomi et al. 2024, arXiv 2405.17897): each model is moved into one universe, all at once.
 *
 * Permutations are relaxed to doubly stochastic matrices P (a model's and a group's), which are applied to slots as permutations are: unit i
 * becomes sum_j P[i][j] (unit j). Frank-Wolfe (1956) on the sum over pairs of <P_p W_p, P_q W_q>: the gradient at P is a cost matrix, the best vertex S
 * one assignment for each, and the step is where the objective is largest on the segment from P to S. That is a polynomial: in one tensor, units
 * stand along at most `axes` axes, so a tensor moved by (1 - t) P + t S has degree `axes` in t, is known from axes + 1 values of t, and
 * with it, by the inner products of those, the objective. Tensors are dealt with one by one.
 *
 * Models are first moved to where the search begins; P starts as the identity there. Groups of blocks that hold units stay rigid: only the
 * ascent that follows moves them. */
#include "align/assignment.h"
#include "align/match_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_AXES = PAPA_MAX_RANK, MOST_NODES = MOST_AXES + 1, MOST_DEGREE = 2 * MOST_AXES, GRID = 200, ROUNDS = 50 };

#define LEAST_GAIN 1e-5 /* of the product of the models' norms: the ascent that follows goes the rest of the way */

/* Slots of a relaxed group in the tensor that is looked at. */
typedef struct Axis {
    int group;
    const PapaSlots *slots;
} Axis;

typedef struct Relaxed {
    PapaMatchMany *many;
    bool *relaxed;       /* by group */
    float **p, **grad;   /* [model * n_groups + group]: (n, n) */
    int64_t **to;        /* the vertex: S[i][to[i]] = 1 */
    Axis *axes;          /* of the tensor that is looked at */
    int n_axes, n_ways;  /* n_ways: distinct axes among them */
    float **nodes;       /* [model * MOST_NODES + node]: that tensor, most_elements each */
    double sum[MOST_DEGREE + 1]; /* the objective at t = k / degree */
    int degree;
    double size;         /* of the objective */
} Relaxed;

static int at(const Relaxed *r, int model, int group)
{
    return model * r->many->setup->n_groups + group;
}

/* ---------------------------------------------------------------- memory */

static void relaxed_free(Relaxed *r)
{
    const int n = r->many->n * r->many->setup->n_groups;
    PapaDevice *dev = r->many->options->dev;
    for (int k = 0; k < n; k++) {
        if (r->p)
            papa_device_free(dev, r->p[k]);
        if (r->grad)
            papa_device_free(dev, r->grad[k]);
        if (r->to)
            free(r->to[k]);
    }
    for (int k = 0; r->nodes && k < r->many->n * MOST_NODES; k++)
        papa_device_free(dev, r->nodes[k]);
    free(r->relaxed), free(r->p), free(r->grad), free(r->to), free(r->axes), free(r->nodes);
}

static bool is_relaxed(const PapaMatchSetup *setup, int g)
{
    const PapaMatchGroup *of = &setup->group[g];
    const bool holds_units = of->family >= 0 && of->block < 0 && setup->families[of->family].n_kinds;
    return of->n > 1 && of->width && !of->held && !holds_units;
}

/* The relaxed slots of a tensor. */
static void look_at(Relaxed *r, int tensor)
{
    const PapaMatchSetup *setup = r->many->setup;
    unsigned axes = 0;
    r->n_axes = 0;
    for (int g = 0; g < setup->n_groups; g++)
        for (int k = 0; r->relaxed[g] && k < setup->group[g].n_slots; k++)
            if (setup->group[g].slots[k]->tensor == tensor) {
                r->axes[r->n_axes++] = (Axis){g, setup->group[g].slots[k]};
                axes |= 1u << setup->group[g].slots[k]->axis;
            }
    r->n_ways = __builtin_popcount(axes);
}

static PapaStatus relaxed_new(Relaxed *r, PapaMatchMany *many)
{
    const PapaMatchSetup *setup = many->setup;
    PapaDevice *dev = many->options->dev;
    const size_t n = (size_t)many->n * (size_t)setup->n_groups;
    size_t n_slots = 0;
    *r = (Relaxed){.many = many};
    r->relaxed = calloc((size_t)setup->n_groups + 1, sizeof *r->relaxed);
    r->p = calloc(n + 1, sizeof *r->p);
    r->grad = calloc(n + 1, sizeof *r->grad);
    r->to = calloc(n + 1, sizeof *r->to);
    r->nodes = calloc((size_t)many->n * MOST_NODES, sizeof *r->nodes);
    for (int g = 0; g < setup->n_groups; g++)
        n_slots += (size_t)setup->group[g].n_slots;
    r->axes = calloc(n_slots + 1, sizeof *r->axes);
    if (!r->relaxed || !r->p || !r->grad || !r->to || !r->nodes || !r->axes)
        return papa_fail_memory(n * sizeof *r->p, "matching");
    for (int g = 0; g < setup->n_groups; g++) {
        const size_t units = (size_t)setup->group[g].n;
        r->relaxed[g] = is_relaxed(setup, g);
        for (int m = 0; m < many->n && r->relaxed[g]; m++) {
            PAPA_TRY(papa_device_alloc(dev, (void **)&r->p[at(r, m, g)], units * units * sizeof(float), "a doubly stochastic matrix"));
            PAPA_TRY(papa_device_alloc(dev, (void **)&r->grad[at(r, m, g)], units * units * sizeof(float), "a matching's cost matrix"));
            r->to[at(r, m, g)] = calloc(units, sizeof **r->to);
            if (!r->to[at(r, m, g)])
                return papa_fail_memory(units * sizeof **r->to, "a permutation");
        }
    }
    int ways = 1;
    for (int t = 0; t < setup->groups->n_tensors; t++) {
        look_at(r, t);
        ways = setup->counts[t] && r->n_ways > ways ? r->n_ways : ways;
    }
    r->degree = 2 * ways;
    for (int m = 0; m < many->n; m++)
        for (int k = 0; k <= ways; k++)
            PAPA_TRY(papa_device_alloc(dev, (void **)&r->nodes[m * MOST_NODES + k], (size_t)(setup->most_elements + 1) * sizeof(float), "a copy of a tensor"));
    return PAPA_OK;
}

/* ---------------------------------------------------------------- moving by matrices */

/* room->cost = (1 - t) P + t S. */
static void mix(const Relaxed *r, int model, int group, double t)
{
    const int64_t n = r->many->setup->group[group].n, *to = r->to[at(r, model, group)];
    const float *p = r->p[at(r, model, group)];
    float *mixed = r->many->room.cost;
    for (int64_t i = 0; i < n * n; i++)
        mixed[i] = (float)(1 - t) * p[i];
    for (int64_t i = 0; i < n && t != 0; i++)
        mixed[i * n + to[i]] += (float)t;
}

/* tensor moved along one axis, in place. */
static PapaStatus move_axis(Relaxed *r, float *tensor, int model, const Axis *axis, double t)
{
    PapaMatchRoom *room = &r->many->room;
    const PapaSlots *s = axis->slots;
    const int64_t n = r->many->setup->group[axis->group].n, columns = papa_match_columns(s);
    if (t < 1)
        mix(r, model, axis->group, t);
    for (int64_t first = 0; first < columns; first += PAPA_MATCH_CHUNK) {
        const int64_t width = columns - first < PAPA_MATCH_CHUNK ? columns - first : PAPA_MATCH_CHUNK;
        papa_match_gather(room->y, width, s, n, tensor, NULL, first, width, room->dev);
        if (t < 1)
            PAPA_TRY(papa_match_product(room, room->x, room->cost, room->y, n, width, n, false, false));
        const int64_t *perm = t < 1 ? NULL : r->to[at(r, model, axis->group)];
        papa_match_scatter(tensor, s, n, perm ? room->y : room->x, width, perm, first, width, room->dev);
    }
    return PAPA_OK;
}

/* to: the tensor moved along all axes but one (-1: all). */
static PapaStatus move_tensor(Relaxed *r, float *to, int tensor, int model, int but, double t)
{
    const size_t bytes = (size_t)r->many->setup->groups->tensors[tensor].count * sizeof *to;
    memcpy(to, r->many->states[model].moved[tensor], bytes);
    for (int k = 0; k < r->n_axes; k++)
        if (k != but)
            PAPA_TRY(move_axis(r, to, model, &r->axes[k], t));
    return PAPA_OK;
}

/* ---------------------------------------------------------------- the gradient */

static PapaStatus add_gradient(Relaxed *r, int model, const Axis *axis, const float *others, const float *own)
{
    PapaMatchRoom *room = &r->many->room;
    const PapaSlots *s = axis->slots;
    const int64_t n = r->many->setup->group[axis->group].n, columns = papa_match_columns(s);
    for (int64_t first = 0; first < columns; first += PAPA_MATCH_CHUNK) {
        const int64_t width = columns - first < PAPA_MATCH_CHUNK ? columns - first : PAPA_MATCH_CHUNK;
        papa_match_gather(room->x, width, s, n, others, NULL, first, width, room->dev);
        papa_match_gather(room->y, width, s, n, own, NULL, first, width, room->dev);
        PAPA_TRY(papa_match_product(room, r->grad[at(r, model, axis->group)], room->x, room->y, n, n, width, true, true));
    }
    return PAPA_OK;
}

static PapaStatus gradient_of(Relaxed *r, int tensor)
{
    const int64_t n = r->many->setup->groups->tensors[tensor].count;
    float *others = r->many->room.tensor[0], *own = r->many->room.tensor[1];
    for (int m = 0; m < r->many->n; m++)
        PAPA_TRY(move_tensor(r, r->nodes[m * MOST_NODES], tensor, m, -1, 0));
    for (int m = 0; m < r->many->n; m++) {
        memset(others, 0, (size_t)n * sizeof *others);
        for (int q = 0; q < r->many->n; q++)
            for (int64_t i = 0; i < n && q != m; i++)
                others[i] += r->nodes[q * MOST_NODES][i];
        for (int k = 0; k < r->n_axes; k++) {
            PAPA_TRY(move_tensor(r, own, tensor, m, k, 0));
            PAPA_TRY(add_gradient(r, m, &r->axes[k], others, own));
        }
    }
    return PAPA_OK;
}

/* The vertex that the gradient points to. from: the gradient, or P itself, whose nearest vertex it is. */
static PapaStatus assign_all(Relaxed *r, float *const *from)
{
    const PapaMatchSetup *setup = r->many->setup;
    for (int m = 0; m < r->many->n; m++)
        for (int g = 0; g < setup->n_groups; g++) {
            if (!r->relaxed[g])
                continue;
            PapaStatus status = papa_assign_float(r->to[at(r, m, g)], NULL, NULL, from[at(r, m, g)], setup->group[g].n);
            if (status != PAPA_OK)
                return papa_fail_in(status, "group '%s'", setup->groups->groups[g].name);
        }
    return PAPA_OK;
}

static PapaStatus find_vertex(Relaxed *r)
{
    const PapaMatchSetup *setup = r->many->setup;
    for (int m = 0; m < r->many->n; m++)
        for (int g = 0; g < setup->n_groups; g++)
            if (r->relaxed[g])
                memset(r->grad[at(r, m, g)], 0, (size_t)(setup->group[g].n * setup->group[g].n) * sizeof(float));
    for (int t = 0; t < setup->groups->n_tensors; t++) {
        look_at(r, t);
        if (setup->counts[t] && r->n_axes)
            PAPA_TRY(gradient_of(r, t));
    }
    return assign_all(r, r->grad);
}

/* ---------------------------------------------------------------- the step */

/* Lagrange's polynomial number k of n nodes, equally far apart from 0 to 1, at t. */
static double lagrange(int k, int n, double t)
{
    double value = 1;
    for (int l = 0; l < n; l++)
        if (l != k)
            value *= (t * (n - 1) - l) / (k - l);
    return value;
}

/* Half the sum over p != q of <p's node k, q's node l>, by way of the sum over all models. */
static double pairs(const Relaxed *r, int64_t n, int k, int l)
{
    enum { BLOCK = 1024 };
    double sum = 0;
    for (int64_t first = 0; first < n; first += BLOCK) {
        const int64_t end = first + BLOCK < n ? first + BLOCK : n;
        double x[BLOCK] = {0}, y[BLOCK] = {0};
        for (int m = 0; m < r->many->n; m++) {
            const float *a = r->nodes[m * MOST_NODES + k], *b = r->nodes[m * MOST_NODES + l];
            for (int64_t i = first; i < end; i++) {
                x[i - first] += a[i];
                y[i - first] += b[i];
                sum -= (double)a[i] * b[i];
            }
        }
        for (int64_t i = 0; i < end - first; i++)
            sum += x[i] * y[i];
    }
    return sum / 2;
}

/* Adds one tensor's part to r->sum. */
static PapaStatus add_segment(Relaxed *r, int tensor)
{
    const int64_t n = r->many->setup->groups->tensors[tensor].count;
    const int n_nodes = r->n_ways + 1;
    for (int m = 0; m < r->many->n; m++)
        for (int k = 0; k < n_nodes; k++)
            PAPA_TRY(move_tensor(r, r->nodes[m * MOST_NODES + k], tensor, m, -1, (double)k / (n_nodes - 1)));
    for (int k = 0; k < n_nodes; k++)
        for (int l = 0; l < n_nodes; l++) {
            const double product = pairs(r, n, k, l);
            for (int d = 0; d <= r->degree; d++) {
                const double t = (double)d / r->degree;
                r->sum[d] += product * lagrange(k, n_nodes, t) * lagrange(l, n_nodes, t);
            }
        }
    return PAPA_OK;
}

static double objective_at(const Relaxed *r, double t)
{
    double value = 0;
    for (int d = 0; d <= r->degree; d++)
        value += r->sum[d] * lagrange(d, r->degree + 1, t);
    return value;
}

/* Where the objective is largest on [0, 1]: the best of a grid, then golden sections around it. */
static double best_step(const Relaxed *r)
{
    const double golden = (sqrt(5) - 1) / 2;
    double best = 0;
    for (int k = 1; k <= GRID; k++)
        if (objective_at(r, (double)k / GRID) > objective_at(r, best))
            best = (double)k / GRID;
    double low = fmax(0, best - 1. / GRID), high = fmin(1, best + 1. / GRID);
    for (int k = 0; k < 40; k++) {
        const double a = high - golden * (high - low), b = low + golden * (high - low);
        if (objective_at(r, a) < objective_at(r, b))
            low = a;
        else
            high = b;
    }
    const double inner = (low + high) / 2;
    return objective_at(r, inner) > objective_at(r, best) ? inner : best;
}

static void step_to(Relaxed *r, double t)
{
    const PapaMatchSetup *setup = r->many->setup;
    for (int m = 0; m < r->many->n; m++)
        for (int g = 0; g < setup->n_groups; g++)
            if (r->relaxed[g]) {
                mix(r, m, g, t);
                memcpy(r->p[at(r, m, g)], r->many->room.cost, (size_t)(setup->group[g].n * setup->group[g].n) * sizeof(float));
            }
}

/* One step. *gain: of the relaxed objective. */
static PapaStatus climb(Relaxed *r, double *gain)
{
    const PapaMatchSetup *setup = r->many->setup;
    PAPA_TRY(find_vertex(r));
    memset(r->sum, 0, sizeof r->sum);
    for (int t = 0; t < setup->groups->n_tensors; t++) {
        look_at(r, t);
        if (setup->counts[t] && r->n_axes)
            PAPA_TRY(add_segment(r, t));
    }
    const double t = best_step(r);
    *gain = objective_at(r, t) - objective_at(r, 0);
    step_to(r, t);
    return PAPA_OK;
}

/* ---------------------------------------------------------------- the whole */

static void begin_at_identity(Relaxed *r)
{
    const PapaMatchMany *many = r->many;
    const PapaMatchSetup *setup = many->setup;
    double norm[2] = {0}; /* sum of the norms, and of their squares */
    for (int m = 0; m < many->n; m++) {
        const float *const *moved = (const float *const *)many->states[m].moved;
        const double square = papa_match_total(setup, moved, moved);
        norm[0] += sqrt(square);
        norm[1] += square;
        for (int g = 0; g < setup->n_groups; g++) {
            const int64_t n = setup->group[g].n;
            if (!r->relaxed[g])
                continue;
            memset(r->p[at(r, m, g)], 0, (size_t)(n * n) * sizeof(float));
            for (int64_t i = 0; i < n; i++)
                r->p[at(r, m, g)][i * n + i] = 1;
        }
    }
    r->size = (norm[0] * norm[0] - norm[1]) / 2;
}

static PapaStatus frank_wolfe(Relaxed *r)
{
    PapaMatchMany *many = r->many;
    double gain = 1;
    begin_at_identity(r);
    for (int round = 0; round < ROUNDS && gain > LEAST_GAIN * r->size; round++) {
        if (papa_match_stopped(many->options))
            return papa_fail(PAPA_ERR_STOPPED, "stopped while units were being matched");
        PAPA_TRY(climb(r, &gain));
    }
    PAPA_TRY(assign_all(r, r->p));
    for (int m = 0; m < many->n; m++)
        for (int g = 0; g < many->setup->n_groups; g++)
            if (r->relaxed[g])
                papa_match_apply(&many->states[m], g, r->to[at(r, m, g)]);
    return PAPA_OK;
}

static PapaStatus ascend_and_keep(PapaMatchMany *many, int k)
{
    int rounds;
    PAPA_TRY(papa_match_many_ascend(many, k, &rounds));
    papa_match_many_keep(many, k, rounds);
    return PAPA_OK;
}

/* From the first beginning ascent alone is tried too: so that what is found is never worse than that. Frank-Wolfe can't go on from where ascent has
 * ended: there, each vertex is the best as the others are. */
static PapaStatus search(Relaxed *r, int k)
{
    PapaMatchMany *many = r->many;
    PAPA_TRY(papa_match_many_start(many, k));
    if (!k) {
        PAPA_TRY(ascend_and_keep(many, k));
        papa_match_many_start_again(many);
    }
    PAPA_TRY(frank_wolfe(r));
    return ascend_and_keep(many, k);
}

PapaStatus papa_match_cycle(PapaMatch *out, const PapaGroups *groups, const PapaMatchTensors *models, int n, const PapaMatchOptions *options)
{
    PapaStatus status;
    PapaMatchMany many;
    PapaMatchMeter meter;
    Relaxed relaxed = {.many = &many};
    memset(out, 0, (size_t)(n > 0 ? n : 0) * sizeof *out);
    papa_match_meter_begin(&meter, options);
    PAPA_GOTO(papa_match_many_begin(&many, groups, models, n, options));
    PAPA_GOTO(relaxed_new(&relaxed, &many));
    for (int k = 0; k < options->restarts; k++) {
        PAPA_GOTO(search(&relaxed, k));
        papa_match_meter_tick(&meter, k + 1);
    }
    papa_match_many_deliver(&many, out);
out:
    if (many.setup)
        relaxed_free(&relaxed);
    papa_match_many_end(&many);
    return status;
}
