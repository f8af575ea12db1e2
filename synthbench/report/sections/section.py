"""What a section of a report is, and what it is built from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from synthbench.records.scorecard import Scorecard
from synthbench.report.sections.at_hand import AtHand
from synthbench.report.sections.ranking import Ranking

if TYPE_CHECKING:
    from synthbench.sensitivity.read_back import Sensitivity


@dataclass(frozen=True)
class Page:
    """What the sections of a page are built from.

    Attributes
    ----------
    cards, names
        The scorecards, and what to call them.
    at_hand
        By position in `cards`, the cohorts of those whose folders were named.
    study
        Sensitivity curves.
    ranking
        Of the scorecards, where they were compared.
    lacking
        What the page does not show, why, and how to have it.
    """

    cards: Sequence[Scorecard]
    names: Sequence[str]
    at_hand: Mapping[int, AtHand] = field(default_factory=dict)
    study: Sensitivity | None = None
    ranking: Ranking | None = None
    lacking: Sequence[str] = ()

    @property
    def several(self) -> bool:
        """Whether there is more than one scorecard."""
        return len(self.cards) > 1

    def about(self, index: int) -> str:
        """Return the start of a sentence on one scorecard: its name where there are several."""
        return f"{self.names[index]}: " if self.several else ""


def _nothing(page: Page) -> Sequence[str]:
    return ()


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes
    ----------
    anchor
        Its id in the page; `templates/sections/ANCHOR.jinja` is its template.
    title, heading
        In the navigation, and above the section.
    place
        Sections stand in ascending order of it.
    build
        From the page to what the template shows; None where there is nothing.
    lacking
        From the page to sentences on what this section does not show, and how to have it.
    """

    anchor: str
    title: str
    heading: str
    place: int
    build: Callable[[Page], Mapping[str, Any] | None]
    lacking: Callable[[Page], Sequence[str]] = _nothing
