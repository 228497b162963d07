"""Random networks (random_graphs.py), each checked five ways:

1. Inference agrees with ONNX Runtime in every output, within 1e-4 (max|a-b| / max|b|).
2. The tensors that are trained are those that the generator means to be.
3. The training pass, with batch statistics, agrees with PyTorch in float64: the first output and each trained tensor's gradient within 1e-4
   (max|a-b| / max|b|). Where float32 can't do that it is allowed a few times the spread that torch_gradients.py found, and 1e-5 of the
   network's largest gradient: a bias in front of a normalisation has the gradient 0, a sum of numbers that cancel.
   A calibrating pass gives the same outputs as the training pass.
4. Its results do not depend, in any bit, on which values share memory (run_grad.c).
5. The file with every trained tensor halved and the training pass's statistics holds just that, and agrees with ONNX Runtime.

Where activations are bfloat16, 1e-4 and 1e-5 become what that allows.
"""
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime

from common import BFLOAT16, Checks, torch_python
from random_graphs import Network
from torch_graph import dump_graph

PER_OPSET = 50
TOLERANCE, SPREADS, CANCELLED = (2e-2, 8, 1e-3) if BFLOAT16 else (1e-4, 8, 1e-5)
ZERO = 1e-6  # outputs may be 0 but for rounding: what is subtracted from its own mean
HERE = pathlib.Path(__file__).parent


def newest_opset():
    """The newest opset that ONNX Runtime calls its own."""
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    for opset in range(onnx.defs.onnx_opset_version(), 21, -1):
        imports = [onnx.helper.make_opsetid("", opset)]
        model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [x], [y]), opset_imports=imports, ir_version=10)
        try:
            onnxruntime.InferenceSession(model.SerializeToString(), options)
            return opset
        except Exception:
            pass
    return 21


def reference(model, inputs):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, inputs)


def reference_spread(model, inputs):
    """Per output, how far bfloat16 may take it (max|a-b|): numbers of the file and of the inputs are moved by about its rounding. 0 for float32."""
    exact, spreads = reference(model, inputs), [0.] * len(model.graph.output)
    for seed in range(3 if BFLOAT16 else 0):
        rng = np.random.default_rng(seed)
        moved = onnx.ModelProto.FromString(model.SerializeToString())
        constants = [n.attribute[0].t for n in moved.graph.node if n.op_type == "Constant" and n.attribute[0].name == "value"]
        for tensor in [*moved.graph.initializer, *constants]:
            array = onnx.numpy_helper.to_array(tensor)
            if array.dtype.kind == "f" and array.size > 1:  # bounds and exponents stay
                tensor.CopyFrom(onnx.numpy_helper.from_array(disturb(array, rng), tensor.name))
        others = reference(moved, {name: disturb(array, rng) for name, array in inputs.items()})
        spreads = [max(s, np.abs(a - b).max()) for s, a, b in zip(spreads, exact, others)]
    return spreads


def disturb(array, rng):
    return (array * (1 + 2. ** -8 * rng.standard_normal(array.shape))).astype(array.dtype)


def write(folder, network, model):
    folder.mkdir()
    onnx.save(model, folder / "model.onnx")
    dump_graph(model, folder / "graph.npz")
    np.savez(folder / "feed.npz", dy=network.dy, **network.inputs)
    np.concatenate([a.ravel() for a in network.inputs.values()]).tofile(folder / "in.f32")
    network.dy.tofile(folder / "dy.f32")


def listing(folder, network):
    return " ".join(map(str, [folder, *(n for a in network.inputs.values() for n in (a.ndim, *a.shape))]))


def run_both(networks):
    """run_grad and PyTorch side by side; returns run_grad's line for each folder."""
    ours = subprocess.Popen([pathlib.Path(os.environ["PAPA_BIN"]) / "run_grad"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    theirs = subprocess.Popen([torch_python(), HERE / "torch_gradients.py"], stdin=subprocess.PIPE, text=True)
    theirs.stdin.write("".join(f"{folder}\n" for folder in networks))
    theirs.stdin.close()
    lines = ours.communicate("".join(listing(folder, network) + "\n" for folder, (network, _) in networks.items()))[0].splitlines()
    if theirs.wait() or ours.returncode or len(lines) != len(networks):
        raise RuntimeError(f"torch_gradients.py: exit status {theirs.returncode}; run_grad: {ours.returncode}, {len(lines)} answers for "
                           f"{len(networks)} models")
    return lines


def cut(path, shapes):
    flat = np.fromfile(path, np.float32)
    parts = np.split(flat, np.cumsum([int(np.prod(s)) for s in shapes])[:-1]) if shapes else []
    return [part.reshape(shape) for part, shape in zip(parts, shapes)]


def check(checks, folder, network, model, line):
    text = folder.name
    if not checks.that(line.startswith("ok"), f"{text}: {line}"):
        return
    names = line.split()[1:]
    edited = onnx.load(folder / "edited.onnx")
    for what, ours, theirs, spreads in (("inference", "infer", reference(model, network.inputs), reference_spread(model, network.inputs)),
                                        ("edited file", "edited", reference(edited, network.inputs), reference_spread(edited, network.inputs)),
                                        ("calibration", "calibrate", cut(folder / "train.f32", network.output_shapes), [0] * len(network.output_shapes))):
        for i, (a, b) in enumerate(zip(cut(folder / f"{ours}.f32", network.output_shapes), theirs)):
            compare(checks, a, b, spreads[i], ZERO, f"{text}: {what}, output {i}")
    check_edited(checks, text, tensors(model), tensors(edited), network)
    checks.that(set(names) == network.trained,
                f"{text}: trained but not meant to be {set(names) - network.trained}, meant to be {network.trained - set(names)}")
    with np.load(folder / "torch.npz") as theirs:
        ours = cut(folder / "train.f32", network.output_shapes)[0]
        compare(checks, ours, theirs["y"], float(theirs["spread"]), 0, f"{text}: training, output 0")
        largest = max([np.abs(network.dy).max()] + [np.abs(theirs[key]).max() for key in theirs.files if key.startswith("grad.")])
        for name, ours in zip(names, cut(folder / "grads.f32", [theirs[f"grad.{name}"].shape for name in names])):
            spread = float(theirs[f"spread.{name}"])
            compare(checks, ours, theirs[f"grad.{name}"], spread, CANCELLED * largest, f"{text}: gradient of {name}")


def tensors(model):
    """Name -> array, of initialisers and Constant nodes."""
    constants = {n.output[0]: onnx.numpy_helper.to_array(n.attribute[0].t) for n in model.graph.node
                 if n.op_type == "Constant" and n.attribute[0].name == "value"}
    return constants | {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}


def check_edited(checks, text, before, after, network):
    checks.that(before.keys() == after.keys(), f"{text}: other tensors in the edited file")
    for name, array in before.items():
        if name.startswith(("mean_", "var_")):
            continue  # statistics
        expected = array / 2 if name in network.trained else array
        checks.that(np.array_equal(after[name], expected.astype(array.dtype)), f"{text}: tensor {name} of the edited file")


def compare(checks, ours, theirs, spread, floor, text):
    off, size = (np.abs(ours - theirs).max() if np.isfinite(ours).all() else np.inf), np.abs(theirs).max()
    checks.at_most(off, TOLERANCE * size + SPREADS * spread + floor, f"{text} {theirs.shape}, max {size:.3g}")


def main():
    checks = Checks()
    opsets = [9, 11, 13, 17, 18, 24, newest_opset()]
    seeds = [int(s) for s in sys.argv[1:]] or range(PER_OPSET * len(opsets))
    operators = set()
    with tempfile.TemporaryDirectory() as root:
        networks = {}
        for seed in seeds:
            network = Network(seed, opsets[seed % len(opsets)])
            model = network.build()
            operators |= {n.op_type for n in model.graph.node}
            folder = pathlib.Path(root) / f"seed{seed}"
            write(folder, network, model)
            networks[folder] = network, model
        for (folder, (network, model)), line in zip(networks.items(), run_both(networks)):
            check(checks, folder, network, model, line)
    print(f"{len(networks)} networks, opsets {opsets}, {len(operators)} operators: {' '.join(sorted(operators))}")
    checks.finish()


if __name__ == "__main__":
    main()
