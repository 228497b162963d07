"""papa-train on the forms of classifier that testdata/ lacks: flat and gray inputs, a final Softmax or LogSoftmax, float16 and
double. What it writes passes ONNX's checker in the file's own types, and answers as papa-eval says: probabilities where
the file gave probabilities. Trains two members for two epochs on a small synthetic data set in IDX files.
"""
import json
import pathlib
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from common import Checks, run

SIDE, N_CLASSES, N_TRAIN, N_TEST, BATCH = 8, 4, 240, 90, 20
FILES = ("member-0", "member-1", "soup", "greedy", "ensemble")
DTYPES = {TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16, TensorProto.DOUBLE: np.float64}
# Of a mean loss: float32's rounding; float16 has 11 bits, and ONNX Runtime rounds every layer's output to them.
TOLERANCE = {TensorProto.FLOAT: 1e-5, TensorProto.FLOAT16: 1e-2, TensorProto.DOUBLE: 1e-5}


def make_model(path, shape, head, kind):
    """A convolution with BatchNormalization where the input is a map, a hidden layer, the classifier, and head behind it."""
    rng, dtype = np.random.default_rng(1), DTYPES[kind]
    tensors, nodes, x = [], [], "image"

    def tensor(name, array):
        tensors.append(numpy_helper.from_array(np.asarray(array, dtype), name))
        return name

    def node(op_type, inputs, **attributes):
        nodes.append(helper.make_node(op_type, inputs, [f"v{len(nodes)}"], **attributes))
        return nodes[-1].output[0]

    features = int(np.prod(shape))
    if len(shape) == 3:
        x = node("Conv", [x, tensor("conv", rng.standard_normal((3, 1, 3, 3)) * .4)], pads=[1, 1, 1, 1])
        x = node("BatchNormalization", [x, *(tensor(n, np.full(3, v)) for n, v in (("scale", 1), ("shift", 0), ("mean", 0), ("var", 1)))])
        x, features = node("Relu", [x]), 3 * features
    if len(shape) > 1:
        x = node("Flatten", [x])
    x = node("Gemm", [x, tensor("w1", rng.standard_normal((features, 12)) * (2 / features) ** .5)])
    x = node("Relu", [x])
    x = node("Gemm", [x, tensor("w2", rng.standard_normal((12, N_CLASSES)) * .4), tensor("b2", np.zeros(N_CLASSES))])
    if head:
        x = node(head, [x], axis=-1)
    graph = helper.make_graph(nodes, "variant", [helper.make_tensor_value_info("image", kind, ["N", *shape])],
                              [helper.make_tensor_value_info(x, kind, ["N", N_CLASSES])], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def make_data(folder, rng):
    """Returns the test images, (N, H, W) bytes, and their labels."""
    folder.mkdir()
    patterns = rng.uniform(60, 190, (N_CLASSES, SIDE, SIDE))
    for part, n in (("train", N_TRAIN), ("t10k", N_TEST)):
        labels = rng.integers(0, N_CLASSES, n)
        images = np.clip(patterns[labels] + 50 * rng.standard_normal((n, SIDE, SIDE)), 0, 255).astype(np.uint8)
        for name, array in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
            (folder / name).write_bytes(bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.astype(np.uint8).tobytes())
    return images, labels


def answers(path, images, kind):
    """ONNX Runtime has no double convolution on the CPU; ONNX's own evaluator takes its place."""
    if kind == TensorProto.DOUBLE:
        return ReferenceEvaluator(str(path)).run(None, {"image": images})[0]
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"image": images})[0]


def log_probabilities(output, head):
    """And what must hold of the output's own form."""
    if head == "Softmax":
        return np.log(np.maximum(output, 1e-300)), (output >= 0).all() and np.abs(output.sum(1) - 1).max() < 1e-2
    shifted = output - output.max(1, keepdims=True)
    normal = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return normal, head is None or np.abs(normal - output).max() < 1e-2


def check_file(checks, label, path, data, shape, head, kind):
    images, labels = data
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    checks.that({t.data_type for t in model.graph.initializer} == {kind}, f"{label}: tensors of other types")
    about = {p.key: p.value for p in model.metadata_props}
    pixels = (images / 255 - float(about["papa.normalization.mean"])) / float(about["papa.normalization.std"])
    output = answers(path, pixels.reshape(-1, *shape).astype(DTYPES[kind]), kind).astype(np.float64)
    logs, well_formed = log_probabilities(output, head)
    checks.that(well_formed, f"{label}: the output is no {head}")
    loss, accuracy = -logs[np.arange(N_TEST), labels].mean(), (output.argmax(1) == labels).mean()
    ours = json.loads(run("papa-eval", path, "--data", path.parent.parent / "data", "--json"))["results"][0]
    checks.at_most(abs(loss - ours["loss"]), TOLERANCE[kind] * (1 + loss), f"{label}: loss {ours['loss']}, expected {loss}")
    checks.at_most(abs(accuracy - ours["accuracy"]), (1.5 if kind == TensorProto.FLOAT16 else .5) / N_TEST, f"{label}: accuracy")
    checks.at_most(loss, 1.2, f"{label}: learns nothing, loss")  # a guess has log 4 = 1.39


def main():
    checks, rng = Checks(), np.random.default_rng(4)
    shapes = {"flat": (SIDE * SIDE,), "gray": (SIDE, SIDE), "map": (1, SIDE, SIDE)}
    cases = [("flat", None, TensorProto.FLOAT), ("gray", "Softmax", TensorProto.FLOAT), ("map", "Softmax", TensorProto.FLOAT),
             ("map", "LogSoftmax", TensorProto.FLOAT), ("map", None, TensorProto.FLOAT16), ("map", "Softmax", TensorProto.FLOAT16),
             ("map", "LogSoftmax", TensorProto.DOUBLE), ("flat", None, TensorProto.DOUBLE)]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        data = make_data(folder / "data", rng)
        for i, (shape, head, kind) in enumerate(cases):
            mean = ("logits", "probabilities")[i % 2]
            name = f"{shape}, {head}, {DTYPES[kind].__name__}, mean of {mean}"
            make_model(folder / "model.onnx", shapes[shape], head, kind)
            run("papa-train", folder / "model.onnx", "--data", folder / "data", "--out", folder / "out", "-p", 2, "--epochs", 3, "--batch", BATCH,
                "--lr", .05, "--val", .1, "--ensemble", mean)
            for file in FILES:
                check_file(checks, f"{name}: {file}", folder / "out" / f"{file}.onnx", data, shapes[shape], head, kind)
    checks.finish()


if __name__ == "__main__":
    main()
