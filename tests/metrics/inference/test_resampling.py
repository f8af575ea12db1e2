"""Weights of resamples, and the estimate."""

from __future__ import annotations

import numpy as np
import pytest

from synthbench.errors import MetricError
from synthbench.metrics.inference import (
    intervals,
    resampling,
)
from synthbench.metrics.metric import ones
from tests.metrics.inference.means import PairMean, mean_of


def test_resamples_are_counts_of_whole_subjects():
    """Counts of N subjects sum to N, and images of one subject carry one count."""
    index = {"real": np.array([0, 0, 1, 2, 2, 2])}
    w = resampling.bootstrap_weights(index, 50, np.random.default_rng(0))["real"]
    assert w.shape == (50, 6)
    assert (w[:, 0] == w[:, 1]).all()
    assert (w[:, 3:] == w[:, 3:4]).all()
    assert (w[:, [0, 2, 3]].sum(axis=1) == 3).all()


def test_a_roles_resamples_depend_on_its_own_subjects_only():
    alone = resampling.bootstrap_weights({"real": np.arange(7)}, 20, np.random.default_rng(3))
    beside = resampling.bootstrap_weights(
        {"synth": np.arange(5), "real": np.arange(7)}, 30, np.random.default_rng(3)
    )
    np.testing.assert_array_equal(alone["real"], beside["real"][:20])


def test_the_size_of_chunks_does_not_matter(monkeypatch):
    statistic = mean_of(np.random.default_rng(0).exponential(size=12))
    whole = intervals.studentized_interval(statistic, resamples=101, seed=1)
    monkeypatch.setattr(resampling, "CHUNK_NUMBERS", 12**2 * 7)
    chunked = intervals.studentized_interval(statistic, resamples=101, seed=1)
    assert (chunked.low, chunked.high) == pytest.approx((whole.low, whole.high), rel=1e-12)


def test_an_undefined_estimate_is_an_error():
    statistic = PairMean(np.zeros((2, 2)), {"real": np.zeros(2, dtype=np.int64)})
    with pytest.raises(MetricError, match="found 1 real"):
        resampling.estimate(statistic)


def test_ones_are_the_weights_of_the_estimate():
    x = np.random.default_rng(0).normal(size=6)
    assert ones(mean_of(x))["real"].tolist() == [[1.0] * 6]
    assert resampling.estimate(mean_of(x)) == pytest.approx(x.mean())
