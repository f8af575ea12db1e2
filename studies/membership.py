"""Does membership inference hold its level, and what does it find?

Usage: python studies/membership.py

Features are Gaussian in 128 dimensions with an effective rank r, as in studies/detectable.py. The
generator is a Gaussian that is fitted to 70 images (their mean and principal components). Nulls: it
was fitted to other people than the training set. Leaks: it was fitted to the training set; or some
synthetic images are training images with a little noise. The level is the share of intervals that
do not hold zero, on either side.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from scipy import stats

sys.path.insert(0, str(Path(__file__).parent))

from coverage_cells import spectrum

from synthbench.metrics.membership import Membership, membership_inference

DIMENSION = 128
SYNTHETIC = 70
CELLS: list[tuple[float | None, int, int, bool]] = [
    *((None, r, 70, own) for r in (2, 10, 32) for own in (False, True)),
    (None, 10, 35, True),
    (None, 10, 200, False),
    *((copies, 10, 70, False) for copies in (0.0, 0.1, 0.3, 1.0)),
]
"""Share of copies, rank, subjects per side, and whether there are people for a reference."""


def fitted(x: Float64[np.ndarray, "n d"], m: int, rng: np.random.Generator) -> np.ndarray:
    """Return samples of a Gaussian with the mean and the covariance of a set."""
    centred = x - x.mean(axis=0)
    return np.asarray(x.mean(axis=0) + rng.standard_normal((m, len(x))) @ centred
                      / np.sqrt(len(x) - 1))  # fmt: skip


def attack(n: int, rank: int, copies: float | None, reference: bool, seed: int) -> Membership:
    """Return the finding of one repetition.

    Parameters
    ----------
    n
        Training subjects, and hold-out subjects.
    copies
        None: a generator that was fitted to other people. Otherwise it was fitted to the training
        set, and this share of its images are training images with noise of 0.1 sd.
    reference
        True: there are n further people as a reference.
    """
    rng = np.random.default_rng([n, rank, seed])
    scale = np.sqrt(spectrum(rank, DIMENSION))
    train, holdout, others = (scale * rng.standard_normal((n, DIMENSION)) for _ in range(3))
    other = scale * rng.standard_normal((SYNTHETIC, DIMENSION))
    synth = fitted(other if copies is None else train, SYNTHETIC, rng)
    k = round((copies or 0) * SYNTHETIC)
    synth[:k] = train[rng.integers(n, size=k)] + 0.1 * scale * rng.standard_normal((k, DIMENSION))
    return membership_inference(synth, train, holdout, others if reference else None, seed=seed)


def rows(given: argparse.Namespace) -> Iterator[str]:
    """Yield the table's lines."""
    yield ("| generator | r | training, hold-out | reference | AUC | interval without zero | "
           "told | cannot be told | detectable AUC |")  # fmt: skip
    yield "|---|---:|---:|---|---:|---:|---:|---:|---:|"
    for copies, rank, n, reference in CELLS:
        repetitions = given.nulls if copies is None else given.repetitions
        found = [attack(n, rank, copies, reference, seed) for seed in range(repetitions)]
        words = {None: "of other people", 0.0: "fitted to training"}.get(
            copies, f"with {copies or 0:.0%} copies"
        )
        outside = sum(not one.low <= 0 <= one.high for one in found)
        ends = stats.binomtest(outside, repetitions).proportion_ci()
        shares = [
            f"{np.mean([one.verdict == verdict for one in found]):.0%}"
            for verdict in ("told", "cannot be told")
        ]
        yield (f"| {words} | {rank} | {n}, {n} | {'own' if reference else 'halves'} | "
               f"{np.mean([one.auc for one in found]):.3f} | {outside / repetitions:.1%} "
               f"[{ends.low:.1%}, {ends.high:.1%}] | {' | '.join(shares)} | "
               f"{0.5 + found[0].detectable:.2f} |")  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--nulls", type=int, default=500)
    parser.add_argument("--repetitions", type=int, default=100)
    given = parser.parse_args()
    for line in rows(given):
        print(line, flush=True)


if __name__ == "__main__":
    main()
