"""Values and differences of downstream measures, against closed forms and other libraries."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, r2_score, roc_auc_score

from synthbench.errors import MetricError
from synthbench.metrics.inference.downstream import (
    AUC,
    BALANCED_ACCURACY,
    DICE,
    MAE,
    R2,
    Component,
    Predictions,
    difference,
    repeated_splits,
    satterthwaite,
    value,
)
from tests.metrics.inference.predictions import scores_and_truth


def delong_variance(one, other, truth):
    """DeLong's variance of a difference from the kernel matrix, not from ranks."""
    kernels = []
    for scores in (one, other):
        gap = scores[truth == 1][:, None] - scores[truth == 0][None]
        kernels.append((gap > 0) + 0.5 * (gap == 0))
    kernel = kernels[0] - kernels[1]
    rows, columns = kernel.mean(axis=1), kernel.mean(axis=0)
    return rows.var(ddof=1) / len(rows) + columns.var(ddof=1) / len(columns)


def test_a_difference_in_auc_has_delongs_variance_and_that_of_the_seeds():
    a, truth = scores_and_truth(seed=1, s=1)
    b, _ = scores_and_truth(seed=2, s=1)
    found = difference(AUC, Predictions(a), Predictions(b), truth)
    assert found.value == pytest.approx(roc_auc_score(truth, a[0]) - roc_auc_score(truth, b[0]))
    assert found.se**2 == pytest.approx(delong_variance(a[0], b[0], truth))
    several_a, several_b = scores_and_truth(seed=1)[0], scores_and_truth(seed=2)[0]
    found = difference(AUC, Predictions(several_a), Predictions(several_b), truth)
    by_source = {c.source: c.variance for c in found.components}
    for source, rows in (
        ("training seeds", several_a),
        ("training seeds of the other arm", several_b),
    ):
        aucs = [roc_auc_score(truth, row) for row in rows]
        assert by_source[source] == pytest.approx(np.var(aucs, ddof=1) / 3)


def test_t_interval_and_satterthwaite_by_hand():
    """(2 + 1)^2 / (4/5 + 1/10) = 10 degrees of freedom; a zero variance counts for nothing."""
    parts = [Component("a", 2.0, 5), Component("b", 1.0, 10), Component("c", 0.0, 1)]
    assert satterthwaite(parts) == pytest.approx(10)
    assert satterthwaite([]) == math.inf


def test_a_mean_error_is_the_paired_t_test():
    rng = np.random.default_rng(0)
    truth = rng.normal(50, 10, 30)
    a, b = truth + rng.normal(0, 5, 30), truth + rng.normal(0, 7, 30)
    found = difference(MAE, Predictions(a[None]), Predictions(b[None]), truth)
    expected = stats.ttest_rel(abs(a - truth), abs(b - truth))
    assert found.p == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high))


def test_r2_and_its_standard_error_agree_with_a_bootstrap():
    """4000 resamples know a standard deviation to 1.1%; the first-order term to O(1/n)."""
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 1, 400)
    predicted = truth + rng.normal(0, 0.6, 400)
    found = value(R2, Predictions(predicted[None]), truth)
    assert found.value == pytest.approx(r2_score(truth, predicted))
    rows = rng.integers(400, size=(4000, 400))
    errors = ((predicted - truth)[rows] ** 2).mean(axis=1)
    resampled = 1 - errors / truth[rows].var(axis=1)
    assert found.se == pytest.approx(np.std(resampled), rel=0.06)


def test_balanced_accuracy_is_scikit_learns():
    scores, truth = scores_and_truth(s=1)
    found = value(BALANCED_ACCURACY, Predictions(scores), truth)
    assert found.value == pytest.approx(balanced_accuracy_score(truth, scores[0] > 0))


def test_refits_that_rank_alike_have_no_variance_of_training():
    scores, truth = scores_and_truth(s=1)
    refits = np.repeat(scores, 5, axis=0) * np.arange(1, 6)[:, None]
    found = value(AUC, Predictions(scores, refits), truth)
    assert {c.source: c.variance for c in found.components}["training subjects"] == 0


def test_what_the_test_set_makes_refits_differ_by_is_taken_off():
    """Refits whose errors at each subject are independent have expected values that are equal.

    Dice-like values u_ri, independent: var over r of their mean is sigma^2 / n on average, and
    all of it is of the test subjects. So over many sets the rest averages to zero before it is
    cut off at zero, and stays well below sigma^2 / n after.
    """
    rng = np.random.default_rng(0)
    kept = []
    for _ in range(200):
        refits = rng.standard_normal((20, 30))
        found = value(DICE, Predictions(refits[:1], refits), np.zeros(30))
        kept.append({c.source: c.variance for c in found.components}["training subjects"])
    assert np.mean(kept) < 0.25 / 30


def test_what_training_makes_refits_differ_by_is_kept():
    """v_r = a_r + u_ri with sd 1 and 1: the variance of a_r is 1, known to 0.32 by 20 refits."""
    rng = np.random.default_rng(0)
    kept = []
    for _ in range(200):
        refits = rng.standard_normal((20, 1)) + rng.standard_normal((20, 30))
        found = value(DICE, Predictions(refits[:1], refits), np.zeros(30))
        kept.append({c.source: c.variance for c in found.components}["training subjects"])
    assert np.mean(kept) == pytest.approx(1, abs=4 * 0.32 / np.sqrt(200))


def test_nadeau_and_bengio_by_hand():
    """Differences 1, 2, 3 over splits of 20 train and 10 test: s^2 = 1, (1/3 + 1/2), 2 df."""
    found = repeated_splits(np.array([1.0, 2.0, 3.0]), n_train=20, n_test=10)
    assert found.value == 2
    assert found.se**2 == pytest.approx(5 / 6)
    assert found.df == pytest.approx(2)


def test_equal_arms_differ_by_nothing():
    scores, truth = scores_and_truth(s=1)
    found = difference(AUC, Predictions(scores), Predictions(scores.copy()), truth)
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)


@pytest.mark.parametrize(
    ("scores", "truth", "words"),
    [
        (np.zeros((1, 4)), [1, 0, 0, 0], "each class needs at least 2 test subjects"),
        (np.full((1, 4), np.nan), [1, 1, 0, 0], "scores must be finite"),
    ],
)
def test_what_cannot_be_valued_is_refused(scores, truth, words):
    with pytest.raises(MetricError, match=words):
        value(AUC, Predictions(scores), np.array(truth, dtype=float))
