"""Distances between rows, and the median bandwidth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist

from synthbench.metrics import kernels, mmd
from tests.metrics.discrepancies import sets


def test_median_bandwidth_is_the_median_distance_of_distinct_images():
    x, _ = sets()
    expected = np.sqrt(np.median(pdist(x, "sqeuclidean")))
    assert kernels.median_bandwidth(x) == pytest.approx(expected, rel=1e-12)
    assert mmd.mmd2(x, x + 1) == pytest.approx(mmd.mmd2(x, x + 1, expected), rel=1e-12)


def test_median_bandwidth_leaves_out_pairs_within_a_subject():
    """Each image twice, one subject: the median over distinct subjects is as without copies."""
    x, _ = sets()
    doubled = kernels.median_bandwidth(np.repeat(x, 2, axis=0), np.repeat(np.arange(11), 2))
    assert doubled == pytest.approx(kernels.median_bandwidth(x), rel=1e-6)


def test_distances_far_from_the_origin_keep_their_digits():
    x, y = sets()
    np.testing.assert_allclose(
        kernels.squared_distances(x + 1e6, y + 1e6), cdist(x, y, "sqeuclidean"), rtol=1e-7
    )
