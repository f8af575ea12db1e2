"""Requested against measured, on columns whose answer can be worked out."""

from __future__ import annotations

import numpy as np
import pytest

from synthbench.errors import MetricError
from synthbench.metrics.conditional import adherence
from synthbench.metrics.inference.influence import estimated

N = 40
REQUESTED = np.linspace(20, 80, N)


def values(quantities) -> dict[str, float]:
    found = {q.key: estimated(q, np.arange(N), resamples=100) for q in quantities}
    return {key: e.value for key, e in found.items() if e is not None}


def test_a_line_is_told_by_its_slope_and_bias():
    """Measured = requested / 2 + 20: r = 1, slope 0.5; the mean of 20 - requested / 2 is -5."""
    found = values(adherence.numeric_adherence(REQUESTED, 0.5 * REQUESTED + 20))
    errors = 20 - REQUESTED / 2
    expected = {"correlation": 1, "slope": 0.5, "bias": -5, "mae": np.abs(errors).mean()}
    assert found == pytest.approx(expected)


def test_another_unit_leaves_the_correlation():
    found = adherence.numeric_adherence(REQUESTED, REQUESTED / 1000, same_unit=False)
    assert [q.key for q in found] == ["correlation"]


def test_classes_are_told_by_rank_and_by_share():
    """Scores 1 to 4 of classes 0 1 0 1, ten times: three of four pairs in order, half correct."""
    score = np.tile([1.0, 2, 3, 4], 10)
    requested = np.tile([False, True, False, True], 10)
    found = values(adherence.binary_adherence(requested, score, (score > 2.5) == requested))
    assert found == pytest.approx({"auc": 0.75, "accuracy": 0.5})


def test_leakage_is_told_apart_from_what_goes_together():
    """Measured = b + 0.3 a, with a and b correlated: a leaks 0.3, whatever the correlation."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=N)
    b = 0.8 * a + rng.normal(size=N)
    found = adherence.leakage({"a": a, "b": b}, b + 0.3 * a)
    given = {name: estimated(q, np.arange(N), resamples=100) for name, q in found.items()}
    assert {name: e.value for name, e in given.items() if e} == pytest.approx({"a": 0.3, "b": 1})


def test_parity_is_the_group_less_the_others():
    """Errors of 3 in the group and of -1 outside: 2 in size, 4 in direction."""
    inside = np.arange(N) < 10
    found = adherence.parity(np.where(inside, 3.0, -1.0), inside, signed=True)
    assert values(found) == pytest.approx({"mae": 2, "bias": 4})


def test_a_curve_has_groups_of_five_or_more_and_never_parts_equals():
    """Three requested values of 20, 4 and 16 volumes: the 4 join others, so none stands alone."""
    requested = np.repeat([0.0, 1.0, 2.0], [20, 4, 16])
    points = adherence.curve(requested, requested * 10)
    assert sum(n for *_, n in points) == N
    assert min(n for *_, n in points) >= adherence.FEWEST_IN_GROUP
    assert points[0][:2] == (0.0, 0.0)


def test_a_curve_of_too_few_is_empty():
    assert adherence.curve(np.arange(4.0), np.arange(4.0)) == []


@pytest.mark.parametrize(
    ("requested", "measured", "words"),
    [
        pytest.param(np.ones(3), np.ones(4), "one requested and one measured", id="lengths"),
        pytest.param(np.ones(3), np.array([1, np.nan, 2]), "must be finite", id="not finite"),
    ],
)
def test_columns_that_do_not_fit_are_refused(requested, measured, words):
    with pytest.raises(MetricError, match=words):
        adherence.numeric_adherence(requested, measured)
