"""Several training seeds of one method: one row, with their mean and their spread."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from synthbench.leaderboard.board import Board, ranked_keys
from synthbench.leaderboard.columns import RANKING, rows_of
from synthbench.leaderboard.html import leaderboard_report
from synthbench.leaderboard.methods import row_ranks, row_ties, rows_in_order
from synthbench.leaderboard.page import (
    check_leaderboard,
    render_details,
    render_leaderboard,
    write_leaderboard,
)
from synthbench.leaderboard.ranking import MetricRanking, Pair, Place, compare
from synthbench.records.keys import JobKey
from synthbench.records.scorecard import Scorecard
from synthbench.runs.configuration import method
from tests.boards import make_board

SHIFTS = {"near": 0.0, "m0": 1.6, "m1": 1.9, "m2": 2.2, "far": 6.0}


def of_one_method(folder, names=("m0", "m1", "m2"), **changed):
    for seed, name in enumerate(names):
        file = folder / "entries" / f"{name}.json"
        card = Scorecard.load(file)
        origin = card.origin.model_copy(update={
            "generator": "m", "method": "a" * 12, "training_seed": seed,
            "weights_sha256": str(seed) * 64, **changed,
        })  # fmt: skip
        card.model_copy(update={"name": "method m", "origin": origin}).save(file)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder, source = make_board(tmp_path_factory.mktemp("methods") / "b", SHIFTS)
    of_one_method(folder)
    compare(folder, source=source).save(folder)
    return folder


def test_seeds_of_one_method_are_one_row_with_mean_sd_and_range(folder):
    board = Board.read(folder)
    assert board.rows == (("near",), ("m0", "m1", "m2"), ("far",))
    key = ranked_keys(board)[0]
    cells = {str(column.title if isinstance(column.title, str) else "value"): column.of_row(
        rows_of(board, key)[1]) for column in RANKING}  # fmt: skip
    values = [
        row.value
        for name in ("m0", "m1", "m2")
        if (row := key.of(board.cards[name])) and row.value is not None
    ]
    assert len(values) == 3
    assert cells["training seeds"].text == "3"
    page = render_details(folder)
    (line,) = [one for one in page.splitlines() if "3 training seeds" in one and "mean" in one]
    for value in (np.mean(values), np.std(values, ddof=1), min(values), max(values)):
        assert f"{value:.3g}" in line
    # m2 alone is significantly worse than near: not all seeds, so the rows are tied.
    assert board.comparisons is not None
    found = board.comparisons.metrics[0]
    ps = [pair.p for name in ("m0", "m1", "m2") if (pair := found.pair("near", name))]
    assert ps[0] > 0.05 > ps[2]
    assert [cell.strip() for cell in line.split("|")][3:5] == ["1–2", "1"]
    (far,) = [one for one in page.splitlines() if one.startswith("| 3 | far")]
    assert far.split("|")[3].strip() == "3"


def test_other_tables_tell_the_seeds_apart(folder):
    page = render_details(folder)
    assert "2a. method m, seed 0" in page
    assert "2c. method m, seed 2" in page
    assert "share a row" in page
    write_leaderboard(folder)
    check_leaderboard(folder)
    assert "3 training seeds" in leaderboard_report(folder)


@pytest.mark.parametrize(
    "changed",
    [{"method": None}, {"weights_sha256": None}, {"weights_sha256": "w" * 64}],
    ids=["unknown settings", "unknown weights", "one network sampled again"],
)
def test_what_is_not_known_to_be_another_training_has_a_row_of_its_own(changed, tmp_path):
    folder, _ = make_board(tmp_path / "b", SHIFTS)
    of_one_method(folder, **changed)
    assert all(len(row) == 1 for row in Board.read(folder).rows)


@pytest.mark.parametrize(
    ("field", "other"),
    [("method", "b" * 12), ("training_cohort", "b" * 12), ("sampler", "b"), ("steps", 99),
     ("guidance", 2.0), ("precision", "bf16"), ("cleaned", "zero outside")],
)  # fmt: skip
def test_another_method_cohort_or_way_of_drawing_is_another_row(field, other, tmp_path):
    folder, _ = make_board(tmp_path / "b", SHIFTS)
    of_one_method(folder)
    of_one_method(folder, ("m2",), **{field: other, "weights_sha256": "9" * 64})
    assert ("m0", "m1") in Board.read(folder).rows


def test_a_row_is_placed_by_the_mean_of_its_seeds(tmp_path):
    """m0 alone is better than `far`; the mean of m0 and m1 is worse."""
    folder, _ = make_board(tmp_path / "b", {"m0": 0.0, "far": 1.0, "m1": 5.0})
    of_one_method(folder, ("m0", "m1"))
    cards = Board.read(folder).cards
    assert rows_in_order(cards, JobKey("mmd2")) == (("far",), ("m0", "m1"))


def ranking(p):
    """Entries a, b, c, d, best first; `p` has the adjusted p of each pair."""
    names = "abcd"
    return MetricRanking(
        metric="x", extractor=None, label="x", direction="lower", method="studentized", excluded=0,
        places=tuple(Place(entry=n, value=i, rank_low=1, rank_high=4, best=0.2)
                     for i, n in enumerate(names)),
        pairs=tuple(Pair(first=a, second=b, difference=1, se=1, low=0, high=2, p=p.get(a + b, 0.5),
                         p_all=None) for i, a in enumerate(names) for b in names[i + 1 :]),
    )  # fmt: skip


def test_rank_intervals_of_rows_by_hand():
    """Row (b, c) is worse than a only where both are; (b, c) and d are tied while c and d are."""
    rows = (("a",), ("b", "c"), ("d",))
    half = ranking({"ab": 0.01, "ad": 0.01, "bd": 0.01})
    assert [row_ranks(row, rows, half, 0.95) for row in rows] == [(1, 2), (1, 3), (2, 3)]
    assert row_ties(("b", "c"), rows, half, 0.95) == [0, 2]
    whole = ranking({"ab": 0.01, "ac": 0.01, "ad": 0.01, "bd": 0.01})
    assert [row_ranks(row, rows, whole, 0.95) for row in rows] == [(1, 1), (2, 3), (2, 3)]
    between = (("a", "d"), ("b",), ("c",))
    every = ranking({a + b: 0.01 for a in "abc" for b in "bcd" if a < b})
    assert row_ranks(("a", "d"), between, every, 0.95) == (1, 3)


def test_a_method_is_its_settings_without_seeds_and_paths():
    config = {
        "generator": "g",
        "steps": 5,
        "seed": 0,
        "real": "x",
        "init": None,
        "part": {"seed": 1},
    }
    same = method({**config, "seed": 3, "real": "y", "part": {"seed": 9}, "preset": "tiny"})
    assert method(config) == same
    assert method({**config, "steps": 6}) != same
    assert method({**config, "init": "run"}) != same


def test_what_is_found_for_some_seeds_says_for_how_many(tmp_path):
    folder, _ = make_board(tmp_path / "b", SHIFTS)
    of_one_method(folder)
    nine = Path(__file__).parent.parent / "data" / "board-of-nine" / "entries"
    copier, other = (Scorecard.load(nine / f"{name}.json") for name in ("memorizer", "noise"))
    for name, like in {"m0": other, "m1": copier, "m2": other}.items():
        file = folder / "entries" / f"{name}.json"
        card = Scorecard.load(file)
        card.model_copy(update={"memorization": like.memorization, "not_assessed": None}).save(file)
    page = render_leaderboard(folder)
    assert 'near copies of training images in "method m, 3 training seeds" (in 1 of them)' in page
    (line,) = [one for one in page.splitlines() if one.startswith("| 2. method m")]
    assert "**1 of 3 seeds: exact or near copies**. 2 of 3 seeds: no copies found" in line
