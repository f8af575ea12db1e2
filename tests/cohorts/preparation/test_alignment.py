"""Optimisation of one placement of the template in a head."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from synthbench.cohorts.preparation.alignment import Alignment, _changes, _moved
from synthbench.cohorts.preparation.image import Image
from synthbench.cohorts.preparation.placement import CENTRE_MM, Placement, rotation
from synthbench.volumes.grid import Space
from tests.cohorts.preparation.heads import ball

SIDE = 41
SPACING_MM = 4.0


def centred(side):
    matrix = np.diag([SPACING_MM] * 3 + [1.0])
    matrix[:3, 3] = np.array(CENTRE_MM) - SPACING_MM * (side - 1) / 2
    return Space.of((side,) * 3, matrix)


@pytest.fixture(scope="module")
def pattern() -> Image:
    """Smooth random values in a ball, 0 outside."""
    noise = np.random.default_rng(0).normal(size=(SIDE,) * 3)
    smooth = ndimage.gaussian_filter(noise, 4)
    values = np.where(ball(16, SIDE), 2 + smooth / smooth.std(), 0)
    return Image(values.astype(np.float32), centred(SIDE))


@pytest.fixture(scope="module")
def compared() -> Image:
    return Image(ball(18, SIDE).astype(np.float32), centred(SIDE))


def placed(linear, shift_mm):
    return Placement(np.nan, linear, np.array(CENTRE_MM) + shift_mm)


def scan(pattern, there):
    """The pattern at a placement, in other units."""
    to_scan = np.eye(4)
    to_scan[:3, :3] = there.linear
    to_scan[:3, 3] = there.middle_mm - there.linear @ np.array(CENTRE_MM)
    wide = centred(2 * SIDE)
    return Image(3 * pattern.on(wide, np.linalg.inv(to_scan)) + 1, wide)


def optimised(
    alignment: Alignment, start: Placement, iterations: int, within_mm: float, affine: bool
) -> Placement:
    found = alignment.optimise(start, iterations, within_mm, affine=affine)
    assert found is not None
    return found


@pytest.mark.parametrize("affine", [False, True])
def test_a_placement_is_recovered(pattern, compared, affine):
    """From 12 degrees, 8 mm and 10% away; the true stretch is possible only for an affine."""
    stretch = np.diag([1.05, 1.0, 0.95]) if affine else np.eye(3)
    truth = placed(1.05 * rotation(6, -4, 10) @ stretch, [5.0, -3, 4])
    alignment = Alignment.of(pattern, compared, scan(pattern, truth))
    start = placed(0.95 * np.eye(3), np.zeros(3))
    found = optimised(alignment, start, 60, 0.01, affine)
    assert found.apart_mm(truth) < 0.3
    assert found.correlation >= optimised(alignment, truth, 0, 1.0, affine).correlation
    if not affine:
        assert np.allclose(found.linear.T @ found.linear, found.size**2 * np.eye(3))


def test_the_correlation_is_that_of_the_voxels(pattern, compared):
    """At a shift of whole voxels numpy's correlation needs no interpolation."""
    rng = np.random.default_rng(1)
    head = Image(rng.random((SIDE,) * 3).astype(np.float32), centred(SIDE))
    there = placed(np.eye(3), np.array([2, 0, -1]) * SPACING_MM)
    found = optimised(Alignment.of(pattern, compared, head), there, 0, 1.0, True)
    inside = compared.volume > 0
    moved = np.roll(head.volume, (-2, 0, 1), axis=(0, 1, 2))
    expected = np.corrcoef(pattern.volume[inside], moved[inside])[0, 1]
    assert found.correlation == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("affine", [False, True])
def test_the_slopes_are_those_of_the_correlation(affine):
    """Each parameter is changed by a little; in a head of a constant slope nothing is rounded."""
    space = centred(SIDE)
    x, y, z = (np.indices(space.shape) - 20) * SPACING_MM
    template = Image((x + y * z / 40).astype(np.float32), space)
    head = Image((x - 0.5 * y + 2 * z + 300).astype(np.float32), space)
    alignment = Alignment.of(template, Image(ball(9, SIDE).astype(np.float32), space), head)
    here = placed(1.1 * rotation(10, 20, -15), [3.0, 1, 2])
    now = alignment._compared(here)
    assert now is not None
    changes = _changes(now, here.linear, affine)
    slopes = (changes * (now.difference + now.head)).sum(axis=1)
    for parameter, slope in enumerate(slopes):
        step = np.zeros(len(slopes))
        step[parameter] = 0.5
        up, down = (
            optimised(alignment, _moved(here, sign * step, affine), 0, 1.0, affine).correlation
            for sign in (1, -1)
        )
        assert up - down == pytest.approx(slope, rel=0.01, abs=1e-6)


def test_a_start_is_never_left_for_something_worse(pattern, compared):
    """Also where it is the best turn, size and shift, and only the other parameters may change.

    Steps whose length is a norm of the parameters leave there: one unit of the matrix is a size.
    """
    truth = placed(0.9 * rotation(5, 5, 5) @ np.diag([1.04, 1.0, 0.96]), np.zeros(3))
    alignment = Alignment.of(pattern, compared, scan(pattern, truth))
    best = optimised(alignment, placed(0.9 * np.eye(3), np.zeros(3)), 60, 0.01, False)
    assert best.apart_mm(truth) > 1
    correlation = best.correlation
    for iterations in (1, 2, 4, 8):
        found = optimised(alignment, best, iterations, 0.0, True)
        assert found.correlation >= correlation
        correlation = found.correlation
    assert found.apart_mm(truth) < 0.3


def test_a_placement_beside_the_scan_or_on_even_voxels_is_none(pattern, compared):
    far = placed(np.eye(3), np.array([100.0, 0, 0]))
    alignment = Alignment.of(pattern, compared, Image(pattern.volume, centred(SIDE)))
    assert alignment.optimise(far, 5, 0.1, affine=True) is None
    even = Image(np.ones((SIDE, SIDE, 1), np.float32), Space.of((SIDE, SIDE, 1), np.eye(4)))
    there = Placement(np.nan, np.eye(3) / 100, np.array([20.0, 20, 0]))
    assert Alignment.of(pattern, compared, even).optimise(there, 5, 0.1, affine=True) is None
