"""Is a minimum detectable effect found with 80% power?

Usage: python studies/detectable.py --n 30 --repetitions 200 --out detectable.jsonl

Real and synthetic features, 2 n images each, are Gaussian in 128 dimensions with an effective rank
r. Each repetition takes the floor of the real set, with its minimum detectable effect, and the mean
over matched subsamples of n images for synthetic sets that differ by some dose. Two alternatives:

- shift: the mean moves by the dose, in standard deviations along every axis. The effect is
  defined for such a shift of the features (and of the pairs, for MS-SSIM).
- spread: the standard deviations shrink by the dose.

The power at the effect is read off between the doses whose mean excess over the floor lies below
and above the mean effect. For each metric and alternative a row is printed and appended to OUT:
the effect, the power there with its 95% interval, and the excess that has 80% power. A dash is an
excess that no dose reaches.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from coverage_cells import similarity, spectrum
from scipy.stats import binomtest

from synthbench.metrics.fid import FID
from synthbench.metrics.inference import floors
from synthbench.metrics.inference.contracts import Linear
from synthbench.metrics.inference.resampling import estimate
from synthbench.metrics.metric import BaseMetric, Statistic
from synthbench.metrics.mmd import KID, MMD2
from synthbench.metrics.msssim import MSSSIM
from synthbench.metrics.prdc import Coverage
from synthbench.scoring.statistics import shifted

DIMENSION = 128
METRICS: dict[str, BaseMetric] = {
    metric.name: metric for metric in (MMD2(), KID(), FID(), Coverage(), MSSSIM())
}
DOSES = {
    "shift": np.geomspace(0.1, 3.0, 24),
    "spread": np.array([0.03, 0.06, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8]),
}
PILOTS = 12
"""Repetitions from which the doses around the effect are chosen."""


def material(metric: BaseMetric, features: np.ndarray) -> np.ndarray:
    """Return what the metric takes of a set; for MS-SSIM a similarity of features."""
    return similarity(features, 0.01 * DIMENSION) if metric.pairs else features


def statistic(metric: BaseMetric, real: np.ndarray, synth: np.ndarray) -> Statistic:
    """Return the metric's statistic; the bandwidth is the population's."""
    if isinstance(metric, MMD2):
        return metric.prepare(real, synth, bandwidth=float(np.sqrt(2 * DIMENSION)))
    return metric.prepare(real, synth)


def against_shifted(metric: BaseMetric, real: np.ndarray, dose: float) -> Statistic:
    """Return the statistic of a set and of the same set shifted, as `score` does."""
    return statistic(metric, real, shifted(metric, real, dose))


def matched(metric: BaseMetric, real: np.ndarray, synth: np.ndarray, n: int) -> float:
    """Return the mean over matched subsamples; of a U-statistic, all of them."""
    found = statistic(metric, real, synth)
    if isinstance(found, Linear):
        return estimate(found)
    return floors.matched(found, n, repeats=100, seed=0).mean


class Repetitions:
    """The floors of the repetitions of one rank and metric, and synthetic sets at any dose."""

    def __init__(self, metric: BaseMetric, rank: int, n: int, repetitions: int) -> None:
        self.metric, self.n = metric, n
        self.scale = np.sqrt(spectrum(rank, DIMENSION))
        self.seeds = [[rank, n, r] for r in range(repetitions)]
        self.real = [
            material(metric, self.scale * (1 + np.random.default_rng([*seed, 0]).standard_normal(
                (2 * n, DIMENSION))))
            for seed in self.seeds
        ]  # fmt: skip
        self.floors = [
            floors.floor(
                statistic(metric, real, real), n=n, splits=200, seed=0, direction=metric.direction,
                shifted=partial(against_shifted, metric, real),
            )
            for real in self.real
        ]  # fmt: skip

    @property
    def effect(self) -> float:
        """The mean minimum detectable effect; NaN where a repetition has none."""
        found = [floor.minimum_detectable_effect for floor in self.floors]
        return float(np.mean([np.nan if e is None else e for e in found]))

    def at(self, alternative: str, dose: float, few: int | None = None) -> tuple[float, int, int]:
        """Return the mean excess, the number of findings and that of repetitions."""
        excess, found = [], 0
        for seed, real, floor in list(zip(self.seeds, self.real, self.floors, strict=True))[:few]:
            z = np.random.default_rng([*seed, 1]).standard_normal((2 * self.n, DIMENSION))
            moved = 1 + dose + z if alternative == "shift" else 1 + (1 - dose) * z
            value = matched(self.metric, real, material(self.metric, self.scale * moved), self.n)
            below, above = value < floor.low, value > floor.high
            direction = self.metric.direction
            found += below if direction == "higher" else above
            if direction == "zero":
                found += below
            excess.append((floor.mean - value) if direction == "higher" else (value - floor.mean))
        return float(np.mean(excess)), int(found), len(excess)


def power(cell: Repetitions, alternative: str) -> dict[str, float | None]:
    """Return the power at the effect, and the excess with 80% power; None where not reached."""
    doses = DOSES[alternative]
    pilot = [cell.at(alternative, float(dose), PILOTS)[0] for dose in doses]
    above = [i for i, excess in enumerate(pilot) if excess > cell.effect]
    if not above:
        return {"power": None, "needed": None}
    chosen = doses[max(0, above[0] - 3) : above[0] + 2]
    points = [cell.at(alternative, float(dose)) for dose in chosen]
    excess = np.array([point[0] for point in points])
    shares = np.array([point[1] / point[2] for point in points])
    reached = excess[0] < cell.effect < excess[-1]
    needed = np.interp(0.8, shares, excess) if shares[0] < 0.8 < shares[-1] else None
    return {
        "power": float(np.interp(cell.effect, excess, shares)) if reached else None,
        "needed": None if needed is None else float(needed),
    }


def row(cells: Sequence[object], found: dict[str, float | None], cell: Repetitions) -> str:
    """Return a row of the table."""
    share, needed, n = found["power"], found["needed"], len(cell.seeds)
    words = "-"
    if share is not None:
        ends = binomtest(round(share * n), n).proportion_ci()
        words = f"{share:.0%} [{ends.low:.0%}, {ends.high:.0%}]"
    ratio = "-" if needed is None else f"{needed / cell.effect:.0%}"
    return f"| {' | '.join(map(str, cells))} | {cell.effect:.3g} | {words} | {ratio} |"


def main() -> None:
    """Compute the cells, and print them as rows of a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--n", type=int, default=30, help="images per side of the floor")
    parser.add_argument("--rank", type=int, nargs="+", default=[2, 6, 10, 32])
    parser.add_argument("--metric", nargs="+", choices=list(METRICS), default=list(METRICS))
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    with given.out.open("a", encoding="utf-8") as file:
        for name in given.metric:
            for rank in given.rank:
                cell = Repetitions(METRICS[name], rank, given.n, given.repetitions)
                for alternative in DOSES:
                    found = power(cell, alternative)
                    record = {
                        "metric": name, "rank": rank, "n": given.n, "alternative": alternative,
                        "repetitions": given.repetitions, "effect": cell.effect, **found,
                    }  # fmt: skip
                    file.write(json.dumps(record) + "\n")
                    file.flush()
                    print(row([name, rank, given.n, alternative], found, cell), flush=True)


if __name__ == "__main__":
    main()
