"""The mixture model of tissues."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats

from synthbench.metrics.extractors import tissue
from synthbench.metrics.extractors.tissue import MNI152_2MM, Mixture, tissues_of

MIXTURE = Mixture(means=np.array([0.2, 0.6, 1.0]), sd=0.07, shares=np.full(5, 0.2))


def test_the_density_of_shared_voxels_is_the_mean_over_all_proportions():
    """The definition of Shattuck et al. 2001, integrated numerically here."""
    intensities = np.array([0.05, 0.3, 0.55, 0.9, 1.1])
    densities = tissue._densities(intensities, MIXTURE)
    for row, (low, high) in ((1, (0.2, 0.6)), (3, (0.6, 1.0))):
        expected = [
            integrate.quad(lambda a: stats.norm.pdf(x, low + a * (high - low), 0.07), 0, 1)[0]  # noqa: B023
            for x in intensities
        ]
        np.testing.assert_allclose(densities[row], expected, rtol=1e-6, atol=1e-12)
    for row, mean in ((0, 0.2), (2, 0.6), (4, 1.0)):
        np.testing.assert_allclose(densities[row], stats.norm.pdf(intensities, mean, 0.07))


def test_intensities_far_from_every_tissue_belong_to_the_nearest():
    found = tissue._expected_fractions(np.array([0.0, 50.0]), np.full((3, 2), 1 / 3), MIXTURE)
    np.testing.assert_allclose(found, [[1, 0], [0, 0], [0, 1]], atol=1e-6)


def test_the_bias_polynomial_is_numpys_legendre_series():
    rng = np.random.default_rng(0)
    orders = tissue._orders()
    weights = rng.standard_normal(len(orders))
    series = np.zeros((5, 5, 5))
    for order, weight in zip(orders, weights, strict=True):
        series[order] = weight
    x, y, z = (np.linspace(-1, 1, side) for side in MNI152_2MM.shape)
    expected = np.asarray(np.polynomial.legendre.leggrid3d(x, y, z, series))
    np.testing.assert_allclose(tissue._polynomial(weights), expected, atol=1e-10)
    at = (np.array([3, 80]), np.array([50, 7]), np.array([20, 60]))
    np.testing.assert_allclose(tissue._polynomials_at(at) @ weights, expected[at], atol=1e-10)


@pytest.mark.slow
def test_fractions_sum_to_one_in_the_head_and_to_zero_outside(head: np.ndarray):
    found = tissues_of(head)
    assert found.fractions.min() >= 0
    np.testing.assert_allclose(found.fractions.sum(axis=0), found.head, atol=1e-9)
    assert (np.diff(found.mixture.means) > 0).all()
