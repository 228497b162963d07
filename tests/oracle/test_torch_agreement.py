"""Training agrees with PyTorch, on every model of testdata and on the variants: same weights, same batches.

Our side is the helper program

    train_trace MODEL.onnx BATCHES.bin OUTDIR --steps N --lr LR --momentum M --weight-decay WD

which trains as papa does and writes OUTDIR/loss.txt, OUTDIR/grad-first/NAME.f32 (the first step's gradients, without weight
decay, of every trained tensor) and OUTDIR/final/NAME.f32 (every float tensor afterwards), "/" in names written as "_".
torch_trace.py does the same with PyTorch's autograd and optimizer.

1. One step: gradients within 1e-4 per tensor (max|a-b| / max|b|), and the running statistics of BatchNormalization within
   1e-5, PyTorch's unbiased variance turned into the population's. A gradient jumps where the input of a Relu changes its
   sign or two pixels of a pooling window change places, so of several batches the one is taken that stays farthest from
   such kinks; otherwise rounding would decide, in PyTorch too (its own instruction sets then differ by up to 4e-2).
2. Fifty steps of SGD with momentum and weight decay: how far the losses part from PyTorch's with one thread, at most 5
   times as far as PyTorch's own runs do from each other: 1 and 2 threads, the images of a batch in given and in reversed
   order, and the processor's best and its oldest instructions, all the same computation in another order of summation.
   So many, because whether some Relu's sign tips over within the run is a matter of chance, and parts the runs that had
   it from those that had not by much more than rounding does. The same for the tensors at the end. Spreads below float32's rounding over such runs count as 1e-6 of the first loss, and as 1e-5 of a tensor.
"""
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
from onnx import numpy_helper

from common import TESTDATA, Checks, relative_error, run, torch_python
from torch_graph import dump_graph
from variants import VARIANTS

# Learning rates at which fifty steps learn the synthetic classes and a rounding error doesn't grow into a different run.
LEARNING_RATES = {"lenet": .005, "mlp": .005, "vgg": .001, "resnet8": .005, "resnet20": .002, "resnet20-cifar": .002, "vit-tiny": .005,
                  "resnet8-projection": .005, "mobilenet-tiny": .005, "densenet-tiny": .005,
                  "opset9": .02, "branches": .02}
# Whose first step says little of rounding: shifts in front of a convolution and its BatchNormalization have gradients that are 0 but for it, running means
# likewise, and the margins know nothing of Clip's corners.
NO_FIRST_STEP = {"mobilenet-tiny"}
MOMENTUM, WEIGHT_DECAY = .9, 5e-4
STEPS, BATCH = 50, 16
CANDIDATES, SMALL_BATCH = 32, 4
GRADIENT_TOLERANCE, STATISTICS_TOLERANCE, FIRST_LOSS_TOLERANCE = 1e-4, 1e-5, 1e-5
# Keep PyTorch's own kernels, oneDNN's and OpenBLAS's from using what the processor has beyond SSE 4.
OLD_INSTRUCTIONS = {"ATEN_CPU_CAPABILITY": "default", "DNNL_MAX_CPU_ISA": "SSE41", "ONEDNN_MAX_CPU_ISA": "SSE41", "OPENBLAS_CORETYPE": "Nehalem"}
INSTRUCTION_SETTINGS = {*OLD_INSTRUCTIONS, "OPENBLAS_L2_SIZE"}
SPREADS, LOSS_FLOOR, TENSOR_FLOOR = 5, 1e-6, 1e-5


def make_batches(shape, n, size, seed):
    """Ten patterns of 4x4 coarse pixels, and noise. Returns images (n, size, C, H, W) and labels (n, size)."""
    rng = np.random.default_rng(seed)
    channels, height, width = shape
    patterns = np.kron(rng.standard_normal((10, channels, 4, 4)), np.ones((height // 4, width // 4)))
    labels = rng.integers(0, 10, (n, size)).astype(np.int32)
    return (patterns[labels] + .3 * rng.standard_normal((n, size, *shape))).astype(np.float32), labels


def write_batches(path, images, labels):
    with open(path, "wb") as out:
        np.array(images.shape, np.int32).tofile(out)
        for image, label in zip(images, labels):
            image.tofile(out)
            label.tofile(out)
    return path


def read_trace(folder):
    tensors = [{f.stem: np.fromfile(f, np.float32) for f in sorted((folder / part).iterdir())} for part in ("grad-first", "final")]
    return np.loadtxt(folder / "loss.txt", ndmin=1), *tensors


class Pair:
    """Runs one model in both programs."""

    def __init__(self, python, name, model, folder):
        self.python, self.folder, self.model = python, folder, folder / f"{name}.onnx"
        self.lr = LEARNING_RATES[name]
        onnx.save(model, self.model)
        self.initial = {tensor.name: numpy_helper.to_array(tensor).ravel() for tensor in model.graph.initializer}
        dump_graph(model, folder / "graph.npz")

    def options(self, steps):
        return ["--steps", steps, "--lr", self.lr, "--momentum", MOMENTUM, "--weight-decay", WEIGHT_DECAY]

    def papa(self, batches, steps):
        run("train_trace", self.model, batches, self.folder / "papa", *self.options(steps))
        return read_trace(self.folder / "papa")

    def run_torch(self, batches, threads, instructions, *options):
        program = pathlib.Path(__file__).parent / "torch_trace.py"
        env = {k: v for k, v in os.environ.items() if k not in INSTRUCTION_SETTINGS}
        subprocess.run([self.python, program, self.folder / "graph.npz", batches, self.folder / "torch", *map(str, options)],
                       env={**env, **instructions, "OMP_NUM_THREADS": str(threads)}, check=True)

    def torch(self, batches, steps, threads=1, instructions={}):
        self.run_torch(batches, threads, instructions, *self.options(steps))
        losses, gradients, final = read_trace(self.folder / "torch")
        return losses, gradients, {key: values for key, values in final.items() if key in gradients or self.moved(key, values)}

    def moved(self, name, values):
        """False for constants, such as a Clip's bounds: papa keeps no such tensor."""
        return not np.array_equal(self.initial.get(name), values)

    def margins(self, batches):
        self.run_torch(batches, 2, {}, "--margins")
        return np.loadtxt(self.folder / "torch" / "margins.txt", ndmin=1)


def same_names(checks, name, what, ours, theirs):
    return checks.that(ours.keys() == theirs.keys(), f"{name}: {what}: only in one: {sorted(ours.keys() ^ theirs.keys())}")


def worst(ours, theirs):
    return max(relative_error(ours[key], theirs[key]) for key in theirs)


def check_first_step(checks, name, pair, shape):
    images, labels = make_batches(shape, CANDIDATES, SMALL_BATCH, seed=1)
    batches = pair.folder / "batches.bin"
    margins = pair.margins(write_batches(batches, images, labels))
    best = int(margins.argmax())
    write_batches(batches, images[best:best + 1], labels[best:best + 1])
    loss, gradients, final = pair.papa(batches, 1)
    torch_loss, torch_gradients, torch_final = pair.torch(batches, 1)
    checks.at_most(relative_error(loss, torch_loss), FIRST_LOSS_TOLERANCE, f"{name}: first loss")
    if same_names(checks, name, "trained tensors", gradients, torch_gradients):
        for key in torch_gradients:
            checks.at_most(relative_error(gradients[key], torch_gradients[key]), GRADIENT_TOLERANCE, f"{name}: gradient of {key}")
        print(f"{name}: margin {margins[best]:.1e}, gradients differ by {worst(gradients, torch_gradients):.1e} at most")
    if same_names(checks, name, "float tensors", final, torch_final):
        for key in torch_final.keys() - torch_gradients.keys():
            checks.at_most(relative_error(final[key], torch_final[key]), STATISTICS_TOLERANCE, f"{name}: {key} after one step")


def check_many_steps(checks, name, pair, shape):
    images, labels = make_batches(shape, STEPS, BATCH, seed=2)
    given = write_batches(pair.folder / "given.bin", images, labels)
    reversed_ = write_batches(pair.folder / "reversed.bin", images[:, ::-1], labels[:, ::-1])
    loss, _, final = pair.papa(given, STEPS)
    torch_loss, _, torch_final = pair.torch(given, STEPS)
    others = [pair.torch(given, STEPS, 2), pair.torch(reversed_, STEPS, 1), pair.torch(reversed_, STEPS, 2),
              pair.torch(given, STEPS, 1, OLD_INSTRUCTIONS), pair.torch(reversed_, STEPS, 2, OLD_INSTRUCTIONS)]

    spread = max(np.abs(other[0] - torch_loss).max() for other in others)
    limit = SPREADS * max(spread, LOSS_FLOOR * torch_loss[0])
    if not checks.that(loss.shape == torch_loss.shape, f"{name}: {loss.size} losses"):
        return
    deviation = np.abs(loss - torch_loss).max()
    checks.at_most(deviation, limit, f"{name}: losses of {STEPS} steps")
    print(f"{name}: loss {torch_loss[0]:.3f} to {torch_loss[-1]:.3f} at rate {pair.lr}, PyTorch's spread {spread:.1e}, ours {deviation:.1e} from it")

    if same_names(checks, name, "float tensors", final, torch_final):
        spread = max(worst(other[2], torch_final) for other in others)
        checks.at_most(worst(final, torch_final), SPREADS * max(spread, TENSOR_FLOOR), f"{name}: tensors after {STEPS} steps")


def main():
    python = torch_python()
    models = {path.stem: onnx.load(path) for path in sorted(TESTDATA.glob("*.onnx"))}
    models.update((name, make()) for name, make in VARIANTS.items())
    checks = Checks()
    checks.that(models.keys() == LEARNING_RATES.keys(), f"a model without a learning rate or the reverse: {models.keys() ^ LEARNING_RATES.keys()}")
    for name in sys.argv[1:] or models:
        shape = [d.dim_value for d in models[name].graph.input[0].type.tensor_type.shape.dim][1:]
        with tempfile.TemporaryDirectory() as folder:
            pair = Pair(python, name, models[name], pathlib.Path(folder))
            try:
                if name not in NO_FIRST_STEP:
                    check_first_step(checks, name, pair, shape)
                check_many_steps(checks, name, pair, shape)
            except RuntimeError as error:
                checks.that(False, f"{name}: {error}")
    checks.finish()


if __name__ == "__main__":
    main()
