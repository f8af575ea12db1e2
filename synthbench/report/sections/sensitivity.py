"""The section on sensitivity: curves of known damage to real volumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synthbench.records.keys import JobKey
from synthbench.records.scorecard import Scorecard
from synthbench.render.charts import Band, LineChart, Series, line_chart
from synthbench.render.numbers import number
from synthbench.report.sections.rows import row_of
from synthbench.report.sections.section import Page, Section

if TYPE_CHECKING:
    from synthbench.sensitivity.curve import Row
    from synthbench.sensitivity.read_back import Sensitivity


def _build(page: Page) -> Mapping[str, Any] | None:
    if page.study is None:
        return None
    curves = _curves(page.study, page.cards, page.names)
    return {"curves": curves} if curves else None


def _lacking(page: Page) -> Sequence[str]:
    if page.study is not None:
        return []
    return [
        "Sensitivity curves: --sensitivity FILE, which synthbench sensitivity --real DIR writes."
    ]


@dataclass(frozen=True)
class _Curves:
    """The curves of one metric under every corruption."""

    label: str
    charts: tuple[LineChart, ...]


def _curves(study: Sensitivity, cards: Sequence[Scorecard], names: Sequence[str]) -> list[_Curves]:
    by_metric: dict[tuple[str, str | None], list[Row]] = {}
    for row in study.rows:
        by_metric.setdefault((row.metric, row.extractor), []).append(row)
    return [
        _Curves(
            rows[0].label + (f", {extractor}" if extractor else ""),
            tuple(_curve_chart(row, _levels(study, row, cards, names)) for row in rows),
        )
        for (_, extractor), rows in by_metric.items()
    ]


def _levels(
    study: Sensitivity, row: Row, cards: Sequence[Scorecard], names: Sequence[str]
) -> list[tuple[str, float]]:
    """Return the values of scorecards that have the curve's cohort, settings and n, by name."""
    key = str(JobKey.parse(row.metric, row.extractor).job)
    found = []
    for card, name in zip(cards, names, strict=True):
        value = row_of(card, row.metric, row.extractor)
        alike = (
            card.real.fingerprint == study.real.fingerprint
            and card.protocol.space == study.protocol.space
            and card.protocol.mask == study.protocol.mask
            and card.protocol.settings.get(key) == study.protocol.settings.get(key)
        )
        if alike and value is not None and value.floor and value.floor.n == row.curve.floor.n:
            found.append((name, value.floor.synth_mean))
    return found


def _curve_chart(row: Row, levels: Sequence[tuple[str, float]]) -> LineChart:
    curve = row.curve
    ends = curve.doses[0], curve.doses[-1]
    seen = (
        "does not leave the floor"
        if curve.leaves_floor is None
        else f"leaves the floor at {number(curve.leaves_floor)} {curve.unit}"
    )
    turns = "" if curve.monotone else "; turns back: more damage can score less"
    rewards = "; the metric rewards this damage" if curve.response == "better" else ""
    lines = [Series(row.label, "real", curve.doses, curve.values)]
    lines += [Series(name, "synth", ends, (level, level)) for name, level in levels]
    return line_chart(
        row.corruption_label,
        curve.unit,
        row.label,
        f"{seen}{turns}{rewards}",
        lines,
        [Band("floor", ends, (curve.floor.low,) * 2, (curve.floor.high,) * 2)],
        floor_width=curve.floor.high - curve.floor.low,
    )


SECTION = Section(
    "sensitivity",
    "Sensitivity",
    "What the metrics see: known damage to real volumes",
    90,
    _build,
    _lacking,
)
