/* Operators that are not understood: what they pin, what is seen behind them, and integers that are fed. */
#include "align/proof.h"
#include "unitsbuild.h"

/* A node of another domain, with the shape of its output told or not. */
static void check_unknown(bool told)
{
    Build b = begin_image();
    conv(&b, "x", "a", DIMS(4, 2, 3, 3));
    conv(&b, "a", "c", DIMS(5, 4, 3, 3));
    build_node(&b, "Mystery", "c", "m").node->domain = build_text(&b, "somewhere.else");
    conv(&b, "m", "d", DIMS(6, 5, 3, 3));
    conv(&b, "d", "e", DIMS(7, 6, 3, 3));
    head(&b, "e", 7);
    Onnx__ValueInfoProto *info = build_value(&b, "m", 4, (int64_t[]){1, 5, 6, 6});
    if (told)
        b.graph.value_info = &info, b.graph.n_value_info = 1;
    /* Without a shape nothing behind it is known; the weights there are not even met. */
    const char *path = write_model(&b, "unknown");
    check_derived(path, told ? "a.w 4, d.w 6, e.w 7" : "a.w 4", told ? 1 : 7,
        "c.w axis 0: 5, Mystery node 'Mystery_2': it does not say what becomes of units\n");
    PapaModel *model;
    PapaGroups *groups;
    CHECK_OK(papa_model_open(&model, path));
    CHECK_OK(papa_groups_derive(&groups, model->onnx, NULL));
    CHECK(groups->n_blind == (told ? 0 : 6) && strcmp(groups->opaque, "Mystery") == 0, "%d nodes behind '%s'", groups->n_blind, groups->opaque);
    papa_groups_free(groups);
    papa_model_close(model);
}

/* The branches of an If read what the graph around them makes. */
static void check_captured(void)
{
    Build b = begin_image(), inner = build_begin();
    conv(&b, "x", "a", DIMS(4, 2, 3, 3));
    conv(&b, "a", "c", DIMS(5, 4, 3, 3));
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
    check_derived(path, "c.w 5", 1, "a.w axis 0: 4, If node 'If_2': it does not say");
}

/* ---------------------------------------------------------------- shapes by the specification */

/* In front of the unknown node pre's channels move, behind it d's: m, of so many channels, is seen. A wrong shape would not fit the tensor that is added. */
static void check_behind(Build *b, const char *type, int64_t channels)
{
    conv(b, "m", "d", DIMS(6, channels, 1, 1));
    conv(b, "d", "e", DIMS(3, 6, 1, 1));
    build_output(b, "e", 4);
    check_derived(write_model(b, type), "pre.w 5, d.w 6", 1, type);
}

static Build begin_known(void)
{
    Build b = begin_image();
    conv(&b, "x", "pre", DIMS(5, 2, 1, 1));
    conv(&b, "pre", "a", DIMS(4, 5, 1, 1)); /* (2, 4, 6, 6) */
    return b;
}

static void check_resize(bool by_sizes)
{
    Build b = begin_known();
    build_tensor(&b, "scales", 1, (int64_t[]){4}, (float[]){1, 1, 2, 1.9f});
    ints(&b, "sizes", 4, (int64_t[]){1, 4, 12, 11});
    build_node(&b, "Resize", by_sizes ? "a - - sizes" : "a - scales", "r");
    tensor(&b, "offset", 3, (int64_t[]){4, 12, 11});
    build_node(&b, "Add", "r offset", "m");
    check_behind(&b, "Resize", 4);
}

static void check_transposed(void)
{
    Build b = begin_known();
    tensor(&b, "up.w", 4, (int64_t[]){4, 3, 3, 2});
    BuildNode up = build_node(&b, "ConvTranspose", "a up.w", "u");
    build_ints(up, "strides", 2, (int64_t[]){2, 3});
    build_ints(up, "pads", 4, (int64_t[]){1, 0, 0, 1});
    build_ints(up, "output_padding", 2, (int64_t[]){1, 0});
    build_ints(up, "dilations", 2, (int64_t[]){1, 2});
    tensor(&b, "offset", 3, (int64_t[]){3, 13, 17}); /* 5 * 2 + 1 + 3 - 1, 5 * 3 + 0 + 3 - 1 */
    build_node(&b, "Add", "u offset", "m");
    check_behind(&b, "ConvTranspose", 3);
}

static void check_blocks_to_depth(bool back)
{
    Build b = begin_known();
    build_int(build_node(&b, back ? "DepthToSpace" : "SpaceToDepth", "a", "s"), "blocksize", 2);
    tensor(&b, "offset", 3, back ? (int64_t[]){1, 12, 12} : (int64_t[]){16, 3, 3});
    build_node(&b, "Add", "s offset", "m");
    check_behind(&b, back ? "DepthToSpace" : "SpaceToDepth", back ? 1 : 16);
}

static void check_reduced(bool keep)
{
    Build b = begin_known();
    BuildNode reduce = build_node(&b, "ReduceL2", "a", "r");
    build_ints(reduce, "axes", 2, (int64_t[]){-1, 2});
    build_int(reduce, "keepdims", keep);
    if (keep) {
        build_node(&b, "Identity", "r", "m");
    } else {
        ints(&b, "shape", 4, (int64_t[]){-1, 4, 1, 1});
        build_node(&b, "Reshape", "r shape", "m");
    }
    check_behind(&b, "ReduceL2", 4);
}

static void check_plain_shapes(void)
{
    Build b = begin_known();
    build_node(&b, "Sin", "a", "m");
    check_behind(&b, "Sin", 4);
    b = begin_known();
    tensor(&b, "bound", 4, (int64_t[]){3, 1, 1, 6});
    build_node(&b, "Max", "a bound", "m"); /* a batch of 1 against 3 */
    check_behind(&b, "Max", 4);
    b = begin_known();
    build_string(build_node(&b, "Einsum", "a", "m"), "equation", "ncij -> njci");
    check_behind(&b, "Einsum", 6);
}

/* Y is (sequence, directions, batch, hidden); the states lack the sequence. */
static void check_recurrent(bool state)
{
    Build b = begin_tokens(); /* (1, 5, 6) */
    linear(&b, "x", "a", 6, 8);
    linear(&b, "a", "c", 8, 4);
    tensor(&b, "l.w", 3, (int64_t[]){2, 12, 4});
    tensor(&b, "l.r", 3, (int64_t[]){2, 12, 3});
    build_int(build_node(&b, "GRU", "c l.w l.r", state ? "- m" : "m"), "hidden_size", 3);
    tensor(&b, "offset", state ? 3 : 4, state ? (int64_t[]){2, 5, 3} : (int64_t[]){1, 2, 5, 3});
    build_node(&b, "Add", "m offset", "sum");
    linear(&b, "sum", "d", 3, 7);
    linear(&b, "d", "e", 7, 2);
    build_output(&b, "e", state ? 3 : 4);
    check_derived(write_model(&b, "recurrent"), "a.w 8, d.w 7", 1, "GRU");
}

/* ---------------------------------------------------------------- integers that are fed */

/* Token ids, their embeddings, a mask made of ids of the same kind, which may not be taken for the numbers that stand in for it. */
static void check_tokens(void)
{
    Build b = build_begin();
    build_input(&b, "ids", 2, (int64_t[]){-1, -1});
    build_input(&b, "mask", 2, (int64_t[]){-1, -1});
    for (int i = 0; i < 2; i++)
        b.inputs[i]->type->tensor_type->elem_type = ONNX__TENSOR_PROTO__DATA_TYPE__INT64;
    tensor(&b, "table", 2, (int64_t[]){9, 6});
    tensor(&b, "kinds", 2, (int64_t[]){1, 6}); /* a table of one row */
    build_node(&b, "Gather", "table ids", "e");
    build_node(&b, "Gather", "kinds mask", "k");
    build_node(&b, "Add", "e k", "sum");
    build_int(build_node(&b, "Cast", "mask", "as_float"), "to", 1);
    ints(&b, "last", 1, (int64_t[]){2});
    build_node(&b, "Unsqueeze", "as_float last", "column");
    build_node(&b, "Mul", "sum column", "masked");
    linear(&b, "masked", "a", 6, 8);
    build_node(&b, "Relu", "a", "ra");
    linear(&b, "ra", "fc", 8, 3);
    build_output(&b, "fc", 3);
    ints(&b, "one", 1, (int64_t[]){1});
    build_node(&b, "Add", "mask one", "more"); /* as numbers that are made up, none is 0: all that are present are alike, which means nothing */
    build_int(build_node(&b, "Cast", "more", "present"), "to", ONNX__TENSOR_PROTO__DATA_TYPE__BOOL);
    build_int(build_node(&b, "Cast", "present", "features"), "to", ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT);
    linear(&b, "features", "p", 8, 5);
    build_node(&b, "Relu", "p", "rp");
    linear(&b, "rp", "q", 5, 3);
    build_output(&b, "q", 2);
    const char *path = write_model(&b, "tokens");
    check_derived(path, "table 6, a.w 8, p.w 5", 0, "table axis 0: 9, Gather node 'Gather_0': which of them is read depends on an input\n");
    PapaModel *model;
    PapaGroups *groups;
    PapaProof *proof;
    double errors[3];
    CHECK_OK(papa_model_open(&model, path));
    CHECK_OK(papa_groups_derive(&groups, model->onnx, NULL));
    CHECK_OK(papa_proof_open(&proof, model->onnx, &(PapaProofOptions){.seed = 1, .threads = 1}));
    CHECK_OK(papa_proof_groups(errors, proof, groups));
    CHECK(errors[0] < 1e-12 && errors[1] < 1e-12 && errors[2] < 1e-12, "errors of %g, %g, %g", errors[0], errors[1], errors[2]); /* not NaN either */
    papa_proof_close(proof);
    papa_groups_free(groups);
    papa_model_close(model);
}

int main(void)
{
    check_unknown(true);
    check_unknown(false);
    check_captured();
    check_resize(true);
    check_resize(false);
    check_transposed();
    check_blocks_to_depth(true);
    check_blocks_to_depth(false);
    check_reduced(true);
    check_reduced(false);
    check_plain_shapes();
    check_recurrent(true);
    check_recurrent(false);
    check_tokens();
    return check_result();
}
