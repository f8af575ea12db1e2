from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rankdata

from synthbench.leaderboard.overall import order_of, overall_order
from synthbench.metrics.inference.comparison import Ranking, Standing


def ranking_of(values, resampled):
    names = list(values)
    return Ranking(
        standings=tuple(Standing(name, values[name], 1, len(names), 0.0) for name in names),
        comparisons=(), split=(), direction="lower", level=0.95,
        resampled=np.array(resampled), resampled_t=np.empty((len(resampled), 0)),
    )  # fmt: skip


def test_the_overall_order_is_that_of_mean_ranks_with_its_stability():
    """Two metrics, two entries, four resamples, one of them left out under the second metric.

    Estimates: a is first under both, so its mean rank is 1. Of the three usable resamples the
    first two keep the order; the third turns both metrics round. Without either metric a stays.
    """
    one = ranking_of({"a": 0.0, "b": 1.0}, [[0, 1], [0, 1], [1, 0], [0, 1]])
    two = ranking_of({"a": 0.0, "b": 1.0}, [[0, 1], [0, 1], [1, 0], [np.nan, np.nan]])
    overall = overall_order({"one": one, "two": two})
    assert overall is not None
    assert overall.kept == pytest.approx(2 / 3)
    a, b = overall.places
    assert (a.entry, a.mean_rank, a.place, a.low, a.high) == ("a", 1.0, 1, 1, 2)
    assert a.kept == pytest.approx(2 / 3)
    assert a.without_one == (1, 1)
    assert (b.entry, b.mean_rank, b.place) == ("b", 2.0, 2)
    assert overall_order({"one": one}) is None


def test_places_are_those_of_scipys_minimum_ranks():
    scores = np.random.default_rng(0).integers(0, 4, size=(50, 6)).astype(float)
    np.testing.assert_array_equal(order_of(scores), rankdata(scores, method="min", axis=1))


def test_an_entry_without_a_value_does_not_take_the_metric_from_the_others():
    """Entry c has no value under the second metric: it gets no place, a and b keep both."""
    same = [[0, 1, 2]] * 4
    one = ranking_of({"a": 0.0, "b": 1.0, "c": 2.0}, same)
    two = ranking_of({"b": 0.0, "a": 1.0}, [row[:2] for row in same])
    three = ranking_of({"b": 0.0, "a": 1.0, "c": 5.0}, same)
    found = overall_order({"one": one, "two": two, "three": three}, ["a", "b", "c"])
    assert found is not None
    assert found.metrics == ("one", "two", "three")
    assert [p.entry for p in found.places] == ["b", "a"]
    assert [p.mean_rank for p in found.places] == pytest.approx([4 / 3, 5 / 3])
    assert found.incomplete == {"c": ("two",)}
    assert found.not_counted == ()


def test_a_metric_that_most_lack_does_not_count():
    one = ranking_of({"a": 0.0, "b": 1.0, "c": 2.0, "d": 3.0}, [[0, 1, 2, 3]] * 3)
    few = ranking_of({"c": 0.0, "d": 1.0}, [[0, 1]] * 3)
    found = overall_order({"one": one, "few": few, "two": one}, ["a", "b", "c", "d"])
    assert found is not None
    assert found.metrics == ("one", "two")
    assert found.not_counted == ("few",)
    assert [place.entry for place in found.places] == ["a", "b", "c", "d"]
    assert found.incomplete == {}
