/* The proof: what it takes, what it refuses, and what it can't see. That the groups of testdata and of many small networks pass is groupstest.h's. */
#include "unitsbuild.h"

typedef struct Case {
    PapaModel *model;
    PapaGroups *groups;
    PapaProof *proof;
    double *errors; /* by group */
} Case;

static PapaStatus case_open(Case *c, const char *path, const PapaProofOptions *options)
{
    *c = (Case){0};
    PAPA_TRY(papa_model_open(&c->model, path));
    PAPA_TRY(papa_groups_derive(&c->groups, c->model->onnx, NULL));
    c->errors = groups_alloc(c->groups->n_groups, sizeof *c->errors);
    return papa_proof_open(&c->proof, c->model->onnx, options);
}

static void case_close(Case *c)
{
    papa_proof_close(c->proof);
    papa_groups_free(c->groups);
    papa_model_close(c->model);
    free(c->errors);
}

static const PapaProofOptions plain = {.seed = 1, .threads = 1};

static const char *testdata(const char *name)
{
    static char path[1024];
    snprintf(path, sizeof path, "%s/testdata/%s.onnx", PAPA_SOURCE_DIR, name);
    return path;
}

/* ---------------------------------------------------------------- wrong groups */

static PapaGroup *group_of(const Case *c, const char *name)
{
    for (int g = 0; g < c->groups->n_groups; g++)
        if (strcmp(c->groups->groups[g].name, name) == 0)
            return &c->groups->groups[g];
    CHECK(false, "no group %s", name);
    exit(1);
}

static void check_refused(Case *c, const PapaGroup *group, const char *what)
{
    char text[200];
    snprintf(text, sizeof text, "group '%s' of %lld", group->name, (long long)group->n);
    PapaStatus status = papa_proof_groups(c->errors, c->proof, c->groups);
    CHECK(status == PAPA_ERR_NUMERIC && strstr(papa_error(), text) && strstr(papa_error(), ".onnx: "), "%s: status %d, \"%s\"", what, status, papa_error());
    CHECK(c->errors[group - c->groups->groups] > 1e-4, "%s: error %g", what, c->errors[group - c->groups->groups]);
}

/* One slot is left where it is, each in turn. */
static void check_dropped(Case *c, PapaGroup *group)
{
    for (int k = 0; k < group->n_slots; k++) {
        const PapaSlots slots = group->slots[k];
        group->slots[k] = group->slots[--group->n_slots];
        check_refused(c, group, c->groups->tensors[slots.tensor].name);
        group->slots[group->n_slots++] = group->slots[k];
        group->slots[k] = slots;
    }
}

/* Two units have changed places in one tensor only. */
static void check_swapped(Case *c, PapaGroup *group)
{
    PapaSlots *slots = &group->slots[group->n_slots - 1];
    int64_t *base = (int64_t *)slots->base; /* the test's own copy would be as good */
    for (int64_t j = 0; j < slots->n_parts; j++) {
        const int64_t held = base[j];
        base[j] = base[slots->n_parts + j];
        base[slots->n_parts + j] = held;
    }
    check_refused(c, group, "units swapped");
}

static void wrong_groups(const char *name, const char *of)
{
    Case c;
    CHECK_OK(case_open(&c, testdata(name), &plain));
    CHECK_OK(papa_proof_groups(c.errors, c.proof, c.groups));
    check_dropped(&c, group_of(&c, of));
    check_swapped(&c, group_of(&c, of));
    case_close(&c);
}

/* Two units, of which half the permutations are the identity: none of these proves anything. */
static void two_units(void)
{
    Build b = build_begin();
    build_input(&b, "x", 2, (int64_t[]){-1, 3});
    linear(&b, "x", "a", 3, 2);
    build_node(&b, "Tanh", "a", "r");
    linear(&b, "r", "c", 2, 4);
    build_output(&b, "c", 2);
    const char *path = write_model(&b, "two");
    for (int seed = 0; seed < 8; seed++) {
        Case c;
        CHECK_OK(case_open(&c, path, &(PapaProofOptions){.seed = (uint64_t)seed, .threads = 1}));
        PapaGroup *group = group_of(&c, "a.w");
        group->n_slots--;
        PapaStatus status = papa_proof_groups(c.errors, c.proof, c.groups);
        CHECK(status == PAPA_ERR_NUMERIC && !isnan(c.errors[0]), "seed %d: status %d, error %g", seed, status, c.errors[0]);
        case_close(&c);
    }
}

/* Running variances are left where they are. */
static void forgotten_variance(void)
{
    Case c;
    CHECK_OK(case_open(&c, testdata("resnet8"), &plain));
    PapaGroup *group = group_of(&c, "stage2.0.conv1.weight");
    int n = 0;
    for (int k = 0; k < group->n_slots; k++)
        if (c.groups->tensors[group->slots[k].tensor].role != PAPA_ROLE_VARIANCE)
            group->slots[n++] = group->slots[k];
    CHECK(n < group->n_slots, "no variance in the group");
    group->n_slots = n;
    check_refused(&c, group, "variance forgotten");
    case_close(&c);
}

/* ---------------------------------------------------------------- networks that are cut */

/* A node that nobody knows between two layers: it is fed at random, and what it reads is an output. */
static void unknown_node(bool wrong)
{
    Build b = begin_image();
    conv(&b, "x", "c", 4, (int64_t[]){5, 2, 3, 3});
    build_node(&b, "Relu", "c", "r");
    conv(&b, "r", "d", 4, (int64_t[]){4, 5, 3, 3});
    build_node(&b, "Mystery", "d", "m").node->domain = build_text(&b, "somewhere.else");
    conv(&b, "m", "e", 4, (int64_t[]){6, 4, 3, 3});
    build_node(&b, "Relu", "e", "s");
    head(&b, "s", 6);
    Onnx__ValueInfoProto *info = build_value(&b, "m", 4, (int64_t[]){1, 4, 6, 6});
    b.graph.value_info = &info, b.graph.n_value_info = 1;
    const char *path = write_model(&b, "unknown");
    Case c;
    CHECK_OK(case_open(&c, path, &plain));
    CHECK(strcmp(groups_text(c.groups), "c.w 5, e.w 6") == 0, "groups %s", groups_text(c.groups));
    if (wrong) {
        check_dropped(&c, group_of(&c, "c.w")); /* in front of the unknown node */
        check_dropped(&c, group_of(&c, "e.w")); /* behind it */
    } else {
        CHECK_OK(papa_proof_groups(c.errors, c.proof, c.groups));
        CHECK(c.errors[0] <= PAPA_PROOF_TOLERANCE && c.errors[1] <= PAPA_PROOF_TOLERANCE, "errors %g, %g", c.errors[0], c.errors[1]);
    }
    case_close(&c);
}

/* Integers that come from outside, or from a node that nobody knows, and all that reads them; several inputs, of several ranks. */
static void unknown_integers(void)
{
    Build b = begin_image();
    build_input(&b, "t", 2, (int64_t[]){2, 3});
    build_input(&b, "ids", 1, (int64_t[]){4});
    b.inputs[2]->type->tensor_type->elem_type = ONNX__TENSOR_PROTO__DATA_TYPE__INT64;
    tensor(&b, "table", 2, (int64_t[]){9, 3});
    build_node(&b, "Gather", "table ids", "rows"); /* which rows is not known: cut */
    linear(&b, "t", "u", 3, 5);
    build_node(&b, "Tanh", "u", "v");
    linear(&b, "v", "w", 5, 3);
    build_output(&b, "w", 2);
    build_node(&b, "ArgMax", "v", "best");
    build_int(build_node(&b, "Cast", "best", "number"), "to", ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT);
    build_output(&b, "number", 2);
    build_node(&b, "Identity", "best", "same");
    build_output(&b, "same", 2);
    Onnx__ValueInfoProto *info = build_value(&b, "best", 2, (int64_t[]){1, 5});
    info->type->tensor_type->elem_type = ONNX__TENSOR_PROTO__DATA_TYPE__INT64;
    b.graph.value_info = &info, b.graph.n_value_info = 1;
    conv(&b, "x", "c", 4, (int64_t[]){5, 2, 3, 3});
    build_node(&b, "Relu", "c", "r");
    head(&b, "r", 5);
    build_output(&b, "rows", 2);
    Case c;
    CHECK_OK(case_open(&c, write_model(&b, "integers"), &plain));
    CHECK(strcmp(groups_text(c.groups), "c.w 5") == 0, "groups %s", groups_text(c.groups)); /* ArgMax holds the other */
    CHECK_OK(papa_proof_groups(c.errors, c.proof, c.groups));
    check_dropped(&c, group_of(&c, "c.w"));
    case_close(&c);
}

/* What the branches of an If read of the graph around them is an output too; what the If makes is fed. */
static void captured(void)
{
    Build b = begin_image(), inner = build_begin();
    build_random(&b, "a.w", 4, (int64_t[]){4, 2, 3, 3}, .3); /* no bias, to permute it by hand */
    build_node(&b, "Conv", "x a.w", "a");
    conv(&b, "a", "c", 4, (int64_t[]){5, 4, 3, 3});
    build_node(&inner, "Relu", "a", "inside");
    build_output(&inner, "inside", 4);
    inner.graph.name = (char *)"branch", inner.graph.node = inner.nodes, inner.graph.output = inner.outputs;
    Onnx__TensorProto *yes = build_tensor(&b, "yes", 1, (int64_t[]){1}, (float[]){1});
    yes->data_type = ONNX__TENSOR_PROTO__DATA_TYPE__BOOL, yes->n_dims = 0, yes->raw_data.len = 1;
    BuildNode node = build_node(&b, "If", "yes", "i");
    build_attribute(node, "then_branch", ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPH)->g = &inner.graph;
    build_attribute(node, "else_branch", ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPH)->g = &inner.graph;
    build_output(&b, "i", 4);
    head(&b, "c", 5);
    const char *path = write_model(&b, "captured");
    papa_arena_free(&inner.arena);
    Case c;
    CHECK_OK(case_open(&c, path, &plain));
    CHECK(strcmp(groups_text(c.groups), "c.w 5") == 0, "groups %s", groups_text(c.groups));
    CHECK_OK(papa_proof_groups(c.errors, c.proof, c.groups));
    PapaGroup group = {.name = "held", .n = 4, .n_slots = 2}, *known = c.groups->groups;
    PapaSlots held[2];
    const int64_t rows[] = {0, 18, 36, 54}, columns[] = {0, 9, 18, 27}; /* of a.w, and of c.w: what the If holds is permuted all the same */
    for (int t = 0; t < c.groups->n_tensors; t++) {
        if (strcmp(c.groups->tensors[t].name, "a.w") == 0)
            held[0] = (PapaSlots){.tensor = t, .n_parts = 1, .base = rows, .n = {1, 18}, .stride = {18, 1}};
        if (strcmp(c.groups->tensors[t].name, "c.w") == 0)
            held[1] = (PapaSlots){.tensor = t, .axis = 1, .n_parts = 1, .base = columns, .n = {5, 9}, .stride = {36, 1}};
    }
    group.slots = held;
    c.groups->groups = &group;
    check_refused(&c, &group, "units that an If reads");
    c.groups->groups = known;
    case_close(&c);
}

static void nothing_left(void)
{
    Case c;
    Build b = begin_image();
    build_node(&b, "Mystery", "x", "y");
    build_output(&b, "y", 4);
    CHECK_FAILS(case_open(&c, write_model(&b, "nothing"), &plain), PAPA_ERR_UNSUPPORTED, "nothing.onnx: no output can be computed");
    case_close(&c);
}

/* ---------------------------------------------------------------- tensors that aren't read as they are stored */

/* A factor for each channel, stored as a vector, and a matrix stored transposed: neither is folded, and both are permuted. The divisors are no
 * parameter: they hold the channels in front of them. */
static void moved_tensors(void)
{
    Build b = begin_image();
    conv(&b, "x", "a", 4, (int64_t[]){4, 2, 3, 3});
    build_tensor(&b, "divisor", 3, (int64_t[]){4, 1, 1}, (float[]){1, 2, 3, 4});
    build_node(&b, "Div", "a divisor", "q");
    conv(&b, "q", "c", 4, (int64_t[]){5, 4, 3, 3});
    build_tensor(&b, "factor", 1, (int64_t[]){5}, (float[]){1, 2, 3, 4, 5});
    ints(&b, "shape", 3, (int64_t[]){5, 1, 1});
    build_node(&b, "Reshape", "factor shape", "factors");
    build_node(&b, "Mul", "c factors", "f");
    build_node(&b, "Relu", "f", "r");
    build_node(&b, "GlobalAveragePool", "r", "gap");
    build_node(&b, "Flatten", "gap", "flat");
    tensor(&b, "stored", 2, (int64_t[]){3, 5});
    build_node(&b, "Transpose", "stored", "matrix");
    build_node(&b, "MatMul", "flat matrix", "y");
    build_output(&b, "y", 2);
    Case c;
    CHECK_OK(case_open(&c, write_model(&b, "moved"), &plain));
    CHECK(strcmp(groups_text(c.groups), "c.w 5") == 0, "groups %s", groups_text(c.groups));
    CHECK(group_of(&c, "c.w")->n_slots == 4, "%d slots", group_of(&c, "c.w")->n_slots);
    CHECK_OK(papa_proof_groups(c.errors, c.proof, c.groups));
    CHECK(c.errors[0] <= PAPA_PROOF_TOLERANCE, "error %g", c.errors[0]);
    check_dropped(&c, group_of(&c, "c.w"));
    case_close(&c);
}

/* ---------------------------------------------------------------- what can't be seen */

static void dead_units(void)
{
    Build b = begin_image();
    const float low[] = {-1e4f, -2e4f, -3e4f, -4e4f, -5e4f};
    conv(&b, "x", "a", 4, (int64_t[]){4, 2, 3, 3});
    build_node(&b, "Relu", "a", "r");
    build_random(&b, "c.w", 4, (int64_t[]){5, 4, 1, 1}, .5);
    build_tensor(&b, "c.b", 1, (int64_t[]){5}, low);
    build_node(&b, "Conv", "r c.w c.b", "c");
    build_node(&b, "Relu", "c", "s"); /* 0 */
    conv(&b, "s", "d", 4, (int64_t[]){6, 5, 1, 1});
    conv(&b, "x", "e", 4, (int64_t[]){6, 2, 1, 1});
    build_node(&b, "Add", "d e", "sum");
    build_node(&b, "Tanh", "sum", "t");
    head(&b, "t", 6);
    Case c;
    CHECK_OK(case_open(&c, write_model(&b, "dead"), &plain));
    CHECK(strcmp(groups_text(c.groups), "a.w 4, c.w 5, d.w 6") == 0, "groups %s", groups_text(c.groups));
    CHECK_OK(papa_proof_groups(c.errors, c.proof, c.groups));
    CHECK(isnan(c.errors[0]) && isnan(c.errors[1]) && c.errors[2] <= PAPA_PROOF_TOLERANCE, "errors %g, %g, %g", c.errors[0], c.errors[1], c.errors[2]);
    case_close(&c);

    b = begin_image();
    conv(&b, "x", "a", 4, (int64_t[]){4, 2, 3, 3});
    conv(&b, "a", "c", 4, (int64_t[]){3, 4, 3, 3});
    build_node(&b, "Sub", "c c", "zero");
    build_output(&b, "zero", 4);
    CHECK_OK(case_open(&c, write_model(&b, "zero"), &plain));
    CHECK(c.groups->n_groups > 0, "no group");
    CHECK_FAILS(papa_proof_groups(c.errors, c.proof, c.groups), PAPA_ERR_NUMERIC, "depend on none of its");
    case_close(&c);
}

/* Two units whose sum is the same in either order, bit for bit: an error of 0, and yet they count. */
static void exact_sum(void)
{
    Build b = build_begin();
    build_input(&b, "x", 2, (int64_t[]){-1, 1});
    linear(&b, "x", "a", 1, 2);
    build_node(&b, "Relu", "a", "r");
    linear(&b, "r", "c", 2, 1);
    build_output(&b, "c", 2);
    Case c;
    CHECK_OK(case_open(&c, write_model(&b, "exact"), &plain));
    CHECK_OK(papa_proof_groups(c.errors, c.proof, c.groups));
    CHECK(c.groups->n_groups == 1 && c.errors[0] == 0, "%d groups, error %g", c.groups->n_groups, c.errors[0]);
    case_close(&c);
}

static void not_finite(void)
{
    Build b = begin_image();
    Case c;
    conv(&b, "x", "a", 4, (int64_t[]){4, 2, 3, 3});
    build_node(&b, "Log", "a", "l");
    head(&b, "l", 4);
    CHECK_FAILS(case_open(&c, write_model(&b, "log"), &plain), PAPA_ERR_NUMERIC, "'fc' comes out as");
    case_close(&c);
    CHECK_FAILS(case_open(&c, testdata("mlp"), &(PapaProofOptions){.threads = 0}), PAPA_ERR_ARGUMENT, "0 threads");
    case_close(&c);
}

/* ---------------------------------------------------------------- other numbers */

typedef struct Replacing {
    const PapaGroups *groups;
    const int64_t *const *perms; /* NULL: nothing is permuted */
    const char *name;            /* this tensor's first number becomes value */
    float value;
    int n_calls;
    PapaStatus status;
} Replacing;

static PapaStatus replace(void *context, const Onnx__TensorProto *tensor, float *values, int64_t n)
{
    Replacing *r = context;
    float *scratch_memory = groups_alloc(n, sizeof *scratch_memory);
    r->n_calls++;
    for (int i = 0; i < r->groups->n_tensors && r->perms; i++)
        if (r->groups->tensors[i].tensor == tensor) {
            CHECK(r->groups->tensors[i].count == n, "%s: %lld numbers", tensor->name, (long long)n);
            papa_groups_permute(r->groups, i, r->perms, values, sizeof *values, scratch_memory);
        }
    free(scratch_memory);
    if (r->name && strcmp(tensor->name, r->name) == 0)
        values[0] = r->value;
    return r->status == PAPA_OK ? PAPA_OK : papa_fail(r->status, "no more");
}

static void differences(const char *name, const char *tensor)
{
    Case c;
    double d;
    CHECK_OK(case_open(&c, testdata(name), &plain));
    int64_t **perms = groups_alloc(c.groups->n_groups, sizeof *perms);
    for (int g = 0; g < c.groups->n_groups; g++)
        perms[g] = groups_permutation(c.groups->groups[g].n, (uint32_t)g);
    Replacing r = {.groups = c.groups};
    CHECK_OK(papa_proof_difference(&d, c.proof, replace, &r));
    CHECK(d == 0 && r.n_calls > 5, "unchanged: %g, %d calls", d, r.n_calls);
    r.perms = (const int64_t *const *)perms;
    CHECK_OK(papa_proof_difference(&d, c.proof, replace, &r));
    CHECK(d > 0 && d <= PAPA_PROOF_TOLERANCE, "permuted: %g", d);
    r.name = tensor, r.value = 3;
    CHECK_OK(papa_proof_difference(&d, c.proof, replace, &r));
    CHECK(d > 1e-4 && isfinite(d), "one number changed: %g", d);
    r.value = NAN;
    CHECK_OK(papa_proof_difference(&d, c.proof, replace, &r));
    CHECK(isinf(d), "NaN: %g", d);
    r.status = PAPA_ERR_IO;
    CHECK_FAILS(papa_proof_difference(&d, c.proof, replace, &r), PAPA_ERR_IO, "no more");
    for (int g = 0; g < c.groups->n_groups; g++)
        free(perms[g]);
    free(perms);
    case_close(&c);
}

/* ---------------------------------------------------------------- threads, hooks */

typedef struct Seen {
    int n;
    PapaProgress last;
} Seen;

static void progress(void *context, const PapaProgress *p)
{
    Seen *seen = context;
    seen->n++;
    seen->last = *p;
}

static void threads_and_hooks(void)
{
    Case one, three;
    Seen seen = {0};
    volatile sig_atomic_t stop = 0;
    PapaHooks hooks = {.context = &seen, .progress = progress, .stop = &stop};
    CHECK_OK(case_open(&one, testdata("vit-tiny"), &plain));
    CHECK_OK(case_open(&three, testdata("vit-tiny"), &(PapaProofOptions){.seed = 1, .threads = 3, .hooks = &hooks}));
    CHECK_OK(papa_proof_groups(one.errors, one.proof, one.groups));
    CHECK_OK(papa_proof_groups(three.errors, three.proof, three.groups));
    CHECK(memcmp(one.errors, three.errors, (size_t)one.groups->n_groups * sizeof *one.errors) == 0, "errors depend on the number of threads");
    CHECK(seen.n && seen.last.phase == PAPA_PHASE_PROVE && seen.last.done == one.groups->n_groups && seen.last.total == one.groups->n_groups,
        "%d reports, the last one %lld of %lld", seen.n, (long long)seen.last.done, (long long)seen.last.total);
    stop = 1;
    CHECK_FAILS(papa_proof_groups(three.errors, three.proof, three.groups), PAPA_ERR_STOPPED, "stopped");
    case_close(&one);
    case_close(&three);
}

/* Other seeds, other permutations and inputs; the same ones again. */
static void seeds(void)
{
    double errors[3][8];
    for (int i = 0; i < 3; i++) {
        Case c;
        CHECK_OK(case_open(&c, testdata("lenet"), &(PapaProofOptions){.seed = i == 1 ? 7 : 3, .threads = 1}));
        CHECK_OK(papa_proof_groups(c.errors, c.proof, c.groups));
        memcpy(errors[i], c.errors, (size_t)c.groups->n_groups * sizeof *c.errors);
        case_close(&c);
    }
    CHECK(memcmp(errors[0], errors[2], 4 * sizeof **errors) == 0, "the same seed, other errors");
    CHECK(memcmp(errors[0], errors[1], 4 * sizeof **errors) != 0, "another seed, the same errors");
}

int main(void)
{
    wrong_groups("lenet", "conv2.weight");
    wrong_groups("vgg", "features.2.weight");
    two_units();
    forgotten_variance();
    unknown_node(false);
    unknown_node(true);
    unknown_integers();
    captured();
    nothing_left();
    moved_tensors();
    dead_units();
    exact_sum();
    not_finite();
    differences("lenet", "conv2.weight");
    differences("resnet8", "conv1.weight");
    threads_and_hooks();
    seeds();
    return check_result();
}
