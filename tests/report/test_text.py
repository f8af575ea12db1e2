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
    Console(file=text, width=200).print(scorecard_table(card, wide=True))
    lines = text.getvalue().splitlines()
    at = next(i for i, line in enumerate(lines) if EFFECT in line)
    head, row = lines[at : at + 2]
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
    # The scoring says warnings in full before its table.
    text = shown(card)
    assert "preflight, accepted" in text
    assert "preflight, warning" not in text
    assert "preflight, warning" in shown(card, 200, wide=True)


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
    assert "scored against the volumes of its own training" in summary(seen)[0]
    assert summary(seen)[1].startswith("The real volumes are the ones that the generator was")


def shown(card, width=100, *, wide=False):
    text = io.StringIO()
    Console(file=text, width=width).print(scorecard_table(card, wide=wide))
    return text.getvalue()


def test_the_default_table_fits_100_columns_and_keeps_numbers_whole():
    """All cells are as long as they can be, and a name is longer than the table."""
    card = Scorecard.load(CARD)
    floor = FloorRecord(
        n=35, mean=-0.000123, low=-0.00123, high=-0.000123, synth_mean=-0.000123,
        synth_low=-0.00123, synth_high=0.00123,
    )  # fmt: skip
    blurred = EquivalentRecord(
        corruption="blur", sentence="", text="3.8 mm (FWHM) [3.8, > 8]", relation="at", dose=3.8,
        low=3.8, high=None, unit="mm (FWHM)",
    )  # fmt: skip
    long = value().model_copy(
        update={"floor": floor, "saturated": True, "label": "a long name " * 9,
                "equivalents": (blurred,), "p": 0.0001}
    )  # fmt: skip
    text = shown(card.model_copy(update={"values": (long,), "name": "x" * 120}))
    assert all(len(line) <= 100 for line in text.splitlines())
    for whole in ("-0.000123 ‡ (-0.00123, 0.00123)", "-0.00123 to -0.000123", "3.8 [3.8, > 8]"):
        assert whole in text
    assert "like real," in text
    narrow = shown(card.model_copy(update={"values": (long,)}), 60)
    assert "like real" in narrow
    assert all(len(line) <= 60 for line in narrow.splitlines())


def test_every_mark_of_the_table_has_its_line_below():
    card = Scorecard.load(CARD)
    floor = FloorRecord(n=9, mean=1, low=0, high=2, synth_mean=1, synth_low=0.5, synth_high=1.5)
    marked = value().model_copy(update={"floor": floor, "saturated": True, "p": 0.01})
    interval = marked.interval.model_copy(update={"conditional_on_n": True})
    marked = marked.model_copy(update={"interval": interval})
    text = shown(card.model_copy(update={"values": (marked,)}), 200, wide=True)
    table, below = text.split("copies (")[0], text[text.index("copies (") :]
    for mark, line in (
        ("‡", "‡ the kernel"),
        ("†", "† sampling"),
        ("(0.5", "(..): central 95%"),
        ("p = 0.010", "p: a permutation test"),
        ("like real", "like real: "),
    ):
        assert mark in table
        assert line in below
    plain = value().model_copy(update={"target": "zero", "interval": None})
    without = shown(card.model_copy(update={"values": (plain,)}))
    assert not any(mark in without for mark in ("‡", "†", "(..)", "permutation test"))


def test_a_part_is_in_the_default_table_where_it_is_worse_than_real():
    """The direction of a part of a two-sided metric means nothing: it is shown with --wide."""
    card = Scorecard.load(CARD)
    floor = FloorRecord(n=9, mean=1, low=0, high=2, synth_mean=3)
    like = floor.model_copy(update={"synth_mean": 1})
    rows = tuple(
        value(f"m.{part}").model_copy(update={"floor": f, "direction": d, "label": part})
        for part, f, d in (
            ("far", floor, "lower"),
            ("near", like, "lower"),
            ("both", floor, "zero"),
        )
    )
    card = card.model_copy(update={"values": (value("m"), *rows)})
    assert [part for part in ("far", "near", "both") if f"  {part} " in shown(card)] == ["far"]
    assert [part for part in ("far", "near", "both")
            if f"  {part} " in shown(card, 200, wide=True)] == ["far", "near", "both"]  # fmt: skip


def test_rows_of_several_n_name_theirs():
    floor = FloorRecord(n=9, mean=1, low=0, high=2, synth_mean=1)
    values = tuple(
        value(name).model_copy(update={"floor": floor.model_copy(update={"n": n})})
        for name, n in (("a", 9), ("b", 7))
    )
    card = Scorecard.load(CARD).model_copy(update={"values": (*values, value("c"))})
    text = shown(card)
    assert "value (n=" not in text
    assert "A (n=9)" in text
    assert "B (n=7)" in text
    assert f"C ({card.real.n} real, {card.synth.n} synth)" in text
