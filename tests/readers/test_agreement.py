"""Agreement against a published worked example, the package krippendorff, and definitions."""

from __future__ import annotations

import itertools

import krippendorff
import numpy as np
import pytest

from synthbench.errors import MetricError
from synthbench.readers import agreement

N = np.nan
RATERS = np.array([
    [1, 2, 3, 3, 2, 1, 4, 1, 2, N, N, N],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, N, N],
    [N, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 3],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, N],
])  # fmt: skip
"""Twelve cases and four raters, of Gwet's Handbook of Inter-Rater Reliability (table 2.10)."""


def one(coefficient, ratings, levels=5):
    table = agreement.counts(ratings, levels)
    table = table[table.sum(1) > 0]
    return coefficient(table, np.ones((1, len(table))))[0]


def test_unweighted_agreement_is_that_of_the_book(monkeypatch):
    """AC1 is AC2 with weights of identity; the book and R's irrCAC give 0.77544."""
    monkeypatch.setattr(agreement, "_quadratic", np.eye)
    assert one(agreement.ac2, RATERS) == pytest.approx(0.77544, abs=5e-6)


def test_ac2_is_its_definition_case_by_case():
    rng = np.random.default_rng(1)
    ratings = rng.integers(1, 5, (4, 15)).astype(float)
    ratings[rng.random(ratings.shape) < 0.2] = np.nan

    def close(a, b):
        return 1 - (a - b) ** 2 / 9

    observed, shares = [], []
    for case in ratings.T:
        given = case[~np.isnan(case)]
        if len(given):
            shares.append([np.mean(given == level) for level in (1, 2, 3, 4)])
        if len(given) > 1:
            observed.append(np.mean([close(a, b) for a, b in itertools.permutations(given, 2)]))
    prevalence = np.mean(shares, axis=0)
    weight = sum(close(a, b) for a in range(4) for b in range(4))
    chance = weight * sum(p * (1 - p) for p in prevalence) / (4 * 3)
    expected = (np.mean(observed) - chance) / (1 - chance)
    assert one(agreement.ac2, ratings, 4) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_alpha_is_that_of_the_package(seed):
    rng = np.random.default_rng(seed)
    ratings = np.clip(rng.normal(3, 1, 20) + rng.normal(0, 0.7, (5, 20)), 1, 5).round()
    ratings[rng.random(ratings.shape) < 0.2] = np.nan
    expected = krippendorff.alpha(ratings, level_of_measurement="ordinal", value_domain=range(1, 6))
    assert one(agreement.alpha, ratings) == pytest.approx(expected)


def test_weights_are_repeated_cases():
    rng = np.random.default_rng(2)
    table = agreement.counts(rng.integers(1, 5, (3, 6)).astype(float), 4)
    weights = np.array([2, 0, 1, 1, 3, 1])
    for coefficient in (agreement.alpha, agreement.ac2):
        repeated = np.repeat(table, weights, axis=0)
        assert coefficient(table, weights[None].astype(float))[0] == pytest.approx(
            coefficient(repeated, np.ones((1, len(repeated))))[0]
        )


def test_an_interval_encloses_its_value_and_readers_who_agree_have_one():
    found = agreement.agreement(RATERS, 5, seed=0)
    for name in ("alpha", "ac2"):
        assert found[name].low < found[name].value < found[name].high <= 1
    same = np.tile(np.arange(1.0, 6.0), (3, 1))
    for one_of in agreement.agreement(same, 5, seed=0).values():
        assert one_of.value == pytest.approx(1)
        assert one_of.high == pytest.approx(1)


def test_one_reader_has_no_agreement():
    with pytest.raises(MetricError, match="two readers"):
        agreement.agreement(RATERS[:1], 5, seed=0)
