"""Validity study: how often the intervals of paired measures cover the mean over subjects.

Usage: python studies/paired.py [REPETITIONS]

Values of subjects are normal, as PSNR nearly is, or log-normal with a skewness of 1.7 (the sd of
the logarithm is 0.5), as MAE may be. Where subjects have three images, the values of a subject
share half of the variance. Prints the Markdown table of docs/paired.md.
"""

from __future__ import annotations

import sys

import numpy as np

from synthbench.metrics.measures.paired import mean_of_pairs

SIZES = (5, 10, 35, 86)


def covered(n: int, images: int, skewed: bool, repetitions: int) -> float:
    """Return the share of intervals that hold the expected value."""
    rng = np.random.default_rng([n, images, skewed])
    subjects = np.repeat(np.arange(n), images)
    hits = 0
    for _ in range(repetitions):
        share = 0.0 if images == 1 else 0.5
        own, scan = rng.normal(size=n), rng.normal(size=n * images)
        z = np.sqrt(1 - share) * own[subjects] + np.sqrt(share) * scan
        values, truth = (np.exp(0.5 * z), np.exp(0.125)) if skewed else (z, 0.0)
        found = mean_of_pairs(values, subjects)
        hits += found.low <= truth <= found.high
    return hits / repetitions


if __name__ == "__main__":
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
    print("| subjects | images of each | normal | skewed |")
    print("|---:|---:|---:|---:|")
    for n in SIZES:
        for images in (1, 3):
            shares = [covered(n, images, skewed, repetitions) for skewed in (False, True)]
            print(f"| {n} | {images} | " + " | ".join(f"{s:.1%}" for s in shares) + " |")
