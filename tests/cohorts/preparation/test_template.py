"""The template's grids and distances."""

from __future__ import annotations

import numpy as np
import pytest

from synthbench.cohorts.preparation.template import signed_distance, working_grid
from synthbench.volumes.grid import PAPER_GRID


def test_the_working_grid_covers_the_paper_grid_and_9_mm_around():
    grid = working_grid(1.5)
    low, high = grid.matrix[:3, 3] - 0.75, grid.matrix[:3, 3] + 1.5 * np.array(grid.shape) - 0.75
    voxel = np.array(PAPER_GRID.spacing)
    first = PAPER_GRID.matrix[:3, 3] - voxel / 2
    last = first + voxel * np.array(PAPER_GRID.shape)
    assert (low <= first - 9 + 1e-6).all()
    assert (high >= last + 9 - 1e-6).all()


def test_signed_distance_by_hand():
    """Three voxels of 2 mm in a row of seven: 2 and 4 mm deep, and 2, 4 mm outside."""
    row = np.array([0, 0, 1, 1, 1, 0, 0], dtype=bool)[:, None, None]
    assert signed_distance(row, 2.0).ravel() == pytest.approx([-4, -2, 2, 4, 2, -2, -4])
