"""Floors, matched subsamples, and minimum detectable effects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
from scipy import stats

from synthbench.errors import MetricError
from synthbench.metrics.inference import (
    floors,
    resampling,
)
from synthbench.metrics.inference import pairs as pairs_module
from synthbench.metrics.inference.resampling import random_ranks
from synthbench.metrics.linear_mmd import MMDLinear
from synthbench.metrics.metric import RowStatistic
from synthbench.metrics.mmd import MMD2, KernelDiscrepancy
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


def test_floor_splits_subjects_into_disjoint_sides_of_one_image_each():
    """A statistic that adds up what both sides share must see nothing, and n images each."""
    index = np.repeat(np.arange(5), 2)

    @dataclass(frozen=True)
    class Shared:
        subjects: Mapping[str, np.ndarray]

        def value(self, weights):
            sides = [pairs_module.subject_sums(w, index) for w in weights.values()]
            for side in sides:
                assert (side.sum(axis=1) == 2).all()
                assert side.max() == 1
            return (sides[0] * sides[1]).sum(axis=1)

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


def test_matched_and_floor_draw_one_image_of_each_subject_at_random():
    """Subject s has images s, s + 10 and s + 20. Each of the two images of either side has each
    value within a subject equally often: the mean over draws is that of all images, 14.5, within
    4.5 standard errors.
    """
    index = np.tile(np.arange(10), 3)
    real = np.arange(30.0)
    one = mean_of_role(real, index, "synth")
    for found in (
        floors.floor(one, n=5, splits=4000, seed=0),
        floors.matched(one, 5, repeats=4000, seed=0),
    ):
        # A mean over n = 5 images of variance 75 has at most the sd sqrt(75 / 5).
        assert found.mean == pytest.approx(14.5, abs=4.5 * np.sqrt(75 / 5 / 4000))
        assert found.high - found.low > 2 * np.sqrt(66.7 / 5)


def mean_of_role(x: np.ndarray, index: np.ndarray, role: str) -> RowStatistic:
    """The mean of one role's images; both roles hold one set."""
    return RowStatistic(
        lambda weights: weights[role] @ x / weights[role].sum(axis=1),
        {"real": index, "synth": index},
    )


@pytest.mark.parametrize(
    ("direction", "sign"), [("lower", 1), ("higher", -1), ("zero", 1), ("zero", -1)]
)
def test_the_detectable_excess_of_a_shifted_mean_has_a_closed_form(direction, sign):
    """|c - mean| + z_0.8 sd. The difference of two means is linear in the subjects, and a shift
    of s changes nothing but its mean. So for halves of N subjects sd^2 is half of its variance
    over splits (n/N = m/M = 1/2), and a quarter plus an eighth with twice as many synthetic ones.
    """
    x = np.random.default_rng(0).exponential(size=40)
    index = random_ranks(40, 2000, np.random.default_rng(2))
    values = np.array([x[r >= 20].mean() - x[r < 20].mean() for r in index])
    low, high = np.quantile(values, [0.025, 0.975])
    edge = high - values.mean() if sign > 0 else values.mean() - low

    def shifted(dose: float) -> RowStatistic:
        return difference_of_means(x, synth=x + sign * dose)

    for n_synth, share in ((None, 1 / 2), (80, 3 / 8)):
        found = floors.floor(
            difference_of_means(x), splits=2000, seed=2, direction=direction, shifted=shifted,
            n_synth=n_synth,
        )  # fmt: skip
        expected = edge + stats.norm.ppf(0.8) * np.sqrt(share) * values.std()
        assert found.minimum_detectable_effect == pytest.approx(expected, rel=0.02)
    assert floors.floor(difference_of_means(x), seed=2).minimum_detectable_effect is None
    assert floors.matched(difference_of_means(x), 5, seed=0).minimum_detectable_effect is None


def test_a_shift_that_no_dose_shows_has_no_detectable_size():
    x = np.random.default_rng(0).normal(size=12)
    found = floors.floor(
        difference_of_means(x), seed=0, shifted=lambda dose: difference_of_means(x)
    )
    assert found.minimum_detectable_effect is None


@pytest.mark.slow
def test_a_shift_of_the_detectable_size_is_found_with_80_percent_power():
    """Kernel distances of normal data, 20 subjects of each set, the synthetic ones shifted along
    every axis by the dose whose expected excess is the average detectable one. The mean over
    matched subsamples lies beyond the floor in 80% of 200 trials, within 3 standard errors.
    """
    rng = np.random.default_rng(0)
    n, found, effects, trials = 20, [], [], 200
    # MMD^2 under the linear kernel: its expectation under a shift of s on each of d axes is d s^2.
    doses = np.array([0.5, 0.6, 0.7, 0.8, 0.9])
    for _ in range(trials):
        real, synth = rng.normal(size=(2, n, 4))
        floor = floors.floor(
            linear(real, real), splits=100, seed=1,
            shifted=partial(linear_shifted, real),
        )  # fmt: skip
        assert floor.minimum_detectable_effect is not None
        effects.append(floor.minimum_detectable_effect)
        # The mean over all subsamples of the U-statistic is the U-statistic of all images.
        values = [resampling.estimate(linear(real, synth + dose)) for dose in doses]
        found.append(np.array(values) > floor.high)
    power = np.interp(np.mean(effects), 4 * doses**2, np.mean(found, axis=0))
    assert power == pytest.approx(0.8, abs=3 * np.sqrt(0.16 / trials))


def linear_shifted(x: np.ndarray, dose: float) -> KernelDiscrepancy:
    """The linear kernel's MMD^2 of a set and itself, shifted by its standard deviations."""
    return linear(x, x + dose * x.std(axis=0))


def linear(x: np.ndarray, y: np.ndarray) -> KernelDiscrepancy:
    """The linear kernel's MMD^2, by the metric for voxels."""
    return MMDLinear().prepare(x @ x.T, y @ y.T, cross=x @ y.T)
