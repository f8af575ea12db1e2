"""The analysis, on answers that are known."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from synthbench.errors import UsageError
from synthbench.readers.analysis import analyse
from synthbench.readers.answers import Answer, append
from synthbench.readers.simulated import IDEAL, NOISY, Reader, Truth, answer_all
from synthbench.readers.study import Key, answers_file, key_file, read_study
from tests.readers.small import study

FIRST = Truth({"alpha": 9.0, "blurred": 9.0}, {"real": 1.5, "beta": 1.0, "alpha": -1.5})
"""Everybody tells alpha and the blurred control, nobody tells beta."""


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    folder = tmp_path_factory.mktemp("analysis") / "study"
    study(folder, readers=4)
    return folder


@pytest.fixture
def folder(empty, tmp_path):
    shutil.copytree(empty, tmp_path / "study")
    shutil.copy(key_file(empty), key_file(tmp_path / "study"))
    return tmp_path / "study"


def by(records, field):
    return {getattr(one, field): one for one in records}


def test_what_was_planted_is_found(folder):
    answer_all(folder, FIRST, [IDEAL, NOISY], seed=1)
    found = analyse(folder)
    compared = by(found.compared, "group")
    assert list(compared) == ["alpha", "beta", "blurred", "real"]
    assert [one.control for one in compared.values()] == [False, False, True, True]
    for group in ("alpha", "blurred"):
        assert compared[group].accuracy.value >= 0.95
        assert compared[group].d_prime.value > 2
    assert compared["alpha"].verdict == "told"
    assert compared["blurred"].verdict == "unsure"  # two pairs, which could be alike
    assert compared["beta"].verdict != "told"
    low, high = compared["beta"].accuracy.low, compared["beta"].accuracy.high
    assert low is not None
    assert high is not None
    assert low < 0.5 < high
    assert all(one.answered == one.asked == 37 for one in found.readers.values())
    (accuracy,) = (one for one in found.differences if one.what == "accuracy")
    assert (accuracy.first, accuracy.second) == ("alpha", "beta")
    assert accuracy.difference.value == pytest.approx(
        compared["alpha"].accuracy.value - compared["beta"].accuracy.value
    )
    rated = by(found.rated, "item")["appearance"]
    assert rated.means["real"].value > rated.means["beta"].value > rated.means["alpha"].value + 1
    assert set(rated.means) == {"real", "alpha", "beta", "blurred"}
    assert rated.alpha.low > 0.2
    assert by(found.differences, "what")["appearance"].adjusted_p < 0.05
    told = found.told
    assert len(told) == 10
    assert [one.right / one.readers for one in told] == sorted(
        (one.right / one.readers for one in told), reverse=True
    )
    assert min(one.right for one in told if one.group == "alpha") >= 3  # of four readers


def test_an_ideal_observer_repeats_himself_and_one_who_guesses_does_not(folder):
    answer_all(folder, FIRST, [IDEAL], seed=1)
    same = by(analyse(folder).repeated, "kind")["2afc"]
    assert (same.same.value, same.trials) == (1.0, 4 * 3)
    assert same.same.high == 1.0


def test_a_reader_who_always_says_left_is_biased_and_at_chance(folder):
    answer_all(folder, FIRST, [Reader(left=99.0)], seed=1)
    found = analyse(folder)
    assert found.bias is not None
    assert found.bias.left.value == 1
    assert found.bias.criterion < -1
    # Sides are balanced over two readers, so nothing is told.
    assert all(one.accuracy.value == pytest.approx(0.5) for one in found.compared)


def test_readers_who_take_the_copies_for_real_are_not_said_to_guess(folder):
    """They see a difference, and call it by the wrong name."""
    answer_all(folder, Truth({"alpha": -9.0}, {}), [IDEAL], seed=1)
    (alpha, *_) = analyse(folder).compared
    assert (alpha.accuracy.value, alpha.verdict) == (0.0, "reversed")


def answer_by_hand(folder, reader, choose, trials=None):
    plan, _ = read_study(folder)
    regions = ("cortex", "ventricles", "deep grey matter", "cerebellum and brain stem")
    levels = {f"anatomy.{region}": 1 for region in regions}
    (folder / "answers").mkdir(exist_ok=True)
    for number, trial in enumerate(plan.readers[reader]):
        if trials is not None and number >= trials:
            return
        given = (
            {"choice": choose(trial)}
            if trial.kind == "2afc"
            else {"levels": {"appearance": 2, "slices": 3, **levels}}
        )
        append(answers_file(folder, reader), Answer(trial=trial.trial, **given))


def test_accuracy_is_the_share_of_first_answers_that_are_right(folder):
    """Reader 1 is right in alpha only and reader 2 always, but for repeats, which do not count."""
    key = Key.load(key_file(folder))
    right = {pair.right: pair for pair in key.pairs}
    seen: set[tuple[str, frozenset[str]]] = set()

    def chooser(reader, groups):
        def choose(trial):
            group = {p.group for p in key.pairs if p.right in trial.cases}
            again = (reader, frozenset(trial.cases)) in seen
            seen.add((reader, frozenset(trial.cases)))
            good = bool(group & groups) and not again
            left_is_right = trial.cases[0] in right
            return "left" if good == left_is_right else "right"

        return choose

    answer_by_hand(folder, "reader-1", chooser("reader-1", {"alpha"}))
    answer_by_hand(folder, "reader-2", chooser("reader-2", {"alpha", "beta", "blurred", "real"}))
    found = analyse(folder)
    compared = by(found.compared, "group")
    assert compared["alpha"].per_reader == {"reader-1": 1.0, "reader-2": 1.0}
    assert compared["beta"].per_reader == {"reader-1": 0.0, "reader-2": 1.0}
    assert compared["beta"].accuracy.value == 0.5
    assert compared["beta"].answers == 10
    assert found.readers["reader-3"].answered == 0
    # Equal ratings by all have no agreement to speak of: alpha is not defined.
    assert by(found.rated, "item")["slices"].alpha is None
    assert by(found.rated, "item")["slices"].means["real"].value == 3


def test_answers_so_far_are_analysed_and_one_reader_is_refused(folder):
    with pytest.raises(UsageError, match="found 0"):
        analyse(folder)
    answer_by_hand(folder, "reader-1", lambda trial: "left", trials=20)
    with pytest.raises(UsageError, match="found 1"):
        analyse(folder)
    answer_by_hand(folder, "reader-2", lambda trial: "left", trials=30)
    found = analyse(folder)
    assert found.readers["reader-2"].answered == 28
    assert not [one for one in found.compared if not np.isfinite(one.accuracy.value)]


def test_the_margin_is_a_share(folder):
    with pytest.raises(UsageError, match="--margin"):
        analyse(folder, margin=10)


def test_a_simulated_reader_is_as_good_as_stated():
    """Accuracy over many pairs against the formula; by hand, Phi(1 / sqrt 2) = 0.760."""
    assert IDEAL.accuracy(1.0) == pytest.approx(0.760, abs=5e-4)
    assert Reader(lapses=1.0).accuracy(9.0) == pytest.approx(0.5)
    rng = np.random.default_rng(0)
    reader = Reader(noise=1.0, left=0.5, lapses=0.1)
    n = 100_000
    side = rng.choice([-1, 1], n)
    seen = side * (1.2 + np.sqrt(2) * rng.standard_normal(n)) + 0.5 + rng.standard_normal(n)
    seen = np.where(rng.random(n) < 0.1, rng.standard_normal(n), seen)
    assert reader.accuracy(1.2) == pytest.approx(np.mean((seen > 0) == (side > 0)), abs=0.006)
