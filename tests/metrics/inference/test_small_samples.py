"""Intervals of shares near a boundary, and of squared distances with few images."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from synthbench.errors import MetricError
from synthbench.metrics.inference import intervals
from synthbench.metrics.inference.resampling import estimate
from synthbench.metrics.metric import RowStatistic
from synthbench.metrics.mmd import KID, MMD2
from synthbench.metrics.prdc import Coverage, Density, Precision, Recall
from tests.metrics.inference.means import OnlyValue, mean_of


def share_of(hits: np.ndarray, subjects: np.ndarray | None = None, upper: float = 1.0):
    """The mean of the hits, as a statistic between 0 and `upper`."""
    mean = mean_of(hits, subjects)
    return RowStatistic(mean.value, mean.subjects, (0.0, upper))


def gaussian_sets(n, m, spread=0.6, seed=0, d=6):
    rng = np.random.default_rng(seed)
    scale = np.array([3.0, *np.full(d - 1, 0.3)])
    return scale * (1 + rng.normal(size=(n, d))), scale * (1 + spread * rng.normal(size=(m, d)))


def wilson(k, n):
    level = 2 * stats.norm.cdf(stats.t.ppf(0.975, n - 1)) - 1
    return stats.binomtest(k, n).proportion_ci(level, method="wilson")


# ---------------------------------------------------------------- shares


@pytest.mark.parametrize("hit", [0.0, 1.0])
@pytest.mark.parametrize("n", [8, 30])
def test_a_share_at_its_bound_has_wilsons_interval(hit, n):
    """Among n independent images, at the level at which t is the normal quantile; scipy has it."""
    found = intervals.score_interval(share_of(np.full(n, hit)))
    low, high = wilson(int(hit * n), n)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)
    assert hit in (found.low, found.high)
    assert found.low < found.high


@pytest.mark.parametrize("k", [1, 7, 19])
def test_a_share_within_has_wilsons_interval_at_its_effective_n(k):
    """|p - e| = t sqrt(e (1 - e) / n) at both ends e (Wilson 1927). For a mean of independent
    images V is the sample variance over n, p (1 - p) / (n - 1), so the effective n is n - 1, and
    it is less where that exceeds what n independent images allow.
    """
    n, p = 20, k / 20
    inner = (k + 1) / (n + 2)
    effective = p * (1 - p) / max(p * (1 - p) / (n - 1), inner * (1 - inner) / n)
    assert effective <= n - 1 + 1e-9
    found = intervals.score_interval(share_of((np.arange(n) < k).astype(float)))
    t = stats.t.ppf(0.975, n - 1)
    for end in (found.low, found.high):
        assert abs(p - end) == pytest.approx(t * math.sqrt(end * (1 - end) / effective))


def test_a_mean_without_an_upper_bound_has_a_variance_in_proportion_to_it():
    """|x - e| = t sqrt(e V / x) at both ends e; V is the sample variance over n."""
    x = np.random.default_rng(0).gamma(2.0, size=12)
    found = intervals.score_interval(share_of(x, upper=math.inf))
    t, variance = stats.t.ppf(0.975, 11), x.var(ddof=1) / 12
    for end in (found.low, found.high):
        assert abs(x.mean() - end) == pytest.approx(t * math.sqrt(end * variance / x.mean()))
    nothing = intervals.score_interval(share_of(np.zeros(12), upper=math.inf))
    assert nothing.low == 0 < nothing.high


def test_scans_of_a_subject_are_one_image():
    hits = (np.arange(15) < 12).astype(float)
    once = intervals.score_interval(share_of(hits))
    three = intervals.score_interval(share_of(np.repeat(hits, 3), np.repeat(np.arange(15), 3)))
    assert (three.low, three.high) == pytest.approx((once.low, once.high))


@pytest.mark.parametrize("metric", [Precision, Recall, Density, Coverage])
@pytest.mark.parametrize("spread", [0.1, 1.0])
@pytest.mark.parametrize(("n", "m"), [(15, 15), (8, 40), (40, 8)])
def test_every_share_is_printed_and_holds_its_estimate(metric, spread, n, m):
    """With a spread of 0.1 precision is 1 and recall near 0: nothing is withheld there."""
    x, y = gaussian_sets(n, m, spread)
    statistic = metric().prepare(x, y)
    found = intervals.interval(statistic, metric.interval, seed=0)
    assert found.method == "score"
    assert metric.bounds[0] <= found.low < found.high <= metric.bounds[1]
    assert found.low <= estimate(statistic) <= found.high


def test_the_smaller_set_bounds_what_is_known():
    """200 real images in balls of 8 synthetic ones: a recall of 1 says as much as 8 images."""
    rng = np.random.default_rng(0)
    statistic = Recall().prepare(0.1 * rng.normal(size=(200, 3)), 3 * rng.normal(size=(8, 3)))
    found = intervals.score_interval(statistic)
    assert estimate(statistic) == 1
    assert found.low == pytest.approx(wilson(8, 8)[0])


def test_copies_of_an_image_are_one_image():
    """60 images of a generator that knows 10: a recall or precision of 1 says as much as 10 do."""
    rng = np.random.default_rng(0)
    known = 0.1 * rng.normal(size=(10, 3))
    statistic = Precision().prepare(rng.normal(size=(60, 3)), np.repeat(known, 6, axis=0))
    assert estimate(statistic) == 1
    assert intervals.score_interval(statistic).low == pytest.approx(wilson(10, 10)[0])


@pytest.mark.slow
def test_the_central_jackknife_is_nearer_to_the_spread_of_shares_than_deletion():
    """Over repeated draws: deletion alone is far too wide where neighbourhoods jump."""
    values, central, deleted = [], [], []
    for seed in range(40):
        statistic = Precision().prepare(*gaussian_sets(25, 25, 1.0, seed))
        values.append(estimate(statistic))
        central.append(intervals.central_jackknife_variance(statistic))
        deleted.append(intervals.jackknife_se(statistic) ** 2)
    truth = np.var(values)
    assert truth * 0.8 < np.mean(central) < 0.8 * np.mean(deleted)


# ---------------------------------------------------------------- squared distances


@pytest.mark.parametrize(("n", "m"), [(12, 12), (20, 8)])
def test_the_null_variance_is_that_of_relabelled_images(n, m):
    """5,000 relabellings determine a variance to about 4%; the formula leaves out O(1/n)."""
    x, y = gaussian_sets(n, m, spread=1.0, seed=3)
    pooled = np.concatenate([x, y])
    rng = np.random.default_rng(0)
    kernel = (pooled @ pooled.T / pooled.shape[1] + 1) ** 3
    np.fill_diagonal(kernel, 0)
    values = []
    for _ in range(5000):
        order = rng.permutation(n + m)
        a, b = order[:n], order[n:]
        within = kernel[np.ix_(a, a)].sum() / (n * (n - 1)) + kernel[np.ix_(b, b)].sum() / (
            m * (m - 1)
        )
        values.append(within - 2 * kernel[np.ix_(a, b)].mean())
    assert KID().prepare(x, y).null_variance() == pytest.approx(np.var(values), rel=0.25)


def test_scans_of_a_subject_change_nothing():
    x, y = gaussian_sets(12, 9)
    subjects = {"real": np.repeat(np.arange(12), 2), "synth": np.repeat(np.arange(9), 3)}
    once = intervals.asinh_interval(KID().prepare(x, y))
    repeated = KID().prepare(np.repeat(x, 2, axis=0), np.repeat(y, 3, axis=0), subjects=subjects)
    found = intervals.asinh_interval(repeated)
    assert (found.low, found.high) == pytest.approx((once.low, once.high))


def test_far_from_zero_the_interval_is_students_on_the_logarithm():
    """asinh(u) is log(2 u) up to 1 / u^2: U exp(-+ t sqrt(V) / U), with at most n - 1 degrees."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 3)), 6 + rng.normal(size=(40, 3))
    statistic = MMD2().prepare(x, y, bandwidth=30.0)
    value = estimate(statistic)
    se = math.sqrt(statistic.variance({r: np.ones((1, 40)) for r in ("real", "synth")})[0])
    assert value > 10 * se
    found = intervals.asinh_interval(statistic)
    relative = math.log(found.high / value)
    assert math.log(value / found.low) == pytest.approx(relative, rel=0.02)
    t = relative * value / se
    assert stats.t.ppf(0.975, 39) * 0.98 < t < stats.t.ppf(0.975, 15)


def test_the_distance_of_populations_is_not_negative():
    """Equal sets: U is negative, its interval holds it and zero, and nothing below it."""
    x, _ = gaussian_sets(20, 20)
    statistic = KID().prepare(x, x + 1e-9)
    found = intervals.asinh_interval(statistic)
    assert estimate(statistic) == found.low < 0 < found.high


def test_all_images_equal_is_an_error():
    x = np.ones((6, 3))
    with pytest.raises(MetricError, match="duplicated volumes"):
        intervals.asinh_interval(KID().prepare(x, x))


def expected_kernel(one, other):
    """E (x.y / d + 1)^3 of independent Gaussians with these means and variances, by cumulants."""
    (a, p), (b, q) = one, other
    d = len(a)
    first, second = a * b / d, (a**2 + p) * (b**2 + q) / d**2
    third = (a**3 + 3 * a * p) * (b**3 + 3 * b * q) / d**3
    k1, k2 = first.sum(), (second - first**2).sum()
    k3 = (third - 3 * second * first + 2 * first**3).sum()
    return 1 + 3 * k1 + 3 * (k2 + k1**2) + k3 + 3 * k2 * k1 + k1**3


@pytest.mark.slow
@pytest.mark.parametrize("n", [12, 30])
def test_kid_covers_where_the_bootstrap_lies_below(n):
    """Effective rank about 1, a spread of 0.6: the cubic kernel's tails are heavy there."""
    scale = np.array([3.0, *np.full(5, 0.3)])
    real, synth = (scale, scale**2), (scale, (0.6 * scale) ** 2)
    truth = (
        expected_kernel(real, real) + expected_kernel(synth, synth)
        - 2 * expected_kernel(real, synth)
    )  # fmt: skip
    trials, covered, before = 150, 0, 0
    for seed in range(trials):
        statistic = KID().prepare(*gaussian_sets(n, n, seed=seed))
        found = intervals.asinh_interval(statistic)
        covered += found.low <= truth <= found.high
        studentized = intervals.studentized_interval(statistic, resamples=100, seed=seed)
        before += studentized.low <= truth <= studentized.high
    assert covered >= stats.binom.ppf(1e-3, trials, 0.93)
    assert before < covered


def test_the_dispatcher_says_what_a_statistic_lacks():
    with pytest.raises(MetricError, match="--ci score: OnlyValue has no bounds"):
        intervals.interval(OnlyValue(), "score", seed=0)
    with pytest.raises(MetricError, match=r"--ci asinh: OnlyValue has no null_variance\(\)"):
        intervals.interval(OnlyValue(), "asinh", seed=0)
    with pytest.raises(MetricError, match="no lowest value"):
        intervals.interval(share_of(np.ones(5)).__class__(lambda w: w["real"].mean(axis=1),
                           {"real": np.arange(5)}), "score", seed=0)  # fmt: skip
