"""The mean over readers and cases, with both taken as random (multiple readers, multiple cases).

The variance is a combination of four moments, each estimated without bias by the mean product of
two answers that share reader and case, the reader, the case, or neither (U-statistics; Gallas,
Acad Radiol 13, 353, 2006, for a fraction correct). With every answer present it is the two-way
random-effects estimate (MS_R + MS_C - MS_RC) / (R C). The degrees of freedom have the form of
Hillis (Stat Med 26, 596, 2007), with constants that were chosen by simulation. docs/readers.md has
the measured coverage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy.stats import t as student

from synthbench.errors import MetricError

LEVEL = 0.95
"""The default coverage of intervals."""

MIN_READERS = 2
"""The fewest readers that say how readers differ."""

MIN_CASES = 2
"""The fewest cases that say how cases differ."""

FLOOR = 0.25
"""The least variance, as a share of that of answers which are independent of each other.

Of few readers, some tables show by chance no variance at all.
"""

DF_EXPONENT = 1.25
"""Degrees of freedom are (R - 1) (V / V_R) to this power, with V_R the part by the readers.

Hillis has 2, which takes the part by the cases as known: of three readers who differ by 10 points,
intervals of 95% then cover 92.4%.
"""

_LEAST = 1e-12
"""The least variance: of ratings that are all equal."""


@dataclass(frozen=True)
class Moments:
    """Sums over readers and cases, for one table of answers or for many.

    Attributes
    ----------
    value
        The mean answer.
    readers
        The variance of the mean by the readers: MS_R / (R C) where every answer is there.
    cases
        The variance of the mean by the cases: MS_C / (R C).
    residual
        The variance of the mean by what is neither: MS_RC / (R C).
    """

    value: Float64[np.ndarray, "*b"]
    readers: Float64[np.ndarray, "*b"]
    cases: Float64[np.ndarray, "*b"]
    residual: Float64[np.ndarray, "*b"]


def moments(answers: Float64[np.ndarray, "*b r c"]) -> Moments:
    """Return the mean and its three parts of variance; NaN is an answer that is missing.

    The parts may be negative, as unbiased estimates of small variances are.
    """
    there = ~np.isnan(answers)
    y = np.where(there, answers, 0.0)
    n = there.sum((-2, -1)).astype(np.float64)
    per_reader, per_case = (there.sum(axis).astype(np.float64) for axis in (-1, -2))
    n_reader, n_case = (per_reader**2).sum(-1), (per_case**2).sum(-1)
    total, squares = y.sum((-2, -1)), (y**2).sum((-2, -1))
    readers, cases = (y.sum(-1) ** 2).sum(-1), (y.sum(-2) ** 2).sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        both = squares / n
        same_reader = (readers - squares) / (n_reader - n)
        same_case = (cases - squares) / (n_case - n)
        neither = (total**2 - readers - cases + squares) / (n**2 - n_reader - n_case + n)
        residual = (both - same_reader - same_case + neither) / n
        return Moments(
            value=total / n,
            readers=(same_reader - neither) * n_reader / n**2 + residual,
            cases=(same_case - neither) * n_case / n**2 + residual,
            residual=residual,
        )


@dataclass(frozen=True)
class Estimate:
    """A mean over readers and cases, or a difference of two, with its standard error.

    Attributes
    ----------
    value
        The mean, or the difference.
    se, df
        Its standard error and degrees of freedom. Of a share p, `se` is divided by
        sqrt(p (1 - p)), so that 1 / se^2 is the number of independent answers that know as much.
    share
        True: a share between 0 and 1, whose intervals are score intervals (Wilson 1927).
    """

    value: Float64[np.ndarray, "*b"]
    se: Float64[np.ndarray, "*b"]
    df: Float64[np.ndarray, "*b"]
    share: bool

    def interval(self, level: float = LEVEL) -> tuple[Any, Any]:
        """Return the ends of the interval that holds the value over new readers and new cases."""
        half = student.ppf((1 + level) / 2, self.df) * self.se
        if not self.share:
            return self.value - half, self.value + half
        k = half**2
        middle = (self.value + k / 2) / (1 + k)
        half = np.sqrt(k * self.value * (1 - self.value) + k**2 / 4) / (1 + k)
        return middle - half, middle + half

    def p(self, null: float = 0.0) -> Any:
        """Return the two-sided p of the value against `null`."""
        return 2 * student.sf(np.abs(self._t(null)), self.df)

    def equivalence_p(self, low: float, high: float) -> Any:
        """Return the p of two one-sided tests (Schuirmann 1987): is the value between the two?

        It is below 0.05 exactly where the interval of level 0.9 lies between them.
        """
        above = student.sf(self._t(low), self.df)
        below = student.cdf(self._t(high), self.df)
        return np.maximum(above, below)

    def _t(self, null: float) -> Any:
        spread = np.sqrt(null * (1 - null)) if self.share else 1.0
        return (self.value - null) / (self.se * spread)


def mean(answers: Float64[np.ndarray, "*b r c"], *, share: bool) -> Estimate:
    """Return the mean answer with readers and cases random.

    Where all answers of a share are right, or all wrong, nothing is known of how cases differ.
    Then the variance is that of one independent answer per case.

    Parameters
    ----------
    answers
        One row per reader and one column per case; NaN where one is missing.
    share
        True where answers lie in [0, 1]: the interval is a score interval, which stays there.

    Raises
    ------
    MetricError
        There are fewer than two readers or two cases with answers, or no two answers that share
        neither.
    """
    _check(answers)
    found = moments(answers)
    n = (~np.isnan(answers)).sum((-2, -1))
    readers = np.asarray(answers).shape[-2]
    raw = np.maximum(found.readers + found.cases - found.residual, FLOOR * found.residual)
    raw = np.maximum(raw, _LEAST)
    scale = 1.0
    if share:
        kept = np.clip(found.value, 0.5 / n, 1 - 0.5 / n)  # half an answer away from 0 and 1
        scale = kept * (1 - kept)
        cases = (~np.isnan(answers)).any(-2).sum(-1)
        equal = (found.value <= 0) | (found.value >= 1)
        raw = np.maximum(raw, scale * np.where(equal, 1 / cases, FLOOR / n))
    df = _df(raw, found.readers, readers - 1)
    return Estimate(found.value, np.sqrt(raw / scale), df, share)


def difference(first: Float64[np.ndarray, "r c"], second: Float64[np.ndarray, "r d"]) -> Estimate:
    """Return the mean of `first` less that of `second`: the same readers, other cases.

    The readers' variance is that of their differences, so a reader who is good at both adds
    nothing to it.

    Parameters
    ----------
    first, second
        One row per reader, the same in both, and one column per case; NaN where one is missing.

    Raises
    ------
    MetricError
        As for `mean`.
    """
    for answers in (first, second):
        _check(answers)
    one, other = moments(first), moments(second)
    shared = _shared(first, second)
    readers = one.readers + other.readers - 2 * shared
    cases = one.cases + other.cases - one.residual - other.residual
    floor = FLOOR * (one.residual + other.residual)
    raw = np.maximum(np.maximum(readers + cases, floor), _LEAST)
    return Estimate(
        one.value - other.value, np.sqrt(raw), _df(raw, readers, len(first) - 1), share=False
    )


def _shared(first: Float64[np.ndarray, "r c"], second: Float64[np.ndarray, "r d"]) -> float:
    """Return the covariance of two means that the readers have in common."""
    sums = [np.nansum(answers, axis=1) for answers in (first, second)]
    counts = [(~np.isnan(answers)).sum(1).astype(np.float64) for answers in (first, second)]
    same, pairs_same = float(sums[0] @ sums[1]), float(counts[0] @ counts[1])
    product, pairs = float(sums[0].sum() * sums[1].sum()), float(counts[0].sum() * counts[1].sum())
    if not 0 < pairs_same < pairs:
        return 0.0
    covariance = same / pairs_same - (product - same) / (pairs - pairs_same)
    return covariance * pairs_same / pairs


def _df(raw: Any, readers: Any, least: int) -> Any:
    """Return the degrees of freedom, at least those of the readers."""
    return np.maximum(least, least * (raw / np.maximum(readers, 1e-3 * raw)) ** DF_EXPONENT)


def _check(answers: Float64[np.ndarray, "*b r c"]) -> None:
    there = ~np.isnan(answers)
    readers = there.any(-1).sum(-1).min()
    cases = there.any(-2).sum(-1).min()
    if readers < MIN_READERS or cases < MIN_CASES:
        raise MetricError(
            f"readers and cases as random: answers of at least {MIN_READERS} readers to "
            f"{MIN_CASES} cases are needed; found {readers} and {cases}."
        )
    n = there.sum((-2, -1))
    alone = n**2 - (there.sum(-1) ** 2).sum(-1) - (there.sum(-2) ** 2).sum(-1) + n
    if (alone <= 0).any():
        raise MetricError(
            "readers and cases as random: two answers of other readers to other cases are needed. "
            "Wait for more answers."
        )
