"""What the oracles share. They run in the Python of tests/requirements.txt, as CTest calls them:

PAPA_BIN            folder of papa's programs and of the tests' helper programs
PAPA_TORCH_PYTHON   a Python that has PyTorch (and NumPy); may be missing, and need not have onnx
PAPA_TEST_DEVICE    what the helper programs run on: cpu, reference, which computes in double and does not train, cuda, or cuda-bf16, where activations
                    are bfloat16
"""
import os
import pathlib
import subprocess
import sys

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
TESTDATA = ROOT / "testdata"
SKIPPED = 77
BFLOAT16 = os.environ.get("PAPA_TEST_DEVICE") == "cuda-bf16"
REFERENCE = os.environ.get("PAPA_TEST_DEVICE") == "reference"


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(SKIPPED)


def run(program, *args, env=None):
    """Run a program of papa's; anything but exit status 0 is an error that shows what the program said."""
    path = pathlib.Path(os.environ["PAPA_BIN"]) / program
    done = subprocess.run([path, *map(str, args)], capture_output=True, text=True, env={**os.environ, **(env or {})})
    if done.returncode:
        raise RuntimeError(f"{program} {' '.join(map(str, args))}: exit status {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def torch_python():
    """The Python that has PyTorch; skips the test where there is none."""
    python = os.environ.get("PAPA_TORCH_PYTHON", "")
    if not python or subprocess.run([python, "-c", "import torch, numpy"], capture_output=True).returncode:
        skip(f"no PyTorch in {python or 'any Python'} (Debian: python3-torch)")
    return python


def relative_error(ours, theirs):
    """max|a - b| / max|b|; infinite where shapes differ or ours is not finite; |a| counts alone where b is all zero."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if ours.shape != theirs.shape or not np.isfinite(ours).all():
        return np.inf
    if not ours.size:
        return 0.0
    return np.abs(ours - theirs).max() / (np.abs(theirs).max() or 1.0)


class Checks:
    """Counts, goes on after a failure, and ends the script: with failure too where nothing at all was checked."""

    def __init__(self):
        self.n = self.failed = 0

    def that(self, condition, text):
        self.n += 1
        if not condition:
            self.failed += 1
            print(f"failed: {text}")
        return bool(condition)

    def at_most(self, value, limit, text):
        return self.that(value <= limit, f"{text}: {value:.3g}, at most {limit:.3g} allowed")

    def finish(self):
        print(f"{self.n} checks, {self.failed} failed")
        sys.exit(0 if self.n and not self.failed else 1)
