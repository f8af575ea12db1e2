"""The linear probe and its solver."""

from __future__ import annotations

import numpy as np
import pytest

from synthbench.errors import CohortError, MetricError
from synthbench.utility import probe
from synthbench.utility.probe import Part, left_out, predict


def data(n=60, d=5, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d))
    y = (x[:, 0] + 0.5 * rng.standard_normal(n) > 0).astype(float)
    return x, y


def part(n=60, d=5, seed=0, source="real", judged=True):
    x, y = data(n, d, seed)
    return Part(source, x, y, np.arange(n), judged)


WEIGHTS = np.random.default_rng(1).integers(0, 3, size=(4, 60)).astype(float)
SHARES = np.array([1e-4, 1e-3, 1e-2, 1e-1])


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_fit_is_where_its_objective_has_no_slope(task):
    """Of sum w loss + p/2 |c|^2 (classes) or sum w (y - f)^2 + p |c|^2, p the share of the weight.

    The slopes are X' w (P(y = 1) - y) + p c and 2 (X' w (f - y) + p c); the intercept is free.
    """
    x, y = data()
    found = probe._fitted(x, y, WEIGHTS, SHARES, task)
    for w, share, (*c, c0) in zip(WEIGHTS, SHARES, found, strict=True):
        f = x @ np.array(c) + c0
        residual = w * ((1 / (1 + np.exp(-f)) if task == "classification" else f) - y)
        np.testing.assert_allclose(x.T @ residual + share * w.sum() * np.array(c), 0, atol=1e-6)
        assert abs(residual.sum()) < 1e-6


def test_separable_classes_converge_under_a_weak_penalty():
    x = np.linspace(-1, 1, 20)[:, None]
    truth = x[:, 0] > 0
    found = probe._fitted(x, truth * 1.0, np.ones((1, 20)), np.array([5e-6]), "classification")
    assert np.isfinite(found).all()
    assert (probe._predicted(x, found)[0] > 0).tolist() == truth.tolist()


def test_one_class_is_refused():
    with pytest.raises(MetricError, match="both classes"):
        probe._fitted(np.zeros((3, 1)), np.ones(3), np.ones((1, 3)), np.ones(1), "classification")


def test_more_features_than_volumes_and_constant_ones_are_no_trouble():
    x, y = data(n=30, d=100)
    x[:, 3] = 7.0
    held = Part("real", x, y, np.arange(30))
    assert np.isfinite(predict([held], x, "classification").seeds).all()


def test_copies_of_all_volumes_change_nothing_at_a_fixed_penalty(monkeypatch):
    """The penalty is per unit of training weight: two of each is the same problem."""
    monkeypatch.setattr("synthbench.utility.probe.PENALTIES", (1.0,))
    real = part()
    copies = Part("synth", real.features, real.labels, real.subjects, judged=False)
    alone = predict([real], real.features, "classification").seeds
    np.testing.assert_allclose(
        predict([real, copies], real.features, "classification").seeds, alone, atol=1e-6
    )


def test_half_of_each_class_is_left_out_by_subject_and_alike_for_both_arms():
    real = part()
    kept = left_out([real], "classification", 7, seed=3)["real"]
    for label in (0, 1):
        of_class = kept[:, real.labels == label]
        assert (abs(of_class.sum(axis=1) - of_class.shape[1] / 2) <= 0.5).all()
    with_synth = left_out([real, part(seed=4, source="synth")], "classification", 7, seed=3)
    np.testing.assert_array_equal(with_synth["real"], kept)


def test_regression_finds_a_line():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((80, 3))
    held = Part("real", x, 50 + 10 * x[:, 0], np.arange(80))
    new = rng.standard_normal((20, 3))
    found = predict([held], new, "regression", left_out([held], "regression", 4, 0))
    np.testing.assert_allclose(found.seeds[0], 50 + 10 * new[:, 0], atol=0.5)
    assert found.refitted is not None
    assert found.refitted.shape == (4, 20)


def test_too_few_subjects_are_refused():
    few = Part("real", np.zeros((3, 1)), np.array([0.0, 0, 1]), np.arange(3))
    with pytest.raises(CohortError, match="at least 2 subjects of each class"):
        predict([few], np.zeros((1, 1)), "classification")
