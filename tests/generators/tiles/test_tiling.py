"""Tiling: every slice at its place, and an inverse that is exact on any grid."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from synthbench.errors import UsageError
from synthbench.generators.tiles.tiling import composites, tiling_of, volumes_of


def random_tilings(n):
    """Settings of tilings: shapes, axes, grids, orders, margins and units at random."""
    rng = np.random.default_rng(0)
    for _ in range(n):
        shape = tuple(int(side) for side in rng.integers(1, 9, 3))
        axis = int(rng.integers(3))
        rows = int(rng.integers(1, shape[axis] + 2))
        grid = (rows, -(-shape[axis] // rows) + int(rng.integers(2)))
        yield (
            shape,
            axis,
            {
                "grid": grid if rng.random() < 0.5 else None,
                "order": str(rng.choice(["rows", "columns", "snake"])),
                "margin": int(rng.integers(3)),
                "multiple": int(rng.integers(1, 5)),
                "unit": int(rng.integers(1, 9)),
            },
        )


def test_the_inverse_is_exact_and_composites_are_square():
    draws = torch.Generator().manual_seed(0)
    for shape, axis, options in random_tilings(300):
        tiling = tiling_of(shape, axis, **options)
        volumes = torch.rand((2, 1, *shape), generator=draws)
        images = composites(volumes, tiling)
        assert images.shape == (2, 1, tiling.side, tiling.side)
        assert tiling.side % options["unit"] == 0
        assert all(side % options["multiple"] == 0 for side in tiling.cell)
        assert torch.equal(volumes_of(images, tiling), volumes)
        # Nothing but the slices is in the image, and each voxel once.
        total = images.double().sum(dim=(1, 2, 3))
        assert torch.allclose(total, volumes.double().sum(dim=(1, 2, 3, 4)))


@pytest.mark.parametrize(
    ("order", "cells"),
    [
        ("rows", [[0, 1, 2], [3, 4, None]]),
        ("columns", [[0, 2, 4], [1, 3, None]]),
        ("snake", [[0, 1, 2], [None, 4, 3]]),
    ],
)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_stand_in_their_order(order, cells, axis):
    """Slice k has the value k + 1; cells are 4 x 4, with a margin of one around 2 x 2."""
    x, y, z = (5 if k == axis else 2 for k in range(3))
    shape = (x, y, z)
    values = np.arange(1, 6).reshape([-1 if k == axis else 1 for k in range(3)])
    volume = torch.from_numpy(np.broadcast_to(values, shape).astype(np.float32).copy())
    tiling = tiling_of(shape, axis, grid=(2, 3), order=order, margin=1, unit=5)
    image = composites(volume[None, None], tiling)[0, 0]
    expected = np.zeros((15, 15), np.float32)
    for row, line in enumerate(cells):
        for column, index in enumerate(line):
            if index is not None:
                top, left = 4 * row + 1, 4 * column + 1
                expected[top : top + 2, left : left + 2] = index + 1
    assert np.array_equal(image.numpy(), expected)


def test_without_a_grid_the_square_is_the_smallest():
    """48 slices of 48 x 64: 8 rows of 6 fill 384 x 384; no other grid has a smaller side."""
    tiling = tiling_of((48, 56, 48), 2, multiple=16)
    assert (tiling.rows, tiling.columns, tiling.side) == (8, 6, 384)
    sides = [max(rows * 48, -(-48 // rows) * 64) for rows in range(1, 49)]
    assert tiling.side == min(sides)


def test_neighbours_touch_in_a_snake():
    places = tiling_of((1, 1, 20), 2, grid=(4, 5), order="snake").places()
    cells = [divmod(place, 5) for place in places]
    steps = {abs(a - c) + abs(b - d) for (a, b), (c, d) in pairwise(cells)}
    assert steps == {1}


def test_too_few_cells_are_refused_with_a_grid_that_holds_all():
    with pytest.raises(UsageError, match=r"2 x 3 cells cannot hold 7 slices.*tile_grid=\[2,4\]"):
        tiling_of((4, 4, 7), 2, grid=(2, 3))
