from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA

from synthbench.errors import MetricError
from synthbench.metrics.fld import FLD, ITERATIONS, components, dimensions_of, fld, likelihood
from synthbench.metrics.inference.resampling import estimate
from synthbench.metrics.metric import Metric
from synthbench.testing import check_metric


def sets(n=24, m=20, d=8, spread=1.0, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), spread * rng.normal(size=(m, d))


def by_scipy(x, y, ids):
    """The log-likelihood by SciPy's densities, in loops over images."""
    p, variance = x.shape[1], [1.0] * len(y)

    def densities(row, variances):
        return [
            multivariate_normal.pdf(row, centre, s * np.eye(p))
            for centre, s in zip(y, variances, strict=True)
        ]

    def belonging(variances):
        rows = np.array([densities(row, variances) for row in x])
        return rows / rows.sum(axis=1, keepdims=True)

    def fitted(belongs, rows):
        found = []
        for j, centre in enumerate(y):
            squares = sum(belongs[i, j] * ((x[i] - centre) ** 2).sum() for i in rows)
            found.append((squares + p) / (p * (sum(belongs[i, j] for i in rows) + 1)))
        return found

    for _ in range(ITERATIONS):
        belongs = belonging(variance)
        variance = fitted(belongs, range(len(x)))
    return [
        math.log(np.mean(densities(x[i], fitted(belongs, np.flatnonzero(ids != ids[i])))))
        for i in range(len(x))
    ]


def test_the_likelihood_is_that_of_scipys_densities_in_loops():
    x, y = sets(9, 7, 3)
    ids = np.array([0, 0, 1, 2, 3, 4, 5, 6, 6])
    found = likelihood(x, y, np.ones(9), np.ones(7), ids)
    np.testing.assert_allclose(found, by_scipy(x, y, ids), rtol=1e-9)


def test_the_components_are_those_of_scikit_learn_and_turn_nothing():
    """Whitened components may differ in sign; distances do not. Its variance has divisor n - 1."""
    x, y = sets(30, 5)
    a, b = components(x, y, np.ones(30), 4)
    model = PCA(4, whiten=True).fit(x)
    factor = np.sqrt(30 / 29)
    for found, expected in ((a, model.transform(x)), (b, model.transform(y))):
        np.testing.assert_allclose(np.abs(found), np.abs(expected) * factor, rtol=1e-9, atol=1e-12)


def test_one_synthetic_image_at_the_real_mean_is_a_normal_distribution():
    """Its variance is 1 by definition of the components; leaving out one subject moves it little,
    so the value is zero within 100 / n.
    """
    x, _ = sets(200)
    y = np.repeat(x.mean(axis=0, keepdims=True), 2, axis=0)
    assert abs(fld(x, y)) < 100 / 200


def test_bad_and_missing_images_raise_it_and_a_smaller_spread_lowers_it():
    """The last is what `misses` says: with few images the densities are wide."""
    rng = np.random.default_rng(1)

    def mean(change):
        return np.mean([fld(*change(*sets(60, 60, seed=seed))) for seed in range(6)])

    null = mean(lambda x, y: (x, y))
    assert mean(lambda x, y: (x, np.where(np.arange(60)[:, None] < 30, 4 * y, y))) > null + 3
    assert mean(lambda x, y: (x, y[rng.integers(6, size=60)])) > null + 3
    assert mean(lambda x, y: (x, y + 0.7)) > null + 3
    assert mean(lambda x, y: (x, 0.6 * y)) < null


def test_dimensions_are_frozen_from_the_real_set():
    x, _ = sets(70, d=40)
    assert FLD().freeze(x, None) == {"dimensions": 16}
    assert FLD().freeze(x, np.arange(70) // 2) == {"dimensions": 8}
    assert dimensions_of(70, 6) == 6
    assert dimensions_of(3, 6) == 1


def test_units_and_turns_of_the_features_change_nothing():
    x, y = sets()
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(8, 8)))[0]
    assert fld(1000 * x @ turn + 7, 1000 * y @ turn + 7) == pytest.approx(fld(x, y), rel=1e-8)


def test_more_features_than_images_are_no_other_value():
    """The components of 20 images lie in their span, which has at most 20 dimensions."""
    x, y = sets(20, 18, 60)
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(60, 60)))[0]
    statistic = FLD().prepare(x, y, dimensions=5)
    a, b = components(x, y, np.ones(20), 5)
    log_p = likelihood(a, b, np.ones(20), np.ones(18), np.arange(20))
    expected = 100 * (-log_p.mean() / 5 - 0.5 * math.log(2 * math.pi * math.e))
    assert estimate(statistic) == pytest.approx(expected, rel=1e-9)
    assert estimate(FLD().prepare(x @ turn, y @ turn, dimensions=5)) == pytest.approx(expected)


@pytest.mark.slow
def test_it_is_a_sound_metric():
    assert isinstance(FLD(), Metric)
    check_metric(FLD())


def test_equal_real_images_are_refused():
    x, y = sets()
    with pytest.raises(MetricError, match="fld: the 24 real images must differ; all are equal"):
        FLD().prepare(np.ones_like(x), y)
    with pytest.raises(MetricError, match="dimensions are frozen from real features"):
        FLD().freeze(None, None)
    assert np.isfinite(estimate(FLD().prepare(x, y)))
