"""Other splits on the page: what held in all, and what was the luck of one."""

from __future__ import annotations

import pytest

from synthbench.errors import ScorecardError
from synthbench.leaderboard.board import Board
from synthbench.leaderboard.page import render_details
from synthbench.leaderboard.splits import FOLDER, splits
from synthbench.records.scorecard import Scorecard
from tests.boards import make_board


@pytest.fixture
def folder(tmp_path):
    return make_board(tmp_path / "b", {"near": 0.0, "mid": 1.5, "far": 4.0})[0]


def other_split(folder, name, values, fingerprint="s" * 64, **changed):
    """Scorecards of another split: the same, with other values of the primary metric."""
    (folder / FOLDER / name).mkdir(parents=True)
    for entry, value in values.items():
        card = Scorecard.load(folder / "entries" / f"{entry}.json")
        rows = [
            row.model_copy(update={
                "value": value,
                "floor": None if row.floor is None else row.floor.model_copy(
                    update={"synth_mean": value}),
            }) if row.metric == "mmd2" else row for row in card.values
        ]  # fmt: skip
        real = card.real.model_copy(update={"fingerprint": fingerprint})
        update = {"values": tuple(rows), "real": real, **changed}
        card.model_copy(update=update).save(folder / FOLDER / name / f"{entry}.json")


def line_of(text, entry):
    return next(
        line for line in text.splitlines() if line.startswith("|") and f". {entry} " in line
    )


def test_without_other_splits_there_is_no_section(folder):
    assert splits(Board.read(folder)) == ""


def test_what_holds_in_all_splits_is_told_from_luck(folder):
    """The floor ends at 0.05: `near` lies inside in two of three splits, `far` in none."""
    own = Board.read(folder).cards["near"].values[0].value
    assert own is not None
    other_split(folder, "split-2", {"near": 0.01, "mid": 0.3, "far": 0.9})
    other_split(folder, "split-3", {"near": 0.4, "mid": 0.2, "far": 0.95}, "t" * 64)
    text = splits(Board.read(folder))
    assert "In 3 splits" in text
    assert text in render_details(folder)
    near, far = (line_of(text, entry) for entry in ("near", "far"))
    assert f"{min(own, 0.01):.3g} to 0.4" in near
    assert " of 3" in near
    assert " of 3" not in far
    assert "**" in far
    # near and mid change places in the third split; both stay ahead of far.
    assert "2 of 3 pairs" in text
    assert "1 and 2" in text


def test_an_entry_that_another_split_lacks_is_not_shown(folder):
    other_split(folder, "split-2", {"near": 0.01, "far": 0.9})
    text = splits(Board.read(folder))
    assert "near" in text
    assert "mid" not in text


def test_the_same_real_cohort_or_another_way_of_scoring_is_refused(folder):
    own = Board.read(folder).benchmark.real_fingerprint
    other_split(folder, "split-2", {"near": 0.01}, own)
    with pytest.raises(ScorecardError, match="no other split"):
        splits(Board.read(folder))
    protocol = Board.read(folder).benchmark.protocol
    changed = protocol.model_copy(
        update={"space": protocol.space.model_copy(update={"scaling": "another"})}
    )
    other_split(folder, "split-3", {"near": 0.01}, protocol=changed, protocol_hash=changed.hash)
    (folder / FOLDER / "split-2" / "near.json").unlink()
    with pytest.raises(ScorecardError, match="intensities"):
        splits(Board.read(folder))
