"""Constraint violations: synthetic volumes with a measure that real ones hardly ever have.

The features are measures that a person can name, as those of the extractor `anatomy`. The limits
of each measure are its real 0.5% and 99.5% quantiles. They are order statistics: with n real
images, the r-th smallest and the r-th largest value, r = max(1, floor(0.005 (n + 1))). Up to 398
images r is 1: a quantile of 0.5% cannot be estimated from fewer than 199 images, and the limits are
the smallest and the largest value. So they are narrower than those of the population, and real
images violate them too: a further image lies outside the limits of one measure with a probability
of 2 r / (n + 1), whatever the distribution, which is 2.8% at n = 70 and 5.6% at n = 35. The floor
states the share for all measures together.

References
----------
U.S. FDA, ScoreCard (DIDSR; Communications Engineering 2025, 10.1038/s44172-025-00450-1): the
constraint violation rate among its seven criteria.
David and Nagaraja, "Order statistics", Wiley 2003: the mean coverage between order statistics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from synthbench.errors import MetricError
from synthbench.metrics.inference.pairs import ratio
from synthbench.metrics.inference.resampling import estimate
from synthbench.metrics.metric import (
    BaseMetric,
    Direction,
    IntervalMethod,
    Part,
    Role,
    RowStatistic,
    Weights,
    check_features,
)
from synthbench.metrics.subjects import subject_index

TAIL = 0.005
"""The share of the population beyond each of the two limits, which the limits estimate."""

MOST_MEASURES = 256
"""More features than this are a network's: nobody can name them, and each adds violations."""

BOUNDS = (0.0, 1.0)


def order(n: Float64[np.ndarray, " b"]) -> Float64[np.ndarray, " b"]:
    """Return r = max(1, floor(0.005 (n + 1))): the limits are the r-th smallest and largest value.

    >>> order(np.array([35.0, 199.0, 398.0, 399.0]))
    array([1., 1., 1., 2.])
    """
    # 1e-9: 0.005 x 400 must not fall below 2 by rounding.
    return np.asarray(np.maximum(1.0, np.floor(TAIL * (n + 1) + 1e-9)))


def expected_share(n: int) -> float:
    """Return the probability that a further real image violates one measure, 2 r / (n + 1).

    It holds for independent images of one continuous distribution, at least one.

    >>> round(expected_share(70), 4), round(expected_share(399), 4)
    (0.0282, 0.01)
    """
    return float(min(1.0, 2 * order(np.array([n]))[0] / (n + 1)))


def limits(
    real: Float64[np.ndarray, "n d"], w: Float64[np.ndarray, "b n"]
) -> tuple[Float64[np.ndarray, "b d"], Float64[np.ndarray, "b d"]]:
    """Return the lower and the upper limit of each measure; weights are counts of images."""
    r = order(w.sum(axis=1))[:, None]
    ends = []
    for sign in (1, -1):
        ranks = np.argsort(sign * real, axis=0, kind="stable")
        ascending = np.take_along_axis(real, ranks, axis=0)
        end = np.empty((len(w), real.shape[1]))
        for measure in range(real.shape[1]):
            reached = np.cumsum(w[:, ranks[:, measure]], axis=1) >= r
            # Under weights of less than r in all, the last image of any weight is the limit.
            last = (w[:, ranks[:, measure]] > 0).cumsum(axis=1).argmax(axis=1)
            first = np.where(reached.any(axis=1), reached.argmax(axis=1), last)
            end[:, measure] = ascending[first, measure]
        ends.append(end)
    return ends[0], ends[1]


def _violations(
    real: Float64[np.ndarray, "n d"], synth: Float64[np.ndarray, "m d"], weights: Weights
) -> Bool[np.ndarray, "b m d"]:
    low, high = limits(real, weights["real"])
    return np.asarray((synth < low[:, None, :]) | (synth > high[:, None, :]))


def _share_of_images(
    real: Float64[np.ndarray, "n d"], synth: Float64[np.ndarray, "m d"], weights: Weights
) -> Float64[np.ndarray, " b"]:
    v = weights["synth"]
    any_measure = _violations(real, synth, weights).any(axis=2)
    return ratio((any_measure * v).sum(axis=1), v.sum(axis=1))


def _share_per_measure(
    real: Float64[np.ndarray, "n d"], synth: Float64[np.ndarray, "m d"], weights: Weights
) -> Float64[np.ndarray, " b"]:
    v = weights["synth"]
    mean = _violations(real, synth, weights).mean(axis=2)
    return ratio((mean * v).sum(axis=1), v.sum(axis=1))


@dataclass(frozen=True)
class Violations(RowStatistic):
    """The share of images that violate a limit, with its mean over measures as a part.

    Attributes
    ----------
    per_measure
        The share of pairs of an image and a measure outside the limits.
    """

    per_measure: RowStatistic | None = None

    def parts(self) -> dict[str, Part]:
        """The mean share per measure, whose expectation for real images is `expected_share`."""
        assert self.per_measure is not None
        label = "Constraint violations, mean per measure"
        return {"per_measure": Part(label, self.per_measure, tabled=True)}


class Constraints(BaseMetric):
    """Share of synthetic images with a measure outside the real 0.5% to 99.5% range."""

    name = "constraints"
    label = "Constraint violations"
    formula = (
        "share of synth with any feature outside the real limits: r-th smallest and largest real "
        f"value, r = max(1, floor({TAIL} (n + 1)))"
    )
    direction: Direction = "lower"
    # Images that are all alike violate nothing: a change must fail no comparison.
    role: Role = "descriptive"
    interval: IntervalMethod = "score"
    of_measures = True
    bounds: tuple[float, float] = BOUNDS
    sees = (
        "single volumes with an impossible measure: too large ventricles, too little white matter"
    )
    misses = (
        "lost diversity, which it rewards; impossible combinations of possible measures; "
        "what the extractor does not measure"
    )

    def prepare(
        self,
        real: Float64[np.ndarray, "n d"],
        synth: Float64[np.ndarray, "m d"],
        *,
        subjects: Mapping[str, np.ndarray] | None = None,
        **settings: Any,
    ) -> Violations:
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
            The measures are unusable, or more than `MOST_MEASURES`.
        """
        sets = check_features(self.name, real=real, synth=synth)
        d = sets["real"].shape[1]
        if d > MOST_MEASURES:
            raise MetricError(
                f"{self.name}: it needs measures that a person can name, at most {MOST_MEASURES}; "
                f"found {d} features. Use --extractor anatomy-limits.",
                "too many features",
                needed=MOST_MEASURES,
                found=d,
            )
        index: dict[str, Int64[np.ndarray, " _"]] = subject_index(
            subjects, real=len(sets["real"]), synth=len(sets["synth"])
        )
        whole, each = (
            partial(function, sets["real"], sets["synth"])
            for function in (_share_of_images, _share_per_measure)
        )
        distinct = min(len(np.unique(x, axis=0)) for x in sets.values())
        per_measure = RowStatistic(each, index, BOUNDS, distinct)
        return Violations(whole, index, BOUNDS, distinct, per_measure=per_measure)


def constraint_violations(x: Float64[np.ndarray, "n d"], y: Float64[np.ndarray, "m d"]) -> float:
    """Return the share of synthetic images with a measure outside the real limits.

    Parameters
    ----------
    x, y
        Measures of the real and the synthetic images, one row per image.

    Returns
    -------
    A value in [0, 1]. For one measure of real images its expectation is 2 r / (n + 1), not zero.

    Raises
    ------
    MetricError
        The measures are unusable, or more than `MOST_MEASURES`.

    Examples
    --------
    >>> x = np.array([[10.0], [12.0], [15.0]])
    >>> constraint_violations(x, np.array([[11.0], [15.0], [15.5], [9.0]]))
    0.5
    """
    return estimate(Constraints().prepare(x, y))
