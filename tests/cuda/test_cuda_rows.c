/* Every operator's row on CUDA against the same row on the CPU: models of one operator, compiled and run as all models are, so that the row, both
 * halves of its kernels, the choice of what is float32 or bfloat16 and the memory plan take part.
 *
 * A case (test_cuda_rows_cases.h) becomes a model: each activation is made by a product with a weight that holds its numbers, so that the weight's
 * gradient is the activation's. It is run by itself; with two nodes that read the same values, so that gradients accumulate; and, where the
 * operator works in any order of axes, behind a 1x1 pool, which makes its inputs channels-last. Modes: INFER, CALIBRATE and TRAIN, forward and
 * backward, the latter with and without a memory plan that reuses blocks, which must not change a bit.
 *
 * With bfloat16 all numbers that enter the operator are rounded on both sides, so that CUDA's results differ by the rounding of what
 * it stores, and that is what is allowed: see Allowance. */
#include "cudatest.h"
#include "helpers/feed.h"
#include "onnxbuild.h"
#include "scratch.h"
#include "test_cuda_rows_cases.h"

#define ROUNDING (1. / 256) /* of a bfloat16, relative */
enum { MOST = 24 /* inputs of a case */ };
typedef enum Variant { PLAIN, TWICE, CHANNELS_LAST, N_VARIANTS } Variant;

/* ---------------------------------------------------------------- the model of a case */

/* A case being written as a model, and what the model is fed with. */
typedef struct Maker {
    Build b;
    const Case *c;
    const char *type;
    Variant variant;
    bool bfloat16;
    int n_in;
    char names[MOST][8];            /* of the operator's inputs */
    bool moves[MOST];               /* may stand behind a pool */
    bool statistic[MOST], repeated[MOST];
    int n_fed;
    PapaShape fed_shapes[MOST];
    float *fed[MOST];
    bool has_one;                   /* the factor that makes activations of weights is among what is fed */
} Maker;

static float *draw(const Maker *m, int64_t n, char range)
{
    const double low = range == '+' ? .5 : range == '~' ? -9 : -1, high = range == '+' ? 2 : -low;
    float *x = malloc((size_t)n * sizeof *x + 1);
    for (int64_t i = 0; i < n; i++) {
        x[i] = (float)(low + (high - low) * papa_rng_double(&rng));
        x[i] = m->bfloat16 ? bf16_rounded(x[i]) : x[i];
    }
    return x;
}

static PapaShape parse_shape(const char *word)
{
    PapaShape shape = {0};
    for (char *end; *word >= '0' && *word <= '9'; word = end + (*end == 'x'))
        shape.dim[shape.rank++] = strtoll(word, &end, 10);
    return shape;
}

enum { MOST_INTS = 2 * PAPA_MAX_RANK };

static int parse_ints(const char *word, int64_t out[MOST_INTS])
{
    int n = 0;
    for (char *end; *word && *word != ']' && n < MOST_INTS; word = end + (*end == ','))
        out[n++] = strtoll(word, &end, 10);
    return n;
}

static void feed_with(Maker *m, const char *name, const PapaShape *shape, float *numbers)
{
    build_input(&m->b, name, shape->rank, shape->dim);
    m->fed_shapes[m->n_fed] = *shape;
    m->fed[m->n_fed++] = numbers;
}

/* name = reshape(1 * weight), of this shape. */
static void add_activation(Maker *m, const char *name, const PapaShape *shape, char range)
{
    char weight[16], product[16], sizes[16], in[40];
    const int64_t n = papa_shape_count(shape);
    if (!m->has_one) {
        float *one = malloc(sizeof *one);
        *one = 1;
        feed_with(m, "one", &(PapaShape){2, {1, 1}}, one);
        m->has_one = true;
    }
    snprintf(weight, sizeof weight, "%s_w", name), snprintf(product, sizeof product, "%s_p", name), snprintf(sizes, sizeof sizes, "%s_s", name);
    float *x = draw(m, n, range);
    build_tensor(&m->b, weight, 2, (int64_t[]){1, n}, x);
    free(x);
    snprintf(in, sizeof in, "one %s", weight);
    build_node(&m->b, "MatMul", in, product);
    build_known(&m->b, sizes, ONNX__TENSOR_PROTO__DATA_TYPE__INT64, 1, shape->rank, shape->dim);
    snprintf(in, sizeof in, "%s %s", product, sizes);
    BuildNode reshape = build_node(&m->b, "Reshape", in, name);
    if (!n && m->c->opset >= 14)
        build_int(reshape, "allowzero", 1);
}

/* An input that the operator knows when the graph is built. */
static void add_known(Maker *m, const char *name, const char *word)
{
    int64_t values[MOST_INTS];
    if (*word == 'f') {
        build_tensor(&m->b, name, 0, NULL, &(float){strtof(word + 1, NULL)});
        return;
    }
    const int n = parse_ints(word + 1, values), type = *word == 'b' ? ONNX__TENSOR_PROTO__DATA_TYPE__BOOL : ONNX__TENSOR_PROTO__DATA_TYPE__INT64;
    build_known(&m->b, name, type, *word == 'i', n, values);
}

static void add_input(Maker *m, const char *word)
{
    const int i = m->n_in++;
    char *name = m->names[i], range = *word == '+' || *word == '~' ? *word++ : 0;
    snprintf(name, sizeof m->names[i], "x%d", i);
    if (*word == '-') {
        strcpy(name, "-");
    } else if (*word == '@') {
        strcpy(name, m->names[0]);
        m->moves[i] = m->moves[0];
        m->repeated[0] = true;
    } else if (strchr("iIfb", *word)) {
        add_known(m, name, word);
    } else {
        const char kind = *word == 'w' || *word == 'g' ? *word++ : 0;
        const PapaShape shape = parse_shape(word);
        if (kind == 'g') {
            feed_with(m, name, &shape, draw(m, papa_shape_count(&shape), range));
        } else if (kind == 'w') {
            float *x = draw(m, papa_shape_count(&shape), range);
            build_tensor(&m->b, name, shape.rank, shape.dim, x);
            m->statistic[i] = strcmp(m->type, "BatchNormalization") == 0 && i >= 3;
            if (m->statistic[i]) { /* written to, so each node has its own */
                char second[16];
                snprintf(second, sizeof second, "%s_2", name);
                build_tensor(&m->b, second, shape.rank, shape.dim, x);
            }
            free(x);
        } else {
            add_activation(m, name, &shape, range);
        }
        m->moves[i] = kind != 'w' && shape.rank == 4;
    }
}

static void add_attributes(const Maker *m, BuildNode node)
{
    char copy[256], *rest;
    snprintf(copy, sizeof copy, "%s", m->c->attributes);
    for (char *word = strtok_r(copy, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        int64_t values[MOST_INTS];
        char *value = strchr(word, '=');
        *value++ = 0;
        if (*value == '[') {
            int n = parse_ints(value + 1, values);
            build_ints(node, word, n, values);
        } else if (strchr(value, '.'))
            build_float(node, word, strtof(value, NULL));
        else if (*value == '-' || (*value >= '0' && *value <= '9'))
            build_int(node, word, strtoll(value, NULL, 10));
        else
            build_string(node, word, value);
    }
}

static void append(char *list, size_t room, const char *name)
{
    size_t at = strlen(list);
    snprintf(list + at, room - at, "%s%s", at ? " " : "", name);
}

static int64_t attribute_axis(const Case *c)
{
    const char *axis = strstr(c->attributes, "axis=");
    return axis ? strtoll(axis + 5, NULL, 10) : 0;
}

/* The operator, and what is joined to it; out gets the name of the result. */
static void add_operator(Maker *m, int copy, char *out, size_t room)
{
    char in[256] = "", results[64] = "", name[16], value[40];
    const unsigned how = m->c->how;
    const int n_out = m->c->n_out, n_own = m->n_in - (how & ADD ? 1 : 0);
    for (int i = 0; i < n_own; i++) {
        snprintf(name, sizeof name, "%s%s", m->names[i], m->statistic[i] && copy ? "_2" : "");
        append(in, sizeof in, name);
    }
    for (int k = 0; k < n_out; k++) {
        snprintf(name, sizeof name, "y%d_%d", copy, k);
        append(results, sizeof results, k == 0 && how & SKIP_FIRST ? "-" : name);
    }
    add_attributes(m, build_node(&m->b, m->type, in, results));
    snprintf(out, room, "y%d_0", copy);
    if (n_out > 1) {
        snprintf(out, room, "joined%d", copy);
        build_int(build_node(&m->b, "Concat", how & SKIP_FIRST ? results + 2 : results, out), "axis", attribute_axis(m->c));
    }
    if (how & ADD) {
        snprintf(value, sizeof value, "%s %s", out, m->names[n_own]);
        snprintf(out, room, "sum%d", copy);
        build_node(&m->b, "Add", value, out);
    }
    if (how & RELU) {
        snprintf(value, sizeof value, "%s", out);
        snprintf(out, room, "relu%d", copy);
        build_node(&m->b, "Relu", value, out);
    }
}

/* Channels-last: a pool that changes nothing but the order of axes in front of each activation of rank 4. */
static void move_inputs(Maker *m)
{
    for (int i = 0; i < m->n_in; i++) {
        bool first = m->moves[i];
        for (int k = 0; k < i; k++)
            first &= strcmp(m->names[k], m->names[i]) != 0;
        if (!first)
            continue;
        char from[8], to[8];
        snprintf(from, sizeof from, "%s", m->names[i]);
        snprintf(to, sizeof to, "m%d", i);
        build_ints(build_node(&m->b, "MaxPool", from, to), "kernel_shape", 2, (int64_t[]){1, 1});
        for (int k = i; k < m->n_in; k++)
            if (strcmp(m->names[k], from) == 0)
                strcpy(m->names[k], to);
    }
}

/* Two results one behind the other: nothing is rounded. */
static void join(Maker *m, int rank, char *result, size_t room, const char *other)
{
    char both[40];
    const char *ends[] = {result, other};
    for (int copy = 0; copy < 2 && rank == 0; copy++) { /* numbers have no axis to be joined along */
        char from[40], to[8];
        snprintf(to, sizeof to, "r%d", copy);
        snprintf(from, sizeof from, "%s r%d_s", ends[copy], copy);
        build_known(&m->b, from + strlen(from) - 4, ONNX__TENSOR_PROTO__DATA_TYPE__INT64, 1, 1, (int64_t[]){1});
        build_node(&m->b, "Reshape", from, to);
    }
    snprintf(both, sizeof both, "%s %s", rank ? result : "r0", rank ? other : "r1");
    snprintf(result, room, "both");
    build_int(build_node(&m->b, "Concat", both, result), "axis", 0);
}

/* rank: of the operator's result. */
static void write_model(Maker *m, int rank, char *result, size_t room, const char *path)
{
    char words[512], *rest, other[16];
    m->b = build_begin();
    m->b.opset.version = m->c->opset;
    snprintf(words, sizeof words, "%s", m->c->in);
    for (char *word = strtok_r(words, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
        add_input(m, word);
    if (m->variant == CHANNELS_LAST)
        move_inputs(m);
    add_operator(m, 0, result, room);
    if (m->variant == TWICE) {
        add_operator(m, 1, other, sizeof other);
        join(m, rank, result, room, other);
    }
    build_output(&m->b, result, 0);
    build_write(&m->b, path);
}

/* ---------------------------------------------------------------- what was executed */

enum { IN_FLOAT32 = 1, IN_BFLOAT16 = 2, MOVED = 4, WITH_RELU = 8, WITH_ADD = 16, BACKWARD = 32 };
static struct {
    const PapaOp *op;
    unsigned seen;
} rows[256];
static int n_rows;

static void collect_rows(void)
{
    for (const PapaOp *const *table = papa_op_tables; *table; table++)
        for (const PapaOp *op = *table; op->type; op++)
            if (op->forward && n_rows < (int)(sizeof rows / sizeof *rows))
                rows[n_rows++].op = op;
}

static void note(const PapaNode *node, PapaElement element)
{
    const bool residual = node->op->fuses & PAPA_FUSE_ADD && papa_has_in(node, node->op->residual_input);
    for (int i = 0; i < n_rows; i++)
        if (rows[i].op == node->op)
            rows[i].seen |= (element == PAPA_FLOAT32 ? IN_FLOAT32 : IN_BFLOAT16) | (node->out[0] && node->out[0]->channels_last ? MOVED : 0) |
                (node->relu ? WITH_RELU : 0) | (residual ? WITH_ADD : 0);
}

/* Every row that executes anything was executed, in all the forms that it allows. */
static void check_rows(void)
{
    for (int i = 0; i < n_rows; i++) {
        const PapaOp *op = rows[i].op;
        const unsigned seen = rows[i].seen;
        const bool own = op->domain && strcmp(op->domain, PAPA_OWN_DOMAIN) == 0; /* Convert: there is none where all is float32 */
        CHECK(seen & IN_BFLOAT16 && (own || seen & IN_FLOAT32), "no case executes %s of opset %d", op->type, op->since);
        CHECK(own || !op->permute || seen & MOVED, "no case executes %s of opset %d channels-last", op->type, op->since);
        CHECK(!(op->fuses & PAPA_FUSE_RELU) || seen & WITH_RELU, "no case joins a Relu to %s of opset %d", op->type, op->since);
        CHECK(!(op->fuses & PAPA_FUSE_ADD) || seen & WITH_ADD, "no case joins an Add to %s of opset %d", op->type, op->since);
    }
    printf("%d rows\n", n_rows);
}

/* ---------------------------------------------------------------- running */

typedef struct Test {
    const Maker *m;
    PapaModel *model;
    const char *output;
    char what[160];
    float *dy;
    int64_t n_out;
    int rank;             /* of the operator's own result */
    unsigned float32;     /* inputs that the operator reads as such, as bits */
    bool saves_result;    /* backward reads the result, which was rounded */
    bool follows;         /* works in any order of axes */
} Test;

typedef struct Result {
    float *out, *params, *grads;
} Result;

static void free_result(Result *r)
{
    free(r->out), free(r->params), free(r->grads);
}

static void poison(PapaWorker *worker)
{
    size_t bytes;
    void *arena = papa_worker_arena(worker, &bytes), *pattern = malloc(bytes + 1);
    memset(pattern, 0xFF, bytes); /* NaN in float32 and bfloat16 */
    must(papa_device_upload(papa_worker_device(worker), arena, pattern, bytes));
    free(pattern);
}

static Result pass(const Test *t, const PapaNet *net, PapaWorker *worker, PapaMode mode)
{
    PapaDevice *dev = papa_worker_device(worker);
    const PapaStoreLayout *store = &t->model->store;
    PapaStepNumbers numbers = {.dropout_key = {1, 2}, .dropout_name = {3, 4}, .stat_momentum = .75f};
    Result r = {malloc((size_t)t->n_out * sizeof(float) + 1), malloc((size_t)store->n_total * sizeof(float) + 1),
        malloc((size_t)store->n_trained * sizeof(float) + 1)};
    float *params, *grads;
    void *step;
    poison(worker);
    must(papa_model_read_params(t->model, r.params));
    must(floats_on(dev, &params, r.params, store->n_total));
    must(floats_on(dev, &grads, NULL, store->n_trained));
    must(papa_device_alloc(dev, &step, sizeof numbers, "a test"));
    must(papa_device_upload(dev, step, &numbers, sizeof numbers));
    for (int i = 0; i < t->m->n_fed; i++)
        must(feed(net, worker, i, t->m->fed[i], &t->m->fed_shapes[i]));
    must(papa_net_forward(net, worker, params, step));
    must(fetch_output(net, worker, 0, r.out));
    if (mode == PAPA_MODE_TRAIN) {
        must(papa_device_upload(dev, papa_net_output_grad(net, worker), t->dy, (size_t)t->n_out * sizeof(float)));
        must(papa_net_backward(net, worker, params, grads, step));
    }
    must(papa_device_download(dev, r.params, params, (size_t)store->n_total * sizeof(float)));
    must(papa_device_download(dev, r.grads, grads, (size_t)store->n_trained * sizeof(float)));
    papa_device_free(dev, params), papa_device_free(dev, grads), papa_device_free(dev, step);
    return r;
}

static Result execute(const Test *t, PapaDevice *dev, PapaMode mode, bool separate)
{
    PapaNetOptions options = {.mode = mode, .input_shapes = t->m->fed_shapes, .outputs = &t->output, .n_outputs = 1, .separate_blocks = separate};
    PapaNet *net;
    PapaWorker *worker;
    must(papa_net_compile(&net, t->model, &options, dev));
    must(papa_worker_new(&worker, (const PapaNet *const[]){net}, 1, dev));
    Result r = pass(t, net, worker, mode);
    papa_worker_free(worker);
    papa_net_free(net, dev);
    return r;
}

/* ---------------------------------------------------------------- comparing */

/* |difference| <= own * |expected| + part * largest + arithmetic, which is float32's on both sides. own is the rounding of what is compared,
 * part of what it was computed from. */
typedef struct Allowance {
    double own, part;
} Allowance;
#define ARITHMETIC 3e-6
#define PARTIAL_SUMS 4

static void compare(const Test *t, const char *what, const float *want, const float *got, int64_t n, Allowance allowed)
{
    double largest = t->m->c->how & CANCELS ? 1 : 1e-3, worst = 0;
    int64_t at = 0;
    for (int64_t i = 0; i < n; i++)
        largest = fmax(largest, fabs((double)want[i]));
    for (int64_t i = 0; i < n; i++) {
        const double w = (double)want[i], g = (double)got[i];
        const double excess = isfinite(g) && isfinite(w) ? fabs(g - w) - 1.001 * allowed.own * fabs(w) - allowed.part * largest :
            isnan(w) && isnan(g) ? 0 : INFINITY;
        if (excess > worst)
            worst = excess, at = i;
    }
    CHECK(worst <= ARITHMETIC * largest, "%s: %s: element %lld of %lld is %.9g, expected %.9g, of at most %.3g", t->what, what, (long long)at, (long long)n,
        (double)got[at], (double)want[at], largest);
}

/* The input that the parameter belongs to: xI, or the numbers of activation xI. */
static int input_of(const PapaParam *param)
{
    return (int)strtol(param->name + 1, NULL, 10);
}

static void compare_gradients(const Test *t, const Result *want, const Result *got)
{
    for (int p = 0; p < t->model->n_params; p++) {
        const PapaParam *param = &t->model->params[p];
        const int input = input_of(param);
        const bool is_activation = strstr(param->name, "_w"), bfloat16 = t->m->bfloat16;
        const bool from_cudnn = strcmp(t->m->type, "Conv") == 0 && input == 1; /* which makes a filter's gradient as what it reads */
        const bool rounded = bfloat16 && (is_activation || from_cudnn || !(t->float32 >> input & 1));
        char what[64];
        snprintf(what, sizeof what, param->trained ? "gradient of %s" : "%s", param->name);
        Allowance allowed = {0};
        if (rounded)
            allowed = (Allowance){t->m->variant == TWICE ? 2 * ROUNDING : ROUNDING, t->m->repeated[input] ? ROUNDING : 0};
        if (rounded && t->m->c->how & PARTIAL)
            allowed.part += PARTIAL_SUMS * ROUNDING;
        if (bfloat16 && t->saves_result)
            allowed.part += 2 * ROUNDING;
        if (param->trained)
            compare(t, what, want->grads + param->offset, got->grads + param->offset, param->count, allowed);
        else
            compare(t, what, want->params + param->offset, got->params + param->offset, param->count, (Allowance){0});
    }
}

static void check_equal_bits(const Test *t, const Result *a, const Result *b)
{
    CHECK(memcmp(a->out, b->out, (size_t)t->n_out * sizeof(float)) == 0, "%s: the result depends on the memory plan", t->what);
    for (int p = 0; p < t->model->n_params; p++) {
        const PapaParam *param = &t->model->params[p];
        const float *of_a = param->trained ? a->grads : a->params, *of_b = param->trained ? b->grads : b->params;
        CHECK(memcmp(of_a + param->offset, of_b + param->offset, (size_t)param->count * sizeof(float)) == 0, "%s: %s depends on the memory plan",
            t->what, param->name);
    }
}

static void check_mode(Test *t, PapaMode mode)
{
    static const char *const names[] = {"INFER", "TRAIN", "CALIBRATE"};
    const size_t end = strlen(t->what);
    snprintf(t->what + end, sizeof t->what - end, ", %s", names[mode]);
    Result want = execute(t, cpu, mode, false), got = execute(t, cuda, mode, false);
    Allowance allowed = {t->m->bfloat16 ? ROUNDING : 0, t->m->bfloat16 && t->m->c->how & PARTIAL ? PARTIAL_SUMS * ROUNDING : 0};
    compare(t, "result", want.out, got.out, t->n_out, allowed);
    if (mode == PAPA_MODE_TRAIN) {
        Result apart = execute(t, cuda, mode, true);
        compare_gradients(t, &want, &got);
        check_equal_bits(t, &got, &apart);
        free_result(&apart);
    }
    free_result(&want), free_result(&got);
    t->what[end] = 0;
}

/* ---------------------------------------------------------------- one case */

/* The graph as the net will have it: which nodes run, and what the operator's backward depends on. */
static void look_at_graph(Test *t)
{
    PapaGraph *graph;
    bool runs = false;
    must(papa_graph_read(&graph, t->model->onnx, &(PapaGraphOptions){.mode = PAPA_MODE_TRAIN, .frozen_stats = t->model->frozen_statistics,
        .outputs = &t->output, .n_outputs = 1}));
    must(papa_graph_infer(graph, t->m->fed_shapes));
    const PapaValue *result = papa_graph_find(graph, "y0_0");
    t->rank = result ? result->shape.rank : 1;
    for (int k = 0; k < graph->n_nodes; k++)
        if (strcmp(graph->nodes[k]->op->type, t->m->type) == 0 && graph->nodes[k]->op->layout)
            t->follows = graph->nodes[k]->op->layout(graph->nodes[k], graph) == PAPA_LAYOUT_FOLLOW;
    must(papa_graph_layout(graph));
    must(papa_graph_fuse(graph));
    must(papa_graph_precision(graph, cuda->element));
    for (int k = 0; k < graph->n_nodes; k++) {
        const PapaNode *node = graph->nodes[k];
        if (!node->op->forward || (node->op->is_view && node->op->is_view(node, graph)))
            continue;
        note(node, cuda->element);
        if (!node->proto || strcmp(node->op->type, t->m->type) != 0)
            continue;
        runs = true;
        t->float32 = node->op->float32 ? node->op->float32(node) : 0;
        const unsigned keeps = node->op->keeps ? node->op->keeps(node, graph) : 0;
        t->saves_result |= keeps >> PAPA_KEEP_MOST && !node->relu; /* of which only the sign counts */
    }
    CHECK(runs, "%s: the operator isn't executed", t->what);
    const PapaShape *shape = &graph->outputs[0]->shape;
    t->n_out = papa_shape_count(shape);
    papa_graph_free(graph);
}

static void check_variant(const Case *c, const char *type, Variant variant, int *rank, bool *moves)
{
    static const char *const names[] = {"", ", read twice", ", channels-last"};
    char result[16];
    const char *path = scratch("model.onnx");
    Maker m = {.c = c, .type = type, .variant = variant, .bfloat16 = cuda->element == PAPA_BFLOAT16};
    Test t = {.m = &m, .output = result};
    snprintf(t.what, sizeof t.what, "%s-%d %s %s%s%s", type, c->opset, c->in, c->attributes, names[variant], m.bfloat16 ? ", bfloat16" : "");
    write_model(&m, *rank, result, sizeof result, path);
    must(papa_model_open(&t.model, path));
    must(papa_model_find_params(t.model, &t.output, 1, &(PapaModelSelection){.decay_all = true, .freeze_bn = c->how & FROZEN}));
    look_at_graph(&t);
    *rank = t.rank;
    for (int i = 0; i < m.n_in; i++)
        *moves |= m.moves[i] && t.follows;
    t.dy = draw(&m, t.n_out, 0);
    for (int64_t i = 0; variant == TWICE && i < t.n_out / 2; i++) /* the two gradients can't cancel */
        t.dy[t.n_out / 2 + i] = t.dy[i] / 2;
    if (!(c->how & INFERS))
        check_mode(&t, PAPA_MODE_TRAIN);
    if (variant == PLAIN || c->how & INFERS)
        check_mode(&t, PAPA_MODE_INFER);
    if (variant == PLAIN)
        check_mode(&t, PAPA_MODE_CALIBRATE);
    free(t.dy);
    for (int i = 0; i < m.n_fed; i++)
        free(m.fed[i]);
    papa_model_close(t.model);
}

static void check_case(const Case *c)
{
    char types[256], *rest;
    snprintf(types, sizeof types, "%s", c->types);
    for (char *type = strtok_r(types, " ", &rest); type; type = strtok_r(NULL, " ", &rest)) {
        int rank = 0;
        bool moves = false;
        check_variant(c, type, PLAIN, &rank, &moves);
        check_variant(c, type, TWICE, &rank, &moves);
        if (moves)
            check_variant(c, type, CHANNELS_LAST, &rank, &moves);
    }
}

int main(int argc, char **argv)
{
    int status = cudatest_begin();
    if (status)
        return status;
    collect_rows();
    FOR_ELEMENTS
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
            if (argc < 2 || strstr(cases[i].types, argv[1])) /* an operator by itself, when looking for a fault */
                check_case(&cases[i]);
    if (argc < 2)
        check_rows();
    return cudatest_end();
}
