"""Features whose powers float64 cannot hold are refused by set, by every metric of features."""

from __future__ import annotations

import numpy as np
import pytest

from synthbench import metrics, registry
from synthbench.errors import MetricError
from synthbench.metrics.fid import effective_rank
from synthbench.metrics.kernels import median_bandwidth
from synthbench.metrics.metric import ones
from synthbench.metrics.mmd_permutation import permutation_p
from synthbench.metrics.nearest.distances import feature_distances

X, Y = np.random.default_rng(0).normal(size=(2, 40, 16))
OF_FEATURES = [
    name
    for name in registry.names("metrics")
    if registry.load("metrics", name)().needs == "features"
]


@pytest.mark.parametrize("name", OF_FEATURES)
@pytest.mark.parametrize(("factor", "what"), [(1e200, "overflow"), (1e-300, "vanish")])
def test_features_out_of_range_are_refused_by_set(name, factor, what):
    metric = registry.load("metrics", name)()
    settings = metric.freeze(X, np.arange(len(X)))
    with pytest.raises(MetricError, match=rf"{name}: synth features reach .* {what} in float64"):
        metric.prepare(X, Y * factor, **settings)


@pytest.mark.parametrize("name", OF_FEATURES)
@pytest.mark.parametrize("factor", [1e20, 1e-20])
def test_features_in_range_give_finite_values(name, factor):
    """Of value and, by the studentized bootstrap's variance, of its square."""
    metric = registry.load("metrics", name)()
    settings = metric.freeze(X * factor, np.arange(len(X)))
    statistic = metric.prepare(X * factor, Y * factor, **settings)
    with np.errstate(over="raise"):
        assert np.isfinite(statistic.value(ones(statistic))).all()
        if metric.interval == "studentized":
            assert np.isfinite(statistic.variance(ones(statistic))).all()


def test_fid_grows_with_the_square_of_a_factor_up_to_the_limit():
    assert metrics.fid(X * 1e60, Y * 1e60) == pytest.approx(1e120 * metrics.fid(X, Y), rel=1e-9)


@pytest.mark.parametrize(
    "use",
    [
        lambda x: metrics.fid(x, x[::-1] + 1),
        effective_rank,
        median_bandwidth,
        lambda x: permutation_p(x, x[::-1], 1.0, permutations=9, seed=0),
        lambda x: feature_distances(x, x, x),
    ],
)
@pytest.mark.parametrize("factor", [1e200, 1e-300])
def test_functions_of_arrays_refuse_them_too(use, factor):
    with pytest.raises(MetricError, match="features reach"):
        use(X * factor)


def test_a_set_of_zeros_is_no_range_error():
    assert metrics.fid(X * 0, Y * 0) == 0
