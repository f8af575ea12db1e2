from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import betabinom
from sklearn.neighbors import NearestNeighbors

from synthbench import metrics
from synthbench.errors import MetricError
from synthbench.metrics.inference import resampling
from synthbench.metrics.inference.contracts import Transformed
from synthbench.metrics.inference.floors import floor
from synthbench.metrics.inference.intervals import interval
from synthbench.metrics.metric import Metric
from synthbench.metrics.nearest.clipped import (
    ClippedCoverage,
    ClippedDensity,
    clipped_coverage,
    clipped_density,
    expected_fill,
    weighted_median_radius,
)
from synthbench.testing import check_metric

METRICS = [ClippedDensity, ClippedCoverage]


def sets(n=30, m=25, d=4, spread=0.8, shift=0.3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), spread * rng.normal(size=(m, d)) + shift


def published(x, y, k, x_id=None):
    """Clipped density and mean fill by a neighbour search, steps as in Salvy et al., by loops."""
    x_id = np.arange(len(x)) if x_id is None else x_id
    radius, real_counts, synth_counts = [], np.zeros(len(x)), np.zeros(len(y))
    for row, own in zip(x, x_id, strict=True):
        search = NearestNeighbors(n_neighbors=k).fit(x[x_id != own])
        radius.append(search.kneighbors(row[None])[0][0, -1])
    clipped = np.minimum(radius, np.median(radius))
    fills = []
    for i, row in enumerate(x):
        to_real, to_synth = (np.linalg.norm(rows - row, axis=1) for rows in (x, y))
        real_counts += (to_real <= clipped[i] * (1 + 1e-12)) & (x_id != x_id[i])
        synth_counts += to_synth <= clipped[i] * (1 + 1e-12)
        fills.append(min((to_synth <= radius[i] * (1 + 1e-12)).sum(), k) / k)
    ratio = np.minimum(synth_counts / k, 1).mean() / np.minimum(real_counts / k, 1).mean()
    return min(ratio, 1.0), float(np.mean(fills))


def fill_by_scipy(n, m, k):
    """E min(J, k) / k with J beta-binomial, from SciPy's probabilities."""
    held = np.arange(m + 1)
    return float(np.minimum(held, k) @ betabinom(m, k, n - k).pmf(held)) / k


@pytest.mark.parametrize("metric", METRICS)
def test_it_is_a_sound_metric(metric):
    assert isinstance(metric(), Metric)
    assert metric().freeze(None, None) == {"k": 5}
    check_metric(metric())


CASES = [(30, 25, 4, 5), (25, 40, 2, 3), (20, 21, 60, 1), (8, 9, 3, 5)]


@pytest.mark.parametrize(("n", "m", "d", "k"), CASES)
def test_the_density_is_that_of_a_neighbour_search(n, m, d, k):
    x, y = sets(n, m, d)
    assert clipped_density(x, y, k) == pytest.approx(published(x, y, k)[0], rel=1e-12)


@pytest.mark.parametrize(("n", "m", "d", "k"), CASES)
def test_the_coverage_has_the_fill_that_was_found(n, m, d, k):
    """The published code takes the smallest whole m' whose expected fill is at least that found;
    ours is the m' between this one and the one before it.
    """
    x, y = sets(n, m, d)
    fill = published(x, y, k)[1]
    expected = [0.0, *(fill_by_scipy(n, count, k) for count in range(1, m + 1))]
    whole = int(np.searchsorted(expected, fill))
    found = clipped_coverage(x, y, k) * m
    assert min(whole, m) - 1 <= found <= min(whole, m) + 1e-9


@pytest.mark.parametrize(("n", "m", "k"), [(86, 86, 5), (30, 7, 5), (12, 3, 5), (200, 20, 3)])
def test_the_expected_fill_is_that_of_a_beta_binomial(n, m, k):
    found = float(expected_fill(np.array(n - 1.0), np.array(float(m)), k))
    assert found == pytest.approx(fill_by_scipy(n, m, k), rel=1e-11)


def test_counts_are_repeated_images_that_are_no_neighbours_of_themselves():
    x, y = sets()
    rng = np.random.default_rng(2)
    w = rng.multinomial(30, np.full(30, 1 / 30), size=3)
    v = rng.multinomial(25, np.full(25, 1 / 25), size=3)
    weights = {"real": w.astype(float), "synth": v.astype(float)}
    found = ClippedDensity().prepare(x, y).value(weights)
    for row, (a, b) in enumerate(zip(w, v, strict=True)):
        i, j = np.repeat(np.arange(30), a), np.repeat(np.arange(25), b)
        assert found[row] == pytest.approx(published(x[i], y[j], 5, i)[0], rel=1e-12)


def test_the_median_radius_is_that_of_the_repeated_images():
    rng = np.random.default_rng(3)
    radius = rng.random((2, 9))
    w = rng.integers(0, 4, size=(2, 9)).astype(float)
    found = weighted_median_radius(radius, w)
    for row in range(2):
        repeated = np.repeat(np.sqrt(radius[row]), w[row].astype(int))
        assert found[row] == pytest.approx(np.median(repeated) ** 2, rel=1e-12)


@pytest.mark.parametrize("metric", [clipped_density, clipped_coverage])
def test_it_falls_in_proportion_to_the_share_of_bad_images(metric):
    """A share b of the synthetic images lies away from all real ones. Without them the mean over
    draws is a little below 1, as values are clipped there; then it is about 1 - b.
    """
    rng = np.random.default_rng(4)
    for bad in (0, 16, 32, 48, 64):
        values = []
        for _ in range(30):
            x, y = rng.normal(size=(64, 6)), rng.normal(size=(64, 6))
            y[:bad] += 100
            values.append(metric(x, y))
        assert np.mean(values) == pytest.approx(1 - bad / 64, abs=0.06)


@pytest.mark.parametrize("metric", METRICS)
def test_half_the_spread_is_not_called_better_than_real(metric):
    """86 images, 512 features of effective rank 28, half the spread: plain density is near 11.
    Real against real reaches 1 in more than a fortieth of the splits, and nothing exceeds 1.
    """
    rng = np.random.default_rng(5)
    scale = np.exp(-np.arange(512) / 28)
    real = rng.normal(size=(86, 512)) * scale
    half = rng.normal(size=(86, 512)) * scale / 2
    assert metrics.density(real, half) > 8
    value = resampling.estimate(metric().prepare(real, half))
    found = floor(metric().prepare(real, real), splits=100, seed=0)
    assert value <= found.high == 1.0


def test_one_outlying_real_image_does_not_hold_much():
    """A real image at 100 makes a plain ball that holds every image; its clipped ball is small."""
    rng = np.random.default_rng(6)
    x = np.vstack([rng.normal(size=(20, 2)), [[100.0, 0.0]]])
    y = np.array([[50.0, 0.0], [60.0, 0.0]])
    assert metrics.precision(x, y) == 1
    assert clipped_density(x, y) == 0


@pytest.mark.parametrize("metric", METRICS)
def test_the_interval_lies_in_its_bounds_and_holds_the_value(metric):
    x, y = sets()
    statistic = metric().prepare(x, y)
    found = interval(statistic, metric.interval, seed=0)
    assert 0 <= found.low <= resampling.estimate(statistic) <= found.high <= 1


@pytest.mark.parametrize("metric", METRICS)
def test_a_clipped_value_has_the_interval_of_what_was_clipped(metric):
    """Denser than the real set by chance: the value is 1, and the interval ends where that of the
    value before it was clipped does, or lower.
    """
    for seed in range(4):
        x, y = sets(60, 60, 8, spread=0.95, shift=0, seed=seed)
        statistic = metric().prepare(x, y)
        assert isinstance(statistic, Transformed)
        found = interval(statistic, metric.interval, seed=0)
        base = interval(statistic.base, metric.interval, seed=0)
        assert found.low <= statistic.from_base(base.low)
        assert found.high >= statistic.from_base(base.high)
        value = resampling.estimate(statistic)
        assert value == pytest.approx(statistic.from_base(resampling.estimate(statistic.base)))


@pytest.mark.parametrize("metric", METRICS)
def test_too_few_real_images_are_refused(metric):
    x, y = sets(5, 9)
    with pytest.raises(MetricError, match=rf"{metric.name}: each real image needs at least k = 5"):
        metric().prepare(x, y)
    metric().prepare(x, y, k=4)
