"""Weighted local means under a Gaussian window, one axis after the other."""

from __future__ import annotations

import torch
from jaxtyping import Float32
from torch import Tensor

BLUR_ROWS = 16
"""Rows of the banded matrices with which the blur multiplies. More rows hold more zeros."""


def gaussian_window(window: int, sigma: float) -> Float32[Tensor, " w"]:
    """Return a centred Gaussian of `window` voxels that sums to one."""
    offsets = torch.arange(window, dtype=torch.float64) - (window - 1) / 2
    values = torch.exp(-((offsets / sigma) ** 2) / 2)
    return (values / values.sum()).to(torch.float32)


def banded(window: Float32[Tensor, " w"]) -> Float32[Tensor, "r c"]:
    """Return the matrix whose rows are the window at `BLUR_ROWS` successive positions."""
    matrix = window.new_zeros(BLUR_ROWS, BLUR_ROWS + len(window) - 1)
    for row in range(BLUR_ROWS):
        matrix[row, row : row + len(window)] = window
    return matrix


def slide(columns: Float32[Tensor, "a k"], band: Float32[Tensor, "r c"]) -> Float32[Tensor, "_ k"]:
    """Return the weighted means under a window that slides down the columns of a matrix.

    The banded matrix multiplies one part of the columns after another: a matrix for all positions
    would be mostly zeros.

    Parameters
    ----------
    columns
        A matrix in any memory layout: a transposed one is not copied.
    band
        The window, from `banded`.

    Returns
    -------
    A contiguous matrix; its first axis is shorter by the window's length minus one.
    """
    rows, reach = band.shape
    windows = len(columns) - (reach - rows)
    means = columns.new_empty(windows, columns.shape[1])
    for start in range(0, windows, rows):
        n = min(rows, windows - start)
        m = n + reach - rows
        torch.mm(band[:n, :m], columns[start : start + m], out=means[start : start + n])
    return means


def blur(
    volumes: Float32[Tensor, "d b h w"], band: Float32[Tensor, "r c"]
) -> Float32[Tensor, "_ _ _ b"]:
    """Return the weighted local means under a separable window, where it lies inside the grid.

    Each pass after the first slides along the last axis and puts it first. So the three matrix
    products need no copy between them.

    Parameters
    ----------
    volumes
        A batch of volumes, contiguous; the batch is the second axis.
    band
        The window along one axis, from `banded`.

    Returns
    -------
    An array with the axes h, w, d and batch; h, w and d are shorter by the window's length minus
    one.
    """
    d, b, h, w = volumes.shape
    by_d = slide(volumes.view(d, -1), band)
    by_w = slide(by_d.view(-1, w).T, band)
    by_h = slide(by_w.view(-1, h).T, band)
    return by_h.view(len(by_h), len(by_w), len(by_d), b)
