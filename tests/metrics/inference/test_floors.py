"""Floors, matched subsamples, and minimum detectable effects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import stats

from synthbench.errors import MetricError
from synthbench.metrics.inference import (
    floors,
    resampling,
)
from synthbench.metrics.inference import pairs as pairs_module
from synthbench.metrics.mmd import MMD2
from tests.metrics.inference.means import difference_of_means


def test_floor_of_a_discrepancy_is_zero_on_average():
    """Over random splits every pair is within a side or across equally often, so the expected
    U is exactly zero; the mean over splits stays within 4.5 of its standard errors.
    """
    x = np.random.default_rng(0).normal(size=(21, 4))
    statistic = MMD2().prepare(x, x)
    found = floors.floor(statistic, splits=400, seed=0)
    assert (found.n, found.repeats) == (10, 400)
    sd_bound = (found.high - found.low) / 2
    assert abs(found.mean) < 4.5 * sd_bound / np.sqrt(400)
    assert found.low < 0 < found.high


def test_floor_splits_whole_subjects_into_disjoint_sides():
    """A statistic that adds up what both sides share must see nothing, and n subjects each."""
    index = np.repeat(np.arange(5), 2)

    @dataclass(frozen=True)
    class Shared:
        subjects: Mapping[str, np.ndarray]

        def value(self, weights):
            assert (weights["real"].sum(axis=1) == 4).all()
            assert (weights["synth"].sum(axis=1) == 4).all()
            return pairs_module.subject_sums(weights["real"] * weights["synth"], index).sum(axis=1)

    found = floors.floor(Shared({"real": index, "synth": index}), splits=20, seed=0)
    assert (found.mean, found.low, found.high, found.n) == (0, 0, 0, 2)


def test_floor_refuses_two_different_sets_and_too_few_subjects():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 2)), rng.normal(size=(7, 2))
    with pytest.raises(MetricError, match=r"Prepare it with \(real, real\)"):
        floors.floor(MMD2().prepare(x, y), seed=0)
    with pytest.raises(MetricError, match="more real volumes"):
        floors.floor(MMD2().prepare(x, x), n=4, seed=0)


def test_matched_at_full_size_is_the_estimate():
    rng = np.random.default_rng(0)
    statistic = MMD2().prepare(rng.normal(size=(6, 2)), rng.normal(size=(6, 2)))
    found = floors.matched(statistic, 6, repeats=5, seed=0)
    value = resampling.estimate(statistic)
    assert (found.mean, found.low, found.high) == pytest.approx((value, value, value))
    with pytest.raises(MetricError, match="6 subjects of real"):
        floors.matched(statistic, 7, seed=0)


def test_matched_averages_to_the_estimate():
    """Subsamples without replacement: the mean U over them has the full U as its expectation."""
    rng = np.random.default_rng(0)
    statistic = MMD2().prepare(rng.normal(size=(14, 2)), rng.normal(size=(16, 2)) + 1)
    found = floors.matched(statistic, 7, repeats=400, seed=0)
    error = 4.5 * (found.high - found.low) / 2 / np.sqrt(400)
    assert found.mean == pytest.approx(resampling.estimate(statistic), abs=error)


def test_the_detectable_excess_is_on_the_side_where_a_difference_shows():
    """|c - mean| + z_0.8 sd, with c of each side from the directions' own definition."""
    x = np.random.default_rng(0).exponential(size=11)
    index = np.random.default_rng(2).permuted(np.tile(np.arange(11), (300, 1)), axis=1)
    values = np.array([x[(r >= 5) & (r < 10)].mean() - x[r < 5].mean() for r in index])
    z_sd = stats.norm.ppf(0.8) * values.std()
    above = np.quantile(values, 0.975) - values.mean()
    below = values.mean() - np.quantile(values, 0.025)
    expected = {"lower": above, "higher": below, "zero": max(above, below)}
    for direction, edge in expected.items():
        found = floors.floor(
            difference_of_means(x),
            splits=300,
            seed=2,
            direction=direction,  # type: ignore[arg-type]
        )
        assert found.minimum_detectable_effect == pytest.approx(edge + z_sd)
        assert found.mean == pytest.approx(values.mean())
    assert floors.matched(difference_of_means(x), 5, seed=0).minimum_detectable_effect is None


def test_a_shift_of_the_detectable_size_is_found_with_80_percent_power():
    """Normal data, whose spread a shift leaves as it is. Fresh halves, the second shifted by
    the detectable excess, fall beyond the floor's edge in 80% of 400 trials, within 4.5
    standard errors and 2% for the quantile of 200 splits.
    """
    rng = np.random.default_rng(0)
    n, trials, found = 20, 400, 0
    for trial in range(trials):
        floor = floors.floor(difference_of_means(rng.normal(size=2 * n)), seed=trial)
        assert floor.minimum_detectable_effect is not None
        real, synth = rng.normal(size=n), rng.normal(loc=floor.minimum_detectable_effect, size=n)
        found += synth.mean() - real.mean() > floor.high
    assert found / trials == pytest.approx(0.8, abs=4.5 * np.sqrt(0.16 / trials) + 0.02)
