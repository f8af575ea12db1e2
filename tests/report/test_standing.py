"""The number that decides, its verdict, and the sentence that a person repeats."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthbench.records.scorecard import Scorecard
from synthbench.records.values import EquivalentRecord, FloorRecord, IntervalRecord, Missing, Value
from synthbench.report.opening import blur_cell, opening
from synthbench.report.standing import SIGNS, families, families_words, headline, verdict

CARD = next((Path(__file__).parents[1] / "data" / "ixi-hh-4mm").rglob("entries/*.json"))
INTERVAL = IntervalRecord(low=4.0, high=6.0, level=0.95, method="jackknife", label="")


def row(direction="lower", at_n=1.1, metric="m", floor=None, **rest):
    floor = FloorRecord(n=9, mean=1.0, low=0.9, high=1.2, synth_mean=at_n, **(floor or {}))
    return Value(
        metric=metric, label=metric.upper(), direction=direction, value=5.0, interval=INTERVAL,
        floor=floor, **rest,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("direction", "at_n", "rest", "standing", "words"),
    [
        ("lower", 1.1, {}, "within", "like real"),
        ("lower", 1.1, {"p": 0.0001}, "within", "like real, but p <0.001"),
        ("lower", 1.1, {"p": 0.051}, "within", "like real"),
        ("lower", 1.3, {}, "worse", "too far"),
        ("lower", 0.8, {}, "other side", "too near: copies?"),
        (
            "lower",
            0.8,
            {"floor": {"synth_low": 0.6, "synth_high": 1.1}},
            "other side",
            "too near: copies?",
        ),
        (
            "lower",
            0.8,
            {"floor": {"synth_low": -9.0, "synth_high": 7.0}},
            "no floor",
            "cannot be told: spread beyond real",
        ),
        ("lower", 1.3, {"role": "descriptive"}, "worse", "above real"),
        ("lower", 0.8, {"role": "descriptive"}, "other side", "below real"),
        ("higher", 1.3, {}, "other side", "above real"),
        ("higher", 0.8, {}, "worse", "below real"),
        ("zero", 1.3, {}, "worse", "above real"),
        ("zero", 0.8, {}, "worse", "below real"),
        ("zero", 1.3, {"of_variety": True}, "worse", "too alike"),
        ("zero", 0.8, {"of_variety": True}, "worse", "too varied"),
    ],
)
def test_a_value_stands_against_its_floor_at_the_floors_n(direction, at_n, rest, standing, words):
    """The floor runs from 0.9 to 1.2; the value at the full n, 5, is not what is compared."""
    value = row(direction, at_n, **rest)
    found = verdict(value)
    assert (found.standing, found.words) == (standing, words)
    shown = headline(value)
    assert shown is not None
    assert (0.9 <= shown.value <= 1.2) is (standing == "within")


def test_a_floor_of_no_width_is_reached_by_some_of_the_draws():
    """Precision is 1 for all halves of 12 real volumes: a mean of 0.99 is no difference."""
    floor = {"mean": 1.0, "low": 1.0, "high": 1.0}
    value = row("higher", 0.99, target="floor", floor={"synth_low": 0.8, "synth_high": 1.0})
    assert value.floor is not None
    value = value.model_copy(update={"floor": value.floor.model_copy(update=floor)})
    assert verdict(value).words == "like real"
    assert value.floor is not None
    far = value.floor.model_copy(update={"synth_high": 0.95})
    assert verdict(value.model_copy(update={"floor": far})).words == "below real"


def test_without_a_floor_or_a_value_it_says_so():
    assert verdict(Value(metric="m", label="M", direction="zero", value=1.0)).standing == "no floor"
    why = Missing(reason="weights", text="fetch it")
    lacking = Value(metric="m", label="M", direction="zero", missing=why)
    assert verdict(lacking).words == "fetch it"
    assert headline(lacking) is None


def test_every_standing_has_a_sign_of_its_own():
    """Readers without colour tell them apart."""
    assert len(set(SIGNS.values())) == len(SIGNS)


@pytest.mark.parametrize(
    ("rest", "text"),
    [
        ({"target": "zero"}, "1.1 [4, 6]"),
        ({"target": "floor"}, "1.1"),
        ({"target": "floor", "floor": {"synth_low": 1.0, "synth_high": 1.25}}, "1.1 (1, 1.25)"),
        ({"target": "zero", "saturated": True}, "1.1 ‡ [4, 6]"),
    ],
    ids=["of any n", "old card", "depends on n", "saturated"],
)
def test_an_interval_stands_only_beside_the_number_that_it_covers(rest, text):
    """An interval for all volumes covers no number at another n, where the metric depends on it."""
    found = headline(row(**rest))
    assert found is not None
    assert (found.text, found.n) == (text, 9)


def test_a_number_without_a_floor_is_of_all_volumes():
    found = headline(row().model_copy(update={"floor": None}))
    assert found is not None
    assert (found.text, found.n) == ("5 [4, 6]", None)


FAR, NEAR, LIKE = {"at_n": 2.0}, {"at_n": 0.5}, {"at_n": 1.0}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([("fid", LIKE), ("kid", LIKE)],
         "as near to real as real is to itself in all 2 families of metrics"),
        ([("fid", FAR), ("kid", FAR)],
         "further from real than real from itself in all 2 families of metrics"),
        ([("kid", FAR), ("mmd2", LIKE), ("fid", LIKE), ("m", LIKE)],
         "further from real than real from itself in 1 of 3 families of metrics (kernel "
         "distances)"),
        ([("kid", FAR), ("fid", FAR), ("m", LIKE)],
         "further from real than real from itself in 2 of 3 families of metrics (all but M)"),
        ([("kid", FAR), ("fid", NEAR), ("m", LIKE)],
         "further from real than real from itself in 1 of 3 families of metrics (kernel "
         "distances) and nearer to real than real to itself in 1 of 3 families (FID): look for "
         "copies"),
        ([("kid", FAR)], "further from real than real from itself by the one family of metrics "
         "that was scored (kernel distances)"),
    ],
    ids=["like real", "all", "one", "all but one", "copies", "one family"],
)  # fmt: skip
def test_families_are_counted_and_named(rows, words):
    card = Scorecard.load(CARD)
    values = tuple(row(metric=metric, **rest) for metric, rest in rows)
    assert families_words(card.model_copy(update={"values": values})) == words


def test_a_family_stands_as_the_worst_of_its_rows_and_without_a_floor_is_not_counted():
    lacking = row(metric="intensity").model_copy(update={"floor": None})
    found = families([row(metric="kid"), row(metric="mmd2", **FAR), lacking])
    assert found == {"kernel distances": "worse"}


def blur(relation="at", low=3.25, high=4.0, text="3.8 mm (FWHM) [3.2, 4]"):
    return (
        EquivalentRecord(
            corruption="blur", sentence="", text=text, relation=relation, dose=3.75, low=low,
            high=high, unit="mm (FWHM)",
        ),
    )  # fmt: skip


def test_blur_is_read_back_in_mm():
    assert blur_cell(row(equivalents=blur())) == "3.8 [3.2, 4]"
    assert blur_cell(row(equivalents=blur("within the floor", high=5.75))) == "< 5.8"
    assert blur_cell(row(equivalents=blur("within the floor", high=None))) == "none seen"
    assert blur_cell(row()) == ""


def test_the_opening_names_distance_blur_and_copies():
    card = Scorecard.load(CARD)
    values = (row(metric="fid", equivalents=blur("beyond"), **FAR), row(metric="m", **LIKE))
    shown = card.model_copy(update={"values": values, "memorization": (), "local_copying": None})
    assert opening(shown) == (
        "Further from real than real from itself in 1 of 2 families of metrics (FID); only "
        "large differences show at 9 volumes per side; as real brains blurred by more than 3.8 mm "
        "(FID); copying was not tested."
    )


def test_the_opening_says_which_families_have_no_value():
    """What is left may look well: without weights nothing is known of distances of features."""
    card = Scorecard.load(CARD)
    gone = Missing(reason="weights", text="fetch them")
    lost = [
        row(metric=name, **LIKE).model_copy(update={"value": None, "floor": None, "missing": gone})
        for name in ("kid", "mmd2", "coverage")
    ]
    found = row(metric="precision", **LIKE)
    shown = {"memorization": (), "local_copying": None}
    lacking = card.model_copy(update={**shown, "values": (row(metric="m", **LIKE), *lost)})
    assert "; not known: kernel distances, nearest neighbours; " in opening(lacking)
    # One metric of a family is enough to know something of it.
    known = card.model_copy(update={**shown, "values": (found, lost[2])})
    assert "not known" not in opening(known)
