"""Corrections for many comparisons, max-t and Holm, and one p of several tests."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np
from jaxtyping import Float64

from synthbench.errors import MetricError

_ROUNDING = 1e-9

LARGEST_P = 0.99
"""The largest p that `combined_p` tells from smaller ones."""


def max_t(
    observed: Float64[np.ndarray, " p"], resampled: Float64[np.ndarray, "b p"], *, level: float
) -> tuple[float, Float64[np.ndarray, " p"]]:
    """Return the critical value and adjusted p of several studentized differences (single step).

    The largest |t*| of each resample shows the effect of chance on all differences together.
    Columns may be pairs of entries, or pairs under several metrics with the same resamples.

    Parameters
    ----------
    observed
        The t of each difference.
    resampled
        The t* of each difference, centred, one row per resample.
    level
        The simultaneous coverage.

    Returns
    -------
    critical
        A larger |t| is significant, and d -+ critical * se are the simultaneous intervals.
    adjusted
        The adjusted p, (1 + #{max |t*| >= |t|})/(b + 1). It is at most 1 - level exactly where
        |t| > critical.

    Raises
    ------
    MetricError
        There are too few resamples for the level.
    """
    largest = np.sort(np.abs(resampled).max(axis=1))
    place = ceil((len(largest) + 1) * level - _ROUNDING)
    if place > len(largest):
        raise MetricError(
            f"max-t: a level of {level} needs more than {len(largest)} resamples. Use 1000.",
            "few permutations",
            needed=len(largest) + 1,
            found=len(largest),
        )
    below = np.searchsorted(largest, np.abs(observed), side="left")
    adjusted: Float64[np.ndarray, " p"] = (1 + len(largest) - below) / (len(largest) + 1)
    return float(largest[place - 1]), adjusted


def holm(p_values: Sequence[float]) -> Float64[np.ndarray, " k"]:
    """Return step-down adjusted p-values (Holm 1979), which control the error of all k tests.

    The i-th smallest of k becomes the largest of (k - j + 1) p_(j) over j <= i, at most 1.

    Raises
    ------
    MetricError
        A p-value is not in [0, 1].

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise MetricError(
            f"holm: p-values must lie between 0 and 1; found {p.tolist()}. "
            "Leave out the metrics without a test."
        )
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def combined_p(p_values: Sequence[float]) -> float:
    """Return one p of dependent tests of one hypothesis: the Cauchy combination.

    p = 1/2 - arctan(mean tan((1/2 - p_i) pi)) / pi (Liu and Xie, "Cauchy combination test", JASA
    115 (2020), equation 2). For equal p it is that p. For small p it holds its level under any
    dependence of normal statistics; docs/coverage.md has its level here. p above `LARGEST_P`
    count as that, unless all are, because a single p of 1 would hide all others.

    Raises
    ------
    MetricError
        There is none, or one is not in (0, 1].

    Examples
    --------
    >>> combined_p([0.25])
    0.25
    >>> round(combined_p([0.01, 0.5]), 4)
    0.02
    """
    if len(p_values) == 1:
        return float(p_values[0])
    p = np.asarray(p_values, dtype=np.float64)
    if not len(p) or not ((p > 0) & (p <= 1)).all():
        raise MetricError(f"combined p: each must lie above 0 and not above 1; found {p.tolist()}.")
    heights = np.tan((0.5 - np.minimum(p, max(LARGEST_P, p.min()))) * np.pi)
    return float(0.5 - np.arctan(heights.mean()) / np.pi)
