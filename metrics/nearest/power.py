"""The share of copies that the test of memorization detects with 80% power, by simulation."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float64

from synthbench.metrics.nearest.labellings import p_values

POWER = 0.8
"""The probability of a detection that defines the detectable share."""

PLANTED_SHARES = (0.01, 0.02, 0.03, 0.05, 0.08, 0.10, 0.15, 0.20, 0.30, 0.50)
"""The shares of copies at which power is computed."""

PLANTINGS = 200
"""Number of simulated sets at each share."""


def detectable_share(
    contrasts: Float64[np.ndarray, "m b"],
    planted: Float64[np.ndarray, "n b"],
    labels: Bool[np.ndarray, "b n"],
    level: float,
    rng: np.random.Generator,
) -> float | None:
    """Return the smallest share of near copies that the test detects with a probability of `POWER`.

    Each of `PLANTINGS` simulated sets takes one random labelling as the true one, so that no
    image is a copy. Then it replaces a random part of the synthetic images by near copies of
    images that are labelled training, drawn with replacement, and runs the whole test.

    Parameters
    ----------
    contrasts
        The values log(d_H / d_T) of the synthetic images under each labelling.
    planted
        The same for a near copy of each real image.
    labels
        True for the real images that a labelling labels training, one row per labelling.
    level
        Level of the test.
    rng
        Random generator of the simulated sets.

    Returns
    -------
    One of `PLANTED_SHARES`, rounded up to whole images, or None where the largest of them is not
    enough.
    """
    m, n = len(contrasts), len(planted)
    for count in sorted({math.ceil(share * m) for share in PLANTED_SHARES}):
        true = rng.integers(labels.shape[0], size=PLANTINGS)
        ranks = np.argsort(rng.random((PLANTINGS, m)), axis=1)
        kept = (ranks >= count).astype(np.float64)
        of_train = labels[true] / labels[true].sum(axis=1, keepdims=True)
        copied = rng.multinomial(count, of_train).astype(np.float64).reshape(PLANTINGS, n)
        values = (kept @ contrasts + copied @ planted) / m
        if (p_values(values, true) <= level).mean() >= POWER:
            return count / m
    return None


def power_text(detectable: float | None) -> str:
    """Return the power as it follows "no copies found" in a table."""
    power = f"{POWER:.0%}"
    if detectable is None:
        return f"power below {power} even at {max(PLANTED_SHARES):.0%} copies"
    return f"{power} power at {detectable:.0%} copies"
