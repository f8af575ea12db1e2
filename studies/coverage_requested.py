"""Validity study: the intervals of the metrics that are scored on request.

Usage: python studies/coverage_requested.py [--reps 200] [--only TEXT]

Prints a Markdown table for docs/numbers.md: for each metric and design, how often the default
interval is printed and covers the expected value at this n (for `rke` the populations' value at
the frozen bandwidth, in closed form). Designs are those of `coverage_designs`, with d = 128; the
constraints see the first six features, `quality` three. One core:
OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from coverage_cells import expected_kernel, spectrum
from coverage_designs import DIMENSION, REGIMES, Draw, clustered, independent
from coverage_gate import monte_carlo_interval

from synthbench import registry
from synthbench.errors import MetricError
from synthbench.metrics.inference.intervals import interval
from synthbench.metrics.inference.resampling import estimate
from synthbench.metrics.metric import Composite, Metric

METRICS = (
    "clipped_density", "clipped_coverage", "rke", "constraints", "quality", "fld", "morphometry",
    "morphometry.within", "morphometry.largest", "morphometry.rejects",
)  # fmt: skip
SIZES = (15, 35, 86)
RANKS = (2, 10)
RESAMPLES = 300
WIDTHS: dict[str, int] = {"constraints": 6, "quality": 3, "morphometry": 85}
"""The number of features that a metric sees, where it is not all."""


@dataclass
class Tally:
    """Estimates, intervals and targets of one metric in one design."""

    estimates: list[float] = field(default_factory=list)
    targets: list[float] = field(default_factory=list)
    ends: list[tuple[float, float] | None] = field(default_factory=list)

    def row(self) -> list[str]:
        """Return the columns of the table."""
        mean = float(np.mean(self.estimates))
        if not any(self.ends):
            return [f"{mean:.3g}", "0%", *3 * ["-"]]
        pairs = [
            (ends, target if np.isfinite(target) else mean)
            for ends, target in zip(self.ends, self.targets, strict=True)
            if ends is not None
        ]
        covered = sum(low <= target <= high for (low, high), target in pairs)
        below = sum(high < target for (_, high), target in pairs)
        low, high = monte_carlo_interval(covered, len(pairs))
        return [
            f"{mean:.3g}", f"{len(pairs) / len(self.ends):.0%}", f"{covered / len(pairs):.1%}",
            f"{low:.0%} to {high:.0%}", f"{below / len(pairs):.1%}",
        ]  # fmt: skip


def designs() -> Iterator[tuple[str, int, str, Draw]]:
    """Yield name, effective rank, regime and draw."""
    for regime in REGIMES:
        for rank in RANKS:
            for n in SIZES:
                yield f"r={rank} n=m={n} {regime}", rank, regime, independent(rank, n, n, regime)
        yield f"24 x 2-5 against 86, {regime}", 10, regime, clustered(10, regime, False)


def population_gap(rank: int, regime: str, bandwidth: float, images: int) -> float:
    """Return the gap of the effective numbers of both populations, which are Gaussian."""
    variances, (_, spread) = spectrum(rank, DIMENSION), REGIMES[regime]
    q = expected_kernel(bandwidth / np.sqrt(2), 2 * variances * np.array([[1.0], [spread**2]]))
    numbers = images / (1 + (images - 1) * q)
    return float(numbers[0] - numbers[1])


def simulate(
    names: Sequence[str], rank: int, regime: str, draw: Draw, seeds: Sequence[list[int]]
) -> dict[str, Tally]:
    """Return the tallies of one design."""
    found = {name: Tally() for name in names}
    for seed in seeds:
        x, y, subjects = draw(np.random.default_rng(seed))
        for name, tally in found.items():
            whole, _, part = name.partition(".")
            metric: Metric = registry.load("metrics", whole)()
            width = WIDTHS.get(whole, DIMENSION)
            real, synth = x[:, :width], y[:, :width]
            settings = metric.freeze(real, None if subjects is None else subjects["real"])
            statistic = metric.prepare(real, synth, subjects=subjects, **settings)
            if part:
                assert isinstance(statistic, Composite)
                statistic = statistic.parts()[part].statistic
            tally.estimates.append(estimate(statistic))
            tally.targets.append(
                population_gap(rank, regime, settings["bandwidth"], settings["images"])
                if name == "rke" else np.nan
            )  # fmt: skip
            try:
                ends = interval(statistic, metric.interval, resamples=RESAMPLES, seed=seed[1])
            except MetricError:
                tally.ends.append(None)
            else:
                tally.ends.append((ends.low, ends.high) if ends.low < ends.high else None)
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--reps", type=int, default=200, help="repetitions per design")
    parser.add_argument("--metric", action="append", choices=METRICS, help="default: all")
    parser.add_argument("--only", default="", help="text in the names of the designs")
    options = parser.parse_args()
    print("| metric | design | mean | printed | covers | 95% Monte Carlo | below |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for name, rank, regime, draw in designs():
        if options.only not in name:
            continue
        seeds = [[0, repetition, *name.encode()] for repetition in range(options.reps)]
        chosen = options.metric or METRICS
        for metric, tally in simulate(chosen, rank, regime, draw, seeds).items():
            print(f"| {metric} | {name} | {' | '.join(tally.row())} |", flush=True)


if __name__ == "__main__":
    main()
