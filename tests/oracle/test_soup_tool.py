"""papa-soup without images: every method on small numbers that were worked out by hand, exact means of every float type, networks that are
written otherwise or that nobody understands, ensembles against their members in ONNX Runtime, and what the files say about themselves.

    papa-soup MODEL ... -o OUT
"""
import hashlib
import json
import pathlib
import subprocess
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from common import Checks, relative_error, run
from onnx_models import mlp
from rewrites import rewrite
from test_merge_exact import TYPES, decode, encode_mean, random_bits, write_model

onnxruntime.set_default_logger_severity(3)


def soup(paths, out, *options):
    run("papa-soup", *paths, "-o", out, *options)
    model = onnx.load(out)
    onnx.checker.check_model(str(out), full_check=False)
    return model


def refused(paths, out, *options):
    """The message of a merge that fails; None where it does not. Nothing may be left."""
    try:
        run("papa-soup", *paths, "-o", out, *options)
    except RuntimeError as error:
        return str(error) if not list(out.parent.glob(f"{out.name}*")) else None
    return None


def tensor(model, name="w"):
    return next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == name)


def session_run(model, feeds, **options):
    session = onnxruntime.InferenceSession(model.SerializeToString() if isinstance(model, onnx.ModelProto) else str(model), **options)
    return session.run(None, {i.name: feeds[i.name] for i in session.get_inputs()})


# ---------------------------------------------------------------- by hand

def vector_model(path, values):
    t = numpy_helper.from_array(np.array(values, np.float32), "w")
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [len(values)])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [len(values)])], [t])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


# models, base, options, the result
BY_HAND = [
    ([[4, -2, 8], [2, 2, 0]], None, [], [3, 0, 4]),
    ([[4, -2, 8]], None, [], [4, -2, 8]),
    ([[4, -2, 8], [2, 2, 0]], None, ["--weights", ".25,.75"], [2.5, 1, 2]),
    ([[4, -2, 8], [2, 2, 0]], None, ["--weights", "1,1", "--any-sum"], [6, 0, 8]),
    ([[4, -2, 8], [2, 2, 0]], None, ["--lerp", ".25"], [3.5, -1, 6]),
    ([[4, -2, 8], [2, 2, 0]], None, ["--method", "lerp", "--t", "1.5"], [1, 4, -4]),
    ([[3, 0], [0, 3]], None, ["--slerp", ".5"], [1.5 * 2**.5, 1.5 * 2**.5]),
    ([[6, 0], [0, 2]], None, ["--slerp", "1"], [0, 2]),
    ([[5, 1], [3, 7]], [1, 1], ["--method", "task"], [7, 7]),
    ([[5, 1], [3, 7]], [1, 1], ["--method", "task", "--weights", "1,.5", "--scale", "2"], [11, 7]),
    # differences (8 1 0 -1), (-2 6 1 0): of the first three stay, 1 and -1 being equal in size, of the other -2 and 6; 8 wins against -2
    ([[9, 2, 1, 0], [-1, 7, 2, 1]], [1, 1, 1, 1], ["--method", "ties", "--density", ".5"], [9, 4.5, 1, 0]),
    # all stay: dare with density 1 is task arithmetic, with the election ties
    ([[5, 1], [3, 7]], [1, 1], ["--method", "dare", "--density", "1"], [7, 7]),
    ([[5, -1], [-3, 7]], [1, 1], ["--method", "dare-ties", "--density", "1"], [1, 7]),
    # right angles: the base; the same direction: the mean
    ([[3, 1], [1, 3]], [1, 1], ["--method", "stock"], [1, 1]),
    ([[3, 1], [5, 1]], [1, 1], ["--method", "stock"], [4, 1]),
    ([[5, 9]], [1, 1], ["--method", "wise-ft", "--t", ".25"], [2, 3]),
    ([[8, 0], [0, 8], [4, 4]], None, ["--method", "ema", "--decay", ".5"], [4, 4]),
    ([[16, 0], [0, 8]], None, ["--method", "ema", "--decay", ".75"], [12, 2]),
]


def check_by_hand(checks, folder):
    for i, (models, base, options, expected) in enumerate(BY_HAND):
        paths = [vector_model(folder / f"h{i}-{k}.onnx", m) for k, m in enumerate(models)]
        if base:
            options = options + ["--base", vector_model(folder / f"h{i}-base.onnx", base)]
        got = tensor(soup(paths, folder / f"h{i}.onnx", *options))
        checks.that(np.array_equal(got, np.array(expected, np.float32)), f"{options[:4]}: {models}, base {base}: {got.tolist()}, expected {expected}")


def check_dare(checks, folder):
    """Each difference is dropped or divided by the density; another seed drops others."""
    base, model = vector_model(folder / "d-base.onnx", [1] * 4000), vector_model(folder / "d.onnx", [3] * 4000)
    results = []
    for seed in (1, 1, 2):
        got = tensor(soup([model], folder / "dare.onnx", "--method", "dare", "--density", ".25", "--base", base, "--seed", seed))
        checks.that(set(got.tolist()) == {1.0, 9.0}, "dare: dropped, or 2 / 0.25 added")
        checks.at_most(abs((got == 9).mean() - .25), .04, "dare: the fraction that is kept")
        results.append(got)
    checks.that(np.array_equal(results[0], results[1]) and not np.array_equal(results[0], results[2]), "dare: the seed says which")


# ---------------------------------------------------------------- rounding

def check_types(checks, folder):
    for name in TYPES:
        for n in (1, 3, 10):
            rows = random_bits(np.random.default_rng([n, list(TYPES).index(name)]), name, n, 1000)
            paths = [folder / f"t{k}.onnx" for k in range(n)]
            for path, row in zip(paths, rows):
                write_model(path, name, row)
            model = soup(paths, folder / "t.onnx")
            word = TYPES[name][4]
            got = np.frombuffer(model.graph.initializer[0].raw_data, word)
            sums = [sum(column) for column in zip(*(decode(row, name) for row in rows))]
            width = np.dtype(word).itemsize * 8
            size = [int(g) & ((1 << (width - 1)) - 1) for g in got]
            off = max(abs(s - encode_mean(total, n, name)) for s, total in zip(size, sums))
            checks.at_most(off, name == "DOUBLE" and n > 1, f"{name}: mean of {n}, units in the last place")
            signs = all(int(g) >> (width - 1) == (total < 0) or total == 0 for g, total in zip(got, sums))
            checks.that(signs, f"{name}: mean of {n}, signs")
            checks.that(n > 1 or got.tobytes() == rows[0].tobytes(), f"{name}: a soup of one has its bytes")


# ---------------------------------------------------------------- networks written otherwise

def float_tensors(model):
    return {t.name: numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer if t.data_type == TensorProto.FLOAT}


def average(models):
    """A copy of the first with the mean of all: the same names."""
    out = onnx.ModelProto.FromString(models[0].SerializeToString())
    for t in out.graph.initializer:
        if t.data_type == TensorProto.FLOAT:
            mean = sum(float_tensors(m)[t.name] for m in models) / len(models)
            t.CopyFrom(numpy_helper.from_array(mean.astype(np.float32), t.name))
    return out


def check_written_otherwise(checks, folder):
    rng = np.random.default_rng(3)
    for i in range(12):
        models = [mlp(np.random.default_rng([i, k]), softmax=i % 2 == 0, constants=False, hidden=24) for k in range(3)]
        paths = []
        for k, model in enumerate(models):
            paths.append(folder / f"r{k}.onnx")
            written = rewrite(model, rng)[0] if k else model
            external = k == 2
            onnx.save(written, paths[-1], save_as_external_data=external, location=f"r{k}-{i}.bin", size_threshold=0)
        merged = soup(paths, folder / "r.onnx")
        expected = float_tensors(average(models))
        worst = max(relative_error(v, expected[name]) for name, v in float_tensors(merged).items())
        checks.at_most(worst, 1e-7, f"networks written otherwise, {i}: their mean")
        x = rng.standard_normal((3, 1, 8, 8)).astype(np.float32)
        checks.at_most(relative_error(session_run(merged, {"x": x})[0], session_run(average(models), {"x": x})[0]), 1e-6, f"{i}: it runs")
        checks.that([t.name for t in merged.graph.initializer] == [t.name for t in models[0].graph.initializer], f"{i}: the first one's names")
        # the first one is what decides; the other way round its rewrite must come out
        back = soup([paths[1], paths[0], paths[2]], folder / "r.onnx")
        feed = {session_input(back): x}
        checks.at_most(relative_error(session_run(back, feed)[0], session_run(average(models), {"x": x})[0]), 1e-5, f"{i}: the same network from a rewrite of the first")


def session_input(model):
    initializers = {t.name for t in model.graph.initializer}
    return next(i.name for i in model.graph.input if i.name not in initializers)


# ---------------------------------------------------------------- what nobody understands

def odd_model(path, seed, weight=None):
    """An unknown operator, an If, a Loop, a function with a Constant, a sparse initializer, an attribute that is a tensor."""
    rng = np.random.default_rng(seed)
    new = lambda name, *shape: numpy_helper.from_array(rng.integers(-8, 8, shape).astype(np.float32), name)
    value = lambda name, *shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))
    sparse = helper.make_sparse_tensor(new("sp", 3), helper.make_tensor("sp_i", TensorProto.INT64, [3], [0, 2, 3]), [4])
    branch = lambda name: helper.make_graph([helper.make_node("Add", ["h", f"{name}_w"], [f"{name}_y"])], name, [], [value(f"{name}_y", 4)], [new(f"{name}_w", 4)])
    body = helper.make_graph([helper.make_node("Add", ["s_in", "loop_w"], ["s_out"]), helper.make_node("Identity", ["c_in"], ["c_out"])], "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []), helper.make_tensor_value_info("c_in", TensorProto.BOOL, []), value("s_in", 4)],
        [helper.make_tensor_value_info("c_out", TensorProto.BOOL, []), value("s_out", 4)], [new("loop_w", 4)])
    function = helper.make_function("own", "Shift", ["a"], ["b"], [helper.make_node("Constant", [], ["f"], value=new("", 4)), helper.make_node("Add", ["a", "f"], ["b"])],
        [helper.make_opsetid("", 17)])
    nodes = [helper.make_node("Add", ["x", "w"], ["h"]), helper.make_node("If", ["yes"], ["h1"], then_branch=branch("then"), else_branch=branch("else")),
        helper.make_node("Loop", ["trips", "yes", "h1"], ["h2"], body=body), helper.make_node("Shift", ["h2"], ["h3"], domain="own"),
        helper.make_node("Add", ["h3", "sp"], ["h4"]), helper.make_node("Constant", [], ["c"], value_floats=[1.0, 2.0, 3.0, 4.0]),
        helper.make_node("Add", ["h4", "c"], ["h5"]), helper.make_node("Identity", ["h5"], ["y"])]
    nodes.insert(7, helper.make_node("Strange", ["h5", "w"], ["z"], domain="com.example", table=new("", 5)))
    graph = helper.make_graph(nodes, "g", [value("x", 4)], [value("y", 4), value("z", 4)], [new("w", 4), helper.make_tensor("yes", TensorProto.BOOL, [], [True]),
        helper.make_tensor("trips", TensorProto.INT64, [], [2])], sparse_initializer=[sparse])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1), helper.make_opsetid("com.example", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=[function])
    onnx.save(model, path)
    return model


def all_floats(message):
    """Every float tensor wherever it stands, in the order of the file."""
    if isinstance(message, TensorProto):
        return [numpy_helper.to_array(message)] if message.data_type == TensorProto.FLOAT else []
    found = []
    for descriptor, content in message.ListFields():
        if descriptor.message_type is not None:
            for part in [content] if hasattr(content, "ListFields") else content:
                found += all_floats(part)
    return found


def check_odd(checks, folder):
    paths = [folder / f"o{k}.onnx" for k in range(3)]
    models = [odd_model(path, k) for k, path in enumerate(paths)]
    merged = onnx.load(run_soup(paths, folder / "o.onnx"))
    floats = [all_floats(m) for m in models]
    got = all_floats(merged)
    checks.that(len(got) == len(floats[0]) == 7, f"tensors in all corners: {len(got)}")
    worst = max(relative_error(g, np.mean([f[i].astype(np.float64) for f in floats], axis=0)) for i, g in enumerate(got))
    checks.at_most(worst, 1e-7, "unknown operators, subgraphs, functions, sparse tensors, attributes: the mean")
    strip = lambda m: [(n.op_type, n.name, list(n.input), list(n.output)) for n in m.graph.node]
    checks.that(strip(merged) == strip(models[0]), "the graph is the first one's")
    for m in (merged, *models): # without the operator that ONNX Runtime lacks
        del m.graph.node[7]
        m.graph.node[-1].input[0] = "h5"
        del m.graph.output[1]
    onnx.checker.check_model(merged)
    x = np.arange(4, dtype=np.float32)
    ours = session_run(merged, {"x": x})[0]
    theirs = np.mean([session_run(m, {"x": x})[0] for m in models], axis=0) # the network is a sum
    checks.at_most(relative_error(ours, theirs), 1e-6, "it runs, and gives the mean")
    # numbers of a Constant that are no tensor are not merged
    other = onnx.load(paths[1])
    next(n for n in other.graph.node if n.op_type == "Constant").attribute[0].floats[2] = 7
    onnx.save(other, folder / "o-other.onnx")
    message = refused([paths[0], folder / "o-other.onnx"], folder / "no.onnx")
    checks.that(message and "Constant 'c' has its numbers in an attribute" in message, f"value_floats that differ: {message}")
    # where they are a tensor in the first, they are
    first = onnx.load(paths[0])
    constant = next(n for n in first.graph.node if n.op_type == "Constant")
    del constant.attribute[:]
    constant.attribute.append(helper.make_attribute("value", numpy_helper.from_array(np.array([1, 2, 3, 4], np.float32), "")))
    onnx.save(first, folder / "o-first.onnx")
    merged = onnx.load(run_soup([folder / "o-first.onnx", folder / "o-other.onnx"], folder / "o.onnx"))
    got = numpy_helper.to_array(next(n for n in merged.graph.node if n.op_type == "Constant").attribute[0].t)
    checks.that(got.tolist() == [1, 2, 5, 4], f"a tensor with a Constant's value_floats: {got.tolist()}")


def run_soup(paths, out, *options):
    run("papa-soup", *paths, "-o", out, *options)
    return out


# ---------------------------------------------------------------- ensembles

def softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def check_ensembles(checks, folder):
    x = np.random.default_rng(5).standard_normal((4, 1, 8, 8)).astype(np.float32)
    for n in range(2, 11):
        with_softmax = n % 2 == 0
        models = [mlp(np.random.default_rng([n, k]), softmax=with_softmax, hidden=16, shared=np.random.default_rng(n), functions=n == 5, subgraph=n == 7) for k in range(n)]
        paths = [folder / f"e{k}.onnx" for k in range(n)]
        for path, model in zip(paths, models):
            onnx.save(model, path)
        weights = np.random.default_rng(n).integers(1, 9, n) / 1.0
        weights /= weights.sum()
        said = ["--weights", ",".join(repr(float(w)) for w in weights)]
        outputs = np.array([session_run(m, {"x": x})[0] for m in models], np.float64)
        logits = np.log(outputs) if with_softmax else outputs
        for options, w in (([], np.full(n, 1 / n)), (said, weights)):
            mean = np.tensordot(w, logits, 1)
            got = session_run(soup(paths, folder / "e.onnx", "--ensemble", *options), {"x": x})[0]
            checks.at_most(relative_error(got, softmax(mean) if with_softmax else mean), 1e-5, f"ensemble of {n}, logits {options[:1]}")
            mean = np.tensordot(w, np.array([softmax(l) for l in logits]), 1)
            got = session_run(soup(paths, folder / "e.onnx", "--ensemble", "--average", "probabilities", *options), {"x": x})[0]
            checks.at_most(relative_error(got, mean if with_softmax else np.log(mean)), 1e-5, f"ensemble of {n}, probabilities {options[:1]}")
        both = onnx.load(folder / "e.onnx")
        shared = sum(t.name.endswith("w0") for t in both.graph.initializer)
        checks.that(shared == 1, f"ensemble of {n}: what members share is stored once, not {shared} times")


def linear(name, seed, outputs=1, classes=3, output="y"):
    rng = np.random.default_rng(seed)
    names = [f"{output}{i or ''}" for i in range(outputs)]
    tensors = [numpy_helper.from_array(rng.standard_normal((5, classes)).astype(np.float32), f"w{i}") for i in range(outputs)]
    nodes = [helper.make_node("MatMul", [name, f"w{i}"], [o]) for i, o in enumerate(names)]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 5])],
        [helper.make_tensor_value_info(o, TensorProto.FLOAT, ["N", classes]) for o in names], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def softmax_ended(name, seed):
    model = linear(name, seed)
    model.graph.node[0].output[0] = "h"
    model.graph.node.append(helper.make_node("Softmax", ["h"], ["y"], axis=1))
    return model


def check_odd_ensembles(checks, folder):
    save = lambda name, model: (onnx.save(model, folder / name), folder / name)[1]
    a, b, out = save("la.onnx", linear("x", 1)), save("lb.onnx", linear("x", 2)), folder / "l.onnx"
    message = refused([a, save("lc.onnx", linear("image", 3))], out, "--ensemble")
    checks.that(message and "lc.onnx has an input 'image', " in message, f"inputs of other names: {message}")
    feeds = {"x": np.random.default_rng(1).standard_normal((2, 5)).astype(np.float32)}
    answer = lambda path, k=0: session_run(onnx.load(path), feeds)[k]
    got = session_run(soup([a, save("ly.onnx", linear("x", 4, output="other"))], out, "--ensemble"), feeds)[0]
    checks.at_most(relative_error(got, (answer(a) + answer(folder / "ly.onnx")) / 2), 1e-6, "an output of another name, the only one")
    out.unlink()
    two = [save(f"l2{k}.onnx", linear("x", k, outputs=2)) for k in range(2)]
    message = refused(two, out, "--ensemble")
    checks.that(message and "which one is to be averaged" in message and "'y', 'y1'" in message, f"two outputs: {message}")
    got = session_run(soup(two, out, "--ensemble", "--output", "y1"), feeds)
    checks.that(len(got) == 1, "one output is left")
    checks.at_most(relative_error(got[0], (answer(two[0], 1) + answer(two[1], 1)) / 2), 1e-6, "the second output")
    out.unlink()
    deep = [helper.make_node("MatMul", ["x", "w0"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    other = linear("x", 6)
    del other.graph.node[:]
    other.graph.node.extend(deep)
    got = session_run(soup([a, save("lo.onnx", other)], out, "--ensemble"), feeds)[0]
    checks.at_most(relative_error(got, (answer(a) + answer(folder / "lo.onnx")) / 2), 1e-6, "other networks, one ensemble")
    out.unlink()
    message = refused([a, save("lm.onnx", softmax_ended("x", 7))], out, "--ensemble")
    checks.that(message and "output 'y' is made by no softmax; " in message and "'y' by a Softmax, and one" in message, f"scores beside probabilities: {message}")
    # an operator that ONNX Runtime lacks goes through; the output itself is averaged
    for k, path in enumerate((a, b)):
        model = onnx.load(path)
        model.graph.node[0].output[0] = "h"
        model.graph.node.append(helper.make_node("Strange", ["h"], ["y"], domain="com.example"))
        model.opset_import.append(helper.make_opsetid("com.example", 1))
        onnx.save(model, folder / f"ls{k}.onnx")
    run_soup([folder / "ls0.onnx", folder / "ls1.onnx"], out, "--ensemble")
    types = [n.op_type for n in onnx.load(out).graph.node]
    checks.that(types.count("Strange") == 2 and types.count("Sum") == 1, f"an ensemble of unknown operators: {types}")


# ---------------------------------------------------------------- metadata

def properties(model):
    return {p.key: p.value for p in model.metadata_props}


def hash_of(path):
    """As xxh128sum has it, where this machine has that program."""
    try:
        return subprocess.run(["xxh128sum", path], capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError):
        return None


def check_metadata(checks, folder):
    paths = [folder / name for name in ("eins \"1\".onnx", "zwei.onnx", "base.onnx")]
    for k, path in enumerate(paths):
        model = mlp(np.random.default_rng(k), hidden=16)
        helper.set_model_props(model, {"seed": "7", "papa.kind": "member", "papa.steps": "9", "papa.normalization.mean": "0.5", "papa.normalization.std": "0.25", "author": "me"})
        onnx.save(model, path)
    p = properties(soup(paths[:2], folder / "m.onnx", "--weights", ".25,.75"))
    checks.that(p["papa.kind"] == "soup" and p["papa.method"] == "weights", f"kind and method: {p}")
    checks.that("papa.steps" not in p and p["seed"] == "7" and p["author"] == "me" and p["papa.normalization.mean"] == "0.5", "stale entries go, others stay")
    made = json.loads(p["papa.ingredients"])
    checks.that([m["file"] for m in made] == [path.name for path in paths[:2]] and [m["weight"] for m in made] == [.25, .75], f"ingredients: {made}")
    for m, path in zip(made, paths):
        expected = hash_of(path)
        checks.that(len(m["xxh3"]) == 32 and (expected is None or m["xxh3"] == expected), f"hash {m['xxh3']}, xxh128sum says {expected}")
    checks.that(made[0]["xxh3"] != made[1]["xxh3"], "other files have other hashes")
    p = properties(soup(paths[:2], folder / "m.onnx", "--method", "ties", "--density", ".3", "--base", paths[2]))
    made = json.loads(p["papa.ingredients"])
    checks.that(p["papa.method"] == "ties" and p["papa.options"] == "scale=1,density=0.3", f"options: {p}")
    checks.that([m.get("role") for m in made] == [None, None, "base"] and not any("weight" in m for m in made), f"a base: {made}")
    p = properties(soup(paths[:2], folder / "m.onnx", "--ensemble"))
    checks.that(p["papa.kind"] == "ensemble" and p["papa.ensemble"] == "logits" and "papa.steps" not in p and len(json.loads(p["papa.ingredients"])) == 2, f"ensemble: {p}")
    first = (folder / "m.onnx").read_bytes()
    soup(paths[:2], folder / "m.onnx", "--ensemble")
    checks.that((folder / "m.onnx").read_bytes() == first, "the same again, to the byte")


# ---------------------------------------------------------------- external data, opsets

def check_files(checks, folder):
    rng = np.random.default_rng(1)
    models = [mlp(np.random.default_rng(k), opset=17 if k else 15, hidden=16, ir=8 if k else 7) for k in range(2)]
    paths = [folder / f"x{k}.onnx" for k in range(2)]
    for k, (path, model) in enumerate(zip(paths, models)):
        onnx.save(onnx.ModelProto.FromString(model.SerializeToString()), path, save_as_external_data=k == 0, location="x0.bin", size_threshold=0)
    merged = soup(paths, folder / "x.onnx")
    worst = max(relative_error(v, float_tensors(average(models))[name]) for name, v in float_tensors(merged).items())
    checks.at_most(worst, 1e-7, "external data and another opset: the mean")
    checks.that((merged.opset_import[0].version, merged.ir_version) == (15, 7) and (folder / "x.onnx.data").exists(), "opset, IR and external data as in the first")
    x = rng.standard_normal((2, 1, 8, 8)).astype(np.float32)
    checks.at_most(relative_error(session_run(folder / "x.onnx", {"x": x})[0], session_run(average(models), {"x": x})[0]), 1e-6, "it runs")
    one = soup(paths[:1], folder / "one.onnx")
    same = [numpy_helper.to_array(a).tobytes() == numpy_helper.to_array(b).tobytes() for a, b in zip(one.graph.initializer, models[0].graph.initializer)]
    checks.that(all(same), "a soup of one network has its initializers' bytes")


def main():
    checks = Checks()
    with tempfile.TemporaryDirectory(prefix="papa-soup-") as name:
        folder = pathlib.Path(name)
        for check in (check_by_hand, check_dare, check_types, check_written_otherwise, check_odd, check_ensembles, check_odd_ensembles, check_metadata, check_files):
            check(checks, folder)
    checks.finish()


if __name__ == "__main__":
    main()
