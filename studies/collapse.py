"""How often the check for a collapse finds one: in real volumes, and in volumes that come again.

    python studies/collapse.py --train split/train.tsv --unseen split/reference.tsv --reps 200

As in a training, 16 volumes of the training cohort are compared with 16 others: with unseen real
volumes (a finding is a false alarm), with draws with replacement from k of them, or with means of
an unseen volume and the mean volume (less diverse, and blurred). Prints the table of docs/gan3d.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from scipy.stats import binomtest

from synthbench.cohorts.cohort import majority_mask
from synthbench.cohorts.reading import read_cohort
from synthbench.metrics.similarity.collapse import diversity
from synthbench.metrics.similarity.msssim_pairs import pair_matrix
from synthbench.metrics.similarity.settings import PRESETS
from synthbench.metrics.similarity.volumes import Tensors

N = 16
KINDS = (1, 2, 4, 8, 16, 32)
SHARES = (0.25, 0.5, 0.75)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--unseen", type=Path, required=True)
    parser.add_argument("--shape", type=int, nargs=3, default=[48, 56, 48])
    parser.add_argument("--spacing", type=float, default=4.0)
    parser.add_argument("--reps", type=int, default=200)
    args = parser.parse_args()

    cohort = read_cohort(args.train)
    space = cohort.grid.regrid(tuple(args.shape), args.spacing, cohort.brain_centre())
    volumes = cohort.volumes(space, "percentile")
    mask = torch.from_numpy(majority_mask(volumes))
    real = list(volumes)
    unseen = list(read_cohort(args.unseen).volumes(space, "percentile"))
    mean = np.mean(real, axis=0, dtype=np.float64)

    def pairs(of: list[np.ndarray]) -> np.ndarray:
        tensors = Tensors(of, torch.device("cpu"))
        return pair_matrix(tensors, mask=mask, settings=PRESETS["default"])

    of_real, of_unseen = pairs(real), pairs(unseen)
    rng = np.random.default_rng(0)

    def found(name: str, of: np.ndarray, kinds: int | None) -> None:
        shares, twins, hits = [], [], 0
        for _ in range(args.reps):
            reference = rng.choice(len(real), N, replace=False)
            if kinds is None:
                chosen = rng.choice(len(of), N, replace=False)
            else:
                chosen = rng.choice(rng.choice(len(of), kinds, replace=False), N)
            one = diversity(of[np.ix_(chosen, chosen)], of_real[np.ix_(reference, reference)])
            shares.append(one.diversity)
            twins.append(one.twins)
            hits += one.collapsed
        ends = binomtest(hits, args.reps).proportion_ci(method="exact")
        low, high = np.quantile(shares, [0.025, 0.975])
        print(
            f"| {name} | {np.mean(shares):.2f} ({low:.2f} to {high:.2f}) | {np.mean(twins):.2f} | "
            f"{hits} of {args.reps} ({ends.low:.3f} to {ends.high:.3f}) |",
            flush=True,
        )

    print("| the 16 volumes | diversity | twins | collapse found |\n|---|---|---|---|")
    found("unseen real volumes", of_unseen, None)
    for k in KINDS:
        found(f"draws from {k} of them", of_unseen, k)
    for share in SHARES:
        nearer = [(share * v + (1 - share) * mean).astype(np.float32) for v in unseen]
        found(f"{share:g} x volume + {1 - share:g} x mean volume", pairs(nearer), None)


if __name__ == "__main__":
    main()
