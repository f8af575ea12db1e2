from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from synthbench.errors import ScorecardError
from synthbench.leaderboard.multiverse import (
    Choice,
    Multiverse,
    Universe,
    _swap,
    choices,
    linear_discrepancy,
    multiverse,
)
from synthbench.metrics.inference.resampling import estimate
from synthbench.metrics.linear_mmd import mmd_linear
from synthbench.records.reasons import REASONS
from synthbench.records.scorecard import Scorecard
from tests.boards import N, features, make_board

SHIFTS = {"near": 0.0, "twin": 0.05, "far": 3.0}


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    return make_board(tmp_path_factory.mktemp("boards") / "b", SHIFTS)


@pytest.fixture(scope="module")
def found(board):
    folder, source = board
    return multiverse(folder, source=source)


def test_the_universes_are_the_choices_that_papers_make(found):
    """For each of two extractors: FID, three bandwidths, a cubic and a linear kernel."""
    words = [u.words for u in found.universes]
    assert len(words) == 2 * (1 + 3 + 2)
    assert words[:3] == ["FID, first", "MMD², Gaussian 0.5 × median, first",
                         "MMD², Gaussian 1 × median, first"]  # fmt: skip
    assert any("ms_ssim_wang5" in words for words in found.absent)


def test_values_are_those_of_the_plain_functions(board, found):
    folder, _ = board
    x, y = features(0)["first"], features(12, 3.0)["first"]
    values = {u.words: u.values["far"] for u in found.universes}
    assert values["MMD², linear, first"] == pytest.approx(mmd_linear(x, y))
    card = Scorecard.load(folder / "entries" / "far.json")
    for words, metric in (("FID, second", "fid"), ("MMD², cubic (KID), second", "kid"),
                          ("MMD², Gaussian 1 × median, second", "mmd2")):  # fmt: skip
        row = card.row(metric, "second")
        assert row is not None
        assert values[words] == pytest.approx(row.value)


def test_twice_the_bandwidth_is_half_the_distance(found, board):
    """Under a Gaussian kernel, features scaled by 2 at 2 l are features at l."""
    folder, source = board
    sample_data = source(Scorecard.load(folder / "entries" / "far.json"))
    width = sample_data.protocol.settings["mmd2 | first"]["bandwidth"]
    x, y = (rows / 2 for rows in (sample_data.jobs["mmd2 | first"].real,
                                  sample_data.jobs["mmd2 | first"].synth))  # fmt: skip
    from synthbench.metrics.mmd import mmd2

    values = {u.words: u.values["far"] for u in found.universes}
    wide = values["MMD², Gaussian 2 × median, first"]
    assert wide == pytest.approx(mmd2(x, y, bandwidth=width))


def test_the_linear_discrepancy_is_the_squared_distance_of_means_without_its_bias():
    """|mean x - mean y|^2 - tr cov x / n - tr cov y / m."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(9, 4)), rng.normal(1, 1, size=(7, 4))
    bias = x.var(axis=0, ddof=1).sum() / 9 + y.var(axis=0, ddof=1).sum() / 7
    expected = ((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum() - bias
    assert estimate(linear_discrepancy(x, y)) == pytest.approx(expected)


def test_a_swap_counts_universes_and_resamples():
    """Of two universes one turns a and b round; behind is ahead in 10% and 80% of resamples."""
    universes = [
        Universe(family="f", words=w, direction="lower", values={}, ranks=ranks)
        for w, ranks in (("one", {"a": 1, "b": 2}), ("two", {"a": 2, "b": 1}))
    ]
    shares = [{("a", "b"): 0.9, ("b", "a"): 0.1}, {("a", "b"): 0.2, ("b", "a"): 0.8}]
    swap = _swap("a", "b", universes, shares)
    assert swap.universes == 0.5
    assert swap.probability == pytest.approx(0.45)


def test_near_rows_change_places_and_a_far_one_does_not(found):
    swaps = {frozenset((s.ahead, s.behind)): s for s in found.swaps}
    assert len(swaps) == 3
    assert swaps[frozenset(("near", "twin"))].probability > 0.05
    assert swaps[frozenset(("near", "far"))].probability < 0.01
    assert {s.behind for s in found.swaps if "far" in (s.ahead, s.behind)} == {"far"}


def test_a_multiverse_survives_its_file_and_names_what_is_stale(board, found):
    folder, _ = board
    cards = {name: Scorecard.load(folder / "entries" / f"{name}.json") for name in SHIFTS}
    found.save(folder)
    assert Multiverse.find(folder) == found
    assert found.stale(folder, cards, found.protocol_hash) == []
    del cards["far"]
    assert found.stale(folder, cards, found.protocol_hash) == ["far is gone"]
    (folder / "multiverse.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ScorecardError, match="not a multiverse of schema 1"):
        Multiverse.find(folder)
    (folder / "multiverse.json").unlink()


def test_images_that_were_not_scored_here_are_named(board):
    folder, _ = board
    with pytest.raises(ScorecardError, match="were not scored on this machine"):
        multiverse(folder, source=lambda card: None)


def test_a_choice_alone_is_no_multiverse(board, monkeypatch):
    folder, source = board
    from synthbench.leaderboard import multiverse as module

    def one(benchmark):
        found, absent = choices(benchmark)
        return found[:1], absent

    monkeypatch.setattr(module, "choices", one)
    with pytest.raises(ScorecardError, match="at least 2 choices"):
        multiverse(folder, source=source)


def test_a_choice_that_cannot_be_computed_is_said_to_be_absent(board, monkeypatch):
    from synthbench.errors import MetricError
    from synthbench.leaderboard import multiverse as module

    folder, source = board

    def failing(entry):
        raise MetricError("no such features")

    def with_one_more(benchmark):
        found, absent = choices(benchmark)
        return [*found[:2], Choice("f", "broken", "lower", failing)], absent

    monkeypatch.setattr(module, "choices", with_one_more)
    assert f"broken: {REASONS['refused']}" in multiverse(folder, source=source).absent


def test_no_row_of_an_image_is_in_the_file(found):
    assert all(len(u.values) < N for u in found.universes)


def test_a_choice_without_which_an_entry_has_no_value_is_absent(board):
    """An entry whose FID could not be computed keeps no material of it."""
    folder, source = board

    def without_fid(card):
        sample_data = source(card)
        jobs = {key: job for key, job in sample_data.jobs.items() if key != "fid | first"}
        return replace(sample_data, jobs=jobs if card.name == "far" else sample_data.jobs)

    found = multiverse(folder, source=without_fid)
    assert "FID, first: an entry has no value of it" in found.absent
    assert "FID, first" not in [u.words for u in found.universes]
