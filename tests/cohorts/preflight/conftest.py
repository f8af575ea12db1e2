"""Simulated brains for the tests of preflight."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from nilearn import datasets
from scipy import ndimage

from synthbench.cohorts.reading import read_cohort
from tests.cohorts.preflight.sets import SPACING, N, save


@pytest.fixture(scope="module")
def template():
    image = nib.as_closest_canonical(datasets.load_mni152_template(resolution=SPACING))
    volume = np.clip(image.get_fdata(dtype=np.float32), 0, None)
    return np.where(volume > 0.15 * volume.max(), volume / volume.max(), 0), image.affine


@pytest.fixture(scope="module")
def brains(template):
    """The template in persons: tissue of their own, and a right frontal lobe that is brighter.

    The template is symmetric; the lobe is the asymmetry that real brains have.
    """
    volume, affine = template
    x, y, _ = nib.affines.apply_affine(affine, np.moveaxis(np.indices(volume.shape), 0, -1)).T
    lobe = 0.2 * ((x > 10) & (y > 10)).T

    def draw(seed, n=N):
        rng = np.random.default_rng(seed)
        made = []
        for _ in range(n):
            field = ndimage.gaussian_filter(rng.standard_normal(volume.shape), 2.5)
            field *= 0.05 / field.std()
            made.append(np.where(volume > 0, np.clip(volume * (1 + field + lobe), 0.02, 1.3), 0))
        return made, affine.copy()

    return draw


@pytest.fixture(scope="module")
def real(brains, tmp_path_factory):
    volumes, affine = brains(0)
    folder = save(volumes, affine, tmp_path_factory.mktemp("sets") / "real")
    return read_cohort(folder)


@pytest.fixture(scope="module")
def changed(brains, tmp_path_factory):
    """Return a function that writes a set, changed by a function of volume and index."""
    root = tmp_path_factory.mktemp("changed")

    def change(function, seed=0, n=N):
        folder = root / f"set{len(list(root.iterdir()))}"
        volumes, affine = brains(seed, n)
        volumes = [function(volume, i) for i, volume in enumerate(volumes)]
        return read_cohort(save(volumes, affine, folder))

    return change
