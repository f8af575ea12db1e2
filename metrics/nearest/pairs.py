"""All pairs of some real images, at hand or in blocks of rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt
from typing import Protocol

import numpy as np
from jaxtyping import Float64

from synthbench.metrics.inference.tiles import TILE_NUMBERS, Tile, triangle
from synthbench.metrics.kernels import middle_squares, squares_near_origin


class Pairs(Protocol):
    """The pairs of distinct images."""

    def median(self) -> float:
        """Return the median distance."""
        ...

    def blocks(self) -> Iterator[tuple[Tile, Float64[np.ndarray, "r k"]]]:
        """Yield blocks on and above the diagonal, with the squared distances of their pairs."""
        ...


@dataclass(frozen=True)
class MatrixPairs:
    """Pairs of which a matrix of distances is at hand."""

    distances: Float64[np.ndarray, "n n"]

    def median(self) -> float:
        """Return the median distance."""
        return float(np.median(self.distances[np.triu_indices(len(self.distances), 1)]))

    def blocks(self) -> Iterator[tuple[Tile, Float64[np.ndarray, "r k"]]]:
        """Yield all squared distances."""
        every = slice(0, len(self.distances))
        yield Tile(every, every), self.distances**2


@dataclass(frozen=True)
class FeaturePairs:
    """Pairs of rows of features; a block of squared distances takes 64 MiB.

    The squares come from inner products: their error is about 1e-16 of the squared norms.
    """

    features: Float64[np.ndarray, "n d"]

    def median(self) -> float:
        """Return the median distance, from a pass over all pairs in blocks."""
        lower, upper = middle_squares(self.features, np.arange(len(self.features)))
        return float((np.sqrt(lower) + np.sqrt(upper)) / 2)

    def blocks(self) -> Iterator[tuple[Tile, Float64[np.ndarray, "r k"]]]:
        """Yield the squared distances of square blocks: what is made of one fits near the CPU."""
        n, step = len(self.features), max(1, isqrt(TILE_NUMBERS))
        for tile in triangle([slice(at, min(at + step, n)) for at in range(0, n, step)]):
            rows, columns = self.features[tile.rows], self.features[tile.columns]
            yield tile, squares_near_origin(rows, columns)
