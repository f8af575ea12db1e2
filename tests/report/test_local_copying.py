"""Copied parts on pages: one line, a row of verdicts, a column of the board, and the map."""

from __future__ import annotations

import pytest

from synthbench.leaderboard.board import Board, ranked_keys
from synthbench.leaderboard.columns import RANKING, entries_of
from synthbench.records.local_copying import (
    LocalCopyingRecord,
    LocalScaleRecord,
    PlaceMapRecord,
)
from synthbench.records.scorecard import Scorecard
from synthbench.report.html import render_report
from synthbench.report.local_copying import map_words, parts_lines
from synthbench.report.verdicts import copied_parts, summary
from tests.boards import make_board


def record(verdict="copies", text="copied parts found"):
    scale = LocalScaleRecord(
        side=5, share=0.0223, share_low=0.017, share_high=0.027, least=0.002, p=0.001, gap=0.124,
        gap_low=0.117, gap_high=0.13, nearer_p=0.001,
    )  # fmt: skip
    places = PlaceMapRecord(
        side=5, stride=3, places=((1, 1, 1), (4, 1, 1)), share=(0.3, 0.0), threshold=0.1, p=0.004
    )
    return LocalCopyingRecord(
        verdict=verdict, text=text, level=0.05, n_train=70, n_holdout=71, sides_p=0.4, part=0.05,
        detectable_share=0.09, scales=(scale,), map=places,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_board(tmp_path_factory.mktemp("boards") / "b", {"near": 0.0, "far": 3.0})[0]


@pytest.fixture
def card(folder):
    return Scorecard.load(folder / "entries" / "near.json")


def test_an_old_scorecard_says_nothing_of_copied_parts(card):
    assert card.local_copying is None
    assert parts_lines(card) == []
    assert "copied-parts" not in render_report([card])


def test_the_finding_is_in_text_and_report(card):
    card = card.model_copy(update={"local_copying": record()})
    (line,) = parts_lines(card)
    for part in ("copied parts found", "+2.23%", "+0.124", "70 and 71 subjects"):
        assert part in line
    assert any("copied parts found" in sentence.lower() for sentence in summary(card))
    page = render_report([card])
    assert 'id="copied-parts"' in page
    assert page.count("<svg") >= 3
    assert "At 1 places the share exceeds 0.1" in map_words(card.local_copying)


@pytest.mark.parametrize(
    ("verdict", "standing"),
    [
        ("copies", "worse"),
        ("sides_differ", "no floor"),
        ("nearer", "other side"),
        ("none", "within"),
    ],
)
def test_every_verdict_has_a_standing(card, verdict, standing):
    found = copied_parts(card.model_copy(update={"local_copying": record(verdict, "words")}))
    assert (found.standing, found.words) == (standing, "words")


def test_the_board_has_a_column_where_an_entry_was_tested(folder, card):
    column = next(c for c in RANKING if c.title == "copied parts")
    board = Board.read(folder)
    cells = [column.cell(entry).text for entry in entries_of(board, ranked_keys(board)[0])]
    assert cells == ["", ""]
    file = folder / "entries" / "near.json"
    card.model_copy(update={"local_copying": record()}).save(file)
    board = Board.read(folder)
    cells = [column.cell(entry).text for entry in entries_of(board, ranked_keys(board)[0])]
    assert sorted(cells) == ["", "copied parts found"]
