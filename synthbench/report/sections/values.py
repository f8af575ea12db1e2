"""The section with the table of values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synthbench import registry
from synthbench.errors import SynthbenchError
from synthbench.records.scorecard import Scorecard
from synthbench.records.values import Value
from synthbench.render.numbers import number, p_text
from synthbench.report.failures import share_words
from synthbench.report.opening import blur_cell
from synthbench.report.sections.rows import Group, groups
from synthbench.report.sections.section import Page, Section
from synthbench.report.standing import (
    SATURATED,
    TEST_WORDS,
    VERDICT_WORDS,
    Verdict,
    headline,
    verdict,
)
from synthbench.report.text import (
    BIASED,
    EFFECT,
    EFFECT_WORDS,
    SATURATION,
    effect_text,
    interval_words,
)


def _build(page: Page) -> Mapping[str, Any]:
    saturated = any(value.saturated for card in page.cards for value in card.values)
    compared = groups(page)
    return {
        "tables": [_table(group) for group in compared],
        "about": _about(page.cards),
        "biased": BIASED,
        "effect_title": EFFECT,
        "effect_words": EFFECT_WORDS,
        "saturated": f"{SATURATED} {SATURATION}" if saturated else "",
        "verdict_words": VERDICT_WORDS,
        "test_words": TEST_WORDS,
    }


def _table(group: Group) -> Mapping[str, Any]:
    failed = {
        name: share_words(card.synth) for name, card in zip(group.names, group.cards, strict=True)
    }
    rows = [
        _table_row(label, name, row, failed[name])
        for label, found in group.rows()
        for name, row in found
    ]
    n = sorted({v.floor.n for card in group.cards for v in card.values if v.floor})
    return {
        "words": group.words,
        "several": group.several,
        "rows": rows,
        "n": "/".join(map(str, n)),
        "level": f"{group.cards[0].protocol.level:.0%}",
        "blurred": any(row.blur for row in rows),
        "failed": any(row.failed for row in rows),
    }


@dataclass(frozen=True)
class _TableRow:
    """A row of the table of values: texts, and the numbers to sort by."""

    label: str
    part: bool
    volumes: str
    verdict: Verdict
    value: str
    whole: str
    interval: str
    floor: str
    effect: str
    p: str
    blur: str
    failed: str
    sort: Mapping[str, float | None]


def _table_row(label: str, name: str, value: Value, failed: str) -> _TableRow:
    floor, found = value.floor, headline(value)
    return _TableRow(
        label=label,
        part=value.key.part is not None,
        volumes=name,
        verdict=verdict(value),
        value="" if floor is None or found is None else found.text,
        whole="–" if value.value is None else number(value.value),
        interval=interval_words(value),
        floor=""
        if floor is None
        else f"{number(floor.mean)} ({number(floor.low)} to {number(floor.high)})",
        effect="" if floor is None else effect_text(floor),
        p=p_text(value.p),
        blur=blur_cell(value),
        failed=failed,
        sort={
            "value": None if floor is None else floor.synth_mean,
            "whole": value.value,
            "floor": None if floor is None else floor.mean,
            "effect": None if floor is None else floor.minimum_detectable_effect,
            "p": value.p,
        },
    )


@dataclass(frozen=True)
class _About:
    """The description of a metric, for a reader who does not know it."""

    label: str
    formula: str
    sees: str
    misses: str


def _about(cards: Sequence[Scorecard]) -> list[_About]:
    """Return the descriptions of the metrics that are installed here."""
    found = []
    for name in dict.fromkeys(m for card in cards for m in card.protocol.intervals):
        try:
            metric = registry.load("metrics", name)()
        except SynthbenchError:
            # A scorecard of another machine may have metrics of packages that are not installed.
            continue
        found.append(_About(metric.label, metric.formula, metric.sees, metric.misses))
    return found


SECTION = Section("values", "Values", "Values", 20, _build)
