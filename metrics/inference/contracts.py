"""What inference asks of a statistic, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64

from synthbench.metrics.metric import IntervalMethod, Statistic, Studentized, Weights


@runtime_checkable
class Differentiable(Statistic, Protocol):
    """A statistic that gives its own derivative, for the infinitesimal jackknife."""

    def influence(self) -> dict[str, Float64[np.ndarray, " n"]]:
        """For each role, g with d value / d weight_i = (g_i - mean g) / n at all-ones weights.

        The derivative is along directions that keep the sum of the weights.
        """
        ...


@runtime_checkable
class Linear(Statistic, Protocol):
    """A statistic that gives the first-order term of each image, for paired comparisons."""

    def contributions(self, weights: Weights) -> dict[str, Float64[np.ndarray, "b n"]]:
        """For each role, c with variance = the sum over roles of `variance_of_mean` of c.

        They add up image by image where two statistics share a role, which variances do not:
        2 g for a mean over pairs within a set, with g its row means.
        """
        ...


@runtime_checkable
class LinearStudentized(Linear, Studentized, Protocol):
    """A statistic that gives the terms of its variance, and the variance."""


@runtime_checkable
class JointlyStudentized(Studentized, Protocol):
    """A statistic whose value and variance share work, as products with one large matrix.

    A call reads that matrix once for all rows, so it is given many: its memory for a row of
    weights grows as n, not as n^2.
    """

    def value_and_variance(
        self, weights: Weights
    ) -> tuple[Float64[np.ndarray, " b"], Float64[np.ndarray, " b"]]:
        """What `value` and `variance` give, at once."""
        ...


@dataclass(frozen=True)
class Interval:
    """A confidence interval, and the words that say what it covers.

    Attributes
    ----------
    low, high
        The ends, in the metric's unit.
    level
        The nominal coverage, in (0, 1).
    method
        How it was made.
    label
        What it is an interval for, as a table prints it.
    conditional_on_n
        Whether it is one for the expected value at this n only, and leaves the metric's bias out.
    excluded
        The number of degenerate resamples that were left out.
    """

    low: float
    high: float
    level: float
    method: IntervalMethod
    label: str
    conditional_on_n: bool = False
    excluded: int = 0


@dataclass(frozen=True)
class Spread:
    """A statistic over repeated subsamples of equal size.

    Attributes
    ----------
    mean, low, high
        Its mean, 2.5th and 97.5th percentile over the subsamples.
    n
        Subjects of each role in a subsample.
    repeats
        The number of subsamples.
    minimum_detectable_effect
        Of a floor, the smallest expected excess over its mean that n subjects would have shown
        with 80% probability (see `floor`).
    """

    mean: float
    low: float
    high: float
    n: int
    repeats: int
    minimum_detectable_effect: float | None = None
