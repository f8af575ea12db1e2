"""Numbers in plain words."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from synthbench.records.conditional import ReplicationRecord
from synthbench.records.memorization import CopiesTest, MemorizationRecord
from synthbench.records.scorecard import PreflightRecord, Scorecard
from synthbench.records.values import FloorRecord, Value
from synthbench.report.opening import opening
from synthbench.report.verdicts import copies, limits
from tests.boards import features, make_card, make_materials, make_protocol, make_verdict

CARD = next((Path(__file__).parents[1] / "data" / "ixi-hh-4mm").rglob("entries/*.json"))


def memorization(space, verdict=None, share=None, *, copies=0, p=0.5, level=0.05):
    test = CopiesTest(
        value=0.1, interval=None, p=p, level=level, detectable_share=share,
        detected=verdict == "copies", text="in words that decide nothing", verdict=verdict,
        near_p=None if verdict is None else 0.25,
    )  # fmt: skip
    return MemorizationRecord(
        space=space, n=9, exact_copies=copies, auth_pct=50.0, plain=test, flipped=None,
        sides_p=None if verdict is None else 0.02,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("records", "standing", "words"),
    [
        ([], "missing", "not assessed"),
        (
            [memorization("net", "none", 0.3), memorization("voxels", "none", 0.1)],
            "within", "no copies found (80% power at 10% copies)",
        ),
        ([memorization("net", "none")], "within",
         "no copies found (power below 80% even at 50% copies)"),
        (
            [memorization("net", "none", 0.3), memorization("voxels", "copies", copies=2)],
            "worse", "exact or near copies in voxels (p 0.250); 2 exact",
        ),
        (
            [memorization("net", "nearer"), memorization("voxels", "none")],
            "other side", "nearer to training than to unseen images in net (gap 0.1)",
        ),
        (
            [memorization("net", "nearer"), memorization("voxels", "sides_differ")],
            "no floor", "cannot be told: training and hold-out differ in voxels (p 0.020)",
        ),
        ([memorization("net", p=0.01)], "other side",
         "nearer to training than to unseen images in net (gap 0.1)"),
        ([memorization("net", p=0.5, copies=1)], "worse",
         "exact or near copies in net (p 0.500); 1 exact"),
    ],
    ids=[
        "not assessed", "none", "no power", "copies", "nearer", "sides differ", "old, a gap",
        "old, exact",
    ],
)  # fmt: skip
def test_copies_are_stated_by_the_gravest_verdict_of_any_space(records, standing, words):
    """Without a finding, the best power of any space is stated."""
    card: Any = SimpleNamespace(memorization=tuple(records))
    assert copies(card).standing == standing
    assert copies(card).words == words


MATERIALS = make_materials(make_protocol(features(0)), features(0), features(1), "1" * 64)
REPLICATION = ReplicationRecord(
    margins="", effects=(), n=9, n_real=9, level=0.95, resamples=100, seed=0
)


@pytest.mark.parametrize(
    ("sections", "study", "model"),
    [
        ({}, True, True),
        ({"replication": REPLICATION}, False, True),
        ({"utility": make_verdict()}, True, False),
        ({"replication": REPLICATION, "utility": make_verdict()}, False, False),
    ],
    ids=["neither", "replication", "utility", "both"],
)
def test_limits_name_what_nobody_asked_yet(sections, study, model):
    said = " ".join(limits(make_card("mine", MATERIALS).model_copy(update=sections)))
    assert "No value here is about a diagnosis" in said
    assert ("whether a study on these volumes would have the result" in said) is study
    assert ("help a model that is used on real people (synthbench utility" in said) is model


@pytest.mark.parametrize(
    ("recorded", "extractor", "said"),
    [
        (("first",), "first", True),
        ((), "random-walk", False),
        ((), "random-resnet10", False),
        (None, "random-resnet10", True),
        (None, "random-walk", False),
    ],
)
def test_limits_name_untrained_extractors_as_the_card_records_them(recorded, extractor, said):
    """The card's data decide, not the name; an old card records nothing (None)."""
    card = make_card("mine", MATERIALS)
    first, *others = card.protocol.extractors
    renamed = (first.model_copy(update={"name": extractor}), *others)
    protocol = card.protocol.model_copy(update={"extractors": renamed})
    lines = limits(card.model_copy(update={"protocol": protocol, "untrained": recorded}))
    assert (f"The features of {extractor} were never trained" in " ".join(lines)) is said


def test_the_opening_names_parts_that_are_worse_than_their_familys_verdict():
    """Seams that are too far beside a spectrum that is like real."""
    floor = FloorRecord(n=40, mean=0.0, low=-1.0, high=1.0, synth_mean=0.5)
    far = floor.model_copy(update={"synth_mean": 2.0})
    spectrum = Value(
        metric="spectrum", label="spectrum (dB²)", direction="lower", target="zero", value=0.5,
        floor=floor,
    )  # fmt: skip
    seams = spectrum.model_copy(
        update={"metric": "spectrum.seam_x", "label": "seams along x (dB²)", "floor": far}
    )
    card = Scorecard.load(CARD).model_copy(update={"values": (spectrum, seams)})
    assert "but worse than real in seams along x;" in opening(card)
    alone = card.model_copy(update={"values": (spectrum,)})
    assert "worse than real" not in opening(alone)


@pytest.mark.parametrize("metric", ["morphometry", "a-plugin"])
def test_parts_of_a_metric_that_is_too_far_itself_are_not_named_beside_it(metric):
    """Also where the metric's family has no name of its own, as that of a plugin."""
    far = FloorRecord(n=40, mean=0.0, low=-1.0, high=1.0, synth_mean=2.0)
    own = Value(
        metric=metric, label="Regional volumes (W1 / sd)", direction="lower", target="zero",
        value=2.0, floor=far, extractor="regions",
    )  # fmt: skip
    part = own.model_copy(update={"metric": f"{metric}.largest", "label": "Largest |d|"})
    card = Scorecard.load(CARD).model_copy(update={"values": (own, part)})
    assert "but worse than real" not in opening(card)
    near = own.model_copy(update={"floor": far.model_copy(update={"synth_mean": 0.0})})
    others = [row.model_copy(update={"extractor": "anatomy"}) for row in (near, part)]
    card = card.model_copy(update={"values": (near, part, *others)})
    assert "but worse than real in Largest |d|;" in opening(card)


def test_the_opening_names_volumes_that_are_nearly_others_where_copying_was_not_tested():
    alike = PreflightRecord(
        rule="near-identical-across", role="synth", severity="warning", volumes=8, accepted=False
    )
    card = Scorecard.load(CARD).model_copy(update={"memorization": (), "preflight": (alike,)})
    n = card.synth.n
    words = f"copying was not tested, but 8 of {n} volumes are nearly identical to others"
    assert words in opening(card)
