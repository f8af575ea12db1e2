"""Clipped density and clipped coverage: neighbourhoods in which no image can count for much.

Plain density rewards a synthetic set that gathers where real images are dense, and one outlying
real image makes a ball that holds much. Plain coverage asks for one synthetic image in each ball,
so many bad images beside a few good ones go unseen. Here

- the radius of a ball is at most the median radius, and an image counts as in at most k balls
  (clipped density; the value is divided by that of the real images among themselves);
- a ball counts the share of the k images that it should hold, and the mean is read back on its
  expectation for good images: the value is the share of good images that would give it (clipped
  coverage). So the value falls in proportion to the share of bad images.

Both are clipped at 1, and depend on n: compare them with the real-vs-real floor at the same n.

References
----------
Salvy, Talbot and Thirion, "Enhanced generative model evaluation with clipped density and
coverage", ICLR 2026 (arXiv:2507.01761), and its published code.
Wilks, "Mathematical Statistics", Wiley 1962: the share of a population between order statistics has
a beta distribution, whatever the population.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.spatial.distance import cdist

from synthbench.metrics.blocked.balls import radii
from synthbench.metrics.inference.pairs import ratio, subject_sums
from synthbench.metrics.inference.resampling import estimate
from synthbench.metrics.metric import (
    BaseMetric,
    Direction,
    IntervalMethod,
    Role,
    RowStatistic,
    Weights,
    check_features,
    check_memory,
    ones,
)
from synthbench.metrics.prdc import NEIGHBOURS, check_k, nearest
from synthbench.metrics.subjects import subject_index

BISECTIONS = 60
"""Halvings of the interval in which an expectation is inverted: below the rounding of float64."""


@dataclass(frozen=True)
class Distances:
    """Squared distances of the real images to each other and to the synthetic ones.

    Attributes
    ----------
    real
        Infinite within a subject.
    across
        Real rows, synthetic columns.
    index
        The subject of each real image.
    k
        A ball reaches to the k-th nearest real image of another subject.
    """

    real: Float64[np.ndarray, "n n"]
    across: Float64[np.ndarray, "n m"]
    index: Int64[np.ndarray, " n"]
    k: int


Base = Callable[
    [
        Distances,
        Float64[np.ndarray, "b n"],
        Float64[np.ndarray, "b n"],
        Float64[np.ndarray, "b m"],
    ],
    Float64[np.ndarray, " b"],
]
"""A function of distances, squared radii, and the weights of the real and the synthetic images."""

Shape = Callable[
    [Distances, Float64[np.ndarray, " b"], Float64[np.ndarray, "b n"], Float64[np.ndarray, "b m"]],
    Float64[np.ndarray, " b"],
]
"""A rising function of the base, given distances and weights, clipped at 1."""


def relative_density(
    distances: Distances,
    radius: Float64[np.ndarray, "b n"],
    w: Float64[np.ndarray, "b n"],
    v: Float64[np.ndarray, "b m"],
) -> Float64[np.ndarray, " b"]:
    """Return the mean over synthetic images of min(balls / k, 1), over that of real images.

    It may exceed 1, up to the inverse of the mean of real images.
    """
    clipped = np.minimum(radius, weighted_median_radius(radius, w)[:, None])

    def mean_share(
        rows: Float64[np.ndarray, "n m"], u: Float64[np.ndarray, "b m"]
    ) -> Float64[np.ndarray, " b"]:
        balls = np.einsum("bn,bnm->bm", w, rows <= clipped[:, :, None])
        return ratio((np.minimum(balls / distances.k, 1) * u).sum(axis=1), u.sum(axis=1))

    return ratio(mean_share(distances.across, v), mean_share(distances.real, w))


def at_most_one(
    distances: Distances,
    base: Float64[np.ndarray, " b"],
    w: Float64[np.ndarray, "b n"],
    v: Float64[np.ndarray, "b m"],
) -> Float64[np.ndarray, " b"]:
    """Return the base, clipped at 1."""
    return np.asarray(np.minimum(base, 1.0))


def mean_fill(
    distances: Distances,
    radius: Float64[np.ndarray, "b n"],
    w: Float64[np.ndarray, "b n"],
    v: Float64[np.ndarray, "b m"],
) -> Float64[np.ndarray, " b"]:
    """Return the mean over real balls of min(synthetic images in it / k, 1), in [0, 1]."""
    inside: Bool[np.ndarray, "b n m"] = distances.across <= radius[:, :, None]
    held = np.einsum("bm,bnm->bn", v, inside)
    return ratio((np.minimum(held / distances.k, 1) * w).sum(axis=1), w.sum(axis=1))


def expected_fill(
    others: Float64[np.ndarray, "*shape"], m: Float64[np.ndarray, "*shape"], k: int
) -> Float64[np.ndarray, "*shape"]:
    """Return E min(J, k) / k for the number J of m images inside a ball.

    The ball reaches to the k-th nearest of `others` images of the same distribution. The share of
    that distribution inside it is Beta(k, others + 1 - k), so J is beta-binomial (Salvy et
    al.; their N is others + 1). Between whole m the terms are interpolated.

    Parameters
    ----------
    others
        Number of images that may be neighbours, at least k.
    m
        Number of images that may lie in the ball, at least 0.
    k
        The number of neighbours.

    Returns
    -------
    Values in [0, 1), rising with m.

    Examples
    --------
    >>> expected_fill(np.array(1.0), np.array(1.0), 1)  # one is as likely to be nearer as the other
    array(0.5)
    """
    beta = others + 1 - k
    probability = np.ones(np.broadcast(others, m).shape)  # that J = 0
    for step in range(k):
        probability = probability * (beta + step) / (beta + m + step)
    missing = np.zeros_like(probability)
    for held in range(k):
        missing += (k - held) * probability
        left = np.maximum(m - held, 0)
        rest = np.maximum(beta + m - held - 1, np.finfo(np.float64).tiny)
        probability = np.where(left > 0, probability * left * (k + held) / ((held + 1) * rest), 0.0)
    return np.asarray(1 - missing / k)


def share_of_good(
    distances: Distances,
    base: Float64[np.ndarray, " b"],
    w: Float64[np.ndarray, "b n"],
    v: Float64[np.ndarray, "b m"],
) -> Float64[np.ndarray, " b"]:
    """Return the m' / m at which the mean expected fill of m' good images is the base.

    It is at most 1; NaN stays NaN.
    """
    fill, m, k = base, v.sum(axis=1), distances.k
    # Each ball is made by the images of other subjects.
    others = w.sum(axis=1)[:, None] - subject_sums(w, distances.index)[:, distances.index]
    # Subjects have few different numbers of images, so few expectations are computed per row.
    found = [
        np.unique(sizes[counts > 0], return_inverse=True)
        for sizes, counts in zip(others, w, strict=True)
    ]
    rows = np.repeat(np.arange(len(fill)), [len(sizes) for sizes, _ in found])
    sizes = np.concatenate([sizes for sizes, _ in found])
    parts = np.concatenate(
        [np.bincount(at, weights=c[c > 0]) / c.sum() for (_, at), c in zip(found, w, strict=True)]
    )
    # Rows with too few neighbours have no value anyway.
    sizes = np.maximum(sizes, k)
    low, high = np.zeros(len(fill)), np.ones(len(fill))
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        expected = parts * expected_fill(sizes, (m * middle)[rows], k)
        below = np.bincount(rows, weights=expected, minlength=len(fill)) < fill
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.asarray(np.where(np.isnan(fill), np.nan, np.where(fill > 0, high, 0.0)))


def weighted_median_radius(
    radius: Float64[np.ndarray, "b n"], w: Float64[np.ndarray, "b n"]
) -> Float64[np.ndarray, " b"]:
    """Return the square of the median radius, from squared radii and counts as weights.

    For an even number it is the square of the mean of the two middle radii. Radii of images
    without weight do not count.
    """
    order = np.argsort(np.where(w > 0, radius, np.inf), axis=1, kind="stable")
    squares = np.take_along_axis(radius, order, axis=1)
    cumulated = np.cumsum(np.take_along_axis(w, order, axis=1), axis=1)
    half = w.sum(axis=1, keepdims=True) / 2
    rows = np.arange(len(w))
    lower = squares[rows, (cumulated >= half).argmax(axis=1)]
    upper = squares[rows, (cumulated > half).argmax(axis=1)]
    # The mean of equal roots, squared, would differ from them by rounding.
    middle = ((np.sqrt(lower) + np.sqrt(upper)) / 2) ** 2
    return np.asarray(np.where(lower == upper, lower, middle))


@dataclass(frozen=True)
class ClippedStatistic(RowStatistic):
    """A clipped value as a function of weights, with the statistic that is not clipped.

    Attributes
    ----------
    base
        The statistic that is not clipped.
    clip
        The value that belongs to a value of the base, under given weights.
    """

    base: RowStatistic = field(kw_only=True)
    clip: Callable[[Float64[np.ndarray, " b"], Weights], Float64[np.ndarray, " b"]] = field(
        kw_only=True
    )

    def from_base(self, value: float) -> float:
        """Return the value that belongs to a value of the base, at weights of one."""
        return float(self.clip(np.array([value]), ones(self))[0])


class _ClippedMetric(BaseMetric):
    """A metric of balls around real images, in which no image counts for much."""

    direction: Direction = "higher"
    # Like the plain forms, it may change where nothing became worse: it fails no comparison.
    role: Role = "descriptive"
    interval: IntervalMethod = "score"
    bounds: tuple[float, float] = (0.0, 1.0)
    responds_to: tuple[str, ...] = ("blur",)
    unclipped: Base
    clip: Shape
    base_bounds: tuple[float, float] = (0.0, 1.0)

    def freeze(
        self,
        real: Float64[np.ndarray, "n d"] | None,
        subjects: np.ndarray | None,
        *,
        spacing: tuple[float, float, float] | None = None,
    ) -> dict[str, Any]:
        """The number of neighbours as {"k": 5}, whatever the real set."""
        return {"k": NEIGHBOURS}

    def prepare(
        self,
        real: Float64[np.ndarray, "n d"],
        synth: Float64[np.ndarray, "m d"],
        *,
        subjects: Mapping[str, np.ndarray] | None = None,
        k: int = NEIGHBOURS,
        **settings: Any,
    ) -> ClippedStatistic:
        """Compute the distances, and return the statistic.

        It is NaN under weights that leave a real image fewer than k images of other subjects.

        Parameters
        ----------
        real, synth
            Feature matrices, one row per image.
        subjects
            For each role, the subject of each image; None is one image per subject. Images of
            the same subject are not neighbours.
        k
            A ball reaches to the k-th nearest neighbour.

        Raises
        ------
        MetricError
            The features are unusable, k is below 1, or a real image has fewer than k images of
            other subjects.
        """
        sets = check_features(self.name, real=real, synth=synth)
        index = subject_index(subjects, real=len(sets["real"]), synth=len(sets["synth"]))
        check_k(self.name, "real", index["real"], k)
        n, m = len(sets["real"]), len(sets["synth"])
        check_memory(
            self.name, n * (4 * n + m), f"the distances between {n} real and {m} synthetic images"
        )
        neighbours = nearest(sets["real"], index["real"])
        within = np.empty_like(neighbours.distances)
        np.put_along_axis(within, neighbours.order, neighbours.distances, axis=1)
        across = cdist(sets["real"], sets["synth"], "sqeuclidean")
        distances = Distances(within, across, index["real"], k)

        def unclipped(weights: Weights) -> Float64[np.ndarray, " b"]:
            w, v = weights["real"], weights["synth"]
            radius = radii(neighbours, w, k)
            undefined = (np.isnan(radius) & (w > 0)).any(axis=1)
            base = self.unclipped(distances, np.nan_to_num(radius, nan=0.0), w, v)
            return np.where(undefined, np.nan, base)

        def clip(base: Float64[np.ndarray, " b"], weights: Weights) -> Float64[np.ndarray, " b"]:
            return self.clip(distances, base, weights["real"], weights["synth"])

        def value(weights: Weights) -> Float64[np.ndarray, " b"]:
            return clip(unclipped(weights), weights)

        # All copies of an image lie in the same balls: they are one image to a share.
        distinct = min(len(np.unique(x, axis=0)) for x in sets.values())
        base = RowStatistic(unclipped, index, self.base_bounds, distinct)
        return ClippedStatistic(value, index, self.bounds, distinct, base=base, clip=clip)


class ClippedDensity(_ClippedMetric):
    """How much synthetic images lie among real ones, as real ones do: fidelity."""

    name = "clipped_density"
    label = "Clipped density"
    formula = (
        "mean over synth of min(k-NN balls (closed) of real that hold it / k, 1), / the same of "
        "real; radii at most their median; at most 1"
    )
    sees = "synthetic images that lie where real ones are sparse, or away from them"
    misses = (
        "lost diversity: a shrunken spread scores 1.00, which is not above the floor, so read "
        "recall or rke beside it"
    )
    base_bounds: tuple[float, float] = (0.0, math.inf)
    unclipped = staticmethod(relative_density)
    clip = staticmethod(at_most_one)


class ClippedCoverage(_ClippedMetric):
    """The share of good synthetic images that would fill the real neighbourhoods as much."""

    name = "clipped_coverage"
    label = "Clipped coverage"
    formula = (
        "m' / m, with m' the number of synth of the real distribution whose expected mean "
        "min(images in a k-NN ball (closed) of real / k, 1) is that found; at most 1"
    )
    sees = "real images with few synthetic ones near them: missing kinds of image, and bad images"
    misses = (
        "a shrunken spread where images are few and features many: the real balls overlap at the "
        "centre; where in the brain images are bad"
    )
    unclipped = staticmethod(mean_fill)
    clip = staticmethod(share_of_good)


def clipped_density(
    x: Float64[np.ndarray, "n d"], y: Float64[np.ndarray, "m d"], k: int = NEIGHBOURS
) -> float:
    """Return the clipped density of synthetic images among real ones.

    Parameters
    ----------
    x, y
        Features of the real and the synthetic images.
    k
        A neighbourhood reaches to the k-th nearest neighbour.

    Returns
    -------
    A value in [0, 1], about 1 for equal distributions; lost diversity does not lower it.

    Raises
    ------
    MetricError
        The features are unusable, k is below 1, or there are not more than k real images.

    Examples
    --------
    >>> x = np.array([[0.0], [1.0], [3.0]])  # radii 1, 1 and 2: the last is clipped to 1
    >>> clipped_density(x, np.array([[0.5], [5.0]]), k=1)  # balls [-1, 1], [0, 2] and [2, 4]
    0.75
    """
    return estimate(ClippedDensity().prepare(x, y, k=k))


def clipped_coverage(
    x: Float64[np.ndarray, "n d"], y: Float64[np.ndarray, "m d"], k: int = NEIGHBOURS
) -> float:
    """Return the clipped coverage of the real neighbourhoods by synthetic images.

    Returns
    -------
    A value in [0, 1], which falls in proportion to the share of synthetic images that lie away
    from all real ones. Errors are those of `clipped_density`.

    Examples
    --------
    >>> x = np.array([[0.0], [1.0], [3.0]])
    >>> clipped_coverage(x, np.array([[50.0], [60.0]]), k=1)
    0.0
    """
    return estimate(ClippedCoverage().prepare(x, y, k=k))
