"""The six tiles: each has its number, its floor and its answer in plain words."""

from __future__ import annotations

import pytest

from synthbench.records.memorization import CopiesTest, MemorizationRecord
from synthbench.records.values import EquivalentRecord, FloorRecord, Missing, Value
from synthbench.report.tiles import tiles
from tests.boards import features, make_card, make_materials, make_protocol


@pytest.fixture(scope="module")
def card():
    real = features(0)
    return make_card("ours", make_materials(make_protocol(real), real, features(1), "f" * 64))


def row(metric, value, *, low=-0.1, high=0.1, **more):
    floor = None
    if value is not None:
        floor = FloorRecord(n=20, mean=0.01, low=low, high=high, synth_mean=value)
    fields = {"label": metric, "direction": "lower", "target": "zero", "floor": floor, **more}
    return Value(metric=metric, value=value, **fields)


def tile(card, title, *rows, **more):
    found = tiles(card.model_copy(update={"values": rows, **more}))
    return next(tile for tile in found if tile.title == title)


def test_there_are_six_in_one_order(card):
    assert [tile.title for tile in tiles(card)] == [
        "Distance to real", "Sharpness", "Variety", "Neighbours", "Copies", "Failures and cautions",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "p", "standing", "words"),
    [
        (0.05, None, "within", "as near to real as real is to itself"),
        (0.05, 0.01, "within", "at this n, but a test of all volumes finds a difference (p = 0.01"),
        (0.5, None, "worse", "further from real than real from itself"),
        (-0.5, None, "other side", "look for copies"),
    ],
)
def test_a_number_stands_beside_its_floor_and_its_answer(card, value, p, standing, words):
    found = tile(card, "Distance to real", row("fid", 9.0), row("mmd2", value, p=p))
    assert (found.metric, found.verdict.standing) == ("mmd2", standing)
    assert found.number.startswith(f"{value:g}")
    assert found.floor == "real against real: 0.01 (-0.1 to 0.1)"
    assert words in found.verdict.words


def test_metrics_on_request_answer_where_the_default_ones_were_not_scored(card):
    gap = row("rke", 9.0, direction="zero", of_variety=True)
    assert "less varied" in tile(card, "Variety", gap).verdict.words
    coverage = row("clipped_coverage", 0.2, low=0.8, high=1.0, direction="higher")
    found = tile(card, "Neighbours", coverage)
    assert (found.metric, found.verdict.standing) == ("clipped_coverage", "worse")


def test_the_blur_is_named_where_it_was_read_back(card):
    blur = EquivalentRecord(
        corruption="blur", sentence="", text="3.8 mm", relation="at", dose=3.8, low=3.0, high=4.0,
        unit="mm",
    )  # fmt: skip
    found = tile(card, "Sharpness", row("spectrum", 5.0, equivalents=(blur,)))
    assert found.verdict.words.endswith(": as real brains blurred by 3.8 mm")
    without = tile(card, "Sharpness", row("spectrum", 5.0))
    assert "score with --sensitivity" in without.floor


@pytest.mark.parametrize(("value", "word"), [(0.5, "less varied"), (-0.5, "more varied")])
def test_variety_says_in_which_direction(card, value, word):
    found = tile(card, "Variety", row("ms_ssim", value, of_variety=True, direction="zero"))
    assert word in found.verdict.words


@pytest.mark.parametrize(
    ("metric", "words"),
    [("coverage", "no synthetic volume near"), ("density", "where no real ones are")],
)
def test_neighbours_say_which_set_has_none(card, metric, words):
    found = tile(card, "Neighbours", row(metric, 0.2, low=0.8, high=1.0, direction="higher"))
    assert words in found.verdict.words


def test_what_is_not_known_says_why_and_how_to_get_it(card):
    missing = row("spectrum", None, missing=Missing(reason="images", text="too small"))
    assert "too small" in tile(card, "Sharpness", missing).verdict.words
    assert "--metric coverage" in tile(card, "Neighbours").verdict.words
    assert (
        "no floor to compare"
        in tile(card, "Variety", row("ms_ssim", 0.1, floor=None)).verdict.words
    )
    copies = tile(card, "Copies", not_assessed="not assessed: name the training set")
    assert "name the training set" in copies.verdict.words
    assert "--train (the training volumes) and --holdout" in copies.verdict.words
    assert copies.verdict.standing == "missing"


@pytest.mark.parametrize(
    ("verdict", "words", "figure"),
    [
        ("none", "no copies of whole volumes found", "smallest p 0.400"),
        ("nearer", "nearer to training than to unseen", "in voxels (gap 0.3)"),
        ("copies", "exact or near copies", "in voxels (p 0.400)"),
    ],
)
def test_the_number_of_copies_is_that_of_the_test_that_decided(card, verdict, words, figure):
    test = CopiesTest(
        value=0.3, interval=None, p=0.01, level=0.025, detectable_share=0.5, detected=False,
        text="", verdict=verdict, near_p=0.4,
    )  # fmt: skip
    record = MemorizationRecord(
        space="voxels", n=9, exact_copies=0, auth_pct=50, plain=test, flipped=None
    )
    found = tile(card, "Copies", memorization=(record,))
    assert words in found.verdict.words
    assert found.number == figure
    assert ("50% of copies or more" in found.floor) is (verdict == "none")


def test_failed_volumes_are_a_caution(card):
    none = card.synth.model_copy(update={"failed": ()})
    assert "no volume failed" in tile(card, "Failures and cautions", synth=none).verdict.words
    not_counted = tile(card, "Failures and cautions")
    assert not_counted.number == "not counted"
    assert "--count-failures" in not_counted.verdict.words
