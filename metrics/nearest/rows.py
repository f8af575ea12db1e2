"""Distances from images to all real images: all of them at hand, or only the nearest ones.

Above `synthbench.metrics.inference.resampling.LARGE_SET` images a matrix of distances does not fit
into memory. Then each image keeps a list of its nearest real images. A test that walks along a
row's subjects in their order hardly ever needs more under a random labelling. Under the observed
one it may, where all images near to a row are of one side. So there is a short list for each side
too. Where both do not suffice, the test says so with NaN, and the row is computed in full.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64, Int64

from synthbench.metrics.kernels import rows_per_block

ROWS_PER_CHUNK = 64
"""Number of images that are handled at once, under all labellings."""


@dataclass(frozen=True)
class Ranked:
    """For some images, real subjects in the order of their distance.

    Attributes
    ----------
    order
        Row i: subjects, the nearest to image i first. What follows the last known one is the
        number of all subjects.
    logs
        Their log distances. What follows the last known one repeats it.
    known
        How many subjects a row holds. All others are at least as far as the last of them.
    subjects
        The number of all subjects.
    """

    order: Int64[np.ndarray, "m k"]
    logs: Float64[np.ndarray, "m k"]
    known: Int64[np.ndarray, " m"]
    subjects: int

    @classmethod
    def of(cls, logs: Float64[np.ndarray, "m s"]) -> Ranked:
        """Sort log distances to all subjects; those at infinity are not known."""
        order = np.argsort(logs, axis=1, kind="stable")
        by_rank = np.take_along_axis(logs, order, axis=1)
        return cls.padded(order, by_rank, np.isfinite(logs).sum(axis=1), logs.shape[1])

    @classmethod
    def padded(
        cls,
        order: Int64[np.ndarray, "m k"],
        logs: Float64[np.ndarray, "m k"],
        known: Int64[np.ndarray, " m"],
        subjects: int,
    ) -> Ranked:
        """Return sorted rows of which only the first `known` entries hold."""
        beyond = np.arange(order.shape[1]) >= known[:, None]
        if beyond.any():
            last = np.take_along_axis(logs, (known - 1).clip(min=0)[:, None], axis=1)
            order = np.where(beyond, subjects, order)
            # Of a row without any subject nothing is known; its values become NaN.
            logs = np.where(beyond, np.where(known[:, None] > 0, last, 0.0), logs)
        return cls(order, logs, known, subjects)

    def labelled(
        self, side: Bool[np.ndarray, "b s"]
    ) -> tuple[Int64[np.ndarray, "m k"], Bool[np.ndarray, "u b"]]:
        """Return the rows of a table of labels for `order`, and that table.

        The table has the subjects that occur; behind the last known subject all labels are False.
        """
        used, place = np.arange(self.subjects + 1), self.order
        if self.order.shape[1] < self.subjects:
            used, place = np.unique(self.order, return_inverse=True)
            place = place.reshape(self.order.shape)
        table: Bool[np.ndarray, "u b"] = np.zeros((len(used), len(side)), dtype=np.bool_)
        inside = used < self.subjects
        table[inside] = side[:, used[inside]].T
        return place.astype(np.int64), table


@dataclass(frozen=True)
class NearestLists:
    """The nearest real images of each image, among all or those of one side.

    Attributes
    ----------
    among
        The first real image that may be in a list, and the end of these.
    order
        Row i: real images, the nearest to image i first.
    distances
        Their distances.
    known
        How many entries of a row are certain. All others of these images are at least as far.
    """

    among: tuple[int, int]
    order: Int64[np.ndarray, "m k"]
    distances: Float64[np.ndarray, "m k"]
    known: Int64[np.ndarray, " m"]

    def taken(self, rows: Int64[np.ndarray, " r"]) -> NearestLists:
        """Return the lists of some images."""
        return NearestLists(self.among, self.order[rows], self.distances[rows], self.known[rows])


@dataclass(frozen=True)
class Rows:
    """Distances from images (rows) to all real images (columns), the training images first.

    Attributes
    ----------
    size
        The numbers of rows and of columns.
    compute
        From the indices of rows to their distances; the result may be changed in place.
    lists
        The nearest of all real images to each row, and those of each side; none where `compute`
        takes no time.
    own
        The column of each row that is the image itself, which is then no neighbour; None: none is.
    """

    size: tuple[int, int]
    compute: Callable[[Int64[np.ndarray, " r"]], Float64[np.ndarray, "r n"]]
    lists: tuple[NearestLists, ...] = ()
    own: Int64[np.ndarray, " m"] | None = None

    @classmethod
    def of(cls, matrix: Float64[np.ndarray, "m n"]) -> Rows:
        """Return the rows of a matrix."""
        return cls((matrix.shape[0], matrix.shape[1]), lambda rows: matrix[rows])

    def __len__(self) -> int:
        return self.size[0]

    def taken(self, chosen: Int64[np.ndarray, " k"]) -> Rows:
        """Return some of the rows, without `own`."""
        return Rows(
            (len(chosen), self.size[1]),
            lambda rows: self.compute(chosen[rows]),
            tuple(lists.taken(chosen) for lists in self.lists),
        )

    def without(self, own: Int64[np.ndarray, " m"]) -> Rows:
        """Return the same rows where one column of each is no neighbour."""
        return replace(self, own=own)

    def lifted(self, heights: Float64[np.ndarray, " m"]) -> Rows:
        """Return the distances from points above the images, at right angles to all others."""
        return replace(
            self,
            compute=lambda rows: np.hypot(self.compute(rows), heights[rows, None]),
            lists=tuple(
                replace(lists, distances=np.hypot(lists.distances, heights[:, None]))
                for lists in self.lists
            ),
        )

    def chunks(self) -> Iterator[Int64[np.ndarray, " r"]]:
        """Yield the indices of the rows, `ROWS_PER_CHUNK` at a time."""
        for start in range(0, len(self), ROWS_PER_CHUNK):
            yield np.arange(start, min(start + ROWS_PER_CHUNK, len(self)))

    def blocks(self, rows: Int64[np.ndarray, " r"]) -> Iterator[Int64[np.ndarray, " k"]]:
        """Yield places in `rows`, of so many rows at a time as may be computed in full."""
        step = rows_per_block(self.size[1])
        for start in range(0, len(rows), step):
            yield np.arange(start, min(start + step, len(rows)))

    def ranked(
        self,
        rows: Int64[np.ndarray, " r"],
        subjects: Int64[np.ndarray, " n"],
        draw: Int64[np.ndarray, " k"],
        floor: float,
    ) -> Ranked:
        """Return the subjects in the order of the distance to the nearest of their drawn images.

        Parameters
        ----------
        rows
            The rows that are sorted.
        subjects
            The subject of each real image.
        draw
            The real images that count.
        floor
            Smaller distances are set to this before the logarithm.
        """
        if not self.lists:
            return self.ranked_in_full(rows, subjects, draw, floor)
        lists = self.lists[0].taken(rows)
        counts = self._counts(rows, lists)
        return _ranked(lists.order, lists.distances, counts, subjects, draw, floor)

    def ranked_by_side(
        self,
        rows: Int64[np.ndarray, " r"],
        subjects: Int64[np.ndarray, " n"],
        draw: Int64[np.ndarray, " k"],
        floor: float,
    ) -> Ranked:
        """Return `ranked` of the nearest of each side, without those that are between them.

        So it holds for the observed labelling only. Under that, a value of one side does not
        depend on what is missing of the other one.
        """
        sides = [lists.taken(rows) for lists in self.lists[1:]]
        order = np.hstack([lists.order for lists in sides])
        distances = np.hstack([lists.distances for lists in sides])
        counts = np.hstack([self._counts(rows, lists) for lists in sides])
        place = np.argsort(distances, axis=1, kind="stable")
        order, distances, counts = (
            np.take_along_axis(x, place, axis=1) for x in (order, distances, counts)
        )
        return _ranked(order, distances, counts, subjects, draw, floor)

    def ranked_in_full(
        self,
        rows: Int64[np.ndarray, " r"],
        subjects: Int64[np.ndarray, " n"],
        draw: Int64[np.ndarray, " k"],
        floor: float,
    ) -> Ranked:
        """Return `ranked` with all subjects, whatever is in the lists."""
        logs = np.log(self._whole(rows).clip(min=floor))
        to_subject = np.full((len(rows), int(subjects.max()) + 1), np.inf)
        np.minimum.at(to_subject.T, subjects[draw], logs[:, draw].T)
        return Ranked.of(to_subject)

    def closest(
        self,
        columns: Bool[np.ndarray, " n"],
        subjects: Int64[np.ndarray, " n"] | None = None,
        own: Int64[np.ndarray, " m"] | None = None,
    ) -> tuple[Int64[np.ndarray, " m"], Float64[np.ndarray, " m"]]:
        """Return the nearest of some columns to each row, and its distance.

        Parameters
        ----------
        columns
            The real images that count.
        subjects, own
            The subject of each real image and of each row: images of the row's own subject do not
            count. None: all do.

        Returns
        -------
        Indices, and distances; infinite where no real image counts.
        """
        nearest = np.zeros(len(self), dtype=np.int64)
        distance = np.full(len(self), np.nan)
        for every in self.lists:
            begin, end = every.among
            if columns[:begin].any() or columns[end:].any():
                continue
            for rows in self.chunks():
                rows = rows[np.isnan(distance[rows])]
                lists = every.taken(rows)
                counts = self._counts(rows, lists) & columns[lists.order]
                if subjects is not None and own is not None:
                    counts &= subjects[lists.order] != own[rows, None]
                first = counts.argmax(axis=1)[:, None]
                nearest[rows] = np.take_along_axis(lists.order, first, axis=1)[:, 0]
                there = np.take_along_axis(lists.distances, first, axis=1)[:, 0]
                distance[rows] = np.where(counts.any(axis=1), there, np.nan)
        left = np.flatnonzero(np.isnan(distance))
        for places in self.blocks(left):
            rows = left[places]
            counts = np.broadcast_to(columns, (len(rows), len(columns)))
            if subjects is not None and own is not None:
                counts = counts & (subjects != own[rows, None])
            whole = np.where(counts, self._whole(rows), np.inf)
            nearest[rows], distance[rows] = whole.argmin(axis=1), whole.min(axis=1)
        return nearest, distance

    def _whole(self, rows: Int64[np.ndarray, " r"]) -> Float64[np.ndarray, "r n"]:
        distances = self.compute(rows)
        if self.own is not None:
            distances[np.arange(len(rows)), self.own[rows]] = np.inf
        return distances

    def _counts(
        self, rows: Int64[np.ndarray, " r"], lists: NearestLists
    ) -> Bool[np.ndarray, "r k"]:
        counts: Bool[np.ndarray, "r k"] = np.arange(lists.order.shape[1]) < lists.known[:, None]
        if self.own is not None:
            counts &= lists.order != self.own[rows, None]
        return counts


def _ranked(
    order: Int64[np.ndarray, "r k"],
    distances: Float64[np.ndarray, "r k"],
    counts: Bool[np.ndarray, "r k"],
    subjects: Int64[np.ndarray, " n"],
    draw: Int64[np.ndarray, " d"],
    floor: float,
) -> Ranked:
    """Return the subjects of sorted images, of those that count and are drawn."""
    drawn = np.zeros(len(subjects), dtype=np.bool_)
    drawn[draw] = True
    counts = counts & drawn[order]
    n, of_entry = int(subjects.max()) + 1, subjects[order]
    if len(draw) > n:
        counts &= _first_of_each(np.where(counts, of_entry, n))
    place = np.argsort(~counts, axis=1, kind="stable")
    logs = np.log(np.take_along_axis(distances, place, axis=1).clip(min=floor))
    of_entry = np.take_along_axis(of_entry, place, axis=1)
    return Ranked.padded(of_entry, logs, counts.sum(axis=1), n)


def _first_of_each(values: Int64[np.ndarray, "r k"]) -> Bool[np.ndarray, "r k"]:
    """Return True where a row has a value for the first time."""
    order = np.argsort(values, axis=1, kind="stable")
    by_value = np.take_along_axis(values, order, axis=1)
    new = np.ones(values.shape, dtype=np.bool_)
    new[:, 1:] = by_value[:, 1:] != by_value[:, :-1]
    first: Bool[np.ndarray, "r k"] = np.zeros_like(new)
    np.put_along_axis(first, order, new, axis=1)
    return first
