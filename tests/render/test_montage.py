from __future__ import annotations

import matplotlib.image
import numpy as np

from synthbench.render.montage import montage, planes
from synthbench.volumes.grid import Space

SPACE = Space.of((20, 30, 10), np.diag([2.0, 1.0, 4.0, 1.0]))


def test_planes_are_upright():
    """A bright voxel in front, on top and to the right lies up, or right, where it should.

    Images are drawn from the top row down, so the front and the top of the head come first.
    """
    volume = np.zeros(SPACE.shape, np.float32)
    volume[11, 15:, 5] = 1
    axial, coronal, sagittal = planes(volume, SPACE)
    assert axial.shape == (30, 20)
    assert axial[:15].sum() == 15
    assert axial[15:].sum() == 0
    assert coronal.shape == (10, 20)
    assert sagittal.shape == (10, 30)
    assert sagittal[:, 15:].sum() == 15


def test_the_smallest_grid_has_planes():
    space = Space.of((1, 2, 3), np.eye(4))
    shapes = [plane.shape for plane in planes(np.zeros(space.shape, np.float32), space)]
    assert shapes == [(2, 1), (3, 1), (3, 2)]


def test_a_montage_is_the_same_bytes_twice(tmp_path):
    dim, bright = (np.full(SPACE.shape, value, np.float32) for value in (0.3, 1.0))
    rows = {"real": [dim, dim], "synth": [bright]}
    for name in ("a", "b"):
        montage(rows, SPACE, tmp_path / f"{name}.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    picture = matplotlib.image.imread(tmp_path / "a.png")
    assert picture.max() > 0.9
