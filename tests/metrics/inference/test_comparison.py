"""Paired differences, rankings and equivalence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import stats

from synthbench.errors import MetricError
from synthbench.metrics.fid import FID
from synthbench.metrics.inference import comparison, intervals, resampling, subgroup
from synthbench.metrics.inference.comparison import Comparison, paired_difference, rank
from synthbench.metrics.inference.pairs import ratio, variance_of_mean
from synthbench.metrics.kernels import gaussian_kernel
from synthbench.metrics.metric import BaseMetric, Target, Weights
from synthbench.metrics.mmd import KID, MMD2, KernelDiscrepancy
from synthbench.metrics.prdc import Coverage
from synthbench.metrics.subjects import subject_index


@dataclass(frozen=True)
class Means:
    """Mean of synth less mean of real: every part of a difference has a closed form."""

    x: np.ndarray
    y: np.ndarray
    subjects: Mapping[str, np.ndarray]
    target: Target = "zero"

    def value(self, weights: Weights) -> np.ndarray:
        w, v = weights["real"], weights["synth"]
        gap: np.ndarray = ratio(v @ self.y, v.sum(axis=1)) - ratio(w @ self.x, w.sum(axis=1))
        return gap


class LinearMeans(Means):
    def contributions(self, weights: Weights) -> dict[str, np.ndarray]:
        return {
            "real": np.broadcast_to(-self.x, weights["real"].shape),
            "synth": np.broadcast_to(self.y, weights["synth"].shape),
        }


def discrepancy(x: np.ndarray, y: np.ndarray) -> KernelDiscrepancy:
    found = MMD2().prepare(x, y, bandwidth=2.0)
    assert isinstance(found, KernelDiscrepancy)
    return found


def means(x: np.ndarray, y: np.ndarray, kind: type[Means] = Means) -> Means:
    return kind(x, y, subject_index(None, real=len(x), synth=len(y)))


def sets(seed: int = 0, n: int = 15) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=n), rng.normal(size=n) + 0.3, rng.normal(size=n + 4) + 0.9


def test_the_real_set_drops_out_of_a_paired_difference_of_means():
    """(mean b - mean x) - (mean a - mean x) does not depend on x at all: its standard error is
    that of two independent means, sqrt(s_a^2/n_a + s_b^2/n_b), and the interval is normal.
    """
    x, a, b = sets()
    found = paired_difference(means(x, a), means(x, b), seed=0)
    se = np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
    low, high = stats.norm.interval(0.95, b.mean() - a.mean(), se)
    assert found.method == "jackknife"
    assert found.difference == pytest.approx(b.mean() - a.mean())
    assert found.se == pytest.approx(se, rel=1e-9)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.p == pytest.approx(2 * stats.norm.sf(abs(b.mean() - a.mean()) / se))


def test_shared_seeds_pair_the_synthetic_images_too():
    """With sample i of both from one seed, the standard error is that of the mean of b - a."""
    x, a, _ = sets()
    b = a + np.random.default_rng(9).normal(scale=0.1, size=len(a))
    found = paired_difference(means(x, a), means(x, b), shared=("real", "synth"), seed=0)
    assert found.se == pytest.approx((b - a).std(ddof=1) / np.sqrt(len(a)), rel=1e-9)
    independent = paired_difference(means(x, a), means(x, b), seed=0)
    assert independent.se > 5 * found.se


def test_equal_sets_scored_twice_do_not_differ():
    x, a, _ = sets()
    for kind in (Means, LinearMeans):
        same = paired_difference(
            means(x, a, kind), means(x, a, kind), shared=("real", "synth"), seed=0
        )
        assert (same.difference, same.se, same.low, same.high, same.p) == (0, 0, 0, 0, 1)


def test_synthetic_sets_of_one_size_are_resampled_independently():
    """Under one name their resamples would be the same, and copies of one set would never
    differ. Independent, the sd of a difference of two copies' means is sqrt(2) s/sqrt(n).
    """
    x, a, _ = sets(n=40)
    copies = [means(x, a, LinearMeans), means(x, a, LinearMeans)]
    found = paired_difference(*copies, seed=0)
    assert found.se == pytest.approx(np.sqrt(2 / 40) * a.std(ddof=1))
    assert found.high - found.low == pytest.approx(2 * 2.02 * found.se, rel=0.15)


def test_the_studentized_interval_of_a_difference_is_the_one_written_out():
    """Each stream's counts as `bootstrap_weights` documents them; values repeated by them."""
    x, a, b = sets()
    found = paired_difference(means(x, a, LinearMeans), means(x, b, LinearMeans), seed=5)

    key = int(np.random.default_rng(5).integers(2**63))

    def draw(values: np.ndarray, stream: str) -> np.ndarray:
        n = len(values)
        rng = np.random.default_rng([key, *stream.encode()])
        return np.array(
            [np.repeat(values, c) for c in rng.multinomial(n, np.full(n, 1 / n), size=1000)]
        )

    first, second = draw(a, "synth of first"), draw(b, "synth of second")
    d, se = b.mean() - a.mean(), np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
    variances = first.var(axis=1, ddof=1) / len(a) + second.var(axis=1, ddof=1) / len(b)
    t = (second.mean(axis=1) - first.mean(axis=1) - d) / np.sqrt(variances)
    low, high = d - np.quantile(t, [0.975, 0.025]) * se
    assert found.method == "studentized"
    assert (found.low, found.high) == pytest.approx((low, high))
    beyond = min((t >= d / se).sum(), (t <= d / se).sum())
    assert found.p == pytest.approx(2 * (1 + beyond) / 1001)


def test_the_variance_of_a_paired_discrepancy_is_the_documented_one():
    """V = 4 (var g_A/m_A + var g_B/m_B + var h/n), h_i = mean k(x_i, B) - mean k(x_i, A): the
    real set's own kernel drops out.
    """
    rng = np.random.default_rng(0)
    x, a, b = rng.normal(size=(12, 3)), rng.normal(size=(10, 3)) + 1, rng.normal(size=(14, 3))

    def g(y: np.ndarray) -> np.ndarray:
        within = gaussian_kernel(y, y, 2.0)
        np.fill_diagonal(within, 0.0)
        rows: np.ndarray = within.sum(axis=1) / (len(y) - 1)
        rows -= gaussian_kernel(y, x, 2.0).mean(axis=1)
        return rows

    h = gaussian_kernel(x, b, 2.0).mean(axis=1) - gaussian_kernel(x, a, 2.0).mean(axis=1)
    expected = 4 * (g(a).var(ddof=1) / len(a) + g(b).var(ddof=1) / len(b) + h.var(ddof=1) / len(x))
    found = paired_difference(discrepancy(x, a), discrepancy(x, b), seed=0)
    assert found.se**2 == pytest.approx(expected, rel=1e-9)


def test_contributions_add_up_to_a_discrepancys_own_variance():
    rng = np.random.default_rng(0)
    statistic = discrepancy(rng.normal(size=(9, 2)), rng.normal(size=(8, 2)) + 1)
    weights = resampling.bootstrap_weights(statistic.subjects, 5, np.random.default_rng(1))
    terms = statistic.contributions(weights)
    total = sum(variance_of_mean(terms[r], weights[r], statistic.subjects[r]) for r in terms)
    np.testing.assert_allclose(total, statistic.variance(weights), rtol=1e-12)


def test_large_sets_use_the_derivative():
    """Above 200 images, the delete-one and the infinitesimal jackknife of a paired Frechet
    difference agree to a few percent, and the second is used.
    """
    rng = np.random.default_rng(0)
    x, a, b = (rng.normal(size=(205, 3)) * scale for scale in (1.0, 1.2, 1.5))
    first, second = FID().prepare(x, a), FID().prepare(x, b)
    found = paired_difference(first, second, seed=0)
    g_a, g_b = first.influence(), second.influence()
    parts = [g_b["real"] - g_a["real"], g_a["synth"], g_b["synth"]]
    assert found.se**2 == pytest.approx(sum(part.var(ddof=1) / 205 for part in parts))
    deleted = [
        resampling.leave_one_out_values(second, "real")
        - resampling.leave_one_out_values(first, "real"),
        resampling.leave_one_out_values(first, "synth"),
        resampling.leave_one_out_values(second, "synth"),
    ]
    assert found.se**2 == pytest.approx(sum(204 * d.var() for d in deleted), rel=0.05)


def test_towards_zero_the_distances_from_zero_are_compared():
    """-0.9 and 0.3: the second is nearer, by 0.3 - 0.9, whatever the sign. Its standard error is
    that of the sum of both values, in which the real set counts twice.
    """
    x, a, b = sets(n=200)
    a, b = a - a.mean() + x.mean() - 0.9, b - b.mean() + x.mean() + 0.3
    found = paired_difference(means(x, a), means(x, b), direction="zero", seed=0)
    assert found.difference == pytest.approx(0.3 - 0.9)
    variance = a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b) + 4 * x.var(ddof=1) / len(x)
    assert found.se == pytest.approx(np.sqrt(variance), rel=1e-9)


def test_a_distance_from_zero_near_zero_still_covers():
    """True values 0 and 0.5 sd: the kink of |value| must not cost coverage. 95% in 200 trials
    falls below the bound once in 10,000 runs.
    """
    rng, trials, n, covered = np.random.default_rng(0), 200, 25, 0
    for trial in range(trials):
        x, a = rng.normal(size=n), rng.normal(size=n)
        b = rng.normal(size=n) + 0.5
        found = paired_difference(means(x, a), means(x, b), direction="zero", seed=trial)
        covered += found.low <= 0.5 <= found.high
    assert covered >= stats.binom.ppf(1e-4, trials, 0.95)


def known_discrepancy(shift: float, d: int = 3, l2: float = 4.0) -> float:
    """MMD^2 of N(0, I) and N(shift, I) under a Gaussian kernel of bandwidth sqrt(l2):
    2 c (1 - exp(-|s|^2 / (2 (l^2 + 2)))), c = (l^2 / (l^2 + 2))^(d/2).
    """
    c = (l2 / (l2 + 2)) ** (d / 2)
    return float(2 * c * (1 - np.exp(-d * shift**2 / (2 * (l2 + 2)))))


@pytest.mark.parametrize("method", ["studentized", "jackknife"])
def test_the_interval_of_a_paired_discrepancy_covers_and_is_the_narrower(method):
    """If it covers 91%, 100 trials miss the bound once in 10,000 runs. An interval for two
    independent real sets would be as wide as the root of the squared widths.
    """
    rng, trials, covered, narrower = np.random.default_rng(0), 100, 0, 0
    truth = known_discrepancy(1.0) - known_discrepancy(0.8)
    for trial in range(trials):
        x = rng.normal(size=(30, 3))
        first, second = (discrepancy(x, rng.normal(loc=s, size=(30, 3))) for s in (0.8, 1.0))
        found = paired_difference(first, second, method=method, resamples=200, seed=trial)
        covered += found.low <= truth <= found.high
        alone = intervals.jackknife_se(first), intervals.jackknife_se(second)
        narrower += found.se < np.hypot(alone[0], alone[1])
    assert covered >= stats.binom.ppf(1e-4, trials, 0.91)
    assert narrower == trials


def entries(shifts: dict[str, float], rng: np.random.Generator, n: int = 30):
    x = rng.normal(size=n)
    return {
        name: means(x, rng.normal(size=n) + shift, LinearMeans) for name, shift in shifts.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("method", ["studentized", "jackknife"])
def test_ties_are_rarely_split(method):
    """Four entries of one distribution: any split is false. If at most 5% of rankings hold one,
    150 exceed the bound once in 10,000 runs; pair by pair at 5%, some 20% would.
    """
    rng, trials, split = np.random.default_rng(0), 150, 0
    for trial in range(trials):
        tied = entries(dict.fromkeys("abcd", 0.5), rng)
        found = rank(tied, direction="lower", method=method, resamples=99, seed=trial)
        split += bool(found.split)
    assert split <= stats.binom.ppf(1 - 1e-4, trials, 0.05)


@pytest.mark.parametrize("direction", ["lower", "higher", "zero"])
def test_a_ranking_orders_splits_and_ties(direction):
    """With 100 images per side, the standard error of a difference is 0.14: values of 0.1 and 0.1
    (+- noise) tie, and 1.5 is far from both whichever way is better.
    """
    rng = np.random.default_rng(1)
    found = rank(entries({"far": 1.5, "a": 0.1, "b": 0.1}, rng, 100), direction=direction, seed=0)
    place = {s.name: (s.rank_low, s.rank_high) for s in found.standings}
    best = {s.name: s.best for s in found.standings}
    if direction == "higher":
        assert place == {"far": (1, 1), "a": (2, 3), "b": (2, 3)}
        assert best["far"] == 1
    else:
        assert place == {"a": (1, 2), "b": (1, 2), "far": (3, 3)}
        assert best["far"] == 0
    assert sum(best.values()) == pytest.approx(1)
    values = np.array([s.value for s in found.standings])
    order = {"lower": values, "higher": -values, "zero": abs(values)}[direction]
    assert (np.diff(order) >= 0).all()
    assert {frozenset((c.first, c.second)) for c in found.split} == {
        frozenset(("far", "a")),
        frozenset(("far", "b")),
    }
    for pair in found.comparisons:
        assert (pair.p <= 0.05) == (not pair.low <= 0 <= pair.high) == (pair in found.split)


def test_an_entry_is_ranked_as_it_was_beside_others():
    """Streams go by name: another entry, or another order, leaves a pair's resamples alone."""
    given = entries({"a": 0.2, "b": 0.5, "c": 0.9}, np.random.default_rng(2))
    whole = rank(given, direction="lower", seed=3)
    turned = rank(dict(reversed(given.items())), direction="lower", seed=3)
    assert turned == whole
    two = rank({name: given[name] for name in "ab"}, direction="lower", seed=3)
    of_ab = next(c for c in whole.comparisons if {c.first, c.second} == {"a", "b"})
    assert (two.comparisons[0].difference, two.comparisons[0].se) == (of_ab.difference, of_ab.se)
    assert two.comparisons[0].high < of_ab.high


def test_equivalence_is_two_one_sided_tests():
    """The jackknife's 90% interval is inside +-delta exactly where both one-sided normal tests
    have p < 0.05; p is the larger of the two.
    """
    x, a, b = sets()
    found = paired_difference(means(x, a), means(x, b), level=0.9, seed=0)
    d, se = found.difference, found.se
    for delta in (0.3, 1.0, 1.5, 3.0):
        result = comparison.equivalence(found, delta)
        one_sided = stats.norm.cdf((d - delta) / se), stats.norm.sf((d + delta) / se)
        assert result.p == pytest.approx(max(one_sided))
        assert result.equivalent == (result.p < 0.05)
    assert not comparison.equivalence(found, 0.3).equivalent
    assert comparison.equivalence(found, 3.0).equivalent


def test_equivalence_wants_its_own_level_and_a_margin():
    x, a, b = sets()
    with pytest.raises(MetricError, match=r"Compare with level=0\.9"):
        comparison.equivalence(paired_difference(means(x, a), means(x, b), seed=0), 1.0)
    at_90 = paired_difference(means(x, a), means(x, b), level=0.9, seed=0)
    with pytest.raises(MetricError, match="delta must be positive"):
        comparison.equivalence(at_90, 0.0)


def test_identical_entries_are_equivalent_within_any_margin():
    same = Comparison("a", "b", 0.0, 0.0, 0.0, 0.0, 1.0, 0.9, "jackknife")
    assert comparison.equivalence(same, 1e-9) == comparison.Equivalence(True, 0.0, 1e-9)


def test_what_cannot_be_compared_is_named():
    x, a, b = sets()
    with pytest.raises(MetricError, match="must share the images of 'real'"):
        paired_difference(means(x, a), means(x[1:], b), seed=0)
    with pytest.raises(MetricError, match="did you mean 'real'"):
        paired_difference(means(x, a), means(x, b), shared=("reals",), seed=0)
    with pytest.raises(MetricError, match="did you mean 'jackknife'"):
        paired_difference(means(x, a), means(x, b), method="jacknife", seed=0)  # type: ignore[arg-type]
    with pytest.raises(MetricError, match="Means has no contributions"):
        paired_difference(means(x, a), means(x, b), method="studentized", seed=0)
    with pytest.raises(MetricError, match="two names must differ; found 'a'"):
        paired_difference(means(x, a), means(x, b), names=("a", "a"), seed=0)
    with pytest.raises(MetricError, match="at least 2 entries are needed; found 1"):
        rank({"alone": means(x, a)}, direction="lower", seed=0)
    constant = np.zeros(9), np.ones(9)
    with pytest.raises(MetricError, match="standard error must be above zero"):
        paired_difference(means(x, constant[0]), means(x, constant[1]), seed=0)


def test_a_subgroup_is_compared_as_the_subset_alone():
    rng = np.random.default_rng(0)
    x, a, b = (rng.normal(size=(20, 2)) + shift for shift in (0.0, 0.5, 1.0))
    women = rng.random(20) < 0.6
    parts = [subgroup.subgroup(discrepancy(x, y), {"real": women, "synth": ~women}) for y in (a, b)]
    alone = [discrepancy(x[women], y[~women]) for y in (a, b)]
    found, expected = (paired_difference(*pair, seed=0) for pair in (parts, alone))
    assert found.method == expected.method == "studentized"
    assert (found.low, found.high, found.p) == pytest.approx(
        (expected.low, expected.high, expected.p)
    )


class Spread(BaseMetric):
    """A metric of another package: the difference of mean squares, without contributions."""

    name = "spread"

    def value(self, real, synth, weights, **settings):
        squares = ((real**2).sum(axis=1), (synth**2).sum(axis=1))
        w, v = weights["real"], weights["synth"]
        return v @ squares[1] / v.sum(axis=1) - w @ squares[0] / w.sum(axis=1)


class UnbiasedSpread(Spread):
    """The same, declared to be zero on average at any n."""

    target: Target = "zero"


@pytest.mark.parametrize(
    ("metric", "refused"),
    [(FID(), True), (Coverage(), True), (Spread(), True), (UnbiasedSpread(), False),
     (MMD2(), False), (KID(), False)],
)  # fmt: skip
def test_sets_of_different_sizes_are_refused_where_the_metric_depends_on_n(metric, refused):
    """The target says so: its floor where the expected value depends on n, else zero."""
    rng = np.random.default_rng(0)
    real, first, second = rng.normal(size=(3, 16, 3))
    scans = np.repeat(np.arange(8), 2)
    entries = {
        "all": metric.prepare(real, first),
        "fewer": metric.prepare(real, second[:12]),
    }
    clustered = metric.prepare(real, second, subjects={"synth": scans})
    if not refused:
        assert rank(entries, direction="lower", resamples=50, seed=0).standings
        return
    with pytest.raises(MetricError, match="16 of 16 subjects and 12 of 12"):
        paired_difference(*entries.values(), seed=0)
    with pytest.raises(MetricError, match="equally many images of 'synth'"):
        rank(entries, direction="lower", seed=0)
    with pytest.raises(MetricError, match="16 of 16 subjects and 16 of 8"):
        paired_difference(entries["all"], clustered, seed=0)
