"""Random networks (random_graphs.py): scrambled units come back bit for bit, whatever the groups are like, at the first search.
"""
import collections
import pathlib
import tempfile

import onnx

from common import Checks, run
from random_graphs import Network

SEEDS = 200
OPSETS = (9, 13, 18)
TIMES, SEARCHES = 3, 3


def main():
    checks = Checks()
    found = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.onnx"
        for seed in range(SEEDS):
            onnx.save(Network(seed, OPSETS[seed % len(OPSETS)]).build(), path)
            back, later, groups, blocks, inside = map(int, run("match_scrambled", path, TIMES, SEARCHES).split())
            if not groups:
                continue
            found.update(networks=1, scrambled=TIMES, back=back, later=later, groups=groups, blocks=blocks, inside=inside)
            if back < TIMES:
                print(f"seed {seed}: {back} of {TIMES} come back; {groups} groups, {blocks} of blocks, {inside} inside them")
    print(dict(found))
    checks.that(found["networks"] > SEEDS / 4, f"only {found['networks']} of {SEEDS} networks have groups")
    checks.that(found["inside"] > 0, "no units inside blocks")
    checks.that(found["back"] == found["scrambled"], f"{found['back']} of {found['scrambled']} come back")
    checks.that(not found["later"], f"{found['later']} take more than the first search")
    checks.finish()


if __name__ == "__main__":
    main()
