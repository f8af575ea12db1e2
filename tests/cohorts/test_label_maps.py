"""Masks and label maps are recognised by their voxels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from synthbench.cohorts.label_maps import flatness, is_label_map


def brain(seed=0):
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.standard_normal((40, 40, 40)), 2)
    radius = np.sqrt(((np.indices(field.shape) - 19.5) ** 2).sum(axis=0))
    tissue = 120 + 400 * field + 4 * rng.standard_normal(field.shape)
    return np.where(radius < 17, np.clip(tissue, 1, 255), 0).astype(np.float32)


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v > 0,
        lambda v: 255 * (v > 0),
        lambda v: 0.5 * (v > 120),
        lambda v: np.digitize(ndimage.gaussian_filter(v, 1), [1, 100, 130]),
        lambda v: np.round(v / 255),
    ],
    ids=["mask", "mask of 255", "mask of 0.5", "tissues", "[0, 1] as whole numbers"],
)
def test_label_maps(change):
    assert is_label_map(change(brain()).astype(np.float32))


@pytest.mark.parametrize(
    "change",
    [lambda v: v, np.round, lambda v: np.round(ndimage.gaussian_filter(v, 1)), lambda v: v / 255],
    ids=["float", "8 bits", "8 bits, smooth", "unit"],
)
def test_images(change):
    assert not is_label_map(change(brain()).astype(np.float32))


def test_flatness_counts_neighbours_inside():
    """A row of 1 1 2 between zeros: one of two neighbouring pairs is equal."""
    volume = np.zeros((5, 3, 3), np.float32)
    volume[1:4, 1, 1] = (1, 1, 2)
    assert flatness(volume) == 0.5
    assert flatness(np.zeros((3, 3, 3), np.float32)) == 0.0
