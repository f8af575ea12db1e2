"""Spearman's rank correlation of a few pairs, with an interval."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64
from scipy.stats import norm, rankdata

from synthbench.errors import MetricError

FEWEST = 5
"""With 4 pairs no order has a two-sided permutation p below 2 / 4! = 0.08: nothing can be told."""


def spearman(
    x: Float64[np.ndarray, " n"], y: Float64[np.ndarray, " n"], *, level: float = 0.95
) -> tuple[float, float, float]:
    """Return Spearman's correlation and the ends of its interval, all in [-1, 1].

    The interval is tanh(artanh(rho) -+ z sqrt((1 + rho^2 / 2) / (n - 3))) (Bonett and Wright,
    Psychometrika 65, 2000, equation 5). For it, a rho of +-1 counts as half a step from it: a step
    is what one exchange of neighbours costs, 12 / (n (n^2 - 1)), as +-1 would have no width.

    Raises
    ------
    MetricError
        There are fewer than 5 pairs, or all values of one side are equal.

    Examples
    --------
    >>> x = np.arange(5.0)
    >>> [round(end, 2) for end in spearman(x, x)]
    [1.0, 0.16, 1.0]
    """
    n = len(x)
    if n < FEWEST:
        raise MetricError(
            f"a rank correlation needs at least {FEWEST} pairs; found {n}.",
            "few values", needed=FEWEST, found=n,
        )  # fmt: skip
    ranks = rankdata(x), rankdata(y)
    if min(np.ptp(r) for r in ranks) == 0:
        raise MetricError("a rank correlation: all values of one side are equal.", "one value")
    rho = float(np.clip(np.corrcoef(*ranks)[0, 1], -1, 1))
    widest = 1 - 6 / (n * (n**2 - 1))
    inside = float(np.clip(rho, -widest, widest))
    half = float(norm.ppf((1 + level) / 2)) * np.sqrt((1 + inside**2 / 2) / (n - 3))
    low, high = np.tanh(np.arctanh(inside) - half), np.tanh(np.arctanh(inside) + half)
    return rho, float(min(low, rho)), float(max(high, rho))
