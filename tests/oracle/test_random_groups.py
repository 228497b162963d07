"""Random networks (random_graphs.py): permuting any group that papa derives from the graph changes no output.

Once by the executor: sums in float32 and in another order, so that outputs differ by some 1e-6 of the largest; a wrong group moves them by 1e-2 and more.
Once by the proof, in double, which also tells which groups show: a network may subtract a value from itself, or have units that are dead.
"""
import collections
import os
import pathlib
import subprocess
import tempfile

import onnx

from common import Checks
from random_graphs import Network

SEEDS = 200
OPSETS = (9, 13, 18)
TOLERANCE, IN_DOUBLE = 1e-4, 1e-9
PAPA_BIN = pathlib.Path(os.environ["PAPA_BIN"])


def try_groups(path, network):
    shapes = [",".join(map(str, a.shape)) for a in network.inputs.values()]
    return subprocess.run([PAPA_BIN / "try_groups", path, *shapes], capture_output=True, text=True)


def main():
    checks = Checks()
    found, worst = collections.Counter(), 0.
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.onnx"
        for seed in range(SEEDS):
            network = Network(seed, OPSETS[seed % len(OPSETS)])
            onnx.save(network.build(), path)
            got = try_groups(path, network)
            if not checks.that(got.returncode == 0, f"seed {seed}: {got.stdout.strip()} {got.stderr.strip()}"):
                continue
            error, in_double, n_groups, n_units, n_unseen, *groups = got.stdout.split(maxsplit=5)
            worst = max(worst, float(in_double))
            checks.that(float(in_double) <= IN_DOUBLE, f"seed {seed}: proved only to {in_double}: {' '.join(groups)}")
            checks.that(float(error) <= TOLERANCE, f"seed {seed}: outputs differ by {error}: {' '.join(groups)}")
            found.update(networks=1, with_groups=int(n_groups) > 0, groups=int(n_groups), units=int(n_units), unseen=int(n_unseen))
    print(dict(found), f"proved to {worst:.1e}")
    checks.that(found["with_groups"] > SEEDS / 4, f"only {found['with_groups']} of {SEEDS} networks have groups")
    checks.that(found["unseen"] < found["groups"] / 5, f"{found['unseen']} of {found['groups']} groups have no say in the outputs")
    checks.finish()


if __name__ == "__main__":
    main()
