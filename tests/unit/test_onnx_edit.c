/* Writing ONNX files: what is not edited stays byte for byte, edits and ensembles read back as they were made. What ONNX
 * Runtime makes of such files is tests/oracle/test_onnx_roundtrip.py's business. */
#include "check.h"
#include "onnx/onnx_ensemble.h"
#include "unit/onnx_bytes.h"

#include <dirent.h>
#include <sys/stat.h>

static char folder[64], in_path[80], out_path[80], out_data[80];

#define TYPE(id) ONNX__TENSOR_PROTO__DATA_TYPE__##id

/* x -> Mul(x, a) "first" -> y -> Add(y, Constant c) "second" -> z, initializers a and b (b: float16 as numbers), with
 * unknown fields in all messages. IR 3: a and b are inputs too. */
static PapaBuffer base_model(int64_t ir)
{
    static const float a[] = {1, 2, 3}, c[] = {4, 5, 6};
    PapaBuffer graph = {0}, first = make_node("Mul", "first", "x", "y"), second = make_node("Add", "second", "y", "z");
    PapaBuffer constant = make_node("Constant", "const", "", "c"), attr = {0}, value = float_tensor("", c, 3);
    PapaBuffer tensor_a = float_tensor("a", a, 3), tensor_b = tensor_head("b", TYPE(FLOAT16), 2);
    put_text(&first, 1, "a");
    put_text(&first, 777, "strange");
    put_text(&second, 1, "c");
    put_text(&attr, 1, "value");
    put_number(&attr, 20, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR);
    put_message(&attr, 5, &value);
    put_message(&constant, 5, &attr);
    put_text(&tensor_a, 777, "strange");
    put_text(&tensor_a, 12, "documented");
    put_number(&tensor_b, FIELD_TENSOR_INT32_DATA, 0x3c00);
    put_number(&tensor_b, FIELD_TENSOR_INT32_DATA, 0x4000);
    PapaBuffer *nodes[] = {&constant, &first, &second}, *initializers[] = {&tensor_a, &tensor_b};
    for (int i = 0; i < 3; i++)
        put_message(&graph, FIELD_GRAPH_NODE, nodes[i]);
    for (int i = 0; i < 2; i++)
        put_message(&graph, FIELD_GRAPH_INITIALIZER, initializers[i]);
    PapaBuffer x = value_info("x"), z = value_info("z"), y = value_info("y"), input_a = value_info("a"), input_b = value_info("b");
    put_message(&graph, FIELD_GRAPH_INPUT, &x);
    if (ir < 4) {
        put_message(&graph, FIELD_GRAPH_INPUT, &input_a);
        put_message(&graph, FIELD_GRAPH_INPUT, &input_b);
    }
    papa_buffer_free(&input_a);
    papa_buffer_free(&input_b);
    put_message(&graph, 12, &z);
    put_message(&graph, FIELD_GRAPH_VALUE_INFO, &y);
    put_text(&graph, 777, "strange");
    PapaBuffer model = model_of(&graph, ir), entry = {0};
    put_text(&entry, FIELD_ENTRY_KEY, "key");
    put_text(&entry, FIELD_ENTRY_VALUE, "old");
    put_message(&model, FIELD_MODEL_METADATA, &entry);
    put_text(&model, 777, "strange");
    return model;
}

typedef struct Case {
    PapaOnnx *onnx;
    PapaEdit *edit;
} Case;

static PapaStatus open_case(Case *c, int64_t ir)
{
    PapaBuffer model = base_model(ir);
    *c = (Case){0};
    PAPA_TRY(open_bytes(&c->onnx, in_path, &model));
    return papa_edit_new(&c->edit, c->onnx);
}

static void close_case(Case *c)
{
    papa_edit_free(c->edit);
    papa_onnx_close(c->onnx);
}

/* Writes, closes and opens what was written. */
static PapaStatus reopen(Case *c, PapaOnnx **out)
{
    PapaStatus status = papa_edit_write(c->edit, out_path);
    close_case(c);
    *out = NULL;
    return status ? status : papa_onnx_open(out, out_path);
}

static bool same_files(const char *a, const char *b)
{
    PapaMapped left, right;
    bool same = !papa_file_map(&left, a) && !papa_file_map(&right, b) && left.size == right.size && !memcmp(left.data, right.data, left.size);
    papa_file_unmap(&left);
    papa_file_unmap(&right);
    return same;
}

static int count_files(void)
{
    int n = 0;
    DIR *dir = opendir(folder);
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        n += entry->d_name[0] != '.';
    if (dir)
        closedir(dir);
    return n;
}

static const Onnx__TensorProto *find_initializer(const PapaOnnx *onnx, const char *name)
{
    const Onnx__GraphProto *graph = papa_onnx_graph(onnx);
    for (size_t i = 0; i < graph->n_initializer; i++)
        if (!strcmp(graph->initializer[i]->name, name))
            return graph->initializer[i];
    return NULL;
}

static bool holds_floats(const PapaOnnx *onnx, const Onnx__TensorProto *tensor, const float *expected, int64_t n)
{
    float values[16] = {0};
    return tensor && n <= 16 && papa_tensor_read_float(onnx, tensor, values, n) == PAPA_OK && !memcmp(values, expected, (size_t)n * sizeof *values);
}

static void test_nothing_edited(void)
{
    Case c;
    PapaOnnx *onnx;
    CHECK_OK(open_case(&c, 8));
    CHECK_OK(reopen(&c, &onnx));
    papa_onnx_close(onnx);
    CHECK(same_files(in_path, out_path));
    CHECK(count_files() == 2, "%d files", count_files());
}

static void test_set_tensor(void)
{
    static const float new_a[] = {-1, 0x1p-140f, 3e38f}, same_a[] = {1, 2, 3}, new_b[] = {2049, -0.0f}, rounded_b[] = {2048, -0.0f}, new_c[] = {7, 8, 9};
    Case c;
    PapaOnnx *onnx;
    CHECK_OK(open_case(&c, 8));
    CHECK_OK(papa_edit_set_tensor(c.edit, find_initializer(c.onnx, "a"), new_c, 3));
    CHECK_OK(papa_edit_set_tensor(c.edit, find_initializer(c.onnx, "a"), same_a, 3)); /* the last one counts */
    CHECK_OK(papa_edit_write(c.edit, out_path));
    CHECK(same_files(in_path, out_path));
    CHECK_OK(papa_edit_set_tensor(c.edit, find_initializer(c.onnx, "a"), new_a, 3));
    CHECK_OK(papa_edit_set_tensor(c.edit, find_initializer(c.onnx, "b"), new_b, 2));
    CHECK_OK(papa_edit_set_tensor(c.edit, papa_attr_find(papa_onnx_graph(c.onnx)->node[0], "value")->t, new_c, 3));
    CHECK_FAILS(papa_edit_set_tensor(c.edit, find_initializer(c.onnx, "a"), new_a, 2), PAPA_ERR_MISMATCH, "tensor 'a'");
    CHECK_FAILS(papa_edit_set_tensor(c.edit, &(Onnx__TensorProto)ONNX__TENSOR_PROTO__INIT, new_a, 3), PAPA_ERR_ARGUMENT, "not a tensor of");
    CHECK_OK(reopen(&c, &onnx));
    const Onnx__TensorProto *a = find_initializer(onnx, "a"), *b = find_initializer(onnx, "b");
    CHECK(holds_floats(onnx, a, new_a, 3));
    CHECK(holds_floats(onnx, b, rounded_b, 2) && b->data_type == TYPE(FLOAT16));
    CHECK(holds_floats(onnx, papa_attr_find(papa_onnx_graph(onnx)->node[0], "value")->t, new_c, 3));
    CHECK(!strcmp(a->doc_string, "documented") && a->base.n_unknown_fields == 2 && a->base.unknown_fields[1].tag == 777);
    papa_onnx_close(onnx);
}

static void test_initializers(int64_t ir)
{
    static const float values[] = {1, 2, 3, 4, 5, 6};
    static const int64_t dims[] = {2, 3}, ints[] = {-1, 1};
    Case c;
    PapaOnnx *onnx;
    CHECK_OK(open_case(&c, ir));
    CHECK_OK(papa_edit_add_initializer(c.edit, "new", TYPE(BFLOAT16), dims, 2, values));
    CHECK_OK(papa_edit_add_initializer_int64(c.edit, "ints", (int64_t[]){2}, 1, ints));
    CHECK_OK(papa_edit_add_initializer(c.edit, "scalar", TYPE(DOUBLE), NULL, 0, values + 5));
    CHECK_OK(papa_edit_remove_initializer(c.edit, "a"));
    CHECK_OK(papa_edit_add_initializer(c.edit, "gone", TYPE(FLOAT), dims, 2, values));
    CHECK_OK(papa_edit_remove_initializer(c.edit, "gone"));
    static const char *const taken[] = {"new", "b", "x", "y", "c", ""};
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        CHECK_FAILS(papa_edit_add_initializer(c.edit, taken[i], TYPE(FLOAT), dims, 2, values), PAPA_ERR_ARGUMENT, "can't add an initializer");
    CHECK_FAILS(papa_edit_add_initializer(c.edit, "n", TYPE(INT32), dims, 2, values), PAPA_ERR_ARGUMENT, "a float type expected, INT32 given");
    CHECK_FAILS(papa_edit_add_initializer(c.edit, "n", TYPE(FLOAT), (int64_t[]){-2}, 1, values), PAPA_ERR_ARGUMENT, "dimension 0 is -2");
    CHECK_FAILS(papa_edit_remove_initializer(c.edit, "a"), PAPA_ERR_ARGUMENT, "no initializer 'a'");
    CHECK_OK(papa_edit_add_initializer(c.edit, "a", TYPE(FLOAT), dims, 2, values)); /* another shape under the old name */
    CHECK_OK(reopen(&c, &onnx));
    const Onnx__GraphProto *graph = papa_onnx_graph(onnx);
    static const char *const order[] = {"b", "new", "ints", "scalar", "a"};
    CHECK(graph->n_initializer == 5 && graph->n_input == (ir < 4 ? 6 : 1), "%zu initializers, %zu inputs", graph->n_initializer, graph->n_input);
    for (size_t i = 0; i < 5 && i < graph->n_initializer; i++) {
        CHECK(!strcmp(graph->initializer[i]->name, order[i]), "%s", graph->initializer[i]->name);
        CHECK(ir >= 4 || (i + 1 < graph->n_input && !strcmp(graph->input[i + 1]->name, order[i])), "%s", order[i]);
    }
    CHECK(holds_floats(onnx, find_initializer(onnx, "new"), values, 6) && holds_floats(onnx, find_initializer(onnx, "a"), values, 6));
    CHECK(holds_floats(onnx, find_initializer(onnx, "scalar"), values + 5, 1) && find_initializer(onnx, "scalar")->n_dims == 0);
    int64_t found[2];
    CHECK(papa_tensor_read_int64(onnx, find_initializer(onnx, "ints"), found, 2) == PAPA_OK && found[0] == -1 && found[1] == 1);
    if (ir < 4) {
        const Onnx__TypeProto__Tensor *type = graph->input[2]->type->tensor_type;
        CHECK(type->elem_type == TYPE(BFLOAT16) && type->shape->n_dim == 2 && type->shape->dim[1]->dim_value == 3);
    }
    papa_onnx_close(onnx);
}

static void test_nodes(void)
{
    static const float c_values[] = {4, 5, 6}, edited[] = {9, 9, 9};
    Case c;
    PapaOnnx *onnx;
    CHECK_OK(open_case(&c, 8));
    const Onnx__GraphProto *graph = papa_onnx_graph(c.onnx);
    const Onnx__NodeProto *constant = graph->node[0], *first = graph->node[1], *second = graph->node[2];
    Onnx__NodeProto changed = *first, copied = *constant;
    changed.op_type = (char *)"Sub";
    copied.name = (char *)"copy";
    copied.output = (char *[]){(char *)"c2"};
    const Onnx__NodeProto *by[] = {&changed}, *before[] = {&copied, constant};
    CHECK_OK(papa_edit_replace_node(c.edit, first, by, 1));
    CHECK_OK(papa_edit_insert_before(c.edit, first, before, 2));
    CHECK_OK(papa_edit_replace_node(c.edit, constant, NULL, 0));
    CHECK_FAILS(papa_edit_replace_node(c.edit, first, by, 1), PAPA_ERR_ARGUMENT, "replaced twice");
    CHECK_FAILS(papa_edit_replace_node(c.edit, &changed, by, 1), PAPA_ERR_ARGUMENT, "not a node of");
    CHECK_FAILS(papa_edit_add_initializer(c.edit, "c2", TYPE(FLOAT), NULL, 0, edited), PAPA_ERR_ARGUMENT, "exists");
    CHECK_OK(papa_edit_insert_before(c.edit, second, (const Onnx__NodeProto *[]){constant}, 1));
    CHECK_OK(papa_edit_set_tensor(c.edit, papa_attr_find(constant, "value")->t, edited, 3)); /* holds for every copy */
    CHECK_OK(reopen(&c, &onnx));
    graph = papa_onnx_graph(onnx);
    static const char *const names[] = {"copy", "const", "first", "const", "second"};
    CHECK(graph->n_node == 5, "%zu nodes", graph->n_node);
    for (size_t i = 0; i < 5 && i < graph->n_node; i++)
        CHECK(!strcmp(graph->node[i]->name, names[i]), "%s", graph->node[i]->name);
    const Onnx__NodeProto *sub = graph->node[2];
    CHECK(!strcmp(sub->op_type, "Sub") && sub->n_input == 2 && sub->base.n_unknown_fields == 1 && sub->base.unknown_fields[0].tag == 777);
    CHECK(holds_floats(onnx, papa_attr_find(graph->node[0], "value")->t, edited, 3));
    CHECK(!holds_floats(onnx, papa_attr_find(graph->node[3], "value")->t, c_values, 3));
    papa_onnx_close(onnx);
}

/* A node of one model put into another: its tensors are not there. */
static void test_foreign_node(void)
{
    Case c, other;
    CHECK_OK(open_case(&other, 8));
    CHECK_OK(open_case(&c, 8));
    const Onnx__NodeProto *foreign[] = {papa_onnx_graph(other.onnx)->node[0]};
    CHECK_OK(papa_edit_insert_before(c.edit, papa_onnx_graph(c.onnx)->node[1], foreign, 1));
    unlink(out_path);
    CHECK_FAILS(papa_edit_write(c.edit, out_path), PAPA_ERR_ARGUMENT, "another model");
    CHECK(count_files() == 1, "%d files", count_files());
    close_case(&c);
    close_case(&other);
}

static void test_metadata_and_infos(void)
{
    Case c;
    PapaOnnx *onnx;
    char longer[300];
    memset(longer, 'v', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    CHECK_OK(open_case(&c, 8));
    CHECK_OK(papa_edit_set_metadata(c.edit, "fresh", "1"));
    CHECK_OK(papa_edit_set_metadata(c.edit, "gone", "2"));
    CHECK_OK(papa_edit_set_metadata(c.edit, "gone", NULL));
    CHECK_OK(papa_edit_set_metadata(c.edit, "key", "ignored"));
    CHECK_OK(papa_edit_set_metadata(c.edit, "key", longer));
    CHECK_OK(papa_edit_remove_value_info(c.edit, "y"));
    CHECK_OK(papa_edit_remove_value_info(c.edit, "not there"));
    CHECK(!strcmp(papa_edit_unique_name(c.edit, "a"), "a_1") && !strcmp(papa_edit_unique_name(c.edit, "a"), "a_2"));
    CHECK(!strcmp(papa_edit_unique_name(c.edit, "first"), "first_1") && !strcmp(papa_edit_unique_name(c.edit, "free"), "free"));
    CHECK_OK(reopen(&c, &onnx));
    CHECK(!strcmp(papa_onnx_metadata(onnx, "key"), longer) && !strcmp(papa_onnx_metadata(onnx, "fresh"), "1"));
    CHECK(papa_onnx_model(onnx)->n_metadata_props == 2 && !strcmp(papa_onnx_model(onnx)->metadata_props[0]->key, "key"));
    CHECK(papa_onnx_graph(onnx)->n_value_info == 0 && papa_onnx_graph(onnx)->base.n_unknown_fields == 1);
    papa_onnx_close(onnx);
}

static void test_metadata_removed(void)
{
    static const char *const metadata[][2] = {{"key", NULL}, {"fresh", "1"}};
    Case c;
    PapaOnnx *onnx;
    CHECK_OK(open_case(&c, 8));
    CHECK(papa_onnx_metadata(c.onnx, "key"), "nothing to remove");
    PapaEnsembleMember member = {.onnx = c.onnx, .output = "z", .weight = 1};
    CHECK_OK(papa_ensemble_write(&member, 1, &(PapaEnsembleOptions){.output = "z"}, metadata, 2, out_path));
    CHECK_OK(papa_onnx_open(&onnx, out_path));
    CHECK(!papa_onnx_metadata(onnx, "key") && papa_onnx_model(onnx)->n_metadata_props == 1, "an ensemble keeps it");
    papa_onnx_close(onnx);
    CHECK_OK(papa_edit_set_metadata(c.edit, "key", NULL));
    CHECK_OK(reopen(&c, &onnx));
    CHECK(papa_onnx_model(onnx)->n_metadata_props == 0, "an edit keeps it");
    papa_onnx_close(onnx);
}

/* Over its own input, twice: what is mapped stays valid. And a place that can't be written. */
static void test_places(void)
{
    static const float new_a[] = {7, 8, 9};
    Case c;
    PapaOnnx *onnx;
    CHECK_OK(open_case(&c, 8));
    CHECK_OK(papa_edit_set_metadata(c.edit, "round", "one"));
    CHECK_OK(papa_edit_write(c.edit, in_path));
    CHECK_OK(papa_edit_set_tensor(c.edit, find_initializer(c.onnx, "a"), new_a, 3));
    CHECK_OK(papa_edit_write(c.edit, in_path));
    CHECK_OK(papa_edit_write(c.edit, out_path));
    CHECK(same_files(in_path, out_path));
    CHECK_FAILS(papa_edit_write(c.edit, "/nonexistent/model.onnx"), PAPA_ERR_IO, "/nonexistent/model.onnx");
    CHECK_FAILS(papa_edit_write(c.edit, folder), PAPA_ERR_IO, "a folder");
    close_case(&c);
    CHECK_OK(papa_onnx_open(&onnx, in_path));
    CHECK(holds_floats(onnx, find_initializer(onnx, "a"), new_a, 3) && !strcmp(papa_onnx_metadata(onnx, "round"), "one"));
    papa_onnx_close(onnx);
    CHECK(count_files() == 2, "%d files", count_files());
}

/* Beyond the limit big initializers move out, and stay out when the result is edited and written again. */
static void test_external(void)
{
    static float big[400];
    float found[400];
    Case c;
    PapaOnnx *onnx;
    struct stat st = {0};
    for (int i = 0; i < 400; i++)
        big[i] = (float)i;
    CHECK_OK(open_case(&c, 8));
    CHECK_OK(papa_edit_add_initializer(c.edit, "big", TYPE(FLOAT), (int64_t[]){400}, 1, big));
    CHECK_OK(papa_edit_add_initializer(c.edit, "half", TYPE(FLOAT16), (int64_t[]){20, 20}, 2, big)); /* 800 bytes: not big */
    CHECK_OK(papa_edit_add_initializer(c.edit, "big2", TYPE(FLOAT16), (int64_t[]){600}, 1, (float[600]){1}));
    CHECK_FAILS(papa_edit_write_limited(c.edit, out_path, 500), PAPA_ERR_UNSUPPORTED, "more than the 500");
    CHECK_OK(papa_edit_write_limited(c.edit, out_path, 2000));
    close_case(&c);
    CHECK(!stat(out_path, &st) && st.st_size <= 2000);
    CHECK(!stat(out_data, &st) && st.st_size == 1600 + 1200, "%lld", (long long)st.st_size);
    CHECK_OK(papa_onnx_open(&c.onnx, out_path));
    CHECK_OK(papa_edit_new(&c.edit, c.onnx));
    CHECK(find_initializer(c.onnx, "big")->data_location == 1 && find_initializer(c.onnx, "half")->data_location == 0);
    big[399] = -1;
    CHECK_OK(papa_edit_set_tensor(c.edit, find_initializer(c.onnx, "big"), big, 400));
    CHECK_OK(papa_edit_remove_initializer(c.edit, "big2"));
    CHECK_OK(reopen(&c, &onnx));
    const Onnx__TensorProto *tensor = find_initializer(onnx, "big");
    CHECK(tensor->data_location == 1 && tensor->n_external_data == 3);
    CHECK(papa_tensor_read_float(onnx, tensor, found, 400) == PAPA_OK && !memcmp(found, big, sizeof big));
    CHECK(!stat(out_data, &st) && st.st_size == 1600, "%lld", (long long)st.st_size);
    papa_onnx_close(onnx);
    CHECK(truncate(out_data, 1599) == 0);
    CHECK_FAILS(papa_onnx_open(&onnx, out_path), PAPA_ERR_FORMAT, "too short");
    unlink(out_data);
    CHECK_FAILS(papa_onnx_open(&onnx, out_path), PAPA_ERR_FORMAT, "out.onnx.data");
}

/* Two members from one file, one of them edited: what the edit does not reach is there once. */
static void test_ensemble(int64_t ir)
{
    static const float new_a[] = {7, 8, 9}, old_a[] = {1, 2, 3};
    static const char *const metadata[][2] = {{"key", "new"}};
    Case c;
    PapaOnnx *onnx;
    CHECK_OK(open_case(&c, ir));
    CHECK_OK(papa_edit_set_tensor(c.edit, find_initializer(c.onnx, "a"), new_a, 3));
    PapaEnsembleMember members[] = {{.onnx = c.onnx, .output = "z", .weight = 1}, {.onnx = c.onnx, .edit = c.edit, .output = "z", .weight = 1}};
    PapaEnsembleOptions options = {.output = "z"};
    CHECK_OK(papa_ensemble_write(members, 2, &options, metadata, 1, out_path));
    CHECK_OK(papa_onnx_open(&onnx, out_path));
    const Onnx__GraphProto *graph = papa_onnx_graph(onnx);
    static const char *const types[] = {"Constant", "Mul", "Add", "Mul", "Add", "Sum", "Mul"};
    CHECK(graph->n_node == 7, "%zu nodes", graph->n_node);
    for (size_t i = 0; i < 7 && i < graph->n_node; i++)
        CHECK(!strcmp(graph->node[i]->op_type, types[i]), "%zu: %s", i, graph->node[i]->op_type);
    CHECK(graph->n_initializer == 3 && graph->n_input == (ir < 4 ? 4 : 1) && graph->n_output == 1 && !strcmp(graph->output[0]->name, "z"));
    CHECK(holds_floats(onnx, find_initializer(onnx, "m0/a"), old_a, 3) && holds_floats(onnx, find_initializer(onnx, "m1/a"), new_a, 3));
    CHECK(holds_floats(onnx, find_initializer(onnx, "z/weight"), (float[]){.5f}, 1));
    CHECK(!strcmp(papa_onnx_metadata(onnx, "key"), "new") && papa_onnx_model(onnx)->base.n_unknown_fields == 1);
    papa_onnx_close(onnx);

    static const double weights[][2] = {{0, 0}, {-1, 2}, {NAN, 1}, {INFINITY, 1}};
    for (size_t i = 0; i < sizeof weights / sizeof *weights; i++) {
        members[0].weight = weights[i][0];
        members[1].weight = weights[i][1];
        CHECK_FAILS(papa_ensemble_write(members, 2, &options, metadata, 1, out_path), PAPA_ERR_ARGUMENT, "weight");
    }
    members[0].weight = members[1].weight = 1;
    CHECK_FAILS(papa_ensemble_write(members, 0, &options, metadata, 1, out_path), PAPA_ERR_ARGUMENT, "0 members");
    members[1].output = "x";
    CHECK_FAILS(papa_ensemble_write(members, 2, &options, metadata, 1, out_path), PAPA_ERR_MISMATCH, "no node has the output 'x'");
    members[1].output = "z";
    options.output = "y";
    CHECK_FAILS(papa_ensemble_write(members, 2, &options, metadata, 1, out_path), PAPA_ERR_MISMATCH, "no graph output 'y'");
    close_case(&c);
}

int main(void)
{
    make_test_folder(folder);
    snprintf(in_path, sizeof in_path, "%s/in.onnx", folder);
    snprintf(out_path, sizeof out_path, "%s/out.onnx", folder);
    snprintf(out_data, sizeof out_data, "%s/out.onnx.data", folder);
    test_nothing_edited();
    test_set_tensor();
    test_initializers(3);
    test_initializers(8);
    test_nodes();
    test_foreign_node();
    test_metadata_and_infos();
    test_metadata_removed();
    test_places();
    test_external();
    test_ensemble(3);
    test_ensemble(8);
    unlink(in_path);
    unlink(out_path);
    CHECK(rmdir(folder) == 0);
    return check_result();
}
