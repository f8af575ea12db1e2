"""The section on conditions: what was requested of the volumes and what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from synthbench.records.scorecard import Scorecard
from synthbench.render.charts import LineChart
from synthbench.report.adherence import (
    Line,
    beyond_chance,
    condition_charts,
    condition_lines,
    effect_lines,
    leakage_lines,
    parity_lines,
    published_words,
)
from synthbench.report.sections.section import Page, Section


def _build(page: Page) -> Mapping[str, Any] | None:
    cards = [
        (name, found)
        for name, card in zip(page.names, page.cards, strict=True)
        if (found := _conditions(card)) is not None
    ]
    return {"cards": cards, "several": page.several} if cards else None


@dataclass(frozen=True)
class _Conditions:
    """What was requested of a scorecard's volumes and what was measured, as tables and charts."""

    about: tuple[str, ...]
    charts: tuple[LineChart, ...]
    tables: tuple[tuple[str, tuple[Line, ...]], ...]


def _conditions(card: Scorecard) -> _Conditions | None:
    found, replicated = card.adherence, card.replication
    if found is None:
        return None
    about = [f"Asked: {found.source}. Extrapolation: {found.range}."]
    about += [f"{c.name}: {c.missing or f'measured by {c.measure}'}." for c in found.conditions]
    about += [f"{words[0].upper()}{words[1:]}." for words in [published_words(card)] if words]
    tables = [
        ("Requested against measured", condition_lines(found)),
    ]
    for words, lines in (
        ("Leakage: asked → measured, all else asked alike", leakage_lines(found)),
        ("Parity: errors of a group less those of the others", parity_lines(found)),
    ):
        tables.append((f"{words} ({beyond_chance(lines)})", lines))
    if replicated is not None:
        about.append(f"Words of effects: {replicated.margins}.")
        about += [f"{note}." for note in replicated.notes]
        tables.append(
            (
                f"Effect replication: {replicated.n} synthetic, {replicated.n_real} real volumes",
                effect_lines(card),
            )
        )
    return _Conditions(
        tuple(about), tuple(condition_charts(found)),
        tuple((words, tuple(lines)) for words, lines in tables if lines),
    )  # fmt: skip


SECTION = Section("conditions", "Conditions", "Conditions: requested against measured", 40, _build)
