"""A map of places inside a brain: seen from above, from the front and from the left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

CELL = 8
"""Side of a cell, in pixels."""

FAINTEST = 0.06
"""Opacity of a cell at which the value is zero: it shows that there is a place."""


@dataclass(frozen=True)
class Square:
    """A cell of a map: its upper left corner in pixels, and its opacity in [0, 1]."""

    x: int
    y: int
    opacity: float


@dataclass(frozen=True)
class View:
    """The places seen along one axis, each cell with the largest value behind it.

    Attributes
    ----------
    title
        The side that it is seen from.
    width, height
        In pixels.
    squares
        One per cell with a place behind it.
    """

    title: str
    width: int
    height: int
    squares: tuple[Square, ...]


_VIEWS = (("from above", 0, 1), ("from the front", 0, 2), ("from the left", 1, 2))
"""Title, horizontal and vertical axis of each view; voxels run to the right, front and top."""


def views(
    places: Int64[np.ndarray, "p 3"], values: Float64[np.ndarray, " p"], stride: int
) -> Sequence[View]:
    """Return three views of a value per place; the darkest cell has the largest value.

    Parameters
    ----------
    places
        Voxels on a regular grid, in RAS+.
    values
        One per place; those below zero are drawn as zero.
    stride
        Voxels between neighbouring places.
    """
    cells = (places - places.min(axis=0)) // stride
    shape = cells.max(axis=0) + 1
    scale = max(float(values.max()), np.finfo(float).tiny)
    shades = FAINTEST + (1 - FAINTEST) * values.clip(min=0) / scale
    found = []
    for title, across, up in _VIEWS:
        seen = np.zeros((shape[across], shape[up]))
        np.maximum.at(seen, (cells[:, across], cells[:, up]), shades)
        squares = tuple(
            Square(CELL * int(i), CELL * int(shape[up] - 1 - j), round(float(seen[i, j]), 2))
            for i, j in np.argwhere(seen)
        )
        found.append(View(title, CELL * int(shape[across]), CELL * int(shape[up]), squares))
    return found
