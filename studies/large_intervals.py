"""Coverage study: the asinh interval of MMD^2, which large sets have by default.

Usage: OMP_NUM_THREADS=1 python studies/large_intervals.py --n 400 --reps 200

Draws pairs of normal sets whose MMD^2 is known in closed form, and prints in how many of them the
95% interval holds it, for the asinh interval and for the studentized bootstrap.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np

from synthbench.metrics.inference import intervals
from synthbench.metrics.kernels import median_bandwidth
from synthbench.metrics.metric import IntervalMethod
from synthbench.metrics.mmd import MMD2

DIFFERENCES = ((0.0, 1.0), (0.05, 1.0), (0.2, 1.0), (0.0, 0.9), (0.5, 0.8))
"""The shift of each feature, and the factor of its standard deviation."""

METHODS: tuple[IntervalMethod, ...] = ("asinh", "studentized")


def mean_kernel(a: np.ndarray, b: np.ndarray, shift: float, bandwidth: float) -> float:
    """Return the mean Gaussian kernel between normal features of variances a and b."""
    spread = a + b + bandwidth**2
    return float(np.prod(bandwidth / np.sqrt(spread) * np.exp(-(shift**2) / (2 * spread))))


def main(arguments: Sequence[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=400, help="images per side")
    parser.add_argument("--d", type=int, default=16, help="features")
    parser.add_argument("--reps", type=int, default=200)
    parser.add_argument("--resamples", type=int, default=200)
    chosen = parser.parse_args(arguments)
    rng = np.random.default_rng(0)
    scales = np.linspace(1, 0.2, chosen.d)
    bandwidth = median_bandwidth(rng.normal(size=(1500, chosen.d)) * scales)
    print("| shift | factor | MMD² | interval | covers | mean width |")
    print("| ---: | ---: | ---: | --- | ---: | ---: |", flush=True)
    for shift, factor in DIFFERENCES:
        a, b = scales**2, (scales * factor) ** 2
        truth = (
            mean_kernel(a, a, 0, bandwidth)
            + mean_kernel(b, b, 0, bandwidth)
            - 2 * mean_kernel(a, b, shift, bandwidth)
        )
        found: dict[str, list[tuple[bool, float]]] = {method: [] for method in METHODS}
        for rep in range(chosen.reps):
            x, y = (rng.normal(size=(chosen.n, chosen.d)) * scales for _ in range(2))
            statistic = MMD2().prepare(x, y * factor + shift, bandwidth=bandwidth)
            for method in METHODS:
                one = intervals.interval(statistic, method, resamples=chosen.resamples, seed=rep)
                found[method].append((one.low <= truth <= one.high, one.high - one.low))
        for method, results in found.items():
            covers, width = np.mean(results, axis=0)
            cells = f"{shift} | {factor} | {truth:.3g} | {method} | {covers:.1%} | {width:.3g}"
            print(f"| {cells} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
