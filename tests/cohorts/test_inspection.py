from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from nilearn import datasets
from scipy import ndimage

from synthbench.cohorts.inspection import cell_means, inspect
from synthbench.volumes.grid import Space
from synthbench.volumes.intensity import to_unit


def grid_of(shape, spacing=4.0, centre=(0.0, -18.0, 18.0)):
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = np.array(centre) - spacing * (np.array(shape) - 1) / 2
    return Space.of(shape, affine)


def inspected(volume, grid=None):
    grid = grid or grid_of(volume.shape)
    return inspect(volume.astype(np.float32), grid, grid, dtype="float32")


@pytest.fixture(scope="module")
def template():
    image = nib.as_closest_canonical(datasets.load_mni152_template(resolution=4))
    volume = np.clip(image.get_fdata(dtype=np.float32), 0, None)
    return volume, Space.of(volume.shape, image.affine)


def test_cell_means_are_block_means_where_cells_hold_whole_voxels():
    """With 2 mm voxels, a 6 mm cell holds 3 x 3 x 3 of them, weighted alike."""
    volume = np.random.default_rng(0).random((12, 9, 6)).astype(np.float32)
    blocks = volume.reshape(4, 3, 3, 3, 2, 3).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(cell_means(volume, (2.0, 2.0, 2.0), 6.0), blocks, rtol=1e-5)


@pytest.mark.parametrize("spacing", [(1.3, 2.1, 0.9), (7.0, 8.0, 9.0)])
def test_cell_means_keep_the_sum_and_mirror_with_the_volume(spacing):
    """A cell's mean times its volume, summed, is the voxels' sum times theirs: all is counted."""
    volume = np.random.default_rng(1).random((11, 14, 17)).astype(np.float32)
    means = cell_means(volume, spacing, 6.0)
    assert means.sum() * 6**3 == pytest.approx(volume.sum() * np.prod(spacing), rel=1e-4)
    flipped = cell_means(volume[::-1], spacing, 6.0)
    np.testing.assert_allclose(flipped, means[::-1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("bright", [4e-38, 1.0, 1e18])
def test_tissue_may_be_tiny_beside_a_bright_voxel(bright):
    """Tissue of 1e-40 overflows 32-bit floats where it divides; the warning would be an error."""
    volume = np.zeros((20, 20, 20), dtype=np.float32)
    volume[5:15, 5:15, 5:15] = np.linspace(1e-40, 1e-39, 1000).reshape(10, 10, 10)
    volume[10, 10, 10] = bright
    found = inspected(volume)
    assert sum(found.histogram) == pytest.approx(1)
    assert to_unit(volume, "percentile", "v").max() == 1


def test_numbers_of_a_volume_that_is_known():
    """1000 of 8000 voxels are tissue, 1 to 1000 in order, inside a border of zeros.

    The 99.9th percentile of these is 999.001; the foreground is what exceeds 0.01 of it, 10 to
    1000, so 991 voxels, one of which is at the greatest value.
    """
    volume = np.zeros((20, 20, 20))
    volume[5:15, 5:15, 5:15] = np.arange(1, 1001).reshape(10, 10, 10)
    found = inspected(volume)
    assert found.scale == pytest.approx(np.percentile(np.arange(10, 1001), 99.9))
    assert found.clipped == pytest.approx(1 / 991)
    assert (found.low, found.high) == (0, 1000)
    assert found.nonzero == 1000 / 8000
    assert found.negative == 0
    assert found.background == (0, 0, 0)
    assert sum(found.histogram) == pytest.approx(1)


def test_centred_volumes_have_a_negative_background_and_the_same_coarse_copy():
    """(x * 2 - 1) moves the background to -1; the coarse copy runs from background to scale."""
    volume = np.zeros((20, 20, 20))
    volume[5:15, 5:15, 5:15] = np.random.default_rng(0).random((10, 10, 10)) + 0.5
    plain, centred = inspected(volume), inspected(2 * volume - 1)
    assert centred.background == (-1, -1, -1)
    assert centred.negative == pytest.approx(np.mean(volume < 0.5))
    inside = (slice(5, 9),) * 3  # cells within the field of view
    np.testing.assert_allclose(plain.coarse[inside], centred.coarse[inside], atol=2e-2)


def test_stored_axes_and_scaling_are_those_of_the_file():
    stored = Space.of(
        (4, 5, 6), np.array([[0, 0, 2, 0], [-2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 0, 1]])
    )
    volume = np.random.default_rng(0).random((6, 4, 5)).astype(np.float32)
    found = inspect(volume, grid_of((6, 4, 5)), stored, dtype="int16", slope=0.5, inter=3.0)
    assert found.orientation == "PSR"
    assert (found.dtype, found.slope, found.inter) == ("int16", 0.5, 3.0)


def test_the_template_is_registered_to_itself(template):
    placement = inspected(*template).placement
    assert placement.overlap > 0.95
    assert placement.agreement > 0.98
    assert (placement.registered, placement.stripped) == (True, True)
    left_right, front_back, up_down = placement.mirrored
    # The template is symmetric; a brain's outline is not, front to back and top to bottom.
    assert left_right == pytest.approx(placement.agreement, abs=0.02)
    assert max(front_back, up_down) < placement.agreement - 0.1
    x, y, z = placement.centre_mm
    assert abs(x) < 1
    assert (y, z) == (pytest.approx(-20, abs=4), pytest.approx(8, abs=4))


def test_a_brain_that_lies_elsewhere_is_not_registered(template):
    volume, grid = template
    affine = grid.matrix
    affine[:3, 3] += (0, 30, 0)
    placement = inspected(volume, Space.of(grid.shape, affine)).placement
    assert placement.registered is False
    assert placement.stripped is True


def test_a_head_is_no_brain_registered_or_not(template):
    """Scalp: a bright shell 12 to 20 mm outside the brain, beyond a dark skull."""
    volume, grid = template
    distance = ndimage.distance_transform_edt(volume < 0.1 * volume.max(), sampling=grid.spacing)
    head = volume + 0.7 * volume.max() * ((distance > 12) & (distance < 20))
    affine = grid.matrix
    affine[:3, 3] += (0, 60, 0)
    assert inspected(head, grid).placement.stripped is False
    elsewhere = inspected(head, Space.of(grid.shape, affine)).placement
    assert (elsewhere.registered, elsewhere.stripped) == (False, False)


@pytest.mark.parametrize("law", ["uniform", "half-normal"])
def test_of_noise_everywhere_nothing_is_said(law):
    rng = np.random.default_rng(0)
    shape = (46, 55, 46)
    noise = rng.random(shape) if law == "uniform" else np.clip(rng.normal(size=shape), 0, None)
    placement = inspected(noise).placement
    assert (placement.registered, placement.stripped) == (None, None)


def test_noise_in_the_background_is_no_skull(template):
    volume, grid = template
    noise = np.clip(np.random.default_rng(0).normal(0, 0.12 * volume.max(), volume.shape), 0, None)
    found = inspected(volume + noise, grid)
    assert found.placement.stripped is True
    assert found.background_noise > 0.01


def test_a_volume_that_is_nowhere_above_its_faces_is_measured_all_the_same():
    hollow = np.ones((12, 12, 12))
    hollow[4:8, 4:8, 4:8] = 0.5
    found = inspected(hollow)
    assert found.scale == 1
    assert found.placement.registered is None
