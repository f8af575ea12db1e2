"""The section on conditions: requested against measured, and effect replication."""

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
    """Requested against measured conditions of a scorecard: sentences, charts and tables."""

    about: tuple[str, ...]
    charts: tuple[LineChart, ...]
    tables: tuple[tuple[str, tuple[Line, ...]], ...]


def _conditions(card: Scorecard) -> _Conditions | None:
    found, replicated = card.adherence, card.replication
    if found is None:
        return None
    about = [f"Requested: {found.source}. Extrapolation: {found.range}."]
    about += [f"{c.name}: {c.missing or f'measured by {c.measure}'}." for c in found.conditions]
    if published := published_words(card):
        about.append(f"{published[0].upper()}{published[1:]}.")
    tables = [
        ("Requested against measured", condition_lines(found)),
    ]
    for words, lines in (
        ("Leakage: requested → measured, all other requests equal", leakage_lines(found)),
        ("Parity: errors of a group minus those of the others", parity_lines(found)),
    ):
        tables.append((f"{words} ({beyond_chance(lines)})", lines))
    if replicated is not None:
        about.append(f"Effects: {replicated.margins}.")
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
