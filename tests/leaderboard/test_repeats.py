"""Other splits and seeds on the page: what held in all, and what was the luck of one."""

from __future__ import annotations

import pytest

from synthbench.errors import ScorecardError
from synthbench.leaderboard.board import Board
from synthbench.leaderboard.page import render_details
from synthbench.leaderboard.repeats import SEEDS, SPLITS, seeds, splits
from synthbench.records.scorecard import Scorecard
from tests.boards import make_board


@pytest.fixture
def folder(tmp_path):
    return make_board(tmp_path / "b", {"near": 0.0, "mid": 1.5, "far": 4.0})[0]


def other_split(folder, name, values, fingerprint="s" * 64, *, kind=SPLITS, **changed):
    """Scorecards of another split: the same, with other values of the primary metric."""
    (folder / kind / name).mkdir(parents=True)
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
        card.model_copy(update=update).save(folder / kind / name / f"{entry}.json")


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
    (folder / SPLITS / "split-2" / "near.json").unlink()
    with pytest.raises(ScorecardError, match="intensities"):
        splits(Board.read(folder))


# ---------------------------------------------------------------- training seeds


@pytest.fixture
def of_methods(folder):
    """The board; its entries name their methods."""
    for file in (folder / "entries").glob("*.json"):
        card = Scorecard.load(file)
        origin = card.origin.model_copy(update={
            "method": file.stem, "training_seed": 0, "weights_sha256": file.stem[0] * 64,
        })  # fmt: skip
        card.model_copy(update={"origin": origin}).save(file)
    return folder


def other_seed(folder, name, values, **changed):
    """Scorecards of another training seed: other weights, and other values."""
    own = Board.read(folder).benchmark.real_fingerprint
    other_split(folder, name, values, own, kind=SEEDS)
    for file in (folder / SEEDS / name).glob("*.json"):
        card = Scorecard.load(file)
        update = {"training_seed": int(name[-1]), "weights_sha256": name[-1] * 64, **changed}
        card.model_copy(update={"origin": card.origin.model_copy(update=update)}).save(file)


def test_training_seeds_have_a_section_of_their_own(of_methods):
    own = Board.read(of_methods).cards["near"].values[0].value
    assert own is not None
    other_seed(of_methods, "seed-1", {"near": 0.01, "far": 0.9})
    other_seed(of_methods, "seed-2", {"near": 0.4, "far": 0.2})
    text = seeds(Board.read(of_methods))
    assert "With 3 training seeds" in text
    assert "trained again with 2 other seeds (seed-1, seed-2)" in text
    assert f"{min(own, 0.01):.3g} to 0.4" in line_of(text, "near")
    assert "0 of 1 pairs of entries have the same order in every seed" in text
    assert "mid" not in text
    (of_methods / SEEDS / "seed-1" / "far.json").unlink()
    assert "pairs of entries" not in seeds(Board.read(of_methods))  # one entry has no pair
    other_seed(of_methods, "seed-3", {"near": 0.2})
    text = seeds(Board.read(of_methods))
    details = render_details(of_methods)
    assert text in details
    assert "In 3 splits" not in details


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"weights_sha256": "n" * 64}, "its weights are the entry's own"),
        ({"method": "another"}, "not of the entry's method"),
        ({"method": None}, "not of the entry's method"),
    ],
)
def test_what_is_no_other_seed_of_the_entry_is_refused(of_methods, changed, message):
    other_seed(of_methods, "seed-1", {"near": 0.01}, **changed)
    with pytest.raises(ScorecardError, match=message):
        seeds(Board.read(of_methods))


def test_a_seed_scored_in_another_way_or_without_an_entry_is_refused(of_methods):
    other_split(of_methods, "seed-1", {"near": 0.01}, kind=SEEDS)
    with pytest.raises(ScorecardError, match="its real cohort is not the benchmark's own"):
        seeds(Board.read(of_methods))
    file = of_methods / SEEDS / "seed-1" / "near.json"
    file.rename(file.with_name("nobody.json"))
    with pytest.raises(ScorecardError, match="no entry has this name"):
        seeds(Board.read(of_methods))


def test_one_repetition_under_two_names_is_refused(of_methods):
    other_seed(of_methods, "seed-1", {"near": 0.01})
    other_seed(of_methods, "again-1", {"near": 0.01})
    with pytest.raises(ScorecardError, match=r"no other seed than seeds/again-1/near\.json"):
        seeds(Board.read(of_methods))
    other_split(of_methods, "split-2", {"near": 0.01})
    other_split(of_methods, "split-3", {"near": 0.02})
    with pytest.raises(ScorecardError, match=r"no other split than splits/split-2/near\.json"):
        splits(Board.read(of_methods))
