"""What a scorecard's table says, and what it leaves out."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from synthbench.records.scorecard import PreflightRecord, Scorecard
from synthbench.records.values import EquivalentRecord, FloorRecord, IntervalRecord, Value
from synthbench.report.text import (
    EFFECT,
    equivalent_lines,
    interval_words,
    preflight_lines,
    scorecard_table,
)
from synthbench.report.verdicts import summary

CARD = next((Path(__file__).parents[1] / "data" / "ixi-hh-4mm").rglob("entries/*.json"))


def equivalent(corruption, words, relation="at"):
    return EquivalentRecord(
        corruption=corruption, sentence=words, text="", relation=relation, dose=1, low=None,
        high=None, unit="mm",
    )  # fmt: skip


def value(metric="fid", low=0.0, high=1.0, equivalents=()):
    interval = IntervalRecord(low=low, high=high, level=0.95, method="jackknife", label="")
    return Value(
        metric=metric, label=metric.upper(), direction="lower", value=0.5, interval=interval,
        equivalents=tuple(equivalents),
    )  # fmt: skip


def test_an_interval_of_no_width_is_not_printed():
    assert interval_words(value()) == "[0, 1]"
    assert interval_words(value(low=0.0, high=0.0)) == "-"


def test_an_interval_that_is_conditional_on_n_is_marked_whatever_its_label_says():
    row = value()
    assert row.interval is not None
    marked = row.interval.model_copy(update={"conditional_on_n": True, "label": ""})
    assert interval_words(row.model_copy(update={"interval": marked})) == "[0, 1] †"
    prose = row.interval.model_copy(update={"label": "excludes bias"})
    assert interval_words(row.model_copy(update={"interval": prose})) == "[0, 1]"


def test_the_minimum_detectable_effect_has_its_column_and_its_line():
    floor = FloorRecord(n=9, mean=1, low=0, high=2, synth_mean=1, minimum_detectable_effect=0.25)
    rows = (value().model_copy(update={"floor": floor}),)
    text = io.StringIO()
    card = Scorecard.load(CARD).model_copy(update={"values": rows})
    Console(file=text, width=200).print(scorecard_table(card))
    head, row = text.getvalue().splitlines()[1:3]
    assert EFFECT == "min. detectable effect"
    assert head.index(EFFECT) + len(EFFECT) == row.index("+0.25") + len("+0.25")
    assert "min. detectable effect: the smallest excess over the floor" in text.getvalue()


def test_findings_of_preflight_stand_beside_what_is_asked_for():
    found = (
        PreflightRecord(rule="few", severity="warning", role="real", volumes=0, accepted=False),
        PreflightRecord(rule="flip", severity="error", role="synth", volumes=2, accepted=True),
    )
    card = Scorecard.load(CARD).model_copy(update={"preflight": found})
    accepted, warned = preflight_lines(card)
    assert accepted.startswith(
        "preflight, accepted: synth, 2 volumes: flip (checks: no volume fits"
    )
    assert warned.startswith("preflight, warning: real: few (checks: at least 4 subjects")


def test_a_value_is_read_back_in_noise_and_misregistration():
    found = [
        equivalent("blur", "blurred by 2 mm"),
        equivalent("noise", "with noise of 4%"),
        equivalent("shift", "shifted by more than 8 mm", "beyond"),
        equivalent("warp", "warped by 1 mm"),
    ]
    assert equivalent_lines([value(equivalents=found), value("fid.part", equivalents=found)]) == [
        "FID: as far from real as real volumes with noise of 4%, or shifted by more than 8 mm"
    ]


def test_nothing_is_read_back_from_within_the_floor():
    near = [equivalent("noise", "with less than 2%", "within the floor"), equivalent("flip", "x")]
    assert equivalent_lines([value(equivalents=near), value()]) == []


def test_scoring_against_the_training_cohort_is_said_in_table_and_report():
    card = Scorecard.load(CARD)
    assert not card.scored_on_training
    assert not any("was trained on" in line for line in summary(card))
    origin = card.origin.model_copy(update={"training_cohort": card.real.fingerprint})
    seen = card.model_copy(update={"origin": origin})
    text = io.StringIO()
    Console(file=text, width=500).print(scorecard_table(seen))
    assert "the real volumes are the ones that the generator was trained on" in text.getvalue()
    assert summary(seen)[0].startswith("The real volumes are the ones that the generator was")
