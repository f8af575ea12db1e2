"""Weights of resamples, and the estimate."""

from __future__ import annotations

import numpy as np
import pytest

from synthbench.errors import MetricError
from synthbench.metrics.inference import (
    intervals,
    resampling,
)
from synthbench.metrics.inference.pairs import subject_sums
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


def test_equally_many_images_of_each_subject_are_drawn_at_random():
    """Two of subject 0's four images: each in half of the draws, within 4.5 standard errors."""
    index = np.array([0, 1, 0, 1, 0, 2, 0, 2, 2])
    drawn = resampling.drawn_images(index, 2, 2000, np.random.default_rng(0))
    assert (subject_sums(drawn, index) == 2).all()
    shares = drawn.mean(axis=0)
    assert shares[index == 1] == pytest.approx([1, 1])
    assert shares[index == 0] == pytest.approx(0.5, abs=4.5 * np.sqrt(0.25 / 2000))
    assert shares[index == 2] == pytest.approx(2 / 3, abs=4.5 * np.sqrt(0.25 / 2000))
    each = resampling.drawn_images(index, np.array([1, 2, 3]), 5, np.random.default_rng(0))
    assert (subject_sums(each, index) == [1, 2, 3]).all()


def test_nothing_is_drawn_where_all_images_are_kept():
    """So floors and p of cohorts with one scan per subject are what they were."""
    rng = np.random.default_rng(0)
    assert (resampling.drawn_images(np.arange(5), 1, 3, rng) == 1).all()
    assert rng.random() == np.random.default_rng(0).random()
