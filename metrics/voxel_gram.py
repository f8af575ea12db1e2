"""Inner products of volumes, from which distances between volumes follow.

Volumes may be many and large. So they are read in blocks, and products are summed in float64 over
chunks of voxels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Bool, Float32, Float64

from synthbench.errors import MetricError
from synthbench.metrics.metric import VolumeSource

BLOCK_BYTES = 2**30
"""Volumes are read in blocks of at most this many bytes; two blocks are in memory at a time."""

CHUNK_BYTES = 2**26
"""Voxels are converted to float64 in chunks of about this many bytes."""


def voxel_gram(
    volumes: VolumeSource,
    others: VolumeSource | None = None,
    *,
    mask: Bool[np.ndarray, "d h w"] | None = None,
    flip: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Float64[np.ndarray, "n m"]:
    """Return the inner products x_i . y_j of volumes over the voxels of a mask.

    Squared distances are |x_i|^2 + |y_j|^2 - 2 x_i . y_j, with the squares from `voxel_squares`.
    Products and squares have an error of about 1e-16 of |x|^2, and so have such distances: those
    of equal volumes are near zero, but not exactly zero.

    Parameters
    ----------
    volumes
        Float32 volumes on one grid. Each is read once where all fit into `BLOCK_BYTES`.
    others
        Volumes on the same grid; None is `volumes` themselves.
    mask
        The voxels to sum over; None is all of them.
    flip
        Mirror each of `volumes` (not `others`) along axis 0, which is left-right in RAS+, before
        the mask is applied.
    progress
        Called with the number of volumes read so far and the number of reads in all.

    Returns
    -------
    One row for each of `volumes`, one column for each of `others`; symmetric where there are no
    others and no flip.

    Raises
    ------
    MetricError
        A set or the mask is empty, or a volume is on another grid or holds NaN or infinity.
    """
    columns = volumes if others is None else others
    column_set = "volumes" if others is None else "others"
    grid = _grid(volumes, columns, mask)
    size = _volumes_per_block(grid)
    # Without others and flip, the blocks below the diagonal mirror those above it.
    symmetric = others is None and not flip
    plan = [
        (rows, list(_blocks(rows.start if symmetric else 0, len(columns), size)))
        for rows in _blocks(0, len(volumes), size)
    ]
    total = sum(
        len(rows) + sum(len(block) for block in column_blocks if not (symmetric and block == rows))
        for rows, column_blocks in plan
    )
    read = _Reader(grid, total, progress)
    gram: Float64[np.ndarray, "n m"] = np.zeros((len(volumes), len(columns)))
    for rows, column_blocks in plan:
        row_values = read(volumes, rows, "volumes", flip)
        for block in column_blocks:
            diagonal = symmetric and block == rows
            column_values = row_values if diagonal else read(columns, block, column_set, False)
            products = _products(row_values, column_values)
            gram[rows.start : rows.stop, block.start : block.stop] = products
            if symmetric:
                gram[block.start : block.stop, rows.start : rows.stop] = products.T
    return gram


def voxel_squares(
    volumes: VolumeSource,
    *,
    mask: Bool[np.ndarray, "d h w"] | None = None,
    flip: bool = False,
) -> Float64[np.ndarray, " n"]:
    """Return the sum of squares |x_i|^2 of each volume over the voxels of a mask.

    It is the diagonal of `voxel_gram` without a flip; parameters and errors are the same.
    """
    read = _Reader(_grid(volumes, volumes, mask), len(volumes), None)
    squares: Float64[np.ndarray, " n"] = np.zeros(len(volumes))
    for index in range(len(volumes)):
        values = read(volumes, range(index, index + 1), "volumes", flip)
        squares[index] = _products(values, values)[0, 0]
    return squares


def _grid(
    volumes: VolumeSource, others: VolumeSource, mask: Bool[np.ndarray, "d h w"] | None
) -> Bool[np.ndarray, "d h w"]:
    """The mask, or a mask of the whole grid of the first volume."""
    for role, source in (("volumes", volumes), ("others", others)):
        if len(source) == 0:
            raise MetricError(f"voxel products: {role} must hold at least 1 volume; found none.")
    if mask is None:
        return np.ones(np.shape(volumes[0]), dtype=np.bool_)
    chosen = np.asarray(mask, dtype=np.bool_)
    if not chosen.any():
        raise MetricError(
            "voxel products: the mask must hold at least 1 voxel; found none in its grid of "
            f"{_shape(chosen.shape)}. Check how it was made.",
            "empty mask",
        )
    return chosen


class _Reader:
    """Reads blocks of volumes as matrices of the masked voxels, and counts the reads."""

    def __init__(
        self,
        mask: Bool[np.ndarray, "d h w"],
        total: int,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.mask = mask
        self.whole = bool(mask.all())
        self.total = total
        self.progress = progress
        self.done = 0

    def __call__(
        self, source: VolumeSource, block: range, role: str, flip: bool
    ) -> Float32[np.ndarray, "k v"]:
        rows: Float32[np.ndarray, "k v"] = np.zeros(
            (len(block), int(self.mask.sum())), dtype=np.float32
        )
        for row, index in zip(rows, block, strict=True):
            volume = _checked(source[index], f"{role}[{index}]", self.mask.shape)
            if flip:
                volume = volume[::-1]
            row[:] = volume.reshape(-1) if self.whole else volume[self.mask]
            self.done += 1
            if self.progress is not None:
                self.progress(self.done, self.total)
        return rows


def _checked(
    volume: Float32[np.ndarray, "d h w"], name: str, shape: tuple[int, ...]
) -> Float32[np.ndarray, "d h w"]:
    array: Float32[np.ndarray, "d h w"] = np.asarray(volume, dtype=np.float32)
    if array.shape != shape:
        raise MetricError(
            f"voxel products: volumes and mask must share one grid; found {name} of shape "
            f"{_shape(array.shape)} where the grid is {_shape(shape)}. "
            "Bring all of them to one space.",
            "another grid",
        )
    if not np.isfinite(array).all():
        raise MetricError(
            f"voxel products: {name} holds NaN or infinity. Remove or fix it.", "intensities"
        )
    return array


def _products(
    rows: Float32[np.ndarray, "k v"], columns: Float32[np.ndarray, "l v"]
) -> Float64[np.ndarray, "k l"]:
    """Inner products of the rows of two matrices, in float64."""
    products: Float64[np.ndarray, "k l"] = np.zeros((len(rows), len(columns)))
    step = max(1, CHUNK_BYTES // (8 * (len(rows) + len(columns))))
    for start in range(0, rows.shape[1], step):
        left = rows[:, start : start + step].astype(np.float64)
        # The product of a matrix with itself takes half the time and is exactly symmetric.
        same = rows is columns
        right = left if same else columns[:, start : start + step].astype(np.float64)
        products += left @ right.T
    return products


def _volumes_per_block(mask: Bool[np.ndarray, "d h w"]) -> int:
    return max(1, BLOCK_BYTES // (4 * int(mask.sum())))


def _blocks(start: int, stop: int, size: int) -> Iterator[range]:
    for first in range(start, stop, size):
        yield range(first, min(first + size, stop))


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
