"""Precision, recall, density and coverage: images of one set in neighbourhoods of the other.

Around each image of one set lies a ball that reaches to its k-th nearest image of that set.
The four metrics count which images of the other set lie in these balls. All four depend on n and
on the number of features, so they must be compared with the real-vs-real floor at the same n.

A ball includes its surface, as in Kynkaanniemi et al. The code of Naeem et al. leaves it out;
this differs only where distances are equal, as between copies of an image. Distances are computed
pair by pair, so the distance between copies is exactly 0, and equal distances are exactly equal.

References
----------
Kynkaanniemi et al., "Improved precision and recall metric for assessing generative models",
NeurIPS 2019: equations 1 and 2.
Naeem et al., "Reliable fidelity and diversity metrics for generative models", ICML 2020:
section 3.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64
from scipy.spatial.distance import cdist

from synthbench.errors import MetricError
from synthbench.metrics.blocked.balls import BlockedShare, Tally, radii
from synthbench.metrics.blocked.index import INDEX_SET, check_installed
from synthbench.metrics.blocked.near import Neighbours
from synthbench.metrics.inference.pairs import ratio
from synthbench.metrics.inference.resampling import LARGE_SET, estimate
from synthbench.metrics.metric import (
    BaseMetric,
    Direction,
    IntervalMethod,
    Role,
    RowStatistic,
    Weights,
    as_float64,
    check_features,
)
from synthbench.metrics.subjects import n_subjects, subject_index

NEIGHBOURS = 5
"""The k of Naeem et al.; Kynkaanniemi et al. use 3."""


def nearest(x: Float64[np.ndarray, "n d"], index: Int64[np.ndarray, " n"]) -> Neighbours:
    """Sort the images of other subjects by their squared distance from each image."""
    distances = cdist(x, x, "sqeuclidean")
    distances[index[:, None] == index[None, :]] = np.inf
    order = np.argsort(distances, axis=1, kind="stable")
    return Neighbours(order, np.take_along_axis(distances, order, axis=1))


Share = Callable[
    [Bool[np.ndarray, "b n m"], Float64[np.ndarray, "b n"], Float64[np.ndarray, "b m"], int],
    Float64[np.ndarray, " b"],
]
"""A function of `inside` (which balls hold which images), the weights of the balls, the weights of
the images, and k."""


def share_held(
    inside: Bool[np.ndarray, "b n m"],
    w: Float64[np.ndarray, "b n"],
    v: Float64[np.ndarray, "b m"],
    k: int,
) -> Float64[np.ndarray, " b"]:
    """Share of the images that lie in at least one ball (Kynkaanniemi et al. 2019, eq. 2)."""
    in_a_ball = (inside & (w > 0)[:, :, None]).any(axis=1)
    return ratio((in_a_ball * v).sum(axis=1), v.sum(axis=1))


def mean_balls(
    inside: Bool[np.ndarray, "b n m"],
    w: Float64[np.ndarray, "b n"],
    v: Float64[np.ndarray, "b m"],
    k: int,
) -> Float64[np.ndarray, " b"]:
    """Mean number of balls that hold an image, divided by k (Naeem et al. 2020)."""
    balls = np.einsum("bn,bnm->bm", w, inside)
    return ratio((balls * v).sum(axis=1), k * v.sum(axis=1))


def share_occupied(
    inside: Bool[np.ndarray, "b n m"],
    w: Float64[np.ndarray, "b n"],
    v: Float64[np.ndarray, "b m"],
    k: int,
) -> Float64[np.ndarray, " b"]:
    """Share of the balls that hold at least one image (Naeem et al. 2020)."""
    occupied = (inside & (v > 0)[:, None, :]).any(axis=2)
    return ratio((occupied * w).sum(axis=1), w.sum(axis=1))


class _BallMetric(BaseMetric):
    """A metric that counts images of one set in balls around the images of the other set."""

    direction: Direction = "higher"
    # A synthetic spread that is too small is rewarded: a change must fail no comparison.
    role: Role = "descriptive"
    interval: IntervalMethod = "score"
    around: Literal["real", "synth"] = "real"
    share: Share
    tally: Tally

    def freeze(
        self,
        real: Float64[np.ndarray, "n d"] | None,
        subjects: np.ndarray | None,
        *,
        spacing: tuple[float, float, float] | None = None,
    ) -> dict[str, Any]:
        """The number of neighbours as {"k": 5}, whatever the real set."""
        return {"k": NEIGHBOURS}

    def with_index(self, frozen: Mapping[str, Any], images: int) -> dict[str, Any]:
        """Return what `freeze` returned, with an index if the larger set has so many images."""
        return {**frozen, **({"neighbours": "index"} if images > INDEX_SET else {})}

    def prepare(
        self,
        real: Float64[np.ndarray, "n d"],
        synth: Float64[np.ndarray, "m d"],
        *,
        subjects: Mapping[str, np.ndarray] | None = None,
        k: int = NEIGHBOURS,
        neighbours: Literal["exact", "index"] = "exact",
        **settings: Any,
    ) -> RowStatistic | BlockedShare:
        """Sort the neighbours, compute the distances between the sets, and return the statistic.

        With more than `synthbench.metrics.inference.resampling.LARGE_SET` images in a role, the
        statistic computes them in blocks of rows whenever it needs them. It is NaN under weights
        that leave an image fewer than k images of other subjects.

        Parameters
        ----------
        real, synth
            Feature matrices, one row per image.
        subjects
            For each role, the subject of each image; None is one image per subject. Images of
            the same subject are not neighbours.
        k
            A ball reaches to the k-th nearest neighbour.
        neighbours
            "index": an index finds them in a large set, and misses some.

        Raises
        ------
        MetricError
            The features are unusable, k is below 1, faiss is not installed, or in the set around
            which the balls lie an image has fewer than k images of other subjects.
        """
        sets = check_features(self.name, widen=False, real=real, synth=synth)
        index = subject_index(subjects, real=len(sets["real"]), synth=len(sets["synth"]))
        check_k(self.name, self.around, index[self.around], k)
        counted = "synth" if self.around == "real" else "real"
        centres, images = sets[self.around], sets[counted]
        # All copies of an image lie in the same balls: they are one image to a share.
        distinct = min(map(_distinct, sets.values()))
        if max(len(x) for x in sets.values()) > LARGE_SET:
            if synth is real:
                images = centres
            if neighbours == "index":
                check_installed(self.name)
            return BlockedShare(
                centres, images, self.around, counted, index, k, self.tally, self.bounds,
                distinct, index=neighbours == "index",
            )  # fmt: skip
        centres, images = as_float64(centres), as_float64(images)
        sorted_images = nearest(centres, index[self.around])
        across = cdist(centres, images, "sqeuclidean")

        def value(weights: Weights) -> Float64[np.ndarray, " b"]:
            w, v = weights[self.around], weights[counted]
            radius = radii(sorted_images, w, k)
            shares = self.share(across <= radius[:, :, None], w, v, k)
            undefined = (np.isnan(radius) & (w > 0)).any(axis=1)
            return np.where(undefined, np.nan, shares)

        return RowStatistic(value, index, self.bounds, distinct)


class Precision(_BallMetric):
    """Share of synthetic images inside the real set's neighbourhoods: fidelity."""

    name = "precision"
    label = "Precision"
    formula = "share of synth within the k-NN balls (closed) of real; k over other subjects"
    sees = "synthetic images that lie away from the real ones"
    misses = (
        "lost diversity, which it rewards: copies of one typical image score 1.00; "
        "one outlying real image makes a ball that holds much"
    )
    bounds: tuple[float, float] = (0.0, 1.0)
    responds_to: tuple[str, ...] = ("blur",)
    share = staticmethod(share_held)
    tally: Tally = "held"


class Recall(_BallMetric):
    """Share of real images inside the synthetic set's neighbourhoods: diversity."""

    name = "recall"
    label = "Recall"
    formula = "share of real within the k-NN balls (closed) of synth; k over other subjects"
    around = "synth"
    sees = "real images that the synthetic ones do not reach: lost diversity"
    misses = (
        "realism, and excess spread, which it rewards: "
        "a few far-off synthetic images make balls that hold all real ones"
    )
    bounds: tuple[float, float] = (0.0, 1.0)
    responds_to: tuple[str, ...] = ("blur",)
    share = staticmethod(share_held)
    tally: Tally = "held"


class Density(_BallMetric):
    """Mean number of real neighbourhoods that a synthetic image lies in, over k: fidelity."""

    name = "density"
    label = "Density"
    formula = "mean number of k-NN balls (closed) of real that a synth is in, / k; may exceed 1"
    sees = "synthetic images that lie where real ones are sparse"
    misses = (
        "lost diversity, which it rewards: shrunk synthetic spread scores 4.0 where the floor is "
        "near 1, so a value above the floor is no praise"
    )
    bounds: tuple[float, float] = (0.0, math.inf)
    responds_to: tuple[str, ...] = ("blur",)
    share = staticmethod(mean_balls)
    tally: Tally = "balls"


class Coverage(_BallMetric):
    """Share of real neighbourhoods that hold a synthetic image: diversity."""

    name = "coverage"
    label = "Coverage"
    drawn = True
    formula = "share of the k-NN balls (closed) of real that hold a synth; k over other subjects"
    sees = "real images with no synthetic one near them: missing kinds of image"
    misses = (
        "shrunk synthetic spread, which still scores 1.00: with few images and many features "
        "the real balls overlap at the centre; bad images beside good ones"
    )
    bounds: tuple[float, float] = (0.0, 1.0)
    responds_to: tuple[str, ...] = ("blur",)
    share = staticmethod(share_occupied)
    tally: Tally = "occupied"


def precision(
    x: Float64[np.ndarray, "n d"], y: Float64[np.ndarray, "m d"], k: int = NEIGHBOURS
) -> float:
    """Return the share of synthetic images inside the real set's neighbourhoods.

    Parameters
    ----------
    x, y
        Features of the real and the synthetic images.
    k
        A neighbourhood reaches to the k-th nearest neighbour.

    Returns
    -------
    A value in [0, 1], higher for better fidelity; lost diversity does not lower it.

    Raises
    ------
    MetricError
        The features are unusable, k is below 1, or there are not more than k real images.

    Examples
    --------
    >>> x = np.array([[0.0], [1.0], [3.0]])
    >>> precision(x, np.array([[-1.0], [6.0]]), k=1)  # balls [-1, 1], [0, 2] and [1, 5]
    0.5
    """
    return estimate(Precision().prepare(x, y, k=k))


def recall(
    x: Float64[np.ndarray, "n d"], y: Float64[np.ndarray, "m d"], k: int = NEIGHBOURS
) -> float:
    """Return the share of real images in the synthetic neighbourhoods: `precision(y, x, k)`."""
    return estimate(Recall().prepare(x, y, k=k))


def density(
    x: Float64[np.ndarray, "n d"], y: Float64[np.ndarray, "m d"], k: int = NEIGHBOURS
) -> float:
    """Return the mean number of real neighbourhoods that hold a synthetic image, divided by k.

    Returns
    -------
    A value in [0, n / k]; about 1 for equal distributions. Errors are those of `precision`.

    Examples
    --------
    >>> x = np.array([[0.0], [1.0], [3.0]])
    >>> density(x, np.array([[0.5], [1.5]]), k=1)  # each is in two of [-1, 1], [0, 2], [1, 5]
    2.0
    """
    return estimate(Density().prepare(x, y, k=k))


def coverage(
    x: Float64[np.ndarray, "n d"], y: Float64[np.ndarray, "m d"], k: int = NEIGHBOURS
) -> float:
    """Return the share of real neighbourhoods that hold a synthetic image.

    Returns
    -------
    A value in [0, 1], higher for better diversity. Errors are those of `precision`.

    Examples
    --------
    >>> x = np.array([[0.0], [1.0], [3.0]])
    >>> round(coverage(x, np.array([[4.0], [5.0]]), k=1), 3)  # [-1, 1], [0, 2], [1, 5]
    0.333
    """
    return estimate(Coverage().prepare(x, y, k=k))


def _distinct(x: Float[np.ndarray, "n d"]) -> int:
    """Return the number of distinct rows. Their hashes take less memory than sorted rows."""
    return len({hashlib.blake2b((row + 0.0).tobytes(), digest_size=16).digest() for row in x})


def check_k(metric: str, role: str, index: Int64[np.ndarray, " n"], k: int) -> None:
    """Check that each image has k images of other subjects.

    Raises
    ------
    MetricError
        k is below 1, or an image has fewer than k images of other subjects.
    """
    if k < 1:
        raise MetricError(f"{metric}: k must be at least 1 neighbour; found {k}. Use 5.")
    largest = int(np.bincount(index).max())
    others = len(index) - largest
    if others < k:
        raise MetricError(
            f"{metric}: each {role} image needs at least k = {k} images of other subjects; found "
            f"{others}, with {len(index)} images of {n_subjects(index)} subjects. "
            f"Use at least {k + 1} subjects, or a smaller k.",
            "too few images",
            needed=k + 1,
            found=len(index),
        )
