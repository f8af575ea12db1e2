"""Metrics of features for a synthetic set that loses spread, and FID's percentile interval.

Usage: python studies/shrinkage.py

Gaussian features of effective rank 28 (eigenvalues exp(-j / 14)), d = 512, 86 real and 86
synthetic images; the synthetic standard deviation is shrunk. Prints means over 20 draws as the
table of docs/numbers.md, and how often the plain percentile interval of the Frechet distance
lies above its own estimate where nothing was shrunk.
"""

from __future__ import annotations

import numpy as np

from synthbench import metrics
from synthbench.metrics.fid import FID
from synthbench.metrics.inference.intervals import percentile_interval
from synthbench.metrics.inference.resampling import estimate

N, DIMENSION, DECAY, DRAWS, RESAMPLES = 86, 512, 14.0, 20, 300
SPREADS = (1.0, 0.8, 0.5)
NAMES = (
    "fid", "mmd2", "precision", "recall", "density", "coverage", "clipped_density",
    "clipped_coverage",
)  # fmt: skip


def main() -> None:
    """Print the table and the count."""
    eigenvalues = np.exp(-np.arange(DIMENSION) / DECAY)
    scale = np.sqrt(eigenvalues)
    print(f"| spread | population's FID | {' | '.join(NAMES)} |")
    print("|" + "---:|" * (2 + len(NAMES)))
    above = 0
    for spread in SPREADS:
        rng = np.random.default_rng(0)
        rows = []
        for draw in range(DRAWS):
            real = rng.standard_normal((N, DIMENSION)) * scale
            synth = rng.standard_normal((N, DIMENSION)) * scale * spread
            rows.append([getattr(metrics, name)(real, synth) for name in NAMES])
            if spread == 1:
                statistic = FID().prepare(real, synth)
                ends = percentile_interval(statistic, resamples=RESAMPLES, seed=draw)
                above += ends.low > estimate(statistic)
        population = (1 - spread) ** 2 * eigenvalues.sum()
        values = " | ".join(f"{value:.3g}" for value in np.mean(rows, axis=0))
        print(f"| {spread:.2f} | {population:.3g} | {values} |")
    print(f"\npercentile intervals of FID above their own estimate: {above} of {DRAWS}")


if __name__ == "__main__":
    main()
