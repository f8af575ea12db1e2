"""Validity study: does a ranking keep together what cannot be told apart?

Usage: python studies/ties.py --reps 200 [--only TEXT]

Three entries of one population are ranked on one real set, again and again. Every pair that is
split is an error. Prints one row of a markdown table per design and metric: how often any pair is
split, and how often the difference of the first two entries has p <= 5%, with exact 95% intervals.
Features are Gaussian with effective rank 10 in 128 dimensions, MS-SSIM is a similarity of them.
Timings are for one core: set OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from coverage_cells import SSIM_CONSTANT, Features, similarity, spectrum
from jaxtyping import Int64
from scipy.stats import binomtest

from synthbench.metrics.fid import FID
from synthbench.metrics.inference.comparison import paired_difference, rank
from synthbench.metrics.kernels import median_bandwidth
from synthbench.metrics.metric import BaseMetric, Statistic
from synthbench.metrics.mmd import KID, MMD2
from synthbench.metrics.msssim import MSSSIM
from synthbench.metrics.prdc import Coverage, Density

DIMENSION, RANK = 128, 10
ENTRIES = 3
RESAMPLES = 300
ICC = 0.8
SUBJECTS = 24
"""Subjects per set with 2 to 5 scans each, whose intraclass correlation is `ICC`."""
METRICS: tuple[type[BaseMetric], ...] = (MMD2, KID, MSSSIM, FID, Density, Coverage)


class Scans(NamedTuple):
    """Standard normal features, and the subject of each row."""

    rows: Features
    subjects: Int64[np.ndarray, " n"]


Draw = Callable[[np.random.Generator], Scans]


def one_scan(n: int) -> Draw:
    """Return a draw of n subjects with one scan each."""
    return lambda rng: Scans(rng.standard_normal((n, DIMENSION)), np.arange(n))


def several_scans(rng: np.random.Generator) -> Scans:
    """Return 2 to 5 scans of each of `SUBJECTS` subjects."""
    index = np.repeat(np.arange(SUBJECTS), rng.integers(2, 6, size=SUBJECTS))
    shared = rng.standard_normal((SUBJECTS, DIMENSION))[index]
    own = rng.standard_normal((len(index), DIMENSION))
    return Scans(np.sqrt(ICC) * shared + np.sqrt(1 - ICC) * own, index)


class Design(NamedTuple):
    """How the real set and each entry are drawn, and the entries' shift in standard deviations."""

    real: Draw
    entry: Draw
    shift: float = 0.0


DESIGNS: Mapping[str, Design] = {
    **{
        f"n = m = {n}, {name}": Design(one_scan(n), one_scan(n), moved)
        for n in (12, 60)
        for name, moved in {"equal to real": 0.0, "all 0.5 sd off": 0.5}.items()
    },
    "24 subjects x 2 to 5, equal to real": Design(several_scans, several_scans),
    "24 subjects x 2 to 5, all 0.5 sd off": Design(several_scans, several_scans, 0.5),
}


def statistic(metric: BaseMetric, real: Scans, synth: Scans) -> Statistic:
    """Return the metric's statistic of one entry."""
    subjects = {"real": real.subjects, "synth": synth.subjects}
    if isinstance(metric, MSSSIM):
        pairs = [similarity(s.rows, SSIM_CONSTANT * DIMENSION) for s in (real, synth)]
        return metric.prepare(*pairs, subjects=subjects)
    if isinstance(metric, MMD2):
        bandwidth = median_bandwidth(real.rows, real.subjects)
        return metric.prepare(real.rows, synth.rows, subjects=subjects, bandwidth=bandwidth)
    return metric.prepare(real.rows, synth.rows, subjects=subjects)


class Counts(NamedTuple):
    """Repetitions with a pair that was split, and with p <= 5% of the first pair."""

    split: int
    differ: int


def counted(design: Design, kind: type[BaseMetric], reps: int) -> Counts:
    """Rank the entries of each repetition by one metric."""
    scale = np.sqrt(spectrum(RANK, DIMENSION))
    split = differ = 0
    metric = kind()
    for rep in range(reps):
        rng = np.random.default_rng([0, rep])
        rows, index = design.real(rng)
        real = Scans(scale * (1 + rows), index)
        entries = {}
        for name in range(ENTRIES):
            rows, index = design.entry(rng)
            moved = Scans(scale * (1 + design.shift + rows), index)
            entries[f"entry {name}"] = moved
        if metric.target == "floor":
            # Such metrics compare equally many images: each entry is cut to the smallest one.
            entries = cut(entries)
        found = {name: statistic(metric, real, synth) for name, synth in entries.items()}
        ranking = rank(found, direction=metric.direction, resamples=RESAMPLES, seed=rep)
        first, second, *_ = found.values()
        pair = paired_difference(
            first, second, direction=metric.direction, resamples=RESAMPLES, seed=rep
        )
        split += len(ranking.split) > 0
        differ += pair.p <= 0.05
    return Counts(split, differ)


def cut(entries: Mapping[str, Scans]) -> dict[str, Scans]:
    """Return the entries with equally many scans.

    Scans are dropped from the subjects with the most, so that all subjects stay.
    """
    fewest = min(len(entry.subjects) for entry in entries.values())
    found = {}
    for name, (rows, index) in entries.items():
        kept = list(range(len(index)))
        while len(kept) > fewest:
            most = np.bincount(index[kept]).argmax()
            kept.remove(max(i for i in kept if index[i] == most))
        found[name] = Scans(rows[kept], index[kept])
    return found


def share(hits: int, of: int) -> str:
    """Return a share with its exact 95% interval, in percent."""
    ends = binomtest(hits, of).proportion_ci()
    return f"{100 * hits / of:.1f} [{100 * ends.low:.1f}, {100 * ends.high:.1f}]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--reps", type=int, default=200, help="repetitions per row")
    parser.add_argument("--only", default="", help="text in the names of the designs to run")
    parser.add_argument("--metric", nargs="+", default=[kind.name for kind in METRICS])
    options = parser.parse_args(arguments)
    print("| three tied entries | metric | n | any pair split, % | first pair p <= 5%, % |")
    print("|---|---|---:|---:|---:|")
    for name, design in DESIGNS.items():
        if options.only not in name:
            continue
        for kind in METRICS:
            if kind.name in options.metric:
                found = counted(design, kind, options.reps)
                cells = [share(count, options.reps) for count in found]
                row = [name, kind.name, str(options.reps), *cells]
                print(f"| {' | '.join(row)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
