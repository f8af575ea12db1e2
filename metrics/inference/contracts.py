"""The contracts of statistics in inference, and the records that inference returns."""

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
        """For each role, g with d value / d weight_i = (g_i - mean g) / n at weights of one.

        The derivative is along directions that do not change the sum of the weights.
        """
        ...


@runtime_checkable
class Linear(Statistic, Protocol):
    """A statistic that gives the first-order term of each image, for paired comparisons."""

    def contributions(self, weights: Weights) -> dict[str, Float64[np.ndarray, "b n"]]:
        """For each role, c such that the variance is the sum over roles of `variance_of_mean` of c.

        Where two statistics share a role, their terms can be subtracted image by image; variances
        cannot. For a mean over pairs within a set, c is 2 g with g its row means.
        """
        ...


@runtime_checkable
class LinearStudentized(Linear, Studentized, Protocol):
    """A statistic that gives the terms of its variance, and the variance."""


@runtime_checkable
class JointlyStudentized(Studentized, Protocol):
    """A statistic whose value and variance share work, such as products with a large matrix.

    A call reads that matrix once for all rows of weights, so it gets many rows: the memory for
    one row grows as n, not as n^2.
    """

    def value_and_variance(
        self, weights: Weights
    ) -> tuple[Float64[np.ndarray, " b"], Float64[np.ndarray, " b"]]:
        """The results of `value` and `variance`."""
        ...


@runtime_checkable
class Blocked(Statistic, Protocol):
    """A statistic of many images that holds no matrix over pairs of them.

    A call computes such a matrix again, a block of rows at a time, for all rows of weights. So it
    gets as many rows as memory allows.
    """

    @property
    def numbers_per_row(self) -> int:
        """How many numbers a call holds per row of weights, the weights included."""
        ...


@runtime_checkable
class Foresighted(Blocked, Protocol):
    """A blocked statistic whose pass over all pairs can serve calls that come later."""

    def ahead(self, weights: Weights) -> None:
        """Compute what weights of one and these rows of weights need, in one pass, and keep it."""
        ...


@runtime_checkable
class Bounded(Statistic, Protocol):
    """A statistic that says between which values it lies, for the score interval."""

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and the highest value, infinite where there is none."""
        ...

    @property
    def independent(self) -> int | None:
        """The number of independent images of the smaller set; None: that of its subjects."""
        ...


@runtime_checkable
class Transformed(Statistic, Protocol):
    """A statistic that is a rising function of another one, clipped where it is flat.

    Its own sampling variance is zero where it is clipped, that of the other one is not.
    """

    @property
    def base(self) -> Statistic:
        """The other statistic, which is not clipped."""
        ...

    def from_base(self, value: float) -> float:
        """Return the value that belongs to a value of the base, at weights of one."""
        ...


@runtime_checkable
class SquaredDistance(LinearStudentized, Protocol):
    """An unbiased estimate of a squared distance, whose first-order term vanishes at zero."""

    def null_variance(self) -> float:
        """Variance of the estimate where both sets have one distribution."""
        ...


@dataclass(frozen=True)
class Interval:
    """A confidence interval, with a label of what it covers.

    Attributes
    ----------
    low, high
        The ends, in the metric's unit.
    level
        The nominal coverage, in (0, 1).
    method
        Its method.
    label
        Its label in a table.
    conditional_on_n
        True where it is for the expected value at this n only, without the metric's bias.
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
        Number of subjects of each role in a subsample.
    repeats
        The number of subsamples.
    minimum_detectable_effect
        For a floor, the smallest expected excess over its mean that matched subsamples detect
        with 80% probability under a stated shift (`synthbench.metrics.inference.floors.floor`).
        None where no shift was stated, or none is detected.
    """

    mean: float
    low: float
    high: float
    n: int
    repeats: int
    minimum_detectable_effect: float | None = None
