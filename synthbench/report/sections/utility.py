"""The section on utility: do the volumes help a model that is used on real people?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from synthbench.records.scorecard import Scorecard
from synthbench.render.numbers import p_text
from synthbench.report.sections.section import Page, Section
from synthbench.utility.table import subject_words, title, trained_words


def _build(page: Page) -> Mapping[str, Any] | None:
    cards = [
        (name, found)
        for name, card in zip(page.names, page.cards, strict=True)
        if (found := _utility(card)) is not None
    ]
    return {"cards": cards, "several": page.several} if cards else None


@dataclass(frozen=True)
class _Utility:
    """The verdict of a study of utility, a description of it, and the measure of each arm."""

    sentence: str
    about: str
    label: str
    arms: tuple[tuple[str, str], ...]


def _utility(card: Scorecard) -> _Utility | None:
    found = card.utility
    if found is None:
        return None
    return _Utility(
        f"{found.sentence[0].upper()}{found.sentence[1:]}.",
        f"Label {found.label}, model {found.model}: trained on {trained_words(found)}, tested on "
        f"{subject_words(found)}. p {p_text(found.p)}, settings {found.settings_hash}.",
        title(found.measure),
        tuple((arm, f"{value:.3f}") for arm, value in found.arms.items()),
    )


SECTION = Section("utility", "Utility", "Utility: do the volumes help?", 50, _build)
