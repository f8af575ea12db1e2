"""What the feature likelihood (`fld`) sees: sets that are shrunk, moved, repeated or bad in part.

Usage: python studies/feature_likelihood.py

Gaussian features with standard deviations exp(-j / 14), d = 128, 70 real and 70 synthetic images,
16 components. Prints mean and standard deviation over 15 draws.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float64

from synthbench.metrics import fld

N, DIMENSION, DECAY, DRAWS = 70, 128, 14.0, 15
SCALE = np.exp(-np.arange(DIMENSION) / DECAY)

Features = Float64[np.ndarray, "n d"]
CHANGES: dict[str, Callable[[np.random.Generator, Features], Features]] = {
    "as real": lambda rng, y: y,
    "spread 0.8": lambda rng, y: 0.8 * y,
    "spread 0.6": lambda rng, y: 0.6 * y,
    "spread 1.3": lambda rng, y: 1.3 * y,
    "means half a deviation away": lambda rng, y: y + 0.5 * SCALE,
    "10 images, repeated": lambda rng, y: y[rng.integers(10, size=N)],
    "half of the images 4 times as spread": lambda rng, y: np.vstack(
        [4 * y[: N // 2], y[N // 2 :]]
    ),
}


def main() -> None:
    """Print the table."""
    print("| synthetic set | FLD | sd |\n|---|---:|---:|")
    for name, change in CHANGES.items():
        rng = np.random.default_rng(0)
        values = []
        for _ in range(DRAWS):
            real, synth = rng.standard_normal((2, N, DIMENSION)) * SCALE
            values.append(fld(real, change(rng, synth)))
        print(f"| {name} | {np.mean(values):.1f} | {np.std(values):.1f} |")


if __name__ == "__main__":
    main()
