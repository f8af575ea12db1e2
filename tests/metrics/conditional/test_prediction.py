"""Predicted covariates: honest on real images, and as good on others."""

from __future__ import annotations

import numpy as np
import pytest

from synthbench.errors import MetricError
from synthbench.metrics.conditional.prediction import deal_folds, predict, wrong

N, M = 60, 40
RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(N + M, 6))
NOISE = RNG.normal(size=(N + M, 20))
AGE = 50 + 10 * FEATURES[:, 0] + 3 * RNG.normal(size=N + M)
SEX = np.where(FEATURES[:, 1] > 0, "M", "F")


def both(features: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    return {"features": features[:N]}, {"features": features[N:]}


def r(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.corrcoef(x, y)[0, 1])


def test_a_number_is_found_alike_on_both_sides():
    """The noise allows r = 10 / sqrt(10^2 + 3^2) = 0.96."""
    found = predict(*both(FEATURES), AGE[:N].tolist(), np.arange(N))
    assert 0.88 < r(found.real, AGE[:N]) < 0.99
    assert 0.88 < r(found.others, AGE[N:]) < 0.99
    assert found.levels == ()


def test_a_word_is_found():
    found = predict(*both(FEATURES), SEX[:N].tolist(), np.arange(N))
    assert found.levels == ("F", "M")
    assert np.allclose(found.real.sum(axis=1), 1)
    assert wrong(found.real, found.levels, SEX[:N].tolist()).mean() < 0.25
    assert wrong(found.others, found.levels, SEX[N:].tolist()).mean() < 0.25


def test_real_images_are_never_measured_by_a_model_that_saw_them():
    """Twenty features that say nothing: a model that saw an image would flatter it (r near 0.6)."""
    found = predict(*both(NOISE), AGE[:N].tolist(), np.arange(N))
    assert r(found.real, AGE[:N]) < 0.3


def test_a_subjects_other_scans_are_left_out_with_it():
    """Each subject twice, with features that say who it is and nothing else: nothing is found.

    Were its scans dealt apart, a model would know each by the other.
    """
    real, others = both(np.random.default_rng(1).normal(size=(N + M, 50)))
    twice = {"features": np.repeat(real["features"], 2, axis=0)}
    ages = np.repeat(AGE[:N], 2)
    found = predict(twice, others, ages.tolist(), np.repeat(np.arange(N), 2))
    assert r(found.real, ages) < 0.3
    apart = predict(twice, others, ages.tolist(), np.arange(2 * N))
    assert r(apart.real, ages) > 0.4


def test_the_better_block_is_chosen():
    real = {"noise": NOISE[:N], "good": FEATURES[:N]}
    others = {"noise": NOISE[N:], "good": FEATURES[N:]}
    found = predict(real, others, AGE[:N].tolist(), np.arange(N))
    assert found.chosen.get("noise", 0) == 0


def test_images_without_a_value_are_left_out():
    target: list[float | str | None] = [None, *AGE[1:N].tolist()]
    found = predict(*both(FEATURES), target, np.arange(N))
    assert np.isnan(found.real[0])
    assert np.isfinite(found.real[1:]).all()


def test_a_seed_gives_the_same_and_another_gives_other_folds():
    one, same, other = (
        predict(*both(FEATURES), AGE[:N].tolist(), np.arange(N), seed=s).real for s in (1, 1, 2)
    )
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_folds_are_even_and_hold_all_parts_of_the_range():
    """Sixty values dealt to five folds in groups of five neighbours: each fold has one of each."""
    values = np.arange(60.0)
    folds = deal_folds(values, np.arange(60), 5, np.random.default_rng(0))
    for start in range(0, 60, 5):
        assert sorted(folds[start : start + 5]) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        pytest.param([1.0] * 10 + [None] * 50, "at least 20 real subjects", id="few"),
        pytest.param(["F"] * 60, "nothing to learn", id="alike"),
        pytest.param([30.0] * 60, "nothing to learn", id="alike numbers"),
        pytest.param(["F"] * 55 + ["M"] * 5, "'M' has 5", id="rare"),
    ],
)
def test_what_cannot_be_learnt_is_refused(target, words):
    with pytest.raises(MetricError, match=words):
        predict(*both(FEATURES), target, np.arange(N))
