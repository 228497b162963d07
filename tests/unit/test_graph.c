/* What the passes make of a graph: which nodes are left, what is joined to what, which orders of axes values stand in, what is refused. */
#include "check.h"
#include "graph/op.h"
#include "onnxbuild.h"
#include "scratch.h"

static PapaStatus open_graph(PapaGraph **out, PapaOnnx **onnx, const char *path)
{
    PAPA_TRY(papa_onnx_open(onnx, path));
    PapaStatus status = papa_graph_read(out, *onnx, &(PapaGraphOptions){.mode = PAPA_MODE_TRAIN});
    if (status != PAPA_OK) {
        papa_onnx_close(*onnx);
        *onnx = NULL;
    }
    return status;
}

static PapaStatus run_passes(PapaGraph *graph, const PapaShape *input)
{
    PAPA_TRY(papa_graph_infer(graph, input));
    PAPA_TRY(papa_graph_layout(graph));
    return papa_graph_fuse(graph);
}

/* Writes b, reads it and runs all passes on an input of this shape. */
static PapaStatus pass_built(Build *b, PapaGraph **graph, PapaOnnx **onnx, const PapaShape *input)
{
    const char *path = scratch("graph.onnx");
    build_write(b, path);
    PAPA_TRY(open_graph(graph, onnx, path));
    PapaStatus status = run_passes(*graph, input);
    if (status != PAPA_OK) {
        papa_graph_free(*graph);
        papa_onnx_close(*onnx);
    }
    return status;
}

static int count(const PapaGraph *graph, const char *type)
{
    int n = 0;
    for (int k = 0; k < graph->n_nodes; k++)
        n += strcmp(graph->nodes[k]->op->type, type) == 0;
    return n;
}

static bool takes_add(const PapaNode *node)
{
    return node->op->fuses & PAPA_FUSE_ADD && papa_has_in(node, node->op->residual_input);
}

/* The final graph as text: "Conv+relu MaxPool", one word a node. */
static const char *text_of(const PapaGraph *graph)
{
    static char text[4096];
    size_t used = 0;
    text[0] = 0;
    for (int k = 0; k < graph->n_nodes && used < sizeof text; k++) {
        const PapaNode *node = graph->nodes[k];
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s%s%s", k ? " " : "", node->op->type, takes_add(node) ? "+add" : "",
            node->relu ? "+relu" : "");
    }
    return text;
}

static void check_text(Build *b, const PapaShape *input, const char *expected)
{
    PapaGraph *graph;
    PapaOnnx *onnx;
    CHECK_OK(pass_built(b, &graph, &onnx, input));
    CHECK(strcmp(text_of(graph), expected) == 0, "\"%s\", expected \"%s\"", text_of(graph), expected);
    papa_graph_free(graph);
    papa_onnx_close(onnx);
}

/* ---------------------------------------------------------------- the models of testdata/ */

typedef struct Expected {
    const char *name;
    PapaShape input;
    int transposes, adds, relus; /* nodes that are left */
    int joined_adds, joined_relus;
} Expected;

static void check_model(const Expected *e)
{
    PapaGraph *graph;
    PapaOnnx *onnx;
    char path[1024];
    snprintf(path, sizeof path, "%s/testdata/%s.onnx", PAPA_SOURCE_DIR, e->name);
    CHECK_OK(open_graph(&graph, &onnx, path));
    CHECK_OK(run_passes(graph, &e->input));
    int joined_adds = 0, joined_relus = 0;
    for (int k = 0; k < graph->n_nodes; k++) {
        CHECK(graph->nodes[k]->index == k, "%s", graph->nodes[k]->label);
        joined_adds += takes_add(graph->nodes[k]);
        joined_relus += graph->nodes[k]->relu;
    }
    CHECK(count(graph, "Transpose") == e->transposes, "%s: %s", e->name, text_of(graph));
    CHECK(count(graph, "Add") == e->adds && joined_adds == e->joined_adds, "%s: %s", e->name, text_of(graph));
    CHECK(count(graph, "Relu") == e->relus && joined_relus == e->joined_relus, "%s: %s", e->name, text_of(graph));
    CHECK(count(graph, "Shape") + count(graph, "Gather") + count(graph, "Concat") == 0, "%s: %s", e->name, text_of(graph));
    papa_graph_free(graph);
    papa_onnx_close(onnx);
}

static void check_models(void)
{
    /* A ResNet never leaves channels-last. In front of the Flatten of a map the order matters, once. */
    static const Expected models[] = {
        {"mlp", {4, {6, 1, 28, 28}}, .joined_relus = 2},
        {"lenet", {4, {6, 1, 28, 28}}, .transposes = 1, .joined_relus = 4},
        {"vgg", {4, {6, 1, 28, 28}}, .transposes = 1, .joined_relus = 7},
        {"resnet8", {4, {6, 1, 28, 28}}, .joined_adds = 3, .joined_relus = 7},
        {"resnet20", {4, {6, 1, 28, 28}}, .joined_adds = 9, .joined_relus = 19},
        {"resnet20-cifar", {4, {6, 3, 32, 32}}, .joined_adds = 9, .joined_relus = 19},
    };
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        check_model(&models[i]);
}

/* ---------------------------------------------------------------- fusing */

static void add_norm(Build *b, const char *in, const char *out, const char *prefix)
{
    char text[256];
    static const char *const slots[] = {"scale", "shift", "mean", "var"};
    size_t used = (size_t)snprintf(text, sizeof text, "%s", in);
    for (int i = 0; i < 4; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s.%s", prefix, slots[i]);
        build_random(b, name, 1, (int64_t[]){3}, 1);
        used += (size_t)snprintf(text + used, sizeof text - used, " %s", name);
    }
    build_node(b, "BatchNormalization", text, out);
}

static const PapaShape image = {4, {2, 3, 5, 5}};

static Build begin_image(void)
{
    Build b = build_begin();
    build_input(&b, "x", 4, (int64_t[]){-1, 3, 5, 5});
    return b;
}

static void check_fusing(void)
{
    Build b = begin_image(); /* one of two normalised branches takes the sum */
    add_norm(&b, "x", "p", "p");
    add_norm(&b, "x", "q", "q");
    build_node(&b, "Add", "p q", "s");
    build_node(&b, "Relu", "s", "y");
    build_output(&b, "y", 4);
    check_text(&b, &image, "BatchNormalization BatchNormalization+add+relu Transpose");

    b = begin_image(); /* the sum's first operand, when the second is no normalisation */
    add_norm(&b, "x", "p", "p");
    build_node(&b, "Tanh", "x", "t");
    build_node(&b, "Add", "p t", "y");
    build_output(&b, "y", 4);
    check_text(&b, &image, "Tanh BatchNormalization+add Transpose");

    b = begin_image(); /* read again later: its own value is needed */
    add_norm(&b, "x", "p", "p");
    build_node(&b, "Add", "p x", "s");
    build_node(&b, "Mul", "s p", "y");
    build_output(&b, "y", 4);
    check_text(&b, &image, "BatchNormalization Add Mul Transpose");

    b = begin_image(); /* itself twice */
    add_norm(&b, "x", "p", "p");
    build_node(&b, "Add", "p p", "y");
    build_output(&b, "y", 4);
    check_text(&b, &image, "BatchNormalization Add Transpose");

    b = begin_image(); /* an output of the graph in between */
    add_norm(&b, "x", "p", "p");
    build_node(&b, "Relu", "p", "y");
    build_output(&b, "y", 4);
    build_output(&b, "p", 4);
    check_text(&b, &image, "BatchNormalization Relu Transpose Transpose");

    b = begin_image(); /* a sum that broadcasts */
    add_norm(&b, "x", "p", "p");
    build_node(&b, "GlobalAveragePool", "x", "g");
    build_node(&b, "Add", "p g", "s");
    build_node(&b, "Relu", "s", "y");
    build_output(&b, "y", 4);
    check_text(&b, &image, "BatchNormalization GlobalAveragePool Add+relu Transpose");

    b = begin_image(); /* two Relus: the second stays */
    add_norm(&b, "x", "p", "p");
    build_node(&b, "Relu", "p", "r");
    build_node(&b, "Relu", "r", "y");
    build_output(&b, "y", 4);
    check_text(&b, &image, "BatchNormalization+relu Relu Transpose");
}

/* ---------------------------------------------------------------- layout */

static void check_layout(void)
{
    Build b = begin_image(); /* one Transpose serves all readers that want ONNX's order, and one brings their result back */
    add_norm(&b, "x", "p", "p");
    build_ints(build_node(&b, "Transpose", "p", "t1"), "perm", 4, (int64_t[]){0, 1, 3, 2});
    build_ints(build_node(&b, "Transpose", "p", "t2"), "perm", 4, (int64_t[]){0, 1, 3, 2});
    build_node(&b, "Add", "t1 t2", "s");
    build_ints(build_node(&b, "MaxPool", "s", "m"), "kernel_shape", 2, (int64_t[]){2, 2});
    build_node(&b, "GlobalAveragePool", "m", "g");
    build_node(&b, "Flatten", "g", "y");
    build_output(&b, "y", 2);
    check_text(&b, &image, "BatchNormalization Transpose Transpose Transpose Add Transpose MaxPool GlobalAveragePool Identity Flatten");

    b = begin_image(); /* a tensor of lower rank is brought to the image's */
    add_norm(&b, "x", "p", "p");
    build_random(&b, "c", 3, (int64_t[]){3, 1, 1}, 1);
    build_node(&b, "Mul", "p c", "s");
    build_node(&b, "GlobalAveragePool", "s", "y");
    build_output(&b, "y", 4);
    PapaGraph *graph;
    PapaOnnx *onnx;
    CHECK_OK(pass_built(&b, &graph, &onnx, &image));
    CHECK(count(graph, "Transpose") == 0, "%s", text_of(graph));
    CHECK(graph->inputs[0]->channels_last && graph->inputs[0]->shape.dim[3] == 3, "%s", papa_shape_text(&graph->inputs[0]->shape));
    for (int k = 0; k < graph->n_nodes; k++)
        if (strcmp(graph->nodes[k]->op->type, "Mul") == 0) {
            PapaShape expected = {4, {1, 1, 1, 3}};
            CHECK(papa_shape_equal(&graph->nodes[k]->in[1]->shape, &expected), "%s", papa_shape_text(&graph->nodes[k]->in[1]->shape));
        }
    CHECK(!graph->outputs[0]->channels_last && graph->outputs[0]->shape.dim[1] == 3, "%s", papa_shape_text(&graph->outputs[0]->shape));
    papa_graph_free(graph);
    papa_onnx_close(onnx);
}

/* ---------------------------------------------------------------- files made for one batch */

/* x of this batch, a bias by way of a Reshape whose first axis is no batch, then Reshapes to (batch, dim1, ...). */
static Build begin_fixed(int64_t batch, int n, const int64_t *to)
{
    Build b = build_begin();
    build_input(&b, "x", 4, (int64_t[]){batch, 4, 5, 5});
    build_random(&b, "w", 1, (int64_t[]){6}, 1);
    build_ints(build_node(&b, "Constant", "", "column"), "value_ints", 3, (int64_t[]){1, -1, 1});
    build_ints(build_node(&b, "Constant", "", "to"), "value_ints", n, to);
    build_node(&b, "Reshape", "x to", "y");
    build_node(&b, "Reshape", "w column", "z");
    build_output(&b, "y", n);
    build_output(&b, "z", 3);
    return b;
}

static void check_fixed(int64_t batch, int n, const int64_t *to, PapaShape want)
{
    Build b = begin_fixed(batch, n, to);
    PapaGraph *graph;
    PapaOnnx *onnx;
    const PapaShape column = {3, {1, 6, 1}};
    CHECK_OK(pass_built(&b, &graph, &onnx, &(PapaShape){4, {6, 4, 5, 5}}));
    CHECK(papa_shape_equal(&graph->outputs[0]->shape, &want), "%s, expected %s", papa_shape_text(&graph->outputs[0]->shape), papa_shape_text(&want));
    CHECK(papa_shape_equal(&graph->outputs[1]->shape, &column), "%s", papa_shape_text(&graph->outputs[1]->shape));
    papa_graph_free(graph);
    papa_onnx_close(onnx);
}

static void check_fixed_batches(void)
{
    check_fixed(1, 2, (int64_t[]){1, -1}, (PapaShape){2, {6, 100}});
    check_fixed(3, 2, (int64_t[]){3, 100}, (PapaShape){2, {6, 100}});
    check_fixed(1, 4, (int64_t[]){1, 2, 2, 25}, (PapaShape){4, {6, 2, 2, 25}});
    check_fixed(1, 2, (int64_t[]){-1, 25}, (PapaShape){2, {24, 25}});
    check_fixed(-1, 2, (int64_t[]){1, -1}, (PapaShape){2, {1, 600}}); /* a free batch: it says what it means */
    Build b = begin_fixed(2, 2, (int64_t[]){8, 25});
    PapaGraph *graph;
    PapaOnnx *onnx;
    CHECK_FAILS(pass_built(&b, &graph, &onnx, &(PapaShape){4, {6, 4, 5, 5}}), PAPA_ERR_MISMATCH, "(which fixes its batch at 2, here 6): Reshape");
}

/* ---------------------------------------------------------------- what is refused, and that nothing leaks then */

static void check_refused(Build *b, PapaStatus code, const char *text)
{
    PapaGraph *graph = NULL;
    PapaOnnx *onnx = NULL;
    CHECK_FAILS(pass_built(b, &graph, &onnx, &image), code, text);
}

static void check_errors(void)
{
    Build b = begin_image();
    build_node(&b, "Bernoulli", "x", "p");
    build_node(&b, "Relu", "p", "q");
    build_node(&b, "Unheard", "q", "y");
    build_node(&b, "Unneeded", "q", "z");
    build_output(&b, "y", 4);
    check_refused(&b, PAPA_ERR_UNSUPPORTED, "2 unsupported nodes (1 Bernoulli, 1 Unheard): Bernoulli node 'Bernoulli_0' (opset 17), Unheard node 'Unheard_2' (opset 17)");

    b = begin_image(); /* more nodes than a line holds: their types are told all the same */
    for (int i = 0; i < 50; i++) {
        char from[8] = "x", to[8];
        if (i)
            snprintf(from, sizeof from, "b%d", i - 1);
        snprintf(to, sizeof to, i < 49 ? "b%d" : "y", i);
        build_node(&b, i % 7 ? "Bernoulli" : "Unheard", from, to);
    }
    build_output(&b, "y", 4);
    check_refused(&b, PAPA_ERR_UNSUPPORTED, "50 unsupported nodes (8 Unheard, 42 Bernoulli): Unheard node 'Unheard_0' (opset 17), Bernoulli node");
    CHECK(strcmp(papa_error() + strlen(papa_error()) - 3, "...") == 0, "%s", papa_error());

    b = begin_image();
    build_node(&b, "Add", "x z", "y");
    build_node(&b, "Relu", "y", "z");
    build_output(&b, "z", 4);
    check_refused(&b, PAPA_ERR_FORMAT, "the graph has a cycle through value 'z'");

    b = begin_image();
    build_node(&b, "Add", "x lost", "y");
    build_output(&b, "y", 4);
    check_refused(&b, PAPA_ERR_FORMAT, "nothing makes its input 'lost'");

    b = begin_image();
    build_node(&b, "Relu", "x", "y");
    build_output(&b, "z", 4);
    check_refused(&b, PAPA_ERR_FORMAT, "no node makes the value 'z'");

    b = begin_image();
    build_node(&b, "Relu", "x", "y");
    build_node(&b, "Tanh", "x", "y");
    build_output(&b, "y", 4);
    check_refused(&b, PAPA_ERR_FORMAT, "value 'y' has two makers");

    b = begin_image();
    build_node(&b, "Add", "x -", "y");
    build_output(&b, "y", 4);
    check_refused(&b, PAPA_ERR_FORMAT, "input 1 is left out");

    b = begin_image();
    build_node(&b, "Relu", "x x", "y");
    build_output(&b, "y", 4);
    check_refused(&b, PAPA_ERR_FORMAT, "has 2 inputs, expected 1 to 1");

    b = begin_image();
    build_float(build_node(&b, "Constant", "", "c d"), "value_float", 1);
    build_node(&b, "Add", "x d", "y");
    build_output(&b, "y", 4);
    check_refused(&b, PAPA_ERR_FORMAT, "has 2 outputs, expected 1");

    b = begin_image();
    build_random(&b, "w", 2, (int64_t[]){7, 2}, 1);
    build_node(&b, "MatMul", "x w", "y");
    build_output(&b, "y", 4);
    check_refused(&b, PAPA_ERR_MISMATCH, "does not fit");

    /* What is known only when the network runs computes in floats, by operators that are there at run time. */
    b = begin_image();
    build_int(build_node(&b, "Cast", "x", "i"), "to", ONNX__TENSOR_PROTO__DATA_TYPE__INT64);
    build_int(build_node(&b, "Concat", "i i", "c"), "axis", 1);
    build_int(build_node(&b, "Cast", "c", "y"), "to", ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT);
    build_output(&b, "y", 4);
    check_refused(&b, PAPA_ERR_UNSUPPORTED, "Cast node 'Cast_0': output 'i' has type INT64");
    b = begin_image();
    build_node(&b, "Equal", "x x", "t");
    build_node(&b, "Where", "t x x", "y");
    build_output(&b, "y", 4);
    check_refused(&b, PAPA_ERR_UNSUPPORTED, "Equal node 'Equal_0': output 't' has type BOOL");
    b = begin_image();
    build_node(&b, "Floor", "x", "y");
    build_output(&b, "y", 4);
    check_refused(&b, PAPA_ERR_UNSUPPORTED, "Floor node 'Floor_0': needs a value known when the graph is built, but 'x' is computed");

    b = begin_image();
    build_tensor(&b, "w", 4, (int64_t[]){0, (int64_t)1 << 31, 1 << 30, 3}, &(float){0});
    build_node(&b, "MatMul", "x w", "y");
    build_output(&b, "y", 4);
    check_refused(&b, PAPA_ERR_UNSUPPORTED, "tensor 'w': shape (0, 2147483648, 1073741824, 3) is too large");
}

int main(void)
{
    check_models();
    check_fusing();
    check_layout();
    check_fixed_batches();
    check_errors();
    return check_result();
}
