"""Networks put together as PyTorch's exporters write them, through papa-train and back.

Each is checked in inference against ONNX Runtime, within 1e-4 (max|a-b| / max|b|), and so is what papa-train makes of it, which must
pass ONNX's checker too. Files made for a fixed batch, which is what an exporter writes unasked, have the batch's size in their
Reshapes: papa runs them with any batch, ONNX Runtime image by image. What is refused or remarked on is checked by its text.
"""
import os
import pathlib
import subprocess
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from common import Checks, relative_error, run
from test_exported_files import make_data

TOLERANCE = 1e-4
CHANNELS, SIDE, BATCH = 6, 14, 20


class Exported:
    """A convolution to (batch, 6, 14, 14), a body, global average pooling, a linear layer. batch: None: free."""

    def __init__(self, opset, batch=None, seed=0):
        self.opset, self.batch, self.nodes, self.tensors = opset, batch, [], []
        self.rng = np.random.default_rng(seed)

    def tensor(self, array, name=None):
        name = name or f"t{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def number(self, value):
        return self.tensor(np.float32(value))

    def weight(self, *shape):
        return self.tensor((self.rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32))

    def op(self, op, *inputs, outputs=1, **attributes):
        names = [f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, name=f"/{op}_{len(self.nodes)}", **attributes))
        return names[0] if outputs == 1 else names

    def reshape(self, x, *shape):
        """To (batch, *shape): by the number where the batch is fixed, else by arithmetic on the input's Shape."""
        if self.batch:
            return self.op("Reshape", x, self.tensor(np.array([self.batch, *shape])))
        batch = self.op("Gather", self.op("Shape", x), self.tensor(np.int64(0)), axis=0)
        return self.op("Reshape", x, self.op("Concat", self.along("Unsqueeze", 13, batch, 0), self.tensor(np.array(shape)), axis=0))

    def along(self, op, since, x, axis, **attributes):
        """The axis as input, or as attribute before the opset since."""
        if self.opset >= since:
            return self.op(op, x, self.tensor(np.array([axis])), **attributes)
        return self.op(op, x, axes=[axis], **attributes)

    def mean(self, x, axis):
        return self.along("ReduceMean", 18, x, axis, keepdims=1)

    def finish(self, path, body, output="Identity"):
        x = self.op("Conv", "input", self.weight(CHANNELS, 1, 3, 3), self.weight(CHANNELS), pads=[1, 1, 1, 1], strides=[2, 2])
        x = self.op("GlobalAveragePool", body(self, x))
        x = self.op("Gemm", self.reshape(x, -1), self.weight(10, CHANNELS), self.weight(10), transB=1)
        self.nodes.append(helper.make_node(output, [x], ["output"]))
        info = lambda name, *dims: helper.make_tensor_value_info(name, TensorProto.FLOAT, [self.batch or "batch", *dims])
        graph = helper.make_graph(self.nodes, "main_graph", [info("input", 1, 28, 28)], [info("output", 10)], self.tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)


# ---------------------------------------------------------------- bodies: (batch, 6, 14, 14) to the same

def channel_shuffle(m, x):
    x = m.op("Transpose", m.reshape(x, 2, CHANNELS // 2, SIDE, SIDE), perm=[0, 2, 1, 3, 4])
    return m.op("Relu", m.reshape(x, -1, SIDE, SIDE))


def squeeze_excite(m, x):
    s = m.op("Relu", m.op("Conv", m.op("GlobalAveragePool", x), m.weight(2, CHANNELS, 1, 1), m.weight(2)))
    s = m.op("HardSigmoid", m.op("Conv", s, m.weight(CHANNELS, 2, 1, 1), m.weight(CHANNELS)), alpha=1 / 6)
    return m.op("Mul", s, x)


def hard_swish(m, x):
    if m.opset >= 14:
        return m.op("HardSwish", x)
    if m.opset >= 11:
        return m.op("Mul", x, m.op("HardSigmoid", x, alpha=1 / 6))
    return m.op("Div", m.op("Mul", x, m.op("Clip", m.op("Add", x, m.number(3)), min=0., max=6.)), m.number(6))


def gelu(m, x):
    if m.opset >= 20:
        return m.op("Gelu", x)
    share = m.op("Add", m.op("Erf", m.op("Div", x, m.number(2 ** .5))), m.number(1))
    return m.op("Mul", m.op("Mul", x, share), m.number(.5))


def mish(m, x):
    return m.op("Mish", x) if m.opset >= 18 else m.op("Mul", x, m.op("Tanh", m.op("Softplus", x)))


def silu(m, x):
    return m.op("Mul", x, m.op("Sigmoid", x))


def layer_norm(m, x):
    """Over the channels, between two Transposes, as ConvNeXt has it."""
    x = m.op("Transpose", x, perm=[0, 2, 3, 1])
    d = m.op("Sub", x, m.mean(x, -1))
    variance = m.mean(m.op("Pow", d, m.number(2)), -1)
    x = m.op("Div", d, m.op("Sqrt", m.op("Add", variance, m.number(1e-6))))
    x = m.op("Add", m.op("Mul", x, m.tensor(np.linspace(.5, 1.5, CHANNELS, dtype=np.float32))), m.weight(CHANNELS))
    return m.op("Transpose", x, perm=[0, 3, 1, 2])


def cast_like(m, x):
    return m.op("Mul", m.op("CastLike", m.number(.7), x), m.op("CastLike", x, x)) if m.opset >= 15 else x


def elu(m, x):
    return m.op("Selu", m.op("Elu", x))


BODIES = (channel_shuffle, squeeze_excite, hard_swish, gelu, mish, silu, layer_norm, cast_like, elu)


# ---------------------------------------------------------------- checks

def reference(path, images):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    shape = session.get_inputs()[0].shape
    step = shape[0] if isinstance(shape[0], int) else len(images)
    return np.concatenate([session.run(None, {"input": images[i:i + step]})[0] for i in range(0, len(images), step)])


def check_run(checks, label, path, images, folder):
    images.tofile(folder / "in.bin")
    try:
        run("run_model", path, folder / "in.bin", folder / "out.bin", *images.shape)
    except RuntimeError as error:
        checks.that(False, f"{label}: {error}")
        return
    ours = np.fromfile(folder / "out.bin", np.float32).reshape(len(images), 10)
    checks.at_most(relative_error(ours, reference(path, images)), TOLERANCE, label)


def check_model(checks, label, path, images, folder):
    check_run(checks, label, path, images, folder)
    try:
        run("papa-train", path, "--data", folder / "data", "--out", folder / "out", "-p", 2, "--epochs", 1, "--batch", BATCH, "--lr", .01,
            "--init", "file", "--val", .1)
    except RuntimeError as error:
        checks.that(False, f"{label}: {error}")
        return
    for name in ("member-1", "soup", "ensemble"):
        made = folder / "out" / f"{name}.onnx"
        onnx.checker.check_model(str(made), full_check=True)
        check_run(checks, f"{label}, {name}", made, images, folder)


def said(*arguments):
    done = subprocess.run([pathlib.Path(os.environ["PAPA_BIN"]) / "papa-train", *map(str, arguments)], capture_output=True, text=True)
    return done.returncode, done.stderr


def check_texts(checks, folder):
    """Traps that a user should hear of."""
    common = ("--data", folder / "data", "--out", folder / "texts", "--epochs", 1, "-p", 1, "--batch", BATCH)
    path = folder / "sigmoid.onnx"
    Exported(17).finish(path, silu, "Sigmoid")
    code, text = said(path, *common)
    checks.that(code == 0 and "output 'output' comes out of a Sigmoid" in text, f"a final Sigmoid: {code}, {text}")

    model = onnx.load(path)
    for node in model.graph.node:
        node.input[:] = ["scaled" if name == "input" else name for name in node.input]
    model.graph.initializer.append(numpy_helper.from_array(np.float32(.5), "half"))
    model.graph.node.insert(0, helper.make_node("Sub", ["input", "half"], ["scaled"]))
    onnx.save(model, path)
    for norm, expected in ((), True), (("--mean", .5, "--std", .5), False):
        code, text = said(path, *common, *norm)
        checks.that(code == 0 and ("normalise its input itself (Sub)" in text) == expected, f"its own normalisation: {code}, {text}")

    def takes(elem, dims, text):
        model.graph.input[0].CopyFrom(helper.make_tensor_value_info("input", elem, dims))
        onnx.save(model, path)
        code, said_ = said(path, *common)
        checks.that(code == 1 and text in said_ and said_.count("\n") == 1, f"an input {dims}: {code}, {said_}")
    takes(TensorProto.FLOAT, ["batch", 28, 28, 1], "'input' takes 28x28x1, channels last")
    takes(TensorProto.UINT8, ["batch", 1, 28, 28], "found UINT8 of rank 4")

    def mixing(m, x):
        return m.op("Reshape", m.op("Reshape", x, m.tensor(np.array([-1, SIDE]))), m.tensor(np.array([1, CHANNELS, SIDE, SIDE])))
    Exported(17, batch=1).finish(path, mixing)
    code, text = said(path, *common)
    checks.that(code == 1 and "fixes its batch at 1, here 20" in text and "Reshape" in text, f"a Reshape that hides the batch: {code}, {text}")


def main():
    checks, rng = Checks(), np.random.default_rng(4)
    images = rng.standard_normal((BATCH, 1, 28, 28)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        make_data(folder / "data", rng)
        for opset, batch in (9, None), (13, 5), (17, 1), (20, None):
            for body in BODIES:
                path = folder / "model.onnx"
                Exported(opset, batch).finish(path, body, "LogSoftmax" if batch == 5 else "Identity")
                check_model(checks, f"{body.__name__}, opset {opset}, {f'batch of {batch}' if batch else 'any batch'}", path, images, folder)
        check_texts(checks, folder)
    checks.finish()


if __name__ == "__main__":
    main()
