/* Shortest augmenting paths on reduced costs, after Jonker and Volgenant ("A shortest augmenting path algorithm for dense and sparse
 * linear assignment problems", Computing 38, 1987), in terms of a maximum.
 *
 * v[j] is the price of column j; slack_i[j] = v[j] - a[i][j] is smallest for the columns that row i likes best. Prices start at the
 * columns' maxima (column reduction). Then rows bid in turn (reduction transfer and augmenting row reduction in one): a row takes its best
 * column and raises that price until the second best is as good; who had the column bids again. The rows that are left without one after
 * a few rounds find theirs by Dijkstra's algorithm over the slacks, one path each.
 *
 * The work is in scans of one row, which is what the vectorised loops below do. A column that a search is done with has the price
 * infinity while the search lasts, so that scans need no mask. */
#include "align/assignment.h"
#include "device/device.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    LANES = 16, /* independent minima in a scan */
    BLOCK = 64, /* elements looked through at a time */
    BIDS = 8,   /* per row, on average; what is left then is left to paths */
    ARRAYS = 9,
};

typedef struct Solver {
    int64_t n;
    const double *a;      /* the matrix, or NULL */
    const float *a_float; /* and this one instead */
    double *converted;    /* one row of a_float */
    double *v;            /* prices, by column */
    double *price;        /* prices as a search sees them: infinite where it is done */
    double *distance;     /* by column: slacks of a bid; shortest paths of a search, infinite where it is done */
    double *done_at;      /* distance of done[k] */
    int64_t *done;        /* columns that a search is done with, in order */
    int64_t *from;        /* by column: the row in front of it on its shortest path */
    int64_t *column;      /* by row, -1: none */
    int64_t *row;         /* by column, -1: none */
    int64_t *queue;       /* rows without a column */
    int64_t n_queue;
} Solver;

/* ---------------------------------------------------------------- scans */

PAPA_SIMD static void convert(double *to, const float *from, int64_t n)
{
    for (int64_t j = 0; j < n; j++)
        to[j] = from[j];
}

static const double *row_of(const Solver *s, int64_t i)
{
    if (s->a)
        return s->a + i * s->n;
    convert(s->converted, s->a_float + i * s->n, s->n);
    return s->converted;
}

static double element(const Solver *s, int64_t i, int64_t j)
{
    return s->a ? s->a[i * s->n + j] : (double)s->a_float[i * s->n + j];
}

/* most[j] = max(most[j], a[j]). Returns the largest |a[j]|, NaN where one is NaN. */
PAPA_SIMD static double raise_maxima(double *most, const double *a, int64_t n)
{
    double largest = 0, zero = 0; /* zero: 0 times each element, so that no NaN is lost in a comparison */
#pragma omp simd reduction(max : largest) reduction(+ : zero)
    for (int64_t j = 0; j < n; j++) {
        double size = fabs(a[j]);
        most[j] = a[j] > most[j] ? a[j] : most[j];
        largest = size > largest ? size : largest;
        zero += 0 * a[j];
    }
    return largest + zero;
}

/* slack[j] = v[j] - a[j], and the two smallest of them (equal ones count twice; infinity where n is 1). */
PAPA_SIMD static void scan_slacks(double two[2], double *slack, const double *v, const double *a, int64_t n)
{
    double first[LANES], second[LANES];
    int64_t j = 0;
    for (int k = 0; k < LANES; k++)
        first[k] = second[k] = INFINITY;
    for (; j + LANES <= n; j += LANES)
        for (int k = 0; k < LANES; k++) {
            double x = v[j + k] - a[j + k], larger = x > first[k] ? x : first[k];
            slack[j + k] = x;
            first[k] = x < first[k] ? x : first[k];
            second[k] = larger < second[k] ? larger : second[k];
        }
    for (int k = 0; j < n; j++, k++) {
        double x = slack[j] = v[j] - a[j], larger = x > first[k] ? x : first[k];
        first[k] = x < first[k] ? x : first[k];
        second[k] = larger < second[k] ? larger : second[k];
    }
    two[0] = two[1] = INFINITY;
    for (int k = 0; k < LANES; k++) {
        double larger = first[k] > two[0] ? first[k] : two[0];
        two[0] = first[k] < two[0] ? first[k] : two[0];
        two[1] = larger < two[1] ? larger : two[1];
        two[1] = second[k] < two[1] ? second[k] : two[1];
    }
}

/* Paths that go on through row i, which is reached at `base` plus its slacks. Returns the shortest distance of all. */
PAPA_SIMD static double relax(double *distance, int64_t *from, const double *price, const double *a, double base, int64_t i, int64_t n)
{
    double least = INFINITY;
#pragma omp simd reduction(min : least)
    for (int64_t j = 0; j < n; j++) {
        double x = base + (price[j] - a[j]);
        bool shorter = x < distance[j];
        double d = shorter ? x : distance[j];
        distance[j] = d;
        from[j] = shorter ? i : from[j];
        least = d < least ? d : least;
    }
    return least;
}

/* The first j >= begin with x[j] == value, or n. */
PAPA_SIMD static int64_t find(const double *x, double value, int64_t begin, int64_t n)
{
    int64_t j = begin;
    for (; j + BLOCK <= n; j += BLOCK) {
        int any = 0;
#pragma omp simd reduction(| : any)
        for (int64_t k = 0; k < BLOCK; k++)
            any |= x[j + k] == value;
        if (any)
            break;
    }
    while (j < n && x[j] != value)
        j++;
    return j;
}

/* A column with x[j] == least, one that no row has if there is such a column. */
static int64_t choose(const Solver *s, const double *x, double least)
{
    int64_t first = find(x, least, 0, s->n);
    assert(first < s->n);
    for (int64_t j = first; j < s->n; j = find(x, least, j + 1, s->n))
        if (s->row[j] < 0)
            return j;
    return first;
}

/* ---------------------------------------------------------------- the three phases */

/* Prices from the columns' maxima. */
static PapaStatus reduce_columns(Solver *s)
{
    const double limit = 0x1p1000 / (double)(s->n + 1); /* prices are sums of up to 2n elements */
    for (int64_t j = 0; j < s->n; j++)
        s->v[j] = -INFINITY;
    for (int64_t i = 0; i < s->n; i++) {
        const double *a = row_of(s, i);
        if (raise_maxima(s->v, a, s->n) <= limit)
            continue;
        int64_t j = 0;
        while (fabs(a[j]) <= limit)
            j++;
        return papa_fail(PAPA_ERR_NUMERIC, "an assignment of %lld rows: element (%lld, %lld) is %g, a number between -%g and %g expected",
            (long long)s->n, (long long)i, (long long)j, a[j], limit, limit);
    }
    return PAPA_OK;
}

static void give(Solver *s, int64_t i, int64_t j)
{
    s->row[j] = i;
    s->column[i] = j;
}

/* One bid of row i. Returns the row that lost its column and should bid next, or -1. */
static int64_t bid(Solver *s, int64_t i)
{
    double two[2];
    scan_slacks(two, s->distance, s->v, row_of(s, i), s->n);
    int64_t j = two[0] == two[1] ? choose(s, s->distance, two[0]) : find(s->distance, two[0], 0, s->n), loser = s->row[j];
    double price = s->v[j] + (two[1] - two[0]);
    bool is_raised = price > s->v[j] && s->n > 1; /* not where the rise is lost in rounding */
    if (loser >= 0 && !is_raised) { /* the column is worth the same to both: a path will decide */
        s->queue[s->n_queue++] = i;
        return -1;
    }
    if (is_raised)
        s->v[j] = price;
    give(s, i, j);
    if (loser >= 0)
        s->column[loser] = -1;
    return loser;
}

static void bid_all(Solver *s)
{
    int64_t left = BIDS * s->n; /* of an auction without end, but only its beginning is fast */
    for (int64_t i = 0; i < s->n; i++) {
        int64_t bidder = i;
        while (bidder >= 0 && left-- > 0)
            bidder = bid(s, bidder);
        if (bidder >= 0)
            s->queue[s->n_queue++] = bidder;
    }
}

/* Goes back along the path that ends in column j, giving every row on it the column behind it. */
static void augment(Solver *s, int64_t start, int64_t j)
{
    for (int64_t i = -1; i != start;) {
        int64_t next;
        i = s->from[j];
        next = s->column[i];
        give(s, i, j);
        j = next;
    }
}

/* Gives row `start` a column, along a shortest path. */
static void find_path(Solver *s, int64_t start)
{
    int64_t n_done = 0, j;
    for (j = 0; j < s->n; j++)
        s->distance[j] = INFINITY;
    memcpy(s->price, s->v, (size_t)s->n * sizeof *s->v);
    double least = relax(s->distance, s->from, s->price, row_of(s, start), 0, start, s->n), at = least;
    while (j = choose(s, s->distance, least), s->row[j] >= 0) {
        int64_t i = s->row[j];
        at = least > at ? least : at; /* rounding must not turn back */
        s->done[n_done] = j;
        s->done_at[n_done++] = at;
        s->distance[j] = s->price[j] = INFINITY;
        least = relax(s->distance, s->from, s->price, row_of(s, i), at - (s->v[j] - element(s, i, j)), i, s->n);
    }
    at = least > at ? least : at;
    for (int64_t k = 0; k < n_done; k++)
        s->v[s->done[k]] += at - s->done_at[k];
    augment(s, start, j);
}

/* ---------------------------------------------------------------- */

/* Room for ARRAYS arrays of n elements, each on a cache line of its own. */
static double *make_room(Solver *s)
{
    size_t stride = ((size_t)s->n + 7) & ~(size_t)7, bytes = ARRAYS * stride * sizeof(double);
    double *memory = aligned_alloc(64, bytes);
    if (!memory) {
        papa_fail_memory(bytes, "an assignment");
        return NULL;
    }
    double **reals[] = {&s->converted, &s->v, &s->price, &s->distance, &s->done_at};
    int64_t **numbers[] = {&s->done, &s->from, &s->row, &s->queue};
    _Static_assert(sizeof reals / sizeof *reals + sizeof numbers / sizeof *numbers == ARRAYS, "each has its place");
    _Static_assert(sizeof(double) == sizeof(int64_t), "one size of element");
    double *at = memory;
    for (size_t k = 0; k < sizeof reals / sizeof *reals; k++, at += stride)
        *reals[k] = at;
    for (size_t k = 0; k < sizeof numbers / sizeof *numbers; k++, at += stride)
        *numbers[k] = (int64_t *)at;
    return memory;
}

static PapaStatus solve(Solver *s, double *u, double *v)
{
    int64_t n = s->n;
    if (n < 0 || n > INT32_MAX)
        return papa_fail(PAPA_ERR_ARGUMENT, "an assignment of %lld rows", (long long)n);
    if (n == 0)
        return PAPA_OK;
    double *memory = make_room(s);
    if (!memory)
        return PAPA_ERR_MEMORY;
    for (int64_t i = 0; i < n; i++)
        s->column[i] = s->row[i] = -1;
    PapaStatus status = reduce_columns(s);
    if (!status) {
        bid_all(s);
        for (int64_t k = 0; k < s->n_queue; k++)
            find_path(s, s->queue[k]);
        for (int64_t i = 0; i < n && u; i++)
            u[i] = element(s, i, s->column[i]) - s->v[s->column[i]];
        if (v)
            memcpy(v, s->v, (size_t)n * sizeof *v);
    }
    free(memory);
    return status;
}

PapaStatus papa_assign(int64_t *column, double *u, double *v, const double *a, int64_t n)
{
    return solve(&(Solver){.n = n, .a = a, .column = column}, u, v);
}

PapaStatus papa_assign_float(int64_t *column, double *u, double *v, const float *a, int64_t n)
{
    return solve(&(Solver){.n = n, .a_float = a, .column = column}, u, v);
}
