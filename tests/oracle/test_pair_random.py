"""Pairing of networks that are written in two ways (rewrites.py), both ways round.

1. Random networks (random_graphs.py), networks with interchangeable branches, with subgraphs and with functions: each tensor's counterpart
   holds the same numbers, transposed where it says so. Where a counterpart holds others, the tensors must be interchangeable: the rewritten file
   with all numbers carried over along the pairing gives ONNX Runtime the original's outputs.
2. Where names are kept, interchangeable tensors too are paired by name.
3. Changed in one place, they don't pair, and the message names the node in both files.
"""
import copy
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from common import Checks
from onnx_models import mlp
from random_graphs import Network, needed_tensors
from rewrites import attribute, rewrite, set_attribute

N_RANDOM, N_BRANCHES, N_OTHER = 150, 40, 20


def pair_all(files):
    """The helper's answer for each pair of files: (pairs, None) or (None, message)."""
    done = subprocess.run([pathlib.Path(os.environ["PAPA_BIN"]) / "pair_models"], input="".join(f"{a} {b}\n" for a, b in files), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"pair_models: exit status {done.returncode}: {done.stderr}")
    lines, answers = iter(done.stdout.splitlines()), []
    for line in lines:
        if line.startswith("failed: "):
            answers.append((None, line[8:]))
        else:
            rows = [next(lines).split("\t") for _ in range(int(line.split()[1]))]
            answers.append(({a: (b, transposed == "1") for a, b, transposed in rows}, None))
    assert len(answers) == len(files), f"{len(answers)} answers to {len(files)} questions"
    return answers


# ---------------------------------------------------------------- networks

def branches(rng, opset=17):
    """Equal branches beside one another, some with a shared weight, some joined by Sum, some by Concat; rank 2."""
    init, nodes, n = [], [], [0]

    def tensor(*shape):
        init.append(numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32) / 3, f"w{len(init)}"))
        return init[-1].name

    def node(op, inputs, **attributes):
        n[0] += 1
        nodes.append(helper.make_node(op, inputs, [f"h{n[0]}"], name=f"node{n[0]}", **attributes))
        return nodes[-1].output[0]

    x = "x"
    for _ in range(rng.integers(1, 4)):
        width, shared = int(rng.integers(2, 6)), tensor(8, 8)
        ties = [shared if rng.random() < .3 else None for _ in range(width)]
        parts = []
        for tie in ties:
            y = node("Gemm", [x, tie or tensor(8, 8), tensor(8)])
            for _ in range(rng.integers(0, 2) if rng.random() < .3 else 1):
                y = node("Relu", [node("MatMul", [y, tensor(8, 8)])])
            parts.append(y)
        x = node("Sum", parts) if rng.random() < .7 else node("MatMul", [node("Concat", parts, axis=1), tensor(8 * width, 8)])
    graph = helper.make_graph(nodes, "branches", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 8])],
                              [helper.make_tensor_value_info(x, TensorProto.FLOAT, None)], init)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def cases():
    opsets = [9, 11, 13, 17, 18, 21]
    for seed in range(N_RANDOM):
        network = Network(seed, opsets[seed % len(opsets)])
        yield f"random {seed}", network.build(), network.inputs
    for seed in range(N_BRANCHES):
        rng = np.random.default_rng(1000 + seed)
        yield f"branches {seed}", branches(rng), {"x": rng.standard_normal((3, 8)).astype(np.float32)}
    for seed in range(N_OTHER):
        rng = np.random.default_rng(2000 + seed)
        model = mlp(rng, subgraph=seed % 2 == 0, functions=seed % 3 == 0, softmax=seed % 4 == 0)
        yield f"mlp {seed}", model, {"x": rng.standard_normal((2, 1, 8, 8)).astype(np.float32)}


# ---------------------------------------------------------------- what holds of a pairing

def tensors(model):
    found = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            value = helper.get_attribute_value(node.attribute[0])
            found[node.output[0]] = numpy_helper.to_array(value) if isinstance(value, TensorProto) else \
                np.array(value, np.float32 if node.attribute[0].name.startswith("value_float") else np.int64)
    return found


def outputs(model, inputs):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip([i.name for i in session.get_inputs()], inputs.values())))


def carry_over(a, b, pairs):
    """b with a's numbers."""
    result, numbers = copy.deepcopy(b), tensors(a)
    new = {to: numbers[old].T if transposed else numbers[old] for old, (to, transposed) in pairs.items() if to and old in numbers}
    for tensor in result.graph.initializer:
        if tensor.name in new:
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(new[tensor.name]).reshape(tensor.dims), tensor.name))
    for node in result.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value" and node.output[0] in new:
            node.attribute[0].t.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(new[node.output[0]])))
    return result


def check_pairing(checks, text, a, b, inputs, pairs):
    """Returns how many tensors have a counterpart with other numbers."""
    left, right = tensors(a), tensors(b)
    exempt = {name for n in a.graph.node if n.op_type in ("Reshape", "ReduceMean", "Dropout") for name in n.input[1:]}
    live = needed_tensors(a, [v.name for v in a.graph.output]) | {name for n in a.graph.node for at in n.attribute for m in at.g.node for name in m.input}
    swapped = 0
    for name, array in left.items():
        to, transposed = pairs[name]
        if not to:
            checks.that(name not in live or name in exempt or reaches_only(a, name, exempt), f"{text}: tensor {name} has no counterpart")
            continue
        other = right[to].T if transposed else right[to]
        if checks.that(array.shape == other.shape and array.dtype == other.dtype, f"{text}: {name} {array.shape} is paired with {to} {other.shape}"):
            swapped += not np.array_equal(array, other)
    if swapped:
        for ours, theirs in zip(outputs(carry_over(a, b, pairs), inputs), outputs(a, inputs)):
            checks.that(np.allclose(ours, theirs, 1e-3, 1e-5), f"{text}: {swapped} tensors are paired with others that they can't stand for")
    return swapped


def reaches_only(model, name, exempt):
    """Whether a tensor is only read through Identity, as an exempt input."""
    names = {name}
    for node in model.graph.node:
        if node.op_type == "Identity" and node.input[0] in names:
            names.add(node.output[0])
    return bool(names & exempt)


# ---------------------------------------------------------------- differences

def change(model, rng, live):
    """Changes one live node; returns its name, or None where there is nothing to change."""
    nodes = [n for n in model.graph.node if n.name and set(n.output) & live]
    for i in rng.permutation(len(nodes)):
        node = nodes[i]
        if node.op_type == "Relu":
            node.op_type = "Tanh"
        elif node.op_type == "LeakyRelu":
            set_attribute(node, "alpha", .125)
        elif node.op_type in ("Conv", "MaxPool", "AveragePool") and attribute(node, "strides"):
            set_attribute(node, "strides", [s + 1 for s in attribute(node, "strides")])
        elif node.op_type in ("Softmax", "LogSoftmax", "Concat", "Gather") and attribute(node, "axis") is not None and len(node.input) > (node.op_type == "Concat"):
            set_attribute(node, "axis", attribute(node, "axis") + 1)
        elif node.op_type == "BatchNormalization":
            set_attribute(node, "epsilon", .25)
        elif node.op_type == "Transpose" and len(attribute(node, "perm", [])) > 2:
            set_attribute(node, "perm", attribute(node, "perm")[1:] + attribute(node, "perm")[:1])
        elif node.op_type in ("Sigmoid", "Tanh", "Exp"):
            node.op_type = "Abs"
        else:
            continue
        return node.name
    return None


def check_difference(checks, text, a, changed, nodes, message):
    """The message names the changed node, and in the other file the node it was or one that does the same with the same."""
    if not checks.that(message is not None, f"{text}: paired, though {changed} was changed"):
        return
    original = next(n for n in a.graph.node if nodes.get(n.name) == changed)
    likes = {n.name for n in a.graph.node if n.op_type == original.op_type}
    checks.that(f"'{changed}'" in message, f"{text}: {changed} was changed, but: {message}")
    checks.that(any(f"'{name}'" in message for name in likes), f"{text}: {changed} was {original.name}, but: {message}")


# ---------------------------------------------------------------- all of them

def main():
    checks, files, tasks = Checks(), [], []
    with tempfile.TemporaryDirectory() as root:
        def save(model):
            path = pathlib.Path(root) / f"{len(list(pathlib.Path(root).iterdir()))}.onnx"
            onnx.save(model, path)
            return path
        for k, (text, a, inputs) in enumerate(cases()):
            rng = np.random.default_rng(k)
            b, where, nodes = rewrite(a, rng)
            named, kept, _ = rewrite(a, rng, renames=False)
            broken = copy.deepcopy(b)
            changed = change(broken, rng, needed_tensors(broken, [v.name for v in broken.graph.output]))
            path = save(a)
            tasks.append((text, a, b, inputs, where, named, kept, broken, changed, nodes))
            files += [(path, save(b)), (save(b), path), (path, save(named)), (path, save(broken))]
        answers = iter(pair_all(files))
        swapped = n_changed = 0
        for text, a, b, inputs, where, named, kept, broken, changed, nodes in tasks:
            for what, x, y in (("", a, b), (", the other way round", b, a), (", names kept", a, named)):
                pairs, message = next(answers)
                if checks.that(pairs is not None, f"{text}{what}: {message}"):
                    swapped += check_pairing(checks, text + what, x, y, inputs, pairs)
                    if y is named:
                        check_names(checks, text + what, a, pairs, kept)
            _, message = next(answers)
            if changed:
                n_changed += 1
                check_difference(checks, text, a, changed, nodes, message)
        checks.that(n_changed > len(tasks) / 2, f"only {n_changed} networks were changed")
        print(f"{len(tasks)} networks; {swapped} pairs of interchangeable tensors; {n_changed} changed")
    checks.finish()


def check_names(checks, text, a, pairs, kept):
    sizes = {name: array.size for name, array in tensors(a).items() if array.dtype.kind == "f"}
    for name, (to, transposed) in pairs.items():
        if to and sizes.get(name, 1) > 1:
            checks.that((to, transposed) == kept[name], f"{text}: {name} is paired with {to, transposed}, {kept[name]} expected")


if __name__ == "__main__":
    main()
