"""Membership inference on pages: the gravest verdict, a column of the board, a section."""

from __future__ import annotations

import pytest

from synthbench.leaderboard.board import Board, ranked_keys
from synthbench.leaderboard.columns import RANKING, entries_of
from synthbench.records.membership import MembershipRecord
from synthbench.records.scorecard import Scorecard
from synthbench.report.html import render_report
from synthbench.report.membership import membership_verdict
from tests.boards import make_board


def record(verdict, extractor="voxels"):
    return MembershipRecord(
        extractor=extractor, verdict=verdict, text=f"said: {verdict}", auc=0.71, control=0.52,
        control_low=0.44, control_high=0.6, difference=0.19, low=0.08, high=0.3, level=0.95,
        detectable=0.12, tpr=0.2, n_train=40, n_holdout=30, n_reference=50, dimensions=16,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_board(tmp_path_factory.mktemp("boards") / "b", {"near": 0.0, "far": 3.0})[0]


@pytest.fixture
def card(folder):
    return Scorecard.load(folder / "entries" / "near.json")


def test_an_old_scorecard_says_nothing_of_membership(card):
    assert membership_verdict(card).standing == "missing"
    assert 'id="membership"' not in render_report([card])


@pytest.mark.parametrize(
    ("verdicts", "standing", "gravest"),
    [
        (["not told", "told"], "worse", "told"),
        (["not told", "cannot be told"], "no floor", "cannot be told"),
        (["not told"], "within", "not told"),
    ],
)
def test_the_gravest_verdict_of_all_extractors_counts(card, verdicts, standing, gravest):
    attacked = card.model_copy(update={"membership": tuple(map(record, verdicts))})
    found = membership_verdict(attacked)
    assert (found.standing, found.words) == (standing, f"said: {gravest}")


def test_the_board_has_a_column_where_an_entry_was_attacked(folder, card):
    column = next(c for c in RANKING if c.title == "membership")
    card.model_copy(update={"membership": (record("told"),)}).save(folder / "entries" / "near.json")
    board = Board.read(folder)
    cells = [column.cell(entry) for entry in entries_of(board, ranked_keys(board)[0])]
    assert sorted((cell.text, cell.strong, cell.standing) for cell in cells if cell.text) == [
        ("said: told", "said: told", "worse")
    ]
    assert len(cells) == 2


def test_the_page_has_a_section_with_every_number_and_a_row_of_the_overview(card):
    attacked = card.model_copy(update={"membership": (record("told"),)})
    page = render_report([attacked, attacked])
    assert '<h2 id="membership">' in page
    for said in ("said: told", "0.71", "0.52 (0.44, 0.6)", "0.19 [0.08, 0.3]", "20% of 40"):
        assert said in page
