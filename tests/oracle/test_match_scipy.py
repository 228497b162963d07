"""Weight matching against a plain one in NumPy and SciPy (Ainsworth et al. 2022, algorithm 1): float64, sweeps in random order from the identity, on
specifications written by hand. Ours is worth at least as much with as many searches, and leaves theirs next to nothing to gain.
"""
import pathlib
import tempfile

import numpy as np
import onnx
from onnx import numpy_helper
from scipy.optimize import linear_sum_assignment

from common import TESTDATA, Checks, run

SEARCHES = 3
PAIRS = 3


def layer(name, rows, columns):
    """Weight and bias; which group their rows and the weight's columns belong to. None: pinned."""
    return {f"{name}.weight": {0: rows, 1: columns}, f"{name}.bias": {0: rows}}


SPECIFICATIONS = {
    "mlp": layer("fc1", "fc1", None) | layer("fc2", "fc2", "fc1") | layer("fc3", None, "fc2"),
    "vgg": layer("features.0", "f0", None) | layer("features.2", "f2", "f0") | layer("features.5", "f5", "f2") | layer("features.7", "f7", "f5")
    | layer("features.10", "f10", "f7") | layer("features.12", "f12", "f10") | layer("fc1", "fc1", "f12") | layer("fc2", None, "fc1"),
}
# The group that papa names after its first weight.
NAMES = {"mlp": {"fc1.weight": "fc1", "fc2.weight": "fc2"},
         "vgg": {f"features.{i}.weight": f"f{i}" for i in (0, 2, 5, 7, 10, 12)} | {"fc1.weight": "fc1"}}


def blocked(values, axis, n):
    """The axis as (n, the positions that one unit has): a channel in front of Flatten has several columns."""
    shape = values.shape
    return values.reshape(*shape[:axis], n, shape[axis] // n, *shape[axis + 1:])


def permuted(values, axes, perms, but=None):
    for axis, group in axes.items():
        if group is not None and axis != but:
            n = len(perms[group])
            values = np.take(blocked(values, axis, n), perms[group], axis=axis).reshape(values.shape)
    return values


def objective(a, b, spec, perms):
    return sum(np.vdot(a[name], permuted(b[name], axes, perms)) for name, axes in spec.items())


def costs(a, b, spec, perms, group):
    n = len(perms[group])
    total = np.zeros((n, n))
    for name, axes in spec.items():
        for axis, of in axes.items():
            if of == group:
                x, y = (np.moveaxis(blocked(v, axis, n), axis, 0).reshape(n, -1) for v in (a[name], permuted(b[name], axes, perms, but=axis)))
                total += x @ y.T
    return total


def sweep(a, b, spec, perms, order):
    gained = 0
    for group in order:
        cost = costs(a, b, spec, perms, group)
        found = linear_sum_assignment(cost, maximize=True)[1]
        rows = np.arange(len(found))
        gain = cost[rows, found].sum() - cost[rows, perms[group]].sum()
        if gain > 1e-12:
            perms[group] = found
            gained += gain
    return gained


def match(a, b, spec, sizes, seed):
    rng = np.random.default_rng(seed)
    perms = {group: np.arange(n) for group, n in sizes.items()}
    for _ in range(100):
        if not sweep(a, b, spec, perms, rng.permutation(list(sizes))):
            break
    return objective(a, b, spec, perms)


def draw(shapes, rng):
    return {name: rng.standard_normal(shape) * (np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else .1) for name, shape in shapes.items()}


def save(model, weights, path):
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(weights[tensor.name].astype(np.float32), tensor.name))
    onnx.save(model, path)
    return {t.name: numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}


def ours(paths, names):
    first, *lines = run("match_models", *paths, SEARCHES).splitlines()
    perms = {names[line.split()[0]]: np.array(line.split()[1:], int) for line in lines}
    return perms, *map(float, first.split())


def check_pair(checks, what, model, spec, names, weights, folder):
    paths = [folder / f"{side}.onnx" for side in "ab"]
    a, b = (save(model, w, path) for w, path in zip(weights, paths))
    sizes = {axes[0]: len(a[name]) for name, axes in spec.items() if axes[0] is not None}
    perms, value, before = ours(paths, names)
    if not checks.that(all((np.sort(perms[group]) == np.arange(n)).all() for group, n in sizes.items()), f"{what}: not permutations"):
        return
    exact = objective(a, b, spec, perms)
    checks.at_most(abs(value - exact), 1e-12 * abs(exact), f"{what}: objective")
    identity = objective(a, b, spec, {group: np.arange(n) for group, n in sizes.items()})
    checks.at_most(abs(before - identity), 1e-12 * abs(exact), f"{what}: objective of the identity")
    theirs = max(match(a, b, spec, sizes, seed) for seed in range(SEARCHES))
    checks.that(value >= theirs * (1 - 1e-9), f"{what}: {value:.9g}, SciPy's is {theirs:.9g}")
    left = sweep(a, b, spec, perms, list(sizes))
    checks.at_most(left, 1e-6 * abs(value), f"{what}: SciPy still gains")
    print(f"{what}: {value:.6g}, SciPy's {theirs:.6g}, identity {identity:.3g}")


def main():
    checks = Checks()
    with tempfile.TemporaryDirectory() as folder:
        for name, spec in SPECIFICATIONS.items():
            model = onnx.load(TESTDATA / f"{name}.onnx")
            shapes = {t.name: tuple(t.dims) for t in model.graph.initializer}
            for seed in range(PAIRS):
                rng = np.random.default_rng(100 + seed)
                a, noise = draw(shapes, rng), draw(shapes, rng)
                sizes = {axes[0]: shapes[n][0] for n, axes in spec.items() if axes[0] is not None}
                scramble = {group: rng.permutation(n) for group, n in sizes.items()}
                part = seed / PAIRS  # of the second that is the first, scrambled
                b = {n: permuted(part * a[n] + np.sqrt(1 - part**2) * noise[n], spec[n], scramble) for n in a}
                check_pair(checks, f"{name}, {part:.0%} alike", model, spec, NAMES[name], (a, b), pathlib.Path(folder))
    checks.finish()


if __name__ == "__main__":
    main()
