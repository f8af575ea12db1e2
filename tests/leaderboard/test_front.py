"""The first page: sentences from the data, one table of eight columns, one picture."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from synthbench.leaderboard.board import Board, ranked_keys
from synthbench.leaderboard.front import WIDEST, front_columns
from synthbench.leaderboard.methods import kind_of
from synthbench.leaderboard.page import render_details, render_leaderboard, write_leaderboard
from synthbench.leaderboard.ranking import compare
from synthbench.leaderboard.takeaways import takeaways
from synthbench.records.cohort import FailedRecord
from synthbench.records.scorecard import BASELINES, Scorecard
from synthbench.records.values import FloorRecord
from synthbench.registry import BUILT_IN, load
from tests.boards import make_board

NINE = Path(__file__).parents[1] / "data" / "board-of-nine"
SHIFTS = {"near": 0.0, "twin": 0.05, "far": 3.0}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder, source = make_board(tmp_path_factory.mktemp("front") / "b", SHIFTS)
    compare(folder, source=source).save(folder)
    return folder


@pytest.fixture
def board(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "b"))


def change(folder, entry, **update):
    file = folder / "entries" / f"{entry}.json"
    Scorecard.load(file).model_copy(update=update).save(file)


def standing_at(folder, entry, metric, value):
    """Set the value of a metric at the floor's n; the floor ends at 0.05."""
    card = Scorecard.load(folder / "entries" / f"{entry}.json")
    values = tuple(
        row.model_copy(update={
            "floor": FloorRecord(n=12, mean=0.0, low=-0.05, high=0.05, synth_mean=value)})
        if row.metric == metric else row for row in card.values
    )  # fmt: skip
    change(folder, entry, values=values)


def told(folder):
    return takeaways(Board.read(folder), Path("leaderboards") / folder.name)


# ---------------------------------------------------------------- sentences


def test_a_board_of_nine_rows_in_five_sentences():
    """What its notes say in many words: which rows are like real, tied, copies, and baselines."""
    like_real, first, copying, baselines, hidden = told(NINE)
    assert "cannot tell 2 of 9 rows" in like_real
    assert all(f'"{name}"' in like_real for name in ("pca-gaussian", "real training images"))
    assert "shared by 3 rows" in first
    assert '"memorizer"' in first
    assert '"memorizer"' in copying.partition("nearer")[0]
    assert '"pca-gaussian"' in copying.partition("nearer")[2]
    assert "all 4 trained generators" in baselines
    assert '"noise"' not in baselines
    assert "never trained on an image" in hidden


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((0.0, 0.01, 0.9), "cannot tell 2 of 3 rows"),
        ((0.0, 0.01, 0.02), "cannot tell all 3 rows"),
        ((0.3, 0.2, 0.9), "tells all 3 rows"),
        ((-0.3, 0.2, 0.9), 'nearer to real than real is to itself, so look for copies: "near"'),
    ],
)
def test_rows_inside_the_floor_are_those_that_cannot_be_told_from_real(board, values, words):
    for entry, value in zip(SHIFTS, values, strict=True):
        standing_at(board, entry, "mmd2", value)
    assert words in told(board)[0]


def test_the_first_place_is_that_of_the_rank_intervals(board):
    """Rows that share it are those whose rank interval starts at 1."""
    read = Board.read(board)
    assert read.comparisons is not None
    places = read.comparisons.metrics[0].places
    first = [place.entry for place in places if place.rank_low == 1]
    (sentence,) = [line for line in told(board) if line.startswith("The first place")]
    assert len(first) == 2
    assert all(f'"{name}"' in sentence for name in first)
    assert '"far"' not in sentence


def test_baselines_that_are_significantly_better_are_named_with_whom_they_beat(board):
    """`far` is significantly worse than both others, which are not told apart."""
    origin = Scorecard.load(board / "entries" / "near.json").origin
    (board / "comparisons.json").unlink()
    kinds = {"near": "pca-gaussian", "far": "ddpm3d", "twin": "ldm3d"}
    for entry, generator in kinds.items():
        change(board, entry, origin=origin.model_copy(update={"generator": generator}))
    _, source = make_board(board.parent / "same", SHIFTS)
    compare(board, source=source).save(board)
    sentence = next(line for line in told(board) if line.startswith("Baselines"))
    assert '"near" is significantly better than "far"' in sentence
    assert "twin" not in sentence


def test_without_comparisons_no_sentence_claims_an_order(board):
    (board / "comparisons.json").unlink()
    sentences = told(board)
    assert any("only ordered" in line for line in sentences)
    assert not any("significantly" in line or "first place" in line for line in sentences)


def test_stale_comparisons_are_told_with_the_command(board):
    change(board, "far", name="farther")
    (sentence,) = [line for line in told(board) if "only ordered" in line]
    assert "far changed" in sentence
    assert "--compare" in sentence


def test_what_the_primary_metric_does_not_show_is_named(board):
    for entry in SHIFTS:
        standing_at(board, entry, "mmd2", 0.0)
        standing_at(board, entry, "kid", 0.0)
        standing_at(board, entry, "fid", 0.9 if entry == "twin" else 0.0)
    last = told(board)[-1]
    assert '"twin" is not like real by FID' in last
    assert "KID" not in last
    assert '"near"' not in last


def test_another_metric_of_its_own_family_is_named_by_its_label(board):
    for entry in SHIFTS:
        for metric in ("mmd2", "fid"):
            standing_at(board, entry, metric, 0.0)
        standing_at(board, entry, "kid", 0.9 if entry == "near" else 0.0)
    assert '"near" is not like real by KID on first, KID on second' in told(board)[-1]


def test_a_primary_metric_at_its_ceiling_is_told(board):
    card = Scorecard.load(board / "entries" / "far.json")
    values = tuple(v.model_copy(update={"saturated": v.metric == "mmd2"}) for v in card.values)
    change(board, "far", values=values)
    assert 'ranks mean nothing, among "far"' in told(board)[-1]
    assert render_leaderboard(board).count("‡") == 2  # the value, and what the mark means


@pytest.mark.parametrize("count", [1, 2, pytest.param(30, marks=pytest.mark.slow)])
def test_boards_of_any_size_have_at_most_five_short_sentences(count, tmp_path):
    shifts = {f"entry-{i:02d}": 0.1 * i for i in range(count)}
    folder, _ = make_board(tmp_path / "b", shifts)
    sentences = told(folder)
    assert 1 <= len(sentences) <= 5
    assert all(sentence.count('"entry-') <= 10 for sentence in sentences)
    lines = render_leaderboard(folder).splitlines()
    assert sum(bool(re.match(r"\| \d+\\?\. ", line)) for line in lines) == count


def test_one_extractor_of_several_can_be_the_primary_one(tmp_path):
    """By KID on the second extractor the far entry is first, and everything says so."""
    folder, source = make_board(tmp_path / "b", SHIFTS, primary="kid | second")
    found = compare(folder, source=source)
    assert (found.metrics[0].metric, found.metrics[0].extractor) == ("kid", "second")
    best = FloorRecord(n=12, mean=0.0, low=-0.05, high=0.05, synth_mean=-9.0)
    card = Scorecard.load(folder / "entries" / "far.json")
    values = tuple(
        row.model_copy(update={"value": -9.0, "floor": best})
        if (row.metric, row.extractor) == ("kid", "second") else row for row in card.values
    )  # fmt: skip
    change(folder, "far", values=values)
    board = Board.read(folder)
    assert next(iter(board.ordered)) == "far"
    keys = [(key.metric, key.extractor) for key in ranked_keys(board)]
    assert keys[:2] == [("kid", "second"), ("kid", "first")]
    assert "KID, second ↓" in render_leaderboard(folder)
    assert told(folder)[0].startswith("KID on second")


# ---------------------------------------------------------------- the page


def test_the_first_page_has_one_table_of_few_columns_and_one_picture(board):
    for folder in (board, NINE):
        page = render_leaderboard(folder)
        head = next(line for line in page.splitlines() if line.startswith("| entry"))
        assert len(re.split(r"(?<!\\)\|", head)[1:-1]) <= WIDEST
        assert sum(line.startswith("| ---") for line in page.splitlines()) == 1
        assert page.count("![") == 1
        assert "(details.md)" in page
        assert page.index("\n- ") < page.index("| entry") < page.index("![")
        assert len(page) < 6000


def test_columns_stay_within_the_page_where_all_have_something_to_show(board):
    """With failures, cost and copies, other metrics give way."""
    for entry in SHIFTS:
        card = Scorecard.load(board / "entries" / f"{entry}.json")
        failed = (FailedRecord(file="synth-000001.nii.gz", reason="empty"),)
        synth = card.synth.model_copy(update={"failed": failed})
        origin = card.origin.model_copy(update={"training_seconds": 60.0})
        change(board, entry, synth=synth, origin=origin)
    compare(board, source=make_board(board.parent / "same", SHIFTS)[1]).save(board)
    read = Board.read(board)
    key = ranked_keys(read)[0]
    titles = [column.head(read, key) for column in front_columns(read, key)]
    assert len(titles) < WIDEST
    assert {"rank", "verdict", "copies", "failed", "training"} <= set(titles)


def test_entries_of_another_protocol_are_counted_on_the_first_page(board):
    real = Scorecard.load(board / "entries" / "far.json").real
    change(board, "far", real=real.model_copy(update={"fingerprint": "x" * 64}))
    assert "1 other entry has another protocol or real cohort" in render_leaderboard(board)
    assert "## Not comparable" in render_details(board)


def test_a_board_without_comparable_entries_still_has_its_pages(board):
    for entry in SHIFTS:
        real = Scorecard.load(board / "entries" / f"{entry}.json").real
        change(board, entry, real=real.model_copy(update={"fingerprint": "x" * 64}))
    write_leaderboard(board)
    assert "3 other entries have" in render_leaderboard(board)


# ---------------------------------------------------------------- kinds


def test_kinds_of_rows_are_read_from_the_sidecars():
    cards = Board.read(NINE).cards
    kinds = {name: kind_of(card) for name, card in cards.items()}
    assert kinds["pca-gaussian"] == kinds["memorizer"] == kinds["noise"] == "baseline"
    assert kinds["ddpm3d-tiny"] == kinds["ldm3d-tiny"] == "trained"
    assert kinds["training"] == kinds["training-blurred"] == "unstated"


@pytest.mark.slow
def test_baselines_are_the_generators_that_train_no_network():
    from synthbench.generators.generator import TrainedBySteps

    without = {
        name for name in BUILT_IN["generators"]
        if not isinstance(load("generators", name)(), TrainedBySteps)
    }  # fmt: skip
    assert without == BASELINES
