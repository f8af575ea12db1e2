"""Regional morphometry: are the regions of the brain as large as in real people, each by itself?

The features are measures that a person can name, one per region, as those of the extractor
`regions`. Each is compared in units of the real standard deviation, so that a small nucleus counts
as much as the cerebellum:

- d, the standardised difference of a region's means, (mean synth - mean real) / sd real. By a
  convention of Cohen, |d| below 0.2 is small.
- the Wasserstein-1 distance of a region's two distributions, which is the optimal transport between
  them, in real standard deviations. The value of the metric is its mean over regions.

None of them is zero for real volumes: at n = 35 the sd of d alone is sqrt(2/35) = 0.24, so that
two real halves agree within 0.2 in some 60% of the regions. The floor states how many.

Some regions always differ most. Which of them differ by more than chance is told by simultaneous
intervals (max-t): all of them cover their expectations with 95% probability, however many regions
there are and however they hang together.

References
----------
Cohen, "Statistical power analysis for the behavioral sciences", 1988: d.
Villani, "Optimal transport", 2009: the Wasserstein distance.
Westfall and Young, "Resampling-based multiple testing", 1993: max-t.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from synthbench.errors import MetricError
from synthbench.metrics.inference.multiplicity import max_t
from synthbench.metrics.inference.pairs import ratio, subject_sums
from synthbench.metrics.inference.resampling import bootstrap_weights, estimate
from synthbench.metrics.measures.constraints import MOST_MEASURES
from synthbench.metrics.measures.distributions import deviation, wasserstein
from synthbench.metrics.metric import (
    BaseMetric,
    Part,
    RowStatistic,
    Weights,
    check_features,
)
from synthbench.metrics.subjects import n_subjects, subject_index

SMALL = 0.2
"""|d| below this is a small difference (Cohen 1988)."""

REJECT_SD = 5.0
"""An image is rejected where a measure lies further than this from the real mean, in real standard
deviations. A program that measures an image which is no brain returns numbers all the same."""


ROUNDING = 1e-12
"""A variance below this, in units of the real one, is zero."""


def standardised_differences(
    real: Float64[np.ndarray, "n d"], synth: Float64[np.ndarray, "m d"], weights: Weights
) -> Float64[np.ndarray, "b d"]:
    """Return d of each measure under each row of weights, (mean synth - mean real) / sd real.

    The measures are those of `checked_measures`.
    """
    mean, sd = _moments(real, weights["real"])
    v = weights["synth"]
    return ratio(ratio(v @ synth, v.sum(axis=1, keepdims=True)) - mean, sd)


def _moments(
    real: Float64[np.ndarray, "n d"], w: Float64[np.ndarray, "b n"]
) -> tuple[Float64[np.ndarray, "b d"], Float64[np.ndarray, "b d"]]:
    """Mean and standard deviation (divisor n). Standardised measures lose no digits by squares."""
    n = w.sum(axis=1, keepdims=True)
    mean = ratio(w @ real, n)
    variance = ratio(w @ real**2, n) - mean**2
    return mean, np.sqrt(np.where(variance > ROUNDING, variance, 0.0))


def _distance(
    real: Float64[np.ndarray, "n d"], synth: Float64[np.ndarray, "m d"], weights: Weights
) -> Float64[np.ndarray, " b"]:
    of_measures = [
        ratio(wasserstein(x, y, weights), deviation(x, weights["real"]))
        for x, y in zip(real.T, synth.T, strict=True)
    ]
    return np.asarray(np.mean(of_measures, axis=0))


def _within(
    real: Float64[np.ndarray, "n d"], synth: Float64[np.ndarray, "m d"], weights: Weights
) -> Float64[np.ndarray, " b"]:
    d = standardised_differences(real, synth, weights)
    return np.where(np.isfinite(d).all(axis=1), (np.abs(d) < SMALL).mean(axis=1), np.nan)


def _largest(
    real: Float64[np.ndarray, "n d"], synth: Float64[np.ndarray, "m d"], weights: Weights
) -> Float64[np.ndarray, " b"]:
    return np.asarray(np.abs(standardised_differences(real, synth, weights)).max(axis=1))


def _rejected(
    real: Float64[np.ndarray, "n d"], synth: Float64[np.ndarray, "m d"], weights: Weights
) -> Float64[np.ndarray, " b"]:
    w, v = weights["real"], weights["synth"]
    shares = np.empty(len(w))
    for row, (mean, sd) in enumerate(zip(*_moments(real, w), strict=True)):
        shares[row] = v[row] @ (np.abs(synth - mean) > REJECT_SD * sd).any(axis=1)
    return ratio(shares, v.sum(axis=1))


def rejects(
    real: Float64[np.ndarray, "n d"], images: Float64[np.ndarray, "m d"]
) -> Bool[np.ndarray, " m"]:
    """Return which images have a measure beyond `REJECT_SD` real standard deviations.

    Parameters
    ----------
    real, images
        Measures, one row per image.

    Raises
    ------
    MetricError
        The measures are unusable (`checked_measures`).
    """
    _, standardised = checked_measures(Morphometry.name, real, images)
    return np.asarray((np.abs(standardised) > REJECT_SD).any(axis=1))


@dataclass(frozen=True)
class MorphometryStatistic(RowStatistic):
    """The mean distance of the regions, with what else is said of all of them as parts."""

    others: Mapping[str, Part] | None = None

    def parts(self) -> dict[str, Part]:
        """The share of regions within 0.2, the largest difference, the share of rejects."""
        assert self.others is not None
        return dict(self.others)


class Morphometry(BaseMetric):
    """Mean over regions of the Wasserstein-1 distance, in real standard deviations."""

    name = "morphometry"
    label = "Regional volumes (W1 / sd)"
    formula = (
        "mean over features of the Wasserstein-1 distance of real and synth / sd of real "
        f"(divisor n); d = difference of means / that sd; share of features with |d| < {SMALL:g}; "
        f"rejects: any feature beyond {REJECT_SD:g} sd of the real mean"
    )
    of_measures = True
    bounds: tuple[float, float] = (0.0, math.inf)
    sees = "a region that is too large or too small, or varies too much or too little"
    misses = (
        "how regions go together in one brain; faults that keep the volumes, as noise; what the "
        "extractor does not measure"
    )

    def prepare(
        self,
        real: Float64[np.ndarray, "n d"],
        synth: Float64[np.ndarray, "m d"],
        *,
        subjects: Mapping[str, np.ndarray] | None = None,
        **settings: Any,
    ) -> MorphometryStatistic:
        """Check the measures, and return the statistic.

        Parameters
        ----------
        real, synth
            Measures, one row per image.
        subjects
            For each role, the subject of each image; None is one image per subject.

        Raises
        ------
        MetricError
            The measures are unusable, more than `MOST_MEASURES`, or one of them is the same in all
            real images.
        """
        x, y = checked_measures(self.name, real, synth)
        index = subject_index(subjects, real=len(x), synth=len(y))

        def part(label: str, function: Any, bounds: tuple[float, float], direction: Any) -> Part:
            statistic = RowStatistic(partial(function, x, y), index, bounds)
            return Part(label, statistic, tabled=True, direction=direction)

        unbounded, share = (0.0, math.inf), (0.0, 1.0)
        others = {
            "within": part(f"Regions with |d| < {SMALL:g}", _within, share, "higher"),
            "largest": part("Largest |d| of a region", _largest, unbounded, None),
            "rejects": part(f"Rejects (a region beyond {REJECT_SD:g} sd)", _rejected, share, None),
        }
        return MorphometryStatistic(partial(_distance, x, y), index, self.bounds, others=others)


def checked_measures(
    metric: str, real: Float64[np.ndarray, "n d"], synth: Float64[np.ndarray, "m d"]
) -> tuple[Float64[np.ndarray, "n d"], Float64[np.ndarray, "m d"]]:
    """Return the measures in units of the real standard deviation (divisor n), from the real mean.

    Raises
    ------
    MetricError
        The measures are unusable, more than `MOST_MEASURES`, or one of them is the same in all
        real images.
    """
    sets = check_features(metric, real=real, synth=synth)
    x, y = sets["real"], sets["synth"]
    if x.shape[1] > MOST_MEASURES:
        raise MetricError(
            f"{metric}: it needs measures that a person can name, at most {MOST_MEASURES}; found "
            f"{x.shape[1]} features. Use --extractor regions.",
            "too many features",
            needed=MOST_MEASURES,
            found=x.shape[1],
        )
    constant = np.flatnonzero(np.ptp(x, axis=0) == 0)
    if len(constant):
        raise MetricError(
            f"{metric}: each measure must differ between real images; {len(constant)} of "
            f"{x.shape[1]} do not (first: measure {constant[0]}). Look for duplicated volumes, or "
            "leave these measures out.",
            "no spread",
        )
    mean, sd = x.mean(axis=0), x.std(axis=0)
    return (x - mean) / sd, (y - mean) / sd


@dataclass(frozen=True)
class RegionDifferences:
    """d of each region with a simultaneous interval.

    Attributes
    ----------
    d
        (mean synth - mean real) / sd real.
    low, high
        All intervals together cover with the probability `level`.
    p
        Adjusted for the number of regions (max-t): the least p of all is that of the hypothesis
        that no region differs.
    p_alone
        Of the region by itself, for whoever asked for this region beforehand.
    """

    d: Float64[np.ndarray, " d"]
    low: Float64[np.ndarray, " d"]
    high: Float64[np.ndarray, " d"]
    p: Float64[np.ndarray, " d"]
    p_alone: Float64[np.ndarray, " d"]
    level: float


def region_differences(
    x: Float64[np.ndarray, "n d"],
    y: Float64[np.ndarray, "m d"],
    *,
    subjects: Mapping[str, np.ndarray] | None = None,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> RegionDifferences:
    """Compare each region's mean volume with the real one, with simultaneous intervals.

    The bootstrap resamples subjects. t* is the difference of means less that of the data, over its
    standard error in the resample; the largest of its absolute values over regions gives the
    critical value (`synthbench.metrics.inference.multiplicity.max_t`). The intervals are for the
    differences of means, stated in the standard deviation of these real images: that number is a
    unit here, and its own uncertainty would only cost power.

    Parameters
    ----------
    x, y
        Measures of the real and the synthetic images, one row per image.
    subjects
        For each role, the subject of each image; None is one image per subject.
    resamples, level, seed
        Number of resamples, simultaneous coverage, and the seed of their stream.

    Raises
    ------
    MetricError
        The measures are unusable (`checked_measures`), or there are too few resamples.
    """
    real, synth = checked_measures(Morphometry.name, x, y)
    index = subject_index(subjects, real=len(real), synth=len(synth))
    ones = {role: np.ones((1, len(i))) for role, i in index.items()}
    (d,), (error,) = _with_error(real, synth, index, ones)
    weights = bootstrap_weights(index, resamples, np.random.default_rng(seed))
    d_of, error_of = _with_error(real, synth, index, weights)
    # A resample of one subject has no spread.
    usable = np.isfinite(d_of).all(axis=1) & (error_of > 0).all(axis=1)
    t = (d_of[usable] - d) / error_of[usable]
    critical, p = max_t(d / error, t, level=level)
    alone = (1 + (np.abs(t) >= np.abs(d / error)).sum(axis=0)) / (len(t) + 1)
    return RegionDifferences(d, d - critical * error, d + critical * error, p, alone, level)


def _with_error(
    real: Float64[np.ndarray, "n d"],
    synth: Float64[np.ndarray, "m d"],
    index: Mapping[str, Int64[np.ndarray, " _"]],
    weights: Weights,
) -> tuple[Float64[np.ndarray, "b d"], Float64[np.ndarray, "b d"]]:
    """Return each measure's difference of means under each row of weights, and its standard error.

    The measures are in units of the real standard deviation already (`checked_measures`).
    """
    shape = len(weights["real"]), real.shape[1]
    difference, variance = np.zeros(shape), np.zeros(shape)
    for sign, x, role in ((-1, real, "real"), (1, synth, "synth")):
        w = weights[role]
        mean = ratio(w @ x, w.sum(axis=1, keepdims=True))
        difference += sign * mean
        variance += _variance_of_mean(x, mean, w, index[role])
    return difference, np.sqrt(variance)


def _variance_of_mean(
    x: Float64[np.ndarray, "n d"],
    mean: Float64[np.ndarray, "b d"],
    w: Float64[np.ndarray, "b n"],
    index: Int64[np.ndarray, " n"],
) -> Float64[np.ndarray, "b d"]:
    """The variance of weighted means, by subjects; a subject that is drawn twice counts as two.

    It is that of `synthbench.metrics.inference.pairs.variance_of_mean` for many measures: the sum
    over subjects of (sum of x - images * mean)^2, by products that do not depend on the resample.
    """
    images = np.bincount(index, minlength=n_subjects(index)).astype(np.float64)
    sums = subject_sums(x.T, index).T
    counts = subject_sums(w, index) / images
    squares = (
        counts @ sums**2
        - 2 * mean * (counts @ (sums * images[:, None]))
        + mean**2 * (counts @ images**2)[:, None]
    )
    n = counts.sum(axis=1, keepdims=True)
    return np.asarray(
        np.maximum(squares, 0.0) * ratio(n, n - 1) / w.sum(axis=1, keepdims=True) ** 2
    )


def regional_distance(x: Float64[np.ndarray, "n d"], y: Float64[np.ndarray, "m d"]) -> float:
    """Return the mean over regions of the Wasserstein-1 distance, in real standard deviations.

    Parameters
    ----------
    x, y
        Measures of the real and the synthetic images, one row per image.

    Returns
    -------
    A value of at least 0. Sampling biases it upward, so two samples of one distribution do not
    reach zero.

    Raises
    ------
    MetricError
        The measures are unusable (`checked_measures`).

    Examples
    --------
    >>> x = np.array([[0.0], [2.0]])  # sd 1
    >>> regional_distance(x, x + 0.5)
    0.5
    """
    return estimate(Morphometry().prepare(x, y))
