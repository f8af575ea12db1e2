"""One simulated person through all steps, against the truth it was made from."""

from __future__ import annotations

import numpy as np
import pytest

from synthbench.cohorts.preparation.image import Image
from synthbench.cohorts.preparation.template import template_on
from tests.cohorts.preparation.heads import GRID, dice

pytestmark = pytest.mark.slow


def test_the_mask_is_the_brain(person, prepared_person):
    """The true mask goes through the same affine; voxels of 3 mm allow no more than 0.93."""
    truth = Image(person.brain.astype(np.float32), person.scan.space)
    on_grid = truth.mask_on(GRID, prepared_person.affine.matrix)
    assert dice(on_grid, prepared_person.mask) > 0.93
    true_ml = person.brain.sum() * 27 / 1000
    assert prepared_person.facts["brain_ml"] == pytest.approx(true_ml, rel=0.12)


def test_the_head_lies_in_mni_space(prepared_person):
    """The middles of the mask and of the template's brain are less than a voxel apart."""
    middle = np.argwhere(prepared_person.mask).mean(axis=0)
    template = np.argwhere(template_on(GRID) > 0.05).mean(axis=0)
    assert np.abs(middle - template).max() < 1


def test_intensities_are_in_the_unit_interval_and_zero_outside_the_brain(prepared_person):
    """White matter, the brightest quarter of this brain, comes out near its 0.8."""
    volume, mask = prepared_person.volume, prepared_person.mask
    assert volume.shape == GRID.shape
    assert volume.dtype == np.float32
    assert volume.min() >= 0
    assert volume.max() <= 1
    assert (volume[~mask] == 0).all()
    assert np.percentile(volume[mask], 85) == pytest.approx(0.8, abs=0.05)


def test_the_bias_field_is_gone(person, prepared_person):
    """The scan's field spreads white matter; beside it the prepared volume's is flat.

    White matter is taken as the brightest 30% of each slab of the brain, front to back, and
    compared between slabs.
    """

    def spread(volume, mask):
        slabs = np.array_split(np.arange(volume.shape[1]), 8)[2:6]
        tops = [np.percentile(volume[:, s][mask[:, s]], 85) for s in slabs]
        return np.std(tops) / np.mean(tops)

    raw = spread(person.scan.volume, person.brain)
    assert raw > 0.05
    assert spread(prepared_person.volume, prepared_person.mask) < raw / 2
