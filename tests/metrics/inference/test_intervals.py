"""Intervals and standard errors, against closed forms and by their coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from synthbench.errors import MetricError
from synthbench.metrics.inference import (
    intervals,
    resampling,
)
from synthbench.metrics.inference import pairs as pairs_module
from synthbench.metrics.mmd import MMD2
from tests.metrics.inference.means import OnlyValue, PairMean, mean_of


def test_both_jackknives_of_a_mean_are_its_standard_error():
    """For a mean, the delete-one jackknife is exactly s / sqrt(n), and g = x gives it too."""
    x = np.random.default_rng(0).normal(size=15)
    expected = x.std(ddof=1) / np.sqrt(15)
    assert intervals.jackknife_se(mean_of(x)) == pytest.approx(expected, rel=1e-12)
    assert intervals.infinitesimal_jackknife_se(mean_of(x)) == pytest.approx(expected, rel=1e-12)


def test_jackknife_interval_is_the_normal_one():
    x = np.random.default_rng(0).normal(size=15)
    low, high = stats.norm.interval(0.9, loc=x.mean(), scale=x.std(ddof=1) / np.sqrt(15))
    found = intervals.jackknife_interval(mean_of(x), level=0.9)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)
    assert "90% CI" in found.label
    assert "excludes bias" in found.label


def test_a_subject_scanned_twice_counts_once():
    """Two identical images of each subject carry no more information than one: every standard
    error and interval stays as it was.
    """
    x = np.random.default_rng(0).normal(size=12)
    once, twice = mean_of(x), mean_of(np.repeat(x, 2), np.repeat(np.arange(12), 2))
    assert intervals.jackknife_se(twice) == pytest.approx(intervals.jackknife_se(once))
    assert intervals.infinitesimal_jackknife_se(twice) == pytest.approx(
        intervals.infinitesimal_jackknife_se(once)
    )
    for method in (intervals.studentized_interval, intervals.percentile_interval):
        a, b = method(once, resamples=99, seed=0), method(twice, resamples=99, seed=0)
        assert (b.low, b.high) == pytest.approx((a.low, a.high))


def test_percentile_interval_of_a_mean():
    """Percentiles of means of the values, repeated as the documented stream counts them."""
    x = np.random.default_rng(5).normal(size=10)
    key = int(np.random.default_rng(8).integers(2**63))
    counts = np.random.default_rng([key, *b"real"]).multinomial(10, np.full(10, 0.1), size=64)
    low, high = np.quantile([np.repeat(x, c).mean() for c in counts], [0.025, 0.975])
    found = intervals.percentile_interval(mean_of(x), resamples=64, seed=8)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)


def test_degenerate_resamples_are_left_out_and_counted():
    """A resample of one subject has no pair. With 5 subjects that happens once in 5^4 = 625."""
    pairs = pairs_module.distinct_pairs(np.random.default_rng(0).random((5, 5)), np.arange(5))
    statistic = PairMean(pairs, {"real": np.arange(5)})
    drawn = resampling.bootstrap_weights(statistic.subjects, 5000, np.random.default_rng(0))
    alone = int(((drawn["real"] > 0).sum(axis=1) == 1).sum())
    assert 0 < alone < 30
    assert intervals.percentile_interval(statistic, resamples=5000, seed=0).excluded == alone


def test_too_many_degenerate_resamples_are_an_error():
    """With 3 subjects, 3 of 27 resamples (11%) hold one subject only."""
    statistic = PairMean(
        pairs_module.distinct_pairs(np.ones((3, 3)), np.arange(3)), {"real": np.arange(3)}
    )
    with pytest.raises(MetricError, match="Score more subjects"):
        intervals.percentile_interval(statistic, resamples=900, seed=0)


def test_zero_variance_is_an_error():
    with pytest.raises(MetricError, match="variance is 0"):
        intervals.studentized_interval(mean_of(np.zeros(9)), seed=0)


def test_deleting_down_to_one_subject_is_an_error():
    statistic = PairMean(np.array([[0.0, 1.0], [1.0, 0.0]]), {"real": np.arange(2)})
    with pytest.raises(MetricError, match="at least 3 subjects"):
        intervals.jackknife_se(statistic)


def test_the_dispatcher_knows_its_methods():
    statistic = mean_of(np.random.default_rng(0).normal(size=9))
    for method in ("studentized", "percentile", "jackknife"):
        assert intervals.interval(statistic, method, seed=0, resamples=50).method == method
    with pytest.raises(MetricError, match="did you mean 'jackknife'"):
        intervals.interval(statistic, "jacknife", seed=0)  # type: ignore[arg-type]
    with pytest.raises(MetricError, match="has no variance"):
        intervals.interval(OnlyValue(), "studentized", seed=0)
    with pytest.raises(MetricError, match="level"):
        intervals.interval(statistic, "jackknife", level=95, seed=0)


def test_studentized_interval_covers_a_known_discrepancy():
    """For N(0, I) against N(s, I) in d dimensions and bandwidth l, MMD^2 is
    2 c (1 - exp(-|s|^2 / (2 (l^2 + 2)))) with c = (l^2 / (l^2 + 2))^(d/2). If the 95% interval
    covers at least 90% of the time, 150 trials miss this bound once in 10,000 runs.
    """
    d, l2, shift, trials = 3, 4.0, 0.8, 150
    c = (l2 / (l2 + 2)) ** (d / 2)
    truth = 2 * c * (1 - np.exp(-d * shift**2 / (2 * (l2 + 2))))
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(trials):
        x, y = rng.normal(size=(30, d)), rng.normal(loc=shift, size=(30, d))
        statistic = MMD2().prepare(x, y, bandwidth=2.0)
        found = intervals.studentized_interval(statistic, resamples=200, seed=trial)
        covered += found.low <= truth <= found.high
    assert covered >= stats.binom.ppf(1e-4, trials, 0.90)
