"""Verdicts on memorization: each kind of generator against what is said of it.

Usage: python studies/memorization_verdicts.py --reps 200 [--kind NAME ...] [--rank R ...]
       python studies/memorization_verdicts.py --reps 200 --visits REAL [--spacing 4]

Prints one row of a markdown table per kind of generator and effective rank: how often each verdict
is given, with exact 95% intervals. Features are Gaussian, with the eigenvalues of the coverage
study; training, hold-out and synthetic set have 86 images unless the kind says so. With `--visits`,
the rows are of the volumes of a real cohort, divided at random: 30 training and 30 hold-out
subjects with some visits each, and one visit of 30 other subjects as a perfect generator's images.
A visit is the subject's volume under a smooth warp.
Timings are for one core: set OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from coverage_cells import Features, spectrum
from jaxtyping import Float64, Int64
from scipy.spatial.distance import cdist
from scipy.stats import binomtest

from synthbench.cohorts.cohort import majority_mask
from synthbench.cohorts.reading import read_cohort
from synthbench.metrics.memorization import memorization
from synthbench.metrics.nearest.verdict import WORDS
from synthbench.sensitivity.corruptions.of_volumes import warp

N = 86
PERMUTATIONS = 99
DIMENSION = 128
"""Number of features, where the effective rank is below it."""
PEOPLE, VISITS, WARP_MM = 30, 3, 1.5
"""Of the rows of a real cohort: subjects per set, visits of each, and RMS displacement."""
KEPT_VARIANCE = 0.99
"""The share of variance that the fitted Gaussian keeps, as `pca-gaussian` does."""


class Sets(NamedTuple):
    """Synthetic, training and hold-out features, with subjects where they have several scans."""

    synth: Features
    train: Features
    holdout: Features
    subjects: Mapping[str, Int64[np.ndarray, " n"]] | None = None


class Population(NamedTuple):
    """Gaussian features with these standard deviations; the mean is one of them per axis."""

    sd: Features
    rng: np.random.Generator

    def images(self, n: int, spread: float = 1.0) -> Features:
        """Return the features of n subjects, one scan each."""
        noise: Features = self.sd * (1 + spread * self.rng.standard_normal((n, len(self.sd))))
        return noise

    def scans(self, counts: Sequence[int], icc: float) -> tuple[Features, Int64[np.ndarray, " n"]]:
        """Return several scans of each subject; `icc` is the subjects' share of the variance."""
        of = np.repeat(np.arange(len(counts)), counts)
        between = self.rng.standard_normal((len(counts), len(self.sd)))[of]
        within = self.rng.standard_normal((len(of), len(self.sd)))
        return self.sd * (1 + np.sqrt(icc) * between + np.sqrt(1 - icc) * within), of

    def fitted(self, train: Features, n: int) -> Features:
        """Return samples of a Gaussian that was fitted to training images."""
        mean = train.mean(axis=0)
        _, s, axes = np.linalg.svd(train - mean, full_matrices=False)
        kept = int(np.searchsorted(np.cumsum(s**2) / (s**2).sum(), KEPT_VARIANCE)) + 1
        scale = s[:kept] / np.sqrt(len(train) - 1)
        samples: Features = mean + (self.rng.standard_normal((n, len(scale))) * scale) @ axes[:kept]
        return samples

    def near_copies(self, train: Features, holdout: Features, count: int) -> Features:
        """Return copies at half the distance of a training image to its nearest real image."""
        chosen = self.rng.choice(len(train), count, replace=count > len(train))
        distances = cdist(train[chosen], np.concatenate([train, holdout]))
        distances[np.arange(count), chosen] = np.inf
        step = self.sd * self.rng.standard_normal((count, len(self.sd)))
        step /= np.linalg.norm(step, axis=1, keepdims=True)
        copies: Features = train[chosen] + 0.5 * distances.min(axis=1)[:, None] * step
        return copies


Kind = Callable[[Population], Sets]


def with_copies(share: float, spread: float = 1.0, shift: float = 0.0) -> Kind:
    """Return a generator that hands out near copies, else images of this spread.

    `shift` moves the hold-out, in standard deviations along every axis.
    """

    def kind(of: Population) -> Sets:
        train, holdout, synth = of.images(N), of.images(N) + shift * of.sd, of.images(N, spread)
        count = round(share * N)
        synth[:count] = of.near_copies(train, holdout, count)
        return Sets(synth, train, holdout)

    return kind


def from_training(sample: Callable[[Population, Features], Features], n_fit: int = N) -> Kind:
    """Return a generator that is fitted to `n_fit` images; the test is given 86 of them."""

    def kind(of: Population) -> Sets:
        fitted_to = of.images(n_fit)
        return Sets(sample(of, fitted_to), fitted_to[:N], of.images(N))

    return kind


def all_of_1000(of: Population) -> Sets:
    """A Gaussian that was fitted to 1,000 images, all of which the test is given."""
    train = of.images(1000)
    return Sets(of.fitted(train, N), train, of.images(N))


def means_of_five(of: Population, train: Features) -> Features:
    """Return means of five training images each."""
    rows = [train[of.rng.choice(len(train), 5, replace=False)].mean(axis=0) for _ in range(N)]
    return np.stack(rows)


def other_site(shift: float = 0.0, scale: float = 1.0) -> Kind:
    """Return a perfect generator of the training site; the hold-out is of another one."""
    return lambda of: Sets(of.images(N), of.images(N), scale * of.images(N) + shift * of.sd)


def several_scans(train: Sequence[int], holdout: Sequence[int], icc: float) -> Kind:
    """Return a perfect generator, with these numbers of scans per subject."""

    def kind(of: Population) -> Sets:
        (t, t_of), (h, h_of) = of.scans(train, icc), of.scans(holdout, icc)
        return Sets(of.images(N), t, h, {"train": t_of, "holdout": h_of})

    return kind


def one_scan_copied(share: float) -> Kind:
    """Return near copies of single scans of training subjects with five scans each, icc 0.8."""

    def kind(of: Population) -> Sets:
        train, t_of = of.scans([5] * 40, 0.8)
        holdout, h_of = of.scans([1] * 40, 0.8)
        synth, count = of.images(N), round(share * N)
        synth[:count] = of.near_copies(train, holdout, count)
        return Sets(synth, train, holdout, {"train": t_of, "holdout": h_of})

    return kind


_MIXED = ([1, 2, 3, 4, 5] * 8, [1, 1, 1, 2, 5] * 8)
DESIGNS = {
    "4 scans x 40 against 1 x 40": ([4] * 40, [1] * 40),
    "1 x 40 against 4 x 40": ([1] * 40, [4] * 40),
    "1 x 15 against 4 x 60": ([1] * 15, [4] * 60),
    "3 x 24 against 1 x 86": ([3] * 24, [1] * 86),
    "5 x 40 against 2 x 40": ([5] * 40, [2] * 40),
    "1 to 5 x 40 against 1, 2 or 5 x 40": _MIXED,
}

KINDS: Mapping[str, Kind] = {
    "perfect": with_copies(0),
    "collapsed (spread 0.5)": with_copies(0, spread=0.5),
    "shifted by 0.5 sd": lambda of: Sets(of.images(N) + 0.5 * of.sd, of.images(N), of.images(N)),
    "Gaussian fitted to the 86": from_training(lambda of, train: of.fitted(train, N)),
    "Gaussian fitted to 1,000, tested with 86": from_training(
        lambda of, train: of.fitted(train, N), 1000
    ),
    "Gaussian fitted to 1,000, tested with all": all_of_1000,
    "training mean, true covariance": from_training(
        lambda of, train: train.mean(axis=0) - of.sd + of.images(N)
    ),
    "means of 5 training images": from_training(means_of_five),
    "perfect; hold-out 0.2 sd off": other_site(shift=0.2),
    "perfect; hold-out 1 sd off": other_site(shift=1.0),
    "perfect; hold-out 5% brighter": other_site(scale=1.05),
    "5% near copies": with_copies(0.05),
    "10% near copies": with_copies(0.1),
    "10% near copies, rest collapsed": with_copies(0.1, spread=0.5),
    "10% near copies; hold-out 0.2 sd off": with_copies(0.1, shift=0.2),
    "all near copies": with_copies(1.0),
    "all near copies; hold-out 1 sd off": with_copies(1.0, shift=1.0),
    "10% near copies of 1 of 5 scans": one_scan_copied(0.1),
    **{
        f"perfect; {name}, icc {icc:g}": several_scans(*counts, icc)
        for name, counts in DESIGNS.items()
        for icc in (0.0, 0.5, 0.95)
    },
}


class Visits(NamedTuple):
    """Visits of real subjects: [subject, visit, axis], with the distances between their voxels."""

    images: Float64[np.ndarray, "n v d"]

    @classmethod
    def of(cls, real: Path, spacing: float) -> Visits:
        """Read a cohort, and warp each of its volumes to make the visits."""
        cohort = read_cohort(real)
        space = cohort.grid.regrid(spacing=spacing)
        volumes = cohort.volumes(space)
        inside = majority_mask(volumes)
        rng = np.random.default_rng(0)
        rows = np.stack([
            warp(volume, WARP_MM, space, rng)[inside]
            for volume in volumes for _ in range(VISITS)
        ]).astype(np.float64)  # fmt: skip
        rows -= rows.mean(axis=0)
        # Coordinates along the principal axes have the same distances, and are fewer than voxels.
        squares, axes = np.linalg.eigh(rows @ rows.T)
        coordinates = axes * np.sqrt(squares.clip(min=0))
        return cls(coordinates.reshape(len(volumes), VISITS, -1))

    def divided(self, train: int, holdout: int) -> Kind:
        """Return random sets with these numbers of visits per training and hold-out subject."""

        def kind(of: Population) -> Sets:
            order = of.rng.permutation(len(self.images))
            parts = [self.images[order[i * PEOPLE : (i + 1) * PEOPLE]] for i in range(3)]
            synth = parts[2][:, 0]
            t, h = (
                part[:, :visits].reshape(-1, part.shape[2])
                for part, visits in zip(parts[:2], (train, holdout), strict=True)
            )
            subjects = {
                "train": np.repeat(np.arange(PEOPLE), train),
                "holdout": np.repeat(np.arange(PEOPLE), holdout),
            }
            return Sets(synth, t, h, subjects)

        return kind


def verdicts(kind: Kind, rank: int, reps: int, seed: int) -> Counter[str]:
    """Return how often each verdict is given."""
    sd = np.sqrt(spectrum(rank, max(rank, DIMENSION)))
    found: Counter[str] = Counter()
    for rep in range(reps):
        sets = kind(Population(sd, np.random.default_rng([seed, rank, rep])))
        synth, train, holdout, subjects = sets
        assessed = memorization(
            synth, train, holdout, permutations=PERMUTATIONS, seed=rep, subjects=subjects
        )
        found[assessed.verdict] += 1
    return found


def row(name: str, rank: int | str, found: Counter[str], reps: int) -> str:
    """Return a row of the table: the share of each verdict with its exact interval, in percent."""
    cells = []
    for verdict in WORDS:
        ci = binomtest(found[verdict], reps).proportion_ci()
        share = found[verdict] / reps
        cells.append(f"{100 * share:.1f} [{100 * ci.low:.1f}, {100 * ci.high:.1f}]")
    return f"| {name} | {rank} | {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--reps", type=int, default=200, help="repetitions per row")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--rank", type=int, nargs="+", default=[10, 32, 512])
    parser.add_argument(
        "--visits", type=Path, metavar="REAL", help="rows of a real cohort's visits"
    )
    parser.add_argument("--spacing", type=float, default=4.0, help="of its volumes, in mm")
    options = parser.parse_args(arguments)
    print(f"| generator | r | {' | '.join(WORDS.values())} |\n|---|---|{'---|' * len(WORDS)}")
    if options.visits is not None:
        visits = Visits.of(options.visits, options.spacing)
        for train, holdout in ((3, 1), (1, 3), (1, 1)):
            found = verdicts(visits.divided(train, holdout), DIMENSION, options.reps, options.seed)
            name = f"other people; {train} visits x {PEOPLE} against {holdout} x {PEOPLE}"
            print(row(name, "voxels", found, options.reps), flush=True)
        return 0
    for name in options.kind:
        for rank in options.rank:
            found = verdicts(KINDS[name], rank, options.reps, options.seed)
            print(row(name, rank, found, options.reps), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
