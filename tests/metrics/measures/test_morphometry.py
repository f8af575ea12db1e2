from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.stats import wasserstein_distance

from synthbench.errors import MetricError
from synthbench.metrics.inference.floors import floor
from synthbench.metrics.inference.intervals import interval
from synthbench.metrics.inference.resampling import estimate
from synthbench.metrics.measures.morphometry import (
    Morphometry,
    region_differences,
    regional_distance,
    rejects,
)
from synthbench.metrics.metric import Metric
from synthbench.records.reasons import reason_of
from synthbench.testing import check_metric


def sets(n=40, m=30, d=12, seed=0, units=None):
    """Correlated measures of very different sizes, as volumes of regions are."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(4, d))
    size = 10.0 ** rng.uniform(-2, 3, size=d) if units is None else units
    return tuple(
        size * (5 + rng.normal(size=(k, 4)) @ mixing + rng.normal(size=(k, d))) for k in (n, m)
    )


def by_hand(x, y):
    """D of each region, the mean Wasserstein distance and the rejects, one region at a time."""
    d, distances, out = [], [], set()
    for region in range(x.shape[1]):
        a, b = x[:, region], y[:, region]
        sd = np.sqrt(np.mean((a - a.mean()) ** 2))
        d.append((b.mean() - a.mean()) / sd)
        distances.append(wasserstein_distance(a, b) / sd)
        out |= {i for i, value in enumerate(b) if abs(value - a.mean()) > 5 * sd}
    return np.array(d), np.mean(distances), len(out) / len(y)


def parts_of(x, y):
    return Morphometry().prepare(x, y).parts()


def test_it_is_a_sound_metric():
    assert isinstance(Morphometry(), Metric)
    check_metric(Morphometry(), images=40)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_all_rows_are_those_of_single_regions(seed):
    x, y = sets(seed=seed)
    y[0] *= 4
    d, distance, rejected = by_hand(x, y)
    assert regional_distance(x, y) == pytest.approx(distance, rel=1e-12)
    parts = parts_of(x, y)
    assert estimate(parts["within"].statistic) == np.mean(np.abs(d) < 0.2)
    assert estimate(parts["largest"].statistic) == pytest.approx(np.abs(d).max(), rel=1e-10)
    assert estimate(parts["rejects"].statistic) == rejected == rejects(x, y).mean() > 0
    np.testing.assert_allclose(region_differences(x, y, resamples=30).d, d, rtol=1e-10)


def test_counts_are_repeated_images():
    x, y = sets()
    y[0] *= 4
    rng = np.random.default_rng(1)
    w = rng.multinomial(40, np.full(40, 1 / 40), size=3)
    v = rng.multinomial(30, np.full(30, 1 / 30), size=3)
    statistic = Morphometry().prepare(x, y)
    weights = {"real": w.astype(float), "synth": v.astype(float)}
    repeated = [
        by_hand(np.repeat(x, a, axis=0), np.repeat(y, b, axis=0)) for a, b in zip(w, v, strict=True)
    ]
    parts = statistic.parts()
    np.testing.assert_allclose(statistic.value(weights), [r[1] for r in repeated], rtol=1e-9)
    for name, expected in (
        ("within", [np.mean(np.abs(r[0]) < 0.2) for r in repeated]),
        ("largest", [np.abs(r[0]).max() for r in repeated]),
        ("rejects", [r[2] for r in repeated]),
    ):
        np.testing.assert_allclose(parts[name].statistic.value(weights), expected, rtol=1e-8)


def test_units_and_offsets_of_regions_change_nothing():
    """1e6: volumes over a head that is stated in another unit; 1e4: a region far from zero."""
    x, y = sets(units=1.0)
    assert regional_distance(1e6 * x + 1e4, 1e6 * y + 1e4) == pytest.approx(
        regional_distance(x, y), rel=1e-6
    )


def test_the_better_side_of_a_part_may_differ_from_that_of_the_metric():
    parts = parts_of(*sets())
    assert [parts[name].direction for name in ("within", "largest", "rejects")] == [
        "higher", None, None,
    ]  # fmt: skip


def test_real_halves_agree_in_as_many_regions_as_the_normal_distribution_says():
    """D of independent halves of n has the sd sqrt(2/n): |d| < 0.2 with P(|z| < 0.2 sqrt(n/2))."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(80, 200))
    within = floor(parts_of(x, x)["within"].statistic, splits=100, seed=0)
    assert within.n == 40
    assert within.mean == pytest.approx(0.629, abs=0.03)


def test_one_region_that_differs_is_named_and_the_others_are_not():
    """A shift of 1.2 sd is five standard errors at 40 against 40."""
    x, y = sets(40, 40, units=1.0, seed=4)
    y[:, 7] += 1.2 * x[:, 7].std()
    found = region_differences(x, y, resamples=300)
    assert np.flatnonzero(found.p < 0.05).tolist() == [7]
    assert found.low[7] > 0
    assert (found.p_alone <= found.p).all()
    assert np.flatnonzero((found.low > 0) | (found.high < 0)).tolist() == [7]


def test_the_standard_error_is_that_of_the_jackknife():
    """Two subjects of each set have two scans. To first order both are the same."""
    x, y = sets(60, 50, units=1.0, seed=5)
    y = y + 0.3
    subjects = {"real": np.r_[0, 0, 1, 1, 2:58], "synth": np.r_[0, 0, 1, 1, 2:48]}
    whole = region_differences(x, y, subjects=subjects, resamples=100)
    variance = 0.0
    for a, (role, images) in enumerate((("real", x), ("synth", y))):
        values = []
        for one in np.unique(subjects[role]):
            pair = [x, y]
            pair[a] = images[subjects[role] != one]
            values.append((pair[1].mean(axis=0) - pair[0].mean(axis=0)) / x.std(axis=0))
        n = len(values)
        variance = variance + (n - 1) / n * ((values - np.mean(values, axis=0)) ** 2).sum(axis=0)
    critical = (whole.high - whole.d) / np.sqrt(variance)
    assert np.ptp(critical) / critical.mean() < 0.02


def test_larger_and_more_varied_ventricles_are_seen_as_by_welch():
    """Log-normal, three times as large, 40 against 40: Welch's t is above 5 in one of 40."""
    rng = np.random.default_rng(6)
    x, y = np.exp(rng.normal(size=(2, 40, 30)) * 0.6)
    y[:, 0] *= 3
    found = region_differences(x, y, resamples=300)
    assert stats.ttest_ind(y[:, 0], x[:, 0], equal_var=False).statistic > 5
    assert np.flatnonzero(found.p <= 0.05).tolist() == [0]


@pytest.mark.slow
@pytest.mark.parametrize("scans", [1, 3])
def test_the_intervals_of_all_regions_cover_together(scans):
    """95% of 120 null sets, within three of its standard errors; also with scans of one subject."""
    misses = 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        mixing = rng.normal(size=(3, 10))
        x, y = (
            np.repeat(rng.normal(size=(30, 3)) @ mixing + rng.normal(size=(30, 10)), scans, axis=0)
            for _ in range(2)
        )
        x, y = (a + 0.1 * rng.normal(size=a.shape) for a in (x, y))
        subjects = {role: np.repeat(np.arange(30), scans) for role in ("real", "synth")}
        found = region_differences(x, y, subjects=subjects, resamples=200, seed=seed)
        misses += bool(((found.low > 0) | (found.high < 0)).any())
    assert misses / 120 == pytest.approx(0.05, abs=3 * np.sqrt(0.05 * 0.95 / 120))


def test_the_intervals_lie_in_their_bounds():
    x, y = sets()
    statistic = Morphometry().prepare(x, y)
    found = interval(statistic, Morphometry.interval, seed=0)
    assert 0 < found.low < estimate(statistic) < found.high


def test_features_of_a_network_and_constant_measures_are_refused():
    x = np.random.default_rng(4).normal(size=(9, 512))
    with pytest.raises(MetricError, match=r"at most 256; found 512 features.*regions") as e:
        Morphometry().prepare(x, x)
    assert reason_of(e.value)["code"] == "too many features"
    x = x[:, :5].copy()
    x[:, 3] = 2.0
    with pytest.raises(MetricError, match=r"1 of 5 do not \(first: measure 3\)"):
        Morphometry().prepare(x, x)
