"""Recognising a mask or a label map by its voxels, whatever its name."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

MOST_LEVELS = 256
"""Label maps have no more different values; neither have images in 8 bits."""

LEAST_FLAT = 0.5
"""The share of neighbours inside that are equal in a label map at least (docs/preflight.md)."""

_SAMPLED = 20_000


def is_label_map(volume: Float32[np.ndarray, "d h w"]) -> bool:
    """Return True where a volume has few values, in flat regions, as a mask or a label map has.

    An image in 8 bits has few values too, but its neighbouring voxels differ by noise and anatomy.
    """
    return few_levels(volume) and flatness(volume) >= LEAST_FLAT


def few_levels(volume: Float32[np.ndarray, "d h w"]) -> bool:
    """Return True where at most `MOST_LEVELS` values are found in an even sample of the voxels."""
    step = max(1, volume.size // _SAMPLED)
    return len(np.unique(volume.reshape(-1)[::step])) <= MOST_LEVELS


def flatness(volume: Float32[np.ndarray, "d h w"]) -> float:
    """Return the share of neighbouring voxels inside that are equal, in [0, 1]; 0 without any.

    Inside is all that differs from the value of the first voxel, which is background.
    """
    background = volume.flat[0]
    inside = volume != background
    equal = total = 0
    for axis in range(3):
        here = [slice(None)] * 3
        there = [slice(None)] * 3
        here[axis], there[axis] = slice(1, None), slice(None, -1)
        one, other = tuple(here), tuple(there)
        both = inside[one] & inside[other]
        total += int(both.sum())
        equal += int((both & (volume[one] == volume[other])).sum())
    return equal / total if total else 0.0
