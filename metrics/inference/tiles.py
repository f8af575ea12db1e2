"""Tiles of a matrix over pairs of images, which a large set never holds as a whole.

A matrix of 100,000 x 100,000 numbers takes 80 GB. Its tiles are computed one after the other, from
two blocks of rows of features each.
"""

from __future__ import annotations

import hashlib
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


@dataclass(frozen=True)
class Pooled:
    """The rows of two sets, one set after the other, of which no copy is made.

    Attributes
    ----------
    first, second
        One row per image.
    chosen
        The rows that are meant, in order; None: all.
    """

    first: Float[np.ndarray, "n d"]
    second: Float[np.ndarray, "m d"]
    chosen: Int64[np.ndarray, " k"] | None = None

    def __len__(self) -> int:
        return len(self.first) + len(self.second) if self.chosen is None else len(self.chosen)

    def __getitem__(self, rows: slice | Int64[np.ndarray, " l"]) -> Float[np.ndarray, "l d"]:
        """Return some rows."""
        places = np.arange(len(self))[rows] if self.chosen is None else self.chosen[rows]
        of_first = places < len(self.first)
        found = np.empty(
            (len(places), self.first.shape[1]), np.result_type(self.first, self.second)
        )
        found[of_first] = self.first[places[of_first]]
        found[~of_first] = self.second[places[~of_first] - len(self.first)]
        return found


@dataclass(frozen=True)
class Images:
    """The features of the images of a large set, one block of rows at a time.

    Rows are in the order of the subjects, so that ranges hold whole subjects.

    Attributes
    ----------
    features
        One row per image, in any order. Float32 features stay as they are: only blocks are
        widened.
    subjects
        The subject of each image.
    origin
        What is subtracted from each row: kernels of distances lose the fewest digits near it. None
        for other kernels.
    """

    features: Float[np.ndarray, "n d"] | Pooled
    subjects: Int64[np.ndarray, " n"]
    origin: Float64[np.ndarray, " d"] | None = None

    def __len__(self) -> int:
        return len(self.features)

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
        chosen = self.features[rows if self.order is None else self.order[rows]]
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

    @cached_property
    def digest(self) -> bytes:
        """The sha256 of features, subjects and origin."""
        x = self.features
        own = (x.first, x.second, x.chosen) if isinstance(x, Pooled) else (x,)
        return digest(*own, self.subjects, self.origin)


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
