"""Entries that come after a comparison: the others keep their ranks, as far as these still hold."""

from __future__ import annotations

import re
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
from synthbench.leaderboard.ranking import compare
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
    assert "Of the rows that were compared: the first place is shared by 2 rows" in text
    assert '"twin" and "near"; not compared yet: "new".' in text
    assert "to 4 minus the number" in text
    assert "one of its entries was added after the comparison" in text
    assert "comparisons.json was computed from other entries" not in text


def test_comparing_again_gives_the_new_row_a_rank(board, made):
    """Here no difference is near the limit, so the open ranks contain those after it."""
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
    assert "one of its entries was added after the comparison" in others
    assert "Not compared, so without a place: 3. new." in page
    assert "Added later, so not in it: 3. new." in page
    assert "new" not in render_pictures(board)["multiverse.svg"]
    assert re.search(r"<td[^>]*><bdi>not compared</bdi></td>", leaderboard_report(board))
    ranking = page.split("## Ranking by")[1].split("### Differences")[0]
    (new,) = [one for one in ranking.splitlines() if one.startswith("| 3 | new")]
    (twin,) = [one for one in ranking.splitlines() if "| twin |" in one]
    assert "100%" not in new
    assert "%" in twin
    assert "the best of those that were compared" in ranking


def test_the_page_passes_the_check_once_it_is_rendered(board, made):
    add(board, made[1], "new", 1.0)
    write_leaderboard(board)
    check_leaderboard(board)
    read = Board.read(board)
    found = ranking_by(read, ranked_keys(read)[0])
    assert found is not None
    assert found.added == ("new",)
    # What a page needs to know of later entries does not go into the record.
    assert "added" not in found.model_dump(mode="json")


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
    assert told(board, "is first") == [
        'Of the rows that were compared: "near" is first, significantly better than every other '
        'row; not compared yet: "new".'
    ]


def told(folder, word):
    return [line for line in takeaways(Board.read(folder), folder) if word in line]


def of(folder, name, **origin):
    """Change the origin of an entry, and its name to that of its generator."""
    file = folder / "entries" / f"{name}.json"
    card = Scorecard.load(file)
    changed = card.origin.model_copy(update=origin)
    called = origin["generator"]
    card.model_copy(update={"name": called, "origin": changed}).save(file)


def seeds(folder, method, *names):
    for seed, name in enumerate(names):
        of(folder, name, generator=method, method=method, training_seed=seed,
           weights_sha256=str(seed) * 64)  # fmt: skip


def without(folder, name, function):
    """Call a function while an entry is not there yet."""
    file = folder / "entries" / f"{name}.json"
    file.rename(folder / file.name)
    found = function()
    (folder / file.name).rename(file)
    return found


def test_a_new_seed_of_the_best_row_makes_no_other_row_the_first(board, made):
    """The old seed is better than "far", whatever the new one is: "far" is not first."""
    (board / "entries" / "twin.json").unlink()
    add(board, made[1], "new", 0.0)
    seeds(board, "m", "near", "new")
    without(board, "new", lambda: compare(board, source=made[1]).save(board))
    best = '"m" is first, significantly better than every other row.'
    assert without(board, "new", lambda: told(board, "is first")) == [best]
    assert told(board, "called the first") == [
        'No row can be called the first: "m, 2 training seeds" is not compared yet.'
    ]


def test_a_board_where_every_row_has_a_new_seed_names_no_first_row(board, made):
    (board / "entries" / "twin.json").unlink()
    add(board, made[1], "new", 0.0)
    add(board, made[1], "newer", 3.0)
    seeds(board, "m", "near", "new")
    seeds(board, "n", "far", "newer")
    without(board, "new", lambda: without(
        board, "newer", lambda: compare(board, source=made[1]).save(board)))  # fmt: skip
    assert told(board, "called the first") == [
        'No row can be called the first: "m, 2 training seeds" and "n, 2 training seeds" are not '
        "compared yet."
    ]
    assert ranks(board) == dict.fromkeys(
        ("m, 2 training seeds", "n, 2 training seeds"), "not compared"
    )


def test_baselines_are_told_of_the_compared_rows_alone(board, made):
    """That "near" beats the old seed of "far" says nothing of the new one, nor the opposite."""
    (board / "entries" / "twin.json").unlink()
    add(board, made[1], "new", 3.0)
    of(board, "near", generator="noise")
    seeds(board, "m", "far", "new")
    without(board, "new", lambda: compare(board, source=made[1]).save(board))
    (before,) = without(board, "new", lambda: told(board, "aseline"))
    assert before == 'Baselines without a network: "noise" is significantly better than "m".'
    assert told(board, "aseline") == []
