"""The version of scorecards, and the steps that upgrade older ones.

To raise it, add one to `SCHEMA` and write the step from the version before. A step works on the
fields of a file, and uses the names that were current then. Committed cards keep the version that
they were written in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from synthbench.records.base import Upgrade
from synthbench.records.keys import JobKey

SCHEMA: Final = 2
"""The version that is written. 1: until 0.1. 2: the role of each metric, and findings as data."""

UNTRAINED_BEFORE: Final = ("random-resnet10",)
"""Extractors with random weights, for scorecards that do not record which ones they are."""

_ROLES_OF_1 = {
    **dict.fromkeys(("precision", "recall", "density", "coverage"), "descriptive"),
    **dict.fromkeys(("mmd_linear", "g4r_ssim", "ms_ssim_wang5", "ms_ssim_monai_k4"), "for_papers"),
}
"""Roles that schema 1 did not store; every other metric was ranked."""

_TABLED_OF_1 = ("ms_ssim.synth", "ms_ssim.real")
_LABELLED_WITH_N_OF_1 = ("fid",)
_OF_VARIETY_OF_1 = ("ms_ssim", "g4r_ssim", "ms_ssim_wang5", "ms_ssim_monai_k4")


def upgrade_1_to_2(fields: dict[str, Any]) -> dict[str, Any]:
    """Return a scorecard's fields of schema 1 as those of schema 2."""
    for value in fields["values"]:
        _upgrade_value(value)
    for record in fields.get("memorization") or ():
        for test in (record["plain"], record.get("flipped")):
            if test is not None:
                _upgrade_copies(test)
    _rename(fields, "fidelity", "adherence")
    adherence = fields.get("adherence") or {}
    for condition in adherence.get("conditions", ()):
        for point in (*condition.get("curve", ()), *condition.get("real_curve", ())):
            _rename(point, "asked", "requested")
    for leak in adherence.get("leakage", ()):
        _rename(leak, "asked", "requested")
    for effect in (fields.get("replication") or {}).get("effects", ()):
        _rename(effect, "asked", "requested")
    return fields


def _upgrade_value(value: dict[str, Any]) -> None:
    row, extractor = value["metric"], value.get("extractor")
    metric = JobKey.parse(row).metric
    value["role"] = _ROLES_OF_1.get(metric, "ranked")
    value["label_with_n"] = row in _LABELLED_WITH_N_OF_1
    value["tabled"] = row == metric or row in _TABLED_OF_1
    value["of_variety"] = row in _OF_VARIETY_OF_1
    if value.get("interval") is not None:
        _upgrade_interval(value["interval"])
    if value.get("floor") is not None:
        _rename(value["floor"], "detectable", "minimum_detectable_effect")
    for equivalent in value.get("equivalents") or ():
        _rename(equivalent, "words", "sentence")
    if value.get("missing") is not None:
        text = value["missing"].removeprefix("missing: ")
        lacking = text == f"synthbench fetch {extractor}"
        value["missing"] = {"reason": "weights" if lacking else "images", "text": text}


def _upgrade_copies(test: dict[str, Any]) -> None:
    _rename(test, "words", "text")
    # p and the level are not enough: an exact copy is detected without the test.
    test["detected"] = test["text"].startswith("copying")
    if test.get("interval") is not None:
        _upgrade_interval(test["interval"])


def _upgrade_interval(interval: dict[str, Any]) -> None:
    interval["conditional_on_n"] = "excludes bias" in interval["label"]


def _rename(fields: dict[str, Any], old: str, new: str) -> None:
    if old in fields:
        fields[new] = fields.pop(old)


UPGRADES: Mapping[int, Upgrade] = {1: upgrade_1_to_2}
