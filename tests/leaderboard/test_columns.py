"""The columns of a leaderboard: one list, written as markdown and as HTML."""

from __future__ import annotations

import html
import re
import shutil

import pytest

from synthbench.leaderboard.board import Board, ranked_keys
from synthbench.leaderboard.columns import (
    COST,
    EMPTY,
    RANKING,
    TRAINED_ON_REAL,
    Cell,
    Column,
    entries_of,
    filled,
)
from synthbench.leaderboard.front import front_columns
from synthbench.leaderboard.html import leaderboard_report
from synthbench.leaderboard.page import render_details
from synthbench.leaderboard.ranking import compare
from synthbench.records.scorecard import Scorecard
from tests.boards import make_board, make_verdict


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    folder, source = make_board(
        tmp_path_factory.mktemp("boards") / "b", {"near": 0.0, "twin": 0.05, "far": 3.0}
    )
    compare(folder, source=source).save(folder)
    return folder


@pytest.fixture
def board(compared, tmp_path):
    return shutil.copytree(compared, tmp_path / "b")


def heads_of(page):
    """The heads of the ranking in a page of HTML, without the arrows that sort."""
    table = re.search(r'aria-label="Ranking">(.*?)</table>', page, re.S)
    assert table is not None
    heads = re.findall(r"<th scope=\"col\".*?</th>", table[1], re.S)
    return [html.unescape(re.sub(r"<[^>]*>", "", head)) for head in heads]


def test_markdown_and_html_show_the_same_columns(board):
    """The second page has the whole ranking. HTML starts with the columns of the first page."""
    read = Board.read(board)
    key = ranked_keys(read)[0]
    columns = filled(RANKING, entries_of(read, key))
    titles = [column.head(read, key) for column in columns]
    assert {"rank", "tied with", "best", "n", "training seeds"} <= set(titles)
    page = render_details(board)
    first = page.split("## Ranking by")[1].split("\n\n")[1].split("\n")[0]
    cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", first)[1:-1]]
    assert [cell.replace("\\", "") for cell in cells] == ["", "entry", *titles]
    shown = heads_of(leaderboard_report(board))
    own = [column.head(read, key) for column in front_columns(read, key)]
    assert shown[: len(own) + 1] == ["entry", *own]
    assert {"tied with", "best", "n", "training seeds"} <= set(shown)
    assert len(set(shown)) == len(shown)


def test_a_column_without_a_cell_is_left_out(board):
    assert "utility" not in heads_of(leaderboard_report(board))
    file = board / "entries" / "near.json"
    studied = Scorecard.load(file).model_copy(update={"utility": make_verdict(label="<i>sex")})
    studied.save(file)
    read = Board.read(board)
    columns = filled(RANKING, entries_of(read, ranked_keys(read)[0]))
    (found,) = [column for column in columns if column.title == "utility"]
    texts = [found.cell(entry).markdown() for entry in entries_of(read, ranked_keys(read)[0])]
    assert sum(map(bool, texts)) == 1
    assert "&lt;i&gt;sex" in "".join(texts)
    assert "[utility](#utility)" in render_details(board)


def test_every_column_has_a_head_and_a_cell_for_every_entry(board):
    read = Board.read(board)
    key = ranked_keys(read)[0]
    for column in (*RANKING, *COST):
        assert column.head(read, key)
        assert all(isinstance(column.cell(entry), Cell) for entry in entries_of(read, key))


def test_without_comparisons_ranks_stay_and_shares_go(board):
    (board / "comparisons.json").unlink()
    read = Board.read(board)
    columns = filled(RANKING, entries_of(read, ranked_keys(read)[0]))
    titles = [column.title for column in columns]
    assert "rank" in titles
    assert "best" not in titles


@pytest.mark.parametrize(
    ("cell", "markdown"),
    [
        (EMPTY, ""),
        (Cell("1 [0, 2]"), "1 [0, 2]"),
        (Cell("<b>|", quoted=True), "&lt;b&gt;\\|"),
        (Cell("detected in <b>", quoted=True, strong="detected"), "**detected** in &lt;b&gt;"),
        (Cell("abc", code=True), "`abc`"),
    ],
    ids=["empty", "numbers", "words", "strong", "code"],
)
def test_cells_are_markdown_that_stays_in_its_cell(cell, markdown):
    assert cell.markdown() == markdown


def test_a_head_may_depend_on_the_benchmark(board):
    read = Board.read(board)
    column = Column(lambda board, key: f"{board.benchmark.name}: {key.metric}", lambda e: EMPTY)
    key = ranked_keys(read)[0]
    assert column.head(read, key) == f"{read.benchmark.name}: {key.metric}"


def test_an_entry_that_was_trained_on_the_real_volumes_is_marked(board):
    file = board / "entries" / "near.json"
    card = Scorecard.load(file)
    origin = card.origin.model_copy(update={"training_cohort": card.real.fingerprint})
    card.model_copy(update={"origin": origin}).save(file)
    assert TRAINED_ON_REAL in render_details(board)
