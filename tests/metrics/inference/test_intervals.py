from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import stats

from synthbench.errors import MetricError
from synthbench.metrics import subjects as subjects_module
from synthbench.metrics.fid import FID
from synthbench.metrics.inference import (
    contracts,
    floors,
    intervals,
    permutation,
    resampling,
    subgroup,
)
from synthbench.metrics.inference import pairs as pairs_module
from synthbench.metrics.metric import RowStatistic, Statistic, Studentized, Weights, ones
from synthbench.metrics.mmd import MMD2
from synthbench.metrics.msssim import MSSSIM


@dataclass(frozen=True)
class Mean:
    """The mean of one role's numbers: every standard error has a closed form."""

    x: np.ndarray
    subjects: Mapping[str, np.ndarray]

    def value(self, weights: Weights) -> np.ndarray:
        return pairs_module.ratio(weights["real"] @ self.x, weights["real"].sum(axis=1))

    def variance(self, weights: Weights) -> np.ndarray:
        values = np.broadcast_to(self.x, weights["real"].shape)
        return pairs_module.variance_of_mean(values, weights["real"], self.subjects["real"])

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
        return pairs_module.within_mean(self.pairs, weights["real"], self.subjects["real"])


def mean_of(x: np.ndarray, subjects: np.ndarray | None = None) -> Mean:
    labels = None if subjects is None else {"real": subjects}
    return Mean(x, subjects_module.subject_index(labels, real=len(x)))


def test_the_contracts_are_recognised():
    statistic = mean_of(np.arange(4.0))
    assert isinstance(statistic, Studentized)
    assert isinstance(statistic, contracts.Differentiable)
    assert isinstance(OnlyValue(), Statistic)
    assert not isinstance(OnlyValue(), Studentized)


def test_subjects_are_numbered_by_first_appearance():
    labels = {"real": np.array(["s9", "s2", "s9"])}
    index = subjects_module.subject_index(labels, real=3, synth=2)
    assert index["real"].tolist() == [0, 1, 0]
    assert index["synth"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("labels", "found"),
    [({"reel": np.arange(3)}, "did you mean 'real'"), ({"real": np.arange(2)}, r"shape \(2,\)")],
)
def test_wrong_subject_labels_are_named(labels, found):
    with pytest.raises(MetricError, match=found):
        subjects_module.subject_index(labels, real=3, synth=3)


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


def test_variance_of_a_weighted_mean_is_that_of_the_repeated_values():
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=8), np.array([0.0, 3, 1, 0, 2, 1, 1, 0])
    repeated = np.repeat(x, w.astype(int))
    found = pairs_module.variance_of_mean(x[None], w[None], np.arange(8))[0]
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
    clean = pairs_module.distinct_pairs(pairs, index)
    found = pairs_module.within_mean(clean, counts[None].astype(float), index)[0]
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("n", [4, 5, 8, 11])
def test_a_pair_design_gives_each_image_equally_many_partners(n):
    """Degrees sum to an even number, so n and the partners cannot both be odd: then one image
    has a partner fewer. With n - 1 partners it is all pairs.
    """
    for partners in range(1, n):
        design = pairs_module.pair_design(np.arange(n), partners, seed=partners)
        np.testing.assert_array_equal(design, design.T)
        assert not design.diagonal().any()
        short = [partners - 1] if n % 2 and partners % 2 else []
        assert sorted(design.sum(axis=0)) == short + [partners] * (n - len(short))


def test_a_pair_design_pairs_no_images_of_one_subject():
    index = np.random.default_rng(0).permutation([0, 0, 0, 1, 2, 2, 3, 4, 4, 5, 6, 6])
    for partners in range(1, 8):  # room for 12 images, at most 3 a subject: 12 - 6 + 1 = 7
        design = pairs_module.pair_design(index, partners, seed=0)
        assert (design.sum(axis=0) == partners).all()
        assert not design[index[:, None] == index[None, :]].any()
    for partners in (0, 8):
        with pytest.raises(MetricError, match="between 1 and 7 for 12 images, at most 3"):
            pairs_module.pair_design(index, partners, seed=0)


def test_every_pair_is_as_likely_in_a_design():
    """Each of the 15 pairs of 6 images is among the 6 chosen with probability 2/5."""
    drawn = [pairs_module.pair_design(np.arange(6), 2, seed=seed) for seed in range(2000)]
    shares = np.mean(drawn, axis=0)[np.triu_indices(6, k=1)]
    assert np.abs(shares - 0.4).max() < 4.5 * np.sqrt(0.4 * 0.6 / 2000)


def test_means_over_a_design_are_those_of_the_listed_pairs():
    """The weight of a pair is the product of its images' weights; what was not computed is
    never read.
    """
    rng = np.random.default_rng(0)
    index = np.arange(9)
    pairs = rng.random((9, 9))
    pairs += pairs.T
    design = pairs_module.pair_design(index, 4, seed=1)
    w = np.array([2.0, 0, 1, 1, 3, 0, 1, 1, 0])
    i, j = np.nonzero(np.triu(design))
    expected = np.average(pairs[i, j], weights=w[i] * w[j])
    unread = np.where(design, pairs, np.nan)
    assert pairs_module.within_mean(unread, w[None], index, design)[0] == pytest.approx(expected)
    rows = pairs_module.within_row_means(unread, w[None], index, design)[0]
    for image in range(9):
        others = design[image]
        weighted = np.average(pairs[image, others], weights=w[others])
        assert rows[image] == pytest.approx(weighted)


def test_an_image_without_partners_left_has_the_mean():
    design = pairs_module.pair_design(np.arange(5), 2, seed=0)
    alone = 0
    w = np.where(design[alone], 0.0, 1.0)
    rows = pairs_module.within_row_means(np.eye(5) + 2, w[None], np.arange(5), design)
    assert rows[0, alone] == pytest.approx(2)


def test_a_design_with_all_pairs_changes_nothing():
    rng = np.random.default_rng(0)
    index = np.arange(7)
    pairs = rng.random((7, 7))
    clean = pairs_module.distinct_pairs(pairs + pairs.T, index)
    w = rng.integers(0, 4, size=(5, 7)).astype(float)
    design = pairs_module.pair_design(index, 6, seed=0)
    for mean in (pairs_module.within_mean, pairs_module.within_row_means):
        with_weight = mean(clean, w, index, design)
        np.testing.assert_allclose(with_weight, mean(clean, w, index), rtol=1e-12)


@dataclass(frozen=True)
class DesignMean:
    """The mean over a design's pairs, as a metric over some of the pairs computes it."""

    pairs: np.ndarray
    design: np.ndarray
    subjects: Mapping[str, np.ndarray]

    def value(self, weights: Weights) -> np.ndarray:
        w, index = weights["real"], self.subjects["real"]
        return pairs_module.within_mean(self.pairs, w, index, self.design)

    def variance(self, weights: Weights) -> np.ndarray:
        w, index = weights["real"], self.subjects["real"]
        rows = pairs_module.within_row_means(self.pairs, w, index, self.design)
        return 4 * pairs_module.variance_of_mean(rows, w, index)


def test_the_variance_over_a_design_has_the_derived_expectation():
    """For K_ij = a_i + a_j + e_ij with var a = s, var e = t and p partners: in 4 var(g)/n, the
    expectation of var(g) is n/(n - 1) (s (1 + 1/p - 4/n) + t (1/p - 2/(n p))), and the mean
    itself varies by 4 s/n + 2 t/(n p). Means of 1500 draws are compared at 4.5 of their errors.
    """
    n, p, s, t, repeats = 30, 6, 1.0, 4.0, 1500
    rng = np.random.default_rng(0)
    design = pairs_module.pair_design(np.arange(n), p, seed=0)
    values, variances = np.empty(repeats), np.empty(repeats)
    for r in range(repeats):
        a, e = rng.normal(scale=np.sqrt(s), size=n), rng.normal(scale=np.sqrt(t / 2), size=(n, n))
        pairs = a[:, None] + a + e + e.T
        statistic = DesignMean(pairs, design, {"real": np.arange(n)})
        values[r] = statistic.value(ones(statistic))[0]
        variances[r] = statistic.variance(ones(statistic))[0]
    rows = n / (n - 1) * (s * (1 + 1 / p - 4 / n) + t * (1 / p - 2 / (n * p)))
    error = 4.5 * variances.std() / np.sqrt(repeats)
    assert variances.mean() == pytest.approx(4 * rows / n, abs=error)
    truth = 4 * s / n + 2 * t / (n * p)
    assert values.var() == pytest.approx(truth, rel=4.5 * np.sqrt(2 / repeats))
    assert truth < 4 * rows / n


def test_the_interval_over_a_design_covers():
    """exp(-|x - y|^2 / (2 l^2)) of normal x and y in d dimensions has the mean
    (l^2 / (l^2 + 2))^(d/2). If the interval covers 93%, 200 trials fall below the bound once in
    10,000 runs.
    """
    d, l2, trials, n = 3, 4.0, 200, 30
    truth = (l2 / (l2 + 2)) ** (d / 2)
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(trials):
        x = rng.normal(size=(n, d))
        pairs = np.exp(-((x[:, None] - x) ** 2).sum(axis=-1) / (2 * l2))
        design = pairs_module.pair_design(np.arange(n), 12, seed=trial)
        statistic = DesignMean(pairs, design, {"real": np.arange(n)})
        found = intervals.studentized_interval(statistic, resamples=200, seed=trial)
        covered += found.low <= truth <= found.high
    assert covered >= stats.binom.ppf(1e-4, trials, 0.93)


def prepared(metric: str, x: np.ndarray, y: np.ndarray, subjects: dict[str, np.ndarray]):
    """A statistic of features; MS-SSIM's is of similarities between the rows."""
    if metric == "mmd2":
        return MMD2().prepare(x, y, subjects=subjects, bandwidth=2.0)
    if metric == "fid":
        return FID().prepare(x, y, subjects=subjects)
    similar = [np.exp(-((a[:, None] - a) ** 2).sum(axis=-1)) for a in (x, y)]
    return MSSSIM().prepare(*similar, subjects=subjects)


@pytest.mark.parametrize("metric", ["mmd2", "fid", "ms_ssim"])
@pytest.mark.parametrize("method", ["studentized", "jackknife", "percentile"])
def test_a_subgroup_is_the_statistic_of_the_subset_alone(metric, method):
    """Same estimate, same interval from the same seed, with several images per subject too."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 9)), rng.normal(size=(17, 9)) + 0.5
    subjects = {"real": np.repeat(np.arange(16), [2, 1, 1, 1] * 4), "synth": np.arange(17)}
    chosen = {"real": x[:, 0] < 0.4, "synth": y[:, 0] < 0.9}
    part = subgroup.subgroup(prepared(metric, x, y, subjects), chosen)
    alone = prepared(
        metric,
        x[chosen["real"]],
        y[chosen["synth"]],
        {role: subjects[role][images] for role, images in chosen.items()},
    )
    assert 6 < len(part.subjects["real"]) < 20
    assert resampling.estimate(part) == pytest.approx(resampling.estimate(alone), rel=1e-9)
    assert isinstance(part, Studentized) == isinstance(alone, Studentized)
    if method == "studentized" and metric == "fid":
        return  # it has no variance, as a subgroup or alone
    found = intervals.interval(part, method, resamples=60, seed=3)
    expected = intervals.interval(alone, method, resamples=60, seed=3)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-9)


def test_a_subgroup_of_many_leaves_one_out():
    """The derivative at equal weights on all images is not that of a subgroup, and is not used."""
    x = np.random.default_rng(0).normal(size=250)
    chosen = np.arange(250) >= 20
    part = subgroup.subgroup(mean_of(x), {"real": chosen})
    assert not isinstance(part, contracts.Differentiable)
    low, high = stats.norm.interval(0.95, x[20:].mean(), x[20:].std(ddof=1) / np.sqrt(230))
    found = intervals.jackknife_interval(part)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9)


@pytest.mark.parametrize(
    ("chosen", "found"),
    [
        ({"reel": np.ones(4, dtype=bool)}, "did you mean 'real'"),
        ({"real": np.ones(3, dtype=bool)}, r"shape \(3,\)"),
        ({"real": np.array([0, 1, 1, 0])}, "of int64"),
        ({"real": np.zeros(4, dtype=bool)}, "0 nonzero"),
    ],
)
def test_wrong_subgroups_are_named(chosen, found):
    with pytest.raises(MetricError, match=found):
        subgroup.subgroup(OnlyValue(), chosen)


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


def test_an_undefined_estimate_is_an_error():
    statistic = PairMean(np.zeros((2, 2)), {"real": np.zeros(2, dtype=np.int64)})
    with pytest.raises(MetricError, match="found 1 real"):
        resampling.estimate(statistic)


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


def test_ones_are_the_weights_of_the_estimate():
    x = np.random.default_rng(0).normal(size=6)
    assert ones(mean_of(x))["real"].tolist() == [[1.0] * 6]
    assert resampling.estimate(mean_of(x)) == pytest.approx(x.mean())


def difference_of_means(x: np.ndarray, subjects: np.ndarray | None = None) -> RowStatistic:
    """Mean of synth less mean of real, one set of numbers in both roles."""
    labels = None if subjects is None else {"real": subjects, "synth": subjects}
    index = subjects_module.subject_index(labels, real=len(x), synth=len(x))

    def value(weights: Weights) -> np.ndarray:
        w, v = weights["real"], weights["synth"]
        first, second = (
            pairs_module.ratio(w @ x, w.sum(axis=1)),
            pairs_module.ratio(v @ x, v.sum(axis=1)),
        )
        gap: np.ndarray = second - first
        return gap

    return RowStatistic(value, index)


@pytest.mark.parametrize(
    ("direction", "alternative"), [("lower", "greater"), ("higher", "less"), ("zero", "two-sided")]
)
def test_permutation_p_is_scipys(direction, alternative):
    """The p of all C(12, 5) = 792 labellings: 4000 random ones are within 4.5 standard
    errors of it.
    """
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=5), rng.normal(size=7) + 0.5
    exact = stats.permutation_test(
        (y, x), lambda a, b: a.mean() - b.mean(), alternative=alternative, n_resamples=np.inf
    ).pvalue
    assert 0.02 < exact < 0.98
    statistic = difference_of_means(np.concatenate([x, y]))
    found = permutation.permutation_test(
        statistic, np.arange(12) < 5, permutations=4000, seed=0, direction=direction
    )
    sides = 2 if direction == "zero" else 1
    error = 4.5 * sides * np.sqrt(exact / sides * (1 - exact / sides) / 4000)
    assert found == pytest.approx(exact, abs=error)


def test_a_permutation_moves_whole_subjects():
    """Both images of each of 6 subjects are alike, and subjects 0 to 2 are far from 3 to 5. The
    observed labelling is the furthest of the C(6, 3) = 20, so p is near 1/20; image by image it
    would be near 1/924.
    """
    x = np.repeat([0.0, 0.1, 0.2, 5.0, 5.1, 5.2], 2)
    statistic = difference_of_means(x, np.repeat(np.arange(6), 2))
    p = permutation.permutation_test(statistic, x < 1, permutations=2000, seed=0)
    assert p == pytest.approx(1 / 20, abs=4.5 * np.sqrt(0.05 * 0.95 / 2000))


def test_the_permutation_test_refuses_what_it_cannot_label():
    statistic = difference_of_means(np.arange(4.0), np.array([0, 0, 1, 2]))
    real = np.array([True, True, False, False])
    with pytest.raises(MetricError, match="found 1 in both sets"):
        permutation.permutation_test(statistic, ~real[[0, 2, 1, 3]], seed=0)
    with pytest.raises(MetricError, match="of int64"):
        permutation.permutation_test(statistic, real.astype(int), seed=0)
    with pytest.raises(MetricError, match="at least 1; found 0"):
        permutation.permutation_test(statistic, real, permutations=0, seed=0)
    with pytest.raises(MetricError, match=r"Prepare it with \(pooled, pooled\)"):
        permutation.permutation_test(mean_of(np.arange(4.0)), real, seed=0)
    with pytest.raises(MetricError, match="undefined on a labelling"):
        permutation.permutation_test(MMD2().prepare(np.eye(4), np.eye(4)), np.arange(4) < 1, seed=0)


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
