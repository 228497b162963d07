"""The reference device (run_double.c) agrees with onnx's reference evaluator on float64 copies of the models, to 1e-12: those of testdata, the
variants, and random networks.

Numbers of the files are float32, and so are attributes, on both sides. What papa computes when the graph is built it rounds to float32: the scale of
vit-tiny's attention. Opsets from 14 on: the evaluator's older BatchNormalization does not compute what ONNX says.
"""
import pathlib
import tempfile
import warnings

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from common import TESTDATA, Checks, relative_error, run
from random_graphs import Network
from test_ort_agreement import inference_form, with_statistics
from variants import VARIANTS

TOLERANCE = {"vit-tiny": 1e-7}
DEFAULT_TOLERANCE = 1e-12
SEEDS = 60
OPSETS = (14, 16, 18)
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)


def widened(tensor):
    if tensor.data_type not in FLOATS:
        return tensor
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32).astype(np.float64), tensor.name)


def in_double(model):
    """The same network with every float a float64."""
    model = inference_form(model)
    for tensor in model.graph.initializer:
        tensor.CopyFrom(widened(tensor))
    for value in [*model.graph.input, *model.graph.output]:
        if value.type.tensor_type.elem_type in FLOATS:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    del model.graph.value_info[:]
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i in FLOATS:
                attribute.i = TensorProto.DOUBLE
            elif node.op_type == "Constant" and attribute.name == "value":
                attribute.t.CopyFrom(widened(attribute.t))
            elif node.op_type == "Constant" and attribute.name == "value_float":
                attribute.CopyFrom(helper.make_attribute("value", numpy_helper.from_array(np.float64(attribute.f))))
    return model


def compare(checks, name, model, inputs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = ReferenceEvaluator(in_double(model)).run(None, inputs)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        onnx.save(model, folder / "model.onnx")
        np.concatenate([a.ravel() for a in inputs.values()]).tofile(folder / "in.f64")
        try:
            run("run_double", folder / "model.onnx", folder / "in.f64", folder / "out.f64", *[",".join(map(str, a.shape)) for a in inputs.values()])
        except RuntimeError as failure:
            checks.that(False, f"{name}: {failure}")
            return 0.
        ours = np.fromfile(folder / "out.f64", np.float64)
    worst = 0.
    for output, theirs in zip(model.graph.output, expected):
        part, ours = ours[:theirs.size], ours[theirs.size:]
        error = relative_error(part, theirs.ravel())
        checks.at_most(error, TOLERANCE.get(name, DEFAULT_TOLERANCE), f"{name}: {output.name} of {theirs.size}")
        worst = max(worst, error)
    checks.that(not ours.size, f"{name}: {ours.size} numbers too many")
    return worst


def main():
    models = {path.stem: onnx.load(path) for path in sorted(TESTDATA.glob("*.onnx"))}
    models.update((name, make()) for name, make in VARIANTS.items() if name != "opset9")
    checks, rng = Checks(), np.random.default_rng(5)
    for name, model in models.items():
        with_statistics(model, rng)
        value = model.graph.input[0]
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim][1:]
        print(f"{name}: differs by {compare(checks, name, model, {value.name: rng.standard_normal((2, *shape))}):.1e}")
    worst = 0.
    for seed in range(SEEDS):
        network = Network(seed, OPSETS[seed % len(OPSETS)])
        model = network.build()
        inputs = {name: rng.standard_normal(a.shape) for name, a in network.inputs.items()}
        worst = max(worst, compare(checks, f"seed {seed}", model, inputs))
    print(f"{SEEDS} random networks: differ by at most {worst:.1e}")
    checks.finish()


if __name__ == "__main__":
    main()
