/* Pairing two files of one network: hand-made graphs, each with its counterpart written otherwise, and the messages where they are not the
 * same network. Random networks and rewrites of them: tests/oracle/test_pair_random.py. */
#include "check.h"
#include "onnx/pair.h"
#include "onnxbuild.h"
#include "scratch.h"

static PapaOnnx *onnx[2];
static PapaPairing *pairing;

static void close_all(void)
{
    papa_pair_close(pairing);
    papa_onnx_close(onnx[0]);
    papa_onnx_close(onnx[1]);
    pairing = NULL;
    onnx[0] = onnx[1] = NULL;
}

/* Writes both as a.onnx and b.onnx and pairs them. */
static PapaStatus pair(Build *a, Build *b)
{
    const char *first = scratch("a.onnx"), *second = scratch("b.onnx");
    close_all();
    build_write(a, first);
    build_write(b, second);
    PAPA_TRY(papa_onnx_open(&onnx[0], first));
    PAPA_TRY(papa_onnx_open(&onnx[1], second));
    return papa_pair_open(&pairing, onnx[0], onnx[1]);
}

/* a's tensor of this name has b's of that name ("": none) for its counterpart. */
static void check_pair(const char *a, const char *b, bool transposed)
{
    size_t n;
    const PapaTensorPair *pairs = papa_pair_tensors(pairing, &n);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(pairs[i].a.name, a))
            continue;
        const char *found = pairs[i].b.name ? pairs[i].b.name : "";
        CHECK(!strcmp(found, b), "'%s' has '%s' for a counterpart, '%s' expected", a, found, b);
        CHECK(pairs[i].transposed == transposed, "'%s' and '%s': transposed %d", a, b, pairs[i].transposed);
        CHECK(!pairs[i].a.tensor || papa_pair_find(pairing, pairs[i].a.tensor) == &pairs[i], "'%s' is not found", a);
        return;
    }
    CHECK(false, "'%s' is not in the list", a);
}

#define DIMS(...) (int64_t[]){__VA_ARGS__}

static void conv_net(Build *b, const char *names, const char *prefix, int64_t kernel, const char *activation)
{
    size_t n;
    *b = build_begin();
    char **w = build_names(b, names, &n);
    build_input(b, "x", 4, DIMS(-1, 1, 8, 8));
    build_random(b, w[0], 4, DIMS(4, 1, 3, 3), 1);
    build_random(b, w[1], 4, DIMS(4, 4, kernel, kernel), 1);
    build_random(b, w[2], 1, DIMS(4), 1);
    char text[200];
    snprintf(text, sizeof text, "x %s", w[0]);
    BuildNode first = build_node(b, "Conv", text, "h");
    build_node(b, activation, "h", "r");
    snprintf(text, sizeof text, "r %s %s", w[1], w[2]);
    BuildNode second = build_ints(build_node(b, "Conv", text, "y"), "kernel_shape", 2, DIMS(kernel, kernel));
    first.node->name = build_need(papa_arena_printf(&b->arena, "%s1", prefix));
    second.node->name = build_need(papa_arena_printf(&b->arena, "%s2", prefix));
    build_output(b, "y", 4);
}

static void test_other_names(void)
{
    Build a, b;
    conv_net(&a, "w0 w1 b1", "conv", 3, "Relu");
    conv_net(&b, "c.weight a.weight a.bias", "/c/Conv", 3, "Relu");
    CHECK_OK(pair(&a, &b));
    check_pair("w0", "c.weight", false);
    check_pair("w1", "a.weight", false);
    check_pair("b1", "a.bias", false);
    CHECK(!papa_pair_find(pairing, papa_onnx_graph(onnx[1])->initializer[0]), "a tensor of b is found among a's");
    close_all();
}

static void test_same_file(void)
{
    Build a, b;
    conv_net(&a, "w0 w1 b1", "conv", 3, "Relu");
    conv_net(&b, "w0 w1 b1", "conv", 3, "Relu");
    CHECK_OK(pair(&a, &b));
    check_pair("w0", "w0", false);
    check_pair("w1", "w1", false);
    close_all();
}

/* x -> linear layer w, c -> Relu -> linear layer v -> y. v is read twice. */
static void test_gemm_and_matmul(void)
{
    Build a = build_begin(), b = build_begin();
    build_input(&a, "x", 2, DIMS(-1, 5));
    build_random(&a, "w", 2, DIMS(5, 5), 1);
    build_random(&a, "c", 1, DIMS(5), 1);
    build_random(&a, "v", 2, DIMS(5, 5), 1);
    build_int(build_node(&a, "Gemm", "x w c", "h"), "transB", 1);
    build_node(&a, "Relu", "h", "r");
    build_node(&a, "MatMul", "r v", "s");
    build_int(build_node(&a, "Gemm", "s v", "y"), "transB", 1);
    build_output(&a, "y", 2);
    build_input(&b, "x", 2, DIMS(-1, 5));
    build_random(&b, "bias", 1, DIMS(5), 1);
    build_random(&b, "two", 2, DIMS(5, 5), 1);
    build_random(&b, "one", 2, DIMS(5, 5), 1);
    build_node(&b, "MatMul", "x one", "h0");
    build_node(&b, "Add", "bias h0", "h");
    build_node(&b, "Relu", "h", "r");
    build_node(&b, "Transpose", "two", "two.T");
    build_node(&b, "Identity", "two.T", "two.T.again");
    build_node(&b, "MatMul", "r two.T.again", "s");
    build_node(&b, "MatMul", "s two", "y");
    build_output(&b, "y", 2);
    CHECK_OK(pair(&a, &b));
    check_pair("w", "one", true);
    check_pair("c", "bias", false);
    check_pair("v", "two", true);
    close_all();
}

/* alpha is no part of a MatMul. */
static void test_scaled_gemm(void)
{
    Build a = build_begin(), b = build_begin();
    Build *both[] = {&a, &b};
    for (int k = 0; k < 2; k++) {
        build_input(both[k], "x", 2, DIMS(-1, 5));
        build_random(both[k], "w", 2, DIMS(5, 5), 1);
        build_output(both[k], "y", 2);
    }
    build_int(build_float(build_node(&a, "Gemm", "x w", "y"), "alpha", .5f), "transB", 1);
    build_float(build_node(&b, "Gemm", "x w", "y"), "alpha", .5f);
    CHECK_OK(pair(&a, &b));
    check_pair("w", "w", true);
    a = build_begin(), b = build_begin();
    for (int k = 0; k < 2; k++) {
        build_input(both[k], "x", 2, DIMS(-1, 5));
        build_random(both[k], "w", 2, DIMS(5, 5), 1);
        build_output(both[k], "y", 2);
    }
    build_float(build_node(&a, "Gemm", "x w", "y"), "alpha", .5f);
    build_node(&b, "MatMul", "x w", "y");
    CHECK_FAILS(pair(&a, &b), PAPA_ERR_MISMATCH, "a.onnx: Gemm node 'Gemm_0'; ");
    close_all();
}

/* x * u_i + v_i summed over three equal branches, in the order of the digits. */
static void branches(Build *b, const char *order, const char *prefix, bool named_nodes)
{
    *b = build_begin();
    build_input(b, "x", 2, DIMS(-1, 5));
    char text[100], sum[100] = "";
    for (const char *at = order; *at; at++) {
        char name[40];
        snprintf(name, sizeof name, "%su%c", prefix, *at);
        build_random(b, name, 1, DIMS(5), 1);
        snprintf(name, sizeof name, "%sv%c", prefix, *at);
        build_random(b, name, 1, DIMS(5), 1);
        snprintf(text, sizeof text, "x %su%c", prefix, *at);
        snprintf(name, sizeof name, "%sp%c", prefix, *at);
        BuildNode node = build_node(b, "Mul", text, name);
        if (named_nodes)
            node.node->name = build_need(papa_arena_printf(&b->arena, "mul%c", *at));
        snprintf(text, sizeof text, "%sv%c %sp%c", prefix, *at, prefix, *at);
        snprintf(name, sizeof name, "%sq%c", prefix, *at);
        build_node(b, "Add", text, name);
        snprintf(sum + strlen(sum), sizeof sum - strlen(sum), " %s", name);
    }
    build_node(b, "Sum", sum, "y");
    build_output(b, "y", 2);
}

static void test_interchangeable(void)
{
    Build a, b;
    branches(&a, "012", "", false);
    branches(&b, "201", "", false);
    CHECK_OK(pair(&a, &b)); /* by the tensors' names */
    check_pair("u0", "u0", false);
    check_pair("v1", "v1", false);
    check_pair("v2", "v2", false);
    branches(&a, "012", "", true);
    branches(&b, "201", "other.", true);
    CHECK_OK(pair(&a, &b)); /* by the nodes' names */
    check_pair("u0", "other.u0", false);
    check_pair("v2", "other.v2", false);
    branches(&a, "012", "", false);
    branches(&b, "201", "other.", false);
    for (size_t i = 0; i < b.graph.n_node; i++)
        b.nodes[i]->name = (char *)"";
    char **sum = b.nodes[b.graph.n_node - 1]->input, *first = sum[0];
    sum[0] = sum[2], sum[2] = first;
    CHECK_OK(pair(&a, &b)); /* by the order of nodes, whatever the order in which the sum reads them */
    check_pair("u0", "other.u2", false);
    check_pair("v0", "other.v2", false);
    check_pair("v1", "other.v0", false);
    close_all();
}

/* Four branches x * u, clipped, of which the first two of `order` share u. Bounds of the clips: one tensor for all, or one for each. */
static void tied_branches(Build *b, const char *order, const char *prefix, bool one_bound)
{
    *b = build_begin();
    build_input(b, "x", 2, DIMS(-1, 5));
    char text[100], sum[100] = "";
    for (int k = 0; k < 4; k++) {
        char name[40], u[40], low[40];
        int weight = order[k] < '2' ? 0 : order[k] - '0';
        snprintf(u, sizeof u, "%su%d", prefix, weight);
        snprintf(low, sizeof low, "%slow%d", prefix, one_bound ? 0 : k);
        if (order[k] != '1')
            build_random(b, u, 1, DIMS(5), 1);
        if (k == 0 || !one_bound)
            build_tensor(b, low, 0, NULL, (const float[]){0});
        snprintf(text, sizeof text, "x %s", u);
        snprintf(name, sizeof name, "%sp%d", prefix, k);
        build_node(b, "Mul", text, name);
        snprintf(text, sizeof text, "%s %s", name, low);
        snprintf(name, sizeof name, "%sq%d", prefix, k);
        build_node(b, "Clip", text, name);
        snprintf(sum + strlen(sum), sizeof sum - strlen(sum), " %s", name);
    }
    build_node(b, "Sum", sum, "y");
    build_output(b, "y", 2);
    for (size_t i = 0; i < b->graph.n_node; i++)
        b->nodes[i]->name = (char *)"";
}

/* What is shared tells branches apart, though small constants are shared as exporters like. */
static void test_shared_weight(void)
{
    Build a, b;
    tied_branches(&a, "0123", "", true);
    tied_branches(&b, "2031", "other.", false);
    CHECK_OK(pair(&a, &b));
    check_pair("u0", "other.u0", false);
    check_pair("u2", "other.u2", false);
    check_pair("u3", "other.u3", false);
    close_all();
}

/* A bias that a stores once: good where b's two are equal, else not the same network. */
static void shared_bias(Build *b, bool shared, float second)
{
    static const float ones[] = {1, 1, 1};
    *b = build_begin();
    build_input(b, "x", 2, DIMS(-1, 3));
    build_tensor(b, "b0", 1, DIMS(3), ones);
    if (!shared)
        build_tensor(b, "b1", 1, DIMS(3), (const float[]){1, 1, second});
    build_node(b, "Add", "x b0", "h");
    build_node(b, "Relu", "h", "r");
    build_node(b, "Identity", shared ? "b0" : "b1", "b");
    build_node(b, "Add", "r b", "y");
    build_output(b, "y", 2);
}

static void test_shared_tensors(void)
{
    Build a, b;
    shared_bias(&a, true, 0);
    shared_bias(&b, false, 1);
    CHECK_OK(pair(&a, &b));
    check_pair("b0", "b0", false);
    shared_bias(&a, false, 7);
    shared_bias(&b, true, 0);
    CHECK_OK(pair(&a, &b));
    check_pair("b0", "b0", false);
    check_pair("b1", "b0", false);
    shared_bias(&a, true, 0);
    shared_bias(&b, false, 7);
    CHECK_FAILS(pair(&a, &b), PAPA_ERR_MISMATCH, "tensor 'b0' is read in several places; ");
    CHECK(strstr(papa_error(), "tensors 'b0' and 'b1' are read there, which differ"), "%s", papa_error());
    close_all();
}

/* Dropout, a bound as an initialiser here and a Constant's number there, a tensor that nothing reads. */
static void test_leftovers(void)
{
    Build a = build_begin(), b = build_begin();
    build_input(&a, "x", 2, DIMS(-1, 3));
    build_random(&a, "w", 1, DIMS(3), 1);
    build_random(&a, "unused", 1, DIMS(3), 1);
    build_random(&a, "unused too", 1, DIMS(3), 1);
    build_tensor(&a, "low", 0, NULL, (const float[]){0});
    build_tensor(&a, "ratio", 0, NULL, (const float[]){.5f});
    build_node(&a, "Mul", "x w", "h");
    build_node(&a, "Dropout", "h ratio", "d mask");
    build_node(&a, "Clip", "d low", "c");
    build_node(&a, "Clip", "c low", "y");
    build_output(&a, "y", 2);
    build_input(&b, "x", 2, DIMS(-1, 3));
    build_random(&b, "w", 1, DIMS(3), 1);
    build_random(&b, "unused", 1, DIMS(3), 1);
    build_float(build_node(&b, "Constant", "", "l0"), "value_float", 0);
    build_float(build_node(&b, "Constant", "", "l1"), "value_float", 0);
    build_node(&b, "Mul", "w x", "d");
    build_node(&b, "Clip", "d l0", "c");
    build_node(&b, "Clip", "c l1", "y");
    build_output(&b, "y", 2);
    CHECK_OK(pair(&a, &b));
    check_pair("w", "w", false);
    check_pair("unused", "unused", false);
    check_pair("unused too", "", false);
    check_pair("ratio", "", false);
    size_t n;
    const PapaTensorPair *pairs = papa_pair_tensors(pairing, &n);
    CHECK(n == 5 && !strcmp(pairs[3].b.name, "l1") + !strcmp(pairs[3].b.name, "l0") == 1 && !pairs[3].b.tensor && pairs[3].b.constant,
        "%zu tensors, the bound has '%s'", n, pairs[3].b.name);
    close_all();
}

/* Before IR 4 weights are graph inputs too; input names that differ count by position. */
static void test_inputs(void)
{
    Build a = build_begin(), b = build_begin();
    Build *both[] = {&a, &b};
    for (int k = 0; k < 2; k++) {
        build_input(both[k], k ? "left" : "x", 2, DIMS(-1, 3));
        build_input(both[k], k ? "right" : "z", 2, DIMS(-1, 3));
        build_random(both[k], "w", 2, DIMS(3, 3), 1);
        build_node(both[k], "MatMul", k ? "left w" : "x w", "h");
        build_node(both[k], "Sub", k ? "h right" : "h z", "y");
        build_output(both[k], "y", 2);
    }
    a.model.ir_version = 3;
    build_input(&a, "w", 2, DIMS(3, 3));
    CHECK_OK(pair(&a, &b));
    check_pair("w", "w", false);
    for (int k = 0; k < 2; k++) { /* by names: b has them the other way round */
        *both[k] = build_begin();
        build_input(both[k], k ? "z" : "x", 2, DIMS(-1, 3));
        build_input(both[k], k ? "x" : "z", 2, DIMS(-1, 3));
        build_random(both[k], "w", 2, DIMS(3, 3), 1);
        build_node(both[k], "MatMul", "x w", "h");
        build_node(both[k], "Sub", "h z", "y");
        build_output(both[k], "y", 2);
    }
    CHECK_OK(pair(&a, &b));
    for (int k = 0; k < 2; k++) { /* by position: not the same network */
        *both[k] = build_begin();
        build_input(both[k], k ? "p" : "x", 2, DIMS(-1, 3));
        build_input(both[k], k ? "q" : "z", 2, DIMS(-1, 3));
        build_random(both[k], "w", 2, DIMS(3, 3), 1);
        build_node(both[k], "MatMul", k ? "q w" : "x w", "h");
        build_node(both[k], "Sub", k ? "h p" : "h z", "y");
        build_output(both[k], "y", 2);
    }
    CHECK_FAILS(pair(&a, &b), PAPA_ERR_MISMATCH, "MatMul node 'MatMul_0' reads graph input 0 'x'; ");
    close_all();
}

/* ---------------------------------------------------------------- subgraphs */

/* s after n rounds of s = s * w + t. reads: what the body's Mul reads. */
static void loop(Build *b, Build *body, const char *prefix, const char *reads)
{
    *b = build_begin();
    *body = build_begin();
    char text[100], name[40];
    snprintf(name, sizeof name, "%sw", prefix);
    build_input(body, "i", 0, NULL);
    build_input(body, "go", 0, NULL);
    build_input(body, "s", 1, DIMS(3));
    build_input(body, "t", 1, DIMS(3));
    build_random(body, name, 1, DIMS(3), 1);
    snprintf(text, sizeof text, "%s %s", reads, name);
    build_node(body, "Identity", "go", "go.out");
    build_node(body, "Mul", text, "p");
    build_node(body, "Add", "p t", "s.out");
    build_output(body, "go.out", 0);
    build_output(body, "s.out", 1);
    build_output(body, "t", 1);
    body->graph.node = body->nodes, body->graph.initializer = body->tensors, body->graph.input = body->inputs, body->graph.output = body->outputs;
    build_input(b, "x", 1, DIMS(3));
    build_input(b, "n", 0, NULL);
    snprintf(name, sizeof name, "%sstart", prefix);
    build_random(b, name, 1, DIMS(3), 1);
    snprintf(text, sizeof text, "n - %s x", name);
    build_attribute(build_node(b, "Loop", text, "y z"), "body", ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPH)->g = &body->graph;
    build_output(b, "y", 1);
}

static void test_subgraph(void)
{
    Build a, b, body[2];
    loop(&a, &body[0], "", "s");
    loop(&b, &body[1], "other.", "s");
    CHECK_OK(pair(&a, &b));
    check_pair("start", "other.start", false);
    check_pair("w", "other.w", false);
    papa_arena_free(&body[0].arena), papa_arena_free(&body[1].arena);
    loop(&a, &body[0], "", "s");
    loop(&b, &body[1], "other.", "t");
    CHECK_FAILS(pair(&a, &b), PAPA_ERR_MISMATCH, "a.onnx: Mul node 'Mul_1' reads inner graph's input 2 's'; ");
    CHECK(strstr(papa_error(), "its counterpart Mul node 'Mul_1' reads inner graph's input 3 't'"), "%s", papa_error());
    papa_arena_free(&body[0].arena), papa_arena_free(&body[1].arena);
    close_all();
}

/* A loop in a loop: what is multiplied is the inner loop's state, or the outer one's. */
static void nested_loop(Build *b, Build bodies[2], bool inner)
{
    *b = build_begin();
    for (int k = 0; k < 2; k++) {
        Build *body = &bodies[k];
        *body = build_begin();
        build_input(body, k ? "i1" : "i0", 0, NULL);
        build_input(body, k ? "go1" : "go0", 0, NULL);
        build_input(body, k ? "s1" : "s0", 1, DIMS(3));
        build_output(body, k ? "go1" : "go0", 0);
        build_output(body, k ? "p" : "r", 1);
        body->graph.node = body->nodes, body->graph.initializer = body->tensors;
        body->graph.input = body->inputs, body->graph.output = body->outputs;
    }
    build_random(&bodies[1], "w", 1, DIMS(3), 1);
    build_node(&bodies[1], "Mul", inner ? "s1 w" : "s0 w", "p");
    build_random(&bodies[0], "start", 1, DIMS(3), 1);
    build_attribute(build_node(&bodies[0], "Loop", "n - start", "r"), "body", ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPH)->g = &bodies[1].graph;
    build_input(b, "x", 1, DIMS(3));
    build_input(b, "n", 0, NULL);
    build_attribute(build_node(b, "Loop", "n - x", "y"), "body", ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPH)->g = &bodies[0].graph;
    build_output(b, "y", 1);
}

static void test_whose_input(void)
{
    Build a, b, bodies[4];
    nested_loop(&a, bodies, true);
    nested_loop(&b, bodies + 2, true);
    CHECK_OK(pair(&a, &b));
    check_pair("w", "w", false);
    check_pair("start", "start", false);
    for (int k = 0; k < 4; k++)
        papa_arena_free(&bodies[k].arena);
    nested_loop(&a, bodies, true);
    nested_loop(&b, bodies + 2, false);
    CHECK_FAILS(pair(&a, &b), PAPA_ERR_MISMATCH, "Loop node 'Loop_0'");
    for (int k = 0; k < 4; k++)
        papa_arena_free(&bodies[k].arena);
    close_all();
}

/* ---------------------------------------------------------------- differences */

static void test_messages(void)
{
    Build a, b;
    conv_net(&a, "w0 w1 b1", "conv", 3, "Relu");
    conv_net(&b, "v0 v1 c1", "/c/Conv", 5, "Relu");
    CHECK_FAILS(pair(&a, &b), PAPA_ERR_MISMATCH, "a.onnx: Conv node 'conv2' has kernel_shape 3x3; ");
    CHECK(strstr(papa_error(), "b.onnx: its counterpart Conv node '/c/Conv2' has 5x5"), "%s", papa_error());
    conv_net(&a, "w0 w1 b1", "conv", 3, "Relu");
    conv_net(&b, "v0 v1 c1", "/c/Conv", 3, "Sigmoid");
    CHECK_FAILS(pair(&a, &b), PAPA_ERR_MISMATCH, "a.onnx: Relu node 'Relu_1'; ");
    CHECK(strstr(papa_error(), "b.onnx: where its counterpart would be stands Sigmoid node 'Sigmoid_1'"), "%s", papa_error());
    conv_net(&a, "w0 w1 b1", "conv", 3, "Relu");
    conv_net(&b, "v0 v1 c1", "/c/Conv", 3, "Relu");
    build_int((BuildNode){&b, b.nodes[0]}, "group", 2);
    CHECK_FAILS(pair(&a, &b), PAPA_ERR_MISMATCH, "Conv node 'conv1' has group left out; ");
    CHECK(strstr(papa_error(), "its counterpart Conv node '/c/Conv1' has 2"), "%s", papa_error());
    conv_net(&a, "w0 w1 b1", "conv", 3, "Relu");
    conv_net(&b, "v0 v1 c1", "/c/Conv", 3, "Relu");
    b.tensors[1]->dims[1] = 2, b.tensors[1]->dims[0] = 8;
    CHECK_FAILS(pair(&a, &b), PAPA_ERR_MISMATCH, "Conv node 'conv2' reads tensor 'w1' (FLOAT 4x4x3x3); ");
    CHECK(strstr(papa_error(), "Conv node '/c/Conv2' reads tensor 'v1' (FLOAT 8x2x3x3)"), "%s", papa_error());
    conv_net(&a, "w0 w1 b1", "conv", 3, "Relu");
    conv_net(&b, "v0 v1 c1", "/c/Conv", 3, "Relu");
    b.nodes[2]->n_input = 2;
    CHECK_FAILS(pair(&a, &b), PAPA_ERR_MISMATCH, "Conv node 'conv2' has 3 inputs; ");
    conv_net(&a, "w0 w1 b1", "conv", 3, "Relu");
    conv_net(&b, "v0 v1 c1", "/c/Conv", 3, "Relu");
    build_node(&b, "Relu", "y", "z");
    b.outputs[0]->name = (char *)"z";
    CHECK_FAILS(pair(&a, &b), PAPA_ERR_MISMATCH, "a.onnx: the graph's outputs; ");
    CHECK(strstr(papa_error(), "b.onnx: where its counterpart would be stands Relu node 'Relu_3'"), "%s", papa_error());
    conv_net(&a, "w0 w1 b1", "conv", 3, "Relu");
    conv_net(&b, "v0 v1 c1", "/c/Conv", 3, "Relu");
    build_output(&b, "r", 4);
    CHECK_FAILS(pair(&a, &b), PAPA_ERR_MISMATCH, "a.onnx has 1 outputs, ");
    CHECK(strstr(papa_error(), "b.onnx has 2; the first without a counterpart is output 'r'"), "%s", papa_error());
    conv_net(&a, "w0 w1 b1", "conv", 3, "Relu");
    conv_net(&b, "v0 v1 c1", "/c/Conv", 3, "Relu");
    b.inputs[0]->type->tensor_type->shape->dim[2]->dim_value = 9;
    CHECK_FAILS(pair(&a, &b), PAPA_ERR_MISMATCH, "input 'x' FLOAT Nx1x8x8; ");
    close_all();
}

static void test_integers(void)
{
    Build a = build_begin(), b = build_begin();
    Build *both[] = {&a, &b};
    for (int k = 0; k < 2; k++) {
        build_input(both[k], "x", 3, DIMS(-1, 3, 4));
        build_ints(build_node(both[k], "Constant", "", "axes"), "value_ints", 1, DIMS(k + 1));
        build_int(build_node(both[k], "ReduceSum", "x axes", "y"), "keepdims", 1);
        build_output(both[k], "y", 3);
    }
    CHECK_FAILS(pair(&a, &b), PAPA_ERR_MISMATCH, "ReduceSum node 'ReduceSum_1' reads tensor 'axes' (INT64 1 {1}); ");
    CHECK(strstr(papa_error(), "reads tensor 'axes' (INT64 1 {2})"), "%s", papa_error());
    close_all();
}

/* All nodes have their likes, but b's second branch reads the first one's tensor's product. */
static void test_rewired(void)
{
    Build a = build_begin(), b = build_begin();
    Build *both[] = {&a, &b};
    for (int k = 0; k < 2; k++) {
        build_input(both[k], "x", 2, DIMS(-1, 3));
        build_random(both[k], "u", 1, DIMS(3), 1);
        build_random(both[k], "v", 1, DIMS(3), 1);
        build_node(both[k], "Mul", "x u", "p");
        build_node(both[k], "Mul", "x v", "q");
        build_node(both[k], "Relu", "p", "r");
        build_node(both[k], "Sigmoid", k ? "q" : "p", "s");
        build_node(both[k], "Sum", "r s q", "y");
        build_output(both[k], "y", 2);
    }
    CHECK_FAILS(pair(&a, &b), PAPA_ERR_MISMATCH, "Mul node 'Mul_");
    close_all();
}

static void test_bad_graphs(void)
{
    Build a, b;
    conv_net(&a, "w0 w1 b1", "conv", 3, "Relu");
    conv_net(&b, "v0 v1 c1", "conv", 3, "Relu");
    b.nodes[0]->input[0] = (char *)"y";
    CHECK_FAILS(pair(&a, &b), PAPA_ERR_FORMAT, "b.onnx: ");
    CHECK(strstr(papa_error(), "depends on itself"), "%s", papa_error());
    conv_net(&a, "w0 w1 b1", "conv", 3, "Relu");
    conv_net(&b, "v0 v1 c1", "conv", 3, "Relu");
    a.nodes[1]->input[0] = (char *)"nowhere";
    CHECK_FAILS(pair(&a, &b), PAPA_ERR_FORMAT, "a.onnx: Relu node 'Relu_1' reads 'nowhere', which nothing defines");
    conv_net(&a, "w0 w1 b1", "conv", 3, "Relu");
    conv_net(&b, "v0 v1 c1", "conv", 3, "Relu");
    build_node(&b, "Relu", "x", "h");
    CHECK_FAILS(pair(&a, &b), PAPA_ERR_FORMAT, "define 'h'");
    close_all();
}

int main(void)
{
    test_other_names();
    test_same_file();
    test_gemm_and_matmul();
    test_scaled_gemm();
    test_interchangeable();
    test_shared_weight();
    test_shared_tensors();
    test_leftovers();
    test_inputs();
    test_subgraph();
    test_whose_input();
    test_messages();
    test_integers();
    test_rewired();
    test_bad_graphs();
    return check_result();
}
