"""The first section of a leaderboard's page: its entries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from synthbench.report.sections.section import Page, Section


def _build(page: Page) -> Mapping[str, Any] | None:
    return None if page.ranking is None else {"ranking": page.ranking}


SECTION = Section("entries", "Entries", "Entries", 5, _build)
