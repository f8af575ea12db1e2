"""Entries that come after a comparison: the others keep their ranks, as far as these still hold."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from synthbench.errors import MetricError
from synthbench.leaderboard.board import Board, ranked_keys, ranking_by
from synthbench.leaderboard.html import leaderboard_report
from synthbench.leaderboard.methods import beats, row_ranks, row_ties
from synthbench.leaderboard.multiverse import multiverse
from synthbench.leaderboard.page import (
    check_leaderboard,
    render_details,
    render_leaderboard,
    render_pictures,
    write_leaderboard,
)
from synthbench.leaderboard.ranking import Comparisons, compare
from synthbench.leaderboard.takeaways import takeaways
from synthbench.records.scorecard import Scorecard
from synthbench.records.values import Missing
from tests.boards import features, make_board, make_card, make_materials

SHIFTS = {"near": 0.0, "twin": 0.05, "far": 3.0}


def add(folder, source, name, shift):
    """Add an entry to a board, and return a source that knows its sample data too."""
    protocol = Board.read(folder).benchmark.protocol
    fingerprint = f"{100 + len(name):064d}"
    data = make_materials(protocol, features(0), features(50, shift), fingerprint)
    make_card(name, data, generator=name, weights_sha256="n" * 64).save(
        folder / "entries" / f"{name}.json"
    )
    return lambda card: data if card.synth.fingerprint == fingerprint else source(card)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A board of three compared entries, and its source of sample data."""
    folder, source = make_board(tmp_path_factory.mktemp("added") / "b", SHIFTS)
    compare(folder, source=source).save(folder)
    multiverse(folder, source=source).save(folder)
    return folder, source


@pytest.fixture
def board(made, tmp_path):
    return Path(shutil.copytree(made[0], tmp_path / "b"))


def ranks(folder):
    """The rank cell of each row of the first page, by the name of the entry."""
    lines = [line for line in render_leaderboard(folder).splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.split("|")[1:3]] for line in lines]
    return {name.split(". ")[1]: rank for name, rank in cells if ". " in name}


def test_the_others_keep_their_ranks_and_reach_one_further(board, made):
    before = ranks(board)
    assert before == {"near": "1–2", "twin": "1–2", "far": "3"}
    add(board, made[1], "new", 1.0)
    assert ranks(board) == {"near": "1–3", "twin": "1–3", "far": "3–4", "new": "not compared"}
    text = render_leaderboard(board)
    assert '"twin" and "near"; not compared yet: "new".' in text
    assert "to 4 minus the number" in text
    assert "were added after the comparison" in text
    assert "comparisons.json was computed from other entries" not in text


def test_a_rank_that_holds_whatever_the_new_entry_is_contains_the_rank_after_all(board, made):
    source = add(board, made[1], "new", 1.0)
    open_ranks = ranks(board)
    compare(board, source=source).save(board)
    for name, found in ranks(board).items():
        if name != "new":
            ends = [[int(end) for end in text.split("–")] for text in (open_ranks[name], found)]
            assert ends[0][0] <= ends[1][0] <= ends[1][-1] <= ends[0][-1]
    assert "not compared" not in render_leaderboard(board)


def test_the_other_tables_say_what_was_not_compared(board, made):
    add(board, made[1], "new", 1.0)
    page = render_details(board)
    others = page.split("## Ranks under the other metrics")[1].split("<details>")[0]
    (line,) = [one for one in others.splitlines() if one.startswith("| 3. new")]
    assert set(line.split("|")[2:-1]) == {" not compared "}
    (near,) = [one for one in others.splitlines() if "near" in one and one[0] == "|"]
    assert near.split("|")[2].strip() == "1–3"
    assert "were added after the comparison" in others
    assert "Not compared, so without a place: 3. new." in page
    assert "Added later, so not in it: 3. new." in page
    assert "new" not in render_pictures(board)["multiverse.svg"]
    assert "not compared" in leaderboard_report(board)


def test_the_page_passes_the_check_once_it_is_rendered(board, made):
    add(board, made[1], "new", 1.0)
    write_leaderboard(board)
    check_leaderboard(board)
    kept = Comparisons.find(board)
    assert kept is not None
    kept.save(board)  # what a page needs to know of later entries does not go into the record
    assert '"added"' not in (board / "comparisons.json").read_text(encoding="utf-8")


def test_a_new_entry_without_a_value_takes_no_rank_from_the_others(board, made):
    add(board, made[1], "new", 1.0)
    file = board / "entries" / "new.json"
    card = Scorecard.load(file)
    why = Missing.of(MetricError("none", "few values"))
    none = {"value": None, "missing": why, "interval": None, "floor": None}
    values = tuple(row.model_copy(update=none) for row in card.values)
    card.model_copy(update={"values": values}).save(file)
    assert ranks(board) == {"near": "1–2", "twin": "1–2", "far": "3", "new": "-"}


def test_a_row_with_one_seed_that_was_added_later_is_not_compared(board, made):
    """Its compared seed is behind "near" for certain; with the other seed the row may be anywhere.

    A row is better than another where all seeds of both agree, so one open seed leaves it open.
    """
    add(board, made[1], "new", 3.0)
    read = Board.read(board)
    key = ranked_keys(read)[0]
    found = ranking_by(read, key)
    assert found is not None
    rows = (("near",), ("twin",), ("far", "new"))
    assert beats(("near",), ("far",), found, 0.95)
    assert not beats(("near",), ("far", "new"), found, 0.95)
    assert row_ranks(("far", "new"), rows, found, 0.95) == (1, 3)
    assert row_ranks(("near",), rows, found, 0.95) == (1, 3)
    assert row_ties(("near",), rows, found, 0.95) == [1]


def test_no_row_is_first_by_being_new(board, made):
    """The sentence on the first place is about rows that were compared."""
    (board / "entries" / "twin.json").unlink()
    compare(board, source=made[1]).save(board)
    add(board, made[1], "new", 0.0)
    (first,) = [line for line in takeaways(Board.read(board), board) if "compared" in line]
    assert first == (
        '"near" is first, significantly better than every other row that was compared; '
        'not compared yet: "new".'
    )
