from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from synthbench.cli import app
from synthbench.errors import CheckFailed, ScorecardError
from synthbench.leaderboard import page as page_module
from synthbench.leaderboard.literature import REPORTED
from synthbench.leaderboard.multiverse import multiverse
from synthbench.leaderboard.ranking import compare
from synthbench.records.scorecard import PreflightRecord, Scorecard
from synthbench.records.values import Missing
from synthbench.records.verdict import add_readers
from synthbench.scoring.benchmark import Benchmark, FrozenFloor
from tests.boards import make_board, make_readers, make_verdict

pytestmark = pytest.mark.slow

OLD = Path(__file__).parents[1] / "data" / "ixi-hh-4mm"
SHIFTS = {"near": 0.0, "twin": 0.05, "far": 3.0}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A benchmark of three entries, two of which tie, compared."""
    folder, source = make_board(tmp_path_factory.mktemp("boards") / "b", SHIFTS)
    compare(folder, source=source).save(folder)
    multiverse(folder, source=source).save(folder)
    return folder


@pytest.fixture
def board(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "b"))


def section(page, title):
    return page.split(f"## {title}")[1].split("\n## ")[0]


def cells(line):
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def table(text):
    """The rows of the first table in a text, as dictionaries by their heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    head = cells(lines[0])
    last = next((i for i, line in enumerate(lines[2:]) if len(cells(line)) != len(head)), None)
    return [dict(zip(head, cells(line), strict=True)) for line in lines[2:][:last]]


def change(folder, entry, **update):
    file = folder / "entries" / f"{entry}.json"
    Scorecard.load(file).model_copy(update=update).save(file)


# ---------------------------------------------------------------- ranks


def test_ranks_and_ties_can_be_checked_by_hand_in_the_matrix(board):
    """Entries are tied where no bold difference stands between them, and the rank interval is
    1 + the number that are significantly better to K less those that are significantly worse.
    """
    page = page_module.render_details(board)
    ranking = section(page, "Ranking by MMD²")
    rows = {row[""]: row for row in table(ranking) if row[""]}
    matrix = table(ranking.split("### Differences")[1])
    split = set()
    for row in matrix:
        number = row[""].split(".")[0]
        for other, cell in row.items():
            if other and cell:
                assert re.fullmatch(r"(\*\*)?-?[\d.e-]+ \[.+, .+\](\*\*)? p <?[\d.]+", cell)
                if cell.startswith("**"):
                    split.add((number, other))
    assert split
    for number, row in rows.items():
        ties = {n for n in rows if n != number and not {(n, number), (number, n)} & split}
        assert {t for t in row["tied with"].split(", ") if t != "-"} == ties
        better = sum(second == number for _, second in split)
        worse = sum(first == number for first, _ in split)
        low, high = 1 + better, len(rows) - worse
        assert row["rank"] == (str(low) if low == high else f"{low}–{high}")


def test_without_comparisons_the_page_says_that_ranks_need_them(board):
    (board / "comparisons.json").unlink()
    page = page_module.render_details(board)
    ranking = section(page, "Ranking by MMD²")
    assert "Ranks and ties need the images" in ranking
    assert f"synthbench leaderboard {board.parent.name}/{board.name} --compare" in ranking
    assert all(row["rank"] == "" for row in table(ranking))
    assert "Differences in" not in page


def test_stale_comparisons_are_named_and_fail_the_check(board):
    page_module.write_leaderboard(board)
    page_module.check_leaderboard(board)
    change(board, "far", name="farther")
    page = page_module.render_details(board)
    assert "comparisons.json was computed from other entries (far changed)" in page
    assert "multiverse.json was computed from other entries (far changed)" in page
    with pytest.raises(CheckFailed, match=r"far changed.*--compare") as caught:
        page_module.check_leaderboard(board)
    assert caught.value.exit_code == 1
    plain = page.replace("\\_", "_")
    # What is printed is typed where it was printed; a page is the same from everywhere.
    assert f"run synthbench leaderboard {board} --compare on" in str(caught.value)
    assert f"run synthbench leaderboard {board.parent.name}/{board.name} --multiverse on" in plain


def test_metrics_are_ranked_apart_and_the_overall_order_has_its_stability(board):
    page = page_module.render_details(board)
    others = section(page, "Ranks under the other metrics")
    assert "claim under several metrics at once" in others
    assert others.count("<details>") == 5  # three metrics by two extractors, less the primary
    assert {row["entry"] for row in table(others)} == {"1. near", "2. twin", "3. far"} or {
        row["entry"] for row in table(others)
    } == {"1. twin", "2. near", "3. far"}
    overall = section(page, "Over all metrics")
    assert "of the resamples give this order" in overall
    assert all(row["keeps its place"].endswith("%") for row in table(overall))


def test_the_multiverse_has_its_figure_and_its_table(board):
    page = page_module.render_details(board)
    part = section(page, "Under other choices")
    assert "![Ranks under every choice](multiverse.svg)" in part
    assert all(re.fullmatch(r"\d+% \(\d+%\)|", c) for row in table(part) for c in
               list(row.values())[1:])  # fmt: skip
    assert set(page_module.render_pictures(board)) >= {"multiverse.svg", "forest-mmd2-first.svg"}


# ---------------------------------------------------------------- rows and values


def test_the_floor_is_a_row_of_its_own_and_stands_at_one_n(board):
    page = page_module.render_details(board)
    first = table(section(page, "Ranking by MMD²"))[0]
    assert first["entry"] == "**real vs real (floor)**"
    assert first["MMD² (RBF), first ↓ at n = 12 per side"] == "**0** (-0.05 to 0.05)"
    assert "at n = 12 per side" in section(page, "Against the real-vs-real floor")


def test_a_benchmarks_own_floor_is_shown(board):
    frozen = Benchmark.load(board)
    floor = FrozenFloor(metric="mmd2", extractor="first", n=12, mean=0.25, low=0.125, high=0.5,
                        minimum_detectable_effect=None)  # fmt: skip
    (board / "benchmark.yaml").unlink()
    frozen.model_copy(update={"floors": (floor,)}).save(board)
    first = table(section(page_module.render_details(board), "Ranking by MMD²"))[0]
    assert first["MMD² (RBF), first ↓ at n = 12 per side"] == "**0.25** (0.125 to 0.5)"


def test_entries_of_one_name_are_told_apart_by_their_files(board):
    for entry in ("near", "far"):
        change(board, entry, name="ours")
    page = page_module.render_details(board)
    entries = {row["entry"] for row in table(section(page, "Ranking by MMD²"))}
    assert {"ours (near)", "ours (far)", "twin"} <= entries
    assert re.search(r"\| [12]\. ours \(near\) \|", page)


def test_few_training_seeds_are_said_to_rank_volumes_and_not_the_method(board):
    change(board, "near", origin=Scorecard.load(board / "entries" / "near.json").origin.model_copy(
        update={"training_seeds": 3}))  # fmt: skip
    ranking = section(page_module.render_details(board), "Ranking by MMD²")
    seeds = {row["entry"]: row["training seeds"] for row in table(ranking)}
    assert seeds["near"] == "3"
    assert seeds["far"] == "1 ¹"
    assert "¹ fewer than three training seeds: the rank is of these volumes, not of the method" in (
        ranking
    )


def test_a_fit_without_chance_needs_no_other_training_seed(board):
    for name in ("near", "far", "twin"):
        origin = Scorecard.load(board / "entries" / f"{name}.json").origin
        change(board, name, origin=origin.model_copy(update={"random_fit": False}))
    details = page_module.render_details(board)
    seeds = {row["training seeds"] for row in table(section(details, "Ranking by MMD²"))}
    assert seeds == {"", "not random"}  # the floor has none
    assert "fewer than three" not in details + page_module.render_leaderboard(board)


def test_cost_energy_licence_hash_and_date_are_there(board):
    card = Scorecard.load(board / "entries" / "near.json")
    origin = card.origin.model_copy(
        update={"parameters": 47_500_000, "training_seconds": 21600.0, "seconds_a_volume": 2.5,
                "training_energy_kwh": 12.34, "licence": "CC BY-NC 4.0", "sampler": "ddim",
                "steps": 50}
    )  # fmt: skip
    change(board, "near", origin=origin)
    cost = section(page_module.render_details(board), "Cost, licence and date")
    row = next(row for row in table(cost) if row["entry"].endswith("near"))
    assert row == {
        "entry": row["entry"], "generator": "near", "parameters": "47.5 M", "training": "6.0 h",
        "energy": "12.3 kWh", "training seeds": "1 ¹", "sampler": "ddim, 50 steps",
        "s per volume": "2.5", "licence": "CC BY-NC 4.0", "protocol": f"`{card.protocol_hash}`",
        "scored": "2026-01-02, 24 of 24",
    }  # fmt: skip


def test_reported_values_are_shown_only_where_the_benchmark_asks_and_stand_apart(board):
    assert "Reported in papers" not in page_module.render_details(board)
    frozen = Benchmark.load(board)
    (board / "benchmark.yaml").unlink()
    frozen.model_copy(update={"literature": True}).save(board)
    part = section(page_module.render_details(board), "Reported in papers, under other protocols")
    assert "None of these numbers can be compared" in part
    rows = table(part)
    assert len(rows) == len(REPORTED)
    ddpm = next(row for row in rows if row["model"] == "3-D DDPM")
    assert ddpm["FID"] == r"19.39 \[16.8, 22.5\]"


def test_another_protocol_is_listed_apart_with_the_fields_that_differ(board):
    card = Scorecard.load(board / "entries" / "far.json")
    settings = {k: dict(v) for k, v in card.protocol.settings.items()}
    settings["mmd2 | first"]["bandwidth"] = 7.5
    protocol = card.protocol.model_copy(update={"settings": settings, "resamples": 150})
    real = card.real.model_copy(update={"fingerprint": "x" * 64})
    change(board, "far", protocol=protocol, protocol_hash=protocol.hash, real=real)
    page = page_module.render_details(board)
    apart = section(page, "Not comparable")
    assert f"- far (`{protocol.hash}`): real cohort: xxxxxxxxxxxx instead of rrrrrrrrrrrr" in apart
    assert "resamples: 150 instead of 200" in apart
    assert r"settings.mmd2 \| first.bandwidth: 7.5 instead of" in apart
    assert "far" not in section(page, "Values")


def test_accepted_preflight_errors_are_said(board):
    change(board, "far", preflight=(
        PreflightRecord(rule="scale", role="synth", severity="error", volumes=1, accepted=True),
    ))  # fmt: skip
    assert "`scale` (synth)" in section(page_module.render_details(board), "Scored in spite of")


def test_saturated_rows_are_marked_wherever_they_are_ranked(board):
    card = Scorecard.load(board / "entries" / "far.json")
    values = [v.model_copy(update={"saturated": v.metric == "mmd2"}) for v in card.values]
    change(board, "far", values=tuple(values))
    page = page_module.render_details(board)
    assert "ranks among such rows mean nothing" in section(page, "Ranking by MMD²")
    assert "‡" in section(page, "Values")


def test_a_missing_value_is_explained_in_short(board):
    card = Scorecard.load(board / "entries" / "far.json")
    why = Missing(reason="images", text=200 * "x")
    values = [
        v.model_copy(update={"value": None, "interval": None, "missing": why})
        if v.metric == "fid"
        else v
        for v in card.values
    ]
    change(board, "far", values=tuple(values))
    page = page_module.render_details(board)
    assert f"missing: {71 * 'x'}…" in section(page, "Values")
    assert "multiverse.json was computed from other entries (far changed)" in page


def test_an_entrys_picture_and_the_notes_are_shown(board):
    (board / "entries" / "near.png").write_bytes(b"")
    (board / "notes.md").write_text("## What it shows\n\nNothing.\n", encoding="utf-8")
    page = page_module.render_details(board)
    assert "near](entries/near.png)" in section(page, "Samples")
    assert "## What it shows\n\nNothing." in page


def test_names_in_scorecards_cannot_break_the_page(board):
    change(board, "near", name="<script>|x|\n# big ![p](http://x)")
    page = page_module.render_leaderboard(board) + page_module.render_details(board)
    pictures = "".join(page_module.render_pictures(board).values())
    assert "<script>" not in page + pictures
    assert "![p](" not in page
    assert "&lt;script&gt;\\|x\\| \\# big" in page


# ---------------------------------------------------------------- utility


def test_a_verdict_on_utility_has_a_column_and_a_table_and_leaves_the_ranks(board):
    """19.5 points are 100 times 0.195; the entry's file as it was scored is what was compared."""
    before = page_module.render_details(board)
    assert "tility" not in before
    change(board, "far", utility=make_verdict(label="s|x"))
    page = page_module.render_details(board)
    ranking = section(page, "Ranking by MMD²")
    rows = {row["entry"]: row for row in table(ranking)}
    cell = r"helped: +19.5 \[9.1, 29.9\] points AUC (s\|x, 20 real)"
    assert rows["far"]["[utility](#utility)"] == cell
    assert rows["near"]["[utility](#utility)"] == ""
    assert rows["far"]["rank"] == table(section(before, "Ranking by MMD²"))[3]["rank"] != ""
    [row] = table(section(page, "Utility"))
    assert row == {
        "entry": "3. far", "real + synthetic minus real": cell,
        "trained on": "20 real and 200 synthetic volumes",
        "tested on": "300 real subjects of cohort tttttttttttt", "model": "probe", "p": "0.002",
    }  # fmt: skip


def test_another_change_beside_a_verdict_is_still_a_change(board):
    change(board, "far", utility=make_verdict(), name="farther")
    assert "far changed" in page_module.render_details(board)


# ---------------------------------------------------------------- readers


def test_what_readers_saw_has_a_column_and_a_section_and_leaves_the_ranks(board):
    """Three entries are too few for a correlation; and nothing that was compared is stale."""
    before = page_module.render_details(board)
    assert "eaders" not in before
    for entry, accuracy in (("near", 0.5), ("far", 0.9)):
        add_readers(board / "entries" / f"{entry}.json", make_readers(accuracy, generator="a|b"))
    page = page_module.render_details(board)
    rows = {row["entry"]: row for row in table(section(page, "Ranking by MMD²"))}
    cell = r"told from real: 90 \[80, 100\]% (5 readers)"
    assert rows["far"]["[readers](#readers)"] == cell
    assert rows["twin"]["[readers](#readers)"] == ""
    assert rows["far"]["rank"] == table(section(before, "Ranking by MMD²"))[3]["rank"] != ""
    assert "changed" not in page
    found = table(section(page, "Readers"))
    assert [row["which is real?"] for row in found][1] == cell
    assert found[0]["blurred control, %"] == "95 [91, 99]"
    assert found[0]["mean ratings"] == "slices 2.1 of 4 (real 3.4)"
    assert "cannot be told from 2 generators" in section(page, "Readers")


# ---------------------------------------------------------------- files


def test_rendering_is_deterministic_and_check_finds_what_is_stale(board):
    page = page_module.write_leaderboard(board)
    before = {file.name: file.read_bytes() for file in board.iterdir() if file.is_file()}
    page_module.write_leaderboard(board)
    assert before == {file.name: file.read_bytes() for file in board.iterdir() if file.is_file()}
    assert page.read_text(encoding="utf-8") == page_module.render_leaderboard(board)
    second = (board / "details.md").read_text(encoding="utf-8")
    assert second == page_module.render_details(board)
    page_module.check_leaderboard(board)
    (board / "forest-fid-first.svg").write_text("<svg/>", encoding="utf-8")
    (board / "forest-gone.svg").write_text("<svg/>", encoding="utf-8")
    with pytest.raises(CheckFailed, match=r"forest-fid-first\.svg, .*forest-gone\.svg are stale"):
        page_module.check_leaderboard(board)
    page_module.write_leaderboard(board)
    assert not (board / "forest-gone.svg").exists()
    (board / "README.md").unlink()
    with pytest.raises(CheckFailed, match=r"README\.md is stale"):
        page_module.check_leaderboard(board)
    page_module.write_leaderboard(board)
    (board / "details.md").write_text("# mine", encoding="utf-8")
    with pytest.raises(CheckFailed, match=r"details\.md is stale"):
        page_module.check_leaderboard(board)


def test_the_page_does_not_depend_on_where_the_folder_is(board, tmp_path):
    elsewhere = shutil.copytree(board, tmp_path / "else" / "where")
    for render in (page_module.render_leaderboard, page_module.render_details):
        assert render(elsewhere) == render(board)


def test_folders_without_a_benchmark_or_entries_are_explained(board, tmp_path):
    assert page_module.benchmarks_in(board.parent) == [board]
    shutil.rmtree(board / "entries")
    with pytest.raises(ScorecardError, match="no entries"):
        page_module.render_details(board)
    with pytest.raises(ScorecardError, match="no benchmark here"):
        page_module.benchmarks_in(tmp_path / "real")


def test_the_first_scorecards_load_and_render_for_ever(tmp_path):
    """Seven scorecards and the benchmark of schema 1, as they were first written."""
    folder = shutil.copytree(OLD, tmp_path / "old")
    files = sorted((folder / "entries").glob("*.json"))
    assert len(files) == 7
    for file in files:
        card = Scorecard.load(file)
        assert card.protocol_hash == card.protocol.hash == "baac60ba08c7"
    frozen = Benchmark.load(folder)
    assert frozen.protocol.hash == "baac60ba08c7"
    assert frozen.mask is None
    assert frozen.floors == ()
    page = page_module.render_details(folder)
    order = [row["entry"] for row in table(section(page, "Ranking by KID")) if row[""]]
    cards = [Scorecard.load(file) for file in files]
    rows = {card.name: card.row("kid") for card in cards}
    assert order == sorted(rows, key=lambda name: rows[name].value)  # type: ignore
    assert "## Not comparable" not in page


def run(monkeypatch, *arguments):
    """The exit code of a command line; 0 where it ends by itself."""
    monkeypatch.setattr(sys, "argv", ["synthbench", *map(str, arguments)])
    try:
        app.main()
    except SystemExit as ended:
        return ended.code or 0
    return 0


def test_check_exits_1_with_every_stale_page_named(board, monkeypatch, capsys):
    shutil.copytree(board, board.parent / "c")
    assert run(monkeypatch, "leaderboard", board.parent, "--check") == 1
    stale = capsys.readouterr().err
    for name in ("b", "c"):
        assert f"{board.parent / name / 'README.md'}" in stale
    assert run(monkeypatch, "leaderboard", board.parent) == 0
    assert run(monkeypatch, "leaderboard", board.parent, "--check") == 0


def test_materials_of_files_rank_from_the_command_line(tmp_path, monkeypatch, capsys):
    folder, source = make_board(tmp_path / "b", SHIFTS)
    files = []
    for name in SHIFTS:
        file = tmp_path / f"{name}.npz"
        source(Scorecard.load(folder / "entries" / f"{name}.json")).save(file)
        files += ["--sample-data", file]
    options = ["--compare", "--multiverse"]
    assert run(monkeypatch, "leaderboard", folder, *options, *files[:-2]) == 2
    assert "far.json were not scored on this machine" in capsys.readouterr().err
    assert run(monkeypatch, "leaderboard", folder, *options, *files) == 0
    assert (folder / "comparisons.json").is_file()
    assert run(monkeypatch, "leaderboard", folder, "--check") == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--check", "--compare"), "--check writes nothing"),
        (("--sample-data", "m.npz"), "add --compare or --multiverse"),
    ],
)
def test_options_that_do_not_go_together_are_refused(board, monkeypatch, capsys, options, words):
    assert run(monkeypatch, "leaderboard", board, *options) == 2
    assert words in capsys.readouterr().err
