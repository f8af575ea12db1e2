from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from nilearn.image import resample_img

from synthbench.errors import UsageError
from synthbench.volumes.grid import Space, resample

MNI = Space((91, 109, 91), (2, 0, 0, -90, 0, 2, 0, -126, 0, 0, 2, -72, 0, 0, 0, 1))


def middle(space):
    return space.matrix[:3, :3] @ ((np.array(space.shape) - 1) / 2) + space.matrix[:3, 3]


def test_a_shape_alone_divides_the_field_of_view():
    """182 mm over 84 voxels are 2.1667 mm, 218 over 128 are 1.7031: the paper's resize."""
    space = MNI.regrid((84, 128, 84))
    assert space.spacing == pytest.approx((182 / 84, 218 / 128, 182 / 84), abs=1e-5)
    assert middle(space) == pytest.approx(middle(MNI), abs=1e-4)


def test_a_shape_and_a_spacing_crop_around_a_centre():
    space = MNI.regrid((44, 52, 44), 4.0, (0.0, -17.0, 7.0))
    assert space.spacing == (4, 4, 4)
    assert middle(space) == pytest.approx((0, -17, 7))


def test_a_spacing_alone_covers_the_field_of_view():
    """182 / 4 = 45.5, so 46 voxels; 218 / 4 = 54.5, so 55."""
    assert MNI.regrid(spacing=4.0).shape == (46, 55, 46)


@pytest.mark.parametrize("offset", [0.0, 0.4, 1.0, -0.9])
def test_a_grid_of_the_same_voxel_size_can_crop_by_whole_voxels(offset):
    """91 voxels have their middle in a voxel, 44 between two. Moved by half a voxel at most."""
    volume = np.random.default_rng(0).random(MNI.shape, dtype=np.float32)
    beside = MNI.regrid((44, 53, 44), 2.0, (1.0 + offset, -17.0, 7.0))
    crop = beside.on_voxels_of(MNI)
    moved = np.subtract(middle(crop), middle(beside))
    assert np.abs(moved).max() <= 1.0
    x, y, z = np.round((crop.matrix[:3, 3] - MNI.matrix[:3, 3]) / 2).astype(int)
    expected = volume[x : x + 44, y : y + 53, z : z + 44]
    assert np.array_equal(resample(volume, MNI, crop), expected)
    assert not np.array_equal(resample(volume, MNI, beside), expected)


def test_a_grid_of_another_voxel_size_or_of_other_axes_stays():
    for other in (MNI.regrid(spacing=4.0), Space.of(MNI.shape, MNI.matrix[:, [1, 0, 2, 3]])):
        assert other.on_voxels_of(MNI) == other


@pytest.mark.parametrize(("shape", "spacing"), [((0, 4, 4), None), (None, -1.0), ((4, 4), None)])
def test_impossible_grids_are_refused(shape, spacing):
    with pytest.raises(UsageError, match=r"shape|spacing"):
        MNI.regrid(shape, spacing)


def test_same_grid_tolerates_a_hundredth_of_a_millimetre_at_any_corner():
    moved = MNI.matrix.copy()
    moved[0, 3] += 0.009
    assert MNI.same_grid(Space.of(MNI.shape, moved))
    moved[0, 3] += 0.01
    assert not MNI.same_grid(Space.of(MNI.shape, moved))


def test_resampling_to_a_finer_grid_agrees_with_nilearn():
    """Without coarsening there is no blur, so linear interpolation is all there is."""
    rng = np.random.default_rng(0)
    source = Space.of((12, 13, 14), np.diag([3.0, 3, 3, 1]))
    target = Space.of((20, 21, 22), np.diag([1.5, 1.5, 1.5, 1]))
    volume = rng.random(source.shape, dtype=np.float32)
    other = resample_img(
        nib.Nifti1Image(volume, source.matrix), target.matrix, target.shape,
        interpolation="linear", force_resample=True, copy_header=True,
    )  # fmt: skip
    inside = np.s_[:18, :18, :18]  # outside the source, nilearn extrapolates differently
    ours = resample(volume, source, target)
    assert np.allclose(ours[inside], other.get_fdata()[inside], atol=1e-5)


def test_coarser_resampling_is_antialiased_and_does_not_overshoot():
    """A checkerboard of period two averages to a half everywhere once voxels are four times larger.

    Sampled without a blur it would come out as zeros and ones.
    """
    source = Space.of((64, 64, 64), np.eye(4) + 0)
    board = (np.indices(source.shape).sum(axis=0) % 2).astype(np.float32)
    coarse = resample(board, source, source.regrid(spacing=4.0))
    assert coarse[2:-2, 2:-2, 2:-2] == pytest.approx(0.5, abs=0.02)
    assert coarse.min() >= 0
    assert coarse.max() <= 1


def test_the_same_grid_returns_the_volume_untouched():
    volume = np.random.default_rng(0).random(MNI.shape, dtype=np.float32)
    assert resample(volume, MNI, MNI) is volume


@pytest.mark.parametrize(
    ("choice", "words"),
    [({"spacing": 1e-4}, r"1.81e\+06 x 2.17e\+06"), ({"shape": (10**5,) * 3}, "100000 x 100000"),
     ({"spacing": 5e-324}, "inf"), ({"shape": (10**5,) * 3, "spacing": 1.0}, "100000 x")],
)  # fmt: skip
def test_a_grid_beyond_the_limit_of_memory_is_refused(choice, words, monkeypatch):
    monkeypatch.setenv("SYNTHBENCH_MAX_MEMORY", "1GiB")
    space = Space.of((181, 217, 181), np.eye(4))
    with pytest.raises(UsageError, match=rf"{words}.*--max-memory"):
        space.regrid(**choice)
    assert space.regrid(spacing=0.5).shape == (362, 434, 362)


@pytest.mark.parametrize(
    ("shape", "scale", "words"),
    [((10**5, 10**5, 10**5), 1.0, "--max-memory"), ((9, 0, 9), 1.0, "each axis needs one"),
     ((9, 9, 9), 2e4, "its voxels are too large")],
)  # fmt: skip
def test_a_target_that_no_volume_can_be_brought_to_is_refused(shape, scale, words):
    """As the protocol of a benchmark may state it; nothing is allocated."""
    volume = np.zeros(MNI.shape, np.float32)
    target = Space.of(shape, np.diag([scale, scale, scale, 1.0]))
    with pytest.raises(UsageError, match=words):
        resample(volume, MNI, target)
