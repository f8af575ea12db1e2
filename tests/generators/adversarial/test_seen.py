"""What the discriminator sees, against shifts, mirrors and sums of NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from synthbench.generators.adversarial.seen import as_seen
from synthbench.generators.adversarial.settings import LSGANSettings

VOLUMES = torch.rand(2, 1, 8, 9, 10, generator=torch.Generator().manual_seed(0))
OFF = {"seen_shift": 0.0, "seen_mirror": False, "seen_brightness": 0.0}


def seen(draws, **changes):
    settings = LSGANSettings(steps=1, **{**OFF, **changes})
    return as_seen(VOLUMES, torch.tensor(draws), settings).numpy()


@pytest.mark.parametrize(("axis", "side"), [(0, 8), (1, 9), (2, 10)])
@pytest.mark.parametrize(("draw", "part"), [(0.0, -1), (0.5, 0), (0.999, 1)])
def test_shifts_are_whole_voxels_with_background_from_outside(axis, side, draw, part):
    """A quarter of a side, rounded, is the largest shift; the middle draw is no shift."""
    draws = [[0.5] * 5, [0.5] * 5]
    draws[0][axis] = draw
    found, shift = seen(draws, seen_shift=0.25), part * round(0.25 * side)
    moved = np.roll(VOLUMES[0, 0].numpy(), shift, axis)
    place = np.arange(side) - shift
    outside = np.flatnonzero((place < 0) | (place >= side))
    np.moveaxis(moved, axis, 0)[outside] = 0
    assert np.array_equal(found[0, 0], moved)
    assert np.array_equal(found[1], VOLUMES[1].numpy())


def test_half_are_mirrored_left_and_right():
    found = seen([[0.5] * 3 + [0.49, 0.5], [0.5] * 3 + [0.5, 0.5]], seen_mirror=True)
    assert np.array_equal(found[0, 0], VOLUMES[0, 0].numpy()[::-1])
    assert np.array_equal(found[1], VOLUMES[1].numpy())


def test_brightness_is_added_to_all_voxels():
    found = seen([[0.5] * 4 + [0.0], [0.5] * 4 + [0.75]], seen_brightness=0.2)
    assert np.allclose(found - VOLUMES.numpy(), [[[[[-0.2]]]], [[[[0.1]]]]], atol=1e-6)


def test_with_all_of_it_off_volumes_are_seen_as_they_are():
    assert np.array_equal(seen([[0.1] * 5] * 2), VOLUMES.numpy())


def test_gradients_pass_through_all_of_it():
    """A voxel that stays inside the grid has a gradient of one, one that leaves it of zero."""
    volumes = VOLUMES.clone().requires_grad_()
    draws = torch.tensor([[0.0, 0.5, 0.5, 0.1, 0.9]] * 2)
    total = as_seen(volumes, draws, LSGANSettings(steps=1, seen_shift=0.25)).sum()
    (gradient,) = torch.autograd.grad(total, volumes)
    expected = torch.ones(8, 9, 10)
    expected[:2] = 0  # shifted by -2
    assert torch.equal(gradient[0, 0], expected)
