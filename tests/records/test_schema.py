"""Cards of older schemas: read, upgraded, shown, and never rewritten."""

from __future__ import annotations

import copy
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from synthbench.errors import ScorecardError
from synthbench.leaderboard.entries import entry_hashes, read_entries
from synthbench.leaderboard.page import render_leaderboard
from synthbench.leaderboard.ranking import Comparisons
from synthbench.records.schema import SCHEMA, upgrade_1_to_2
from synthbench.records.scorecard import Scorecard
from synthbench.records.values import Missing
from synthbench.records.verdict import add_readers, add_verdict, scored_bytes
from synthbench.registry import BUILT_IN, load
from synthbench.report.html import render_report
from synthbench.report.text import scorecard_table
from synthbench.scoring.benchmark import Benchmark
from tests.boards import make_readers, make_verdict

ROOT = Path(__file__).parents[2]
CARDS = sorted(
    [
        *(ROOT / "tests" / "data").glob("*/entries/*.json"),
        *(ROOT / "tests" / "data").glob("*/baseline.json"),
    ]
)
BENCHMARKS = sorted((ROOT / "tests" / "data").glob("*/benchmark.yaml"))
BOARD = ROOT / "tests" / "data" / "board-of-nine"


def fields_of(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text(encoding="utf-8")))


def printed(card: Scorecard) -> str:
    text = io.StringIO()
    Console(file=text, width=200).print(scorecard_table(card, wide=True))
    return text.getvalue()


def written(file: Path, **changed: Any) -> Path:
    """A copy of the conditional entry with other fields; None takes a field out."""
    fields = fields_of(BOARD / "entries" / "ldm3d-tiny.json") | changed
    file.write_text(
        json.dumps({k: v for k, v in fields.items() if v is not None}), encoding="utf-8"
    )
    return file


def test_every_committed_card_is_here_and_of_schema_1():
    """Nine entries of the leaderboard, seven older ones, and the rescored baseline."""
    assert len(CARDS) == 17
    assert {fields_of(file)["schema_version"] for file in CARDS} == {1}


@pytest.mark.parametrize("file", CARDS, ids=lambda file: f"{file.parts[-3]}-{file.stem}")
def test_a_card_of_schema_1_loads_upgrades_and_renders(file, tmp_path):
    """No number moves: those of the file, in order, are those of the upgraded card."""
    old, card = fields_of(file), Scorecard.load(file)
    assert card.schema_version == SCHEMA
    assert card.protocol.hash == old["protocol_hash"] == card.protocol_hash
    for before, after in zip(old["values"], card.values, strict=True):
        floor = before["floor"] or {}
        assert (before["metric"], before["value"], before["p"]) == (
            after.metric, after.value, after.p,
        )  # fmt: skip
        assert (after.floor is None) == (before["floor"] is None)
        if after.floor is not None:
            assert after.floor.minimum_detectable_effect == floor.get("detectable")
    card.save(tmp_path / "new.json")
    assert Scorecard.load(tmp_path / "new.json") == card
    assert fields_of(tmp_path / "new.json")["schema_version"] == SCHEMA
    assert card.protocol_hash in printed(card)
    assert card.protocol_hash in render_report([card])


@pytest.mark.parametrize("file", CARDS, ids=lambda file: f"{file.parts[-3]}-{file.stem}")
def test_what_a_card_of_schema_1_says_of_its_metrics_is_what_they_declare(file):
    """The upgrade knows by name what installed metrics declare of themselves."""
    for value in Scorecard.load(file).values:
        assert value.metric.partition(".")[0] in BUILT_IN["metrics"]
        metric = load("metrics", value.key.metric)()
        assert value.role == metric.role
        whole = value.key.part is None
        assert value.label_with_n == (whole and metric.label_with_n)
        assert value.of_variety == (whole and metric.of_variety)


def test_findings_of_schema_1_become_data():
    old = fields_of(BOARD / "entries" / "ldm3d-tiny.json")
    card = Scorecard.load(BOARD / "entries" / "ldm3d-tiny.json")
    tests = [
        (record[side], getattr(new, side))
        for record, new in zip(old["memorization"], card.memorization, strict=True)
        for side in ("plain", "flipped")
    ]
    assert {new.detected for _, new in tests} == {True, False}
    for before, after in tests:
        assert after.text == before["words"]
        assert after.detected == (before["words"] == "copying detected")
    marked = {v.metric for v in card.values if v.interval and v.interval.conditional_on_n}
    assert "fid" in marked
    assert "mmd2" not in marked
    assert card.adherence is not None
    assert card.replication is not None
    requested = [point["asked"] for c in old["fidelity"]["conditions"] for point in c["curve"]]
    assert [p.requested for c in card.adherence.conditions for p in c.curve] == requested
    assert [leak.requested for leak in card.adherence.leakage] == [
        leak["asked"] for leak in old["fidelity"]["leakage"]
    ]
    assert [e.requested for e in card.replication.effects] == [
        effect["asked"] for effect in old["replication"]["effects"]
    ]


@pytest.mark.parametrize(
    ("entry", "features", "voxels"),
    [
        ("noise", "none", "none"),
        ("pca-gaussian", "none", "nearer"),
        ("ldm3d-tiny", "none", "nearer"),
        ("training", "copies", "copies"),
        ("memorizer", "nearer", "copies"),
    ],
)
def test_an_old_card_says_what_its_test_has_shown(entry, features, voxels):
    """It tested the gap: a rejection is no copy, but exact copies are, and so is a gap that is
    at least 0.3 at the lower end of its interval (memorizer in voxels: 0.65).
    """
    records = Scorecard.load(BOARD / "entries" / f"{entry}.json").memorization
    assert [record.verdict for record in records] == [features, voxels]
    assert all(record.plain.verdict is None for record in records)


@pytest.mark.parametrize(
    ("words", "missing"),
    [
        ("missing: synthbench fetch net", Missing(reason="weights", text="synthbench fetch net")),
        ("missing: fid: too few", Missing(reason="images", text="fid: too few")),
    ],
    ids=["weights", "images"],
)
def test_a_reason_of_schema_1_becomes_one_that_is_named(words, missing, tmp_path):
    row = {"metric": "fid", "label": "FID", "extractor": "net", "direction": "lower",
           "missing": words, "equivalents": [
               {"corruption": "blur", "words": "blurred", "text": "1 mm", "relation": "at",
                "dose": 1, "low": None, "high": None, "unit": "mm"}]}  # fmt: skip
    value = Scorecard.load(written(tmp_path / "card.json", values=[row])).values[0]
    assert value.missing == missing
    assert str(value.missing) == words
    assert value.label_at(9, 9) == "FID (n=9)"
    assert value.label_at(9, 7) == "FID (9 real, 7 synth)"
    assert value.equivalents[0].sentence == "blurred"


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (SCHEMA + 1, rf"a scorecard of schema {SCHEMA + 1}, .* Update synthbench"),
        (None, "it does not state its schema_version"),
        ("two", "schema_version must be a whole number from 1 to 2; found 'two'"),
        (0, "schema_version must be a whole number"),
        (True, "schema_version must be a whole number"),
    ],
    ids=["newer", "missing", "a word", "nought", "a truth"],
)
def test_a_version_that_cannot_be_read_is_told_before_anything_else(version, message, tmp_path):
    """An unknown field of a newer file does not hide that the file is newer."""
    file = written(tmp_path / "card.json", schema_version=version, invented=1)
    with pytest.raises(ScorecardError, match=message):
        Scorecard.load(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[1]", "it holds a list, not fields"),
        (b"{", "not a scorecard of schema 2: Expecting"),
        (b"\xff\xfe", "is not text"),
        (b'{"schema_version": 1}', "cannot be upgraded from schema 1: KeyError"),
    ],
    ids=["a list", "no JSON", "bytes", "no fields"],
)
def test_a_file_of_something_else_is_refused_with_the_command_that_writes_one(
    content, message, tmp_path
):
    (tmp_path / "card.json").write_bytes(content)
    with pytest.raises(ScorecardError, match=message) as caught:
        Scorecard.load(tmp_path / "card.json")
    assert "synthbench score --out" in str(caught.value)


def test_rows_of_metrics_that_are_not_installed_are_shown():
    """A card carries what a page needs of a metric: here one that nobody has."""
    card = Scorecard.load(CARDS[0])
    named = {"metric": "elsewhere", "label": "of a plugin", "label_with_n": True}
    own = card.values[0].model_copy(update=named)
    compared = own.model_copy(update={"metric": "for_papers_only", "role": "for_papers"})
    shown = card.model_copy(update={"values": (own, compared)})
    before, after = printed(shown).split("for papers, unranked:")
    assert "of a plugin" in before
    assert "of a plugin" in after
    assert "of a plugin" in render_report([shown])


# ---------------------------------------------------------------- the bytes that were scored


def test_hashes_of_schema_1_files_outlive_the_upgrade():
    """Comparisons were made of these bytes, one entry's verdict on utility left out."""
    found = Comparisons.find(BOARD)
    assert found is not None
    cards = read_entries(BOARD)
    assert any(card.utility for card in cards.values())
    assert found.stale(BOARD, cards, Benchmark.load(BOARD).protocol.hash) == []
    assert entry_hashes(BOARD, cards) == found.entries
    assert "comparisons.json is of other entries" not in render_leaderboard(BOARD)


def test_a_verdict_that_is_added_leaves_every_other_byte(tmp_path):
    """Also of a file of schema 1, which stays one."""
    file = tmp_path / "card.json"
    source = BOARD / "entries" / "ldm3d-tiny.json"
    plain = scored_bytes(source)
    assert plain != source.read_bytes()
    file.write_bytes(plain)
    assert scored_bytes(file) == plain
    for sentence in ("it helped", 'a "sentence"\nwith {braces} and \\ signs'):
        add_verdict(file, make_verdict(sentence=sentence))
        assert fields_of(file)["schema_version"] == 1
        found = Scorecard.load(file)
        assert found.utility == make_verdict(sentence=sentence)
        assert scored_bytes(file) == plain
    first = hashlib.sha256(plain).hexdigest()
    assert hashlib.sha256(scored_bytes(source)).hexdigest() == first


@pytest.mark.parametrize("source", [BOARD / "entries" / "ldm3d-tiny.json", CARDS[0]], ids=str)
def test_what_readers_saw_is_added_and_leaves_every_other_byte(source, tmp_path):
    """Also of a file of schema 1, and beside a verdict on utility; twice as once."""
    file = tmp_path / "card.json"
    file.write_bytes(source.read_bytes())
    plain = scored_bytes(source)
    before = Scorecard.load(source)
    for name in ("ours", 'a "name"\n with {braces}, \\ and "software": {'):
        result = make_readers(generator=name)
        add_readers(file, result)
        assert Scorecard.load(file) == before.model_copy(update={"readers": result})
        assert scored_bytes(file) == plain
    without = file.read_bytes()
    add_readers(file, make_readers())
    add_readers(file, result)
    assert file.read_bytes() == without


def test_a_card_that_is_saved_anew_has_the_hash_of_one_without_a_result(tmp_path):
    card = Scorecard.load(CARDS[0])
    bare = card.save(tmp_path / "bare.json")
    full = card.model_copy(update={"readers": make_readers()}).save(tmp_path / "full.json")
    assert b'"readers"' in bare.read_bytes()
    assert scored_bytes(full) == scored_bytes(bare) != bare.read_bytes()


def test_a_verdict_is_added_to_a_card_of_before_there_were_any(tmp_path):
    file = tmp_path / "card.json"
    file.write_bytes(CARDS[-1].read_bytes())
    assert "utility" not in fields_of(file)
    before = Scorecard.load(file)
    add_verdict(file, make_verdict())
    assert Scorecard.load(file) == before.model_copy(update={"utility": make_verdict()})


# ---------------------------------------------------------------- other records


@pytest.mark.parametrize("file", BENCHMARKS, ids=lambda file: file.parts[-2])
def test_benchmarks_of_before_they_had_a_version_load(file, tmp_path):
    frozen = Benchmark.load(file)
    assert "schema_version" not in file.read_text(encoding="utf-8")
    again = Benchmark.load(frozen.save(tmp_path / "b"))
    assert again == frozen
    assert again.schema_version == 2
    assert again.protocol.hash == frozen.protocol.hash


def test_frozen_floors_of_schema_1_are_renamed(tmp_path):
    frozen = Benchmark.load(BENCHMARKS[0])
    floor = (
        "floors: [{metric: fid, extractor: null, n: 9, mean: 1, low: 0, high: 2, detectable: 3}]"
    )
    text = frozen.model_copy(update={"floors": ()}).save(tmp_path / "b").read_text(encoding="utf-8")
    text = text.replace("schema_version: 2\n", "").replace("floors: []", floor)
    (tmp_path / "b" / "benchmark.yaml").write_text(text, encoding="utf-8")
    assert Benchmark.load(tmp_path / "b").floors[0].minimum_detectable_effect == 3


def test_an_upgrade_changes_nothing_that_it_does_not_name():
    fields = fields_of(BOARD / "entries" / "ldm3d-tiny.json")
    upgraded = upgrade_1_to_2(copy.deepcopy(fields))
    for field in ("protocol", "real", "synth", "origin", "software", "utility", "preflight"):
        assert upgraded[field] == fields[field]
