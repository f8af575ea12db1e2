"""What a scorecard's table says, and what it leaves out."""

from pathlib import Path

from synthbench.scorecard import (
    EquivalentRecord,
    IntervalRecord,
    PreflightRecord,
    Scorecard,
    Value,
)
from synthbench.table import equivalent_lines, interval_words, preflight_lines

CARD = next((Path(__file__).parent / "data" / "ixi-hh-4mm").rglob("entries/*.json"))


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


def test_findings_of_preflight_stand_beside_what_is_asked_for():
    found = (
        PreflightRecord(rule="few", severity="warning", role="real", volumes=0, accepted=False),
        PreflightRecord(rule="flip", severity="error", role="synth", volumes=2, accepted=True),
    )
    card = Scorecard.load(CARD).model_copy(update={"preflight": found})
    accepted, warned = preflight_lines(card)
    assert accepted.startswith("preflight, accepted: synth, 2 volumes: flip (asked: no volume fits")
    assert warned.startswith("preflight, warning: real: few (asked: at least 4 subjects")


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
