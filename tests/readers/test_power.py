"""What a design can show: against closed forms, and sizes that others computed."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from scipy.stats import norm

from synthbench.readers.power import (
    agreement_spread,
    normal_trials,
    power,
    prospects,
    simulated,
    trials_needed,
)


@pytest.mark.parametrize(
    ("readers", "margin", "trials"),
    [(2, 0.1, inf), (3, 0.1, 250), (5, 0.1, 75), (8, 0.1, 37), (10, 0.05, 597)],
)
def test_textbook_sizes(readers, margin, trials):
    """2 Phi(margin / se - 1.645) - 1 = 0.8 with se^2 = (0.05^2 + 0.25 / n) / readers."""
    assert normal_trials(readers, margin=margin) == trials
    if trials < inf:
        for n, enough in ((trials, True), (trials - 1, False)):
            se = np.sqrt((0.05**2 + 0.25 / n) / readers)
            assert (2 * norm.cdf(margin / se - norm.ppf(0.95)) - 1 >= 0.8) == enough


def test_power_grows_and_few_readers_have_none():
    values = [power(8, n, simulations=400) for n in (10, 40, 120)]
    assert values == sorted(values)
    assert power(1, 100) == 0
    assert trials_needed(2, simulations=100) == inf


def test_with_many_readers_the_power_is_the_textbooks():
    """30 readers: the variance is as good as known. Cases do not differ, as in the formula."""
    n = int(normal_trials(30))
    assert power(30, n, case_sd=0.0, simulations=4000) == pytest.approx(0.8, abs=0.05)


def test_simulated_answers_have_the_accuracy_and_spread_that_they_state():
    y = simulated(200, 200, 0.7, 0.05, 0.1, 20, seed=0)
    assert y.mean() == pytest.approx(0.7, abs=0.01)
    assert y.mean(2).std() == pytest.approx(np.hypot(0.05, np.sqrt(0.21 / 200)), rel=0.1)
    assert y.mean(1).std() == pytest.approx(np.hypot(0.1, np.sqrt(0.21 / 200)), rel=0.1)


def test_agreement_is_known_better_with_more_cases():
    few, many = (agreement_spread(3, n, simulations=200) for n in (40, 160))
    assert few.expected == pytest.approx(many.expected, abs=0.03)
    assert many.high - many.low < 0.6 * (few.high - few.low)


def test_what_a_design_can_show_is_said_in_words():
    found = prospects(3, 20, 0, counts=(2,))
    assert found.agreement is None
    words = " ".join(found.sentences())
    assert "3 readers and 20 pairs" in words
    assert "Not with 2 readers" in words
    assert "alpha" not in words
