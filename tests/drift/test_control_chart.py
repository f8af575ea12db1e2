"""The CUSUM against published run lengths, a Markov chain, Siegmund's formula and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from synthbench.drift.control_chart import (
    LARGEST,
    average_run_length,
    chart,
    deviations,
    limit_for,
    runs_to_see,
    sums,
)
from synthbench.errors import UsageError


def markov_chain(k: float, h: float, shift: float, states: int = 400) -> float:
    """The run length of one side: the sum of a Markov chain over states of equal width.

    Brook and Evans (1972, Biometrika 59), equation 4: (I - R) mu = 1, where R holds the
    probabilities between the states that raise no alarm.
    """
    width = 2 * h / (2 * states - 1)
    i, j = np.arange(states)[:, None], np.arange(states)[None, :]
    upper = stats.norm.cdf((j - i + 0.5) * width + k - shift)
    lower = stats.norm.cdf((j - i - 0.5) * width + k - shift)
    r = np.where(j == 0, upper, upper - lower)
    return float(np.linalg.solve(np.eye(states) - r, np.ones(states))[0])


@pytest.mark.parametrize("k", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("h", [2.0, 4.0, 6.0])
@pytest.mark.parametrize("shift", [0.0, 1.0, 3.0])
def test_the_run_length_is_that_of_a_markov_chain(k, h, shift):
    one, other = (markov_chain(k, h, s) for s in (shift, -shift))
    expected = 1 / (1 / one + 1 / other)
    assert average_run_length(k, h, shift) == pytest.approx(expected, rel=2e-3)


def test_the_run_length_is_that_of_published_tables():
    """Montgomery, Introduction to Statistical Quality Control (6th edition), table 9.3: k = 0.5."""
    table = {(4, 0): 168, (4, 1): 8.38, (4, 2): 3.34, (5, 0): 465, (5, 1): 10.4, (5, 2): 4.01}
    for (h, shift), expected in table.items():
        assert average_run_length(0.5, h, shift) == pytest.approx(expected, rel=0.005)


def test_the_run_length_is_near_siegmunds_approximation():
    """exp(2 k b) - 2 k b - 1 over 2 k^2, with b = h + 1.166 (Siegmund 1985), of one side."""
    k, h = 0.5, 5.0
    b = h + 1.166
    one_side = (np.exp(2 * k * b) - 2 * k * b - 1) / (2 * k * k)
    assert average_run_length(k, h) == pytest.approx(one_side / 2, rel=0.03)


def test_the_limit_has_the_run_length():
    for runs in (50, 200, 2000):
        assert average_run_length(0.5, limit_for(runs)) == pytest.approx(runs, rel=1e-6)
    for wrong in (0, 9, 2e6, float("nan")):
        with pytest.raises(UsageError, match="runs between false alarms"):
            limit_for(wrong)


def test_deviations_are_predictive_t_values_as_normal_ones():
    x = np.random.default_rng(0).normal(3, 2, 40)
    expected = np.zeros(40)
    for i in range(2, 40):
        # A new value minus the mean of i earlier ones, over its estimated sd, has Student's t.
        t = (x[i] - x[:i].mean()) / (x[:i].std(ddof=1) * np.sqrt(1 + 1 / i))
        expected[i] = np.clip(stats.norm.ppf(stats.t(i - 1).cdf(t)), -LARGEST, LARGEST)
    np.testing.assert_allclose(deviations(x), expected, atol=1e-10)
    np.testing.assert_allclose(deviations(1e6 - 1e-3 * x), -expected, atol=1e-6)
    assert deviations(x[None, :]).shape == (1, 40)


def test_where_nothing_changes_deviations_are_standard_normal_and_independent():
    found = deviations(np.random.default_rng(1).normal(size=(4000, 6)))[:, 2:]
    for column in found.T:
        inside = column[np.abs(column) < LARGEST]
        spread = stats.truncnorm(-LARGEST, LARGEST)
        assert stats.kstest(inside, spread.cdf).pvalue > 0.001
    assert np.abs(np.corrcoef(found.T) - np.eye(4)).max() < 0.06


def test_sums_are_those_of_page():
    up, down = sums(np.array([1.0, 0.0, 2.0, -3.0, -1.0]), k=0.5)
    assert up.tolist() == [0.5, 0.0, 1.5, 0.0, 0.0]
    assert down.tolist() == [0.0, 0.0, 0.0, 2.5, 3.0]


def test_a_shift_is_seen_and_dated():
    x = np.random.default_rng(2).normal(size=40)
    assert chart(x, 1000).alarm is None
    for sign, way in ((1, "up"), (-1, "down")):
        moved = x.copy()
        moved[25:] += 5 * sign
        found = chart(moved, 1000)
        assert found.alarm is not None
        assert 25 <= found.alarm < 30
        assert found.since is not None
        assert abs(found.since - 25) <= 1
        assert found.way == way


def test_slow_drift_is_seen_where_no_step_is_large():
    """0.1 sd in each run: neighbours differ by 0.1 sd more than by chance."""
    x = np.random.default_rng(3).normal(size=60) + np.maximum(0, np.arange(60) - 15) * 0.1
    assert chart(x, 1000).way == "up"


def test_one_odd_run_is_no_alarm():
    x = np.random.default_rng(4).normal(size=40)
    x[20] += 1000
    assert chart(x, 200).alarm is None


def test_equal_values_and_rounding_are_no_alarm():
    assert chart(np.full(30, 0.1), 200).alarm is None
    assert np.all(deviations(np.full(30, 0.1)) == 0)
    x = 1 + 1e-9 * np.arange(30.0)
    assert chart(x, 200, smallest_sd=1e-5).alarm is None
    assert chart(x, 200).alarm is not None


def test_values_after_a_constant_history_are_finite():
    x = np.concatenate([np.zeros(20), np.ones(10)])
    with np.errstate(all="raise"):
        assert np.isfinite(deviations(x)).all()
    assert chart(x, 200).since == 20


def test_larger_shifts_and_longer_histories_are_seen_sooner():
    limit = limit_for(1200)
    by_size = [runs_to_see(shift, 20, limit) or 99 for shift in (0.1, 1, 2, 3, 4, 8)]
    assert by_size == sorted(by_size, reverse=True)
    assert by_size[0] == 99
    by_length = [runs_to_see(3, before, limit) or 99 for before in (5, 10, 20, 40)]
    assert by_length == sorted(by_length, reverse=True)
