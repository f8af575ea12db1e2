"""Condition adherence of a scoring: what is asked, what is measured, and what is recorded."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, cast
from xml.etree import ElementTree

import numpy as np
import pytest

from synthbench.cli.app import main
from synthbench.errors import UsageError
from synthbench.leaderboard.page import render_details
from synthbench.records.conditional import AdherenceRecord
from synthbench.records.scorecard import Scorecard
from synthbench.report.adherence import (
    adherence_sentences,
    condition_lines,
    leakage_lines,
    requested_measured,
)
from synthbench.report.html import render_report
from synthbench.scoring import requested
from synthbench.scoring.adherence import assess
from synthbench.scoring.condition_measures import Given, Measures, Reading
from synthbench.scoring.requested import Requested, requested_of
from synthbench.scoring.statistics import Sample
from tests.boards import features, make_board, make_card, make_materials, make_protocol
from tests.named_cohorts import named_cohort

pytestmark = pytest.mark.slow

N, M = 60, 50
PROTOCOL = make_protocol(features(0), resamples=200)


def people(n: int, seed: int) -> dict[str, list[Any]]:
    """Age and sex, independent, and a ventricle that grows with age."""
    rng = np.random.default_rng(seed)
    age = rng.uniform(20, 80, n)
    return {
        "age": age.tolist(),
        "sex": np.where(np.arange(n) % 2 == 0, "F", "M").tolist(),
        "ventricle_volume": (10000 + 200 * age + 3000 * rng.normal(size=n)).tolist(),
    }


@dataclass
class Measured(Measures):
    """Measures that are the truth with a little noise; regions likewise."""

    values: dict[str, tuple[Given, Given]] = field(default_factory=dict)

    def read(self, name, requested, truth, levels):
        synth, real = (np.random.default_rng(7).normal(size=len(v)) for v in self.values[name])
        of_synth, of_real = self.values[name]
        if not levels:
            scale = float(np.std(np.array(of_synth, float))) / 5
            return Reading("truth with noise", np.array(of_synth) + scale * synth,
                           np.array(of_real) + scale * real)  # fmt: skip
        scores = [np.array([float(v == levels[-1]) for v in side]) for side in self.values[name]]
        return Reading(
            "truth with noise", scores[0] + 0.2 * synth, scores[1] + 0.2 * real,
            tuple(levels[int(s > 0.5)] for s in scores[0] + 0.2 * synth),
            tuple(levels[int(s > 0.5)] for s in scores[1] + 0.2 * real),
        )  # fmt: skip

    def regions(self, without=()):
        synth, real = self.values["ventricle_volume"]
        return {"ventricle_volume": (np.array(synth) / 1000, np.array(real) / 1000, "mL"),
                "other": (-np.array(synth), -np.array(real), "")}  # fmt: skip


def measured(
    requested: dict[str, list[Any]], real: dict[str, list[Any]], came_out=None
) -> Measured:
    """Measures of a synthetic set in which `came_out` (what was asked) is what is to be seen."""
    out = came_out or requested
    cohorts = {
        "real": named_cohort([f"r{i}.nii" for i in range(N)], real),
        "synth": named_cohort([f"s{i}.nii" for i in range(M)]),
    }
    samples = {
        role: Sample(role, cast(Any, None), np.arange(len(cohort)))
        for role, cohort in cohorts.items()
    }
    return Measured(samples, cohorts, values={n: (out[n], real[n]) for n in out})


def found(requested: dict[str, list[Any]], came_out=None, extrapolated=None) -> Any:
    given = Requested("sidecars", requested, extrapolated)
    return assess(given, measured(requested, people(N, 1), came_out), PROTOCOL)


def statistic(record: AdherenceRecord, condition: str, key: str) -> Any:
    one = next(c for c in record.conditions if c.name == condition)
    return next(s for s in one.statistics if s.key == key)


def test_a_generator_that_obeys_is_at_its_ceiling():
    """Measured with a fifth of the spread as noise: r = 1 / sqrt(1 + 0.04) = 0.98 on both sides."""
    record, replicated = found(people(M, 2))
    for condition in ("age", "ventricle_volume"):
        correlation = statistic(record, condition, "correlation")
        assert correlation.synth.value == pytest.approx(0.98, abs=0.02)
        assert correlation.real.value == pytest.approx(0.98, abs=0.02)
        assert correlation.difference.low < 0 < correlation.difference.high
    assert statistic(record, "sex", "auc").synth.value > 0.95
    assert not any(line.shown for line in leakage_lines(record))
    assert len(record.leakage) == 6
    assert replicated is not None
    words = {(e.effect, e.region): e.word for e in replicated.effects}
    assert words["age slope", "ventricle_volume"] == "replicated"
    assert words["correlation", "ventricle_volume, other"] == "cannot tell"  # r = -1 on both sides
    assert {e.effect for e in replicated.effects} == {"age slope", "sex difference", "correlation"}
    assert {e.region for e in replicated.effects if not e.requested} == {"other"}


def test_a_generator_that_does_not_listen_is_told():
    record, replicated = found(people(M, 2), came_out=people(M, 3))
    correlation = statistic(record, "age", "correlation")
    assert correlation.synth.low < 0 < correlation.synth.high
    assert correlation.difference.high < -0.5
    words = {(line.title.split()[0], line.part): line.word for line in condition_lines(record)}
    assert words["age", "correlation"] == "worse"
    assert replicated is not None
    slope = next(e for e in replicated.effects if e.region == "ventricle_volume")
    assert slope.word in ("weaker", "cannot tell")


def test_the_picture_has_a_panel_each_number_of_each_entry_and_sex_is_none():
    """One that obeys crosses most of the frame (156 pixels), one that does not less than half."""
    obeys, _ = found(people(M, 2))
    deaf, _ = found(people(M, 2), came_out=people(M, 3))
    drawn = ElementTree.fromstring(requested_measured({"1. obeys": obeys, "2. <deaf>": deaf}))
    name = "{http://www.w3.org/2000/svg}"
    assert [t.text for t in drawn.iter(f"{name}text") if t.get("class") == "title"] == [
        "1. obeys", "2. <deaf>",
    ]  # fmt: skip
    assert len(list(drawn.iter(f"{name}g"))) == 4
    synth = [
        [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
        for line in drawn.iter(f"{name}polyline")
        if "synth" in line.attrib["class"]
    ]
    rises = [line[0][1] - line[-1][1] for line in synth]  # y grows downwards
    assert min(rises[:2]) > 78 > max(map(abs, rises[2:]))
    assert requested_measured({}) == ""


def test_a_difference_that_is_not_seen_is_not_called_likeness():
    record, _ = found(people(M, 2))
    lines = {(line.title, line.part): line.word for line in condition_lines(record)}
    for condition in record.conditions:
        for one in condition.statistics:
            if one.difference is not None and one.difference.low is not None:
                word = next(
                    w for (title, part), w in lines.items()
                    if title.startswith(condition.name) and part == one.label
                )  # fmt: skip
                hidden = one.difference.low < 0 < one.difference.high
                assert (word == "none shown") == hidden
    assert "none shown" in lines.values()


def test_leakage_is_found_and_measured():
    """Asking for age adds 0.5 SD of ventricle volume an SD of age, by construction."""
    real = people(N, 1)
    requested = people(M, 2)
    spread = {name: np.std(real[name], ddof=1) for name in ("age", "ventricle_volume")}
    years = (np.array(requested["age"]) - 50) / spread["age"]
    volumes = np.array(requested["ventricle_volume"]) + 0.5 * years * spread["ventricle_volume"]
    out = {**requested, "ventricle_volume": volumes.tolist()}
    record, _ = found(requested, came_out=out)
    pair = ("age", "ventricle_volume")
    leak = next(x for x in record.leakage if (x.requested, x.measured) == pair)
    assert leak.effect.difference is not None
    assert leak.effect.difference.value == pytest.approx(0.5, abs=0.15)
    given = {line.title for line in leakage_lines(record) if line.shown}
    assert given == {"age → ventricle_volume"}


def test_extrapolated_volumes_stand_apart():
    """Ten volumes are told to be beyond the range; they follow nothing, the others all."""
    requested = people(M, 2)
    out = {name: list(column) for name, column in requested.items()}
    out["age"][:10] = [50.0] * 10
    beyond = tuple(frozenset({"age"} if i < 10 else ()) for i in range(M))
    record, _ = found(requested, came_out=out, extrapolated=beyond)
    age = next(c for c in record.conditions if c.name == "age")
    assert (age.n, age.n_extrapolated) == (M - 10, 10)
    assert statistic(record, "age", "correlation").synth.value > 0.95
    apart = next(s for s in age.extrapolated if s.key == "correlation")
    assert apart.synth is not None
    assert apart.synth.value < 0.8
    assert "training range" in record.range


def test_the_training_cohort_tells_the_range():
    requested = people(M, 2)
    train = named_cohort([f"t{i}.nii" for i in range(3)], {"age": [30.0, 40.0, 70.0]})
    given = Requested("wanted.csv", requested)
    record, _ = assess(given, measured(requested, people(N, 1)), PROTOCOL, train)
    outside = sum(not 30 <= age <= 70 for age in requested["age"])
    assert next(c for c in record.conditions if c.name == "age").n_extrapolated == outside
    assert record.range == "beyond the range of the training cohort"


def test_a_group_that_is_served_worse_is_named():
    """Women's ages come out ten years too old."""
    requested = people(M, 2)
    out = {**requested, "age": [a + 10 * (s == "F") for a, s in
                            zip(requested["age"], requested["sex"], strict=True)]}  # fmt: skip
    record, _ = found(requested, came_out=out)
    bias = next(s for p in record.parity if (p.condition, p.covariate) == ("age", "sex")
                for s in p.statistics if s.key == "bias")  # fmt: skip
    assert bias.synth is not None
    assert bias.synth.value == pytest.approx(-10, abs=2)


def test_real_volumes_without_covariates_leave_no_ceiling():
    requested = people(M, 2)
    held = measured(requested, people(N, 1))
    held.cohorts = {**held.cohorts, "real": named_cohort([f"r{i}.nii" for i in range(N)])}
    record, replicated = assess(Requested("sidecars", requested), held, PROTOCOL)
    assert statistic(record, "age", "correlation").real is None
    assert record.conditions[0].n_real is None
    assert replicated is not None
    assert {e.effect for e in replicated.effects} == {"correlation"}


def test_a_card_holds_no_value_of_a_subject():
    """No age, name or measure of any one volume is in the record."""
    requested = people(M, 2)
    record, replicated = found(requested)
    assert replicated is not None
    text = record.model_dump_json() + replicated.model_dump_json()
    for name in ("r0.nii", "s0.nii", *(str(age) for age in people(N, 1)["age"])):
        assert name not in text
    assert all(point.n >= 5 for c in record.conditions for point in (*c.curve, *c.real_curve))


# ---------------------------------------------------------------- what was asked


def test_a_table_comes_before_sidecars(tmp_path):
    synth = named_cohort(["a.nii", "b.nii"])
    sidecars = [{"conditions": {"age": 30, "sex": "F"}, "extrapolated": ["age"]},
                {"conditions": {"age": None, "sex": "M"}, "extrapolated": []}]  # fmt: skip
    given = requested_of(synth, sidecars)
    assert given is not None
    assert given.columns == {"age": [30.0, None], "sex": ["F", "M"]}
    assert given.extrapolated == (frozenset({"age"}), frozenset())
    file = tmp_path / "wanted.tsv"
    file.write_text(
        "file\tseed\tage\textrapolated\nb.nii\t1\t70\tage\na.nii\t0\t60\t\n", encoding="utf-8"
    )
    given = requested_of(synth, sidecars, file)
    assert given is not None
    assert given.columns == {"age": [60.0, 70.0]}
    assert given.extrapolated == (frozenset(), frozenset({"age"}))


def test_a_table_beside_the_volumes_is_found(tmp_path):
    synth = named_cohort(["a.nii", "b.nii"], folder=tmp_path)
    assert requested_of(synth, []) is None
    (tmp_path / requested.TABLE).write_text("file\tage\na.nii\t60\nb.nii\t70\n", encoding="utf-8")
    given = requested_of(synth, [])
    assert given is not None
    assert given.columns == {"age": [60.0, 70.0]}
    assert given.extrapolated is None


def test_conditions_of_some_volumes_only_are_refused():
    with pytest.raises(UsageError, match="1 of 2 sidecars"):
        requested_of(named_cohort(["a.nii", "b.nii"]), [{"conditions": {"age": 1.0}}, {}])


def test_a_table_of_other_volumes_is_refused(tmp_path):
    file = tmp_path / "wanted.csv"
    file.write_text("file,age\nx,1\n", encoding="utf-8")
    with pytest.raises(UsageError, match="names none of the synthetic volumes"):
        requested_of(named_cohort(["a.nii"]), [], file)


# ---------------------------------------------------------------- scorecards, pages, the verb


@pytest.fixture
def card() -> Scorecard:
    record, replicated = found(people(M, 2))
    kept = make_materials(PROTOCOL, features(0), features(1), "1" * 64)
    plain = make_card("ldm", kept)
    return plain.model_copy(update={"adherence": record, "replication": replicated})


def test_the_sections_survive_a_file_and_leave_the_hash(card, tmp_path):
    card.save(tmp_path / "card.json")
    assert Scorecard.load(tmp_path / "card.json") == card
    assert card.protocol_hash == PROTOCOL.hash


def test_sentences_and_the_report_tell_of_them(card):
    sentences = " ".join(adherence_sentences(card))
    assert "Requested against measured age: correlation 0.98" in sentences
    assert "No leakage is shown" in sentences
    assert "findings on the real volumes" in sentences
    page = render_report([card])
    assert "Conditions: requested against measured" in page
    assert "age slope: ventricle_volume" in page
    assert "Pinaya" in page
    leaks = len(card.adherence.leakage)
    title = "Leakage: requested → measured, all other requests equal"
    assert f"{title} (none of {leaks} beyond chance, over all of them together)" in page


def test_a_leaderboard_has_a_table_of_conditional_entries_alone(card, tmp_path):
    folder, _ = make_board(tmp_path / "board", {"plain": 0.0, "ldm": 0.2})
    assert "Condition adherence" not in render_details(folder)
    file = folder / "entries" / "ldm.json"
    held = Scorecard.load(file)
    sections = {"adherence": card.adherence, "replication": card.replication}
    held.model_copy(update=sections).save(file)
    page = render_details(folder)
    assert "## Condition adherence" in page
    assert "| entry | age | sex | ventricle\\_volume | leaks | effects replicated |" in page or (
        "| entry | age | sex | ventricle_volume | leaks | effects replicated |" in page
    )


def test_score_takes_conditions_and_measures_of_other_programs(make_cohort, tmp_path, capsys):
    """Spheres, with tables that say what they are: measured = asked, so r = 1 and no error."""
    real, synth = make_cohort("real", n=30, seed=1, subject="r"), make_cohort("synth", n=24, seed=2)
    rng = np.random.default_rng(0)
    ages, true = rng.uniform(20, 80, 24), rng.uniform(20, 80, 30)
    participants = [f"sub-r{i:03d}\t{age:.1f}" for i, age in enumerate(true)]
    (real / "participants.tsv").write_text(
        "\n".join(["participant_id\tage", *participants]) + "\n", encoding="utf-8"
    )
    wanted, tables = tmp_path / "wanted.csv", [tmp_path / "of_synth.csv", tmp_path / "of_real.csv"]
    wanted.write_text(
        "".join(["file,age\n", *(f"sub-{i:03d},{a}\n" for i, a in enumerate(ages))]),
        encoding="utf-8",
    )
    tables[0].write_text("".join(["subject,age,pallidum\n", *(
        f"sub-{i:03d},{a},{a / 10 + rng.normal()}\n" for i, a in enumerate(ages))]),
        encoding="utf-8")  # fmt: skip
    tables[1].write_text("".join(["subject,age,pallidum\n", *(
        f"sub-r{i:03d},{a + rng.normal()},{a / 10 + rng.normal()}\n"
        for i, a in enumerate(true))]), encoding="utf-8")  # fmt: skip
    out = tmp_path / "card.json"
    arguments = ["score", "--real", str(real), "--synth", str(synth), "--metric", "mmd_linear",
                 "--extractor", "voxels", "--conditions", str(wanted), "--resamples",
                 "100", "--no-cache", "--out", str(out), "--accept", "background"]  # fmt: skip
    for table in tables:
        arguments += ["--measures", str(table)]
    assert run(arguments) == 0
    shown = capsys.readouterr().out
    assert "requested against measured" in shown
    assert "age slope:" in shown
    assert "pallidum" in shown
    card = Scorecard.load(out)
    assert card.adherence is not None
    assert card.adherence.source == "wanted.csv"
    assert statistic(card.adherence, "age", "correlation").synth.value == pytest.approx(1)
    assert statistic(card.adherence, "age", "mae").synth is None or (
        statistic(card.adherence, "age", "mae").synth.value == 0
    )
    assert json.loads(out.read_text(encoding="utf-8"))["protocol_hash"] == card.protocol.hash


def test_measures_without_conditions_are_refused(make_cohort, tmp_path, capsys):
    real, synth = make_cohort("real", n=6, seed=1, subject="r"), make_cohort("synth", n=6, seed=2)
    table = tmp_path / "measures.csv"
    table.write_text("file,age\nsub-000,1\n", encoding="utf-8")
    assert run(["score", "--real", str(real), "--synth", str(synth), "--measures", str(table),
                "--metric", "mmd_linear", "--no-cache"]) == 2  # fmt: skip
    error = capsys.readouterr().err
    assert "name them with --conditions FILE, or compare the measures with --metric morph" in error


def run(arguments: list[str]) -> int:
    """Run the command line in this process; return its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["synthbench", *arguments])
        try:
            main()
        except SystemExit as done:
            return int(done.code or 0)
    return 0
