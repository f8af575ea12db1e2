"""Masks and volumes, which the tests of spectra and seams share."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

SHAPE = (28, 32, 30)

SPACING = (4.0, 4.0, 4.0)


def ball():
    """The voxels of an ellipsoid that fills most of the grid."""
    half = np.array(SHAPE)[:, None, None, None] / 2
    position = (np.indices(SHAPE) + 0.5 - half) / (0.95 * half)
    return (position**2).sum(axis=0) <= 1


def heads(n, seed):
    """Random volumes around 0.5 with structure at several scales, and noise."""
    rng = np.random.default_rng(seed)
    volumes = []
    for _ in range(n):
        white, fine, coarse = rng.standard_normal((3, *SHAPE))
        field = 1.5 * gaussian_filter(coarse, 3.0) + 0.15 * gaussian_filter(fine, 1.0)
        volumes.append((0.5 + 0.3 * field + 0.01 * white).clip(0, 1))
    return np.stack(volumes).astype(np.float32)
