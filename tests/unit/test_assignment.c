/* Assignments: against all permutations where those can be tried, by their certificate (a feasible dual solution of the same value) where
 * not. Matrices that are hard on one phase or another: ties, few favourites, huge ranges, the worst case for augmenting paths. */
#include "align/assignment.h"
#include "base/rng.h"
#include "check.h"

#include <stdlib.h>

enum { MOST = 300 };

static double matrix[MOST * MOST], u[MOST], v[MOST];
static float floats[MOST * MOST];
static int64_t column[MOST];

typedef double Element(PapaRng *rng, int64_t i, int64_t j, int64_t n);

static double uniform(PapaRng *rng, int64_t i, int64_t j, int64_t n)
{
    (void)i, (void)j, (void)n;
    return papa_rng_double(rng);
}

static double normal(PapaRng *rng, int64_t i, int64_t j, int64_t n)
{
    (void)i, (void)j, (void)n;
    return 100 * papa_rng_normal(rng);
}

static double negative(PapaRng *rng, int64_t i, int64_t j, int64_t n)
{
    (void)i, (void)j, (void)n;
    return -1e6 - papa_rng_double(rng);
}

static double nearly_diagonal(PapaRng *rng, int64_t i, int64_t j, int64_t n)
{
    return papa_rng_double(rng) + ((i * 7 + 3) % n == j);
}

static double few_values(PapaRng *rng, int64_t i, int64_t j, int64_t n)
{
    (void)i, (void)j, (void)n;
    return papa_rng_below(rng, 4) - 2.0;
}

static double few_ones(PapaRng *rng, int64_t i, int64_t j, int64_t n)
{
    (void)i, (void)j;
    return papa_rng_below(rng, (uint32_t)n) < 2;
}

static double equal(PapaRng *rng, int64_t i, int64_t j, int64_t n)
{
    (void)rng, (void)i, (void)j, (void)n;
    return .1;
}

static double favourite(PapaRng *rng, int64_t i, int64_t j, int64_t n) /* all rows want the same few columns */
{
    (void)i;
    return papa_rng_below(rng, 10) + (j < n / 4 ? 1000.0 : 0);
}

static double product(PapaRng *rng, int64_t i, int64_t j, int64_t n) /* Machol and Wien: every path is long */
{
    (void)rng, (void)n;
    return (double)((i + 1) * (j + 1));
}

static double huge_range(PapaRng *rng, int64_t i, int64_t j, int64_t n)
{
    (void)i, (void)j, (void)n;
    return (papa_rng_below(rng, 2) ? 1 : -1) * exp2(papa_rng_double(rng) * 1800 - 900);
}

static const struct {
    const char *name;
    Element *element;
    bool is_exact; /* integers: the duals too */
} kinds[] = {{"uniform", uniform, false}, {"normal", normal, false}, {"negative", negative, false}, {"nearly diagonal", nearly_diagonal, false},
    {"few values", few_values, true}, {"few ones", few_ones, true}, {"all equal", equal, false}, {"favourite columns", favourite, true},
    {"product", product, true}, {"huge range", huge_range, false}};

enum { N_KINDS = sizeof kinds / sizeof *kinds };

static double fill(int kind, int64_t n, uint32_t seed)
{
    PapaRng rng = papa_rng(seed, PAPA_RNG_TEST, 0, (uint32_t)kind, (uint32_t)n);
    double largest = 0;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) {
            matrix[i * n + j] = kinds[kind].element(&rng, i, j, n);
            floats[i * n + j] = (float)matrix[i * n + j];
            largest = fmax(largest, fabs(matrix[i * n + j]));
        }
    return largest;
}

static double value_of(const int64_t *columns, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += matrix[i * n + columns[i]];
    return sum;
}

static bool is_permutation(const int64_t *columns, int64_t n)
{
    bool seen[MOST] = {false};
    for (int64_t i = 0; i < n; i++) {
        if (columns[i] < 0 || columns[i] >= n || seen[columns[i]])
            return false;
        seen[columns[i]] = true;
    }
    return true;
}

/* The best of all ways to give rows i .. n-1 the columns that are not taken. */
static double best_of_all(int64_t i, unsigned taken, int64_t n)
{
    double best = i == n ? 0 : -INFINITY;
    for (int64_t j = 0; j < n && i < n; j++)
        if (!(taken >> j & 1))
            best = fmax(best, matrix[i * n + j] + best_of_all(i + 1, taken | 1u << j, n));
    return best;
}

static void test_brute_force(void)
{
    for (int kind = 0; kind < N_KINDS; kind++)
        for (int64_t n = 1; n <= 7; n++)
            for (uint32_t seed = 0; seed < (n < 6 ? 100 : 10); seed++) {
                double tolerance = 1e-13 * fill(kind, n, seed);
                CHECK_OK(papa_assign(column, NULL, NULL, matrix, n));
                CHECK(is_permutation(column, n), "%s, n = %d, seed %u: no permutation", kinds[kind].name, (int)n, seed);
                CHECK_NEAR(value_of(column, n), best_of_all(0, 0, n), tolerance);
            }
}

static void check_certificate(int kind, int64_t n, double tolerance)
{
    double infeasible = 0, loose = 0, dual = 0;
    for (int64_t i = 0; i < n; i++) {
        dual += u[i] + v[i];
        loose = fmax(loose, fabs(u[i] + v[column[i]] - matrix[i * n + column[i]]));
        for (int64_t j = 0; j < n; j++)
            infeasible = fmax(infeasible, matrix[i * n + j] - (u[i] + v[j]));
    }
    CHECK(infeasible <= tolerance, "%s, n = %d: the duals are infeasible by %g", kinds[kind].name, (int)n, infeasible);
    CHECK(loose <= tolerance, "%s, n = %d: slack %g where there must be none", kinds[kind].name, (int)n, loose);
    CHECK(fabs(dual - value_of(column, n)) <= 2 * tolerance * (double)n, "%s, n = %d: dual %.17g, primal %.17g", kinds[kind].name, (int)n, dual,
        value_of(column, n));
}

static void test_certificates(void)
{
    static const int64_t sizes[] = {1, 2, 3, 8, 15, 16, 17, 33, 63, 64, 65, 100, 127, 200, MOST};
    for (int kind = 0; kind < N_KINDS; kind++)
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
            int64_t n = sizes[k];
            double largest = fill(kind, n, 7);
            CHECK_OK(papa_assign(column, u, v, matrix, n));
            CHECK(is_permutation(column, n), "%s, n = %d: no permutation", kinds[kind].name, (int)n);
            check_certificate(kind, n, kinds[kind].is_exact ? 0 : 1e-14 * (double)n * largest);
        }
}

/* float32 elements are the same numbers, so all answers are the same. */
static void test_float(void)
{
    static int64_t of_floats[MOST];
    static double u_float[MOST], v_float[MOST];
    for (int kind = 0; kind < N_KINDS; kind++) {
        int64_t n = 150;
        fill(kind, n, 3);
        for (int64_t i = 0; i < n * n; i++) {
            floats[i] = fmaxf(-1e30f, fminf(1e30f, floats[i]));
            matrix[i] = floats[i];
        }
        CHECK_OK(papa_assign(column, u, v, matrix, n));
        CHECK_OK(papa_assign_float(of_floats, u_float, v_float, floats, n));
        bool same = !memcmp(column, of_floats, (size_t)n * sizeof *column);
        CHECK(same && !memcmp(u, u_float, (size_t)n * sizeof *u) && !memcmp(v, v_float, (size_t)n * sizeof *v), "%s: float32 and float64 differ",
            kinds[kind].name);
    }
}

/* Rows of one matrix, moved about and disturbed: the similarities give the permutation back. */
static void test_permutation_comes_back(void)
{
    enum { N = 120, LENGTH = 40 };
    static double a[N][LENGTH], b[N][LENGTH];
    uint32_t to[N];
    PapaRng rng = papa_rng(5, PAPA_RNG_TEST, 0, 0, 0);
    for (uint32_t i = 0; i < N; i++)
        to[i] = i;
    papa_rng_shuffle(&rng, to, N);
    for (int i = 0; i < N; i++)
        for (int k = 0; k < LENGTH; k++) {
            a[i][k] = papa_rng_normal(&rng);
            b[to[i]][k] = a[i][k] + .2 * papa_rng_normal(&rng);
        }
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            matrix[i * N + j] = 0;
            for (int k = 0; k < LENGTH; k++)
                matrix[i * N + j] += a[i][k] * b[j][k];
        }
    CHECK_OK(papa_assign(column, NULL, NULL, matrix, N));
    for (int i = 0; i < N; i++)
        CHECK(column[i] == to[i], "row %d: column %d, %u expected", i, (int)column[i], to[i]);
}

static void test_refusals(void)
{
    static const double bad[] = {NAN, -NAN, INFINITY, -INFINITY, 1e305};
    CHECK_OK(papa_assign(NULL, NULL, NULL, NULL, 0));
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        fill(0, 50, 1);
        matrix[50 * 49 + 48] = bad[k];
        CHECK_FAILS(papa_assign(column, NULL, NULL, matrix, 50), PAPA_ERR_NUMERIC, "element (49, 48) is ");
    }
    floats[17] = NAN;
    CHECK_FAILS(papa_assign_float(column, NULL, NULL, floats, 50), PAPA_ERR_NUMERIC, "element (0, 17) is nan");
    CHECK_FAILS(papa_assign(column, NULL, NULL, matrix, -1), PAPA_ERR_ARGUMENT, "-1 rows");
}

int main(void)
{
    test_brute_force();
    test_certificates();
    test_float();
    test_permutation_comes_back();
    test_refusals();
    return check_result();
}
