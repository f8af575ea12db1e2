"""Volumes as square 2-D composites: all slices of a volume, side by side, and the exact inverse."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float32
from torch import Tensor, nn

from synthbench.errors import UsageError

SliceAxis: TypeAlias = Literal["sagittal", "coronal", "axial"]
AXES: dict[SliceAxis, int] = {"sagittal": 0, "coronal": 1, "axial": 2}
"""The axis of a RAS+ volume along which slices follow each other."""

Order: TypeAlias = Literal["rows", "columns", "snake"]


@dataclass(frozen=True)
class Tiling:
    """The places of a volume's slices in its composite.

    Attributes
    ----------
    shape
        Grid of the volumes (d, h, w).
    axis
        0, 1 or 2: the axis along which slices follow each other.
    rows, columns
        Cells of the composite. Each holds one slice; cells that are left over are empty.
    cell
        Height and width of a cell, in pixels.
    margin
        Empty pixels above a slice and to its left, inside its cell.
    order
        How slices follow each other. rows: from left to right, row by row; columns: downwards,
        column by column; snake: as rows, but every second row runs from right to left, so that
        slices that follow each other always touch.
    side
        Side of the square composite, in pixels. Right of the cells and below them it is empty.
    """

    shape: tuple[int, int, int]
    axis: int
    rows: int
    columns: int
    cell: tuple[int, int]
    margin: int
    order: Order
    side: int

    @property
    def slice_shape(self) -> tuple[int, int]:
        """Height and width of a slice."""
        height, width = (side for axis, side in enumerate(self.shape) if axis != self.axis)
        return height, width

    def places(self) -> list[int]:
        """Return the cell of each slice; cells are counted from left to right, row by row."""
        found = []
        for index in range(self.shape[self.axis]):
            if self.order == "columns":
                column, row = divmod(index, self.rows)
            else:
                row, column = divmod(index, self.columns)
                if self.order == "snake" and row % 2:
                    column = self.columns - 1 - column
            found.append(row * self.columns + column)
        return found


def tiling_of(
    shape: tuple[int, int, int],
    axis: int,
    *,
    grid: tuple[int, int] | None = None,
    order: Order = "rows",
    margin: int = 0,
    multiple: int = 1,
    unit: int = 1,
) -> Tiling:
    """Return the tiling of volumes of a grid.

    Parameters
    ----------
    shape, axis, order
        As in `Tiling`.
    grid
        Rows and columns of cells; None: those of the smallest composite, of these the one with the
        fewest cells, then the fewest rows.
    margin
        Empty pixels around each slice, on all four sides.
    multiple
        The sides of a cell are rounded up to a multiple of it.
    unit
        The side of the composite is rounded up to a multiple of it.

    Raises
    ------
    UsageError
        The grid has fewer cells than there are slices.
    """
    slices = shape[axis]
    height, width = (
        _rounded_up(side + 2 * margin, multiple) for k, side in enumerate(shape) if k != axis
    )
    if grid is None:
        candidates = [(rows, math.ceil(slices / rows)) for rows in range(1, slices + 1)]
        grid = min(candidates, key=lambda g: (max(g[0] * height, g[1] * width), g[0] * g[1], g[0]))
    rows, columns = grid
    if rows * columns < slices:
        raise UsageError(
            f"tile_grid: {rows} x {columns} cells cannot hold {slices} slices. Set "
            f"tile_grid=[{rows},{math.ceil(slices / rows)}], or tile_grid=null for the smallest "
            "composite."
        )
    side = _rounded_up(max(rows * height, columns * width), unit)
    return Tiling(shape, axis, rows, columns, (height, width), margin, order, side)


def composites(
    volumes: Float32[Tensor, "b 1 d h w"], tiling: Tiling
) -> Float32[Tensor, "b 1 side side"]:
    """Return each volume as one square image; what no slice covers is 0."""
    slices = volumes[:, 0].movedim(1 + tiling.axis, 1)
    (height, width), (high, wide) = tiling.slice_shape, tiling.cell
    top = left = tiling.margin
    padded = nn.functional.pad(slices, (left, wide - width - left, top, high - height - top))
    cells = volumes.new_zeros(len(volumes), tiling.rows * tiling.columns, high, wide)
    cells[:, tiling.places()] = padded
    b, rows, columns = len(volumes), tiling.rows, tiling.columns
    grid = cells.reshape(b, rows, columns, high, wide).transpose(2, 3)
    image = grid.reshape(b, rows * high, columns * wide)
    right, below = tiling.side - image.shape[2], tiling.side - image.shape[1]
    return nn.functional.pad(image, (0, right, 0, below))[:, None]


def volumes_of(
    images: Float32[Tensor, "b 1 side side"], tiling: Tiling
) -> Float32[Tensor, "b 1 d h w"]:
    """Return the volumes of composites: the inverse of `composites`, exact to the bit."""
    (height, width), (high, wide) = tiling.slice_shape, tiling.cell
    b, rows, columns = len(images), tiling.rows, tiling.columns
    image = images[:, 0, : rows * high, : columns * wide]
    grid = image.reshape(b, rows, high, columns, wide).transpose(2, 3)
    cells = grid.reshape(b, rows * columns, high, wide)
    top = left = tiling.margin
    slices = cells[:, tiling.places(), top : top + height, left : left + width]
    return torch.movedim(slices, 1, 1 + tiling.axis)[:, None]


def _rounded_up(number: int, multiple: int) -> int:
    return math.ceil(number / multiple) * multiple
