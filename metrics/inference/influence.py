"""Smooth statistics of one set's rows, with variances from their influence values.

A statistic T of weighted rows has an influence value for each row: the first-order change of T as
the row's weight grows. Their mean is zero, and the variance of that mean is the variance of T
(Hampel 1974, "The influence curve and its role in robust estimation"). So the studentized
bootstrap of a mean also works for correlations, regression coefficients and areas under a curve. A
statistic with a skewed distribution is computed on a scale where it is nearly normal, and the ends
of its interval are converted back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.special import expit

from synthbench.errors import MetricError
from synthbench.metrics.inference.intervals import studentized_interval
from synthbench.metrics.inference.pairs import ratio, variance_of_mean
from synthbench.metrics.inference.placements import placements_under_weights
from synthbench.metrics.metric import Weights
from synthbench.metrics.subjects import n_subjects

Rows: TypeAlias = Float64[np.ndarray, "b n"]
Influence: TypeAlias = Callable[[Rows], tuple[Float64[np.ndarray, " b"], Rows]]
"""A function from weights on n rows to the value and the rows' influence values."""

ROLE = "rows"
FEWEST = 8
"""Smallest number of subjects with an interval: with fewer, too many resamples are degenerate."""

_COLLINEAR = 1e10
"""Condition number from which on columns count as collinear."""


class Estimate(NamedTuple):
    """A value and the ends of its interval, None where it has none."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Smooth:
    """A smooth statistic of one set's rows, a `synthbench.metrics.metric.Studentized`.

    Attributes
    ----------
    function
        The value and the influence values under each row of weights.
    subjects
        The subject of each row, under the role `ROLE`.
    """

    function: Influence
    subjects: Mapping[str, Int64[np.ndarray, " n"]]

    def value(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The statistic under each row of weights."""
        return self.function(weights[ROLE])[0]

    def variance(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The estimated sampling variance under each row of weights, by subjects."""
        return self.value_and_variance(weights)[1]

    def value_and_variance(
        self, weights: Weights
    ) -> tuple[Float64[np.ndarray, " b"], Float64[np.ndarray, " b"]]:
        """The results of `value` and `variance`."""
        w = weights[ROLE]
        value, influence = self.function(w)
        return value, variance_of_mean(influence, w, self.subjects[ROLE])


@dataclass(frozen=True)
class Quantity:
    """A statistic by name, on the scale of its interval.

    Attributes
    ----------
    key, label
        Its name in a record, and its label in a table.
    function
        The statistic on a scale where it is about normal.
    back
        An increasing function from that scale to the statistic's own.
    """

    key: str
    label: str
    function: Influence
    back: Callable[[float], float] = float


def estimated(
    quantity: Quantity,
    subjects: Int64[np.ndarray, " n"],
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate | None:
    """Estimate a quantity, with its studentized bootstrap interval over subjects.

    Parameters
    ----------
    quantity
        A statistic of n rows.
    subjects
        The subject of each row, numbered from 0 without gaps.
    resamples, level, seed
        Number of bootstrap resamples, nominal coverage, and seed.

    Returns
    -------
    The estimate, or None where the quantity is undefined on these rows (a constant column, one
    class). It has no interval below `FEWEST` subjects, or where the variance is zero (a perfect
    correlation).
    """
    statistic = Smooth(quantity.function, {ROLE: subjects})
    on_scale = float(quantity.function(np.ones((1, len(subjects))))[0][0])
    if math.isnan(on_scale):
        return None
    value = quantity.back(on_scale)
    if math.isinf(on_scale) or n_subjects(subjects) < FEWEST:
        return Estimate(value)
    try:
        ends = studentized_interval(statistic, resamples=resamples, level=level, seed=seed)
    except MetricError:
        return Estimate(value)
    return Estimate(value, quantity.back(ends.low), quantity.back(ends.high))


def difference(first: Estimate, second: Estimate, factor: float = 1.0) -> Estimate:
    """Return the difference of two independent estimates, first - factor * second.

    Its interval comes from the intervals [l1, u1] and [l2, u2] of the two values t1 and t2 (the
    method of variance estimates recovery). With f the factor and d = t1 - f t2:
    low = d - sqrt((t1 - l1)^2 + (f t2 - f u2)^2), high = d + sqrt((u1 - t1)^2 + (f t2 - f l2)^2);
    for a negative factor l2 and u2 change places. It is asymmetric where they are, as those of
    correlations (Zou 2007, "Toward using confidence intervals to compare correlations"; Zou and
    Donner 2008, Statistics in Medicine 27, equation 6). There is none where either has none.

    >>> difference(Estimate(9.0, 6.0, 14.0), Estimate(2.0, 2.0, 6.0))
    Estimate(value=7.0, low=2.0, high=12.0)
    """
    value = first.value - factor * second.value
    if first.low is None or first.high is None or second.low is None or second.high is None:
        return Estimate(value)
    ends = sorted((factor * second.low, factor * second.high))
    below = math.hypot(first.value - first.low, ends[1] - factor * second.value)
    above = math.hypot(first.high - first.value, factor * second.value - ends[0])
    return Estimate(value, value - below, value + above)


# ---------------------------------------------------------------- statistics


def mean(z: Float64[np.ndarray, " n"]) -> Influence:
    """Return the statistic "mean of a column"."""

    def function(w: Rows) -> tuple[np.ndarray, Rows]:
        centre = _mean(w, z)
        return centre, z - centre[:, None]

    return function


def log_mean(z: Float64[np.ndarray, " n"]) -> Influence:
    """Return the logarithm of the mean, for a skewed column of sizes; -inf where all are 0."""

    def function(w: Rows) -> tuple[np.ndarray, Rows]:
        centre = _mean(w, z)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log(centre), z / centre[:, None] - 1

    return function


def logit_mean(z: Float64[np.ndarray, " n"]) -> Influence:
    """Return the log-odds of the mean of a column of 0 and 1; infinite where all are equal."""

    def function(w: Rows) -> tuple[np.ndarray, Rows]:
        share = _mean(w, z)
        return _logit(share, z - share[:, None])

    return function


def between_groups(z: Float64[np.ndarray, " n"], inside: Bool[np.ndarray, " n"]) -> Influence:
    """Return the mean of a column inside a group minus the mean outside it."""

    def function(w: Rows) -> tuple[np.ndarray, Rows]:
        total = w.sum(axis=1, keepdims=True)
        value: np.ndarray = np.zeros(len(w))
        influence: np.ndarray = np.zeros(w.shape)
        for group, sign in ((inside, 1), (~inside, -1)):
            group_weights = w * group
            centre = _mean(group_weights, z)
            share = ratio(total, group_weights.sum(axis=1, keepdims=True))
            value = value + sign * centre
            influence = influence + sign * group * (z - centre[:, None]) * share
        return value, influence

    return function


def fisher_z(x: Float64[np.ndarray, " n"], y: Float64[np.ndarray, " n"]) -> Influence:
    """Return Fisher's z, artanh of Pearson's correlation of two columns; infinite for +-1."""

    def function(w: Rows) -> tuple[np.ndarray, Rows]:
        standard = []
        for column in (x, y):
            apart = column - _mean(w, column)[:, None]
            variance = ratio((w * apart**2).sum(axis=1), w.sum(axis=1))
            # A column counts as constant where its variance is rounding.
            variance[variance <= 1e-24 * np.square(column).max()] = np.nan
            standard.append(apart / np.sqrt(variance)[:, None])
        a, b = standard
        r = ratio((w * a * b).sum(axis=1), w.sum(axis=1))
        influence = a * b - r[:, None] * (a**2 + b**2) / 2
        perfect = np.abs(r) > 1 - 1e-12
        r = np.where(perfect, np.sign(r), r)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.arctanh(r), influence / (1 - r**2)[:, None]

    return function


def coefficient(
    design: Float64[np.ndarray, "n k"],
    y: Float64[np.ndarray, " n"],
    column: int,
    *,
    standardised: bool = False,
) -> Influence:
    """Return a coefficient of the least-squares regression of y on the columns and a constant.

    Its variance does not assume equal variances (White 1980, equation 5). NaN where the columns
    are collinear.

    Parameters
    ----------
    design
        The columns, without the constant.
    y
        The regressed variable.
    column
        The index of the column of the coefficient.
    standardised
        True divides it by the standard deviation of the residuals: for a single column of 0 and 1
        this is Cohen's d.
    """
    scale = design.std(axis=0)
    constant = scale <= 1e-12 * np.abs(design).max(axis=0)
    scale = np.where(constant, 1.0, scale)
    x = np.column_stack([np.ones(len(y)), (design - design.mean(axis=0)) / scale])

    def function(w: Rows) -> tuple[np.ndarray, Rows]:
        total = w.sum(axis=1)
        gram = np.einsum("bn,nk,nl->bkl", w, x, x, optimize=True) / total[:, None, None]
        moments = (w * y) @ x / total[:, None]
        usable = np.linalg.cond(gram) < _COLLINEAR
        gram[~usable] = np.eye(x.shape[1])
        inverse = np.linalg.inv(gram)
        beta = np.einsum("bkl,bl->bk", inverse, moments)
        residuals = y - beta @ x.T
        value = np.where(usable, beta[:, column + 1] / scale[column], np.nan)
        influence = (inverse[:, column + 1] @ x.T) * residuals / scale[column]
        if not standardised:
            return value, influence
        spread = ratio((w * residuals**2).sum(axis=1), total)
        sd = np.sqrt(np.where(spread > 1e-24 * np.square(y).max(), spread, np.nan))
        value = value / sd
        growth = (residuals**2 / spread[:, None] - 1) / 2
        return value, influence / sd[:, None] - value[:, None] * growth

    return function


def logit_auc(scores: Float64[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]) -> Influence:
    """Return the log-odds of the area under the ROC curve; infinite where the area is 0 or 1.

    The influence values are the placement values (`synthbench.metrics.inference.placements`) minus
    their mean.
    """
    place = placements_under_weights(scores, positive)

    def function(w: Rows) -> tuple[np.ndarray, Rows]:
        placed = place(w)
        total = w.sum(axis=1, keepdims=True)
        wp, wn = w[:, positive], w[:, ~positive]
        n_positive, n_negative = (s.sum(axis=1, keepdims=True) for s in (wp, wn))
        area = ratio((wp * placed.positives).sum(axis=1), n_positive[:, 0])
        area = np.where(area > 1 - 1e-12, 1.0, area)
        influence = np.zeros(w.shape)
        influence[:, positive] = (placed.positives - area[:, None]) * ratio(total, n_positive)
        influence[:, ~positive] = (placed.negatives - area[:, None]) * ratio(total, n_negative)
        return _logit(area, influence)

    return function


def from_logit(x: float) -> float:
    """Return the share whose log-odds are x."""
    return float(expit(x))


def _mean(w: Rows, z: np.ndarray) -> np.ndarray:
    return ratio((w * z).sum(axis=1), w.sum(axis=1))


def _logit(share: np.ndarray, influence: Rows) -> tuple[np.ndarray, Rows]:
    """A share and its influence values on the scale of log-odds."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(share) - np.log1p(-share), influence / (share * (1 - share))[:, None]
