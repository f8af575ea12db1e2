"""Membership inference against scikit-learn, scipy and derived values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from synthbench.errors import MetricError
from synthbench.metrics import membership_inference
from synthbench.metrics.membership import CONTROLS, MARGIN


def sets(seed=0, n=40, d=12, m=50):
    rng = np.random.default_rng(seed)
    scale = np.linspace(2, 0.5, d)
    return [scale * rng.standard_normal((size, d)) for size in (m, n, n, n)]


def independent_scores(x, synth, reference, dimensions, k=3):
    """The ratio of log densities by scikit-learn: whitened PCA of the reference, k neighbours."""
    pca = PCA(dimensions, whiten=True, svd_solver="full").fit(reference)

    def log_radii(to):
        tree = NearestNeighbors(n_neighbors=k).fit(pca.transform(to))
        return np.log(tree.kneighbors(pca.transform(x))[0]).mean(axis=1)

    return dimensions * (log_radii(reference) - log_radii(synth))


def test_the_auc_is_that_of_an_independent_attack():
    synth, train, holdout, reference = sets()
    found = membership_inference(synth, train, holdout, reference)
    assert found.dimensions == 12
    scores = [independent_scores(x, synth, reference, 12) for x in (train, holdout)]
    expected = roc_auc_score(np.repeat([1, 0], 40), np.concatenate(scores))
    assert found.auc == pytest.approx(expected, abs=1e-9)
    assert found.difference == pytest.approx(expected - 0.5)
    u = stats.mannwhitneyu(*scores).statistic
    assert found.auc == pytest.approx(u / 1600)


def test_the_interval_is_between_that_of_delong_and_that_of_chance():
    """The variance of placements: each subject's share of the other side that it exceeds."""
    for seed in range(4):
        synth, train, holdout, reference = sets(seed)
        found = membership_inference(synth, train, holdout, reference)
        a, b = (independent_scores(x, synth, reference, 12) for x in (train, holdout))
        of_a = [np.mean(x > b) for x in a]
        of_b = [np.mean(a > x) for x in b]
        delong = np.var(of_a, ddof=1) / 40 + np.var(of_b, ddof=1) / 40
        half = stats.t.ppf(0.975, 78) * np.sqrt((delong + 81 / (12 * 1600)) / 2)
        assert found.low == pytest.approx(found.difference - half)
        assert found.high == pytest.approx(found.difference + half)


def test_the_control_is_one_half_with_the_spread_of_chance():
    """Halves of 20 and 20: the AUC of exchangeable scores has the variance 41 / (12 * 400)."""
    found = membership_inference(*sets(2))
    assert found.control == pytest.approx(0.5)
    half = 1.96 * np.sqrt(41 / 4800)
    assert found.control_high - 0.5 == pytest.approx(half, rel=0.35)
    assert found.control_low == pytest.approx(1 - found.control_high)
    assert CONTROLS == 200


def test_copies_are_told_and_other_people_are_not():
    synth, train, holdout, reference = sets(3)
    copied = np.concatenate([train + 0.01, synth])
    found = membership_inference(copied, train, holdout, reference)
    assert found.verdict == "told"
    assert found.auc > 0.9
    assert found.tpr > 0.5
    assert "can be told from others" in found.text
    fair = membership_inference(synth, train, holdout, reference)
    assert fair.verdict != "told"
    assert fair.low < 0 < fair.high
    assert f"80% power at an AUC of {0.5 + fair.detectable:.2f}" in fair.text


def test_without_a_reference_each_half_of_the_hold_out_serves_the_other():
    synth, train, holdout, _ = sets(4)
    found = membership_inference(synth, train, holdout)
    assert (found.n_holdout, found.n_reference, found.dimensions) == (40, 20, 6)
    assert membership_inference(np.concatenate([train, synth]), train, holdout).verdict == "told"


def test_few_people_tell_nothing_and_many_do():
    few = membership_inference(*sets(5, n=12))
    assert few.verdict == "cannot be told"
    assert few.text.startswith("cannot be told at this n")
    many = membership_inference(*sets(5, n=500))
    assert many.verdict == "not told"
    assert many.high < MARGIN


def test_the_level_holds_where_nothing_leaks():
    """Of 200 nulls 5% lie outside; the binomial probability of more than 21 is below 0.2%."""
    outside = 0
    for seed in range(200):
        found = membership_inference(*sets(100 + seed, n=30, d=5, m=30))
        outside += not found.low <= 0 <= found.high
    assert 1 <= outside <= 21


def test_scans_of_a_subject_count_once():
    synth, train, holdout, reference = sets(6)
    twice = np.repeat(train, 2, axis=0)
    who = {"train": np.repeat(np.arange(40), 2)}
    found = membership_inference(synth, twice, holdout, reference, subjects=who)
    assert found == membership_inference(synth, train, holdout, reference)


def test_order_scale_and_place_do_not_matter():
    synth, train, holdout, reference = sets(7)
    first = membership_inference(synth, train, holdout, reference)
    rng = np.random.default_rng(0)
    mixed = [x[rng.permutation(len(x))] for x in (synth, train, holdout, reference)]
    other = membership_inference(*(100 + 3 * x for x in mixed))
    assert other.auc == pytest.approx(first.auc)
    assert (other.low, other.high) == pytest.approx((first.low, first.high))


def test_what_cannot_be_attacked_is_refused():
    synth, train, holdout, reference = sets(8)
    with pytest.raises(MetricError, match="train needs images of at least 10 subjects; found 9"):
        membership_inference(synth, train[:9], holdout, reference)
    with pytest.raises(MetricError, match="holdout needs images of at least 20"):
        membership_inference(synth, train, holdout[:19])
    with pytest.raises(MetricError, match="vary in fewer"):
        membership_inference(synth, train, holdout, np.ones_like(reference))
    bad = train.copy()
    bad[3, 1] = np.nan
    with pytest.raises(MetricError, match="1 images of train"):
        membership_inference(synth, bad, holdout, reference)
