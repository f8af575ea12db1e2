"""The bandwidth of the effective number of brains: which one shows lost diversity?

Usage: python studies/effective_number.py

Gaussian features with eigenvalues exp(-2 j / r), d = 256: 70 real images set the median bandwidth,
and sets of 35 images are drawn 200 times. For each share of that bandwidth, prints the mean
effective number of N = 70 brains of a real set, and how far damaged sets lie from it, in standard
deviations of a difference of two real sets.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float64

from synthbench.metrics.kernels import median_bandwidth
from synthbench.metrics.metric import ones
from synthbench.metrics.similarity.rke import EffectiveNumber, mean_square_kernel

RANKS, SHARES = (2, 6, 14, 50), (1.0, 0.5, 0.35, 0.25)
N, SIZE, DIMENSION, DRAWS, MODES = 70, 35, 256, 200, 15

Features = Float64[np.ndarray, "n d"]
DAMAGES: dict[str, Callable[[np.random.Generator, Features], Features]] = {
    "spread .8": lambda rng, x: 0.8 * x,
    "spread .6": lambda rng, x: 0.6 * x,
    f"{MODES} modes": lambda rng, x: x[rng.integers(MODES, size=len(x))] + 0.2 * rng.permutation(x),
    "spread 1.2": lambda rng, x: 1.2 * x,
}


def number(x: Features, bandwidth: float) -> float:
    """Return the effective number of N brains."""
    statistic = EffectiveNumber(mean_square_kernel(x, "real", np.arange(len(x)), bandwidth), N)
    return float(statistic.value(ones(statistic))[0])


def main() -> None:
    """Print the table."""
    print(f"| r | bandwidth / median | real | {' | '.join(DAMAGES)} |")
    print("|" + "---:|" * (3 + len(DAMAGES)))
    for rank in RANKS:
        rng = np.random.default_rng(rank)
        scale = np.exp(-np.arange(DIMENSION) / rank)
        median = median_bandwidth(rng.standard_normal((N, DIMENSION)) * scale)
        sets = [rng.standard_normal((SIZE, DIMENSION)) * scale for _ in range(DRAWS)]
        damaged = {name: [damage(rng, x) for x in sets] for name, damage in DAMAGES.items()}
        for share in SHARES:
            real = np.array([number(x, share * median) for x in sets])
            sd = np.sqrt(2) * real.std()
            cells = []
            for drawn in damaged.values():
                mean = np.mean([number(x, share * median) for x in drawn])
                cells.append(f"{mean:.1f} ({(real.mean() - mean) / sd:+.1f} sd)")
            print(f"| {rank} | {share} | {real.mean():.1f} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
