/* Merging files: every method by hand on small integers, exact means, what must be equal, what is shared, what is refused. */
#include "base/rng.h"
#include "check.h"
#include "onnx/half.h"
#include "soup/merge.h"
#include "soup/merge_math.h"
#include "unit/onnx_bytes.h"

#include <dirent.h>
#include <float.h>
#include <sys/stat.h>

static char folder[64], out_path[80], out_data[80];

#define TYPE(id) ONNX__TENSOR_PROTO__DATA_TYPE__##id
enum { MOST = 8 };

static const char *input_path(int k)
{
    static char paths[MOST][80];
    snprintf(paths[k], sizeof paths[k], "%s/%c.onnx", folder, 'a' + k);
    return paths[k];
}

static PapaBuffer float_tensor_of(const char *name, int type, const double *values, int64_t n)
{
    unsigned char raw[8 * 64];
    PapaBuffer tensor = tensor_head(name, type, n);
    papa_doubles_to_raw(raw, type, values, n);
    put_bytes(&tensor, FIELD_TENSOR_RAW_DATA, raw, (size_t)n * papa_type_bits(type) / 8);
    return tensor;
}

/* Models whose only initializer "w" has these rows of n elements. */
typedef struct Case {
    int n_models, type;
    PapaOnnx *onnx[MOST];
    PapaMergeModel models[MOST];
    PapaEdit *edit;
} Case;

static PapaStatus open_case(Case *c, int type, int n_models, const double *values, int64_t n)
{
    *c = (Case){.n_models = n_models, .type = type};
    for (int k = 0; k < n_models; k++) {
        PapaBuffer tensor = float_tensor_of("w", type, values + k * n, n), model = model_of_tensor(&tensor);
        PAPA_TRY(open_bytes(&c->onnx[k], input_path(k), &model));
        c->models[k].onnx = c->onnx[k];
    }
    return papa_edit_new(&c->edit, c->onnx[0]);
}

static void close_case(Case *c)
{
    papa_edit_free(c->edit);
    for (int k = 0; k < c->n_models; k++)
        papa_onnx_close(c->onnx[k]);
}

/* Merges the models, the last one being the base where the method has one, and reads w of what was written. */
static PapaStatus merge_case(Case *c, const PapaMergeOptions *options, bool has_base, double *to, int64_t n)
{
    PapaMerge *merge;
    PapaOnnx *written = NULL;
    int n_inputs = c->n_models - has_base;
    PapaStatus status = papa_merge_new(&merge, c->edit, c->models, n_inputs, has_base ? &c->models[n_inputs] : NULL, options);
    if (!status)
        status = papa_edit_write(c->edit, out_path);
    papa_merge_free(merge);
    if (!status)
        status = papa_onnx_open(&written, out_path);
    if (!status)
        status = papa_tensor_read_double(written, papa_onnx_graph(written)->initializer[0], to, n);
    papa_onnx_close(written);
    return status;
}

/* values: the models' rows; the result must be `expected`, bit for bit, in every float type (all numbers fit float16, or tolerance > 0). */
static void check_merge(const char *what, const PapaMergeOptions *options, bool has_base, int n_models, const double *values, const double *expected,
    int64_t n, double tolerance)
{
    static const int types[] = {TYPE(FLOAT), TYPE(DOUBLE), TYPE(FLOAT16), TYPE(BFLOAT16)};
    double found[64];
    for (size_t t = 0; t < (tolerance > 0 ? 2 : 4); t++) {
        Case c;
        CHECK_OK(open_case(&c, types[t], n_models, values, n));
        CHECK_OK(merge_case(&c, options, has_base, found, n));
        for (int64_t i = 0; i < n; i++)
            CHECK(tolerance > 0 ? fabs(found[i] - expected[i]) <= tolerance : !memcmp(&found[i], &expected[i], sizeof *found),
                "%s, %s, element %d: %.9g, expected %.9g", what, papa_type_name(types[t]), (int)i, found[i], expected[i]);
        close_case(&c);
    }
}

static PapaMergeOptions defaults(PapaMergeMethod method)
{
    PapaMergeOptions options;
    papa_merge_defaults(&options);
    options.method = method;
    return options;
}

/* ---------------------------------------------------------------- by hand */

static void test_sums(void)
{
    static const double three[] = {1, 2, -0.0, 8, /**/ 2, 4, -0.0, -8, /**/ 6, -3, -0.0, 3};
    PapaMergeOptions options = defaults(PAPA_MERGE_MEAN);
    check_merge("mean", &options, false, 3, three, (double[]){3, 1, -0.0, 1}, 4, 0);
    options.weights = (double[]){0.5, 0.25, 0.25};
    check_merge("weighted mean", &options, false, 3, three, (double[]){2.5, 1.25, -0.0, 2.75}, 4, 0);
    options.weights = (double[]){0, 1, 0};
    check_merge("one model", &options, false, 3, three, (double[]){2, 4, -0.0, -8}, 4, 0);
    options.weights = (double[]){1, 2, -1};
    options.any_sum = true;
    check_merge("any sum", &options, false, 3, three, (double[]){-1, 13, 0, -11}, 4, 0);
    options = defaults(PAPA_MERGE_MEAN);
    options.tensor_weights = (double[]){0.25, 0.75, 0};
    check_merge("weights of a tensor", &options, false, 3, three, (double[]){1.75, 3.5, -0.0, -4}, 4, 0);
    options = defaults(PAPA_MERGE_EMA);
    options.decay = 0.5; /* 1/4 a + 1/4 b + 1/2 c */
    check_merge("EMA", &options, false, 3, three, (double[]){3.75, 0, -0.0, 1.5}, 4, 0);
    options = defaults(PAPA_MERGE_LERP);
    options.t = 0.25;
    check_merge("lerp", &options, false, 2, three, (double[]){1.25, 2.5, -0.0, 4}, 4, 0);
    options.t = 1;
    check_merge("lerp to the end", &options, false, 2, three, three + 4, 4, 0);
    options = defaults(PAPA_MERGE_WISE); /* w_1 = 1 2 -0 8, w_0 = 2 4 -0 -8 */
    options.t = 0.75;
    check_merge("WiSE-FT", &options, true, 2, three, (double[]){1.25, 2.5, -0.0, 4}, 4, 0);
}

static void test_slerp(void)
{
    PapaMergeOptions options = defaults(PAPA_MERGE_SLERP);
    double half = sqrt(0.5), third = sin(M_PI / 6) / sin(M_PI / 2), rest = sin(M_PI / 3) / sin(M_PI / 2);
    check_merge("slerp, right angle", &options, false, 2, (double[]){2, 0, 0, 4}, (double[]){2 * half, 4 * half}, 2, 1e-6);
    options.t = 1.0 / 3;
    check_merge("slerp, a third", &options, false, 2, (double[]){2, 0, 0, 4}, (double[]){2 * rest, 4 * third}, 2, 1e-6);
    check_merge("slerp, 60 degrees", &options, false, 2, (double[]){1, 0, 0, 1, 1, 0}, /* (1,0,0), (1,1,0): 45 degrees */
        (double[]){sin(M_PI / 6) / sin(M_PI / 4) + sin(M_PI / 12) / sin(M_PI / 4), sin(M_PI / 12) / sin(M_PI / 4), 0}, 3, 1e-6);
    options.t = 0.25;
    check_merge("slerp, parallel", &options, false, 2, (double[]){1, -2, 5, -10}, (double[]){2, -4}, 2, 0);
    check_merge("slerp, opposite", &options, false, 2, (double[]){1, -2, -3, 6}, (double[]){0, 0}, 2, 0);
    check_merge("slerp, zero", &options, false, 2, (double[]){0, 0, 4, 8}, (double[]){1, 2}, 2, 0);
}

/* The angle is the whole tensor's: one has its first half, the other its second. */
static void test_long_slerp(void)
{
    enum { N = 20000 };
    static float halves[2][N];
    static double found[N];
    Case c = {.n_models = 2};
    PapaMergeOptions options = defaults(PAPA_MERGE_SLERP);
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < N / 2; i++)
            halves[k][k * N / 2 + i] = 1;
        PapaBuffer tensor = float_tensor("w", halves[k], N), model = model_of_tensor(&tensor);
        CHECK_OK(open_bytes(&c.onnx[k], input_path(k), &model));
        c.models[k].onnx = c.onnx[k];
    }
    CHECK_OK(papa_edit_new(&c.edit, c.onnx[0]));
    CHECK_OK(merge_case(&c, &options, false, found, N));
    CHECK_NEAR(found[0], sqrt(0.5), 1e-7);
    CHECK_NEAR(found[N - 1], sqrt(0.5), 1e-7);
    close_case(&c);
}

static void test_differences(void)
{
    /* base 10 10 10 -0; differences 1 -2 4 0 and 3 2 -8 0 */
    static const double models[] = {11, 8, 14, -0.0, /**/ 13, 12, 2, -0.0, /**/ 10, 10, 10, -0.0};
    PapaMergeOptions options = defaults(PAPA_MERGE_TASK);
    check_merge("task arithmetic", &options, true, 3, models, (double[]){14, 10, 6, -0.0}, 4, 0);
    options.scale = 0.5;
    options.weights = (double[]){1, -1};
    check_merge("task arithmetic, weighted", &options, true, 3, models, (double[]){9, 8, 16, -0.0}, 4, 0);

    /* base 0: TIES keeps the 2 largest of 4: a: 6 -5 . .; b: 8 . -5 .; c: . 7 5 -> sums 14, 2, 0; means 7 (a, b), 7 (c), base */
    static const double ties[] = {6, -5, 1, -1, /**/ 8, 2, -5, 0, /**/ 3, 7, 5, 0, /**/ 0, 0, 0, 0};
    options = defaults(PAPA_MERGE_TIES);
    options.density = 0.5;
    check_merge("TIES", &options, true, 4, ties, (double[]){7, 7, 0, 0}, 4, 0);
    options.scale = 2;
    options.weights = (double[]){1, 3, 1}; /* (6 + 24) / 4, twice; 7; sign of -15 + 5: b's -5 */
    check_merge("TIES, weighted", &options, true, 4, ties, (double[]){15, 14, -10, 0}, 4, 0);
    options = defaults(PAPA_MERGE_TIES);
    options.density = 0.25; /* one each: a 6, b 8, c 7 */
    check_merge("TIES, one", &options, true, 4, ties, (double[]){7, 7, 0, 0}, 4, 0);
    options.density = 1; /* 6 8 3: 17/3; -5 2 7: sum 4, mean of 2, 7; 1 -5 5: sum 1, 3; -1 */
    check_merge("TIES, all", &options, true, 4, (double[]){6, -5, 1, -1, 9, 2, -5, 0, 3, 7, 5, 0, 0, 0, 0, 0}, (double[]){6, 4.5, 3, -1}, 4, 0);
    options.density = 0.01; /* at least one, and equal ones with it */
    check_merge("TIES, equal sizes", &options, true, 2, (double[]){3, -3, 2, 1, 1, 0, 0, 0, 0, 0}, (double[]){3, -3, 0, 0, 0}, 5, 0);

    /* The differences 1 2 2 0 and 2 1 -2 0 of norm 3: cosine 0, so the base. 2 2 1 and 1 2 2: cosine 8/9, t = 16/17. */
    options = defaults(PAPA_MERGE_STOCK);
    check_merge("Model Stock, right angle", &options, true, 3, (double[]){2, 3, 3, 1, 3, 2, -1, 1, 1, 1, 1, 1}, (double[]){1, 1, 1, 1}, 4, 1e-12);
    check_merge("Model Stock", &options, true, 3, (double[]){18, 18, 9, 9, 18, 18, 1, 2, 1}, /* differences 17 16 8, 8 16 17 */
        (double[]){1 + 12.5 * (2 * (136 + 256 + 136) / 609. / (1 + 528 / 609.)), 2 + 16 * (2 * 528 / 609. / (1 + 528 / 609.)),
            1 + 12.5 * (2 * 528 / 609. / (1 + 528 / 609.))}, 3, 4e-6);
    check_merge("Model Stock, apart", &options, true, 3, (double[]){2, 0, 0, 1, 1, 1}, (double[]){1, 1}, 2, 1e-12); /* negative cosine */
    /* three: unit vectors with cosines 1, 0, 0: mean 1/3, t = 3/5; mean of (2,0) (3,0) (0,1) = 5/3, 1/3 */
    check_merge("Model Stock of three", &options, true, 4, (double[]){2, 0, 3, 0, 0, 1, 0, 0}, (double[]){1, 0.2}, 2, 1e-7);
    /* one did not move: cosines 1, 0, 0 */
    check_merge("Model Stock, unmoved", &options, true, 4, (double[]){2, 0, 3, 0, 0, 0, 0, 0}, (double[]){1, 0}, 2, 1e-7);
    check_merge("Model Stock, none moved", &options, true, 3, (double[]){2, -0.0, 2, -0.0, 2, -0.0}, (double[]){2, -0.0}, 2, 0);
}

/* Whatever the method, a model merged with itself is itself. */
static void test_identity(void)
{
    static const double row[] = {0.1, -3, 1e-3, -0.0, 1 / 3., 65504, 0x1p-24, 7};
    double values[4 * 8], expected[8], found[8];
    static const int types[] = {TYPE(FLOAT), TYPE(DOUBLE), TYPE(FLOAT16), TYPE(BFLOAT16)};
    for (int method = PAPA_MERGE_MEAN; method <= PAPA_MERGE_EMA; method++) {
        bool has_base = method == PAPA_MERGE_WISE || method == PAPA_MERGE_STOCK || (method >= PAPA_MERGE_TASK && method <= PAPA_MERGE_DARE_TIES);
        bool of_two = method == PAPA_MERGE_LERP || method == PAPA_MERGE_SLERP || method == PAPA_MERGE_WISE;
        for (size_t t = 0; t < 4; t++) {
            Case c;
            PapaMergeOptions options = defaults((PapaMergeMethod)method);
            options.t = 0.3;
            for (int k = 0; k < 4; k++)
                memcpy(values + 8 * k, row, sizeof row);
            CHECK_OK(open_case(&c, types[t], of_two ? 2 : 4, values, 8));
            CHECK_OK(papa_tensor_read_double(c.onnx[0], papa_onnx_graph(c.onnx[0])->initializer[0], expected, 8));
            CHECK_OK(merge_case(&c, &options, has_base, found, 8));
            CHECK(!memcmp(found, expected, sizeof found), "method %d, %s", method, papa_type_name(types[t]));
            close_case(&c);
        }
    }
}

/* ---------------------------------------------------------------- DARE */

static void test_dare(void)
{
    enum { N = 40000, K = 2 };
    static float base[N], model[K][N];
    static double first[N], again[N], other[N];
    Case c = {.n_models = 3};
    for (int k = 0; k < 3; k++) {
        for (int i = 0; i < N; i++)
            model[k % K][i] = k < K ? (float)(k + 1) : 0;
        PapaBuffer tensor = float_tensor("w", k < K ? model[k] : base, N), m = model_of_tensor(&tensor);
        CHECK_OK(open_bytes(&c.onnx[k], input_path(k), &m));
        c.models[k].onnx = c.onnx[k];
    }
    PapaMergeOptions options = defaults(PAPA_MERGE_DARE);
    options.density = 0.25; /* 4 or 0 from the first, 8 or 0 from the second */
    options.threads = 1;
    CHECK_OK(papa_edit_new(&c.edit, c.onnx[0]));
    CHECK_OK(merge_case(&c, &options, true, first, N));
    int counts[4] = {0};
    for (int i = 0; i < N; i++) {
        bool known = first[i] == 0 || first[i] == 4 || first[i] == 8 || first[i] == 12;
        CHECK(known, "%g", first[i]);
        counts[known ? (int)first[i] / 4 : 0]++;
    }
    /* Independent: 9/16, 3/16, 3/16, 1/16 of them, within five standard deviations. */
    static const double shares[] = {9 / 16., 3 / 16., 3 / 16., 1 / 16.};
    for (int j = 0; j < 4; j++)
        CHECK_NEAR(counts[j], shares[j] * N, 5 * sqrt(N * shares[j] * (1 - shares[j])));
    /* Element i of model k stays by the number i of its stream, as the header says. */
    uint32_t hash = 0x811c9dc5u;
    for (const char *p = "graph.initializer 'w'"; *p; p++)
        hash = (hash ^ (unsigned char)*p) * 0x01000193u;
    PapaRng streams[K] = {papa_rng(1, PAPA_RNG_MERGE, 0, hash, 0), papa_rng(1, PAPA_RNG_MERGE, 1, hash, 0)};
    int wrong = 0;
    for (int i = 0; i < N; i++) {
        bool stays[K] = {papa_rng_u32(&streams[0]) < 1u << 30, papa_rng_u32(&streams[1]) < 1u << 30};
        wrong += first[i] != 4 * stays[0] + 8 * stays[1];
    }
    CHECK(wrong == 0, "%d", wrong);
    options.threads = 3;
    CHECK_OK(merge_case(&c, &options, true, again, N));
    CHECK(!memcmp(first, again, sizeof first), "threads change the result");
    options.seed = 2;
    CHECK_OK(merge_case(&c, &options, true, other, N));
    CHECK(memcmp(first, other, sizeof first), "the seed changes nothing");
    options.method = PAPA_MERGE_DARE_TIES; /* 4, 8 or their mean: the signs agree everywhere */
    options.seed = 1;
    CHECK_OK(merge_case(&c, &options, true, other, N));
    wrong = 0;
    for (int i = 0; i < N; i++)
        wrong += other[i] != (first[i] == 12 ? 6 : first[i]);
    CHECK(wrong == 0, "%d", wrong);
    options.density = 1;
    options.method = PAPA_MERGE_DARE;
    CHECK_OK(merge_case(&c, &options, true, other, N));
    CHECK(other[0] == 3 && other[N - 1] == 3, "density 1 drops something");
    close_case(&c);
}

/* ---------------------------------------------------------------- TIES' selection against sorting */

static int descending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

static void check_selection(int kind, double density, int threads)
{
    enum { N = 50001 };
    static float base[N], model[N];
    static double sizes[N], found[N];
    PapaRng rng = papa_rng(3, PAPA_RNG_TEST, kind, 0, 0);
    for (int i = 0; i < N; i++) {
        base[i] = (float)papa_rng_normal(&rng);
        double change = kind == 0 ? papa_rng_normal(&rng) : kind == 1 ? (double)papa_rng_below(&rng, 5) - 2 : ldexp(1 + 1e-12 * i, -20);
        model[i] = (float)(base[i] + change);
        sizes[i] = fabs((double)model[i] - base[i]);
    }
    Case c = {.n_models = 2};
    for (int k = 0; k < 2; k++) {
        PapaBuffer tensor = float_tensor("w", k ? base : model, N), m = model_of_tensor(&tensor);
        CHECK_OK(open_bytes(&c.onnx[k], input_path(k), &m));
        c.models[k].onnx = c.onnx[k];
    }
    CHECK_OK(papa_edit_new(&c.edit, c.onnx[0]));
    PapaMergeOptions options = defaults(PAPA_MERGE_TIES);
    options.density = density;
    options.threads = threads;
    CHECK_OK(merge_case(&c, &options, true, found, N));
    qsort(sizes, N, sizeof *sizes, descending);
    double least = sizes[(int)floor(density * N + 0.5) - 1];
    int wrong = 0;
    for (int i = 0; i < N; i++)
        wrong += found[i] != (fabs((double)model[i] - base[i]) >= least ? model[i] : base[i]);
    CHECK(wrong == 0, "kind %d, density %g: %d wrong", kind, density, wrong);
    close_case(&c);
}

/* ---------------------------------------------------------------- exact means */

/* The mean in integers: all values are small multiples of 2^-24. */
static void test_exact_small(void)
{
    enum { N = PAPA_MERGE_BLOCK };
    static double rows[70][N], to[N];
    const double *list[70];
    PapaRng rng = papa_rng(4, PAPA_RNG_TEST, 0, 0, 0);
    for (int n = 1; n <= 70; n++) {
        for (int k = 0; k < n; k++) {
            list[k] = rows[k];
            for (int i = 0; i < N; i++)
                rows[k][i] = ldexp((double)papa_rng_below(&rng, 1 << 24) - (1 << 23), -24);
        }
        papa_merge_exact_mean(to, list, n, N, true);
        int wrong = 0;
        for (int i = 0; i < N; i++) {
            int64_t sum = 0;
            for (int k = 0; k < n; k++)
                sum += (int64_t)ldexp(rows[k][i], 24);
            /* nearest float of sum / n 2^-24, by comparing n times the middles to its neighbours with sum */
            float f = (float)to[i], below = nextafterf(f, -INFINITY), above = nextafterf(f, INFINITY);
            long double s = (long double)sum, low = ((long double)f + below) / 2 * n * 0x1p24L, high = ((long double)f + above) / 2 * n * 0x1p24L;
            bool even = !(papa_float_bits(f) & 1);
            wrong += !(s > low && s < high) && !(even && (s == low || s == high));
        }
        CHECK(wrong == 0, "%d of %d, n = %d", wrong, N, n);
    }
}

static double mean_of(int n, const double *values, bool to_odd)
{
    static double rows[MOST][PAPA_MERGE_BLOCK];
    const double *list[MOST];
    double to[1];
    for (int k = 0; k < n; k++) {
        rows[k][0] = values[k];
        list[k] = rows[k];
    }
    papa_merge_exact_mean(to, list, n, 1, to_odd);
    return to[0];
}

/* What sums of doubles get wrong: cancellation, rounding twice, overflow, signs of zeros. */
static void test_exact_hard(void)
{
    double big = 0x1p127, tiny = 0x1p-149;
    CHECK((float)mean_of(4, (double[]){big, 0x1p40, -big, -0x1p40}, true) == 0);
    CHECK((float)mean_of(5, (double[]){0x1p100, 0x1p40, 0x1p-20, -0x1p100, -0x1p40}, true) == 0x1p-20f / 5);
    CHECK((float)mean_of(2, (double[]){big, tiny}, true) == 0x1p126f);
    CHECK(mean_of(3, (double[]){big, tiny, -big}, true) != 0 && (float)mean_of(1, (double[]){tiny}, true) == 0x1p-149f);
    /* (1 + 2^-23) / 2 is a middle of floats at 2^-1 ... not: one more bit at 2^-149 decides. */
    CHECK((float)mean_of(4, (double[]){1, 1 + 0x1p-23, 1, 1 + 0x1p-23}, true) == 1);
    CHECK((float)mean_of(4, (double[]){1, 1 + 0x1p-23, 1 + tiny, 1 + 0x1p-23}, true) == 1); /* 1 + tiny is 1 in double */
    CHECK((float)mean_of(6, (double[]){1, 1 + 0x1p-23, tiny, 0, 0, 0}, true) * 0 == 0);
    CHECK(mean_of(2, (double[]){DBL_MAX, DBL_MAX}, false) == DBL_MAX && mean_of(3, (double[]){DBL_MAX, DBL_MAX, -DBL_MAX}, false) == DBL_MAX / 3);
    CHECK(mean_of(2, (double[]){-DBL_MAX, -DBL_MAX}, false) == -DBL_MAX);
    CHECK(mean_of(2, (double[]){0x1p-1074, 0x1p-1074}, false) == 0x1p-1074 && mean_of(2, (double[]){0x1p-1073, -0x1p-1074}, true) == 0x1p-1074);
    CHECK(signbit(mean_of(3, (double[]){-0.0, -0.0, -0.0}, true)) && !signbit(mean_of(2, (double[]){-0.0, 0.0}, true)));
    CHECK(!signbit(mean_of(2, (double[]){3, -3}, true)) && signbit((float)mean_of(2, (double[]){-0x1p-149, 0}, true)));
    CHECK(mean_of(2, (double[]){INFINITY, 1}, true) == INFINITY && mean_of(1, (double[]){-INFINITY}, false) == -INFINITY);
    CHECK(isnan(mean_of(2, (double[]){INFINITY, -INFINITY}, true)) && isnan(mean_of(2, (double[]){NAN, 1}, true)));
    CHECK(isinf(mean_of(3, (double[]){INFINITY, DBL_MAX, DBL_MAX}, true)));
    /* A middle of two floats, and just beside it: the mean of 2 with a third that only the rest of the sum can hold. */
    double middle = 1 + 0x1p-24;
    CHECK((float)mean_of(3, (double[]){3 * middle, 0, 0}, true) == 1 && (float)mean_of(3, (double[]){3 * middle, tiny, 0}, true) == 1 + 0x1p-23f);
    /* 2^-140 is more than the rest of the sum can hold while it holds 2^-60. */
    CHECK((float)mean_of(4, (double[]){4 * middle, 0x1p-60, 0x1p-140, -0x1p-60}, true) == 1 + 0x1p-23f);
    CHECK((float)mean_of(3, (double[]){3 * middle, -tiny, 0}, true) == 1 && (float)mean_of(3, (double[]){-3 * middle, -tiny, 0}, true) == -1 - 0x1p-23f);
    CHECK(papa_double_to_bfloat16(mean_of(2, (double[]){1, 1 + 0x1p-7 + 0x1p-60 * 0}, true)) == 0x3f80); /* 1 + 2^-8: to even */
}

typedef enum FloatKind {
    ANY_FLOATS,
    SUBNORMAL_FLOATS, /* and zeros, and the least normal ones */
    LARGE_FLOATS,
    SPREAD_FLOATS,    /* exponents that lie `spread` apart, or less */
    MIDDLES,          /* the mean is the middle of two numbers of `spread` bits behind the leading one */
    NEAR_MIDDLES,     /* or next to one: two of the floats are 2^-spread of the largest, or so, and cancel but for their last bit */
} FloatKind;

static float random_float(PapaRng *rng, FloatKind kind, int spread)
{
    uint32_t sign = papa_rng_below(rng, 2) << 31, mantissa = papa_rng_below(rng, 1 << 23);
    if (kind == SUBNORMAL_FLOATS)
        return papa_bits_float(sign | papa_rng_below(rng, 3) << 23 | (papa_rng_below(rng, 2) ? mantissa : papa_rng_below(rng, 3)));
    if (kind == LARGE_FLOATS)
        return papa_bits_float(sign | 254u << 23 | mantissa);
    return papa_bits_float(sign | (kind == SPREAD_FLOATS ? 100 + papa_rng_below(rng, (uint32_t)spread + 1) : papa_rng_below(rng, 255)) << 23 | mantissa);
}

/* The middle's neighbours at random, but for one float of any size below 1, and what is then left. */
static void put_middle(PapaRng *rng, float *to, int n, int bits)
{
    double left;
    do {
        float step = ldexpf(1, -bits), below = 1 + step * (float)papa_rng_below(rng, 1u << bits);
        left = n * (below + 0.5 * step);
        for (int k = 1; k < n; k++) {
            to[k] = k == 1 ? (float)papa_rng_below(rng, 1 << 24) * 0x1p-24f : below + (papa_rng_below(rng, 2) ? step : 0);
            left -= to[k];
        }
        to[0] = (float)left;
    } while (to[0] != left);
}

static void put_near_middle(PapaRng *rng, float *to, int n, int spread)
{
    float tiny = papa_rng_below(rng, 2) ? ldexpf(2, -spread) : -ldexpf(2, -spread);
    for (int k = 0; k < n; k++)
        to[k] = 1;
    to[0] = 0.5f + (float)(n * (papa_rng_below(rng, 2) ? 1 : 3)) * 0x1p-24f; /* n (1 + 2^-24) or n (1 + 3 2^-24), with ... */
    to[1] = 3.5f;                                                          /* ... this and n - 4 ones */
    to[n - 1] = tiny;
    to[n - 2] = -tiny * (papa_rng_below(rng, 2) ? 1 + 0x1p-23f : 1 - 0x1p-24f);
}

static void put_floats(PapaRng *rng, float *to, int n, FloatKind kind, int spread)
{
    if (kind == MIDDLES)
        put_middle(rng, to, n, spread);
    else if (kind == NEAR_MIDDLES)
        put_near_middle(rng, to, n, spread);
    else
        for (int k = 0; k < n; k++)
            to[k] = random_float(rng, kind, spread);
}

/* The fast mean of floats against that of doubles, bit for bit; returns how many of the N elements it has. */
enum { N_FLOATS = 512, MOST_ROWS = 70 };

static int check_float_mean(int n, FloatKind kind, int spread)
{
    static double rows[MOST_ROWS][N_FLOATS];
    static unsigned char raw[MOST_ROWS][N_FLOATS * sizeof(float) + 4];
    const double *list[MOST_ROWS];
    const void *floats[MOST_ROWS], *one[MOST_ROWS];
    double exact[N_FLOATS], narrow[N_FLOATS];
    float found[N_FLOATS + 1], values[MOST_ROWS];
    PapaRng rng = papa_rng(5, PAPA_RNG_MERGE, (int)kind, (uint32_t)n, (uint32_t)spread);
    for (int i = 0; i < N_FLOATS; i++) {
        put_floats(&rng, values, n, kind, spread);
        for (int k = 0; k < n; k++) {
            list[k] = rows[k];
            floats[k] = raw[k] + k % 4; /* at any address */
            rows[k][i] = values[k];
            memcpy(raw[k] + k % 4 + (size_t)i * sizeof *values, &values[k], sizeof *values);
        }
    }
    papa_merge_exact_mean(exact, list, n, N_FLOATS, true);
    int n_fast = 0, n_wrong = 0;
    for (int i = 0; i < N_FLOATS; i++) {
        for (int k = 0; k < n; k++)
            one[k] = (const unsigned char *)floats[k] + (size_t)i * sizeof(float);
        found[0] = found[1] = 77;
        bool fast = papa_merge_float_mean(found, one, n, 1);
        n_fast += fast;
        n_wrong += papa_float_bits(found[0]) != papa_float_bits(fast ? (float)exact[i] : 77) || found[1] != 77;
    }
    bool fast = papa_merge_float_mean(found, floats, n, N_FLOATS);
    CHECK(fast == (n_fast == N_FLOATS), "mean of %d, kind %d, spread %d: %d elements one by one, but %s at once", n, (int)kind, spread, n_fast,
        fast ? "all" : "not all");
    CHECK(papa_merge_narrow_mean(narrow, floats, n, N_FLOATS) == fast);
    for (int i = 0; i < N_FLOATS && fast; i++) {
        n_wrong += papa_float_bits(found[i]) != papa_float_bits((float)exact[i]);
        n_wrong += papa_double_to_float16(narrow[i]) != papa_double_to_float16(exact[i]);
        n_wrong += papa_double_to_bfloat16(narrow[i]) != papa_double_to_bfloat16(exact[i]);
    }
    CHECK(n_wrong == 0, "mean of %d, kind %d, spread %d: %d wrong", n, (int)kind, spread, n_wrong);
    return n_fast;
}

static void test_float_mean(void)
{
    static const int counts[] = {2, 3, 4, 5, 7, 8, 9, 49, 70};
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        int n = counts[c], bits = 0;
        while (1 << bits < n)
            bits++;
        check_float_mean(n, ANY_FLOATS, 0);
        CHECK(check_float_mean(n, SUBNORMAL_FLOATS, 0) == N_FLOATS);
        CHECK(check_float_mean(n, LARGE_FLOATS, 0) == N_FLOATS);
        CHECK(check_float_mean(n, SPREAD_FLOATS, 28 - bits) == N_FLOATS);
        check_float_mean(n, MIDDLES, 23); /* of FLOAT, FLOAT16, BFLOAT16 */
        check_float_mean(n, MIDDLES, 10);
        check_float_mean(n, MIDDLES, 7);
        for (int spread = 24 - bits; spread < 36; spread++) {
            check_float_mean(n, SPREAD_FLOATS, spread);
            if (n >= 4)
                check_float_mean(n, NEAR_MIDDLES, spread);
        }
    }
    float to[1] = {77};
    CHECK(!papa_merge_float_mean(to, (const void *[]){&(float){INFINITY}, &(float){INFINITY}}, 2, 1) && to[0] == 77);
    CHECK(!papa_merge_float_mean(to, (const void *[]){&(float){NAN}, &(float){NAN}, &(float){NAN}}, 3, 1) && to[0] == 77);
    CHECK(!papa_merge_float_mean(to, (const void *[]){&(float){1}, &(float){1}, &(float){-INFINITY}}, 3, 1) && to[0] == 77);
    CHECK(!papa_merge_float_mean(to, (const void *[]){&(float){0x1p30f}, &(float){1}}, 2, 1) && to[0] == 77);
}

/* ---------------------------------------------------------------- whole files */

typedef struct Parts {
    const char *name;      /* of the float initializer */
    float w[2];
    int64_t shape[2];      /* INT64, initializer "shape" */
    int64_t indices[2];    /* of the sparse initializer "s", whose length is 10 */
    int64_t length;
    int bytes;             /* INT8, initializer "q" */
    const char *text;      /* STRING, initializer "text" */
    float inner;           /* in If's then_branch */
    bool typed;            /* w as float_data */
} Parts;

static PapaBuffer model_of_parts(const Parts *p)
{
    PapaBuffer graph = {0}, node = make_node("If", "x", "p", "q"), inner = float_tensor("i", &p->inner, 1), branch = {0}, attr = {0};
    PapaBuffer w = p->typed ? tensor_head(p->name, TYPE(FLOAT), 2) : float_tensor(p->name, p->w, 2), shape = tensor_head("shape", TYPE(INT64), 2);
    PapaBuffer sparse = {0}, values = float_tensor("s", p->w, 2), indices = tensor_head("", TYPE(INT64), 2), q = tensor_head("q", TYPE(INT8), 1);
    PapaBuffer text = tensor_head("text", TYPE(STRING), 1);
    if (p->typed)
        put_bytes(&w, FIELD_TENSOR_FLOAT_DATA, p->w, sizeof p->w);
    for (int i = 0; i < 2; i++) {
        put_number(&shape, FIELD_TENSOR_INT64_DATA, p->shape[i]);
        put_number(&indices, FIELD_TENSOR_INT64_DATA, p->indices[i]);
    }
    put_number(&q, FIELD_TENSOR_INT32_DATA, p->bytes);
    put_text(&text, FIELD_TENSOR_STRING_DATA, p->text);
    put_message(&sparse, 1, &values);
    put_message(&sparse, 2, &indices);
    put_number(&sparse, 3, p->length);
    put_message(&branch, FIELD_GRAPH_INITIALIZER, &inner);
    put_text(&attr, 1, "then_branch");
    put_message(&attr, 6, &branch);
    put_message(&node, 5, &attr);
    put_message(&graph, FIELD_GRAPH_NODE, &node);
    PapaBuffer *tensors[] = {&w, &shape, &q, &text};
    for (int i = 0; i < 4; i++)
        put_message(&graph, FIELD_GRAPH_INITIALIZER, tensors[i]);
    put_message(&graph, 15, &sparse);
    return model_of(&graph, 8);
}

static const Parts plain = {.name = "w", .w = {1, 2}, .shape = {3, 4}, .indices = {2, 5}, .length = 10, .bytes = 7, .text = "t", .inner = 5};

static PapaStatus open_parts(Case *c, const Parts *parts, int n)
{
    *c = (Case){.n_models = n};
    for (int k = 0; k < n; k++) {
        PapaBuffer model = model_of_parts(&parts[k]);
        PAPA_TRY(open_bytes(&c->onnx[k], input_path(k), &model));
        c->models[k].onnx = c->onnx[k];
    }
    return papa_edit_new(&c->edit, c->onnx[0]);
}

static void test_all_places(void)
{
    Parts parts[] = {plain, plain};
    parts[1].w[0] = 3, parts[1].w[1] = -2, parts[1].inner = 8, parts[1].typed = true;
    Case c;
    PapaMerge *merge;
    PapaOnnx *written;
    PapaMergeOptions options = defaults(PAPA_MERGE_MEAN);
    CHECK_OK(open_parts(&c, parts, 2));
    CHECK_OK(papa_merge_new(&merge, c.edit, c.models, 2, NULL, &options));
    CHECK_OK(papa_edit_write(c.edit, out_path));
    papa_merge_free(merge);
    CHECK_OK(papa_onnx_open(&written, out_path));
    const Onnx__GraphProto *g = papa_onnx_graph(written);
    double w[2] = {0}, s[2] = {0}, i[1] = {0};
    int64_t index[2] = {0};
    CHECK(!papa_tensor_read_double(written, g->initializer[0], w, 2) && w[0] == 2 && w[1] == 0);
    CHECK(!papa_tensor_read_double(written, g->sparse_initializer[0]->values, s, 2) && s[0] == 2 && s[1] == 0);
    CHECK(!papa_tensor_read_int64(written, g->sparse_initializer[0]->indices, index, 2) && index[1] == 5);
    CHECK(!papa_tensor_read_double(written, papa_attr_find(g->node[0], "then_branch")->g->initializer[0], i, 1) && i[0] == 6.5);
    papa_onnx_close(written);
    close_case(&c);
}

static void check_copy(const char *path, const char *original)
{
    PapaMapped in = {0}, out = {0};
    CHECK(!papa_file_map(&in, original) && !papa_file_map(&out, path) && in.size == out.size && !memcmp(in.data, out.data, in.size), "%s", path);
    papa_file_unmap(&in);
    papa_file_unmap(&out);
}

static void check_refused(const Parts *a, const Parts *b, PapaStatus code, const char *text)
{
    Case c;
    PapaMerge *merge;
    PapaMergeOptions options = defaults(PAPA_MERGE_MEAN);
    Parts parts[] = {*a, *a, *b};
    CHECK_OK(open_parts(&c, parts, 3));
    CHECK_FAILS(papa_merge_new(&merge, c.edit, c.models, 3, NULL, &options), code, text);
    CHECK(strstr(papa_error(), "a.onnx") && strstr(papa_error(), "c.onnx") && !strstr(papa_error(), "b.onnx"), "%s", papa_error());
    CHECK_OK(papa_edit_write(c.edit, out_path)); /* nothing was edited */
    check_copy(out_path, input_path(0));
    close_case(&c);
}

static void test_refused(void)
{
    Parts other = plain;
    other.shape[1] = -9;
    check_refused(&plain, &other, PAPA_ERR_MISMATCH, "'graph.initializer 'shape'': INT64 has no mean, and element 1 differs");
    CHECK(strstr(papa_error(), "a.onnx (4)") && strstr(papa_error(), "c.onnx (-9)"), "%s", papa_error());
    other = plain, other.bytes = -7;
    check_refused(&plain, &other, PAPA_ERR_UNSUPPORTED, "'graph.initializer 'q'': a quantised weight of INT8 has no mean, and element 0 differs");
    other = plain, other.text = "u";
    check_refused(&plain, &other, PAPA_ERR_MISMATCH, "'text'': STRING has no mean");
    other = plain, other.indices[0] = 1;
    check_refused(&plain, &other, PAPA_ERR_MISMATCH, "'graph.sparse_initializer 's'.indices': INT64 has no mean, and element 0 differs");
    other = plain, other.length = 11;
    check_refused(&plain, &other, PAPA_ERR_MISMATCH, "is sparse and has not the same shape");
    other = plain, other.name = "v";
    check_refused(&plain, &other, PAPA_ERR_MISMATCH, "c.onnx has no tensor 'graph.initializer 'w''");
}

static void check_types_refused(PapaBuffer *x, PapaBuffer *y, const char *text)
{
    Case c = {.n_models = 2};
    PapaMerge *merge;
    PapaMergeOptions options = defaults(PAPA_MERGE_MEAN);
    PapaBuffer a = model_of_tensor(x), b = model_of_tensor(y);
    CHECK_OK(open_bytes(&c.onnx[0], input_path(0), &a));
    CHECK_OK(open_bytes(&c.onnx[1], input_path(1), &b));
    c.models[0].onnx = c.onnx[0], c.models[1].onnx = c.onnx[1];
    CHECK_OK(papa_edit_new(&c.edit, c.onnx[0]));
    CHECK_FAILS(papa_merge_new(&merge, c.edit, c.models, 2, NULL, &options), PAPA_ERR_MISMATCH, text);
    close_case(&c);
}

/* The second model has one tensor more. */
static void test_extra_tensor(void)
{
    PapaBuffer graph = {0}, more = {0}, w = float_tensor("w", &(float){1}, 1), w2 = float_tensor("w", &(float){2}, 1), x = float_tensor("x", &(float){3}, 1);
    Case c = {.n_models = 2};
    PapaMerge *merge;
    PapaMergeOptions options = defaults(PAPA_MERGE_MEAN);
    put_message(&graph, FIELD_GRAPH_INITIALIZER, &w);
    put_message(&more, FIELD_GRAPH_INITIALIZER, &w2);
    put_message(&more, FIELD_GRAPH_INITIALIZER, &x);
    PapaBuffer a = model_of(&graph, 8), b = model_of(&more, 8);
    CHECK_OK(open_bytes(&c.onnx[0], input_path(0), &a));
    CHECK_OK(open_bytes(&c.onnx[1], input_path(1), &b));
    c.models[0].onnx = c.onnx[0], c.models[1].onnx = c.onnx[1];
    CHECK_OK(papa_edit_new(&c.edit, c.onnx[0]));
    CHECK_FAILS(papa_merge_new(&merge, c.edit, c.models, 2, NULL, &options), PAPA_ERR_MISMATCH, "a.onnx has no tensor 'graph.initializer 'x'', which ");
    close_case(&c);
}

static void test_shapes_refused(void)
{
    static const double values[4] = {1, 2, 3, 4};
    PapaBuffer x = float_tensor_of("w", TYPE(FLOAT), values, 4), y = float_tensor_of("w", TYPE(DOUBLE), values, 4);
    check_types_refused(&x, &y, "'graph.initializer 'w'' is FLOAT [4] in ");
    CHECK(strstr(papa_error(), "a.onnx and DOUBLE [4] in "), "%s", papa_error());
    x = float_tensor_of("w", TYPE(FLOAT), values, 4), y = float_tensor_of("w", TYPE(FLOAT), values, 3);
    check_types_refused(&x, &y, "FLOAT [3] in ");
    x = float_tensor_of("w", TYPE(FLOAT), values, 0), y = float_tensor_of("w", TYPE(FLOAT), values, 3);
    check_types_refused(&x, &y, "FLOAT [0] in ");
}

static void test_options_refused(void)
{
    const struct {
        PapaMergeOptions options;
        int n;
        bool base;
        const char *text;
    } cases[] = {
        {{.method = PAPA_MERGE_MEAN}, 0, false, "a mean takes at least 1 models, 0 given"},
        {{.method = PAPA_MERGE_MEAN}, 2, true, "a mean has no base"},
        {{.method = PAPA_MERGE_LERP}, 3, false, "interpolation takes 2 models, 3 given"},
        {{.method = PAPA_MERGE_TIES}, 2, false, "TIES needs a base"},
        {{.method = PAPA_MERGE_STOCK}, 1, true, "at least 2 models, 1 given"},
        {{.method = PAPA_MERGE_WISE}, 2, true, "WiSE-FT takes 1 models, 2 given"},
        {{.method = PAPA_MERGE_EMA, .weights = (double[]){1, 0}}, 2, false, "has no weights"},
        {{.method = PAPA_MERGE_TASK, .tensor_weights = (double[]){1, 0}}, 2, true, "has no weights for each tensor"},
        {{.method = PAPA_MERGE_MEAN, .weights = (double[]){.5, .4}}, 2, false, "the weights sum to 0.9"},
        {{.method = PAPA_MERGE_MEAN, .weights = (double[]){NAN, .4}}, 2, false, "weight 1 is nan"},
        {{.method = PAPA_MERGE_MEAN, .tensor_weights = (double[]){.5, .4}}, 2, false, "'graph.initializer 'w'': the weights sum to 0.9"},
        {{.method = PAPA_MERGE_LERP, .t = INFINITY}, 2, false, "t is inf"},
        {{.method = PAPA_MERGE_TIES, .density = 1.5}, 2, true, "density is 1.5"},
        {{.method = PAPA_MERGE_EMA, .decay = 1}, 2, false, "decay is 1"},
        {{.method = PAPA_MERGE_MEAN, .threads = -1}, 2, false, "-1 threads"},
        {{.method = (PapaMergeMethod)99}, 2, false, "no method 99"},
    };
    static const double values[4 * 1] = {1, 2, 3, 4};
    Case c;
    PapaMerge *merge;
    CHECK_OK(open_case(&c, TYPE(FLOAT), 4, values, 1));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        CHECK_FAILS(papa_merge_new(&merge, c.edit, c.models, cases[i].n, cases[i].base ? &c.models[3] : NULL, &cases[i].options), PAPA_ERR_ARGUMENT,
            cases[i].text);
    close_case(&c);
}

/* A soup of one is the file, byte for byte, NaN payloads and storage included. */
static void test_soup_of_one(void)
{
    Case c;
    PapaMerge *merge;
    Parts parts = plain;
    uint32_t signalling = 0x7f800001;
    memcpy(&parts.w[0], &signalling, sizeof signalling);
    parts.typed = true;
    PapaMergeOptions options = defaults(PAPA_MERGE_MEAN);
    CHECK_OK(open_parts(&c, &parts, 1));
    CHECK_OK(papa_merge_new(&merge, c.edit, c.models, 1, NULL, &options));
    CHECK_OK(papa_edit_write(c.edit, out_path));
    papa_merge_free(merge);
    check_copy(out_path, input_path(0));
    close_case(&c);
}

/* Tensors given by hand: one that the second model calls otherwise and has transposed, one that it lacks. */
static PapaStatus read_transposed(void *context, double *to, int64_t first, int64_t n)
{
    static const double values[] = {1, 4, 2, 5, 3, 6}; /* (3, 2), of 1 2 3 / 4 5 6 */
    (void)context;
    for (int64_t i = first; i < first + n; i++)
        to[i - first] = values[i % 3 * 2 + i / 3];
    return PAPA_OK;
}

static void test_given_pairs(void)
{
    static const float w[] = {1, 2, 3, 4, 5, 6}, x[] = {9};
    PapaBuffer graph = {0}, other = {0}, tensor = {0}, lone = float_tensor("x", x, 1), turned = {0};
    put_number(&tensor, FIELD_TENSOR_DIMS, 2), put_number(&tensor, FIELD_TENSOR_DIMS, 3);
    put_number(&turned, FIELD_TENSOR_DIMS, 3), put_number(&turned, FIELD_TENSOR_DIMS, 2);
    put_number(&tensor, FIELD_TENSOR_DATA_TYPE, TYPE(FLOAT)), put_number(&turned, FIELD_TENSOR_DATA_TYPE, TYPE(FLOAT));
    put_text(&tensor, FIELD_TENSOR_NAME, "w"), put_text(&turned, FIELD_TENSOR_NAME, "v");
    put_bytes(&tensor, FIELD_TENSOR_RAW_DATA, w, sizeof w), put_bytes(&turned, FIELD_TENSOR_RAW_DATA, w, sizeof w);
    put_message(&graph, FIELD_GRAPH_INITIALIZER, &tensor);
    put_message(&graph, FIELD_GRAPH_INITIALIZER, &lone);
    put_message(&other, FIELD_GRAPH_INITIALIZER, &turned);
    PapaBuffer a = model_of(&graph, 8), b = model_of(&other, 8);
    Case c = {.n_models = 2};
    CHECK_OK(open_bytes(&c.onnx[0], input_path(0), &a));
    CHECK_OK(open_bytes(&c.onnx[1], input_path(1), &b));
    CHECK_OK(papa_edit_new(&c.edit, c.onnx[0]));
    const Onnx__TensorProto *v = papa_onnx_graph(c.onnx[1])->initializer[0], *own = papa_onnx_graph(c.onnx[0])->initializer[0];
    PapaMergeTensor pairs[2] = {{.tensor = v, .read = read_transposed}}, wrong[2] = {{.tensor = own}}, straight[2] = {{.tensor = v}};
    PapaMergeTensor turned_pairs[2] = {{.tensor = v, .transposed = true}};
    PapaMergeOptions options = defaults(PAPA_MERGE_MEAN);
    PapaMerge *merge;
    c.models[0].onnx = c.onnx[0], c.models[1].onnx = c.onnx[1];
    CHECK_FAILS(papa_merge_new(&merge, c.edit, c.models, 2, NULL, &options), PAPA_ERR_MISMATCH, "has no tensor 'graph.initializer 'w''");
    c.models[1].tensors = wrong;
    CHECK_FAILS(papa_merge_new(&merge, c.edit, c.models, 2, NULL, &options), PAPA_ERR_ARGUMENT, "what is paired with 'graph.initializer 'w'' is no tensor of it");
    c.models[1].tensors = straight;
    CHECK_FAILS(papa_merge_new(&merge, c.edit, c.models, 2, NULL, &options), PAPA_ERR_MISMATCH, "is FLOAT [2,3] in ");
    c.models[1].tensors = pairs;
    double found[6];
    CHECK_OK(merge_case(&c, &options, false, found, 6));
    for (int i = 0; i < 6; i++)
        CHECK(found[i] == i + 1, "%d: %g", i, found[i]); /* the mean of w with itself, turned twice */
    c.models[1].tensors = turned_pairs;
    static const double expected[] = {1, 2.5, 4, 3, 4.5, 6}; /* 1 2 3 / 4 5 6 with the columns of 1 2 / 3 4 / 5 6 */
    CHECK_OK(merge_case(&c, &options, false, found, 6));
    for (int i = 0; i < 6; i++)
        CHECK(found[i] == expected[i], "%d: %g", i, found[i]);
    close_case(&c);
}

/* A matrix that the second model has transposed, in raw form or as numbers, with rows that cross blocks and slices. */
static void check_transposed(bool typed)
{
    enum { R = 41, C = 307 };
    static uint16_t halves[2][R * C];
    static double found[R * C];
    Case c = {.n_models = 2};
    PapaMergeOptions options = defaults(PAPA_MERGE_LERP);
    options.t = 1;
    for (int k = 0; k < 2; k++) {
        PapaBuffer tensor = {0};
        put_number(&tensor, FIELD_TENSOR_DIMS, k ? C : R), put_number(&tensor, FIELD_TENSOR_DIMS, k ? R : C);
        put_number(&tensor, FIELD_TENSOR_DATA_TYPE, TYPE(BFLOAT16));
        put_text(&tensor, FIELD_TENSOR_NAME, "w");
        for (int i = 0; i < R * C; i++)
            halves[k][i] = (uint16_t)i; /* any bits will do: small numbers */
        for (int i = 0; i < R * C && k && typed; i++)
            put_number(&tensor, FIELD_TENSOR_INT32_DATA, halves[k][i]);
        if (!k || !typed)
            put_bytes(&tensor, FIELD_TENSOR_RAW_DATA, halves[k], sizeof halves[k]);
        PapaBuffer model = model_of_tensor(&tensor);
        CHECK_OK(open_bytes(&c.onnx[k], input_path(k), &model));
        c.models[k].onnx = c.onnx[k];
    }
    PapaMergeTensor pair = {.tensor = papa_onnx_graph(c.onnx[1])->initializer[0], .transposed = true};
    c.models[1].tensors = &pair;
    CHECK_OK(papa_edit_new(&c.edit, c.onnx[0]));
    CHECK_OK(merge_case(&c, &options, false, found, R * C));
    int wrong = 0;
    for (int i = 0; i < R * C; i++)
        wrong += found[i] != papa_bfloat16_to_float((uint16_t)(i % C * R + i / C));
    CHECK(wrong == 0, "%d", wrong);
    close_case(&c);
}

/* ---------------------------------------------------------------- large tensors */

/* More than one range, slice and thread; external; two tensors at one place stay at one place. */
static void test_external(void)
{
    enum { N = 600000 };
    static float values[N], found[N];
    PapaMerge *merge;
    PapaOnnx *written;
    Case c = {.n_models = 3};
    struct stat st = {0};
    for (int k = 0; k < 3; k++) {
        PapaBuffer graph = {0};
        char data_path[100], number[32];
        for (int i = 0; i < N; i++)
            values[i] = (float)((i % 1000) * (k + 1));
        snprintf(data_path, sizeof data_path, "%s/%c.bin", folder, 'a' + k);
        write_bytes(data_path, values, sizeof values);
        for (int t = 0; t < 3; t++) { /* "a" and "b" at one place, "c" inside the file's second half */
            PapaBuffer tensor = tensor_head((const char *[]){"a", "b", "c"}[t], TYPE(FLOAT), t < 2 ? N : N / 2), entries[3] = {{0}, {0}, {0}};
            put_text(&entries[0], FIELD_ENTRY_KEY, "location"), put_text(&entries[0], FIELD_ENTRY_VALUE, strrchr(data_path, '/') + 1);
            snprintf(number, sizeof number, "%d", t < 2 ? 0 : N * 2);
            put_text(&entries[1], FIELD_ENTRY_KEY, "offset"), put_text(&entries[1], FIELD_ENTRY_VALUE, number);
            snprintf(number, sizeof number, "%d", (t < 2 ? N : N / 2) * 4);
            put_text(&entries[2], FIELD_ENTRY_KEY, "length"), put_text(&entries[2], FIELD_ENTRY_VALUE, number);
            for (int e = 0; e < 3; e++)
                put_message(&tensor, FIELD_TENSOR_EXTERNAL_DATA, &entries[e]);
            put_number(&tensor, FIELD_TENSOR_DATA_LOCATION, 1);
            put_message(&graph, FIELD_GRAPH_INITIALIZER, &tensor);
        }
        PapaBuffer model = model_of(&graph, 8);
        CHECK_OK(open_bytes(&c.onnx[k], input_path(k), &model));
        c.models[k].onnx = c.onnx[k];
        unlink(data_path); /* it is mapped */
    }
    CHECK_OK(papa_edit_new(&c.edit, c.onnx[0]));
    PapaMergeOptions options = defaults(PAPA_MERGE_MEAN);
    options.threads = 3;
    CHECK_OK(papa_merge_new(&merge, c.edit, c.models, 3, NULL, &options));
    CHECK_OK(papa_edit_write(c.edit, out_path));
    papa_merge_free(merge);
    CHECK(!stat(out_data, &st) && st.st_size == 4 * N + 2 * N, "%lld bytes", (long long)st.st_size);
    CHECK_OK(papa_onnx_open(&written, out_path));
    for (int t = 0; t < 3; t++) {
        int wrong = 0, n = t < 2 ? N : N / 2;
        CHECK_OK(papa_tensor_read_float(written, papa_onnx_graph(written)->initializer[t], found, n));
        for (int i = 0; i < n; i++)
            wrong += found[i] != (float)((i + N - n) % 1000 * 2);
        CHECK(wrong == 0, "tensor %d: %d", t, wrong);
    }
    papa_onnx_close(written);
    close_case(&c);
    unlink(out_data);
}

/* Threads change nothing, in the methods that measure first. */
static void check_threads(PapaMergeMethod method, int n_models)
{
    enum { N = 300001 };
    static double found[2][N];
    static float values[N];
    Case c = {.n_models = n_models};
    PapaMergeOptions options = defaults(method);
    bool has_base = method == PAPA_MERGE_STOCK || method == PAPA_MERGE_TIES;
    for (int k = 0; k < n_models; k++) {
        PapaRng rng = papa_rng(6, PAPA_RNG_TEST, k, 0, 0);
        for (int i = 0; i < N; i++)
            values[i] = (float)(papa_rng_normal(&rng) + 1) * (k == 0 && i % 5000 == 0 ? 1e-30f : 1); /* the fast mean has most blocks, not all */
        PapaBuffer tensor = float_tensor("w", values, N), model = model_of_tensor(&tensor);
        CHECK_OK(open_bytes(&c.onnx[k], input_path(k), &model));
        c.models[k].onnx = c.onnx[k];
    }
    CHECK_OK(papa_edit_new(&c.edit, c.onnx[0]));
    options.threads = 1;
    CHECK_OK(merge_case(&c, &options, has_base, found[0], N));
    options.threads = 5;
    CHECK_OK(merge_case(&c, &options, has_base, found[1], N));
    CHECK(!memcmp(found[0], found[1], sizeof found[0]), "method %d", method);
    close_case(&c);
}

int main(void)
{
    make_test_folder(folder);
    snprintf(out_path, sizeof out_path, "%s/out.onnx", folder);
    snprintf(out_data, sizeof out_data, "%s/out.onnx.data", folder);
    test_sums();
    test_slerp();
    test_long_slerp();
    test_differences();
    test_identity();
    test_dare();
    for (int kind = 0; kind < 3; kind++) {
        check_selection(kind, 0.2, 1);
        check_selection(kind, 0.5, 3);
        check_selection(kind, 1, 2);
        check_selection(kind, 0.00002, 2);
    }
    test_exact_small();
    test_exact_hard();
    test_float_mean();
    test_all_places();
    test_refused();
    test_extra_tensor();
    test_shapes_refused();
    test_options_refused();
    test_soup_of_one();
    test_given_pairs();
    check_transposed(false);
    check_transposed(true);
    test_external();
    check_threads(PAPA_MERGE_MEAN, 3);
    check_threads(PAPA_MERGE_SLERP, 2);
    check_threads(PAPA_MERGE_STOCK, 4);
    check_threads(PAPA_MERGE_TIES, 3);
    for (int k = 0; k < MOST; k++)
        unlink(input_path(k));
    unlink(out_path);
    CHECK(rmdir(folder) == 0);
    return check_result();
}
