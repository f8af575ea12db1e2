"""The section on the limits of the numbers, and on what the page does not show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from synthbench.report.sections.section import Page, Section
from synthbench.report.verdicts import limits


def _build(page: Page) -> Mapping[str, Any]:
    return {
        "cards": [(name, limits(card)) for name, card in zip(page.names, page.cards, strict=True)],
        "several": page.several,
        "lacking": page.lacking,
    }


SECTION = Section(
    "limits", "What the numbers do not say", "What the numbers do not say", 100, _build
)
