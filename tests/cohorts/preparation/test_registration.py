"""Registration of the template to a whole head."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from synthbench.cohorts.preparation.image import Image
from synthbench.cohorts.preparation.placement import (
    Placement,
    candidates,
    placements,
    poses,
    rotation,
)
from synthbench.cohorts.preparation.registration import search
from synthbench.cohorts.preparation.template import template_t1
from synthbench.errors import CohortError
from synthbench.volumes.grid import Space
from tests.cohorts.preparation.heads import ALL_TURNS, COARSE, CUBE, SPACING, ball, scanned, turned

POINTS = np.array(
    [(x, y, z, 1) for x in (-40, 0, 40) for y in (-70, -18, 40) for z in (-30, 8, 50)]
)


def far_mm(found, pose):
    return np.linalg.norm((found.matrix - pose) @ POINTS.T, axis=0).max()


@pytest.mark.slow
def test_the_pose_of_a_whole_head_is_recovered(template_head):
    """The template, turned by 12, 4 and 6 degrees, moved and stretched, with skull and neck.

    Points throughout the brain come out within 3 mm, one voxel of this scan, of where they are.
    """
    found = search(template_head.scan, COARSE.registration)
    assert far_mm(found, template_head.pose) < 3
    assert found.correlation > 0.7


@pytest.mark.slow
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1)])
def test_a_head_turned_by_30_degrees_about_all_axes_is_found(signs):
    grid = template_t1().space.regrid(spacing=SPACING)
    pitch, roll, yaw = 30 * np.array(signs)
    head = scanned(
        Image(0.8 * template_t1().on(grid), grid), turned(pitch, roll, yaw, (15, -20, 25))
    )
    assert far_mm(search(head.scan, ALL_TURNS), head.pose) < 3


@pytest.mark.slow
def test_what_is_no_head_is_refused():
    noise = np.random.default_rng(0).random((40, 40, 40)).astype(np.float32)
    with pytest.raises(CohortError, match="correlation with the MNI152 template is"):
        search(Image(noise, CUBE), COARSE.registration)


@pytest.mark.parametrize("angles", list(itertools.product((-30, 10), repeat=3)))
def test_a_turn_is_about_x_then_y_then_z(angles):
    """SciPy's lower-case letters are turns about fixed axes, one after the other."""
    expected = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    assert np.allclose(rotation(*angles), expected)


def test_the_correlation_of_a_placement_is_that_of_the_voxels():
    """Fourier transforms give the correlation that numpy gives over the compared voxels.

    The scan is the pattern itself, shifted by whole voxels, with another scale and some noise.
    """
    rng = np.random.default_rng(3)
    space = Space.of((21, 21, 21), np.array(CENTRED))
    template = Image(rng.random(space.shape).astype(np.float32), space)
    compared = Image(ball(8, 21).astype(np.float32), space)
    shift = np.array([3, -2, 5])
    wide = Space.of((41, 41, 41), wide_matrix())
    volume = rng.random(wide.shape).astype(np.float32)
    first = 10 + shift
    part = tuple(slice(at, at + 21) for at in first)
    volume[part] = 2 * template.volume + 0.3 * rng.random(space.shape) + 1
    settings = COARSE.registration.model_copy(
        update={"pitches_deg": (0.0,), "rolls_deg": (0.0,), "yaws_deg": (0.0,), "scales": (1.0,)}
    )
    (found,) = placements(template, compared, Image(volume, wide), settings)
    inside = ball(8, 21)
    expected = np.corrcoef(template.volume[inside], volume[part][inside])[0, 1]
    assert found.correlation == pytest.approx(expected, abs=1e-6)
    assert found.middle_mm == pytest.approx(np.array([0, -18, 8]) + 12 * shift, abs=1e-4)


CENTRED = [[12, 0, 0, -120], [0, 12, 0, -138], [0, 0, 12, -112], [0, 0, 0, 1]]


def wide_matrix():
    matrix = np.array(CENTRED, dtype=float)
    matrix[:3, 3] -= 120
    return matrix


def test_candidates_differ_and_every_place_has_some():
    """Two placements that nearly agree are one; a second place is kept though it is worse."""
    there, far = np.zeros(3), np.array([100.0, 0, 0])
    turn = rotation(0, 0, 40)
    found = [
        Placement(0.9, np.eye(3), there),
        Placement(0.8, np.eye(3), there + 1),
        Placement(0.7, turn, there),
        Placement(0.6, np.eye(3), far),
    ]
    settings = COARSE.registration.model_copy(update={"places": 2, "candidates": 2})
    kept = [placement.correlation for placement in candidates(found, settings)]
    assert kept == [0.9, 0.7, 0.6]


def test_poses_differ_in_turn_or_place_whatever_their_sizes():
    there, far = np.zeros(3), np.array([100.0, 0, 0])
    turn = rotation(0, 0, 40)
    found = [
        Placement(0.9, np.eye(3), there),
        Placement(0.8, 0.7 * np.eye(3), there + 1),
        Placement(0.7, 0.8 * turn, there),
        Placement(0.6, 1.1 * np.eye(3), far),
        Placement(0.5, turn.T, far),
    ]
    settings = COARSE.registration.model_copy(update={"poses": 3})
    assert [placement.correlation for placement in poses(found, settings)] == [0.9, 0.7, 0.6]


@pytest.mark.slow
def test_the_scalp_is_not_taken_for_a_larger_brain(person):
    """With a head of usual size, coarse voxels alone end at 1.2 times the brain's size."""
    found = search(person.scan, COARSE.registration)
    assert found.correlation > 0.85
    assert 0.85 < np.cbrt(np.linalg.det(found.matrix[:3, :3])) < 0.95
