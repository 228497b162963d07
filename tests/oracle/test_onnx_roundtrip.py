#!/usr/bin/env python3
"""Checks src/onnx against the onnx package and ONNX Runtime.

usage: test_onnx_roundtrip.py [--big]     PAPA_BIN: the folder of onnx_tool
--big also writes and reads a model with more than 2 GiB of external data.
Needs the packages onnx, onnxruntime and numpy."""
import io
import os
import shutil
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import onnx
import onnxruntime as ort
from google.protobuf.message import Message
from onnx import TensorProto, helper, numpy_helper

import onnx_models as models

ort.set_default_logger_severity(4)
checks = failures = 0


def check(condition, what):
    global checks, failures
    checks += 1
    if not condition:
        failures += 1
        print("failed:", what)
    return condition


class Error(Exception):
    pass


class Tool:
    def __init__(self, path):
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.output = io.BufferedReader(self.process.stdout, 1 << 20)

    def close(self):
        """The tool's exit status: a sanitizer's complaint is one, memory that was not freed too."""
        self.process.stdin.close()
        return self.process.wait()

    def __call__(self, *words):
        self.process.stdin.write(("\t".join(map(str, words)) + "\n").encode())
        lines = []
        while True:
            line = self.output.readline()
            if not line:
                raise SystemExit(f"the tool died at {words}")
            line = line.decode(errors="surrogateescape").rstrip("\n")
            if line == "ok":
                return lines
            if line.startswith("error "):
                raise Error(line)
            lines.append(line)


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def tensors_of(message):
    """Every tensor of a message, in the order of field numbers, as the tool has them."""
    if isinstance(message, TensorProto):
        return [message]
    out = []
    for f, value in message.ListFields():
        if f.message_type is not None:
            for m in [value] if isinstance(value, Message) else value:
                out += tensors_of(m)
    return out


def same_array(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def parse(line):
    """One line of the tool's `tensors`: name, type, shape, array (raw bytes for types that it does not convert)."""
    name, kind, dims, data = line.split("\t")
    shape = [int(d) for d in dims.split()]
    data_type = TensorProto.DataType.Value(kind)
    if data_type in models.FLOATS:
        return name, data_type, shape, np.array([float.fromhex(v) if "n" not in v else float(v) for v in data.split()])
    if data_type in models.INTEGERS:
        return name, data_type, shape, [int(v) for v in data.split()]
    return name, data_type, shape, bytes(int(v, 16) for v in data.split())


def check_tensors(tool, model, folder, what):
    """The open model's tensors as the tool reads them against numpy_helper."""
    expected = tensors_of(model)
    found = [parse(line) for line in tool("tensors")]
    check([t.name for t in expected] == [f[0] for f in found], f"{what}: names of tensors")
    for t, (name, data_type, shape, values) in zip(expected, found):
        if t.data_type == TensorProto.STRING:
            continue
        want = numpy_helper.to_array(t, folder)
        label = f"{what}: {name}"
        check(data_type == t.data_type and shape == list(t.dims), label + ": type and shape")
        if data_type in models.FLOATS:
            check(np.array_equal(want.astype(np.float64).ravel(), values, equal_nan=True), label + ": elements")
        elif data_type in models.INTEGERS:
            check([int(v) for v in want.ravel()] == values, label + ": elements")
        else:
            check(numpy_helper.from_array(want).raw_data == values, label + ": raw elements")


def round_trip(tool, data, path, what):
    """Reads and writes: the same bytes. Sets every float to itself, rebuilds every node: the same model."""
    out = path + ".out"
    write(path, data)
    tool("open", path)
    tool("write", out)
    check(read(out) == data, f"{what}: no edit, same bytes")
    a = onnx.ModelProto.FromString(data)
    if any(t.data_type == TensorProto.DOUBLE for t in tensors_of(a)):
        return a # touch goes through float
    tool("touch")
    tool("write", out)
    b = onnx.ModelProto.FromString(read(out))
    same = len(tensors_of(a)) == len(tensors_of(b))
    for s, t in zip(tensors_of(a), tensors_of(b)):
        if s.data_type in models.FLOATS and s != t:
            same &= same_nan(numpy_helper.to_array(s), numpy_helper.to_array(t))
            t.CopyFrom(s)
    check(same and a == b, f"{what}: touched, same model")
    if all(t.HasField("raw_data") for t in tensors_of(a) if t.data_type in models.FLOATS) and \
            not any(np.isnan(numpy_helper.to_array(t).astype(np.float64)).any() for t in tensors_of(a) if t.data_type in models.FLOATS):
        check(read(out) == data, f"{what}: touched raw tensors, same bytes")
    return a


def same_nan(a, b):
    return a.dtype == b.dtype and np.array_equal(a.astype(np.float64), b.astype(np.float64), equal_nan=True)


# ---------------------------------------------------------------- reading and writing

def check_node_models(tool, folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases
        cases = collect_testcases(None)
    data_folder = os.path.join(os.path.dirname(onnx.__file__), "backend/test/data")
    files = [os.path.join(d, f) for d, _, names in os.walk(data_folder) for f in names if f.endswith(".onnx")]
    rng = np.random.default_rng(1)
    data = [(c.name, c.model.SerializeToString()) for c in cases] + [(f, read(f)) for f in files]
    check(len(data) > 1500, "the onnx package's models are there")
    path = os.path.join(folder, "node.onnx")
    for i, (name, d) in enumerate(data):
        if onnx.ModelProto.FromString(d).ir_version < 3:
            continue
        model = round_trip(tool, d, path, name)
        tool("open", path)
        tool("repack")
        tool("write", path + ".out")
        check(onnx.ModelProto.FromString(read(path + ".out")) == model, f"{name}: repacked, same model")
        if i % 4 == 0:
            round_trip(tool, models.shuffled(rng, d), path, name + " shuffled")
            check_tensors(tool, model, folder, name)
    return len(data)


def check_storage(tool, folder):
    rng = np.random.default_rng(2)
    path = os.path.join(folder, "storage.onnx")
    data = models.model_with(models.every_form(rng))
    model = onnx.ModelProto.FromString(data)
    write(path, data)
    tool("open", path)
    check_tensors(tool, model, folder, "every form")
    for part in (models.FLOATS, models.INTEGERS, models.SMALL, models.COMPLEX):
        tensors = [t for t in models.every_form(rng) if onnx.TensorProto.FromString(t).data_type in part]
        if part is models.FLOATS:
            tensors = [t for t in tensors if onnx.TensorProto.FromString(t).data_type != TensorProto.DOUBLE]
        d = models.model_with(tensors)
        round_trip(tool, d, path, "every form of some types")
        round_trip(tool, models.shuffled(rng, d), path, "every form of some types, shuffled")


def check_places(tool, folder):
    """Tensors in attributes, subgraphs, functions, sparse tensors, training information."""
    rng = np.random.default_rng(3)
    make = lambda name, n: numpy_helper.from_array(rng.standard_normal(n).astype(np.float32), name)
    sparse = helper.make_sparse_tensor(make("sparse", 500), numpy_helper.from_array(np.arange(500), "i"), [1000])
    model = models.mlp(rng, ir=10, functions=True, subgraph=True)
    model.graph.sparse_initializer.append(sparse)
    model.functions[0].node.insert(0, helper.make_node("Constant", [], ["k"], value=make("in function", 700)))
    branch = model.graph.node[[n.op_type for n in model.graph.node].index("If")].attribute[0].g
    branch.initializer.append(make("in branch", 900))
    branch.node.insert(0, helper.make_node("Constant", [], ["deep"], sparse_value=sparse))
    node = helper.make_node("Strange", [], ["s"], domain="own")
    node.attribute.append(helper.make_attribute("many", [make("a", 300), make("b", 400)]))
    model.graph.node.append(node)
    info = model.training_info.add()
    info.algorithm.initializer.append(make("learning rates", 600))
    path = os.path.join(folder, "places.onnx")
    data = model.SerializeToString()
    for d in (data, models.shuffled(rng, data), models.shuffled(rng, data)):
        round_trip(tool, d, path, "places")
        check_tensors(tool, model, folder, "places")
        tool("open", path)
        tool("repack")
        tool("touch")
        tool("write", path + ".out")
        check(len(tensors_of(model)) > 12 and strip_unknown(onnx.ModelProto.FromString(read(path + ".out"))).graph.node ==
              model.graph.node, "places: repacked and touched")


def check_external(tool, folder):
    rng = np.random.default_rng(4)
    for split in (True, False):
        source, target = os.path.join(folder, f"from{split}"), os.path.join(folder, f"to{split}")
        os.mkdir(source)
        os.mkdir(target)
        model = models.mlp(rng, hidden=300)
        inline = onnx.ModelProto.FromString(model.SerializeToString())
        path, out = os.path.join(source, "m.onnx"), os.path.join(target, "soup.onnx")
        onnx.save_model(model, path, save_as_external_data=True, all_tensors_to_one_file=split, location="weights.bin" if split else None,
                        size_threshold=100, convert_attribute=True)
        tool("open", path)
        check_tensors(tool, onnx.load(path, load_external_data=False), source, "external")
        tool("set", "b1", "1")
        tool("write", out)
        onnx.checker.check_model(out, full_check=True)
        b = onnx.load(out)
        raw = onnx.load(out, load_external_data=False)
        externals = [t for t in tensors_of(raw) if t.data_location == TensorProto.EXTERNAL]
        check(len(externals) == len([t for t in tensors_of(onnx.load(path, load_external_data=False)) if t.data_location == TensorProto.EXTERNAL]) and
              all({e.key: e.value for e in t.external_data}["location"] == "soup.onnx.data" and
                  int({e.key: e.value for e in t.external_data}["offset"]) % 64 == 0 for t in externals), "external: places")
        for s, t in zip(tensors_of(inline), tensors_of(b)):
            want = np.arange(1, 301, dtype=np.float32) if s.name == "b1" else numpy_helper.to_array(s)
            check(same_array(want, numpy_helper.to_array(t)), f"external: {s.name}")
        x = rng.standard_normal((2, 1, 8, 8)).astype(np.float32)
        run(out, x)
        # over itself: the mapping of what is read stays
        tool("open", out)
        before = [numpy_helper.to_array(t) for t in tensors_of(onnx.load(out))]
        tool("meta", "again", "yes")
        tool("write", out)
        check(all(same_array(a, numpy_helper.to_array(t)) for a, t in zip(before, tensors_of(onnx.load(out)))), "external: over itself")
        check(sorted(os.listdir(target)) == ["soup.onnx", "soup.onnx.data"], "external: nothing else is left")


def check_limit(tool, folder):
    """A model beyond the limit moves its big initializers out; the limit is lowered for the test."""
    rng = np.random.default_rng(5)
    path, out = os.path.join(folder, "limit.onnx"), os.path.join(folder, "limited.onnx")
    model = models.mlp(rng, hidden=300)
    write(path, model.SerializeToString())
    tool("open", path)
    tool("set", "w1", "3")
    tool("add", "unused", "1", "100,100")
    tool("write", out, len(model.SerializeToString()) // 2)
    raw = onnx.load(out, load_external_data=False)
    moved = [t.name for t in raw.graph.initializer if t.data_location == TensorProto.EXTERNAL]
    check(set(moved) >= {"w0", "w1", "w2", "unused"} and "b0" not in moved, "limit: what moves")
    onnx.checker.check_model(out, full_check=True)
    b = onnx.load(out)
    for s, t in zip(model.graph.initializer, b.graph.initializer):
        want = numpy_helper.to_array(s) if s.name != "w1" else (np.arange(32 * 300, dtype=np.float32) + 3).reshape(32, 300)
        check(same_array(want, numpy_helper.to_array(t)), f"limit: {s.name}")
    run(out, rng.standard_normal((2, 1, 8, 8)).astype(np.float32))
    expect_error(tool, ("write", out, 100), "even without its initializers", "limit: too small")


def check_big(tool, folder):
    """More than 2 GiB of external data, in a sparse file."""
    path, size = os.path.join(folder, "big.onnx"), (2 << 30) + 4096
    model = onnx.ModelProto.FromString(models.model_with([]))
    for i, (offset, n) in enumerate(((0, size), (size, 16))):
        t = TensorProto(name=f"big{i}", data_type=TensorProto.UINT8, dims=[n], data_location=TensorProto.EXTERNAL)
        for k, v in (("location", "big.bin"), ("offset", offset), ("length", n)):
            t.external_data.add(key=k, value=str(v))
        model.graph.initializer.append(t)
    with open(os.path.join(folder, "big.bin"), "wb") as f:
        f.truncate(size)
        f.seek(size - 1)
        f.write(b"\x07" + bytes(range(16)))
    write(path, model.SerializeToString())
    tool("open", path)
    tool("write", os.path.join(folder, "big2.onnx"))
    b = onnx.load(os.path.join(folder, "big2.onnx"), load_external_data=False)
    where = [{e.key: e.value for e in t.external_data} for t in b.graph.initializer]
    with open(os.path.join(folder, "big2.onnx.data"), "rb") as f:
        f.seek(int(where[0]["length"]) - 1)
        check(f.read(1) == b"\x07", "big: last byte of the first")
        f.seek(int(where[1]["offset"]))
        check(int(where[1]["offset"]) > 2 ** 31 and f.read(16) == bytes(range(16)), "big: the second")
    os.remove(os.path.join(folder, "big2.onnx.data"))


# ---------------------------------------------------------------- edits

def run(path, x):
    return ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x})


def expect_error(tool, words, text, what):
    try:
        tool(*words)
        check(False, f"{what}: no error")
    except Error as e:
        check(text in str(e), f"{what}: '{text}' is not in '{e}'")


def check_edits(tool, folder):
    rng = np.random.default_rng(6)
    path, out = os.path.join(folder, "edit.onnx"), os.path.join(folder, "edited.onnx")
    x = rng.standard_normal((3, 1, 8, 8)).astype(np.float32)
    for ir in range(3, 15):
        for form in ("raw", "packed", "unpacked", "mixed"):
            model = models.mlp(rng, ir=ir, opset=9 if ir < 7 else 17, form=form, names="a/" if ir % 2 else "")
            n = "a/" if ir % 2 else ""
            data = model.SerializeToString()
            write(path, models.shuffled(rng, data) if ir % 3 == 0 else data)
            tool("open", path)
            tool("set", n + "b1", "0.5")
            tool("add", "extra", "1", "32")
            tool("addint", "numbers", "2,3")
            tool("relu", n + "gemm1")
            tool("remove", n + "b0")
            tool("add", n + "b0", "1", "32")
            tool("rminfo", n + "h0")
            tool("meta", "seed", "11")
            tool("meta", "new", "entry")
            check(tool("unique", "between") == ["between_1"] and tool("unique", "free") == ["free"], "edit: unique names")
            expect_error(tool, ("add", n + "w1", "1", "3"), "exists", "edit: a name twice")
            expect_error(tool, ("remove", "nothing"), "no initializer", "edit: remove nothing")
            tool("write", out)
            want = onnx.ModelProto.FromString(data)
            g = want.graph
            k = [i.name for i in g.node].index(n + "gemm1")
            g.node[k].input[0] = "between"
            g.node.insert(k, helper.make_node("Relu", [n + "r0"], ["between"]))
            array = lambda name, shape, a: TensorProto(name=name, data_type=a, dims=shape, raw_data=(
                np.arange(np.prod(shape)).astype(np.float32) / 2 if a == 1 else np.arange(np.prod(shape))).tobytes())
            new = [array("extra", [32], 1), array("numbers", [2, 3], 7), array(n + "b0", [32], 1)]
            kept = [t for t in g.initializer if t.name != n + "b0"]
            for t in kept:
                if t.name == n + "b1":
                    t.CopyFrom(TensorProto(name=t.name, data_type=1, dims=t.dims, raw_data=(np.arange(64, dtype=np.float32) + .5).tobytes()))
            initializers = kept + new
            del g.initializer[:]
            g.initializer.extend(initializers)
            if ir == 3:
                inputs = [i for i in g.input if i.name != n + "b0"] + [helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in new]
                del g.input[:]
                g.input.extend(inputs)
            infos = [i for i in g.value_info if i.name != n + "h0"]
            del g.value_info[:]
            g.value_info.extend(infos)
            want.metadata_props[0].value = "11"
            want.metadata_props.add(key="new", value="entry")
            got = onnx.ModelProto.FromString(read(out))
            check(strip_unknown(got) == want, f"edit: IR {ir}, {form}")
            if ir <= 12:
                onnx.checker.check_model(got, full_check=True)
                check(np.allclose(run(out, x)[0], ort.InferenceSession(want.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0],
                                  atol=1e-6), "edit: outputs")


def strip_unknown(model):
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    copy.DiscardUnknownFields()
    return copy


def check_types_of_edits(tool, folder):
    """float16, bfloat16 and double are written in their own type, rounded to nearest even."""
    rng = np.random.default_rng(7)
    path, out = os.path.join(folder, "types.onnx"), os.path.join(folder, "types2.onnx")
    for elem in models.FLOATS:
        for form in ("raw", "packed", "unpacked"):
            a = models.values_for(rng, elem, (2000,))
            write(path, models.model_with([models.tensor("t", elem, a, form)]))
            tool("open", path)
            tool("set", "t", "2040.4375")
            tool("write", out)
            t = onnx.load(out).graph.initializer[0]
            want = (np.float32(2040.4375) + np.arange(2000, dtype=np.float32)).astype(helper.tensor_dtype_to_np_dtype(elem))
            check(t.data_type == elem and same_array(numpy_helper.to_array(t), want), f"set: {TensorProto.DataType.Name(elem)}")


# ---------------------------------------------------------------- ensembles

def softmax_of(y):
    y = np.exp(y - y.max(axis=1, keepdims=True))
    return y / y.sum(axis=1, keepdims=True)


def expected_mean(parts, weights, softmax, mean_of_p=False):
    w = np.array(weights, np.float64) / sum(weights)
    parts = [p.astype(np.float64) for p in parts]
    y = sum((softmax_of(p) if mean_of_p else p) * k for p, k in zip(parts, w))
    if mean_of_p:
        return y if softmax == 1 else np.log(y)
    return [lambda a: a, softmax_of, lambda a: np.log(softmax_of(a))][softmax](y)


def with_output(model, name, elem):
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    del copy.graph.output[:]
    copy.graph.output.append(helper.make_tensor_value_info(name, elem, None))
    return copy.SerializeToString()


def check_ensembles(tool, folder):
    rng = np.random.default_rng(8)
    path, out = os.path.join(folder, "member{}.onnx"), os.path.join(folder, "ensemble.onnx")
    n_nodes = {}
    for opset, ir in ((7, 3), (8, 3), (9, 4), (11, 6), (12, 7), (13, 7), (15, 8), (17, 8), (19, 9), (21, 10), (23, 11), (25, 12)):
        for elem in (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16):
            for weights in ([1, 1, 1], [1, 2, .5], [1]):
                for softmax, at, mean_of_p in ((1, "logits", False), (0, "probs", False), (2, "logits", False), (1, "logits", True), (0, "logits", True)):
                    common = 99 if softmax == 1 else None
                    options = dict(ir=ir, opset=opset, elem=elem, functions=ir >= 8 and elem == TensorProto.FLOAT, subgraph=opset >= 13)
                    ms = [models.mlp(rng, shared=np.random.default_rng(common) if common else None, **options) for _ in weights]
                    parts, x = [], rng.standard_normal((4, 1, 8, 8)).astype(helper.tensor_dtype_to_np_dtype(elem))
                    for k, (m, w) in enumerate(zip(ms, weights)):
                        write(path.format(k), m.SerializeToString())
                        tool("open", path.format(k))
                        if k == 1:
                            tool("set", "b1", "0.125")
                        tool("member", at, w)
                        if k == 1:
                            tool_b1(m, elem)
                        parts.append(ort.InferenceSession(with_output(m, at, elem), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0])
                    tool("ensemble", out, "probs", softmax, 1, int(mean_of_p), 2 ** 31 - 1)
                    what = f"ensemble of {len(ms)}, opset {opset}, type {elem}, softmax {softmax}, mean of p {mean_of_p}"
                    e = onnx.load(out)
                    try:
                        onnx.checker.check_model(e, full_check=True)
                        y = run(out, x)[0]
                    except Exception as error:
                        check(False, f"{what}: {error}")
                        continue
                    tolerance = {TensorProto.FLOAT: 1e-5, TensorProto.DOUBLE: 1e-12, TensorProto.FLOAT16: 1e-2}[elem]
                    want = expected_mean(parts, weights, softmax, mean_of_p)
                    check(y.dtype == x.dtype and np.abs(y - want).max() <= tolerance * max(1, np.abs(want).max()), f"{what}: output {np.abs(y - want).max()}")
                    check(e.ir_version == ir and e.opset_import == ms[0].opset_import and [o.name for o in e.graph.output] == ["probs"] and
                          e.graph.output == ms[0].graph.output, f"{what}: header")
                    check({p.key: p.value for p in e.metadata_props} == {"seed": "7", "papa.kind": "ensemble", "papa.members": "some"}, f"{what}: metadata")
                    names = [i.name for i in e.graph.initializer]
                    check(len(set(names)) == len(names), f"{what}: unique initializers")
                    if common and len(ms) == 3:
                        check(sum(n.endswith("/w0") for n in names) == 1 and sum(n.endswith("/w1") for n in names) == 3, f"{what}: shared initializers")
                        ops = [n.op_type for n in e.graph.node]
                        check(ops.count("Flatten") == 1 and ops.count("Relu") == 1 and ops.count("Constant") == 1 and ops.count("MatMul") == 3 and
                              ops.count("Softmax") == (4 if mean_of_p else 1), f"{what}: shared nodes: {ops}")
                    if softmax != 0 and not mean_of_p:
                        check(sum(n.op_type in ("Softmax", "LogSoftmax") for n in e.graph.node) == 1, f"{what}: the members' Softmax is gone")


def tool_b1(model, elem):
    """The edit that the tool made to member 1."""
    for t in model.graph.initializer:
        if t.name == "b1":
            t.CopyFrom(numpy_helper.from_array((np.arange(64, dtype=np.float32) + np.float32(.125)).astype(helper.tensor_dtype_to_np_dtype(elem)), "b1"))


def check_ensemble_corners(tool, folder):
    rng = np.random.default_rng(9)
    path, out = os.path.join(folder, "corner{}.onnx"), os.path.join(folder, "corners.onnx")

    def build(ms, outputs, *options):
        for k, (m, o) in enumerate(zip(ms, outputs)):
            write(path.format(k), m.SerializeToString())
            tool("open", path.format(k))
            tool("member", o, 1)
        tool("ensemble", out, *options)

    def mismatch(change, text, **options):
        a, b = models.mlp(rng, **options), models.mlp(rng, **options)
        change(b)
        try:
            build([a, b], ["logits", "logits"], "probs", 1, 1, 0, 2 ** 31 - 1)
            check(False, f"ensemble: {text}: no error")
        except Error as e:
            check(text in str(e), f"ensemble: '{text}' is not in '{e}'")

    mismatch(lambda m: m.opset_import[0].__setattr__("version", 18), "opset")
    mismatch(lambda m: m.graph.input.append(helper.make_tensor_value_info("z", 1, [1])), "inputs")
    mismatch(lambda m: m.graph.input[0].type.tensor_type.shape.dim[2].__setattr__("dim_value", 9), "input 'x'")
    mismatch(lambda m: m.functions[0].node[0].__setattr__("op_type", "Mul"), "function 'Twice'", functions=True)
    check_raises(lambda: build([models.mlp(rng)], ["nothing"], "probs", 0, 1, 0, 2 ** 31 - 1), "no node has the output")
    check_raises(lambda: build([models.mlp(rng)], ["logits"], "nothing", 0, 1, 0, 2 ** 31 - 1), "no graph output")
    # different architectures, an input named like a prefix, different IR versions
    a, b = models.mlp(rng, hidden=32, ir=7), models.mlp(rng, hidden=48, ir=9)
    for m in (a, b):
        m.graph.input[0].name = "m1/x"
        m.graph.node[0].input[0] = "m1/x"
    build([a, b], ["logits", "logits"], "probs", 1, 1, 0, 2 ** 31 - 1)
    onnx.checker.check_model(out, full_check=True)
    x = rng.standard_normal((2, 1, 8, 8)).astype(np.float32)
    session = ort.InferenceSession(out, providers=["CPUExecutionProvider"])
    want = expected_mean([ort.InferenceSession(with_output(m, "logits", 1), providers=["CPUExecutionProvider"]).run(None, {"m1/x": x})[0] for m in (a, b)], [1, 1], 1)
    check(np.allclose(session.run(None, {"m1/x": x})[0], want, atol=1e-6), "ensemble: prefixes")
    check(onnx.load(out).ir_version == 9, "ensemble: the newer IR version")
    # members with external data, and a limit that moves initializers out
    for external in (True, False):
        ms = [models.mlp(rng, hidden=300) for _ in range(2)]
        want = expected_mean([ort.InferenceSession(with_output(m, "logits", 1), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0] for m in ms], [1, 1], 1)
        for k, m in enumerate(ms):
            onnx.save_model(onnx.ModelProto.FromString(m.SerializeToString()), path.format(k), save_as_external_data=external, location=f"w{k}.bin", size_threshold=100,
                            convert_attribute=True)
            tool("open", path.format(k))
            tool("member", "logits", 1)
        tool("ensemble", out, "probs", 1, 1, 0, 2 ** 31 - 1 if external else 20000)
        onnx.checker.check_model(out, full_check=True)
        check(os.path.exists(out + ".data"), "ensemble: external file")
        check(np.allclose(run(out, x)[0], want, atol=1e-6), "ensemble: external")
        os.remove(out + ".data")
    # random draws are not shared
    m = models.mlp(rng)
    m.graph.node.insert(0, helper.make_node("RandomNormalLike", ["x"], ["noise"], name="noise"))
    m.graph.node.insert(1, helper.make_node("Add", ["x", "noise"], ["noisy"], name="addnoise"))
    m.graph.node[2].input[0] = "noisy"
    build([m, m], ["logits", "logits"], "probs", 0, 1, 0, 2 ** 31 - 1)
    check([n.op_type for n in onnx.load(out).graph.node].count("RandomNormalLike") == 2, "ensemble: random numbers are drawn by each member")


def check_raises(action, text):
    try:
        action()
        check(False, f"no error, '{text}' expected")
    except Error as e:
        check(text in str(e), f"'{text}' is not in '{e}'")


def main():
    tool = Tool(os.path.join(os.environ["PAPA_BIN"], "onnx_tool"))
    # Each write is flushed to the disk, and there are thousands: in memory where that can be.
    folder = tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") and "--big" not in sys.argv else None)
    try:
        for part in (check_storage, check_places, check_external, check_limit, check_edits, check_types_of_edits, check_ensembles,
                     check_ensemble_corners, check_node_models) + ((check_big,) if "--big" in sys.argv else ()):
            part(tool, folder)
            print(f"{part.__name__}: {checks} checks so far, {failures} failed", flush=True)
        check(tool.close() == 0, "the tool's exit status")
    finally:
        shutil.rmtree(folder)
    return 1 if failures or not checks else 0


sys.exit(main())
