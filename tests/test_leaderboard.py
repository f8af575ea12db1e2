import json
import shutil

import pytest

from synthbench import leaderboard as pages
from synthbench import scoring
from synthbench.errors import CheckFailed, ScorecardError
from synthbench.scorecard import Scorecard

METRICS = ("mmd2", "fid", "ms_ssim")


@pytest.fixture
def board(make_cohort, tmp_path):
    """A benchmark with a near entry, a far one, and one scored under another protocol."""
    real = make_cohort("real", n=6, seed=1)
    frozen = scoring.freeze(
        real, "b", n_synth=5, extractors=["random-resnet10"], metrics=METRICS, resamples=100
    )
    folder = tmp_path / "b"
    frozen.save(folder)
    (folder / "entries").mkdir()
    for name, width in (("near", 1.0), ("far", 0.7)):
        synth = make_cohort(name, n=5, seed=len(name), width=width)
        card = scoring.score(real, synth, benchmark=frozen, name=name)
        card.save(folder / "entries" / f"{name}.json")
    other = scoring.score(
        real, make_cohort("x", n=5, seed=9), extractors=["random-resnet10"], metrics=METRICS,
        resamples=150, name="other",
    )  # fmt: skip
    other.save(folder / "entries" / "other.json")
    return folder


def section(page, title):
    return page.split(f"## {title}")[1].split("\n## ")[0]


def test_entries_are_ordered_by_the_primary_metric(board):
    page = pages.render_leaderboard(board)
    values = section(page, "Values")
    assert values.index("| near |") < values.index("| far |")
    card = Scorecard.load(board / "entries" / "far.json")
    row = card.row("fid")
    assert row is not None
    assert row.interval is not None
    assert f"{row.value:.3g} [{row.interval.low:.3g}, {row.interval.high:.3g}] †" in values
    assert "FID (n=5)" in values


def test_the_floor_stands_first_and_at_the_same_n(board):
    floors = section(pages.render_leaderboard(board), "Against the real-vs-real floor")
    assert "at n = 3 a side" in floors
    assert floors.index("real vs real (floor)") < floors.index("| near |")


def test_another_protocol_is_listed_apart_with_what_differs(board):
    page = pages.render_leaderboard(board)
    assert "other" not in section(page, "Values")
    apart = section(page, "Not comparable")
    assert "resamples: 150 instead of 100" in apart
    assert "other" in apart


def test_rendering_is_deterministic_and_check_finds_a_stale_page(board):
    page = pages.write_leaderboard(board)
    assert page.read_text() == pages.render_leaderboard(board)
    pages.check_leaderboard(board)
    shutil.copy(board / "entries" / "near.json", board / "entries" / "zz.json")
    with pytest.raises(CheckFailed, match="is stale") as caught:
        pages.check_leaderboard(board)
    assert caught.value.exit_code == 1


def test_notes_are_put_under_the_tables(board):
    (board / "notes.md").write_text("## What it shows\n\nNothing.\n")
    assert "## What it shows\n\nNothing." in pages.render_leaderboard(board)


def test_names_in_scorecards_cannot_break_the_page(board):
    file = board / "entries" / "near.json"
    card = json.loads(file.read_text())
    card["name"] = "<script>|x|\n# big"
    file.write_text(json.dumps(card))
    values = section(pages.render_leaderboard(board), "Values")
    assert "<script>" not in values
    assert "\\<script\\>\\|x\\| # big" in values


def test_folders_without_a_benchmark_or_entries_are_explained(board, tmp_path):
    assert pages.benchmarks_in(board.parent) == [board]
    shutil.rmtree(board / "entries")
    with pytest.raises(ScorecardError, match="no entries"):
        pages.render_leaderboard(board)
    with pytest.raises(ScorecardError, match="no benchmark here"):
        pages.benchmarks_in(tmp_path / "real")
