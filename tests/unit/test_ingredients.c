/* Ingredients that are written otherwise than the first model, read and permuted: by range, as stores, as files of their own. */
#include "check.h"
#include "jobs/ingredients.h"
#include "onnxbuild.h"
#include "scratch.h"

enum { N_IN = 4, UNITS = 3, N_OUT = 2 };

static PapaModel *models[3];
static PapaIngredients *ingredients;
static PapaGroups *groups;

static void close_all(void)
{
    papa_ingredients_close(ingredients);
    papa_groups_free(groups);
    for (int k = 0; k < 3; k++) {
        papa_model_close(models[k]);
        models[k] = NULL;
    }
    ingredients = NULL;
    groups = NULL;
}

/* Opens what was written as 0.onnx, 1.onnx, ... */
static PapaStatus open_all(int n)
{
    for (int k = 0; k < n; k++)
        PAPA_TRY(papa_model_open(&models[k], scratch("%d.onnx", k)));
    PAPA_TRY(papa_groups_derive(&groups, models[0]->onnx, NULL));
    return papa_ingredients_open(&ingredients, (const PapaModel *const *)models, n, NULL);
}

/* Element (row, column) of a matrix is first + 10 row + column; transposed: it is stored so. */
static void build_matrix(Build *b, const char *name, int64_t rows, int64_t columns, float first, bool transposed)
{
    float values[64];
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c++)
            values[transposed ? c * rows + r : r * columns + c] = first + 10 * (float)r + (float)c;
    build_tensor(b, name, 2, transposed ? (int64_t[]){columns, rows} : (int64_t[]){rows, columns}, values);
}

/* Two layers as MatMul and Add. */
static void write_plain(const char *path, float first)
{
    Build b = build_begin();
    build_input(&b, "x", 2, (int64_t[]){-1, N_IN});
    build_matrix(&b, "w1", N_IN, UNITS, first, false);
    build_tensor(&b, "b1", 1, (int64_t[]){UNITS}, (float[]){first, first + 1, first + 2});
    build_matrix(&b, "w2", UNITS, N_OUT, first + 500, false);
    build_node(&b, "MatMul", "x w1", "h");
    build_node(&b, "Add", "h b1", "s");
    build_node(&b, "Relu", "s", "r");
    build_node(&b, "MatMul", "r w2", "y");
    build_output(&b, "y", 2);
    build_write(&b, path);
}

/* The same as Gemm, with matrices stored the other way round. */
static void write_gemm(const char *path, float first)
{
    Build b = build_begin();
    build_input(&b, "in", 2, (int64_t[]){-1, N_IN});
    build_matrix(&b, "second", UNITS, N_OUT, first + 500, true);
    build_matrix(&b, "first", N_IN, UNITS, first, true);
    build_tensor(&b, "bias", 1, (int64_t[]){UNITS}, (float[]){first, first + 1, first + 2});
    build_int(build_node(&b, "Gemm", "in first bias", "h"), "transB", 1);
    build_node(&b, "Relu", "h", "r");
    build_int(build_node(&b, "Gemm", "r second", "out"), "transB", 1);
    build_output(&b, "out", 2);
    build_write(&b, path);
}

static const Onnx__TensorProto *tensor_named(const PapaModel *model, const char *name)
{
    const Onnx__GraphProto *graph = papa_onnx_graph(model->onnx);
    for (size_t i = 0; i < graph->n_initializer; i++)
        if (!strcmp(graph->initializer[i]->name, name))
            return graph->initializer[i];
    return NULL;
}

static const int64_t turned[] = {2, 0, 1};
static const int64_t *perms[8]; /* by group; zeros */

/* The permutation that exchanges the units of the group that this tensor makes. */
static const int64_t *const *perms_of(const char *name)
{
    for (int g = 0; g < groups->n_groups; g++)
        perms[g] = strcmp(groups->groups[g].name, name) ? NULL : turned;
    return perms;
}

/* Model 1's elements of the first one's w1 (4, 3), b1 and w2 (3, 2), permuted or not: from [.., unit, ..] on. */
static void check_values(const float *w1, const float *b1, const float *w2, float first, const int64_t *perm)
{
    for (int64_t u = 0; u < UNITS; u++) {
        int64_t from = perm ? perm[u] : u;
        for (int64_t i = 0; i < N_IN; i++)
            CHECK_NEAR(w1[i * UNITS + u], first + 10 * (float)i + (float)from, 0);
        CHECK_NEAR(b1[u], first + (float)from, 0);
        for (int64_t o = 0; o < N_OUT; o++)
            CHECK_NEAR(w2[u * N_OUT + o], first + 500 + 10 * (float)from + (float)o, 0);
    }
}

static void check_read(float first, const int64_t *perm)
{
    float w1[N_IN * UNITS], b1[UNITS], w2[UNITS * N_OUT];
    CHECK_OK(papa_ingredients_read(ingredients, 1, tensor_named(models[0], "w1"), w1, N_IN * UNITS));
    CHECK_OK(papa_ingredients_read(ingredients, 1, tensor_named(models[0], "b1"), b1, UNITS));
    CHECK_OK(papa_ingredients_read(ingredients, 1, tensor_named(models[0], "w2"), w2, UNITS * N_OUT));
    check_values(w1, b1, w2, first, perm);
}

/* The file of model 1 by itself, as a merge writes it in the first one's form. */
static void check_merge(float first, const int64_t *perm)
{
    PapaMergeOptions options;
    PapaEdit *edit;
    PapaMerge *merge;
    PapaModel *result;
    float w1[N_IN * UNITS], b1[UNITS], w2[UNITS * N_OUT];
    papa_merge_defaults(&options);
    options.method = PAPA_MERGE_LERP;
    options.t = 1;
    CHECK_OK(papa_edit_new(&edit, models[0]->onnx));
    CHECK_OK(papa_merge_new(&merge, edit, papa_ingredients_merge_models(ingredients), 2, NULL, &options));
    CHECK_OK(papa_edit_write(edit, scratch("merged.onnx")));
    papa_merge_free(merge);
    papa_edit_free(edit);
    CHECK_OK(papa_model_open(&result, scratch("merged.onnx")));
    CHECK_OK(papa_tensor_read_float(result->onnx, tensor_named(result, "w1"), w1, N_IN * UNITS));
    CHECK_OK(papa_tensor_read_float(result->onnx, tensor_named(result, "b1"), b1, UNITS));
    CHECK_OK(papa_tensor_read_float(result->onnx, tensor_named(result, "w2"), w2, UNITS * N_OUT));
    check_values(w1, b1, w2, first, perm);
    papa_model_close(result);
}

/* Model 1's own file, permuted: transposes of what the first one has. The same for a proof. */
static void check_own(float first, const int64_t *perm)
{
    PapaEdit *edit;
    PapaModel *result;
    float w1[N_IN * UNITS], back[N_IN * UNITS], bias[UNITS], w2[UNITS * N_OUT];
    CHECK_OK(papa_ingredients_edit_aligned(&edit, ingredients, 1));
    CHECK_OK(papa_edit_write(edit, scratch("own.onnx")));
    papa_edit_free(edit);
    CHECK_OK(papa_model_open(&result, scratch("own.onnx")));
    CHECK_OK(papa_tensor_read_float(result->onnx, tensor_named(result, "first"), back, N_IN * UNITS));
    CHECK_OK(papa_tensor_read_float(result->onnx, tensor_named(result, "bias"), bias, UNITS));
    CHECK_OK(papa_tensor_read_float(result->onnx, tensor_named(result, "second"), w2, UNITS * N_OUT));
    float turned_w2[UNITS * N_OUT];
    for (int64_t u = 0; u < UNITS; u++) {
        for (int64_t i = 0; i < N_IN; i++)
            w1[i * UNITS + u] = back[u * N_IN + i];
        for (int64_t o = 0; o < N_OUT; o++)
            turned_w2[u * N_OUT + o] = w2[o * UNITS + u];
    }
    check_values(w1, bias, turned_w2, first, perm);
    papa_model_close(result);

    PapaIngredientView view = {ingredients, 1};
    float replaced[N_IN * UNITS];
    const Onnx__TensorProto *own = tensor_named(models[1], "first");
    CHECK_OK(papa_tensor_read_float(models[1]->onnx, own, replaced, N_IN * UNITS));
    CHECK_OK(papa_ingredients_replace(&view, own, replaced, N_IN * UNITS));
    CHECK(!memcmp(replaced, back, sizeof back), "a proof would see another tensor than the file has");
}

/* Stores of a table on a mapping of its own. */
static void check_store(float first, const int64_t *perm)
{
    PapaModel *table;
    float store[256], *w1 = NULL, *b1 = NULL, *w2 = NULL;
    CHECK_OK(papa_model_open(&table, scratch("0.onnx")));
    CHECK_OK(papa_model_find_params(table, (const char *[]){"y"}, 1, &(PapaModelSelection){0}));
    CHECK(table->store.n_total <= 256, "a larger store");
    CHECK_OK(papa_ingredients_store(ingredients, 1, table, store));
    for (int i = 0; i < table->n_params; i++) {
        const char *name = table->params[i].name;
        float **at = !strcmp(name, "w1") ? &w1 : !strcmp(name, "b1") ? &b1 : &w2;
        *at = store + table->params[i].offset;
    }
    CHECK(w1 && b1 && w2, "a table without w1, b1 or w2");
    if (w1 && b1 && w2)
        check_values(w1, b1, w2, first, perm);
    papa_model_close(table);
}

static void test_written_otherwise(void)
{
    write_plain(scratch("0.onnx"), 1);
    write_gemm(scratch("1.onnx"), 1001);
    CHECK_OK(open_all(2));
    check_read(1001, NULL);
    check_merge(1001, NULL);
    check_store(1001, NULL);
    check_own(1001, NULL);
    CHECK_OK(papa_ingredients_align(ingredients, 1, groups, perms_of("w1")));
    check_read(1001, turned);
    check_merge(1001, turned);
    check_store(1001, turned);
    check_own(1001, turned);
    CHECK_OK(papa_ingredients_align(ingredients, 1, groups, perms_of("")));
    check_read(1001, NULL);
    check_merge(1001, NULL);
    check_own(1001, NULL);
    CHECK_FAILS(papa_ingredients_align(ingredients, 0, groups, perms_of("w1")), PAPA_ERR_ARGUMENT, "the first model is not permuted");
    CHECK_FAILS(papa_ingredients_read(ingredients, 1, tensor_named(models[0], "w1"), (float[16]){0}, 5), PAPA_ERR_MISMATCH, "12 elements, 5 expected");
    close_all();
}

/* A chain of two hidden layers of 3 units, whose biases are these. */
static void write_chain(const char *path, const char *first_bias, const char *second_bias)
{
    Build b = build_begin();
    const float bias[] = {7, 8, 9};
    build_input(&b, "x", 2, (int64_t[]){-1, N_IN});
    build_matrix(&b, "w1", N_IN, UNITS, 1, false);
    build_matrix(&b, "w2", UNITS, UNITS, 100, false);
    build_matrix(&b, "w3", UNITS, N_OUT, 200, false);
    build_tensor(&b, first_bias, 1, (int64_t[]){UNITS}, bias);
    if (strcmp(first_bias, second_bias))
        build_tensor(&b, second_bias, 1, (int64_t[]){UNITS}, bias);
    char inputs[64];
    snprintf(inputs, sizeof inputs, "x w1 %s", first_bias);
    build_node(&b, "Gemm", inputs, "h1");
    build_node(&b, "Relu", "h1", "r1");
    snprintf(inputs, sizeof inputs, "r1 w2 %s", second_bias);
    build_node(&b, "Gemm", inputs, "h2");
    build_node(&b, "Relu", "h2", "r2");
    build_node(&b, "MatMul", "r2 w3", "y");
    build_output(&b, "y", 2);
    build_write(&b, path);
}

static void check_bias(const PapaModel *model, const char *name, const float *expected)
{
    float bias[UNITS];
    CHECK_OK(papa_tensor_read_float(model->onnx, tensor_named(model, name), bias, UNITS));
    CHECK(!memcmp(bias, expected, sizeof bias), "%s: %g %g %g", name, (double)bias[0], (double)bias[1], (double)bias[2]);
}

/* One bias in the other file, two in the first: only one of them is to be permuted. */
static void test_shared_by_the_other(void)
{
    write_chain(scratch("0.onnx"), "b1", "b2");
    write_chain(scratch("1.onnx"), "b", "b");
    CHECK_OK(open_all(2));
    CHECK_FAILS(papa_ingredients_align(ingredients, 1, groups, perms_of("w1")), PAPA_ERR_UNSUPPORTED, "stores one tensor, 'b', for");
    perms_of("w1");
    for (int g = 0; g < groups->n_groups; g++)
        perms[g] = turned;
    CHECK_OK(papa_ingredients_align(ingredients, 1, groups, perms)); /* both, in the same way */
    close_all();
}

/* One bias in the first file, two equal ones in the other: both have to follow. */
static void test_shared_by_the_first(void)
{
    PapaEdit *edit;
    PapaModel *result;
    const float moved[] = {9, 7, 8};
    write_chain(scratch("0.onnx"), "b", "b");
    write_chain(scratch("1.onnx"), "b1", "b2");
    CHECK_OK(open_all(2));
    CHECK(groups->n_groups == 1, "%d groups, where a shared bias ties both layers", groups->n_groups);
    CHECK_OK(papa_ingredients_align(ingredients, 1, groups, perms_of("w1")));
    CHECK_OK(papa_ingredients_edit_aligned(&edit, ingredients, 1));
    CHECK_OK(papa_edit_write(edit, scratch("own.onnx")));
    papa_edit_free(edit);
    CHECK_OK(papa_model_open(&result, scratch("own.onnx")));
    check_bias(result, "b1", moved);
    check_bias(result, "b2", moved);
    papa_model_close(result);
    close_all();
}

int main(void)
{
    test_written_otherwise();
    test_shared_by_the_other();
    test_shared_by_the_first();
    return check_result();
}
