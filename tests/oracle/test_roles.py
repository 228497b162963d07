"""Which tensors of a file are trained, and as what.

list_tensors MODEL [TRAIN [FREEZE]] prints a line per tensor of the table: name, shape, role, and "trained", "frozen" or "statistic".
What is no layer's (a bound, a constant of the architecture, preprocessing, a shape) must not be in the table at all.
"""
import os
import pathlib
import re
import subprocess
import tempfile

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from common import Checks, run

FOLDER = pathlib.Path(tempfile.mkdtemp(prefix="papa-roles-"))
DTYPES = {TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16, TensorProto.DOUBLE: np.float64}


class Model:
    """A classifier of (N, 3, 8, 8) images; tensors are listed where a node first reads them."""

    def __init__(self, elem=TensorProto.FLOAT, opset=17):
        self.elem, self.opset = elem, opset
        self.nodes, self.initializers = [], []
        self.rng = np.random.default_rng(0)

    def tensor(self, name, *shape, integers=None, as_constant=False):
        if integers is not None:
            tensor = numpy_helper.from_array(np.array(integers, np.int64), name)
        else:
            array = (1 + self.rng.random(shape)).astype(np.float32)
            tensor = helper.make_tensor(name, self.elem, shape, array.ravel()) if self.elem == TensorProto.BFLOAT16 else \
                numpy_helper.from_array(array.astype(DTYPES[self.elem]), name)
        if as_constant:
            self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        else:
            self.initializers.append(tensor)
        return name

    def op(self, op_type, *inputs, out=None, **attributes):
        out = out or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, list(inputs), out if isinstance(out, list) else [out], **attributes))
        return out

    def conv(self, x, name, c_in, c_out, **how):
        return self.op("Conv", x, self.tensor(f"{name}.w", c_out, c_in, 3, 3, **how), self.tensor(f"{name}.b", c_out, **how))

    def head(self, x, channels, out="y"):
        """Global average, Flatten, MatMul and Add."""
        x = self.op("Flatten", self.op("GlobalAveragePool", x))
        x = self.op("MatMul", x, self.tensor(f"{out}.w", channels, 10))
        return self.op("Add", x, self.tensor(f"{out}.b", 10), out=out)

    def write(self, outputs=("y",), check=True):
        info = helper.make_tensor_value_info
        graph = helper.make_graph(self.nodes, "roles", [info("x", self.elem, ["N", 3, 8, 8])],
                                  [info(y, self.elem, ["N", 10]) for y in outputs], self.initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)
        if check:
            onnx.checker.check_model(model, full_check=True)
        path = FOLDER / "model.onnx"
        onnx.save(model, path)
        return path


HEAD = {"y.w": "weight", "y.b": "bias"}


def listed(path, *patterns):
    """name -> (role, state)."""
    out = {}
    for line in run("list_tensors", path, *patterns).splitlines():
        name, role, state = re.fullmatch(r"(\S+) +\(.*?\) +([\w ]*\w) +(\w+)(?:: .+)?", line).groups()
        out[name] = role, state
    return out


def check(checks, what, path, trained, statistics=None, frozen=None, patterns=()):
    """Each of trained, statistics, frozen: name -> role."""
    states = {"trained": trained, "statistic": statistics or {}, "frozen": frozen or {}}
    expected = {(name, (role, state)) for state, tensors in states.items() for name, role in tensors.items()}
    got = set(listed(path, *patterns).items())
    checks.that(got == expected, f"{what}: lists {sorted(got - expected)}, expected {sorted(expected - got)}")


def refused(checks, what, path, text, *patterns):
    try:
        checks.that(False, f"{what}: lists {listed(path, *patterns)}, expected a refusal")
    except RuntimeError as error:
        checks.that(text in str(error), f"{what}: says {error}, expected {text}")


def check_operators(checks):
    """All that is read beside activations, in one network."""
    m = Model()
    x = m.op("Div", m.op("Sub", "x", m.tensor("mean", 1, 3, 1, 1)), m.tensor("std", 1, 3, 1, 1))
    x = m.op("Add", m.op("Mul", x, m.tensor("gain", 3, 1, 1)), m.tensor("offset", 3, 1, 1))
    x = m.op("Pad", x, m.tensor("pads", integers=[0, 0, 1, 1, 0, 0, 1, 1]), m.tensor("fill"))
    x = m.conv(x, "conv", 3, 4)
    x = m.op("BatchNormalization", x, *[m.tensor(f"bn.{s}", 4) for s in ("scale", "shift", "mean", "var")])
    x = m.op("Clip", x, m.tensor("low"), m.tensor("high"))
    x = m.op("Add", x, m.tensor("added", 4, 1, 1))
    x = m.op("Sub", x, m.tensor("taken", 1, 4, 1, 1))
    x = m.op("Sub", m.tensor("from", 4, 1, 1), x)
    x = m.op("Mul", m.tensor("layer_scale", 4, 1, 1), x)
    x = m.op("Mul", x, m.tensor("attention_scale"))
    x = m.op("Add", x, m.tensor("epsilon", 1))
    x = m.op("Div", x, m.tensor("divisor", 4, 1, 1))
    x = m.op("Dropout", x, m.tensor("ratio"))
    x = m.op("Reshape", x, m.tensor("target", integers=[0, 4, 8, 8]))
    x = m.op("Conv", x, m.tensor("plain.w", 6, 4, 1, 1), m.op("Expand", m.tensor("no_bias"), m.tensor("six", integers=[6])))
    x = m.op("Reshape", m.op("GlobalAveragePool", x), m.tensor("flat", integers=[0, -1]))
    x = m.op("Relu", m.op("Gemm", x, m.tensor("gemm.w", 6, 5), m.tensor("gemm.b", 5)))
    x = m.op("Gemm", x, m.tensor("narrow.w", 5, 7))
    x = m.op("Add", m.op("MatMul", x, m.tensor("y.w", 7, 10)), m.tensor("y.b", 10))
    m.op("Softmax", x, out="y")
    check(checks, "operators", m.write(check=False),  # float32's checker wants Dropout's ratio in [0, 1)
          {"conv.w": "weight", "conv.b": "bias", "bn.scale": "scale", "bn.shift": "shift", "added": "bias", "taken": "shift", "layer_scale": "scale",
           "plain.w": "weight", "gemm.w": "weight", "gemm.b": "bias", "narrow.w": "weight", **HEAD},
          {"bn.mean": "running mean", "bn.var": "running variance"})


def check_types(checks):
    for elem in (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE):
        m = Model(elem, opset=22)
        x = m.op("BatchNormalization", m.conv("x", "conv", 3, 4), *[m.tensor(f"bn.{s}", 4) for s in ("scale", "shift", "mean", "var")])
        m.head(x, 4)
        check(checks, f"type {elem}", m.write(), {"conv.w": "weight", "conv.b": "bias", "bn.scale": "scale", "bn.shift": "shift", **HEAD},
              {"bn.mean": "running mean", "bn.var": "running variance"})


def check_storage(checks):
    """Constant nodes, tensors that are moved, cut, cast or shared before a layer reads them."""
    m = Model()
    x = m.conv("x", "constant", 3, 4, as_constant=True)
    moved = m.op("Reshape", m.op("Transpose", m.tensor("moved", 9, 4, 4), perm=[1, 2, 0]), m.tensor("shape", integers=[4, 4, 3, 3]))
    x = m.op("Conv", m.op("Relu", x), moved)
    _, second = m.op("Split", m.tensor("both", 8, 4, 1, 1), m.tensor("sizes", integers=[3, 5]), out=["unread", "second"], axis=0)
    x = m.op("Conv", x, second)
    half = helper.make_tensor("half", TensorProto.FLOAT16, [6, 5, 1, 1], np.ones(30, np.float16))
    m.initializers.append(half)
    x = m.op("Conv", x, m.op("Cast", "half", to=TensorProto.FLOAT), m.tensor("twice", 6))
    x = m.op("Add", m.op("Flatten", m.op("GlobalMaxPool", x)), m.op("Identity", "twice"))
    x = m.op("MatMul", x, m.tensor("square", 6, 6))
    x = m.op("Add", m.op("MatMul", x, "square"), m.op("Mul", m.tensor("folded", 6), m.tensor("by", 1)))
    m.nodes.append(helper.make_node("Constant", [], ["floats"], value_floats=[1.] * 6))  # no tensor that an edit could change
    x = m.op("MatMul", m.op("Mul", x, "floats"), m.tensor("y.w", 6, 10))
    m.op("Add", x, m.tensor("y.b", 10), out="y")
    check(checks, "storage", m.write(), {"constant.w": "weight", "constant.b": "bias", "moved": "weight", "both": "weight", "half": "weight", "twice": "bias",
                                         "square": "weight", "folded": "scale", **HEAD})


def check_reach(checks):
    """Only what the classifier's output depends on."""
    m = Model()
    x = m.conv("x", "conv", 3, 4)
    m.head(x, 4)
    m.head(m.conv(x, "other", 4, 5), 5, out="z")
    m.tensor("nobody", 4)
    check(checks, "reach", m.write(), {"conv.w": "weight", "conv.b": "bias", **HEAD})


def check_patterns(checks):
    m = Model()
    x = m.op("BatchNormalization", m.conv("x", "conv", 3, 4), *[m.tensor(f"bn.{s}", 4) for s in ("scale", "shift", "mean", "var")])
    m.head(x, 4)
    path = m.write()
    conv, norm = {"conv.w": "weight", "conv.b": "bias"}, {"bn.scale": "scale", "bn.shift": "shift"}
    statistics = {"bn.mean": "running mean", "bn.var": "running variance"}
    check(checks, "train", path, HEAD, statistics, conv | norm, ["y.*"])
    check(checks, "train two", path, HEAD | conv, statistics, norm, ["y.?,conv.[wb]"])
    check(checks, "freeze", path, conv | HEAD, statistics, norm, ["", "bn.*"])
    check(checks, "freeze wins", path, {"y.w": "weight"}, statistics, conv | norm | {"y.b": "bias"}, ["y.*", "*.b"])
    check(checks, "a statistic stays one", path, norm, statistics, conv | HEAD, ["bn.*"])
    refused(checks, "train nothing", path, "no trainable tensor's name matches 'fc.*'", "fc.*")
    refused(checks, "freeze nothing", path, "no trainable tensor's name matches 'fc.*'", "y.*", "fc.*")
    refused(checks, "freeze all", path, "no tensor is left to train", "", "*")


def check_transformer(checks):
    """Tokens and positions, put beside a sequence by shapes that come from the image; padding is nobody's."""
    m = Model()
    batch = m.op("Slice", m.op("Shape", "x"), m.tensor("zero", integers=[0]), m.tensor("one", integers=[1]))
    x = m.conv("x", "patches", 3, 4)
    x = m.op("Concat", x, m.tensor("no_channels", 1, 2, 6, 6), axis=1)
    x = m.op("Transpose", m.op("Reshape", x, m.tensor("sequence", integers=[0, 6, 36])), perm=[0, 2, 1])
    tokens = m.op("Expand", m.tensor("tokens", 1, 2, 6), m.op("Concat", batch, m.tensor("token_size", integers=[2, 6]), axis=0))
    x = m.op("Concat", tokens, x, axis=1)
    x = m.op("Add", x, m.op("Slice", m.tensor("positions", 1, 40, 6), m.tensor("from", integers=[2]), m.tensor("to", integers=[40]), "one"))
    x = m.op("LayerNormalization", x, m.tensor("norm.scale", 6), m.tensor("norm.shift", 6))
    x = m.op("LayerNormalization", x, m.tensor("both.scale", 38, 6), axis=-2)
    x = m.op("Concat", x, m.tensor("padding", 1, 38, 3), axis=2)
    x = m.op("Gather", x, m.tensor("first", integers=0), axis=1)
    m.op("Add", m.op("MatMul", x, m.tensor("y.w", 9, 10)), m.tensor("y.b", 10), out="y")
    check(checks, "transformer", m.write(check=False),  # its channels are padded for one image only
          {"patches.w": "weight", "patches.b": "bias", "tokens": "bias", "positions": "bias", "norm.scale": "scale", "norm.shift": "shift",
           "both.scale": "scale", **HEAD})


def check_statistics(checks):
    """What PyTorch makes of a network that was never trained: equal tensors are stored once."""
    m = Model()
    for i in range(2):
        slots = [m.tensor(f"bn{i}.{s}", 3) for s in ("scale", "shift", "mean")]
        x = m.op("BatchNormalization", "x" if i == 0 else x, *slots, m.tensor("var", 3) if i == 0 else m.op("Identity", "var"))
    m.head(x, 3)
    m.write()
    np.zeros((2, 3, 8, 8), np.float32).tofile(FOLDER / "in.f32")
    np.zeros((2, 10), np.float32).tofile(FOLDER / "dy.f32")
    program = pathlib.Path(os.environ["PAPA_BIN"]) / "run_grad"
    answer = subprocess.run([program], input=f"{FOLDER} 4 2 3 8 8\n", capture_output=True, text=True).stdout
    checks.that(answer.startswith("error") and "its running statistics in 'var' are read 2 times" in answer, f"shared statistics: {answer}")
    checks.that((FOLDER / "infer.f32").exists(), "shared statistics: can't be evaluated")


def main():
    checks = Checks()
    try:
        for check_some in (check_operators, check_types, check_storage, check_reach, check_patterns, check_transformer, check_statistics):
            check_some(checks)
    finally:
        for path in FOLDER.iterdir():
            path.unlink()
        FOLDER.rmdir()
    checks.finish()


if __name__ == "__main__":
    main()
