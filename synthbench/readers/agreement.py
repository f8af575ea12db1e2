"""Agreement between readers on ordered scales: Krippendorff's alpha and Gwet's AC2.

Both are functions of a table with one row per case: how many readers gave which level. So a
resample of the cases is a matter of weights on its rows, and all resamples are one expression.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from synthbench.errors import MetricError

RESAMPLES = 1000


@dataclass(frozen=True)
class Agreement:
    """A coefficient of agreement with its interval; NaN where it is not defined."""

    value: float
    low: float
    high: float


def counts(ratings: Float64[np.ndarray, "r c"], levels: int) -> Float64[np.ndarray, "c k"]:
    """Return how many readers gave each level, for each case.

    Parameters
    ----------
    ratings
        Levels from 1 to `levels`, one row per reader; NaN where a rating is missing.
    """
    return np.stack([(ratings == level + 1).sum(0) for level in range(levels)], axis=1).astype(
        np.float64
    )


def alpha(
    table: Float64[np.ndarray, "c k"], weights: Float64[np.ndarray, "b c"]
) -> Float64[np.ndarray, " b"]:
    """Return Krippendorff's alpha for ordinal data, for each row of weights on the cases.

    Cases with fewer than two ratings do not count (Krippendorff, Content Analysis, 2004, ch. 11;
    Hayes & Krippendorff, Commun Methods Meas 1, 77, 2007).
    """
    n_case = table.sum(1)
    table, weights = table[n_case >= 2], weights[:, n_case >= 2]
    n_case = n_case[n_case >= 2]
    k = table.shape[1]
    # Coincidences: pairs of ratings of one case, each case with the weight of its ratings.
    pairs = table[:, :, None] * table[:, None, :] - table[:, :, None] * np.eye(k)
    coincidences = (
        weights @ (pairs / (n_case - 1)[:, None, None]).reshape(len(table), -1)
    ).reshape(-1, k, k)
    margin = coincidences.sum(2)
    total = margin.sum(1)
    distance = _ordinal(margin)
    observed = (coincidences * distance).sum((1, 2))
    expected = (margin[:, :, None] * margin[:, None, :] * distance).sum((1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(1 - (total - 1) * observed / expected)


def _ordinal(margin: Float64[np.ndarray, "b k"]) -> Float64[np.ndarray, "b k k"]:
    """Return the squared ordinal distances: how many ratings lie between two levels."""
    up_to = np.cumsum(margin, axis=1) - margin / 2
    return np.asarray((up_to[:, :, None] - up_to[:, None, :]) ** 2)


def ac2(
    table: Float64[np.ndarray, "c k"], weights: Float64[np.ndarray, "b c"]
) -> Float64[np.ndarray, " b"]:
    """Return Gwet's AC2 with quadratic weights, for each row of weights on the cases.

    Chance agreement is that of raters who differ where a case is hard (Gwet, Br J Math Stat
    Psychol 61, 29, 2008; Handbook of Inter-Rater Reliability, 4th ed., ch. 5).
    """
    k = table.shape[1]
    closeness = _quadratic(k)
    n_case = table.sum(1)
    several = n_case >= 2
    agreeing = (table * (table @ closeness - 1)).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        per_case = np.where(several, agreeing / (n_case * (n_case - 1)), 0.0)
        shares = np.where(n_case[:, None] > 0, table / n_case[:, None], 0.0)
        observed = weights @ per_case / (weights @ several)
        prevalence = weights @ shares / (weights @ (n_case > 0))[:, None]
        chance = closeness.sum() * (prevalence * (1 - prevalence)).sum(1) / (k * (k - 1))
        return np.asarray((observed - chance) / (1 - chance))


def _quadratic(k: int) -> Float64[np.ndarray, "k k"]:
    level = np.arange(k)
    return np.asarray(1 - ((level[:, None] - level[None, :]) / (k - 1)) ** 2)


def agreement(
    ratings: Float64[np.ndarray, "r c"], levels: int, *, seed: int, resamples: int = RESAMPLES
) -> dict[str, Agreement]:
    """Return `alpha` and `ac2` with percentile intervals of 95%, by resampling the cases.

    Parameters
    ----------
    ratings
        Levels from 1 to `levels`, one row per reader; NaN where a rating is missing.
    seed
        Of the resamples.

    Raises
    ------
    MetricError
        No two cases were rated by two readers each.
    """
    table = counts(ratings, levels)
    table = table[table.sum(1) > 0]
    if (table.sum(1) >= 2).sum() < 2:
        raise MetricError(
            "agreement: two cases that two readers rated are needed. Wait for more ratings."
        )
    n = len(table)
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)
    found = {}
    for name, coefficient in (("alpha", alpha), ("ac2", ac2)):
        value = float(coefficient(table, np.ones((1, n)))[0])
        values = coefficient(table, drawn.astype(np.float64))
        values = values[np.isfinite(values)]
        low, high = np.quantile(values, (0.025, 0.975)) if len(values) else (np.nan, np.nan)
        found[name] = Agreement(value, float(low), float(high))
    return found
