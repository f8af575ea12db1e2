from __future__ import annotations

from synthbench.drift.causes import differences
from synthbench.records.scorecard import Origin
from tests.drift.cards import (
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


def test_differences_are_separated_by_cause(card):
    other = with_bandwidth(with_software(card, numpy="9"), 2.0).model_copy(
        update={"origin": Origin(generator="g"), "train": card.real}
    )
    assert [(c.kind, c.field) for c in differences(card, other)] == [
        ("images", "train"), ("protocol", "settings / mmd2 | voxels / bandwidth"),
        ("software", "numpy"), ("origin", "generator"),
    ]  # fmt: skip
