"""Damage to a set: mirrored, duplicated, copied volumes and dropped modes."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from synthbench.errors import UsageError
from synthbench.sensitivity.corruptions.base import GridVolumes, Pick, Spacing, Volume

COARSE_MM = 8.0
"""Side in mm of the blocks by which volumes are compared."""


def share_count(percent: float, n: int) -> int:
    """Return how many of n volumes a share is: the nearest whole number, at least one.

    Raises
    ------
    UsageError
        The share is above 100%.
    """
    if percent > 100:
        raise UsageError(f"a share of a set is at most 100%; found {percent:g}%.")
    return max(1, round(percent / 100 * n))


def mirror_some(
    volumes: GridVolumes, percent: float, rng: np.random.Generator, training: int = 0
) -> tuple[Pick, ...]:
    """Return the places of a set in which a share of the volumes is mirrored left to right.

    The array is reversed along its first axis, as augmentation by flips does: about the middle
    of the grid.
    """
    n = len(volumes)
    chosen = set(rng.permutation(n)[: share_count(percent, n)].tolist())
    return tuple(Pick(i, mirrored=i in chosen) for i in range(n))


def duplicate_some(
    volumes: GridVolumes, percent: float, rng: np.random.Generator, training: int = 0
) -> tuple[Pick, ...]:
    """Return the places of a set with a share replaced by copies of random ones among the rest.

    Raises
    ------
    UsageError
        No volume would be left to copy.
    """
    n = len(volumes)
    order = rng.permutation(n)
    count = share_count(percent, n)
    if count >= n:
        raise UsageError(
            f"duplicates: {percent:g}% of {n} volumes leaves none to copy. Use a smaller dose."
        )
    index = np.arange(n)
    index[order[:count]] = rng.choice(order[count:], size=count)
    return tuple(Pick(int(i)) for i in index)


def copy_training(
    volumes: GridVolumes, percent: float, rng: np.random.Generator, training: int
) -> tuple[Pick, ...]:
    """Return the places of a set with a share replaced by as many different training volumes.

    Raises
    ------
    UsageError
        There are fewer training volumes than that.
    """
    n = len(volumes)
    count = share_count(percent, n)
    if count > training:
        raise UsageError(
            f"copies: {percent:g}% of {n} volumes needs {count} training volumes; found "
            f"{training}. Use a smaller dose, or more training volumes."
        )
    replaced = rng.permutation(n)[:count]
    copies = rng.permutation(training)[:count]
    copied = dict(zip(replaced.tolist(), copies.tolist(), strict=True))
    return tuple(Pick(copied[i], training=True) if i in copied else Pick(i) for i in range(n))


def drop_modes(
    volumes: GridVolumes, percent: float, rng: np.random.Generator, training: int = 0
) -> tuple[Pick, ...]:
    """Return the places of a set without the share that is least like the most typical volume.

    Volumes are compared by the Euclidean distance of their means over 8 mm blocks; the most
    typical one is the medoid. Nothing is random. The set gets smaller: a biased metric, such as
    the Frechet distance, must be compared at a matched number of volumes.

    Raises
    ------
    UsageError
        Fewer than two volumes would be left.
    """
    n = len(volumes)
    kept = n - share_count(percent, n)
    if kept < 2:
        raise UsageError(
            f"modes: {percent:g}% of {n} volumes leaves {kept}; 2 are needed. Use a smaller dose."
        )
    means = np.stack([_block_means(volumes[i], volumes.space.spacing) for i in range(n)])
    gram = means @ means.T
    squares = np.diag(gram)[:, None] + np.diag(gram)[None] - 2 * gram
    distances = np.sqrt(np.maximum(squares, 0))
    medoid = int(distances.sum(axis=1).argmin())
    nearest = np.argsort(distances[medoid], kind="stable")[:kept]
    return tuple(Pick(int(i)) for i in np.sort(nearest))


def _block_means(volume: Volume, spacing: Spacing) -> Float64[np.ndarray, " blocks"]:
    """Return means over blocks of about 8 mm, as one row; the grid is padded with zeros."""
    sides = [max(1, round(COARSE_MM / mm)) for mm in spacing]
    padded = np.pad(volume, [(0, -n % s) for n, s in zip(volume.shape, sides, strict=True)])
    (a, i), (b, j), (c, k) = ((n // s, s) for n, s in zip(padded.shape, sides, strict=True))
    blocks = padded.reshape(a, i, b, j, c, k).mean(axis=(1, 3, 5), dtype=np.float64)
    means: Float64[np.ndarray, " blocks"] = blocks.ravel()
    return means
