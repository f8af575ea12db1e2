"""Principal components of a set of images, scaled so that standard normal scores draw images."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Float64

BLOCK = 65536
"""Voxels that are held in float64 at a time."""


def principal_components(
    rows: Float32[np.ndarray, "n v"],
    mean: Float64[np.ndarray, " v"],
    *,
    most: int | None = None,
    share: float = 1.0,
) -> Float32[np.ndarray, "k v"]:
    """Return the first principal components, each times the standard deviation along it.

    They are found from the n x n Gram matrix of the centred images. A row of standard normal
    scores times the result has the covariance of the images (with n - 1) in that subspace.

    A component is known up to its sign. Here the image that lies farthest out along a component
    is on the positive side, so that last digits, which differ between processors, do not decide.

    Parameters
    ----------
    rows
        One image per row; it may be a memory-mapped file.
    mean
        The mean image.
    most
        The largest number of components; None: n - 1.
    share
        Components are kept until they hold this share of the variance, in (0, 1].
    """
    n = len(rows)
    # One block of voxels at a time: the centred copy of all images never exists at once.
    blocks = np.array_split(np.arange(rows.shape[1]), max(1, rows.shape[1] // BLOCK))
    gram = np.zeros((n, n))
    for block in blocks:
        centred = rows[:, block] - mean[block]
        gram += centred @ centred.T
    values, vectors = np.linalg.eigh(gram)
    values, vectors = values[::-1], vectors[:, ::-1]
    held = np.cumsum(values) / values.sum()
    kept = min(n - 1, int(np.searchsorted(held, share)) + 1, n if most is None else most)
    vectors = vectors[:, :kept]
    farthest = vectors[np.abs(vectors).argmax(axis=0), np.arange(kept)]
    vectors = vectors * np.sign(farthest)
    components = np.empty((kept, rows.shape[1]), np.float32)
    for block in blocks:
        centred = rows[:, block] - mean[block]
        components[:, block] = vectors.T @ centred / np.sqrt(n - 1)
    return components
