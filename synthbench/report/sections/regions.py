"""The section on regional morphometry: each region of the brain against the real ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from synthbench.render.numbers import p_text
from synthbench.report.morphometry import differing, distance_text, regions_text
from synthbench.report.sections.section import Page, Section


def _build(page: Page) -> Mapping[str, Any] | None:
    cards = [
        {
            "name": name,
            "source": f"{record.source}: {record.unit}",
            "text": regions_text(record),
            "distance": distance_text(record),
            "n": record.floor_n,
            "level": f"{record.level:.0%}",
            "regions": [
                (one, p_text(one.p), p_text(one.p_alone), one in surely) for one in record.worst
            ],
        }
        for name, card in zip(page.names, page.cards, strict=True)
        for record in card.morphometry
        for surely in [differing(record)]
    ]
    return {"cards": cards, "several": page.several} if cards else None


SECTION = Section("regions", "Regions", "Regions of the brain", 55, _build)
