"""Registration of the template to a whole head."""

from __future__ import annotations

import numpy as np
import pytest

from synthbench.cohorts.preparation.image import Image
from synthbench.cohorts.preparation.registration import brain_centre, search
from synthbench.errors import CohortError
from synthbench.volumes.grid import Space
from tests.cohorts.preparation.heads import COARSE, CUBE, ball

pytestmark = pytest.mark.slow


def test_a_neck_does_not_move_the_brains_centre():
    """A ball of radius 80 mm with a long thin neck: the guess stays within 15 mm of its middle."""
    volume = np.zeros((44, 44, 80), np.float32)
    volume[2:42, 2:42, 38:78] = ball(20)
    volume[17:27, 17:27, :40] = 1
    head = Image(volume, Space.of(volume.shape, np.diag([4.0, 4.0, 4.0, 1.0])))
    middle = 4 * np.array([21.5, 21.5, 57.5])
    assert np.abs(brain_centre(head) - middle).max() < 15


def test_the_pose_of_a_whole_head_is_recovered(template_head):
    """The template, turned by 12, 4 and 6 degrees, moved and stretched, with skull and neck.

    Points throughout the brain come out within 3 mm, one voxel of this scan, of where they are.
    """
    found = search(template_head.scan, COARSE.registration)
    points = np.array(
        [(x, y, z, 1) for x in (-40, 0, 40) for y in (-70, -18, 40) for z in (-30, 8, 50)]
    )
    apart = (found.matrix - template_head.pose) @ points.T
    assert np.linalg.norm(apart, axis=0).max() < 3
    assert found.correlation > 0.7


def test_what_is_no_head_is_refused():
    noise = np.random.default_rng(0).random((40, 40, 40)).astype(np.float32)
    with pytest.raises(CohortError, match="correlation with the MNI152 template is"):
        search(Image(noise, CUBE), COARSE.registration)
