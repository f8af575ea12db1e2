"""False alarms and power where subjects have several scans: the test of MMD^2, and the floors.

Usage: python studies/several_scans.py --repetitions 200 --out several-scans.jsonl

Features are Gaussian with effective rank 10 in 128 dimensions. A subject's scans have the
intraclass correlation `icc`: 0 is independent scans, 1 equal ones. The questions:

- test: how often is p at most 5%, with equal distributions and with a shift of the mean? Beside
  it, the same test of the first scan of each subject only.
- general: the same for the permutation test of any statistic, with equal distributions.
- floor: how often does a synthetic set of the same distribution lie beyond the floor's edge, with
  one scan of each synthetic subject and several of each real one?

Prints the rows of the tables in docs/coverage.md, and appends them to OUT as JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from coverage_cells import spectrum
from scipy.stats import binomtest

from synthbench.metrics.fid import FID
from synthbench.metrics.inference import floors
from synthbench.metrics.inference.permutation import permutation_test
from synthbench.metrics.kernels import median_bandwidth
from synthbench.metrics.metric import BaseMetric, Statistic
from synthbench.metrics.mmd import KID, MMD2
from synthbench.metrics.mmd_permutation import permutation_p
from synthbench.metrics.prdc import Coverage, Density

DIMENSION, RANK = 128, 10
ICCS = (0.0, 0.3, 0.8, 0.95)
DESIGNS = (
    ((30, 1), (30, 4)), ((30, 4), (30, 1)), ((30, 4), (120, 1)), ((24, 3), (86, 1)),
    ((86, 1), (24, 3)), ((30, 3), (30, 3)), ((15, 1), (60, 4)),
)  # fmt: skip
"""Subjects and scans per subject, of the real and of the synthetic set."""
SHIFT = 0.25
"""Of the synthetic mean, in standard deviations along every axis."""
POWERED = (DESIGNS[1], DESIGNS[3], DESIGNS[6])
"""Designs whose power is measured, at the first and the third correlation."""
FLOORS = ((0.8, 1), (0.5, 3), (0.8, 3), (0.95, 3))
"""Intraclass correlation, and scans of each of 60 real subjects."""
METRICS: tuple[type[BaseMetric], ...] = (MMD2, KID, FID, Coverage, Density)
LEVEL = 0.05


def scans(
    rng: np.random.Generator, subjects: int, each: int, icc: float, shift: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return features with the mean 1 + shift, and the subject of each row."""
    index = np.repeat(np.arange(subjects), each)
    own = rng.standard_normal((len(index), DIMENSION))
    shared = rng.standard_normal((subjects, DIMENSION))[index]
    scale = np.sqrt(spectrum(RANK, DIMENSION))
    return scale * (1 + shift + np.sqrt(icc) * shared + np.sqrt(1 - icc) * own), index


def tested(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the counts of rejections of each design, correlation and shift."""
    for (n, a), (m, b) in DESIGNS:
        for icc in ICCS:
            powered = ((n, a), (m, b)) in POWERED and icc in (ICCS[0], ICCS[2])
            for shift in (0.0, SHIFT) if powered else (0.0,):
                rejected = {"drawn": 0, "first": 0}
                for r in range(given.repetitions):
                    rng = np.random.default_rng([1, r, n, a, m, b, round(100 * icc)])
                    x, of_x = scans(rng, n, a, icc)
                    y, of_y = scans(rng, m, b, icc, shift)
                    bandwidth = median_bandwidth(x, of_x)
                    settings = {"permutations": given.permutations, "seed": r}
                    drawn = permutation_p(
                        x, y, bandwidth, subjects={"real": of_x, "synth": of_y}, **settings
                    )
                    first = permutation_p(x[::a], y[::b], bandwidth, **settings)
                    rejected["drawn"] += drawn <= LEVEL
                    rejected["first"] += first <= LEVEL
                yield {"design": f"{n} x {a}, {m} x {b}", "icc": icc, "shift": shift, **rejected}


def general(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the counts of rejections of the general permutation test, of coverage and FID."""
    for metric, direction in ((Coverage(), "higher"), (FID(), "lower")):
        for icc in (0.0, 0.8):
            rejected = 0
            for r in range(given.repetitions):
                rng = np.random.default_rng([2, r, round(100 * icc)])
                x, of_x = scans(rng, 15, 3, icc)
                y, of_y = scans(rng, 40, 1, icc)
                pooled, index = np.concatenate([x, y]), np.concatenate([of_x, 15 + of_y])
                both = statistic(metric, pooled, pooled, index, index)
                p = permutation_test(
                    both, np.arange(len(pooled)) < len(x), permutations=39, seed=r,
                    direction=direction,  # type: ignore[arg-type]
                )  # fmt: skip
                rejected += p <= LEVEL
            yield {"metric": metric.name, "icc": icc, "rejected": rejected}


def statistic(
    metric: BaseMetric, x: np.ndarray, y: np.ndarray, of_x: np.ndarray, of_y: np.ndarray
) -> Statistic:
    """Return the metric's statistic; the bandwidth is that of the real set."""
    subjects = {"real": of_x, "synth": of_y}
    if isinstance(metric, MMD2):
        return metric.prepare(x, y, subjects=subjects, bandwidth=median_bandwidth(x, of_x))
    return metric.prepare(x, y, subjects=subjects)


def stood(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield how often a synthetic set of the real distribution lies beyond the floor."""
    for icc, each in FLOORS:
        for metric in (kind() for kind in METRICS):
            beyond, means = 0, []
            for r in range(given.repetitions):
                rng = np.random.default_rng([3, r, each, round(100 * icc)])
                x, of_x = scans(rng, 60, each, icc)
                y, of_y = scans(rng, 60, 1, icc)
                itself = statistic(metric, x, x, of_x, of_x)
                both = statistic(metric, x, y, of_x, of_y)
                floor = floors.floor(itself, n=30, splits=100, seed=0)
                value = floors.matched(both, 30, repeats=100, seed=0).mean
                worse = value < floor.low if metric.direction == "higher" else value > floor.high
                beyond += worse
                means.append((floor.mean, value))
            floor_mean, value_mean = np.mean(means, axis=0).tolist()
            yield {"scans": each, "icc": icc, "metric": metric.name, "beyond": int(beyond),
                   "floor": floor_mean, "synth": value_mean}  # fmt: skip


def share(hits: int, n: int) -> str:
    """Return a share with its 95% interval (Clopper-Pearson) as text."""
    interval = binomtest(hits, n).proportion_ci()
    return f"{hits / n:.1%} [{interval.low:.1%}, {interval.high:.1%}]"


def main() -> None:
    """Compute the questions' cells, and print them as rows of tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--question", choices=["test", "general", "floor"], action="append")
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--permutations", type=int, default=99)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    questions = {"test": tested, "general": general, "floor": stood}
    counts = ("drawn", "first", "rejected", "beyond")
    with given.out.open("a", encoding="utf-8") as file:
        for question in given.question or questions:
            for record in questions[question](given):
                file.write(json.dumps(record | {"repetitions": given.repetitions}) + "\n")
                file.flush()
                words = [
                    share(value, given.repetitions) if key in counts else
                    f"{value:.3g}" if isinstance(value, float) else str(value)
                    for key, value in record.items()
                ]  # fmt: skip
                print(f"| {' | '.join(words)} |", file=sys.stdout, flush=True)


if __name__ == "__main__":
    main()
