"""Tiles of a matrix over pairs of images, which a large set never holds as a whole.

A matrix of 100,000 x 100,000 numbers takes 80 GB. Its tiles are computed one after the other, from
two blocks of rows of features each.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isqrt

import numpy as np
from jaxtyping import Float, Float64, Int64

TILE_NUMBERS = 2**23
"""Numbers in a tile: 64 MiB. It is fixed, so that sums over tiles round alike whatever the
memory."""


@dataclass(frozen=True)
class Tile:
    """Two ranges of images, in the order of their subjects, and the pairs between them."""

    rows: slice
    columns: slice

    @property
    def on_diagonal(self) -> bool:
        """True where both ranges are the same one, of one set."""
        return self.rows == self.columns


class InBlocks(ABC):
    """Images whose features are widened one block of rows at a time.

    Rows are in the order of the subjects, so that ranges hold whole subjects.

    Attributes
    ----------
    subjects
        The subject of each image.
    origin
        What is subtracted from each row: kernels of distances lose the fewest digits near it. None
        for other kernels.
    """

    subjects: Int64[np.ndarray, " n"]
    origin: Float64[np.ndarray, " d"] | None

    @property
    @abstractmethod
    def digest(self) -> bytes:
        """The sha256 of features, subjects and origin."""

    @abstractmethod
    def _rows(self, places: slice | Int64[np.ndarray, " k"]) -> Float[np.ndarray, "k d"]:
        """Return the features of some images, in the order in which they were given."""

    def __len__(self) -> int:
        return len(self.subjects)

    @cached_property
    def order(self) -> Int64[np.ndarray, " n"] | None:
        """The images in the order of their subjects; None where they stand in it already."""
        if (np.diff(self.subjects) >= 0).all():
            return None
        return np.argsort(self.subjects, kind="stable")

    @cached_property
    def index(self) -> Int64[np.ndarray, " n"]:
        """The subjects in this order."""
        return self.subjects if self.order is None else self.subjects[self.order]

    @cached_property
    def ranges(self) -> list[slice]:
        """Ranges of whole subjects; two of them make a tile. A subject is never divided."""
        most = max(1, isqrt(TILE_NUMBERS))
        ends = np.flatnonzero(np.diff(self.index, append=-1)) + 1
        found, start = [], 0
        while start < len(self):
            last = int(np.searchsorted(ends, start + most, side="right")) - 1
            first = int(np.searchsorted(ends, start, side="right"))
            stop = int(ends[max(last, first)])
            found.append(slice(start, stop))
            start = stop
        return found

    def block(self, rows: slice) -> Float64[np.ndarray, "k d"]:
        """Return some rows in float64, relative to the origin."""
        chosen = self._rows(rows if self.order is None else self.order[rows])
        if self.origin is None:
            return np.asarray(chosen, dtype=np.float64)
        block: Float64[np.ndarray, "k d"] = chosen.astype(np.float64)
        block -= self.origin
        return block

    def in_order(self, values: Float64[np.ndarray, "b n"]) -> Float64[np.ndarray, "b n"]:
        """Return values of the images in the order of the subjects."""
        return values if self.order is None else values[:, self.order]

    def as_given(self, values: Float64[np.ndarray, "b n"]) -> Float64[np.ndarray, "b n"]:
        """Return values in the order of the features, from values in the order of the subjects."""
        if self.order is None:
            return values
        given = np.empty_like(values)
        given[:, self.order] = values
        return given


@dataclass(frozen=True)
class Images(InBlocks):
    """The features of the images of a large set.

    Attributes
    ----------
    features
        One row per image, in any order. Float32 features stay as they are: only blocks are
        widened.
    subjects, origin
        As in `InBlocks`.
    """

    features: Float[np.ndarray, "n d"]
    subjects: Int64[np.ndarray, " n"]
    origin: Float64[np.ndarray, " d"] | None = None

    @cached_property
    def digest(self) -> bytes:
        """The sha256 of features, subjects and origin."""
        return digest(self.features, self.subjects, self.origin)

    def _rows(self, places: slice | Int64[np.ndarray, " k"]) -> Float[np.ndarray, "k d"]:
        return self.features[places]


@dataclass(frozen=True)
class PooledImages(InBlocks):
    """Some images of two sets together, of which no copy is made.

    Attributes
    ----------
    first, second
        One row per image of each set.
    chosen
        Which images are meant: places among those of the first set, followed by the second.
    subjects, origin
        As in `InBlocks`, for the chosen images.
    """

    first: Float[np.ndarray, "n d"]
    second: Float[np.ndarray, "m d"]
    chosen: Int64[np.ndarray, " k"]
    subjects: Int64[np.ndarray, " k"]
    origin: Float64[np.ndarray, " d"] | None = None

    @cached_property
    def digest(self) -> bytes:
        """The sha256 of features, the choice of images, subjects and origin."""
        return digest(self.first, self.second, self.chosen, self.subjects, self.origin)

    def _rows(self, places: slice | Int64[np.ndarray, " l"]) -> Float[np.ndarray, "l d"]:
        chosen, n = self.chosen[places], len(self.first)
        of_first = chosen < n
        rows = np.empty((len(chosen), self.first.shape[1]), np.result_type(self.first, self.second))
        rows[of_first] = self.first[chosen[of_first]]
        rows[~of_first] = self.second[chosen[~of_first] - n]
        return rows


def triangle(ranges: Sequence[slice]) -> list[Tile]:
    """Return the tiles on and above the diagonal: those below are their transposes."""
    return [Tile(rows, columns) for i, rows in enumerate(ranges) for columns in ranges[i:]]


def rectangle(rows: Sequence[slice], columns: Sequence[slice]) -> list[Tile]:
    """Return all tiles between the images of two sets."""
    return [Tile(some, others) for some in rows for others in columns]


def digest(*items: np.ndarray | str | float | bytes | None) -> bytes:
    """Return a sha256 of arrays, texts and numbers, with their shapes and types."""
    whole = hashlib.sha256()
    for item in items:
        if isinstance(item, np.ndarray):
            whole.update(f"{item.dtype.str}{item.shape}".encode())
            whole.update(np.ascontiguousarray(item).data)
        else:
            text = item if isinstance(item, bytes) else repr(item).encode()
            whole.update(f"{len(text)}:".encode() + text)
    return whole.digest()
