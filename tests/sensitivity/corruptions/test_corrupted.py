"""Corruptions: their doses mean what they say, and what they must not touch stays as it was."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from synthbench.errors import UsageError
from synthbench.sensitivity.corruptions.base import SetCorruption, VolumeCorruption
from synthbench.sensitivity.corruptions.corrupted import CORRUPTIONS, Corrupted, corruption
from synthbench.sensitivity.corruptions.of_volumes import (
    add_noise,
    blur,
    enlarge_ventricles,
    head,
    misalign_slices,
    resample_displaced,
    shade,
    shift,
    warp_displacement,
)
from synthbench.volumes.grid import Space
from synthbench.volumes.intensity import to_unit
from tests.conftest import blob

SHAPE = (24, 24, 24)
SPACE = Space.of(SHAPE, np.array([[6.0, 0, 0, -69], [0, 6, 0, -87], [0, 0, 6, -51], [0, 0, 0, 1]]))
MILLIMETRE = (1.0, 1.0, 1.0)
VOLUME_CORRUPTIONS = [n for n, c in CORRUPTIONS.items() if isinstance(c, VolumeCorruption)]
IN_PLACE = ["blur", "noise", "gamma", "bias"]


class Listed:
    """A list of volumes on a grid."""

    def __init__(self, volumes, space=SPACE):
        self.volumes, self.space = volumes, space

    def __len__(self):
        return len(self.volumes)

    def __getitem__(self, index):
        return self.volumes[index]


def blobs(n=10, seed=0):
    return Listed([ndimage.gaussian_filter(blob(seed + i), 0.7) * (blob(seed + i) > 0)
                   for i in range(n)])  # fmt: skip


def flat_head(side=41, value=0.5):
    volume = np.zeros((side + 8,) * 3, np.float32)
    volume[4:-4, 4:-4, 4:-4] = value
    return volume


# --- the list -----------------------------------------------------------------------------------


def test_the_list_is_complete_and_in_order():
    assert set(CORRUPTIONS) == {
        "blur", "noise", "background", "gamma", "bias", "shift", "flip", "warp", "slices",
        "ventricles", "modes", "duplicates", "copies",
    }  # fmt: skip
    for name, entry in CORRUPTIONS.items():
        assert entry.name == name
        assert entry.doses[0] > 0
        assert all(np.diff(entry.doses) > 0)
        assert "2.5" in entry.sentence(2.5)


def test_a_wrong_name_suggests_the_right_one():
    with pytest.raises(UsageError, match="did you mean 'noise'"):
        corruption("noisy")
    assert corruption("blur") is CORRUPTIONS["blur"]


# --- every corruption ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_dose_zero_changes_no_bit(name):
    volumes = blobs(4)
    undamaged = Corrupted(volumes, CORRUPTIONS[name], 0, seed=1, training=blobs(4, 100))
    assert len(undamaged) == 4
    for before, after in zip(volumes.volumes, undamaged, strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.slow
@pytest.mark.parametrize("intensity", ["unit", "percentile"])
@pytest.mark.parametrize("name", VOLUME_CORRUPTIONS)
def test_damaged_volumes_are_volumes(name, intensity):
    """float32 in [0, 1]; the middle dose changes something; background stays zero in place."""
    volumes = blobs(1)
    entry = CORRUPTIONS[name]
    for dose in (entry.doses[0], entry.doses[2], entry.doses[-1]):
        damaged = Corrupted(volumes, entry, dose, seed=1, intensity=intensity)[0]
        assert damaged.dtype == np.float32
        assert damaged.shape == SHAPE
        assert 0 <= damaged.min() < damaged.max() <= 1
        assert not np.array_equal(damaged, volumes[0])
        if name in IN_PLACE:
            assert not damaged[~head(volumes[0])].any()


@pytest.mark.slow
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_same_seed_is_the_same_damage(name):
    """Whatever was read before, and in whatever order; another seed is other damage."""
    volumes, training = blobs(10), blobs(10, 100)
    entry = CORRUPTIONS[name]

    def damaged(seed):
        return Corrupted(volumes, entry, entry.doses[2], seed, training)

    forwards = list(damaged(3))
    np.testing.assert_array_equal(damaged(3)[-1], forwards[-1])
    np.testing.assert_array_equal(damaged(3)[1], forwards[1])
    if name not in ("blur", "gamma", "ventricles", "modes"):
        others = damaged(4)
        assert any(not np.array_equal(a, others[i]) for i, a in enumerate(forwards))


def test_percentile_scales_anew_as_reading_a_file_does():
    """The power of 1.4, then the rule of the space; "unit" leaves the power as it is."""
    volumes = blobs(1)
    power = volumes[0] ** np.float32(1.4)
    unit = Corrupted(volumes, CORRUPTIONS["gamma"], 40, seed=0)[0]
    scaled = Corrupted(volumes, CORRUPTIONS["gamma"], 40, seed=0, intensity="percentile")[0]
    np.testing.assert_allclose(unit, power, rtol=1e-6)
    np.testing.assert_allclose(scaled, to_unit(power, "percentile", "v"), rtol=1e-6)


# --- intensities --------------------------------------------------------------------------------


def test_background_noise_is_half_a_normal_law_around_an_untouched_head():
    """Half of the voxels are cut off; the others have the root mean square of the law, its sd."""
    volumes = blobs(1)
    inside = head(volumes[0])
    damaged = Corrupted(volumes, CORRUPTIONS["background"], 2, seed=4)[0]
    np.testing.assert_array_equal(damaged[inside], volumes[0][inside])
    around = damaged[~inside].astype(np.float64)
    kept = around[around > 0]
    n = around.size
    assert len(kept) / n == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(n))
    assert np.sqrt((kept**2).mean()) == pytest.approx(0.02, rel=4 / np.sqrt(n))


def test_blur_has_the_stated_width():
    """Of a point on a flat ground, the value half a FWHM away is half of the peak.

    12 mm is 6, 3 and 2 voxels to each side at 1, 2 and 3 mm.
    """
    volume = flat_head()
    volume[24, 24, 24] = 1
    ground = blur(volume, 12, (1.0, 2.0, 3.0)) - np.float32(0.5) * head(volume)
    peak = ground[24, 24, 24]
    for place in ((30, 24, 24), (24, 27, 24), (24, 24, 26)):
        assert ground[place] / peak == pytest.approx(0.5, abs=0.01)


def test_blur_below_a_voxel_lowers_the_finest_detail_as_it_should():
    """A wave of 2 voxels (f = 1/2) is multiplied by exp(-2 pi^2 sigma^2 f^2)."""
    volume = flat_head()
    wave = np.where(np.arange(49) % 2, 0.1, -0.1).astype(np.float32)
    volume += wave[:, None, None] * (volume > 0)
    sigma = 0.5 / np.sqrt(8 * np.log(2))
    expected = 0.5 + 0.1 * np.exp(-(np.pi**2) * sigma**2 / 2) * np.sign(wave)
    blurred = blur(volume, 0.5, MILLIMETRE)
    np.testing.assert_allclose(blurred[16:33, 24, 24], expected[16:33], atol=5e-4)


def test_blur_does_not_darken_the_rim():
    volume = flat_head(21)
    np.testing.assert_allclose(blur(volume, 5, MILLIMETRE), volume, atol=1e-5)


def test_noise_has_the_stated_sd_inside_the_head():
    """Where the signal is 25 sd, Rician noise is Gaussian: sd as stated, mean s + sd^2 / 2s."""
    volume = flat_head()
    noisy = add_noise(volume, 0.02, np.random.default_rng(0))
    inside = noisy[volume > 0].astype(np.float64)
    assert inside.std() == pytest.approx(0.02, rel=0.02)  # se of an sd of 69,000: 0.3%
    assert inside.mean() == pytest.approx(0.5 + 0.02**2 / 1.0, abs=4 * 0.02 / 41**1.5)
    assert not noisy[volume == 0].any()


def test_the_bias_field_has_the_stated_peak_to_peak():
    volume = np.zeros(SHAPE, np.float32)
    volume[4:20, 4:20, 4:20] = 0.4
    factor = shade(volume, 0.3, SPACE, np.random.default_rng(0))[volume > 0] / 0.4
    assert factor.min() == pytest.approx(0.85, abs=1e-5)
    assert factor.max() == pytest.approx(1.15, abs=1e-5)


# --- places -------------------------------------------------------------------------------------


def test_a_shift_by_whole_voxels_is_a_roll():
    volume = blob(0)
    moved = shift(volume, np.array([4.0, -8.0, 0.0]), (4.0, 4.0, 4.0))
    np.testing.assert_allclose(moved, np.roll(volume, (1, -2, 0), axis=(0, 1, 2)), atol=1e-5)


def test_what_leaves_one_side_does_not_enter_on_the_other():
    volume = np.zeros((16, 16, 16), np.float32)
    volume[:3] = 0.5
    moved = shift(volume, np.array([-2.0, 0, 0]), MILLIMETRE)
    np.testing.assert_allclose(moved[0], 0.5, atol=1e-5)
    assert not moved[1:].any()


def gaussian_at(centre, shape=(40, 40, 40), sigma=4.0):
    """A Gaussian, which has no detail finer than a voxel, cut off where it is 0.1% of its peak."""
    square = sum((i - c) ** 2 for i, c in zip(np.indices(shape), centre, strict=True))
    values = np.exp(-square / (2 * sigma**2))
    return np.where(values > 1e-3, values, 0).astype(np.float32)


def test_a_shift_by_part_of_a_voxel_blurs_nothing():
    """A shifted Gaussian is the Gaussian about the shifted centre."""
    moved = shift(gaussian_at((20, 20, 20)), np.array([0.5, 1.3, -0.7]), MILLIMETRE)
    np.testing.assert_allclose(moved, gaussian_at((20.5, 21.3, 19.3)), atol=2e-3)


def test_shifts_of_any_dose_go_the_same_way_and_as_far_as_stated():
    volumes = Listed([gaussian_at((20, 20, 20))], Space.of((40, 40, 40), np.diag([2, 2, 2, 1])))
    offsets = []
    for dose in (2, 8):
        moved = Corrupted(volumes, CORRUPTIONS["shift"], dose, seed=5)[0]
        offsets.append(2 * (np.array(ndimage.center_of_mass(moved)) - 20))
        assert np.linalg.norm(offsets[-1]) == pytest.approx(dose, rel=0.01)
    np.testing.assert_allclose(offsets[1], 4 * offsets[0], atol=0.05)


def test_slices_move_within_their_plane_by_the_stated_sd():
    """A column of 200 equal discs: sd of each slice's centre, in mm, and its content is kept."""
    disc = gaussian_at((20, 20), (40, 40))
    column = np.repeat(disc[:, :, None], 200, axis=2)
    moved = misalign_slices(column, 2.0, (1.0, 2.0, 1.0), np.random.default_rng(0))
    np.testing.assert_allclose(moved.sum(axis=(0, 1)), disc.sum(), rtol=1e-2)
    centres = np.array([ndimage.center_of_mass(moved[:, :, k]) for k in range(200)])
    # The standard error of an sd of 200 draws is 5%.
    np.testing.assert_allclose(centres.std(axis=0) * [1, 2], 2.0, rtol=0.15)


def test_a_warp_has_the_stated_rms_no_shift_and_no_fold():
    """Over the head; a fold is where the Jacobian determinant of x + u(x) is not positive."""
    inside = head(blob(0))
    u = warp_displacement(inside, 5.0, SPACE, np.random.default_rng(0)) * 6
    within = u[:, inside]
    assert np.sqrt((within**2).sum(axis=0).mean()) == pytest.approx(5.0)
    np.testing.assert_allclose(within.mean(axis=1), 0, atol=1e-9)
    gradient = np.stack([np.stack(np.gradient(c, 6.0)) for c in u])
    jacobian = np.moveaxis(gradient, (0, 1), (-2, -1)) + np.eye(3)
    assert np.linalg.det(jacobian)[inside].min() > 0.2


def test_no_displacement_is_the_identity():
    volume = blob(0)
    np.testing.assert_allclose(resample_displaced(volume, np.zeros((3, *SHAPE))), volume, atol=1e-5)


@pytest.mark.slow
def test_ventricles_grow_by_the_stated_share():
    """The template's ventricle map, read at the displaced places, holds that much more."""
    from synthbench.sensitivity.corruptions.of_volumes import _ventricle_displacement
    from synthbench.simulation.deformation import box_affine
    from synthbench.simulation.template import TISSUE, antialiased_maps

    shape = (60, 72, 60)
    space = Space.of(shape, box_affine(shape))
    ventricles = antialiased_maps(shape)[TISSUE.ventricle].numpy()
    on_grid = ndimage.map_coordinates(
        ventricles, _template_voxels(space, ventricles.shape), order=1
    )
    for percent in (25, 100):
        places = np.indices(shape) + _ventricle_displacement(percent, space)
        grown = ndimage.map_coordinates(on_grid, places, order=1)
        assert grown.sum() / on_grid.sum() == pytest.approx(1 + percent / 100, rel=0.04)


def _template_voxels(space, shape):
    """Where in the 1 mm template each voxel lies."""
    from synthbench.simulation.deformation import box_affine

    mapping = np.linalg.inv(box_affine(shape)) @ space.matrix
    voxels = np.indices(space.shape).reshape(3, -1)
    return (mapping[:3, :3] @ voxels + mapping[:3, 3:]).reshape(3, *space.shape)


def test_ventricles_have_a_limit():
    with pytest.raises(UsageError, match=r"up to 3\d\d% larger; found 900%"):
        enlarge_ventricles(blob(0), 900, SPACE)


# --- sets ---------------------------------------------------------------------------------------


def test_the_stated_share_is_mirrored_and_stays_so():
    volumes = blobs(8)
    mirrored = {}
    for dose in (25, 50, 100):
        flipped = Corrupted(volumes, CORRUPTIONS["flip"], dose, seed=2)
        mirrored[dose] = {i for i, p in enumerate(flipped.picks) if p.mirrored}
        assert len(mirrored[dose]) == 8 * dose / 100
        for i in range(8):
            expected = volumes[i][::-1] if i in mirrored[dose] else volumes[i]
            np.testing.assert_array_equal(flipped[i], expected)
    assert mirrored[25] < mirrored[50]


def test_duplicates_leave_as_many_distinct_volumes_as_stated():
    """40% of 10: four places hold copies, so six distinct volumes remain, each in its place."""
    copied = Corrupted(blobs(10), CORRUPTIONS["duplicates"], 40, seed=2)
    indices = [p.index for p in copied.picks]
    assert len(copied) == 10
    assert sum(i == place for place, i in enumerate(indices)) == 6
    assert len(set(indices)) == 6


def test_training_copies_are_different_training_volumes():
    volumes, training = blobs(10), blobs(4, seed=100)
    copied = Corrupted(volumes, CORRUPTIONS["copies"], 40, seed=2, training=training)
    places = [i for i, p in enumerate(copied.picks) if p.training]
    assert len(copied) == 10
    assert len(places) == 4
    assert {copied.picks[i].index for i in places} == {0, 1, 2, 3}
    np.testing.assert_array_equal(copied[places[0]], training[copied.picks[places[0]].index])


def test_the_least_typical_volumes_are_dropped_first():
    """Of flat heads at 0.50 to 0.56, 0.3 and 0.9, the medoid is near 0.53: 0.9, then 0.3, go."""
    values = [0.9, 0.5, 0.51, 0.52, 0.53, 0.3, 0.54, 0.55, 0.56, 0.535]
    volumes = Listed([np.full(SHAPE, v, np.float32) * head(blob(0)) for v in values])
    for dose, dropped in ((10, {0}), (20, {0, 5})):
        kept = Corrupted(volumes, CORRUPTIONS["modes"], dose, seed=0)
        assert len(kept) == 10 - len(dropped)
        assert {p.index for p in kept.picks} == set(range(10)) - dropped


def test_a_small_share_is_one_volume_at_least():
    assert sum(p.mirrored for p in Corrupted(blobs(4), CORRUPTIONS["flip"], 1, 0).picks) == 1


@pytest.mark.parametrize(
    ("name", "dose", "n", "training", "message"),
    [
        ("blur", -1, 3, None, "0 mm .FWHM. or more; found -1"),
        ("blur", np.nan, 3, None, "found nan"),
        ("copies", 20, 3, None, "there are none"),
        ("copies", 100, 3, 2, "3 training volumes; found 2"),
        ("duplicates", 100, 3, None, "leaves none to copy"),
        ("modes", 60, 3, None, "leaves 1; 2 are needed"),
        ("flip", 120, 3, None, "at most 100%"),
    ],
)
def test_what_cannot_be_done_is_said(name, dose, n, training, message):
    others = None if training is None else blobs(training)
    with pytest.raises(UsageError, match=message):
        len(Corrupted(blobs(n), CORRUPTIONS[name], dose, seed=0, training=others))


def test_training_volumes_on_another_grid_are_refused():
    moved = Listed(blobs(2).volumes, Space.of(SHAPE, np.diag([6.0, 6, 6, 1])))
    with pytest.raises(UsageError, match="must lie on the set's grid"):
        Corrupted(blobs(2), CORRUPTIONS["copies"], 50, seed=0, training=moved)


def test_a_negative_seed_is_refused():
    with pytest.raises(UsageError, match="seed must be 0 or more"):
        Corrupted(blobs(2), CORRUPTIONS["blur"], 1, seed=-1)


def test_only_set_corruptions_choose():
    assert {n for n, c in CORRUPTIONS.items() if isinstance(c, SetCorruption)} == {
        "flip", "modes", "duplicates", "copies",
    }  # fmt: skip
