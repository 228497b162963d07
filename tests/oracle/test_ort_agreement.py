"""The executor's inference agrees with ONNX Runtime, on the models of testdata and on the variants. Our side is

    run_model MODEL.onnx IN.bin OUT.bin N C H W      raw float32 in and out, row-major

A model in training form is papa's to read as an inference model; for ONNX Runtime it is rewritten here.
"""
import pathlib
import tempfile

import numpy as np
import onnx
import onnxruntime

from common import BFLOAT16, TESTDATA, Checks, relative_error, run
from variants import VARIANTS

TOLERANCE = 2e-2 if BFLOAT16 else 1e-4
N_IMAGES = 7


def inference_form(model):
    """BatchNormalization with its running statistics and one output."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    for node in model.graph.node:
        if node.op_type == "BatchNormalization":
            del node.output[1:]
            for attribute in [a for a in node.attribute if a.name == "training_mode"]:
                node.attribute.remove(attribute)
    return model


def with_statistics(model, rng):
    """Running statistics that a network could have had: those of an untrained one (0 and 1) hide mistakes."""
    for node in model.graph.node:
        for tensor in model.graph.initializer:
            if node.op_type == "BatchNormalization" and tensor.name in node.input[3:5]:
                n = tensor.dims[0]
                values = rng.uniform(.5, 2, n) if tensor.name == node.input[4] else .3 * rng.standard_normal(n)
                tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), tensor.name))
    return model


def main():
    models = {path.stem: onnx.load(path) for path in sorted(TESTDATA.glob("*.onnx"))}
    models.update((name, make()) for name, make in VARIANTS.items())
    checks, rng = Checks(), np.random.default_rng(3)
    for name, model in models.items():
        with_statistics(model, rng)
        shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim][1:]
        images = rng.standard_normal((N_IMAGES, *shape)).astype(np.float32)
        session = onnxruntime.InferenceSession(inference_form(model).SerializeToString(), providers=["CPUExecutionProvider"])
        expected, = session.run(None, {model.graph.input[0].name: images})
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            onnx.save(model, folder / "model.onnx")
            images.tofile(folder / "in.bin")
            try:
                run("run_model", folder / "model.onnx", folder / "in.bin", folder / "out.bin", *images.shape)
                ours = np.fromfile(folder / "out.bin", np.float32)
                error = relative_error(ours, expected.ravel())
                checks.at_most(error, TOLERANCE, f"{name}: {ours.size} outputs")
                print(f"{name}: differs by {error:.1e}")
            except RuntimeError as failure:
                checks.that(False, f"{name}: {failure}")
    checks.finish()


if __name__ == "__main__":
    main()
