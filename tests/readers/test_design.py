"""The plan: what is shown, how it is balanced, and what is refused."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from synthbench.errors import UsageError
from synthbench.readers.design import Settings, Shown, draw, order, sides


def plan(real=40, synth=None, memorizer=3, seed=0, **settings):
    chosen = Settings(**{"controls": 3, "practice": 2, **settings})
    return draw(real, synth or {"a": 9, "b": 8}, memorizer, chosen, np.random.default_rng(seed))


def test_every_volume_is_in_one_pair_only_and_the_first_one_is_real():
    found = plan()
    assert {group: len(pairs) for group, pairs in found.pairs.items()} == {
        "a": 8, "b": 8, "blurred": 3, "memorizer": 3, "real": 3,
    }  # fmt: skip
    pairs = [pair for of in (*found.pairs.values(), found.practice) for pair in of]
    assert all(right.source == "real" for right, _ in pairs)
    # A blurred volume is of a real one that is not shown otherwise.
    shown = [
        Shown("real", one.index) if one.source == "blurred" else one
        for pair in pairs
        for one in pair
    ]
    assert max(Counter(shown).values()) == 1
    for group, of in found.pairs.items():
        assert {other.source for _, other in of} == {group}


def test_the_ratings_are_of_as_many_real_volumes_as_of_one_generator():
    found = plan().rated
    assert {group: len(volumes) for group, volumes in found.items()} == {
        "real": 8, "a": 8, "b": 8, "blurred": 3, "memorizer": 3,
    }  # fmt: skip
    assert len(set(found["real"])) == 8


def test_a_seed_draws_the_same_plan():
    assert plan(seed=1) == plan(seed=1) != plan(seed=2)


def test_too_few_volumes_are_refused_by_name_and_number():
    with pytest.raises(UsageError, match="real: 37 volumes are needed, and 30 are there"):
        plan(real=30, cases=9, synth={"a": 9, "b": 9})
    with pytest.raises(UsageError, match="a: 9 volumes are needed, and 5"):
        plan(cases=9, synth={"a": 5, "b": 9})
    with pytest.raises(UsageError, match="cannot be called 'real'"):
        plan(synth={"real": 5})


@pytest.mark.parametrize("share", [0.0, 0.15, 0.5])
def test_repeats_come_after_their_first_time_and_are_as_many_as_asked(share):
    groups = {"a": list(range(20)), "b": list(range(4))}
    for seed in range(20):
        session = order(groups, share, np.random.default_rng(seed))
        first = [(group, item) for group, item, again in session if not again]
        assert sorted(first) == sorted((g, i) for g, items in groups.items() for i in items)
        places = {(g, i): n for n, (g, i, again) in enumerate(session) if not again}
        again = [(places[g, i], n) for n, (g, i, second) in enumerate(session) if second]
        assert len(again) == np.ceil(24 * share)
        assert all(n > place for place, n in again)


def test_each_group_is_spread_over_the_session():
    groups = {"a": list(range(30)), "b": list(range(10))}
    session = order(groups, 0, np.random.default_rng(0))
    halves = [Counter(group for group, _, _ in session[i : i + 20]) for i in (0, 20)]
    assert abs(halves[0]["a"] - halves[1]["a"]) <= 2
    assert abs(halves[0]["b"] - halves[1]["b"]) <= 2


def test_the_right_answer_is_on_each_side_equally_often():
    found = sides({"a": 10, "b": 7}, 4, np.random.default_rng(0))
    for reader in found:
        assert sum(reader["a"]) == 5
        assert sum(reader["b"]) in (3, 4)
    for first, second in ((0, 1), (2, 3)):
        assert found[second] == {g: [not x for x in of] for g, of in found[first].items()}
    assert found[0] != found[2]


@pytest.mark.parametrize(
    "wrong", [{"design": "roc"}, {"readers": 0}, {"cases": 1}, {"repeats": 0.6}, {"controls": -1}]
)
def test_a_setting_outside_its_range_is_refused(wrong):
    with pytest.raises(UsageError, match="--"):
        Settings(**wrong)
