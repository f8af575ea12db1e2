"""Velocity fields, their exponential, and splines."""

from __future__ import annotations

import math

import numpy as np
import pytest
from nibabel.affines import apply_affine
from scipy import interpolate

from synthbench.simulation import deformation
from tests.simulation.small import SHAPE


@pytest.mark.parametrize("shape", [(181, 217, 181), (84, 128, 84), SHAPE])
def test_every_shape_covers_the_classic_box(shape: tuple[int, int, int]) -> None:
    """Voxel faces lie at -90.5..90.5, -126.5..90.5 and -72.5..108.5 mm, whatever the shape."""
    affine = deformation.box_affine(shape)
    low = apply_affine(affine, (-0.5, -0.5, -0.5))
    high = apply_affine(affine, np.array(shape) - 0.5)
    np.testing.assert_allclose(low, (-90.5, -126.5, -72.5))
    np.testing.assert_allclose(high, (90.5, 90.5, 108.5))


def test_the_exponential_of_a_shrinking_field_is_known() -> None:
    """dx/dt = -x / 2 takes x to x exp(-1/2) at time 1; each squaring step errs by second order."""
    points = deformation.grid_points(deformation.DEFORMATION_SHAPE)
    displacement = deformation.exponential(-0.5 * points.movedim(-1, 0))
    expected = points.movedim(-1, 0) * (math.exp(-0.5) - 1)
    np.testing.assert_allclose(displacement, expected, atol=3e-3)


def test_the_gradient_field_has_the_divergence_asked_for() -> None:
    """For phi = cos(kx), the divergence is -k^2 cos(kx) and the field -k sin(kx) along x."""
    x = np.arange(16) * 2.0
    k = 2 * np.pi / 32
    divergence = np.broadcast_to((-(k**2) * np.cos(k * x))[:, None, None], (16, 8, 8))
    field = deformation.gradient_field(divergence, np.full(3, 2.0))
    expected = np.broadcast_to((-k * np.sin(k * x))[:, None, None], (16, 8, 8))
    np.testing.assert_allclose(field[0], expected, atol=1e-12)
    np.testing.assert_allclose(field[1:], 0, atol=1e-12)


def test_spline_bases_are_those_of_scipy() -> None:
    """Uniform cubic B-splines, knots at the integers; the first is centred one cell outside."""
    basis = deformation.spline_basis(side=10, cells=5.0, count=8)
    position = (np.arange(10) + 0.5) / 2
    for j in range(8):
        element = interpolate.BSpline.basis_element(np.arange(j - 3, j + 2), extrapolate=False)
        np.testing.assert_allclose(basis[:, j], np.nan_to_num(element(position)), atol=1e-12)


def test_spline_fields_have_unit_variance_on_average() -> None:
    """Some 9,000 coefficients: the standard error of the variance is near 0.03."""
    field = deformation.spline_field(np.random.default_rng(0), 10.0, (48, 56, 48))
    assert float(field.var()) == pytest.approx(1, abs=0.1)
