"""Balls around the images of a large set: which images of another set they hold.

Distances to all images come from inner products, a block of centres at a time. They only choose
candidates: the distance of a candidate is computed again, pair by pair, as in small sets. So every
comparison is exact, and the values are those of small sets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.spatial.distance import cdist

from synthbench.metrics.inference.pairs import ratio
from synthbench.metrics.kernels import BLOCK_NUMBERS, squares_near_origin
from synthbench.metrics.metric import Target, Weights

CANDIDATES = 64
"""The nearest images that are sorted first; further ones only where weights leave too few."""

SPARSE = 0.25
"""Where less than this share of the centres has weight, those without weight are left out first."""

ROUNDING = 1e-11
"""The error of a squared distance from inner products is below this share of the squared norms."""

Tally = Literal["held", "balls", "occupied"]
"""What is averaged. "held": the share of the images that lie in a ball. "balls": the number of
balls that hold an image, divided by k. "occupied": the share of the balls that hold an image."""


@dataclass(frozen=True)
class Neighbours:
    """For some images, the images of other subjects in the order of their distance.

    Attributes
    ----------
    order
        Row i: images, the nearest to image i first, those of its own subject last.
    distances
        Row i: their squared distances, infinite for images of its own subject.
    """

    order: Int64[np.ndarray, "n k"]
    distances: Float64[np.ndarray, "n k"]


def radii(
    neighbours: Neighbours, w: Float64[np.ndarray, "b m"], k: int
) -> Float64[np.ndarray, "b n"]:
    """Return the squared distance of each image to its k-th nearest image of another subject.

    Weights are counts: an image of weight 2 counts as two neighbours at one distance.

    Returns
    -------
    Squared radii under each row of weights; NaN where the weights of the images of other subjects
    sum to less than k.
    """
    reached: Float64[np.ndarray, "b n"] = np.zeros((len(w), len(neighbours.order)))
    radius: Float64[np.ndarray, "b n"] = np.full_like(reached, np.nan)
    for rank in range(neighbours.order.shape[1]):
        distance = neighbours.distances[:, rank]
        reached += np.where(np.isfinite(distance), w[:, neighbours.order[:, rank]], 0.0)
        first = np.isnan(radius) & (reached >= k)
        radius = np.where(first, distance, radius)
        if not np.isnan(radius).any():
            break
    return radius


@dataclass(frozen=True)
class BlockedShare:
    """A mean over balls or over the images in them, as a function of weights.

    Time O(n (n + m) d) for each call, and memory O((n + m) (d + b)) beside one block of distances.
    Where many balls hold many images, a call also takes time in proportion to b and their number.

    Attributes
    ----------
    centres, images
        One row per image: of the set around which the balls lie, and of the one that is counted.
    around, counted
        The roles of the two sets.
    subjects
        For each role, the subject of each image.
    k
        A ball reaches to the k-th nearest image of another subject.
    tally
        What is averaged.
    bounds, independent, target
        As those of `synthbench.metrics.metric.RowStatistic`.
    """

    centres: Float64[np.ndarray, "n d"]
    images: Float64[np.ndarray, "m d"]
    around: str
    counted: str
    subjects: Mapping[str, Int64[np.ndarray, " _"]]
    k: int
    tally: Tally
    bounds: tuple[float, float]
    independent: int | None = None
    target: Target = "floor"

    @property
    def numbers_per_row(self) -> int:
        """The weights of both sets, and what is counted of each image."""
        return 2 * (len(self.centres) + len(self.images))

    def value(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The mean; NaN where an image with weight has fewer than k images of other subjects."""
        w, v = weights[self.around], weights[self.counted]
        sparse = np.count_nonzero(w, axis=1) < SPARSE * w.shape[1]
        values: Float64[np.ndarray, " b"] = np.full(len(w), np.nan)
        for row in np.flatnonzero(sparse).tolist():
            values[row] = self._without_the_others(w[row], v[row])
        if not sparse.all():
            values[~sparse] = self._value(w[~sparse], v[~sparse])
        return values

    def _without_the_others(
        self, w: Float64[np.ndarray, " n"], v: Float64[np.ndarray, " m"]
    ) -> float:
        """Return the mean under one row of weights, from the images that have weight."""
        if not (w > 0).any() or not (v > 0).any():
            return float("nan")
        index = self.subjects[self.around][w > 0]
        kept = replace(
            self,
            centres=self.centres[w > 0],
            images=self.images[v > 0],
            subjects={**self.subjects, self.around: np.unique(index, return_inverse=True)[1]},
        )
        return float(kept._value(w[None, w > 0], v[None, v > 0])[0])

    def _value(
        self, w: Float64[np.ndarray, "b n"], v: Float64[np.ndarray, "b m"]
    ) -> Float64[np.ndarray, " b"]:
        total, undefined = np.zeros(len(w)), np.zeros(len(w), dtype=np.bool_)
        held = np.zeros(v.shape if self.tally == "held" else (0, 0), dtype=np.bool_)
        for rows in self._blocks():
            radius = self._radii(rows, w)
            weighted = w[:, rows] > 0
            undefined |= (np.isnan(radius) & weighted).any(axis=1)
            radius = np.where(weighted, radius, np.nan)
            ball, image, distance = self._candidates(rows, radius)
            for b in range(len(w)):
                inside = distance <= radius[b, ball]
                if self.tally == "held":
                    held[b, image[inside]] = True
                elif self.tally == "balls":
                    total[b] += w[b, rows.start + ball[inside]] @ v[b, image[inside]]
                else:
                    occupied = np.zeros(len(rows), dtype=np.bool_)
                    occupied[ball[inside & (v[b, image] > 0)]] = True
                    total[b] += w[b, rows][occupied].sum()
        if self.tally == "held":
            shares = ratio((held * v).sum(axis=1), v.sum(axis=1))
        elif self.tally == "balls":
            shares = ratio(total, self.k * v.sum(axis=1))
        else:
            shares = ratio(total, w.sum(axis=1))
        return np.where(undefined, np.nan, shares)

    def _blocks(self) -> Iterator[range]:
        n = len(self.centres)
        step = max(1, BLOCK_NUMBERS // max(n, len(self.images)))
        for start in range(0, n, step):
            yield range(start, min(start + step, n))

    def _radii(self, rows: range, w: Float64[np.ndarray, "b n"]) -> Float64[np.ndarray, "b k"]:
        """Return the squared radii of some balls under each row of weights."""
        index = self.subjects[self.around]
        own = index[rows.start : rows.stop, None] == index
        nearest = squares_near_origin(self.centres[rows.start : rows.stop], self.centres)
        nearest[own] = np.inf
        few = min(CANDIDATES, nearest.shape[1])
        # In the order of the images, so that equal distances are sorted as in small sets.
        chosen = np.sort(np.argpartition(nearest, few - 1, axis=1)[:, :few], axis=1)
        radius = radii(self._sorted(rows, chosen), w, self.k)
        if few == nearest.shape[1]:
            return radius
        # Images beyond the candidates may be as near as the last of them.
        last = np.take_along_axis(nearest, chosen, axis=1).max(axis=1)
        unsure = ~(radius < last - self._rounding(rows)).all(axis=0)
        for place in np.flatnonzero(unsure).tolist():
            row = range(rows[place], rows[place] + 1)
            every = self._sorted(row, np.arange(len(self.centres))[None, :])
            radius[:, place] = radii(every, w, self.k)[:, 0]
        return radius

    def _sorted(self, rows: range, chosen: Int64[np.ndarray, "r k"]) -> Neighbours:
        """Return chosen images in the order of their exact distances from some centres."""
        index = self.subjects[self.around]
        distances = np.stack([
            cdist(self.centres[row][None], self.centres[some], "sqeuclidean")[0]
            for row, some in zip(rows, chosen, strict=True)
        ])  # fmt: skip
        distances[index[rows.start : rows.stop, None] == index[chosen]] = np.inf
        order = np.argsort(distances, axis=1, kind="stable")
        return Neighbours(
            np.take_along_axis(chosen, order, axis=1),
            np.take_along_axis(distances, order, axis=1),
        )

    def _candidates(
        self, rows: range, radius: Float64[np.ndarray, "b r"]
    ) -> tuple[Int64[np.ndarray, " p"], Int64[np.ndarray, " p"], Float64[np.ndarray, " p"]]:
        """Return all pairs that some row of weights may have inside: ball, image, distance."""
        widest = np.where(np.isnan(radius), -np.inf, radius).max(axis=0)
        squares = squares_near_origin(self.centres[rows.start : rows.stop], self.images)
        near: Bool[np.ndarray, "r m"] = squares <= (widest + self._rounding(rows))[:, None]
        ball, image = np.nonzero(near)
        ends = np.cumsum(near.sum(axis=1))[:-1]
        exact = [
            cdist(self.centres[row][None], self.images[some], "sqeuclidean")[0]
            for row, some in zip(rows, np.split(image, ends), strict=True)
        ]
        return ball, image, np.concatenate(exact)

    @cached_property
    def _largest_norm(self) -> float:
        """Return the largest squared norm of a row."""
        return max(float(np.einsum("ij,ij->i", x, x).max()) for x in (self.centres, self.images))

    def _rounding(self, rows: range) -> Float64[np.ndarray, " r"]:
        """Return the largest error of a squared distance from inner products, for each centre."""
        norms = (self.centres[rows.start : rows.stop] ** 2).sum(axis=1)
        rounding: Float64[np.ndarray, " r"] = ROUNDING * (norms + self._largest_norm)
        return rounding
