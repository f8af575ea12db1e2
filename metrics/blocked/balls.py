"""Balls around the images of a large set: which images of another set they hold.

The nearest images of each image, and the pairs of both sets within reach, are found once
(`synthbench.metrics.blocked.near`), and serve all rows of weights and all four metrics. Balls that
reach further are compared with all images. Distances are exact, so that the values are those of
small sets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from synthbench.metrics.blocked.near import (
    NearLists,
    Neighbours,
    PairsInReach,
    exact_squares,
    near_lists,
    pairs_in_reach,
    sorted_neighbours,
)
from synthbench.metrics.inference.pairs import ratio
from synthbench.metrics.inference.tiles import Images
from synthbench.metrics.kernels import rows_per_block, squares_near_origin
from synthbench.metrics.metric import Target, Weights

SPARSE = 0.25
"""Where less than this share of the centres has weight, those without weight are left out first."""

ROUNDING = 1e-11
"""The error of a squared distance from inner products is below this share of the squared norms."""

ROWS_AT_ONCE = 2048
"""Centres, at most, whose balls are counted together."""

Tally = Literal["held", "balls", "occupied"]
"""What is averaged. "held": the share of the images that lie in a ball. "balls": the number of
balls that hold an image, divided by k. "occupied": the share of the balls that hold an image."""


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

    The first call takes time O((n + m)^2 d), each call time in proportion to b and the number of
    pairs of a ball and an image in it. Memory is O(n + m) beside the features and one tile; pairs
    within reach take a share of `--max-memory`, and are found again where they would take more.

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
    index
        True where an index finds the nearest images; it misses some.
    bounds, independent, target
        As those of `synthbench.metrics.metric.RowStatistic`.
    """

    centres: Float[np.ndarray, "n d"]
    images: Float[np.ndarray, "m d"]
    around: str
    counted: str
    subjects: Mapping[str, Int64[np.ndarray, " _"]]
    k: int
    tally: Tally
    bounds: tuple[float, float]
    independent: int | None = None
    target: Target = "floor"
    index: bool = False

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
        present = {self.around: w > 0, self.counted: v > 0}
        kept = replace(
            self,
            centres=self.centres[w > 0],
            images=self.images[v > 0],
            subjects={
                role: np.unique(self.subjects[role][some], return_inverse=True)[1]
                for role, some in present.items()
            },
        )
        return float(kept._value(w[None, w > 0], v[None, v > 0])[0])

    def _value(
        self, w: Float64[np.ndarray, "b n"], v: Float64[np.ndarray, "b m"]
    ) -> Float64[np.ndarray, " b"]:
        total, undefined = np.zeros(len(w)), np.zeros(len(w), dtype=np.bool_)
        held = np.zeros(v.shape if self.tally == "held" else (0, 0), dtype=np.bool_)
        for rows in self._blocks(len(w)):
            radius = self._radii(rows, w)
            weighted = w[:, rows.start : rows.stop] > 0
            undefined |= (np.isnan(radius) & weighted).any(axis=1)
            radius = np.where(weighted, radius, np.nan)
            for ball, image, distance in self._candidates(rows, radius):
                for b in range(len(w)):
                    inside = distance <= radius[b, ball]
                    if self.tally == "held":
                        held[b, image[inside]] = True
                    elif self.tally == "balls":
                        total[b] += w[b, rows.start + ball[inside]] @ v[b, image[inside]]
                    else:
                        occupied = np.zeros(len(rows), dtype=np.bool_)
                        occupied[ball[inside & (v[b, image] > 0)]] = True
                        total[b] += w[b, rows.start : rows.stop][occupied].sum()
        if self.tally == "held":
            shares = ratio((held * v).sum(axis=1), v.sum(axis=1))
        elif self.tally == "balls":
            shares = ratio(total, self.k * v.sum(axis=1))
        else:
            shares = ratio(total, w.sum(axis=1))
        return np.where(undefined, np.nan, shares)

    def _blocks(self, b: int) -> Iterator[range]:
        n = len(self.centres)
        step = min(rows_per_block(max(b, 1)), ROWS_AT_ONCE)
        for start in range(0, n, step):
            yield range(start, min(start + step, n))

    @cached_property
    def _of_centres(self) -> Images:
        return Images(self.centres, self.subjects[self.around])

    @cached_property
    def _lists(self) -> NearLists:
        return near_lists(self._of_centres, index=self.index)

    @cached_property
    def _pairs(self) -> PairsInReach | None:
        index = self.subjects[self.counted]
        same = self.images is self.centres and np.array_equal(index, self.subjects[self.around])
        other = self._of_centres if same else Images(self.images, index)
        return pairs_in_reach(self._of_centres, other, index=self.index)

    @property
    def share_found(self) -> float | None:
        """The share of the nearest images that the index finds; None: all are found."""
        return self._lists.found

    def _radii(self, rows: range, w: Float64[np.ndarray, "b n"]) -> Float64[np.ndarray, "b k"]:
        """Return the squared radii of some balls under each row of weights."""
        lists, span = self._lists, slice(rows.start, rows.stop)
        order, distances = lists.nearest.order[span], lists.nearest.distances[span]
        radius = radii(Neighbours(order, distances), w, self.k)
        # Images that are not in the list may be as near as a ball reaches.
        unsure = ~(radius < lists.beyond[span]) & (w[:, span] > 0)
        unsure &= np.isfinite(lists.beyond[span])
        for place in np.flatnonzero(unsure.any(axis=0)).tolist():
            every = self._every_neighbour(rows[place])
            radius[:, place] = radii(every, w, self.k)[:, 0]
        return radius

    def _every_neighbour(self, centre: int) -> Neighbours:
        """Return all images of other subjects in the order of their distance from a centre."""
        row = np.array([centre])
        return sorted_neighbours(self._of_centres, row, np.arange(len(self.centres))[None, :])

    def _candidates(
        self, rows: range, radius: Float64[np.ndarray, "b r"]
    ) -> Iterator[
        tuple[Int64[np.ndarray, " p"], Int64[np.ndarray, " p"], Float64[np.ndarray, " p"]]
    ]:
        """Yield all pairs that some row of weights may have inside: ball, image, distance.

        Each ball comes once, so that it is counted once.
        """
        widest = np.where(np.isnan(radius), -np.inf, radius).max(axis=0)
        pairs = self._pairs
        if pairs is None:
            known: Bool[np.ndarray, " r"] = np.zeros(len(rows), dtype=np.bool_)
        else:
            known = widest <= pairs.reach[0][rows.start : rows.stop]
            first, last = np.searchsorted(pairs.left, [rows.start, rows.stop])
            ball = pairs.left[first:last] - rows.start
            near = known[ball] & (pairs.distances[first:last] <= widest[ball])
            yield ball[near], pairs.right[first:last][near], pairs.distances[first:last][near]
        others = np.flatnonzero(~known & (widest >= 0))
        step = rows_per_block(len(self.images))
        for start in range(0, len(others), step):
            some = others[start : start + step]
            yield self._from_all_images(rows, some, widest[some])

    def _from_all_images(
        self, rows: range, balls: Int64[np.ndarray, " r"], widest: Float64[np.ndarray, " r"]
    ) -> tuple[Int64[np.ndarray, " p"], Int64[np.ndarray, " p"], Float64[np.ndarray, " p"]]:
        """Return the pairs of some balls, which reach too far, with all images."""
        centres = self._near_origin(self.centres[rows.start + balls])
        limits = (widest + ROUNDING * ((centres**2).sum(axis=1) + self._largest_norm))[:, None]
        found: list[list[Int64[np.ndarray, " _"]]] = [[] for _ in balls]
        step = rows_per_block(self.images.shape[1])
        for start in range(0, len(self.images), step):
            squares = squares_near_origin(
                centres, self._near_origin(self.images[start : start + step])
            )
            for some, near in zip(found, squares <= limits, strict=True):
                some.append(start + np.flatnonzero(near))
        images = [np.concatenate(some) for some in found]
        exact = [
            exact_squares(self.centres[rows.start + ball], self.images, some)
            for ball, some in zip(balls, images, strict=True)
        ]
        ball = np.repeat(balls, [len(some) for some in images])
        return ball, np.concatenate(images), np.concatenate(exact)

    def _near_origin(self, rows: Float[np.ndarray, "k d"]) -> Float64[np.ndarray, "k d"]:
        moved: Float64[np.ndarray, "k d"] = np.asarray(rows, dtype=np.float64) - self._origin
        return moved

    @cached_property
    def _origin(self) -> Float64[np.ndarray, " d"]:
        origin: Float64[np.ndarray, " d"] = self.centres.mean(axis=0, dtype=np.float64)
        return origin

    @cached_property
    def _largest_norm(self) -> float:
        """Return the largest squared norm of an image."""
        step = rows_per_block(self.images.shape[1])
        return max(
            float((self._near_origin(self.images[start : start + step]) ** 2).sum(axis=1).max())
            for start in range(0, len(self.images), step)
        )
