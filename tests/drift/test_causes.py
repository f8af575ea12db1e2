from __future__ import annotations

import numpy as np
import pytest

from synthbench.drift.causes import Cause, differences, moved_reals
from synthbench.records.scorecard import Origin
from tests.drift.cards import (
    EXTRACTOR,
    KEYS,
    features,
    sample_data_of,
    with_bandwidth,
    with_software,
)


def test_a_metric_that_one_side_was_not_scored_with_is_one_line(card):
    protocol = card.protocol
    fewer = protocol.model_copy(
        update={
            "settings": {k: v for k, v in protocol.settings.items() if not k.startswith("mmd2")},
            "intervals": {k: v for k, v in protocol.intervals.items() if k != "mmd2"},
        }
    )
    other = card.model_copy(update={"protocol": fewer, "protocol_hash": fewer.hash})
    lines = [cause.words for cause in differences(card, other)]
    assert lines == ["protocol: settings / mmd2 | voxels: there -> absent"]
    assert [cause.words for cause in differences(other, card)] == [
        "protocol: settings / mmd2 | voxels: absent -> there"
    ]


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [("guidance", 2.0, "origin: guidance: None -> 2.0"),
     ("precision", "bf16", "origin: precision: None -> bf16"),
     ("cleaned", "zero outside", "origin: cleaned: None -> zero outside")],
)  # fmt: skip
def test_another_way_of_drawing_is_named(card, field, value, words):
    other = card.model_copy(update={"origin": card.origin.model_copy(update={field: value})})
    assert [cause.words for cause in differences(card, other)] == [words]


def test_differences_are_separated_by_cause(card):
    other = with_bandwidth(with_software(card, numpy="9"), 2.0).model_copy(
        update={"origin": Origin(generator="g"), "train": card.real}
    )
    assert [(c.kind, c.field) for c in differences(card, other)] == [
        ("images", "train"), ("protocol", "settings / mmd2 | voxels / bandwidth"),
        ("software", "numpy"), ("origin", "generator"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("scope", "of", "words"),
    [
        (None, None, "0 -> of another size"),
        ("none", None, "0 -> of another size"),
        ("size", None, "0 -> of another size"),
        ("volumes", None, "0 -> of another size"),
        ("all", None, None),
        ("features", None, None),
        ("extractor", EXTRACTOR, None),
        ("extractor", "another", "0 -> of another size"),
        ("job", KEYS[1], "0 -> of another size"),
    ],
)
def test_software_is_named_only_where_the_protocol_does_not_explain_the_move(
    card, scope, of, words
):
    """On another grid the same real volumes have other numbers, and another number of them."""
    one, other = (
        sample_data_of(card, features(0)[:, :d], features(1)[:, :d], fingerprint="b")
        for d in (12, 9)
    )
    causes = [] if scope is None else [
        Cause(kind="protocol", field="space / shape", baseline="a", current="b", scope=scope, of=of)
    ]  # fmt: skip
    found = [cause.words for cause in moved_reals(one, other, causes)]
    assert found == (
        [] if words is None else [f"software: {EXTRACTOR} of the same real volumes: {words}"]
    )
    assert not any("inf" in line.split() for line in found)
    same = sample_data_of(card, features(0), np.zeros((40, 12)), fingerprint="c")
    assert list(moved_reals(one, one, [])) == []
    assert list(moved_reals(same, same, [])) == []
