"""Which images of a large set lie nearest to each image, and which lie within its reach.

Products in float32, a tile at a time, choose candidates. The distance of each candidate is computed
again in float64, pair by pair, as in small sets. So every comparison is exact: what float32 may
have misjudged is a candidate too.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64
from scipy.spatial.distance import cdist

from synthbench.metrics.blocked.index import Index
from synthbench.metrics.inference.resampling import SHARE_OF_MEMORY
from synthbench.metrics.inference.sections import Sums, in_sections
from synthbench.metrics.inference.tiles import Images
from synthbench.metrics.kernels import rows_per_block
from synthbench.runtime.memory import memory_limit
from synthbench.runtime.parallel import in_place

CANDIDATES = 64
"""The nearest images that are kept for each image."""

REACHES = (64, 48, 32, 24, 16)
"""The candidates, counted from the nearest one, to which the reach of an image may extend."""

ROWS, COLUMNS = 4096, 2048
"""Images of a tile of float32 numbers: 32 MiB. The more rows, the less often are the columns made
narrow."""

SAMPLED_ROWS = 256
"""Images of each set from which the number of pairs within reach is estimated."""

CHECKED = 5
"""The nearest images of which the share that an index finds is measured."""

BYTES_PER_PAIR = 64
"""Memory of a pair within reach, with the temporary arrays that collect it."""

SHARE_KEPT = 8
"""The lists that are kept for the next metric take at most one part in so many of the memory."""


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


@dataclass(frozen=True)
class NearLists:
    """The nearest images of other subjects, for each image of a set.

    Attributes
    ----------
    nearest
        At most `CANDIDATES` of them.
    beyond
        All images that are not among them lie at least at this squared distance; infinite where
        there is no other image. Lists of an index are taken to be complete.
    found
        The share of the nearest images that an index found; None: the lists are exact.
    """

    nearest: Neighbours
    beyond: Float64[np.ndarray, " n"]
    found: float | None = None

    @property
    def complete_to(self) -> Float64[np.ndarray, " n"]:
        """All images up to this squared distance are in the list: just below `beyond`."""
        just_below: Float64[np.ndarray, " n"] = np.nextafter(self.beyond, -np.inf)
        return np.where(np.isinf(self.beyond), np.inf, just_below)

    @property
    def nbytes(self) -> int:
        """Their size."""
        return self.nearest.order.nbytes + self.nearest.distances.nbytes


@dataclass(frozen=True)
class PairsInReach:
    """Pairs of images of two sets, of which one lies within the reach of the other.

    Attributes
    ----------
    left, right
        The images of each pair, in the order of the left ones.
    distances
        Their squared distances.
    reach
        For the left and the right images: all pairs up to this squared distance are there.
    """

    left: Int64[np.ndarray, " p"]
    right: Int64[np.ndarray, " p"]
    distances: Float64[np.ndarray, " p"]
    reach: tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " m"]]

    @property
    def nbytes(self) -> int:
        """Their size."""
        return self.left.nbytes + self.right.nbytes + self.distances.nbytes

    def turned(self) -> PairsInReach:
        """Return the same pairs in the order of the right images, which become the left ones."""
        order = np.argsort(self.right, kind="stable")
        return PairsInReach(
            self.right[order], self.left[order], self.distances[order], self.reach[::-1]
        )


@dataclass(frozen=True)
class _Narrow:
    """Images in float32, relative to an origin, and how far products of them may be wrong.

    Squares of large features overflow in float32, and those of small ones vanish. So rows are
    multiplied by a scale, a power of two, and all squares here by its square.
    """

    images: Images
    origin: Float64[np.ndarray, " d"]
    scale: float

    @classmethod
    def of(cls, *sets: Images) -> tuple[_Narrow, ...]:
        """Return sets relative to the mean of the first one, the largest rows of norm 1 or less."""
        origin = sets[0].features.mean(axis=0, dtype=np.float64)
        # Sums of absolute numbers bound the norms, and their squares are not needed.
        largest = max(
            float(np.abs(np.asarray(images.features[rows], np.float64) - origin).sum(axis=1).max())
            for images in sets
            for rows in _ranges(len(images), rows_per_block(len(origin)))
        )
        scale = 2.0 ** -math.frexp(largest)[1] if largest > 0 else 1.0
        return tuple(cls(images, origin, scale) for images in sets)

    def chosen(self, rows: Int64[np.ndarray, " r"]) -> _Narrow:
        """Return some of the images."""
        images = Images(self.images.features[rows], self.images.subjects[rows])
        return _Narrow(images, self.origin, self.scale)

    def block(self, rows: slice) -> Float32[np.ndarray, "k d"]:
        """Return some rows, in the order in which the images were given."""
        features = self.images.features[rows]
        narrow: Float32[np.ndarray, "k d"] = np.empty(features.shape, np.float32)
        for some in _ranges(len(features), rows_per_block(features.shape[1])):
            moved = features[some].astype(np.float64)
            moved -= self.origin
            moved *= self.scale
            narrow[some] = moved
        return narrow

    @cached_property
    def norms(self) -> Float64[np.ndarray, " n"]:
        """The squared norms of the rows."""
        return np.concatenate([
            np.einsum("ij,ij->i", block, block, dtype=np.float64)
            for block in map(self.block, _ranges(len(self.images), ROWS))
        ])  # fmt: skip

    def squares(
        self, rows: slice, others: _Narrow, columns: slice, block: Float32[np.ndarray, "k d"]
    ) -> Float32[np.ndarray, "k l"]:
        """Return the squared distances of a tile; `block` holds its rows."""
        squares: Float32[np.ndarray, "k l"] = block @ others.block(columns).T
        of_rows = self.norms[rows].astype(np.float32)
        of_columns = others.norms[columns].astype(np.float32)

        def square(part: Float32[np.ndarray, "k l"], chunk: slice) -> None:
            part *= -2
            part += of_rows[chunk, None]
            part += of_columns

        in_place(square, squares)
        return squares

    def limits(
        self, squares: Float64[np.ndarray, " n"], others: _Narrow
    ) -> Float32[np.ndarray, " n"]:
        """Return what squares to others are compared with, so that none up to `squares` is missed.

        One that is too large only costs a candidate, so it is rounded up.
        """
        with np.errstate(over="ignore"):
            scaled = (squares * self.scale**2 + self.error(others)).astype(np.float32)
        up: Float32[np.ndarray, " n"] = np.nextafter(scaled, np.float32(np.inf))
        return up

    def error(self, others: _Narrow) -> Float64[np.ndarray, " n"]:
        """Return the largest error of a squared distance to an image of the others, by image.

        A product of d terms is off by at most d u |a| |b|, with u half the spacing of float32
        numbers at one; the rounding of features and norms adds less than 8 u of |a|^2 + |b|^2.
        """
        u = float(np.finfo(np.float32).eps) / 2
        d = self.images.features.shape[1]
        largest = float(others.norms.max(initial=0.0))
        error: Float64[np.ndarray, " n"] = (d + 8) * u * (self.norms + largest)
        return error


def near_lists(images: Images, *, index: bool = False) -> NearLists:
    """Return the nearest images of other subjects, for each image of a set.

    With an index, the nearest ones that it finds.
    """
    compute = _indexed_lists if index else _near_lists
    return _kept(("near", index, images.digest, CANDIDATES), lambda: compute(images))


def pairs_in_reach(left: Images, right: Images, *, index: bool = False) -> PairsInReach | None:
    """Return all pairs of images of two sets within the reach of one of them.

    The reach of an image extends to one of the candidates of its own list: to the last one, or to
    a nearer one where the pairs would take too much memory.

    Returns
    -------
    The pairs; None where they take too much memory at the smallest reach too, as where one set
    has shrunk to a point among the other.
    """
    if left is right or left.digest == right.digest:
        key = ("own pairs", index, left.digest, CANDIDATES)
        return _kept(key, lambda: _pairs_of_one_set(left, near_lists(left, index=index)))
    if left.digest > right.digest:  # one list serves both orders
        turned = pairs_in_reach(right, left, index=index)
        return None if turned is None else turned.turned()
    compute = _indexed_pairs if index else _pairs_in_reach
    key = ("pairs", index, left.digest + right.digest, CANDIDATES)
    return _kept(key, lambda: compute(left, right))


def _in_rows(
    what: str,
    depends_on: Callable[[], Sequence[np.ndarray | bytes | int]],
    n: int,
    compute: Callable[[slice], Sums],
) -> Sums:
    """Return arrays that are computed for `ROWS` images at a time, in sections, joined in order."""

    def joined(parts: Sequence[Sums]) -> Sums:
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    ranges = _ranges(n, ROWS)
    return joined(
        list(in_sections(what, depends_on, ranges, lambda some: joined([*map(compute, some)])))
    )


def _near_lists(images: Images) -> NearLists:
    (narrow,) = _Narrow.of(images)
    size = min(CANDIDATES, len(images))
    found = _in_rows(
        "nearest",
        lambda: (images.digest, size),
        len(images),
        lambda rows: _near_lists_of(narrow, rows, size),
    )
    return NearLists(Neighbours(found["order"], found["distances"]), found["beyond"])


def _near_lists_of(narrow: _Narrow, rows: slice, size: int) -> Sums:
    """Return the lists of some images."""
    images, n = narrow.images, len(narrow.images)
    block, own = narrow.block(rows), images.subjects[rows]
    best = np.full((rows.stop - rows.start, size), np.inf, np.float32)
    chosen = np.full(best.shape, -1, np.int64)
    waiting: list[tuple[np.ndarray, ...]] = []
    for columns in _ranges(n, COLUMNS):
        squares = narrow.squares(rows, narrow, columns, block)
        _hide_own(squares, own, images.subjects[columns])
        waiting.append(_nearer(squares, best[:, -1:], columns.start))
        # Merging sorts. So it waits until as many images are nearer as the lists hold.
        if sum(len(found[0]) for found in waiting) >= best.size:
            best, chosen = _merged(best, chosen, waiting)
            waiting = []
    if waiting:
        best, chosen = _merged(best, chosen, waiting)
    beyond = (best[:, -1].astype(np.float64) - narrow.error(narrow)[rows]) / narrow.scale**2
    beyond[~np.isfinite(best[:, -1])] = np.inf  # all other images are in the list
    if size == n:
        beyond[:] = np.inf
    # In the order of the images, so that equal distances are sorted as in small sets.
    chosen.sort(axis=1)
    nearest = sorted_neighbours(images, np.arange(rows.start, rows.stop), chosen)
    return {"order": nearest.order, "distances": nearest.distances, "beyond": beyond}


def _hide_own(
    squares: Float32[np.ndarray, "k l"], own: Int64[np.ndarray, " k"],
    others: Int64[np.ndarray, " l"],
) -> None:  # fmt: skip
    """Set the distances to images of the same subject to infinity."""
    shared = np.isin(others, own)
    if shared.any():
        columns = np.flatnonzero(shared)
        rows, places = np.nonzero(own[:, None] == others[columns])
        squares[rows, columns[places]] = np.inf


def _nearer(
    squares: Float32[np.ndarray, "k l"], limits: Float32[np.ndarray, "k 1"], start: int
) -> tuple[np.ndarray, ...]:
    """Return the images of a tile that are nearer than the limits: row, distance, image."""
    size = min(CANDIDATES, squares.shape[1])
    if start == 0:
        # Nothing is chosen yet: of the first tile the nearest ones are enough.
        places = np.argpartition(squares, size - 1, axis=1)[:, :size].ravel()
        rows = np.repeat(np.arange(len(squares)), size)
    else:
        rows, places = np.nonzero(squares < limits)
    return rows, squares[rows, places], places + start


def _merged(
    best: Float32[np.ndarray, "k c"],
    chosen: Int64[np.ndarray, "k c"],
    waiting: Sequence[tuple[np.ndarray, ...]],
) -> tuple[Float32[np.ndarray, "k c"], Int64[np.ndarray, "k c"]]:
    """Return the nearest ones of those chosen so far and those that wait."""
    of_chosen = np.repeat(np.arange(len(best)), best.shape[1])
    row, distance, image = (
        np.concatenate(some)
        for some in zip((of_chosen, best.ravel(), chosen.ravel()), *waiting, strict=True)
    )
    order = np.lexsort((distance, row))
    first = np.searchsorted(row[order], np.arange(len(best)))
    kept = order[first[:, None] + np.arange(best.shape[1])]
    return distance[kept], image[kept]


def sorted_neighbours(
    images: Images, rows: Int64[np.ndarray, " r"], chosen: Int64[np.ndarray, "r k"]
) -> Neighbours:
    """Return chosen images in the order of their exact distances from some images.

    -1 stands for no image; it comes last, at an infinite distance.
    """
    distances = np.empty(chosen.shape)
    for place, (row, some) in enumerate(zip(rows, chosen, strict=True)):
        distances[place] = exact_squares(images.features[row], images.features, some)
    same = images.subjects[rows][:, None] == images.subjects[chosen]
    distances[same | (chosen < 0)] = np.inf
    order = np.argsort(distances, axis=1, kind="stable")
    return Neighbours(
        np.take_along_axis(chosen, order, axis=1), np.take_along_axis(distances, order, axis=1)
    )


def exact_squares(
    row: Float[np.ndarray, " d"],
    features: Float[np.ndarray, "n d"],
    chosen: Int64[np.ndarray, " k"],
) -> Float64[np.ndarray, " k"]:
    """Return squared distances to chosen rows, pair by pair: those of a small set to the bit."""
    squares, own = np.empty(len(chosen)), np.asarray(row[None], np.float64)
    for some in _ranges(len(chosen), rows_per_block(len(row))):
        others = np.asarray(features[chosen[some]], np.float64)
        squares[some] = cdist(own, others, "sqeuclidean")[0]
    return squares


def _pairs_of_one_set(images: Images, lists: NearLists) -> PairsInReach:
    """Return the pairs of images of one set: its own lists hold those of other subjects."""
    order, distances = lists.nearest.order, lists.nearest.distances
    listed = np.isfinite(distances)
    # Images are no neighbours of their own subject's, but lie in each other's balls.
    sorted_images = np.argsort(images.subjects, kind="stable")
    groups = np.split(sorted_images, np.flatnonzero(np.diff(images.subjects[sorted_images])) + 1)
    left = [np.repeat(group, len(group)) for group in groups]
    right = [np.tile(group, len(group)) for group in groups]
    i, j = np.concatenate(left), np.concatenate(right)
    own = np.zeros(len(i))
    for place in np.flatnonzero(i != j):
        own[place] = exact_squares(images.features[i[place]], images.features, j[[place]])[0]
    rows = np.broadcast_to(np.arange(len(order))[:, None], order.shape)
    balls = np.concatenate([rows[listed], i])
    by_ball = np.argsort(balls, kind="stable")
    reach = lists.complete_to
    return PairsInReach(
        balls[by_ball],
        np.concatenate([order[listed], j])[by_ball],
        np.concatenate([distances[listed], own])[by_ball],
        (reach, reach),
    )


def _pairs_in_reach(left: Images, right: Images) -> PairsInReach | None:
    one, other = _Narrow.of(left, right)
    lists = near_lists(left), near_lists(right)
    reach = _reach((one, other), lists)
    if reach is None:
        return None
    found = _in_rows(
        "pairs in reach",
        lambda: (left.digest, right.digest, *reach),
        len(left),
        lambda rows: _pairs_of((one, other), reach, rows),
    )
    return PairsInReach(found["left"], found["right"], found["distances"], reach)


def _reach(
    sets: tuple[_Narrow, _Narrow], lists: tuple[NearLists, NearLists]
) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " m"]] | None:
    """Return the reach of the images of both sets: the largest whose pairs fit into memory.

    Some images of each set, the same ones in every call, tell how many pairs there will be.
    """
    room = memory_limit() // SHARE_OF_MEMORY // BYTES_PER_PAIR
    for last in REACHES:
        reach = tuple(
            np.minimum(
                one.complete_to,
                one.nearest.distances[:, min(last, one.nearest.distances.shape[1]) - 1],
            )
            for one in lists
        )
        pairs = 0.0
        for (own, others), limits in zip((sets, sets[::-1]), reach, strict=True):
            n, edges = len(own.images), own.limits(limits, others)
            rows = np.random.default_rng(0).choice(n, min(SAMPLED_ROWS, n), replace=False)
            few = own.chosen(rows)
            whole, count = slice(0, len(rows)), 0
            for columns in _ranges(len(others.images), COLUMNS):
                squares = few.squares(whole, others, columns, few.block(whole))
                count += int(np.count_nonzero(squares <= edges[rows, None]))
            pairs += count * n / len(rows)
        if pairs <= room:
            return reach[0], reach[1]
    return None


def _pairs_of(
    sets: tuple[_Narrow, _Narrow],
    reach: tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " m"]],
    rows: slice,
) -> Sums:
    """Return the pairs of some left images."""
    left, right = sets
    block = left.block(rows)
    of_rows, of_columns = left.limits(reach[0], right)[rows], right.limits(reach[1], left)
    images: list[list[Int64[np.ndarray, " _"]]] = [[] for _ in range(rows.stop - rows.start)]
    for columns in _ranges(len(right.images), COLUMNS):
        squares = left.squares(rows, right, columns, block)
        inside: Bool[np.ndarray, "k l"] = squares <= of_rows[:, None]
        inside |= squares <= of_columns[columns]
        row, place = np.nonzero(inside)
        ends = np.searchsorted(row, np.arange(1, len(images)))
        for found, some in zip(images, np.split(place + columns.start, ends), strict=True):
            found.append(some)
    i, j, distances = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    for ball, parts in enumerate(images, rows.start):
        some = np.concatenate(parts)
        squares_64 = exact_squares(left.images.features[ball], right.images.features, some)
        within = (squares_64 <= reach[0][ball]) | (squares_64 <= reach[1][some])
        i.append(np.full(int(within.sum()), ball))
        j.append(some[within])
        distances.append(squares_64[within])
    return {
        "left": np.concatenate(i), "right": np.concatenate(j),
        "distances": np.concatenate(distances),
    }  # fmt: skip


def _indexed_lists(images: Images) -> NearLists:
    """Return the nearest images of other subjects that an index finds."""
    (narrow,) = _Narrow.of(images)
    n = len(images)
    index = Index(narrow.block(slice(0, n)))
    # An image finds itself first, and others of its subject may be near.
    size = min(CANDIDATES + int(np.bincount(images.subjects).max()), n)
    every = np.arange(n)
    nearest = sorted_neighbours(images, every, np.sort(index.nearest(index.rows, size), axis=1))
    last = nearest.distances[:, -1]
    others = nearest.distances[:, :CANDIDATES]
    beyond = np.where(np.isfinite(last), last, np.inf)
    kept = Neighbours(nearest.order[:, :CANDIDATES], others)
    return NearLists(kept, np.minimum(beyond, _last_finite(others)), _share_found(images, kept))


def _last_finite(distances: Float64[np.ndarray, "n k"]) -> Float64[np.ndarray, " n"]:
    """Return the largest finite distance of each row, slightly enlarged: the list's own end."""
    finite = np.where(np.isfinite(distances), distances, -np.inf).max(axis=1)
    return np.nextafter(np.where(np.isfinite(finite), finite, 0.0), np.inf)


def _share_found(images: Images, lists: Neighbours) -> float:
    """Return the share of the `CHECKED` nearest images that lists hold, for some images."""
    rows = np.random.default_rng(0).choice(len(images), min(SAMPLED_ROWS, len(images)), False)
    (narrow,) = _Narrow.of(images)
    few = narrow.chosen(rows)
    whole = slice(0, len(rows))
    squares = np.concatenate(
        [
            few.squares(whole, narrow, columns, few.block(whole))
            for columns in _ranges(len(images), COLUMNS)
        ],
        axis=1,
    )
    _hide_own(squares, images.subjects[rows], images.subjects)
    k = min(CHECKED, squares.shape[1] - 1)
    nearest = np.argpartition(squares, k, axis=1)[:, :k]
    held = (lists.order[rows][:, None, :] == nearest[:, :, None]).any(axis=2)
    return float(held.mean())


def _indexed_pairs(left: Images, right: Images) -> PairsInReach:
    """Return the pairs within reach that an index of either set finds."""
    sides = (left, right)
    rows = [narrow.block(slice(0, len(narrow.images))) for narrow in _Narrow.of(*sides)]
    found, reach = [], []
    for own, (of_own, of_other) in enumerate((rows, rows[::-1])):
        size = min(CANDIDATES, len(of_other))
        near = Index(of_other).nearest(of_own, size)
        squares = np.stack([
            exact_squares(sides[own].features[i], sides[1 - own].features, some)
            for i, some in enumerate(near)
        ])  # fmt: skip
        squares[near < 0] = np.inf
        lists = near_lists(sides[own], index=True)
        # All candidates may lie within reach: then there may be more of them.
        reach.append(np.minimum(lists.complete_to, np.nextafter(_last_finite(squares), -np.inf)))
        place = np.flatnonzero((squares <= reach[own][:, None]) & (near >= 0))
        ball, image = place // size, near.ravel()[place]
        found.append((ball, image) if own == 0 else (image, ball))
    pairs = np.unique(np.concatenate([np.stack(one) for one in found], axis=1), axis=1)
    starts = np.searchsorted(pairs[0], np.arange(len(left) + 1)).tolist()
    distances = np.zeros(pairs.shape[1])
    for row, (first, last) in enumerate(pairwise(starts)):
        if last > first:
            distances[first:last] = exact_squares(
                left.features[row], right.features, pairs[1, first:last]
            )
    return PairsInReach(pairs[0], pairs[1], distances, (reach[0], reach[1]))


def _ranges(n: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


_Kept = TypeVar("_Kept")
_recent: OrderedDict[Any, Any] = OrderedDict()


def _kept(key: tuple[Any, ...], compute: Callable[[], _Kept]) -> _Kept:
    """Return what was computed for a key, by an earlier metric of the same features if possible."""
    if key not in _recent:
        _recent[key] = compute()
    _recent.move_to_end(key)
    found: _Kept = _recent[key]
    room = memory_limit() // SHARE_KEPT
    while len(_recent) > 1 and sum(_sizes()) > room:
        _recent.popitem(last=False)
    return found


def forget() -> None:
    """Forget the lists of earlier metrics."""
    _recent.clear()


def _sizes() -> Iterator[int]:
    for kept in _recent.values():
        yield 0 if kept is None else kept.nbytes
