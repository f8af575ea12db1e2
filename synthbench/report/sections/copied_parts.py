"""The section on copied parts: where cubes of synthetic volumes are copies of training volumes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from synthbench.render.place_map import views
from synthbench.report.local_copying import map_words
from synthbench.report.sections.section import Page, Section


def _build(page: Page) -> Mapping[str, Any] | None:
    cards = [
        {
            "name": name,
            "text": record.text,
            "scales": record.scales,
            "words": map_words(record),
            "views": views(
                np.array(record.map.places), np.array(record.map.share), record.map.stride
            ),
        }
        for name, card in zip(page.names, page.cards, strict=True)
        if (record := card.local_copying) is not None
    ]
    return {"cards": cards, "several": page.several} if cards else None


SECTION = Section("copied-parts", "Copied parts", "Copied parts", 65, _build)
