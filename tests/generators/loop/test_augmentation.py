"""Mirrors and affines of training volumes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import ndimage
from scipy.spatial.transform import Rotation

from synthbench.generators.loop.augmentation import (
    AugmentationSettings,
    augment,
    mirror,
    random_affine,
    resample,
    rotation,
)


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def volumes(n=2, shape=(12, 14, 10)):
    """Random tissue with a background of zeros two voxels wide."""
    inside = torch.zeros(shape)
    inside[2:-2, 2:-2, 2:-2] = 1
    return torch.rand(n, 1, *shape, generator=torch.Generator().manual_seed(0)) * inside


def smooth(shape=(32, 32, 32)):
    """A product of cosines of long wavelength, on a zero background."""
    axes = np.meshgrid(*[np.linspace(-1, 1, s) for s in shape], indexing="ij")
    waves = 0.5 + 0.4 * np.prod([np.cos(2 * a + 0.3) for a in axes], axis=0)
    ball = np.sqrt(sum(a**2 for a in axes)) < 0.9
    return torch.from_numpy((waves * ball).astype(np.float32))[None, None]


def test_off_changes_and_draws_nothing():
    volume, (draws,) = volumes(1), generators(3)
    before = draws.get_state()
    assert augment(volume, AugmentationSettings(), [draws]) is volume
    assert torch.equal(draws.get_state(), before)


def test_a_mirror_swaps_the_first_axis_and_nothing_else():
    """Spaces are RAS+, so voxel i of the first axis lies as far left as n - 1 - i lies right."""
    volume = volumes()
    assert np.array_equal(mirror(volume).numpy(), volume.numpy()[:, :, ::-1])
    assert torch.equal(mirror(mirror(volume)), volume)


def test_half_of_the_volumes_are_mirrored():
    """Of 400 fair draws 200 are expected, with a standard deviation of 10: five of them allowed."""
    volume = volumes(1)
    settings = AugmentationSettings(flip=True)
    flipped = 0
    for seed in range(400):
        changed = augment(volume, settings, generators(seed))
        flipped += int(torch.equal(changed, mirror(volume)))
        assert torch.equal(changed, volume) or torch.equal(changed, mirror(volume))
    assert abs(flipped - 200) < 50


@pytest.mark.parametrize("settings", [{"flip": True}, {"affine": 5}, {"flip": True, "affine": 5}])
def test_a_volume_depends_on_its_own_generator_alone(settings):
    """The same bytes alone, in a batch, and in a batch in another order."""
    chosen = AugmentationSettings(**settings)
    volume = volumes(3)
    together = augment(volume, chosen, generators(1, 2, 3))
    for i in range(3):
        alone = augment(volume[i : i + 1], chosen, generators(i + 1))
        assert torch.equal(alone[0], together[i])
    order = [2, 0, 1]
    shuffled = augment(volume[order], chosen, generators(3, 1, 2))
    assert torch.equal(shuffled, together[order])


def test_background_stays_zero_and_intensities_stay_in_range():
    """Where all eight neighbours of the place that is read are zero, or outside, so is the result.

    A volume of ones has the largest sum of weights: rounding must not carry it above one.
    """
    chosen = AugmentationSettings(flip=True, affine=10)
    empty = augment(torch.zeros(1, 1, 8, 8, 8), chosen, generators(0))
    assert torch.equal(empty, torch.zeros(1, 1, 8, 8, 8))
    full = augment(torch.ones(8, 1, 9, 11, 13), chosen, generators(*range(8)))
    assert full.min() >= 0
    assert full.max() <= 1
    assert full.dtype == torch.float32
    moved = augment(volumes(8), chosen, generators(*range(8)))
    assert (moved == 0).any(dim=(1, 2, 3, 4)).all()


def test_a_rotation_is_scipys():
    vector = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64)
    assert np.allclose(rotation(vector).numpy(), Rotation.from_rotvec(vector.numpy()).as_matrix())


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (4.0, 3.0, 5.0)])
def test_resampling_is_scipys(spacing):
    """`ndimage.affine_transform` of order 1 reads input at A i + b in voxel indices.

    With voxel size S, centre c and x = S (i - c): A = S^-1 M S and b = c + S^-1 t - A c.
    Outside the grid both have zeros, but scipy's ("constant") only beyond the outermost voxel
    centres, where ours still fades: the grid's border is left out.
    """
    volume = volumes(1)
    affine = random_affine(8, [n * s for n, s in zip((12, 14, 10), spacing, strict=True)],
                           generators(5)[0])  # fmt: skip
    size = np.diag(spacing)
    linear = np.linalg.inv(size) @ affine[:, :3].numpy() @ size
    centre = (np.array([12, 14, 10]) - 1) / 2
    offset = centre + np.linalg.inv(size) @ affine[:, 3].numpy() - linear @ centre
    expected = ndimage.affine_transform(volume[0, 0].double().numpy(), linear, offset, order=1)
    found = resample(volume, affine, spacing)[0, 0].numpy()
    assert np.allclose(found, expected, atol=1e-5)


def test_an_inverse_rotation_recovers_the_interior():
    """Interpolating linearly errs by at most h^2/8 times the sum of the second derivatives.

    A cosine of 2 x over 32 voxels from -1 to 1 has second derivatives of at most
    0.4 * (2 * 2/31)^2 = 0.0067 a voxel^2 along each axis, so 3 * 0.0067 / 8 = 0.0025; there and
    back is twice that, 0.005.
    """
    volume = smooth()
    turn = rotation(torch.tensor([0.1, -0.05, 0.15], dtype=torch.float64))
    still = torch.zeros(3, 1, dtype=torch.float64)
    there = resample(volume, torch.cat([turn, still], dim=1))
    back = resample(there, torch.cat([turn.T, still], dim=1))
    axes = torch.meshgrid(*[torch.linspace(-1, 1, 32)] * 3, indexing="ij")
    inside = torch.stack([a.square() for a in axes]).sum(0).sqrt() < 0.7
    assert (back - volume)[0, 0][inside].abs().max() <= 0.005
    assert (there - volume)[0, 0][inside].abs().max() > 0.02


@pytest.mark.parametrize("limit", [1.0, 10.0])
def test_no_point_moves_further_than_promised(limit):
    """A point at distance r moves by at most |sR - I| r + |t|, where R turns by at most a.

    sR - I has singular values |s e^(ia) - 1| (twice) and |s - 1|: the larger is
    sqrt((s - 1)^2 + 4 s sin^2(a/2)), growing in a, and largest in s at s = e^(A/100).
    The shift is at most A/200 of each side.
    """
    sides = [180.0, 210.0, 160.0]
    corner = torch.tensor(sides, dtype=torch.float64) / 2
    radius, scale = float(corner.norm()), math.exp(limit / 100)
    angle = math.radians(limit)
    stretch = math.sqrt((scale - 1) ** 2 + 4 * scale * math.sin(angle / 2) ** 2)
    bound = stretch * radius + limit / 200 * math.hypot(*sides)
    moved = []
    for seed in range(200):
        affine = random_affine(limit, sides, generators(seed)[0])
        moved.append(float((affine[:, :3] @ corner + affine[:, 3] - corner).norm()))
    assert max(moved) <= bound
    assert max(moved) > bound / 3


def test_turns_scales_and_shifts_keep_their_own_bounds():
    """Uniform on [-A, A]: of 300 draws, the largest is below 0.9 A with probability 0.9^300."""
    sides = [100.0, 120.0, 80.0]
    turns, scales, shifts = [], [], []
    for seed in range(300):
        affine = random_affine(6, sides, generators(seed)[0]).numpy()
        scale = np.cbrt(np.linalg.det(affine[:, :3]))
        turns.append(np.degrees(Rotation.from_matrix(affine[:, :3] / scale).magnitude()))
        scales.append(abs(np.log(scale)))
        shifts.append(np.abs(affine[:, 3]) / sides)
    for found, limit in ((turns, 6), (scales, 0.06), (shifts, 0.03)):
        assert 0.9 * limit < np.max(found) <= limit * (1 + 1e-9)


def test_a_turn_is_rigid_on_voxels_of_unequal_sides():
    """Turned by 90 degrees about the third axis, x becomes y in millimetres, not in voxels.

    The field of view is 16 mm a side: 16 x 8 x 4 voxels of 1 x 2 x 4 mm. A slab x < 0 must become
    a slab in y. The reading place of output (x, y) is R (x, y) = (-y, x): filled where y > 0.
    """
    volume = torch.zeros(1, 1, 16, 8, 4)
    volume[:, :, :8] = 1
    turn = rotation(torch.tensor([0, 0, math.pi / 2], dtype=torch.float64))
    still = torch.zeros(3, 1, dtype=torch.float64)
    turned = resample(volume, torch.cat([turn, still], dim=1), (1.0, 2.0, 4.0))[0, 0]
    expected = torch.zeros(16, 8, 4)
    expected[:, 4:] = 1
    assert torch.allclose(turned[1:-1], expected[1:-1], atol=1e-5)


def test_impossible_settings_are_refused():
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        AugmentationSettings(affine=-1)
    with pytest.raises(ValueError, match="zip"):
        augment(volumes(2), AugmentationSettings(flip=True), generators(1))
