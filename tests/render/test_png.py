"""Pictures of volumes: decoded by Pillow, they are the volumes."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from synthbench.render.png import (
    LONGEST_SIDES,
    display_grid,
    picture,
    png,
    three_planes,
    within_budget,
)
from synthbench.volumes.grid import Space

SPACE = Space.of((6, 5, 7), np.diag([2.0, 2.0, 2.0, 1.0]))


def decoded(uri):
    assert uri.startswith("data:image/png;base64,")
    return np.array(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))


@pytest.fixture
def volume():
    return np.random.default_rng(0).random((6, 5, 7)).astype(np.float32)


def test_png_keeps_every_level():
    image = np.arange(256, dtype=np.uint8).reshape(8, 32)
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(png(image)))), image)


def test_the_mosaic_holds_every_axial_slice(volume):
    """Slice z is tile (z // 3, z % 3): x to the right, y upwards."""
    shown = picture(volume, SPACE)
    sheet = decoded(shown.mosaic)
    assert (shown.columns, sheet.shape) == (3, (3 * 5, 3 * 6))
    for z in range(7):
        row, column = divmod(z, 3)
        tile = sheet[5 * row : 5 * row + 5, 6 * column : 6 * column + 6]
        np.testing.assert_array_equal(tile, np.round(volume[:, ::-1, z].T * 255))


def test_the_still_has_three_planes_side_by_side(volume):
    """Axial 6 x 5, coronal 6 x 7, sagittal 5 x 7, of which the lower is centred."""
    still = decoded(picture(volume, SPACE).still)
    assert still.shape == (7, 6 + 6 + 5)
    np.testing.assert_array_equal(still[:, 6:12], np.round(volume[:, 2, ::-1].T * 255))
    np.testing.assert_array_equal(still[1:6, :6], np.round(volume[:, ::-1, 3].T * 255))
    assert not still[[0, 6], :6].any()


def test_beside_low_slices_lies_the_level_that_is_asked_for(volume):
    assert (three_planes(volume, SPACE, beside=128)[[0, 6], :6] == 128).all()


def test_pictures_have_isotropic_voxels_and_a_longest_side():
    fine = Space.of((100, 200, 50), np.diag([1.0, 1.0, 2.0, 1.0]))
    grid = display_grid(fine, 80)
    np.testing.assert_allclose(grid.spacing, 2.5)
    assert max(grid.shape) == 80
    assert display_grid(SPACE, 80).same_grid(SPACE)


def test_a_budget_picks_the_finest_grid_that_fits():
    space = Space.of((50, 60, 50), np.diag([1.0, 1.0, 1.0, 1.0]))
    volume = np.random.default_rng(0).random(space.shape).astype(np.float32)
    (whole,) = within_budget([volume], space, budget=10**9)
    assert whole.shape == (50, 60, 50)
    (less,) = within_budget([volume], space, budget=whole.cost - 1)
    assert max(less.shape) == max(side for side in LONGEST_SIDES if side < 60)
    assert less.cost < whole.cost
