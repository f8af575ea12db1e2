from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import stats

from synthbench.errors import MetricError
from synthbench.metrics import inference
from synthbench.metrics.metric import Statistic, Studentized, Weights, ones
from synthbench.metrics.mmd import MMD2


@dataclass(frozen=True)
class Mean:
    """The mean of one role's numbers: every standard error has a closed form."""

    x: np.ndarray
    subjects: Mapping[str, np.ndarray]

    def value(self, weights: Weights) -> np.ndarray:
        return inference.ratio(weights["real"] @ self.x, weights["real"].sum(axis=1))

    def variance(self, weights: Weights) -> np.ndarray:
        values = np.broadcast_to(self.x, weights["real"].shape)
        return inference.variance_of_mean(values, weights["real"], self.subjects["real"])

    def influence(self) -> dict[str, np.ndarray]:
        return {"real": self.x}


class OnlyValue:
    """A statistic without a variance."""

    subjects: Mapping[str, np.ndarray] = {"real": np.arange(4)}

    def value(self, weights: Weights) -> np.ndarray:
        return np.zeros(len(weights["real"]))


@dataclass(frozen=True)
class PairMean:
    """The mean over pairs of distinct subjects of one role."""

    pairs: np.ndarray
    subjects: Mapping[str, np.ndarray]

    def value(self, weights: Weights) -> np.ndarray:
        return inference.within_mean(self.pairs, weights["real"], self.subjects["real"])


def mean_of(x: np.ndarray, subjects: np.ndarray | None = None) -> Mean:
    labels = None if subjects is None else {"real": subjects}
    return Mean(x, inference.subject_index(labels, real=len(x)))


def test_the_contracts_are_recognised():
    statistic = mean_of(np.arange(4.0))
    assert isinstance(statistic, Studentized)
    assert isinstance(statistic, inference.Differentiable)
    assert isinstance(OnlyValue(), Statistic)
    assert not isinstance(OnlyValue(), Studentized)


def test_subjects_are_numbered_by_first_appearance():
    labels = {"real": np.array(["s9", "s2", "s9"])}
    index = inference.subject_index(labels, real=3, synth=2)
    assert index["real"].tolist() == [0, 1, 0]
    assert index["synth"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("labels", "found"),
    [({"reel": np.arange(3)}, "did you mean 'real'"), ({"real": np.arange(2)}, r"shape \(2,\)")],
)
def test_wrong_subject_labels_are_named(labels, found):
    with pytest.raises(MetricError, match=found):
        inference.subject_index(labels, real=3, synth=3)


def test_resamples_are_counts_of_whole_subjects():
    """Counts of N subjects sum to N, and images of one subject carry one count."""
    index = {"real": np.array([0, 0, 1, 2, 2, 2])}
    w = inference.bootstrap_weights(index, 50, np.random.default_rng(0))["real"]
    assert w.shape == (50, 6)
    assert (w[:, 0] == w[:, 1]).all()
    assert (w[:, 3:] == w[:, 3:4]).all()
    assert (w[:, [0, 2, 3]].sum(axis=1) == 3).all()


def test_a_roles_resamples_depend_on_its_own_subjects_only():
    alone = inference.bootstrap_weights({"real": np.arange(7)}, 20, np.random.default_rng(3))
    beside = inference.bootstrap_weights(
        {"synth": np.arange(5), "real": np.arange(7)}, 30, np.random.default_rng(3)
    )
    np.testing.assert_array_equal(alone["real"], beside["real"][:20])


def test_the_size_of_chunks_does_not_matter(monkeypatch):
    statistic = mean_of(np.random.default_rng(0).exponential(size=12))
    whole = inference.studentized_interval(statistic, resamples=101, seed=1)
    monkeypatch.setattr(inference, "CHUNK_NUMBERS", 12**2 * 7)
    chunked = inference.studentized_interval(statistic, resamples=101, seed=1)
    assert (chunked.low, chunked.high) == pytest.approx((whole.low, whole.high), rel=1e-12)


def test_both_jackknives_of_a_mean_are_its_standard_error():
    """For a mean, the delete-one jackknife is exactly s / sqrt(n), and g = x gives it too."""
    x = np.random.default_rng(0).normal(size=15)
    expected = x.std(ddof=1) / np.sqrt(15)
    assert inference.jackknife_se(mean_of(x)) == pytest.approx(expected, rel=1e-12)
    assert inference.infinitesimal_jackknife_se(mean_of(x)) == pytest.approx(expected, rel=1e-12)


def test_jackknife_interval_is_the_normal_one():
    x = np.random.default_rng(0).normal(size=15)
    low, high = stats.norm.interval(0.9, loc=x.mean(), scale=x.std(ddof=1) / np.sqrt(15))
    found = inference.jackknife_interval(mean_of(x), level=0.9)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)
    assert "90% CI" in found.label
    assert "excludes bias" in found.label


def test_a_subject_scanned_twice_counts_once():
    """Two identical images of each subject carry no more information than one: every standard
    error and interval stays as it was.
    """
    x = np.random.default_rng(0).normal(size=12)
    once, twice = mean_of(x), mean_of(np.repeat(x, 2), np.repeat(np.arange(12), 2))
    assert inference.jackknife_se(twice) == pytest.approx(inference.jackknife_se(once))
    assert inference.infinitesimal_jackknife_se(twice) == pytest.approx(
        inference.infinitesimal_jackknife_se(once)
    )
    for method in (inference.studentized_interval, inference.percentile_interval):
        a, b = method(once, resamples=99, seed=0), method(twice, resamples=99, seed=0)
        assert (b.low, b.high) == pytest.approx((a.low, a.high))


def test_variance_of_a_weighted_mean_is_that_of_the_repeated_values():
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=8), np.array([0.0, 3, 1, 0, 2, 1, 1, 0])
    repeated = np.repeat(x, w.astype(int))
    found = inference.variance_of_mean(x[None], w[None], np.arange(8))[0]
    assert found == pytest.approx(repeated.var(ddof=1) / len(repeated), rel=1e-12)


def test_within_mean_of_counts_leaves_out_pairs_of_one_subject():
    """Repeat the images by their counts, and average over pairs of different subjects."""
    rng = np.random.default_rng(0)
    pairs = rng.random((6, 6))
    pairs += pairs.T
    index = np.array([0, 0, 1, 2, 3, 3])
    counts = np.array([2, 2, 0, 3, 1, 1])
    rows = np.repeat(np.arange(6), counts)
    distinct = index[rows][:, None] != index[rows][None, :]
    expected = pairs[np.ix_(rows, rows)][distinct].mean()
    clean = inference.distinct_pairs(pairs, index)
    found = inference.within_mean(clean, counts[None].astype(float), index)[0]
    assert found == pytest.approx(expected, rel=1e-12)


def test_percentile_interval_of_a_mean():
    """Percentiles of means of the values, repeated as the documented stream counts them."""
    x = np.random.default_rng(5).normal(size=10)
    key = int(np.random.default_rng(8).integers(2**63))
    counts = np.random.default_rng([key, *b"real"]).multinomial(10, np.full(10, 0.1), size=64)
    low, high = np.quantile([np.repeat(x, c).mean() for c in counts], [0.025, 0.975])
    found = inference.percentile_interval(mean_of(x), resamples=64, seed=8)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)


def test_degenerate_resamples_are_left_out_and_counted():
    """A resample of one subject has no pair. With 5 subjects that happens once in 5^4 = 625."""
    pairs = inference.distinct_pairs(np.random.default_rng(0).random((5, 5)), np.arange(5))
    statistic = PairMean(pairs, {"real": np.arange(5)})
    drawn = inference.bootstrap_weights(statistic.subjects, 5000, np.random.default_rng(0))
    alone = int(((drawn["real"] > 0).sum(axis=1) == 1).sum())
    assert 0 < alone < 30
    assert inference.percentile_interval(statistic, resamples=5000, seed=0).excluded == alone


def test_too_many_degenerate_resamples_are_an_error():
    """With 3 subjects, 3 of 27 resamples (11%) hold one subject only."""
    statistic = PairMean(
        inference.distinct_pairs(np.ones((3, 3)), np.arange(3)), {"real": np.arange(3)}
    )
    with pytest.raises(MetricError, match="Score more subjects"):
        inference.percentile_interval(statistic, resamples=900, seed=0)


def test_zero_variance_is_an_error():
    with pytest.raises(MetricError, match="variance is 0"):
        inference.studentized_interval(mean_of(np.zeros(9)), seed=0)


def test_deleting_down_to_one_subject_is_an_error():
    statistic = PairMean(np.array([[0.0, 1.0], [1.0, 0.0]]), {"real": np.arange(2)})
    with pytest.raises(MetricError, match="at least 3 subjects"):
        inference.jackknife_se(statistic)


def test_an_undefined_estimate_is_an_error():
    statistic = PairMean(np.zeros((2, 2)), {"real": np.zeros(2, dtype=np.int64)})
    with pytest.raises(MetricError, match="found 1 real"):
        inference.estimate(statistic)


def test_the_dispatcher_knows_its_methods():
    statistic = mean_of(np.random.default_rng(0).normal(size=9))
    for method in ("studentized", "percentile", "jackknife"):
        assert inference.interval(statistic, method, seed=0, resamples=50).method == method
    with pytest.raises(MetricError, match="did you mean 'jackknife'"):
        inference.interval(statistic, "jacknife", seed=0)  # type: ignore[arg-type]
    with pytest.raises(MetricError, match="has no variance"):
        inference.interval(OnlyValue(), "studentized", seed=0)
    with pytest.raises(MetricError, match="level"):
        inference.interval(statistic, "jackknife", level=95, seed=0)


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
        found = inference.studentized_interval(statistic, resamples=200, seed=trial)
        covered += found.low <= truth <= found.high
    assert covered >= stats.binom.ppf(1e-4, trials, 0.90)


def test_floor_of_a_discrepancy_is_zero_on_average():
    """Over random splits every pair is within a side or across equally often, so the expected
    U is exactly zero; the mean over splits stays within 4.5 of its standard errors.
    """
    x = np.random.default_rng(0).normal(size=(21, 4))
    statistic = MMD2().prepare(x, x)
    found = inference.floor(statistic, splits=400, seed=0)
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
            return inference.subject_sums(weights["real"] * weights["synth"], index).sum(axis=1)

    found = inference.floor(Shared({"real": index, "synth": index}), splits=20, seed=0)
    assert (found.mean, found.low, found.high, found.n) == (0, 0, 0, 2)


def test_floor_refuses_two_different_sets_and_too_few_subjects():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 2)), rng.normal(size=(7, 2))
    with pytest.raises(MetricError, match=r"Prepare it with \(real, real\)"):
        inference.floor(MMD2().prepare(x, y), seed=0)
    with pytest.raises(MetricError, match="more real volumes"):
        inference.floor(MMD2().prepare(x, x), n=4, seed=0)


def test_matched_at_full_size_is_the_estimate():
    rng = np.random.default_rng(0)
    statistic = MMD2().prepare(rng.normal(size=(6, 2)), rng.normal(size=(6, 2)))
    found = inference.matched(statistic, 6, repeats=5, seed=0)
    value = inference.estimate(statistic)
    assert (found.mean, found.low, found.high) == pytest.approx((value, value, value))
    with pytest.raises(MetricError, match="6 subjects of real"):
        inference.matched(statistic, 7, seed=0)


def test_matched_averages_to_the_estimate():
    """Subsamples without replacement: the mean U over them has the full U as its expectation."""
    rng = np.random.default_rng(0)
    statistic = MMD2().prepare(rng.normal(size=(14, 2)), rng.normal(size=(16, 2)) + 1)
    found = inference.matched(statistic, 7, repeats=400, seed=0)
    error = 4.5 * (found.high - found.low) / 2 / np.sqrt(400)
    assert found.mean == pytest.approx(inference.estimate(statistic), abs=error)


def test_ones_are_the_weights_of_the_estimate():
    x = np.random.default_rng(0).normal(size=6)
    assert ones(mean_of(x))["real"].tolist() == [[1.0] * 6]
    assert inference.estimate(mean_of(x)) == pytest.approx(x.mean())
