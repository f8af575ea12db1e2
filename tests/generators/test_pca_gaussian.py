"""`pca-gaussian`: mean, covariance, and the share of variance."""

from __future__ import annotations

import numpy as np
import pytest

from synthbench.cohorts.reading import read_cohort
from synthbench.errors import UsageError
from tests.generators.fitting import fitted


def test_pca_gaussian_reproduces_mean_and_covariance(make_cohort, tmp_path):
    """With all components kept, scores are N(0, 1) along vectors whose outer products sum to S.

    The components are compared with numpy's covariance; samples before clipping would have it.
    """
    folder = make_cohort("real", n=6, shape=(16, 16, 16))
    data = np.stack(list(read_cohort(folder).volumes())).reshape(6, -1).astype(np.float64)
    weights = fitted("pca-gaussian", folder, tmp_path, "variance=1.0").load_weights()
    components = weights["components"].astype(np.float64)
    assert np.allclose(components.T @ components, np.cov(data.T), atol=1e-6)
    assert np.allclose(weights["mean"], data.mean(axis=0), atol=1e-6)


def test_pca_gaussian_keeps_the_share_of_variance(make_cohort, tmp_path):
    folder = make_cohort("real", n=8, shape=(16, 16, 16))
    data = np.stack(list(read_cohort(folder).volumes())).reshape(8, -1).astype(np.float64)
    values = np.linalg.svd(data - data.mean(axis=0), compute_uv=False) ** 2
    expected = int(np.searchsorted(np.cumsum(values) / values.sum(), 0.7)) + 1
    weights = fitted("pca-gaussian", folder, tmp_path, "variance=0.7").load_weights()
    assert len(weights["components"]) == expected


def test_pca_gaussian_needs_two_volumes(make_cohort, tmp_path):
    with pytest.raises(UsageError, match="at least 2"):
        fitted("pca-gaussian", make_cohort("real", n=1), tmp_path)
